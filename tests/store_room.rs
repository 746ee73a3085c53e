//! Room: what a store may hold, what it gives up first, and that everything comes back.

use lucid::clock::{Now, Version};
use lucid::limits::{CONTENT_TYPE_BYTES_MAX, KEY_BYTES_MAX, VALUE_COPY_BYTES_MAX};
use lucid::op::{CONTENT_TYPE_DEFAULT, Encoding, KeyHasher, Large, Namespace, Payload};
use lucid::store::{NewEntry, NewMeta, STORE_BYTES_MIN, Store, StoreConfig, WhenFull, WriteError};

const VALUE_BYTES_MAX: usize = 2 << 20;
const START: Now = Now::from_unix_ms(1_700_000_000_000);

/// A store with a hasher and a clock of its own.
struct Node {
    store: Store,
    hasher: KeyHasher,
    version: u64,
    now: Now,
    memory_bytes: u64,
}

impl Node {
    fn new(memory_bytes: u64, when_full: WhenFull) -> Node {
        Node::with_hasher(memory_bytes, when_full, KeyHasher::random())
    }

    fn with_hasher(memory_bytes: u64, when_full: WhenFull, hasher: KeyHasher) -> Node {
        let config = StoreConfig { memory_bytes, value_bytes_max: VALUE_BYTES_MAX, when_full };
        let store = Store::new(config, hasher.clone()).unwrap();
        Node { store, hasher, version: START.unix_ms << 16, now: START, memory_bytes }
    }

    fn write(
        &mut self,
        namespace: u32,
        key: &[u8],
        value: Payload<'_>,
        ttl_ms: Option<u64>,
    ) -> Result<(), WriteError> {
        self.write_typed(namespace, key, value, ttl_ms, CONTENT_TYPE_DEFAULT)
    }

    fn write_typed(
        &mut self,
        namespace: u32,
        key: &[u8],
        value: Payload<'_>,
        ttl_ms: Option<u64>,
        content_type: &[u8],
    ) -> Result<(), WriteError> {
        self.version += 1;
        let namespace = Namespace(namespace);
        let entry = NewEntry {
            namespace,
            key,
            hash: self.hasher.hash(namespace, key),
            version: Version(self.version),
            expires_ms: ttl_ms.map(|ttl_ms| self.now.unix_ms + ttl_ms),
            lock: None,
            content_type,
            encoding: Encoding::Identity,
            value,
        };
        let written = self.store.write(&entry, self.now);
        assert!(self.store.memory_bytes() <= self.memory_bytes, "{:?}", self.store.stats());
        written
    }

    fn put(&mut self, number: u64, value: &[u8]) -> Result<(), WriteError> {
        self.write(0, &name(number), Payload::Bytes(value), None)
    }

    fn length(&self, namespace: u32, key: &[u8]) -> Option<usize> {
        let hash = self.hasher.hash(Namespace(namespace), key);
        self.store.find(Namespace(namespace), key, hash, self.now).map(|view| view.value.bytes().len())
    }

    fn has(&self, number: u64) -> bool {
        self.length(0, &name(number)).is_some()
    }

    /// Asks for a key as those do who write what they miss.
    fn ask(&mut self, number: u64) {
        if !self.has(number) {
            self.put(number, &[1; 100]).unwrap();
        }
    }

    fn remove(&mut self, number: u64) -> bool {
        let key = name(number);
        self.store.remove(Namespace::KV, &key, self.hasher.hash(Namespace::KV, &key), self.now)
    }

    fn pass_ms(&mut self, ms: u64) {
        self.now = Now::from_unix_ms(self.now.unix_ms + ms);
    }

    /// Sweeps until nothing is due.
    fn sweep_all(&mut self) {
        while self.store.next_expiry_hint().is_some_and(|due_ms| due_ms <= self.now.unix_ms) {
            self.store.sweep(self.now);
        }
    }
}

fn name(number: u64) -> Vec<u8> {
    format!("key:{number:012}").into_bytes()
}

#[test]
fn a_store_smaller_than_the_least_is_refused() {
    let config = |memory_bytes| StoreConfig { memory_bytes, value_bytes_max: 1, when_full: WhenFull::Evict };
    assert!(Store::new(config(STORE_BYTES_MIN - 1), KeyHasher::random()).is_err());
    assert!(Store::new(config(STORE_BYTES_MIN), KeyHasher::random()).is_ok());
}

