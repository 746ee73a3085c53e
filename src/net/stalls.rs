//! Clients that are slow to read a large value, in the order in which they became so.
//!
//! A value stays in memory until the last of its readers is through with it, whether a store has it or
//! not. Those that no store has are bounded (`memory`), and beyond it the oldest of these clients is
//! closed. Entries of clients that have read on since are dropped when they are come upon, so that a
//! stall costs no more than being noted.

use std::collections::VecDeque;

/// Entries that are kept before those of clients that have read on are looked for.
const ENTRIES_MIN: usize = 1_024;

/// What a client has not read of large values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Since when, in Unix milliseconds.
    pub since_ms: u64,
    /// Whether some of it is in no store any more.
    pub has_left: bool,
}

/// A reactor's slow clients.
#[derive(Debug, Default)]
pub struct Stalls {
    entries: VecDeque<Entry>,
    /// At this many entries, there is somebody to forget.
    full: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    since_ms: u64,
    id: u32,
    generation: u32,
}

impl Stalls {
    /// A client has become slow.
    pub fn push(&mut self, since_ms: u64, id: u32, generation: u32) {
        self.entries.push_back(Entry { since_ms, id, generation });
    }

    /// Since when the first of them has been slow, if it still is; `u64::MAX` without any.
    pub fn since_ms(&self) -> u64 {
        self.entries.front().map_or(u64::MAX, |entry| entry.since_ms)
    }

    /// Whether there are so many entries that [`Stalls::forget`] is due.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.full.max(ENTRIES_MIN)
    }

    /// Drops the entries of those who have read on. Pays for itself: it is due when their number has
    /// doubled.
    pub fn forget(&mut self, unread: impl Fn(u32, u32) -> Option<Unread>) {
        self.entries.retain(|entry| {
            unread(entry.id, entry.generation).is_some_and(|unread| unread.since_ms == entry.since_ms)
        });
        self.full = 2 * self.entries.len();
    }

    /// Since when the client has been slow that holds a value no store has for longest, and its id.
    pub fn oldest(&mut self, unread: impl Fn(u32, u32) -> Option<Unread>) -> Option<(u64, u32)> {
        self.forget(&unread);
        let has_left =
            |entry: &&Entry| unread(entry.id, entry.generation).is_some_and(|unread| unread.has_left);
        self.entries.iter().find(has_left).map(|entry| (entry.since_ms, entry.id))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{ENTRIES_MIN, Stalls, Unread};

    #[test]
    fn the_oldest_that_holds_what_no_store_has_is_found_and_the_others_are_forgotten() {
        let mut stalls = Stalls::default();
        let mut unread = HashMap::new();
        for (id, since_ms, has_left) in [(4, 10, false), (3, 11, true), (7, 12, true)] {
            stalls.push(since_ms, id, 1);
            unread.insert((id, 1), Unread { since_ms, has_left });
        }
        let look = |unread: &HashMap<(u32, u32), Unread>| {
            let unread = unread.clone();
            move |id, generation| unread.get(&(id, generation)).copied()
        };
        assert_eq!(stalls.oldest(look(&unread)), Some((11, 3)));
        // It has read on, and is slow again.
        unread.insert((3, 1), Unread { since_ms: 20, has_left: true });
        stalls.push(20, 3, 1);
        assert_eq!(stalls.oldest(look(&unread)), Some((12, 7)));
        assert_eq!(stalls.entries.len(), 3);
        // Its place has gone to another.
        unread.remove(&(7, 1));
        assert_eq!(stalls.oldest(look(&unread)), Some((20, 3)));
        unread.clear();
        assert_eq!(stalls.oldest(look(&unread)), None);
        assert!(stalls.entries.is_empty());
    }

    #[test]
    fn clients_that_read_on_do_not_pile_up() {
        let mut stalls = Stalls::default();
        for round in 0..100_000 {
            stalls.push(round, 1, 1);
            if stalls.is_full() {
                stalls.forget(|_, _| Some(Unread { since_ms: round, has_left: false }));
                assert_eq!(stalls.entries.len(), 1);
            }
        }
        assert!(stalls.entries.len() <= ENTRIES_MIN);
    }
}
