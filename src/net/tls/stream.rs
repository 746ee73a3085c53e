//! A TLS connection with the face of a plain socket.
//!
//! Ciphertext is read in large pieces into a buffer of the thread and handed to rustls from there;
//! plaintext goes from rustls straight into the caller's room. What the caller has no room for stays
//! here, at most a piece, and the caller's own rule (a full read is to be repeated) brings it back for
//! it. Output is encrypted in steps of [`TLS_OUTPUT_BYTES_MAX`], the next one only when the one before
//! is with the system, so that a client that does not read holds one step at most.
//!
//! The end of input is the peer's `close_notify` or the end of the TCP stream, whichever comes first.
//! That the latter can be forged matters to nobody: HTTP/1.1 tells the length of every request, and
//! one that is cut short is never executed.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::{ServerConfig, ServerConnection};

use crate::limits::{TLS_HANDSHAKE_BYTES_MAX, TLS_OUTPUT_BYTES_MAX};

/// Ciphertext read in one call to the system.
const INPUT_BYTES: usize = 32 * 1_024;

/// Less is not read at a time, however little room the caller has.
const INPUT_BYTES_MIN: usize = 4 * 1_024;

/// Ciphertext taken in one read: bounds the work on records that hold next to nothing, of which 16 KiB
/// may be 700.
const INPUT_BYTES_PER_READ: usize = 128 * 1_024;

/// Plaintext encrypted in one write, some 0.2 ms.
const OUTPUT_BYTES_PER_WRITE: usize = 512 * 1_024;

/// Slices that one write takes.
const SLICES_MAX: usize = 16;

thread_local! {
    /// Where ciphertext is read to; empty between calls.
    static INPUT: RefCell<Box<[u8]>> = RefCell::new(vec![0; INPUT_BYTES].into_boxed_slice());
}

/// How far a handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// It waits for the client, and nothing that costs much was done.
    Waits,
    /// It waits for the client, and keys were worked on.
    Worked,
    /// It is complete.
    Done,
    /// The client speaks no TLS but something that may well be HTTP. From now on, so does this side.
    Plain,
}

/// How the input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The peer has nothing more to say.
    Closed,
    /// What it says is no TLS.
    Broken,
}

/// A TLS connection.
pub struct TlsStream {
    tcp: TcpStream,
    tls: ServerConnection,
    /// Ciphertext that was read and not handed to rustls, since the caller had no room for more.
    unfed: Vec<u8>,
    end: Option<End>,
    /// The peer's `close_notify` has come. What came before it may not all be taken yet.
    peer_has_closed: bool,
    /// The last read stopped at its bound.
    has_more: bool,
    /// The last write stopped at its bound.
    is_paused: bool,
    /// Ciphertext went to the system.
    progress: bool,
    /// TLS is over, or never began: bytes pass as they are.
    is_raw: bool,
    /// What a handshake has sent so far.
    handshake_bytes: usize,
}

/// Reads once from a socket and keeps what the first byte was.
struct FirstByte<'s>(&'s mut TcpStream, Option<u8>);

impl Read for FirstByte<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(room)?;
        self.1 = room[..count].first().copied();
        Ok(count)
    }
}

