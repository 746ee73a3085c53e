//! The way from a shard to the writer: a stream of frames through a ring of bytes, and marks on the way back.
//!
//! A shard never waits here. What the ring does not take stays with the shard and goes first the next time;
//! until it is gone the shard is *congested* and takes no more writes from clients. Values outside the log
//! ([`Payload::Large`]) are not copied but handed over beside the ring, in the order of their frames.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};

use rtrb::{Consumer, Producer, RingBuffer};

pub(super) use super::frame::Frame;
use super::frame::{FRAME_HEAD_BYTES, frame_head, missing_bytes, split_frame};
use super::record::{HEAD_BYTES_MAX, Record};
use crate::doorbell::Doorbell;
use crate::op::{Large, Payload};

/// Bytes of a ring.
pub const RING_BYTES: usize = 1 << 20;

/// Values beside the ring.
const RING_VALUES: usize = 256;

/// Bytes of values beside the ring that the writer has not taken, before the shard is congested. They stay
/// in memory until they are written, whatever has become of their keys.
pub const VALUE_BYTES_IN_FLIGHT: u64 = 8 << 20;

/// A value up to this length is copied behind its record's head first, so that both are pushed at once:
/// each push costs more than the copy, and shows the writer a record that is not all there.
const JOINED_BYTES_MAX: usize = 1_024;

/// What a buffer for the exception keeps of its room.
const LATE_BYTES_KEPT: usize = 64 * 1_024;

/// How the journal is, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Health {
    /// It takes what comes.
    Good = 0,
    /// The disk is full: only what makes room is taken.
    Full = 1,
    /// It is so full that not even that is.
    Exhausted = 2,
    /// The disk has failed. Nothing is acknowledged any more.
    Failed = 3,
}

