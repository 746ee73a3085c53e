//! Pipelines of many mixed requests against a model: every answer right, in order.

mod common;

use common::{Client, Node, Random, Response, chunked, kv};
use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Write};

/// What a key holds.
#[derive(Clone, PartialEq, Debug)]
struct Entry {
    value: Vec<u8>,
    content_type: &'static str,
    locked: bool,
}

/// What the answer must be.
struct Expected {
    method: &'static str,
    status: u16,
    body: Option<Vec<u8>>,
    content_type: Option<&'static str>,
    length: Option<usize>,
    /// What a listing names.
    names: Option<BTreeSet<String>>,
    /// The status of a batch's one result.
    result: Option<u16>,
}

const CREATED: &str = r#"{"message":"The specified key was successfully created."}"#;
const UPDATED: &str = r#"{"message":"The specified key was successfully updated."}"#;
const DELETED: &str = r#"{"message":"The specified key and its data was successfully deleted."}"#;

/// The keys of one connection, as they should be.
struct Model {
    keys: HashMap<String, Entry>,
    names: Vec<String>,
    /// With listings and batches, which look at many keys, wherever they live.
    wide: bool,
}

impl Model {
    /// Appends a random request to `stream` and says what must come of it.
    fn step(&mut self, client: &Client, random: &mut Random, stream: &mut Vec<u8>) -> Expected {
        let name = random.pick(&self.names).clone();
        let path = kv(&name);
        let held = self.keys.get(&name).cloned();
        let answer = |method, status, body: Option<&str>| Expected {
            method,
            status,
            body: body.map(|body| body.as_bytes().to_vec()),
            content_type: body.map(|_| "application/json"),
            length: None,
            names: None,
            result: None,
        };
        match random.below(if self.wide { 20 } else { 18 }) {
            0..6 => {
                stream.extend(client.compose("GET", &path, &[], b""));
                match held {
                    None => answer("GET", 404, None),
                    Some(entry) => Expected {
                        method: "GET",
                        status: 200,
                        names: None,
                        result: None,
                        content_type: Some(entry.content_type),
                        length: Some(entry.value.len()),
                        body: Some(entry.value),
                    },
                }
            }
            6..8 => {
                stream.extend(client.compose("HEAD", &path, &[], b""));
                match held {
                    None => answer("HEAD", 404, None),
                    Some(entry) => Expected {
                        method: "HEAD",
                        status: 200,
                        names: None,
                        result: None,
                        content_type: Some(entry.content_type),
                        length: Some(entry.value.len()),
                        body: Some(Vec::new()),
                    },
                }
            }
            8..13 => {
                let size = *random.pick(&[0, 1, 3, 20, 64, 300, 1_000, 5_000, 9_000, 40_000, 70_000]);
                let value = if random.below(3) == 0 {
                    random.below(1_000).to_string().into_bytes()
                } else {
                    random.bytes(size)
                };
                let content_type = *random.pick(&["text/plain", "application/json", "image/png", "x/y; z=1"]);
                let entry = Entry { value: value.clone(), content_type, locked: false };
                if random.below(2) == 0 {
                    stream.extend(client.compose("PUT", &path, &[("Content-Type", content_type)], &value));
                } else {
                    let fields = [("Content-Type", content_type), ("Transfer-Encoding", "chunked")];
                    stream.extend(client.compose(
                        "PUT",
                        &path,
                        &fields,
                        &chunked(&value, 1 + random.below(3_000)),
                    ));
                }
                match held {
                    Some(Entry { locked: true, .. }) => answer("PUT", 409, None),
                    Some(_) => {
                        self.keys.insert(name, entry);
                        answer("PUT", 200, Some(UPDATED))
                    }
                    None => {
                        self.keys.insert(name, entry);
                        answer("PUT", 201, Some(CREATED))
                    }
                }
            }
            13..15 => {
                stream.extend(client.compose("DELETE", &path, &[], b""));
                match held {
                    None => answer("DELETE", 404, None),
                    Some(Entry { locked: true, .. }) => answer("DELETE", 409, None),
                    Some(_) => {
                        self.keys.remove(&name);
                        answer("DELETE", 200, Some(DELETED))
                    }
                }
            }
            15..17 => {
                stream.extend(client.compose("PATCH", &path, &[], b"increment"));
                let Some(entry) = held else { return answer("PATCH", 404, None) };
                if entry.locked {
                    return answer("PATCH", 409, None);
                }
                let number = std::str::from_utf8(&entry.value).ok().filter(|text| {
                    !text.is_empty() && text.len() < 10 && text.bytes().all(|byte| byte.is_ascii_digit())
                });
                let Some(number) = number.and_then(|text| text.parse::<u64>().ok()) else {
                    return answer("PATCH", 400, None);
                };
                self.keys.get_mut(&name).unwrap().value = (number + 1).to_string().into_bytes();
                let message = "The specified key was successfully incremented.";
                answer("PATCH", 200, Some(&format!(r#"{{"message":"{message}","value":{}}}"#, number + 1)))
            }
            17 => {
                let operation = *random.pick(&["lock", "unlock"]);
                stream.extend(client.compose("PATCH", &path, &[], operation.as_bytes()));
                let Some(entry) = self.keys.get_mut(&name) else { return answer("PATCH", 404, None) };
                if entry.locked == (operation == "lock") {
                    return answer("PATCH", 409, None);
                }
                entry.locked = !entry.locked;
                let message = format!(r#"{{"message":"The specified key was successfully {operation}ed."}}"#);
                answer("PATCH", 200, Some(&message))
            }
            18 if random.below(2) == 0 => {
                stream.extend(client.compose("GET", "/nowhere", &[], b""));
                answer("GET", 404, None)
            }
            18 => {
                let prefix = &name[..name.rfind('-').unwrap() + 1];
                stream.extend(client.compose("GET", &format!("/api/kv?prefix={prefix}"), &[], b""));
                Expected { names: Some(self.keys.keys().cloned().collect()), ..answer("GET", 200, None) }
            }
            _ => {
                let operations = format!(r#"[{{"op":"get","key":"{name}"}}]"#);
                stream.extend(client.compose("POST", "/api/kv/batch", &[], operations.as_bytes()));
                let status = if held.is_some() { 200 } else { 404 };
                Expected { result: Some(status), ..answer("POST", 200, None) }
            }
        }
    }
}

fn check(answer: &Response, expected: &Expected) {
    assert_eq!(answer.status, expected.status, "{}: {answer}", expected.method);
    if let Some(body) = &expected.body {
        assert!(&answer.body == body, "{} has another body: {answer}", expected.method);
    }
    if let Some(content_type) = expected.content_type {
        assert_eq!(answer.field("content-type"), Some(content_type), "{answer}");
    }
    if let Some(length) = expected.length {
        assert_eq!(answer.content_length(), Some(length as u64), "{answer}");
    }
    if let Some(names) = &expected.names {
        let json = answer.json();
        let listed: Vec<_> = json["keys"].as_array().unwrap().iter().map(|key| &key["name"]).collect();
        assert_eq!(listed, names.iter().collect::<Vec<_>>(), "{answer}");
    }
    if let Some(status) = expected.result {
        assert_eq!(answer.json()["results"][0]["status"], status, "{answer}");
    }
    assert!(!answer.closes(), "{answer}");
}

/// Sends pipelines of 1 to 64 and more requests, each at once, while their answers are read and checked.
fn run(node: &Node, random: &mut Random, id: usize, rounds: usize, wide: bool) {
    let mut client = node.client();
    let names = (0..12).map(|at| format!("pipeline-{id}-{at}")).collect();
    let mut model = Model { keys: HashMap::new(), names, wide };
    for round in 0..rounds {
        // Every depth up to 64, then any, deeper than what a node may queue for a connection.
        let count = if round < 64 { round + 1 } else { 1 + random.below(300) };
        let mut stream = Vec::new();
        let expected: Vec<_> = (0..count).map(|_| model.step(&client, random, &mut stream)).collect();
        // A thread of its own for writing: a node that waits for its answers to be read stops reading.
        let mut writer = client.stream().try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || writer.write_all(&stream).unwrap());
            for expected in &expected {
                check(&client.response_to(expected.method), expected);
            }
        });
    }
    for (name, entry) in &model.keys {
        assert!(client.get(&kv(name)).expect(200).body == entry.value, "{name}");
    }
}

#[test]
fn pipelines_of_1_to_64_mixed_requests_on_one_worker() {
    let node = Node::start(|_| {});
    run(&node, &mut Random::seeded(51), 0, 160, true);
}

/// Three connections with pipelines at a time, on two workers.
fn run_on_two_workers(seed: u64, wide: bool) {
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let mut random = Random::seeded(seed);
    std::thread::scope(|scope| {
        for id in 0..3 {
            let (node, mut random) = (&node, random.fork());
            scope.spawn(move || run(node, &mut random, id, 100, wide));
        }
    });
}

#[test]
fn pipelines_of_1_to_64_mixed_requests_on_two_workers() {
    run_on_two_workers(52, false);
}

#[test]
fn listings_and_batches_see_what_was_asked_before_them_and_nothing_that_was_asked_behind() {
    run_on_two_workers(54, true);
}

#[test]
fn a_thousand_gets_in_one_write_are_all_answered() {
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let mut client = node.client();
    for at in 0..100 {
        client.put(&kv(format!("deep-{at}")), format!("value {at}"));
    }
    let mut stream = Vec::new();
    for at in 0..5_000 {
        stream.extend(client.compose("GET", &kv(format!("deep-{}", at % 100)), &[], b""));
    }
    let mut writer = client.stream().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(&stream).unwrap());
        for at in 0..5_000 {
            assert_eq!(client.response().expect(200).text(), format!("value {}", at % 100));
        }
    });
}

