//! Parts of a value: single byte ranges, and whose bytes they are.

mod common;

use common::{Client, Node, Response, Shared, kv};
use std::sync::Arc;

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|setup| {
        setup.workers(2);
    })
}

fn range(client: &mut Client, path: &str, range: &str) -> Response {
    client.call("GET", path, &[("Range", range)], b"")
}

#[test]
fn a_single_range_answers_those_bytes() {
    let node = node();
    let mut client = node.client();
    let path = kv("ten");
    client.call("PUT", &path, &[("Content-Type", "text/plain")], b"0123456789");
    let whole = client.get(&path);
    for (asked, part, shown) in [
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=5-", "56789", "bytes 5-9/10"),
        ("bytes=9-9", "9", "bytes 9-9/10"),
        ("bytes=0-", "0123456789", "bytes 0-9/10"),
        ("bytes=8-100", "89", "bytes 8-9/10"),
        ("bytes=0-18446744073709551615", "0123456789", "bytes 0-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
        ("bytes=-10", "0123456789", "bytes 0-9/10"),
        ("bytes=-11", "0123456789", "bytes 0-9/10"),
    ] {
        let got = range(&mut client, &path, asked).expect(206);
        assert_eq!(got.text(), part, "{asked}");
        assert_eq!(got.field("content-range"), Some(shown), "{asked}");
        for field in ["content-type", "etag", "last-modified", "accept-ranges", "x-content-type-options"] {
            assert_eq!(got.field(field), whole.field(field), "{asked}: {field}");
        }
    }
}

#[test]
fn a_range_past_the_end_is_416_with_the_length() {
    let node = node();
    let mut client = node.client();
    let path = kv("short");
    client.put(&path, "0123456789");
    client.put(&kv("empty"), "");
    for asked in ["bytes=10-", "bytes=10-10", "bytes=99-100", "bytes=-0", "bytes=18446744073709551615-"] {
        let refused = range(&mut client, &path, asked).expect(416);
        assert_eq!(refused.field("content-range"), Some("bytes */10"), "{asked}");
    }
    let refused = range(&mut client, &kv("empty"), "bytes=0-").expect(416);
    assert_eq!(refused.field("content-range"), Some("bytes */0"));
}

#[test]
fn what_is_no_single_byte_range_is_answered_whole() {
    let node = node();
    let mut client = node.client();
    let path = kv("whole");
    client.put(&path, "0123456789");
    for asked in [
        "bytes=4-2",
        "bytes=a-b",
        "bytes=",
        "bytes",
        "bytes=-",
        "items=0-1",
        "bytes=0-1,3-4",
        "bytes=0x0-1",
        "bytes=+1-2",
        "0-1",
        "bytes=1--2",
    ] {
        let got = range(&mut client, &path, asked).expect(200);
        assert_eq!(got.text(), "0123456789", "{asked}");
        assert_eq!(got.field("content-range"), None, "{asked}");
    }
}

#[test]
fn if_range_asks_for_a_part_of_the_same_bytes_only() {
    let node = node();
    let mut client = node.client();
    let path = kv("if-range");
    client.put(&path, "0123456789");
    let got = client.get(&path);
    let tag = got.expect_field("etag").to_string();
    let part = |client: &mut Client, validator: &str| {
        client.call("GET", &path, &[("Range", "bytes=1-2"), ("If-Range", validator)], b"")
    };
    assert_eq!(part(&mut client, &tag).expect(206).text(), "12");
    for validator in ["\"other\"", &format!("W/{tag}"), "Sun, 06 Nov 1994 08:49:37 GMT", "junk"] {
        assert_eq!(part(&mut client, validator).expect(200).text(), "0123456789", "{validator}");
    }
    client.put(&path, "abcdefghij");
    assert_eq!(part(&mut client, &tag).expect(200).text(), "abcdefghij");
}

#[test]
fn a_304_comes_before_a_range_and_a_404_before_both() {
    let node = node();
    let mut client = node.client();
    let path = kv("order");
    client.put(&path, "0123456789");
    let fields = [("Range", "bytes=50-"), ("If-None-Match", "*")];
    client.call("GET", &path, &fields, b"").expect(304);
    client.call("GET", &kv("nothing"), &fields, b"").expect(404);
}

#[test]
fn parts_of_a_large_value_are_exact_at_every_seam() {
    let node = node();
    let mut client = node.client();
    let path = kv("large");
    let value: Vec<u8> = (0..3_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    client.put(&path, &value).expect(201);
    let seams =
        [0, 1, 4_095, 8_192, 32_768, 32_769, 65_536, 65_537, 262_144, 1_048_575, 1_048_576, 2_999_999];
    for &first in &seams {
        for last in seams.into_iter().filter(|last| *last >= first) {
            let got = range(&mut client, &path, &format!("bytes={first}-{last}")).expect(206);
            assert!(got.body == value[first..=last], "{first}-{last}");
            assert_eq!(got.field("content-range"), Some(&*format!("bytes {first}-{last}/3000000")));
        }
    }
}
