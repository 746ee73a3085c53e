//! Requests of the light family that take more than one step: a body that is long or unusual, a list,
//! a page of names, an app that is named.
//!
//! An [`Order`] first finds out what it is about: it reads its body, in slices when that is long, and has
//! the ledger's core look up the app. Then it hands out one piece for the core that owns the key, or one
//! scan for each.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::http::{Field, Method, Request, Status, response, target};
use crate::limits::{LIST_BYTES_PER_TURN, LIST_KEYS_MAX, VALUE_COPY_BYTES_MAX};
use crate::memory::{Large, Memory, Reservation};
use crate::op::{Action, Condition, Encoding, Expiry, KeyHasher, Namespace, Operation, Outcome, Payload};
use crate::primitive;
use crate::shard::{Bytes, ListAction, ListOutcome, ListTask, Needle, Scan, Values};

use super::super::gather::{Piece, Work};
use super::super::list::{List, Names};
use super::super::message::Problem;
use super::super::{Api, GatherCall, Tail, administer, json, kv};
use super::body::{Fields, Reader};
use super::item::{self, Shown};
use super::{App, ItemVerb, LightVerb, ListVerb, absent, begin, check_key};

/// Bytes of a body that are read in one turn.
pub const READ_BYTES_PER_TURN: usize = LIST_BYTES_PER_TURN / 2;

/// A request under way.
#[derive(Debug)]
pub struct Order {
    verb: LightVerb,
    app: Option<u32>,
    /// The name of an app that is to be looked up.
    name: Option<Vec<u8>>,
    hasher: KeyHasher,
    shards: usize,
    value_bytes_max: u64,
    default_expiry: Expiry,
    stage: Stage,
    answer: Option<Answer>,
    /// What an answer draws on the memory of the node.
    room: Option<Reservation>,
    /// Held as long as anyone waits for the answer.
    asker: Arc<()>,
}

#[derive(Debug)]
enum Stage {
    Reading(Reader, Bytes),
    /// It is known what is asked.
    Asked(Asked),
    /// The owner of the key has it.
    Out(Asked),
    Listing(List),
    Over,
}

/// What is asked of one key.
#[derive(Debug)]
struct Asked {
    key: Vec<u8>,
    what: What,
}

#[derive(Debug)]
enum What {
    Read,
    Delete,
    Put { value: Value, expiry: Expiry },
    List(Option<ListAction>),
}

/// The text of an item's value.
#[derive(Debug)]
enum Value {
    Part(Bytes, Range<usize>),
    Large(Large),
}

impl Value {
    fn payload(&self) -> Payload<'_> {
        match self {
            Value::Part(bytes, range) => Payload::Bytes(&bytes[range.clone()]),
            Value::Large(large) => Payload::Large(large),
        }
    }
}

#[derive(Debug)]
enum Answer {
    Refused(Problem),
    Told(Status, Vec<u8>),
    /// An item, of this value.
    Item(Vec<u8>, Value),
    /// All of the body but its end.
    Large(Large),
}

impl Api {
    /// Begins an order, now that its body is here.
    pub(in super::super) fn order(
        &self,
        request: &Request,
        head: &[u8],
        (verb, app): (LightVerb, App),
        call: &GatherCall,
        body: Payload<'_>,
    ) -> Result<Order, Problem> {
        let (app, name) = match app {
            App::Known(number) => (Some(number), None),
            App::Named => (None, Some(request.field(head, Field::XApp).unwrap_or_default().to_vec())),
        };
        let stage = if call.takes_body() {
            let body = match body {
                Payload::Bytes(bytes) => Bytes::Small(bytes.to_vec()),
                Payload::Large(large) => Bytes::Large(large.clone()),
            };
            Stage::Reading(Reader::new(), body)
        } else {
            self.asked_by_query(request, head, verb)?
        };
        let mut order = Order {
            verb,
            app,
            name,
            hasher: self.hasher.clone(),
            shards: self.shards,
            value_bytes_max: self.value_bytes_max,
            default_expiry: self.default_expiry,
            stage,
            answer: None,
            room: None,
            asker: Arc::new(()),
        };
        // What fits into a block is read at once.
        if let Stage::Reading(_, Bytes::Small(_)) = order.stage {
            order.read_on(usize::MAX);
        }
        Ok(order)
    }

