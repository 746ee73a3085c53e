//! Requests of this family that take more than one step.
//!
//! An [`Order`] first finds out what it is about: it has its body read, by the helper thread when that is
//! long. Then it takes one step after the other, each a piece for one core: it finds the database, has it
//! made when that is asked for, does something with one entry, opens what was found, or has the set of
//! databases changed. What asks for a whole database goes on as a [`Stream`].

use std::any::Any;
use std::sync::Arc;

use ring::digest::{SHA256, digest};

use crate::clock::Now;
use crate::config::Secret;
use crate::http::{Field, Method, Request, Status, response};
use crate::limits::VALUE_COPY_BYTES_MAX;
use crate::memory::{Memory, Reservation};
use crate::op::{
    Action, Condition, Encoding, Expiry, KeyHasher, Namespace, Number, Operation, Outcome, Payload, Step,
};
use crate::shard::{DatabaseOrder, Scan};

use super::super::gather::{Chore, Flow, Piece, Work};
use super::super::message::Problem;
use super::super::{Api, GatherCall, Tail, json, kv};
use super::ask::{self, Ask, Caller, Entry, What};
use super::change::{self, Done, Errand};
use super::seal::{self, Text};
use super::stream::{Kind, Stream};
use super::{DatabaseVerb, Level};

/// Times that a step is taken again because others were faster: a set has its database made anew, a counter
/// begins anew. Each time somebody else's order was done in between, so only an endless row of pops and drops
/// uses them up.
const TRIES_MAX: u32 = 1_000;

/// Names of databases that are shown without the help of another thread.
const NAMES_MAX: usize = 128;

/// A request under way.
#[derive(Debug)]
pub struct Order {
    /// Successes are told as JSON, as `/execute` has it.
    in_json: bool,
    hasher: KeyHasher,
    shards: usize,
    default_expiry: Expiry,
    stage: Stage,
    /// What is done with what comes of an errand.
    after: Option<After>,
    /// The entry it is about.
    entry: Option<Entry>,
    /// What a counter begins with, in place of being counted.
    first: Option<(Number, Vec<u8>)>,
    tries: u32,
    answer: Option<Answer>,
    /// What an answer draws on the memory of the node.
    room: Option<Reservation>,
}

#[derive(Debug)]
enum Stage {
    /// A thread that may take its time is to do this.
    Chore(Chore),
    /// An errand of the reactor that asks.
    Here(Errand),
    /// An errand of the reactor that decides.
    There(Errand),
    /// The owner of the entry is to be asked.
    Operate(Namespace),
    /// A piece is out.
    Out,
    /// All of a database is gone through.
    Stream(Box<Stream>),
    /// It can be answered.
    Over,
}

