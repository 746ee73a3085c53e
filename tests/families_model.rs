//! Random calls on `/item`, `/list`, `/controller`, `/database` and `/execute` against a plain model: two
//! workers, several connections, two apps, and every answer as the model has it. `MODEL_CALLS` asks for more
//! than the usual number of calls, `MODEL_SEED` for the same ones again.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Client, Node, Random, Response, percent_encoded};
use serde_json::value::RawValue;
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

/// What a call is answered with.
#[derive(Debug)]
enum Expected {
    /// This status and body.
    Whole(u16, String),
    /// This status; the words are nobody's promise.
    Status(u16),
    /// An object with these members, in any order, each with this text.
    Object(BTreeMap<String, String>),
    /// An array of these names, in any order.
    Names(BTreeSet<String>),
    /// A number of seconds that has been running down from this one.
    SecondsLeft(u64),
}

impl Expected {
    fn is_met_by(&self, answer: &Response) -> bool {
        let text = answer.text();
        match self {
            Expected::Whole(status, body) => answer.status == *status && text == *body,
            Expected::Status(status) => answer.status == *status,
            Expected::Object(members) => {
                let read: Option<BTreeMap<String, Box<RawValue>>> = serde_json::from_str(&text).ok();
                let read =
                    read.map(|read| read.into_iter().map(|(name, value)| (name, value.get().to_owned())));
                answer.status == 200 && read.is_some_and(|read| read.collect::<BTreeMap<_, _>>() == *members)
            }
            Expected::Names(names) => {
                let read: Option<Vec<String>> = serde_json::from_str(&text).ok();
                let is_same = |read: Vec<String>| {
                    read.len() == names.len() && read.into_iter().collect::<BTreeSet<_>>() == *names
                };
                answer.status == 200 && read.is_some_and(is_same)
            }
            Expected::SecondsLeft(seconds) => {
                let left: Option<u64> = text.parse().ok();
                answer.status == 200 && left.is_some_and(|left| left <= *seconds && left + 600 >= *seconds)
            }
        }
    }
}

/// What stands in a database.
#[derive(Clone)]
struct Kept {
    /// The JSON text of the value.
    text: String,
    /// What it is sealed with.
    secret: Option<String>,
    /// Seconds that it was given to live.
    ttl: Option<u64>,
}

const DATABASES: [&str; 6] = ["notes", "é & b", "a b", "d", "visits", "\"q\""];
const SECRETS: [&str; 3] = ["sesame", "é \"open\" it's", "None"];
const DATABASE_KEYS: usize = 12;

/// `/controller`, `/database` and `/execute`.
#[derive(Default)]
struct Databases(BTreeMap<String, BTreeMap<String, Kept>>);

/// What is asked of the databases, however it is said.
enum Ask {
    Set {
        value: String,
        secret: Option<String>,
        compress: bool,
    },
    Get {
        secret: Option<String>,
    },
    Delete,
    GetAll {
        secret: Option<String>,
    },
    Pop,
    Drop,
    Rename {
        to: String,
    },
    PopAll,
    DropAll,
    List,
    /// From here on there is a query only.
    Exists,
    Add(i64),
    Ttl,
    Expire(u64),
    Persist,
    Keys(&'static str),
    Count,
}

impl Ask {
    fn draw(random: &mut Random) -> Ask {
        let secret =
            |random: &mut Random| (random.below(3) == 0).then(|| (*random.pick(&SECRETS)).to_owned());
        match random.below(200) {
            0..60 => {
                let value = match random.below(12) {
                    0..4 => format!("\"{}\"", random.below(1_000)),
                    4 => format!("{}", random.below(1_000)),
                    5 => format!("\"{}\"", "long and dull ".repeat(random.below(8_000))),
                    6 => format!("{{\"a\":[{},null,\"é\"]}}", random.below(100)),
                    7 => "[12345678901234567890.50,1e5]".to_owned(),
                    8 => {
                        (*random.pick(&["null", "true", "\"\"", "\"it's \\\"quoted\\\"; é\\n\""])).to_owned()
                    }
                    _ => format!("\"text {}\"", random.below(100)),
                };
                Ask::Set { value, secret: secret(random), compress: random.below(3) == 0 }
            }
            60..105 => Ask::Get { secret: secret(random) },
            105..120 => Ask::Delete,
            120..130 => Ask::GetAll { secret: secret(random) },
            130..134 => Ask::Pop,
            134..138 => Ask::Drop,
            138..144 => Ask::Rename { to: (*random.pick(&DATABASES)).to_owned() },
            144 => Ask::PopAll,
            145 => Ask::DropAll,
            146..152 => Ask::List,
            152..160 => Ask::Exists,
            160..174 => Ask::Add(*random.pick(&[1, 1, 5, -3, 100])),
            174..180 => Ask::Ttl,
            180..186 => Ask::Expire(10_000 + random.below(90_000) as u64),
            186..190 => Ask::Persist,
            190..195 => Ask::Keys(["", "k", "é"][random.below(3)]),
            _ => Ask::Count,
        }
    }

