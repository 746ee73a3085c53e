//! Values too large for the log, each in memory of its own and shared with whoever is sending it.
//!
//! An entry refers to its value by number. Whoever buries the entry takes the value out, once: the
//! memory goes back to the system when the last sender is through with it, and until then
//! [`crate::memory`] counts it as out of the store.

use slab::Slab;

use crate::op::Large;

/// What the table of values takes for each of them.
const SLOT_BYTES: usize = 2 * size_of::<usize>();

/// The large values of a shard.
#[derive(Debug, Default)]
pub struct LargeValues {
    values: Slab<Large>,
    bytes: u64,
}

impl LargeValues {
    /// The most memory that keeping one more value of this length takes.
    pub fn memory_bytes_for(&self, length: usize) -> u64 {
        let table =
            if self.values.len() == self.values.capacity() { self.values.capacity().max(4) } else { 0 };
        Large::memory_bytes_for(length) + (table * SLOT_BYTES) as u64
    }

    /// Keeps a value and answers its number.
    pub fn insert(&mut self, value: Large) -> u32 {
        self.bytes += value.memory_bytes();
        value.enter_store();
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
        self.bytes -= value.memory_bytes();
        value.leave_store();
        value
    }

    /// Memory that all of them take, and the table of them.
    pub fn bytes(&self) -> u64 {
        self.bytes + (self.values.capacity() * SLOT_BYTES) as u64
    }
}

/// A store that ends lets go of its values.
impl Drop for LargeValues {
    fn drop(&mut self) {
        self.values.iter().for_each(|(_, value)| value.leave_store());
    }
}
