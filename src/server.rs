//! Starts a node, waits for signals, and stops it in order.
//!
//! Everything that can fail is done before the first reactor runs, so a node either serves or says
//! why not. Stopping: `/readyz` turns 503, listeners close, idle connections end, what is under way
//! finishes within `shutdown.grace`.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::api::{Api, ApiConfig, NodeState, Phase};
use crate::auth::{Brake, Ledger, NoRandomness, Trust, Verifier, VerifierConfig, root_token};
use crate::clock::Clock;
use crate::config::{Settings, WhenFull};
use crate::etag::Tags;
use crate::memory::Memory;
use crate::net::{Helper, ListenerSocket, Loads, Reactor, ReactorConfig, Timeouts, bind};
use crate::op::KeyHasher;
use crate::shard::{Doorbell, Mesh, Shard};
use crate::store::{Store, StoreConfig};

/// Why a node does not start.
#[derive(Debug)]
pub enum StartError {
    /// The address cannot be listened on.
    Bind(SocketAddr, io::Error),
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
    ReactorEnded(io::Result<()>),
}

/// Runs a node until it is told to stop. `boot_id` makes its entity tags its own.
///
/// # Errors
/// What keeps it from starting. Nothing has been served then.
pub fn run(settings: &Settings, boot_id: u32) -> Result<Ended, StartError> {
    let node = start(settings, boot_id)?;
    Ok(node.wait(settings.shutdown.grace))
}

/// A node whose reactors run.
struct Node {
    events: Receiver<Event>,
    state: Arc<NodeState>,
    bells: Arc<[Doorbell]>,
    loads: Loads,
}

fn start(settings: &Settings, boot_id: u32) -> Result<Node, StartError> {
    let workers = settings.runtime.workers;
    raise_descriptor_limit();
    let wanted = settings.general.listen;
    let (address, listeners) = bind(wanted, workers).map_err(|error| StartError::Bind(wanted, error))?;
    let system = |what: &'static str| move |error| StartError::System(what, error);
    // A panic in one reactor would leave its shard dead and the others waiting for it.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));

    let (events_in, events) = channel();
    watch_signals(events_in.clone()).map_err(system("watch for signals"))?;
    let reactors = reactors(settings, listeners, boot_id).map_err(system("set up the reactors"))?;
    let Reactors { reactors, state, bells, loads } = reactors;
    state.set(Phase::Serving);
    for (number, reactor) in reactors.into_iter().enumerate() {
        let events = events_in.clone();
        let pin = settings.runtime.pin_cores;
        let thread = std::thread::Builder::new().name(format!("lucid-{number}"));
        let body = move || {
            if pin {
                pin_to_core(number);
            }
            // Nobody listens any more only when the process is ending.
            let _ = events.send(Event::ReactorEnded(reactor.run()));
        };
        thread.spawn(body).map_err(system("start a thread"))?;
    }
    greet(settings, address).map_err(system("write to the standard output"))?;
    Ok(Node { events, state, bells, loads })
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
    loads: Loads,
}

/// Sets up a reactor for each of the listening sockets, of which there are `runtime.workers`.
///
/// # Errors
/// What the system refuses: memory, a thread, a descriptor.
pub fn reactors(settings: &Settings, listeners: Vec<ListenerSocket>, boot_id: u32) -> io::Result<Reactors> {
    let workers = settings.runtime.workers;
    let clock = Clock::start();
    let hasher = KeyHasher::random();
    let tags = Tags::new(boot_id);
    let state = Arc::new(NodeState::default());
    let loads = Loads::new(workers);
    let trust = trust(settings)?;
    let brake = settings.databases.password.is_some().then(Brake::new);

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
    // Unset, only descriptors bound them: without one, clients wait in the kernel's queue.
    let connections_max = settings.http.connections_max.map_or(usize::MAX, |bound| bound as usize);

    let mut reactors = Vec::new();
    for (((poll, listener), mesh), helper) in polls.into_iter().zip(listeners).zip(meshes).zip(helpers) {
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
            request_bytes_max: settings.http.request_bytes_max,
            default_ttl: settings.store.default_ttl_seconds,
            cors_origins: settings.http.cors_origins.clone(),
            anonymous_head: settings.authentication.anonymous_head,
            state: state.clone(),
        });
        let api = match reactors.is_empty() {
            true => {
                let ledger = Ledger::new(&trust, memory.clone(), workers, Clock::wall_seconds());
                api.with_ledger(ledger.map_err(no_randomness)?)
            }
            false => api,
        };
        let config = ReactorConfig {
            api,
            shard: Shard::new(store, tags),
            mesh,
            helper,
            listener,
            loads: loads.clone(),
            connections_max,
            memory: memory.clone(),
            timeouts: Timeouts {
                head_ms: settings.http.header_timeout.as_millis() as u64,
                idle_ms: settings.http.idle_timeout.as_millis() as u64,
            },
            clock,
            state: state.clone(),
        };
        reactors.push(Reactor::new(poll, config)?);
    }
    Ok(Reactors { reactors, state, bells, loads })
}

