//! Heads: the parser agrees with a naive reading of the same bytes, and with itself when they come
//! in pieces. `cargo +nightly fuzz run --fuzz-dir tests/fuzz head`
#![no_main]

use libfuzzer_sys::fuzz_target;
use lucid::http::{Framing, Refusal, Request, Version, parse_head};

#[path = "../../common/naive_head.rs"]
mod naive_head;

use naive_head::Verdict;

fuzz_target!(|bytes: &[u8]| {
    let naive = naive_head::read(bytes);
    let parsed = parse_head(bytes, &mut 0);
    match (&naive, &parsed) {
        (Verdict::Taken(head), Ok(Some(request))) => assert_same(head, request, bytes),
        (Verdict::Refused | Verdict::Incomplete, Err(_)) | (Verdict::Incomplete, Ok(None)) => {}
        _ => panic!("{naive:?} is not {parsed:?}"),
    }
    let piece = 1 + bytes.len() % 61;
    let dribbled = dribble(bytes, piece);
    let late = dribbled == Ok(None) && naive == Verdict::Incomplete;
    assert!(
        dribbled == parsed || parsed.is_err() && (dribbled.is_err() || late),
        "{dribbled:?} is not {parsed:?}"
    );
});

fn dribble(bytes: &[u8], piece: usize) -> Result<Option<Request>, Refusal> {
    let mut scanned = 0;
    for end in (piece..bytes.len()).step_by(piece).chain([bytes.len()]) {
        match parse_head(&bytes[..end], &mut scanned) {
            Ok(None) => {}
            settled => return settled,
        }
    }
    Ok(None)
}

fn assert_same(naive: &naive_head::Head, request: &Request, bytes: &[u8]) {
    assert_eq!(request.method.name(), naive.method);
    assert_eq!(request.version == Version::Http11, naive.http_1_1);
    assert_eq!(request.path.of(bytes), naive.path.as_bytes());
    assert_eq!(request.query.map(|query| query.of(bytes)), naive.query.as_deref().map(str::as_bytes));
    assert_eq!(request.keep_alive, naive.keep_alive);
    assert_eq!(request.expect_continue, naive.expect_continue);
    assert_eq!(usize::from(request.head_len), naive.len);
    assert_eq!(
        request.framing,
        match (naive.chunked, naive.content_length) {
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Sized(length),
            (false, None) => Framing::None,
        }
    );
}
