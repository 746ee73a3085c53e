//! Conditional requests: tags that never name other bytes, create-only, update-only, compare-and-swap.

mod common;

use common::{Client, Node, Shared, kv, token};
use std::collections::HashSet;
use std::sync::Arc;

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|setup| {
        setup.workers(2);
    })
}

/// Stores a value and gives its tag.
fn put(client: &mut Client, path: &str, value: &str) -> String {
    client.put(path, value);
    client.get(path).expect(200).expect_field("etag").to_string()
}

#[test]
fn get_and_head_answer_304_to_whoever_has_the_bytes() {
    let node = node();
    let mut client = node.client();
    let path = kv("fresh");
    let tag = put(&mut client, &path, "bytes");
    let lists = [
        tag.clone(),
        format!("W/{tag}"),
        "*".to_string(),
        format!("\"other\", {tag}"),
        format!("W/\"a,b\",{tag} , \"c\""),
    ];
    for list in &lists {
        for method in ["GET", "HEAD"] {
            let answer = client.call(method, &path, &[("If-None-Match", list)], b"").expect(304);
            assert_eq!(answer.field("etag"), Some(tag.as_str()), "{answer}");
        }
    }
    for list in ["\"other\"", "W/\"other\"", "", &tag.replace('"', ""), &format!("\"x{}", &tag[1..])] {
        let answer = client.call("GET", &path, &[("If-None-Match", list)], b"").expect(200);
        assert_eq!(answer.body, b"bytes");
    }
}

#[test]
fn a_list_of_tags_may_stand_on_several_lines() {
    let node = node();
    let mut client = node.client();
    let path = kv("lines");
    let tag = put(&mut client, &path, "bytes");
    let fields = [("If-None-Match", "\"other\""), ("If-None-Match", tag.as_str())];
    client.call("GET", &path, &fields, b"").expect(304);
    let fields = [("If-Match", "\"other\""), ("If-Match", tag.as_str())];
    client.call("PUT", &path, &fields, b"new").expect(200);
}

#[test]
fn an_absent_key_is_404_whatever_the_condition_of_a_get() {
    let node = node();
    let mut client = node.client();
    for list in ["*", "\"x\""] {
        client.call("GET", &kv("none"), &[("If-None-Match", list)], b"").expect(404);
    }
}

#[test]
fn if_none_match_star_makes_a_put_create_only() {
    let node = node();
    let mut client = node.client();
    let path = kv("create-only");
    let star = [("If-None-Match", "*")];
    client.call("PUT", &path, &star, b"first").expect(201);
    client.call("PUT", &path, &star, b"second").expect(412);
    assert_eq!(client.get(&path).body, b"first");
    client.delete(&path).expect(200);
    client.call("PUT", &path, &star, b"third").expect(201);
}

#[test]
fn if_match_guards_put_delete_and_patch() {
    let node = node();
    let mut client = node.client();
    let path = kv("guarded");
    let old = put(&mut client, &path, "1");
    let new = put(&mut client, &path, "2");
    for (method, body) in [("PUT", "3"), ("DELETE", ""), ("PATCH", "increment"), ("PATCH", "lock")] {
        for tag in [old.as_str(), &format!("W/{new}"), "\"junk\""] {
            client.call(method, &path, &[("If-Match", tag)], body.as_bytes()).expect(412);
        }
        assert_eq!(client.get(&path).expect_field("etag"), new, "{method} has changed something");
    }
    client.call("PATCH", &path, &[("If-Match", &new)], b"increment").expect(200);
    let new = client.get(&path).expect_field("etag").to_string();
    client.call("PUT", &path, &[("If-Match", &format!("\"x\", {new}"))], b"4").expect(200);
    client.call("PUT", &path, &[("If-Match", "*")], b"5").expect(200);
    let new = client.get(&path).expect_field("etag").to_string();
    client.call("DELETE", &path, &[("If-Match", &new)], b"").expect(200);
}

#[test]
fn if_match_on_an_absent_key_is_412() {
    let node = node();
    let mut client = node.client();
    let path = kv("never-there");
    for tag in ["*", "\"x\""] {
        client.call("PUT", &path, &[("If-Match", tag)], b"1").expect(412);
        client.call("DELETE", &path, &[("If-Match", tag)], b"").expect(412);
        client.call("PATCH", &path, &[("If-Match", tag)], b"increment").expect(412);
    }
    client.get(&path).expect(404);
}

#[test]
fn if_exists_makes_a_put_update_only() {
    let node = node();
    let mut client = node.client();
    let path = kv("update-only");
    let only = format!("{path}?if=exists");
    let missed = client.put(&only, "1").expect(404);
    assert_eq!(missed.message(), "The specified key does not exists.");
    client.get(&path).expect(404);
    client.put(&path, "1").expect(201);
    client.put(&only, "2").expect(200);
    assert_eq!(client.get(&path).body, b"2");
}

#[test]
fn a_lock_is_seen_before_a_condition() {
    let node = node();
    let mut client = node.client();
    let path = kv("locked-first");
    client.put(&path, "1");
    client.patch(&path, "lock").expect(200);
    for (method, body) in [("PUT", "2"), ("DELETE", ""), ("PATCH", "increment")] {
        client.call(method, &path, &[("If-Match", "\"wrong\"")], body.as_bytes()).expect(409);
    }
    client.call("PUT", &path, &[("If-None-Match", "*")], b"2").expect(409);
}

#[test]
fn a_tag_is_never_used_again() {
    let node = node();
    let mut client = node.client();
    let mut seen = HashSet::new();
    for round in 0..200 {
        for path in [kv("reused-a"), kv("reused-b")] {
            let created = client.put(&path, format!("{round}"));
            assert!(seen.insert((path.clone(), created.expect_field("etag").to_string())), "{created}");
            if round % 3 == 0 {
                client.delete(&path).expect(200);
            }
        }
    }
}

#[test]
fn a_restart_does_not_bring_old_tags_back() {
    let first = Node::start(|_| {});
    let mut client = first.client();
    let old = put(&mut client, &kv("k"), "before");
    drop(first);
    let second = Node::start(|_| {});
    let mut client = second.client();
    let new = put(&mut client, &kv("k"), "behind");
    assert_ne!(old, new);
    client.call("GET", &kv("k"), &[("If-None-Match", &old)], b"").expect(200);
}

#[test]
fn of_many_compare_and_swaps_exactly_one_wins() {
    let node = node();
    let path = kv("swapped");
    let mut client = node.client();
    for round in 0..20 {
        let tag = put(&mut client, &path, &format!("round {round}"));
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let swap = |id: usize| {
                let (node, path, tag) = (&node, &path, &tag);
                let token = token::root();
                scope.spawn(move || {
                    let mut client = node.stranger().with_token(&token);
                    client.call("PUT", path, &[("If-Match", tag)], format!("{id}").as_bytes()).status
                })
            };
            let swaps: Vec<_> = (0..6).map(swap).collect();
            swaps.into_iter().map(|swap| swap.join().unwrap()).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 5, "{statuses:?}");
    }
}
