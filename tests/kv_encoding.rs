//! Values stored with a content coding: sent as they are to those who take it, decoded for the others.

mod common;

use common::{Client, Node, Shared, kv};
use std::io::Write;
use std::sync::Arc;

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|setup| {
        setup.workers(2);
    })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

fn put(client: &mut Client, path: &str, coding: &str, bytes: &[u8]) {
    let fields = [("Content-Encoding", coding), ("Content-Type", "text/plain")];
    client.call("PUT", path, &fields, bytes).expect(201);
}

/// `"tag"` as the decoded form shows it: `"tag-d"`.
fn decoded(tag: &str) -> String {
    format!("{}-d\"", &tag[..tag.len() - 1])
}

#[test]
fn a_client_that_takes_the_coding_gets_the_bytes_as_they_were_put() {
    let node = node();
    let mut client = node.client();
    let text = b"the quick brown fox ".repeat(50);
    for (coding, bytes) in [("gzip", gzip(&text)), ("zstd", zstd(&text))] {
        let path = kv(format!("as-is-{coding}"));
        put(&mut client, &path, coding, &bytes);
        for accept in
            [coding, "*", "br, gzip, zstd", &format!("{coding};q=0.1, identity"), &coding.to_uppercase()]
        {
            let got = client.call("GET", &path, &[("Accept-Encoding", accept)], b"").expect(200);
            assert!(got.body == bytes, "{coding} for {accept}");
            assert_eq!(got.field("content-encoding"), Some(coding), "{accept}");
            assert_eq!(got.field("content-type"), Some("text/plain"));
            assert!(got.lists("vary", "accept-encoding"), "{got}");
            assert!(!got.expect_field("etag").ends_with("-d\""), "{got}");
        }
    }
}

#[test]
fn everyone_else_gets_it_decoded_under_a_tag_of_its_own_without_ranges() {
    let node = node();
    let mut client = node.client();
    let text = b"the quick brown fox ".repeat(5_000);
    for (coding, bytes) in [("gzip", gzip(&text)), ("zstd", zstd(&text))] {
        let path = kv(format!("decoded-{coding}"));
        put(&mut client, &path, coding, &bytes);
        let raw = client.call("GET", &path, &[("Accept-Encoding", coding)], b"");
        let tag = raw.expect_field("etag").to_string();
        let none = format!("{coding};q=0");
        let accepts =
            [None, Some("identity"), Some("br"), Some(""), Some(none.as_str()), Some("*;q=0, identity")];
        for accept in accepts {
            let accept: Vec<_> = accept.iter().map(|accept| ("Accept-Encoding", *accept)).collect();
            let got = client.call("GET", &path, &accept, b"").expect(200);
            assert!(got.body == text, "{coding} for {accept:?}: {got}");
            assert_eq!(got.field("content-encoding"), None);
            assert_eq!(got.field("etag"), Some(&*decoded(&tag)));
            assert_eq!(got.field("content-type"), Some("text/plain"));
            assert_eq!(got.field("last-modified"), raw.field("last-modified"));
            assert!(got.lists("vary", "accept-encoding"), "{got}");
            assert_ne!(got.field("accept-ranges"), Some("bytes"), "{got}");
        }
        let got = client.call("GET", &path, &[("Range", "bytes=0-3")], b"").expect(200);
        assert!(got.body == text, "no ranges of a decoded value");
        let head = client.call("HEAD", &path, &[], b"").expect(200);
        assert_eq!(head.content_length(), Some(text.len() as u64));
        assert_eq!(head.field("etag"), Some(&*decoded(&tag)));
        let fields = [("Range", "bytes=0-3"), ("Accept-Encoding", coding)];
        let got = client.call("GET", &path, &fields, b"").expect(206);
        assert_eq!(got.body, bytes[..4]);
    }
}

#[test]
fn conditions_know_both_tags() {
    let node = node();
    let mut client = node.client();
    let path = kv("both");
    put(&mut client, &path, "gzip", &gzip(b"one"));
    let plain = client.get(&path).expect_field("etag").to_string();
    let raw = client.call("GET", &path, &[("Accept-Encoding", "gzip")], b"").expect_field("etag").to_string();
    assert_eq!(plain, decoded(&raw));
    client.call("GET", &path, &[("If-None-Match", &plain)], b"").expect(304);
    client.call("GET", &path, &[("If-None-Match", &raw), ("Accept-Encoding", "gzip")], b"").expect(304);
    client.call("GET", &path, &[("If-None-Match", &raw)], b"").expect(200);
    client.call("GET", &path, &[("If-None-Match", &plain), ("Accept-Encoding", "gzip")], b"").expect(200);
    client.call("PATCH", &path, &[("If-Match", &plain)], b"persist").expect(200);
    client.call("PATCH", &path, &[("If-Match", &raw)], b"persist").expect(200);
    client.call("PUT", &path, &[("If-Match", &plain)], b"two").expect(200);
    client.call("PUT", &path, &[("If-Match", &plain)], b"three").expect(412);
    let got = client.get(&path);
    assert_eq!((got.text().as_str(), got.field("content-encoding")), ("two", None));
    assert!(!got.expect_field("etag").ends_with("-d\""), "an identity value has one form: {got}");
}

