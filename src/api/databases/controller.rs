//! One entry on the short way: `/controller/get`, `set` and `delete` with a short and plain body.
//!
//! The database is found and the key decoded where the body lies, and the request goes on as that of any
//! key. What is kept is the JSON that is answered, so a get copies it behind a head that is ready. A body
//! with anything unusual is read again on the long way (`order`), which says what is wrong with it.

use std::ops::Range;

use crate::http::{Field, Method, Request, Span, Status, response, target};
use crate::limits::{ANSWER_COPY_BYTES_MAX, KEY_BYTES_MAX, VALUE_COPY_BYTES_MAX};
use crate::op::{Action, Condition, Encoding, Namespace, Operation, Outcome, Payload};

use super::super::coding::Decode;
use super::super::light::item::EntryText;
use super::super::message::Problem;
use super::super::{Api, Call, GatherCall, KeyCall, Tail, Verb, json, kv};
use super::fields::{self, DATABASE, ENCRYPTION_KEY, Fields, Given, KEY, VALUE};
use super::{DatabaseVerb, ask, seal};

/// What is done with an entry of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryVerb {
    /// `POST /controller/get`
    Get,
    /// `POST /controller/set` of a string, as forms have it.
    SetText,
    /// `POST /controller/set` of a JSON value.
    SetJson,
    /// `POST /controller/delete`
    Delete,
}

/// Longest body that goes the short way.
const SHORT_BODY_BYTES_MAX: usize = 8 * 1_024;

/// Most fields of a form that does.
const SHORT_FIELDS_MAX: usize = 16;

/// Where the fields of a plain body are in it.
#[derive(Debug, Default)]
struct Plain {
    database: Option<Range<usize>>,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    is_json: bool,
}

impl Api {
    /// Has a request with a short and plain body go the short way.
    ///
    /// # Errors
    /// When key or value turn out to be no good once they are decoded.
    pub(in super::super) fn shorten_database(
        &self,
        call: &mut Call,
        verb: DatabaseVerb,
        (request, head): (&Request, &[u8]),
        body: &mut [u8],
    ) -> Result<(), Problem> {
        let is_one = matches!(verb, DatabaseVerb::Get | DatabaseVerb::Set | DatabaseVerb::Delete);
        if !is_one || body.len() > SHORT_BODY_BYTES_MAX {
            return Ok(());
        }
        let wants_value = verb == DatabaseVerb::Set;
        let plain = match body.first() {
            Some(b'{') => plain_json(body),
            _ if is_multipart(request, head) => None,
            _ => plain_form(body),
        };
        let Some(Plain { database: Some(database), key: Some(key), value, is_json }) = plain else {
            return Ok(());
        };
        if value.is_some() != wants_value {
            return Ok(());
        }
        let Some(namespace) = self.find_database(&body[database], is_json) else { return Ok(()) };
        let decode = |body: &mut [u8], range: Range<usize>| match is_json {
            true => range,
            false => range.start..range.start + decode_form(&mut body[range]),
        };
        let key = decode(body, key);
        let value = value.map(|value| decode(body, value));
        match std::str::from_utf8(&body[key.clone()]) {
            Ok(text) if (1..=KEY_BYTES_MAX).contains(&text.len()) => {}
            Ok(_) => return Err(Problem::ParameterInvalid("key is 1 to 1024 bytes")),
            Err(_) => return Err(Problem::ParameterInvalid("key is UTF-8")),
        }
        if let Some(value) = value.clone().filter(|_| !is_json)
            && std::str::from_utf8(&body[value]).is_err()
        {
            return Err(Problem::ParameterInvalid("value is UTF-8"));
        }
        let verb = match verb {
            DatabaseVerb::Set if is_json => EntryVerb::SetJson,
            DatabaseVerb::Set => EntryVerb::SetText,
            DatabaseVerb::Delete => EntryVerb::Delete,
            _ => EntryVerb::Get,
        };
        let hash = self.hasher.hash(namespace, &body[key.clone()]);
        let text =
            EntryText { key: Span::within(key), value: Span::within(value.unwrap_or(0..0)), ttl: None };
        self.go_short(call, namespace, hash, verb, text);
        Ok(())
    }

    fn go_short(&self, call: &mut Call, namespace: Namespace, hash: u64, verb: EntryVerb, text: EntryText) {
        let Call::Gather(GatherCall { grants, body_bytes_max, .. }) = *call else { return };
        let verb = Verb::Database(verb);
        let key = Span::EMPTY;
        *call = Call::Key(KeyCall {
            namespace,
            key,
            hash,
            verb,
            grants,
            body_bytes_max,
            down: false,
            item: Some(text),
        });
    }

