//! Starting and stopping: the line a script can read, the busy port, and an orderly end.

mod common;

use common::node::{HANGING_DISK, can_trace};
use common::{Client, Node, Trouble, kv};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// A client in the middle of an upload whose first half the node has surely read.
fn uploading(node: &Node, path: &str, value: &[u8]) -> Client {
    let mut client = node.client();
    let length = value.len().to_string();
    let head = client.compose("PUT", path, &[("Content-Length", &length), ("Expect", "100-continue")], b"");
    client.send(&head);
    client.response().expect(100);
    client.send(&value[..value.len() / 2]);
    client
}

/// An idle connection that the node has surely accepted.
fn idle(node: &Node) -> Client {
    let mut client = node.client();
    client.get("/livez").expect(200);
    client
}

#[test]
fn sigterm_finishes_the_upload_under_way_and_exits_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut node = Node::start(|setup| {
            setup.workers(2);
        });
        let value = vec![b'u'; 2_000_000];
        let mut client = uploading(&node, &kv("upload"), &value);
        let mut idle = idle(&node);
        node.signal(signal);
        idle.expect_orderly_close();
        client.send(&value[value.len() / 2..]);
        let put = client.response().expect(201);
        assert!(put.closes(), "{put}");
        client.expect_orderly_close();
        let ended = node.wait(Duration::from_secs(5));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
}

#[test]
fn requests_under_way_on_many_connections_are_all_answered() {
    let mut node = Node::start(|setup| {
        setup.workers(2);
    });
    let value = vec![b'm'; 200_000];
    let mut clients: Vec<_> = (0..20).map(|at| uploading(&node, &kv(format!("many-{at}")), &value)).collect();
    node.signal(Signal::TERM);
    for client in &mut clients {
        client.send(&value[value.len() / 2..]);
    }
    for client in &mut clients {
        client.response().expect(201);
        client.expect_close();
    }
    assert_eq!(node.wait(Duration::from_secs(5)).code, Some(0));
}

#[test]
fn an_answer_under_way_is_whole_although_the_client_asks_again() {
    let mut node = Node::start(|_| {});
    let value = vec![b'w'; 7_000_000];
    let mut client = node.client();
    client.put(&kv("whole"), &value).expect(201);
    client.send(&client.compose("GET", &kv("whole"), &[], b""));
    assert!(client.hears_within(Duration::from_secs(10)));
    let mut witness = idle(&node);
    node.signal(Signal::TERM);
    witness.expect_orderly_close();
    client.send(&client.compose("GET", &kv("whole"), &[], b""));
    assert!(client.response().expect(200).body == value);
    client.expect_orderly_close();
    drop(client);
    assert_eq!(node.wait(Duration::from_secs(5)).code, Some(0));
}

#[test]
fn an_idle_node_ends_at_once() {
    let mut node = Node::start(|setup| {
        setup.workers(2);
    });
    let mut clients: Vec<_> = (0..10).map(|_| idle(&node)).collect();
    let began = Instant::now();
    node.signal(Signal::TERM);
    for client in &mut clients {
        client.expect_orderly_close();
    }
    assert_eq!(node.wait(Duration::from_secs(5)).code, Some(0));
    assert!(began.elapsed() < Duration::from_secs(3), "took {:?}", began.elapsed());
}

#[test]
fn readyz_is_503_while_the_node_drains() {
    let mut node = Node::start(|_| {});
    let value = vec![b'r'; 100_000];
    let mut upload = uploading(&node, &kv("held"), &value);
    // In the middle of a head, so that it is no idle connection.
    let mut asking = idle(&node);
    asking.send(b"GET /readyz HTTP/1.1\r\nHost: local");
    let mut witness = idle(&node);
    node.signal(Signal::TERM);
    witness.expect_orderly_close();
    asking.send(b"host\r\n\r\n");
    let ready = asking.response().expect(503);
    assert!(ready.closes(), "{ready}");
    upload.send(&value[value.len() / 2..]);
    upload.response().expect(201);
    assert_eq!(node.wait(Duration::from_secs(5)).code, Some(0));
}

