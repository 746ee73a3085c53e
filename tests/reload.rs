//! SIGHUP: what can change while the node runs does, the rest is named, a bad file changes nothing, and no
//! request notices.

mod common;

use common::node::{Running, binary};
use common::{Client, Node, kv, token};
use rustix::process::Signal;
use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A file like that of a usual node, with these lines added.
fn file(lines: &str) -> String {
    let secret = token::SECRET;
    format!(
        "general: {{port: 0, show_banner: false}}\nruntime: {{workers: 2}}\n\
         authentication: {{secret_key: \"{secret}\"}}\n{lines}"
    )
}

/// A node that logs to its stdout, where its handle can wait for a line.
fn node(lines: &str) -> Node {
    let node = Node::start(|setup| {
        setup.workers(2).set("logging.outputs", "[stdout]");
    });
    node.rewrite(&file(lines));
    node
}

/// Reloads, and waits until that is done.
fn reload(node: &mut Node) -> String {
    node.signal(Signal::HUP);
    node.says("lucid::cli::server: reload")
}

const STORE: &str = "store: {memory_limit: 256MiB}\nlogging: {outputs: [stdout]}\n";

#[test]
fn sighup_takes_on_what_can_change_and_says_so() {
    let mut node = node("");
    let mut before = node.client();
    before.put(&kv("a"), vec![b'x'; 2_000]).expect(201);
    node.rewrite(&file(
        "store: {memory_limit: 256MiB, default_ttl: 60}\nshutdown: {grace: 3}\n\
         http: {request_size_limit: 1000, cors_origins: [http://a.example], idle_timeout: 300ms}\n\
         logging: {outputs: [stdout], format: json}\n",
    ));
    node.signal(Signal::HUP);
    let said = node.says("store.default_ttl");
    assert!(said.contains("reload: store.default_ttl is 60 s now; it was unset"), "{said}");
    let line: serde_json::Value = serde_json::from_str(&said).expect("the format has changed too");
    assert_eq!(line["level"], "info");
    node.says("http.request_size_limit is 1000 now; it was 8388608");
    node.says("http.idle_timeout is 300 ms now; it was 75 s");
    node.says("http.cors_origins is http://a.example now; it was none");
    node.says("logging.format is json now; it was text");
    node.says("shutdown.grace is 3 s now; it was 10 s");
    node.says("reloaded: 6 changed, 0 need a restart");
    // In force for a connection that was there, on both workers.
    for client in [&mut before, &mut node.client(), &mut node.client(), &mut node.client()] {
        let put = client.put(&kv("b"), "1");
        assert!(put.status == 201 || put.status == 200, "{put}");
        let get = client.call("GET", &kv("b"), &[("Origin", "http://a.example")], b"").expect(200);
        assert_eq!(get.expect_field("X-TTL"), "60");
        assert_eq!(get.expect_field("Access-Control-Allow-Origin"), "http://a.example");
    }
    node.client().put(&kv("c"), vec![b'x'; 1_001]).expect(413);
    node.client().put(&kv("c"), vec![b'x'; 1_000]).expect(201);
    let mut idle = node.client();
    idle.get("/livez").expect(200);
    let began = Instant::now();
    idle.expect_orderly_close();
    assert!(began.elapsed() < Duration::from_secs(10), "after {:?}", began.elapsed());
    // A value that was there keeps what it was stored with.
    assert_eq!(node.client().get(&kv("a")).expect(200).field("X-TTL"), None);
}

#[test]
fn what_needs_a_restart_is_named_each_time_and_secrets_are_not_shown() {
    let mut node = node("");
    let other = "0ther5ecret of more than thirty-two bytes";
    let text = format!(
        "general: {{port: 1, show_banner: false}}\nruntime: {{workers: 1}}\n\
         authentication: {{secret_key: {other}}}\nstore: {{memory_limit: 128MiB}}\nlogging: {{outputs: [stdout]}}\n"
    );
    node.rewrite(&text);
    for _ in 0..2 {
        node.signal(Signal::HUP);
        node.says(
            "WARN  lucid::cli::server: reload: general.port needs a restart to become 1; until then it is 0",
        );
        node.says("runtime.workers needs a restart to become 1; until then it is 2");
        let secret = node.says("authentication.secret_key");
        assert!(secret.contains("has changed and needs a restart") && !secret.contains("0ther"), "{secret}");
        node.says("store.memory_limit needs a restart to become 134217728; until then it is 268435456");
        node.says("need a restart");
    }
    // The old secret is in force, as was said.
    node.assert_well();
    node.rewrite(&file(STORE));
    node.signal(Signal::HUP);
    node.says("reloaded: 0 changed, 0 need a restart");
}

