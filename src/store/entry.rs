//! How an entry lies in the log: a header that holds only what the entry has, then its key and value.
//!
//! | bytes | field | present |
//! |---|---|---|
//! | 1 | flags | always |
//! | 5 or 8 | version, as its distance from the segment's base or whole | always |
//! | 2 or 4 | lengths: key − 1 and value in 8 bits each, or in 10 and 22 | always |
//! | 1 | encoding, lock, lease | when there is one |
//! | 3 | space (the namespace's present id, see `namespaces`) | unless it is the first |
//! | 6 | expiry, Unix milliseconds | when it expires |
//! | 1 | content type's number, 0 for one that stands inline | unless it is the default |
//! | 8 | lock token | while locked |
//! | 6 | end of the lease, Unix milliseconds | when the lock has one |
//! | 1 | length of the inline content type | when it stands inline |
//! | … | inline content type, key, value (or the number of a large value) | |
//!
//! A 16-byte key with a 64-byte value of the default type has a header of 8 bytes. Bytes never change
//! once they are written, but for the bit that says the entry is dead, which only the shard's owner
//! looks at. Decoding is bounds-checked: bytes that are no entry give nonsense or a panic, never
//! undefined behaviour.

use crate::clock::Version;
use crate::limits;
use crate::op::Encoding;

/// Longest header, in bytes.
pub const HEADER_BYTES_MAX: usize = 1 + 8 + 4 + 1 + 3 + 6 + 1 + 8 + 6 + 1;

/// Bytes that stand for a large value in its entry.
pub const LARGE_REFERENCE_BYTES: usize = 4;

/// Expiry and lease times are kept in 6 bytes; later ones (the year 10,889) are cut to this.
pub const TIME_MS_MAX: u64 = (1 << 48) - 1;

/// Most spaces that can have entries at one time.
pub const SPACES_MAX: u32 = 1 << 24;

const DEAD: u8 = 1;
const WIDE_LENGTHS: u8 = 1 << 1;
const WIDE_VERSION: u8 = 1 << 2;
const EXPIRES: u8 = 1 << 3;
const SPACE: u8 = 1 << 4;
const TYPED: u8 = 1 << 5;
const MORE: u8 = 1 << 6;
const LARGE: u8 = 1 << 7;

const ENCODING: u8 = 0b11;
const LOCKED: u8 = 1 << 2;
const LEASED: u8 = 1 << 3;

const VERSION_BYTES: usize = 5;
const KEY_LENGTH_BITS: u32 = 10;

const _: () = assert!(limits::KEY_BYTES_MAX <= 1 << KEY_LENGTH_BITS);
const _: () = assert!(limits::VALUE_COPY_BYTES_MAX < 1 << (32 - KEY_LENGTH_BITS));
const _: () = assert!(limits::CONTENT_TYPE_BYTES_MAX <= u8::MAX as usize);

/// A lock on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The fencing token that frees it and passes it.
    pub token: u64,
    /// When it frees itself, in milliseconds since the Unix epoch.
    pub until_ms: Option<u64>,
}

impl Lock {
    /// Whether the lock still holds.
    pub fn holds(&self, now: crate::clock::Now) -> bool {
        self.until_ms.is_none_or(|until| now.unix_ms < until)
    }
}

/// Where an entry's content type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeName {
    /// [`crate::op::CONTENT_TYPE_DEFAULT`].
    Default,
    /// In the table of types, under this number, 1 to 255.
    Interned(u8),
    /// In front of the key, this long.
    Inline(u8),
}

/// The decoded header of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// When the entry's bytes were written.
    pub version: Version,
    /// 1 to [`limits::KEY_BYTES_MAX`].
    pub key_len: usize,
    /// Bytes of the value in the log.
    pub value_len: usize,
    /// Number of the space it belongs to.
    pub space: u32,
    /// When it expires.
    pub expires_ms: Option<u64>,
    /// Its lock.
    pub lock: Option<Lock>,
    /// Its content type.
    pub content_type: TypeName,
    /// How its value is encoded.
    pub encoding: Encoding,
    /// The value is the number of a large value.
    pub large: bool,
    /// It is no longer in the index.
    pub dead: bool,
    /// Length of this header in the log.
    pub header_len: usize,
}

/// The eight bytes of a header without anything that most entries lack: flags, 5 bytes of version, and
/// the lengths of key and value. `None` when the header at the start of `bytes` is another.
#[inline]
fn usual(bytes: &[u8]) -> Option<u64> {
    let word = u64::from_le_bytes(*bytes.first_chunk()?);
    (word as u8 == 0).then_some(word)
}

/// Whether the entry at the start of `bytes` is that of this key.
#[inline]
pub fn is_of(bytes: &[u8], space: u32, key: &[u8]) -> bool {
    if usual(bytes).is_some_and(|word| (word >> 48) as u8 as usize + 1 != key.len()) {
        return false;
    }
    let header = Header::decode(bytes, 0);
    header.key_len == key.len() && header.space == space && header.key(bytes) == key
}

