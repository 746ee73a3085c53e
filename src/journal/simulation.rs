//! The journal over a simulated disk and a simulated clock, in one thread, by a seed. Its writer is stepped whether
//! anybody woke it or not, over a model of keys: `shard::simulation` has the real shards and their rules of sleep.
//!
//! Shards change keys and bring live sets; the writer steps; chores are done when the seed likes; the machine
//! crashes at any call to the disk, and the folder is opened again, now and then over several crashes. After
//! each opening every shard must hold what it held after some number of its changes: at least as many as were
//! acknowledged and had to survive, at most as many as there were. Everything a run does follows from its
//! seed, which a failure names: `LUCID_SIMULATION_SEED=N cargo test --lib journal::simulation` repeats it,
//! `LUCID_SIMULATION_SEEDS=100000` runs so many.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::chore::Chore;
use super::fault::{Fault, plant};
use super::folder::{Folder, JournalConfig, OpenError, Opened, Sync};
use super::record::Record;
use super::seal::MasterKey;
use super::simulated_disk::{Crash, Random, SimulatedDisk};
use super::tap::{Health, Tap, connect};
use super::tests::{Model, put, replayed};
use super::writer::Writer;
use crate::clock::{Now, Version};
use crate::doorbell::Doorbell;
use crate::op::{Large, Namespace, Payload};

/// Small, so that much happens in little time.
const SEGMENT_BYTES: u64 = 32 * 1_024;

const KEYS: u64 = 24;

/// One change: what the key holds from then on.
type Change = (Vec<u8>, Option<Vec<u8>>);

/// A shard and what it has done since the node started.
struct Shard {
    tap: Tap,
    changes: Vec<Change>,
    model: Model,
    begun: u64,
    /// Keys of the live set that are still to be brought.
    base: Option<VecDeque<Vec<u8>>>,
    /// What was acknowledged when.
    acknowledged: Vec<(u64, u64)>,
    failed_ms: Option<u64>,
    /// The node ended in good order.
    is_closed: bool,
}

struct Simulation {
    random: Random,
    disk: SimulatedDisk,
    config: JournalConfig,
    now_ms: u64,
    version: u64,
    /// What is known to be there when the node starts.
    model: Model,
    /// Each chore with the time at which it is done.
    chores: [VecDeque<(u64, Chore)>; 2],
    /// The power was lost since the node ended.
    power_lost: bool,
}

/// What goes wrong, if anything does.
type Found = Result<(), String>;

/// Runs one seed.
fn run(seed: u64) -> Found {
    let mut random = Random(seed);
    let sync = [Sync::Always, Sync::Everysec, Sync::Never][random.below(3) as usize];
    let key = random.one_in(6).then(|| MasterKey::from_text("hush"));
    let config = JournalConfig { key, segment_bytes: SEGMENT_BYTES, threads: 1, ..JournalConfig::new(sync) };
    let mut simulation = Simulation {
        disk: SimulatedDisk::new(random.next()),
        random,
        config,
        now_ms: 1_000_000,
        version: 0,
        model: Model::new(),
        chores: Default::default(),
        power_lost: false,
    };
    let boots = 2 + simulation.random.below(3);
    (0..boots).try_for_each(|_| simulation.boot())?;
    simulation.open().map(drop)
}

impl Simulation {
    /// Opens the folder, over crashes if the seed likes.
    fn open(&mut self) -> Result<Opened, String> {
        loop {
            let is_interrupted = self.random.one_in(4);
            let calls = self.random.below(20);
            self.disk.take_away_after(is_interrupted.then_some(calls));
            let opened = Folder::open_on(Arc::new(self.disk.clone()), &self.config);
            match opened {
                Ok(opened) => {
                    if self.disk.is_taken_away() {
                        drop(opened);
                        self.crash();
                        continue;
                    }
                    self.disk.take_away_after(None);
                    return Ok(opened);
                }
                Err(OpenError::Io { .. }) if self.disk.is_taken_away() => {
                    self.crash();
                }
                Err(error) => return Err(format!("the folder does not open: {error}")),
            }
        }
    }

