//! `lucid token` makes tokens that a node takes, and says of any token what a node would say.

mod common;

use common::cli::{Call, call, url};
use common::token::{SECRET, now, signed_raw, with_claims};
use common::{Node, kv};
use serde_json::{Value, json};

/// A call where the secret of the nodes under test is configured.
fn with_secret(arguments: &[&str]) -> Call {
    call(arguments).variable("LUCID_AUTHENTICATION__SECRET_KEY", SECRET)
}

fn issue(arguments: &[&str]) -> String {
    let said = with_secret(&[&["token", "issue"], arguments].concat()).said();
    assert_eq!(said.matches('\n').count(), 1);
    said.trim().to_owned()
}

fn inspect(token: &str) -> Call {
    with_secret(&["token", "inspect"]).variable("LUCID_TOKEN", token)
}

#[test]
fn a_node_takes_what_was_issued_and_grants_what_it_says() {
    let node = Node::start(|_| {});
    let all = issue(&[]);
    node.stranger().with_token(&all).put(&kv("k"), "v").expect(201);
    let reader =
        issue(&["--grant", "kv:read", "--grant", "kv:list", "--ttl", "1m", "--sub", "reader \"\u{e9}\""]);
    let mut client = node.stranger().with_token(&reader);
    client.get(&kv("k")).expect(200);
    client.get("/api/kv").expect(200);
    client.put(&kv("k"), "w").expect(403);
    let fetched = call(&["get", "k", "--url", &url(&node)]).variable("LUCID_TOKEN", &reader);
    assert_eq!(fetched.said(), "v");
}

#[test]
fn the_secret_comes_from_the_file_of_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lucid.yml");
    std::fs::write(&file, format!("authentication:\n  secret_key: {SECRET}\n")).unwrap();
    let file = file.to_str().unwrap();
    let token = call(&["-c", file, "token", "issue"]).said();
    let shown = call(&["token", "inspect", "-", "-c", file]).stdin(&token).said();
    assert!(shown.contains("signature  right: it is of the configured secret\n"), "{shown}");
    assert!(!shown.contains(SECRET) && !shown.contains(token.trim()), "nothing that is secret is shown");
}

#[test]
fn without_a_secret_nothing_is_signed() {
    for call in [
        call(&["token", "issue"]),
        call(&["token", "issue"]).variable("LUCID_AUTHENTICATION__ENABLED", "false"),
    ] {
        let stderr = call.failed(78);
        assert!(stderr.starts_with("lucid: there is no secret to sign with"), "{stderr}");
        assert!(stderr.contains("-c FILE"), "{stderr}");
    }
    let weak = call(&["token", "issue"]).variable("LUCID_AUTHENTICATION__SECRET_KEY", "short").run();
    assert!(weak.code == Some(0) && weak.stderr.contains("can be guessed") && !weak.stderr.contains("short"));
}

#[test]
fn what_cannot_be_issued_is_wrong_usage() {
    for (arguments, hint) in [
        (&["--grant", "kv:raed"][..], "no such grant; did you mean kv:read?"),
        (&["--grant", ""], "no such grant"),
        (&["--ttl", "0"], "expected a time from 1 s"),
        (&["--ttl", "11000d"], "expected a time from 1 s"),
        (&["--sub", &"s".repeat(4_000)], "shorten --sub"),
    ] {
        let stderr = with_secret(&[&["token", "issue"], arguments].concat()).failed(2);
        assert!(stderr.contains(hint), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_token_is_explained_in_words() {
    let token =
        with_claims(&json!({ "sub": "me", "iat": now() - 7_200, "exp": now() + 7_230, "scope": "kv:read" }));
    let shown = inspect(&token).said();
    let line = |name: &str| {
        shown.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    assert_eq!(line("header"), r#"{"typ":"JWT","alg":"HS256"}"#);
    assert!(line("claims").starts_with('{') && line("claims").contains(r#""sub":"me""#));
    assert_eq!(line("grants"), "kv:read");
    assert!(line("issued").ends_with(", 2 hours ago"), "{shown}");
    assert!(line("expires").ends_with(", in 2 hours"), "{shown}");
    assert_eq!(line("signature"), "right: it is of the configured secret");
    let object: Value = serde_json::from_str(
        &with_secret(&["token", "inspect", "--json"]).variable("LUCID_TOKEN", &token).said(),
    )
    .unwrap();
    assert_eq!((&object["signature"], &object["claims"]["sub"]), (&"right".into(), &"me".into()));
    assert!(object["expires_in"].as_i64().is_some_and(|left| (7_000..=7_230).contains(&left)));
}

#[test]
fn a_token_that_a_node_would_refuse_ends_with_4() {
    let header = br#"{"typ":"JWT","alg":"HS256"}"#;
    let soon = format!("{{\"exp\":{}}}", now() + 60);
    for (token, words) in [
        (
            signed_raw(b"another secret of more than 32 bytes", header, soon.as_bytes()),
            "wrong: it is not of the configured secret",
        ),
        (with_claims(&json!({ "exp": now() - 90 })), "expired"),
        (with_claims(&json!({ "nbf": now() + 90, "exp": now() + 100 })), "good from"),
        (with_claims(&json!({})), "right, but a node refuses the claims"),
        (
            signed_raw(SECRET.as_bytes(), br#"{"alg":"none"}"#, soon.as_bytes()),
            "not checked: a node takes only canonical HS256",
        ),
    ] {
        let came = inspect(&token).run();
        assert_eq!(came.code, Some(4), "{words}: {}", came.stderr);
        assert!(came.text().contains(words), "{words}: {}", came.text());
    }
    // Without a secret only the time speaks.
    let other = signed_raw(b"another", header, soon.as_bytes());
    let shown = call(&["token", "inspect"]).variable("LUCID_TOKEN", &other).said();
    assert!(shown.contains("not checked: no secret at hand"), "{shown}");
    let expired = call(&["token", "inspect", &with_claims(&json!({ "exp": 1 }))]).run();
    assert_eq!(expired.code, Some(4));
}

#[test]
fn what_is_no_token_is_said_without_repeating_it() {
    for text in ["nonsense", "a.b.c", "lkv_something_else", "e30.e30"] {
        let stderr = inspect(text).failed(1);
        assert!(stderr.starts_with("lucid: this is no token: ") && !stderr.contains(text), "{stderr}");
    }
    assert!(call(&["token", "inspect"]).failed(2).contains("there is no token to look at"));
}

#[test]
fn what_a_token_says_moves_no_cursor() {
    let token = with_claims(&json!({ "sub": "\u{1b}[2J", "scope": "\u{1b}[2J" }));
    let raw = signed_raw(
        SECRET.as_bytes(),
        br#"{"alg":"HS256"}"#,
        "{\"exp\":9999999999,\"sub\":\"\u{9b}2J\"}".as_bytes(),
    );
    for token in [token, raw] {
        let shown = inspect(&token).run().text();
        assert!(!shown.chars().any(|letter| letter.is_control() && letter != '\n'), "{shown:?}");
    }
}
