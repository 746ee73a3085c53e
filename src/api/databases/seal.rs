//! Values that are not kept as the JSON they are: compressed, or sealed with a key that only the client has.
//!
//! ```text
//! plain        the JSON text
//! compressed   0x01 | length of the text, 32 bits | zstd
//! sealed       0x02 | length of the text, 32 bits | salt (16) | nonce (12) | AES-256-GCM of one of the above | tag (16)
//! ```
//!
//! No JSON text begins with these bytes, so a value says by itself what it is. The key of a seal is derived
//! for each value, by HKDF-SHA256 with a random salt, from the text that the client sends along: to derive it
//! slowly would hold everyone up, so that text should be hard to guess. Header and name of the entry are
//! authenticated; the database is not, since it may be renamed.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};

use crate::limits::VALUE_COPY_BYTES_MAX;
use crate::memory::Large;

use super::super::message::Problem;

const COMPRESSED: u8 = 1;
const SEALED: u8 = 2;

const HEADER_BYTES: usize = 5;
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// What is shorter is not worth compressing.
const COMPRESS_BYTES_MIN: usize = 256;

/// A fast level: values are small, and somebody waits.
const ZSTD_LEVEL: i32 = 1;

/// Binds a derived key to its use.
const PURPOSE: &[&[u8]] = &[b"lucid databases value"];

/// The text of a value, or what it is kept as.
#[derive(Debug)]
pub(super) enum Text {
    /// Up to [`VALUE_COPY_BYTES_MAX`].
    Small(Vec<u8>),
    /// More.
    Large(Large),
}

impl Text {
    /// Takes bytes to where their length belongs.
    pub fn of(bytes: Vec<u8>) -> Text {
        match bytes.len() {
            0..=VALUE_COPY_BYTES_MAX => Text::Small(bytes),
            _ => Text::Large(Large::copy_of(&bytes)),
        }
    }
}

impl std::ops::Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Text::Small(bytes) => bytes,
            Text::Large(large) => large,
        }
    }
}

/// Whether a value is kept as the text that it is.
#[inline]
pub(in super::super) fn is_plain(kept: &[u8]) -> bool {
    kept.first().is_none_or(|first| *first > SEALED)
}

/// Whether only its key opens a value.
pub(super) fn is_sealed(kept: &[u8]) -> bool {
    kept.first() == Some(&SEALED)
}

/// Bytes that are gone through to open a value.
pub(super) fn work_bytes(kept: &[u8]) -> usize {
    length_of(kept).max(kept.len())
}

/// The length of the text that a value opens to.
fn length_of(kept: &[u8]) -> usize {
    match kept.get(1..HEADER_BYTES) {
        Some(length) if !is_plain(kept) => {
            length.try_into().map(u32::from_le_bytes).unwrap_or_default() as usize
        }
        _ => kept.len(),
    }
}

fn header(kind: u8, length: usize) -> [u8; HEADER_BYTES] {
    let [a, b, c, d] = (length as u32).to_le_bytes();
    [kind, a, b, c, d]
}

/// What a text is kept as. Compressing what gets no shorter by it leaves it as it is.
///
/// # Errors
/// When the system has no randomness to give.
pub(super) fn close(
    text: Vec<u8>,
    name: &str,
    encryption_key: Option<&str>,
    compress: bool,
) -> Result<Vec<u8>, Problem> {
    let length = text.len();
    let inner = match compress {
        true => compressed(&text).unwrap_or(text),
        false => text,
    };
    let Some(encryption_key) = encryption_key else { return Ok(inner) };
    let header = header(SEALED, length);
    let mut drawn = [0; SALT_BYTES + NONCE_BYTES];
    SystemRandom::new().fill(&mut drawn).map_err(|_| Problem::Busy)?;
    let mut kept = Vec::with_capacity(HEADER_BYTES + drawn.len() + inner.len() + TAG_BYTES);
    kept.extend_from_slice(&header);
    kept.extend_from_slice(&drawn);
    kept.extend_from_slice(&inner);
    let (key, nonce) = derive(encryption_key, &drawn).ok_or(Problem::Busy)?;
    let sealed = &mut kept[HEADER_BYTES + drawn.len()..];
    let aad = Aad::from(authenticated(&header, name));
    let tag = key.seal_in_place_separate_tag(nonce, aad, sealed).map_err(|_| Problem::Busy)?;
    kept.extend_from_slice(tag.as_ref());
    Ok(kept)
}

