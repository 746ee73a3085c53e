//! Walks along everything there is, a slice at a time: for a live set, a dump, a snapshot.
//!
//! The walk goes from table to table of the index. Of each it first takes down the hashes, in one go and
//! in their order, then looks up one after the other. A key never changes its table, and what has a hash
//! is found by it wherever the entry lies by then. So an entry that is there from beginning to end is met
//! exactly once, whatever is written, moved, deleted or rebuilt between slices; one that comes or goes
//! meanwhile is met at most once.
//!
//! A walk counts as no use of what it meets.

use super::entry::Header;
use super::index::Entries;
use super::lists::{Kept, ListKey, ListView};
use super::log::Position;
use super::{Keys, Store, View};
use crate::clock::Now;
use crate::op::Namespace;

/// Entries read ahead.
const AHEAD: usize = 16;

/// So many hashes taken down cost as much as one entry met.
const HASHES_PER_ENTRY: usize = 4;

/// How far a walk has come.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    next_table: usize,
    /// Of the table before that one: hashes of entries that are still to be met, the last one next.
    hashes: Vec<u64>,
}

/// What a slice of a walk may take. It ends with the entry that uses either up.
#[derive(Clone, Copy, Debug)]
pub struct WalkBudget {
    /// Entries met. Looking into tables counts too.
    pub entries: usize,
    /// Bytes of their keys and values.
    pub bytes: usize,
}

/// An entry that a walk meets.
#[derive(Clone, Copy, Debug)]
pub struct WalkEntry<'a> {
    /// The space of the key.
    pub namespace: Namespace,
    /// The key.
    pub key: &'a [u8],
    /// [`crate::op::KeyHasher::hash`] of namespace and key.
    pub hash: u64,
    /// What it holds.
    pub kept: Walked<'a>,
}

/// What an entry holds.
#[derive(Clone, Copy, Debug)]
pub enum Walked<'a> {
    /// A value. Its lock is shown as long as its lease runs.
    Value(View<'a>),
    /// A list.
    List(ListView<'a>),
}

impl<'a> WalkEntry<'a> {
    /// Bytes of key and value.
    pub fn bytes(&self) -> usize {
        self.key.len()
            + match &self.kept {
                Walked::Value(view) => view.value.bytes().len(),
                Walked::List(ListView { kept: Kept::Short(records), .. }) => records.len(),
                Walked::List(ListView { kept: Kept::Long(list), .. }) => list.text_bytes() as usize,
            }
    }

    /// Where the list is, for what is asked of one.
    pub fn at(&self) -> ListKey<'a> {
        ListKey { namespace: self.namespace, key: self.key, hash: self.hash }
    }
}

impl Walk {
    /// Before the first entry.
    pub fn new() -> Walk {
        Walk::default()
    }
}

impl Store {
    /// Goes on with a walk: calls `visit` with each entry that it meets, until the budget is used up. True
    /// when everything was met.
    pub fn walk(
        &self,
        walk: &mut Walk,
        mut budget: WalkBudget,
        now: Now,
        mut visit: impl FnMut(WalkEntry<'_>),
    ) -> bool {
        loop {
            while let Some(hash) = walk.hashes.pop() {
                if let Some(ahead) = walk.hashes.len().checked_sub(AHEAD) {
                    self.prefetch_entry(walk.hashes[ahead]);
                }
                budget.spend(1, 0);
                self.index.for_each_candidate(hash, |position| {
                    if let Some(entry) = self.met(position, now)
                        && entry.hash == hash
                    {
                        budget.spend(0, entry.bytes());
                        visit(entry);
                    }
                });
                if budget.is_spent() {
                    return walk.hashes.is_empty() && walk.next_table == self.index.tables();
                }
            }
            if walk.next_table == self.index.tables() {
                return true;
            }
            if budget.is_spent() {
                return false;
            }
            self.take_down(walk);
            budget.spend(1 + walk.hashes.len() / HASHES_PER_ENTRY, 0);
        }
    }

    /// An entry, unless it is absent or past its time. Counts as no use of it.
    pub fn peek(&self, at: &ListKey<'_>, now: Now) -> Option<WalkEntry<'_>> {
        let (slot, ..) = self.look_up(self.spaces.of(at.namespace)?, at.key, at.hash)?;
        self.met(slot.position(), now)
    }

    /// Takes the hashes of the next table down.
    fn take_down(&self, walk: &mut Walk) {
        let keys = Keys { log: &self.log, spaces: &self.spaces, hasher: &self.hasher };
        let mut ahead = self.index.slots_of(walk.next_table);
        ahead.by_ref().take(AHEAD).for_each(|slot| keys.prefetch_at(slot.position()));
        for slot in self.index.slots_of(walk.next_table) {
            if let Some(slot) = ahead.next() {
                keys.prefetch_at(slot.position());
            }
            walk.hashes.push(keys.hash_at(slot.position()));
        }
        // Two keys of one hash are met together.
        walk.hashes.sort_unstable_by(|one, other| other.cmp(one));
        walk.hashes.dedup();
        walk.next_table += 1;
    }

    fn met(&self, position: Position, now: Now) -> Option<WalkEntry<'_>> {
        let (header, bytes) = self.log.entry(position);
        if header.expired(now) || self.spaces.is_retired(header.space) {
            return None;
        }
        let namespace = self.spaces.namespace(header.space);
        let key = header.key(bytes);
        let kept = match namespace.holds_lists() {
            false => Walked::Value(self.view(&header, bytes, now)),
            true => Walked::List(self.list_view(&header, bytes)),
        };
        Some(WalkEntry { namespace, key, hash: self.hasher.hash(namespace, key), kept })
    }

    pub(super) fn list_view<'a>(&'a self, header: &Header, bytes: &'a [u8]) -> ListView<'a> {
        let (version, kept) = match header.large_number(bytes) {
            None => (header.version, Kept::Short(header.value(bytes))),
            Some(number) => {
                let list = self.lists.get(number);
                (list.version, Kept::Long(list))
            }
        };
        ListView { version, expires_ms: header.expires_ms, kept }
    }
}

impl WalkBudget {
    fn is_spent(&self) -> bool {
        self.entries == 0 || self.bytes == 0
    }

    fn spend(&mut self, entries: usize, bytes: usize) {
        self.entries = self.entries.saturating_sub(entries);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}