/// What is done with what comes of an errand.
#[derive(Debug)]
enum After {
    /// The database of the entry was found, or made.
    Entry,
    /// The database that is to be gone through was found.
    Stream(Kind),
    /// The set of databases was changed, and this is said.
    Change(&'static str),
    /// The message was written to the log.
    Log(Level),
    /// The names were found.
    Names,
}

/// What is answered.
#[derive(Debug)]
enum Answer {
    Refused(Problem),
    /// Something is done.
    Said(&'static str),
    /// JSON.
    Value(Text),
    /// The seconds that an entry has left, if it has a time.
    Left(Option<u64>),
}

/// What a chore brings.
#[derive(Debug)]
enum Made {
    Asked(Result<Ask, Problem>),
    Text(Result<Text, Problem>),
}

impl Api {
    /// Begins an order, now that its body is here.
    pub(in super::super) fn database_order(
        &self,
        request: &Request,
        head: &[u8],
        (verb, by_password): (DatabaseVerb, bool),
        call: &GatherCall,
        body: Payload<'_>,
    ) -> Order {
        let restricted = if by_password { self.restricted.clone() } else { Arc::default() };
        let caller = Caller { grants: call.grants, restricted };
        let content_type = request.field(head, Field::ContentType);
        let value_bytes_max = self.value_bytes_max;
        let mut order = Order {
            in_json: verb == DatabaseVerb::Execute,
            hasher: self.hasher.clone(),
            shards: self.shards,
            default_expiry: self.default_expiry,
            stage: Stage::Over,
            after: None,
            entry: None,
            first: None,
            tries: 0,
            answer: None,
            room: None,
        };
        match body {
            Payload::Large(large) => {
                let (large, content_type) = (large.clone(), content_type.map(<[u8]>::to_vec));
                order.stage = Stage::Chore(Chore::new(move || {
                    Made::Asked(ask::read(verb, content_type.as_deref(), &large, value_bytes_max, &caller))
                }));
            }
            Payload::Bytes(body) => {
                order.begin(ask::read(verb, content_type, body, value_bytes_max, &caller));
            }
        }
        order
    }
}

/// The text of a kept value, made by a thread that may take its time.
pub(super) fn opening(kept: Text, name: Vec<u8>, encryption_key: Option<Secret>) -> Chore {
    Chore::new(move || {
        let text = seal::open(&kept, &name, encryption_key.as_ref().map(Secret::expose));
        Made::Text(text.map(Text::of))
    })
}

impl Order {
    fn begin(&mut self, ask: Result<Ask, Problem>) {
        let find = |database: &str| Stage::Here(Errand::Find(database.into()));
        let (stage, after) = match ask {
            Err(problem) => return self.finish(Answer::Refused(problem)),
            Ok(Ask::Entry(entry)) => {
                let stage = find(&entry.database);
                self.entry = Some(entry);
                (stage, After::Entry)
            }
            Ok(Ask::All { database, encryption_key }) => {
                (find(&database), After::Stream(Kind::Values(encryption_key)))
            }
            Ok(Ask::Keys { database, prefix }) => (find(&database), After::Stream(Kind::Names(prefix))),
            Ok(Ask::Count { database }) => (find(&database), After::Stream(Kind::Count)),
            Ok(Ask::List) => (Stage::Here(Errand::Names), After::Names),
            Ok(Ask::Change(order, sentence)) => (Stage::There(Errand::Order(order)), After::Change(sentence)),
            Ok(Ask::Log(level, message)) => (Stage::There(Errand::Log(level, message)), After::Log(level)),
        };
        self.stage = stage;
        self.after = Some(after);
    }

    fn finish(&mut self, answer: Answer) {
        self.stage = Stage::Over;
        self.answer = Some(answer);
    }

    fn refuse(&mut self, problem: Problem) {
        self.finish(Answer::Refused(problem));
    }

    /// The next piece, if there is one.
    pub(in super::super) fn next(&mut self) -> Option<Piece<'_>> {
        if let Stage::Stream(stream) = &mut self.stage {
            return stream.next();
        }
        let stage = std::mem::replace(&mut self.stage, Stage::Out);
        match stage {
            Stage::Chore(chore) => Some(Piece { index: 0, shard: 0, work: Work::Chore(chore) }),
            Stage::Here(errand) => Some(change::here(errand)),
            Stage::There(errand) => Some(change::there(errand)),
            Stage::Operate(namespace) => self.operate(namespace),
            Stage::Out | Stage::Stream(_) | Stage::Over => {
                self.stage = stage;
                None
            }
        }
    }

    /// Whether the next piece is an operation that writes.
    pub(in super::super) fn writes_next(&self) -> bool {
        matches!(self.stage, Stage::Operate(_))
            && self.entry.as_ref().is_some_and(|entry| entry.what.writes())
    }

