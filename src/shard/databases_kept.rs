//! The set of databases as records of the journal: what is kept of it, and how it comes back.
//!
//! | name | what |
//! |---|---|
//! | `databases` | the number that is given out next, of which none is ever used again |
//! | `database/NUMBER` | the name of the database of this number |
//!
//! Both are JSON objects with `"form":1` in them. A database that is emptied gets another number, so what its
//! keys had is left out when a journal is replayed, without a record for each.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::databases::{DatabaseChange, Databases, Registry};
use crate::op::NUMBER_MAX;

const FORM: u32 = 1;
const NUMBERS: &[u8] = b"databases";
const DATABASE: &str = "database/";

/// A record under its name; `None` when there is none any more.
pub type KeptChange = (Box<[u8]>, Option<Zeroizing<Vec<u8>>>);

/// Why the databases cannot be brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unrestored {
    /// The record of this name is none that this version reads.
    Unreadable(Box<str>),
    /// Their names are more than the share of credentials and names in the memory.
    NoRoom,
}

impl fmt::Display for Unrestored {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unrestored::Unreadable(name) => {
                write!(out, "the record {name} of the databases is none that this version reads")
            }
            Unrestored::NoRoom => out.write_str(
                "the names of the databases take more than an eighth of the memory limit: raise \
                 store.memory_limit",
            ),
        }
    }
}

impl Error for Unrestored {}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Numbers {
    form: u32,
    next: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Database<'a> {
    form: u32,
    #[serde(borrow)]
    name: std::borrow::Cow<'a, str>,
}

impl Registry {
    /// Brings back the databases that were kept, and keeps account of all changes from now on, for
    /// [`Registry::take_changes`]. Answers what every core has to follow before anything is brought back of
    /// their entries. To be called of a new registry; records of other names are left alone.
    ///
    /// # Errors
    /// When a record cannot be read, or there is no room for the names.
    pub fn restore<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        records: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Vec<DatabaseChange>, Unrestored> {
        let mut all: Vec<(u32, Arc<str>)> = Vec::new();
        for (key, value) in records {
            let key = String::from_utf8_lossy(key.as_ref());
            let unreadable = || Unrestored::Unreadable((*key).into());
            if key.as_bytes() == NUMBERS {
                let numbers: Numbers = serde_json::from_slice(value.as_ref()).map_err(|_| unreadable())?;
                if numbers.form != FORM || numbers.next > NUMBER_MAX + 1 {
                    return Err(unreadable());
                }
                self.next_number = self.next_number.max(numbers.next);
            } else if let Some(number) = key.strip_prefix(DATABASE) {
                let number: u32 = number.parse().map_err(|_| unreadable())?;
                let kept: Database<'_> = serde_json::from_slice(value.as_ref()).map_err(|_| unreadable())?;
                if kept.form != FORM || number > NUMBER_MAX {
                    return Err(unreadable());
                }
                self.next_number = self.next_number.max(number + 1);
                all.push((number, (*kept.name).into()));
            }
        }
        // Of two under one name one was emptied, and the end came before its old number was forgotten.
        all.sort_unstable_by(|one, other| (&one.1, other.0).cmp(&(&other.1, one.0)));
        let mut gone = Vec::new();
        let mut changes: Vec<DatabaseChange> = Vec::with_capacity(all.len());
        let mut last: Option<Arc<str>> = None;
        for (number, name) in all {
            if last.as_ref() == Some(&name) {
                gone.push((named(number), None));
                continue;
            }
            self.count(self.bytes_of(&name)).map_err(|_| Unrestored::NoRoom)?;
            last = Some(name.clone());
            changes.push(DatabaseChange::Create { name, number });
        }
        self.changes = Some(gone);
        Ok(changes)
    }

    /// What has changed since the last time, to be kept before anybody is told of it. Nothing, unless the
    /// registry was restored.
    pub fn take_changes(&mut self) -> Vec<KeptChange> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// All records, given the databases as reactor 0 knows them.
    pub fn records(&self, databases: &Databases) -> impl Iterator<Item = (Box<[u8]>, Zeroizing<Vec<u8>>)> {
        let own = (NUMBERS.into(), self.numbers());
        std::iter::once(own).chain(databases.all().map(|(name, number)| (named(number), database(name))))
    }

    /// Notes what a change does to the records; `databases` have not followed it.
    pub(super) fn note(&mut self, databases: &Databases, change: &DatabaseChange) {
        let numbers = self.numbers();
        let Some(changes) = &mut self.changes else { return };
        let mut put = |number, name| changes.push((named(number), Some(database(name))));
        match change {
            DatabaseChange::Create { name, number } => {
                put(*number, name);
                changes.push((NUMBERS.into(), Some(numbers)));
            }
            DatabaseChange::Rename { from, to } => {
                if let Some((_, number)) = databases.find(from) {
                    put(number, to);
                }
            }
            DatabaseChange::Empty { name, from, to } => {
                put(*to, name);
                changes.push((named(*from), None));
                changes.push((NUMBERS.into(), Some(numbers)));
            }
            DatabaseChange::Drop { number, .. } => changes.push((named(*number), None)),
            DatabaseChange::EmptyAll { first } => {
                for (name, place) in databases.in_order().iter().zip(0..) {
                    put(first + place, name);
                }
                changes.extend(databases.all().map(|(_, number)| (named(number), None)));
                changes.push((NUMBERS.into(), Some(numbers)));
            }
            DatabaseChange::DropAll => {
                changes.extend(databases.all().map(|(_, number)| (named(number), None)));
            }
        }
    }

