//! What the store's acts cost: lookup (one by one and batched with prefetch), insert, overwrite,
//! evict, expire. A million entries of a 16-byte key and a 64-byte value, far over the caches.
//!
//! `cargo bench --bench store`

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

use lucid::clock::{Now, Version};
use lucid::op::{CONTENT_TYPE_DEFAULT, Encoding, KeyHasher, Namespace, Payload};
use lucid::store::{NewEntry, Store, StoreConfig, WhenFull};

const ENTRIES: u64 = 1_000_000;
const BATCH: usize = 64;
const VALUE: [u8; 64] = [b'v'; 64];
const NOW: Now = Now::from_unix_ms(1_700_000_000_000);

/// A store and what is needed to talk to it.
struct Bench {
    store: Store,
    hasher: KeyHasher,
    version: u64,
    random: u64,
}

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

impl Bench {
    fn new(memory_bytes: u64) -> Bench {
        let hasher = KeyHasher::random();
        let config = StoreConfig { memory_bytes, value_bytes_max: 7 << 20, when_full: WhenFull::Evict };
        let store = Store::new(config, hasher.clone()).expect("address space");
        Bench { store, hasher, version: NOW.unix_ms << 16, random: 0x9e37_79b9 }
    }

    fn filled(memory_bytes: u64, entries: u64) -> Bench {
        let mut bench = Bench::new(memory_bytes);
        (0..entries).for_each(|number| bench.write(number, None, NOW));
        bench
    }

    fn write(&mut self, number: u64, expires_ms: Option<u64>, now: Now) {
        let key = key(number);
        self.version += 1;
        let entry = NewEntry {
            namespace: Namespace::KV,
            key: &key,
            hash: self.hasher.hash(Namespace::KV, &key),
            version: Version(self.version),
            expires_ms,
            lock: None,
            content_type: CONTENT_TYPE_DEFAULT,
            encoding: Encoding::Identity,
            value: Payload::Bytes(&VALUE),
        };
        self.store.write(&entry, now).expect("a store that evicts takes every small value");
    }

    fn find(&self, number: u64) -> bool {
        let key = key(number);
        let hash = self.hasher.hash(Namespace::KV, &key);
        self.store.find(Namespace::KV, &key, hash, NOW).is_some()
    }

    /// xorshift64: the bench must not measure its random numbers.
    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }
}

fn lookup(criterion: &mut Criterion) {
    let mut bench = Bench::filled(512 << 20, ENTRIES);
    let mut group = criterion.benchmark_group("lookup");
    group.throughput(Throughput::Elements(1));
    group.bench_function("hit", |b| {
        b.iter(|| {
            let number = bench.random(ENTRIES);
            assert!(bench.find(number));
        });
    });
    group.bench_function("miss", |b| {
        b.iter(|| {
            let number = ENTRIES + bench.random(ENTRIES);
            assert!(!bench.find(number));
        });
    });
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("hit, batch of 64 with prefetch", |b| {
        b.iter(|| {
            let mut batch = [([0; 16], 0); BATCH];
            for (name, hash) in &mut batch {
                *name = key(bench.random(ENTRIES));
                *hash = bench.hasher.hash(Namespace::KV, name);
                bench.store.prefetch_index(*hash);
            }
            for (_, hash) in &batch {
                bench.store.prefetch_entry(*hash);
            }
            for (name, hash) in &batch {
                black_box(bench.store.find(Namespace::KV, name, *hash, NOW));
            }
        });
    });
    group.finish();
}

fn write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write");
    group.throughput(Throughput::Elements(1));
    let mut bench = Bench::filled(512 << 20, ENTRIES);
    group.bench_function("overwrite", |b| {
        b.iter(|| {
            let number = bench.random(ENTRIES);
            bench.write(number, None, NOW);
        });
    });
    drop(bench);
    group.bench_function("insert and remove", |b| {
        let mut bench = Bench::filled(512 << 20, ENTRIES);
        let mut number = ENTRIES;
        b.iter(|| {
            bench.write(number, None, NOW);
            let oldest = key(number - ENTRIES);
            let hash = bench.hasher.hash(Namespace::KV, &oldest);
            bench.store.remove(Namespace::KV, &oldest, hash, NOW);
            number += 1;
        });
    });
    group.bench_function("insert and evict", |b| {
        let mut bench = Bench::filled(64 << 20, ENTRIES);
        let mut number = ENTRIES;
        b.iter(|| {
            bench.write(number, None, NOW);
            number += 1;
        });
        assert!(bench.store.stats().evictions > 0);
    });
    group.finish();
}

fn expire(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("expire");
    const EXPIRING: u64 = 100_000;
    group.sample_size(20);
    group.throughput(Throughput::Elements(EXPIRING));
    group.bench_function("sweep of 100,000 expired entries", |b| {
        b.iter_batched_ref(
            || {
                let mut bench = Bench::new(64 << 20);
                (0..EXPIRING).for_each(|number| bench.write(number, Some(NOW.unix_ms + 1_000), NOW));
                bench
            },
            |bench| {
                let later = Now::from_unix_ms(NOW.unix_ms + 2_000);
                while bench.store.next_expiry_hint().is_some() {
                    bench.store.sweep(later);
                }
                assert_eq!(bench.store.stats().entries, 0);
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, lookup, write, expire);
criterion_main!(benches);
