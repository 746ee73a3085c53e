//! Lists among the entries of a store.
//!
//! A *short* list is an entry like any other: its value is its records, one behind the other, and a
//! change writes it anew. A *long* one has pages of its own ([`List`]); its entry holds its number, is
//! moved, expires and is evicted as any entry, counted with all that the list takes, and changes reach
//! the list in place. Room is made before a list grows, and making it may drop any entry, so whoever
//! changes a list in place is told when it has gone. A list that has left its entry is freed a few
//! pages at a time; until then its memory is counted.
//!
//! A list that is being made stands *aside*: it has a number and is counted, and no entry. It is found
//! from the moment when [`Store::attach`] gives it one.

use std::collections::VecDeque;

use slab::Slab;

use super::entry::{HEADER_BYTES_MAX, Header, LARGE_REFERENCE_BYTES, TIME_MS_MAX};
use super::eviction::Need;
use super::list::{self, List, Place, Value};
use super::log::{Position, Queue};
use super::{NewEntry, Store, WriteError};
use crate::clock::{Now, Version};
use crate::limits::LIST_VALUES_MAX;
use crate::op::{CONTENT_TYPE_DEFAULT, Encoding, Namespace, Payload};

/// What the table of lists takes for each.
const SLOT_BYTES: usize = 2 * size_of::<usize>();

/// Longest short list, in bytes of its records and in values. A long one takes at least two pages.
const SHORT_BYTES_MAX: usize = 2_048;
const SHORT_VALUES_MAX: u32 = 128;

/// A long list that shrinks below one in this many of either becomes short again.
const SHORT_AGAIN_PARTS: usize = 4;

/// The long lists of a shard.
#[derive(Debug, Default)]
pub struct Lists {
    lists: Slab<Box<List>>,
    /// Those that are gone, until they are freed.
    retired: VecDeque<Box<List>>,
    bytes: u64,
}

/// Where a list is.
#[derive(Clone, Copy, Debug)]
pub struct ListKey<'a> {
    /// The space of the key, one that holds lists.
    pub namespace: Namespace,
    /// 1 to [`crate::limits::KEY_BYTES_MAX`] bytes.
    pub key: &'a [u8],
    /// [`crate::op::KeyHasher::hash`] of namespace and key.
    pub hash: u64,
}

/// A list as it is read.
#[derive(Clone, Copy, Debug)]
pub struct ListView<'a> {
    /// When it was last changed.
    pub version: Version,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_ms: Option<u64>,
    /// Its values.
    pub kept: Kept<'a>,
}

/// How a list is kept.
#[derive(Clone, Copy, Debug)]
pub enum Kept<'a> {
    /// As records, to be read by [`super::records`].
    Short(&'a [u8]),
    /// In pages of its own.
    Long(&'a List),
}

impl<'a> Kept<'a> {
    /// Its values as they came, in their order.
    pub fn texts(self) -> impl Iterator<Item = &'a [u8]> {
        let (records, list) = match self {
            Kept::Short(records) => (records, None),
            Kept::Long(list) => (&[][..], Some(list)),
        };
        let long = list.into_iter().flat_map(|list: &'a List| {
            let places = std::iter::successors(list.select(0), |place| list.next(*place));
            places.map(|place| list.record(place).text)
        });
        list::all(records).map(|record| record.text).chain(long)
    }

    /// How many values it has.
    pub fn count(&self) -> u32 {
        match self {
            Kept::Short(records) => list::all(records).count() as u32,
            Kept::Long(list) => list.count(),
        }
    }

    /// Bytes of all values as JSON, each with a comma.
    pub fn text_bytes(&self) -> u64 {
        match self {
            Kept::Short(records) => {
                list::all(records).map(|record| list::shown_bytes(record.text.len())).sum()
            }
            Kept::Long(list) => list.text_bytes(),
        }
    }

    /// How many values are before the one with this canonical form.
    pub fn index_of(&self, canonical: &[u8], hash: u64) -> Option<u32> {
        match self {
            Kept::Short(records) => {
                list::all(records).position(|record| record.is(canonical)).map(|at| at as u32)
            }
            Kept::Long(list) => list.find(canonical, hash).map(|place| list.rank(place)),
        }
    }

    /// Whether it has the value with this canonical form.
    pub fn contains(&self, canonical: &[u8], hash: u64) -> bool {
        match self {
            Kept::Short(records) => list::all(records).any(|record| record.is(canonical)),
            Kept::Long(list) => list.find(canonical, hash).is_some(),
        }
    }
}

