//! The API keys and apps of the node: where they are made, changed and ended. One ledger for the node,
//! with reactor 0.
//!
//! What it holds never leaves by eviction and is counted against the memory limit, of which it may take
//! an eighth ([`Memory::take_for_credentials`]). Tokens are told once, by whatever makes them; the ledger
//! keeps their digests. Every change is made by one of [`Keys`]' or [`Apps`]' methods, and there is no
//! other way to them. Apps that need room get that of API keys that have ended.

use std::sync::Arc;

use super::apps::{AppTokens, AppView, Apps, Which};
use super::credential::{Credential, NodeKey, Scope};
use super::kept::Numbers;
use super::keys::Keys;
use super::opaque::{Id, NoRandomness};
use super::{Epoch, Grants, Trust};
use crate::memory::Memory;
use crate::op::Namespace;

/// Records that one call looks at, at most: a fraction of a millisecond.
pub(super) const LOOKS_MAX: usize = 10_000;

/// Most records on a page.
pub const PAGE_MAX: usize = 1_000;

/// Who asks for a change.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The `sub` of the token, or of whoever made the API key.
    pub subject: Arc<str>,
    /// What it may do.
    pub grants: Grants,
    /// What limits it besides.
    pub scope: Option<Arc<Scope>>,
    /// The API key, if it is one.
    pub key: Option<Maker>,
}

/// The API key that makes another.
#[derive(Clone, Copy, Debug)]
pub struct Maker {
    /// Which.
    pub id: Id,
    /// When it ends, if it does.
    pub ends: Option<u64>,
}

impl Principal {
    /// Everyone, while authentication is off.
    pub(super) fn unlimited() -> Principal {
        Principal { subject: "".into(), grants: Grants::ALL, scope: None, key: None }
    }

    /// A user of this machine that needs no credential.
    pub(super) fn of_user(uid: u32) -> Principal {
        Principal { subject: format!("uid:{uid}").into(), ..Principal::unlimited() }
    }

    /// Whoever shows this API key.
    pub(super) fn of(credential: &Credential) -> Principal {
        Principal {
            subject: credential.owner.clone(),
            grants: credential.grants,
            scope: credential.scope.clone(),
            key: Some(Maker { id: credential.id, ends: credential.ends() }),
        }
    }
}

/// Why a change is not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It would have grants that its maker lacks: these.
    ExceedsGrants(Grants),
    /// It would reach keys that its maker does not.
    ExceedsScope,
    /// It would outlive the API key that makes it, which ends at this second.
    OutlivesMaker(u64),
    /// The API key that makes it has ended.
    MakerEnded,
    /// There is none of this id, for this caller.
    Unknown,
    /// Another app has the name.
    NameTaken,
    /// The default app stays.
    DefaultApp,
    /// The share of credentials in the memory is used up.
    NoRoom,
    /// The system has no randomness to give.
    NoRandomness,
}

impl From<NoRandomness> for Refused {
    fn from(_: NoRandomness) -> Refused {
        Refused::NoRandomness
    }
}

/// A page of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// What is on it, the oldest first.
    pub items: Vec<T>,
    /// Where the next one begins, if there is more.
    pub next: Option<u64>,
}

/// All API keys and apps.
#[derive(Debug)]
pub struct Ledger {
    /// The API keys.
    pub keys: Keys,
    /// The apps of the light family and their tokens.
    pub apps: Apps,
    pub(super) node_key: Arc<NodeKey>,
    /// The node's key was never kept.
    pub(super) node_key_is_new: bool,
    /// The numbers that were last kept.
    pub(super) numbers_kept: Option<Numbers>,
}

/// What both parts of the ledger work with.
#[derive(Clone, Debug)]
pub(super) struct Office {
    pub node_key: Arc<NodeKey>,
    pub epoch: Epoch,
    pub memory: Arc<Memory>,
    /// Each keeps a pointer to every credential.
    pub reactors: usize,
}

/// What a map takes for an entry of this type, at its worst: a table that has just doubled.
const fn slot_bytes<T>() -> u64 {
    2 * (size_of::<T>() as u64 + 1) * 8 / 7
}

impl Office {
    /// What a credential takes, beside what its record does.
    pub(super) fn credential_bytes(&self, owner_bytes: usize, scope: Option<&Scope>) -> u64 {
        let scope_bytes =
            scope.map_or(0, |scope| size_of::<Scope>() + scope.prefix.len() + 2 * size_of::<usize>());
        let own_bytes = size_of::<Credential>() + owner_bytes + 4 * size_of::<usize>();
        (own_bytes + scope_bytes) as u64 + self.reactors as u64 * slot_bytes::<(Id, Arc<Credential>)>()
    }

    /// What a record with this name takes beside its credentials.
    pub(super) fn record_bytes<R>(name_bytes: usize) -> u64 {
        slot_bytes::<(u64, R)>() + slot_bytes::<(Id, u64)>() + name_bytes as u64
    }
}

impl Ledger {
    /// A ledger with the default app in it and nothing else.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn new(
        trust: &Trust,
        memory: Arc<Memory>,
        reactors: usize,
        wall_seconds: u64,
    ) -> Result<Ledger, NoRandomness> {
        let office =
            Office { node_key: trust.node_key.clone(), epoch: trust.epoch.clone(), memory, reactors };
        Ok(Ledger {
            keys: Keys::new(office.clone()),
            apps: Apps::new(office, wall_seconds)?,
            node_key: trust.node_key.clone(),
            node_key_is_new: false,
            numbers_kept: None,
        })
    }

    /// Every credential, which each reactor has to learn when the ledger was restored.
    pub fn credentials(&self) -> Vec<Arc<Credential>> {
        self.keys.credentials().chain(self.apps.credentials()).cloned().collect()
    }

    /// The namespaces of all apps.
    pub fn spaces(&self) -> impl Iterator<Item = Namespace> {
        self.apps.all_numbers().flat_map(|number| [Namespace::items(number), Namespace::lists(number)])
    }

    /// Makes an app as `Apps::create` does.
    ///
    /// # Errors
    /// As there.
    pub fn create_app(
        &mut self,
        name: Box<str>,
        wall_seconds: u64,
    ) -> Result<(AppView<'_>, AppTokens), Refused> {
        self.keys.make_room(self.apps.bytes_of_new(name.len()), wall_seconds);
        self.apps.create(name, wall_seconds)
    }

    /// Gives an app new tokens as `Apps::rotate` does.
    ///
    /// # Errors
    /// As there.
    pub fn rotate_app(
        &mut self,
        id: Id,
        which: Which,
        grace_seconds: u64,
        wall_seconds: u64,
    ) -> Result<(AppView<'_>, AppTokens), Refused> {
        self.keys.make_room(self.apps.bytes_of_new(0), wall_seconds);
        self.apps.rotate(id, which, grace_seconds, wall_seconds)
    }
}
