//! Starts a node, waits for signals, and stops it in order.
//!
//! Everything that can fail is done before the first reactor runs, so a node either serves or says
//! why not. Stopping: `/readyz` turns 503, listeners close, idle connections end, what is under way
//! finishes within `shutdown.grace`, and what was to be kept is. On SIGHUP whoever started the node reads
//! its settings again.

mod greeting;
mod keeping;
mod snapshot;
mod supervisor;

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::api::{Api, ApiConfig, NodeState, Phase};
use crate::auth::{Brake, Ledger, NoRandomness, Trust, Verifier, VerifierConfig};
use crate::clock::{Clock, Version};
use crate::config::{self, Settings, Tls, WhenFull};
use crate::etag::Tags;
use crate::journal::{Journal, OpenError, Opened, Replay};
use crate::memory::Memory;
use crate::net::{
    self, Certificates, Door, DoorError, Doors, Heartbeat, Helper, Live, Loads, Reactor, ReactorConfig,
    SocketFile, Steering, Timeouts, connect, steer,
};
use crate::op::KeyHasher;
use crate::raw::image;
use crate::shard::{self, Doorbell, Mesh, Registry, Shard};
use crate::store::{Store, StoreConfig};
use greeting::{greet, workers_and_memory};
use keeping::{Comeback, Report, TICK};
use snapshot::Snapshot;

/// Why a node does not start.
#[derive(Debug)]
pub enum StartError {
    /// It cannot be listened where it should.
    Doors(DoorError),
    /// The folder of the journal cannot be used.
    Folder(PathBuf, OpenError),
    /// The system refuses what stands first.
    System(&'static str, io::Error),
}

/// How a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As it was told to.
    Told,
    /// By a failure, or in haste.
    Failed,
}

/// What the main thread waits for.
enum Event {
    Signal(i32),
    /// Everything is back that was kept.
    Recovered,
    ReactorEnded(Box<io::Result<(Shard, Api)>>),
}

/// Reads the settings again and hands them to its argument if they are good, which returns when they are
/// in force. Says in a few words what came of it.
pub type Reload<'r> = dyn FnMut(&mut dyn FnMut(&Settings)) -> String + 'r;

/// Time after which the start is over in every thread, and nothing is left of it to be run.
const SETTLED: Duration = Duration::from_secs(1);

/// How long reactors may take to end connections that did not finish in time.
const CLOSING_MS: u64 = 5_000;

/// How long a reload waits for the reactors. They take a turn; a machine may be busy.
const RELOAD_PATIENCE: Duration = Duration::from_secs(5);

/// Runs a node until it is told to stop. `boot_id` makes its entity tags its own. Listens on `inherited`,
/// if there is one; `settings` has its address then.
///
/// # Errors
/// What keeps it from starting. Nothing has been served then.
pub fn run(
    settings: &Settings,
    boot_id: u32,
    inherited: Option<TcpListener>,
    reload: &mut Reload<'_>,
) -> Result<Ended, StartError> {
    let node = start(settings, boot_id, inherited)?;
    Ok(node.wait(settings.shutdown.grace, reload))
}

/// A node whose reactors run.
struct Node {
    events: Receiver<Event>,
    state: Arc<NodeState>,
    bells: Arc<[Doorbell]>,
    steerings: Vec<Steering>,
    loads: Loads,
    journal: Option<Journal>,
    is_recovering: bool,
    /// Where to leave what is in memory, and the boot id of its tags.
    snapshot: Option<(config::Snapshot, u32)>,
    tls: Option<(Arc<Certificates>, Tls)>,
    /// Goes with the node.
    _unix: Option<SocketFile>,
    /// What the service manager shows.
    status: String,
    /// Ends its thread when it is dropped.
    _watchdog: Option<supervisor::Watchdog>,
}

