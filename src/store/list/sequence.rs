//! The values of a list in their order: pages of records under a tree of counts.
//!
//! Values are only ever added at the end, so a chunk fills from its front and is then left alone but for
//! removals. Each chunk keeps a table of its records at its end, growing towards them; a removed record
//! leaves a gap there. A chunk that has become mostly gaps is joined with one beside it. A value that
//! does not fit into a page has a chunk of its own.
//!
//! Chunks keep their number for life; `order` says which follows which, and `sums` how many values are
//! before one, as a Fenwick tree (1994): rank and selection cost the logarithm of the chunks' number.

use super::record::Record;
use crate::memory::Block;
use crate::raw::region::PAGE_BYTES;

/// Bits of a place that number the record within its chunk.
const SLOT_BITS: u32 = 9;

/// Records of a chunk, gaps among them.
const SLOTS_MAX: usize = 1 << SLOT_BITS;

/// What stands in the table of a chunk for a removed record.
const GAP: u16 = u16::MAX;

/// What stands in `order` where a chunk was.
const NONE: u32 = u32::MAX;

/// A chunk that holds less is joined with one beside it if both together hold no more than the other.
const JOIN_BELOW_BYTES: usize = PAGE_BYTES / 4;
const JOINED_BYTES_MAX: usize = PAGE_BYTES / 4 * 3;

/// Holes in `order` that are put up with.
const HOLES_MIN: usize = 16;

/// Where a value is: the number of its chunk and that of the record in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(pub u32);

impl Place {
    fn new(chunk: u32, slot: usize) -> Place {
        Place(chunk << SLOT_BITS | slot as u32)
    }

    fn chunk(self) -> usize {
        (self.0 >> SLOT_BITS) as usize
    }

    fn slot(self) -> usize {
        self.0 as usize % SLOTS_MAX
    }
}

/// A value that has moved.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// Where it was.
    pub from: Place,
    /// Where it is.
    pub to: Place,
}

/// Values in order.
#[derive(Debug, Default)]
pub struct Sequence {
    chunks: Vec<Chunk>,
    free: Vec<u32>,
    order: Vec<u32>,
    /// Node `i` counts the values of the chunks from `i & (i + 1)` to `i` in `order`.
    sums: Vec<u32>,
    holes: usize,
    count: u32,
    block_bytes: u64,
}

#[derive(Debug)]
struct Chunk {
    block: Block,
    /// Where it stands in `order`.
    at: u32,
    /// Bytes of records, and of those that are gone among them.
    used: u32,
    dead: u32,
    slots: u16,
    live: u16,
}

impl Sequence {
    /// How many values there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Memory that they take.
    pub fn memory_bytes(&self) -> u64 {
        self.block_bytes
            + (self.chunks.capacity() * size_of::<Chunk>()) as u64
            + ((self.free.capacity() + self.order.capacity() + self.sums.capacity()) * size_of::<u32>())
                as u64
    }

    /// The most memory that adding a record of this length takes beside the present.
    pub fn growth_bytes(&self, record_len: usize) -> u64 {
        if self.last_with_room(record_len).is_some() {
            return 0;
        }
        let grown = |len: usize, capacity: usize, each: usize| {
            if len == capacity { 2 * capacity.max(4) * each } else { 0 }
        };
        let tables = grown(self.chunks.len(), self.chunks.capacity(), size_of::<Chunk>())
            + grown(self.chunks.len(), self.free.capacity(), size_of::<u32>())
            + grown(self.order.len(), self.order.capacity(), size_of::<u32>())
            + grown(self.sums.len(), self.sums.capacity(), size_of::<u32>());
        Block::memory_bytes_for(Chunk::bytes_for(record_len)) + tables as u64
    }

    /// Adds a value behind all others.
    pub fn push(&mut self, record: Record<'_>) -> Place {
        let number = match self.last_with_room(record.len()) {
            Some(number) => number,
            None => self.open(record.len()),
        };
        let chunk = &mut self.chunks[number as usize];
        let slot = chunk.push(record);
        let at = chunk.at as usize;
        self.add_to_sums(at, 1);
        self.count += 1;
        Place::new(number, slot)
    }

