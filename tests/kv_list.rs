//! Listing: byte order, pages whose cursor is a position, and names of any bytes.

mod common;

use base64::Engine;
use common::{Client, Node, Random, Shared, kv, percent_encoded, token};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|setup| {
        setup.workers(2);
    })
}

fn name_of(key: &Value) -> Vec<u8> {
    match (key.get("name").and_then(Value::as_str), key.get("name_base64").and_then(Value::as_str)) {
        (Some(name), None) => name.as_bytes().to_vec(),
        (_, Some(name)) => base64::engine::general_purpose::STANDARD.decode(name).expect("base64"),
        other => panic!("no name: {other:?}"),
    }
}

/// All pages of a listing; `between` runs behind each of them.
fn pages(
    client: &mut Client,
    query: &str,
    mut between: impl FnMut(&mut Client, &[Vec<u8>]),
) -> Vec<Vec<Vec<u8>>> {
    let mut pages = Vec::new();
    let mut cursor = String::new();
    loop {
        let listed = client.get(&format!("/api/kv?{query}{cursor}")).expect(200).json();
        let page: Vec<Vec<u8>> = listed["keys"].as_array().expect("keys").iter().map(name_of).collect();
        between(client, &page);
        pages.push(page);
        match (&listed["cursor"], &listed["complete"]) {
            (Value::String(next), Value::Bool(false)) => {
                cursor = format!("&cursor={}", percent_encoded(next.as_bytes()))
            }
            (Value::Null, Value::Bool(true)) => return pages,
            other => panic!("cursor and complete disagree: {other:?}"),
        }
        assert!(pages.len() < 10_000, "the listing does not end");
    }
}

fn names(client: &mut Client, query: &str) -> Vec<Vec<u8>> {
    pages(client, query, |_, _| ()).concat()
}

#[test]
fn an_entry_shows_its_name_size_ttl_tag_and_type() {
    let node = node();
    let mut client = node.client();
    client.call("PUT", &kv("shown:a"), &[("Content-Type", "text/plain"), ("X-TTL", "900")], b"12345");
    client.put(&kv("shown:b"), "");
    let listed = client.get("/api/kv?prefix=shown:").expect(200).json();
    let tag = client.get(&kv("shown:a")).expect_field("etag").to_string();
    let first = &listed["keys"][0];
    assert_eq!(first["name"], "shown:a");
    assert_eq!(first["size"], 5);
    assert!((890..=900).contains(&first["ttl"].as_u64().unwrap()), "{first}");
    assert_eq!(first["etag"].as_str().unwrap().trim_matches('"'), tag.trim_matches('"'));
    assert_eq!(first["type"], "text/plain");
    let second = &listed["keys"][1];
    assert_eq!((&second["size"], &second["ttl"]), (&json!(0), &Value::Null));
    assert_eq!(second["type"], "application/octet-stream");
    assert_eq!((&listed["cursor"], &listed["complete"]), (&Value::Null, &json!(true)));
    assert_eq!(listed["keys"].as_array().unwrap().len(), 2);
}

#[test]
fn an_empty_listing_is_complete() {
    let node = node();
    let mut client = node.client();
    let listed = client.get("/api/kv?prefix=there-is-no-such-prefix").expect(200).json();
    assert_eq!(listed, json!({ "keys": [], "cursor": null, "complete": true }));
}

#[test]
fn names_come_in_byte_order_on_pages_of_any_size() {
    let node = node();
    let mut client = node.client();
    let mut random = Random::seeded(21);
    let mut model = BTreeSet::new();
    for _ in 0..300 {
        let count = 1 + random.below(4);
        let mut name = b"order:".to_vec();
        name.extend((0..count).map(|_| *random.pick(b"\x00\x01 /%+aZ~\x7f\x80\xc3\xa9\xff")));
        client.put(&kv(&name), "x");
        model.insert(name);
    }
    let model: Vec<_> = model.into_iter().collect();
    for limit in [1, 2, 7, 100, 299, 300, 1_000] {
        let got = pages(&mut client, &format!("prefix=order:&limit={limit}"), |_, page| {
            assert!(page.len() <= limit);
        });
        assert_eq!(got.concat(), model, "limit {limit}");
        assert!(
            got[..got.len() - 1].iter().all(|page| page.len() == limit),
            "a page in the middle is not full"
        );
        assert_eq!(got.len(), model.len().div_ceil(limit), "limit {limit}");
    }
}

