//! `POST /api/kv/batch`: several operations in one request, each with a result of its own.
//!
//! The array is parsed as a whole: bad JSON, or a member that stands twice, refuses the request (400),
//! and so do more operations than there may be (413). What is wrong with a single
//! operation, its grant included, is its result, and the others go on. Keys and values are copied
//! out of the body into one arena, so that the body need not stay; answered values stop at
//! [`BATCH_ANSWER_BYTES_MAX`], counted in the order of the operations however the shards answer.
//!
//! | op | members | grant |
//! |---|---|---|
//! | `get` | `key` | `kv:read` |
//! | `put` | `key`, `value` or `base64`, `ttl` | `kv:write` |
//! | `delete` | `key` | `kv:delete` |
//! | `increment` | `key`, `value` (the step, 1) | `kv:write` |
//! | `ttl` | `key`, `ttl` or `value` (seconds) | `kv:write` |

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

use crate::auth::{Grants, Scope};
use crate::clock::Version;
use crate::etag::Tags;
use crate::http::{Status, response};
use crate::limits::{BATCH_ANSWER_BYTES_MAX, KEY_BYTES_MAX, VALUE_COPY_BYTES_MAX};
use crate::op::{
    Action, Condition, Encoding, Entry, Expiry, KeyHasher, Large, Namespace, Operation, Outcome, Payload,
    Step,
};

use super::gather::{PIECES_MAX, Piece, Work};
use super::json::{self, Object, Value};
use super::message::Problem;
use super::{Api, kv, patch};

/// Takes padding or leaves it, as clients do.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A batch under way.
#[derive(Debug)]
pub(super) struct Batch {
    items: Vec<Item>,
    /// Keys and small values, one behind the other.
    arena: Vec<u8>,
    shards: usize,
    admin: bool,
    next: usize,
    outstanding: usize,
    answers: AnswerRoom,
}

#[derive(Debug)]
struct Item {
    key: Range<usize>,
    hash: u64,
    task: Task,
    result: Option<Outcomes>,
}

/// What an operation asks for.
#[derive(Debug)]
enum Task {
    /// Nothing: its result is known.
    None,
    Get,
    Put {
        value: Stored,
        expiry: Expiry,
    },
    Delete,
    Add(Step),
    Expire {
        seconds: u32,
    },
}

#[derive(Debug)]
enum Stored {
    Arena(Range<usize>),
    Large(Large),
}

/// What came of an operation.
#[derive(Debug)]
enum Outcomes {
    Refused(Problem),
    /// `shown` is a member with its comma: the value, or the new number.
    Done {
        status: Status,
        shown: Vec<u8>,
        version: Option<Version>,
    },
}

