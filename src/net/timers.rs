//! A timer wheel for deadlines that are nearly always put off before they fall due.
//!
//! A connection's deadline is a field of the connection; the wheel only remembers when to look at
//! it again. Putting a deadline off is a store to that field. When a slot comes round, what is not
//! due goes back in at its present deadline. Bringing a deadline forward adds an entry; the older
//! one finds its connection scheduled elsewhere and is dropped.
//!
//! All entries stand in one table, those of a slot as a list, so the passing of time allocates
//! nothing: the table grows with the number of entries, not with the slots they come to stand in.

use slab::Slab;

/// Width of a slot in milliseconds: how late a time-out may be.
const SLOT_MS: u64 = 64;

/// Slots of the wheel. What is further off goes round again.
const SLOTS: usize = 1_024;

/// What a slot holds: a connection's place and which of the users of that place.
pub type Entry = (u32, u32);

/// Where a list ends.
const NONE: u32 = u32::MAX;

/// An entry and the next one of its slot.
#[derive(Debug)]
struct Link {
    entry: Entry,
    next: u32,
}

/// The wheel of one reactor.
#[derive(Debug)]
pub struct Timers {
    /// The first link of each slot.
    slots: Vec<u32>,
    links: Slab<Link>,
    /// The slot up to which everything has been looked at.
    passed: u64,
    /// No entry is in a slot before this one.
    earliest: u64,
}

impl Timers {
    /// An empty wheel that starts at `now_ms`.
    pub fn new(now_ms: u64) -> Timers {
        let passed = now_ms / SLOT_MS;
        Timers { slots: vec![NONE; SLOTS], links: Slab::new(), passed, earliest: u64::MAX }
    }

    /// The slot in which a deadline is looked at: after it, never before.
    pub fn slot_of(&self, deadline_ms: u64) -> u64 {
        (deadline_ms / SLOT_MS + 1).clamp(self.passed + 1, self.passed + SLOTS as u64 - 1)
    }

    /// Has `entry` come out with the given slot, which [`Timers::slot_of`] gave.
    pub fn schedule(&mut self, slot: u64, entry: Entry) {
        let first = &mut self.slots[slot as usize % SLOTS];
        *first = self.links.insert(Link { entry, next: *first }) as u32;
        self.earliest = self.earliest.min(slot);
    }

    /// Moves up to `now_ms` and appends what came round to `due`, each with the slot it was in.
    pub fn advance(&mut self, now_ms: u64, due: &mut Vec<(u64, Entry)>) {
        let until = now_ms / SLOT_MS;
        if self.earliest > until {
            self.passed = self.passed.max(until);
            return;
        }
        // After a long sleep each slot is visited once, whatever the time that passed.
        let first = self.earliest.max(self.passed + 1);
        for slot in first..=until.min(first + SLOTS as u64 - 1) {
            let mut next = std::mem::replace(&mut self.slots[slot as usize % SLOTS], NONE);
            while let Some(link) = self.links.try_remove(next as usize) {
                due.push((slot, link.entry));
                next = link.next;
            }
        }
        self.passed = until;
        self.earliest = (until + 1..until + SLOTS as u64)
            .find(|slot| self.slots[*slot as usize % SLOTS] != NONE)
            .unwrap_or(u64::MAX);
    }

    /// Milliseconds until something comes round, if anything will.
    pub fn sleep_ms(&self, now_ms: u64) -> Option<u64> {
        (self.earliest != u64::MAX).then(|| (self.earliest * SLOT_MS).saturating_sub(now_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::{SLOT_MS, SLOTS, Timers};

    fn due(timers: &mut Timers, now_ms: u64) -> Vec<u32> {
        let mut due = Vec::new();
        timers.advance(now_ms, &mut due);
        due.into_iter().map(|(_, (connection, _))| connection).collect()
    }

    #[test]
    fn an_entry_comes_out_after_its_deadline_and_within_a_slot() {
        let mut timers = Timers::new(1_000_000);
        let slot = timers.slot_of(1_000_500);
        timers.schedule(slot, (1, 0));
        assert!(due(&mut timers, 1_000_500).is_empty());
        assert_eq!(due(&mut timers, 1_000_500 + SLOT_MS), [1]);
        assert_eq!(timers.sleep_ms(2_000_000), None);
    }

    #[test]
    fn a_deadline_beyond_the_wheel_comes_out_at_its_rim() {
        let mut timers = Timers::new(0);
        let far = SLOT_MS * SLOTS as u64 * 3;
        let slot = timers.slot_of(far);
        timers.schedule(slot, (1, 0));
        assert!(timers.sleep_ms(0).unwrap() < far);
        assert_eq!(due(&mut timers, SLOT_MS * SLOTS as u64), [1]);
    }

    #[test]
    fn nothing_is_lost_over_a_long_sleep() {
        let mut timers = Timers::new(0);
        for connection in 0..100 {
            let slot = timers.slot_of(u64::from(connection) * 500);
            timers.schedule(slot, (connection, 0));
        }
        assert_eq!(due(&mut timers, 10_000_000).len(), 100);
        let slot = timers.slot_of(10_000_100);
        timers.schedule(slot, (7, 0));
        assert_eq!(timers.sleep_ms(10_000_000).map(|ms| ms <= 2 * SLOT_MS + 100), Some(true));
        assert_eq!(due(&mut timers, 10_000_300), [7]);
    }
}
