//! Who an entry belongs to: namespaces, and the spaces that stand for them in the log.
//!
//! Entries do not name their namespace but its present *space*. Emptying a namespace gives it a new
//! space the next time it is written to and retires the old one: whatever lies there is absent from
//! that moment, for the price of one map entry, and its bytes are returned when reclaiming or the
//! sweep come past. A retired space goes back into use when its last entry is buried, so numbers stay
//! small. Space 0 takes no byte in an entry; it goes to the first namespace written to, which in
//! practice is [`Namespace::KV`].
//!
//! A database is open or closed, whether it has a space or not. Writes to a closed one find no space, so
//! one that was under way while its database was dropped leaves nothing behind. All databases can be emptied at
//! once by raising their numbers: they are looked up by what they had before, and what is found under it
//! counts only if it is a space of the number that they have now.

use std::collections::HashMap;

use super::Store;
use super::entry::SPACES_MAX;
use crate::op::Namespace;

/// What the map from namespaces takes for each slot.
const MAP_SLOT_BYTES: usize = size_of::<(Namespace, u32)>() + 1;

/// Numbers of emptied databases that are remembered: what is on its way to them when they get another is
/// there in some microseconds.
const RENUMBERED_KEPT: usize = 64;

/// Stands for the space of an open database that has none yet.
const NO_SPACE: u32 = u32::MAX;

/// What a namespace holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceStats {
    /// Entries, among them expired ones that the sweep has not met yet.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

#[derive(Debug)]
struct Space {
    namespace: Namespace,
    retired: bool,
    held: NamespaceStats,
}

/// All spaces of a shard.
#[derive(Debug)]
pub struct Spaces {
    spaces: Vec<Space>,
    free: Vec<u32>,
    present: HashMap<Namespace, u32, ahash::RandomState>,
    /// The same for databases, all of those that are open: by their number less `raised`. A space that was
    /// retired since, or stands for another by now, is none of theirs.
    databases: HashMap<u32, u32, ahash::RandomState>,
    raised: u32,
    /// Present space of `Namespace::KV`, looked up by every request of the hottest family.
    kv: Option<u32>,
    total: NamespaceStats,
    retired_entries: u64,
    drops: u64,
    /// Numbers that databases had before they were emptied, the last ones.
    renumbered: [Option<Namespace>; RENUMBERED_KEPT],
    renumbered_next: usize,
    /// All below had other databases, before all were emptied.
    renumbered_below: Option<Namespace>,
}

impl Spaces {
    /// No namespace holds anything.
    pub fn new() -> Spaces {
        Spaces {
            spaces: Vec::new(),
            free: Vec::new(),
            present: HashMap::default(),
            databases: HashMap::default(),
            raised: 0,
            kv: None,
            total: NamespaceStats::default(),
            retired_entries: 0,
            drops: 0,
            renumbered: [None; RENUMBERED_KEPT],
            renumbered_next: 0,
            renumbered_below: None,
        }
    }

    /// The space of a namespace, if it was written to since it was last emptied.
    #[inline]
    pub fn of(&self, namespace: Namespace) -> Option<u32> {
        if namespace == Namespace::KV {
            return self.kv;
        }
        if namespace.is_database() {
            let space = *self.databases.get(&self.place(namespace)?)?;
            let is_present = |space: &Space| space.namespace == namespace && !space.retired;
            // `NO_SPACE` is out of range.
            return self.spaces.get(space as usize).is_some_and(is_present).then_some(space);
        }
        self.present.get(&namespace).copied()
    }

    /// Under what a database is looked up, unless its number is from before all of them rose.
    #[inline]
    fn place(&self, database: Namespace) -> Option<u32> {
        database.number().checked_sub(self.raised)
    }

    /// Whether a namespace may be written to: any but that of a closed database.
    #[inline]
    pub fn is_open(&self, namespace: Namespace) -> bool {
        !namespace.is_database()
            || self.place(namespace).is_some_and(|place| self.databases.contains_key(&place))
    }

    /// Opens a database.
    pub fn open(&mut self, database: Namespace) {
        debug_assert!(database.is_database());
        if let Some(place) = self.place(database) {
            self.databases.entry(place).or_insert(NO_SPACE);
        }
    }

    /// Makes everything in a database absent and closes it.
    pub fn close(&mut self, database: Namespace) {
        self.shut(database);
        self.renumbered_below = None;
    }

    fn shut(&mut self, database: Namespace) {
        self.empty(database);
        if let Some(place) = self.place(database) {
            self.databases.remove(&place);
        }
    }