#[test]
fn keys_types_and_values_are_taken_up_to_their_limit() {
    let mut node = Node::new(16 << 20, WhenFull::Evict);
    let big = vec![b'x'; VALUE_BYTES_MAX + 1];
    for (key_len, taken) in [(0, false), (1, true), (KEY_BYTES_MAX, true), (KEY_BYTES_MAX + 1, false)] {
        let written = node.write(0, &big[..key_len], Payload::Bytes(b"v"), None);
        assert_eq!(written, if taken { Ok(()) } else { Err(WriteError::TooLarge) }, "{key_len}");
    }
    for (type_len, taken) in [(0, true), (CONTENT_TYPE_BYTES_MAX, true), (CONTENT_TYPE_BYTES_MAX + 1, false)]
    {
        let written = node.write_typed(0, b"typed", Payload::Bytes(b"v"), None, &big[..type_len]);
        assert_eq!(written.is_ok(), taken, "{type_len}");
    }
    for inline_max in [64 * 1_024, VALUE_COPY_BYTES_MAX] {
        for len in [0, 1, 255, 256, inline_max - 1, inline_max, inline_max + 1, VALUE_BYTES_MAX] {
            node.write(0, &big[..KEY_BYTES_MAX], Payload::Bytes(&big[..len]), None).unwrap();
            assert_eq!(node.length(0, &big[..KEY_BYTES_MAX]), Some(len));
        }
    }
    assert_eq!(node.put(1, &big), Err(WriteError::TooLarge));
}

#[test]
fn a_scan_of_new_keys_leaves_what_is_read_alone() {
    let mut node = Node::new(8 << 20, WhenFull::Evict);
    let hot = 0..5_000;
    for number in hot.clone() {
        node.put(number, &[1; 100]).unwrap();
    }
    for round in 1..20 {
        assert!(hot.clone().filter(|number| node.has(*number)).count() > 4_900, "{round}");
        for number in 0..20_000 {
            node.put(round * 1_000_000 + number, &[2; 100]).unwrap();
        }
    }
    assert!(node.store.stats().evictions > 100_000);
}

#[test]
fn a_key_that_is_written_again_after_its_eviction_stays_longer() {
    let mut node = Node::new(8 << 20, WhenFull::Evict);
    // Half of what fits: each round writes them, then drives them out by as many others.
    let again = 0..15_000;
    let mut fresh = 1_000_000;
    for _ in 0..3 {
        for number in again.clone() {
            if !node.has(number) {
                node.put(number, &[1; 100]).unwrap();
            }
        }
        for _ in 0..60_000 {
            node.put(fresh, &[2; 100]).unwrap();
            fresh += 1;
        }
    }
    let kept = again.filter(|number| node.has(*number)).count();
    assert!(kept > 12_000, "{kept}");
}

/// How many of the newest keys a full store still has when nobody has asked for any of them.
fn newest_kept(mut node: Node) -> u64 {
    const FIRST: u64 = 1 << 32;
    let count = node.store.stats().entries;
    for number in FIRST..FIRST + count {
        node.put(number, &[3; 100]).unwrap();
    }
    (FIRST..FIRST + count).rev().take_while(|number| node.has(*number)).count() as u64
}

#[test]
fn what_is_new_stays_longer_where_the_working_set_moves_than_where_it_stays() {
    let full = || {
        let mut node = Node::new(4 << 20, WhenFull::Evict);
        (0..60_000).for_each(|number| node.put(number, &[1; 100]).unwrap());
        assert!(node.store.stats().evictions > 0);
        let entries = node.store.stats().entries;
        (node, entries)
    };
    // Every key is asked for once more when as many others came as fill a third of the store.
    let (mut moves, entries) = full();
    for number in 0..4 * entries {
        moves.ask(1_000_000 + number);
        moves.ask(1_000_000 + number.saturating_sub(entries / 3));
    }
    // The same keys over and over, nearly all that fit, and between the rounds others that come once.
    let (mut stays, _) = full();
    for round in 1..8 {
        (0..entries / 100 * 93).for_each(|number| stays.ask(1_000_000 + number));
        (0..entries / 5).for_each(|number| stays.ask(round * 10_000_000 + number));
    }
    let (moves, stays) = (newest_kept(moves), newest_kept(stays));
    assert!(moves > entries * 3 / 10 && stays < entries / 10, "{moves} and {stays} of {entries}");
}

#[test]
fn what_is_small_outlives_what_is_large_when_nobody_reads_either_any_more() {
    let mut node = Node::new(4 << 20, WhenFull::Evict);
    for number in 0..10_000 {
        node.put(number, &[1; 2_000][..if number % 2 == 0 { 100 } else { 2_000 }]).unwrap();
        // One read is enough for the main queue, where sizes are weighed.
        assert!(node.has(number));
    }
    let kept = |kind| (0..4_000).filter(|number| number % 2 == kind && node.has(*number)).count();
    let (small, large) = (kept(0), kept(1));
    assert!(small > 500 && large < small / 4, "{small} small ones and {large} large ones");
}

