//! The ceiling of a store moves while it is in use: it shrinks in slices and loses nothing it need not.

use lucid::clock::{Now, Version};
use lucid::op::{CONTENT_TYPE_DEFAULT, Encoding, KeyHasher, Large, Namespace, Payload};
use lucid::store::{NewEntry, Store, StoreConfig, WhenFull, WriteError};

const MIB: u64 = 1 << 20;

struct Bench {
    store: Store,
    hasher: KeyHasher,
    now: Now,
    written: u64,
}

impl Bench {
    fn new(memory_bytes: u64, when_full: WhenFull) -> Bench {
        let hasher = KeyHasher::random();
        let config = StoreConfig { memory_bytes, value_bytes_max: MIB as usize, when_full };
        let store = Store::new(config, hasher.clone()).unwrap();
        let now = lucid::clock::Clock::start().now();
        Bench { store, hasher, now, written: 0 }
    }

    fn write(&mut self, value: Payload<'_>) -> Result<(), WriteError> {
        let key = format!("key {}", self.written);
        self.written += 1;
        let entry = NewEntry {
            namespace: Namespace::KV,
            key: key.as_bytes(),
            hash: self.hasher.hash(Namespace::KV, key.as_bytes()),
            version: Version(self.written),
            expires_ms: None,
            lock: None,
            content_type: CONTENT_TYPE_DEFAULT,
            encoding: Encoding::Identity,
            value,
        };
        self.store.write(&entry, self.now)
    }

    /// Small and large values, until this many bytes are written or one is refused.
    fn fill(&mut self, bytes: u64) {
        let large = Large::copy_of(&vec![7; 200_000]);
        let mut left = bytes as i64;
        while left > 0 {
            let small_bytes = 300;
            for _ in 0..500 {
                if self.write(Payload::Bytes(&vec![1; small_bytes])).is_err() {
                    return;
                }
            }
            if self.write(Payload::Large(&Large::copy_of(&large))).is_err() {
                return;
            }
            left -= 350_000;
        }
    }

    /// Calls until the ceiling is reached; the most that one call freed.
    fn settle(&mut self, ceiling: u64) -> u64 {
        let mut most = 0;
        for _ in 0..10_000 {
            let before = self.store.memory_bytes();
            let more = self.store.set_ceiling(ceiling, self.now);
            most = most.max(before.saturating_sub(self.store.memory_bytes()));
            if !more {
                return most;
            }
        }
        panic!("no end");
    }
}

#[test]
fn a_store_that_evicts_shrinks_in_slices_and_grows_again() {
    let mut bench = Bench::new(32 * MIB, WhenFull::Evict);
    bench.fill(64 * MIB);
    assert!(bench.store.memory_bytes() > 30 * MIB);
    let most = bench.settle(16 * MIB);
    assert!(bench.store.memory_bytes() <= 16 * MIB, "{:?}", bench.store.stats());
    assert!(bench.store.memory_bytes() > 14 * MIB, "{:?}", bench.store.stats());
    assert!(most <= 2 * MIB, "{most} bytes in one slice");
    bench.fill(32 * MIB);
    assert!(bench.store.memory_bytes() <= 16 * MIB);
    assert_eq!(bench.settle(100 * MIB), 0);
    bench.fill(64 * MIB);
    assert!(bench.store.memory_bytes() > 30 * MIB && bench.store.memory_bytes() <= 32 * MIB);
}

#[test]
fn a_store_that_rejects_keeps_everything_and_takes_nothing_more_until_it_may() {
    let mut bench = Bench::new(16 * MIB, WhenFull::Reject);
    bench.fill(12 * MIB);
    let stats = bench.store.stats();
    bench.settle(8 * MIB);
    assert_eq!(bench.store.stats().entries, stats.entries);
    assert_eq!(bench.write(Payload::Bytes(&[1; 300])), Err(WriteError::Full));
    assert_eq!(bench.store.stats().entries, stats.entries);
    bench.settle(16 * MIB);
    assert_eq!(bench.write(Payload::Bytes(&[1; 300])), Ok(()));
}
