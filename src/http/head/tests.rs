//! Tests of the head parser: by example, at the limits, and beside a naive reading.

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};

use super::parse_head;
use crate::http::{BodyDecoder, Field, Framing, Method, Refusal, Request, Version};
use crate::limits::{HEAD_BYTES_MAX, TARGET_BYTES_MAX};

#[path = "../../../tests/common/malformed.rs"]
mod malformed;
#[path = "../../../tests/common/naive_head.rs"]
mod naive_head;

fn parse(buf: &[u8]) -> Result<Option<Request>, Refusal> {
    parse_head(buf, &mut 0)
}

/// A complete request.
fn taken(buf: &[u8]) -> Request {
    parse(buf).unwrap().unwrap()
}

/// Parses what arrives piece by piece, as a connection does.
fn dribble(buf: &[u8], piece: usize) -> Result<Option<Request>, Refusal> {
    let mut scanned = 0;
    for end in (0..buf.len()).step_by(piece).skip(1).chain([buf.len()]) {
        match parse_head(&buf[..end], &mut scanned) {
            Ok(None) => assert!(scanned <= end),
            settled => return settled,
        }
    }
    Ok(None)
}

const BROWSER: &[u8] = b"GET /api/kv/some%2Fkey?ttl=60&if=exists HTTP/1.1\r\nHost: localhost:7020\r\n\
    Connection: keep-alive\r\nAccept: text/html,application/xhtml+xml;q=0.9\r\nAccept: */*;q=0.8 \t\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    If-None-Match: \"a\"\r\nCookie: a=b\r\naccept:\r\nAuthorization: Bearer x.y.z\r\n\r\n";

#[test]
fn the_parts_of_a_request_are_where_the_spans_say() {
    let request = taken(BROWSER);
    assert_eq!(request.method, Method::Get);
    assert_eq!(request.version, Version::Http11);
    assert_eq!(request.framing, Framing::None);
    assert!(request.keep_alive && !request.expect_continue && !request.is_plain());
    assert_eq!(usize::from(request.head_len), BROWSER.len());
    assert_eq!(request.path.of(BROWSER), b"/api/kv/some%2Fkey");
    assert_eq!(request.query.unwrap().of(BROWSER), b"ttl=60&if=exists");
    assert_eq!(request.field(BROWSER, Field::Authorization), Some(&b"Bearer x.y.z"[..]));
    assert_eq!(request.field(BROWSER, Field::IfNoneMatch), Some(&b"\"a\""[..]));
    assert_eq!(request.field(BROWSER, Field::Token), None);
    assert_eq!(request.field_lines(BROWSER, Field::Token).count(), 0);
    let accept: Vec<&[u8]> = request.field_lines(BROWSER, Field::Accept).collect();
    assert_eq!(accept, [&b"text/html,application/xhtml+xml;q=0.9"[..], b"*/*;q=0.8", b""]);
}

#[test]
fn lines_of_a_field_end_with_the_head() {
    let two = b"GET / HTTP/1.1\r\nHost: a\r\nAccept: a/b\r\nAccept: c/d\r\n\r\nAccept: e/f\r\n";
    assert_eq!(taken(two).field_lines(two, Field::Accept).count(), 2);
}

