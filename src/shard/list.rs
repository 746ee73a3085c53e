//! What is asked of a list, in slices: a call on a long list never holds the core for its whole length.
//!
//! A [`ListTask`] is worked on until it is done, a bounded number of values at a time. Nobody sees it half
//! done: whoever drives tasks lets those on one key follow each other, and a task notices when its list was
//! dropped in between (evicted, expired, its namespace emptied), and begins anew with what is there
//! then. A list that is written, or a short one that grows long, is made aside and swapped in; a long one
//! is changed in place, and what was added is taken back when not all of it fits.

use std::sync::Weak;

use super::apply::{Shard, deadline};
use super::bytes::{Bytes, Gathering};
use super::list_call::{ListAction, ListOutcome};
use crate::clock::{Now, Version};
use crate::journal::{ListChange, PutList, Record};
use crate::limits::{LIST_BYTES_PER_TURN, LIST_VALUES_PER_TURN, VALUE_COPY_BYTES_MAX};
use crate::memory::LargeBuf;
use crate::op::{Namespace, Payload};
use crate::store::{Kept, ListKey, ListView, Place, Pushed, ShortList, Value, WriteError, records};

/// Something asked of a list, and how far it has come.
#[derive(Debug)]
pub struct ListTask {
    /// The space of the key.
    pub namespace: Namespace,
    /// The key.
    pub key: Vec<u8>,
    /// [`crate::op::KeyHasher::hash`] of namespace and key.
    pub hash: u64,
    /// What is asked.
    pub action: ListAction,
    /// What stands before and behind the values that a slice answers.
    pub around: [&'static [u8]; 2],
    /// Dangles once nobody waits for it. What only reads is then given up.
    pub asker: Weak<()>,
    progress: Progress,
    outcome: Option<ListOutcome>,
}

#[derive(Debug)]
enum Progress {
    Begun,
    Editing(Edit),
    /// Takes so many values back that a long list had no room for all of.
    Undoing {
        left: u32,
        why: WriteError,
    },
    Reading(Reading),
}

/// Values on their way into a list, or out of it.
#[derive(Debug)]
struct Edit {
    draft: Draft,
    /// How far the values were worked on.
    at: usize,
    /// How many were added or taken out.
    done: u32,
    /// Those values, for the journal if there is one.
    changed: Gathering,
    /// The list that it started from, and its deadline.
    from: Option<(Version, Option<u64>)>,
}

/// Where the values go.
#[derive(Debug)]
enum Draft {
    /// Into a copy.
    Short(ShortList),
    /// Into a long list aside.
    Aside(u32),
    /// Into the long list itself, which has this version as long as nobody else touched it.
    InPlace(Version),
}

/// Values on their way to the answer.
#[derive(Debug)]
struct Reading {
    version: Version,
    expires_ms: Option<u64>,
    next: Option<Place>,
    left: u32,
    out: Gathering,
}

/// How much may be done on lists before others get their turn: a quarter of a millisecond.
#[derive(Debug)]
pub struct Budget {
    values: usize,
    bytes: usize,
}

impl ListTask {
    /// A task that nobody has worked on.
    pub fn new(
        namespace: Namespace,
        key: Vec<u8>,
        hash: u64,
        action: ListAction,
        asker: Weak<()>,
    ) -> ListTask {
        let around: [&'static [u8]; 2] = [b"", b""];
        ListTask { namespace, key, hash, action, around, asker, progress: Progress::Begun, outcome: None }
    }

    /// What came of it, once it is done.
    pub fn take_outcome(&mut self) -> Option<ListOutcome> {
        self.outcome.take()
    }

    /// Whether both are about one key.
    pub fn is_about_the_key_of(&self, other: &ListTask) -> bool {
        self.hash == other.hash && self.namespace == other.namespace && self.key == other.key
    }

    /// Whether it changes something.
    pub fn writes(&self) -> bool {
        matches!(
            self.action,
            ListAction::Write(..)
                | ListAction::WriteNew(..)
                | ListAction::Add(..)
                | ListAction::Remove(_)
                | ListAction::Purge
        )
    }

    /// Whether it is worked on now, when writes are taken or are not. One that is changing a list in place
    /// goes on in any case: the live set that writes may be waiting for waits for that list to be whole.
    pub fn may_go_on(&self, takes_writes: bool) -> bool {
        let is_in_place = match &self.progress {
            Progress::Editing(edit) => matches!(edit.draft, Draft::InPlace(_)),
            Progress::Undoing { .. } => true,
            Progress::Begun | Progress::Reading(_) => false,
        };
        takes_writes || !self.writes() || is_in_place
    }
}

impl Shard {
    /// Works on a task as long as the budget lasts. True when it is done.
    pub fn work_on(&mut self, task: &mut ListTask, budget: &mut Budget, now: Now) -> bool {
        if task.outcome.is_none() && !task.writes() && task.asker.strong_count() == 0 {
            task.outcome = Some(ListOutcome::Absent);
        }
        budget.spend(0);
        while task.outcome.is_none() && !budget.is_spent() {
            let progress = std::mem::replace(&mut task.progress, Progress::Begun);
            let step = match progress {
                Progress::Begun => self.begin(task, now),
                Progress::Editing(edit) => self.edit(task, edit, budget, now),
                Progress::Undoing { left, why } => self.undo(task, left, why, budget, now),
                Progress::Reading(reading) => self.read(task, reading, budget, now),
            };
            if self.durable.is_some() && task.writes() {
                self.follow_list(task, &step, now);
            }
            match step {
                Step::More(progress) => task.progress = progress,
                Step::Done(outcome) => task.outcome = Some(outcome),
            }
        }
        if self.durable.is_some() {
            self.keep_evictions();
        }
        match (&task.outcome, &mut self.durable) {
            (None, _) => return false,
            // It shows nothing of the list.
            (Some(ListOutcome::JournalFull | ListOutcome::JournalFailed), _) | (_, None) => {}
            (Some(_), Some(durable)) => durable.touch(task.hash),
        }
        true
    }

