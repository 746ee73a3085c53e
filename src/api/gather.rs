//! Answers that take more than one shard: a [`Gather`] hands out pieces of work and puts together
//! what comes of them.
//!
//! Whoever drives it asks for pieces until there is none, brings back what came of each, and asks
//! again. At most [`PIECES_MAX`] are out at a time, so one request cannot fill the queues between
//! the cores. Pieces for one shard must be applied in the order in which they were handed out:
//! that is what keeps the operations of a batch on one key in order.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Weak};

use crate::clock::Now;
use crate::http::{Method, Request, Status, Version, response};
use crate::limits::CONNECTION_HOPS_MAX;
use crate::memory::{Memory, Reservation};
use crate::op::{Namespace, Operation, Outcome, Payload};
use crate::shard::{ListTask, Scan};

use super::administer::Administration;
use super::batch::Batch;
use super::databases;
use super::dump::{Dump, Export, Restore, Wrote};
use super::light::order::Order;
use super::list::List;
use super::message::Problem;
use super::{Api, GatherCall, Tail, Task};

/// Most pieces handed out and not yet brought back.
pub const PIECES_MAX: usize = CONNECTION_HOPS_MAX;

/// Several pieces of work for one answer.
#[derive(Debug)]
pub struct Gather(Kind);

#[derive(Debug)]
enum Kind {
    List(List),
    Batch(Batch),
    Administration(Administration),
    Light(Box<Order>),
    Dump(Box<Dump>),
    Restore(Box<Restore>),
    Database(Box<databases::order::Order>),
}

/// Something for a thread that may take its time.
pub struct Chore(Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>);

impl Chore {
    /// A chore that makes this.
    pub(super) fn new<T: Send + 'static>(make: impl FnOnce() -> T + Send + 'static) -> Chore {
        Chore(Box::new(move || Box::new(make())))
    }

    /// Does it, and brings what it made.
    pub fn run(self) -> Box<dyn Any + Send> {
        (self.0)()
    }
}

impl fmt::Debug for Chore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Chore")
    }
}

/// What of an answer can be sent before the rest is there.
#[derive(Debug)]
pub enum Flow {
    /// Nothing.
    Waits,
    /// What was appended, and this behind it with what it draws on the memory of the node.
    Sends(Tail<'static>, Option<Reservation>),
    /// There will be no rest: the connection ends here, so that nobody takes it for all.
    Broken,
}

/// A piece of work for one core.
#[derive(Debug)]
pub struct Piece<'a> {
    /// By which [`Gather::accept`] knows it again.
    pub index: u32,
    /// Whose it is.
    pub shard: usize,
    /// What to do.
    pub work: Work<'a>,
}

/// What a shard is asked to do.
#[derive(Debug)]
pub enum Work<'a> {
    /// An operation on one of its keys.
    Operation(Operation<'a>),
    /// To go through its keys. The scan is brought back when it is done, or when nobody holds the
    /// other end any more: whoever asked has gone.
    Scan(Namespace, Box<Scan>, Weak<()>),
    /// Something with one of its lists.
    List(Box<ListTask>),
    /// To make all keys of these spaces absent.
    Empty([Namespace; 2]),
    /// Something for the API of that core: [`Api::perform`].
    Errand(Box<dyn Any + Send>),
    /// To write a block of its entries down: [`super::go_on`]. An errand that takes several turns.
    Export(Box<Export>),
    /// The same for the core that asks.
    Here(Box<dyn Any + Send>),
    /// Something for a thread that may take its time. It is brought back when it is done.
    Chore(Chore),
}

impl Api {
    /// Reads what is asked of several cores, once the body is here (empty when there is none).
    pub fn gather(
        &self,
        request: &Request,
        head: &[u8],
        call: &GatherCall,
        payload: Payload<'_>,
    ) -> Result<Box<Gather>, Problem> {
        let body = payload.bytes();
        let kind = match call.task {
            Task::Batch => Kind::Batch(self.batch(body, call.grants, self.scope(request, head, call)?)?),
            Task::List => Kind::List(self.list(request, head, self.scope(request, head, call)?)?),
            Task::Administer(duty) => {
                Kind::Administration(self.administration(request, head, (duty, call.trusted_uid), body)?)
            }
            Task::Light(verb, app) => {
                Kind::Light(Box::new(self.order(request, head, (verb, app), call, payload)?))
            }
            Task::Dump => Kind::Dump(Box::new(self.dump(request, head)?)),
            Task::Restore => Kind::Restore(Box::new(self.restore(request, head, payload)?)),
            Task::Database(verb, by_password) => Kind::Database(Box::new(self.database_order(
                request,
                head,
                (verb, by_password),
                call,
                payload,
            ))),
        };
        Ok(Box::new(Gather(kind)))
    }
}

