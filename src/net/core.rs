//! What the connections of a reactor work with.
//!
//! A connection borrows it for a step of its own; the reactor owns it beside the connections, so that
//! the two can be borrowed apart.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::api::{Aftermath, Api, Kept, Scratch, follow};
use crate::clock::Now;
use crate::memory::Memory;
use crate::net::buffers::Buffers;
use crate::net::helper::Helper;
use crate::net::stalls::Stalls;
use crate::net::waiting::Waiting;
use crate::shard::{Budget, DatabaseChange, Health, Job, ListTask, Mesh, NodeRecord, Shard, Ticket};

/// How long a client may take, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the first byte of a head to its last; a body adds its length to it.
    pub head_ms: u64,
    /// Without a request, or without reading an answer.
    pub idle_ms: u64,
}

/// Brings back what a shard has kept, a slice each time; true when it is all back and the shard's journal is
/// attached.
pub struct Recovery(Box<Slice>);

type Slice = dyn FnMut(&mut Shard, Now) -> io::Result<bool> + Send;

impl Recovery {
    /// With this as its slice.
    pub fn new(slice: impl FnMut(&mut Shard, Now) -> io::Result<bool> + Send + 'static) -> Recovery {
        Recovery(Box::new(slice))
    }

    /// Goes on for a slice.
    pub(super) fn go_on(&mut self, shard: &mut Shard, now: Now) -> io::Result<bool> {
        (self.0)(shard, now)
    }
}

impl fmt::Debug for Recovery {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Recovery").finish_non_exhaustive()
    }
}

/// What an earlier run has left, for a reactor that has begun without it.
#[derive(Debug)]
pub struct Legacy {
    /// What its API is told of it, and of the databases its shard.
    pub kept: Kept,
    /// What its shard brings back.
    pub recovery: Recovery,
}

/// Something that takes several turns.
#[derive(Debug)]
pub struct Task {
    /// Who asked.
    pub(super) asker: usize,
    pub(super) job: Box<Job>,
    /// What its answer waits for, as far as it has come.
    pub(super) gate: u64,
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
    /// Listings under way here. The one in front gets a slice each turn.
    pub(super) scans: VecDeque<Task>,
    /// Calls on lists that take several turns, and those that wait for one on the same key.
    pub(super) lists: VecDeque<Task>,
    /// Errands that are done here, but not before others have followed, in the order in which they were done.
    pub(super) held_back: VecDeque<HeldBack>,
    /// How many changes others were told to follow.
    pub(super) changes: u32,
    /// What may still be done on lists before the turn goes on to those that wait.
    pub(super) list_budget: Budget,
    /// Bytes of bodies that may still be read in this turn.
    pub(super) reading_bytes: usize,
    /// What waits for the journal.
    pub(super) waiting: Waiting,
    /// What the answer that is being made waits for, beside what the shard knows of.
    pub(super) owed: u64,
    /// The number of the last change of the ledger.
    pub(super) ledger_gate: u64,
    /// What the journal was last seen to have kept.
    pub(super) seen_kept: u64,
}

/// An errand that is done here, but not everywhere.
#[derive(Debug)]
pub struct HeldBack {
    task: Task,
    /// What all are to follow once it is kept: before, none of them may show it.
    untold: Option<DatabaseChange>,
    /// The number under which they were told, and how many have yet to follow.
    change: Option<u32>,
    missing: usize,
}

impl Core {
    /// Takes on what an earlier run has left, and answers what brings the rest back.
    #[cold]
    pub(super) fn inherit(&mut self, Legacy { kept, recovery }: Legacy) -> Recovery {
        self.shard.retag(kept.tags);
        kept.databases.iter().for_each(|database| self.shard.follow(database));
        self.api.remember(kept);
        recovery
    }

    /// Does an errand. Gives it back when it is done, also by all others who have to follow. What it changes
    /// of the node itself is handed to the journal, and nobody sees anything of that before it is kept: who asked
    /// is answered then, here too, since other cores may be told because of it; and all follow then, this core
    /// too. Only that a credential has ended shows at once.
    pub(super) fn run_errand(&mut self, asker: usize, mut job: Box<Job>) -> Option<Box<Job>> {
        let before = self.gate_so_far();
        let aftermath = self.perform(job.errand_mut()?);
        let gate = self.gate_so_far().max(self.ledger_gate);
        let is_held = match aftermath {
            Aftermath::None => asker == self.mesh.me() && !self.is_kept(gate),
            Aftermath::Followed => !self.held_back.is_empty(),
            Aftermath::Follow(_) => true,
        };
        // Only what waits itself waits for what was done here.
        self.owed = if is_held { before } else { gate };
        if !is_held {
            return Some(job);
        }
        let (untold, missing) = match aftermath {
            Aftermath::None => {
                self.waiting.push_answer(gate, asker, job);
                return None;
            }
            Aftermath::Followed => (None, 0),
            Aftermath::Follow(change) => (Some(change), self.mesh.reactors() - 1),
        };
        let task = Task { asker, job, gate };
        self.held_back.push_back(HeldBack { task, untold, change: None, missing });
        self.tell_followers();
        // What is before it has not been done, or it would not be there any more.
        if self.held_back.len() == 1 { self.next_followed().map(|task| task.job) } else { None }
    }

