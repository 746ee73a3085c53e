//! `kill -9` at any moment under load: nothing answered is lost, nothing comes back that was gone, and no
//! client ever saw what a single register could not have shown, kills included.
//!
//! `LUCID_KILL_CYCLES=50 cargo test --release --test kill` runs fifty kills in each mode of syncing.
//!
//! The check follows the history of a key in time and keeps every state that the key and the operations
//! under way can be in (Lowe, "Testing for linearizability", 2017): an operation takes effect somewhere
//! between its request and its answer. One whose answer did not come before the kill took effect before the
//! kill or never. What a key may hold after a kill is where its next history begins.

mod common;

use std::collections::HashSet;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use common::durable::{End, Folder, end};
use common::{Client, Node, Random, Trouble, kv, token};

/// What is done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Get,
    Put(u64),
    /// PUT with `If-None-Match: *`.
    Create(u64),
    Delete,
    Increment,
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// The value, or none.
    Value(Option<u64>),
    /// Whether there was something before.
    Existed(bool),
    /// What the counter holds now, if there is one.
    Counted(Option<u64>),
}

/// An operation, with its answer if it came.
#[derive(Clone, Copy, Debug)]
struct Span {
    act: Act,
    asked: Instant,
    answer: Option<(Told, Instant)>,
}

type Register = Option<u64>;

impl Act {
    /// What it makes of a register, and what it says of it.
    fn apply(self, register: Register) -> (Register, Told) {
        let existed = Told::Existed(register.is_some());
        match (self, register) {
            (Act::Get, _) => (register, Told::Value(register)),
            (Act::Put(value), _) => (Some(value), existed),
            (Act::Create(value), None) => (Some(value), existed),
            (Act::Create(_), Some(_)) => (register, existed),
            (Act::Delete, _) => (None, existed),
            (Act::Increment, _) => {
                let next = register.map(|number| number + 1);
                (next, Told::Counted(next))
            }
        }
    }
}

/// What a key holds, and which of the operations under way have taken effect, as a bit for each.
type State = (Register, u64);

/// The values that a key may hold behind a history that begins with one of `before`; empty if no register could
/// have had it.
fn possible(before: &HashSet<Register>, history: &[Span]) -> HashSet<Register> {
    let mut moments: Vec<(Instant, bool, usize)> = Vec::new();
    for (at, span) in history.iter().enumerate() {
        moments.push((span.asked, false, at));
        moments.extend(span.answer.map(|(_, answered)| (answered, true, at)));
    }
    moments.sort_unstable();
    let mut states: HashSet<State> = before.iter().map(|register| (*register, 0)).collect();
    // Operations under way, each at the place of its bit.
    let mut under_way: Vec<Option<usize>> = Vec::new();
    for (_, is_answer, at) in moments {
        if !is_answer {
            let free = under_way.iter().position(Option::is_none).unwrap_or(under_way.len());
            under_way.resize(under_way.len().max(free + 1), None);
            assert!(free < 64, "a bit for each operation under way");
            under_way[free] = Some(at);
            continue;
        }
        let bit = under_way.iter().position(|other| *other == Some(at)).expect("it was asked");
        states = reach(states, &under_way, history);
        states.retain(|(_, done)| done & (1 << bit) != 0);
        states = states.into_iter().map(|(register, done)| (register, done & !(1 << bit))).collect();
        under_way[bit] = None;
    }
    // Those without an answer have taken effect or not.
    reach(states, &under_way, history).into_iter().map(|(register, _)| register).collect()
}

/// All states that operations under way can lead to.
fn reach(states: HashSet<State>, under_way: &[Option<usize>], history: &[Span]) -> HashSet<State> {
    let mut open: Vec<State> = states.iter().copied().collect();
    let mut states = states;
    while let Some((register, done)) = open.pop() {
        for (bit, at) in under_way.iter().enumerate() {
            let Some(at) = at.filter(|_| done & (1 << bit) == 0) else { continue };
            let (next, told) = history[at].act.apply(register);
            let fits = history[at].answer.is_none_or(|(answer, _)| answer == told);
            let state = (next, done | 1 << bit);
            if fits && states.insert(state) {
                open.push(state);
            }
        }
    }
    states
}

const CLIENTS: usize = 8;
const REGISTERS: usize = 24;
const COUNTERS: usize = 4;

/// How long values are: in place, in a block, over several reads, beside the log.
const LENGTHS: [usize; 5] = [16, 100, 3_000, 20_000, 90_000];

