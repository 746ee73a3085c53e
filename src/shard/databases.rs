//! Which databases there are: their names, and the numbers by which everything else knows them.
//!
//! Reactor 0 decides, by its [`Registry`]: every change of the set is made there and nowhere else, and, once the
//! journal keeps it, told to all cores as a [`DatabaseChange`] in the order in which it was made. Each core keeps a copy of
//! the names, [`Databases`], so that a request finds its database without asking anybody, and opens and
//! closes its part of the keys ([`Shard::follow`](super::Shard::follow)). A change is answered once all
//! have followed it. Keys know their database by its number, so a rename touches none of them; a number is
//! never given twice.
//!
//! However many databases there are, no change takes long: when there are many, all of them are emptied by raising
//! every number by the same, and what is left of those that are dropped is given back in parts.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap, btree_map, hash_map};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::databases_kept::KeptChange;
use crate::limits::LOG_ENTRIES_MAX;
use crate::memory::Memory;
use crate::op::{NUMBER_MAX, Namespace};

/// A change of the set of databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseChange {
    /// There is a new one.
    Create {
        /// What it is called.
        name: Arc<str>,
        /// What its keys know it by.
        number: u32,
    },
    /// One is called otherwise.
    Rename {
        /// As it was called.
        from: Arc<str>,
        /// As it is called; none was.
        to: Arc<str>,
    },
    /// All entries of one are gone: it has another number.
    Empty {
        /// What it is called.
        name: Arc<str>,
        /// What its keys knew it by.
        from: u32,
        /// What they know it by.
        to: u32,
    },
    /// One is gone with its entries.
    Drop {
        /// What it was called.
        name: Arc<str>,
        /// What its keys knew it by.
        number: u32,
    },
    /// All entries of all are gone: they have other numbers, one after the other in the order of those they had.
    EmptyAll {
        /// The first of them.
        first: u32,
    },
    /// All entries of all are gone: their numbers have risen.
    RaiseAll {
        /// By so many.
        by: u32,
        /// What the lowest of them is now. All that were ever given are below.
        first: u32,
    },
    /// All are gone.
    DropAll,
}

/// What is to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseOrder {
    /// There is to be one of this name, if there is none yet.
    Ensure(Box<str>),
    /// Its entries are to go.
    Empty(Box<str>),
    /// It is to be called otherwise.
    Rename(Box<str>, Box<str>),
    /// It is to go.
    Drop(Box<str>),
    /// The entries of all are to go.
    EmptyAll,
    /// All are to go.
    DropAll,
}

/// Why there is no change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotChanged {
    /// There is none of this name.
    Unknown,
    /// Another has the name.
    NameTaken,
    /// The memory or the numbers are used up.
    NoRoom,
    /// The disk is full, and it would take room.
    JournalFull,
    /// The disk has failed.
    JournalFailed,
}

/// The databases, as one core knows them.
#[derive(Debug, Default)]
pub struct Databases {
    /// The number of each less `raised`.
    numbers: Numbers,
    raised: u32,
    discarded: Discarded<hash_map::IntoIter<Name, u32>>,
}

type Numbers = HashMap<Name, u32, ahash::RandomState>;

/// Tables that nobody needs any more. Each has an allocation for every name, so they are given back in parts.
#[derive(Debug)]
struct Discarded<I>(Vec<I>);

impl<I> Default for Discarded<I> {
    fn default() -> Discarded<I> {
        Discarded(Vec::new())
    }
}

impl<I: Iterator> Discarded<I> {
    fn drop_some(&mut self) {
        let Some(last) = self.0.last_mut() else { return };
        if last.by_ref().take(DISCARDED_AT_ONCE).count() < DISCARDED_AT_ONCE {
            self.0.pop();
        }
    }
}

/// Names that are given back in a turn: a tenth of a millisecond.
const DISCARDED_AT_ONCE: usize = 1_024;

