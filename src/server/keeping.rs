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
use crate::clock::Stopwatch;
use crate::config::{Persistence, SyncMode};
use crate::doorbell::Doorbell;
use crate::journal::{Folder, Journal, JournalConfig, MasterKey, OpenError, Opened, Sync, Tap, connect};
use crate::net::Recovery;
use crate::op::Namespace;
use crate::shard::{self, DatabaseChange};

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

/// What all reactors know that bring back what was kept, and whom they tell how far that has come.
pub struct Comeback {
    pub shards: shard::Comeback,
    pub state: Arc<NodeState>,
    /// Tells the main thread that all is back.
    pub done: Arc<dyn Fn() + Send + std::marker::Sync>,
}

impl Comeback {
    /// The part of one reactor, whose journal is attached behind it, if it has one.
    pub fn of(&self, me: usize, tap: Option<Tap>) -> Recovery {
        let mut part = self.shards.part(me, tap);
        let (state, done) = (self.state.clone(), self.done.clone());
        Recovery::new(move |shard, now| {
            let before = part.read_bytes();
            let is_done = part.go_on(shard, SLICE_BYTES, now);
            state.add_recovered(part.read_bytes() - before);
            if !is_done.map_err(|why| io::Error::other(why.to_string()))? {
                return Ok(false);
            }
            if part.left_out() > 0 {
                log::warn!("{} entries of the snapshot found no room", part.left_out());
            }
            if state.has_recovered() {
                done();
            }
            Ok(true)
        })
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