impl TlsStream {
    /// A connection before its handshake.
    pub(super) fn new(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<TlsStream> {
        let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
        tls.set_buffer_limit(Some(TLS_OUTPUT_BYTES_MAX));
        Ok(TlsStream {
            tcp,
            tls,
            unfed: Vec::new(),
            end: None,
            peer_has_closed: false,
            has_more: false,
            is_paused: false,
            progress: false,
            is_raw: false,
            handshake_bytes: 0,
        })
    }

    /// The socket below, for registration.
    pub fn tcp_mut(&mut self) -> &mut TcpStream {
        &mut self.tcp
    }

    /// Whether a read may bring something although the last one was short and the system has not said
    /// anything since.
    pub fn has_more(&self) -> bool {
        self.has_more || self.peer_has_closed || self.end.is_some()
    }

    /// See [`Socket::has_unsent`](crate::net::socket::Socket::has_unsent).
    pub fn has_unsent(&self) -> bool {
        self.tls.wants_write() && !self.is_raw
    }

    /// See [`Socket::is_paused`](crate::net::socket::Socket::is_paused).
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// See [`Socket::take_progress`](crate::net::socket::Socket::take_progress).
    pub fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progress)
    }

    /// Takes a step of the handshake: as much as one read from the socket brings.
    ///
    /// # Errors
    /// `WouldBlock` when the client has sent nothing, `UnexpectedEof` when it has gone, `InvalidData` for
    /// what is no handshake this side takes part in; the client has been told why then.
    #[inline(never)]
    pub fn shake_hands(&mut self) -> io::Result<Handshake> {
        let mut source = FirstByte(&mut self.tcp, None);
        let count = loop {
            match self.tls.read_tls(&mut source) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // No record of TLS begins with a letter, every request of HTTP does.
        if self.handshake_bytes == 0 && source.1.is_some_and(|byte| byte.is_ascii_alphabetic()) {
            self.is_raw = true;
            return Ok(Handshake::Plain);
        }
        self.handshake_bytes += count;
        self.process()?;
        let worked = self.tls.wants_write();
        self.offer()?;
        if !self.tls.is_handshaking() {
            return Ok(Handshake::Done);
        }
        if self.handshake_bytes > TLS_HANDSHAKE_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(if worked { Handshake::Worked } else { Handshake::Waits })
    }

    /// Has rustls look at what it was given. What it answers by itself is sent as far as that goes: the
    /// reason of a refusal, too.
    fn process(&mut self) -> io::Result<()> {
        match self.tls.process_new_packets() {
            Ok(state) => {
                self.peer_has_closed = state.peer_has_closed();
                Ok(())
            }
            Err(error) => {
                let _ = self.tls.write_tls(&mut self.tcp);
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    /// Sends ciphertext until none is left (true) or the socket is full.
    fn offer(&mut self) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.tcp) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => self.progress = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Fills the room, by way of `input`.
    fn read_through(&mut self, input: &mut [u8], room: &mut [u8]) -> io::Result<usize> {
        self.has_more = false;
        let mut filled = self.take_plaintext(room)?;
        let unfed = std::mem::take(&mut self.unfed);
        self.feed(&unfed, room, &mut filled)?;
        let mut budget = INPUT_BYTES_PER_READ;
        while filled < room.len() && self.end.is_none() {
            if budget == 0 {
                self.has_more = true;
                break;
            }
            let wanted = (room.len() - filled).clamp(INPUT_BYTES_MIN, input.len()).min(budget);
            let count = match self.tcp.read(&mut input[..wanted]) {
                Ok(0) => {
                    self.end = Some(End::Closed);
                    break;
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) if filled > 0 => {
                    self.end = Some(End::Broken);
                    break;
                }
                Err(error) => return Err(error),
            };
            budget -= count;
            self.feed(&input[..count], room, &mut filled)?;
            // A short read has drained the socket. With nothing to show for it, its owner may have heard of the
            // end already, and would not come back: then the system has to say it.
            if count < wanted && filled > 0 {
                break;
            }
        }
        // Answers to what came: tickets, new keys. What the socket does not take now waits for the writer.
        self.offer()?;
        Ok(filled)
    }

    /// Hands ciphertext to rustls and takes plaintext until there is no more of the one or no more room for
    /// the other.
    fn feed(&mut self, mut ciphertext: &[u8], room: &mut [u8], filled: &mut usize) -> io::Result<()> {
        while !ciphertext.is_empty() && self.end.is_none() {
            if *filled == room.len() {
                self.unfed.extend_from_slice(ciphertext);
                return Ok(());
            }
            // It takes some KiB at a time, and none behind a `close_notify`.
            let result = self.tls.read_tls(&mut ciphertext).and_then(|_| self.process());
            *filled += self.take_plaintext(&mut room[*filled..])?;
            match result {
                Ok(()) => {}
                Err(_) if *filled > 0 => self.end = Some(End::Broken),
                Err(error) => {
                    self.end = Some(End::Broken);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Moves what rustls has decrypted into the room.
    fn take_plaintext(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if room.is_empty() {
            return Ok(0);
        }
        match self.tls.reader().read(room) {
            Ok(0) => {
                self.end = self.end.or(Some(End::Closed));
                Ok(0)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            taken => taken,
        }
    }

    /// See [`Socket::end_sending`](crate::net::socket::Socket::end_sending).
    #[inline(never)]
    pub fn end_sending(&mut self) -> io::Result<bool> {
        if !self.is_raw {
            self.tls.send_close_notify();
            if !self.offer()? {
                return Ok(false);
            }
            // Nobody will look at what comes now, so nobody needs it decrypted.
            self.is_raw = true;
        }
        self.tcp.shutdown(Shutdown::Write)?;
        Ok(true)
    }

    /// See [`Socket::part`](crate::net::socket::Socket::part).
    #[inline(never)]
    pub fn part(&mut self) {
        if !self.is_raw && !self.tls.wants_write() {
            self.tls.send_close_notify();
            let _ = self.tls.write_tls(&mut self.tcp);
        }
    }
}

impl Read for TlsStream {
    /// Reads as a plain socket does: less than there is room for means that the socket is drained, but for
    /// what [`TlsStream::has_more`] says.
    #[inline(never)]
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.is_raw {
            return self.tcp.read(room);
        }
        if room.is_empty() {
            return Ok(0);
        }
        let filled = INPUT.with_borrow_mut(|input| self.read_through(input, room))?;
        match self.end {
            _ if filled > 0 => Ok(filled),
            Some(End::Closed) => Ok(0),
            Some(End::Broken) => Err(io::ErrorKind::InvalidData.into()),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for TlsStream {
    /// Encrypts and sends, as [`TlsStream::write_vectored`] does.
    #[inline(never)]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    /// Encrypts and sends. What it says is taken is taken, though [`TlsStream::has_unsent`] may say that
    /// its last part has yet to go to the system.
    #[inline(never)]
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_raw {
            return self.tcp.write_vectored(slices);
        }
        self.is_paused = false;
        let mut rest = [IoSlice::new(&[]); SLICES_MAX];
        let count = slices.len().min(SLICES_MAX);
        rest[..count].copy_from_slice(&slices[..count]);
        let mut rest = &mut rest[..count];
        // Skips slices that are empty.
        IoSlice::advance_slices(&mut rest, 0);
        let mut taken = 0;
        loop {
            match self.offer()? {
                true if rest.is_empty() => return Ok(taken),
                false if taken == 0 => return Err(io::ErrorKind::WouldBlock.into()),
                false => return Ok(taken),
                true => {}
            }
            if taken >= OUTPUT_BYTES_PER_WRITE {
                self.is_paused = true;
                return Ok(taken);
            }
            let step = self.tls.writer().write_vectored(rest)?;
            if step == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            taken += step;
            IoSlice::advance_slices(&mut rest, step);
        }
    }

    /// Sends what was encrypted already.
    #[inline(never)]
    fn flush(&mut self) -> io::Result<()> {
        self.is_paused = false;
        match self.is_raw || self.offer()? {
            true => Ok(()),
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TlsStream").field("tcp", &self.tcp).field("end", &self.end).finish_non_exhaustive()
    }
}
