//! What a counter holds and how it moves.
//!
//! A counter is a value whose bytes are a JSON number (RFC 8259, section 6) and nothing else: no
//! blank, no `+`, no leading zero, no `NaN`. Without point and exponent it is an integer, and exact;
//! with either, or moved by a decimal step, it is a double. Nothing is rounded unless a decimal is
//! in play: an integer that leaves 64 bits is refused, not turned into a double.

use std::fmt::{self, Write};

use crate::op::{Number, Outcome, Step};

/// Longest text that is read as a number. Doubles need 24 bytes, integers 20; the rest is for those
/// who write more digits than a double keeps.
const NUMBER_BYTES_MAX: usize = 64;

/// The number of a value moved by a step: [`Outcome::NotNumeric`] or [`Outcome::OutOfRange`] if it
/// cannot be.
pub(super) fn add(value: &[u8], step: Step) -> Result<Number, Outcome<'static>> {
    let (text, is_integer) = parse(value).ok_or(Outcome::NotNumeric)?;
    if let (true, Step::Integer(step)) = (is_integer, step) {
        let sum = text.parse::<i64>().ok().and_then(|integer| i128::from(integer).checked_add(step));
        let sum = sum.and_then(|sum| i64::try_from(sum).ok());
        return sum.map(Number::Integer).ok_or(Outcome::OutOfRange);
    }
    let step = match step {
        Step::Integer(step) => step as f64,
        Step::Decimal(step) => step,
    };
    // The grammar is within what the language reads; what is too large reads as infinite.
    let sum = text.parse::<f64>().unwrap_or(f64::NAN) + step;
    // Adding zero turns -0 into 0.
    if sum.is_finite() { Ok(Number::Decimal(sum + 0.0)) } else { Err(Outcome::OutOfRange) }
}

/// The value as text, and whether it is an integer's; none if it is no number.
fn parse(value: &[u8]) -> Option<(&str, bool)> {
    if value.len() > NUMBER_BYTES_MAX {
        return None;
    }
    let unsigned = value.strip_prefix(b"-").unwrap_or(value);
    let (whole, rest) = digits(unsigned)?;
    if whole.len() > 1 && whole[0] == b'0' {
        return None;
    }
    let rest_of_fraction = match rest.strip_prefix(b".") {
        Some(fraction) => digits(fraction)?.1,
        None => rest,
    };
    let end = match rest_of_fraction.split_first() {
        Some((b'e' | b'E', exponent)) => {
            let unsigned = exponent.strip_prefix(b"+").or(exponent.strip_prefix(b"-")).unwrap_or(exponent);
            digits(unsigned)?.1
        }
        _ => rest_of_fraction,
    };
    let text = std::str::from_utf8(value).ok()?;
    end.is_empty().then_some((text, rest.is_empty()))
}

/// The digits that a text starts with, at least one, and what is behind them.
fn digits(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (length > 0).then(|| text.split_at(length))
}

/// A number as it is stored, without allocation.
pub(super) struct NumberText {
    bytes: [u8; NumberText::BYTES_MAX],
    length: usize,
}

impl NumberText {
    const BYTES_MAX: usize = 32;

    /// The text of a number, perhaps in quotes.
    pub(super) fn of(number: Number, is_quoted: bool) -> NumberText {
        let mut text = NumberText { bytes: [0; NumberText::BYTES_MAX], length: 0 };
        let quote = if is_quoted { "\"" } else { "" };
        // 17 digits, two signs, a point, an `e` and an exponent of 3 digits are 24 bytes.
        write!(text, "{quote}{number}{quote}").expect("the longest double fits");
        text
    }

    /// Its bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Write for NumberText {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let free = self.bytes[self.length..].get_mut(..part.len()).ok_or(fmt::Error)?;
        free.copy_from_slice(part.as_bytes());
        self.length += part.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{NUMBER_BYTES_MAX, NumberText, add, parse};
    use crate::op::{Number, Outcome, Step};

