//! Times to live: how they are given and shown, and that an expired key is absent everywhere, in time.

mod common;

use common::{Client, Node, Shared, kv};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|setup| {
        setup.workers(2);
    })
}

fn ttl_of(client: &mut Client, path: &str) -> Option<u64> {
    let got = client.get(path).expect(200);
    got.field("x-ttl").map(|seconds| seconds.parse().expect("seconds"))
}

#[test]
fn a_ttl_comes_in_three_ways_and_goes_out_as_seconds_left() {
    let node = node();
    let mut client = node.client();
    client.put(&format!("{}?ttl=1000", kv("query")), "x").expect(201);
    client.call("PUT", &kv("field"), &[("X-TTL", "1000")], b"x").expect(201);
    client.call("PUT", &kv("age"), &[("Cache-Control", "max-age=1000")], b"x").expect(201);
    client.call("PUT", &kv("ages"), &[("Cache-Control", "no-transform, Max-Age=1000")], b"x").expect(201);
    for key in ["query", "field", "age", "ages"] {
        let left = ttl_of(&mut client, &kv(key)).unwrap_or_else(|| panic!("{key} has no X-TTL"));
        assert!((990..=1000).contains(&left), "{key}: {left}");
    }
    client.call("PUT", &kv("plain"), &[("Cache-Control", "no-cache")], b"x").expect(201);
    assert_eq!(ttl_of(&mut client, &kv("plain")), None);
}

#[test]
fn the_seconds_left_are_rounded_up() {
    let node = node();
    let mut client = node.client();
    // Both answers come well within the first second, so nothing but rounding up gives the full number.
    let began = Instant::now();
    client.put(&format!("{}?ttl=2", kv("rounded")), "x");
    let left = ttl_of(&mut client, &kv("rounded"));
    if began.elapsed() < Duration::from_millis(950) {
        assert_eq!(left, Some(2));
    }
    // And in its last second an entry still shows 1.
    client.put(&format!("{}?ttl=1", kv("rounded-last")), "x");
    loop {
        let got = client.get(&kv("rounded-last"));
        if got.status == 404 {
            break;
        }
        assert_eq!(got.field("x-ttl"), Some("1"), "{got}");
    }
}

