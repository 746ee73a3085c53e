//! Compaction: the live set is written down anew, and the log before it goes.
//!
//! A segment is begun, then the shards are asked for their live sets, which they bring through the same rings
//! as their changes. When all have ended, the log is made durable as far as it was written then, since the
//! live set may show what stands there; then the live set is, then the manifest names it. Until that moment
//! the old live set and the whole log count, so an interruption at any step loses nothing but the work.
//!
//! The folder takes at most three times the live set and two segments: compaction begins at one and a half,
//! the new live set adds one, and the log may take the rest meanwhile. When it has, the shards' writes are
//! held back until the live set is down. Nor is it begun without room for all of it on the disk.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::chore::Chore;
use super::disk::{DiskFile, is_full, write_all};
use super::files::{Begun, begin};
use super::manifest::{Manifest, Part, base_name, log_name};
use super::record::{array, is_of_node};
use super::room::Next;
use super::segment::{FILE_HEAD_BYTES, Group, Kind};
use super::tap::{Health, RING_BYTES, Source, VALUE_BYTES_IN_FLIGHT};
use super::writer::{Alone, Writer};
use crate::clock::Now;

/// After an attempt that found the disk full.
const RETRY_MS: u64 = 10_000;

/// How compaction is.
#[derive(Debug)]
pub(super) struct Compaction {
    /// Bytes of the live set that counts.
    bytes: u64,
    /// What it took for each byte that the shards had reported.
    ratio: f64,
    /// What they had reported when the newest attempt was begun.
    reported_bytes: u64,
    /// What it took beside that: what the node keeps of itself, of which no shard reports anything.
    beside: u64,
    /// Bytes of that in the newest attempt.
    node_bytes: u64,
    /// The newest live set that was asked for.
    number: u64,
    /// The generation of the newest attempt.
    generation: u64,
    /// Parts that are being made durable.
    syncs: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Idle {
        not_before_ms: u64,
    },
    Gathering(Box<Gathering>),
    /// All is written; the log has to be durable up to this group, and every part.
    Syncing {
        manifest: Box<Manifest>,
        file: Arc<dyn DiskFile>,
        through: u64,
    },
    Switching {
        manifest: Box<Manifest>,
    },
}

/// What a live set takes for each byte that the shards report is between these. Short values under long content
/// types take the most.
const RATIOS: RangeInclusive<f64> = 0.5..=16.0;

/// This part of a segment may be left of a live set when all of it is gone.
const STALE_PARTS_OF_SEGMENT: u64 = 64;

/// Between two looks at how much room there is.
const ROOM_AGAIN_MS: u64 = 1_000;

/// So often it looks at the live set while nothing else happens, in milliseconds.
const LOOK_AGAIN_MS: u64 = 1_000;

/// A live set while it is written.
#[derive(Debug)]
struct Gathering {
    generation: u64,
    /// What the manifest will say of the log.
    log_first: u64,
    sequence: u64,
    version_max: u64,
    shards: Vec<Shard>,
    parts: Vec<Part>,
    file: Arc<dyn DiskFile>,
    offset: u64,
    group: Group,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shard {
    Asked,
    Begun,
    Ended,
}

impl Compaction {
    /// Nothing is under way; the live set of this generation counts, and takes so many bytes.
    pub(super) fn new(generation: u64, bytes: u64) -> Compaction {
        let state = State::Idle { not_before_ms: 0 };
        let (ratio, reported_bytes, beside, node_bytes) = (1.0, 0, 0, 0);
        Compaction {
            bytes,
            ratio,
            reported_bytes,
            beside,
            node_bytes,
            number: 0,
            generation,
            syncs: 0,
            state,
        }
    }

    /// A shard begins a live set.
    pub(super) fn begins(&mut self, shard: usize, number: &[u8]) {
        let is_wanted = u64::from_le_bytes(array(number)) == self.number;
        if let State::Gathering(gathering) = &mut self.state
            && is_wanted
            && gathering.shards[shard] == Shard::Asked
        {
            gathering.shards[shard] = Shard::Begun;
        }
    }