    fn numbers(&self) -> Zeroizing<Vec<u8>> {
        json(&Numbers { form: FORM, next: self.next_number })
    }
}

fn named(number: u32) -> Box<[u8]> {
    format!("{DATABASE}{number}").into_bytes().into()
}

fn database(name: &str) -> Zeroizing<Vec<u8>> {
    json(&Database { form: FORM, name: name.into() })
}

fn json(kept: &impl Serialize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(serde_json::to_vec(kept).expect("a number and a text"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

    use super::{Registry, Unrestored};
    use crate::memory::Memory;
    use crate::shard::{DatabaseOrder, Databases};

    type Records = BTreeMap<Box<[u8]>, Vec<u8>>;

    struct Node {
        registry: Registry,
        databases: Databases,
        kept: Records,
    }

    impl Node {
        fn restored(kept: Records) -> Result<Node, Unrestored> {
            let mut registry = Registry::new(Memory::new(64 << 20, 2, true).unwrap(), 2);
            let mut databases = Databases::default();
            registry.restore(&kept)?.iter().for_each(|change| databases.follow(change));
            let mut node = Node { registry, databases, kept };
            node.keep(usize::MAX);
            Ok(node)
        }

        /// Keeps the first of what has changed.
        fn keep(&mut self, most: usize) {
            for (name, value) in self.registry.take_changes().into_iter().take(most) {
                match value {
                    Some(value) => self.kept.insert(name, value.to_vec()),
                    None => self.kept.remove(&name),
                };
            }
        }

        fn order(&mut self, order: &DatabaseOrder) {
            if let Ok((_, Some(change))) = self.registry.decide(&self.databases, order.clone()) {
                self.databases.follow(&change);
            }
        }

        fn all(&self) -> BTreeMap<String, u32> {
            self.databases.all().map(|(name, number)| (name.to_string(), number)).collect()
        }
    }

    fn order() -> impl Strategy<Value = DatabaseOrder> {
        let name = || (0..5_u32).prop_map(|number| format!("na\"me {number}").into_boxed_str());
        prop_oneof![
            5 => name().prop_map(DatabaseOrder::Ensure),
            3 => name().prop_map(DatabaseOrder::Empty),
            3 => (name(), name()).prop_map(|(from, to)| DatabaseOrder::Rename(from, to)),
            2 => name().prop_map(DatabaseOrder::Drop),
            1 => Just(DatabaseOrder::EmptyAll),
            1 => Just(DatabaseOrder::DropAll),
        ]
    }

    proptest! {
        #[test]
        fn any_orders_come_back_from_their_records(
            orders in prop::collection::vec((order(), prop::bool::weighted(0.2)), 1..40),
            last in order(),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut node = Node::restored(Records::new()).unwrap();
            for (order, restarts) in &orders {
                node.order(order);
                node.keep(usize::MAX);
                if *restarts {
                    let all: Records = node
                        .registry
                        .records(&node.databases)
                        .map(|(name, value)| (name, value.to_vec()))
                        .collect();
                    let again = Node::restored(node.kept.clone()).unwrap();
                    assert_eq!(again.all(), node.all());
                    assert_eq!(Node::restored(all).unwrap().all(), node.all());
                    assert_eq!(again.registry.next_number, node.registry.next_number);
                    assert_eq!(again.registry.bytes, node.registry.bytes);
                    node = again;
                }
            }
            // The end comes in the middle of the last order: each database is as before or as after, and no
            // number is given twice.
            let before = node.all();
            node.order(&last);
            let after = node.all();
            node.keep(cut.index(16));
            let again = Node::restored(node.kept.clone()).unwrap();
            for (name, number) in again.all() {
                assert!(before.get(&name) == Some(&number) || after.get(&name) == Some(&number), "{name}");
            }
            let highest = again.all().into_values().max();
            assert!(highest.is_none_or(|highest| again.registry.next_number > highest));
            assert!(before.into_values().max().is_none_or(|highest| again.registry.next_number > highest));
            assert_eq!(Node::restored(again.kept.clone()).unwrap().all(), again.all());
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let mut node = Node::restored(Records::new()).unwrap();
        node.order(&DatabaseOrder::Ensure("name".into()));
        node.keep(usize::MAX);
        assert_eq!(node.kept.len(), 2);
        for (name, value) in &node.kept {
            let text = String::from_utf8_lossy(value).into_owned();
            let newer = text.replace("\"form\":1", "\"form\":2").into_bytes();
            for other in [newer, value[1..].to_vec(), b"{\"form\":1}".to_vec()] {
                let mut kept = node.kept.clone();
                kept.insert(name.clone(), other);
                let refused = Node::restored(kept).map(|_| ());
                let name = String::from_utf8_lossy(name);
                assert_eq!(refused, Err(Unrestored::Unreadable((*name).into())));
            }
        }
        let kept = [(b"database/x".as_slice(), b"{\"form\":1,\"name\":\"a\"}".as_slice())];
        let mut registry = Registry::new(Memory::new(64 << 20, 2, true).unwrap(), 2);
        assert_eq!(registry.restore(kept), Err(Unrestored::Unreadable("database/x".into())));
    }
}
