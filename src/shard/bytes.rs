//! Bytes that become many while they are gathered, and where they lie then.

use std::ops::Deref;

use crate::limits::VALUE_COPY_BYTES_MAX;
use crate::memory::{Large, LargeBuf};
use crate::op::Payload;

/// Bytes that a task carries or brings.
#[derive(Debug)]
pub enum Bytes {
    /// Few.
    Small(Vec<u8>),
    /// Over `VALUE_COPY_BYTES_MAX`, shared with whoever sends or has sent them.
    Large(Large),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Small(bytes) => bytes,
            Bytes::Large(large) => large,
        }
    }
}

impl Bytes {
    /// The same, as it is handed on: without a copy if they are many.
    pub fn payload(&self) -> Payload<'_> {
        match self {
            Bytes::Small(bytes) => Payload::Bytes(bytes),
            Bytes::Large(large) => Payload::Large(large),
        }
    }
}

/// Bytes that are gathered piece by piece.
#[derive(Debug)]
pub(super) enum Gathering {
    Small(Vec<u8>),
    Large(LargeBuf),
}

impl Default for Gathering {
    fn default() -> Gathering {
        Gathering::Small(Vec::new())
    }
}

impl Deref for Gathering {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Gathering::Small(bytes) => bytes,
            Gathering::Large(bytes) => bytes,
        }
    }
}

impl Gathering {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        match self {
            Gathering::Small(small) if small.len() + bytes.len() <= VALUE_COPY_BYTES_MAX => {
                small.extend_from_slice(bytes);
            }
            Gathering::Small(small) => {
                let mut large = LargeBuf::with_capacity(2 * VALUE_COPY_BYTES_MAX);
                large.extend(small);
                large.extend(bytes);
                *self = Gathering::Large(large);
            }
            Gathering::Large(large) => large.extend(bytes),
        }
    }

    /// Adds a value as records of lists have them: behind its length in four bytes.
    pub(super) fn push_framed(&mut self, text: &[u8]) {
        self.push(&(text.len() as u32).to_le_bytes());
        self.push(text);
    }

    pub(super) fn finish(self) -> Bytes {
        match self {
            Gathering::Small(bytes) => Bytes::Small(bytes),
            Gathering::Large(bytes) => Bytes::Large(bytes.freeze()),
        }
    }
}

/// The values in a record of a list, one behind the other; `None` in the place of what is none.
pub(super) fn framed(mut bytes: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let value = bytes
            .split_first_chunk()
            .and_then(|(length, rest)| rest.split_at_checked(u32::from_le_bytes(*length) as usize));
        bytes = value.map_or(&[], |(_, rest)| rest);
        Some(value.map(|(text, _)| text))
    })
}