    /// Where this part of a shard's live set goes, if anywhere.
    #[inline]
    pub(super) fn group(&mut self, shard: usize, record: &[u8]) -> Option<&mut Group> {
        match &mut self.state {
            State::Gathering(gathering) if gathering.shards[shard] == Shard::Begun => {
                if is_of_node(record) {
                    self.node_bytes += record.len() as u64;
                }
                Some(&mut gathering.group)
            }
            _ => None,
        }
    }

    /// A shard's live set is complete.
    pub(super) fn ends(&mut self, shard: usize) {
        if let State::Gathering(gathering) = &mut self.state
            && gathering.shards[shard] == Shard::Begun
        {
            gathering.shards[shard] = Shard::Ended;
        }
    }

    /// Bytes that wait to be written.
    #[inline]
    pub(super) fn group_length(&self) -> u64 {
        match &self.state {
            State::Gathering(gathering) => gathering.group.length(),
            _ => 0,
        }
    }

    /// Whether compaction waits for the log to be durable.
    pub(super) fn wants_sync(&self) -> bool {
        matches!(self.state, State::Syncing { .. })
    }

    pub(super) fn due_at_ms(&self, now: Now) -> Option<u64> {
        match self.state {
            State::Idle { not_before_ms } if not_before_ms > now.unix_ms => Some(not_before_ms),
            _ => None,
        }
    }

    /// There is a live set of so many bytes: what that tells of the next. In it is at most what was live when it was
    /// begun, and what was written to the log since. If that may be most of it, or all of it is little, it tells
    /// nothing of what an entry takes.
    fn learn(&mut self, bytes: u64, written: u64, few: u64) {
        self.bytes = bytes;
        let settled = bytes.saturating_sub(written);
        if self.reported_bytes > few && settled >= bytes / 2 {
            self.set_ratio(settled.saturating_sub(self.node_bytes) as f64 / self.reported_bytes as f64);
        }
        let of_entries = (self.reported_bytes as f64 * self.ratio) as u64;
        self.beside = self.node_bytes.max(settled.saturating_sub(of_entries));
    }

    fn set_ratio(&mut self, ratio: f64) {
        self.ratio = ratio.clamp(*RATIOS.start(), *RATIOS.end());
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle { .. })
    }

    /// Whether parts of the live set may stand behind changes in a ring.
    pub(super) fn is_gathering(&self) -> bool {
        matches!(self.state, State::Gathering(_))
    }

    /// Bytes of a new live set, as far as it is written.
    fn new_bytes(&self) -> u64 {
        match &self.state {
            State::Idle { .. } => 0,
            State::Gathering(gathering) => {
                gathering.parts.iter().map(|part| part.length).sum::<u64>() + gathering.offset
            }
            State::Syncing { manifest, .. } | State::Switching { manifest } => bytes_of(manifest),
        }
    }
}

fn bytes_of(manifest: &Manifest) -> u64 {
    manifest.parts.iter().map(|part| part.length).sum()
}

impl Writer {
    /// Begins a compaction if it is time, and brings one on that was begun.
    pub(super) fn compact(&mut self, now: Now) -> io::Result<()> {
        match &self.compaction.state {
            State::Idle { not_before_ms } => {
                if now.unix_ms >= *not_before_ms && self.is_compaction_due() && self.group.is_empty() {
                    self.begin_base(now)?;
                }
            }
            State::Gathering(gathering) => {
                if gathering.shards.iter().all(|shard| *shard == Shard::Ended) {
                    self.end_base(now)?;
                }
            }
            State::Syncing { through, .. } if self.synced >= *through && self.compaction.syncs == 0 => {
                self.switch();
            }
            State::Syncing { .. } | State::Switching { .. } => {}
        }
        self.hold_if_behind();
        Ok(())
    }

    /// Whether the next step brings a compaction on though nothing else happens.
    pub(super) fn compacts_on(&self) -> bool {
        match &self.compaction.state {
            State::Gathering(gathering) => gathering.shards.iter().all(|shard| *shard == Shard::Ended),
            State::Syncing { through, .. } => self.synced >= *through && self.compaction.syncs == 0,
            State::Idle { .. } | State::Switching { .. } => false,
        }
    }

