//! Requests for one key: what a PUT, DELETE or PATCH asks of the store, and what is answered when
//! it is done. Reads are answered in `value`.

use crate::auth::Grants;
use crate::clock::Now;
use crate::etag;
use crate::http::{Field, Method, Request, Status, negotiate, response, target};
use crate::limits::CONTENT_TYPE_BYTES_MAX;
use crate::op::{Action, Condition, Encoding, Expiry, Meta, Number, Operation, Outcome, Payload};

use super::message::{self, Problem};
use super::patch;
use super::routes::Verb;
use super::{Api, ETAG, KeyCall, Tail};

/// Room for what a request spreads over several lines. Reused; empty in all but the oddest cases.
#[derive(Debug, Default)]
pub struct Scratch {
    if_match: Vec<u8>,
    if_none_match: Vec<u8>,
    /// A string as JSON has it.
    text: Vec<u8>,
}

/// What the query of a PUT says.
#[derive(Default)]
struct PutQuery {
    ttl: Option<u32>,
    must_exist: bool,
}

impl Api {
    /// Builds the operation of a call, once its body is here (empty when there is none). Takes note
    /// in the call of what the answer needs to know.
    #[inline]
    pub fn operation<'a>(
        &self,
        request: &Request,
        head: &'a [u8],
        call: &mut KeyCall,
        body: Payload<'a>,
        scratch: &'a mut Scratch,
    ) -> Result<Operation<'a>, Problem> {
        if let Verb::Item(verb) = call.verb {
            return Ok(self.item_operation(head, call, verb, body));
        }
        if let Verb::Database(verb) = call.verb {
            return Ok(self.entry_operation(call, verb, body, &mut scratch.text));
        }
        if call.verb != Verb::Get {
            return self.write_operation(request, head, call, body, scratch);
        }
        Ok(Operation {
            namespace: call.namespace,
            key: call.key.of(head),
            hash: call.hash,
            action: Action::Get,
            condition: Condition::default(),
            fencing_token: None,
            admin: false,
        })
    }

    fn write_operation<'a>(
        &self,
        request: &Request,
        head: &'a [u8],
        call: &mut KeyCall,
        body: Payload<'a>,
        scratch: &'a mut Scratch,
    ) -> Result<Operation<'a>, Problem> {
        let mut condition = Condition::default();
        let mut fencing_token = None;
        let action = match call.verb {
            Verb::Get | Verb::Item(_) | Verb::Database(_) => Action::Get,
            Verb::Put => {
                let query = put_query(request, head)?;
                condition.must_exist = query.must_exist;
                self.put(request, head, body, query.ttl)?
            }
            Verb::Delete => Action::Delete { answer_value: shows_deleted(request, head, call.grants)? },
            Verb::Patch => {
                let patch = patch::parse(body.bytes())?;
                if !call.grants.contains(patch.grant) {
                    return Err(Problem::Forbidden(patch.grant));
                }
                call.down = patch.down;
                patch.action
            }
        };
        if !request.is_plain() {
            condition.if_match = joined(request, head, Field::IfMatch, &mut scratch.if_match);
            condition.if_none_match = joined(request, head, Field::IfNoneMatch, &mut scratch.if_none_match);
            fencing_token = request.field(head, Field::XFencingToken).map(fencing_token_of).transpose()?;
        }
        Ok(Operation {
            namespace: call.namespace,
            key: call.key.of(head),
            hash: call.hash,
            action,
            condition,
            fencing_token,
            admin: call.grants.contains(Grants::ADMIN),
        })
    }

    fn put<'a>(
        &self,
        request: &Request,
        head: &'a [u8],
        value: Payload<'a>,
        query_ttl: Option<u32>,
    ) -> Result<Action<'a>, Problem> {
        let content_type = request.field(head, Field::ContentType).filter(|value| !value.is_empty());
        if content_type.is_some_and(|value| value.len() > CONTENT_TYPE_BYTES_MAX) {
            return Err(Problem::FieldInvalid("Content-Type is longer than 255 bytes"));
        }
        if request.is_plain() && query_ttl.is_none() {
            return Ok(Action::Put {
                value,
                content_type,
                encoding: Encoding::Identity,
                expiry: self.default_expiry,
            });
        }
        let encoding = match request.field(head, Field::ContentEncoding) {
            None => Encoding::Identity,
            Some(coding) => stored_encoding(coding)?,
        };
        let expiry = match ttl(request, head, query_ttl)? {
            Some(seconds) => Expiry::Seconds(seconds),
            None => self.default_expiry,
        };
        Ok(Action::Put { value, content_type, encoding, expiry })
    }

    /// Answers a call by the outcome of its operation. What is too long to be copied behind the
    /// head is the answer's tail.
    #[allow(clippy::too_many_arguments)] // the connection's state, the answer's room and the time
    #[inline(always)] // It only chooses: as a call, passing all this on took 35 instructions.
    pub fn answer<'a>(
        &mut self,
        request: &Request,
        head: &[u8],
        body: Payload<'_>,
        call: &KeyCall,
        outcome: &Outcome<'a>,
        close: bool,
        out: &mut Vec<u8>,
        now: Now,
    ) -> Tail<'a> {
        if let Verb::Item(verb) = call.verb {
            return self.answer_item(request, (head, body.bytes()), call, verb, outcome, close, out);
        }
        if let Verb::Database(verb) = call.verb {
            return self.answer_entry(request, (head, body.bytes()), call, verb, outcome, close, out);
        }
        match outcome {
            Outcome::Found(entry) => self.answer_found(request, head, entry, close, out, now),
            outcome => self.answer_in_words(request, head, call, outcome, close, out, now),
        }
    }

    #[allow(clippy::too_many_arguments)]
    #[inline(never)]
    fn answer_in_words<'a>(
        &mut self,
        request: &Request,
        head: &[u8],
        call: &KeyCall,
        outcome: &Outcome<'a>,
        close: bool,
        out: &mut Vec<u8>,
        now: Now,
    ) -> Tail<'a> {
        let is_usual = |meta: &Meta| {
            meta.expires_ms.is_none() && request.is_plain() && self.ends_plainly(request, close)
        };
        let prepared = match outcome {
            Outcome::Created(meta) if is_usual(meta) => Some((&self.prepared.created, meta)),
            Outcome::Updated(meta) if is_usual(meta) => Some((&self.prepared.updated, meta)),
            _ => None,
        };
        if let Some((prepared, meta)) = prepared {
            etag::write_version(&mut prepared.begin(out)[ETAG.len()..], meta.version);
            return Tail::None;
        }
        let (status, body, meta) = match *outcome {
            Outcome::Found(entry) => return self.answer_found(request, head, &entry, close, out, now),
            Outcome::Deleted(Some(entry)) => return self.answer_deleted(request, head, &entry, close, out),
            Outcome::Created(meta) => (Status::Created, message::CREATED, Some(meta)),
            Outcome::Updated(meta) => (Status::Ok, message::UPDATED, Some(meta)),
            Outcome::Deleted(None) => (Status::Ok, message::DELETED, None),
            Outcome::LockTaken { fencing_token, meta } => {
                self.say(
                    request,
                    head,
                    Said::new(Status::Ok, message::LOCKED, meta).fenced(fencing_token),
                    close,
                    out,
                    now,
                );
                return Tail::None;
            }
            Outcome::Unlocked(meta) => (Status::Ok, message::UNLOCKED, Some(meta)),
            Outcome::Expiring(meta) => (Status::Ok, message::EXPIRING, Some(meta)),
            Outcome::Persisted(meta) => (Status::Ok, message::PERSISTED, Some(meta)),
            Outcome::Counted(number, meta) => {
                let mut body = if call.down { message::DECREMENTED } else { message::INCREMENTED }.to_vec();
                write_number(&mut body, number);
                body.push(b'}');
                self.say(request, head, Said::new(Status::Ok, &body, meta), close, out, now);
                return Tail::None;
            }
            Outcome::Absent
            | Outcome::Locked
            | Outcome::AlreadyLocked
            | Outcome::NotLocked
            | Outcome::ConditionFailed(_)
            | Outcome::NotNumeric
            | Outcome::OutOfRange
            | Outcome::StoreFull
            | Outcome::TooLarge
            | Outcome::JournalFull
            | Outcome::JournalFailed
            | Outcome::Closed => {
                self.refuse(Some((request, head)), refused(outcome), close, out);
                return Tail::None;
            }
        };
        self.say(request, head, Said { status, body, meta, fencing_token: None }, close, out, now);
        Tail::None
    }

    /// Says that something was done.
    fn say(
        &mut self,
        request: &Request,
        head: &[u8],
        said: Said<'_>,
        close: bool,
        out: &mut Vec<u8>,
        now: Now,
    ) {
        let minimal = !request.is_plain() && prefers(request, head, b"minimal");
        let body = if minimal { b"" } else { said.body };
        self.preamble.begin(out, said.status);
        if let Some(meta) = &said.meta {
            response::field(out, "ETag: ", &self.tags.tag(meta.version));
            write_seconds_left(out, meta, now);
        }
        if let Some(token) = said.fencing_token {
            response::field_decimal(out, "X-Fencing-Token: ", token);
        }
        if minimal {
            out.extend_from_slice(b"Preference-Applied: return=minimal\r\n");
        } else {
            out.extend_from_slice(b"Content-Type: application/json\r\n");
        }
        response::content_length(out, body.len() as u64);
        self.end(Some((request, head)), close, out);
        if request.method != Method::Head {
            out.extend_from_slice(body);
        }
    }
}

