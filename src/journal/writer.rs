//! Takes what the shards hand over, writes it in groups, and says how far it is kept.
//!
//! A state machine: it has no thread and no clock, and what takes long it gives out as a [`Chore`]. One
//! [`Writer::step`] takes all there is up to a bound, writes it with one call, and publishes. While a sync is
//! under way the next group gathers in the rings: that is all there is to group commit.
//!
//! Never done here: a failed write or sync is not repeated, since nobody knows what the disk has then.
//! Nothing is acknowledged any more, ever. A full disk is no failure: it is noticed when the next segment
//! cannot be made, while there is still half a segment for what makes room.

use std::io;
use std::sync::Arc;

use super::base::Compaction;
use super::chore::{Chore, Done, Room, place_next};
use super::disk::{Disk, DiskFile, is_full, write_all};
use super::fault::{Fault, is_planted};
use super::files::Begun;
use super::folder::{Opened, Sync};
use super::manifest::{Keys, Manifest};
use super::record::version_max;
use super::room::{Next, Segment};
use super::segment::{FILE_HEAD_BYTES, Group};
use super::tap::{Frame, Health, Source};
use crate::clock::Now;
use crate::doorbell::Doorbell;
use crate::op::Large;

/// Bytes that are gathered into one group, about.
const GROUP_BYTES: u64 = 512 * 1_024;

/// Under `everysec` a sync begins when something has waited for it so long; it has as long again to end.
const SYNC_AFTER_MS: u64 = 500;

/// What is older than this and not durable holds up every answer under `everysec`.
const UNSYNCED_MS_MAX: u64 = 1_000;

/// What a step has done, and when the next is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// There may be more to do right now.
    pub again: bool,
    /// With nothing new the next step is due at this time.
    pub at_ms: Option<u64>,
}

/// How far the records of a shard have come.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    taken: u64,
    written: u64,
    kept: u64,
    /// Something was taken from its rings in this step.
    touched: bool,
}

/// A record that is too long to share a group.
#[derive(Debug)]
pub(super) struct Alone {
    pub head: Vec<u8>,
    pub value: Option<Large>,
    pub of: Of,
}

/// Where a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Log { shard: usize },
    Base,
}

/// What is written and not known to be durable.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    /// Segments before the present one.
    pub files: Vec<Arc<dyn DiskFile>>,
    /// Names in the folder have changed.
    pub folder: bool,
    /// When the oldest of it was written that no sync under way is about.
    pub since_ms: Option<u64>,
}

/// A sync under way.
#[derive(Clone, Copy, Debug)]
struct Syncing {
    /// The last group that it is about.
    through: u64,
    since_ms: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) disk: Arc<dyn Disk>,
    _lock: Arc<dyn DiskFile>,
    sync: Sync,
    pub(super) segment_bytes: u64,
    pub(super) group_bytes: u64,
    pub(super) manifest: Manifest,
    pub(super) keys: Keys,
    pub(super) sources: Vec<Source>,
    wakers: Arc<[Doorbell]>,
    counts: Vec<Count>,
    /// Whose rings come first in the next step.
    first: usize,
    pub(super) log: Segment,
    pub(super) group: Group,
    alone: Option<Alone>,
    /// Segments before the present one, with their bytes.
    pub(super) older: Vec<(u64, u64)>,
    pub(super) next: Next,
    /// The last group that is written, and the last that is durable.
    pub(super) written: u64,
    pub(super) synced: u64,
    pub(super) unsynced: Unsynced,
    syncing: Option<Syncing>,
    /// A write found the disk full; tried again at this time.
    pub(super) stalled_until_ms: Option<u64>,
    pub(super) compaction: Compaction,
    pub(super) version_max: u64,
    pub(super) health: Health,
    failure: Option<io::Error>,
    held: bool,
    /// Something cannot be written before there is room.
    pub(super) blocked: bool,
    chores: Vec<Chore>,
}