    fn crash(&mut self) {
        let crash = if self.random.one_in(3) { Crash::Process } else { Crash::Power };
        self.disk.crash(crash);
        self.power_lost |= crash == Crash::Power;
    }

    /// One life of the node: from its start to a crash, or to its end in good order.
    fn boot(&mut self) -> Found {
        let opened = self.open()?;
        let found = replayed(&opened);
        if found != self.model {
            let differs =
                found.keys().chain(self.model.keys()).filter(|key| found.get(*key) != self.model.get(*key));
            let shown: Vec<String> = differs
                .map(|key| {
                    let version = |model: &Model| {
                        model.get(key).map(|value| u64::from_le_bytes(value[..8].try_into().unwrap()))
                    };
                    format!(
                        "{}: {:?} was {:?}",
                        String::from_utf8_lossy(key),
                        version(&found),
                        version(&self.model)
                    )
                })
                .collect();
            return Err(format!("a start without changes has changed something: {}", shown.join(", ")));
        }
        if opened.version_max() > Version(self.version) {
            return Err("a version that was not given out".into());
        }
        let count = 1 + self.random.below(3) as usize;
        let (taps, sources): (Vec<Tap>, Vec<_>) = (0..count).map(|_| connect(opened.bell())).unzip();
        let wakers = (0..count).map(|_| Doorbell::new(Box::new(|| {}))).collect();
        let mut shards: Vec<Shard> = taps.into_iter().map(Shard::new).collect();
        for (key, value) in &self.model {
            shards[owner(key, count)].model.insert(key.clone(), value.clone());
        }
        self.arm();
        self.chores = Default::default();
        let turns = 20 + self.random.below(100);
        match Writer::start(opened, sources, wakers) {
            Ok(mut writer) => {
                for _ in 0..turns {
                    if self.disk.is_taken_away() {
                        break;
                    }
                    self.turn(&mut writer, &mut shards)?;
                }
                if !self.disk.is_taken_away() && self.random.one_in(3) {
                    return self.close(writer, shards);
                }
            }
            Err(_) if self.disk.is_taken_away() || self.disk.has_failed() => {}
            Err(error) if super::disk::is_full(&error) => {}
            Err(error) => return Err(format!("the writer does not start: {error}")),
        }
        self.power_lost = false;
        self.crash();
        self.disk.set_capacity(u64::MAX);
        self.verify(&shards)
    }

    /// What the disk will do in this life.
    fn arm(&mut self) {
        if self.random.one_in(2) {
            let calls = self.random.below(300);
            self.disk.take_away_after(Some(calls));
        }
        if self.random.one_in(8) {
            let one_in = 2 + self.random.below(30);
            self.disk.fail_syncs(Some(one_in));
        }
        if self.random.one_in(5) {
            let room = self.random.below(4 * SEGMENT_BYTES);
            self.disk.set_capacity(self.disk.used() + room);
        }
    }

    fn turn(&mut self, writer: &mut Writer, shards: &mut [Shard]) -> Found {
        self.now_ms += if self.random.one_in(8) { self.random.below(400) } else { self.random.below(10) };
        if self.random.one_in(60) {
            self.disk.set_capacity(u64::MAX);
        }
        let count = shards.len();
        for (at, shard) in shards.iter_mut().enumerate() {
            for _ in 0..self.random.below(6) {
                self.change(shard, at, count);
            }
            self.bring_base(shard);
            let live: usize = shard.model.iter().map(|(key, value)| 30 + key.len() + value.len()).sum();
            shard.tap.report_live_bytes(live as u64);
            shard.tap.flush();
        }
        let due = writer.step(self.now());
        self.collect(writer);
        self.do_chores(writer);
        if due.again && self.random.one_in(2) {
            writer.step(self.now());
            self.collect(writer);
        }
        for shard in shards {
            let kept = shard.tap.kept();
            if kept > shard.changes.len() as u64 {
                return Err("more is kept than was done".into());
            }
            if shard.tap.health() == Health::Failed {
                shard.failed_ms.get_or_insert(self.now_ms);
            }
            if shard.acknowledged.last().is_none_or(|(_, last)| *last < kept) {
                shard.acknowledged.push((self.now_ms, kept));
            }
        }
        Ok(())
    }