/// The bytes of a value, which say whether any of them is another's.
fn bytes_of(value: u64) -> Vec<u8> {
    let mut bytes = format!("{value:016}").into_bytes();
    bytes.resize(LENGTHS[value as usize % LENGTHS.len()], b'a' + (value % 26) as u8);
    bytes
}

fn value_of(bytes: &[u8]) -> u64 {
    let value = std::str::from_utf8(&bytes[..16]).expect("digits").parse().expect("a value that was put");
    assert!(bytes == bytes_of(value), "{value} came back as other bytes");
    value
}

/// One client until the node is gone: what it did to which key.
fn work(
    node: &Node,
    token: &str,
    mut random: Random,
    numbers: std::ops::Range<u64>,
    answered: &Sender<()>,
) -> Vec<(usize, Span)> {
    let mut seen = Vec::new();
    let connect = || Client::try_connect(node.address()).map(|client| client.with_token(token));
    let Ok(mut client) = connect() else { return seen };
    let mut numbers = numbers;
    loop {
        if random.below(50) == 0 {
            match connect() {
                Ok(other) => client = other,
                Err(_) => return seen,
            }
        }
        let depth = *random.pick(&[1, 1, 1, 4]);
        let mut requests = Vec::new();
        let mut batch = Vec::new();
        for _ in 0..depth {
            let key = random.below(REGISTERS + COUNTERS);
            let Some(number) = numbers.next() else { return seen };
            let act = match random.below(10) {
                0..4 => Act::Get,
                _ if key >= REGISTERS => Act::Increment,
                4..7 => Act::Put(number),
                7 => Act::Create(number),
                _ => Act::Delete,
            };
            let path = kv(format!("key-{key}"));
            requests.extend(match act {
                Act::Get => client.compose("GET", &path, &[], b""),
                Act::Put(value) => client.compose("PUT", &path, &[], &bytes_of(value)),
                Act::Create(value) => {
                    client.compose("PUT", &path, &[("If-None-Match", "*")], &bytes_of(value))
                }
                Act::Delete => client.compose("DELETE", &path, &[], b""),
                Act::Increment => client.compose("PATCH", &path, &[], b"increment"),
            });
            batch.push((key, act));
        }
        let asked = Instant::now();
        let sent = client.try_send(&requests);
        let mut batch = batch.into_iter();
        for (key, act) in batch.by_ref() {
            let answer = if sent.is_ok() { client.try_response("GET") } else { Err(Trouble::Closed(true)) };
            let Ok(answer) = answer else {
                seen.push((key, Span { act, asked, answer: None }));
                break;
            };
            let told = match (act, answer.status) {
                (Act::Get, 200) if key >= REGISTERS => {
                    Told::Value(Some(answer.text().parse().expect("a number")))
                }
                (Act::Get, 200) => Told::Value(Some(value_of(&answer.body))),
                (Act::Get, 404) => Told::Value(None),
                (Act::Put(_), 200) | (Act::Create(_), 412) | (Act::Delete, 200) => Told::Existed(true),
                (Act::Put(_), 201) | (Act::Create(_), 201) | (Act::Delete, 404) => Told::Existed(false),
                (Act::Increment, 200) => Told::Counted(answer.json()["value"].as_u64()),
                (Act::Increment, 404) => Told::Counted(None),
                _ => panic!("{act:?}: {answer}"),
            };
            seen.push((key, Span { act, asked, answer: Some((told, Instant::now())) }));
            let _ = answered.send(());
        }
        // Whatever is left of the batch has no answer either.
        let unanswered = batch.map(|(key, act)| (key, Span { act, asked, answer: None }));
        let before = seen.len();
        seen.extend(unanswered);
        if seen.len() > before || seen.last().is_some_and(|(_, span)| span.answer.is_none()) {
            return seen;
        }
    }
}

/// Lets clients work until `count` answers have come, and kills the node then. The histories of the keys.
fn histories(node: Node, random: &mut Random, numbers: &mut u64, count: usize) -> Vec<Vec<Span>> {
    const NUMBERS_EACH: u64 = 1_000_000;
    let token = token::root();
    let (sender, answered) = channel();
    let mut histories = vec![Vec::new(); REGISTERS + COUNTERS];
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (node, token, sender, random) = (&node, &token, sender.clone(), random.fork());
                let range = *numbers..*numbers + NUMBERS_EACH;
                *numbers += NUMBERS_EACH;
                scope.spawn(move || work(node, token, random, range, &sender))
            })
            .collect();
        // A client that panics takes its sender along.
        drop(sender);
        answered.iter().take(count).for_each(drop);
        node.signal(rustix::process::Signal::KILL);
        for worker in workers {
            for (key, span) in worker.join().expect("no panic") {
                histories[key].push(span);
            }
        }
    });
    end(node, End::Killed);
    histories
}

