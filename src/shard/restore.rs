//! Brings back what a journal kept, record by record.
//!
//! Records come in the order of their stream, and the last one about a key decides. What is past its time
//! is left out at once: a record that puts a deadline off carries the whole entry, so nothing that comes
//! later counts on what was left out. The journal is attached when all are back.

use super::apply::Shard;
use super::bytes::framed;
use crate::clock::{Now, Version};
use crate::journal::{ListChange, Put, PutList, Record};
use crate::op::Namespace;
use crate::primitive;
use crate::store::{Kept, ListKey, ListView, NewEntry, NewMeta, Pushed, ShortList, Value, WriteError};

/// Why a record could not be brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// What was kept is over the ceiling of the shard, and nothing may be dropped.
    Full {
        /// Bytes of the entry that found no room.
        entry_bytes: u64,
        /// Bytes that the shard takes.
        held_bytes: u64,
        /// Bytes that it may take.
        ceiling_bytes: u64,
    },
    /// An entry of so many bytes is over what a shard of this ceiling can hold at all.
    TooLarge {
        /// Bytes of the entry.
        entry_bytes: u64,
        /// Bytes that the shard may take.
        ceiling_bytes: u64,
    },
    /// A list with something in it that is no value.
    Malformed,
    /// It is of a database that is not there. Whoever brings back leaves out what is.
    Closed,
}

impl Shard {
    /// Brings back what a record of its journal says, or of another shard's for keys that are its own
    /// now. Records of the node itself are none of its business.
    ///
    /// # Errors
    /// When there is no room for it, or a list is not well-formed.
    pub fn restore(&mut self, record: &Record<'_>, now: Now) -> Result<(), RestoreError> {
        self.versions.raise(record.version_max());
        // What was kept may be longer than what is taken now.
        let limit = self.store.set_value_bytes_max(usize::MAX);
        let restored = match record {
            Record::Put(put) => self.restore_put(put, now),
            Record::Rewrite { namespace, key, expires_ms, lock } => {
                let new = NewMeta { expires_ms: *expires_ms, lock: *lock };
                self.restore_rewrite(*namespace, key, new, now)
            }
            Record::Remove { namespace, key } => {
                self.drop_kept(*namespace, key, now);
                Ok(())
            }
            Record::PutList(list) => self.restore_list(list, now),
            Record::Append(change) => self.restore_change(change, Shard::append_kept, now),
            Record::Withdraw(change) => self.restore_change(change, Shard::withdraw_kept, now),
            Record::Node(_) => Ok(()),
        };
        self.store.set_value_bytes_max(limit);
        restored
    }

    /// Sees to it that versions and tokens from now on are above this one.
    pub fn raise_clock(&mut self, version: Version) {
        self.versions.raise(version);
    }

    fn restore_put(&mut self, put: &Put<'_>, now: Now) -> Result<(), RestoreError> {
        if is_over(put.expires_ms, now) {
            self.drop_kept(put.namespace, put.key, now);
            return Ok(());
        }
        let entry = NewEntry {
            namespace: put.namespace,
            key: put.key,
            hash: self.store.hash(put.namespace, put.key),
            version: put.version,
            expires_ms: put.expires_ms,
            lock: put.lock,
            content_type: put.content_type,
            encoding: put.encoding,
            value: put.value,
        };
        let written = self.store.write(&entry, now);
        written.map_err(|why| self.no_room(why, put.key.len() + put.value.bytes().len()))
    }

    fn restore_rewrite(
        &mut self,
        namespace: Namespace,
        key: &[u8],
        new: NewMeta,
        now: Now,
    ) -> Result<(), RestoreError> {
        if is_over(new.expires_ms, now) {
            self.drop_kept(namespace, key, now);
            return Ok(());
        }
        let hash = self.store.hash(namespace, key);
        let rewritten = self.store.rewrite(namespace, key, hash, new, now);
        rewritten.map(|_| ()).map_err(|why| self.no_room(why, key.len()))
    }

    fn drop_kept(&mut self, namespace: Namespace, key: &[u8], now: Now) {
        let hash = self.store.hash(namespace, key);
        self.store.remove(namespace, key, hash, now);
    }

    fn restore_list(&mut self, list: &PutList<'_>, now: Now) -> Result<(), RestoreError> {
        if is_over(list.expires_ms, now) {
            self.drop_kept(list.namespace, list.key, now);
            return Ok(());
        }
        let hash = self.store.hash(list.namespace, list.key);
        let at = ListKey { namespace: list.namespace, key: list.key, hash };
        let change = ListChange {
            namespace: list.namespace,
            key: list.key,
            version: list.version,
            values: list.values,
        };
        self.extend_short(&at, ShortList::default(), &change, list.expires_ms, now)
    }

    /// Changes a list, unless it is absent or has the change already.
    fn restore_change(
        &mut self,
        change: &ListChange<'_>,
        apply: impl FnOnce(&mut Shard, &ListKey<'_>, &ListChange<'_>, Now) -> Result<(), RestoreError>,
        now: Now,
    ) -> Result<(), RestoreError> {
        let hash = self.store.hash(change.namespace, change.key);
        let at = ListKey { namespace: change.namespace, key: change.key, hash };
        match self.store.find_list(&at, now) {
            Some(view) if view.version < change.version => apply(self, &at, change, now),
            _ => Ok(()),
        }
    }

