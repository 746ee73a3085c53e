//! A reactor around a shard, as far as the journal knows it: it turns when it was woken, when it is time or
//! when it has more to do, and holds what waits for the journal. It follows `net::reactor` step by step.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU64;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;

use super::model::{Found, History, Key, State, look};
use super::plan::{Ask, Call, Cond, Kind, Space};
use super::sleeper::Sleeper;
use super::world::{Follow, World};
use crate::doorbell::Doorbell;
use crate::journal::{Fault, Health, NodeRecord, Random, is_planted};
use crate::limits::{LIST_BYTES_PER_TURN, VALUE_COPY_BYTES_MAX};
use crate::op::{
    Action, Condition, DumpedLock, Encoding, Expiry, Large, Meta, Namespace, Operation, Outcome, Payload,
    Step,
};
use crate::shard::base::Slice;
use crate::shard::{
    Budget, Bytes, ComebackPart, DatabaseChange, ListAction, ListOutcome, ListTask, NotBack, Shard, Values,
    WalkBudget,
};

/// The record of a space.
const KNOWN: &[u8] = b"what is known of it";

/// An answer on its way.
#[derive(Debug)]
struct Answer {
    gate: u64,
    /// The record that it shows, in truth.
    number: u64,
    /// The version or token that it tells of.
    shows: Option<(Key, u64)>,
}

#[derive(Debug)]
struct ListJob {
    task: ListTask,
    gate: u64,
    key: Key,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Reactor {
    me: usize,
    pub shard: Shard,
    pub sleeper: Sleeper,
    pub inbox: VecDeque<Ask>,
    pub follows: VecDeque<Follow>,
    known: BTreeSet<Space>,
    /// Changes of the spaces that others are told of when they are kept, and the first reactor too.
    untold: VecDeque<(u64, Follow)>,
    /// How far it has handed in what there is of the node, for the live set of this number.
    ledger_walk: (u64, Option<Space>),
    waiting: VecDeque<Answer>,
    deferred: VecDeque<Ask>,
    lists: VecDeque<ListJob>,
    writing_base: bool,
    shrinking: bool,
    part: Option<ComebackPart>,
    /// Why it could not bring back its part.
    pub unfit: Option<NotBack>,
    pub history: History,
    slice: Slice,
    asker: Arc<()>,
}

impl Reactor {
    pub(super) fn new(
        me: usize,
        shard: Shard,
        part: ComebackPart,
        spaces: &BTreeSet<Space>,
        random: &mut Random,
    ) -> Reactor {
        // Small, so that a set of few entries takes some turns.
        let entries = 1 + random.below(30) as usize;
        let slice = Slice {
            walk: WalkBudget { entries, bytes: 64 * 1_024 },
            list_values: 1 + random.below(100) as usize,
            list_bytes_in_passing: random.below(4_096),
        };
        let mut reactor = Reactor {
            me,
            shard,
            sleeper: Sleeper::default(),
            inbox: VecDeque::new(),
            follows: VecDeque::new(),
            known: BTreeSet::new(),
            untold: VecDeque::new(),
            ledger_walk: (0, None),
            waiting: VecDeque::new(),
            deferred: VecDeque::new(),
            lists: VecDeque::new(),
            writing_base: false,
            shrinking: false,
            part: Some(part),
            unfit: None,
            history: History::default(),
            slice,
            asker: Arc::new(()),
        };
        spaces.iter().for_each(|space| reactor.follow(Follow::Create(*space)));
        reactor
    }

    pub(super) fn is_recovering(&self) -> bool {
        self.part.is_some()
    }

    /// One turn of the loop. Whether the next one follows without sleep.
    pub(super) fn turn(&mut self, world: &mut World) -> Result<bool, String> {
        let now = world.now();
        if self.shard.is_journalled() {
            self.release(world)?;
        }
        while let Some(ask) = self.inbox.pop_front() {
            self.ask(ask, world)?;
        }
        while let Some(follow) = self.follows.pop_front() {
            self.follow(follow);
        }
        self.work_on_lists(world)?;
        self.shard.sweep(now);
        let recovers = self.is_recovering();
        let ceiling_bytes = if recovers { world.plan.memory_bytes } else { world.plan.ceiling_bytes() };
        self.shrinking = self.shard.set_ceiling(ceiling_bytes, now);
        self.note(world)?;
        if recovers {
            self.recover(world);
        } else {
            self.feed_journal(world);
        }
        Ok(self.next_list().is_some()
            || self.shrinking
            || self.writing_base
            || self.is_recovering()
            || self.has_arrivals())
    }

