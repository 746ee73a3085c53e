//! A list too long for the log: distinct values in the order in which they were added.
//!
//! Two structures of pages: the values in their order (`sequence`) and the way from a value's hash to
//! its place (`map`). Adding a value and asking for one cost the same whatever the list holds; its
//! index, a slice and a removal cost the logarithm besides. No step touches more than a few pages, and
//! a list is freed piece by piece, so that nobody waits for a long one.
//!
//! Equality is that of [`crate::primitive::canonical`]; the text kept is that of the first. A list
//! knows what it takes, to the byte: [`List::growth_bytes`] is asked, and room made, before it grows.

mod map;
mod record;
mod sequence;
#[cfg(test)]
mod tests;

pub use record::{Record, Value, all};
pub use sequence::Place;

use crate::clock::Version;
use map::Map;
use sequence::{Move, Sequence};

/// Values of one list, their order and their hashes.
#[derive(Debug)]
pub struct List {
    /// When it was last changed.
    pub version: Version,
    sequence: Sequence,
    map: Map,
    text_bytes: u64,
}

/// What hashes the canonical form of a value.
pub type Hasher<'h> = &'h dyn Fn(&[u8]) -> u64;

/// Bytes that a value adds to the list as JSON: its text and a comma.
pub fn shown_bytes(text_len: usize) -> u64 {
    text_len as u64 + 1
}

impl List {
    /// An empty list.
    pub fn empty() -> List {
        List { version: Version(0), sequence: Sequence::default(), map: Map::new(), text_bytes: 0 }
    }

    /// Memory that [`List::empty`] takes.
    pub const NEW_BYTES: u64 = size_of::<List>() as u64 + Map::NEW_BYTES;

    /// Memory that it takes.
    pub fn memory_bytes(&self) -> u64 {
        size_of::<List>() as u64 + self.sequence.memory_bytes() + self.map.memory_bytes()
    }

    /// The most memory that adding this value takes beside the present.
    pub fn growth_bytes(&self, value: &Value<'_>, hash: u64) -> u64 {
        self.sequence.growth_bytes(value.record().len()) + self.map.growth_bytes(hash)
    }

    /// How many values it has.
    pub fn count(&self) -> u32 {
        self.sequence.count()
    }

    /// Bytes of all values as JSON, each with a comma.
    pub fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// The place of the value with this canonical form.
    pub fn find(&self, canonical: &[u8], hash: u64) -> Option<Place> {
        self.map.find(hash, |place| self.sequence.record(place).is(canonical))
    }

    /// Adds a value that it does not have. False when there is no place for its hash.
    pub fn push(&mut self, value: &Value<'_>, hash: u64) -> bool {
        if !self.map.make_place(hash) {
            return false;
        }
        let place = self.sequence.push(value.record());
        self.map.insert(hash, place);
        self.text_bytes += shown_bytes(value.text().len());
        true
    }

    /// Takes the value at a place out.
    pub fn remove(&mut self, place: Place, hasher: Hasher<'_>) {
        let record = self.sequence.record(place);
        let hash = hasher(&record.canonical());
        self.text_bytes -= shown_bytes(record.text.len());
        self.map.remove(hash, place);
        let mut moves = Vec::new();
        self.sequence.remove(place, &mut moves);
        for Move { from, to } in moves {
            let hash = hasher(&self.sequence.record(to).canonical());
            self.map.relocate(hash, from, to);
        }
    }

    /// How many values are before the one at a place.
    pub fn rank(&self, place: Place) -> u32 {
        self.sequence.rank(place)
    }

    /// The place of the value with so many before it.
    pub fn select(&self, rank: u32) -> Option<Place> {
        self.sequence.select(rank)
    }

    /// The place behind one.
    pub fn next(&self, place: Place) -> Option<Place> {
        self.sequence.next(place)
    }

    /// The value at a place.
    pub fn record(&self, place: Place) -> Record<'_> {
        self.sequence.record(place)
    }

    /// Frees some of it, at most this many pages' worth of work. False when nothing is left. A list of
    /// which anything was freed is good for nothing else.
    pub fn free_slice(&mut self, pages_max: usize) -> bool {
        let freed = self.sequence.free_chunks(pages_max);
        freed + self.map.free_pages(pages_max - freed) == pages_max
    }
}
