//! Targets and the values of fields that are read apart: nothing panics, a decoded path is what the
//! plainest decoding gives, and what is encoded comes back.
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz target`
#![no_main]

use libfuzzer_sys::fuzz_target;
use lucid::http::negotiate::{RangeResult, accepts_coding, byte_range, directives, names_type};
use lucid::http::target::{decode_in_place, query_pairs};

fuzz_target!(|bytes: &[u8]| {
    let mut decoded = bytes.to_vec();
    let decoded = decode_in_place(&mut decoded).ok().map(|len| decoded[..len].to_vec());
    assert_eq!(decoded, naive_decode(bytes));

    let mut encoded: Vec<u8> = bytes.iter().flat_map(|byte| format!("%{byte:02X}").into_bytes()).collect();
    assert_eq!(decode_in_place(&mut encoded), Ok(bytes.len()));
    assert_eq!(&encoded[..bytes.len()], bytes);

    for (name, value) in query_pairs(bytes).flatten() {
        assert!(name.len() + value.len() <= bytes.len());
    }

    let lines = || bytes.split(|&byte| byte == b'\n');
    accepts_coding(lines(), "gzip");
    accepts_coding(lines(), "identity");
    names_type(lines(), "application/problem+json");
    directives(lines(), "max-age").count();
    for len in [0, 1, 10, u64::MAX] {
        if let RangeResult::Part(range) = byte_range(bytes, len) {
            assert!(range.start < range.end && range.end <= len);
        }
    }
});

fn naive_decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    let mut rest = bytes;
    while let Some((&byte, behind)) = rest.split_first() {
        if byte == b'%' {
            let digits = behind.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
            decoded.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &behind[2..];
        } else {
            decoded.push(byte);
            rest = behind;
        }
    }
    Some(decoded)
}