/// With these hashes the index once grew after half a million writes, for a table that was rebuilt for
/// the first time.
#[test]
fn the_index_of_a_full_store_grows_only_when_entries_get_smaller() {
    let mut node = Node::with_hasher(4 << 20, WhenFull::Evict, KeyHasher::seeded(0));
    (0..150_000).for_each(|number| node.put(number, &[1; 95]).unwrap());
    let before = node.store.stats().index_bytes;
    for number in 150_000..500_000 {
        node.put(number, &[1; 100]).unwrap();
        assert!(node.store.stats().index_bytes <= before, "it grew at {number}");
    }
    (0..200_000).for_each(|number| node.put(number, &[1; 20]).unwrap());
    assert!(node.store.stats().index_bytes > before);
}

/// A table of the index that gets more than its share loses entries; the others keep theirs.
#[test]
fn the_index_of_a_full_store_does_not_grow_by_chance() {
    let mut node = Node::with_hasher(4 << 20, WhenFull::Evict, KeyHasher::seeded(0));
    // About what the last table owns: it gets a fifth of what is written.
    let is_of_last = |node: &Node, number| {
        node.hasher.hash(Namespace::KV, &name(number)) as u32 > u32::MAX - u32::MAX / 16
    };
    (0..150_000).for_each(|number| node.put(number, &[1; 95]).unwrap());
    let before = node.store.stats();
    for number in 150_000..450_000 {
        if number % 4 == 0 || is_of_last(&node, number) {
            node.put(number, &[1; 100]).unwrap();
        }
    }
    let after = node.store.stats();
    assert!(after.index_bytes <= before.index_bytes, "{before:?}, {after:?}");
    assert!(after.entries > before.entries / 4 * 3, "{before:?}, {after:?}");
}

#[test]
fn three_times_the_limit_of_any_mix_stays_under_the_ceiling_and_keeps_it_full() {
    let big = vec![3; VALUE_BYTES_MAX];
    let mixes: [&[usize]; 5] =
        [&[200], &[4_096], &[100_000], &[200, 4_096, 100_000, 1_500_000], &[0, 60_000, 70_000]];
    for lens in mixes {
        let mut node = Node::new(32 << 20, WhenFull::Evict);
        let (mut written, mut number) = (0, 0);
        while written < 3 * node.memory_bytes as usize {
            let len = lens[number as usize % lens.len()];
            node.put(number, &big[..len]).unwrap();
            assert_eq!(node.length(0, &name(number)), Some(len));
            written += len;
            number += 1;
            node.store.sweep(node.now);
        }
        let held = node.store.stats().live_bytes;
        assert!(held > node.memory_bytes / 10 * 7, "{lens:?}: {:?}", node.store.stats());
    }
}

#[test]
fn a_full_store_that_may_not_evict_takes_writes_again_after_deletes() {
    let mut node = Node::new(8 << 20, WhenFull::Reject);
    let mut count = 0;
    while node.put(count, &[1; 500]).is_ok() {
        count += 1;
    }
    assert!(node.store.stats().live_bytes > node.memory_bytes / 4 * 3, "{:?}", node.store.stats());
    let mut more = 1 << 41;
    for round in 0..8 {
        assert_eq!(node.put(1 << 40, &[1; 500]), Err(WriteError::Full));
        // One in ten goes, all over the log, and nearly as many fit again.
        let gone: Vec<u64> = (0..count).filter(|number| number % 10 == round).collect();
        assert!(gone.iter().all(|number| node.remove(*number)));
        let back = gone.iter().take_while(|number| node.put(**number, &[2; 500]).is_ok()).count();
        assert!(back > gone.len() / 10 * 8, "{round}: {back} of {}", gone.len());
        let kept = |number: &u64| number % 10 > round || gone[..back].binary_search(number).is_ok();
        assert!((0..count).filter(kept).all(|number| node.has(number)), "{round}");
        while node.put(more, &[3; 500]).is_ok() {
            more += 1;
        }
    }
    assert_eq!(node.store.stats().evictions, 0);
}

#[test]
fn an_emptied_namespace_makes_room_for_another_that_may_not_evict() {
    let mut node = Node::new(8 << 20, WhenFull::Reject);
    let fill = |node: &mut Node, namespace: u32| {
        let mut count = 0;
        while node.write(namespace, &name(count), Payload::Bytes(&[1; 700]), None).is_ok() {
            count += 1;
        }
        count
    };
    let first = fill(&mut node, 1);
    for namespace in 2..6 {
        node.store.drop_namespace(Namespace(namespace - 1));
        assert_eq!(node.store.stats().entries, 0);
        let again = fill(&mut node, namespace);
        assert!(again > first / 10 * 9, "{again} of {first}");
    }
}

