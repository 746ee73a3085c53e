//! What is not as it was written: torn tails are cut, damage is refused, and what can be kept is kept. On the
//! simulated disk, so that every byte can be tried.

use std::sync::Arc;

use super::chore::Chore;
use super::folder::{Folder, JournalConfig, OpenError, Progress, Sync};
use super::offline::{recover_on, rekey_on};
use super::output::{SnapshotReader, SnapshotWriter};
use super::record::{NodeRecord, Record};
use super::seal::MasterKey;
use super::simulated_disk::{Crash, Random, SimulatedDisk};
use super::tap::{Health, Tap, connect};
use super::tests::{Model, apply, put, replayed};
use super::writer::Writer;
use crate::clock::Now;
use crate::doorbell::Doorbell;
use crate::journal::Disk;
use crate::op::Payload;

const SEGMENT_BYTES: u64 = 16 * 1_024;

fn config(key: Option<&str>) -> JournalConfig {
    let key = key.map(MasterKey::from_text);
    JournalConfig { key, segment_bytes: SEGMENT_BYTES, threads: 1, ..JournalConfig::new(Sync::Always) }
}

/// One shard and its writer.
struct Node {
    disk: SimulatedDisk,
    tap: Tap,
    writer: Writer,
    now_ms: u64,
}

impl Node {
    fn start(disk: &SimulatedDisk, config: &JournalConfig) -> Node {
        let opened = Folder::open_on(Arc::new(disk.clone()), config).expect("a good folder");
        let (tap, source) = connect(opened.bell());
        let waker = Doorbell::new(Box::new(|| {}));
        let writer = Writer::start(opened, vec![source], [waker].into()).expect("it starts");
        Node { disk: disk.clone(), tap, writer, now_ms: 1_000_000 }
    }

    /// One group.
    fn put(&mut self, key: &str, value: &[u8]) {
        self.tap.append(&put(key.as_bytes(), 1, Payload::Bytes(value)));
        self.turn();
    }

    fn turn(&mut self) {
        self.tap.report_live_bytes(LIVE_BYTES);
        self.tap.flush();
        for _ in 0..10 {
            let now = Now::from_unix_ms(self.now_ms);
            self.writer.step(now);
            let chores: Vec<Chore> = self.writer.take_chores().collect();
            for chore in chores {
                let done = chore.run(&self.disk);
                self.writer.done(done, now);
            }
        }
    }

    /// Brings the live set if one is wanted.
    fn bring_base(&mut self, model: &Model) {
        self.tap.begin_base();
        for (key, value) in model {
            self.tap.append_base(&put(key, 1, Payload::Bytes(value)));
        }
        self.tap.end_base();
        self.turn();
    }

    fn is_kept(&self) -> bool {
        self.tap.kept() == self.tap.appended()
    }
}

fn open(disk: &SimulatedDisk, key: Option<&str>) -> Result<Model, OpenError> {
    Folder::open_on(Arc::new(disk.clone()), &config(key)).map(|opened| replayed(&opened))
}

/// What is live, about.
const LIVE_BYTES: u64 = 3_000;

/// A folder with a live set, two segments and more, ended by a crash that loses nothing; what it holds, and
/// the segment that was written last.
fn folder(key: Option<&str>) -> (SimulatedDisk, Model, String) {
    let disk = SimulatedDisk::new(1);
    let mut node = Node::start(&disk, &config(key));
    let mut model = Model::new();
    let mut begun = 0;
    for step in 0..120_usize {
        let (name, value) = (format!("k{}", step % 9), vec![step as u8; 150 + step]);
        node.put(&name, &value);
        model.insert(name.into_bytes(), value);
        if node.tap.base_wanted() > begun && step < 70 {
            begun = node.tap.base_wanted();
            node.bring_base(&model);
        }
    }
    assert!(node.is_kept() && begun > 0);
    drop(node);
    disk.crash(Crash::Process);
    let mut logs: Vec<String> =
        disk.list().unwrap().into_iter().filter(|name| name.starts_with("log-")).collect();
    logs.sort();
    assert!(logs.len() > 1 && disk.list().unwrap().iter().any(|name| name.starts_with("base-")), "{logs:?}");
    let last = logs.pop().unwrap();
    (disk, model, last)
}

