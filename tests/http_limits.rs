//! Each bound of a request, below, at and above its edge.

mod common;

use common::{Node, Shared};
use std::sync::Arc;

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|_| {})
}

const HEAD_BYTES_MAX: usize = 16 * 1024;
const TARGET_BYTES_MAX: usize = 8 * 1024;
const FIELDS_MAX: usize = 100;

/// A request whose head has exactly this many bytes, its blank line included.
fn head_of(bytes: usize) -> Vec<u8> {
    let start = "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Pad: ";
    let end = "\r\n\r\n";
    format!("{start}{}{end}", "p".repeat(bytes - start.len() - end.len())).into_bytes()
}

#[test]
fn a_head_has_at_most_16_kib() {
    let node = node();
    let mut client = node.stranger();
    for bytes in [HEAD_BYTES_MAX - 1, HEAD_BYTES_MAX] {
        client.send(&head_of(bytes));
        client.response().expect(200);
    }
    for bytes in [HEAD_BYTES_MAX + 1, HEAD_BYTES_MAX + 2, 2 * HEAD_BYTES_MAX, 10 * HEAD_BYTES_MAX] {
        let mut client = node.stranger();
        let _ = client.try_send(&head_of(bytes));
        client.response().expect(431);
        client.expect_close();
    }
}

#[test]
fn a_head_without_an_end_is_refused_at_its_bound() {
    let node = node();
    for line in ["X-Pad: pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp\r\n", "p"] {
        let mut client = node.stranger();
        client.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n");
        let _ = client.try_send(line.repeat(HEAD_BYTES_MAX / line.len() + 1).as_bytes());
        client.response().expect(431);
        client.expect_close();
    }
}

#[test]
fn a_head_has_at_most_100_fields() {
    let node = node();
    let mut client = node.stranger();
    let head = |fields: usize| {
        let mut head = "GET /livez HTTP/1.1\r\nHost: localhost\r\n".to_string();
        for at in 1..fields {
            head.push_str(&format!("X-{at}: y\r\n"));
        }
        head + "\r\n"
    };
    for fields in [FIELDS_MAX - 1, FIELDS_MAX] {
        client.send(head(fields).as_bytes());
        client.response().expect(200);
    }
    for fields in [FIELDS_MAX + 1, FIELDS_MAX + 2, 5 * FIELDS_MAX] {
        let mut client = node.stranger();
        client.send(head(fields).as_bytes());
        client.response().expect(431);
        client.expect_close();
    }
}

#[test]
fn a_target_has_at_most_8_kib() {
    let node = node();
    let mut client = node.stranger();
    let target = |bytes: usize| format!("/livez?{}", "q".repeat(bytes - "/livez?".len()));
    for bytes in [TARGET_BYTES_MAX - 1, TARGET_BYTES_MAX] {
        client.get(&target(bytes)).expect(200);
    }
    for bytes in [TARGET_BYTES_MAX + 1, TARGET_BYTES_MAX + 2, HEAD_BYTES_MAX, 3 * HEAD_BYTES_MAX] {
        let mut client = node.stranger();
        let request = client.compose("GET", &target(bytes), &[], b"");
        let _ = client.try_send(&request);
        client.response().expect(414);
        client.expect_close();
    }
    let mut client = node.stranger();
    let request = client.compose("GET", &format!("http://localhost{}", target(TARGET_BYTES_MAX)), &[], b"");
    client.send(&request);
    client.response().expect(414);
}

#[test]
fn a_declared_size_over_the_limit_is_413_before_a_byte_of_it_comes() {
    let node = node();
    for (method, path, size) in [
        ("PUT", "/api/kv/big", 7_340_033_u64),
        ("PUT", "/api/kv/big", 8_388_609),
        ("PUT", "/api/kv/big", u64::MAX),
        ("PUT", "/api/kv/big", u64::MAX / 2 + 1),
        ("POST", "/api/kv/batch", 8_388_609),
        ("PATCH", "/api/kv/big", 1_000_000),
    ] {
        let mut client = node.client();
        let request = client.compose(method, path, &[("Content-Length", &size.to_string())], b"");
        client.send(&request);
        let refused = client.response().expect(413);
        assert!(refused.closes(), "{refused}");
        client.expect_close();
    }
}

#[test]
fn a_short_body_over_the_limit_is_413_too() {
    let node = node();
    let mut client = node.client();
    let refused = client.call("PATCH", "/api/kv/big", &[], &[b'x'; 4_097]).expect(413);
    match refused.closes() {
        true => client.expect_close(),
        false => drop(client.get("/livez").expect(200)),
    }
}

#[test]
fn a_chunk_size_line_is_bounded() {
    let node = node();
    let mut client = node.client();
    let with = |extension: usize| format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(extension)).into_bytes();
    let fields = [("Transfer-Encoding", "chunked")];
    let put = client.call("PUT", "/api/kv/extended", &fields, &with(200));
    assert!([200, 201].contains(&put.status), "{put}");
    client.call("PUT", "/api/kv/extended", &fields, &with(257)).expect(400);
    client.expect_close();
}

#[test]
fn a_content_type_that_is_too_long_to_keep_is_refused() {
    let node = node();
    let mut client = node.client();
    let of = |bytes: usize| format!("text/{}", "x".repeat(bytes - 5));
    client.call("PUT", "/api/kv/typed", &[("Content-Type", &of(255))], b"x").expect(201);
    assert_eq!(client.get("/api/kv/typed").field("content-type"), Some(&*of(255)));
    client.call("PUT", "/api/kv/typed", &[("Content-Type", &of(256))], b"y").expect(400);
    assert_eq!(node.client().get("/api/kv/typed").text(), "x");
}

#[test]
fn a_credential_over_4_kib_is_401_like_any_other() {
    let node = node();
    for bytes in [4_095, 4_096, 4_097, 12_000] {
        let mut client = node.stranger().with_authorization(format!("Bearer {}", "a".repeat(bytes)));
        let refused = client.get("/api/kv/x").expect(401);
        assert_eq!(refused.text(), r#"{"message":"You are not allowed to perform this action."}"#);
    }
}
