//! Starts a node, waits for signals, and stops it in order.
//!
//! What can fail at once is done before the first reactor runs. Then the reactors run, and a node says that it is
//! alive, and how far it has come, while it checks and brings back what it has kept. If that is no good it says
//! why, and ends, without having served anything of it. Where it listens is said when it serves, or a moment
//! later if that takes longer. Stopping: `/readyz` turns 503,
//! listeners close, idle connections end, what is under way finishes within `shutdown.grace`, and what was to
//! be kept is. On SIGHUP whoever started the node reads its settings again.

mod greeting;
mod keeping;
mod node;
mod report;
mod snapshot;
mod supervisor;

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::api::{Api, ApiConfig, NodeState, Phase};
use crate::auth::{Brake, Ledger, NoRandomness, Trust, Verifier, VerifierConfig};
use crate::clock::Clock;
use crate::config::{Databases, Settings, WhenFull};
use crate::etag::Tags;
use crate::journal::OpenError;
use crate::memory::Memory;
use crate::net::{
    Certificates, Door, DoorError, Doors, Heartbeat, Helper, Live, Loads, Reactor, ReactorConfig, Steering,
    Timeouts, connect,
};
use crate::op::KeyHasher;
use crate::shard::{Doorbell, Mesh, Registry, Shard};
use crate::store::{Store, StoreConfig};
use greeting::{greeting, workers_and_memory};
use keeping::{Beginning, Opening, Place};
use node::{Event, Node, Start};
use report::Report;

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

/// Reads the settings again and hands them to its argument if they are good, which returns when they are
/// in force. Says in a few words what came of it.
pub type Reload<'r> = dyn FnMut(&mut dyn FnMut(&Settings)) -> String + 'r;

/// Runs a node until it is told to stop. `boot_id` makes its entity tags its own. Listens on `inherited`,
/// if there is one; `settings` has its address then.
///
/// # Errors
/// What keeps it from starting. Nothing has been served then but its own pages.
pub fn run(
    settings: &Settings,
    boot_id: u32,
    inherited: Option<TcpListener>,
    reload: &mut Reload<'_>,
) -> Result<Ended, StartError> {
    start(settings, boot_id, inherited)?.wait(settings.shutdown.grace, reload)
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

    let place = Place::find(settings)?;
    let (events_in, events) = channel();
    watch_signals(events_in.clone()).map_err(system("watch for signals"))?;
    let reactors = reactors(settings, each, certificates.clone(), boot_id, place.is_some())
        .map_err(system("set up the reactors"))?;
    let Reactors { reactors, state, bells, steerings, beginning, loads } = reactors;
    if place.is_none() {
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
    let watchdog = supervisor::Watchdog::start(Heartbeat::of(&steerings), bells.clone());
    let watchdog = watchdog.map_err(system("start a thread"))?;
    let status = format!("Serving http://{plain}, {}", workers_and_memory(settings));
    let begun = match place {
        None => {
            supervisor::ready(&status);
            Start::Done
        }
        Some(place) => {
            let events = events_in.clone();
            // Nobody listens any more only when the process is ending.
            let done = move |opened| drop(events.send(Event::Opened(opened)));
            let opening = Opening::begin(place, beginning, done).map_err(system("start a thread"))?;
            Start::Checking(opening, Report::begin("checking"))
        }
    };
    let over_tls = tls.map(|(address, _)| address);
    let tls = certificates.zip(settings.general.tls.clone());
    Ok(Node {
        events,
        reports: events_in,
        state,
        bells,
        steerings,
        loads,
        start: begun,
        greeting: Some(greeting(settings, plain, over_tls)),
        journal: None,
        snapshot: settings.snapshot.clone().map(|settings| (settings, boot_id)),
        tls,
        _unix: unix,
        status,
        _watchdog: watchdog,
    })
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
    beginning: Beginning,
    loads: Loads,
}

/// Sets up a reactor for each set of listening sockets, of which there are `runtime.workers`.
/// `certificates` are for those that speak TLS, and `boot_id` makes their entity tags their own. If `is_kept`
/// they serve nothing but the pages of the node before they are told what an earlier run has left.
///
/// # Errors
/// What the system refuses: memory, a thread, a descriptor.
pub fn reactors(
    settings: &Settings,
    doors: Vec<Vec<Door>>,
    certificates: Option<Arc<Certificates>>,
    boot_id: u32,
    is_kept: bool,
) -> io::Result<Reactors> {
    let workers = settings.runtime.workers;
    let clock = Clock::start();
    let hasher = KeyHasher::random();
    let tags = Tags::new(boot_id);
    let state = Arc::new(NodeState::default());
    if is_kept {
        state.check(workers);
    }
    let loads = Loads::new(workers);
    let nameless = trust(settings)?;
    let trust = with_password(nameless.clone(), &settings.databases);
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
    let mut ledger = match is_kept {
        true => None,
        false => {
            let ledger = Ledger::new(&trust, memory.clone(), workers, Clock::wall_seconds());
            Some((ledger.map_err(no_randomness)?, Registry::new(memory.clone(), workers)))
        }
    };
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
        let api = Api::new(ApiConfig {
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
        let api = match ledger.take() {
            Some((ledger, registry)) => api.with_ledger(ledger, registry),
            None => api,
        };
        let (steering, control) = connect();
        let config = ReactorConfig {
            api,
            shard: Shard::new(store, tags),
            recovery: None,
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
    let databases = settings.databases.clone();
    let beginning =
        Beginning { trust: nameless, databases, boot_id, hasher, memory, workers, state: state.clone() };
    Ok(Reactors { reactors, state, bells, steerings, beginning, loads })
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

/// What this node judges credentials by, but for the password of the databases.
fn trust(settings: &Settings) -> io::Result<Trust> {
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
    Trust::new(verifier).map_err(no_randomness)
}

/// The same with that.
fn with_password(trust: Trust, databases: &Databases) -> Trust {
    match (&databases.password, &databases.password_hash) {
        (Some(password), _) => trust.with_password(password.expose().as_bytes()),
        (None, Some(hash)) => trust.with_password_hash(hash.clone()),
        (None, None) => trust,
    }
}

fn no_randomness(_: NoRandomness) -> io::Error {
    io::Error::other("the system gives no random bytes")
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
