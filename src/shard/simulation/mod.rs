//! Shards, their stores, their journal and its recovery over a simulated disk and a simulated clock, in one
//! thread, by a seed.
//!
//! A run is some lives of a node. In each, clients ask for all there is, reactors and writer act in an order
//! that the seed chooses, the disk fills up, fails to sync or is taken away in the middle of a call; now and
//! then everything that was in the way goes, and the node has to come to rest. It ends by a crash that loses
//! what was not synced, or in good order. The next one may have other workers, another memory, another way of
//! syncing; it begins with what comes back, and that is judged (`model`).
//!
//! Everything a run does follows from its seed, which a failure names:
//! `LUCID_SIMULATION_SEED=N cargo test --lib shard::simulation` repeats it, `LUCID_SIMULATION_SEEDS=100000`
//! runs so many, from that one on if it is named too.

mod model;
mod node;
mod plan;
mod reactor;
mod sleeper;
mod world;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use model::{Back, End, Found, Key, Past, State, walk};
use node::Node;
use plan::{Plan, Space};
use reactor::Reactor;
use sleeper::Sleeper;
use world::World;

use crate::clock::{Now, Version};
use crate::doorbell::Doorbell;
use crate::etag::Tags;
use crate::journal::{
    Crash, Fault, OpenError, Opened, Random, SimulatedDisk, SteppedWriter, Sync, connect, is_disk_full,
    open_on, plant,
};
use crate::op::{KeyHasher, Namespace};
use crate::shard::{Comeback, NotBack, RestoreError, Shard};
use crate::store::{Store, StoreConfig, WhenFull};

struct Simulation {
    world: World,
    disk: SimulatedDisk,
    /// What the folder is judged by.
    past: Past,
    /// The latest time that any life has seen, and one before which something was told that may be lost.
    latest_ms: u64,
    floor_ms: u64,
    /// The disk holds durably what it held when the node started last.
    is_durable: bool,
    /// The node has as much room as it had.
    has_room: bool,
    /// Keys that made way in lives that ended before all was back: of reactors that had theirs.
    made_way: u64,
}

/// How a node comes to its end.
enum Life {
    /// It could not begin, as the disk or the memory has no room.
    NotBegun,
    /// It was there, and this was what it did.
    Lived(Past),
}

/// Runs one seed.
fn run(seed: u64) -> Found {
    let mut random = Random(seed);
    let disk = SimulatedDisk::new(random.next());
    let hasher = KeyHasher::seeded(random.next());
    let plan = Plan::of(&mut random);
    let lives = 2 + random.below(3);
    let past = Past::none(hasher.clone());
    let world = World {
        random,
        plan,
        hasher,
        tags: Tags::new(0),
        now_ms: 1_700_000_000_000,
        spaces: BTreeSet::new(),
        next_space: 1,
        shown: HashMap::new(),
        values: 0,
        follows: Vec::new(),
    };
    let latest_ms = world.now_ms;
    let mut simulation = Simulation {
        world,
        disk,
        past,
        latest_ms,
        floor_ms: 0,
        is_durable: true,
        has_room: true,
        made_way: 0,
    };
    for _ in 0..lives {
        simulation.live(false)?;
        simulation.between();
    }
    // Whatever was left is there for one that nothing happens to.
    simulation.live(true)
}

impl Simulation {
    /// Opens the folder, over crashes if the seed likes.
    fn open(&mut self) -> Result<Opened, String> {
        loop {
            let is_interrupted = self.world.random.one_in(4);
            let calls = self.world.random.below(20);
            self.disk.take_away_after(is_interrupted.then_some(calls));
            match open_on(&self.disk, &self.world.plan.config) {
                Ok(opened) if !self.disk.is_taken_away() => {
                    self.disk.take_away_after(None);
                    self.is_durable = true;
                    return Ok(opened);
                }
                Ok(opened) => drop(opened),
                Err(OpenError::Io { .. }) if self.disk.is_taken_away() => {}
                Err(error) => return Err(format!("the folder does not open: {error}")),
            }
            self.crash();
        }
    }

    /// The node ends without being asked.
    fn crash(&mut self) {
        let crash = if self.world.random.one_in(3) { Crash::Process } else { Crash::Power };
        self.disk.crash(crash);
        self.disk.set_capacity(u64::MAX);
        if crash == Crash::Power && !self.is_durable && self.past.end == End::Killed {
            self.past.end = End::PowerLost;
        }
    }

