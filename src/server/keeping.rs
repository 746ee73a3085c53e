//! How a node comes back to what an earlier run has left: the folder of its journal, or a snapshot.
//!
//! What it can be refused for at once is known before anybody is told of the port. The rest is read on a thread
//! beside the reactors, which run already: first all of it is *checked*, then every reactor *brings back* its
//! part. A node that is told to stop meanwhile does not wait for the reading; nothing is changed by that.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::StartError;
use super::snapshot::{self, Snapshot};
use crate::api::{self, NodeState};
use crate::auth::{Credential, Ledger, Trust};
use crate::clock::{Clock, Version};
use crate::config::{self, Databases, Persistence, Settings, SyncMode};
use crate::doorbell::Doorbell;
use crate::etag::Tags;
use crate::journal::{
    Folder, Journal, JournalConfig, MasterKey, Opened, Progress, Replay, Sync, Taken, Tap, connect,
};
use crate::memory::Memory;
use crate::net::{Legacy, Recovery, Steering};
use crate::op::{KeyHasher, Namespace};
use crate::shard::{Comeback, DatabaseChange, Registry};

/// Bytes that a reactor brings back in a turn: a few milliseconds, so that it still answers whether it
/// is alive.
const SLICE_BYTES: u64 = 512 * 1_024;

/// Where an earlier run may have left something.
#[derive(Debug)]
pub enum Place {
    /// A folder that belongs to this node now.
    Folder(Box<Taken>, PathBuf, Arc<Progress>),
    /// A file.
    Snapshot(config::Snapshot, Arc<Progress>),
}

impl Place {
    /// The one of these settings, if they name one.
    ///
    /// # Errors
    /// When it is a folder that may not be used, as far as that is known without reading it.
    pub fn find(settings: &Settings) -> Result<Option<Place>, StartError> {
        let Some(persistence) = &settings.persistence else {
            let snapshot = settings.snapshot.clone().filter(|snapshot| snapshot.file.exists());
            return Ok(snapshot.map(|snapshot| Place::Snapshot(snapshot, Arc::default())));
        };
        let Persistence { location, sync, private_key } = persistence;
        let mut config = JournalConfig::new(match sync {
            SyncMode::Always => Sync::Always,
            SyncMode::EverySecond => Sync::Everysec,
            SyncMode::Never => Sync::Never,
        });
        config.key = private_key.as_ref().map(|key| MasterKey::from_text(key.expose()));
        let progress = config.progress.clone();
        let refused = |error| StartError::Folder(location.clone(), error);
        let taken = Folder::take(location, &config).map_err(refused)?;
        Ok(Some(Place::Folder(Box::new(taken), location.clone(), progress)))
    }

    fn progress(&self) -> &Arc<Progress> {
        match self {
            Place::Folder(_, _, progress) | Place::Snapshot(_, progress) => progress,
        }
    }

    fn open(self, boot_id: u32) -> Result<Left, StartError> {
        match self {
            Place::Folder(taken, location, _) => match taken.open() {
                Ok(opened) => {
                    if let Some(cut) = opened.cut() {
                        log::warn!("{}: {cut}", location.display());
                    }
                    Ok(Left::Folder(Box::new(opened)))
                }
                Err(error) => Err(StartError::Folder(location, error)),
            },
            Place::Snapshot(settings, progress) => {
                Ok(snapshot::open(&settings, &progress).map_or(Left::Nothing { boot_id }, Left::Snapshot))
            }
        }
    }
}

/// What an earlier run has left, read once and found good.
#[derive(Debug)]
enum Left {
    Folder(Box<Opened>),
    Snapshot(Snapshot),
    /// What there was is no good, and the node begins with nothing.
    Nothing {
        boot_id: u32,
    },
}

impl Left {
    fn boot_id(&self) -> u32 {
        match self {
            Left::Folder(folder) => folder.boot_id(),
            Left::Snapshot(snapshot) => snapshot.boot_id(),
            Left::Nothing { boot_id } => *boot_id,
        }
    }

    fn version_max(&self) -> Version {
        match self {
            Left::Folder(folder) => folder.version_max(),
            Left::Snapshot(snapshot) => snapshot.version_max(),
            Left::Nothing { .. } => Version(0),
        }
    }

    fn replay(&self) -> Option<Replay> {
        match self {
            Left::Folder(folder) => Some(folder.replay()),
            Left::Snapshot(snapshot) => Some(snapshot.replay()),
            Left::Nothing { .. } => None,
        }
    }

    fn ledger(&self) -> Box<dyn Iterator<Item = (&[u8], &[u8])> + '_> {
        match self {
            Left::Folder(folder) => Box::new(folder.ledger()),
            Left::Snapshot(snapshot) => Box::new(snapshot.ledger()),
            Left::Nothing { .. } => Box::new(std::iter::empty()),
        }
    }
}

/// What reactors have begun with that are to bring back what was kept.
#[derive(Debug)]
pub struct Beginning {
    /// What they judge credentials by, without the password of the databases.
    pub trust: Trust,
    pub databases: Databases,
    /// Their boot id, as long as nobody knows another.
    pub boot_id: u32,
    pub hasher: KeyHasher,
    pub memory: Arc<Memory>,
    pub workers: usize,
    pub state: Arc<NodeState>,
}

/// What an earlier run has left, as the reactors are told of it.
#[derive(Debug)]
pub struct Found {
    left: Left,
    trust: Trust,
    ledger: Ledger,
    registry: Registry,
    credentials: Arc<[Arc<Credential>]>,
    databases: Arc<[DatabaseChange]>,
    beginning: Beginning,
}

/// What was kept is being read.
#[derive(Debug)]
pub struct Opening {
    progress: Arc<Progress>,
}