    fn asked_by_query(&self, request: &Request, head: &[u8], verb: LightVerb) -> Result<Stage, Problem> {
        let query = request.query.map_or(&b""[..], |query| query.of(head));
        if matches!(verb, LightVerb::ItemKeys | LightVerb::ListKeys) {
            return Ok(Stage::Listing(List::of(query, LIST_KEYS_MAX, self.shards)?));
        }
        let Parameters { key, value, start, end } = parameters(query)?;
        let key = key.ok_or(Problem::ParameterMissing("key"))?;
        check_key(&key)?;
        let needle = |value: Vec<u8>| {
            let or_json = primitive::end_of(&value, 0) == Ok(value.len());
            Needle { characters: value, or_json }
        };
        let what = match verb {
            LightVerb::Item(ItemVerb::Delete) => What::Delete,
            LightVerb::Item(_) => What::Read,
            LightVerb::List(list) => What::List(Some(match list {
                ListVerb::Read => ListAction::Slice { start: 0, end: -1 },
                ListVerb::Count => ListAction::Count,
                ListVerb::Exists => {
                    value.map_or(ListAction::Exists, |value| ListAction::Contains(needle(value)))
                }
                ListVerb::Index => {
                    ListAction::Index(needle(value.ok_or(Problem::ParameterMissing("value"))?))
                }
                ListVerb::Slice => ListAction::Slice {
                    start: start.map_or(Ok(0), |text| bound(&text))?,
                    end: end.map_or(Ok(-1), |text| bound(&text))?,
                },
                // These have bodies.
                ListVerb::Write | ListVerb::Add | ListVerb::Remove | ListVerb::Purge => ListAction::Purge,
            })),
            LightVerb::ItemKeys | LightVerb::ListKeys => What::Read,
        };
        Ok(Stage::Asked(Asked { key, what }))
    }
}

/// The parameters of a query.
#[derive(Default)]
struct Parameters {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    start: Option<Vec<u8>>,
    end: Option<Vec<u8>>,
}

fn parameters(query: &[u8]) -> Result<Parameters, Problem> {
    let mut found = Parameters::default();
    for pair in target::query_pairs(query) {
        let (name, value) = pair.map_err(|_| Problem::QueryInvalid("an escape is malformed"))?;
        let slot = match &*name {
            b"key" => &mut found.key,
            b"value" => &mut found.value,
            b"start" => &mut found.start,
            b"end" => &mut found.end,
            _ => continue,
        };
        if slot.replace(value.into_owned()).is_some() {
            return Err(Problem::QueryInvalid("a parameter stands twice"));
        }
    }
    match &found.value {
        Some(value) if std::str::from_utf8(value).is_err() => {
            Err(Problem::ParameterInvalid("value is UTF-8"))
        }
        _ => Ok(found),
    }
}

/// A bound of a slice: an integer of any size, since what is beyond a list is cut to it.
fn bound(text: &[u8]) -> Result<i64, Problem> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Problem::ParameterInvalid("start and end are integers"));
    }
    let number = digits
        .iter()
        .fold(0_i64, |number, digit| number.saturating_mul(10).saturating_add((digit - b'0').into()));
    Ok(if negative { -number } else { number })
}

impl Order {
    /// Whether a body is still to be read, a slice at a time.
    pub fn is_reading(&self) -> bool {
        matches!(self.stage, Stage::Reading(..))
    }

