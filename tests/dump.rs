//! What a node holds goes out as lines and comes back as it was, whatever its bytes, while others write,
//! however slowly it is read; and what is no dump changes nothing.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::cli::{call, call_to, url};
use common::{Client, Node, Response, Shared, kv, percent_encoded, process, token};
use serde_json::{Value, json};

const MIB: usize = 1 << 20;

/// A node of two workers of its own, since a dump shows everything.
fn node() -> Node {
    Node::start(|setup| {
        setup.workers(2).set("store.max_limit", "4MiB").set("store.memory_limit", "256MiB");
        setup.set("databases.password", "a password of some length");
    })
}

/// A node whose state nobody looks at as a whole.
fn shared() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|setup| {
        setup.workers(2).set("store.max_limit", "1MiB").set("http.request_size_limit", "1MiB");
    })
}

fn lines(body: &[u8]) -> Vec<Value> {
    assert!(body.ends_with(b"\n"));
    let text = std::str::from_utf8(body).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}")))
        .collect()
}

fn dump(node: &Node) -> Vec<Value> {
    let answer = node.client().get("/api/dump").expect(200);
    assert_eq!(answer.expect_field("content-type"), "application/x-ndjson");
    lines(&answer.body)
}

/// The lines of a dump without its ends, in an order of their own.
fn told(lines: &[Value]) -> BTreeSet<String> {
    let told = lines.iter().filter(|line| line.get("lucid").is_none() && line.get("end").is_none());
    told.map(Value::to_string).collect()
}

fn restore(client: &mut Client, query: &str, body: impl AsRef<[u8]>) -> Response {
    client.call("POST", &format!("/api/restore{query}"), &[], body.as_ref())
}

fn post(client: &mut Client, path: &str, app: &str, order: &Value) {
    let fields = [("X-App", app)];
    client
        .call("POST", path, &fields[..usize::from(!app.is_empty())], order.to_string().as_bytes())
        .expect(200);
}

/// Ends those who write meanwhile, also when a test fails.
struct Stops<'s>(&'s AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Bytes that no text has and no codec shortens.
fn noise(count: usize, mut seed: u64) -> Vec<u8> {
    (0..count)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 56) as u8
        })
        .collect()
}

/// Every kind of entry that there is.
fn fill(node: &Node) {
    let mut client = node.client();
    let every_byte: Vec<u8> = (0..=255).collect();
    client.put(&kv("plain"), "text").expect(201);
    client.put(&kv("empty"), "").expect(201);
    client.put(&kv("é\n\"\\ /%"), "é\u{7f}\0\n\"\\").expect(201);
    client.put(&kv(&every_byte), &every_byte).expect(201);
    client.put(&kv("large"), noise(3 * MIB, 1)).expect(201);
    client.put(&kv("large-text"), "long\n".repeat(100_000)).expect(201);
    client.put(&kv("at the edge"), noise(64 * 1_024, 2)).expect(201);
    client.put(&kv("over the edge"), noise(64 * 1_024 + 1, 3)).expect(201);
    client.call("PUT", &kv("typed"), &[("Content-Type", "text/csv; a=\"b\"")], b"1,2").expect(201);
    client
        .call("PUT", &kv("zipped"), &[("Content-Encoding", "gzip")], b"\x1f\x8b not looked into")
        .expect(201);
    client.call("PUT", &kv("expiring"), &[("X-TTL", "5000")], b"soon").expect(201);
    client.put(&kv("locked"), "held").expect(201);
    client.patch(&kv("locked"), "lock").expect(200);
    client.put(&kv("leased"), "held").expect(201);
    client.patch(&kv("leased"), "{\"operation\":\"lock\",\"value\":4000}").expect(200);
    client.call("POST", "/apps", &[], b"{\"name\":\"web \xc3\xa9\"}").expect(201);
    client.call("POST", "/apps", &[], b"{\"name\":\"empty\"}").expect(201);
    for (database, key, value) in
        [("notes é", "k", "v"), ("notes é", "é\n", "\"quoted\" é"), ("other", "k", "1")]
    {
        let order = json!({"database_name": database, "key": key, "value": value});
        let fields = [("Content-Type", "application/json")];
        client.call("POST", "/controller/set", &fields, order.to_string().as_bytes()).expect(200);
    }
    let app = client.get("/apps").expect(200).json()["data"][1]["id"].as_str().unwrap().to_owned();
    for app in ["", &app] {
        for (key, value) in [("number", "-0.50e+3"), ("text", "\"\\u00e9 é \\\"\""), ("none", "null")] {
            let order = format!("{{\"key\":\"{key}\",\"value\":{value}}}");
            let fields = [("X-App", app)];
            client
                .call("POST", "/item/write", &fields[..usize::from(!app.is_empty())], order.as_bytes())
                .expect(200);
        }
        let long = json!("x".repeat(100_000));
        post(&mut client, "/item/write", app, &json!({"key": "long", "value": long, "ttl": 3000}));
        post(&mut client, "/list/write", app, &json!({"key": "none", "values": []}));
        post(
            &mut client,
            "/list/write",
            app,
            &json!({"key": "short", "values": [1.5, "a", null, true], "ttl": 900}),
        );
        let many: Vec<String> = (0..20_000).map(|number| format!("value {number}")).collect();
        post(&mut client, "/list/write", app, &json!({"key": "many", "values": many}));
    }
}

