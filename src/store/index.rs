//! From a key's hash to the position of its entry: many small hash tables.
//!
//! One large table would stop the core for most of a second when it doubles. Here a shard has so
//! many tables that each holds a few thousand entries when the shard is full, and every stop is the
//! rebuilding of one of them. A slot is 32 bits: 30 of position, 2 that say how often the entry was
//! read. It carries no hash, so rebuilding reads the entries (prefetched in batches).
//!
//! **Shares.** The tables do not divide the hashes evenly: the largest gets twice the share of the
//! smallest, the rest lie between. Tables of equal shares would all double at about the same time,
//! and the index would swing between 5.7 and 11.4 bytes for each entry; with these some double at
//! any time, one by one, and the index stays near 8 bytes.
//!
//! **Tombstones.** hashbrown clears them in place only while at most half of the capacity is live;
//! otherwise it doubles a table that is not growing. So it is never left to it: a full table is
//! rebuilt here, into a spare one of the same size when enough of it is tombstones, and the old one
//! becomes the spare. In the steady state nothing is allocated.
//!
//! Invariant: a live entry has exactly one slot, in the table that its hash chooses, for good.

use std::cell::Cell;

use hashbrown::HashTable;

use super::log::{POSITION_BITS, Position};
use crate::raw::prefetch;

/// Entries of a table of average share when a shard is full of entries of the size below.
const TABLE_ENTRIES_AIM: u64 = 2_048;

/// The size of an entry, with its slot, that the number of tables is chosen for. Smaller ones make
/// the tables larger: entries of 24 bytes still keep them below 20,000.
const ENTRY_BYTES_AIM: u64 = 96;

/// Least and most tables. The choice looks at the upper half of 32 bits of hash, so there must be
/// well under 65,536.
const TABLES_MIN: u64 = 16;
const TABLES_MAX: u64 = 16_384;

/// Smallest table, in slots.
const SLOTS_MIN: usize = 16;

/// Entries read ahead while a table is rebuilt.
const REBUILD_BATCH: usize = 16;

/// A position, and how often the entry there was read: 0 to 3.
///
/// The count lies here and not in the entry so that published bytes stay as they are and a read
/// dirties the line it has to touch anyway. A cell, because reading a key counts as a read of the
/// store; the store is not shared between threads.
#[derive(Clone, Debug)]
pub struct Slot(Cell<u32>);

/// The highest count of reads.
pub const USES_MAX: u32 = 3;

impl Slot {
    fn new(position: Position, uses: u32) -> Slot {
        debug_assert!(position.0 < 1 << POSITION_BITS && uses <= USES_MAX);
        Slot(Cell::new(position.0 << 2 | uses))
    }

    /// Where the entry is.
    #[inline]
    pub fn position(&self) -> Position {
        Position(self.0.get() >> 2)
    }

    /// How often it was read.
    pub fn uses(&self) -> u32 {
        self.0.get() & USES_MAX
    }

    /// Counts a read; writes nothing once the count is at its highest.
    #[inline]
    pub fn mark_used(&self) {
        if self.uses() < USES_MAX {
            self.0.set(self.0.get() + 1);
        }
    }

    /// Points to another position with another count.
    pub fn set(&self, position: Position, uses: u32) {
        self.0.set(Slot::new(position, uses).0.get());
    }
}

#[derive(Debug, Default)]
struct Table {
    slots: HashTable<Slot>,
    /// Address of the table's control bytes, for prefetching only; 0 when not known. hashbrown does
    /// not tell it, but where a slot lies does: slots lie below the control bytes, the first next
    /// to them. Were that to change, prefetches would miss and nothing else.
    control: usize,
}

/// What rebuilding a table must know of the entries it points to.
pub trait Entries {
    /// The hash of the entry's key.
    fn hash_at(&self, position: Position) -> u64;
    /// Fetches the entry.
    fn prefetch_at(&self, position: Position);
}

/// All tables of a shard.
#[derive(Debug)]
pub struct Index {
    tables: Box<[Table]>,
    /// One empty table of each size, by the logarithm of its slots.
    spares: [Option<HashTable<Slot>>; usize::BITS as usize],
    allocated_bytes: u64,
}

impl Index {
    /// Tables for a shard of this many bytes.
    pub fn new(memory_bytes: u64) -> Index {
        let tables =
            (memory_bytes / (ENTRY_BYTES_AIM * TABLE_ENTRIES_AIM)).clamp(TABLES_MIN, TABLES_MAX) as usize;
        Index {
            tables: (0..tables).map(|_| Table::default()).collect(),
            spares: [const { None }; usize::BITS as usize],
            allocated_bytes: 0,
        }
    }

    /// Memory that the index takes.
    pub fn bytes(&self) -> u64 {
        self.allocated_bytes + (self.tables.len() * size_of::<Table>()) as u64
    }

    /// Number of tables.
    pub fn tables(&self) -> usize {
        self.tables.len()
    }

    /// The slots of one table.
    pub fn slots_of(&self, table: usize) -> impl Iterator<Item = &Slot> {
        self.tables[table].slots.iter()
    }

    /// The slot of this hash for which `is` says true.
    #[inline]
    pub fn find(&self, hash: u64, mut is: impl FnMut(Position) -> bool) -> Option<&Slot> {
        self.tables[self.table_of(hash)].slots.find(hash, |slot| is(slot.position()))
    }

    /// Fetches what [`Index::prefetch`] reads.
    #[inline]
    pub fn prefetch_table(&self, hash: u64) {
        let table: *const Table = &self.tables[self.table_of(hash)];
        prefetch::address(table as usize);
        // It may lie across two cache lines.
        prefetch::address(table.wrapping_add(1) as usize - 1);
    }

