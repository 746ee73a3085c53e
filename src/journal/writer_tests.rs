//! The writer step by step: what is kept before what, that it goes on while nobody wakes it, and what it makes
//! of a disk that is nearly full.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::chore::Chore;
use super::folder::{Folder, JournalConfig, Sync};
use super::record::{NodeRecord, Record};
use super::segment::FILE_HEAD_BYTES;
use super::simulated_disk::{Crash, SimulatedDisk};
use super::tap::{Health, RING_BYTES, Tap, connect};
use super::tests::put;
use super::writer::Writer;
use crate::clock::Now;
use crate::doorbell::Doorbell;
use crate::op::{Large, Namespace, Payload};

const NOW: Now = Now::from_unix_ms(1_000_000);

/// So short that a group takes four of these records.
const SEGMENT_BYTES: u64 = 16 * 1_024;
const VALUE: [u8; 500] = [7; 500];

fn config(sync: Sync) -> JournalConfig {
    JournalConfig { segment_bytes: SEGMENT_BYTES, threads: 1, ..JournalConfig::new(sync) }
}

fn start(disk: &SimulatedDisk, config: &JournalConfig, shards: usize) -> (Vec<Tap>, Writer) {
    let opened = Folder::open_on(Arc::new(disk.clone()), config).expect("a good folder");
    let (taps, sources): (Vec<Tap>, Vec<_>) = (0..shards).map(|_| connect(opened.bell())).unzip();
    let wakers = (0..shards).map(|_| Doorbell::new(Box::new(|| {}))).collect();
    (taps, Writer::start(opened, sources, wakers).expect("it starts"))
}

/// A step and the chores that it gives out. Whether the next one is due at once.
fn step(disk: &SimulatedDisk, writer: &mut Writer) -> bool {
    let again = writer.step(NOW).again;
    let chores: Vec<Chore> = writer.take_chores().collect();
    let is_woken = !chores.is_empty();
    for chore in chores {
        let done = chore.run(disk);
        writer.done(done, NOW);
    }
    again || is_woken
}

#[test]
fn a_shard_that_writes_without_end_keeps_no_other_waiting() {
    let disk = SimulatedDisk::new(1);
    let (mut taps, mut writer) = start(&disk, &config(Sync::Always), 3);
    for _ in 0..20 {
        let because = [1, 2].map(|at| (at, taps[at].append(&put(b"entry", 1, Payload::Bytes(&VALUE)))));
        let mut steps = 0;
        while because.iter().any(|(at, number)| taps[*at].kept() < *number) {
            // More than a group takes.
            for _ in 0..10 {
                taps[0].append(&put(b"busy", 1, Payload::Bytes(&VALUE)));
            }
            taps.iter_mut().for_each(Tap::flush);
            step(&disk, &mut writer);
            taps.iter().for_each(|tap| tap.report_live_bytes(1 << 20));
            steps += 1;
            assert!(steps <= 8, "others wait");
        }
    }
}

#[test]
fn a_compaction_comes_to_its_end_though_nobody_writes_any_more() {
    for sync in [Sync::Always, Sync::Everysec, Sync::Never] {
        let disk = SimulatedDisk::new(1);
        let (mut taps, mut writer) = start(&disk, &config(sync), 1);
        let tap = &mut taps[0];
        let mut begun = 0;
        while begun == 0 {
            if !tap.is_congested() {
                tap.append(&put(b"key", 1, Payload::Bytes(&VALUE)));
            }
            tap.report_live_bytes(VALUE.len() as u64);
            if tap.base_wanted() > 0 {
                begun = tap.begin_base();
            }
            tap.flush();
            while step(&disk, &mut writer) {}
        }
        // Everything before is durable when the live set ends.
        writer.step(Now::from_unix_ms(NOW.unix_ms + 10_000));
        while step(&disk, &mut writer) {}
        tap.append_base(&put(b"key", 1, Payload::Bytes(&VALUE)));
        tap.end_base();
        tap.flush();
        while step(&disk, &mut writer) {}
        drop(writer);
        disk.crash(Crash::Process);
        let opened = Folder::open_on(Arc::new(disk.clone()), &config(sync)).expect("a good folder");
        assert_eq!(opened.manifest.generation, begun, "{sync:?}");
    }
}

/// One shard, its writer, and a clock that goes on.
struct Bench {
    disk: SimulatedDisk,
    tap: Tap,
    writer: Writer,
    now_ms: u64,
    live: BTreeMap<u32, Large>,
    walk: Option<Vec<u32>>,
    begun: u64,
    segment_bytes: u64,
    used_max: u64,
    /// What the node keeps of itself.
    node: NodeRecord,
    /// The live set takes so many times what is reported of it.
    times: u64,
}

