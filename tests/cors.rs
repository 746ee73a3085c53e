//! Cross-origin requests: nothing unless the file lists the origin.

mod common;

use common::{Node, kv};

const LISTED: &str = "https://app.example";

fn preflight(method: &'static str) -> [(&'static str, &'static str); 3] {
    [
        ("Origin", LISTED),
        ("Access-Control-Request-Method", method),
        ("Access-Control-Request-Headers", "authorization, content-type, x-ttl"),
    ]
}

#[test]
fn without_listed_origins_no_answer_speaks_of_origins() {
    let node = Node::start(|_| {});
    let mut client = node.client();
    let put = client.call("PUT", &kv("a"), &[("Origin", LISTED)], b"x").expect(201);
    assert_eq!(put.field("access-control-allow-origin"), None);
    let mut stranger = node.stranger();
    let answer = stranger.call("OPTIONS", &kv("a"), &preflight("PUT"), b"").expect(204);
    assert_eq!(answer.field("access-control-allow-origin"), None);
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        assert!(answer.lists("allow", method), "{answer}");
    }
}

#[test]
fn options_needs_no_credential_and_answers_what_a_path_allows() {
    let node = Node::start(|_| {});
    let mut stranger = node.stranger();
    let answer = stranger.call("OPTIONS", "/api/kv", &[], b"").expect(204);
    assert!(answer.lists("allow", "GET") && !answer.lists("allow", "PUT"), "{answer}");
    let answer = stranger.call("OPTIONS", "/api/kv/batch", &[], b"").expect(204);
    assert!(answer.lists("allow", "POST"), "{answer}");
    let answer = stranger.call("OPTIONS", "*", &[], b"");
    assert!([200, 204].contains(&answer.status), "{answer}");
    stranger.call("OPTIONS", "/nowhere", &[], b"").expect(404);
}

#[test]
fn a_listed_origin_may_ask_and_read() {
    let node = Node::start(|setup| {
        setup.set("http.cors_origins", format!("[\"{LISTED}\", \"http://localhost:3000\"]"));
    });
    let mut stranger = node.stranger();
    let answer = stranger.call("OPTIONS", &kv("a"), &preflight("PUT"), b"").expect(204);
    assert_eq!(answer.field("access-control-allow-origin"), Some(LISTED));
    assert!(answer.lists("access-control-allow-methods", "PUT"), "{answer}");
    for field in ["authorization", "content-type", "if-match", "if-none-match", "range", "x-ttl", "prefer"] {
        assert!(answer.lists("access-control-allow-headers", field), "{field}: {answer}");
    }
    let mut client = node.client();
    client.call("PUT", &kv("a"), &[("Origin", LISTED)], b"x").expect(201);
    let got = client.call("GET", &kv("a"), &[("Origin", LISTED)], b"").expect(200);
    assert_eq!(got.field("access-control-allow-origin"), Some(LISTED));
    assert!(got.lists("vary", "origin"), "{got}");
    assert!(got.lists("access-control-expose-headers", "etag"), "{got}");
    let got = client.call("GET", &kv("a"), &[("Origin", "http://localhost:3000")], b"").expect(200);
    assert_eq!(got.field("access-control-allow-origin"), Some("http://localhost:3000"));
    let refused = stranger.call("GET", &kv("a"), &[("Origin", LISTED)], b"").expect(401);
    assert_eq!(refused.field("access-control-allow-origin"), Some(LISTED), "a page must see why: {refused}");
}

#[test]
fn a_foreign_origin_gets_no_leave() {
    let node = Node::start(|setup| {
        setup.set("http.cors_origins", format!("[\"{LISTED}\"]"));
    });
    let mut client = node.client();
    for origin in [
        "https://evil.example",
        "null",
        "https://app.example.evil",
        "http://app.example",
        "https://app.example:444",
    ] {
        let put = client.call("PUT", &kv("a"), &[("Origin", origin)], b"x");
        assert!([200, 201].contains(&put.status), "{put}");
        assert_eq!(put.field("access-control-allow-origin"), None, "{origin}");
        let fields = [("Origin", origin), ("Access-Control-Request-Method", "PUT")];
        let answer = client.call("OPTIONS", &kv("a"), &fields, b"");
        assert_eq!(answer.field("access-control-allow-origin"), None, "{origin}");
    }
}
