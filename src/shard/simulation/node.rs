//! A node: its reactors and the writer of its journal, of which one acts at a time, whoever the seed likes.
//!
//! Each acts only when its real thread would: when its doorbell woke it, when it is time, or when it has said
//! that it goes on. So a wake-up that is missing leaves something undone for ever, and is seen.

use std::sync::Arc;

use super::model::{Found, History, record_bytes, walk};
use super::plan::Ask;
use super::reactor::Reactor;
use super::sleeper::{Phase, Sleeper};
use super::world::World;
use crate::clock::Now;
use crate::doorbell::Doorbell;
use crate::journal::{Health, SimulatedDisk, SteppedWriter, live_set_bytes};
use crate::op::KeyHasher;
use crate::shard::NotBack;

/// In this time everything comes to rest when nothing is in its way, in milliseconds. A compaction that
/// found the disk full is tried again after ten seconds.
const REST_MS_MAX: u64 = 60_000;

/// What a segment is shorter or longer than it should, and heads of files.
fn folder_slack(segment_bytes: u64) -> u64 {
    segment_bytes / 32 + 4 * 1_024
}

#[derive(Debug)]
pub(super) struct Node {
    writer: SteppedWriter,
    thread: Sleeper,
    bell: Arc<Doorbell>,
    /// When the writer wants to step again, as it said last.
    at_ms: Option<u64>,
    pub reactors: Vec<Reactor>,
    wakers: Arc<[Doorbell]>,
}

/// Somebody who may act.
#[derive(Clone, Copy, Debug)]
enum Actor {
    Writer,
    Reactor(usize),
    Lane(usize),
}

impl Node {
    pub(super) fn new(
        writer: SteppedWriter,
        thread: Sleeper,
        bell: Arc<Doorbell>,
        reactors: Vec<Reactor>,
        wakers: Arc<[Doorbell]>,
    ) -> Node {
        Node { writer, thread, bell, at_ms: None, reactors, wakers }
    }

    pub(super) fn is_serving(&self) -> bool {
        self.reactors.iter().all(|reactor| !reactor.is_recovering())
    }

    pub(super) fn take_unfit(&mut self) -> Option<NotBack> {
        self.reactors.iter_mut().find_map(|reactor| reactor.unfit.take())
    }

    /// Keys that have made way.
    pub(super) fn evictions(&self) -> u64 {
        self.reactors.iter().map(|reactor| reactor.shard.stats().evictions).sum()
    }

    pub(super) fn histories(&mut self) -> Vec<History> {
        self.reactors.iter_mut().map(|reactor| std::mem::take(&mut reactor.history)).collect()
    }

    /// Something happens: clients ask, time passes, or somebody acts.
    pub(super) fn event(&mut self, world: &mut World, is_quiet: bool) -> Found {
        if !is_quiet && self.is_serving() && world.random.one_in(3) {
            self.clients_ask(world);
        }
        world.now_ms += match world.random.below(400) {
            0 => world.random.below(1_500),
            1..8 => world.random.below(100),
            8..80 => 1,
            _ => 0,
        };
        let runnable = self.runnable(world.now_ms);
        match runnable.len() as u64 {
            0 => world.now_ms += 1 + world.random.below(20),
            count => self.act(runnable[world.random.below(count) as usize], world)?,
        }
        Ok(())
    }

    /// With nothing in its way and nobody asking, everything comes to rest: all is kept and answered, no
    /// compaction is under way, and the folder is as small as it has to be.
    pub(super) fn comes_to_rest(&mut self, world: &mut World, disk: &SimulatedDisk) -> Found {
        let begun_ms = world.now_ms;
        loop {
            if self.writer.health() == Health::Failed {
                return if disk.has_failed() {
                    Ok(())
                } else {
                    Err("it has failed, and the disk has not".into())
                };
            }
            let runnable = self.runnable(world.now_ms);
            if !runnable.is_empty() {
                let actor = runnable[world.random.below(runnable.len() as u64) as usize];
                self.act(actor, world)?;
                world.now_ms += u64::from(world.random.one_in(8));
                if self.take_unfit().is_some() {
                    return Ok(());
                }
            } else {
                let Some(why) = self.is_stuck(world, disk) else { break };
                match self.next_due_ms() {
                    Some(due_ms) if due_ms <= begun_ms + REST_MS_MAX => {
                        world.now_ms = due_ms.max(world.now_ms)
                    }
                    due_ms => {
                        let (after_ms, shown) = (world.now_ms - begun_ms, self.writer.shown());
                        return Err(format!(
                            "nobody goes on after {after_ms} ms: {why} (next {due_ms:?}); {shown}"
                        ));
                    }
                }
            }
            if world.now_ms > begun_ms + REST_MS_MAX {
                let why = self.is_stuck(world, disk).unwrap_or_default();
                return Err(format!("it does not come to rest: {why}; {}", self.writer.shown()));
            }
        }
        self.reactors.iter().try_for_each(|reactor| reactor.agrees(world))
    }

    /// The end in good order. Whether it was one: then everything is durable.
    pub(super) fn close(self, world: &mut World) -> std::io::Result<bool> {
        let is_all_handed_over = self
            .reactors
            .iter()
            .all(|reactor| reactor.shard.durable.as_ref().is_none_or(|durable| durable.tap.room() > 0));
        let now = world.now();
        self.writer.close(&mut world.random, now)?;
        Ok(is_all_handed_over)
    }

