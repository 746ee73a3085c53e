//! Slow clients are told, idle ones are let go without a word.

mod common;

use common::{Node, Trouble, kv};
use std::io::Write;
use std::time::{Duration, Instant};

/// Long enough that a busy machine cannot blur what is measured, short enough to wait for.
const HEADER: Duration = Duration::from_millis(800);
const IDLE: Duration = Duration::from_millis(1_500);
/// How late a timer may fire on a busy machine.
const LATE: Duration = Duration::from_secs(3);

fn node() -> Node {
    Node::start(|setup| {
        setup.set("http.header_timeout", format!("{}ms", HEADER.as_millis()));
        setup.set("http.idle_timeout", format!("{}ms", IDLE.as_millis()));
    })
}

#[track_caller]
fn assert_between(elapsed: Duration, least: Duration) {
    assert!(elapsed >= least - Duration::from_millis(20), "after {elapsed:?}, not before {least:?}");
    assert!(elapsed <= least + LATE, "only after {elapsed:?}");
}

#[test]
fn a_head_that_stalls_is_408() {
    let node = node();
    for part in ["G", "GET /livez HTTP/1.1\r\n", "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: "] {
        let mut client = node.stranger();
        let began = Instant::now();
        client.send(part.as_bytes());
        let answer = client.response().expect(408);
        assert_between(began.elapsed(), HEADER);
        assert!(answer.closes(), "{answer}");
        client.expect_close();
    }
}

#[test]
fn a_head_that_dribbles_is_408_all_the_same() {
    let node = node();
    let mut client = node.stranger();
    let began = Instant::now();
    client.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ");
    while !client.hears_within(Duration::from_millis(50)) {
        let _ = client.try_send(b"x");
        assert!(began.elapsed() < HEADER + LATE, "a byte now and then keeps a head alive");
    }
    client.response().expect(408);
    assert_between(began.elapsed(), HEADER);
}

#[test]
fn a_head_that_stalls_behind_an_answer_is_408_too() {
    let node = node();
    let mut client = node.client();
    let mut bytes = client.compose("GET", "/livez", &[], b"");
    bytes.extend(b"GET /livez HT");
    client.send(&bytes);
    client.response().expect(200);
    client.response().expect(408);
    client.expect_close();
}

#[test]
fn a_body_that_stalls_is_408_and_stores_nothing() {
    let node = node();
    for (fields, part) in [
        ([("Content-Length", "100")], b"fifty".as_slice()),
        ([("Content-Length", "1000000")], b"part of it"),
        ([("Transfer-Encoding", "chunked")], b"5\r\nhel"),
        ([("Transfer-Encoding", "chunked")], b"5\r\nhello\r\n"),
        ([("Content-Length", "100")], b""),
    ] {
        let mut client = node.client();
        let request = client.compose("PUT", &kv("stalled"), &fields, part);
        client.send(&request);
        let answer = client.response().expect(408);
        assert!(answer.closes(), "{answer}");
        client.expect_close();
    }
    node.client().get(&kv("stalled")).expect(404);
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let node = node();
    let mut fresh = node.stranger();
    let mut used = node.client();
    used.put(&kv("idle"), "x");
    let began = Instant::now();
    used.expect_orderly_close();
    assert_between(began.elapsed(), IDLE);
    assert_eq!(fresh.try_response("GET").map(|answer| answer.to_string()), Err(Trouble::Closed(false)));
}

#[test]
fn a_connection_in_use_outlives_both_timeouts() {
    let node = node();
    let mut client = node.client();
    let began = Instant::now();
    while began.elapsed() < IDLE + HEADER {
        client.get("/livez").expect(200);
        assert!(!client.hears_within(Duration::from_millis(100)), "closed while in use");
    }
}

#[test]
fn a_large_upload_at_a_fair_pace_outlives_the_timeouts() {
    let node = node();
    let mut client = node.client();
    let began = Instant::now();
    let head = client.compose("PUT", &kv("paced"), &[("Content-Length", "5000000")], b"");
    client.send(&head);
    for _ in 0..49 {
        client.send(&[7; 100_000]);
        let pace = (IDLE + HEADER) / 49;
        assert!(!client.hears_within(pace), "answered within the upload, after {:?}", began.elapsed());
    }
    client.send(&[7; 100_000]);
    client.response().expect(201);
    assert_eq!(client.get(&kv("paced")).body.len(), 5_000_000);
}

#[test]
fn a_steady_reader_of_a_long_pipeline_outlives_the_timeouts() {
    const GETS: usize = 200;
    const PACE: Duration = Duration::from_millis(25);
    let node = node();
    let mut client = node.client();
    client.put(&kv("steady"), vec![7; 60_000]).expect(201);
    socket2::SockRef::from(client.stream()).set_recv_buffer_size(16 * 1024).unwrap();
    let gets = client.compose("GET", &kv("steady"), &[], b"").repeat(GETS);
    let mut writer = client.stream().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(&gets).unwrap());
        let (_never, pause) = std::sync::mpsc::channel::<()>();
        for _ in 0..GETS {
            assert_eq!(client.response().expect(200).body.len(), 60_000);
            let _ = pause.recv_timeout(PACE);
        }
    });
}