    /// When it looks again whether the live set has shrunk, of which nobody tells it.
    pub(super) fn looks_again_at_ms(&self, now: Now) -> Option<u64> {
        let is_large = self.compaction.bytes + self.log_bytes() > self.stale_bytes_max();
        (self.compaction.is_idle() && is_large).then_some(now.unix_ms + LOOK_AGAIN_MS)
    }

    /// What the live set would take, as far as it is known.
    fn live_bytes(&self) -> u64 {
        match self.reported_bytes() {
            None => self.compaction.bytes,
            Some(bytes) => (bytes as f64 * self.compaction.ratio) as u64 + self.compaction.beside,
        }
    }

    /// What the shards have said, once all have.
    fn reported_bytes(&self) -> Option<u64> {
        self.sources.iter().map(Source::live_bytes).sum()
    }

    fn stale_bytes_max(&self) -> u64 {
        self.segment_bytes / STALE_PARTS_OF_SEGMENT
    }

    fn is_compaction_due(&self) -> bool {
        // Until all is brought back nobody knows what is live.
        if self.reported_bytes().is_none() {
            return false;
        }
        let (base, log, live) = (self.compaction.bytes, self.log_bytes(), self.live_bytes());
        // On a full disk a little more room is worth it.
        let (share, segments) = if self.health == Health::Good { (2, 2) } else { (8, 4) };
        base > 2 * live + self.stale_bytes_max()
            // Beside these there are two whole segments, however little is used of them.
            || base + log - self.log.offset > 3 * live + self.stale_bytes_max()
            || base + log >= live + live / share + self.segment_bytes / segments
            || self.sources.iter().any(Source::asks_base)
    }

    /// Whether the folder may grow by another segment, beside what the new live set will take.
    pub(super) fn may_grow(&self) -> bool {
        let log: u64 = self.older.iter().map(|(_, bytes)| bytes).sum::<u64>() + self.log.room;
        let live = self.live_bytes();
        let present = self.compaction.bytes + log + self.compaction.new_bytes().max(live);
        self.compaction.is_idle() || present + self.segment_bytes <= 3 * live + 2 * self.segment_bytes
    }

    /// Bytes that a new live set will take, beside those it has taken.
    pub(super) fn base_left(&self) -> u64 {
        let live = self.live_bytes();
        (live + live / 16 + FILE_HEAD_BYTES as u64).saturating_sub(self.compaction.new_bytes())
    }

    /// Changes wait if the segment is nearly used up and there may not be another before the live set is
    /// down.
    fn hold_if_behind(&mut self) {
        let has_next = matches!(self.next, Next::Ready(..) | Next::Short(..));
        // What the rings hold comes all the same.
        let ring_bytes = RING_BYTES as u64 + VALUE_BYTES_IN_FLIGHT;
        let rings = self.sources.len() as u64 * ring_bytes + 4 * self.group_bytes;
        let reserve = rings.clamp(self.segment_bytes / 4, self.segment_bytes / 2);
        self.hold(!self.compaction.is_idle() && !has_next && self.log_left() < reserve);
    }

    fn begin_base(&mut self, now: Now) -> io::Result<()> {
        // One for each attempt, so that what is left of one never has the name of a part of the next.
        let generation = self.compaction.generation + 1;
        if !self.has_room_for_base(now)? {
            return Ok(());
        }
        self.compaction.generation = generation;
        self.compaction.reported_bytes = self.reported_bytes().unwrap_or(0);
        let Some(Begun { file, mark, sealer }) = self.begin_part(generation, 0, now)? else { return Ok(()) };
        if !self.rotate()? {
            return Ok(());
        }
        self.compaction.number += 1;
        self.compaction.node_bytes = 0;
        self.compaction.state = State::Gathering(Box::new(Gathering {
            generation,
            log_first: self.log.number,
            sequence: self.written,
            version_max: self.version_max,
            shards: vec![Shard::Asked; self.sources.len()],
            parts: Vec::new(),
            file,
            offset: FILE_HEAD_BYTES as u64,
            group: Group::new(mark, sealer, 1, 0),
        }));
        self.sources.iter().for_each(|source| source.want_base(self.compaction.number));
        self.ring_all();
        Ok(())
    }

