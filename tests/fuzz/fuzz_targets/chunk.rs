//! Chunked bodies: what is decoded does not depend on how the bytes arrive, and a body that is
//! accepted is one that the plainest reading of it gives too.
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz chunk`
#![no_main]

use libfuzzer_sys::fuzz_target;
use lucid::http::{BodyDecoder, Framing};

fuzz_target!(|bytes: &[u8]| {
    let whole = decode(bytes, bytes.len().max(1));
    for piece in [1, 1 + bytes.len() % 13] {
        assert_eq!(decode(bytes, piece), whole, "in pieces of {piece}");
    }
    if let Some(Some((body, consumed))) = whole {
        assert_eq!(naive(&bytes[..consumed]), Some(body));
    }
});

/// The body and how far it went; `Some(None)` if it wants more, `None` if it is refused.
fn decode(bytes: &[u8], piece: usize) -> Option<Option<(Vec<u8>, usize)>> {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    let (mut body, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let decoded = decoder.decode(&bytes[at..bytes.len().min(at + piece)]).ok()?;
        assert!(decoded.consumed > 0);
        body.extend_from_slice(decoded.data);
        at += decoded.consumed;
        if decoded.done {
            return Some(Some((body, at)));
        }
    }
    Some(None)
}

/// Reads a whole chunked body line by line.
fn naive(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = take_line(&mut bytes)?;
        let digits = line.split(|&byte| byte == b';').next()?;
        if digits.is_empty() || digits.len() > 16 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        body.extend_from_slice(bytes.get(..size)?);
        bytes = bytes[size..].strip_prefix(b"\r\n")?;
    }
    loop {
        match take_line(&mut bytes)? {
            [] => return bytes.is_empty().then_some(body),
            line => {
                let name = line.split(|&byte| byte == b':').next()?;
                if name.is_empty() || name.len() == line.len() || name.contains(&b' ') {
                    return None;
                }
            }
        }
    }
}

/// A line that ends in CRLF and holds neither of the two elsewhere.
fn take_line<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let line = bytes[..end].strip_suffix(b"\r")?;
    *bytes = &bytes[end + 1..];
    (!line.contains(&b'\r')).then_some(line)
}