/// What the first node holds, read out one by one from the second.
#[track_caller]
fn assert_same(first: &Node, second: &Node) {
    let (first, second) = (dump(first), dump(second));
    assert_eq!(told(&first), told(&second));
    assert_eq!(first.last(), second.last());
}

#[test]
fn every_kind_of_entry_comes_back_as_it_was() {
    let (from, to) = (node(), node());
    fill(&from);
    let lines = dump(&from);
    assert_eq!((&lines[0]["lucid"], &lines[0]["version"]), (&json!("dump"), &json!(1)));
    assert_eq!(lines[0]["entries"], 30);
    assert_eq!(
        lines.last().unwrap(),
        &json!({"end": {"apps": 3, "databases": 2, "keys": 13, "items": 8, "lists": 6, "records": 3}})
    );
    let folder = tempfile::tempdir().unwrap();
    for name in ["node.ndjson", "node.ndjson.zst"] {
        let said = call_to(&from, &["dump", name]).within(folder.path()).said();
        assert_eq!(said, "13 keys, 8 items, 6 lists, 3 apps, 2 databases with 3 records\n");
    }
    let plain = std::fs::metadata(folder.path().join("node.ndjson")).unwrap();
    let pressed = std::fs::metadata(folder.path().join("node.ndjson.zst")).unwrap();
    assert!(pressed.len() < plain.len());
    use std::os::unix::fs::PermissionsExt;
    assert_eq!((plain.permissions().mode() & 0o777, pressed.permissions().mode() & 0o777), (0o600, 0o600));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left behind");
    let restore = |name| call_to(&to, &["restore", name]).within(folder.path()).said();
    assert_eq!(restore("node.ndjson.zst"), "restored 30 entries\n");
    assert_same(&from, &to);
    // Again, it changes nothing, and over what is there neither.
    assert_eq!(restore("node.ndjson"), "restored 30 entries\n");
    assert_same(&from, &to);
    let skipping = ["restore", "node.ndjson", "--skip-existing", "--json"];
    let said = call_to(&to, &skipping).within(folder.path()).said();
    assert_eq!(said, "{\"restored\":0,\"skipped\":30,\"expired\":0}\n");

    let (mut before, mut after) = (from.client(), to.client());
    let every_byte: Vec<u8> = (0..=255).collect();
    for key in
        [&b"plain"[..], b"empty", &every_byte, b"large", b"large-text", b"typed", "é\n\"\\ /%".as_bytes()]
    {
        let (one, other) = (before.get(&kv(key)).expect(200), after.get(&kv(key)).expect(200));
        assert!(one.body == other.body, "{}", String::from_utf8_lossy(key));
        assert_eq!(one.field("content-type"), other.field("content-type"));
    }
    let zipped = after.call("GET", &kv("zipped"), &[("Accept-Encoding", "gzip")], b"").expect(200);
    assert_eq!(
        (zipped.field("content-encoding"), &*zipped.body),
        (Some("gzip"), &b"\x1f\x8b not looked into"[..])
    );
    let seconds_left = |response: Response| response.expect_field("x-ttl").parse::<u64>().unwrap();
    assert!((4_900..=5_000).contains(&seconds_left(after.get(&kv("expiring")))));
    let item = after.get("/item/read?key=number").expect(200);
    assert!(item.text().contains("-0.50e+3"), "{item}");
    assert_eq!(after.get("/list/slice?key=many&start=-1").expect(200).json()["data"], json!(["value 19999"]));
}