#[test]
fn small_puts_in_one_write_are_all_answered_however_many() {
    for workers in [1, 2] {
        let node = Node::start(|setup| {
            setup.workers(workers);
        });
        let mut client = node.client();
        for count in (1..=140).chain([500, 1_000]) {
            let mut stream = Vec::new();
            for at in 0..count {
                stream.extend(client.compose("PUT", &kv(format!("small-{at}")), &[], b"v"));
            }
            client.send(&stream);
            for at in 0..count {
                let put = client.response();
                assert!([200, 201].contains(&put.status), "{at} of {count}: {put}");
            }
        }
    }
}

/// What a client reads at once may be several writes of the node, but never less than one.
#[test]
fn writes_of_keys_on_both_cores_are_answered_with_one_write() {
    const PUTS: usize = 64;
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let client = node.client();
    let mut stream = Vec::new();
    for at in 0..PUTS {
        stream.extend(client.compose("PUT", &kv(format!("gathered-{at}")), &[], b"v"));
    }
    let mut socket = client.stream().try_clone().unwrap();
    let mut room = vec![0; 64 * 1_024];
    for round in 0..20 {
        socket.write_all(&stream).unwrap();
        let (mut answers, mut reads) = (Vec::new(), 0);
        while count(&answers, b"HTTP/1.1 20") < PUTS || !answers.ends_with(b"}") {
            let length = socket.read(&mut room).unwrap();
            assert!(length > 0, "closed in round {round}");
            answers.extend_from_slice(&room[..length]);
            reads += 1;
        }
        assert!(reads <= 2, "{reads} reads in round {round}");
    }
}

