//! Brings back the part of one shard out of all that a journal or a snapshot holds, a slice each time.
//!
//! Every shard reads all records and takes those of its own keys, which may be others' than when they were
//! written. Spaces that nobody names any more stay away. When everything is back the clock goes on above
//! every version there is, and the shard's journal is attached: never before, or what comes back would be
//! written down once more.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::apply::Shard;
use super::restore::RestoreError;
use crate::clock::{Now, Version};
use crate::journal::{Fault, OpenError, Record, Replay, Tap, is_planted};
use crate::op::{KeyHasher, Namespace};

/// What all shards know that bring back what was kept.
#[derive(Clone, Debug)]
pub struct Comeback {
    /// All records, from the first one on.
    pub replay: Replay,
    /// The hasher of all shards.
    pub hasher: KeyHasher,
    /// How many shards there are.
    pub shards: usize,
    /// The spaces that there are. What is in others is of apps and databases that are gone.
    pub spaces: Arc<HashSet<Namespace>>,
    /// All clocks go on above it.
    pub version_max: Version,
    /// Whether it is no good if not all of it fits into the memory.
    pub must_fit: bool,
}

/// Why a shard could not bring back its part.
#[derive(Debug)]
pub enum NotBack {
    /// The records cannot be read.
    Unread(OpenError),
    /// A record cannot be brought back.
    Unrestored(RestoreError),
}

/// The part of one shard, as far as it has come.
#[derive(Debug)]
pub struct ComebackPart {
    of: Comeback,
    me: usize,
    tap: Option<Tap>,
    replay: Replay,
    /// Keys that found no room while everything was read for the first time.
    missed: HashSet<u64>,
    is_second: bool,
    left_out: u64,
}

impl Comeback {
    /// The part of a shard, whose journal is attached behind it, if it has one.
    pub fn part(&self, me: usize, tap: Option<Tap>) -> ComebackPart {
        let (replay, missed) = (self.replay.clone(), HashSet::new());
        ComebackPart { of: self.clone(), me, tap, replay, missed, is_second: false, left_out: 0 }
    }
}

impl ComebackPart {
    /// Goes on for about so many bytes of the records; true when everything is back.
    ///
    /// # Errors
    /// When the records cannot be read, or something that has to fit does not.
    pub fn go_on(&mut self, shard: &mut Shard, bytes: u64, now: Now) -> Result<bool, NotBack> {
        let ComebackPart { of, me, replay, missed, is_second, left_out, .. } = self;
        let mut refused = None;
        let slice = replay.next_slice(bytes, |record| {
            let Some((namespace, key)) = place(&record) else { return };
            if refused.is_some() || !of.spaces.contains(&namespace) {
                return;
            }
            let hash = of.hasher.hash(namespace, key);
            if KeyHasher::owner(hash, of.shards) != *me || *is_second && !missed.contains(&hash) {
                return;
            }
            match shard.restore(&record, now) {
                Ok(()) => {}
                // A cache that has become smaller keeps what fits.
                Err(_) if !of.must_fit => *left_out += 1,
                // While a live set and the changes behind its beginning are replayed, a shard may hold
                // more than it ever did. What finds no room then is looked for again at the end.
                Err(RestoreError::Full { .. }) if !*is_second => {
                    missed.insert(hash);
                    refused = shard.restore(&Record::Remove { namespace, key }, now).err();
                }
                Err(why) => refused = Some(why),
            }
        });
        let is_done = slice.map_err(NotBack::Unread)?;
        if let Some(why) = refused {
            return Err(NotBack::Unrestored(why));
        }
        if is_done && !self.is_second && !self.missed.is_empty() && !is_planted(Fault::NoSecondPass) {
            self.is_second = true;
            self.replay = self.of.replay.clone();
            return Ok(false);
        }
        if is_done {
            shard.raise_clock(self.of.version_max);
            self.tap.take().into_iter().for_each(|tap| shard.attach(tap));
        }
        Ok(is_done)
    }

    /// Bytes of the records that were read. Those that are read a second time do not count again.
    pub fn read_bytes(&self) -> u64 {
        let (done, total) = self.replay.progress();
        if self.is_second { total } else { done }
    }

    /// Records that found no room and did not have to.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

/// The key that a record is about, if it is about one.
pub(super) fn place<'r>(record: &Record<'r>) -> Option<(Namespace, &'r [u8])> {
    match *record {
        Record::Put(put) => Some((put.namespace, put.key)),
        Record::Rewrite { namespace, key, .. } | Record::Remove { namespace, key } => Some((namespace, key)),
        Record::PutList(list) => Some((list.namespace, list.key)),
        Record::Append(change) | Record::Withdraw(change) => Some((change.namespace, change.key)),
        Record::Node(_) => None,
    }
}

impl fmt::Display for NotBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotBack::Unread(why) => why.fmt(f),
            NotBack::Unrestored(RestoreError::Full { entry_bytes, held_bytes, ceiling_bytes }) => write!(
                f,
                "what the folder holds does not fit into the memory: an entry of {entry_bytes} bytes found no \
                 room beside the {held_bytes} bytes that a worker holds of the {ceiling_bytes} that it may; raise \
                 store.memory_limit, or set store.when_full: evict to start with a part of it"
            ),
            NotBack::Unrestored(RestoreError::TooLarge { entry_bytes, ceiling_bytes }) => write!(
                f,
                "what the folder holds does not fit into the memory: an entry has {entry_bytes} bytes, and a \
                 worker may hold {ceiling_bytes}; raise store.memory_limit or lower runtime.workers"
            ),
            // Left out before it comes here.
            NotBack::Unrestored(RestoreError::Closed) => {
                f.write_str("the folder holds an entry of no database")
            }
            NotBack::Unrestored(RestoreError::Malformed) => f.write_str(
                "the folder holds a list that cannot be read; `lucid recover` says what can be kept",
            ),
        }
    }
}

impl std::error::Error for NotBack {}
