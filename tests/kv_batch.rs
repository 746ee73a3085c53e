//! Batches: many operations in one request, answered in order, each on its own.

mod common;

use common::{Client, Node, Response, Shared, kv, token};
use serde_json::{Value, json};
use std::sync::Arc;

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|setup| {
        setup.workers(2);
    })
}

fn post(client: &mut Client, operations: &Value) -> Response {
    client.call(
        "POST",
        "/api/kv/batch",
        &[("Content-Type", "application/json")],
        operations.to_string().as_bytes(),
    )
}

#[track_caller]
fn results(client: &mut Client, operations: Value) -> Vec<Value> {
    let asked = operations.as_array().expect("an array").len();
    let answer = post(client, &operations).expect(200).json();
    let results = answer["results"].as_array().expect("results").clone();
    assert_eq!(results.len(), asked, "{answer}");
    results
}

fn statuses(results: &[Value]) -> Vec<u64> {
    results.iter().map(|result| result["status"].as_u64().expect("a status")).collect()
}

#[test]
fn operations_are_answered_in_order() {
    let node = node();
    let mut client = node.client();
    let got = results(
        &mut client,
        json!([
            { "op": "get", "key": "b:1" },
            { "op": "put", "key": "b:1", "value": "one" },
            { "op": "get", "key": "b:1" },
            { "op": "put", "key": "b:1", "value": "two" },
            { "op": "get", "key": "b:1" },
            { "op": "put", "key": "b:n", "value": "40" },
            { "op": "increment", "key": "b:n" },
            { "op": "increment", "key": "b:n", "value": 5 },
            { "op": "get", "key": "b:n" },
            { "op": "ttl", "key": "b:n", "value": 600 },
            { "op": "delete", "key": "b:1" },
            { "op": "get", "key": "b:1" },
            { "op": "delete", "key": "b:1" },
            { "op": "increment", "key": "b:1" },
            { "op": "ttl", "key": "b:1", "value": 600 }
        ]),
    );
    assert_eq!(statuses(&got), [404, 201, 200, 200, 200, 201, 200, 200, 200, 200, 200, 404, 404, 404, 404]);
    assert_eq!(got[2]["value"], "one");
    assert_eq!(got[4]["value"], "two");
    assert_eq!(got[6]["value"], 41);
    assert_eq!(got[7]["value"], 46);
    assert_eq!(got[8]["value"], "46");
    let seen = client.get(&kv("b:n")).expect(200);
    assert_eq!(
        got[8]["etag"].as_str().map(|tag| tag.trim_matches('"')),
        seen.field("etag").map(|tag| tag.trim_matches('"'))
    );
    assert!(seen.field("x-ttl").is_some());
    client.get(&kv("b:1")).expect(404);
}

#[test]
fn binary_values_go_both_ways_as_base64() {
    let node = node();
    let mut client = node.client();
    let got = results(
        &mut client,
        json!([
            { "op": "put", "key": "bin", "base64": "AAH//g==" },
            { "op": "get", "key": "bin" },
            { "op": "put", "key": "text64", "base64": "aMOp" },
            { "op": "get", "key": "text64" },
            { "op": "put", "key": "none", "value": "" },
            { "op": "get", "key": "none" },
            { "op": "put", "key": "bad64", "base64": "A!" },
            { "op": "put", "key": "both", "value": "x", "base64": "eA==" },
            { "op": "put", "key": "neither" }
        ]),
    );
    assert_eq!(statuses(&got), [201, 200, 201, 200, 201, 200, 400, 400, 400]);
    assert_eq!(got[1]["base64"], "AAH//g==");
    assert!(got[1].get("value").is_none_or(Value::is_null), "{}", got[1]);
    assert_eq!(got[3]["value"], "h\u{e9}");
    assert_eq!(got[5]["value"], "");
    assert_eq!(client.get(&kv("bin")).body, [0, 1, 0xff, 0xfe]);
}

#[test]
fn one_bad_operation_does_not_hurt_its_neighbours() {
    let node = node();
    let mut client = node.client();
    client.put(&kv("held"), "1");
    client.patch(&kv("held"), "lock").expect(200);
    client.put(&kv("words"), "no number");
    let got = results(
        &mut client,
        json!([
            { "op": "put", "key": "good:1", "value": "x" },
            { "op": "explode", "key": "k" },
            { "op": "put", "key": "", "value": "x" },
            { "op": "get", "key": "k".repeat(1_025) },
            { "op": "get" },
            { "key": "k" },
            { "op": "increment", "key": "words" },
            { "op": "put", "key": "held", "value": "2" },
            { "op": "delete", "key": "held" },
            { "op": "ttl", "key": "words", "value": 0 },
            { "op": "put", "key": "good:2", "value": "x" }
        ]),
    );
    assert_eq!(statuses(&got), [201, 400, 400, 414, 400, 400, 400, 409, 409, 400, 201]);
    assert_eq!(client.get(&kv("held")).text(), "1");
}