    pub(super) fn has_arrivals(&self) -> bool {
        !self.inbox.is_empty() || !self.follows.is_empty()
    }

    /// When it turns without anything new.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.shard.next_sweep_ms()
    }

    /// Whether it may not go to sleep: asked when the writer knows that it is about to.
    pub(super) fn can_go_on(&mut self, world: &World) -> bool {
        if self.is_recovering() || !self.shard.is_journalled() {
            return self.is_recovering() || self.has_arrivals();
        }
        self.shard.flush_journal();
        let has_failed = self.shard.health() == Health::Failed;
        let kept = if has_failed { u64::MAX } else { self.shard.kept() };
        self.writing_base |= self.shard.write_slice(&self.slice, world.now());
        self.has_arrivals()
            || self.writing_base
            || self.waiting.front().is_some_and(|answer| answer.gate <= kept)
            || self.untold.front().is_some_and(|(gate, _)| *gate <= kept)
            || self.takes_writes() && !self.deferred.is_empty()
            || self.next_list().is_some()
    }

    /// What keeps it from having nothing more to do, if anything does.
    pub(super) fn is_stuck(&self) -> Option<String> {
        let (kept, count) = (self.shard.kept(), self.history.changes.len() as u64);
        let what = match () {
            () if kept < count => format!("{kept} of {count} records are kept"),
            () if self.shard.is_congested() => "it is congested".into(),
            () if !self.untold.is_empty() => format!("{} spaces are untold", self.untold.len()),
            () if !self.waiting.is_empty() => format!("{} answers wait", self.waiting.len()),
            () if !self.deferred.is_empty() => format!("{} writes wait", self.deferred.len()),
            () if !self.lists.is_empty() => format!("{} calls on lists wait", self.lists.len()),
            () if self.writing_base || self.has_arrivals() => "it has more to do".into(),
            () => return None,
        };
        Some(format!("shard {}: {what}", self.me))
    }

    /// Whether the shard shows what its records say.
    pub(super) fn agrees(&self, world: &World) -> Found {
        let now = world.now();
        for change in self.history.lasts() {
            let space = change.key.0;
            let is_known = self.known.iter().any(|known| known.namespaces().contains(&space));
            if space != Namespace::KV && !is_known {
                continue;
            }
            let told =
                change.state.clone().filter(|state| state.expires_ms().is_none_or(|at| at > now.unix_ms));
            let seen = look(&self.shard, &world.hasher, &change.key, now);
            let is_same = match (told.as_deref(), seen.as_deref()) {
                // The lease of a lock may be over.
                (
                    Some(State::Value { version, value, .. }),
                    Some(State::Value { version: seen, value: held, .. }),
                ) => version == seen && value == held,
                (told, seen) => told == seen,
            };
            if !is_same {
                return Err(format!("shard {}: {:?} is not what its record says", self.me, change.key));
            }
        }
        Ok(())
    }

    fn takes_writes(&self) -> bool {
        !self.shard.is_congested() || self.shard.health() != Health::Good
    }

    /// Lets go what the journal has kept, and goes on with what it takes again.
    fn release(&mut self, world: &mut World) -> Found {
        self.shard.flush_journal();
        self.tell_followers(world);
        let kept = self.shard.kept();
        while let Some(answer) = self.waiting.pop_front_if(|answer| answer.gate <= kept) {
            self.answer(answer, world)?;
        }
        if self.shard.health() == Health::Failed {
            self.waiting.clear();
            self.untold.clear();
        }
        while self.takes_writes()
            && let Some(ask) = self.deferred.pop_front()
        {
            self.perform(ask, world)?;
        }
        Ok(())
    }

    /// A client is told.
    fn answer(&self, answer: Answer, world: &mut World) -> Found {
        if answer.number > self.shard.kept() {
            return Err(format!(
                "shard {}: an answer shows {} and did not wait for it",
                self.me, answer.number
            ));
        }
        if let Some((key, version)) = answer.shows {
            let shown = world.shown.entry(key).or_default();
            *shown = version.max(*shown);
        }
        Ok(())
    }

    fn answer_when_kept(&mut self, answer: Answer, world: &mut World) -> Found {
        if answer.gate <= self.shard.kept() {
            return self.answer(answer, world);
        }
        self.waiting.push_back(answer);
        Ok(())
    }

    fn ask(&mut self, ask: Ask, world: &mut World) -> Found {
        if ask.writes() && !self.takes_writes() {
            self.deferred.push_back(ask);
            return Ok(());
        }
        self.perform(ask, world)
    }

