//! Operations on one key are linearizable, from any connection to any worker.
//!
//! Clients that reconnect all the time work on few keys; each key's history is searched for an order
//! that a single register could have had (Wing and Gong, 1993, with Lowe's memory of dead ends).

mod common;

use common::{Client, Node, Random, kv, token};
use std::collections::HashSet;
use std::sync::Barrier;
use std::time::Instant;

/// What a client did and what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// GET that saw this value, or none.
    Got(Option<u64>),
    /// PUT of a value, and whether the key existed.
    Put(u64, bool),
    /// PUT with `If-None-Match: *`, and whether it was let through.
    Created(u64, bool),
    /// DELETE, and whether there was something.
    Deleted(bool),
}

impl Event {
    /// The register behind the event, if the event could happen to it.
    fn apply(self, register: Option<u64>) -> Option<Option<u64>> {
        match self {
            Event::Got(seen) => (seen == register).then_some(register),
            Event::Put(value, existed) => (existed == register.is_some()).then_some(Some(value)),
            Event::Created(value, true) => register.is_none().then_some(Some(value)),
            Event::Created(_, false) => register.is_some().then_some(register),
            Event::Deleted(existed) => (existed == register.is_some()).then_some(None),
        }
    }
}

/// An event with the time span in which it took effect.
#[derive(Clone, Copy, Debug)]
struct Span {
    event: Event,
    asked: Instant,
    answered: Instant,
}

/// Whether a register that starts empty could have had this history.
fn is_linearizable(history: &[Span]) -> bool {
    assert!(history.len() <= 128, "a bit for each event");
    let everything = if history.len() == 128 { u128::MAX } else { (1 << history.len()) - 1 };
    let mut dead_ends = HashSet::new();
    let mut open = vec![(0u128, None)];
    while let Some((done, register)) = open.pop() {
        if done == everything {
            return true;
        }
        if !dead_ends.insert((done, register)) {
            continue;
        }
        let left = || (0..history.len()).filter(|at| done & (1 << at) == 0);
        // Whoever is next began before any other that is left had ended.
        let first_end = left().map(|at| history[at].answered).min().expect("something is left");
        for at in left().filter(|at| history[*at].asked <= first_end) {
            if let Some(register) = history[at].event.apply(register) {
                open.push((done | (1 << at), register));
            }
        }
    }
    false
}

/// One operation on a key.
fn operate(client: &mut Client, random: &mut Random, path: &str, value: u64) -> Event {
    let text = value.to_string();
    match random.below(10) {
        0..4 => {
            let got = client.get(path);
            match got.status {
                200 => Event::Got(Some(got.text().parse().expect("a value that was put"))),
                404 => Event::Got(None),
                _ => panic!("{got}"),
            }
        }
        4..7 => match client.put(path, &text).status {
            200 => Event::Put(value, true),
            201 => Event::Put(value, false),
            other => panic!("{other}"),
        },
        7 => match client.call("PUT", path, &[("If-None-Match", "*")], text.as_bytes()).status {
            201 => Event::Created(value, true),
            412 => Event::Created(value, false),
            other => panic!("{other}"),
        },
        _ => match client.delete(path).status {
            200 => Event::Deleted(true),
            404 => Event::Deleted(false),
            other => panic!("{other}"),
        },
    }
}

const CLIENTS: usize = 8;
const KEYS: usize = 3;
const STEPS: usize = 14;

/// The histories of `KEYS` fresh keys under `CLIENTS` clients.
fn histories(node: &Node, random: &mut Random, round: usize) -> Vec<Vec<Span>> {
    let token = token::root();
    let start = Barrier::new(CLIENTS);
    let work = |id: usize, mut random: Random| {
        let mut seen: Vec<(usize, Span)> = Vec::new();
        let connect = || Client::connect(node.address()).with_token(&token);
        let mut client = connect();
        start.wait();
        for step in 0..STEPS {
            if random.below(4) == 0 {
                client = connect();
            }
            let key = random.below(KEYS);
            let path = kv(format!("linear-{round}-{key}"));
            let value = (id * STEPS + step) as u64;
            let asked = Instant::now();
            let event = operate(&mut client, &mut random, &path, value);
            seen.push((key, Span { event, asked, answered: Instant::now() }));
        }
        seen
    };
    let mut histories = vec![Vec::new(); KEYS];
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CLIENTS)
            .map(|id| {
                let (work, random) = (&work, random.fork());
                scope.spawn(move || work(id, random))
            })
            .collect();
        for worker in workers {
            for (key, span) in worker.join().unwrap() {
                histories[key].push(span);
            }
        }
    });
    histories
}