    /// Tells the live set that is being written whether the list is whole.
    fn follow_list(&mut self, task: &ListTask, step: &Step, now: Now) {
        let Shard { durable: Some(durable), store, .. } = self else { return };
        let in_place = match step {
            Step::More(Progress::Editing(edit)) => matches!(edit.draft, Draft::InPlace(_)),
            Step::More(Progress::Undoing { .. }) => true,
            _ => false,
        };
        durable.follow_edit(&task.at(), in_place, store, now);
    }

    fn begin(&mut self, task: &ListTask, now: Now) -> Step {
        if task.writes()
            && let Some(refused) = self.journal_refuses_list(&task.action)
        {
            return Step::Done(refused);
        }
        let at = task.at();
        let found = self.store.find_list(&at, now);
        let edit = |draft, from| {
            let changed = Gathering::default();
            Step::More(Progress::Editing(Edit { draft, at: 0, done: 0, changed, from }))
        };
        let draft = |view: &ListView<'_>| match view.kept {
            Kept::Short(records) => Draft::Short(ShortList::copy_of(records)),
            Kept::Long(_) => Draft::InPlace(view.version),
        };
        match (&task.action, found) {
            (ListAction::WriteNew(..), Some(_)) => Step::Done(ListOutcome::Exists(true)),
            (ListAction::Write(..), _) | (ListAction::WriteNew(..) | ListAction::Add(..), None) => {
                edit(Draft::Short(ShortList::default()), None)
            }
            (ListAction::Exists, found) => Step::Done(ListOutcome::Exists(found.is_some())),
            (ListAction::Contains(_), None) => Step::Done(ListOutcome::Exists(false)),
            (ListAction::Purge, None) => {
                self.keep_absent(at.namespace, at.key, at.hash);
                Step::Done(ListOutcome::Absent)
            }
            (_, None) => Step::Done(ListOutcome::Absent),
            (ListAction::Add(..) | ListAction::Remove(_), Some(view)) => {
                edit(draft(&view), Some((view.version, view.expires_ms)))
            }
            (ListAction::Purge, Some(_)) => {
                self.store.remove(at.namespace, at.key, at.hash, now);
                self.keep_remove(at.namespace, at.key, at.hash);
                Step::Done(ListOutcome::Purged)
            }
            (ListAction::Count, Some(view)) => Step::Done(ListOutcome::Count(view.kept.count())),
            (ListAction::Contains(needle), Some(view)) => {
                let contains = |canonical: &[u8]| {
                    view.kept.contains(canonical, self.store.hash_value(canonical)).then_some(())
                };
                Step::Done(ListOutcome::Exists(needle.look(contains).is_some()))
            }
            (ListAction::Index(needle), Some(view)) => {
                let index =
                    |canonical: &[u8]| view.kept.index_of(canonical, self.store.hash_value(canonical));
                Step::Done(ListOutcome::Index(needle.look(index)))
            }
            (ListAction::Slice { start, end }, Some(view)) => slice(&view, *start, *end, task.around),
        }
    }