/// Where the last group in a file begins and ends.
fn last_group(disk: &SimulatedDisk, name: &str, key: Option<&str>) -> (u64, u64) {
    let opened = Folder::open_on(Arc::new(disk.copy(1)), &config(key)).unwrap();
    let end = opened.log.last().unwrap().1;
    assert_eq!(super::manifest::log_name(opened.log.last().unwrap().0), name);
    let bytes = disk.bytes(name);
    let mark = &bytes[32..40];
    let begin = memchr::memmem::rfind(&bytes[..end as usize], mark).unwrap();
    (begin as u64, end)
}

#[test]
fn a_tail_torn_at_any_byte_of_the_last_record_is_cut_and_reported() {
    for key in [None, Some("hush")] {
        let (disk, model, name) = folder(key);
        let (begin, end) = last_group(&disk, &name, key);
        let mut without = None;
        for length in begin..end {
            let torn = disk.copy(2);
            torn.cut(&name, length);
            let opened =
                Folder::open_on(Arc::new(torn.clone()), &config(key)).expect("a torn tail is no damage");
            let found = replayed(&opened);
            assert_eq!(opened.cut().is_some(), length > begin, "{length}");
            assert!(opened.cut().is_none_or(|cut| cut.file == name && cut.end == begin));
            assert!(found != model && found.len() == model.len());
            assert!(*without.get_or_insert(found.clone()) == found, "{length}");
            drop(opened);
            // It is cut for good.
            assert!(Folder::open_on(Arc::new(torn), &config(key)).unwrap().cut().is_none());
        }
    }
}

#[test]
fn an_order_of_the_ledger_counts_as_a_whole_or_not_at_all_wherever_its_record_is_torn() {
    // One that shares a group, and one in so many pieces that it has a group to itself.
    for (key, length) in [(None, 20), (Some("hush"), 20), (None, 120_000), (Some("hush"), 120_000)] {
        let disk = SimulatedDisk::new(1);
        let mut node = Node::start(&disk, &config(key));
        let names: Vec<String> = (0..8).map(|number| format!("database/{number}")).collect();
        let old: Vec<_> = names.iter().map(|name| (name, Some(vec![1; 20]))).collect();
        // The last of these has not been there, and every other is gone.
        let value = |number: usize| number.is_multiple_of(2).then(|| vec![2; length]);
        let new: Vec<_> = names.iter().enumerate().map(|(number, name)| (name, value(number))).collect();
        for changes in [&old[..7], &new] {
            node.tap.append(&NodeRecord::of(changes).record());
            node.turn();
        }
        assert!(node.is_kept());
        drop(node);
        disk.crash(Crash::Process);
        let ledger = |disk: SimulatedDisk| {
            let opened = Folder::open_on(Arc::new(disk), &config(key)).expect("a torn tail is no damage");
            opened.ledger().map(|(name, value)| (name.to_vec(), value.to_vec())).collect::<Model>()
        };
        let kept = |changes: &[(&String, Option<Vec<u8>>)]| {
            let kept =
                changes.iter().filter_map(|(name, value)| Some((name.as_bytes().to_vec(), value.clone()?)));
            kept.collect::<Model>()
        };
        let opened = Folder::open_on(Arc::new(disk.copy(1)), &config(key)).unwrap();
        let name = super::manifest::log_name(opened.log.last().unwrap().0);
        let (begin, end) = last_group(&disk, &name, key);
        let step = if length > 1_000 { 4_999 } else { 1 };
        for cut in (begin..end).step_by(step).chain(end - 40..end) {
            let torn = disk.copy(2);
            torn.cut(&name, cut);
            assert!(ledger(torn) == kept(&old[..7]), "{cut} of {end}");
        }
        assert!(ledger(disk) == kept(&new));
    }
}