    fn clients_ask(&mut self, world: &mut World) {
        let count = if world.random.one_in(100) { 60 } else { 1 + world.random.below(5) };
        for _ in 0..count {
            let World { plan, random, spaces, .. } = world;
            let ask = plan.ask(random, spaces);
            let at = match &ask {
                Ask::Key { namespace, key, .. } | Ask::List { namespace, key, .. } => {
                    KeyHasher::owner(world.hasher.hash(*namespace, key), self.reactors.len())
                }
                Ask::Create { .. } | Ask::Drop(_) => 0,
            };
            self.reactors[at].inbox.push_back(ask);
            self.reactors[at].wake(&self.wakers[at]);
        }
    }

    fn runnable(&self, now_ms: u64) -> Vec<Actor> {
        let mut runnable = Vec::new();
        if self.thread.is_runnable(now_ms) {
            runnable.push(Actor::Writer);
        }
        for (at, reactor) in self.reactors.iter().enumerate() {
            if reactor.sleeper.is_runnable(now_ms) && reactor.unfit.is_none() {
                runnable.push(Actor::Reactor(at));
            }
        }
        for (lane, due_ms) in self.writer.chores_due_ms().into_iter().enumerate() {
            if due_ms.is_some_and(|due_ms| due_ms <= now_ms) {
                runnable.push(Actor::Lane(lane));
            }
        }
        runnable
    }

    fn next_due_ms(&self) -> Option<u64> {
        let sleepers = self.reactors.iter().map(|reactor| &reactor.sleeper).chain([&self.thread]);
        sleepers.filter_map(Sleeper::until_ms).chain(self.writer.chores_due_ms().into_iter().flatten()).min()
    }

    fn act(&mut self, actor: Actor, world: &mut World) -> Found {
        match actor {
            Actor::Writer => self.writer_acts(world),
            Actor::Reactor(at) => self.reactor_acts(at, world),
            Actor::Lane(lane) => {
                self.writer.do_chore(lane);
                Ok(())
            }
        }
    }

    fn writer_acts(&mut self, world: &mut World) -> Found {
        let now = world.now();
        match self.thread.phase {
            Phase::Awake => {
                let (again, at_ms) = self.writer.turn(&mut world.random, now);
                self.at_ms = at_ms;
                if !again {
                    self.thread.phase = Phase::Tired;
                }
                for reactor in self.reactors.iter_mut().filter(|reactor| reactor.shard.is_journalled()) {
                    let kept = reactor.shard.kept();
                    reactor.history.keep(kept, world.now_ms)?;
                }
            }
            Phase::Tired => {
                self.bell.announce_sleep();
                self.thread.phase = Phase::Announced;
            }
            Phase::Announced if !self.writer.has_work() => {
                let until_ms = self.at_ms.map(|at_ms| at_ms.max(world.now_ms + 1));
                self.thread.phase = Phase::Asleep { until_ms };
            }
            Phase::Announced | Phase::Asleep { .. } => {
                self.bell.awake();
                self.thread.wake();
            }
        }
        Ok(())
    }

    fn reactor_acts(&mut self, at: usize, world: &mut World) -> Found {
        let reactor = &mut self.reactors[at];
        let goes_on = reactor.sleeper.phase == Phase::Announced && reactor.can_go_on(world);
        match reactor.sleeper.phase {
            Phase::Awake => {
                if !reactor.turn(world)? {
                    reactor.sleeper.phase = Phase::Tired;
                }
                self.spread(world);
            }
            Phase::Tired => {
                self.wakers[at].announce_sleep();
                reactor.sleeper.phase = Phase::Announced;
            }
            Phase::Announced if !goes_on => {
                let until_ms = reactor.due_ms().map(|due_ms| due_ms.max(world.now_ms + 1));
                reactor.sleeper.phase = Phase::Asleep { until_ms };
            }
            Phase::Announced | Phase::Asleep { .. } => reactor.wake(&self.wakers[at]),
        }
        Ok(())
    }

    /// Tells the other reactors what they have to follow.
    fn spread(&mut self, world: &mut World) {
        for follow in std::mem::take(&mut world.follows) {
            for (reactor, waker) in self.reactors.iter_mut().zip(&*self.wakers).skip(1) {
                reactor.follows.push_back(follow);
                waker.ring();
            }
        }
    }

    fn is_stuck(&self, world: &World, disk: &SimulatedDisk) -> Option<String> {
        if let Some(why) = self.reactors.iter().find_map(Reactor::is_stuck) {
            return Some(why);
        }
        if self.writer.compacts() {
            return Some("a compaction is under way".into());
        }
        let health = self.writer.health();
        if health != Health::Good {
            return Some(format!("it is {health:?}"));
        }
        let (used, live) = (disk.used(), self.live_bytes(world));
        let segment_bytes = world.plan.config.segment_bytes;
        let bound = 3 * live + 2 * segment_bytes + folder_slack(segment_bytes);
        (used > bound).then(|| format!("the folder has {used} bytes, may have {bound}, and {live} are live"))
    }

    /// What a live set would take now.
    fn live_bytes(&self, world: &World) -> u64 {
        let mut lengths: Vec<u64> = world.spaces.iter().map(|space| 40 + space.name().len() as u64).collect();
        for reactor in &self.reactors {
            walk(&reactor.shard, Now::from_unix_ms(world.now_ms), |entry| lengths.push(record_bytes(entry)));
        }
        live_set_bytes(lengths.into_iter(), &world.plan.config)
    }
}