#[test]
fn a_lock_comes_back_with_its_token_and_later_tokens_are_above_it() {
    let (from, to) = (node(), node());
    let mut client = from.client();
    client.put(&kv("k"), "v").expect(201);
    let lock = client.patch(&kv("k"), "lock").expect(200);
    let held = lock.expect_field("x-fencing-token").to_owned();
    let body = client.get("/api/dump").expect(200).body;
    let mut client = to.client();
    restore(&mut client, "", &body).expect(200);
    client.put(&kv("k"), "other").expect(409);
    client.call("PUT", &kv("k"), &[("X-Fencing-Token", &held)], b"own").expect(200);
    // Whoever restores has the say, over a lock that is there too.
    restore(&mut client, "", &body).expect(200);
    assert_eq!(client.get(&kv("k")).expect(200).text(), "v");
    client.patch(&kv("k"), "unlock").expect(200);
    let later = client.patch(&kv("k"), "lock").expect(200);
    assert!(later.expect_field("x-fencing-token").parse::<u64>().unwrap() > held.parse::<u64>().unwrap());
    let far = u64::MAX;
    let line = format!("{{\"key\":\"far\",\"lock\":{{\"token\":\"{far}\"}},\"value\":\"\"}}");
    let refused = restore(&mut client, "", line).expect(400);
    assert!(refused.text().contains("more than a day ahead"), "{refused}");
}

#[test]
fn times_are_absolute_and_what_is_over_is_left_out() {
    let node = shared();
    let mut client = node.client();
    let soon = 1_000 * (token::now() + 100);
    let body = format!(
        "{{\"key\":\"times/a\",\"expires_at_ms\":{soon},\"value\":\"1\"}}\n\
         {{\"key\":\"times/b\",\"expires_at_ms\":1,\"value\":\"1\"}}\n\
         {{\"app\":\"default\",\"list\":\"times/b\",\"expires_at_ms\":1,\"values\":[1]}}\n"
    );
    let done = restore(&mut client, "", &body).expect(200).json();
    assert_eq!(done, json!({"restored": 1, "skipped": 0, "expired": 2}));
    client.get(&kv("times/b")).expect(404);
    let dumped = client.get("/api/dump?prefix=times/").expect(200);
    assert_eq!(lines(&dumped.body)[1], json!({"key": "times/a", "expires_at_ms": soon, "value": "1"}));
    let left: u64 = client.get(&kv("times/a")).expect(200).expect_field("x-ttl").parse().unwrap();
    assert!((90..=100).contains(&left));
}

