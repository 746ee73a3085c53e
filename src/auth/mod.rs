//! Who may do what: reads the credential of a request and answers with an [`Identity`], and keeps the
//! API keys and app tokens that there are.
//!
//! [`Authenticator`] is the door. It asks three memories in turn, each cheaper than the next one:
//! what the connection showed last ([`Remembered`]), what this reactor verified lately
//! ([`remember::Recent`]), and then the credential itself: a JWT's signature ([`Verifier`]), or the
//! digest of an API key or app token ([`Directory`]). Memory answers only *who*: time
//! is checked on every request, and a bump of the shared [`Epoch`] empties all memories at once.
//!
//! The [`Ledger`] on reactor 0 is where keys and apps are made, changed and ended.
//!
//! Nothing here tells a caller why it was refused: [`Unauthorized`] has variants for tests and logs,
//! the wire has one answer. Secrets and tokens are compared in constant time and never shown.

mod apps;
mod credential;
mod form;
mod grants;
mod json;
mod jwt;
mod kept;
mod keys;
mod ledger;
mod opaque;
mod password;
mod remember;

pub use apps::{AppTokens, AppView, Which};
pub use credential::{Credential, Directory, NodeKey, Scope};
pub use form::{Form, Forms};
pub use grants::Grants;
pub use jwt::{Verifier, VerifierConfig, root_token, sign};
pub use kept::{LedgerChange, RecordsWalk, Unrestored};
pub use keys::{KeyView, NewKey, Status};
pub use ledger::{Ledger, Maker, Page, Principal, Refused};
pub use opaque::{Id, Kind, NoRandomness};
pub use password::{Brake, FAILURES_MAX, Proof, WINDOW_MS};
pub use remember::{Epoch, Recent, Remembered};

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::config::PasswordHash;
use crate::constant_time;
use password::Password;

/// What a good credential says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What it may do.
    pub grants: Grants,
    /// How it was shown.
    pub form: Form,
    /// Good from this second on (Unix epoch), leeway included.
    pub not_before: u64,
    /// Good until just before this second (Unix epoch), leeway included; `u64::MAX` is never-ending.
    /// An API key is then looked at again, and may be good for longer.
    pub expires: u64,
}

impl Identity {
    /// Everyone, while authentication is off.
    pub const UNLIMITED: Identity =
        Identity { grants: Grants::ALL, form: Form::Jwt, not_before: 0, expires: u64::MAX };

    /// Whoever knows the password of the databases family.
    const DATABASES: Identity = Identity {
        grants: Grants::DB_READ
            .union(Grants::DB_WRITE)
            .union(Grants::DB_ADMIN)
            .union(Grants::LOG_WRITE)
            .union(Grants::EXECUTE),
        form: Form::Password,
        not_before: 0,
        expires: u64::MAX,
    };

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

/// What is known of who shows a good credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Who it is.
    pub identity: Identity,
    /// What limits it beside its grants. `None` is nothing.
    pub scope: Option<Arc<Scope>>,
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
    /// No API key or app token is this one.
    Unknown,
    /// The API key or app token was ended before its time.
    Revoked,
    /// Basic authentication with a user name, or another password.
    PasswordWrong,
    /// A password that has yet to be held against the hash: see [`Authenticator::proof`].
    PasswordUnproven,
}

/// Who some bytes were found to stand for, until a credential is revoked. Whoever keeps one vouches
/// that the same bytes are shown again.
#[derive(Clone, Debug)]
pub struct Vouched {
    known: Known,
    epoch: u64,
}

impl Vouched {
    /// Who they stand for.
    pub fn identity(&self) -> &Identity {
        &self.known.identity
    }

    /// What limits them beside their grants.
    pub fn scope(&self) -> Option<&Scope> {
        self.known.scope.as_deref()
    }
}

/// What all reactors judge credentials by.
#[derive(Clone, Debug)]
pub struct Trust {
    verifier: Arc<Verifier>,
    epoch: Epoch,
    node_key: Arc<NodeKey>,
    password: Option<Arc<Password>>,
}

