//! A dump on its way out: shard by shard, a block of lines at a time.
//!
//! A [`Dump`] is with the connection that asked, an [`Export`] travels: it goes through the entries of one
//! shard, on that shard's core and in slices of a turn, until a block of lines is full, comes back with it,
//! and is sent on when the client has read. So a client that reads slowly, or not at all, holds a few
//! blocks and nobody up. Large values are not copied: what travels is a share of them, encoded piece by
//! piece as they are sent.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::clock::Now;
use crate::http::{Method, Request, Status, Version, response, target};
use crate::limits::{
    DUMP_BLOCK_BYTES, DUMP_BYTES_PER_TURN, DUMP_ENTRIES_PER_TURN, DUMP_LISTS_MAX, DUMP_SHARDS_MAX,
    KEY_BYTES_MAX,
};
use crate::memory::{Large, Memory, Reservation};
use crate::op::{Namespace, Payload};
use crate::shard::{
    Bytes, Kept, ListAction, ListOutcome, ListTask, Shard, View, Walk, WalkBudget, WalkEntry, Walked,
};

use super::super::gather::{Piece, Work};
use super::super::message::Problem;
use super::super::{Api, administer};
use super::Counts;
use super::line::{self, About, Form, Space};

/// Bytes of a large value that are encoded in one step. Three divides it.
const STEP_BYTES: usize = 48 * 1_024;

/// What a dump draws on the memory of the node for each shard it goes through at a time: a block, with its
/// last line.
const ROOM_BYTES: u64 = 2 * DUMP_BLOCK_BYTES as u64;

/// The spaces of a node by the names that a dump has for them.
#[derive(Debug, Default)]
struct Spaces(HashMap<Namespace, Space<Box<str>>, ahash::RandomState>);

impl Spaces {
    fn add_app(&mut self, number: u32, name: &str) {
        self.0.insert(Namespace::items(number), Space::Items(name.into()));
        self.0.insert(Namespace::lists(number), Space::Lists(name.into()));
    }

    fn add_database(&mut self, namespace: Namespace, name: &str) {
        self.0.insert(namespace, Space::Database(name.into()));
    }

    fn of(&self, namespace: Namespace) -> Option<Space<&str>> {
        if namespace == Namespace::KV {
            return Some(Space::Kv);
        }
        self.0.get(&namespace).map(|space| match space {
            Space::Kv => Space::Kv,
            Space::Items(app) => Space::Items(&**app),
            Space::Lists(app) => Space::Lists(&**app),
            Space::Database(name) => Space::Database(&**name),
        })
    }
}

/// A part of the answer that is ready to be sent.
#[derive(Debug)]
enum Part {
    Lines { bytes: Vec<u8>, sent: usize },
    Large { value: Large, sent: usize, form: Form },
}

/// A dump that somebody asked for.
#[derive(Debug)]
pub(in super::super) struct Dump {
    /// Only keys of `/api/kv` that begin like this.
    prefix: Option<Arc<[u8]>>,
    shards: usize,
    wall_seconds: u64,
    stage: Stage,
    spaces: Arc<Spaces>,
    /// Those that are back and have more to bring.
    #[allow(clippy::vec_box)] // As they travel between the cores.
    idle: Vec<Box<Export>>,
    /// Lists that are still to be copied.
    lists: Vec<ListName>,
    /// Held as long as anyone waits for one.
    asker: Arc<()>,
    /// The next shard to begin with.
    next: usize,
    outstanding: usize,
    /// Shards that are through.
    through: usize,
    entries: u64,
    counts: Counts,
    ready: VecDeque<Part>,
    /// The head of the answer is written.
    begun: bool,
    _room: Option<Reservation>,
}

#[derive(Debug)]
enum Stage {
    /// The ledger is asked for the apps behind this one, `None` while it is.
    Apps(Option<u64>),
    /// Every shard is asked how much it holds.
    Counting,
    Walking,
    Over,
}