    /// Has all cores, this one too, follow the changes that are kept by now, in their order.
    pub(super) fn tell_followers(&mut self) {
        let Core { held_back, mesh, changes, shard, api, .. } = self;
        let (kept, me) = (shard.kept(), mesh.me());
        for HeldBack { untold, change, task, .. } in held_back {
            if untold.is_some() && task.gate > kept {
                return;
            }
            let Some(new) = untold.take() else { continue };
            api.follow(&new, shard);
            *changes = changes.wrapping_add(1);
            *change = Some(*changes);
            for peer in (0..mesh.reactors()).filter(|peer| *peer != me) {
                let mut told = mesh.job();
                told.ask_errand(Ticket::of_change(*changes), follow(new.clone()));
                mesh.ask(peer, told);
            }
        }
    }

    /// The errands that others will never be told of, now that nothing is kept any more.
    pub(super) fn take_untold(&mut self) -> Vec<Task> {
        let first = self.held_back.iter().position(|held| held.untold.is_some());
        let untold = first.map(|first| self.held_back.split_off(first));
        untold.into_iter().flatten().map(|held| held.task).collect()
    }

    /// Whether there is a change that others can be told of now.
    pub(super) fn can_tell_followers(&self, kept: u64) -> bool {
        let next = self.held_back.iter().find(|held| held.untold.is_some());
        next.is_some_and(|held| held.task.gate <= kept)
    }

    /// Does what the API of this core is wanted for.
    #[cold]
    pub(super) fn perform(&mut self, errand: &mut (dyn Any + Send)) -> Aftermath {
        let aftermath = self.api.perform(errand, &mut self.shard);
        self.keep_ledger();
        aftermath
    }

    /// Another core has followed the change of this ticket.
    pub(super) fn count_followed(&mut self, ticket: Ticket) {
        if let Some(held) = self.held_back.iter_mut().find(|held| held.change == Some(ticket.request)) {
            held.missing -= 1;
        }
    }

    /// The errand in front, if all have followed it.
    pub(super) fn next_followed(&mut self) -> Option<Task> {
        let is_done = |held: &mut HeldBack| held.untold.is_none() && held.missing == 0;
        Some(self.held_back.pop_front_if(is_done)?.task)
    }

    /// Works on a call on a list, or has it wait for its turn. Gives it back when it is done.
    pub(super) fn call_list(&mut self, asker: usize, mut job: Box<Job>) -> Option<Box<Job>> {
        let takes_writes = self.takes_writes();
        let task = job.list_task_mut()?;
        let mut waits = self.lists.iter().filter_map(|other| other.job.list_task());
        let is_free = !waits.any(|other| other.is_about_the_key_of(task));
        if is_free
            && !self.list_budget.is_spent()
            && (takes_writes || !task.writes())
            && self.shard.work_on(task, &mut self.list_budget, self.now)
        {
            return Some(job);
        }
        let gate = self.gate_so_far();
        self.lists.push_back(Task { asker, job, gate });
        None
    }

    /// The first of the calls on lists that can be gone on with.
    pub(super) fn next_list(&self) -> Option<usize> {
        if self.lists.is_empty() {
            return None;
        }
        let takes_writes = self.takes_writes();
        if takes_writes {
            return Some(0);
        }
        let task = |at: usize| self.lists.get(at).and_then(|errand| errand.job.list_task());
        let is_free = |at: usize, task: &ListTask| {
            let mut before = self.lists.iter().take(at).filter_map(|errand| errand.job.list_task());
            task.may_go_on(takes_writes) && !before.any(|other| other.is_about_the_key_of(task))
        };
        (0..self.lists.len()).find(|at| task(*at).is_none_or(|task| is_free(*at, task)))
    }

    /// Whether writes are taken now. If not, the journal is behind, and its writer will ring.
    #[inline]
    pub(super) fn takes_writes(&self) -> bool {
        // One that is full or has failed refuses them by itself.
        !self.shard.is_congested() || self.shard.health() != Health::Good
    }

    /// The number up to which the journal must have kept what was done since this was last asked, before
    /// anybody may be told of it.
    pub(super) fn gate(&mut self) -> u64 {
        std::mem::take(&mut self.owed).max(self.shard.take_gate())
    }

    /// The same, without forgetting it: somebody else waits for it too.
    pub(super) fn gate_so_far(&mut self) -> u64 {
        self.owed = self.gate();
        self.owed
    }

    /// Whether this number, or what was done since [`Core::gate`] was last asked, was not kept when that was last
    /// looked at. Asked behind every answer.
    #[inline(always)]
    pub(super) fn may_wait(&self, gate: u64) -> bool {
        gate.max(self.owed).max(self.shard.touched()) > self.seen_kept
    }

    /// Whether the journal has kept everything up to this number.
    pub(super) fn is_kept(&mut self, number: u64) -> bool {
        if number > self.seen_kept {
            self.seen_kept = self.shard.kept();
        }
        number <= self.seen_kept
    }

    /// Sends a job back to another core, once what it tells is kept.
    pub(super) fn answer_peer(&mut self, asker: usize, job: Box<Job>, gate: u64) {
        if self.is_kept(gate) {
            self.mesh.answer(asker, job);
        } else {
            self.waiting.push_answer(gate, asker, job);
        }
    }

    /// Hands what an order has changed of the ledger to the journal, as one record: all of it is kept, or nothing.
    pub(super) fn keep_ledger(&mut self) {
        let changes = self.api.take_ledger_changes();
        if !changes.is_empty() {
            self.shard.journal_node(&NodeRecord::of(&changes));
            self.owed = self.gate();
            self.ledger_gate = self.ledger_gate.max(self.owed);
        }
    }
}