    /// The value at a place.
    pub fn record(&self, place: Place) -> Record<'_> {
        self.chunks[place.chunk()].record(place.slot()).expect("a value at its place")
    }

    /// How many values are before the one at a place.
    pub fn rank(&self, place: Place) -> u32 {
        let chunk = &self.chunks[place.chunk()];
        let within = (0..place.slot()).filter(|slot| chunk.offset(*slot) != GAP).count();
        self.sum_before(chunk.at as usize) + within as u32
    }

    /// The place of the value with so many before it.
    pub fn select(&self, rank: u32) -> Option<Place> {
        let (at, within) = self.find_by_sum(rank)?;
        let number = self.order[at];
        let chunk = &self.chunks[number as usize];
        let slot =
            (0..usize::from(chunk.slots)).filter(|slot| chunk.offset(*slot) != GAP).nth(within as usize)?;
        Some(Place::new(number, slot))
    }

    /// The place of the value behind the one at a place.
    pub fn next(&self, place: Place) -> Option<Place> {
        let chunk = &self.chunks[place.chunk()];
        let number = (place.0 >> SLOT_BITS, chunk);
        let mut slots = place.slot() + 1..usize::from(chunk.slots);
        if let Some(slot) = slots.find(|slot| number.1.offset(*slot) != GAP) {
            return Some(Place::new(number.0, slot));
        }
        let next = *self.order[chunk.at as usize + 1..].iter().find(|number| **number != NONE)?;
        let chunk = &self.chunks[next as usize];
        (0..usize::from(chunk.slots))
            .find(|slot| chunk.offset(*slot) != GAP)
            .map(|slot| Place::new(next, slot))
    }

    /// Takes a value out. Others may have to move for it: no more than fit into a page. They are
    /// appended to `moves` in an order in which no value moves to where another has yet to leave.
    pub fn remove(&mut self, place: Place, moves: &mut Vec<Move>) {
        let number = place.chunk();
        let chunk = &mut self.chunks[number];
        chunk.remove(place.slot());
        let (at, is_empty) = (chunk.at as usize, chunk.live == 0);
        self.add_to_sums(at, -1);
        self.count -= 1;
        if is_empty {
            self.close(number as u32);
        } else if self.chunks[number].held_bytes() < JOIN_BELOW_BYTES {
            self.join(number as u32, moves);
        }
    }

    /// Frees chunks until this many are, or none is left. Nothing else may be asked of the values after.
    pub fn free_chunks(&mut self, chunks_max: usize) -> usize {
        let kept = self.chunks.len().saturating_sub(chunks_max);
        let freed: u64 = self.chunks[kept..].iter().map(|chunk| chunk.block.len() as u64).sum();
        self.block_bytes -= freed;
        let count = self.chunks.len() - kept;
        self.chunks.truncate(kept);
        if kept == 0 {
            *self = Sequence::default();
        }
        count
    }

    fn last_with_room(&self, record_len: usize) -> Option<u32> {
        self.order.last().copied().filter(|number| self.chunks[*number as usize].has_room(record_len))
    }

    /// Opens a chunk at the end.
    fn open(&mut self, record_len: usize) -> u32 {
        let chunk = Chunk::new(Block::of(Chunk::bytes_for(record_len)), self.order.len() as u32);
        self.block_bytes += chunk.block.len() as u64;
        let number = match self.free.pop() {
            Some(number) => {
                self.chunks[number as usize] = chunk;
                number
            }
            None => {
                self.chunks.push(chunk);
                // Room for every number, so that closing never allocates.
                self.free.reserve_exact(self.chunks.capacity());
                self.chunks.len() as u32 - 1
            }
        };
        self.order.push(number);
        let at = self.sums.len();
        let sum = self.sum_before(at) - self.sum_before(at & (at + 1));
        self.sums.push(sum);
        number
    }

    fn close(&mut self, number: u32) {
        let chunk = &mut self.chunks[number as usize];
        self.block_bytes -= chunk.block.len() as u64;
        chunk.block = Block::of(0);
        self.order[chunk.at as usize] = NONE;
        self.holes += 1;
        self.free.push(number);
        while self.order.last() == Some(&NONE) {
            self.order.pop();
            self.sums.pop();
            self.holes -= 1;
        }
        if self.holes > HOLES_MIN && self.holes > self.order.len() / 2 {
            self.close_up();
        }
    }

    /// Closes the holes in `order`.
    fn close_up(&mut self) {
        self.order.retain(|number| *number != NONE);
        self.sums.clear();
        self.holes = 0;
        for (at, number) in self.order.iter().enumerate() {
            let chunk = &mut self.chunks[*number as usize];
            chunk.at = at as u32;
            self.sums.push(chunk.live.into());
        }
        for at in 0..self.sums.len() {
            let parent = at | (at + 1);
            if parent < self.sums.len() {
                self.sums[parent] += self.sums[at];
            }
        }
    }

    /// Joins a small chunk with the one behind or before it, if they fit into one.
    fn join(&mut self, number: u32, moves: &mut Vec<Move>) {
        let at = self.chunks[number as usize].at as usize;
        let before = self.sum_before(at);
        let behind = before + u32::from(self.chunks[number as usize].live);
        let neighbor = |rank| self.find_by_sum(rank).map(|(at, _)| self.order[at]);
        let fits = |other: &u32| {
            let (one, other) = (&self.chunks[number as usize], &self.chunks[*other as usize]);
            one.held_bytes() + other.held_bytes() <= JOINED_BYTES_MAX
                && usize::from(one.live + other.live) <= SLOTS_MAX
        };
        let next = (behind < self.count).then_some(behind).and_then(neighbor).filter(fits);
        let previous = || before.checked_sub(1).and_then(neighbor).filter(fits);
        let (first, second) = match next {
            Some(next) => (number, next),
            None => match previous() {
                Some(previous) => (previous, number),
                None => return,
            },
        };
        self.chunks[first as usize].compact(first, moves);
        let gone = std::mem::replace(&mut self.chunks[second as usize].block, Block::of(0));
        let Chunk { at: gone_at, slots, live, .. } = self.chunks[second as usize];
        let chunk = &mut self.chunks[first as usize];
        for slot in 0..usize::from(slots) {
            if let Some(record) = record_in(&gone, slot) {
                let to = Place::new(first, chunk.push(record));
                moves.push(Move { from: Place::new(second, slot), to });
            }
        }
        let first_at = chunk.at as usize;
        self.block_bytes -= gone.len() as u64;
        self.add_to_sums(first_at, i32::from(live));
        self.add_to_sums(gone_at as usize, -i32::from(live));
        self.close(second);
    }

    fn add_to_sums(&mut self, mut at: usize, difference: i32) {
        while let Some(sum) = self.sums.get_mut(at) {
            *sum = sum.wrapping_add_signed(difference);
            at |= at + 1;
        }
    }

    /// How many values the chunks before this place in `order` have.
    fn sum_before(&self, mut end: usize) -> u32 {
        let mut sum = 0_u32;
        while end > 0 {
            sum = sum.wrapping_add(self.sums[end - 1]);
            end &= end - 1;
        }
        sum
    }

    /// Where in `order` the value with so many before it is, and how many of those are in its chunk.
    fn find_by_sum(&self, mut rank: u32) -> Option<(usize, u32)> {
        if rank >= self.count {
            return None;
        }
        let mut at = 0;
        let mut step = (self.sums.len() + 1).next_power_of_two();
        while step > 0 {
            if let Some(sum) = self.sums.get(at + step - 1)
                && *sum <= rank
            {
                rank -= sum;
                at += step;
            }
            step /= 2;
        }
        Some((at, rank))
    }
}

