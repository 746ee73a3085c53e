//! Numbers that look random and repeat: SplitMix64 from a seed that is printed.

/// A seeded generator. `LUCID_TEST_SEED` replaces the seed of every test.
pub struct Random(u64);

impl Random {
    /// A generator from `seed`, which it prints so that a failure can be repeated.
    pub fn seeded(seed: u64) -> Random {
        let seed = std::env::var("LUCID_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(seed);
        println!("LUCID_TEST_SEED={seed}");
        Random(seed)
    }

    /// A generator of its own for another thread.
    pub fn fork(&mut self) -> Random {
        Random(self.next())
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// One of `choices`.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Any bytes at all.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}
