//! Brings back the part of one shard out of all that a journal or a snapshot holds, a slice each time.
//!
//! Every shard reads all records and takes those of its own keys, which may be others' than when they were
//! written. Spaces that nobody names any more stay away. When everything is back the clock goes on above
//! every version there is, and the shard's journal is attached: never before, or what comes back would be
//! written down once more.
//!
//! While a live set and the changes behind its beginning are replayed a shard may hold more than it ever did. A
//! key that finds no room then makes way, unless a record of all of it comes later and finds room. For those that
//! are missed in the end all is read twice more: to find the last record of all of each, and to bring it back from
//! there on, when nothing is in the way that no longer counts.

use std::collections::{HashMap, HashSet};
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
    /// Keys that have found no room so far, this time.
    missed: HashSet<u64>,
    /// Those that were missed, each with the number of the last record of all of it.
    wanted: HashMap<u64, u64>,
    pass: Pass,
    /// Records of keys that are looked for, in this pass.
    number: u64,
    left_out: u64,
}

/// What is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// To bring all back.
    All,
    /// To find the last record of all of each key that was missed.
    Find,
    /// To bring those back.
    Missed,
}

impl Comeback {
    /// The part of a shard, whose journal is attached behind it, if it has one.
    pub fn part(&self, me: usize, tap: Option<Tap>) -> ComebackPart {
        let (replay, missed) = (self.replay.clone(), HashSet::new());
        ComebackPart {
            of: self.clone(),
            me,
            tap,
            replay,
            missed,
            wanted: HashMap::new(),
            pass: Pass::All,
            number: 0,
            left_out: 0,
        }
    }
}

