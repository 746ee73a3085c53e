//! Bodies that do not fit into a connection's block: gathered aside, within a budget that all
//! reactors share.
//!
//! A sized body is read from the socket straight into its place. A chunked one passes through the
//! block and its reservation grows with it. The budget is reserved before a byte is asked for, so a
//! crowd of uploads is refused, not swallowed. Values that were decoded for one client draw on it
//! too, until they are sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::http::{BodyDecoder, Refusal};
use crate::limits::VALUE_COPY_BYTES_MAX;
use crate::op::{Large, Payload};

/// By how much the reservation of a chunked body grows.
const CHUNKED_STEP_BYTES: usize = 64 * 1_024;

/// What all bodies in flight may take together.
#[derive(Debug)]
pub struct BodyBudget {
    left_bytes: AtomicUsize,
}

impl BodyBudget {
    /// A budget of so many bytes.
    pub fn new(bytes: usize) -> Arc<BodyBudget> {
        Arc::new(BodyBudget { left_bytes: AtomicUsize::new(bytes) })
    }

    /// A part of what is left, if that is enough.
    pub fn reserve(self: &Arc<BodyBudget>, bytes: usize) -> Option<Reservation> {
        let mut reservation = Reservation { bytes: 0, budget: self.clone() };
        reservation.grow(bytes).then_some(reservation)
    }
}

/// A part of the budget, until it is dropped.
#[derive(Debug)]
pub struct Reservation {
    bytes: usize,
    budget: Arc<BodyBudget>,
}

impl Reservation {
    fn grow(&mut self, bytes: usize) -> bool {
        let left = |left: usize| left.checked_sub(bytes);
        let taken = self.budget.left_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok();
        if taken {
            self.bytes += bytes;
        }
        taken
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.left_bytes.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// A body on its way in.
#[derive(Debug)]
pub struct Upload {
    bytes: Vec<u8>,
    /// How much of a sized body has come. A chunked one is as long as what has come.
    filled: usize,
    framing: UploadFraming,
    reservation: Reservation,
}

#[derive(Debug)]
enum UploadFraming {
    Sized,
    Chunked { decoder: BodyDecoder, bytes_max: usize },
}

/// Why an upload cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadError {
    /// All bodies in flight together are at their bound.
    NoRoom,
    /// The body is longer than its route takes.
    TooLarge,
    /// Its chunks are malformed.
    Malformed(Refusal),
}

impl Upload {
    /// A body whose size the head told.
    pub fn sized(bytes: usize, budget: &Arc<BodyBudget>) -> Result<Upload, UploadError> {
        let reservation = budget.reserve(bytes).ok_or(UploadError::NoRoom)?;
        Ok(Upload { bytes: vec![0; bytes], filled: 0, framing: UploadFraming::Sized, reservation })
    }

    /// A body whose end only its chunks tell.
    pub fn chunked(decoder: BodyDecoder, bytes_max: u64, budget: &Arc<BodyBudget>) -> Upload {
        Upload {
            bytes: Vec::new(),
            filled: 0,
            framing: UploadFraming::Chunked { decoder, bytes_max: bytes_max as usize },
            reservation: Reservation { bytes: 0, budget: budget.clone() },
        }
    }

    /// Where the rest of a sized body goes, for reading from the socket straight into it.
    pub fn sized_rest(&mut self) -> Option<&mut [u8]> {
        match self.framing {
            UploadFraming::Sized => Some(&mut self.bytes[self.filled..]),
            UploadFraming::Chunked { .. } => None,
        }
    }

    /// Notes that so many bytes were read into [`Upload::sized_rest`]. True when that was all.
    pub fn advance(&mut self, count: usize) -> bool {
        self.filled += count;
        self.filled == self.bytes.len()
    }

    /// How many bytes have come.
    pub fn received(&self) -> usize {
        self.filled
    }

    /// Takes what it can from `input`: how much that was, and whether the body is complete.
    pub fn feed(&mut self, input: &[u8]) -> Result<(usize, bool), UploadError> {
        match &mut self.framing {
            UploadFraming::Sized => {
                let count = input.len().min(self.bytes.len() - self.filled);
                self.bytes[self.filled..self.filled + count].copy_from_slice(&input[..count]);
                Ok((count, self.advance(count)))
            }
            UploadFraming::Chunked { decoder, bytes_max } => {
                let mut consumed = 0;
                loop {
                    let decoded = decoder.decode(&input[consumed..]).map_err(UploadError::Malformed)?;
                    consumed += decoded.consumed;
                    let length = self.bytes.len() + decoded.data.len();
                    if length > *bytes_max {
                        return Err(UploadError::TooLarge);
                    }
                    if length > self.reservation.bytes {
                        let step = (length - self.reservation.bytes).max(CHUNKED_STEP_BYTES);
                        if !self.reservation.grow(step) {
                            return Err(UploadError::NoRoom);
                        }
                    }
                    self.bytes.extend_from_slice(decoded.data);
                    self.filled = length;
                    if decoded.done || decoded.consumed == 0 {
                        return Ok((consumed, decoded.done));
                    }
                }
            }
        }
    }

    /// The complete body.
    pub fn finish(mut self) -> Body {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.len() > VALUE_COPY_BYTES_MAX { Body::Large(Large::new(bytes)) } else { Body::Small(bytes) }
    }
}

/// A complete body, wherever it lies.
#[derive(Debug)]
pub enum Body {
    /// In the connection's block, from this offset, of this length. Empty bodies too.
    InBlock {
        /// Offset in the block.
        at: u32,
        /// Bytes.
        length: u32,
    },
    /// Up to [`VALUE_COPY_BYTES_MAX`] bytes beside the block.
    Small(Vec<u8>),
    /// More than that, to be shared with the store.
    Large(Large),
}

impl Body {
    /// No body.
    pub const EMPTY: Body = Body::InBlock { at: 0, length: 0 };

    /// The body as it goes into an operation.
    pub fn payload<'a>(&'a self, block: &'a [u8]) -> Payload<'a> {
        match self {
            Body::InBlock { at, length } => Payload::Bytes(&block[*at as usize..][..*length as usize]),
            Body::Small(bytes) => Payload::Bytes(bytes),
            Body::Large(large) => Payload::Large(large),
        }
    }
}