/// What was appended to the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// Nothing: it waits for a shard.
    Nothing,
    /// A part.
    Part,
    /// The end.
    Last,
}

impl Api {
    /// Reads what a dump is to have.
    pub(in super::super) fn dump(&self, request: &Request, head: &[u8]) -> Result<Dump, Problem> {
        let mut prefix = None;
        for pair in target::query_pairs(request.query.map_or(&b""[..], |query| query.of(head))) {
            let (name, value) = pair.map_err(|_| Problem::QueryInvalid("an escape is malformed"))?;
            if &*name == b"prefix" && prefix.replace(value.into_owned()).is_some() {
                return Err(Problem::QueryInvalid("a parameter stands twice"));
            }
        }
        let prefix = prefix.filter(|prefix| !prefix.is_empty());
        if prefix.as_ref().is_some_and(|prefix| prefix.len() > KEY_BYTES_MAX) {
            return Err(Problem::QueryInvalid("the prefix is longer than a key may be"));
        }
        let stage = match (request.method, &prefix) {
            (Method::Head, _) => Stage::Over,
            (_, Some(_)) => Stage::Counting,
            (_, None) => Stage::Apps(Some(0)),
        };
        let (mut spaces, mut bytes, mut counts) = (Spaces::default(), Vec::new(), Counts::default());
        if let Stage::Apps(_) = stage {
            for name in self.databases.names() {
                if let Some(namespace) = self.databases.namespace(name.as_bytes()) {
                    spaces.add_database(namespace, name);
                    line::write_database(&mut bytes, name);
                    counts.databases += 1;
                }
            }
        }
        let ready = Some(bytes).filter(|bytes| !bytes.is_empty());
        Ok(Dump {
            prefix: prefix.map(Arc::from),
            shards: self.shards,
            wall_seconds: self.wall_seconds,
            stage,
            spaces: Arc::new(spaces),
            idle: Vec::new(),
            lists: Vec::new(),
            asker: Arc::new(()),
            next: 0,
            outstanding: 0,
            through: 0,
            entries: 0,
            counts,
            ready: ready.into_iter().map(|bytes| Part::Lines { bytes, sent: 0 }).collect(),
            begun: false,
            _room: None,
        })
    }
}

impl Dump {
    /// Takes room for what it holds at a time. False when there is none.
    pub fn reserve(&mut self, memory: &Arc<Memory>) -> bool {
        self._room = memory.reserve(self.shards.min(DUMP_SHARDS_MAX) as u64 * ROOM_BYTES);
        self._room.is_some()
    }

