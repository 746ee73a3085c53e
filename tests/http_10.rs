//! HTTP/1.0: no Host needed, closed behind the answer unless asked otherwise; and closing in 1.1.

mod common;

use common::{Node, Shared, kv, token};
use std::sync::Arc;

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|_| {})
}

fn request(method: &str, path: &str, lines: &str, body: &str) -> Vec<u8> {
    let token = token::root();
    format!("{method} {path} HTTP/1.0\r\nAuthorization: Bearer {token}\r\n{lines}\r\n{body}").into_bytes()
}

#[test]
fn a_request_without_host_is_served_and_the_connection_closed() {
    let node = node();
    let mut client = node.stranger();
    client.send(&request("PUT", &kv("old"), "Content-Length: 5\r\n", "hello"));
    let put = client.response().expect(201);
    assert!(!put.lists("connection", "keep-alive"), "{put}");
    client.expect_orderly_close();
    let mut client = node.stranger();
    client.send(&request("GET", &kv("old"), "", ""));
    assert_eq!(client.response().expect(200).text(), "hello");
    client.expect_orderly_close();
}

#[test]
fn keep_alive_is_granted_when_asked_for() {
    let node = node();
    let mut client = node.stranger();
    client.send(&request("PUT", &kv("kept"), "Connection: keep-alive\r\nContent-Length: 5\r\n", "hello"));
    let put = client.response().expect(201);
    assert!(put.lists("connection", "keep-alive"), "{put}");
    client.send(&request("GET", &kv("kept"), "Connection: Keep-Alive\r\n", ""));
    assert_eq!(client.response().expect(200).text(), "hello");
    client.send(&request("GET", &kv("kept"), "", ""));
    client.response().expect(200);
    client.expect_orderly_close();
}

#[test]
fn a_put_without_a_length_is_empty() {
    let node = node();
    let mut client = node.stranger();
    client.send(&request("PUT", &kv("bodyless"), "", ""));
    client.response().expect(201);
    client.expect_orderly_close();
    assert_eq!(node.client().get(&kv("bodyless")).expect(200).body, b"");
}

#[test]
fn two_hosts_are_refused_in_1_0_too() {
    let node = node();
    let mut client = node.stranger();
    client.send(&request("GET", "/livez", "Host: a\r\nHost: a\r\n", ""));
    client.response().expect(400);
    client.expect_close();
}

#[test]
fn a_1_1_connection_closes_when_asked_to() {
    let node = node();
    for connection in ["close", "Close", "x, close", "close, keep-alive", "keep-alive, close"] {
        let mut client = node.client();
        let got = client.call("GET", "/livez", &[("Connection", connection)], b"").expect(200);
        assert!(got.closes(), "{connection}: {got}");
        client.expect_orderly_close();
    }
    let mut client = node.client();
    for connection in ["keep-alive", "x", "closed", ""] {
        let got = client.call("GET", "/livez", &[("Connection", connection)], b"").expect(200);
        assert!(!got.closes(), "{connection}: {got}");
    }
}

#[test]
fn a_later_1_x_is_served_as_1_1() {
    let node = node();
    let mut client = node.stranger();
    client.send(b"GET /livez HTTP/1.2\r\nHost: localhost\r\n\r\n");
    let got = client.response().expect(200);
    assert!(!got.closes(), "{got}");
}
