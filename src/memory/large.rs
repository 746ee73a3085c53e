//! Values too large to be copied: bytes in pages of their own, outside every allocator.
//!
//! A [`LargeBuf`] is filled by its one owner and frozen into a [`Large`], which is never written again
//! and shared by the store and by those who send it; its pages go back to the system with the last of
//! them. What is alive, what of it lies in a store and what has left one are counted here, for the whole
//! process, since whoever holds a value last may be on any core.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::limits::VALUE_COPY_BYTES_MAX;
use crate::raw::pages::{Pages, Run};
use crate::raw::region::PAGE_BYTES;

/// Address space for large values: so many times the memory limit, and at least so much. Any order of
/// sizes, from a page to 2^n pages, finds its place in `n` times what is alive.
const ADDRESS_TIMES: u64 = 16;
const ADDRESS_BYTES_MIN: u64 = if cfg!(miri) { 16 << 20 } else { 64 << 30 };
const ADDRESS_BYTES_MAX: u64 = 8 << 40;

/// What a value costs beside its pages: its counts, its place in a table, the notes on its pages.
const HEAD_BYTES: u64 = 128;

static PAGES: OnceLock<Arc<Pages>> = OnceLock::new();

/// Bytes of the large values that lie in a store.
static STORED_BYTES: AtomicU64 = AtomicU64::new(0);

/// Bytes of those that have left one and are still held by somebody.
static LEFT_BYTES: AtomicU64 = AtomicU64::new(0);

/// Where a value has been.
const NEW: u8 = 0;
const STORED: u8 = 1;
const LEFT: u8 = 2;

/// Reserves the address space, to be called before the first large value is made. As much as is
/// wanted, or what a bound on the process's address space leaves of it.
///
/// # Errors
/// When not even twice the limit can be had.
pub(super) fn reserve(limit_bytes: u64) -> io::Result<()> {
    let wanted = limit_bytes.saturating_mul(ADDRESS_TIMES).clamp(ADDRESS_BYTES_MIN, ADDRESS_BYTES_MAX);
    let mut bytes = wanted.max(2 * limit_bytes);
    loop {
        match Pages::reserve(bytes as usize, warm_bytes_max(limit_bytes)) {
            Ok(pages) => {
                // Reserved already, the first reservation stays.
                let _ = PAGES.set(pages);
                return Ok(());
            }
            Err(_) if bytes / 2 >= 2 * limit_bytes => bytes /= 2,
            Err(error) => return Err(error),
        }
    }
}

/// Pages that stay committed for the values to come: half the headroom that the stores leave.
fn warm_bytes_max(limit_bytes: u64) -> u64 {
    super::headroom_bytes(limit_bytes) / 2
}

pub(super) fn pages() -> &'static Arc<Pages> {
    PAGES.get_or_init(|| Pages::reserve(ADDRESS_BYTES_MIN as usize, 0).expect("address space"))
}

/// Bytes of all large values outside the stores: on their way in or out, or held by a slow reader.
pub(super) fn outside_bytes() -> u64 {
    pages().held_bytes().saturating_sub(STORED_BYTES.load(Ordering::Relaxed))
}

/// Bytes of those that were in a store and no longer are.
pub(super) fn left_bytes() -> u64 {
    LEFT_BYTES.load(Ordering::Relaxed)
}

/// Out of address space, memory is long exhausted: as with any allocator, the process ends.
fn allocate(bytes: usize) -> Run {
    pages().allocate(bytes).expect("address space for large values")
}

/// A large value: written once, then shared by the store and by those who are sending it.
#[derive(Clone, Debug)]
pub struct Large(Arc<Value>);

#[derive(Debug)]
struct Value {
    run: Run,
    length: usize,
    place: AtomicU8,
}

impl Large {
    /// A copy of these bytes.
    pub fn copy_of(bytes: &[u8]) -> Large {
        let mut buffer = LargeBuf::of_length(bytes.len());
        buffer.copy_from_slice(bytes);
        buffer.freeze()
    }

    /// The memory that it takes.
    pub fn memory_bytes(&self) -> u64 {
        Large::memory_bytes_for(self.0.length)
    }

    /// The memory that a value of this length takes.
    pub fn memory_bytes_for(length: usize) -> u64 {
        pages_bytes(length).saturating_add(HEAD_BYTES)
    }

