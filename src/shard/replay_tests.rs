//! What a shard hands to its journal, replayed: from any cut of the stream, behind any live set, into any
//! number of shards, it gives what was there at the cut.

use std::sync::Arc;

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

use super::apply::Shard;
use super::bytes::Bytes;
use super::list::{Budget, ListTask};
use super::list_call::{ListAction, ListOutcome, Values};
use crate::clock::{Now, Version};
use crate::doorbell::Doorbell;
use crate::etag::Tags;
use crate::journal::{Handed, NodeRecord, Record, Source, connect};
use crate::limits::VALUE_COPY_BYTES_MAX;
use crate::op::{
    Action, Condition, Encoding, Expiry, KeyHasher, Large, Namespace, Operation, Outcome, Payload, Step,
};
use crate::store::{ListKey, Lock, Store, StoreConfig, Walked, WhenFull};

const START_MS: u64 = 1_700_000_000_123;
const KEYS: usize = 8;
const LISTS: Namespace = Namespace::lists(3);

/// Namespace and number of a key.
type Key = (Namespace, usize);

/// What is known of an entry.
#[derive(Clone, Debug, PartialEq)]
enum State {
    Value {
        version: Version,
        expires_ms: Option<u64>,
        lock: Option<Lock>,
        content_type: Vec<u8>,
        encoding: Encoding,
        value: Vec<u8>,
    },
    List {
        expires_ms: Option<u64>,
        values: Vec<Vec<u8>>,
    },
}

impl State {
    /// What of it is there at a later time.
    fn at(mut self, now: Now) -> Option<State> {
        let (State::Value { expires_ms, .. } | State::List { expires_ms, .. }) = &self;
        if expires_ms.is_some_and(|at| at <= now.unix_ms) {
            return None;
        }
        if let State::Value { lock, .. } = &mut self {
            *lock = lock.filter(|lock| lock.holds(now));
        }
        Some(self)
    }
}

fn name(number: usize) -> Vec<u8> {
    format!("key {number}").into_bytes()
}

fn all_keys() -> impl Iterator<Item = Key> {
    [Namespace::KV, LISTS].into_iter().flat_map(|namespace| (0..KEYS).map(move |number| (namespace, number)))
}

/// Shards under one hasher.
struct Shards {
    shards: Vec<Shard>,
    hasher: KeyHasher,
}

impl Shards {
    fn new(count: usize, memory_bytes: u64, when_full: WhenFull) -> Shards {
        let hasher = KeyHasher::random();
        let config = StoreConfig { memory_bytes, value_bytes_max: memory_bytes as usize / 4, when_full };
        let store = || Store::new(config, hasher.clone()).unwrap();
        let shards = (0..count).map(|_| Shard::new(store(), Tags::new(7))).collect();
        Shards { shards, hasher }
    }

    fn owner(&self, (namespace, number): Key) -> usize {
        KeyHasher::owner(self.hasher.hash(namespace, &name(number)), self.shards.len())
    }

    fn state(&self, key: Key, now: Now) -> Option<State> {
        let (namespace, number) = key;
        let bytes = name(number);
        let at = ListKey { namespace, key: &bytes, hash: self.hasher.hash(namespace, &bytes) };
        Some(match self.shards[self.owner(key)].store.peek(&at, now)?.kept {
            Walked::Value(view) => State::Value {
                version: view.version,
                expires_ms: view.expires_ms,
                lock: view.lock,
                content_type: view.content_type.to_vec(),
                encoding: view.encoding,
                value: view.value.bytes().to_vec(),
            },
            Walked::List(view) => State::List {
                expires_ms: view.expires_ms,
                values: view.kept.texts().map(<[u8]>::to_vec).collect(),
            },
        })
    }
}

#[derive(Clone, Debug)]
enum ModelStep {
    Ask(usize, Asked),
    List(usize, Call),
    Work(usize),
    Wait(u64),
    WantBase,
    Base(usize),
    Sweep,
}

