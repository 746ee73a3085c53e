//! Runs of whole pages from one reserved stretch of address space.
//!
//! [`Pages`] hands out [`Run`]s: bytes of one owner that may be sent to and dropped on any thread. What
//! they hold at first is arbitrary: zeros, or what an earlier run left. The kernel commits a page when
//! it is first written. A bounded number of pages that runs have left stay *warm*, committed and
//! counted, and are handed out first: to commit them anew would cost as much as receiving their bytes.
//! The others go back to the system a slice at a time. No run costs a mapping of its own. The stretch
//! is to be several times what is ever alive, for address space is free: with holes chosen by best fit,
//! it does not run out while physical memory lasts.
//!
//! Who holds which pages is noted under a lock, for the time of a look into two ordered sets: well
//! under a microsecond, for values whose bytes take ten times that to arrive. The system call is made
//! outside it. Invariant: a page belongs to one run, or to one hole, or is being given back; what is
//! committed belongs to a run or to a warm hole.
//!
//! Under miri, which knows no `mmap`, the stretch is a zeroed allocation with the same face. Under loom
//! it is one too, and `loom_tests` shows that no page has two owners at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, PoisonError};

#[cfg(all(loom, test))]
use loom::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};
#[cfg(not(all(loom, test)))]
use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use super::region::PAGE_BYTES;

#[cfg(not(any(miri, all(loom, test))))]
use mapped as backing;
#[cfg(all(loom, test))]
use modelled as backing;
#[cfg(miri)]
use owned as backing;

/// Pages given back to the system at a time: about 100 µs for 2 MiB. One under loom, which follows each
/// of them.
const SLICE_PAGES: u32 = if cfg!(all(loom, test)) { 1 } else { 2 * 1_024 * 1_024 / PAGE_BYTES as u32 };

/// With so many more pages warm than may be, runs come faster than slices go, and whoever drops one
/// gives as much back.
const LATE_PAGES: u64 = if cfg!(all(loom, test)) { 1 } else { 8 * SLICE_PAGES as u64 };

/// A stretch of address space and who has which part of it.
#[derive(Debug)]
pub struct Pages {
    stretch: backing::Stretch,
    book: Mutex<Book>,
    /// Bytes of all runs and of all warm pages.
    held_bytes: AtomicU64,
    warm_pages: AtomicU64,
    warm_pages_max: u64,
}

/// The pages that no run has.
#[derive(Debug, Default)]
struct Book {
    cold: Holes,
    warm: Holes,
}

/// Numbers of pages, never their bytes.
#[derive(Debug, Default)]
struct Holes {
    /// Length of each hole by its first page. No two of them touch.
    holes: BTreeMap<u32, u32>,
    /// The same as (length, first page).
    by_length: BTreeSet<(u32, u32)>,
}

impl Holes {
    /// Takes this many pages from the shortest hole that has them, the first of its length.
    fn take(&mut self, pages: u32) -> Option<u32> {
        let (length, first) = self.by_length.range((pages, 0)..).next().copied()?;
        self.remove(first, length);
        if length > pages {
            self.insert(first + pages, length - pages);
        }
        Some(first)
    }

