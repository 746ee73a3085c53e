//! From a value's hash to where it lies in its list: pages of open addressing under a directory.
//!
//! A page holds the places of those values whose hashes begin with the same bits. A full one is split
//! by the next bit, so growing never touches more than one page and no insertion costs more than a few
//! microseconds, whatever the list holds (extendible hashing). A slot is a place and 32 bits of its
//! value's hash: splitting reads no values, and few are looked at in vain. Removing shifts back what
//! follows, so there are no tombstones; two halves that have become small are joined again.

use slab::Slab;

use super::sequence::Place;
use crate::memory::Block;
use crate::raw::region::PAGE_BYTES;

const SLOTS: usize = PAGE_BYTES / size_of::<u64>();

/// A page with this many is split.
const SLOTS_FULL: u16 = (SLOTS / 8 * 7) as u16;

/// Two halves with this many together are joined.
const SLOTS_JOINED: u16 = (SLOTS / 2) as u16;

/// Bits of a hash that choose a page, at most. 100,000 values need nine.
const DEPTH_MAX: u32 = 20;

/// The places of all values of a list.
#[derive(Debug)]
pub struct Map {
    /// Numbers of pages, by the first `depth` bits of a hash.
    directory: Vec<u32>,
    depth: u32,
    pages: Slab<Page>,
}

#[derive(Debug)]
struct Page {
    block: Block,
    live: u16,
    /// How many bits the hashes in it have in common.
    depth: u32,
}

impl Map {
    /// An empty map of one page.
    pub fn new() -> Map {
        let mut pages = Slab::with_capacity(1);
        pages.insert(Page::new(0));
        Map { directory: vec![0], depth: 0, pages }
    }

    /// Memory that it takes.
    pub fn memory_bytes(&self) -> u64 {
        let tables = self.directory.capacity() * size_of::<u32>() + self.pages.capacity() * PAGE_ENTRY_BYTES;
        self.pages.len() as u64 * PAGE_BYTES as u64 + tables as u64
    }

    /// Memory that [`Map::new`] takes.
    pub const NEW_BYTES: u64 = (PAGE_BYTES + size_of::<u32>() + PAGE_ENTRY_BYTES) as u64;

    /// The most memory that inserting this hash takes beside the present.
    pub fn growth_bytes(&self, hash: u64) -> u64 {
        let page = &self.pages[self.number_of(hash)];
        if page.live < SLOTS_FULL {
            return 0;
        }
        let table =
            if self.pages.len() == self.pages.capacity() { 2 * self.pages.capacity().max(4) } else { 0 };
        let directory = if page.depth == self.depth { 2 * self.directory.len() } else { 0 };
        (PAGE_BYTES + table * PAGE_ENTRY_BYTES + directory * size_of::<u32>()) as u64
    }

    /// The place of this hash for which `is` says true.
    pub fn find(&self, hash: u64, is: impl Fn(Place) -> bool) -> Option<Place> {
        let page = &self.pages[self.number_of(hash)];
        let mut at = home(tag_of(hash));
        loop {
            let (tag, place) = page.slot(at)?;
            if tag == tag_of(hash) && is(place) {
                return Some(place);
            }
            at = (at + 1) % SLOTS;
        }
    }

    /// Sees to it that this hash finds a slot. False when its page is full and splitting it does not
    /// help, which takes hundreds of hashes with the same beginning.
    pub fn make_place(&mut self, hash: u64) -> bool {
        if self.pages[self.number_of(hash)].live >= SLOTS_FULL {
            self.split(hash);
        }
        self.pages[self.number_of(hash)].live < SLOTS_FULL
    }

    /// Adds a place, for which [`Map::make_place`] has made room.
    pub fn insert(&mut self, hash: u64, place: Place) {
        let number = self.number_of(hash);
        self.pages[number].insert(tag_of(hash), place);
    }

