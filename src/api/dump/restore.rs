//! Lines of a dump on their way in: read as a whole, then written like any other write.
//!
//! The body is gone through twice, in slices of a turn: first every line is read and forgotten, so that
//! nothing is written when one of them cannot be taken; then the apps and databases that the lines name are
//! found or made; then the lines are read again, one by one, as they are handed out to the cores that own their keys.
//! Nothing of the body is kept beside it but the line at hand.

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::http::{Method, Request, Status, response, target};
use crate::limits::{KEY_BYTES_MAX, VALUE_COPY_BYTES_MAX};
use crate::memory::Large;
use crate::op::{
    Action, Condition, DumpedLock, Encoding, Expiry, KeyHasher, Namespace, Operation, Outcome, Payload,
};
use crate::shard::{Bytes, ListAction, ListOutcome, ListTask, Values};

use super::super::databases::change;
use super::super::gather::{PIECES_MAX, Piece, Work};
use super::super::message::{LineTrouble, Problem};
use super::super::{Api, administer, kv};
use super::line::{self, Entry, Line, Space, Why};

/// A lock's token may be so far ahead of the clock: tokens rise with it, and would never come down again.
const TOKEN_AHEAD_MS_MAX: u64 = 24 * 3_600 * 1_000;

/// Lines that somebody asked to have restored.
#[derive(Debug)]
pub(in super::super) struct Restore {
    body: Bytes,
    /// The line of the entry whose value the body is.
    entry: Option<Vec<u8>>,
    settings: Settings,
    stage: Stage,
    /// The apps and databases that the lines name, and their numbers once they are known.
    owners: BTreeMap<Owner, Option<u32>>,
    cursor: Cursor,
    /// Bytes of the body that may still be gone through in this turn.
    budget: usize,
    outstanding: usize,
    current: Option<Current>,
    /// Held as long as anyone waits.
    asker: Arc<()>,
    counts: Counts,
    refused: Option<Problem>,
}

/// Whose an entry is, if it is not a key of `/api/kv`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    App(Box<str>),
    Database(Box<str>),
}

#[derive(Debug)]
struct Settings {
    hasher: KeyHasher,
    shards: usize,
    value_bytes_max: u64,
    wall_ms: u64,
    /// What every key gets in front of it.
    prefix: Vec<u8>,
    /// What is there stays.
    skips: bool,
    /// The number of the first line.
    first_line: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Reading,
    Apps,
    Writing,
}

/// Where in the body it is.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    at: usize,
    /// Lines before that.
    lines: u64,
    /// The end of the body was reached.
    is_over: bool,
}

/// The entry that is handed out.
#[derive(Debug)]
struct Current {
    namespace: Namespace,
    key: Vec<u8>,
    hash: u64,
    value: Value,
    content_type: Option<Vec<u8>>,
    encoding: Encoding,
    expiry: Expiry,
    lock: Option<DumpedLock>,
}

#[derive(Debug)]
enum Value {
    Small(Vec<u8>),
    Large(Large),
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    restored: u64,
    skipped: u64,
    expired: u64,
}

/// What the query says.
#[derive(Debug, Default)]
struct Wanted {
    prefix: Vec<u8>,
    skips: bool,
    first_line: u64,
    entry: Option<Vec<u8>>,
}

fn wanted(query: &[u8]) -> Result<Wanted, Problem> {
    let (mut prefix, mut existing, mut first_line, mut entry) = (None, None, None, None);
    for pair in target::query_pairs(query) {
        let (name, value) = pair.map_err(|_| Problem::QueryInvalid("an escape is malformed"))?;
        let slot = match &*name {
            b"prefix" => &mut prefix,
            b"existing" => &mut existing,
            b"line" => &mut first_line,
            b"entry" => &mut entry,
            _ => continue,
        };
        if slot.replace(value.into_owned()).is_some() {
            return Err(Problem::QueryInvalid("a parameter stands twice"));
        }
    }
    let prefix = prefix.unwrap_or_default();
    if prefix.len() >= KEY_BYTES_MAX {
        return Err(Problem::QueryInvalid("the prefix leaves no room for a key"));
    }
    let skips = match existing.as_deref() {
        None | Some(b"" | b"overwrite") => false,
        Some(b"skip") => true,
        Some(_) => return Err(Problem::QueryInvalid("existing is overwrite or skip")),
    };
    let first_line = match first_line.as_deref() {
        None | Some(b"") => 1,
        Some(digits) => std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| digits.parse::<u64>().ok())
            .filter(|line| (1..=u64::MAX / 2).contains(line))
            .ok_or(Problem::QueryInvalid("line is the number of the first line"))?,
    };
    Ok(Wanted { prefix, skips, first_line, entry: entry.filter(|entry| !entry.is_empty()) })
}

