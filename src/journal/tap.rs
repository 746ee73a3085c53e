//! The way from a shard to the writer: a stream of frames through a ring of bytes, and marks on the way back.
//!
//! A shard never waits here. What the ring does not take stays with the shard and goes first the next time;
//! until it is gone the shard is *congested* and takes no more writes from clients. Values outside the log
//! ([`Payload::Large`]) are not copied but handed over beside the ring, in the order of their frames.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};

use super::record::{HEAD_BYTES_MAX, Record};
use crate::doorbell::Doorbell;
use crate::op::{Large, Payload};

/// Bytes of a ring.
pub const RING_BYTES: usize = 1 << 20;

/// Values beside the ring.
const RING_VALUES: usize = 256;

/// What is in front of each frame: the length of what follows in four bytes, and a byte for its kind.
pub(super) const FRAME_HEAD_BYTES: usize = 5;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Frame {
    /// A change.
    Change = 0,
    /// A change whose value comes beside the ring.
    ChangeWithValue = 1,
    /// Here begins the live set: changes before this frame are in it.
    BaseBegins = 2,
    /// A part of the live set.
    Base = 3,
    /// A part of the live set whose value comes beside the ring.
    BaseWithValue = 4,
    /// The live set is complete.
    BaseEnds = 5,
}

/// How the journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// It takes what comes.
    Good = 0,
    /// The disk is full: only what makes room is taken.
    Full = 1,
    /// The disk has failed. Nothing is acknowledged any more.
    Failed = 2,
}

/// What the writer tells a shard. On a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Marks {
    /// So many records of this shard are kept as the mode of syncing asks.
    kept: AtomicU64,
    health: AtomicU8,
    /// The newest live set that is asked for.
    base: AtomicU64,
}

/// A shard's end.
#[derive(Debug)]
pub struct Tap {
    frames: Producer<u8>,
    values: Producer<Large>,
    /// What the rings did not take.
    late_frames: VecDeque<u8>,
    late_values: VecDeque<Large>,
    appended: u64,
    marks: Arc<Marks>,
    writer: Arc<Doorbell>,
    unrung: bool,
    scratch: Vec<u8>,
}

/// The writer's end.
#[derive(Debug)]
pub struct Source {
    pub(super) frames: Consumer<u8>,
    pub(super) values: Consumer<Large>,
    pub(super) marks: Arc<Marks>,
}

/// The two ends for one shard. `writer` wakes the writer.
pub fn connect(writer: Arc<Doorbell>) -> (Tap, Source) {
    let (frames_in, frames) = RingBuffer::new(RING_BYTES);
    let (values_in, values) = RingBuffer::new(RING_VALUES);
    let marks = Arc::new(Marks::default());
    let tap = Tap {
        frames: frames_in,
        values: values_in,
        late_frames: VecDeque::new(),
        late_values: VecDeque::new(),
        appended: 0,
        marks: marks.clone(),
        writer,
        unrung: false,
        scratch: Vec::with_capacity(HEAD_BYTES_MAX),
    };
    (tap, Source { frames, values, marks })
}

impl Tap {
    /// Appends a change. Answers its number: it is kept once [`Tap::kept`] has reached that.
    pub fn append(&mut self, record: &Record<'_>) -> u64 {
        self.push(record, Frame::Change, Frame::ChangeWithValue);
        self.appended += 1;
        self.appended
    }

    /// The number of the last change.
    pub fn appended(&self) -> u64 {
        self.appended
    }

    /// The last change that may be answered.
    #[inline]
    pub fn kept(&self) -> u64 {
        self.marks.kept.load(Ordering::Acquire)
    }

    /// How the journal is.
    #[inline]
    pub fn health(&self) -> Health {
        match self.marks.health.load(Ordering::Acquire) {
            0 => Health::Good,
            1 => Health::Full,
            _ => Health::Failed,
        }
    }

    /// Whether the writer is so far behind that no more writes are to be taken for now.
    #[inline]
    pub fn is_congested(&self) -> bool {
        !self.late_frames.is_empty() || !self.late_values.is_empty()
    }

