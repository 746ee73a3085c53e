//! Apps and their tokens over a real socket, in LightKV's envelope.

mod common;

use std::sync::Arc;

use common::token;
use common::{Client, Node, Response, Shared, kv};
use serde_json::{Value, json};

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|setup| {
        setup.workers(2);
    })
}

fn body(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|_| panic!("no JSON: {response}"))
}

#[track_caller]
fn refused(response: &Response, status: u16, code: &str) {
    let body = body(response);
    assert_eq!((response.status, &body["ok"], &body["error"]["code"]), (status, &json!(false), &json!(code)));
    assert!(body["error"]["message"].is_string(), "{body}");
}

fn post(client: &mut Client, path: &str, order: &Value) -> Response {
    client.call("POST", path, &[], order.to_string().as_bytes())
}

/// Makes an app: its id and both tokens.
#[track_caller]
fn make(client: &mut Client, name: &str) -> (String, String, String) {
    let made = post(client, "/apps", &json!({ "name": name })).expect(201);
    assert_eq!(made.field("cache-control"), Some("no-store"));
    let made = body(&made);
    assert_eq!((&made["ok"], &made["data"]["name"]), (&json!(true), &json!(name)));
    let of = |member: &str| made["data"][member].as_str().unwrap().to_owned();
    (of("id"), of("read_token"), of("readwrite_token"))
}

/// Whether a token is known: then it lacks the grant, or the right form, for a key.
fn is_known(node: &Node, token: &str) -> bool {
    // Several connections, so that each worker is asked.
    let statuses: Vec<u16> = (0..6).map(|_| node.stranger().with_token(token).get(&kv("x")).status).collect();
    assert!(statuses.iter().all(|status| *status == statuses[0]), "{statuses:?}");
    assert!([401, 403].contains(&statuses[0]), "{statuses:?}");
    statuses[0] == 403
}

#[test]
fn an_app_is_made_with_two_tokens_that_are_shown_once() {
    let node = node();
    let mut root = node.client();
    let (id, read, write) = make(&mut root, "shown-once");
    assert!(read.starts_with("lkr_") && write.starts_with("lkw_"), "{read} {write}");
    assert!(is_known(&node, &read) && is_known(&node, &write));
    let listed = root.get("/apps").expect(200);
    let apps = body(&listed)["data"].as_array().unwrap().clone();
    assert!(apps.iter().any(|app| app["name"] == "default"));
    let own = apps.iter().find(|app| app["id"] == json!(id)).unwrap();
    assert_eq!(own["name"], "shown-once");
    assert!(own["created_at"].as_str().unwrap().ends_with('Z'));
    for token in [&read, &write] {
        assert!(!listed.text().contains(&token[16..]));
    }
    refused(&post(&mut root, "/apps", &json!({ "name": "shown-once" })), 409, "CONFLICT");
    refused(&post(&mut root, "/apps", &json!({ "name": "default" })), 409, "CONFLICT");
}

#[test]
fn app_tokens_are_for_the_light_family_only() {
    let node = node();
    let (_, read, write) = make(&mut node.client(), "light-only");
    for token in [read, write] {
        let mut client = node.stranger().with_token(&token);
        let answer = client.get(&kv("x")).expect(403);
        assert_eq!(body(&answer)["code"], "form_not_taken");
        client.get("/api/keys").expect(403);
        refused(&client.get("/apps"), 403, "FORBIDDEN");
    }
}

#[test]
fn tokens_are_rotated_with_and_without_a_grace() {
    let node = node();
    let mut root = node.client();
    let (id, read, write) = make(&mut root, "rotated");
    let path = format!("/apps/{id}/rotate");
    let rotated = body(&post(&mut root, &path, &json!({ "token": "read", "grace": 60 })).expect(200));
    let new_read = rotated["data"]["read_token"].as_str().unwrap().to_owned();
    assert_eq!(rotated["data"]["readwrite_token"], Value::Null);
    assert!(is_known(&node, &read) && is_known(&node, &new_read) && is_known(&node, &write));
    let rotated = body(&post(&mut root, &path, &json!({ "token": "both" })).expect(200));
    for old in [&read, &new_read, &write] {
        assert!(!is_known(&node, old));
    }
    for member in ["read_token", "readwrite_token"] {
        assert!(is_known(&node, rotated["data"][member].as_str().unwrap()));
    }
    let brief = body(&post(&mut root, &path, &json!({ "token": "readwrite", "grace": 1 })).expect(200));
    assert!(brief["data"]["readwrite_token"].is_string());
    let old = rotated["data"]["readwrite_token"].as_str().unwrap();
    let until = token::now() + 10;
    while node.stranger().with_token(old).get(&kv("x")).status == 403 {
        assert!(token::now() < until, "its grace does not end");
    }
}

#[test]
fn a_deleted_app_takes_its_tokens_with_it_and_the_default_one_stays() {
    let node = node();
    let mut root = node.client();
    let (id, read, write) = make(&mut root, "deleted");
    let gone = body(&root.delete(&format!("/apps/{id}")).expect(200));
    assert_eq!(gone, json!({ "ok": true, "data": { "id": id, "deleted": true } }));
    assert!(!is_known(&node, &read) && !is_known(&node, &write));
    refused(&root.delete(&format!("/apps/{id}")), 404, "NOT_FOUND");
    refused(&post(&mut root, &format!("/apps/{id}/rotate"), &json!({ "token": "both" })), 404, "NOT_FOUND");
    make(&mut root, "deleted");
    let apps = body(&root.get("/apps"));
    let default = apps["data"].as_array().unwrap().iter().find(|app| app["name"] == "default").unwrap();
    let id = default["id"].as_str().unwrap();
    refused(&root.delete(&format!("/apps/{id}")), 409, "CONFLICT");
}