    /// Works on with the values of a write, an addition or a removal.
    fn edit(&mut self, task: &ListTask, mut edit: Edit, budget: &mut Budget, now: Now) -> Step {
        let at = task.at();
        let Some(values) = task.action.values() else { return Step::Done(ListOutcome::Absent) };
        let removes = matches!(task.action, ListAction::Remove(_));
        while !budget.is_spent() {
            let Some((text, next)) = values.next(edit.at) else {
                return self.finish(task, edit, now);
            };
            // What cannot be compared was refused before it came here.
            let Ok(value) = Value::of(text) else {
                return self.give_up(edit, WriteError::TooLarge);
            };
            budget.spend(text.len());
            let changed = match removes {
                true => self.take_out(&at, &mut edit, &value, now),
                false => self.put_in(&at, &mut edit, &value, now),
            };
            match changed {
                Ok(Some(true)) => {
                    edit.done += 1;
                    if self.durable.is_some() {
                        edit.changed.push_framed(text);
                    }
                }
                Ok(Some(false)) => {}
                Ok(None) => return Step::More(Progress::Begun),
                Err(why) => return self.give_up(edit, why),
            }
            edit.at = next;
        }
        Step::More(Progress::Editing(edit))
    }

    /// Adds a value. `None` when the list is gone.
    fn put_in(
        &mut self,
        at: &ListKey<'_>,
        edit: &mut Edit,
        value: &Value<'_>,
        now: Now,
    ) -> Result<Option<bool>, WriteError> {
        if let Draft::Short(short) = &mut edit.draft {
            if short.contains(value.canonical()) {
                return Ok(Some(false));
            }
            if short.push(value) {
                return Ok(Some(true));
            }
            edit.draft = Draft::Aside(self.store.lengthen(short, now)?);
        }
        let hash = self.store.hash_value(value.canonical());
        match &mut edit.draft {
            Draft::Aside(number) => self.store.push_aside(*number, value, hash, now).map(Some),
            Draft::InPlace(version) => {
                if !self.is_untouched(at, *version, now) {
                    return Ok(None);
                }
                let next = self.versions.next(now);
                match self.store.push_in_place(at, value, hash, next, now)? {
                    Pushed::New => {
                        *version = next;
                        Ok(Some(true))
                    }
                    Pushed::Known => Ok(Some(false)),
                    Pushed::Gone => Ok(None),
                }
            }
            Draft::Short(_) => Ok(Some(false)),
        }
    }

    /// Takes a value out. `None` when the list is gone.
    fn take_out(
        &mut self,
        at: &ListKey<'_>,
        edit: &mut Edit,
        value: &Value<'_>,
        now: Now,
    ) -> Result<Option<bool>, WriteError> {
        let version = match &mut edit.draft {
            Draft::Short(short) => return Ok(Some(short.remove(value.canonical()))),
            Draft::Aside(_) => return Ok(Some(false)),
            Draft::InPlace(version) => version,
        };
        let place = match self.store.find_list(at, now) {
            Some(ListView { version: found, kept: Kept::Long(list), .. }) if found == *version => {
                list.find(value.canonical(), self.store.hash_value(value.canonical()))
            }
            _ => return Ok(None),
        };
        let Some(place) = place else { return Ok(Some(false)) };
        *version = self.versions.next(now);
        Ok(Some(self.store.remove_in_place(at, place, *version)))
    }

    /// Swaps in what was made aside.
    fn finish(&mut self, task: &ListTask, mut edit: Edit, now: Now) -> Step {
        let at = task.at();
        let expires_ms = match (&task.action, edit.from) {
            (
                ListAction::Write(_, expiry) | ListAction::WriteNew(_, expiry) | ListAction::Add(_, expiry),
                None,
            ) => deadline(*expiry, now),
            (_, from) => from.and_then(|(_, expires_ms)| expires_ms),
        };
        // A copy was made of a list that may be gone since.
        let is_stale = match (&edit.draft, edit.from) {
            (Draft::InPlace(_), _) | (_, None) => false,
            (_, Some((version, _))) => !self.is_untouched(&at, version, now),
        };
        if is_stale {
            self.drop_draft(edit.draft);
            return Step::More(Progress::Begun);
        }
        let unchanged = edit.done == 0 && edit.from.is_some();
        let version = self.versions.next(now);
        let (count, written) = match &edit.draft {
            Draft::Short(short) if unchanged => (short.count(), Ok(())),
            Draft::Short(short) => {
                (short.count(), self.store.write_short(&at, short, version, expires_ms, now))
            }
            Draft::Aside(number) => {
                let count = self.store.aside(*number).count();
                (count, self.store.attach(&at, *number, version, expires_ms, now))
            }
            Draft::InPlace(_) => {
                let count = self.store.find_list(&at, now).map_or(0, |view| view.kept.count());
                if matches!(task.action, ListAction::Remove(_)) {
                    self.store.shorten(&at, now);
                }
                (count, Ok(()))
            }
        };
        if let Err(why) = written {
            return self.give_up(edit, why);
        }
        if self.durable.is_some() && !unchanged {
            let changed = std::mem::take(&mut edit.changed).finish();
            self.keep_list(task, &edit, changed.payload(), version, expires_ms);
        }
        Step::Done(match task.action {
            ListAction::Add(..) => ListOutcome::Added(edit.done, count),
            ListAction::Remove(_) => ListOutcome::Removed(edit.done, count),
            _ => ListOutcome::Written(count),
        })
    }

