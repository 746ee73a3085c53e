//! The form of tokens that mean nothing by themselves: API keys and app tokens.
//!
//! ```text
//! lkv_ 3fK9a2Qd71Xc 0Tn…(43)…w5 4hR1zb
//! kind      id        secret    checksum        all in base62, 65 characters, no blanks
//! ```
//!
//! The id is public: it names the token in lists and in paths, and finds its record. The secret is 43
//! characters drawn at random, 256 bits. The checksum (CRC-32 of everything before it) tells a typing
//! error, or garbage, from a key before anything is hashed; it protects nothing.

use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::{Zeroize, Zeroizing};

const KIND_BYTES: usize = 4;
const ID_BYTES: usize = 12;
const SECRET_BYTES: usize = 43;
const CHECKSUM_BYTES: usize = 6;

/// Length of every such token.
pub const TOKEN_BYTES: usize = KIND_BYTES + ID_BYTES + SECRET_BYTES + CHECKSUM_BYTES;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Random bytes from here on would favour some letters.
const FAIR_BYTES: u8 = (256 / ALPHABET.len() * ALPHABET.len()) as u8;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An API key.
    ApiKey,
    /// Reads an app.
    AppRead,
    /// Reads and writes an app.
    AppReadWrite,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::ApiKey, Kind::AppRead, Kind::AppReadWrite];

    /// What its tokens begin with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Kind::ApiKey => "lkv_",
            Kind::AppRead => "lkr_",
            Kind::AppReadWrite => "lkw_",
        }
    }

    /// The kind that a token begins with. No JWT does: its first letters would have to decode to `{`.
    pub fn of(token: &[u8]) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| token.starts_with(kind.prefix().as_bytes()))
    }
}

/// Names a token, or an app. Public.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id([u8; ID_BYTES]);

impl Id {
    /// An id as it stands in a path.
    pub fn parse(text: &[u8]) -> Option<Id> {
        let bytes: [u8; ID_BYTES] = text.try_into().ok()?;
        bytes.iter().all(u8::is_ascii_alphanumeric).then_some(Id(bytes))
    }

    /// A new one.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn draw() -> Result<Id, NoRandomness> {
        let mut bytes = [0; ID_BYTES];
        draw(&mut bytes)?;
        Ok(Id(bytes))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| fmt::Write::write_char(out, char::from(*byte)))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Id({self})")
    }
}

/// The system has no randomness to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRandomness;

/// Takes a token apart, if its length, letters and checksum are right.
pub fn parse(token: &[u8]) -> Option<(Kind, Id)> {
    let kind = Kind::of(token)?;
    let token: &[u8; TOKEN_BYTES] = token.try_into().ok()?;
    let (signed, checksum) = token.split_at(TOKEN_BYTES - CHECKSUM_BYTES);
    let good = signed[KIND_BYTES..].iter().all(u8::is_ascii_alphanumeric) && checksum == checksum_of(signed);
    if good { Id::parse(&signed[KIND_BYTES..][..ID_BYTES]).map(|id| (kind, id)) } else { None }
}

/// A new token. Its text is wiped when it is dropped.
///
/// # Errors
/// When the system has no randomness to give.
pub fn draw_token(kind: Kind) -> Result<(Id, Zeroizing<String>), NoRandomness> {
    let mut bytes = [0; TOKEN_BYTES];
    let (signed, checksum) = bytes.split_at_mut(TOKEN_BYTES - CHECKSUM_BYTES);
    signed[..KIND_BYTES].copy_from_slice(kind.prefix().as_bytes());
    draw(&mut signed[KIND_BYTES..])?;
    checksum.copy_from_slice(&checksum_of(signed));
    let mut id = [0; ID_BYTES];
    id.copy_from_slice(&bytes[KIND_BYTES..][..ID_BYTES]);
    let text = Zeroizing::new(bytes.iter().map(|byte| char::from(*byte)).collect());
    bytes.zeroize();
    Ok((Id(id), text))
}

