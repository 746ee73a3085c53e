//! The set of databases as records of the journal: what is kept of it, and how it comes back.
//!
//! | name | what |
//! |---|---|
//! | `databases` | the number that is given out next, of which none is ever used again; `raised`, `first` |
//! | `logs` | the slot at which each log that clients write to goes on |
//! | `database/PLACE` | the name of the database whose number is this and `raised` |
//!
//! All are JSON objects with `"form":1` in them. A database that is emptied gets another number, so what its
//! keys had is left out when a journal is replayed, without a record for each. When there are many of them and
//! all are emptied, `raised` grows; when all are dropped, `first` does, below which no place counts any more: so
//! no order has more to keep the more databases there are.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::databases::{DatabaseChange, LOGS, Registry};
use crate::limits::LOG_ENTRIES_MAX;
use crate::op::NUMBER_MAX;

const FORM: u32 = 1;
const NUMBERS: &[u8] = b"databases";
const DATABASE: &str = "database/";
const KEPT_LOGS: &[u8] = b"logs";

/// A record under its name; `None` when there is none any more.
pub type KeptChange = (Box<[u8]>, Option<Zeroizing<Vec<u8>>>);

/// How far all records were gone through, in the order of their places.
#[derive(Clone, Copy, Debug, Default)]
pub enum DatabasesWalk {
    /// What there is once comes first.
    #[default]
    Own,
    /// The names from this place on.
    Names(u32),
    /// There are no more.
    Over,
}

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
    raised: u32,
    first: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Logs {
    form: u32,
    next: [u32; LOGS],
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
                let Numbers { form, next, raised, first } = numbers;
                if form != FORM || next > NUMBER_MAX + 1 || raised > next || first > next {
                    return Err(unreadable());
                }
                (self.next_number, self.raised, self.first) = (next, raised, first);
            } else if key.as_bytes() == KEPT_LOGS {
                let logs: Logs = serde_json::from_slice(value.as_ref()).map_err(|_| unreadable())?;
                if logs.form != FORM || logs.next.iter().any(|next| *next >= LOG_ENTRIES_MAX) {
                    return Err(unreadable());
                }
                self.logs = logs.next.map(|next| (next, next));
            } else if let Some(place) = key.strip_prefix(DATABASE) {
                let place: u32 = place.parse().map_err(|_| unreadable())?;
                let kept: Database<'_> = serde_json::from_slice(value.as_ref()).map_err(|_| unreadable())?;
                if kept.form != FORM || place > NUMBER_MAX {
                    return Err(unreadable());
                }
                all.push((place, (*kept.name).into()));
            }
        }
        all.retain(|(place, _)| *place >= self.first);
        if let Some((place, _)) = all.iter().find(|(place, _)| place + self.raised > NUMBER_MAX) {
            return Err(Unrestored::Unreadable(format!("{DATABASE}{place}").into()));
        }
        // Of two under one name one was emptied, and the record that it was is lost: of a damaged folder all that
        // could be read was kept.
        all.sort_unstable_by(|one, other| (&one.1, other.0).cmp(&(&other.1, one.0)));
        let mut gone = Vec::new();
        let mut changes: Vec<DatabaseChange> = Vec::with_capacity(all.len());
        let mut last: Option<Arc<str>> = None;
        for (place, name) in all {
            if last.as_ref() == Some(&name) {
                gone.push((named(place), None));
                continue;
            }
            self.count(self.bytes_of(&name)).map_err(|_| Unrestored::NoRoom)?;
            last = Some(name.clone());
            self.names.insert(place, name.clone());
            let number = place + self.raised;
            self.next_number = self.next_number.max(number + 1);
            let change = DatabaseChange::Create { name, number };
            self.decided.follow(&change);
            changes.push(change);
        }
        self.changes = Some(gone);
        Ok(changes)
    }

    /// What has changed since the last time, to be kept before anybody is told of it. Nothing, unless the
    /// registry was restored.
    pub fn take_changes(&mut self) -> Vec<KeptChange> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The next records, as they are now, about so many; none when there are no more. What is there from the
    /// first slice to the last is in one of them, whatever comes and goes meanwhile.
    pub fn slice(&self, walk: &mut DatabasesWalk, count: usize) -> Vec<KeptChange> {
        let records: Vec<KeptChange> = match walk {
            DatabasesWalk::Own => {
                *walk = DatabasesWalk::Names(0);
                return vec![
                    (NUMBERS.into(), Some(self.numbers())),
                    (KEPT_LOGS.into(), Some(self.kept_logs())),
                ];
            }
            DatabasesWalk::Names(from) => {
                let names = self.names.range(*from..).take(count);
                let kept = |(place, name): (&u32, &Arc<str>)| {
                    *from = place + 1;
                    (named(*place), Some(database(name)))
                };
                names.map(kept).collect()
            }
            DatabasesWalk::Over => Vec::new(),
        };
        if records.is_empty() {
            *walk = DatabasesWalk::Over;
        }
        records
    }

    /// Notes what a change does to the records, behind it. `number` is that of the database that it is about.
    pub(super) fn note(&mut self, number: Option<u32>, change: &DatabaseChange) {
        let (numbers, raised) = (self.numbers(), self.raised);
        let Some(changes) = &mut self.changes else { return };
        let place = |number: u32| named(number - raised);
        match change {
            DatabaseChange::Create { name, number } => changes.push((place(*number), Some(database(name)))),
            DatabaseChange::Rename { to, .. } => {
                changes.extend(number.map(|number| (place(number), Some(database(to)))));
            }
            DatabaseChange::Empty { name, from, to } => {
                changes.extend([(place(*to), Some(database(name))), (place(*from), None)]);
            }
            DatabaseChange::Drop { number, .. } => changes.push((place(*number), None)),
            DatabaseChange::EmptyAll { .. } | DatabaseChange::RaiseAll { .. } | DatabaseChange::DropAll => {}
        }
        if !matches!(change, DatabaseChange::Rename { .. } | DatabaseChange::Drop { .. }) {
            changes.push((NUMBERS.into(), Some(numbers)));
        }
    }

    /// Notes how far the logs have gone.
    pub(super) fn note_logs(&mut self) {
        let logs = self.kept_logs();
        self.changes.iter_mut().for_each(|changes| changes.push((KEPT_LOGS.into(), Some(logs.clone()))));
    }

    fn kept_logs(&self) -> Zeroizing<Vec<u8>> {
        json(&Logs { form: FORM, next: self.logs.map(|(_, kept)| kept) })
    }

    /// Notes that those under these places have others, from `first` on.
    pub(super) fn note_renumbered(&mut self, before: &BTreeMap<u32, Arc<str>>, first: u32) {
        let Some(changes) = &mut self.changes else { return };
        changes
            .extend((first..).zip(before.values()).map(|(place, name)| (named(place), Some(database(name)))));
        changes.extend(before.keys().map(|place| (named(*place), None)));
    }

    fn numbers(&self) -> Zeroizing<Vec<u8>> {
        json(&Numbers { form: FORM, next: self.next_number, raised: self.raised, first: self.first })
    }
}