impl Api {
    /// Begins a restore, now that its body is here.
    pub(in super::super) fn restore(
        &self,
        request: &Request,
        head: &[u8],
        body: Payload<'_>,
    ) -> Result<Restore, Problem> {
        let Wanted { prefix, skips, first_line, entry } =
            wanted(request.query.map_or(&b""[..], |query| query.of(head)))?;
        let body = match body {
            Payload::Bytes(bytes) => Bytes::Small(bytes.to_vec()),
            Payload::Large(large) => Bytes::Large(large.clone()),
        };
        let settings = Settings {
            hasher: self.hasher.clone(),
            shards: self.shards,
            value_bytes_max: self.value_bytes_max,
            wall_ms: self.wall_seconds * 1_000,
            prefix,
            skips,
            first_line,
        };
        Ok(Restore {
            body,
            entry,
            settings,
            stage: Stage::Reading,
            owners: BTreeMap::new(),
            cursor: Cursor::default(),
            budget: 0,
            outstanding: 0,
            current: None,
            asker: Arc::new(()),
            counts: Counts::default(),
            refused: None,
        })
    }
}

impl Restore {
    /// Whether the body is still to be read for the first time.
    pub fn is_reading(&self) -> bool {
        self.stage == Stage::Reading && self.refused.is_none()
    }

    /// Whether it could go on without hearing from anybody.
    pub fn wants_turn(&self) -> bool {
        self.is_reading() || self.stage == Stage::Writing && self.may_hand_out() && !self.cursor.is_over
    }

    /// Whether the next piece may be an operation that writes.
    pub fn writes_next(&self) -> bool {
        self.stage == Stage::Writing && self.may_hand_out() && self.budget > 0 && !self.cursor.is_over
    }

    fn may_hand_out(&self) -> bool {
        self.outstanding < PIECES_MAX && self.refused.is_none()
    }

    /// Goes on for about this many bytes of the body.
    pub fn take_turn(&mut self, budget: usize) {
        self.budget = budget;
        while self.is_reading() && self.budget > 0 {
            let Some(range) = self.next_line() else {
                self.cursor = Cursor::default();
                self.stage = Stage::Apps;
                return;
            };
            if let Err(trouble) = self.check(range) {
                self.refuse(self.cursor.lines, trouble);
            }
        }
    }

    /// Moves on to the next line.
    fn next_line(&mut self) -> Option<Range<usize>> {
        if self.cursor.is_over {
            return None;
        }
        let at = self.cursor.at;
        let rest = &self.body[at..];
        // The body is one value.
        let length = match self.entry {
            Some(_) => rest.len(),
            None => memchr::memchr(b'\n', rest).unwrap_or(rest.len()),
        };
        self.cursor.is_over = at + length >= self.body.len();
        self.cursor.at = at + length + 1;
        self.cursor.lines += 1;
        self.budget = self.budget.saturating_sub(length + 1);
        Some(at..at + length)
    }

    fn check(&mut self, range: Range<usize>) -> Result<(), LineTrouble> {
        let line = read(&self.body, &self.entry, range).map_err(LineTrouble::Invalid)?;
        let owner = match line {
            Line::Nothing => return Ok(()),
            Line::App(name) => Owner::App(name.into()),
            Line::Database(name) => Owner::Database(name.into()),
            Line::Entry(entry) => {
                self.settings.check(&entry)?;
                match entry.space {
                    Space::Kv => return Ok(()),
                    Space::Items(app) | Space::Lists(app) => Owner::App(app.into()),
                    Space::Database(name) => Owner::Database(name.into()),
                }
            }
        };
        self.owners.entry(owner).or_default();
        Ok(())
    }

    fn refuse(&mut self, lines: u64, trouble: LineTrouble) {
        let line = self.settings.first_line + lines.saturating_sub(1);
        self.refused.get_or_insert(Problem::Line(line, trouble));
    }

