//! The only place that reads time, and the clock that versions are made of.
//!
//! [`Clock`] turns the monotonic clock into wall-clock milliseconds: the wall clock is read once,
//! when the node starts, so a step of the system time neither expires nor revives an entry.
//! Everything else takes a [`Now`] as its last argument and can be tested in virtual time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of the clock, in milliseconds since the Unix epoch. Never steps back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

impl Now {
    /// A reading at the given milliseconds since the Unix epoch.
    pub const fn from_unix_ms(unix_ms: u64) -> Now {
        Now { unix_ms }
    }

    /// Whole seconds since the Unix epoch.
    pub const fn unix_seconds(self) -> u64 {
        self.unix_ms / 1_000
    }
}

/// A monotonic clock that counts from the wall-clock time of its making.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_unix: Duration,
}

impl Clock {
    /// Starts a clock at the system's present time. One is made for the process and copied to each
    /// thread, so that all agree.
    pub fn start() -> Clock {
        let started_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { started: Instant::now(), started_unix }
    }

    /// Reads the clock. Costs about 20 ns; a reactor does it once a turn.
    pub fn now(&self) -> Now {
        Now { unix_ms: (self.started_unix + self.started.elapsed()).as_millis() as u64 }
    }

    /// Reads the system's wall clock, for what must follow a step of the system time: the `Date`
    /// field and the times in a token.
    pub fn wall_seconds() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }
}

/// Measures spans of time, for tools that time requests. Nanoseconds since it was started.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts at zero.
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// Nanoseconds since the start.
    pub fn ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// When and in which order an entry's bytes were written: milliseconds since the Unix epoch in the
/// upper 48 bits, a counter within the millisecond in the lower 16.
///
/// Strictly rising within a shard. Gives the entity tag, the fencing token and `Last-Modified`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// Milliseconds since the Unix epoch at which this version was written.
    pub const fn unix_ms(self) -> u64 {
        self.0 >> 16
    }
}

/// Hybrid logical clock (Kulkarni et al., 2014): follows the wall clock, never repeats or falls.
#[derive(Debug, Default)]
pub struct VersionClock {
    last: u64,
}

impl VersionClock {
    /// The next version: now, or just past the last one if the clock has not moved.
    pub fn next(&mut self, now: Now) -> Version {
        self.last = (now.unix_ms << 16).max(self.last + 1);
        Version(self.last)
    }

    /// Has all versions from now on be above this one.
    pub fn raise(&mut self, version: Version) {
        self.last = self.last.max(version.0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Now, VersionClock};

    #[test]
    fn versions_rise_even_when_time_stands_still_or_falls() {
        let mut clock = VersionClock::default();
        let mut last = clock.next(Now::from_unix_ms(5_000));
        assert_eq!(last.unix_ms(), 5_000);
        for ms in [5_000, 5_000, 4_000, 5_001, 1] {
            let next = clock.next(Now::from_unix_ms(ms));
            assert!(next > last);
            last = next;
        }
        assert_eq!(last.unix_ms(), 5_001);
    }
}