/// A success in words.
struct Said<'a> {
    status: Status,
    body: &'a [u8],
    meta: Option<Meta>,
    fencing_token: Option<u64>,
}

impl<'a> Said<'a> {
    fn new(status: Status, body: &'a [u8], meta: Meta) -> Said<'a> {
        Said { status, body, meta: Some(meta), fencing_token: None }
    }

    fn fenced(self, token: u64) -> Said<'a> {
        Said { fencing_token: Some(token), ..self }
    }
}

/// The problem that an outcome is, when it is one. Successes are answered before they get here.
pub(super) fn refused(outcome: &Outcome<'_>) -> Problem {
    match outcome {
        Outcome::Locked => Problem::Locked,
        Outcome::AlreadyLocked => Problem::AlreadyLocked,
        Outcome::NotLocked => Problem::NotLocked,
        Outcome::ConditionFailed(meta) => Problem::ConditionFailed(meta.map(|meta| meta.version)),
        Outcome::NotNumeric => Problem::NotNumeric,
        Outcome::OutOfRange => Problem::OutOfRange,
        Outcome::StoreFull => Problem::StoreFull,
        Outcome::JournalFull => Problem::JournalFull,
        Outcome::JournalFailed => Problem::JournalFailed,
        Outcome::TooLarge => Problem::EntryTooLarge,
        Outcome::Closed => Problem::DatabaseUnknown,
        Outcome::Absent
        | Outcome::Found(_)
        | Outcome::Created(_)
        | Outcome::Updated(_)
        | Outcome::Deleted(_)
        | Outcome::LockTaken { .. }
        | Outcome::Unlocked(_)
        | Outcome::Counted(..)
        | Outcome::Expiring(_)
        | Outcome::Persisted(_) => Problem::Absent,
    }
}