    /// The number of the newest live set that is asked for; 0 before the first.
    pub fn base_wanted(&self) -> u64 {
        self.marks.base.load(Ordering::Acquire)
    }

    /// Begins the live set.
    pub fn begin_base(&mut self) {
        self.frame(Frame::BaseBegins, 0);
    }

    /// Appends a part of the live set.
    pub fn append_base(&mut self, record: &Record<'_>) {
        self.push(record, Frame::Base, Frame::BaseWithValue);
    }

    /// The live set is complete.
    pub fn end_base(&mut self) {
        self.frame(Frame::BaseEnds, 0);
    }

    /// Bytes that the ring takes now.
    pub fn room(&self) -> usize {
        if self.is_congested() { 0 } else { self.frames.slots() }
    }

    /// Once or twice a turn: brings on what is late, and wakes the writer if there is something for it.
    pub fn flush(&mut self) {
        self.bring_on();
        if std::mem::take(&mut self.unrung) {
            self.writer.ring();
        }
    }

    fn push(&mut self, record: &Record<'_>, plain: Frame, with_value: Frame) {
        self.scratch.clear();
        let mut scratch = std::mem::take(&mut self.scratch);
        record.encode_head(&mut scratch);
        let value = record.value();
        self.bring_on();
        match value {
            Some(Payload::Large(large)) => {
                self.late_values.push_back(Large::clone(large));
                self.frame(with_value, scratch.len());
                self.bytes(&scratch);
            }
            Some(Payload::Bytes(value)) => {
                self.frame(plain, scratch.len() + value.len());
                self.bytes(&scratch);
                self.bytes(value);
            }
            None => {
                self.frame(plain, scratch.len());
                self.bytes(&scratch);
            }
        }
        self.bring_on();
        self.scratch = scratch;
    }

    fn frame(&mut self, kind: Frame, length: usize) {
        let mut head = [0; FRAME_HEAD_BYTES];
        head[..4].copy_from_slice(&(length as u32).to_le_bytes());
        head[4] = kind as u8;
        self.bytes(&head);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.unrung = true;
        let late = match self.late_frames.is_empty() {
            true => self.frames.push_partial_slice(bytes).1,
            false => bytes,
        };
        self.late_frames.extend(late);
    }

    /// A value is in its ring before its frame is complete: the writer finds it.
    fn bring_on(&mut self) {
        while let Some(large) = self.late_values.pop_front() {
            if let Err(rtrb::PushError::Full(large)) = self.values.push(large) {
                self.late_values.push_front(large);
                break;
            }
        }
        if !self.late_frames.is_empty() {
            let (front, _) = self.late_frames.as_slices();
            let pushed = front.len() - self.frames.push_partial_slice(front).1.len();
            self.late_frames.drain(..pushed);
            self.late_frames.shrink_to(RING_BYTES);
            self.unrung = true;
        }
    }
}

impl Source {
    /// Takes what is there, up to `bytes_max`, behind what `out` holds.
    pub(super) fn take(&mut self, bytes_max: usize, out: &mut Vec<u8>) -> usize {
        let count = self.frames.slots().min(bytes_max);
        if let Ok(chunk) = self.frames.read_chunk(count) {
            let (first, second) = chunk.as_slices();
            out.extend_from_slice(first);
            out.extend_from_slice(second);
            chunk.commit_all();
        }
        count
    }

    /// The value of the frame with a value that was taken next.
    pub(super) fn take_value(&mut self) -> Option<Large> {
        self.values.pop().ok()
    }

    /// So many records are kept.
    pub(super) fn keep(&self, records: u64) {
        self.marks.kept.store(records, Ordering::Release);
    }

    pub(super) fn set_health(&self, health: Health) {
        self.marks.health.store(health as u8, Ordering::Release);
    }

    pub(super) fn want_base(&self, number: u64) {
        self.marks.base.store(number, Ordering::Release);
    }
}