#[test]
fn a_prefix_chooses_keys_on_the_way_out_and_goes_before_them_on_the_way_in() {
    let (from, to) = (node(), node());
    fill(&from);
    from.client().put(&kv(b"p\xff/1"), "1").expect(201);
    let answer = from.client().get(&format!("/api/dump?prefix={}", percent_encoded(b"p\xff"))).expect(200);
    let dumped = lines(&answer.body);
    assert_eq!(
        dumped[1..],
        [
            json!({"key_base64": "cP8vMQ==", "value": "1"}),
            json!({"end": {"apps": 0, "databases": 0, "keys": 1, "items": 0, "lists": 0, "records": 0}})
        ]
    );
    let everything = from.client().get("/api/dump").expect(200).body;
    let said = call_to(&to, &["restore", "--prefix", "copy/"]).stdin(&everything).said();
    assert_eq!(said, "restored 31 entries\n");
    let mut client = to.client();
    assert_eq!(client.get(&kv("copy/plain")).expect(200).text(), "text");
    client.get(&kv("plain")).expect(404);
    assert_eq!(client.get(&kv("copy/large")).expect(200).body.len(), 3 * MIB);
    client.get("/item/read?key=copy/number").expect(200);
    assert_eq!(client.get("/list/count?key=copy/many").expect(200).json()["data"], 20_000);
    let long = format!("{{\"key\":\"{}\",\"value\":\"\"}}", "k".repeat(1_020));
    restore(&mut client, "?prefix=abcd", &long).expect(200);
    let refused = restore(&mut client, "?prefix=abcde", &long).expect(400);
    assert!(refused.text().contains("longer than 1024"), "{refused}");
}

#[test]
fn a_body_with_a_wrong_line_changes_nothing_and_names_it() {
    let node = shared();
    let mut client = node.client();
    let good = "{\"key\":\"wrong/good\",\"value\":\"v\"}\n".to_owned() + "{\"app\":\"wrong\"}\n";
    for (line, why) in [
        ("no line", "no JSON object"),
        ("{\"key\":\"wrong/x\"}", "no value"),
        ("{\"key\":\"wrong/x\",\"base64\":\"!\"}", "base64 is malformed"),
        ("{\"app\":\"wrong\",\"list\":\"x\",\"values\":[{}]}", "array of strings"),
        ("{\"lucid\":\"dump\",\"version\":9}", "newer than this node"),
        ("{\"list\":\"x\",\"values\":[1]}", "neither a key"),
    ] {
        let refused = restore(&mut client, "", format!("{good}{line}\n{good}")).expect(400);
        let told = refused.json();
        assert_eq!(told["code"], "line_invalid");
        let detail = told["detail"].as_str().unwrap();
        assert!(detail.starts_with("line 3: ") && detail.contains(why), "{detail}");
        let refused = restore(&mut client, "?line=1000", format!("{good}{line}")).expect(400);
        assert!(refused.text().contains("line 1002: "), "{refused}");
    }
    client.get(&kv("wrong/good")).expect(404);
    assert!(!client.get("/apps").expect(200).text().contains("\"wrong\""));
    for query in ["?existing=maybe", "?line=0", "?line=x", "?prefix=a&prefix=b", "?entry=%7B", "?prefix=%zz"]
    {
        restore(&mut client, query, &good).expect(400);
    }
    assert_eq!(
        restore(&mut client, "", "").expect(200).json(),
        json!({"restored": 0, "skipped": 0, "expired": 0})
    );
    client.get(&kv("wrong/good")).expect(404);
}

#[test]
fn a_value_may_come_by_itself_and_limits_hold_to_the_byte() {
    let node = shared();
    let mut client = node.client();
    let entry = |line: Value| format!("?entry={}", percent_encoded(line.to_string().as_bytes()));
    let value = noise(MIB, 9);
    restore(&mut client, &entry(json!({"key": "alone", "type": "a/b"})), &value).expect(200);
    let answer = client.get(&kv("alone")).expect(200);
    assert!(answer.body == value && answer.field("content-type") == Some("a/b"));
    let app = json!({"app": "default", "item": "alone"});
    restore(&mut client, &entry(app.clone()), "\"a\\nb\"").expect(200);
    restore(&mut client, &entry(app), "no json").expect(400);
    let list = json!({"app": "default", "list": "alone"});
    restore(&mut client, &entry(list), "[1,2]").expect(200);
    assert_eq!(client.get("/list/read?key=alone").expect(200).json()["data"], json!([1, 2]));
    for wrong in [json!({"key": "alone", "value": "x"}), json!({"app": "default"}), json!([])] {
        restore(&mut client, &entry(wrong), "x").expect(400);
    }
    // http.request_size_limit: one line that fills it, and one byte more.
    let line = |bytes: usize| {
        let frame = "{\"key\":\"full\",\"value\":\"\"}";
        format!("{{\"key\":\"full\",\"value\":\"{}\"}}", "v".repeat(bytes - frame.len()))
    };
    restore(&mut client, "", line(MIB)).expect(200);
    let mut stranger = node.client();
    let refused = restore(&mut stranger, "", line(MIB + 1)).expect(413);
    assert_eq!(refused.json()["code"], "body_too_large");
    // store.max_limit.
    let small = Node::start(|setup| {
        setup.set("store.max_limit", 1_000);
    });
    let mut client = small.client();
    restore(&mut client, "", format!("{{\"key\":\"a\",\"value\":\"{}\"}}", "v".repeat(1_000))).expect(200);
    let refused = restore(&mut client, "", format!("{{\"key\":\"b\",\"value\":\"{}\"}}", "v".repeat(1_001)));
    assert_eq!(refused.expect(413).json()["code"], "line_too_large");
    client.get(&kv("b")).expect(404);
}

