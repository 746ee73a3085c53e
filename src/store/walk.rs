//! Walks along everything there is, a slice at a time: for a live set, a dump, a snapshot.
//!
//! The walk goes from table to table of the index. Of each it first takes down the hashes, in one go and
//! in their order, then looks up one after the other. A key never changes its table, and what has a hash
//! is found by it wherever the entry lies by then. So an entry that is there from beginning to end is met
//! exactly once, whatever is written, moved, deleted or rebuilt between slices; one that comes or goes
//! meanwhile is met at most once.
//!
//! A walk counts as no use of what it meets.

use super::entry::Header;
use super::index::Entries;
use super::lists::{Kept, ListKey, ListView};
use super::log::Position;
use super::{Keys, Store, View};
use crate::clock::Now;
use crate::op::Namespace;

/// Entries read ahead.
const AHEAD: usize = 16;

/// So many hashes taken down cost as much as one entry met.
const HASHES_PER_ENTRY: usize = 4;

/// How far a walk has come.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    next_table: usize,
    /// Of the table before that one: hashes of entries that are still to be met, the last one next.
    hashes: Vec<u64>,
}

/// What a slice of a walk may take. It ends with the entry that uses either up.
#[derive(Clone, Copy, Debug)]
pub struct WalkBudget {
    /// Entries met. Looking into tables counts too.
    pub entries: usize,
    /// Bytes of their keys and values.
    pub bytes: usize,
}

/// An entry that a walk meets.
#[derive(Clone, Copy, Debug)]
pub struct WalkEntry<'a> {
    /// The space of the key.
    pub namespace: Namespace,
    /// The key.
    pub key: &'a [u8],
    /// [`crate::op::KeyHasher::hash`] of namespace and key.
    pub hash: u64,
    /// What it holds.
    pub kept: Walked<'a>,
}

/// What an entry holds.
#[derive(Clone, Copy, Debug)]
pub enum Walked<'a> {
    /// A value. Its lock is shown as long as its lease runs.
    Value(View<'a>),
    /// A list.
    List(ListView<'a>),
}

impl<'a> WalkEntry<'a> {
    /// Bytes of key and value.
    pub fn bytes(&self) -> usize {
        self.key.len()
            + match &self.kept {
                Walked::Value(view) => view.value.bytes().len(),
                Walked::List(ListView { kept: Kept::Short(records), .. }) => records.len(),
                Walked::List(ListView { kept: Kept::Long(list), .. }) => list.text_bytes() as usize,
            }
    }

    /// Where the list is, for what is asked of one.
    pub fn at(&self) -> ListKey<'a> {
        ListKey { namespace: self.namespace, key: self.key, hash: self.hash }
    }
}

impl Walk {
    /// Before the first entry.
    pub fn new() -> Walk {
        Walk::default()
    }
}