    /// Time passes between two lives, and somebody changes the settings.
    fn between(&mut self) {
        let latest_ms = self.latest_ms.max(self.world.now_ms);
        self.latest_ms = latest_ms;
        let World { random, plan, now_ms, .. } = &mut self.world;
        // A clock that steps back is put up with where nothing that was told can be lost.
        let loses_nothing = self.past.end == End::Closed || self.past.sync == Sync::Always;
        *now_ms = match random.below(8) {
            0 if loses_nothing => (*now_ms - random.below(200)).max(self.floor_ms),
            1 => latest_ms + random.below(10_000),
            _ => latest_ms + 2 + random.below(100),
        };
        if !loses_nothing {
            self.floor_ms = *now_ms;
        }
        self.has_room &= plan.change(random);
    }

    /// A life of the node. One that nothing happens to has no end but a good one.
    fn live(&mut self, is_calm: bool) -> Found {
        loop {
            let life = self.try_to_live(is_calm)?;
            self.latest_ms = self.latest_ms.max(self.world.now_ms);
            match life {
                Life::Lived(past) => {
                    (self.past, self.has_room, self.made_way) = (past, true, 0);
                    return Ok(());
                }
                Life::NotBegun => self.crash(),
            }
        }
    }

    fn try_to_live(&mut self, is_calm: bool) -> Result<Life, String> {
        let opened = self.open()?;
        if opened.version_max() > Version((self.latest_ms + 1) << 16) {
            return Err("a version that was not given out".into());
        }
        self.world.tags = Tags::new(opened.boot_id());
        self.world.spaces = opened.ledger().map(|(name, _)| Space::of(name)).collect();
        let namespaces = self.world.spaces.iter().flat_map(|space| space.namespaces());
        let spaces: HashSet<Namespace> = namespaces.chain([Namespace::KV]).collect();
        let count = self.world.plan.shards;
        let comeback = Comeback {
            replay: opened.replay(),
            hasher: self.world.hasher.clone(),
            shards: count,
            spaces: Arc::new(spaces.clone()),
            version_max: opened.version_max(),
            must_fit: true,
        };
        let thread = Sleeper::default();
        let bell = Arc::new(thread.doorbell());
        let (mut reactors, mut sources) = (Vec::new(), Vec::new());
        for me in 0..count {
            let (tap, source) = connect(bell.clone());
            sources.push(source);
            let part = comeback.part(me, Some(tap));
            let shard = self.shard();
            reactors.push(Reactor::new(me, shard, part, &self.world.spaces, &mut self.world.random));
        }
        let wakers: Arc<[Doorbell]> = reactors.iter().map(|reactor| reactor.sleeper.doorbell()).collect();
        if !is_calm {
            self.arm();
        }
        let writer = match SteppedWriter::start(opened, &self.disk, sources, wakers.clone(), bell.clone()) {
            Ok(writer) => writer,
            Err(_) if self.disk.is_taken_away() || self.disk.has_failed() => return Ok(Life::NotBegun),
            Err(error) if is_disk_full(&error) => return Ok(Life::NotBegun),
            Err(error) => return Err(format!("the writer does not start: {error}")),
        };
        let mut node = Node::new(writer, thread, bell, reactors, wakers);
        while !node.is_serving() {
            if self.disk.is_taken_away() {
                self.made_way += node.evictions();
                return Ok(Life::NotBegun);
            }
            node.event(&mut self.world, true)?;
            if let Some(why) = node.take_unfit() {
                self.made_way += node.evictions();
                return self.unfit(why);
            }
        }
        let mut past = self.judge(&node, &spaces)?;
        past.sync = self.world.plan.config.sync;
        self.is_durable = false;
        let events = if is_calm { 50 } else { 30 + self.world.random.below(400) };
        for _ in 0..events {
            if self.disk.is_taken_away() {
                break;
            }
            self.relent();
            node.event(&mut self.world, false)?;
        }
        if !self.disk.is_taken_away() && (is_calm || self.world.random.one_in(3)) {
            self.disk.take_away_after(None);
            self.disk.set_capacity(u64::MAX);
            self.disk.fail_syncs(None);
            node.comes_to_rest(&mut self.world, &self.disk)?;
        }
        past.histories = node.histories();
        past.end = End::Killed;
        if !self.disk.is_taken_away() && (is_calm || self.world.random.one_in(3)) {
            match node.close(&mut self.world) {
                Ok(true) => past.end = End::Closed,
                Ok(false) => {}
                Err(error) => {
                    let is_excused =
                        self.disk.is_taken_away() || self.disk.has_failed() || is_disk_full(&error);
                    if !is_excused {
                        return Err(format!("the journal does not close: {error}"));
                    }
                }
            }
        }
        self.past = past;
        self.crash();
        let past = std::mem::replace(&mut self.past, Past::none(self.world.hasher.clone()));
        Ok(Life::Lived(past))
    }