    /// The endpoint beside `/execute`, if there is one, with its fields: names, JSON texts.
    fn endpoint(&self, database: &str, key: &str) -> Option<(&'static str, Vec<(&'static str, String)>)> {
        let text = |text: &str| json!(text).to_string();
        let mut fields = vec![("database_name", text(database))];
        let entry = ("key", text(key));
        let path = match self {
            Ask::Set { value, secret, compress } => {
                fields.extend([entry, ("value", value.clone())]);
                fields.extend(secret.iter().map(|secret| ("encryption_key", text(secret))));
                fields.extend(compress.then(|| ("compress", "true".to_owned())));
                "/controller/set"
            }
            Ask::Get { secret } => {
                fields.push(entry);
                fields.extend(secret.iter().map(|secret| ("encryption_key", text(secret))));
                "/controller/get"
            }
            Ask::Delete => {
                fields.push(entry);
                "/controller/delete"
            }
            Ask::GetAll { secret } => {
                fields.extend(secret.iter().map(|secret| ("encryption_key", text(secret))));
                "/controller/get_all"
            }
            Ask::Pop => "/database/pop",
            Ask::Drop => "/database/delete",
            Ask::Rename { to } => {
                fields.push(("new_database_name", text(to)));
                "/database/rename"
            }
            Ask::PopAll => "/database/pop_all",
            Ask::DropAll => "/database/delete_all",
            Ask::List => "/database/list",
            _ => return None,
        };
        Some((path, fields))
    }

    /// The query that says it, if one can: its values are strings.
    fn query(&self, database: &str, key: &str, random: &mut Random) -> Option<String> {
        let quoted = |text: &str, random: &mut Random| match random.below(2) {
            0 if !text.contains('\'') => format!("'{text}'"),
            _ => json!(text).to_string(),
        };
        let (database, key) = (quoted(database, random), quoted(key, random));
        let of = |verb: &str| format!("{verb} {database} {key}");
        let query = match self {
            Ask::Set { value, secret, compress } => {
                let value: String = serde_json::from_str(value).ok()?;
                let secret = secret.as_ref().map_or("None".into(), |secret| quoted(secret, random));
                format!("SET {database} {key} {} {secret} {compress}", quoted(&value, random))
            }
            Ask::Get { secret } => {
                let secret = secret.as_ref().map_or(String::new(), |secret| quoted(secret, random));
                format!("{} {secret}", of("get"))
            }
            Ask::GetAll { secret } => {
                let secret = secret.as_ref().map_or(String::new(), |secret| quoted(secret, random));
                format!("GET_ALL {database} {secret}")
            }
            Ask::Delete => of("DELETE"),
            Ask::Exists => of("Exists"),
            Ask::Add(step) if *step < 0 => format!("{} {}", of("DECR"), -step),
            Ask::Add(1) => of("INCR"),
            Ask::Add(step) => format!("{} {step}", of("INCR")),
            Ask::Ttl => of("TTL"),
            Ask::Expire(seconds) => format!("{} {seconds}", of("EXPIRE")),
            Ask::Persist => of("PERSIST"),
            Ask::Keys(prefix) => format!("KEYS {database} {}", quoted(prefix, random)),
            Ask::Count => format!("COUNT {database}"),
            Ask::Pop => format!("DATABASE_POP {database}"),
            Ask::Drop => format!("DATABASE_DELETE {database}"),
            Ask::Rename { to } => format!("DATABASE_RENAME {database} {}", quoted(to, random)),
            Ask::PopAll => "DATABASE_POP_ALL".into(),
            Ask::DropAll => "DATABASE_DELETE_ALL".into(),
            Ask::List => "DATABASE_LIST".into(),
        };
        // What is over 64 KiB is no query.
        (query.len() <= 64 << 10).then_some(query)
    }
}

