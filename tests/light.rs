//! `/item` and `/list` over a socket: what succeeds, what is absent, what is bad input, and who may.

mod common;

use std::sync::Arc;

use common::{Client, Node, Response, Shared, token};
use serde_json::{Value, json};

static NODE: Shared = Shared::new();

fn node() -> Arc<Node> {
    NODE.node(|setup| {
        setup.workers(2);
    })
}

/// An app of its own for a test: a client that may all, and one that reads.
fn app(node: &Node, name: &str) -> (Client, Client) {
    let body = json!({ "name": name }).to_string();
    let app = node.client().call("POST", "/apps", &[], body.as_bytes()).expect(201).json();
    let token = |name: &str| app["data"][name].as_str().expect("a token").to_owned();
    let client = |token: &str| node.stranger().with_token(token);
    (client(&token("readwrite_token")), client(&token("read_token")))
}

#[track_caller]
fn post(client: &mut Client, path: &str, body: &Value) -> Response {
    client.call("POST", path, &[], body.to_string().as_bytes())
}

#[track_caller]
fn data(response: Response) -> Value {
    let body = response.expect(200).json();
    assert_eq!(body["ok"], true);
    body["data"].clone()
}

#[track_caller]
fn code(response: Response, status: u16) -> String {
    let body = response.expect(status).json();
    assert_eq!(body["ok"], false, "{body}");
    assert!(body["error"]["message"].is_string(), "{body}");
    body["error"]["code"].as_str().expect("a code").to_owned()
}

/// Every endpoint with a request that succeeds once the item and the list `there` are there.
fn endpoints() -> Vec<(&'static str, &'static str, Option<Value>)> {
    vec![
        ("GET", "/item/read?key=there", None),
        ("POST", "/item/write", Some(json!({"key": "there", "value": 1}))),
        ("DELETE", "/item/delete?key=there", None),
        ("GET", "/item/exists?key=there", None),
        ("GET", "/item/keys", None),
        ("POST", "/list/write", Some(json!({"key": "there", "values": ["a", "b"]}))),
        ("GET", "/list/read?key=there", None),
        ("POST", "/list/add", Some(json!({"key": "there", "values": ["c"]}))),
        ("POST", "/list/remove", Some(json!({"key": "there", "values": ["a"]}))),
        ("GET", "/list/exists?key=there", None),
        ("GET", "/list/exists?key=there&value=b", None),
        ("GET", "/list/index?key=there&value=b", None),
        ("GET", "/list/count?key=there", None),
        ("GET", "/list/slice?key=there&start=0&end=1", None),
        ("GET", "/list/keys?prefix=th", None),
        ("POST", "/list/purge", Some(json!({"key": "there"}))),
    ]
}

fn call(client: &mut Client, (method, path, body): &(&'static str, &'static str, Option<Value>)) -> Response {
    let body = body.as_ref().map(Value::to_string).unwrap_or_default();
    client.call(method, path, &[], body.as_bytes())
}

fn prepare(client: &mut Client) {
    post(client, "/item/write", &json!({"key": "there", "value": 1})).expect(200);
    post(client, "/list/write", &json!({"key": "there", "values": ["a", "b"]})).expect(200);
}

#[test]
fn every_endpoint_serves_its_app_and_nobody_without_a_credential() {
    let node = node();
    let (mut all, mut reader) = app(&node, "endpoints");
    let mut other = node.stranger().with_token(&token::with_claims(&json!({
        "exp": token::now() + 60, "grants": ["kv:read", "kv:write"]
    })));
    for endpoint in endpoints() {
        prepare(&mut all);
        let refused = call(&mut node.stranger(), &endpoint);
        assert_eq!(refused.expect_field("WWW-Authenticate"), "Bearer");
        assert_eq!(code(refused, 401), "UNAUTHORIZED", "{endpoint:?}");
        assert_eq!(code(call(&mut other, &endpoint), 403), "FORBIDDEN", "{endpoint:?}");
        let read = call(&mut reader, &endpoint);
        if endpoint.0 == "GET" {
            read.expect(200);
        } else {
            assert_eq!(read.expect_field("X-Required-Grants"), "light:write");
            assert_eq!(code(read, 403), "FORBIDDEN", "{endpoint:?}");
        }
        let served = call(&mut all, &endpoint).expect(200);
        assert_eq!(served.expect_field("Content-Type"), "application/json");
        assert_eq!(served.json()["ok"], true, "{endpoint:?}");
    }
}

