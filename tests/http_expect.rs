//! `Expect: 100-continue`: asked for a body only when it will be taken.

mod common;

use common::{Client, Node, Shared, kv, token};
use std::sync::Arc;

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|_| {})
}

const EXPECT: (&str, &str) = ("Expect", "100-continue");

fn send_head(client: &mut Client, method: &str, path: &str, length: u64) {
    let length = length.to_string();
    let head = client.compose(method, path, &[EXPECT, ("Content-Length", &length)], b"");
    client.send(&head);
}

#[test]
fn a_body_that_will_be_taken_is_asked_for() {
    let node = node();
    let mut client = node.client();
    for (name, size) in [("small", 5), ("large", 1_000_000)] {
        send_head(&mut client, "PUT", &kv(name), size);
        client.response().expect(100);
        let value = vec![b'v'; size as usize];
        client.send(&value);
        client.response().expect(201);
        assert!(client.get(&kv(name)).body == value);
    }
    let head = client.compose("PUT", &kv("chunked"), &[EXPECT, ("Transfer-Encoding", "chunked")], b"");
    client.send(&head);
    client.response().expect(100);
    client.send(b"5\r\nhello\r\n0\r\n\r\n");
    client.response().expect(201);
    assert_eq!(client.get(&kv("chunked")).text(), "hello");
}

#[test]
fn the_leave_to_send_keeps_its_place_among_the_answers() {
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let mut client = node.client();
    client.put(&kv("large"), vec![b'l'; 300_000]);
    for round in 0..50 {
        // What stands before it may take its time: another core's key, a large value, a listing.
        let before = [kv(format!("none-{round}")), kv("large"), "/api/kv".to_string(), "/livez".to_string()];
        let mut bytes = Vec::new();
        for path in &before {
            bytes.extend(client.compose("GET", path, &[], b""));
        }
        bytes.extend(client.compose("PUT", &kv("last"), &[EXPECT, ("Content-Length", "5")], b""));
        client.send(&bytes);
        for status in [404, 200, 200, 200, 100] {
            client.response().expect(status);
        }
        client.send(b"hello");
        let put = client.response();
        assert!([200, 201].contains(&put.status), "{put}");
    }
}

#[test]
fn a_body_that_comes_unasked_is_taken() {
    let node = node();
    let mut client = node.client();
    let request = client.compose("PUT", &kv("unasked"), &[EXPECT], b"hello");
    client.send(&request);
    let mut answer = client.response();
    if answer.status == 100 {
        answer = client.response();
    }
    answer.expect(201);
    assert_eq!(client.get(&kv("unasked")).text(), "hello");
}

#[test]
fn no_body_is_asked_for_where_there_is_none() {
    let node = node();
    let mut client = node.client();
    client.call("PUT", &kv("empty"), &[EXPECT], b"").expect(201);
    client.call("GET", &kv("empty"), &[EXPECT], b"").expect(200);
}

#[test]
fn a_refused_request_gets_its_final_answer_at_once() {
    let node = node();
    node.client().put(&kv("taken"), "x");
    let writer = token::with_grants(&["kv:read"]);
    let cases: [(u16, Option<&str>, &str, String, u64); 6] = [
        (401, None, "PUT", kv("refused"), 5),
        (403, Some(&writer), "PUT", kv("refused"), 5),
        (404, None, "PUT", "/nowhere".into(), 5),
        (405, None, "POST", kv("refused"), 5),
        (413, Some(""), "PUT", kv("refused"), 7_340_033),
        (414, Some(""), "PUT", kv("k".repeat(1_025)), 5),
    ];
    for (status, token, method, path, length) in cases {
        let mut client = match token {
            None => node.stranger(),
            Some("") => node.client(),
            Some(token) => node.stranger().with_token(token),
        };
        send_head(&mut client, method, &path, length);
        let refused = client.response().expect(status);
        assert!(refused.closes(), "the body may or may not follow, so only closing is safe: {refused}");
        client.expect_close();
    }
}

#[test]
fn any_other_expectation_is_417() {
    let node = node();
    for expect in ["200-ok", "100-continue, x", "100-continued", "x"] {
        let mut client = node.client();
        let head = client.compose("PUT", &kv("x"), &[("Expect", expect), ("Content-Length", "5")], b"");
        client.send(&head);
        client.response().expect(417);
        client.expect_close();
    }
    let mut client = node.client();
    client.call("PUT", &kv("any-case"), &[("Expect", "100-Continue")], b"").expect(201);
}

#[test]
fn http_1_0_knows_no_expectations() {
    let node = node();
    let mut client = node.client();
    let token = token::root();
    let head = format!(
        "PUT {} HTTP/1.0\r\nAuthorization: Bearer {token}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        kv("old")
    );
    client.send(head.as_bytes());
    client.response().expect(201);
}
