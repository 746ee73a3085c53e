//! Values too large for the log, each in memory of its own and shared with whoever is sending it.
//!
//! An entry refers to its value by number. Whoever buries the entry takes the value out, once: the
//! memory goes back to the system when the last sender is through with it.

use slab::Slab;

use crate::op::Large;

/// What an allocation of its own costs beside its bytes is under a page: the allocator's head, the
/// counts, and the rest of the last page.
const PAGE_BYTES: usize = 4_096;
const HEAD_BYTES: usize = 64;

/// What the table of values takes for each of them.
const SLOT_BYTES: usize = 2 * size_of::<usize>();

/// The large values of a shard.
#[derive(Debug, Default)]
pub struct LargeValues {
    values: Slab<Large>,
    bytes: u64,
}

/// The memory that a large value of this capacity takes.
pub fn memory_bytes(capacity: usize) -> u64 {
    capacity.saturating_add(HEAD_BYTES).checked_next_multiple_of(PAGE_BYTES).unwrap_or(usize::MAX) as u64
}

impl LargeValues {
    /// The most memory that keeping one more value of this capacity takes.
    pub fn memory_bytes_for(&self, capacity: usize) -> u64 {
        let table =
            if self.values.len() == self.values.capacity() { self.values.capacity().max(4) } else { 0 };
        memory_bytes(capacity) + (table * SLOT_BYTES) as u64
    }

    /// Keeps a value and answers its number.
    pub fn insert(&mut self, value: Large) -> u32 {
        self.bytes += memory_bytes(value.capacity());
        // A value takes at least a page, so numbers end far below 32 bits before memory does.
        u32::try_from(self.values.insert(value)).expect("fewer large values than pages")
    }

    /// The value of this number.
    ///
    /// # Panics
    /// When there is none: an entry has outlived its value.
    pub fn get(&self, number: u32) -> &Large {
        &self.values[number as usize]
    }

    /// Takes a value out.
    ///
    /// # Panics
    /// When there is none: two entries had the same value.
    pub fn remove(&mut self, number: u32) -> Large {
        let value = self.values.remove(number as usize);
        self.bytes -= memory_bytes(value.capacity());
        value
    }

    /// Memory that all of them take, and the table of them.
    pub fn bytes(&self) -> u64 {
        self.bytes + (self.values.capacity() * SLOT_BYTES) as u64
    }
}
