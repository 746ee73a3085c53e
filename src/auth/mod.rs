//! Who may do what: reads the credential of a request and answers with an [`Identity`].
//!
//! [`Authenticator`] is the door. It asks three memories in turn, each cheaper than the next one:
//! what the connection showed last ([`Remembered`]), what this reactor verified lately
//! ([`remember::Recent`]), and the signature itself ([`Verifier`]). Memory answers only *who*: time
//! is checked on every request, and a bump of the shared [`Epoch`] empties all memories at once.
//!
//! Nothing here tells a caller why it was refused: [`Unauthorized`] has variants for tests and logs,
//! the wire has one answer. Secrets and tokens are compared in constant time and never shown.

mod grants;
mod json;
mod jwt;
mod remember;

pub use grants::Grants;
pub use jwt::{Verifier, VerifierConfig, root_token, sign};
pub use remember::{Epoch, Recent, Remembered};

use crate::constant_time;
use std::fmt;
use std::sync::Arc;

/// What a good credential says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What it may do.
    pub grants: Grants,
    /// Good from this second on (Unix epoch), leeway included.
    pub not_before: u64,
    /// Good until just before this second (Unix epoch), leeway included; `u64::MAX` is never-ending.
    pub expires: u64,
}

impl Identity {
    /// Everyone, while authentication is off.
    pub const UNLIMITED: Identity = Identity { grants: Grants::ALL, not_before: 0, expires: u64::MAX };

    /// The identity, if it is good at this time.
    pub fn at(self, wall_seconds: u64) -> Result<Identity, Unauthorized> {
        if wall_seconds < self.not_before {
            Err(Unauthorized::NotYetValid)
        } else if wall_seconds >= self.expires && self.expires != u64::MAX {
            Err(Unauthorized::Expired)
        } else {
            Ok(self)
        }
    }
}

/// Why a credential is not good. One answer on the wire: 401 with a constant body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unauthorized {
    /// There is none.
    Missing,
    /// `Authorization` names a scheme other than Bearer.
    SchemeUnknown,
    /// `Authorization` and `token` both carry one, and they differ.
    Ambiguous,
    /// Over [`crate::limits::CREDENTIAL_BYTES_MAX`].
    TooLong,
    /// Not three parts of canonical base64url.
    Malformed,
    /// The header is no strict JSON object, asks for another algorithm, or has `crit`.
    HeaderRefused,
    /// The signature is not of this key.
    SignatureWrong,
    /// The payload is no strict JSON object, or a claim has the wrong type, or `exp` is missing.
    ClaimsRefused,
    /// `exp` has passed.
    Expired,
    /// `nbf` is to come.
    NotYetValid,
}

/// Who some bytes were found to stand for, until a credential is revoked. Whoever keeps one vouches
/// that the same bytes are shown again.
#[derive(Clone, Copy, Debug)]
pub struct Vouched {
    identity: Identity,
    epoch: u64,
}

/// Admits requests on one reactor.
pub struct Authenticator {
    verifier: Arc<Verifier>,
    epoch: Epoch,
    recent: Recent,
}

impl Authenticator {
    /// An authenticator with empty memory. Allocates all that it will ever need.
    pub fn new(verifier: Arc<Verifier>, epoch: Epoch) -> Authenticator {
        Authenticator { verifier, epoch, recent: Recent::new() }
    }

    /// Admits a request by the values of its `Authorization` and `token` fields. While
    /// authentication is off, whatever they hold is good.
    pub fn admit(
        &mut self,
        remembered: &mut Remembered,
        authorization: Option<&[u8]>,
        token: Option<&[u8]>,
        wall_seconds: u64,
    ) -> Result<Identity, Unauthorized> {
        if !self.verifier.is_enabled() {
            return Ok(Identity::UNLIMITED);
        }
        match credential(authorization, token)? {
            // A credential that is shown counts: a proxy that is trusted must not lend that to its clients.
            None if remembered.is_trusted() => Ok(Identity::UNLIMITED),
            presented => self.check(remembered, presented, wall_seconds),
        }
    }

