//! Makes room before a write: what goes, what stays, and how much work one write pays for.
//!
//! **What goes** is decided as in S3-FIFO (Yang et al., SOSP 2023), which a log gives almost for free.
//! New entries queue up in the small queue. Whoever reaches its end unread is evicted, and remembered as
//! a ghost; whoever was read moves to the main queue, where it goes round again while it is read, its
//! count halved each time. A scan of keys that nobody asks for again passes through the small queue and
//! leaves the main one alone. Where this differs from the paper, it is for fewer misses in the traces
//! tried (PERF.md):
//!
//! - One read is enough to move to the main queue, where it asks for two; and counts are halved, where
//!   it takes one off, so that what was popular once leaves sooner.
//! - The main queue leaves ghosts too, and the share of the small queue follows the ghosts that are
//!   asked for: a key that is missed from the small queue makes it larger, one from the main queue smaller
//!   (as ARC does; Megiddo and Modha, FAST 2003). A working set that moves wants half of the
//!   memory for what is new, a popularity that stays a fiftieth. Either ghost goes to the main queue.
//! - In the main queue an entry stays if its reads and a throw of a die reach its weight, which grows with
//!   its size: one of half the average stays unread two times in three, one of twice the average wants
//!   two or three reads. So the same memory answers more requests. Entries of one size weigh one read.
//!
//! A segment that is at least half dead is compacted before anything is evicted. Under
//! [`WhenFull::Reject`] nothing is evicted, and compaction is all there is.
//!
//! **How much work**: reclaiming walks along one segment at a time, a few entries for each write, in
//! proportion to the bytes written and to how few segments are left. So a write hardly ever finds no
//! room; only one of a large value must make its room at once. The longer that takes, the less an entry
//! is worth: the walk ends after a bounded number of bytes.
//!
//! Invariant: a write never takes the last segment that fits under the ceiling. It is kept for the
//! entries that reclaiming moves, without which a full log could not be compacted.

use super::entry::Header;
use super::index::USES_MAX;
use super::log::{Position, Queue, State};
use super::{NewEntry, Spot, Store, WhenFull, WriteError};
use crate::clock::Now;
use crate::op::Namespace;

/// The share of the small queue: at first, least and most, in parts of [`SHARE_WHOLE`]. It is never less
/// than a few segments.
const SHARE_WHOLE: u64 = 1 << 32;
const SHARE_FIRST: u64 = SHARE_WHOLE / 10;
const SHARE_MIN: u64 = SHARE_WHOLE / 50;
const SHARE_MAX: u64 = SHARE_WHOLE / 10 * 9;
const SHARE_SEGMENTS_MIN: u64 = 2;

/// A ghost that is asked for moves the share by the size of its entry so many times over, at most by
/// one in so many parts of the whole.
const SHARE_STEP_TIMES: u64 = 16;
const SHARE_STEP_PARTS_MIN: u64 = 64;

/// What an entry of average size weighs, and one read with it; a throw of the die is less. Other entries
/// differ from it by this many fifths of what their size does.
const WEIGHT_AVERAGE: u64 = 256;
const WEIGHT_FIFTHS: u64 = 7;

/// The least and the most that an entry is taken to weigh: the smallest go in the end too, and the largest
/// stay if they are read often enough.
const WEIGHT_MIN: u64 = WEIGHT_AVERAGE / 10;
const WEIGHT_MAX: u64 = WEIGHT_AVERAGE * USES_MAX as u64;

/// Reads that move an entry from the small queue to the main one.
const USES_TO_MAIN: u32 = 1;

/// Bytes walked at the least when a write pays for reclaiming, so that small entries catch up too.
const WALK_BYTES_MIN: usize = 256;

/// How far ahead of the walk the index is told what is coming.
const LOOK_AHEAD_BYTES: u32 = 512;

/// Room kept for what small tables may allocate beside the index: a content type, a namespace, two pages
/// of ghosts.
const TABLES_SLACK_BYTES: u64 = 12 * 1_024;

/// Bytes walked between two looks at whether there is room.
const WALK_STEP_BYTES: usize = 16 * 1_024;

/// Bytes walked for one write, beyond its own size four times over, before used entries go too.
const WALK_PATIENCE_BYTES: usize = 256 * 1_024;

