//! The writer step by step: what is kept before what, and that it goes on while nobody wakes it.

use std::sync::Arc;

use super::chore::Chore;
use super::folder::{Folder, JournalConfig, Sync};
use super::record::NodeRecord;
use super::simulated_disk::{Crash, SimulatedDisk};
use super::tap::{Tap, connect};
use super::tests::put;
use super::writer::Writer;
use crate::clock::Now;
use crate::doorbell::Doorbell;
use crate::op::Payload;

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
fn what_was_done_because_of_a_record_of_the_node_is_never_kept_before_it() {
    let disk = SimulatedDisk::new(1);
    let (mut taps, mut writer) = start(&disk, &config(Sync::Always), 3);
    for round in 0..20 {
        for _ in 0..round {
            taps[0].append(&put(b"busy", 1, Payload::Bytes(&VALUE)));
        }
        let number = taps[0].append(&NodeRecord::of(&[("database/1", Some("{}"))]).record());
        let because = [1, 2].map(|at| {
            let number = taps[at].append(&put(b"entry", 1, Payload::Bytes(&VALUE)));
            (at, number)
        });
        taps.iter_mut().for_each(Tap::flush);
        loop {
            let goes_on = step(&disk, &mut writer);
            for (at, later) in because {
                assert!(taps[at].kept() < later || taps[0].kept() >= number, "round {round}, shard {at}");
            }
            if !goes_on {
                break;
            }
        }
        assert!(taps.iter().all(|tap| tap.kept() == tap.appended()));
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