    /// Admits a request as [`Authenticator::admit`] does, but looks at nothing of it when it is known
    /// who its credential stands for, and takes note of that otherwise.
    pub fn admit_known<'h>(
        &mut self,
        vouched: &mut Option<Vouched>,
        remembered: &mut Remembered,
        fields: impl FnOnce() -> (Option<&'h [u8]>, Option<&'h [u8]>),
        wall_seconds: u64,
    ) -> Result<Identity, Unauthorized> {
        // Read before anything is verified: a revocation in between makes the note out of date.
        let epoch = self.epoch.current();
        if let Some(known) = vouched
            && known.epoch == epoch
        {
            return known.identity.at(wall_seconds);
        }
        let (authorization, token) = fields();
        let identity = self.admit(remembered, authorization, token, wall_seconds)?;
        *vouched = Some(Vouched { identity, epoch });
        Ok(identity)
    }

    /// Admits a request by the credential that [`credential`] found. `remembered` is of the
    /// connection the request came on.
    pub fn check(
        &mut self,
        remembered: &mut Remembered,
        presented: Option<&[u8]>,
        wall_seconds: u64,
    ) -> Result<Identity, Unauthorized> {
        if !self.verifier.is_enabled() {
            return Ok(Identity::UNLIMITED);
        }
        let token = presented.ok_or(Unauthorized::Missing)?;
        let epoch = self.epoch.current();
        match remembered.find(token, epoch) {
            Some(identity) => identity.at(wall_seconds),
            None => self.check_unremembered(remembered, token, epoch, wall_seconds),
        }
    }

    /// The epoch was read before the token is verified: a revocation in between leaves a memory that
    /// is out of date already.
    fn check_unremembered(
        &mut self,
        remembered: &mut Remembered,
        token: &[u8],
        epoch: u64,
        wall_seconds: u64,
    ) -> Result<Identity, Unauthorized> {
        let identity = match self.recent.find(token, epoch) {
            Some(identity) => identity.at(wall_seconds)?,
            None => {
                let identity = self.verifier.verify(token, wall_seconds)?;
                self.recent.insert(token, identity, epoch, wall_seconds);
                identity
            }
        };
        remembered.replace(token, identity, epoch);
        Ok(identity)
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Authenticator").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

/// Finds the credential in the values of `Authorization` (`Bearer J`, or `J` alone, as the original
/// takes it) and `token` (`J`). The scheme's case does not matter (RFC 9110, section 11.1). Both
/// fields may be there if they say the same. An empty `Authorization` is not the same as none.
pub fn credential<'h>(
    authorization: Option<&'h [u8]>,
    token: Option<&'h [u8]>,
) -> Result<Option<&'h [u8]>, Unauthorized> {
    let bearer = authorization.map(bearer).transpose()?;
    let token = token.map(|token| alone(token.trim_ascii())).transpose()?;
    match (bearer, token) {
        (Some(bearer), Some(token)) if !constant_time::equal(bearer, token) => Err(Unauthorized::Ambiguous),
        (bearer, token) => Ok(bearer.or(token)),
    }
}

fn bearer(authorization: &[u8]) -> Result<&[u8], Unauthorized> {
    const SCHEME: &[u8] = b"bearer ";
    let value = authorization.trim_ascii();
    match value.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => alone(rest.trim_ascii_start()),
        _ if memchr::memchr2(b' ', b'\t', value).is_some() => Err(Unauthorized::SchemeUnknown),
        _ => alone(value),
    }
}

