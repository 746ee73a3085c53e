//! Nothing leaks: after a day's work with every kind of credential, none of them is in a log, in a command
//! line, in an answer but the one that told it, or in a file but those that hold it.

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::cli::{Call, call, call_to, url};
use common::tls::{Pair, connect};
use common::{Client, Node, Response, kv, token};
use rustix::process::Signal;
use rustls::version::TLS13;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

const PASSWORD: &str = "pw-hush-0123456789abcdef";
const WRONG_PASSWORD: &str = "pw-wrong-fedcba9876543210";
const PREVIOUS_SECRET: &str = "the secret before this one, 32 bytes and more";
const ENCRYPTION_KEY: &str = "seal-hush-0123456789";
const WRONG_ENCRYPTION_KEY: &str = "seal-wrong-9876543210";

/// What is no secret, and is in no log all the same.
const NAMES: [&str; 6] =
    ["private-key", "private-value", "private-name", "private-app", "private-database", "private-prefix"];

/// Files that hold secrets because they are where those come from.
const SOURCES: [&str; 3] = ["node.yml", "key.pem", "cert.pem"];

/// All that may not be found anywhere.
#[derive(Default)]
struct Secrets(Vec<String>);

impl Secrets {
    fn add(&mut self, secret: &str) {
        self.0.push(secret.to_owned());
    }

    /// A token: as a whole, and what is secret of it. What stands before that says who it is.
    fn add_token(&mut self, token: &str) {
        self.add(token);
        match token.rsplit_once('.') {
            Some((_, signature)) => self.add(signature),
            None => self.add(&token[16..48]),
        }
    }

    fn found_in(&self, text: &[u8]) -> Vec<&str> {
        let holds = |secret: &&String| text.windows(secret.len()).any(|window| window == secret.as_bytes());
        self.0.iter().filter(holds).map(String::as_str).collect()
    }
}

fn basic(password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!(":{password}")))
}

fn data(response: Response, status: u16) -> Value {
    response.expect(status).json()
}