    /// Takes a slice of the longest hole.
    fn take_slice(&mut self) -> Option<(u32, u32)> {
        let pages = self.by_length.last()?.0.min(SLICE_PAGES);
        let (length, first) = self.by_length.last().copied()?;
        self.remove(first, length);
        if length > pages {
            self.insert(first, length - pages);
        }
        Some((first + length - pages, pages))
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
    /// Reserves this many bytes of address space, in whole pages, of which so many may stay warm.
    ///
    /// # Errors
    /// What `mmap` answers: no address space left, or over the process's limit on it.
    pub fn reserve(bytes: usize, warm_bytes_max: u64) -> io::Result<Arc<Pages>> {
        let pages =
            u32::try_from(bytes.div_ceil(PAGE_BYTES).max(1)).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut book = Book::default();
        book.cold.put(0, pages);
        Ok(Arc::new(Pages {
            stretch: backing::Stretch::reserve(pages as usize * PAGE_BYTES)?,
            book: Mutex::new(book),
            held_bytes: AtomicU64::new(0),
            warm_pages: AtomicU64::new(0),
            warm_pages_max: warm_bytes_max / PAGE_BYTES as u64,
        }))
    }

    /// A run of at least this many bytes, in whole pages. `None` when no hole is that long.
    pub fn allocate(self: &Arc<Pages>, bytes: usize) -> Option<Run> {
        let pages = u32::try_from(bytes.div_ceil(PAGE_BYTES)).ok()?;
        let mut first = 0;
        if pages > 0 {
            let (page, is_warm) = self.with_book(|book| match book.warm.take(pages) {
                Some(page) => Some((page, true)),
                None => book.cold.take(pages).map(|page| (page, false)),
            })?;
            first = page;
            if is_warm {
                self.warm_pages.fetch_sub(u64::from(pages), Ordering::Relaxed);
            } else {
                self.held_bytes.fetch_add(bytes_of(pages), Ordering::Relaxed);
            }
        }
        Some(Run { owner: Arc::clone(self), first, pages })
    }

    /// Bytes of all runs, committed or not, and of all warm pages.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Whether more pages are warm than may stay so.
    pub fn is_over(&self) -> bool {
        self.warm_pages.load(Ordering::Relaxed) > self.warm_pages_max
    }

    /// Gives a slice of the warm pages back to the system if too many are.
    pub fn give_back_slice(&self) {
        if !self.is_over() {
            return;
        }
        let Some((first, pages)) = self.with_book(|book| book.warm.take_slice()) else { return };
        self.warm_pages.fetch_sub(u64::from(pages), Ordering::Relaxed);
        // SAFETY: the pages were in a hole, and are in none until they are given back: nothing
        // refers to them.
        unsafe { self.stretch.give_back(first as usize * PAGE_BYTES, pages as usize * PAGE_BYTES) };
        self.with_book(|book| book.cold.put(first, pages));
        self.held_bytes.fetch_sub(bytes_of(pages), Ordering::Relaxed);
    }

    /// Takes pages back that no run has any more.
    fn release(&self, first: u32, pages: u32) {
        if pages == 0 {
            return;
        }
        self.with_book(|book| {
            book.warm.put(first, pages);
            // Counted before anybody else can take them.
            self.warm_pages.fetch_add(u64::from(pages), Ordering::Relaxed);
        });
        let late = |warm: u64| warm > self.warm_pages_max + LATE_PAGES;
        let mut left = pages;
        while left > 0 && late(self.warm_pages.load(Ordering::Relaxed)) {
            self.give_back_slice();
            left = left.saturating_sub(SLICE_PAGES);
        }
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

#[cfg(not(any(miri, all(loom, test))))]
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
            debug_assert!(given.is_ok(), "{given:?}");
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
#[cfg_attr(not(any(miri, loom)), allow(dead_code))] // built along, so that it does not rot
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

/// An allocation, and for each of its pages a cell that tells when two touch it without one having
/// waited for the other.
#[cfg(all(loom, test))]
mod modelled {
    use std::io;
    use std::ptr::NonNull;

    use loom::cell::UnsafeCell;

    use super::{PAGE_BYTES, owned};

    #[derive(Debug)]
    pub struct Stretch {
        memory: owned::Stretch,
        cells: Box<[UnsafeCell<()>]>,
    }

    // SAFETY: the cells hold nothing; that they are touched by one thread at a time is what they check.
    unsafe impl Sync for Stretch {}

    impl Stretch {
        pub fn reserve(len: usize) -> io::Result<Stretch> {
            let cells = (0..len / PAGE_BYTES).map(|_| UnsafeCell::new(())).collect();
            Ok(Stretch { memory: owned::Stretch::reserve(len)?, cells })
        }

        pub fn start(&self) -> NonNull<u8> {
            self.memory.start()
        }

        /// What writing to these pages is to loom.
        pub fn touch(&self, first: usize, pages: usize) {
            self.cells[first..first + pages].iter().for_each(|cell| cell.with_mut(|_| ()));
        }

        /// Makes these bytes zeros.
        ///
        /// # Safety
        /// They are whole pages of the stretch, and nothing refers to them.
        pub unsafe fn give_back(&self, at: usize, len: usize) {
            self.touch(at / PAGE_BYTES, len / PAGE_BYTES);
            // SAFETY: the caller's promise is the same.
            unsafe { self.memory.give_back(at, len) };
        }
    }
}

#[cfg(all(loom, test))]
mod loom_tests {
    use std::sync::Arc;

    use loom::sync::atomic::Ordering;
    use loom::thread;

    use super::{LATE_PAGES, PAGE_BYTES, Pages, Run};

    /// Writes to all of a run, as far as loom can see.
    fn touch(run: &Run) {
        run.owner.stretch.touch(run.first as usize, run.pages as usize);
    }

    /// Two runs are dropped on other threads while this one does `meanwhile`; in the end every page is
    /// in one hole and the counts are right. In every interleaving with up to three preemptions, which
    /// takes seconds, where all of them take many minutes.
    fn drop_two(pages: usize, run_pages: usize, warm_pages_max: usize, meanwhile: fn(&Arc<Pages>)) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || {
            let owner = Pages::reserve(pages * PAGE_BYTES, (warm_pages_max * PAGE_BYTES) as u64).unwrap();
            let droppers = [0; 2].map(|_| {
                let run = owner.allocate(run_pages * PAGE_BYTES).unwrap();
                touch(&run);
                thread::spawn(move || {
                    touch(&run);
                    drop(run);
                })
            });
            meanwhile(&owner);
            droppers.into_iter().for_each(|dropper| dropper.join().unwrap());
            let warm = owner.warm_pages.load(Ordering::Relaxed);
            assert_eq!(owner.held_bytes(), warm * PAGE_BYTES as u64);
            owner.with_book(|book| {
                assert_eq!(book.warm.holes.values().map(|pages| u64::from(*pages)).sum::<u64>(), warm);
                let cold: u32 = book.cold.holes.values().sum();
                assert_eq!(u64::from(cold) + warm, pages as u64);
            });
        });
    }

    /// `RUSTFLAGS="--cfg loom" cargo test --lib raw::pages`
    #[test]
    fn pages_that_others_drop_are_taken_only_when_they_are_done() {
        drop_two(5, 2, 4, |owner| {
            // One page is left, unless a run was dropped.
            if let Some(run) = owner.allocate(2 * PAGE_BYTES) {
                touch(&run);
            }
        });
    }

    #[test]
    fn pages_on_their_way_back_to_the_system_are_nobody_elses() {
        drop_two(2, 1, 0, |owner| {
            owner.give_back_slice();
            if let Some(run) = owner.allocate(PAGE_BYTES) {
                touch(&run);
            }
        });
    }

    #[test]
    fn two_who_are_late_give_back_no_page_twice() {
        let run_pages = LATE_PAGES as usize / 2 + 1;
        drop_two(2 * run_pages, run_pages, 0, |_| ());
    }
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use proptest::prelude::{Strategy, any, prop};
    use proptest::test_runner::{Config, TestRunner};

    #[cfg(not(miri))]
    use super::{LATE_PAGES, SLICE_PAGES};
    use super::{PAGE_BYTES, Pages, Run};

    const STRETCH_PAGES: usize = 64;

    /// Every so many bytes are looked at: miri takes its time for each.
    const STRIDE: usize = if cfg!(miri) { 1_021 } else { 1 };

    /// What is known of a run: itself, and the byte all of it was filled with.
    type Known = (Run, u8);

    fn stretch(pages: usize) -> Arc<Pages> {
        Pages::reserve(pages * PAGE_BYTES, u64::MAX).unwrap()
    }

    /// Every page is in one run or in one hole, and no two holes of a kind touch.
    fn check(pages: &Pages, runs: &[Known]) {
        let mut owners = [0; STRETCH_PAGES];
        let mut own = |first: u32, pages: u32| {
            owners[first as usize..][..pages as usize].iter_mut().for_each(|owners| *owners += 1);
        };
        runs.iter().for_each(|(run, _)| own(run.first, run.pages));
        let book = pages.book.lock().unwrap();
        for kind in [&book.cold, &book.warm] {
            let mut end = None;
            for (first, length) in &kind.holes {
                assert!(end != Some(*first) && *length > 0, "{kind:?}");
                end = Some(first + length);
                own(*first, *length);
            }
            assert_eq!(kind.by_length, kind.holes.iter().map(|(first, length)| (*length, *first)).collect());
        }
        assert_eq!(owners, [1; STRETCH_PAGES]);
        let warm: u32 = book.warm.holes.values().sum();
        assert_eq!(pages.warm_pages.load(Ordering::Relaxed), u64::from(warm));
        let held: usize = runs.iter().map(|(run, _)| run.len()).sum();
        assert_eq!(pages.held_bytes() as usize, held + warm as usize * PAGE_BYTES);
        for (run, byte) in runs {
            assert!(run.iter().step_by(STRIDE).all(|other| other == byte));
        }
    }

    fn longest_hole(pages: &Pages) -> usize {
        let book = pages.book.lock().unwrap();
        let longest = [&book.cold, &book.warm].map(|kind| kind.by_length.last().map_or(0, |hole| hole.0));
        longest.into_iter().max().unwrap_or(0) as usize
    }

    #[test]
    fn every_page_is_in_one_run_or_in_one_hole() {
        let cases = if cfg!(miri) { 2 } else { 200 };
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        // A kind, which of the runs, and how many bytes.
        let step = (0..5_u8, any::<prop::sample::Index>(), 0..20 * PAGE_BYTES);
        runner
            .run(&prop::collection::vec(step, 1..60).no_shrink(), |steps| {
                let pages = Pages::reserve(STRETCH_PAGES * PAGE_BYTES, 8 * PAGE_BYTES as u64).unwrap();
                let mut runs: Vec<Known> = Vec::new();
                for (number, (kind, which, bytes)) in steps.into_iter().enumerate() {
                    match kind {
                        0 | 1 => {
                            let longest = longest_hole(&pages);
                            let run = pages.allocate(bytes);
                            assert_eq!(run.is_some(), bytes.div_ceil(PAGE_BYTES) <= longest);
                            if let Some(mut run) = run {
                                assert!(run.len() >= bytes && run.len() < bytes + PAGE_BYTES);
                                run.fill(number as u8 + 1);
                                runs.push((run, number as u8 + 1));
                            }
                        }
                        2 if !runs.is_empty() => drop(runs.swap_remove(which.index(runs.len()))),
                        3 if !runs.is_empty() => {
                            let at = which.index(runs.len());
                            runs[at].0.truncate(bytes);
                        }
                        4 => pages.give_back_slice(),
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
        // The first, third and fifth of them leave holes.
        let _kept: Vec<Run> = runs.into_iter().skip(1).step_by(2).collect();
        assert_eq!(pages.allocate(2 * PAGE_BYTES).unwrap().first, 5);
        assert_eq!(pages.allocate(3 * PAGE_BYTES).unwrap().first, 8);
        assert_eq!(pages.allocate(4 * PAGE_BYTES).unwrap().first, 0);
        assert_eq!(pages.allocate(5 * PAGE_BYTES).unwrap().first, 12);
    }

    #[cfg(not(miri))]
    #[test]
    fn what_may_not_stay_warm_goes_back_in_slices_and_reads_as_zeros() {
        let slice = SLICE_PAGES as usize * PAGE_BYTES;
        let pages = Pages::reserve(8 * slice, slice as u64).unwrap();
        let mut run = pages.allocate(3 * slice).unwrap();
        run.fill(1);
        drop(run);
        assert_eq!(pages.held_bytes() as usize, 3 * slice);
        pages.give_back_slice();
        assert!(pages.is_over());
        pages.give_back_slice();
        assert!(!pages.is_over());
        pages.give_back_slice();
        assert_eq!(pages.held_bytes() as usize, slice);
        // What stayed is handed out first.
        assert!(pages.allocate(slice).unwrap().iter().all(|byte| *byte == 1));
        assert!(pages.allocate(7 * slice).unwrap().iter().all(|byte| *byte == 0));
    }

    #[cfg(not(miri))]
    #[test]
    fn what_waits_is_bounded() {
        let late = LATE_PAGES as usize * PAGE_BYTES;
        let pages = Pages::reserve(8 * late, 0).unwrap();
        let runs = [0; 4].map(|_| pages.allocate(late).unwrap());
        drop(runs);
        assert_eq!(pages.held_bytes() as usize, late);
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
        let book = pages.book.lock().unwrap();
        let warm: u32 = book.warm.holes.values().sum();
        assert_eq!(pages.held_bytes(), u64::from(warm) * PAGE_BYTES as u64);
        assert_eq!(book.cold.holes.values().sum::<u32>() + warm, 8 * PAGES as u32);
    }
}
