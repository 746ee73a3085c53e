//! Reads the body of a PATCH: one operation, as JSON, as a form or as a bare word.
//!
//! The `Content-Type` has no say, since clients of this API have always sent what they liked. A
//! body that begins with a brace is JSON; another that holds `=` is a form; the rest is a word.

use std::borrow::Cow;

use crate::auth::Grants;
use crate::http::target;
use crate::limits::TTL_SECONDS_MAX;
use crate::op::{Action, Step};

use super::json::{Object, Value};
use super::message::Problem;

/// What a PATCH asks for.
#[derive(Clone, Copy, Debug)]
pub struct Patch {
    /// The operation on the key.
    pub action: Action<'static>,
    /// The grant it needs.
    pub grant: Grants,
    /// A counter goes down: for the sentence of the answer.
    pub down: bool,
}

/// A value beside the operation, however it was written.
#[derive(Clone, Debug)]
enum Operand<'a> {
    None,
    /// A number or a string: the same to every operation.
    Text(Cow<'a, str>),
    /// JSON that can be no operand.
    Other,
}

/// Reads the body.
pub fn parse(body: &[u8]) -> Result<Patch, Problem> {
    let body = body.trim_ascii();
    if body.starts_with(b"{") {
        return parse_json(body);
    }
    if body.contains(&b'=') {
        return parse_form(body);
    }
    operation(&String::from_utf8_lossy(body), Operand::None)
}

fn parse_json(body: &[u8]) -> Result<Patch, Problem> {
    let text = std::str::from_utf8(body).map_err(|_| Problem::BodyInvalid("JSON is UTF-8"))?;
    let object = Object::parse(text).map_err(Problem::BodyInvalid)?;
    let operand = match object.member("value") {
        None | Some(Value::Null) => Operand::None,
        Some(Value::Text(text)) => Operand::Text(text),
        Some(Value::Number(text)) => Operand::Text(text.into()),
        Some(Value::Other) => Operand::Other,
    };
    match object.member("operation") {
        None | Some(Value::Null) => Err(Problem::OperationMissing),
        Some(Value::Text(name)) => operation(&name, operand),
        Some(_) => Err(Problem::BodyInvalid("the operation is a string")),
    }
}

fn parse_form(body: &[u8]) -> Result<Patch, Problem> {
    let (mut name, mut value) = (None, None);
    for pair in target::query_pairs(body) {
        let (key, text) = pair.map_err(|_| Problem::BodyInvalid("the form has a malformed escape"))?;
        let slot = match &*key {
            b"operation" => &mut name,
            b"value" => &mut value,
            _ => continue,
        };
        if slot.replace(text).is_some() {
            return Err(Problem::BodyInvalid("the form has a field twice"));
        }
    }
    let name = name.ok_or(Problem::OperationMissing)?;
    let operand = match &value {
        None => Operand::None,
        Some(text) => Operand::Text(String::from_utf8_lossy(text)),
    };
    operation(&String::from_utf8_lossy(&name), operand)
}

fn operation(name: &str, operand: Operand<'_>) -> Result<Patch, Problem> {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    let patch = |action| Ok(Patch { action, grant: Grants::KV_WRITE, down: false });
    if is("lock") {
        let action = Action::Lock { lease_seconds: lease(operand)? };
        Ok(Patch { action, grant: Grants::KV_LOCK, down: false })
    } else if is("unlock") {
        Ok(Patch { action: Action::Unlock, grant: Grants::KV_LOCK, down: false })
    } else if is("increment") {
        patch(Action::Add(step(operand)?))
    } else if is("decrement") {
        let down = match step(operand)? {
            Step::Integer(step) => Step::Integer(-step),
            Step::Decimal(step) => Step::Decimal(-step),
        };
        Ok(Patch { action: Action::Add(down), grant: Grants::KV_WRITE, down: true })
    } else if is("ttl") {
        patch(Action::Expire { seconds: expiration(operand)? })
    } else if is("persist") {
        patch(Action::Persist)
    } else if name.is_empty() {
        Err(Problem::OperationMissing)
    } else {
        Err(Problem::operation_unknown(name))
    }
}

