//! Lists names in byte order, page by page, out of an index that has no order.
//!
//! A page is one pass over all tables of the index that keeps the smallest names past the cursor in
//! a heap. A pass is resumed table by table, so that a reactor can slice it into turns: a key never
//! changes its table, and a table is read whole within one slice, so what is there throughout is
//! neither missed nor doubled, whatever grows, moves or goes between slices. The cost of a page is
//! that of looking at every entry of the shard.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::Store;
use crate::clock::{Now, Version};
use crate::op::{Encoding, Namespace};

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

/// A page in the making.
#[derive(Clone, Debug)]
pub struct Scan {
    prefix: Vec<u8>,
    after: Vec<u8>,
    limit: usize,
    /// The smallest names so far, the largest of them on top.
    found: BinaryHeap<Listed>,
    more: bool,
    next_table: usize,
}

impl Scan {
    /// A page of at most `limit` names that start with `prefix` and come after `after` in byte
    /// order; an empty `after` is the start.
    pub fn new(prefix: &[u8], after: &[u8], limit: usize) -> Scan {
        Scan {
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
    /// Goes on with a page: looks at whole tables until at least this many entries were looked at.
    /// True when the page is done.
    pub fn scan(&self, namespace: Namespace, scan: &mut Scan, budget_entries: usize, now: Now) -> bool {
        let Some(space) = self.spaces.of(namespace) else { return true };
        let mut looked_at = 0;
        while scan.next_table < self.index.tables() && looked_at < budget_entries {
            looked_at += 1 + self.scan_table(space, scan, now);
            scan.next_table += 1;
        }
        scan.next_table == self.index.tables()
    }

    fn scan_table(&self, space: u32, scan: &mut Scan, now: Now) -> usize {
        let mut looked_at = 0;
        let mut ahead = self.index.slots_of(scan.next_table);
        ahead.by_ref().take(SCAN_BATCH).for_each(|slot| self.log.prefetch(slot.position()));
        for slot in self.index.slots_of(scan.next_table) {
            if let Some(slot) = ahead.next() {
                self.log.prefetch(slot.position());
            }
            looked_at += 1;
            let (header, bytes) = self.log.entry(slot.position());
            let name = header.key(bytes);
            if header.space != space || header.expired(now) || !scan.wants(name) {
                continue;
            }
            let view = self.view(&header, bytes, now);
            scan.keep(Listed {
                name: name.to_vec(),
                size: view.value.bytes().len() as u64,
                version: view.version,
                expires_ms: view.expires_ms,
                content_type: view.content_type.to_vec(),
                encoding: view.encoding,
            });
        }
        looked_at
    }
}