#[derive(Clone, Debug)]
enum Asked {
    Get,
    Put { length: usize, content_type: Option<&'static str>, encoding: Encoding, seconds: Option<u32> },
    Number,
    Delete,
    Lock { lease_seconds: Option<u32> },
    Unlock,
    Add,
    Expire { seconds: u32 },
    Persist,
}

/// Values of a call are the numbers from one to another.
#[derive(Clone, Debug)]
enum Call {
    Write(u32, u32, Option<u32>),
    Add(u32, u32, Option<u32>),
    Remove(u32, u32),
    Purge,
}

fn model_step() -> impl Strategy<Value = ModelStep> {
    let seconds = || prop::option::of(1..8_u32);
    let length = prop_oneof![4 => 0..300_usize, 1 => Just(3_000), 1 => 66_000..200_000_usize];
    let encoding = prop_oneof![6 => Just(Encoding::Identity), 1 => Just(Encoding::Zstd)];
    let content_type = prop_oneof![Just(None), Just(Some("text/plain")), Just(Some(""))];
    let asked = prop_oneof![
        1 => Just(Asked::Get),
        12 => (length, content_type, encoding, seconds()).prop_map(
            |(length, content_type, encoding, seconds)| Asked::Put { length, content_type, encoding, seconds }
        ),
        2 => Just(Asked::Number),
        2 => Just(Asked::Delete),
        3 => seconds().prop_map(|lease_seconds| Asked::Lock { lease_seconds }),
        2 => Just(Asked::Unlock),
        3 => Just(Asked::Add),
        3 => (1..8_u32).prop_map(|seconds| Asked::Expire { seconds }),
        3 => Just(Asked::Persist),
    ];
    let range = || {
        (0..6_u32, prop_oneof![3 => 0..40_u32, 1 => 1_000..4_000_u32])
            .prop_map(|(start, count)| (start * 500, start * 500 + count))
    };
    let call = prop_oneof![
        2 => (range(), seconds()).prop_map(|((from, to), seconds)| Call::Write(from, to, seconds)),
        6 => (range(), seconds()).prop_map(|((from, to), seconds)| Call::Add(from, to, seconds)),
        4 => range().prop_map(|(from, to)| Call::Remove(from, to)),
        1 => Just(Call::Purge),
    ];
    prop_oneof![
        14 => (0..KEYS, asked).prop_map(|(key, asked)| ModelStep::Ask(key, asked)),
        // Few of them, so that they meet.
        6 => (0..3_usize, call).prop_map(|(key, call)| ModelStep::List(key, call)),
        4 => (1..6_usize).prop_map(ModelStep::Work),
        3 => prop_oneof![1..1_500_u64, Just(4_000)].prop_map(ModelStep::Wait),
        2 => Just(ModelStep::WantBase),
        5 => (1..12_usize).prop_map(ModelStep::Base),
        1 => Just(ModelStep::Sweep),
    ]
}

/// Shards with a journal, and all that they handed to it.
struct Model {
    shards: Shards,
    sources: Vec<Source>,
    now: Now,
    /// Calls on lists under way, the one that is worked on first.
    tasks: Vec<ListTask>,
    asker: Arc<()>,
    /// Everything that was handed over, by whom, in the order in which it came.
    stream: Vec<(usize, Handed)>,
    /// How many records each shard has appended.
    appended: Vec<u64>,
    history: Vec<Change>,
    bases: u64,
    /// Whether entries may go by themselves.
    evicts: bool,
}

/// What became of a key.
struct Change {
    key: Key,
    /// With this part of the stream.
    place: usize,
    /// Its number among the records of its shard.
    number: u64,
    state: Option<State>,
}

impl Model {
    fn new(count: usize, evicts: bool) -> Model {
        let (memory_bytes, when_full) =
            if evicts { (2 << 20, WhenFull::Evict) } else { (64 << 20, WhenFull::Reject) };
        let mut shards = Shards::new(count, memory_bytes, when_full);
        let mut sources = Vec::new();
        for shard in &mut shards.shards {
            let (tap, source) = connect(Arc::new(Doorbell::new(Box::new(|| {}))));
            shard.attach(tap);
            sources.push(source);
        }
        Model {
            shards,
            sources,
            now: Now::from_unix_ms(START_MS),
            tasks: Vec::new(),
            asker: Arc::new(()),
            stream: Vec::new(),
            appended: vec![0; count],
            history: Vec::new(),
            bases: 0,
            evicts,
        }
    }

    fn run(&mut self, step: &ModelStep) {
        match step {
            ModelStep::Ask(number, asked) => self.ask(*number, asked),
            ModelStep::List(number, call) => self.begin(*number, call),
            ModelStep::Work(slices) => (0..*slices).for_each(|_| self.work()),
            ModelStep::Wait(ms) => self.now = Now::from_unix_ms(self.now.unix_ms + ms),
            ModelStep::WantBase => {
                self.bases += 1;
                self.sources.iter().for_each(|source| source.ask_for_base(self.bases));
            }
            ModelStep::Base(slices) => {
                for _ in 0..*slices {
                    (0..self.sources.len()).for_each(|at| self.base(at));
                }
            }
            ModelStep::Sweep => self.shards.shards.iter_mut().for_each(|shard| shard.sweep(self.now)),
        }
    }

    fn base(&mut self, at: usize) {
        let shard = &mut self.shards.shards[at];
        if at == 0 && shard.wants_node_records().is_some() {
            shard.base_node(&NodeRecord::of(&[("node", Some("value"))]));
            shard.base_node(&NodeRecord::default());
        }
        shard.write_base(self.now);
        self.drain(at);
    }