    fn shard(&self) -> Shard {
        let Plan { memory_bytes, evicts, .. } = self.world.plan;
        let config = StoreConfig {
            memory_bytes,
            value_bytes_max: self.world.plan.value_bytes_max(),
            when_full: if evicts { WhenFull::Evict } else { WhenFull::Reject },
        };
        let store = Store::new(config, self.world.hasher.clone()).expect("address space");
        Shard::new(store, self.world.tags)
    }

    /// What the disk will do in this life.
    fn arm(&mut self) {
        let random = &mut self.world.random;
        if random.one_in(2) {
            self.disk.take_away_after(Some(random.below(300)));
        }
        if random.one_in(8) {
            self.disk.fail_syncs(Some(2 + random.below(30)));
        }
        if random.one_in(5) {
            let room = random.below(6 * self.world.plan.config.segment_bytes);
            self.disk.set_capacity(self.disk.used() + room);
        }
    }

    /// A disk that was full may have room again.
    fn relent(&mut self) {
        if self.world.random.one_in(200) {
            self.disk.set_capacity(u64::MAX);
        }
    }

    /// What was kept does not fit into the memory: the operator gives it more, if it ever had less.
    fn unfit(&mut self, why: NotBack) -> Result<Life, String> {
        let is_for_room =
            matches!(why, NotBack::Unrestored(RestoreError::Full { .. } | RestoreError::TooLarge { .. }));
        if !is_for_room || self.has_room {
            return Err(format!("what was kept does not come back: {why}"));
        }
        self.world.plan.memory_bytes *= 2;
        Ok(Life::NotBegun)
    }

    /// Judges what came back.
    fn judge(&mut self, node: &Node, spaces: &HashSet<Namespace>) -> Result<Past, String> {
        let now = self.world.now();
        let mut found: BTreeMap<Key, Rc<State>> = BTreeMap::new();
        let mut twice = None;
        for (at, reactor) in node.reactors.iter().enumerate() {
            walk(&reactor.shard, now, |entry| {
                let key = (entry.namespace, entry.key.to_vec());
                let is_at_home = KeyHasher::owner(entry.hash, node.reactors.len()) == at;
                if found.insert(key, Rc::new(State::of(entry))).is_some() || !is_at_home {
                    twice = Some(entry.key.to_vec());
                }
            });
        }
        if let Some(key) = twice {
            return Err(format!("{} came back twice, or to another shard", String::from_utf8_lossy(&key)));
        }
        for space in &self.world.spaces {
            found.insert((Namespace::NODE, space.name()), Rc::new(State::Node));
        }
        let evictions = self.made_way + node.evictions();
        let latest = Now::from_unix_ms(self.latest_ms.max(self.world.now_ms));
        self.past.judge(&Back { found: &found, spaces, evictions, now, latest })
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs one seed; a panic is something that goes wrong too.
fn find(seed: u64) -> Found {
    catch_unwind(AssertUnwindSafe(|| run(seed))).unwrap_or_else(|_| Err("a panic, as told above".into()))
}

#[test]
fn nothing_kept_is_lost_and_nothing_waits_for_ever_whatever_the_disk_does() {
    let few = if cfg!(debug_assertions) { 150 } else { 3_000 };
    let first = number("LUCID_SIMULATION_SEED");
    let count = number("LUCID_SIMULATION_SEEDS").unwrap_or(if first.is_some() { 1 } else { few });
    let seeds = first.unwrap_or(0)..first.unwrap_or(0) + count;
    let failed: Vec<String> = seeds
        .filter_map(|seed| find(seed).err().map(|what| format!("LUCID_SIMULATION_SEED={seed}: {what}")))
        .take(10)
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_mistake_that_is_planted_is_found() {
    let faults = [
        Fault::SyncSkipped,
        Fault::AcknowledgedEarly,
        Fault::CrcUnchecked,
        Fault::FolderNotSynced,
        Fault::BaseNotSynced,
        Fault::ToldBeforeKept,
        Fault::CompactionNotWoken,
        Fault::NoSecondPass,
    ];
    for fault in faults {
        plant(Some(fault));
        let found = (0..1_000).find_map(|seed| find(seed).err().map(|what| (seed, what)));
        plant(None);
        println!("{fault:?}: found by {found:?}");
        assert!(found.is_some(), "{fault:?} is not found within 1,000 seeds");
    }
}