#[test]
fn a_flipped_bit_is_refused_with_its_place_or_is_a_torn_tail_and_never_a_wrong_value() {
    let mut random = Random(7);
    for key in [None, Some("hush")] {
        let (disk, model, name) = folder(key);
        let (begin, end) = last_group(&disk, &name, key);
        let names: Vec<String> = disk.list().unwrap().into_iter().filter(|name| name != "lock").collect();
        let (mut refused, mut cut) = (0, 0);
        for round in 0..300 {
            let flipped = disk.copy(3);
            let at = if round % 3 == 0 { &name } else { &names[random.below(names.len() as u64) as usize] };
            let used = if *at == name { end } else { disk.bytes(at).len() as u64 };
            let bit = if round % 9 == 0 {
                begin * 8 + random.below((end - begin) * 8)
            } else {
                random.below(used * 8)
            };
            flipped.flip(at, bit);
            match Folder::open_on(Arc::new(flipped), &config(key)) {
                Ok(opened) => {
                    let found = replayed(&opened);
                    if opened.cut().is_some() {
                        cut += 1;
                        assert!(*at == name && bit / 8 >= begin, "{at} {bit}");
                        assert!(
                            found
                                .iter()
                                .all(|(key, value)| model[key] == *value || value.len() < model[key].len())
                        );
                    } else {
                        assert!(found == model, "{at} {bit}");
                    }
                }
                Err(OpenError::Damaged { file, offset, .. }) => {
                    refused += 1;
                    assert_eq!(file, *at);
                    assert!(offset <= bit / 8, "{file} {offset} {bit}");
                }
                Err(error) => panic!("{at} {bit}: {error}"),
            }
        }
        assert!(refused > 100 && cut > 10, "{refused} {cut}");
    }
}

#[test]
fn a_file_that_is_missing_is_damage() {
    let (disk, _, name) = folder(None);
    // Without what an unfinished live set has left.
    open(&disk, None).unwrap();
    for gone in disk.list().unwrap() {
        // All that is known of the last segment stands in it.
        if gone.starts_with("log-") && gone != name || gone.starts_with("base-") || gone == "manifest" {
            let copy = disk.copy(4);
            copy.remove(&gone).unwrap();
            let error = open(&copy, None).map(|model| model.len()).expect_err(&gone);
            assert!(matches!(error, OpenError::Damaged { .. }), "{gone}: {error}");
        }
    }
}

#[test]
fn what_can_be_kept_is_kept_and_what_cannot_is_named() {
    for key in [None, Some("hush")] {
        let (disk, model, _) = folder(key);
        let master = key.map(MasterKey::from_text);
        let whole = recover_on(&disk.copy(5), None, master.as_ref()).unwrap();
        assert!(whole.is_whole(), "{whole}");
        let logs: Vec<String> =
            disk.list().unwrap().into_iter().filter(|name| name.starts_with("log-")).collect();
        let first = logs.iter().min().unwrap();
        let damaged = disk.copy(6);
        damaged.flip(first, 8 * 1_000);
        assert!(open(&damaged, key).is_err());
        let target = SimulatedDisk::new(7);
        let report = recover_on(&damaged, Some(&target), master.as_ref()).unwrap();
        assert_eq!(report.records, whole.records - 1);
        let bad: Vec<_> = report.files.iter().filter(|file| !file.bad.is_empty()).collect();
        assert!(bad.len() == 1 && bad[0].name == *first && bad[0].bad.len() == 1, "{report}");
        assert!(report.to_string().contains("damaged at byte"));
        let kept = open(&target, key).unwrap();
        assert!(
            kept.len() == model.len()
                && kept.iter().filter(|(key, value)| model[*key] != **value).count() <= 1
        );
        // The manifest's copy stands in for it.
        let lost = disk.copy(8);
        lost.flip("manifest", 100);
        let report = recover_on(&lost, None, master.as_ref()).unwrap();
        assert!(report.manifest_lost && report.records == whole.records);
    }
}

