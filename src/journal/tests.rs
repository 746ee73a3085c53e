//! The journal on the real disk: what was kept is there when the folder is opened again.

use std::collections::BTreeMap;
use std::path::Path;

use super::{
    Folder, Health, Journal, JournalConfig, MasterKey, OpenError, Opened, Put, Record, Sync, Tap, connect,
};
use crate::clock::Version;
use crate::doorbell::Doorbell;
use crate::op::{Encoding, Large, Namespace, Payload};

/// What keys hold.
pub(super) type Model = BTreeMap<Vec<u8>, Vec<u8>>;

pub(super) fn put<'a>(key: &'a [u8], version: u64, value: Payload<'a>) -> Record<'a> {
    Record::Put(Put {
        namespace: Namespace::KV,
        key,
        version: Version(version),
        expires_ms: None,
        lock: None,
        content_type: crate::op::CONTENT_TYPE_DEFAULT,
        encoding: Encoding::Identity,
        value,
    })
}

/// What the records of a folder come to.
pub(super) fn replayed(opened: &Opened) -> Model {
    let mut model = Model::new();
    let mut replay = opened.replay();
    while !replay.next_slice(10_000, |record| apply(&mut model, &record)).expect("checked before") {}
    let (done, total) = replay.progress();
    assert_eq!(done, total);
    model
}

pub(super) fn apply(model: &mut Model, record: &Record<'_>) {
    match record {
        Record::Put(put) => drop(model.insert(put.key.to_vec(), put.value.bytes().to_vec())),
        Record::Remove { key, .. } => drop(model.remove(*key)),
        Record::Node(_) => {}
        _ => panic!("not a record of these tests"),
    }
}

/// A node without anything but its journal.
struct Bench {
    shards: Vec<Shard>,
    journal: Journal,
}

struct Shard {
    tap: Tap,
    model: Model,
    /// The live set that was begun last.
    begun: u64,
}

fn config(sync: Sync) -> JournalConfig {
    JournalConfig { segment_bytes: 1 << 20, ..JournalConfig::new(sync) }
}

impl Bench {
    fn start(path: &Path, config: &JournalConfig, shards: usize) -> Bench {
        let opened = Folder::open(path, config).expect("a good folder");
        assert_eq!(opened.cut(), None);
        let mut models = vec![Model::new(); shards];
        for (key, value) in replayed(&opened) {
            let number: usize = std::str::from_utf8(&key).unwrap().parse().unwrap();
            models[number % shards].insert(key, value);
        }
        let (taps, sources): (Vec<Tap>, _) = (0..shards).map(|_| connect(opened.bell())).unzip();
        let shards_of = taps.into_iter().zip(models);
        let wakers = (0..shards).map(|_| Doorbell::new(Box::new(|| {}))).collect();
        let journal = opened.start(sources, wakers).expect("it starts");
        Bench { shards: shards_of.map(|(tap, model)| Shard { tap, model, begun: 0 }).collect(), journal }
    }

    fn put(&mut self, key: usize, version: u64, value: Payload<'_>) {
        let (name, shard) = (key.to_string().into_bytes(), key % self.shards.len());
        while self.shards[shard].tap.is_congested() {
            self.turn();
        }
        let Shard { tap, model, .. } = &mut self.shards[shard];
        tap.append(&put(&name, version, value));
        model.insert(name, value.bytes().to_vec());
        tap.flush();
    }

    /// Waits until everything is kept.
    fn settle(&mut self) {
        self.turn();
        while self.shards.iter().any(|shard| shard.tap.kept() < shard.tap.appended()) {
            self.turn();
            std::thread::yield_now();
        }
    }

    fn turn(&mut self) {
        for Shard { tap, model, begun } in &mut self.shards {
            assert_eq!(tap.health(), Health::Good);
            let live: usize = model.iter().map(|(key, value)| 20 + key.len() + value.len()).sum();
            tap.report_live_bytes(live as u64);
            if tap.base_wanted() > *begun {
                *begun = tap.begin_base();
                for (key, value) in &*model {
                    tap.append_base(&put(key, 1, Payload::Bytes(value)));
                }
                tap.end_base();
            }
            tap.flush();
        }
    }

    /// Ends the node in good order. Answers what its keys held.
    fn close(self) -> Model {
        self.journal.close().expect("it closes");
        self.shards.into_iter().flat_map(|shard| shard.model).collect()
    }
}

fn folder_bytes(path: &Path) -> u64 {
    // A file may go while they are counted.
    let entries = std::fs::read_dir(path).unwrap();
    entries.filter_map(|entry| entry.unwrap().metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[test]
fn everything_kept_is_there_again_in_every_mode() {
    for sync in [Sync::Always, Sync::Everysec, Sync::Never] {
        for key in [None, Some(MasterKey::from_text("hush"))] {
            let folder = tempfile::tempdir().unwrap();
            let config = JournalConfig { key, ..config(sync) };
            let mut version = 0;
            for round in 0..3_usize {
                let mut bench = Bench::start(folder.path(), &config, 1 + round);
                for step in 0..400 {
                    version += 1;
                    let value = vec![b'a' + (step % 26) as u8; (step * 37 + round) % 5_000];
                    bench.put((step * 7 + round) % 50, version, Payload::Bytes(&value));
                }
                let large = Large::copy_of(&vec![round as u8; 3 << 20]);
                version += 1;
                bench.put(round, version, Payload::Large(&large));
                bench.settle();
                let model = bench.close();
                let opened = Folder::open(folder.path(), &config).unwrap();
                assert!(replayed(&opened) == model, "{sync:?} {round}");
                assert_eq!(opened.version_max(), Version(version));
            }
        }
    }
}

#[test]
fn the_folder_stays_below_three_times_the_live_set_and_two_segments() {
    let folder = tempfile::tempdir().unwrap();
    // Clearly longer than what two rings hold.
    let config = JournalConfig { segment_bytes: 8 << 20, ..JournalConfig::new(Sync::Never) };
    let mut bench = Bench::start(folder.path(), &config, 2);
    let value = [7; 5_000];
    let (keys, live) = (400, 400 * 5_024);
    let mut peak = 0;
    for step in 0..20_000 {
        bench.put(step % keys, step as u64 + 1, Payload::Bytes(&value));
        if step % 50 == 49 {
            bench.settle();
            peak = peak.max(folder_bytes(folder.path()));
        }
    }
    let bound = 3 * live + 2 * config.segment_bytes;
    assert!(peak <= bound, "{peak} bytes, over {bound}");
    let model = bench.close();
    let opened = Folder::open(folder.path(), &config).unwrap();
    assert!(opened.manifest.generation > 5, "{} compactions", opened.manifest.generation);
    assert!(replayed(&opened) == model);
}

#[test]
fn a_second_node_on_the_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::start(folder.path(), &config(Sync::Never), 1);
    assert!(matches!(Folder::open(folder.path(), &config(Sync::Never)), Err(OpenError::Taken)));
    bench.close();
    assert!(Folder::open(folder.path(), &config(Sync::Never)).is_ok());
}
