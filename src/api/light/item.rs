//! Items on the short way: what one key's owner is asked, and what is answered.
//!
//! A value is kept as the text of the JSON that it came as, and answered as that text.

use std::num::NonZeroU32;

use crate::http::{Method, Request, Span, Status, response};
use crate::limits::ANSWER_COPY_BYTES_MAX;
use crate::op::{Action, Condition, Encoding, Expiry, Namespace, Operation, Outcome, Payload};

use super::super::message::Problem;
use super::super::{Api, Call, GatherCall, KeyCall, Tail, Task, Verb, json, kv, patch};
use super::body::{Fields, Reader};
use super::{App, ItemVerb, LightVerb, absent, begin, check_key};

/// What the body of a write says beside the key. Small, since there is one with every request of a key.
#[derive(Clone, Copy, Debug)]
pub struct EntryText {
    /// Where the value is, with its quotes.
    pub(in super::super) value: Span,
    /// In seconds.
    pub(in super::super) ttl: Option<NonZeroU32>,
}

impl EntryText {
    /// Of what is no write.
    pub const NONE: EntryText = EntryText { value: Span::EMPTY, ttl: None };
}

/// Longest body that goes the short way.
const SHORT_BODY_BYTES_MAX: usize = 8 * 1_024;

impl Api {
    /// Has a request whose body is short and plain go the short way, now that the body is here.
    ///
    /// # Errors
    /// When there is something wrong with it.
    pub fn shorten(&self, call: &mut Call, about: (&Request, &[u8]), body: &mut [u8]) -> Result<(), Problem> {
        match call {
            Call::Gather(GatherCall { task: Task::Light(..), .. }) => self.shorten_item(call, body),
            Call::Gather(GatherCall { task: Task::Database(verb, _), .. }) => {
                let verb = *verb;
                return self.shorten_database(call, verb, about, body);
            }
            _ => {}
        }
        Ok(())
    }

    fn shorten_item(&self, call: &mut Call, body: &[u8]) {
        let Call::Gather(gather) = call else { return };
        let Task::Light(LightVerb::Item(ItemVerb::Write), App::Known(number)) = gather.task else { return };
        if body.len() > SHORT_BODY_BYTES_MAX {
            return;
        }
        let Some((item, key)) = plain_item(body) else { return };
        let namespace = Namespace::items(number);
        *call = Call::Key(KeyCall {
            namespace,
            key,
            hash: self.hasher.hash(namespace, unquoted(key.of(body))),
            verb: Verb::Item(ItemVerb::Write),
            grants: gather.grants,
            down: false,
            item,
        });
    }

    /// The operation of an item's call.
    pub(in super::super) fn item_operation<'a>(
        &self,
        head: &'a [u8],
        call: &KeyCall,
        verb: ItemVerb,
        body: Payload<'a>,
    ) -> Operation<'a> {
        let (key, action) = match (verb, body) {
            (ItemVerb::Write, Payload::Bytes(body)) => {
                let value = Payload::Bytes(call.item.value.of(body));
                let expiry = call.item.ttl.map_or(self.default_expiry, |ttl| Expiry::Seconds(ttl.get()));
                let action = Action::Put { value, content_type: None, encoding: Encoding::Identity, expiry };
                (unquoted(call.key.of(body)), action)
            }
            (ItemVerb::Delete, _) => (call.key.of(head), Action::Delete { answer_value: false }),
            _ => (call.key.of(head), Action::Get),
        };
        Operation {
            namespace: call.namespace,
            key,
            hash: call.hash,
            action,
            condition: Condition::default(),
            fencing_token: None,
            admin: false,
        }
    }

    /// Answers an item's call.
    #[allow(clippy::too_many_arguments)] // the connection's state and the answer's room
    pub(in super::super) fn answer_item<'a>(
        &mut self,
        request: &Request,
        (head, body): (&[u8], &[u8]),
        call: &KeyCall,
        verb: ItemVerb,
        outcome: &Outcome<'a>,
        close: bool,
        out: &mut Vec<u8>,
    ) -> Tail<'a> {
        let key = call.key.of(if verb == ItemVerb::Write { body } else { head });
        let mut told = Vec::new();
        let status = match (verb, *outcome) {
            (ItemVerb::Exists, Outcome::Found(_)) => return self.tell(request, head, EXISTS, close, out),
            (ItemVerb::Exists, Outcome::Absent) => return self.tell(request, head, EXISTS_NOT, close, out),
            (ItemVerb::Read, Outcome::Found(entry)) => {
                let key = Shown::Plain(key);
                return match entry.value {
                    Payload::Large(large) if request.method != Method::Head => {
                        self.begin_json(request, head, key.told_length() + large.len(), close, out);
                        key.write_before_value(out);
                        Tail::Framed(large.clone(), END)
                    }
                    value => self.tell_item(request, head, key, value.bytes(), close, out),
                };
            }
            (ItemVerb::Write, Outcome::Created(_) | Outcome::Updated(_)) => {
                let key = Shown::Quoted(key);
                return self.tell_item(request, head, key, call.item.value.of(body), close, out);
            }
            (ItemVerb::Delete, Outcome::Deleted(_)) => {
                begin(&mut told);
                told.extend_from_slice(b"{\"key\":");
                json::write_text(&mut told, &String::from_utf8_lossy(key));
                told.extend_from_slice(b",\"deleted\":true}}");
                Status::Ok
            }
            (_, Outcome::Absent) => {
                told = absent("Key", key);
                Status::NotFound
            }
            (_, ref refused) => {
                self.refuse(Some((request, head)), kv::refused(refused), close, out);
                return Tail::None;
            }
        };
        self.tell_as(request, head, status, &told, close, out);
        Tail::None
    }

    /// Tells key and value.
    fn tell_item(
        &mut self,
        request: &Request,
        head: &[u8],
        key: Shown<'_>,
        value: &[u8],
        close: bool,
        out: &mut Vec<u8>,
    ) -> Tail<'static> {
        self.begin_json(request, head, key.told_length() + value.len(), close, out);
        if request.method != Method::Head {
            key.write_before_value(out);
            out.extend_from_slice(value);
            out.extend_from_slice(END);
        }
        Tail::None
    }

    fn tell(
        &mut self,
        request: &Request,
        head: &[u8],
        body: &[u8],
        close: bool,
        out: &mut Vec<u8>,
    ) -> Tail<'static> {
        self.tell_as(request, head, Status::Ok, body, close, out);
        Tail::None
    }

    /// Answers with a body that is made already.
    pub(super) fn tell_as(
        &mut self,
        request: &Request,
        head: &[u8],
        status: Status,
        body: &[u8],
        close: bool,
        out: &mut Vec<u8>,
    ) {
        self.preamble.begin(out, status);
        out.extend_from_slice(b"Content-Type: application/json\r\n");
        response::content_length(out, body.len() as u64);
        self.end(Some((request, head)), close, out);
        if request.method != Method::Head {
            out.extend_from_slice(body);
        }
    }
}

