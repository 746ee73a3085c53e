//! Listening sockets, and which reactor serves a connection.
//!
//! Every reactor listens on the same ports (`SO_REUSEPORT`); the kernel spreads connections by hash,
//! unevenly when they are few. A Unix socket knows no such thing: one reactor listens for all. A reactor
//! with more than its share hands what it accepts to the one with the fewest. Out of descriptors, it waits and tries again: edge-triggered readiness would
//! not tell it a second time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use rustix::net::sockopt::socket_peercred;
use socket2::{Domain, Protocol, Socket, Type};

use crate::clock::Now;
use crate::shard::Arrival;

/// A bound and listening socket of TCP.
pub type ListenerSocket = TcpListener;

/// A listening socket, and what is spoken behind it.
#[derive(Debug)]
pub enum Door {
    /// HTTP.
    Plain(TcpListener),
    /// HTTP in TLS.
    Tls(TcpListener),
    /// HTTP between processes of this machine.
    Unix {
        /// The socket.
        listener: UnixListener,
        /// Users whose processes need no credential (`authentication.local_uids`).
        trusted_uids: Box<[u32]>,
    },
}

impl Door {
    fn accept(&self) -> io::Result<Arrival> {
        match self {
            Door::Plain(listener) => {
                Ok(Arrival::Plain { socket: listener.accept()?.0.into(), trusted_uid: None })
            }
            Door::Tls(listener) => Ok(Arrival::Tls(listener.accept()?.0.into())),
            Door::Unix { listener, trusted_uids } => {
                let (stream, _) = listener.accept()?;
                // Who connected, whoever has the descriptor now. Nobody that is unknown is trusted.
                let uid = socket_peercred(&stream).ok().map(|peer| peer.uid.as_raw());
                let trusted_uid = uid.filter(|uid| trusted_uids.contains(uid));
                Ok(Arrival::Plain { socket: stream.into(), trusted_uid })
            }
        }
    }

    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Door::Plain(listener) | Door::Tls(listener) => {
                registry.register(listener, token, Interest::READABLE)
            }
            Door::Unix { listener, .. } => registry.register(listener, token, Interest::READABLE),
        }
    }
}

/// Connections the kernel keeps for a reactor that has not accepted them yet.
const ACCEPT_QUEUE: i32 = 4_096;

/// Connections accepted in one turn.
pub const ACCEPTS_PER_TURN: usize = 256;

/// How long accepting pauses when the process or the system is out of descriptors or memory.
const PAUSE_MS: u64 = 100;

/// How often that is worth a line in the log.
const REPORT_MS: u64 = 10_000;

/// Binds `count` sockets to one address. Port 0 takes a free port for all of them.
///
/// A first socket without `SO_REUSEPORT` is bound and dropped, since with the option a second node
/// on a busy port would silently take a share of the first one's clients.
///
/// # Errors
/// What `bind` and `listen` report; `AddrInUse` for a busy port.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<(SocketAddr, Vec<ListenerSocket>)> {
    if address.port() != 0 {
        open(address, false)?;
    }
    let first = open(address, true)?;
    let bound = first.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut sockets = vec![first];
    while sockets.len() < count {
        sockets.push(open(bound, true)?);
    }
    for socket in &sockets {
        socket.listen(ACCEPT_QUEUE)?;
    }
    Ok((bound, sockets.into_iter().map(|socket| TcpListener::from_std(socket.into())).collect()))
}

/// Listens on a socket that somebody else has bound, with `count` descriptors of the same socket: all
/// reactors take from one queue, so none of those who wait in it is lost when the node is started again.
/// The price is that a new connection wakes every reactor that sleeps.
///
/// # Errors
/// `InvalidInput` if the socket does not listen; what the system reports.
pub fn share(socket: std::net::TcpListener, count: usize) -> io::Result<(SocketAddr, Vec<ListenerSocket>)> {
    let socket = Socket::from(socket);
    if !socket.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen"));
    }
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    let bound = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut sockets = vec![socket];
    while sockets.len() < count {
        sockets.push(sockets[0].try_clone()?);
    }
    Ok((bound, sockets.into_iter().map(|socket| TcpListener::from_std(socket.into())).collect()))
}