/// Bytes walked for one write before a store that may not evict answers that it is full.
const WALK_BYTES_MAX: usize = 16 * 1_024 * 1_024;

/// Pages of lists that are gone which a write frees in passing, and at a time when it needs the room.
const LIST_PAGES_PER_WRITE: usize = 8;
const LIST_PAGES_FOR_ROOM: usize = 256;

/// Parts of a segment that must be dead before it is compacted: half when evicting is the
/// alternative, a little when it is done ahead, hardly any when a write would be refused.
const DEAD_PARTS_EVICT: u64 = 2;
const DEAD_PARTS_AHEAD: u64 = 8;
const DEAD_PARTS_REFUSE: u64 = 64;

/// Entries taken at a time from a table of the index that has too many.
const THIN_OUT_BATCH: usize = 64;

/// What a write needs.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Where its entry goes.
    pub queue: Queue,
    /// The most its entry takes there.
    pub entry_len_max: usize,
    /// Memory of its large value.
    pub large_bytes: u64,
    /// What it may add to the index and the table of spaces.
    pub inserts: Option<(Namespace, u64)>,
}

/// The state of reclaiming between two writes.
#[derive(Debug)]
pub struct Reclaiming {
    leaving: Option<Leaving>,
    /// Free segments that are kept ahead of the writes.
    spare_segments: u64,
    /// Dead bytes of the log when last no segment was worth compacting.
    barren_bytes: u64,
    /// What the small queue may have of the bytes, in parts of [`SHARE_WHOLE`].
    small_share: u64,
    /// What the die is thrown with.
    die: u32,
}

/// A segment that is walked along.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    segment: u32,
    at: u32,
    /// Up to here the index was told what is coming.
    seen: u32,
    /// Every live entry stays.
    compact: bool,
    /// Size of an average entry.
    average_bytes: u64,
}

/// How often an entry must have been read to stay, at the least.
#[derive(Clone, Copy, Debug)]
struct Worth {
    small: u32,
    main: u32,
    dead_parts: u64,
}

impl Reclaiming {
    /// Nothing is under way.
    pub fn new(segments: usize) -> Reclaiming {
        Reclaiming {
            leaving: None,
            spare_segments: 3 + (segments as u64 / 128).clamp(1, 5),
            barren_bytes: 0,
            small_share: SHARE_FIRST,
            die: 0,
        }
    }

    /// A key that was evicted from a queue is back, with an entry of this size.
    fn follow(&mut self, missed_from: Queue, entry_bytes: u64, all_bytes: u64) {
        let whole = u128::from(SHARE_WHOLE * SHARE_STEP_TIMES);
        let step = u128::from(entry_bytes) * whole / u128::from(all_bytes.max(1));
        let step = step.min(u128::from(SHARE_WHOLE / SHARE_STEP_PARTS_MIN)) as u64;
        self.small_share = match missed_from {
            Queue::Small => (self.small_share + step).min(SHARE_MAX),
            Queue::Main => self.small_share.saturating_sub(step).max(SHARE_MIN),
        };
    }

    /// What the small queue may have of so many bytes.
    fn small_bytes(&self, all_bytes: u64, segment_bytes: u64) -> u64 {
        let share = u128::from(all_bytes) * u128::from(self.small_share) / u128::from(SHARE_WHOLE);
        (share as u64).max(SHARE_SEGMENTS_MIN * segment_bytes)
    }

    /// A throw of the die, from nothing to just under what a read weighs. Any sequence that keeps no
    /// step with the order of the entries will do.
    fn throw(&mut self) -> u64 {
        self.die = self.die.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (u64::from(self.die >> 16) * WEIGHT_AVERAGE) >> 16
    }
}