/// A short list that is being made or changed, apart from the store.
#[derive(Clone, Debug, Default)]
pub struct ShortList {
    records: Vec<u8>,
    count: u32,
    text_bytes: u64,
}

impl ShortList {
    /// A copy of the records of a short list.
    pub fn copy_of(records: &[u8]) -> ShortList {
        let kept = Kept::Short(records);
        ShortList { records: records.to_vec(), count: kept.count(), text_bytes: kept.text_bytes() }
    }

    /// Its records.
    pub fn records(&self) -> &[u8] {
        &self.records
    }

    /// How many values it has.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether it has the value with this canonical form.
    pub fn contains(&self, canonical: &[u8]) -> bool {
        list::all(&self.records).any(|record| record.is(canonical))
    }

    /// Adds a value that it does not have. False when the list would be too long for a short one.
    pub fn push(&mut self, value: &Value<'_>) -> bool {
        let (record, at) = (value.record(), self.records.len());
        if self.count == SHORT_VALUES_MAX || at + record.len() > SHORT_BYTES_MAX {
            return false;
        }
        self.records.resize(at + record.len(), 0);
        record.write(&mut self.records[at..]);
        self.count += 1;
        self.text_bytes += list::shown_bytes(value.text().len());
        true
    }

    /// Takes a value out. False when it has none with this canonical form.
    pub fn remove(&mut self, canonical: &[u8]) -> bool {
        let mut end = 0;
        let found = list::all(&self.records).find_map(|record| {
            let at = end;
            end += record.len();
            record.is(canonical).then(|| (at..end, list::shown_bytes(record.text.len())))
        });
        let Some((range, shown)) = found else { return false };
        self.records.drain(range);
        self.count -= 1;
        self.text_bytes -= shown;
        true
    }
}

/// What came of adding a value to a long list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is its last one now.
    New,
    /// It was there already, and stays where it is.
    Known,
    /// The list is no longer there: it made way for its own growth, or somebody dropped it.
    Gone,
}