    fn ask(&mut self, number: usize, asked: &Asked) {
        let key = (Namespace::KV, number);
        let at = self.shards.owner(key);
        let value = match asked {
            Asked::Put { length, .. } => {
                // Where entries may go there is hardly room for all keys.
                let longer = if self.evicts { 300_000 } else { 0 };
                vec![b'a' + (*length % 26) as u8; longer + *length]
            }
            _ => b"41".to_vec(),
        };
        let large = (value.len() > VALUE_COPY_BYTES_MAX).then(|| Large::copy_of(&value));
        let payload = large.as_ref().map_or(Payload::Bytes(&value), Payload::Large);
        let put = |content_type: Option<&'static str>, encoding, seconds| Action::Put {
            value: payload,
            content_type: content_type.map(str::as_bytes),
            encoding,
            expiry: expiry(seconds),
        };
        let action = match *asked {
            Asked::Get => Action::Get,
            Asked::Put { content_type, encoding, seconds, .. } => put(content_type, encoding, seconds),
            Asked::Number => put(None, Encoding::Identity, None),
            Asked::Delete => Action::Delete { answer_value: false },
            Asked::Lock { lease_seconds } => Action::Lock { lease_seconds },
            Asked::Unlock => Action::Unlock,
            Asked::Add => Action::Add(Step::Integer(1)),
            Asked::Expire { seconds } => Action::Expire { seconds },
            Asked::Persist => Action::Persist,
        };
        let lock = match self.shards.state(key, self.now) {
            Some(State::Value { lock, .. }) => lock,
            _ => None,
        };
        let bytes = name(number);
        let op = Operation {
            namespace: Namespace::KV,
            key: &bytes,
            hash: self.shards.hasher.hash(Namespace::KV, &bytes),
            action,
            condition: Condition::default(),
            // The holders of some locks write under them.
            fencing_token: lock.map(|lock| lock.token).filter(|_| number.is_multiple_of(2)),
            admin: true,
        };
        let shard = &mut self.shards.shards[at];
        assert!(!matches!(shard.apply(&op, self.now), Outcome::TooLarge));
        let gate = shard.take_gate();
        self.drain(at);
        let last = self.history.iter().rev().find(|change| change.key == key);
        let least = last.map_or(0, |change| change.number);
        assert!((least..=self.appended[at]).contains(&gate), "{gate} for a key of {least}");
    }

    fn begin(&mut self, number: usize, call: &Call) {
        let values = |from: u32, to: u32| {
            let texts: Vec<String> = (from..to).map(|number| format!("\"value {number}\"")).collect();
            let document = texts.join(",").into_bytes();
            let range = 0..document.len();
            Values { document: Bytes::Small(document), range }
        };
        let action = match *call {
            Call::Write(from, to, seconds) => ListAction::Write(values(from, to), expiry(seconds)),
            Call::Add(from, to, seconds) => ListAction::Add(values(from, to), expiry(seconds)),
            Call::Remove(from, to) => ListAction::Remove(values(from, to)),
            Call::Purge => ListAction::Purge,
        };
        let key = name(number);
        let hash = self.shards.hasher.hash(LISTS, &key);
        let task = ListTask::new(LISTS, key, hash, action, Arc::downgrade(&self.asker));
        // Calls on one key follow each other.
        let is_free = !self.tasks.iter().any(|other| other.is_about_the_key_of(&task));
        self.tasks.push(task);
        if is_free {
            self.work_on(self.tasks.len() - 1);
        }
    }

    fn work(&mut self) {
        if !self.tasks.is_empty() {
            self.work_on(0);
        }
    }

    fn work_on(&mut self, at: usize) {
        let owner = KeyHasher::owner(self.tasks[at].hash, self.sources.len());
        let mut budget = Budget::of_a_turn();
        if self.shards.shards[owner].work_on(&mut self.tasks[at], &mut budget, self.now) {
            let outcome = self.tasks.remove(at).take_outcome().unwrap();
            assert!(self.evicts || !matches!(outcome, ListOutcome::StoreFull | ListOutcome::TooLarge));
        }
        self.drain(owner);
    }

    /// Takes what a shard handed over since it did one thing, and notes what has become of the keys that
    /// it is about.
    fn drain(&mut self, at: usize) {
        self.shards.shards[at].flush_journal();
        let first = self.history.len();
        for handed in self.sources[at].drain() {
            self.stream.push((at, handed.clone()));
            let Handed::Change(body) = handed else { continue };
            self.appended[at] += 1;
            let key = key_of(&Record::decode(&body).unwrap());
            let (place, number) = (self.stream.len(), self.appended[at]);
            self.history.push(Change { key, place, number, state: None });
        }
        let mut seen = Vec::new();
        for change in self.history[first..].iter_mut().rev() {
            // What was evicted and written at once has two records: it was absent in between.
            if !seen.contains(&change.key) {
                seen.push(change.key);
                change.state = self.shards.state(change.key, self.now);
            }
        }
    }

