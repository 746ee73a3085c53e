//! New connections: accepted, placed, turned away.

use std::io;

use mio::net::TcpStream;
use mio::{Interest, Token};

use super::{Reactor, list};
use crate::api::Problem;
use crate::net::connection::Connection;
use crate::net::listener::{ACCEPTS_PER_TURN, Listener};
use crate::net::socket::Socket;
use crate::shard::Arrival;

impl Reactor {
    /// Takes new connections, a share of the turn from each door.
    #[inline(never)]
    pub(super) fn accept(&mut self) {
        let now = self.core.now;
        let share = ACCEPTS_PER_TURN / self.listeners.len().max(1);
        for number in 0..self.listeners.len() {
            for _ in 0..share {
                let Some(arrival) = self.listeners[number].accept(now) else { break };
                self.place(arrival);
            }
        }
        self.has_arrivals = self.listeners.iter().any(Listener::is_ready);
    }

    /// Finds the reactor that is to serve a new connection.
    fn place(&mut self, arrival: Arrival) {
        if self.loads.total() >= self.connections_max {
            return self.turn_away(arrival);
        }
        let me = self.core.mesh.me();
        let to = self.loads.place(me);
        // Counted before it goes, since it may have ended there before the call is back.
        self.loads.add(to);
        if to == me {
            self.adopt(arrival);
        } else if let Err(arrival) = self.core.mesh.hand_over(to, arrival) {
            self.loads.remove(to);
            self.loads.add(me);
            self.adopt(arrival);
        }
    }

    /// Over the bound on connections: one answer, and out. Before a handshake there is nothing to say.
    #[cold]
    fn turn_away(&mut self, arrival: Arrival) {
        if let Arrival::Plain { socket, .. } = arrival {
            let mut answer = Vec::new();
            self.core.api.refuse(None, Problem::Busy, true, &mut answer);
            let _ = io::Write::write(&mut TcpStream::from(socket), &answer);
        }
    }

    /// Serves a connection from now on. It is counted already.
    pub(super) fn adopt(&mut self, arrival: Arrival) {
        let (stream, trusted_uid) = match arrival {
            Arrival::Plain { socket, trusted_uid } => (Socket::Plain(TcpStream::from(socket)), trusted_uid),
            Arrival::Tls(socket) => {
                match self.acceptor.as_mut().map(|acceptor| acceptor.accept(TcpStream::from(socket))) {
                    Some(Ok(stream)) => (Socket::Tls(Box::new(stream)), None),
                    _ => return self.loads.remove(self.core.mesh.me()),
                }
            }
        };
        self.generation = self.generation.wrapping_add(1);
        let connection = Connection::new(stream, trusted_uid, self.generation, &self.core);
        self.core.buffers.count_connection(connection.is_tls());
        let id = self.connections.insert(connection);
        let connection = &mut self.connections[id];
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(connection.system_mut(), Token(id), interest).is_err() {
            self.close(id as u32);
            return;
        }
        // Its first request is often here already; then this saves a poll.
        list(connection, id as u32, &mut self.ready);
    }
}
