//! The log: segments of one region, filled one after the other by two queues.
//!
//! New entries go to the small queue, those that proved their worth to the main one (S3-FIFO, see
//! `eviction`). Each queue appends to its open segment and seals it when the next entry does not
//! fit; sealed segments stand in the order they were opened. The log places, finds and counts
//! bytes; it knows neither keys nor what an entry is worth, and never decides what goes.
//!
//! Invariants: a segment's bytes from 0 to `used` are whole entries without gaps; `dead` is how many
//! of them belong to entries marked dead; a segment is in exactly one place: free, open, in the
//! order of its queue, or taken out of it to be reclaimed. Nothing is allocated after `new`.

use std::collections::VecDeque;
use std::io;

use super::entry::{self, HEADER_BYTES_MAX, Header};
use crate::clock::Version;
use crate::raw::{prefetch, region::Region};

/// Smallest and largest segment. Smaller ones give small shards enough of them; larger ones would
/// make a whole-segment stop too long.
const SEGMENT_BYTES_MIN: u64 = 128 * 1_024;
const SEGMENT_BYTES_MAX: u64 = 1_024 * 1_024;

/// A shard has at least this many segments, unless they would be too small: the spare and the open ones
/// hold little, and with fewer they would be a large part of it.
const SEGMENTS_AIM: u64 = 512;

/// Lines prefetched behind the first one of an entry, at most.
const PREFETCH_LINES_MAX: u64 = 24;

/// Positions have this many bits, so that two bits of a slot are left for how often it was read.
pub const POSITION_BITS: u32 = 30;

/// Base of a segment, below the version of its first entry: the entries that are moved to the
/// segment later may be older, and those within 2.3 hours either way still take 5 bytes.
const VERSION_BASE_BELOW: u64 = 1 << 39;

/// Where an entry starts, in units of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(pub u32);

/// One of the two lines in which entries wait to be reclaimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Entries that are new.
    Small,
    /// Entries that were read again.
    Main,
}

/// What a segment is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// For nothing.
    Free,
    /// A queue appends to it.
    Open,
    /// Full, waiting in its queue's order.
    Sealed,
    /// Being reclaimed.
    Leaving,
}

/// What is known of a segment beside its bytes.
#[derive(Clone, Debug)]
pub struct Segment {
    /// What it is used for.
    pub state: State,
    /// The queue it belongs to, unless free.
    pub queue: Queue,
    /// Bytes filled.
    pub used: u32,
    /// Bytes of dead entries among them.
    pub dead: u32,
    /// What the sweep knows of it.
    pub sweep: SegmentSweep,
}

/// When a segment is worth a visit of the sweep; see `expiry`.
#[derive(Clone, Copy, Debug)]
pub struct SegmentSweep {
    /// No entry expires before this, in Unix milliseconds.
    pub first_expiry_ms: u64,
    /// Not visited before this, so that a segment with little to gain is not read over and over.
    pub rest_until_ms: u64,
    /// The present length of such a rest.
    pub rest_ms: u32,
    /// How many namespace drops there had been when it was opened or last swept.
    pub drops_seen: u64,
}

#[derive(Debug, Default)]
struct Line {
    order: VecDeque<u32>,
    open: Option<u32>,
    used_bytes: u64,
    large_bytes: u64,
}

/// How long the entries are that are written, as a moving average in 64ths of a byte.
///
/// What is prefetched of an entry before it is known how long it is goes by it. A value of 1 KiB that is
/// copied line by line as it comes from memory took a fifth of a request (PERF.md).
#[derive(Clone, Copy, Debug, Default)]
struct UsualLength(u64);

impl UsualLength {
    fn note(&mut self, bytes: u32) {
        self.0 = self.0 - self.0 / 64 + u64::from(bytes);
    }

    /// Lines behind the first one. Of long entries the processor sees by itself where they go on.
    #[inline]
    fn lines_more(self) -> u64 {
        const LINE: u64 = 64 * prefetch::LINE_BYTES as u64;
        self.0.div_ceil(LINE).clamp(1, PREFETCH_LINES_MAX)
    }
}

