//! What it costs to read a head and to write one: `cargo bench --bench http`.
//!
//! The heads are those that real clients send. One core's share of a request is a few microseconds
//! unpipelined and under one when it is pipelined, so tens of nanoseconds matter here.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lucid::http::{BodyDecoder, DateCache, Framing, Preamble, Status, Version, parse_head, response};

/// wrk 4.1 with nothing but a URL.
const WRK: &[u8] = b"GET /api/kv/key:0000012345 HTTP/1.1\r\nHost: 127.0.0.1:7020\r\n\r\n";

/// curl 8 with a token.
const CURL: &[u8] = b"GET /api/kv/key:0000012345 HTTP/1.1\r\nHost: localhost:7020\r\nUser-Agent: curl/8.14.1\r\n\
    Accept: */*\r\nAuthorization: Bearer eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJMdWNpZCBSb290IFRva2VuIiwiaXNzI\
    joiaHR0cDovL2xvY2FsaG9zdDo3MDIxLyIsImlhdCI6MTU3NDQyMDE0NSwiZXhwIjo0MTAyNDQ0ODAwfQ.jWx1sTSGHE6geupZLIBjwy2YogXaUv4AJ\
    av0YCmg2iw\r\n\r\n";

/// oha and other clients on hyper.
const OHA: &[u8] =
    b"PUT /api/kv/key:0000012345 HTTP/1.1\r\naccept: */*\r\naccept-encoding: gzip, compress, deflate, br\r\n\
    content-length: 64\r\nhost: localhost:7020\r\n\r\n";

/// A browser's navigation.
const BROWSER: &[u8] = b"GET /api/kv/key:0000012345 HTTP/1.1\r\nHost: localhost:7020\r\nConnection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"142\", \"Not?A_Brand\";v=\"99\"\r\nsec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Linux\"\r\n\
    Upgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/142.0.0.0 Safari/537.36\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,\
    image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7\r\nSec-Fetch-Site: none\r\n\
    Sec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9\r\nIf-None-Match: \"b0071d000123456789abcdef\"\r\n\r\n";

fn heads(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse_head");
    for (name, head) in [("wrk", WRK), ("curl", CURL), ("oha", OHA), ("browser", BROWSER)] {
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(name, |b| b.iter(|| parse_head(black_box(head), &mut 0)));
    }
    group.finish();
}

fn bodies(c: &mut Criterion) {
    let chunk = [b"2000\r\n", &[b'x'; 8_192][..], b"\r\n"].concat();
    let body = [chunk.repeat(8), b"0\r\n\r\n".to_vec()].concat();
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("chunks of 8 KiB", |b| {
        b.iter(|| {
            let mut decoder = BodyDecoder::new(Framing::Chunked);
            let (mut rest, mut bytes) = (black_box(&body[..]), 0);
            while let Ok(decoded) = decoder.decode(rest) {
                bytes += decoded.data.len();
                rest = &rest[decoded.consumed..];
                if decoded.done {
                    break;
                }
            }
            bytes
        })
    });
    group.finish();
}

fn answers(c: &mut Criterion) {
    let mut preamble = Preamble::new();
    preamble.tick(1_700_000_000);
    let mut dates = DateCache::new();
    let mut out = Vec::with_capacity(1_024);
    c.bench_function("answer head of a GET", |b| {
        b.iter(|| {
            out.clear();
            preamble.begin(&mut out, Status::Ok);
            response::field(&mut out, "Content-Type: ", black_box(b"application/octet-stream"));
            response::content_length(&mut out, black_box(64));
            response::field(&mut out, "ETag: ", black_box(b"\"b0071d000123456789abcdef\""));
            response::field(&mut out, "Last-Modified: ", dates.get(black_box(1_699_999_999)));
            response::connection(&mut out, black_box(Version::Http11), true);
            response::end(&mut out);
            out.len()
        })
    });
}

criterion_group!(benches, heads, bodies, answers);
criterion_main!(benches);
