//! Reads the fields by which a client says what it would like: codings, ranges, preferences.
//!
//! Everything here is a wish, so nothing here refuses: what is malformed counts as not said. Takes
//! the lines of a field (`Request::field_lines`) where the field is a list.

use std::ops::Range;

use super::field::{elements, split, trim};

/// Whether `Accept-Encoding` admits a content coding (RFC 9110, section 12.5.3).
///
/// `identity` is admitted unless it is refused by name or by `*;q=0`; any other coding must be
/// named, or be covered by a `*`. `x-gzip` is `gzip`.
pub fn accepts_coding<'h>(lines: impl Iterator<Item = &'h [u8]>, coding: &str) -> bool {
    let mut wildcard = None;
    for element in lines.flat_map(elements) {
        let (name, quality) = weighed(element);
        let name = if name.eq_ignore_ascii_case(b"x-gzip") { b"gzip" } else { name };
        if name.eq_ignore_ascii_case(coding.as_bytes()) {
            return quality;
        }
        if name == b"*" {
            wildcard = Some(quality);
        }
    }
    wildcard.unwrap_or(coding == "identity")
}

/// Whether `Accept` names a media type. A wildcard does not: this is for types that are only sent
/// to those who ask for them.
pub fn names_type<'h>(lines: impl Iterator<Item = &'h [u8]>, media_type: &str) -> bool {
    lines.flat_map(elements).any(|element| {
        let (name, quality) = weighed(element);
        quality && name.eq_ignore_ascii_case(media_type.as_bytes())
    })
}

/// The part of a list element before its parameters, and whether its weight admits it. A malformed
/// weight does not.
fn weighed(element: &[u8]) -> (&[u8], bool) {
    let mut parts = split(element, b';');
    let name = parts.next().unwrap_or_default();
    let admitted = parts.all(|parameter| match parameter {
        [b'q' | b'Q', b'=', weight @ ..] => is_positive_weight(weight),
        _ => true,
    });
    (name, admitted)
}

/// `0.001` to `1`, at most three decimals (RFC 9110, section 12.4.2).
fn is_positive_weight(weight: &[u8]) -> bool {
    match weight {
        [b'1'] => true,
        [b'1', b'.', decimals @ ..] => decimals.len() <= 3 && decimals.iter().all(|&digit| digit == b'0'),
        [b'0', b'.', decimals @ ..] => {
            decimals.len() <= 3
                && decimals.iter().all(u8::is_ascii_digit)
                && decimals.iter().any(|&digit| digit != b'0')
        }
        _ => false,
    }
}

/// The values of a directive, in the order of their lines: `directives(lines, "max-age")` for
/// `Cache-Control`, `directives(lines, "return")` for `Prefer`. A directive without a value gives
/// an empty one, quotes are taken off, and parameters behind a `;` are passed over. Where only one
/// may count, the first does (RFC 7240, section 2).
pub fn directives<'h>(lines: impl Iterator<Item = &'h [u8]>, name: &str) -> impl Iterator<Item = &'h [u8]> {
    lines.flat_map(elements).filter_map(move |element| {
        let directive = split(element, b';').next()?;
        let end = memchr::memchr(b'=', directive).unwrap_or(directive.len());
        let value = trim(directive.get(end + 1..).unwrap_or_default());
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        trim(&directive[..end]).eq_ignore_ascii_case(name.as_bytes()).then(|| unquoted.unwrap_or(value))
    })
}

/// What a `Range` asks of a representation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeResult {
    /// Everything: the field is malformed, in another unit, or names several ranges, which a server
    /// may answer as if the field were not there (RFC 9110, section 14.2).
    Whole,
    /// These bytes. Never empty.
    Part(Range<u64>),
    /// Nothing that there is: 416.
    Unsatisfiable,
}

/// Reads the value of `Range` for a representation of `len` bytes (RFC 9110, section 14.1.2).
pub fn byte_range(value: &[u8], len: u64) -> RangeResult {
    parse_range(value, len).unwrap_or(RangeResult::Whole)
}

/// `None` for what is to be ignored.
fn parse_range(value: &[u8], len: u64) -> Option<RangeResult> {
    let (unit, set) = value.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let spec = trim(set);
    let dash = memchr::memchr(b'-', spec)?;
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);

    let range = match (first, last) {
        ([], suffix) => match saturating_decimal(suffix)? {
            0 => return Some(RangeResult::Unsatisfiable),
            suffix => len.saturating_sub(suffix)..len,
        },
        (first, []) => saturating_decimal(first)?..len,
        (first, last) => {
            let (first, last) = (saturating_decimal(first)?, saturating_decimal(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(len)
        }
    };
    match range.is_empty() {
        false => Some(RangeResult::Part(range)),
        // The last bytes of nothing are all of it.
        true if first.is_empty() => None,
        true => Some(RangeResult::Unsatisfiable),
    }
}

/// One or more digits. A number that does not fit is larger than any length, which is all that
/// matters here.
fn saturating_decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        digit.is_ascii_digit().then(|| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
    })
}

