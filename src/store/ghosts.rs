//! Remembers which keys were evicted lately, by fingerprint.
//!
//! A key that is written again soon after it was evicted from the small queue was evicted too early:
//! it goes to the main queue at once (S3-FIFO). Fingerprints have 16 bits and stand in rows of eight,
//! a row being a little queue of its own: two bytes for each ghost, one cache line for each question,
//! and one wrong yes in about 8,000. A wrong answer costs a little of the hit ratio, never a value.

/// One row: newest first, 0 where there is none.
type Row = [u16; 8];

/// The memory of the shard that one ghost is provided for, in bytes: about one for each entry of a
/// shard full of small ones.
const MEMORY_BYTES_PER_GHOST: u64 = 128;

/// Rows in a page of memory.
const ROWS_PER_PAGE: usize = 4_096 / size_of::<Row>();

/// The evicted keys of a shard.
#[derive(Debug)]
pub struct Ghosts {
    rows: Vec<Row>,
    /// Rows in use: as many ghosts as the shard has entries, so that with larger values a key is
    /// not remembered for longer than is useful.
    rows_used: usize,
    /// Rows whose memory has been touched.
    rows_warm: usize,
}

impl Ghosts {
    /// Ghosts for a shard of this many bytes. The memory is committed when it is first used.
    pub fn new(memory_bytes: u64) -> Ghosts {
        let rows = (memory_bytes / MEMORY_BYTES_PER_GHOST / 8).max(1) as usize;
        Ghosts { rows: vec![[0; 8]; rows], rows_used: rows, rows_warm: 0 }
    }

    /// No ghosts, for a store that never evicts.
    pub fn none() -> Ghosts {
        Ghosts { rows: vec![[0; 8]], rows_used: 1, rows_warm: 1 }
    }

    /// Keeps about as many ghosts as there are entries. Moves only when the number has doubled or
    /// halved, since a move forgets the present ghosts.
    pub fn fit(&mut self, entries: u64) {
        let wanted = (entries as usize / 8).clamp(1, self.rows.len());
        if wanted > 2 * self.rows_used || wanted < self.rows_used / 2 {
            self.rows_used = wanted;
        }
    }

    /// Touches the memory of as large a part of the ghosts as is in use of the shard, so that the first
    /// evictions do not pay for all of it. A page for each call.
    pub fn warm(&mut self, used_bytes: u64, memory_bytes: u64) {
        let behind = self.rows_warm as u128 * u128::from(memory_bytes)
            < self.rows.len() as u128 * u128::from(used_bytes);
        if behind && self.rows_warm < self.rows.len() {
            // Nothing is remembered before the shard is full.
            self.rows[self.rows_warm] = [0; 8];
            self.rows_warm += ROWS_PER_PAGE;
        }
    }

    /// Remembers an evicted key by its hash.
    pub fn remember(&mut self, hash: u64) {
        let (row, fingerprint) = self.place(hash);
        row.copy_within(0..7, 1);
        row[0] = fingerprint;
    }

    /// Whether the key was evicted lately; forgets it.
    pub fn recall(&mut self, hash: u64) -> bool {
        let (row, fingerprint) = self.place(hash);
        let Some(at) = row.iter().position(|other| *other == fingerprint) else { return false };
        row.copy_within(at + 1.., at);
        row[7] = 0;
        true
    }

    /// Memory that the ghosts take when all are in use.
    pub fn bytes(&self) -> u64 {
        (self.rows.len() * size_of::<Row>()) as u64
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
    use super::Ghosts;

    #[test]
    fn a_ghost_is_recalled_once_and_the_oldest_of_a_row_is_forgotten_first() {
        let mut ghosts = Ghosts::none();
        for hash in 1..=9 {
            ghosts.remember(hash);
        }
        assert!(!ghosts.recall(1));
        for hash in 2..=9 {
            assert!(ghosts.recall(hash), "{hash}");
            assert!(!ghosts.recall(hash), "{hash}");
        }
    }

    #[test]
    fn about_as_many_keys_are_remembered_as_there_are_entries() {
        let mut ghosts = Ghosts::new(1 << 20);
        ghosts.fit(1_000);
        let hash = |n: u64| ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(n);
        (0..10_000).for_each(|n| ghosts.remember(hash(n)));
        let recalled = (9_000..10_000).filter(|n| ghosts.recall(hash(*n))).count();
        assert!((700..=1_000).contains(&recalled), "{recalled}");
        let stale = (0..5_000).filter(|n| ghosts.recall(hash(*n))).count();
        assert!(stale < 50, "{stale}");
    }
}