    /// What a key is by the first parts of the stream.
    fn expected(&self, key: Key, parts: usize, now: Now) -> Option<State> {
        let changes = self.history.iter().rev();
        let last = changes.into_iter().find(|change| change.key == key && change.place <= parts)?;
        last.state.clone()?.at(now)
    }

    /// Where in the first parts of the stream each shard begins and ends the newest live set that all of
    /// them have completed.
    fn newest_base(&self, parts: usize) -> Option<Vec<(usize, usize)>> {
        let of_shard = |number: u64, at: usize| {
            let parts = || self.stream[..parts].iter().enumerate().filter(move |(_, (by, _))| *by == at);
            let is_begin = |handed: &Handed| matches!(handed, Handed::BaseBegins(begun) if *begun == number);
            let (begin, _) = parts().find(|(_, (_, handed))| is_begin(handed))?;
            let (end, (_, handed)) = parts()
                .skip_while(|(place, _)| *place <= begin)
                .find(|(_, (_, handed))| matches!(handed, Handed::BaseEnds | Handed::BaseBegins(_)))?;
            matches!(handed, Handed::BaseEnds).then_some((begin, end))
        };
        (1..=self.bases)
            .rev()
            .find_map(|number| (0..self.sources.len()).map(|at| of_shard(number, at)).collect())
    }

    /// Replays the first parts of the stream into so many shards, from the newest live set on.
    fn replay(&self, parts: usize, count: usize, now: Now) -> Shards {
        let mut shards = Shards::new(count, 64 << 20, WhenFull::Reject);
        let mut restore = |body: &[u8]| {
            let record = Record::decode(body).unwrap();
            if let Record::Node(_) = record {
                return;
            }
            let owner = shards.owner(key_of(&record));
            shards.shards[owner].restore(&record, now).unwrap();
        };
        let base = self.newest_base(parts);
        for at in 0..self.sources.len() {
            let (begin, end) = base.as_ref().map_or((0, 0), |base| base[at]);
            for (_, handed) in self.stream[begin..end].iter().filter(|(by, _)| *by == at) {
                if let Handed::Base(body) = handed {
                    restore(body);
                }
            }
        }
        for (place, (by, handed)) in self.stream[..parts].iter().enumerate() {
            let begin = base.as_ref().map_or(0, |base| base[*by].0);
            if let Handed::Change(body) = handed
                && place >= begin
            {
                restore(body);
            }
        }
        shards
    }
}

fn expiry(seconds: Option<u32>) -> Expiry {
    seconds.map_or(Expiry::Never, Expiry::Seconds)
}

fn key_of(record: &Record<'_>) -> Key {
    let (namespace, key) = match record {
        Record::Put(put) => (put.namespace, put.key),
        Record::Rewrite { namespace, key, .. } | Record::Remove { namespace, key } => (*namespace, *key),
        Record::PutList(list) => (list.namespace, list.key),
        Record::Append(change) | Record::Withdraw(change) => (change.namespace, change.key),
        Record::Node(_) => panic!("a record of the node"),
    };
    all_keys().find(|(_, number)| name(*number) == key).map(|(_, number)| (namespace, number)).unwrap()
}

proptest! {
    #[test]
    fn a_stream_cut_anywhere_gives_what_was_there_at_the_cut(
        steps in prop::collection::vec(model_step(), 1..120),
        workers in (1..4_usize, 1..4_usize),
        evicts in prop::bool::weighted(0.3),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 4),
        later_ms in prop_oneof![Just(0_u64), 0..10_000_u64],
    ) {
        let mut model = Model::new(workers.0, evicts);
        steps.iter().for_each(|step| model.run(step));
        while !model.tasks.is_empty() {
            model.work();
        }
        let now = Now::from_unix_ms(model.now.unix_ms + later_ms);
        let end = model.stream.len();
        for key in all_keys() {
            let (left, told) = (model.shards.state(key, model.now), model.expected(key, end, model.now));
            assert_eq!(left, told, "{key:?} is what the journal was told");
        }
        for parts in cuts.iter().map(|cut| cut.index(end + 1)).chain([end]) {
            let mut back = model.replay(parts, workers.1, now);
            for key in all_keys() {
                let expected = model.expected(key, parts, now);
                assert_eq!(back.state(key, now), expected, "{key:?} at {parts} of {end}");
                // Whatever is written next is above everything that came back.
                if let Some(State::Value { version, lock, .. }) = expected {
                    let owner = back.owner(key);
                    let next = back.shards[owner].versions.next(Now::from_unix_ms(0));
                    assert!(next > version && next.0 > lock.map_or(0, |lock| lock.token));
                }
            }
        }
    }
}