#[test]
fn a_name_that_is_not_utf8_comes_as_base64() {
    let node = node();
    let mut client = node.client();
    client.put(&kv(b"raw:\xff\xfe"), "x");
    client.put(&kv("raw:\u{e9}"), "x");
    let listed = client.get("/api/kv?prefix=raw:").expect(200).json();
    assert_eq!(listed["keys"][0]["name"], "raw:\u{e9}");
    assert_eq!(listed["keys"][1]["name_base64"], "cmF3Ov/+");
    assert!(listed["keys"][1].get("name").is_none_or(Value::is_null), "{listed}");
}

#[test]
fn a_prefix_is_bytes_with_query_decoding() {
    let node = node();
    let mut client = node.client();
    for name in [b"pre fix:1".as_slice(), b"pre+fix:2", b"pre\xff:3", b"pre/fix:4", b"pre", b"PRE"] {
        client.put(&kv(name), "x");
    }
    for (query, name) in [
        ("pre+fix", b"pre fix:1".as_slice()),
        ("pre%20fix", b"pre fix:1"),
        ("pre%2Bfix", b"pre+fix:2"),
        ("pre%ff", b"pre\xff:3"),
        ("pre/", b"pre/fix:4"),
        ("pre%2F", b"pre/fix:4"),
        ("%50RE", b"PRE"),
    ] {
        assert_eq!(names(&mut client, &format!("prefix={query}")), [name.to_vec()], "{query}");
    }
    client.get("/api/kv?prefix=%zz").expect(400);
    client.get("/api/kv?prefix=%f").expect(400);
}

#[test]
fn a_page_has_1_to_1000_names_and_100_when_no_one_says() {
    let node = node();
    let mut client = node.client();
    for at in 0..1_001 {
        client.put(&kv(format!("many:{at:04}")), "x");
    }
    let count = |client: &mut Client, query: &str| {
        let listed = client.get(&format!("/api/kv?prefix=many:{query}")).expect(200).json();
        listed["keys"].as_array().unwrap().len()
    };
    assert_eq!(count(&mut client, ""), 100);
    assert_eq!(count(&mut client, "&limit=1"), 1);
    assert_eq!(count(&mut client, "&limit=999"), 999);
    assert_eq!(count(&mut client, "&limit=1000"), 1_000);
    assert_eq!(names(&mut client, "prefix=many:&limit=1000").len(), 1_001);
    for bad in ["0", "1001", "-1", "x", "1.5", "99999999999999999999"] {
        client.get(&format!("/api/kv?limit={bad}")).expect(400);
    }
}

#[test]
fn a_cursor_is_a_position_that_survives_changes() {
    let node = node();
    let mut client = node.client();
    for at in (0..200).step_by(2) {
        client.put(&kv(format!("moving:{at:03}")), "x");
    }
    // Whatever was there all the time comes exactly once, though each page's last name goes away and
    // new names appear on both sides of it.
    let mut seen = Vec::new();
    pages(&mut client, "prefix=moving:&limit=10", |client, page| {
        seen.extend_from_slice(page);
        if let Some(last) = page.last() {
            client.delete(&kv(last));
            let at: usize = std::str::from_utf8(&last[7..]).unwrap().parse().unwrap();
            client.put(&kv(format!("moving:{:03}", at.saturating_sub(1))), "x");
            client.put(&kv(format!("moving:{:03}", at + 1)), "x");
        }
    });
    let ordered: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!(ordered.into_iter().collect::<Vec<_>>(), seen, "out of order or twice");
    for at in (0..200).step_by(2) {
        assert!(seen.contains(&format!("moving:{at:03}").into_bytes()), "{at} is missing");
    }
}

#[test]
fn a_cursor_that_was_never_given_out_is_400() {
    let node = node();
    let mut client = node.client();
    for bad in ["%ff%fe", "!!!", "%00"] {
        let answer = client.get(&format!("/api/kv?cursor={bad}"));
        assert_eq!(answer.status, 400, "{bad}: {answer}");
    }
}