    /// Closes a database and opens it under another number. Its old number is remembered for a while.
    pub fn renumber(&mut self, from: Namespace, to: Namespace) {
        self.shut(from);
        self.open(to);
        self.renumbered[self.renumbered_next % RENUMBERED_KEPT] = Some(from);
        self.renumbered_next += 1;
    }

    /// Closes all databases and opens as many, from this number on.
    pub fn renumber_all(&mut self, first: u32) {
        let count = self.databases.len() as u32;
        self.close_databases();
        (0..count).for_each(|number| self.open(Namespace::database(first + number)));
        self.renumbered_below = Some(Namespace::database(first));
    }

    /// Makes everything in all databases absent by raising their numbers, which are from `first` on then. Costs
    /// as much as there are spaces, a few nanoseconds for each, whatever lies in them.
    pub fn raise_all(&mut self, by: u32, first: u32) {
        self.empty_databases();
        self.raised += by;
        self.renumbered_below = Some(Namespace::database(first));
    }

    /// Whether a database had this number until lately.
    pub fn was_renumbered(&self, namespace: Namespace) -> bool {
        namespace.is_database()
            && (self.renumbered.contains(&Some(namespace))
                || self.renumbered_below.is_some_and(|below| namespace < below))
    }

    /// Makes everything in all databases absent.
    fn empty_databases(&mut self) {
        for space in 0..self.spaces.len() {
            let Space { namespace, retired, .. } = &self.spaces[space];
            if namespace.is_database() && !retired {
                self.retire(space as u32);
            }
        }
    }

    /// Makes everything in all databases absent and closes them.
    pub fn close_databases(&mut self) {
        self.empty_databases();
        self.databases = HashMap::default();
        self.renumbered_below = None;
    }

    /// The most bytes that a write to this namespace may add to the table of spaces.
    pub fn growth_bytes(&self, namespace: Namespace) -> u64 {
        if self.of(namespace).is_some() {
            return 0;
        }
        let spaces =
            if self.spaces.len() == self.spaces.capacity() { self.spaces.capacity().max(4) } else { 0 };
        let is_full = !namespace.is_database() && self.present.len() == self.present.capacity();
        let present = if is_full { self.present.len().max(4) } else { 0 };
        (spaces * (size_of::<Space>() + size_of::<u32>()) + 3 * present * MAP_SLOT_BYTES) as u64
    }

    /// The space of a namespace that is about to be written to. `None` when no number is left.
    pub fn of_written(&mut self, namespace: Namespace) -> Option<u32> {
        if let Some(space) = self.of(namespace) {
            return Some(space);
        }
        let fresh = Space { namespace, retired: false, held: NamespaceStats::default() };
        let space = match self.free.pop() {
            Some(space) => {
                self.spaces[space as usize] = fresh;
                space
            }
            None if self.spaces.len() < SPACES_MAX as usize => {
                self.spaces.push(fresh);
                // Room for every number, so that a space never allocates when it falls free.
                self.free.reserve_exact(self.spaces.capacity());
                self.spaces.len() as u32 - 1
            }
            None => return None,
        };
        if namespace == Namespace::KV {
            self.kv = Some(space);
        } else if !namespace.is_database() {
            self.present.insert(namespace, space);
        } else if let Some(place) = self.place(namespace) {
            self.databases.insert(place, space);
        }
        Some(space)
    }

    /// The namespace that a space stands for, or stood for.
    #[inline]
    pub fn namespace(&self, space: u32) -> Namespace {
        self.spaces[space as usize].namespace
    }

    /// Whether the entries of a space are absent because their namespace was emptied.
    #[inline]
    pub fn is_retired(&self, space: u32) -> bool {
        self.spaces[space as usize].retired
    }

    /// Counts an entry with this many bytes of key and value in.
    pub fn count_in(&mut self, space: u32, bytes: u64) {
        for held in [&mut self.spaces[space as usize].held, &mut self.total] {
            held.entries += 1;
            held.bytes += bytes;
        }
    }

    /// Counts an entry out that was counted in with these bytes.
    pub fn count_out(&mut self, space: u32, bytes: u64) {
        let Space { retired, held, .. } = &mut self.spaces[space as usize];
        held.entries -= 1;
        held.bytes -= bytes;
        if *retired {
            self.retired_entries -= 1;
            if held.entries == 0 {
                self.free.push(space);
            }
        } else {
            self.total.entries -= 1;
            self.total.bytes -= bytes;
        }
    }

    /// Counts an entry anew whose value has changed its length by so many bytes.
    pub fn resize(&mut self, space: u32, difference: i64) {
        for held in [&mut self.spaces[space as usize].held, &mut self.total] {
            held.bytes = held.bytes.wrapping_add_signed(difference);
        }
    }

