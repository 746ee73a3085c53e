//! What was verified lately, so that a token's signature is not checked again on each request.
//!
//! Two memories: the last good token of a connection ([`Remembered`]), and a table of a reactor
//! ([`Recent`]), which serves the many connections that show the same token. Only good tokens get
//! in. A token is found by comparing all of it in constant time, its length apart. An entry counts
//! only in the [`Epoch`] it was made in; neither memory knows what time it is.

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroize;

use super::{Form, Grants, Identity, Known, Scope};
use crate::constant_time;

/// Tokens a reactor's table holds.
const SLOTS: usize = 1_024;

/// Slots a token may stand in.
const WAYS: usize = 4;

/// Longest token that gets into a reactor's table. Longer ones are remembered by their connection
/// only.
const SLOT_TOKEN_BYTES_MAX: usize = 512;

const _: () = assert!((SLOTS / WAYS).is_power_of_two());
const _: () = assert!(SLOT_TOKEN_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(size_of::<Remembered>() <= 40);

/// Counts revocations, for the whole node. What was remembered in an earlier epoch is forgotten.
#[derive(Clone, Debug, Default)]
pub struct Epoch(Arc<AtomicU64>);

impl Epoch {
    /// Starts a new epoch. To be called once the revocation stands, so that whoever sees the new
    /// epoch verifies under the new order.
    pub fn bump(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    pub(super) fn current(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The last good token of a connection: one allocation, used again for every token that fits. And
/// whether its peer needs none.
#[derive(Default)]
pub struct Remembered {
    /// Empty, or [`HEAD_BYTES`] of epoch and identity and then the token. In one block because
    /// there is one for each connection, and most connections are idle.
    block: Vec<u8>,
    /// The user of the peer, if it needs no credential.
    trusted_uid: Option<u32>,
    scope: Option<Arc<Scope>>,
}

/// Four words of 64 bits: epoch, not-before, expires, and grants with the form above them.
const HEAD_BYTES: usize = 32;

impl Remembered {
    /// The memory of a connection from a process of this machine whose user is known and needs no
    /// credential (`authentication.local_uids`), or of any other connection.
    pub fn of_peer(trusted_uid: Option<u32>) -> Remembered {
        Remembered { block: Vec::new(), trusted_uid, scope: None }
    }

    /// The user of a peer that may do everything without a credential.
    pub fn trusted_uid(&self) -> Option<u32> {
        self.trusted_uid
    }

    pub(super) fn find(&self, token: &[u8], epoch: u64) -> Option<Known> {
        let (head, known) = self.block.split_at_checked(HEAD_BYTES)?;
        let ([made_in, not_before, expires, may], []) = head.as_chunks::<8>() else { return None };
        let may = u64::from_le_bytes(*may);
        (u64::from_le_bytes(*made_in) == epoch && constant_time::equal(known, token)).then(|| Known {
            identity: Identity {
                grants: Grants::from_bits(may as u32),
                form: Form::from_bits((may >> 32) as u8),
                not_before: u64::from_le_bytes(*not_before),
                expires: u64::from_le_bytes(*expires),
            },
            scope: self.scope.clone(),
        })
    }

    pub(super) fn replace(&mut self, token: &[u8], known: &Known, epoch: u64) {
        let Known { identity, scope } = known;
        // Wiped before it is cleared: growing leaves the old block behind as it is.
        self.block.zeroize();
        self.block.reserve_exact(HEAD_BYTES + token.len());
        let may = u64::from(identity.form.bits()) << 32 | u64::from(identity.grants.bits());
        for word in [epoch, identity.not_before, identity.expires, may] {
            self.block.extend_from_slice(&word.to_le_bytes());
        }
        self.block.extend_from_slice(token);
        self.scope.clone_from(scope);
    }
}

impl Drop for Remembered {
    fn drop(&mut self) {
        self.block.zeroize();
    }
}

impl fmt::Debug for Remembered {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Remembered").field("empty", &self.block.is_empty()).finish_non_exhaustive()
    }
}

/// What is known of the token that stands in a slot. An empty slot has a length of 0, as no token
/// has.
#[derive(Clone)]
struct Slot {
    /// Keyed hash of the token, all of it: tells slots of a set apart before tokens are compared.
    hash: u64,
    epoch: u64,
    known: Known,
    length: u16,
}

/// The good tokens a reactor saw lately. Fixed in size: 56 KiB, and half a KiB for each token it
/// ever holds at a time, 568 KiB at most.
pub struct Recent {
    /// With random keys, so that nobody can aim tokens at one set.
    hasher: ahash::RandomState,
    slots: Box<[Slot]>,
    /// The token of slot `i` starts at `i * SLOT_TOKEN_BYTES_MAX`. Apart from the slots, so that a
    /// search touches one or two cache lines, and pages are not paid for before they are used.
    tokens: Box<[u8]>,
    /// Which way is given up next when a set is full.
    turn: usize,
}

impl Recent {
    /// An empty table.
    pub fn new() -> Recent {
        let nobody = Known { identity: Identity::UNLIMITED, scope: None };
        let empty = Slot { hash: 0, epoch: 0, known: nobody, length: 0 };
        Recent {
            hasher: ahash::RandomState::new(),
            slots: vec![empty; SLOTS].into_boxed_slice(),
            tokens: vec![0; SLOTS * SLOT_TOKEN_BYTES_MAX].into_boxed_slice(),
            turn: 0,
        }
    }

    /// Who showed this token in this epoch.
    pub(super) fn find(&self, token: &[u8], epoch: u64) -> Option<Known> {
        if token.len() > SLOT_TOKEN_BYTES_MAX {
            return None;
        }
        let hash = self.hash(token);
        ways(hash).find_map(|at| {
            let slot = &self.slots[at];
            let found = slot.hash == hash
                && slot.epoch == epoch
                && slot.length != 0
                && constant_time::equal(
                    &self.tokens[at * SLOT_TOKEN_BYTES_MAX..][..usize::from(slot.length)],
                    token,
                );
            found.then(|| slot.known.clone())
        })
    }

    /// Keeps a verified token, in the place of a dead one or else of some other.
    pub(super) fn insert(&mut self, token: &[u8], known: &Known, epoch: u64, wall_seconds: u64) {
        if token.is_empty() || token.len() > SLOT_TOKEN_BYTES_MAX {
            return;
        }
        let hash = self.hash(token);
        let dead = |slot: &Slot| {
            slot.length == 0
                || slot.epoch != epoch
                || slot.hash == hash
                || slot.known.identity.expires <= wall_seconds
        };
        let at = ways(hash).find(|&at| dead(&self.slots[at])).unwrap_or_else(|| {
            self.turn = (self.turn + 1) % WAYS;
            ways(hash).start + self.turn
        });
        // The token before may have been longer.
        self.tokens[at * SLOT_TOKEN_BYTES_MAX..][..usize::from(self.slots[at].length)].zeroize();
        self.slots[at] = Slot { hash, epoch, known: known.clone(), length: token.len() as u16 };
        self.tokens[at * SLOT_TOKEN_BYTES_MAX..][..token.len()].copy_from_slice(token);
    }

    fn hash(&self, token: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(token);
        hasher.finish()
    }
}

impl Drop for Recent {
    fn drop(&mut self) {
        for (at, slot) in self.slots.iter().enumerate().filter(|(_, slot)| slot.length > 0) {
            self.tokens[at * SLOT_TOKEN_BYTES_MAX..][..usize::from(slot.length)].zeroize();
        }
    }
}

impl Default for Recent {
    fn default() -> Recent {
        Recent::new()
    }
}

/// The slots a token with this hash may stand in.
fn ways(hash: u64) -> std::ops::Range<usize> {
    let first = (hash as usize % (SLOTS / WAYS)) * WAYS;
    first..first + WAYS
}

#[cfg(test)]
mod tests {
    use super::{Recent, Remembered, SLOT_TOKEN_BYTES_MAX, SLOTS, WAYS};
    use std::sync::Arc;

    use crate::auth::{Form, Grants, Identity, Known, Scope};

    fn known(expires: u64) -> Known {
        let grants = Grants::KV_READ.union(Grants::ADMIN);
        let scope = Scope { namespace: None, prefix: expires.to_string().as_bytes().into() };
        Known {
            identity: Identity { grants, form: Form::ApiKey, not_before: 3, expires },
            scope: Some(Arc::new(scope)),
        }
    }

    #[test]
    fn a_connection_remembers_its_last_token_in_place() {
        let mut remembered = Remembered::default();
        assert_eq!(remembered.find(b"", 0), None);
        remembered.replace(b"a.long.token", &known(u64::MAX - 1), 7);
        assert_eq!(remembered.find(b"a.long.token", 7), Some(known(u64::MAX - 1)));
        assert_eq!(remembered.find(b"a.long.token", 8), None);
        assert_eq!(remembered.find(b"a.long.tokeN", 7), None);
        let before = remembered.block.as_ptr();
        remembered.replace(b"shorter", &known(9), 8);
        assert_eq!(remembered.block.as_ptr(), before, "a shorter token needs no other block");
        assert_eq!(remembered.find(b"shorter", 8), Some(known(9)));
        assert_eq!(remembered.find(b"a.long.token", 8), None);
    }

    #[test]
    fn a_reactor_remembers_many_tokens_and_forgets_with_the_epoch() {
        let mut recent = Recent::new();
        let tokens: Vec<String> = (0..SLOTS / 4).map(|number| format!("token.number.{number}")).collect();
        for (number, token) in tokens.iter().enumerate() {
            recent.insert(token.as_bytes(), &known(1_000 + number as u64), 1, 5);
            assert_eq!(recent.find(token.as_bytes(), 1), Some(known(1_000 + number as u64)));
        }
        let kept = tokens.iter().filter(|token| recent.find(token.as_bytes(), 1).is_some()).count();
        assert!(kept > tokens.len() * 9 / 10, "{kept} of {}", tokens.len());
        assert!(tokens.iter().all(|token| recent.find(token.as_bytes(), 2).is_none()));
        assert_eq!(recent.find(b"", 1), None);
        assert_eq!(recent.find(b"", 0), None);
    }

    #[test]
    fn a_full_set_gives_up_the_dead_first() {
        let mut recent = Recent::new();
        let mut tokens = (0_u64..).map(|number| format!("{number}"));
        let set = super::ways(recent.hash(b"0"));
        let mut of_set = || tokens.find(|token| super::ways(recent.hash(token.as_bytes())) == set).unwrap();
        let alive: Vec<String> = (0..WAYS - 1).map(|_| of_set()).collect();
        let (dead, new, newer) = (of_set(), of_set(), of_set());
        for token in &alive {
            recent.insert(token.as_bytes(), &known(1_000), 1, 5);
        }
        recent.insert(dead.as_bytes(), &known(100), 1, 5);
        recent.insert(new.as_bytes(), &known(1_000), 1, 100);
        assert_eq!(recent.find(dead.as_bytes(), 1), None);
        assert!(alive.iter().chain([&new]).all(|token| recent.find(token.as_bytes(), 1).is_some()));
        recent.insert(newer.as_bytes(), &known(1_000), 1, 100);
        assert!(recent.find(newer.as_bytes(), 1).is_some());
        let kept = alive.iter().chain([&new]).filter(|token| recent.find(token.as_bytes(), 1).is_some());
        assert_eq!(kept.count(), WAYS - 1);
    }

    #[test]
    fn a_token_over_the_slot_size_is_left_to_its_connection() {
        let mut recent = Recent::new();
        let fits = vec![b'a'; SLOT_TOKEN_BYTES_MAX];
        let over = vec![b'a'; SLOT_TOKEN_BYTES_MAX + 1];
        for token in [&fits, &over] {
            recent.insert(token, &known(10), 1, 5);
        }
        assert_eq!(recent.find(&fits, 1), Some(known(10)));
        assert_eq!(recent.find(&over, 1), None);
    }

    #[test]
    fn nothing_of_a_token_outlives_its_place() {
        let mut recent = Recent::new();
        let long = [b'a'; SLOT_TOKEN_BYTES_MAX];
        recent.insert(&long, &known(10), 1, 5);
        let set = super::ways(recent.hash(&long));
        let mut tokens = (0_u64..).map(|number| format!("{number}"));
        let short = tokens.find(|token| super::ways(recent.hash(token.as_bytes())) == set).unwrap();
        recent.insert(short.as_bytes(), &known(10), 2, 5);
        assert!(recent.find(short.as_bytes(), 2).is_some());
        assert!(!recent.tokens.contains(&b'a'));
    }
}