#[test]
fn what_is_absent_is_told_by_name_and_exists_is_never_404() {
    let node = node();
    let (mut client, _) = app(&node, "absence");
    for (method, path) in [("GET", "/item/read?key=foo"), ("DELETE", "/item/delete?key=foo")] {
        let absent = client.call(method, path, &[], b"").expect(404);
        assert_eq!(
            absent.text(),
            r#"{"ok":false,"error":{"code":"NOT_FOUND","message":"Key 'foo' not found"}}"#
        );
    }
    let lists =
        ["/list/read?key=foo", "/list/index?key=foo&value=1", "/list/count?key=foo", "/list/slice?key=foo"];
    let mut absent: Vec<Response> = lists.iter().map(|path| client.get(path)).collect();
    absent.push(post(&mut client, "/list/remove", &json!({"key": "foo", "values": [1]})));
    absent.push(post(&mut client, "/list/purge", &json!({"key": "foo"})));
    for response in absent {
        assert_eq!(
            response.expect(404).text(),
            r#"{"ok":false,"error":{"code":"NOT_FOUND","message":"List 'foo' not found"}}"#
        );
    }
    for path in ["/item/exists?key=foo", "/list/exists?key=foo", "/list/exists?key=foo&value=1"] {
        assert_eq!(data(client.get(path)), json!(false), "{path}");
    }
    assert_eq!(data(client.get("/item/keys")), json!([]));
    assert_eq!(data(client.get("/list/keys")), json!([]));
    assert_eq!(code(client.get("/item/none"), 404), "NOT_FOUND");
    let wrong = client.call("PUT", "/item/read?key=a", &[], b"");
    assert_eq!(wrong.expect_field("Allow"), "GET, HEAD, OPTIONS");
    assert_eq!(code(wrong, 405), "METHOD_NOT_ALLOWED");
}

