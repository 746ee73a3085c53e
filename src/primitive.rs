//! JSON primitives as they stand in a document: where one ends, and which of them are equal.
//!
//! Text is kept as it came. What makes two primitives the same value is their [`canonical`]
//! form: strings with their escapes resolved, numbers by their exact value whatever their size, so that
//! `1`, `1.0` and `10e-1` are one number, `-0` is `0`, and neither rounding nor expanding is ever needed.

use std::borrow::Cow;

/// What is no JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A number that cannot be compared: its exponent has over [`EXPONENT_DIGITS_MAX`] digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incomparable;

/// Most digits of an exponent, without leading zeros.
pub const EXPONENT_DIGITS_MAX: usize = 18;

/// Integers up to this many digits are their own canonical form; longer ones, and those that their
/// exponent makes longer, are shown by digits and exponent.
const PLAIN_DIGITS_MAX: usize = 40;

/// Where the primitive ends that begins at `at`. Whoever reads on sees what follows it.
///
/// # Errors
/// When none begins there, or what begins is not well-formed UTF-8 JSON: a string with a control byte or
/// half of a surrogate pair, a number with a leading zero.
pub fn end_of(document: &[u8], at: usize) -> Result<usize, Malformed> {
    let word = |word: &[u8]| match document[at..].starts_with(word) {
        true => Ok(at + word.len()),
        false => Err(Malformed),
    };
    match document.get(at) {
        Some(b'"') => end_of_string(document, at),
        Some(b'-' | b'0'..=b'9') => end_of_number(document, at),
        Some(b't') => word(b"true"),
        Some(b'f') => word(b"false"),
        Some(b'n') => word(b"null"),
        _ => Err(Malformed),
    }
}

/// Where the string ends whose opening quote is at `at`.
///
/// # Errors
/// See [`end_of`].
pub fn end_of_string(document: &[u8], at: usize) -> Result<usize, Malformed> {
    let mut from = at + 1;
    loop {
        let plain = memchr::memchr2(b'"', b'\\', &document[from..]).ok_or(Malformed)?;
        // Without a branch for each byte, so that many are looked at together.
        if document[from..from + plain].iter().fold(false, |any, byte| any | (*byte < 0x20)) {
            return Err(Malformed);
        }
        from += plain;
        if document[from] == b'"' {
            std::str::from_utf8(&document[at..from]).map_err(|_| Malformed)?;
            return Ok(from + 1);
        }
        let (_, length) = escape(&document[from..]).ok_or(Malformed)?;
        from += length;
    }
}

/// The character that the escape stands for with which `text` begins, and the length of the escape.
pub fn escape(text: &[u8]) -> Option<(char, usize)> {
    Some(match text.get(1)? {
        b'u' => {
            let unit = hex(text.get(2..6)?)?;
            if !(0xd800..0xdc00).contains(&unit) {
                return Some((char::from_u32(unit)?, 6));
            }
            let low = hex(text.get(6..12)?.strip_prefix(b"\\u")?)?;
            if !(0xdc00..0xe000).contains(&low) {
                return None;
            }
            (char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00))?, 12)
        }
        b'b' => ('\u{8}', 2),
        b'f' => ('\u{c}', 2),
        b'n' => ('\n', 2),
        b'r' => ('\r', 2),
        b't' => ('\t', 2),
        same @ (b'"' | b'\\' | b'/') => (char::from(*same), 2),
        _ => return None,
    })
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| Some(number << 4 | char::from(*digit).to_digit(16)?))
}

fn end_of_number(document: &[u8], at: usize) -> Result<usize, Malformed> {
    let digits = |from: usize| {
        let count = document[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 { Err(Malformed) } else { Ok(from + count) }
    };
    let whole = at + usize::from(document[at] == b'-');
    let mut end = digits(whole)?;
    if document[whole] == b'0' && end > whole + 1 {
        return Err(Malformed);
    }
    if document.get(end) == Some(&b'.') {
        end = digits(end + 1)?;
    }
    if let Some(b'e' | b'E') = document.get(end) {
        end = digits(end + 1 + usize::from(matches!(document.get(end + 1), Some(b'+' | b'-'))))?;
    }
    Ok(end)
}

/// The text of a string that [`end_of_string`] measured, its escapes resolved.
pub fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    match unquote(text) {
        Cow::Borrowed(quoted) => Cow::Borrowed(&quoted[1..]),
        Cow::Owned(mut quoted) => {
            quoted.remove(0);
            Cow::Owned(quoted)
        }
    }
}

