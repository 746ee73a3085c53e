//! API keys and app tokens as every reactor knows them, and what limits a credential beside its grants.
//!
//! A [`Credential`] is shared by all reactors and never changes but for two numbers: when it ends and
//! when it was last used. Ending one is a store that every core sees, so a revocation needs no message:
//! the [`Epoch`](super::Epoch) that is bumped behind it makes everybody look again. A new credential is
//! brought to the [`Directory`] of each reactor before its token is shown to anyone.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::opaque::{self, Id, Kind, NoRandomness};
use super::{Form, Grants, Identity, Known, Unauthorized};
use crate::op::Namespace;

/// How long a reactor takes a credential on memory alone, in seconds: so coarse is the last use.
pub const LAST_USE_SECONDS: u64 = 60;

/// Bytes of a digest.
const DIGEST_BYTES: usize = 32;

/// Bytes that a [`NodeKey`] is made of.
pub(super) const NODE_KEY_BYTES: usize = 32;

/// What a credential reaches of the keys that its grants are about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// This namespace alone.
    pub namespace: Option<Namespace>,
    /// Keys that begin like this. Empty is every key.
    pub prefix: Box<[u8]>,
}

impl Scope {
    /// Whether a key is within it.
    pub fn admits(&self, namespace: Namespace, key: &[u8]) -> bool {
        self.namespace.is_none_or(|own| own == namespace) && key.starts_with(&self.prefix)
    }

    /// Whether everything within `other` is within it.
    pub fn contains(&self, other: Option<&Scope>) -> bool {
        other.is_some_and(|other| {
            (self.namespace.is_none() || self.namespace == other.namespace)
                && other.prefix.starts_with(&self.prefix)
        })
    }
}

/// Makes digests of secrets, so that what is kept of them is of no use without it.
pub struct NodeKey {
    key: hmac::Key,
    /// What it was made of, for a journal to keep.
    bytes: Zeroizing<[u8; NODE_KEY_BYTES]>,
}

impl NodeKey {
    /// A random one.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn draw() -> Result<NodeKey, NoRandomness> {
        let mut bytes = Zeroizing::new([0; NODE_KEY_BYTES]);
        SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| NoRandomness)?;
        Ok(NodeKey::of(bytes.as_slice()))
    }

    /// The one made of these bytes, [`NODE_KEY_BYTES`] of them.
    pub(super) fn of(bytes: &[u8]) -> NodeKey {
        let mut own = Zeroizing::new([0; NODE_KEY_BYTES]);
        own.copy_from_slice(bytes);
        NodeKey { key: hmac::Key::new(hmac::HMAC_SHA256, own.as_slice()), bytes: own }
    }

    /// What it was made of: the node's secret.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// The digest of a secret.
    pub(super) fn digest(&self, secret: &[u8]) -> Digest {
        let mut digest = [0; DIGEST_BYTES];
        digest.copy_from_slice(hmac::sign(&self.key, secret).as_ref());
        Digest(digest)
    }

    /// Whether a digest is of this secret, in constant time.
    pub(super) fn verifies(&self, digest: &Digest, secret: &[u8]) -> bool {
        hmac::verify(&self.key, secret, &digest.0).is_ok()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("NodeKey").finish_non_exhaustive()
    }
}

/// What is kept of a secret.
#[derive(Clone)]
pub struct Digest([u8; DIGEST_BYTES]);

impl Digest {
    /// The digest that was kept as these bytes.
    pub(super) fn of(bytes: &[u8]) -> Option<Digest> {
        bytes.try_into().ok().map(Digest)
    }

    /// As it is kept.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Digest").finish_non_exhaustive()
    }
}

/// An API key or an app token.
#[derive(Debug)]
pub struct Credential {
    /// Its name.
    pub id: Id,
    /// What it is.
    pub kind: Kind,
    /// What it may do.
    pub grants: Grants,
    /// What limits it besides.
    pub scope: Option<Arc<Scope>>,
    /// Whose it is: the `sub` of whoever made it.
    pub owner: Arc<str>,
    digest: Digest,
    /// Refused from this second on (Unix epoch). [`NEVER`] or [`REVOKED`] too.
    ends: AtomicU64,
    last_used: AtomicU64,
}

/// A credential that does not end.
const NEVER: u64 = u64::MAX;

/// One that has ended for good.
const REVOKED: u64 = 0;

impl Credential {
    /// A credential of this token. It ends at this second, or never.
    pub(super) fn new(
        (id, kind): (Id, Kind),
        digest: Digest,
        grants: Grants,
        scope: Option<Arc<Scope>>,
        owner: Arc<str>,
        ends: Option<u64>,
    ) -> Credential {
        Credential {
            id,
            kind,
            grants,
            scope,
            owner,
            digest,
            ends: AtomicU64::new(ends.unwrap_or(NEVER)),
            last_used: AtomicU64::new(0),
        }
    }