    /// Makes everything in a namespace absent.
    pub fn empty(&mut self, namespace: Namespace) {
        let space = if namespace == Namespace::KV {
            self.kv.take()
        } else if namespace.is_database() {
            self.of(namespace)
        } else {
            self.present.remove(&namespace)
        };
        if let Some(space) = space {
            self.retire(space);
        }
    }

    fn retire(&mut self, space: u32) {
        let Space { retired, held, .. } = &mut self.spaces[space as usize];
        *retired = true;
        self.total.entries -= held.entries;
        self.total.bytes -= held.bytes;
        self.retired_entries += held.entries;
        match held.entries {
            0 => self.free.push(space),
            _ => self.drops += 1,
        }
    }

    /// What a namespace holds.
    pub fn stats(&self, namespace: Namespace) -> NamespaceStats {
        self.of(namespace).map(|space| self.spaces[space as usize].held).unwrap_or_default()
    }

    /// What all namespaces hold.
    pub fn total(&self) -> NamespaceStats {
        self.total
    }

    /// Entries of retired spaces that still lie in the log.
    pub fn retired_entries(&self) -> u64 {
        self.retired_entries
    }

    /// How many times a namespace with something in it was emptied.
    pub fn drops(&self) -> u64 {
        self.drops
    }

    /// Memory that the table of spaces takes.
    pub fn bytes(&self) -> u64 {
        (self.spaces.capacity() * size_of::<Space>()
            + self.free.capacity() * size_of::<u32>()
            + (self.present.capacity() + self.databases.capacity()) * MAP_SLOT_BYTES * 8 / 7) as u64
    }
}

impl Store {
    /// Makes all entries of a namespace absent, at a cost that does not grow with their number.
    /// Their memory returns as reclaiming and the sweep come past them.
    pub fn drop_namespace(&mut self, namespace: Namespace) {
        self.spaces.empty(namespace);
    }

    /// Whether a namespace may be asked: any but that of a closed database. One that was emptied lately under
    /// another number may, by those who do not know yet, and has nothing.
    pub fn is_open(&self, namespace: Namespace) -> bool {
        self.spaces.is_open(namespace) || self.spaces.was_renumbered(namespace)
    }

    /// Opens a database for writes.
    pub fn open_database(&mut self, database: Namespace) {
        self.spaces.open(database);
    }

    /// Makes all entries of a database absent, as [`Store::drop_namespace`] does, and takes no more.
    pub fn close_database(&mut self, database: Namespace) {
        self.spaces.close(database);
    }

    /// Empties a database, which is known by another number from now on.
    pub fn renumber_database(&mut self, from: Namespace, to: Namespace) {
        self.spaces.renumber(from, to);
    }

    /// Makes all entries of all databases absent, and takes no more.
    pub fn close_databases(&mut self) {
        self.spaces.close_databases();
    }

    /// Empties all databases, which get the numbers from `first` on, in the order of those they had.
    pub fn renumber_databases(&mut self, first: u32) {
        self.spaces.renumber_all(first);
    }

    /// Empties all databases, whose numbers rise by so many, and are from `first` on then.
    pub fn raise_databases(&mut self, by: u32, first: u32) {
        self.spaces.raise_all(by, first);
    }

    /// What a namespace holds.
    pub fn namespace_stats(&self, namespace: Namespace) -> NamespaceStats {
        self.spaces.stats(namespace)
    }

    /// What all namespaces hold.
    pub fn total(&self) -> NamespaceStats {
        self.spaces.total()
    }
}

#[cfg(test)]
mod tests {
    use super::{NamespaceStats, Spaces};
    use crate::op::Namespace;

    #[test]
    fn an_emptied_namespace_gets_a_new_space_and_the_old_one_returns_when_it_is_bare() {
        let mut spaces = Spaces::new();
        let (a, b) = (Namespace(7), Namespace(8));
        let first = spaces.of_written(a).unwrap();
        spaces.count_in(first, 10);
        spaces.empty(a);
        assert_eq!(spaces.of(a), None);
        assert_eq!(spaces.total(), NamespaceStats::default());
        assert_eq!((spaces.retired_entries(), spaces.drops()), (1, 1));
        let second = spaces.of_written(a).unwrap();
        assert_ne!(first, second);
        assert!(spaces.is_retired(first) && !spaces.is_retired(second));
        spaces.count_out(first, 10);
        assert_eq!(spaces.retired_entries(), 0);
        assert_eq!(spaces.of_written(b), Some(first));
        assert_eq!(spaces.namespace(first), b);
    }