impl Store {
    /// The queue that a write belongs to, which replaces `old`: that of the
    /// entry it replaces, unless that one has earned the main one; the main one for a key that was
    /// evicted lately, which also moves the shares.
    pub(super) fn queue_for(&mut self, entry: &NewEntry<'_>, old: Option<Spot>) -> Queue {
        if self.config.when_full == WhenFull::Reject {
            // The main queue belongs to compaction, so that no write can take what it counts on.
            return Queue::Small;
        }
        if let Some(spot) = old {
            return match spot.uses {
                USES_TO_MAIN.. => Queue::Main,
                _ => self.log.segment(self.log.segment_of(spot.position)).queue,
            };
        }
        if self.evictions == 0 {
            return Queue::Small;
        }
        let Some(missed_from) = self.ghosts.recall(entry.hash) else { return Queue::Small };
        let entry_bytes = (entry.key.len() + entry.value.bytes().len()) as u64;
        self.reclaiming.follow(missed_from, entry_bytes, self.log.queues_bytes());
        Queue::Main
    }

    /// Sees to it that what a write needs fits under the ceiling. May move or evict any entry.
    pub(super) fn make_room(&mut self, need: &Need, now: Now) -> Result<(), WriteError> {
        self.lists.free_slice(LIST_PAGES_PER_WRITE);
        let mut beside = self.beside_log_bytes();
        let mut has_changed = self.reclaim_ahead(need.entry_len_max, beside, now);
        if let Some((_, hash)) = need.inserts
            && self.evictions > 0
        {
            has_changed |= self.thin_out(hash, now);
        }
        if has_changed {
            beside = self.beside_log_bytes();
        }
        let mut outside = beside + self.growth_bytes(need);
        if self.is_short_of(need, outside) {
            self.reclaim_for(need, now)?;
            outside = self.outside_bytes(need);
        }
        // Free segments whose memory is still committed make way for memory outside the log.
        while self.log.committed_bytes() + outside + self.commit_bytes(need) > self.config.memory_bytes {
            if !self.log.cool_one() {
                break;
            }
        }
        Ok(())
    }

    /// The part that every write pays when free segments run low, with so much memory beside the log. False if
    /// there was nothing to pay.
    fn reclaim_ahead(&mut self, written_bytes: usize, beside_bytes: u64, now: Now) -> bool {
        let free = self.free_segments(beside_bytes);
        let spare = self.reclaiming.spare_segments;
        self.index.expect_growth(free > spare);
        // What lists have left comes back by itself.
        if free >= spare || self.lists.has_retired() {
            return false;
        }
        let missing = (spare - free) as usize;
        let worth = match (self.config.when_full, free) {
            (WhenFull::Reject, _) => Worth { dead_parts: DEAD_PARTS_AHEAD, ..Worth::ANY },
            (WhenFull::Evict, 0..=1) => Worth::HIGH,
            (WhenFull::Evict, _) => Worth::USUAL,
        };
        // Up to three quarters of what is walked along stays, so catching up takes several times the write.
        self.reclaim((written_bytes * (1 + 2 * missing)).max(WALK_BYTES_MIN), worth, now);
        true
    }

    /// Takes from the table of this hash what it has too much, those least read first. False if it has not.
    fn thin_out(&mut self, hash: u64, now: Now) -> bool {
        let mut surplus = self.index.surplus(hash);
        if surplus == 0 {
            return false;
        }
        let mut uses_max = 0;
        while surplus > 0 {
            let mut positions = [Position(0); THIN_OUT_BATCH];
            let mut found = 0;
            for (place, slot) in positions.iter_mut().zip(self.index.least_used(hash, uses_max)).take(surplus)
            {
                *place = slot.position();
                self.log.prefetch(*place);
                found += 1;
            }
            positions[..found].iter().for_each(|position| self.drop_at(*position, now));
            surplus -= found;
            if found == 0 {
                uses_max += 1;
            }
        }
        true
    }

    /// Ends an entry: as one of an emptied namespace, one past its time, or one that must go.
    fn drop_at(&mut self, position: Position, now: Now) {
        let hash = self.hash_at(position);
        let (header, _) = self.log.entry(position);
        if !self.ended(position, hash, &header, now) {
            self.evict(position, hash, self.log.segment(self.log.segment_of(position)).queue);
        }
    }

    /// Drops an entry of an emptied namespace and one past its time; false for others.
    fn ended(&mut self, position: Position, hash: u64, header: &Header, now: Now) -> bool {
        if self.spaces.is_retired(header.space) {
            self.unlink(position, hash);
            self.bury(position);
            return true;
        }
        if header.expired(now) {
            self.expire(position, hash);
            return true;
        }
        false
    }

