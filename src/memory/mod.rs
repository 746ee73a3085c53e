//! Who may have how much of the node's memory.
//!
//! [`Memory`] counts what lies outside the stores: large values that no store has, bodies that are on
//! their way, connections and their buffers. What it leaves of the limit is divided among the shards, so
//! that data may take nearly all of it as long as nothing else needs it. Bounds: bodies in flight get a
//! quarter of the limit, reserved before a byte is asked for; values that have left their store, held by
//! clients that read slowly, an eighth, beyond which the oldest of those is closed; the stores keep at
//! least half; API keys and apps an eighth. Every number is an atomic that is read once a turn; nobody waits for anybody.
//!
//! Beside the limit the process takes a constant: its code, the queues between the cores, what the
//! allocator rounds up. README.md gives it.

mod large;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use large::{Block, Large, LargeBuf};

/// Parts of the limit: bodies in flight at most, values that have left their store at most, API keys and
/// apps at most, and what the stores keep in any case.
const BODIES_PART: u64 = 4;
const LEFT_PART: u64 = 8;
const CREDENTIALS_PART: u64 = 8;
const STORES_PART: u64 = 2;

/// Under `evict` the stores always leave this part free, up to so many bytes, so that a sudden body need
/// not wait for them to shrink.
const HEADROOM_PART: u64 = 16;
const HEADROOM_BYTES_MAX: u64 = 32 * 1_024 * 1_024;

/// The ceiling of a shard moves in this part of its share, so that small changes move nothing.
const CEILING_STEP_PART: u64 = 64;

/// The memory of the node.
#[derive(Debug)]
pub struct Memory {
    limit_bytes: u64,
    shards: u64,
    evicts: bool,
    /// Reserved for bodies in flight, and the part of it that large values take.
    reserved_bytes: AtomicU64,
    reserved_large_bytes: AtomicU64,
    /// Connections and their buffers.
    buffer_bytes: AtomicU64,
    /// API keys, app tokens and what is known of them.
    credential_bytes: AtomicU64,
    /// For each reactor, since when its oldest slow reader of a large value has been waited for.
    stalled_since_ms: Box<[AtomicU64]>,
}

impl Memory {
    /// The memory of a node of so many shards. With `evicts`, data may always make way.
    ///
    /// # Errors
    /// When the system has no address space for large values.
    pub fn new(limit_bytes: u64, shards: usize, evicts: bool) -> io::Result<Arc<Memory>> {
        large::reserve(limit_bytes)?;
        Ok(Arc::new(Memory {
            limit_bytes,
            shards: shards as u64,
            evicts,
            reserved_bytes: AtomicU64::new(0),
            reserved_large_bytes: AtomicU64::new(0),
            buffer_bytes: AtomicU64::new(0),
            credential_bytes: AtomicU64::new(0),
            stalled_since_ms: (0..shards).map(|_| AtomicU64::new(u64::MAX)).collect(),
        }))
    }

    /// The most that one shard ever gets.
    pub fn shard_bytes_max(&self) -> u64 {
        self.limit_bytes / self.shards
    }

    /// What each shard may take now.
    pub fn shard_ceiling(&self) -> u64 {
        let reserved = self.reserved_bytes.load(Ordering::Relaxed);
        let in_large = self.reserved_large_bytes.load(Ordering::Relaxed);
        let bodies = reserved.saturating_sub(in_large);
        self.shard_ceiling_beside(large::outside_bytes() + bodies + self.own_bytes())
    }

    /// What the node itself takes of the limit.
    fn own_bytes(&self) -> u64 {
        self.buffer_bytes.load(Ordering::Relaxed) + self.credential_bytes()
    }

    fn shard_ceiling_beside(&self, outside_bytes: u64) -> u64 {
        // What may not be dropped cannot make way either: then the share of the bodies is kept free.
        let kept_free = match self.evicts {
            true => headroom_bytes(self.limit_bytes),
            false => self.limit_bytes / BODIES_PART,
        };
        let least = self.limit_bytes / STORES_PART;
        let stores = self.limit_bytes.saturating_sub(outside_bytes.max(kept_free)).max(least);
        let step = (self.shard_bytes_max() / CEILING_STEP_PART).max(1);
        stores / self.shards / step * step
    }

    /// A part of what bodies in flight may take, if so much is left.
    pub fn reserve(self: &Arc<Memory>, bytes: u64) -> Option<Reservation> {
        let mut reservation = self.reserve_nothing();
        reservation.grow(bytes).then_some(reservation)
    }

    /// A reservation that is to grow.
    pub fn reserve_nothing(self: &Arc<Memory>) -> Reservation {
        Reservation { bytes: 0, is_large: false, memory: Arc::clone(self) }
    }

    /// The buffers of a reactor have grown, or shrunk, from so many bytes to so many.
    pub fn recount_buffers(&self, from_bytes: u64, to_bytes: u64) {
        self.buffer_bytes.fetch_add(to_bytes.wrapping_sub(from_bytes), Ordering::Relaxed);
    }