impl Opening {
    /// Begins to read it, on a thread of its own, which calls `done` at its end.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn begin(
        place: Place,
        beginning: Beginning,
        done: impl FnOnce(Result<Box<Found>, StartError>) + Send + 'static,
    ) -> io::Result<Opening> {
        let progress = place.progress().clone();
        let read = move || {
            let left = place.open(beginning.boot_id)?;
            let found = Found::read(left, beginning);
            found.map(Box::new).map_err(|error| StartError::System("set up the reactors", error))
        };
        std::thread::Builder::new().name("lucid-opening".into()).spawn(move || done(read()))?;
        Ok(Opening { progress })
    }

    /// Bytes that are read, and all of them.
    pub fn progress(&self) -> (u64, u64) {
        self.progress.bytes()
    }

    /// Has it end. False if it is to be waited for, since it has begun to change something.
    pub fn stop(&self) -> bool {
        self.progress.stop()
    }
}

impl Found {
    fn read(left: Left, beginning: Beginning) -> io::Result<Found> {
        let Beginning { memory, workers, .. } = &beginning;
        let trust = beginning.trust.clone().restored(left.ledger()).map_err(io::Error::other)?;
        let mut ledger = Ledger::new(&trust, memory.clone(), *workers, Clock::wall_seconds())
            .map_err(super::no_randomness)?;
        let mut registry = Registry::new(memory.clone(), *workers);
        let mut databases = Vec::new();
        if !matches!(left, Left::Nothing { .. }) {
            ledger.restore(left.ledger()).map_err(io::Error::other)?;
            databases = registry.restore(left.ledger()).map_err(io::Error::other)?;
        }
        let (credentials, databases) = (ledger.credentials().into(), databases.into());
        let trust = super::with_password(trust, &beginning.databases);
        Ok(Found { left, trust, ledger, registry, credentials, databases, beginning })
    }

    /// The boot id of the tags of what is in it.
    pub fn boot_id(&self) -> u32 {
        self.left.boot_id()
    }

    /// Hands the reactors that these steer what they are to bring back, and starts the journal, if there is to be
    /// one. `recovered` is called when all is back.
    ///
    /// # Errors
    /// What the system says when the journal cannot be started.
    pub fn hand_out(
        self,
        steerings: &[Steering],
        bells: &Arc<[Doorbell]>,
        recovered: Arc<dyn Fn() + Send + std::marker::Sync>,
    ) -> io::Result<Option<Journal>> {
        let Found { left, trust, ledger, registry, credentials, databases, beginning } = self;
        let Beginning { hasher, workers, state, .. } = beginning;
        let tags = Tags::new(left.boot_id());
        let replay = left.replay();
        state.recover(workers, replay.as_ref().map_or(0, |replay| replay.progress().1));
        let comeback = replay.map(|replay| Comeback {
            replay,
            hasher,
            shards: workers,
            spaces: Arc::new(spaces(&ledger, &databases)),
            version_max: left.version_max(),
            must_fit: matches!(left, Left::Folder(_)),
        });
        let (mut taps, journal) = match left {
            Left::Folder(folder) => {
                let (taps, journal) = start(*folder, bells.clone())?;
                (taps.into_iter(), Some(journal))
            }
            Left::Snapshot(_) | Left::Nothing { .. } => (Vec::new().into_iter(), None),
        };
        let mut ledger = Some((ledger, registry));
        for (me, steering) in steerings.iter().enumerate() {
            let (credentials, databases) = (credentials.clone(), databases.clone());
            let kept =
                api::Kept { tags, trust: trust.clone(), credentials, databases, ledger: ledger.take() };
            let told = (state.clone(), recovered.clone());
            let recovery = recovery(comeback.as_ref(), me, taps.next(), told);
            steering.bring(Legacy { kept, recovery });
        }
        bells.iter().for_each(Doorbell::ring_always);
        Ok(journal)
    }
}

/// Starts the writer of a folder; the taps are for the shards of the reactors whose bells these are.
fn start(folder: Opened, bells: Arc<[Doorbell]>) -> io::Result<(Vec<Tap>, Journal)> {
    let (taps, sources) = bells.iter().map(|_| connect(folder.bell())).unzip();
    let journal = folder.start(sources, bells).map_err(|error| io::Error::other(error.to_string()))?;
    Ok((taps, journal))
}

/// The spaces that there are.
fn spaces(ledger: &Ledger, databases: &[DatabaseChange]) -> HashSet<Namespace> {
    let of_database = |change: &DatabaseChange| match change {
        DatabaseChange::Create { number, .. } => Some(Namespace::database(*number)),
        _ => None,
    };
    ledger.spaces().chain(databases.iter().filter_map(of_database)).chain([Namespace::KV]).collect()
}

/// The part of one reactor, whose journal is attached behind it, if it has one; and whom it tells how far that
/// has come.
fn recovery(
    comeback: Option<&Comeback>,
    me: usize,
    tap: Option<Tap>,
    (state, recovered): (Arc<NodeState>, Arc<dyn Fn() + Send + std::marker::Sync>),
) -> Recovery {
    let mut part = comeback.map(|comeback| comeback.part(me, tap));
    Recovery::new(move |shard, now| {
        if let Some(part) = &mut part {
            let before = part.read_bytes();
            let is_done = part.go_on(shard, SLICE_BYTES, now);
            state.add_recovered(part.read_bytes() - before);
            if !is_done.map_err(|why| io::Error::other(why.to_string()))? {
                return Ok(false);
            }
            if part.left_out() > 0 {
                log::warn!("{} entries of the snapshot found no room", part.left_out());
            }
        }
        if state.has_recovered() {
            recovered();
        }
        Ok(true)
    })
}
