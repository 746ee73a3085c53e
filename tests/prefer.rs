//! `Prefer`: the deleted bytes, and answers without a message.

mod common;

use common::{Node, Shared, kv};
use std::sync::Arc;

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|setup| {
        setup.workers(2);
    })
}

#[test]
fn a_delete_can_answer_the_bytes_it_removed() {
    let node = node();
    let mut client = node.client();
    for value in [b"Hello world!".to_vec(), Vec::new(), vec![7; 20_000], vec![9; 1_000_000]] {
        let path = kv("taken");
        client.call("PUT", &path, &[("Content-Type", "text/plain")], &value).expect(201);
        let fields = [("Prefer", "return=representation")];
        let taken = client.call("DELETE", &path, &fields, b"").expect(200);
        assert!(taken.body == value, "{taken}");
        assert_eq!(taken.field("content-type"), Some("text/plain"));
        client.get(&path).expect(404);
        client.call("DELETE", &path, &fields, b"").expect(404);
    }
}

#[test]
fn minimal_drops_the_message_and_keeps_the_status() {
    let node = node();
    let mut client = node.client();
    let path = kv("minimal");
    let minimal = [("Prefer", "return=minimal")];
    for (method, body, status) in [
        ("PUT", "1", 201),
        ("PUT", "2", 200),
        ("PATCH", "increment", 200),
        ("PATCH", "lock", 200),
        ("PATCH", "unlock", 200),
        ("DELETE", "", 200),
    ] {
        let answer = client.call(method, &path, &minimal, body.as_bytes()).expect(status);
        assert!(answer.body.is_empty(), "{method}: {answer}");
    }
}

#[test]
fn preferences_are_found_among_others_and_in_any_case() {
    let node = node();
    let mut client = node.client();
    let path = kv("among");
    for prefer in [
        "respond-async, return=minimal",
        "RETURN=minimal",
        "foo=\"a, return=x\", return=\"minimal\"",
        "return = minimal",
    ] {
        let answer = client.call("PUT", &path, &[("Prefer", prefer)], b"1");
        assert!(answer.body.is_empty(), "{prefer}: {answer}");
    }
    for prefer in ["return=everything", "returned=minimal", "foo=\"return=minimal\"", ""] {
        let answer = client.call("PUT", &path, &[("Prefer", prefer)], b"1").expect(200);
        assert_eq!(answer.message(), "The specified key was successfully updated.", "{prefer}");
    }
}

#[test]
fn an_error_keeps_its_message() {
    let node = node();
    let mut client = node.client();
    let path = kv("errors");
    client.put(&path, "x");
    client.patch(&path, "lock").expect(200);
    let answer = client.call("PUT", &path, &[("Prefer", "return=minimal")], b"y").expect(409);
    assert_eq!(answer.message(), "The specified key cannot be updated.");
}