/// Appends `X-TTL` to the answer of an entry that has one.
pub(super) fn write_seconds_left(out: &mut Vec<u8>, meta: &Meta, now: Now) {
    if let Some(seconds) = seconds_left(meta.expires_ms, now) {
        response::field_decimal(out, "X-TTL: ", seconds);
    }
}

/// Seconds until an entry expires, rounded up. What is still there has at least one.
pub(super) fn seconds_left(expires_ms: Option<u64>, now: Now) -> Option<u64> {
    expires_ms.map(|at| at.saturating_sub(now.unix_ms).div_ceil(1_000).max(1))
}

/// Appends a number as JSON has it.
pub(super) fn write_number(out: &mut Vec<u8>, number: Number) {
    out.extend_from_slice(number.to_string().as_bytes());
}

/// Whether the client prefers this for `return` (RFC 7240).
pub(super) fn prefers(request: &Request, head: &[u8], form: &[u8]) -> bool {
    negotiate::directives(request.field_lines(head, Field::Prefer), "return").next() == Some(form)
}

/// Whether a DELETE answers the bytes it removed. That is a read, so it needs the grant: to pass
/// over the preference would lose what the caller meant to keep.
fn shows_deleted(request: &Request, head: &[u8], grants: Grants) -> Result<bool, Problem> {
    if request.is_plain() || !prefers(request, head, b"representation") {
        return Ok(false);
    }
    if grants.contains(Grants::KV_READ) { Ok(true) } else { Err(Problem::Forbidden(Grants::KV_READ)) }
}

