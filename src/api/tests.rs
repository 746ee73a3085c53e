//! The API driven with raw requests, its outcomes given by hand; and what concerns every route: the
//! order of checks, refusals, credentials, pages, CORS.

use std::sync::Arc;

use super::{
    Access, Api, ApiConfig, Call, Need, NodeState, Phase, Problem, ROUTES, Reach, Route, Scratch, Tail,
};
use crate::auth::{Brake, FAILURES_MAX, Forms, Grants, Remembered, Trust, Verifier, VerifierConfig, sign};
use crate::clock::{Now, Version};
use crate::etag::Tags;
use crate::http::parse_head;
use crate::op::{CONTENT_TYPE_DEFAULT, Encoding, Entry, KeyHasher, Meta, Operation, Outcome, Payload};
use crate::shard::Health;

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

/// 2001-09-09, a second and a half before the version of [`entry`] expires.
pub const NOW: Now = Now::from_unix_ms(1_000_000_000_000);

/// Written ten seconds before [`NOW`].
pub const VERSION: Version = Version((NOW.unix_ms - 10_000) << 16 | 7);

pub const TAG: &str = "\"b0071d0000e8d4a4e8f00007\"";

pub const META: Meta = Meta { version: VERSION, expires_ms: None };

/// An API, and the connection that talks to it.
pub struct Node {
    pub api: Api,
    pub state: Arc<NodeState>,
    remembered: Remembered,
}

/// An answer taken apart.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a field that stands once.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().filter_map(|line| {
            let (own, value) = line.split_once(": ")?;
            own.eq_ignore_ascii_case(name).then_some(value)
        });
        let value = values.next();
        assert!(values.next().is_none(), "{name} twice in {}", self.head);
        value
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub fn config() -> ApiConfig {
    ApiConfig {
        trust: trust(VerifierConfig { enabled: false, secret: b"", leeway_seconds: 0, require_exp: true }),
        brake: None,
        hasher: KeyHasher::random(),
        tags: Tags::new(0xb007_1d00),
        shards: 2,
        value_bytes_max: 100_000,
        request_bytes_max: 200_000,
        default_ttl: None,
        cors_origins: Vec::new(),
        anonymous_head: false,
        restricted: Default::default(),
        state: Arc::new(NodeState::default()),
    }
}

pub fn trust(verifier: VerifierConfig<'_>) -> Trust {
    Trust::new(Verifier::new(verifier)).expect("randomness")
}

/// A request of these lines, with a Host and the blank line behind them.
pub fn request(lines: &str) -> Vec<u8> {
    format!("{}\r\nHost: h\r\n\r\n", lines.replace('\n', "\r\n")).into_bytes()
}

