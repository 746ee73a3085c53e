//! A node that runs out of descriptors waits for some without spinning, and recovers.

mod common;

use common::process::{open_descriptors, processor_time, set_descriptor_limit};
use common::{Client, Node, Trouble, kv, token};
use std::time::{Duration, Instant};

/// Watches the node for a while, through a connection that says nothing, and says how much processor
/// time it used.
fn processor_time_while_quiet(node: &Node, quiet: &mut Client) -> Duration {
    let before = processor_time(node.pid());
    let began = Instant::now();
    assert!(!quiet.hears_within(Duration::from_millis(1_500)), "a quiet connection was let go");
    let (used, elapsed) = (processor_time(node.pid()) - before, began.elapsed());
    println!("{used:?} of processor time within {elapsed:?}");
    used
}

/// New connections are served once the node has noticed that the others are gone; until then it may turn
/// them away.
fn assert_recovers(node: &Node) {
    let began = Instant::now();
    let mut served = 0;
    while served < 10 {
        match node.client().try_response_to_get("/livez") {
            Ok(answer) if answer.status == 200 => served += 1,
            Ok(answer) if answer.status == 503 => {}
            Err(Trouble::Closed(_)) => {}
            other => panic!("{other:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(10), "the node does not recover");
    }
    node.assert_well();
}

#[test]
fn a_node_started_with_few_descriptors_serves_whom_it_can_and_does_not_spin() {
    for workers in [1, 2] {
        let node = Node::start(|setup| {
            setup.workers(workers).descriptors(128).set("http.idle_timeout", "60s");
        });
        let token = token::root();
        let mut first = node.client();
        first.put(&kv("x"), "1").expect(201);
        let others: Vec<_> = (0..200).map(|_| Client::connect(node.address()).with_token(&token)).collect();
        // Whoever is in is served all the while.
        first.get(&kv("x")).expect(200);
        let used = processor_time_while_quiet(&node, &mut first);
        assert!(used < Duration::from_millis(300), "{workers} workers: {used:?}");
        first.get(&kv("x")).expect(200);
        drop(others);
        assert_recovers(&node);
    }
}

#[test]
fn a_node_that_accept_refuses_waits_and_recovers() {
    for workers in [1, 2] {
        let node = Node::start(|setup| {
            setup.workers(workers).set("http.idle_timeout", "60s");
        });
        let mut first = node.client();
        first.put(&kv("x"), "1").expect(201);
        // Taken away while it runs, so that no bound of its own can save it from EMFILE.
        let plenty = set_descriptor_limit(node.pid(), open_descriptors(node.pid()) as u64 + 3);
        let others: Vec<_> = (0..50).map(|_| Client::connect(node.address())).collect();
        first.get(&kv("x")).expect(200);
        let used = processor_time_while_quiet(&node, &mut first);
        assert!(used < Duration::from_millis(300), "{workers} workers: {used:?}");
        first.get(&kv("x")).expect(200);
        drop(others);
        set_descriptor_limit(node.pid(), plenty);
        assert_recovers(&node);
    }
}

#[test]
fn whoever_waits_for_a_descriptor_is_served_when_one_is_free() {
    let node = Node::start(|setup| {
        setup.descriptors(128).set("http.idle_timeout", "60s");
    });
    let mut waiting: Vec<_> = (0..150).map(|_| node.client()).collect();
    for client in &mut waiting {
        let request = client.compose("GET", "/livez", &[], b"");
        client.send(&request);
    }
    // Each one that was served and has left makes room for one that waits; none may be forgotten. A node may turn
    // some away with 503 instead.
    for mut client in waiting {
        match client.try_response("GET") {
            Ok(answer) => assert!([200, 503].contains(&answer.status), "{answer}"),
            Err(Trouble::Closed(_)) => {}
            Err(trouble) => panic!("{trouble:?}"),
        }
    }
    assert_recovers(&node);
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
    assert_recovers(&node);
}