/// Up to so many databases get numbers one by one when all are emptied, which uses up no more of them than there
/// are databases. That takes a fraction of a millisecond.
const RENUMBERED_AT_ONCE: usize = if cfg!(test) { 3 } else { 512 };

/// A name that is looked up by its bytes, which need not be looked at as characters for that.
#[derive(Clone, Debug)]
struct Name(Arc<str>);

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_bytes().hash(state);
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.0 == other.0
    }
}

impl Eq for Name {}

impl Databases {
    /// The namespace of the database of this name.
    pub fn namespace(&self, name: &[u8]) -> Option<Namespace> {
        self.numbers.get(name).map(|number| Namespace::database(number + self.raised))
    }

    /// All names, in no order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.numbers.keys().map(|Name(name)| name)
    }

    /// Follows a change.
    pub fn follow(&mut self, change: &DatabaseChange) {
        match change {
            DatabaseChange::Create { name, number } => {
                self.numbers.insert(Name(name.clone()), number - self.raised);
            }
            DatabaseChange::Rename { from, to } => {
                if let Some(number) = self.numbers.remove(from.as_bytes()) {
                    self.numbers.insert(Name(to.clone()), number);
                }
            }
            DatabaseChange::Drop { name, .. } => {
                self.numbers.remove(name.as_bytes());
                if self.numbers.len() < self.numbers.capacity() / 4 {
                    self.numbers.shrink_to(2 * self.numbers.len());
                }
            }
            DatabaseChange::DropAll => self.discarded.0.push(std::mem::take(&mut self.numbers).into_iter()),
            DatabaseChange::Empty { name, to, .. } => {
                if let Some(number) = self.numbers.get_mut(name.as_bytes()) {
                    *number = to - self.raised;
                }
            }
            DatabaseChange::EmptyAll { first } => {
                for (place, name) in (0..).zip(self.in_order()) {
                    self.numbers.insert(Name(name), first + place - self.raised);
                }
            }
            DatabaseChange::RaiseAll { by, .. } => self.raised += by,
        }
    }

    /// Gives back a part of what it no longer needs. To be called once a turn.
    #[inline]
    pub fn tidy(&mut self) {
        if !self.is_tidy() {
            self.discarded.drop_some();
        }
    }

    /// Whether nothing is left to give back.
    #[inline]
    pub fn is_tidy(&self) -> bool {
        self.discarded.0.is_empty()
    }

    /// All names in the order of their numbers.
    fn in_order(&self) -> Vec<Arc<str>> {
        let mut all: Vec<(u32, &Arc<str>)> = self.all().map(|(name, number)| (number, name)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, name)| name.clone()).collect()
    }

    fn find(&self, name: &str) -> Option<(&Arc<str>, u32)> {
        let found = self.numbers.get_key_value(name.as_bytes());
        found.map(|(Name(name), number)| (name, number + self.raised))
    }

    /// All names with their numbers, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Arc<str>, u32)> {
        self.numbers.iter().map(|(Name(name), number)| (name, number + self.raised))
    }
}

/// Logs that clients write to: one for each level.
pub const LOGS: usize = 5;

/// Slots of a log that are kept as used before they are.
const LOG_SLOTS_AHEAD: u32 = 50;

const _: () = assert!(LOG_ENTRIES_MAX.is_multiple_of(LOG_SLOTS_AHEAD));

/// Decides what becomes of the databases: one for the node, with reactor 0.
///
/// Names are counted against the memory limit, with API keys and apps, since they do not leave by eviction.
#[derive(Debug)]
pub struct Registry {
    /// As they will be when all have followed all that was decided.
    pub(super) decided: Databases,
    pub(super) next_number: u32,
    /// The names in the order of their numbers less `raised`, under which they are kept.
    pub(super) names: BTreeMap<u32, Arc<str>>,
    pub(super) raised: u32,
    /// What was kept under less is of databases that are gone.
    pub(super) first: u32,
    discarded: Discarded<btree_map::IntoIter<u32, Arc<str>>>,
    /// Where each log goes on, and how far that is kept.
    pub(super) logs: [(u32, u32); LOGS],
    memory: Arc<Memory>,
    reactors: usize,
    /// What is counted for all of them.
    pub(super) bytes: u64,
    /// Changes that are to be kept, if anybody keeps them.
    pub(super) changes: Option<Vec<KeptChange>>,
}

