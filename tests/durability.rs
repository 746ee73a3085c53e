//! What was answered is still there: after an orderly end and after `kill -9`, in every mode of syncing, with
//! another number of workers; and what a folder that cannot be used is answered with.

mod common;

use std::io::Write;
use std::time::{Duration, Instant};

use common::durable::{End, Folder, end, wait_until_ready};
use common::node::{HANGING_DISK, SLOW_READER, can_trace};
use common::tls::{Pair, connect};
use common::{Client, Node, Random, Response, chunked, kv, token};
use rustix::process::Signal;
use rustls::version::TLS13;
use serde_json::{Value, json};

/// A key that is good for sealing.
const KEY: &str = "a private key of more than thirty-two bytes";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn post(client: &mut Client, path: &str, body: &Value) -> Response {
    client.call("POST", path, &[], body.to_string().as_bytes())
}

/// What a client saw of a key: all that has to be the same after a restart.
#[derive(Debug, PartialEq)]
struct Seen {
    path: String,
    status: u16,
    body: Vec<u8>,
    fields: Vec<(&'static str, Option<String>)>,
}

fn see(client: &mut Client, path: &str) -> Seen {
    let got = client.call("GET", path, &[("Accept-Encoding", "gzip, zstd")], b"");
    let fields = ["ETag", "Last-Modified", "Content-Type", "Content-Encoding"]
        .map(|name| (name, got.field(name).map(str::to_owned)));
    Seen { path: path.to_owned(), status: got.status, body: got.body, fields: fields.into() }
}

/// What a node was given, and what it has to remember.
struct Given {
    seen: Vec<Seen>,
    /// Keys that expire at these seconds of the wall clock.
    deadlines: Vec<(String, u64)>,
    fencing_token: u64,
    leased_token: u64,
    app: Value,
    dropped_app: Value,
    api_key: Value,
    revoked: Value,
    lists: Vec<(String, Value)>,
}

fn fence(response: &Response) -> u64 {
    response.expect_field("X-Fencing-Token").parse().expect("a number")
}

/// Gives a node some of everything.
fn give(node: &Node) -> Given {
    let mut root = node.client();
    let mut random = Random::seeded(8);
    let mut paths = Vec::new();
    let mut path = |key: &[u8]| {
        paths.push(kv(key));
        kv(key)
    };
    root.put(&path(b"plain"), "value").expect(201);
    root.put(&path(b"twice"), "first").expect(201);
    root.put(&kv("twice"), "second").expect(200);
    root.put(&path(b"empty"), "").expect(201);
    root.put(&path(&[0, 255, b'/', b'%', 10]), [0, 1, 254, 255]).expect(201);
    root.put(&path(&[b'k'; 1_024]), "under a long key").expect(201);
    root.put(&path(b"medium"), random.bytes(30_000)).expect(201);
    root.put(&path(b"large"), random.bytes(700_000)).expect(201);
    let body = chunked(&random.bytes(300_000), 10_000);
    root.call("PUT", &path(b"chunked"), &[("Transfer-Encoding", "chunked")], &body).expect(201);
    root.call("PUT", &path(b"typed"), &[("Content-Type", "application/json")], b"{}").expect(201);
    let encoded = [("Content-Encoding", "gzip"), ("Content-Type", "text/plain")];
    root.call("PUT", &path(b"encoded"), &encoded, &gzip(b"squeezed")).expect(201);
    root.put(&path(b"deleted"), "x").expect(201);
    root.delete(&kv("deleted")).expect(200);
    root.put(&path(b"made again"), "old").expect(201);
    root.delete(&kv("made again")).expect(200);
    root.put(&kv("made again"), "new").expect(201);
    root.put(&path(b"counter"), "41").expect(201);
    root.patch(&kv("counter"), "increment").expect(200);
    root.put(&path(b"decimal"), "1.5").expect(201);
    root.patch(&kv("decimal"), r#"{"operation":"decrement","value":0.25}"#).expect(200);
    root.put(&path(b"persisted"), "x").expect(201);
    root.patch(&kv("persisted"), r#"{"operation":"ttl","value":1}"#).expect(200);
    root.patch(&kv("persisted"), "persist").expect(200);
    for number in 0..500 {
        root.put(&path(format!("many/{number}").as_bytes()), format!("value {number}")).expect(201);
    }

    let mut deadlines = Vec::new();
    root.call("PUT", &kv("ttl"), &[("X-TTL", "3600")], b"x").expect(201);
    deadlines.push((kv("ttl"), token::now() + 3_600));
    root.put(&format!("{}?ttl=1800", kv("put off")), "x").expect(201);
    root.patch(&kv("put off"), r#"{"operation":"ttl","value":7200}"#).expect(200);
    deadlines.push((kv("put off"), token::now() + 7_200));
    root.put(&format!("{}?ttl=7200", kv("brought forward")), "x").expect(201);
    root.patch(&kv("brought forward"), r#"{"operation":"ttl","value":900}"#).expect(200);
    deadlines.push((kv("brought forward"), token::now() + 900));
    root.put(&path(b"locked"), "mine").expect(201);
    let fencing_token = fence(&root.patch(&kv("locked"), "lock").expect(200));
    root.put(&path(b"leased"), "mine").expect(201);
    let leased_token = fence(&root.patch(&kv("leased"), r#"{"operation":"lock","value":3600}"#).expect(200));
    root.put(&path(b"unlocked"), "anybody's").expect(201);
    root.patch(&kv("unlocked"), "lock").expect(200);
    root.patch(&kv("unlocked"), "unlock").expect(200);

    let make_app = |root: &mut Client, name: &str| {
        post(root, "/apps", &json!({ "name": name })).expect(201).json()["data"].clone()
    };
    let app = make_app(&mut root, "shop");
    let dropped_app = make_app(&mut root, "gone");
    let mut writer = node.stranger().with_token(app["readwrite_token"].as_str().unwrap());
    let mut doomed = node.stranger().with_token(dropped_app["readwrite_token"].as_str().unwrap());
    for client in [&mut writer, &mut doomed] {
        post(client, "/item/write", &json!({"key": "item", "value": 1.50})).expect(200);
        post(client, "/item/write", &json!({"key": "other", "value": "text"})).expect(200);
        client.delete("/item/delete?key=other").expect(200);
    }
    root.delete(&format!("/apps/{}", dropped_app["id"].as_str().unwrap())).expect(200);
    let long: Vec<u32> = (0..5_000).collect();
    let mut lists = vec![
        ("short".to_owned(), json!(["b", 1, null, true])),
        ("emptied".to_owned(), json!([])),
        ("long".to_owned(), json!((0..6_000).filter(|value| *value != 77).collect::<Vec<u32>>())),
    ];
    post(&mut writer, "/list/write", &json!({"key": "short", "values": ["a", "b", 1]})).expect(200);
    post(&mut writer, "/list/add", &json!({"key": "short", "values": [null, true, "b"]})).expect(200);
    post(&mut writer, "/list/remove", &json!({"key": "short", "values": ["a"]})).expect(200);
    post(&mut writer, "/list/write", &json!({"key": "emptied", "values": []})).expect(200);
    post(&mut writer, "/list/write", &json!({"key": "long", "values": long})).expect(200);
    post(&mut writer, "/list/remove", &json!({"key": "long", "values": [77]})).expect(200);
    let more: Vec<u32> = (4_990..6_000).collect();
    post(&mut writer, "/list/add", &json!({"key": "long", "values": more})).expect(200);
    post(&mut writer, "/list/write", &json!({"key": "purged", "values": [1]})).expect(200);
    post(&mut writer, "/list/purge", &json!({"key": "purged"})).expect(200);
    lists.push(("purged".to_owned(), Value::Null));

    for (database, values) in [("orders", 3), ("emptied", 2), ("dropped", 2), ("old name", 2)] {
        for number in 0..values {
            let set = json!({"database_name": database, "key": format!("k{number}"), "value": number});
            post(&mut root, "/controller/set", &set).expect(200);
        }
    }
    let of = |name: &str| json!({ "database_name": name });
    post(&mut root, "/controller/delete", &json!({"database_name": "orders", "key": "k1"})).expect(200);
    post(&mut root, "/database/pop", &of("emptied")).expect(200);
    let after = json!({"database_name": "emptied", "key": "after", "value": "x"});
    post(&mut root, "/controller/set", &after).expect(200);
    post(&mut root, "/database/delete", &of("dropped")).expect(200);
    let rename = json!({"database_name": "old name", "new_database_name": "new name"});
    post(&mut root, "/database/rename", &rename).expect(200);

    let make_key = |root: &mut Client, name: &str| {
        post(root, "/api/keys", &json!({"name": name, "grants": ["kv:read"]})).expect(201).json()
    };
    let (api_key, revoked) = (make_key(&mut root, "kept"), make_key(&mut root, "revoked"));
    let of = |key: &Value| format!("/api/keys/{}", key["id"].as_str().unwrap());
    root.patch(&of(&api_key), r#"{"name":"renamed"}"#).expect(200);
    root.delete(&of(&revoked)).expect(200);

    let seen = paths.iter().map(|path| see(&mut root, path)).collect();
    Given { seen, deadlines, fencing_token, leased_token, app, dropped_app, api_key, revoked, lists }
}

/// Checks that a node has all of it, changing nothing but two locks, of which the next check is told.
fn check(node: &Node, given: &mut Given) {
    let mut root = node.client();
    for seen in &given.seen {
        assert_eq!(&see(&mut root, &seen.path), seen);
    }
    for (path, deadline) in &given.deadlines {
        let left: u64 = root.get(path).expect(200).expect_field("X-TTL").parse().unwrap();
        let at = token::now() + left;
        assert!(at.abs_diff(*deadline) <= 2, "{path} expires at {at}, not at {deadline}");
    }
    assert_eq!(root.get(&kv("persisted")).expect(200).field("X-TTL"), None);

    // Locks hold, their tokens open them, and new tokens are above.
    for (key, fencing_token) in [("locked", given.fencing_token), ("leased", given.leased_token)] {
        root.put(&kv(key), "theirs").expect(409);
        root.delete(&kv(key)).expect(409);
        let shown = fencing_token.to_string();
        let wrong = (fencing_token + 1).to_string();
        root.call("PUT", &kv(key), &[("X-Fencing-Token", &wrong)], b"theirs").expect(409);
        root.call("PATCH", &kv(key), &[("X-Fencing-Token", &shown)], b"unlock").expect(200);
        root.patch(&kv(key), "unlock").expect(409);
    }
    let again = fence(&root.patch(&kv("locked"), "lock").expect(200));
    let leased = fence(&root.patch(&kv("leased"), r#"{"operation":"lock","value":3600}"#).expect(200));
    let highest = given.fencing_token.max(given.leased_token);
    assert!(again > highest && leased > highest, "{again} and {leased} are not above {highest}");
    (given.fencing_token, given.leased_token) = (again, leased);

    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut reader = node.stranger().with_token(&text(&given.app["read_token"]));
    let item = reader.get("/item/read?key=item").expect(200);
    assert!(item.text().contains("1.5"), "{item}");
    reader.get("/item/read?key=other").expect(404);
    for (name, values) in &given.lists {
        let read = reader.get(&format!("/list/read?key={name}"));
        match values {
            Value::Null => assert_eq!(read.status, 404, "{read}"),
            values => assert_eq!(&read.expect(200).json()["data"], values, "{name}"),
        }
    }
    post(&mut reader, "/item/write", &json!({"key": "item", "value": 2})).expect(403);
    for name in ["read_token", "readwrite_token"] {
        let mut gone = node.stranger().with_token(&text(&given.dropped_app[name]));
        gone.get("/item/read?key=item").expect(401);
    }
    let apps = root.get("/apps").expect(200).json();
    let names: Vec<_> = apps["data"].as_array().unwrap().iter().map(|app| text(&app["name"])).collect();
    assert_eq!(names, ["default", "shop"], "{apps}");

    let all = root.get("/database/list").expect(200).json();
    let mut names: Vec<&String> = all.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["emptied", "new name", "orders"], "{all}");
    for (database, values) in [
        ("orders", json!({"k0": 0, "k2": 2})),
        ("emptied", json!({"after": "x"})),
        ("new name", json!({"k0": 0, "k1": 1})),
    ] {
        let all = post(&mut root, "/controller/get_all", &json!({ "database_name": database }));
        assert_eq!(all.expect(200).json(), values, "{database}");
    }

    // On every worker.
    for _ in 0..8 {
        node.stranger().with_token(&text(&given.api_key["key"])).get(&kv("plain")).expect(200);
        node.stranger().with_token(&text(&given.revoked["key"])).get(&kv("plain")).expect(401);
    }
    let keys = root.get("/api/keys").expect(200).json();
    let of = |key: &Value| (text(&key["id"]), text(&key["name"]));
    let listed: Vec<_> = keys["keys"].as_array().unwrap().iter().map(of).collect();
    assert!(listed.contains(&(text(&given.api_key["id"]), "renamed".into())), "{keys}");
    let listed = root.get("/api/kv?prefix=many/&limit=1000").expect(200).json();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 500);
}

/// Gives a node everything, ends it, and checks it on nodes with other numbers of workers, which end as well.
fn survives(folder: &Folder, how: End) {
    let node = folder.start(2);
    let mut given = give(&node);
    check(&node, &mut given);
    end(node, how);
    for workers in [2, 3, 1] {
        let node = folder.start(workers);
        check(&node, &mut given);
        let stderr = end(node, how);
        assert!(!stderr.contains("ERROR"), "{stderr}");
    }
    // And what is written after a restart.
    let node = folder.start(2);
    let mut client = node.client();
    let before = client.get(&kv("plain")).expect_field("ETag").to_owned();
    client.put(&kv("plain"), "other bytes").expect(200);
    let after = client.get(&kv("plain")).expect_field("ETag").to_owned();
    assert_ne!(before, after);
    end(node, how);
    let node = folder.start(2);
    let got = node.client().get(&kv("plain")).expect(200);
    assert_eq!((got.text(), got.expect_field("ETag")), ("other bytes".to_owned(), &*after));
}

#[test]
fn everything_survives_an_orderly_end() {
    for mode in ["always", "everysec", "never"] {
        survives(&Folder::new(mode), End::Told);
    }
}

#[test]
fn everything_that_is_synced_before_the_answer_survives_kill_9() {
    survives(&Folder::new("always"), End::Killed);
}

#[test]
fn everything_that_is_written_before_the_answer_survives_kill_9() {
    survives(&Folder::new("everysec"), End::Killed);
}

#[test]
fn everything_survives_kill_9_where_the_system_decides_when_to_sync() {
    survives(&Folder::new("never"), End::Killed);
}

#[test]
fn a_sealed_folder_survives_and_shows_nothing() {
    let folder = Folder::new("everysec").sealed(KEY);
    survives(&folder, End::Killed);
    let files = folder.bytes();
    assert!(files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > 1_000_000, "{}", files.len());
    for clear in ["plain", "other bytes", "made again", "under a long key", "many/", "shop", "renamed", KEY] {
        for (name, bytes) in &files {
            let found = bytes.windows(clear.len()).position(|window| window == clear.as_bytes());
            assert_eq!(found, None, "{clear:?} stands in {name}");
        }
    }
    // An open folder does show them: the look can find something.
    let open = Folder::new("everysec");
    let node = open.start(1);
    node.client().put(&kv("plain"), "other bytes").expect(201);
    end(node, End::Told);
    let shows = |clear: &[u8]| {
        open.bytes().iter().any(|(_, bytes)| bytes.windows(clear.len()).any(|window| window == clear))
    };
    assert!(shows(b"plain") && shows(b"other bytes"));
}

/// What a node says that does not start on a folder.
#[track_caller]
fn refused(folder: &Folder, code: i32, says: &[&str]) {
    let ended = Node::start_in_vain(|setup| folder.settings(setup));
    assert_eq!(ended.code, Some(code), "{}", ended.stderr);
    for words in says {
        assert!(ended.stderr.contains(words), "no {words:?} in {}", ended.stderr);
    }
    assert!(!ended.stdout.contains("listening") && !ended.stderr.contains(KEY), "{}", ended.stderr);
}

#[test]
fn a_wrong_key_no_key_and_a_key_for_an_open_folder_are_refused() {
    let mut folder = Folder::new("everysec").sealed(KEY);
    let node = folder.start(1);
    node.client().put(&kv("a"), "1").expect(201);
    end(node, End::Told);
    folder = folder.sealed("another private key of thirty-two bytes");
    refused(&folder, 78, &["encryption.private_key"]);
    folder = folder.open();
    refused(&folder, 78, &["encryption"]);
    folder = folder.sealed(KEY);
    let node = folder.start(1);
    node.client().get(&kv("a")).expect(200);
    end(node, End::Told);

    let open = Folder::new("everysec");
    end(open.start(1), End::Told);
    refused(&open.sealed(KEY), 78, &["encryption"]);
}

#[test]
fn a_second_node_on_the_same_folder_is_refused() {
    let folder = Folder::new("everysec");
    let node = folder.start(1);
    refused(&folder, 69, &["persistence.location", "another"]);
    node.client().put(&kv("a"), "1").expect(201);
    end(node, End::Killed);
    // The lock goes with its holder.
    let node = folder.start(1);
    node.client().get(&kv("a")).expect(200);
}

#[test]
fn a_location_that_is_no_folder_is_refused() {
    let folder = Folder::new("everysec");
    std::fs::write(folder.path(), "a file").unwrap();
    refused(&folder, 78, &["persistence.location", "folder"]);
}

#[test]
fn a_location_that_may_not_be_written_is_refused_with_77() {
    use std::os::unix::fs::PermissionsExt;
    if !common::process::can_drop_capabilities() {
        return;
    }
    let folder = Folder::new("everysec");
    std::fs::create_dir(folder.path()).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
    let ended = Node::start_in_vain(|setup| {
        folder.settings(setup);
        setup.unprivileged();
    });
    assert_eq!(ended.code, Some(77), "{}", ended.stderr);
    assert!(ended.stderr.contains("persistence.location"), "{}", ended.stderr);
}

/// Starts a node that reads its folder slowly. It is announced before it has read it.
fn start_reading(folder: &Folder, workers: usize) -> Node {
    folder.start_early(|setup| {
        setup.workers(workers).runner(&SLOW_READER);
    })
}

/// A folder that takes a second or two to read slowly, and an API key and an app token that are in it.
fn filled_folder() -> (Folder, [String; 2]) {
    let folder = Folder::new("always");
    let node = folder.start(2);
    let mut client = node.client();
    for number in 0..100 {
        client.put(&kv(format!("key-{number}")), vec![b'v'; 40_000]).expect(201);
    }
    let key = post(&mut client, "/api/keys", &json!({"name": "k", "grants": ["kv:read"]})).expect(201);
    let app = post(&mut client, "/apps", &json!({"name": "a"})).expect(201);
    end(node, End::Told);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    (folder, [text(&key.json()["key"]), text(&app.json()["data"]["read_token"])])
}

/// What `/readyz` says before it says yes: the phase, and how many bytes of how many.
fn phase(ready: &Response) -> (String, u64, u64) {
    let text = ready.text();
    let (phase, progress) = text.trim_end().split_once(": ").unwrap_or_else(|| panic!("{ready}"));
    let numbers: Vec<u64> = progress.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [percent, done, of] = numbers[..] else { panic!("{ready}") };
    assert_eq!(percent, (done * 100).checked_div(of).unwrap_or(0), "{ready}");
    (phase.to_owned(), done, of)
}

#[test]
fn a_node_answers_while_it_checks_and_brings_back_what_it_has_kept() {
    if !can_trace() {
        return;
    }
    let (folder, [key, token]) = filled_folder();
    let node = start_reading(&folder, 2);
    let mut stranger = node.stranger();
    let mut client = node.client();
    let mut holders = [node.stranger().with_token(&key), node.stranger().with_token(&token)];
    let paths = [kv("key-0"), "/item/read?key=none".to_owned()];
    let mut seen: Vec<(String, u64, u64)> = Vec::new();
    loop {
        let ready = stranger.get("/readyz");
        if ready.status == 200 {
            break;
        }
        assert_eq!(ready.expect_field("Retry-After"), "1");
        let (now, done, of) = phase(&ready.expect(503));
        let is_new = match seen.last() {
            Some((before, was, _)) if *before == now => {
                assert!(done >= *was && done <= of, "{done} of {of} after {was}");
                false
            }
            _ => true,
        };
        seen.push((now, done, of));
        if !is_new {
            continue;
        }
        stranger.get("/livez").expect(200);
        stranger.get("/health").expect(200);
        stranger.get(&kv("key-0")).expect(401);
        node.stranger().with_token("not one").get(&kv("key-0")).expect(401);
        // Whom the folder may know is asked to come again, like whoever is known without it.
        let answers = [
            client.get(&kv("key-0")),
            client.get("/api/kv"),
            client.get("/api/keys"),
            client.put(&kv("key-0"), "new"),
            holders[0].get(&paths[0]),
            holders[1].get(&paths[1]),
        ];
        // The last of them may have come to a node that serves.
        if stranger.get("/readyz").status == 503 {
            for early in answers {
                let early = early.expect(503);
                assert_eq!(early.expect_field("Retry-After"), "1");
                assert!(early.text().to_lowercase().contains("recovering"), "{early}");
            }
        }
    }
    let mut phases: Vec<&str> = seen.iter().map(|(phase, ..)| &**phase).collect();
    phases.dedup();
    assert_eq!(phases, ["checking", "recovering"]);
    let of: Vec<u64> = seen.iter().map(|(.., of)| *of).filter(|of| *of > 0).collect();
    assert!(of[0] > 4_000_000 && of.iter().all(|bytes| *bytes == of[0]), "{of:?}");
    assert_eq!(client.get(&kv("key-0")).expect(200).body.len(), 40_000);
    holders[0].get(&paths[0]).expect(200);
    holders[1].get(&paths[1]).expect(404);
    let etag = client.get(&kv("key-99")).expect_field("ETag").to_owned();
    end(node, End::Told);
    let node = folder.start(1);
    assert_eq!(node.client().get(&kv("key-99")).expect_field("ETag"), etag);
}

#[test]
fn a_node_that_is_told_to_stop_while_it_checks_or_brings_back_stops_at_once_and_loses_nothing() {
    if !can_trace() {
        return;
    }
    let (folder, _) = filled_folder();
    let before = folder.bytes();
    for (phase_wanted, signal) in
        [("checking", Signal::TERM), ("checking", Signal::INT), ("recovering", Signal::TERM)]
    {
        let mut node = start_reading(&folder, 1);
        let mut client = node.stranger();
        let mut open = node.stranger();
        open.get("/livez").expect(200);
        while phase(&client.get("/readyz").expect(503)).0 != phase_wanted {}
        let began = Instant::now();
        node.signal(signal);
        open.expect_orderly_close();
        let ended = node.wait(Duration::from_secs(30));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(began.elapsed() < Duration::from_secs(5), "took {:?}", began.elapsed());
        assert!(ended.stderr.contains("stopping before everything is back"), "{}", ended.stderr);
        if phase_wanted == "checking" {
            assert!(folder.bytes() == before, "the folder has changed");
        }
    }
    for how in [End::Told, End::Killed] {
        end(folder.start_early(|_| {}), how);
    }
    let node = folder.start(2);
    let mut client = node.client();
    for number in 0..100 {
        assert_eq!(client.get(&kv(format!("key-{number}"))).expect(200).body.len(), 40_000);
    }
}

#[test]
fn a_node_that_is_told_to_stop_while_it_makes_its_folder_durable_waits_no_longer_than_its_grace() {
    if !can_trace() {
        return;
    }
    let (folder, _) = filled_folder();
    let before = folder.bytes();
    let mut node = folder.start_early(|setup| {
        setup.runner(&HANGING_DISK).set("shutdown.grace", "1s");
    });
    let mut client = node.stranger();
    loop {
        let (phase, done, of) = phase(&client.get("/readyz").expect(503));
        assert_eq!(phase, "checking");
        if of > 0 && done == of {
            break;
        }
    }
    node.signal(Signal::TERM);
    node.wait_for_stderr("stopped all the same", 1);
    node.end_tracer();
    let ended = node.wait(Duration::from_secs(5));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(folder.bytes() == before, "the folder has changed");
}

#[test]
fn a_reload_while_it_reads_takes_hold_and_is_not_taken_for_readiness() {
    if !can_trace() {
        return;
    }
    let (folder, _) = filled_folder();
    let place = tempfile::tempdir().expect("a folder");
    let manager = std::os::unix::net::UnixDatagram::bind(place.path().join("notify")).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_secs(30))).expect("a patience");
    let mut node = folder.start_early(|setup| {
        setup.workers(2).runner(&SLOW_READER).set("logging.outputs", "[stdout]");
        setup.variable("NOTIFY_SOCKET", &place.path().join("notify").display().to_string());
        setup.set("http.request_size_limit", 100_000).set("store.max_limit", 50_000);
    });
    assert_eq!(phase(&node.stranger().get("/readyz").expect(503)).0, "checking");
    let file = std::fs::read_to_string(node.folder().join("node.yml")).unwrap();
    node.rewrite(&file.replace("request_size_limit: 100000", "request_size_limit: 30000"));
    node.signal(Signal::HUP);
    node.says("reloaded: 1 changed, 0 need a restart");
    let mut heard = String::new();
    let mut bytes = [0; 4_096];
    while !heard.contains("READY=1") {
        let count = manager.recv(&mut bytes).expect("a message in time");
        heard.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    assert!(!heard.contains("RELOADING"), "{heard}");
    let at = |what: &str| heard.find(what).unwrap_or_else(|| panic!("no {what} in {heard}"));
    assert!(at("STATUS=Checking: ") < at("STATUS=Recovering: ") && at("STATUS=Recovering: ") < at("READY=1"));
    let mut client = node.client();
    client.get("/readyz").expect(200);
    client.put(&kv("new"), vec![b'x'; 30_000]).expect(201);
    client.put(&kv("new"), vec![b'x'; 30_001]).expect(413);
}

#[test]
fn damage_that_is_found_while_the_node_answers_ends_it_and_is_named() {
    let folder = Folder::new("always");
    let node = folder.start(1);
    let mut client = node.client();
    for number in 0..100 {
        client.put(&kv(format!("key-{number}")), vec![b'v'; 10_000]).expect(201);
    }
    end(node, End::Told);
    let logs = || {
        common::durable::files(&folder.path())
            .into_iter()
            .filter(|path| path.to_string_lossy().contains("log-"))
    };
    let log = logs().find(|path| path.metadata().unwrap().len() > 500_000).expect("a log");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[300_000] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let before = folder.bytes();
    let name = log.file_name().unwrap().to_string_lossy();
    let says = format!("persistence.location: {}: {name} is damaged at byte ", folder.path().display());
    // What is found before long is found before anybody is told of the port.
    refused(&folder, 1, &[&says, "Nothing was changed; `lucid recover`"]);
    if can_trace() {
        let mut node = start_reading(&folder, 2);
        let mut open = node.stranger();
        assert_eq!(phase(&open.get("/readyz").expect(503)).0, "checking");
        let ended = node.wait(Duration::from_secs(30));
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains(&says), "no {says:?} in {}", ended.stderr);
        open.expect_orderly_close();
    }
    assert!(folder.bytes() == before, "the folder has changed");
}

#[test]
fn a_long_pipeline_is_answered_in_order_and_each_write_is_seen_by_the_next_read() {
    for mode in ["always", "everysec"] {
        let folder = Folder::new(mode);
        let node = folder.start(2);
        let client = node.client();
        let mut writer = node.client();
        let mut bytes = Vec::new();
        const ROUNDS: usize = 1_500;
        for round in 0..ROUNDS {
            let path = kv(format!("pipelined/{}", round % 50));
            bytes.extend(client.compose("PUT", &path, &[], round.to_string().as_bytes()));
            bytes.extend(client.compose("GET", &path, &[], b""));
        }
        std::thread::scope(|scope| {
            let stream = writer.stream().try_clone().unwrap();
            scope.spawn(move || {
                let mut stream = stream;
                stream.write_all(&bytes).unwrap();
            });
            for round in 0..ROUNDS {
                let put = writer.response_to("PUT");
                assert_eq!(put.status, if round < 50 { 201 } else { 200 }, "{put}");
                assert_eq!(writer.response().expect(200).text(), round.to_string());
            }
        });
    }
}

#[test]
fn more_writes_than_the_way_to_the_disk_holds_at_a_time_all_succeed_and_reads_go_on() {
    let folder = Folder::new("always");
    let node = folder.start(2);
    let token = token::root();
    let value = vec![b'x'; 60_000];
    node.client().put(&kv("read"), "here").expect(201);
    std::thread::scope(|scope| {
        for id in 0..8 {
            let (node, token, value) = (&node, &token, &value);
            scope.spawn(move || {
                let mut client = Client::connect(node.address()).with_token(token);
                let requests: Vec<u8> = (0..100)
                    .flat_map(|number| client.compose("PUT", &kv(format!("{id}/{number}")), &[], value))
                    .collect();
                let stream = client.stream().try_clone().unwrap();
                std::thread::scope(|scope| {
                    scope.spawn(move || {
                        let mut stream = stream;
                        stream.write_all(&requests).unwrap();
                    });
                    for _ in 0..100 {
                        client.response_to("PUT").expect(201);
                    }
                });
            });
        }
        let mut reader = node.client();
        for _ in 0..200 {
            assert_eq!(reader.get(&kv("read")).expect(200).text(), "here");
        }
    });
    end(node, End::Killed);
    let node = folder.start(1);
    let listed = node.client().get("/api/kv?limit=1000").expect(200).json();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 801);
}

#[test]
fn a_reload_names_what_of_persistence_needs_a_restart() {
    let folder = Folder::new("everysec");
    let mut node = folder.start_early(|setup| {
        setup.set("logging.outputs", "[stdout]");
    });
    wait_until_ready(&node);
    let file = std::fs::read_to_string(node.folder().join("node.yml")).unwrap();
    node.rewrite(&file.replace("sync: everysec", "sync: always"));
    node.signal(Signal::HUP);
    let said = node.says("persistence.sync");
    assert!(said.contains("persistence.sync needs a restart to become always"), "{said}");
    node.says("reloaded: 0 changed, 1 need a restart");
    node.assert_well();
}

#[test]
fn a_cache_without_persistence_writes_nothing() {
    let folder = Folder::new("always");
    let node = Node::start(|setup| {
        folder.settings(setup);
        setup.set("persistence.enabled", false);
    });
    node.client().put(&kv("a"), "1").expect(201);
    end(node, End::Told);
    assert!(!folder.path().exists());
}

#[test]
fn when_the_disk_fails_nothing_more_is_acknowledged_and_the_next_start_has_what_was() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let pair = Pair::new();
    for (mode, over_tls) in [("always", false), ("everysec", true), ("always", true)] {
        let folder = Folder::new(mode);
        let node = folder.start_early(|setup| {
            // Files that may not grow stand for a disk that fails; the signal that comes with it is for others.
            setup.workers(2).before("trap '' XFSZ").tls(&pair);
        });
        wait_until_ready(&node);
        let mut client = node.client();
        for number in 0..20 {
            client.put(&kv(format!("kept/{number}")), "x").expect(201);
        }
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        prlimit(Pid::from_raw(node.pid() as i32), Resource::Fsize, none).expect("a child of ours");
        // Whoever writes while it fails hears that nobody knows what became of it.
        if over_tls {
            client = connect(node.tls_address(), &pair.trusted(&TLS13)).with_token(&token::root());
        }
        let unknown = client.put(&kv("lost"), "x").expect(503);
        assert_eq!(unknown.json()["code"], "outcome_unknown", "{unknown}");
        let mut client = node.client();
        for _ in 0..5 {
            let refused = client.put(&kv("new"), "x").expect(503);
            assert_eq!(refused.json()["code"], "disk_failed", "{refused}");
            client.delete(&kv("kept/0")).expect(503);
            assert_eq!(client.get(&kv("kept/0")).expect(200).text(), "x");
            assert!(client.get("/readyz").expect(503).text().contains("disk has failed"));
        }
        node.wait_for_stderr("the journal in ", 1);
        let mut node = node;
        node.signal(Signal::TERM);
        let ended = node.wait(std::time::Duration::from_secs(30));
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        let node = folder.start(1);
        let mut client = node.client();
        for number in 0..20 {
            client.get(&kv(format!("kept/{number}"))).expect(200);
        }
        client.put(&kv("new"), "x").expect(201);
    }
}

/// A disk of so many MiB in a namespace of its own, which goes with the node; and in it a file that takes up
/// `filler` of them.
const SMALL_DISK: [&str; 5] = [
    "unshare",
    "-rm",
    "sh",
    "-c",
    "mount -t tmpfs -o size=420m tmpfs data && fallocate -l 240M data/filler && exec \"$0\" \"$@\"",
];

/// A node whose disk has room for some hundred MB; none where no disk can be mounted.
fn node_with_a_small_disk() -> Option<Node> {
    let mut probe = std::process::Command::new("unshare");
    probe.args(["-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
    if !probe.status().is_ok_and(|status| status.success()) {
        println!("no disk can be mounted here");
        return None;
    }
    let node = Node::start(|setup| {
        setup.set("persistence.enabled", true).set("persistence.location", "data/journal");
        setup.set("store.memory_limit", "600MiB").before("mkdir data").runner(&SMALL_DISK);
    });
    wait_until_ready(&node);
    Some(node)
}

#[test]
fn a_node_whose_disk_is_full_stops_in_order() {
    let Some(mut node) = node_with_a_small_disk() else { return };
    // Many at a time, so that some are under way when nothing more goes.
    let value = vec![b'x'; 1_000_000];
    std::thread::scope(|scope| {
        for id in 0..8 {
            let (node, value) = (&node, &value);
            scope.spawn(move || {
                let mut client = node.client();
                let mut puts = (0..300).map(|number| client.put(&kv(format!("{id}/{number}")), value));
                let refused = puts.find(|put| put.status != 201).expect("a full disk");
                assert_eq!(refused.status, 507, "{refused}");
            });
        }
    });
    let mut witness = node.client();
    witness.put(&kv("refused"), "x").expect(507);
    let began = Instant::now();
    node.signal(Signal::TERM);
    witness.expect_orderly_close();
    let ended = node.wait(Duration::from_secs(30));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(began.elapsed() < Duration::from_secs(8), "took {:?}", began.elapsed());
}

#[test]
fn a_full_disk_refuses_what_takes_room_and_heals_by_itself() {
    let Some(node) = node_with_a_small_disk() else { return };
    let mut client = node.client();
    let value = vec![b'x'; 1_000_000];
    let mut kept = 0;
    let refused = loop {
        let put = client.put(&kv(format!("large/{kept}")), &value);
        if put.status != 201 {
            break put.expect(507);
        }
        kept += 1;
        assert!(kept < 300, "180 MB hold so much");
    };
    assert_eq!(refused.json()["code"], "disk_full", "{refused}");
    assert!(kept > 20, "{kept}");
    client.put(&kv("small"), "x").expect(507);
    assert!(client.get("/readyz").expect(200).text().contains("disk is full"));
    for number in 0..kept {
        assert_eq!(client.get(&kv(format!("large/{number}"))).expect(200).body.len(), value.len());
    }
    client.delete(&kv("large/0")).expect(200);
    std::fs::remove_file(format!("/proc/{}/root{}/data/filler", node.pid(), node.folder().display()))
        .expect("the filler");
    let began = std::time::Instant::now();
    loop {
        match client.put(&kv("small"), "x").status {
            201 => break,
            507 => assert!(began.elapsed().as_secs() < 30, "{}", node.stderr()),
            other => panic!("{other}"),
        }
    }
    assert_eq!(client.get("/readyz").expect(200).text(), "ready\n");
    client.put(&kv(format!("large/{kept}")), &value).expect(201);
    client.get(&kv("large/0")).expect(404);
}

#[test]
fn a_store_that_is_full_comes_back_though_its_keys_come_to_other_workers() {
    let folder = Folder::new("everysec");
    let small = |setup: &mut common::Setup| {
        setup.workers(2).set("store.memory_limit", "24MiB").set("store.max_limit", "100000");
        setup.set("store.when_full", "reject");
    };
    let mut node = folder.start_early(small);
    wait_until_ready(&node);
    let mut kept = Vec::new();
    let mut client = node.client();
    // Until each of the two workers has refused something.
    let mut refused = 0;
    for number in 0..10_000 {
        let key = format!("key-{number}");
        match client.put(&kv(&key), vec![b'v'; 20_000]).status {
            201 => kept.push(key),
            status => {
                assert_eq!(status, 507);
                refused += 1;
                if refused == 50 {
                    break;
                }
            }
        }
    }
    assert!(kept.len() > 500 && refused == 50, "{} kept, {refused} refused", kept.len());
    for how in [End::Told, End::Killed, End::Told] {
        drop(client);
        end(node, how);
        node = folder.start_early(small);
        wait_until_ready(&node);
        client = node.client();
        for key in &kept {
            assert_eq!(client.get(&kv(key)).expect(200).body.len(), 20_000, "{key}");
        }
    }
}

#[test]
fn what_was_deleted_is_not_back_with_more_memory_though_it_had_been_evicted_at_a_start_with_less() {
    for how in [End::Killed, End::Told] {
        let folder = Folder::new("everysec");
        let of = |memory: &'static str| {
            move |setup: &mut common::Setup| {
                setup.workers(2).set("store.memory_limit", memory).set("store.max_limit", "100000");
                setup.set("store.when_full", "evict");
            }
        };
        let node = folder.start_early(of("64MiB"));
        wait_until_ready(&node);
        let mut client = node.client();
        let keys: Vec<String> = (0..1_600).map(|number| format!("key-{number}")).collect();
        for key in &keys {
            client.put(&kv(key), vec![b'v'; 20_000]).expect(201);
        }
        drop(client);
        end(node, End::Killed);
        let node = folder.start_early(of("24MiB"));
        wait_until_ready(&node);
        let mut client = node.client();
        let gone: Vec<&String> =
            keys.iter().filter(|key| client.call("HEAD", &kv(key), &[], b"").status == 404).collect();
        assert!(gone.len() > 500 && gone.len() < 1_590, "{} were evicted", gone.len());
        for key in &gone {
            client.delete(&kv(key)).expect(404);
        }
        drop(client);
        end(node, how);
        let node = folder.start_early(of("64MiB"));
        wait_until_ready(&node);
        let mut client = node.client();
        for key in &gone {
            client.get(&kv(key)).expect(404);
        }
        drop(client);
        end(node, End::Killed);
    }
}

#[test]
fn log_messages_of_clients_survive_and_later_ones_do_not_take_their_places() {
    let folder = Folder::new("everysec");
    let message = |start: u32, number: u32| format!("message {number} of start {start}");
    for start in 0..3 {
        let node = folder.start(2);
        let mut root = node.client();
        for number in 0..3 {
            let body = json!({ "message": message(start, number) });
            post(&mut root, "/controller/info", &body).expect(200);
        }
        let all =
            post(&mut root, "/controller/get_all", &json!({ "database_name": "info" })).expect(200).text();
        for (start, number) in (0..=start).flat_map(|start| (0..3).map(move |number| (start, number))) {
            assert!(all.contains(&message(start, number)), "{} is not in {all}", message(start, number));
        }
        end(node, End::Killed);
    }
}
