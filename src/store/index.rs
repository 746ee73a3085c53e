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
//! becomes the spare. In a full shard a table that has more than its share by chance is not doubled
//! either: it is thinned out first ([`Index::surplus`]), so in the steady state nothing is allocated.
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

/// A full table is rebuilt at its own size when one in this many of its places is a tombstone, in a
/// shard with room and in one without.
const TOMBSTONE_PARTS: usize = 16;
const TOMBSTONE_PARTS_FULL: usize = 64;

/// In a full shard a table loses one in so many of its places rather than double, unless it is due more
/// entries than it takes by one in so many: the number of entries in a full shard wavers by about as much.
const THIN_OUT_PARTS: usize = 32;
const OVERDUE_PARTS: usize = 32;

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
    /// One empty table of each size there was, by the logarithm of its slots. Made with the first table
    /// of its size, so that rebuilding one at its own size allocates nothing, however late it comes.
    spares: [Option<HashTable<Slot>>; usize::BITS as usize],
    allocated_bytes: u64,
    /// Slots of all tables.
    slots_used: u64,
    /// The shard is full: tables that are nearly so are rebuilt rather than doubled.
    shard_full: bool,
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
            slots_used: 0,
            shard_full: false,
        }
    }

    /// Tells whether the shard still grows. When it is full the number of entries only wavers, and a
    /// table doubles only when hardly any of it is tombstones.
    pub fn expect_growth(&mut self, expected: bool) {
        self.shard_full = !expected;
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
        let slots = self.slots_when_full(table);
        let tables =
            usize::from(slots > table.num_buckets()) + usize::from(self.spares[class(slots)].is_none());
        (tables * (slots * (size_of::<Slot>() + 1) + 64)) as u64
    }

    /// How many entries the table of this hash must lose before another is inserted, if it is not to
    /// double without need: in a full shard, where there is no room in it but would be if all tables had
    /// what is due to them. Then it can be rebuilt at its own size.
    pub fn surplus(&self, hash: u64) -> usize {
        let at = self.table_of(hash);
        let table = &self.tables[at].slots;
        if !self.shard_full || table.len() < table.capacity() || table.num_buckets() < SLOTS_MIN {
            return 0;
        }
        let capacity = capacity(table.num_buckets());
        if table.len() <= live_max(capacity, TOMBSTONE_PARTS_FULL)
            || self.due_to(at) >= (capacity + capacity / OVERDUE_PARTS) as u64
        {
            return 0;
        }
        table.len() - live_max(capacity, THIN_OUT_PARTS)
    }

    /// Slots that a table would have if chance gave each its share.
    #[cold]
    fn due_to(&self, table: usize) -> u64 {
        ((u128::from(self.slots_used) * u128::from(self.share_of(table))) >> 32) as u64
    }

    /// Slots of the table of this hash whose entries were read at most so often.
    pub fn least_used(&self, hash: u64, uses_max: u32) -> impl Iterator<Item = &Slot> {
        self.slots_of(self.table_of(hash)).filter(move |slot| slot.uses() <= uses_max)
    }

    /// Adds a slot for a key that has none.
    pub fn insert(&mut self, hash: u64, position: Position, entries: &impl Entries) {
        let at = self.table_of(hash);
        let table = &self.tables[at].slots;
        if table.len() == table.capacity() {
            self.rebuild(at, self.slots_when_full(table), entries);
        }
        debug_assert!(
            self.tables[at].slots.len() < self.tables[at].slots.capacity(),
            "hashbrown never grows"
        );
        self.tables[at].insert(hash, Slot::new(position, 0), entries);
        self.slots_used += 1;
    }

    /// Takes the slot of this position out; false when it has none.
    pub fn remove(&mut self, hash: u64, position: Position, entries: &impl Entries) -> bool {
        let at = self.table_of(hash);
        let table = &mut self.tables[at].slots;
        let Ok(slot) = table.find_entry(hash, |slot| slot.position() == position) else { return false };
        slot.remove();
        self.slots_used -= 1;
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

    /// How many of all 2^32 beginnings of hashes a table owns. Slow: looks for both ends of them.
    fn share_of(&self, table: usize) -> u64 {
        let first_of = |table: usize| {
            let (mut first, mut end) = (0u64, 1u64 << 32);
            while first < end {
                let middle = (first + end) / 2;
                if self.table_of(middle) < table { first = middle + 1 } else { end = middle }
            }
            first
        };
        let end = if table + 1 == self.tables.len() { 1 << 32 } else { first_of(table + 1) };
        end - first_of(table)
    }

    /// The size that a table without room for another slot is rebuilt at: its own when enough of it
    /// is tombstones, else the double.
    fn slots_when_full(&self, table: &HashTable<Slot>) -> usize {
        let slots = table.num_buckets();
        if slots < SLOTS_MIN {
            return SLOTS_MIN;
        }
        let parts = if self.shard_full { TOMBSTONE_PARTS_FULL } else { TOMBSTONE_PARTS };
        if table.len() <= live_max(capacity(slots), parts) { slots } else { 2 * slots }
    }

    fn rebuild(&mut self, at: usize, slots: usize, entries: &impl Entries) {
        if slots > self.tables[at].slots.num_buckets() && self.spares[class(slots)].is_none() {
            self.spares[class(slots)] = Some(self.allocate(slots));
        }
        let spare = self.spares[class(slots)].take_if(|_| slots <= self.tables[at].slots.num_buckets());
        let fresh = spare.unwrap_or_else(|| self.allocate(slots));
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

    fn allocate(&mut self, slots: usize) -> HashTable<Slot> {
        let table = HashTable::with_capacity(capacity(slots));
        debug_assert_eq!(table.num_buckets(), slots);
        self.allocated_bytes += table.allocation_size() as u64;
        table
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

/// Entries and tombstones that a table of this many slots takes.
fn capacity(slots: usize) -> usize {
    slots / 8 * 7
}

/// Entries of a full table that is rebuilt at its own size, at the most.
fn live_max(capacity: usize, parts: usize) -> usize {
    capacity - (capacity / parts).max(1)
}

fn class(slots: usize) -> usize {
    slots.trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::Index;

    #[test]
    fn the_shares_of_the_tables_are_those_that_hashes_choose() {
        for memory_bytes in [0, 64 << 20, 1 << 40] {
            let index = Index::new(memory_bytes);
            let shares: Vec<u64> = (0..index.tables()).map(|table| index.share_of(table)).collect();
            assert_eq!(shares.iter().sum::<u64>(), 1 << 32);
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!((17..23).contains(&(most * 10 / least)), "{least} to {most}");
            let mut first = 0;
            for (table, share) in shares.into_iter().enumerate() {
                assert_eq!((index.table_of(first), index.table_of(first + share - 1)), (table, table));
                first += share;
            }
        }
    }
}