/// Fills a text with letters, each equally likely.
fn draw(letters: &mut [u8]) -> Result<(), NoRandomness> {
    let system = SystemRandom::new();
    let mut drawn = Zeroizing::new([0; 64]);
    let mut left = letters.iter_mut();
    loop {
        system.fill(drawn.as_mut_slice()).map_err(|_| NoRandomness)?;
        for byte in drawn.iter().filter(|byte| **byte < FAIR_BYTES) {
            match left.next() {
                Some(letter) => *letter = ALPHABET[usize::from(*byte) % ALPHABET.len()],
                None => return Ok(()),
            }
        }
    }
}

/// CRC-32 in base62, the most significant digit first.
fn checksum_of(signed: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut rest = crc32fast::hash(signed) as usize;
    let mut digits = [0; CHECKSUM_BYTES];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[rest % ALPHABET.len()];
        rest /= ALPHABET.len();
    }
    digits
}

/// The token with the checksum that its other letters ask for.
#[cfg(test)]
pub(super) fn with_checksum(token: &[u8]) -> Vec<u8> {
    let signed = &token[..TOKEN_BYTES - CHECKSUM_BYTES];
    [signed, &checksum_of(signed)].concat()
}

const _: () = assert!(62_u64.pow(CHECKSUM_BYTES as u32) > u32::MAX as u64);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{ALPHABET, Id, Kind, TOKEN_BYTES, draw_token, parse};

    #[test]
    fn a_drawn_token_parses_to_its_kind_and_id() {
        let mut seen = HashSet::new();
        for kind in Kind::ALL {
            for _ in 0..100 {
                let (id, text) = draw_token(kind).unwrap();
                assert_eq!(text.len(), TOKEN_BYTES);
                assert_eq!(parse(text.as_bytes()), Some((kind, id)));
                assert_eq!(Id::parse(id.to_string().as_bytes()), Some(id));
                assert!(text.starts_with(&format!("{}{id}", kind.prefix())));
                assert!(seen.insert(text.to_string()));
            }
        }
    }

    #[test]
    fn every_letter_is_drawn_and_none_much_more_than_others() {
        let mut counts = [0_u32; 256];
        for _ in 0..2_000 {
            let (_, text) = draw_token(Kind::ApiKey).unwrap();
            text.bytes().skip(4).take(55).for_each(|byte| counts[usize::from(byte)] += 1);
        }
        // 110,000 letters, 1,774 of each: five standard deviations are 210.
        for letter in ALPHABET {
            let count = counts[usize::from(*letter)];
            assert!((1_500..2_050).contains(&count), "{} was drawn {count} times", char::from(*letter));
        }
    }

    #[test]
    fn a_token_with_any_other_byte_is_none() {
        let (_, text) = draw_token(Kind::ApiKey).unwrap();
        for at in 0..TOKEN_BYTES {
            for byte in [b'0', b'z', b'_', b'-', b'.', b' ', 0, 0xff] {
                let mut other = text.as_bytes().to_vec();
                if std::mem::replace(&mut other[at], byte) != byte {
                    assert_eq!(parse(&other), None, "byte {at}");
                }
            }
        }
        let text = text.as_bytes();
        for other in [&text[..TOKEN_BYTES - 1], &[text, b"0"].concat(), &text[..4], b"", b"lkv_"] {
            assert_eq!(parse(other), None);
        }
        // The same letters under another kind have another checksum.
        assert_eq!(parse(&[b"lkw_", &text[4..]].concat()), None);
    }

    #[test]
    fn an_id_is_twelve_letters_or_digits() {
        assert!(Id::parse(b"0123456789aZ").is_some());
        for other in ["", "0123456789a", "0123456789aZ0", "0123456789a-", "0123456789a\u{e9}"] {
            assert_eq!(Id::parse(other.as_bytes()), None);
        }
    }

    #[test]
    fn the_checksum_is_a_crc_32_in_base62() {
        // CRC-32 of "123456789" is 0xCBF43926, the check value of the catalogues.
        assert_eq!(super::checksum_of(b"123456789"), *b"3jZRME");
    }
}
