//! Every status and message of the source documents, byte for byte.

mod common;

use common::{Client, Node, Response, Shared, kv, token};
use serde_json::json;
use std::sync::Arc;

const CREATED: &str = r#"{"message":"The specified key was successfully created."}"#;
const UPDATED: &str = r#"{"message":"The specified key was successfully updated."}"#;
const DELETED: &str = r#"{"message":"The specified key and its data was successfully deleted."}"#;
const LOCKED: &str = "The specified key cannot be updated.";
const MISSING: &str = "The specified key does not exists.";
const REFUSED: &str = r#"{"message":"You are not allowed to perform this action."}"#;

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|setup| {
        setup.workers(2);
    })
}

/// An error's JSON begins with the message; only `code` and `detail` may follow.
#[track_caller]
fn assert_refusal(response: &Response, status: u16, message: &str) {
    assert_eq!(response.status, status, "{response}");
    let quoted = serde_json::to_string(message).unwrap();
    assert!(response.text().starts_with(&format!("{{\"message\":{quoted}")), "{response}");
    let json = response.json();
    let members = json.as_object().unwrap();
    assert!(members.keys().all(|name| ["message", "code", "detail"].contains(&name.as_str())), "{response}");
}

#[track_caller]
fn assert_answer(response: &Response, status: u16, body: &str) {
    assert_eq!(response.status, status, "{response}");
    assert_eq!(response.text(), body, "{response}");
    assert_eq!(response.field("content-type"), Some("application/json"), "{response}");
}

#[test]
fn put_says_whether_it_created_or_updated() {
    let node = node();
    let mut client = node.client();
    assert_answer(&client.put(&kv("put"), "one"), 201, CREATED);
    assert_answer(&client.put(&kv("put"), "two"), 200, UPDATED);
    assert_answer(&client.put(&kv("put"), ""), 200, UPDATED);
    assert_answer(&client.put(&kv("put-empty"), ""), 201, CREATED);
}

