//! What other cores ask for, and what takes several turns: listings and calls on lists, a slice each.

use super::{Core, Errand, Reactor, SCAN_ENTRIES_PER_TURN};
use crate::api::{go_on, takes_turns};
use crate::shard::Job;

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
            self.core.scans.push_back(Errand { asker, job, gate: 0 });
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
                self.core.scans.push_back(Errand { asker, job, gate: 0 });
                return;
            }
            self.core.perform(errand);
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
        let Some(Errand { job, .. }) = scans.front_mut() else { return };
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
        if done && let Some(errand) = self.core.scans.pop_front() {
            self.hand_back(errand, gate);
        }
    }

    /// Goes on with the call in front that takes several turns.
    pub(super) fn work_on_lists(&mut self) {
        let Some(at) = self.core.next_list() else { return };
        let Some(errand) = self.core.lists.get_mut(at) else { return };
        let done = errand.job.list_task_mut().is_none_or(|task| self.core.shard.work_on(task, self.core.now));
        let gate = self.core.gate();
        if done && let Some(errand) = self.core.lists.remove(at) {
            self.hand_back(errand, gate);
        } else if let Some(errand) = self.core.lists.get_mut(at) {
            errand.gate = errand.gate.max(gate);
        }
    }

    /// Brings what took several turns to whoever asked, or has it wait until `gate` is kept too.
    fn hand_back(&mut self, Errand { asker, job, gate: earlier }: Errand, gate: u64) {
        let gate = gate.max(earlier);
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
