//! Runs of whole pages from one reserved stretch of address space.
//!
//! [`Pages`] hands out [`Run`]s: bytes of one owner, all zero at first, that may be sent to and dropped
//! on any thread. The kernel commits a page when it is first written; what a run took goes back to the
//! system when it is dropped, so nothing of it lingers in an allocator, and no run costs a mapping of
//! its own. The stretch is to be several times what is ever alive, for address space is free: with
//! holes chosen by best fit, it does not run out while physical memory lasts.
//!
//! Who holds which pages is noted under a lock, for the time of a look into two ordered sets: well
//! under a microsecond, for values whose bytes take a hundred times that to arrive. The system call is
//! made outside it. Invariant: a page belongs to one run, or is free, or waits to be given back; those
//! that are free read as zeros.
//!
//! Under miri, which knows no `mmap`, the stretch is a zeroed allocation with the same face.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::region::PAGE_BYTES;

#[cfg(not(miri))]
use mapped as backing;
#[cfg(miri)]
use owned as backing;

/// So much of a run is given back when it is dropped: about 100 µs for 2 MiB (PERF.md). The rest of a
/// longer one waits for [`Pages::give_back_slice`], which does as much at a time.
const SLICE_PAGES: u32 = 2 * 1_024 * 1_024 / PAGE_BYTES as u32;

/// With more than this waiting, runs come faster than slices go, and each is given back as a whole.
const WAITING_PAGES_MAX: u64 = 16 * 1_024 * 1_024 / PAGE_BYTES as u64;

/// A stretch of address space and who has which part of it.
#[derive(Debug)]
pub struct Pages {
    stretch: backing::Stretch,
    book: Mutex<Book>,
    /// Bytes of all runs, and of what waits to be given back.
    held_bytes: AtomicU64,
    waiting_pages: AtomicU64,
}

/// Numbers of pages, never their bytes.
#[derive(Debug, Default)]
struct Book {
    /// Length of each hole by its first page. No two of them touch.
    holes: BTreeMap<u32, u32>,
    /// The same as (length, first page).
    by_length: BTreeSet<(u32, u32)>,
    /// First page and length of what is to be given back in slices.
    waiting: Vec<(u32, u32)>,
}

impl Book {
    /// Takes this many pages from the shortest hole that has them, the first of its length.
    fn take(&mut self, pages: u32) -> Option<u32> {
        let (length, first) = self.by_length.range((pages, 0)..).next().copied()?;
        self.remove(first, length);
        if length > pages {
            self.insert(first + pages, length - pages);
        }
        Some(first)
    }

    /// Makes a hole of pages that were taken, together with those beside them.
    fn put(&mut self, mut first: u32, mut pages: u32) {
        if let Some((before, length)) =
            self.holes.range(..first).next_back().map(|(at, length)| (*at, *length))
        {
            assert!(before + length <= first, "given back twice");
            if before + length == first {
                self.remove(before, length);
                (first, pages) = (before, length + pages);
            }
        }
        if let Some((after, length)) = self.holes.range(first..).next().map(|(at, length)| (*at, *length)) {
            assert!(first + pages <= after, "given back twice");
            if first + pages == after {
                self.remove(after, length);
                pages += length;
            }
        }
        self.insert(first, pages);
    }

    fn insert(&mut self, first: u32, pages: u32) {
        self.holes.insert(first, pages);
        self.by_length.insert((pages, first));
    }

    fn remove(&mut self, first: u32, pages: u32) {
        self.holes.remove(&first);
        self.by_length.remove(&(pages, first));
    }
}

impl Pages {
    /// Reserves this many bytes of address space, in whole pages.
    ///
    /// # Errors
    /// What `mmap` answers: no address space left, or over the process's limit on it.
    pub fn reserve(bytes: usize) -> io::Result<Arc<Pages>> {
        let pages =
            u32::try_from(bytes.div_ceil(PAGE_BYTES).max(1)).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut book = Book::default();
        book.put(0, pages);
        Ok(Arc::new(Pages {
            stretch: backing::Stretch::reserve(pages as usize * PAGE_BYTES)?,
            book: Mutex::new(book),
            held_bytes: AtomicU64::new(0),
            waiting_pages: AtomicU64::new(0),
        }))
    }

    /// A run of at least this many bytes, in whole pages, all of them zero. `None` when no hole is
    /// that long.
    pub fn allocate(self: &Arc<Pages>, bytes: usize) -> Option<Run> {
        let pages = u32::try_from(bytes.div_ceil(PAGE_BYTES)).ok()?;
        let first = if pages == 0 { 0 } else { self.with_book(|book| book.take(pages))? };
        self.held_bytes.fetch_add(bytes_of(pages), Ordering::Relaxed);
        Some(Run { owner: Arc::clone(self), first, pages })
    }

