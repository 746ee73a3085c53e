//! Clients that mean harm, or are merely slow: the node lives, stays small, and serves the others.
//!
//! `LUCID_TEST_SECONDS` makes the time-bound tests run longer than the few seconds they take by default;
//! the bar is 30.

mod common;

use common::malformed::cases;
use common::process::{processor_time, raise_descriptor_limit, resident_bytes};
use common::{Client, Node, Random, Trouble, chunked, kv, token};
use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const MIB: u64 = 1024 * 1024;

/// One at a time: these tests measure time and memory.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seconds(usual: u64) -> Duration {
    let seconds = std::env::var("LUCID_TEST_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(usual))
}

/// Good requests of every kind and bad ones of every kind: what garbage is made from.
fn seeds(client: &Client) -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = cases().into_iter().map(|case| case.bytes).collect();
    let key = kv("garbage");
    seeds.push(client.compose("GET", &key, &[("Range", "bytes=0-5"), ("If-Range", "\"x\"")], b""));
    seeds.push(client.compose(
        "GET",
        &key,
        &[("If-None-Match", "W/\"x\", *"), ("Accept-Encoding", "gzip;q=0.5, *")],
        b"",
    ));
    seeds.push(client.compose("PUT", &key, &[("X-TTL", "5"), ("Cache-Control", "max-age=5")], b"12345"));
    seeds.push(client.compose("PUT", &key, &[("Transfer-Encoding", "chunked")], &chunked(b"hello world", 3)));
    seeds.push(client.compose(
        "PUT",
        &key,
        &[("Content-Encoding", "gzip"), ("Prefer", "return=minimal")],
        b"\x1f\x8b\x08\0",
    ));
    seeds.push(client.compose(
        "PUT",
        &key,
        &[("Content-Encoding", "zstd")],
        b"\x28\xb5\x2f\xfd\x24\x00\x01\x00\x00",
    ));
    seeds.push(client.compose(
        "PATCH",
        &key,
        &[("X-Fencing-Token", "7")],
        br#"{"operation":"increment","value":-1.5e300}"#,
    ));
    seeds.push(client.compose("PATCH", &key, &[], b"operation=lock&value=1"));
    seeds.push(client.compose(
        "DELETE",
        &key,
        &[("Prefer", "return=representation"), ("If-Match", "*")],
        b"",
    ));
    seeds.push(client.compose("GET", "/api/kv?prefix=g&limit=10&cursor=abc", &[], b""));
    seeds.push(client.compose(
        "POST",
        "/api/kv/batch",
        &[],
        br#"[{"op":"put","key":"garbage","base64":"AA=="},{"op":"get","key":"garbage"},{"op":"increment","key":"g","value":9e99}]"#,
    ));
    seeds.push(client.compose(
        "OPTIONS",
        "*",
        &[("Origin", "http://x"), ("Access-Control-Request-Method", "PUT")],
        b"",
    ));
    seeds.push(client.compose("PUT", &key, &[("Expect", "100-continue")], b"x"));
    seeds
}

/// Breaks some bytes: the good part gets the garbage past the first checks.
fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    const TELLING: [&[u8]; 14] = [
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b":",
        b"%",
        b"\xff",
        b",",
        b"chunked",
        b"18446744073709551615",
        b"-1",
        b"\r\n\r\n",
        b"{",
    ];
    let mut bytes = random.pick(seeds).clone();
    if random.below(4) == 0 {
        bytes.extend(random.pick(seeds));
    }
    for _ in 0..random.below(6) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        match random.below(7) {
            0 => bytes[at] = random.next() as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => drop(bytes.remove(at)),
            3 => bytes.insert(at, random.next() as u8),
            4 => drop(bytes.splice(at..at, random.pick(&TELLING).iter().copied())),
            5 => bytes.truncate(at),
            _ => {
                let end = (at + random.below(40)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, part));
            }
        }
    }
    bytes
}