#[test]
fn get_answers_the_bytes_and_type_that_were_put() {
    let node = node();
    let mut client = node.client();
    client.call("PUT", &kv("get"), &[("Content-Type", "text/plain; charset=utf-8")], b"hello world");
    let got = client.get(&kv("get")).expect(200);
    assert_eq!(got.body, b"hello world");
    assert_eq!(got.field("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(got.field("x-content-type-options"), Some("nosniff"));
    assert_eq!(got.field("accept-ranges"), Some("bytes"));
    assert!(common::response::is_http_date(got.expect_field("last-modified")), "{got}");
    let tag = got.expect_field("etag");
    assert!(tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'), "not a strong tag: {got}");
    assert_eq!(got.field("x-ttl"), None);
}

#[test]
fn a_value_put_without_a_type_is_an_octet_stream_whatever_it_looks_like() {
    let node = node();
    let mut client = node.client();
    for (key, value) in
        [("html", "<html><script>alert(1)</script>"), ("json", "{}"), ("png", "\u{89}PNG\r\n")]
    {
        client.put(&kv(key), value);
        let got = client.get(&kv(key)).expect(200);
        assert_eq!(got.field("content-type"), Some("application/octet-stream"));
        assert_eq!(got.field("x-content-type-options"), Some("nosniff"));
    }
}

#[test]
fn a_put_replaces_the_type_too() {
    let node = node();
    let mut client = node.client();
    client.call("PUT", &kv("retyped"), &[("Content-Type", "image/png")], b"1");
    client.put(&kv("retyped"), "2");
    assert_eq!(client.get(&kv("retyped")).field("content-type"), Some("application/octet-stream"));
}

#[test]
fn an_absent_key_is_404_with_the_words_of_the_source() {
    let node = node();
    let mut client = node.client();
    assert_refusal(&client.get(&kv("absent")), 404, MISSING);
    assert_refusal(&client.delete(&kv("absent")), 404, MISSING);
    for operation in ["lock", "unlock", "increment", "decrement", "persist"] {
        assert_refusal(&client.patch(&kv("absent"), operation), 404, MISSING);
    }
    assert_refusal(&client.patch(&kv("absent"), r#"{"operation":"ttl","value":5}"#), 404, MISSING);
    let head = client.call("HEAD", &kv("absent"), &[], b"");
    assert_eq!(head.status, 404, "{head}");
    assert_eq!(client.get(&kv("absent")).status, 404);
}

#[test]
fn delete_removes_and_then_misses() {
    let node = node();
    let mut client = node.client();
    client.put(&kv("delete"), "x");
    assert_answer(&client.delete(&kv("delete")), 200, DELETED);
    assert_refusal(&client.delete(&kv("delete")), 404, MISSING);
    assert_refusal(&client.get(&kv("delete")), 404, MISSING);
    assert_answer(&client.put(&kv("delete"), "y"), 201, CREATED);
}

#[test]
fn a_locked_key_refuses_put_delete_and_patch_with_409() {
    let node = node();
    let mut client = node.client();
    client.put(&kv("locked"), "7");
    client.patch(&kv("locked"), "lock").expect(200);
    assert_refusal(&client.put(&kv("locked"), "8"), 409, LOCKED);
    assert_refusal(&client.delete(&kv("locked")), 409, LOCKED);
    assert_refusal(&client.patch(&kv("locked"), "increment"), 409, LOCKED);
    assert_refusal(&client.patch(&kv("locked"), "decrement"), 409, LOCKED);
    assert_refusal(&client.patch(&kv("locked"), r#"{"operation":"ttl","value":9}"#), 409, LOCKED);
    assert_refusal(&client.patch(&kv("locked"), "persist"), 409, LOCKED);
    assert_eq!(client.get(&kv("locked")).expect(200).body, b"7");
}

#[test]
fn patch_answers_the_words_of_the_source() {
    let node = node();
    let mut client = node.client();
    client.put(&kv("patch"), "41");
    let message = |text: &str| format!(r#"{{"message":"{text}"}}"#);
    let counted = |text: &str, value: i64| format!(r#"{{"message":"{text}","value":{value}}}"#);
    let patched = client.patch(&kv("patch"), "increment");
    assert_answer(&patched, 200, &counted("The specified key was successfully incremented.", 42));
    let patched = client.patch(&kv("patch"), "decrement");
    assert_answer(&patched, 200, &counted("The specified key was successfully decremented.", 41));
    let patched = client.patch(&kv("patch"), "lock");
    assert_answer(&patched, 200, &message("The specified key was successfully locked."));
    let patched = client.patch(&kv("patch"), "lock");
    assert_refusal(&patched, 409, "The specified key is already locked.");
    let patched = client.patch(&kv("patch"), "unlock");
    assert_answer(&patched, 200, &message("The specified key was successfully unlocked."));
    let patched = client.patch(&kv("patch"), "unlock");
    assert_refusal(&patched, 409, "The specified key is not currently locked.");
    let patched = client.patch(&kv("patch"), "xyz");
    assert_refusal(&patched, 400, "Invalid Operation \"xyz\".");
    client.put(&kv("patch-text"), "no number");
    let patched = client.patch(&kv("patch-text"), "increment");
    assert_refusal(&patched, 400, "The specified key is not a valid numeric value.");
    for body in [r#"{"operation":"ttl","value":"60"}"#, "persist"] {
        let patched = client.patch(&kv("patch"), body).expect(200);
        assert!(!patched.message().is_empty(), "{patched}");
    }
}

#[test]
fn a_caller_without_a_credential_gets_the_one_401() {
    let node = node();
    let mut client = node.stranger();
    for (method, path, body) in [
        ("GET", kv("k"), ""),
        ("PUT", kv("k"), ""),
        ("DELETE", kv("k"), ""),
        ("PATCH", kv("k"), ""),
        ("GET", "/api/kv".into(), ""),
        ("POST", "/api/kv/batch".into(), ""),
    ] {
        let refused = client.call(method, &path, &[], body.as_bytes());
        assert_answer(&refused, 401, REFUSED);
        assert!(refused.expect_field("www-authenticate").starts_with("Bearer"), "{refused}");
        if refused.closes() {
            client = node.stranger();
        }
    }
    assert_eq!(client.call("HEAD", &kv("k"), &[], b"").status, 401);
}

/// What GET and HEAD must agree on: everything but Date.
#[track_caller]
fn assert_parity(client: &mut Client, path: &str, fields: &[(&str, &str)], status: u16) {
    let got = client.call("GET", path, fields, b"").expect(status);
    let head = client.call("HEAD", path, fields, b"").expect(status);
    assert_eq!(got.fields_sorted(), head.fields_sorted(), "GET and HEAD of {path} differ");
    if status != 304 {
        assert_eq!(head.content_length(), Some(got.body.len() as u64));
    }
}

#[test]
fn head_answers_what_get_answers_without_the_body() {
    let node = node();
    let mut client = node.client();
    client.call("PUT", &kv("head"), &[("Content-Type", "text/css"), ("X-TTL", "500000")], b"hello");
    client.put(&kv("head-empty"), "");
    client.put(&kv("head-large"), vec![7; 300_000]);
    assert_parity(&mut client, &kv("head"), &[], 200);
    assert_parity(&mut client, &kv("head-empty"), &[], 200);
    assert_parity(&mut client, &kv("head-large"), &[], 200);
    assert_parity(&mut client, &kv("head-absent"), &[], 404);
    assert_parity(&mut client, &kv("head"), &[("If-None-Match", "*")], 304);
    assert_parity(&mut client, "/api/kv?prefix=head", &[], 200);
    assert_parity(&mut client, "/", &[], 200);
    assert_parity(&mut client, "/health", &[], 200);
    assert_parity(&mut client, "/nowhere", &[], 404);
    let mut stranger = node.stranger();
    assert_parity(&mut stranger, &kv("head"), &[], 401);
    let mut writer = node.stranger().with_token(&token::with_grants(&["kv:write"]));
    assert_parity(&mut writer, &kv("head"), &[], 403);
}

#[test]
fn an_unknown_path_is_404_and_a_wrong_method_405_with_allow() {
    let node = node();
    let mut client = node.client();
    for path in ["/api", "/api/", "/api/kvx", "/API/kv/a", "/kv/a", "/health/", "/nowhere", "//api/kv/a"] {
        let missed = client.get(path).expect(404);
        assert!(!missed.message().is_empty(), "{missed}");
    }
    let refused = client.call("POST", &kv("a"), &[], b"").expect(405);
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        assert!(refused.lists("allow", method), "{method}: {refused}");
    }
    assert!(!refused.lists("allow", "POST"), "{refused}");
    let refused = client.delete("/api/kv").expect(405);
    assert!(refused.lists("allow", "GET") && refused.lists("allow", "HEAD"), "{refused}");
    assert!(!refused.lists("allow", "PUT"), "{refused}");
}

#[test]
fn a_put_answers_the_tag_that_a_get_will_show() {
    let node = node();
    let mut client = node.client();
    let created = client.put(&kv("tagged"), "1").expect(201);
    assert_eq!(client.get(&kv("tagged")).field("etag"), created.field("etag"));
    let updated = client.put(&kv("tagged"), "2").expect(200);
    assert_eq!(client.get(&kv("tagged")).field("etag"), updated.field("etag"));
    assert_ne!(created.expect_field("etag"), updated.expect_field("etag"));
}

#[test]
fn problem_json_comes_to_those_who_accept_it() {
    let node = node();
    let mut client = node.client();
    let problem = [("Accept", "application/problem+json")];
    for (method, path, status) in [("GET", kv("absent"), 404), ("POST", kv("a"), 405), ("GET", kv(""), 400)] {
        let refused = client.call(method, &path, &problem, b"").expect(status);
        assert_eq!(refused.field("content-type"), Some("application/problem+json"), "{refused}");
        let body: serde_json::Value = serde_json::from_slice(&refused.body).unwrap();
        assert_eq!(body["status"], json!(status), "{refused}");
        assert!(body["title"].is_string() && body["type"].is_string(), "{refused}");
    }
    let mut stranger = node.stranger();
    let refused = stranger.call("GET", &kv("a"), &problem, b"").expect(401);
    assert!(refused.text().contains("You are not allowed to perform this action."), "{refused}");
}
