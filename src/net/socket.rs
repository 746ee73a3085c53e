//! A connected socket of any kind: plain TCP, a Unix socket, or TLS over TCP.
//!
//! All three have one face, that of a non-blocking stream under edge-triggered readiness: a read that
//! returns less than it was given room for has drained the socket, and a write that takes less than it
//! was given has filled it. Where TLS cannot keep to that, because it buffers, it says so:
//! [`Socket::has_more`], [`Socket::has_unsent`], [`Socket::is_paused`]. For a plain socket each of these
//! is the comparison of a tag.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

use crate::net::tls::TlsStream;

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// HTTP as it is.
    Tcp(TcpStream),
    /// The same between processes of one machine.
    Unix(UnixStream),
    /// HTTP in TLS.
    Tls(Box<TlsStream>),
}

impl Socket {
    /// Whether a read may bring something although the last one was short and the system has not said
    /// anything since.
    pub fn has_more(&self) -> bool {
        match self {
            Socket::Tcp(_) | Socket::Unix(_) => false,
            Socket::Tls(stream) => stream.has_more(),
        }
    }

    /// Whether bytes that were written have yet to go to the system; [`Write::flush`] offers them again.
    pub fn has_unsent(&self) -> bool {
        match self {
            Socket::Tcp(_) | Socket::Unix(_) => false,
            Socket::Tls(stream) => stream.has_unsent(),
        }
    }

    /// Whether the last write stopped although the socket was not full, so as not to hold up others.
    pub fn is_paused(&self) -> bool {
        match self {
            Socket::Tcp(_) | Socket::Unix(_) => false,
            Socket::Tls(stream) => stream.is_paused(),
        }
    }

    /// Whether anything went to the system since this was last asked, beside what a write reported.
    pub fn take_progress(&mut self) -> bool {
        match self {
            Socket::Tcp(_) | Socket::Unix(_) => false,
            Socket::Tls(stream) => stream.take_progress(),
        }
    }

    /// The TLS of it, if it has that.
    pub fn tls_mut(&mut self) -> Option<&mut TlsStream> {
        match self {
            Socket::Tcp(_) | Socket::Unix(_) => None,
            Socket::Tls(stream) => Some(stream),
        }
    }

    /// Ends the sending half. What comes in after that is raw: it is to be thrown away. False when that
    /// has to wait until the socket takes more; call it again then.
    ///
    /// # Errors
    /// What the system reports for a connection that is gone.
    pub fn end_sending(&mut self) -> io::Result<bool> {
        match self {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write)?,
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write)?,
            Socket::Tls(stream) => return stream.end_sending(),
        }
        Ok(true)
    }

    /// Says good-bye to the peer as far as that goes without waiting, before the socket is dropped
    /// behind its last complete answer.
    pub fn part(&mut self) {
        if let Socket::Tls(stream) = self {
            stream.part();
        }
    }
}

impl Read for Socket {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(room),
            Socket::Unix(stream) => stream.read(room),
            Socket::Tls(stream) => stream.read(room),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
            Socket::Tls(stream) => stream.write_vectored(&[IoSlice::new(bytes)]),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write_vectored(slices),
            Socket::Unix(stream) => stream.write_vectored(slices),
            Socket::Tls(stream) => stream.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Socket::Tcp(_) | Socket::Unix(_) => Ok(()),
            Socket::Tls(stream) => stream.flush(),
        }
    }
}

impl Source for Socket {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.register(registry, token, interests),
            Socket::Unix(stream) => stream.register(registry, token, interests),
            Socket::Tls(stream) => stream.tcp_mut().register(registry, token, interests),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.reregister(registry, token, interests),
            Socket::Unix(stream) => stream.reregister(registry, token, interests),
            Socket::Tls(stream) => stream.tcp_mut().reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.deregister(registry),
            Socket::Unix(stream) => stream.deregister(registry),
            Socket::Tls(stream) => stream.tcp_mut().deregister(registry),
        }
    }
}