fn post(client: &mut Client, path: &str, body: &Value) -> Response {
    client.call("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
}

/// Every file below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

/// Everything that reads and writes with these clients, good or not.
fn work(client: &mut Client) -> String {
    let mut said = String::new();
    for (method, path, body) in [
        ("PUT", kv("private-key"), "private-value".to_owned()),
        ("GET", kv("private-key"), String::new()),
        ("PATCH", kv("private-key"), "lock".into()),
        ("PATCH", kv("private-key"), "unlock".into()),
        ("DELETE", kv("private-prefix/x"), String::new()),
        ("GET", "/api/kv?prefix=private".into(), String::new()),
        ("POST", "/item/write".into(), json!({"key": "private-key", "value": "private-value"}).to_string()),
        ("GET", "/item/read?key=private-key".into(), String::new()),
        ("POST", "/list/add".into(), json!({"key": "private-key", "values": ["private-value"]}).to_string()),
        ("GET", "/list/read?key=private-key".into(), String::new()),
        ("GET", "/api/keys".into(), String::new()),
        ("GET", "/apps".into(), String::new()),
        ("GET", "/nowhere".into(), String::new()),
        ("POST", "/controller/get".into(), "{not json".into()),
        ("GET", "/database/list".into(), String::new()),
    ] {
        said.push_str(&client.call(method, &path, &[], body.as_bytes()).to_string());
    }
    said
}

/// Makes, uses and ends an API key and an app; adds their tokens to the secrets.
fn with_keys_and_apps(node: &Node, secrets: &mut Secrets) -> String {
    let mut root = node.client();
    let order =
        json!({"name": "private-name", "grants": ["kv:read", "kv:write"], "prefix": "private-prefix"});
    let made = data(post(&mut root, "/api/keys", &order), 201);
    let (id, key) = (made["id"].as_str().expect("an id"), made["key"].as_str().expect("a key"));
    secrets.add_token(key);
    let app = data(post(&mut root, "/apps", &json!({"name": "private-app"})), 201);
    let app = &app["data"];
    let mut tokens = vec![key.to_owned()];
    for which in ["read_token", "readwrite_token"] {
        tokens.push(app[which].as_str().expect("a token").to_owned());
    }
    let app_id = app["id"].as_str().expect("an id");
    let rotated = post(&mut root, &format!("/apps/{app_id}/rotate"), &json!({"token": "read", "grace": 60}));
    tokens.push(data(rotated, 200)["data"]["read_token"].as_str().expect("a token").to_owned());
    let mut said = String::new();
    for token in &tokens {
        secrets.add_token(token);
        said.push_str(&work(&mut node.stranger().with_token(token)));
        said.push_str(&work(&mut node.stranger().with_authorization(basic(token))));
        // Cut short, and with another character.
        said.push_str(&work(&mut node.stranger().with_token(&token[..60])));
        said.push_str(&work(&mut node.stranger().with_token(&format!("{}x", &token[..token.len() - 1]))));
    }
    said.push_str(&root.patch(&format!("/api/keys/{id}"), r#"{"name":"private-name-2"}"#).to_string());
    said.push_str(&root.delete(&format!("/api/keys/{id}")).to_string());
    said.push_str(&root.delete(&format!("/apps/{app_id}")).to_string());
    tokens.iter().for_each(|token| said.push_str(&work(&mut node.stranger().with_token(token))));
    said
}

fn with_databases(node: &Node) -> String {
    let mut said = String::new();
    let mut client = node.stranger().with_authorization(basic(PASSWORD));
    let entry = json!({"database_name": "private-database", "key": "private-key", "value": "private-value"});
    for secret in [ENCRYPTION_KEY, WRONG_ENCRYPTION_KEY] {
        let mut sealed = entry.clone();
        sealed["encryption_key"] = ENCRYPTION_KEY.into();
        said.push_str(&post(&mut client, "/controller/set", &sealed).expect(200).to_string());
        sealed["encryption_key"] = secret.into();
        said.push_str(&post(&mut client, "/controller/get", &sealed).to_string());
        said.push_str(&post(&mut client, "/controller/get_all", &sealed).to_string());
        for query in [
            format!("GET private-database private-key {secret}"),
            format!("SET private-database private-key private-value {secret} perhaps"),
            format!("GET private-database private-key '{secret}"),
        ] {
            said.push_str(&post(&mut client, "/execute", &json!({"query": query})).to_string());
        }
    }
    said.push_str(&work(&mut client));
    said.push_str(&work(&mut node.stranger().with_authorization(basic(WRONG_PASSWORD))));
    said
}

/// The verbs, whose credentials come from the environment, files and pipes; and what they show.
fn with_verbs(node: &Node, secrets: &mut Secrets) -> String {
    let mut said = String::new();
    let mut say = |call: Call| {
        let came = call.run();
        said.push_str(&format!("{}{}", came.text(), came.stderr));
    };
    let issue = call(&["token", "issue"]).variable("LUCID_AUTHENTICATION__SECRET_KEY", token::SECRET);
    let issued = issue.run().text().trim().to_owned();
    secrets.add_token(&issued);
    say(call_to(node, &["put", "private-key", "-"]).stdin("private-value").variable("LUCID_TOKEN", &issued));
    let by_password = |words: &[&str], password: &str| {
        call(words).variable("LUCID_URL", &url(node)).variable("LUCID_PASSWORD", password)
    };
    say(by_password(&["execute", "DATABASE_LIST"], PASSWORD));
    say(by_password(&["execute", "DATABASE_LIST"], WRONG_PASSWORD));
    say(by_password(&["execute", "-"], PASSWORD).stdin(format!("GET private-database k {ENCRYPTION_KEY}")));
    let settings = call(&["settings", "-c", node.folder().join("node.yml").to_str().expect("a name")]);
    say(settings.variable("LUCID_DATABASES__PASSWORD", PASSWORD));
    // One that lasts, so that its command line can be read.
    let mut waits = call_to(node, &["put", "private-key"]).variable("LUCID_TOKEN", &issued).into_command();
    let mut child = waits.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the program");
    said.push_str(&command_line(child.id()));
    drop(child.stdin.take());
    child.wait().expect("a child");
    said
}

fn command_line(pid: u32) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).expect("a process")).into_owned()
}