    #[test]
    fn a_database_takes_writes_from_when_it_is_opened_until_it_is_closed() {
        let mut spaces = Spaces::new();
        let (a, b) = (Namespace::database(1), Namespace::database(2));
        assert!(!spaces.is_open(a) && spaces.is_open(Namespace::KV) && spaces.is_open(Namespace::items(1)));
        spaces.open(a);
        spaces.open(b);
        assert!(spaces.is_open(a) && spaces.of(a).is_none());
        for namespace in [a, b] {
            let space = spaces.of_written(namespace).unwrap();
            spaces.count_in(space, 5);
        }
        let items = spaces.of_written(Namespace::items(1)).unwrap();
        spaces.count_in(items, 1);
        spaces.open(a);
        assert_eq!(spaces.stats(a).entries, 1, "opened twice it keeps what it has");
        spaces.empty(a);
        assert!(spaces.is_open(a) && spaces.of(a).is_none());
        spaces.close(a);
        assert!(!spaces.is_open(a) && spaces.is_open(b));
        spaces.open(a);
        let (c, d, e) = (Namespace::database(3), Namespace::database(4), Namespace::database(5));
        spaces.renumber(a, c);
        assert!(!spaces.is_open(a) && spaces.is_open(c) && spaces.was_renumbered(a));
        assert!(spaces.is_open(b) && !spaces.was_renumbered(b));
        spaces.renumber_all(4);
        assert!(!spaces.is_open(b) && !spaces.is_open(c) && spaces.was_renumbered(b));
        assert!(spaces.is_open(d) && spaces.is_open(e) && spaces.of(d).is_none());
        spaces.close(e);
        assert!(!spaces.is_open(e) && !spaces.was_renumbered(e) && !spaces.was_renumbered(b));
        spaces.close_databases();
        assert!(!spaces.is_open(d) && !spaces.was_renumbered(d));
        assert_eq!(spaces.total(), NamespaceStats { entries: 1, bytes: 1 });
    }

    #[test]
    fn databases_whose_numbers_rise_are_empty_and_their_spaces_go_to_others_when_they_are_bare() {
        let mut spaces = Spaces::new();
        let database = |number| Namespace::database(number);
        let (a, b, bare) = (database(3), database(5), database(6));
        [a, b, bare].into_iter().for_each(|database| spaces.open(database));
        let [in_a, in_b, in_bare] = [a, b, bare].map(|database| spaces.of_written(database).unwrap());
        let items = spaces.of_written(Namespace::items(1)).unwrap();
        for space in [in_a, in_b, items] {
            spaces.count_in(space, 10);
        }
        // The lowest is 3 and the next would be 7.
        spaces.raise_all(4, 7);
        for old in [a, b, bare] {
            assert!(!spaces.is_open(old) && spaces.of(old).is_none() && spaces.was_renumbered(old));
        }
        for new in [database(7), database(9), database(10)] {
            assert!(spaces.is_open(new) && spaces.of(new).is_none() && !spaces.was_renumbered(new));
        }
        assert_eq!(spaces.total(), NamespaceStats { entries: 1, bytes: 10 });
        assert_eq!(spaces.retired_entries(), 2);
        assert!(spaces.is_retired(in_a) && !spaces.is_retired(items));
        // The space that was bare goes to another, and is not taken for that of its old database.
        assert_eq!(spaces.of_written(Namespace::items(2)), Some(in_bare));
        assert_eq!(spaces.of(database(10)), None);
        spaces.count_out(in_a, 10);
        let fresh = spaces.of_written(database(9)).unwrap();
        assert_eq!((fresh, spaces.of(database(9)), spaces.of(database(7))), (in_a, Some(in_a), None));
        spaces.raise_all(4, 11);
        assert!(
            spaces.of(database(13)).is_none() && spaces.is_open(database(13)) && spaces.is_retired(fresh)
        );
        spaces.open(database(15));
        spaces.close(database(13));
        assert!(spaces.is_open(database(15)) && !spaces.is_open(database(13)));
        let other = spaces.of_written(database(15)).unwrap();
        assert_eq!(spaces.namespace(other), database(15));
        assert_eq!((spaces.total().entries, spaces.retired_entries()), (1, 1));
    }

    #[test]
    fn counters_follow_each_namespace() {
        let mut spaces = Spaces::new();
        for (namespace, bytes) in [(Namespace::KV, 1), (Namespace(5), 2), (Namespace::KV, 4)] {
            let space = spaces.of_written(namespace).unwrap();
            spaces.count_in(space, bytes);
        }
        assert_eq!(spaces.stats(Namespace::KV), NamespaceStats { entries: 2, bytes: 5 });
        assert_eq!(spaces.stats(Namespace(5)), NamespaceStats { entries: 1, bytes: 2 });
        assert_eq!(spaces.stats(Namespace(6)), NamespaceStats::default());
        assert_eq!(spaces.total(), NamespaceStats { entries: 3, bytes: 7 });
    }
}
