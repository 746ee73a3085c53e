//! Basic authentication (RFC 7617), and the brake on guessing.
//!
//! Only the databases family takes it, with an empty user name: its password, or an API key in the
//! password's place. A password is the one secret here that could be guessed, so failures are counted
//! for each address; a right password is never held up.
//!
//! A node that has only a hash of it proves the first right password that is shown, on a thread that may
//! take its time ([`Proof`]), and knows it from then on: after that a wrong one costs no more than a right one.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use zeroize::Zeroizing;

use super::Unauthorized;
use super::credential::{Digest, NodeKey};
use crate::clock::Now;
use crate::config::PasswordHash;
use crate::limits::CREDENTIAL_BYTES_MAX;

/// Takes padding or leaves it, as clients do.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

const SCHEME: &[u8] = b"basic ";

/// Room for what a password decodes to.
pub(super) const ROOM_BYTES: usize = CREDENTIAL_BYTES_MAX / 4 * 3 + 3;

/// Whether a value of `Authorization` is of the Basic scheme.
pub(super) fn is_basic(authorization: &[u8]) -> bool {
    authorization.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
}

/// The password in a value of `Authorization` of the Basic scheme. The user name must be empty.
pub(super) fn password<'r>(
    authorization: &[u8],
    room: &'r mut [u8; ROOM_BYTES],
) -> Result<&'r [u8], Unauthorized> {
    let encoded = authorization.get(SCHEME.len()..).unwrap_or_default().trim_ascii();
    if encoded.len() > CREDENTIAL_BYTES_MAX {
        return Err(Unauthorized::TooLong);
    }
    let length = BASE64.decode_slice(encoded, room).map_err(|_| Unauthorized::PasswordWrong)?;
    room[..length].strip_prefix(b":").ok_or(Unauthorized::PasswordWrong)
}

/// Passwords that are being proven at a time. Each takes the memory that the hash asks for, one after the other.
const PROOFS_MAX: usize = 16;

/// The password of the databases family.
#[derive(Debug)]
pub(super) struct Password {
    /// Once it is known.
    digest: OnceLock<Digest>,
    hash: Option<Arc<PasswordHash>>,
    proofs: AtomicUsize,
}

impl Password {
    /// One that is known. Nothing but its digest is kept.
    pub fn known(digest: Digest) -> Password {
        Password { digest: digest.into(), hash: None, proofs: AtomicUsize::new(0) }
    }

    /// One of which a hash is known.
    pub fn hashed(hash: Arc<PasswordHash>) -> Password {
        Password { digest: OnceLock::new(), hash: Some(hash), proofs: AtomicUsize::new(0) }
    }

    /// Judges what is shown.
    pub fn check(&self, shown: &[u8], node_key: &NodeKey) -> Result<(), Unauthorized> {
        match (self.digest.get(), &self.hash) {
            (Some(digest), _) if node_key.verifies(digest, shown) => Ok(()),
            (None, Some(_)) => Err(Unauthorized::PasswordUnproven),
            _ => Err(Unauthorized::PasswordWrong),
        }
    }
}

/// A password that has to be held against the hash.
pub struct Proof {
    password: Arc<Password>,
    node_key: Arc<NodeKey>,
    shown: Zeroizing<Vec<u8>>,
}

impl Proof {
    /// The proof of what is shown, unless too many are under way.
    pub(super) fn new(password: &Arc<Password>, node_key: &Arc<NodeKey>, shown: &[u8]) -> Option<Proof> {
        let taken = |proofs: usize| (proofs < PROOFS_MAX).then_some(proofs + 1);
        password.proofs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).ok()?;
        let shown = Zeroizing::new(shown.to_vec());
        Some(Proof { password: password.clone(), node_key: node_key.clone(), shown })
    }

    /// Whether it is the password. Takes some milliseconds; the right one is known from then on. What waited
    /// behind it is then judged by that.
    pub fn run(self) -> bool {
        let Password { digest, hash, .. } = &*self.password;
        if let Some(digest) = digest.get() {
            return self.node_key.verifies(digest, &self.shown);
        }
        let is_right = hash.as_ref().is_some_and(|hash| hash.is_of(&self.shown));
        if is_right {
            // Another proof may have been faster, of the same password.
            let _ = digest.set(self.node_key.digest(&self.shown));
        }
        is_right
    }
}

impl Drop for Proof {
    fn drop(&mut self) {
        self.password.proofs.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Shows nothing of it.
impl fmt::Debug for Proof {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Proof").finish_non_exhaustive()
    }
}

/// Failures that an address may have within [`WINDOW_MS`].
pub const FAILURES_MAX: usize = 20;

/// How long a failure counts, in milliseconds.
pub const WINDOW_MS: u64 = 10_000;

/// Slots that addresses share by their hash. Who shares one with a guesser is told 429 in place of 401,
/// and nothing else.
const SLOTS: usize = 4_096;

/// Counts failed passwords by address, for the whole node.
///
/// Each slot is a ring of the times of its last failures: one is too many when the one
/// [`FAILURES_MAX`] before it is not yet [`WINDOW_MS`] old. All atomics: two failures at once may swap
/// their places, which changes nothing.
#[derive(Clone, Debug)]
pub struct Brake(Arc<Slots>);

#[derive(Debug)]
struct Slots {
    /// With random keys, so that nobody can aim at another's slot.
    hasher: ahash::RandomState,
    slots: Box<[Slot]>,
}

#[derive(Debug, Default)]
struct Slot {
    next: AtomicU32,
    failed_ms: [AtomicU64; FAILURES_MAX],
}

impl Brake {
    /// A brake that nobody has touched. It takes 704 KiB, so only who has a password should have one.
    pub fn new() -> Brake {
        let slots = (0..SLOTS).map(|_| Slot::default()).collect();
        Brake(Arc::new(Slots { hasher: ahash::RandomState::new(), slots }))
    }

