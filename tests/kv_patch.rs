//! PATCH: its three forms, counters at their edges, locks with leases and fencing tokens.

mod common;

use common::{Client, Node, Shared, kv, token};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|setup| {
        setup.workers(2);
    })
}

const NOT_NUMERIC: &str = "The specified key is not a valid numeric value.";

#[test]
fn json_form_and_bare_word_mean_the_same_in_any_case() {
    let node = node();
    let mut client = node.client();
    let path = kv("forms");
    client.put(&path, "0");
    let bodies = [
        r#"{"operation":"increment"}"#,
        r#"{"operation":"INCREMENT","value":null}"#,
        r#" {"value":1,"operation":"Increment","unknown":[{}]} "#,
        r#"{"operation":"increment","value":"1"}"#,
        "operation=increment",
        "operation=INCREMENT&value=1",
        "value=1&operation=Increment",
        "operation=%69ncrement&value=%31",
        "increment",
        "INCREMENT",
        "Increment",
        "increment\n",
    ];
    let types = [
        None,
        Some("application/json"),
        Some("application/x-www-form-urlencoded"),
        Some("text/plain"),
        Some("image/png"),
    ];
    let mut expected = 0;
    for body in bodies {
        for content_type in types {
            expected += 1;
            let fields: Vec<_> = content_type.iter().map(|it| ("Content-Type", *it)).collect();
            let patched = client.call("PATCH", &path, &fields, body.as_bytes()).expect(200);
            assert_eq!(patched.json()["value"], expected, "{body} as {content_type:?}");
        }
    }
    assert_eq!(client.get(&path).text(), expected.to_string());
}

#[test]
fn a_body_that_is_none_of_the_three_is_400_and_changes_nothing() {
    let node = node();
    let mut client = node.client();
    let path = kv("bad-forms");
    client.put(&path, "0");
    let deep = "[".repeat(3_000);
    for body in [
        "",
        "{",
        "{}",
        "[]",
        "null",
        "\"increment\"",
        r#"{"operation":1}"#,
        r#"{"operation":null}"#,
        r#"{"operation":"increment","value":[1]}"#,
        r#"{"operation":"increment","value":{}}"#,
        r#"{"operation":"increment","value":"x"}"#,
        r#"{"operation":"increment","value":true}"#,
        r#"{"operation":"increment"} trailing"#,
        "value=1",
        "operation=",
        "operation=increment&value=x",
        "operation=%zz",
        "\u{0}",
        "increment increment",
        &deep,
        r#"{"operation":"lock","value":0}"#,
        r#"{"operation":"lock","value":-1}"#,
        r#"{"operation":"lock","value":1.5}"#,
        r#"{"operation":"lock","value":4294967296}"#,
        r#"{"operation":"lock","value":"x"}"#,
    ] {
        let refused = client.patch(&path, body).expect(400);
        assert!(!refused.message().is_empty(), "{body:?}");
    }
    client.call("PATCH", &path, &[], b"\xff\xfe").expect(400);
    assert_eq!(client.get(&path).text(), "0");
    client.patch(&path, "unlock").expect(409);
}