#[test]
fn a_store_without_room_names_the_line_that_found_none() {
    let node = Node::start(|setup| {
        setup
            .set("store.memory_limit", "16MiB")
            .set("store.max_limit", "1MiB")
            .set("store.when_full", "reject");
    });
    let value = "v".repeat(60_000);
    let body: String = (0..30).map(|key| format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}\n")).collect();
    let mut refused = None;
    for round in 0..20 {
        let answer = restore(&mut node.client(), &format!("?prefix={round}/"), &body[..]);
        if answer.status != 200 {
            refused = Some(answer.expect(507));
            break;
        }
    }
    let told = refused.expect("16 MiB are not 36").json();
    assert_eq!(told["code"], "store_full");
    assert!(told["detail"].as_str().unwrap().starts_with("line "), "{told}");
    node.client().get(&kv("0/0")).expect(200);
}

#[test]
fn only_an_administrator_of_the_whole_node_dumps_and_restores() {
    let node = shared();
    for (method, path) in [("GET", "/api/dump"), ("POST", "/api/restore")] {
        node.stranger().call(method, path, &[], b"").expect(401);
        let lesser = token::with_grants(&["kv:read", "kv:write", "kv:list", "light:read"]);
        let refused = node.stranger().with_token(&lesser).call(method, path, &[], b"").expect(403);
        assert_eq!(refused.expect_field("x-required-grants"), "admin");
        let claims = json!({"exp": token::now() + 60, "prefix": "a/"});
        let limited = token::with_claims(&claims);
        let refused = node.stranger().with_token(&limited).call(method, path, &[], b"").expect(403);
        assert_eq!(refused.json()["code"], "out_of_scope");
        node.client().call("DELETE", path, &[], b"").expect(405);
    }
}

#[test]
fn a_head_shows_the_fields_and_a_client_of_http_1_0_gets_no_chunks() {
    let node = node();
    node.client().put(&kv("k"), "v").expect(201);
    let mut client = node.client();
    let head = client.call("HEAD", "/api/dump", &[], b"").expect(200);
    assert_eq!(head.expect_field("transfer-encoding"), "chunked");
    // The connection goes on behind either.
    client.get("/api/dump").expect(200);
    client.get(&kv("k")).expect(200);
    let mut old = node.client();
    let field = format!("Authorization: Bearer {}\r\n", token::root());
    old.send(format!("GET /api/dump HTTP/1.0\r\nConnection: keep-alive\r\n{field}\r\n").as_bytes());
    let mut answer = Vec::new();
    old.stream().read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(!answer.to_ascii_lowercase().contains("transfer-encoding"), "{answer}");
    assert!(answer.contains("\r\n\r\n{\"lucid\":\"dump\""), "{answer}");
    assert!(answer.ends_with("\"records\":0}}\n"), "{answer}");
}