    /// Has a value's place point elsewhere.
    pub fn relocate(&mut self, hash: u64, from: Place, to: Place) {
        let number = self.number_of(hash);
        let page = &mut self.pages[number];
        let at = page.position(tag_of(hash), from);
        debug_assert!(at.is_some(), "every value of a list is in its map");
        if let Some(at) = at {
            page.set(at, Some((tag_of(hash), to)));
        }
    }

    /// Takes a place out.
    pub fn remove(&mut self, hash: u64, place: Place) {
        let number = self.number_of(hash);
        let page = &mut self.pages[number];
        let at = page.position(tag_of(hash), place);
        debug_assert!(at.is_some(), "every value of a list is in its map");
        if let Some(at) = at {
            page.remove(at);
            self.join(hash);
        }
    }

    /// Frees pages until this many are, or none is left. Nothing else may be asked of the map after.
    pub fn free_pages(&mut self, pages_max: usize) -> usize {
        let mut freed = 0;
        while freed < pages_max
            && let Some((number, _)) = self.pages.iter().next_back()
        {
            self.pages.remove(number);
            freed += 1;
        }
        freed
    }

    fn number_of(&self, hash: u64) -> usize {
        self.directory[prefix(hash, self.depth)] as usize
    }

    fn split(&mut self, hash: u64) {
        let number = self.number_of(hash);
        let depth = self.pages[number].depth;
        if depth == DEPTH_MAX {
            return;
        }
        if depth == self.depth {
            self.directory = self.directory.iter().flat_map(|page| [*page, *page]).collect();
            self.depth += 1;
        }
        let mut upper = Page::new(depth + 1);
        let lower = &mut self.pages[number];
        let mut all = [None; SLOTS];
        for (at, slot) in all.iter_mut().enumerate() {
            *slot = lower.slot(at);
        }
        lower.clear(depth + 1);
        for (tag, place) in all.into_iter().flatten() {
            let half = if tag >> (31 - depth) & 1 == 0 { &mut *lower } else { &mut upper };
            half.insert(tag, place);
        }
        let upper = self.pages.insert(upper) as u32;
        // The entries of the page are those that begin with its bits; the later half is the upper's.
        let each = 1 << (self.depth - depth);
        let first = prefix(hash, depth) * each;
        self.directory[first + each / 2..first + each].fill(upper);
    }

    /// Joins the page of a hash with its other half if both together are small.
    fn join(&mut self, hash: u64) {
        let number = self.number_of(hash);
        let Page { depth, live, .. } = self.pages[number];
        if depth == 0 || live > SLOTS_JOINED / 2 {
            return;
        }
        let each = 1 << (self.depth - depth);
        let first = (prefix(hash, depth) & !1) * each;
        let other = self.directory[(prefix(hash, depth) ^ 1) * each] as usize;
        if self.pages[other].depth != depth || self.pages[other].live + live > SLOTS_JOINED {
            return;
        }
        let gone = self.pages.remove(other);
        let page = &mut self.pages[number];
        page.depth = depth - 1;
        (0..SLOTS).filter_map(|at| gone.slot(at)).for_each(|(tag, place)| page.insert(tag, place));
        self.directory[first..first + 2 * each].fill(number as u32);
    }
}

/// What the slab takes for each page.
const PAGE_ENTRY_BYTES: usize = size_of::<Page>() + size_of::<usize>();

impl Page {
    fn new(depth: u32) -> Page {
        let mut page = Page { block: Block::of(PAGE_BYTES), live: 0, depth };
        page.clear(depth);
        page
    }

    fn clear(&mut self, depth: u32) {
        self.block.fill(0);
        (self.live, self.depth) = (0, depth);
    }

    /// Tag and place in a slot. An empty one is zero, so a place is kept one higher.
    fn slot(&self, at: usize) -> Option<(u32, Place)> {
        let bytes: [u8; 8] = self.block[8 * at..8 * at + 8].try_into().unwrap_or_default();
        let slot = u64::from_le_bytes(bytes);
        (slot != 0).then(|| ((slot >> 32) as u32, Place(slot as u32 - 1)))
    }