impl Databases {
    /// What it comes to, and what is said where a sentence is.
    fn apply(&mut self, ask: &Ask, name: &str, key: &str) -> (Expected, Option<&'static str>) {
        let json = |text: &str| (Expected::Whole(200, text.to_owned()), None);
        let said = |sentence| (Expected::Status(200), Some(sentence));
        let unknown = (Expected::Status(404), None);
        if let Ask::Set { value, secret, .. } = ask {
            let kept = Kept { text: value.clone(), secret: secret.clone(), ttl: None };
            self.0.entry(name.to_owned()).or_default().insert(key.to_owned(), kept);
            return said("Data set successfully");
        }
        if let Ask::Add(step) = ask {
            let database = self.0.entry(name.to_owned()).or_default();
            let begin = || Kept { text: "\"0\"".into(), secret: None, ttl: None };
            let kept = database.entry(key.to_owned()).or_insert_with(begin);
            if kept.secret.is_some() {
                return (Expected::Status(403), None);
            }
            let number = kept.text.trim_matches('"').parse::<i64>().ok();
            let Some(number) = number else { return (Expected::Status(400), None) };
            let quote = if kept.text.starts_with('"') { "\"" } else { "" };
            kept.text = format!("{quote}{}{quote}", number + step);
            return json(&(number + step).to_string());
        }
        match ask {
            Ask::PopAll => {
                self.0.values_mut().for_each(BTreeMap::clear);
                return said("All database popped successfully");
            }
            Ask::DropAll => {
                self.0.clear();
                return said("All database deleted successfully");
            }
            Ask::List => {
                let place = |name: &String| {
                    let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
                    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
                    (name.clone(), format!("\"KOT-{hex}\""))
                };
                return (Expected::Object(self.0.keys().map(place).collect()), None);
            }
            _ => {}
        }
        let is_taken = matches!(ask, Ask::Rename { to } if self.0.contains_key(to));
        let Some(database) = self.0.get_mut(name) else { return unknown };
        let opens = |kept: &Kept, secret: &Option<String>| kept.secret.is_none() || kept.secret == *secret;
        match ask {
            Ask::Get { secret } => match database.get(key) {
                None => json("null"),
                Some(kept) if opens(kept, secret) => json(&kept.text),
                Some(_) => (Expected::Status(403), None),
            },
            Ask::GetAll { secret } => {
                let shown = |(name, kept): (&String, &Kept)| {
                    let text = if opens(kept, secret) { kept.text.clone() } else { "null".into() };
                    (name.clone(), text)
                };
                (Expected::Object(database.iter().map(shown).collect()), None)
            }
            Ask::Delete => {
                database.remove(key);
                said("Data deleted successfully")
            }
            Ask::Exists => json(if database.contains_key(key) { "true" } else { "false" }),
            Ask::Ttl => match database.get(key) {
                None => json("-2"),
                Some(Kept { ttl: None, .. }) => json("-1"),
                Some(Kept { ttl: Some(seconds), .. }) => (Expected::SecondsLeft(*seconds), None),
            },
            Ask::Expire(_) | Ask::Persist => match database.get_mut(key) {
                None => json("false"),
                Some(kept) => {
                    kept.ttl = if let Ask::Expire(seconds) = ask { Some(*seconds) } else { None };
                    json("true")
                }
            },
            Ask::Keys(prefix) => {
                let names = database.keys().filter(|name| name.starts_with(prefix)).cloned();
                (Expected::Names(names.collect()), None)
            }
            Ask::Count => json(&database.len().to_string()),
            Ask::Pop => {
                database.clear();
                said("Database popped successfully")
            }
            Ask::Drop => {
                self.0.remove(name);
                said("Database deleted successfully")
            }
            Ask::Rename { to } if is_taken => {
                let _ = to;
                (Expected::Status(409), None)
            }
            Ask::Rename { to } => {
                let database = self.0.remove(name).unwrap_or_default();
                self.0.insert(to.clone(), database);
                said("Database renamed successfully")
            }
            _ => unknown,
        }
    }

    /// A call: method, target, type and body; and what is answered.
    fn call(&mut self, random: &mut Random) -> DatabaseCall {
        let name = *random.pick(&DATABASES);
        let number = random.below(DATABASE_KEYS);
        let key = ["k", "user:", "é/", "a b&"][number % 4].to_owned() + &number.to_string();
        let ask = Ask::draw(random);
        let query = ask.query(name, &key, random);
        let endpoint = ask.endpoint(name, &key);
        let (expected, sentence) = self.apply(&ask, name, &key);
        match (endpoint, query) {
            (Some((path, fields)), query) if query.is_none() || random.below(2) == 0 => {
                let expected = sentence.map_or(expected, |said| Expected::Whole(200, said.to_owned()));
                let method = if matches!(ask, Ask::List) { "GET" } else { "POST" };
                let (kind, body) = body_of(&fields, random);
                DatabaseCall { method, path, kind, body, expected }
            }
            (_, Some(query)) => {
                let expected = sentence.map_or(expected, |_| Expected::Whole(200, "true".to_owned()));
                let (kind, body) = match random.below(3) {
                    0 => ("text/plain", query),
                    _ => body_of(&[("query", json!(query).to_string())], random),
                };
                DatabaseCall { method: "POST", path: "/execute", kind, body, expected }
            }
            _ => unreachable!("everything can be said in one way"),
        }
    }
}

