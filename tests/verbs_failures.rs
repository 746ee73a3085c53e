//! What goes wrong between a verb and a node is said: what happened, to what, and what to do next. Each
//! failure has its exit code, and none shows a token.

mod common;

use common::cli::{Call, call, call_to, url};
use common::{Node, Shared, kv, token};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

static NODE: Shared = Shared::new();

fn node() -> Arc<Node> {
    NODE.node(|setup| {
        setup.set("store.max_limit", "1MiB");
    })
}

/// A peer that takes one connection, says these bytes once something was asked, and closes it; or, with
/// no bytes, says nothing until the other side goes.
fn peer(says: Option<&'static [u8]>) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a caller");
        let mut block = [0; 4_096];
        let _ = stream.read(&mut block);
        match says {
            Some(bytes) => drop(stream.write_all(bytes)),
            None => while matches!(stream.read(&mut block), Ok(1..)) {},
        }
    });
    (url, thread)
}

fn get(url: &str) -> Call {
    call(&["get", "k", "--url", url]).variable("LUCID_TOKEN", "a.b.c")
}

#[test]
fn a_node_without_its_token_says_how_to_give_one() {
    let node = node();
    let stderr = call(&["get", "k", "--url", &url(&node)]).failed(4);
    assert!(
        stderr.starts_with(&format!("lucid: the node at {} wants a token, and none was given\n", url(&node)))
    );
    assert!(stderr.contains("export LUCID_TOKEN=$(lucid token issue)"), "{stderr}");
}

#[test]
fn a_wrong_token_is_refused_by_name_and_not_shown() {
    let (node, folder) = (node(), tempfile::tempdir().unwrap());
    let other =
        token::signed_raw(b"another secret", br#"{"typ":"JWT","alg":"HS256"}"#, b"{\"exp\":9999999999}");
    let expired = token::with_claims(&serde_json::json!({ "exp": 1 }));
    let file = folder.path().join("token");
    for wrong in [other.as_str(), &expired, "nonsense"] {
        std::fs::write(&file, wrong).unwrap();
        let file = file.to_str().unwrap();
        for (call, origin) in [
            (call(&["get", "k"]).variable("LUCID_TOKEN", wrong), "LUCID_TOKEN"),
            (call(&["put", "k", "v", "--token-file", file]), file),
            (call(&["list"]).variable("LUCID_TOKEN_FILE", file), file),
            (call(&["bench"]).variable("LUCID_TOKEN", wrong), "LUCID_TOKEN"),
        ] {
            let stderr = call.variable("LUCID_URL", &url(&node)).failed(4);
            let line = format!("lucid: the node at {} does not take the token of {origin}\n", url(&node));
            assert!(stderr.starts_with(&line), "{stderr}");
            assert!(stderr.contains("lucid token inspect") && !stderr.contains(wrong), "{stderr}");
        }
    }
}

#[test]
fn a_token_that_may_not_is_told_which_grant_it_lacks() {
    let node = node();
    for (arguments, has, lacks) in [
        (&["get", "k"][..], "kv:write", "kv:read"),
        (&["put", "k", "v"], "kv:read", "kv:write"),
        (&["delete", "k"], "kv:read", "kv:delete"),
        (&["list"], "kv:read", "kv:list"),
    ] {
        let stderr = call_to(&node, arguments).variable("LUCID_TOKEN", &token::with_grants(&[has])).failed(4);
        assert!(stderr.contains(&format!("the token of LUCID_TOKEN lacks the grant {lacks}\n")), "{stderr}");
        assert!(stderr.contains("lucid token issue --grant"), "{stderr}");
    }
}

#[test]
fn what_is_no_token_is_not_sent() {
    let (node, folder) = (node(), tempfile::tempdir().unwrap());
    let file = folder.path().join("token");
    for text in ["", "two words", "line\nbreak", "\u{e9}", "\0"] {
        std::fs::write(&file, text).unwrap();
        let stderr = call(&["get", "k", "--token-file", file.to_str().unwrap()]).failed(2);
        assert!(stderr.contains("is no token: a token is one word") && !stderr.contains("two"), "{stderr}");
    }
    let stderr = call_to(&node, &["get", "k", "--token-file", "/no/such"]).failed(1);
    assert!(
        stderr.contains("the token file /no/such is not there")
            && stderr.contains("lucid token issue > /no/such")
    );
}

#[test]
fn a_node_that_is_not_there_is_named_with_what_to_do() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    for arguments in [
        &["get", "k"][..],
        &["put", "k", "v"],
        &["delete", "k"],
        &["patch", "k", "lock"],
        &["list"],
        &["bench"],
    ] {
        let stderr = call(arguments).variable("LUCID_URL", &url).failed(1);
        let expected = format!(
            "lucid: cannot reach the node at {url}: nothing listens there\n\
             lucid: start a node with `lucid server`, or name another with --url or LUCID_URL\n"
        );
        assert_eq!(stderr, expected, "{arguments:?}");
    }
}

