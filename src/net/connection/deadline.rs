//! How long a client may take, and what happens when it takes longer.
//!
//! A TLS handshake has its time from the beginning, a head from its first byte; a body has that time and a second for each KiB that has
//! come; output must be read; between requests a connection may idle. A slow request is answered
//! 408, everything else ends silently.

use super::{Connection, Intake, Life, Proof, Stage};
use crate::api::Problem;
use crate::net::core::Core;

/// How long a closed connection's input is thrown away so that the client can read the answer.
const LINGER_MS: u64 = 2_000;

/// Slowest upload that is waited for, beyond the time a head may take.
const BODY_BYTES_PER_SECOND_MIN: u64 = 1_024;

/// What a connection is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deadline {
    /// The rest of a TLS handshake.
    Handshake,
    /// A request.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body {
        /// When its head was complete.
        started_ms: u64,
    },
    /// To read what it is owed.
    Write,
    /// To close, after its last answer.
    Linger,
}

impl Connection {
    pub(super) fn begin_body_deadline(&mut self, core: &Core) {
        self.deadline = Deadline::Body { started_ms: core.now.unix_ms };
    }

    pub(super) fn set_deadline(&mut self, core: &Core, progress: bool) {
        let now_ms = core.now.unix_ms;
        let deadline = match (&self.stage, &self.intake) {
            (Stage::Lingering { .. }, _) => Deadline::Linger,
            (Stage::Handshaking, _) => Deadline::Handshake,
            _ if self.backlog.is_some() => Deadline::Write,
            (_, Intake::InBlock { .. } | Intake::Upload(_) | Intake::Skip { .. }) => match self.deadline {
                body @ Deadline::Body { .. } if !self.upload_waits() => body,
                _ => Deadline::Body { started_ms: now_ms },
            },
            // Of a head whose password is being proven nothing is missing.
            (_, Intake::Head) if self.partial && self.proof != Proof::Awaited => Deadline::Head,
            _ => Deadline::Idle,
        };
        let unchanged = deadline == self.deadline;
        self.deadline = deadline;
        self.deadline_ms = match deadline {
            Deadline::Head | Deadline::Linger | Deadline::Handshake if unchanged => return,
            Deadline::Write if unchanged && !progress => return,
            Deadline::Idle | Deadline::Write => now_ms + core.timeouts.idle_ms,
            Deadline::Head | Deadline::Handshake => now_ms + core.timeouts.head_ms,
            Deadline::Linger => now_ms + LINGER_MS,
            Deadline::Body { started_ms } => {
                let received = match &self.intake {
                    Intake::Upload(upload) => upload.received() as u64,
                    Intake::InBlock { .. } => u64::from(self.end - self.start),
                    _ => 0,
                };
                started_ms + core.timeouts.head_ms + received * 1_000 / BODY_BYTES_PER_SECOND_MIN
            }
        };
    }

    /// Its deadline has passed: a slow request is told, everything else ends silently.
    pub fn timed_out(&mut self, core: &mut Core, id: u32) -> Life {
        match (self.deadline, &self.intake) {
            // It is not the client that is slow.
            (Deadline::Write, _) if self.is_held => {
                self.set_deadline(core, true);
                Life::Open
            }
            (Deadline::Idle, _) if self.queue.is_some() || self.proof == Proof::Awaited => {
                self.set_deadline(core, true);
                Life::Open
            }
            (Deadline::Body { .. }, _) if self.upload_waits() => {
                self.set_deadline(core, true);
                Life::Open
            }
            (Deadline::Head, _) => {
                self.refuse(None, Problem::TimedOut, core);
                self.answer(core, id)
            }
            (Deadline::Body { .. }, Intake::InBlock { .. } | Intake::Upload(_)) => {
                self.abandon_body(Problem::TimedOut, core);
                self.answer(core, id)
            }
            _ => Life::Over,
        }
    }
}