/// What the writer tells a shard, and what the shard tells the writer beside its stream: a cache line for
/// each direction.
#[derive(Debug, Default)]
pub struct Marks {
    down: Down,
    up: Up,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Down {
    /// So many records of this shard are kept as the mode of syncing asks.
    kept: AtomicU64,
    health: AtomicU8,
    /// Writes wait until the live set has caught up.
    held: AtomicBool,
    /// The newest live set that is asked for.
    base: AtomicU64,
    /// The newest one that is in the place of all before it.
    base_kept: AtomicU64,
    /// Bytes of values beside the ring that were taken.
    value_bytes: AtomicU64,
}

#[derive(Debug)]
#[repr(align(128))]
struct Up {
    /// The rings did not take all; the shard has to be woken when they have room.
    late: AtomicBool,
    /// The shard holds less than what is kept says.
    asks_base: AtomicBool,
    /// What the live set of this shard would take in its encoded form, roughly.
    live_bytes: AtomicU64,
}

impl Default for Up {
    fn default() -> Up {
        let (late, asks_base) = (AtomicBool::new(false), AtomicBool::new(false));
        Up { late, asks_base, live_bytes: AtomicU64::new(UNKNOWN) }
    }
}

/// What a shard that has not said it yet holds.
const UNKNOWN: u64 = u64::MAX;

/// A shard's end.
#[derive(Debug)]
pub struct Tap {
    frames: Producer<u8>,
    values: Producer<Large>,
    /// What the rings did not take.
    late_frames: VecDeque<u8>,
    late_values: VecDeque<Large>,
    /// Bytes of all values that went beside the ring.
    value_bytes: u64,
    /// The writer knows that it has to wake this shard.
    is_awaited: bool,
    appended: u64,
    marks: Arc<Marks>,
    writer: Arc<Doorbell>,
    unrung: bool,
    scratch: Vec<u8>,
}

/// The writer's end.
#[derive(Debug)]
pub struct Source {
    /// Bytes that were taken so far.
    consumed: u64,
    /// Bytes of values that were.
    value_bytes: u64,
    frames: Consumer<u8>,
    values: Consumer<Large>,
    /// The beginning of a frame.
    partial: Vec<u8>,
    marks: Arc<Marks>,
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
        value_bytes: 0,
        is_awaited: false,
        appended: 0,
        marks: marks.clone(),
        writer,
        unrung: false,
        scratch: Vec::with_capacity(FRAME_HEAD_BYTES + HEAD_BYTES_MAX + JOINED_BYTES_MAX),
    };
    (tap, Source { consumed: 0, value_bytes: 0, frames, values, partial: Vec::new(), marks })
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
        self.marks.down.kept.load(Ordering::Acquire)
    }

    /// How the journal is.
    #[inline]
    pub fn health(&self) -> Health {
        Health::of(self.marks.down.health.load(Ordering::Acquire))
    }

    /// Whether no more writes are to be taken for now: the writer is far behind, or the live set has to
    /// catch up with the changes. When that ends the shard's reactor is woken.
    #[inline]
    pub fn is_congested(&self) -> bool {
        self.is_behind() || self.marks.down.held.load(Ordering::Acquire)
    }

    /// The number of the newest live set that is asked for; 0 before the first.
    pub fn base_wanted(&self) -> u64 {
        self.marks.down.base.load(Ordering::Acquire)
    }

    /// Begins the newest live set that is asked for, and answers its number. One begun before and not
    /// ended is of no use any more.
    pub fn begin_base(&mut self) -> u64 {
        let number = self.base_wanted();
        self.frame(Frame::BaseBegins, size_of::<u64>());
        self.bytes(&number.to_le_bytes());
        number
    }

    /// Appends a part of the live set.
    pub fn append_base(&mut self, record: &Record<'_>) {
        self.push(record, Frame::Base, Frame::BaseWithValue);
    }

    /// The live set is complete.
    pub fn end_base(&mut self) {
        self.frame(Frame::BaseEnds, 0);
    }

    /// Asks for a live set, because this shard holds less than what is kept says: it was brought back with
    /// less memory.
    pub fn ask_base(&mut self) {
        self.marks.up.asks_base.store(true, Ordering::Release);
        self.unrung = true;
    }

    /// The number of the newest live set that is in the place of everything before it; 0 before the first.
    pub fn base_kept(&self) -> u64 {
        self.marks.down.base_kept.load(Ordering::Acquire)
    }

    /// Bytes that the ring takes now.
    pub fn room(&self) -> usize {
        if self.is_late() { 0 } else { self.frames.slots() }
    }

    /// Whether the ring takes so many bytes now, and further values beside it. If not, the shard's reactor is
    /// woken when the writer has taken something from it.
    pub fn has_room(&mut self, bytes: usize) -> bool {
        let has_room =
            |tap: &Tap| tap.room() >= bytes && tap.value_bytes_in_flight() <= VALUE_BYTES_IN_FLIGHT / 2;
        if !has_room(self) {
            self.await_writer(true);
        }
        let has_room = has_room(self);
        if has_room {
            self.await_writer(false);
        }
        has_room
    }

    /// Tells the writer what the live set of this shard takes, by which it knows when to write it down
    /// anew. The bytes of live keys and values and a few for each are near enough. Costs a store; once a
    /// turn is enough.
    #[inline]
    pub fn report_live_bytes(&self, bytes: u64) {
        self.marks.up.live_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Once or twice a turn, and again between [`Doorbell::announce_sleep`] and sleep: brings on what is
    /// late, and wakes the writer if there is something for it.
    pub fn flush(&mut self) {
        if self.is_awaited || self.is_late() {
            self.bring_on();
        }
        if std::mem::take(&mut self.unrung) {
            self.writer.ring();
        }
    }

    fn is_late(&self) -> bool {
        !self.late_frames.is_empty() || !self.late_values.is_empty()
    }

    fn is_behind(&self) -> bool {
        self.is_late() || self.value_bytes_in_flight() > VALUE_BYTES_IN_FLIGHT
    }

    fn value_bytes_in_flight(&self) -> u64 {
        self.value_bytes - self.marks.down.value_bytes.load(Ordering::Acquire)
    }

    /// Has the writer wake this shard when it has taken something, or no longer. Whichever of the two looks
    /// last sees the other: the writer this, or the shard, which looks once more, what was taken.
    fn await_writer(&mut self, is_awaited: bool) {
        self.is_awaited = is_awaited;
        self.marks.up.late.store(is_awaited, Ordering::Relaxed);
        if is_awaited {
            fence(Ordering::SeqCst);
        }
    }

    fn push(&mut self, record: &Record<'_>, plain: Frame, with_value: Frame) {
        let mut frame = std::mem::take(&mut self.scratch);
        frame.clear();
        // Known when all of it is there.
        frame.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
        record.encode_head(&mut frame);
        let (kind, behind): (Frame, &[u8]) = match record.value() {
            None => (plain, &[]),
            Some(Payload::Bytes(value)) if value.len() <= JOINED_BYTES_MAX => {
                frame.extend_from_slice(value);
                (plain, &[])
            }
            Some(Payload::Bytes(value)) => (plain, value),
            Some(Payload::Large(large)) => {
                self.value(Large::clone(large));
                (with_value, &[])
            }
        };
        let length = frame.len() - FRAME_HEAD_BYTES + behind.len();
        frame[..FRAME_HEAD_BYTES].copy_from_slice(&frame_head(kind, length));
        self.bytes(&frame);
        if !behind.is_empty() {
            self.bytes(behind);
        }
        self.scratch = frame;
    }

    fn frame(&mut self, kind: Frame, length: usize) {
        self.bytes(&frame_head(kind, length));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.unrung = true;
        let late = match self.late_frames.is_empty() {
            true => self.frames.push_partial_slice(bytes).1,
            false => bytes,
        };
        if !late.is_empty() {
            self.late_frames.extend(late);
            self.bring_on();
        }
    }

    /// Mostly a value is in its ring before its frame is. If not, the writer leaves the frame until it is.
    fn value(&mut self, large: Large) {
        self.value_bytes += large.len() as u64;
        self.late_values.push_back(large);
        self.bring_on();
    }

    /// Pushes what is late. If something stays, the writer knows that it has to wake this shard.
    #[cold]
    fn bring_on(&mut self) {
        self.push_late();
        if self.is_behind() {
            self.await_writer(true);
            self.push_late();
        }
        if self.is_awaited && !self.is_behind() {
            self.await_writer(false);
        }
    }

    fn push_late(&mut self) {
        while let Some(large) = self.late_values.pop_front() {
            self.unrung = true;
            if let Err(rtrb::PushError::Full(large)) = self.values.push(large) {
                self.late_values.push_front(large);
                break;
            }
        }
        while !self.late_frames.is_empty() {
            let (front, _) = self.late_frames.as_slices();
            let pushed = self.frames.push_partial_slice(front).0.len();
            if pushed == 0 {
                return;
            }
            self.unrung = true;
            self.late_frames.drain(..pushed);
        }
        self.late_frames.shrink_to(LATE_BYTES_KEPT);
    }
}