fn open(address: SocketAddr, share_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share_port)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit these, which saves a call for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.bind(&address.into())?;
    if !share_port {
        // Two sockets with SO_REUSEADDR may share a port until one of them listens.
        socket.listen(1)?;
    }
    Ok(socket)
}

/// Connections of each reactor, and how many still listen, for all to see.
#[derive(Clone, Debug)]
pub struct Loads {
    loads: Arc<[Load]>,
    listening: Arc<AtomicUsize>,
}

/// On a cache line of its own: its reactor writes it for every connection.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Load(AtomicUsize);

impl Loads {
    /// No connections on any of so many reactors.
    pub fn new(reactors: usize) -> Loads {
        Loads {
            loads: (0..reactors).map(|_| Load::default()).collect(),
            listening: Arc::new(AtomicUsize::new(reactors)),
        }
    }

    /// One more connection for this reactor. Counted by whoever gives it, so that a burst of
    /// hand-overs is spread too.
    pub fn add(&self, reactor: usize) {
        self.loads[reactor].0.fetch_add(1, Ordering::Relaxed);
    }

    /// One connection less.
    pub fn remove(&self, reactor: usize) {
        self.loads[reactor].0.fetch_sub(1, Ordering::Relaxed);
    }

    /// All connections of the node.
    pub fn total(&self) -> usize {
        self.loads.iter().map(|load| load.0.load(Ordering::Relaxed)).sum()
    }

    /// A reactor has closed its listening socket.
    pub fn stop_listening(&self) {
        self.listening.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether any reactor still takes connections.
    pub fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Relaxed) > 0
    }

    /// Which reactor should serve a connection that `me` accepted: `me`, unless another has clearly
    /// fewer.
    pub fn place(&self, me: usize) -> usize {
        let load = |reactor: usize| self.loads[reactor].0.load(Ordering::Relaxed);
        let least =
            (0..self.loads.len()).min_by_key(|reactor| (load(*reactor), *reactor != me)).unwrap_or(me);
        if load(me) > load(least) + load(least) / 16 { least } else { me }
    }
}

/// A reactor's listening socket.
#[derive(Debug)]
pub struct Listener {
    door: Door,
    /// There may be connections to accept.
    ready: bool,
    paused_until_ms: u64,
    /// When running out was last reported.
    reported_ms: u64,
}

impl Listener {
    /// A listener that has not been told of any connection.
    pub fn new(door: Door) -> Listener {
        Listener { door, ready: true, paused_until_ms: 0, reported_ms: 0 }
    }

    /// Has the system tell of connections under this token.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.door.register(registry, token)
    }

    /// Whether there may be connections to accept, now or after a pause.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// The system says that connections wait.
    pub fn readiness(&mut self) {
        self.ready = true;
    }

    /// Milliseconds until there is something to try, if there is.
    pub fn sleep_ms(&self, now: Now) -> Option<u64> {
        self.ready.then(|| self.paused_until_ms.saturating_sub(now.unix_ms))
    }

    /// The next connection, if one waits.
    pub fn accept(&mut self, now: Now) -> Option<Arrival> {
        if !self.ready || now.unix_ms < self.paused_until_ms {
            return None;
        }
        loop {
            match self.door.accept() {
                Ok(arrival) => return Some(arrival),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.ready = false;
                        return None;
                    }
                    // The client has gone again; the next one may be there.
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => {
                        self.paused_until_ms = now.unix_ms + PAUSE_MS;
                        if now.unix_ms >= self.reported_ms + REPORT_MS {
                            self.reported_ms = now.unix_ms;
                            log::warn!("cannot accept connections: {error}; trying every {PAUSE_MS} ms");
                        }
                        return None;
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Loads;

    #[test]
    fn a_reactor_with_more_than_its_share_hands_over() {
        let loads = Loads::new(3);
        assert_eq!(loads.place(1), 1);
        loads.add(1);
        assert_eq!(loads.place(1), 0);
        loads.add(0);
        assert_eq!(loads.place(1), 2);
        loads.add(2);
        assert_eq!(loads.place(1), 1);
        loads.remove(0);
        assert_eq!((loads.place(1), loads.total()), (0, 2));
    }
}
