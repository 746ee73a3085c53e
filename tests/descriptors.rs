//! A node that runs out of descriptors waits for some without spinning, and recovers.

mod common;

use common::process::processor_time;
use common::{Client, Node, kv, token};
use std::time::{Duration, Instant};

#[test]
fn a_node_out_of_descriptors_does_not_spin_and_serves_again_when_there_are_some() {
    for workers in [1, 2] {
        let node = Node::start(|setup| {
            setup.workers(workers).descriptors(64).set("http.idle_timeout", "60s");
        });
        let token = token::root();
        let mut first = node.client();
        first.put(&kv("x"), "1").expect(201);
        let others: Vec<_> = (0..120).map(|_| Client::connect(node.address()).with_token(&token)).collect();
        // Whoever is in is served all the while.
        first.get(&kv("x")).expect(200);
        let before = processor_time(node.pid());
        let began = Instant::now();
        assert!(!first.hears_within(Duration::from_millis(1_500)), "the first one was let go");
        let (used, elapsed) = (processor_time(node.pid()) - before, began.elapsed());
        assert!(used < elapsed / 5, "{workers} workers: {used:?} of processor time within {elapsed:?}");
        first.get(&kv("x")).expect(200);
        drop(others);
        for _ in 0..10 {
            node.client().get(&kv("x")).expect(200);
        }
        node.assert_well();
    }
}

#[test]
fn whoever_waits_for_a_descriptor_is_served_when_one_is_free() {
    let node = Node::start(|setup| {
        setup.descriptors(64).set("http.idle_timeout", "60s");
    });
    let mut waiting: Vec<_> = (0..80).map(|_| node.client()).collect();
    for client in &mut waiting {
        let request = client.compose("GET", "/livez", &[], b"");
        client.send(&request);
    }
    // Each one that was served makes room for one that waits; none may be forgotten. A node may turn
    // some away with 503 instead.
    for mut client in waiting {
        match client.try_response("GET") {
            Ok(answer) => assert!([200, 503].contains(&answer.status), "{answer}"),
            Err(common::Trouble::Closed(_)) => {}
            Err(trouble) => panic!("{trouble:?}"),
        }
    }
    node.assert_well();
}

#[test]
fn connections_beyond_the_limit_of_the_file_do_not_hurt_those_within() {
    let node = Node::start(|setup| {
        setup.set("http.max_connections", 10).set("http.idle_timeout", "60s");
    });
    let mut within: Vec<_> = (0..10).map(|_| node.client()).collect();
    for client in &mut within {
        client.get("/livez").expect(200);
    }
    let beyond: Vec<_> = (0..20).map(|_| Client::connect(node.address())).collect();
    for client in &mut within {
        client.get("/livez").expect(200);
    }
    drop(beyond);
    drop(within);
    node.assert_well();
}