#[test]
fn credentials_types_and_what_is_accepted_leave_a_request_plain() {
    let with = |line: &str| {
        taken(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n{line}\r\n\r\n").as_bytes())
    };
    for line in
        ["token: a", "Authorization: a", "Content-Type: a/b", "Accept: */*", "Accept-Encoding: x", "X: y"]
    {
        assert!(with(line).is_plain(), "{line}");
    }
    for line in [
        "If-Match: *",
        "If-None-Match: *",
        "If-Range: x",
        "Range: x",
        "Prefer: x",
        "Cache-Control: x",
        "X-TTL: 1",
        "X-Fencing-Token: 1",
        "Origin: x",
        "Content-Encoding: x",
        "Access-Control-Request-Method: x",
        "Access-Control-Request-Headers: x",
    ] {
        assert!(!with(line).is_plain(), "{line}");
    }
}

#[test]
fn a_request_split_at_every_byte_parses_the_same() {
    let later = String::from_utf8(BROWSER.to_vec()).unwrap().replace("HTTP/1.1", "HTTP/1.7").into_bytes();
    for whole in [BROWSER.to_vec(), later, [b"\r\n\r\n", BROWSER].concat()] {
        let request = taken(&whole);
        for at in 0..whole.len() {
            let mut scanned = 0;
            assert_eq!(parse_head(&whole[..at], &mut scanned), Ok(None), "cut at {at}");
            assert_eq!(parse_head(&whole, &mut scanned), Ok(Some(request)), "split at {at}");
        }
        for piece in [1, 2, 3, 5, 7, 64] {
            assert_eq!(dribble(&whole, piece), Ok(Some(request)), "pieces of {piece}");
        }
    }
}

#[test]
fn empty_lines_before_a_request_move_its_spans() {
    let whole = [b"\r\n", BROWSER].concat();
    let (request, plain) = (taken(&whole), taken(BROWSER));
    assert_eq!(usize::from(request.head_len), whole.len());
    assert_eq!(request.path.of(&whole), plain.path.of(BROWSER));
    assert_eq!(request.query.unwrap().of(&whole), plain.query.unwrap().of(BROWSER));
    let lines =
        |request: &Request, head| request.field_lines(head, Field::Accept).map(<[u8]>::to_vec).collect();
    let (moved, unmoved): (Vec<_>, Vec<_>) = (lines(&request, &whole), lines(&plain, BROWSER));
    assert_eq!(moved, unmoved);
}

#[test]
fn requests_in_a_pipeline_are_found_one_behind_the_other() {
    let put = b"PUT /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let chunked = b"PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let stream = [BROWSER, put, b"\r\n", BROWSER, chunked, b"GET / HTTP/1.0\r\n\r\n", b"GET /cut"].concat();
    let (mut rest, mut found) = (&stream[..], Vec::new());
    while let Some(request) = parse(rest).unwrap() {
        let (head, behind) = rest.split_at(usize::from(request.head_len));
        found.push(request.path.of(head).to_vec());
        rest = behind;
        let (mut decoder, mut body) = (BodyDecoder::new(request.framing), Vec::new());
        loop {
            let decoded = decoder.decode(rest).unwrap();
            body.extend_from_slice(decoded.data);
            rest = &rest[decoded.consumed..];
            if decoded.done {
                break;
            }
        }
        assert_eq!(body.len(), if request.method == Method::Put { 5 } else { 0 });
    }
    let key = &b"/api/kv/some%2Fkey"[..];
    assert_eq!(found, [key, b"/b", key, b"/c", b"/"]);
    assert_eq!(rest, b"GET /cut");
}

/// The status of the refusal, 200 for a complete message, 0 for one that wants more.
fn fate(bytes: &[u8], piece: usize) -> u16 {
    let request = match dribble(bytes, piece) {
        Ok(Some(request)) => request,
        Ok(None) => return 0,
        Err(refusal) => return refusal.status().code(),
    };
    let mut decoder = BodyDecoder::new(request.framing);
    let mut rest = &bytes[usize::from(request.head_len)..];
    loop {
        match decoder.decode(&rest[..rest.len().min(piece)]) {
            Err(refusal) => return refusal.status().code(),
            Ok(decoded) => rest = &rest[decoded.consumed..],
        }
        match decoder.decode(b"") {
            Ok(decoded) if decoded.done => return if rest.is_empty() { 200 } else { 299 },
            _ if rest.is_empty() => return 0,
            _ => {}
        }
    }
}

#[test]
fn every_odd_request_meets_its_fate_however_it_arrives() {
    let cases = malformed::cases();
    assert!(cases.len() >= 120, "{}", cases.len());
    for case in &cases {
        for piece in [usize::MAX, 4_096, 7, 1] {
            let piece = piece.min(case.bytes.len());
            assert_eq!(fate(&case.bytes, piece), case.status, "{}, in pieces of {piece}", case.name);
        }
    }
}

#[test]
fn each_byte_is_judged_alike_wherever_it_stands() {
    // The vectored scans of httparse take 8 to 32 bytes at a time: short and long surroundings.
    for byte in 0..=255_u8 {
        for len in [0, 1, 7, 15, 16, 31, 32, 33, 63] {
            let (a, b) = (vec![b'x'; len], [byte]);
            let target = [b"GET /", &a[..], &b, &a, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
            assert_eq!(
                parse(&target).is_ok_and(|request| request.is_some()),
                matches!(byte, b'!'..=b'~') && byte != b'#',
                "{byte} in a target"
            );
            let value = [b"GET / HTTP/1.1\r\nHost: a\r\nX:y", &a[..], &b, &a, b"z\r\n\r\n"].concat();
            assert_eq!(
                parse(&value).is_ok_and(|request| request.is_some()),
                matches!(byte, b'\t' | b' '..=b'~' | 128..),
                "{byte} in a value"
            );
            let name = [b"GET / HTTP/1.1\r\nHost: a\r\nX", &a[..], &b, &a, b": y\r\n\r\n"].concat();
            let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(
                parse(&name).is_ok_and(|request| request.is_some()),
                is_token || byte == b':',
                "{byte} in a name"
            );
        }
    }
}

#[test]
fn a_limit_is_reported_as_soon_as_it_is_certain() {
    let target = format!("GET /{}", "x".repeat(TARGET_BYTES_MAX));
    let edge = target.len() - 1;
    assert_eq!(dribble(&target.as_bytes()[..edge], 1), Ok(None));
    assert_eq!(dribble(target.as_bytes(), 1), Err(Refusal::TargetTooLong));

    let head = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
    assert_eq!(dribble(&head.as_bytes()[..HEAD_BYTES_MAX - 1], 1), Ok(None));
    assert_eq!(dribble(&head.as_bytes()[..HEAD_BYTES_MAX], 1), Err(Refusal::HeadTooLarge));

    let fields = format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(101));
    assert_eq!(dribble(&fields.as_bytes()[..fields.len() - 6], 1), Ok(None));
    assert_eq!(dribble(fields.as_bytes(), 1), Err(Refusal::HeadTooLarge));
}

#[test]
fn a_bare_line_feed_is_reported_before_the_head_is_complete() {
    assert!(dribble(b"GET / HTTP/1.1\n", 1).is_err());
    assert!(dribble(b"GET / HTTP/1.1\r\nHost: a\n", 1).is_err());
}

#[test]
fn a_version_is_refused_when_it_is_certain() {
    assert_eq!(parse(b"GET / HTTP/2"), Ok(None));
    assert_eq!(parse(b"GET / HTTP/2."), Ok(None));
    assert_eq!(parse(b"GET / HTTP/2.0"), Err(Refusal::VersionUnsupported));
    assert!(matches!(parse(b"GET / HTTP/2\r"), Err(Refusal::BadRequest(_))));
    assert_eq!(parse(b"GET / HTTP/1.2"), Ok(None));
}

#[test]
fn the_connection_goes_on_as_version_and_options_say() {
    for (version, connection, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: keep-alive, close\r\n", false),
        ("1.1", "Connection: x\r\nConnection: y ,close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Connection:\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.0", "Connection: upgrade\r\n", false),
    ] {
        let head = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n");
        assert_eq!(taken(head.as_bytes()).keep_alive, keep_alive, "{head:?}");
    }
}

#[test]
fn a_client_waits_for_100_only_with_a_body_and_in_1_1() {
    for (version, lines, waits) in [
        ("1.1", "Expect: 100-continue\r\nContent-Length: 5\r\n", true),
        ("1.1", "Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n", true),
        ("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n", false),
        ("1.1", "Expect: 100-continue\r\n", false),
        ("1.1", "Expect:\r\nContent-Length: 5\r\n", false),
        ("1.0", "Expect: 100-continue\r\nContent-Length: 5\r\n", false),
        ("1.0", "Expect: anything\r\nContent-Length: 5\r\n", false),
    ] {
        let head = format!("PUT / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(taken(head.as_bytes()).expect_continue, waits, "{head:?}");
    }
}

#[test]
fn the_largest_content_length_fits() {
    let head = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n";
    assert_eq!(taken(head).framing, Framing::Sized(u64::MAX));
}

#[test]
fn the_naive_reading_agrees_on_every_odd_head() {
    for case in malformed::cases() {
        agree(&case.bytes);
    }
}

/// Holds the parser against the naive reading of the same bytes.
fn agree(buf: &[u8]) {
    let naive = naive_head::read(buf);
    let parsed = parse(buf);
    match (&naive, &parsed) {
        (naive_head::Verdict::Taken(head), Ok(Some(request))) => assert_same(head, request, buf),
        (naive_head::Verdict::Refused, Err(_)) | (naive_head::Verdict::Incomplete, Ok(None)) => {}
        (naive_head::Verdict::Incomplete, Err(refusal)) => assert_doomed(buf, *refusal),
        _ => panic!("{naive:?} is not {parsed:?} in {:?}", buf.escape_ascii().to_string()),
    }
    for piece in [1, 2, 13] {
        // What is wrong in a head may come out later when it arrives in pieces, but not too late.
        let dribbled = dribble(buf, piece);
        let late = dribbled == Ok(None) && naive == naive_head::Verdict::Incomplete;
        assert!(
            dribbled == parsed || parsed.is_err() && (dribbled.is_err() || late),
            "{dribbled:?} in pieces of {piece} is not {parsed:?}"
        );
    }
}

/// A head refused before its end must be one that no end would have made well-formed.
fn assert_doomed(buf: &[u8], refusal: Refusal) {
    for end in [
        "\n",
        "\r\n",
        "\n\r\n",
        "\r\n\r\n",
        "\r\nHost: a\r\n\r\n",
        "\n\r\nHost: a\r\n\r\n",
        ": a\r\n\r\n",
        ": a\r\nHost: a\r\n\r\n",
        "/ HTTP/1.1\r\nHost: a\r\n\r\n",
        " / HTTP/1.1\r\nHost: a\r\n\r\n",
        " HTTP/1.1\r\nHost: a\r\n\r\n",
        "HTTP/1.1\r\nHost: a\r\n\r\n",
        ".1\r\nHost: a\r\n\r\n",
        "1\r\nHost: a\r\n\r\n",
    ] {
        let whole = [buf, end.as_bytes()].concat();
        let naive = naive_head::read(&whole);
        assert!(
            !matches!(naive, naive_head::Verdict::Taken(_)),
            "{refusal:?} was premature in {:?}",
            whole.escape_ascii().to_string()
        );
    }
}

fn assert_same(naive: &naive_head::Head, request: &Request, buf: &[u8]) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(request.method.name(), naive.method);
    assert_eq!(request.version == Version::Http11, naive.http_1_1);
    assert_eq!(text(request.path.of(buf)), naive.path);
    assert_eq!(request.query.map(|query| text(query.of(buf))), naive.query);
    assert_eq!(request.keep_alive, naive.keep_alive);
    assert_eq!(request.expect_continue, naive.expect_continue);
    assert_eq!(usize::from(request.head_len), naive.len);
    let framing = match (naive.chunked, naive.content_length) {
        (true, _) => Framing::Chunked,
        (false, Some(length)) => Framing::Sized(length),
        (false, None) => Framing::None,
    };
    assert_eq!(request.framing, framing);
    for (field, name) in [
        (Field::Authorization, "authorization"),
        (Field::Token, "token"),
        (Field::ContentType, "content-type"),
        (Field::Accept, "accept"),
        (Field::IfMatch, "if-match"),
        (Field::XTtl, "x-ttl"),
        (Field::Range, "range"),
        (Field::CacheControl, "cache-control"),
    ] {
        let lines: Vec<&[u8]> = request.field_lines(buf, field).collect();
        let expected: Vec<&[u8]> =
            naive.fields.iter().filter(|(other, _)| other == name).map(|(_, value)| &value[..]).collect();
        assert_eq!(lines, expected, "{name}");
        assert_eq!(request.field(buf, field), expected.first().copied());
        assert_eq!(request.has(field), !expected.is_empty());
    }
}

/// Heads put together from parts that are likely to be right or interesting when wrong.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let method = prop::sample::select(vec!["GET", "PUT", "OPTIONS", "HEAD", "get", "CONNECT", "", "G T"]);
    let target = prop::sample::select(vec![
        "/",
        "/a/b?c=d",
        "*",
        "http://a",
        "http://a:1/x?y",
        "HTTPS://[::1]/",
        "/a#b",
        "a:80",
        "http://@/",
        "/?",
        "?a",
    ]);
    let version = prop::sample::select(vec![
        "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1",
    ]);
    let line = prop::sample::select(vec![
        "Host: a",
        "Host: a",
        "host:b:80",
        "Host: a b",
        "Host: %4",
        "Content-Length: 5",
        "content-length: 5, 5",
        "Content-Length: 6",
        "Content-Length: +5",
        "Content-Length:",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Connection: close",
        "Connection: keep-alive, x",
        "Expect: 100-continue",
        "Expect: \"a,b\"",
        "Authorization: Bearer x",
        "Accept: a/b",
        "accept: c/d , e/f",
        "If-Match: \"x\"",
        "X-TTL: 60",
        "Range: bytes=0-",
        "Cache-Control: max-age=1",
        "Content-Type:\ta/b \t",
        "X:",
        "X : y",
        " folded",
        ": x",
        "X",
        "X: \u{fc}",
    ]);
    let end =
        prop_oneof![9 => Just("\r\n"), 1 => prop::sample::select(vec!["\n", "\r", "", "\r\n\r\n", "\r\r\n"])];
    let lines = prop::collection::vec((line, end.clone()), 0..6);
    (method, target, version, end.clone(), lines, end, any::<bool>()).prop_map(
        |(method, target, version, first, lines, last, host)| {
            let mut head = format!("{method} {target} {version}{first}");
            if host {
                head.push_str("Host: h\r\n");
            }
            for (line, end) in lines {
                head.push_str(line);
                head.push_str(end);
            }
            head.push_str(last);
            head.into_bytes()
        },
    )
}

