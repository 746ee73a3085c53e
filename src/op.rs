//! What can be asked of a key, and what comes of it: the words that `api`, `shard` and the mesh
//! between the cores share.
//!
//! An [`Operation`] borrows its bytes from the request; an [`Outcome`] borrows them from the store,
//! or from the message that brought it from another core. Neither knows HTTP.

use std::fmt;
use std::num::NonZeroU64;

use crate::clock::Version;
pub use crate::memory::Large;

/// A space of keys of its own. Every API family stores into its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(pub u32);

impl Namespace {
    /// The keys of `/api/kv`.
    pub const KV: Namespace = Namespace(0);

    /// What the node keeps of itself: API keys, apps, databases. Its records are in the ledger and in the
    /// journal, and in no shard.
    pub const NODE: Namespace = Namespace(1);

    /// The items of an app, by its number.
    pub const fn items(app: u32) -> Namespace {
        Namespace(ITEMS | app & NUMBER_MAX)
    }

    /// The lists of an app, by its number.
    pub const fn lists(app: u32) -> Namespace {
        Namespace(LISTS | app & NUMBER_MAX)
    }

    /// The entries of a database, by its number.
    pub const fn database(number: u32) -> Namespace {
        Namespace(DATABASES | number & NUMBER_MAX)
    }

    /// Whether it is that of a database. Nothing can be written to it before it is opened, or once it is
    /// closed.
    pub const fn is_database(self) -> bool {
        self.0 & !NUMBER_MAX == DATABASES
    }

    /// Which of those of its kind it is.
    pub const fn number(self) -> u32 {
        self.0 & NUMBER_MAX
    }

    /// Whether what lies in it are lists.
    pub const fn holds_lists(self) -> bool {
        self.0 & !NUMBER_MAX == LISTS
    }
}

/// The two upper bits of a namespace tell whose it is, the others which of theirs.
pub const NUMBER_MAX: u32 = (1 << 30) - 1;
const ITEMS: u32 = 1 << 30;
const LISTS: u32 = 2 << 30;
const DATABASES: u32 = 3 << 30;

/// How the bytes of a value were encoded by whoever stored them (`Content-Encoding`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// As they are.
    #[default]
    Identity = 0,
    /// RFC 1952.
    Gzip = 1,
    /// RFC 8878.
    Zstd = 2,
}

/// The content type of values whose writer named none. Never sniffed.
pub const CONTENT_TYPE_DEFAULT: &[u8] = b"application/octet-stream";

/// Bytes to be stored.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// Copied into the log.
    Bytes(&'a [u8]),
    /// Kept as it is. Only for values over [`crate::limits::VALUE_COPY_BYTES_MAX`].
    Large(&'a Large),
}

impl Payload<'_> {
    /// The bytes, wherever they are.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Payload::Bytes(bytes) => bytes,
            Payload::Large(large) => large,
        }
    }
}

/// What a write does with the time-to-live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The entry stays until it is deleted or evicted.
    Never,
    /// Seconds from now, 1 to 4,294,967,295.
    Seconds(u32),
    /// At this time, in milliseconds since the Unix epoch.
    At(u64),
}

/// A lock as a dump tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpedLock {
    /// The fencing token that frees it and passes it.
    pub token: u64,
    /// When it frees itself, in milliseconds since the Unix epoch.
    pub until_ms: Option<NonZeroU64>,
}

/// What must hold for a write to happen. Lock checks come first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Condition<'a> {
    /// Field value of `If-Match`: the entry exists and one of these tags names it.
    pub if_match: Option<&'a [u8]>,
    /// Field value of `If-None-Match`: no entry that one of these tags names; `*` is create-only.
    pub if_none_match: Option<&'a [u8]>,
    /// `?if=exists`: an absent key is answered [`Outcome::Absent`].
    pub must_exist: bool,
}

/// One operation on one key.
#[derive(Clone, Copy, Debug)]
pub struct Operation<'a> {
    /// The space the key belongs to.
    pub namespace: Namespace,
    /// The key, 1 to [`crate::limits::KEY_BYTES_MAX`] bytes.
    pub key: &'a [u8],
    /// [`KeyHasher::hash`] of namespace and key.
    pub hash: u64,
    /// What to do.
    pub action: Action<'a>,
    /// What must hold for it.
    pub condition: Condition<'a>,
    /// The fencing token the caller showed.
    pub fencing_token: Option<u64>,
    /// The caller holds the grant `admin`, which frees a leased lock without its token.
    pub admin: bool,
}

/// What to do with a key.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    /// Read it.
    Get,
    /// Create or replace it.
    Put {
        /// The bytes to store.
        value: Payload<'a>,
        /// `None` is [`CONTENT_TYPE_DEFAULT`].
        content_type: Option<&'a [u8]>,
        /// How the bytes are encoded.
        encoding: Encoding,
        /// The new time-to-live.
        expiry: Expiry,
    },
    /// Create or replace it with what a dump has of it, whatever lock is on it.
    Restore {
        /// The bytes to store.
        value: Payload<'a>,
        /// `None` is [`CONTENT_TYPE_DEFAULT`].
        content_type: Option<&'a [u8]>,
        /// How the bytes are encoded.
        encoding: Encoding,
        /// The new time-to-live.
        expiry: Expiry,
        /// The new lock.
        lock: Option<DumpedLock>,
    },
    /// Remove it. `answer_value` brings the removed bytes back.
    Delete {
        /// Whether the outcome carries the removed entry.
        answer_value: bool,
    },
    /// Lock it, with a lease in seconds after which the lock frees itself.
    Lock {
        /// 1 to 4,294,967,295.
        lease_seconds: Option<u32>,
    },
    /// Free its lock.
    Unlock,
    /// Add to the number it holds.
    Add(Step),
    /// Give it a time-to-live, in seconds.
    Expire {
        /// 1 to 4,294,967,295.
        seconds: u32,
    },
    /// Cancel its time-to-live.
    Persist,
}