impl Header {
    /// Reads the header at the start of `bytes`, in a segment with this base.
    #[inline]
    pub fn decode(bytes: &[u8], base: u64) -> Header {
        let Some(word) = usual(bytes) else { return Header::decode_any(bytes, base) };
        Header {
            version: Version(base.wrapping_add(word >> 8 & ((1 << (8 * VERSION_BYTES)) - 1))),
            key_len: 1 + (word >> 48) as u8 as usize,
            value_len: (word >> 56) as usize,
            space: 0,
            expires_ms: None,
            lock: None,
            content_type: TypeName::Default,
            encoding: Encoding::Identity,
            large: false,
            dead: false,
            header_len: size_of::<u64>(),
        }
    }

    #[inline(never)]
    fn decode_any(bytes: &[u8], base: u64) -> Header {
        let flags = bytes[0];
        let mut fields = Fields { bytes, at: 1 };
        let version = if flags & WIDE_VERSION == 0 {
            base.wrapping_add(fields.number::<VERSION_BYTES>())
        } else {
            fields.number::<8>()
        };
        let (key_len, value_len) = if flags & WIDE_LENGTHS == 0 {
            let both = fields.number::<2>() as usize;
            (1 + (both & 0xff), both >> 8)
        } else {
            let both = fields.number::<4>() as usize;
            (1 + (both & ((1 << KEY_LENGTH_BITS) - 1)), both >> KEY_LENGTH_BITS)
        };
        let more = if flags & MORE == 0 { 0 } else { fields.number::<1>() as u8 };
        let space = if flags & SPACE == 0 { 0 } else { fields.number::<3>() as u32 };
        let expires_ms = (flags & EXPIRES != 0).then(|| fields.number::<6>());
        let type_number = if flags & TYPED == 0 { None } else { Some(fields.number::<1>() as u8) };
        let lock = (more & LOCKED != 0).then(|| Lock {
            token: fields.number::<8>(),
            until_ms: (more & LEASED != 0).then(|| fields.number::<6>()),
        });
        let content_type = match type_number {
            None => TypeName::Default,
            Some(0) => TypeName::Inline(fields.number::<1>() as u8),
            Some(number) => TypeName::Interned(number),
        };
        let encoding = match more & ENCODING {
            1 => Encoding::Gzip,
            2 => Encoding::Zstd,
            _ => Encoding::Identity,
        };
        Header {
            version: Version(version),
            key_len,
            value_len,
            space,
            expires_ms,
            lock,
            content_type,
            encoding,
            large: flags & LARGE != 0,
            dead: flags & DEAD != 0,
            header_len: fields.at,
        }
    }

    /// Writes the header for a segment with this base, and answers its length.
    pub fn encode(&self, base: u64, out: &mut [u8; HEADER_BYTES_MAX]) -> usize {
        let distance = self.version.0.wrapping_sub(base);
        let wide_version = distance >> (8 * VERSION_BYTES) != 0;
        let wide_lengths = self.key_len > 256 || self.value_len > 255;
        let more = self.encoding as u8
            | if self.lock.is_some() { LOCKED } else { 0 }
            | if self.lock.is_some_and(|lock| lock.until_ms.is_some()) { LEASED } else { 0 };
        let set = |when: bool, flag: u8| if when { flag } else { 0 };
        out[0] = set(wide_lengths, WIDE_LENGTHS)
            | set(wide_version, WIDE_VERSION)
            | set(self.expires_ms.is_some(), EXPIRES)
            | set(self.space != 0, SPACE)
            | set(self.content_type != TypeName::Default, TYPED)
            | set(more != 0, MORE)
            | set(self.large, LARGE);
        let mut at = 1;
        let mut put = |number: u64, len: usize| {
            out[at..at + len].copy_from_slice(&number.to_le_bytes()[..len]);
            at += len;
        };
        match wide_version {
            false => put(distance, VERSION_BYTES),
            true => put(self.version.0, 8),
        }
        let (key, value) = (self.key_len as u64 - 1, self.value_len as u64);
        match wide_lengths {
            false => put(key | value << 8, 2),
            true => put(key | value << KEY_LENGTH_BITS, 4),
        }
        if more != 0 {
            put(more.into(), 1);
        }
        if self.space != 0 {
            put(self.space.into(), 3);
        }
        if let Some(expires_ms) = self.expires_ms {
            put(expires_ms.min(TIME_MS_MAX), 6);
        }
        match self.content_type {
            TypeName::Default => {}
            TypeName::Interned(number) => put(number.into(), 1),
            TypeName::Inline(_) => put(0, 1),
        }
        if let Some(lock) = self.lock {
            put(lock.token, 8);
            if let Some(until_ms) = lock.until_ms {
                put(until_ms.min(TIME_MS_MAX), 6);
            }
        }
        if let TypeName::Inline(len) = self.content_type {
            put(len.into(), 1);
        }
        at
    }

    /// Length of what stands behind the header: inline type, key and value.
    pub fn tail_len(&self) -> usize {
        self.type_len() + self.key_len + self.value_len
    }