/// A change at a place, by the thousandth.
#[derive(Clone, Debug)]
enum Damage {
    Insert(u8),
    Replace(u8),
    Remove,
    Cut,
    Double(usize),
}

fn damages() -> impl Strategy<Value = Vec<(usize, Damage)>> {
    let byte = prop_oneof![
        prop::sample::select(b"\r\n \t\0:;,/%?#*\x7f\x80\xffaA05+\"[]HTP.".to_vec()),
        any::<u8>()
    ];
    let damage = prop_oneof![
        byte.clone().prop_map(Damage::Insert),
        byte.prop_map(Damage::Replace),
        Just(Damage::Remove),
        Just(Damage::Cut),
        (1..40_usize).prop_map(Damage::Double),
    ];
    prop::collection::vec((0..1_000_usize, damage), 0..3)
}

fn damaged(mut head: Vec<u8>, damages: Vec<(usize, Damage)>) -> Vec<u8> {
    for (place, damage) in damages {
        let at = place * head.len() / 1_000;
        match damage {
            Damage::Insert(byte) => head.insert(at, byte),
            _ if head.is_empty() => {}
            Damage::Replace(byte) => head[at] = byte,
            Damage::Remove => drop(head.remove(at)),
            Damage::Cut => head.truncate(at),
            Damage::Double(len) => {
                let piece = head[at..(at + len).min(head.len())].to_vec();
                head.splice(at..at, piece);
            }
        }
    }
    head
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_parser_agrees_with_the_naive_reading(head in heads(), damages in damages()) {
        agree(&damaged(head, damages));
    }

    #[test]
    fn no_bytes_make_the_parser_panic_or_point_outside(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        agree(&bytes);
    }
}