impl Source {
    /// Takes whole frames in their order, as long as `take` answers true, up to what is there now: the shard
    /// may be adding more. A frame that is there only in part, or without the value beside the ring, stays.
    /// Answers whether anything was taken.
    pub(super) fn take(&mut self, mut take: impl FnMut(Frame, &[u8], Option<Large>) -> bool) -> bool {
        let end = self.consumed + self.frames.slots() as u64;
        let mut taken = false;
        loop {
            if !self.partial.is_empty() {
                match self.complete(&mut take, &mut taken) {
                    true => continue,
                    false => break,
                }
            }
            let Ok(chunk) = self.frames.read_chunk(self.frames.slots()) else { break };
            let (mut rest, _) = chunk.as_slices();
            let available = rest.len();
            let mut goes_on = true;
            let is_before = |rest: &[u8]| self.consumed + ((available - rest.len()) as u64) < end;
            while let Some((frame, body, behind)) = split_frame(rest).filter(|_| goes_on && is_before(rest)) {
                let value = match frame.has_value() {
                    false => None,
                    true => match pop(&mut self.values, &mut self.value_bytes, &self.marks) {
                        Some(value) => Some(value),
                        None => {
                            goes_on = false;
                            break;
                        }
                    },
                };
                goes_on = take(frame, body, value);
                rest = behind;
            }
            goes_on = goes_on && is_before(rest);
            if goes_on {
                // The beginning of a frame: its rest stands at the front of the ring, or is yet to come.
                self.partial.extend_from_slice(rest);
                rest = &[];
            }
            let used = available - rest.len();
            taken |= used > 0;
            chunk.commit(used);
            self.consumed += used as u64;
            if !goes_on || used == 0 {
                break;
            }
        }
        taken
    }