/// The segments and the region they lie in.
#[derive(Debug)]
pub struct Log {
    region: Region,
    usual: UsualLength,
    segments: Box<[Segment]>,
    /// Version base of each segment, apart from the rest so that lookups find them in the cache.
    bases: Box<[u64]>,
    segment_shift: u32,
    unit_shift: u32,
    small: Line,
    main: Line,
    /// Free segments whose memory is committed, and those whose memory is not.
    free_warm: Vec<u32>,
    free_cold: Vec<u32>,
    dead_bytes: u64,
}

/// An entry in the log: its header and the bytes from its start.
pub type Found<'a> = (Header, &'a [u8]);

impl Log {
    /// A log of at most this many bytes.
    pub fn new(memory_bytes: u64) -> io::Result<Log> {
        let aim = (memory_bytes / SEGMENTS_AIM).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        let segment_bytes = 1u64 << aim.ilog2();
        let count = memory_bytes.div_ceil(segment_bytes);
        let bytes = count * segment_bytes;
        let unit_shift = (bytes.next_power_of_two().trailing_zeros()).saturating_sub(POSITION_BITS);
        let count = u32::try_from(count).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // Reads of a whole header may start at any entry, so there is room for one past the end.
        let region = Region::reserve(bytes as usize + HEADER_BYTES_MAX)?;
        let line = || Line { order: VecDeque::with_capacity(count as usize), ..Line::default() };
        Ok(Log {
            region,
            usual: UsualLength::default(),
            segments: vec![Segment::FREE; count as usize].into(),
            bases: vec![0; count as usize].into(),
            segment_shift: segment_bytes.trailing_zeros(),
            unit_shift,
            small: line(),
            main: line(),
            free_warm: Vec::with_capacity(count as usize),
            free_cold: (0..count).rev().collect(),
            dead_bytes: 0,
        })
    }

    /// Size of a segment.
    pub fn segment_bytes(&self) -> u64 {
        1 << self.segment_shift
    }

    /// Logarithm of it.
    pub fn segment_shift(&self) -> u32 {
        self.segment_shift
    }

    /// What is known of all segments.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// What is known of one segment.
    pub fn segment(&self, segment: u32) -> &Segment {
        &self.segments[segment as usize]
    }

    /// The sweep's notes on a segment.
    pub fn sweep_mut(&mut self, segment: u32) -> &mut SegmentSweep {
        &mut self.segments[segment as usize].sweep
    }

    /// Bytes of the segments that hold entries.
    pub fn used_bytes(&self) -> u64 {
        ((self.segments.len() - self.free_warm.len() - self.free_cold.len()) as u64) << self.segment_shift
    }

    /// Bytes of the segments whose memory is committed.
    pub fn committed_bytes(&self) -> u64 {
        ((self.segments.len() - self.free_cold.len()) as u64) << self.segment_shift
    }

    /// Bytes of dead entries in all segments.
    pub fn dead_bytes(&self) -> u64 {
        self.dead_bytes
    }

    /// Memory that the notes on the segments take.
    pub fn overhead_bytes(&self) -> u64 {
        let each = size_of::<Segment>() + size_of::<u64>() + 4 * size_of::<u32>();
        (self.segments.len() * each) as u64
    }

    /// What both queues hold.
    pub fn queues_bytes(&self) -> u64 {
        self.queue_bytes(Queue::Small) + self.queue_bytes(Queue::Main)
    }

    /// What a queue holds: filled bytes of its segments and its large values.
    pub fn queue_bytes(&self, queue: Queue) -> u64 {
        let line = self.line(queue);
        line.used_bytes + line.large_bytes
    }

    /// The oldest segment of a queue: the first sealed one, else the open one.
    pub fn oldest(&self, queue: Queue) -> Option<u32> {
        let line = self.line(queue);
        line.order.front().copied().or(line.open.filter(|open| self.segment(*open).used > 0))
    }

    /// The segment a position lies in.
    #[inline]
    pub fn segment_of(&self, position: Position) -> u32 {
        (self.offset(position) >> self.segment_shift) as u32
    }