/// Sends garbage and reads what comes until the end; every answer must be one that garbage may have.
fn throw(node: &Node, bytes: &[u8]) {
    let mut client = node.stranger();
    let _ = client.try_send(bytes);
    client.finish_sending_if_open();
    loop {
        // HEAD's answers have no body, so a body here may be the next answer's head; what counts is the
        // status line, and a stream that cannot be followed further is dropped.
        match client.try_response("GET") {
            Ok(answer) if answer.status < 500 || [501, 503, 505, 507].contains(&answer.status) => {}
            Ok(answer) => panic!("{answer} to {:?}", String::from_utf8_lossy(bytes)),
            Err(Trouble::Closed(_)) => return,
            Err(Trouble::Silent) => panic!("no end of {:?}", String::from_utf8_lossy(bytes)),
            Err(_) if has_head(bytes) => return,
            Err(trouble) => panic!("{trouble:?} to {:?}", String::from_utf8_lossy(bytes)),
        }
    }
}

fn has_head(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|window| window == b"HEAD")
}

#[test]
fn mutated_garbage_neither_kills_the_node_nor_makes_it_err() {
    let _alone = alone();
    let node = Node::start(|setup| {
        setup.workers(2).set("http.header_timeout", "500ms").set("authentication.enabled", false);
    });
    let seeds = seeds(&node.client());
    let until = Instant::now() + seconds(5);
    let mut random = Random::seeded(81);
    let thrown: usize = std::thread::scope(|scope| {
        let throwers: Vec<_> = (0..4)
            .map(|_| {
                let (node, seeds, mut random) = (&node, &seeds, random.fork());
                scope.spawn(move || {
                    let mut thrown = 0;
                    while Instant::now() < until {
                        throw(node, &mutate(&mut random, seeds));
                        thrown += 1;
                    }
                    thrown
                })
            })
            .collect();
        throwers.into_iter().map(|thrower| thrower.join().unwrap()).sum()
    });
    println!("{thrown} pieces of garbage");
    assert!(thrown > 100, "only {thrown} thrown");
    node.assert_well();
}

#[test]
fn pure_noise_does_no_harm_either() {
    let _alone = alone();
    let node = Node::start(|setup| {
        setup.set("http.header_timeout", "500ms");
    });
    let mut random = Random::seeded(82);
    for _ in 0..300 {
        let size = 1 + random.below(2_000);
        throw(&node, &random.bytes(size));
    }
    node.assert_well();
}

/// Pipelines GETs of one key and reads nothing, until the node takes no more or was asked for 10 GiB.
fn ask_and_never_read(node: &Node, path: &str, size: u64, mut each: impl FnMut()) -> Client {
    let mut client = node.client();
    let request = client.compose("GET", path, &[], b"");
    let batch = request.repeat(50);
    client.stream().set_write_timeout(Some(Duration::from_millis(700))).unwrap();
    let mut asked = 0;
    while asked < 10 * 1024 * MIB / size {
        match client.try_send(&batch) {
            Ok(()) => asked += 50,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("{error}"),
        }
        each();
    }
    println!("{asked} answers of {size} bytes asked for");
    each();
    client
}

#[test]
fn a_client_that_asks_for_10_gib_and_reads_nothing_costs_at_most_32_mib() {
    let _alone = alone();
    for size in [1_000, 64 * 1024, 300_000, MIB] {
        let node = Node::start(|setup| {
            setup.workers(2);
        });
        let path = kv("wanted");
        let mut other = node.client();
        other.put(&path, vec![b'w'; size as usize]).expect(201);
        for _ in 0..20 {
            other.get(&path).expect(200);
        }
        let before = resident_bytes(node.pid());
        let mut most = 0;
        let mut client =
            ask_and_never_read(&node, &path, size, || most = most.max(resident_bytes(node.pid())));
        let grown = most.saturating_sub(before);
        println!("{size}: grew by {} KiB", grown / 1024);
        assert!(grown <= 32 * MIB, "{size}: grew by {grown}");
        // The others are served meanwhile, and whoever starts to read gets what it asked for.
        other.get("/livez").expect(200);
        for _ in 0..20 {
            assert_eq!(client.response().expect(200).body.len() as u64, size);
        }
        node.assert_well();
    }
}