    fn now(&self) -> Now {
        Now::from_unix_ms(self.now_ms)
    }

    /// A shard changes one of its keys, as far as it may.
    fn change(&mut self, shard: &mut Shard, at: usize, count: usize) {
        let key = format!("key-{}", self.random.below(KEYS)).into_bytes();
        let removes = self.random.one_in(5);
        let may = match shard.tap.health() {
            Health::Good => true,
            Health::Full => removes,
            Health::Exhausted | Health::Failed => false,
        };
        if owner(&key, count) != at || shard.tap.is_congested() || !may {
            return;
        }
        self.version += 1;
        if removes {
            shard.tap.append(&Record::Remove { namespace: Namespace::KV, key: &key });
            shard.model.remove(&key);
            shard.changes.push((key, None));
            return;
        }
        let length = match self.random.below(400) {
            0 => 300_000,
            1..40 => 2_000 + self.random.below(20_000),
            _ => self.random.below(600),
        };
        // Every value is told from every other.
        let mut value = self.version.to_le_bytes().to_vec();
        value.resize(8 + length as usize, self.version as u8 | 1);
        if length > 10_000 && self.random.one_in(2) {
            shard.tap.append(&put(&key, self.version, Payload::Large(&Large::copy_of(&value))));
        } else {
            shard.tap.append(&put(&key, self.version, Payload::Bytes(&value)));
        }
        shard.model.insert(key.clone(), value.clone());
        shard.changes.push((key, Some(value)));
    }

    /// A shard brings some of its live set, while it goes on to change.
    fn bring_base(&mut self, shard: &mut Shard) {
        if shard.tap.base_wanted() > shard.begun {
            shard.begun = shard.tap.begin_base();
            shard.base = Some(shard.model.keys().cloned().collect());
        }
        for _ in 0..self.random.below(8) {
            let Some(keys) = &mut shard.base else { return };
            match keys.pop_front() {
                None => {
                    shard.tap.end_base();
                    shard.base = None;
                }
                Some(key) => {
                    if let Some(value) = shard.model.get(&key) {
                        shard.tap.append_base(&put(&key, self.version, Payload::Bytes(value)));
                    }
                }
            }
        }
    }

    fn collect(&mut self, writer: &mut Writer) {
        for chore in writer.take_chores() {
            let lane = usize::from(chore.is_sync());
            self.chores[lane].push_back((self.now_ms + self.random.below(400), chore));
        }
    }

    /// Does what is due, each lane in its order.
    fn do_chores(&mut self, writer: &mut Writer) {
        for lane in 0..2 {
            while self.chores[lane].front().is_some_and(|(due, _)| *due <= self.now_ms) {
                let (_, chore) = self.chores[lane].pop_front().expect("it was just seen");
                let done = chore.run(&self.disk);
                writer.done(done, self.now());
                self.collect(writer);
            }
        }
    }

    /// The end in good order: nothing at all is lost, whatever happens to the power then.
    fn close(&mut self, mut writer: Writer, shards: Vec<Shard>) -> Found {
        while self.chores.iter().any(|lane| !lane.is_empty()) {
            self.now_ms += 100;
            self.do_chores(&mut writer);
        }
        let late = shards.iter().any(|shard| shard.tap.room() == 0);
        let result = writer.close(self.now());
        drop(writer);
        let is_closed = result.is_ok() && !late;
        if let Err(error) = &result
            && !(self.disk.is_taken_away() || self.disk.has_failed() || super::disk::is_full(error))
        {
            return Err(format!("the journal does not close: {error}"));
        }
        self.power_lost = false;
        self.crash();
        self.disk.set_capacity(u64::MAX);
        let mut shards = shards;
        if is_closed {
            for shard in &mut shards {
                shard.acknowledged = vec![(0, shard.changes.len() as u64)];
                shard.is_closed = true;
            }
        }
        self.verify(&shards)
    }