    fn operate(&mut self, namespace: Namespace) -> Option<Piece<'_>> {
        let entry = self.entry.as_ref()?;
        let put =
            |value, expiry| Action::Put { value, content_type: None, encoding: Encoding::Identity, expiry };
        let mut condition = Condition::default();
        let action = match (&entry.what, &self.first) {
            (What::Set(Text::Small(bytes), _), _) => put(Payload::Bytes(bytes), self.default_expiry),
            (What::Set(Text::Large(large), _), _) => put(Payload::Large(large), self.default_expiry),
            (What::Add(_), Some((_, text))) => {
                condition.if_none_match = Some(b"*");
                put(Payload::Bytes(text), self.default_expiry)
            }
            (What::Add(step), None) => Action::Add(*step),
            (What::Delete, _) => Action::Delete { answer_value: false },
            (What::Expire(seconds), _) => Action::Expire { seconds: *seconds },
            (What::Persist, _) => Action::Persist,
            (What::Get(_) | What::Exists | What::Ttl | What::Unfit, _) => Action::Get,
        };
        let key = entry.key.as_bytes();
        let hash = self.hasher.hash(namespace, key);
        let operation =
            Operation { namespace, key, hash, action, condition, fencing_token: None, admin: false };
        let shard = KeyHasher::owner(hash, self.shards);
        Some(Piece { index: 0, shard, work: Work::Operation(operation) })
    }

    /// Brings back an errand.
    pub(in super::super) fn accept_errand(&mut self, errand: Box<dyn Any + Send>) {
        match (change::done(errand), self.after.take()) {
            (Some(Done::Found(Some(namespace))), Some(After::Entry)) => self.found(namespace),
            (Some(Done::Found(None)), Some(After::Entry)) => self.missing(),
            (Some(Done::Decided(Ok(Some(number)))), Some(After::Entry)) => {
                self.found(Namespace::database(number));
            }
            (Some(Done::Found(Some(namespace))), Some(After::Stream(kind))) => {
                self.stage = Stage::Stream(Box::new(Stream::new(namespace, kind, self.shards)));
            }
            (Some(Done::Found(None)), Some(After::Stream(_))) => self.refuse(Problem::DatabaseUnknown),
            (Some(Done::Decided(Ok(_))), Some(After::Change(sentence))) => {
                self.finish(Answer::Said(sentence))
            }
            (Some(Done::Decided(Err(why))), _) => self.refuse(change::refused(why)),
            (Some(Done::Logged { key, value }), Some(After::Log(level))) => {
                self.begin(Ok(ask::kept(level, key, value)));
            }
            (Some(Done::Named(names)), Some(After::Names)) => match names.len() {
                0..=NAMES_MAX => self.finish(Answer::Value(Text::of(listed(names)))),
                _ => self.stage = Stage::Chore(Chore::new(|| Made::Text(Ok(Text::of(listed(names)))))),
            },
            _ => debug_assert!(false, "no errand of this order"),
        }
    }

    fn found(&mut self, namespace: Namespace) {
        self.stage = Stage::Operate(namespace);
    }

    /// There is no such database.
    fn missing(&mut self) {
        self.tries += 1;
        match &self.entry {
            // Refused before there is a database for it.
            Some(Entry { what: What::Add(step), .. }) if first_number(*step).is_none() => {
                self.refuse(Problem::OutOfRange);
            }
            Some(entry) if entry.what.makes_database() && self.tries <= TRIES_MAX => {
                self.stage = Stage::There(Errand::Order(DatabaseOrder::Ensure(entry.database.clone())));
                self.after = Some(After::Entry);
            }
            // As if it was done just before its database was emptied.
            Some(Entry { what: What::Set(_, sentence), .. }) => {
                let sentence = *sentence;
                self.finish(Answer::Said(sentence));
            }
            _ => self.refuse(Problem::DatabaseUnknown),
        }
    }