impl Chunk {
    fn new(block: Block, at: u32) -> Chunk {
        Chunk { block, at, used: 0, dead: 0, slots: 0, live: 0 }
    }

    /// What a chunk must have for a record of this length.
    fn bytes_for(record_len: usize) -> usize {
        (record_len + size_of::<u16>()).max(PAGE_BYTES)
    }

    fn has_room(&self, record_len: usize) -> bool {
        let slots = usize::from(self.slots) + 1;
        // Offsets are kept in 16 bits, so what is longer than a page takes nothing more.
        let is_page = self.block.len() == PAGE_BYTES;
        is_page
            && slots <= SLOTS_MAX
            && self.used as usize + record_len + slots * size_of::<u16>() <= PAGE_BYTES
    }

    /// Bytes of its values and their places in the table.
    fn held_bytes(&self) -> usize {
        (self.used - self.dead) as usize + usize::from(self.live) * size_of::<u16>()
    }

    fn push(&mut self, record: Record<'_>) -> usize {
        let slot = usize::from(self.slots);
        record.write(&mut self.block[self.used as usize..]);
        self.set_offset(slot, self.used as u16);
        self.used += record.len() as u32;
        self.slots += 1;
        self.live += 1;
        slot
    }

    fn remove(&mut self, slot: usize) {
        let len = self.record(slot).map_or(0, |record| record.len());
        self.set_offset(slot, GAP);
        self.dead += len as u32;
        self.live -= 1;
    }

    fn record(&self, slot: usize) -> Option<Record<'_>> {
        record_in(&self.block, slot)
    }

    fn offset(&self, slot: usize) -> u16 {
        offset_in(&self.block, slot)
    }

    fn set_offset(&mut self, slot: usize, offset: u16) {
        let at = self.block.len() - size_of::<u16>() * (slot + 1);
        self.block[at..at + size_of::<u16>()].copy_from_slice(&offset.to_le_bytes());
    }

    /// Closes the gaps. Records move to the front, so none is written over before it was read.
    fn compact(&mut self, number: u32, moves: &mut Vec<Move>) {
        if self.dead == 0 {
            return;
        }
        let (mut used, mut slots) = (0, 0);
        for slot in 0..usize::from(self.slots) {
            let offset = usize::from(self.offset(slot));
            let Some(len) = self.record(slot).map(|record| record.len()) else { continue };
            self.block.copy_within(offset..offset + len, used);
            self.set_offset(slots, used as u16);
            if slots != slot {
                moves.push(Move { from: Place::new(number, slot), to: Place::new(number, slots) });
            }
            used += len;
            slots += 1;
        }
        (self.used, self.dead) = (used as u32, 0);
        (self.slots, self.live) = (slots as u16, slots as u16);
    }
}

fn offset_in(block: &[u8], slot: usize) -> u16 {
    let at = block.len() - size_of::<u16>() * (slot + 1);
    u16::from_le_bytes([block[at], block[at + 1]])
}

fn record_in(block: &[u8], slot: usize) -> Option<Record<'_>> {
    let offset = offset_in(block, slot);
    (offset != GAP).then(|| Record::read(&block[offset.into()..]).0)
}