impl Trust {
    /// JWTs as this verifier has them, and API keys and app tokens that are still to be made.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn new(verifier: Verifier) -> Result<Trust, NoRandomness> {
        let node_key = Arc::new(NodeKey::draw()?);
        Ok(Trust { verifier: Arc::new(verifier), epoch: Epoch::default(), node_key, password: None })
    }

    /// The same with a password for the databases family. Nothing but its digest is kept.
    pub fn with_password(self, password: &[u8]) -> Trust {
        let known = Password::known(self.node_key.digest(password));
        Trust { password: Some(Arc::new(known)), ..self }
    }

    /// The same with a password of which only a hash is known, until somebody shows it.
    pub fn with_password_hash(self, hash: Arc<PasswordHash>) -> Trust {
        Trust { password: Some(Arc::new(Password::hashed(hash))), ..self }
    }

    /// What is bumped when a credential ends before its time.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }
}

/// The values of the fields that may hold a credential.
#[derive(Clone, Copy, Default)]
pub struct Fields<'h> {
    /// `Authorization`.
    pub authorization: Option<&'h [u8]>,
    /// `token`, as the original takes it.
    pub token: Option<&'h [u8]>,
}

/// Names no value.
impl fmt::Debug for Fields<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Fields").finish_non_exhaustive()
    }
}

/// Admits requests on one reactor.
pub struct Authenticator {
    trust: Trust,
    directory: Directory,
    recent: Recent,
}

impl Authenticator {
    /// An authenticator with empty memory. Allocates all that it needs to judge a credential.
    pub fn new(trust: Trust) -> Authenticator {
        let directory = Directory::new(trust.node_key.clone());
        Authenticator { trust, directory, recent: Recent::new() }
    }

    /// Takes a new API key or app token in.
    pub fn learn(&mut self, credential: Arc<Credential>, wall_seconds: u64) {
        self.directory.learn(credential, wall_seconds);
    }

    /// API keys or app tokens have ended: they leave in the next turns.
    pub fn begin_sweep(&mut self) {
        self.directory.begin_sweep();
    }

    /// Whether [`Authenticator::sweep`] has something to do.
    pub fn is_sweeping(&self) -> bool {
        self.directory.is_sweeping()
    }

    /// Drops some of what has ended, in a tenth of a millisecond at most.
    #[cold]
    pub fn sweep(&mut self, wall_seconds: u64) {
        self.directory.sweep(wall_seconds);
    }

    /// Admits a request by its fields. While authentication is off, whatever they hold is good.
    /// `basic` says whether Basic authentication is taken. `remembered` is of the connection that the
    /// request came on.
    pub fn admit(
        &mut self,
        remembered: &mut Remembered,
        fields: Fields<'_>,
        basic: bool,
        wall_seconds: u64,
    ) -> Result<Known, Unauthorized> {
        if !self.trust.verifier.is_enabled() {
            return Ok(Known { identity: Identity::UNLIMITED, scope: None });
        }
        match presented(fields, basic)? {
            // A credential that is shown counts: a proxy that is trusted must not lend that to its clients.
            None if remembered.trusted_uid().is_some() => {
                Ok(Known { identity: Identity::UNLIMITED, scope: None })
            }
            shown => self.check(remembered, shown, wall_seconds),
        }
    }