impl Bench {
    fn start(segment_bytes: u64, capacity: u64) -> Bench {
        let disk = SimulatedDisk::new(1);
        disk.set_capacity(capacity);
        let config = JournalConfig { segment_bytes, threads: 1, ..JournalConfig::new(Sync::Everysec) };
        let (mut taps, writer) = start(&disk, &config, 1);
        let tap = taps.pop().expect("one");
        let (now_ms, live) = (NOW.unix_ms, BTreeMap::new());
        let (node, times) = (NodeRecord::default(), 1);
        Bench {
            disk,
            tap,
            writer,
            now_ms,
            live,
            walk: None,
            begun: 0,
            segment_bytes,
            used_max: 0,
            node,
            times,
        }
    }

    fn health(&self) -> Health {
        self.tap.health()
    }

    fn put(&mut self, key: u32, value: &Large) {
        self.tap.append(&put(&key.to_le_bytes(), 1, Payload::Large(value)));
        self.live.insert(key, value.clone());
    }

    fn remove(&mut self, key: u32) {
        self.tap.append(&Record::Remove { namespace: Namespace::KV, key: &key.to_le_bytes() });
        self.live.remove(&key);
    }

    fn live_bytes(&self) -> u64 {
        self.live.values().map(|value| value.len() as u64 + 28).sum()
    }

    /// What a reactor does in a turn, then a step of the writer with its chores.
    fn turn(&mut self) -> bool {
        self.now_ms += 20;
        if self.tap.base_wanted() > self.begun {
            self.begun = self.tap.begin_base();
            self.walk = Some(self.live.keys().copied().collect());
            if !self.node.is_empty() {
                self.tap.append_base(&self.node.record());
            }
        }
        while let Some(walk) = &mut self.walk
            && self.tap.has_room(RING_BYTES / 2)
        {
            match walk.pop() {
                None => {
                    self.tap.end_base();
                    self.walk = None;
                }
                Some(key) => {
                    if let Some(value) = self.live.get(&key) {
                        self.tap.append_base(&put(&key.to_le_bytes(), 1, Payload::Large(value)));
                    }
                }
            }
        }
        self.tap.report_live_bytes(self.live_bytes() / self.times);
        self.tap.flush();
        let now = Now::from_unix_ms(self.now_ms);
        let again = self.writer.step(now).again;
        self.used_max = self.used_max.max(self.disk.used());
        for chore in self.writer.take_chores().collect::<Vec<_>>() {
            let done = chore.run(&self.disk);
            self.used_max = self.used_max.max(self.disk.used());
            self.writer.done(done, now);
        }
        again
    }

    /// Turns for some seconds, in which everything comes to rest.
    fn rest(&mut self) {
        for _ in 0..1_000 {
            self.turn();
        }
        assert_eq!(self.tap.kept(), self.tap.appended());
    }

    fn bound(&self) -> u64 {
        let heads = 4 * FILE_HEAD_BYTES as u64 + self.disk.bytes("manifest").len() as u64 * 3;
        3 * self.live_bytes() + 2 * self.segment_bytes + self.segment_bytes / 64 + heads
    }
}

#[test]
fn values_beside_the_rings_do_not_take_the_folder_over_its_bound() {
    let mut bench = Bench::start(32 << 20, u64::MAX);
    let value = Large::copy_of(&[7; 400_000]);
    (0..20).for_each(|key| bench.put(key, &value));
    for turn in 0..600 {
        // Far more than the disk takes: what is in flight ends it.
        for key in 0..20 {
            if !bench.tap.is_congested() {
                bench.put(key, &value);
            }
        }
        bench.turn();
        assert!(bench.used_max <= bench.bound(), "turn {turn}: {} over {}", bench.used_max, bench.bound());
    }
    assert!(bench.writer.manifest.generation > 3, "{} compactions", bench.writer.manifest.generation);
    bench.rest();
    assert!(!bench.tap.is_congested());
}

#[test]
fn nothing_is_left_of_a_live_set_that_is_gone() {
    let mut bench = Bench::start(1 << 20, u64::MAX);
    let value = Large::copy_of(&[7; 40_000]);
    for round in 0..3 {
        for key in 0..100 {
            bench.put(key, &value);
            bench.turn();
        }
        bench.rest();
        assert!(bench.disk.used() > bench.live_bytes());
        for key in 0..100 {
            bench.remove(key);
            bench.turn();
        }
        bench.rest();
        assert_eq!(bench.live_bytes(), 0);
        assert!(bench.disk.used() <= bench.bound(), "round {round}: {}", bench.disk.used());
    }
}