fn count(bytes: &[u8], needle: &[u8]) -> usize {
    bytes.windows(needle.len()).filter(|window| *window == needle).count()
}

#[test]
fn a_client_that_reads_late_gets_every_answer_in_order() {
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let mut client = node.client();
    let values: Vec<_> = [10, 5_000, 64 * 1024, 70_000, 1_000_000].map(|size| vec![b'0'; size]).into();
    for (at, value) in values.iter().enumerate() {
        client.put(&kv(format!("late-{at}")), value).expect(201);
    }
    let mut random = Random::seeded(53);
    let asked: Vec<_> = (0..1_500).map(|_| random.below(values.len())).collect();
    let mut stream = Vec::new();
    for at in &asked {
        stream.extend(client.compose("GET", &kv(format!("late-{at}")), &[], b""));
    }
    let mut writer = client.stream().try_clone().unwrap();
    std::thread::scope(|scope| {
        let (sender, progress) = std::sync::mpsc::channel();
        scope.spawn(move || {
            for part in stream.chunks(5_000) {
                writer.write_all(part).unwrap();
                let _ = sender.send(());
            }
        });
        // Reads nothing until the node has stopped to take requests, or has taken all.
        while progress.recv_timeout(std::time::Duration::from_millis(300)).is_ok() {}
        for at in asked {
            assert!(client.response().expect(200).body == values[at]);
        }
    });
}

