//! What other cores and the helper thread bring, and what takes several turns: listings and calls on lists,
//! a slice each, and changes that all cores follow.

use super::{Core, Reactor, SCAN_ENTRIES_PER_TURN};
use crate::shard::{Budget, Job};

impl Reactor {
    /// Executes what another core asked for.
    pub(super) fn execute(&mut self, asker: usize, mut job: Box<Job>) {
        if job.scan_mut().is_some() {
            self.core.scans.push_back((asker, job));
            return;
        }
        if job.list_task().is_some() {
            if let Some(job) = self.core.call_list(asker, job) {
                self.core.mesh.answer(asker, job);
            }
            return;
        }
        if let Some(spaces) = job.spaces_to_empty() {
            spaces.into_iter().for_each(|space| self.core.shard.empty(space));
        }
        if job.errand_mut().is_some() {
            if let Some(job) = self.core.run_errand(asker, job) {
                self.core.mesh.answer(asker, job);
            }
            return;
        }
        if let Some(operation) = job.operation() {
            let outcome = self.core.shard.apply(&operation, self.core.now);
            job.answer(&outcome);
        }
        self.core.mesh.answer(asker, job);
    }

    /// Goes on with the listing in front, for a slice.
    pub(super) fn scan(&mut self) {
        let Some((_, job)) = self.core.scans.front_mut() else { return };
        let done = job.is_abandoned()
            || job.scan_mut().is_none_or(|(namespace, scan)| {
                self.core.shard.scan(namespace, scan, SCAN_ENTRIES_PER_TURN, self.core.now)
            });
        if done && let Some((asker, job)) = self.core.scans.pop_front() {
            self.hand_back(asker, job);
        }
    }

    /// Goes on with the calls that take several turns, the first one first. They have a budget of their own,
    /// or new calls could keep them waiting for ever.
    pub(super) fn work_on_lists(&mut self) {
        self.core.list_budget = Budget::of_a_turn();
        while !self.core.list_budget.is_spent() {
            let Core { lists, shard, list_budget, now, .. } = &mut self.core;
            let Some((_, job)) = lists.front_mut() else { return };
            if !job.list_task_mut().is_none_or(|task| shard.work_on(task, list_budget, *now)) {
                return;
            }
            if let Some((asker, job)) = lists.pop_front() {
                self.hand_back(asker, job);
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
        while let Some((asker, job)) = self.core.next_followed() {
            self.hand_back(asker, job);
        }
    }

    /// Brings what took several turns to whoever asked.
    fn hand_back(&mut self, asker: usize, job: Box<Job>) {
        if asker != self.core.mesh.me() {
            return self.core.mesh.answer(asker, job);
        }
        let ticket = job.ticket;
        let connection = self.connections.get_mut(ticket.connection as usize);
        if let Some(connection) = connection.filter(|it| it.generation == ticket.generation) {
            connection.answered(job, &mut self.core);
            self.answer(ticket.connection);
        }
    }
}