#[test]
fn values_are_answered_as_they_came_whatever_primitive_they_are() {
    let node = node();
    let (mut client, _) = app(&node, "primitives");
    for value in [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "1.0",
        "1e400",
        "12345678901234567890123456789",
        "0.10",
        "\"\"",
        "\"é\"",
        r#""\u00e9\n\"\\""#,
        "\"a b\"",
        "-1.5E+3",
    ] {
        for body in [
            format!(r#"{{"key":"k","value":{value}}}"#),
            format!(" {{ \"value\" : {value} ,\n\"x\":[{{}}], \"key\" : \"\\u006b\" }} "),
        ] {
            let written = client.call("POST", "/item/write", &[], body.as_bytes()).expect(200).text();
            let expected = format!(r#"{{"ok":true,"data":{{"key":"k","value":{value}}}}}"#);
            assert_eq!(written, expected);
            assert_eq!(client.get("/item/read?key=k").expect(200).text(), expected);
        }
        assert_eq!(data(client.get("/item/exists?key=k")), json!(true), "an item holding {value} exists");
        let list = format!(r#"{{"key":"k","values":[ {value} , {value}]}}"#);
        assert_eq!(
            data(client.call("POST", "/list/write", &[], list.as_bytes())),
            json!({"key": "k", "count": 1})
        );
        let read = client.get("/list/read?key=k").expect(200).text();
        assert_eq!(read, format!(r#"{{"ok":true,"data":[{value}]}}"#));
    }
}

#[test]
fn keys_of_every_kind_come_back_and_items_and_lists_are_apart() {
    let node = node();
    let (mut client, _) = app(&node, "names");
    let long = "x".repeat(1_024);
    for key in ["a", "user:42:score", "é/ü", "a b+c&d=e%", "\"quoted\"\\", "\u{7f}\t", &long] {
        post(&mut client, "/item/write", &json!({"key": key, "value": "item"})).expect(200);
        let query = common::percent_encoded(key.as_bytes());
        assert_eq!(
            data(client.get(&format!("/item/read?key={query}"))),
            json!({"key": key, "value": "item"}),
            "{key}"
        );
        assert_eq!(data(client.get(&format!("/list/exists?key={query}"))), json!(false));
        post(&mut client, "/list/write", &json!({"key": key, "values": []})).expect(200);
        assert_eq!(data(client.get(&format!("/list/read?x=1&key={query}"))), json!([]));
        let gone = client.call("DELETE", &format!("/item/delete?key={query}"), &[], b"");
        assert_eq!(data(gone), json!({"key": key, "deleted": true}));
        assert_eq!(data(client.get(&format!("/list/exists?%6bey={query}"))), json!(true));
        assert_eq!(
            data(post(&mut client, "/list/purge", &json!({"key": key}))),
            json!({"key": key, "purged": true})
        );
    }
    post(&mut client, "/item/write", &json!({"key": "a b", "value": 1})).expect(200);
    assert_eq!(data(client.get("/item/read?key=a+b"))["value"], json!(1));
}

#[test]
fn bad_input_is_refused_in_the_envelope_and_stores_nothing() {
    let node = node();
    let (mut client, _) = app(&node, "bad input");
    let deep = format!("{{\"key\":\"k\",\"value\":1,\"x\":{}{}}}", "[".repeat(100), "]".repeat(100));
    let long = "k".repeat(1_025);
    let bodies = [
        ("", "INVALID_JSON"),
        ("nonsense", "INVALID_JSON"),
        ("[]", "INVALID_JSON"),
        ("{\"key\":\"k\",\"value\":01}", "INVALID_JSON"),
        ("{\"key\":\"k\",\"value\":\"\\ud800\"}", "INVALID_JSON"),
        ("{\"key\":\"k\",\"value\":1,\"values\":[1]", "INVALID_JSON"),
        (deep.as_str(), "INVALID_JSON"),
        ("key=k&value=1", "INVALID_JSON"),
        ("{}", "MISSING_PARAMETER"),
        ("{\"value\":1,\"values\":[1]}", "MISSING_PARAMETER"),
        ("{\"key\":\"k\"}", "MISSING_PARAMETER"),
        ("{\"key\":\"k\",\"value\":{},\"values\":{}}", "INVALID_VALUE"),
        ("{\"key\":\"k\",\"value\":[1],\"values\":[[1]]}", "INVALID_VALUE"),
        ("{\"key\":1,\"value\":1,\"values\":[1]}", "INVALID_PARAMETER"),
        ("{\"key\":null,\"value\":1,\"values\":[1]}", "INVALID_PARAMETER"),
        ("{\"key\":\"\",\"value\":1,\"values\":[1]}", "INVALID_PARAMETER"),
        ("{\"key\":\"k\",\"key\":\"k\",\"value\":1,\"values\":[1]}", "INVALID_PARAMETER"),
    ];
    for (body, expected) in bodies {
        for path in ["/item/write", "/list/write", "/list/add", "/list/remove"] {
            assert_eq!(code(client.call("POST", path, &[], body.as_bytes()), 400), expected, "{path} {body}");
        }
    }
    assert_eq!(
        code(client.call("POST", "/item/write", &[], b"{\"key\":\"\xff\",\"value\":1}"), 400),
        "INVALID_JSON"
    );
    for ttl in ["0", "-1", "1.5", "4294967296", "\"x\"", "\"\"", "true", "[1]", "{}"] {
        let body = format!("{{\"key\":\"k\",\"value\":1,\"values\":[],\"ttl\":{ttl}}}");
        for path in ["/item/write", "/list/write"] {
            let refused = client.call("POST", path, &[], body.as_bytes());
            assert_eq!(code(refused, 400), "INVALID_PARAMETER", "{path} {ttl}");
        }
    }
    let body = json!({"key": long, "value": 1, "values": []});
    assert_eq!(code(post(&mut client, "/item/write", &body), 400), "INVALID_PARAMETER");
    assert_eq!(code(post(&mut client, "/list/write", &body), 400), "INVALID_PARAMETER");
    let body = br#"{"key":"k","values":[1e9999999999999999999]}"#;
    assert_eq!(code(client.call("POST", "/list/add", &[], body), 400), "INVALID_VALUE");
    for path in ["/item/read", "/item/exists", "/list/read", "/list/count", "/list/exists", "/list/slice"] {
        for (query, expected) in [
            ("", "MISSING_PARAMETER"),
            ("?", "MISSING_PARAMETER"),
            ("?kez=1", "MISSING_PARAMETER"),
            ("?key", "INVALID_PARAMETER"),
            ("?key=", "INVALID_PARAMETER"),
            ("?key=a&key=a", "INVALID_PARAMETER"),
            ("?key=a&%6bey=a", "INVALID_PARAMETER"),
            ("?key=%zz", "INVALID_PARAMETER"),
            ("?key=%ff", "INVALID_PARAMETER"),
        ] {
            assert_eq!(code(client.get(&format!("{path}{query}")), 400), expected, "{path}{query}");
        }
        assert_eq!(code(client.get(&format!("{path}?key={long}")), 400), "INVALID_PARAMETER");
    }
    assert_eq!(code(client.get("/list/index?key=a"), 400), "MISSING_PARAMETER");
    for bound in ["x", "1.0", "", "-", "1e2", "+1", " 1"] {
        let bound = common::percent_encoded(bound.as_bytes());
        for query in [format!("start={bound}"), format!("end={bound}"), format!("start=0&end={bound}")] {
            let refused = client.get(&format!("/list/slice?key=a&{query}"));
            assert_eq!(code(refused, 400), "INVALID_PARAMETER", "{query}");
        }
    }
    for query in ["limit=0", "limit=1001", "limit=x", "cursor=!", "limit=1&limit=1"] {
        assert_eq!(code(client.get(&format!("/item/keys?{query}")), 400), "INVALID_PARAMETER", "{query}");
    }
    assert_eq!(data(client.get("/item/keys")), json!([]));
    assert_eq!(data(client.get("/list/keys")), json!([]));
}

#[test]
fn the_content_type_has_no_say() {
    let node = node();
    let (mut client, _) = app(&node, "types");
    for kind in
        ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", "nonsense"]
    {
        let body = json!({"key": kind, "values": [1]}).to_string();
        client.call("POST", "/list/add", &[("Content-Type", kind)], body.as_bytes()).expect(200);
    }
    assert_eq!(data(client.get("/list/keys")).as_array().unwrap().len(), 4);
}

#[test]
fn lists_keep_the_first_of_equal_values_and_their_order() {
    let node = node();
    let (mut client, _) = app(&node, "equality");
    let body = br#"{"key":"l","values":[1.0,"1",1,true,null,"\u0061","a",10e-1,false,"true",100,1e2,-0,0]}"#;
    assert_eq!(data(client.call("POST", "/list/write", &[], body))["count"], json!(9));
    let read = client.get("/list/read?key=l").expect(200).text();
    assert_eq!(read, r#"{"ok":true,"data":[1.0,"1",true,null,"\u0061",false,"true",100,-0]}"#);
    for (value, index) in [
        ("1", 1),       // the string first
        ("1.0", 0),     // no such string: the number
        ("%221%22", 1), // JSON says it is a string
        ("a", 4),
        ("true", 6),
        ("null", 3),
        ("0", 8),
        ("1e2", 7),
        ("2", -1),
        ("A", -1),
        ("", -1),
        ("%5B1%5D", -1),
    ] {
        assert_eq!(data(client.get(&format!("/list/index?key=l&value={value}"))), json!(index), "{value}");
        assert_eq!(
            data(client.get(&format!("/list/exists?key=l&value={value}"))),
            json!(index >= 0),
            "{value}"
        );
    }
    let added = client.call("POST", "/list/add", &[], br#"{"key":"l","values":["b",0.0,"b","c"]}"#);
    assert_eq!(data(added), json!({"key": "l", "added": 2, "count": 11}));
    let removed = client.call("POST", "/list/remove", &[], br#"{"key":"l","values":[1,1.0,"a","zz"]}"#);
    assert_eq!(data(removed), json!({"key": "l", "removed": 2, "count": 9}));
    let read = client.get("/list/read?key=l").expect(200).text();
    assert_eq!(read, r#"{"ok":true,"data":["1",true,null,false,"true",100,-0,"b","c"]}"#);
    assert_eq!(data(client.get("/list/count?key=l")), json!(9));
    assert_eq!(
        data(client.call("POST", "/list/add", &[], br#"{"key":"new","values":["x","x"]}"#)),
        json!({"key": "new", "added": 1, "count": 1})
    );
    assert_eq!(
        data(client.call("POST", "/list/remove", &[], br#"{"key":"new","values":["x"]}"#)),
        json!({"key": "new", "removed": 1, "count": 0})
    );
    assert_eq!(data(client.get("/list/exists?key=new")), json!(true), "an empty list exists");
}

#[test]
fn a_slice_is_inclusive_counts_from_the_end_and_is_cut_to_the_list() {
    let node = node();
    let (mut client, _) = app(&node, "slices");
    for count in [5_i64, 500] {
        let values: Vec<i64> = (0..count).collect();
        post(&mut client, "/list/write", &json!({"key": "l", "values": values})).expect(200);
        for (query, from, to) in [
            ("", 0, count),
            ("&start=0&end=0", 0, 1),
            ("&start=1&end=2", 1, 3),
            ("&start=-2", count - 2, count),
            ("&end=-2", 0, count - 1),
            ("&start=-3&end=-2", count - 3, count - 1),
            ("&start=3&end=1", 0, 0),
            ("&start=1000", 0, 0),
            ("&start=-1000&end=1", 0, 2),
            ("&end=-1000", 0, 0),
            ("&start=2&end=99999999999999999999999999", 2, count),
            ("&start=-99999999999999999999999999&end=0", 0, 1),
        ] {
            let expected: Vec<i64> = (from..to).collect();
            assert_eq!(data(client.get(&format!("/list/slice?key=l{query}"))), json!(expected), "{query}");
        }
    }
}

#[test]
fn items_and_lists_expire() {
    let node = node();
    let (mut client, _) = app(&node, "expiry");
    post(&mut client, "/item/write", &json!({"key": "k", "value": 1, "ttl": 1})).expect(200);
    post(&mut client, "/list/write", &json!({"key": "k", "values": [1], "ttl": "1"})).expect(200);
    let long: Vec<String> = (0..2_000).map(|number| format!("value {number}")).collect();
    post(&mut client, "/list/write", &json!({"key": "long", "values": long, "ttl": 1})).expect(200);
    // A change keeps the deadline, a write without one clears it.
    post(&mut client, "/list/add", &json!({"key": "k", "values": [2]})).expect(200);
    post(&mut client, "/list/add", &json!({"key": "long", "values": ["more"]})).expect(200);
    post(&mut client, "/item/write", &json!({"key": "stays", "value": 1, "ttl": 1})).expect(200);
    post(&mut client, "/item/write", &json!({"key": "stays", "value": 1, "ttl": null})).expect(200);
    let begun = std::time::Instant::now();
    while data(client.get("/item/exists?key=k")) == json!(true)
        || data(client.get("/list/exists?key=k")) == json!(true)
        || data(client.get("/list/exists?key=long")) == json!(true)
    {
        assert!(begun.elapsed().as_secs() < 10, "it should have expired");
    }
    assert_eq!(data(client.get("/item/exists?key=stays")), json!(true));
    assert_eq!(data(client.get("/list/keys")), json!([]));
}

#[test]
fn pages_of_keys_follow_each_other_by_the_fields_of_the_head() {
    let node = node();
    let (mut client, _) = app(&node, "pages");
    let mut names: Vec<String> = (0..250).map(|number| format!("a b&{}", number * 7 % 1_000)).collect();
    names.sort();
    for name in &names {
        post(&mut client, "/item/write", &json!({"key": name, "value": 1})).expect(200);
        post(&mut client, "/list/write", &json!({"key": name, "values": [1]})).expect(200);
    }
    for family in ["item", "list"] {
        assert_eq!(data(client.get(&format!("/{family}/keys"))), json!(names));
        let mut found = Vec::new();
        let mut next = format!("/{family}/keys?prefix=a+b%26&limit=100");
        loop {
            let page = client.get(&next);
            let cursor = page.field("X-Next-Cursor").map(str::to_owned);
            let link = page.field("Link").map(str::to_owned);
            found.extend(data(page).as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()));
            let (Some(cursor), Some(link)) = (&cursor, &link) else {
                assert_eq!((cursor, link), (None, None));
                break;
            };
            let target = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap();
            assert!(target.ends_with(cursor.as_str()), "{target} {cursor}");
            next = target.to_owned();
        }
        assert_eq!(found, names);
    }
}

#[test]
fn apps_do_not_see_each_other_and_other_credentials_name_the_app() {
    let node = node();
    let (mut one, _) = app(&node, "first app");
    let (mut two, _) = app(&node, "second app");
    let mut root = node.client();
    post(&mut one, "/item/write", &json!({"key": "k", "value": "first"})).expect(200);
    post(&mut two, "/item/write", &json!({"key": "k", "value": "second"})).expect(200);
    assert_eq!(data(one.get("/item/read?key=k"))["value"], "first");
    assert_eq!(code(root.get("/item/read?key=k"), 404), "NOT_FOUND", "that is the default app");
    let read = |root: &mut Client, app: &str| root.call("GET", "/item/read?key=k", &[("X-App", app)], b"");
    assert_eq!(data(read(&mut root, "first app"))["value"], "first");
    assert_eq!(data(read(&mut root, "second app"))["value"], "second");
    assert_eq!(code(read(&mut root, "third app"), 404), "NOT_FOUND");
    let apps = data(root.get("/apps"));
    let second = apps.as_array().unwrap().iter().find(|app| app["name"] == "second app").unwrap();
    let id = second["id"].as_str().unwrap().to_owned();
    assert_eq!(data(read(&mut root, &id))["value"], "second");
    let named = [("X-App", "default")];
    root.call("POST", "/item/write", &named, br#"{"key":"k","value":"default"}"#).expect(200);
    root.call("POST", "/list/add", &named, br#"{"key":"k","values":["default"]}"#).expect(200);
    assert_eq!(data(root.get("/item/read?key=k"))["value"], "default");
    assert_eq!(data(root.get("/list/read?key=k")), json!(["default"]));
    // An app's own token is for that app, whatever the field says.
    assert_eq!(data(one.call("GET", "/item/read?key=k", &named, b""))["value"], "first");
    root.call("DELETE", &format!("/apps/{id}"), &[], b"").expect(200);
    assert_eq!(code(two.get("/item/read?key=k"), 401), "UNAUTHORIZED");
    assert_eq!(code(read(&mut root, "second app"), 404), "NOT_FOUND");
    root.call("DELETE", "/item/delete?key=k", &named, b"").expect(200);
    post(&mut root, "/list/purge", &json!({"key": "k"})).expect(200);
}

#[test]
fn head_goes_where_get_goes() {
    let node = node();
    let (mut client, _) = app(&node, "heads");
    prepare(&mut client);
    for endpoint in endpoints().iter().filter(|endpoint| endpoint.0 == "GET") {
        let length = client.get(endpoint.1).expect(200).body.len() as u64;
        let head = client.call("HEAD", endpoint.1, &[], b"").expect(200);
        assert_eq!((head.content_length(), head.body.len()), (Some(length), 0), "{endpoint:?}");
    }
}
