//! What clients make the node hold for them stays within its memory limit, whatever they leave unread.

mod common;

use common::{Client, Node, kv, process};
use std::io::Write;
use std::time::Instant;

const MIB: u64 = 1024 * 1024;

/// What the process takes beside the limit, at the most, in these small nodes: 13 MiB of it are the code of
/// a debug build.
const PROCESS_BYTES: u64 = 18 * MIB;

/// A node of 64 MiB, a quarter of which is for bodies in flight, that holds a small value which
/// decodes to a large one.
fn node() -> Node {
    let node = Node::start(|setup| {
        setup.set("store.memory_limit", "64MiB");
    });
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&[0; 7_000_000]).unwrap();
    let zipped = encoder.finish().unwrap();
    node.client().call("PUT", &kv("zipped"), &[("Content-Encoding", "gzip")], &zipped).expect(201);
    node
}

#[test]
fn code_that_only_the_start_needed_is_given_back_and_the_node_serves_on() {
    let node = Node::start(|_| {});
    let mut client = node.client();
    client.put(&kv("a"), b"value").expect(201);
    let at_first = process::resident_file_bytes(node.pid());
    let begun = Instant::now();
    loop {
        assert_eq!(client.get(&kv("a")).expect(200).body, b"value");
        let now = process::resident_file_bytes(node.pid());
        if now < at_first * 2 / 3 {
            break;
        }
        assert!(begun.elapsed() < common::client::PATIENCE, "{now} of {at_first} bytes stay");
    }
    node.assert_well();
}

#[test]
fn decoded_values_that_nobody_reads_are_in_the_budget() {
    let node = node();
    let mut clients: Vec<Client> = (0..40).map(|_| node.client()).collect();
    for client in &mut clients {
        client.send(&client.compose("GET", &kv("zipped"), &[], b""));
    }
    for client in &mut clients {
        assert!(client.hears_within(common::client::PATIENCE));
    }
    let resident = process::resident_bytes(node.pid());
    assert!(resident < 64 * MIB, "{} MiB", resident / MIB);
    let mut statuses: Vec<u16> = clients.iter_mut().map(|client| client.response().status).collect();
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(statuses, [200, 503]);
    // What was read has made room again.
    assert_eq!(node.client().get(&kv("zipped")).expect(200).body.len(), 7_000_000);
    node.assert_well();
}

#[test]
fn bodies_that_wait_behind_a_slow_answer_are_in_the_budget() {
    const UPLOADS: usize = 20;
    const SLOW: usize = 20;
    let node = node();
    let mut client = node.client();
    let slow = client.compose("HEAD", &kv("zipped"), &[], b"").repeat(SLOW);
    // Values are decoded one after the other, so these make each of the slow ones take its time.
    let mut crowd: Vec<Client> = (0..10).map(|_| node.client()).collect();
    crowd.iter_mut().for_each(|other| other.send(&slow));
    let body = vec![b'b'; 7_000_000];
    let length = body.len().to_string();
    let head = client.compose("PUT", &kv("queued"), &[("Content-Length", &length)], b"");
    let mut writer = client.stream().try_clone().unwrap();
    let mut witness = node.client();
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || {
            writer.write_all(&slow).unwrap();
            for _ in 0..UPLOADS {
                writer.write_all(&head).unwrap();
                // So many turns later the node has read all that was sent, and this head by itself.
                for _ in 0..32 {
                    witness.get("/livez").expect(200);
                }
                writer.write_all(&body).unwrap();
            }
        });
        let mut peak = 0;
        while !sending.is_finished() {
            peak = peak.max(process::resident_bytes(node.pid()));
            std::thread::yield_now();
        }
        assert!(peak < 64 * MIB, "{} MiB", peak / MIB);
    });
    for _ in 0..SLOW {
        client.response_to("HEAD").expect(200);
    }
    for at in 0..UPLOADS {
        client.response().expect(if at == 0 { 201 } else { 200 });
    }
}