impl ComebackPart {
    /// Goes on for about so many bytes of the records; true when everything is back.
    ///
    /// # Errors
    /// When the records cannot be read, or something that has to fit does not.
    pub fn go_on(&mut self, shard: &mut Shard, bytes: u64, now: Now) -> Result<bool, NotBack> {
        let ComebackPart { of, me, replay, missed, wanted, pass, number, left_out, .. } = self;
        let mut refused = None;
        let slice = replay.next_slice(bytes, |record| {
            let Some((namespace, key)) = place(&record) else { return };
            if refused.is_some() || !of.spaces.contains(&namespace) {
                return;
            }
            let hash = of.hasher.hash(namespace, key);
            if KeyHasher::owner(hash, of.shards) != *me {
                return;
            }
            let is_whole = matches!(record, Record::Put(_) | Record::PutList(_) | Record::Remove { .. });
            if *pass != Pass::All {
                let Some(last) = wanted.get_mut(&hash) else { return };
                *number += 1;
                if *pass == Pass::Find && is_whole {
                    *last = *number;
                }
                if *pass == Pass::Find || *number < *last {
                    return;
                }
            }
            match shard.restore(&record, now) {
                Ok(()) => {
                    if is_whole && !missed.is_empty() {
                        missed.remove(&hash);
                    }
                }
                // A cache that has become smaller keeps what fits, and nothing that no longer counts.
                Err(_) if !of.must_fit => {
                    *left_out += 1;
                    refused = shard.restore(&Record::Remove { namespace, key }, now).err();
                }
                Err(RestoreError::Full { .. }) if *pass == Pass::All => {
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
        let next = match self.pass {
            Pass::All if self.missed.is_empty() || is_planted(Fault::NoSecondPass) => None,
            Pass::All => Some(Pass::Find),
            Pass::Find => Some(Pass::Missed),
            Pass::Missed => None,
        };
        if let Some(next) = next.filter(|_| is_done) {
            self.wanted.extend(self.missed.drain().map(|hash| (hash, 0)));
            (self.pass, self.number, self.replay) = (next, 0, self.of.replay.clone());
            return Ok(false);
        }
        if is_done {
            shard.raise_clock(self.of.version_max);
            if let Some(tap) = self.tap.take() {
                shard.attach(tap);
                if self.left_out > 0 {
                    shard.ask_base();
                }
            }
        }
        Ok(is_done)
    }

    /// Bytes of the records that were read. Those that are read again do not count again.
    pub fn read_bytes(&self) -> u64 {
        let (done, total) = self.replay.progress();
        if self.pass == Pass::All { done } else { total }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Comeback, NotBack, RestoreError};
    use crate::clock::{Now, Version};
    use crate::doorbell::Doorbell;
    use crate::etag::Tags;
    use crate::journal::{
        JournalConfig, Put, Random, Record, SimulatedDisk, Source, SteppedWriter, Sync, connect, open_on,
    };
    use crate::op::{CONTENT_TYPE_DEFAULT, Encoding, KeyHasher, Namespace, Payload};
    use crate::shard::Shard;
    use crate::store::{ListKey, STORE_BYTES_MIN, Store, StoreConfig, Walked, WhenFull};

    const NOW: Now = Now::from_unix_ms(1_700_000_000_000);

    fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Record<'a> {
        Record::Put(Put {
            namespace: Namespace::KV,
            key,
            version: Version(1),
            expires_ms: None,
            lock: None,
            content_type: CONTENT_TYPE_DEFAULT,
            encoding: Encoding::Identity,
            value: Payload::Bytes(value),
        })
    }

    /// A shard with what these records say, as a folder has them.
    fn brought_back(
        records: &[Record<'_>],
        when_full: WhenFull,
    ) -> Result<(Shard, KeyHasher, Source), NotBack> {
        let (disk, config) = (SimulatedDisk::new(1), JournalConfig::new(Sync::Never));
        let opened = open_on(&disk, &config).expect("a new folder");
        let bell = Arc::new(Doorbell::new(Box::new(|| {})));
        let (mut tap, source) = connect(bell.clone());
        let wakers: Arc<[Doorbell]> = [Doorbell::new(Box::new(|| {}))].into();
        let mut writer = SteppedWriter::start(opened, &disk, vec![source], wakers, bell).expect("it starts");
        let mut random = Random(1);
        for record in records {
            tap.append(record);
            while tap.is_congested() {
                writer.turn(&mut random, NOW);
                tap.flush();
            }
        }
        writer.close(&mut random, NOW).expect("a good end");
        let opened = open_on(&disk, &config).expect("a good folder");
        let hasher = KeyHasher::random();
        let comeback = Comeback {
            replay: opened.replay(),
            hasher: hasher.clone(),
            shards: 1,
            spaces: Arc::new([Namespace::KV].into()),
            version_max: opened.version_max(),
            must_fit: when_full == WhenFull::Reject,
        };
        let memory_bytes = 2 * STORE_BYTES_MIN;
        let value_bytes_max = memory_bytes as usize / 4;
        let store = StoreConfig { memory_bytes, value_bytes_max, when_full };
        let mut shard = Shard::new(Store::new(store, hasher.clone()).expect("memory"), Tags::new(1));
        let (tap, source) = connect(Arc::new(Doorbell::new(Box::new(|| {}))));
        let mut part = comeback.part(0, Some(tap));
        while !part.go_on(&mut shard, 100_000, NOW)? {}
        Ok((shard, hasher, source))
    }

    fn length_of(shard: &Shard, hasher: &KeyHasher, key: &[u8]) -> Option<usize> {
        let at = ListKey { namespace: Namespace::KV, key, hash: hasher.hash(Namespace::KV, key) };
        match shard.store.peek(&at, NOW)?.kept {
            Walked::Value(view) => Some(view.value.bytes().len()),
            Walked::List(_) => None,
        }
    }

    #[test]
    fn what_once_took_the_room_that_others_have_now_comes_back_as_it_was_last() {
        let others: Vec<Vec<u8>> = (0..200_u32).map(|number| number.to_le_bytes().to_vec()).collect();
        let (short, long) = (vec![7; 100], vec![8; 1 << 20]);
        let value = vec![9; 10_000];
        // The live set of a store that is half full, then changes that were made while it was written down: what
        // is there when it has come to the key, and what was there when it was begun.
        let mut records = vec![put(b"key", &short)];
        records.extend(others.iter().map(|key| put(key, &value)));
        let rest: Vec<Vec<u8>> = (0..100_u32).map(|number| format!("rest {number}").into_bytes()).collect();
        records.extend(rest.iter().map(|key| put(key, &value)));
        records.extend([put(b"key", &long), put(b"key", &short)]);
        let (shard, hasher, source) =
            brought_back(&records, WhenFull::Reject).expect("what is kept in the end fits");
        assert!(!source.asks_base());
        assert_eq!(length_of(&shard, &hasher, b"key"), Some(short.len()));
        for key in others.iter().chain(&rest) {
            assert_eq!(length_of(&shard, &hasher, key), Some(value.len()));
        }
        // What is too much in the end is.
        records.push(put(b"key", &long));
        let refused = brought_back(&records, WhenFull::Reject).map(|_| ());
        assert!(matches!(refused, Err(NotBack::Unrestored(RestoreError::Full { .. }))), "{refused:?}");
    }

    #[test]
    fn what_no_longer_fits_does_not_come_back_as_it_was_before() {
        let huge = vec![8; 3 * STORE_BYTES_MIN as usize];
        // The others have made way for it in vain, and are not asked for here.
        let records = [put(b"key", b"before"), put(b"key", &huge), put(b"other", b"here")];
        let (shard, hasher, source) = brought_back(&records, WhenFull::Evict).expect("a part of it");
        assert_eq!(length_of(&shard, &hasher, b"key"), None);
        assert_eq!(length_of(&shard, &hasher, b"other"), Some(4));
        assert!(source.asks_base(), "what was left out is still kept");
    }
}
