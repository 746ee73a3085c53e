//! The store against a naive model: whatever is done to it, it answers like a map, but for entries
//! that it was allowed to drop, and it never takes more memory than it was given.

use std::collections::BTreeMap;

use lucid::clock::{Now, Version, VersionClock};
use lucid::op::{CONTENT_TYPE_DEFAULT, Encoding, KeyHasher, Large, Namespace, Payload};
use lucid::store::{
    Kept, ListKey, ListView, Lock, NewEntry, NewMeta, Pushed, STORE_BYTES_MIN, Scan, ShortList, Store,
    StoreConfig, Value, WhenFull, WriteError, records,
};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

const VALUE_BYTES_MAX: usize = 300_000;

/// One thing done to the store.
#[derive(Clone, Debug)]
enum Step {
    Write { key: u16, namespace: u8, len: usize, style: u8, ttl_ms: Option<u32>, lease_ms: Option<u16> },
    WriteMany { first: u16, count: u16, len: usize, ttl_ms: Option<u32> },
    Find { key: u16, namespace: u8 },
    FindMany { first: u16, count: u16 },
    Rewrite { key: u16, namespace: u8, ttl_ms: Option<u32>, lock: bool },
    Remove { key: u16, namespace: u8 },
    RemoveMany { first: u16, count: u16 },
    DropNamespace { namespace: u8 },
    Pass { ms: u32 },
    TurnBack { ms: u32 },
    Sweep { times: u8 },
    List { prefix: u8, limit: usize, budget: usize, namespace: u8 },
    WriteList { key: u16, first: u16, count: u16, ttl_ms: Option<u32> },
    Push { key: u16, first: u16, count: u16 },
    TakeOut { key: u16, first: u16, count: u16 },
    RemoveList { key: u16 },
    DropLists,
}

fn steps() -> impl Strategy<Value = Step> {
    let key = || prop_oneof![0..30u16, 0..1_000u16];
    let namespace = || prop_oneof![3 => Just(0u8), 1 => 0..4u8];
    let len = || {
        prop_oneof![
            6 => 0..100usize,
            3 => 200..3_000usize,
            2 => 30_000..33_000usize,
            1 => 60_000..70_000usize,
            1 => 70_000..VALUE_BYTES_MAX + 2,
        ]
    };
    let ttl =
        || prop_oneof![3 => Just(None), 1 => (1..100u32).prop_map(Some), 1 => (1..100_000u32).prop_map(Some)];
    prop_oneof![
        8 => (key(), namespace(), len(), any::<u8>(), ttl(), proptest::option::of(0..200u16)).prop_map(
            |(key, namespace, len, style, ttl_ms, lease_ms)| {
                Step::Write { key, namespace, len, style, ttl_ms, lease_ms }
            }
        ),
        4 => (key(), 1..2_000u16, prop_oneof![0..200usize, 1_000..5_000usize], ttl())
            .prop_map(|(first, count, len, ttl_ms)| Step::WriteMany { first, count, len, ttl_ms }),
        6 => (key(), namespace()).prop_map(|(key, namespace)| Step::Find { key, namespace }),
        2 => (key(), 1..500u16).prop_map(|(first, count)| Step::FindMany { first, count }),
        3 => (key(), namespace(), ttl(), any::<bool>())
            .prop_map(|(key, namespace, ttl_ms, lock)| Step::Rewrite { key, namespace, ttl_ms, lock }),
        3 => (key(), namespace()).prop_map(|(key, namespace)| Step::Remove { key, namespace }),
        1 => (key(), 1..1_500u16).prop_map(|(first, count)| Step::RemoveMany { first, count }),
        1 => (0..4u8).prop_map(|namespace| Step::DropNamespace { namespace }),
        2 => prop_oneof![0..50u32, 0..100_000u32].prop_map(|ms| Step::Pass { ms }),
        1 => prop_oneof![0..50u32, 0..100_000u32, 0..100_000_000u32].prop_map(|ms| Step::TurnBack { ms }),
        2 => (1..40u8).prop_map(|times| Step::Sweep { times }),
        1 => (any::<u8>(), 1..50usize, 1..500usize, namespace())
            .prop_map(|(prefix, limit, budget, namespace)| Step::List { prefix, limit, budget, namespace }),
        2 => (0..8u16, 0..4_000u16, 0..2_500u16, ttl())
            .prop_map(|(key, first, count, ttl_ms)| Step::WriteList { key, first, count, ttl_ms }),
        3 => (0..8u16, 0..4_000u16, 0..300u16).prop_map(|(key, first, count)| Step::Push { key, first, count }),
        2 => (0..8u16, 0..4_000u16, 0..2_500u16).prop_map(|(key, first, count)| Step::TakeOut { key, first, count }),
        1 => (0..8u16).prop_map(|key| Step::RemoveList { key }),
        1 => Just(Step::DropLists),
    ]
}