#[test]
fn what_follows_a_close_is_not_served() {
    let node = Node::start(|_| {});
    let mut client = node.client();
    client.put(&kv("kept"), "x");
    let mut stream = client.compose("GET", &kv("kept"), &[("Connection", "close")], b"");
    stream.extend(client.compose("DELETE", &kv("kept"), &[], b""));
    client.send(&stream);
    let got = client.response().expect(200);
    assert!(got.closes(), "{got}");
    client.expect_close();
    node.client().get(&kv("kept")).expect(200);
}

#[test]
fn the_last_answer_is_whole_although_the_client_goes_on_sending() {
    let node = Node::start(|_| {});
    let mut client = node.client();
    let value = vec![b'v'; 7_000_000];
    client.put(&kv("last"), &value).expect(201);
    let mut bytes = client.compose("GET", &kv("last"), &[("Connection", "close")], b"");
    // More than the node reads along with the request.
    bytes.extend(client.compose("GET", "/livez", &[], b"").repeat(2_000));
    client.send(&bytes);
    assert!(client.response().expect(200).body == value);
    client.expect_orderly_close();
}

#[test]
fn a_body_is_read_at_every_place_in_a_pipeline() {
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    // Around the number of requests that a connection may have under way, and twice that.
    for before in [0, 1, 31, 61, 62, 63, 64, 65, 125, 126, 127, 128] {
        let mut client = node.client();
        let mut bytes = client.compose("GET", "/livez", &[], b"").repeat(before);
        bytes.extend(client.compose("PUT", &kv("place"), &[], b"served"));
        bytes.extend(node.stranger().compose("PUT", &kv("place"), &[], b"refused"));
        bytes.extend(client.compose("GET", &kv("place"), &[], b""));
        client.send(&bytes);
        client.set_patience(std::time::Duration::from_secs(5));
        for _ in 0..before {
            client.response().expect(200);
        }
        let put = client.response();
        assert!([200, 201].contains(&put.status), "behind {before}: {put}");
        client.response().expect(401);
        assert_eq!(client.response().expect(200).body, b"served");
    }
}

#[test]
fn whoever_has_sent_all_its_requests_is_answered_all_of_them() {
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    for count in [1, 63, 64, 65, 100, 128, 300] {
        let mut client = node.stranger();
        // Held back, the requests travel with the end.
        socket2::SockRef::from(client.stream()).set_tcp_cork(true).unwrap();
        client.send(&client.compose("GET", "/livez", &[], b"").repeat(count));
        client.finish_sending();
        for _ in 0..count {
            client.response().expect(200);
        }
        client.expect_orderly_close();
    }
}

#[test]
fn a_refusal_behind_writes_on_other_cores_is_answered() {
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    // Whichever cores own the keys, some of the pairs lie on two.
    for pair in 0..20 {
        let mut client = node.client();
        client.set_patience(std::time::Duration::from_secs(5));
        let mut bytes = client.compose("PUT", &kv(format!("first-{pair}")), &[], b"x");
        bytes.extend(client.compose("PUT", &kv(format!("second-{pair}")), &[("X-TTL", "0")], b"x"));
        bytes.extend(client.compose("GET", "/livez", &[], b""));
        client.send(&bytes);
        client.response().expect(201);
        client.response().expect(400);
        client.response().expect(200);
    }
}