    /// Records what a call on a list did, in one piece. Many values go to the journal as they were gathered.
    fn keep_list(
        &mut self,
        task: &ListTask,
        edit: &Edit,
        values: Payload<'_>,
        version: Version,
        expires_ms: Option<u64>,
    ) {
        self.keep_evictions();
        let Some(durable) = &mut self.durable else { return };
        let (namespace, key) = (task.namespace, &*task.key);
        let version = match edit.draft {
            Draft::InPlace(version) => version,
            Draft::Short(_) | Draft::Aside(_) => version,
        };
        let change = ListChange { namespace, key, version, values };
        durable.append(
            task.hash,
            &match (&task.action, edit.from) {
                (ListAction::Remove(_), _) => Record::Withdraw(change),
                (ListAction::Add(..), Some(_)) => Record::Append(change),
                _ => Record::PutList(PutList { namespace, key, version, expires_ms, values }),
            },
        );
    }

    /// Leaves the list as it was.
    fn give_up(&mut self, edit: Edit, why: WriteError) -> Step {
        match edit.draft {
            Draft::InPlace(_) if edit.done > 0 => Step::More(Progress::Undoing { left: edit.done, why }),
            draft => {
                self.drop_draft(draft);
                Step::Done(refused(why))
            }
        }
    }

    /// Takes back what was added: the last values of the list.
    fn undo(
        &mut self,
        task: &ListTask,
        mut left: u32,
        why: WriteError,
        budget: &mut Budget,
        now: Now,
    ) -> Step {
        let at = task.at();
        while left > 0 && !budget.is_spent() {
            budget.spend(0);
            let last = match self.store.find_list(&at, now) {
                Some(ListView { kept: Kept::Long(list), .. }) => {
                    list.count().checked_sub(1).and_then(|last| list.select(last))
                }
                // Gone, and all that was added with it.
                _ => return Step::Done(refused(why)),
            };
            let Some(place) = last else { break };
            let version = self.versions.next(now);
            self.store.remove_in_place(&at, place, version);
            left -= 1;
        }
        if left == 0 { Step::Done(refused(why)) } else { Step::More(Progress::Undoing { left, why }) }
    }

    /// Goes on with an answer.
    fn read(&mut self, task: &ListTask, mut reading: Reading, budget: &mut Budget, now: Now) -> Step {
        let list = match self.store.find_list(&task.at(), now) {
            Some(ListView { version, kept: Kept::Long(list), .. }) if version == reading.version => list,
            _ => return Step::More(Progress::Begun),
        };
        while reading.left > 0
            && !budget.is_spent()
            && let Some(place) = reading.next
        {
            let record = list.record(place);
            budget.spend(record.text.len());
            reading.out.push(record.text);
            reading.left -= 1;
            if reading.left > 0 {
                reading.out.push(b",");
            }
            reading.next = list.next(place);
        }
        if reading.left > 0 && reading.next.is_some() {
            return Step::More(Progress::Reading(reading));
        }
        reading.out.push(b"]");
        reading.out.push(task.around[1]);
        Step::Done(ListOutcome::Values(reading.out.finish(), reading.expires_ms))
    }

    /// Whether a list is still there as it was.
    fn is_untouched(&self, at: &ListKey<'_>, version: Version, now: Now) -> bool {
        self.store.find_list(at, now).is_some_and(|view| view.version == version)
    }

    fn drop_draft(&mut self, draft: Draft) {
        if let Draft::Aside(number) = draft {
            self.store.drop_aside(number);
        }
    }
}

enum Step {
    More(Progress),
    Done(ListOutcome),
}

impl ListTask {
    fn at(&self) -> ListKey<'_> {
        ListKey { namespace: self.namespace, key: &self.key, hash: self.hash }
    }
}

