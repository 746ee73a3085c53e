//! An entry as callers of the store read it, find it and hand it over.

use super::entry::Lock;
use super::index::Slot;
use super::log::Position;
use crate::clock::Version;
use crate::op::{CONTENT_TYPE_DEFAULT, Encoding, Namespace, Payload};

/// An entry as it is read.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// When its bytes were written.
    pub version: Version,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_ms: Option<u64>,
    /// Its lock, if one holds.
    pub lock: Option<Lock>,
    /// Its content type.
    pub content_type: &'a [u8],
    /// How its bytes are encoded.
    pub encoding: Encoding,
    /// Its bytes.
    pub value: Payload<'a>,
}

impl View<'_> {
    /// What most entries are, but for version and value.
    pub(super) const USUAL: View<'static> = View {
        version: Version(0),
        expires_ms: None,
        lock: None,
        content_type: CONTENT_TYPE_DEFAULT,
        encoding: Encoding::Identity,
        value: Payload::Bytes(&[]),
    };
}

/// An entry to be written.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry<'a> {
    /// The space of the key.
    pub namespace: Namespace,
    /// 1 to [`crate::limits::KEY_BYTES_MAX`] bytes.
    pub key: &'a [u8],
    /// [`crate::op::KeyHasher::hash`] of namespace and key.
    pub hash: u64,
    /// When these bytes were written.
    pub version: Version,
    /// When it expires, in milliseconds since the Unix epoch; kept up to the year 10,889.
    pub expires_ms: Option<u64>,
    /// Its lock.
    pub lock: Option<Lock>,
    /// At most [`crate::limits::CONTENT_TYPE_BYTES_MAX`] bytes.
    pub content_type: &'a [u8],
    /// How the bytes are encoded.
    pub encoding: Encoding,
    /// The bytes.
    pub value: Payload<'a>,
}

/// What a write finds under its key.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// When its bytes were written.
    pub version: Version,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_ms: Option<u64>,
    /// Its lock, if one holds.
    pub lock: Option<Lock>,
    /// Where it is, for [`super::Store::write_over`].
    pub spot: Spot,
}

/// Where an entry is. Void once the store has changed.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    pub(super) position: Position,
    pub(super) uses: u32,
}

impl Spot {
    pub(super) fn of(slot: &Slot) -> Spot {
        Spot { position: slot.position(), uses: slot.uses() }
    }
}

/// What [`super::Store::rewrite`] changes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewMeta {
    /// The new expiry, or none.
    pub expires_ms: Option<u64>,
    /// The new lock, or none.
    pub lock: Option<Lock>,
}
