//! Remembers which keys were evicted lately, and from which queue, by fingerprint.
//!
//! A key that is written again soon after its eviction left too early: it goes to the main queue at
//! once, and the queue that it left gets more room (`eviction`). The queues have tables of their own,
//! because the small one evicts far more often and would drive the others out. Fingerprints have 16 bits
//! and stand in rows of eight, a row being a little queue of its own: two bytes for each ghost, one cache
//! line for each question, and one wrong yes in about 8,000. A wrong answer costs a little of the hit
//! ratio, never a value.

use super::log::Queue;

/// Ghosts in a row.
const ROW: usize = 8;

/// One row: newest first, 0 where there is none.
type Row = [u16; ROW];

/// The memory of the shard that one ghost is provided for, in bytes: about one for each entry of a
/// shard full of small ones.
const MEMORY_BYTES_PER_GHOST: u64 = 128;

/// How many entries there are for each two ghosts of the small queue and three of the main one. Those from
/// the main one must be remembered for longer, else the small one grows without reason (in simulation,
/// where Zipf's misses went from 0.178 to 0.187).
const ENTRIES_PER_FIVE: usize = 4;

/// Rows in a page of memory.
const ROWS_PER_PAGE: usize = 4_096 / size_of::<Row>();

/// The evicted keys of a shard.
#[derive(Debug)]
pub struct Ghosts {
    small: Table,
    main: Table,
}

/// The evicted keys of a queue.
#[derive(Debug)]
struct Table {
    rows: Vec<Row>,
    /// Rows in use: so many ghosts for each entry of the shard, so that with larger values a key is
    /// not remembered for longer than is useful.
    rows_used: usize,
    /// Rows whose memory is committed. No other is used.
    rows_warm: usize,
}

impl Ghosts {
    /// Room for the ghosts of a shard of this many bytes. Its memory is committed by [`Ghosts::warm`].
    pub fn new(memory_bytes: u64) -> Ghosts {
        let fifth = (memory_bytes / MEMORY_BYTES_PER_GHOST) as usize / ROW / 5;
        Ghosts { small: Table::new(2 * fifth), main: Table::new(3 * fifth) }
    }

    /// No ghosts, for a store that never evicts.
    pub fn none() -> Ghosts {
        Ghosts { small: Table::new(0), main: Table::new(0) }
    }

    /// Keeps about as many ghosts as there are entries. Moves only when the number has doubled or
    /// halved, since a move forgets the present ghosts.
    pub fn fit(&mut self, entries: u64) {
        let fifth = entries as usize / ENTRIES_PER_FIVE / ROW;
        self.small.fit(2 * fifth);
        self.main.fit(3 * fifth);
    }

    /// Commits the memory of the ghosts of so many entries, at most a page of each table for each call,
    /// so that the first evictions do not pay for all of it.
    #[inline]
    pub fn warm(&mut self, entries: u64) {
        let fifth = entries as usize / ENTRIES_PER_FIVE / ROW;
        self.small.warm(2 * fifth);
        self.main.warm(3 * fifth);
    }

    /// Remembers a key that was evicted from a queue by its hash.
    pub fn remember(&mut self, queue: Queue, hash: u64) {
        match queue {
            Queue::Small => self.small.remember(hash),
            Queue::Main => self.main.remember(hash),
        }
    }

    /// The queue that the key was evicted from lately; forgets it.
    pub fn recall(&mut self, hash: u64) -> Option<Queue> {
        if self.small.recall(hash) {
            Some(Queue::Small)
        } else {
            self.main.recall(hash).then_some(Queue::Main)
        }
    }

    /// Memory that the ghosts take.
    pub fn bytes(&self) -> u64 {
        ((self.small.rows_warm + self.main.rows_warm) * size_of::<Row>()) as u64
    }
}

impl Table {
    fn new(rows: usize) -> Table {
        let rows = rows.max(1);
        Table { rows: vec![[0; ROW]; rows], rows_used: 1, rows_warm: ROWS_PER_PAGE.min(rows) }
    }

