//! What a shard does for its journal, case by case: gates, refusals, live sets, and what comes back.

use std::sync::{Arc, Weak};

use super::apply::Shard;
use super::bytes::Bytes;
use super::list::{Budget, ListTask};
use super::list_call::{ListAction, ListOutcome, Values};
use super::restore::RestoreError;
use crate::clock::{Now, Version};
use crate::doorbell::Doorbell;
use crate::etag::Tags;
use crate::journal::{
    Handed, Health, ListChange, NodeRecord, Put, PutList, RING_BYTES, Record, Source, connect,
};
use crate::op::{
    Action, CONTENT_TYPE_DEFAULT, Condition, Encoding, Expiry, KeyHasher, Namespace, Operation, Outcome,
    Payload,
};
use crate::store::{Lock, Scan, Store, StoreConfig, WhenFull};

const NOW: Now = Now::from_unix_ms(1_700_000_000_000);
const LISTS: Namespace = Namespace::lists(1);

struct Bench {
    shard: Shard,
    source: Source,
    hasher: KeyHasher,
}

fn shard(memory_bytes: u64, when_full: WhenFull, hasher: KeyHasher) -> Shard {
    let config = StoreConfig { memory_bytes, value_bytes_max: memory_bytes as usize / 4, when_full };
    Shard::new(Store::new(config, hasher).unwrap(), Tags::new(7))
}

/// Works on a call for a turn.
fn work(shard: &mut Shard, task: &mut ListTask) -> bool {
    let mut budget = Budget::of_a_turn();
    shard.work_on(task, &mut budget, NOW)
}

fn put(value: &[u8]) -> Action<'_> {
    Action::Put {
        value: Payload::Bytes(value),
        content_type: None,
        encoding: Encoding::Identity,
        expiry: Expiry::Never,
    }
}

fn record<'a>(key: &'a [u8], value: &'a [u8]) -> Put<'a> {
    Put {
        namespace: Namespace::KV,
        key,
        version: Version(NOW.unix_ms << 16),
        expires_ms: None,
        lock: None,
        content_type: CONTENT_TYPE_DEFAULT,
        encoding: Encoding::Identity,
        value: Payload::Bytes(value),
    }
}

impl Bench {
    fn new() -> Bench {
        Bench::over(64 << 20, WhenFull::Reject)
    }

    fn over(memory_bytes: u64, when_full: WhenFull) -> Bench {
        let hasher = KeyHasher::seeded(1);
        let mut shard = shard(memory_bytes, when_full, hasher.clone());
        let (tap, source) = connect(Arc::new(Doorbell::new(Box::new(|| {}))));
        shard.attach(tap);
        Bench { shard, source, hasher }
    }

    fn apply<'s>(&'s mut self, key: &str, action: Action<'_>) -> Outcome<'s> {
        let op = Operation {
            namespace: Namespace::KV,
            key: key.as_bytes(),
            hash: self.hasher.hash(Namespace::KV, key.as_bytes()),
            action,
            condition: Condition::default(),
            fencing_token: None,
            admin: false,
        };
        self.shard.apply(&op, NOW)
    }

    /// What an answer waits for.
    fn gate(&mut self, key: &str, action: Action<'_>) -> u64 {
        self.apply(key, action);
        self.shard.take_gate()
    }

    fn task(&self, key: &str, action: ListAction) -> ListTask {
        let hash = self.hasher.hash(LISTS, key.as_bytes());
        ListTask::new(LISTS, key.into(), hash, action, Weak::new())
    }

    fn call(&mut self, key: &str, action: ListAction) -> ListOutcome {
        let asker = Arc::new(());
        let mut task = self.task(key, action);
        task.asker = Arc::downgrade(&asker);
        while !work(&mut self.shard, &mut task) {}
        task.take_outcome().unwrap()
    }

    fn handed(&mut self) -> Vec<Handed> {
        self.shard.flush_journal();
        self.source.drain()
    }

