//! An operation on its way to the core that owns its key, and its outcome on the way back.
//!
//! A [`Job`] owns what it carries: key and small values are copied into it, larger ones are shared.
//! So the asking connection may close, move or reuse its buffers while the job is under way, and
//! the owner may overwrite the entry as soon as it has answered. Up to [`INLINE_BYTES`] ride in the
//! job itself; a copy of that size costs less than keeping two cores agreed on who may touch a
//! buffer (PERF.md, "Crossing cores").
//!
//! **Answering with a position instead** (pointer and length into the owner's log, read in place by
//! the asker) was measured before building what would make it sound, without any of its bookkeeping,
//! so as a bound on what it could gain. It gains nothing that counts: the copy brings the bytes into
//! the cache from which the kernel's own copy into the socket then reads, and without it the kernel
//! waits for memory in its place. CPU time of the node for a GET, two workers, half of the keys on
//! the other core, 16 connections at depth 4, ten runs each (2 cores, 2026-11-20):
//!
//! | value | copied: user + system | in place: user + system |
//! |---|---|---|
//! | 16 KiB | 1.16 + 6.79 = 7.95 µs | 0.62 + 7.36 = 7.98 µs |
//! | 60 KiB | 2.21 + 8.99 = 11.21 µs | 0.72 + 10.23 = 10.95 µs |
//!
//! At 1 KiB it saves 100 of 3,350 instructions. Keeping larger spills for reuse gained nothing either.
//!
//! Jobs are boxed once and reused: in the steady state none is allocated, but for the spill of one
//! that carries over 4 KiB (`tests/zero_alloc.rs`).

use std::any::Any;
use std::sync::Weak;

use crate::clock::Version;
use crate::op::{
    Action, CONTENT_TYPE_DEFAULT, Condition, DumpedLock, Encoding, Entry, Expiry, Large, Meta, Namespace,
    Operation, Outcome, Payload, Step,
};
use crate::shard::{ListTask, Scan};

/// Bytes a job carries without a second allocation: a usual key with a small value and its type.
const INLINE_BYTES: usize = 160;

/// Spilled bytes a job keeps allocated when it goes back to its pool.
const SPILL_KEPT_BYTES: usize = 4 * 1_024;

/// Whom an answer is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticket {
    /// The asking connection's place in its reactor.
    pub connection: u32,
    /// Which of the connections that used that place.
    pub generation: u32,
    /// Which request of that connection.
    pub request: u32,
    /// Which piece of that request, when it has several.
    pub piece: u32,
}

/// The place of no connection: there are never so many.
const NO_CONNECTION: u32 = u32::MAX;

impl Ticket {
    /// For the reactor itself, which counts who has followed the change of this number.
    pub fn of_change(number: u32) -> Ticket {
        Ticket { connection: NO_CONNECTION, request: number, ..Ticket::default() }
    }

    /// Whether it is one of those.
    pub fn is_of_change(&self) -> bool {
        self.connection == NO_CONNECTION
    }
}

/// One operation, scan or errand, and what came of it.
#[derive(Debug, Default)]
pub struct Job {
    /// Whom the answer is for.
    pub ticket: Ticket,
    work: Work,
    bytes: Bytes,
    large: Option<Large>,
}

#[derive(Debug, Default)]
enum Work {
    #[default]
    None,
    Asked(Asked),
    Answered(Answered),
    Scan(Namespace, Box<Scan>, Weak<()>),
    Errand(Box<dyn Any + Send>),
    List(Box<ListTask>),
    Empty([Namespace; 2]),
    /// It cannot be told what came of it.
    Lost,
}

/// [`Operation`] with lengths instead of slices. The bytes follow each other in this order: key,
/// `If-Match`, `If-None-Match`, content type, value.
#[derive(Clone, Copy, Debug)]
struct Asked {
    namespace: Namespace,
    hash: u64,
    key_bytes: u16,
    if_match_bytes: Option<u16>,
    if_none_match_bytes: Option<u16>,
    must_exist: bool,
    admin: bool,
    fencing_token: Option<u64>,
    action: AskedAction,
}