/// So many kills; answers how many operations were checked.
fn kills(mode: &'static str, cycles: usize, seed: u64) -> usize {
    let folder = Folder::new(mode);
    let mut random = Random::seeded(seed);
    let mut numbers = 0;
    let mut checked = 0;
    let mut states: Vec<HashSet<Register>> = vec![HashSet::from([None]); REGISTERS + COUNTERS];
    {
        let node = folder.start(2);
        for (counter, state) in states.iter_mut().enumerate().skip(REGISTERS) {
            node.client().put(&kv(format!("key-{counter}")), "0").expect(201);
            *state = HashSet::from([Some(0)]);
        }
        end(node, End::Killed);
    }
    for cycle in 0..cycles {
        let workers = 1 + random.below(3);
        let node = folder.start(workers);
        let count = 200 + random.below(4_000);
        let histories = histories(node, &mut random, &mut numbers, count);
        for (key, history) in histories.iter().enumerate() {
            checked += history.len();
            let after = possible(&states[key], history);
            assert!(
                !after.is_empty(),
                "{mode}, cycle {cycle}, key {key}, which may have held {:?}, has no order: {history:#?}",
                states[key]
            );
            states[key] = after;
        }
    }
    // What is there in the end is one of what may be.
    let node = folder.start(2);
    for (key, states) in states.iter().enumerate() {
        let got = node.client().get(&kv(format!("key-{key}")));
        let value = match got.status {
            404 => None,
            _ if key >= REGISTERS => Some(got.expect(200).text().parse().expect("a number")),
            _ => Some(value_of(&got.expect(200).body)),
        };
        assert!(states.contains(&value), "{mode}: key {key} holds {value:?}, not one of {states:?}");
    }
    checked
}

#[test]
fn what_was_answered_survives_every_kill_and_every_history_fits_a_register() {
    let cycles = std::env::var("LUCID_KILL_CYCLES").map_or(3, |text| text.parse().expect("a number"));
    for (seed, mode) in ["always", "everysec", "never"].into_iter().enumerate() {
        let began = Instant::now();
        let checked = kills(mode, cycles, 90 + seed as u64);
        println!("{mode}: {cycles} kills, {checked} operations without a violation in {:?}", began.elapsed());
    }
}

#[test]
fn the_check_finds_what_no_register_shows() {
    let origin = Instant::now();
    let at = |ms: u64| origin + std::time::Duration::from_millis(ms);
    let span = |from, to, act, told| Span { act, asked: at(from), answer: Some((told, at(to))) };
    let cut = |from, act| Span { act, asked: at(from), answer: None };
    let empty = HashSet::from([None]);
    let put = |from, to, value, existed| span(from, to, Act::Put(value), Told::Existed(existed));
    let got = |from, to, value| span(from, to, Act::Get, Told::Value(value));
    let none = HashSet::new();
    assert_eq!(possible(&empty, &[put(0, 1, 1, false), put(2, 3, 2, true), got(4, 5, Some(1))]), none);
    assert_eq!(possible(&empty, &[put(0, 1, 1, false), got(2, 3, None)]), none);
    assert_eq!(possible(&HashSet::from([Some(1)]), &[got(2, 3, None)]), none, "lost by the kill");
    assert_eq!(possible(&HashSet::from([Some(2)]), &[got(2, 3, Some(1))]), none, "an old one came back");
    let twice = [Act::Create(1), Act::Create(2)].map(|act| span(0, 9, act, Told::Existed(false)));
    assert_eq!(possible(&empty, &twice), none);
    // What was cut may have happened, and stays as it was seen.
    let both = HashSet::from([None, Some(1)]);
    assert_eq!(possible(&empty, &[cut(0, Act::Put(1))]), both);
    assert_eq!(possible(&both, &[got(0, 1, None), got(2, 3, Some(1))]), none);
    assert_eq!(possible(&empty, &[cut(0, Act::Put(1)), got(1, 2, Some(1)), got(3, 4, None)]), none);
    assert_eq!(
        possible(&empty, &[got(0, 1, Some(1)), cut(2, Act::Put(1))]),
        none,
        "seen before it was asked"
    );
    let counted = |from, to, number| span(from, to, Act::Increment, Told::Counted(Some(number)));
    assert_eq!(possible(&HashSet::from([Some(0)]), &[counted(0, 1, 1), counted(2, 3, 1)]), none);
    let two = [counted(0, 9, 2), counted(0, 9, 1)];
    assert_eq!(possible(&HashSet::from([Some(0)]), &two), HashSet::from([Some(2)]));
}