    /// Whether there is a segment to go on with, and room for all of a live set.
    fn has_room_for_base(&mut self, now: Now) -> io::Result<bool> {
        let has_next = match self.next {
            Next::Ready(..) | Next::Short(..) => true,
            Next::Refused(_) => false,
            Next::Absent | Next::Asked => return Ok(false),
        };
        let unused = self.log_left();
        let available = self.disk.available()?.saturating_add(unused);
        let wanted = self.base_left();
        if has_next && available >= wanted {
            return Ok(true);
        }
        let is_enough = available >= wanted + 4 * self.group_bytes;
        if !has_next && unused > 0 && is_enough {
            self.give_back_room(now)?;
        } else {
            self.compaction.state = State::Idle { not_before_ms: now.unix_ms + ROOM_AGAIN_MS };
        }
        Ok(false)
    }

    /// A part of the live set. None if the disk is full.
    fn begin_part(&mut self, generation: u64, part: u64, now: Now) -> io::Result<Option<Begun>> {
        let name = base_name(generation, part);
        match begin(&*self.disk, &name, (Kind::Base, part, generation), &self.keys, 0) {
            Ok(begun) => Ok(Some(begun)),
            Err(error) if is_full(&error) => {
                self.abort_base(now);
                self.give_out(Chore::Remove { names: vec![name] });
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes what was gathered of the live set. False if the record that stands alone has to wait.
    pub(super) fn write_base(&mut self, now: Now) -> io::Result<bool> {
        let State::Gathering(gathering) = &mut self.compaction.state else { return Ok(true) };
        if !gathering.group.is_empty() {
            let result = gathering.write_group(false);
            self.wrote_base(result, now)?;
        }
        Ok(true)
    }

    pub(super) fn write_base_alone(&mut self, alone: &Alone, now: Now) -> io::Result<bool> {
        let State::Gathering(gathering) = &mut self.compaction.state else { return Ok(true) };
        let value = alone.value.as_deref().unwrap_or_default();
        let length = gathering.group.length_alone(&alone.head, value);
        let (file, offset) = (gathering.file.clone(), gathering.offset);
        let result = gathering
            .group
            .write_alone(&alone.head, value, 0, |bytes, at| write_all(&*file, bytes, offset + at))
            .map(|()| gathering.wrote(length));
        self.wrote_base(result, now)?;
        Ok(true)
    }

    /// What has come of writing to a part: goes on to the next if it is long enough.
    fn wrote_base(&mut self, result: io::Result<()>, now: Now) -> io::Result<()> {
        match result {
            Ok(()) => {}
            Err(error) if is_full(&error) => {
                self.abort_base(now);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let State::Gathering(gathering) = &self.compaction.state else { return Ok(()) };
        if gathering.offset < self.segment_bytes {
            return Ok(());
        }
        let (generation, part) = (gathering.generation, gathering.parts.len() as u64 + 1);
        let Some(begun) = self.begin_part(generation, part, now)? else { return Ok(()) };
        let State::Gathering(gathering) = &mut self.compaction.state else { return Ok(()) };
        let full = gathering.turn_to(begun);
        self.compaction.syncs += 1;
        self.give_out(Chore::SyncBase { file: full });
        Ok(())
    }

    /// All shards have ended: closes the live set, and asks for the log to be durable.
    fn end_base(&mut self, now: Now) -> io::Result<()> {
        let State::Gathering(gathering) = &mut self.compaction.state else { return Ok(()) };
        let result = gathering.write_group(true);
        match result {
            Ok(()) => {}
            Err(error) if is_full(&error) => {
                self.abort_base(now);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        gathering.end_part();
        let mut manifest = self.manifest.clone();
        manifest.generation = gathering.generation;
        manifest.fresh = false;
        manifest.parts = std::mem::take(&mut gathering.parts);
        manifest.log_first = gathering.log_first;
        manifest.sequence = gathering.sequence;
        manifest.version_max = gathering.version_max;
        let file = gathering.file.clone();
        // With the files before these goes what the older keys are for: all that stays was begun by this
        // process, under the newest.
        manifest.keys.drain(..manifest.keys.len().saturating_sub(1));
        self.compaction.state = State::Syncing { manifest: Box::new(manifest), file, through: self.written };
        Ok(())
    }

    fn switch(&mut self) {
        let idle = State::Idle { not_before_ms: 0 };
        let State::Syncing { manifest, file, .. } = std::mem::replace(&mut self.compaction.state, idle)
        else {
            return;
        };
        let generation = self.manifest.generation;
        let old_parts = (0..self.manifest.parts.len() as u64).map(|part| base_name(generation, part));
        let old_log = self.older.iter().filter(|(number, _)| *number < manifest.log_first);
        let stale = old_parts.chain(old_log.map(|(number, _)| log_name(*number))).collect();
        self.give_out(Chore::Switch { manifest: (*manifest).clone(), last_part: file, stale });
        self.compaction.state = State::Switching { manifest };
    }

    /// A part of the live set is durable, or is not.
    pub(super) fn base_synced(&mut self, result: io::Result<()>, now: Now) -> io::Result<()> {
        self.compaction.syncs -= 1;
        match result {
            Err(error) if is_full(&error) => {
                self.abort_base(now);
                Ok(())
            }
            result => result,
        }
    }

    /// The new live set counts. Or it does not, the disk being full, or it is unknown which does: an error.
    pub(super) fn switched(&mut self, result: io::Result<bool>, now: Now) -> io::Result<()> {
        if !result? {
            self.abort_base(now);
            return Ok(());
        }
        let idle = State::Idle { not_before_ms: 0 };
        if let State::Switching { manifest } = std::mem::replace(&mut self.compaction.state, idle) {
            self.older.retain(|(number, _)| *number >= manifest.log_first);
            self.manifest = *manifest;
            let (bytes, number) = (bytes_of(&self.manifest), self.compaction.number);
            let few = self.stale_bytes_max();
            self.compaction.learn(bytes, self.log_bytes(), few);
            self.sources.iter().for_each(|source| source.keep_base(number));
        }
        Ok(())
    }

    /// Gives an attempt up, because the disk is full. What it has written is removed.
    pub(super) fn abort_base(&mut self, now: Now) {
        // There was room for as much as was expected.
        let Compaction { reported_bytes, ratio, beside, .. } = self.compaction;
        let written = self.log_bytes();
        if self.compaction.new_bytes() > (reported_bytes as f64 * ratio) as u64 + beside + written {
            self.compaction.set_ratio(self.compaction.ratio * 1.5);
        }
        let idle = State::Idle { not_before_ms: now.unix_ms + RETRY_MS };
        let (generation, parts) = match std::mem::replace(&mut self.compaction.state, idle) {
            State::Idle { .. } => return,
            State::Gathering(gathering) => (gathering.generation, gathering.parts.len() + 1),
            State::Syncing { manifest, .. } | State::Switching { manifest } => {
                (manifest.generation, manifest.parts.len())
            }
        };
        let names = (0..parts as u64).map(|part| base_name(generation, part)).collect();
        self.give_out(Chore::Remove { names });
    }

    /// Gives an attempt up for good, because the node ends.
    pub(super) fn abandon_base(&mut self, now: Now) {
        self.abort_base(now);
        self.compaction.state = State::Idle { not_before_ms: u64::MAX };
    }
}

impl Gathering {
    fn write_group(&mut self, closes: bool) -> io::Result<()> {
        let bytes = self.group.finish(0, closes);
        write_all(&*self.file, bytes, self.offset)?;
        self.wrote(self.group.length());
        Ok(())
    }

    fn wrote(&mut self, length: u64) {
        self.offset += length;
        self.group.begin(self.group.sequence() + 1);
    }

    fn end_part(&mut self) {
        self.parts.push(Part { length: self.offset, last_sequence: self.group.sequence() - 1 });
    }

    /// Goes on in another file. Answers the one that is whole.
    fn turn_to(&mut self, begun: Begun) -> Arc<dyn DiskFile> {
        self.end_part();
        self.offset = FILE_HEAD_BYTES as u64;
        self.group.turn_to(begun.mark, begun.sealer);
        std::mem::replace(&mut self.file, begun.file)
    }
}