/// The text of a kept value.
///
/// # Errors
/// When it is sealed with another key, or with one where none is given.
pub(in super::super) fn open(
    kept: &[u8],
    name: &[u8],
    encryption_key: Option<&str>,
) -> Result<Vec<u8>, Problem> {
    if !is_sealed(kept) {
        return inflate(kept).ok_or(Problem::Sealed);
    }
    let encryption_key = encryption_key.ok_or(Problem::Sealed)?;
    let (header, rest) = kept.split_at_checked(HEADER_BYTES).ok_or(Problem::Sealed)?;
    let (drawn, sealed) = rest.split_first_chunk().ok_or(Problem::Sealed)?;
    let (key, nonce) = derive(encryption_key, drawn).ok_or(Problem::Sealed)?;
    let mut inner = sealed.to_vec();
    let aad = Aad::from([header, name].concat());
    let length = key.open_in_place(nonce, aad, &mut inner).map_err(|_| Problem::Sealed)?.len();
    inner.truncate(length);
    match is_plain(&inner) {
        true => Ok(inner),
        false => inflate(&inner).ok_or(Problem::Sealed),
    }
}

fn authenticated(header: &[u8], name: &str) -> Vec<u8> {
    [header, name.as_bytes()].concat()
}

fn derive(encryption_key: &str, drawn: &[u8; SALT_BYTES + NONCE_BYTES]) -> Option<(LessSafeKey, Nonce)> {
    let (salt, nonce) = drawn.split_at(SALT_BYTES);
    let secret = Salt::new(HKDF_SHA256, salt).extract(encryption_key.as_bytes());
    let key = UnboundKey::from(secret.expand(PURPOSE, &AES_256_GCM).ok()?);
    Some((LessSafeKey::new(key), Nonce::try_assume_unique_for_key(nonce).ok()?))
}

fn compressed(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() < COMPRESS_BYTES_MIN {
        return None;
    }
    let packed = zstd::bulk::compress(text, ZSTD_LEVEL).ok()?;
    let kept = [&header(COMPRESSED, text.len())[..], &packed].concat();
    (kept.len() < text.len()).then_some(kept)
}

/// The text of a value that is not sealed.
fn inflate(kept: &[u8]) -> Option<Vec<u8>> {
    match kept.first() {
        Some(&COMPRESSED) => zstd::bulk::decompress(kept.get(HEADER_BYTES..)?, length_of(kept)).ok(),
        _ => Some(kept.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::{close, is_plain, is_sealed, open, work_bytes};
    use crate::api::message::Problem;

    fn text(length: usize) -> Vec<u8> {
        format!("\"{}\"", "a".repeat(length - 2)).into_bytes()
    }

    #[test]
    fn what_is_kept_opens_to_what_it_was() {
        for length in [2, 10, 255, 256, 100_000] {
            for compress in [false, true] {
                for key in [None, Some("k"), Some("")] {
                    let kept = close(text(length), "name", key, compress).unwrap();
                    assert_eq!(open(&kept, b"name", key).unwrap(), text(length));
                    assert_eq!(is_sealed(&kept), key.is_some());
                    assert_eq!(is_plain(&kept), key.is_none() && (!compress || length < 256));
                    assert_eq!(work_bytes(&kept), length.max(kept.len()));
                    assert!(!compress || length < 256 || kept.len() < length / 2);
                }
            }
        }
    }

    #[test]
    fn another_key_another_name_and_a_changed_byte_open_nothing() {
        let kept = close(text(300), "name", Some("key"), true).unwrap();
        for (name, key) in [("name", Some("Key")), ("name", Some("")), ("name", None), ("nam", Some("key"))] {
            assert_eq!(open(&kept, name.as_bytes(), key), Err(Problem::Sealed), "{name} {key:?}");
        }
        for at in 1..kept.len() {
            let mut changed = kept.clone();
            changed[at] ^= 1;
            assert_eq!(open(&changed, b"name", Some("key")), Err(Problem::Sealed), "{at}");
            assert_eq!(open(&kept[..at], b"name", Some("key")), Err(Problem::Sealed), "{at}");
        }
        let packed = close(text(300), "name", None, true).unwrap();
        assert_eq!(open(&packed[..packed.len() - 1], b"name", None), Err(Problem::Sealed));
    }

    #[test]
    fn the_same_value_is_never_sealed_the_same_way_and_shows_nothing() {
        let [one, other] =
            [(); 2].map(|()| close(b"\"secret\"".to_vec(), "name", Some("key"), false).unwrap());
        assert_ne!(one[5..33], other[5..33]);
        assert_ne!(one[33..], other[33..]);
        assert!(memchr::memmem::find(&one, b"secret").is_none());
    }

    #[test]
    fn what_does_not_get_shorter_is_kept_as_it_is() {
        let noise: String =
            (0..600_u32).map(|n| char::from(33 + (n.wrapping_mul(2_654_435_761) >> 20) as u8 % 90)).collect();
        let noise = format!("[{}]", noise.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(","));
        let kept = close(noise.clone().into_bytes(), "name", None, true).unwrap();
        assert!(kept.len() <= noise.len());
        assert_eq!(open(&kept, b"name", None).unwrap(), noise.as_bytes());
        assert_eq!(close(text(100), "name", None, true).unwrap(), text(100));
    }
}