fn start(settings: &Settings, boot_id: u32, inherited: Option<TcpListener>) -> Result<Node, StartError> {
    raise_descriptor_limit();
    let Doors { plain, tls, unix, each } = Doors::open(settings, inherited).map_err(StartError::Doors)?;
    let certificates = tls.as_ref().map(|(_, certificates)| Arc::clone(certificates));
    let system = |what: &'static str| move |error| StartError::System(what, error);
    // A panic in one reactor would leave its shard dead and the others waiting for it.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));

    let folder = settings.persistence.as_ref().map(|persistence| {
        keeping::open(persistence).map_err(|error| StartError::Folder(persistence.location.clone(), error))
    });
    let (events_in, events) = channel();
    watch_signals(events_in.clone()).map_err(system("watch for signals"))?;
    let left = match folder.transpose()? {
        Some(folder) => Some(Left::Folder(Box::new(folder))),
        None => settings.snapshot.as_ref().and_then(snapshot::open).map(Left::Snapshot),
    };
    let kept = left.map(|left| {
        let events = events_in.clone();
        Kept { left, recovered: Arc::new(move || drop(events.send(Event::Recovered))) }
    });
    let is_kept = kept.is_some();
    let boot_id = kept.as_ref().map_or(boot_id, |kept| kept.left.boot_id());
    let reactors = reactors(settings, each, certificates.clone(), boot_id, kept)
        .map_err(system("set up the reactors"))?;
    let Reactors { reactors, state, bells, steerings, loads, journal } = reactors;
    if !is_kept {
        state.set(Phase::Serving);
    }
    for (number, reactor) in reactors.into_iter().enumerate() {
        let events = events_in.clone();
        let pin = settings.runtime.pin_cores;
        let thread = std::thread::Builder::new().name(format!("lucid-{number}"));
        let body = move || {
            if pin {
                pin_to_core(number);
            }
            // Nobody listens any more only when the process is ending.
            let _ = events.send(Event::ReactorEnded(Box::new(reactor.run())));
        };
        thread.spawn(body).map_err(system("start a thread"))?;
    }
    match greet(settings, plain, tls.map(|(address, _)| address)) {
        // Whoever reads has seen enough: `lucid server | grep -m1 listening`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        greeted => greeted.map_err(system("write to the standard output"))?,
    }
    let watchdog = supervisor::Watchdog::start(Heartbeat::of(&steerings), bells.clone());
    let watchdog = watchdog.map_err(system("start a thread"))?;
    let status = format!("Serving http://{plain}, {}", workers_and_memory(settings));
    if !is_kept {
        supervisor::ready(&status);
    }
    let tls = certificates.zip(settings.general.tls.clone());
    Ok(Node {
        events,
        state,
        bells,
        steerings,
        loads,
        journal,
        is_recovering: is_kept,
        snapshot: settings.snapshot.clone().map(|settings| (settings, boot_id)),
        tls,
        _unix: unix,
        status,
        _watchdog: watchdog,
    })
}

/// What an earlier run has left, read once and found good.
pub enum Left {
    /// The folder of its journal.
    Folder(Box<Opened>),
    /// A snapshot.
    Snapshot(Snapshot),
}

impl Left {
    fn boot_id(&self) -> u32 {
        match self {
            Left::Folder(folder) => folder.boot_id(),
            Left::Snapshot(snapshot) => snapshot.boot_id(),
        }
    }

    fn version_max(&self) -> Version {
        match self {
            Left::Folder(folder) => folder.version_max(),
            Left::Snapshot(snapshot) => snapshot.version_max(),
        }
    }

    fn replay(&self) -> Replay {
        match self {
            Left::Folder(folder) => folder.replay(),
            Left::Snapshot(snapshot) => snapshot.replay(),
        }
    }

    fn ledger(&self) -> Box<dyn Iterator<Item = (&[u8], &[u8])> + '_> {
        match self {
            Left::Folder(folder) => Box::new(folder.ledger()),
            Left::Snapshot(snapshot) => Box::new(snapshot.ledger()),
        }
    }
}

/// What an earlier run has kept.
pub struct Kept {
    /// Where.
    pub left: Left,
    /// Is called when all of it is back.
    pub recovered: Arc<dyn Fn() + Send + Sync>,
}

/// The reactors of a node before they run, and what steers them.
#[derive(Debug)]
pub struct Reactors {
    /// Each is to be run on a thread of its own.
    pub reactors: Vec<Reactor>,
    /// Whether the node serves or stops.
    pub state: Arc<NodeState>,
    /// Wake the reactors, so that they see a change of it.
    pub bells: Arc<[Doorbell]>,
    /// Tell the reactors of other settings.
    pub steerings: Vec<Steering>,
    /// To be closed when the reactors have ended.
    pub journal: Option<Journal>,
    loads: Loads,
}

