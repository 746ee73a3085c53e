//! The verbs reach items, lists and databases too, and say what happened as they do of keys.

mod common;

use common::cli::{Call, call, call_to, url};
use common::{Node, Shared};
use std::sync::Arc;

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|setup| {
        setup.workers(2);
    })
}

#[test]
fn an_item_of_an_app_is_put_read_listed_and_deleted() {
    let node = node();
    let made = call_to(&node, &["app", "create", "items"]).run();
    let tokens: Vec<String> = made.text().lines().map(str::to_owned).collect();
    let [reads, writes] = &tokens[..] else { panic!("{tokens:?}") };
    let with = |token: &str, arguments: &[&str]| -> Call {
        call(arguments)
            .argument("--app=items")
            .variable("LUCID_URL", &url(&node))
            .variable("LUCID_TOKEN", token)
    };
    let root = |arguments: &[&str]| call_to(&node, arguments).argument("--app=items");
    assert_eq!(with(writes, &["put", "text", "two\nlines \"é\""]).said(), "stored\n");
    assert_eq!(root(&["put", "number", "12345678901234567890.50", "--type", "json"]).said(), "stored\n");
    assert_eq!(
        root(&["put", "null", "null", "--type", "application/json", "--ttl", "1h"]).said(),
        "stored\n"
    );
    assert_eq!(root(&["put", "stdin"]).stdin("from stdin\n").said(), "stored\n");
    assert_eq!(with(reads, &["get", "text"]).said(), "two\nlines \"é\"");
    assert_eq!(with(reads, &["get", "text", "--json"]).said(), "\"two\\nlines \\\"é\\\"\"\n");
    assert_eq!(root(&["get", "number"]).said(), "12345678901234567890.50");
    assert_eq!(root(&["get", "null"]).said(), "null");
    assert_eq!(root(&["get", "stdin"]).said(), "from stdin\n");
    assert_eq!(root(&["list"]).said(), "null\nnumber\nstdin\ntext\n");
    assert_eq!(root(&["list", "--prefix", "n", "--json"]).said(), "\"null\"\n\"number\"\n");
    assert_eq!(call_to(&node, &["list", "--app", "default"]).said(), "");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("value");
    assert_eq!(root(&["get", "text", "-o", file.to_str().unwrap()]).said(), "");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "two\nlines \"é\"");
    assert_eq!(root(&["put", "copy", "--file", file.to_str().unwrap()]).said(), "stored\n");
    assert_eq!(root(&["delete", "copy"]).said(), "deleted\n");
    for verb in ["get", "delete"] {
        let said = root(&[verb, "copy"]).failed(3);
        assert!(said.starts_with("lucid: copy: Key 'copy' not found"), "{said}");
    }
    let refused = with(reads, &["put", "text", "x"]).failed(4);
    assert!(refused.contains("lacks the grant light:write"), "{refused}");
    call_to(&node, &["get", "text", "--app", "no such app"]).failed(3);
    call_to(&node, &["get", "text"]).failed(3);
}

#[test]
fn a_list_is_a_line_for_each_value() {
    let node = node();
    let of = |arguments: &[&str]| call_to(&node, arguments).argument("--app=default").argument("--lists");
    assert_eq!(of(&["put", "users"]).stdin("alice\nbob\nalice\n").said(), "stored\n");
    assert_eq!(of(&["get", "users"]).said(), "alice\nbob\n");
    assert_eq!(of(&["put", "users", "carol", "--add"]).said(), "stored\n");
    assert_eq!(of(&["put", "users", "--add", "--type=json"]).stdin("1\n1.0\nnull\n").said(), "stored\n");
    assert_eq!(of(&["get", "users", "--json"]).said(), "\"alice\"\n\"bob\"\n\"carol\"\n1\nnull\n");
    assert_eq!(of(&["put", "empty"]).stdin("").said(), "stored\n");
    assert_eq!(of(&["get", "empty"]).said(), "");
    assert_eq!(of(&["list"]).said(), "empty\nusers\n");
    assert_eq!(of(&["delete", "users"]).said(), "deleted\n");
    assert!(of(&["get", "users"]).failed(3).contains("List 'users' not found"));
    assert_eq!(of(&["list"]).said(), "empty\n");
}

#[test]
fn a_listing_of_an_app_goes_through_every_page_in_byte_order() {
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let mut client = node.client();
    let names: Vec<String> = (0..2_100).map(|number| format!("k{number:05}")).collect();
    for name in &names {
        let body = format!("{{\"key\":\"{name}\",\"value\":1}}");
        client.call("POST", "/item/write", &[], body.as_bytes()).expect(200);
    }
    for limit in [0, 1, 1_000, 1_001, 2_100, 2_101] {
        let said = call_to(&node, &["list", "--app=default", &format!("--limit={limit}")]).said();
        assert_eq!(said.lines().collect::<Vec<_>>(), names[..limit.min(2_100)], "{limit}");
    }
    assert_eq!(call_to(&node, &["list", "--app=default"]).said().lines().count(), 2_100);
}

#[test]
fn what_only_keys_have_is_refused_before_anything_is_sent() {
    let nobody = |arguments: &[&str]| call(arguments).variable("LUCID_URL", "http://127.0.0.1:9").failed(2);
    for (arguments, flag) in [
        (&["get", "k", "--app=a", "--if-none-match=x"][..], "--if-none-match"),
        (&["put", "k", "v", "--app=a", "--create"], "--create"),
        (&["put", "k", "v", "--database=d", "--exists"], "--exists"),
        (&["put", "k", "v", "--app=a", "--if-match=x"], "--if-match"),
        (&["put", "k", "v", "--app=a", "--fencing-token=1"], "--fencing-token"),
        (&["put", "k", "v", "--database=d", "--ttl=1h"], "--ttl"),
        (&["delete", "k", "--app=a", "-o", "-"], "--output"),
        (&["delete", "k", "--database=d", "--if-match=x"], "--if-match"),
        (&["list", "--app=a", "--long"], "--long"),
    ] {
        let said = nobody(arguments);
        assert!(said.contains(&format!("{flag} does not go with --")), "{said}");
    }
    for arguments in [
        &["get", "k", "--app=a", "--database=d"][..],
        &["get", "k", "--lists"],
        &["put", "k", "v", "--add", "--app=a"],
        &["put", "k", "v", "--compress"],
        &["get", "k", "--encryption-key-file=/x"],
        &["put", "k", "v", "--app=a", "--type=text/plain"],
        &["put", "k", "five", "--app=a", "--type=json"],
        &["get", "--encoded", "%ff", "--app=a"],
    ] {
        nobody(arguments);
    }
}
