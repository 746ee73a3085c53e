//! Moves the ceiling of a store while it is in use.
//!
//! A higher ceiling holds at once. A lower one is approached in steps, one a call, each of which
//! reclaims no more than a usual write of that size would, so that no turn pays for all of it. Where
//! nothing may be dropped a lower ceiling only keeps new writes out.

use super::eviction::Need;
use super::log::Queue;
use super::{STORE_BYTES_MIN, Store, WhenFull};
use crate::clock::Now;

/// How far one call lowers the memory of a store: some thousand small entries, under half a millisecond.
const STEP_BYTES: u64 = 256 * 1_024;

impl Store {
    /// The most memory that the store may take now.
    pub fn ceiling_bytes(&self) -> u64 {
        self.config.memory_bytes
    }

    /// Sets the length of the largest value that is written from now on, and answers what it was. Whatever
    /// it says, a write fits under the ceiling or is refused.
    pub fn set_value_bytes_max(&mut self, bytes: usize) -> usize {
        std::mem::replace(&mut self.config.value_bytes_max, bytes)
    }

    /// Moves the ceiling to so many bytes, at most the one the store was made with. True while that
    /// takes more calls.
    pub fn set_ceiling(&mut self, bytes: u64, now: Now) -> bool {
        let bytes = bytes.clamp(STORE_BYTES_MIN, self.memory_bytes_max);
        let fits = self.memory_bytes() <= bytes;
        if bytes > self.config.memory_bytes || bytes == self.config.memory_bytes && fits {
            self.config.memory_bytes = bytes;
            return false;
        }
        if self.config.when_full == WhenFull::Reject {
            self.config.memory_bytes = bytes;
            return !fits && self.log.cool_one();
        }
        // With what a write would want to be free, the store has no more to do under this ceiling.
        let tight = self.memory_bytes() + 2 * self.log.segment_bytes();
        self.config.memory_bytes = self.config.memory_bytes.min(tight).saturating_sub(STEP_BYTES).max(bytes);
        let nothing = Need { queue: Queue::Small, entry_len_max: 0, large_bytes: 0, inserts: None };
        // A store that cannot shrink any more has nothing left to drop.
        let shrinks = self.make_room(&nothing, now).is_ok();
        if !shrinks {
            self.config.memory_bytes = bytes;
        }
        shrinks && self.config.memory_bytes > bytes
    }
}
