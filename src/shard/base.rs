//! Hands the live set of a shard to its journal, a slice for each turn.
//!
//! The set is written down while it changes, and made good by replaying all changes since its beginning
//! (see [`crate::journal::Record`]). So an entry may be taken at any moment, with one exception: a list
//! that a call is changing in place is not whole, and the call may yet be undone. Such a list is
//! taken when the call is over. A long list is copied in slices, and again if it changed meanwhile; whoever
//! changes it hands it over himself, so this ends however often it is changed.

use super::apply::Shard;
use super::bytes::Gathering;
use super::durable::{Durable, Name};
use crate::clock::{Now, Version};
use crate::journal::{NodeRecord, Put, PutList, RING_BYTES, Record};
use crate::op::Payload;
use crate::store::{Kept, ListKey, ListView, Place, Store, Walk, WalkBudget, WalkEntry, Walked};

/// What one slice takes: a tenth of a millisecond.
const SLICE: Slice = Slice {
    walk: WalkBudget { entries: 512, bytes: 64 * 1_024 },
    list_values: 2_048,
    list_bytes_in_passing: 16 * 1_024,
};

/// How much of a live set is written at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice {
    pub walk: WalkBudget,
    /// Values of a long list that are copied.
    pub list_values: usize,
    /// The longest list that a walk takes in passing, in bytes of its values.
    pub list_bytes_in_passing: u64,
}

/// How far what the node keeps of itself is handed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum NodeRecords {
    #[default]
    Awaited,
    UnderWay,
    HandedIn,
}

/// A live set on its way to the journal.
#[derive(Debug, Default)]
pub(super) struct Base {
    begun: bool,
    node: NodeRecords,
    walk: Walk,
    walked: bool,
    /// Lists that the walk has met and left for later. Each is whole in the end: written, or gone.
    lists: Vec<Name>,
    copying: Option<Copying>,
}

/// A long list on its way: the last one of those left for later.
#[derive(Debug)]
struct Copying {
    version: Version,
    next: Option<Place>,
    values: Gathering,
}

impl Shard {
    /// Goes on with the live set for the journal, for a slice, if one is wanted and there is room. To be
    /// called once a turn; true when it is to be called again though nothing else happens. When there is no
    /// room the writer wakes the reactor.
    pub fn write_base(&mut self, now: Now) -> bool {
        self.write_slice(&SLICE, now)
    }

    /// The same, as far as a slice of this size goes.
    pub(super) fn write_slice(&mut self, slice: &Slice, now: Now) -> bool {
        let Shard { durable: Some(durable), store, .. } = self else { return false };
        // One that is asked for while another is under way takes its place.
        if durable.notice_base() {
            return true;
        }
        let Some(mut base) = durable.base.take() else { return false };
        let has_room = durable.tap.has_room(RING_BYTES / 2);
        if has_room {
            base.begin(durable);
            if !base.walked {
                base.walk(durable, store, slice, now);
            } else if !base.lists.is_empty() {
                base.copy(durable, store, slice, now);
            } else if base.node != NodeRecords::UnderWay {
                durable.tap.end_base();
                return false;
            }
        }
        durable.base = Some(base);
        has_room
    }

    /// The number of the live set under way if it takes a slice of what the node keeps of itself now. To be
    /// asked once a turn, of the one shard that has such records, in front of [`Shard::write_base`]; under
    /// another number than before they begin anew.
    pub fn wants_node_records(&mut self) -> Option<u64> {
        let durable = self.durable.as_mut()?;
        let Durable { base, tap, base_noticed, .. } = &mut **durable;
        let is_wanted = base.as_ref().is_some_and(|base| base.node != NodeRecords::HandedIn);
        (is_wanted && tap.has_room(RING_BYTES / 2)).then_some(*base_noticed)
    }

    /// Hands in a slice of what the node keeps of itself, for the live set under way; an empty one is the end.
    ///
    /// Between two slices it may change, as entries may between two slices of a walk. What changes is appended
    /// to the log by a record of its own, behind the beginning of the live set, and is replayed behind all of
    /// it: so of a name that has changed since the beginning the log decides, whatever a slice says of it. A
    /// name that has not must be in one of them, so they are taken by an order that no change disturbs.
    pub fn base_node(&mut self, records: &NodeRecord) {
        let Some(durable) = &mut self.durable else { return };
        let Some(mut base) = durable.base.take() else { return };
        base.begin(durable);
        base.node = match records.is_empty() {
            true => NodeRecords::HandedIn,
            false => {
                durable.tap.append_base(&records.record());
                NodeRecords::UnderWay
            }
        };
        durable.base = Some(base);
    }
}