const EXISTS: &[u8] = b"{\"ok\":true,\"data\":true}";
const EXISTS_NOT: &[u8] = b"{\"ok\":true,\"data\":false}";

/// What stands around a key and a value.
const BEFORE_KEY: &[u8] = b"{\"ok\":true,\"data\":{\"key\":";
const BEFORE_VALUE: &[u8] = b",\"value\":";
pub(super) const END: &[u8] = b"}}";

const _: () = assert!(SHORT_BODY_BYTES_MAX <= ANSWER_COPY_BYTES_MAX);

/// A key, to be told.
pub(super) enum Shown<'a> {
    /// Its characters.
    Plain(&'a [u8]),
    /// As JSON has it.
    Quoted(&'a [u8]),
}

impl Shown<'_> {
    /// How long what is told is without the value.
    pub(super) fn told_length(&self) -> usize {
        let key = match self {
            Shown::Plain(key) => json::text_length(std::str::from_utf8(key).unwrap_or_default()),
            Shown::Quoted(key) => key.len(),
        };
        BEFORE_KEY.len() + key + BEFORE_VALUE.len() + END.len()
    }

    pub(super) fn write_before_value(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(BEFORE_KEY);
        match self {
            // Keys were checked as they came in.
            Shown::Plain(key) => json::write_text(out, std::str::from_utf8(key).unwrap_or_default()),
            Shown::Quoted(key) => out.extend_from_slice(key),
        }
        out.extend_from_slice(BEFORE_VALUE);
    }
}

/// Reads a body that has nothing unusual: its key stands for itself, its value is a primitive. What does
/// is read again on the long way, which says what is wrong with it.
fn plain_item(body: &[u8]) -> Option<(EntryText, Span)> {
    let mut reader = Reader::new();
    let true = reader.read(body, usize::MAX).ok()? else { return None };
    let Fields { key, value, ttl, .. } = reader.fields().ok()?;
    let (key, value) = (key?, value?);
    match &body[key.clone()] {
        [b'"', characters @ .., b'"'] if memchr::memchr(b'\\', characters).is_none() => {
            check_key(characters).ok()?;
        }
        _ => return None,
    }
    if matches!(body[value.start], b'{' | b'[') {
        return None;
    }
    let ttl = match ttl {
        Some(ttl) => Some(NonZeroU32::new(patch::seconds(&body[ttl])?)?),
        None => None,
    };
    Some((EntryText { value: Span::within(value), ttl }, Span::within(key)))
}

/// The characters of a plain text of JSON.
fn unquoted(text: &[u8]) -> &[u8] {
    &text[1..text.len() - 1]
}

/// Reads a time-to-live: a number of seconds, or a string that is one; `null` is none.
pub(super) fn ttl(text: &[u8]) -> Result<Option<u32>, Problem> {
    let digits = match text {
        b"null" => return Ok(None),
        [b'"', digits @ .., b'"'] => digits,
        digits => digits,
    };
    let seconds = patch::seconds(digits);
    seconds.map(Some).ok_or(Problem::ParameterInvalid("ttl is an integer from 1 to 4294967295"))
}
