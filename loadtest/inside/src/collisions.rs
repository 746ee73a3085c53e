//! What keys that collide under common unkeyed hashes cost, against random keys of the same length.
//!
//! The shard hashes with random keys of its own, so that nobody can know what collides. The last
//! column shows that the families are what they claim: the same keys in a table that uses the unkeyed
//! hash itself.

mod families;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use families::{Family, KEYS};
use inside::{Ask, Core, mix, thread_cpu_ns};
use lucid::op::KeyHasher;

const ROUNDS: usize = 5;
const BATCH: usize = 64;
const RATIO_MAX: f64 = 2.0;
/// Keys in the table with the unkeyed hash, whose cost grows with their square.
const UNKEYED_KEYS: usize = 4_096;

fn main() {
    println!(
        "{:24} {:>5} {:>8} {:>8} {:>6} {:>8} {:>8} {:>6} {:>14}",
        "family", "bytes", "put ns", "random", "ratio", "get ns", "random", "ratio", "unkeyed table"
    );
    let mut missed = Vec::new();
    for family in families::all() {
        check(&family);
        let random = random_keys(family.keys[0].len());
        // Alternating rounds, so that both see the same machine.
        let (mut put, mut get, mut put_random, mut get_random) = (f64::MAX, f64::MAX, f64::MAX, f64::MAX);
        for _ in 0..ROUNDS {
            let (one_put, one_get) = cost(&family.keys);
            (put, get) = (put.min(one_put), get.min(one_get));
            let (one_put, one_get) = cost(&random);
            (put_random, get_random) = (put_random.min(one_put), get_random.min(one_get));
        }
        let unkeyed = unkeyed_cost(&family.keys, &family) / unkeyed_cost(&random, &family);
        println!(
            "{:24} {:5} {put:8.1} {put_random:8.1} {:6.2} {get:8.1} {get_random:8.1} {:6.2} {unkeyed:13.0}x",
            family.name,
            family.keys[0].len(),
            put / put_random,
            get / get_random
        );
        if (put / put_random).max(get / get_random) > RATIO_MAX {
            missed.push(family.name);
        }
    }
    if missed.is_empty() {
        println!("PASS");
    } else {
        println!("MISS: over {RATIO_MAX} times a random key: {}", missed.join(", "));
        std::process::exit(1);
    }
}

/// A family holds as many different keys as it should, all with one hash.
fn check(family: &Family) {
    let different: HashSet<_> = family.keys.iter().collect();
    assert_eq!(different.len(), KEYS, "{}: keys that are the same", family.name);
    let hash = (family.hash)(&family.keys[0]);
    assert!(family.keys.iter().all(|key| (family.hash)(key) == hash), "{}: no family", family.name);
}

fn random_keys(len: usize) -> Vec<Vec<u8>> {
    let key = |number: u64| (0..len as u64).map(|at| mix(number << 16 | at) as u8).collect();
    (0..KEYS as u64).map(key).collect()
}

/// Nanoseconds of CPU for putting a new key and for finding one.
fn cost(keys: &[Vec<u8>]) -> (f64, f64) {
    let mut core = Core::new(256 << 20, KeyHasher::random());
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_unstable_by_key(|at| mix(*at as u64));
    let put = timed(&mut core, keys, &order, Ask::Put(64, None), 0);
    order.sort_unstable_by_key(|at| mix(!*at as u64));
    let get = timed(&mut core, keys, &order, Ask::Get, keys.len());
    (put, get)
}

fn timed(core: &mut Core, keys: &[Vec<u8>], order: &[usize], ask: Ask, expected: usize) -> f64 {
    let batches: Vec<Vec<_>> =
        order.chunks(BATCH).map(|part| part.iter().map(|at| (&keys[*at], ask)).collect()).collect();
    let before = thread_cpu_ns();
    let found: usize = batches.iter().map(|batch| core.turn(batch)).sum();
    let cpu_ns = thread_cpu_ns() - before;
    assert_eq!(found, expected, "keys found");
    cpu_ns as f64 / keys.len() as f64
}

/// A hash that is already computed.
#[derive(Default)]
struct Given(u64);

impl Hasher for Given {
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

struct Unkeyed<'k>(u64, &'k [u8]);

impl std::hash::Hash for Unkeyed<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

impl PartialEq for Unkeyed<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.1 == other.1
    }
}

impl Eq for Unkeyed<'_> {}

/// Nanoseconds for adding a key to a table that uses the unkeyed hash.
fn unkeyed_cost(keys: &[Vec<u8>], family: &Family) -> f64 {
    let mut table: HashMap<_, (), BuildHasherDefault<Given>> = HashMap::default();
    let before = thread_cpu_ns();
    for key in &keys[..UNKEYED_KEYS] {
        table.insert(Unkeyed((family.hash)(key), key), ());
    }
    let cpu_ns = thread_cpu_ns() - before;
    assert_eq!(table.len(), UNKEYED_KEYS);
    cpu_ns as f64 / UNKEYED_KEYS as f64
}
