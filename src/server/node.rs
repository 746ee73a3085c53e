//! The main thread of a node that runs: waits for signals and for what the other threads report, and ends the
//! node in order.
//!
//! It never waits for a disk: what takes its time at the end is done on another thread, so that a second signal is
//! heard.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use signal_hook::consts::SIGHUP;

use super::keeping::{Found, Opening};
use super::report::Report;
use super::{Ended, Reload, StartError, live, snapshot, supervisor};
use crate::api::{Api, NodeState, Phase};
use crate::clock::{Clock, Stopwatch};
use crate::config::{self, Tls};
use crate::journal::Journal;
use crate::net::{self, Certificates, Loads, SocketFile, Steering, steer};
use crate::raw::image;
use crate::shard::{Doorbell, Shard};

/// How often whoever watches a start is shown more.
const TICK: Duration = Duration::from_millis(50);

/// How often the service manager is told how far the end has come.
const SAVING_TICK: Duration = Duration::from_secs(1);

/// How long a start may take before it is said where the node listens, though it does not serve yet. Whoever
/// starts one with little to bring back finds it ready when it says so.
const UNANNOUNCED: Duration = Duration::from_millis(250);

/// Time after which the start is over in every thread, and nothing is left of it to be run.
const SETTLED: Duration = Duration::from_secs(1);

/// How long reactors may take to end connections that did not finish in time.
const CLOSING_MS: u64 = 5_000;

/// How long a reload waits for the reactors. They take a turn; a machine may be busy.
const RELOAD_PATIENCE: Duration = Duration::from_secs(5);

/// What the main thread waits for.
pub enum Event {
    /// The process was sent this one.
    Signal(i32),
    /// What was kept is read, and good, or it is not.
    Opened(Result<Box<Found>, StartError>),
    /// Everything is back that was kept.
    Recovered,
    /// That of a reactor which ended as it was told to is what it leaves.
    ReactorEnded(Box<io::Result<(Shard, Api)>>),
    /// What was to be kept is, or not.
    Closed(Ended),
}

/// A node whose reactors run.
pub struct Node {
    pub events: Receiver<Event>,
    pub reports: Sender<Event>,
    pub state: Arc<NodeState>,
    pub bells: Arc<[Doorbell]>,
    pub steerings: Vec<Steering>,
    pub loads: Loads,
    pub start: Start,
    /// Says where the node listens. To be called once.
    pub greeting: Option<Box<Greeting>>,
    pub journal: Option<Journal>,
    /// Where to leave what is in memory, and the boot id of its tags.
    pub snapshot: Option<(config::Snapshot, u32)>,
    pub tls: Option<(Arc<Certificates>, Tls)>,
    /// Goes with the node.
    pub _unix: Option<SocketFile>,
    /// What the service manager shows.
    pub status: String,
    /// Ends its thread when it is dropped.
    pub _watchdog: Option<supervisor::Watchdog>,
}

/// Says something on the standard output.
pub type Greeting = dyn FnOnce() -> io::Result<()>;

/// How far a node has come that begins.
pub enum Start {
    /// What was kept is read for the first time.
    Checking(Opening, Report),
    /// It comes back.
    Recovering(Report),
    /// Everything is there.
    Done,
}

/// How a node ends.
struct End {
    /// When that is to be over.
    deadline_ms: u64,
    /// Why, if it was not told to.
    failure: Option<StartError>,
    /// What is to be kept is on its way to the disk.
    closing: Option<Closing>,
}

/// What is to be kept on its way to the disk.
struct Closing {
    /// Entries of the snapshot that are written, and how many the service manager was told of.
    written: Arc<AtomicU64>,
    told: u64,
}

impl Closing {
    /// Asks the service manager for more time, if something was done with the last.
    fn tick(&mut self) {
        let written = self.written.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.told, written) != written {
            supervisor::saving(written);
        }
    }
}

impl Node {
    /// Serves until the node is told to stop.
    ///
    /// # Errors
    /// When what was kept cannot be used, which may take its time to see.
    pub fn wait(self, grace: Duration, reload: &mut Reload<'_>) -> Result<Ended, StartError> {
        let running = self.bells.len();
        let (clock, watch) = (Clock::start(), Stopwatch::start());
        Run { node: self, clock, watch, grace, running, remains: Vec::new(), end: None, is_settled: false }
            .wait(reload)
    }
}

/// The life of a node from the first turn of its reactors on.
struct Run {
    node: Node,
    clock: Clock,
    watch: Stopwatch,
    /// How long what is under way may take when the node stops.
    grace: Duration,
    /// Reactors that have not ended, and what the others have left.
    running: usize,
    remains: Vec<(Shard, Api)>,
    end: Option<End>,
    /// Nothing of the start is left to be done.
    is_settled: bool,
}

