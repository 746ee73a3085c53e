//! TLS, behind the face of a plain socket: the only code that knows rustls.
//!
//! `pair` loads certificate and key, `validity` reads until when a certificate is good, [`Certificates`]
//! holds what is served now, [`TlsStream`] is a connection. One set of ticket keys serves all reactors
//! and outlives a reload, so that a session resumes wherever its next connection lands.
//!
//! rustls allocates about twice a request, and a full handshake costs 0.1 ms (elliptic curves) to
//! milliseconds (RSA). So TLS stands outside the promise that a GET or PUT allocates nothing, and a
//! reactor does a bounded number of handshakes each turn.

mod pair;
mod stream;
mod validity;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mio::net::TcpStream;
use rustls::ServerConfig;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::version::{TLS12, TLS13};

pub use pair::{Pair, PairError};
pub use stream::{Handshake, TlsStream};

/// What a connection speaks inside.
const ALPN: &[u8] = b"http/1.1";

/// Handshakes that a reactor does in one turn, with a key on an elliptic curve and with any other: about
/// a millisecond of either.
const HANDSHAKES_PER_TURN: u32 = 8;
const SLOW_HANDSHAKES_PER_TURN: u32 = 1;

/// What is served now, for all reactors. Replaced as a whole by whoever reloads; a reactor that accepts
/// looks at a number, and at what is behind the lock only if that has changed and nobody holds it.
#[derive(Debug)]
pub struct Certificates {
    /// Rises with every replacement.
    generation: AtomicU64,
    current: Mutex<Arc<Serving>>,
    tickets: Arc<dyn ProducesTickets>,
}

/// A pair with the settings of its connections.
struct Serving {
    config: Arc<ServerConfig>,
    handshakes_per_turn: u32,
}

impl Certificates {
    /// Serves this pair.
    ///
    /// # Errors
    /// When the system gives no random numbers for ticket keys.
    pub fn new(pair: &Pair) -> io::Result<Arc<Certificates>> {
        let tickets = Ticketer::new().map_err(io::Error::other)?;
        let current = Mutex::new(Serving::new(pair, &tickets)?);
        Ok(Arc::new(Certificates { generation: AtomicU64::new(0), current, tickets }))
    }

    /// Serves another pair from now on. Connections that are there keep the one they began with.
    ///
    /// # Errors
    /// As [`Certificates::new`].
    pub fn replace(&self, pair: &Pair) -> io::Result<()> {
        let fresh = Serving::new(pair, &self.tickets)?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

impl Serving {
    fn new(pair: &Pair, tickets: &Arc<dyn ProducesTickets>) -> io::Result<Arc<Serving>> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(pair.resolver());
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Sessions live in tickets alone: nothing of them is kept here, and any reactor can resume them.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::clone(tickets);
        // One ticket for each connection: a client that opens another uses it up and gets the next.
        config.send_tls13_tickets = 1;
        let handshakes_per_turn = if pair.is_slow() { SLOW_HANDSHAKES_PER_TURN } else { HANDSHAKES_PER_TURN };
        Ok(Arc::new(Serving { config: Arc::new(config), handshakes_per_turn }))
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Serving").finish_non_exhaustive()
    }
}

/// Begins the TLS of a reactor's connections.
#[derive(Debug)]
pub struct Acceptor {
    certificates: Arc<Certificates>,
    generation: u64,
    serving: Arc<Serving>,
}

impl Acceptor {
    /// Begins connections with what is served now.
    pub fn new(certificates: Arc<Certificates>) -> Acceptor {
        let generation = certificates.generation.load(Ordering::Acquire);
        let serving = certificates.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Acceptor { certificates, generation, serving }
    }

    /// TLS over a connection just accepted, with the newest certificate.
    ///
    /// # Errors
    /// None that rustls is known to give for these settings.
    pub fn accept(&mut self, stream: TcpStream) -> io::Result<TlsStream> {
        let generation = self.certificates.generation.load(Ordering::Acquire);
        // Never waits: while it is being replaced, the one before serves once more.
        if generation != self.generation
            && let Ok(current) = self.certificates.current.try_lock()
        {
            self.serving = Arc::clone(&current);
            self.generation = generation;
        }
        TlsStream::new(stream, Arc::clone(&self.serving.config))
    }

    /// How many handshakes fit into a turn.
    pub fn handshakes_per_turn(&self) -> u32 {
        self.serving.handshakes_per_turn
    }
}
