//! What the journal keeps of a change: its outcome, not the operation that asked for it.
//!
//! Records of one shard are replayed in the order in which they were made; then the last one about a key
//! decides, whatever was known of the key before. So a live set that was written down while changes went
//! on is made good by replaying all changes since its beginning.

use crate::clock::Version;
use crate::op::{Encoding, Namespace, Payload};
use crate::store::Lock;

/// A change, or a part of the live set.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// The key has this entry from now on.
    Put(Put<'a>),
    /// The entry has another deadline and lock; its bytes and version stay. Nothing, if it is absent.
    Rewrite {
        /// The space of the key.
        namespace: Namespace,
        /// The key.
        key: &'a [u8],
        /// The new deadline, in milliseconds since the Unix epoch, or none.
        expires_ms: Option<u64>,
        /// The new lock, or none.
        lock: Option<Lock>,
    },
    /// The key is absent: deleted or evicted.
    Remove {
        /// The space of the key.
        namespace: Namespace,
        /// The key.
        key: &'a [u8],
    },
    /// The key has this list from now on.
    PutList(PutList<'a>),
    /// Values were put at the end of a list, those that it has already left out. Nothing, if it is absent.
    Append(ListChange<'a>),
    /// Values were taken out of a list. Nothing, if it is absent.
    Withdraw(ListChange<'a>),
    /// Something that the node keeps of itself, under a name of its own; `None` when it is gone.
    Node {
        /// Which.
        key: &'a [u8],
        /// What is kept, in a form that its owner knows.
        value: Option<&'a [u8]>,
    },
}

/// An entry as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Put<'a> {
    /// The space of the key.
    pub namespace: Namespace,
    /// 1 to [`crate::limits::KEY_BYTES_MAX`] bytes.
    pub key: &'a [u8],
    /// When its bytes were written.
    pub version: Version,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_ms: Option<u64>,
    /// Its lock.
    pub lock: Option<Lock>,
    /// At most [`crate::limits::CONTENT_TYPE_BYTES_MAX`] bytes.
    pub content_type: &'a [u8],
    /// How its bytes are encoded.
    pub encoding: Encoding,
    /// Its bytes. Those read back from a journal are always [`Payload::Bytes`].
    pub value: Payload<'a>,
}

/// A list as a whole.
#[derive(Clone, Copy, Debug)]
pub struct PutList<'a> {
    /// The space of the key, one that holds lists.
    pub namespace: Namespace,
    /// The key.
    pub key: &'a [u8],
    /// When it was last changed.
    pub version: Version,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_ms: Option<u64>,
    /// Its values as JSON texts, each behind its length in four bytes, little-endian.
    pub values: &'a [u8],
}

/// A change of a list.
#[derive(Clone, Copy, Debug)]
pub struct ListChange<'a> {
    /// The space of the key, one that holds lists.
    pub namespace: Namespace,
    /// The key.
    pub key: &'a [u8],
    /// When it was changed. A list of this version or a later one has the change already.
    pub version: Version,
    /// The values as in [`PutList::values`].
    pub values: &'a [u8],
}

impl<'a> Record<'a> {
    /// Its value, if it is one that stands last and apart in its encoded form.
    pub(super) fn value(&self) -> Option<Payload<'a>> {
        match self {
            Record::Put(put) => Some(put.value),
            Record::PutList(list) => Some(Payload::Bytes(list.values)),
            Record::Append(change) | Record::Withdraw(change) => Some(Payload::Bytes(change.values)),
            Record::Node { value, .. } => value.map(Payload::Bytes),
            Record::Rewrite { .. } | Record::Remove { .. } => None,
        }
    }
}