#[test]
fn deleted_and_overwritten_keys_are_listed_as_they_are() {
    let node = node();
    let mut client = node.client();
    for name in ["a", "b", "c"] {
        client.put(&kv(format!("state:{name}")), "1");
    }
    client.delete(&kv("state:b"));
    client.put(&kv("state:c"), "12345");
    let listed = client.get("/api/kv?prefix=state:").expect(200).json();
    let shown: Vec<_> = listed["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| (key["name"].as_str().unwrap(), key["size"].as_u64().unwrap()))
        .collect();
    assert_eq!(shown, [("state:a", 1), ("state:c", 5)]);
}

/// A node with this many keys, `bulk:00000` and so on.
fn filled(count: usize) -> Node {
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let mut client = node.client();
    for from in (0..count).step_by(1_000) {
        let puts: Value = (from..count.min(from + 1_000))
            .map(|at| json!({ "op": "put", "key": format!("bulk:{at:05}"), "value": "x" }))
            .collect();
        client.call("POST", "/api/kv/batch", &[], puts.to_string().as_bytes()).expect(200);
    }
    node
}

#[test]
fn many_may_list_many_keys_at_a_time() {
    let node = filled(8_000);
    let expected: Vec<_> = (0..8_000).map(|at| format!("bulk:{at:05}").into_bytes()).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let got = names(&mut node.client(), "prefix=bulk:&limit=1000");
                assert_eq!(got.len(), expected.len());
                assert!(got == expected);
            });
        }
        // Who asks for a single key does not wait for a listing to end.
        let mut client = node.client();
        for at in 0..200 {
            let asked = std::time::Instant::now();
            client.get(&kv(format!("bulk:{at:05}"))).expect(200);
            assert!(asked.elapsed() < std::time::Duration::from_millis(500), "{:?}", asked.elapsed());
        }
    });
}

#[test]
fn whoever_leaves_while_listing_hinders_no_one() {
    let node = filled(3_000);
    for round in 0..60 {
        let mut client = node.client();
        let request = client.compose("GET", "/api/kv?limit=1000", &[], b"");
        client.send(&request.repeat(1 + round % 5));
        // Dropped, with its listing under way.
    }
    let got = names(&mut node.client(), "prefix=bulk:&limit=1000");
    assert_eq!(got.len(), 3_000);
}

#[test]
fn names_of_the_longest_length_are_listed_whole() {
    let node = node();
    let mut client = node.client();
    for last in [b'a', b'b', b'c'] {
        let mut name = b"long:".to_vec();
        name.resize(1_023, b'\xe9');
        name.push(last);
        client.put(&kv(&name), "x").expect(201);
    }
    let got = pages(&mut client, "prefix=long:&limit=1", |_, _| ());
    assert_eq!(got.len(), 3);
    assert!(got.concat().iter().zip(b"abc").all(|(name, last)| name.len() == 1_024 && name[1_023] == *last));
}

#[test]
fn listing_needs_its_own_grant() {
    let node = node();
    let mut lister = node.stranger().with_token(&token::with_grants(&["kv:list"]));
    lister.get("/api/kv").expect(200);
    lister.get(&kv("x")).expect(403);
    let mut reader = node.stranger().with_token(&token::with_grants(&["kv:read", "kv:write", "kv:delete"]));
    assert_eq!(reader.get("/api/kv").expect(403).field("x-required-grants"), Some("kv:list"));
}

#[test]
fn a_listing_whose_client_has_gone_holds_up_no_other() {
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let mut client = node.client();
    for thousand in 0..50 {
        let puts: Vec<_> = (0..1_000)
            .map(|at| json!({"op": "put", "key": format!("{thousand}-{at}"), "value": ""}))
            .collect();
        client.call("POST", "/api/kv/batch", &[], json!(puts).to_string().as_bytes()).expect(200);
    }
    let timed = |client: &mut Client| {
        let began = Instant::now();
        client.get("/api/kv?limit=1").expect(200);
        began.elapsed()
    };
    let alone = timed(&mut client).max(timed(&mut client));
    for _ in 0..300 {
        let mut gone = node.client();
        let listing = gone.compose("GET", "/api/kv", &[], b"");
        // The first answer says that the listing has begun.
        gone.send(&[gone.compose("GET", "/livez", &[], b""), listing].concat());
        gone.response().expect(200);
        socket2::SockRef::from(gone.stream()).set_linger(Some(Duration::ZERO)).unwrap();
    }
    let after = timed(&mut client);
    assert!(after < alone * 60, "{after:?} behind 300 of {alone:?} each that nobody waits for");
}