impl Registry {
    /// The registry of a node without databases.
    pub fn new(memory: Arc<Memory>, reactors: usize) -> Registry {
        Registry {
            decided: Databases::default(),
            next_number: 0,
            names: BTreeMap::new(),
            raised: 0,
            first: 0,
            discarded: Discarded::default(),
            logs: [(0, 0); LOGS],
            memory,
            reactors,
            bytes: 0,
            changes: None,
        }
    }

    /// Decides upon an order, whether all have followed those before or not: the number of the database that it is
    /// about, and the change that all have to follow, if there is one.
    ///
    /// # Errors
    /// When there is to be none. Nothing has happened then.
    pub fn decide(
        &mut self,
        order: DatabaseOrder,
    ) -> Result<(Option<u32>, Option<DatabaseChange>), NotChanged> {
        let find = |name: &str| -> Result<(Arc<str>, u32), NotChanged> {
            self.decided.find(name).map(|(name, number)| (name.clone(), number)).ok_or(NotChanged::Unknown)
        };
        let (number, change) = match order {
            DatabaseOrder::Ensure(name) => match self.decided.find(&name) {
                Some((_, number)) => return Ok((Some(number), None)),
                None => {
                    let number = self.numbers_left(1)?;
                    self.count(self.bytes_of(&name))?;
                    (Some(number), DatabaseChange::Create { name: name.into(), number })
                }
            },
            DatabaseOrder::Empty(name) => {
                let (name, from) = find(&name)?;
                let to = self.numbers_left(1)?;
                (Some(to), DatabaseChange::Empty { name, from, to })
            }
            DatabaseOrder::Rename(from, to) => {
                let (from, number) = find(&from)?;
                if self.decided.find(&to).is_some() {
                    return Err(NotChanged::NameTaken);
                }
                match (self.bytes_of(&to), self.bytes_of(&from)) {
                    (new, old) if new > old => self.count(new - old)?,
                    (new, old) => self.discount(old - new),
                }
                (Some(number), DatabaseChange::Rename { from, to: to.into() })
            }
            DatabaseOrder::Drop(name) => {
                let (name, number) = find(&name)?;
                self.discount(self.bytes_of(&name));
                (Some(number), DatabaseChange::Drop { name, number })
            }
            DatabaseOrder::EmptyAll => (None, self.empty_all()?),
            DatabaseOrder::DropAll => {
                self.discount(self.bytes);
                (None, DatabaseChange::DropAll)
            }
        };
        self.follow(number, &change);
        Ok((number, Some(change)))
    }

    /// How all are emptied.
    fn empty_all(&self) -> Result<DatabaseChange, NotChanged> {
        let lowest =
            self.names.first_key_value().map_or(self.next_number, |(lowest, _)| lowest + self.raised);
        // Above all that were ever given.
        let by = self.next_number - lowest;
        match self.numbers_left(by) {
            Ok(first) if self.names.len() > RENUMBERED_AT_ONCE => Ok(DatabaseChange::RaiseAll { by, first }),
            _ => Ok(DatabaseChange::EmptyAll { first: self.numbers_left(self.names.len() as u32)? }),
        }
    }

