//! Random calls on `/item` and `/list` against a plain model: two workers, several connections, two apps,
//! and every answer as the model has it. `LIGHT_MODEL_CALLS` asks for more than the usual number of calls.

mod common;

use std::collections::BTreeMap;

use common::{Client, Node, Random, Response, percent_encoded};
use serde_json::{Value, json};

const CONNECTIONS: usize = 6;
const KEYS: usize = 24;

/// How many values there are, each with several texts.
const VALUES: usize = 6_000;

/// A text of a value. All texts of a value are equal, and no two values are.
fn text_of(value: usize, random: &mut Random) -> String {
    let number = value / 3;
    match (value % 3, random.below(4)) {
        (0, 0 | 1) => format!("{number}"),
        (0, 2) => format!("{number}.00"),
        (0, _) => format!("{}e-1", number * 10),
        (1, 0..=2) => format!("\"{number}\""),
        (1, _) => format!(
            "\"{}\"",
            number.to_string().chars().map(|c| format!("\\u{:04x}", c as u32)).collect::<String>()
        ),
        (_, 0..=2) => format!("\"é {number}\""),
        _ => format!("\"\\u00e9 {number}\""),
    }
}

/// What is put into a query to ask for a value, and the one that is meant when there is no such string.
fn query_of(value: usize, random: &mut Random) -> (String, usize) {
    match value % 3 {
        0 => (format!("{}.0", value / 3), value),
        // Digits are a string first, and else a number.
        1 if random.below(2) == 0 => (format!("{}", value / 3), value - 1),
        1 => (format!("\"{}\"", value / 3), value),
        _ => (format!("é {}", value / 3), value),
    }
}

#[derive(Default)]
struct Model {
    items: BTreeMap<String, String>,
    /// Each value with its text.
    lists: BTreeMap<String, Vec<(usize, String)>>,
}

struct App {
    token: String,
    model: Model,
}

fn key_of(random: &mut Random) -> String {
    let number = random.below(KEYS);
    ["k", "user:", "é/", "a b&"][number % 4].to_owned() + &number.to_string()
}

fn values(random: &mut Random, count: usize) -> Vec<(usize, String)> {
    let first = random.below(VALUES);
    let step = 1 + random.below(3);
    (0..count)
        .map(|at| {
            let value =
                if random.below(8) == 0 { random.below(VALUES) } else { (first + at * step) % VALUES };
            (value, text_of(value, random))
        })
        .collect()
}

fn count_of(random: &mut Random) -> usize {
    match random.below(40) {
        0 => random.below(4_000),
        1..=5 => random.below(300),
        _ => random.below(6),
    }
}

fn array(values: &[(usize, String)]) -> String {
    let texts: Vec<&str> = values.iter().map(|(_, text)| text.as_str()).collect();
    format!("[{}]", texts.join(","))
}

fn success(data: impl std::fmt::Display) -> (u16, String) {
    (200, format!("{{\"ok\":true,\"data\":{data}}}"))
}

fn absent(kind: &str, key: &str) -> (u16, String) {
    let message = json!(format!("{kind} '{key}' not found"));
    (404, format!("{{\"ok\":false,\"error\":{{\"code\":\"NOT_FOUND\",\"message\":{message}}}}}"))
}

