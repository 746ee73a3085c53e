//! Where the network cuts a request does not matter.

mod common;

use common::{Client, Node, chunked, kv};

/// Waits until the node's only reactor has read whatever was sent on other connections before: it reads
/// all ready connections before it answers any.
fn barrier(other: &mut Client) {
    other.call("GET", "/livez", &[], b"").expect(200);
}

/// What a stream of requests is and what comes of it: status and body for each.
struct Script {
    bytes: Vec<u8>,
    answers: Vec<(&'static str, u16, Vec<u8>)>,
}

fn script(client: &Client, name: &str) -> Script {
    let path = kv(name);
    let created = br#"{"message":"The specified key was successfully created."}"#.to_vec();
    let updated = br#"{"message":"The specified key was successfully updated."}"#.to_vec();
    let deleted = br#"{"message":"The specified key and its data was successfully deleted."}"#.to_vec();
    let counted = br#"{"message":"The specified key was successfully incremented.","value":42}"#.to_vec();
    let mut bytes = Vec::new();
    bytes.extend(client.compose("PUT", &path, &[("Content-Type", "text/plain")], b"hello"));
    bytes.extend(client.compose("GET", &path, &[("Accept-Encoding", "gzip"), ("X-Other", "1")], b""));
    let mut body = chunked(b"41", 1);
    body.truncate(body.len() - 2);
    body.extend_from_slice(b"X-Trailer: yes\r\n\r\n");
    bytes.extend(client.compose("PUT", &path, &[("Transfer-Encoding", "chunked")], &body));
    bytes.extend(client.compose("PATCH", &path, &[], b"{\"operation\":\"increment\"}"));
    bytes.extend(client.compose("HEAD", &path, &[], b""));
    bytes.extend(b"\r\n"); // an empty line before a request is skipped
    bytes.extend(client.compose("DELETE", &path, &[], b""));
    let answers = vec![
        ("PUT", 201, created),
        ("GET", 200, b"hello".to_vec()),
        ("PUT", 200, updated),
        ("PATCH", 200, counted),
        ("HEAD", 200, Vec::new()),
        ("DELETE", 200, deleted),
    ];
    Script { bytes, answers }
}

fn check(client: &mut Client, script: &Script, how: &str) {
    for (method, status, body) in &script.answers {
        let answer = client.response_to(method);
        assert_eq!((answer.status, &answer.body), (*status, body), "{method}, {how}: {answer}");
    }
}

#[test]
fn requests_split_at_every_byte_are_answered_the_same() {
    let node = Node::start(|_| {});
    let mut client = node.client();
    let mut other = node.client();
    let script = script(&client, "split");
    for at in 1..script.bytes.len() {
        client.send(&script.bytes[..at]);
        barrier(&mut other);
        client.send(&script.bytes[at..]);
        check(&mut client, &script, &format!("split at {at}"));
    }
}

#[test]
fn requests_that_come_byte_by_byte_are_answered_the_same() {
    let node = Node::start(|_| {});
    let mut client = node.client();
    let mut other = node.client();
    let script = script(&client, "dribbled");
    for byte in &script.bytes {
        client.send(&[*byte]);
        barrier(&mut other);
    }
    check(&mut client, &script, "byte by byte");
}

#[test]
fn requests_in_pieces_of_any_size_are_answered_the_same() {
    let node = Node::start(|_| {});
    let mut client = node.client();
    let mut other = node.client();
    let mut random = common::Random::seeded(41);
    let script = script(&client, "pieces");
    for _ in 0..100 {
        let mut rest = script.bytes.as_slice();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(1 + random.below(rest.len().min(200)));
            client.send(piece);
            barrier(&mut other);
            rest = behind;
        }
        check(&mut client, &script, "in pieces");
    }
}

#[test]
fn a_body_larger_than_any_buffer_may_come_in_any_pieces() {
    let node = Node::start(|_| {});
    let mut client = node.client();
    let mut other = node.client();
    let mut random = common::Random::seeded(42);
    let value = random.bytes(200_000);
    for (fields, body) in
        [(vec![], value.clone()), (vec![("Transfer-Encoding", "chunked")], chunked(&value, 9_999))]
    {
        let request = client.compose("PUT", &kv("large"), &fields, &body);
        let mut rest = request.as_slice();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(1 + random.below(rest.len().min(9_000)));
            client.send(piece);
            barrier(&mut other);
            rest = behind;
        }
        let put = client.response();
        assert!([200, 201].contains(&put.status), "{put}");
        assert!(client.get(&kv("large")).body == value);
        client.delete(&kv("large")).expect(200);
    }
}

/// A GET whose head has exactly this many bytes.
fn padded_get(client: &Client, bytes: usize) -> Vec<u8> {
    let bare = client.compose("GET", "/livez", &[("X-Pad", "")], b"").len();
    client.compose("GET", "/livez", &[("X-Pad", &"p".repeat(bytes - bare))], b"")
}

#[test]
fn a_head_may_end_anywhere_around_the_end_of_a_buffer() {
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let mut client = node.client();
    let value = vec![b'v'; 50_000];
    // Powers of two are what buffers are made of.
    for buffer in [8_192, 16_384, 32_768, 65_536] {
        for off in -20..=20 {
            for fields in [vec![("Transfer-Encoding", "chunked")], vec![]] {
                let body = if fields.is_empty() { value.clone() } else { chunked(&value, 7_000) };
                let put = client.compose("PUT", &kv("anywhere"), &fields, &body);
                let head_bytes = put.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
                let before = (buffer + off) as usize - head_bytes;
                let count = before.div_ceil(15_000);
                let mut bytes = Vec::new();
                for at in 0..count {
                    bytes.extend(padded_get(&client, (before - bytes.len()) / (count - at)));
                }
                assert_eq!(bytes.len() + head_bytes, (buffer + off) as usize);
                bytes.extend(put);
                client.send(&bytes);
                for _ in 0..count {
                    client.response().expect(200);
                }
                let answer = client.response();
                assert!([200, 201].contains(&answer.status), "{buffer} {off} {fields:?}: {answer}");
                assert!(client.get(&kv("anywhere")).body == value, "{buffer} {off} {fields:?}");
            }
        }
    }
}

#[test]
fn a_client_that_stops_sending_gets_its_answers_still() {
    let node = Node::start(|_| {});
    let mut client = node.client();
    let script = script(&client, "half-closed");
    client.send(&script.bytes);
    client.finish_sending();
    check(&mut client, &script, "half closed");
    client.expect_orderly_close();
}
