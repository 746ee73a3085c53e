//! The TLS handshake, before the first request.
//!
//! Keys are worked on for a bounded number of clients in each turn, in the order in which they came;
//! whoever is over it waits for the next turn, as those do who have requests. What costs nothing, such as
//! a part of a message, is not counted. A handshake has as long as a head may take.

use std::io;

use super::{Connection, Life, Stage};
use crate::api::Problem;
use crate::net::core::Core;
use crate::net::tls::Handshake;

impl Connection {
    /// Takes the handshake a step further, if there is one left in this turn.
    pub(super) fn shake_hands(&mut self, core: &mut Core) -> Life {
        if core.handshakes_left == 0 {
            return Life::Open;
        }
        let Some(tls) = self.stream.tls_mut() else { return Life::Over };
        match tls.shake_hands() {
            Ok(Handshake::Waits) => {}
            Ok(Handshake::Worked) => core.handshakes_left -= 1,
            Ok(Handshake::Done) => {
                core.handshakes_left -= 1;
                self.stage = Stage::Open;
            }
            Ok(Handshake::Plain) => {
                self.stage = Stage::Open;
                self.refuse(None, Problem::PlainOnTls, core);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
            // It may have been worked on before what is wrong with it was seen.
            Err(_) => {
                core.handshakes_left -= 1;
                return Life::Over;
            }
        }
        if self.stream.has_unsent() {
            self.backlog = Some(Box::default());
        }
        Life::Open
    }

    /// Takes note of what a read has left in TLS: input that no readiness will tell of, and output of its
    /// own, before which nothing more is read.
    #[inline(never)]
    pub(super) fn note_tls(&mut self) {
        let Some(tls) = self.stream.tls_mut() else { return };
        self.readable |= tls.has_more();
        if tls.has_unsent() {
            self.backlog.get_or_insert_default();
        }
    }
}