/// What the model knows of an entry.
#[derive(Clone, Debug)]
struct Expected {
    version: Version,
    len: usize,
    expires_ms: Option<u64>,
    lock: Option<Lock>,
    style: u8,
}

impl Expected {
    fn alive(&self, now: Now) -> bool {
        self.expires_ms.is_none_or(|ms| now.unix_ms < ms)
    }
}

/// What the model knows of a list: its values, and when it expires.
#[derive(Clone, Debug)]
struct ExpectedList {
    values: Vec<u16>,
    expires_ms: Option<u64>,
}

impl ExpectedList {
    fn alive(&self, now: Now) -> bool {
        self.expires_ms.is_none_or(|ms| now.unix_ms < ms)
    }
}

const LISTS: Namespace = Namespace::lists(9);

/// The text of a list's value, some of them longer than a page.
fn text_of(value: u16) -> String {
    let more = if value % 1_000 == 7 { 5_000 } else { usize::from(value % 40) };
    format!("\"{value}{}\"", "v".repeat(more))
}

/// Store and model side by side.
struct Pair {
    store: Store,
    hasher: KeyHasher,
    config: StoreConfig,
    model: BTreeMap<(u8, Vec<u8>), Expected>,
    lists: BTreeMap<u16, ExpectedList>,
    clock: VersionClock,
    now: Now,
    /// The latest time there has been. What had expired by then may be gone for good, or be there again.
    latest: Now,
}

/// A value that belongs to one version alone.
fn value_of(version: Version, len: usize) -> Vec<u8> {
    version.0.to_le_bytes().iter().chain(b"lucid").copied().cycle().take(len).collect()
}

/// Keys of many lengths, some with a common beginning.
fn key_of(key: u16) -> Vec<u8> {
    let mut name = format!("{:02x}/{key}/", key % 7).into_bytes();
    name.resize(name.len() + (usize::from(key) * 37) % if key.is_multiple_of(50) { 1_000 } else { 20 }, b'k');
    name
}

fn type_of(style: u8) -> Vec<u8> {
    match style % 8 {
        0..=3 => CONTENT_TYPE_DEFAULT.to_vec(),
        4 | 5 => b"application/json".to_vec(),
        6 => Vec::new(),
        _ => {
            format!("text/{}", "x".repeat(style.into())).into_bytes()[..usize::from(style).min(250)].to_vec()
        }
    }
}

fn encoding_of(style: u8) -> Encoding {
    [Encoding::Identity, Encoding::Gzip, Encoding::Zstd][usize::from(style / 8 % 3)]
}

impl Pair {
    fn new(memory_bytes: u64, when_full: WhenFull) -> Pair {
        let hasher = KeyHasher::random();
        let config = StoreConfig { memory_bytes, value_bytes_max: VALUE_BYTES_MAX, when_full };
        let store = Store::new(config, hasher.clone()).unwrap();
        let now = Now::from_unix_ms(1_700_000_000_000);
        Pair {
            store,
            hasher,
            config,
            model: BTreeMap::new(),
            lists: BTreeMap::new(),
            clock: VersionClock::default(),
            now,
            latest: now,
        }
    }

    fn hash(&self, namespace: u8, key: &[u8]) -> u64 {
        self.hasher.hash(Namespace(namespace.into()), key)
    }