#[test]
fn a_ttl_is_a_whole_number_from_1_to_4294967295() {
    let node = node();
    let mut client = node.client();
    let path = kv("bounds");
    for good in ["1", "4294967294", "4294967295"] {
        client.put(&format!("{path}?ttl={good}"), "x").expect(if good == "1" { 201 } else { 200 });
        client.call("PUT", &path, &[("X-TTL", good)], b"x").expect(200);
    }
    assert_eq!(ttl_of(&mut client, &path), Some(4_294_967_295));
    for bad in ["0", "-1", "1.5", "abc", "4294967296", "99999999999999999999999", "1e3", "0x10", "+5", "5s"] {
        let query = format!("{path}?ttl={}", bad.replace('+', "%2B"));
        client.put(&query, "bad").expect(400);
        client.call("PUT", &path, &[("X-TTL", bad)], b"bad").expect(400);
    }
    client.put(&format!("{path}?ttl="), "bad").expect(400);
    client.call("PUT", &path, &[("Cache-Control", "max-age=0")], b"bad").expect(400);
    client.call("PUT", &path, &[("Cache-Control", "max-age=x")], b"bad").expect(400);
    assert_eq!(client.get(&path).body, b"x");
    for bad in ["0", "-1", "1.5", "\"abc\"", "4294967296", "true", "[1]", "\"\""] {
        client.patch(&path, format!(r#"{{"operation":"ttl","value":{bad}}}"#)).expect(400);
    }
    client.patch(&path, r#"{"operation":"ttl"}"#).expect(400);
    assert!(ttl_of(&mut client, &path) > Some(4_294_967_200));
}

#[test]
fn ttls_that_disagree_are_400_and_those_that_agree_are_one() {
    let node = node();
    let mut client = node.client();
    let path = kv("disagree");
    let query = format!("{path}?ttl=60");
    client.call("PUT", &query, &[("X-TTL", "61")], b"x").expect(400);
    client.call("PUT", &query, &[("Cache-Control", "max-age=61")], b"x").expect(400);
    client.call("PUT", &path, &[("X-TTL", "60"), ("Cache-Control", "max-age=61")], b"x").expect(400);
    client.get(&path).expect(404);
    client.call("PUT", &query, &[("X-TTL", "60"), ("Cache-Control", "max-age=60")], b"x").expect(201);
    assert_eq!(ttl_of(&mut client, &path), Some(60));
}

#[test]
fn a_put_without_a_ttl_clears_it() {
    let node = node();
    let mut client = node.client();
    let path = kv("cleared");
    client.put(&format!("{path}?ttl=100"), "x");
    client.put(&path, "y").expect(200);
    assert_eq!(ttl_of(&mut client, &path), None);
}

#[test]
fn the_default_of_the_file_applies_to_puts_that_name_none() {
    let node = Node::start(|setup| {
        setup.set("store.default_ttl", 300);
    });
    let mut client = node.client();
    client.put(&kv("default"), "x");
    assert_eq!(ttl_of(&mut client, &kv("default")), Some(300));
    client.put(&format!("{}?ttl=900", kv("default")), "x");
    assert_eq!(ttl_of(&mut client, &kv("default")), Some(900));
    client.put(&kv("default"), "x");
    assert_eq!(ttl_of(&mut client, &kv("default")), Some(300));
    client.patch(&kv("default"), "persist").expect(200);
    assert_eq!(ttl_of(&mut client, &kv("default")), None);
}

#[test]
fn patch_sets_and_cancels_a_ttl_and_leaves_the_tag_alone() {
    let node = node();
    let mut client = node.client();
    let path = kv("patched");
    client.put(&path, "x");
    let before = client.get(&path);
    for body in [
        r#"{"operation":"ttl","value":700}"#,
        r#"{"operation":"TTL","value":"700"}"#,
        "operation=ttl&value=700",
    ] {
        client.patch(&path, body).expect(200);
        assert_eq!(ttl_of(&mut client, &path), Some(700), "{body}");
        client.patch(&path, "persist").expect(200);
        assert_eq!(ttl_of(&mut client, &path), None, "{body}");
    }
    let behind = client.get(&path);
    assert_eq!(before.field("etag"), behind.field("etag"));
    assert_eq!(before.field("last-modified"), behind.field("last-modified"));
}

#[test]
fn an_entry_lives_its_second_and_is_gone_within_10_ms_of_its_end() {
    let node = node();
    let mut client = node.client();
    let path = kv("second");
    let sent = Instant::now();
    client.put(&format!("{path}?ttl=1"), "x").expect(201);
    let stored = Instant::now();
    let life = Duration::from_secs(1);
    loop {
        let asked = Instant::now();
        let got = client.get(&path);
        let answered = Instant::now();
        if got.status == 404 {
            // A turn reads the clock once, in whole milliseconds, hence the 2 ms.
            assert!(answered >= sent + life - Duration::from_millis(2), "gone after {:?}", answered - sent);
            break;
        }
        assert!(asked <= stored + life + Duration::from_millis(10), "alive after {:?}", asked - stored);
    }
}

#[test]
fn an_expired_key_is_absent_everywhere() {
    let node = node();
    let mut client = node.client();
    let names = ["head", "delete", "patch", "create", "exists", "match", "batch", "locked", "canary"];
    for name in names {
        let key = kv(format!("gone-{name}"));
        client.put(&format!("{key}?ttl=1"), "1").expect(201);
    }
    client.patch(&kv("gone-locked"), "lock").expect(200);
    while client.get(&kv("gone-canary")).status == 200 {}
    client.call("HEAD", &kv("gone-head"), &[], b"").expect(404);
    client.delete(&kv("gone-delete")).expect(404);
    client.patch(&kv("gone-patch"), "increment").expect(404);
    client.call("PUT", &kv("gone-create"), &[("If-None-Match", "*")], b"2").expect(201);
    client.put(&format!("{}?if=exists", kv("gone-exists")), "2").expect(404);
    client.call("PUT", &kv("gone-match"), &[("If-Match", "*")], b"2").expect(412);
    client.put(&kv("gone-locked"), "2").expect(201);
    let batch =
        client.call("POST", "/api/kv/batch", &[], br#"[{"op":"get","key":"gone-batch"}]"#).expect(200);
    assert_eq!(batch.json()["results"][0]["status"], 404);
    let listed = client.get("/api/kv?prefix=gone-").expect(200).json();
    let left: Vec<_> = listed["keys"].as_array().unwrap().iter().map(|key| key["name"].clone()).collect();
    assert_eq!(left, [json!("gone-create"), json!("gone-locked")]);
}