    /// Brings back what came of an operation.
    pub(in super::super) fn accept(&mut self, outcome: &Outcome<'_>) {
        let Some(Entry { key, what, .. }) = &self.entry else { return };
        let json = |text: &[u8]| Answer::Value(Text::Small(text.to_vec()));
        let answer = match (what, outcome) {
            (_, Outcome::Closed) => return self.missing(),
            (What::Set(_, sentence), Outcome::Created(_) | Outcome::Updated(_)) => Answer::Said(sentence),
            (What::Delete, Outcome::Deleted(_) | Outcome::Absent) => Answer::Said(ask::DELETED),
            (What::Get(_), Outcome::Absent) => json(b"null"),
            (What::Get(encryption_key), Outcome::Found(found)) => {
                let kept = match found.value {
                    Payload::Bytes(bytes) => Text::Small(bytes.to_vec()),
                    Payload::Large(large) => Text::Large(large.clone()),
                };
                if seal::is_plain(&kept) {
                    Answer::Value(kept)
                } else if seal::work_bytes(&kept) > VALUE_COPY_BYTES_MAX {
                    self.stage = Stage::Chore(opening(kept, key.as_bytes().to_vec(), encryption_key.clone()));
                    return;
                } else {
                    let secret = encryption_key.as_ref().map(Secret::expose);
                    match seal::open(&kept, key.as_bytes(), secret) {
                        Ok(text) => Answer::Value(Text::of(text)),
                        Err(problem) => Answer::Refused(problem),
                    }
                }
            }
            (What::Exists, outcome) => match outcome {
                Outcome::Found(_) => json(b"true"),
                _ => json(b"false"),
            },
            (What::Ttl, Outcome::Found(found)) => Answer::Left(found.meta.expires_ms),
            // As Redis says it.
            (What::Ttl, Outcome::Absent) => json(b"-2"),
            (What::Expire(_) | What::Persist, Outcome::Absent) => json(b"false"),
            (What::Expire(_), Outcome::Expiring(_)) | (What::Persist, Outcome::Persisted(_)) => json(b"true"),
            (What::Add(_), Outcome::Counted(number, _)) => json(number.to_string().as_bytes()),
            (What::Add(_), Outcome::Created(_)) => match &self.first {
                Some((number, _)) => json(number.to_string().as_bytes()),
                None => Answer::Refused(Problem::Absent),
            },
            (What::Add(step), Outcome::Absent) => return self.begin_counter(*step),
            (What::Add(_), Outcome::ConditionFailed(_)) => {
                self.first = None;
                return self.again();
            }
            (What::Add(_), Outcome::NotNumeric) => return self.look_why_unfit(),
            (What::Unfit, Outcome::Found(found)) if seal::is_sealed(found.value.bytes()) => {
                Answer::Refused(Problem::Sealed)
            }
            (What::Unfit, _) => Answer::Refused(Problem::NotNumeric),
            (_, refused) => Answer::Refused(kv::refused(refused)),
        };
        self.finish(answer);
    }

    /// What is no number may be one under a key, of which a counter has none.
    fn look_why_unfit(&mut self) {
        if let Some(entry) = &mut self.entry {
            entry.what = What::Unfit;
        }
        self.again();
    }

    /// A counter that is not there begins at nothing, as a string, like what `SET` stores.
    fn begin_counter(&mut self, step: Step) {
        match first_number(step) {
            None => self.refuse(Problem::OutOfRange),
            Some(number) => {
                self.first = Some((number, format!("\"{number}\"").into_bytes()));
                self.again();
            }
        }
    }

    /// Begins anew with finding the database.
    fn again(&mut self) {
        self.tries += 1;
        match &self.entry {
            Some(entry) if self.tries <= TRIES_MAX => {
                self.stage = Stage::Here(Errand::Find(entry.database.clone()));
                self.after = Some(After::Entry);
            }
            _ => self.refuse(Problem::Busy),
        }
    }

    /// Brings back a part of what is gone through.
    pub(in super::super) fn accept_scan(&mut self, scan: Scan) {
        if let (Stage::Stream(stream), Scan::Sweep(sweep)) = (&mut self.stage, scan) {
            stream.accept(sweep);
        }
    }

    /// Brings back what a thread that takes its time has made. A long text needs room.
    pub(in super::super) fn accept_chore(&mut self, made: Box<dyn Any + Send>, memory: &Arc<Memory>) {
        let Ok(made) = made.downcast::<Made>() else {
            debug_assert!(false, "no chore of this order");
            return;
        };
        let text = match *made {
            Made::Asked(ask) => return self.begin(ask),
            Made::Text(text) => text,
        };
        let room = match &text {
            Ok(Text::Large(large)) => match memory.reserve(large.len() as u64) {
                Some(room) => Some(room.for_large()),
                None => return self.give_up(),
            },
            _ => None,
        };
        match &mut self.stage {
            Stage::Stream(stream) => stream.accept_opened(text.ok(), room),
            _ => {
                self.room = room;
                self.finish(text.map_or_else(Answer::Refused, Answer::Value));
            }
        }
    }

