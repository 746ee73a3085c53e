//! Applies operations: the one place where a write happens.
//!
//! Every operation is decided in the same order: whether a lock stands in its way, whether its
//! conditions hold, and only then its effect. Until then nothing is written, so what is refused
//! leaves the entry as it was; and the store writes an entry as a whole or not at all.
//!
//! Bytes that change get a fresh version, and nothing else does. Fencing tokens are drawn from the
//! same clock, so a token is above every version and token before it.

use std::num::NonZeroU64;

use crate::clock::{Now, Version, VersionClock};
use crate::etag::Tags;
use crate::limits::CONTENT_TYPE_BYTES_MAX;
use crate::op::{
    Action, CONTENT_TYPE_DEFAULT, Condition, DumpedLock, Encoding, Entry, Expiry, Large, Meta, Namespace,
    Operation, Outcome, Payload, Step,
};
use crate::store::{
    Lock, NewEntry, NewMeta, Scan, Spot, Stats, Store, View, Walk, WalkBudget, WalkEntry, WriteError,
};

use super::counter::{self, NumberText};
use super::databases::DatabaseChange;
use super::durable::Durable;

/// The entries of one core, and the clock of their versions.
#[derive(Debug)]
pub struct Shard {
    pub(super) store: Store,
    tags: Tags,
    pub(super) versions: VersionClock,
    /// What the last operation removed and answers with.
    removed: Option<Removed>,
    /// Its journal, if it has one.
    pub(super) durable: Option<Box<Durable>>,
}

impl Shard {
    /// A shard over a store that nobody else writes to.
    pub fn new(store: Store, tags: Tags) -> Shard {
        Shard { store, tags, versions: VersionClock::default(), removed: None, durable: None }
    }

    /// Goes on with the tags of an earlier run, before anything is asked of it.
    pub fn retag(&mut self, tags: Tags) {
        self.tags = tags;
    }

