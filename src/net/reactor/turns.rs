//! What other cores ask for, and what takes several turns: listings and calls on lists, a slice each.

use super::{Core, Reactor, SCAN_ENTRIES_PER_TURN};
use crate::api::{go_on, takes_turns};
use crate::shard::Job;

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
        if let Some(errand) = job.errand_mut() {
            if takes_turns(errand) {
                self.core.scans.push_back((asker, job));
                return;
            }
            self.core.api.perform(errand);
        }
        if let Some(operation) = job.operation() {
            let outcome = self.core.shard.apply(&operation, self.core.now);
            job.answer(&outcome);
        }
        self.core.mesh.answer(asker, job);
    }

    /// Goes on with the listing in front, or the block of a dump, for a slice.
    pub(super) fn scan(&mut self) {
        let Core { scans, shard, now, .. } = &mut self.core;
        let Some((_, job)) = scans.front_mut() else { return };
        let done = match job.errand_mut() {
            Some(errand) => go_on(errand, shard, *now),
            None => {
                job.is_abandoned()
                    || job.scan_mut().is_none_or(|(namespace, scan)| {
                        shard.scan(namespace, scan, SCAN_ENTRIES_PER_TURN, *now)
                    })
            }
        };
        if done && let Some((asker, job)) = self.core.scans.pop_front() {
            self.hand_back(asker, job);
        }
    }

    /// Goes on with the call in front that takes several turns.
    pub(super) fn work_on_lists(&mut self) {
        let Core { lists, shard, now, .. } = &mut self.core;
        let Some((_, job)) = lists.front_mut() else { return };
        let done = job.list_task_mut().is_none_or(|task| shard.work_on(task, *now));
        if done && let Some((asker, job)) = lists.pop_front() {
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
