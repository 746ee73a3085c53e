//! A client that is refused can read why, even while it is still sending megabytes.

mod common;

use common::{Client, Node, Shared, kv, token};
use std::io::Write;
use std::sync::Arc;

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|setup| {
        setup.workers(2);
    })
}

const UPLOAD: usize = 8 * 1024 * 1024;

/// Fields that say how a body is delimited.
type Framing = Vec<(&'static str, String)>;

/// The cases: a status, and a client, path and framing that are answered with it.
fn cases(node: &Node) -> Vec<(u16, Client, String, Framing)> {
    let sized = |size: usize| vec![("Content-Length", size.to_string())];
    let chunked = || vec![("Transfer-Encoding", "chunked".to_string())];
    let reader = token::with_grants(&["kv:read"]);
    vec![
        (401, node.stranger(), kv("refused"), sized(UPLOAD)),
        (401, node.stranger(), kv("refused"), chunked()),
        (403, node.stranger().with_token(&reader), kv("refused"), sized(UPLOAD)),
        (413, node.client(), kv("refused"), sized(UPLOAD)),
        (413, node.client(), kv("refused"), chunked()),
        (404, node.client(), "/nowhere".to_string(), sized(UPLOAD)),
        (414, node.client(), kv("k".repeat(1_025)), chunked()),
    ]
}

fn body(fields: &[(&str, String)]) -> Vec<u8> {
    match fields[0].0 {
        "Content-Length" => vec![b'u'; UPLOAD],
        _ => common::chunked(&vec![b'u'; UPLOAD], 65_536),
    }
}

fn head(client: &Client, path: &str, fields: &[(&'static str, String)]) -> Vec<u8> {
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    client.compose("PUT", path, &fields, b"")
}

#[test]
fn the_answer_can_be_read_while_the_body_is_sent() {
    let node = node();
    for (status, mut client, path, fields) in cases(&node) {
        client.send(&head(&client, &path, &fields));
        let mut writer = client.stream().try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let _ = writer.write_all(&body(&fields));
            });
            let refused = client.response().expect(status);
            assert!(refused.closes(), "{refused}");
        });
    }
    node.assert_well();
}

#[test]
fn the_answer_can_be_read_when_the_whole_body_was_sent_first() {
    let node = node();
    for (status, mut client, path, fields) in cases(&node) {
        client.send(&head(&client, &path, &fields));
        let _ = client.try_send(&body(&fields));
        client.response().expect(status);
        client.expect_close();
    }
    node.assert_well();
}

#[test]
fn a_small_refused_body_is_thrown_away_or_the_connection_closed_never_served() {
    let node = node();
    let inner = String::from_utf8(node.client().compose("PUT", &kv("inner"), &[], b"x")).unwrap();
    for method in ["PUT", "PATCH", "POST"] {
        let mut client = node.stranger();
        let mut bytes = client.compose(method, &kv("outer"), &[], inner.as_bytes());
        bytes.extend(client.compose("GET", "/livez", &[], b""));
        client.send(&bytes);
        let refused = client.response();
        assert!([401, 405].contains(&refused.status), "{refused}");
        match refused.closes() {
            true => client.expect_close(),
            false => drop(client.response().expect(200)),
        }
    }
    node.client().get(&kv("inner")).expect(404);
    node.client().get(&kv("outer")).expect(404);
}

#[test]
fn bodies_of_requests_that_have_no_use_for_them_are_passed_over() {
    let node = node();
    let mut client = node.client();
    client.put(&kv("passed"), "x");
    for size in [1, 1_000, 60_000] {
        let body = vec![b'b'; size];
        for (method, status) in [("GET", 200), ("DELETE", 200), ("PUT", 201)] {
            let answer = client.call(method, &kv("passed"), &[], &body);
            if answer.status == 413 || answer.status == 400 {
                assert_ne!(method, "PUT", "{answer}");
                client = node.client();
                continue;
            }
            let answer = answer.expect(status);
            if answer.closes() {
                client = node.client();
            }
        }
    }
    assert_eq!(client.get(&kv("passed")).body.len(), 60_000);
}

#[test]
fn options_needs_no_credential_and_gets_no_room_for_a_body() {
    let node = node();
    // The last ones wrap around to a place within the head, or just before it, when added to one.
    for declared in [65_537, 64 * 1024 * 1024, u64::MAX / 2, u64::MAX - 40, u64::MAX] {
        let mut client = node.stranger();
        client.send(
            format!("OPTIONS /api/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: {declared}\r\n\r\n").as_bytes(),
        );
        let refused = client.response().expect(413);
        assert!(refused.closes(), "{refused}");
        client.finish_sending();
        client.expect_close();
    }
    let mut client = node.stranger();
    client.call("OPTIONS", "/api/kv/a", &[], &[b'o'; 65_536]).expect(204);
    client.get("/livez").expect(200);
    node.assert_well();
}

#[test]
fn a_small_refused_body_that_comes_late_meets_no_reset() {
    let node = node();
    let mut client = node.stranger();
    client.send(&client.compose(
        "PUT",
        "/api/kv/a",
        &[("Connection", "close"), ("Content-Length", "60000")],
        b"",
    ));
    client.response().expect(401);
    client.send(&[b'l'; 30_000]);
    client.send(&[b'l'; 30_000]);
    client.finish_sending();
    client.expect_orderly_close();
}