#[cfg(test)]
mod tests {
    use super::{RangeResult, accepts_coding, byte_range, directives, names_type};

    fn lines(text: &str) -> impl Iterator<Item = &[u8]> {
        text.lines().map(str::as_bytes)
    }

    #[test]
    fn a_coding_is_accepted_when_it_is_named_or_covered() {
        for (field, gzip, zstd, identity) in [
            ("", false, false, true),
            ("gzip", true, false, true),
            ("GZIP , br", true, false, true),
            ("x-gzip", true, false, true),
            ("gzip;q=0", false, false, true),
            ("gzip; q=0.000, zstd ;q=0.001", false, true, true),
            ("*", true, true, true),
            ("*;q=0", false, false, false),
            ("identity;q=0", false, false, false),
            ("*;q=0, identity", false, false, true),
            ("*;q=0, gzip;q=1", true, false, false),
            ("gzip;q=0\n*;q=0.5", false, true, true),
            ("gzip;q=1.000", true, false, true),
            ("gzip;q=1.001", false, false, true),
            ("gzip;q=2", false, false, true),
            ("gzip;q=", false, false, true),
            ("gzip;q=.5", false, false, true),
            ("gzip;q=0.5000", false, false, true),
            ("gzip;Q=0", false, false, true),
            (", ,gzip,,", true, false, true),
            ("gzipp, gzi", false, false, true),
        ] {
            assert_eq!(accepts_coding(lines(field), "gzip"), gzip, "gzip in {field:?}");
            assert_eq!(accepts_coding(lines(field), "zstd"), zstd, "zstd in {field:?}");
            assert_eq!(accepts_coding(lines(field), "identity"), identity, "identity in {field:?}");
        }
    }

    #[test]
    fn a_media_type_must_be_named() {
        const PROBLEM: &str = "application/problem+json";
        for field in
            [PROBLEM, "text/html, application/Problem+JSON;q=0.5", "a/b\napplication/problem+json; v=1"]
        {
            assert!(names_type(lines(field), PROBLEM), "{field}");
        }
        for field in ["", "*/*", "application/*", "application/json", "application/problem+json;q=0"] {
            assert!(!names_type(lines(field), PROBLEM), "{field}");
        }
    }

    #[test]
    fn directives_are_found_with_and_without_values() {
        let find = |field: &'static str, name: &str| -> Vec<String> {
            directives(lines(field), name).map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
        };
        assert_eq!(find("no-store, Max-Age=60", "max-age"), ["60"]);
        assert_eq!(find("max-age=\"60\"\nmax-age = 30", "max-age"), ["60", "30"]);
        assert_eq!(find("s-max-age=60, max-agee=1, x=\"max-age=2\"", "max-age"), [""; 0]);
        assert_eq!(find("respond-async, return=minimal; foo=\"a,b\"", "return"), ["minimal"]);
        assert_eq!(find("respond-async", "respond-async"), [""]);
        assert_eq!(find("return=\"mini,mal\"", "return"), ["mini,mal"]);
        assert_eq!(find("return=\"", "return"), ["\""]);
    }

    #[test]
    fn a_single_range_is_cut_to_the_length() {
        use RangeResult::{Part, Unsatisfiable, Whole};
        for (value, len, result) in [
            ("bytes=0-0", 10, Part(0..1)),
            ("bytes=0-9", 10, Part(0..10)),
            ("bytes=0-10", 10, Part(0..10)),
            ("Bytes=9-", 10, Part(9..10)),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=10-20", 10, Unsatisfiable),
            ("bytes=-1", 10, Part(9..10)),
            ("bytes=-10", 10, Part(0..10)),
            ("bytes=-11", 10, Part(0..10)),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes= 1-2 ", 10, Part(1..3)),
            ("bytes=0-99999999999999999999999", 10, Part(0..10)),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=18446744073709551615-18446744073709551615", u64::MAX, Unsatisfiable),
            ("bytes=0-18446744073709551615", u64::MAX, Part(0..u64::MAX)),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-5", 0, Whole),
            ("bytes=2-1", 10, Whole),
            ("bytes=0-1,3-4", 10, Whole),
            ("bytes=0-1,", 10, Whole),
            ("bytes=", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=1", 10, Whole),
            ("bytes=a-b", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=1--2", 10, Whole),
            ("bytes=0x1-2", 10, Whole),
            ("bytes 0-1", 10, Whole),
            ("items=0-1", 10, Whole),
            ("", 10, Whole),
        ] {
            assert_eq!(byte_range(value.as_bytes(), len), result, "{value} of {len}");
        }
    }
}