    /// Fetches the control bytes and slots that a lookup of this hash reads first.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let table = &self.tables[self.table_of(hash)];
        let bucket = hash as usize & table.slots.num_buckets().wrapping_sub(1);
        prefetch::address(table.control.wrapping_add(bucket));
        prefetch::address(table.control.wrapping_sub((bucket + 8) * size_of::<Slot>()));
    }

    /// Calls `candidate` with the position of each slot that may be the one of this hash.
    #[inline]
    pub fn for_each_candidate(&self, hash: u64, mut candidate: impl FnMut(Position)) {
        self.find(hash, |position| {
            candidate(position);
            false
        });
    }

    /// The most bytes that inserting this hash may allocate.
    pub fn growth_bytes(&self, hash: u64) -> u64 {
        let table = &self.tables[self.table_of(hash)].slots;
        if table.len() < table.capacity() {
            return 0;
        }
        let slots = slots_when_full(table);
        match self.spares[class(slots)] {
            Some(_) => 0,
            None => (slots * (size_of::<Slot>() + 1) + 64) as u64,
        }
    }

    /// Adds a slot for a key that has none.
    pub fn insert(&mut self, hash: u64, position: Position, entries: &impl Entries) {
        let at = self.table_of(hash);
        let table = &self.tables[at].slots;
        if table.len() == table.capacity() {
            self.rebuild(at, slots_when_full(table), entries);
        }
        debug_assert!(
            self.tables[at].slots.len() < self.tables[at].slots.capacity(),
            "hashbrown never grows"
        );
        self.tables[at].insert(hash, Slot::new(position, 0), entries);
    }

    /// Takes the slot of this position out; false when it has none.
    pub fn remove(&mut self, hash: u64, position: Position, entries: &impl Entries) -> bool {
        let at = self.table_of(hash);
        let table = &mut self.tables[at].slots;
        let Ok(slot) = table.find_entry(hash, |slot| slot.position() == position) else { return false };
        slot.remove();
        // A table nine tenths empty is rebuilt at half load, so that room comes back after a mass
        // of deletes; it has to double in entries or lose three quarters before it moves again.
        let (live, slots) = (table.len(), table.num_buckets());
        if slots > SLOTS_MIN && live < slots / 10 {
            self.rebuild(at, (slots / 4).max(SLOTS_MIN), entries);
            self.drop_spare(slots);
        }
        true
    }

    /// Which table owns a hash. Uses bits 0 to 31, the upper ones before all: hashbrown uses the
    /// lowest ones (13 in a table of usual size) and the top seven, the choice of a shard 32 to 47.
    #[inline]
    fn table_of(&self, hash: u64) -> usize {
        // With u from 0 to 1, u + 0.344 u (1 - u) is within a percent of log2(1 + u): equal steps of
        // it are shares of u that double from the first to the last.
        let u = hash & 0xffff_ffff;
        let bend = (u * (0xffff_ffff - u)) >> 32;
        let logarithm = u + ((bend * 88) >> 8);
        ((logarithm * self.tables.len() as u64) >> 32) as usize
    }

    fn rebuild(&mut self, at: usize, slots: usize, entries: &impl Entries) {
        let fresh = self.spares[class(slots)].take().unwrap_or_else(|| {
            let fresh = HashTable::with_capacity(capacity(slots));
            debug_assert_eq!(fresh.num_buckets(), slots);
            self.allocated_bytes += fresh.allocation_size() as u64;
            fresh
        });
        let table = &mut self.tables[at];
        let mut old = std::mem::replace(&mut table.slots, fresh);
        table.control = 0;
        let mut batch = [const { None }; REBUILD_BATCH];
        let mut rest = old.iter();
        loop {
            let mut filled = 0;
            for (place, slot) in batch.iter_mut().zip(&mut rest) {
                entries.prefetch_at(slot.position());
                *place = Some(slot);
                filled += 1;
            }
            if filled == 0 {
                break;
            }
            for slot in batch.iter_mut().filter_map(Option::take) {
                table.insert(entries.hash_at(slot.position()), slot.clone(), entries);
            }
        }
        if old.num_buckets() < SLOTS_MIN {
            return;
        }
        // hashbrown does not clear a table without entries, tombstones or not: such a one is dropped.
        old.clear();
        let spare = &mut self.spares[class(old.num_buckets())];
        if spare.is_none() && old.capacity() == capacity(old.num_buckets()) {
            *spare = Some(old);
        } else {
            self.allocated_bytes -= old.allocation_size() as u64;
        }
    }

    fn drop_spare(&mut self, slots: usize) {
        if let Some(spare) = self.spares[class(slots)].take() {
            self.allocated_bytes -= spare.allocation_size() as u64;
        }
    }
}

impl Table {
    fn insert(&mut self, hash: u64, slot: Slot, entries: &impl Entries) {
        let entry = self.slots.insert_unique(hash, slot, |slot| entries.hash_at(slot.position()));
        if self.control == 0 {
            let address = std::ptr::from_ref(entry.get()).addr();
            self.control = address + (entry.bucket_index() + 1) * size_of::<Slot>();
        }
    }
}

/// The size that a table without room for another slot is rebuilt at: its own while a sixteenth of
/// it is tombstones, else the double.
fn slots_when_full(table: &HashTable<Slot>) -> usize {
    let slots = table.num_buckets();
    if slots < SLOTS_MIN {
        return SLOTS_MIN;
    }
    let capacity = capacity(slots);
    if table.len() <= capacity - (capacity / 16).max(1) { slots } else { 2 * slots }
}

/// Entries and tombstones that a table of this many slots takes.
fn capacity(slots: usize) -> usize {
    slots / 8 * 7
}

fn class(slots: usize) -> usize {
    slots.trailing_zeros() as usize
}