    /// How many records of the live set come until it ends, and in how many slices.
    fn base(&mut self) -> (usize, usize) {
        let (mut records, mut slices) = (0, 0);
        loop {
            self.shard.write_base(NOW);
            slices += 1;
            for handed in self.handed() {
                match handed {
                    Handed::Base(_) => records += 1,
                    Handed::BaseEnds => return (records, slices),
                    Handed::Change(_) | Handed::BaseBegins(_) => {}
                }
            }
            assert!(slices < 100_000);
        }
    }
}

fn numbers(range: std::ops::Range<u32>) -> Values {
    let texts: Vec<String> = range.map(|number| number.to_string()).collect();
    let document = texts.join(",").into_bytes();
    Values { range: 0..document.len(), document: Bytes::Small(document) }
}

#[test]
fn an_answer_waits_for_the_last_record_about_its_key_and_for_no_other() {
    let mut bench = Bench::new();
    assert_eq!(bench.gate("a", Action::Get), 0);
    assert_eq!(bench.gate("a", put(b"1")), 1);
    assert_eq!(bench.gate("b", put(b"1")), 2);
    assert_eq!(bench.gate("a", Action::Get), 1);
    assert_eq!(bench.gate("c", Action::Get), 0, "a miss of what was never there");
    assert_eq!(bench.gate("a", Action::Lock { lease_seconds: None }), 3);
    assert_eq!(bench.gate("a", put(b"2")), 3, "that it is locked is known to nobody yet");
    assert_eq!(bench.gate("b", Action::Delete { answer_value: true }), 4);
    assert_eq!(bench.gate("b", Action::Get), 4, "nor that it is gone");
    assert_eq!(bench.gate("b", Action::Persist), 4);
    bench.apply("a", Action::Get);
    bench.apply("b", Action::Get);
    assert_eq!(bench.shard.take_gate(), 4, "the last of both");
    assert_eq!(bench.shard.take_gate(), 0, "and taken");
    assert_eq!(bench.shard.kept(), 0);
    bench.source.keep_up_to(3);
    assert_eq!(bench.shard.kept(), 3);
}

#[test]
fn a_listing_waits_for_everything_and_a_record_of_the_node_for_itself() {
    let mut bench = Bench::new();
    for key in ["a", "b", "c"] {
        bench.apply(key, put(b"1"));
    }
    bench.shard.take_gate();
    let mut scan = Scan::page(b"", b"", 10);
    assert!(!bench.shard.scan(Namespace::KV, &mut scan, 1, NOW));
    assert_eq!(bench.shard.take_gate(), 0, "not answered yet");
    assert!(bench.shard.scan(Namespace::KV, &mut scan, usize::MAX, NOW));
    assert_eq!(bench.shard.take_gate(), 3);
    bench.shard.journal_node(&NodeRecord::of(&[("name", Some("value")), ("old", None)]));
    assert_eq!(bench.shard.take_gate(), 4);
    let last = bench.handed().pop();
    let Some(Handed::Change(body)) = last else { panic!("{last:?}") };
    let decoded = Record::decode(&body).unwrap();
    let Record::Node(changes) = decoded else { panic!("{decoded:?}") };
    assert_eq!(changes.iter().collect::<Vec<_>>(), [(&b"name"[..], Some(&b"value"[..])), (b"old", None)]);
}

#[test]
fn calls_on_lists_wait_as_operations_on_keys_do() {
    let mut bench = Bench::new();
    let mut gate = |key: &str, action| {
        bench.call(key, action);
        bench.shard.take_gate()
    };
    assert_eq!(gate("a", ListAction::Count), 0);
    assert_eq!(gate("a", ListAction::Add(numbers(0..10), Expiry::Never)), 1);
    assert_eq!(gate("a", ListAction::Add(numbers(0..10), Expiry::Never)), 1, "nothing was new");
    assert_eq!(gate("b", ListAction::Write(numbers(0..0), Expiry::Never)), 2);
    assert_eq!(gate("a", ListAction::Count), 1);
    assert_eq!(gate("a", ListAction::Remove(numbers(50..60))), 1, "there was none of them");
    assert_eq!(gate("a", ListAction::Remove(numbers(0..1))), 3);
    assert_eq!(gate("a", ListAction::Purge), 4);
    assert_eq!(gate("a", ListAction::Exists), 4);
}