    /// There is no room for what was made.
    fn give_up(&mut self) {
        match &mut self.stage {
            Stage::Stream(stream) if stream.has_begun() => stream.give_up(),
            _ => self.refuse(Problem::Busy),
        }
    }

    /// What can be sent before the rest is there.
    pub(in super::super) fn flow(
        &mut self,
        api: &mut Api,
        request: &Request,
        head: &[u8],
        close: bool,
        out: &mut Vec<u8>,
    ) -> Flow {
        match &mut self.stage {
            Stage::Stream(stream) => stream.flow(api, request, head, close, out),
            _ => Flow::Waits,
        }
    }

    /// Whether the length of the answer may not be known when it begins.
    pub fn may_be_long(&self) -> bool {
        matches!(self.after, Some(After::Stream(_)))
    }

    /// Whether it can be answered.
    pub fn is_done(&self) -> bool {
        match &self.stage {
            Stage::Stream(stream) => stream.is_done(),
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
        now: Now,
    ) -> (Tail<'static>, Option<Reservation>) {
        if let Stage::Stream(stream) = self.stage {
            stream.finish(api, request, head, close, out);
            return (Tail::None, None);
        }
        let text = match self.answer {
            Some(Answer::Said(_)) if self.in_json => Text::Small(b"true".to_vec()),
            Some(Answer::Said(sentence)) => {
                api.say_sentence(request, head, sentence, close, out);
                return (Tail::None, None);
            }
            Some(Answer::Value(text)) => text,
            Some(Answer::Left(expires_ms)) => {
                let left = kv::seconds_left(expires_ms, now);
                Text::Small(left.map_or("-1".into(), |seconds| seconds.to_string()).into_bytes())
            }
            Some(Answer::Refused(problem)) => {
                api.refuse(Some((request, head)), problem, close, out);
                return (Tail::None, None);
            }
            None => {
                debug_assert!(false, "answered before it is done");
                return (Tail::None, None);
            }
        };
        api.begin_json(request, head, text.len(), close, out);
        let tail = match text {
            _ if request.method == Method::Head => Tail::None,
            Text::Small(bytes) => {
                out.extend_from_slice(&bytes);
                Tail::None
            }
            Text::Large(large) => {
                let range = 0..large.len();
                Tail::Large(large, range)
            }
        };
        (tail, self.room)
    }
}

/// What a counter that was not there is after its first step.
fn first_number(step: Step) -> Option<Number> {
    match step {
        Step::Integer(step) => i64::try_from(step).ok().map(Number::Integer),
        Step::Decimal(step) => Some(Number::Decimal(step + 0.0)),
    }
}

impl Api {
    /// Answers with one of the original's sentences.
    pub(super) fn say_sentence(
        &mut self,
        request: &Request,
        head: &[u8],
        sentence: &str,
        close: bool,
        out: &mut Vec<u8>,
    ) {
        self.preamble.begin(out, Status::Ok);
        out.extend_from_slice(b"Content-Type: text/plain; charset=utf-8\r\n");
        response::content_length(out, sentence.len() as u64);
        self.end(Some((request, head)), close, out);
        if request.method != Method::Head {
            out.extend_from_slice(sentence.as_bytes());
        }
    }
}

/// The databases, each with a name that any file system takes, in the order of their names.
fn listed(mut names: Vec<Arc<str>>) -> Vec<u8> {
    names.sort_unstable();
    let mut body = b"{".to_vec();
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        json::write_text(&mut body, name);
        body.extend_from_slice(b":\"KOT-");
        for byte in digest(&SHA256, name.as_bytes()).as_ref() {
            body.extend_from_slice(format!("{byte:02x}").as_bytes());
        }
        body.push(b'"');
    }
    body.push(b'}');
    body
}