#[test]
fn many_clients_that_read_nothing_are_bounded_too() {
    let _alone = alone();
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let path = kv("wanted");
    node.client().put(&path, vec![b'w'; 64 * 1024]).expect(201);
    let before = resident_bytes(node.pid());
    let mut clients: Vec<_> = (0..50).map(|_| node.client()).collect();
    for client in &mut clients {
        let request = client.compose("GET", &path, &[], b"").repeat(20);
        client.send(&request);
    }
    node.assert_well();
    let grown = resident_bytes(node.pid()).saturating_sub(before);
    assert!(grown <= 50 * MIB, "grew by {grown} for 50 clients");
    for client in &mut clients {
        for _ in 0..20 {
            assert_eq!(client.response().expect(200).body.len(), 64 * 1024);
        }
    }
}

#[test]
fn an_idle_connection_costs_at_most_4_kib() {
    let _alone = alone();
    let allowed = raise_descriptor_limit();
    let count = (allowed.saturating_sub(200)).min(5_000);
    assert!(count >= 500, "only {allowed} descriptors allowed");
    let node = Node::start(|setup| {
        setup.workers(2).set("http.idle_timeout", "600s").set("http.max_connections", 20_000);
    });
    let token = token::root();
    let open = |count: usize| -> Vec<Client> {
        (0..count)
            .map(|_| {
                let mut client = Client::connect(node.address()).with_token(&token);
                client.get(&kv("none")).expect(404);
                client
            })
            .collect()
    };
    // A first few warm up what a node keeps for itself.
    drop(open(50));
    node.assert_well();
    let before = resident_bytes(node.pid());
    let mut clients = open(count);
    let grown = resident_bytes(node.pid()).saturating_sub(before);
    println!("{count} idle connections: {} bytes each", grown / count as u64);
    assert!(grown / count as u64 <= 4_096, "{count} connections cost {grown}");
    for client in clients.iter_mut().step_by(97) {
        client.get(&kv("none")).expect(404);
    }
}

/// The slowest but for one in a hundred.
fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

