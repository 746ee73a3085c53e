//! What a record costs on its way through the journal, and back.
//!
//! `append` is the shard's part: encoding a PUT of 16 and 100 bytes into the ring, with a writer that takes it
//! out on the same core and counts with it. `replay` reads a folder of such records that is in the page cache.

use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lucid::clock::Version;
use lucid::doorbell::Doorbell;
use lucid::journal::{Folder, JournalConfig, Put, Record, Sync, Tap, connect};
use lucid::op::{CONTENT_TYPE_DEFAULT, Encoding, Namespace, Payload};

const RECORDS: u64 = 200_000;

fn put<'a>(key: &'a [u8], version: u64, value: &'a [u8]) -> Record<'a> {
    Record::Put(Put {
        namespace: Namespace::KV,
        key,
        version: Version(version),
        expires_ms: None,
        lock: None,
        content_type: CONTENT_TYPE_DEFAULT,
        encoding: Encoding::Identity,
        value: Payload::Bytes(value),
    })
}

fn fill(tap: &mut Tap, records: u64) {
    let value = [7; 100];
    for number in 0..records {
        let key = u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes();
        tap.append(&put(&key, number + 1, &value));
        if number % 64 == 63 {
            tap.flush();
            while tap.is_congested() {
                std::thread::yield_now();
                tap.flush();
            }
        }
    }
    tap.flush();
    while tap.kept() < tap.appended() {
        std::thread::yield_now();
    }
}

fn append(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let opened = Folder::open(folder.path(), &JournalConfig::new(Sync::Never)).expect("a new folder");
    let (mut tap, source) = connect(opened.bell());
    let journal = opened.start(vec![source], [Doorbell::new(Box::new(|| {}))].into()).expect("it starts");
    let mut group = criterion.benchmark_group("journal");
    group.throughput(Throughput::Elements(RECORDS)).sample_size(10);
    // No live set is asked of a folder that says it is all alive.
    tap.report_live_bytes(1 << 40);
    group.bench_function("append", |bencher| bencher.iter(|| fill(&mut tap, RECORDS)));
    group.finish();
    journal.close().expect("it closes");
}

fn replay(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = JournalConfig { threads: 1, ..JournalConfig::new(Sync::Never) };
    let opened = Folder::open(folder.path(), &config).expect("a new folder");
    let (mut tap, source) = connect(opened.bell());
    let journal = opened.start(vec![source], [Doorbell::new(Box::new(|| {}))].into()).expect("it starts");
    tap.report_live_bytes(1 << 40);
    fill(&mut tap, RECORDS);
    journal.close().expect("it closes");
    let mut group = criterion.benchmark_group("journal");
    group.throughput(Throughput::Elements(RECORDS)).sample_size(10);
    group.bench_function("open", |bencher| {
        bencher.iter(|| Folder::open(folder.path(), &config).expect("a good folder").records());
    });
    let opened = Folder::open(folder.path(), &config).expect("a good folder");
    let seen = AtomicU64::new(0);
    group.bench_function("replay", |bencher| {
        bencher.iter(|| {
            let restore = |record: Record<'_>| {
                seen.fetch_add(record.version_max().0, Ordering::Relaxed);
            };
            opened.replay().next_slice(u64::MAX, restore).expect("checked before")
        });
    });
    group.finish();
}

criterion_group!(benches, append, replay);
criterion_main!(benches);