#[test]
fn another_key_is_refused_and_a_changed_key_opens_everything() {
    let (disk, model, _) = folder(Some("old"));
    assert!(matches!(open(&disk, Some("new")), Err(OpenError::WrongKey)));
    assert!(matches!(open(&disk, None), Err(OpenError::KeyMissing)));
    assert!(matches!(open(&folder(None).0, Some("new")), Err(OpenError::NotSealed)));
    let [old, new] = ["old", "new"].map(MasterKey::from_text);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    assert!(matches!(rekey_on(shared.clone(), Some(&new), Some(&old)), Err(OpenError::WrongKey)));
    let steps =
        [(Some("old"), Some("new")), (Some("new"), None), (None, Some("old")), (Some("old"), Some("old"))];
    for (from, to) in steps {
        let [from_key, to_key] = [from, to].map(|text| text.map(MasterKey::from_text));
        rekey_on(shared.clone(), from_key.as_ref(), to_key.as_ref()).unwrap();
        assert!(open(&disk, to).unwrap() == model, "{from:?} to {to:?}");
        if from != to {
            assert!(open(&disk, from).is_err());
        }
        // It is written on under the new key.
        let mut node = Node::start(&disk, &config(to));
        node.put("k0", &model[&b"k0"[..]]);
        assert!(node.is_kept());
        drop(node);
        disk.crash(Crash::Power);
        assert!(open(&disk, to).unwrap() == model);
    }
}

#[test]
fn a_change_of_key_that_is_interrupted_leaves_the_one_or_the_other() {
    for (from, to) in [(Some("old"), Some("new")), (None, Some("new")), (Some("old"), None)] {
        let (disk, model, _) = folder(from);
        for calls in 0..80 {
            let copy = disk.copy(100 + calls);
            copy.take_away_after(Some(calls));
            let [from_key, to_key] = [from, to].map(|text| text.map(MasterKey::from_text));
            let done = rekey_on(Arc::new(copy.clone()), from_key.as_ref(), to_key.as_ref());
            copy.crash(Crash::Power);
            let found = match open(&copy, from) {
                Ok(found) => found,
                Err(OpenError::WrongKey | OpenError::KeyMissing | OpenError::NotSealed) => {
                    open(&copy, to).unwrap_or_else(|error| panic!("{from:?} {to:?} {calls}: {error}"))
                }
                Err(error) => panic!("{from:?} {to:?} {calls}: {error}"),
            };
            assert!(found == model, "{from:?} {to:?} {calls}");
            if done.is_ok() {
                assert!(open(&copy, to).is_ok());
                break;
            }
            assert!(calls < 79, "it does not end");
        }
    }
}

#[test]
fn nothing_of_a_key_or_a_value_is_in_clear_anywhere_in_a_sealed_folder() {
    let disk = SimulatedDisk::new(1);
    let mut node = Node::start(&disk, &config(Some("hush")));
    let mut model = Model::new();
    for step in 0..200_usize {
        let value = format!("secret-value-{step}").repeat(20).into_bytes();
        node.put(&format!("secret-key-{step}"), &value);
        model.insert(format!("secret-key-{step}").into_bytes(), value);
        node.tap.append(&NodeRecord::of(&[("secret-node", Some("secret-credential"))]).record());
        if step == 150 {
            node.bring_base(&model);
        }
    }
    node.writer.close(Now::from_unix_ms(2_000_000)).unwrap();
    for name in disk.list().unwrap().into_iter().filter(|name| name != "lock") {
        let bytes = disk.bytes(&name);
        for text in ["secret", "hush"] {
            assert!(memchr::memmem::find(&bytes, text.as_bytes()).is_none(), "{text} is in {name}");
            assert!(!name.contains(text));
        }
    }
    drop(node);
    let opened = Folder::open_on(Arc::new(disk), &config(Some("hush"))).unwrap();
    assert!(replayed(&opened) == model);
    assert_eq!(opened.ledger().collect::<Vec<_>>(), [(&b"secret-node"[..], &b"secret-credential"[..])]);
}