    /// Reads on for about this many bytes of the body.
    pub fn read_on(&mut self, budget: usize) {
        let Stage::Reading(mut reader, document) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return;
        };
        let read = match reader.read(&document, budget) {
            Ok(false) => {
                self.stage = Stage::Reading(reader, document);
                return;
            }
            Ok(true) => reader.fields(),
            Err(problem) => Err(problem),
        };
        match read.and_then(|fields| self.asked_by_body(fields, document)) {
            Ok(asked) => self.stage = Stage::Asked(asked),
            Err(problem) => self.answer = Some(Answer::Refused(problem)),
        }
    }

    fn asked_by_body(&self, fields: Fields, document: Bytes) -> Result<Asked, Problem> {
        let key = &document[fields.key.ok_or(Problem::ParameterMissing("key"))?];
        if !key.starts_with(b"\"") {
            return Err(Problem::ParameterInvalid("key is a string"));
        }
        let key = primitive::decode(key).into_owned();
        check_key(&key)?;
        let expiry = match fields.ttl.map_or(Ok(None), |range| item::ttl(&document[range]))? {
            Some(seconds) => Expiry::Seconds(seconds),
            None => self.default_expiry,
        };
        let what = match self.verb {
            LightVerb::List(ListVerb::Purge) => What::List(Some(ListAction::Purge)),
            LightVerb::List(list) => {
                let range = fields.values.ok_or(Problem::ParameterMissing("values"))?;
                if document[range.start] != b'[' || fields.is_unfit {
                    return Err(Problem::ValueUnfit);
                }
                let values = Values { range: range.start + 1..range.end - 1, document };
                What::List(Some(match list {
                    ListVerb::Add => ListAction::Add(values, expiry),
                    ListVerb::Remove => ListAction::Remove(values),
                    _ => ListAction::Write(values, expiry),
                }))
            }
            _ => {
                let range = fields.value.ok_or(Problem::ParameterMissing("value"))?;
                if matches!(document[range.start], b'{' | b'[') {
                    return Err(Problem::ValueUnfit);
                }
                if range.len() as u64 > self.value_bytes_max {
                    return Err(Problem::ValueTooLarge(self.value_bytes_max));
                }
                let value = match range.len() {
                    0..=VALUE_COPY_BYTES_MAX => Value::Part(document, range),
                    _ => Value::Large(Large::copy_of(&document[range])),
                };
                What::Put { value, expiry }
            }
        };
        Ok(Asked { key, what })
    }

    /// Whether the next piece is an operation that writes.
    pub(in super::super) fn writes_next(&self) -> bool {
        let writes = |what: &What| matches!(what, What::Put { .. } | What::Delete);
        matches!(&self.stage, Stage::Asked(asked) if self.app.is_some() && writes(&asked.what))
    }

    /// The next piece, if there is one.
    pub(in super::super) fn next(&mut self) -> Option<Piece<'_>> {
        if let Some(name) = self.name.take() {
            return Some(administer::find_app(name));
        }
        let app = self.app?;
        if self.answer.is_some() {
            return None;
        }
        if let Stage::Listing(list) = &mut self.stage {
            list.namespace = match self.verb {
                LightVerb::ListKeys => Namespace::lists(app),
                _ => Namespace::items(app),
            };
            return list.next();
        }
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Asked(asked) => self.hand_out(asked, app),
            stage => {
                self.stage = stage;
                None
            }
        }
    }

    fn hand_out(&mut self, mut asked: Asked, app: u32) -> Option<Piece<'_>> {
        let namespace = match asked.what {
            What::List(_) => Namespace::lists(app),
            _ => Namespace::items(app),
        };
        let hash = self.hasher.hash(namespace, &asked.key);
        let shard = KeyHasher::owner(hash, self.shards);
        if let What::List(action) = &mut asked.what
            && let Some(action) = action.take()
        {
            let mut task =
                ListTask::new(namespace, asked.key.clone(), hash, action, Arc::downgrade(&self.asker));
            task.around = [BEFORE_VALUES, BEHIND_VALUES];
            self.stage = Stage::Out(asked);
            return Some(Piece { index: 0, shard, work: Work::List(Box::new(task)) });
        }
        self.stage = Stage::Out(asked);
        let Stage::Out(asked) = &self.stage else { return None };
        let action = match &asked.what {
            What::Put { value, expiry } => Action::Put {
                value: value.payload(),
                content_type: None,
                encoding: Encoding::Identity,
                expiry: *expiry,
            },
            What::Delete => Action::Delete { answer_value: false },
            What::Read | What::List(_) => Action::Get,
        };
        let operation = Operation {
            namespace,
            key: &asked.key,
            hash,
            action,
            condition: Condition::default(),
            fencing_token: None,
            admin: false,
        };
        Some(Piece { index: 0, shard, work: Work::Operation(operation) })
    }

    /// Brings back the number of the app.
    pub(in super::super) fn accept_app(&mut self, errand: Box<dyn Any + Send>) {
        match administer::found_app(errand) {
            Some(number) => self.app = Some(number),
            None => self.answer = Some(Answer::Refused(Problem::AppUnknown)),
        }
    }

    /// Brings back a scan.
    pub(in super::super) fn accept_scan(&mut self, index: u32, scan: Scan) {
        if let Stage::Listing(list) = &mut self.stage {
            list.accept(index, scan);
        }
    }

    /// Brings back what came of an item's operation.
    pub(in super::super) fn accept(&mut self, outcome: &Outcome<'_>) {
        let Stage::Out(Asked { key, what }) = std::mem::replace(&mut self.stage, Stage::Over) else { return };
        let exists = self.verb == LightVerb::Item(ItemVerb::Exists);
        self.answer = Some(match (what, outcome) {
            (What::Read, Outcome::Found(_)) if exists => told(|body| body.extend_from_slice(b"true")),
            (What::Read, Outcome::Absent) if exists => told(|body| body.extend_from_slice(b"false")),
            (What::Read, Outcome::Found(entry)) => Answer::Item(
                key,
                match entry.value {
                    Payload::Bytes(bytes) => Value::Part(Bytes::Small(bytes.to_vec()), 0..bytes.len()),
                    Payload::Large(large) => Value::Large(large.clone()),
                },
            ),
            (What::Put { value, .. }, Outcome::Created(_) | Outcome::Updated(_)) => Answer::Item(key, value),
            (What::Delete, Outcome::Deleted(_)) => told(|body| {
                write_key(body, &key);
                body.extend_from_slice(b",\"deleted\":true}");
            }),
            (_, Outcome::Absent) => Answer::Told(Status::NotFound, absent("Key", &key)),
            (_, refused) => Answer::Refused(kv::refused(refused)),
        });
    }

    /// Brings back what came of a list's task. A long answer needs room.
    pub(in super::super) fn accept_list(&mut self, mut task: Box<ListTask>, memory: &Arc<Memory>) {
        self.stage = Stage::Over;
        let key = std::mem::take(&mut task.key);
        let number = |body: &mut Vec<u8>, number: u32| response::decimal(body, number.into());
        let changed = |name: &str, count: Option<u32>, all: u32| {
            told(|body| {
                write_key(body, &key);
                if let Some(count) = count {
                    body.extend_from_slice(name.as_bytes());
                    number(body, count);
                }
                body.extend_from_slice(b",\"count\":");
                number(body, all);
                body.push(b'}');
            })
        };
        self.answer = Some(match task.take_outcome().unwrap_or(ListOutcome::Absent) {
            ListOutcome::Absent => Answer::Told(Status::NotFound, absent("List", &key)),
            ListOutcome::Written(count) => changed("", None, count),
            ListOutcome::Added(added, count) => changed(",\"added\":", Some(added), count),
            ListOutcome::Removed(removed, count) => changed(",\"removed\":", Some(removed), count),
            ListOutcome::Purged => told(|body| {
                write_key(body, &key);
                body.extend_from_slice(b",\"purged\":true}");
            }),
            ListOutcome::Count(count) => told(|body| number(body, count)),
            ListOutcome::Exists(exists) => {
                told(|body| body.extend_from_slice(if exists { b"true" } else { b"false" }))
            }
            ListOutcome::Index(Some(index)) => told(|body| number(body, index)),
            ListOutcome::Index(None) => told(|body| body.extend_from_slice(b"-1")),
            ListOutcome::Values(Bytes::Small(body), _) => Answer::Told(Status::Ok, body),
            ListOutcome::Values(Bytes::Large(body), _) => {
                self.room = memory.reserve(body.len() as u64).map(Reservation::for_large);
                match self.room {
                    Some(_) => Answer::Large(body),
                    None => Answer::Refused(Problem::Busy),
                }
            }
            ListOutcome::StoreFull => Answer::Refused(Problem::StoreFull),
            ListOutcome::JournalFull => Answer::Refused(Problem::JournalFull),
            ListOutcome::JournalFailed => Answer::Refused(Problem::JournalFailed),
            ListOutcome::TooLarge => Answer::Refused(Problem::ListTooLarge(self.value_bytes_max)),
        });
    }

    /// Whether it can be answered.
    pub fn is_done(&self) -> bool {
        match &self.stage {
            Stage::Listing(list) => self.answer.is_some() || self.app.is_some() && list.is_done(),
            _ => self.answer.is_some(),
        }
    }

    /// Answers it, and hands on what the answer draws on the memory of the node.
    pub(in super::super) fn answer(
        self,
        api: &mut Api,
        request: &Request,
        head: &[u8],
        close: bool,
        out: &mut Vec<u8>,
    ) -> (Tail<'static>, Option<Reservation>) {
        let is_head = request.method == Method::Head;
        let tail = match (self.answer, self.stage) {
            (Some(Answer::Refused(problem)), _) => {
                api.refuse(Some((request, head)), problem, close, out);
                Tail::None
            }
            (Some(Answer::Told(status, body)), _) => {
                api.tell_as(request, head, status, &body, close, out);
                Tail::None
            }
            (Some(Answer::Item(key, value)), _) => {
                let key = Shown::Plain(&key);
                let length = key.told_length() + value.payload().bytes().len();
                api.begin_json(request, head, length, close, out);
                match value {
                    _ if is_head => Tail::None,
                    Value::Part(bytes, range) => {
                        key.write_before_value(out);
                        out.extend_from_slice(&bytes[range]);
                        out.extend_from_slice(item::END);
                        Tail::None
                    }
                    Value::Large(large) => {
                        key.write_before_value(out);
                        Tail::Framed(large, item::END)
                    }
                }
            }
            (Some(Answer::Large(body)), _) => {
                api.begin_json(request, head, body.len(), close, out);
                let range = 0..if is_head { 0 } else { body.len() };
                Tail::Large(body, range)
            }
            (None, Stage::Listing(list)) => {
                api.answer_names(request, head, list, close, out);
                Tail::None
            }
            (None, _) => {
                debug_assert!(false, "answered before it is done");
                Tail::None
            }
        };
        (tail, self.room)
    }
}