/// What two primitives have in common if and only if they are the same value of the same type. A string's
/// keeps its opening quote and loses the closing one.
///
/// # Errors
/// For a number with too long an exponent, unless it is zero.
pub fn canonical(text: &[u8]) -> Result<Cow<'_, [u8]>, Incomparable> {
    match text.first() {
        Some(b'"') => Ok(unquote(text)),
        Some(b'-' | b'0'..=b'9') => canonical_number(text),
        _ => Ok(Cow::Borrowed(text)),
    }
}

/// The canonical form of a text that shows it as it stands, as most do: a string without escapes, a plain
/// integer, a word.
pub fn canonical_of_plain(text: &[u8]) -> &[u8] {
    match text {
        [b'"', .., _] => &text[..text.len() - 1],
        _ => text,
    }
}

fn unquote(text: &[u8]) -> Cow<'_, [u8]> {
    let open = &text[..text.len() - 1];
    let Some(first) = memchr::memchr(b'\\', open) else { return Cow::Borrowed(open) };
    let mut decoded = open[..first].to_vec();
    let mut rest = &open[first..];
    while let Some(at) = memchr::memchr(b'\\', rest) {
        decoded.extend_from_slice(&rest[..at]);
        let Some((letter, length)) = escape(&rest[at..]) else { break };
        decoded.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &rest[at + length..];
    }
    decoded.extend_from_slice(rest);
    Cow::Owned(decoded)
}

fn canonical_number(text: &[u8]) -> Result<Cow<'_, [u8]>, Incomparable> {
    let magnitude = text.strip_prefix(b"-").unwrap_or(text);
    if magnitude.len() <= PLAIN_DIGITS_MAX && magnitude.iter().all(u8::is_ascii_digit) {
        return Ok(if magnitude == b"0" { Cow::Borrowed(magnitude) } else { Cow::Borrowed(text) });
    }
    let exponent_at = magnitude.iter().position(|byte| matches!(byte, b'e' | b'E'));
    let (mantissa, exponent) = match exponent_at {
        Some(at) => (&magnitude[..at], &magnitude[at + 1..]),
        None => (magnitude, &b"0"[..]),
    };
    let point = memchr::memchr(b'.', mantissa).unwrap_or(mantissa.len());
    let fraction_digits = mantissa.len().saturating_sub(point + 1);
    let mut digits: Vec<u8> = mantissa.iter().copied().filter(|byte| *byte != b'.').collect();
    let all_digits = digits.len();
    while digits.last() == Some(&b'0') {
        digits.pop();
    }
    let trailing_zeros = all_digits - digits.len();
    digits.drain(..digits.iter().take_while(|digit| **digit == b'0').count());
    if digits.is_empty() {
        return Ok(Cow::Borrowed(b"0"));
    }
    // Neither a text's length nor this many digits come near the bounds of 64 bits.
    let exponent = exponent_of(exponent)? - fraction_digits as i64 + trailing_zeros as i64;
    let mut shown = if text.starts_with(b"-") { b"-".to_vec() } else { Vec::new() };
    shown.extend_from_slice(&digits);
    match usize::try_from(exponent) {
        Ok(zeros) if digits.len().saturating_add(zeros) <= PLAIN_DIGITS_MAX => {
            shown.resize(shown.len() + zeros, b'0');
        }
        _ => shown.extend_from_slice(format!("e{exponent}").as_bytes()),
    }
    Ok(Cow::Owned(shown))
}