#[test]
fn a_bad_file_changes_nothing_and_is_reported_whole() {
    let mut node = node("");
    for (text, says) in [
        (
            file("http: {idle_timeout: soon, cors_origins: [x]}\nstore: {default_ttl: 5}\n"),
            "http.idle_timeout: expected",
        ),
        (
            file("persistence: {enabled: true}\nstore: {default_ttl: 5}\n"),
            "persistence.enabled: persistence is on and there is no",
        ),
        (
            file("store: {default_ttl: 5}\nlogging: {outputs: ['file:/nonexistent/l']}\n"),
            "its folder is not there",
        ),
        ("authentication: {secret_key: ''}\nstore: {default_ttl: 5}\n".into(), "there is no secret"),
        ("a: [".into(), "node.yml:"),
    ] {
        node.rewrite(&text);
        node.signal(Signal::HUP);
        let line = node.says("lucid::cli::server: reload: ");
        assert!(line.contains("ERROR") && line.contains(says), "{line}");
        node.says("reload refused, nothing has changed");
    }
    fs::remove_file(node.folder().join("node.yml")).expect("a file");
    assert!(reload(&mut node).contains("Configuration file not found."));
    node.says("reload refused, nothing has changed");
    let mut client = node.client();
    client.put(&kv("a"), "1").expect(201);
    assert_eq!(client.get(&kv("a")).expect(200).field("X-TTL"), None);
    node.rewrite(&file("store: {default_ttl: 5, memory_limit: 256MiB}\nlogging: {outputs: [stdout]}\n"));
    node.signal(Signal::HUP);
    node.says("reloaded: 1 changed");
}

#[test]
fn a_log_file_that_was_renamed_is_opened_anew() {
    let mut node = Node::start(|setup| {
        setup.set("logging.outputs", "['file:lucid.log', stdout]").set("logging.level", "info");
    });
    let (log, old) = (node.folder().join("lucid.log"), node.folder().join("lucid.log.1"));
    node.signal(Signal::HUP);
    node.says("reloaded: ");
    fs::rename(&log, &old).expect("a file");
    node.signal(Signal::HUP);
    node.says("reloaded: ");
    assert!(log.exists(), "the file is there when the reload is done");
    node.signal(Signal::TERM);
    assert_eq!(node.wait(Duration::from_secs(10)).code, Some(0));
    let (old, log) = (fs::read_to_string(old).expect("text"), fs::read_to_string(log).expect("text"));
    assert_eq!(old.matches("reloaded: ").count(), 1, "{old}");
    assert!(log.matches("reloaded: ").count() == 1 && log.contains("stopping: "), "{log}");
}

#[test]
fn many_reloads_under_load_drop_no_request() {
    let mut node = node("");
    let (stop, served) = (AtomicBool::new(false), AtomicU64::new(0));
    let address = node.address();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (stop, served) = (&stop, &served);
            scope.spawn(move || {
                let mut client = Client::connect(address).with_token(&token::root());
                let key = kv(format!("load-{number}"));
                client.put(&key, "1").expect(201);
                while !stop.load(Ordering::Relaxed) {
                    client.put(&key, "2").expect(200);
                    assert_eq!(client.get(&key).expect(200).body, b"2");
                    // A new connection each time, since those are what a reload could lose.
                    Client::connect(address).get("/livez").expect(200);
                    served.fetch_add(3, Ordering::Relaxed);
                }
            });
        }
        // The threads must end even if an assertion fails here.
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..100 {
                let ttl = 60 + round;
                let text = format!(
                    "store: {{memory_limit: 256MiB, default_ttl: {ttl}}}\nlogging: {{outputs: [stdout]}}\n\
                     http: {{idle_timeout: {ttl}, header_timeout: {ttl}, max_connections: {}}}\n",
                    100 + round
                );
                node.rewrite(&file(&text));
                node.signal(Signal::HUP);
                let said = node.says("reloaded: ");
                assert!(!said.contains("reloaded: 0"), "{said}");
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    });
    println!("{} requests", served.load(Ordering::Relaxed));
    assert!(served.load(Ordering::Relaxed) > 100);
    node.assert_well();
}

#[test]
fn a_log_that_nobody_reads_stops_neither_the_node_nor_its_other_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("node.yml");
    let text = file("store: {memory_limit: 256MiB}\nlogging: {outputs: [stdout, stderr]}\n");
    fs::write(&path, text).expect("a file");
    let mut command = Command::new(binary());
    command.arg("-c").arg(&path).arg("server");
    // A pipe that is held and never read.
    let (unread, stderr) = std::io::pipe().expect("a pipe");
    let mut running = Running::spawn_with_stderr(command, &folder, Stdio::from(stderr));
    let line = running.line_with("listening on http://").expect("it starts");
    let address: SocketAddr = line.split("http://").nth(1).expect("just found").parse().expect("an address");
    // Each reload complains in as many lines: together far more than a pipe and the queue hold.
    let mistakes: String = (0..400).map(|at| format!("{}{at}: 1\n", "x".repeat(100))).collect();
    fs::write(&path, &mistakes).expect("a file");
    for _ in 0..12 {
        common::process::send_signal(running.pid(), Signal::HUP);
        running.line_with("reload refused, nothing has changed").expect("the other log goes on");
    }
    let mut client = Client::connect(address).with_token(&token::root());
    client.put(&kv("a"), "1").expect(201);
    common::process::send_signal(running.pid(), Signal::TERM);
    let (status, stdout) = running.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0));
    assert!(stdout.contains("stopped"), "{stdout}");
    drop(unread);
}