    /// Compares what the folder holds with what it may.
    fn verify(&mut self, shards: &[Shard]) -> Found {
        let opened = self.open()?;
        let found = replayed(&opened);
        drop(opened);
        let count = shards.len().max(1);
        for (at, shard) in shards.iter().enumerate() {
            let least = self.least(shard);
            let of_shard = |model: &Model| -> Model {
                let own = model.iter().filter(|(key, _)| owner(key, count) == at);
                own.map(|(key, value)| (key.clone(), value.clone())).collect()
            };
            let prefix = prefix(of_shard(&self.model), &shard.changes, &of_shard(&found));
            match prefix {
                None => return Err(format!("shard {at} holds what it never held")),
                Some(prefix) if prefix < least => {
                    return Err(format!(
                        "shard {at} lost changes: {prefix} of {} are there, {least} were kept ({:?}, power lost: {})",
                        shard.changes.len(),
                        self.config.sync,
                        self.power_lost
                    ));
                }
                Some(_) => {}
            }
        }
        self.model = found;
        Ok(())
    }

    /// How many changes must be there.
    fn least(&self, shard: &Shard) -> u64 {
        let kept_at = |ms: u64| {
            let before = shard.acknowledged.iter().rev().find(|(at, _)| *at <= ms);
            before.map_or(0, |(_, kept)| *kept)
        };
        match (self.power_lost && !shard.is_closed, self.config.sync) {
            (false, _) | (true, Sync::Always) => kept_at(u64::MAX),
            // What a step lets wait until the next, which here is up to 400 ms away, and the sync itself.
            // From a failed sync on nothing is acknowledged, and what was in it may be lost.
            (true, Sync::Everysec) => kept_at(shard.failed_ms.unwrap_or(self.now_ms).saturating_sub(2_000)),
            (true, Sync::Never) => 0,
        }
    }
}

impl Shard {
    fn new(tap: Tap) -> Shard {
        let (changes, model, acknowledged) = Default::default();
        Shard { tap, changes, model, begun: 0, base: None, acknowledged, failed_ms: None, is_closed: false }
    }
}

/// The greatest number of changes after which the model was as `found`.
fn prefix(mut model: Model, changes: &[Change], found: &Model) -> Option<u64> {
    let keys: Vec<&Vec<u8>> =
        model.keys().chain(found.keys()).chain(changes.iter().map(|(key, _)| key)).collect();
    let mut differs: BTreeMap<Vec<u8>, bool> =
        keys.into_iter().map(|key| (key.clone(), model.get(key) != found.get(key))).collect();
    let mut count = differs.values().filter(|differs| **differs).count();
    let mut last = (count == 0).then_some(0);
    for (at, (key, value)) in changes.iter().enumerate() {
        match value {
            Some(value) => drop(model.insert(key.clone(), value.clone())),
            None => drop(model.remove(key)),
        }
        let now_differs = value.as_ref() != found.get(key);
        let differed = std::mem::replace(differs.get_mut(key).expect("all keys are in it"), now_differs);
        count = count + usize::from(now_differs) - usize::from(differed);
        if count == 0 {
            last = Some(at as u64 + 1);
        }
    }
    last
}

fn owner(key: &[u8], shards: usize) -> usize {
    key.iter().map(|byte| usize::from(*byte)).sum::<usize>() % shards
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn nothing_kept_is_lost_whatever_the_disk_does() {
    let seeds = match number("LUCID_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LUCID_SIMULATION_SEEDS").unwrap_or(1_000),
    };
    let failed: Vec<String> = seeds
        .filter_map(|seed| run(seed).err().map(|what| format!("LUCID_SIMULATION_SEED={seed}: {what}")))
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
    ];
    for fault in faults {
        plant(Some(fault));
        let found = (0..1_000).find(|seed| run(*seed).is_err());
        plant(None);
        println!("{fault:?}: found by seed {found:?}");
        assert!(found.is_some(), "{fault:?} is not found within 1,000 seeds");
    }
}
