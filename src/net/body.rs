//! Bodies that do not fit into a connection's block: gathered aside, within the part of the memory
//! that all bodies in flight may take.
//!
//! A sized body is read from the socket straight into its place. A chunked one passes through the
//! block and its reservation grows with it. Memory is reserved before a byte is asked for, so a
//! crowd of uploads is refused, not swallowed. Values that were decoded for one client draw on it
//! too, until they are sent.

use std::sync::Arc;

use crate::http::{BodyDecoder, Refusal};
use crate::limits::VALUE_COPY_BYTES_MAX;
use crate::memory::{Large, LargeBuf, Memory, Reservation};
use crate::op::Payload;

/// A body on its way in.
#[derive(Debug)]
pub struct Upload {
    bytes: Gathered,
    /// How much of a sized body has come. A chunked one is as long as what has come.
    filled: usize,
    framing: UploadFraming,
    reservation: Reservation,
}

/// What has come of a body, in the place that its kind of value is kept in.
#[derive(Debug)]
enum Gathered {
    Small(Vec<u8>),
    Large(LargeBuf),
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
    pub fn sized(bytes: usize, memory: &Arc<Memory>) -> Result<Upload, UploadError> {
        let is_large = bytes > VALUE_COPY_BYTES_MAX;
        let reservation = memory.reserve(bytes as u64).ok_or(UploadError::NoRoom)?;
        let (bytes, reservation) = match is_large {
            true => (Gathered::Large(LargeBuf::of_length(bytes)), reservation.for_large()),
            false => (Gathered::Small(vec![0; bytes]), reservation),
        };
        Ok(Upload { bytes, filled: 0, framing: UploadFraming::Sized, reservation })
    }

    /// A body whose end only its chunks tell.
    pub fn chunked(decoder: BodyDecoder, bytes_max: u64, memory: &Arc<Memory>) -> Upload {
        Upload {
            bytes: Gathered::Small(Vec::new()),
            filled: 0,
            framing: UploadFraming::Chunked { decoder, bytes_max: bytes_max as usize },
            reservation: memory.reserve_nothing(),
        }
    }

    /// Where the rest of a sized body goes, for reading from the socket straight into it.
    pub fn sized_rest(&mut self) -> Option<&mut [u8]> {
        match self.framing {
            UploadFraming::Sized => Some(&mut self.bytes.bytes_mut()[self.filled..]),
            UploadFraming::Chunked { .. } => None,
        }
    }

    /// Notes that so many bytes were read into [`Upload::sized_rest`]. True when that was all.
    pub fn advance(&mut self, count: usize) -> bool {
        self.filled += count;
        self.filled == self.bytes.bytes().len()
    }

    /// How many bytes have come.
    pub fn received(&self) -> usize {
        self.filled
    }

    /// Takes what it can from `input`: how much that was, and whether the body is complete.
    pub fn feed(&mut self, input: &[u8]) -> Result<(usize, bool), UploadError> {
        match &mut self.framing {
            UploadFraming::Sized => {
                let rest = &mut self.bytes.bytes_mut()[self.filled..];
                let count = input.len().min(rest.len());
                rest[..count].copy_from_slice(&input[..count]);
                Ok((count, self.advance(count)))
            }
            UploadFraming::Chunked { decoder, bytes_max } => {
                let mut consumed = 0;
                loop {
                    let decoded = decoder.decode(&input[consumed..]).map_err(UploadError::Malformed)?;
                    consumed += decoded.consumed;
                    let length = self.filled + decoded.data.len();
                    if length > *bytes_max {
                        return Err(UploadError::TooLarge);
                    }
                    if !self.bytes.append(decoded.data, *bytes_max, &mut self.reservation) {
                        return Err(UploadError::NoRoom);
                    }
                    self.filled = length;
                    if decoded.done || decoded.consumed == 0 {
                        return Ok((consumed, decoded.done));
                    }
                }
            }
        }
    }

    /// The complete body.
    pub fn finish(self: Box<Self>) -> Body {
        match self.bytes {
            Gathered::Small(_) => Body::Small(self),
            Gathered::Large(bytes) => Body::Large(bytes.freeze()),
        }
    }
}

impl Gathered {
    fn bytes(&self) -> &[u8] {
        match self {
            Gathered::Small(bytes) => bytes,
            Gathered::Large(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Gathered::Small(bytes) => bytes,
            Gathered::Large(bytes) => bytes,
        }
    }

    /// Appends bytes of a chunked body of at most `bytes_max`, reserving what they take first. False
    /// without room for them.
    fn append(&mut self, piece: &[u8], bytes_max: usize, reservation: &mut Reservation) -> bool {
        let length = self.bytes().len() + piece.len();
        let capacity = match self {
            _ if piece.is_empty() => 0,
            Gathered::Small(_) if length <= VALUE_COPY_BYTES_MAX => VALUE_COPY_BYTES_MAX,
            Gathered::Large(bytes) if length <= bytes.capacity() => 0,
            Gathered::Small(_) => length.max(2 * VALUE_COPY_BYTES_MAX).min(bytes_max),
            Gathered::Large(bytes) => length.max(2 * bytes.capacity()).min(bytes_max),
        } as u64;
        if capacity > reservation.bytes() && !reservation.grow(capacity - reservation.bytes()) {
            return false;
        }
        if let Gathered::Small(bytes) = self
            && length > VALUE_COPY_BYTES_MAX
        {
            reservation.becomes_large();
            let mut large = LargeBuf::with_capacity(capacity as usize);
            large.extend(bytes);
            *self = Gathered::Large(large);
        }
        match self {
            Gathered::Small(bytes) => bytes.extend_from_slice(piece),
            Gathered::Large(bytes) => {
                bytes.grow(capacity as usize);
                bytes.extend(piece);
            }
        }
        true
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
    /// Up to [`VALUE_COPY_BYTES_MAX`] beside the block, reserved as long as they are here.
    Small(Box<Upload>),
    /// More than that, to be shared with the store. Counted by itself.
    Large(Large),
}

impl Body {
    /// No body.
    pub const EMPTY: Body = Body::InBlock { at: 0, length: 0 };

    /// The body as it goes into an operation.
    pub fn payload<'a>(&'a self, block: &'a [u8]) -> Payload<'a> {
        match self {
            Body::InBlock { at, length } => Payload::Bytes(&block[*at as usize..][..*length as usize]),
            Body::Small(upload) => Payload::Bytes(upload.bytes.bytes()),
            Body::Large(large) => Payload::Large(large),
        }
    }
}