#[test]
fn a_full_disk_refuses_before_anything_is_lost_and_heals_by_itself() {
    let disk = SimulatedDisk::new(1);
    let mut node = Node::start(&disk, &config(None));
    disk.set_capacity(disk.used());
    let mut step = 0;
    while node.tap.health() == Health::Good {
        node.put(&format!("k{step}"), &[1; 300]);
        assert!(node.is_kept());
        step += 1;
        assert!(step < 1_000, "it is never full");
    }
    assert_eq!(node.tap.health(), Health::Full);
    // What makes room is taken and kept.
    for gone in 0..10 {
        let key = format!("k{gone}").into_bytes();
        node.tap.append(&Record::Remove { namespace: crate::op::Namespace::KV, key: &key });
        node.turn();
        assert!(node.is_kept());
    }
    disk.set_capacity(u64::MAX);
    node.now_ms += 1_000;
    node.turn();
    assert_eq!(node.tap.health(), Health::Good);
    node.put("last", b"value");
    assert!(node.is_kept());
    drop(node);
    disk.crash(Crash::Power);
    assert_eq!(open(&disk, None).unwrap().len(), step - 10 + 1);
}

#[test]
fn a_sync_that_fails_ends_all_acknowledgement_and_is_not_repeated() {
    let disk = SimulatedDisk::new(1);
    let mut node = Node::start(&disk, &config(None));
    node.put("one", b"1");
    assert!(node.is_kept());
    disk.fail_syncs(Some(1));
    node.put("two", b"2");
    assert_eq!((node.tap.health(), node.tap.kept()), (Health::Failed, 1));
    disk.fail_syncs(None);
    for _ in 0..5 {
        node.now_ms += 10_000;
        node.put("three", b"3");
    }
    assert_eq!((node.tap.health(), node.tap.kept()), (Health::Failed, 1));
    assert!(node.writer.close(Now::from_unix_ms(2_000_000)).is_err());
    assert_eq!(node.tap.kept(), 1);
    drop(node);
    disk.crash(Crash::Power);
    assert_eq!(open(&disk, None).unwrap()[&b"one"[..]], b"1");
}

#[test]
fn records_appended_to_a_folder_at_rest_count_after_everything() {
    let (disk, mut model, _) = folder(None);
    let opened = Folder::open_on(Arc::new(disk.clone()), &config(None)).unwrap();
    let made = NodeRecord::of(&[("key", Some("one")), ("other", Some("two"))]);
    opened.append(&[put(b"k0", 9, Payload::Bytes(b"offline")), made.record()]).unwrap();
    disk.crash(Crash::Power);
    model.insert(b"k0".to_vec(), b"offline".to_vec());
    let opened = Folder::open_on(Arc::new(disk.clone()), &config(None)).unwrap();
    assert!(replayed(&opened) == model);
    let one = (&b"key"[..], &b"one"[..]);
    assert_eq!(opened.ledger().collect::<Vec<_>>(), [one, (b"other", b"two")]);
    opened.append(&[NodeRecord::of(&[("other", None::<&str>)]).record()]).unwrap();
    let opened = Folder::open_on(Arc::new(disk), &config(None)).unwrap();
    assert_eq!(opened.ledger().collect::<Vec<_>>(), [one]);
}

#[test]
fn a_snapshot_reads_back_as_a_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("warm");
    for key in [None, Some(MasterKey::from_text("hush"))] {
        let large = vec![5; 700_000];
        let mut writer = SnapshotWriter::create(&path, key.as_ref()).unwrap();
        for number in 0..2_000_u32 {
            writer
                .append(&put(&number.to_le_bytes(), 3, Payload::Bytes(&large[..number as usize % 300])))
                .unwrap();
        }
        writer.append(&put(b"large", 4, Payload::Bytes(&large))).unwrap();
        writer.finish().unwrap();
        let reader = SnapshotReader::open(&path, key.as_ref(), &Progress::default()).unwrap();
        assert_eq!((reader.records(), reader.version_max().0), (2_001, 4));
        let mut model = Model::new();
        assert!(reader.replay().next_slice(u64::MAX, |record| apply(&mut model, &record)).unwrap());
        assert_eq!((model.len(), &model[&b"large"[..]]), (2_001, &large));
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 255, 256, 300, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let error =
                SnapshotReader::open(&path, key.as_ref(), &Progress::default()).expect_err("it is cut");
            assert!(matches!(error, OpenError::Damaged { .. }), "{length}: {error}");
        }
        std::fs::write(&path, &bytes).unwrap();
        let other = if key.is_some() { None } else { Some(MasterKey::from_text("other")) };
        assert!(SnapshotReader::open(&path, other.as_ref(), &Progress::default()).is_err());
    }
}