    /// Admits a request as [`Authenticator::admit`] does, but looks at nothing of it when it is known
    /// who its fields stand for, and takes note of that otherwise.
    #[inline(always)] // So little of it is left for every request that a call is a third of it.
    pub fn admit_known<'v, 'h>(
        &mut self,
        vouched: &'v mut Option<Vouched>,
        remembered: &mut Remembered,
        fields: impl FnOnce() -> Fields<'h>,
        basic: bool,
        wall_seconds: u64,
    ) -> Result<&'v Vouched, Unauthorized> {
        // Read before anything is verified: a revocation in between makes the note out of date.
        let epoch = self.trust.epoch.current();
        let is_known = matches!(vouched, Some(Vouched { known, epoch: made_in })
            if *made_in == epoch && known.identity.at(wall_seconds).is_ok());
        if !is_known {
            let known = self.admit_anew(remembered, fields(), basic, wall_seconds)?;
            *vouched = Some(Vouched { known, epoch });
        }
        vouched.as_ref().ok_or(Unauthorized::Missing)
    }

    /// Apart, so that what is needed seldom does not lie in the way of what is needed for every request.
    #[inline(never)]
    fn admit_anew(
        &mut self,
        remembered: &mut Remembered,
        fields: Fields<'_>,
        basic: bool,
        wall_seconds: u64,
    ) -> Result<Known, Unauthorized> {
        self.admit(remembered, fields, basic, wall_seconds)
    }

    /// Admits by a credential as [`credential`] finds it, while authentication is on. Who was let in a moment ago and would not be now
    /// is looked at again: an API key is remembered for a minute at a time.
    pub fn check(
        &mut self,
        remembered: &mut Remembered,
        presented: Option<&[u8]>,
        wall_seconds: u64,
    ) -> Result<Known, Unauthorized> {
        let token = presented.ok_or(Unauthorized::Missing)?;
        let epoch = self.trust.epoch.current();
        match remembered.find(token, epoch) {
            Some(known) if known.identity.at(wall_seconds).is_ok() => Ok(known),
            _ => self.check_unremembered(remembered, token, epoch, wall_seconds),
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
    ) -> Result<Known, Unauthorized> {
        let known = match self.recent.find(token, epoch) {
            Some(known) if known.identity.at(wall_seconds).is_ok() => known,
            _ => {
                let known = self.verify(token, wall_seconds)?;
                self.recent.insert(token, &known, epoch, wall_seconds);
                known
            }
        };
        remembered.replace(token, &known, epoch);
        Ok(known)
    }

    fn verify(&self, presented: &[u8], wall_seconds: u64) -> Result<Known, Unauthorized> {
        match Kind::of(presented) {
            Some(_) => self.directory.verify(presented, wall_seconds),
            None if password::is_basic(presented) => self.verify_basic(presented, wall_seconds),
            None => self.trust.verifier.verify(presented, wall_seconds),
        }
    }

    fn verify_basic(&self, presented: &[u8], wall_seconds: u64) -> Result<Known, Unauthorized> {
        let mut room = Zeroizing::new([0; password::ROOM_BYTES]);
        let shown = password::password(presented, &mut room)?;
        if Kind::of(shown) == Some(Kind::ApiKey)
            && let Ok(mut known) = self.directory.verify(shown, wall_seconds)
        {
            known.identity.form = Form::ApiKeyAsPassword;
            return Ok(known);
        }
        let right = self.trust.password.as_ref().ok_or(Unauthorized::PasswordWrong)?;
        right.check(shown, &self.trust.node_key)?;
        Ok(Known { identity: Identity::DATABASES, scope: None })
    }

    /// What has to be done where [`Unauthorized::PasswordUnproven`] was the answer. `None` while too much of
    /// it is under way.
    pub fn proof(&self, authorization: &[u8]) -> Option<Proof> {
        let mut room = Zeroizing::new([0; password::ROOM_BYTES]);
        let shown = password::password(authorization, &mut room).ok()?;
        Proof::new(self.trust.password.as_ref()?, &self.trust.node_key, shown)
    }

    /// Whose credential this is, for whoever is about to make another. Judged anew. Without one it is the
    /// user of a peer that needs none.
    pub fn principal(
        &self,
        fields: Fields<'_>,
        trusted_uid: Option<u32>,
        wall_seconds: u64,
    ) -> Result<Principal, Unauthorized> {
        if !self.trust.verifier.is_enabled() {
            return Ok(Principal::unlimited());
        }
        let token = match (presented(fields, false)?, trusted_uid) {
            (Some(token), _) => token,
            (None, Some(uid)) => return Ok(Principal::of_user(uid)),
            (None, None) => return Err(Unauthorized::Missing),
        };
        if Kind::of(token).is_some() {
            return self.directory.find(token, wall_seconds).map(|credential| Principal::of(credential));
        }
        let (known, subject) = self.trust.verifier.verify_with_subject(token, wall_seconds)?;
        Ok(Principal {
            subject: subject.into(),
            grants: known.identity.grants,
            scope: known.scope,
            key: None,
        })
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Authenticator").field("verifier", &self.trust.verifier).finish_non_exhaustive()
    }
}

