//! The Unix socket serves the same API, and knows who is there.

mod common;

use common::{Client, Node, kv, token};
use rustix::process::{Signal, getuid};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::Duration;

const NAME: &str = "lucid.sock";

/// A node whose socket trusts these users.
fn start(workers: usize, trusted: &str) -> Node {
    Node::start(|setup| {
        setup.workers(workers).set("general.unix_socket", NAME);
        setup.set("authentication.local_uids", format!("[{trusted}]"));
    })
}

fn connect(node: &Node) -> Client {
    Client::try_connect_unix(&node.folder().join(NAME)).expect("a socket")
}

#[test]
fn the_same_api_is_served_with_the_same_credentials() {
    for workers in [1, 2] {
        let node = start(workers, "");
        let mut local = connect(&node).with_token(&token::root());
        local.put(&kv("x"), vec![7; 3_000_000]).expect(201);
        assert_eq!(node.client().get(&kv("x")).expect(200).body, vec![7; 3_000_000]);
        assert_eq!(local.get(&kv("x")).expect(200).body, vec![7; 3_000_000]);
        connect(&node).get(&kv("x")).expect(401);
        connect(&node).with_token("nonsense").get(&kv("x")).expect(401);
        let mut closing = connect(&node);
        closing.send(b"NONSENSE\r\n\r\n");
        closing.response().expect(400);
        closing.expect_orderly_close();
        node.assert_well();
    }
}

#[test]
fn a_trusted_user_needs_no_token_there_and_only_there() {
    let node = start(2, &getuid().as_raw().to_string());
    let mut clients: Vec<Client> = (0..40).map(|_| connect(&node)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let path = kv(format!("key-{number}"));
        for _ in 0..3 {
            let put = client.put(&path, "mine");
            assert!([200, 201].contains(&put.status), "{put}");
            assert_eq!(client.get(&path).expect(200).body, b"mine");
        }
        client.patch(&path, "lock").expect(200);
        client.patch(&path, "unlock").expect(200);
        client.delete(&path).expect(200);
        client.get("/api/kv?prefix=x").expect(200);
    }
    // A credential that is shown counts, or a trusted proxy would lend its power to everybody.
    connect(&node).with_token("nonsense").get(&kv("x")).expect(401);
    connect(&node).with_token(&token::with_grants(&["kv:read"])).put(&kv("x"), "1").expect(403);
    let mut both = connect(&node).with_token(&token::with_grants(&["kv:read"]));
    both.put(&kv("x"), "1").expect(403);
    let mut both = both.without_token();
    both.put(&kv("x"), "1").expect(201);
    node.stranger().get(&kv("x")).expect(401);
    node.assert_well();
}

#[test]
fn a_trusted_user_makes_api_keys_and_owns_them() {
    let uid = getuid().as_raw().to_string();
    let node = start(2, &uid);
    let create = |mut client: Client| {
        client.call("POST", "/api/keys", &[], br#"{"name":"mine","grants":["kv:read"]}"#)
    };
    let made = create(connect(&node)).expect(201);
    let text = String::from_utf8(made.body).unwrap();
    assert!(text.contains(&format!(r#""owner":"uid:{uid}""#)), "{text}");
    create(connect(&node).with_token("nonsense")).expect(401);
}

#[test]
fn another_user_is_nobody_special() {
    let other = getuid().as_raw() + 1;
    let node = start(2, &other.to_string());
    connect(&node).get(&kv("x")).expect(401);
    connect(&node).with_token(&token::root()).get(&kv("x")).expect(404);
}

#[test]
fn curl_speaks_through_the_socket() {
    let node = start(1, &getuid().as_raw().to_string());
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--unix-socket", NAME]).args(arguments).current_dir(node.folder());
        command.output().inspect_err(|_| println!("SKIPPED: curl is not installed")).ok()
    };
    let Some(put) = curl(&["-X", "PUT", "-d", "hello", "http://localhost/api/kv/x"]) else { return };
    assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
    let got = curl(&["http://localhost/api/kv/x"]).expect("just there");
    assert_eq!(String::from_utf8_lossy(&got.stdout), "hello");
}

#[test]
fn the_file_is_there_for_everybody_as_long_as_the_node_is() {
    let mut node = start(2, "");
    let path = node.folder().join(NAME);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o666);
    // Half a request at the end does not hold up the node, and a whole one is answered.
    let mut idle = connect(&node);
    idle.get("/livez").expect(200);
    node.signal(Signal::TERM);
    assert_eq!(node.wait(Duration::from_secs(10)).code, Some(0));
    assert!(!path.exists());
}

#[test]
fn what_a_killed_node_left_is_replaced_and_what_lives_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(NAME);
    let with = |path: &std::path::Path| {
        let path = path.to_str().unwrap().to_owned();
        move |setup: &mut common::Setup| {
            setup.set("general.unix_socket", path).workers(2);
        }
    };
    let mut killed = Node::start(with(&path));
    killed.signal(Signal::KILL);
    killed.wait(Duration::from_secs(10));
    assert!(path.exists());
    let node = Node::start(with(&path));
    Client::try_connect_unix(&path).unwrap().get("/livez").expect(200);
    let ended = Node::start_in_vain(with(&path));
    assert_eq!(ended.code, Some(69), "{}", ended.stderr);
    assert!(ended.stderr.contains("another program does"), "{}", ended.stderr);
    Client::try_connect_unix(&path).unwrap().get("/livez").expect(200);
    node.assert_well();
    drop(node);
    // A listener whose queue is full answers nobody, but it is there.
    let busy = folder.path().join("busy.sock");
    let _listener = UnixListener::bind(&busy).unwrap();
    let ended = Node::start_in_vain(with(&busy));
    assert_eq!(ended.code, Some(69), "{}", ended.stderr);
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let ended = Node::start_in_vain(with(&file));
    assert_eq!(ended.code, Some(69), "{}", ended.stderr);
    assert!(ended.stderr.contains("no socket"), "{}", ended.stderr);
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    let ended = Node::start_in_vain(with(&folder.path().join("no/such/folder")));
    assert_eq!(ended.code, Some(69), "{}", ended.stderr);
    let ended = Node::start_in_vain(with(&folder.path().join("s".repeat(108))));
    assert_eq!(ended.code, Some(78), "{}", ended.stderr);
    assert!(ended.stderr.contains("at most 107"), "{}", ended.stderr);
}
