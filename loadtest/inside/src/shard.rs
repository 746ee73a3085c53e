//! A shard as a reactor uses it: operations in batches, index and entries fetched ahead.

use lucid::clock::Now;
use lucid::etag::Tags;
use lucid::op::{Action, Condition, Encoding, Expiry, KeyHasher, Namespace, Operation, Outcome, Payload};
use lucid::shard::Shard;
use lucid::store::{Store, StoreConfig, WhenFull};
use rustix::time::{ClockId, clock_gettime};

/// What a batch asks of one key.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    Get,
    /// A value of this length, and its time-to-live in seconds.
    Put(usize, Option<u32>),
    Delete,
}

/// CPU time of the calling thread in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// About what a turn takes, by which the time that the shard is told advances.
const TURN_US: u64 = 40;

/// A shard with its hasher. It lives in a time of its own, so that equal turns do equal work.
pub struct Core {
    shard: Shard,
    hasher: KeyHasher,
    turns: u64,
    value: Vec<u8>,
    hashes: Vec<u64>,
}

impl Core {
    pub fn new(memory_bytes: u64, hasher: KeyHasher) -> Core {
        let config = StoreConfig { memory_bytes, value_bytes_max: 7_340_032, when_full: WhenFull::Evict };
        let store = Store::new(config, hasher.clone()).expect("address space for a store");
        let value = (0..65_536).map(|at| at as u8).collect();
        Core { shard: Shard::new(store, Tags::new(1)), hasher, turns: 0, value, hashes: Vec::new() }
    }

    /// Does what a turn does with its requests, and answers how many keys were found.
    pub fn turn<K: AsRef<[u8]>>(&mut self, batch: &[(K, Ask)]) -> usize {
        let now = Now::from_unix_ms(1_700_000_000_000 + self.turns * TURN_US / 1_000);
        self.turns += 1;
        self.hashes.clear();
        for (key, _) in batch {
            let hash = self.hasher.hash(Namespace::KV, key.as_ref());
            self.shard.prefetch_index(hash);
            self.hashes.push(hash);
        }
        for hash in &self.hashes {
            self.shard.prefetch_entry(*hash);
        }
        let mut found = 0;
        for ((key, ask), hash) in batch.iter().zip(&self.hashes) {
            let action = match *ask {
                Ask::Get => Action::Get,
                Ask::Delete => Action::Delete { answer_value: false },
                Ask::Put(len, ttl) => Action::Put {
                    value: Payload::Bytes(&self.value[..len]),
                    content_type: None,
                    encoding: Encoding::Identity,
                    expiry: ttl.map_or(Expiry::Never, Expiry::Seconds),
                },
            };
            let operation = Operation {
                namespace: Namespace::KV,
                key: key.as_ref(),
                hash: *hash,
                action,
                condition: Condition::default(),
                fencing_token: None,
                admin: false,
            };
            match self.shard.apply(&operation, now) {
                Outcome::Found(entry) => found += usize::from(!entry.value.bytes().is_empty()),
                Outcome::StoreFull | Outcome::TooLarge => panic!("a write was refused"),
                _ => {}
            }
        }
        self.sweep(now);
        found
    }

    fn sweep(&mut self, now: Now) {
        if self.shard.next_sweep_ms().is_some_and(|due_ms| due_ms <= now.unix_ms) {
            self.shard.sweep(now);
        }
    }

    pub fn stats(&self) -> lucid::store::Stats {
        self.shard.stats()
    }
}

/// splitmix64.
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
