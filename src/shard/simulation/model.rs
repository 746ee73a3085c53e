//! What the shards did, and what a folder may hold after it.
//!
//! Each shard's records have numbers; the state of a key behind a record is what the shard itself showed then.
//! A folder is right if every shard of the life before shows what it did after some number of its records, the
//! same number for all of its keys, and at least so many as were kept and had to survive.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use crate::clock::{Now, Version};
use crate::journal::{Put, PutList, Record, Sync};
use crate::op::{Encoding, KeyHasher, Namespace, Payload};
use crate::shard::Shard;
use crate::store::{ListKey, Lock, Walk, WalkBudget, WalkEntry, Walked};

/// What goes wrong, if anything does.
pub(super) type Found = Result<(), String>;

pub(super) type Key = (Namespace, Vec<u8>);

/// What a key holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    Value {
        version: Version,
        expires_ms: Option<u64>,
        lock: Option<Lock>,
        content_type: Vec<u8>,
        encoding: Encoding,
        value: Vec<u8>,
    },
    /// Its values, each with a line's end behind it.
    List { expires_ms: Option<u64>, values: Vec<u8> },
    /// Something of the node.
    Node,
}

impl State {
    pub(super) fn of(entry: &WalkEntry<'_>) -> State {
        match entry.kept {
            Walked::Value(view) => State::Value {
                version: view.version,
                expires_ms: view.expires_ms,
                lock: view.lock,
                content_type: view.content_type.to_vec(),
                encoding: view.encoding,
                value: view.value.bytes().to_vec(),
            },
            Walked::List(view) => State::List {
                expires_ms: view.expires_ms,
                values: view.kept.texts().flat_map(|text| [text, b"\n"]).flatten().copied().collect(),
            },
        }
    }

    pub(super) fn expires_ms(&self) -> Option<u64> {
        match self {
            State::Value { expires_ms, .. } | State::List { expires_ms, .. } => *expires_ms,
            State::Node => None,
        }
    }

    fn is_over(&self, now_ms: u64) -> bool {
        self.expires_ms().is_some_and(|expires_ms| expires_ms <= now_ms)
    }

    /// The same but for a lock whose lease is over.
    fn is_same(&self, other: &State, latest: Now) -> bool {
        let (
            State::Value { version, expires_ms, lock, content_type, encoding, value },
            State::Value {
                version: other_version,
                expires_ms: other_expires_ms,
                lock: other_lock,
                content_type: other_type,
                encoding: other_encoding,
                value: other_value,
            },
        ) = (self, other)
        else {
            return self == other;
        };
        let in_force = |lock: &Option<Lock>| lock.filter(|lock| lock.holds(latest));
        (version, expires_ms, content_type, encoding)
            == (other_version, other_expires_ms, other_type, other_encoding)
            && in_force(lock) == in_force(other_lock)
            && value == other_value
    }

    fn shown(&self) -> String {
        match self {
            State::Value { version, expires_ms, lock, value, .. } => {
                let lock = lock.map(|lock| (lock.token, lock.until_ms));
                format!("{} bytes of {version:?}, until {expires_ms:?}, {lock:?}", value.len())
            }
            State::List { expires_ms, values } => {
                let count = values.iter().filter(|byte| **byte == b'\n').count();
                format!("{count} values, until {expires_ms:?}")
            }
            State::Node => "there".into(),
        }
    }
}

/// What a shard shows of a key.
pub(super) fn look(shard: &Shard, hasher: &KeyHasher, key: &Key, now: Now) -> Option<Rc<State>> {
    let at = ListKey { namespace: key.0, key: &key.1, hash: hasher.hash(key.0, &key.1) };
    shard.store.peek(&at, now).map(|entry| Rc::new(State::of(&entry)))
}

