//! What the connections of a reactor work with.
//!
//! A connection borrows it for a step of its own; the reactor owns it beside the connections, so that
//! the two can be borrowed apart.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::api::{Aftermath, Api, Scratch, follow};
use crate::clock::Now;
use crate::memory::Memory;
use crate::net::buffers::Buffers;
use crate::net::helper::Helper;
use crate::net::stalls::Stalls;
use crate::shard::{Budget, Job, Mesh, Shard, Ticket};

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
    /// Errands that are done here, but not before others have followed, in the order in which they were done.
    pub(super) held_back: VecDeque<HeldBack>,
    /// How many changes others were told to follow.
    pub(super) changes: u32,
    /// What may still be done on lists before the turn goes on to those that wait.
    pub(super) list_budget: Budget,
    /// Bytes of bodies that may still be read in this turn.
    pub(super) reading_bytes: usize,
}

/// An errand that is done here, but not everywhere.
#[derive(Debug)]
pub struct HeldBack {
    asker: usize,
    job: Box<Job>,
    /// The number of the change that others follow, and how many have yet to.
    change: Option<u32>,
    missing: usize,
}

impl Core {
    /// Does an errand. Gives it back when it is done, also by all others who have to follow.
    pub(super) fn run_errand(&mut self, asker: usize, mut job: Box<Job>) -> Option<Box<Job>> {
        let aftermath = self.api.perform(job.errand_mut()?, &mut self.shard);
        let (number, missing) = match aftermath {
            Aftermath::None => return Some(job),
            Aftermath::Followed => (None, 0),
            Aftermath::Follow(change) => {
                let me = self.mesh.me();
                self.changes = self.changes.wrapping_add(1);
                for peer in (0..self.mesh.reactors()).filter(|peer| *peer != me) {
                    let mut told = self.mesh.job();
                    told.ask_errand(Ticket::of_change(self.changes), follow(change.clone()));
                    self.mesh.ask(peer, told);
                }
                (Some(self.changes), self.mesh.reactors() - 1)
            }
        };
        if missing == 0 && self.held_back.is_empty() {
            return Some(job);
        }
        self.held_back.push_back(HeldBack { asker, job, change: number, missing });
        None
    }

    /// Another core has followed the change of this ticket.
    pub(super) fn count_followed(&mut self, ticket: Ticket) {
        if let Some(held) = self.held_back.iter_mut().find(|held| held.change == Some(ticket.request)) {
            held.missing -= 1;
        }
    }

    /// The errand in front, if all have followed it, and who asked.
    pub(super) fn next_followed(&mut self) -> Option<(usize, Box<Job>)> {
        let held = self.held_back.pop_front_if(|held| held.missing == 0)?;
        Some((held.asker, held.job))
    }

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
