//! Who may do what with the databases, and how everybody else is told.

mod common;

use std::process::{Command, Stdio};
use std::sync::Arc;

use common::node::binary;
use common::{Client, Node, Response, Shared, kv, token};
use serde_json::json;

static NODE: Shared = Shared::new();

const PASSWORD: &str = "correct horse: battery";

fn node() -> Arc<Node> {
    NODE.node(|setup| {
        setup.workers(2).set("databases.password", format!("\"{PASSWORD}\""));
    })
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    let text = format!("{user}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

fn client(node: &Node, password: &str) -> Client {
    node.stranger().with_authorization(basic("", password))
}

fn holder(node: &Node, grants: &[&str]) -> Client {
    node.stranger().with_token(&token::with_grants(grants))
}

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// Every endpoint with a body that succeeds once the database `there` has the key `k`, its grant, and its name
/// in the settings.
const ENDPOINTS: [(&str, &str, &str, &str, &str); 16] = [
    ("POST", "/controller/get", "database_name=there&key=k", "db:read", "get"),
    ("POST", "/controller/set", "database_name=there&key=k&value=v", "db:write", "set"),
    ("POST", "/controller/get_all", "database_name=there", "db:read", "get_all"),
    ("POST", "/controller/delete", "database_name=there&key=k", "db:write", "controller/delete"),
    ("POST", "/controller/debug", "message=m", "log:write", "debug"),
    ("POST", "/controller/info", "message=m", "log:write", "info"),
    ("POST", "/controller/warning", "message=m", "log:write", "warning"),
    ("POST", "/controller/error", "message=m", "log:write", "error"),
    ("POST", "/controller/exception", "message=m", "log:write", "exception"),
    ("GET", "/database/list", "", "db:read", "list"),
    ("POST", "/database/pop", "database_name=there", "db:admin", "pop"),
    ("POST", "/database/pop_all", "", "db:admin", "pop_all"),
    ("POST", "/database/rename", "database_name=there&new_database_name=renamed", "db:admin", "rename"),
    ("POST", "/database/delete", "database_name=there", "db:admin", "database/delete"),
    ("POST", "/database/delete_all", "", "db:admin", "delete_all"),
    ("POST", "/execute", "query=DATABASE_LIST", "execute", "execute"),
];

fn call(client: &mut Client, endpoint: &(&str, &str, &str, &str, &str)) -> Response {
    let (method, path, body, ..) = endpoint;
    client.call(method, path, &[FORM], body.as_bytes())
}

fn prepare(client: &mut Client) {
    client.call("POST", "/controller/set", &[FORM], b"database_name=there&key=k&value=v").expect(200);
    client.call("POST", "/database/delete", &[FORM], b"database_name=renamed");
}

#[track_caller]
fn expect_login(response: Response) {
    let response = response.expect(401);
    assert_eq!(response.expect_field("WWW-Authenticate"), "Basic realm=\"Login Required\"");
    assert_eq!(
        response.text(),
        "Could not verify your access level for that URL.\nYou have to login with proper credentials"
    );
    assert_eq!(response.expect_field("Content-Type"), "text/plain; charset=utf-8");
}

#[test]
fn every_endpoint_serves_who_may_and_sends_everybody_else_away() {
    // Of its own: it drops all databases.
    let node = Node::start(|setup| {
        setup.workers(2).set("databases.password", format!("\"{PASSWORD}\""));
    });
    let mut owner = client(&node, PASSWORD);
    let key = node
        .client()
        .call("POST", "/api/keys", &[], json!({"name": "k", "grants": ["db:read"]}).to_string().as_bytes())
        .expect(201)
        .json();
    let mut key = client(&node, key["key"].as_str().expect("a key"));
    let mut reader = holder(&node, &["db:read"]);
    let mut other = holder(&node, &["kv:read", "kv:write", "admin", "light:read", "light:write"]);
    for endpoint in &ENDPOINTS {
        let (_, path, _, grant, _) = *endpoint;
        expect_login(call(&mut node.stranger(), endpoint));
        for refused in [&mut reader, &mut key, &mut other] {
            prepare(&mut owner);
            let answer = call(refused, endpoint);
            if answer.status == 200 {
                assert_eq!(grant, "db:read", "{path}");
                continue;
            }
            assert_eq!(answer.expect_field("X-Required-Grants"), grant, "{path}");
            assert_eq!(
                answer.expect(403).text(),
                format!("Your credential does not allow this action: it needs {grant}.")
            );
        }
        prepare(&mut owner);
        call(&mut holder(&node, &[grant, "db:read"]), endpoint).expect(200);
        prepare(&mut owner);
        call(&mut owner, endpoint).expect(200);
    }
    call(&mut other, &ENDPOINTS[0]).expect(403);
    call(&mut reader, &ENDPOINTS[9]).expect(200);
    call(&mut key, &ENDPOINTS[9]).expect(200);
}

#[test]
fn a_wrong_password_is_refused_whatever_the_path_and_the_method() {
    let node = node();
    let paths =
        ["/controller/get", "/controller", "/controller/none", "/database/", "/execute/x", "/execute"];
    for authorization in [
        None,
        Some(basic("", "wrong")),
        Some(basic("me", PASSWORD)),
        Some(basic("", "")),
        Some("Basic *".to_owned()),
        Some("Bearer nonsense".to_owned()),
        Some("Digest x=y z".to_owned()),
    ] {
        for (path, method) in paths.iter().zip(["GET", "PUT", "DELETE", "POST", "GET", "PATCH"]) {
            let mut stranger = node.stranger();
            if let Some(authorization) = &authorization {
                stranger = stranger.with_authorization(authorization.clone());
            }
            let refused = stranger.call(method, path, &[], b"");
            if refused.status != 429 {
                expect_login(refused);
            }
        }
    }
    // Who is let in is told.
    let mut client = client(&node, PASSWORD);
    assert_eq!(client.get("/controller/none").expect(404).text(), "There is nothing at this path.");
    let wrong = client.get("/controller/get").expect(405);
    assert_eq!(wrong.expect_field("Allow"), "POST, OPTIONS");
    assert_eq!(client.call("POST", "/database/list", &[], b"").expect_field("Allow"), "GET, HEAD, OPTIONS");
    let options = node.stranger().call("OPTIONS", "/controller/set", &[], b"").expect(204);
    assert_eq!(options.expect_field("Allow"), "POST, OPTIONS");
    assert_eq!(client.call("HEAD", "/database/list", &[], b"").expect(200).text(), "");
    // The password is for this family alone.
    for path in [&kv("a"), "/api/keys", "/item/read?key=a"] {
        client.get(path).expect(401);
    }
}

#[test]
fn an_app_token_and_a_limited_credential_are_not_for_databases() {
    let node = node();
    let app = node.client().call("POST", "/apps", &[], br#"{"name":"app"}"#).expect(201).json();
    let mut app = node.stranger().with_token(app["data"]["readwrite_token"].as_str().expect("a token"));
    let limited = json!({"exp": token::now() + 600, "prefix": "a"});
    let mut limited = node.stranger().with_token(&token::with_claims(&limited));
    for endpoint in &ENDPOINTS {
        let refused = call(&mut app, endpoint).expect(403);
        assert_eq!(refused.text(), "This path does not take this kind of credential.");
        let refused = call(&mut limited, endpoint).expect(403);
        assert_eq!(refused.text(), "Your credential does not reach this key.");
    }
}

#[test]
fn errors_are_json_or_problem_details_for_who_asks_for_them() {
    let node = node();
    let mut client = client(&node, PASSWORD);
    let mut ask = |accept: &str| {
        let fields = [FORM, ("Accept", accept)];
        client.call("POST", "/controller/get", &fields, b"database_name=none&key=k").expect(404)
    };
    assert_eq!(
        ask("application/json").json(),
        json!({"message": "There is no such database.", "code": "database_unknown"})
    );
    let problem = ask("application/problem+json");
    assert_eq!(problem.expect_field("Content-Type"), "application/problem+json");
    assert!(problem.text().contains("\"status\":404"));
    assert_eq!(ask("*/*").expect_field("Content-Type"), "text/plain; charset=utf-8");
    let fields = [("Accept", "application/json")];
    expect_login(node.stranger().call("POST", "/controller/get", &fields, b""));
}

#[test]
fn too_many_wrong_passwords_are_answered_429_and_the_right_one_is_not_held_up() {
    let node = Node::start(|setup| {
        setup.set("databases.password", format!("\"{PASSWORD}\""));
    });
    let mut wrong = client(&node, "wrong");
    let statuses: Vec<u16> = (0..30).map(|_| wrong.get("/database/list").status).collect();
    assert_eq!(statuses[0], 401);
    let last = wrong.get("/database/list").expect(429);
    assert!(last.expect_field("Retry-After").parse::<u64>().is_ok_and(|seconds| seconds <= 10));
    assert_eq!(last.field("WWW-Authenticate"), None);
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 20);
    client(&node, PASSWORD).get("/database/list").expect(200);
    expect_login(node.stranger().get("/database/list"));
}

#[test]
fn what_the_settings_restrict_is_not_for_the_password() {
    for endpoint in &ENDPOINTS {
        let (_, path, _, grant, name) = *endpoint;
        let node = Node::start(|setup| {
            setup.set("databases.password", format!("\"{PASSWORD}\""));
            setup.set("databases.restricted", format!("[{name}]"));
        });
        let mut owner = client(&node, PASSWORD);
        let refused = call(&mut owner, endpoint).expect(403);
        assert_eq!(
            refused.text(),
            "The settings of this node do not allow this action: databases.restricted names it.",
            "{path}"
        );
        let mut root = node.client();
        root.call("POST", "/controller/set", &[FORM], b"database_name=there&key=k&value=v").expect(200);
        call(&mut holder(&node, &[grant, "db:read"]), endpoint).expect(200);
        prepare(&mut root);
        let free = if name == "get" { &ENDPOINTS[9] } else { &ENDPOINTS[0] };
        call(&mut owner, free).expect(200);
    }
}

#[test]
fn what_is_restricted_is_not_to_be_had_by_a_query_either() {
    let node = Node::start(|setup| {
        setup.set("databases.password", format!("\"{PASSWORD}\""));
        setup.set("databases.restricted", "[pop_all, delete_all, set]");
    });
    let mut owner = client(&node, PASSWORD);
    let mut root = node.client();
    let text = [("Content-Type", "text/plain")];
    for query in
        ["DATABASE_POP_ALL", "DATABASE_DELETE_ALL", "SET d k v", "INCR d n", "EXPIRE d k 5", "PERSIST d k"]
    {
        let refused = owner.call("POST", "/execute", &text, query.as_bytes()).expect(403);
        assert!(refused.text().contains("databases.restricted"), "{query}");
        root.call("POST", "/execute", &text, query.as_bytes());
    }
    root.call("POST", "/execute", &text, b"SET d k v").expect(200);
    assert_eq!(owner.call("POST", "/execute", &text, b"GET d k").expect(200).text(), "\"v\"");
}

#[test]
fn a_query_needs_the_grant_of_what_it_does_beside_that_of_queries() {
    let node = node();
    let text = [("Content-Type", "text/plain")];
    node.client().call("POST", "/execute", &text, b"SET grants k v").expect(200);
    for (query, grant) in [
        ("GET grants k", "db:read"),
        ("GET_ALL grants", "db:read"),
        ("EXISTS grants k", "db:read"),
        ("TTL grants k", "db:read"),
        ("KEYS grants", "db:read"),
        ("COUNT grants", "db:read"),
        ("DATABASE_LIST", "db:read"),
        ("SET grants k v", "db:write"),
        ("INCR grants n", "db:write"),
        ("DECR grants n 2", "db:write"),
        ("EXPIRE grants k 1000", "db:write"),
        ("PERSIST grants k", "db:write"),
        ("DELETE grants k", "db:write"),
        ("DATABASE_POP grants", "db:admin"),
        ("DATABASE_RENAME grants grants2", "db:admin"),
        ("DATABASE_DELETE grants2", "db:admin"),
    ] {
        let ask = |grants: &[&str]| holder(&node, grants).call("POST", "/execute", &text, query.as_bytes());
        let others: Vec<&str> = ["execute", "db:read", "db:write", "db:admin"]
            .into_iter()
            .filter(|other| *other != grant)
            .collect();
        let refused = ask(&others);
        assert_eq!(refused.expect_field("X-Required-Grants"), grant, "{query}");
        refused.expect(403);
        assert_eq!(ask(&[grant]).expect_field("X-Required-Grants"), "execute", "{query}");
        ask(&["execute", grant]).expect(200);
    }
}

/// What `lucid settings --hash-password` makes of a password.
fn hashed(password: &str) -> String {
    let mut child = Command::new(binary())
        .args(["settings", "--hash-password"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    use std::io::Write;
    writeln!(child.stdin.take().expect("a pipe"), "{password}").expect("room");
    let output = child.wait_with_output().expect("an end");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
}

#[test]
fn a_password_of_which_only_a_hash_is_known_opens_as_one_that_is_known() {
    let hash = hashed(PASSWORD);
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    assert_ne!(hash, hashed(PASSWORD));
    let node = Node::start(|setup| {
        setup.workers(2).set("databases.password_hash", format!("\"{hash}\""));
    });
    // Before anybody has shown the right one, and behind it.
    for _ in 0..2 {
        let mut wrong = client(&node, "wrong");
        for _ in 0..2 {
            expect_login(wrong.get("/database/list"));
        }
        expect_login(node.stranger().get("/database/list"));
        // A request with a body, and several at once, wait for it as one does.
        let mut right = client(&node, PASSWORD);
        let set = right.compose("POST", "/controller/set", &[FORM], b"database_name=d&key=k&value=v");
        let get = right.compose("POST", "/controller/get", &[FORM], b"database_name=d&key=k");
        right.send(&[&set[..], &get, &set, &get].concat());
        for expected in ["Data set successfully", "\"v\"", "Data set successfully", "\"v\""] {
            assert_eq!(right.response_to("POST").expect(200).text(), expected);
        }
    }
    let mut clients: Vec<Client> = (0..20).map(|_| client(&node, PASSWORD)).collect();
    for client in &mut clients {
        client.get("/database/list").expect(200);
    }
    let shown = node.stderr();
    assert!(!shown.contains("horse") && !shown.contains(&hash[30..]), "{shown}");
}

#[test]
fn proofs_of_many_wrong_passwords_are_bounded_and_braked_and_end() {
    let hash = hashed(PASSWORD);
    let node = Node::start(|setup| {
        setup.workers(2).set("databases.password_hash", format!("\"{hash}\""));
    });
    let mut guessers: Vec<Client> = (0..60).map(|number| client(&node, &format!("guess {number}"))).collect();
    for guesser in &mut guessers {
        let request = guesser.compose("GET", "/database/list", &[], b"");
        guesser.send(&request);
    }
    let mut statuses: Vec<u16> =
        guessers.iter_mut().map(|guesser| guesser.response_to("GET").status).collect();
    statuses.sort_unstable();
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429 | 503)), "{statuses:?}");
    assert!(statuses.contains(&401), "{statuses:?}");
    client(&node, PASSWORD).get("/database/list").expect(200);
}

#[test]
fn the_names_in_the_settings_are_those_of_the_endpoints() {
    let mut named: Vec<&str> = ENDPOINTS.iter().map(|endpoint| endpoint.4).collect();
    let mut known = lucid::config::DATABASE_ACTIONS.to_vec();
    named.sort_unstable();
    known.sort_unstable();
    assert_eq!(named, known);
    let served = lucid::api::ROUTES.iter().filter(|route| route.family == lucid::api::Family::Databases);
    assert_eq!(served.count(), ENDPOINTS.len());
}