#[test]
fn apps_come_in_pages_that_the_head_leads_through() {
    let node = Node::start(|_| {});
    let mut root = node.client();
    for number in 0..4 {
        make(&mut root, &number.to_string());
    }
    let (mut path, mut seen) = ("/apps?limit=2".to_owned(), Vec::new());
    loop {
        let page = root.get(&path).expect(200);
        seen.extend(body(&page)["data"].as_array().unwrap().iter().map(|app| app["name"].clone()));
        let Some(cursor) = page.field("x-next-cursor") else {
            assert_eq!(page.field("link"), None);
            break;
        };
        path = format!("/apps?limit=2&cursor={cursor}");
        assert_eq!(page.field("link"), Some(&*format!("<{path}>; rel=\"next\"")));
    }
    assert_eq!(seen, ["default", "0", "1", "2", "3"]);
    refused(&root.get("/apps?limit=0"), 400, "INVALID_PARAMETER");
}

#[test]
fn whatever_is_wrong_is_said_in_the_envelope() {
    let node = node();
    let mut root = node.client();
    let (id, ..) = make(&mut root, "envelope");
    refused(&node.stranger().get("/apps"), 401, "UNAUTHORIZED");
    let mut reader = node.stranger().with_token(&token::with_grants(&["kv:read"]));
    let forbidden = reader.get("/apps").expect(403);
    refused(&forbidden, 403, "FORBIDDEN");
    assert_eq!(forbidden.field("x-required-grants"), Some("apps:admin"));
    refused(&root.call("PUT", "/apps", &[], b""), 405, "METHOD_NOT_ALLOWED");
    refused(&root.get("/apps/x/y"), 404, "NOT_FOUND");
    for (order, code) in [
        ("", "INVALID_JSON"),
        ("[]", "INVALID_JSON"),
        ("{}", "MISSING_PARAMETER"),
        (r#"{"name":1}"#, "INVALID_PARAMETER"),
        (r#"{"name":""}"#, "INVALID_PARAMETER"),
        (r#"{"name":"x","more":1}"#, "INVALID_PARAMETER"),
    ] {
        refused(&root.call("POST", "/apps", &[], order.as_bytes()), 400, code);
    }
    for (order, code) in [
        ("{}", "MISSING_PARAMETER"),
        (r#"{"token":"all"}"#, "INVALID_PARAMETER"),
        (r#"{"token":1}"#, "INVALID_PARAMETER"),
        (r#"{"token":"read","grace":-1}"#, "INVALID_PARAMETER"),
        (r#"{"token":"read","grace":4294967296}"#, "INVALID_PARAMETER"),
        (r#"{"token":"read","grace":"1"}"#, "INVALID_PARAMETER"),
    ] {
        refused(&root.call("POST", &format!("/apps/{id}/rotate"), &[], order.as_bytes()), 400, code);
    }
    // A JSON body counts as one whatever its type says.
    let typed = [("Content-Type", "application/x-www-form-urlencoded")];
    root.call("POST", "/apps", &typed, br#"{"name":"labelled as a form"}"#).expect(201);
}

#[test]
fn ten_thousand_apps_cost_less_than_a_kibibyte_each() {
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let resident = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
    };
    let mut root = node.client();
    for number in 0..100 {
        make(&mut root, &format!("warm-{number}"));
    }
    let before = resident();
    for number in 0..10_000 {
        make(&mut root, &format!("app-{number}"));
    }
    let each = (resident() - before) / 10_000;
    assert!(each < 1_024, "{each} bytes for each app with its two tokens");
}

#[test]
fn a_body_on_its_way_makes_no_token_once_its_sender_was_ended() {
    let node = node();
    let mut root = node.client();
    let (id, _, write) = make(&mut root, "slow-body");
    let order = json!({ "name": "maker", "grants": ["apps:admin"], "expires_in": 600 });
    let maker = body(&post(&mut root, "/api/keys", &order).expect(201));
    let key = maker["key"].as_str().unwrap();
    let orders = [
        ("/apps".to_owned(), json!({ "name": "too-late" })),
        (format!("/apps/{id}/rotate"), json!({ "token": "both" })),
    ];
    let begin = |(path, order): &(String, Value)| {
        let mut slow = node.stranger().with_token(key);
        let request = slow.compose("POST", path, &[], order.to_string().as_bytes());
        let (first, rest) = request.split_at(request.len() - 5);
        slow.send(first);
        (slow, rest.to_vec())
    };
    let late: Vec<(Client, Vec<u8>)> = orders.iter().map(begin).collect();
    // Whoever asks next on the same node is served after the first bytes were read, or soon.
    root.get("/apps").expect(200);
    root.delete(&format!("/api/keys/{}", maker["id"].as_str().unwrap())).expect(200);
    for (mut slow, rest) in late {
        slow.send(&rest);
        refused(&slow.response(), 401, "UNAUTHORIZED");
    }
    assert!(is_known(&node, &write), "it was not rotated");
    assert!(!root.get("/apps").expect(200).to_string().contains("too-late"));
}
