//! What could not be written at once: kept in order until the peer reads again.
//!
//! Bytes are copied here only when the socket is full, or when they must wait for the journal. Large values
//! are not: the backlog holds a share of them. Its size is bounded because a connection with a backlog
//! is neither read nor answered.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::ops::Range;

use crate::http::Request;
use crate::memory::{Large, Reservation};

/// Pieces handed to the system in one call.
const PIECES_PER_WRITE: usize = 16;

/// Room that is kept for the next bytes when some are sent.
const SPARE_BYTES_MAX: usize = 4 * 1_024;

#[derive(Debug)]
enum Piece {
    Bytes { bytes: Vec<u8>, sent: usize },
    Large { value: Large, range: Range<usize> },
}

impl Piece {
    fn rest(&self) -> &[u8] {
        match self {
            Piece::Bytes { bytes, sent } => &bytes[*sent..],
            Piece::Large { value, range } => &value[range.clone()],
        }
    }

    fn copied_bytes(&self) -> u64 {
        match self {
            Piece::Bytes { bytes, .. } => bytes.capacity() as u64,
            Piece::Large { .. } => 0,
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Piece::Bytes { sent, .. } => *sent += count,
            Piece::Large { range, .. } => range.start += count,
        }
    }
}

/// The first answer of a backlog that waits for the journal.
#[derive(Debug)]
pub struct Owed {
    /// How many bytes of the backlog stand before it.
    pub at: usize,
    /// What it answers.
    pub request: Request,
    /// The head of that.
    pub head: Vec<u8>,
}

/// Unsent output of one connection.
#[derive(Debug, Default)]
pub struct Backlog {
    pieces: VecDeque<Piece>,
    /// Where the first answer begins that waits for the journal and of which nothing has gone, and what it
    /// answers.
    owed: Option<(usize, Request)>,
    /// The head of that, so that something else can be answered. Room for the next one when it is empty.
    owed_head: Vec<u8>,
    /// What a piece draws on the budget of bodies, as long as anything is unsent.
    held: Option<Reservation>,
    /// Room of bytes that are sent, for the next ones.
    spare: Vec<u8>,
}

/// What came of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Everything is with the system.
    All,
    /// The socket is full; the number of bytes that went.
    Part(usize),
}

