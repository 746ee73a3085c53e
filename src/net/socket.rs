//! A connected socket: plain, or TLS over that.
//!
//! Both have one face, that of a non-blocking stream under edge-triggered readiness: a read that returns
//! less than it was given room for has drained the socket, and a write that takes less than it was given
//! has filled it. Where TLS cannot keep to that, because it buffers, it says so: [`TlsStream::has_more`],
//! [`Socket::has_unsent`], [`Socket::is_paused`]. A plain socket pays the comparison of a tag for each of
//! its calls; that is why TCP and Unix sockets, which the system reads and writes in the same way, are
//! one variant, and why nothing of TLS is inlined here (PERF.md).

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;

use crate::net::output::{Written, write_slices};
use crate::net::tls::TlsStream;

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// Bytes as they are, over TCP or between processes of this machine. The type says TCP because that
    /// is the one of the two that has no path; nothing of TCP is asked of it.
    Plain(TcpStream),
    /// TLS, over TCP.
    Tls(Box<TlsStream>),
}

impl Socket {
    /// Reads once. `None` when there is nothing to read now, 0 at the end.
    ///
    /// # Errors
    /// What the system or TLS says of a connection that is broken.
    pub fn read_some(&mut self, room: &mut [u8]) -> io::Result<Option<usize>> {
        // Told apart first and not within: each kind has its own loop, and the plain one is not longer than it
        // would be alone.
        match self {
            Socket::Plain(stream) => read_once(stream, room),
            Socket::Tls(stream) => read_once(&mut **stream, room),
        }
    }

    /// One write of several slices. All is only what has gone to the system.
    ///
    /// # Errors
    /// What the system or TLS says of a connection that is broken.
    pub fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        match self {
            Socket::Plain(stream) => write_slices(stream, slices),
            Socket::Tls(stream) => match write_slices(&mut **stream, slices)? {
                Written::All if stream.has_unsent() => {
                    Ok(Written::Part(slices.iter().map(|slice| slice.len()).sum()))
                }
                written => Ok(written),
            },
        }
    }

    /// Whether bytes that were written have yet to go to the system; [`Write::flush`] offers them again.
    pub fn has_unsent(&self) -> bool {
        match self {
            Socket::Plain(_) => false,
            Socket::Tls(stream) => stream.has_unsent(),
        }
    }

    /// Whether the last write stopped although the socket was not full, so as not to hold up others.
    pub fn is_paused(&self) -> bool {
        match self {
            Socket::Plain(_) => false,
            Socket::Tls(stream) => stream.is_paused(),
        }
    }

    /// Whether anything went to the system since this was last asked, beside what a write reported.
    pub fn take_progress(&mut self) -> bool {
        match self {
            Socket::Plain(_) => false,
            Socket::Tls(stream) => stream.take_progress(),
        }
    }

    /// The TLS of it, if it has that.
    pub fn tls_mut(&mut self) -> Option<&mut TlsStream> {
        match self {
            Socket::Plain(_) => None,
            Socket::Tls(stream) => Some(stream),
        }
    }

    /// The system's socket, for registration.
    pub fn system_mut(&mut self) -> &mut TcpStream {
        match self {
            Socket::Plain(stream) => stream,
            Socket::Tls(stream) => stream.tcp_mut(),
        }
    }

    /// Ends the sending half. What comes in after that is raw: it is to be thrown away. False when that
    /// has to wait until the socket takes more; call it again then.
    ///
    /// # Errors
    /// What the system reports for a connection that is gone.
    pub fn end_sending(&mut self) -> io::Result<bool> {
        match self {
            Socket::Plain(stream) => stream.shutdown(Shutdown::Write).map(|()| true),
            Socket::Tls(stream) => stream.end_sending(),
        }
    }

    /// Says good-bye to the peer as far as that goes without waiting, before the socket is dropped
    /// behind its last complete answer.
    pub fn part(&mut self) {
        if let Socket::Tls(stream) = self {
            stream.part();
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(stream) => stream.write(bytes),
            Socket::Tls(stream) => stream.write(bytes),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Socket::Plain(stream) => stream.write_vectored(slices),
            Socket::Tls(stream) => stream.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Socket::Plain(_) => Ok(()),
            Socket::Tls(stream) => stream.flush(),
        }
    }
}

/// Reads once. `None` when there is nothing to read now, 0 at the end.
fn read_once(stream: &mut impl Read, room: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        return match stream.read(room) {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
    }
}