    /// What is kept of its token.
    pub(super) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Notes that it was used at this second.
    pub(super) fn note_use(&self, wall_seconds: u64) {
        self.last_used.fetch_max(wall_seconds, Ordering::Relaxed);
    }

    /// Ends it for good. Counts once the epoch is bumped.
    pub(super) fn revoke(&self) {
        self.ends.store(REVOKED, Ordering::Release);
    }

    /// Has it end at this second, unless it ends before.
    pub(super) fn end_at(&self, wall_seconds: u64) {
        self.ends.fetch_min(wall_seconds, Ordering::AcqRel);
    }

    /// When it ends, if it does.
    pub fn ends(&self) -> Option<u64> {
        Some(self.ends.load(Ordering::Acquire)).filter(|ends| *ends != NEVER)
    }

    /// When it was last used, to the minute; `None` is never.
    pub fn last_used(&self) -> Option<u64> {
        Some(self.last_used.load(Ordering::Relaxed)).filter(|used| *used > 0)
    }

    /// Whether it is of no use any more.
    pub(super) fn has_ended(&self, wall_seconds: u64) -> bool {
        self.ends.load(Ordering::Acquire) <= wall_seconds
    }

    /// How requests show it.
    fn form(&self) -> Form {
        match self.kind {
            Kind::ApiKey => Form::ApiKey,
            Kind::AppRead | Kind::AppReadWrite => Form::AppToken,
        }
    }
}

/// The credentials as one reactor knows them.
#[derive(Debug)]
pub struct Directory {
    node_key: Arc<NodeKey>,
    known: HashMap<Id, Arc<Credential>, ahash::RandomState>,
    /// Ended credentials are thrown out when there are so many in all.
    sweep_at: usize,
}

/// A directory of fewer credentials is not swept.
const SWEEP_AT_MIN: usize = 64;

impl Directory {
    /// An empty one.
    pub fn new(node_key: Arc<NodeKey>) -> Directory {
        Directory { node_key, known: HashMap::default(), sweep_at: SWEEP_AT_MIN }
    }