/// A credential is one word.
fn alone(word: &[u8]) -> Result<&[u8], Unauthorized> {
    let blank = word.is_empty() || memchr::memchr2(b' ', b'\t', word).is_some();
    if blank { Err(Unauthorized::Malformed) } else { Ok(word) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        Authenticator, Epoch, Grants, Identity, Remembered, Unauthorized, Verifier, VerifierConfig,
        credential, sign,
    };

    const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

    fn verifier(enabled: bool) -> Arc<Verifier> {
        Arc::new(Verifier::new(VerifierConfig {
            enabled,
            secret: SECRET,
            leeway_seconds: 0,
            require_exp: true,
        }))
    }

    #[test]
    fn a_credential_comes_as_bearer_alone_or_as_token() {
        for authorization in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c ", "a.b.c", " a.b.c"] {
            assert_eq!(credential(Some(authorization.as_bytes()), None), Ok(Some(&b"a.b.c"[..])));
        }
        assert_eq!(credential(None, Some(b"a.b.c")), Ok(Some(&b"a.b.c"[..])));
        assert_eq!(credential(Some(b"Bearer a.b.c"), Some(b"a.b.c")), Ok(Some(&b"a.b.c"[..])));
        assert_eq!(credential(None, None), Ok(None));
    }

    #[test]
    fn a_credential_of_another_shape_is_refused() {
        for (authorization, why) in [
            ("", Unauthorized::Malformed),
            ("Bearer a b", Unauthorized::Malformed),
            ("Bearer Bearer a", Unauthorized::Malformed),
            ("Basic OnB3", Unauthorized::SchemeUnknown),
            ("Bearer\ta", Unauthorized::SchemeUnknown),
        ] {
            assert_eq!(credential(Some(authorization.as_bytes()), None).unwrap_err(), why, "{authorization}");
        }
        // `Bearer` with nothing behind it reads as a credential by itself, and will not verify.
        assert_eq!(credential(Some(b"Bearer "), None), Ok(Some(&b"Bearer"[..])));
        assert_eq!(credential(None, Some(b"")), Err(Unauthorized::Malformed));
        assert_eq!(credential(None, Some(b"Bearer a")), Err(Unauthorized::Malformed));
        assert_eq!(credential(Some(b"Bearer a"), Some(b"b")), Err(Unauthorized::Ambiguous));
    }

    #[test]
    fn everyone_is_admitted_while_authentication_is_off() {
        let mut authenticator = Authenticator::new(verifier(false), Epoch::default());
        let mut remembered = Remembered::default();
        for authorization in [None, Some(&b"Basic x"[..]), Some(b"Bearer junk"), Some(b"")] {
            assert_eq!(authenticator.admit(&mut remembered, authorization, None, 5), Ok(Identity::UNLIMITED));
        }
        assert_eq!(authenticator.check(&mut remembered, None, 5), Ok(Identity::UNLIMITED));
        assert_eq!(Identity::UNLIMITED.at(u64::MAX), Ok(Identity::UNLIMITED));
    }

    #[test]
    fn time_is_checked_on_remembered_tokens_too() {
        let mut authenticator = Authenticator::new(verifier(true), Epoch::default());
        let token = sign(SECRET, r#"{"exp":100,"nbf":50}"#);
        // The first connection verifies, the same one remembers, another asks the reactor's table.
        let mut first = Remembered::default();
        for wall_seconds in [50, 51, 99] {
            assert!(authenticator.check(&mut first, Some(token.as_bytes()), wall_seconds).is_ok());
        }
        for mut connection in [first, Remembered::default()] {
            let mut check = |seconds| authenticator.check(&mut connection, Some(token.as_bytes()), seconds);
            assert_eq!(check(49), Err(Unauthorized::NotYetValid));
            assert_eq!(check(100), Err(Unauthorized::Expired));
            assert!(check(99).is_ok());
        }
    }

    #[test]
    fn no_token_and_another_token_are_refused_after_a_good_one() {
        let mut authenticator = Authenticator::new(verifier(true), Epoch::default());
        let mut remembered = Remembered::default();
        let token = sign(SECRET, r#"{"exp":100,"grants":["kv:read"]}"#);
        let good = authenticator.check(&mut remembered, Some(token.as_bytes()), 1).unwrap();
        assert_eq!(good.grants, Grants::KV_READ);
        assert_eq!(authenticator.check(&mut remembered, None, 1), Err(Unauthorized::Missing));
        for at in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[at] ^= 1;
            assert!(authenticator.check(&mut remembered, Some(&other), 1).is_err(), "byte {at}");
        }
        assert_eq!(authenticator.check(&mut remembered, Some(token.as_bytes()), 1), Ok(good));
    }

    #[test]
    fn a_bump_of_the_epoch_empties_both_memories() {
        let epoch = Epoch::default();
        let mut authenticator = Authenticator::new(verifier(true), epoch.clone());
        let mut remembered = Remembered::default();
        let token = sign(SECRET, r#"{"exp":100}"#);
        authenticator.check(&mut remembered, Some(token.as_bytes()), 1).unwrap();
        // With another key behind it, only memory can still admit the token.
        authenticator.verifier = Arc::new(Verifier::new(VerifierConfig {
            enabled: true,
            secret: b"another secret",
            leeway_seconds: 0,
            require_exp: true,
        }));
        assert!(authenticator.check(&mut remembered, Some(token.as_bytes()), 1).is_ok());
        assert!(authenticator.check(&mut Remembered::default(), Some(token.as_bytes()), 1).is_ok());
        epoch.bump();
        for mut connection in [remembered, Remembered::default()] {
            assert_eq!(
                authenticator.check(&mut connection, Some(token.as_bytes()), 1),
                Err(Unauthorized::SignatureWrong)
            );
        }
    }

    #[test]
    fn nothing_that_holds_a_secret_shows_it() {
        let mut authenticator = Authenticator::new(verifier(true), Epoch::default());
        let mut remembered = Remembered::default();
        let token = sign(SECRET, r#"{"exp":100}"#);
        authenticator.check(&mut remembered, Some(token.as_bytes()), 1).unwrap();
        let config = VerifierConfig { enabled: true, secret: SECRET, leeway_seconds: 0, require_exp: true };
        let shown = format!("{authenticator:?} {remembered:?} {config:?} {:?}", verifier(true));
        let as_list = format!("{:?}", &token.as_bytes()[..4]);
        let secret_as_list = format!("{:?}", &SECRET[..4]);
        for hidden in [
            "a secret",
            &token[..8],
            as_list.trim_matches(['[', ']']),
            secret_as_list.trim_matches(['[', ']']),
        ] {
            assert!(!shown.contains(hidden), "{shown} has {hidden}");
        }
    }
}