#[test]
fn without_a_journal_nothing_is_waited_for_or_refused() {
    let hasher = KeyHasher::seeded(1);
    let mut shard = shard(8 << 20, WhenFull::Reject, hasher.clone());
    let hash = hasher.hash(Namespace::KV, b"key");
    let (namespace, key, condition) = (Namespace::KV, &b"key"[..], Condition::default());
    let action = put(b"1");
    let op = Operation { namespace, key, hash, action, condition, fencing_token: None, admin: false };
    assert!(matches!(shard.apply(&op, NOW), Outcome::Created(_)));
    shard.journal_node(&NodeRecord::of(&[("name", None::<&str>)]));
    shard.flush_journal();
    assert_eq!((shard.take_gate(), shard.kept(), shard.health()), (0, 0, Health::Good));
    assert!(!shard.is_journalled() && !shard.is_congested());
    assert!(!shard.write_base(NOW) && shard.wants_node_records().is_none());
}

#[test]
fn a_full_disk_refuses_what_writes_and_lets_pass_what_removes() {
    let mut bench = Bench::new();
    bench.apply("a", put(b"1"));
    bench.call("list", ListAction::Add(numbers(0..10), Expiry::Never));
    bench.handed();
    bench.source.be(Health::Full);
    for action in [
        put(b"2"),
        Action::Lock { lease_seconds: None },
        Action::Unlock,
        Action::Expire { seconds: 1 },
        Action::Persist,
    ] {
        assert!(matches!(bench.apply("a", action), Outcome::JournalFull), "{action:?}");
    }
    for action in [
        ListAction::Write(numbers(0..1), Expiry::Never),
        ListAction::Add(numbers(0..20), Expiry::Never),
        ListAction::Remove(numbers(0..1)),
    ] {
        assert!(matches!(bench.call("list", action), ListOutcome::JournalFull));
    }
    assert!(matches!(bench.apply("a", Action::Get), Outcome::Found(entry) if entry.value.bytes() == b"1"));
    assert!(matches!(bench.call("list", ListAction::Count), ListOutcome::Count(10)));
    assert!(bench.handed().is_empty(), "nothing has changed");
    assert!(matches!(bench.apply("a", Action::Delete { answer_value: false }), Outcome::Deleted(None)));
    assert!(matches!(bench.call("list", ListAction::Purge), ListOutcome::Purged));
    assert_eq!(bench.handed().len(), 2);
    bench.source.be(Health::Good);
    assert!(matches!(bench.apply("a", put(b"3")), Outcome::Created(_)));
}

#[test]
fn a_failed_disk_refuses_every_write() {
    let mut bench = Bench::new();
    bench.apply("a", put(b"1"));
    bench.call("list", ListAction::Add(numbers(0..10), Expiry::Never));
    bench.handed();
    bench.source.be(Health::Failed);
    assert!(matches!(bench.apply("a", put(b"2")), Outcome::JournalFailed));
    let delete = Action::Delete { answer_value: false };
    assert!(matches!(bench.apply("a", delete), Outcome::JournalFailed));
    assert!(matches!(bench.call("list", ListAction::Purge), ListOutcome::JournalFailed));
    assert!(matches!(bench.apply("a", Action::Get), Outcome::Found(_)));
    assert!(matches!(bench.call("list", ListAction::Count), ListOutcome::Count(10)));
    assert!(bench.handed().is_empty());
}

#[test]
fn a_call_on_a_list_is_one_record_however_many_slices_it_takes() {
    let mut bench = Bench::new();
    for (action, kind) in [
        (ListAction::Write(numbers(0..20_000), Expiry::Never), "PutList"),
        (ListAction::Add(numbers(10_000..30_000), Expiry::Never), "Append"),
        (ListAction::Remove(numbers(0..29_000)), "Withdraw"),
        (ListAction::Add(numbers(0..10), Expiry::Never), "Append"),
        (ListAction::Purge, "Remove"),
    ] {
        bench.call("list", action);
        let handed = bench.handed();
        let [Handed::Change(body)] = &*handed else { panic!("{} records for {kind}", handed.len()) };
        assert!(format!("{:?}", Record::decode(body).unwrap()).starts_with(kind));
    }
}