impl Budget {
    /// What a reactor may do in one turn, for however many calls.
    pub fn of_a_turn() -> Budget {
        Budget::of(LIST_VALUES_PER_TURN, LIST_BYTES_PER_TURN)
    }

    /// So many values, and so many bytes of them.
    pub(super) fn of(values: usize, bytes: usize) -> Budget {
        Budget { values, bytes }
    }

    /// Whether there is nothing left of it.
    pub fn is_spent(&self) -> bool {
        self.values == 0 || self.bytes == 0
    }

    fn spend(&mut self, bytes: usize) {
        self.values = self.values.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Begins to answer values. Those of a short list are answered at once.
fn slice(view: &ListView<'_>, start: i64, end: i64, around: [&'static [u8]; 2]) -> Step {
    let count = i64::from(view.kept.count());
    let from_end = |at: i64| if at < 0 { at.saturating_add(count) } else { at };
    let (start, end) = (from_end(start).max(0), from_end(end).min(count - 1));
    let left = end.saturating_sub(start).saturating_add(1).clamp(0, count) as u32;
    let mut out = match view.kept.text_bytes() as usize + around[0].len() + around[1].len() + 2 {
        // What is answered whole is given its room at once.
        bytes if i64::from(left) == count && bytes > VALUE_COPY_BYTES_MAX => {
            Gathering::Large(LargeBuf::with_capacity(bytes))
        }
        _ => Gathering::default(),
    };
    out.push(around[0]);
    out.push(b"[");
    let next = match view.kept {
        Kept::Long(list) => list.select(start as u32).filter(|_| left > 0),
        Kept::Short(kept) => {
            for (number, record) in records(kept).skip(start as usize).take(left as usize).enumerate() {
                out.push(if number > 0 { b"," } else { b"" });
                out.push(record.text);
            }
            out.push(b"]");
            out.push(around[1]);
            if let Gathering::Small(bytes) = out {
                return Step::Done(ListOutcome::Values(Bytes::Small(bytes), view.expires_ms));
            }
            None
        }
    };
    let ListView { version, expires_ms, .. } = *view;
    Step::More(Progress::Reading(Reading { version, expires_ms, next, left, out }))
}

fn refused(why: WriteError) -> ListOutcome {
    match why {
        // Lists lie in no database.
        WriteError::Full | WriteError::Closed => ListOutcome::StoreFull,
        WriteError::TooLarge => ListOutcome::TooLarge,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Budget, ListTask};
    use crate::clock::Now;
    use crate::etag::Tags;
    use crate::limits::LIST_VALUES_PER_TURN;
    use crate::op::{Expiry, KeyHasher, Namespace};
    use crate::shard::{Bytes, ListAction, ListOutcome, Shard, Values};
    use crate::store::{Store, StoreConfig, WhenFull};

    const NOW: Now = Now::from_unix_ms(1_700_000_000_000);

    #[test]
    fn calls_of_one_turn_share_its_budget_and_all_come_to_their_end() {
        let hasher = KeyHasher::seeded(1);
        let config =
            StoreConfig { memory_bytes: 64 << 20, value_bytes_max: 1 << 20, when_full: WhenFull::Reject };
        let mut shard = Shard::new(Store::new(config, hasher.clone()).expect("memory"), Tags::new(1));
        let asker = Arc::new(());
        let texts: Vec<String> = (0..LIST_VALUES_PER_TURN - 100).map(|number| number.to_string()).collect();
        let mut tasks: Vec<ListTask> = (0..8)
            .map(|number| {
                let document = texts.join(",").into_bytes();
                let values = Values { range: 0..document.len(), document: Bytes::Small(document) };
                let (space, key) = (Namespace::lists(1), format!("list {number}").into_bytes());
                let hash = hasher.hash(space, &key);
                let action = ListAction::Write(values, Expiry::Never);
                ListTask::new(space, key, hash, action, Arc::downgrade(&asker))
            })
            .collect();
        let mut turns = 0;
        while !tasks.is_empty() {
            let mut budget = Budget::of_a_turn();
            let before = tasks.len();
            tasks.retain_mut(|task| {
                let done = shard.work_on(task, &mut budget, NOW);
                assert!(!done || matches!(task.take_outcome(), Some(ListOutcome::Written(924))));
                !done
            });
            assert!(before - tasks.len() <= 2, "{} calls in one turn", before - tasks.len());
            turns += 1;
        }
        assert_eq!(turns, 8 * (LIST_VALUES_PER_TURN - 100 + 1) / LIST_VALUES_PER_TURN + 1);
    }
}