impl Gather {
    /// Whether the next piece is an operation that writes.
    pub fn writes_next(&self) -> bool {
        match &self.0 {
            Kind::Batch(batch) => batch.writes_next(),
            Kind::Light(order) => order.writes_next(),
            Kind::Restore(restore) => restore.writes_next(),
            Kind::Database(order) => order.writes_next(),
            Kind::List(_) | Kind::Administration(_) | Kind::Dump(_) => false,
        }
    }

    /// The next piece; `None` while enough are out, or when none is left.
    #[allow(clippy::should_implement_trait)] // It lends, which an `Iterator` cannot.
    pub fn next(&mut self) -> Option<Piece<'_>> {
        match &mut self.0 {
            Kind::List(list) => list.next(),
            Kind::Batch(batch) => batch.next(),
            Kind::Administration(order) => order.next(),
            Kind::Light(order) => order.next(),
            Kind::Dump(dump) => dump.next(),
            Kind::Restore(restore) => restore.next(),
            Kind::Database(order) => order.next(),
        }
    }

    /// Brings back what came of an operation.
    pub fn accept(&mut self, index: u32, outcome: &Outcome<'_>) {
        match &mut self.0 {
            Kind::Batch(batch) => batch.accept(index, outcome),
            Kind::Light(order) => order.accept(outcome),
            Kind::Restore(restore) => restore.accept(index, outcome),
            Kind::Database(order) => order.accept(outcome),
            Kind::List(_) | Kind::Administration(_) | Kind::Dump(_) => {
                debug_assert!(false, "only a batch has operations");
            }
        }
    }

    /// Brings back a scan.
    #[allow(clippy::boxed_local)] // As it travels between the cores.
    pub fn accept_scan(&mut self, index: u32, scan: Box<Scan>) {
        match &mut self.0 {
            Kind::List(list) => list.accept(index, *scan),
            Kind::Light(order) => order.accept_scan(index, *scan),
            Kind::Database(order) => order.accept_scan(*scan),
            _ => debug_assert!(false, "only a listing has scans"),
        }
    }

    /// Brings back an errand.
    pub fn accept_errand(&mut self, errand: Box<dyn Any + Send>) {
        match &mut self.0 {
            Kind::Administration(order) => order.accept(errand),
            Kind::Light(order) => order.accept_app(errand),
            Kind::Dump(dump) => dump.accept(errand),
            Kind::Restore(restore) => restore.accept_app(errand),
            Kind::Database(order) => order.accept_errand(errand),
            Kind::List(_) | Kind::Batch(_) => debug_assert!(false, "only an order has errands"),
        }
    }

    /// Brings back what a chore has made.
    pub fn accept_chore(&mut self, made: Box<dyn Any + Send>, memory: &Arc<Memory>) {
        match &mut self.0 {
            Kind::Database(order) => order.accept_chore(made, memory),
            _ => debug_assert!(false, "only the databases family has chores"),
        }
    }

    /// Sends what can be sent before the rest is there.
    pub fn flow(
        &mut self,
        api: &mut Api,
        request: &Request,
        head: &[u8],
        close: bool,
        out: &mut Vec<u8>,
    ) -> Flow {
        match &mut self.0 {
            Kind::Database(order) => order.flow(api, request, head, close, out),
            _ => Flow::Waits,
        }
    }

    /// Whether the answer may end with its connection, since its length is not known and there are no chunks.
    pub fn ends_with_connection(&self, request: &Request) -> bool {
        request.version == Version::Http10 && matches!(&self.0, Kind::Database(order) if order.may_be_long())
    }

    /// Brings back what was asked of a list.
    pub fn accept_list(&mut self, index: u32, task: Box<ListTask>, memory: &Arc<Memory>) {
        match &mut self.0 {
            Kind::Light(order) => order.accept_list(task, memory),
            Kind::Dump(dump) => dump.accept_list(task),
            Kind::Restore(restore) => restore.accept_list(index, task),
            _ => debug_assert!(false, "only the light family has lists"),
        }
    }

    /// Brings back that a shard's keys are absent.
    pub fn accept_emptied(&mut self) {
        match &mut self.0 {
            Kind::Administration(order) => order.accept_emptied(),
            _ => debug_assert!(false, "only an order empties spaces"),
        }
    }

    /// The same with room for what it holds at a time.
    ///
    /// # Errors
    /// When there is none.
    pub fn with_room(mut self: Box<Gather>, memory: &Arc<Memory>) -> Result<Box<Gather>, Problem> {
        let has_room = match &mut self.0 {
            Kind::Dump(dump) => dump.reserve(memory),
            _ => true,
        };
        if has_room { Ok(self) } else { Err(Problem::Busy) }
    }

    /// Whether a body is still to be read, and nothing else can be done.
    pub fn is_reading(&self) -> bool {
        match &self.0 {
            Kind::Light(order) => order.is_reading(),
            Kind::Restore(restore) => restore.is_reading(),
            _ => false,
        }
    }

    /// Whether it could go on, in another turn, without hearing from anybody.
    pub fn wants_turn(&self) -> bool {
        match &self.0 {
            Kind::Light(order) => order.is_reading(),
            Kind::Restore(restore) => restore.wants_turn(),
            Kind::Dump(dump) => dump.has_output(),
            _ => false,
        }
    }

    /// Goes on for about this many bytes of a body.
    pub fn take_turn(&mut self, budget: usize) {
        match &mut self.0 {
            Kind::Light(order) => order.read_on(budget),
            Kind::Restore(restore) => restore.take_turn(budget),
            _ => {}
        }
    }

    /// Whether the answer is written part by part, by [`Gather::write`], while the pieces come back.
    pub fn is_stream(&self) -> bool {
        matches!(self.0, Kind::Dump(_))
    }

    /// Appends the next part of such an answer.
    pub fn write(
        &mut self,
        api: &mut Api,
        request: &Request,
        head: &[u8],
        close: bool,
        out: &mut Vec<u8>,
    ) -> Wrote {
        match &mut self.0 {
            Kind::Dump(dump) => dump.write(api, request, head, close, out),
            _ => Wrote::Nothing,
        }
    }

    /// Whether it holds large values that are to be sent, and whether one of them is in no store any more.
    pub fn holds_large(&self) -> (bool, bool) {
        match &self.0 {
            Kind::Dump(dump) => dump.holds_large(),
            _ => (false, false),
        }
    }

    /// Whether every piece was handed out and brought back.
    pub fn is_done(&self) -> bool {
        match &self.0 {
            Kind::List(list) => list.is_done(),
            Kind::Batch(batch) => batch.is_done(),
            Kind::Administration(order) => order.is_done(),
            Kind::Light(order) => order.is_done(),
            Kind::Dump(dump) => dump.is_done(),
            Kind::Restore(restore) => restore.is_done(),
            Kind::Database(order) => order.is_done(),
        }
    }

    /// Answers, when it is done, and hands on what the answer draws on the memory of the node.
    pub fn answer(
        self,
        api: &mut Api,
        request: &Request,
        head: &[u8],
        close: bool,
        out: &mut Vec<u8>,
        now: Now,
    ) -> (Tail<'static>, Option<Reservation>) {
        debug_assert!(self.is_done());
        let parts = match self.0 {
            Kind::List(list) => vec![list.body(&api.tags, now)],
            Kind::Batch(batch) => batch.body(&api.tags),
            Kind::Administration(order) => {
                api.answer_order(request, head, order.answer(), close, out);
                return (Tail::None, None);
            }
            Kind::Light(order) => return order.answer(api, request, head, close, out),
            Kind::Restore(restore) => {
                restore.answer(api, request, head, close, out);
                return (Tail::None, None);
            }
            Kind::Dump(dump) => {
                dump.answer_head(api, request, head, close, out);
                return (Tail::None, None);
            }
            Kind::Database(order) => return order.answer(api, request, head, close, out, now),
        };
        let length: usize = parts.iter().map(Vec::len).sum();
        api.preamble.begin(out, Status::Ok);
        out.extend_from_slice(b"Content-Type: application/json\r\n");
        response::content_length(out, length as u64);
        api.end(Some((request, head)), close, out);
        if request.method != Method::Head {
            out.reserve_exact(length);
            for part in parts {
                out.extend_from_slice(&part);
            }
        }
        (Tail::None, None)
    }
}
