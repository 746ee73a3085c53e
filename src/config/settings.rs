//! What the program runs on: every setting with its meaning, resolved and checked.
//!
//! Only settings that this version acts on are here. The others are read, checked and listed by
//! `lucid settings`, and refused by `lucid server` where leaving them out would be a promise broken.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::password_hash::PasswordHash;
use super::secret::Secret;

/// The settings of a node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file they come from, if there is one.
    pub file: Option<PathBuf>,
    /// Where and how the node shows itself.
    pub general: General,
    /// Threads.
    pub runtime: Runtime,
    /// Who may come in.
    pub authentication: Authentication,
    /// What is kept.
    pub store: Store,
    /// What is on disk too, if anything is.
    pub persistence: Option<Persistence>,
    /// Where what is in memory stays while the node does not run, if anywhere.
    pub snapshot: Option<Snapshot>,
    /// What a connection may do.
    pub http: Http,
    /// The databases family.
    pub databases: Databases,
    /// Where the log goes.
    pub logging: Logging,
    /// How the node ends.
    pub shutdown: Shutdown,
    /// What an operator should know when the node starts, in sentences.
    pub warnings: Vec<String>,
}

/// Section `general`.
#[derive(Clone, Debug)]
pub struct General {
    /// Where plain HTTP is served. Port 0 lets the system choose one.
    pub listen: SocketAddr,
    /// TLS, if it is on.
    pub tls: Option<Tls>,
    /// The file of the Unix socket, if there is to be one. At most 107 bytes.
    pub unix_socket: Option<PathBuf>,
    /// Whether the node greets on its start.
    pub show_banner: bool,
}

/// TLS beside plain HTTP. Paths are as they were given: from the folder that the process runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Where it is served. Port 0 lets the system choose one.
    pub listen: SocketAddr,
    /// The certificate chain, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// Section `runtime`.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Reactors, 1 to [`crate::limits::WORKERS_MAX`].
    pub workers: usize,
    /// Whether each reactor stays on a core of its own.
    pub pin_cores: bool,
}

/// Section `authentication`.
#[derive(Clone, Debug)]
pub struct Authentication {
    /// Whether a credential is needed at all.
    pub enabled: bool,
    /// Signs and verifies tokens, as the text it is. Empty only if authentication is off.
    pub secret_key: Secret,
    /// Verifies tokens beside it, until everybody has a new one. Never empty.
    pub previous_secret_key: Option<Secret>,
    /// The secret was drawn for this run, since nobody gave one: nobody else can make a token, so the
    /// node has to print one.
    pub ephemeral_secret: bool,
    /// By how many seconds the clock of a token's maker may differ.
    pub leeway_seconds: u64,
    /// Whether a token without `exp` is refused.
    pub require_exp: bool,
    /// Whether HEAD needs no credential.
    pub anonymous_head: bool,
    /// Users whose processes need no credential on the Unix socket, and may do everything.
    pub local_uids: Vec<u32>,
}

/// Section `store`.
#[derive(Clone, Debug)]
pub struct Store {
    /// Ceiling of everything the node holds. At least four values of the largest size, and
    /// [`crate::limits::WORKER_MEMORY_BYTES_MIN`], for each worker.
    pub memory_bytes: u64,
    /// What happens to a write that finds no room.
    pub when_full: WhenFull,
    /// Largest value.
    pub value_bytes_max: u64,
    /// Time-to-live of a PUT that names none, 1 to 4,294,967,295.
    pub default_ttl_seconds: Option<u32>,
}

/// What happens to a write that finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Something else goes.
    Evict,
    /// It is refused.
    Reject,
}

/// Section `persistence` when it is on, and the key of section `encryption` when that is.
#[derive(Clone, Debug)]
pub struct Persistence {
    /// The folder of the journal, as it was given: from the folder that the process runs in.
    pub location: PathBuf,
    /// When an answered write is safe from what.
    pub sync: SyncMode,
    /// What everything there is sealed with. Never empty.
    pub private_key: Option<Secret>,
}

/// `persistence.snapshot_on_exit` while persistence is off, and the key of section `encryption` when that is
/// on.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The file, as it was given.
    pub file: PathBuf,
    /// What it is sealed with. Never empty.
    pub private_key: Option<Secret>,
}

/// When what is written reaches the disk itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Before it is answered.
    Always,
    /// Within a second.
    EverySecond,
    /// When the system sees fit.
    Never,
}

/// Section `http`.
#[derive(Clone, Debug)]
pub struct Http {
    /// Largest body of a request.
    pub request_bytes_max: u64,
    /// How long a request's head may take.
    pub header_timeout: Duration,
    /// How long a connection may stay without a request.
    pub idle_timeout: Duration,
    /// Most connections at a time; as many as the system gives if not set.
    pub connections_max: Option<u32>,
    /// Origins whose pages may call the node from a browser; `*` is all. Without any, CORS is off.
    pub cors_origins: Vec<String>,
}

/// What the databases family does, as `databases.restricted` names it: the last word of the path, or all of it
/// where another path has the same.
pub const DATABASE_ACTIONS: [&str; 16] = [
    "get",
    "set",
    "get_all",
    "controller/delete",
    "debug",
    "info",
    "warning",
    "error",
    "exception",
    "list",
    "pop",
    "pop_all",
    "rename",
    "database/delete",
    "delete_all",
    "execute",
];

/// Section `databases`.
#[derive(Clone, Debug)]
pub struct Databases {
    /// Its password in Basic authentication. Without one, only tokens and API keys are taken.
    pub password: Option<Secret>,
    /// The same, hashed.
    pub password_hash: Option<Arc<PasswordHash>>,
    /// What of the family is not for whoever has the password, by the names of [`DATABASE_ACTIONS`].
    pub restricted: Arc<[Box<str>]>,
}

/// Section `logging`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// What is worth a line.
    pub level: log::LevelFilter,
    /// Where lines go. None if nothing is to be logged.
    pub outputs: Vec<Output>,
    /// How a line looks.
    pub format: Format,
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The standard error stream.
    Stderr {
        /// Whether the level stands out in text.
        colored: bool,
    },
    /// The standard output stream.
    Stdout {
        /// Whether the level stands out in text.
        colored: bool,
    },
    /// The end of a file, which is made if it is not there.
    File(PathBuf),
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Section `shutdown`.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// How long what is under way may take to finish.
    pub grace: Duration,
}

/// A line of `lucid settings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// `general.port`.
    pub path: &'static str,
    /// The value the program runs on, masked if it is a secret.
    pub value: String,
    /// The same for scripts: a number, a switch, a list, a text, or null for none.
    pub json: serde_json::Value,
    /// Who gave it.
    pub origin: String,
}
