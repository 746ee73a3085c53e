//! What `lucid key` and `lucid app` ask, answered out of the folder of a node that does not run, by the same
//! code as in a node. What changes is on disk before it is answered.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ureq::Body;
use ureq::http::Response;
use zeroize::Zeroizing;

use super::{FolderArgs, configured_key, failure, key_of, must_be_a_folder, settings};
use crate::api::{Api, ApiConfig, Call, NodeState, Work};
use crate::auth::{Ledger, Remembered, Trust, Verifier, VerifierConfig, root_token};
use crate::cli::failure::{Exit, Failure};
use crate::cli::random;
use crate::clock::Clock;
use crate::etag::Tags;
use crate::http::parse_head;
use crate::journal::{Folder, JournalConfig, NodeRecord, OpenError, Opened, Sync};
use crate::limits::VALUE_COPY_BYTES_MAX;
use crate::memory::Memory;
use crate::op::{KeyHasher, Payload};
use crate::shard::{Registry, Shard};
use crate::store::{STORE_BYTES_MIN, Store, StoreConfig, WhenFull};

/// What credentials may draw on when no configuration says otherwise: an eighth of it.
const MEMORY_BYTES: u64 = 1 << 30;

/// A folder that is worked on.
pub struct Office {
    folder: PathBuf,
    /// Gone once something was appended.
    opened: Option<Opened>,
    api: Api,
    /// Empty: what is asked for is in the ledger.
    shard: Shard,
    token: Zeroizing<String>,
}

impl fmt::Debug for Office {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Office").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Office {
    /// Opens the folder that is asked for, if one is.
    pub fn open(args: &FolderArgs, config: Option<&Path>) -> Result<Option<Office>, Failure> {
        let settings = match args.stopped || args.folder.is_some() {
            true => settings(config)?,
            false => return Ok(None),
        };
        let configured = settings.as_ref().and_then(|settings| settings.persistence.as_ref());
        let folder = match (&args.folder, configured) {
            (Some(folder), _) => folder.clone(),
            (None, Some(persistence)) => persistence.location.clone(),
            (None, None) => {
                return Err(Failure::new(Exit::Configuration, "the configuration names no folder of a node")
                    .and("name it: --folder DIR, or persistence.location with persistence.enabled: true"));
            }
        };
        must_be_a_folder(&folder)?;
        let key = match settings.as_ref().and_then(key_of) {
            Some(key) => Some(key),
            None => configured_key(config)?,
        };
        let open = |key| {
            let config = JournalConfig { key, ..JournalConfig::new(Sync::Always) };
            Folder::open(&folder, &config)
        };
        let opened = match open(key) {
            // A key that merely stands in the configuration is of no use to a folder that needs none.
            Err(OpenError::NotSealed) if args.folder.is_some() => open(None),
            opened => opened,
        };
        let opened = opened.map_err(|error| failure(&folder, &error))?;
        let memory_bytes = settings.map_or(MEMORY_BYTES, |settings| settings.store.memory_bytes);
        Office::new(folder, opened, memory_bytes).map(Some)
    }