    fn write(&mut self, namespace: u8, key: u16, expected: Expected) {
        let name = key_of(key);
        let bytes = value_of(expected.version, expected.len);
        let large: Large = Large::copy_of(&bytes);
        let content_type = type_of(expected.style);
        let entry = NewEntry {
            namespace: Namespace(namespace.into()),
            key: &name,
            hash: self.hash(namespace, &name),
            version: expected.version,
            expires_ms: expected.expires_ms,
            lock: expected.lock,
            content_type: &content_type,
            encoding: encoding_of(expected.style),
            value: if expected.style.is_multiple_of(2) {
                Payload::Bytes(&bytes)
            } else {
                Payload::Large(&large)
            },
        };
        match self.store.write(&entry, self.now) {
            Ok(()) => {
                assert!(expected.len <= VALUE_BYTES_MAX);
                self.model.insert((namespace, name.clone()), expected);
            }
            Err(WriteError::Closed) => panic!("there is no database here"),
            Err(WriteError::TooLarge) => assert!(expected.len > VALUE_BYTES_MAX),
            Err(WriteError::Full) => {
                assert_eq!(self.config.when_full, WhenFull::Reject);
                let held = self.store.stats().live_bytes + expected.len as u64;
                assert!(held > self.config.memory_bytes / 2, "full with {held} bytes");
            }
        }
        // Nobody but the store may hold a large value on.
        assert!(large.holders() <= 2);
    }

    /// Compares what both know of a key. The store may have dropped it if it may evict at all, or if
    /// its time had passed before the clock stepped back.
    fn check(&mut self, namespace: u8, name: &[u8]) {
        let hash = self.hash(namespace, name);
        let place = (namespace, name.to_vec());
        self.store.prefetch_index(hash);
        self.store.prefetch_entry(hash);
        let expected = self.model.get(&place).filter(|expected| expected.alive(self.now));
        let Some(view) = self.store.find(Namespace(namespace.into()), name, hash, self.now) else {
            if expected.is_some_and(|expected| !expected.alive(self.latest)) {
                self.model.remove(&place);
            } else if expected.is_some() {
                assert_eq!(self.config.when_full, WhenFull::Evict, "lost {place:?}");
                assert!(self.store.stats().evictions > 0);
                self.model.remove(&place);
            }
            return;
        };
        let expected = expected.unwrap_or_else(|| panic!("{place:?} should be absent"));
        assert_eq!(view.version, expected.version);
        assert_eq!(view.expires_ms, expected.expires_ms);
        assert_eq!(view.lock, expected.lock.filter(|lock| lock.holds(self.now)));
        assert_eq!(view.content_type, type_of(expected.style));
        assert_eq!(view.encoding, encoding_of(expected.style));
        assert!(view.value.bytes() == value_of(expected.version, expected.len));
    }