    /// Reclaims until there is room.
    #[cold]
    fn reclaim_for(&mut self, need: &Need, now: Now) -> Result<(), WriteError> {
        let patience = WALK_PATIENCE_BYTES + 4 * need.large_bytes as usize;
        let mut walked = 0;
        while self.is_short_of(need, self.outside_bytes(need)) {
            if self.lists.free_slice(LIST_PAGES_FOR_ROOM) {
                continue;
            }
            let worth = match self.config.when_full {
                WhenFull::Reject => Worth { dead_parts: DEAD_PARTS_REFUSE, ..Worth::ANY },
                WhenFull::Evict if walked < patience => Worth::USUAL,
                WhenFull::Evict if walked < 2 * patience => Worth::HIGH,
                WhenFull::Evict => Worth::NONE,
            };
            let step = match self.reclaim(WALK_STEP_BYTES, worth, now) {
                0 => self.sweep_for_room(now),
                step => step,
            };
            walked += step;
            match self.config.when_full {
                WhenFull::Evict if step == 0 => return Err(WriteError::TooLarge),
                WhenFull::Reject if step == 0 || walked > WALK_BYTES_MAX + patience => {
                    return Err(WriteError::Full);
                }
                WhenFull::Evict | WhenFull::Reject => {}
            }
        }
        Ok(())
    }

    /// Segments that could be opened under the ceiling, with so much memory beside the log.
    fn free_segments(&self, beside_bytes: u64) -> u64 {
        let occupied = self.log.used_bytes() + beside_bytes;
        self.config.memory_bytes.saturating_sub(occupied) >> self.log.segment_shift()
    }

    fn is_short_of(&self, need: &Need, outside_bytes: u64) -> bool {
        let segments = if self.log.fits(need.queue, need.entry_len_max) { 1 } else { 2 };
        let log_bytes = self.log.used_bytes() + segments * self.log.segment_bytes();
        log_bytes + outside_bytes > self.config.memory_bytes
    }

    /// Memory outside the log, with what a write may take of it. Asked anew after each step of reclaiming,
    /// which changes what the tables of the index have in reserve.
    fn outside_bytes(&self, need: &Need) -> u64 {
        self.beside_log_bytes() + self.growth_bytes(need)
    }

    /// What a write may take beside the log.
    fn growth_bytes(&self, need: &Need) -> u64 {
        let tables = need.inserts.map_or(0, |(namespace, hash)| {
            self.index.growth_bytes(hash) + self.spaces.growth_bytes(namespace)
        });
        need.large_bytes + tables + TABLES_SLACK_BYTES
    }

    /// Memory that opening a segment for a write commits.
    fn commit_bytes(&self, need: &Need) -> u64 {
        if self.log.fits(need.queue, need.entry_len_max) || self.log.warm_segments() > 0 {
            0
        } else {
            self.log.segment_bytes()
        }
    }

    /// Walks along leaving segments for this many bytes, large values that go included; answers how
    /// many it walked, 0 when there is nothing to reclaim.
    fn reclaim(&mut self, budget_bytes: usize, worth: Worth, now: Now) -> usize {
        let mut walked = 0;
        while walked < budget_bytes {
            let Some(leaving) = self.reclaiming.leaving.take().or_else(|| self.choose(worth)) else { break };
            let segment = self.log.segment(leaving.segment);
            if segment.is_dead() || leaving.at == segment.used {
                self.release(leaving.segment);
                self.reclaiming.barren_bytes = self.reclaiming.barren_bytes.min(self.log.dead_bytes());
                walked += WALK_BYTES_MIN;
                continue;
            }
            let leaving = self.look_ahead(leaving);
            let large_before = self.large.bytes();
            match self.pass(leaving, worth, now) {
                Some(size) => {
                    walked += size as usize + (large_before - self.large.bytes()) as usize;
                    self.reclaiming.leaving = Some(Leaving { at: leaving.at + size, ..leaving });
                }
                None => {
                    self.reclaiming.leaving = Some(leaving);
                    break;
                }
            }
        }
        walked
    }

