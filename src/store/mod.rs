//! The keys and values of one shard, within a hard ceiling of memory.
//!
//! A [`Store`] is a log of entries (`log`, `entry`) with an index over it (`index`). Writing
//! appends; published bytes never change; what is overwritten, deleted or expired lies dead until its
//! segment is reclaimed. Room is made before a write, a little for each (`eviction`); a bounded sweep
//! returns the room of expired entries (`expiry`). Values too large for the log have memory of their
//! own (`large`), and so have long lists (`list`, `lists`). The ceiling may be moved (`ceiling`). One thread owns a store; it reads no clock,
//! knows no network, and takes `now` as its last argument.
//!
//! Invariants, which `tests/store_model.rs` holds against a naive model: what was written is found,
//! byte for byte, until it is removed, expires, is evicted or its namespace emptied; [`Store::memory_bytes`]
//! never exceeds the ceiling; a large value is dropped exactly once. After warm-up, finding, writing
//! and removing small values allocates nothing. What still may: a table of the index that doubles
//! (until the shard is full; then only when entries get smaller, so that more of them fit) or shrinks,
//! a namespace or content type never seen before, a large value.

mod ceiling;
mod entry;
mod evicted;
mod eviction;
mod expiry;
mod ghosts;
mod index;
mod large;
mod list;
mod lists;
mod log;
mod namespaces;
mod scan;
mod types;
mod view;
mod walk;

use std::io;

pub use entry::Lock;
pub use list::{List, Place, Value, all as records, shown_bytes};
pub use lists::{Kept, ListKey, ListView, Pushed, ShortList};
pub use namespaces::NamespaceStats;
pub use scan::{Brought, Listed, Page, Place as ScanPlace, Scan, Sweep, Swept, SweptValue};
pub use view::{NewEntry, NewMeta, Seen, Spot, View};
pub use walk::{Walk, WalkBudget, WalkEntry, Walked};

use crate::clock::Now;
use crate::limits;
use crate::op::{CONTENT_TYPE_DEFAULT, KeyHasher, Large, Namespace, Payload};
use entry::{Header, LARGE_REFERENCE_BYTES, TIME_MS_MAX, TypeName};
use evicted::Evicted;
use eviction::{Need, Reclaiming};
use expiry::Sweeping;
use ghosts::Ghosts;
use index::{Entries, Index, Slot};
use large::LargeValues;
use lists::{Lists, Outside};
use log::{Log, Position, Queue, State};
use namespaces::Spaces;
use types::Types;

/// Least memory that a shard works with.
pub const STORE_BYTES_MIN: u64 = 2 * 1_024 * 1_024;

/// What a store does when a write finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Drop what is least worth keeping.
    Evict,
    /// Refuse the write.
    Reject,
}

/// What a store is made from.
#[derive(Clone, Copy, Debug)]
pub struct StoreConfig {
    /// Ceiling over index, log, large values and all tables of this shard, at least
    /// [`STORE_BYTES_MIN`].
    pub memory_bytes: u64,
    /// Largest value. Four of them must fit under the ceiling.
    pub value_bytes_max: usize,
    /// What happens when a write finds no room.
    pub when_full: WhenFull,
}

/// Why a write did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// No room, and nothing may be dropped for it.
    Full,
    /// The entry is over what a store of this size takes.
    TooLarge,
    /// The database is not open.
    Closed,
}

/// What a store holds and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries, among them expired ones that the sweep has not met yet.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub live_bytes: u64,
    /// Committed segments of the log.
    pub log_bytes: u64,
    /// Tables of the index.
    pub index_bytes: u64,
    /// Values outside the log.
    pub large_bytes: u64,
    /// Lists outside the log.
    pub list_bytes: u64,
    /// Everything else: ghosts, notes on segments, names.
    pub other_bytes: u64,
    /// Entries dropped to make room.
    pub evictions: u64,
    /// Entries dropped after their time.
    pub expired: u64,
}

