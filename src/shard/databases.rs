//! Which databases there are: their names, and the numbers by which everything else knows them.
//!
//! Reactor 0 decides, by its [`Registry`]: every change of the set is made there and nowhere else, and
//! told to all cores as a [`DatabaseChange`] in the order in which it was made. Each core keeps a copy of
//! the names, [`Databases`], so that a request finds its database without asking anybody, and opens and
//! closes its part of the keys ([`Shard::follow`](super::Shard::follow)). A change is answered once all
//! have followed it. Keys know their database by its number, so a rename touches none of them; a number is
//! never given twice.

use std::collections::HashMap;
use std::sync::Arc;

use super::databases_kept::KeptChange;
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
    /// All entries of all are gone: they have other numbers, in the order of those they had.
    EmptyAll {
        /// The first of them.
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
    numbers: HashMap<Arc<str>, u32, ahash::RandomState>,
}

impl Databases {
    /// The namespace of the database of this name.
    pub fn namespace(&self, name: &[u8]) -> Option<Namespace> {
        let name = std::str::from_utf8(name).ok()?;
        self.numbers.get(name).map(|number| Namespace::database(*number))
    }

    /// All names, in no order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.numbers.keys()
    }

    /// Follows a change.
    pub fn follow(&mut self, change: &DatabaseChange) {
        match change {
            DatabaseChange::Create { name, number } => {
                self.numbers.insert(name.clone(), *number);
            }
            DatabaseChange::Rename { from, to } => {
                if let Some(number) = self.numbers.remove(from) {
                    self.numbers.insert(to.clone(), number);
                }
            }
            DatabaseChange::Drop { name, .. } => {
                self.numbers.remove(name);
                if self.numbers.len() < self.numbers.capacity() / 4 {
                    self.numbers.shrink_to(2 * self.numbers.len());
                }
            }
            DatabaseChange::DropAll => self.numbers = HashMap::default(),
            DatabaseChange::Empty { name, to, .. } => {
                if let Some(number) = self.numbers.get_mut(name) {
                    *number = *to;
                }
            }
            DatabaseChange::EmptyAll { first } => {
                for (place, name) in (0..).zip(self.in_order()) {
                    self.numbers.insert(name, first + place);
                }
            }
        }
    }

    /// All names in the order of their numbers.
    pub(super) fn in_order(&self) -> Vec<Arc<str>> {
        let mut all: Vec<(u32, &Arc<str>)> =
            self.numbers.iter().map(|(name, number)| (*number, name)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, name)| name.clone()).collect()
    }

    pub(super) fn find(&self, name: &str) -> Option<(&Arc<str>, u32)> {
        self.numbers.get_key_value(name).map(|(name, number)| (name, *number))
    }

    /// All names with their numbers, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Arc<str>, u32)> {
        self.numbers.iter().map(|(name, number)| (name, *number))
    }
}

/// Decides what becomes of the databases: one for the node, with reactor 0.
///
/// Names are counted against the memory limit, with API keys and apps, since they do not leave by eviction.
#[derive(Debug)]
pub struct Registry {
    pub(super) next_number: u32,
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
        Registry { next_number: 0, memory, reactors, bytes: 0, changes: None }
    }

    /// Decides upon an order, given the databases as reactor 0 knows them: the number of the database that
    /// it is about, and the change that all have to follow, if there is one.
    ///
    /// # Errors
    /// When there is to be none. Nothing has happened then.
    pub fn decide(
        &mut self,
        databases: &Databases,
        order: DatabaseOrder,
    ) -> Result<(Option<u32>, Option<DatabaseChange>), NotChanged> {
        let find = |name: &str| databases.numbers.get_key_value(name).ok_or(NotChanged::Unknown);
        let (number, change) = self.decide_upon(databases, order, find)?;
        if let Some(change) = &change {
            self.note(databases, change);
        }
        Ok((number, change))
    }

    fn decide_upon<'d>(
        &mut self,
        databases: &'d Databases,
        order: DatabaseOrder,
        find: impl Fn(&str) -> Result<(&'d Arc<str>, &'d u32), NotChanged>,
    ) -> Result<(Option<u32>, Option<DatabaseChange>), NotChanged> {
        Ok(match order {
            DatabaseOrder::Ensure(name) => match databases.numbers.get(&*name) {
                Some(number) => (Some(*number), None),
                None => {
                    let number = self.numbers_left(1)?;
                    self.count(self.bytes_of(&name))?;
                    self.next_number += 1;
                    (Some(number), Some(DatabaseChange::Create { name: name.into(), number }))
                }
            },
            DatabaseOrder::Empty(name) => {
                let (name, from) = find(&name)?;
                let to = self.numbers_left(1)?;
                self.next_number += 1;
                (Some(to), Some(DatabaseChange::Empty { name: name.clone(), from: *from, to }))
            }
            DatabaseOrder::Rename(from, to) => {
                let (from, number) = find(&from)?;
                if databases.numbers.contains_key(&*to) {
                    return Err(NotChanged::NameTaken);
                }
                match (self.bytes_of(&to), self.bytes_of(from)) {
                    (new, old) if new > old => self.count(new - old)?,
                    (new, old) => self.discount(old - new),
                }
                (Some(*number), Some(DatabaseChange::Rename { from: from.clone(), to: to.into() }))
            }
            DatabaseOrder::Drop(name) => {
                let (name, number) = find(&name)?;
                self.discount(self.bytes_of(name));
                (Some(*number), Some(DatabaseChange::Drop { name: name.clone(), number: *number }))
            }
            DatabaseOrder::EmptyAll => {
                let count = databases.numbers.len() as u32;
                let first = self.numbers_left(count)?;
                self.next_number += count;
                (None, Some(DatabaseChange::EmptyAll { first }))
            }
            DatabaseOrder::DropAll => {
                self.discount(self.bytes);
                (None, Some(DatabaseChange::DropAll))
            }
        })
    }

    /// The first of so many numbers that were never given.
    fn numbers_left(&self, count: u32) -> Result<u32, NotChanged> {
        let first = self.next_number;
        match first.checked_add(count) {
            Some(end) if end <= NUMBER_MAX + 1 => Ok(first),
            _ => Err(NotChanged::NoRoom),
        }
    }

    /// What a name takes: itself, and a slot in the table of every core at its worst, just doubled. What the
    /// shards take is in their own count.
    pub(super) fn bytes_of(&self, name: &str) -> u64 {
        let slot = 2 * (size_of::<(Arc<str>, u32)>() + 1) * 8 / 7;
        (name.len() + 2 * size_of::<usize>() + self.reactors * slot) as u64
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
            let (number, change) = self.registry.decide(&self.databases, order)?;
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
        let changed = node.registry.decide(&node.databases, DatabaseOrder::Drop("last".into()));
        let change = DatabaseChange::Drop { name: "last".into(), number: NUMBER_MAX };
        assert_eq!(changed, Ok((Some(NUMBER_MAX), Some(change))));
    }
}