    /// Fetches what passing the next entries will read of the index.
    fn look_ahead(&self, mut leaving: Leaving) -> Leaving {
        let end = self.log.segment(leaving.segment).used.min(leaving.at + LOOK_AHEAD_BYTES);
        while leaving.seen < end {
            let position = self.log.position(leaving.segment, leaving.seen);
            let (header, _) = self.log.entry(position);
            if !header.dead {
                self.index.prefetch(self.hash_at(position));
            }
            leaving.seen += self.log.size(&header);
        }
        leaving
    }

    /// Chooses the next segment to leave and takes it out of its queue.
    fn choose(&mut self, worth: Worth) -> Option<Leaving> {
        let evicts = self.config.when_full == WhenFull::Evict;
        let (segment, compact) = match self.most_dead(worth.dead_parts) {
            Some(segment) => (segment, true),
            None => (self.oldest().filter(|_| evicts)?, false),
        };
        self.log.take_out(segment);
        let live_bytes = self.log.queues_bytes() - self.log.dead_bytes();
        let average_bytes = (live_bytes / self.spaces.total().entries.max(1)).max(1);
        Some(Leaving { segment, at: 0, seen: 0, compact, average_bytes })
    }

    /// The segment with the most dead bytes, if one in `parts` of it is dead.
    fn most_dead(&mut self, parts: u64) -> Option<u32> {
        let wanted = self.log.segment_bytes() / parts;
        // Where the alternative is to refuse a write, every segment is looked at, open ones too.
        let refuses = parts == DEAD_PARTS_REFUSE;
        let barren = if refuses { 0 } else { self.reclaiming.barren_bytes };
        if self.log.dead_bytes() < wanted.max(barren) {
            return None;
        }
        let best = (0u32..)
            .zip(self.log.segments())
            .filter(|(_, segment)| {
                segment.state == State::Sealed || (refuses && segment.state == State::Open)
            })
            .max_by_key(|(_, segment)| segment.dead)
            .filter(|(_, segment)| u64::from(segment.dead) >= wanted)
            .map(|(number, _)| number);
        if best.is_none() && !refuses {
            self.reclaiming.barren_bytes = self.log.dead_bytes() + wanted / 2;
        }
        best
    }

    /// The oldest segment of the queue that has more than its share.
    fn oldest(&self) -> Option<u32> {
        let small_aim = self.reclaiming.small_bytes(self.log.queues_bytes(), self.log.segment_bytes());
        let (first, second) = if self.log.queue_bytes(Queue::Small) >= small_aim {
            (Queue::Small, Queue::Main)
        } else {
            (Queue::Main, Queue::Small)
        };
        self.log.oldest(first).or_else(|| self.log.oldest(second))
    }

    /// Passes the entry that a walk stands at, and answers its size. `None` when it must stay and
    /// there is nowhere to move it to.
    fn pass(&mut self, leaving: Leaving, worth: Worth, now: Now) -> Option<u32> {
        let position = self.log.position(leaving.segment, leaving.at);
        let (header, _) = self.log.entry(position);
        let size = self.log.size(&header);
        if header.dead {
            return Some(size);
        }
        let hash = self.hash_at(position);
        if self.ended(position, hash, &header, now) {
            return Some(size);
        }
        let queue = self.log.segment(leaving.segment).queue;
        let to =
            if self.config.when_full == WhenFull::Reject || !leaving.compact { Queue::Main } else { queue };
        let room = self.log.fits(to, header.len_max()) || self.free_segments(self.beside_log_bytes()) > 0;
        match self.uses_if_kept(position, hash, &header, leaving, worth) {
            Some(uses) if room => self.relocate(position, hash, to, &header, uses),
            Some(_) if self.config.when_full == WhenFull::Reject => return None,
            _ => self.evict(position, hash, queue),
        }
        Some(size)
    }

    /// Whether an entry stays, and how many uses it then has left.
    fn uses_if_kept(
        &mut self,
        position: Position,
        hash: u64,
        header: &Header,
        leaving: Leaving,
        worth: Worth,
    ) -> Option<u32> {
        let uses = self.index.find(hash, |other| other == position).map_or(0, |slot| slot.uses());
        match self.log.segment(leaving.segment).queue {
            _ if leaving.compact => Some(uses),
            Queue::Small => (uses >= worth.small).then_some(0),
            Queue::Main => {
                let size = self.entry_bytes(position, header);
                let earned = u64::from(uses) * WEIGHT_AVERAGE + self.reclaiming.throw();
                (uses >= worth.main && earned >= weight(size, leaving.average_bytes)).then_some(uses / 2)
            }
        }
    }

