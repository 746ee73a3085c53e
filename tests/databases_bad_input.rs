//! Whatever is wrong with a request for a database is told in a sentence, with a 4xx, and stores nothing.

mod common;

use common::{Client, Node, Response};
use serde_json::{Value, json};

/// Each test has one of its own, and sees all that is stored.
fn node() -> Node {
    Node::start(|setup| {
        setup.workers(2).set("databases.password", "pw");
    })
}

fn client(node: &Node) -> Client {
    node.stranger().with_authorization("Basic OnB3")
}

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const MULTIPART: &str = "multipart/form-data; boundary=x";

fn call(client: &mut Client, path: &str, content_type: &str, body: &[u8]) -> Response {
    client.call("POST", path, &[("Content-Type", content_type)], body)
}

/// A refusal in the family's shape.
#[track_caller]
fn refused(response: Response, status: u16) -> String {
    let response = response.expect(status);
    assert_eq!(response.expect_field("Content-Type"), "text/plain; charset=utf-8");
    let text = response.text().to_owned();
    assert!(text.ends_with(['.', ')']) && !text.contains('\n'), "{text}");
    text
}

fn names(client: &mut Client) -> Value {
    client.get("/database/list").expect(200).json()
}

/// Every path that takes fields, with those that it must have.
const PATHS: [(&str, &[&str]); 13] = [
    ("/controller/set", &["database_name", "key", "value"]),
    ("/controller/get", &["database_name", "key"]),
    ("/controller/get_all", &["database_name"]),
    ("/controller/delete", &["database_name", "key"]),
    ("/controller/debug", &["message"]),
    ("/controller/info", &["message"]),
    ("/controller/warning", &["message"]),
    ("/controller/error", &["message"]),
    ("/controller/exception", &["message"]),
    ("/database/pop", &["database_name"]),
    ("/database/rename", &["database_name", "new_database_name"]),
    ("/database/delete", &["database_name"]),
    ("/execute", &["query"]),
];

#[test]
fn a_missing_field_is_named_in_every_form_of_body() {
    let node = node();
    let mut client = client(&node);
    for (path, needed) in PATHS {
        for missing in needed {
            let others: Vec<&&str> = needed.iter().filter(|name| *name != missing).collect();
            let form: Vec<String> = others.iter().map(|name| format!("{name}=v")).collect();
            let json: serde_json::Map<_, _> =
                others.iter().map(|name| (name.to_string(), json!("v"))).collect();
            let parts: String = others
                .iter()
                .map(|name| format!("--x\r\nContent-Disposition: form-data; name={name}\r\n\r\nv\r\n"))
                .collect();
            // A part that means nothing, since there must be one.
            let parts = format!("--x\r\nContent-Disposition: form-data; name=z\r\n\r\n\r\n{parts}--x--");
            for (content_type, body) in
                [(FORM, form.join("&")), (JSON, Value::from(json).to_string()), (MULTIPART, parts)]
            {
                let text = refused(call(&mut client, path, content_type, body.as_bytes()), 400);
                assert_eq!(text, format!("A parameter is missing: it needs {missing}."), "{path} {body}");
            }
        }
        // In the query they count for nothing.
        let query = needed.iter().map(|name| format!("{name}=v")).collect::<Vec<_>>().join("&");
        refused(client.call("POST", &format!("{path}?{query}"), &[], b""), 400);
    }
    assert_eq!(names(&mut client), json!({}));
}

#[test]
fn a_doubled_field_a_wrong_type_and_no_utf_8_are_refused() {
    let node = node();
    let mut client = client(&node);
    for (path, needed) in PATHS {
        for name in needed {
            let good = |other: &&&str| **other != *name;
            let form: String = needed.iter().map(|name| format!("{name}=v&")).collect();
            refused(call(&mut client, path, FORM, format!("{form}{name}=w").as_bytes()), 400);
            let json: String = needed.iter().map(|name| format!("\"{name}\":\"v\",")).collect();
            refused(call(&mut client, path, JSON, format!("{{{json}\"{name}\":\"w\"}}").as_bytes()), 400);
            let rest: String = needed.iter().filter(good).map(|name| format!(",\"{name}\":\"v\"")).collect();
            if *name != "value" {
                for wrong in ["1", "true", "[]", "{}", "[\"v\"]", "null"] {
                    let body = format!("{{\"{name}\":{wrong}{rest}}}");
                    refused(call(&mut client, path, JSON, body.as_bytes()), 400);
                }
            }
            let rest: String = needed.iter().filter(good).map(|name| format!("&{name}=v")).collect();
            refused(call(&mut client, path, FORM, format!("{name}=%ff%fe{rest}").as_bytes()), 400);
            refused(call(&mut client, path, FORM, format!("{name}=%zz{rest}").as_bytes()), 400);
            refused(
                call(&mut client, path, FORM, &[name.as_bytes(), b"=\xff", rest.as_bytes()].concat()),
                400,
            );
            let raw = [b"{\"", name.as_bytes(), b"\":\"\xff\"}"].concat();
            refused(call(&mut client, path, JSON, &raw), 400);
        }
    }
    assert_eq!(names(&mut client), json!({}));
}

