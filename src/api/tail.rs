//! How an answer of several families begins, and what it consists of beside the bytes in the output.

use std::ops::Range;

use super::Api;
use super::coding::Decode;
use crate::http::{Request, Status, response};
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

impl Api {
    /// Appends the head of a success with so much JSON behind it.
    pub(super) fn begin_json(
        &mut self,
        request: &Request,
        head: &[u8],
        length: usize,
        close: bool,
        out: &mut Vec<u8>,
    ) {
        self.preamble.begin(out, Status::Ok);
        out.extend_from_slice(b"Content-Type: application/json\r\n");
        response::content_length(out, length as u64);
        self.end(Some((request, head)), close, out);
    }
}
