//! Credentials: what is let in, what one 401 keeps out, and in which order things are checked.

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::token::{self, SECRET, base64url, hmac, now, signed_raw};
use common::{Node, Response, Shared, kv};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|setup| {
        setup.workers(2);
    })
}

const REFUSED: &str = r#"{"message":"You are not allowed to perform this action."}"#;
const HEADER: &[u8] = br#"{"typ":"JWT","alg":"HS256"}"#;

fn claims() -> Vec<u8> {
    json!({ "sub": "x", "exp": now() + 3_600 }).to_string().into_bytes()
}

fn with_header(header: &str) -> String {
    signed_raw(SECRET.as_bytes(), header.as_bytes(), &claims())
}

fn with_payload(payload: impl AsRef<[u8]>) -> String {
    signed_raw(SECRET.as_bytes(), HEADER, payload.as_ref())
}

/// A good token whose last character, which carries two bits that must be zero, carries others.
fn not_canonical() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut token = token::root();
    let last = token.pop().unwrap();
    let at = ALPHABET.iter().position(|letter| char::from(*letter) == last).unwrap();
    token.push(char::from(ALPHABET[at | 1]));
    assert_ne!(token, token::root());
    token
}

/// Every way to be let in that must fail, by name.
fn hostile_tokens() -> Vec<(String, String)> {
    let good = token::root();
    let parts: Vec<&str> = good.split('.').collect();
    let (header, payload, tag) = (parts[0], parts[1], parts[2]);
    let exp = now() + 3_600;
    let later = now() + 1_000;
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, token: String| all.push((name.to_string(), token));

    add("nothing", String::new());
    add("one part", "abc".into());
    add("dots", "..".into());
    add("three dots", "...".into());
    add("two parts", format!("{header}.{payload}"));
    add("an empty tag", format!("{header}.{payload}."));
    add("an empty header", format!(".{payload}.{tag}"));
    add("an empty payload", format!("{header}..{tag}"));
    add("four parts", format!("{good}.x"));
    add("a dot behind", format!("{good}."));
    add("a dot before", format!(".{good}"));
    add("twice", format!("{good}{good}"));
    add("padding", format!("{good}="));
    add("padding in the header", format!("{header}=.{payload}.{tag}"));
    add("a cut tag", good[..good.len() - 1].to_string());
    add("a long tag", format!("{good}A"));
    add("half a tag", good[..good.len() - 20].to_string());
    add("a quoted token", format!("\"{good}\""));
    add("a space within", format!("{header} .{payload}.{tag}"));
    add("a comma behind", format!("{good},"));
    add("a tag that is not canonical", not_canonical());
    let standard = STANDARD.encode(hmac(SECRET.as_bytes(), &format!("{header}.{payload}")));
    add("standard base64", format!("{header}.{payload}.{standard}"));
    let mut flipped = hmac(SECRET.as_bytes(), &format!("{header}.{payload}"));
    flipped[31] ^= 1;
    add("one wrong bit", format!("{header}.{payload}.{}", base64url(flipped)));
    add("another payload", format!("{header}.{}.{tag}", base64url(claims())));

    for (name, alg) in [
        ("none", "none"),
        ("None", "None"),
        ("NONE", "NONE"),
        ("lower case", "hs256"),
        ("HS384", "HS384"),
        ("HS512", "HS512"),
        ("RS256", "RS256"),
        ("ES256", "ES256"),
        ("empty", ""),
        ("a space", "HS256 "),
    ] {
        add(&format!("alg {name}"), with_header(&format!(r#"{{"typ":"JWT","alg":"{alg}"}}"#)));
    }
    let none = base64url(r#"{"alg":"none"}"#);
    add("alg none, no tag", format!("{none}.{payload}."));
    add("alg none, two parts", format!("{none}.{payload}"));
    add("no alg", with_header(r#"{"typ":"JWT"}"#));
    add("alg null", with_header(r#"{"alg":null}"#));
    add("alg in a list", with_header(r#"{"alg":["HS256"]}"#));
    add("alg twice", with_header(r#"{"alg":"HS256","alg":"HS256"}"#));
    add("alg twice, one none", with_header(r#"{"alg":"none","alg":"HS256"}"#));
    add("alg twice by an escape", with_header(r#"{"alg":"HS256","\u0061lg":"none"}"#));
    add("crit", with_header(r#"{"alg":"HS256","crit":["exp"]}"#));
    add("an empty crit", with_header(r#"{"alg":"HS256","crit":[]}"#));
    add("b64 false", with_header(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#));
    add("a header that is a list", with_header("[]"));
    add("a header that is text", with_header("\"HS256\""));
    add("a header that is empty", with_header(""));
    add("a header with more behind", with_header(r#"{"alg":"HS256"}{}"#));
    add(
        "a header that is not UTF-8",
        signed_raw(SECRET.as_bytes(), b"{\"alg\":\"HS256\",\"x\":\"\xff\"}", &claims()),
    );

    for (name, payload) in [
        ("expired", format!(r#"{{"exp":{}}}"#, now() - 1)),
        ("expired now", format!(r#"{{"exp":{}}}"#, now())),
        ("expired long ago", r#"{"exp":1}"#.to_string()),
        ("exp 0", r#"{"exp":0}"#.to_string()),
        ("no exp", r#"{"sub":"x"}"#.to_string()),
        ("exp null", r#"{"exp":null}"#.to_string()),
        ("exp as text", format!(r#"{{"exp":"{exp}"}}"#)),
        ("exp with a fraction", format!(r#"{{"exp":{exp}.5}}"#)),
        ("exp with a zero fraction", format!(r#"{{"exp":{exp}.0}}"#)),
        ("exp with an exponent", r#"{"exp":4e9}"#.to_string()),
        ("exp negative", r#"{"exp":-1}"#.to_string()),
        ("exp minus zero", r#"{"exp":-0}"#.to_string()),
        ("exp over 64 bits", r#"{"exp":18446744073709551616}"#.to_string()),
        ("exp in a list", format!(r#"{{"exp":[{exp}]}}"#)),
        ("exp true", r#"{"exp":true}"#.to_string()),
        ("exp twice", format!(r#"{{"exp":{exp},"exp":{exp}}}"#)),
        ("exp twice, one past", format!(r#"{{"exp":1,"exp":{exp}}}"#)),
        ("exp twice by an escape", format!(r#"{{"exp":1,"e\u0078p":{exp}}}"#)),
        ("not before later", format!(r#"{{"exp":{exp},"nbf":{later}}}"#)),
        ("nbf as text", format!(r#"{{"exp":{exp},"nbf":"0"}}"#)),
        ("nbf with a fraction", format!(r#"{{"exp":{exp},"nbf":1.5}}"#)),
        ("nbf twice", format!(r#"{{"exp":{exp},"nbf":0,"nbf":0}}"#)),
        ("grants as a number", format!(r#"{{"exp":{exp},"grants":7}}"#)),
        ("grants as an object", format!(r#"{{"exp":{exp},"grants":{{}}}}"#)),
        ("grants of numbers", format!(r#"{{"exp":{exp},"grants":[1]}}"#)),
        ("grants twice", format!(r#"{{"exp":{exp},"grants":[],"grants":["admin"]}}"#)),
        ("scope as a list", format!(r#"{{"exp":{exp},"scope":["kv:read"]}}"#)),
        ("a list", "[]".to_string()),
        ("null", "null".to_string()),
        ("text", format!("\"{exp}\"")),
        ("empty", String::new()),
        ("cut", format!(r#"{{"exp":{exp}"#)),
        ("more behind", format!(r#"{{"exp":{exp}}} {{}}"#)),
        ("a comma too many", format!(r#"{{"exp":{exp},}}"#)),
        ("a comment", format!(r#"{{"exp":{exp}/**/}}"#)),
        ("leading zeros", format!(r#"{{"exp":0{exp}}}"#)),
        ("a nest of lists", format!(r#"{{"x":{}{},"exp":{exp}}}"#, "[".repeat(500), "]".repeat(500))),
        ("an open nest", "[".repeat(2_000)),
    ] {
        add(&format!("payload: {name}"), with_payload(payload));
    }
    add(
        "payload: not UTF-8",
        with_payload([b"{\"sub\":\"\xff\",\"exp\":".as_slice(), exp.to_string().as_bytes(), b"}"].concat()),
    );

    let decoded: Vec<u8> =
        (0..SECRET.len()).step_by(2).map(|at| u8::from_str_radix(&SECRET[at..at + 2], 16).unwrap()).collect();
    add("the secret decoded from hexadecimal", signed_raw(&decoded, HEADER, &claims()));
    add("the secret in upper case", signed_raw(SECRET.to_uppercase().as_bytes(), HEADER, &claims()));
    add("an empty secret", signed_raw(b"", HEADER, &claims()));
    add("another secret", signed_raw(b"secret", HEADER, &claims()));
    add("half the secret", signed_raw(&SECRET.as_bytes()[..32], HEADER, &claims()));
    add("over 4 KiB", with_payload(format!(r#"{{"exp":{exp},"x":"{}"}}"#, "y".repeat(4_000))));
    all
}

/// An answer but for its date.
fn without_date(answer: &Response) -> (u16, Vec<(String, String)>, String) {
    (answer.status, answer.fields_sorted(), answer.text())
}

#[test]
fn every_hostile_token_gets_the_same_401() {
    let node = node();
    node.client().put(&kv("guarded"), "secret");
    let nothing = without_date(&node.stranger().get(&kv("guarded")).expect(401));
    assert_eq!(nothing.2, REFUSED);
    let mut client = node.stranger();
    for (name, token) in hostile_tokens() {
        for field in
            [("Authorization", format!("Bearer {token}")), ("Authorization", token.clone()), ("token", token)]
        {
            let refused = client.call("GET", &kv("guarded"), &[(field.0, &field.1)], b"");
            assert_eq!(without_date(&refused), nothing, "{name}, as {}: {}", field.0, field.1);
        }
    }
    node.assert_well();
}

#[test]
fn other_schemes_are_401() {
    let node = node();
    let good = token::root();
    for authorization in [
        format!("Basic {}", STANDARD.encode(format!(":{good}"))),
        format!("Digest {good}"),
        format!("Bearer {good} {good}"),
        format!("Bearer{good}"),
        "Bearer".to_string(),
        format!("Token {good}"),
        format!("Bearer Bearer Bearer {}", "x"),
    ] {
        let refused = node.stranger().with_authorization(&authorization).get(&kv("guarded")).expect(401);
        assert_eq!(refused.text(), REFUSED, "{authorization}");
    }
}

#[test]
fn a_good_token_is_taken_in_three_forms() {
    let node = node();
    let good = token::root();
    for (name, value) in [
        ("Authorization", format!("Bearer {good}")),
        ("authorization", format!("bearer {good}")),
        ("AUTHORIZATION", format!("BEARER {good}")),
        ("Authorization", good.clone()),
        ("token", good.clone()),
        ("Token", good),
    ] {
        let mut client = node.stranger();
        for _ in 0..3 {
            client.call("GET", &kv("three-forms"), &[(name, &value)], b"").expect(404);
        }
    }
}

#[test]
fn unusual_but_sound_tokens_are_taken() {
    let node = node();
    let exp = now() + 3_600;
    for (name, token) in [
        ("no typ", with_header(r#"{"alg":"HS256"}"#)),
        ("spaces", with_header(r#" { "typ" : "JWT" , "alg" : "HS256" } "#)),
        ("a kid", with_header(r#"{"alg":"HS256","kid":"1"}"#)),
        ("the least", with_payload(format!(r#"{{"exp":{exp}}}"#))),
        ("nbf now", with_payload(format!(r#"{{"exp":{exp},"nbf":{}}}"#, now()))),
        ("iat to come", with_payload(format!(r#"{{"exp":{exp},"iat":{exp}}}"#))),
        ("empty sub and iss", with_payload(format!(r#"{{"sub":"","iss":"","iat":{},"exp":{exp}}}"#, now()))),
        ("unknown claims", with_payload(format!(r#"{{"x":{{"y":[1,2.5,null,true,"z"]}},"exp":{exp}}}"#))),
        ("escapes", with_payload(format!(r#"{{"sub":"\u00e9\"\\","exp":{exp}}}"#))),
        ("the last second", with_payload(format!(r#"{{"exp":{}}}"#, u64::from(u32::MAX)))),
    ] {
        let mut client = node.stranger().with_token(&token);
        assert_eq!(client.get(&kv("sound")).status, 404, "{name}");
    }
}

#[test]
fn a_secret_of_any_length_is_used_as_the_text_it_is() {
    let long = "long secret ".repeat(40);
    for secret in ["secret", "g\u{e9}heim", long.as_str()] {
        let node = Node::start(|setup| {
            setup.set("authentication.secret_key", format!("\"{secret}\""));
            setup.set("authentication.allow_weak_secret", true);
        });
        let token = signed_raw(secret.as_bytes(), HEADER, &claims());
        node.stranger().with_token(&token).get(&kv("x")).expect(404);
        node.stranger().with_token(&token::root()).get(&kv("x")).expect(401);
    }
}

#[test]
fn a_wrong_token_behind_a_good_one_on_the_same_connection_is_401() {
    let node = node();
    let mut client = node.stranger();
    let good = format!("Bearer {}", token::root());
    let mut bad = good.clone();
    let last = bad.pop().unwrap();
    bad.push(if last == 'A' { 'E' } else { 'A' });
    for _ in 0..5 {
        client.call("GET", &kv("turns"), &[("Authorization", &good)], b"").expect(404);
        client.call("GET", &kv("turns"), &[("Authorization", &bad)], b"").expect(401);
        client.call("GET", &kv("turns"), &[("Authorization", &good[..good.len() - 1])], b"").expect(401);
        client.call("GET", &kv("turns"), &[], b"").expect(401);
    }
}

#[test]
fn grants_of_one_token_do_not_leak_to_another_on_the_same_connection() {
    let node = node();
    let mut client = node.stranger();
    let all = format!("Bearer {}", token::root());
    let reader = format!("Bearer {}", token::with_grants(&["kv:read"]));
    for _ in 0..5 {
        let put = client.call("PUT", &kv("leak"), &[("Authorization", &all)], b"x");
        assert!([200, 201].contains(&put.status), "{put}");
        let refused = client.call("PUT", &kv("leak"), &[("Authorization", &reader)], b"x").expect(403);
        if refused.closes() {
            client = node.stranger();
        }
        client.call("GET", &kv("leak"), &[("Authorization", &reader)], b"").expect(200);
    }
}

#[test]
fn a_token_that_expires_is_refused_on_an_open_connection() {
    let node = node();
    let exp = now() + 2;
    let mut client = node.stranger().with_token(&token::with_claims(&json!({ "exp": exp })));
    let began = Instant::now();
    loop {
        let asked = now();
        let got = client.get(&kv("expiring"));
        match got.status {
            404 => assert!(asked <= exp, "taken a second past its end"),
            401 => break assert!(now() >= exp, "refused before its end"),
            _ => panic!("{got}"),
        }
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn the_leeway_of_the_file_stretches_both_ends() {
    let node = Node::start(|setup| {
        setup.set("authentication.leeway", 100);
    });
    let with = |exp: u64, nbf: u64| token::with_claims(&json!({ "exp": exp, "nbf": nbf }));
    node.stranger().with_token(&with(now() - 50, 0)).get(&kv("x")).expect(404);
    node.stranger().with_token(&with(now() - 102, 0)).get(&kv("x")).expect(401);
    node.stranger().with_token(&with(now() + 500, now() + 50)).get(&kv("x")).expect(404);
    node.stranger().with_token(&with(now() + 500, now() + 150)).get(&kv("x")).expect(401);
}

#[test]
fn a_token_without_exp_is_taken_where_the_file_says_so() {
    let node = Node::start(|setup| {
        setup.set("authentication.require_exp", false);
    });
    node.stranger().with_token(&token::with_claims(&json!({ "sub": "x" }))).get(&kv("x")).expect(404);
    node.stranger().with_token(&token::with_claims(&json!({ "exp": 5 }))).get(&kv("x")).expect(401);
}

#[test]
fn head_needs_a_credential_unless_the_file_says_otherwise() {
    node().stranger().call("HEAD", &kv("x"), &[], b"").expect(401);
    let node = Node::start(|setup| {
        setup.set("authentication.anonymous_head", true);
    });
    node.client().put(&kv("x"), "12345").expect(201);
    let head = node.stranger().call("HEAD", &kv("x"), &[], b"").expect(200);
    assert_eq!(head.content_length(), Some(5));
    node.stranger().call("HEAD", &kv("none"), &[], b"").expect(404);
    node.stranger().get(&kv("x")).expect(401);
    node.stranger().call("HEAD", "/api/kv", &[], b"").expect(401);
}

#[test]
fn a_node_without_authentication_asks_for_nothing() {
    let node = Node::start(|setup| {
        setup.set("authentication.enabled", false);
    });
    let mut stranger = node.stranger();
    stranger.put(&kv("x"), "1").expect(201);
    stranger.get(&kv("x")).expect(200);
    stranger.patch(&kv("x"), "increment").expect(200);
    stranger.get("/api/kv").expect(200);
    stranger.delete(&kv("x")).expect(200);
    stranger.with_token("junk").get(&kv("x")).expect(404);
}

#[test]
fn each_route_needs_its_grant_and_names_it() {
    let node = node();
    node.client().put(&kv("granted"), "x");
    let every = [
        "kv:read",
        "kv:write",
        "kv:delete",
        "kv:list",
        "kv:lock",
        "kv:watch",
        "light:read",
        "light:write",
        "db:read",
        "db:write",
        "db:admin",
        "log:write",
        "execute",
        "keys:read",
        "keys:write",
        "apps:admin",
        "metrics:read",
    ];
    for (grant, method, path) in [
        ("kv:read", "GET", kv("granted")),
        ("kv:read", "HEAD", kv("granted")),
        ("kv:write", "PUT", kv("granted")),
        ("kv:delete", "DELETE", kv("granted")),
        ("kv:list", "GET", "/api/kv".to_string()),
    ] {
        let mut with = node.stranger().with_token(&token::with_grants(&[grant]));
        assert!([200, 201].contains(&with.call(method, &path, &[], b"").status), "{grant} {method}");
        let others: Vec<_> = every.iter().copied().filter(|other| *other != grant).collect();
        let mut without = node.stranger().with_token(&token::with_grants(&others));
        let refused = without.call(method, &path, &[], b"").expect(403);
        assert_eq!(refused.field("x-required-grants"), Some(grant), "{method} {path}");
        node.client().put(&kv("granted"), "x");
    }
}

#[test]
fn a_scope_limits_like_grants_and_an_empty_one_to_nothing() {
    let node = node();
    let exp = now() + 3_600;
    let with = |claims: serde_json::Value| node.stranger().with_token(&token::with_claims(&claims));
    let mut client = with(json!({ "exp": exp, "scope": "kv:read kv:list" }));
    client.get(&kv("scoped")).expect(404);
    client.get("/api/kv").expect(200);
    let refused = client.delete(&kv("scoped")).expect(403);
    assert_eq!(refused.field("x-required-grants"), Some("kv:delete"));
    for claims in [
        json!({ "exp": exp, "scope": "" }),
        json!({ "exp": exp, "grants": [] }),
        json!({ "exp": exp, "scope": "openid profile" }),
        json!({ "exp": exp, "grants": ["kv:reading", "KV:READ", ""] }),
    ] {
        with(claims.clone()).get(&kv("scoped")).expect(403);
    }
    with(json!({ "exp": exp, "grants": ["unknown:grant", "kv:read"] })).get(&kv("scoped")).expect(404);
}

#[test]
fn path_and_method_are_checked_before_the_credential() {
    let node = node();
    let mut stranger = node.stranger();
    stranger.get("/nowhere").expect(404);
    stranger.get("/api/kvs").expect(404);
    stranger.call("POST", &kv("x"), &[], b"").expect(405);
    stranger.call("DELETE", "/api/kv", &[], b"").expect(405);
    stranger.call("OPTIONS", &kv("x"), &[], b"").expect(204);
}

#[test]
fn credential_and_grant_are_checked_before_the_size() {
    let node = node();
    let huge = [("Content-Length", "999999999999")];
    let mut stranger = node.stranger();
    let request = stranger.compose("PUT", &kv("x"), &huge, b"");
    stranger.send(&request);
    assert_eq!(stranger.response().expect(401).text(), REFUSED);
    let mut reader = node.stranger().with_token(&token::with_grants(&["kv:read"]));
    let request = reader.compose("PUT", &kv("x"), &huge, b"");
    reader.send(&request);
    reader.response().expect(403);
    let mut client = node.client();
    let request = client.compose("PUT", &kv("x"), &huge, b"");
    client.send(&request);
    client.response().expect(413);
}

#[test]
fn nothing_of_a_body_is_kept_for_whoever_may_not_send_it() {
    let node = node();
    for mut client in [node.stranger(), node.stranger().with_token(&token::with_grants(&["kv:read"]))] {
        let body = vec![b'x'; 100_000];
        let request = client.compose("PUT", &kv("not-kept"), &[], &body);
        let _ = client.try_send(&request);
        let refused = client.response();
        assert!([401, 403].contains(&refused.status), "{refused}");
    }
    node.client().get(&kv("not-kept")).expect(404);
}