/// Reads what an operation asks for beside its key; a small value goes into the arena.
type Reader = fn(&Api, &Object<'_>, &mut Vec<u8>) -> Result<Task, Problem>;

/// Bytes of answered values. Whatever the order in which they come, the same ones stay: the longest
/// row of gets, in the order of the batch, that fits.
#[derive(Debug)]
struct AnswerRoom {
    kept: usize,
    /// The first get that does not fit; neither does any after it.
    cut: usize,
}

impl Api {
    /// Reads a batch. Whoever is limited to some keys has the operations on others refused.
    pub(super) fn batch(
        &self,
        body: &[u8],
        grants: Grants,
        scope: Option<Arc<Scope>>,
    ) -> Result<Batch, Problem> {
        let scope = scope.as_deref();
        let text = std::str::from_utf8(body).map_err(|_| Problem::BodyInvalid("JSON is UTF-8"))?;
        let documents = json::array(text).map_err(Problem::BodyInvalid)?.ok_or(Problem::BatchTooLong)?;
        let mut batch = Batch {
            items: Vec::with_capacity(documents.len()),
            arena: Vec::new(),
            shards: self.shards,
            admin: grants.contains(Grants::ADMIN),
            next: 0,
            outstanding: 0,
            answers: AnswerRoom { kept: 0, cut: usize::MAX },
        };
        for document in documents {
            let item = match document.starts_with('{') {
                true => self.item(
                    &Object::parse(document).map_err(Problem::BodyInvalid)?,
                    (grants, scope),
                    &mut batch.arena,
                ),
                false => Err(Problem::ItemInvalid("an operation is an object")),
            };
            batch.items.push(item.unwrap_or_else(|problem| Item {
                key: 0..0,
                hash: 0,
                task: Task::None,
                result: Some(Outcomes::Refused(problem)),
            }));
        }
        batch.arena.shrink_to_fit();
        batch.pass_over_known();
        Ok(batch)
    }

    fn item(
        &self,
        object: &Object<'_>,
        (grants, scope): (Grants, Option<&Scope>),
        arena: &mut Vec<u8>,
    ) -> Result<Item, Problem> {
        let name = match object.member("op") {
            None | Some(Value::Null) => return Err(Problem::OperationMissing),
            Some(Value::Text(name)) => name,
            Some(_) => return Err(Problem::ItemInvalid("op is a string")),
        };
        let (grant, read): (Grants, Reader) = match &*name {
            "get" => (Grants::KV_READ, |_, _, _| Ok(Task::Get)),
            "put" => (Grants::KV_WRITE, Api::put_item),
            "delete" => (Grants::KV_DELETE, |_, _, _| Ok(Task::Delete)),
            "increment" => (Grants::KV_WRITE, |_, object, _| Ok(Task::Add(step(object)?))),
            "ttl" => (Grants::KV_WRITE, |_, object, _| Ok(Task::Expire { seconds: expiration(object)? })),
            _ => return Err(Problem::operation_unknown(&name)),
        };
        if !grants.contains(grant) {
            return Err(Problem::Forbidden(grant));
        }
        let key = match object.member("key") {
            Some(Value::Text(key)) => key,
            _ => return Err(Problem::ItemInvalid("key is a string")),
        };
        match key.len() {
            0 => return Err(Problem::KeyEmpty),
            1..=KEY_BYTES_MAX => {}
            _ => return Err(Problem::KeyTooLong),
        }
        if scope.is_some_and(|scope| !scope.admits(Namespace::KV, key.as_bytes())) {
            return Err(Problem::OutOfScope);
        }
        let task = read(self, object, arena)?;
        let hash = self.hasher.hash(Namespace::KV, key.as_bytes());
        Ok(Item { key: append(arena, key.as_bytes()), hash, task, result: None })
    }

    fn put_item(&self, object: &Object<'_>, arena: &mut Vec<u8>) -> Result<Task, Problem> {
        let value: Cow<'_, [u8]> = match (text(object, "value")?, text(object, "base64")?) {
            (Some(Cow::Borrowed(text)), None) => Cow::Borrowed(text.as_bytes()),
            (Some(Cow::Owned(text)), None) => Cow::Owned(text.into_bytes()),
            (None, Some(text)) => {
                Cow::Owned(BASE64.decode(&*text).map_err(|_| Problem::ItemInvalid("base64 is malformed"))?)
            }
            _ => return Err(Problem::ItemInvalid("a put has either value or base64")),
        };
        if value.len() as u64 > self.value_bytes_max {
            return Err(Problem::ValueTooLarge(self.value_bytes_max));
        }
        let expiry = match seconds(object, "ttl")? {
            Some(seconds) => Expiry::Seconds(seconds),
            None => self.default_expiry,
        };
        let value = match value.len() {
            0..=VALUE_COPY_BYTES_MAX => Stored::Arena(append(arena, &value)),
            _ => Stored::Large(Large::copy_of(&value)),
        };
        Ok(Task::Put { value, expiry })
    }
}

fn append(arena: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let at = arena.len();
    arena.extend_from_slice(bytes);
    at..arena.len()
}

