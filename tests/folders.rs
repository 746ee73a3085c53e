//! The verbs for the folder of a node that is stopped: what can be kept of it, its key, and its API keys and
//! apps.

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::cli::{Call, call};
use common::{Node, kv};
use rustix::process::Signal;

const KEY: &str = "a key of more than thirty-two bytes";
const OTHER_KEY: &str = "another key of more than thirty-two bytes";

/// A node on this folder, encrypted if there is a key.
fn node(folder: &Path, key: Option<&str>) -> Node {
    Node::start(|setup| {
        setup.workers(2).set("persistence.enabled", true).set("persistence.location", folder.display());
        if let Some(key) = key {
            setup.set("encryption.enabled", true).set("encryption.private_key", key);
        }
    })
}

#[track_caller]
fn stop(mut node: Node) {
    node.signal(Signal::TERM);
    let ended = node.wait(Duration::from_secs(20));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[track_caller]
fn ready(node: &Node) {
    while node.stranger().get("/readyz").status != 200 {
        std::thread::yield_now();
    }
}

/// A folder that a node has filled and left.
fn filled(key: Option<&str>) -> (tempfile::TempDir, PathBuf) {
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("data");
    let node = node(&folder, key);
    ready(&node);
    let mut client = node.client();
    for number in 0..200 {
        client.put(&kv(format!("key/{number}")), format!("the value {number}")).expect(201);
    }
    client.call("POST", "/apps", &[], b"{\"name\":\"web\"}").expect(201);
    drop(client);
    stop(node);
    (above, folder)
}

#[track_caller]
fn assert_whole(folder: &Path, key: Option<&str>) {
    let node = node(folder, key);
    ready(&node);
    let mut client = node.client();
    for number in 0..200 {
        assert_eq!(
            client.get(&kv(format!("key/{number}"))).expect(200).text(),
            format!("the value {number}")
        );
    }
    assert!(client.get("/apps").expect(200).text().contains("\"web\""));
    drop(client);
    stop(node);
}

/// A call of a verb for a folder.
fn on(folder: &Path, before: &[&str], behind: &[&str]) -> Call {
    let folder = folder.to_str().unwrap();
    call(&[before, &[folder], behind].concat())
}

/// The file that what was put last stands in.
fn newest_log(folder: &Path) -> PathBuf {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let holds = |path: &PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(14).any(|window| window == b"the value 100.")
            || bytes.windows(13).any(|window| window == b"the value 100")
    };
    names.filter(|path| path.is_file()).find(holds).expect("a file with the value")
}

#[test]
fn a_whole_folder_is_told_to_be_whole_and_can_be_copied() {
    let (above, folder) = filled(None);
    let said = on(&folder, &["recover"], &[]).said();
    assert!(said.contains("records can be kept") && said.contains("nothing is damaged"), "{said}");
    let copy = above.path().join("copy");
    on(&folder, &["recover"], &["--to", copy.to_str().unwrap()]).said();
    assert_whole(&copy, None);
    assert_whole(&folder, None);
    let refused = on(&folder, &["recover"], &["--to", copy.to_str().unwrap()]).failed(1);
    assert!(refused.contains("not empty"), "{refused}");
}

#[test]
fn what_is_good_of_a_damaged_folder_is_written_to_another_one() {
    let (above, folder) = filled(None);
    let file = newest_log(&folder);
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(13).position(|window| window == b"the value 100").unwrap();
    bytes[at + 4] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let came = on(&folder, &["recover"], &[]).run();
    assert_eq!(came.code, Some(1), "{}", came.text());
    let name = file.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(came.text().contains(&format!("{name}: damaged at byte ")), "{}", came.text());
    assert!(came.stderr.contains("nothing was changed"), "{}", came.stderr);
    let copy = above.path().join("copy");
    let said = on(&folder, &["recover"], &["--to", copy.to_str().unwrap()]).said();
    assert!(said.contains("written to"), "{said}");
    let node = node(&copy, None);
    ready(&node);
    let mut client = node.client();
    let there = (0..200).filter(|number| client.get(&kv(format!("key/{number}"))).status == 200).count();
    assert!((100..200).contains(&there), "{there}");
    drop(client);
    stop(node);
}

