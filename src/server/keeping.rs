//! How a node with persistence starts: it opens its folder, and has every reactor bring back its part of
//! what is there. Meanwhile it says how far that has come: with a bar on a terminal, in the log otherwise.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::api::NodeState;
use crate::auth::Ledger;
use crate::clock::{Stopwatch, Version};
use crate::config::{Persistence, SyncMode};
use crate::doorbell::Doorbell;
use crate::journal::{
    Folder, Journal, JournalConfig, MasterKey, OpenError, Opened, Record, Replay, Sync, Tap, connect,
};
use crate::net::Recovery;
use crate::op::{KeyHasher, Namespace};
use crate::shard::{DatabaseChange, RestoreError};

/// How often whoever watches is shown more.
pub const TICK: Duration = Duration::from_millis(50);

/// Between two lines of the log, in nanoseconds.
const LINE_NS: u64 = 5_000_000_000;

/// Bytes that a reactor brings back in a turn: a few milliseconds, so that it still answers whether it
/// is alive.
const SLICE_BYTES: u64 = 512 * 1_024;

/// Opens the folder, which reads all of it once.
pub fn open(persistence: &Persistence) -> Result<Opened, OpenError> {
    let mut config = JournalConfig::new(match persistence.sync {
        SyncMode::Always => Sync::Always,
        SyncMode::EverySecond => Sync::Everysec,
        SyncMode::Never => Sync::Never,
    });
    config.key = persistence.private_key.as_ref().map(|key| MasterKey::from_text(key.expose()));
    let (sender, opened) = channel();
    let mut report = Report::begin("checking");
    let opened = std::thread::scope(|scope| {
        scope.spawn(|| drop(sender.send(Folder::open(&persistence.location, &config))));
        loop {
            match opened.recv_timeout(TICK) {
                Err(RecvTimeoutError::Timeout) => report.show(config.progress.bytes()),
                Ok(opened) => return opened,
                Err(RecvTimeoutError::Disconnected) => {
                    let error = io::Error::other("it ended without a result");
                    return Err(OpenError::Io { what: "reading the folder".into(), error });
                }
            }
        }
    })?;
    report.end();
    if let Some(cut) = opened.cut() {
        log::warn!("{}: {cut}", persistence.location.display());
    }
    Ok(opened)
}

/// Starts the writer of a folder; the taps are for the shards of the reactors whose bells these are.
pub fn start(folder: Opened, bells: Arc<[Doorbell]>) -> io::Result<(Vec<Tap>, Journal)> {
    let (taps, sources) = bells.iter().map(|_| connect(folder.bell())).unzip();
    let journal = folder.start(sources, bells).map_err(|error| io::Error::other(error.to_string()))?;
    Ok((taps, journal))
}

/// The spaces that there are.
pub fn spaces(ledger: &Ledger, databases: &[DatabaseChange]) -> HashSet<Namespace> {
    let of_database = |change: &DatabaseChange| match change {
        DatabaseChange::Create { number, .. } => Some(Namespace::database(*number)),
        _ => None,
    };
    ledger.spaces().chain(databases.iter().filter_map(of_database)).chain([Namespace::KV]).collect()
}

/// What all reactors know that bring back what was kept.
pub struct Comeback {
    pub replay: Replay,
    pub hasher: KeyHasher,
    pub workers: usize,
    /// The spaces that there are. What is in others is of apps that are gone.
    pub spaces: Arc<HashSet<Namespace>>,
    /// All clocks go on above it.
    pub version_max: Version,
    /// Whether it is no good if not all of it fits into the memory.
    pub must_fit: bool,
    pub state: Arc<NodeState>,
    /// Tells the main thread that all is back.
    pub done: Arc<dyn Fn() + Send + std::marker::Sync>,
}

