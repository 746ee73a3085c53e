//! A full store: makes room or refuses, as the file says, and stays within its memory.

mod common;

use common::process::resident_bytes;
use common::{Node, Random, kv};

const MIB: u64 = 1024 * 1024;
/// What the process may take beyond its memory limit.
const BESIDE: u64 = 48 * MIB;

#[test]
fn a_node_that_evicts_takes_every_write_and_stays_within_its_memory() {
    const LIMIT: u64 = 16 * MIB;
    let mut random = Random::seeded(91);
    for size in [200, 4_000, 100_000, 1_000_000] {
        let node = Node::start(|setup| {
            setup.workers(2).set("store.memory_limit", "16MiB").set("store.when_full", "evict");
            setup.set("store.max_limit", 1_000_000);
        });
        let mut client = node.client();
        let mut most = 0;
        let value = |at: usize| {
            let mut value = format!("{at}.").into_bytes();
            value.resize(size, b'v');
            value
        };
        let path = |at: usize| kv(format!("key-{at}"));
        let mut count = 0;
        // In pipelines, but short enough ones that nothing has to be read before all is sent.
        let batch = (30_000 / size).clamp(1, 40);
        while count * size < 3 * LIMIT as usize {
            let mut bytes = Vec::new();
            let pairs: Vec<_> = (count..count + batch).map(|at| (at, random.below(at + 1))).collect();
            for &(at, old) in &pairs {
                bytes.extend(client.compose("PUT", &path(at), &[], &value(at)));
                bytes.extend(client.compose("GET", &path(at), &[], b""));
                bytes.extend(client.compose("GET", &path(old), &[], b""));
            }
            client.send(&bytes);
            for &(at, old) in &pairs {
                client.response().expect(201);
                assert!(client.response().expect(200).body == value(at), "what was just written is there");
                let got = client.response();
                match got.status {
                    200 => assert!(got.body == value(old), "another's value"),
                    404 => {}
                    _ => panic!("{got}"),
                }
            }
            count += batch;
            most = most.max(resident_bytes(node.pid()));
        }
        println!("{count} values of {size} bytes: {} MiB at most", most / MIB);
        assert!(most <= LIMIT + BESIDE, "{size}: {} MiB", most / MIB);
        // It did have to drop some, and did not drop all.
        let listed = client.get("/api/kv?limit=1000").expect(200).json();
        assert!(!listed["keys"].as_array().unwrap().is_empty());
    }
}

#[test]
fn a_node_that_rejects_says_507_and_keeps_what_it_has() {
    let node = Node::start(|setup| {
        setup.workers(2).set("store.memory_limit", "64MiB").set("store.when_full", "reject");
    });
    let mut client = node.client();
    let value = vec![b'r'; 100_000];
    let mut kept = 0;
    loop {
        let put = client.put(&kv(format!("key-{kept}")), &value);
        match put.status {
            201 => kept += 1,
            507 => break assert!(!put.message().is_empty(), "{put}"),
            _ => panic!("{put}"),
        }
        assert!(kept < 700, "more is kept than there is room for");
    }
    assert!(kept > 200, "only {kept} values of 100,000 bytes in 64 MiB");
    for at in 0..kept {
        assert!(client.get(&kv(format!("key-{at}"))).expect(200).body == value);
    }
    // Room that was given back is room again.
    for at in 0..kept / 2 {
        client.delete(&kv(format!("key-{at}"))).expect(200);
    }
    for at in 0..kept / 4 {
        client.put(&kv(format!("again-{at}")), &value).expect(201);
    }
    assert!(client.get(&kv(format!("key-{}", kept - 1))).expect(200).body == value);
}

#[test]
fn overwriting_and_expiring_for_long_needs_no_more_room() {
    let node = Node::start(|setup| {
        setup.set("store.memory_limit", "64MiB").set("store.when_full", "reject");
    });
    let mut client = node.client();
    for round in 0..3_000 {
        let value = vec![b'a' + (round % 26) as u8; 90_000];
        let path = format!("{}?ttl=1000", kv(format!("same-{}", round % 100)));
        let put = client.put(&path, &value);
        assert!([200, 201].contains(&put.status), "round {round}: {put}");
    }
    assert!(resident_bytes(node.pid()) <= 64 * MIB + BESIDE);
}