    /// Goes on with a frame of which a part was taken. True if it was taken as a whole.
    fn complete(
        &mut self,
        take: &mut impl FnMut(Frame, &[u8], Option<Large>) -> bool,
        taken: &mut bool,
    ) -> bool {
        while let missing @ 1.. = missing_bytes(&self.partial) {
            let Ok(chunk) = self.frames.read_chunk(missing.min(self.frames.slots())) else { return false };
            if chunk.is_empty() {
                return false;
            }
            let (first, second) = chunk.as_slices();
            self.partial.extend_from_slice(first);
            self.partial.extend_from_slice(second);
            self.consumed += (first.len() + second.len()) as u64;
            chunk.commit_all();
            *taken = true;
        }
        let Some((frame, body, _)) = split_frame(&self.partial) else { return false };
        let value = match frame.has_value() {
            false => None,
            true => match pop(&mut self.values, &mut self.value_bytes, &self.marks) {
                Some(value) => Some(value),
                None => return false,
            },
        };
        let goes_on = take(frame, body, value);
        *taken = true;
        self.partial.clear();
        self.partial.shrink_to(LATE_BYTES_KEPT);
        goes_on
    }

    /// Whether there is more in the rings than what was seen when the last frame was taken: bytes, or the
    /// value that a frame waits for.
    pub(super) fn has_more(&self) -> bool {
        !self.frames.is_empty() || !self.partial.is_empty() && !self.values.is_empty()
    }

    /// Whether the shard has more than the rings took, and so must be woken now that they have room.
    pub(super) fn is_late(&self) -> bool {
        fence(Ordering::SeqCst);
        self.marks.up.late.load(Ordering::Relaxed)
    }

    /// What the shard last said of its live set, if it has.
    pub(super) fn live_bytes(&self) -> Option<u64> {
        Some(self.marks.up.live_bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes != UNKNOWN)
    }

    /// Whether the shard asks for a live set.
    pub(crate) fn asks_base(&self) -> bool {
        self.marks.up.asks_base.load(Ordering::Acquire)
    }

    /// The live set of this number is in the place of everything before it.
    pub(super) fn keep_base(&self, number: u64) {
        self.marks.up.asks_base.store(false, Ordering::Relaxed);
        self.marks.down.base_kept.store(number, Ordering::Release);
    }

    /// So many records are kept.
    pub(super) fn keep(&self, records: u64) {
        self.marks.down.kept.store(records, Ordering::Release);
    }

    pub(super) fn set_health(&self, health: Health) {
        self.marks.down.health.store(health as u8, Ordering::Release);
    }

    pub(super) fn hold(&self, held: bool) {
        self.marks.down.held.store(held, Ordering::Release);
    }

    pub(super) fn want_base(&self, number: u64) {
        self.marks.down.base.store(number, Ordering::Release);
    }
}

/// The next value beside the ring.
fn pop(values: &mut Consumer<Large>, taken_bytes: &mut u64, marks: &Marks) -> Option<Large> {
    let value = values.pop().ok()?;
    *taken_bytes += value.len() as u64;
    marks.down.value_bytes.store(*taken_bytes, Ordering::Release);
    Some(value)
}

/// Why the journal does not take a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The disk is full.
    Full,
    /// The disk has failed.
    Failed,
}

impl Health {
    /// Why something is not to be done that has to be kept. What makes room is taken for longer.
    pub fn refuses(self, makes_room: bool) -> Option<Refusal> {
        match self {
            Health::Good => None,
            Health::Full if makes_room => None,
            Health::Full | Health::Exhausted => Some(Refusal::Full),
            Health::Failed => Some(Refusal::Failed),
        }
    }

