//! Which entries were evicted, for a journal: it must know, or they would be back after a restart.
//!
//! Noted only on demand, in buffers that are used again, so that a write that evicts allocates nothing.

use super::Store;
use super::log::Position;
use crate::op::Namespace;

/// Bytes of keys, and entries, that the buffers keep room for.
const KEPT_BYTES: usize = 64 * 1_024;
const KEPT_ENTRIES: usize = 4 * 1_024;

/// Entries that were evicted and not yet asked for.
#[derive(Debug)]
pub struct Evicted {
    entries: Vec<Gone>,
    keys: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Gone {
    namespace: Namespace,
    hash: u64,
    /// Its key ends here in `keys`.
    key_end: usize,
}

impl Store {
    /// Has every eviction noted from now on, for [`Store::take_evicted`].
    pub fn note_evictions(&mut self) {
        self.evicted = Some(Box::new(Evicted {
            entries: Vec::with_capacity(KEPT_ENTRIES),
            keys: Vec::with_capacity(KEPT_BYTES),
        }));
    }

    /// Calls `each` with namespace, key and hash of all entries evicted since the last time, in the order
    /// in which they went.
    pub fn take_evicted(&mut self, mut each: impl FnMut(Namespace, &[u8], u64)) {
        let Some(Evicted { entries, keys }) = self.evicted.as_deref_mut() else { return };
        if entries.is_empty() {
            return;
        }
        let mut start = 0;
        for gone in entries.drain(..) {
            each(gone.namespace, &keys[start..gone.key_end], gone.hash);
            start = gone.key_end;
        }
        keys.clear();
        // A write of a large value may have evicted a great many.
        entries.shrink_to(KEPT_ENTRIES);
        keys.shrink_to(KEPT_BYTES);
    }

    /// Notes an entry that is about to go.
    #[inline]
    pub(super) fn note_eviction(&mut self, position: Position, hash: u64) {
        let Some(Evicted { entries, keys }) = self.evicted.as_deref_mut() else { return };
        let (header, bytes) = self.log.entry(position);
        keys.extend_from_slice(header.key(bytes));
        let namespace = self.spaces.namespace(header.space);
        entries.push(Gone { namespace, hash, key_end: keys.len() });
    }
}