    fn perform(&mut self, ask: Ask, world: &mut World) -> Found {
        let is_there = |namespace: Namespace| {
            namespace == Namespace::KV
                || self.known.iter().any(|space| space.namespaces().contains(&namespace))
        };
        match ask {
            Ask::Key { namespace, key, kind, shows_token } if is_there(namespace) => {
                self.ask_key((namespace, key), kind, shows_token, world)
            }
            Ask::List { namespace, key, call } if is_there(namespace) => {
                self.ask_list((namespace, key), call, world)
            }
            Ask::Key { .. } | Ask::List { .. } => Ok(()),
            Ask::Create { database } => {
                let number = world.next_space;
                world.next_space += 1;
                let space = if database { Space::Database(number) } else { Space::App(number) };
                if self.shard.health() != Health::Good {
                    return Ok(());
                }
                world.spaces.insert(space);
                self.change_spaces(Follow::Create(space), Some(KNOWN), world)
            }
            Ask::Drop(space) => {
                if self.shard.health() == Health::Failed || !world.spaces.remove(&space) {
                    return Ok(());
                }
                self.change_spaces(Follow::Drop(space), None, world)
            }
        }
    }

    fn change_spaces(&mut self, follow: Follow, value: Option<&[u8]>, world: &mut World) -> Found {
        let (Follow::Create(space) | Follow::Drop(space)) = follow;
        self.shard.journal_node(&NodeRecord::of(&[(space.name(), value)]));
        self.note(world)?;
        let key = (Namespace::NODE, space.name());
        let (gate, number) = (self.shard.take_gate(), self.history.last(&key));
        self.untold.push_back((gate, follow));
        self.tell_followers(world);
        self.answer_when_kept(Answer { gate, number, shows: None }, world)
    }

    /// Has all reactors, this one too, follow the changes that are kept by now.
    fn tell_followers(&mut self, world: &mut World) {
        let kept = self.shard.kept();
        while let Some((_, follow)) =
            self.untold.pop_front_if(|(gate, _)| *gate <= kept || is_planted(Fault::ToldBeforeKept))
        {
            self.follow(follow);
            world.follows.push(follow);
        }
    }

    fn follow(&mut self, follow: Follow) {
        let database = |number: u32| (Arc::from(format!("database {number}")), number);
        match follow {
            Follow::Create(space) => {
                self.known.insert(space);
                if let Space::Database(number) = space {
                    let (name, number) = database(number);
                    self.shard.follow(&DatabaseChange::Create { name, number });
                }
            }
            Follow::Drop(space) => {
                self.known.remove(&space);
                match space {
                    Space::Database(number) => {
                        let (name, number) = database(number);
                        self.shard.follow(&DatabaseChange::Drop { name, number });
                    }
                    Space::App(_) => space.namespaces().into_iter().for_each(|space| self.shard.empty(space)),
                }
            }
        }
    }