fn exponent_of(text: &[u8]) -> Result<i64, Incomparable> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    let digits = &digits[zeros..];
    if digits.len() > EXPONENT_DIGITS_MAX {
        return Err(Incomparable);
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    Ok(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};

    use super::{Incomparable, canonical, canonical_of_plain, decode, end_of};

    fn same(one: &str, other: &str) -> bool {
        canonical(one.as_bytes()).unwrap() == canonical(other.as_bytes()).unwrap()
    }

    #[test]
    fn numbers_are_equal_by_value_however_they_are_written() {
        for group in [
            &["1", "1.0", "1e0", "10e-1", "0.1E1", "1.000000", "100e-2", "1E+0", "1e-0", "1e000"][..],
            &["0", "-0", "0.0", "-0.0e5", "0e99999999999999999999", "-0e-99999999999999999999"],
            &["100", "1e2", "100.00", "1E02", "10e1"],
            &["1e1000000", "10e999999", "0.1e1000001"],
            &["1e-1000000", "0.1e-999999", "10e-1000001"],
            &[
                "12345678901234567890123456789012345678901234567890",
                "1234567890123456789012345678901234567890123456789e1",
            ],
            &["1e39", "1000000000000000000000000000000000000000"],
            &["1e40", "10000000000000000000000000000000000000000", "1.0e40"],
            &["-1.5", "-15e-1", "-0.15e1"],
            &["1e999999999999999999", "10e999999999999999998"],
        ] {
            for one in group {
                assert!(group.iter().all(|other| same(one, other)), "{one} in {group:?}");
            }
        }
    }

    #[test]
    fn numbers_that_a_double_would_confuse_differ() {
        for (one, other) in [
            ("9007199254740992", "9007199254740993"),
            ("0.1", "0.10000000000000000000000000000000000000001"),
            ("1e400", "1e401"),
            ("1e-400", "0"),
            ("1", "-1"),
            ("1e39", "1e40"),
            ("10000000000000000000000000000000000000001", "1e40"),
            ("1", "\"1\""),
            ("null", "\"null\""),
            ("true", "false"),
        ] {
            assert!(!same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn an_exponent_beyond_comparing_is_told_and_costs_nothing() {
        assert_eq!(canonical(b"1e9999999999999999999"), Err(Incomparable));
        assert_eq!(canonical(b"1e-1000000000000000000"), Err(Incomparable));
        assert!(canonical(b"1e000000000000000000000000000000000001").is_ok());
        assert!(canonical(b"1e999999999999999999").unwrap().len() < 30);
    }

    #[test]
    fn strings_are_equal_by_their_characters() {
        assert!(same(r#""a/\u0062""#, r#""\u0061\/b""#));
        assert!(same(r#""\ud83d\ude00""#, "\"😀\""));
        assert!(same(r#""\b\f\n\r\t\"\\""#, r#""\u0008\u000c\u000A\u000d\u0009\u0022\u005C""#));
        assert!(!same(r#""a""#, r#""A""#));
        assert!(!same(r#""""#, r#"" ""#));
        assert_eq!(decode(br#""x\u0041""#), &b"xA"[..]);
        assert_eq!(decode(br#""""#), &b""[..]);
    }

    #[test]
    fn what_is_no_primitive_is_malformed() {
        for text in [
            "",
            "01",
            "-",
            "+1",
            ".5",
            "1.",
            "1e",
            "1e+",
            "tru",
            "nul",
            "'a'",
            "\"a",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "\"a\u{1}\"",
            "\"\n\"",
            "[1]",
            "{",
            "-a",
            "NaN",
            "Infinity",
            "\"\\",
            "\"\\u",
            "-01",
        ] {
            assert!(end_of(text.as_bytes(), 0).is_err(), "{text}");
        }
        assert!(end_of(b"\"\xff\"", 0).is_err());
        assert!(end_of(b"\"\xc3\"", 0).is_err());
        for (text, end) in
            [("1,2", 1), ("-0.5e-7]", 7), ("true", 4), ("\"a\\\"b\" ", 6), ("null]", 4), ("0", 1)]
        {
            assert_eq!(end_of(text.as_bytes(), 0), Ok(end), "{text}");
        }
    }

    #[test]
    fn most_texts_show_their_canonical_form_as_they_stand() {
        for (text, plain) in [
            ("\"abc\"", true),
            ("\"\"", true),
            ("12", true),
            ("-12", true),
            ("true", true),
            ("null", true),
            ("0", true),
            ("-0", false),
            ("1.0", false),
            ("\"\\u0041\"", false),
        ] {
            let form = canonical(text.as_bytes()).unwrap();
            assert_eq!(canonical_of_plain(text.as_bytes()) == &*form, plain, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_text_that_another_reader_takes_is_read_the_same(text in any::<String>(), number in any::<f64>()) {
            let quoted = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(end_of(quoted.as_bytes(), 0), Ok(quoted.len()));
            prop_assert_eq!(&*decode(quoted.as_bytes()), text.as_bytes());
            if number.is_finite() {
                let shown = serde_json::to_string(&number).unwrap();
                prop_assert_eq!(end_of(shown.as_bytes(), 0), Ok(shown.len()));
                let form = String::from_utf8(canonical(shown.as_bytes()).unwrap().into_owned()).unwrap();
                prop_assert_eq!(form.parse::<f64>().unwrap(), number);
            }
        }

        #[test]
        fn decimals_are_equal_when_their_scaled_integers_are(
            one in -10_000i64..10_000, one_down in 0u32..6, other in -10_000i64..10_000, other_down in 0u32..6,
        ) {
            let equal = i128::from(one) * 10i128.pow(other_down) == i128::from(other) * 10i128.pow(one_down);
            prop_assert_eq!(same(&format!("{one}e-{one_down}"), &format!("{other}e-{other_down}")), equal);
        }
    }
}
