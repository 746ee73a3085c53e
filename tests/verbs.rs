//! The verbs that talk to a node do what they say, with any bytes, and tell a script by their exit codes
//! what happened.

mod common;

use common::cli::{Call, call, call_to, url};
use common::{Node, Shared, kv, percent_encoded, token};
use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::sync::Arc;

static NODE: Shared = Shared::new();

fn node() -> Arc<Node> {
    NODE.node(|setup| {
        setup.workers(2).set("store.max_limit", "1MiB");
    })
}

/// The ETag in `created, ETag …`.
fn tag(said: &str) -> String {
    said.trim().split_once(", ETag ").unwrap_or_else(|| panic!("no tag in {said:?}")).1.to_owned()
}

fn json(call: Call) -> Value {
    let said = call.said();
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Every byte there is, twice, so that it is neither text nor a line.
fn any_bytes() -> Vec<u8> {
    (0..512).map(|byte| byte as u8).collect()
}

#[test]
fn a_value_of_any_bytes_comes_back_as_it_went_whichever_way_it_goes() {
    let (node, folder) = (node(), tempfile::tempdir().unwrap());
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    for value in [any_bytes(), Vec::new(), b"text".to_vec(), vec![7; 1 << 20]] {
        std::fs::write(&from, &value).unwrap();
        for put in [
            call_to(&node, &["put", "ways"]).stdin(&value),
            call_to(&node, &["put", "ways", "-"]).stdin(&value),
            call_to(&node, &["put", "ways", "--file", "-"]).stdin(&value),
            call_to(&node, &["put", "ways", "--file", &path(&from)]),
        ] {
            call_to(&node, &["put", "ways", "other"]).said();
            assert!(put.said().starts_with("updated, ETag "));
            assert_eq!(call_to(&node, &["get", "ways"]).run().stdout, value);
        }
        assert_eq!(call_to(&node, &["get", "ways", "-o", "-"]).run().stdout, value);
        assert_eq!(call_to(&node, &["get", "ways", "--output", &path(&to)]).said(), "");
        assert_eq!(std::fs::read(&to).unwrap(), value);
        assert_eq!(node.client().get(&kv("ways")).expect(200).body, value);
        assert_eq!(call_to(&node, &["delete", "ways", "-o", &path(&to)]).said(), "");
        assert_eq!(std::fs::read(&to).unwrap(), value);
    }
    call_to(&node, &["put", "arguments"]).argument(OsStr::from_bytes(b"a\xff b")).said();
    assert_eq!(call_to(&node, &["get", "arguments"]).run().stdout, b"a\xff b");
    assert_eq!(call_to(&node, &["delete", "arguments", "-o", "-"]).run().stdout, b"a\xff b");
}

#[test]
fn a_key_of_any_bytes_is_the_same_key_for_every_client() {
    let node = node();
    let long = "k".repeat(1_024);
    for key in ["a/b//c", "..", ".", "a b?c#d&e=f+g%20", "é/\u{1f980}", "%", "../x", "-dash", &long] {
        call_to(&node, &["put", "--", key, "v"]).said();
        assert_eq!(node.client().get(&kv(key)).expect(200).text(), "v", "{key}");
        assert_eq!(call_to(&node, &["delete", "--", key]).said(), "deleted\n");
    }
    let mut every_byte: Vec<u8> = (0..=255).collect();
    every_byte.rotate_left(1);
    for key in [&every_byte[..], b"\0", b"a\nb", b"\xff\xfe"] {
        let encoded = percent_encoded(key);
        call_to(&node, &["put", "--encoded", &encoded, "v"]).said();
        assert_eq!(node.client().get(&kv(key)).expect(200).text(), "v");
        assert!(call_to(&node, &["list", "--encoded"]).said().lines().any(|line| line == encoded));
        if !key.contains(&0) {
            assert_eq!(call_to(&node, &["get"]).argument(OsStr::from_bytes(key)).said(), "v");
        }
        call_to(&node, &["delete", "--encoded", &encoded]).said();
    }
}

#[test]
fn a_key_that_cannot_be_is_wrong_usage() {
    let node = node();
    assert!(call_to(&node, &["get", ""]).failed(2).contains("the key is empty"));
    assert!(
        call_to(&node, &["get", &"k".repeat(1_025)])
            .failed(2)
            .contains("has 1025 bytes; a key has at most 1024")
    );
    assert!(call_to(&node, &["get", "--encoded", "%4"]).failed(2).contains("not percent-encoded"));
}

#[test]
fn conditions_are_kept_and_told_by_their_exit_codes() {
    let node = node();
    let created = tag(&call_to(&node, &["put", "condition", "1", "--create"]).said());
    let refused = call_to(&node, &["put", "condition", "2", "--create"]).failed(5);
    assert!(
        refused.contains("condition: A condition of the request does not hold.")
            && refused.contains(&created)
    );
    let updated = tag(&call_to(&node, &["put", "condition", "2", "--if-match", &created]).said());
    for stale in [format!("\"{created}\""), created.clone()] {
        assert!(
            call_to(&node, &["put", "condition", "3", "--if-match", &stale]).failed(5).contains(&updated)
        );
        call_to(&node, &["delete", "condition", "--if-match", &stale]).failed(5);
        call_to(&node, &["patch", "condition", "increment", "--if-match", &stale]).failed(5);
    }
    call_to(&node, &["put", "condition", "2", "--if-none-match", "*"]).failed(5);
    call_to(&node, &["put", "condition", "2", "--if-none-match", &updated]).failed(5);
    let unchanged = call_to(&node, &["get", "condition", "--if-none-match", &updated]).run();
    assert_eq!((unchanged.code, unchanged.text().as_str()), (Some(0), ""));
    assert_eq!(unchanged.stderr, "lucid: the value has not changed\n");
    assert_eq!(call_to(&node, &["get", "condition", "--if-none-match", &created]).said(), "2");
    assert!(
        call_to(&node, &["put", "absent", "1", "--if-match", "*"]).failed(5).contains("the key is not there")
    );
    assert_eq!(
        call_to(&node, &["put", "absent", "1", "--exists"]).failed(3),
        "lucid: absent: the key does not exist\n"
    );
    for verb in [&["get", "absent"][..], &["delete", "absent"], &["patch", "absent", "lock"]] {
        assert_eq!(call_to(&node, verb).failed(3), "lucid: absent: the key does not exist\n");
    }
    call_to(&node, &["delete", "condition", "--if-match", &updated]).said();
}

#[test]
fn a_value_keeps_its_type_and_its_time_to_live() {
    let node = node();
    for (ttl, seconds) in [("60", 60), ("10m", 600), ("1h", 3_600)] {
        call_to(&node, &["put", "kept", "<p>", "--ttl", ttl, "--type", "text/html"]).said();
        let kept = json(call_to(&node, &["get", "kept", "--json"]));
        assert!(kept["ttl"].as_u64().is_some_and(|ttl| (seconds - 20..=seconds).contains(&ttl)), "{kept}");
        assert_eq!((&kept["key"], &kept["value"], &kept["size"]), (&"kept".into(), &"<p>".into(), &3.into()));
        assert_eq!(kept["type"], "text/html");
    }
    let put = json(call_to(&node, &["put", "kept", "--json"]).stdin(any_bytes()));
    let kept = json(call_to(&node, &["get", "kept", "--json"]));
    assert_eq!((&put["etag"], &put["status"]), (&kept["etag"], &200.into()));
    assert_eq!((&kept["ttl"], &kept["size"]), (&Value::Null, &512.into()));
    assert!(
        kept["base64"].as_str().is_some_and(|text| text.starts_with("AAECAwQF"))
            && kept.get("value").is_none()
    );
    for ttl in ["0", "-1", "soon", "1500ms", "4294967296"] {
        call_to(&node, &["put", "kept", "v", &format!("--ttl={ttl}")]).failed(2);
    }
    call_to(&node, &["put", "kept", "v", "--type", "a\nb"]).failed(2);
}

#[test]
fn counters_locks_and_times_are_patched_where_they_lie() {
    let node = node();
    let patch = |arguments: &[&str]| call_to(&node, &[&["patch", "counter"], arguments].concat());
    call_to(&node, &["put", "counter", "9007199254740993"]).said();
    assert_eq!(patch(&["increment"]).said(), "9007199254740994\n");
    assert_eq!(patch(&["increment", "-5"]).said(), "9007199254740989\n");
    assert_eq!(patch(&["decrement", "9007199254740989"]).said(), "0\n");
    assert_eq!(json(patch(&["increment", "--json"]))["value"], 1);
    assert_eq!(patch(&["ttl", "1h"]).said(), "The expiration of the specified key was successfully set.\n");
    assert!(call_to(&node, &["list", "--prefix", "counter", "-l"]).said().contains("3600 "));
    assert_eq!(
        patch(&["persist"]).said(),
        "The expiration of the specified key was successfully cancelled.\n"
    );
    let fencing = patch(&["lock", "30"]).said();
    let fencing = fencing.trim();
    assert!(fencing.parse::<u64>().is_ok(), "{fencing}");
    let locked = "lucid: counter: The specified key cannot be updated. (409)\n\
                  lucid: the lock's holder passes with --fencing-token; others wait until it is freed\n";
    assert_eq!(patch(&["increment"]).failed(5), locked);
    assert_eq!(call_to(&node, &["put", "counter", "5"]).failed(5), locked);
    assert_eq!(call_to(&node, &["delete", "counter"]).failed(5), locked);
    assert_eq!(patch(&["increment", "--fencing-token", fencing]).said(), "2\n");
    patch(&["unlock", "--fencing-token", fencing]).said();
    let unlocked = patch(&["unlock"]).failed(5);
    assert!(
        unlocked.ends_with("not currently locked. (409, not_locked)\n"),
        "no advice about a lock: {unlocked}"
    );
    call_to(&node, &["put", "counter", "five"]).said();
    assert!(patch(&["increment"]).failed(1).contains("not a valid numeric value. (400, not_numeric)"));
    for misused in [&["increment", "x"][..], &["ttl"], &["unlock", "1"], &["persist", "1"], &["explode"]] {
        patch(misused).failed(2);
    }
    call_to(&node, &["delete", "counter"]).said();
}

#[test]
fn a_list_goes_through_every_page_in_byte_order() {
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    assert_eq!(call_to(&node, &["list"]).said(), "");
    let names: Vec<String> = (0..2_500).map(|number| format!("n/{number:05}")).collect();
    let mut client = node.client();
    for name in &names {
        client.put(&kv(name), "v").expect(201);
    }
    client.put(&kv("other"), "v").expect(201);
    let listed = |arguments: &[&str]| -> Vec<String> {
        let said = call_to(&node, &[&["list", "--prefix", "n/"], arguments].concat()).said();
        said.lines().map(str::to_owned).collect()
    };
    assert_eq!(listed(&[]), names);
    for limit in [0, 1, 999, 1_000, 1_001, 2_499, 2_500, 2_501] {
        assert_eq!(listed(&["--limit", &limit.to_string()]), names[..limit.min(2_500)], "{limit}");
    }
    assert_eq!(call_to(&node, &["list"]).said().lines().count(), 2_501);
    let objects = listed(&["--json"]);
    assert_eq!(objects.len(), 2_500);
    for (object, name) in objects.iter().zip(&names) {
        let object: Value = serde_json::from_str(object).unwrap();
        assert_eq!((&object["name"], &object["size"]), (&name.as_str().into(), &1.into()));
    }
    for name in ["a\nb", "\u{1b}[2J", "c d"] {
        client.put(&kv(name), "v").expect(201);
    }
    let all = call_to(&node, &["list"]).said();
    assert!(
        all.contains("a\\nb\n") && all.contains("\\u{1b}[2J\n") && all.contains("c d\n"),
        "names that move a cursor"
    );
    assert!(!all.contains('\u{1b}'));
    // A prefix is bytes, as a key is.
    client.put("/api/kv/%FF%FEx", "v").expect(201);
    let prefix = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff\xfe");
    let said = call_to(&node, &["list", "--encoded", "--prefix"]).argument(prefix).said();
    assert_eq!(said, "%FF%FEx\n");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let node = node();
    let mut client = node.client();
    for number in 0..3_000 {
        let status = client.put(&kv(format!("pipe/{number:090}")), "v").status;
        assert!(status == 201 || status == 200);
    }
    client.put(&kv("large"), vec![b'x'; 1 << 20]);
    for arguments in [&["list", "--prefix", "pipe/"][..], &["get", "large"], &["list", "--json"]] {
        let mut command = call_to(&node, arguments).into_command();
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Gone before the first byte.
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.as_ref()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn the_token_comes_from_a_file_or_the_environment() {
    let (node, folder) = (node(), tempfile::tempdir().unwrap());
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{}\n", token::root())).unwrap();
    let file = file.to_str().unwrap();
    node.client().put(&kv("who"), "me");
    let get = |arguments: &[&str]| call(&[&["get", "who", "--url", &url(&node)], arguments].concat());
    assert_eq!(get(&["--token-file", file]).said(), "me");
    assert_eq!(get(&[]).variable("LUCID_TOKEN_FILE", file).said(), "me");
    assert_eq!(get(&["--token-file", file]).variable("LUCID_TOKEN", "wrong").said(), "me", "the flag wins");
    assert_eq!(
        get(&[]).variable("LUCID_TOKEN_FILE", "/no").variable("LUCID_TOKEN", &token::root()).said(),
        "me"
    );
    assert_eq!(
        get(&["--token-file", file]).variable("http_proxy", "http://127.0.0.1:1").said(),
        "me",
        "no proxy"
    );
}

#[test]
fn what_lies_behind_a_path_or_lacks_a_scheme_is_found() {
    let node = node();
    node.client().put(&kv("who"), "me");
    let address = node.address().to_string();
    for url in [address.clone(), format!("http://{address}/"), format!("HTTP://{address}")] {
        assert_eq!(call_to(&node, &["get", "who", "--url", &url]).said(), "me", "{url}");
    }
}