#[test]
fn a_folder_gets_another_key_one_at_all_and_none_any_more() {
    let (above, folder) = filled(None);
    let file = |name: &str, text: &str| {
        let path = above.path().join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (one, other) = (file("one", KEY), file("other", OTHER_KEY));
    let shows = |text: &str| {
        let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let mut files = files.filter(|path| path.is_file()).map(|path| std::fs::read(path).unwrap());
        files.any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    };
    assert!(shows("the value 7"));
    on(&folder, &["rekey"], &["--new-key-file", &one]).said();
    assert!(!shows("the value 7") && !shows("key/7"));
    assert_whole(&folder, Some(KEY));
    // By the environment, without a file.
    on(&folder, &["rekey"], &[])
        .variable("LUCID_ENCRYPTION__PRIVATE_KEY", KEY)
        .variable("LUCID_NEW_PRIVATE_KEY", OTHER_KEY)
        .said();
    let refused = on(&folder, &["rekey"], &["--key-file", &one, "--plain"]).failed(4);
    assert!(refused.contains("another key") && !refused.contains(KEY), "{refused}");
    assert_whole(&folder, Some(OTHER_KEY));
    let refused = on(&folder, &["recover"], &[]).failed(4);
    assert!(refused.contains("no key was given"), "{refused}");
    let said = on(&folder, &["recover"], &["--key-file", &other]).said();
    assert!(said.contains("nothing is damaged"), "{said}");
    let refused = on(&folder, &["rekey"], &["--key-file", &other]).failed(2);
    assert!(refused.contains("--new-key-file"), "{refused}");
    on(&folder, &["rekey"], &["--key-file", &other, "--plain"]).said();
    assert_whole(&folder, None);
}

#[test]
fn keys_and_apps_of_a_stopped_node_are_made_and_ended_in_its_folder() {
    for key in [None, Some(KEY)] {
        let (_above, folder) = filled(key);
        let verb = |verb: &[&str]| {
            let call = on(&folder, &[verb[0], "--folder"], &verb[1..]);
            match key {
                Some(key) => call.variable("LUCID_ENCRYPTION__PRIVATE_KEY", key),
                None => call,
            }
        };
        let made = verb(&["key", "create", "reports", "--grant", "kv:read"]).run();
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        let secret = made.text().trim().to_owned();
        assert!(secret.starts_with("lkv_"));
        let ended = verb(&["key", "create", "ended", "--grant", "kv:read", "--json"]).said();
        let ended: serde_json::Value = serde_json::from_str(&ended).unwrap();
        assert_eq!(verb(&["key", "delete", ended["id"].as_str().unwrap()]).said(), "deleted\n");
        let listed = verb(&["key", "list"]).said();
        assert!(listed.contains("reports") && listed.lines().count() <= 2, "{listed}");
        let app = verb(&["app", "create", "other"]).run().text();
        let writer = app.lines().find(|line| line.starts_with("lkw_")).unwrap();
        assert!(verb(&["app", "list"]).said().contains("  web\n"));
        let refused = verb(&["app", "create", "other"]).failed(5);
        assert!(refused.contains("Another app has this name"), "{refused}");
        let refused = verb(&["key", "show", "nothing"]).failed(3);
        assert!(refused.contains("no such API key"), "{refused}");

        let node = node(&folder, key);
        ready(&node);
        node.stranger().with_token(&secret).get(&kv("key/7")).expect(200);
        node.stranger().with_token(ended["key"].as_str().unwrap()).get(&kv("key/7")).expect(401);
        let item = b"{\"key\":\"i\",\"value\":1}";
        node.stranger().with_token(writer).call("POST", "/item/write", &[], item).expect(200);
        // Not while a node has it.
        for verbs in [&["key", "list"][..], &["app", "create", "late"]] {
            let refused = verb(verbs).failed(5);
            assert!(refused.contains("a node runs on this folder"), "{refused}");
        }
        let refused = on(&folder, &["recover"], &[]).variable("LUCID_ENCRYPTION__PRIVATE_KEY", KEY).failed(5);
        assert!(refused.contains("a node runs on this folder"), "{refused}");
        let new =
            [("LUCID_ENCRYPTION__PRIVATE_KEY", key.unwrap_or("")), ("LUCID_NEW_PRIVATE_KEY", OTHER_KEY)];
        let rekey =
            new.iter().fold(on(&folder, &["rekey"], &[]), |call, (name, value)| call.variable(name, value));
        assert!(rekey.failed(5).contains("a node runs on this folder"));
        node.assert_well();
        stop(node);
    }
}

#[test]
fn the_folder_of_the_configuration_is_found_by_it() {
    let (above, folder) = filled(Some(KEY));
    let file = above.path().join("lucid.yml");
    let text = format!(
        "persistence:\n  enabled: true\n  location: {}\nencryption:\n  enabled: true\n  private_key: {KEY}\n",
        folder.display()
    );
    std::fs::write(&file, text).unwrap();
    let said = call(&["-c", file.to_str().unwrap(), "app", "--stopped", "list"]).said();
    assert!(said.contains("  web\n"), "{said}");
    let refused = call(&["app", "--stopped", "list"]).failed(78);
    assert!(refused.contains("--folder DIR"), "{refused}");
}

#[test]
fn what_is_no_folder_of_a_node_is_left_alone() {
    let above = tempfile::tempdir().unwrap();
    for verb in [&["recover"][..], &["rekey", "--plain"], &["key", "list", "--folder"]] {
        let refused = on(above.path(), verb, &[]).failed(1);
        assert!(refused.contains("no folder of a node"), "{refused}");
        let refused = on(&above.path().join("none"), verb, &[]).failed(1);
        assert!(refused.contains("is no folder"), "{refused}");
    }
    assert_eq!(std::fs::read_dir(above.path()).unwrap().count(), 0);
}