impl Api {
    /// Answers a page of names. Where the next one begins is told in the head, so that the array keeps
    /// its shape.
    fn answer_names(&mut self, request: &Request, head: &[u8], list: List, close: bool, out: &mut Vec<u8>) {
        let path = request.path.of(head).to_vec();
        let Names { names, more, prefix, limit } = list.into_names();
        let mut body = Vec::new();
        begin(&mut body);
        body.push(b'[');
        for (at, name) in names.iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            json::write_text(&mut body, &String::from_utf8_lossy(name));
        }
        body.extend_from_slice(b"]}");
        self.preamble.begin(out, Status::Ok);
        if let Some(last) = names.last().filter(|_| more) {
            let cursor = URL_SAFE_NO_PAD.encode(last);
            response::field(out, "X-Next-Cursor: ", cursor.as_bytes());
            let mut link = b"<".to_vec();
            link.extend_from_slice(&path);
            link.extend_from_slice(b"?prefix=");
            target::encode(&prefix, &mut link);
            link.extend_from_slice(format!("&limit={limit}&cursor={cursor}>; rel=\"next\"").as_bytes());
            response::field(out, "Link: ", &link);
        }
        out.extend_from_slice(b"Content-Type: application/json\r\n");
        response::content_length(out, body.len() as u64);
        self.end(Some((request, head)), close, out);
        if request.method != Method::Head {
            out.extend_from_slice(&body);
        }
    }
}

const BEFORE_VALUES: &[u8] = b"{\"ok\":true,\"data\":";
const BEHIND_VALUES: &[u8] = b"}";

/// A success.
fn told(write: impl FnOnce(&mut Vec<u8>)) -> Answer {
    let mut body = Vec::new();
    begin(&mut body);
    write(&mut body);
    body.push(b'}');
    Answer::Told(Status::Ok, body)
}

fn write_key(body: &mut Vec<u8>, key: &[u8]) {
    body.extend_from_slice(b"{\"key\":");
    json::write_text(body, &String::from_utf8_lossy(key));
}