/// A member that is a string, or not there.
fn text<'a>(object: &Object<'a>, name: &str) -> Result<Option<Cow<'a, str>>, Problem> {
    match object.member(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(_) => Err(Problem::ItemInvalid("value and base64 are strings")),
    }
}

/// A member that is a number of seconds, or not there.
fn seconds(object: &Object<'_>, name: &str) -> Result<Option<u32>, Problem> {
    match object.member(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Text(text)) => patch::seconds(text.as_bytes()).map(Some).ok_or(Problem::TtlInvalid),
        Some(Value::Number(text)) => patch::seconds(text.as_bytes()).map(Some).ok_or(Problem::TtlInvalid),
        Some(Value::Other) => Err(Problem::TtlInvalid),
    }
}

fn expiration(object: &Object<'_>) -> Result<u32, Problem> {
    match (seconds(object, "ttl")?, seconds(object, "value")?) {
        (Some(ttl), Some(value)) if ttl != value => Err(Problem::TtlContradiction),
        (Some(seconds), _) | (None, Some(seconds)) => Ok(seconds),
        (None, None) => Err(Problem::ExpirationMissing),
    }
}

fn step(object: &Object<'_>) -> Result<Step, Problem> {
    let step = match object.member("value") {
        None | Some(Value::Null) => return Ok(Step::Integer(1)),
        Some(Value::Text(text)) => patch::parse_step(&text),
        Some(Value::Number(text)) => patch::parse_step(text),
        Some(Value::Other) => None,
    };
    step.ok_or(Problem::StepUnrecognized)
}

impl Batch {
    /// Whether the next piece writes.
    pub(super) fn writes_next(&self) -> bool {
        let writes = |task: &Task| !matches!(task, Task::Get | Task::None);
        self.outstanding < PIECES_MAX && self.items.get(self.next).is_some_and(|item| writes(&item.task))
    }

