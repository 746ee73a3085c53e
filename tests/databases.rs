//! `/controller` and `/database` over a socket: what succeeds, what is absent, what is bad input, and who may.

mod common;

use std::sync::Arc;

use common::{Client, Node, Response, Shared, percent_encoded};
use serde_json::{Value, json};

static NODE: Shared = Shared::new();

const PASSWORD: &str = "correct horse battery";

fn node() -> Arc<Node> {
    NODE.node(|setup| {
        setup.workers(2).set("databases.password", PASSWORD);
    })
}

fn basic(password: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!(":{password}")))
}

/// A client that knows the password.
fn client(node: &Node) -> Client {
    node.stranger().with_authorization(basic(PASSWORD))
}

type Fields<'a> = &'a [(&'a str, &'a str)];

fn form(fields: Fields) -> String {
    let pair = |(name, value): &(&str, &str)| format!("{name}={}", percent_encoded(value.as_bytes()));
    fields.iter().map(pair).collect::<Vec<_>>().join("&")
}

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

#[track_caller]
fn post(client: &mut Client, path: &str, fields: Fields) -> Response {
    client.call("POST", path, &[FORM], form(fields).as_bytes())
}

#[track_caller]
fn post_json(client: &mut Client, path: &str, body: &Value) -> Response {
    client.call("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
}

/// A success in words.
#[track_caller]
fn said(response: Response) -> String {
    let response = response.expect(200);
    assert_eq!(response.expect_field("Content-Type"), "text/plain; charset=utf-8");
    response.text().to_owned()
}

/// A success in JSON.
#[track_caller]
fn told(response: Response) -> Value {
    let response = response.expect(200);
    assert_eq!(response.expect_field("Content-Type"), "application/json");
    response.json()
}

#[track_caller]
fn set(client: &mut Client, database: &str, key: &str, value: &str) {
    let fields = [("database_name", database), ("key", key), ("value", value)];
    assert_eq!(said(post(client, "/controller/set", &fields)), "Data set successfully");
}

#[track_caller]
fn get(client: &mut Client, database: &str, key: &str) -> Value {
    told(post(client, "/controller/get", &[("database_name", database), ("key", key)]))
}

#[track_caller]
fn all(client: &mut Client, database: &str) -> Value {
    told(post(client, "/controller/get_all", &[("database_name", database)]))
}

fn names(client: &mut Client) -> Vec<String> {
    let list = told(client.get("/database/list"));
    list.as_object().expect("an object").keys().cloned().collect()
}

#[test]
fn what_is_set_is_read_by_every_form_of_body_on_every_core() {
    let node = node();
    let mut clients: Vec<Client> = (0..6).map(|_| client(&node)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        set(client, "forms", &format!("key {number}"), "a+b&c=d é%");
    }
    for client in &mut clients {
        for number in 0..6 {
            let key = format!("key {number}");
            assert_eq!(get(client, "forms", &key), "a+b&c=d é%");
            let body = json!({"database_name": "forms", "key": key});
            assert_eq!(told(post_json(client, "/controller/get", &body)), "a+b&c=d é%");
            let multipart = format!(
                "--x\r\nContent-Disposition: form-data; name=\"database_name\"\r\n\r\nforms\r\n--x\r\n\
                 Content-Disposition: form-data; name=\"key\"\r\n\r\n{key}\r\n--x--\r\n"
            );
            let typed = [("Content-Type", "multipart/form-data; boundary=x")];
            let read = client.call("POST", "/controller/get", &typed, multipart.as_bytes());
            assert_eq!(told(read), "a+b&c=d é%");
        }
    }
    let everything = all(&mut clients[0], "forms");
    assert_eq!(everything.as_object().expect("an object").len(), 6);
}

#[test]
fn an_absent_key_is_null_an_absent_database_404_and_reading_makes_none() {
    let node = node();
    let mut client = client(&node);
    set(&mut client, "absence", "there", "v");
    assert_eq!(get(&mut client, "absence", "not there"), Value::Null);
    let gone = [("database_name", "absence"), ("key", "not there")];
    for _ in 0..2 {
        assert_eq!(said(post(&mut client, "/controller/delete", &gone)), "Data deleted successfully");
    }
    let nowhere = [("database_name", "nowhere"), ("key", "k"), ("new_database_name", "elsewhere")];
    for path in [
        "/controller/get",
        "/controller/get_all",
        "/controller/delete",
        "/database/pop",
        "/database/rename",
        "/database/delete",
    ] {
        let refused = post(&mut client, path, &nowhere).expect(404);
        assert_eq!(refused.text(), "There is no such database.", "{path}");
        assert_eq!(refused.expect_field("Content-Type"), "text/plain; charset=utf-8");
    }
    assert!(!names(&mut client).iter().any(|name| name == "nowhere"));
}

#[test]
fn popped_databases_stay_and_deleted_ones_go() {
    let node = node();
    let mut client = client(&node);
    set(&mut client, "popped", "k", "v");
    let popped = [("database_name", "popped")];
    assert_eq!(said(post(&mut client, "/database/pop", &popped)), "Database popped successfully");
    assert_eq!(all(&mut client, "popped"), json!({}));
    assert!(names(&mut client).iter().any(|name| name == "popped"));
    set(&mut client, "popped", "k", "again");
    assert_eq!(said(post(&mut client, "/database/delete", &popped)), "Database deleted successfully");
    assert!(!names(&mut client).iter().any(|name| name == "popped"));
    post(&mut client, "/controller/get_all", &popped).expect(404);
    set(&mut client, "popped", "other", "v");
    assert_eq!(all(&mut client, "popped"), json!({"other": "v"}), "nothing of what was there is back");
}

#[test]
fn a_renamed_database_has_all_that_it_had() {
    let node = node();
    let mut client = client(&node);
    for number in 0..50 {
        set(&mut client, "before", &format!("k{number}"), "v");
    }
    set(&mut client, "taken", "k", "its own");
    let rename = |from, to| [("database_name", from), ("new_database_name", to)];
    let taken = post(&mut client, "/database/rename", &rename("before", "taken")).expect(409);
    assert_eq!(taken.text(), "Another database has this name.");
    let done = said(post(&mut client, "/database/rename", &rename("before", "after")));
    assert_eq!(done, "Database renamed successfully");
    assert_eq!(all(&mut client, "after").as_object().expect("an object").len(), 50);
    assert_eq!(all(&mut client, "taken"), json!({"k": "its own"}));
    post(&mut client, "/controller/get_all", &rename("before", "")).expect(404);
    let listed = told(client.get("/database/list"));
    let leaf = listed["after"].as_str().expect("a name");
    assert_eq!((leaf.len(), &leaf[..4]), (68, "KOT-"));
}

/// What runs against databases that come, go and change their names.
#[test]
fn nothing_written_before_a_database_was_dropped_is_in_the_one_that_follows_it() {
    let node = node();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let is_over = || stop.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let mut client = client(&node);
            let is_over = &is_over;
            scope.spawn(move || {
                for number in 0.. {
                    if is_over() {
                        return;
                    }
                    let key = format!("{writer}-{number}");
                    let fields = [("database_name", "churn"), ("key", &*key), ("value", "v")];
                    // It may be dropped between being made and being written to.
                    assert!(matches!(post(&mut client, "/controller/set", &fields).status, 200 | 404));
                    let read = post(&mut client, "/controller/get", &fields[..2]);
                    assert!(matches!(read.status, 200 | 404));
                }
            });
        }
        let mut client = client(&node);
        for round in 0..300 {
            let other = format!("churn {round}");
            let rename = [("database_name", "churn"), ("new_database_name", &*other)];
            match round % 3 {
                0 => post(&mut client, "/database/delete", &rename[..1]),
                1 => post(&mut client, "/database/pop", &rename[..1]),
                _ => post(&mut client, "/database/rename", &rename),
            };
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let mut clients: Vec<Client> = (0..4).map(|_| client(&node)).collect();
    post(&mut clients[0], "/database/delete", &[("database_name", "churn")]);
    set(&mut clients[1], "churn", "new", "v");
    for client in &mut clients {
        assert_eq!(all(client, "churn"), json!({"new": "v"}));
    }
    for name in names(&mut clients[0]).iter().filter(|name| name.starts_with("churn")) {
        said(post(&mut clients[2], "/database/delete", &[("database_name", name)]));
    }
    assert!(!names(&mut clients[3]).iter().any(|name| name.starts_with("churn")));
}

#[test]
fn many_databases_are_made_listed_emptied_and_dropped_and_a_name_of_each_is_its_own() {
    let node = Node::start(|setup| {
        setup.workers(2).set("databases.password", PASSWORD);
    });
    let mut clients: Vec<Client> = (0..4).map(|_| client(&node)).collect();
    for number in 0..1_000 {
        set(&mut clients[number % 4], &format!("database {number}"), "k", &number.to_string());
    }
    for client in &mut clients {
        assert_eq!(names(client).len(), 1_000);
    }
    for number in (0..1_000).step_by(7) {
        let value = get(&mut clients[number % 4], &format!("database {number}"), "k");
        assert_eq!(value, number.to_string());
    }
    let popped = said(clients[1].call("POST", "/database/pop_all", &[], b""));
    assert_eq!(popped, "All database popped successfully");
    assert_eq!(names(&mut clients[2]).len(), 1_000);
    assert_eq!(all(&mut clients[3], "database 7"), json!({}));
    set(&mut clients[3], "database 7", "k", "again");
    let dropped = said(clients[0].call("POST", "/database/delete_all", &[], b""));
    assert_eq!(dropped, "All database deleted successfully");
    for client in &mut clients {
        assert_eq!(told(client.get("/database/list")), json!({}));
        post(client, "/controller/get", &[("database_name", "database 7"), ("key", "k")]).expect(404);
    }
}

#[test]
fn two_that_make_the_same_database_make_one() {
    let node = node();
    for round in 0..50 {
        let name = format!("both {round}");
        std::thread::scope(|scope| {
            for key in ["a", "b", "c", "d"] {
                let (mut client, name) = (client(&node), &name);
                scope.spawn(move || set(&mut client, name, key, "v"));
            }
        });
        let mut client = client(&node);
        assert_eq!(all(&mut client, &name).as_object().expect("an object").len(), 4);
        said(post(&mut client, "/database/delete", &[("database_name", &name)]));
    }
}
