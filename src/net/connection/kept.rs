//! What a connection has to do with the journal: it shows nothing that is not kept, and begins no write
//! while the journal is behind.
//!
//! Output that shows what is not kept yet is held: it goes to the backlog, behind which nothing more is executed,
//! so answers keep their order and what waits is bounded. The reactor answers the connection again when its
//! time has come. When that never comes, since the disk has failed, the first of the held answers that may not
//! go says so in place of what it would have said, and is the last.

use super::{Answers, Connection, Intake, Life, Stage, State};
use crate::api::Problem;
use crate::http::Request;
use crate::net::core::Core;
use crate::net::output::Backlog;

/// Where the output of a step has to go once an answer in it shows what is not kept. It says which that was.
pub(super) type Unkept = Option<Box<Backlog>>;

/// An answer was made, or a part of one. Notes the first one that shows what is not kept: where in the output it
/// begins, which is none if some of it has gone before, and the request.
#[inline(never)]
pub(super) fn note(
    unkept: &mut Unkept,
    (begins, request, head): (Option<usize>, &Request, &[u8]),
    gate: &mut u64,
    core: &mut Core,
) {
    *gate = (*gate).max(core.gate());
    if unkept.is_none() && !core.is_kept(*gate) {
        let mut backlog = core.buffers.backlog();
        backlog.owe(begins, request, head);
        *unkept = Some(backlog);
    }
}

/// The output so far is to go: to a backlog that is held, which it answers, unless everything in it has been
/// kept meanwhile.
pub(super) fn hold(
    unkept: &mut Unkept,
    backlog: &mut Option<Box<Backlog>>,
    gate: u64,
    core: &mut Core,
) -> bool {
    let Some(noted) = unkept.take() else { return false };
    debug_assert!(backlog.is_none(), "nothing is executed behind a backlog");
    if core.is_kept(gate) {
        core.buffers.give_back_backlog(noted);
        return false;
    }
    *backlog = Some(noted);
    true
}

impl Connection {
    /// Holds the output back that follows, if it shows what is not kept yet.
    pub(super) fn hold_output(&mut self, mut unkept: Unkept, has_output: bool, core: &mut Core, id: u32) {
        self.gate = self.gate.max(core.gate());
        if has_output && unkept.is_none() && !core.is_kept(self.gate) {
            // None of the answers is known to show it: all wait, and if it is lost nothing is said.
            unkept = Some(core.buffers.backlog());
        }
        // What is held already stays so, though it may have been kept meanwhile: the reactor sees to it.
        self.is_held |= hold(&mut unkept, &mut self.backlog, self.gate, core);
        if self.is_held && self.listed_gate != self.gate {
            self.listed_gate = self.gate;
            core.waiting.push_output(self.gate, (id, self.generation));
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

    /// What its output waits for will not be kept. What may go before that goes, then the client is told that
    /// nobody knows what became of its request, and the connection ends: so it does not wait for answers to what
    /// it has asked behind that. If a part of the answer has gone, nothing can be said.
    #[cold]
    pub fn lose(&mut self, core: &mut Core, id: u32) -> Life {
        self.is_held = false;
        let Some(owed) = self.backlog.as_mut().and_then(|backlog| backlog.take_owed()) else {
            return Life::Over;
        };
        let mut answer = Vec::new();
        core.api.refuse(Some((&owed.request, &owed.head)), Problem::Unkept, true, &mut answer);
        if let Some(backlog) = &mut self.backlog {
            backlog.cut(owed.at);
            backlog.push_bytes(&answer);
        }
        if let Some(queue) = &mut self.queue {
            queue.clear();
        }
        (self.held, self.asked, self.has_begun) = (0, 0, false);
        self.intake = Intake::Closed;
        self.stage = Stage::ClosingUnread;
        self.answer(core, id)
    }

    /// The node does not wait for its answer any longer.
    #[cold]
    pub fn abandon(&mut self, core: &mut Core, id: u32) {
        // What has come back goes, though something behind it has not.
        if self.held == 0 && std::mem::take(&mut self.asked) > 0 && self.answer(core, id) == Life::Over {
            return;
        }
        if !self.is_held && self.backlog.is_none() && !self.has_begun {
            // What others do for it may be done, and not kept.
            let Some(slot) = self.queue.as_ref().and_then(|queue| queue.front()) else { return };
            if !matches!(slot.state, State::Asked(_) | State::Gathering(_)) {
                return;
            }
            let block = self.block.as_deref().unwrap_or_default();
            let at = slot.at as usize;
            let head = block.get(at..at + usize::from(slot.request.head_len)).unwrap_or_default();
            let (mut backlog, mut at) = (core.buffers.backlog(), 0);
            // Behind what was answered, of which something may be owed as well.
            if let Some(Answers { block, length, unkept }) = self.answers.take() {
                at = length as usize;
                backlog = unkept.unwrap_or(backlog);
                backlog.push_bytes(&block[..at]);
                core.buffers.give_back(block);
            }
            if !backlog.is_owed() {
                backlog.owe(Some(at), &slot.request, head);
            }
            self.backlog = Some(backlog);
            self.is_held = true;
        }
        if self.is_held {
            self.lose(core, id);
        }
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
