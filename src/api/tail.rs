//! What an answer consists of beside the bytes in the output.

use std::ops::Range;

use super::coding::Decode;
use crate::op::Large;

/// What follows the head that was appended to the output.
#[derive(Debug)]
pub enum Tail<'a> {
    /// Nothing: the answer is complete.
    None,
    /// These bytes, longer than [`crate::limits::ANSWER_COPY_BYTES_MAX`].
    Bytes(&'a [u8]),
    /// This part of a shared value.
    Large(Large, Range<usize>),
    /// A shared value, and what stands behind it.
    Framed(Large, &'static [u8]),
    /// Nothing was appended yet: [`super::Api::answer_decoded`] answers once this is done.
    Decode(Decode),
}

impl Tail<'_> {
    /// Moves bytes that lie in the store behind the head, so that the answer may wait.
    pub fn gather(self, out: &mut Vec<u8>) -> Tail<'static> {
        match self {
            Tail::Bytes(bytes) => {
                out.extend_from_slice(bytes);
                Tail::None
            }
            Tail::None => Tail::None,
            Tail::Large(value, range) => Tail::Large(value, range),
            Tail::Framed(value, behind) => Tail::Framed(value, behind),
            Tail::Decode(decode) => Tail::Decode(decode),
        }
    }
}