/// Sets up a reactor for each set of listening sockets, of which there are `runtime.workers`.
/// `certificates` are for those that speak TLS. They go on with what was `kept`, or begin with nothing, and
/// then `boot_id` makes their entity tags their own.
///
/// # Errors
/// What the system refuses: memory, a thread, a descriptor.
pub fn reactors(
    settings: &Settings,
    doors: Vec<Vec<Door>>,
    certificates: Option<Arc<Certificates>>,
    boot_id: u32,
    kept: Option<Kept>,
) -> io::Result<Reactors> {
    let workers = settings.runtime.workers;
    let clock = Clock::start();
    let hasher = KeyHasher::random();
    let tags = Tags::new(kept.as_ref().map_or(boot_id, |kept| kept.left.boot_id()));
    let state = Arc::new(NodeState::default());
    let loads = Loads::new(workers);
    let trust = trust(settings, kept.as_ref().map(|kept| &kept.left))?;
    let databases = &settings.databases;
    let has_password = databases.password.is_some() || databases.password_hash.is_some();
    let brake = has_password.then(Brake::new);

    let mut polls = Vec::new();
    let mut bells = Vec::new();
    for _ in 0..workers {
        let (poll, waker) = Reactor::poll()?;
        polls.push(poll);
        // A full counter means that the reactor is woken already.
        bells.push(Doorbell::new(Box::new(move || drop(waker.wake()))));
    }
    let bells: Arc<[Doorbell]> = bells.into();
    let evicts = settings.store.when_full == WhenFull::Evict;
    let memory = Memory::new(settings.store.memory_bytes, workers, evicts)?;
    let helpers = Helper::start(bells.clone())?;
    let meshes = Mesh::connect(bells.clone());
    let mut ledger =
        Ledger::new(&trust, memory.clone(), workers, Clock::wall_seconds()).map_err(no_randomness)?;
    let mut registry = Registry::new(memory.clone(), workers);
    let mut databases = Vec::new();
    let (comeback, taps, journal) = match kept {
        None => (None, Vec::new(), None),
        Some(Kept { left, recovered }) => {
            ledger.restore(left.ledger()).map_err(io::Error::other)?;
            databases = registry.restore(left.ledger()).map_err(io::Error::other)?;
            let replay = left.replay();
            state.recover(workers, replay.progress().1 * workers as u64);
            let shards = shard::Comeback {
                replay,
                hasher: hasher.clone(),
                shards: workers,
                spaces: Arc::new(keeping::spaces(&ledger, &databases)),
                version_max: left.version_max(),
                must_fit: matches!(left, Left::Folder(_)),
            };
            let comeback = Comeback { shards, state: state.clone(), done: recovered };
            let (taps, journal) = match left {
                Left::Folder(folder) => keeping::start(*folder, bells.clone())
                    .map(|(taps, journal)| (taps.into_iter().map(Some).collect(), Some(journal)))?,
                Left::Snapshot(_) => ((0..workers).map(|_| None).collect(), None),
            };
            (Some(comeback), taps, journal)
        }
    };
    let credentials = ledger.credentials();
    let mut ledger = Some((ledger, registry));
    let mut taps = taps.into_iter();
    let Live { timeouts, connections_max, request_bytes_max, default_ttl, cors_origins } = live(settings);

    let mut reactors = Vec::new();
    let mut steerings = Vec::new();
    for (((poll, doors), mesh), helper) in polls.into_iter().zip(doors).zip(meshes).zip(helpers) {
        let store = Store::new(
            StoreConfig {
                memory_bytes: memory.shard_bytes_max(),
                value_bytes_max: settings.store.value_bytes_max as usize,
                when_full: match settings.store.when_full {
                    WhenFull::Evict => crate::store::WhenFull::Evict,
                    WhenFull::Reject => crate::store::WhenFull::Reject,
                },
            },
            hasher.clone(),
        )?;
        let mut api = Api::new(ApiConfig {
            trust: trust.clone(),
            brake: brake.clone(),
            hasher: hasher.clone(),
            tags,
            shards: workers,
            value_bytes_max: settings.store.value_bytes_max,
            request_bytes_max,
            default_ttl,
            cors_origins: cors_origins.clone(),
            anonymous_head: settings.authentication.anonymous_head,
            restricted: settings.databases.restricted.clone(),
            state: state.clone(),
        });
        let mut shard = Shard::new(store, tags);
        api.learn(&credentials, false);
        for database in &databases {
            api.follow(database);
            shard.follow(database);
        }
        let api = match ledger.take() {
            Some((ledger, registry)) => api.with_ledger(ledger, registry),
            None => api,
        };
        let recovery =
            comeback.as_ref().zip(taps.next()).map(|(comeback, tap)| comeback.of(reactors.len(), tap));
        let (steering, control) = connect();
        let config = ReactorConfig {
            api,
            shard,
            recovery,
            mesh,
            helper,
            doors,
            certificates: certificates.clone(),
            loads: loads.clone(),
            connections_max,
            memory: memory.clone(),
            timeouts,
            clock,
            state: state.clone(),
            control,
        };
        steerings.push(steering);
        reactors.push(Reactor::new(poll, config)?);
    }
    Ok(Reactors { reactors, state, bells, steerings, loads, journal })
}