    /// Follows its own decision, and notes what is to be kept of it.
    fn follow(&mut self, number: Option<u32>, change: &DatabaseChange) {
        let raised = self.raised;
        let place = |number: u32| number - raised;
        match change {
            DatabaseChange::Create { name, number } => {
                self.names.insert(place(*number), name.clone());
                self.next_number += 1;
            }
            DatabaseChange::Rename { to, .. } => {
                let number = number.expect("it is about one");
                self.names.insert(place(number), to.clone());
            }
            DatabaseChange::Empty { name, from, to } => {
                self.names.remove(&place(*from));
                self.names.insert(place(*to), name.clone());
                self.next_number += 1;
            }
            DatabaseChange::Drop { number, .. } => drop(self.names.remove(&place(*number))),
            DatabaseChange::EmptyAll { first } => {
                let before = std::mem::take(&mut self.names);
                self.next_number += before.len() as u32;
                self.note_renumbered(&before, place(*first));
                self.names = (place(*first)..).zip(before.into_values()).collect();
            }
            DatabaseChange::RaiseAll { by, .. } => {
                self.next_number += by;
                self.raised += by;
            }
            DatabaseChange::DropAll => {
                self.first = place(self.next_number);
                self.discarded.0.push(std::mem::take(&mut self.names).into_iter());
            }
        }
        self.decided.follow(change);
        self.note(number, change);
    }

    /// The slot of a log's next message, one after the other and then over again. How far they have gone is kept
    /// some slots ahead, so that a node that comes back goes on where it was, give or take so many.
    pub fn next_log_slot(&mut self, log: usize) -> u32 {
        let (next, kept) = &mut self.logs[log];
        let slot = *next;
        *next = (slot + 1) % LOG_ENTRIES_MAX;
        if slot == *kept {
            *kept = (slot + LOG_SLOTS_AHEAD) % LOG_ENTRIES_MAX;
            self.note_logs();
        }
        slot
    }

    /// Gives back a part of what it no longer needs. To be called once a turn.
    pub fn tidy(&mut self) {
        self.decided.tidy();
        self.discarded.drop_some();
    }

    /// Whether nothing is left to give back.
    pub fn is_tidy(&self) -> bool {
        self.decided.is_tidy() && self.discarded.0.is_empty()
    }

    /// Whether there is one of this name, or will be once all have followed.
    pub fn has(&self, name: &str) -> bool {
        self.decided.find(name).is_some()
    }

    /// The first of so many numbers that were never given.
    fn numbers_left(&self, count: u32) -> Result<u32, NotChanged> {
        let first = self.next_number;
        match first.checked_add(count) {
            Some(end) if end <= NUMBER_MAX + 1 => Ok(first),
            _ => Err(NotChanged::NoRoom),
        }
    }

    /// What a name takes: itself, and a slot in the table of every core and in the two of the registry at their
    /// worst, just doubled. What the shards take is in their own count.
    pub(super) fn bytes_of(&self, name: &str) -> u64 {
        let slot = 2 * (size_of::<(Arc<str>, u32)>() + 1) * 8 / 7;
        (name.len() + 2 * size_of::<usize>() + (self.reactors + 2) * slot) as u64
    }

    pub(super) fn count(&mut self, bytes: u64) -> Result<(), NotChanged> {
        match self.memory.take_for_credentials(bytes) {
            true => {
                self.bytes += bytes;
                Ok(())
            }
            false => Err(NotChanged::NoRoom),
        }
    }