impl Store {
    /// A list, unless it is absent or past its time. Counts as a use of it.
    pub fn find_list(&self, at: &ListKey<'_>, now: Now) -> Option<ListView<'_>> {
        let (slot, header, bytes) = self.look_up(self.spaces.of(at.namespace)?, at.key, at.hash)?;
        if header.expired(now) {
            return None;
        }
        slot.mark_used();
        Some(self.list_view(&header, bytes))
    }

    /// The hash of a key.
    pub fn hash(&self, namespace: Namespace, key: &[u8]) -> u64 {
        self.hasher.hash(namespace, key)
    }

    /// The hash of a value of a list, by its canonical form.
    pub fn hash_value(&self, canonical: &[u8]) -> u64 {
        self.hasher.hash(Namespace::KV, canonical)
    }

    /// Writes a short list.
    ///
    /// # Errors
    /// As for [`Store::write`].
    pub fn write_short(
        &mut self,
        at: &ListKey<'_>,
        list: &ShortList,
        version: Version,
        expires_ms: Option<u64>,
        now: Now,
    ) -> Result<(), WriteError> {
        // A limit under the least that a list may hold bounds short ones too.
        if list.text_bytes + 1 > self.config.value_bytes_max as u64 {
            return Err(WriteError::TooLarge);
        }
        self.write(&new_entry(at, &list.records, version, expires_ms), now)
    }

    /// Begins a long list aside.
    ///
    /// # Errors
    /// As for [`Store::write`].
    pub fn begin_list(&mut self, now: Now) -> Result<u32, WriteError> {
        self.make_room(&beside(self.lists.growth_bytes()), now)?;
        Ok(self.lists.insert(Box::new(List::empty())))
    }

    /// Adds a value to a list aside; false when it has it.
    ///
    /// # Errors
    /// As for [`Store::write`]. Then the list is as it was.
    pub fn push_aside(
        &mut self,
        number: u32,
        value: &Value<'_>,
        hash: u64,
        now: Now,
    ) -> Result<bool, WriteError> {
        if self.lists.get(number).find(value.canonical(), hash).is_some() {
            return Ok(false);
        }
        let growth = self.growth_of(number, value, hash)?;
        if growth > 0 {
            self.make_room(&beside(growth), now)?;
        }
        self.lists.change(number, |list| list.push(value, hash)).then_some(true).ok_or(WriteError::TooLarge)
    }

    /// Gives a list aside its entry.
    ///
    /// # Errors
    /// As for [`Store::write`]. Then the list is still aside.
    pub fn attach(
        &mut self,
        at: &ListKey<'_>,
        number: u32,
        version: Version,
        expires_ms: Option<u64>,
        now: Now,
    ) -> Result<(), WriteError> {
        let entry = new_entry(at, b"", version, expires_ms);
        let old = self.spot_of(&entry);
        let queue = self.queue_for(&entry, old);
        let need = Need {
            queue,
            entry_len_max: HEADER_BYTES_MAX + at.key.len() + LARGE_REFERENCE_BYTES,
            large_bytes: 0,
            inserts: Some((at.namespace, at.hash)),
        };
        self.make_room(&need, now)?;
        // Making room may have moved the entry, or evicted it.
        let old = self.spot_of(&entry).map(|spot| spot.position);
        let space = self.spaces.of_written(at.namespace).ok_or(WriteError::Full)?;
        let header = Header {
            version,
            key_len: at.key.len(),
            value_len: LARGE_REFERENCE_BYTES,
            space,
            expires_ms: expires_ms.map(|ms| ms.min(TIME_MS_MAX)),
            lock: None,
            content_type: self.types.refer(CONTENT_TYPE_DEFAULT),
            encoding: Encoding::Identity,
            large: true,
            dead: false,
            header_len: 0,
        };
        self.lists.change(number, |list| list.version = version);
        self.publish(&entry, header, queue, old, Some(number));
        Ok(())
    }

    /// A list aside.
    pub fn aside(&self, number: u32) -> &List {
        self.lists.get(number)
    }

    /// Drops a list aside.
    pub fn drop_aside(&mut self, number: u32) {
        self.lists.retire(number);
    }

    /// Adds a value to a long list where it lies, and gives the list this version.
    ///
    /// # Errors
    /// As for [`Store::write`]. Then the list is as it was.
    pub fn push_in_place(
        &mut self,
        at: &ListKey<'_>,
        value: &Value<'_>,
        hash: u64,
        version: Version,
        now: Now,
    ) -> Result<Pushed, WriteError> {
        let Some(held) = self.long_list(at) else { return Ok(Pushed::Gone) };
        if self.lists.get(held.number).find(value.canonical(), hash).is_some() {
            return Ok(Pushed::Known);
        }
        let growth = self.growth_of(held.number, value, hash)?;
        let held = if growth == 0 {
            held
        } else {
            self.make_room(&beside(growth), now)?;
            match self.long_list(at) {
                // No list is begun meanwhile, so what has the number is the same one.
                Some(again) if again.number == held.number => again,
                _ => return Ok(Pushed::Gone),
            }
        };
        let pushed = self.change_in_place(&held, |list| {
            list.version = version;
            list.push(value, hash)
        });
        if pushed { Ok(Pushed::New) } else { Err(WriteError::TooLarge) }
    }

    /// Takes a value out of a long list where it lies, and gives the list this version. False when the
    /// list is no longer there.
    pub fn remove_in_place(&mut self, at: &ListKey<'_>, place: Place, version: Version) -> bool {
        let Some(held) = self.long_list(at) else { return false };
        let hasher = self.hasher.clone();
        self.change_in_place(&held, |list| {
            list.version = version;
            list.remove(place, &|canonical| hasher.hash(Namespace::KV, canonical));
        });
        true
    }

    /// Gives a long list this version, if there is one.
    pub fn date_list(&mut self, at: &ListKey<'_>, version: Version) {
        if let Some(held) = self.long_list(at) {
            self.lists.change(held.number, |list| list.version = version);
        }
    }

    /// Makes a long list aside of a short one.
    ///
    /// # Errors
    /// As for [`Store::write`].
    pub fn lengthen(&mut self, short: &ShortList, now: Now) -> Result<u32, WriteError> {
        let number = self.begin_list(now)?;
        for record in list::all(&short.records) {
            let pushed = Value::of(record.text).map_err(|_| WriteError::TooLarge).and_then(|value| {
                let hash = self.hash_value(value.canonical());
                self.push_aside(number, &value, hash, now)
            });
            if let Err(why) = pushed {
                self.drop_aside(number);
                return Err(why);
            }
        }
        Ok(number)
    }

    /// Makes a long list short again if it has become so.
    pub fn shorten(&mut self, at: &ListKey<'_>, now: Now) {
        let Some(ListView { version, expires_ms, kept: Kept::Long(long) }) = self.find_list(at, now) else {
            return;
        };
        if long.count() as usize > SHORT_VALUES_MAX as usize / SHORT_AGAIN_PARTS
            || long.text_bytes() as usize > SHORT_BYTES_MAX / SHORT_AGAIN_PARTS
        {
            return;
        }
        let mut short = ShortList::default();
        let mut place = long.select(0);
        while let Some(at) = place {
            let record = long.record(at);
            // A quarter of what fits surely fits, and what was kept was comparable.
            let kept = Value::of(record.text).is_ok_and(|value| short.push(&value));
            debug_assert!(kept);
            place = long.next(at);
        }
        // Without room for it the list stays as it is.
        let _ = self.write_short(at, &short, version, expires_ms, now);
    }

    /// What an entry refers to outside the log.
    pub(super) fn outside(&self, header: &Header, bytes: &[u8]) -> Option<Outside> {
        let number = header.large_number(bytes)?;
        Some(match self.spaces.namespace(header.space).holds_lists() {
            false => Outside::Large(number),
            true => Outside::List(number),
        })
    }

    /// The memory that an entry refers to outside the log.
    pub(super) fn outside_memory(&self, header: &Header, bytes: &[u8]) -> Option<u64> {
        Some(match self.outside(header, bytes)? {
            Outside::Large(number) => self.large.get(number).memory_bytes(),
            Outside::List(number) => self.lists.get(number).memory_bytes(),
        })
    }

    /// What adding a value may take, unless the list is full.
    fn growth_of(&self, number: u32, value: &Value<'_>, hash: u64) -> Result<u64, WriteError> {
        let list = self.lists.get(number);
        let shown = list.text_bytes() + list::shown_bytes(value.text().len()) + 1;
        if list.count() == LIST_VALUES_MAX || shown > self.config.value_bytes_max as u64 {
            return Err(WriteError::TooLarge);
        }
        Ok(list.growth_bytes(value, hash))
    }

    fn long_list(&self, at: &ListKey<'_>) -> Option<HeldList> {
        let (slot, header, bytes) = self.look_up(self.spaces.of(at.namespace)?, at.key, at.hash)?;
        let number = header.large_number(bytes)?;
        Some(HeldList { number, position: slot.position(), space: header.space })
    }

    /// Changes a list and counts it anew wherever it is counted.
    fn change_in_place<T>(&mut self, held: &HeldList, change: impl FnOnce(&mut List) -> T) -> T {
        let sizes = |lists: &Lists| {
            let list = lists.get(held.number);
            (list.memory_bytes() as i64, list.text_bytes() as i64)
        };
        let (memory_before, text_before) = sizes(&self.lists);
        let result = self.lists.change(held.number, change);
        let (memory, text) = sizes(&self.lists);
        self.log.count_large(held.position, memory - memory_before);
        self.spaces.resize(held.space, text - text_before);
        result
    }
}

/// What an entry refers to outside the log, by number.
#[derive(Clone, Copy)]
pub(super) enum Outside {
    Large(u32),
    List(u32),
}

/// A long list and its entry.
struct HeldList {
    number: u32,
    position: Position,
    space: u32,
}

fn new_entry<'a>(
    at: &ListKey<'a>,
    records: &'a [u8],
    version: Version,
    expires_ms: Option<u64>,
) -> NewEntry<'a> {
    NewEntry {
        namespace: at.namespace,
        key: at.key,
        hash: at.hash,
        version,
        expires_ms,
        lock: None,
        content_type: CONTENT_TYPE_DEFAULT,
        encoding: Encoding::Identity,
        value: Payload::Bytes(records),
    }
}