#[test]
fn two_hundred_dribblers_do_not_slow_the_others() {
    let _alone = alone();
    let node = Node::start(|setup| {
        setup.workers(2).set("http.header_timeout", "60s").set("http.idle_timeout", "60s");
    });
    let stop = AtomicBool::new(false);
    let mut client = node.client();
    client.put(&kv("quick"), "x");
    let times = std::thread::scope(|scope| {
        scope.spawn(|| {
            let head = b"PUT /api/kv/slow HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".to_vec();
            let mut dribblers: Vec<_> = (0..200).map(|_| node.stranger()).collect();
            let mut at = 0;
            while !stop.load(Ordering::Relaxed) {
                // All 200 in turn, 5 ms apart: each a byte a second.
                let dribbler = &mut dribblers[at % 200];
                let byte = head.get(at / 200).copied().unwrap_or(b'x');
                dribbler.send(&[byte]);
                dribbler.hears_within(Duration::from_millis(5));
                at += 1;
            }
        });
        let until = Instant::now() + seconds(4);
        let mut times = Vec::new();
        while Instant::now() < until {
            let asked = Instant::now();
            client.get(&kv("quick")).expect(200);
            times.push(asked.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        times
    });
    let (count, slow) = (times.len(), p99(times));
    println!("{count} requests, p99 {slow:?}");
    assert!(slow <= Duration::from_millis(100), "p99 {slow:?}");
}

#[test]
fn a_stalled_reader_of_a_large_value_does_not_hold_up_the_others() {
    let _alone = alone();
    let node = Node::start(|_| {});
    let mut client = node.client();
    let value = vec![b'l'; 7_340_032];
    client.put(&kv("large"), &value).expect(201);
    let mut stalled: Vec<_> = (0..4).map(|_| node.client()).collect();
    for stalled in &mut stalled {
        let request = stalled.compose("GET", &kv("large"), &[], b"");
        stalled.send(&request);
    }
    for _ in 0..100 {
        let asked = Instant::now();
        client.get("/livez").expect(200);
        assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    }
    // A new value does not change what is being sent.
    client.put(&kv("large"), "small").expect(200);
    for stalled in &mut stalled {
        let got = stalled.response();
        let untouched = got.status == 200 && (got.body == value || got.body == b"small");
        assert!(untouched, "{got}");
    }
}

#[test]
fn an_answer_never_reaches_another_connection() {
    let _alone = alone();
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let token = token::root();
    let until = Instant::now() + seconds(3);
    let mut random = Random::seeded(83);
    std::thread::scope(|scope| {
        for id in 0..4 {
            let (node, token, mut random) = (&node, &token, random.fork());
            scope.spawn(move || {
                let connect = || Client::connect(node.address()).with_token(token);
                let values: Vec<_> = [1, 500, 20_000, 100_000].map(|size| vec![b'a' + id; size]).to_vec();
                let paths: Vec<_> = (0..4).map(|at| kv(format!("own-{id}-{at}"))).collect();
                let mut client = connect();
                for (path, value) in paths.iter().zip(&values) {
                    client.put(path, value).expect(201);
                }
                while Instant::now() < until {
                    // Places of connections are used again at once, while answers to those who have
                    // left are still on their way.
                    let mut client = connect();
                    let asked: Vec<_> = (0..1 + random.below(10)).map(|_| random.below(4)).collect();
                    let mut bytes = Vec::new();
                    for &at in &asked {
                        bytes.extend(client.compose("GET", &paths[at], &[], b""));
                    }
                    client.send(&bytes);
                    let read = random.below(asked.len() + 1);
                    for &at in &asked[..read] {
                        assert!(client.response().expect(200).body == values[at], "another's answer");
                    }
                }
            });
        }
    });
    node.assert_well();
}

#[test]
fn uploads_that_are_given_up_give_their_room_back() {
    let _alone = alone();
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let size = 7_340_032;
    let value = vec![b'g'; size];
    for round in 0..60 {
        let mut client = node.client();
        let request = match round % 3 {
            0 => client.compose(
                "PUT",
                &kv("given-up"),
                &[("Content-Length", &size.to_string())],
                &value[..100_000],
            ),
            1 => {
                client.compose("PUT", &kv("given-up"), &[("Transfer-Encoding", "chunked")], b"100000\r\nabc")
            }
            _ => {
                client.compose("PUT", &kv("given-up"), &[("Transfer-Encoding", "chunked")], b"3\r\nabcd\r\n")
            }
        };
        let _ = client.try_send(&request);
        if round % 2 == 0 {
            let _ = client.hears_within(Duration::from_millis(5));
        }
    }
    // More than the room for bodies at a time, one after the other: nothing was lost.
    let mut client = node.client();
    for _ in 0..20 {
        let put = client.put(&kv("kept"), &value);
        assert!([200, 201].contains(&put.status), "{put}");
    }
    assert!(client.get(&kv("kept")).expect(200).body == value);
    client.get(&kv("given-up")).expect(404);
}

#[test]
fn uploads_beyond_the_room_for_bodies_are_503_and_come_through_later() {
    let _alone = alone();
    let node = Node::start(|setup| {
        setup.set("store.memory_limit", "64MiB");
    });
    let size = 7_000_000;
    let length = size.to_string();
    let mut held = Vec::new();
    let refused = loop {
        let mut client = node.client();
        let fields = [("Content-Length", length.as_str()), ("Expect", "100-continue")];
        let head = client.compose("PUT", &kv(format!("held-{}", held.len())), &fields, b"");
        client.send(&head);
        let answer = client.response();
        if answer.status != 100 {
            break answer.expect(503);
        }
        held.push(client);
        assert!(held.len() < 64 * 1024 * 1024 / size, "more was promised than there is");
    };
    refused.expect_field("retry-after");
    assert!(!held.is_empty());
    let value = vec![b'h'; size];
    for client in &mut held {
        client.send(&value);
        client.response().expect(201);
    }
    node.client().put(&kv("later"), &value).expect(201);
}

/// Connections stopped at every kind of place, each of which a node could spin on.
fn left_undone(node: &Node) -> Vec<Client> {
    let chunked = [("Transfer-Encoding", "chunked")];
    let mut clients = Vec::new();
    let mut leave = |bytes: Vec<u8>, finish: bool| {
        let client = node.client();
        client.stream().set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let _ = client.stream().write_all(&bytes);
        if finish {
            client.finish_sending();
        }
        clients.push(client);
    };
    let composer = node.client();
    let get = composer.compose("GET", &kv("large"), &[], b"");
    let small = composer.compose("GET", &kv("small"), &[], b"");
    let put = |fields: &[(&str, &str)], body: &[u8]| composer.compose("PUT", &kv("undone"), fields, body);
    let undone = vec![
        Vec::new(),
        b"\r\n".to_vec(),
        b"GET /li".to_vec(),
        [small.as_slice(), b"GET /li"].concat(),
        put(&[("Content-Length", "100")], b"ten bytes."),
        put(&[("Content-Length", "100000")], b"ten bytes."),
        put(&chunked, b""),
        put(&chunked, b"5"),
        put(&chunked, b"5\r"),
        put(&chunked, b"5\r\nhel"),
        put(&chunked, b"5\r\nhello"),
        put(&chunked, b"5\r\nhello\r\n0\r\nX: "),
        put(&chunked, &[b"10000\r\n".as_slice(), &[b'x'; 60_000]].concat()),
        put(&[("Expect", "100-continue"), ("Content-Length", "5")], b""),
        composer.compose("POST", &kv("undone"), &[("Content-Length", "1000")], b"refused, and not all here"),
        [small.repeat(63).as_slice(), &put(&[("Content-Length", "9")], b"half")].concat(),
        [small.repeat(63).as_slice(), &put(&chunked, b"5\r\nhe")].concat(),
        get.repeat(3),
        get.repeat(100),
        small.repeat(20_000),
    ];
    for bytes in undone {
        leave(bytes.clone(), false);
        leave(bytes, true);
    }
    // Refused and lingering.
    let stranger = node.stranger();
    let refused = stranger.compose("PUT", &kv("undone"), &[("Content-Length", "9999999")], &[b'x'; 1_000]);
    let _ = stranger.stream().write_all(&refused);
    clients.push(stranger);
    clients
}

#[test]
fn a_node_rests_whatever_its_clients_have_left_undone() {
    let _alone = alone();
    for workers in [1, 2] {
        let node = Node::start(|setup| {
            setup.workers(workers).set("http.header_timeout", "60s").set("http.idle_timeout", "60s");
        });
        let mut quiet = node.client();
        quiet.put(&kv("large"), vec![b'l'; 5_000_000]).expect(201);
        quiet.put(&kv("small"), "s").expect(201);
        let undone = left_undone(&node);
        quiet.get("/livez").expect(200);
        // Lingering ends after a while.
        assert!(!quiet.hears_within(Duration::from_millis(2_500)));
        let before = processor_time(node.pid());
        assert!(!quiet.hears_within(Duration::from_millis(1_000)));
        let used = processor_time(node.pid()) - before;
        println!("{workers} workers: {used:?} of processor time in a second of rest");
        assert!(used <= Duration::from_millis(60), "{workers} workers: {used:?} within a second");
        drop(undone);
        node.assert_well();
    }
}

#[test]
fn connections_that_are_reset_at_any_moment_leave_nothing_behind() {
    let _alone = alone();
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let mut client = node.client();
    client.put(&kv("reset"), vec![b'r'; 200_000]);
    let request = client.compose("GET", &kv("reset"), &[], b"").repeat(10);
    let upload = client.compose("PUT", &kv("reset-upload"), &[("Content-Length", "1000000")], &[7; 50_000]);
    for round in 0..200 {
        let stranger = node.stranger();
        let mut stream = stranger.stream();
        let _ = stream.write_all(if round % 2 == 0 { &request } else { &upload });
        if round % 4 == 0 {
            let _ = stream.read(&mut [0; 100]);
        }
        // Unread bytes make this end a reset.
    }
    node.assert_well();
    node.client().get(&kv("reset-upload")).expect(404);
}
