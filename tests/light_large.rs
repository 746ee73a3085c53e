//! Lists and items at their limits, and what a long call leaves of the time of others.

mod common;

use std::time::{Duration, Instant};

use common::{Client, Node};
use serde_json::{Value, json};

fn start(workers: usize) -> (Node, Client) {
    let node = Node::start(|setup| {
        setup.workers(workers).set("store.max_limit", 2_000_000);
    });
    let client = node.client();
    (node, client)
}

fn data(client: &mut Client, method: &str, path: &str, body: &str) -> Value {
    client.call(method, path, &[], body.as_bytes()).expect(200).json()["data"].clone()
}

fn numbers(range: std::ops::Range<u32>) -> String {
    let numbers: Vec<String> = range.map(|number| number.to_string()).collect();
    numbers.join(",")
}

fn too_large(client: &mut Client, path: &str, body: &str) {
    let refused = client.call("POST", path, &[], body.as_bytes()).expect(413).json();
    assert_eq!(refused["error"]["code"], "VALUE_TOO_LARGE", "{refused}");
}

#[test]
fn a_list_holds_a_hundred_thousand_values_and_not_one_more() {
    for workers in [1, 2] {
        let (_node, mut client) = start(workers);
        let all = numbers(0..100_000);
        let written =
            data(&mut client, "POST", "/list/write", &format!("{{\"values\":[{all},5,6],\"key\":\"l\"}}"));
        assert_eq!(written, json!({"key": "l", "count": 100_000}));
        too_large(&mut client, "/list/add", r#"{"key":"l","values":["more"]}"#);
        too_large(&mut client, "/list/write", &format!("{{\"key\":\"other\",\"values\":[{all},\"more\"]}}"));
        let same = data(&mut client, "POST", "/list/add", r#"{"key":"l","values":[7,8.0]}"#);
        assert_eq!(same, json!({"key": "l", "added": 0, "count": 100_000}));
        assert_eq!(data(&mut client, "GET", "/list/exists?key=other", ""), json!(false));
        let read = client.get("/list/read?key=l").expect(200).text();
        assert_eq!(read, format!("{{\"ok\":true,\"data\":[{all}]}}"));
        assert_eq!(data(&mut client, "GET", "/list/index?key=l&value=99999", ""), json!(99_999));
        // Of an addition that does not fit nothing stays, however far it came.
        let removed = data(
            &mut client,
            "POST",
            "/list/remove",
            &format!("{{\"key\":\"l\",\"values\":[{}]}}", numbers(0..40_000)),
        );
        assert_eq!(removed, json!({"key": "l", "removed": 40_000, "count": 60_000}));
        too_large(
            &mut client,
            "/list/add",
            &format!("{{\"key\":\"l\",\"values\":[{}]}}", numbers(99_990..140_001)),
        );
        assert_eq!(data(&mut client, "GET", "/list/count?key=l", ""), json!(60_000));
        assert_eq!(data(&mut client, "GET", "/list/slice?key=l&start=-1", ""), json!([99_999]));
        let added = data(
            &mut client,
            "POST",
            "/list/add",
            &format!("{{\"key\":\"l\",\"values\":[{}]}}", numbers(0..40_000)),
        );
        assert_eq!(added, json!({"key": "l", "added": 40_000, "count": 100_000}));
        let slice = client.get("/list/slice?key=l&start=59999&end=60000").expect(200).text();
        assert_eq!(slice, r#"{"ok":true,"data":[99999,0]}"#);
        assert_eq!(
            data(&mut client, "POST", "/list/purge", r#"{"key":"l"}"#),
            json!({"key": "l", "purged": true})
        );
        assert_eq!(data(&mut client, "GET", "/list/exists?key=l", ""), json!(false));
    }
}

#[test]
fn a_list_holds_what_a_value_may_hold_and_not_one_byte_more() {
    let (_node, mut client) = start(2);
    // Two brackets, a comma, four quotes.
    let list = |last: usize| {
        format!("{{\"key\":\"l\",\"values\":[\"{}\",\"{}\"]}}", "a".repeat(999_000), "b".repeat(last))
    };
    data(&mut client, "POST", "/list/write", &list(1_000_993));
    assert_eq!(
        client.get("/list/read?key=l").expect(200).body.len(),
        2_000_000 + r#"{"ok":true,"data":}"#.len()
    );
    too_large(&mut client, "/list/write", &list(1_000_994));
    too_large(&mut client, "/list/add", r#"{"key":"l","values":[1]}"#);
    assert_eq!(data(&mut client, "GET", "/list/count?key=l", ""), json!(2));
}

#[test]
fn an_item_holds_what_a_value_may_hold_and_not_one_byte_more() {
    let (_node, mut client) = start(2);
    for length in [8_000, 8_300, 60_000, 70_000, 1_999_998] {
        let body = format!("{{\"key\":\"i\",\"value\":\"{}\"}}", "x".repeat(length));
        let written = client.call("POST", "/item/write", &[], body.as_bytes()).expect(200).text();
        assert_eq!(written, format!("{{\"ok\":true,\"data\":{body}}}"));
        assert_eq!(client.get("/item/read?key=i").expect(200).text(), written);
        let head = client.call("HEAD", "/item/read?key=i", &[], b"").expect(200);
        assert_eq!(head.content_length(), Some(written.len() as u64));
        assert_eq!(data(&mut client, "GET", "/item/exists?key=i", ""), json!(true));
    }
    too_large(
        &mut client,
        "/item/write",
        &format!("{{\"key\":\"j\",\"value\":\"{}\"}}", "x".repeat(1_999_999)),
    );
    assert_eq!(data(&mut client, "GET", "/item/exists?key=j", ""), json!(false));
}

#[test]
fn bodies_that_come_in_chunks_are_read_the_same() {
    let (_node, mut client) = start(2);
    let body = format!("{{\"values\":[{}],\"key\":\"l\"}}", numbers(0..30_000));
    let chunked = common::chunked(body.as_bytes(), 10_007);
    let written = client.call("POST", "/list/write", &[("Transfer-Encoding", "chunked")], &chunked);
    assert_eq!(written.expect(200).json()["data"]["count"], json!(30_000));
    let bad = common::chunked(format!("{body}x").as_bytes(), 10_007);
    let refused = client.call("POST", "/list/write", &[("Transfer-Encoding", "chunked")], &bad);
    assert_eq!(refused.expect(400).json()["error"]["code"], "INVALID_JSON");
}

#[test]
fn others_are_served_while_long_lists_are_written_and_read() {
    let (node, mut client) = start(1);
    let body = format!("{{\"key\":\"l\",\"values\":[{}]}}", numbers(0..100_000));
    let mut other = node.client();
    other.put("/api/kv/quick", "x");
    let mut waits = Vec::new();
    let write = client.compose("POST", "/list/write", &[], body.as_bytes());
    let read = client.compose("GET", "/list/read?key=l", &[], b"");
    for request in [&write, &read] {
        for _ in 0..5 {
            client.send(request);
            let until = Instant::now() + Duration::from_millis(60);
            while Instant::now() < until {
                let begun = Instant::now();
                other.get("/api/kv/quick").expect(200);
                waits.push(begun.elapsed());
            }
            client.response().expect(200);
        }
    }
    waits.sort();
    // Nothing here is a measure of speed: a whole call takes many times as long as this on any machine.
    let middle = waits[waits.len() / 2];
    assert!(middle < Duration::from_millis(5), "half of the reads waited {middle:?} and more");
}

#[test]
fn a_full_node_drops_lists_to_make_room_for_others() {
    let node = Node::start(|setup| {
        setup
            .set("store.memory_limit", "32MiB")
            .set("store.max_limit", 2_000_000)
            .set("store.when_full", "evict");
    });
    let mut client = node.client();
    for number in 0..60 {
        let body = format!("{{\"key\":\"l{number}\",\"values\":[{}]}}", numbers(0..50_000));
        assert_eq!(data(&mut client, "POST", "/list/write", &body)["count"], json!(50_000));
    }
    let kept = data(&mut client, "GET", "/list/keys", "").as_array().unwrap().len();
    assert!((2..60).contains(&kept), "{kept} lists of half a megabyte and more in 32 MiB");
    let last = data(&mut client, "GET", "/list/count?key=l59", "");
    assert_eq!(last, json!(50_000));
    node.assert_well();
}

#[test]
fn a_full_node_that_may_not_evict_refuses_a_list_and_keeps_the_others() {
    let node = Node::start(|setup| {
        setup
            .set("store.memory_limit", "32MiB")
            .set("store.max_limit", 2_000_000)
            .set("store.when_full", "reject");
    });
    let mut client = node.client();
    let mut kept = 0;
    let refused = loop {
        let body = format!("{{\"key\":\"l{kept}\",\"values\":[{}]}}", numbers(0..50_000));
        let written = client.call("POST", "/list/write", &[], body.as_bytes());
        if written.status != 200 {
            break written;
        }
        kept += 1;
        assert!(kept < 60);
    };
    assert_eq!(refused.expect(507).json()["error"]["code"], "STORE_FULL");
    for number in 0..kept {
        assert_eq!(data(&mut client, "GET", &format!("/list/count?key=l{number}"), ""), json!(50_000));
    }
    data(&mut client, "POST", "/list/purge", r#"{"key":"l0"}"#);
    let body = format!("{{\"key\":\"again\",\"values\":[{}]}}", numbers(0..40_000));
    assert_eq!(data(&mut client, "POST", "/list/write", &body)["count"], json!(40_000));
}