    /// Takes room for an API key or app, if their part of the limit has so much left.
    pub fn take_for_credentials(&self, bytes: u64) -> bool {
        let most = self.limit_bytes / CREDENTIALS_PART;
        let taken = |held: u64| held.checked_add(bytes).filter(|held| *held <= most);
        self.credential_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    /// Gives room of an API key or app back.
    pub fn give_from_credentials(&self, bytes: u64) {
        self.credential_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What API keys and apps take.
    pub fn credential_bytes(&self) -> u64 {
        self.credential_bytes.load(Ordering::Relaxed)
    }

    /// Whether values that have left their store take more than they may.
    pub fn holds_too_much(&self) -> bool {
        large::left_bytes() > self.limit_bytes / LEFT_PART
    }

    /// Notes since when a reactor's oldest slow reader has been waited for; `u64::MAX` without any.
    /// Answers whether that is the oldest of all.
    pub fn is_oldest(&self, reactor: usize, since_ms: u64) -> bool {
        self.stalled_since_ms[reactor].store(since_ms, Ordering::Relaxed);
        self.stalled_since_ms.iter().all(|other| since_ms <= other.load(Ordering::Relaxed))
    }

    /// Gives a slice of what large values left behind back to the system, beyond what is kept for those to
    /// come. True when there is more.
    pub fn give_back_slice(&self) -> bool {
        let pages = large::pages();
        pages.give_back_slice();
        pages.is_over()
    }
}

/// What the stores leave free under `evict`.
fn headroom_bytes(limit_bytes: u64) -> u64 {
    (limit_bytes / HEADROOM_PART).min(HEADROOM_BYTES_MAX)
}

/// A part of what bodies in flight may take, until it is dropped.
#[derive(Debug)]
pub struct Reservation {
    bytes: u64,
    is_large: bool,
    memory: Arc<Memory>,
}

impl Reservation {
    /// Adds to it. False, and nothing has changed, when so much is not left.
    pub fn grow(&mut self, bytes: u64) -> bool {
        let most = self.memory.limit_bytes / BODIES_PART;
        let grown = |reserved: u64| reserved.checked_add(bytes).filter(|reserved| *reserved <= most);
        let reserved = &self.memory.reserved_bytes;
        let taken = reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok();
        if taken {
            self.bytes += bytes;
            if self.is_large {
                self.memory.reserved_large_bytes.fetch_add(bytes, Ordering::Relaxed);
            }
        }
        taken
    }

    /// Bytes reserved.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it is for is a large value, whose pages are counted anyway.
    pub fn for_large(mut self) -> Reservation {
        self.becomes_large();
        self
    }

    /// What it is for has become a large value.
    pub fn becomes_large(&mut self) {
        if !std::mem::replace(&mut self.is_large, true) {
            self.memory.reserved_large_bytes.fetch_add(self.bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.is_large {
            self.memory.reserved_large_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
        self.memory.reserved_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::Memory;

    const MIB: u64 = 1 << 20;

    #[test]
    fn shards_get_what_is_left_and_never_less_than_half() {
        let memory = Memory::new(256 * MIB, 2, true).unwrap();
        assert_eq!(memory.shard_bytes_max(), 128 * MIB);
        for (outside, ceiling) in [(0, 120), (16, 120), (17, 118), (18, 118), (64, 96), (128, 64), (500, 64)]
        {
            assert_eq!(memory.shard_ceiling_beside(outside * MIB), ceiling * MIB, "{outside} MiB outside");
        }
        // Much memory does not make much headroom.
        let memory = Memory::new(16_384 * MIB, 1, true).unwrap();
        assert_eq!(memory.shard_ceiling_beside(0), (16_384 - 256) * MIB);
    }

    #[test]
    fn without_eviction_the_share_of_bodies_is_always_free() {
        let memory = Memory::new(256 * MIB, 2, false).unwrap();
        for (outside, ceiling) in [(0, 96), (64, 96), (66, 94), (128, 64), (200, 64)] {
            assert_eq!(memory.shard_ceiling_beside(outside * MIB), ceiling * MIB, "{outside} MiB outside");
        }
    }

    #[test]
    fn bodies_get_a_quarter_to_the_byte_and_give_it_back() {
        let memory = Memory::new(64 * MIB, 1, true).unwrap();
        assert!(memory.reserve(16 * MIB + 1).is_none());
        assert!(memory.reserve(u64::MAX).is_none());
        let mut first = memory.reserve(10 * MIB).unwrap().for_large();
        let second = memory.reserve(5 * MIB).unwrap();
        assert!(!first.grow(MIB + 1));
        assert!(first.grow(MIB));
        assert_eq!(first.bytes(), 11 * MIB);
        assert_eq!(memory.reserved_large_bytes.load(Ordering::Relaxed), 11 * MIB);
        assert!(memory.reserve(1).is_none());
        drop(first);
        assert_eq!(memory.reserved_large_bytes.load(Ordering::Relaxed), 0);
        assert!(memory.reserve(11 * MIB).is_some());
        drop(second);
        assert_eq!(memory.reserved_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn credentials_get_an_eighth_to_the_byte_and_count_against_the_shards() {
        let memory = Memory::new(64 * MIB, 1, true).unwrap();
        assert!(!memory.take_for_credentials(8 * MIB + 1) && !memory.take_for_credentials(u64::MAX));
        memory.recount_buffers(0, MIB);
        assert!(memory.take_for_credentials(8 * MIB));
        assert!(!memory.take_for_credentials(1) && memory.take_for_credentials(0));
        assert_eq!((memory.credential_bytes(), memory.own_bytes()), (8 * MIB, 9 * MIB));
        memory.give_from_credentials(8 * MIB);
        assert_eq!((memory.credential_bytes(), memory.own_bytes()), (0, MIB));
    }

    #[test]
    fn the_oldest_of_all_slow_readers_is_known() {
        let memory = Memory::new(64 * MIB, 2, true).unwrap();
        assert!(memory.is_oldest(0, 5));
        assert!(!memory.is_oldest(1, 6));
        assert!(memory.is_oldest(1, 4));
        assert!(!memory.is_oldest(0, 5));
        assert!(!memory.is_oldest(1, u64::MAX));
        assert!(memory.is_oldest(0, 5));
    }
}