/// The keys and values of one shard.
#[derive(Debug)]
pub struct Store {
    /// Its ceiling is the present one.
    config: StoreConfig,
    /// The highest ceiling: what the region was reserved for.
    memory_bytes_max: u64,
    /// Values up to this length lie in the log.
    inline_bytes_max: usize,
    hasher: KeyHasher,
    index: Index,
    log: Log,
    large: LargeValues,
    lists: Lists,
    spaces: Spaces,
    types: Types,
    ghosts: Ghosts,
    reclaiming: Reclaiming,
    sweeping: Sweeping,
    evictions: u64,
    expired: u64,
    /// How often an entry has got another place or none, by anything but a write of its key.
    moves: u64,
    /// Who was evicted, if somebody wants to know.
    evicted: Option<Box<Evicted>>,
}

impl Store {
    /// An empty store. Reserves address space; memory is committed as it fills.
    ///
    /// # Errors
    /// `InvalidInput` for a ceiling under [`STORE_BYTES_MIN`], or what reserving the region answers.
    pub fn new(config: StoreConfig, hasher: KeyHasher) -> io::Result<Store> {
        if config.memory_bytes < STORE_BYTES_MIN {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let log = Log::new(config.memory_bytes)?;
        let ghosts = match config.when_full {
            WhenFull::Evict => Ghosts::new(config.memory_bytes),
            WhenFull::Reject => Ghosts::none(),
        };
        Ok(Store {
            inline_bytes_max: limits::VALUE_COPY_BYTES_MAX.min(log.segment_bytes() as usize / 4),
            hasher,
            index: Index::new(config.memory_bytes),
            reclaiming: Reclaiming::new(log.segments().len()),
            log,
            large: LargeValues::default(),
            lists: Lists::default(),
            spaces: Spaces::new(),
            types: Types::default(),
            ghosts,
            sweeping: Sweeping::default(),
            evictions: 0,
            expired: 0,
            moves: 0,
            evicted: None,
            memory_bytes_max: config.memory_bytes,
            config,
        })
    }

    /// First hint of a batch: fetches what [`Store::prefetch_index`] reads.
    #[inline]
    pub fn prefetch_table(&self, hash: u64) {
        self.index.prefetch_table(hash);
    }

    /// Second hint of a batch: fetches what a lookup of this hash reads of the index.
    #[inline]
    pub fn prefetch_index(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Third hint of a batch: fetches the entries that may have this hash.
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) {
        self.index.for_each_candidate(hash, |position| self.log.prefetch(position));
    }

    /// The same for a hash whose value will be read.
    #[inline]
    pub fn prefetch_value(&self, hash: u64) {
        self.index.for_each_candidate(hash, |position| self.log.prefetch_whole(position));
    }

    /// The entry of a key, unless it is absent or past its time. Counts as a use of it.
    #[inline]
    pub fn find(&self, namespace: Namespace, key: &[u8], hash: u64, now: Now) -> Option<View<'_>> {
        let slot = self.slot_of(namespace, key, hash)?;
        if let Some((version, value)) = self.log.usual_parts(slot.position()) {
            slot.mark_used();
            let value = Payload::Bytes(value);
            return Some(View { version, value, ..View::USUAL });
        }
        self.find_unusual(slot, now)
    }

    /// The same for a write of the key that comes next: what it has to know of the entry, and where that is, so
    /// that it need not be looked up again.
    pub fn find_for_write(&self, namespace: Namespace, key: &[u8], hash: u64, now: Now) -> Option<Seen> {
        let slot = self.slot_of(namespace, key, hash)?;
        if let Some((version, _)) = self.log.usual_parts(slot.position()) {
            slot.mark_used();
            return Some(Seen { version, expires_ms: None, lock: None, spot: Spot::of(slot) });
        }
        let View { version, expires_ms, lock, .. } = self.find_unusual(slot, now)?;
        Some(Seen { version, expires_ms, lock, spot: Spot::of(slot) })
    }