    /// The next piece. None while the client has enough to read.
    pub fn next(&mut self) -> Option<Piece<'static>> {
        if self.outstanding + self.ready.len() >= DUMP_SHARDS_MAX {
            return None;
        }
        if let Some(list) = self.lists.pop() {
            self.outstanding += 1;
            let ListName { namespace, key, hash, shard } = list;
            let action = ListAction::Slice { start: 0, end: -1 };
            let task = ListTask::new(namespace, key, hash, action, Arc::downgrade(&self.asker));
            return Some(Piece { index: shard as u32, shard, work: Work::List(Box::new(task)) });
        }
        let export = match &mut self.stage {
            Stage::Apps(after) => {
                let after = after.take()?;
                self.outstanding += 1;
                return Some(administer::list_apps(after));
            }
            Stage::Counting | Stage::Walking => match self.idle.pop() {
                Some(export) => export,
                None if self.next < self.shards => {
                    self.next += 1;
                    let counts = matches!(self.stage, Stage::Counting);
                    let (prefix, spaces) = (self.prefix.clone(), self.spaces.clone());
                    Box::new(Export::new(self.next - 1, counts, prefix, spaces))
                }
                None => return None,
            },
            Stage::Over => return None,
        };
        self.outstanding += 1;
        Some(Piece { index: export.shard as u32, shard: export.shard, work: Work::Export(export) })
    }

    /// Brings back what was handed out.
    pub fn accept(&mut self, errand: Box<dyn Any + Send>) {
        self.outstanding -= 1;
        match errand.downcast::<Export>() {
            Ok(export) => self.accept_export(export),
            Err(errand) => self.accept_apps(errand),
        }
    }

    fn accept_apps(&mut self, errand: Box<dyn Any + Send>) {
        let Some((apps, next)) = administer::listed_apps(errand) else {
            debug_assert!(false, "nothing else was asked for");
            return;
        };
        let Some(spaces) = Arc::get_mut(&mut self.spaces) else {
            debug_assert!(false, "shards are gone through once all apps are known");
            return;
        };
        let mut bytes = Vec::new();
        for (number, name) in apps {
            spaces.add_app(number, &name);
            line::write_app(&mut bytes, &name);
            self.counts.apps += 1;
        }
        self.ready.push_back(Part::Lines { bytes, sent: 0 });
        self.stage = match next {
            Some(after) => Stage::Apps(Some(after)),
            None => Stage::Counting,
        };
    }

    fn accept_export(&mut self, mut export: Box<Export>) {
        if let Stage::Counting = self.stage {
            self.entries += export.entries;
            self.through += 1;
            if self.through == self.shards {
                let mut bytes = Vec::new();
                line::write_head(&mut bytes, self.wall_seconds, self.entries);
                self.ready.push_front(Part::Lines { bytes, sent: 0 });
                (self.stage, self.next, self.through) = (Stage::Walking, 0, 0);
            }
            return;
        }
        self.ready.extend(export.parts.drain(..));
        self.lists.append(&mut export.lists);
        export.bytes = 0;
        self.counts.add(std::mem::take(&mut export.counts));
        match export.is_through {
            true => self.through += 1,
            false => self.idle.push(export),
        }
        self.finish();
    }

    /// Brings back a list. One that is gone by now is in no dump.
    pub fn accept_list(&mut self, mut task: Box<ListTask>) {
        self.outstanding -= 1;
        if let (Some(ListOutcome::Values(values, expires_ms)), Some(space)) =
            (task.take_outcome(), self.spaces.of(task.namespace))
        {
            let about = About { expires_ms, ..About::default() };
            let mut bytes = Vec::new();
            line::write_before_value(&mut bytes, &space, &task.key, &about, Form::Json);
            if let Bytes::Small(values) = &values {
                line::write_value(&mut bytes, values, Form::Json);
            }
            self.ready.push_back(Part::Lines { bytes, sent: 0 });
            if let Bytes::Large(value) = values {
                self.ready.push_back(Part::Large { value, sent: 0, form: Form::Json });
            }
            self.counts.lists += 1;
        }
        self.finish();
    }

    /// Ends when every shard is through and every list is back.
    fn finish(&mut self) {
        if self.through == self.shards && self.outstanding == 0 && self.lists.is_empty() {
            let mut bytes = Vec::new();
            line::write_end(&mut bytes, &self.counts);
            self.ready.push_back(Part::Lines { bytes, sent: 0 });
            self.stage = Stage::Over;
        }
    }

    /// Whether all of it is written.
    pub fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Over) && self.ready.is_empty()
    }

    /// Whether something is ready to be sent.
    pub fn has_output(&self) -> bool {
        !matches!(self.stage, Stage::Apps(_) | Stage::Counting) && !self.ready.is_empty()
    }

    /// Whether it holds large values, and whether one of them is in no store any more.
    pub fn holds_large(&self) -> (bool, bool) {
        let values = || {
            self.ready.iter().filter_map(|part| match part {
                Part::Large { value, .. } => Some(value),
                Part::Lines { .. } => None,
            })
        };
        (values().next().is_some(), values().any(Large::has_left))
    }

    /// Appends the next part of the answer.
    pub fn write(
        &mut self,
        api: &mut Api,
        request: &Request,
        head: &[u8],
        close: bool,
        out: &mut Vec<u8>,
    ) -> Wrote {
        if !self.has_output() {
            return Wrote::Nothing;
        }
        if !std::mem::replace(&mut self.begun, true) {
            write_head(api, request, head, close, out);
        }
        let chunked = request.version != Version::Http10;
        self.write_front(chunked, out);
        if !self.is_done() {
            return Wrote::Part;
        }
        if chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
        Wrote::Last
    }

    /// Writes the head of the answer alone, if it was not written with the first part.
    pub fn answer_head(&self, api: &mut Api, request: &Request, head: &[u8], close: bool, out: &mut Vec<u8>) {
        if !self.begun {
            write_head(api, request, head, close, out);
        }
    }

    fn write_front(&mut self, chunked: bool, out: &mut Vec<u8>) {
        let is_sent = match self.ready.front_mut() {
            None => return,
            Some(Part::Lines { bytes, sent }) => {
                let end = bytes.len().min(*sent + STEP_BYTES);
                chunk(chunked, out, |out| out.extend_from_slice(&bytes[*sent..end]));
                *sent = end;
                end == bytes.len()
            }
            Some(Part::Large { value, sent, form }) => {
                let end = value.len().min(*sent + STEP_BYTES);
                let step = &value[*sent..end];
                chunk(chunked, out, |out| {
                    match form {
                        Form::Base64 => line::write_base64(out, step),
                        Form::Text | Form::Json => out.extend_from_slice(step),
                    }
                    if end == value.len() {
                        out.extend_from_slice(form.end());
                    }
                });
                *sent = end;
                end == value.len()
            }
        };
        if is_sent {
            self.ready.pop_front();
        }
    }
}

