//! A node without persistence leaves what it holds in a file when it is told to stop, and goes on with it
//! when it starts again.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use common::{Client, Node, kv};
use rustix::process::Signal;
use serde_json::json;

/// A node with its snapshot in this folder.
fn node(folder: &Path, workers: usize, more: &[(&'static str, &str)]) -> Node {
    Node::start(|setup| {
        setup.workers(workers).set("persistence.snapshot_on_exit", folder.join("warm").display());
        setup.set("shutdown.grace", "300ms");
        for (name, value) in more {
            setup.set(name, value);
        }
    })
}

#[track_caller]
fn stop(mut node: Node) -> String {
    node.signal(Signal::TERM);
    let ended = node.wait(Duration::from_secs(20));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stderr
}

/// Waits until everything is back.
fn ready(node: &Node) -> Client {
    loop {
        if node.stranger().get("/readyz").status == 200 {
            return node.client();
        }
        std::thread::yield_now();
    }
}

/// What is left in the folder.
fn files(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn everything_is_back_after_a_restart_with_other_workers() {
    let folder = tempfile::tempdir().unwrap();
    let first = node(folder.path(), 2, &[]);
    let mut client = first.client();
    let large: Vec<u8> = (0..2_000_000_u32).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect();
    let plain = client.put(&kv("plain"), "text").expect(201);
    let tag = plain.expect_field("etag").to_owned();
    client.call("PUT", &kv("typed"), &[("Content-Type", "a/b"), ("X-TTL", "5000")], b"1").expect(201);
    client.put(&kv(b"\xff\0"), &large).expect(201);
    client.put(&kv("locked"), "v").expect(201);
    let token = client.patch(&kv("locked"), "lock").expect(200).expect_field("x-fencing-token").to_owned();
    for key in 0..3_000 {
        client.put(&kv(format!("many/{key}")), key.to_string()).expect(201);
    }
    let values: Vec<u32> = (0..5_000).collect();
    client.call("POST", "/list/write", &[], json!({"key": "l", "values": values}).to_string().as_bytes());
    let app = client.call("POST", "/apps", &[], b"{\"name\":\"web\"}").expect(201).json();
    let writer = app["data"]["readwrite_token"].as_str().unwrap().to_owned();
    let item = b"{\"key\":\"i\",\"value\":1.50}";
    first.stranger().with_token(&writer).call("POST", "/item/write", &[], item).expect(200);
    let order = b"{\"name\":\"k\",\"grants\":[\"kv:read\"],\"expires_in\":3600}";
    let key =
        client.call("POST", "/api/keys", &[], order).expect(201).json()["key"].as_str().unwrap().to_owned();
    drop(client);
    let said = stop(first);
    assert!(said.contains("3006 entries are in the snapshot"), "{said}");
    assert_eq!(files(folder.path()), ["warm"]);
    let about = std::fs::metadata(folder.path().join("warm")).unwrap();
    assert_eq!(about.permissions().mode() & 0o777, 0o600);

    let second = node(folder.path(), 1, &[]);
    let mut client = ready(&second);
    assert_eq!(client.get(&kv("plain")).expect(200).expect_field("etag"), tag);
    let typed = client.get(&kv("typed")).expect(200);
    assert_eq!(typed.field("content-type"), Some("a/b"));
    assert!((4_900..=5_000).contains(&typed.expect_field("x-ttl").parse().unwrap()));
    assert!(client.get(&kv(b"\xff\0")).expect(200).body == large);
    client.put(&kv("locked"), "other").expect(409);
    client.call("PUT", &kv("locked"), &[("X-Fencing-Token", &token)], b"own").expect(200);
    for key in 0..3_000 {
        assert_eq!(client.get(&kv(format!("many/{key}"))).expect(200).text(), key.to_string());
    }
    assert_eq!(client.get("/list/count?key=l").expect(200).json()["data"], 5_000);
    let read = second.stranger().with_token(&writer).get("/item/read?key=i").expect(200);
    assert!(read.text().contains("1.50"), "{read}");
    second.stranger().with_token(&key).get(&kv("plain")).expect(200);
    // It was good once: what is deleted from now on does not come back by it.
    second.wait_for_stderr("everything is back", 1);
    assert_eq!(files(folder.path()), [""; 0]);
    let changed = client.put(&kv("plain"), "text").expect(200);
    assert_ne!(changed.expect_field("etag"), tag);
    client.delete(&kv("many/7")).expect(200);
    drop(client);
    stop(second);
    let third = node(folder.path(), 2, &[]);
    ready(&third).get(&kv("many/7")).expect(404);
    ready(&third).get(&kv("many/8")).expect(200);
}

#[test]
fn a_node_that_is_killed_leaves_nothing_to_begin_with() {
    let folder = tempfile::tempdir().unwrap();
    let first = node(folder.path(), 1, &[]);
    first.client().put(&kv("k"), "v").expect(201);
    stop(first);
    let mut second = node(folder.path(), 1, &[]);
    ready(&second).get(&kv("k")).expect(200);
    second.wait_for_stderr("everything is back", 1);
    second.signal(Signal::KILL);
    second.wait(Duration::from_secs(20));
    let third = node(folder.path(), 1, &[]);
    third.client().get(&kv("k")).expect(404);
}

#[test]
fn clients_that_do_not_finish_in_time_do_not_keep_it_from_being_written() {
    let folder = tempfile::tempdir().unwrap();
    let first = node(folder.path(), 2, &[]);
    first.client().put(&kv("k"), "v").expect(201);
    let mut slow = first.client();
    let head =
        slow.compose("PUT", &kv("slow"), &[("Content-Length", "100000"), ("Expect", "100-continue")], b"");
    slow.send(&head);
    slow.response().expect(100);
    let said = stop(first);
    assert!(said.contains("did not finish in time"), "{said}");
    let second = node(folder.path(), 2, &[]);
    let mut client = ready(&second);
    client.get(&kv("k")).expect(200);
    client.get(&kv("slow")).expect(404);
}

#[test]
fn a_file_that_cannot_be_read_is_put_aside_and_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("warm");
    let first = node(folder.path(), 1, &[]);
    for key in 0..100 {
        first.client().put(&kv(key.to_string()), "v").expect(201);
    }
    stop(first);
    let whole = std::fs::read(&path).unwrap();
    for (round, damaged) in [&whole[..whole.len() - 1], b"", b"not a snapshot at all"].into_iter().enumerate()
    {
        std::fs::write(&path, damaged).unwrap();
        let node = node(folder.path(), 1, &[]);
        let mut client = ready(&node);
        client.get(&kv("7")).expect(404);
        client.put(&kv("7"), "v").expect(201);
        node.wait_for_stderr("the node begins with nothing", 1);
        let aside = folder.path().join(format!("warm.damaged-{}", round + 1));
        assert_eq!(std::fs::read(aside).unwrap(), damaged);
        assert!(!path.exists());
    }
}

#[test]
fn with_encryption_nothing_of_it_is_in_clear_and_another_key_does_not_open_it() {
    let folder = tempfile::tempdir().unwrap();
    let key = |key: &'static str| [("encryption.enabled", "true"), ("encryption.private_key", key)];
    let (right, wrong) =
        (key("a key of more than thirty-two bytes"), key("one more key of thirty-two bytes"));
    let first = node(folder.path(), 1, &right);
    first.client().put(&kv("the name of a key"), "the bytes of a value").expect(201);
    first.client().call("POST", "/apps", &[], b"{\"name\":\"the name of an app\"}").expect(201);
    stop(first);
    let bytes = std::fs::read(folder.path().join("warm")).unwrap();
    let shows = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(!shows(b"the name of") && !shows(b"the bytes of"));
    let second = node(folder.path(), 1, &right);
    ready(&second).get(&kv("the name of a key")).expect(200);
    second.wait_for_stderr("everything is back", 1);
    stop(second);
    let third = node(folder.path(), 1, &wrong);
    ready(&third).get(&kv("the name of a key")).expect(404);
    third.wait_for_stderr("encrypted with another key", 1);
    assert_eq!(files(folder.path()), ["warm.damaged-1"]);
}

#[test]
fn a_snapshot_that_cannot_be_written_is_a_failure_and_leaves_nothing_half_done() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::start(|setup| {
        setup.set("persistence.snapshot_on_exit", folder.path().join("warm").display());
        // Files that may not grow stand for a disk that is full; the signal that comes with it is for others.
        setup.before("trap '' XFSZ");
    });
    let mut client = node.client();
    for number in 0..10 {
        client.put(&kv(format!("key-{number}")), vec![b'v'; 500_000]).expect(201);
    }
    let limit = Rlimit { current: Some(1_000_000), maximum: Some(1_000_000) };
    prlimit(Pid::from_raw(node.pid() as i32), Resource::Fsize, limit).expect("a child of ours");
    node.signal(Signal::TERM);
    let ended = node.wait(Duration::from_secs(20));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot write the snapshot"), "{}", ended.stderr);
    assert_eq!(files(folder.path()), [""; 0]);
}

#[test]
fn a_node_whose_snapshot_is_read_for_long_answers_and_stops_at_once_and_the_snapshot_stays() {
    if !common::node::can_trace() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let first = node(folder.path(), 1, &[]);
    let mut client = first.client();
    for number in 0..100 {
        client.put(&kv(format!("key-{number}")), vec![b'v'; 40_000]).expect(201);
    }
    drop(client);
    stop(first);
    let before = std::fs::read(folder.path().join("warm")).unwrap();
    for wanted in ["checking: ", "recovering: "] {
        let mut slow = Node::start(|setup| {
            setup.set("persistence.snapshot_on_exit", folder.path().join("warm").display());
            setup.runner(&common::node::SLOW_READER);
        });
        let mut stranger = slow.stranger();
        stranger.get("/livez").expect(200);
        while !stranger.get("/readyz").expect(503).text().starts_with(wanted) {}
        slow.signal(Signal::TERM);
        let ended = slow.wait(Duration::from_secs(20));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(files(folder.path()), ["warm"]);
        assert!(std::fs::read(folder.path().join("warm")).unwrap() == before, "it has changed");
    }
    let last = node(folder.path(), 2, &[]);
    let mut client = ready(&last);
    for number in 0..100 {
        assert_eq!(client.get(&kv(format!("key-{number}"))).expect(200).body.len(), 40_000);
    }
    assert_eq!(files(folder.path()), [""; 0]);
}
