//! What a shard with a journal does beside its work: it hands over a record of each outcome, and knows how
//! long answers must wait for the journal.
//!
//! **Records** are appended where the effect has happened, one for each outcome, those of evictions before
//! that of the write they made room for. A record that puts a deadline off carries the whole entry: so an
//! entry that is found past its time while a journal is replayed can be left out at once, for nothing
//! behind it in the journal counts on it. Expiry itself needs no record.
//!
//! **Gates**: an answer may go once the journal keeps everything that it shows. For an operation on a key
//! that is the last record about it. Numbers are remembered by a part of the key's hash, so that
//! a key may wait for another's record, and never too short.
//!
//! Without a journal nothing of this is there but one branch for each operation.

use super::apply::Shard;
use super::base::Base;
use super::list_call::{ListAction, ListOutcome};
use crate::clock::Now;
use crate::journal::{Health, NodeRecord, Put, Record, Refusal, Tap};
use crate::op::{Action, Meta, Namespace, Operation, Outcome};
use crate::store::{ListKey, NewEntry, NewMeta, Walked};

/// Numbers of last records that are remembered, by the upper bits of the hash: the owner's choice
/// looks at others, so each shard uses them all.
const LAST_WRITES: usize = 4_096;
const LAST_WRITES_SHIFT: u32 = u64::BITS - LAST_WRITES.trailing_zeros();

/// What a record takes beside key and value, about.
const RECORD_BYTES: u64 = 24;

/// The journal of a shard, from its side.
#[derive(Debug)]
pub(super) struct Durable {
    pub(super) tap: Tap,
    last_writes: Box<[u64; LAST_WRITES]>,
    /// What was applied or read since [`Shard::take_gate`] waits for this record.
    touched: u64,
    /// The number of the last live set that was noticed, and the one under way.
    pub(super) base_noticed: u64,
    pub(super) base: Option<Base>,
    /// Long lists that a task is changing in place.
    pub(super) editing: Vec<Name>,
    /// What is kept may have keys that the shard has not, as long as no live set was written down.
    lags: bool,
    /// What the records since the simulation last looked were about.
    #[cfg(test)]
    pub(super) told: Vec<(Namespace, Vec<u8>)>,
}

/// A key that somebody has to come back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    namespace: Namespace,
    hash: u64,
    key: Box<[u8]>,
}

impl Name {
    pub(super) fn of(at: &ListKey<'_>) -> Name {
        Name { namespace: at.namespace, hash: at.hash, key: at.key.into() }
    }

    pub(super) fn at(&self) -> ListKey<'_> {
        ListKey { namespace: self.namespace, key: &self.key, hash: self.hash }
    }

    pub(super) fn is(&self, at: &ListKey<'_>) -> bool {
        self.hash == at.hash && self.namespace == at.namespace && *self.key == *at.key
    }
}

impl Durable {
    /// Appends the record of a change of the key with this hash.
    pub(super) fn append(&mut self, hash: u64, record: &Record<'_>) {
        let number = self.tap.append(record);
        #[cfg(test)]
        self.told.extend(super::comeback::place(record).map(|(namespace, key)| (namespace, key.to_vec())));
        self.last_writes[last_write_of(hash)] = number;
        self.touched = number;
    }

    /// What an answer about the key with this hash waits for.
    #[inline]
    pub(super) fn touch(&mut self, hash: u64) {
        self.touched = self.touched.max(self.last_writes[last_write_of(hash)]);
    }

    fn remove(&mut self, namespace: Namespace, key: &[u8], hash: u64) {
        self.append(hash, &Record::Remove { namespace, key });
    }
}

fn last_write_of(hash: u64) -> usize {
    (hash >> LAST_WRITES_SHIFT) as usize
}

impl Shard {
    /// Has all outcomes from now on handed to a journal. To be called when everything that was kept is back.
    pub fn attach(&mut self, tap: Tap) {
        let has_evicted = self.store.stats().evictions > 0;
        self.store.note_evictions();
        let last_writes = Box::new([0; LAST_WRITES]);
        self.durable = Some(Box::new(Durable {
            tap,
            last_writes,
            touched: 0,
            base_noticed: 0,
            base: None,
            editing: Vec::new(),
            lags: false,
            #[cfg(test)]
            told: Vec::new(),
        }));
        // What was evicted while it was brought back is still kept.
        if has_evicted {
            self.ask_base();
        }
    }

    /// Has the journal write the live set down: what is kept has keys that the shard has not.
    pub(super) fn ask_base(&mut self) {
        if let Some(durable) = &mut self.durable {
            durable.lags = true;
            durable.tap.ask_base();
        }
    }

    /// Whether it has a journal.
    #[inline]
    pub fn is_journalled(&self) -> bool {
        self.durable.is_some()
    }

    /// Brings on what the journal has not taken yet, and wakes its writer. To be called once a turn, behind
    /// all operations.
    pub fn flush_journal(&mut self) {
        let Shard { durable: Some(durable), store, .. } = self else { return };
        let held = store.total();
        durable.tap.report_live_bytes(held.bytes + RECORD_BYTES * held.entries);
        durable.tap.flush();
    }

    /// Whether no operation that writes, and no call on a list, is to be begun for now: the journal is behind.
    #[inline]
    pub fn is_congested(&self) -> bool {
        self.durable.as_ref().is_some_and(|durable| durable.tap.is_congested())
    }