    /// Counts a failure. Answers after how many seconds to come again if it is one too many.
    pub fn fail(&self, address: IpAddr, now: Now) -> Option<u64> {
        let Slots { hasher, slots } = &*self.0;
        let slot = &slots[hasher.hash_one(network(address)) as usize % SLOTS];
        // Every few thousand million failures, when the counter wraps around, a few count less.
        let at = slot.next.fetch_add(1, Ordering::Relaxed) as usize % FAILURES_MAX;
        let before_ms = slot.failed_ms[at].swap(now.unix_ms, Ordering::Relaxed);
        let free_ms = before_ms + WINDOW_MS;
        (free_ms > now.unix_ms).then(|| (free_ms - now.unix_ms).div_ceil(1_000))
    }
}

impl Default for Brake {
    fn default() -> Brake {
        Brake::new()
    }
}

/// Whoever has an IPv6 address has a whole network of them.
fn network(address: IpAddr) -> [u8; 8] {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let mut network = [0xff; 8];
            network[..4].copy_from_slice(&address.octets());
            network
        }
        IpAddr::V6(address) => {
            let mut network = [0; 8];
            network.copy_from_slice(&address.octets()[..8]);
            network
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Brake, FAILURES_MAX, ROOM_BYTES, WINDOW_MS, is_basic, password};
    use crate::auth::Unauthorized;
    use crate::clock::Now;
    use crate::limits::CREDENTIAL_BYTES_MAX;

    fn of(authorization: &str) -> Result<Vec<u8>, Unauthorized> {
        password(authorization.as_bytes(), &mut [0; ROOM_BYTES]).map(<[u8]>::to_vec)
    }

    #[test]
    fn a_password_is_what_follows_an_empty_user_name() {
        // ":pw", ":a:b", ":" in base64, padded or not.
        for (authorization, expected) in
            [("Basic OnB3", "pw"), ("bASIC   OmE6Yg==", "a:b"), ("Basic OmE6Yg", "a:b"), ("Basic Og==", "")]
        {
            assert!(is_basic(authorization.as_bytes()));
            assert_eq!(of(authorization), Ok(expected.as_bytes().to_vec()), "{authorization}");
        }
        // "me:pw", "pw", nothing, no base64.
        for authorization in ["Basic bWU6cHc=", "Basic cHc=", "Basic ", "Basic *", "Basic OnB3 OnB3"] {
            assert_eq!(of(authorization), Err(Unauthorized::PasswordWrong), "{authorization}");
        }
        assert!(!is_basic(b"Basic") && !is_basic(b"Bearer x") && !is_basic(b""));
    }

    #[test]
    fn an_overlong_password_is_refused_before_it_is_decoded() {
        let of = |bytes: usize| of(&format!("Basic {}", "O".repeat(bytes)));
        assert_eq!(of(CREDENTIAL_BYTES_MAX), Err(Unauthorized::PasswordWrong));
        assert_eq!(of(CREDENTIAL_BYTES_MAX + 1), Err(Unauthorized::TooLong));
    }

    const START_MS: u64 = 1_000_000_000_000;

    fn at(ms: u64) -> Now {
        Now::from_unix_ms(START_MS + ms)
    }

    #[test]
    fn the_failure_after_twenty_in_ten_seconds_is_one_too_many() {
        let brake = Brake::new();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        for number in 0..FAILURES_MAX as u64 {
            assert_eq!(brake.fail(address, at(number * 100)), None);
        }
        assert_eq!(brake.fail(address, at(2_000)), Some(8));
        assert_eq!(brake.fail("192.0.2.2".parse().unwrap(), at(2_000)), None, "another address");
        // Once the failures are ten seconds old, twenty more are taken.
        for _ in 0..FAILURES_MAX {
            assert_eq!(brake.fail(address, at(2_000 + WINDOW_MS)), None);
        }
        assert_eq!(brake.fail(address, at(2_000 + WINDOW_MS)), Some(10));
        assert_eq!(brake.fail(address, at(2_000 + 2 * WINDOW_MS - 1)), Some(1));
        assert_eq!(brake.fail(address, at(2_000 + 2 * WINDOW_MS)), None);
    }

    #[test]
    fn a_network_of_ipv6_addresses_is_one() {
        let brake = Brake::new();
        for number in 0..FAILURES_MAX {
            assert_eq!(brake.fail(format!("2001:db8::{number:x}").parse().unwrap(), at(0)), None);
        }
        assert!(brake.fail("2001:db8::ffff:ffff".parse().unwrap(), at(0)).is_some());
        assert!(brake.fail("2001:db8:0:1::1".parse().unwrap(), at(0)).is_none());
        // An IPv4 address is the same however the socket gives it.
        for _ in 0..FAILURES_MAX {
            assert_eq!(brake.fail("::ffff:192.0.2.7".parse().unwrap(), at(0)), None);
        }
        assert!(brake.fail("192.0.2.7".parse().unwrap(), at(0)).is_some());
    }
}
