//! What other cores and the helper thread bring, and what takes several turns: listings and calls on lists,
//! a slice each, and changes that all cores follow.

use super::{Core, Reactor, SCAN_ENTRIES_PER_TURN, Task};
use crate::api::{go_on, takes_turns};
use crate::shard::{Budget, Job};

impl Reactor {
    /// Executes what another core asked for, unless it writes and writes are not taken now, or would overtake
    /// one like that.
    pub(super) fn execute(&mut self, asker: usize, job: Box<Job>) {
        if self.core.shard.is_journalled()
            && (self.core.waiting.defers(asker, &job) || job.writes() && !self.core.takes_writes())
        {
            return self.core.waiting.defer(asker, job);
        }
        self.perform(asker, job);
    }

    /// Executes what another core asked for.
    pub(super) fn perform(&mut self, asker: usize, mut job: Box<Job>) {
        if job.scan_mut().is_some() {
            self.core.scans.push_back(Task { asker, job, gate: 0 });
            return;
        }
        if job.list_task().is_some() {
            if let Some(job) = self.core.call_list(asker, job) {
                self.answer_peer(asker, job);
            }
            return;
        }
        if let Some(spaces) = job.spaces_to_empty() {
            spaces.into_iter().for_each(|space| self.core.shard.empty(space));
        }
        if let Some(errand) = job.errand_mut() {
            if takes_turns(errand) {
                self.core.scans.push_back(Task { asker, job, gate: 0 });
            } else if let Some(job) = self.core.run_errand(asker, job) {
                self.answer_peer(asker, job);
            }
            return;
        }
        if let Some(operation) = job.operation() {
            let outcome = self.core.shard.apply(&operation, self.core.now);
            job.answer(&outcome);
        }
        self.answer_peer(asker, job);
    }

    fn answer_peer(&mut self, asker: usize, job: Box<Job>) {
        let gate = if self.core.shard.is_journalled() { self.core.gate() } else { 0 };
        self.core.answer_peer(asker, job, gate);
    }

    /// Goes on with the listing in front, or the block of a dump, for a slice.
    pub(super) fn scan(&mut self) {
        let Core { scans, shard, now, .. } = &mut self.core;
        let Some(Task { job, .. }) = scans.front_mut() else { return };
        let done = match job.errand_mut() {
            Some(errand) => go_on(errand, shard, *now),
            None => {
                job.is_abandoned()
                    || job.scan_mut().is_none_or(|(namespace, scan)| {
                        shard.scan(namespace, scan, SCAN_ENTRIES_PER_TURN, *now)
                    })
            }
        };
        let gate = self.core.gate();
        if done && let Some(task) = self.core.scans.pop_front() {
            self.hand_back(Task { gate, ..task });
        }
    }

    /// Goes on with the calls that take several turns, the first one first. They have a budget of their own,
    /// or new calls could keep them waiting for ever.
    pub(super) fn work_on_lists(&mut self) {
        self.core.list_budget = Budget::of_a_turn();
        while !self.core.list_budget.is_spent() {
            let Some(at) = self.core.next_list() else { return };
            let Core { lists, shard, list_budget, now, .. } = &mut self.core;
            let Some(task) = lists.get_mut(at) else { return };
            let done = task.job.list_task_mut().is_none_or(|task| shard.work_on(task, list_budget, *now));
            let gate = self.core.gate();
            let Some(task) = self.core.lists.get_mut(at) else { return };
            task.gate = task.gate.max(gate);
            if !done {
                return;
            }
            if let Some(task) = self.core.lists.remove(at) {
                self.hand_back(task);
            }
        }
    }

    /// Takes what the helper thread has done.
    pub(super) fn take_from_helper(&mut self) {
        while let Some((ticket, done)) = self.core.helper.result() {
            let connection = self.connections.get_mut(ticket.connection as usize);
            if let Some(connection) = connection.filter(|it| it.generation == ticket.generation) {
                connection.helped(ticket, done, &self.core);
                self.answer(ticket.connection);
            }
        }
    }

    /// Another core has followed a change.
    pub(super) fn followed(&mut self, job: Box<Job>) {
        self.core.count_followed(job.ticket);
        self.core.mesh.recycle(job);
        while let Some(task) = self.core.next_followed() {
            self.hand_back(task);
        }
    }

    /// Brings what took several turns to whoever asked, or has it wait until what it shows is kept.
    pub(super) fn hand_back(&mut self, Task { asker, job, gate }: Task) {
        if asker != self.core.mesh.me() {
            return self.core.answer_peer(asker, job, gate);
        }
        let ticket = job.ticket;
        let connection = self.connections.get_mut(ticket.connection as usize);
        if let Some(connection) = connection.filter(|it| it.generation == ticket.generation) {
            connection.wait_for(gate);
            connection.answered(job, &mut self.core);
            self.answer(ticket.connection);
        }
    }
}