#[test]
fn a_host_that_has_no_name_is_told_apart() {
    let stderr = get("http://no-such-host.invalid:7020").failed(1);
    assert!(
        stderr.starts_with("lucid: cannot reach the node at http://no-such-host.invalid:7020: "),
        "{stderr}"
    );
    assert!(stderr.contains("--url or LUCID_URL"), "{stderr}");
}

#[test]
fn a_url_that_cannot_be_used_is_wrong_usage() {
    for (url, why) in [
        ("ftp://localhost", "its scheme is neither http nor https"),
        ("http://user:hush@localhost", "it carries a user name"),
        ("http://localhost:0", "its port is no number"),
        ("http://", "it"),
        ("", "it"),
    ] {
        let stderr = get(url).failed(2);
        assert!(stderr.starts_with("lucid: cannot use the URL ") && stderr.contains(why), "{url}: {stderr}");
    }
}

#[test]
fn a_node_that_does_not_answer_is_given_up() {
    for arguments in [&["get", "k"][..], &["put", "k", "v"], &["list"], &["list", "--insecure"]] {
        let (mut url, thread) = peer(None);
        if arguments.contains(&"--insecure") {
            // It is silent in the handshake.
            url = url.replace("http://", "https://");
        }
        let call = call(arguments).argument("--timeout=200ms").variable("LUCID_URL", &url);
        let stderr = call.failed(1);
        assert!(
            stderr.starts_with(&format!("lucid: the node at {url} did not answer within 200 ms\n")),
            "{stderr}"
        );
        assert!(stderr.contains("--timeout"), "{stderr}");
        thread.join().unwrap();
    }
}