/// The coding a value is kept with. Others, and several on top of each other, could not be undone
/// for a client that does not accept them.
fn stored_encoding(coding: &[u8]) -> Result<Encoding, Problem> {
    let is = |name: &[u8]| coding.eq_ignore_ascii_case(name);
    if is(b"gzip") || is(b"x-gzip") {
        Ok(Encoding::Gzip)
    } else if is(b"zstd") {
        Ok(Encoding::Zstd)
    } else if is(b"identity") || is(b"") {
        Ok(Encoding::Identity)
    } else {
        Err(Problem::CodingUnsupported)
    }
}

fn put_query(request: &Request, head: &[u8]) -> Result<PutQuery, Problem> {
    let mut found = PutQuery::default();
    let Some(query) = request.query else { return Ok(found) };
    for pair in target::query_pairs(query.of(head)) {
        let (name, value) = pair.map_err(|_| Problem::QueryInvalid("an escape is malformed"))?;
        match &*name {
            b"ttl" => agree(&mut found.ttl, patch::seconds(&value))?,
            b"if" if &*value == b"exists" => found.must_exist = true,
            b"if" => return Err(Problem::QueryInvalid("if is exists")),
            _ => {}
        }
    }
    Ok(found)
}

/// The time-to-live that query, `X-TTL` and `Cache-Control` agree upon.
fn ttl(request: &Request, head: &[u8], query: Option<u32>) -> Result<Option<u32>, Problem> {
    let mut found = query;
    if let Some(value) = request.field(head, Field::XTtl) {
        agree(&mut found, patch::seconds(value))?;
    }
    for value in negotiate::directives(request.field_lines(head, Field::CacheControl), "max-age") {
        agree(&mut found, patch::seconds(value))?;
    }
    Ok(found)
}

fn agree(found: &mut Option<u32>, seconds: Option<u32>) -> Result<(), Problem> {
    let seconds = seconds.ok_or(Problem::TtlInvalid)?;
    match found.replace(seconds) {
        Some(other) if other != seconds => Err(Problem::TtlContradiction),
        _ => Ok(()),
    }
}

fn fencing_token_of(value: &[u8]) -> Result<u64, Problem> {
    let digits = value.iter().all(u8::is_ascii_digit).then_some(value);
    digits
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
        .ok_or(Problem::FieldInvalid("X-Fencing-Token is a decimal number"))
}

