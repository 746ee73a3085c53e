//! `lucid patch`: one operation on a value where it lies: counters, locks, times-to-live.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Map, Number, Value};

use super::answer::Answer;
use super::get::put_bytes;
use super::node::{Node, Payload};
use super::output::write;
use super::{KeyArgs, NodeArgs, WriteArgs, seconds};
use crate::cli::failure::{Exit, Failure};

/// Arguments of `lucid patch`.
#[derive(Args, Debug)]
pub struct PatchArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// What to do with it
    #[arg(value_enum)]
    operation: Operation,
    /// The step of a counter [1], the time to live, or the lease of a lock [none]
    #[arg(value_name = "VALUE", allow_negative_numbers = true)]
    value: Option<String>,
    #[command(flatten)]
    conditions: WriteArgs,
    /// Show what was done as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Operation {
    /// Count up; the new number is printed
    Increment,
    /// Count down; the new number is printed
    Decrement,
    /// Refuse everyone else's writes; the token that passes it is printed
    Lock,
    /// Free a lock
    Unlock,
    /// Let the key go after a time
    Ttl,
    /// Keep the key for good
    Persist,
}

/// Carries the operation out.
pub fn run(args: &PatchArgs) -> Result<ExitCode, Failure> {
    let (key, node) = (args.key.bytes()?, Node::new(&args.node)?);
    let body = body(args.operation, args.value.as_deref())?;
    let mut fields = args.conditions.fields();
    fields.push(("Content-Type", "application/json".into()));
    let answer = node.call_key("PATCH", &key, "", &fields, Payload::Bytes(body.as_bytes()))?;
    if answer.status() != 200 {
        return Err(answer.refusal(&node, Some(&key)));
    }
    let operation = args.operation;
    show(&key, answer, args.json, |done| match (operation, &done.value, &done.fencing_token) {
        (Operation::Lock, _, Some(token)) => token.clone(),
        (Operation::Increment | Operation::Decrement, Some(value), _) => value.clone(),
        _ => done.message.clone(),
    })
}

/// The operation as the node reads it. Numbers go as they were typed.
fn body(operation: Operation, value: Option<&str>) -> Result<String, Failure> {
    let name = operation.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let misused = |why: String| Failure::new(Exit::Usage, format!("patch {name}: {why}"));
    let value = match (operation, value) {
        (Operation::Unlock | Operation::Persist, Some(_)) => {
            return Err(misused("takes no value".into()));
        }
        (Operation::Ttl, None) => return Err(misused("needs a time, such as 60, 10m or 1h".into())),
        (Operation::Ttl | Operation::Lock, Some(text)) => Some(seconds(text).map_err(misused)?.to_string()),
        (Operation::Increment | Operation::Decrement, Some(text)) => {
            let number = serde_json::from_str::<Number>(text).is_ok();
            Some(number.then(|| text.to_owned()).ok_or_else(|| misused("the step is no number".into()))?)
        }
        (_, None) => None,
    };
    let value = value.map_or(String::new(), |value| format!(",\"value\":{value}"));
    Ok(format!("{{\"operation\":\"{name}\"{value}}}"))
}

/// What a write came to.
#[derive(Debug)]
pub(super) struct Done {
    pub message: String,
    pub etag: Option<String>,
    pub fencing_token: Option<String>,
    /// Where a counter stands, as the node wrote it.
    pub value: Option<String>,
}

/// Shows what a write came to, as a line for people or as an object for scripts.
pub(super) fn show(
    key: &[u8],
    answer: Answer,
    json: bool,
    line: impl FnOnce(&Done) -> String,
) -> Result<ExitCode, Failure> {
    let (status, etag) = (answer.status(), answer.tag());
    let fencing_token = answer.field("X-Fencing-Token").map(str::to_owned);
    let message = answer.message();
    let value = message.value.map(|value| value.get().to_owned());
    let done = Done { message: message.message, etag, fencing_token, value };
    let text = if json { object(key, status, &done) } else { line(&done) };
    write(format!("{text}\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn object(key: &[u8], status: u16, done: &Done) -> String {
    let mut object = Map::new();
    put_bytes(&mut object, "key", "key_base64", key);
    object.insert("status".into(), status.into());
    object.insert("message".into(), done.message.as_str().into());
    let texts = [("etag", &done.etag), ("fencing_token", &done.fencing_token)];
    for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?))) {
        object.insert(name.into(), text.into());
    }
    let text = Value::from(object).to_string();
    match &done.value {
        // As the node wrote it: 64 bits do not fit every reader's numbers, but they do fit ours.
        Some(value) => format!("{},\"value\":{value}}}", &text[..text.len() - 1]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::{Done, Operation, body, object};

    #[test]
    fn an_operation_goes_with_its_value_as_typed() {
        for (operation, value, expected) in [
            (Operation::Increment, None, r#"{"operation":"increment"}"#),
            (Operation::Increment, Some("-5"), r#"{"operation":"increment","value":-5}"#),
            (
                Operation::Decrement,
                Some("9223372036854775807"),
                r#"{"operation":"decrement","value":9223372036854775807}"#,
            ),
            (Operation::Decrement, Some("0.10"), r#"{"operation":"decrement","value":0.10}"#),
            (Operation::Lock, None, r#"{"operation":"lock"}"#),
            (Operation::Lock, Some("1m"), r#"{"operation":"lock","value":60}"#),
            (Operation::Ttl, Some("60"), r#"{"operation":"ttl","value":60}"#),
            (Operation::Persist, None, r#"{"operation":"persist"}"#),
        ] {
            assert_eq!(body(operation, value).unwrap(), expected);
        }
    }

    #[test]
    fn a_value_that_means_nothing_is_not_sent() {
        for (operation, value) in [
            (Operation::Increment, Some("five")),
            (Operation::Increment, Some("1,\"x\":2")),
            (Operation::Increment, Some("")),
            (Operation::Ttl, None),
            (Operation::Ttl, Some("0")),
            (Operation::Lock, Some("-1")),
            (Operation::Unlock, Some("1")),
            (Operation::Persist, Some("1")),
        ] {
            assert!(body(operation, value).is_err(), "{operation:?} {value:?}");
        }
    }

    #[test]
    fn a_counter_keeps_its_digits_in_json() {
        let done = Done {
            message: "m".into(),
            etag: Some("e".into()),
            fencing_token: None,
            value: Some("9007199254740993".into()),
        };
        assert_eq!(
            object(b"\xff", 200, &done),
            r#"{"etag":"e","key_base64":"/w==","message":"m","status":200,"value":9007199254740993}"#
        );
    }
}