#[derive(Clone, Copy, Debug)]
enum AskedAction {
    Get,
    Put { content_type_bytes: Option<u16>, encoding: Encoding, expiry: Expiry },
    Restore { content_type_bytes: Option<u16>, encoding: Encoding, expiry: Expiry, lock: Option<DumpedLock> },
    Delete { answer_value: bool },
    Lock { lease_seconds: Option<u32> },
    Unlock,
    Add(Step),
    Expire { seconds: u32 },
    Persist,
}

/// [`Outcome`] with lengths instead of slices. The bytes are content type and value.
#[derive(Clone, Copy, Debug)]
enum Answered {
    Found(AnsweredEntry),
    Deleted(Option<AnsweredEntry>),
    Plain(Outcome<'static>),
}

#[derive(Clone, Copy, Debug)]
struct AnsweredEntry {
    version: Version,
    expires_ms: Option<u64>,
    /// `None` is the default type, which needs no bytes.
    content_type_bytes: Option<u16>,
    encoding: Encoding,
}

/// A byte string that needs no allocation while it is short.
#[derive(Debug)]
struct Bytes {
    inline: [u8; INLINE_BYTES],
    length: usize,
    spill: Vec<u8>,
}

impl Default for Bytes {
    fn default() -> Bytes {
        Bytes { inline: [0; INLINE_BYTES], length: 0, spill: Vec::new() }
    }
}

impl Bytes {
    fn clear(&mut self) {
        self.length = 0;
        self.spill.clear();
        self.spill.shrink_to(SPILL_KEPT_BYTES);
    }

    fn push(&mut self, bytes: &[u8]) {
        let length = self.length + bytes.len();
        if length <= INLINE_BYTES {
            self.inline[self.length..length].copy_from_slice(bytes);
        } else {
            if self.length <= INLINE_BYTES {
                self.spill.clear();
                // In large steps: a job that brought a value back has room for the same and its key.
                self.spill.reserve((length + INLINE_BYTES).next_power_of_two());
                self.spill.extend_from_slice(&self.inline[..self.length]);
            }
            self.spill.extend_from_slice(bytes);
        }
        self.length = length;
    }

    fn as_slice(&self) -> &[u8] {
        if self.length <= INLINE_BYTES { &self.inline[..self.length] } else { &self.spill }
    }
}

/// Takes the first `count` bytes off a slice.
fn take<'a>(rest: &mut &'a [u8], count: u16) -> &'a [u8] {
    let (taken, left) = rest.split_at(count as usize);
    *rest = left;
    taken
}

impl Job {
    /// Packs the content of a write; answers the length of its type.
    fn push_content(&mut self, value: Payload<'_>, content_type: Option<&[u8]>) -> Option<u16> {
        self.bytes.push(content_type.unwrap_or_default());
        match value {
            Payload::Bytes(value) => self.bytes.push(value),
            Payload::Large(large) => self.large = Some(Large::clone(large)),
        }
        content_type.map(|text| text.len() as u16)
    }