/// The value of a list field: as it stands, or its lines put together.
fn joined<'a>(request: &Request, head: &'a [u8], field: Field, room: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    let mut lines = request.field_lines(head, field);
    let first = lines.next()?;
    let Some(second) = lines.next() else { return Some(first) };
    room.clear();
    room.extend_from_slice(first);
    for line in std::iter::once(second).chain(lines) {
        room.extend_from_slice(b", ");
        room.extend_from_slice(line);
    }
    Some(room)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{META, NOW, Node, TAG, VERSION, config, entry, token};
    use super::super::{ApiConfig, Problem};
    use crate::op::{Action, CONTENT_TYPE_DEFAULT, Encoding, Expiry, Meta, Number, Operation, Outcome};

    /// The operation that a request becomes.
    fn operation<T>(lines: &str, look: impl FnOnce(&Operation<'_>) -> T) -> T {
        let mut seen = None;
        Node::open().serve(lines, b"body", |operation| {
            seen = Some(look(operation));
            Outcome::Absent
        });
        seen.expect("served")
    }

    fn expiry(lines: &str) -> Expiry {
        operation(lines, |operation| match operation.action {
            Action::Put { expiry, .. } => expiry,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn the_sentences_are_the_seeds_letter_for_letter() {
        let mut node = Node::open();
        for (lines, outcome, status, body) in [
            (
                "PUT /api/kv/a HTTP/1.1",
                Outcome::Created(META),
                201,
                r#"{"message":"The specified key was successfully created."}"#,
            ),
            (
                "PUT /api/kv/a HTTP/1.1",
                Outcome::Updated(META),
                200,
                r#"{"message":"The specified key was successfully updated."}"#,
            ),
            (
                "DELETE /api/kv/a HTTP/1.1",
                Outcome::Deleted(None),
                200,
                r#"{"message":"The specified key and its data was successfully deleted."}"#,
            ),
            (
                "PUT /api/kv/a HTTP/1.1",
                Outcome::Locked,
                409,
                r#"{"message":"The specified key cannot be updated."}"#,
            ),
            (
                "DELETE /api/kv/a HTTP/1.1",
                Outcome::Locked,
                409,
                r#"{"message":"The specified key cannot be updated."}"#,
            ),
            (
                "GET /api/kv/a HTTP/1.1",
                Outcome::Absent,
                404,
                r#"{"message":"The specified key does not exists."}"#,
            ),
            (
                "DELETE /api/kv/a HTTP/1.1",
                Outcome::Absent,
                404,
                r#"{"message":"The specified key does not exists."}"#,
            ),
        ] {
            let reply = node.told(lines, b"", outcome);
            assert_eq!((reply.status, reply.text()), (status, body), "{lines}");
            assert_eq!(reply.field("Content-Type"), Some("application/json"));
            assert_eq!(reply.field("Content-Length"), Some(&*body.len().to_string()));
        }
        let head = node.told("HEAD /api/kv/a HTTP/1.1", b"", Outcome::Absent);
        assert_eq!((head.status, head.text(), head.field("Content-Length")), (404, "", Some("48")));
    }

    #[test]
    fn patches_answer_in_words_and_counters_with_the_number() {
        let mut node = Node::open();
        let locked = Outcome::LockTaken { fencing_token: 18_446_744_073_709_551_615, meta: META };
        for (body, outcome, status, text) in [
            ("lock", locked, 200, r#"{"message":"The specified key was successfully locked."}"#),
            (
                "unlock",
                Outcome::Unlocked(META),
                200,
                r#"{"message":"The specified key was successfully unlocked."}"#,
            ),
            (
                "increment",
                Outcome::Counted(Number::Integer(i64::MAX), META),
                200,
                r#"{"message":"The specified key was successfully incremented.","value":9223372036854775807}"#,
            ),
            (
                "decrement",
                Outcome::Counted(Number::Decimal(-0.5), META),
                200,
                r#"{"message":"The specified key was successfully decremented.","value":-0.5}"#,
            ),
            (
                "operation=ttl&value=9",
                Outcome::Expiring(META),
                200,
                r#"{"message":"The expiration of the specified key was successfully set."}"#,
            ),
            (
                "persist",
                Outcome::Persisted(META),
                200,
                r#"{"message":"The expiration of the specified key was successfully cancelled."}"#,
            ),
        ] {
            let reply = node.told("PATCH /api/kv/a HTTP/1.1", body.as_bytes(), outcome);
            assert_eq!((reply.status, reply.text()), (status, text), "{body}");
            assert_eq!(reply.field("ETag"), Some(TAG));
            let token = (body == "lock").then_some("18446744073709551615");
            assert_eq!(reply.field("X-Fencing-Token"), token);
        }
        for (body, outcome, status, message) in [
            ("lock", Outcome::AlreadyLocked, 409, "The specified key is already locked."),
            ("unlock", Outcome::NotLocked, 409, "The specified key is not currently locked."),
            ("increment", Outcome::NotNumeric, 400, "The specified key is not a valid numeric value."),
            ("increment", Outcome::OutOfRange, 400, "The result is out of range."),
            ("increment", Outcome::Locked, 409, "The specified key cannot be updated."),
            ("lock", Outcome::Absent, 404, "The specified key does not exists."),
        ] {
            let reply = node.told("PATCH /api/kv/a HTTP/1.1", body.as_bytes(), outcome);
            let members: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!((reply.status, members["message"].as_str()), (status, Some(message)), "{body}");
        }
    }

    #[test]
    fn what_the_store_refuses_has_its_status() {
        let mut node = Node::open();
        let put = "PUT /api/kv/a HTTP/1.1";
        let failed = node.told(put, b"", Outcome::ConditionFailed(Some(META)));
        assert_eq!((failed.status, failed.field("ETag")), (412, Some(TAG)));
        assert_eq!(node.told(put, b"", Outcome::ConditionFailed(None)).field("ETag"), None);
        assert_eq!(node.told(put, b"", Outcome::StoreFull).status, 507);
        assert_eq!(node.told(put, b"", Outcome::TooLarge).status, 413);
    }

    #[test]
    fn a_put_carries_value_type_and_no_deadline_unless_told() {
        operation("PUT /api/kv/a HTTP/1.1\nContent-Type: text/plain; charset=utf-8", |operation| {
            assert!(matches!(operation.action, Action::Put { value, content_type, encoding, expiry }
                if value.bytes() == b"body"
                    && content_type == Some(&b"text/plain; charset=utf-8"[..])
                    && encoding == Encoding::Identity
                    && expiry == Expiry::Never));
            assert!(!operation.condition.must_exist && operation.fencing_token.is_none());
        });
        for lines in ["PUT /api/kv/a HTTP/1.1", "PUT /api/kv/a HTTP/1.1\nContent-Type:"] {
            operation(lines, |operation| {
                assert!(matches!(operation.action, Action::Put { content_type: None, .. }));
            });
        }
    }

    #[test]
    fn the_content_type_is_bounded() {
        let lines = |length: usize| format!("PUT /api/kv/a HTTP/1.1\nContent-Type: {}", "x".repeat(length));
        operation(&lines(254), |_| ());
        operation(&lines(255), |_| ());
        assert_eq!(Node::open().refused(&lines(256), b"").status, 400);
    }

    #[test]
    fn a_ttl_comes_by_query_field_or_cache_control() {
        for lines in [
            "PUT /api/kv/a?ttl=60 HTTP/1.1",
            "PUT /api/kv/a?x=1&ttl=60&y HTTP/1.1",
            "PUT /api/kv/a HTTP/1.1\nX-TTL: 60",
            "PUT /api/kv/a HTTP/1.1\nCache-Control: no-store, Max-Age=60",
            "PUT /api/kv/a HTTP/1.1\nCache-Control: private\nCache-Control: max-age=\"60\"",
            "PUT /api/kv/a?ttl=60&ttl=060 HTTP/1.1\nX-TTL: 60\nCache-Control: max-age=60",
        ] {
            assert_eq!(expiry(lines), Expiry::Seconds(60), "{lines}");
        }
        assert_eq!(expiry("PUT /api/kv/a?ttl=1 HTTP/1.1"), Expiry::Seconds(1));
        assert_eq!(expiry("PUT /api/kv/a?ttl=4294967295 HTTP/1.1"), Expiry::Seconds(u32::MAX));
        assert_eq!(expiry("PUT /api/kv/a HTTP/1.1\nCache-Control: no-store"), Expiry::Never);
    }

    #[test]
    fn a_ttl_out_of_range_or_in_doubt_is_refused() {
        for (lines, code) in [
            ("PUT /api/kv/a?ttl=0 HTTP/1.1", "ttl_invalid"),
            ("PUT /api/kv/a?ttl= HTTP/1.1", "ttl_invalid"),
            ("PUT /api/kv/a?ttl=4294967296 HTTP/1.1", "ttl_invalid"),
            ("PUT /api/kv/a?ttl=-1 HTTP/1.1", "ttl_invalid"),
            ("PUT /api/kv/a?ttl=1.5 HTTP/1.1", "ttl_invalid"),
            ("PUT /api/kv/a HTTP/1.1\nX-TTL: 60s", "ttl_invalid"),
            ("PUT /api/kv/a HTTP/1.1\nCache-Control: max-age=0", "ttl_invalid"),
            ("PUT /api/kv/a HTTP/1.1\nCache-Control: max-age", "ttl_invalid"),
            ("PUT /api/kv/a?ttl=60 HTTP/1.1\nX-TTL: 61", "ttl_contradiction"),
            ("PUT /api/kv/a?ttl=60&ttl=61 HTTP/1.1", "ttl_contradiction"),
            ("PUT /api/kv/a HTTP/1.1\nX-TTL: 60\nCache-Control: max-age=61", "ttl_contradiction"),
            (
                "PUT /api/kv/a HTTP/1.1\nCache-Control: max-age=60\nCache-Control: max-age=61",
                "ttl_contradiction",
            ),
            ("PUT /api/kv/a?ttl=%zz HTTP/1.1", "query_invalid"),
        ] {
            let reply = Node::open().refused(lines, b"");
            let members: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!((reply.status, members["code"].as_str()), (400, Some(code)), "{lines}");
        }
    }

    #[test]
    fn a_default_ttl_is_for_puts_without_one() {
        let mut node = Node::new(ApiConfig { default_ttl: Some(5), ..config() });
        for (lines, seconds) in [("PUT /api/kv/a HTTP/1.1", 5), ("PUT /api/kv/a?ttl=6 HTTP/1.1", 6)] {
            node.serve(lines, b"", |operation| {
                assert!(matches!(operation.action,
                    Action::Put { expiry: Expiry::Seconds(found), .. } if found == seconds));
                Outcome::Created(META)
            });
        }
    }

    #[test]
    fn seconds_left_are_rounded_up_and_told_with_every_answer_of_an_entry() {
        let mut node = Node::open();
        for (left_ms, told) in
            [(1, "1"), (999, "1"), (1_000, "1"), (1_001, "2"), (4_294_967_295_000, "4294967295"), (0, "1")]
        {
            let meta = Meta { version: VERSION, expires_ms: Some(NOW.unix_ms + left_ms) };
            let mut found = entry(b"x");
            found.meta = meta;
            for (lines, outcome) in [
                ("GET /api/kv/a HTTP/1.1", Outcome::Found(found)),
                ("PUT /api/kv/a HTTP/1.1", Outcome::Created(meta)),
            ] {
                assert_eq!(node.told(lines, b"", outcome).field("X-TTL"), Some(told), "{lines}");
            }
        }
        assert_eq!(
            node.told("GET /api/kv/a HTTP/1.1", b"", Outcome::Found(entry(b"x"))).field("X-TTL"),
            None
        );
    }

    #[test]
    fn conditions_and_the_fencing_token_go_to_the_shard() {
        operation("PUT /api/kv/a?if=exists HTTP/1.1\nIf-Match: \"x\"\nX-Fencing-Token: 7", |operation| {
            assert!(operation.condition.must_exist);
            assert_eq!(operation.condition.if_match, Some(&b"\"x\""[..]));
            assert_eq!(operation.condition.if_none_match, None);
            assert_eq!(operation.fencing_token, Some(7));
        });
        operation(
            "DELETE /api/kv/a HTTP/1.1\nIf-Match: \"x\"\nIf-None-Match: *\nIf-Match: \"y\", \"z\"",
            |operation| {
                assert_eq!(operation.condition.if_match, Some(&b"\"x\", \"y\", \"z\""[..]));
                assert_eq!(operation.condition.if_none_match, Some(&b"*"[..]));
            },
        );
        operation("GET /api/kv/a HTTP/1.1\nIf-Match: \"x\"", |operation| {
            assert_eq!(operation.condition.if_match, None, "a read's conditions are decided on the answer");
        });
        for token in ["", "-1", "x", "18446744073709551616", "1.0"] {
            let reply =
                Node::open().refused(&format!("PUT /api/kv/a HTTP/1.1\nX-Fencing-Token: {token}"), b"");
            assert_eq!(reply.status, 400, "{token}");
        }
        assert_eq!(Node::open().refused("PUT /api/kv/a?if=absent HTTP/1.1", b"").status, 400);
    }

    #[test]
    fn the_codings_that_can_be_undone_are_kept() {
        for (coding, encoding) in [
            ("gzip", Encoding::Gzip),
            ("GZIP", Encoding::Gzip),
            ("x-gzip", Encoding::Gzip),
            ("zstd", Encoding::Zstd),
            ("identity", Encoding::Identity),
            ("", Encoding::Identity),
        ] {
            operation(&format!("PUT /api/kv/a HTTP/1.1\nContent-Encoding: {coding}"), |operation| {
                assert!(
                    matches!(operation.action, Action::Put { encoding: own, .. } if own == encoding),
                    "{coding}"
                );
            });
        }
        for coding in ["br", "deflate", "gzip, gzip", "gzip, zstd"] {
            let reply =
                Node::open().refused(&format!("PUT /api/kv/a HTTP/1.1\nContent-Encoding: {coding}"), b"");
            assert_eq!(reply.status, 415, "{coding}");
            assert_eq!(reply.field("Accept-Encoding"), Some("gzip, zstd, identity"));
        }
    }

    #[test]
    fn minimal_answers_have_no_body_but_errors_keep_theirs() {
        let mut node = Node::open();
        let lines = "PUT /api/kv/a HTTP/1.1\nPrefer: respond-async, return=minimal";
        let reply = node.told(lines, b"", Outcome::Created(META));
        assert_eq!((reply.status, reply.text(), reply.field("Content-Length")), (201, "", Some("0")));
        assert_eq!(reply.field("Preference-Applied"), Some("return=minimal"));
        assert_eq!((reply.field("ETag"), reply.field("Content-Type")), (Some(TAG), None));
        assert!(!node.told(lines, b"", Outcome::Locked).body.is_empty());
        let counted = Outcome::Counted(Number::Integer(1), META);
        assert_eq!(
            node.told("PATCH /api/kv/a HTTP/1.1\nPrefer: return=minimal", b"increment", counted).text(),
            ""
        );
    }

    #[test]
    fn a_delete_answers_the_deleted_bytes_to_who_prefers_and_may_read_them() {
        let lines = "DELETE /api/kv/a HTTP/1.1\nPrefer: return=representation";
        let mut node = Node::open();
        let reply = node.serve(lines, b"", |operation| {
            assert!(matches!(operation.action, Action::Delete { answer_value: true }));
            Outcome::Deleted(Some(entry(b"gone")))
        });
        assert_eq!((reply.status, reply.text()), (200, "gone"));
        assert_eq!(reply.field("Content-Type").map(str::as_bytes), Some(CONTENT_TYPE_DEFAULT));
        assert_eq!(reply.field("X-Content-Type-Options"), Some("nosniff"));
        assert_eq!((reply.field("ETag"), reply.field("Accept-Ranges")), (None, None));
        operation("DELETE /api/kv/a HTTP/1.1", |operation| {
            assert!(matches!(operation.action, Action::Delete { answer_value: false }));
        });
        let mut node = Node::locked();
        let reply = node.refused(&format!("{lines}\ntoken: {}", token("kv:delete")), b"");
        assert_eq!((reply.status, reply.field("X-Required-Grants")), (403, Some("kv:read")));
    }

    #[test]
    fn every_outcome_that_is_no_success_has_a_problem_of_its_own() {
        for (outcome, problem) in [
            (Outcome::Absent, Problem::Absent),
            (Outcome::Locked, Problem::Locked),
            (Outcome::AlreadyLocked, Problem::AlreadyLocked),
            (Outcome::NotLocked, Problem::NotLocked),
            (Outcome::ConditionFailed(Some(META)), Problem::ConditionFailed(Some(VERSION))),
            (Outcome::NotNumeric, Problem::NotNumeric),
            (Outcome::OutOfRange, Problem::OutOfRange),
            (Outcome::StoreFull, Problem::StoreFull),
            (Outcome::TooLarge, Problem::EntryTooLarge),
        ] {
            assert_eq!(super::refused(&outcome), problem);
        }
    }
}