    /// Bytes of all runs, committed or not, and of what waits to be given back.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Whether [`Pages::give_back_slice`] has anything to do.
    pub fn is_waiting(&self) -> bool {
        self.waiting_pages.load(Ordering::Relaxed) > 0
    }

    /// Gives a bounded part of what waits back to the system.
    pub fn give_back_slice(&self) {
        if !self.is_waiting() {
            return;
        }
        let slice = self.with_book(|book| {
            let (first, pages) = book.waiting.pop()?;
            let slice = pages.min(SLICE_PAGES);
            if slice < pages {
                book.waiting.push((first + slice, pages - slice));
            }
            Some((first, slice))
        });
        if let Some((first, pages)) = slice {
            self.waiting_pages.fetch_sub(u64::from(pages), Ordering::Relaxed);
            self.give_back(first, pages);
        }
    }

    /// Takes pages back that no run has any more.
    fn release(&self, first: u32, pages: u32) {
        let is_late = self.waiting_pages.load(Ordering::Relaxed) > WAITING_PAGES_MAX;
        let at_once = if is_late { pages } else { pages.min(SLICE_PAGES) };
        if at_once > 0 {
            self.give_back(first, at_once);
        }
        if at_once < pages {
            self.waiting_pages.fetch_add(u64::from(pages - at_once), Ordering::Relaxed);
            self.with_book(|book| book.waiting.push((first + at_once, pages - at_once)));
        }
    }

    fn give_back(&self, first: u32, pages: u32) {
        // SAFETY: the pages were a run's, which is gone or has let go of them, and are not free yet:
        // nothing refers to them.
        unsafe { self.stretch.give_back(first as usize * PAGE_BYTES, pages as usize * PAGE_BYTES) };
        self.with_book(|book| book.put(first, pages));
        self.held_bytes.fetch_sub(bytes_of(pages), Ordering::Relaxed);
    }

    fn with_book<T>(&self, work: impl FnOnce(&mut Book) -> T) -> T {
        work(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn bytes_of(pages: u32) -> u64 {
    u64::from(pages) * PAGE_BYTES as u64
}

/// Pages of one owner.
#[derive(Debug)]
pub struct Run {
    owner: Arc<Pages>,
    first: u32,
    pages: u32,
}

impl Run {
    /// Keeps as many pages as hold this many bytes and gives the others back.
    pub fn truncate(&mut self, bytes: usize) {
        let kept = bytes.div_ceil(PAGE_BYTES).min(self.pages as usize) as u32;
        let (end, over) = (self.first + kept, self.pages - kept);
        self.pages = kept;
        if over > 0 {
            self.owner.release(end, over);
        }
    }

    fn start(&self) -> NonNull<u8> {
        // SAFETY: `first` is a page of the stretch, or 0 for a run without any.
        unsafe { self.owner.stretch.start().add(self.first as usize * PAGE_BYTES) }
    }

    fn len(&self) -> usize {
        self.pages as usize * PAGE_BYTES
    }
}

impl Deref for Run {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the pages are this run's alone, within the stretch, which `owner` keeps; they are
        // initialised at all times, and only `&mut self` writes to them.
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), self.len()) }
    }
}

impl DerefMut for Run {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes this the only reference to them.
        unsafe { std::slice::from_raw_parts_mut(self.start().as_ptr(), self.len()) }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.owner.release(self.first, self.pages);
    }
}

#[cfg(not(miri))]
mod mapped {
    use std::io;
    use std::ptr::NonNull;

    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

    #[derive(Debug)]
    pub struct Stretch {
        start: NonNull<u8>,
        len: usize,
    }

    // SAFETY: the mapping has one owner, this value, and no ties to the thread that made it.
    unsafe impl Send for Stretch {}
    // SAFETY: through a shared reference its bytes are reached only by `unsafe` means.
    unsafe impl Sync for Stretch {}

    impl Stretch {
        pub fn reserve(len: usize) -> io::Result<Stretch> {
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            // SAFETY: a new mapping at a place of the kernel's choice touches no other memory.
            let start = unsafe {
                mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags)
            }?;
            // A huge page would commit what nobody asked for and nobody counts. A kernel that knows
            // none refuses.
            // SAFETY: the range is the new mapping; the advice changes no byte of it.
            let _ = unsafe { madvise(start, len, Advice::LinuxNoHugepage) };
            let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
            Ok(Stretch { start, len })
        }

        pub fn start(&self) -> NonNull<u8> {
            self.start
        }