#[test]
fn slow_readers_of_values_that_are_no_longer_stored_are_bounded_oldest_first() {
    const READERS: usize = 30;
    let node = node();
    let mut writer = node.client();
    let mut readers = Vec::new();
    let mut peak = 0;
    for round in 0..READERS {
        let created = writer.put(&kv("rewritten"), vec![round as u8; 7_000_000]).status;
        assert_eq!(created, if round == 0 { 201 } else { 200 });
        let mut reader = node.client();
        reader.send(&reader.compose("GET", &kv("rewritten"), &[], b""));
        assert!(reader.hears_within(common::client::PATIENCE));
        readers.push(reader);
        peak = peak.max(process::resident_bytes(node.pid()));
    }
    // An eighth of the limit is one such value; what is stored is no burden, whoever reads it.
    let whole = readers.split_off(READERS - 2);
    for mut reader in readers {
        assert!(reader.try_response("GET").is_err(), "an old reader was not closed");
    }
    for (mut reader, round) in whole.into_iter().zip(READERS - 2..) {
        assert!(reader.response().expect(200).body == vec![round as u8; 7_000_000]);
    }
    assert!(peak < 64 * MIB, "{} MiB", peak / MIB);
    node.assert_well();
}

#[test]
fn data_takes_nearly_all_of_the_limit_and_makes_way_for_bodies() {
    const KEYS: usize = 200;
    const VALUE_BYTES: usize = 500_000;
    let node = node();
    let mut client = node.client();
    for key in 0..KEYS {
        client.put(&kv(format!("key-{key}")), vec![key as u8; VALUE_BYTES]).expect(201);
    }
    let mut kept = 0;
    for key in 0..KEYS {
        let got = client.get(&kv(format!("key-{key}")));
        assert!(got.status == 404 || got.body == vec![key as u8; VALUE_BYTES], "{key}");
        kept += usize::from(got.status == 200);
    }
    let kept_bytes = (kept * VALUE_BYTES) as u64;
    assert!(kept_bytes > 64 * MIB * 4 / 5, "{} MiB", kept_bytes / MIB);

    // A quarter of the limit holds two of these bodies.
    let body = vec![b'b'; 7_000_000];
    let length = body.len().to_string();
    let mut uploads: Vec<Client> = (0..2).map(|_| node.client()).collect();
    for (number, upload) in uploads.iter_mut().enumerate() {
        let path = kv(format!("upload-{number}"));
        upload.send(&upload.compose("PUT", &path, &[("Content-Length", &length)], b""));
        upload.send(&body[..6_900_000]);
    }
    let bound = 64 * MIB + PROCESS_BYTES;
    let started = std::time::Instant::now();
    loop {
        client.get("/livez").expect(200);
        let resident = process::resident_bytes(node.pid());
        if resident < bound {
            break;
        }
        assert!(started.elapsed() < common::client::PATIENCE, "{} MiB", resident / MIB);
    }
    let mut third = node.client();
    third.send(&third.compose("PUT", &kv("third"), &[("Content-Length", &length)], b""));
    third.response().expect(503);
    for upload in &mut uploads {
        upload.send(&body[6_900_000..]);
        upload.response().expect(201);
    }
    for number in 0..2 {
        assert!(client.get(&kv(format!("upload-{number}"))).expect(200).body == body);
    }
    assert!(process::resident_bytes(node.pid()) < bound);
    node.assert_well();
}

#[test]
fn bodies_that_nobody_wants_are_not_kept() {
    let node = node();
    let mut strangers: Vec<Client> = (0..400).map(|_| node.client()).collect();
    for stranger in &mut strangers {
        stranger.send(b"PUT /health HTTP/1.1\r\nHost: x\r\nContent-Length: 65000\r\n\r\nthe beginning");
        assert_eq!(stranger.response().status, 200);
    }
    let body = vec![b'b'; 7_000_000];
    node.client().call("PUT", &kv("wanted"), &[], &body).expect(201);
    // The rest of such a body is thrown away, and the next request is found behind it.
    let stranger = &mut strangers[0];
    stranger.send(&[b'x'; 65_000 - 13]);
    stranger.get("/livez").expect(200);
}