    fn integer(value: &str, step: i128) -> Result<Number, Outcome<'static>> {
        add(value.as_bytes(), Step::Integer(step))
    }

    #[test]
    fn integers_are_exact_to_the_ends_of_64_bits() {
        let (max, min) = ("9223372036854775807", "-9223372036854775808");
        for (value, step, sum) in [
            ("0", 1, 1),
            ("-0", 0, 0),
            ("-1", 1, 0),
            ("9007199254740993", 1, 9_007_199_254_740_994),
            (max, 0, i64::MAX),
            (max, -1, i64::MAX - 1),
            (min, 0, i64::MIN),
            ("-1", -i128::from(i64::MIN), i64::MAX),
            (max, i128::from(i64::MIN), -1),
            (min, i128::from(u64::MAX), i64::MAX),
        ] {
            assert_eq!(integer(value, step).unwrap(), Number::Integer(sum), "{value} {step}");
        }
        for (value, step) in [
            (max, 1),
            (min, -1),
            ("0", -i128::from(i64::MIN)),
            ("0", i128::MAX),
            (max, i128::MAX),
            (min, i128::MIN),
            ("9223372036854775808", 0),
            ("9223372036854775808", -1),
            ("-9223372036854775809", 1),
        ] {
            assert!(matches!(integer(value, step), Err(Outcome::OutOfRange)), "{value} {step}");
        }
    }

    #[test]
    fn a_decimal_on_either_side_makes_a_double() {
        for (value, step, sum) in [
            ("1.5", Step::Integer(1), 2.5_f64),
            ("1.5", Step::Decimal(0.5), 2.0),
            ("1", Step::Decimal(0.5), 1.5),
            ("1e3", Step::Integer(1), 1001.0),
            ("1E+3", Step::Integer(-1), 999.0),
            ("25e-1", Step::Integer(0), 2.5),
            ("-0.0", Step::Integer(0), 0.0),
            ("-0.0", Step::Decimal(-0.0), 0.0),
            ("0.1", Step::Decimal(0.2), 0.1 + 0.2),
            ("1e-400", Step::Integer(0), 0.0),
            ("9223372036854775808", Step::Decimal(0.0), 9_223_372_036_854_775_808.0),
        ] {
            let Ok(Number::Decimal(got)) = add(value.as_bytes(), step) else { panic!("{value}") };
            assert_eq!(got.to_bits(), sum.to_bits(), "{value} {step:?}");
        }
        for (value, step) in [("1e308", 1e308), ("-1e308", -1.7e308), ("1e309", -1.0)] {
            let refused = add(value.as_bytes(), Step::Decimal(step));
            assert!(matches!(refused, Err(Outcome::OutOfRange)), "{value} {step}");
        }
    }

    #[test]
    fn what_is_no_json_number_is_not_numeric() {
        let long = "1".repeat(NUMBER_BYTES_MAX + 1);
        for value in [
            "", " ", "-", "+5", "--1", "00", "007", "-01", "1 ", " 1", "1\n", ".5", "5.", "-.5", "1e", "1e+",
            "1.e3", "1.2.3", "1e2.5", "0x10", "0b1", "1_000", "1,5", "NaN", "nan", "inf", "-inf", "Infinity",
            "true", "null", "\"1\"", "1f", "٣", "1\0", &long,
        ] {
            assert!(matches!(integer(value, 1), Err(Outcome::NotNumeric)), "{value:?}");
        }
        assert!(matches!(add(b"\xff1", Step::Integer(1)), Err(Outcome::NotNumeric)));
        assert!(parse(&long.as_bytes()[1..]).is_some(), "as long as it may be");
    }

    #[test]
    fn the_grammar_is_the_one_of_serde_json() {
        let alphabet = b"-+.eE0019";
        for code in 0..9_usize.pow(6) {
            let text: Vec<u8> = (0..6).map(|at| alphabet[code / 9_usize.pow(at) % 9]).collect();
            let text = &text[..1 + code % 6];
            let theirs = match serde_json::from_slice::<serde_json::Number>(text) {
                Err(error) if error.to_string().contains("out of range") => continue,
                theirs => theirs.is_ok(),
            };
            assert_eq!(parse(text).is_some(), theirs, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn the_longest_numbers_fit_their_text() {
        for number in [-f64::MAX, -f64::MIN_POSITIVE, -5e-324, -1.234_567_890_123_456_7e-5, -0.1 / 3.0] {
            let text = NumberText::of(Number::Decimal(number), false);
            let read = std::str::from_utf8(text.as_bytes()).unwrap().parse::<f64>().unwrap();
            assert_eq!(read, number);
        }
        assert_eq!(NumberText::of(Number::Integer(i64::MIN), false).as_bytes(), b"-9223372036854775808");
    }
}
