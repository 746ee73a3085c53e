//! Decodes values that were stored with a content coding, for clients that do not accept it.
//!
//! Owns the bounds: decoded bytes stop at the limit of a value, and a zstd frame may ask for no
//! more window than RFC 9659 lets a content coding have. [`Decode`] holds all it needs, so that it
//! can be sent to a thread that may take its time; the reactor never decodes.

use std::io::Read;

use crate::limits::ZSTD_WINDOW_LOG_MAX;
use crate::memory::{Large, LargeBuf};
use crate::op::{Encoding, Entry, Meta, Payload};

use super::databases;

/// Why a value has no decoded form: its bytes are not what its coding says, or the decoded ones are
/// over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotDecodable;

/// A value to be decoded.
#[derive(Debug)]
pub struct Decode {
    encoded: Large,
    limit: u64,
    about: About,
}

/// What is known of the value beside its bytes.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) meta: Meta,
    pub(super) content_type: Vec<u8>,
    pub(super) encoding: Encoding,
    /// The entry is gone: these are its last bytes.
    pub(super) deleted: bool,
    /// It is of a database, and compressed as those are.
    pub(super) of_database: bool,
}

/// What came of a [`Decode`].
#[derive(Debug)]
pub struct Decoded {
    pub(super) about: About,
    pub(super) result: Result<Large, NotDecodable>,
    pub(super) encoded: Large,
}

impl Decoded {
    /// Bytes that decoding made, for one client, beside those that the store has.
    pub fn made_bytes(&self) -> u64 {
        self.result.as_ref().map_or(0, |value| value.len() as u64)
    }

    /// Whether the client must get these bytes since they are nowhere else.
    pub fn is_last_copy(&self) -> bool {
        self.about.deleted
    }
}

impl Decode {
    /// The work of decoding an entry; `limit` bounds the result. Copies a small value, shares a
    /// large one.
    pub(super) fn new(entry: &Entry<'_>, deleted: bool, limit: u64) -> Decode {
        let encoded = match entry.value {
            Payload::Bytes(bytes) => Large::copy_of(bytes),
            Payload::Large(large) => large.clone(),
        };
        let content_type = entry.content_type.to_vec();
        let about =
            About { meta: entry.meta, content_type, encoding: entry.encoding, deleted, of_database: false };
        Decode { encoded, limit, about }
    }

    /// The same of a value that a database keeps compressed.
    pub(super) fn of_database(entry: &Entry<'_>) -> Decode {
        let mut decode = Decode::new(entry, false, 0);
        decode.about.of_database = true;
        decode
    }

    /// Does it. May take tens of milliseconds.
    pub fn run(self) -> Decoded {
        let result = match self.about.of_database {
            true => {
                let text = databases::seal::open(&self.encoded, b"", None);
                text.map(|text| Large::copy_of(&text)).map_err(|_| NotDecodable)
            }
            false => decode(&self.encoded, self.about.encoding, self.limit),
        };
        Decoded { about: self.about, result, encoded: self.encoded }
    }
}

/// Decodes `encoded`, as long as the result is at most `limit` bytes.
fn decode(encoded: &[u8], encoding: Encoding, limit: u64) -> Result<Large, NotDecodable> {
    match encoding {
        Encoding::Identity => Ok(Large::copy_of(encoded)),
        Encoding::Gzip => read_bounded(flate2::bufread::MultiGzDecoder::new(encoded), limit),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(encoded).map_err(|_| NotDecodable)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|_| NotDecodable)?;
            read_bounded(decoder, limit)
        }
    }
}

fn read_bounded(decoder: impl Read, limit: u64) -> Result<Large, NotDecodable> {
    let mut decoded = LargeBuf::with_capacity(0);
    let length = std::io::copy(&mut decoder.take(limit.saturating_add(1)), &mut decoded);
    match length.map_err(|_| NotDecodable)? {
        length if length > limit => Err(NotDecodable),
        _ => Ok(decoded.freeze()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::{NotDecodable, decode};
    use crate::op::Encoding;

    pub fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    pub fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(bytes, 1).unwrap()
    }

    #[test]
    fn both_codings_decode_and_several_members_follow_each_other() {
        let text = b"hello ".repeat(1_000);
        for (encoding, encoded) in [(Encoding::Gzip, gzip(&text)), (Encoding::Zstd, zstd(&text))] {
            assert_eq!(decode(&encoded, encoding, 6_000).unwrap()[..], text);
            let twice = [&encoded[..], &encoded].concat();
            assert_eq!(decode(&twice, encoding, 12_000).unwrap()[..], text.repeat(2));
        }
    }

    #[test]
    fn the_limit_holds_to_the_byte() {
        for (encoding, encoded) in
            [(Encoding::Gzip, gzip(&[0; 10_000])), (Encoding::Zstd, zstd(&[0; 10_000]))]
        {
            assert!(decode(&encoded, encoding, 10_001).is_ok());
            assert!(decode(&encoded, encoding, 10_000).is_ok());
            assert_eq!(decode(&encoded, encoding, 9_999).unwrap_err(), NotDecodable);
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = zstd(&vec![0; 8 << 20]);
        assert!(bomb.len() < 8 << 10);
        assert_eq!(decode(&bomb, Encoding::Zstd, 1 << 20).unwrap_err(), NotDecodable);
    }

    #[test]
    fn damaged_cut_and_foreign_bytes_are_not_decodable() {
        for (encoding, encoded) in [(Encoding::Gzip, gzip(b"hello")), (Encoding::Zstd, zstd(b"hello"))] {
            let mut damaged = encoded.clone();
            damaged[1] ^= 0xff;
            let trailing = [&encoded[..], b"junk"].concat();
            for bytes in [&encoded[..encoded.len() - 1], &encoded[..3], &damaged, b"hello", &trailing] {
                assert_eq!(decode(bytes, encoding, 1_000).unwrap_err(), NotDecodable, "{bytes:?}");
            }
        }
    }
}