/// Visits all entries of a shard.
pub(super) fn walk(shard: &Shard, now: Now, mut visit: impl FnMut(&WalkEntry<'_>)) {
    let all = WalkBudget { entries: usize::MAX, bytes: usize::MAX };
    let mut walk = Walk::new();
    while !shard.store.walk(&mut walk, all, now, |entry| visit(&entry)) {}
}

/// Bytes of the record that the entry has in a live set.
pub(super) fn record_bytes(entry: &WalkEntry<'_>) -> u64 {
    let (namespace, key) = (entry.namespace, entry.key);
    let mut encoded = Vec::new();
    match entry.kept {
        Walked::Value(view) => Record::Put(Put {
            namespace,
            key,
            version: view.version,
            expires_ms: view.expires_ms,
            lock: view.lock,
            content_type: view.content_type,
            encoding: view.encoding,
            value: view.value,
        })
        .encode(&mut encoded),
        Walked::List(view) => {
            let bytes: usize = view.kept.texts().map(|text| 4 + text.len()).sum();
            let (version, expires_ms) = (view.version, view.expires_ms);
            let list =
                PutList { namespace, key, version, expires_ms, values: Payload::Bytes(&vec![0; bytes]) };
            Record::PutList(list).encode(&mut encoded);
        }
    }
    encoded.len() as u64
}

/// What a record did to a key.
#[derive(Debug)]
pub(super) struct Change {
    pub key: Key,
    pub state: Option<Rc<State>>,
}

/// What a shard has done in a life of the node.
#[derive(Debug, Default)]
pub(super) struct History {
    /// By the numbers of their records, from 1 on.
    pub changes: Vec<Change>,
    last: HashMap<Key, u64>,
    /// When the journal has kept how many.
    pub kept: Vec<(u64, u64)>,
    /// Keys that a client deleted and that were not there, without a record: they do not come back.
    pub gone: HashSet<Key>,
}

impl History {
    pub(super) fn push(&mut self, key: Key) {
        self.last.insert(key.clone(), self.changes.len() as u64 + 1);
        self.changes.push(Change { key, state: None });
    }

    /// The number of the last record about a key, 0 without one.
    pub(super) fn last(&self, key: &Key) -> u64 {
        self.last.get(key).copied().unwrap_or(0)
    }

    /// The last record about every key.
    pub(super) fn lasts(&self) -> impl Iterator<Item = &Change> {
        self.last.values().map(|number| &self.changes[*number as usize - 1])
    }

    /// The journal keeps so many records now.
    pub(super) fn keep(&mut self, kept: u64, now_ms: u64) -> Found {
        if kept > self.changes.len() as u64 {
            return Err(format!("{kept} records are kept, and {} were there", self.changes.len()));
        }
        match self.kept.last() {
            Some((_, last)) if *last > kept => return Err("less is kept than was".into()),
            Some((_, last)) if *last == kept => {}
            _ => self.kept.push((now_ms, kept)),
        }
        Ok(())
    }
}

/// What a key held when a life began: what was seen, or what may come back because it had only found no room.
#[derive(Clone, Debug, Default)]
struct Start {
    seen: Option<Rc<State>>,
    perhaps: Option<Rc<State>>,
}

/// How a life has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// In good order: all is durable.
    Closed,
    Killed,
    PowerLost,
}

/// What a folder is judged by: a life of the node.
#[derive(Debug)]
pub(super) struct Past {
    starts: BTreeMap<Key, Start>,
    pub histories: Vec<History>,
    pub hasher: KeyHasher,
    pub sync: Sync,
    pub end: End,
}

/// What came back.
pub(super) struct Back<'a> {
    pub found: &'a BTreeMap<Key, Rc<State>>,
    pub spaces: &'a HashSet<Namespace>,
    /// Entries that made way while it came back.
    pub evictions: u64,
    pub now: Now,
    /// The latest time that any life has seen.
    pub latest: Now,
}

impl Past {
    /// Before the first life.
    pub(super) fn none(hasher: KeyHasher) -> Past {
        let (starts, histories) = (BTreeMap::new(), Vec::new());
        Past { starts, histories, hasher, sync: Sync::Never, end: End::Closed }
    }

    fn owner(&self, key: &Key) -> usize {
        match key.0 {
            Namespace::NODE => 0,
            namespace => KeyHasher::owner(self.hasher.hash(namespace, &key.1), self.histories.len().max(1)),
        }
    }

