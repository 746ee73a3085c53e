//! What can be asked of a list, and what comes of it.

use super::bytes::Bytes;
use crate::op::Expiry;
use crate::primitive;
use crate::store::Value;

/// Values as a document has them.
#[derive(Debug)]
pub struct Values {
    /// What they stand in.
    pub document: Bytes,
    /// The inside of their array, which is well-formed: primitives that can be compared, commas, blanks.
    pub range: std::ops::Range<usize>,
}

/// A value that is looked for.
#[derive(Debug)]
pub struct Needle {
    /// The characters of a string.
    pub characters: Vec<u8>,
    /// Whether they may also be meant as the JSON they are, when the list has no such string.
    pub or_json: bool,
}

/// What is asked of a list.
#[derive(Debug)]
pub enum ListAction {
    /// Replace it, or make it.
    Write(Values, Expiry),
    /// The same, if there is none.
    WriteNew(Values, Expiry),
    /// Add those values that it does not have; make it, with this time-to-live, if there is none.
    Add(Values, Expiry),
    /// Take those values out that it has.
    Remove(Values),
    /// Remove the list.
    Purge,
    /// Whether there is one.
    Exists,
    /// How many values it has.
    Count,
    /// Whether it has this value.
    Contains(Needle),
    /// How many values are before this one.
    Index(Needle),
    /// The values from one to another, both included, counted from the end when negative.
    Slice {
        /// The first.
        start: i64,
        /// The last.
        end: i64,
    },
}

/// What came of it.
#[derive(Debug)]
pub enum ListOutcome {
    /// There is no such list.
    Absent,
    /// It has so many values now.
    Written(u32),
    /// So many were added to it, and it has so many now.
    Added(u32, u32),
    /// So many were taken out of it, and it has so many now.
    Removed(u32, u32),
    /// It is gone.
    Purged,
    /// So many values.
    Count(u32),
    /// Whether there is what was asked for.
    Exists(bool),
    /// How many are before the value, if it is there.
    Index(Option<u32>),
    /// The values as a JSON array, between the texts that the task has for its ends, and when the list
    /// expires, in milliseconds since the Unix epoch.
    Values(Bytes, Option<u64>),
    /// The store is full and may not evict. Nothing has changed.
    StoreFull,
    /// More than a list may hold. Nothing has changed.
    TooLarge,
    /// The disk that the journal is on is full: nothing was written. A list can still be purged.
    JournalFull,
    /// The disk that the journal is on has failed: nothing was written, and nothing will be.
    JournalFailed,
}

impl ListAction {
    pub(super) fn values(&self) -> Option<&Values> {
        match self {
            ListAction::Write(values, _)
            | ListAction::WriteNew(values, _)
            | ListAction::Add(values, _)
            | ListAction::Remove(values) => Some(values),
            _ => None,
        }
    }
}

impl Values {
    /// The text of the first value from `at` on, and where to look for the next one.
    pub(super) fn next(&self, at: usize) -> Option<(&[u8], usize)> {
        let inside = &self.document[self.range.clone()];
        let between = |byte: &u8| matches!(byte, b',' | b' ' | b'\t' | b'\n' | b'\r');
        let start = at + inside[at..].iter().position(|byte| !between(byte))?;
        let end = primitive::end_of(inside, start).ok()?;
        Some((&inside[start..end], end))
    }
}

impl Needle {
    /// What `look` finds for the string, or else for the JSON value.
    pub(super) fn look<T>(&self, look: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        let found = look(Value::of_characters(&self.characters).canonical());
        if found.is_some() || !self.or_json {
            return found;
        }
        let value = Value::of(&self.characters).ok()?;
        look(value.canonical())
    }
}