#[test]
fn answers_behind_a_dump_come_behind_it() {
    let node = node();
    fill(&node);
    let mut client = node.client();
    let mut requests = client.compose("GET", &kv("plain"), &[], b"");
    requests.extend(client.compose("GET", "/api/dump", &[], b""));
    requests.extend(client.compose("GET", &kv("empty"), &[], b""));
    requests.extend(client.compose("GET", "/api/dump?prefix=plain", &[], b""));
    requests.extend(client.compose("GET", &kv("typed"), &[], b""));
    client.send(&requests);
    assert_eq!(client.response().expect(200).text(), "text");
    assert_eq!(lines(&client.response().expect(200).body).len(), 30 + 5 + 2);
    assert_eq!(client.response().expect(200).text(), "");
    assert_eq!(lines(&client.response().expect(200).body).len(), 3);
    assert_eq!(client.response().expect(200).text(), "1,2");
}

#[test]
fn what_does_not_change_is_there_once_while_others_write() {
    const KEPT: usize = 20_000;
    let node = node();
    let mut client = node.client();
    for part in 0..KEPT / 1_000 {
        let body: String = (0..1_000)
            .map(|key| format!("{{\"key\":\"kept/{}\",\"value\":\"{key}\"}}\n", part * 1_000 + key))
            .collect();
        restore(&mut client, "", body).expect(200);
    }
    client.put(&kv("changed"), "0").expect(201);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (node, stop) = (&node, &stop);
            scope.spawn(move || {
                let mut client = node.client();
                for round in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    // Growing, moving and leaving entries rebuild the tables that are walked.
                    let key = format!("busy/{writer}/{}", round % 3_000);
                    match round % 4 {
                        0 => drop(client.delete(&kv(&key))),
                        _ => drop(client.put(&kv(&key), "x".repeat(round % 500))),
                    }
                    client.put(&kv("changed"), round.to_string());
                }
            });
        }
        let _stops = Stops(&stop);
        for _ in 0..10 {
            let lines = dump(&node);
            let mut seen = BTreeMap::new();
            for line in &lines {
                if let Some(key) = line["key"].as_str() {
                    assert!(seen.insert(key, &line["value"]).is_none(), "{key} is there twice");
                }
            }
            for key in 0..KEPT {
                let name = format!("kept/{key}");
                assert_eq!(seen[name.as_str()], &json!((key % 1_000).to_string()));
            }
            assert!(seen["changed"].as_str().unwrap().parse::<u64>().is_ok());
            assert_eq!(lines.last().unwrap()["end"]["keys"], json!(seen.len()));
        }
    });
}

#[test]
fn a_list_is_never_half_changed() {
    const ADDED: usize = 5_000;
    let node = node();
    let first: Vec<usize> = (0..ADDED).collect();
    let second: Vec<usize> = (ADDED..2 * ADDED).collect();
    post(&mut node.client(), "/list/write", "", &json!({"key": "l", "values": first}));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = node.client();
            while !stop.load(Ordering::Relaxed) {
                post(&mut client, "/list/add", "", &json!({"key": "l", "values": second}));
                post(&mut client, "/list/remove", "", &json!({"key": "l", "values": second}));
            }
        });
        let _stops = Stops(&stop);
        for _ in 0..30 {
            let lines = dump(&node);
            let list = lines.iter().find(|line| line["list"] == "l").unwrap();
            let count = list["values"].as_array().unwrap().len();
            assert!(count == ADDED || count == 2 * ADDED, "{count}");
        }
    });
}

#[test]
fn a_dump_that_is_not_read_holds_little_and_nobody_up() {
    const VALUES: usize = 30;
    let node = Node::start(|setup| {
        setup.set("store.memory_limit", "256MiB").set("store.max_limit", "4MiB");
    });
    let mut client = node.client();
    for key in 0..VALUES {
        client.put(&kv(key.to_string()), noise(3 * MIB, key as u64)).expect(201);
    }
    let before = process::resident_bytes(node.pid());
    let mut slow: Vec<Client> = (0..8).map(|_| node.client()).collect();
    for reader in &mut slow {
        let request = reader.compose("GET", "/api/dump", &[], b"");
        reader.send(&request);
        assert!(reader.hears_within(common::client::PATIENCE));
    }
    // Others are served all the while.
    for key in 0..1_000 {
        client.put(&kv(format!("small/{key}")), "v").expect(201);
    }
    let grown = process::resident_bytes(node.pid()).saturating_sub(before);
    assert!(grown < 24 * MIB as u64, "{} KiB more", grown >> 10);
    let keys = lines(&slow[0].response().expect(200).body);
    assert!(keys.len() >= VALUES + 3);
    drop(slow);
    node.assert_well();
}

