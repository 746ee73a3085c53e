//! Which key comes next.

/// How requests choose keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    Uniform,
    Sequential,
    Zipf(f64),
    ZipfScan(f64),
    Shift(f64),
}

/// Zipf with scans: of each run of so many requests, the last so many are a scan.
const SCAN_RUN: u64 = 100_000;
const SCAN_LENGTH: u64 = 20_000;

/// The shifting working set is this part of the keys.
const SHIFT_PART: u64 = 5;

impl Distribution {
    pub fn parse(text: &str) -> Option<Distribution> {
        let (name, skew) = text.split_once(':').unwrap_or((text, "0.99"));
        let skew = skew.parse::<f64>().ok().filter(|skew| *skew > 0.0 && *skew < 10.0)?;
        match name {
            "uniform" => Some(Distribution::Uniform),
            "sequential" => Some(Distribution::Sequential),
            "zipf" => Some(Distribution::Zipf(skew)),
            "zipf-scan" => Some(Distribution::ZipfScan(skew)),
            "shift" => Some(Distribution::Shift(skew)),
            _ => None,
        }
    }
}

/// xorshift64*: good enough to draw keys with, and repeatable.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(mix(seed) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in 0..bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform in 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A well-mixed function of a number (splitmix64).
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The keys of one thread, one after the other, as numbers below `keys`.
#[derive(Clone, Debug)]
pub struct Keys {
    distribution: Distribution,
    keys: u64,
    zipf: Option<Zipf>,
    /// Requests drawn, where the scan stands, where the sequence stands and ends.
    drawn: u64,
    scan: u64,
    sequence: std::ops::Range<u64>,
    sequence_start: u64,
    period: u64,
    random: Random,
}

impl Keys {
    /// The keys of thread `number` of `threads`.
    pub fn new(
        distribution: Distribution,
        keys: u64,
        period: Option<u64>,
        number: u64,
        threads: u64,
        seed: u64,
    ) -> Keys {
        let sequence = keys * number / threads..keys * (number + 1) / threads;
        let zipf = match distribution {
            Distribution::Uniform | Distribution::Sequential => None,
            Distribution::Zipf(skew) | Distribution::ZipfScan(skew) => Some(Zipf::new(keys, skew)),
            Distribution::Shift(skew) => Some(Zipf::new((keys / SHIFT_PART).max(1), skew)),
        };
        Keys {
            distribution,
            keys,
            zipf,
            drawn: 0,
            scan: sequence.start,
            sequence_start: sequence.start,
            sequence,
            period: (period.unwrap_or(2 * keys) / threads).max(1),
            random: Random::new(seed.wrapping_mul(1_000_003).wrapping_add(number)),
        }
    }

    /// Keys left in the sequence.
    pub fn sequence_left(&self) -> u64 {
        self.sequence.end - self.sequence.start
    }

    /// One of the last `recent` keys of the sequence that were drawn.
    pub fn recent(&mut self, recent: u64) -> Option<u64> {
        let drawn = self.sequence.start - self.sequence_start;
        (drawn > 0).then(|| self.sequence.start - 1 - self.random.below(drawn.min(recent)))
    }

    /// Uniform in 0..100.
    pub fn percent(&mut self) -> u64 {
        self.random.below(100)
    }

    /// A random number that belongs to this thread.
    pub fn any(&mut self) -> u64 {
        self.random.next()
    }

    /// The next key; none when a sequence is through.
    pub fn next(&mut self) -> Option<u64> {
        let drawn = self.drawn;
        self.drawn += 1;
        let rank = match (&self.zipf, self.distribution) {
            (Some(_), Distribution::ZipfScan(_)) if drawn % SCAN_RUN >= SCAN_RUN - SCAN_LENGTH => {
                self.scan = (self.scan + 1) % self.keys;
                return Some(self.scan);
            }
            (Some(zipf), _) => zipf.draw(&mut self.random),
            (None, Distribution::Sequential) => return self.sequence.next(),
            (None, _) => return Some(self.random.below(self.keys)),
        };
        let place = match self.distribution {
            Distribution::Shift(_) => {
                // Place `rank` changes hands once in a period, at a time of its own.
                let set = (self.keys / SHIFT_PART).max(1);
                let takeovers = (drawn + mix(rank) % self.period) / self.period;
                (rank + takeovers * set) % self.keys
            }
            _ => rank,
        };
        // Popular keys are not neighbours: a bijection, since the prime divides no such `keys`.
        Some(((u128::from(place) * 2_654_435_761) % u128::from(self.keys)) as u64)
    }
}

