//! What the journal keeps of a change: its outcome, not the operation that asked for it.
//!
//! Records of one shard are replayed in the order in which they were made; then the last one about a key
//! decides, whatever was known of the key before. So a live set that was written down while changes went
//! on is made good by replaying all changes since its beginning.
//!
//! # Encoded
//!
//! All numbers are little-endian. First a byte for the kind (1 `Put`, 2 `Rewrite`, 3 `Remove`, 4 `PutList`,
//! 5 `Append`, 6 `Withdraw`, 7 `Node`), then a byte that says what is there of the following, each only if its
//! bit is set, in this order:
//!
//! | bit | bytes | what |
//! |---|---|---|
//! | 0 | 4 | the namespace, if it is not that of `/api/kv` |
//! | 1 | 8 | the version: kinds 1, 4, 5, 6, always |
//! | 2 | 8 | the deadline, in milliseconds since the Unix epoch |
//! | 3 | 8 | the token of the lock |
//! | 4 | 8 | when the lock frees itself, in milliseconds since the Unix epoch |
//! | 5 | 1 + n | the content type behind its length, if it is not the default |
//! | 6, 7 | 0 | the encoding: 0 identity, 1 gzip, 2 zstd |
//!
//! Then the length of the key in two bytes and the key; the value is the rest. A `Node` has no key of its own
//! and none of the fields: behind its two bytes stand its changes, one or more, and nothing else. Each is the
//! length of a name in two bytes, the name, the length of what is kept under it in four, all of their bits set
//! when nothing is any more, and what is kept. The format of records is part of the version of the file that
//! they are in.

use crate::clock::Version;
use crate::limits::{CONTENT_TYPE_BYTES_MAX, KEY_BYTES_MAX};
use crate::op::{CONTENT_TYPE_DEFAULT, Encoding, Namespace, Payload};
use crate::store::Lock;

use zeroize::Zeroizing;

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
    /// What one order has changed of that which the node keeps of itself. It counts as a whole or not at all.
    Node(NodeChanges<'a>),
}

/// Changes of what the node keeps of itself, in their encoded form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeChanges<'a>(&'a [u8]);

/// The same, with room of its own, which is wiped.
#[derive(Clone, Debug, Default)]
pub struct NodeRecord(Zeroizing<Vec<u8>>);

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
    /// Its values as JSON texts, each behind its length in four bytes, little-endian. Those read back from a
    /// journal are always [`Payload::Bytes`].
    pub values: Payload<'a>,
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
    pub values: Payload<'a>,
}

/// The most that [`Record::encode_head`] writes for a key that is no longer than it may be: kind, fields,
/// namespace, version, deadline, lock, content type, key.
pub(super) const HEAD_BYTES_MAX: usize =
    2 + 4 + 8 + 8 + 8 + 8 + 1 + CONTENT_TYPE_BYTES_MAX + 2 + KEY_BYTES_MAX;

const PUT: u8 = 1;
const REWRITE: u8 = 2;
const REMOVE: u8 = 3;
const PUT_LIST: u8 = 4;
const APPEND: u8 = 5;
const WITHDRAW: u8 = 6;
const NODE: u8 = 7;

/// In the place of the length of what a node keeps under a name: nothing any more.
const GONE: u32 = u32::MAX;

const NAMESPACE: u8 = 1 << 0;
const VERSION: u8 = 1 << 1;
const EXPIRES: u8 = 1 << 2;
const LOCK: u8 = 1 << 3;
const UNTIL: u8 = 1 << 4;
const TYPE: u8 = 1 << 5;
const ENCODING_SHIFT: u32 = 6;

/// Bytes that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// What stands in front of the key.
#[derive(Clone, Copy, Default)]
struct Fields<'a> {
    namespace: u32,
    version: Option<u64>,
    expires_ms: Option<u64>,
    lock: Option<Lock>,
    content_type: Option<&'a [u8]>,
    encoding: Encoding,
}