    /// Packs an operation. Field values longer than 64 KiB cannot come: a head has 16 KiB.
    pub fn ask(&mut self, ticket: Ticket, operation: &Operation<'_>) {
        self.ticket = ticket;
        self.bytes.clear();
        self.large = None;
        self.bytes.push(operation.key);
        let condition = &operation.condition;
        for list in [condition.if_match, condition.if_none_match].into_iter().flatten() {
            self.bytes.push(list);
        }
        let action = match operation.action {
            Action::Get => AskedAction::Get,
            Action::Put { value, content_type, encoding, expiry } => {
                let content_type_bytes = self.push_content(value, content_type);
                AskedAction::Put { content_type_bytes, encoding, expiry }
            }
            Action::Restore { value, content_type, encoding, expiry, lock } => {
                let content_type_bytes = self.push_content(value, content_type);
                AskedAction::Restore { content_type_bytes, encoding, expiry, lock }
            }
            Action::Delete { answer_value } => AskedAction::Delete { answer_value },
            Action::Lock { lease_seconds } => AskedAction::Lock { lease_seconds },
            Action::Unlock => AskedAction::Unlock,
            Action::Add(step) => AskedAction::Add(step),
            Action::Expire { seconds } => AskedAction::Expire { seconds },
            Action::Persist => AskedAction::Persist,
        };
        self.work = Work::Asked(Asked {
            namespace: operation.namespace,
            hash: operation.hash,
            key_bytes: operation.key.len() as u16,
            if_match_bytes: condition.if_match.map(|list| list.len() as u16),
            if_none_match_bytes: condition.if_none_match.map(|list| list.len() as u16),
            must_exist: condition.must_exist,
            admin: operation.admin,
            fencing_token: operation.fencing_token,
            action,
        });
    }

    /// Packs a scan, which travels as it is in both directions. `asker` dangles once nobody waits
    /// for it.
    pub fn ask_scan(&mut self, ticket: Ticket, namespace: Namespace, scan: Box<Scan>, asker: Weak<()>) {
        self.ticket = ticket;
        self.bytes.clear();
        self.large = None;
        self.work = Work::Scan(namespace, scan, asker);
    }

    /// Packs an errand: something that does not concern the shard, and that only those above it know.
    pub fn ask_errand(&mut self, ticket: Ticket, errand: Box<dyn Any + Send>) {
        self.ticket = ticket;
        self.bytes.clear();
        self.large = None;
        self.work = Work::Errand(errand);
    }

    /// Packs something that is asked of a list, which travels as it is in both directions.
    pub fn ask_list(&mut self, ticket: Ticket, task: Box<ListTask>) {
        self.ticket = ticket;
        self.bytes.clear();
        self.large = None;
        self.work = Work::List(task);
    }

    /// Packs that spaces are to be emptied.
    pub fn ask_to_empty(&mut self, ticket: Ticket, spaces: [Namespace; 2]) {
        self.ticket = ticket;
        self.bytes.clear();
        self.large = None;
        self.work = Work::Empty(spaces);
    }

    /// The spaces to be emptied, if that is what it is about.
    pub fn spaces_to_empty(&self) -> Option<[Namespace; 2]> {
        match self.work {
            Work::Empty(spaces) => Some(spaces),
            _ => None,
        }
    }

    /// What is asked of a list, if it is that.
    pub fn list_task(&self) -> Option<&ListTask> {
        match &self.work {
            Work::List(task) => Some(task),
            _ => None,
        }
    }

    /// What is asked of a list, to be worked on.
    pub fn list_task_mut(&mut self) -> Option<&mut ListTask> {
        match &mut self.work {
            Work::List(task) => Some(task),
            _ => None,
        }
    }

    /// Takes out what was asked of a list, for whoever asked.
    pub fn take_list_task(&mut self) -> Option<Box<ListTask>> {
        match std::mem::take(&mut self.work) {
            Work::List(task) => Some(task),
            other => {
                self.work = other;
                None
            }
        }
    }

    /// The hash of the key asked for, for prefetching.
    pub fn hash(&self) -> Option<u64> {
        match &self.work {
            Work::Asked(asked) => Some(asked.hash),
            Work::List(task) => Some(task.hash),
            _ => None,
        }
    }

    /// Whether it asks for a value, for prefetching.
    pub fn reads(&self) -> bool {
        matches!(&self.work, Work::Asked(Asked { action: AskedAction::Get, .. }))
    }