    /// The next piece, if there is one.
    pub fn next(&mut self) -> Option<Piece<'_>> {
        if !self.may_hand_out() {
            return None;
        }
        match self.stage {
            Stage::Reading => return None,
            Stage::Apps if self.outstanding > 0 => return None,
            Stage::Apps => match self.owners.iter().find(|(_, number)| number.is_none()) {
                Some((owner, _)) => {
                    self.outstanding += 1;
                    return Some(match owner {
                        Owner::App(name) => administer::restore_app(name.clone()),
                        Owner::Database(name) => change::ensure(name.clone()),
                    });
                }
                None => self.stage = Stage::Writing,
            },
            Stage::Writing => {}
        }
        while self.budget > 0 {
            let range = self.next_line()?;
            let index = self.cursor.lines as u32;
            // It was read before, and is as it was.
            let Ok(Line::Entry(entry)) = read(&self.body, &self.entry, range) else { continue };
            if entry.expires_ms.is_some_and(|expires_ms| expires_ms <= self.settings.wall_ms) {
                self.counts.expired += 1;
                continue;
            }
            let number = |owner: Owner| self.owners.get(&owner).copied().flatten();
            let app = |name: &str| number(Owner::App(name.into()));
            let namespace = match &entry.space {
                Space::Kv => Some(Namespace::KV),
                Space::Items(name) => app(name).map(Namespace::items),
                Space::Lists(name) => app(name).map(Namespace::lists),
                Space::Database(name) => number(Owner::Database((&**name).into())).map(Namespace::database),
            };
            let Some(namespace) = namespace else { continue };
            let is_list = matches!(entry.space, Space::Lists(_));
            let current = self.settings.entry(namespace, *entry, &self.body);
            self.outstanding += 1;
            return Some(self.piece(index, current, is_list));
        }
        None
    }

    fn piece(&mut self, index: u32, current: Current, is_list: bool) -> Piece<'_> {
        let shard = KeyHasher::owner(current.hash, self.settings.shards);
        if is_list {
            let Current { namespace, key, hash, value, expiry, .. } = current;
            let document = match value {
                Value::Small(bytes) => Bytes::Small(bytes),
                Value::Large(large) => Bytes::Large(large),
            };
            let values = Values { range: 1..document.len() - 1, document };
            let action = match self.settings.skips {
                true => ListAction::WriteNew(values, expiry),
                false => ListAction::Write(values, expiry),
            };
            let task = ListTask::new(namespace, key, hash, action, Arc::downgrade(&self.asker));
            return Piece { index, shard, work: Work::List(Box::new(task)) };
        }
        let current = self.current.insert(current);
        let action = Action::Restore {
            value: match &current.value {
                Value::Small(bytes) => Payload::Bytes(bytes),
                Value::Large(large) => Payload::Large(large),
            },
            content_type: current.content_type.as_deref(),
            encoding: current.encoding,
            expiry: current.expiry,
            lock: current.lock,
        };
        let if_none_match = self.settings.skips.then_some(&b"*"[..]);
        let operation = Operation {
            namespace: current.namespace,
            key: &current.key,
            hash: current.hash,
            action,
            condition: Condition { if_none_match, ..Condition::default() },
            fencing_token: None,
            admin: true,
        };
        Piece { index, shard, work: Work::Operation(operation) }
    }

    /// Brings back the number of an app or a database.
    pub fn accept_app(&mut self, errand: Box<dyn Any + Send>) {
        self.outstanding -= 1;
        // They are asked for one by one, in their order.
        let waiting = self.owners.iter_mut().find(|(_, number)| number.is_none());
        let found = match &waiting {
            Some((Owner::Database(_), _)) => change::ensured(errand),
            _ => administer::restored_app(errand),
        };
        match (found, waiting) {
            (Ok(found), Some((_, number))) => *number = Some(found),
            (Err(problem), _) => self.refused = Some(problem),
            (Ok(_), None) => {}
        }
    }

    /// Brings back what came of an entry.
    pub fn accept(&mut self, index: u32, outcome: &Outcome<'_>) {
        self.outstanding -= 1;
        match outcome {
            Outcome::Created(_) | Outcome::Updated(_) => self.counts.restored += 1,
            Outcome::ConditionFailed(_) => self.counts.skipped += 1,
            Outcome::StoreFull => self.refuse(index.into(), LineTrouble::Full),
            Outcome::TooLarge => self.refuse(index.into(), LineTrouble::TooLarge),
            // Lines before it were restored, and what has become of them is not known.
            Outcome::JournalFailed => drop(self.refused.get_or_insert(Problem::Unkept)),
            refused => {
                self.refused.get_or_insert(kv::refused(refused));
            }
        }
    }

    /// Brings back what came of a list.
    pub fn accept_list(&mut self, index: u32, mut task: Box<ListTask>) {
        self.outstanding -= 1;
        match task.take_outcome() {
            Some(ListOutcome::Written(_)) => self.counts.restored += 1,
            Some(ListOutcome::Exists(true)) => self.counts.skipped += 1,
            Some(ListOutcome::StoreFull) => self.refuse(index.into(), LineTrouble::Full),
            Some(ListOutcome::TooLarge) => self.refuse(index.into(), LineTrouble::TooLarge),
            Some(ListOutcome::JournalFull) => drop(self.refused.get_or_insert(Problem::JournalFull)),
            Some(ListOutcome::JournalFailed) => drop(self.refused.get_or_insert(Problem::Unkept)),
            _ => {
                self.refused.get_or_insert(Problem::Busy);
            }
        }
    }

    /// Whether it can be answered.
    pub fn is_done(&self) -> bool {
        let is_through = self.stage == Stage::Writing && self.cursor.is_over;
        self.outstanding == 0 && (is_through || self.refused.is_some())
    }

    /// Answers how many of what there was.
    pub fn answer(self, api: &mut Api, request: &Request, head: &[u8], close: bool, out: &mut Vec<u8>) {
        if let Some(problem) = self.refused {
            return api.refuse(Some((request, head)), problem, close, out);
        }
        let Counts { restored, skipped, expired } = self.counts;
        let body = format!("{{\"restored\":{restored},\"skipped\":{skipped},\"expired\":{expired}}}");
        api.preamble.begin(out, Status::Ok);
        out.extend_from_slice(b"Content-Type: application/json\r\n");
        response::content_length(out, body.len() as u64);
        api.end(Some((request, head)), close, out);
        if request.method != Method::Head {
            out.extend_from_slice(body.as_bytes());
        }
    }
}

