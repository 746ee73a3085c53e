//! Returns the room of entries that are past their time, or whose namespace was emptied.
//!
//! Nobody waits for the sweep: an expired entry is absent on access from its millisecond on. The sweep
//! walks along segments that have something to gain, a bounded number of entries for each call. A
//! segment knows when its first entry expires; after a visit that gained little it rests for a time
//! that doubles, so that a segment of mixed times is not read over and over, while one whose entries
//! share a time is emptied, and freed whole, soon after it. There is no timer for each entry and no
//! list of them: the only cost is in the segment's notes, whatever clients write.

use super::Store;
use super::log::{Position, State};
use crate::clock::Now;

/// Entries that one call of the sweep looks at.
const SWEEP_ENTRIES_MAX: u32 = 256;

/// Pages of lists that are gone which one call of the sweep frees: about 50 µs.
const LIST_PAGES_PER_SWEEP: usize = 128;

/// A visit that gains less than one in this many of a segment's bytes doubles its rest.
const GAIN_PARTS: u32 = 16;

/// Shortest and longest rest of a segment.
const REST_MS_MIN: u32 = 256;
const REST_MS_MAX: u32 = 65_536;

/// One in this many segments may be free and committed before the sweep gives memory back.
const WARM_PARTS: usize = 16;

/// The state of the sweep between two calls.
#[derive(Debug)]
pub struct Sweeping {
    visit: Option<Visit>,
    /// Where the search for the next segment goes on.
    next_segment: u32,
    /// No segment is worth a visit for its expired entries before this.
    due_ms: u64,
}

/// A segment that is walked along.
#[derive(Clone, Copy, Debug)]
struct Visit {
    segment: u32,
    at: u32,
    /// Earliest expiry of the entries that were kept.
    first_kept_ms: u64,
    dead_before: u32,
    drops_before: u64,
}

impl Default for Sweeping {
    fn default() -> Sweeping {
        Sweeping { visit: None, next_segment: 0, due_ms: u64::MAX }
    }
}

impl Sweeping {
    /// The segment is freed: a visit to it is over.
    pub fn forget(&mut self, segment: u32) {
        self.visit = self.visit.filter(|visit| visit.segment != segment);
    }
}

impl Store {
    /// Looks at a bounded number of entries and drops those that are past their time. To be called
    /// once a turn; costs next to nothing when nothing is due.
    pub fn sweep(&mut self, now: Now) {
        self.sweep_entries(SWEEP_ENTRIES_MAX, now);
        self.lists.free_slice(LIST_PAGES_PER_SWEEP);
        if self.log.warm_segments() > self.log.segments().len() / WARM_PARTS + 2 {
            self.log.cool_one();
        }
    }

    /// When [`Store::sweep`] will find something to do, in milliseconds since the Unix epoch: 0 for
    /// at once, `None` for not before the next write.
    pub fn next_expiry_hint(&self) -> Option<u64> {
        match self.sweeping.due_ms {
            _ if self.sweeping.visit.is_some() || self.spaces.retired_entries() > 0 => Some(0),
            _ if self.lists.has_retired() => Some(0),
            u64::MAX => None,
            due_ms => Some(due_ms),
        }
    }

    /// Sweeps a whole segment for a write that would be refused. Answers the bytes it looked at.
    pub(super) fn sweep_for_room(&mut self, now: Now) -> usize {
        let entries = self.log.segment_bytes() as u32 / 16;
        if self.sweep_entries(entries, now) { self.log.segment_bytes() as usize } else { 0 }
    }

    /// Tells the sweep that an entry was written.
    pub(super) fn note_expiry(&mut self, position: Position, expires_ms: Option<u64>) {
        let Some(expires_ms) = expires_ms else { return };
        let notes = self.log.sweep_mut(self.log.segment_of(position));
        notes.first_expiry_ms = notes.first_expiry_ms.min(expires_ms);
        self.sweeping.due_ms = self.sweeping.due_ms.min(expires_ms.max(notes.rest_until_ms));
    }

