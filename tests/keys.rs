//! Any bytes are a key and any bytes are a value, up to their bounds.

mod common;

use common::{Node, Random, Shared, chunked, kv};
use std::sync::Arc;

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|setup| {
        setup.workers(2);
    })
}

#[test]
fn every_byte_is_a_key_of_its_own() {
    let node = Node::start(|setup| {
        setup.workers(2);
    });
    let mut client = node.client();
    for byte in 0..=255u8 {
        for path in [format!("/api/kv/%{byte:02X}"), format!("/api/kv/two%{byte:02x}two")] {
            client.put(&path, [byte]).expect(201);
        }
    }
    for byte in 0..=255u8 {
        for path in [format!("/api/kv/%{byte:02x}"), format!("/api/kv/two%{byte:02X}two")] {
            assert_eq!(client.get(&path).expect(200).body, [byte]);
        }
    }
}

#[test]
fn all_256_bytes_in_one_key() {
    let node = node();
    let mut client = node.client();
    let key: Vec<u8> = (0..=255).collect();
    client.put(&kv(&key), "all").expect(201);
    assert_eq!(client.get(&kv(&key)).text(), "all");
    client.get(&kv(&key[1..])).expect(404);
    client.get(&kv(&key[..255])).expect(404);
    client.delete(&kv(&key)).expect(200);
}

#[test]
fn a_slash_is_data_plain_or_encoded() {
    let node = node();
    let mut client = node.client();
    client.put("/api/kv/a/b", "x").expect(201);
    assert_eq!(client.get("/api/kv/a%2Fb").expect(200).text(), "x");
    assert_eq!(client.get("/api/kv/a%2fb").expect(200).text(), "x");
    client.put("/api/kv/%61%2F%62", "y").expect(200);
    assert_eq!(client.get("/api/kv/a/b").text(), "y");
}

#[test]
fn nothing_is_folded() {
    let node = node();
    let mut client = node.client();
    let keys = [
        "f", "f/", "f//", "/f", "//f", "f/.", "f/..", "f/../f", "./f", "../f", "f/./f", "f//f", "f/f", ".",
        "..", "/", "f+f", "f%20f", "f%2Bg", "F", "f;a=b", "f,f", "f=f", "f&f", "f:f@f", "f%25", "f%2525",
        "f%3F", "f%23", "~f", "f'(f)*!$",
    ];
    for key in keys {
        client.put(&format!("/api/kv/{key}"), key).expect(201);
    }
    for key in keys {
        assert_eq!(client.get(&format!("/api/kv/{key}")).expect(200).text(), key);
    }
    client.get("/api/kv/f%2Bf").expect(200);
    client.get("/api/kv/f f").expect(400); // a space ends the target, and what follows is no version
}

#[test]
fn the_query_is_no_part_of_the_key() {
    let node = node();
    let mut client = node.client();
    client.put("/api/kv/q?ttl=500", "x").expect(201);
    assert_eq!(client.get("/api/kv/q").expect(200).text(), "x");
    assert_eq!(client.get("/api/kv/q?anything=else&x").expect(200).text(), "x");
    assert_eq!(client.get("/api/kv/q?").expect(200).text(), "x");
    client.get("/api/kv/q%3Fttl=500").expect(404);
}

#[test]
fn a_malformed_escape_is_400() {
    let node = node();
    for path in ["%", "%4", "%zz", "a%", "a%4", "a%4g", "%%41", "%-1", "a%u0041"] {
        let mut client = node.client();
        client.get(&format!("/api/kv/{path}")).expect(400);
    }
}

#[test]
fn a_key_is_1_to_1024_bytes_after_decoding() {
    let node = node();
    let mut client = node.client();
    for length in [1, 2, 1_023, 1_024] {
        let plain = format!("/api/kv/{}", "k".repeat(length));
        client.put(&plain, "x").expect(201);
        let encoded = format!("/api/kv/{}", "%6b".repeat(length));
        assert_eq!(client.get(&encoded).expect(200).text(), "x");
        client.put(&format!("/api/kv/{}", "%ff".repeat(length)), "x").expect(201);
    }
    for path in [format!("/api/kv/{}", "k".repeat(1_025)), format!("/api/kv/{}", "%6b".repeat(1_025))] {
        for (method, body) in [("GET", ""), ("PUT", "x"), ("DELETE", ""), ("PATCH", "lock")] {
            let mut client = node.client();
            client.call(method, &path, &[], body.as_bytes()).expect(414);
        }
    }
    for (method, body) in [("GET", ""), ("PUT", "x"), ("DELETE", ""), ("PATCH", "lock")] {
        let mut client = node.client();
        client.call(method, "/api/kv/", &[], body.as_bytes()).expect(400);
    }
}

