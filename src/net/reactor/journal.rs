//! The reactor's part in keeping what it answers: it brings back what was kept, hands on what is to be kept,
//! and lets answers go when they are.

use std::io;

use super::{Reactor, Task, list, watch};
use crate::api::LedgerWalk;
use crate::net::connection::Life;
use crate::shard::{Health, NodeRecord};

impl Reactor {
    /// Lets go what the journal has kept, and goes on with what it takes again. The first thing in a turn, so
    /// that whoever has waited longest comes first.
    #[inline(never)]
    pub(super) fn release(&mut self) {
        self.core.shard.flush_journal();
        let has_failed = self.core.shard.health() == Health::Failed;
        // Read behind that, so that it is the last.
        let kept = self.core.shard.kept();
        self.core.seen_kept = kept;
        while let Some(client) = self.core.waiting.next_output(kept) {
            if self.client(client).is_some() {
                self.answer(client.0);
            }
        }
        self.core.tell_followers();
        while let Some(task) = self.core.next_followed() {
            self.hand_back(task);
        }
        while let Some((asker, job)) = self.core.waiting.next_answer(kept) {
            self.hand_back(Task { asker, job, gate: 0 });
        }
        if has_failed {
            self.give_up(kept);
        }
        self.resume();
    }

    /// Goes on with writes that waited, as far as they are taken now. Connections are driven in this turn, and
    /// those that find it full again wait in the same order.
    fn resume(&mut self) {
        while let Some((asker, job)) = self.core.waiting.next_deferred(self.core.takes_writes()) {
            self.perform(asker, job);
        }
        if !self.core.takes_writes() {
            return;
        }
        for client in self.core.waiting.take_paused() {
            let connection = self.connections.get_mut(client.0 as usize);
            if let Some(connection) = connection.filter(|connection| connection.generation == client.1) {
                connection.resume();
                list(connection, client.0, &mut self.ready);
            }
        }
    }

    /// The disk has failed: nobody is told of what is not kept, and never will be, but that this is so.
    #[cold]
    fn give_up(&mut self, kept: u64) {
        while let Some((id, generation)) = self.core.waiting.next_output(u64::MAX) {
            match self.client((id, generation)).and_then(|client| client.held_for()) {
                Some(gate) if gate > kept => self.lose(id),
                Some(_) => self.answer(id),
                None => {}
            }
        }
        while let Some((gate, asker, mut job)) = self.core.waiting.next_lost() {
            if gate > kept {
                job.lose();
            }
            self.hand_back(Task { asker, job, gate: 0 });
        }
        for mut task in self.core.take_untold() {
            task.job.lose();
            self.hand_back(Task { gate: 0, ..task });
        }
    }

    fn lose(&mut self, id: u32) {
        let Some(connection) = self.connections.get_mut(id as usize) else { return };
        match connection.lose(&mut self.core, id) {
            Life::Over => self.close(id),
            Life::Open => watch(connection, id, &mut self.ready, &mut self.timers),
        }
    }

    /// Whether [`Reactor::release`] would find something: asked when the writer knows that this core is about
    /// to sleep.
    pub(super) fn can_release(&mut self) -> bool {
        self.core.shard.flush_journal();
        let has_failed = self.core.shard.health() == Health::Failed;
        let kept = if has_failed { u64::MAX } else { self.core.shard.kept() };
        let takes_writes = self.core.takes_writes();
        if !self.core.api.is_recovering() {
            self.writing_base |= self.core.shard.write_base(self.core.now);
        }
        self.writing_base
            || self.core.waiting.may_go_on(kept, takes_writes)
            || self.core.can_tell_followers(kept)
            || self.core.next_list().is_some()
    }

    /// Hands on what is to be kept, and a slice of the live set if the journal wants it. Behind all that
    /// writes in a turn.
    #[inline(never)]
    pub(super) fn feed_journal(&mut self) {
        let core = &mut self.core;
        if let Some(number) = core.shard.wants_node_records() {
            if self.ledger_walk.0 != number {
                self.ledger_walk = (number, LedgerWalk::default());
            }
            let records = core.api.ledger_slice(&mut self.ledger_walk.1);
            core.shard.base_node(&NodeRecord::of(&records));
        }
        self.writing_base = core.shard.write_base(core.now);
        core.shard.flush_journal();
    }

    /// Brings back a slice of what was kept. The node serves when the last reactor has it all.
    #[cold]
    pub(super) fn recover(&mut self) -> io::Result<()> {
        if let Some(recovery) = &mut self.recovery {
            if !recovery.go_on(&mut self.core.shard, self.core.now)? {
                return Ok(());
            }
            self.recovery = None;
            // What every node has, such as the default app, may be there for the first time.
            self.core.keep_ledger();
            if !self.state.is_recovering() {
                // The others have been waiting for this one.
                self.core.mesh.wake_all();
            }
        }
        if !self.state.is_recovering() {
            self.core.api.recovered();
        }
        Ok(())
    }
}