/// A call: method, target and body; and what is answered.
type Call = (&'static str, String, String, (u16, String));

impl Model {
    fn call(&mut self, random: &mut Random) -> Call {
        let key = key_of(random);
        let (query, quoted) = (percent_encoded(key.as_bytes()), json!(key).to_string());
        if random.below(5) < 2 {
            return self.call_item(random, key, &query, &quoted);
        }
        let held = self.lists.get(&key).map(Vec::as_slice);
        let absent_list = || absent("List", &key);
        match random.below(14) {
            0 | 1 => {
                let count = count_of(random);
                let values = values(random, count);
                let mut kept: Vec<(usize, String)> = Vec::new();
                add(&mut kept, &values);
                let answer = success(format!("{{\"key\":{quoted},\"count\":{}}}", kept.len()));
                self.lists.insert(key, kept);
                (
                    "POST",
                    "/list/write".into(),
                    format!("{{\"key\":{quoted},\"values\":{}}}", array(&values)),
                    answer,
                )
            }
            2..=4 => {
                let count = count_of(random);
                let values = values(random, count);
                let list = self.lists.entry(key).or_default();
                let added = add(list, &values);
                let answer =
                    success(format!("{{\"key\":{quoted},\"added\":{added},\"count\":{}}}", list.len()));
                (
                    "POST",
                    "/list/add".into(),
                    format!("{{\"values\":{},\"key\":{quoted}}}", array(&values)),
                    answer,
                )
            }
            5 | 6 => {
                let count = count_of(random);
                let values = values(random, count);
                let answer = match self.lists.get_mut(&key) {
                    None => absent_list(),
                    Some(list) => {
                        let before = list.len();
                        let gone: std::collections::HashSet<usize> =
                            values.iter().map(|(value, _)| *value).collect();
                        list.retain(|(value, _)| !gone.contains(value));
                        let removed = before - list.len();
                        success(format!(
                            "{{\"key\":{quoted},\"removed\":{removed},\"count\":{}}}",
                            list.len()
                        ))
                    }
                };
                (
                    "POST",
                    "/list/remove".into(),
                    format!("{{\"key\":{quoted},\"values\":{}}}", array(&values)),
                    answer,
                )
            }
            7 => {
                let answer = match self.lists.remove(&key) {
                    None => absent_list(),
                    Some(_) => success(format!("{{\"key\":{quoted},\"purged\":true}}")),
                };
                ("POST", "/list/purge".into(), format!("{{\"key\":{quoted}}}"), answer)
            }
            8 => (
                "GET",
                format!("/list/read?key={query}"),
                String::new(),
                held.map_or_else(absent_list, |list| success(array(list))),
            ),
            9 => (
                "GET",
                format!("/list/count?key={query}"),
                String::new(),
                held.map_or_else(absent_list, |list| success(list.len())),
            ),
            10 | 11 => {
                let value = match held {
                    Some([..]) if random.below(2) == 0 && held.is_some_and(|list| !list.is_empty()) => {
                        random.pick(held.unwrap()).0
                    }
                    _ => random.below(VALUES),
                };
                let (asked, or_else) = query_of(value, random);
                let index = held.map(|list| {
                    let of = |value: usize| list.iter().position(|(own, _)| *own == value);
                    of(value).or_else(|| of(or_else))
                });
                let asked = percent_encoded(asked.as_bytes());
                if random.below(2) == 0 {
                    let answer =
                        index.map_or_else(absent_list, |index| success(index.map_or(-1, |at| at as i64)));
                    ("GET", format!("/list/index?value={asked}&key={query}"), String::new(), answer)
                } else {
                    let answer = success(index.flatten().is_some());
                    ("GET", format!("/list/exists?key={query}&value={asked}"), String::new(), answer)
                }
            }
            12 => {
                let length = held.map_or(0, <[_]>::len) as i64;
                let bound = |random: &mut Random| random.below(2 * length as usize + 3) as i64 - length - 1;
                let (start, end) = (bound(random), bound(random));
                let clamp = |at: i64| if at < 0 { at + length } else { at };
                let (from, to) = (clamp(start).max(0), (clamp(end) + 1).min(length));
                let answer = held.map_or_else(absent_list, |list| {
                    success(array(if from < to { &list[from as usize..to as usize] } else { &[] }))
                });
                ("GET", format!("/list/slice?key={query}&start={start}&end={end}"), String::new(), answer)
            }
            _ => {
                let names: Vec<&String> = self.lists.keys().filter(|name| name.starts_with("user")).collect();
                ("GET", "/list/keys?prefix=user".into(), String::new(), success(json!(names)))
            }
        }
    }

    fn call_item(&mut self, random: &mut Random, key: String, query: &str, quoted: &str) -> Call {
        let held = self.items.get(&key);
        let found = |value: &String| success(format!("{{\"key\":{quoted},\"value\":{value}}}"));
        match random.below(8) {
            0..=2 => {
                let value = random.below(VALUES);
                let text = match random.below(30) {
                    0 => format!("\"{}\"", "x".repeat(random.below(100_000))),
                    1 => "null".to_owned(),
                    _ => text_of(value, random),
                };
                let answer = found(&text);
                let body = format!("{{\"key\":{quoted},\"value\":{text}}}");
                self.items.insert(key, text);
                ("POST", "/item/write".into(), body, answer)
            }
            3 | 4 => {
                let answer = held.map_or_else(|| absent("Key", &key), found);
                ("GET", format!("/item/read?key={query}"), String::new(), answer)
            }
            5 => {
                let answer = match self.items.remove(&key) {
                    None => absent("Key", &key),
                    Some(_) => success(format!("{{\"key\":{quoted},\"deleted\":true}}")),
                };
                ("DELETE", format!("/item/delete?key={query}"), String::new(), answer)
            }
            6 => ("GET", format!("/item/exists?key={query}"), String::new(), success(held.is_some())),
            _ => (
                "GET",
                "/item/keys".into(),
                String::new(),
                success(json!(self.items.keys().collect::<Vec<_>>())),
            ),
        }
    }
}

/// Adds what is not there, and says how much that was.
fn add(list: &mut Vec<(usize, String)>, values: &[(usize, String)]) -> usize {
    let mut known: std::collections::HashSet<usize> = list.iter().map(|(value, _)| *value).collect();
    let before = list.len();
    list.extend(values.iter().filter(|(value, _)| known.insert(*value)).cloned());
    list.len() - before
}

#[test]
fn random_calls_are_answered_as_by_the_model() {
    let calls: usize =
        std::env::var("LIGHT_MODEL_CALLS").ok().and_then(|calls| calls.parse().ok()).unwrap_or(12_000);
    let seed = std::env::var("LIGHT_MODEL_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(common::token::now);
    println!("LIGHT_MODEL_SEED={seed}");
    let mut random = Random::seeded(seed);
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let mut apps: Vec<App> = ["one", "two"]
        .iter()
        .map(|name| {
            let body = json!({ "name": name }).to_string();
            let app: Value = node.client().call("POST", "/apps", &[], body.as_bytes()).expect(201).json();
            let token = app["data"]["readwrite_token"].as_str().unwrap().to_owned();
            App { token, model: Model::default() }
        })
        .collect();
    let mut connections: Vec<Client> = (0..CONNECTIONS).map(|_| node.stranger()).collect();
    let mut made = 0;
    while made < calls {
        // Some calls on one connection at a time, sent together: they take effect in their order.
        let at = random.below(connections.len());
        let app = random.below(apps.len());
        let authorization = format!("Bearer {}", apps[app].token);
        let together = 1 + random.below(5);
        let asked: Vec<Call> = (0..together).map(|_| apps[app].model.call(&mut random)).collect();
        let connection = &mut connections[at];
        let mut bytes = Vec::new();
        for (method, target, body, _) in &asked {
            let fields = [("Authorization", authorization.as_str())];
            bytes.extend(connection.compose(method, target, &fields, body.as_bytes()));
        }
        connection.send(&bytes);
        for (number, (method, target, body, (status, text))) in asked.iter().enumerate() {
            let answer: Response = connection.response();
            assert!(
                answer.status == *status && answer.text() == *text,
                "call {} of seed {seed}: {method} {target} {:.300}\nexpected {status} {text:.300}\ngot {} {:.300}",
                made + number,
                body,
                answer.status,
                answer.text()
            );
        }
        made += together;
    }
}