#[test]
fn a_disk_that_is_full_of_what_was_deleted_heals_by_itself() {
    for kept in [0, 10, 30] {
        let mut bench = Bench::start(1 << 20, 7 << 20);
        let value = Large::copy_of(&[7; 40_000]);
        let mut keys = 0;
        while bench.health() == Health::Good {
            assert!(keys < 1_000, "the disk is never full");
            bench.put(keys, &value);
            keys += 1;
            bench.rest();
        }
        assert_eq!(bench.health(), Health::Full);
        (kept..keys).for_each(|key| bench.remove(key));
        bench.rest();
        assert_eq!(bench.health(), Health::Good, "with {kept} of {keys} values left");
        bench.put(keys, &value);
        bench.rest();
    }
}

#[test]
fn a_disk_without_a_byte_left_is_emptied_by_deletes() {
    let mut bench = Bench::start(8 << 20, u64::MAX);
    let value = Large::copy_of(&[7; 100_000]);
    (0..50).for_each(|key| bench.put(key, &value));
    bench.rest();
    bench.disk.set_capacity(bench.disk.used());
    let mut keys = 50;
    while bench.health() == Health::Good {
        assert!(keys < 1_000, "the disk is never full");
        bench.put(keys, &value);
        keys += 1;
        bench.rest();
    }
    // Somebody else takes what is given back.
    bench.disk.set_capacity(bench.disk.used());
    (0..keys).for_each(|key| bench.remove(key));
    bench.rest();
    assert!(bench.writer.manifest.generation > 0, "no live set was written down");
    assert!(bench.disk.used() < 16 << 20, "{} bytes", bench.disk.used());
    bench.put(keys, &value);
    bench.rest();
    assert_eq!(bench.health(), Health::Good);
}

#[test]
fn deletes_are_refused_before_they_would_wait_for_room() {
    let mut bench = Bench::start(1 << 20, 3 << 20);
    let value = Large::copy_of(&[7; 20_000]);
    // Live as they are, so that no compaction helps.
    let mut key = 0;
    let mut removed = 0;
    while bench.health() < Health::Exhausted {
        assert!(key < 1_000 && removed < 1_000_000, "the disk is never full");
        match bench.health() {
            Health::Good => {
                bench.put(key, &value);
                key += 1;
            }
            _ => {
                (0..500).for_each(|_| bench.remove(u32::MAX));
                removed += 500;
            }
        }
        bench.turn();
    }
    assert!(removed > 0);
    bench.rest();
    assert_eq!(bench.health(), Health::Exhausted, "everything that was taken is kept, and no more is");
    bench.disk.set_capacity(u64::MAX);
    bench.rest();
    assert_eq!(bench.health(), Health::Good);
}

#[test]
fn a_shard_that_came_back_with_less_is_written_down_anew() {
    let mut bench = Bench::start(1 << 20, u64::MAX);
    let value = Large::copy_of(&[7; 4_000]);
    (0..20).for_each(|key| bench.put(key, &value));
    bench.rest();
    assert_eq!((bench.tap.base_wanted(), bench.tap.base_kept()), (0, 0), "too little for a compaction");
    bench.tap.ask_base();
    bench.rest();
    assert_eq!((bench.tap.base_wanted(), bench.tap.base_kept()), (1, 1), "one, and no more");
}

#[test]
fn a_live_set_that_takes_far_more_than_was_reported_is_written_down_once() {
    let mut bench = Bench::start(1 << 20, u64::MAX);
    bench.times = 7;
    let value = Large::copy_of(&[7; 40_000]);
    let fill = |bench: &mut Bench| {
        for key in 0..100 {
            bench.put(key, &value);
            bench.turn();
        }
        bench.rest();
    };
    fill(&mut bench);
    let written = bench.tap.base_kept();
    bench.rest();
    assert_eq!((bench.tap.base_wanted(), bench.tap.base_kept()), (written, written));
    // Nor is anything left of it when it is gone.
    (0..100).for_each(|key| bench.remove(key));
    bench.rest();
    assert!(bench.disk.used() <= bench.bound(), "{}", bench.disk.used());
}

#[test]
fn what_the_node_keeps_of_itself_is_written_down_once_and_tells_nothing_of_what_entries_take() {
    let mut bench = Bench::start(1 << 20, u64::MAX);
    bench.node = NodeRecord::of(&[(b"name", Some(vec![7; 100_000]))]);
    bench.tap.append(&bench.node.record());
    let value = Large::copy_of(&[7; 20_000]);
    bench.put(0, &value);
    bench.tap.ask_base();
    bench.rest();
    assert_eq!((bench.tap.base_wanted(), bench.tap.base_kept()), (1, 1));
    // Five times as many bytes for each that is reported would be taken for a live set of 20 MB.
    (0..200).for_each(|key| bench.put(key, &value));
    for turn in 0..2_000 {
        if !bench.tap.is_congested() {
            bench.put(turn % 200, &value);
        }
        bench.turn();
        let bound = bench.bound() + 3 * 100_000;
        assert!(bench.used_max <= bound, "turn {turn}: {} over {bound}", bench.used_max);
    }
}
