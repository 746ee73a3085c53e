//! Verifies and signs JSON Web Tokens (RFC 7519) under HMAC-SHA-256, and nothing else.
//!
//! A token is three parts of canonical base64url (RFC 7515, section 2). The algorithm is pinned: the
//! header must say exactly `HS256`, and the key never depends on anything in the token. What the
//! header costs before the signature is checked is bounded by the length of a token; the payload is
//! not looked at before. No allocation for any token, good or bad.
//!
//! For a rotation there may be two secrets at once: tokens under either are good.
//!
//! The key is the *text* of `authentication.secret_key`, as in the original, not what its digits
//! may encode.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use super::grants::NAME_BYTES_MAX;
use super::json::{Malformed, Reader, Text};
use super::{Form, Grants, Identity, Known, Scope, Unauthorized};
use crate::limits::{CREDENTIAL_BYTES_MAX, KEY_BYTES_MAX};

/// Most bytes a part of a token can decode to.
const PART_BYTES_MAX: usize = CREDENTIAL_BYTES_MAX / 4 * 3 + 3;

/// Length of an HMAC-SHA-256 tag.
const TAG_BYTES: usize = 32;

/// How long a root token lives: 156 weeks, as in the original.
const ROOT_TOKEN_SECONDS: u64 = 156 * 7 * 24 * 60 * 60;

/// What a [`Verifier`] is made of.
#[derive(Clone, Copy)]
pub struct VerifierConfig<'a> {
    /// Off: every request is admitted with every grant.
    pub enabled: bool,
    /// The text of the secret.
    pub secret: &'a [u8],
    /// How far the clock of who made a token may be off, in seconds.
    pub leeway_seconds: u64,
    /// Refuse tokens that never expire.
    pub require_exp: bool,
}

impl fmt::Debug for VerifierConfig<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("VerifierConfig")
            .field("enabled", &self.enabled)
            .field("leeway_seconds", &self.leeway_seconds)
            .field("require_exp", &self.require_exp)
            .finish_non_exhaustive()
    }
}

/// Verifies tokens under one secret, or two while one takes over from the other.
#[derive(Clone)]
pub struct Verifier {
    /// Absent while authentication is off.
    key: Option<hmac::Key>,
    previous_key: Option<hmac::Key>,
    leeway_seconds: u64,
    require_exp: bool,
}

impl Verifier {
    /// Prepares the key.
    ///
    /// # Panics
    /// When authentication is on with an empty secret: anyone could sign under it.
    pub fn new(config: VerifierConfig<'_>) -> Verifier {
        assert!(!config.enabled || !config.secret.is_empty(), "authentication needs a secret");
        Verifier {
            key: config.enabled.then(|| hmac::Key::new(hmac::HMAC_SHA256, config.secret)),
            previous_key: None,
            leeway_seconds: config.leeway_seconds,
            require_exp: config.require_exp,
        }
    }

    /// Takes tokens under a second secret too: the one before, until everybody has a new token.
    ///
    /// # Panics
    /// When it is empty.
    pub fn with_previous(self, secret: &[u8]) -> Verifier {
        assert!(!secret.is_empty(), "anyone could sign under it");
        Verifier { previous_key: Some(hmac::Key::new(hmac::HMAC_SHA256, secret)), ..self }
    }

    /// Whether authentication is on.
    pub fn is_enabled(&self) -> bool {
        self.key.is_some()
    }

    /// Verifies a token. Good while `now < exp + leeway` and `now + leeway >= nbf`.
    pub fn verify(&self, token: &[u8], wall_seconds: u64) -> Result<Known, Unauthorized> {
        self.verified(token, wall_seconds, |known, _| known)
    }

    /// Verifies a token as [`Verifier::verify`] does, and reads whose it is: its `sub`.
    pub fn verify_with_subject(
        &self,
        token: &[u8],
        wall_seconds: u64,
    ) -> Result<(Known, String), Unauthorized> {
        self.verified(token, wall_seconds, |known, claims| {
            let subject = claims.sub.map(|sub| sub.bytes().collect()).unwrap_or_default();
            (known, String::from_utf8(subject).unwrap_or_default())
        })
    }