#[test]
fn a_batch_holds_at_most_1000_operations() {
    let node = node();
    let mut client = node.client();
    assert_eq!(results(&mut client, json!([])), Vec::<Value>::new());
    let many = |count: usize| -> Value {
        (0..count).map(|at| json!({ "op": "put", "key": format!("many:{at}"), "value": "x" })).collect()
    };
    assert!(statuses(&results(&mut client, many(999))).iter().all(|status| *status == 201));
    assert_eq!(
        statuses(&results(&mut client, many(1_000))).iter().filter(|status| **status == 201).count(),
        1
    );
    let refused = post(&mut client, &many(1_001));
    assert!([400, 413].contains(&refused.status), "{refused}");
    let mut client = node.client();
    client.get(&kv("many:1000")).expect(404);
}

#[test]
fn what_is_no_array_of_operations_is_400() {
    let node = node();
    let mut client = node.client();
    for body in ["", "{", "{}", "null", "[", "[1", "\"x\"", "[] []", "\u{0}"] {
        client.call("POST", "/api/kv/batch", &[], body.as_bytes()).expect(400);
    }
    client.call("POST", "/api/kv/batch", &[], "[".repeat(100_000).as_bytes()).expect(400);
    client.call("POST", "/api/kv/batch", &[], b"[\xff]").expect(400);
}

#[test]
fn gets_past_8_mib_of_answer_are_413_each() {
    let node = node();
    let mut client = node.client();
    let value = "v".repeat(3 * 1024 * 1024);
    for key in ["big:1", "big:2", "big:3"] {
        client.put(&kv(key), &value).expect(201);
    }
    client.put(&kv("small"), "s");
    let keys = ["big:1", "big:2", "big:3", "small"];
    let operations: Value = keys.iter().map(|key| json!({ "op": "get", "key": key })).collect();
    let got = results(&mut client, operations);
    assert_eq!(statuses(&got)[..3], [200, 200, 413]);
    assert!(got[0]["value"] == value.as_str() && got[1]["value"] == value.as_str());
    assert!(got[2].get("value").is_none_or(Value::is_null));
}

#[test]
fn every_operation_needs_its_own_grant() {
    let node = node();
    let mut root = node.client();
    root.put(&kv("granted"), "1");
    let operations = json!([
        { "op": "get", "key": "granted" },
        { "op": "put", "key": "granted", "value": "2" },
        { "op": "increment", "key": "granted" },
        { "op": "ttl", "key": "granted", "value": 100 },
        { "op": "delete", "key": "granted" }
    ]);
    for (grant, expected) in [
        ("kv:read", [200, 403, 403, 403, 403]),
        ("kv:write", [403, 200, 200, 200, 403]),
        ("kv:delete", [403, 403, 403, 403, 200]),
    ] {
        let mut client = node.stranger().with_token(&token::with_grants(&[grant]));
        assert_eq!(statuses(&results(&mut client, operations.clone())), expected, "{grant}");
    }
    let mut lister = node.stranger().with_token(&token::with_grants(&["kv:list", "metrics:read"]));
    post(&mut lister, &operations).expect(403);
}

#[test]
fn a_key_named_batch_is_a_key() {
    let node = node();
    let mut client = node.client();
    client.put("/api/kv/batch", "x").expect(201);
    assert_eq!(client.get("/api/kv/batch").expect(200).text(), "x");
    client.delete("/api/kv/batch").expect(200);
    client.call("POST", "/api/kv/batch2", &[], b"[]").expect(405);
    client.call("POST", "/api/kv/batch/", &[], b"[]").expect(405);
}

#[test]
fn keys_of_a_batch_are_taken_as_they_are() {
    let node = node();
    let mut client = node.client();
    let got = results(
        &mut client,
        json!([
            { "op": "put", "key": "a%2Fb", "value": "percent" },
            { "op": "put", "key": "a/b c+d", "value": "slash" },
            { "op": "put", "key": "h\u{e9}\u{0}", "value": "zero" }
        ]),
    );
    assert_eq!(statuses(&got), [201, 201, 201]);
    assert_eq!(client.get(&kv("a%2Fb")).text(), "percent");
    assert_eq!(client.get(&kv("a/b c+d")).text(), "slash");
    assert_eq!(client.get(&kv("h\u{e9}\u{0}")).text(), "zero");
}