impl<'a> Record<'a> {
    /// The record in its encoded form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_head(out);
        if let Some(value) = self.value() {
            out.extend_from_slice(value.bytes());
        }
    }

    /// The encoded form without the value, which is the rest of it.
    pub(super) fn encode_head(&self, out: &mut Vec<u8>) {
        let (kind, key, fields) = match self {
            // Its changes are its value.
            Record::Node(_) => return out.extend_from_slice(&[NODE, 0]),
            Record::Put(put) => (PUT, put.key, put.fields()),
            Record::Rewrite { namespace, key, expires_ms, lock } => {
                let (expires_ms, lock) = (*expires_ms, *lock);
                (REWRITE, *key, Fields { namespace: namespace.0, expires_ms, lock, ..Fields::default() })
            }
            Record::Remove { namespace, key } => {
                (REMOVE, *key, Fields { namespace: namespace.0, ..Fields::default() })
            }
            Record::PutList(list) => {
                let (version, expires_ms) = (Some(list.version.0), list.expires_ms);
                let namespace = list.namespace.0;
                (PUT_LIST, list.key, Fields { namespace, version, expires_ms, ..Fields::default() })
            }
            Record::Append(change) => (APPEND, change.key, change.fields()),
            Record::Withdraw(change) => (WITHDRAW, change.key, change.fields()),
        };
        fields.encode(kind, out);
        debug_assert!(!key.is_empty() && key.len() <= usize::from(u16::MAX));
        out.extend_from_slice(&(key.len() as u16).to_le_bytes());
        out.extend_from_slice(key);
    }

    /// Reads an encoded record, of which nothing is believed.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn decode(bytes: &'a [u8]) -> Result<Record<'a>, Malformed> {
        let (&[kind, present], rest) = bytes.split_first_chunk::<2>().ok_or(Malformed)?;
        if kind == NODE {
            return if present == 0 { NodeChanges::decode(rest).map(Record::Node) } else { Err(Malformed) };
        }
        let (fields, rest) = Fields::decode(present, rest)?;
        let (length, rest) = rest.split_first_chunk::<2>().ok_or(Malformed)?;
        let (key, value) =
            rest.split_at_checked(usize::from(u16::from_le_bytes(*length))).ok_or(Malformed)?;
        let (allowed, needed) = match kind {
            PUT => (!0, VERSION),
            REWRITE => (NAMESPACE | EXPIRES | LOCK | UNTIL, 0),
            REMOVE => (NAMESPACE, 0),
            PUT_LIST => (NAMESPACE | VERSION | EXPIRES, VERSION),
            APPEND | WITHDRAW => (NAMESPACE | VERSION, VERSION),
            _ => return Err(Malformed),
        };
        let holds_value = matches!(kind, PUT | PUT_LIST | APPEND | WITHDRAW);
        let is_good = present & !allowed == 0
            && present & needed == needed
            && !key.is_empty()
            && key.len() <= KEY_BYTES_MAX
            && (holds_value || value.is_empty());
        if !is_good {
            return Err(Malformed);
        }
        let (namespace, version) = (Namespace(fields.namespace), Version(fields.version.unwrap_or(0)));
        let change = || ListChange { namespace, key, version, values: Payload::Bytes(value) };
        Ok(match kind {
            PUT => Record::Put(Put {
                namespace,
                key,
                version,
                expires_ms: fields.expires_ms,
                lock: fields.lock,
                content_type: fields.content_type.unwrap_or(CONTENT_TYPE_DEFAULT),
                encoding: fields.encoding,
                value: Payload::Bytes(value),
            }),
            REWRITE => Record::Rewrite { namespace, key, expires_ms: fields.expires_ms, lock: fields.lock },
            REMOVE => Record::Remove { namespace, key },
            PUT_LIST => Record::PutList(PutList {
                namespace,
                key,
                version,
                expires_ms: fields.expires_ms,
                values: Payload::Bytes(value),
            }),
            APPEND => Record::Append(change()),
            _ => Record::Withdraw(change()),
        })
    }

    /// The highest version or fencing token in it.
    pub fn version_max(&self) -> Version {
        let token = |lock: &Option<Lock>| Version(lock.map_or(0, |lock| lock.token));
        match self {
            Record::Put(put) => put.version.max(token(&put.lock)),
            Record::Rewrite { lock, .. } => token(lock),
            Record::PutList(list) => list.version,
            Record::Append(change) | Record::Withdraw(change) => change.version,
            Record::Remove { .. } | Record::Node(_) => Version(0),
        }
    }

    /// Its value, if it is one that stands last and apart in its encoded form.
    pub(super) fn value(&self) -> Option<Payload<'a>> {
        match self {
            Record::Put(put) => Some(put.value),
            Record::PutList(list) => Some(list.values),
            Record::Append(change) | Record::Withdraw(change) => Some(change.values),
            Record::Node(NodeChanges(changes)) => Some(Payload::Bytes(changes)),
            Record::Rewrite { .. } | Record::Remove { .. } => None,
        }
    }
}