impl Store {
    /// Goes on with a walk: calls `visit` with each entry that it meets, until the budget is used up. True
    /// when everything was met.
    pub fn walk(
        &self,
        walk: &mut Walk,
        mut budget: WalkBudget,
        now: Now,
        mut visit: impl FnMut(WalkEntry<'_>),
    ) -> bool {
        loop {
            while let Some(hash) = walk.hashes.pop() {
                if let Some(ahead) = walk.hashes.len().checked_sub(AHEAD) {
                    self.prefetch_entry(walk.hashes[ahead]);
                }
                budget.spend(1, 0);
                self.index.for_each_candidate(hash, |position| {
                    if let Some(entry) = self.met(position, now)
                        && entry.hash == hash
                    {
                        budget.spend(0, entry.bytes());
                        visit(entry);
                    }
                });
                if budget.is_spent() {
                    return walk.hashes.is_empty() && walk.next_table == self.index.tables();
                }
            }
            if walk.next_table == self.index.tables() {
                return true;
            }
            if budget.is_spent() {
                return false;
            }
            self.take_down(walk);
            budget.spend(1 + walk.hashes.len() / HASHES_PER_ENTRY, 0);
        }
    }

    /// An entry, unless it is absent or past its time. Counts as no use of it.
    pub fn peek(&self, at: &ListKey<'_>, now: Now) -> Option<WalkEntry<'_>> {
        let (slot, ..) = self.look_up(self.spaces.of(at.namespace)?, at.key, at.hash)?;
        self.met(slot.position(), now)
    }

    /// Takes the hashes of the next table down.
    fn take_down(&self, walk: &mut Walk) {
        let keys = Keys { log: &self.log, spaces: &self.spaces, hasher: &self.hasher };
        let mut ahead = self.index.slots_of(walk.next_table);
        ahead.by_ref().take(AHEAD).for_each(|slot| keys.prefetch_at(slot.position()));
        for slot in self.index.slots_of(walk.next_table) {
            if let Some(slot) = ahead.next() {
                keys.prefetch_at(slot.position());
            }
            walk.hashes.push(keys.hash_at(slot.position()));
        }
        // Two keys of one hash are met together.
        walk.hashes.sort_unstable_by(|one, other| other.cmp(one));
        walk.hashes.dedup();
        walk.next_table += 1;
    }

    fn met(&self, position: Position, now: Now) -> Option<WalkEntry<'_>> {
        let (header, bytes) = self.log.entry(position);
        if header.expired(now) || self.spaces.is_retired(header.space) {
            return None;
        }
        let namespace = self.spaces.namespace(header.space);
        let key = header.key(bytes);
        let kept = match namespace.holds_lists() {
            false => Walked::Value(self.view(&header, bytes, now)),
            true => Walked::List(self.list_view(&header, bytes)),
        };
        Some(WalkEntry { namespace, key, hash: self.hasher.hash(namespace, key), kept })
    }

    pub(super) fn list_view<'a>(&'a self, header: &Header, bytes: &'a [u8]) -> ListView<'a> {
        let (version, kept) = match header.large_number(bytes) {
            None => (header.version, Kept::Short(header.value(bytes))),
            Some(number) => {
                let list = self.lists.get(number);
                (list.version, Kept::Long(list))
            }
        };
        ListView { version, expires_ms: header.expires_ms, kept }
    }
}

impl WalkBudget {
    fn is_spent(&self) -> bool {
        self.entries == 0 || self.bytes == 0
    }