impl Run {
    fn wait(mut self, reload: &mut Reload<'_>) -> Result<Ended, StartError> {
        loop {
            self.greet();
            self.conclude()?;
            let event = match self.patience() {
                None => self.node.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(patience) => self.node.events.recv_timeout(patience),
            };
            match event {
                Ok(Event::Signal(SIGHUP)) if self.end.is_some() => {}
                Ok(Event::Signal(SIGHUP)) => self.node.reload(&mut self.grace, reload),
                Ok(Event::Signal(_)) => match &mut self.end {
                    None => self.drain(),
                    Some(End { failure, .. }) => {
                        log::warn!("second signal: stopping now");
                        return failure.take().map_or(Ok(Ended::Failed), Err);
                    }
                },
                Ok(Event::Opened(opened)) => self.opened(opened),
                Ok(Event::Recovered) => self.node.recovered(),
                Ok(Event::ReactorEnded(ended)) => match *ended {
                    Ok(remaining) => {
                        self.remains.push(remaining);
                        self.running -= 1;
                    }
                    Err(error) => {
                        log::error!("a reactor failed: {error}");
                        return Ok(Ended::Failed);
                    }
                },
                Ok(Event::Closed(ended)) => return Ok(ended),
                Err(_) => self.tick()?,
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().unix_ms
    }

    /// How long to wait for something to happen.
    fn patience(&self) -> Option<Duration> {
        match &self.end {
            Some(End { closing: Some(_), .. }) => Some(SAVING_TICK),
            Some(end) => Some(Duration::from_millis(end.deadline_ms.saturating_sub(self.now_ms()))),
            None if !matches!(self.node.start, Start::Done) => Some(TICK),
            None => (!self.is_settled).then_some(SETTLED),
        }
    }

    /// Says where the node listens, when it is time.
    fn greet(&mut self) {
        let is_time =
            matches!(self.node.start, Start::Done) || u128::from(self.watch.ns()) >= UNANNOUNCED.as_nanos();
        if self.end.is_none()
            && is_time
            && let Err(failure) = self.node.greet()
        {
            self.fail(failure);
        }
    }

    /// What was kept is read, or cannot be used.
    fn opened(&mut self, opened: Result<Box<Found>, StartError>) {
        let began = std::mem::replace(&mut self.node.start, Start::Done);
        // Nobody waits for it any more.
        if self.end.is_some() {
            return;
        }
        if let Start::Checking(_, report) = began {
            report.end();
        }
        if let Err(failure) = opened.and_then(|found| self.node.bring_back(*found)) {
            self.fail(failure);
        }
    }

    /// The node was told to stop.
    fn drain(&mut self) {
        log::info!("stopping: {} connections are open", self.node.loads.total());
        supervisor::stopping();
        let deadline_ms = self.now_ms() + self.grace.as_millis() as u64;
        self.node.stop(Phase::Draining);
        self.end = Some(End { deadline_ms, failure: None, closing: None });
    }

    /// The node cannot go on.
    fn fail(&mut self, failure: StartError) {
        let deadline_ms = self.now_ms() + CLOSING_MS;
        self.node.stop(Phase::Closing);
        self.end = Some(End { deadline_ms, failure: Some(failure), closing: None });
    }

    /// Sees to it that what was to be kept is, once nobody changes it any more.
    fn conclude(&mut self) -> Result<(), StartError> {
        let Some(end) = &mut self.end else { return Ok(()) };
        if self.running > 0 || end.closing.is_some() || matches!(self.node.start, Start::Checking(..)) {
            return Ok(());
        }
        if let Some(failure) = end.failure.take() {
            return Err(failure);
        }
        end.closing = Some(self.node.close(std::mem::take(&mut self.remains), "stopped"));
        Ok(())
    }

    /// Nothing has happened for as long as was to be waited.
    fn tick(&mut self) -> Result<(), StartError> {
        let closing_ms = self.now_ms() + CLOSING_MS;
        let Some(end) = &mut self.end else {
            self.is_settled |= self.node.tick();
            return Ok(());
        };
        if let Some(closing) = &mut end.closing {
            closing.tick();
        } else if let Some(failure) = end.failure.take() {
            return Err(failure);
        } else if self.running > 0 && self.node.state.phase() == Phase::Draining {
            log::warn!("stopping: {} connections did not finish in time", self.node.loads.total());
            end.deadline_ms = closing_ms;
            self.node.set(Phase::Closing);
        } else {
            // A reactor or a disk hangs. What has come to the journal is kept all the same.
            end.closing = Some(self.node.close(Vec::new(), "stopped all the same"));
        }
        Ok(())
    }
}

impl Node {
    /// Has the reactors see that the node has come to another part of its life.
    fn set(&self, phase: Phase) {
        self.state.set(phase);
        self.bells.iter().for_each(Doorbell::ring_always);
    }

    /// Says where the node listens, if that was not said yet.
    fn greet(&mut self) -> Result<(), StartError> {
        match self.greeting.take().map_or(Ok(()), |greet| greet()) {
            // Whoever reads has seen enough: `lucid server | grep -m1 listening`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            greeted => greeted.map_err(|error| StartError::System("write to the standard output", error)),
        }
    }

    /// Begins to end.
    fn stop(&mut self, phase: Phase) {
        if !matches!(self.start, Start::Done) {
            log::info!("stopping before everything is back that was kept; it stays where it is");
            // What is in memory is not all there is.
            self.snapshot = None;
        }
        match &self.start {
            // It cuts what is torn, which is not to be left half done.
            Start::Checking(opening, _) if !opening.stop() => {}
            _ => self.start = Start::Done,
        }
        self.set(phase);
    }

    /// Has the reactors bring back what was kept.
    fn bring_back(&mut self, found: Found) -> Result<(), StartError> {
        self.snapshot.iter_mut().for_each(|(_, boot_id)| *boot_id = found.boot_id());
        let reports = self.reports.clone();
        let recovered = Arc::new(move || drop(reports.send(Event::Recovered)));
        self.start = Start::Recovering(Report::begin("recovering"));
        let journal = found.hand_out(&self.steerings, &self.bells, recovered);
        self.journal = journal.map_err(|error| StartError::System("set up the reactors", error))?;
        Ok(())
    }

    /// Everything is back.
    fn recovered(&mut self) {
        let Start::Recovering(report) = std::mem::replace(&mut self.start, Start::Done) else { return };
        let (bytes, ms) = (self.state.progress().1, report.end());
        log::info!("everything is back: {bytes} bytes in {ms} ms");
        self.snapshot.iter().for_each(|(settings, _)| snapshot::remove(settings));
        supervisor::ready(&self.status);
    }

    /// Nothing has happened for a while. True when nothing of the start is left to be shown.
    fn tick(&mut self) -> bool {
        let (what, progress, report) = match &mut self.start {
            Start::Done => {
                // What only the start needed would be most of the code in memory, several MiB.
                image::give_back();
                return true;
            }
            Start::Checking(opening, report) => {
                self.state.checked(opening.progress());
                ("Checking", self.state.progress(), report)
            }
            Start::Recovering(report) => ("Recovering", self.state.progress(), report),
        };
        supervisor::starting(what, progress);
        report.show(progress);
        false
    }

    /// Sees to it that what was to be kept is, on a thread of its own: it takes as long as the disk takes.
    fn close(&mut self, remains: Vec<(Shard, Api)>, said: &'static str) -> Closing {
        let (journal, snapshot) = (self.journal.take(), self.snapshot.take());
        let is_whole = remains.len() == self.bells.len();
        let reports = self.reports.clone();
        let written = Arc::new(AtomicU64::new(0));
        let closing = Closing { written: written.clone(), told: 0 };
        let close = move || {
            let mut ended = Ended::Told;
            if let Some((settings, boot_id)) = snapshot {
                let path = settings.file.display();
                let saved = match is_whole {
                    true => snapshot::save(&settings, boot_id, remains, &written),
                    false => Err(io::Error::other("a worker did not end in time")),
                };
                match saved {
                    Ok(()) => {
                        log::info!("{} entries are in the snapshot {path}", written.load(Ordering::Relaxed));
                    }
                    Err(error) => {
                        log::error!("cannot write the snapshot {path}: {error}");
                        ended = Ended::Failed;
                    }
                }
            }
            if let Err(error) = journal.map_or(Ok(()), Journal::close) {
                log::error!("stopped, and not everything was kept: {error}");
                ended = Ended::Failed;
            }
            if ended == Ended::Told {
                log::info!("{said}");
            }
            // Nobody listens any more only when the process is ending.
            let _ = reports.send(Event::Closed(ended));
        };
        let spawned = std::thread::Builder::new().name("lucid-closing".into()).spawn(close);
        if let Err(error) = spawned {
            log::error!("stopped, and not everything was kept: cannot start a thread: {error}");
            let _ = self.reports.send(Event::Closed(Ended::Failed));
        }
        closing
    }

    /// Has the settings read again and the reactors take on what they can.
    fn reload(&self, grace: &mut Duration, reload: &mut Reload<'_>) {
        // Before it is ready it must not say that it is again.
        let is_ready = matches!(self.start, Start::Done);
        if is_ready {
            supervisor::reloading();
        }
        let said = reload(&mut |settings| {
            *grace = settings.shutdown.grace;
            if !steer(&self.steerings, &self.bells, &live(settings), RELOAD_PATIENCE) {
                log::warn!("reload: not every worker has taken the settings on yet; they are busy");
            }
            if let Some((certificates, tls)) = &self.tls {
                net::reload(certificates, tls);
            }
        });
        if is_ready {
            supervisor::ready(&format!("{}; {said}", self.status));
        }
    }
}