impl Writer {
    /// Begins a segment behind what the folder holds.
    pub(super) fn start(opened: Opened, sources: Vec<Source>, wakers: Arc<[Doorbell]>) -> io::Result<Writer> {
        let (version_max, taps) = (opened.version_max().0, sources.len());
        let Opened { disk, lock, config, mut manifest, keys, sequence, segment, log: older, .. } = opened;
        let number = segment + 1;
        let group_bytes = GROUP_BYTES.min(config.segment_bytes / 8);
        let room = Room { bytes: config.segment_bytes, bytes_min: 4 * group_bytes, spare: 0 };
        let prepare = Chore::Prepare { number, keys: keys.clone(), room };
        let Done::Prepared(prepared) = prepare.run(&*disk) else { unreachable!("what was asked") };
        let (Begun { file, mark, sealer }, room) = prepared?;
        place_next(&*disk, number)?;
        disk.sync_folder()?;
        manifest.is_begun(&*disk)?;
        let group = Group::new(mark, sealer, sequence + 1, 2 * group_bytes as usize);
        let generation = manifest.generation;
        let base_bytes = manifest.parts.iter().map(|part| part.length).sum();
        Ok(Writer {
            disk,
            _lock: lock,
            sync: config.sync,
            segment_bytes: config.segment_bytes,
            group_bytes,
            manifest,
            keys,
            counts: vec![Count::default(); taps],
            sources,
            wakers,
            first: 0,
            log: Segment { number, file, offset: FILE_HEAD_BYTES as u64, room },
            group,
            alone: None,
            older,
            next: Next::Absent,
            written: sequence,
            synced: sequence,
            unsynced: Unsynced::default(),
            syncing: None,
            stalled_until_ms: None,
            compaction: Compaction::new(generation, base_bytes),
            version_max,
            health: Health::Good,
            failure: None,
            held: false,
            blocked: false,
            chores: Vec::new(),
        })
    }

    /// Does what there is to do now.
    pub(super) fn step(&mut self, now: Now) -> Step {
        if self.health == Health::Failed {
            self.discard();
            return Step { again: false, at_ms: None };
        }
        let result = self.advance(now);
        let again = self.settle(result, now);
        Step { again: again && self.health != Health::Failed, at_ms: self.due_at_ms(now) }
    }