fn expiration(operand: Operand<'_>) -> Result<u32, Problem> {
    match operand {
        Operand::None => Err(Problem::ExpirationMissing),
        Operand::Other => Err(Problem::ExpirationUnrecognized),
        Operand::Text(text) if text.is_empty() => Err(Problem::ExpirationMissing),
        Operand::Text(text) => {
            let digits = text.strip_prefix('-').unwrap_or(&text);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(Problem::ExpirationUnrecognized);
            }
            seconds(text.as_bytes()).ok_or(Problem::ExpirationOutOfRange)
        }
    }
}

fn lease(operand: Operand<'_>) -> Result<Option<u32>, Problem> {
    match operand {
        Operand::None => Ok(None),
        Operand::Text(text) if text.is_empty() => Ok(None),
        Operand::Text(text) => seconds(text.as_bytes()).map(Some).ok_or(Problem::LeaseUnrecognized),
        Operand::Other => Err(Problem::LeaseUnrecognized),
    }
}

fn step(operand: Operand<'_>) -> Result<Step, Problem> {
    match operand {
        Operand::None => Ok(Step::Integer(1)),
        Operand::Text(text) if text.is_empty() => Ok(Step::Integer(1)),
        Operand::Text(text) => parse_step(&text).ok_or(Problem::StepUnrecognized),
        Operand::Other => Err(Problem::StepUnrecognized),
    }
}

/// A step of a counter: an integer of 64 bits, or a finite decimal.
pub fn parse_step(text: &str) -> Option<Step> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<i64>().ok().map(|step| Step::Integer(step.into()));
    }
    // The language's own reading also takes `inf` and `NaN`, which are no numbers here.
    if !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) {
        return None;
    }
    text.parse().ok().filter(|step: &f64| step.is_finite()).map(Step::Decimal)
}