    fn new(folder: PathBuf, opened: Opened, memory_bytes: u64) -> Result<Office, Failure> {
        let unusable = |what: &str| Failure::new(Exit::Failed, format!("{}: {what}", folder.display()));
        let secret = random::secret()?;
        let verifier = Verifier::new(VerifierConfig {
            enabled: true,
            secret: secret.expose().as_bytes(),
            leeway_seconds: 0,
            require_exp: true,
        });
        let wall_seconds = Clock::wall_seconds();
        let token = Zeroizing::new(root_token(secret.expose().as_bytes(), "lucid", wall_seconds));
        let no_randomness = |_| unusable("the system gives no random bytes");
        let trust = Trust::new(verifier).map_err(no_randomness)?;
        let unread = |why: &dyn fmt::Display| unusable(&format!("what the node kept of itself: {why}"));
        let trust = trust.restored(opened.ledger()).map_err(|why| unread(&why))?;
        let memory = Memory::new(memory_bytes, 1, true)
            .map_err(|error| Failure::of_io(&error, "cannot have the memory"))?;
        let mut ledger = Ledger::new(&trust, memory.clone(), 1, wall_seconds).map_err(no_randomness)?;
        ledger.restore(opened.ledger()).map_err(|why| unread(&why))?;
        let credentials = ledger.credentials();
        let mut registry = Registry::new(memory, 1);
        let databases = registry.restore(opened.ledger()).map_err(|why| unread(&why))?;
        let (hasher, tags) = (KeyHasher::random(), Tags::new(opened.boot_id()));
        let config = StoreConfig {
            memory_bytes: STORE_BYTES_MIN,
            value_bytes_max: VALUE_COPY_BYTES_MAX,
            when_full: WhenFull::Reject,
        };
        let store = Store::new(config, hasher.clone())
            .map_err(|error| Failure::of_io(&error, "cannot have the memory"))?;
        let mut api = Api::new(ApiConfig {
            trust,
            brake: None,
            restricted: Arc::default(),
            hasher,
            tags,
            shards: 1,
            value_bytes_max: 1 << 20,
            request_bytes_max: 1 << 20,
            default_ttl: None,
            cors_origins: Vec::new(),
            anonymous_head: false,
            state: Arc::new(NodeState::default()),
        });
        api.tick(wall_seconds);
        api.learn(&credentials, false);
        let api = api.with_ledger(ledger, registry);
        drop(databases);
        Ok(Office { folder, opened: Some(opened), api, shard: Shard::new(store, tags), token })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Does what a request asks for, and answers it.
    pub fn call(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Response<Body>, Failure> {
        let length = body.len();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: {length}\r\n\r\n",
            *self.token
        )
        .into_bytes();
        let mut out = Vec::new();
        let unreadable = || Failure::new(Exit::Failed, "the request cannot be made");
        let request = parse_head(&head, &mut 0).ok().flatten().ok_or_else(unreadable)?;
        let about = |api: &mut Api, problem, head: &[u8], out: &mut Vec<u8>| {
            api.refuse(Some((&request, head)), problem, false, out);
        };
        match self.api.admit(&request, &mut head, &mut Remembered::default(), &mut None) {
            Err(problem) => about(&mut self.api, problem, &head, &mut out),
            Ok(Call::Gather(call)) => match self.api.gather(&request, &head, &call, Payload::Bytes(body)) {
                Err(problem) => about(&mut self.api, problem, &head, &mut out),
                Ok(mut gather) => {
                    while let Some(piece) = gather.next() {
                        match piece.work {
                            Work::Errand(mut errand) => {
                                self.api.perform(&mut *errand, &mut self.shard);
                                gather.accept_errand(errand);
                            }
                            Work::Empty(_) => gather.accept_emptied(),
                            _ => return Err(unreadable()),
                        }
                    }
                    self.keep()?;
                    let now = Clock::start().now();
                    gather.answer(&mut self.api, &request, &head, false, &mut out, now);
                }
            },
            Ok(_) => return Err(unreadable()),
        }
        response(&out).ok_or_else(unreadable)
    }

    /// Has on disk what has changed.
    fn keep(&mut self) -> Result<(), Failure> {
        let changes = self.api.take_ledger_changes();
        if changes.is_empty() {
            return Ok(());
        }
        let order = NodeRecord::of(&changes);
        let Some(opened) = self.opened.take() else {
            return Err(Failure::new(Exit::Failed, "one change was made, and another is asked for"));
        };
        opened.append(&[order.record()]).map_err(|error| failure(&self.folder, &error))
    }
}

/// An answer as it comes from a running node.
fn response(out: &[u8]) -> Option<Response<Body>> {
    let end = memchr::memmem::find(out, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&out[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status: u16 = lines.next()?.get(9..12)?.parse().ok()?;
    let mut response = Response::builder().status(status);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        response = response.header(name, value);
    }
    response.body(Body::builder().data(&out[end + 4..])).ok()
}