#[test]
fn a_live_set_is_written_in_slices_that_leave_the_ring_half_empty() {
    let mut bench = Bench::new();
    assert!(!bench.shard.write_base(NOW), "none is wanted");
    let value = [b'v'; 1_000];
    for key in 0..5_000 {
        bench.apply(&format!("key {key}"), put(&value));
        bench.handed();
    }
    bench.call("long", ListAction::Write(numbers(0..50_000), Expiry::Never));
    bench.call("short", ListAction::Write(numbers(0..3), Expiry::Never));
    bench.handed();
    bench.source.ask_for_base(1);
    let (records, slices) = bench.base();
    assert_eq!(records, 5_002);
    assert!(slices > 5_000 * 1_000 / (64 * 1_024) + 50_000 / 2_048, "{slices}");
    assert!(!bench.shard.write_base(NOW), "no other is wanted");

    // Nobody takes what is written: it stops at half, and goes on when there is room again.
    bench.source.ask_for_base(2);
    let mut slices = 0;
    while bench.shard.write_base(NOW) {
        slices += 1;
        assert!(slices < 10_000);
    }
    let bytes = |handed: &[Handed]| -> usize {
        handed.iter().map(|handed| if let Handed::Base(body) = handed { body.len() } else { 0 }).sum()
    };
    assert!(!bench.shard.is_congested());
    let written = bytes(&bench.handed());
    assert!((RING_BYTES / 2..RING_BYTES / 2 + 128 * 1_024).contains(&written), "{written}");
    assert!(bench.shard.write_base(NOW));
}

#[test]
fn a_live_set_that_is_asked_for_anew_begins_anew_and_has_what_the_node_keeps() {
    let mut bench = Bench::new();
    for key in 0..3_000 {
        bench.apply(&format!("key {key}"), put(b"value"));
    }
    bench.handed();
    bench.source.ask_for_base(1);
    assert_eq!(bench.shard.wants_node_records(), None, "it has not been looked yet");
    assert!(bench.shard.write_base(NOW));
    let slice = NodeRecord::of(&[("a", Some("1")), ("b", Some("2"))]);
    for _ in 0..2 {
        assert_eq!(bench.shard.wants_node_records(), Some(1));
        bench.shard.base_node(&slice);
    }
    bench.shard.base_node(&NodeRecord::default());
    assert_eq!(bench.shard.wants_node_records(), None);
    assert!(bench.shard.write_base(NOW));
    bench.source.ask_for_base(2);
    assert!(bench.shard.write_base(NOW));
    let mut handed = Vec::new();
    for turn in 0..100 {
        assert_eq!(bench.shard.wants_node_records(), Some(2), "turn {turn}");
        if turn == 0 {
            bench.shard.base_node(&slice);
        }
        assert!(bench.shard.write_base(NOW), "it does not end in the middle of them");
        handed.extend(bench.handed());
    }
    bench.shard.base_node(&NodeRecord::default());
    while bench.shard.write_base(NOW) {}
    handed.extend(bench.handed());
    let begins: Vec<u64> = handed
        .iter()
        .filter_map(|handed| if let Handed::BaseBegins(number) = handed { Some(*number) } else { None })
        .collect();
    assert_eq!(begins, [1, 2]);
    let second = handed.iter().skip_while(|handed| !matches!(handed, Handed::BaseBegins(2)));
    let records = second.filter(|handed| matches!(handed, Handed::Base(_))).count();
    assert_eq!(records, 3_001);
    assert!(matches!(handed.last(), Some(Handed::BaseEnds)));
}