    /// Finds a database by its name as a form or JSON has it, if that is plain enough.
    fn find_database(&self, raw: &[u8], is_json: bool) -> Option<Namespace> {
        if is_json || memchr::memchr2(b'%', b'+', raw).is_none() {
            return self.databases.namespace(raw);
        }
        let mut room = [0; 256];
        let name = room.get_mut(..raw.len())?;
        name.copy_from_slice(raw);
        let length = decode_form(name);
        self.databases.namespace(&name[..length])
    }

    /// The operation of a call.
    pub(in super::super) fn entry_operation<'a>(
        &self,
        call: &KeyCall,
        verb: EntryVerb,
        body: Payload<'a>,
        room: &'a mut Vec<u8>,
    ) -> Operation<'a> {
        let (body, text) = match (body, call.item) {
            (Payload::Bytes(body), Some(text)) => (body, text),
            _ => (&b""[..], EntryText { key: Span::EMPTY, value: Span::EMPTY, ttl: None }),
        };
        let value = text.value.of(body);
        let put = |value| {
            let value = Payload::Bytes(value);
            Action::Put {
                value,
                content_type: None,
                encoding: Encoding::Identity,
                expiry: self.default_expiry,
            }
        };
        let action = match verb {
            EntryVerb::Get => Action::Get,
            EntryVerb::Delete => Action::Delete { answer_value: false },
            EntryVerb::SetJson => put(value),
            EntryVerb::SetText => {
                room.clear();
                // It was looked at when it came.
                json::write_text(room, std::str::from_utf8(value).unwrap_or_default());
                put(room)
            }
        };
        Operation {
            namespace: call.namespace,
            key: text.key.of(body),
            hash: call.hash,
            action,
            condition: Condition::default(),
            fencing_token: None,
            admin: false,
        }
    }

    /// Answers a call.
    pub(in super::super) fn answer_entry<'a>(
        &mut self,
        request: &Request,
        (head, body): (&[u8], &[u8]),
        call: &KeyCall,
        verb: EntryVerb,
        outcome: &Outcome<'a>,
        close: bool,
        out: &mut Vec<u8>,
    ) -> Tail<'a> {
        match (verb, outcome) {
            (EntryVerb::Get, Outcome::Found(entry)) => {
                let kept = entry.value.bytes();
                if seal::is_plain(kept) {
                    return self.answer_json(request, head, entry.value, close, out);
                }
                if seal::is_sealed(kept) {
                    self.refuse(Some((request, head)), Problem::Sealed, close, out);
                } else if seal::work_bytes(kept) > VALUE_COPY_BYTES_MAX {
                    return Tail::Decode(Decode::of_database(entry));
                } else {
                    let name = call.item.map_or(&b""[..], |text| text.key.of(body));
                    match seal::open(kept, name, None) {
                        Ok(text) => {
                            self.begin_json(request, head, text.len(), close, out);
                            out.extend_from_slice(&text);
                        }
                        Err(problem) => self.refuse(Some((request, head)), problem, close, out),
                    }
                }
            }
            (EntryVerb::Get, Outcome::Absent) => {
                return self.answer_json(request, head, Payload::Bytes(b"null"), close, out);
            }
            // Closed since it was looked up: as if it had been set just before.
            (
                EntryVerb::SetText | EntryVerb::SetJson,
                Outcome::Created(_) | Outcome::Updated(_) | Outcome::Closed,
            ) => match self.ends_plainly(request, close) {
                true => drop(self.prepared.data_set.begin(out)),
                false => self.say_sentence(request, head, ask::SET, close, out),
            },
            (EntryVerb::Delete, Outcome::Deleted(_) | Outcome::Absent) => {
                self.say_sentence(request, head, ask::DELETED, close, out);
            }
            (_, refused) => self.refuse(Some((request, head)), kv::refused(refused), close, out),
        }
        Tail::None
    }

    /// Answers with a text that is JSON as it is kept.
    fn answer_json<'a>(
        &mut self,
        request: &Request,
        head: &[u8],
        text: Payload<'a>,
        close: bool,
        out: &mut Vec<u8>,
    ) -> Tail<'a> {
        let length = text.bytes().len();
        match self.ends_plainly(request, close) {
            true => {
                self.prepared.data.begin(out);
                response::decimal_and_end(out, length as u64);
            }
            false => self.begin_json(request, head, length, close, out),
        }
        match text {
            _ if request.method == Method::Head => Tail::None,
            Payload::Bytes(bytes) if length <= ANSWER_COPY_BYTES_MAX => {
                out.extend_from_slice(bytes);
                Tail::None
            }
            Payload::Bytes(bytes) => Tail::Bytes(bytes),
            Payload::Large(large) => Tail::Large(large.clone(), 0..length),
        }
    }

    /// Answers with a text that another thread has decoded.
    pub(in super::super) fn answer_text(
        &mut self,
        request: &Request,
        head: &[u8],
        text: Result<crate::memory::Large, super::super::NotDecodable>,
        close: bool,
        out: &mut Vec<u8>,
    ) -> Tail<'static> {
        match text {
            Ok(text) => {
                let range = 0..text.len();
                self.begin_json(request, head, range.len(), close, out);
                Tail::Large(text, range)
            }
            Err(_) => {
                self.refuse(Some((request, head)), Problem::Sealed, close, out);
                Tail::None
            }
        }
    }
}