        /// Commits these bytes to nothing: they are zeros.
        ///
        /// # Safety
        /// They are whole pages of the stretch, and nothing refers to them.
        pub unsafe fn give_back(&self, at: usize, len: usize) {
            debug_assert!(at + len <= self.len);
            // SAFETY: the caller keeps the range within the mapping and free of references.
            let given = unsafe { madvise(self.start.as_ptr().add(at).cast(), len, Advice::LinuxDontNeed) };
            // Not given back, they would not be zeros for whoever comes next.
            assert!(given.is_ok(), "{given:?}");
        }
    }

    impl Drop for Stretch {
        fn drop(&mut self) {
            // SAFETY: the mapping is this value's own and nothing can refer to it any more.
            let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
            debug_assert!(unmapped.is_ok(), "{unmapped:?}");
        }
    }
}

#[cfg(any(miri, test))]
#[cfg_attr(not(miri), allow(dead_code))] // built along, so that it does not rot
mod owned {
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::io;
    use std::ptr::NonNull;

    use super::PAGE_BYTES;

    #[derive(Debug)]
    pub struct Stretch {
        start: NonNull<u8>,
        layout: Layout,
    }

    // SAFETY: the allocation has one owner, this value, and no ties to the thread that made it.
    unsafe impl Send for Stretch {}
    // SAFETY: through a shared reference its bytes are reached only by `unsafe` means.
    unsafe impl Sync for Stretch {}

    impl Stretch {
        pub fn reserve(len: usize) -> io::Result<Stretch> {
            let layout = Layout::from_size_align(len, PAGE_BYTES).map_err(|_| io::ErrorKind::OutOfMemory)?;
            // SAFETY: `Pages` reserves at least a page.
            let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(io::ErrorKind::OutOfMemory)?;
            Ok(Stretch { start, layout })
        }

        pub fn start(&self) -> NonNull<u8> {
            self.start
        }

        /// Makes these bytes zeros.
        ///
        /// # Safety
        /// They are whole pages of the stretch, and nothing refers to them.
        pub unsafe fn give_back(&self, at: usize, len: usize) {
            // SAFETY: the caller keeps the range within the allocation and free of references.
            unsafe { self.start.as_ptr().add(at).write_bytes(0, len) };
        }
    }