#[test]
fn many_values_of_a_list_go_beside_the_ring_and_keep_nobody_waiting() {
    let mut bench = Bench::new();
    let values = || numbers(1_000_000_000..1_000_090_000);
    let framed_bytes = 14 * 90_000;
    assert!(framed_bytes > RING_BYTES);
    bench.call("list", ListAction::Write(values(), Expiry::Never));
    bench.call("added", ListAction::Add(numbers(0..1), Expiry::Never));
    bench.call("added", ListAction::Add(values(), Expiry::Never));
    bench.source.ask_for_base(1);
    while bench.shard.write_base(NOW) {}
    assert!(!bench.shard.is_congested(), "nobody has taken anything yet");
    let mut lengths = Vec::new();
    for handed in bench.handed() {
        let (Handed::Change(body) | Handed::Base(body)) = handed else { continue };
        match Record::decode(&body).unwrap() {
            Record::PutList(list) => lengths.push(list.values.bytes().len()),
            Record::Append(change) => lengths.push(change.values.bytes().len()),
            other => panic!("{other:?}"),
        }
    }
    lengths.sort_unstable();
    let (short, long) = (5, framed_bytes);
    assert_eq!(lengths, [short, long, long, long, long + short]);
}

#[test]
fn a_list_that_is_changed_without_end_is_in_the_live_set_all_the_same() {
    let mut bench = Bench::new();
    bench.call("list", ListAction::Write(numbers(0..20_000), Expiry::Never));
    bench.handed();
    bench.source.ask_for_base(1);
    let mut round = 0;
    let mut ended = false;
    // Every call takes several slices, and the next one begins before the live set has its turn.
    while !ended {
        let mut task =
            bench.task("list", ListAction::Add(numbers(round * 3_000..round * 3_000 + 6_000), Expiry::Never));
        while !work(&mut bench.shard, &mut task) {
            bench.shard.write_base(NOW);
        }
        let mut undo = bench.task("list", ListAction::Remove(numbers(round * 3_000..round * 3_000 + 6_000)));
        while !work(&mut bench.shard, &mut undo) {
            bench.shard.write_base(NOW);
        }
        ended = bench.handed().iter().any(|handed| matches!(handed, Handed::BaseEnds));
        round += 1;
        assert!(round < 100);
    }
}

#[test]
fn a_live_set_that_writes_are_held_for_never_waits_for_a_call_that_is_held() {
    let mut bench = Bench::new();
    bench.call("list", ListAction::Write(numbers(0..20_000), Expiry::Never));
    bench.handed();
    let mut adds = bench.task("list", ListAction::Add(numbers(20_000..30_000), Expiry::Never));
    assert!(!adds.may_go_on(false), "it has changed nothing yet");
    assert!(!work(&mut bench.shard, &mut adds));
    bench.source.ask_for_base(1);
    bench.source.hold_writes(true);
    let reads = bench.task("list", ListAction::Count);
    assert!(reads.may_go_on(false) && adds.may_go_on(true));
    for _ in 0..100 {
        bench.shard.write_base(NOW);
        if adds.may_go_on(!bench.shard.is_congested()) {
            work(&mut bench.shard, &mut adds);
        }
    }
    assert!(matches!(adds.take_outcome(), Some(ListOutcome::Added(10_000, 30_000))));
    assert!(bench.handed().iter().any(|handed| matches!(handed, Handed::BaseEnds)));
}

#[test]
fn what_is_over_the_ceiling_is_refused_with_sizes_or_evicted() {
    let value = [b'v'; 1_000];
    let fill = |shard: &mut Shard| {
        (0..10_000).try_for_each(|number| {
            let key = format!("key {number}");
            let restored = shard.restore(&Record::Put(record(key.as_bytes(), &value)), NOW);
            assert!(shard.store.memory_bytes() <= 4 << 20);
            restored
        })
    };
    let mut rejects = shard(4 << 20, WhenFull::Reject, KeyHasher::seeded(1));
    let Err(RestoreError::Full { entry_bytes, held_bytes, ceiling_bytes }) = fill(&mut rejects) else {
        panic!("10 MB fit into 4 MiB")
    };
    assert!((1_000..1_020).contains(&entry_bytes));
    assert_eq!(ceiling_bytes, 4 << 20);
    assert!(held_bytes > 3 << 20 && held_bytes <= ceiling_bytes, "{held_bytes}");
    let mut evicts = shard(4 << 20, WhenFull::Evict, KeyHasher::seeded(1));
    fill(&mut evicts).unwrap();
    assert!(evicts.stats().evictions > 5_000);
    // One that fits under no circumstances is refused by either.
    let huge = vec![b'v'; 5 << 20];
    for mut shard in [rejects, evicts] {
        let refused = shard.restore(&Record::Put(record(b"huge", &huge)), NOW).unwrap_err();
        assert!(matches!(refused, RestoreError::TooLarge { .. } | RestoreError::Full { .. }), "{refused:?}");
    }
}

