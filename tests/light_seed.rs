//! The API reference of LightKV, as it stands in `tests/seeds/lightkv.txt`: its lines are run with nothing
//! changed but the host and the token, and answered as it says.

mod common;

use std::process::Command;

use common::{Client, Node};
use serde_json::{Value, json};

const REFERENCE: &str = include_str!("seeds/lightkv.txt");

/// Each `curl` of the reference with what it says is answered, if its section says so.
fn curls() -> Vec<(String, Option<Value>)> {
    let is_heading = |line: &str| {
        let endpoint = ["GET /", "POST /", "DELETE /"].iter().any(|method| line.starts_with(method));
        endpoint && !line.contains("online")
    };
    let mut found: Vec<(String, Option<Value>)> = Vec::new();
    let mut lines = REFERENCE.lines();
    let mut is_new = false;
    while let Some(line) = lines.next() {
        if is_heading(line) {
            is_new = false;
        } else if line.starts_with("curl ") {
            let mut command = line.to_owned();
            while command.ends_with('\\') {
                command = format!("{}\n{}", command, lines.next().expect("the rest of the command"));
            }
            found.push((command, None));
            is_new = true;
        } else if line.starts_with('{')
            && is_new
            && let Some((_, answer)) = found.last_mut()
        {
            *answer = Some(serde_json::from_str(line).expect("an answer in JSON"));
        }
    }
    found
}

fn run(command: &str, address: &str, token: &str) -> Value {
    let command =
        command.replace("https://lightkv.com", &format!("http://{address}")).replace("TOKEN", token);
    let output = Command::new("sh").arg("-c").arg(format!("{command} -sS")).output().expect("sh");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{command}: {}", String::from_utf8_lossy(&output.stdout)))
}

fn app_token(node: &Node) -> String {
    let app = node.client().call("POST", "/apps", &[], br#"{"name":"reference"}"#).expect(201).json();
    app["data"]["readwrite_token"].as_str().expect("a token").to_owned()
}

#[test]
fn every_curl_of_the_reference_works_with_only_the_host_changed() {
    if Command::new("curl").arg("--version").output().is_err() {
        return println!("skipped: curl is not installed");
    }
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let (address, token) = (node.address().to_string(), app_token(&node));
    let curls = curls();
    assert_eq!(curls.len(), 7, "{curls:?}");
    assert_eq!(curls.iter().filter(|(_, answer)| answer.is_some()).count(), 2, "{curls:?}");
    let mut answers = Vec::new();
    for (command, expected) in &curls {
        let answer = run(command, &address, &token);
        assert_eq!(answer["ok"], true, "{command}: {answer}");
        if let Some(expected) = expected {
            assert_eq!(&answer, expected, "{command}");
        }
        answers.push(answer["data"].clone());
    }
    assert_eq!(
        answers[2..],
        [
            json!({"key": "user:42:score", "deleted": true}),
            json!({"key": "online-users", "count": 3}),
            json!({"key": "online-users", "added": 1, "count": 4}),
            json!({"key": "online-users", "removed": 1, "count": 3}),
            json!({"key": "online-users", "purged": true}),
        ]
    );
}

#[test]
fn every_example_without_curl_is_answered_as_the_reference_says() {
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let mut client = Client::connect(node.address()).with_token(&app_token(&node));
    client
        .call("POST", "/list/write", &[], br#"{"key": "online-users", "values": ["alice", "bob", "carol"]}"#)
        .expect(200);
    let mut lines = REFERENCE.lines().peekable();
    let mut examples = 0;
    while let Some(line) = lines.next() {
        if let Some(target) = line.strip_prefix("GET ")
            && let Some(answer) = lines.peek().and_then(|next| next.strip_prefix("→ "))
        {
            let expected: Value = serde_json::from_str(answer).expect("JSON");
            assert_eq!(client.get(target).expect(200).json(), expected, "{target}");
            examples += 1;
        }
    }
    assert_eq!(examples, 3);
    for (target, answer) in [
        ("/list/read?key=online-users", r#"{ "ok": true, "data": ["alice", "bob", "carol"] }"#),
        ("/list/index?key=online-users&value=carol", r#"{ "ok": true, "data": 2 }"#),
        ("/list/count?key=online-users", r#"{ "ok": true, "data": 3 }"#),
    ] {
        assert!(REFERENCE.contains(answer), "{answer}");
        assert_eq!(client.get(target).expect(200).json(), serde_json::from_str::<Value>(answer).unwrap());
    }
    for key in ["user:42:score", "user:42:rank"] {
        let body = json!({"key": key, "value": 1}).to_string();
        client.call("POST", "/item/write", &[], body.as_bytes()).expect(200);
    }
    client.call("POST", "/list/write", &[], br#"{"key": "online-mods", "values": []}"#).expect(200);
    assert_eq!(
        client.get("/item/exists?key=user:42:score").expect(200).json(),
        json!({"ok": true, "data": true})
    );
    // Byte order: the reference shows the names in the order in which they were made.
    assert_eq!(
        client.get("/item/keys?prefix=user:").json()["data"],
        json!(["user:42:rank", "user:42:score"])
    );
    assert_eq!(client.get("/list/keys?prefix=online").json()["data"], json!(["online-mods", "online-users"]));
    // Each answer that the reference shows is compared with somewhere here.
    let shown = REFERENCE.lines().filter(|line| line.contains("\"ok\": true")).count();
    assert_eq!(shown, 2 + 3 + 3 + 3, "curls, examples, answers, keys and exists");
    let absent = client.get("/item/read?key=foo").expect(404);
    assert_eq!(
        absent.json(),
        json!({"ok": false, "error": {"code": "NOT_FOUND", "message": "Key 'foo' not found"}})
    );
}