fn write_head(api: &mut Api, request: &Request, head: &[u8], close: bool, out: &mut Vec<u8>) {
    api.preamble.begin(out, Status::Ok);
    out.extend_from_slice(b"Content-Type: application/x-ndjson\r\nCache-Control: no-store\r\n");
    if request.version != Version::Http10 {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    api.end(Some((request, head)), close, out);
}

/// Appends a chunk, or its bytes alone to a client that knows no chunks.
fn chunk(chunked: bool, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    if !chunked {
        return write(out);
    }
    /// Room for the length: as many digits each time.
    const LENGTH: &[u8] = b"000000\r\n";
    let at = out.len();
    out.extend_from_slice(LENGTH);
    write(out);
    let length = out.len() - at - LENGTH.len();
    debug_assert!(length > 0, "an empty chunk would end the answer");
    out[at..at + 6].copy_from_slice(format!("{length:06x}").as_bytes());
    response::end(out);
}

/// The walk through one shard.
#[derive(Debug)]
pub struct Export {
    shard: usize,
    /// It is only asked how much there is.
    counts_only: bool,
    prefix: Option<Arc<[u8]>>,
    spaces: Arc<Spaces>,
    walk: Walk,
    /// What the block has so far.
    parts: Vec<Part>,
    /// Bytes of key and value in it.
    bytes: usize,
    /// Lists that are not copied in passing: each is asked for by itself.
    lists: Vec<ListName>,
    counts: Counts,
    entries: u64,
    is_through: bool,
}

/// A list that is to be asked for.
#[derive(Debug)]
struct ListName {
    namespace: Namespace,
    key: Vec<u8>,
    hash: u64,
    shard: usize,
}

/// Whether an errand is one for [`go_on`].
pub fn takes_turns(errand: &dyn Any) -> bool {
    errand.is::<Export>()
}

/// Goes on with an errand that takes several turns. True when it is to be brought back.
pub fn go_on(errand: &mut dyn Any, shard: &mut Shard, now: Now) -> bool {
    errand.downcast_mut::<Export>().is_none_or(|export| export.go_on(shard, now))
}

impl Export {
    fn new(shard: usize, counts_only: bool, prefix: Option<Arc<[u8]>>, spaces: Arc<Spaces>) -> Export {
        Export {
            shard,
            counts_only,
            prefix,
            spaces,
            walk: Walk::default(),
            parts: Vec::new(),
            bytes: 0,
            lists: Vec::new(),
            counts: Counts::default(),
            entries: 0,
            is_through: false,
        }
    }

    /// Fills its block for a slice.
    fn go_on(&mut self, shard: &mut Shard, now: Now) -> bool {
        if self.counts_only {
            self.entries = shard.stats().entries;
            return true;
        }
        let mut walk = std::mem::take(&mut self.walk);
        let left = DUMP_BLOCK_BYTES.saturating_sub(self.bytes);
        let budget = WalkBudget { entries: DUMP_ENTRIES_PER_TURN, bytes: left.min(DUMP_BYTES_PER_TURN) };
        self.is_through = shard.walk(&mut walk, budget, now, |entry| self.visit(&entry));
        self.walk = walk;
        let is_full = self.is_through || self.bytes >= DUMP_BLOCK_BYTES || self.lists.len() >= DUMP_LISTS_MAX;
        if is_full {
            // What the block shows is not told before the journal keeps it.
            shard.touch_all();
        }
        is_full
    }

    fn visit(&mut self, entry: &WalkEntry<'_>) {
        let spaces = Arc::clone(&self.spaces);
        let Some(space) = spaces.of(entry.namespace) else { return };
        if let Some(prefix) = &self.prefix
            && !(space == Space::Kv && entry.key.starts_with(prefix))
        {
            return;
        }
        match &entry.kept {
            Walked::Value(view) => self.write(&space, entry, view),
            // A call may be changing a long one just now, and would have to be waited for.
            Walked::List(view) if matches!(view.kept, Kept::Long(_)) => self.lists.push(ListName {
                namespace: entry.namespace,
                key: entry.key.to_vec(),
                hash: entry.hash,
                shard: self.shard,
            }),
            Walked::List(view) => {
                let about = About { expires_ms: view.expires_ms, ..About::default() };
                let out = lines(&mut self.parts);
                line::write_before_value(out, &space, entry.key, &about, Form::Json);
                out.push(b'[');
                for (number, text) in view.kept.texts().enumerate() {
                    out.extend_from_slice(if number > 0 { b"," } else { b"" });
                    out.extend_from_slice(text);
                }
                out.push(b']');
                out.extend_from_slice(Form::Json.end());
                self.bytes += entry.bytes();
                self.counts.lists += 1;
            }
        }
    }

    fn write(&mut self, space: &Space<&str>, entry: &WalkEntry<'_>, view: &View<'_>) {
        let about = About {
            content_type: view.content_type,
            encoding: view.encoding,
            expires_ms: view.expires_ms,
            lock: view.lock.map(|lock| (lock.token, lock.until_ms)),
        };
        let form = Form::of(space, view.encoding, view.value.bytes());
        let out = lines(&mut self.parts);
        line::write_before_value(out, space, entry.key, &about, form);
        match view.value {
            Payload::Bytes(bytes) => line::write_value(out, bytes, form),
            Payload::Large(large) => self.parts.push(Part::Large { value: large.clone(), sent: 0, form }),
        }
        self.bytes += entry.bytes();
        match space {
            Space::Kv => self.counts.keys += 1,
            Space::Items(_) => self.counts.items += 1,
            Space::Lists(_) => self.counts.lists += 1,
            Space::Database(_) => self.counts.records += 1,
        }
    }
}

/// The lines at the end of the parts.
fn lines(parts: &mut Vec<Part>) -> &mut Vec<u8> {
    if !matches!(parts.last(), Some(Part::Lines { .. })) {
        parts.push(Part::Lines { bytes: Vec::new(), sent: 0 });
    }
    match parts.last_mut() {
        Some(Part::Lines { bytes, .. }) => bytes,
        _ => unreachable!("pushed above"),
    }
}