    fn spend(&mut self, entries: usize, bytes: usize) {
        self.entries = self.entries.saturating_sub(entries);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::{Just, ProptestConfig, Strategy, prop, prop_oneof, proptest};

    use super::{Walk, WalkBudget, Walked};
    use crate::clock::{Now, Version};
    use crate::op::{CONTENT_TYPE_DEFAULT, Encoding, KeyHasher, Namespace, Payload};
    use crate::store::{ListKey, NewEntry, NewMeta, ShortList, Store, StoreConfig, Value, WhenFull};

    const NOW: Now = Now::from_unix_ms(1_700_000_000_000);
    const LISTS: Namespace = Namespace::lists(1);
    const ITEMS: Namespace = Namespace::items(1);

    struct Bench {
        store: Store,
        hasher: KeyHasher,
        version: u64,
    }

    impl Bench {
        fn new(memory_bytes: u64) -> Bench {
            let hasher = KeyHasher::random();
            let when_full = WhenFull::Reject;
            let config = StoreConfig { memory_bytes, value_bytes_max: 1 << 20, when_full };
            Bench { store: Store::new(config, hasher.clone()).unwrap(), hasher, version: 0 }
        }

        fn put(&mut self, namespace: Namespace, key: &str, length: usize, expires_ms: Option<u64>) {
            self.version += 1;
            let value = vec![b'v'; length];
            let entry = NewEntry {
                namespace,
                key: key.as_bytes(),
                hash: self.hasher.hash(namespace, key.as_bytes()),
                version: Version(self.version),
                expires_ms,
                lock: None,
                content_type: CONTENT_TYPE_DEFAULT,
                encoding: Encoding::Identity,
                value: Payload::Bytes(&value),
            };
            self.store.write(&entry, NOW).unwrap();
        }

        fn put_list(&mut self, key: &str, count: usize) {
            self.version += 1;
            let version = Version(self.version);
            let hash = self.hasher.hash(LISTS, key.as_bytes());
            let at = ListKey { namespace: LISTS, key: key.as_bytes(), hash };
            let texts: Vec<String> = (0..count).map(|number| number.to_string()).collect();
            let mut short = ShortList::default();
            if texts.iter().all(|text| short.push(&Value::of(text.as_bytes()).unwrap())) {
                return self.store.write_short(&at, &short, version, None, NOW).unwrap();
            }
            let number = self.store.begin_list(NOW).unwrap();
            for text in &texts {
                let value = Value::of(text.as_bytes()).unwrap();
                let hash = self.store.hash_value(value.canonical());
                assert!(self.store.push_aside(number, &value, hash, NOW).unwrap());
            }
            self.store.attach(&at, number, version, None, NOW).unwrap();
        }

        fn remove(&mut self, namespace: Namespace, key: &str) {
            let hash = self.hasher.hash(namespace, key.as_bytes());
            self.store.remove(namespace, key.as_bytes(), hash, NOW);
        }

        /// Walks on for a slice, and counts what it meets.
        fn walk(&self, walk: &mut Walk, budget: WalkBudget, met: &mut HashMap<String, usize>) -> bool {
            self.store.walk(walk, budget, NOW, |entry| {
                let name = String::from_utf8(entry.key.to_vec()).unwrap();
                assert_eq!(entry.hash, self.hasher.hash(entry.namespace, entry.key));
                match entry.kept {
                    Walked::Value(view) => {
                        assert!(view.value.bytes().iter().all(|byte| *byte == b'v'));
                        assert_eq!(entry.bytes(), entry.key.len() + view.value.bytes().len());
                    }
                    Walked::List(view) => {
                        let texts = view.kept.texts().enumerate();
                        assert!(texts.into_iter().all(|(at, text)| text == at.to_string().as_bytes()));
                    }
                }
                *met.entry(format!("{:?} {name}", entry.namespace)).or_default() += 1;
            })
        }
    }

    #[derive(Clone, Debug)]
    enum Between {
        /// Keys that were not there, so many of them.
        Insert(usize, usize),
        /// Keys of those.
        Delete(usize),
        /// What is there throughout, with another value, or moved.
        Overwrite(usize, usize),
        Rewrite(usize),
        List(usize),
        Empty,
        Sweep,
        Slice(usize, usize),
    }

    fn between() -> impl Strategy<Value = Between> {
        prop_oneof![
            3 => (1..600_usize, 0..50_usize).prop_map(|(count, length)| Between::Insert(count, length)),
            2 => (1..600_usize).prop_map(Between::Delete),
            3 => (0..1_000_usize, prop_oneof![0..300_usize, 66_000..90_000_usize])
                .prop_map(|(key, length)| Between::Overwrite(key, length)),
            2 => (0..1_000_usize).prop_map(Between::Rewrite),
            2 => (0..1_000_usize).prop_map(Between::List),
            1 => Just(Between::Empty),
            1 => Just(Between::Sweep),
            8 => (1..400_usize, prop_oneof![1..100_usize, 1_000..100_000_usize])
                .prop_map(|(entries, bytes)| Between::Slice(entries, bytes)),
        ]
    }

    const STABLE: usize = 1_000;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_there_throughout_is_met_exactly_once_and_what_is_not_at_most_once(
            steps in prop::collection::vec(between(), 1..60),
        ) {
            let mut bench = Bench::new(24 << 20);
            for key in 0..STABLE {
                let length = if key % 100 == 0 { 70_000 } else { key % 200 };
                bench.put(Namespace::KV, &format!("stable {key}"), length, None);
                if key % 20 == 0 {
                    bench.put_list(&format!("stable {key}"), key);
                }
            }
            bench.put(Namespace::KV, "over", 1, Some(NOW.unix_ms));
            let (mut walk, mut met, mut done) = (Walk::new(), HashMap::new(), false);
            let (mut inserted, mut deleted) = (0, 0);
            for step in &steps {
                match *step {
                    Between::Insert(count, length) => {
                        for _ in 0..count.min(6_000 - inserted) {
                            bench.put(Namespace::KV, &format!("passing {inserted}"), length, None);
                            bench.put(ITEMS, &format!("passing {inserted}"), length, None);
                            inserted += 1;
                        }
                    }
                    Between::Delete(count) => {
                        for _ in 0..count.min(inserted - deleted) {
                            bench.remove(Namespace::KV, &format!("passing {deleted}"));
                            deleted += 1;
                        }
                    }
                    Between::Overwrite(key, length) => {
                        bench.put(Namespace::KV, &format!("stable {key}"), length, None);
                    }
                    Between::Rewrite(key) => {
                        let key = format!("stable {key}");
                        let hash = bench.hasher.hash(Namespace::KV, key.as_bytes());
                        let meta = NewMeta { expires_ms: Some(NOW.unix_ms + 1), lock: None };
                        assert!(bench.store.rewrite(Namespace::KV, key.as_bytes(), hash, meta, NOW).unwrap());
                    }
                    Between::List(count) => bench.put_list(&format!("stable {}", count / 20 * 20), count),
                    Between::Empty => bench.store.drop_namespace(ITEMS),
                    Between::Sweep => bench.store.sweep(NOW),
                    Between::Slice(entries, bytes) if !done => {
                        done = bench.walk(&mut walk, WalkBudget { entries, bytes }, &mut met);
                    }
                    Between::Slice(..) => {}
                }
            }
            while !done {
                done = bench.walk(&mut walk, WalkBudget { entries: 1_000, bytes: 1 << 20 }, &mut met);
            }
            assert!(met.values().all(|times| *times == 1), "met twice");
            for key in 0..STABLE {
                assert!(met.contains_key(&format!("{:?} stable {key}", Namespace::KV)), "value {key}");
                assert!(key % 20 != 0 || met.contains_key(&format!("{LISTS:?} stable {key}")), "list {key}");
            }
            assert!(!met.contains_key(&format!("{:?} over", Namespace::KV)));
        }
    }