    fn discount(&mut self, bytes: u64) {
        self.bytes -= bytes;
        self.memory.give_from_credentials(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{DatabaseChange, DatabaseOrder, Databases, NotChanged, Registry};
    use crate::memory::Memory;
    use crate::op::{NUMBER_MAX, Namespace};

    struct Node {
        registry: Registry,
        databases: Databases,
        memory: Arc<Memory>,
    }

    fn node() -> Node {
        let memory = Memory::new(64 << 20, 1, true).unwrap();
        let registry = Registry::new(memory.clone(), 2);
        Node { registry, databases: Databases::default(), memory }
    }

    impl Node {
        fn order(&mut self, order: DatabaseOrder) -> Result<Option<u32>, NotChanged> {
            let (number, change) = self.registry.decide(order)?;
            if let Some(change) = &change {
                self.databases.follow(change);
            }
            Ok(number)
        }

        fn ensure(&mut self, name: &str) -> u32 {
            self.order(DatabaseOrder::Ensure(name.into())).unwrap().unwrap()
        }
    }

    #[test]
    fn a_database_keeps_its_number_whatever_it_is_called() {
        let mut node = node();
        let (a, b) = (node.ensure("a"), node.ensure("b"));
        assert_ne!(a, b);
        assert_eq!(node.ensure("a"), a);
        assert_eq!(node.order(DatabaseOrder::Rename("a".into(), "c".into())), Ok(Some(a)));
        assert_eq!(node.databases.namespace(b"c"), Some(Namespace::database(a)));
        assert_eq!(node.databases.namespace(b"a"), None);
        assert_ne!(node.ensure("a"), a, "a number is not given twice");
        assert_eq!(node.order(DatabaseOrder::Rename("a".into(), "c".into())), Err(NotChanged::NameTaken));
        assert_eq!(node.order(DatabaseOrder::Rename("a".into(), "a".into())), Err(NotChanged::NameTaken));
        assert_eq!(node.order(DatabaseOrder::Rename("x".into(), "c".into())), Err(NotChanged::Unknown));
        assert_eq!(node.databases.namespace(b"\xff"), None);
    }

    #[test]
    fn emptied_ones_stay_and_dropped_ones_go() {
        let mut node = node();
        let a = node.ensure("a");
        node.ensure("b");
        let b = node.ensure("b");
        let emptied = node.order(DatabaseOrder::Empty("a".into())).unwrap().unwrap();
        assert!(emptied > b && node.ensure("a") == emptied, "its old keys know it no more");
        assert_ne!(emptied, a);
        assert_eq!(node.order(DatabaseOrder::EmptyAll), Ok(None));
        assert_eq!(node.databases.names().len(), 2);
        assert_eq!([node.ensure("b"), node.ensure("a")], [emptied + 1, emptied + 2], "in their order");
        assert_eq!(node.order(DatabaseOrder::Drop("a".into())), Ok(Some(emptied + 2)));
        for order in [DatabaseOrder::Drop("a".into()), DatabaseOrder::Empty("a".into())] {
            assert_eq!(node.order(order), Err(NotChanged::Unknown));
        }
        assert_eq!(node.databases.names().map(|name| &**name).collect::<Vec<_>>(), ["b"]);
        assert_eq!(node.order(DatabaseOrder::DropAll), Ok(None));
        assert_eq!(node.databases.names().len(), 0);
    }

    #[test]
    fn names_are_counted_while_they_are_there_and_refused_without_room() {
        let mut node = node();
        let name = |number: usize| format!("{number:0200}");
        let mut count = 0;
        while node.order(DatabaseOrder::Ensure(name(count).into())).is_ok() {
            count += 1;
        }
        assert!(count > 10_000, "{count}");
        assert_eq!(node.order(DatabaseOrder::Ensure(name(count).into())), Err(NotChanged::NoRoom));
        assert!(node.memory.credential_bytes() > (7 << 20));
        node.order(DatabaseOrder::Rename(name(0).into(), "short".into())).unwrap();
        node.order(DatabaseOrder::Drop("short".into())).unwrap();
        node.ensure(&name(0));
        node.order(DatabaseOrder::DropAll).unwrap();
        assert_eq!(node.memory.credential_bytes(), 0);
    }

    #[test]
    fn without_a_number_left_there_is_no_other_database() {
        let mut node = node();
        node.registry.next_number = NUMBER_MAX;
        assert_eq!(node.ensure("last"), NUMBER_MAX);
        assert_eq!(node.order(DatabaseOrder::Ensure("more".into())), Err(NotChanged::NoRoom));
        assert_eq!(node.ensure("last"), NUMBER_MAX);
        for order in [DatabaseOrder::Empty("last".into()), DatabaseOrder::EmptyAll] {
            assert_eq!(node.order(order), Err(NotChanged::NoRoom));
        }
        let changed = node.registry.decide(DatabaseOrder::Drop("last".into()));
        let change = DatabaseChange::Drop { name: "last".into(), number: NUMBER_MAX };
        assert_eq!(changed, Ok((Some(NUMBER_MAX), Some(change))));
    }
}
