//! Lists names in byte order, page by page, out of an index that has no order.
//!
//! A page is one pass over all tables of the index that keeps the smallest names past the cursor in
//! a heap. A pass is resumed table by table, so that a reactor can slice it into turns: a key never
//! changes its table, and a table is read whole within one slice, so what is there throughout is
//! neither missed nor doubled, whatever grows, moves or goes between slices. The cost of a page is
//! that of looking at every entry of the shard.
//!
//! A [`Sweep`] brings entries with their values instead, in the order of the tables and, within one, of
//! their hashes, so that a whole namespace is read in one pass, as much of it at a time as is wanted.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::log::Position;
use super::{Store, View};
use crate::clock::{Now, Version};
use crate::memory::Large;
use crate::op::{Encoding, Namespace, Payload};

/// Entries read ahead within a table.
const SCAN_BATCH: usize = 16;

/// A name of a page with what is known of its entry. Ordered by name, of which a page has each once.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The key.
    pub name: Vec<u8>,
    /// Length of the value in bytes.
    pub size: u64,
    /// When its bytes were written.
    pub version: Version,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_ms: Option<u64>,
    /// Its content type.
    pub content_type: Vec<u8>,
    /// How its bytes are encoded.
    pub encoding: Encoding,
}

impl Ord for Listed {
    fn cmp(&self, other: &Listed) -> Ordering {
        self.name.cmp(&other.name)
    }
}

impl PartialOrd for Listed {
    fn partial_cmp(&self, other: &Listed) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Listed {
    fn eq(&self, other: &Listed) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Listed {}

/// What is gone through: a page of names, or entries.
#[derive(Clone, Debug)]
pub enum Scan {
    /// A page of names.
    Page(Page),
    /// Entries.
    Sweep(Sweep),
}

/// A page in the making.
#[derive(Clone, Debug)]
pub struct Page {
    prefix: Vec<u8>,
    after: Vec<u8>,
    limit: usize,
    /// The smallest names so far, the largest of them on top.
    found: BinaryHeap<Listed>,
    more: bool,
    next_table: usize,
}

/// Where a sweep goes on: at a table, behind a hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    table: usize,
    after: Option<u64>,
}

/// What is brought of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brought {
    /// Their number.
    Count,
    /// Their names.
    Names,
    /// Names and values, up to the first large one.
    Values,
}

/// An entry that a sweep brings.
#[derive(Clone, Debug)]
pub struct Swept {
    /// Its name.
    pub name: Vec<u8>,
    /// Its value, if values are brought.
    pub value: SweptValue,
}

/// A value that a sweep brings.
#[derive(Clone, Debug)]
pub enum SweptValue {
    /// Copied.
    Bytes(Vec<u8>),
    /// Shared.
    Large(Large),
}

impl std::ops::Deref for SweptValue {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            SweptValue::Bytes(bytes) => bytes,
            SweptValue::Large(large) => large,
        }
    }
}

/// Entries in the making.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// What is brought.
    brought: Brought,
    prefix: Vec<u8>,
    bytes_max: usize,
    entries_max: usize,
    place: Place,
    bytes: usize,
    is_full: bool,
    /// How many there are, when they are counted.
    pub count: u64,
    /// What was found.
    pub found: Vec<Swept>,
    /// Where to go on; `None` when that was all.
    pub next: Option<Place>,
}

impl Sweep {
    /// Goes on at `place` for about so many bytes and at most so many entries, those whose names begin with
    /// `prefix`.
    pub fn at(place: Place, brought: Brought, prefix: &[u8], bytes_max: usize, entries_max: usize) -> Sweep {
        Sweep {
            brought,
            prefix: prefix.to_vec(),
            bytes_max,
            entries_max,
            place,
            bytes: 0,
            is_full: false,
            count: 0,
            found: Vec::new(),
            next: None,
        }
    }

    fn keep(&mut self, name: &[u8], view: &View<'_>) {
        let value = match view.value {
            _ if self.brought == Brought::Names => SweptValue::Bytes(Vec::new()),
            Payload::Bytes(bytes) => SweptValue::Bytes(bytes.to_vec()),
            Payload::Large(large) => {
                self.is_full = true;
                SweptValue::Large(large.clone())
            }
        };
        self.bytes += name.len();
        if let SweptValue::Bytes(bytes) = &value {
            self.bytes += bytes.len();
        }
        self.found.push(Swept { name: name.to_vec(), value });
        self.is_full |= self.bytes >= self.bytes_max || self.found.len() >= self.entries_max;
    }
}

impl Scan {
    /// A page of at most `limit` names that start with `prefix` and come after `after` in byte order; an
    /// empty `after` is the start.
    pub fn page(prefix: &[u8], after: &[u8], limit: usize) -> Scan {
        Scan::Page(Page::new(prefix, after, limit))
    }

    /// The names in byte order, and whether there are more behind them. None but of a page.
    pub fn into_page(self) -> (Vec<Listed>, bool) {
        match self {
            Scan::Page(page) => page.into_page(),
            Scan::Sweep(_) => (Vec::new(), false),
        }
    }
}