/// Ranks 0.. with popularity (rank + 1)^-skew, by rejection-inversion (Hörmann, Derflinger 1996):
/// constant time and no table, however many ranks.
#[derive(Clone, Debug)]
struct Zipf {
    ranks: f64,
    skew: f64,
    first: f64,
    last: f64,
    squeeze: f64,
}

impl Zipf {
    fn new(ranks: u64, skew: f64) -> Zipf {
        let mut zipf = Zipf { ranks: ranks as f64, skew, first: 0.0, last: 0.0, squeeze: 0.0 };
        zipf.first = zipf.area(1.5) - 1.0;
        zipf.last = zipf.area(zipf.ranks + 0.5);
        zipf.squeeze = 2.0 - zipf.area_inverse(zipf.area(2.5) - zipf.height(2.0));
        zipf
    }

    fn draw(&self, random: &mut Random) -> u64 {
        loop {
            let area = self.last + random.unit() * (self.first - self.last);
            let x = self.area_inverse(area);
            let rank = (x + 0.5).floor().clamp(1.0, self.ranks);
            if rank - x <= self.squeeze || area >= self.area(rank + 0.5) - self.height(rank) {
                return rank as u64 - 1;
            }
        }
    }

    fn height(&self, x: f64) -> f64 {
        (-self.skew * x.ln()).exp()
    }

    /// Integral of the height: (x^(1-s) - 1) / (1 - s), or ln x at s = 1.
    fn area(&self, x: f64) -> f64 {
        let log = x.ln();
        let t = (1.0 - self.skew) * log;
        if t.abs() > 1e-8 { t.exp_m1() / t * log } else { log * (1.0 + t / 2.0) }
    }

    fn area_inverse(&self, area: f64) -> f64 {
        let t = (area * (1.0 - self.skew)).max(-1.0);
        let log = if t.abs() > 1e-8 { t.ln_1p() / t * area } else { area * (1.0 - t / 2.0) };
        log.exp()
    }
}

#[cfg(test)]
mod tests {
    use super::{Distribution, Keys, Random, Zipf};

    #[test]
    fn zipf_ranks_have_their_popularity() {
        for skew in [0.5, 0.99, 1.0, 1.2] {
            let (ranks, draws) = (1_000u64, 400_000);
            let zipf = Zipf::new(ranks, skew);
            let mut random = Random::new(7);
            let mut counts = vec![0u64; ranks as usize];
            (0..draws).for_each(|_| counts[zipf.draw(&mut random) as usize] += 1);
            let total: f64 = (1..=ranks).map(|rank| (rank as f64).powf(-skew)).sum();
            for rank in [1u64, 2, 3, 10] {
                let expected = draws as f64 * (rank as f64).powf(-skew) / total;
                let seen = counts[rank as usize - 1] as f64;
                assert!((seen - expected).abs() < 5.0 * expected.sqrt(), "{skew} {rank}: {seen} {expected}");
            }
        }
    }

    #[test]
    fn threads_divide_a_sequence_without_gap_or_overlap() {
        let mut seen = Vec::new();
        for number in 0..3 {
            let mut keys = Keys::new(Distribution::Sequential, 100, None, number, 3, 1);
            seen.extend(std::iter::from_fn(|| keys.next()));
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_shifting_set_reaches_all_keys_and_a_fifth_at_a_time() {
        let mut keys = Keys::new(Distribution::Shift(0.5), 1_000, Some(10_000), 0, 1, 1);
        let mut all = std::collections::HashSet::new();
        for _ in 0..6 {
            let window: std::collections::HashSet<_> = (0..10_000).filter_map(|_| keys.next()).collect();
            assert!(window.len() <= 400, "{}", window.len());
            all.extend(window);
        }
        assert!(all.len() > 950, "{}", all.len());
    }
}