#[test]
fn no_secret_is_in_a_log_a_command_line_an_answer_or_a_file_after_work_with_every_kind_of_credential() {
    let pair = Pair::new();
    for format in ["text", "json"] {
        let mut node = Node::start(|setup| {
            setup.workers(2).tls(&pair).set("logging.level", "trace").set("logging.format", format);
            setup.set("logging.outputs", "[{type: file, path: trace.log}, stderr]");
            setup.set("databases.password", PASSWORD);
            setup.set("authentication.previous_secret_key", format!("\"{PREVIOUS_SECRET}\""));
            setup.set("general.unix_socket", "lucid.sock");
            setup.set("persistence.enabled", "true").set("persistence.location", "data");
        });
        common::durable::wait_until_ready(&node);
        let mut secrets = Secrets::default();
        for secret in [token::SECRET, PREVIOUS_SECRET, ENCRYPTION_KEY, WRONG_ENCRYPTION_KEY] {
            secrets.add(secret);
            secrets.add(&STANDARD.encode(secret));
        }
        for password in [PASSWORD, WRONG_PASSWORD] {
            secrets.add(password);
            secrets.add(&STANDARD.encode(format!(":{password}")));
        }
        pair.key.lines().filter(|line| !line.starts_with("---")).for_each(|line| secrets.add(line));
        let root = token::root();
        let forged = token::signed_raw(b"another secret", br#"{"alg":"HS256"}"#, br#"{"exp":9999999999}"#);
        let previous = token::signed_raw(
            PREVIOUS_SECRET.as_bytes(),
            br#"{"alg":"HS256","typ":"JWT"}"#,
            br#"{"exp":9999999999}"#,
        );
        let mut said = String::new();
        for jwt in [&root, &forged, &previous] {
            secrets.add_token(jwt);
            said.push_str(&work(&mut node.stranger().with_token(jwt)));
            said.push_str(&work(&mut node.stranger().with_authorization(jwt.clone())));
            said.push_str(&work(&mut connect(node.tls_address(), &pair.trusted(&TLS13)).with_token(jwt)));
            let unix = Client::try_connect_unix(&node.folder().join("lucid.sock")).expect("a socket");
            said.push_str(&work(&mut unix.with_token(jwt)));
        }
        said.push_str(&with_keys_and_apps(&node, &mut secrets));
        said.push_str(&with_databases(&node));
        said.push_str(&with_verbs(&node, &mut secrets));
        // Nonsense instead of a handshake, and of a request with a credential in it.
        let mut nonsense = Client::connect(node.tls_address());
        nonsense.send(format!("GET / HTTP/1.1\r\nAuthorization: {}\r\n\r\n", basic(PASSWORD)).as_bytes());
        let mut nonsense = node.stranger();
        nonsense.send(format!("GET / HTTP/9\r\nAuthorization: Bearer {root}\r\n\r\n").as_bytes());
        said.push_str(&nonsense.response().to_string());
        node.signal(Signal::HUP);
        node.wait_for_stderr("reload", 1);
        let command = command_line(node.pid());
        node.signal(Signal::TERM);
        let ended = node.wait(Duration::from_secs(20));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);

        let logged = std::fs::read_to_string(node.folder().join("trace.log")).expect("a log");
        assert!(logged.contains("API key") && logged.contains("app "), "work was logged at all: {logged}");
        assert!(logged.len() > 500 && ended.stderr.len() > 500);
        for (what, text) in
            [("stderr", &ended.stderr), ("stdout", &ended.stdout), ("answers", &said), ("cmdline", &command)]
        {
            assert_eq!(secrets.found_in(text.as_bytes()), [""; 0], "in {what}");
        }
        for name in NAMES {
            assert!(!logged.contains(name) && !ended.stderr.contains(name), "{name} is in the log: {logged}");
        }
        let (mut found, mut kept) = (Vec::new(), false);
        files(node.folder(), &mut found);
        for path in found {
            if SOURCES.iter().any(|source| path.file_name().is_some_and(|name| name == *source)) {
                continue;
            }
            // A socket cannot be opened.
            let Ok(mut bytes) = std::fs::read(&path) else { continue };
            // The rest of a segment is yet to be written.
            bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
            kept |= bytes.windows(NAMES[0].len()).any(|window| window == NAMES[0].as_bytes());
            assert_eq!(secrets.found_in(&bytes), [""; 0], "in {}", path.display());
        }
        assert!(kept, "the folder of the journal was looked through");
        let source = std::fs::read(node.folder().join("node.yml")).expect("a file");
        assert!(secrets.found_in(&source).contains(&PASSWORD), "what is looked for can be found");
    }
}