    fn apply(&mut self, step: &Step) {
        let now = self.now;
        let expires = |ttl_ms: Option<u32>| ttl_ms.map(|ttl_ms| now.unix_ms + u64::from(ttl_ms));
        match *step {
            Step::Write { key, namespace, len, style, ttl_ms, lease_ms } => {
                let lock = (style % 5 == 0).then(|| Lock {
                    token: u64::from(style) << 50,
                    until_ms: lease_ms.map(|ms| now.unix_ms + u64::from(ms)),
                });
                let version = self.clock.next(now);
                self.write(
                    namespace,
                    key,
                    Expected { version, len, expires_ms: expires(ttl_ms), lock, style },
                );
            }
            Step::WriteMany { first, count, len, ttl_ms } => {
                for key in first..first + count {
                    let version = self.clock.next(now);
                    let expires_ms = expires(ttl_ms);
                    self.write(0, key, Expected { version, len, expires_ms, lock: None, style: 0 });
                }
            }
            Step::Find { key, namespace } => self.check(namespace, &key_of(key)),
            Step::FindMany { first, count } => {
                (first..first + count).for_each(|key| self.check(0, &key_of(key)));
            }
            Step::Rewrite { key, namespace, ttl_ms, lock } => {
                self.rewrite(namespace, key, expires(ttl_ms), lock)
            }
            Step::Remove { key, namespace } => self.remove(namespace, key),
            Step::RemoveMany { first, count } => {
                (first..first + count).for_each(|key| self.remove(0, key));
            }
            Step::DropNamespace { namespace } => {
                self.store.drop_namespace(Namespace(namespace.into()));
                self.model.retain(|(of, _), _| *of != namespace);
                assert_eq!(self.store.namespace_stats(Namespace(namespace.into())), Default::default());
            }
            Step::Pass { ms } => {
                self.now = Now::from_unix_ms(now.unix_ms + u64::from(ms));
                self.latest = self.latest.max(self.now);
            }
            Step::TurnBack { ms } => self.now = Now::from_unix_ms(now.unix_ms - u64::from(ms)),
            Step::Sweep { times } => (0..times).for_each(|_| self.store.sweep(now)),
            Step::List { prefix, limit, budget, namespace } => self.list(namespace, prefix, limit, budget),
            Step::WriteList { key, first, count, ttl_ms } => {
                self.push(key, first, count, Some(expires(ttl_ms)));
            }
            Step::Push { key, first, count } => self.push(key, first, count, None),
            Step::TakeOut { key, first, count } => self.take_out(key, first, count),
            Step::RemoveList { key } => self.remove_list(key),
            Step::DropLists => {
                self.store.drop_namespace(LISTS);
                self.lists.clear();
            }
        }
        assert!(self.store.memory_bytes() <= self.config.memory_bytes, "{:?}", self.store.stats());
    }

    fn list_hash(&self, key: u16) -> (Vec<u8>, u64) {
        let name = key_of(key);
        let hash = self.hasher.hash(LISTS, &name);
        (name, hash)
    }

    /// Compares what both know of a list. The store may have dropped it if it may evict at all, or if its
    /// time had passed before the clock stepped back.
    fn check_list(&mut self, key: u16) {
        let (name, hash) = self.list_hash(key);
        let at = ListKey { namespace: LISTS, key: &name, hash };
        let expected = self.lists.get(&key).filter(|list| list.alive(self.now));
        let Some(view) = self.store.find_list(&at, self.now) else {
            if let Some(expected) = expected {
                if expected.alive(self.latest) {
                    assert_eq!(self.config.when_full, WhenFull::Evict, "lost list {key}");
                }
                self.lists.remove(&key);
            }
            return;
        };
        let expected = expected.unwrap_or_else(|| panic!("list {key} should be absent"));
        assert_eq!(view.expires_ms, expected.expires_ms);
        assert_eq!(view.kept.count() as usize, expected.values.len());
        let texts: Vec<Vec<u8>> = match view.kept {
            Kept::Short(bytes) => records(bytes).map(|record| record.text.to_vec()).collect(),
            Kept::Long(list) => {
                let places = std::iter::successors(list.select(0), |place| list.next(*place));
                places.map(|place| list.record(place).text.to_vec()).collect()
            }
        };
        assert!(
            texts.iter().eq(expected
                .values
                .iter()
                .map(|value| text_of(*value).into_bytes())
                .collect::<Vec<_>>()
                .iter())
        );
        for (at, value) in expected.values.iter().enumerate().step_by(97) {
            let text = text_of(*value);
            let value = Value::of(text.as_bytes()).unwrap();
            let hash = self.store.hash_value(value.canonical());
            assert_eq!(view.kept.index_of(value.canonical(), hash), Some(at as u32));
        }
    }