/// What the reactors take on when the settings are read again.
fn live(settings: &Settings) -> Live {
    Live {
        timeouts: Timeouts {
            head_ms: settings.http.header_timeout.as_millis() as u64,
            idle_ms: settings.http.idle_timeout.as_millis() as u64,
        },
        // Unset, only descriptors bound them: without one, clients wait in the kernel's queue.
        connections_max: settings.http.connections_max.map_or(usize::MAX, |bound| bound as usize),
        request_bytes_max: settings.http.request_bytes_max,
        default_ttl: settings.store.default_ttl_seconds,
        cors_origins: settings.http.cors_origins.clone(),
    }
}

/// What this node judges credentials by.
fn trust(settings: &Settings, left: Option<&Left>) -> io::Result<Trust> {
    let authentication = &settings.authentication;
    let mut verifier = Verifier::new(VerifierConfig {
        enabled: authentication.enabled,
        secret: authentication.secret_key.expose().as_bytes(),
        leeway_seconds: authentication.leeway_seconds,
        require_exp: authentication.require_exp,
    });
    if let Some(previous) = &authentication.previous_secret_key {
        verifier = verifier.with_previous(previous.expose().as_bytes());
    }
    let mut trust = Trust::new(verifier).map_err(no_randomness)?;
    if let Some(left) = left {
        trust = trust.restored(left.ledger()).map_err(io::Error::other)?;
    }
    Ok(match (&settings.databases.password, &settings.databases.password_hash) {
        (Some(password), _) => trust.with_password(password.expose().as_bytes()),
        (None, Some(hash)) => trust.with_password_hash(hash.clone()),
        (None, None) => trust,
    })
}

fn no_randomness(_: NoRandomness) -> io::Error {
    io::Error::other("the system gives no random bytes")
}