/// The need of a list that grows: nothing in the log.
fn beside(bytes: u64) -> Need {
    Need { queue: Queue::Small, entry_len_max: 0, large_bytes: bytes, inserts: None }
}

impl Lists {
    /// The list of this number.
    ///
    /// # Panics
    /// When there is none: an entry has outlived its list.
    pub fn get(&self, number: u32) -> &List {
        &self.lists[number as usize]
    }

    /// Ends the life of a list: it is freed from now on.
    ///
    /// # Panics
    /// When there is none: two entries had the same list.
    pub fn retire(&mut self, number: u32) {
        self.retired.push_back(self.lists.remove(number as usize));
    }

    /// Whether a list that is gone is still to be freed.
    pub fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    /// Frees some pages of those that are gone. False when there was none.
    pub fn free_slice(&mut self, pages_max: usize) -> bool {
        let Some(list) = self.retired.front_mut() else { return false };
        let before = list.memory_bytes();
        let more = list.free_slice(pages_max);
        self.bytes -= before;
        if more {
            self.bytes += list.memory_bytes();
        } else {
            self.retired.pop_front();
        }
        true
    }

    /// Memory that all of them take, and the tables of them.
    pub fn bytes(&self) -> u64 {
        let tables = self.lists.capacity() * SLOT_BYTES + self.retired.capacity() * size_of::<usize>();
        self.bytes + tables as u64
    }

    /// The most memory that one more takes, the room for its retirement included.
    fn growth_bytes(&self) -> u64 {
        let table =
            if self.lists.len() == self.lists.capacity() { 2 * self.lists.capacity().max(4) } else { 0 };
        let all = self.lists.len() + self.retired.len() + 1;
        let retired = if all > self.retired.capacity() { 3 * all.max(4) } else { 0 };
        List::NEW_BYTES + (table * SLOT_BYTES + retired * size_of::<usize>()) as u64
    }

    fn insert(&mut self, list: Box<List>) -> u32 {
        self.bytes += list.memory_bytes();
        // Retiring happens where no room can be made.
        let all = self.lists.len() + self.retired.len() + 1;
        if all > self.retired.capacity() {
            self.retired.reserve_exact(2 * all.max(4) - self.retired.len());
        }
        u32::try_from(self.lists.insert(list)).expect("fewer lists than pages")
    }

    fn change<T>(&mut self, number: u32, change: impl FnOnce(&mut List) -> T) -> T {
        let list = &mut self.lists[number as usize];
        let before = list.memory_bytes();
        let result = change(list);
        self.bytes = self.bytes - before + list.memory_bytes();
        result
    }
}
