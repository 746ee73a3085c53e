//! What the connections of a reactor work with.
//!
//! A connection borrows it for a step of its own; the reactor owns it beside the connections, so that
//! the two can be borrowed apart.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::api::{Api, Scratch};
use crate::clock::Now;
use crate::memory::Memory;
use crate::net::buffers::Buffers;
use crate::net::helper::Helper;
use crate::net::stalls::Stalls;
use crate::shard::{Budget, Job, Mesh, Shard};

/// How long a client may take, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the first byte of a head to its last; a body adds its length to it.
    pub head_ms: u64,
    /// Without a request, or without reading an answer.
    pub idle_ms: u64,
}

/// What connections work with: everything of a reactor but the connections.
#[derive(Debug)]
pub struct Core {
    pub(super) api: Api,
    pub(super) shard: Shard,
    pub(super) mesh: Mesh,
    pub(super) helper: Helper,
    pub(super) buffers: Buffers,
    pub(super) memory: Arc<Memory>,
    /// Clients that are slow to read a large value.
    pub(super) stalls: Stalls,
    pub(super) timeouts: Timeouts,
    pub(super) now: Now,
    /// The node is stopping: every answer is its connection's last.
    pub(super) draining: bool,
    /// TLS handshakes that may still be worked on in this turn.
    pub(super) handshakes_left: u32,
    /// Answers of the connection at hand, before they are written.
    pub(super) scratch: Vec<u8>,
    /// Room for parts of an operation that do not lie in its request.
    pub(super) operands: Scratch,
    /// Listings under way here and who asked for them. The one in front gets a slice each turn.
    pub(super) scans: VecDeque<(usize, Box<Job>)>,
    /// Calls on lists that take several turns, those that wait for one on the same key, and who asked.
    pub(super) lists: VecDeque<(usize, Box<Job>)>,
    /// What may still be done on lists before the turn goes on to those that wait.
    pub(super) list_budget: Budget,
    /// Bytes of bodies that may still be read in this turn.
    pub(super) reading_bytes: usize,
}

impl Core {
    /// Works on a call on a list, or has it wait for its turn. Gives it back when it is done.
    pub(super) fn call_list(&mut self, asker: usize, mut job: Box<Job>) -> Option<Box<Job>> {
        let task = job.list_task_mut()?;
        if self.list_budget.is_spent() {
            self.lists.push_back((asker, job));
            return None;
        }
        let waits = self.lists.iter().filter_map(|(_, other)| other.list_task());
        let is_free = !waits.into_iter().any(|other| other.is_about_the_key_of(task));
        if is_free && self.shard.work_on(task, &mut self.list_budget, self.now) {
            return Some(job);
        }
        self.lists.push_back((asker, job));
        None
    }
}