    fn ask_key(&mut self, key: Key, kind: Kind, shows_token: bool, world: &mut World) -> Found {
        let now = world.now();
        let before = look(&self.shard, &world.hasher, &key, now);
        let (version, lock) = match before.as_deref() {
            Some(State::Value { version, lock, .. }) => (Some(*version), *lock),
            _ => (None, None),
        };
        let value = match kind {
            Kind::Put { length, .. } | Kind::Restore { length, .. } => world.value(length),
            _ => world.values.to_string().into_bytes(),
        };
        let large = (value.len() > VALUE_COPY_BYTES_MAX).then(|| Large::copy_of(&value));
        let payload = large.as_ref().map_or(Payload::Bytes(&value), Payload::Large);
        let expiry = |seconds: Option<u32>| seconds.map_or(Expiry::Never, Expiry::Seconds);
        let put = |content_type, encoding, seconds| Action::Put {
            value: payload,
            content_type,
            encoding,
            expiry: expiry(seconds),
        };
        let tag = version.map(|version| world.tags.tag(version));
        let mut condition = Condition::default();
        let action = match kind {
            Kind::Get => Action::Get,
            Kind::Put { seconds, text, encoding, condition: cond, .. } => {
                condition.if_none_match = (cond == Cond::IsNew).then_some(b"*");
                condition.must_exist = cond == Cond::Exists;
                condition.if_match = match cond {
                    Cond::Tag => tag.as_ref().map(|tag| &tag[..]),
                    Cond::OtherTag => Some(b"\"another\""),
                    _ => None,
                };
                put(text.then_some(&b"text/plain"[..]), encoding, seconds)
            }
            Kind::Restore { seconds, locked, .. } => {
                let until_ms = NonZeroU64::new(now.unix_ms + 3_000);
                let lock = locked.then_some(DumpedLock { token: (now.unix_ms << 16) - 1, until_ms });
                let encoding = Encoding::Identity;
                Action::Restore {
                    value: payload,
                    content_type: None,
                    encoding,
                    expiry: expiry(seconds),
                    lock,
                }
            }
            Kind::Number => put(None, Encoding::Identity, None),
            Kind::Delete => Action::Delete { answer_value: shows_token },
            Kind::Lock { lease_seconds } => Action::Lock { lease_seconds },
            Kind::Unlock => Action::Unlock,
            Kind::Add => Action::Add(Step::Integer(1)),
            Kind::Expire { seconds } => Action::Expire { seconds },
            Kind::Persist => Action::Persist,
        };
        let op = Operation {
            namespace: key.0,
            key: &key.1,
            hash: world.hasher.hash(key.0, &key.1),
            action,
            condition,
            fencing_token: lock.map(|lock| lock.token).filter(|_| shows_token),
            admin: shows_token,
        };
        let (mut wrote, mut token, mut failed) = (None, None, false);
        match self.shard.apply(&op, now) {
            Outcome::Created(meta) | Outcome::Updated(meta) | Outcome::Counted(_, meta) => wrote = Some(meta),
            Outcome::LockTaken { fencing_token, .. } => token = Some(fencing_token),
            Outcome::ConditionFailed(_) => failed = true,
            // That shows nothing of the key.
            Outcome::JournalFull | Outcome::JournalFailed => return self.note(world),
            _ => {}
        }
        let gate = self.shard.take_gate();
        self.note(world)?;
        let told = wrote.map(|meta| meta.version.0).or(token);
        if let Some(told) = told
            && world.shown.get(&key).is_some_and(|shown| *shown >= told)
        {
            return Err(format!("{key:?} has got {told}, which is not above what it had"));
        }
        if let Some(meta) = wrote {
            self.is_as_written(&key, meta, kind, &value, world)?;
        }
        match kind {
            Kind::Put { condition: Cond::Tag, .. } if failed && tag.is_some() => {
                return Err(format!("{key:?} has a tag that does not name it"));
            }
            Kind::Put { condition: Cond::OtherTag, .. } if wrote.is_some() => {
                return Err(format!("{key:?} was written under a tag that it never had"));
            }
            _ => {}
        }
        let number = self.history.last(&key);
        if number == 0 && before.is_none() && matches!(kind, Kind::Delete) {
            self.history.gone.insert(key.clone());
        }
        let shows = told.map(|told| (key, told));
        self.answer_when_kept(Answer { gate, number, shows }, world)
    }

    /// What is there after a write is what was written.
    fn is_as_written(&self, key: &Key, meta: Meta, kind: Kind, value: &[u8], world: &World) -> Found {
        let seen = look(&self.shard, &world.hasher, key, world.now());
        let Some(State::Value { version, expires_ms, value: held, .. }) = seen.as_deref() else {
            return Err(format!("{key:?} was written and is not there"));
        };
        let is_value = matches!(kind, Kind::Put { .. } | Kind::Restore { .. } | Kind::Number);
        if (*version, *expires_ms) != (meta.version, meta.expires_ms) || is_value && held != value {
            return Err(format!("{key:?} is not what was written"));
        }
        Ok(())
    }

    fn ask_list(&mut self, key: Key, call: Call, world: &mut World) -> Found {
        let values = |from: u32, to: u32| {
            let texts: Vec<String> = (from..to).map(|number| format!("\"value {number}\"")).collect();
            let document = texts.join(",").into_bytes();
            Values { range: 0..document.len(), document: Bytes::Small(document) }
        };
        let expiry = |seconds: Option<u32>| seconds.map_or(Expiry::Never, Expiry::Seconds);
        let action = match call {
            Call::Write(from, to, seconds) => ListAction::Write(values(from, to), expiry(seconds)),
            Call::WriteNew(from, to, seconds) => ListAction::WriteNew(values(from, to), expiry(seconds)),
            Call::Add(from, to, seconds) => ListAction::Add(values(from, to), expiry(seconds)),
            Call::Remove(from, to) => ListAction::Remove(values(from, to)),
            Call::Purge => ListAction::Purge,
            Call::Slice => ListAction::Slice { start: 0, end: -1 },
        };
        let hash = world.hasher.hash(key.0, &key.1);
        let task = ListTask::new(key.0, key.1.clone(), hash, action, Arc::downgrade(&self.asker));
        self.lists.push_back(ListJob { task, gate: 0, key });
        // One that is alone is begun at once.
        let last = self.lists.len() - 1;
        if self.is_free(last) { self.work_on(last, world).map(drop) } else { Ok(()) }
    }