impl Backlog {
    /// Keeps bytes for later.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let mut kept = std::mem::take(&mut self.spare);
            kept.extend_from_slice(bytes);
            self.pieces.push_back(Piece::Bytes { bytes: kept, sent: 0 });
        }
    }

    /// Keeps a share of a large value for later.
    pub fn push_large(&mut self, value: Large, range: Range<usize>) {
        if !range.is_empty() {
            self.pieces.push_back(Piece::Large { value, range });
        }
    }

    /// Notes which of the answers that will be pushed is the first one to wait for the journal: where it begins,
    /// unless some of it has gone before, and what it answers.
    pub fn owe(&mut self, at: Option<usize>, request: &Request, head: &[u8]) {
        self.owed_head.clear();
        self.owed = at.map(|at| (at, *request));
        if self.owed.is_some() {
            self.owed_head.extend_from_slice(head);
        }
    }

    /// Whether one is noted.
    pub fn is_owed(&self) -> bool {
        self.owed.is_some()
    }

    /// Forgets which that is, and answers it.
    pub fn take_owed(&mut self) -> Option<Owed> {
        let (at, request) = self.owed.take()?;
        Some(Owed { at, request, head: std::mem::take(&mut self.owed_head) })
    }

    /// Forgets everything behind so many bytes. Nothing of it was sent.
    pub fn cut(&mut self, mut bytes: usize) {
        self.held = None;
        for at in 0..self.pieces.len() {
            let length = self.pieces[at].rest().len();
            if bytes < length {
                match &mut self.pieces[at] {
                    Piece::Bytes { bytes: kept, sent } => kept.truncate(*sent + bytes),
                    Piece::Large { range, .. } => range.end = range.start + bytes,
                }
                self.pieces.truncate(at + 1);
                return;
            }
            bytes -= length;
        }
    }

    /// Bytes that it holds by itself.
    pub fn copied_bytes(&self) -> u64 {
        self.pieces.iter().map(Piece::copied_bytes).sum::<u64>() + self.owed_head.capacity() as u64
    }

    /// Forgets everything but room for the next use.
    pub fn empty(&mut self) {
        self.pieces.clear();
        self.held = None;
        self.owed = None;
        self.owed_head.clear();
        self.owed_head.shrink_to(SPARE_BYTES_MAX);
    }

    /// What it takes while it is empty.
    pub fn spare_bytes(&self) -> u64 {
        self.spare.capacity() as u64 + self.owed_head.capacity() as u64
    }

    /// Whether a large value is unsent.
    pub fn holds_large(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Large { .. }))
    }

    /// Whether one is that no store has any more.
    pub fn holds_left(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Large { value, .. } if value.has_left()))
    }

    /// Keeps a reservation until everything is sent.
    pub fn hold(&mut self, reservation: Reservation) {
        self.held = Some(reservation);
    }

    /// Writes as much as the socket takes, what it holds back itself included.
    pub fn flush(&mut self, socket: &mut impl Write) -> io::Result<Written> {
        let mut total = 0;
        if let [one] = self.pieces.as_slices().0
            && self.pieces.len() == 1
        {
            // What has waited for the journal.
            let offered = one.rest().len();
            total = match write_slices(socket, &[IoSlice::new(one.rest())])? {
                Written::All => offered,
                Written::Part(sent) => sent,
            };
            self.advance(total);
            if total < offered {
                return Ok(Written::Part(total));
            }
        }
        while !self.pieces.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES_PER_WRITE];
            let mut offered = 0;
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece.rest());
                offered += piece.rest().len();
                count += 1;
            }
            let sent = match write_slices(socket, &slices[..count])? {
                Written::All => offered,
                Written::Part(sent) => sent,
            };
            total += sent;
            self.advance(sent);
            if sent < offered {
                return Ok(Written::Part(total));
            }
        }
        match socket.flush() {
            Ok(()) => Ok(Written::All),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Written::Part(total)),
            Err(error) => Err(error),
        }
    }

    fn advance(&mut self, mut sent: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            let rest = piece.rest().len();
            if sent < rest {
                piece.advance(sent);
                return;
            }
            sent -= rest;
            if let Some(Piece::Bytes { mut bytes, .. }) = self.pieces.pop_front()
                && (self.spare.capacity()..=SPARE_BYTES_MAX).contains(&bytes.capacity())
            {
                bytes.clear();
                self.spare = bytes;
            }
        }
    }
}

/// One write of several slices. A full socket is an outcome, not an error.
pub fn write_slices(socket: &mut impl Write, slices: &[IoSlice<'_>]) -> io::Result<Written> {
    let offered: usize = slices.iter().map(|slice| slice.len()).sum();
    loop {
        let result = match slices {
            [one] => socket.write(one),
            several => socket.write_vectored(several),
        };
        return match result {
            Ok(sent) if sent == offered => Ok(Written::All),
            Ok(sent) => Ok(Written::Part(sent)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Written::Part(0)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use super::{Backlog, Written};
    use crate::memory::Large;

    /// Takes a few bytes at a time and is full every other time.
    struct Trickle {
        taken: Vec<u8>,
        full: bool,
    }

    impl Write for Trickle {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.full = !self.full;
            if self.full {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let count = bytes.len().min(3);
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_full_socket_refuses_goes_out_later_in_order() {
        let mut backlog = Backlog::default();
        backlog.push_bytes(b"head of the answer, ");
        backlog.push_large(Large::copy_of(b"..a large value.."), 2..15);
        backlog.push_bytes(b"");
        backlog.push_bytes(b", next");
        let mut socket = Trickle { taken: Vec::new(), full: false };
        let mut rounds = 0;
        while backlog.flush(&mut socket).unwrap() != Written::All {
            rounds += 1;
            assert!(rounds < 100);
        }
        assert!(backlog.pieces.is_empty());
        assert_eq!(socket.taken, b"head of the answer, a large value, next");
    }

    #[test]
    fn a_backlog_is_cut_at_every_byte() {
        let whole = b"head, a large value, next";
        for at in 0..=whole.len() + 1 {
            let mut backlog = Backlog::default();
            backlog.push_bytes(b"head, ");
            backlog.push_large(Large::copy_of(b"..a large value.."), 2..15);
            backlog.push_bytes(b", next");
            backlog.cut(at);
            backlog.push_bytes(b"!");
            let mut taken = Vec::new();
            assert_eq!(backlog.flush(&mut taken).unwrap(), Written::All);
            assert_eq!(taken, [&whole[..at.min(whole.len())], b"!"].concat());
        }
    }
}
