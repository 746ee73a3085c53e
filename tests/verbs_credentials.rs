//! `lucid key` and `lucid app` make, show and end the credentials of a running node, and what is secret
//! stands alone on stdout, once.

mod common;

use common::cli::{Call, call, call_to, url};
use common::{Node, Shared, kv, token};
use serde_json::{Value, json};
use std::sync::Arc;

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|setup| {
        setup.workers(2);
    })
}

/// The token of a person who sees nobody else's keys.
fn token_of(person: &str) -> String {
    let grants = ["keys:read", "keys:write", "kv:read", "kv:list"];
    token::with_claims(&json!({ "sub": person, "exp": token::now() + 3_600, "grants": grants }))
}

fn by(node: &Node, person: &str, arguments: &[&str]) -> Call {
    call_to(node, arguments).variable("LUCID_TOKEN", &token_of(person))
}

fn object(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

/// What stands alone on a line of stdout.
#[track_caller]
fn alone(call: Call) -> (String, String) {
    let came = call.run();
    assert_eq!(came.code, Some(0), "{}", came.stderr);
    let line = came.text();
    assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line:?}");
    (line.trim_end().to_owned(), came.stderr)
}

#[test]
fn a_key_is_made_used_renamed_and_ended() {
    let node = node();
    let create = ["key", "create", "reports", "--grant", "kv:read", "--grant", "kv:list", "--prefix", "r/"];
    let (key, words) = alone(by(&node, "ann", &[&create[..], &["--ttl", "1h"]].concat()));
    assert!(key.starts_with("lkv_") && key.len() == 65, "{key}");
    assert!(words.contains("of reports: kv:read kv:list, until 2") && words.contains("not shown again"));
    assert!(!words.contains(&key), "{words}");
    let listed = by(&node, "ann", &["key", "list"]).said();
    let id = listed.split_whitespace().next().unwrap().to_owned();
    assert!(
        key.contains(&id) && listed.contains("  active ") && listed.ends_with("kv:read,kv:list  reports\n")
    );
    node.client().put(&kv("r/1"), "v").expect(201);
    let get = |name: &str| call(&["get", name, "--url", &url(&node)]).variable("LUCID_TOKEN", &key);
    assert_eq!(get("r/1").said(), "v");
    assert!(get("other").failed(4).contains("the node at "));

    assert_eq!(by(&node, "ann", &["key", "rename", &id, "weekly \"reports\""]).said(), "renamed\n");
    let shown = by(&node, "ann", &["key", "show", &id]).said();
    for line in [
        "name       weekly \"reports\"\n",
        "status     active\n",
        "grants     kv:read kv:list\n",
        "prefix     r/\n",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    assert!(!shown.contains(&key[20..]) && !listed.contains(&key[20..]));
    assert_eq!(by(&node, "ann", &["key", "delete", &id]).said(), "deleted\n");
    get("r/1").failed(4);
    for arguments in
        [&["key", "show", "aaaaaaaaaaaa"][..], &["key", "delete", "../kv/r"], &["key", "rename", "no", "n"]]
    {
        let stderr = by(&node, "ann", arguments).failed(3);
        assert!(stderr.contains("There is no such API key."), "{stderr}");
    }
}

#[test]
fn a_key_that_never_expires_is_made_with_a_warning() {
    let node = node();
    let (_, words) = alone(by(&node, "ben", &["key", "create", "ever", "--grant", "kv:read"]));
    assert!(
        words.contains(", for good;") && words.contains("lucid: warning: This key never expires."),
        "{words}"
    );
}

#[test]
fn scripts_get_json() {
    let node = node();
    let made =
        by(&node, "cleo", &["key", "create", "j", "--grant", "kv:read", "--ttl", "60", "--json"]).said();
    let made = object(&made);
    assert!(made["key"].as_str().is_some_and(|key| key.starts_with("lkv_")), "{made}");
    let listed = by(&node, "cleo", &["key", "list", "--json"]).said();
    assert_eq!(listed.matches('\n').count(), 1);
    assert_eq!(object(&listed)["id"], made["id"]);
    let id = made["id"].as_str().unwrap();
    assert_eq!(object(&by(&node, "cleo", &["key", "show", id, "--json"]).said())["status"], "active");
    assert!(by(&node, "cleo", &["key", "delete", id, "--json"]).said().contains("\"message\""));
    let app = object(&call_to(&node, &["app", "create", "scripted", "--json"]).said());
    assert!(app["read_token"].is_string() && app["readwrite_token"].is_string(), "{app}");
    let apps = call_to(&node, &["app", "list", "--json"]).said();
    assert!(apps.lines().any(|line| object(line)["id"] == app["id"]), "{apps}");
}

#[test]
fn a_list_of_more_than_a_page_is_whole() {
    let node = node();
    let mut client = node.stranger().with_token(&token_of("dora"));
    for number in 0..1_001 {
        let order =
            json!({ "name": format!("k{number}"), "grants": ["kv:read"], "expires_in": 600 }).to_string();
        client.call("POST", "/api/keys", &[], order.as_bytes()).expect(201);
    }
    let listed = by(&node, "dora", &["key", "list"]).said();
    let ids: std::collections::HashSet<&str> =
        listed.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!((ids.len(), listed.lines().count()), (1_001, 1_001));
}

#[test]
fn an_app_is_made_rotated_and_ended() {
    let node = node();
    let came = call_to(&node, &["app", "create", "web"]).run();
    let text = came.text();
    let tokens: Vec<&str> = text.lines().collect();
    assert!(tokens.len() == 2 && tokens[0].starts_with("lkr_") && tokens[1].starts_with("lkw_"), "{text}");
    assert!(came.stderr.contains("(web): the first token reads, the second also writes"), "{}", came.stderr);
    let stderr = call_to(&node, &["app", "create", "web"]).failed(5);
    assert!(stderr.contains("web: Another app has this name.") && !stderr.contains("lock"), "{stderr}");
    let listed = call_to(&node, &["app", "list"]).said();
    let id =
        listed.lines().find(|line| line.ends_with("  web")).and_then(|line| line.split(' ').next()).unwrap();
    let known = |token: &str| node.stranger().with_token(token).get("/api/keys").status == 403;
    let (read, words) = alone(call_to(&node, &["app", "rotate", id, "read", "--grace", "10m"]));
    assert!(read.starts_with("lkr_") && words.contains("the token reads; it is not shown again"), "{words}");
    assert!(known(tokens[0]) && known(&read), "the one before has its grace");
    let (write, _) = alone(call_to(&node, &["app", "rotate", id, "readwrite"]));
    assert!(known(&write) && !known(tokens[1]), "the one before has none");
    let both = call_to(&node, &["app", "rotate", id, "both", "--grace", "0"]).run();
    assert_eq!(both.text().lines().count(), 2, "{}", both.stderr);
    assert!(!known(&read) && !known(&write));
    assert_eq!(call_to(&node, &["app", "delete", id]).said(), "deleted\n");
    for arguments in [&["app", "delete", id][..], &["app", "rotate", id, "both"], &["app", "delete", "../x"]]
    {
        let stderr = call_to(&node, arguments).failed(3);
        assert!(stderr.contains("There is no such app."), "{stderr}");
    }
    let default =
        listed.lines().find(|line| line.ends_with("  default")).and_then(|line| line.split(' ').next());
    let stderr = call_to(&node, &["app", "delete", default.unwrap()]).failed(5);
    assert!(stderr.contains("The default app cannot be deleted."), "{stderr}");
}

#[test]
fn no_key_is_made_that_its_maker_could_not_be() {
    let node = node();
    let lesser = token::with_grants(&["keys:write", "kv:read"]);
    let stderr = call_to(&node, &["key", "create", "k", "--grant", "kv:write"])
        .variable("LUCID_TOKEN", &lesser)
        .failed(4);
    assert!(stderr.contains("lacks the grant kv:write"), "{stderr}");
    let scoped = with_secret(&["token", "issue", "--prefix", "a/"]).said();
    let stderr = call_to(&node, &["key", "create", "k", "--grant", "kv:read", "--prefix", "b/"])
        .variable("LUCID_TOKEN", scoped.trim())
        .failed(4);
    assert!(stderr.contains("lucid: the node at ") && !stderr.contains("lacks"), "{stderr}");
    for verb in
        [&["key", "list"][..], &["key", "show", "aaaaaaaaaaaa"], &["app", "list"], &["app", "create", "a"]]
    {
        let stderr =
            call_to(&node, verb).variable("LUCID_TOKEN", &token::with_grants(&["kv:read"])).failed(4);
        assert!(stderr.contains("lacks the grant "), "{stderr}");
    }
}

/// A call where the secret of the nodes under test is configured.
fn with_secret(arguments: &[&str]) -> Call {
    call(arguments).variable("LUCID_AUTHENTICATION__SECRET_KEY", token::SECRET)
}

#[test]
fn a_token_can_be_issued_for_the_keys_under_a_prefix() {
    let node = node();
    let token = with_secret(&["token", "issue", "--prefix", "p/\"\u{e9}", "--grant", "kv:write"]).said();
    let put = |key: &str| call_to(&node, &["put", key, "v"]).variable("LUCID_TOKEN", token.trim());
    assert!(put("p/\"\u{e9}1").said().starts_with("created"));
    put("p/").failed(4);
    let shown = with_secret(&["token", "inspect"]).variable("LUCID_TOKEN", token.trim()).said();
    assert!(shown.contains("\"prefix\":\"p/"), "{shown}");
    let most = "p".repeat(1_024);
    with_secret(&["token", "issue", "--prefix", &most]).said();
    for (prefix, hint) in
        [("", "it is empty, which limits nothing"), (&format!("{most}p"), "it has 1025 bytes")]
    {
        for verb in [&["token", "issue"][..], &["key", "create", "k", "--grant", "kv:read"]] {
            let stderr = with_secret(&[verb, &["--prefix", prefix]].concat()).failed(2);
            assert!(stderr.contains(hint), "{stderr}");
        }
    }
}

#[test]
fn a_mistyped_order_is_not_sent() {
    for (line, hint) in [
        (&["key", "create", "k"][..], "--grant"),
        (&["key", "create", "k", "--grant", "kv:raed"], "did you mean kv:read?"),
        (&["key", "create", "k", "--grant", "kv:read", "--ttl", "0"], "expected a time from"),
        (&["app", "rotate", "a"], "<TOKEN>"),
        (&["app", "rotate", "a", "reed"], "'read'"),
        (&["app", "rotate", "a", "read", "--grace", "1500ms"], "whole seconds"),
    ] {
        let stderr = call(line).failed(2);
        assert!(stderr.contains(hint), "{line:?}: {stderr}");
    }
}