/// What this node judges credentials by.
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
    let trust = Trust::new(verifier).map_err(no_randomness)?;
    Ok(match &settings.databases.password {
        Some(password) => trust.with_password(password.expose().as_bytes()),
        None => trust,
    })
}

fn no_randomness(_: NoRandomness) -> io::Error {
    io::Error::other("the system gives no random bytes")
}

impl Node {
    fn wait(self, grace: Duration) -> Ended {
        let clock = Clock::start();
        let mut running = self.bells.len();
        let mut deadline_ms = None;
        loop {
            let event = match deadline_ms {
                None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(deadline_ms) => {
                    let left = u64::saturating_sub(deadline_ms, clock.now().unix_ms);
                    self.events.recv_timeout(Duration::from_millis(left))
                }
            };
            match event {
                Ok(Event::Signal(SIGHUP)) => {
                    log::warn!("SIGHUP: this version reloads nothing; restart the node to change a setting");
                }
                Ok(Event::Signal(_)) if deadline_ms.is_some() => {
                    log::warn!("second signal: stopping now");
                    return Ended::Failed;
                }
                Ok(Event::Signal(_)) => {
                    log::info!("stopping: {} connections are open", self.loads.total());
                    deadline_ms = Some(clock.now().unix_ms + grace.as_millis() as u64);
                    self.state.set(Phase::Draining);
                    self.bells.iter().for_each(Doorbell::ring_always);
                }
                Ok(Event::ReactorEnded(Ok(()))) => {
                    running -= 1;
                    if running == 0 {
                        log::info!("stopped");
                        return Ended::Told;
                    }
                }
                Ok(Event::ReactorEnded(Err(error))) => {
                    log::error!("a reactor failed: {error}");
                    return Ended::Failed;
                }
                Err(_) => {
                    log::warn!("stopping: {} connections did not finish in time", self.loads.total());
                    return Ended::Told;
                }
            }
        }
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

/// Says where the node listens, in a line that scripts can read, and how to begin.
fn greet(settings: &Settings, address: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if settings.general.show_banner {
        let (workers, limit) = (settings.runtime.workers, mebibytes(settings.store.memory_bytes));
        let plural = if workers == 1 { "" } else { "s" };
        writeln!(out, "Lucid {}, {workers} worker{plural}, {limit}", env!("CARGO_PKG_VERSION"))?;
    }
    writeln!(out, "listening on http://{address}")?;
    if settings.authentication.ephemeral_secret && settings.authentication.enabled {
        let issuer = format!("http://{address}/");
        let secret = settings.authentication.secret_key.expose().as_bytes();
        let token = root_token(secret, &issuer, Clock::wall_seconds());
        let curl = format!("curl -H 'Authorization: Bearer {token}'");
        let key = format!("http://{address}/api/kv/greeting");
        writeln!(
            out,
            "\nNo configuration file: this run keeps everything in memory and has a secret of its own.\n\
             `lucid init` makes a file. Root token of this run:\n\n{token}\n\n\
             Store, read and remove a value:\n\n\
             {curl} -X PUT -d 'hello world' {key}\n{curl} {key}\n{curl} -X DELETE {key}\n"
        )?;
    }
    out.flush()
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB of memory", bytes >> 20)
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
