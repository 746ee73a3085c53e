//! `lucid bench` loads a node as it was asked to, says what came of it, and leaves nothing behind.

mod common;

use common::cli::{call, call_to, url};
use common::{Node, Shared, token};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;

static NODE: Shared = Shared::new();

fn node() -> Arc<Node> {
    NODE.node(|setup| {
        setup.workers(2);
    })
}

fn bench(node: &Node, arguments: &[&str]) -> Value {
    let said = call_to(node, &[&["bench", "--json", "--duration", "300ms"], arguments].concat()).said();
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Whether a number of the result is within bounds.
fn within(result: &Value, pointer: &str, bounds: std::ops::RangeInclusive<f64>) -> bool {
    result.pointer(pointer).and_then(Value::as_f64).is_some_and(|number| bounds.contains(&number))
}

#[test]
fn each_load_is_what_was_asked_for() {
    let node = node();
    for (load, gets, puts) in [("get", true, false), ("put", false, true), ("mixed", true, true)] {
        for shape in [
            &["--connections", "1", "--keys", "1"][..],
            &["--connections", "9", "--depth", "5", "--threads", "3", "--value-size", "0"],
            &["--connections", "4", "--value-size", "300000"],
            &["--connections", "10", "--rate", "400", "--threads", "2"],
        ] {
            let result = bench(&node, &[&[load], shape].concat());
            assert_eq!(result["load"], load);
            assert_eq!(
                (result["get_us"].is_object(), result["put_us"].is_object()),
                (gets, puts),
                "{result}"
            );
            assert_eq!(result["statuses"], serde_json::json!({ "200": result["requests"] }), "{result}");
            assert!(within(&result, "/seconds", 0.3..=10.0), "{result}");
            let latency = if gets { "/get_us" } else { "/put_us" };
            let at =
                |name: &str| result.pointer(&format!("{latency}/{name}")).and_then(Value::as_f64).unwrap();
            assert!(0.0 < at("p50") && at("p50") <= at("p99") && at("p99") <= at("max"), "{result}");
        }
    }
    assert_eq!(call_to(&node, &["list"]).said(), "", "its keys are gone");
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let node = node();
    for rate in ["100", "700"] {
        let asked: f64 = rate.parse().unwrap();
        let result = bench(&node, &["get", "--rate", rate, "--connections", "7", "--duration", "1s"]);
        // What is due in one second is asked for in it, however busy the machine is.
        let due = result["requests"].as_f64().unwrap() + result["unsent"].as_f64().unwrap();
        assert!((asked * 0.95..=asked + 7.0).contains(&due), "{result}");
    }
}

#[test]
fn a_node_that_cannot_keep_up_does_not_hide_it() {
    let node = node();
    let result = bench(&node, &["get", "--rate", "5000000", "--connections", "2"]);
    assert!(within(&result, "/unsent", 1_000.0..=f64::MAX), "{result}");
    // The median request was due long before it could be sent.
    assert!(within(&result, "/get_us/p50", 50_000.0..=f64::MAX), "{result}");
    let said =
        call_to(&node, &["bench", "--rate", "5000000", "--connections", "2", "--duration", "300ms"]).said();
    assert!(said.contains("the node fell behind"), "{said}");
}

#[test]
fn keys_that_were_evicted_are_told() {
    let node = Node::start(|setup| {
        setup.set("store.memory_limit", "16MiB").set("store.max_limit", "1MiB");
    });
    let arguments =
        ["bench", "--keys", "400", "--value-size", "100000", "--duration", "300ms", "--connections", "2"];
    let came = call_to(&node, &arguments).run();
    assert_eq!(came.code, Some(1), "{}", came.text());
    let stderr = &came.stderr;
    assert!(
        stderr.contains("requests were no success") && stderr.contains("404: keys were evicted"),
        "{stderr}"
    );
    assert!(came.text().contains("get, closed loop: "), "the figures are shown all the same");
}

#[test]
fn a_node_that_closes_connections_for_want_of_memory_is_borne() {
    let node = Node::start(|setup| {
        setup.set("store.memory_limit", "16MiB").set("store.max_limit", "1MiB");
    });
    for load in ["get", "put"] {
        let arguments = [
            "bench",
            load,
            "--keys",
            "4",
            "--value-size",
            "1000000",
            "--duration",
            "300ms",
            "--connections",
            "40",
        ];
        let came = call_to(&node, &arguments).run();
        // How many it closes depends on the machine; the load goes on whatever happens, and says so.
        let told =
            came.stderr.contains("cut off") || came.stderr.contains("503: ") || came.stderr.contains("404: ");
        assert_eq!(came.code, Some(if told { 1 } else { 0 }), "{}", came.stderr);
        assert!(came.text().starts_with(&format!("{load}, closed loop: 40 connections")), "{}", came.text());
    }
    node.assert_well();
}

#[test]
fn a_full_node_is_told_before_the_load() {
    let node = Node::start(|setup| {
        setup
            .set("store.memory_limit", "16MiB")
            .set("store.max_limit", "1MiB")
            .set("store.when_full", "reject");
    });
    let stderr = call_to(&node, &["bench", "--keys", "400", "--value-size", "100000"]).failed(1);
    assert!(stderr.contains("507: the node is full") && stderr.contains("nothing was measured"), "{stderr}");
    assert_eq!(call_to(&node, &["list"]).said(), "");
}

#[test]
fn a_value_that_the_node_does_not_take_is_told_before_the_load() {
    let node = Node::start(|setup| {
        setup.set("store.max_limit", "1MiB");
    });
    let stderr = call_to(&node, &["bench", "--value-size", "1048577"]).failed(1);
    assert!(stderr.contains("The value is too large") && stderr.contains("store.max_limit"), "{stderr}");
    let stderr =
        call_to(&node, &["bench"]).variable("LUCID_TOKEN", &token::with_grants(&["kv:read"])).failed(4);
    assert!(stderr.contains("lacks the grant kv:write"), "{stderr}");
    assert_eq!(call(&["bench", "--url", &url(&node)]).run().code, Some(4));
}

#[test]
fn an_interrupted_load_removes_its_keys() {
    let node = Node::start(|_| {});
    let mut command = call_to(&node, &["bench", "--duration", "10m"]).into_command();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It has begun when its keys are there.
    while call_to(&node, &["list", "--limit", "10000"]).said().lines().count() < 10_000 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    }
    common::process::send_signal(child.id(), Signal::INT);
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(said.starts_with("get, closed loop: "), "{said}");
    assert_eq!(call_to(&node, &["list"]).said(), "");
}