impl<'a> NodeChanges<'a> {
    /// Each name with what is kept under it from now on, or nothing.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (change, behind) = split_change(rest)?;
            rest = behind;
            Some(change)
        })
    }

    /// Checks bytes of which nothing is believed.
    fn decode(bytes: &'a [u8]) -> Result<NodeChanges<'a>, Malformed> {
        let mut rest = bytes;
        loop {
            ((), rest) = split_change(rest).map(|(_, behind)| ((), behind)).ok_or(Malformed)?;
            if rest.is_empty() {
                return Ok(NodeChanges(bytes));
            }
        }
    }
}

/// A name with what is kept under it.
type NodeChange<'a> = (&'a [u8], Option<&'a [u8]>);

/// The first change, and what is behind it.
fn split_change(bytes: &[u8]) -> Option<(NodeChange<'_>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    let (length, rest) = rest.split_first_chunk()?;
    let (value, rest) = match u32::from_le_bytes(*length) {
        GONE => (None, rest),
        length => rest.split_at_checked(length as usize).map(|(value, rest)| (Some(value), rest))?,
    };
    (!name.is_empty()).then_some(((name, value), rest))
}

impl NodeRecord {
    /// Of these changes, in their order. Names have 1 to 65,535 bytes.
    pub fn of<K: AsRef<[u8]>, V: AsRef<[u8]>>(changes: &[(K, Option<V>)]) -> NodeRecord {
        let length = |(name, value): &(K, Option<V>)| {
            6 + name.as_ref().len() + value.as_ref().map_or(0, |value| value.as_ref().len())
        };
        // All of it at once, so that nothing is left behind by growing.
        let mut bytes = Zeroizing::new(Vec::with_capacity(changes.iter().map(length).sum()));
        for (name, value) in changes {
            let (name, value) = (name.as_ref(), value.as_ref().map(AsRef::as_ref));
            debug_assert!(!name.is_empty() && name.len() <= usize::from(u16::MAX));
            bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(&value.map_or(GONE, |value| value.len() as u32).to_le_bytes());
            bytes.extend_from_slice(value.unwrap_or_default());
        }
        NodeRecord(bytes)
    }

    /// Whether nothing is changed. There is no record of that.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its changes.
    pub fn changes(&self) -> NodeChanges<'_> {
        NodeChanges(&self.0)
    }

    /// The record.
    pub fn record(&self) -> Record<'_> {
        debug_assert!(!self.is_empty());
        Record::Node(self.changes())
    }
}

/// Whether an encoded record that this process has made is of what the node keeps of itself.
#[inline]
pub(super) fn is_of_node(encoded: &[u8]) -> bool {
    encoded.first() == Some(&NODE)
}