    /// Applies one operation.
    #[inline]
    pub fn apply(&mut self, op: &Operation<'_>, now: Now) -> Outcome<'_> {
        match op.action {
            Action::Get => {
                if self.removed.is_some() {
                    self.removed = None;
                }
                if let Some(durable) = &mut self.durable {
                    durable.touch(op.hash);
                }
                self.get(op, now)
            }
            _ => self.write_or_refuse(op, now),
        }
    }

    fn write_or_refuse(&mut self, op: &Operation<'_>, now: Now) -> Outcome<'_> {
        self.removed = None;
        if self.durable.is_some()
            && let Some(refused) = self.journal_refuses(op)
        {
            return refused;
        }
        match op.action {
            Action::Get => self.get(op, now),
            Action::Put { value, content_type, encoding, expiry } => {
                let content_type = content_type.unwrap_or(CONTENT_TYPE_DEFAULT);
                self.put(op, &Content { value, content_type, encoding }, expiry, now)
            }
            Action::Restore { value, content_type, encoding, expiry, lock } => {
                let content_type = content_type.unwrap_or(CONTENT_TYPE_DEFAULT);
                self.restore_dumped(op, &Content { value, content_type, encoding }, expiry, lock, now)
            }
            Action::Delete { answer_value } => self.delete(op, answer_value, now),
            Action::Lock { lease_seconds } => self.lock(op, lease_seconds, now),
            Action::Unlock => self.unlock(op, now),
            Action::Add(step) => self.add(op, step, now),
            Action::Expire { seconds } => self.expire(op, Expiry::Seconds(seconds), now),
            Action::Persist => self.expire(op, Expiry::Never, now),
        }
    }

    /// Asks for the head of a key's table, before [`Shard::prefetch_index`].
    #[inline]
    pub fn prefetch_table(&self, hash: u64) {
        self.store.prefetch_table(hash);
    }

    /// Asks for the index group of a key, before [`Shard::prefetch_entry`] and [`Shard::apply`].
    pub fn prefetch_index(&self, hash: u64) {
        self.store.prefetch_index(hash);
    }

    /// Asks for the entry of a key, once its index group is there.
    pub fn prefetch_entry(&self, hash: u64) {
        self.store.prefetch_entry(hash);
    }

    /// The same for a key whose value will be read.
    pub fn prefetch_value(&self, hash: u64) {
        self.store.prefetch_value(hash);
    }

    /// Gives back some of the room of expired entries. A bounded piece of work for each turn.
    pub fn sweep(&mut self, now: Now) {
        self.store.sweep(now);
    }

    /// Moves the ceiling of its memory. A bounded piece of work; true while there is more of it.
    pub fn set_ceiling(&mut self, bytes: u64, now: Now) -> bool {
        let more = self.store.set_ceiling(bytes, now);
        self.keep_evictions();
        more
    }

    /// When [`Shard::sweep`] will find something to do, in milliseconds since the Unix epoch; 0 for at
    /// once.
    pub fn next_sweep_ms(&self) -> Option<u64> {
        self.store.next_expiry_hint()
    }

    /// Makes all keys of a space absent. The journal is not told: whoever empties a space never uses its
    /// number again.
    pub fn empty(&mut self, namespace: Namespace) {
        self.store.drop_namespace(namespace);
    }

    /// Follows a change of the set of databases.
    pub fn follow(&mut self, change: &DatabaseChange) {
        match change {
            DatabaseChange::Create { number, .. } => self.store.open_database(Namespace::database(*number)),
            DatabaseChange::Rename { .. } => {}
            DatabaseChange::Empty { from, to, .. } => {
                self.store.renumber_database(Namespace::database(*from), Namespace::database(*to));
            }
            DatabaseChange::Drop { number, .. } => self.store.close_database(Namespace::database(*number)),
            DatabaseChange::EmptyAll { first } => self.store.renumber_databases(*first),
            DatabaseChange::RaiseAll { by, first } => self.store.raise_databases(*by, *first),
            DatabaseChange::DropAll => self.store.close_databases(),
        }
    }

    /// Goes on with a listing; true when it is done.
    pub fn scan(&mut self, namespace: Namespace, scan: &mut Scan, budget_entries: usize, now: Now) -> bool {
        let done = self.store.scan(namespace, scan, budget_entries, now);
        if done {
            self.touch_all();
        }
        done
    }

    /// Goes on with a walk along all entries; true when it is done. See [`Store::walk`].
    pub fn walk(
        &mut self,
        walk: &mut Walk,
        budget: WalkBudget,
        now: Now,
        visit: impl FnMut(WalkEntry<'_>),
    ) -> bool {
        let done = self.store.walk(walk, budget, now, visit);
        if done {
            self.touch_all();
        }
        done
    }

    /// What the store holds and has done.
    pub fn stats(&self) -> Stats {
        self.store.stats()
    }

    /// Conditions of a GET are weighed by whoever answers: they choose a form of the answer.
    #[inline(always)] // The outcome is large: as a call it was moved once more.
    fn get(&self, op: &Operation<'_>, now: Now) -> Outcome<'_> {
        match self.store.find(op.namespace, op.key, op.hash, now) {
            Some(view) => Outcome::Found(Entry {
                meta: meta(&view),
                content_type: view.content_type,
                encoding: view.encoding,
                value: view.value,
            }),
            None if self.store.is_open(op.namespace) => Outcome::Absent,
            None => Outcome::Closed,
        }
    }

    fn put(&mut self, op: &Operation<'_>, content: &Content<'_>, expiry: Expiry, now: Now) -> Outcome<'_> {
        let held = match self.admit(op, now) {
            Ok(held) => held,
            Err(refused) => return refused,
        };
        if held.is_none() && op.condition.must_exist {
            return Outcome::Absent;
        }
        match self.write(op, content, deadline(expiry, now), held.and_then(|held| held.lock), held, now) {
            Ok(meta) if held.is_some() => Outcome::Updated(meta),
            Ok(meta) => Outcome::Created(meta),
            Err(refused) => refused,
        }
    }

    /// What is there makes way, its lock with it: whoever restores has the say. The new lock's token stays
    /// below those to come.
    fn restore_dumped(
        &mut self,
        op: &Operation<'_>,
        content: &Content<'_>,
        expiry: Expiry,
        lock: Option<DumpedLock>,
        now: Now,
    ) -> Outcome<'_> {
        let held = match self.meets_conditions(op, self.held(op, now)) {
            Ok(held) => held,
            Err(refused) => return refused,
        };
        let lock = lock.map(|lock| Lock { token: lock.token, until_ms: lock.until_ms.map(NonZeroU64::get) });
        if let Some(lock) = lock {
            self.versions.raise(Version(lock.token));
        }
        match self.write(op, content, deadline(expiry, now), lock, held, now) {
            Ok(meta) if held.is_some() => Outcome::Updated(meta),
            Ok(meta) => Outcome::Created(meta),
            Err(refused) => refused,
        }
    }

    fn delete(&mut self, op: &Operation<'_>, answer_value: bool, now: Now) -> Outcome<'_> {
        if let Err(refused) = self.admit_present(op, now) {
            if matches!(refused, Outcome::Absent) {
                self.keep_absent(op.namespace, op.key, op.hash);
            }
            return refused;
        }
        if answer_value {
            let view = self.store.find(op.namespace, op.key, op.hash, now);
            self.removed = view.as_ref().map(Removed::copy);
        }
        self.store.remove(op.namespace, op.key, op.hash, now);
        if self.durable.is_some() {
            self.keep_remove(op.namespace, op.key, op.hash);
        }
        Outcome::Deleted(self.removed.as_ref().map(Removed::entry))
    }

    /// A lock that is held is not taken again, not even by its holder.
    fn lock(&mut self, op: &Operation<'_>, lease_seconds: Option<u32>, now: Now) -> Outcome<'_> {
        let held = match self.held(op, now) {
            Some(Held { lock: Some(_), .. }) => return Outcome::AlreadyLocked,
            held => held,
        };
        let held = match self.meets_conditions(op, held) {
            Ok(Some(held)) => held,
            Ok(None) => return Outcome::Absent,
            Err(refused) => return refused,
        };
        let fencing_token = self.versions.next(now).0;
        let until_ms = lease_seconds.and_then(|seconds| deadline(Expiry::Seconds(seconds), now));
        let lock = Lock { token: fencing_token, until_ms };
        let answer = |meta| Outcome::LockTaken { fencing_token, meta };
        self.rewrite(
            op,
            held.meta,
            NewMeta { expires_ms: held.meta.expires_ms, lock: Some(lock) },
            answer,
            now,
        )
    }

    /// Anyone frees a lock without a lease. A leased one is its holder's, or an administrator's.
    fn unlock(&mut self, op: &Operation<'_>, now: Now) -> Outcome<'_> {
        let held = self.held(op, now);
        match held {
            Some(Held { lock: None, .. }) => return Outcome::NotLocked,
            Some(Held { lock: Some(lock), .. }) => {
                let may_free = lock.until_ms.is_none() || op.admin || op.fencing_token == Some(lock.token);
                if !may_free {
                    return Outcome::Locked;
                }
            }
            None => {}
        }
        match self.meets_conditions(op, held) {
            Ok(Some(held)) => {
                let new = NewMeta { expires_ms: held.meta.expires_ms, lock: None };
                self.rewrite(op, held.meta, new, Outcome::Unlocked, now)
            }
            Ok(None) => Outcome::Absent,
            Err(refused) => refused,
        }
    }

    /// Type, time-to-live and lock stay; only the bytes are new.
    fn add(&mut self, op: &Operation<'_>, step: Step, now: Now) -> Outcome<'_> {
        let held = match self.admit_present(op, now) {
            Ok(held) => held,
            Err(refused) => return refused,
        };
        let mut content_type = [0; CONTENT_TYPE_BYTES_MAX];
        let (number, is_quoted, content_type) = match self.store.find(op.namespace, op.key, op.hash, now) {
            None => return Outcome::Absent,
            // Encoded bytes are no number, whatever they may decode to.
            Some(view) if view.encoding != Encoding::Identity => return Outcome::NotNumeric,
            Some(view) => {
                let (text, is_quoted) = counter_text(op.namespace, view.value.bytes());
                match counter::add(text, step) {
                    Ok(number) => (number, is_quoted, keep(view.content_type, &mut content_type)),
                    Err(refused) => return refused,
                }
            }
        };
        let text = NumberText::of(number, is_quoted);
        let value = Payload::Bytes(text.as_bytes());
        let content = Content { value, content_type, encoding: Encoding::Identity };
        match self.write(op, &content, held.meta.expires_ms, held.lock, Some(held), now) {
            Ok(meta) => Outcome::Counted(number, meta),
            Err(refused) => refused,
        }
    }

    fn expire(&mut self, op: &Operation<'_>, expiry: Expiry, now: Now) -> Outcome<'_> {
        let held = match self.admit_present(op, now) {
            Ok(held) => held,
            Err(refused) => return refused,
        };
        let new = NewMeta { expires_ms: deadline(expiry, now), lock: held.lock };
        let answer = if expiry == Expiry::Never { Outcome::Persisted } else { Outcome::Expiring };
        self.rewrite(op, held.meta, new, answer, now)
    }

    /// What the write would replace, if neither a lock nor a condition stands in its way.
    ///
    /// A token that is shown must be the one of the lock in force. So the holder of a lease that ran
    /// out is told so, also when nobody has locked the key since, rather than left to write over
    /// what came in between. An absent key has nothing to protect from PATCH and DELETE, which find
    /// nothing; a PUT would bring it back.
    fn admit(&self, op: &Operation<'_>, now: Now) -> Result<Option<Held>, Outcome<'static>> {
        let held = self.held(op, now);
        let token = held.and_then(|held| held.lock).map(|lock| lock.token);
        let may_miss = held.is_none() && !matches!(op.action, Action::Put { .. });
        if token != op.fencing_token && !may_miss {
            return Err(Outcome::Locked);
        }
        self.meets_conditions(op, held)
    }

    fn admit_present(&self, op: &Operation<'_>, now: Now) -> Result<Held, Outcome<'static>> {
        self.admit(op, now)?.ok_or(Outcome::Absent)
    }

    fn held(&self, op: &Operation<'_>, now: Now) -> Option<Held> {
        let seen = self.store.find_for_write(op.namespace, op.key, op.hash, now)?;
        let meta = Meta { version: seen.version, expires_ms: seen.expires_ms };
        let in_force = |lock: &Lock| lock.until_ms.is_none_or(|until_ms| now.unix_ms < until_ms);
        Some(Held { meta, lock: seen.lock.filter(in_force), spot: seen.spot })
    }

    /// RFC 9110, section 13.2.2. A write is named by the tag of either form of its value.
    fn meets_conditions(
        &self,
        op: &Operation<'_>,
        held: Option<Held>,
    ) -> Result<Option<Held>, Outcome<'static>> {
        let Condition { if_match, if_none_match, .. } = op.condition;
        let version = held.map(|held| held.meta.version);
        let is_named = |list| version.is_some_and(|version| self.tags.matches_strong(list, version));
        let is_named_weakly = |list| {
            version.is_some_and(|version| {
                [false, true].into_iter().any(|decoded| self.tags.matches_weak(list, version, decoded))
            })
        };
        if if_match.is_none_or(is_named) && !if_none_match.is_some_and(is_named_weakly) {
            Ok(held)
        } else {
            Err(Outcome::ConditionFailed(held.map(|held| held.meta)))
        }
    }

    /// In its place, as what it answers is large.
    #[inline]
    fn write(
        &mut self,
        op: &Operation<'_>,
        content: &Content<'_>,
        expires_ms: Option<u64>,
        lock: Option<Lock>,
        held: Option<Held>,
        now: Now,
    ) -> Result<Meta, Outcome<'static>> {
        let version: Version = self.versions.next(now);
        let entry = NewEntry {
            namespace: op.namespace,
            key: op.key,
            hash: op.hash,
            version,
            expires_ms,
            lock,
            content_type: content.content_type,
            encoding: content.encoding,
            value: content.value,
        };
        let written = self.store.write_over(&entry, held.map(|held| held.spot), now);
        if self.durable.is_some() {
            self.keep_put(&entry, written.is_ok());
        }
        written.map_err(refused)?;
        Ok(Meta { version, expires_ms })
    }

    /// Gives the entry a new deadline and lock. Its version stays.
    fn rewrite(
        &mut self,
        op: &Operation<'_>,
        was: Meta,
        new: NewMeta,
        answer: impl FnOnce(Meta) -> Outcome<'static>,
        now: Now,
    ) -> Outcome<'static> {
        let rewritten = self.store.rewrite(op.namespace, op.key, op.hash, new, now);
        if self.durable.is_some() {
            self.keep_rewrite(op, was, new, rewritten == Ok(true), now);
        }
        match rewritten {
            Ok(true) => answer(Meta { expires_ms: new.expires_ms, ..was }),
            Ok(false) => Outcome::Absent,
            Err(error) => refused(error),
        }
    }
}

/// What an operation finds under its key.
#[derive(Clone, Copy)]
struct Held {
    meta: Meta,
    /// The lock in force.
    lock: Option<Lock>,
    spot: Spot,
}

/// What a write puts under its key.
struct Content<'a> {
    value: Payload<'a>,
    content_type: &'a [u8],
    encoding: Encoding,
}

/// An entry that outlives its removal by one answer.
#[derive(Debug)]
struct Removed {
    meta: Meta,
    content_type: Box<[u8]>,
    encoding: Encoding,
    value: RemovedValue,
}

#[derive(Debug)]
enum RemovedValue {
    Bytes(Box<[u8]>),
    Large(Large),
}

impl Removed {
    fn copy(view: &View<'_>) -> Removed {
        Removed {
            meta: meta(view),
            content_type: view.content_type.into(),
            encoding: view.encoding,
            value: match view.value {
                Payload::Bytes(bytes) => RemovedValue::Bytes(bytes.into()),
                Payload::Large(large) => RemovedValue::Large(Large::clone(large)),
            },
        }
    }

    fn entry(&self) -> Entry<'_> {
        Entry {
            meta: self.meta,
            content_type: &self.content_type,
            encoding: self.encoding,
            value: match &self.value {
                RemovedValue::Bytes(bytes) => Payload::Bytes(bytes),
                RemovedValue::Large(large) => Payload::Large(large),
            },
        }
    }
}

/// What counts of a value, and whether it stands in quotes: in databases a string that is a number counts, and
/// stays one.
fn counter_text(namespace: Namespace, value: &[u8]) -> (&[u8], bool) {
    match value {
        [b'"', text @ .., b'"'] if namespace.is_database() => (text, true),
        text => (text, false),
    }
}

fn meta(view: &View<'_>) -> Meta {
    Meta { version: view.version, expires_ms: view.expires_ms }
}

pub(super) fn deadline(expiry: Expiry, now: Now) -> Option<u64> {
    match expiry {
        Expiry::Never => None,
        Expiry::Seconds(seconds) => Some(now.unix_ms.saturating_add(u64::from(seconds) * 1_000)),
        Expiry::At(unix_ms) => Some(unix_ms),
    }
}

fn refused(error: WriteError) -> Outcome<'static> {
    match error {
        WriteError::Full => Outcome::StoreFull,
        WriteError::TooLarge => Outcome::TooLarge,
        WriteError::Closed => Outcome::Closed,
    }
}

/// Copies a content type out of the store. None is longer than the room.
fn keep<'r>(content_type: &[u8], room: &'r mut [u8; CONTENT_TYPE_BYTES_MAX]) -> &'r [u8] {
    let kept = &mut room[..content_type.len()];
    kept.copy_from_slice(content_type);
    kept
}
