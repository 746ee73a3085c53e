//! What becomes of values in databases: their types, sealed and compressed ones, large ones, whole databases,
//! log messages, and what `/execute` does with them.

mod common;

use std::io::{Read, Write};
use std::sync::Arc;

use common::{Client, Node, Response, Shared, percent_encoded};
use serde_json::{Value, json};

static NODE: Shared = Shared::new();

fn node() -> Arc<Node> {
    NODE.node(|setup| {
        setup.workers(2).set("databases.password", "pw").set("logging.level", "debug");
    })
}

fn client(node: &Node) -> Client {
    node.stranger().with_authorization("Basic OnB3")
}

type Fields<'a> = &'a [(&'a str, &'a str)];

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

#[track_caller]
fn post(client: &mut Client, path: &str, fields: Fields) -> Response {
    let pair = |(name, value): &(&str, &str)| format!("{name}={}", percent_encoded(value.as_bytes()));
    let body = fields.iter().map(pair).collect::<Vec<_>>().join("&");
    client.call("POST", path, &[FORM], body.as_bytes())
}

#[track_caller]
fn post_json(client: &mut Client, path: &str, body: &Value) -> Response {
    client.call("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
}

#[track_caller]
fn execute(client: &mut Client, query: &str) -> Response {
    client.call("POST", "/execute", &[("Content-Type", "text/plain")], query.as_bytes())
}

#[track_caller]
fn told(client: &mut Client, query: &str) -> Value {
    let response = execute(client, query).expect(200);
    assert_eq!(response.expect_field("Content-Type"), "application/json", "{query}");
    response.json()
}

fn of(database: &str, key: &str) -> [(&'static str, String); 2] {
    [("database_name", database.to_owned()), ("key", key.to_owned())]
}

#[track_caller]
fn get(client: &mut Client, database: &str, key: &str, encryption_key: Option<&str>) -> Response {
    let [database, key] = of(database, key);
    let mut fields = vec![(database.0, &*database.1), (key.0, &*key.1)];
    fields.extend(encryption_key.map(|key| ("encryption_key", key)));
    post(client, "/controller/get", &fields)
}

#[track_caller]
fn all(client: &mut Client, database: &str, encryption_key: Option<&str>) -> Value {
    let mut fields = vec![("database_name", database)];
    fields.extend(encryption_key.map(|key| ("encryption_key", key)));
    post(client, "/controller/get_all", &fields).expect(200).json()
}

#[test]
fn json_values_keep_type_and_text_and_form_values_are_strings() {
    let node = node();
    let mut client = client(&node);
    for text in [
        "null",
        "true",
        "1.0",
        "-0",
        "1e400",
        "123456789012345678901234567890",
        "\"\\u00e9\\n\"",
        "\"\"",
        "[1, {\"a\" : [ ]}]",
        "{}",
    ] {
        let body = format!("{{\"database_name\":\"types\",\"key\":\"k\",\"value\":{text}}}");
        client.call("POST", "/controller/set", &[], body.as_bytes()).expect(200);
        assert_eq!(get(&mut client, "types", "k", None).expect(200).text(), text);
        // The same on the long way: a field that is unusual.
        let body = format!("{{\"compress\":false,{}", &body[1..]);
        client.call("POST", "/controller/set", &[], body.as_bytes()).expect(200);
        assert_eq!(get(&mut client, "types", "k", None).expect(200).text(), text);
        assert_eq!(
            post(&mut client, "/controller/get_all", &[("database_name", "types")]).expect(200).text(),
            format!("{{\"k\":{text}}}")
        );
    }
    for text in ["1", "null", "", "\"quoted\"", "a\u{0}\n\t\\é", "[1]"] {
        let fields = [("database_name", "types"), ("key", "k"), ("value", text)];
        post(&mut client, "/controller/set", &fields).expect(200);
        assert_eq!(get(&mut client, "types", "k", None).expect(200).json(), text);
        let fields = [("database_name", "types"), ("key", "k"), ("value", text), ("compress", "no")];
        post(&mut client, "/controller/set", &fields).expect(200);
        assert_eq!(get(&mut client, "types", "k", None).expect(200).json(), text);
    }
}

#[test]
fn a_sealed_value_is_opened_by_its_key_alone() {
    let node = node();
    let mut client = client(&node);
    let refusal = "The value cannot be decrypted with the given key.";
    for (key, value) in [("small", "v".to_owned()), ("large", "secret ".repeat(60_000))] {
        for compress in ["false", "true"] {
            let fields = [
                ("database_name", "sealed"),
                ("key", key),
                ("value", &value),
                ("encryption_key", "pass word"),
                ("compress", compress),
            ];
            assert_eq!(
                post(&mut client, "/controller/set", &fields).expect(200).text(),
                "Data set successfully"
            );
            let open = get(&mut client, "sealed", key, Some("pass word")).expect(200);
            assert!(open.json() == value.as_str(), "{key} {compress}");
            assert_eq!(get(&mut client, "sealed", key, Some("password")).expect(403).text(), refusal);
            assert_eq!(get(&mut client, "sealed", key, None).expect(403).text(), refusal);
            assert_eq!(get(&mut client, "sealed", key, Some("")).expect(403).text(), refusal);
        }
    }
    post(&mut client, "/controller/set", &[("database_name", "sealed"), ("key", "open"), ("value", "o")]);
    assert_eq!(get(&mut client, "sealed", "open", Some("any")).expect(200).json(), "o");
    assert_eq!(all(&mut client, "sealed", None), json!({"small": null, "large": null, "open": "o"}));
    let opened = all(&mut client, "sealed", Some("pass word"));
    assert_eq!((&opened["small"], &opened["open"]), (&json!("v"), &json!("o")));
    assert_eq!(opened["large"].as_str().expect("a string").len(), 420_000);
    // Without the key it can still be replaced and deleted.
    post(&mut client, "/controller/set", &[("database_name", "sealed"), ("key", "small"), ("value", "n")]);
    assert_eq!(get(&mut client, "sealed", "small", None).expect(200).json(), "n");
    post(&mut client, "/controller/delete", &[("database_name", "sealed"), ("key", "large")]).expect(200);
    assert_eq!(get(&mut client, "sealed", "large", None).expect(200).json(), Value::Null);
    let logged = node.stderr();
    assert!(!logged.contains("pass word"), "{logged}");
}

#[test]
fn a_compressed_value_is_read_like_any_other_and_takes_less_room() {
    let node = Node::start(|setup| {
        setup
            .set("databases.password", "pw")
            .set("store.memory_limit", "32MiB")
            .set("store.when_full", "reject");
        setup.set("store.max_limit", "4MiB");
    });
    let mut client = client(&node);
    let value = "compressible ".repeat(200_000);
    let set = |client: &mut Client, key: &str, compress: &str| {
        let fields = [("database_name", "packed"), ("key", key), ("value", &*value), ("compress", compress)];
        post(client, "/controller/set", &fields)
    };
    // As they are, not even twelve of them find room.
    let statuses: Vec<u16> = (0..12).map(|at| set(&mut client, &at.to_string(), "None").status).collect();
    assert_eq!((statuses[0], statuses[11]), (200, 507), "{statuses:?}");
    post(&mut client, "/database/pop", &[("database_name", "packed")]).expect(200);
    for key in 0..20 {
        set(&mut client, &key.to_string(), "1").expect(200);
    }
    assert_eq!(get(&mut client, "packed", "19", None).expect(200).json(), value);
    let everything = all(&mut client, "packed", None);
    let everything = everything.as_object().expect("an object");
    assert!(everything.len() == 20 && everything.values().all(|each| each == value.as_str()));
    for (number, kind) in [(1, "small"), (100, "small"), (5_000, "middling"), (300_000, "large")] {
        let value = "ab".repeat(number);
        let fields = [("database_name", "packed"), ("key", kind), ("value", &*value), ("compress", "yes")];
        post(&mut client, "/controller/set", &fields).expect(200);
        assert!(get(&mut client, "packed", kind, None).expect(200).json() == value.as_str());
        assert!(get(&mut client, "packed", kind, Some("any")).expect(200).json() == value.as_str());
    }
}

#[test]
fn a_database_of_any_size_is_told_whole_and_once() {
    let node = node();
    let mut client = client(&node);
    // Few small ones, one page to the byte and over it, many, and large ones among them.
    for (name, counts) in [("a few", 3), ("many", 3_000)] {
        for number in 0..counts {
            let key = format!("key {number}");
            let value = format!("{number} ").repeat(number % 50);
            let fields = [("database_name", name), ("key", &*key), ("value", &*value)];
            post(&mut client, "/controller/set", &fields).expect(200);
        }
        let everything = all(&mut client, name, None);
        let everything = everything.as_object().expect("an object").clone();
        assert_eq!(everything.len(), counts);
        for number in 0..counts {
            assert_eq!(everything[&format!("key {number}")], format!("{number} ").repeat(number % 50));
        }
        let counted = told(&mut client, &format!("COUNT \"{name}\""));
        assert_eq!(counted, counts);
        let keys = told(&mut client, &format!("KEYS \"{name}\" \"key 1\""));
        let expected = (0..counts).filter(|number| number.to_string().starts_with('1')).count();
        assert_eq!(keys.as_array().expect("an array").len(), expected);
    }
    for number in 0..6 {
        let value = json!("x".repeat(number * 100_000));
        let body = json!({"database_name": "many", "key": format!("large {number}"), "value": value});
        post_json(&mut client, "/controller/set", &body).expect(200);
    }
    let fields = [FORM];
    let streamed = client.call("POST", "/controller/get_all", &fields, b"database_name=many").expect(200);
    assert_eq!(streamed.field("Content-Length"), None);
    assert_eq!(streamed.expect_field("Transfer-Encoding"), "chunked");
    let everything = streamed.json();
    assert_eq!(everything.as_object().expect("an object").len(), 3_006);
    assert_eq!(everything["large 5"].as_str().expect("a string").len(), 500_000);
    // The connection goes on.
    assert_eq!(all(&mut client, "a few", None).as_object().expect("an object").len(), 3);
}

#[test]
fn a_whole_database_is_told_to_a_client_without_chunks_until_its_connection_ends() {
    let node = node();
    let mut client = client(&node);
    for number in 0..200 {
        let key = number.to_string();
        let value = "y".repeat(1_000);
        post(&mut client, "/controller/set", &[("database_name", "old"), ("key", &key), ("value", &value)]);
    }
    let mut stream = std::net::TcpStream::connect(node.address()).expect("a connection");
    let request = "POST /controller/get_all HTTP/1.0\r\nConnection: keep-alive\r\nAuthorization: Basic OnB3\r\n\
                   Content-Length: 17\r\n\r\ndatabase_name=old";
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an end");
    let text = String::from_utf8(answer).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 ") && !head.contains("Transfer-Encoding"), "{head}");
    assert!(head.contains("Connection: close"), "{head}");
    let body: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(body.as_object().expect("an object").len(), 200);
}

#[test]
fn a_client_that_does_not_read_a_large_database_holds_little_of_it() {
    let node = Node::start(|setup| {
        setup.workers(2).set("databases.password", "pw");
    });
    let mut client = client(&node);
    let value = "z".repeat(20_000);
    for number in 0..2_000 {
        let key = number.to_string();
        post(&mut client, "/controller/set", &[("database_name", "big"), ("key", &key), ("value", &value)])
            .expect(200);
    }
    let before = common::process::resident_bytes(node.pid());
    let mut readers: Vec<Client> = (0..20).map(|_| self::client(&node)).collect();
    for reader in &mut readers {
        let request = reader.compose("POST", "/controller/get_all", &[FORM], b"database_name=big");
        reader.send(&request);
    }
    // Each has got the beginning of 40 MB, and reads no further.
    for reader in &mut readers {
        assert!(reader.hears_within(common::client::PATIENCE));
    }
    post(&mut client, "/controller/get", &[("database_name", "big"), ("key", "1")]).expect(200);
    let more = common::process::resident_bytes(node.pid()).saturating_sub(before);
    assert!(more < 40 << 20, "{more} bytes for twenty readers");
    let whole = readers[0].response_to("POST").expect(200).json();
    assert_eq!(whole.as_object().expect("an object").len(), 2_000);
}

#[test]
fn log_messages_go_to_the_log_and_to_a_database_that_keeps_the_last_ones() {
    let node = node();
    let mut client = client(&node);
    for (level, said) in [
        ("debug", "Debug message logged successfully"),
        ("info", "Info message logged successfully"),
        ("warning", "Warning message logged successfully"),
        ("error", "Error message logged successfully"),
        ("exception", "Exception message logged successfully"),
    ] {
        let message = format!("hello \u{1b}[31m\n{level}");
        let path = format!("/controller/{level}");
        assert_eq!(post(&mut client, &path, &[("message", &message)]).expect(200).text(), said);
        let kept = all(&mut client, level, None);
        let (key, entry) = kept.as_object().expect("an object").iter().next().expect("a message");
        assert_eq!((key.as_str(), &entry["message"]), (&*format!("{level}_writer-00000"), &json!(message)));
        assert!(entry["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{entry}");
    }
    for number in 0..1_100 {
        post(&mut client, "/controller/info", &[("message", &number.to_string())]).expect(200);
    }
    let kept = all(&mut client, "info", None);
    let kept = kept.as_object().expect("an object");
    assert_eq!(kept.len(), 1_000);
    assert!(kept.values().any(|entry| entry["message"] == "1099"));
    assert!(!kept.values().any(|entry| entry["message"] == "0"));
    node.wait_for_stderr("lucid::client: 1099\n", 1);
    let logged = node.stderr();
    assert!(
        ["DEBUG", "INFO ", "WARN ", "ERROR"]
            .iter()
            .all(|level| logged.contains(&format!("{level} lucid::client: hello")))
    );
    assert!(!logged.contains('\u{1b}'));
    let long = "m".repeat(16 * 1_024 + 1);
    post(&mut client, "/controller/info", &[("message", &long[1..])]).expect(200);
    post(&mut client, "/controller/info", &[("message", &long)]).expect(413);
    post(&mut client, "/controller/info", &[]).expect(400);
}

#[test]
fn queries_do_what_the_endpoints_do_and_answer_json() {
    let node = node();
    let mut client = client(&node);
    for (query, answer) in [
        ("SET q a 1", json!(true)),
        ("set q 'a b' \"x\\u00e9\"", json!(true)),
        ("GET q a", json!("1")),
        ("GET q \"a b\"", json!("xé")),
        ("GET q none", Value::Null),
        ("EXISTS q a", json!(true)),
        ("EXISTS q none", json!(false)),
        ("INCR q a", json!(2)),
        ("GET q a", json!("2")),
        ("DECR q a 5", json!(-3)),
        ("INCR q a 0.5", json!(-2.5)),
        ("INCR q new", json!(1)),
        ("DECR q newer 4", json!(-4)),
        ("GET q newer", json!("-4")),
        ("INCR made_by_counting n 7", json!(7)),
        ("TTL q a", json!(-1)),
        ("TTL q none", json!(-2)),
        ("EXPIRE q a 1000", json!(true)),
        ("TTL q a", json!(1000)),
        ("INCR q a", json!(-1.5)),
        ("TTL q a", json!(1000)),
        ("PERSIST q a", json!(true)),
        ("TTL q a", json!(-1)),
        ("EXPIRE q none 5", json!(false)),
        ("PERSIST q none", json!(false)),
        ("COUNT q", json!(4)),
        ("KEYS q a", json!(["a", "a b"])),
        ("DELETE q none", json!(true)),
        ("DELETE q newer", json!(true)),
        ("SET q sealed v key", json!(true)),
        ("GET q sealed key", json!("v")),
        ("GET_ALL q", json!({"a": "-1.5", "a b": "xé", "new": "1", "sealed": null})),
        ("GET_ALL q key", json!({"a": "-1.5", "a b": "xé", "new": "1", "sealed": "v"})),
        ("DATABASE_RENAME q r", json!(true)),
        ("COUNT r", json!(4)),
        ("DATABASE_POP r", json!(true)),
        ("GET_ALL r", json!({})),
        ("DATABASE_DELETE r", json!(true)),
        ("DATABASE_DELETE made_by_counting", json!(true)),
    ] {
        let mut answered = told(&mut client, query);
        if let Value::Array(names) = &mut answered {
            names.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
        }
        assert_eq!(answered, answer, "{query}");
    }
    let list = told(&mut client, "DATABASE_LIST");
    assert_eq!(list, client.get("/database/list").expect(200).json());
    for (query, status) in [
        ("GET q a", 404),
        ("DELETE q a", 404),
        ("TTL q a", 404),
        ("EXISTS q a", 404),
        ("KEYS q", 404),
        ("COUNT q", 404),
        ("GET_ALL q", 404),
        ("EXPIRE q a 5", 404),
        ("PERSIST q a", 404),
        ("DATABASE_POP q", 404),
        ("DATABASE_DELETE q", 404),
        ("DATABASE_RENAME q r", 404),
    ] {
        assert_eq!(
            execute(&mut client, query).expect(status).text(),
            "There is no such database.",
            "{query}"
        );
    }
    told(&mut client, "SET q word hello");
    execute(&mut client, "INCR q word").expect(400);
    // What only its key opens may be a number or not: a counter has no key.
    assert_eq!(told(&mut client, "SET q sealed 5 key"), json!(true));
    for query in ["INCR q sealed", "DECR q sealed 2", "INCR q sealed 0.5"] {
        execute(&mut client, query).expect(403);
    }
    assert_eq!(told(&mut client, "GET q sealed key"), json!("5"));
    assert_eq!(told(&mut client, &format!("SET q packed {} None yes", "5".repeat(400))), json!(true));
    execute(&mut client, "INCR q packed").expect(400);
    told(&mut client, "SET q most 9223372036854775807");
    execute(&mut client, "INCR q most").expect(400);
    assert_eq!(told(&mut client, "GET q most"), "9223372036854775807");
    told(&mut client, "SET q sealed 1 key");
    execute(&mut client, "INCR q sealed").expect(403);
    execute(&mut client, "GET q sealed").expect(403);
    execute(&mut client, "DATABASE_RENAME q q").expect(409);
    // A number that JSON stored counts too, and stays one.
    post_json(&mut client, "/controller/set", &json!({"database_name": "q", "key": "n", "value": 41}));
    assert_eq!((told(&mut client, "INCR q n"), told(&mut client, "GET q n")), (json!(42), json!(42)));
}

#[test]
fn a_query_comes_as_a_form_as_json_or_as_text_and_a_bad_one_is_told_where() {
    let node = node();
    let mut client = client(&node);
    assert_eq!(post(&mut client, "/execute", &[("query", "SET way k 'a&b'")]).expect(200).text(), "true");
    assert_eq!(post_json(&mut client, "/execute", &json!({"query": "GET way k"})).expect(200).json(), "a&b");
    assert_eq!(told(&mut client, "GET way k"), "a&b");
    let refused = execute(&mut client, "SET way k v; DATABASE_DELETE_ALL").expect(400);
    assert!(refused.text().ends_with("(at byte 12)"), "{}", refused.text());
    let refused = post(&mut client, "/execute", &[("query", "EXPLODE")]).expect(400);
    assert!(refused.text().ends_with("(at byte 1)"), "{}", refused.text());
    let fields = [("Accept", "application/json"), ("Content-Type", "text/plain")];
    let refused = client.call("POST", "/execute", &fields, b"GET 'x").expect(400).json();
    assert_eq!((&refused["code"], &refused["detail"]), (&json!("query_refused"), &json!("byte 5")));
    for body in
        [&b"query=%ff"[..], b"{\"query\":1}", b"{\"query\":null}", b"x=1", b"", b"query=", b"{\"query\":[]}"]
    {
        client.call("POST", "/execute", &[FORM], body).expect(400);
    }
    client.call("POST", "/execute", &[("Content-Type", "text/plain")], b"\xff").expect(400);
    let longest = format!("SET way k {}", "v".repeat(64 * 1_024 - 10));
    execute(&mut client, &longest).expect(200);
    execute(&mut client, &format!("{longest}v")).expect(413);
    assert_eq!(post(&mut client, "/execute", &[("query", &longest)]).expect(200).text(), "true");
    // The set of what was to be stored by a query that was refused is empty.
    assert_eq!(told(&mut client, "COUNT way"), 1);
}

#[test]
fn requests_behind_each_other_see_the_databases_as_they_are_by_then() {
    let node = node();
    let mut client = client(&node);
    let request =
        |client: &Client, path: &str, body: &str| client.compose("POST", path, &[FORM], body.as_bytes());
    let pipelined = [
        ("/controller/set", "database_name=p&key=k&value=1", 200, "Data set successfully"),
        ("/controller/get", "database_name=p&key=k", 200, "\"1\""),
        ("/database/rename", "database_name=p&new_database_name=p2", 200, "Database renamed successfully"),
        ("/controller/get", "database_name=p&key=k", 404, "There is no such database."),
        ("/controller/get", "database_name=p2&key=k", 200, "\"1\""),
        ("/database/pop", "database_name=p2", 200, "Database popped successfully"),
        ("/controller/get", "database_name=p2&key=k", 200, "null"),
        ("/controller/set", "database_name=p2&key=k&value=2", 200, "Data set successfully"),
        ("/controller/get", "database_name=p2&key=k", 200, "\"2\""),
        ("/database/delete", "database_name=p2", 200, "Database deleted successfully"),
        ("/controller/get", "database_name=p2&key=k", 404, "There is no such database."),
        ("/controller/set", "database_name=p2&key=other&value=3", 200, "Data set successfully"),
        ("/controller/get", "database_name=p2&key=k", 200, "null"),
        ("/database/delete", "database_name=p2", 200, "Database deleted successfully"),
    ];
    for _ in 0..20 {
        let bytes: Vec<u8> =
            pipelined.iter().flat_map(|(path, body, ..)| request(&client, path, body)).collect();
        client.send(&bytes);
        for (path, body, status, text) in pipelined {
            let answer = client.response_to("POST").expect(status);
            assert_eq!(answer.text(), text, "{path} {body}");
        }
    }
}