    #[inline(never)]
    fn find_unusual(&self, slot: &Slot, now: Now) -> Option<View<'_>> {
        let (header, bytes) = self.log.entry(slot.position());
        if header.expired(now) {
            return None;
        }
        slot.mark_used();
        Some(self.view(&header, bytes, now))
    }

    /// Creates an entry or replaces it as a whole, making room first.
    ///
    /// # Errors
    /// `TooLarge` when key, type or value is over its limit, or the value over what fits under the
    /// ceiling at all; `Full` under [`WhenFull::Reject`] when no room can be made; `Closed` when it is for
    /// a database that is not open. Then nothing has changed for the key.
    pub fn write(&mut self, entry: &NewEntry<'_>, now: Now) -> Result<(), WriteError> {
        self.write_over(entry, None, now)
    }

    /// The same over an entry of the key that was found since the store last changed; `None` if nothing is known.
    ///
    /// # Errors
    /// As for [`Store::write`].
    pub fn write_over(
        &mut self,
        entry: &NewEntry<'_>,
        spot: Option<Spot>,
        now: Now,
    ) -> Result<(), WriteError> {
        if !self.spaces.is_open(entry.namespace) {
            return Err(WriteError::Closed);
        }
        let value_len = entry.value.bytes().len();
        if entry.key.is_empty()
            || entry.key.len() > limits::KEY_BYTES_MAX
            || entry.content_type.len() > limits::CONTENT_TYPE_BYTES_MAX
            || value_len > self.config.value_bytes_max
        {
            return Err(WriteError::TooLarge);
        }
        let large = value_len > self.inline_bytes_max;
        let large_bytes = match entry.value {
            _ if !large => 0,
            value => self.large.memory_bytes_for(value.bytes().len()),
        };
        debug_assert!(
            spot.is_none_or(|spot| self.spot_of(entry).is_some_and(|it| it.position == spot.position))
        );
        let old = spot.or_else(|| self.spot_of(entry));
        let queue = self.queue_for(entry, old);
        let moves = self.moves;
        let logged_len = if large { LARGE_REFERENCE_BYTES } else { value_len };
        let need = Need {
            queue,
            entry_len_max: entry::HEADER_BYTES_MAX + entry.content_type.len() + entry.key.len() + logged_len,
            large_bytes,
            inserts: Some((entry.namespace, entry.hash)),
        };
        self.make_room(&need, now)?;
        // Making room may have moved the entry, or evicted it.
        let old = if self.moves == moves { old } else { self.spot_of(entry) };
        self.ghosts.warm(self.spaces.total().entries);
        let space = self.spaces.of_written(entry.namespace).ok_or(WriteError::Full)?;
        let header = Header {
            version: entry.version,
            key_len: entry.key.len(),
            value_len: logged_len,
            space,
            expires_ms: entry.expires_ms.map(|ms| ms.min(TIME_MS_MAX)),
            lock: entry.lock,
            content_type: self.types.refer(entry.content_type),
            encoding: entry.encoding,
            large,
            dead: false,
            header_len: 0,
        };
        self.publish(entry, header, queue, old.map(|spot| spot.position), None);
        Ok(())
    }

    /// Gives an entry another expiry and lock and leaves its bytes and version as they are. False
    /// when the key is absent.
    ///
    /// # Errors
    /// `Full` under [`WhenFull::Reject`] when no room can be made for the new header.
    pub fn rewrite(
        &mut self,
        namespace: Namespace,
        key: &[u8],
        hash: u64,
        meta: NewMeta,
        now: Now,
    ) -> Result<bool, WriteError> {
        let Some(space) = self.spaces.of(namespace) else { return Ok(false) };
        let Some((slot, header, _)) = self.look_up(space, key, hash) else { return Ok(false) };
        if header.expired(now) {
            return Ok(false);
        }
        let queue = self.log.segment(self.log.segment_of(slot.position())).queue;
        let need = Need { queue, entry_len_max: header.len_max(), large_bytes: 0, inserts: None };
        self.make_room(&need, now)?;
        // Making room may have moved the entry, or evicted it.
        let Some((slot, header, _)) = self.look_up(space, key, hash) else { return Ok(false) };
        let header = Header { expires_ms: meta.expires_ms, lock: meta.lock, ..header };
        let (from, uses) = (slot.position(), slot.uses());
        self.relocate(from, hash, queue, &header, uses);
        Ok(true)
    }

    /// Removes an entry. False when the key is absent.
    pub fn remove(&mut self, namespace: Namespace, key: &[u8], hash: u64, now: Now) -> bool {
        let Some(space) = self.spaces.of(namespace) else { return false };
        let Some((slot, header, _)) = self.look_up(space, key, hash) else { return false };
        let (position, expired) = (slot.position(), header.expired(now));
        self.unlink(position, hash);
        self.bury(position);
        self.expired += u64::from(expired);
        !expired
    }

    /// What the store holds and did.
    pub fn stats(&self) -> Stats {
        Stats {
            entries: self.spaces.total().entries,
            live_bytes: self.spaces.total().bytes,
            log_bytes: self.log.committed_bytes(),
            index_bytes: self.index.bytes(),
            large_bytes: self.large.bytes(),
            list_bytes: self.lists.bytes(),
            other_bytes: self.other_bytes(),
            evictions: self.evictions,
            expired: self.expired,
        }
    }

    /// All memory that the store takes. Never over its ceiling.
    pub fn memory_bytes(&self) -> u64 {
        self.log.committed_bytes() + self.beside_log_bytes()
    }

    /// Memory beside the log.
    fn beside_log_bytes(&self) -> u64 {
        self.index.bytes() + self.large.bytes() + self.lists.bytes() + self.other_bytes()
    }

    /// Memory beside log, index, large values and lists.
    fn other_bytes(&self) -> u64 {
        self.ghosts.bytes() + self.log.overhead_bytes() + self.spaces.bytes() + self.types.bytes()
    }

    #[inline]
    fn look_up(&self, space: u32, key: &[u8], hash: u64) -> Option<(&Slot, Header, &[u8])> {
        let slot = self.index.find(hash, |position| self.log.is_of(position, space, key))?;
        let (header, bytes) = self.log.entry(slot.position());
        Some((slot, header, bytes))
    }

    #[inline]
    fn view<'a>(&'a self, header: &Header, bytes: &'a [u8], now: Now) -> View<'a> {
        View {
            version: header.version,
            expires_ms: header.expires_ms,
            lock: header.lock.filter(|lock| lock.holds(now)),
            content_type: self.type_name(header, bytes),
            encoding: header.encoding,
            value: match self.outside(header, bytes) {
                None => Payload::Bytes(header.value(bytes)),
                Some(Outside::Large(number)) => Payload::Large(self.large.get(number)),
                // What reads a list as a value, a listing of names, finds nothing in it.
                Some(Outside::List(_)) => Payload::Bytes(b""),
            },
        }
    }

    #[inline]
    fn type_name<'a>(&'a self, header: &Header, bytes: &'a [u8]) -> &'a [u8] {
        match header.content_type {
            TypeName::Default => CONTENT_TYPE_DEFAULT,
            TypeName::Interned(number) => self.types.name(number),
            TypeName::Inline(_) => header.inline_type(bytes),
        }
    }

    /// Where the entry is that a write replaces.
    fn spot_of(&self, entry: &NewEntry<'_>) -> Option<Spot> {
        self.slot_of(entry.namespace, entry.key, entry.hash).map(Spot::of)
    }

    #[inline(always)] // Each of its callers is one lookup of a request.
    fn slot_of(&self, namespace: Namespace, key: &[u8], hash: u64) -> Option<&Slot> {
        let space = self.spaces.of(namespace)?;
        self.index.find(hash, |position| self.log.is_of(position, space, key))
    }

    /// Appends the entry, points the index to it and buries the one it replaces. `list` is the number of
    /// the list that it stands for.
    fn publish(
        &mut self,
        entry: &NewEntry<'_>,
        header: Header,
        queue: Queue,
        old: Option<Position>,
        list: Option<u32>,
    ) {
        let reference;
        let mut value_len = entry.value.bytes().len() as u64;
        let (logged, value_memory): (&[u8], _) = match entry.value {
            _ if let Some(number) = list => {
                let list = self.lists.get(number);
                value_len = list.text_bytes();
                reference = number.to_le_bytes();
                (&reference, Some(list.memory_bytes()))
            }
            Payload::Bytes(bytes) if !header.large => (bytes, None),
            Payload::Large(value) if !header.large => (value, None),
            value => {
                let value = match value {
                    Payload::Bytes(bytes) => Large::copy_of(bytes),
                    Payload::Large(value) => value.clone(),
                };
                let memory = value.memory_bytes();
                reference = self.large.insert(value).to_le_bytes();
                (&reference, Some(memory))
            }
        };
        let inline_type = match header.content_type {
            TypeName::Inline(_) => entry.content_type,
            TypeName::Default | TypeName::Interned(_) => b"",
        };
        let position = self.log.append(queue, &header, [inline_type, entry.key, logged]);
        if let Some(memory) = value_memory {
            self.log.count_large(position, memory as i64);
        }
        self.note_expiry(position, header.expires_ms);
        self.spaces.count_in(header.space, entry.key.len() as u64 + value_len);
        match old {
            Some(old) => {
                if let Some(slot) = self.index.find(entry.hash, |other| other == old) {
                    slot.set(position, slot.uses());
                }
                self.bury(old);
            }
            None => {
                let Store { index, log, spaces, hasher, .. } = self;
                index.insert(entry.hash, position, &Keys { log, spaces, hasher });
            }
        }
    }

    /// Moves an entry to the end of a queue under another header and points the index to it.
    fn relocate(&mut self, from: Position, hash: u64, queue: Queue, header: &Header, uses: u32) {
        let (old, bytes) = self.log.entry(from);
        let size = self.log.size(&old);
        let value_memory = self.outside_memory(&old, bytes);
        let to = self.log.append_copy(queue, header, from);
        if let Some(memory) = value_memory {
            self.log.count_large(from, -(memory as i64));
            self.log.count_large(to, memory as i64);
        }
        self.note_expiry(to, header.expires_ms);
        self.moves += 1;
        let slot = self.index.find(hash, |position| position == from);
        debug_assert!(slot.is_some(), "a live entry is in the index");
        if let Some(slot) = slot {
            slot.set(to, uses);
        }
        self.log.bury(from, size);
        self.release_if_dead(self.log.segment_of(from));
    }

    /// Takes an entry out of the index.
    fn unlink(&mut self, position: Position, hash: u64) {
        self.moves += 1;
        let Store { index, log, spaces, hasher, .. } = self;
        let removed = index.remove(hash, position, &Keys { log, spaces, hasher });
        debug_assert!(removed, "a live entry is in the index");
    }

    /// Ends the life of an entry that is no longer in the index: the one place where its counters
    /// and its large value are taken back.
    fn bury(&mut self, position: Position) {
        let (header, bytes) = self.log.entry(position);
        debug_assert!(!header.dead, "an entry dies once");
        let size = self.log.size(&header);
        let mut held = header.key_len + header.value_len;
        if let Some(outside) = self.outside(&header, bytes) {
            let (memory_bytes, value_len) = match outside {
                Outside::Large(number) => {
                    let value = self.large.remove(number);
                    (value.memory_bytes(), value.len())
                }
                Outside::List(number) => {
                    let list = self.lists.get(number);
                    let taken = (list.memory_bytes(), list.text_bytes() as usize);
                    self.lists.retire(number);
                    taken
                }
            };
            held = header.key_len + value_len;
            self.log.count_large(position, -(memory_bytes as i64));
        }
        self.spaces.count_out(header.space, held as u64);
        self.log.bury(position, size);
        self.release_if_dead(self.log.segment_of(position));
    }

    fn release_if_dead(&mut self, segment: u32) {
        let at = self.log.segment(segment);
        if at.state == State::Sealed && at.is_dead() {
            self.log.take_out(segment);
            self.release(segment);
        }
    }

    /// Frees a segment that was taken out and is dead.
    fn release(&mut self, segment: u32) {
        self.sweeping.forget(segment);
        self.log.release(segment);
        self.ghosts.fit(self.spaces.total().entries);
    }

    fn hash_at(&self, position: Position) -> u64 {
        Keys { log: &self.log, spaces: &self.spaces, hasher: &self.hasher }.hash_at(position)
    }
}

/// What the index must see of the rest while one of its tables is rebuilt.
struct Keys<'a> {
    log: &'a Log,
    spaces: &'a Spaces,
    hasher: &'a KeyHasher,
}

impl Entries for Keys<'_> {
    fn hash_at(&self, position: Position) -> u64 {
        let (header, bytes) = self.log.entry(position);
        self.hasher.hash(self.spaces.namespace(header.space), header.key(bytes))
    }

    fn prefetch_at(&self, position: Position) {
        self.log.prefetch(position);
    }
}