impl Page {
    /// A page of at most `limit` names that start with `prefix` and come after `after` in byte
    /// order; an empty `after` is the start.
    pub fn new(prefix: &[u8], after: &[u8], limit: usize) -> Page {
        Page {
            prefix: prefix.to_vec(),
            after: after.to_vec(),
            limit,
            found: BinaryHeap::with_capacity(limit + 1),
            more: false,
            next_table: 0,
        }
    }

    /// The names in byte order, and whether there are more behind them.
    pub fn into_page(self) -> (Vec<Listed>, bool) {
        (self.found.into_sorted_vec(), self.more)
    }

    /// Whether a name belongs on the page as far as is known.
    fn wants(&mut self, name: &[u8]) -> bool {
        if name <= &*self.after || !name.starts_with(&self.prefix) {
            return false;
        }
        if self.found.len() < self.limit {
            return true;
        }
        self.more = true;
        self.found.peek().is_some_and(|largest| name < &*largest.name)
    }

    fn keep(&mut self, listed: Listed) {
        self.found.push(listed);
        if self.found.len() > self.limit {
            self.found.pop();
        }
    }
}

impl Store {
    /// Goes on with a scan: looks at whole tables until at least this many entries were looked at. True when
    /// it is done.
    pub fn scan(&self, namespace: Namespace, scan: &mut Scan, budget_entries: usize, now: Now) -> bool {
        let Some(space) = self.spaces.of(namespace) else { return true };
        let mut looked_at = 0;
        match scan {
            Scan::Page(page) => {
                while page.next_table < self.index.tables() && looked_at < budget_entries {
                    looked_at += 1 + self.scan_table(space, page, now);
                    page.next_table += 1;
                }
                page.next_table == self.index.tables()
            }
            Scan::Sweep(sweep) => {
                while sweep.place.table < self.index.tables() && looked_at < budget_entries {
                    looked_at += 1 + self.sweep_table(space, sweep, now);
                    if sweep.is_full {
                        sweep.next = Some(sweep.place);
                        return true;
                    }
                    sweep.place = Place { table: sweep.place.table + 1, after: None };
                }
                sweep.place.table == self.index.tables()
            }
        }
    }

    fn scan_table(&self, space: u32, page: &mut Page, now: Now) -> usize {
        self.for_each_in_table(page.next_table, |position| {
            let (header, bytes) = self.log.entry(position);
            let name = header.key(bytes);
            if header.space != space || header.expired(now) || !page.wants(name) {
                return;
            }
            let view = self.view(&header, bytes, now);
            page.keep(Listed {
                name: name.to_vec(),
                size: view.value.bytes().len() as u64,
                version: view.version,
                expires_ms: view.expires_ms,
                content_type: view.content_type.to_vec(),
                encoding: view.encoding,
            });
        })
    }

    /// Brings what a table has of a space, in the order of the hashes, until the sweep is full. Equal hashes
    /// are not parted.
    fn sweep_table(&self, space: u32, sweep: &mut Sweep, now: Now) -> usize {
        let after = sweep.place.after;
        let mut here: Vec<(u64, Position)> = Vec::new();
        let looked_at = self.for_each_in_table(sweep.place.table, |position| {
            let (header, bytes) = self.log.entry(position);
            let name = header.key(bytes);
            if header.space != space || header.expired(now) || !name.starts_with(&sweep.prefix) {
                return;
            }
            if sweep.brought == Brought::Count {
                sweep.count += 1;
                return;
            }
            let hash = self.hash_at(position);
            if after.is_none_or(|after| hash > after) {
                here.push((hash, position));
            }
        });
        here.sort_unstable_by_key(|(hash, _)| *hash);
        let mut here = here.into_iter().peekable();
        while let Some((hash, position)) = here.next() {
            let (header, bytes) = self.log.entry(position);
            sweep.keep(header.key(bytes), &self.view(&header, bytes, now));
            let is_parted = here.peek().is_some_and(|(next, _)| *next != hash);
            if sweep.is_full && is_parted {
                sweep.place.after = Some(hash);
                return looked_at;
            }
        }
        if sweep.is_full {
            // With the last of the table: the next one is where to go on.
            sweep.place = Place { table: sweep.place.table + 1, after: None };
        }
        looked_at
    }

    /// Looks at every position of a table, with those ahead on their way. Answers how many there are.
    fn for_each_in_table(&self, table: usize, mut look: impl FnMut(Position)) -> usize {
        let mut looked_at = 0;
        let mut ahead = self.index.slots_of(table);
        ahead.by_ref().take(SCAN_BATCH).for_each(|slot| self.log.prefetch(slot.position()));
        for slot in self.index.slots_of(table) {
            if let Some(slot) = ahead.next() {
                self.log.prefetch(slot.position());
            }
            looked_at += 1;
            look(slot.position());
        }
        looked_at
    }
}