    pub(super) fn next(&mut self) -> Option<Piece<'_>> {
        if self.next == self.items.len() || self.outstanding == PIECES_MAX {
            return None;
        }
        let index = self.next;
        self.next += 1;
        self.outstanding += 1;
        self.pass_over_known();
        let Batch { items, arena, shards, admin, .. } = self;
        let item = &items[index];
        let action = match &item.task {
            Task::Get | Task::None => Action::Get,
            Task::Put { value, expiry } => Action::Put {
                value: match value {
                    Stored::Arena(range) => Payload::Bytes(&arena[range.clone()]),
                    Stored::Large(large) => Payload::Large(large),
                },
                content_type: None,
                encoding: Encoding::Identity,
                expiry: *expiry,
            },
            Task::Delete => Action::Delete { answer_value: false },
            Task::Add(step) => Action::Add(*step),
            Task::Expire { seconds } => Action::Expire { seconds: *seconds },
        };
        let operation = Operation {
            namespace: Namespace::KV,
            key: &arena[item.key.clone()],
            hash: item.hash,
            action,
            condition: Condition::default(),
            fencing_token: None,
            admin: *admin,
        };
        let shard = KeyHasher::owner(item.hash, *shards);
        Some(Piece { index: index as u32, shard, work: Work::Operation(operation) })
    }

    /// Moves on to the next operation whose result is not known: neither refused as it was read, nor
    /// a get past what fits.
    fn pass_over_known(&mut self) {
        while let Some(item) = self.items.get(self.next) {
            let past = matches!(item.task, Task::Get) && self.next >= self.answers.cut;
            if !past && !matches!(item.task, Task::None) {
                return;
            }
            self.next += 1;
        }
    }

    pub(super) fn accept(&mut self, index: u32, outcome: &Outcome<'_>) {
        let at = index as usize;
        let Some(item) = self.items.get(at).filter(|item| item.result.is_none()) else {
            debug_assert!(false, "brought back twice");
            return;
        };
        let is_get = matches!(item.task, Task::Get);
        self.outstanding -= 1;
        let done = |status, shown, version| Some(Outcomes::Done { status, shown, version });
        let result = match outcome {
            Outcome::Found(entry) => match self.shown(at, entry) {
                Some(shown) => done(Status::Ok, shown, Some(entry.meta.version)),
                None => Some(Outcomes::Refused(Problem::AnswerTooLarge)),
            },
            Outcome::Created(meta) => done(Status::Created, Vec::new(), Some(meta.version)),
            Outcome::Updated(meta) | Outcome::Expiring(meta) => {
                done(Status::Ok, Vec::new(), Some(meta.version))
            }
            Outcome::Counted(number, meta) => {
                let mut shown = b",\"value\":".to_vec();
                kv::write_number(&mut shown, *number);
                done(Status::Ok, shown, Some(meta.version))
            }
            Outcome::Deleted(_) => done(Status::Ok, Vec::new(), None),
            refused => Some(Outcomes::Refused(kv::refused(refused))),
        };
        let item = &mut self.items[at];
        item.result = result;
        if !is_get {
            item.task = Task::None; // Lets go of a large value.
        }
        self.pass_over_known();
    }

    /// The value as a member of the result, if it fits. Drops later ones in its favour.
    fn shown(&mut self, at: usize, entry: &Entry<'_>) -> Option<Vec<u8>> {
        let shown = Shown::of(entry);
        let length = shown.length();
        while at < self.answers.cut && self.answers.kept + length > BATCH_ANSWER_BYTES_MAX {
            let upto = self.answers.cut.min(self.items.len());
            let last = (at + 1..upto).rev().find(|later| self.kept_length(*later) > 0);
            self.answers.cut = last.unwrap_or(at);
            if let Some(last) = last {
                self.answers.kept -= self.kept_length(last);
                self.items[last].result = Some(Outcomes::Refused(Problem::AnswerTooLarge));
            }
        }
        if at >= self.answers.cut {
            return None;
        }
        self.answers.kept += length;
        Some(shown.write(length))
    }

    fn kept_length(&self, at: usize) -> usize {
        let item = &self.items[at];
        match (&item.task, &item.result) {
            (Task::Get, Some(Outcomes::Done { shown, .. })) => shown.len(),
            _ => 0,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.next == self.items.len() && self.outstanding == 0
    }

    /// The results as JSON, in parts, so that large values are not moved once more than they must.
    pub(super) fn body(self, tags: &Tags) -> Vec<Vec<u8>> {
        let mut parts = Vec::with_capacity(self.items.len() + 2);
        parts.push(b"{\"results\":[".to_vec());
        for (at, item) in self.items.into_iter().enumerate() {
            let past = matches!(item.task, Task::Get) && at >= self.answers.cut;
            let result = match item.result {
                Some(result) if !past => result,
                _ => Outcomes::Refused(Problem::AnswerTooLarge),
            };
            let mut part = if at > 0 { b",".to_vec() } else { Vec::new() };
            part.extend_from_slice(b"{\"status\":");
            match result {
                Outcomes::Refused(problem) => {
                    response::decimal(&mut part, problem.status().code().into());
                    part.push(b',');
                    problem.write_result(&mut part);
                    part.push(b'}');
                    parts.push(part);
                }
                Outcomes::Done { status, shown, version } => {
                    response::decimal(&mut part, status.code().into());
                    parts.push(part);
                    parts.push(shown);
                    parts.push(ending(version, tags));
                }
            }
        }
        parts.push(b"]}".to_vec());
        parts
    }
}

/// What stands behind a result's value.
fn ending(version: Option<Version>, tags: &Tags) -> Vec<u8> {
    let mut part = Vec::new();
    if let Some(version) = version {
        part.extend_from_slice(b",\"etag\":");
        json::write_text(&mut part, &String::from_utf8_lossy(&tags.tag(version)));
    }
    part.push(b'}');
    part
}