    /// Takes a credential in.
    pub fn learn(&mut self, credential: Arc<Credential>, wall_seconds: u64) {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, known| !known.has_ended(wall_seconds));
            self.known.shrink_to(self.known.len() * 2);
            self.sweep_at = (self.known.len() * 2).max(SWEEP_AT_MIN);
        }
        self.known.insert(credential.id, credential);
    }

    /// The credential that a token is, if it is good now.
    pub fn find(&self, token: &[u8], wall_seconds: u64) -> Result<&Arc<Credential>, Unauthorized> {
        let (kind, id) = opaque::parse(token).ok_or(Unauthorized::Malformed)?;
        let credential = self.known.get(&id).filter(|known| known.kind == kind);
        let credential = credential.ok_or(Unauthorized::Unknown)?;
        if !self.node_key.verifies(&credential.digest, token) {
            return Err(Unauthorized::Unknown);
        }
        match credential.ends() {
            Some(REVOKED) => Err(Unauthorized::Revoked),
            Some(ends) if ends <= wall_seconds => Err(Unauthorized::Expired),
            _ => Ok(credential),
        }
    }

    /// Who a token stands for, and that it was used. Good until it is to be looked at again.
    pub(super) fn verify(&self, token: &[u8], wall_seconds: u64) -> Result<Known, Unauthorized> {
        let credential = self.find(token, wall_seconds)?;
        let minute = wall_seconds - wall_seconds % LAST_USE_SECONDS;
        credential.note_use(minute);
        let identity = Identity {
            grants: credential.grants,
            form: credential.form(),
            not_before: 0,
            expires: credential.ends().unwrap_or(NEVER).min(minute + LAST_USE_SECONDS),
        };
        Ok(Known { identity, scope: credential.scope.clone() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Credential, Directory, NodeKey, SWEEP_AT_MIN, Scope};
    use crate::auth::opaque::{Kind, draw_token};
    use crate::auth::{Form, Grants, Unauthorized};
    use crate::op::Namespace;

    fn scope(namespace: Option<u32>, prefix: &str) -> Scope {
        Scope { namespace: namespace.map(Namespace), prefix: prefix.as_bytes().into() }
    }

    /// A directory with one key in it.
    fn with_key(ends: Option<u64>) -> (Directory, Arc<Credential>, String) {
        let node_key = Arc::new(NodeKey::draw().unwrap());
        let (id, text) = draw_token(Kind::ApiKey).unwrap();
        let digest = node_key.digest(text.as_bytes());
        let grants = Grants::KV_READ;
        let credential = Credential::new((id, Kind::ApiKey), digest, grants, None, "me".into(), ends);
        let credential = Arc::new(credential);
        let mut directory = Directory::new(node_key);
        directory.learn(credential.clone(), 0);
        (directory, credential, text.to_string())
    }

    #[test]
    fn a_scope_admits_keys_of_its_namespace_and_prefix() {
        let both = scope(Some(0), "a/");
        assert!(both.admits(Namespace(0), b"a/b") && both.admits(Namespace(0), b"a/"));
        assert!(!both.admits(Namespace(0), b"a") && !both.admits(Namespace(0), b"b/a/"));
        assert!(!both.admits(Namespace(1), b"a/b"));
        assert!(scope(None, "").admits(Namespace(7), b"x"));
    }

    #[test]
    fn a_scope_contains_what_is_narrower_and_itself() {
        for (outer, inner, contains) in [
            (scope(None, ""), None, false),
            (scope(None, ""), Some(scope(Some(1), "x")), true),
            (scope(None, "a"), Some(scope(None, "a")), true),
            (scope(None, "a"), Some(scope(None, "ab")), true),
            (scope(None, "ab"), Some(scope(None, "a")), false),
            (scope(None, "a"), Some(scope(None, "")), false),
            (scope(Some(0), ""), Some(scope(None, "a")), false),
            (scope(Some(0), ""), Some(scope(Some(1), "")), false),
            (scope(Some(0), ""), Some(scope(Some(0), "")), true),
        ] {
            assert_eq!(outer.contains(inner.as_ref()), contains, "{outer:?} {inner:?}");
        }
    }

    #[test]
    fn a_key_is_good_until_just_before_its_end_and_not_once_revoked() {
        let (directory, credential, token) = with_key(Some(1_000));
        let verify = |now| directory.verify(token.as_bytes(), now).map(|known| known.identity.form);
        assert_eq!(verify(999), Ok(Form::ApiKey));
        assert_eq!(verify(1_000), Err(Unauthorized::Expired));
        credential.revoke();
        assert_eq!(verify(1), Err(Unauthorized::Revoked));
        credential.end_at(500);
        assert_eq!(verify(1), Err(Unauthorized::Revoked), "nothing revives it");
    }

    #[test]
    fn memory_is_good_for_a_minute_and_never_past_the_end() {
        let (directory, credential, token) = with_key(Some(1_000));
        let until = |now| directory.verify(token.as_bytes(), now).unwrap().identity.expires;
        assert_eq!(credential.last_used(), None);
        assert_eq!(until(600), 660);
        assert_eq!(until(659), 660);
        assert_eq!(credential.last_used(), Some(600));
        assert_eq!(until(990), 1_000);
        assert_eq!(credential.last_used(), Some(960));
        assert_eq!(until(1), 60);
        assert_eq!(credential.last_used(), Some(960), "it does not go back");
    }

    #[test]
    fn another_secret_under_a_known_id_is_unknown() {
        let (directory, _, token) = with_key(None);
        for at in 16..59 {
            let mut other = token.clone().into_bytes();
            other[at] = if other[at] == b'x' { b'y' } else { b'x' };
            // The checksum catches it; with a right one the digest does.
            assert_eq!(directory.find(&other, 1).unwrap_err(), Unauthorized::Malformed);
            let repaired = super::opaque::with_checksum(&other);
            assert_eq!(directory.find(&repaired, 1).unwrap_err(), Unauthorized::Unknown, "byte {at}");
        }
        let (_, stranger) = draw_token(Kind::ApiKey).unwrap();
        assert_eq!(directory.find(stranger.as_bytes(), 1).unwrap_err(), Unauthorized::Unknown);
    }

    #[test]
    fn ended_credentials_leave_the_directory_as_others_come() {
        let (mut directory, first, _) = with_key(None);
        for number in 0..4 * SWEEP_AT_MIN {
            let (id, text) = draw_token(Kind::ApiKey).unwrap();
            let digest = directory.node_key.digest(text.as_bytes());
            let key = (id, Kind::ApiKey);
            let credential = Credential::new(key, digest, Grants::NONE, None, "me".into(), None);
            if number % 8 != 0 {
                credential.revoke();
            }
            directory.learn(Arc::new(credential), 1);
            assert!(directory.known.len() <= 2 * SWEEP_AT_MIN);
        }
        assert!(directory.known.contains_key(&first.id));
    }

    #[test]
    fn nothing_shows_a_digest() {
        let (directory, credential, token) = with_key(None);
        let shown = format!("{directory:?} {credential:?}");
        assert!(!shown.contains(&token[16..30]));
        let bytes = format!("{:?}", &credential.digest.0[..4]);
        assert!(!shown.contains(bytes.trim_matches(['[', ']'])), "{shown}");
    }
}