#[test]
fn values_of_every_size_come_back_sized_and_chunked() {
    let node = node();
    let mut client = node.client();
    let mut random = Random::seeded(31);
    let sizes = [
        0, 1, 2, 255, 256, 4_095, 4_096, 8_191, 8_192, 8_193, 16_384, 32_000, 32_767, 32_768, 32_769, 65_535,
        65_536, 65_537, 131_072, 262_143, 262_144, 262_145, 1_048_575, 1_048_576, 1_048_577,
    ];
    for size in sizes {
        let value = random.bytes(size);
        let path = kv(format!("size-{size}"));
        client.put(&path, &value).expect(201);
        assert!(client.get(&path).expect(200).body == value, "{size} sized");
        let value = random.bytes(size);
        let body = chunked(&value, 1 + random.below(20_000));
        client.call("PUT", &path, &[("Transfer-Encoding", "chunked")], &body).expect(200);
        assert!(client.get(&path).expect(200).body == value, "{size} chunked");
        assert_eq!(client.call("HEAD", &path, &[], b"").content_length(), Some(size as u64));
    }
}

#[test]
fn a_value_of_every_byte_comes_back_exactly() {
    let node = node();
    let mut client = node.client();
    let value: Vec<u8> = (0..=255).cycle().take(2_000).collect();
    client.put(&kv("bytes"), &value);
    assert_eq!(client.get(&kv("bytes")).body, value);
}

#[test]
fn the_largest_value_is_7_mib_and_one_byte_more_is_413() {
    let node = node();
    let mut client = node.client();
    let limit = 7_340_032;
    let value: Vec<u8> = (0..limit as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let path = kv("largest");
    for size in [limit - 1, limit] {
        client.put(&path, &value[..size]);
        assert!(client.get(&path).expect(200).body == value[..size], "{size}");
    }
    let body = chunked(&value, 100_000);
    client.call("PUT", &path, &[("Transfer-Encoding", "chunked")], &body).expect(200);
    assert!(client.get(&path).expect(200).body == value, "chunked");

    let mut over = value.clone();
    over.push(0);
    let refused = client.put(&path, &over).expect(413);
    assert!(!refused.message().is_empty());
    let mut client = node.client();
    let body = chunked(&over, 100_000);
    client.call("PUT", &path, &[("Transfer-Encoding", "chunked")], &body).expect(413);
    let mut client = node.client();
    assert!(client.get(&path).expect(200).body == value, "the refused ones left it alone");
}

#[test]
fn the_limit_of_the_file_is_the_limit() {
    let node = Node::start(|setup| {
        setup.set("store.max_limit", 1_000);
    });
    let mut client = node.client();
    client.put(&kv("k"), vec![1; 999]).expect(201);
    client.put(&kv("k"), vec![2; 1_000]).expect(200);
    client.put(&kv("k"), vec![3; 1_001]).expect(413);
    let mut client = node.client();
    for (size, status) in [(1_000, 200), (1_001, 413)] {
        let body = chunked(&vec![4; size], 7);
        client.call("PUT", &kv("k"), &[("Transfer-Encoding", "chunked")], &body).expect(status);
    }
    let mut client = node.client();
    assert_eq!(client.get(&kv("k")).body, vec![4; 1_000]);
}

#[test]
fn the_request_limit_binds_bodies_that_are_no_values() {
    let node = Node::start(|setup| {
        setup.set("http.request_size_limit", 10_000).set("store.max_limit", 8_000);
    });
    let mut client = node.client();
    let batch = |size: usize| format!("[{}]", " ".repeat(size - 2));
    client.call("POST", "/api/kv/batch", &[], batch(10_000).as_bytes()).expect(200);
    client.call("POST", "/api/kv/batch", &[], batch(10_001).as_bytes()).expect(413);
    let mut client = node.client();
    let body = chunked(batch(10_001).as_bytes(), 1_000);
    client.call("POST", "/api/kv/batch", &[("Transfer-Encoding", "chunked")], &body).expect(413);
}