    fn append_kept(
        &mut self,
        at: &ListKey<'_>,
        change: &ListChange<'_>,
        now: Now,
    ) -> Result<(), RestoreError> {
        let Some(view) = self.store.find_list(at, now) else { return Ok(()) };
        if let ListView { kept: Kept::Short(records), expires_ms, .. } = view {
            let short = ShortList::copy_of(records);
            return self.extend_short(at, short, change, expires_ms, now);
        }
        for text in framed(change.values.bytes()) {
            let value = value(text)?;
            let hash = self.store.hash_value(value.canonical());
            match self.store.push_in_place(at, &value, hash, change.version, now) {
                Ok(Pushed::New | Pushed::Known) => {}
                // It made way for its own growth.
                Ok(Pushed::Gone) => return Ok(()),
                Err(why) => return Err(self.no_room(why, change.values.bytes().len())),
            }
        }
        self.store.date_list(at, change.version);
        Ok(())
    }

    fn withdraw_kept(
        &mut self,
        at: &ListKey<'_>,
        change: &ListChange<'_>,
        now: Now,
    ) -> Result<(), RestoreError> {
        let Some(view) = self.store.find_list(at, now) else { return Ok(()) };
        if let ListView { kept: Kept::Short(records), expires_ms, .. } = view {
            let mut short = ShortList::copy_of(records);
            for text in framed(change.values.bytes()) {
                short.remove(value(text)?.canonical());
            }
            let written = self.store.write_short(at, &short, change.version, expires_ms, now);
            return written.map_err(|why| self.no_room(why, short.records().len()));
        }
        for text in framed(change.values.bytes()) {
            let value = value(text)?;
            let hash = self.store.hash_value(value.canonical());
            let Some(ListView { kept: Kept::Long(list), .. }) = self.store.find_list(at, now) else {
                return Ok(());
            };
            if let Some(place) = list.find(value.canonical(), hash) {
                self.store.remove_in_place(at, place, change.version);
            }
        }
        self.store.date_list(at, change.version);
        self.store.shorten(at, now);
        Ok(())
    }

    /// Writes a short list with further values, without those of them that it has; as a long one when
    /// they are too many.
    fn extend_short(
        &mut self,
        at: &ListKey<'_>,
        mut short: ShortList,
        change: &ListChange<'_>,
        expires_ms: Option<u64>,
        now: Now,
    ) -> Result<(), RestoreError> {
        let entry_bytes = short.records().len() + change.values.bytes().len();
        let mut long = None;
        let mut refused = None;
        for text in framed(change.values.bytes()) {
            let pushed = value(text).and_then(|value| {
                self.push_kept(&mut short, &mut long, &value, now)
                    .map_err(|why| self.no_room(why, entry_bytes))
            });
            refused = pushed.err();
            if refused.is_some() {
                break;
            }
        }
        if refused.is_none() {
            let written = match long {
                None => self.store.write_short(at, &short, change.version, expires_ms, now),
                Some(number) => self.store.attach(at, number, change.version, expires_ms, now),
            };
            refused = written.err().map(|why| self.no_room(why, entry_bytes));
        }
        let Some(refused) = refused else { return Ok(()) };
        long.into_iter().for_each(|number| self.store.drop_aside(number));
        Err(refused)
    }

    /// Adds a value to a short list, or to the long one aside that it has become.
    fn push_kept(
        &mut self,
        short: &mut ShortList,
        long: &mut Option<u32>,
        value: &Value<'_>,
        now: Now,
    ) -> Result<(), WriteError> {
        let number = match *long {
            Some(number) => number,
            None if short.contains(value.canonical()) || short.push(value) => return Ok(()),
            None => *long.insert(self.store.lengthen(short, now)?),
        };
        let hash = self.store.hash_value(value.canonical());
        self.store.push_aside(number, value, hash, now).map(|_| ())
    }

    fn no_room(&self, why: WriteError, entry_bytes: usize) -> RestoreError {
        let (entry_bytes, ceiling_bytes) = (entry_bytes as u64, self.store.ceiling_bytes());
        match why {
            WriteError::Full => {
                RestoreError::Full { entry_bytes, held_bytes: self.store.memory_bytes(), ceiling_bytes }
            }
            WriteError::TooLarge => RestoreError::TooLarge { entry_bytes, ceiling_bytes },
            WriteError::Closed => RestoreError::Closed,
        }
    }
}

fn is_over(expires_ms: Option<u64>, now: Now) -> bool {
    expires_ms.is_some_and(|expires_ms| expires_ms <= now.unix_ms)
}

fn value(text: Option<&[u8]>) -> Result<Value<'_>, RestoreError> {
    let whole = text.filter(|text| primitive::end_of(text, 0) == Ok(text.len()));
    whole.and_then(|text| Value::of(text).ok()).ok_or(RestoreError::Malformed)
}