#[test]
fn bodies_that_are_none_of_the_three_are_refused() {
    let node = node();
    let mut client = client(&node);
    let deep = |depth: usize| {
        format!(
            "{{\"database_name\":\"d\",\"key\":\"k\",\"value\":{}1{}}}",
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    let bomb: String = (0..10_000).map(|number| format!("a{number}=1&")).collect();
    let json_bomb: String = (0..10_000).map(|number| format!("\"a{number}\":1,")).collect();
    let part_bomb = "--x\r\nContent-Disposition: form-data; name=a\r\n\r\nv\r\n".repeat(10_000);
    let good = "database_name=d&key=k&value=v";
    for (content_type, body) in [
        (JSON, "{".to_owned()),
        (JSON, "{\"database_name\":\"d\",\"key\":\"k\",\"value\":}".to_owned()),
        (JSON, "{\"database_name\":\"d\",\"key\":\"k\",\"value\":1}}".to_owned()),
        (JSON, "{\"database_name\":\"d\",\"key\":\"k\",\"value\":01}".to_owned()),
        (JSON, "{\"database_name\":\"d\",\"key\":\"k\",\"value\":\"\\ud800\"}".to_owned()),
        (JSON, "[\"database_name\"]".to_owned()),
        (JSON, "null".to_owned()),
        (JSON, String::new()),
        (JSON, deep(32)),
        (JSON, deep(100_000)),
        (JSON, format!("{{{json_bomb}\"database_name\":\"d\",\"key\":\"k\",\"value\":1}}")),
        (FORM, format!("{bomb}{good}")),
        (FORM, format!("{good}&x=%")),
        (FORM, "&&&".to_owned()),
        (MULTIPART, format!("{part_bomb}--x--")),
        (MULTIPART, good.to_owned()),
        (MULTIPART, "--y\r\nContent-Disposition: form-data; name=key\r\n\r\nk\r\n--y--".to_owned()),
        (MULTIPART, "--x\r\nContent-Disposition: form-data; name=key\r\n\r\nk".to_owned()),
        (MULTIPART, format!("--x\r\n{}: y\r\n\r\nk\r\n--x--", "X".repeat(5_000))),
        ("multipart/form-data", "--x--".to_owned()),
        ("multipart/form-data; boundary=", "--x--".to_owned()),
    ] {
        let answer = call(&mut client, "/controller/set", content_type, body.as_bytes());
        refused(answer, 400);
    }
    assert_eq!(names(&mut client), json!({}));
    call(&mut client, "/controller/set", JSON, deep(31).as_bytes()).expect(200);
    call(&mut client, "/database/delete", FORM, b"database_name=d").expect(200);
}

#[test]
fn names_have_1_to_1024_bytes_and_numbers_any_size() {
    let node = node();
    let mut client = client(&node);
    let longest = "n".repeat(1_024);
    let set = |client: &mut Client, database: &str, key: &str| {
        let short = call(
            client,
            "/controller/set",
            FORM,
            format!("database_name={database}&key={key}&value=v").as_bytes(),
        );
        let body = json!({"database_name": database, "key": key, "value": 1, "compress": false});
        let long = call(client, "/controller/set", JSON, body.to_string().as_bytes());
        assert_eq!(short.status, long.status);
        short
    };
    set(&mut client, &longest, &longest).expect(200);
    for (database, key) in
        [(&*format!("{longest}n"), "k"), ("d", &*format!("{longest}n")), ("", "k"), ("d", "")]
    {
        refused(set(&mut client, database, key), 400);
    }
    let rename = format!("database_name={longest}&new_database_name={longest}n");
    refused(call(&mut client, "/database/rename", FORM, rename.as_bytes()), 400);
    let rename = format!("database_name={longest}&new_database_name=");
    refused(call(&mut client, "/database/rename", FORM, rename.as_bytes()), 400);
    let sealed = format!("database_name=d&key=k&value=v&encryption_key={longest}");
    call(&mut client, "/controller/set", FORM, sealed.as_bytes()).expect(200);
    refused(call(&mut client, "/controller/set", FORM, format!("{sealed}n").as_bytes()), 400);
    refused(call(&mut client, "/controller/get", FORM, b"database_name=d&key=k&compress=maybe"), 400);
    refused(call(&mut client, "/controller/set", FORM, b"database_name=d&key=k&value=v&compress=2"), 400);
    let huge = format!("{{\"database_name\":\"d\",\"key\":\"n\",\"value\":{}}}", "9".repeat(20_000));
    call(&mut client, "/controller/set", JSON, huge.as_bytes()).expect(200);
    let read = call(&mut client, "/controller/get", FORM, b"database_name=d&key=n").expect(200);
    assert_eq!(read.text(), "9".repeat(20_000));
    // A counter of so many digits is none.
    refused(call(&mut client, "/execute", "text/plain", b"INCR d n"), 400);
    // One that begins over its range makes no database either.
    refused(call(&mut client, "/execute", "text/plain", b"DECR fresh n -9223372036854775808"), 400);
    assert!(!client.get("/database/list").expect(200).text().contains("fresh"));
    for database in ["d", &longest] {
        call(&mut client, "/database/delete", FORM, format!("database_name={database}").as_bytes())
            .expect(200);
    }
}

#[test]
fn values_have_their_limit_however_they_come() {
    let node = Node::start(|setup| {
        setup.workers(2).set("databases.password", "pw");
        setup.set("store.max_limit", 300_000).set("http.request_size_limit", 1_000_000);
    });
    let mut client = client(&node);
    let set = |client: &mut Client, length: usize, more: &str| {
        let body = format!("database_name=d&key=k&value={}{more}", "v".repeat(length));
        call(client, "/controller/set", FORM, body.as_bytes())
    };
    set(&mut client, 299_000, "").expect(200);
    set(&mut client, 299_000, "&encryption_key=e").expect(200);
    for more in ["", "&encryption_key=e", "&compress=1"] {
        refused(set(&mut client, 300_000, more), 413);
    }
    // Escapes count as what they become where they are kept.
    let quotes = format!("database_name=d&key=k&value={}", "%22".repeat(151_000));
    refused(call(&mut client, "/controller/set", FORM, quotes.as_bytes()), 413);
    let read =
        call(&mut client, "/controller/get", FORM, b"database_name=d&key=k&encryption_key=e").expect(200);
    assert_eq!(read.body.len(), 299_002, "nothing of what was refused was stored");
    refused(call(&mut client, "/controller/set", FORM, &vec![b'a'; 1_000_001]), 413);
    let mut client = self::client(&node);
    let chunked = common::chunked(&vec![b'a'; 1_000_001], 50_000);
    let mut request = client.compose("POST", "/controller/set", &[("Transfer-Encoding", "chunked")], b"");
    request.extend_from_slice(&chunked);
    let _ = client.try_send(&request);
    assert_eq!(client.response_to("POST").status, 413);
}

#[test]
fn every_body_means_the_same_wherever_it_is_cut() {
    let node = node();
    let mut client = client(&node);
    call(&mut client, "/controller/set", FORM, b"database_name=cut&key=a%20b&value=%C3%A9+%26").expect(200);
    for body in [
        "database_name=cut&key=a%20b",
        "key=a+b&database_name=%63ut",
        "{\"key\":\"a b\",\"database_name\":\"cut\"}",
    ] {
        let request = client.compose("POST", "/controller/get", &[], body.as_bytes());
        for at in 1..request.len() {
            client.send(&request[..at]);
            client.send(&request[at..]);
            assert_eq!(client.response_to("POST").expect(200).json(), "é &", "{at} {body}");
        }
    }
    call(&mut client, "/database/delete", FORM, b"database_name=cut").expect(200);
}