    /// How the journal is; good without one.
    pub fn health(&self) -> Health {
        self.durable.as_ref().map_or(Health::Good, |durable| durable.tap.health())
    }

    /// The number of the record that the journal must keep before what was applied, read, listed or worked
    /// on since the last call may be answered; 0 when nothing is to be waited for.
    #[inline]
    pub fn take_gate(&mut self) -> u64 {
        self.durable.as_mut().map_or(0, |durable| std::mem::take(&mut durable.touched))
    }

    /// The same without forgetting it.
    #[inline(always)]
    pub fn touched(&self) -> u64 {
        self.durable.as_ref().map_or(0, |durable| durable.touched)
    }

    /// The number of the last record that the journal keeps.
    #[inline]
    pub fn kept(&self) -> u64 {
        self.durable.as_ref().map_or(0, |durable| durable.tap.kept())
    }

    /// Has the journal keep what one order has changed of the node itself.
    pub fn journal_node(&mut self, order: &NodeRecord) {
        if let Some(durable) = &mut self.durable {
            durable.touched = durable.tap.append(&order.record());
            #[cfg(test)]
            durable.told.extend(order.changes().iter().map(|(name, _)| (Namespace::NODE, name.to_vec())));
        }
    }

    /// What a listing that is answered now waits for: everything.
    pub fn touch_all(&mut self) {
        if let Some(durable) = &mut self.durable {
            durable.touched = durable.tap.appended();
        }
    }

    /// Why an operation cannot be, if the journal takes no record of it. That shows nothing of the key.
    #[inline(never)]
    pub(super) fn journal_refuses(&mut self, op: &Operation<'_>) -> Option<Outcome<'static>> {
        let durable = self.durable.as_mut()?;
        let makes_room = matches!(op.action, Action::Delete { .. });
        if let Some(refusal) = durable.tap.health().refuses(makes_room) {
            return Some(match refusal {
                Refusal::Full => Outcome::JournalFull,
                Refusal::Failed => Outcome::JournalFailed,
            });
        }
        durable.touch(op.hash);
        None
    }

    /// Why a call on a list cannot be, if the journal takes no record of it.
    pub(super) fn journal_refuses_list(&self, action: &ListAction) -> Option<ListOutcome> {
        self.health().refuses(matches!(action, ListAction::Purge)).map(|refusal| match refusal {
            Refusal::Full => ListOutcome::JournalFull,
            Refusal::Failed => ListOutcome::JournalFailed,
        })
    }

    /// Records what was evicted since the last time.
    pub(super) fn keep_evictions(&mut self) {
        let Shard { durable: Some(durable), store, .. } = self else { return };
        let touched = durable.touched;
        store.take_evicted(|namespace, key, hash| durable.remove(namespace, key, hash));
        // Who made room shows nothing of them.
        durable.touched = touched;
    }

    /// Records what an attempt to write did.
    #[inline(never)]
    pub(super) fn keep_put(&mut self, entry: &NewEntry<'_>, written: bool) {
        self.keep_evictions();
        let Some(durable) = &mut self.durable else { return };
        if !written {
            // The entry itself may have been evicted.
            return durable.touch(entry.hash);
        }
        let put = Put {
            namespace: entry.namespace,
            key: entry.key,
            version: entry.version,
            expires_ms: entry.expires_ms,
            lock: entry.lock,
            content_type: entry.content_type,
            encoding: entry.encoding,
            value: entry.value,
        };
        durable.append(entry.hash, &Record::Put(put));
    }

    /// Records what an attempt to give an entry another deadline and lock did.
    #[inline(never)]
    pub(super) fn keep_rewrite(&mut self, op: &Operation<'_>, was: Meta, new: NewMeta, done: bool, now: Now) {
        self.keep_evictions();
        let Shard { durable: Some(durable), store, .. } = self else { return };
        if !done {
            // It may have made way for itself.
            return durable.touch(op.hash);
        }
        let (namespace, key) = (op.namespace, op.key);
        let NewMeta { expires_ms, lock } = new;
        let is_put_off = was.expires_ms.is_some_and(|was| expires_ms.is_none_or(|new| new > was));
        let at = ListKey { namespace, key, hash: op.hash };
        let record = match store.peek(&at, now) {
            Some(entry) if is_put_off && let Walked::Value(view) = entry.kept => Record::Put(Put {
                namespace,
                key,
                version: view.version,
                expires_ms,
                lock,
                content_type: view.content_type,
                encoding: view.encoding,
                value: view.value,
            }),
            _ => Record::Rewrite { namespace, key, expires_ms, lock },
        };
        durable.append(op.hash, &record);
    }

    /// Records that a key was deleted.
    #[inline(never)]
    pub(super) fn keep_remove(&mut self, namespace: Namespace, key: &[u8], hash: u64) {
        self.keep_evictions();
        if let Some(durable) = &mut self.durable {
            durable.remove(namespace, key, hash);
        }
    }

    /// Records that a key is not there, though what is kept may have it.
    pub(super) fn keep_absent(&mut self, namespace: Namespace, key: &[u8], hash: u64) {
        let Some(durable) = self.durable.as_mut().filter(|durable| durable.lags) else { return };
        durable.lags = durable.tap.base_kept() == 0;
        if durable.lags {
            durable.remove(namespace, key, hash);
        }
    }
}