    /// Bytes of an entry in the log and of its large value.
    fn entry_bytes(&self, position: Position, header: &Header) -> u64 {
        let (_, bytes) = self.log.entry(position);
        let large = self.outside_memory(header, bytes).unwrap_or(0);
        u64::from(self.log.size(header)) + large
    }

    fn evict(&mut self, position: Position, hash: u64, queue: Queue) {
        self.ghosts.remember(queue, hash);
        self.note_eviction(position, hash);
        self.unlink(position, hash);
        self.bury(position);
        self.evictions += 1;
    }
}

/// What an entry of this size weighs.
fn weight(bytes: u64, average_bytes: u64) -> u64 {
    let fifths = WEIGHT_FIFTHS * bytes * WEIGHT_AVERAGE / average_bytes;
    (fifths.saturating_sub((WEIGHT_FIFTHS - 5) * WEIGHT_AVERAGE) / 5).clamp(WEIGHT_MIN, WEIGHT_MAX)
}

impl Worth {
    const USUAL: Worth = Worth { small: USES_TO_MAIN, main: 0, dead_parts: DEAD_PARTS_EVICT };
    const HIGH: Worth = Worth { small: 3, main: 3, dead_parts: DEAD_PARTS_EVICT };
    const NONE: Worth = Worth { small: 4, main: 4, dead_parts: DEAD_PARTS_EVICT };
    const ANY: Worth = Worth { small: 0, main: 0, dead_parts: DEAD_PARTS_EVICT };
}

#[cfg(test)]
mod tests {
    use super::{
        Queue, Reclaiming, SHARE_FIRST, SHARE_MAX, SHARE_MIN, SHARE_WHOLE, WEIGHT_AVERAGE, WEIGHT_MAX,
        WEIGHT_MIN, weight,
    };

    #[test]
    fn entries_of_one_size_stay_for_one_read_and_never_without() {
        let mut reclaiming = Reclaiming::new(64);
        for bytes in [1, 24, 570, 1 << 40] {
            assert_eq!(weight(bytes, bytes), WEIGHT_AVERAGE);
        }
        let throws: Vec<u64> = (0..100_000).map(|_| reclaiming.throw()).collect();
        assert_eq!(throws.iter().max(), Some(&(WEIGHT_AVERAGE - 1)));
        let low = throws.iter().filter(|throw| **throw < WEIGHT_AVERAGE / 4).count();
        assert!((24_500..25_500).contains(&low), "{low}");
    }

    #[test]
    fn the_smallest_go_in_the_end_and_the_largest_stay_if_they_are_read() {
        assert_eq!(weight(1, 1_000_000), WEIGHT_MIN);
        assert_eq!(weight(1 << 40, 1), WEIGHT_MAX);
        assert!(weight(400, 1_000) < weight(500, 1_000) && weight(1_500, 1_000) < weight(1_600, 1_000));
    }

    #[test]
    fn the_share_follows_what_is_missed_within_its_bounds() {
        let mut reclaiming = Reclaiming::new(64);
        let mut before = SHARE_FIRST;
        for _ in 0..1_000 {
            reclaiming.follow(Queue::Small, 500, 100_000);
            assert!(reclaiming.small_share > before || before == SHARE_MAX);
            before = reclaiming.small_share;
        }
        assert_eq!(before, SHARE_MAX);
        // One huge value moves it no further than its bound on a step, an empty log not at all badly.
        reclaiming.follow(Queue::Main, 1 << 60, 1);
        assert_eq!(reclaiming.small_share, SHARE_MAX - SHARE_WHOLE / 64);
        reclaiming.follow(Queue::Main, 1, 0);
        (0..1_000).for_each(|_| reclaiming.follow(Queue::Main, 500, 100_000));
        assert_eq!(reclaiming.small_share, SHARE_MIN);
        assert_eq!(reclaiming.small_bytes(1_000_000, 100), 19_999);
        assert_eq!(reclaiming.small_bytes(1_000_000, 100_000), 200_000);
    }
}