impl Comeback {
    /// The part of one reactor, whose journal is attached behind it, if it has one.
    pub fn of(&self, me: usize, tap: Option<Tap>) -> Recovery {
        let (mut replay, hasher, spaces) = (self.replay.clone(), self.hasher.clone(), self.spaces.clone());
        let (workers, version_max) = (self.workers, self.version_max);
        let (state, done, must_fit) = (self.state.clone(), self.done.clone(), self.must_fit);
        let (mut tap, mut left_out) = (tap, 0_u64);
        let (mut again, mut missed) = (Some(self.replay.clone()), HashSet::new());
        Recovery::new(move |shard, now| {
            let (before, _) = replay.progress();
            let mut refused = None;
            let is_first = again.is_some();
            let slice = replay.next_slice(SLICE_BYTES, |record| {
                let Some((namespace, key)) = place(&record) else { return };
                if refused.is_some() || !spaces.contains(&namespace) {
                    return;
                }
                let hash = hasher.hash(namespace, key);
                if KeyHasher::owner(hash, workers) != me || !is_first && !missed.contains(&hash) {
                    return;
                }
                match shard.restore(&record, now) {
                    Ok(()) => {}
                    // A cache that has become smaller keeps what fits.
                    Err(_) if !must_fit => left_out += 1,
                    // While a live set and the changes behind its beginning are replayed, a shard may hold
                    // more than it ever did. What finds no room then is looked for again at the end.
                    Err(RestoreError::Full { .. }) if is_first => {
                        missed.insert(hash);
                        refused = shard.restore(&Record::Remove { namespace, key }, now).err();
                    }
                    Err(why) => refused = Some(why),
                }
            });
            if is_first {
                state.add_recovered(replay.progress().0 - before);
            }
            let is_done = slice.map_err(|error| io::Error::other(error.to_string()))?;
            if let Some(why) = refused {
                return Err(io::Error::other(no_room(why)));
            }
            if is_done
                && !missed.is_empty()
                && let Some(second) = again.take()
            {
                replay = second;
                return Ok(false);
            }
            if is_done {
                shard.raise_clock(version_max);
                tap.take().into_iter().for_each(|tap| shard.attach(tap));
                if left_out > 0 {
                    log::warn!("{left_out} entries of the snapshot found no room");
                }
                if state.has_recovered() {
                    done();
                }
            }
            Ok(is_done)
        })
    }
}

/// The key that a record is about, if it is about one.
fn place<'r>(record: &Record<'r>) -> Option<(Namespace, &'r [u8])> {
    match *record {
        Record::Put(put) => Some((put.namespace, put.key)),
        Record::Rewrite { namespace, key, .. } | Record::Remove { namespace, key } => Some((namespace, key)),
        Record::PutList(list) => Some((list.namespace, list.key)),
        Record::Append(change) | Record::Withdraw(change) => Some((change.namespace, change.key)),
        Record::Node(_) => None,
    }
}

fn no_room(why: RestoreError) -> String {
    match why {
        RestoreError::Full { entry_bytes, held_bytes, ceiling_bytes } => format!(
            "what the folder holds does not fit into the memory: an entry of {entry_bytes} bytes found no room \
             beside the {held_bytes} bytes that a worker holds of the {ceiling_bytes} that it may; raise \
             store.memory_limit, or set store.when_full: evict to start with a part of it"
        ),
        RestoreError::TooLarge { entry_bytes, ceiling_bytes } => format!(
            "what the folder holds does not fit into the memory: an entry has {entry_bytes} bytes, and a worker \
             may hold {ceiling_bytes}; raise store.memory_limit or lower runtime.workers"
        ),
        // Left out before it comes here.
        RestoreError::Closed => "the folder holds an entry of no database".into(),
        RestoreError::Malformed => {
            "the folder holds a list that cannot be read; `lucid recover` says what can be kept".into()
        }
    }
}

/// Shows how far something has come.
pub struct Report {
    what: &'static str,
    bar: ProgressBar,
    watch: Stopwatch,
    next_line_ns: u64,
}

impl Report {
    /// Nothing is shown until there is something to show.
    pub fn begin(what: &'static str) -> Report {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style =
            ProgressStyle::with_template("{msg:10} [{bar:40}] {percent:>3}%  {bytes} of {total_bytes}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        bar.set_message(what);
        Report { what, bar, watch: Stopwatch::start(), next_line_ns: LINE_NS }
    }

    /// So many bytes are done, of so many.
    pub fn show(&mut self, (done, of): (u64, u64)) {
        if of == 0 {
            return;
        }
        self.bar.set_length(of);
        self.bar.set_position(done);
        if self.bar.is_hidden() && self.watch.ns() >= self.next_line_ns {
            self.next_line_ns += LINE_NS;
            log::info!("{}: {} %, {done} of {of} bytes", self.what, done * 100 / of);
        }
    }

    /// It is done; answers how many milliseconds it took.
    pub fn end(self) -> u64 {
        self.bar.finish_and_clear();
        self.watch.ns() / 1_000_000
    }
}