/// Seconds of a time-to-live or lease: an integer from 1 to 4,294,967,295, digits only.
pub fn seconds(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(text).ok()?.parse::<u64>().ok()?;
    (1..=TTL_SECONDS_MAX).contains(&number).then_some(number as u32)
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_step, seconds};
    use crate::api::message::Problem;
    use crate::auth::Grants;
    use crate::op::{Action, Step};

    fn action(body: &str) -> Action<'static> {
        parse(body.as_bytes()).unwrap_or_else(|problem| panic!("{body}: {problem:?}")).action
    }

    fn message(body: &[u8]) -> String {
        parse(body).expect_err("refused").message().into_owned()
    }

    #[test]
    fn the_three_forms_say_the_same_in_any_case() {
        for body in [
            r#"{"operation":"lock"}"#,
            r#" {"value":null,"operation":"LOCK","x":[1]} "#,
            r#"{"operation":"\u006cock","value":""}"#,
            "operation=lock",
            "x=1&operation=Lock&value=",
            "operation=%6cock",
            "lock",
            " LOCK\r\n",
        ] {
            let patch = parse(body.as_bytes()).unwrap();
            assert!(matches!(patch.action, Action::Lock { lease_seconds: None }), "{body}");
            assert_eq!(patch.grant, Grants::KV_LOCK);
        }
    }

    #[test]
    fn values_are_numbers_or_strings() {
        for body in [
            r#"{"operation":"ttl","value":3600}"#,
            r#"{"operation":"ttl","value":"3600"}"#,
            "operation=ttl&value=3600",
        ] {
            assert!(matches!(action(body), Action::Expire { seconds: 3_600 }), "{body}");
        }
        assert!(matches!(
            action(r#"{"operation":"lock","value":30}"#),
            Action::Lock { lease_seconds: Some(30) }
        ));
        assert!(matches!(action("unlock"), Action::Unlock));
        assert!(matches!(action("persist"), Action::Persist));
    }

    #[test]
    fn counters_step_by_one_or_by_the_value_exactly() {
        let added = |body: &str| match action(body) {
            Action::Add(step) => step,
            other => panic!("{other:?}"),
        };
        assert_eq!(added("increment"), Step::Integer(1));
        assert_eq!(added("DECREMENT"), Step::Integer(-1));
        assert_eq!(
            added(r#"{"operation":"increment","value":9223372036854775807}"#),
            Step::Integer(i64::MAX.into())
        );
        assert_eq!(
            added(r#"{"operation":"decrement","value":-9223372036854775808}"#),
            Step::Integer(1 << 63)
        );
        assert_eq!(added(r#"{"operation":"decrement","value":"0.5"}"#), Step::Decimal(-0.5));
        assert_eq!(added("operation=increment&value=1e3"), Step::Decimal(1_000.0));
        assert_eq!(added("operation=increment&value=%2B2"), Step::Integer(2));
        assert!(parse(b"decrement").unwrap().down && !parse(b"increment").unwrap().down);
    }

    #[test]
    fn a_step_that_is_no_number_is_refused() {
        for step in
            ["", "a", "inf", "NaN", "infinity", "0x10", "1_0", "1e999", "-", "9223372036854775808", " 1"]
        {
            assert_eq!(parse_step(step), None, "{step}");
        }
        for value in ["\"x\"", "[]", "true", "9223372036854775808", "1e999"] {
            let body = format!("{{\"operation\":\"increment\",\"value\":{value}}}");
            assert!(matches!(parse(body.as_bytes()), Err(Problem::StepUnrecognized)), "{body}");
        }
    }

    #[test]
    fn the_sentences_of_the_refusals_are_the_ones_known() {
        assert_eq!(message(b"xyz"), "Invalid Operation \"xyz\".");
        assert_eq!(message(br#"{"operation":"XYZ"}"#), "Invalid Operation \"XYZ\".");
        assert_eq!(message(b"ttl"), "Missing value for expiration.");
        assert_eq!(message(br#"{"operation":"ttl","value":null}"#), "Missing value for expiration.");
        for value in ["\"abc\"", "1.5", "\"1.5\"", "1e3", "true", "\"-\"", "\" 5\""] {
            assert_eq!(
                message(format!("{{\"operation\":\"ttl\",\"value\":{value}}}").as_bytes()),
                "Unrecognized value for expiration, you need to use a numeric value without decimal.",
                "{value}"
            );
        }
        for value in ["0", "-1", "4294967296", "99999999999999999999999"] {
            assert_eq!(
                message(format!("operation=ttl&value={value}").as_bytes()),
                "Unable to set the expiration for the specified key."
            );
        }
        for value in ["0", "-1", "4294967296", "x", "1.0"] {
            assert!(matches!(
                parse(format!("operation=lock&value={value}").as_bytes()),
                Err(Problem::LeaseUnrecognized)
            ));
        }
    }

    #[test]
    fn what_the_client_wrote_is_repeated_only_in_part() {
        assert_eq!(
            message("é".repeat(4_000).as_bytes()),
            format!("Invalid Operation \"{}\".", "é".repeat(32))
        );
        assert_eq!(message(b"\xff\x00\"<"), "Invalid Operation \"\u{fffd}\0\"<\".");
    }

    #[test]
    fn no_operation_and_no_sense_are_told_apart() {
        for body in [&b""[..], b"  ", b"{}", br#"{"operation":null}"#, b"value=1", b"operation="] {
            assert_eq!(parse(body).err(), Some(Problem::OperationMissing), "{body:?}");
        }
        for body in [
            &br#"{"operation":"lock","operation":"unlock"}"#[..],
            br#"{"operation":"lock","x":1,"x":1}"#,
            br#"{"operation":1}"#,
            br#"{"operation":"lock""#,
            b"{\"operation\":\"\xff\"}",
            b"operation=lock&operation=unlock",
            b"operation=%zz",
        ] {
            assert!(matches!(parse(body), Err(Problem::BodyInvalid(_))), "{body:?}");
        }
    }

    #[test]
    fn seconds_are_one_to_the_largest_32_bit_number() {
        for (text, expected) in [
            ("1", Some(1)),
            ("060", Some(60)),
            ("4294967295", Some(u32::MAX)),
            ("0", None),
            ("4294967296", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), expected, "{text}");
        }
        for text in ["", "+1", "-1", "1.0", " 1", "1s", "٣"] {
            assert_eq!(seconds(text.as_bytes()), None, "{text}");
        }
    }
}