/// Reads a line, or the line of the one entry whose value is the body.
fn read<'b>(body: &'b [u8], entry: &'b Option<Vec<u8>>, range: Range<usize>) -> Result<Line<'b>, Why> {
    let Some(line) = entry else {
        return line::read(&body[range]);
    };
    match line::read(line)? {
        Line::Entry(mut entry) if entry.value.is_none() => {
            line::check_value(&entry.space, body)?;
            entry.value = Some(Cow::Borrowed(body));
            Ok(Line::Entry(entry))
        }
        _ => Err("entry is the line of one entry without its value"),
    }
}

impl Settings {
    fn check(&self, entry: &Entry<'_>) -> Result<(), LineTrouble> {
        let Some(value) = &entry.value else { return Err(LineTrouble::Invalid("it has no value")) };
        if value.len() as u64 > self.value_bytes_max {
            return Err(LineTrouble::TooLarge);
        }
        if self.prefix.len() + entry.key.len() > KEY_BYTES_MAX {
            return Err(LineTrouble::Invalid("with the prefix the key is longer than 1024 bytes"));
        }
        if !matches!(entry.space, Space::Kv) && std::str::from_utf8(&self.prefix).is_err() {
            return Err(LineTrouble::Invalid("with the prefix the key is not UTF-8"));
        }
        let token_ms = entry.lock.map_or(0, |lock| lock.token >> 16);
        if token_ms > self.wall_ms + TOKEN_AHEAD_MS_MAX {
            return Err(LineTrouble::Invalid("the token of the lock is of a time more than a day ahead"));
        }
        Ok(())
    }

    fn entry(&self, namespace: Namespace, entry: Entry<'_>, body: &Bytes) -> Current {
        let key = [&self.prefix, &*entry.key].concat();
        let hash = self.hasher.hash(namespace, &key);
        let value = match (entry.value.unwrap_or_default(), body) {
            // All of a large body is the value: it is as it has to be.
            (Cow::Borrowed(value), Bytes::Large(large)) if value.len() == large.len() => {
                Value::Large(large.clone())
            }
            (value, _) if value.len() > VALUE_COPY_BYTES_MAX => Value::Large(Large::copy_of(&value)),
            (value, _) => Value::Small(value.into_owned()),
        };
        Current {
            namespace,
            key,
            hash,
            value,
            content_type: entry.content_type.map(Cow::into_owned),
            encoding: entry.encoding,
            expiry: entry.expires_ms.map_or(Expiry::Never, Expiry::At),
            lock: entry.lock,
        }
    }
}