/// The highest version or fencing token in an encoded record that this process has made, or 0.
pub(super) fn version_max(encoded: &[u8]) -> u64 {
    let [_, present, rest @ ..] = encoded else { return 0 };
    let number = |at: usize| rest.get(at..at + 8).map_or(0, |bytes| u64::from_le_bytes(array(bytes)));
    let version_at = if present & NAMESPACE != 0 { 4 } else { 0 };
    let expires_at = version_at + if present & VERSION != 0 { 8 } else { 0 };
    let lock_at = expires_at + if present & EXPIRES != 0 { 8 } else { 0 };
    let version = if present & VERSION != 0 { number(version_at) } else { 0 };
    let token = if present & LOCK != 0 { number(lock_at) } else { 0 };
    version.max(token)
}

/// A slice whose length was checked, as an array.
pub(super) fn array<const COUNT: usize>(bytes: &[u8]) -> [u8; COUNT] {
    bytes.try_into().expect("a slice of this length")
}

impl<'a> Put<'a> {
    fn fields(&self) -> Fields<'a> {
        Fields {
            namespace: self.namespace.0,
            version: Some(self.version.0),
            expires_ms: self.expires_ms,
            lock: self.lock,
            content_type: (self.content_type != CONTENT_TYPE_DEFAULT).then_some(self.content_type),
            encoding: self.encoding,
        }
    }
}

impl ListChange<'_> {
    fn fields(&self) -> Fields<'static> {
        Fields { namespace: self.namespace.0, version: Some(self.version.0), ..Fields::default() }
    }
}

impl<'a> Fields<'a> {
    fn encode(&self, kind: u8, out: &mut Vec<u8>) {
        let mut present = (self.encoding as u8) << ENCODING_SHIFT;
        // Put together aside: each append to `out` asks for its room.
        let mut bytes = [0; 2 + 4 + 4 * 8 + 1];
        let mut at = 2;
        if self.namespace != Namespace::KV.0 {
            present |= NAMESPACE;
            bytes[at..at + 4].copy_from_slice(&self.namespace.to_le_bytes());
            at += 4;
        }
        let token = self.lock.map(|lock| lock.token);
        let until = self.lock.and_then(|lock| lock.until_ms);
        for (bit, number) in
            [(VERSION, self.version), (EXPIRES, self.expires_ms), (LOCK, token), (UNTIL, until)]
        {
            if let Some(number) = number {
                present |= bit;
                bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
                at += 8;
            }
        }
        if let Some(name) = self.content_type {
            debug_assert!(name.len() <= CONTENT_TYPE_BYTES_MAX);
            present |= TYPE;
            bytes[at] = name.len() as u8;
            at += 1;
        }
        (bytes[0], bytes[1]) = (kind, present);
        out.extend_from_slice(&bytes[..at]);
        out.extend_from_slice(self.content_type.unwrap_or_default());
    }