#[test]
fn a_peer_that_goes_away_ends_the_load() {
    // Answers the probes of the beginning, then nobody any more.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for answer in ["201 Created", "200 OK", "200 OK"] {
            let (mut asked, mut block) = (Vec::new(), [0; 4_096]);
            while !asked.ends_with(b"\r\n\r\n") {
                let count = stream.read(&mut block).unwrap();
                assert!(count > 0, "gone after {}", String::from_utf8_lossy(&asked));
                asked.extend_from_slice(&block[..count]);
            }
            stream.write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").as_bytes()).unwrap();
        }
    });
    let stderr = call(&["bench", "--url", &url, "--duration", "1s", "--value-size", "0"]).failed(1);
    assert!(
        stderr.starts_with(&format!("lucid: cannot reach the node at {url}"))
            || stderr.contains("closed the connection"),
        "{stderr}"
    );
    peer.join().unwrap();
}

#[test]
fn a_node_that_stops_answering_ends_the_load() {
    let node = Node::start(|_| {});
    let mut command = call_to(&node, &["bench", "--keys", "10000000", "--value-size", "0"]).into_command();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The probe of the beginning has one key.
    while call_to(&node, &["list", "--limit", "2"]).said().lines().count() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    }
    node.signal(Signal::STOP);
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    let code = child.wait().unwrap().code();
    node.signal(Signal::CONT);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("left requests unanswered") && stderr.contains("are still there"), "{stderr}");
}