/// How a value is shown in JSON.
enum Shown<'a> {
    Text(&'a str),
    Base64(&'a [u8], Encoding),
}

impl<'a> Shown<'a> {
    /// Values in UTF-8 are strings; others, and those stored with a coding, are base64.
    fn of(entry: &'a Entry<'_>) -> Shown<'a> {
        let bytes = entry.value.bytes();
        match std::str::from_utf8(bytes) {
            Ok(text) if entry.encoding == Encoding::Identity => Shown::Text(text),
            _ => Shown::Base64(bytes, entry.encoding),
        }
    }

    fn name(&self) -> &'static [u8] {
        match self {
            Shown::Text(_) => b",\"value\":",
            Shown::Base64(_, Encoding::Identity) => b",\"base64\":",
            Shown::Base64(_, Encoding::Gzip) => b",\"encoding\":\"gzip\",\"base64\":",
            Shown::Base64(_, Encoding::Zstd) => b",\"encoding\":\"zstd\",\"base64\":",
        }
    }

    /// Bytes that [`Shown::write`] will write.
    fn length(&self) -> usize {
        self.name().len()
            + match self {
                Shown::Text(text) => json::text_length(text),
                Shown::Base64(bytes, _) => 2 + 4 * bytes.len().div_ceil(3),
            }
    }

    fn write(&self, length: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(self.name());
        match self {
            Shown::Text(text) => json::write_text(&mut out, text),
            Shown::Base64(bytes, _) => {
                out.push(b'"');
                let at = out.len();
                out.resize(length - 1, 0);
                let written = STANDARD.encode_slice(bytes, &mut out[at..]);
                debug_assert_eq!(written.ok(), Some(length - 1 - at));
                out.push(b'"');
            }
        }
        debug_assert_eq!(out.len(), length);
        out
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use serde_json::{Value, json};

    use super::super::Gather;
    use super::super::gather::{PIECES_MAX, Work};
    use super::super::tests::{META, Node, Reply, TAG, entry, token};
    use crate::limits::{BATCH_ANSWER_BYTES_MAX, BATCH_OPERATIONS_MAX, VALUE_COPY_BYTES_MAX};
    use crate::op::{Action, Encoding, Entry, Expiry, Number, Operation, Outcome, Payload, Step};

    const POST: &str = "POST /api/kv/batch HTTP/1.1";

    /// Answers every piece as it comes.
    fn at_once<'o>(gather: &mut Gather, mut serve: impl FnMut(&Operation<'_>) -> Outcome<'o>) {
        loop {
            let Some(piece) = gather.next() else { return };
            let Work::Operation(operation) = piece.work else { panic!("a scan") };
            let (index, outcome) = (piece.index, serve(&operation));
            gather.accept(index, &outcome);
        }
    }

    fn results(reply: &Reply) -> Vec<Value> {
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.field("Content-Length"), Some(&*reply.body.len().to_string()));
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        answer["results"].as_array().unwrap().clone()
    }

    fn batch<'o>(body: &str, serve: impl FnMut(&Operation<'_>) -> Outcome<'o>) -> Vec<Value> {
        results(&Node::open().gather(POST, body.as_bytes(), |gather| at_once(gather, serve)))
    }

    #[test]
    fn every_operation_has_its_result_in_order() {
        let mut asked = Vec::new();
        let results = batch(
            r#"[{"op":"put","key":"a","value":"é","ttl":60},{"op":"put","key":"b","base64":"/wA="},
                {"op":"get","key":"a"},{"op":"get","key":"b"},{"op":"get","key":"c"},
                {"op":"increment","key":"d","value":-5},{"op":"increment","key":"d"},
                {"op":"ttl","key":"a","ttl":"9"},{"op":"ttl","key":"a","value":9},{"op":"delete","key":"a"}]"#,
            |operation| {
                asked.push(String::from_utf8_lossy(operation.key).into_owned());
                match (operation.key, operation.action) {
                    (b"a", Action::Put { value, expiry: Expiry::Seconds(60), content_type: None, .. })
                        if value.bytes() == "é".as_bytes() =>
                    {
                        Outcome::Created(META)
                    }
                    (b"b", Action::Put { value, expiry: Expiry::Never, .. })
                        if value.bytes() == b"\xff\0" =>
                    {
                        Outcome::Updated(META)
                    }
                    (b"a", Action::Get) => Outcome::Found(entry("é\n".as_bytes())),
                    (b"b", Action::Get) => Outcome::Found(entry(b"\xff\0")),
                    (b"d", Action::Add(Step::Integer(-5))) => {
                        Outcome::Counted(Number::Integer(i64::MIN), META)
                    }
                    (b"d", Action::Add(Step::Integer(1))) => Outcome::NotNumeric,
                    (b"a", Action::Expire { seconds: 9 }) => Outcome::Expiring(META),
                    (b"a", Action::Delete { answer_value: false }) => Outcome::Deleted(None),
                    (b"c", Action::Get) => Outcome::Absent,
                    other => panic!("{other:?}"),
                }
            },
        );
        assert_eq!(asked, ["a", "b", "a", "b", "c", "d", "d", "a", "a", "a"]);
        assert_eq!(
            results,
            [
                json!({"status":201,"etag":TAG}),
                json!({"status":200,"etag":TAG}),
                json!({"status":200,"value":"é\n","etag":TAG}),
                json!({"status":200,"base64":"/wA=","etag":TAG}),
                json!({"status":404,"message":"The specified key does not exists."}),
                json!({"status":200,"value":i64::MIN,"etag":TAG}),
                json!({"status":400,"message":"The specified key is not a valid numeric value.","code":"not_numeric"}),
                json!({"status":200,"etag":TAG}),
                json!({"status":200,"etag":TAG}),
                json!({"status":200}),
            ]
        );
    }

    #[test]
    fn what_is_wrong_with_one_operation_is_its_result_and_the_others_go_on() {
        let long = "k".repeat(1_025);
        let large = "v".repeat(100_001);
        for (item, status, code) in [
            (r#"{"key":"a"}"#.to_owned(), 400, "operation_missing"),
            (r#"{"op":"lock","key":"a"}"#.into(), 400, "operation_unknown"),
            (r#"{"op":"GET","key":"a"}"#.into(), 400, "operation_unknown"),
            (r#"{"op":1,"key":"a"}"#.into(), 400, "item_invalid"),
            (r#"{"op":"get"}"#.into(), 400, "item_invalid"),
            (r#"{"op":"get","key":7}"#.into(), 400, "item_invalid"),
            (r#"{"op":"get","key":""}"#.into(), 400, "key_empty"),
            (format!(r#"{{"op":"get","key":"{long}"}}"#), 414, "key_too_long"),
            (r#"{"op":"put","key":"a"}"#.into(), 400, "item_invalid"),
            (r#"{"op":"put","key":"a","value":1}"#.into(), 400, "item_invalid"),
            (r#"{"op":"put","key":"a","value":"x","base64":"eA=="}"#.into(), 400, "item_invalid"),
            (r#"{"op":"put","key":"a","base64":"*"}"#.into(), 400, "item_invalid"),
            (r#"{"op":"put","key":"a","value":"x","ttl":0}"#.into(), 400, "ttl_invalid"),
            (format!(r#"{{"op":"put","key":"a","value":"{large}"}}"#), 413, "value_too_large"),
            (r#"{"op":"increment","key":"a","value":"x"}"#.into(), 400, "step_unrecognized"),
            (r#"{"op":"ttl","key":"a"}"#.into(), 400, "expiration_missing"),
            (r#"{"op":"ttl","key":"a","ttl":1,"value":2}"#.into(), 400, "ttl_contradiction"),
            ("7".into(), 400, "item_invalid"),
            ("[]".into(), 400, "item_invalid"),
            ("null".into(), 400, "item_invalid"),
        ] {
            let body = format!(r#"[{item},{{"op":"get","key":"a"}},{item}]"#);
            let results = batch(&body, |_| Outcome::Found(entry(b"x")));
            assert_eq!(results.len(), 3);
            for at in [0, 2] {
                assert_eq!(
                    (&results[at]["status"], &results[at]["code"]),
                    (&json!(status), &json!(code)),
                    "{item}"
                );
            }
            assert_eq!(results[1]["value"], "x");
        }
    }

    #[test]
    fn bad_json_refuses_the_whole() {
        let deep = format!("[{}{}]", "[".repeat(32), "]".repeat(32));
        for body in [
            "",
            "{}",
            "1",
            "[",
            "[{\"op\":\"get\",\"key\":\"a\"},]",
            "[{\"op\":\"get\",\"op\":\"put\",\"key\":\"a\"}]",
            "[{\"op\":\"get\",\"key\":\"a\",\"x\":1,\"x\":1}]",
            "[{\"op\":\"get\" \"key\":\"a\"}]",
            &deep,
        ] {
            let reply = Node::open().gather(POST, body.as_bytes(), |_| panic!("{body}"));
            assert_eq!(reply.status, 400, "{body}");
        }
        let reply =
            Node::open().gather(POST, b"[{\"op\":\"get\",\"key\":\"\xff\"}]", |_| panic!("not UTF-8"));
        assert_eq!(reply.status, 400);
        assert_eq!(
            Node::open().gather(POST, b"[]", |gather| assert!(gather.next().is_none())).text(),
            r#"{"results":[]}"#
        );
    }

    #[test]
    fn a_thousand_operations_pass_and_one_more_does_not() {
        let body = |count: usize| format!("[{}]", vec![r#"{"op":"delete","key":"a"}"#; count].join(","));
        for count in [BATCH_OPERATIONS_MAX - 1, BATCH_OPERATIONS_MAX] {
            assert_eq!(batch(&body(count), |_| Outcome::Absent).len(), count);
        }
        let reply =
            Node::open().gather(POST, body(BATCH_OPERATIONS_MAX + 1).as_bytes(), |_| panic!("too long"));
        assert_eq!(reply.status, 413);
    }

    #[test]
    fn each_operation_needs_its_own_grant() {
        let body = r#"[{"op":"get","key":"a"},{"op":"put","key":"a","value":""},{"op":"delete","key":"a"},
            {"op":"increment","key":"a"},{"op":"ttl","key":"a","ttl":1}]"#;
        for (grant, statuses) in [
            ("kv:read", [404, 403, 403, 403, 403]),
            ("kv:write", [403, 404, 403, 404, 404]),
            ("kv:delete", [403, 403, 404, 403, 403]),
        ] {
            let mut node = Node::locked();
            let lines = format!("{POST}\ntoken: {}", token(grant));
            let reply = node.gather(&lines, body.as_bytes(), |gather| at_once(gather, |_| Outcome::Absent));
            let found: Vec<u64> =
                results(&reply).iter().map(|result| result["status"].as_u64().unwrap()).collect();
            assert_eq!(found, statuses, "{grant}");
        }
        let lines = format!("{POST}\ntoken: {}", token("kv:list kv:lock"));
        let reply = Node::locked().gather(&lines, body.as_bytes(), |_| panic!("may nothing of it"));
        assert_eq!(
            (reply.status, reply.field("X-Required-Grants")),
            (403, Some("kv:read, kv:write, kv:delete"))
        );
    }

    #[test]
    fn a_window_of_pieces_is_out_at_a_time() {
        let body = format!("[{}]", vec![r#"{"op":"get","key":"a"}"#; 200].join(","));
        let reply = Node::open().gather(POST, body.as_bytes(), |gather| {
            let mut out = VecDeque::new();
            loop {
                while let Some(piece) = gather.next() {
                    out.push_back(piece.index);
                }
                assert!(out.len() <= PIECES_MAX);
                assert_eq!(gather.is_done(), out.is_empty());
                // The newest comes back first.
                let Some(index) = out.pop_back() else { break };
                gather.accept(index, &Outcome::Absent);
            }
        });
        assert_eq!(results(&reply).len(), 200);
    }

    #[test]
    fn values_stop_at_the_bound_and_the_same_ones_stay_in_whatever_order_they_come() {
        let size = BATCH_ANSWER_BYTES_MAX / 4;
        let value = vec![b'v'; size];
        let body = format!("[{}]", [r#"{"op":"get","key":"a"}"#; 7].join(","));
        for order in
            [[0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [3, 6, 0, 5, 1, 4, 2], [2, 4, 0, 6, 3, 1, 5]]
        {
            let reply = Node::open().gather(POST, body.as_bytes(), |gather| {
                while gather.next().is_some() {}
                for index in order {
                    // The last is small and would fit, but comes past the ones that do not.
                    let value = if index == 6 { Payload::Bytes(b"v") } else { Payload::Bytes(&value) };
                    gather.accept(index, &Outcome::Found(Entry { value, ..entry(b"") }));
                }
            });
            let statuses: Vec<Value> =
                results(&reply).iter().map(|result| result["status"].clone()).collect();
            assert_eq!(statuses, [200, 200, 200, 413, 413, 413, 413].map(Value::from), "{order:?}");
            assert!(reply.body.len() < BATCH_ANSWER_BYTES_MAX);
        }
    }

    #[test]
    fn gets_past_the_bound_are_not_even_asked_for() {
        let value = vec![b'v'; BATCH_ANSWER_BYTES_MAX];
        let gets = vec![r#"{"op":"get","key":"a"}"#; 100].join(",");
        let mut asked = 0;
        let results = batch(&format!(r#"[{gets},{{"op":"delete","key":"a"}}]"#), |operation| {
            asked += 1;
            match operation.action {
                Action::Get => Outcome::Found(Entry { value: Payload::Bytes(&value), ..entry(b"") }),
                _ => Outcome::Deleted(None),
            }
        });
        assert_eq!(
            (asked, results[0]["status"].as_u64(), results[99]["status"].as_u64()),
            (2, Some(413), Some(413))
        );
        assert_eq!(results[100], json!({"status":200}));
    }

    #[test]
    fn the_bound_counts_what_is_written_not_what_is_stored() {
        let control = vec![1; BATCH_ANSWER_BYTES_MAX / 6];
        let results = batch(r#"[{"op":"get","key":"a"}]"#, |_| {
            Outcome::Found(Entry { value: Payload::Bytes(&control), ..entry(b"") })
        });
        assert_eq!(results[0]["status"], 413);
        let results = batch(r#"[{"op":"get","key":"a"}]"#, |_| {
            Outcome::Found(Entry { value: Payload::Bytes(&control[10..]), ..entry(b"") })
        });
        assert_eq!(results[0]["value"].as_str().map(str::len), Some(control.len() - 10));
    }

    #[test]
    fn a_value_stored_with_a_coding_says_so() {
        let results = batch(r#"[{"op":"get","key":"a"}]"#, |_| {
            Outcome::Found(Entry { encoding: Encoding::Gzip, ..entry(b"text") })
        });
        assert_eq!(results[0], json!({"status":200,"encoding":"gzip","base64":"dGV4dA==","etag":TAG}));
    }

    #[test]
    fn large_values_are_shared_small_ones_copied() {
        for length in [0, VALUE_COPY_BYTES_MAX, VALUE_COPY_BYTES_MAX + 1, 100_000] {
            let body = format!(r#"[{{"op":"put","key":"a","value":"{}"}}]"#, "v".repeat(length));
            batch(&body, |operation| {
                let Action::Put { value, .. } = operation.action else { panic!("a put") };
                assert_eq!(value.bytes().len(), length);
                assert_eq!(matches!(value, Payload::Large(_)), length > VALUE_COPY_BYTES_MAX, "{length}");
                Outcome::Created(META)
            });
        }
    }
}