#[test]
fn short_lived_entries_come_and_go_without_evicting_anything() {
    let mut node = Node::new(8 << 20, WhenFull::Evict);
    for number in 0..5_000 {
        node.put(1_000_000_000 + number, &[7; 100]).unwrap();
    }
    let mut seed = 1u64;
    for number in 0..200_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        node.write(0, &name(number), Payload::Bytes(&[1; 100]), Some(1 + (seed >> 60))).unwrap();
        if number % 100 == 0 {
            node.pass_ms(1);
            node.store.sweep(node.now);
        }
    }
    assert_eq!(node.store.stats().evictions, 0);
    node.pass_ms(200_000);
    node.sweep_all();
    assert_eq!(node.store.stats().entries, 5_000);
    assert_eq!(node.store.stats().expired, 200_000);
    assert!((0..5_000).all(|number| node.has(1_000_000_000 + number)));
}

#[test]
fn memory_goes_back_to_the_system_when_entries_are_gone() {
    let mut node = Node::new(64 << 20, WhenFull::Evict);
    (0..200_000).for_each(|number| node.put(number, &[1; 100]).unwrap());
    let full = node.store.stats();
    node.store.drop_namespace(Namespace::KV);
    node.sweep_all();
    (0..200).for_each(|_| node.store.sweep(node.now));
    let bare = node.store.stats();
    assert!(bare.log_bytes < full.log_bytes / 3, "{full:?} {bare:?}");
    assert!(bare.index_bytes < full.index_bytes / 3, "{full:?} {bare:?}");
}

#[test]
fn thousands_of_namespaces_stay_under_the_ceiling_and_can_be_emptied_one_by_one() {
    let mut node = Node::new(8 << 20, WhenFull::Evict);
    for round in 0..3 {
        for namespace in 0..20_000 {
            node.write(namespace, b"a name", Payload::Bytes(&[round; 50]), None).unwrap();
        }
        for namespace in (0..20_000).step_by(2) {
            node.store.drop_namespace(Namespace(namespace));
            assert_eq!(node.length(namespace, b"a name"), None);
        }
        assert_eq!(node.store.stats().entries, 10_000);
        assert!((1..20_000).step_by(2).all(|namespace| node.length(namespace, b"a name") == Some(50)));
    }
}

#[test]
fn a_large_value_is_dropped_when_its_entry_dies_whatever_it_dies_of() {
    let large = |node: &mut Node, number: u64, ttl_ms| -> Large {
        let value = Large::copy_of(&[9; 200_000]);
        node.write(0, &name(number), Payload::Large(&value), ttl_ms).unwrap();
        assert_eq!(value.holders(), 2);
        value
    };
    let mut node = Node::new(16 << 20, WhenFull::Evict);

    let overwritten = large(&mut node, 1, None);
    node.put(1, b"small").unwrap();
    assert_eq!(overwritten.holders(), 1, "overwritten");

    let removed = large(&mut node, 1, None);
    assert!(node.remove(1));
    assert_eq!(removed.holders(), 1, "removed");

    let rewritten = large(&mut node, 1, None);
    let hash = node.hasher.hash(Namespace::KV, &name(1));
    let meta = NewMeta { expires_ms: Some(node.now.unix_ms + 500), lock: None };
    assert_eq!(node.store.rewrite(Namespace::KV, &name(1), hash, meta, node.now), Ok(true));
    assert_eq!(rewritten.holders(), 2, "rewritten");
    assert_eq!(node.length(0, &name(1)), Some(200_000));

    let expired = large(&mut node, 2, Some(300));
    node.pass_ms(1_000);
    assert_eq!(node.length(0, &name(1)), None);
    node.sweep_all();
    assert_eq!((rewritten.holders(), expired.holders()), (1, 1), "expired");

    let dropped = large(&mut node, 3, None);
    node.store.drop_namespace(Namespace::KV);
    node.sweep_all();
    assert_eq!(dropped.holders(), 1, "dropped");

    let evicted = large(&mut node, 4, None);
    (5..500).for_each(|number| drop(large(&mut node, number, None)));
    assert_eq!(evicted.holders(), 1, "evicted");

    let last = large(&mut node, 500, None);
    drop(node);
    assert_eq!(last.holders(), 1, "dropped with the store");
}