    /// Drops an entry that is past its time.
    pub(super) fn expire(&mut self, position: Position, hash: u64) {
        self.unlink(position, hash);
        self.bury(position);
        self.expired += 1;
    }

    /// False when no segment was worth a visit.
    fn sweep_entries(&mut self, entries_max: u32, now: Now) -> bool {
        let mut swept = false;
        let mut left = entries_max;
        while left > 0 {
            let Some(visit) = self.sweeping.visit.take().or_else(|| self.next_visit(now)) else { break };
            swept = true;
            left = self.walk_segment(visit, left, now);
        }
        swept
    }

    /// Walks on along a segment. Answers how many entries may still be looked at.
    fn walk_segment(&mut self, mut visit: Visit, mut left: u32, now: Now) -> u32 {
        // The last entry buried in a sealed segment frees it, and `forget` ends the visit.
        self.sweeping.visit = Some(visit);
        while visit.at < self.log.segment(visit.segment).used {
            if left == 0 {
                return 0;
            }
            left -= 1;
            let position = self.log.position(visit.segment, visit.at);
            let (header, _) = self.log.entry(position);
            visit.at += self.log.size(&header);
            if !header.dead {
                if self.spaces.is_retired(header.space) {
                    let hash = self.hash_at(position);
                    self.unlink(position, hash);
                    self.bury(position);
                } else if header.expired(now) {
                    self.expire(position, self.hash_at(position));
                } else if let Some(expires_ms) = header.expires_ms {
                    visit.first_kept_ms = visit.first_kept_ms.min(expires_ms);
                }
            }
            if self.sweeping.visit.is_none() {
                return left;
            }
            self.sweeping.visit = Some(visit);
        }
        self.end_visit(visit, now);
        left
    }

    fn end_visit(&mut self, visit: Visit, now: Now) {
        self.sweeping.visit = None;
        let segment = self.log.segment(visit.segment);
        let poor = segment.dead - visit.dead_before < segment.used / GAIN_PARTS;
        let notes = self.log.sweep_mut(visit.segment);
        notes.rest_ms = if poor { (notes.rest_ms * 2).clamp(REST_MS_MIN, REST_MS_MAX) } else { REST_MS_MIN };
        notes.rest_until_ms = now.unix_ms + u64::from(notes.rest_ms);
        notes.first_expiry_ms = notes.first_expiry_ms.min(visit.first_kept_ms);
        notes.drops_seen = visit.drops_before;
        if notes.first_expiry_ms != u64::MAX {
            self.sweeping.due_ms = self.sweeping.due_ms.min(notes.first_expiry_ms.max(notes.rest_until_ms));
        }
    }

    /// Finds the next segment with something to gain.
    fn next_visit(&mut self, now: Now) -> Option<Visit> {
        let retired = self.spaces.retired_entries() > 0;
        if self.sweeping.due_ms > now.unix_ms && !retired {
            return None;
        }
        let (count, drops) = (self.log.segments().len() as u32, self.spaces.drops());
        let mut due_ms = u64::MAX;
        for step in 0..count {
            let number = (self.sweeping.next_segment + step) % count;
            let segment = self.log.segment(number);
            if segment.state == State::Free || segment.is_dead() {
                continue;
            }
            let segment_due_ms = match segment.sweep.first_expiry_ms {
                u64::MAX => u64::MAX,
                first_ms => first_ms.max(segment.sweep.rest_until_ms),
            };
            if segment_due_ms <= now.unix_ms || (retired && segment.sweep.drops_seen < drops) {
                self.sweeping.next_segment = (number + 1) % count;
                let dead_before = segment.dead;
                self.log.sweep_mut(number).first_expiry_ms = u64::MAX;
                return Some(Visit {
                    segment: number,
                    at: 0,
                    first_kept_ms: u64::MAX,
                    dead_before,
                    drops_before: drops,
                });
            }
            due_ms = due_ms.min(segment_due_ms);
        }
        self.sweeping.due_ms = due_ms;
        None
    }
}