    /// Whether the entry at a position is that of this key.
    #[inline]
    pub fn is_of(&self, position: Position, space: u32, key: &[u8]) -> bool {
        entry::is_of(&self.region[self.offset(position)..], space, key)
    }

    /// The entry at a position.
    #[inline]
    pub fn entry(&self, position: Position) -> Found<'_> {
        let offset = self.offset(position);
        let bytes = &self.region[offset..];
        (Header::decode(bytes, self.bases[offset >> self.segment_shift]), bytes)
    }

    /// Version and value of the entry at a position, if it has neither expiry nor lock, coding nor type
    /// of its own, and a short value in the log.
    #[inline]
    pub fn usual_parts(&self, position: Position) -> Option<(Version, &[u8])> {
        let offset = self.offset(position);
        entry::usual_parts(&self.region[offset..], self.bases[offset >> self.segment_shift])
    }

    /// The position `at` bytes into a segment, which must be where an entry starts.
    pub fn position(&self, segment: u32, at: u32) -> Position {
        let offset = ((segment as usize) << self.segment_shift) + at as usize;
        Position((offset >> self.unit_shift) as u32)
    }

    /// Bytes that an entry takes in the log.
    #[inline]
    pub fn size(&self, header: &Header) -> u32 {
        self.round_up(header.len())
    }

    /// Fetches the lines in which the start of an entry lies.
    #[inline]
    pub fn prefetch(&self, position: Position) {
        let address = self.region.as_ptr().addr() + self.offset(position);
        prefetch::address(address);
        prefetch::address(address + prefetch::LINE_BYTES);
    }

    /// Fetches the lines in which all of an entry lies, if it is no longer than those written lately.
    #[inline]
    pub fn prefetch_whole(&self, position: Position) {
        let mut address = self.region.as_ptr().addr() + self.offset(position);
        prefetch::address(address);
        for _ in 0..self.usual.lines_more() {
            address += prefetch::LINE_BYTES;
            prefetch::address(address);
        }
    }

    /// Whether an entry of at most this length fits into the open segment of a queue.
    pub fn fits(&self, queue: Queue, entry_len_max: usize) -> bool {
        self.line(queue).open.is_some_and(|open| {
            u64::from(self.segment(open).used + self.round_up(entry_len_max)) <= self.segment_bytes()
        })
    }

    /// Appends an entry to a queue and answers where. Opens a free segment when the present one has
    /// no room; whether there may be one is the caller's to see to.
    ///
    /// # Panics
    /// When a segment must be opened and none is free.
    pub fn append(&mut self, queue: Queue, header: &Header, tail: [&[u8]; 3]) -> Position {
        let (segment, offset) = self.place(queue, header);
        let mut fields = [0; HEADER_BYTES_MAX];
        let header_len = header.encode(self.bases[segment as usize], &mut fields);
        let mut end = offset + header_len;
        self.region[offset..end].copy_from_slice(&fields[..header_len]);
        for part in tail {
            self.region[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        self.usual.note((end - offset) as u32);
        self.fill(queue, segment, end - offset);
        Position((offset >> self.unit_shift) as u32)
    }

    /// Appends a copy of an entry to a queue under a new header that differs in neither key nor
    /// value, and answers where. The same rules as for [`Log::append`].
    pub fn append_copy(&mut self, queue: Queue, header: &Header, from: Position) -> Position {
        let tail = self.offset(from) + self.entry(from).0.header_len;
        let (segment, offset) = self.place(queue, header);
        let mut fields = [0; HEADER_BYTES_MAX];
        let header_len = header.encode(self.bases[segment as usize], &mut fields);
        self.region[offset..offset + header_len].copy_from_slice(&fields[..header_len]);
        self.region.copy_within(tail..tail + header.tail_len(), offset + header_len);
        self.fill(queue, segment, header_len + header.tail_len());
        Position((offset >> self.unit_shift) as u32)
    }

    /// Marks an entry of this size as dead.
    pub fn bury(&mut self, position: Position, size: u32) {
        let offset = self.offset(position);
        entry::mark_dead(&mut self.region[offset..]);
        self.segments[offset >> self.segment_shift].dead += size;
        self.dead_bytes += u64::from(size);
    }

    /// Counts the bytes of a large value in, or out, of the queue that its entry is in.
    pub fn count_large(&mut self, position: Position, bytes: i64) {
        let queue = self.segment(self.segment_of(position)).queue;
        let line = self.line_mut(queue);
        line.large_bytes = line.large_bytes.wrapping_add_signed(bytes);
    }

    /// Takes a segment out of its queue, so that it can be walked along and released.
    pub fn take_out(&mut self, segment: u32) {
        let state = self.segment(segment).state;
        let line = self.line_mut(self.segment(segment).queue);
        match state {
            State::Open => line.open = None,
            State::Sealed => line.order.retain(|other| *other != segment),
            State::Leaving | State::Free => {}
        }
        self.segments[segment as usize].state = State::Leaving;
    }

    /// Frees a segment that was taken out and holds nothing but dead entries.
    pub fn release(&mut self, segment: u32) {
        let freed = std::mem::replace(&mut self.segments[segment as usize], Segment::FREE);
        assert!(freed.state == State::Leaving && freed.dead == freed.used, "live entries in {freed:?}");
        self.line_mut(freed.queue).used_bytes -= u64::from(freed.used);
        self.dead_bytes -= u64::from(freed.dead);
        self.free_warm.push(segment);
    }

    /// How many free segments have their memory committed.
    pub fn warm_segments(&self) -> usize {
        self.free_warm.len()
    }

    /// Gives the memory of one free segment back to the system. False when none has any.
    pub fn cool_one(&mut self) -> bool {
        let Some(segment) = self.free_warm.pop() else { return false };
        self.region.give_back((segment as usize) << self.segment_shift, 1 << self.segment_shift);
        self.free_cold.push(segment);
        true
    }

    /// Finds the room for an entry: segment and offset in the region.
    fn place(&mut self, queue: Queue, header: &Header) -> (u32, usize) {
        let segment = match self.line(queue).open {
            Some(open) if self.fits(queue, header.len_max()) => open,
            _ => self.open(queue, header),
        };
        (segment, ((segment as usize) << self.segment_shift) + self.segment(segment).used as usize)
    }

    fn open(&mut self, queue: Queue, header: &Header) -> u32 {
        let segment = self.free_warm.pop().or_else(|| self.free_cold.pop()).expect("a free segment");
        if let Some(full) = self.line_mut(queue).open.replace(segment) {
            self.segments[full as usize].state = State::Sealed;
            self.line_mut(queue).order.push_back(full);
        }
        self.segments[segment as usize] = Segment { state: State::Open, queue, ..Segment::FREE };
        self.bases[segment as usize] = header.version.0.wrapping_sub(VERSION_BASE_BELOW);
        segment
    }

    fn fill(&mut self, queue: Queue, segment: u32, entry_len: usize) {
        let size = self.round_up(entry_len);
        self.segments[segment as usize].used += size;
        self.line_mut(queue).used_bytes += u64::from(size);
    }

    fn line(&self, queue: Queue) -> &Line {
        match queue {
            Queue::Small => &self.small,
            Queue::Main => &self.main,
        }
    }

    fn line_mut(&mut self, queue: Queue) -> &mut Line {
        match queue {
            Queue::Small => &mut self.small,
            Queue::Main => &mut self.main,
        }
    }

    #[inline]
    fn offset(&self, position: Position) -> usize {
        (position.0 as usize) << self.unit_shift
    }

    #[inline]
    fn round_up(&self, len: usize) -> u32 {
        let unit = 1 << self.unit_shift;
        ((len + unit - 1) & !(unit - 1)) as u32
    }
}

impl Segment {
    const FREE: Segment = Segment {
        state: State::Free,
        queue: Queue::Small,
        used: 0,
        dead: 0,
        sweep: SegmentSweep { first_expiry_ms: u64::MAX, rest_until_ms: 0, rest_ms: 0, drops_seen: 0 },
    };

    /// Whether every entry in it is dead.
    pub fn is_dead(&self) -> bool {
        self.dead == self.used
    }
}