    /// How many hold it.
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// Whether both are the same value, not only equal ones.
    pub fn is_same(&self, other: &Large) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// A store keeps it from now on, and counts it.
    pub fn enter_store(&self) {
        let bytes = self.0.run.len() as u64;
        if self.0.place.swap(STORED, Ordering::Relaxed) == LEFT {
            LEFT_BYTES.fetch_sub(bytes, Ordering::Relaxed);
        }
        STORED_BYTES.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The store that kept it has let go of it. Whoever holds it still, holds memory that no store
    /// counts.
    pub fn leave_store(&self) {
        let bytes = self.0.run.len() as u64;
        STORED_BYTES.fetch_sub(bytes, Ordering::Relaxed);
        if self.0.place.swap(LEFT, Ordering::Relaxed) != LEFT {
            LEFT_BYTES.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Whether it was in a store and no longer is.
    pub fn has_left(&self) -> bool {
        self.0.place.load(Ordering::Relaxed) == LEFT
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        if *self.place.get_mut() == LEFT {
            LEFT_BYTES.fetch_sub(self.run.len() as u64, Ordering::Relaxed);
        }
    }
}

impl Deref for Large {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.run[..self.0.length]
    }
}

/// A large value while it is made. What it holds before it is written is arbitrary, so it is frozen only
/// when all of it was.
#[derive(Debug)]
pub struct LargeBuf {
    run: Run,
    length: usize,
}

impl LargeBuf {
    /// A value of this length, to be filled.
    pub fn of_length(length: usize) -> LargeBuf {
        LargeBuf { run: allocate(length), length }
    }

    /// An empty value with room for as many bytes.
    pub fn with_capacity(bytes: usize) -> LargeBuf {
        LargeBuf { run: allocate(bytes), length: 0 }
    }

    /// How long it can grow without moving.
    pub fn capacity(&self) -> usize {
        self.run.len()
    }

    /// Appends bytes. Without room for them all move to a place of at least twice the size.
    pub fn extend(&mut self, bytes: &[u8]) {
        let length = self.length + bytes.len();
        if length > self.run.len() {
            self.grow(length.max(2 * self.run.len()).max(2 * VALUE_COPY_BYTES_MAX));
        }
        self.run[self.length..length].copy_from_slice(bytes);
        self.length = length;
    }

    /// Moves to a place of this capacity, or of the present one if that is higher.
    pub fn grow(&mut self, capacity: usize) {
        if capacity > self.run.len() {
            let mut longer = allocate(capacity);
            longer[..self.length].copy_from_slice(&self.run[..self.length]);
            self.run = longer;
        }
    }

    /// The finished value. Pages it has not filled go back.
    pub fn freeze(mut self) -> Large {
        self.run.truncate(self.length);
        Large(Arc::new(Value { run: self.run, length: self.length, place: AtomicU8::new(NEW) }))
    }
}

/// Whole pages that belong to a store from the first: what a list lies in. They hold arbitrary bytes until
/// they are written.
#[derive(Debug)]
pub struct Block(Run);

impl Block {
    /// A block of at least this many bytes, in whole pages.
    pub fn of(bytes: usize) -> Block {
        let run = allocate(bytes);
        STORED_BYTES.fetch_add(run.len() as u64, Ordering::Relaxed);
        Block(run)
    }

    /// The memory that a block of at least this many bytes takes.
    pub fn memory_bytes_for(bytes: usize) -> u64 {
        pages_bytes(bytes)
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        STORED_BYTES.fetch_sub(self.0.len() as u64, Ordering::Relaxed);
    }
}

/// Whole pages that hold so many bytes.
fn pages_bytes(length: usize) -> u64 {
    length.checked_next_multiple_of(PAGE_BYTES).unwrap_or(usize::MAX) as u64
}

impl Deref for LargeBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.run[..self.length]
    }
}

impl DerefMut for LargeBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.run[..self.length]
    }
}

/// Appends, so that whatever makes bytes can make them here.
impl io::Write for LargeBuf {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Large, LargeBuf, PAGE_BYTES};

    #[test]
    fn a_value_grows_piece_by_piece_and_keeps_no_more_than_it_fills() {
        let mut buffer = LargeBuf::with_capacity(PAGE_BYTES);
        let mut expected = Vec::new();
        for round in 0..200_u8 {
            let piece = vec![round; usize::from(round) * 17];
            buffer.extend(&piece);
            expected.extend_from_slice(&piece);
            assert!(buffer.capacity() >= expected.len());
        }
        assert_eq!(buffer[..], expected);
        assert!(buffer.capacity() > expected.len() + PAGE_BYTES);
        let large = buffer.freeze();
        assert_eq!(large[..], expected);
        assert_eq!(large.0.run.len(), expected.len().next_multiple_of(PAGE_BYTES));
        assert_eq!(large.memory_bytes(), Large::memory_bytes_for(expected.len()));
    }

    #[test]
    fn an_empty_value_takes_no_page() {
        let empty = Large::copy_of(b"");
        assert_eq!((empty.len(), empty.0.run.len()), (0, 0));
    }

    #[test]
    fn a_share_is_the_same_value_and_knows_whether_it_left_a_store() {
        let large = Large::copy_of(&[7; 100_000]);
        let share = large.clone();
        assert!(share.is_same(&large) && !share.is_same(&Large::copy_of(&large)));
        assert_eq!(large.holders(), 2);
        assert!(!share.has_left());
        large.enter_store();
        assert!(!share.has_left());
        large.leave_store();
        assert!(share.has_left());
        large.enter_store();
        assert!(!share.has_left());
        large.leave_store();
        drop(large);
        assert!(share.has_left() && share.iter().all(|byte| *byte == 7));
    }
}
