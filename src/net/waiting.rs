//! What waits for the journal: answers until what they show is kept, and writes until the writer has caught
//! up.
//!
//! Everything leaves in the order in which it came, so nothing has to be searched for: what a reactor has
//! done is kept in the order in which it was done. An answer that could go earlier than one before it goes
//! with it. Bounded by the connections, of which each waits once, and by the jobs that the other cores may
//! have under way here.

use std::collections::{HashMap, VecDeque};

use crate::shard::Job;

/// A connection's place in the reactor, and which of the users of that place.
pub type Client = (u32, u32);

/// Whose jobs have to follow each other: the requests of one client of another core.
type Asker = (usize, u32, u32);

/// What of a reactor waits for its journal.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Connections with output that shows what has the number beside them.
    outputs: VecDeque<(u64, Client)>,
    /// Answers to other cores that do.
    answers: VecDeque<(u64, usize, Box<Job>)>,
    /// Connections that have stopped before a write.
    paused: VecDeque<Client>,
    /// Writes of other cores, and what came behind them from the same client.
    deferred: VecDeque<(usize, Box<Job>)>,
    /// How many of those each client has.
    deferred_of: HashMap<Asker, usize>,
}

impl Waiting {
    /// A connection's output goes when this number is kept.
    pub fn push_output(&mut self, number: u64, client: Client) {
        self.outputs.push_back((number, client));
    }

    /// The next connection whose output may go.
    pub fn next_output(&mut self, kept: u64) -> Option<Client> {
        let (_, client) = self.outputs.pop_front_if(|(number, _)| *number <= kept)?;
        Some(client)
    }

    /// An answer to another core goes when this number is kept.
    pub fn push_answer(&mut self, number: u64, asker: usize, job: Box<Job>) {
        self.answers.push_back((number, asker, job));
    }

    /// The next answer that may go.
    pub fn next_answer(&mut self, kept: u64) -> Option<(usize, Box<Job>)> {
        let (_, asker, job) = self.answers.pop_front_if(|(number, ..)| *number <= kept)?;
        Some((asker, job))
    }

    /// The next answer and what it waits for, though that will not be kept.
    pub fn next_lost(&mut self) -> Option<(u64, usize, Box<Job>)> {
        self.answers.pop_front()
    }

    /// A connection waits until writes are taken again.
    pub fn pause(&mut self, client: Client) {
        self.paused.push_back(client);
    }

    /// All that wait for that, in their order.
    pub fn take_paused(&mut self) -> VecDeque<Client> {
        std::mem::take(&mut self.paused)
    }

    /// A job waits until writes are taken again.
    pub fn defer(&mut self, asker: usize, job: Box<Job>) {
        *self.deferred_of.entry(asker_of(asker, &job)).or_default() += 1;
        self.deferred.push_back((asker, job));
    }

    /// Whether a job of the same client waits, so that this one may not overtake it.
    pub fn defers(&self, asker: usize, job: &Job) -> bool {
        !self.deferred.is_empty() && self.deferred_of.contains_key(&asker_of(asker, job))
    }

    /// The next job that may go: any, or one that does not write.
    pub fn next_deferred(&mut self, takes_writes: bool) -> Option<(usize, Box<Job>)> {
        let (asker, job) = self.deferred.pop_front_if(|(_, job)| takes_writes || !job.writes())?;
        if let std::collections::hash_map::Entry::Occupied(mut left) =
            self.deferred_of.entry(asker_of(asker, &job))
        {
            *left.get_mut() -= 1;
            if *left.get() == 0 {
                left.remove();
            }
        }
        Some((asker, job))
    }

    /// Whether something may go now: an answer, or a write if they are taken.
    pub fn may_go_on(&self, kept: u64, takes_writes: bool) -> bool {
        self.outputs.front().is_some_and(|(number, _)| *number <= kept)
            || self.answers.front().is_some_and(|(number, ..)| *number <= kept)
            || takes_writes && !(self.paused.is_empty() && self.deferred.is_empty())
    }
}

fn asker_of(asker: usize, job: &Job) -> Asker {
    (asker, job.ticket.connection, job.ticket.generation)
}

#[cfg(test)]
mod tests {
    use super::Waiting;
    use crate::op::{Action, Condition, Namespace, Operation};
    use crate::shard::{Job, Ticket};

    fn job(connection: u32, request: u32, action: Action<'_>) -> Box<Job> {
        let mut job = Box::<Job>::default();
        let operation = Operation {
            namespace: Namespace::KV,
            key: b"k",
            hash: 1,
            action,
            condition: Condition::default(),
            fencing_token: None,
            admin: false,
        };
        job.ask(Ticket { connection, generation: 1, request, piece: 0 }, &operation);
        job
    }

    #[test]
    fn what_waits_goes_in_its_order_and_not_before_it_is_kept() {
        let mut waiting = Waiting::default();
        for (number, client) in [(3, 30), (5, 50), (4, 40)] {
            waiting.push_output(number, (client, 1));
            waiting.push_answer(number, 1, job(client, 0, Action::Get));
        }
        assert!(!waiting.may_go_on(2, true));
        assert_eq!(waiting.next_output(2), None);
        assert!(waiting.may_go_on(3, false));
        assert_eq!(waiting.next_output(4), Some((30, 1)));
        assert_eq!(waiting.next_output(4), None, "it is behind one that may not go");
        assert_eq!([waiting.next_output(5), waiting.next_output(5)], [Some((50, 1)), Some((40, 1))]);
        let next = |waiting: &mut Waiting, kept| {
            waiting.next_answer(kept).map(|(asker, job)| (asker, job.ticket.connection))
        };
        assert_eq!([next(&mut waiting, 3), next(&mut waiting, 4)], [Some((1, 30)), None]);
        assert_eq!([next(&mut waiting, 9), next(&mut waiting, 9)], [Some((1, 50)), Some((1, 40))]);
        assert!(!waiting.may_go_on(u64::MAX, true));
    }

    #[test]
    fn a_read_does_not_overtake_a_deferred_write_of_its_client_and_no_other_waits() {
        let mut waiting = Waiting::default();
        let delete = Action::Delete { answer_value: false };
        assert!(job(1, 0, delete).writes() && !job(1, 0, Action::Get).writes());
        waiting.defer(2, job(1, 0, delete));
        assert!(waiting.defers(2, &job(1, 1, Action::Get)));
        assert!(!waiting.defers(2, &job(7, 1, Action::Get)), "another client");
        assert!(!waiting.defers(3, &job(1, 1, Action::Get)), "another core");
        waiting.defer(2, job(1, 1, Action::Get));
        assert!(!waiting.may_go_on(u64::MAX, false) && waiting.may_go_on(0, true));
        assert!(waiting.next_deferred(false).is_none());
        let request = |waiting: &mut Waiting, takes_writes| {
            waiting.next_deferred(takes_writes).map(|(_, job)| job.ticket.request)
        };
        assert_eq!(request(&mut waiting, true), Some(0));
        assert!(waiting.defers(2, &job(1, 2, Action::Get)), "one is left");
        assert_eq!(request(&mut waiting, false), Some(1));
        assert!(!waiting.defers(2, &job(1, 2, Action::Get)) && waiting.deferred_of.is_empty());
        assert_eq!(request(&mut waiting, true), None);
    }
}