    fn decode(present: u8, mut rest: &'a [u8]) -> Result<(Fields<'a>, &'a [u8]), Malformed> {
        fn number<'a>(rest: &mut &'a [u8], present: bool) -> Result<Option<u64>, Malformed> {
            if !present {
                return Ok(None);
            }
            let (bytes, after): (&'a [u8; 8], _) = rest.split_first_chunk().ok_or(Malformed)?;
            *rest = after;
            Ok(Some(u64::from_le_bytes(*bytes)))
        }
        let mut fields = Fields::default();
        if present & NAMESPACE != 0 {
            let (bytes, after) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
            (fields.namespace, rest) = (u32::from_le_bytes(*bytes), after);
        }
        fields.version = number(&mut rest, present & VERSION != 0)?;
        fields.expires_ms = number(&mut rest, present & EXPIRES != 0)?;
        let token = number(&mut rest, present & LOCK != 0)?;
        let until_ms = number(&mut rest, present & UNTIL != 0)?;
        fields.lock = token.map(|token| Lock { token, until_ms });
        if token.is_none() && until_ms.is_some() {
            return Err(Malformed);
        }
        if present & TYPE != 0 {
            let (&length, after) = rest.split_first().ok_or(Malformed)?;
            let (name, after) = after.split_at_checked(usize::from(length)).ok_or(Malformed)?;
            (fields.content_type, rest) = (Some(name), after);
        }
        fields.encoding = match present >> ENCODING_SHIFT {
            0 => Encoding::Identity,
            1 => Encoding::Gzip,
            2 => Encoding::Zstd,
            _ => return Err(Malformed),
        };
        Ok((fields, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::{HEAD_BYTES_MAX, ListChange, Malformed, NodeRecord, Put, PutList, Record, version_max};
    use crate::clock::Version;
    use crate::limits::{CONTENT_TYPE_BYTES_MAX, KEY_BYTES_MAX};
    use crate::op::{CONTENT_TYPE_DEFAULT, Encoding, Large, Namespace, Payload};
    use crate::store::Lock;
    use proptest::prelude::{Just, Strategy, any, prop_oneof};
    use proptest::{collection::vec, option, proptest};

    type Numbers = (u32, u64, Option<u64>, Option<(u64, Option<u64>)>, u8);

    fn record<'a>(kind: u8, numbers: Numbers, key: &'a [u8], name: &'a [u8], value: &'a [u8]) -> Record<'a> {
        let (namespace, version, expires_ms, lock, encoding) = numbers;
        let (namespace, version) = (Namespace(namespace), Version(version));
        let lock = lock.map(|(token, until_ms)| Lock { token, until_ms });
        let encoding = [Encoding::Identity, Encoding::Gzip, Encoding::Zstd][usize::from(encoding % 3)];
        let change = ListChange { namespace, key, version, values: Payload::Bytes(value) };
        let put = |content_type| {
            let value = Payload::Bytes(value);
            Put { namespace, key, version, expires_ms, lock, content_type, encoding, value }
        };
        match kind {
            0 => Record::Put(put(name)),
            1 => Record::Put(put(CONTENT_TYPE_DEFAULT)),
            2 => Record::Rewrite { namespace, key, expires_ms, lock },
            3 => Record::Remove { namespace, key },
            4 => Record::PutList(PutList {
                namespace,
                key,
                version,
                expires_ms,
                values: Payload::Bytes(value),
            }),
            5 => Record::Append(change),
            _ => Record::Withdraw(change),
        }
    }

    fn numbers() -> impl Strategy<Value = Numbers> {
        let namespace = prop_oneof![Just(0), any::<u32>()];
        let lock = option::of((any::<u64>(), option::of(any::<u64>())));
        (namespace, any::<u64>(), option::of(any::<u64>()), lock, any::<u8>())
    }

    proptest! {
        #[test]
        fn a_record_reads_back_as_it_was(
            kind in 0..7u8,
            numbers in numbers(),
            key in vec(any::<u8>(), 1..=KEY_BYTES_MAX),
            name in vec(any::<u8>(), 0..=CONTENT_TYPE_BYTES_MAX),
            value in vec(any::<u8>(), 0..200),
        ) {
            let record = record(kind, numbers, &key, &name, &value);
            let mut encoded = Vec::new();
            record.encode(&mut encoded);
            assert!(encoded.len() - value.len() * usize::from(record.value().is_some()) <= HEAD_BYTES_MAX);
            assert_eq!(version_max(&encoded), record.version_max().0);
            let decoded = Record::decode(&encoded).expect("it was just encoded");
            assert_eq!(format!("{decoded:?}"), format!("{record:?}"));
            // Cut anywhere in front of the value it is no record.
            let head = encoded.len() - record.value().map_or(0, |value| value.bytes().len());
            for length in 0..head {
                assert_eq!(Record::decode(&encoded[..length]).err(), Some(Malformed), "{length}");
            }
        }

        #[test]
        fn an_order_reads_back_with_all_its_changes(
            changes in vec((vec(any::<u8>(), 1..40), option::of(vec(any::<u8>(), 0..60))), 1..20),
            behind in vec(any::<u8>(), 1..4),
        ) {
            let order = NodeRecord::of(&changes);
            let mut encoded = Vec::new();
            order.record().encode(&mut encoded);
            assert_eq!(version_max(&encoded), 0);
            let Ok(Record::Node(read)) = Record::decode(&encoded) else { panic!("it was just encoded") };
            let owned = read.iter().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)));
            assert_eq!(owned.collect::<Vec<_>>(), changes);
            // Cut anywhere but between two changes it is no record; nor with less than a change behind it.
            let mut ends = vec![2];
            for (name, value) in &changes {
                ends.push(ends[ends.len() - 1] + 6 + name.len() + value.as_ref().map_or(0, Vec::len));
            }
            assert_eq!(ends.last(), Some(&encoded.len()));
            for length in 0..encoded.len() {
                let is_whole = length > 2 && ends.contains(&length);
                assert_eq!(Record::decode(&encoded[..length]).is_ok(), is_whole, "{length}");
            }
            encoded.extend_from_slice(&behind);
            assert_eq!(Record::decode(&encoded).err(), Some(Malformed));
        }

        #[test]
        fn any_bytes_are_a_record_or_are_refused(
            kind in 0..10u8,
            present in prop_oneof![Just(0), any::<u8>()],
            bytes in vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..80),
        ) {
            let bytes: Vec<u8> = [kind, present].into_iter().chain(bytes).collect();
            version_max(&bytes);
            if let Ok(record) = Record::decode(&bytes) {
                let mut encoded = Vec::new();
                record.encode(&mut encoded);
                let decoded = Record::decode(&encoded).expect("encoded just now");
                assert_eq!(format!("{decoded:?}"), format!("{record:?}"));
            }
        }
    }

    #[test]
    fn a_record_of_the_node_has_changes_each_with_a_name_and_no_fields() {
        for (bytes, is_good) in [
            (&[7, 0][..], false),
            (&[7, 0, 0, 0, 255, 255, 255, 255], false),
            (&[7, 0, 1, 0, b'n', 255, 255, 255, 255], true),
            (&[7, 1, 1, 0, b'n', 255, 255, 255, 255], false),
            (&[7, 0, 1, 0, b'n', 0, 0, 0, 0], true),
            (&[7, 0, 1, 0, b'n', 254, 255, 255, 255], false),
            (&[8, 0, 1, 0, b'n'], false),
        ] {
            assert_eq!(Record::decode(bytes).is_ok(), is_good, "{bytes:?}");
        }
    }

    #[test]
    fn a_key_is_as_long_as_it_may_be_and_not_empty() {
        let mut encoded = Vec::new();
        for (length, is_good) in [(0, false), (1, true), (KEY_BYTES_MAX, true), (KEY_BYTES_MAX + 1, false)] {
            encoded.clear();
            encoded.extend_from_slice(&[super::REMOVE, 0]);
            encoded.extend_from_slice(&(length as u16).to_le_bytes());
            encoded.resize(encoded.len() + length, b'k');
            assert_eq!(Record::decode(&encoded).is_ok(), is_good, "{length}");
        }
    }

    #[test]
    fn a_large_value_is_encoded_like_any_other() {
        let large = Large::copy_of(&[7; 70_000]);
        let put = |value| {
            let (namespace, key, version) = (Namespace::KV, &b"k"[..], Version(9));
            let (expires_ms, lock, content_type, encoding) = (None, None, &b"a/b"[..], Encoding::Gzip);
            Record::Put(Put { namespace, key, version, expires_ms, lock, content_type, encoding, value })
        };
        let (mut one, mut other) = (Vec::new(), Vec::new());
        put(Payload::Large(&large)).encode(&mut one);
        put(Payload::Bytes(&large)).encode(&mut other);
        assert!(one == other);
    }
}