    /// Whether it is an operation or a call on a list that changes something.
    pub fn writes(&self) -> bool {
        match &self.work {
            Work::Asked(asked) => !matches!(asked.action, AskedAction::Get),
            Work::List(task) => task.writes(),
            _ => false,
        }
    }

    /// Forgets what came of it: it was done, and cannot be kept.
    pub fn lose(&mut self) {
        self.reset();
        self.work = Work::Lost;
    }

    /// Whether nobody may be told what came of it.
    pub fn is_lost(&self) -> bool {
        matches!(self.work, Work::Lost)
    }

    /// The operation asked for, if it is one.
    pub fn operation(&self) -> Option<Operation<'_>> {
        let Work::Asked(asked) = &self.work else { return None };
        let mut rest = self.bytes.as_slice();
        let key = take(&mut rest, asked.key_bytes);
        let if_match = asked.if_match_bytes.map(|count| take(&mut rest, count));
        let if_none_match = asked.if_none_match_bytes.map(|count| take(&mut rest, count));
        let action = match asked.action {
            AskedAction::Get => Action::Get,
            AskedAction::Put { content_type_bytes, encoding, expiry } => {
                let content_type = content_type_bytes.map(|count| take(&mut rest, count));
                let value = self.large.as_ref().map_or(Payload::Bytes(rest), Payload::Large);
                Action::Put { value, content_type, encoding, expiry }
            }
            AskedAction::Restore { content_type_bytes, encoding, expiry, lock } => {
                let content_type = content_type_bytes.map(|count| take(&mut rest, count));
                let value = self.large.as_ref().map_or(Payload::Bytes(rest), Payload::Large);
                Action::Restore { value, content_type, encoding, expiry, lock }
            }
            AskedAction::Delete { answer_value } => Action::Delete { answer_value },
            AskedAction::Lock { lease_seconds } => Action::Lock { lease_seconds },
            AskedAction::Unlock => Action::Unlock,
            AskedAction::Add(step) => Action::Add(step),
            AskedAction::Expire { seconds } => Action::Expire { seconds },
            AskedAction::Persist => Action::Persist,
        };
        Some(Operation {
            namespace: asked.namespace,
            key,
            hash: asked.hash,
            action,
            condition: Condition { if_match, if_none_match, must_exist: asked.must_exist },
            fencing_token: asked.fencing_token,
            admin: asked.admin,
        })
    }

    /// The scan asked for, if it is one.
    pub fn scan_mut(&mut self) -> Option<(Namespace, &mut Scan)> {
        match &mut self.work {
            Work::Scan(namespace, scan, _) => Some((*namespace, scan)),
            _ => None,
        }
    }

    /// The errand, if it is one.
    pub fn errand_mut(&mut self) -> Option<&mut (dyn Any + Send)> {
        match &mut self.work {
            Work::Errand(errand) => Some(&mut **errand),
            _ => None,
        }
    }

    /// Takes the errand out, for whoever asked.
    pub fn take_errand(&mut self) -> Option<Box<dyn Any + Send>> {
        match std::mem::take(&mut self.work) {
            Work::Errand(errand) => Some(errand),
            other => {
                self.work = other;
                None
            }
        }
    }

    /// Whether it is a scan that nobody waits for any more.
    pub fn is_abandoned(&self) -> bool {
        matches!(&self.work, Work::Scan(_, _, asker) if asker.strong_count() == 0)
    }

    /// Takes the scan out, for whoever asked.
    pub fn take_scan(&mut self) -> Option<Box<Scan>> {
        match std::mem::take(&mut self.work) {
            Work::Scan(_, scan, _) => Some(scan),
            other => {
                self.work = other;
                None
            }
        }
    }

    /// Packs the outcome in place of the operation.
    pub fn answer(&mut self, outcome: &Outcome<'_>) {
        self.bytes.clear();
        self.large = None;
        self.work = Work::Answered(match *outcome {
            Outcome::Found(entry) => Answered::Found(self.pack(&entry)),
            Outcome::Deleted(entry) => Answered::Deleted(entry.map(|entry| self.pack(&entry))),
            Outcome::Absent => Answered::Plain(Outcome::Absent),
            Outcome::Created(meta) => Answered::Plain(Outcome::Created(meta)),
            Outcome::Updated(meta) => Answered::Plain(Outcome::Updated(meta)),
            Outcome::LockTaken { fencing_token, meta } => {
                Answered::Plain(Outcome::LockTaken { fencing_token, meta })
            }
            Outcome::Unlocked(meta) => Answered::Plain(Outcome::Unlocked(meta)),
            Outcome::Counted(number, meta) => Answered::Plain(Outcome::Counted(number, meta)),
            Outcome::Expiring(meta) => Answered::Plain(Outcome::Expiring(meta)),
            Outcome::Persisted(meta) => Answered::Plain(Outcome::Persisted(meta)),
            Outcome::Locked => Answered::Plain(Outcome::Locked),
            Outcome::AlreadyLocked => Answered::Plain(Outcome::AlreadyLocked),
            Outcome::NotLocked => Answered::Plain(Outcome::NotLocked),
            Outcome::ConditionFailed(meta) => Answered::Plain(Outcome::ConditionFailed(meta)),
            Outcome::NotNumeric => Answered::Plain(Outcome::NotNumeric),
            Outcome::OutOfRange => Answered::Plain(Outcome::OutOfRange),
            Outcome::StoreFull => Answered::Plain(Outcome::StoreFull),
            Outcome::TooLarge => Answered::Plain(Outcome::TooLarge),
            Outcome::JournalFull => Answered::Plain(Outcome::JournalFull),
            Outcome::JournalFailed => Answered::Plain(Outcome::JournalFailed),
            Outcome::Closed => Answered::Plain(Outcome::Closed),
        });
    }

    fn pack(&mut self, entry: &Entry<'_>) -> AnsweredEntry {
        let content_type = Some(entry.content_type).filter(|name| *name != CONTENT_TYPE_DEFAULT);
        self.bytes.push(content_type.unwrap_or_default());
        match entry.value {
            Payload::Bytes(value) => self.bytes.push(value),
            Payload::Large(large) => self.large = Some(Large::clone(large)),
        }
        AnsweredEntry {
            version: entry.meta.version,
            expires_ms: entry.meta.expires_ms,
            content_type_bytes: content_type.map(|name| name.len() as u16),
            encoding: entry.encoding,
        }
    }

    /// The outcome, once answered.
    pub fn outcome(&self) -> Option<Outcome<'_>> {
        match &self.work {
            Work::Answered(Answered::Found(entry)) => Some(Outcome::Found(self.unpack(entry))),
            Work::Answered(Answered::Deleted(entry)) => {
                Some(Outcome::Deleted(entry.as_ref().map(|entry| self.unpack(entry))))
            }
            Work::Answered(Answered::Plain(outcome)) => Some(*outcome),
            Work::None
            | Work::Asked(_)
            | Work::Scan(..)
            | Work::Errand(_)
            | Work::List(_)
            | Work::Empty(_)
            | Work::Lost => None,
        }
    }

    fn unpack(&self, entry: &AnsweredEntry) -> Entry<'_> {
        let mut rest = self.bytes.as_slice();
        let content_type =
            entry.content_type_bytes.map_or(CONTENT_TYPE_DEFAULT, |count| take(&mut rest, count));
        Entry {
            meta: Meta { version: entry.version, expires_ms: entry.expires_ms },
            content_type,
            encoding: entry.encoding,
            value: self.large.as_ref().map_or(Payload::Bytes(rest), Payload::Large),
        }
    }

    /// Forgets what it carried, so that a pooled job holds no value alive.
    pub fn reset(&mut self) {
        self.work = Work::None;
        self.large = None;
        self.bytes.clear();
    }
}
