//! The verbs reach items, lists and databases too, and say what happened as they do of keys.

mod common;

use common::cli::{Call, call, call_to, url};
use common::{Node, Shared};
use std::sync::Arc;

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|setup| {
        setup.workers(2).set("databases.password", PASSWORD);
    })
}

const PASSWORD: &str = "open sesame";

/// A call of somebody who knows the databases' password and nothing else.
fn by_password(node: &Node, arguments: &[&str]) -> Call {
    call(arguments).variable("LUCID_URL", &url(node)).variable("LUCID_PASSWORD", PASSWORD)
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

#[test]
fn a_value_of_a_database_is_put_read_listed_and_deleted() {
    let node = node();
    let of = |arguments: &[&str]| by_password(&node, arguments).argument("--database=verbs & more");
    assert_eq!(of(&["put", "text", "two\nlines \"é\""]).said(), "stored\n");
    assert_eq!(of(&["put", "object", r#"{"a":[1,2.50]}"#, "--type=json", "--compress"]).said(), "stored\n");
    assert_eq!(of(&["put", "null", "null", "--type=json"]).said(), "stored\n");
    assert_eq!(of(&["put", "stdin", "--compress"]).stdin("s".repeat(10_000)).said(), "stored\n");
    assert_eq!(of(&["get", "text"]).said(), "two\nlines \"é\"");
    assert_eq!(of(&["get", "object", "--json"]).said(), "{\"a\":[1,2.50]}\n");
    assert_eq!(of(&["get", "stdin"]).said(), "s".repeat(10_000));
    assert!(of(&["get", "null"]).failed(3).contains("null: the database has no such key, or null"));
    assert!(of(&["get", "absent"]).failed(3).contains("absent: the database has no such key"));
    assert_eq!(of(&["list"]).said(), "null\nobject\nstdin\ntext\n");
    assert_eq!(of(&["list", "--prefix", "o", "--json"]).said(), "\"object\"\n");
    assert_eq!(of(&["list", "--limit", "2"]).said().lines().count(), 2);
    assert_eq!(of(&["delete", "text"]).said(), "deleted\n");
    let done = of(&["delete", "text", "--json"]).said();
    assert_eq!(done, "{\"message\":\"Data deleted successfully\"}\n");
    // A token does as well, and the password goes before it.
    let by_token = call_to(&node, &["get", "stdin", "--database=verbs & more"]);
    assert_eq!(by_token.said().len(), 10_000);
    let wrong = call_to(&node, &["get", "stdin", "--database=verbs & more"]).variable("LUCID_PASSWORD", "no");
    assert!(wrong.failed(4).contains("does not take the password of LUCID_PASSWORD"));
    let unknown = by_password(&node, &["get", "k", "--database=nowhere"]).failed(3);
    assert!(unknown.starts_with("lucid: k: "), "{unknown}");
    by_password(&node, &["list", "--database=nowhere"]).failed(3);
    let nobody = call(&["get", "k", "--database=d"]).variable("LUCID_URL", &url(&node)).failed(4);
    assert!(nobody.contains("wants a token"), "{nobody}");
}

#[test]
fn a_sealed_value_is_read_with_its_key_alone_which_no_command_line_holds() {
    let (node, folder) = (node(), tempfile::tempdir().unwrap());
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("--encryption-key-file={}", path.display())
    };
    let (right, wrong, empty) = (file("right", "hush é\n"), file("wrong", "hash\n"), file("empty", "\n"));
    let of = |arguments: &[&str]| by_password(&node, arguments).argument("--database=sealed");
    assert_eq!(of(&["put", "k", "secret", &right]).said(), "stored\n");
    assert_eq!(of(&["get", "k", &right]).said(), "secret");
    for arguments in [&["get", "k"][..], &["get", "k", &wrong]] {
        let refused = of(arguments).failed(4);
        assert!(!refused.contains("hush") && !refused.contains("hash"), "{refused}");
    }
    of(&["get", "k", &empty]).failed(2);
    of(&["get", "k", "--encryption-key-file=/no/such"]).failed(1);
    let password = folder.path().join("password");
    std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    let by_file = call(&["get", "k", "--database=sealed", &right]).variable("LUCID_URL", &url(&node));
    assert_eq!(by_file.variable("LUCID_PASSWORD_FILE", password.to_str().unwrap()).said(), "secret");
}

#[test]
fn a_query_is_sent_whole_by_its_words_or_from_stdin() {
    let node = node();
    let execute = |words: &[&str]| by_password(&node, &[&["execute"], words].concat());
    assert_eq!(execute(&["SET", "queries", "a key", "it's; \"quoted\""]).said(), "true\n");
    assert_eq!(execute(&["GET queries 'a key'"]).said(), "\"it's; \\\"quoted\\\"\"\n");
    assert_eq!(execute(&["-"]).stdin("get queries 'a key'\n").said(), "\"it's; \\\"quoted\\\"\"\n");
    assert_eq!(execute(&["SET", "queries", "n", "5"]).said(), "true\n");
    assert_eq!(execute(&["INCR", "queries", "n", "-7"]).said(), "-2\n");
    assert_eq!(execute(&["GET", "queries", "n"]).said(), "\"-2\"\n");
    assert_eq!(execute(&["SET", "queries", "sealed", "v", "None", "True"]).said(), "true\n");
    assert_eq!(execute(&["COUNT", "queries"]).said(), "3\n");
    assert_eq!(call_to(&node, &["execute", "EXISTS queries n"]).said(), "true\n");
    let bad = execute(&["GET queries"]).failed(1);
    assert!(bad.contains("The argument key is missing") && bad.contains("12"), "{bad}");
    let bad = execute(&["FLUSH"]).failed(1);
    assert!(bad.contains("none of the verbs SET, GET,"), "{bad}");
    execute(&["COUNT nowhere"]).failed(3);
    execute(&["DATABASE_RENAME queries queries"]).failed(5);
    execute(&[]).failed(2);
    execute(&["-"]).stdin(b"\xff").failed(2);
    let token = common::token::with_grants(&["execute", "db:read"]);
    let refused = call(&["execute", "DELETE queries n"]).variable("LUCID_URL", &url(&node));
    assert!(refused.variable("LUCID_TOKEN", &token).failed(4).contains("lacks the grant db:write"));
    let all = execute(&["GET_ALL", "queries"]).said();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&all).unwrap()["n"], "-2");
}