    #[test]
    fn a_slice_ends_with_the_entry_that_uses_its_budget_up() {
        let mut bench = Bench::new(16 << 20);
        (0..5_000).for_each(|key| bench.put(Namespace::KV, &format!("key {key}"), 1_000, None));
        for (entries, bytes, most) in [(100, usize::MAX, 100), (usize::MAX, 50_000, 51), (1, 1, 1)] {
            let (mut walk, mut all) = (Walk::new(), HashMap::new());
            let mut slices = 0;
            loop {
                let mut met = HashMap::new();
                let done = bench.walk(&mut walk, WalkBudget { entries, bytes }, &mut met);
                assert!(met.len() <= most, "{} of {entries} entries and {bytes} bytes", met.len());
                all.extend(met);
                slices += 1;
                if done {
                    break;
                }
            }
            assert_eq!(all.len(), 5_000);
            assert!(slices >= 5_000 / most);
        }
        let empty = Bench::new(16 << 20);
        let budget = WalkBudget { entries: 1_000, bytes: 1 };
        assert!(empty.walk(&mut Walk::new(), budget, &mut HashMap::new()));
    }

    #[test]
    fn a_walk_is_no_use_of_what_it_meets() {
        let mut bench = Bench::new(16 << 20);
        bench.put(Namespace::KV, "key", 10, None);
        let hash = bench.hasher.hash(Namespace::KV, b"key");
        let uses = |bench: &Bench| bench.store.index.find(hash, |_| true).map(|slot| slot.uses());
        let budget = WalkBudget { entries: 1_000, bytes: 1_000 };
        bench.walk(&mut Walk::new(), budget, &mut HashMap::new());
        bench.store.peek(&ListKey { namespace: Namespace::KV, key: b"key", hash }, NOW).unwrap();
        assert_eq!(uses(&bench), Some(0));
        bench.store.find(Namespace::KV, b"key", hash, NOW).unwrap();
        assert_eq!(uses(&bench), Some(1));
    }
}