#[test]
fn a_value_longer_than_is_taken_now_comes_back() {
    let hasher = KeyHasher::seeded(1);
    let config = StoreConfig { memory_bytes: 8 << 20, value_bytes_max: 100, when_full: WhenFull::Reject };
    let mut shard = Shard::new(Store::new(config, hasher.clone()).unwrap(), Tags::new(7));
    let value = vec![b'v'; 100_000];
    shard.restore(&Record::Put(record(b"key", &value)), NOW).unwrap();
    let texts: Vec<u8> = (0..1_000_u32)
        .flat_map(|number| {
            let text = number.to_string();
            [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
        })
        .collect();
    let (key, version) = (&b"list"[..], Version(1));
    let list = PutList { namespace: LISTS, key, version, expires_ms: None, values: Payload::Bytes(&texts) };
    shard.restore(&Record::PutList(list), NOW).unwrap();
    let at = crate::store::ListKey { namespace: LISTS, key, hash: hasher.hash(LISTS, key) };
    assert_eq!(shard.store.find_list(&at, NOW).unwrap().kept.count(), 1_000);
    let found = shard.store.find(Namespace::KV, b"key", hasher.hash(Namespace::KV, b"key"), NOW);
    assert_eq!(found.unwrap().value.bytes().len(), 100_000);
    // What is written now is held to the limit.
    let op = Operation {
        namespace: Namespace::KV,
        key: b"other",
        hash: hasher.hash(Namespace::KV, b"other"),
        action: put(&value[..101]),
        condition: Condition::default(),
        fencing_token: None,
        admin: false,
    };
    assert!(matches!(shard.apply(&op, NOW), Outcome::TooLarge));
}

#[test]
fn the_clock_goes_on_above_every_version_and_token_that_came_back() {
    let far = (NOW.unix_ms + 1_000_000) << 16;
    let lock = Some(Lock { token: far + 5, until_ms: None });
    let locked = Put { version: Version(far + 7), lock, ..record(b"a", b"1") };
    let change = ListChange {
        namespace: LISTS,
        key: b"list",
        version: Version(far + 20),
        values: Payload::Bytes(b""),
    };
    for (kept, highest) in [
        (Record::Put(locked), far + 7),
        (Record::Rewrite { namespace: Namespace::KV, key: b"a", expires_ms: None, lock }, far + 5),
        // Of a list that is not there.
        (Record::Append(change), far + 20),
        (Record::Put(Put { expires_ms: Some(1), ..locked }), far + 7),
    ] {
        let mut shard = shard(8 << 20, WhenFull::Reject, KeyHasher::seeded(1));
        shard.restore(&kept, NOW).unwrap();
        assert_eq!(shard.versions.next(NOW), Version(highest + 1));
        shard.raise_clock(Version(far + 100));
        assert_eq!(shard.versions.next(NOW), Version(far + 101));
    }
}

#[test]
fn a_list_with_something_in_it_that_is_no_value_is_refused() {
    let framed = |text: &[u8]| [&(text.len() as u32).to_le_bytes(), text].concat();
    let texts = [
        &b""[..],
        b"abc",
        b"\"",
        b"\"\\u12\"",
        b"-",
        b"1,2",
        b"01",
        b"[1]",
        b"1e1000000000000000000",
        b"\xff",
    ];
    let cut = [&b"\x01\0\0\0"[..], b"\x01\0\0", b"\x05\0\0\0nul"].map(<[u8]>::to_vec);
    for values in texts.into_iter().map(framed).chain(cut) {
        let values = &values;
        let mut shard = shard(8 << 20, WhenFull::Reject, KeyHasher::seeded(1));
        let (key, version) = (&b"list"[..], Version(1));
        let list =
            PutList { namespace: LISTS, key, version, expires_ms: None, values: Payload::Bytes(values) };
        assert_eq!(shard.restore(&Record::PutList(list), NOW), Err(RestoreError::Malformed), "{values:?}");
    }
}