/// By how much a counter moves. A decrement is a negative step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Exact. Wide enough for the negation of the smallest 64-bit integer.
    Integer(i128),
    /// Finite.
    Decimal(f64),
}

/// The number a counter holds after it moved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An exact 64-bit integer.
    Integer(i64),
    /// A finite double, shown in its shortest form.
    Decimal(f64),
}

/// As a JSON number, whether it is stored or answered. A whole decimal shows no point, and one from
/// 10^16 on an exponent, so that it is not read back as an integer that does not fit.
impl fmt::Display for Number {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Number::Integer(integer) => fmt::Display::fmt(&integer, out),
            Number::Decimal(decimal) if decimal.fract() == 0.0 && decimal.abs() < 1e16 => {
                fmt::Display::fmt(&(decimal as i64), out)
            }
            Number::Decimal(decimal) => fmt::Debug::fmt(&decimal, out),
        }
    }
}

/// What is known of an entry beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// When its bytes were written.
    pub version: Version,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_ms: Option<u64>,
}

/// An entry as it is read.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Version and expiry.
    pub meta: Meta,
    /// Its content type.
    pub content_type: &'a [u8],
    /// How its bytes are encoded.
    pub encoding: Encoding,
    /// Its bytes.
    pub value: Payload<'a>,
}

/// What came of an operation.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// Get: the entry.
    Found(Entry<'a>),
    /// No such key.
    Absent,
    /// Put: the key is new.
    Created(Meta),
    /// Put: the key existed.
    Updated(Meta),
    /// Delete: it is gone; the entry if it was asked for.
    Deleted(Option<Entry<'a>>),
    /// Lock: taken under this fencing token.
    LockTaken {
        /// Rises with every lock of the key.
        fencing_token: u64,
        /// Unchanged by the lock.
        meta: Meta,
    },
    /// Unlock: freed.
    Unlocked(Meta),
    /// Add: the new number.
    Counted(Number, Meta),
    /// Expire: the deadline is set.
    Expiring(Meta),
    /// Persist: the deadline is cancelled.
    Persisted(Meta),
    /// The key is locked and the caller did not show its token.
    Locked,
    /// Lock: the key is locked already.
    AlreadyLocked,
    /// Unlock: the key is not locked.
    NotLocked,
    /// A condition does not hold; the entry's meta if there is one.
    ConditionFailed(Option<Meta>),
    /// Add: the value is no number.
    NotNumeric,
    /// Add: the result does not fit, or is not finite.
    OutOfRange,
    /// The store is full and may not evict.
    StoreFull,
    /// The value, with its key and type, is over what one entry may hold.
    TooLarge,
    /// The disk that the journal is on is full: nothing was written. What removes is still done.
    JournalFull,
    /// The disk that the journal is on has failed: nothing was written, and nothing will be.
    JournalFailed,
    /// The database is closed: it was dropped, or there never was one.
    Closed,
}

/// Hashes keys. Every thread has a copy with the same random keys, so that all agree on who owns
/// a key.
#[derive(Clone, Debug)]
pub struct KeyHasher(ahash::RandomState);

impl KeyHasher {
    /// A hasher with random keys.
    pub fn random() -> KeyHasher {
        KeyHasher(ahash::RandomState::new())
    }

    /// A hasher that gives the same hashes each time, for runs that must repeat each other turn for
    /// turn. Whoever knows the seed can make keys collide.
    pub fn seeded(seed: u64) -> KeyHasher {
        KeyHasher(ahash::RandomState::with_seeds(seed, !seed, seed.rotate_left(32), 0x243f_6a88_85a3_08d3))
    }

    /// The hash of a key in its namespace.
    pub fn hash(&self, namespace: Namespace, key: &[u8]) -> u64 {
        use std::hash::{BuildHasher, Hasher};
        let mut hasher = self.0.build_hasher();
        hasher.write_u32(namespace.0);
        hasher.write(key);
        hasher.finish()
    }

    /// Which of `shards` owns the key with this hash: decided by bits 32 to 47, which neither the
    /// choice of a table (0 to 31, the upper ones before all) nor hashbrown (the low ones and the top
    /// seven) looks at.
    pub fn owner(hash: u64, shards: usize) -> usize {
        (((hash >> 32) as u16 as usize) * shards) >> 16
    }
}

#[cfg(test)]
mod tests {
    use super::Number;

    #[test]
    fn a_number_is_shown_in_its_shortest_json_form() {
        for (decimal, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (2.0, "2"),
            (-2.5, "-2.5"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e15, "1000000000000000"),
            (1e16, "1e16"),
            (2e300, "2e300"),
            (2e-300, "2e-300"),
            (f64::MAX, "1.7976931348623157e308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
        ] {
            let shown = Number::Decimal(decimal).to_string();
            assert_eq!(shown, text);
            assert_eq!(shown.parse(), Ok(decimal));
            assert!(serde_json::from_str::<serde_json::Number>(&shown).is_ok());
        }
        assert_eq!(Number::Integer(i64::MIN).to_string(), "-9223372036854775808");
    }
}