    fn verified<T>(
        &self,
        token: &[u8],
        wall_seconds: u64,
        answer: impl FnOnce(Known, &Claims<'_>) -> T,
    ) -> Result<T, Unauthorized> {
        if token.len() > CREDENTIAL_BYTES_MAX {
            return Err(Unauthorized::TooLong);
        }
        let parts = Parts::split(token).ok_or(Unauthorized::Malformed)?;
        let mut scratch = [0; PART_BYTES_MAX];
        let header = decode(parts.header, &mut scratch)?;
        check_header(header).map_err(|Malformed| Unauthorized::HeaderRefused)?;
        let mut tag = [0; TAG_BYTES + 1];
        let tag = decode(parts.signature, &mut tag)?;
        // Constant time; a tag of another length is wrong.
        let is_under = |key: &hmac::Key| hmac::verify(key, parts.signed, tag).is_ok();
        if ![&self.key, &self.previous_key].into_iter().flatten().any(is_under) {
            return Err(Unauthorized::SignatureWrong);
        }
        let payload = decode(parts.payload, &mut scratch)?;
        let claims = Claims::parse(payload).map_err(|Malformed| Unauthorized::ClaimsRefused)?;
        let identity = self.identity(&claims)?.at(wall_seconds)?;
        let scope = claims.scope().map_err(|Malformed| Unauthorized::ClaimsRefused)?;
        Ok(answer(Known { identity, scope }, &claims))
    }

    fn identity(&self, claims: &Claims<'_>) -> Result<Identity, Unauthorized> {
        if self.require_exp && claims.exp.is_none() {
            return Err(Unauthorized::ClaimsRefused);
        }
        Ok(Identity {
            grants: claims.grants(),
            form: Form::Jwt,
            not_before: claims.nbf.unwrap_or(0).saturating_sub(self.leeway_seconds),
            expires: claims.exp.map_or(u64::MAX, |exp| exp.saturating_add(self.leeway_seconds)),
        })
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Verifier")
            .field("enabled", &self.is_enabled())
            .field("leeway_seconds", &self.leeway_seconds)
            .field("require_exp", &self.require_exp)
            .finish_non_exhaustive()
    }
}

/// Signs a payload, which is a JSON object, with the header of the original's tokens.
pub fn sign(secret: &[u8], claims: &str) -> String {
    let mut token = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"HS256"}"#);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims, &mut token);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(tag, &mut token);
    token
}

/// A token with every grant, for whoever starts a node. `issuer` is the node's address.
pub fn root_token(secret: &[u8], issuer: &str, wall_seconds: u64) -> String {
    let issuer = serde_json::Value::from(issuer);
    let exp = wall_seconds.saturating_add(ROOT_TOKEN_SECONDS);
    let claims = format!(r#"{{"sub":"Lucid Root Token","iss":{issuer},"iat":{wall_seconds},"exp":{exp}}}"#);
    sign(secret, &claims)
}

/// The parts of a token, still encoded.
struct Parts<'a> {
    header: &'a [u8],
    payload: &'a [u8],
    signature: &'a [u8],
    /// Header, dot, payload: what the signature is made over.
    signed: &'a [u8],
}

impl<'a> Parts<'a> {
    fn split(token: &'a [u8]) -> Option<Parts<'a>> {
        let first = memchr::memchr(b'.', token)?;
        let second = first + 1 + memchr::memchr(b'.', &token[first + 1..])?;
        let signature = &token[second + 1..];
        memchr::memchr(b'.', signature).is_none().then_some(Parts {
            header: &token[..first],
            payload: &token[first + 1..second],
            signature,
            signed: &token[..second],
        })
    }
}

/// Decodes canonical base64url: no padding, no blanks, no bits left over (RFC 4648, section 3.5).
fn decode<'b>(part: &[u8], scratch: &'b mut [u8]) -> Result<&'b [u8], Unauthorized> {
    let length = URL_SAFE_NO_PAD.decode_slice(part, scratch).map_err(|_| Unauthorized::Malformed)?;
    Ok(&scratch[..length])
}