    /// Adds values as a task does: to a copy of a short list, aside, or in place. With a deadline the list
    /// is written anew.
    fn push(&mut self, key: u16, first: u16, count: u16, anew: Option<Option<u64>>) {
        self.check_list(key);
        let (name, hash) = self.list_hash(key);
        let at = ListKey { namespace: LISTS, key: &name, hash };
        let now = self.now;
        let found = self.store.find_list(&at, now).filter(|_| anew.is_none());
        let expires_ms = anew.unwrap_or(found.and_then(|view| view.expires_ms));
        let mut expected = self
            .lists
            .get(&key)
            .filter(|_| found.is_some())
            .map_or_else(Vec::new, |list| list.values.clone());
        let in_place = matches!(found, Some(view) if matches!(view.kept, Kept::Long(_)));
        let mut short = match found.map(|view| view.kept) {
            Some(Kept::Short(bytes)) => ShortList::copy_of(bytes),
            _ => ShortList::default(),
        };
        let mut aside = None;
        for number in first..first + count {
            let text = text_of(number);
            let value = Value::of(text.as_bytes()).unwrap();
            let hash = self.store.hash_value(value.canonical());
            let is_new = !expected.contains(&number);
            let pushed = if in_place {
                let version = self.clock.next(now);
                match self.store.push_in_place(&at, &value, hash, version, now) {
                    Ok(Pushed::Gone) => {
                        assert_eq!(self.config.when_full, WhenFull::Evict);
                        return self.check_list(key);
                    }
                    Ok(pushed) => Ok(pushed == Pushed::New),
                    Err(why) => Err(why),
                }
            } else if let Some(aside) = aside {
                self.store.push_aside(aside, &value, hash, now)
            } else if short.contains(value.canonical()) || short.push(&value) {
                Ok(is_new)
            } else {
                self.store.begin_list(now).and_then(|aside_number| {
                    aside = Some(aside_number);
                    for record in records(short.records()) {
                        let value = Value::of(record.text).unwrap();
                        let hash = self.store.hash_value(value.canonical());
                        assert!(self.store.push_aside(aside_number, &value, hash, now)?);
                    }
                    self.store.push_aside(aside_number, &value, hash, now)
                })
            };
            assert!(self.store.memory_bytes() <= self.config.memory_bytes);
            match pushed {
                Ok(pushed) => {
                    assert_eq!(pushed, is_new);
                    if pushed {
                        expected.push(number);
                    }
                }
                Err(_) if in_place => {
                    if let Some(list) = self.lists.get_mut(&key) {
                        list.values = expected;
                    }
                    return self.check_list(key);
                }
                Err(_) => {
                    aside.into_iter().for_each(|number| self.store.drop_aside(number));
                    return;
                }
            }
        }
        let version = self.clock.next(now);
        let written = match aside {
            _ if in_place => Ok(()),
            Some(number) => self.store.attach(&at, number, version, expires_ms, now),
            None => self.store.write_short(&at, &short, version, expires_ms, now),
        };
        match (written, aside) {
            (Ok(()), _) => {
                self.lists.insert(key, ExpectedList { values: expected, expires_ms });
            }
            (Err(_), Some(number)) => self.store.drop_aside(number),
            (Err(_), None) => {}
        }
        self.check_list(key);
    }

    fn take_out(&mut self, key: u16, first: u16, count: u16) {
        self.check_list(key);
        let (name, hash) = self.list_hash(key);
        let at = ListKey { namespace: LISTS, key: &name, hash };
        let now = self.now;
        let Some(view) = self.store.find_list(&at, now) else { return };
        if let Kept::Short(_) = view.kept {
            return;
        }
        for number in first..first + count {
            let text = text_of(number);
            let value = Value::of(text.as_bytes()).unwrap();
            let hash = self.store.hash_value(value.canonical());
            let Some(ListView { kept: Kept::Long(list), .. }) = self.store.find_list(&at, now) else {
                return;
            };
            let Some(place) = list.find(value.canonical(), hash) else { continue };
            let version = self.clock.next(now);
            assert!(self.store.remove_in_place(&at, place, version));
            if let Some(list) = self.lists.get_mut(&key) {
                list.values.retain(|own| *own != number);
            }
        }
        self.store.shorten(&at, now);
        self.check_list(key);
    }

    fn remove_list(&mut self, key: u16) {
        self.check_list(key);
        let (name, hash) = self.list_hash(key);
        let removed = self.store.remove(LISTS, &name, hash, self.now);
        let expected = self.lists.remove(&key).is_some_and(|list| list.alive(self.now));
        assert_eq!(removed, expected);
        self.check_list(key);
    }

