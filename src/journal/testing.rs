//! The writer's side for tests outside: of what a shard hands over, and of shards and journal together.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::chore::{Chore, Done};
use super::folder::{Folder, JournalConfig, OpenError, Opened};
use super::room::Next;
use super::seal::TAG_BYTES;
use super::segment::{FILE_HEAD_BYTES, PIECE_BYTES, PIECE_HEAD_BYTES};
use super::simulated_disk::{Random, SimulatedDisk};
use super::tap::{Frame, Health, Source};
use super::writer::Writer;
use crate::clock::Now;
use crate::doorbell::Doorbell;

/// What a shard handed over.
#[derive(Clone, Debug)]
pub(crate) enum Handed {
    /// An encoded change.
    Change(Vec<u8>),
    /// Here begins the live set of this number.
    BaseBegins(u64),
    /// An encoded part of the live set.
    Base(Vec<u8>),
    /// The live set is complete.
    BaseEnds,
}

impl Source {
    /// All that is there.
    pub(crate) fn drain(&mut self) -> Vec<Handed> {
        let mut handed = Vec::new();
        self.take(|frame, body, value| {
            let body = [body, value.as_deref().unwrap_or_default()].concat();
            handed.push(match frame {
                Frame::Change | Frame::ChangeWithValue => Handed::Change(body),
                Frame::Base | Frame::BaseWithValue => Handed::Base(body),
                Frame::BaseBegins => {
                    Handed::BaseBegins(u64::from_le_bytes(body.try_into().expect("a number")))
                }
                Frame::BaseEnds => Handed::BaseEnds,
            });
            true
        });
        handed
    }

    pub(crate) fn ask_for_base(&self, number: u64) {
        self.want_base(number);
    }

    pub(crate) fn be(&self, health: Health) {
        self.set_health(health);
    }

    pub(crate) fn hold_writes(&self, held: bool) {
        self.hold(held);
    }

    pub(crate) fn keep_up_to(&self, records: u64) {
        self.keep(records);
    }
}

/// Opens the folder on a simulated disk.
pub(crate) fn open_on(disk: &SimulatedDisk, config: &JournalConfig) -> Result<Opened, OpenError> {
    Folder::open_on(Arc::new(disk.clone()), config)
}

pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    super::disk::is_full(error)
}

/// What a live set of records of these encoded lengths takes at most, with its files' heads.
pub(crate) fn live_set_bytes(lengths: impl Iterator<Item = u64>, config: &JournalConfig) -> u64 {
    let of_record = |length: u64| {
        let pieces = length.div_ceil(PIECE_BYTES as u64).max(1);
        length + pieces * (PIECE_HEAD_BYTES + if config.key.is_some() { TAG_BYTES } else { 0 }) as u64
    };
    let records: u64 = lengths.map(of_record).sum();
    // A group is written when it is long enough, and its head is short beside that.
    records + records / config.segment_bytes * FILE_HEAD_BYTES as u64
}

/// The writer with its chores, for whoever steps it as the threads of `driver` would: the thread that steps
/// it, and one for each lane of chores.
#[derive(Debug)]
pub(crate) struct SteppedWriter {
    writer: Writer,
    disk: SimulatedDisk,
    /// What wakes the thread that steps it.
    bell: Arc<Doorbell>,
    /// Each chore with the time at which it is done.
    lanes: [VecDeque<(u64, Chore)>; 2],
    results: Vec<Done>,
}

impl SteppedWriter {
    pub(crate) fn start(
        opened: Opened,
        disk: &SimulatedDisk,
        sources: Vec<Source>,
        wakers: Arc<[Doorbell]>,
        bell: Arc<Doorbell>,
    ) -> io::Result<SteppedWriter> {
        let writer = Writer::start(opened, sources, wakers)?;
        Ok(SteppedWriter { writer, disk: disk.clone(), bell, lanes: Default::default(), results: Vec::new() })
    }

    /// One round of the thread. Whether another follows at once, and if not, when one is due without
    /// anything new.
    pub(crate) fn turn(&mut self, random: &mut Random, now: Now) -> (bool, Option<u64>) {
        self.take_results(now);
        let step = self.writer.step(now);
        self.give_out(random, now);
        (step.again, step.at_ms)
    }

    /// Whether the thread may not go to sleep.
    pub(crate) fn has_work(&self) -> bool {
        !self.writer.is_idle() || !self.results.is_empty()
    }

    /// When the next chore of each lane is done.
    pub(crate) fn chores_due_ms(&self) -> [Option<u64>; 2] {
        self.lanes.each_ref().map(|lane| lane.front().map(|(due_ms, _)| *due_ms))
    }

    /// The next chore of a lane is done.
    pub(crate) fn do_chore(&mut self, lane: usize) {
        if let Some((_, chore)) = self.lanes[lane].pop_front() {
            self.results.push(chore.run(&self.disk));
            self.bell.ring();
        }
    }

    /// Whether a compaction is under way.
    pub(crate) fn compacts(&self) -> bool {
        !self.writer.compaction.is_idle()
    }

    pub(crate) fn health(&self) -> Health {
        self.writer.health().0
    }

    /// How it is, for whoever looks for what is wrong.
    pub(crate) fn shown(&self) -> String {
        let Writer { log, next, older, blocked, stalled_until_ms, compaction, .. } = &self.writer;
        let next = match next {
            Next::Absent => "absent",
            Next::Asked => "asked for",
            Next::Short(..) => "short",
            Next::Ready(..) => "ready",
            Next::Refused(_) => "refused",
        };
        let mut compaction = format!("{compaction:?}");
        compaction.truncate(400);
        format!(
            "segment {} at {} of {}, {} before it, the next {next}, blocked {blocked}, stalled {stalled_until_ms:?}, \
             chores {:?}, {compaction}",
            log.number,
            log.offset,
            log.room,
            older.iter().map(|(_, bytes)| bytes).sum::<u64>(),
            self.chores_due_ms(),
        )
    }

    /// The end in good order, when the reactors have ended.
    pub(crate) fn close(mut self, random: &mut Random, now: Now) -> io::Result<()> {
        self.take_results(now);
        while self.lanes.iter().any(|lane| !lane.is_empty()) {
            self.give_out(random, now);
            (0..2).for_each(|lane| self.do_chore(lane));
            self.take_results(now);
        }
        self.writer.close(now)
    }

    fn take_results(&mut self, now: Now) {
        for done in std::mem::take(&mut self.results) {
            self.writer.done(done, now);
        }
    }

    fn give_out(&mut self, random: &mut Random, now: Now) {
        for chore in self.writer.take_chores() {
            let lane = &mut self.lanes[usize::from(chore.is_sync())];
            let begins_ms = lane.back().map_or(now.unix_ms, |(due_ms, _)| *due_ms).max(now.unix_ms);
            let takes_ms = if random.one_in(4) { random.below(400) } else { random.below(8) };
            lane.push_back((begins_ms + takes_ms, chore));
        }
    }
}