    fn fit(&mut self, rows: usize) {
        let wanted = rows.clamp(1, self.rows_warm);
        if wanted > 2 * self.rows_used || wanted < self.rows_used / 2 {
            self.rows_used = wanted;
        }
    }

    fn warm(&mut self, rows: usize) {
        if self.rows_warm < rows.min(self.rows.len()) {
            // A write, so that the system commits the page now.
            self.rows[self.rows_warm] = [0; ROW];
            self.rows_warm = (self.rows_warm + ROWS_PER_PAGE).min(self.rows.len());
        }
    }

    fn remember(&mut self, hash: u64) {
        let (row, fingerprint) = self.place(hash);
        row.copy_within(..ROW - 1, 1);
        row[0] = fingerprint;
    }

    fn recall(&mut self, hash: u64) -> bool {
        let (row, fingerprint) = self.place(hash);
        let Some(at) = row.iter().position(|other| *other == fingerprint) else { return false };
        row.copy_within(at + 1.., at);
        row[ROW - 1] = 0;
        true
    }

    fn place(&mut self, hash: u64) -> (&mut Row, u16) {
        // Mixed once more, because all hashes of a shard agree in the bits that chose it.
        let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let row = ((u128::from(mixed) * self.rows_used as u128) >> 64) as usize;
        (&mut self.rows[row], (mixed as u16).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::{Ghosts, Queue};

    #[test]
    fn a_ghost_is_recalled_once_and_the_oldest_of_a_row_is_forgotten_first() {
        for queue in [Queue::Small, Queue::Main] {
            let mut ghosts = Ghosts::none();
            for hash in 1..=9 {
                ghosts.remember(queue, hash);
            }
            assert_eq!(ghosts.recall(1), None);
            for hash in 2..=9 {
                assert_eq!(ghosts.recall(hash), Some(queue), "{hash}");
                assert_eq!(ghosts.recall(hash), None, "{hash}");
            }
        }
    }

    #[test]
    fn a_flood_from_one_queue_leaves_the_ghosts_of_the_other() {
        for (queue, other) in [(Queue::Small, Queue::Main), (Queue::Main, Queue::Small)] {
            let mut ghosts = Ghosts::new(1 << 20);
            warm_and_fit(&mut ghosts, 8_000);
            ghosts.remember(queue, 1 << 60);
            (0..100_000).for_each(|n| ghosts.remember(other, hash(n)));
            assert_eq!(ghosts.recall(1 << 60), Some(queue));
        }
    }

    #[test]
    fn about_as_many_keys_are_remembered_as_there_are_entries() {
        for (queue, count) in [(Queue::Small, 4_000), (Queue::Main, 6_000)] {
            let mut ghosts = Ghosts::new(1 << 20);
            warm_and_fit(&mut ghosts, 8_000);
            (0..100_000).for_each(|n| ghosts.remember(queue, hash(n)));
            let newest = 100_000 - count..100_000;
            let recalled = newest.filter(|n| ghosts.recall(hash(*n)).is_some()).count() as u64;
            assert!((count * 7 / 10..=count).contains(&recalled), "{recalled}");
            let stale = (0..100_000 - 5 * count).filter(|n| ghosts.recall(hash(*n)).is_some()).count();
            assert!(stale < 50, "{stale}");
        }
    }

    #[test]
    fn only_the_ghosts_of_the_entries_there_were_take_memory() {
        let mut ghosts = Ghosts::new(64 << 20);
        assert!(ghosts.bytes() <= 2 * 4_096);
        warm_and_fit(&mut ghosts, 80_000);
        assert!((200_000..200_000 + 2 * 4_096).contains(&ghosts.bytes()), "{}", ghosts.bytes());
        // Never more than there is room for.
        warm_and_fit(&mut ghosts, 1 << 30);
        assert!((1_000_000..=1 << 20).contains(&ghosts.bytes()), "{}", ghosts.bytes());
    }

    fn warm_and_fit(ghosts: &mut Ghosts, entries: u64) {
        (0..1_000).for_each(|_| ghosts.warm(entries));
        ghosts.fit(entries);
    }

    fn hash(n: u64) -> u64 {
        ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(n)
    }
}