#[test]
fn a_draining_node_takes_no_new_connections() {
    let mut node = Node::start(|setup| {
        setup.workers(2);
    });
    let value = vec![b'd'; 100_000];
    let mut upload = uploading(&node, &kv("held"), &value);
    let mut witness = idle(&node);
    node.signal(Signal::TERM);
    witness.expect_orderly_close();
    // Each worker closes its own listener; a connection that one of them took before it did is answered
    // and closed.
    let began = Instant::now();
    while let Ok(mut late) = Client::try_connect(node.address()) {
        let _ = late.try_send(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
        match late.try_response("GET") {
            Ok(answer) => assert!(answer.closes(), "{answer}"),
            Err(trouble) => assert!(matches!(trouble, Trouble::Closed(_)), "{trouble:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(5), "connections are still taken");
    }
    assert!(Client::try_connect(node.address()).is_err());
    upload.send(&value[value.len() / 2..]);
    upload.response().expect(201);
    assert_eq!(node.wait(Duration::from_secs(5)).code, Some(0));
}

#[test]
fn an_upload_that_never_ends_holds_the_node_no_longer_than_its_grace() {
    let mut node = Node::start(|setup| {
        setup.set("shutdown.grace", "1s");
    });
    let _client = uploading(&node, &kv("endless"), &[b'e'; 100_000]);
    let began = Instant::now();
    node.signal(Signal::TERM);
    let ended = node.wait(Duration::from_secs(8));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(began.elapsed() >= Duration::from_millis(900), "gave up after {:?}", began.elapsed());
}

#[test]
fn a_second_signal_ends_the_node_now() {
    let mut node = Node::start(|_| {});
    let _client = uploading(&node, &kv("endless"), &[b'e'; 100_000]);
    let mut witness = idle(&node);
    node.signal(Signal::TERM);
    witness.expect_orderly_close();
    let began = Instant::now();
    node.signal(Signal::TERM);
    node.wait(Duration::from_secs(8));
    assert!(began.elapsed() < Duration::from_secs(3), "took {:?}", began.elapsed());
}

#[test]
fn a_busy_port_is_a_loud_69() {
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let port = node.address().port();
    let ended = Node::start_in_vain(|setup| {
        setup.set("general.port", port).workers(2);
    });
    assert_eq!(ended.code, Some(69), "{}", ended.stderr);
    assert!(ended.stderr.contains(&port.to_string()), "which port? {}", ended.stderr);
    assert!(!ended.stdout.contains("listening on"), "{}", ended.stdout);
    node.assert_well();
}

#[test]
fn a_port_held_by_another_program_is_a_69_too() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ended = Node::start_in_vain(|setup| {
        setup.set("general.port", port);
    });
    assert_eq!(ended.code, Some(69), "{}", ended.stderr);
}

#[test]
fn port_0_takes_a_free_port_and_says_which() {
    let node = Node::start(|_| {});
    let address = node.address();
    assert!(address.ip().is_loopback() && address.port() != 0, "{address}");
    assert!(node.listening_line().contains(&format!("listening on http://{address}")));
    node.stranger().get("/livez").expect(200);
}

#[test]
fn a_node_can_take_its_port_again_right_after_its_end() {
    let mut node = Node::start(|_| {});
    let port = node.address().port();
    let mut client = idle(&node);
    node.signal(Signal::TERM);
    client.expect_orderly_close();
    assert_eq!(node.wait(Duration::from_secs(5)).code, Some(0));
    let again = Node::start(|setup| {
        setup.set("general.port", port);
    });
    assert_eq!(again.address().port(), port);
    again.assert_well();
}

#[test]
fn flags_win_over_the_file() {
    let node = Node::start(|setup| {
        setup.set("general.port", 1).flag("--port").flag("0").flag("--workers").flag("2");
    });
    assert_ne!(node.address().port(), 1);
    node.assert_well();
}

#[test]
fn the_environment_wins_over_the_file_and_loses_to_flags() {
    let node = Node::start(|setup| {
        setup.set("general.port", 1).variable("LUCID_GENERAL__PORT", "0");
    });
    assert_ne!(node.address().port(), 1);
    let node = Node::start(|setup| {
        setup.variable("LUCID_GENERAL__PORT", "1").flag("--port").flag("0");
    });
    assert_ne!(node.address().port(), 1);
}

#[test]
fn a_second_signal_ends_a_node_that_waits_for_its_disk() {
    if !can_trace() {
        return;
    }
    let mut node = Node::start(|setup| {
        setup.set("persistence.snapshot_on_exit", "snapshot").runner(&HANGING_DISK);
    });
    node.client().put(&kv("key"), "value").expect(201);
    let mut witness = idle(&node);
    node.signal(Signal::TERM);
    witness.expect_orderly_close();
    let unfinished = node.folder().join("snapshot.new");
    while !unfinished.exists() {}
    node.signal(Signal::TERM);
    node.wait_for_stderr("second signal: stopping now", 1);
    node.end_tracer();
    let ended = node.wait(Duration::from_secs(5));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
}
