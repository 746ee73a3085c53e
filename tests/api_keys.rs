//! API keys over a real socket: made, shown once, used, renamed, ended; and what keeps them from being
//! more than they were made.

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::token::{self, now};
use common::{Client, Node, Response, Shared, kv};
use serde_json::{Value, json};

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|setup| {
        setup.workers(2);
    })
}

const REFUSED: &str = r#"{"message":"You are not allowed to perform this action."}"#;

/// A client whose keys nobody else sees.
fn person(node: &Node, subject: &str, grants: &[&str]) -> Client {
    let claims = json!({ "sub": subject, "exp": now() + 3_600, "grants": grants });
    node.stranger().with_token(&token::with_claims(&claims))
}

fn body(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|_| panic!("no JSON: {response}"))
}

fn post(client: &mut Client, order: &Value) -> Response {
    client.call("POST", "/api/keys", &[], order.to_string().as_bytes())
}

/// Makes a key: its id and its token.
#[track_caller]
fn make(client: &mut Client, order: &Value) -> (String, String) {
    let made = body(&post(client, order).expect(201));
    (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
}

fn path(id: &str) -> String {
    format!("/api/keys/{id}")
}

#[test]
fn a_key_is_shown_once_and_does_what_it_was_made_for_on_every_core() {
    let node = node();
    let mut ann = person(&node, "ann-once", &["keys:read", "keys:write", "kv:read", "kv:write"]);
    let order = json!({ "name": "deploy", "grants": ["kv:read", "kv:write"], "expires_in": 3_600 });
    let made = post(&mut ann, &order).expect(201);
    assert_eq!(made.field("cache-control"), Some("no-store"));
    let shown = body(&made);
    let (id, key) = (shown["id"].as_str().unwrap(), shown["key"].as_str().unwrap());
    assert_eq!(made.field("location"), Some(&*path(id)));
    assert!(key.starts_with("lkv_") && key.len() == 65, "{key}");
    assert_eq!(shown["name"], "deploy");
    assert_eq!(shown["owner"], "ann-once");
    assert_eq!(shown["grants"], json!(["kv:read", "kv:write"]));
    assert_eq!(shown["warning"], Value::Null);
    let hint = shown["hint"].as_str().unwrap();
    assert!(hint.starts_with("lkv_") && !hint.contains(&key[16..24]), "{hint}");
    // Many connections, so that each worker has some.
    for number in 0..16 {
        let mut client = node.stranger().with_token(key);
        for _ in 0..3 {
            let put = client.put(&kv(format!("by-key-{number}")), "x");
            assert!([200, 201].contains(&put.status), "{put}");
            client.get(&kv(format!("by-key-{number}"))).expect(200);
        }
        let refused = client.delete(&kv("by-key")).expect(403);
        assert_eq!(refused.field("x-required-grants"), Some("kv:delete"));
    }
    for listing in [body(&ann.get("/api/keys").expect(200))["keys"][0].clone(), body(&ann.get(&path(id)))] {
        assert_eq!(listing["id"], id);
        assert_eq!(listing["status"], "active");
        assert_eq!(listing["expires_at"], shown["expires_at"]);
        assert_ne!(listing["last_used_at"], Value::Null);
        assert_eq!(listing["key"], Value::Null);
        assert!(!listing.to_string().contains(&key[16..30]));
    }
    // The three forms in which a token comes.
    for (name, value) in
        [("Authorization", format!("Bearer {key}")), ("Authorization", key.into()), ("token", key.into())]
    {
        node.stranger().call("GET", &kv("three"), &[(name, &value)], b"").expect(404);
    }
    let basic = format!("Basic {}", STANDARD.encode(format!(":{key}")));
    node.stranger().with_authorization(basic).get(&kv("three")).expect(401);
}

#[test]
fn a_key_expires_when_it_was_told_to_and_never_only_with_a_warning() {
    let node = node();
    let mut ann = person(&node, "ann-expiry", &["keys:read", "keys:write", "kv:read"]);
    let made = body(&post(&mut ann, &json!({ "name": "never", "grants": ["kv:read"] })).expect(201));
    assert_eq!(made["expires_at"], Value::Null);
    assert!(made["warning"].as_str().unwrap().contains("never expires"));
    let at = json!({ "name": "at", "grants": ["kv:read"], "expires_at": "2999-12-31T23:00:00-01:00" });
    assert_eq!(body(&post(&mut ann, &at).expect(201))["expires_at"], "3000-01-01T00:00:00Z");

    let (id, key) = make(&mut ann, &json!({ "name": "soon", "grants": ["kv:read"], "expires_in": 2 }));
    let end = now() + 2;
    let mut client = node.stranger().with_token(&key);
    let began = Instant::now();
    loop {
        let asked = now();
        match client.get(&kv("expiring")).status {
            404 => assert!(asked <= end, "taken past its end"),
            401 => break assert!(now() + 1 >= end, "refused before its end"),
            other => panic!("{other}"),
        }
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    node.stranger().with_token(&key).get(&kv("x")).expect(401);
    assert_eq!(body(&ann.get(&path(&id)).expect(200))["status"], "expired");
}

#[test]
fn an_order_that_cannot_be_read_makes_no_key() {
    let node = node();
    let mut ann = person(&node, "ann-orders", &["keys:read", "keys:write", "kv:read"]);
    let long_name = "n".repeat(101);
    let long_prefix = "p".repeat(1_025);
    for (order, code) in [
        ("", "body_invalid"),
        ("[]", "body_invalid"),
        ("{", "body_invalid"),
        ("\"name\"", "body_invalid"),
        (r#"{"name":"a","name":"b","grants":["kv:read"]}"#, "body_invalid"),
        (r#"{"grants":["kv:read"]}"#, "member_missing"),
        (r#"{"name":null,"grants":["kv:read"]}"#, "member_missing"),
        (r#"{"name":"a"}"#, "member_missing"),
        (r#"{"name":7,"grants":["kv:read"]}"#, "member_invalid"),
        (r#"{"name":"","grants":["kv:read"]}"#, "member_invalid"),
        (r#"{"name":"  ","grants":["kv:read"]}"#, "member_invalid"),
        (r#"{"name":"a\u0007","grants":["kv:read"]}"#, "member_invalid"),
        (&format!(r#"{{"name":"{long_name}","grants":["kv:read"]}}"#), "member_invalid"),
        (r#"{"name":"a","grants":[]}"#, "member_invalid"),
        (r#"{"name":"a","grants":"kv:read"}"#, "member_invalid"),
        (r#"{"name":"a","grants":[1]}"#, "member_invalid"),
        (r#"{"name":"a","grants":["kv:read",null]}"#, "member_invalid"),
        (r#"{"name":"a","grants":["KV:READ"]}"#, "grant_unknown"),
        (r#"{"name":"a","grants":["kv:read","kv:*"]}"#, "grant_unknown"),
        (r#"{"name":"a","grants":["kv:read"],"expires_in":0}"#, "member_invalid"),
        (r#"{"name":"a","grants":["kv:read"],"expires_in":-1}"#, "member_invalid"),
        (r#"{"name":"a","grants":["kv:read"],"expires_in":1.5}"#, "member_invalid"),
        (r#"{"name":"a","grants":["kv:read"],"expires_in":4294967296}"#, "member_invalid"),
        (r#"{"name":"a","grants":["kv:read"],"expires_in":"60"}"#, "member_invalid"),
        (r#"{"name":"a","grants":["kv:read"],"expires_at":"2020-01-01T00:00:00Z"}"#, "member_invalid"),
        (r#"{"name":"a","grants":["kv:read"],"expires_at":"tomorrow"}"#, "member_invalid"),
        (r#"{"name":"a","grants":["kv:read"],"expires_at":4102444800}"#, "member_invalid"),
        (
            r#"{"name":"a","grants":["kv:read"],"expires_in":60,"expires_at":"2999-01-01T00:00:00Z"}"#,
            "member_invalid",
        ),
        (r#"{"name":"a","grants":["kv:read"],"expires":60}"#, "member_invalid"),
        (r#"{"name":"a","grants":["kv:read"],"prefix":7}"#, "member_invalid"),
        (&format!(r#"{{"name":"a","grants":["kv:read"],"prefix":"{long_prefix}"}}"#), "member_invalid"),
        (r#"{"name":"a","grants":["kv:read"],"namespace":"other"}"#, "member_invalid"),
    ] {
        let refused = ann.call("POST", "/api/keys", &[], order.as_bytes()).expect(400);
        assert_eq!(body(&refused)["code"], code, "{order}");
    }
    let not_utf8 = b"{\"name\":\"\xff\",\"grants\":[\"kv:read\"]}";
    ann.call("POST", "/api/keys", &[], not_utf8).expect(400);
    // The bounds themselves are taken.
    let name = "n".repeat(100);
    let prefix = "p".repeat(1_024);
    for (at, size) in [(16 * 1_024 - 1, 201), (16 * 1_024, 201), (16 * 1_024 + 1, 413)] {
        let mut order =
            json!({ "name": name, "grants": ["kv:read"], "prefix": prefix, "expires_in": 4_294_967_295_u64 })
                .to_string();
        order.push_str(&" ".repeat(at - order.len()));
        let made = ann.call("POST", "/api/keys", &[], order.as_bytes());
        assert_eq!(made.status, size, "{at} bytes: {made}");
        if made.closes() {
            ann = person(&node, "ann-orders", &["keys:read", "keys:write", "kv:read"]);
        }
    }
    assert_eq!(body(&ann.get("/api/keys"))["keys"].as_array().unwrap().len(), 2);
}

#[test]
fn no_key_may_do_or_see_more_than_its_maker_or_outlive_it() {
    let node = node();
    let mut ann = person(&node, "ann-bounds", &["keys:read", "keys:write", "kv:read"]);
    let more =
        post(&mut ann, &json!({ "name": "more", "grants": ["kv:read", "kv:write", "admin"] })).expect(403);
    assert_eq!(more.field("x-required-grants"), Some("kv:write, admin"));

    let parent = json!({ "name": "parent", "grants": ["keys:read", "keys:write", "kv:read"], "expires_in": 1_000, "prefix": "a/" });
    let (parent_id, parent_key) = make(&mut ann, &parent);
    let mut parent = node.stranger().with_token(&parent_key);
    let child = |grants: &[&str], seconds: Option<u64>, prefix: Option<&str>| json!({ "name": "child", "grants": grants, "expires_in": seconds, "prefix": prefix });
    for (order, code) in [
        (child(&["kv:write"], Some(10), Some("a/")), "forbidden"),
        (child(&["kv:read"], None, Some("a/")), "outlives_maker"),
        (child(&["kv:read"], Some(1_100), Some("a/")), "outlives_maker"),
        (child(&["kv:read"], Some(10), None), "exceeds_scope"),
        (child(&["kv:read"], Some(10), Some("a")), "exceeds_scope"),
        (child(&["kv:read"], Some(10), Some("b/")), "exceeds_scope"),
    ] {
        assert_eq!(body(&post(&mut parent, &order).expect(403))["code"], code, "{order}");
    }
    let (child_id, child_key) = make(&mut parent, &child(&["kv:read", "keys:write"], Some(900), Some("a/b")));
    assert_eq!(body(&ann.get(&path(&child_id)).expect(200))["owner"], "ann-bounds");
    // A key sees those of its owner that reach no further than itself.
    let seen = body(&parent.get("/api/keys").expect(200));
    assert_eq!(seen["keys"].as_array().unwrap().len(), 2, "{seen}");

    // A claim `exp` bounds no key.
    let brief = json!({ "sub": "ann-bounds", "exp": now() + 60, "grants": ["keys:write", "kv:read"] });
    let mut brief = node.stranger().with_token(&token::with_claims(&brief));
    make(&mut brief, &json!({ "name": "long", "grants": ["kv:read"], "expires_in": 100_000 }));

    // Whatever a key made ends with it.
    let mut grandchild = node.stranger().with_token(&child_key);
    let (_, grandchild_key) = make(&mut grandchild, &child(&["kv:read"], Some(10), Some("a/bc")));
    let mut last = node.stranger().with_token(&grandchild_key);
    last.get(&kv("a/bcd")).expect(404);
    ann.delete(&path(&parent_id)).expect(200);
    for client in [&mut parent, &mut grandchild, &mut last] {
        client.get(&kv("a/bcd")).expect(401);
    }
    assert_eq!(body(&ann.get(&path(&child_id)).expect(200))["status"], "revoked");
}

#[test]
fn keys_are_personal_renamed_by_name_only_and_stay_ended() {
    let node = node();
    let grants = ["keys:read", "keys:write", "kv:read"];
    let mut ann = person(&node, "ann-personal", &grants);
    let mut bob = person(&node, "bob-personal", &grants);
    let (id, key) = make(&mut ann, &json!({ "name": "first", "grants": ["kv:read"] }));
    assert_eq!(body(&bob.get("/api/keys"))["keys"], json!([]));
    bob.get(&path(&id)).expect(404);
    bob.call("PATCH", &path(&id), &[], br#"{"name":"mine"}"#).expect(404);
    bob.delete(&path(&id)).expect(404);
    for id in ["", "x", "aaaaaaaaaaaa", "aaaaaaaaaaa-", "%61aaaaaaaaaaa", "a/b"] {
        ann.get(&path(id)).expect(404);
    }
    for order in [
        r#"{"name":"x","grants":["kv:read"]}"#,
        r#"{"grants":["kv:read"]}"#,
        r#"{"name":"x","expires_in":60}"#,
        r#"{"status":"active"}"#,
        "{}",
    ] {
        ann.call("PATCH", &path(&id), &[], order.as_bytes()).expect(400);
    }
    let renamed = ann.call("PATCH", &path(&id), &[], br#"{"name":"second \u00e9"}"#).expect(200);
    assert_eq!(body(&renamed)["name"], "second é");
    node.stranger().with_token(&key).get(&kv("x")).expect(404);
    // The administrator sees the keys of all.
    let mut admin = node.client();
    assert_eq!(body(&admin.get(&path(&id)).expect(200))["owner"], "ann-personal");
    for _ in 0..2 {
        admin.delete(&path(&id)).expect(200);
        node.stranger().with_token(&key).get(&kv("x")).expect(401);
        assert_eq!(body(&ann.get(&path(&id)).expect(200))["status"], "revoked");
    }
    let mut reader = person(&node, "ann-personal", &["keys:read"]);
    for (method, path) in [("POST", "/api/keys".to_owned()), ("PATCH", path(&id)), ("DELETE", path(&id))] {
        let refused = reader.call(method, &path, &[], b"").expect(403);
        assert_eq!(refused.field("x-required-grants"), Some("keys:write"));
        if refused.closes() {
            reader = person(&node, "ann-personal", &["keys:read"]);
        }
    }
}

#[test]
fn the_list_of_keys_comes_in_pages() {
    let node = node();
    let mut ann = person(&node, "ann-pages", &["keys:read", "keys:write", "kv:read"]);
    let made: Vec<String> = (0..7)
        .map(|number| make(&mut ann, &json!({ "name": number.to_string(), "grants": ["kv:read"] })).0)
        .collect();
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let page = body(&ann.get(&format!("/api/keys?limit=3&cursor={cursor}")).expect(200));
        seen.extend(
            page["keys"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap().to_owned()),
        );
        assert_eq!(page["complete"] == json!(true), page["cursor"].is_null());
        match page["cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    assert_eq!(seen, made);
    for query in
        ["limit=0", "limit=1001", "limit=x", "cursor=x", "cursor=-1", "limit=1&limit=1", "cursor=%zz"]
    {
        ann.get(&format!("/api/keys?{query}")).expect(400);
    }
}

#[test]
fn a_credential_with_a_prefix_reaches_and_sees_nothing_else() {
    let node = node();
    let mut root = node.client();
    for key in ["in/a", "in/b", "in", "inn", "out", "in%2Fc"] {
        root.put(&kv(key), key).expect(201);
    }
    let every = ["kv:read", "kv:write", "kv:delete", "kv:list", "kv:lock", "apps:admin"];
    let order = json!({ "name": "scoped", "grants": every, "prefix": "in/" });
    let (_, key) = make(&mut root, &order);
    let claims = json!({ "exp": now() + 3_600, "grants": every, "prefix": "in/" });
    for token in [key, token::with_claims(&claims)] {
        let mut client = node.stranger().with_token(&token);
        for round in 0..3 {
            client.get(&kv("in/a")).expect(200);
            // The same bytes in another spelling.
            client.get("/api/kv/%69n/a").expect(200);
            for outside in ["/api/kv/out", "/api/kv/in", "/api/kv/inn", "/api/kv/in%252Fc", "/api/kv/%6fut"] {
                let refused = client.get(outside).expect(403);
                assert_eq!(body(&refused)["code"], "out_of_scope", "{outside} {round}");
                assert_eq!(refused.field("x-required-grants"), None);
            }
            for (method, order) in [("PUT", "x"), ("DELETE", ""), ("PATCH", "lock"), ("HEAD", "")] {
                let refused = client.call(method, &kv("out"), &[], order.as_bytes()).expect(403);
                if refused.closes() {
                    client = node.stranger().with_token(&token);
                }
            }
        }
        for (query, names) in [
            ("", vec!["in/a", "in/b"]),
            ("?prefix=i", vec!["in/a", "in/b"]),
            ("?prefix=in/b", vec!["in/b"]),
            ("?prefix=in/&limit=1", vec!["in/a"]),
            ("?cursor=YQ", vec!["in/a", "in/b"]),
            ("?cursor=eg", vec![]),
        ] {
            let page = body(&client.get(&format!("/api/kv{query}")).expect(200));
            let found: Vec<&str> =
                page["keys"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
            assert_eq!(found, names, "{query}");
        }
        for query in ["?prefix=out", "?prefix=inn", "?prefix=in0"] {
            client.get(&format!("/api/kv{query}")).expect(403);
        }
        let batch = json!([
            { "op": "get", "key": "in/a" }, { "op": "get", "key": "out" }, { "op": "put", "key": "out", "value": "x" },
            { "op": "delete", "key": "inn" }, { "op": "increment", "key": "in" }, { "op": "put", "key": "in/b", "value": "y" },
        ]);
        let results =
            body(&client.call("POST", "/api/kv/batch", &[], batch.to_string().as_bytes()).expect(200));
        let statuses: Vec<u64> = results["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|result| result["status"].as_u64().unwrap())
            .collect();
        assert_eq!(statuses, [200, 403, 403, 403, 403, 200]);
        // What reaches beyond any prefix is not for it.
        assert_eq!(client.get("/apps").expect(403).status, 403);
    }
    assert_eq!(root.get(&kv("out")).expect(200).body, b"out");
    root.get(&kv("inn")).expect(200);
}

/// The checksum of a token, from the definition: CRC-32 bit by bit, in base62.
fn checksum(signed: &[u8]) -> String {
    let crc = !signed.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1)))
    });
    let alphabet = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = crc as usize;
    let mut digits: Vec<char> = Vec::new();
    for _ in 0..6 {
        digits.insert(0, char::from(alphabet[rest % 62]));
        rest /= 62;
    }
    digits.into_iter().collect()
}

fn repaired(token: &str) -> String {
    let signed = &token[..token.len() - 6];
    format!("{signed}{}", checksum(signed.as_bytes()))
}

/// Ways to be let in by a key that must fail, by name.
fn hostile_keys(good: &str, ended: &str) -> Vec<(String, String)> {
    assert_eq!(repaired(good), good);
    let mut all = vec![("ended".to_owned(), ended.to_owned())];
    for length in 0..good.len() {
        all.push((format!("cut to {length}"), good[..length].to_owned()));
    }
    for at in 0..good.len() {
        let mut other = good.to_owned().into_bytes();
        other[at] = if other[at] == b'a' { b'b' } else { b'a' };
        let other = String::from_utf8(other).unwrap();
        all.push((format!("letter {at}"), other.clone()));
        if at < good.len() - 6 {
            all.push((format!("letter {at}, checksum repaired"), repaired(&other)));
        }
    }
    for kind in ["lkr_", "lkw_", "lka_", "LKV_", "lkv-", "eyJ_"] {
        let other = format!("{kind}{}", &good[4..]);
        all.push((format!("as {kind}"), other.clone()));
        all.push((format!("as {kind}, checksum repaired"), repaired(&other)));
    }
    for (name, token) in [
        ("a letter more", format!("{good}0")),
        ("twice", format!("{good}{good}")),
        ("a dot behind", format!("{good}.")),
        ("as a JWT", format!("{good}.{good}.{good}")),
        ("quoted", format!("\"{good}\"")),
        ("upper case", good.to_uppercase()),
        ("lower case", good.to_lowercase()),
        ("the id alone", good[4..16].to_owned()),
        ("without its kind", good[4..].to_owned()),
        ("zeros", format!("lkv_{}", "0".repeat(61))),
        ("zeros, checksum repaired", repaired(&format!("lkv_{}", "0".repeat(61)))),
        ("4 KiB", format!("lkv_{}", "0".repeat(4_092))),
        ("over 4 KiB", format!("lkv_{}", "0".repeat(4_200))),
    ] {
        all.push((name.to_owned(), token));
    }
    all.retain(|(_, token)| token != good);
    all
}

#[test]
fn every_hostile_key_gets_the_same_401_as_a_hostile_token() {
    let node = node();
    let mut ann = person(&node, "ann-hostile", &["keys:write", "kv:read"]);
    let (_, good) = make(&mut ann, &json!({ "name": "good", "grants": ["kv:read"] }));
    let (id, ended) = make(&mut ann, &json!({ "name": "ended", "grants": ["kv:read"] }));
    ann.delete(&path(&id)).expect(200);
    let without_date = |answer: &Response| (answer.status, answer.fields_sorted(), answer.text());
    let nothing = without_date(&node.stranger().get(&kv("guarded")).expect(401));
    assert_eq!(nothing.2, REFUSED);
    let hostile = hostile_keys(&good, &ended);
    assert!(hostile.len() >= 200, "{}", hostile.len());
    let mut client = node.stranger();
    for (name, token) in &hostile {
        for field in [
            ("Authorization", format!("Bearer {token}")),
            ("Authorization", token.clone()),
            ("token", token.clone()),
        ] {
            let refused = client.call("GET", &kv("guarded"), &[(field.0, &field.1)], b"");
            assert_eq!(without_date(&refused), nothing, "{name}, as {}: {}", field.0, field.1);
        }
    }
    client.with_token(&good).get(&kv("guarded")).expect(404);
    node.assert_well();
}

#[test]
fn no_request_that_begins_after_a_key_was_deleted_succeeds() {
    const CONNECTIONS: usize = 100;
    const THREADS: usize = 10;
    let node = Node::start(|setup| {
        setup.workers(4);
    });
    let mut root = node.client();
    for round in 0..5 {
        let order = json!({ "name": "shared", "grants": ["kv:read", "kv:write"] });
        let (id, key) = make(&mut root, &order);
        let deleted = AtomicBool::new(false);
        let good = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (key, deleted, good, node) = (&key, &deleted, &good, &node);
                scope.spawn(move || {
                    let mut clients: Vec<Client> =
                        (0..CONNECTIONS / THREADS).map(|_| node.stranger().with_token(key)).collect();
                    let mut refused = HashSet::new();
                    let mut turn = 0;
                    while refused.len() < clients.len() {
                        turn += 1;
                        let before = deleted.load(Ordering::SeqCst);
                        for (at, client) in clients.iter_mut().enumerate() {
                            let path = kv(format!("{thread}-{at}-{turn}"));
                            let status = if turn % 2 == 0 {
                                client.get(&path).status
                            } else {
                                client.put(&path, "x").status
                            };
                            match status {
                                401 => {
                                    refused.insert(at);
                                    // A refused body may close the connection.
                                    *client = node.stranger().with_token(key);
                                }
                                200 | 201 | 404 => {
                                    assert!(!before, "let in after the key was deleted");
                                    good.fetch_add(1, Ordering::SeqCst);
                                }
                                other => panic!("{other}"),
                            }
                        }
                    }
                });
            }
            // Every connection has been let in many times.
            while good.load(Ordering::SeqCst) < 10 * CONNECTIONS {
                std::thread::yield_now();
            }
            root.delete(&path(&id)).expect(200);
            deleted.store(true, Ordering::SeqCst);
        });
        assert!(good.load(Ordering::SeqCst) >= 10 * CONNECTIONS, "round {round}");
    }
}

#[test]
fn a_body_on_its_way_makes_no_key_once_its_sender_was_ended() {
    let node = node();
    let mut ann = person(&node, "ann-slow", &["keys:read", "keys:write", "kv:read"]);
    let (id, key) = make(&mut ann, &json!({ "name": "maker", "grants": ["keys:write", "kv:read"] }));
    let mut slow = node.stranger().with_token(&key);
    let order = json!({ "name": "late", "grants": ["kv:read"] }).to_string();
    let request = slow.compose("POST", "/api/keys", &[], order.as_bytes());
    let (first, rest) = request.split_at(request.len() - 5);
    slow.send(first);
    // Whoever asks next on the same node is served after the first bytes were read, or soon.
    ann.get("/api/keys").expect(200);
    ann.delete(&path(&id)).expect(200);
    slow.send(rest);
    slow.response().expect(401);
    assert_eq!(body(&ann.get("/api/keys"))["keys"].as_array().unwrap().len(), 1);
}

#[test]
fn the_room_for_keys_ends_with_507_and_the_rest_of_the_node_goes_on() {
    let node = Node::start(|setup| {
        setup.workers(1);
        setup.set("store.memory_limit", "4MiB");
        setup.set("store.max_limit", "100000");
    });
    let mut root = node.client();
    let order = json!({ "name": "n".repeat(100), "grants": ["kv:read"], "prefix": "p".repeat(1_024) });
    let mut keys = Vec::new();
    let full = loop {
        let made = post(&mut root, &order);
        match made.status {
            201 => keys.push(body(&made)),
            _ => break made,
        }
        assert!(keys.len() < 1_000, "no end");
    };
    assert_eq!((full.status, body(&full)["code"].as_str()), (507, Some("credentials_full")));
    assert!(keys.len() > 100, "{} keys in 512 KiB", keys.len());
    root.put(&kv("p"), "still here").expect(201);
    let first = keys[0]["key"].as_str().unwrap();
    node.stranger().with_token(first).get(&kv("p".repeat(1_024))).expect(404);
    // Ending one makes room for one, at the latest a minute later; the others stay good.
    root.delete(&path(keys[1]["id"].as_str().unwrap())).expect(200);
    node.stranger().with_token(first).get(&kv("p".repeat(1_024))).expect(404);
}

#[test]
fn tokens_under_the_previous_secret_are_good_until_it_is_taken_away() {
    const PREVIOUS: &str = "the secret before this one, 32 bytes and more";
    let claims = json!({ "exp": now() + 3_600 }).to_string();
    let old = token::signed_raw(PREVIOUS.as_bytes(), br#"{"alg":"HS256"}"#, claims.as_bytes());
    let both = Node::start(|setup| {
        setup.set("authentication.previous_secret_key", format!("\"{PREVIOUS}\""));
    });
    both.stranger().with_token(&old).get(&kv("x")).expect(404);
    both.client().get(&kv("x")).expect(404);
    let one = node();
    one.stranger().with_token(&old).get(&kv("x")).expect(401);
}