#[test]
fn what_cannot_be_decoded_is_406_for_those_who_need_it_decoded() {
    let node = node();
    let mut client = node.client();
    let good = gzip(&b"abc".repeat(1_000));
    let mut damaged = good.clone();
    let last = damaged.len() - 6;
    damaged[last] ^= 0xff;
    let cut = &good[..good.len() / 2];
    for (at, (coding, bytes)) in [
        ("gzip", b"no gzip".as_slice()),
        ("gzip", b""),
        ("gzip", &damaged),
        ("gzip", cut),
        ("zstd", b"no zstd"),
        ("zstd", b"\x28\xb5\x2f\xfd\xff"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = kv(format!("broken-{at}"));
        put(&mut client, &path, coding, bytes);
        client.get(&path).expect(406);
        client.call("HEAD", &path, &[], b"").expect(406);
        let got = client.call("GET", &path, &[("Accept-Encoding", coding)], b"").expect(200);
        assert_eq!(got.body, bytes);
    }
}

#[test]
fn a_bomb_is_406_and_costs_no_memory() {
    let node = Node::start(|setup| {
        setup.set("store.max_limit", 1_000_000);
    });
    let mut client = node.client();
    for (coding, encode) in [("gzip", gzip as fn(&[u8]) -> Vec<u8>), ("zstd", zstd)] {
        let (at, over, bomb) = (kv("at"), kv("over"), kv("bomb"));
        client.call("PUT", &at, &[("Content-Encoding", coding)], &encode(&vec![b'a'; 1_000_000]));
        assert_eq!(client.get(&at).expect(200).body.len(), 1_000_000);
        client.call("PUT", &over, &[("Content-Encoding", coding)], &encode(&vec![b'a'; 1_000_001]));
        client.get(&over).expect(406);
        let before = common::process::resident_bytes(node.pid());
        client.call("PUT", &bomb, &[("Content-Encoding", coding)], &encode(&vec![0; 200_000_000]));
        client.get(&bomb).expect(406);
        let grown = common::process::resident_bytes(node.pid()).saturating_sub(before);
        assert!(grown < 32 * 1024 * 1024, "{coding}: grew by {grown}");
    }
}

#[test]
fn whoever_leaves_while_a_value_is_decoded_hinders_no_one() {
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let mut client = node.client();
    let text = b"decoded by many ".repeat(200_000);
    put(&mut client, &kv("left"), "gzip", &gzip(&text));
    for round in 0..40 {
        let mut leaving = node.client();
        let request = leaving.compose("GET", &kv("left"), &[], b"");
        leaving.send(&request.repeat(1 + round % 3));
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(node.client().get(&kv("left")).expect(200).body == text));
        }
    });
    // Answers behind a decoded one keep their order.
    let mut stream = client.compose("GET", &kv("left"), &[], b"");
    stream.extend(client.compose("GET", "/livez", &[], b""));
    stream.extend(client.compose("DELETE", &kv("left"), &[], b""));
    stream.extend(client.compose("GET", &kv("left"), &[], b""));
    client.send(&stream);
    assert!(client.response().expect(200).body == text);
    for status in [200, 200, 404] {
        client.response().expect(status);
    }
}

#[test]
fn codings_are_named_in_any_case_and_identity_is_none() {
    let node = node();
    let mut client = node.client();
    put(&mut client, &kv("case"), "GZip", &gzip(b"text"));
    assert_eq!(client.get(&kv("case")).expect(200).body, b"text");
    put(&mut client, &kv("identity"), "identity", b"text");
    let got = client.get(&kv("identity")).expect(200);
    assert_eq!((got.text().as_str(), got.field("content-encoding")), ("text", None));
}

#[test]
fn a_coding_that_cannot_be_undone_is_not_taken_for_plain_bytes() {
    let node = node();
    let mut client = node.client();
    for coding in ["br", "deflate", "gzip, gzip", "x-unheard-of"] {
        let path = kv(format!("coding-{coding}"));
        let put = client.call("PUT", &path, &[("Content-Encoding", coding)], b"bytes");
        if put.status == 201 {
            client.get(&path).expect(406);
        } else {
            assert!([400, 415].contains(&put.status), "{put}");
            client.get(&path).expect(404);
        }
    }
}

#[test]
fn large_encoded_values_survive_the_way() {
    let node = node();
    let mut client = node.client();
    let mut random = common::Random::seeded(11);
    let bytes = random.bytes(3_000_000);
    for (coding, encoded) in [("gzip", gzip(&bytes)), ("zstd", zstd(&bytes))] {
        let path = kv(format!("large-{coding}"));
        put(&mut client, &path, coding, &encoded);
        assert!(client.get(&path).expect(200).body == bytes, "{coding}");
        let got = client.call("GET", &path, &[("Accept-Encoding", coding)], b"");
        assert!(got.body == encoded, "{coding}");
    }
}