    /// Judges what came back, and answers what the life that begins with it will be judged by.
    pub(super) fn judge(&self, back: &Back<'_>) -> Result<Past, String> {
        let astray = back.found.keys().find(|key| key.0 != Namespace::NODE && !back.spaces.contains(&key.0));
        if let Some(key) = astray {
            return Err(format!("{key:?} is there, and its space is not"));
        }
        let mut keys: Vec<HashSet<&Key>> = vec![HashSet::new(); self.histories.len().max(1)];
        for key in self.starts.keys().chain(back.found.keys()) {
            keys[self.owner(key)].insert(key);
        }
        let nothing = History::default();
        let mut starts = BTreeMap::new();
        let (mut missing, mut reached) = (0, Vec::new());
        for (at, keys) in keys.into_iter().enumerate() {
            let history = self.histories.get(at).unwrap_or(&nothing);
            let (least, count) = (self.least(at), history.changes.len());
            let Some((prefix, gone)) = self.prefix(keys.clone(), history, least, back) else {
                return Err(format!(
                    "shard {at} had to have {least} of its {count} records ({:?}, {:?}), and {}: {}",
                    self.sync,
                    self.end,
                    match self.prefix(keys.clone(), history, 0, back) {
                        Some((prefix, _)) => format!("has {prefix}"),
                        None => "is as it never was".into(),
                    },
                    self.differences(keys, history, least, back)
                ));
            };
            reached.push(prefix);
            missing += gone;
            let mut left: BTreeMap<Key, Start> =
                keys.into_iter().map(|key| (key.clone(), self.start(key))).collect();
            for change in &history.changes[..prefix as usize] {
                left.insert(change.key.clone(), Start { seen: change.state.clone(), perhaps: None });
            }
            for (key, Start { seen, perhaps }) in left {
                let now_seen = back.found.get(&key).cloned();
                let is_out = key.0 != Namespace::NODE && !back.spaces.contains(&key.0);
                let makes_way = |was: &Rc<State>| {
                    back.evictions > 0 && now_seen.is_none() && !is_out && !was.is_over(back.latest.unix_ms)
                };
                let perhaps = seen.filter(makes_way).or(perhaps.filter(makes_way));
                starts.insert(key, Start { seen: now_seen, perhaps });
            }
        }
        if missing > back.evictions {
            return Err(format!("{missing} keys are missing, and {} made way", back.evictions));
        }
        self.spaces_before_entries(&reached)?;
        let sync = self.sync;
        Ok(Past { starts, histories: Vec::new(), hasher: self.hasher.clone(), sync, end: End::Killed })
    }

    fn start(&self, key: &Key) -> Start {
        let mut start = self.starts.get(key).cloned().unwrap_or_default();
        if self.histories.iter().any(|history| history.gone.contains(key)) {
            start.perhaps = None;
        }
        start
    }

    /// Whatever has to be there of a space, that there is this space has to be known too.
    fn spaces_before_entries(&self, reached: &[u64]) -> Found {
        let Some(first) = self.histories.first() else { return Ok(()) };
        let mut born = HashMap::new();
        for (at, change) in first.changes.iter().enumerate() {
            if change.key.0 == Namespace::NODE && change.state.is_some() {
                for namespace in super::plan::Space::of(&change.key.1).namespaces() {
                    born.insert(namespace, at as u64 + 1);
                }
            }
        }
        for (at, history) in self.histories.iter().enumerate() {
            for change in &history.changes[..self.least(at) as usize] {
                if born.get(&change.key.0).is_some_and(|number| *number > reached[0]) {
                    return Err(format!("shard {at}: {:?} was kept, and its space is lost", change.key));
                }
            }
        }
        Ok(())
    }

    /// How many records of a shard have to be there.
    fn least(&self, at: usize) -> u64 {
        let Some(history) = self.histories.get(at) else { return 0 };
        let kept_by = |ms: u64| {
            let before = history.kept.iter().rev().find(|(at, _)| *at <= ms);
            before.map_or(0, |(_, kept)| *kept)
        };
        match (self.end, self.sync) {
            (End::Closed, _) => history.changes.len() as u64,
            (End::Killed, _) | (End::PowerLost, Sync::Always) => kept_by(u64::MAX),
            // Of what was answered the last second may be lost.
            (End::PowerLost, Sync::Everysec) => {
                let lasts = self.histories.iter().filter_map(|history| history.kept.last());
                let last_ms = lasts.map(|(ms, _)| *ms).max().unwrap_or(0);
                kept_by(last_ms.saturating_sub(1_001))
            }
            (End::PowerLost, Sync::Never) => 0,
        }
    }