#[test]
fn an_unknown_operation_is_named_in_the_answer() {
    let node = node();
    let mut client = node.client();
    client.put(&kv("unknown"), "0");
    for body in [r#"{"operation":"xyz"}"#, "operation=xyz", "xyz"] {
        let refused = client.patch(&kv("unknown"), body).expect(400);
        assert_eq!(refused.message(), "Invalid Operation \"xyz\".");
    }
    let refused = client.patch(&kv("unknown"), r#"{"operation":"x\"\\\u0001y"}"#).expect(400);
    assert_eq!(refused.message(), "Invalid Operation \"x\"\\\u{1}y\".");
}

#[test]
fn a_body_over_its_bound_is_413() {
    let node = node();
    let mut client = node.client();
    client.put(&kv("long"), "0");
    let body = |bytes: usize| {
        let start = r#"{"operation":"increment","pad":""#;
        format!("{start}{}\"}}", "x".repeat(bytes - start.len() - 2))
    };
    client.patch(&kv("long"), body(4_095)).expect(200);
    client.patch(&kv("long"), body(4_096)).expect(200);
    client.patch(&kv("long"), body(4_097)).expect(413);
    let mut client = node.client();
    assert_eq!(client.get(&kv("long")).text(), "2");
    let chunked = common::chunked(body(4_097).as_bytes(), 100);
    client.call("PATCH", &kv("long"), &[("Transfer-Encoding", "chunked")], &chunked).expect(413);
    let mut client = node.client();
    let chunked = common::chunked(body(4_096).as_bytes(), 100);
    client.call("PATCH", &kv("long"), &[("Transfer-Encoding", "chunked")], &chunked).expect(200);
}

/// Puts `start`, applies the operation with `step` (JSON), and gives status and what the key holds.
fn count(client: &mut Client, start: &str, operation: &str, step: &str) -> (u16, String) {
    let path = kv("counter");
    client.put(&path, start);
    let body = format!(r#"{{"operation":"{operation}","value":{step}}}"#);
    let patched = client.patch(&path, body);
    let held = client.get(&path).text();
    if patched.status == 200 {
        assert!(patched.text().ends_with(&format!("\"value\":{held}}}")), "{patched}");
    }
    (patched.status, held)
}

#[test]
fn integers_are_exact_in_all_of_64_bits() {
    let node = node();
    let mut client = node.client();
    let (max, min) = ("9223372036854775807", "-9223372036854775808");
    for (start, operation, step, held) in [
        ("0", "increment", "1", "1"),
        ("0", "decrement", "1", "-1"),
        ("-1", "increment", "1", "0"),
        ("10", "increment", "-3", "7"),
        ("10", "decrement", "-3", "13"),
        ("9007199254740993", "increment", "1", "9007199254740994"),
        ("9007199254740993", "increment", "\"2\"", "9007199254740995"),
        ("9223372036854775806", "increment", "1", max),
        ("0", "increment", max, max),
        ("0", "increment", min, min),
        ("0", "decrement", max, "-9223372036854775807"),
        ("-1", "decrement", min, max),
        (min, "increment", max, "-1"),
        (max, "increment", min, "-1"),
        (max, "decrement", max, "0"),
        ("-9223372036854775807", "decrement", "1", min),
        (max, "increment", "0", max),
        (min, "decrement", "0", min),
    ] {
        let got = count(&mut client, start, operation, step);
        assert_eq!(got, (200, held.to_string()), "{start} {operation} {step}");
    }
}

#[test]
fn a_counter_that_would_overflow_is_400_and_keeps_its_value() {
    let node = node();
    let mut client = node.client();
    let (max, min) = ("9223372036854775807", "-9223372036854775808");
    for (start, operation, step) in [
        (max, "increment", "1"),
        (max, "increment", max),
        (min, "decrement", "1"),
        (min, "increment", "-1"),
        (min, "increment", min),
        ("0", "decrement", min),
        (max, "decrement", "-1"),
        (max, "decrement", min),
    ] {
        let got = count(&mut client, start, operation, step);
        assert_eq!(got, (400, start.to_string()), "{start} {operation} {step}");
    }
    let largest = format!("{}", f64::MAX);
    let got = count(&mut client, &largest, "increment", "1.7976931348623157e308");
    assert_eq!(got, (400, largest), "finite only");
}

#[test]
fn decimals_are_doubles_in_their_shortest_form() {
    let node = node();
    let mut client = node.client();
    for (start, operation, step, held) in [
        ("1.5", "increment", "1", 2.5),
        ("0.1", "increment", "0.2", 0.1 + 0.2),
        ("1", "increment", "0.5", 1.5),
        ("-2.25", "decrement", "0.5", -2.75),
        ("1e3", "increment", "0.5", 1000.5),
        ("2.5", "increment", "\"0.75\"", 3.25),
        ("1e300", "increment", "1e300", 2e300),
        ("1e-300", "increment", "1e-300", 2e-300),
    ] {
        let (status, got) = count(&mut client, start, operation, step);
        assert_eq!((status, got.parse::<f64>().ok()), (200, Some(held)), "{start} {operation} {step}: {got}");
        let shortest = [format!("{held}"), format!("{held:?}"), json!(held).to_string()];
        assert!(shortest.contains(&got), "{got} is not the shortest form of {held}");
    }
}

#[test]
fn what_is_no_number_is_refused_and_left_alone() {
    let node = node();
    let mut client = node.client();
    let path = kv("text");
    for text in
        ["", "abc", "12abc", "--1", "1.2.3", "0x10", "nan", "NaN", "inf", "-Infinity", "1_000", "1,5", "true"]
    {
        client.put(&path, text);
        let tag = client.get(&path).expect_field("etag").to_string();
        let refused = client.patch(&path, "increment").expect(400);
        assert_eq!(refused.message(), NOT_NUMERIC, "{text:?}");
        let got = client.get(&path);
        assert_eq!((got.text().as_str(), got.field("etag")), (text, Some(&*tag)));
    }
    client.put(&path, [0xff, 0xfe, 0x31]);
    assert_eq!(client.patch(&path, "increment").expect(400).message(), NOT_NUMERIC);
    client.put(&path, "1".repeat(100_000));
    let refused = client.patch(&path, "increment").expect(400);
    assert!(!refused.message().is_empty());
    assert_eq!(client.get(&path).body.len(), 100_000);
}

#[test]
fn a_counter_keeps_its_type_and_ttl_and_gets_a_new_tag() {
    let node = node();
    let mut client = node.client();
    let path = kv("keeps");
    let fields = [("Content-Type", "text/x-number"), ("X-TTL", "1000")];
    client.call("PUT", &path, &fields, b"5").expect(201);
    let before = client.get(&path);
    let patched = client.patch(&path, "increment").expect(200);
    let behind = client.get(&path);
    assert_eq!(behind.text(), "6");
    assert_eq!(behind.field("content-type"), Some("text/x-number"));
    assert!(behind.expect_field("x-ttl").parse::<u32>().unwrap() > 900);
    assert_ne!(before.field("etag"), behind.field("etag"));
    if let Some(tag) = patched.field("etag") {
        assert_eq!(Some(tag), behind.field("etag"));
    }
}

/// Locks and gives the fencing token.
fn lock(client: &mut Client, path: &str, body: &str) -> u64 {
    let locked = client.patch(path, body).expect(200);
    locked.expect_field("x-fencing-token").parse().expect("a number")
}

#[test]
fn fencing_tokens_rise_and_pass_the_lock_without_freeing_it() {
    let node = node();
    let mut client = node.client();
    let path = kv("fenced");
    client.put(&path, "1");
    let mut last = 0;
    for _ in 0..10 {
        let token = lock(&mut client, &path, "lock");
        assert!(token > last, "{token} behind {last}");
        last = token;
        client.patch(&path, "unlock").expect(200);
    }
    let old = last.to_string();
    let token = lock(&mut client, &path, "lock").to_string();
    let with = |token: &'static str| [("X-Fencing-Token", token)];
    let (old, token): (&'static str, &'static str) = (old.leak(), token.leak());
    client.call("PUT", &path, &with(old), b"2").expect(409);
    client.call("PATCH", &path, &with(old), b"increment").expect(409);
    client.call("DELETE", &path, &with(old), b"").expect(409);
    client.call("PUT", &path, &with(token), b"2").expect(200);
    client.put(&path, "3").expect(409);
    client.call("PATCH", &path, &with(token), b"increment").expect(200);
    client.call("PATCH", &path, &with(token), br#"{"operation":"ttl","value":60}"#).expect(200);
    client.call("PATCH", &path, &with(token), b"persist").expect(200);
    client.patch(&path, "increment").expect(409);
    assert_eq!(client.get(&path).text(), "3");
    client.call("DELETE", &path, &with(token), b"").expect(200);
    client.put(&path, "free again").expect(201);
    client.put(&path, "free again").expect(200);
}

#[test]
fn a_malformed_fencing_token_passes_nothing() {
    let node = node();
    let mut client = node.client();
    let path = kv("misfenced");
    client.put(&path, "1");
    let token = lock(&mut client, &path, "lock");
    for shown in ["", "x", "-1", "99999999999999999999999999", &format!("{token}x"), &format!("{token}.0")] {
        let refused = client.call("PUT", &path, &[("X-Fencing-Token", shown)], b"2");
        assert!([400, 409].contains(&refused.status), "{shown:?}: {refused}");
    }
    assert_eq!(client.get(&path).text(), "1");
}

#[test]
fn tokens_of_a_key_rise_across_deletion_too() {
    let node = node();
    let mut client = node.client();
    let path = kv("refenced");
    let mut last = 0;
    for _ in 0..5 {
        client.put(&path, "1").expect(201);
        let token = lock(&mut client, &path, "lock");
        assert!(token > last, "{token} behind {last}");
        last = token;
        client.call("DELETE", &path, &[("X-Fencing-Token", &token.to_string())], b"").expect(200);
    }
}

#[test]
fn locks_and_times_leave_tag_and_date_alone() {
    let node = node();
    let mut client = node.client();
    let path = kv("untouched");
    client.put(&path, "1");
    let before = client.get(&path);
    for body in [
        "lock",
        "unlock",
        r#"{"operation":"ttl","value":1000}"#,
        "persist",
        r#"{"operation":"lock","value":9}"#,
    ] {
        client.patch(&path, body).expect(200);
        let behind = client.get(&path);
        assert_eq!(before.field("etag"), behind.field("etag"), "{body}");
        assert_eq!(before.field("last-modified"), behind.field("last-modified"), "{body}");
    }
}

#[test]
fn a_lock_without_a_lease_is_freed_by_any_unlock() {
    let node = node();
    let mut client = node.client();
    let mut other = node.stranger().with_token(&token::with_grants(&["kv:lock"]));
    client.put(&kv("plain-lock"), "1");
    client.patch(&kv("plain-lock"), "lock").expect(200);
    other.patch(&kv("plain-lock"), "unlock").expect(200);
    client.put(&kv("plain-lock"), "2").expect(200);
}

#[test]
fn a_leased_lock_needs_its_token_or_an_admin_to_be_freed() {
    let node = node();
    let mut admin = node.client();
    let mut other = node.stranger().with_token(&token::with_grants(&["kv:lock", "kv:write"]));
    let path = kv("leased");
    let leased = r#"{"operation":"lock","value":600}"#;
    admin.put(&path, "1");
    let token = lock(&mut other, &path, leased).to_string();
    other.patch(&path, "unlock").expect(409);
    other.call("PATCH", &path, &[("X-Fencing-Token", "1")], b"unlock").expect(409);
    other.call("PATCH", &path, &[("X-Fencing-Token", &token)], b"unlock").expect(200);
    other.put(&path, "2").expect(200);
    lock(&mut other, &path, "operation=lock&value=600");
    other.put(&path, "3").expect(409);
    admin.patch(&path, "unlock").expect(200);
    other.put(&path, "3").expect(200);
}

#[test]
fn a_lease_frees_itself_in_time() {
    let node = node();
    let mut client = node.client();
    let path = kv("lease-ends");
    client.put(&path, "1");
    let asked = Instant::now();
    let old = lock(&mut client, &path, r#"{"operation":"lock","value":1}"#);
    let locked = Instant::now();
    loop {
        let tried = Instant::now();
        match client.put(&path, "2").status {
            409 => assert!(tried <= locked + Duration::from_millis(1_010), "held past its lease"),
            200 => break assert!(Instant::now() >= asked + Duration::from_millis(998), "freed too early"),
            other => panic!("{other}"),
        }
    }
    client.patch(&path, "unlock").expect(409);
    let new = lock(&mut client, &path, "lock");
    assert!(new > old);
    let stale = old.to_string();
    client.call("PUT", &path, &[("X-Fencing-Token", &stale)], b"3").expect(409);
}

#[test]
fn a_lock_does_not_hinder_reading() {
    let node = node();
    let mut client = node.client();
    let path = kv("readable");
    client.put(&path, "1");
    client.patch(&path, "lock").expect(200);
    assert_eq!(client.get(&path).expect(200).text(), "1");
    client.call("HEAD", &path, &[], b"").expect(200);
    let listed = client.get("/api/kv?prefix=readable").expect(200).json();
    assert_eq!(listed["keys"][0]["name"], "readable");
}

#[test]
fn each_operation_needs_its_own_grant() {
    let node = node();
    let mut root = node.client();
    let path = kv("granted");
    root.put(&path, "1");
    let ttl = r#"{"operation":"ttl","value":60}"#;
    for (grant, allowed, refused) in [
        ("kv:lock", ["lock", "unlock"].as_slice(), ["increment", "decrement", "persist", ttl].as_slice()),
        ("kv:write", &["increment", "decrement", "persist", ttl], &["lock", "unlock"]),
    ] {
        let mut client = node.stranger().with_token(&token::with_grants(&[grant]));
        for body in allowed {
            client.patch(&path, body).expect(200);
        }
        for body in refused {
            let answer = client.patch(&path, body).expect(403);
            assert_ne!(answer.expect_field("x-required-grants"), grant, "{body}");
        }
    }
    let mut reader = node.stranger().with_token(&token::with_grants(&["kv:read", "kv:delete"]));
    reader.patch(&path, "lock").expect(403);
}

#[test]
fn the_answer_of_a_counter_is_a_json_number() {
    let node = node();
    let mut client = node.client();
    client.put(&kv("typed"), "1");
    assert_eq!(client.patch(&kv("typed"), "increment").json()["value"], Value::from(2));
    client.put(&kv("typed"), "1.25");
    assert_eq!(client.patch(&kv("typed"), "increment").json()["value"], Value::from(2.25));
}