impl Durable {
    /// Looks whether another live set is wanted. It is begun in the next turn, when whoever has records
    /// of the node has had the time to hand them in.
    fn notice_base(&mut self) -> bool {
        let wanted = self.tap.base_wanted();
        let is_new = wanted > self.base_noticed;
        if is_new {
            self.base_noticed = wanted;
            self.base = Some(Base::default());
        }
        is_new
    }

    /// Learns that a list is being changed in place, or no longer is.
    pub(super) fn follow_edit(&mut self, at: &ListKey<'_>, in_place: bool, store: &Store, now: Now) {
        let known = self.editing.iter().position(|name| name.is(at));
        match (known, in_place) {
            (None, true) => self.editing.push(Name::of(at)),
            (Some(known), false) => {
                self.editing.swap_remove(known);
                self.write_waiting(at, store, now);
            }
            _ => {}
        }
    }

    /// Writes a list that the live set waits for, now that it is whole.
    fn write_waiting(&mut self, at: &ListKey<'_>, store: &Store, now: Now) {
        let Some(base) = &mut self.base else { return };
        let Some(waiting) = base.lists.iter().position(|name| name.is(at)) else { return };
        if waiting + 1 == base.lists.len() {
            base.copying = None;
        }
        base.lists.remove(waiting);
        let Some(entry) = store.peek(at, now) else { return };
        let Walked::List(view) = entry.kept else { return };
        let mut values = Gathering::default();
        view.kept.texts().for_each(|text| values.push_framed(text));
        self.tap.append_base(&list(at, &view, values.finish().payload()));
    }
}

impl Base {
    fn begin(&mut self, durable: &mut Durable) {
        if !std::mem::replace(&mut self.begun, true) {
            durable.base_noticed = durable.tap.begin_base();
        }
    }

    fn walk(&mut self, durable: &mut Durable, store: &Store, slice: &Slice, now: Now) {
        let Base { walk, lists, .. } = self;
        let Durable { tap, editing, .. } = durable;
        self.walked = store.walk(walk, slice.walk, now, |entry| match entry.kept {
            Walked::Value(view) => tap.append_base(&Record::Put(Put {
                namespace: entry.namespace,
                key: entry.key,
                version: view.version,
                expires_ms: view.expires_ms,
                lock: view.lock,
                content_type: view.content_type,
                encoding: view.encoding,
                value: view.value,
            })),
            Walked::List(view) => {
                let at = entry.at();
                let is_long =
                    matches!(view.kept, Kept::Long(list) if list.text_bytes() > slice.list_bytes_in_passing);
                if is_long || editing.iter().any(|name| name.is(&at)) {
                    return lists.push(Name::of(&at));
                }
                let mut values = Gathering::default();
                view.kept.texts().for_each(|text| values.push_framed(text));
                tap.append_base(&list(&at, &view, values.finish().payload()));
            }
        });
    }

    /// Goes on with the last of the lists that were left for later.
    fn copy(&mut self, durable: &mut Durable, store: &Store, slice: &Slice, now: Now) {
        let Some(last) = self.lists.last() else { return };
        if durable.editing.contains(last) {
            // It is handed over when it is whole.
            self.copying = None;
            let last = self.lists.pop();
            self.lists.splice(0..0, last);
            return;
        }
        let at = last.at();
        let Some(WalkEntry { kept: Walked::List(view), .. }) = store.peek(&at, now) else {
            self.copying = None;
            self.lists.pop();
            return;
        };
        let copying = self.copying.take().filter(|copying| copying.version == view.version);
        let mut copying = copying.unwrap_or_else(|| Copying {
            version: view.version,
            next: match view.kept {
                Kept::Long(list) => list.select(0),
                Kept::Short(_) => None,
            },
            values: Gathering::default(),
        });
        let mut left = slice.walk.bytes;
        match view.kept {
            Kept::Short(_) => view.kept.texts().for_each(|text| copying.values.push_framed(text)),
            Kept::Long(list) => {
                for _ in 0..slice.list_values {
                    let Some(place) = copying.next.filter(|_| left > 0) else { break };
                    let text = list.record(place).text;
                    copying.values.push_framed(text);
                    left = left.saturating_sub(text.len());
                    copying.next = list.next(place);
                }
            }
        }
        if copying.next.is_some() {
            self.copying = Some(copying);
            return;
        }
        // Beside the ring if it is long, so that this turn copies nothing of it again.
        durable.tap.append_base(&list(&at, &view, copying.values.finish().payload()));
        self.lists.pop();
    }
}

/// The record of a list as it is.
fn list<'a>(at: &ListKey<'a>, view: &ListView<'_>, values: Payload<'a>) -> Record<'a> {
    Record::PutList(PutList {
        namespace: at.namespace,
        key: at.key,
        version: view.version,
        expires_ms: view.expires_ms,
        values,
    })
}