#[test]
fn a_peer_that_is_no_node_is_recognised() {
    let (ssh, thread) = peer(Some(b"SSH-2.0-OpenSSH_9.2\r\n"));
    assert!(
        get(&ssh)
            .failed(1)
            .contains(&format!("what answers at {ssh} does not speak HTTP as a Lucid node does"))
    );
    thread.join().unwrap();
    let (web, thread) = peer(Some(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found"));
    let stderr = get(&web).failed(1);
    assert!(
        stderr.contains(&format!("what answers at {web} is no Lucid node"))
            && stderr.contains("without /api")
    );
    thread.join().unwrap();
    let (page, thread) = peer(Some(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"));
    let stderr = call(&["list", "--url", &page]).failed(1);
    assert!(stderr.contains("is no Lucid node: its list cannot be read"), "{stderr}");
    thread.join().unwrap();
    let (away, thread) =
        peer(Some(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"));
    assert!(get(&away).failed(1).contains("(302)"), "a redirection is not followed with the token");
    thread.join().unwrap();
}

#[test]
fn an_answer_that_breaks_off_leaves_no_file_behind() {
    let folder = tempfile::tempdir().unwrap();
    let cut: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nten bytes.";
    let (url, thread) = peer(Some(cut));
    let stderr = get(&url).argument("--output=value").within(folder.path()).failed(1);
    assert!(stderr.contains("the answer broke off"), "{stderr}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    thread.join().unwrap();
    let (url, thread) = peer(Some(b""));
    assert_eq!(get(&url).run().code, Some(1));
    thread.join().unwrap();
}

#[test]
fn a_value_over_the_limit_is_refused_and_the_limit_is_told() {
    let (node, folder) = (node(), tempfile::tempdir().unwrap());
    let file = folder.path().join("value");
    let fits = vec![b'x'; 1 << 20];
    for size in [(1 << 20) + 1, 9 << 20, 40 << 20] {
        let large = vec![b'x'; size];
        std::fs::write(&file, &large).unwrap();
        for call in [
            call_to(&node, &["put", "large", "--file", file.to_str().unwrap()]),
            call_to(&node, &["put", "large"]).stdin(&large),
        ] {
            let stderr = call.failed(1);
            assert!(stderr.contains("1048576") && stderr.contains("store.max_limit"), "{size}: {stderr}");
        }
        node.client().get(&kv("large")).expect(404);
    }
    call_to(&node, &["put", "large"]).stdin(&fits).said();
    call_to(&node, &["delete", "large"]).said();
}

#[test]
fn a_full_node_says_that_it_is_full() {
    let node = Node::start(|setup| {
        setup
            .set("store.memory_limit", "16MiB")
            .set("store.max_limit", "1MiB")
            .set("store.when_full", "reject");
    });
    let value = vec![b'x'; 1 << 20];
    let refused = (0..32)
        .map(|number| call_to(&node, &["put", &format!("full-{number}")]).stdin(&value).run())
        .find(|came| came.code != Some(0))
        .expect("a node of 16 MiB does not hold 32");
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains(" is full: ") && refused.stderr.contains("store.when_full"),
        "{}",
        refused.stderr
    );
}

#[test]
fn files_that_are_not_there_are_named() {
    let (node, folder) = (node(), tempfile::tempdir().unwrap());
    let stderr = call_to(&node, &["put", "k", "--file", "/no/such"]).failed(1);
    assert_eq!(stderr, "lucid: cannot read the value: the file /no/such is not there\n");
    let stderr = call_to(&node, &["put", "k", "--file", "/"]).failed(1);
    assert_eq!(stderr, "lucid: cannot read the value: / is a folder, not a file\n");
    call_to(&node, &["put", "file", "v"]).said();
    let stderr = call_to(&node, &["get", "file", "-o", "no/such"]).within(folder.path()).failed(1);
    assert_eq!(stderr, "lucid: cannot write no/such: its folder is not there; make it first\n");
    let stderr = call_to(&node, &["get", "absent", "-o", "value"]).within(folder.path()).failed(3);
    assert_eq!(stderr, "lucid: absent: the key does not exist\n");
    assert!(!folder.path().join("value").exists());
}

#[test]
fn a_mistyped_line_is_answered_with_what_was_meant() {
    for (line, hint) in [
        (&["lits"][..], "'list'"),
        (&["get"], "<KEY>"),
        (&["get", "k", "--ouptut", "f"], "'--output'"),
        (&["put", "k", "v", "--file", "f"], "cannot be used with"),
        (&["put", "k", "v", "--create", "--exists"], "cannot be used with"),
        (&["patch", "k", "incremant"], "'increment'"),
        (&["get", "k", "--timeout", "0"], "expected a time from 1 ms to 1 d"),
        (&["bench", "--connections", "0"], "0 is not in 1..=10000"),
        (&["bench", "--connections", "10001"], "10001 is not in 1..=10000"),
        (&["bench", "--depth", "1025"], "1025 is not in 1..=1024"),
        (&["bench", "--rate", "0"], "0 is not in 1..="),
        (&["bench", "--duration", "99ms"], "expected a time from 100 ms to 1 h"),
        (&["bench", "--value-size", "67108865"], "is not in 0..=67108864"),
    ] {
        let stderr = call(line).failed(2);
        assert!(stderr.contains(hint), "{line:?}: {stderr}");
    }
}

#[test]
fn what_is_wrong_with_the_disk_of_a_node_is_told_and_what_to_do_about_it() {
    let answer = |status: &str, code: &str| -> &'static [u8] {
        let body = format!("{{\"message\":\"M.\",\"code\":\"{code}\",\"detail\":\"d\"}}");
        let head = format!("HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nConnection: close\r\n");
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes().leak()
    };
    for (status, code, says, advises) in [
        ("503", "disk_failed", "k: M: d (503, disk_failed)", "look at the disk"),
        ("503", "OUTCOME_UNKNOWN", "k: M: d (503, OUTCOME_UNKNOWN)", "look at the disk"),
        ("503", "recovering", "is not ready: M: d (503, recovering)", "/readyz"),
        ("507", "disk_full", "is full: M: d (507, disk_full)", "persistence.location"),
        ("507", "store_full", "is full: M: d (507, store_full)", "store.memory_limit"),
    ] {
        let (url, peer) = peer(Some(answer(status, code)));
        let stderr = get(&url).failed(1);
        assert!(stderr.contains(says) && stderr.contains(advises), "{code}: {stderr}");
        peer.join().unwrap();
    }
}