/// What the fields of a request show: a word, or, where Basic authentication is taken, all of
/// `Authorization`.
fn presented(fields: Fields<'_>, basic: bool) -> Result<Option<&[u8]>, Unauthorized> {
    match fields.authorization {
        Some(authorization) if basic && password::is_basic(authorization) => Ok(Some(authorization)),
        authorization => credential(authorization, fields.token),
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
        Authenticator, Fields, Form, Grants, Identity, Known, Ledger, NewKey, Principal, Remembered, Scope,
        Trust, Unauthorized, Verifier, VerifierConfig, credential, sign,
    };
    use crate::memory::Memory;

    const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

    fn verifier(enabled: bool) -> Verifier {
        Verifier::new(VerifierConfig { enabled, secret: SECRET, leeway_seconds: 0, require_exp: true })
    }

    fn authenticator(enabled: bool) -> Authenticator {
        Authenticator::new(Trust::new(verifier(enabled)).unwrap())
    }

    /// Admits a token on a connection, and says who it is.
    fn check(
        authenticator: &mut Authenticator,
        remembered: &mut Remembered,
        token: Option<&[u8]>,
        wall_seconds: u64,
    ) -> Result<Identity, Unauthorized> {
        let fields = Fields { authorization: None, token };
        authenticator.admit(remembered, fields, false, wall_seconds).map(|known| known.identity)
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
        let mut authenticator = authenticator(false);
        let mut remembered = Remembered::default();
        for authorization in [None, Some(&b"Basic x"[..]), Some(b"Bearer junk"), Some(b"")] {
            let fields = Fields { authorization, token: None };
            let known = authenticator.admit(&mut remembered, fields, false, 5).unwrap();
            assert_eq!(known, Known { identity: Identity::UNLIMITED, scope: None });
        }
        assert_eq!(check(&mut authenticator, &mut remembered, None, 5), Ok(Identity::UNLIMITED));
        assert_eq!(Identity::UNLIMITED.at(u64::MAX), Ok(Identity::UNLIMITED));
    }

    #[test]
    fn time_is_checked_on_remembered_tokens_too() {
        let mut authenticator = authenticator(true);
        let token = sign(SECRET, r#"{"exp":100,"nbf":50}"#);
        // The first connection verifies, the same one remembers, another asks the reactor's table.
        let mut first = Remembered::default();
        for wall_seconds in [50, 51, 99] {
            assert!(check(&mut authenticator, &mut first, Some(token.as_bytes()), wall_seconds).is_ok());
        }
        for mut connection in [first, Remembered::default()] {
            let mut check =
                |seconds| check(&mut authenticator, &mut connection, Some(token.as_bytes()), seconds);
            assert_eq!(check(49), Err(Unauthorized::NotYetValid));
            assert_eq!(check(100), Err(Unauthorized::Expired));
            assert!(check(99).is_ok());
        }
    }

    #[test]
    fn no_token_and_another_token_are_refused_after_a_good_one() {
        let mut authenticator = authenticator(true);
        let mut remembered = Remembered::default();
        let token = sign(SECRET, r#"{"exp":100,"grants":["kv:read"]}"#);
        let good = check(&mut authenticator, &mut remembered, Some(token.as_bytes()), 1).unwrap();
        assert_eq!(good.grants, Grants::KV_READ);
        assert_eq!(check(&mut authenticator, &mut remembered, None, 1), Err(Unauthorized::Missing));
        for at in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[at] ^= 1;
            assert!(check(&mut authenticator, &mut remembered, Some(&other), 1).is_err(), "byte {at}");
        }
        assert_eq!(check(&mut authenticator, &mut remembered, Some(token.as_bytes()), 1), Ok(good));
    }

    #[test]
    fn a_bump_of_the_epoch_empties_both_memories() {
        let mut authenticator = authenticator(true);
        let epoch = authenticator.trust.epoch().clone();
        let mut remembered = Remembered::default();
        let token = sign(SECRET, r#"{"exp":100}"#);
        check(&mut authenticator, &mut remembered, Some(token.as_bytes()), 1).unwrap();
        // With another key behind it, only memory can still admit the token.
        authenticator.trust.verifier = Arc::new(Verifier::new(VerifierConfig {
            enabled: true,
            secret: b"another secret",
            leeway_seconds: 0,
            require_exp: true,
        }));
        assert!(check(&mut authenticator, &mut remembered, Some(token.as_bytes()), 1).is_ok());
        assert!(check(&mut authenticator, &mut Remembered::default(), Some(token.as_bytes()), 1).is_ok());
        epoch.bump();
        for mut connection in [remembered, Remembered::default()] {
            assert_eq!(
                check(&mut authenticator, &mut connection, Some(token.as_bytes()), 1),
                Err(Unauthorized::SignatureWrong)
            );
        }
    }

    /// An authenticator that knows an API key, and the key.
    fn with_api_key(ends: Option<u64>, scope: Option<Scope>) -> (Authenticator, Ledger, String) {
        let mut authenticator = authenticator(true);
        let memory = Memory::new(64 << 20, 1, true).unwrap();
        let mut ledger = Ledger::new(&authenticator.trust, memory, 1, 1).unwrap();
        let new = NewKey { name: "key".into(), grants: Grants::KV_READ, ends, scope };
        let (token, credential, _) = ledger.keys.create(&Principal::unlimited(), new, 1).unwrap();
        authenticator.learn(credential, 1);
        (authenticator, ledger, token.to_string())
    }

    #[test]
    fn an_api_key_is_forgotten_by_every_memory_as_it_ends() {
        let (mut authenticator, mut ledger, token) = with_api_key(None, None);
        let (mut connection, mut other) = (Remembered::default(), Remembered::default());
        let mut vouched = None;
        let fields = || Fields { authorization: None, token: Some(token.as_bytes()) };
        for _ in 0..3 {
            let known = authenticator.admit_known(&mut vouched, &mut connection, fields, false, 100).unwrap();
            assert_eq!((known.identity().form, known.identity().grants), (Form::ApiKey, Grants::KV_READ));
            check(&mut authenticator, &mut other, Some(token.as_bytes()), 100).unwrap();
        }
        let id = ledger.keys.list(&Principal::unlimited(), 0, 1, 1).items[0].id;
        ledger.keys.delete(&Principal::unlimited(), id, 1).unwrap();
        let known = authenticator.admit_known(&mut vouched, &mut connection, fields, false, 100);
        assert_eq!(known.map(|_| ()), Err(Unauthorized::Revoked));
        for mut connection in [connection, other, Remembered::default()] {
            let refused = check(&mut authenticator, &mut connection, Some(token.as_bytes()), 100);
            assert_eq!(refused, Err(Unauthorized::Revoked));
        }
    }

    #[test]
    fn an_api_key_ends_to_the_second_and_is_looked_at_again_each_minute() {
        let (mut authenticator, ledger, token) = with_api_key(Some(1_000), None);
        let last_used = || ledger.keys.list(&Principal::unlimited(), 0, 1, 1).items[0].last_used;
        let mut connection = Remembered::default();
        let mut vouched = None;
        let fields = || Fields { authorization: None, token: Some(token.as_bytes()) };
        for (now, used) in [(600, 600), (659, 600), (660, 660), (999, 960)] {
            authenticator.admit_known(&mut vouched, &mut connection, fields, false, now).unwrap();
            assert_eq!(last_used(), Some(used));
        }
        let known = authenticator.admit_known(&mut vouched, &mut connection, fields, false, 1_000);
        assert_eq!(known.map(|_| ()), Err(Unauthorized::Expired));
        let refused = check(&mut authenticator, &mut connection, Some(token.as_bytes()), 1_000);
        assert_eq!(refused, Err(Unauthorized::Expired));
    }

    #[test]
    fn a_scope_comes_out_of_every_memory() {
        let scope = Scope { namespace: None, prefix: b"a/".as_slice().into() };
        let (mut authenticator, _ledger, key) = with_api_key(None, Some(scope.clone()));
        let jwt = sign(SECRET, r#"{"exp":1000,"prefix":"a/"}"#);
        for token in [key.as_bytes(), jwt.as_bytes()] {
            let (mut first, mut second, mut vouched) = (Remembered::default(), Remembered::default(), None);
            let fields = || Fields { authorization: None, token: Some(token) };
            for connection in [&mut first, &mut second] {
                for _ in 0..2 {
                    let known = authenticator.admit(connection, fields(), false, 5).unwrap();
                    assert_eq!(known.scope.as_deref(), Some(&scope));
                    let known = authenticator.admit_known(&mut vouched, connection, fields, false, 5);
                    assert_eq!(known.unwrap().scope(), Some(&scope));
                }
            }
            // Another token on the same connection does not inherit it.
            let free = sign(SECRET, r#"{"exp":1000}"#);
            let fields = Fields { authorization: None, token: Some(free.as_bytes()) };
            for _ in 0..2 {
                assert_eq!(authenticator.admit(&mut first, fields, false, 5).unwrap().scope, None);
            }
        }
    }

    fn basic(password: &str) -> String {
        use base64::Engine;
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!(":{password}")))
    }

    #[test]
    fn the_databases_password_and_api_keys_are_taken_in_basic_authentication_where_that_is_taken() {
        let (mut authenticator, _ledger, key) = with_api_key(None, None);
        authenticator.trust = authenticator.trust.with_password(b"correct horse");
        let mut admit = |authorization: &str, is_taken: bool| {
            let fields = Fields { authorization: Some(authorization.as_bytes()), token: None };
            let known = authenticator.admit(&mut Remembered::default(), fields, is_taken, 5);
            known.map(|known| (known.identity.form, known.identity.grants))
        };
        for _ in 0..2 {
            let right = admit(&basic("correct horse"), true);
            assert_eq!(right, Ok((Form::Password, Identity::DATABASES.grants)));
            assert_eq!(admit(&basic(&key), true), Ok((Form::ApiKeyAsPassword, Grants::KV_READ)));
            for wrong in ["", "correct hors", "correct horse ", &key[..40]] {
                assert_eq!(admit(&basic(wrong), true), Err(Unauthorized::PasswordWrong), "{wrong}");
            }
            assert_eq!(admit(&basic("correct horse"), false), Err(Unauthorized::SchemeUnknown));
            assert_eq!(admit(&basic(&key), false), Err(Unauthorized::SchemeUnknown));
            // The other forms go on beside it.
            assert_eq!(admit(&format!("Bearer {key}"), true), Ok((Form::ApiKey, Grants::KV_READ)));
        }
    }

    #[test]
    fn without_a_databases_password_none_is_right() {
        let mut authenticator = authenticator(true);
        for password in ["", "x"] {
            let authorization = basic(password);
            let fields = Fields { authorization: Some(authorization.as_bytes()), token: None };
            let refused = authenticator.admit(&mut Remembered::default(), fields, true, 5);
            assert_eq!(refused.unwrap_err(), Unauthorized::PasswordWrong);
        }
    }

    #[test]
    fn a_principal_is_whose_the_credential_is() {
        let (authenticator, _ledger, key) = with_api_key(Some(1_000), None);
        let principal = |token: &str, now| {
            authenticator.principal(
                Fields { authorization: None, token: Some(token.as_bytes()) },
                Some(7),
                now,
            )
        };
        let of_key = principal(&key, 5).unwrap();
        assert_eq!((&*of_key.subject, of_key.grants), ("", Grants::KV_READ));
        assert_eq!(of_key.key.unwrap().ends, Some(1_000));
        assert_eq!(principal(&key, 1_000).unwrap_err(), Unauthorized::Expired);
        let of_jwt = principal(&sign(SECRET, r#"{"exp":9,"sub":"ann","prefix":"a"}"#), 5).unwrap();
        assert_eq!((&*of_jwt.subject, of_jwt.key.is_none()), ("ann", true));
        assert_eq!(&*of_jwt.scope.unwrap().prefix, b"a");
        let of_none = |uid| {
            authenticator
                .principal(Fields { authorization: None, token: None }, uid, 5)
                .map(|who| who.subject)
        };
        assert_eq!((of_none(Some(7)), of_none(None)), (Ok("uid:7".into()), Err(Unauthorized::Missing)));
    }

    #[test]
    fn nothing_that_holds_a_secret_shows_it() {
        let mut authenticator = authenticator(true);
        let mut remembered = Remembered::default();
        let token = sign(SECRET, r#"{"exp":100}"#);
        check(&mut authenticator, &mut remembered, Some(token.as_bytes()), 1).unwrap();
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
