//! When a queued request may leave for the core that owns its key.
//!
//! Requests of one connection take effect in their order, as far as anybody can tell: reads may
//! overtake reads (RFC 9112, section 9.3.2), and what goes to one core gets there in order. A write
//! waits until everything before it that another core does is done, and so does whatever follows it.

use super::{Connection, Slot, State};
use crate::api::Call;
use crate::net::core::Core;
use crate::shard::Ticket;

/// What the requests before one are still about.
#[derive(Clone, Copy)]
enum Before {
    /// Nothing: all are done.
    Done,
    /// They are with this core alone; none of them writes if `reads`.
    With { core: usize, reads: bool },
    /// They are with several cores and only read.
    Reads,
}

impl Before {
    /// Whether a request for this core may go there now.
    fn admits(self, owner: usize, is_read: bool) -> bool {
        match self {
            Before::Done => true,
            Before::With { core, reads } => core == owner || reads && is_read,
            Before::Reads => is_read,
        }
    }

    /// The same with one more; `None` if nothing behind it can go.
    fn and(self, owner: usize, is_read: bool) -> Option<Before> {
        match self {
            Before::Done => Some(Before::With { core: owner, reads: is_read }),
            Before::With { core, reads } if core == owner => {
                Some(Before::With { core, reads: reads && is_read })
            }
            Before::With { reads: true, .. } | Before::Reads if is_read => Some(Before::Reads),
            Before::With { .. } | Before::Reads => None,
        }
    }
}

impl Connection {
    /// Sends the request that was queued last, if it is held and may go.
    pub(super) fn dispatch_newest(&mut self, core: &mut Core, id: u32) {
        let (Some(queue), Some(block)) = (self.queue.as_mut(), self.block.as_deref()) else { return };
        let at = queue.len().wrapping_sub(1) as u32;
        let Some(slot) = queue.back_mut() else { return };
        let State::Held(owner) = slot.state else { return };
        if !self.only_reads {
            // Behind another that is held it is held too.
            if self.held == 1 {
                self.dispatch(core, id);
            }
        } else {
            let request = self.front.wrapping_add(at);
            let ticket = Ticket { connection: id, generation: self.generation, request, piece: 0 };
            self.asked += slot.ask(owner, ticket, block, core);
            self.held -= 1;
        }
    }

    /// Sends the held requests that may go. Those behind one that may not stay too.
    pub(super) fn dispatch(&mut self, core: &mut Core, id: u32) {
        let (Some(queue), Some(block)) = (self.queue.as_mut(), self.block.as_deref()) else { return };
        let mut before = Before::Done;
        for (at, slot) in queue.iter_mut().enumerate() {
            if self.held == 0 {
                return;
            }
            let is_read = slot.is_read();
            let owner = match slot.state {
                State::Answered(_) | State::Refused(_) | State::Decoding | State::Decoded(..) => continue,
                State::Asked(owner) => owner,
                State::Held(owner) if before.admits(owner, is_read) => {
                    let request = self.front.wrapping_add(at as u32);
                    let ticket = Ticket { connection: id, generation: self.generation, request, piece: 0 };
                    self.asked += slot.ask(owner, ticket, block, core);
                    self.held -= 1;
                    owner
                }
                State::Ready if matches!(slot.call, Some(Call::Key(_))) => core.mesh.me(),
                State::Ready if matches!(slot.call, Some(Call::Page(_))) => continue,
                State::Held(_) | State::Ready | State::Gathering(_) | State::Incomplete => return,
            };
            match before.and(owner, is_read) {
                Some(next) => before = next,
                None => return,
            }
        }
    }
}

impl Slot {
    /// Whether it changes nothing.
    #[inline]
    pub(super) fn is_read(&self) -> bool {
        matches!(&self.call, Some(Call::Key(call)) if call.verb.reads())
    }

    /// Sends it to the core that owns its key; answers how many have gone there.
    fn ask(&mut self, owner: usize, ticket: Ticket, block: &[u8], core: &mut Core) -> u32 {
        let Some(Call::Key(call)) = &mut self.call else { return 0 };
        let head = &block[self.at as usize..][..usize::from(self.request.head_len)];
        let payload = self.body.payload(block);
        match core.api.operation(&self.request, head, call, payload, &mut core.operands) {
            Ok(operation) => {
                let mut job = core.mesh.job();
                job.ask(ticket, &operation);
                core.mesh.ask(owner, job);
                self.state = State::Asked(owner);
                1
            }
            Err(problem) => {
                self.state = State::Refused(problem);
                0
            }
        }
    }
}
