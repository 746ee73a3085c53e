//! Listings while others write and delete on two workers: page after page by their cursors, what was there
//! throughout is neither missed nor doubled, and what was never there is not named.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use common::{Client, Node, Random, percent_encoded};
use serde_json::json;

/// Keys that are there throughout. Those that come and go lie between them, and are many more, so that
/// the tables of the index grow and shrink under the listings.
const STAYING: usize = 700;
const GOING: usize = 20_000;

/// Writes that are made meanwhile, at least; and how often each family is listed, at least.
const WRITES: usize = 60_000;
const ROUNDS: usize = 12;

/// Requests that a writer has under way.
const TOGETHER: usize = 32;

#[derive(Clone, Copy, Debug)]
enum Family {
    Kv,
    Items,
    Lists,
}

const FAMILIES: [Family; 3] = [Family::Kv, Family::Items, Family::Lists];

fn staying(number: usize) -> String {
    format!("key {:05}", number * 100)
}

fn going(number: usize) -> String {
    format!("key {:05}/{number}", number * 7 % (STAYING * 100))
}

impl Family {
    fn insert(self, client: &Client, key: &str) -> Vec<u8> {
        match self {
            Family::Kv => client.compose("PUT", &common::kv(key), &[], b"v"),
            Family::Items => {
                let body = json!({ "key": key, "value": 1 }).to_string();
                client.compose("POST", "/item/write", &[], body.as_bytes())
            }
            Family::Lists => {
                let body = json!({ "key": key, "values": [1] }).to_string();
                client.compose("POST", "/list/write", &[], body.as_bytes())
            }
        }
    }

    fn delete(self, client: &Client, key: &str) -> Vec<u8> {
        let query = percent_encoded(key.as_bytes());
        match self {
            Family::Kv => client.compose("DELETE", &common::kv(key), &[], b""),
            Family::Items => client.compose("DELETE", &format!("/item/delete?key={query}"), &[], b""),
            Family::Lists => {
                client.compose("POST", "/list/purge", &[], json!({ "key": key }).to_string().as_bytes())
            }
        }
    }

    /// A page of names, and where the next one begins.
    fn page(self, client: &mut Client, limit: usize, cursor: &str) -> (Vec<String>, Option<String>) {
        let query = format!("?prefix=key&limit={limit}&cursor={}", percent_encoded(cursor.as_bytes()));
        match self {
            Family::Kv => {
                let page = client.get(&format!("/api/kv{query}")).expect(200).json();
                let keys = page["keys"].as_array().expect("keys");
                let names = keys.iter().map(|key| key["name"].as_str().expect("a name").to_owned());
                (names.collect(), page["cursor"].as_str().map(str::to_owned))
            }
            Family::Items | Family::Lists => {
                let path = if matches!(self, Family::Items) { "/item/keys" } else { "/list/keys" };
                let page = client.get(&format!("{path}{query}")).expect(200);
                let next = page.field("X-Next-Cursor").map(str::to_owned);
                let names = serde_json::from_value(page.json()["data"].clone()).expect("names");
                (names, next)
            }
        }
    }
}

fn send(client: &mut Client, requests: &[Vec<u8>]) {
    client.send(&requests.concat());
    for _ in requests {
        let status = client.response().status;
        assert!([200, 201, 404].contains(&status), "{status}");
    }
}

/// Has the writers stop, also when something was found.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nothing_that_was_there_throughout_is_missed_or_doubled() {
    let seed = common::token::now();
    println!("seed {seed}");
    let mut random = Random::seeded(seed);
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let mut client = node.client();
    for family in FAMILIES {
        let requests: Vec<_> = (0..STAYING).map(|number| family.insert(&client, &staying(number))).collect();
        requests.chunks(TOGETHER).for_each(|chunk| send(&mut client, chunk));
    }
    let (is_over, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let over = Over(&is_over);
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let (mut client, mut random) = (node.client(), random.fork());
                let (is_over, written) = (&is_over, &written);
                scope.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        // Now mostly more, now mostly less.
                        let inserts = 2 + written.load(Ordering::Relaxed) / 20_000 % 2 * 6;
                        let requests: Vec<_> = (0..TOGETHER)
                            .map(|_| {
                                let (family, key) = (*random.pick(&FAMILIES), going(random.below(GOING)));
                                match random.below(10) < inserts {
                                    true => family.insert(&client, &key),
                                    false => family.delete(&client, &key),
                                }
                            })
                            .collect();
                        send(&mut client, &requests);
                        written.fetch_add(TOGETHER, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let (mut pages, mut named, mut round) = (0, 0, 0);
        while round < ROUNDS || written.load(Ordering::Relaxed) < WRITES {
            // A writer that has failed writes no more.
            assert!(writers.iter().all(|writer| !writer.is_finished()));
            for family in FAMILIES {
                let limit = [1_000, 100, 37][round % 3];
                let (mut names, mut cursor): (Vec<String>, String) = (Vec::new(), String::new());
                loop {
                    let (page, next) = family.page(&mut client, limit, &cursor);
                    assert!(page.len() <= limit);
                    names.extend(page);
                    pages += 1;
                    match next {
                        Some(next) => cursor = next,
                        None => break,
                    }
                }
                assert!(names.is_sorted_by(|a, b| a < b), "{family:?}: out of order, or one twice");
                let stayed: Vec<&String> = names.iter().filter(|name| !name.contains('/')).collect();
                let expected: Vec<String> = (0..STAYING).map(staying).collect();
                assert_eq!(stayed, expected.iter().collect::<Vec<_>>(), "{family:?}");
                for name in names.iter().filter(|name| name.contains('/')) {
                    let number = name.split('/').nth(1).and_then(|number| number.parse().ok());
                    assert!(number.is_some_and(|number| going(number) == *name), "{name} was never put");
                    named += 1;
                }
            }
            round += 1;
        }
        drop(over);
        writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
        println!("{pages} pages with {named} names that come and go, {written:?} writes meanwhile");
        assert!(named > 0, "nothing has changed meanwhile");
    });
    node.assert_well();
}