    fn of(byte: u8) -> Health {
        match byte {
            0 => Health::Good,
            1 => Health::Full,
            2 => Health::Exhausted,
            _ => Health::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Frame, RING_BYTES, RING_VALUES, Source, Tap, connect};
    use crate::clock::Version;
    use crate::doorbell::Doorbell;
    use crate::journal::record::{Put, Record};
    use crate::op::{Encoding, Large, Namespace, Payload};
    use std::sync::Arc;

    fn pair() -> (Tap, Source) {
        connect(Arc::new(Doorbell::new(Box::new(|| {}))))
    }

    fn put<'a>(key: &'a [u8], value: Payload<'a>) -> Record<'a> {
        Record::Put(Put {
            namespace: Namespace::KV,
            key,
            version: Version(1),
            expires_ms: None,
            lock: None,
            content_type: b"",
            encoding: Encoding::Identity,
            value,
        })
    }

    /// The keys and values of everything that can be taken.
    fn take(source: &mut Source, frames_max: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut taken = Vec::new();
        source.take(|_, body, large| {
            let Ok(Record::Put(put)) = Record::decode(body) else { panic!("not what was appended") };
            let value = large.map_or(put.value.bytes().to_vec(), |large| large.to_vec());
            taken.push((put.key.to_vec(), value));
            taken.len() < frames_max
        });
        taken
    }

    #[test]
    fn everything_arrives_once_and_in_order_however_it_is_taken() {
        let (mut tap, mut source) = pair();
        let large = Large::copy_of(&[9; 100_000]);
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        for round in 0..3_000_usize {
            let key = round.to_string().into_bytes();
            // Some longer than the whole ring, some beside it.
            let value = match round % 500 {
                77 => vec![round as u8; RING_BYTES + round],
                _ => vec![round as u8; round % 700],
            };
            let payload = if round % 7 == 3 { Payload::Large(&large) } else { Payload::Bytes(&value) };
            assert_eq!(tap.append(&put(&key, payload)), round as u64 + 1);
            sent.push((key.clone(), payload.bytes().to_vec()));
            if round % 3 == 0 {
                received.extend(take(&mut source, 1 + round % 5));
                tap.flush();
            }
        }
        while received.len() < sent.len() {
            let before = received.len();
            received.extend(take(&mut source, usize::MAX));
            let is_late = tap.is_congested();
            assert!(!is_late || source.is_late(), "a late shard is not known to the writer");
            tap.flush();
            assert!(is_late || received.len() > before, "nothing more comes");
        }
        assert!(received == sent);
        assert!(!source.has_more() && !tap.is_congested() && !source.is_late());
    }

    #[test]
    fn a_frame_waits_for_its_value_and_all_behind_it_wait_too() {
        let (mut tap, mut source) = pair();
        let large = Large::copy_of(&[1; 70_000]);
        for round in 0..RING_VALUES + 3 {
            tap.append(&put(&round.to_le_bytes(), Payload::Large(&large)));
        }
        tap.append(&put(b"last", Payload::Bytes(b"x")));
        assert!(tap.is_congested());
        assert_eq!(take(&mut source, usize::MAX).len(), RING_VALUES);
        assert_eq!(take(&mut source, usize::MAX).len(), 0);
        tap.flush();
        let rest = take(&mut source, usize::MAX);
        assert_eq!(rest.len(), 4);
        assert_eq!(rest[3], (b"last".to_vec(), b"x".to_vec()));
        assert!(!tap.is_congested());
    }

    #[test]
    fn a_shard_that_is_held_takes_no_writes_and_goes_on_with_its_live_set() {
        let (mut tap, mut source) = pair();
        source.hold(true);
        assert!(tap.is_congested() && tap.room() == RING_BYTES);
        source.want_base(3);
        assert_eq!(tap.base_wanted(), 3);
        assert_eq!(tap.begin_base(), 3);
        tap.append_base(&put(b"k", Payload::Bytes(b"v")));
        tap.end_base();
        let mut kinds = Vec::new();
        assert!(source.take(|frame, _, _| {
            kinds.push(frame);
            true
        }));
        assert_eq!(kinds, [Frame::BaseBegins, Frame::Base, Frame::BaseEnds]);
        source.hold(false);
        assert!(!tap.is_congested());
    }
}
