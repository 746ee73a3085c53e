//! What a connection has to do with the journal: it shows nothing that is not kept, and begins no write
//! while the journal is behind.
//!
//! Its output goes to the backlog then, behind which nothing more is executed, so answers keep their order
//! and what waits is bounded. The reactor answers it again when its time has come.

use super::Connection;
use crate::net::core::Core;

impl Connection {
    /// Holds the output back that follows, if it shows what is not kept yet.
    pub(super) fn hold_output(&mut self, has_output: bool, core: &mut Core, id: u32) {
        self.gate = self.gate.max(core.gate());
        // What is held already stays so, though it may have been kept meanwhile: the reactor sees to it.
        self.is_held |= (has_output || self.backlog.is_some()) && !core.is_kept(self.gate);
        if self.is_held {
            self.backlog.get_or_insert_with(|| core.buffers.backlog());
            if self.listed_gate != self.gate {
                self.listed_gate = self.gate;
                core.waiting.push_output(self.gate, (id, self.generation));
            }
        }
    }

    /// Its answers show what has this number.
    pub fn wait_for(&mut self, gate: u64) {
        self.gate = self.gate.max(gate);
    }

    /// The number that its output waits for, if it does.
    pub fn held_for(&self) -> Option<u64> {
        self.is_held.then_some(self.gate)
    }

    /// Stops before a write, until writes are taken again.
    pub(super) fn pause(&mut self, core: &mut Core, id: u32) {
        if !std::mem::replace(&mut self.is_paused, true) {
            core.waiting.pause((id, self.generation));
        }
    }

    /// Writes are taken again.
    pub fn resume(&mut self) {
        self.is_paused = false;
    }
}