    /// What is to be done beside the writer.
    pub(super) fn take_chores(&mut self) -> std::vec::Drain<'_, Chore> {
        self.chores.drain(..)
    }

    /// What has come of a chore.
    pub(super) fn done(&mut self, done: Done, now: Now) {
        if self.health == Health::Failed {
            return;
        }
        let result = match done {
            Done::Synced(result) => result.map(|()| self.synced_through()),
            Done::Prepared(result) => self.prepared(result, now),
            Done::Grown(result) => self.grown(result),
            Done::BaseSynced(result) => self.base_synced(result, now),
            Done::Switched(result) => self.switched(result, now),
            Done::Removed => Ok(()),
        };
        let settled = result.map(|()| true);
        self.settle(settled, now);
    }

    /// How the journal is, and what has failed if something has.
    pub(super) fn health(&self) -> (Health, Option<&io::Error>) {
        (self.health, self.failure.as_ref())
    }

    /// Whether nothing can be done before something else happens.
    pub(super) fn is_idle(&self) -> bool {
        self.blocked
            || self.stalled_until_ms.is_some()
            || self.sources.iter().all(|source| !source.has_more())
    }

    fn advance(&mut self, now: Now) -> io::Result<bool> {
        if self.stalled_until_ms.is_some_and(|until| now.unix_ms < until) {
            return Ok(false);
        }
        self.stalled_until_ms = None;
        // What the last step could not write is in front of everything.
        self.blocked = !self.write(now)?;
        // It begins a segment if one is due, rather than that the log goes on in it.
        self.compact(now)?;
        self.blocked = self.blocked || !self.has_room()?;
        let moved = !self.blocked && self.gather();
        if moved {
            self.blocked = !self.write(now)?;
        }
        self.sync_if_due(now)?;
        self.prepare_next(now);
        // Nobody may be left to wake it for what is durable already.
        Ok(moved || self.compacts_on() && !is_planted(Fault::CompactionNotWoken))
    }

    /// Takes from the rings what fits into a group, one after the other. In which order is all the same: what
    /// one shard does because of something that another has done, it does when that is kept.
    fn gather(&mut self) -> bool {
        let Writer {
            sources,
            counts,
            group,
            alone,
            compaction,
            version_max: versions,
            group_bytes,
            first,
            ..
        } = self;
        let (count, group_bytes) = (sources.len(), *group_bytes);
        let mut taken = false;
        for at in (*first..count).chain(0..*first) {
            let counts = &mut counts[at];
            counts.touched = sources[at].take(|frame, body, value| {
                let is_alone =
                    (body.len() + value.as_ref().map_or(0, |value| value.len())) as u64 > group_bytes / 2;
                match frame {
                    Frame::Change | Frame::ChangeWithValue => {
                        *versions = (*versions).max(version_max(body));
                        if is_alone {
                            *alone = Some(Alone { head: body.to_vec(), value, of: Of::Log { shard: at } });
                        } else {
                            counts.taken += 1;
                            group.push(body, value.as_deref().unwrap_or_default());
                        }
                    }
                    Frame::BaseBegins => compaction.begins(at, body),
                    Frame::Base | Frame::BaseWithValue => match compaction.group(at, body) {
                        None => {}
                        Some(_) if is_alone => {
                            *alone = Some(Alone { head: body.to_vec(), value, of: Of::Base });
                        }
                        Some(group) => group.push(body, value.as_deref().unwrap_or_default()),
                    },
                    Frame::BaseEnds => compaction.ends(at),
                }
                alone.is_none() && group.length() < group_bytes && compaction.group_length() < group_bytes
            });
            taken |= counts.touched;
            if alone.is_some() || group.length() >= group_bytes || compaction.group_length() >= group_bytes {
                *first = (at + 1) % count;
                break;
            }
        }
        taken
    }

    /// Writes what was gathered. False if something is left that cannot be written yet.
    fn write(&mut self, now: Now) -> io::Result<bool> {
        if !self.group.is_empty() && !self.write_group(now, false)? {
            return Ok(false);
        }
        if !self.write_base(now)? {
            return Ok(false);
        }
        let Some(alone) = self.alone.take() else { return Ok(true) };
        let is_written = match alone.of {
            Of::Base => self.write_base_alone(&alone, now)?,
            Of::Log { .. } => self.write_alone(&alone, now)?,
        };
        match (is_written, alone.of) {
            (false, _) => self.alone = Some(alone),
            (true, Of::Log { shard }) => {
                self.counts[shard].taken += 1;
                self.counts[shard].written += 1;
            }
            (true, Of::Base) => {}
        }
        Ok(is_written)
    }

    fn write_group(&mut self, now: Now, closes: bool) -> io::Result<bool> {
        let bytes = self.group.finish(self.synced, closes);
        let result = write_all(&*self.log.file, bytes, self.log.offset);
        let length = self.group.length();
        self.wrote(result, length, now)
    }

    fn write_alone(&mut self, alone: &Alone, now: Now) -> io::Result<bool> {
        let value = alone.value.as_deref().unwrap_or_default();
        let length = self.group.length_alone(&alone.head, value);
        if self.log.offset + length > self.log.room {
            if self.log.offset > FILE_HEAD_BYTES as u64 && !self.rotate()? {
                return Ok(false);
            }
            let room = self.log.offset + length;
            if room > self.log.room {
                if let Err(error) = self.log.file.allocate(room) {
                    return self.wrote(Err(error), 0, now);
                }
                self.log.room = room;
            }
        }
        let Writer { group, log, synced, .. } = self;
        let (file, offset) = (&log.file, log.offset);
        let sequence = group.sequence();
        let result = group
            .write_alone(&alone.head, value, *synced, |bytes, at| write_all(&**file, bytes, offset + at));
        // What a failed attempt has left in it is not the group that comes next.
        self.group.begin(sequence);
        self.wrote(result, length, now)
    }

    /// What has come of writing a group.
    fn wrote(&mut self, result: io::Result<()>, length: u64, now: Now) -> io::Result<bool> {
        match result {
            Ok(()) => {}
            Err(error) if is_full(&error) => {
                self.stall(now);
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        self.log.offset += length;
        self.written = self.group.sequence();
        self.group.begin(self.written + 1);
        self.unsynced.since_ms.get_or_insert(now.unix_ms);
        self.counts.iter_mut().for_each(|count| count.written = count.taken);
        Ok(true)
    }

    /// Under `always` what was written is synced before anything else; otherwise a sync begins if it is time.
    fn sync_if_due(&mut self, now: Now) -> io::Result<()> {
        let wanted = self.compaction.wants_sync();
        let due = match self.sync {
            Sync::Always => self.written > self.synced,
            Sync::Everysec => {
                self.unsynced.since_ms.is_some_and(|since| now.unix_ms >= since + SYNC_AFTER_MS)
            }
            Sync::Never => false,
        };
        if self.syncing.is_some() || !(due || wanted && self.written > self.synced) {
            return Ok(());
        }
        let chore = self.begin_sync(now);
        if self.sync != Sync::Always || is_planted(Fault::AcknowledgedEarly) {
            self.chores.push(chore);
            return Ok(());
        }
        match chore.run(&*self.disk) {
            Done::Synced(result) => result.map(|()| self.synced_through()),
            _ => unreachable!("what was asked"),
        }
    }

    fn begin_sync(&mut self, now: Now) -> Chore {
        let Unsynced { mut files, folder, since_ms } = std::mem::take(&mut self.unsynced);
        files.push(self.log.file.clone());
        self.syncing = Some(Syncing { through: self.written, since_ms: since_ms.unwrap_or(now.unix_ms) });
        Chore::Sync { files, folder }
    }

    fn synced_through(&mut self) {
        if let Some(Syncing { through, .. }) = self.syncing.take() {
            self.synced = self.synced.max(through);
        }
    }

    /// After everything that may have changed how things are: what failed, what is kept, who is to know.
    fn settle(&mut self, result: io::Result<bool>, now: Now) -> bool {
        let again = match result {
            Ok(again) => again,
            Err(error) => {
                self.fail(error);
                return false;
            }
        };
        self.publish(now);
        self.set_health(self.health_now());
        again
    }

    /// Tells each shard how far its records are kept, and wakes those that wait for it or for room.
    fn publish(&mut self, now: Now) {
        let may = match self.sync {
            Sync::Always => self.synced >= self.written || is_planted(Fault::AcknowledgedEarly),
            Sync::Everysec => {
                self.oldest_unsynced_ms().is_none_or(|since| now.unix_ms <= since + UNSYNCED_MS_MAX)
            }
            Sync::Never => true,
        };
        for ((count, source), waker) in self.counts.iter_mut().zip(&self.sources).zip(self.wakers.iter()) {
            let is_late = std::mem::take(&mut count.touched) && source.is_late();
            let is_news = may && count.kept < count.written;
            if is_news {
                count.kept = count.written;
                source.keep(count.kept);
            }
            if is_news || is_late {
                waker.ring();
            }
        }
    }

    fn oldest_unsynced_ms(&self) -> Option<u64> {
        let syncing = self.syncing.map(|syncing| syncing.since_ms);
        syncing.into_iter().chain(self.unsynced.since_ms).min()
    }

    /// When a step is due if nothing else happens.
    fn due_at_ms(&self, now: Now) -> Option<u64> {
        let sync = match (self.sync, self.syncing, self.unsynced.since_ms) {
            (Sync::Everysec, None, Some(since)) => Some(since + SYNC_AFTER_MS),
            _ => None,
        };
        let next = match &self.next {
            Next::Refused(at) | Next::Short(_, _, at) => Some(*at),
            _ => None,
        };
        let compaction = self.compaction.due_at_ms(now).or(self.looks_again_at_ms(now));
        [sync, next, self.stalled_until_ms, compaction].into_iter().flatten().min()
    }

    pub(super) fn give_out(&mut self, chore: Chore) {
        self.chores.push(chore);
    }

    fn set_health(&mut self, health: Health) {
        if self.health != health {
            self.health = health;
            self.sources.iter().for_each(|source| source.set_health(health));
            self.ring_all();
        }
    }

    /// Holds the shards' writes back, or lets them go on.
    pub(super) fn hold(&mut self, held: bool) {
        if self.held != held {
            self.held = held;
            self.sources.iter().for_each(|source| source.hold(held));
            self.ring_all();
        }
    }

    pub(super) fn ring_all(&self) {
        self.wakers.iter().for_each(Doorbell::ring);
    }

    /// Nothing is acknowledged any more.
    fn fail(&mut self, error: io::Error) {
        self.failure = Some(error);
        self.chores.clear();
        self.set_health(Health::Failed);
        self.hold(false);
        self.discard();
    }

    /// Empties the rings, so that they do not grow.
    fn discard(&mut self) {
        for (source, waker) in self.sources.iter_mut().zip(self.wakers.iter()) {
            if source.take(|_, _, _| true) && source.is_late() {
                waker.ring();
            }
        }
    }

    /// The end: writes what is left in the rings, and a closing group, and makes all of it durable. All
    /// chores have come back.
    pub(super) fn close(&mut self, now: Now) -> io::Result<()> {
        // After a failure nothing is touched: what was under way may count or not.
        self.check_failure()?;
        self.abandon_base(now);
        loop {
            let again = self.step(now).again;
            let chores: Vec<Chore> = self.take_chores().collect();
            let is_idle = !again && chores.is_empty();
            for chore in chores {
                let done = chore.run(&*self.disk);
                self.done(done, now);
            }
            self.check_failure()?;
            match (is_idle, self.blocked || self.stalled_until_ms.is_some()) {
                (true, true) => return Err(io::ErrorKind::StorageFull.into()),
                (true, false) => break,
                (false, _) => {}
            }
        }
        self.sync_now(now)?;
        if !self.write_group(now, true)? {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.log.file.truncate(self.log.offset)?;
        self.sync_now(now)?;
        self.publish(now);
        let left = [super::chore::LOG_NEXT.to_string()];
        if matches!(self.next, Next::Ready(..) | Next::Short(..)) {
            Chore::Remove { names: left.into() }.run(&*self.disk);
        }
        Ok(())
    }

    fn check_failure(&mut self) -> io::Result<()> {
        match self.health {
            Health::Failed => {
                Err(self.failure.take().unwrap_or_else(|| io::Error::other("the journal has failed")))
            }
            Health::Good | Health::Full | Health::Exhausted => Ok(()),
        }
    }

    fn sync_now(&mut self, now: Now) -> io::Result<()> {
        match self.begin_sync(now).run(&*self.disk) {
            Done::Synced(result) => result.map(|()| self.synced_through()),
            _ => unreachable!("what was asked"),
        }
    }
}