    fn rewrite(&mut self, namespace: u8, key: u16, expires_ms: Option<u64>, lock: bool) {
        let name = key_of(key);
        let lock = lock.then_some(Lock { token: 9, until_ms: None });
        self.check(namespace, &name);
        let hash = self.hash(namespace, &name);
        let meta = NewMeta { expires_ms, lock };
        let space = Namespace(namespace.into());
        let place = (namespace, name);
        match self.store.rewrite(space, &place.1, hash, meta, self.now) {
            Ok(true) => {
                let expected = self.model.get_mut(&place).unwrap();
                (expected.expires_ms, expected.lock) = (expires_ms, lock);
            }
            // Gone already, or evicted to make room for its own new header.
            Ok(false) => self.check(namespace, &place.1),
            Err(error) => {
                assert_eq!((error, self.config.when_full), (WriteError::Full, WhenFull::Reject));
            }
        }
    }

    fn remove(&mut self, namespace: u8, key: u16) {
        let name = key_of(key);
        self.check(namespace, &name);
        let hash = self.hash(namespace, &name);
        let removed = self.store.remove(Namespace(namespace.into()), &name, hash, self.now);
        let known = self.model.remove(&(namespace, name.clone())).filter(|expected| expected.alive(self.now));
        assert_eq!(removed, known.is_some());
        self.check(namespace, &name);
    }

    fn list(&mut self, namespace: u8, prefix: u8, limit: usize, budget: usize) {
        self.check_all();
        let prefix = format!("{:02x}/", prefix % 8).into_bytes();
        let mut expected = self
            .model
            .iter()
            .filter(|((of, name), expected)| {
                *of == namespace && name.starts_with(&prefix) && expected.alive(self.now)
            })
            .map(|((_, name), expected)| (name.clone(), expected.len as u64, expected.version));
        let mut after = Vec::new();
        loop {
            let mut scan = Scan::page(&prefix, &after, limit);
            while !self.store.scan(Namespace(namespace.into()), &mut scan, budget, self.now) {}
            let (page, more) = scan.into_page();
            for listed in &page {
                assert_eq!(Some((listed.name.clone(), listed.size, listed.version)), expected.next());
            }
            match page.last() {
                Some(last) if more => after.clone_from(&last.name),
                _ => break,
            }
        }
        assert_eq!(expected.next(), None);
    }

    /// Compares everything, and the counters with it.
    fn check_all(&mut self) {
        let places: Vec<_> = self.model.keys().cloned().collect();
        for (namespace, name) in places {
            self.check(namespace, &name);
        }
        // The sweep may rest before it visits a segment again, so the store may hold more.
        let alive = self.model.values().filter(|expected| expected.alive(self.now)).count() as u64;
        assert!(self.store.stats().entries >= alive);
    }

    /// What is left after everything was dropped: nothing, of any kind.
    fn wind_up(mut self) {
        self.check_all();
        (0..8).for_each(|key| self.check_list(key));
        self.store.drop_namespace(LISTS);
        (0..4).for_each(|namespace| self.store.drop_namespace(Namespace(namespace)));
        while self.store.next_expiry_hint() == Some(0) {
            self.store.sweep(self.now);
        }
        let stats = self.store.stats();
        assert_eq!((stats.entries, stats.live_bytes), (0, 0));
        assert!(stats.large_bytes < 64 * 1_024 && stats.list_bytes < 64 * 1_024, "{stats:?}");
    }
}

fn run(memory_bytes: u64, when_full: WhenFull, steps: &[Step]) {
    let mut pair = Pair::new(memory_bytes, when_full);
    for step in steps {
        pair.apply(step);
    }
    pair.wind_up();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_store_that_evicts_never_answers_a_wrong_value(steps in vec(steps(), 1..120)) {
        run(STORE_BYTES_MIN, WhenFull::Evict, &steps);
    }

    #[test]
    fn a_store_that_rejects_loses_nothing(steps in vec(steps(), 1..120)) {
        run(STORE_BYTES_MIN, WhenFull::Reject, &steps);
    }

    #[test]
    fn a_store_with_room_for_everything_drops_nothing(steps in vec(steps(), 1..60)) {
        run(256 << 20, WhenFull::Reject, &steps);
    }
}

/// `PROPTEST_CASES` raises it for a long run.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48)
}