    /// Whether a call may go on: no other on its key is before it, and it does not write or writes are taken.
    fn is_free(&self, at: usize) -> bool {
        let task = &self.lists[at].task;
        task.may_go_on(self.takes_writes())
            && !self.lists.iter().take(at).any(|other| other.task.is_about_the_key_of(task))
    }

    fn next_list(&self) -> Option<usize> {
        (0..self.lists.len()).find(|at| self.is_free(*at))
    }

    /// Works on a call for some values. True when it is done.
    fn work_on(&mut self, at: usize, world: &mut World) -> Result<bool, String> {
        let values = if world.random.one_in(4) { 1_024 } else { 1 + world.random.below(60) as usize };
        let mut budget = Budget::of(values, LIST_BYTES_PER_TURN);
        let done = self.shard.work_on(&mut self.lists[at].task, &mut budget, world.now());
        let gate = self.shard.take_gate();
        self.note(world)?;
        self.lists[at].gate = self.lists[at].gate.max(gate);
        if done && let Some(ListJob { mut task, gate, key }) = self.lists.remove(at) {
            let number = match task.take_outcome() {
                // That shows nothing of the list.
                Some(ListOutcome::JournalFull | ListOutcome::JournalFailed) => 0,
                _ => self.history.last(&key),
            };
            self.answer_when_kept(Answer { gate, number, shows: None }, world)?;
        }
        Ok(done)
    }

    fn work_on_lists(&mut self, world: &mut World) -> Found {
        for _ in 0..4 {
            let Some(at) = self.next_list() else { break };
            if !self.work_on(at, world)? {
                break;
            }
        }
        Ok(())
    }

    /// Hands on what is to be kept, and a slice of the live set if the journal wants it.
    fn feed_journal(&mut self, world: &World) {
        if let Some(number) = self.shard.wants_node_records() {
            if self.ledger_walk.0 != number {
                self.ledger_walk = (number, None);
            }
            let after = self.ledger_walk.1.map_or(Bound::Unbounded, Bound::Excluded);
            let rest = world.spaces.range((after, Bound::Unbounded)).filter(|_| self.me == 0);
            let slice: Vec<Space> = rest.take(2).copied().collect();
            self.ledger_walk.1 = slice.last().copied().or(self.ledger_walk.1);
            let records: Vec<_> = slice.iter().map(|space| (space.name(), Some(KNOWN))).collect();
            self.shard.base_node(&NodeRecord::of(&records));
        }
        self.writing_base = self.shard.write_slice(&self.slice, world.now());
        self.shard.flush_journal();
    }

    fn recover(&mut self, world: &mut World) {
        let Some(part) = &mut self.part else { return };
        let bytes = 1 + world.random.below(100_000);
        match part.go_on(&mut self.shard, bytes, world.now()) {
            Ok(false) => {}
            Ok(true) => self.part = None,
            Err(why) => self.unfit = Some(why),
        }
    }

    /// Notes what the shard has told its journal, and what it shows of it.
    fn note(&mut self, world: &World) -> Found {
        let Some(durable) = &mut self.shard.durable else { return Ok(()) };
        let told = std::mem::take(&mut durable.told);
        let first = self.history.changes.len();
        told.into_iter().for_each(|key| self.history.push(key));
        if self
            .shard
            .durable
            .as_ref()
            .is_some_and(|it| it.tap.appended() != self.history.changes.len() as u64)
        {
            return Err(format!("shard {} has told its journal something aside", self.me));
        }
        let mut seen: Vec<Key> = Vec::new();
        for at in (first..self.history.changes.len()).rev() {
            let key = self.history.changes[at].key.clone();
            // What made way and was written at once has two records: it was absent in between.
            if !seen.contains(&key) {
                self.history.changes[at].state = match key.0 {
                    Namespace::NODE => {
                        world.spaces.contains(&Space::of(&key.1)).then(|| Rc::new(State::Node))
                    }
                    _ => look(&self.shard, &world.hasher, &key, world.now()),
                };
                seen.push(key);
            }
        }
        Ok(())
    }

    /// Who is in the way of its sleep, or brings it out of it.
    pub(super) fn wake(&mut self, bell: &Doorbell) {
        bell.awake();
        self.sleeper.wake();
    }
}