    fn set(&mut self, at: usize, slot: Option<(u32, Place)>) {
        let slot = slot.map_or(0, |(tag, place)| u64::from(tag) << 32 | u64::from(place.0 + 1));
        self.block[8 * at..8 * at + 8].copy_from_slice(&slot.to_le_bytes());
    }

    fn position(&self, tag: u32, place: Place) -> Option<usize> {
        let mut at = home(tag);
        loop {
            match self.slot(at)? {
                found if found == (tag, place) => return Some(at),
                _ => at = (at + 1) % SLOTS,
            }
        }
    }

    fn insert(&mut self, tag: u32, place: Place) {
        let mut at = home(tag);
        while self.slot(at).is_some() {
            at = (at + 1) % SLOTS;
        }
        self.set(at, Some((tag, place)));
        self.live += 1;
    }

    /// Empties a slot and moves up those behind it that could stand there.
    fn remove(&mut self, mut hole: usize) {
        self.live -= 1;
        let mut at = hole;
        loop {
            at = (at + 1) % SLOTS;
            let Some((tag, place)) = self.slot(at) else { break };
            let (from_home, from_hole) = ((at + SLOTS - home(tag)) % SLOTS, (at + SLOTS - hole) % SLOTS);
            if from_home >= from_hole {
                self.set(hole, Some((tag, place)));
                hole = at;
            }
        }
        self.set(hole, None);
    }
}

/// The bits of a hash that stand in its slot; the first choose the page.
fn tag_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// Where a tag's search begins: by its last bits, which choose no page.
fn home(tag: u32) -> usize {
    tag as usize % SLOTS
}

/// The first bits of a hash.
fn prefix(hash: u64, bits: u32) -> usize {
    (hash >> 32 << 32).checked_shr(64 - bits).unwrap_or(0) as usize
}

const _: () = assert!(DEPTH_MAX + SLOTS.trailing_zeros() <= 32);

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{Map, Place};

    /// Hashes with bits that look random.
    fn hash_of(number: u64) -> u64 {
        let mixed = (number ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 29).wrapping_mul(0x94d0_49bb_1331_11eb) ^ mixed >> 31
    }

    #[test]
    fn what_was_inserted_is_found_until_it_is_removed_through_every_split_and_join() {
        let mut map = Map::new();
        let mut model = HashMap::new();
        let check = |map: &Map, model: &HashMap<u64, u32>, upto: u64| {
            for number in 0..upto {
                let expected = model.get(&number).map(|place| Place(*place));
                let found = map.find(hash_of(number), |place| Some(place) == expected);
                assert_eq!(found, expected, "{number}");
            }
        };
        for number in 0..20_000_u64 {
            let growth = map.growth_bytes(hash_of(number));
            let before = map.memory_bytes();
            assert!(map.make_place(hash_of(number)));
            map.insert(hash_of(number), Place(number as u32));
            assert!(map.memory_bytes() - before <= growth);
            model.insert(number, number as u32);
            if number % 7 == 0 {
                map.relocate(hash_of(number), Place(number as u32), Place(1_000_000 + number as u32));
                model.insert(number, 1_000_000 + number as u32);
            }
        }
        check(&map, &model, 20_000);
        let full = map.memory_bytes();
        assert!(full < 20_000 * 20, "{full}");
        for number in (0..20_000).filter(|number| number % 50 != 3) {
            map.remove(hash_of(number), Place(model.remove(&number).unwrap()));
        }
        check(&map, &model, 20_000);
        assert!(map.memory_bytes() < full / 8, "{} of {full}", map.memory_bytes());
        let mut freed = 0;
        while map.free_pages(3) > 0 {
            freed += 1;
        }
        assert!(freed > 0);
    }

    #[test]
    fn hashes_that_begin_alike_are_refused_rather_than_split_for_ever() {
        let mut map = Map::new();
        let mut inserted = 0;
        while map.make_place(7 << 32) {
            map.insert(7 << 32, Place(inserted));
            inserted += 1;
        }
        assert!((400..512).contains(&inserted));
        assert_eq!(map.find(7 << 32, |place| place == Place(399)), Some(Place(399)));
    }
}
