//! The thread for what would hold a reactor up: decoding a stored value for a client that does not
//! take it as it is, reading a long form, opening a large value that is sealed.
//!
//! A connection has at most one of them there at a time, so the queue is bounded by the connections.

use std::any::Any;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::api::{Chore, Decode, Decoded};
use crate::shard::{Doorbell, Ticket};

/// What was done.
#[derive(Debug)]
pub enum Done {
    /// A value is decoded.
    Decoded(Decoded),
    /// Something else, for the request that had it done.
    Chore(Box<dyn Any + Send>),
}

enum Work {
    Decode(Decode),
    Chore(Chore),
}

impl Work {
    fn run(self) -> Done {
        match self {
            Work::Decode(decode) => Done::Decoded(decode.run()),
            Work::Chore(chore) => Done::Chore(chore.run()),
        }
    }
}

struct Task {
    work: Work,
    ticket: Ticket,
    reactor: usize,
}

/// A reactor's way to the helper thread and back.
#[derive(Debug)]
pub struct Helper {
    reactor: usize,
    tasks: Sender<Task>,
    results: Receiver<(Ticket, Done)>,
}

impl Helper {
    /// Starts the thread and gives each of the reactors, whose doorbells these are, its way to it.
    /// The thread ends when the last of them is dropped.
    pub fn start(bells: Arc<[Doorbell]>) -> std::io::Result<Vec<Helper>> {
        let (tasks, queue) = channel::<Task>();
        let (senders, receivers): (Vec<_>, Vec<_>) = bells.iter().map(|_| channel()).unzip();
        std::thread::Builder::new().name("lucid-helper".into()).spawn(move || {
            for task in queue {
                // A reactor that has gone away needs no answer.
                if senders[task.reactor].send((task.ticket, task.work.run())).is_ok() {
                    bells[task.reactor].ring_always();
                }
            }
        })?;
        let with_results = |(reactor, results)| Helper { reactor, tasks: tasks.clone(), results };
        Ok(receivers.into_iter().enumerate().map(with_results).collect())
    }

    /// Has a value decoded for the request of this ticket.
    pub fn decode(&self, decode: Decode, ticket: Ticket) {
        self.send(Work::Decode(decode), ticket);
    }

    /// Has a chore done for the request of this ticket.
    pub fn chore(&self, chore: Chore, ticket: Ticket) {
        self.send(Work::Chore(chore), ticket);
    }

    fn send(&self, work: Work, ticket: Ticket) {
        let sent = self.tasks.send(Task { work, ticket, reactor: self.reactor });
        debug_assert!(sent.is_ok(), "the helper lives as long as a reactor");
    }

    /// The next result.
    pub fn result(&self) -> Option<(Ticket, Done)> {
        self.results.try_recv().ok()
    }
}