fn named(place: u32) -> Box<[u8]> {
    format!("{DATABASE}{place}").into_bytes().into()
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

    use proptest::prelude::{Just, Strategy, prop, prop_oneof, proptest};

    use super::{DatabasesWalk, Registry, Unrestored};
    use crate::limits::LOG_ENTRIES_MAX;
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
            node.keep();
            Ok(node)
        }

        fn keep(&mut self) {
            for (name, value) in self.registry.take_changes() {
                match value {
                    Some(value) => self.kept.insert(name, value.to_vec()),
                    None => self.kept.remove(&name),
                };
            }
        }

        /// Takes some slices of two records each.
        fn slice_into(&self, base: &mut Records, walk: &mut DatabasesWalk, slices: usize) {
            for _ in 0..slices {
                let slice = self.registry.slice(walk, 2);
                if slice.is_empty() {
                    break;
                }
                base.extend(slice.into_iter().map(|(name, value)| (name, value.unwrap().to_vec())));
            }
        }

        fn order(&mut self, order: &DatabaseOrder) {
            if let Ok((_, Some(change))) = self.registry.decide(order.clone()) {
                self.databases.follow(&change);
            }
        }

        fn all(&self) -> BTreeMap<String, u32> {
            let decided = self.registry.decided.all();
            assert!(decided.into_iter().eq(self.databases.all()) || self.databases.names().len() > 1);
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
        ) {
            let mut given = None;
            let mut node = Node::restored(Records::new()).unwrap();
            for (order, restarts) in &orders {
                given = given.max(node.all().into_values().max());
                node.order(order);
                node.keep();
                // Whoever is emptied has a number that none had before.
                if let DatabaseOrder::EmptyAll = order {
                    assert!(node.all().into_values().all(|number| Some(number) > given));
                }
                if *restarts {
                    let (mut all, mut walk) = (Records::new(), DatabasesWalk::default());
                    node.slice_into(&mut all, &mut walk, usize::MAX);
                    let again = Node::restored(node.kept.clone()).unwrap();
                    assert_eq!(again.all(), node.all());
                    assert_eq!(Node::restored(all).unwrap().all(), node.all());
                    assert_eq!(again.registry.next_number, node.registry.next_number);
                    assert_eq!(again.registry.bytes, node.registry.bytes);
                    node = again;
                }
            }
        }

        #[test]
        fn a_live_set_that_is_taken_in_slices_while_orders_go_on_is_made_good_by_what_was_noted_meanwhile(
            before in prop::collection::vec(order(), 1..20),
            meanwhile in prop::collection::vec((order(), 0..3_usize), 1..20),
        ) {
            let mut node = Node::restored(Records::new()).unwrap();
            for order in &before {
                node.order(order);
                node.keep();
            }
            node.kept.clear();
            let (mut base, mut walk) = (Records::new(), DatabasesWalk::default());
            for (order, slices) in &meanwhile {
                node.slice_into(&mut base, &mut walk, *slices);
                node.order(order);
            }
            node.slice_into(&mut base, &mut walk, usize::MAX);
            // The log behind the live set.
            std::mem::swap(&mut node.kept, &mut base);
            node.keep();
            let again = Node::restored(node.kept.clone()).unwrap();
            assert_eq!(again.all(), node.all());
            assert_eq!(again.registry.next_number, node.registry.next_number);
        }
    }

    #[test]
    fn a_log_goes_on_behind_what_it_has_and_comes_round() {
        let mut node = Node::restored(Records::new()).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..130 {
            assert!(seen.insert(node.registry.next_log_slot(2)));
        }
        assert_eq!(seen.last(), Some(&129));
        node.keep();
        let mut again = Node::restored(node.kept.clone()).unwrap();
        assert_eq!((again.registry.next_log_slot(2), again.registry.next_log_slot(3)), (150, 0));
        assert_eq!((0..LOG_ENTRIES_MAX).map(|_| again.registry.next_log_slot(2)).last(), Some(150));
        again.keep();
        assert_eq!(Node::restored(again.kept.clone()).unwrap().registry.next_log_slot(2), 200);
        let kept = [("logs", r#"{"form":1,"next":[0,0,0,0,1000]}"#)];
        let mut registry = Registry::new(Memory::new(64 << 20, 2, true).unwrap(), 2);
        assert_eq!(registry.restore(kept), Err(Unrestored::Unreadable("logs".into())));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let mut node = Node::restored(Records::new()).unwrap();
        node.order(&DatabaseOrder::Ensure("name".into()));
        node.keep();
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