    /// After how many records, at least so many, the shard was as it came back, with the fewest keys that made
    /// way; the greatest such number, and how many keys those are.
    fn prefix<'k>(
        &'k self,
        mut keys: HashSet<&'k Key>,
        history: &'k History,
        least: u64,
        back: &Back<'_>,
    ) -> Option<(u64, u64)> {
        keys.extend(history.changes.iter().map(|change| &change.key));
        let mut fits: HashMap<&Key, Fit> =
            keys.into_iter().map(|key| (key, back.fit(key, &self.start(key)))).collect();
        let count =
            |fits: &HashMap<&Key, Fit>, which| fits.values().filter(|fit| **fit == which).count() as u64;
        let (mut differ, mut missing) = (count(&fits, Fit::Differs), count(&fits, Fit::Missing));
        let mut best = (differ == 0 && least == 0).then_some((0, missing));
        for (number, Change { key, state }) in (1..).zip(&history.changes) {
            let now = back.fit(key, &Start { seen: state.clone(), perhaps: None });
            let before = fits.insert(key, now);
            let step = |which| (u64::from(now == which), u64::from(before == Some(which)));
            let ((more, less), (gone, found)) = (step(Fit::Differs), step(Fit::Missing));
            (differ, missing) = (differ + more - less, missing + gone - found);
            if differ == 0 && number >= least && best.is_none_or(|(_, fewest)| missing <= fewest) {
                best = Some((number, missing));
            }
        }
        best
    }

    /// What differs after so many records.
    fn differences(&self, keys: HashSet<&Key>, history: &History, least: u64, back: &Back<'_>) -> String {
        let mut at: HashMap<&Key, Start> = keys.into_iter().map(|key| (key, self.start(key))).collect();
        for Change { key, state } in &history.changes[..least as usize] {
            at.insert(key, Start { seen: state.clone(), perhaps: None });
        }
        let mut shown = Vec::new();
        for (key, start) in at.iter().filter(|(key, start)| back.fit(key, start) == Fit::Differs) {
            let of = |state: Option<&Rc<State>>| state.map_or("absent".into(), |state| state.shown());
            let name = String::from_utf8_lossy(&key.1);
            let (seen, found) = (of(start.seen.as_ref()), of(back.found.get(*key)));
            shown.push(format!("{:?} {name}: {found}, was {seen}", key.0));
        }
        shown.sort();
        shown.join("; ")
    }
}

/// How what came back of a key is beside what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Same,
    /// It is not there, and may have made way.
    Missing,
    Differs,
}

impl Back<'_> {
    fn fit(&self, key: &Key, start: &Start) -> Fit {
        if key.0 != Namespace::NODE && !self.spaces.contains(&key.0) {
            return Fit::Same;
        }
        match self.fit_one(key, &start.seen) {
            Fit::Differs if start.perhaps.is_some() => self.fit_one(key, &start.perhaps),
            fit => fit,
        }
    }

    fn fit_one(&self, key: &Key, expected: &Option<Rc<State>>) -> Fit {
        let expected = expected.as_ref().filter(|expected| !expected.is_over(self.now.unix_ms));
        let is_same = match (expected, self.found.get(key)) {
            (None, None) => true,
            // It was past its time, and the clock stepped back.
            (None, Some(found)) => found.is_over(self.latest.unix_ms),
            (Some(expected), None) if expected.is_over(self.latest.unix_ms) => true,
            (Some(_), None) if self.evictions > 0 && key.0 != Namespace::NODE => return Fit::Missing,
            (Some(_), None) => false,
            (Some(expected), Some(found)) => expected.is_same(found, self.latest),
        };
        if is_same { Fit::Same } else { Fit::Differs }
    }
}