#[test]
fn a_file_that_is_cut_restores_nothing_and_a_pipe_tells_of_it() {
    let (from, to) = (node(), node());
    fill(&from);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for name in ["a", "a.zst"] {
        call_to(&from, &["dump", &path(name)]).said();
        let whole = std::fs::read(path(name)).unwrap();
        let before = dump(&to).len();
        let last_line = match name {
            "a" => whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1,
            _ => whole.len() - 9,
        };
        for cut in [0, whole.len() / 2, last_line] {
            std::fs::write(path("cut"), &whole[..cut]).unwrap();
            let said = call_to(&to, &["restore", &path("cut")]).failed(1);
            assert!(said.contains("dump"), "{said}");
            assert!(said.contains("0 entries were restored"), "{said}");
        }
        assert_eq!(dump(&to).len(), before);
        if name == "a" {
            let said = call_to(&to, &["restore"]).stdin(&whole[..last_line]).failed(1);
            assert!(said.contains("it is cut off behind line 36"), "{said}");
            assert!(said.contains("30 entries were restored before that"), "{said}");
            assert_same(&from, &to);
        }
    }
    let said = call_to(&to, &["restore", &path("none")]).failed(1);
    assert!(said.contains("is not there"), "{said}");
    call_to(&to, &["restore", folder.path().to_str().unwrap()]).failed(1);
    let picked = "{\"key\":\"picked\",\"value\":\"v\"}";
    let said = call_to(&to, &["restore"]).stdin(picked).failed(1);
    assert!(said.contains("--partial"), "{said}");
    assert_eq!(call_to(&to, &["restore", "--partial"]).stdin(picked).said(), "restored 1 entry\n");
    let said = call_to(&to, &["restore", "--partial"]).stdin(format!("{picked}\n{{}}")).failed(1);
    assert!(said.contains("line 2: "), "{said}");
}

#[test]
fn a_dump_of_one_node_pipes_into_another() {
    let (from, to) = (node(), node());
    fill(&from);
    let mut dump = call_to(&from, &["dump"]).into_command();
    let mut dump = dump.stdout(Stdio::piped()).spawn().unwrap();
    let mut restore =
        call(&["restore", "--url", &url(&to)]).variable("LUCID_TOKEN", &token::root()).into_command();
    let restored = restore.stdin(dump.stdout.take().unwrap()).output().unwrap();
    assert!(dump.wait().unwrap().success());
    assert_eq!(String::from_utf8_lossy(&restored.stdout), "restored 30 entries\n");
    assert_same(&from, &to);
}

#[test]
fn a_dump_that_breaks_off_leaves_the_file_that_was_there() {
    // A node that sends a dump without its end.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4_096];
        let _ = stream.read(&mut request).unwrap();
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let line = "{\"lucid\":\"dump\",\"version\":1,\"entries\":1}\n";
        stream.write_all(format!("{head}{:x}\r\n{line}\r\n0\r\n\r\n", line.len()).as_bytes()).unwrap();
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("d"), "before").unwrap();
    let said = call(&["dump", "d", "--url", &format!("http://{address}")]).within(folder.path()).failed(1);
    assert!(said.contains("the dump is not whole: it is cut off behind line 1"), "{said}");
    serving.join().unwrap();
    assert_eq!(std::fs::read(folder.path().join("d")).unwrap(), b"before");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let node = shared();
    let said = call_to(&node, &["dump", "no/such"]).within(folder.path()).failed(1);
    assert!(said.contains("its folder is not there"), "{said}");
    let said = call(&["dump", "--url", &url(&node)]).failed(4);
    assert!(said.contains("wants a token"), "{said}");
}