    impl Drop for Stretch {
        fn drop(&mut self) {
            // SAFETY: allocated with this layout, and nothing can refer to it any more.
            unsafe { dealloc(self.start.as_ptr(), self.layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::{Strategy, any, prop};
    use proptest::test_runner::{Config, TestRunner};

    use super::{PAGE_BYTES, Pages, Run};
    #[cfg(not(miri))]
    use super::{SLICE_PAGES, WAITING_PAGES_MAX};

    const STRETCH_PAGES: usize = 64;

    /// Every so many bytes are looked at: miri takes its time for each.
    const STRIDE: usize = if cfg!(miri) { 1_021 } else { 1 };

    /// What is known of a run: itself, and the byte all of it was filled with.
    type Known = (Run, u8);

    fn stretch(pages: usize) -> Arc<Pages> {
        Pages::reserve(pages * PAGE_BYTES).unwrap()
    }

    /// The holes, by a naive look at which pages no run has.
    fn holes(runs: &[Known]) -> Vec<(u32, u32)> {
        let mut taken = [false; STRETCH_PAGES];
        for (run, _) in runs {
            for page in run.first..run.first + run.pages {
                assert!(!std::mem::replace(&mut taken[page as usize], true), "page {page} has two owners");
            }
        }
        let mut holes: Vec<(u32, u32)> = Vec::new();
        for page in (0..STRETCH_PAGES as u32).filter(|page| !taken[*page as usize]) {
            match holes.last_mut() {
                Some((first, pages)) if *first + *pages == page => *pages += 1,
                _ => holes.push((page, 1)),
            }
        }
        holes
    }

    fn check(pages: &Pages, runs: &[Known]) {
        let expected = holes(runs);
        let book = pages.book.lock().unwrap();
        let found: Vec<(u32, u32)> = book.holes.iter().map(|(at, length)| (*at, *length)).collect();
        assert_eq!(found, expected);
        assert_eq!(book.by_length, found.iter().map(|(at, length)| (*length, *at)).collect());
        let held: usize = runs.iter().map(|(run, _)| run.len()).sum();
        assert_eq!(pages.held_bytes(), held as u64);
        for (run, byte) in runs {
            assert!(run.iter().step_by(STRIDE).all(|other| other == byte));
        }
    }

    #[test]
    fn runs_never_overlap_start_as_zeros_and_leave_what_a_naive_book_says() {
        let cases = if cfg!(miri) { 2 } else { 200 };
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        // A kind, which of the runs, and how many bytes.
        let step = (0..4_u8, any::<prop::sample::Index>(), 0..20 * PAGE_BYTES);
        runner
            .run(&prop::collection::vec(step, 1..60).no_shrink(), |steps| {
                let pages = stretch(STRETCH_PAGES);
                let mut runs: Vec<Known> = Vec::new();
                for (number, (kind, which, bytes)) in steps.into_iter().enumerate() {
                    match kind {
                        0 | 1 => {
                            let longest = holes(&runs).iter().map(|(_, pages)| *pages).max().unwrap_or(0);
                            let run = pages.allocate(bytes);
                            assert_eq!(run.is_some(), bytes.div_ceil(PAGE_BYTES) <= longest as usize);
                            if let Some(mut run) = run {
                                assert!(run.len() >= bytes && run.len() < bytes + PAGE_BYTES);
                                assert!(run.iter().step_by(STRIDE).all(|byte| *byte == 0));
                                run.fill(number as u8 + 1);
                                runs.push((run, number as u8 + 1));
                            }
                        }
                        2 if !runs.is_empty() => drop(runs.swap_remove(which.index(runs.len()))),
                        3 if !runs.is_empty() => {
                            let at = which.index(runs.len());
                            runs[at].0.truncate(bytes);
                        }
                        _ => {}
                    }
                    check(&pages, &runs);
                }
                runs.clear();
                check(&pages, &runs);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn the_shortest_hole_that_is_long_enough_is_taken() {
        let pages = stretch(STRETCH_PAGES);
        let runs: Vec<Run> =
            [4, 1, 2, 1, 3, 1].iter().map(|n| pages.allocate(n * PAGE_BYTES).unwrap()).collect();
        let mut runs: Vec<Option<Run>> = runs.into_iter().map(Some).collect();
        for hole in [0, 2, 4] {
            runs[hole] = None;
        }
        assert_eq!(pages.allocate(2 * PAGE_BYTES).unwrap().first, 5);
        assert_eq!(pages.allocate(3 * PAGE_BYTES).unwrap().first, 8);
        assert_eq!(pages.allocate(4 * PAGE_BYTES).unwrap().first, 0);
        assert_eq!(pages.allocate(5 * PAGE_BYTES).unwrap().first, 12);
    }

    #[cfg(not(miri))]
    #[test]
    fn a_very_long_run_goes_back_in_slices() {
        let slice = SLICE_PAGES as usize * PAGE_BYTES;
        let pages = stretch(4 * SLICE_PAGES as usize);
        let mut run = pages.allocate(2 * slice + PAGE_BYTES).unwrap();
        run.fill(1);
        drop(run);
        assert_eq!(pages.held_bytes() as usize, slice + PAGE_BYTES);
        pages.give_back_slice();
        assert_eq!(pages.held_bytes() as usize, PAGE_BYTES);
        assert!(pages.is_waiting());
        pages.give_back_slice();
        assert_eq!(pages.held_bytes(), 0);
        assert!(!pages.is_waiting());
        assert!(pages.allocate(4 * slice).unwrap().iter().step_by(PAGE_BYTES).all(|byte| *byte == 0));
    }

    #[cfg(not(miri))]
    #[test]
    fn what_waits_is_bounded() {
        let bytes = 2 * WAITING_PAGES_MAX as usize * PAGE_BYTES;
        let pages = Pages::reserve(2 * bytes).unwrap();
        let (long, other) = (pages.allocate(bytes).unwrap(), pages.allocate(bytes).unwrap());
        drop(long);
        let waiting = pages.held_bytes() as usize - bytes;
        assert_eq!(waiting, bytes - SLICE_PAGES as usize * PAGE_BYTES);
        drop(other);
        assert_eq!(pages.held_bytes() as usize, waiting);
    }

    #[test]
    fn runs_may_be_dropped_on_other_threads() {
        const PAGES: usize = 64;
        let rounds = if cfg!(miri) { 10 } else { 1_000 };
        // Four threads that fill, each with one run at hand and one under way to be dropped elsewhere.
        let pages = stretch(8 * PAGES);
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let (sender, receiver) = std::sync::mpsc::sync_channel::<Run>(0);
                let pages = &pages;
                scope.spawn(move || {
                    for round in 0..rounds {
                        let mut run = pages.allocate((1 + round % 7) * PAGE_BYTES).unwrap();
                        assert!(run.iter().step_by(STRIDE).all(|byte| *byte == 0));
                        run.fill(thread + 1);
                        sender.send(run).unwrap();
                    }
                });
                scope.spawn(move || {
                    for run in receiver {
                        assert!(run.iter().step_by(STRIDE).all(|byte| *byte == thread + 1));
                    }
                });
            }
        });
        assert_eq!(pages.held_bytes(), 0);
        assert_eq!(pages.book.lock().unwrap().holes.len(), 1);
    }
}
