//! What bringing a journal back costs a core: records of a 16-byte key and a 100-byte value, decoded and
//! restored into a shard, and what handing a live set over costs the one that has it.
//!
//! `cargo bench --bench restore`

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use lucid::clock::{Now, Version};
use lucid::etag::Tags;
use lucid::journal::{Put, Record};
use lucid::op::{CONTENT_TYPE_DEFAULT, Encoding, KeyHasher, Namespace, Payload};
use lucid::shard::{Shard, Walk, WalkBudget};
use lucid::store::{Store, StoreConfig, WhenFull};

const ENTRIES: u64 = 1_000_000;
const NOW: Now = Now::from_unix_ms(1_700_000_000_000);

fn shard() -> Shard {
    let config =
        StoreConfig { memory_bytes: 512 << 20, value_bytes_max: 7 << 20, when_full: WhenFull::Reject };
    Shard::new(Store::new(config, KeyHasher::random()).expect("address space"), Tags::new(1))
}

/// All records, one behind the other, each behind its length.
fn records() -> Vec<u8> {
    let mut stream = Vec::new();
    let mut record = Vec::new();
    for number in 0..ENTRIES {
        let key = format!("key:{number:012}");
        record.clear();
        Record::Put(Put {
            namespace: Namespace::KV,
            key: key.as_bytes(),
            version: Version((NOW.unix_ms << 16) + number),
            expires_ms: None,
            lock: None,
            content_type: CONTENT_TYPE_DEFAULT,
            encoding: Encoding::Identity,
            value: Payload::Bytes(&[b'v'; 100]),
        })
        .encode(&mut record);
        stream.extend_from_slice(&(record.len() as u32).to_le_bytes());
        stream.extend_from_slice(&record);
    }
    stream
}

fn restore_all(shard: &mut Shard, mut stream: &[u8]) {
    while let Some((length, rest)) = stream.split_first_chunk::<4>() {
        let (record, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        let record = Record::decode(record).expect("a record");
        shard.restore(&record, NOW).expect("room for all");
        stream = rest;
    }
}

fn restore(criterion: &mut Criterion) {
    let stream = records();
    let mut group = criterion.benchmark_group("restore");
    group.throughput(Throughput::Elements(ENTRIES)).sample_size(10);
    group.bench_function("a million entries", |b| {
        b.iter_batched_ref(shard, |shard| restore_all(shard, &stream), BatchSize::PerIteration);
    });
    group.finish();
}

fn walk(criterion: &mut Criterion) {
    let mut shard = shard();
    restore_all(&mut shard, &records());
    let mut group = criterion.benchmark_group("walk");
    group.throughput(Throughput::Elements(ENTRIES)).sample_size(10);
    group.bench_function("a million entries, 512 a slice", |b| {
        b.iter(|| {
            let (mut walk, mut bytes) = (Walk::new(), 0);
            let budget = WalkBudget { entries: 512, bytes: 64 * 1_024 };
            while !shard.walk(&mut walk, budget, NOW, |entry| bytes += entry.bytes()) {}
            assert_eq!(bytes, 116 * ENTRIES as usize);
        });
    });
    group.finish();
}

criterion_group!(benches, restore, walk);
criterion_main!(benches);
