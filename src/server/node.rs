//! The main thread of a node that runs: waits for signals and for what the other threads report, and ends the
//! node in order.
//!
//! It never waits for a disk: what takes its time at the end is done on another thread, so that a second signal is
//! heard.

use std::io;
use std::sync::Arc;
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
    /// What it was to be kept is on its way.
    is_closing: bool,
}

impl Node {
    /// Serves until the node is told to stop.
    ///
    /// # Errors
    /// When what was kept cannot be used, which may take its time to see.
    pub fn wait(mut self, mut grace: Duration, reload: &mut Reload<'_>) -> Result<Ended, StartError> {
        let (clock, watch) = (Clock::start(), Stopwatch::start());
        let now_ms = || clock.now().unix_ms;
        let mut running = self.bells.len();
        let mut end: Option<End> = None;
        let mut remains = Vec::new();
        let mut is_settled = false;
        loop {
            if end.is_none()
                && (matches!(self.start, Start::Done) || u128::from(watch.ns()) >= UNANNOUNCED.as_nanos())
                && let Err(failure) = self.greet()
            {
                end = Some(self.stop(Phase::Closing, now_ms() + CLOSING_MS, Some(failure)));
            }
            if let Some(end) = &mut end
                && running == 0
                && !end.is_closing
                && !matches!(self.start, Start::Checking(..))
            {
                if let Some(failure) = end.failure.take() {
                    return Err(failure);
                }
                end.is_closing = true;
                self.close(std::mem::take(&mut remains), "stopped");
            }
            let patience = match &end {
                Some(End { is_closing: true, .. }) => None,
                Some(end) => Some(Duration::from_millis(end.deadline_ms.saturating_sub(now_ms()))),
                None if !matches!(self.start, Start::Done) => Some(TICK),
                None => (!is_settled).then_some(SETTLED),
            };
            let event = match patience {
                None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(patience) => self.events.recv_timeout(patience),
            };
            match event {
                Ok(Event::Signal(SIGHUP)) if end.is_some() => {}
                Ok(Event::Signal(SIGHUP)) => self.reload(&mut grace, reload),
                Ok(Event::Signal(_)) if end.is_some() => {
                    log::warn!("second signal: stopping now");
                    return Ok(Ended::Failed);
                }
                Ok(Event::Signal(_)) => {
                    log::info!("stopping: {} connections are open", self.loads.total());
                    supervisor::stopping();
                    end = Some(self.stop(Phase::Draining, now_ms() + grace.as_millis() as u64, None));
                }
                Ok(Event::Opened(opened)) => {
                    let began = std::mem::replace(&mut self.start, Start::Done);
                    // Nobody waits for it any more.
                    if end.is_some() {
                        continue;
                    }
                    if let Start::Checking(_, report) = began {
                        report.end();
                    }
                    if let Err(failure) = opened.and_then(|found| self.bring_back(*found)) {
                        end = Some(self.stop(Phase::Closing, now_ms() + CLOSING_MS, Some(failure)));
                    }
                }
                Ok(Event::Recovered) => self.recovered(),
                Ok(Event::Closed(ended)) => return Ok(ended),
                Ok(Event::ReactorEnded(ended)) => match *ended {
                    Ok(remaining) => {
                        remains.push(remaining);
                        running -= 1;
                    }
                    Err(error) => {
                        log::error!("a reactor failed: {error}");
                        return Ok(Ended::Failed);
                    }
                },
                Err(_) => match &mut end {
                    None => is_settled |= self.tick(),
                    Some(End { failure: Some(_), .. }) => running = 0,
                    Some(end) if running > 0 && self.state.phase() == Phase::Draining => {
                        log::warn!("stopping: {} connections did not finish in time", self.loads.total());
                        end.deadline_ms = now_ms() + CLOSING_MS;
                        self.state.set(Phase::Closing);
                        self.bells.iter().for_each(Doorbell::ring_always);
                    }
                    // A reactor or a disk hangs. What has come to the journal is kept all the same.
                    Some(end) => {
                        end.is_closing = true;
                        self.close(Vec::new(), "stopped all the same");
                    }
                },
            }
        }
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
    fn stop(&mut self, phase: Phase, deadline_ms: u64, failure: Option<StartError>) -> End {
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
        self.state.set(phase);
        self.bells.iter().for_each(Doorbell::ring_always);
        End { deadline_ms, failure, is_closing: false }
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
    fn close(&mut self, remains: Vec<(Shard, Api)>, said: &'static str) {
        let (journal, snapshot) = (self.journal.take(), self.snapshot.take());
        let is_whole = remains.len() == self.bells.len();
        let reports = self.reports.clone();
        let close = move || {
            let mut ended = Ended::Told;
            if let Some((settings, boot_id)) = snapshot.filter(|_| is_whole) {
                let path = settings.file.display();
                match snapshot::save(&settings, boot_id, remains) {
                    Ok(entries) => log::info!("{entries} entries are in the snapshot {path}"),
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