/// `alg` must be `HS256`. `crit` is refused, since no extension is known here (RFC 7515, section
/// 4.1.11), and with it `b64`, which means nothing alone. Members that carry or name keys are passed
/// over like any unknown one: the key is ours.
fn check_header(header: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader::new(header)?;
    let mut pinned = false;
    reader.members(|reader, name| {
        if name == "alg" {
            pinned = reader.string()? == "HS256";
            if pinned { Ok(()) } else { Err(Malformed) }
        } else if name == "typ" {
            reader.string().map(|_| ())
        } else if name == "crit" {
            Err(Malformed)
        } else {
            reader.skip()
        }
    })?;
    reader.end()?;
    if pinned { Ok(()) } else { Err(Malformed) }
}

/// The claims that matter here. `sub` and `iss` may be empty or absent, but not of another type;
/// `aud`, `jti` and all others are passed over.
#[derive(Default)]
struct Claims<'a> {
    exp: Option<u64>,
    nbf: Option<u64>,
    /// Whose it is, for whoever makes an API key with it.
    sub: Option<Text<'a>>,
    /// Limits it to keys that begin like this; an empty one does not.
    prefix: Option<Text<'a>>,
    /// From `grants`, an array of names.
    listed: Option<Grants>,
    /// From `scope`, names with spaces between them (RFC 8693, section 4.2).
    scoped: Option<Grants>,
}

impl<'a> Claims<'a> {
    fn parse(payload: &'a [u8]) -> Result<Claims<'a>, Malformed> {
        let mut reader = Reader::new(payload)?;
        let mut claims = Claims::default();
        reader.members(|reader, name| {
            if name == "exp" {
                claims.exp = Some(reader.unsigned()?);
            } else if name == "nbf" {
                claims.nbf = Some(reader.unsigned()?);
            } else if name == "iat" {
                reader.unsigned()?;
            } else if name == "sub" {
                claims.sub = Some(reader.string()?);
            } else if name == "iss" {
                reader.string()?;
            } else if name == "prefix" {
                claims.prefix = Some(reader.string()?);
            } else if name == "grants" {
                claims.listed = Some(listed_grants(reader)?);
            } else if name == "scope" {
                claims.scoped = Some(scoped_grants(reader.string()?));
            } else {
                reader.skip()?;
            }
            Ok(())
        })?;
        reader.end()?;
        Ok(claims)
    }

    /// Both claims at once limit each other: a token never gets more from one than the other says.
    fn grants(&self) -> Grants {
        self.listed.unwrap_or(Grants::ALL).intersection(self.scoped.unwrap_or(Grants::ALL))
    }

    /// A prefix that no key can have is a mistake of whoever signed it.
    fn scope(&self) -> Result<Option<Arc<Scope>>, Malformed> {
        let Some(prefix) = self.prefix else { return Ok(None) };
        let prefix: Box<[u8]> = prefix.bytes().take(KEY_BYTES_MAX + 1).collect();
        match prefix.len() {
            0 => Ok(None),
            1..=KEY_BYTES_MAX => Ok(Some(Arc::new(Scope { namespace: None, prefix }))),
            _ => Err(Malformed),
        }
    }
}

fn listed_grants(reader: &mut Reader<'_>) -> Result<Grants, Malformed> {
    let mut grants = Grants::NONE;
    reader.elements(|reader| {
        let mut word = Word::default();
        reader.string()?.bytes().for_each(|byte| word.push(byte));
        grants = grants.union(word.grants());
        Ok(())
    })?;
    Ok(grants)
}

fn scoped_grants(scope: Text<'_>) -> Grants {
    let mut grants = Grants::NONE;
    let mut word = Word::default();
    for byte in scope.bytes() {
        if byte == b' ' {
            grants = grants.union(word.grants());
            word = Word::default();
        } else {
            word.push(byte);
        }
    }
    grants.union(word.grants())
}

/// A word that may name a grant, gathered byte by byte. What is too long to be a name only counts.
#[derive(Default)]
struct Word {
    bytes: [u8; NAME_BYTES_MAX],
    length: usize,
}

impl Word {
    fn push(&mut self, byte: u8) {
        if let Some(free) = self.bytes.get_mut(self.length) {
            *free = byte;
        }
        self.length += 1;
    }