#[test]
fn histories_of_reconnecting_clients_fit_a_register() {
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let mut random = Random::seeded(71);
    for round in 0..120 {
        for (key, history) in histories(&node, &mut random, round).into_iter().enumerate() {
            let origin = history.iter().map(|span| span.asked).min();
            assert!(
                is_linearizable(&history),
                "round {round}, key {key} has no order: {:#?}",
                history
                    .iter()
                    .map(|span| (span.asked - origin.unwrap(), span.answered - origin.unwrap(), span.event))
                    .collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn the_check_finds_what_is_not_linearizable() {
    let origin = Instant::now();
    let at = |ms: u64| origin + std::time::Duration::from_millis(ms);
    let span = |from, to, event| Span { event, asked: at(from), answered: at(to) };
    let stale =
        [span(0, 1, Event::Put(1, false)), span(2, 3, Event::Put(2, true)), span(4, 5, Event::Got(Some(1)))];
    assert!(!is_linearizable(&stale));
    let lost = [span(0, 1, Event::Put(1, false)), span(2, 3, Event::Got(None))];
    assert!(!is_linearizable(&lost));
    let twice = [span(0, 9, Event::Created(1, true)), span(0, 9, Event::Created(2, true))];
    assert!(!is_linearizable(&twice));
    let back =
        [span(0, 9, Event::Put(1, false)), span(0, 3, Event::Got(Some(1))), span(4, 5, Event::Got(None))];
    assert!(!is_linearizable(&back));
    let fine = [
        span(0, 9, Event::Put(1, false)),
        span(0, 3, Event::Got(None)),
        span(4, 9, Event::Got(Some(1))),
        span(5, 9, Event::Deleted(true)),
    ];
    assert!(is_linearizable(&fine));
}

#[test]
fn no_increment_is_lost_or_counted_twice() {
    const EACH: usize = 250;
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let path = kv("counter");
    node.client().put(&path, "0");
    let token = token::root();
    let values: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CLIENTS)
            .map(|id| {
                let (node, path, token) = (&node, &path, &token);
                scope.spawn(move || {
                    let mut client = Client::connect(node.address()).with_token(token);
                    let mut values = Vec::new();
                    for step in 0..EACH {
                        if step % (5 + id) == 0 {
                            client = Client::connect(node.address()).with_token(token);
                        }
                        let patched = client.patch(path, "increment").expect(200);
                        values.push(patched.json()["value"].as_u64().unwrap());
                    }
                    values
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    for values in &values {
        assert!(values.is_sorted_by(|a, b| a < b), "a client saw the counter fall: {values:?}");
    }
    let mut all = values.concat();
    all.sort_unstable();
    assert_eq!(all, (1..=(CLIENTS * EACH) as u64).collect::<Vec<_>>());
    assert_eq!(node.client().get(&path).text(), (CLIENTS * EACH).to_string());
}

#[test]
fn what_was_answered_on_one_connection_is_seen_on_any_other_at_once() {
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let mut writer = node.client();
    let mut readers: Vec<_> = (0..8).map(|_| node.client()).collect();
    for round in 0..300 {
        let path = kv(format!("seen-{}", round % 7));
        let value = round.to_string();
        writer.put(&path, &value);
        for reader in &mut readers {
            assert_eq!(reader.get(&path).expect(200).text(), value);
        }
        writer.delete(&path).expect(200);
        for reader in &mut readers {
            reader.get(&path).expect(404);
        }
    }
}

#[test]
fn one_of_many_locks_wins_and_its_token_guards_the_writes() {
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let path = kv("mutex");
    node.client().put(&path, "0");
    let token = token::root();
    // A read-modify-write that only the lock makes safe.
    const EACH: usize = 20;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (node, path, token) = (&node, &path, &token);
            scope.spawn(move || {
                let mut client = Client::connect(node.address()).with_token(token);
                for _ in 0..EACH {
                    let fence = loop {
                        let locked = client.patch(path, "lock");
                        match locked.status {
                            200 => break locked.expect_field("x-fencing-token").to_string(),
                            409 => {}
                            _ => panic!("{locked}"),
                        }
                    };
                    let seen: u64 = client.get(path).text().parse().unwrap();
                    let fenced = [("X-Fencing-Token", fence.as_str())];
                    client.call("PUT", path, &fenced, (seen + 1).to_string().as_bytes()).expect(200);
                    client.call("PATCH", path, &fenced, b"unlock").expect(200);
                }
            });
        }
    });
    assert_eq!(node.client().get(&path).text(), (4 * EACH).to_string());
}