struct DatabaseCall {
    method: &'static str,
    path: &'static str,
    kind: &'static str,
    body: String,
    expected: Expected,
}

/// Fields in one of the forms that are taken: as a form or in parts only where all are strings.
fn body_of(fields: &[(&str, String)], random: &mut Random) -> (&'static str, String) {
    let texts: Option<Vec<(&str, String)>> =
        fields.iter().map(|(name, json)| Some((*name, serde_json::from_str(json).ok()?))).collect();
    // A decision that does not depend on the value alone.
    match (random.below(3), texts) {
        (0, Some(texts)) => {
            let pairs: Vec<String> = texts
                .iter()
                .map(|(name, text)| {
                    format!("{name}={}", percent_encoded(text.as_bytes()).replace("%20", "+"))
                })
                .collect();
            ("application/x-www-form-urlencoded", pairs.join("&"))
        }
        (1, Some(texts)) => {
            let parts = texts.iter().map(|(name, text)| {
                format!("--parts\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
            });
            ("multipart/form-data; boundary=parts", parts.collect::<String>() + "--parts--\r\n")
        }
        _ => {
            let members: Vec<String> =
                fields.iter().map(|(name, json)| format!("\"{name}\":{json}")).collect();
            ("application/json", format!("{{{}}}", members.join(",")))
        }
    }
}

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

/// A call of either kind, as it is sent, and what is answered.
struct Sent {
    bytes: Vec<u8>,
    shown: String,
    expected: Expected,
}

#[test]
fn random_calls_are_answered_as_by_the_model() {
    let number_of = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let calls = number_of("MODEL_CALLS").unwrap_or(12_000) as usize;
    let seed = number_of("MODEL_SEED").unwrap_or_else(common::token::now);
    println!("MODEL_SEED={seed}");
    let mut random = Random::seeded(seed);
    let node = Node::start(|setup| {
        setup.workers(2).set("databases.password", "sesame");
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
    let mut databases = Databases::default();
    let holders = ["Basic OnNlc2FtZQ==".to_owned(), format!("Bearer {}", common::token::root())];
    let mut connections: Vec<Client> = (0..CONNECTIONS).map(|_| node.stranger()).collect();
    let mut made = 0;
    while made < calls {
        // Some calls on one connection at a time, sent together: they take effect in their order.
        let at = random.below(connections.len());
        let connection = &mut connections[at];
        let together = 1 + random.below(5);
        let app = random.below(2 * apps.len());
        let asked: Vec<Sent> = (0..together)
            .map(|_| match apps.get_mut(app) {
                Some(App { token, model }) => {
                    let (method, target, body, (status, text)) = model.call(&mut random);
                    let fields = [("Authorization", &*format!("Bearer {token}"))];
                    let bytes = connection.compose(method, &target, &fields, body.as_bytes());
                    Sent {
                        bytes,
                        shown: format!("{method} {target} {body:.300}"),
                        expected: Expected::Whole(status, text),
                    }
                }
                None => {
                    let DatabaseCall { method, path, kind, body, expected } = databases.call(&mut random);
                    let fields = [("Authorization", &**random.pick(&holders)), ("Content-Type", kind)];
                    let bytes = connection.compose(method, path, &fields, body.as_bytes());
                    Sent { bytes, shown: format!("{method} {path} {body:.600}"), expected }
                }
            })
            .collect();
        connection.send(&asked.iter().flat_map(|sent| &sent.bytes).copied().collect::<Vec<u8>>());
        for (number, Sent { shown, expected, .. }) in asked.iter().enumerate() {
            let answer: Response = connection.response();
            let expectation = format!("{expected:?}");
            assert!(
                expected.is_met_by(&answer),
                "call {} of seed {seed}: {shown}\nexpected {expectation:.600}\ngot {} {:.600}",
                made + number,
                answer.status,
                answer.text()
            );
        }
        made += together;
    }
    node.assert_well();
}