    /// An unknown name grants nothing.
    fn grants(&self) -> Grants {
        self.bytes.get(..self.length).and_then(Grants::from_name).unwrap_or(Grants::NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::{ROOT_TOKEN_SECONDS, Verifier, VerifierConfig, root_token, sign};
    use crate::auth::{Grants, Identity, Unauthorized};
    use crate::limits::KEY_BYTES_MAX;

    const SECRET: &[u8] = b"secret";

    fn verifier(leeway_seconds: u64, require_exp: bool) -> Verifier {
        Verifier::new(VerifierConfig { enabled: true, secret: SECRET, leeway_seconds, require_exp })
    }

    fn grants(claims: &str) -> Result<Grants, Unauthorized> {
        verifier(0, false).verify(sign(SECRET, claims).as_bytes(), 1).map(|known| known.identity.grants)
    }

    #[test]
    fn a_token_is_good_from_nbf_until_just_before_exp() {
        let token = sign(SECRET, r#"{"exp":1000,"nbf":500,"iat":400,"sub":"","iss":""}"#);
        let verify = |leeway, now| verifier(leeway, true).verify(token.as_bytes(), now).map(|_| ());
        assert_eq!(verify(0, 499), Err(Unauthorized::NotYetValid));
        assert_eq!(verify(0, 500), Ok(()));
        assert_eq!(verify(0, 999), Ok(()));
        assert_eq!(verify(0, 1000), Err(Unauthorized::Expired));
        assert_eq!(verify(10, 489), Err(Unauthorized::NotYetValid));
        assert_eq!(verify(10, 490), Ok(()));
        assert_eq!(verify(10, 1009), Ok(()));
        assert_eq!(verify(10, 1010), Err(Unauthorized::Expired));
        assert_eq!(verify(u64::MAX, 0), Ok(()));
        assert_eq!(verify(u64::MAX, u64::MAX), Ok(()));
    }

    #[test]
    fn exp_is_required_unless_it_is_said_otherwise() {
        let token = sign(SECRET, "{}");
        assert_eq!(verifier(0, true).verify(token.as_bytes(), 1), Err(Unauthorized::ClaimsRefused));
        let known = verifier(0, false).verify(token.as_bytes(), 1).unwrap();
        assert_eq!((known.identity, known.scope), (Identity::UNLIMITED, None));
        let zero = sign(SECRET, r#"{"exp":0}"#);
        assert_eq!(verifier(0, false).verify(zero.as_bytes(), 0), Err(Unauthorized::Expired));
        let never = sign(SECRET, r#"{"exp":18446744073709551615}"#);
        assert!(verifier(0, true).verify(never.as_bytes(), u64::MAX).is_ok());
    }

    #[test]
    fn grants_and_scope_limit_a_token_and_each_other() {
        let read_write = Grants::KV_READ.union(Grants::KV_WRITE);
        for (claims, expected) in [
            (r#"{}"#, Grants::ALL),
            (r#"{"grants":[]}"#, Grants::NONE),
            (r#"{"scope":""}"#, Grants::NONE),
            (r#"{"grants":["kv:read","kv:write"]}"#, read_write),
            (r#"{"grants":["kv:read","kv:read","KV:WRITE","nonsense",""]}"#, Grants::KV_READ),
            (r#"{"grants":["kv:read kv:write"]}"#, Grants::NONE),
            (r#"{"grants":["\u006bv:read"]}"#, Grants::KV_READ),
            (r#"{"scope":"kv:read kv:write"}"#, read_write),
            (r#"{"scope":"  kv:read   openid kv:write "}"#, read_write),
            (r#"{"scope":"kv:read\u0020kv:write"}"#, read_write),
            (r#"{"scope":"kv:read\tkv:write"}"#, Grants::NONE),
            (r#"{"scope":"kv:readkv:readkv:readkv:readkv:read kv:write"}"#, Grants::KV_WRITE),
            (r#"{"grants":["kv:read","kv:list"],"scope":"kv:read kv:write"}"#, Grants::KV_READ),
            (r#"{"grants":["admin"],"scope":""}"#, Grants::NONE),
        ] {
            assert_eq!(grants(claims), Ok(expected), "{claims}");
        }
    }

    #[test]
    fn grants_and_scope_of_another_type_are_refused() {
        for claims in [
            r#"{"grants":null}"#,
            r#"{"grants":"kv:read"}"#,
            r#"{"grants":{}}"#,
            r#"{"grants":[1]}"#,
            r#"{"grants":["kv:read",null]}"#,
            r#"{"grants":[["kv:read"]]}"#,
            r#"{"scope":null}"#,
            r#"{"scope":["kv:read"]}"#,
            r#"{"scope":1}"#,
        ] {
            assert_eq!(grants(claims), Err(Unauthorized::ClaimsRefused), "{claims}");
        }
    }

    #[test]
    fn a_root_token_has_every_grant_and_ends_after_156_weeks() {
        let token = root_token(SECRET, "http://\"localhost\":7020/", 1_000);
        let identity = verifier(0, true).verify(token.as_bytes(), 1_000).unwrap().identity;
        assert_eq!(identity.grants, Grants::ALL);
        assert_eq!(identity.expires, 1_000 + ROOT_TOKEN_SECONDS);
    }

    #[test]
    fn a_prefix_limits_a_token_and_one_that_no_key_has_is_refused() {
        let scope = |claims: &str| verifier(0, false).verify(sign(SECRET, claims).as_bytes(), 1);
        let prefix = |claims: &str| scope(claims).map(|known| known.scope.map(|scope| scope.prefix.to_vec()));
        assert_eq!(prefix("{}"), Ok(None));
        assert_eq!(prefix(r#"{"prefix":""}"#), Ok(None));
        assert_eq!(prefix(r#"{"prefix":"\u0061/\u00e9"}"#), Ok(Some("a/\u{e9}".as_bytes().to_vec())));
        let of = |bytes: usize| format!(r#"{{"prefix":"{}"}}"#, "p".repeat(bytes));
        assert!(prefix(&of(KEY_BYTES_MAX - 1)).is_ok() && prefix(&of(KEY_BYTES_MAX)).is_ok());
        for claims in [&of(KEY_BYTES_MAX + 1), r#"{"prefix":null}"#, r#"{"prefix":7}"#, r#"{"prefix":["a"]}"#]
        {
            assert_eq!(prefix(claims), Err(Unauthorized::ClaimsRefused), "{claims}");
        }
    }

    #[test]
    fn the_subject_is_read_with_its_escapes_resolved() {
        let subject = |claims: &str| {
            verifier(0, false)
                .verify_with_subject(sign(SECRET, claims).as_bytes(), 1)
                .map(|(_, subject)| subject)
        };
        assert_eq!(subject("{}"), Ok(String::new()));
        assert_eq!(subject(r#"{"sub":"\u00e9\"a"}"#), Ok("\u{e9}\"a".to_owned()));
        assert_eq!(subject(r#"{"sub":1}"#), Err(Unauthorized::ClaimsRefused));
    }

    #[test]
    fn tokens_under_the_secret_before_are_good_beside_those_under_the_present_one() {
        let both = verifier(0, false).with_previous(b"the one before");
        for (secret, good) in [(SECRET, true), (b"the one before", true), (b"another", false), (b"", false)] {
            assert_eq!(both.verify(sign(secret, "{}").as_bytes(), 1).is_ok(), good);
        }
        let old = sign(b"the one before", "{}");
        assert_eq!(
            verifier(0, false).verify(old.as_bytes(), 1).map(|_| ()),
            Err(Unauthorized::SignatureWrong)
        );
    }

    #[test]
    #[should_panic(expected = "authentication needs a secret")]
    fn an_empty_secret_makes_no_verifier() {
        Verifier::new(VerifierConfig { enabled: true, secret: b"", leeway_seconds: 0, require_exp: true });
    }
}
