//! One contiguous stretch of memory that costs nothing until it is written.
//!
//! A [`Region`] is an anonymous private mapping made with `MAP_NORESERVE`: the kernel commits a page
//! when it is first written, and takes it back on [`Region::give_back`]. The face is that of a byte
//! slice, with its bounds checks: a wrong position panics, it never reads elsewhere. Invariant: the
//! mapping belongs to this value alone, stays where it is and as long as it is until drop, and every
//! byte of it is initialised at all times (pages never written read as zeros).
//!
//! Under miri, which knows no `mmap`, a region is a zeroed vector with the same face.

use std::io;
use std::ops::{Deref, DerefMut};

#[cfg(not(miri))]
use mapped as backing;
#[cfg(miri)]
use owned as backing;

/// Size of a page, in bytes. What is given back is a whole number of them.
pub const PAGE_BYTES: usize = 4_096;

/// Lazily committed bytes, all zero at first.
#[derive(Debug)]
pub struct Region(backing::Bytes);

impl Region {
    /// Reserves this many bytes, rounded up to whole pages, of address space only.
    ///
    /// # Errors
    /// What `mmap` answers: no address space left, or over the process's limit on it.
    pub fn reserve(bytes: usize) -> io::Result<Region> {
        let bytes = bytes.max(1).checked_next_multiple_of(PAGE_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
        backing::Bytes::reserve(bytes).map(Region)
    }

    /// Gives the memory of these bytes back to the system; they read as zeros from now on. Only
    /// whole pages within the range go back.
    ///
    /// # Panics
    /// When the range reaches past the end.
    pub fn give_back(&mut self, at: usize, bytes: usize) {
        let end = at.checked_add(bytes).filter(|end| *end <= self.len()).expect("range within the region");
        let (first, last) = (at.next_multiple_of(PAGE_BYTES), end / PAGE_BYTES * PAGE_BYTES);
        if first < last {
            self.0.give_back(first, last - first);
        }
    }
}

impl Deref for Region {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl DerefMut for Region {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_slice()
    }
}

#[cfg(not(miri))]
mod mapped {
    use std::io;
    use std::ptr::NonNull;

    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

    #[derive(Debug)]
    pub struct Bytes {
        start: NonNull<u8>,
        len: usize,
    }

    // SAFETY: the mapping has one owner, this value, and no ties to the thread that made it.
    unsafe impl Send for Bytes {}
    // SAFETY: through a shared reference the bytes can only be read.
    unsafe impl Sync for Bytes {}

    impl Bytes {
        pub fn reserve(len: usize) -> io::Result<Bytes> {
            if isize::try_from(len).is_err() {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            // SAFETY: a new mapping at a place of the kernel's choice touches no other memory.
            let start = unsafe {
                mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags)
            }?;
            let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
            Ok(Bytes { start, len })
        }

        pub fn give_back(&mut self, at: usize, len: usize) {
            // SAFETY: `Region::give_back` keeps the range within the mapping and on whole pages;
            // `&mut self` says that no reference into it is alive. The bytes become zeros, which
            // are as good as any.
            let given = unsafe { madvise(self.start.as_ptr().add(at).cast(), len, Advice::LinuxDontNeed) };
            debug_assert!(given.is_ok(), "{given:?}");
        }

        #[inline]
        pub fn as_slice(&self) -> &[u8] {
            // SAFETY: `start` and `len` are those of a live, readable mapping of initialised bytes
            // that only `&mut self` writes to.
            unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
        }

        #[inline]
        pub fn as_mut_slice(&mut self) -> &mut [u8] {
            // SAFETY: as above, and `&mut self` makes this the only reference into it.
            unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
        }
    }

    impl Drop for Bytes {
        fn drop(&mut self) {
            // SAFETY: the mapping is this value's own and nothing can refer to it any more.
            let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
            debug_assert!(unmapped.is_ok(), "{unmapped:?}");
        }
    }
}

#[cfg(any(miri, test))]
mod owned {
    #[derive(Debug)]
    pub struct Bytes(Vec<u8>);

    impl Bytes {
        pub fn reserve(len: usize) -> std::io::Result<Bytes> {
            Ok(Bytes(vec![0; len]))
        }

        pub fn give_back(&mut self, at: usize, len: usize) {
            self.0[at..at + len].fill(0);
        }

        pub fn as_slice(&self) -> &[u8] {
            &self.0
        }

        pub fn as_mut_slice(&mut self) -> &mut [u8] {
            &mut self.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PAGE_BYTES, Region, owned};

    #[test]
    fn a_region_starts_as_zeros_and_keeps_what_is_written() {
        let mut region = Region::reserve(3 * PAGE_BYTES + 1).unwrap();
        assert_eq!(region.len(), 4 * PAGE_BYTES);
        assert!(region.iter().all(|byte| *byte == 0));
        region[PAGE_BYTES - 2..PAGE_BYTES + 2].copy_from_slice(b"abcd");
        assert_eq!(&region[PAGE_BYTES - 2..PAGE_BYTES + 2], b"abcd");
    }

    #[test]
    fn giving_back_does_the_same_as_a_zeroed_vector() {
        let len = 4 * PAGE_BYTES;
        for (at, bytes) in [(0, len), (1, len - 1), (PAGE_BYTES, PAGE_BYTES), (5, 10), (PAGE_BYTES - 1, 2)] {
            let mut region = Region::reserve(len).unwrap();
            let mut oracle = owned::Bytes::reserve(len).unwrap();
            region.fill(7);
            oracle.as_mut_slice().fill(7);
            region.give_back(at, bytes);
            let first = at.next_multiple_of(PAGE_BYTES);
            let last = (at + bytes) / PAGE_BYTES * PAGE_BYTES;
            if first < last {
                oracle.give_back(first, last - first);
            }
            assert_eq!(&region[..], oracle.as_slice());
        }
    }

    #[test]
    #[should_panic(expected = "range within the region")]
    fn giving_back_past_the_end_is_refused() {
        Region::reserve(PAGE_BYTES).unwrap().give_back(1, PAGE_BYTES);
    }

    #[cfg(not(miri))]
    #[test]
    fn a_reservation_far_over_the_machine_costs_nothing() {
        let mut region = Region::reserve(1 << 40).unwrap();
        region[(1 << 40) - 1] = 1;
        assert_eq!(region[(1 << 40) - 1], 1);
    }
}