impl Node {
    fn wait(mut self, mut grace: Duration, reload: &mut Reload<'_>) -> Ended {
        let clock = Clock::start();
        let mut running = self.bells.len();
        let mut deadline_ms = None;
        let mut recovery = self.is_recovering.then(|| Report::begin("recovering"));
        let mut remains = Vec::new();
        let mut is_settled = false;
        loop {
            let left = deadline_ms.map(|deadline_ms| u64::saturating_sub(deadline_ms, clock.now().unix_ms));
            let pause = recovery.as_ref().map(|_| TICK).or((!is_settled).then_some(SETTLED));
            let event = match left.map(Duration::from_millis).or(pause) {
                None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(patience) => self.events.recv_timeout(patience),
            };
            match event {
                Ok(Event::Signal(SIGHUP)) if deadline_ms.is_some() => {}
                Ok(Event::Signal(SIGHUP)) => self.reload(&mut grace, reload),
                Ok(Event::Signal(_)) if deadline_ms.is_some() => {
                    log::warn!("second signal: stopping now");
                    return Ended::Failed;
                }
                Ok(Event::Signal(_)) => {
                    log::info!("stopping: {} connections are open", self.loads.total());
                    supervisor::stopping();
                    deadline_ms = Some(clock.now().unix_ms + grace.as_millis() as u64);
                    recovery = None;
                    self.state.set(Phase::Draining);
                    self.bells.iter().for_each(Doorbell::ring_always);
                }
                Ok(Event::Recovered) => {
                    let Some(report) = recovery.take() else { continue };
                    let (bytes, ms) = (self.state.recovery().1, report.end());
                    log::info!("everything is back: {bytes} bytes in {ms} ms");
                    self.is_recovering = false;
                    self.snapshot.iter().for_each(|(settings, _)| snapshot::remove(settings));
                    supervisor::ready(&self.status);
                }
                Ok(Event::ReactorEnded(ended)) => match *ended {
                    Ok(remaining) => {
                        remains.push(remaining);
                        running -= 1;
                        if running == 0 {
                            self.save(remains);
                            return self.close("stopped");
                        }
                    }
                    Err(error) => {
                        log::error!("a reactor failed: {error}");
                        return Ended::Failed;
                    }
                },
                Err(_) if deadline_ms.is_none() => match &mut recovery {
                    Some(report) => {
                        let progress = self.state.recovery();
                        supervisor::recovering(progress);
                        report.show(progress);
                    }
                    None => {
                        is_settled = true;
                        // What only the start needed would be most of the code in memory, several MiB.
                        image::give_back();
                    }
                },
                Err(_) if self.snapshot.is_some() && self.state.phase() == Phase::Draining => {
                    log::warn!("stopping: {} connections did not finish in time", self.loads.total());
                    deadline_ms = Some(clock.now().unix_ms + CLOSING_MS);
                    self.state.set(Phase::Closing);
                    self.bells.iter().for_each(Doorbell::ring_always);
                }
                Err(_) => {
                    log::warn!("stopping: {} connections did not finish in time", self.loads.total());
                    return self.close("stopped all the same");
                }
            }
        }
    }

    /// Leaves what was in memory for the next start, unless it was not all there yet.
    fn save(&mut self, remains: Vec<(Shard, Api)>) {
        let Some((settings, boot_id)) = self.snapshot.take().filter(|_| !self.is_recovering) else { return };
        let path = settings.file.display();
        match snapshot::save(&settings, boot_id, remains) {
            Ok(entries) => log::info!("{entries} entries are in the snapshot {path}"),
            Err(error) => log::error!("cannot write the snapshot {path}: {error}"),
        }
    }

    /// Sees to it that what was to be kept is.
    fn close(&mut self, said: &str) -> Ended {
        match self.journal.take().map_or(Ok(()), Journal::close) {
            Ok(()) => {
                log::info!("{said}");
                Ended::Told
            }
            Err(error) => {
                log::error!("stopped, and not everything was kept: {error}");
                Ended::Failed
            }
        }
    }
}

impl Node {
    /// Has the settings read again and the reactors take on what they can.
    fn reload(&self, grace: &mut Duration, reload: &mut Reload<'_>) {
        supervisor::reloading();
        let said = reload(&mut |settings| {
            *grace = settings.shutdown.grace;
            if !steer(&self.steerings, &self.bells, &live(settings), RELOAD_PATIENCE) {
                log::warn!("reload: not every worker has taken the settings on yet; they are busy");
            }
            if let Some((certificates, tls)) = &self.tls {
                net::reload(certificates, tls);
            }
        });
        supervisor::ready(&format!("{}; {said}", self.status));
    }
}

/// Turns signals into events, on a thread of its own.
fn watch_signals(events: Sender<Event>) -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    std::thread::Builder::new().name("lucid-signals".into()).spawn(move || {
        for signal in signals.forever() {
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// Allows this process as many descriptors as the system lets it. Refused, it serves fewer clients.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn pin_to_core(number: usize) {
    let mut cores = CpuSet::new();
    cores.set(number);
    if let Err(error) = sched_setaffinity(None, &cores) {
        log::warn!("cannot keep worker {number} on core {number}: {error}");
    }
}