/// What stands before the length of every value.
pub(in super::super) const DATA: &[u8] = b"Content-Type: application/json\r\nContent-Length: ";

/// The answer to a set behind its status line.
pub(in super::super) fn data_set() -> Vec<u8> {
    let mut behind = b"Content-Type: text/plain; charset=utf-8\r\n".to_vec();
    response::content_length(&mut behind, ask::SET.len() as u64);
    response::end(&mut behind);
    behind.extend_from_slice(ask::SET.as_bytes());
    behind
}

/// The status of both.
pub(in super::super) const STATUS: Status = Status::Ok;

fn is_multipart(request: &Request, head: &[u8]) -> bool {
    let is = |value| fields::is_type(value, b"multipart/form-data");
    request.field(head, Field::ContentType).is_some_and(is)
}

/// Finds the fields of a form in which all escapes are well-formed, and nothing stands twice or is about
/// sealing and compressing.
fn plain_form(body: &[u8]) -> Option<Plain> {
    let is_escaped = memchr::memchr(b'%', body).is_some();
    if is_escaped && !escapes_are_well_formed(body) {
        return None;
    }
    let mut plain = Plain::default();
    let mut at = 0;
    for _ in 0..SHORT_FIELDS_MAX {
        let rest = &body[at..];
        let length = memchr::memchr(b'&', rest).unwrap_or(rest.len());
        let name_length = memchr::memchr(b'=', &rest[..length]).unwrap_or(length);
        let value = at + (name_length + 1).min(length)..at + length;
        let field = match &rest[..name_length] {
            b"database_name" => &mut plain.database,
            b"key" => &mut plain.key,
            b"value" => &mut plain.value,
            _ => return None,
        };
        if field.replace(value).is_some() {
            return None;
        }
        at += length + 1;
        if at >= body.len() {
            return Some(plain);
        }
    }
    None
}

fn escapes_are_well_formed(body: &[u8]) -> bool {
    memchr::memchr_iter(b'%', body)
        .all(|at| body.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)))
}

/// Decodes a value of a form whose escapes are well-formed, where it stands. Answers its length.
fn decode_form(text: &mut [u8]) -> usize {
    text.iter_mut().filter(|byte| **byte == b'+').for_each(|byte| *byte = b' ');
    target::decode_in_place(text).unwrap_or_default()
}

/// Finds the fields of a JSON object whose names and key have no escapes, as in a form.
fn plain_json(body: &[u8]) -> Option<Plain> {
    let mut fields = Fields::read(None, body).ok()?;
    if fields.take(ENCRYPTION_KEY).is_some() || fields.has_compress() {
        return None;
    }
    let mut range = |field, is_text: bool| match fields.take(field) {
        Some(Given::Json(text)) => {
            let start = text.as_ptr() as usize - body.as_ptr() as usize;
            match is_text {
                false => Some(Some(start..start + text.len())),
                true if text.starts_with(b"\"") && memchr::memchr(b'\\', text).is_none() => {
                    Some(Some(start + 1..start + text.len() - 1))
                }
                true => None,
            }
        }
        _ => Some(None),
    };
    let (database, key, value) = (range(DATABASE, true)?, range(KEY, true)?, range(VALUE, false)?);
    Some(Plain { database, key, value, is_json: true })
}