    /// Length of the entry, before it is rounded up to the log's unit.
    pub fn len(&self) -> usize {
        self.header_len + self.tail_len()
    }

    /// The most that the entry can take in any segment, before rounding.
    pub fn len_max(&self) -> usize {
        HEADER_BYTES_MAX + self.tail_len()
    }

    /// The inline content type; empty when the type is elsewhere. `bytes` starts at the entry.
    pub fn inline_type<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.header_len..][..self.type_len()]
    }

    /// The key. `bytes` starts at the entry.
    #[inline]
    pub fn key<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.header_len + self.type_len()..][..self.key_len]
    }

    /// The value, or what stands for it. `bytes` starts at the entry.
    #[inline]
    pub fn value<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.header_len + self.type_len() + self.key_len..][..self.value_len]
    }

    /// The number of the large value that this entry refers to.
    pub fn large_number(&self, bytes: &[u8]) -> Option<u32> {
        let number = self.value(bytes).try_into().ok().map(u32::from_le_bytes);
        if self.large { number } else { None }
    }

    /// Whether the entry has passed its time.
    #[inline]
    pub fn expired(&self, now: crate::clock::Now) -> bool {
        self.expires_ms.is_some_and(|expires_ms| expires_ms <= now.unix_ms)
    }

    #[inline]
    fn type_len(&self) -> usize {
        match self.content_type {
            TypeName::Inline(len) => len.into(),
            TypeName::Default | TypeName::Interned(_) => 0,
        }
    }
}

/// Version and value of the entry at the start of `bytes`, if its header has nothing that most lack.
#[inline]
pub fn usual_parts(bytes: &[u8], base: u64) -> Option<(Version, &[u8])> {
    let word = usual(bytes)?;
    let version = base.wrapping_add(word >> 8 & ((1 << (8 * VERSION_BYTES)) - 1));
    let value_at = size_of::<u64>() + 1 + (word >> 48) as u8 as usize;
    Some((Version(version), &bytes[value_at..][..(word >> 56) as usize]))
}

/// Marks the entry at the start of `bytes` as dead, so that reclaiming passes over it without a
/// look into the index.
pub fn mark_dead(bytes: &mut [u8]) {
    bytes[0] |= DEAD;
}

struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    #[inline(always)]
    fn number<const LEN: usize>(&mut self) -> u64 {
        let mut number = [0; 8];
        number[..LEN].copy_from_slice(&self.bytes[self.at..][..LEN]);
        self.at += LEN;
        u64::from_le_bytes(number)
    }
}

#[cfg(test)]
mod tests {
    use super::{HEADER_BYTES_MAX, Header, Lock, TIME_MS_MAX, TypeName};
    use crate::clock::Version;
    use crate::op::Encoding;

    const PLAIN: Header = Header {
        version: Version(1 << 40),
        key_len: 16,
        value_len: 64,
        space: 0,
        expires_ms: None,
        lock: None,
        content_type: TypeName::Default,
        encoding: Encoding::Identity,
        large: false,
        dead: false,
        header_len: 0,
    };

    fn round_trip(header: Header, base: u64) -> Header {
        let mut bytes = [0xaa; HEADER_BYTES_MAX];
        let len = header.encode(base, &mut bytes);
        let decoded = Header::decode(&bytes, base);
        assert_eq!(decoded.header_len, len);
        assert_eq!(Header { header_len: header.header_len, ..decoded }, header);
        decoded
    }

    #[test]
    fn the_common_header_takes_eight_bytes() {
        assert_eq!(round_trip(PLAIN, 0x12_3456_789a).header_len, 8);
    }

    #[test]
    fn every_mix_of_fields_comes_back() {
        let locks = [None, Some((7, None)), Some((u64::MAX, Some(0))), Some((0, Some(TIME_MS_MAX)))];
        let types =
            [TypeName::Default, TypeName::Interned(1), TypeName::Interned(255), TypeName::Inline(255)];
        for lock in locks.map(|lock| lock.map(|(token, until_ms)| Lock { token, until_ms })) {
            for content_type in types {
                for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
                    for expires_ms in [None, Some(0), Some(TIME_MS_MAX)] {
                        for space in [0, 1, (1 << 24) - 1] {
                            for (key_len, value_len) in
                                [(1, 0), (256, 255), (257, 0), (1, 256), (1_024, 65_536)]
                            {
                                round_trip(
                                    Header {
                                        lock,
                                        content_type,
                                        encoding,
                                        expires_ms,
                                        space,
                                        key_len,
                                        value_len,
                                        ..PLAIN
                                    },
                                    PLAIN.version.0,
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn versions_near_and_far_from_the_base_come_back() {
        for base in [0, 1, 1 << 39, 1 << 63, u64::MAX] {
            for distance in [0, 1, (1 << 40) - 1, 1 << 40, u64::MAX] {
                round_trip(Header { version: Version(base.wrapping_add(distance)), ..PLAIN }, base);
            }
        }
    }
}