pub fn entry(value: &'static [u8]) -> Entry<'static> {
    let encoding = Encoding::Identity;
    Entry { meta: META, content_type: CONTENT_TYPE_DEFAULT, encoding, value: Payload::Bytes(value) }
}

impl Node {
    pub fn new(config: ApiConfig) -> Node {
        let state = Arc::clone(&config.state);
        let mut api = Api::new(config);
        api.tick(NOW.unix_seconds());
        Node { api, state, remembered: Remembered::default() }
    }

    pub fn open() -> Node {
        Node::new(config())
    }

    /// A node with authentication.
    pub fn locked() -> Node {
        let verifier =
            VerifierConfig { enabled: true, secret: SECRET, leeway_seconds: 0, require_exp: false };
        Node::new(ApiConfig { trust: trust(verifier), ..config() })
    }

    /// What is answered to a request for one key or a page, `serve` standing for the shard.
    pub fn serve<'o>(
        &mut self,
        lines: &str,
        body: &[u8],
        serve: impl FnOnce(&Operation<'_>) -> Outcome<'o>,
    ) -> Reply {
        let mut head = request(lines);
        let parsed = parse_head(&head, &mut 0).expect("well-formed").expect("complete");
        let mut out = Vec::new();
        let mut scratch = Scratch::default();
        let call = match self.api.admit(&parsed, &mut head, &mut self.remembered, &mut None) {
            Err(problem) => {
                self.api.refuse(Some((&parsed, &head)), problem, false, &mut out);
                return reply(out);
            }
            Ok(Call::Page(page)) => {
                self.api.page(&parsed, &head, page, Health::Good, false, &mut out);
                return reply(out);
            }
            Ok(Call::Key(call)) => call,
            Ok(Call::Gather(_)) => panic!("not for one key"),
        };
        let mut call = call;
        let outcome = match self.api.operation(&parsed, &head, &mut call, Payload::Bytes(body), &mut scratch)
        {
            Ok(operation) => serve(&operation),
            Err(problem) => {
                self.api.refuse(Some((&parsed, &head)), problem, false, &mut out);
                return reply(out);
            }
        };
        match self.api.answer(&parsed, &head, Payload::Bytes(body), &call, &outcome, false, &mut out, NOW) {
            Tail::None => {}
            Tail::Bytes(bytes) => out.extend_from_slice(bytes),
            Tail::Large(large, part) => out.extend_from_slice(&large[part]),
            Tail::Framed(large, behind) => out.extend_from_slice(&[&large[..], behind].concat()),
            Tail::Decode(decode) => {
                assert!(out.is_empty());
                match self.api.answer_decoded(&parsed, &head, decode.run(), false, &mut out, NOW) {
                    Tail::Large(large, part) => out.extend_from_slice(&large[part]),
                    Tail::None => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        reply(out)
    }

    /// What is answered when it never gets to a shard.
    pub fn refused(&mut self, lines: &str, body: &[u8]) -> Reply {
        self.serve(lines, body, |operation| panic!("served: {operation:?}"))
    }

    /// What is answered for an outcome.
    pub fn told(&mut self, lines: &str, body: &[u8], outcome: Outcome<'_>) -> Reply {
        self.serve(lines, body, |_| outcome)
    }

    /// What is answered to a listing or batch; `drive` stands for the shards.
    pub fn gather(&mut self, lines: &str, body: &[u8], drive: impl FnOnce(&mut super::Gather)) -> Reply {
        let mut head = request(lines);
        let parsed = parse_head(&head, &mut 0).expect("well-formed").expect("complete");
        let mut out = Vec::new();
        let gathered = match self.api.admit(&parsed, &mut head, &mut self.remembered, &mut None) {
            Ok(Call::Gather(call)) => self.api.gather(&parsed, &head, &call, Payload::Bytes(body)),
            Ok(other) => panic!("{other:?}"),
            Err(problem) => Err(problem),
        };
        match gathered {
            Ok(mut gather) => {
                drive(&mut gather);
                assert!(gather.is_done());
                gather.answer(&mut self.api, &parsed, &head, false, &mut out, NOW);
            }
            Err(problem) => self.api.refuse(Some((&parsed, &head)), problem, false, &mut out),
        }
        reply(out)
    }
}

fn reply(out: Vec<u8>) -> Reply {
    let end = memchr::memmem::find(&out, b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8(out[..end].to_vec()).unwrap();
    assert!(head.starts_with("HTTP/1.1 "), "{head}");
    Reply { status: head[9..12].parse().unwrap(), body: out[end..].to_vec(), head }
}

/// A token with these grants.
pub fn token(grants: &str) -> String {
    sign(SECRET, &format!("{{\"scope\":\"{grants}\"}}"))
}

#[test]
fn the_wire_answer_of_a_401_is_one_constant_whatever_is_wrong() {
    let mut node = Node::locked();
    let expired = sign(SECRET, "{\"exp\":1}");
    for credential in [
        String::new(),
        "\nAuthorization: Bearer x.y.z".into(),
        "\nAuthorization: Basic Og==".into(),
        "\ntoken: x".into(),
        format!("\nAuthorization: {expired}"),
        "\nAccept: application/problem+json".into(),
    ] {
        for method in ["GET", "PUT", "DELETE", "PATCH"] {
            let reply = node.refused(&format!("{method} /api/kv/a HTTP/1.1{credential}"), b"");
            assert_eq!(reply.status, 401);
            assert_eq!(reply.text(), r#"{"message":"You are not allowed to perform this action."}"#);
            assert_eq!(reply.field("WWW-Authenticate"), Some("Bearer"));
            assert_eq!(reply.field("Content-Type"), Some("application/json"));
        }
    }
    let head = node.refused("HEAD /api/kv/a HTTP/1.1", b"");
    assert_eq!((head.status, head.text(), head.field("Content-Length")), (401, "", Some("57")));
}

#[test]
fn each_route_needs_its_grant_and_a_403_names_it() {
    let mut node = Node::locked();
    let all = "kv:read kv:write kv:delete kv:list kv:lock light:read admin";
    for (line, body, grant) in [
        ("GET /api/kv/a HTTP/1.1", "", "kv:read"),
        ("HEAD /api/kv/a HTTP/1.1", "", "kv:read"),
        ("PUT /api/kv/a HTTP/1.1", "", "kv:write"),
        ("DELETE /api/kv/a HTTP/1.1", "", "kv:delete"),
        ("PATCH /api/kv/a HTTP/1.1", "lock", "kv:lock"),
        ("PATCH /api/kv/a HTTP/1.1", "unlock", "kv:lock"),
        ("PATCH /api/kv/a HTTP/1.1", "increment", "kv:write"),
        ("PATCH /api/kv/a HTTP/1.1", "operation=ttl&value=1", "kv:write"),
        ("PATCH /api/kv/a HTTP/1.1", "persist", "kv:write"),
    ] {
        let with = |token: String| format!("{line}\nAuthorization: Bearer {token}");
        let reply = node.serve(&with(token(grant)), body.as_bytes(), |_| Outcome::Absent);
        assert_eq!(reply.status, 404, "{line} {body}");
        let others: Vec<&str> = all.split(' ').filter(|other| *other != grant).collect();
        let reply = node.refused(&with(token(&others.join(" "))), body.as_bytes());
        assert_eq!((reply.status, reply.field("X-Required-Grants")), (403, Some(grant)), "{line} {body}");
    }
    let reply = node.refused(&format!("PATCH /api/kv/a HTTP/1.1\ntoken: {}", token("kv:read")), b"lock");
    assert_eq!(reply.field("X-Required-Grants"), Some("kv:write, kv:lock"));
    let list = format!("GET /api/kv HTTP/1.1\ntoken: {}", token("kv:read"));
    let reply = node.gather(&list, b"", |_| panic!("may not"));
    assert_eq!((reply.status, reply.field("X-Required-Grants")), (403, Some("kv:list")));
}

#[test]
fn a_token_without_grants_may_all_and_admin_is_passed_on() {
    let mut node = Node::locked();
    let any = sign(SECRET, "{}");
    let admin = |operation: &Operation<'_>| {
        assert!(operation.admin);
        Outcome::NotLocked
    };
    assert_eq!(node.serve(&format!("PATCH /api/kv/a HTTP/1.1\ntoken: {any}"), b"unlock", admin).status, 409);
    node.serve(&format!("PATCH /api/kv/a HTTP/1.1\ntoken: {}", token("kv:lock")), b"unlock", |operation| {
        assert!(!operation.admin);
        Outcome::NotLocked
    });
}

#[test]
fn checks_come_in_order_route_method_credential_grant_size() {
    let mut node = Node::locked();
    let reader = token("kv:read");
    let writer = token("kv:write");
    for (lines, status) in [
        ("PUT /nowhere HTTP/1.1\nContent-Length: 999999999".to_owned(), 404),
        ("POST /api/kv/a HTTP/1.1\nContent-Length: 999999999".to_owned(), 405),
        ("PUT /api/kv/a HTTP/1.1\nContent-Length: 999999999".to_owned(), 401),
        (format!("PUT /api/kv/a HTTP/1.1\nContent-Length: 999999999\ntoken: {reader}"), 403),
        (format!("PUT /api/kv/a HTTP/1.1\nContent-Length: 999999999\ntoken: {writer}"), 413),
        (format!("PUT /api/kv/ HTTP/1.1\nContent-Length: 1\ntoken: {writer}"), 400),
        ("PUT /api/kv/ HTTP/1.1\nContent-Length: 1".to_owned(), 401),
    ] {
        assert_eq!(node.refused(&lines, b"").status, status, "{lines}");
    }
}

#[test]
fn declared_sizes_are_refused_just_above_each_limit() {
    let mut node = Node::open();
    for (line, limit, named) in [
        ("PUT /api/kv/a", 100_000, "the limit of a value is 100000 bytes"),
        ("PATCH /api/kv/a", 4_096, "the limit of this request's body is 4096 bytes"),
        ("GET /api/kv/a", 65_536, "the limit of this request's body is 65536 bytes"),
        ("DELETE /api/kv/a", 65_536, "the limit of this request's body is 65536 bytes"),
    ] {
        for length in [limit - 1, limit] {
            let lines = format!("{line} HTTP/1.1\nContent-Length: {length}");
            assert_eq!(node.serve(&lines, b"lock", |_| Outcome::Absent).status, 404, "{lines}");
        }
        let reply = node.refused(&format!("{line} HTTP/1.1\nContent-Length: {}", limit + 1), b"");
        assert_eq!(reply.status, 413);
        assert!(reply.text().contains(named), "{}", reply.text());
    }
    let mut small = Node::new(ApiConfig { request_bytes_max: 10, ..config() });
    let reply = small.refused("PUT /api/kv/a HTTP/1.1\nContent-Length: 11", b"");
    assert!(reply.text().contains("the limit of this request's body is 10 bytes"), "{}", reply.text());
}

#[test]
fn a_body_that_grows_too_long_is_refused_with_the_words_of_a_declared_one() {
    let mut node = Node::open();
    for (line, problem) in [
        ("PUT /api/kv/a HTTP/1.1", Problem::ValueTooLarge(100_000)),
        ("PATCH /api/kv/a HTTP/1.1", Problem::BodyTooLarge(4_096)),
        ("GET /api/kv/a HTTP/1.1", Problem::BodyTooLarge(65_536)),
        ("POST /api/kv/batch HTTP/1.1", Problem::BodyTooLarge(200_000)),
        ("GET /livez HTTP/1.1", Problem::BodyTooLarge(65_536)),
    ] {
        let mut head = request(&format!("{line}\nTransfer-Encoding: chunked"));
        let parsed = parse_head(&head, &mut 0).unwrap().unwrap();
        let call = node.api.admit(&parsed, &mut head, &mut Remembered::default(), &mut None).unwrap();
        assert_eq!(node.api.overlong(&call), problem, "{line}");
    }
}

#[test]
fn keys_are_decoded_once_and_bounded() {
    let mut node = Node::open();
    let mut key_of = |path: &str| {
        let mut key = Vec::new();
        node.serve(&format!("GET /api/kv/{path} HTTP/1.1"), b"", |operation| {
            key = operation.key.to_vec();
            Outcome::Absent
        });
        key
    };
    for (path, key) in [
        ("a", &b"a"[..]),
        ("a/b//../c", b"a/b//../c"),
        ("a%2Fb", b"a/b"),
        ("a+b%20c", b"a+b c"),
        ("%2541", b"%41"),
        ("%00%ff", b"\0\xff"),
        ("batch", b"batch"),
        ("/", b"/"),
    ] {
        assert_eq!(key_of(path), key, "{path}");
    }
    for byte in 0..=255_u8 {
        assert_eq!(key_of(&format!("%{byte:02x}")), [byte]);
    }
    assert_eq!(key_of(&"%61".repeat(1_024)), [b'a'; 1_024]);
    assert_eq!(key_of(&"a".repeat(1_023)).len(), 1_023);
    let long = node.refused(&format!("GET /api/kv/{} HTTP/1.1", "a".repeat(1_025)), b"");
    assert_eq!(long.status, 414);
    assert!(long.text().contains("1024"), "{}", long.text());
    for path in ["/api/kv/", "/api/kv/%", "/api/kv/%4", "/api/kv/a%zz"] {
        assert_eq!(node.refused(&format!("GET {path} HTTP/1.1"), b"").status, 400, "{path}");
    }
}

#[test]
fn errors_beyond_the_seed_add_code_and_detail_and_rfc_9457_is_there_for_the_asking() {
    let mut node = Node::open();
    let reply = node.refused("PATCH /api/kv/a HTTP/1.1", b"x\"y");
    assert_eq!(reply.text(), r#"{"message":"Invalid Operation \"x\"y\".","code":"operation_unknown"}"#);
    let reply =
        node.refused("PUT /api/kv/a?ttl=0 HTTP/1.1\nAccept: text/html, application/problem+json;q=0.5", b"");
    assert_eq!(reply.field("Content-Type"), Some("application/problem+json"));
    assert_eq!(
        reply.text(),
        r#"{"type":"about:blank","title":"Bad Request","status":400,"message":"The time-to-live is not valid.","code":"ttl_invalid","detail":"seconds are an integer from 1 to 4294967295"}"#
    );
    let reply = node.told("GET /api/kv/a HTTP/1.1\nAccept: application/problem+json", b"", Outcome::Absent);
    let members: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(members["message"], "The specified key does not exists.");
    assert_eq!((members["status"].as_u64(), members["code"].as_str()), (Some(404), Some("absent")));
    assert_eq!(members["detail"], members["message"]);
}

#[test]
fn every_problem_has_words_of_json_and_its_status_on_the_wire() {
    use crate::http::Refusal;
    let mut node = Node::open();
    for (problem, status) in [
        (Problem::Http(Refusal::BadRequest("why")), 400),
        (Problem::Http(Refusal::TargetTooLong), 414),
        (Problem::Http(Refusal::HeadTooLarge), 431),
        (Problem::Http(Refusal::ExpectationFailed), 417),
        (Problem::Http(Refusal::MethodUnknown), 501),
        (Problem::Http(Refusal::VersionUnsupported), 505),
        (Problem::TimedOut, 408),
        (Problem::Busy, 503),
        (Problem::StoreFull, 507),
        (Problem::EntryTooLarge, 413),
        (Problem::BatchTooLong, 413),
        (Problem::OutOfRange, 400),
        (Problem::operation_unknown("\u{0}\"\\é"), 400),
    ] {
        let mut out = Vec::new();
        node.api.refuse(None, problem.clone(), true, &mut out);
        let reply = reply(out);
        assert_eq!((reply.status, reply.field("Connection")), (status, Some("close")), "{problem:?}");
        assert_eq!(reply.field("Content-Length"), Some(&*reply.body.len().to_string()));
        let members: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(members["message"].as_str(), Some(&*problem.message()));
        serde_json::from_slice::<serde_json::Value>(&problem.problem_body()).unwrap();
    }
    let mut out = Vec::new();
    node.api.refuse(None, Problem::Busy, false, &mut out);
    assert_eq!(reply(out).field("Retry-After"), Some("1"));
}

#[test]
fn a_wrong_method_is_told_the_right_ones() {
    let mut node = Node::locked();
    let reply = node.refused("POST /api/kv/a HTTP/1.1", b"");
    assert_eq!((reply.status, reply.field("Allow")), (405, Some("GET, HEAD, PUT, PATCH, DELETE, OPTIONS")));
    let reply = node.refused("PUT / HTTP/1.1", b"");
    assert_eq!((reply.status, reply.field("Allow")), (405, Some("GET, HEAD, OPTIONS")));
}

#[test]
fn options_needs_no_credential_and_has_no_body() {
    let mut node = Node::locked();
    for (path, allow) in [
        ("/api/kv/a", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
        ("/api/kv", "GET, HEAD, OPTIONS"),
        ("*", "GET, HEAD, PUT, POST, PATCH, DELETE, OPTIONS"),
    ] {
        let reply = node.refused(&format!("OPTIONS {path} HTTP/1.1"), b"");
        assert_eq!((reply.status, reply.field("Allow"), reply.text()), (204, Some(allow), ""), "{path}");
        assert_eq!(reply.field("Content-Length"), None);
        assert!(!reply.head.contains("Access-Control"));
    }
    assert_eq!(node.refused("OPTIONS /nowhere HTTP/1.1", b"").status, 404);
}

#[test]
fn the_pages_of_the_node_need_no_credential() {
    let mut node = Node::locked();
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let reply = node.refused(&format!("{method} /health HTTP/1.1"), b"");
        assert_eq!(
            (reply.status, reply.text(), reply.field("Content-Length")),
            (200, "", Some("0")),
            "{method}"
        );
    }
    let ready = |node: &mut Node| node.refused("GET /readyz HTTP/1.1", b"").status;
    assert_eq!(ready(&mut node), 503);
    node.state.set(Phase::Serving);
    assert_eq!(ready(&mut node), 200);
    node.state.set(Phase::Draining);
    assert_eq!(ready(&mut node), 503);
    assert_eq!(node.refused("GET /livez HTTP/1.1", b"").status, 200);
    assert_eq!(node.refused("GET /robots.txt HTTP/1.1", b"").text(), "User-agent: *\nDisallow: /api\n");
    let page = node.refused("GET / HTTP/1.1", b"");
    assert_eq!(page.field("Content-Type"), Some("text/html; charset=utf-8"));
    assert!(page.text().starts_with("<!doctype html>"));
    let head = node.refused("HEAD / HTTP/1.1", b"");
    assert_eq!((head.head, head.body.len()), (page.head, 0));
}

/// A row like those that take the databases password.
fn with_password() -> Route {
    let access = Access::Holders {
        forms: Forms::BEARER.union(Forms::BASIC),
        need: Need::Grant(Grants::DB_READ),
        reach: Reach::Node,
    };
    Route { access, ..ROUTES[0] }
}

#[test]
fn a_wrong_password_is_braked_after_so_many_and_the_right_one_never_is() {
    let verifier = VerifierConfig { enabled: true, secret: SECRET, leeway_seconds: 0, require_exp: false };
    let trust = trust(verifier).with_password(b"pw");
    let mut node = Node::new(ApiConfig { trust, brake: Some(Brake::new()), ..config() });
    let route = with_password();
    // ":pw" and ":no" in base64.
    let mut ask = |password: &str, address: &str| {
        let head = request(&format!("GET /x HTTP/1.1\nAuthorization: Basic {password}"));
        let parsed = parse_head(&head, &mut 0).unwrap().unwrap();
        let mut vouched = None;
        let mut remembered = Remembered::default();
        let admitted = node.api.authorize(&parsed, &head, &route, &mut remembered, &mut vouched);
        match admitted {
            Ok((grants, scope)) => {
                assert!(grants.contains(Grants::DB_READ) && scope.is_none());
                200
            }
            Err(problem) => {
                let problem = node.api.brake(problem, || address.parse().ok(), NOW);
                problem.status().code()
            }
        }
    };
    for _ in 0..FAILURES_MAX {
        assert_eq!(ask("Om5v", "192.0.2.1"), 401);
    }
    for _ in 0..5 {
        assert_eq!(
            [ask("Om5v", "192.0.2.1"), ask("OnB3", "192.0.2.1"), ask("Om5v", "192.0.2.2")],
            [429, 200, 401]
        );
    }
}

#[test]
fn a_wrong_password_and_a_wrong_token_look_the_same() {
    let mut node = Node::locked();
    let request = request("GET /api/kv/a HTTP/1.1");
    let parsed = parse_head(&request, &mut 0).unwrap().unwrap();
    let mut answers = [Problem::Unauthorized, Problem::PasswordWrong].map(|problem| {
        let mut out = Vec::new();
        node.api.refuse(Some((&parsed, &request)), problem, false, &mut out);
        out
    });
    let [token, password] = &mut answers;
    assert_eq!(token, password);
    let mut out = Vec::new();
    node.api.refuse(Some((&parsed, &request)), Problem::TooManyFailures(7), false, &mut out);
    let braked = reply(out);
    assert_eq!((braked.status, braked.field("Retry-After")), (429, Some("7")));
}

#[test]
fn what_was_shown_in_basic_authentication_says_nothing_where_that_is_not_taken() {
    let verifier = VerifierConfig { enabled: true, secret: SECRET, leeway_seconds: 0, require_exp: false };
    let mut node = Node::new(ApiConfig { trust: trust(verifier).with_password(b"pw"), ..config() });
    let head = request("GET /api/kv/x HTTP/1.1\nAuthorization: Basic OnB3");
    let parsed = parse_head(&head, &mut 0).unwrap().unwrap();
    // As when the same fields came before with a path that takes it.
    let (mut remembered, mut vouched) = (Remembered::default(), None);
    let here = with_password();
    assert!(node.api.authorize(&parsed, &head, &here, &mut remembered, &mut vouched).is_ok());
    assert!(vouched.is_some());
    let there = node.api.authorize(&parsed, &head, &ROUTES[0], &mut remembered, &mut vouched);
    assert_eq!(there.unwrap_err(), Problem::Unauthorized);
}

#[test]
fn head_may_be_anonymous_if_the_node_says_so() {
    let verifier = VerifierConfig { enabled: true, secret: SECRET, leeway_seconds: 0, require_exp: false };
    let mut node = Node::new(ApiConfig { trust: trust(verifier), anonymous_head: true, ..config() });
    assert_eq!(node.told("HEAD /api/kv/a HTTP/1.1", b"", Outcome::Found(entry(b"x"))).status, 200);
    assert_eq!(node.refused("GET /api/kv/a HTTP/1.1", b"").status, 401);
    assert_eq!(node.gather("HEAD /api/kv HTTP/1.1", b"", |_| panic!("may not")).status, 401);
}

#[test]
fn cors_is_for_listed_origins_only() {
    let mut node = Node::locked();
    let preflight = "OPTIONS /api/kv/a HTTP/1.1\nAccess-Control-Request-Method: PUT\n\
        Access-Control-Request-Headers: authorization\nOrigin: ";
    assert!(!node.refused(&format!("{preflight}https://a.example"), b"").head.contains("Access-Control"));

    let mut node = Node::new(ApiConfig { cors_origins: vec!["https://a.example".into()], ..config() });
    let reply = node.refused(&format!("{preflight}https://a.example"), b"");
    assert_eq!(reply.status, 204);
    assert_eq!(reply.field("Access-Control-Allow-Origin"), Some("https://a.example"));
    assert_eq!(reply.field("Access-Control-Allow-Methods"), Some("GET, HEAD, PUT, PATCH, DELETE, OPTIONS"));
    let fields = reply.field("Access-Control-Allow-Headers").unwrap();
    for name in
        ["Authorization", "Content-Type", "If-Match", "If-None-Match", "Range", "X-TTL", "token", "Prefer"]
    {
        assert!(fields.split(", ").any(|field| field == name), "{name}");
    }
    let foreign = node.refused(&format!("{preflight}https://b.example"), b"");
    assert_eq!((foreign.status, foreign.field("Vary")), (204, Some("Origin")));
    assert!(!foreign.head.contains("Access-Control"));

    let get = "GET /api/kv/a HTTP/1.1\nOrigin: https://a.example";
    let reply = node.told(get, b"", Outcome::Found(entry(b"x")));
    assert_eq!(reply.field("Access-Control-Allow-Origin"), Some("https://a.example"));
    assert!(reply.field("Access-Control-Expose-Headers").unwrap().contains("ETag"));
    assert_eq!(node.told(get, b"", Outcome::Absent).field("Vary"), Some("Origin"));

    let mut any = Node::new(ApiConfig { cors_origins: vec!["*".into()], ..config() });
    let reply = any.told(get, b"", Outcome::Absent);
    assert_eq!((reply.field("Access-Control-Allow-Origin"), reply.field("Vary")), (Some("*"), None));
}

#[test]
fn connection_says_what_happens_next() {
    let mut node = Node::open();
    for (lines, close, said) in [
        ("GET /livez HTTP/1.1", false, None),
        ("GET /livez HTTP/1.1", true, Some("close")),
        ("GET /livez HTTP/1.1\nConnection: close", false, Some("close")),
        ("GET /livez HTTP/1.0", false, Some("close")),
        ("GET /livez HTTP/1.0\nConnection: keep-alive", false, Some("keep-alive")),
        ("GET /livez HTTP/1.0\nConnection: keep-alive", true, Some("close")),
    ] {
        let head = request(lines);
        let parsed = parse_head(&head, &mut 0).unwrap().unwrap();
        let mut out = Vec::new();
        node.api.page(&parsed, &head, super::Page::Live, Health::Good, close, &mut out);
        assert_eq!(reply(out).field("Connection"), said, "{lines} {close}");
    }
}
