//! One client: what it sent, what it is owed, and how far each has come.
//!
//! Input is read into a block and parsed into [`Slot`]s, one for each request. Slots are executed
//! and answered strictly from the front, so answers keep the order of requests however many cores
//! work on them. Offsets of queued requests point into the block, so its bytes stay where they are
//! until the queue is empty.
//!
//! Every bound on a client is here: one block of input, [`CONNECTION_HOPS_MAX`] requests, and
//! nothing is read or answered while a backlog waits for the client to read.

mod deadline;
mod delivery;
mod dispatch;
mod handshake;
mod intake;
mod kept;

use std::collections::VecDeque;

use mio::net::TcpStream;

use crate::api::{Call, Decoded, Gather, Problem};
use crate::auth::{Remembered, Vouched};
use crate::http::{Familiar, Request};
use crate::limits::{BLOCK_BYTES, CONNECTION_HOPS_MAX, SMALL_BLOCK_BYTES, TLS_OUTPUT_BYTES_MAX};
use crate::memory::Reservation;
use crate::net::body::{Body, Upload};
use crate::net::buffers::Block;
use crate::net::core::Core;
use crate::net::output::Backlog;
use crate::net::socket::Socket;
use crate::net::stalls::Unread;
use crate::shard::Job;
use deadline::Deadline;
use kept::Unkept;

/// What a TLS connection whose client does not read holds beside its backlog: records it could not send,
/// and what was decrypted before it stopped reading.
const TLS_BACKLOG_BYTES: u64 = TLS_OUTPUT_BYTES_MAX as u64 + 32 * 1_024;

/// Bytes thrown away at most while lingering.
const LINGER_BYTES_MAX: u64 = 64 * 1_024 * 1_024;

/// A request that has not been answered yet.
#[derive(Debug)]
pub struct Slot {
    request: Request,
    /// Offset of its head in the block.
    at: u32,
    /// What it was admitted for; not looked at when it is refused.
    call: Option<Call>,
    body: Body,
    /// The connection closes behind its answer.
    close: bool,
    state: State,
}

// One is moved into the queue for each request, and what is longer than 256 bytes is moved in a loop.
const _: () = assert!(size_of::<Slot>() <= 240);

#[derive(Debug)]
enum State {
    /// Its body is still coming.
    Incomplete,
    /// To be executed here when it reaches the front.
    Ready,
    /// To be sent to this core, which owns its key, as soon as what is before it allows it.
    Held(usize),
    /// With this core, which owns its key.
    Asked(usize),
    /// Back from there.
    Answered(Box<Job>),
    /// Its pieces are with several cores.
    Gathering(Box<Gather>),
    /// A helper thread is decoding its value.
    Decoding,
    /// It has. What it made is in the budget of bodies, if there was room.
    Decoded(Box<Decoded>, Option<Reservation>),
    /// Answered already by what it asked for: a problem.
    Refused(Problem),
}

/// The fields of an earlier head, and who they stand for once that was found out.
#[derive(Debug, Default)]
struct Known {
    fields: Familiar,
    vouched: Option<Vouched>,
}

/// What the next bytes from the client are.
#[derive(Debug)]
enum Intake {
    /// A head.
    Head,
    /// The rest of a body that fits into the block: complete when the block holds it all.
    InBlock { body_at: u32, length: u32 },
    /// A body gathered aside.
    Upload(Box<Upload>),
    /// The body of a refused request, thrown away.
    Skip { left: u64 },
    /// Nothing more is taken.
    Closed,
}

/// Answers that go out with those behind them.
#[derive(Debug)]
struct Answers {
    /// They stand at its start.
    block: Block,
    length: u32,
    /// The first of them that shows what is not kept.
    unkept: Unkept,
}

/// How far a password is proven, when only its hash is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    None,
    /// The helper thread is at it.
    Awaited,
    /// It was the wrong one.
    Failed,
}

/// What became of a connection in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It goes on.
    Open,
    /// It is to be dropped.
    Over,
}

/// One client.
#[derive(Debug)]
pub struct Connection {
    stream: Socket,
    /// Which user of its place in the reactor this is.
    pub generation: u32,
    block: Option<Block>,
    /// Unparsed input lies at `start..end` of the block.
    start: u32,
    end: u32,
    /// How far an incomplete head was searched for its end.
    scanned: usize,
    /// The fields of its last GET, and of its last PUT or POST.
    known: Option<Box<[Known; 2]>>,
    /// The unparsed input is the beginning of a head, or a head that nobody is let in by yet.
    partial: bool,
    /// Whether the password of that head is right.
    proof: Proof,
    queue: Option<VecDeque<Slot>>,
    /// Number of the request at the front of the queue.
    front: u32,
    /// How many of the queue are held back, and how many are with other cores.
    held: u32,
    asked: u32,
    /// Nothing but reads of keys was queued since the queue was last empty.
    only_reads: bool,
    /// Nothing that concerns several cores was.
    only_keys: bool,
    intake: Intake,
    /// `100 Continue` is owed to the request whose body is awaited.
    continue_due: bool,
    /// Answers that go out with those behind them. Only while another core is asked, and there is no backlog.
    answers: Option<Answers>,
    backlog: Option<Box<Backlog>>,
    /// What of it is counted among the reactor's buffers.
    backlog_bytes: u64,
    /// The journal must have kept what has this number before any output goes.
    gate: u64,
    /// All of the backlog waits for that, and is in the reactor's list with this number.
    is_held: bool,
    listed_gate: u64,
    /// A part of the answer at the front of the queue was made.
    has_begun: bool,
    /// It has stopped before a write, and is in the reactor's list of those.
    is_paused: bool,
    /// It is among the reactor's stalls since then; 0 is not.
    stalled_since_ms: u64,
    remembered: Remembered,
    /// The socket may hold input that was not read.
    readable: bool,
    /// The peer has closed its side, or the connection broke: read until the end is seen.
    hung_up: bool,
    /// The end of input was read.
    ended: bool,
    stage: Stage,
    deadline: Deadline,
    deadline_ms: u64,
    /// The slot of the timer wheel in which this connection is looked at next; 0 is none.
    pub timer_slot: u64,
    /// It is in the reactor's list of connections to drive.
    pub listed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// TLS has yet to be agreed on.
    Handshaking,
    Open,
    /// Its last answer was given, as the client asked for; drop it when that is sent.
    Closing,
    /// As `Closing`, but the client is sending or may be.
    ClosingUnread,
    /// The last answer is sent; input is thrown away.
    Lingering {
        left: u64,
    },
}

impl Connection {
    /// A connection just accepted.
    pub fn new(stream: Socket, trusted_uid: Option<u32>, generation: u32, core: &Core) -> Connection {
        let (stage, deadline, patience_ms) = match stream {
            Socket::Tls(_) => (Stage::Handshaking, Deadline::Handshake, core.timeouts.head_ms),
            Socket::Plain(_) => (Stage::Open, Deadline::Idle, core.timeouts.idle_ms),
        };
        Connection {
            stream,
            generation,
            block: None,
            start: 0,
            end: 0,
            scanned: 0,
            known: None,
            partial: false,
            proof: Proof::None,
            queue: None,
            front: 0,
            held: 0,
            asked: 0,
            only_reads: true,
            only_keys: true,
            intake: Intake::Head,
            continue_due: false,
            answers: None,
            backlog: None,
            backlog_bytes: 0,
            gate: 0,
            is_held: false,
            listed_gate: 0,
            has_begun: false,
            is_paused: false,
            stalled_since_ms: 0,
            remembered: Remembered::of_peer(trusted_uid),
            readable: true,
            hung_up: false,
            ended: false,
            stage,
            deadline,
            deadline_ms: core.now.unix_ms + patience_ms,
            timer_slot: 0,
            listed: false,
        }
    }

    /// The socket, for registration.
    pub fn system_mut(&mut self) -> &mut TcpStream {
        self.stream.system_mut()
    }

    /// Whether it speaks TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.stream, Socket::Tls(_))
    }

    /// Notes what the system said about the socket.
    pub fn readiness(&mut self, readable: bool, hung_up: bool) {
        self.readable |= readable || hung_up;
        self.hung_up |= hung_up;
    }

    /// When to look at this connection again.
    pub fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// Whether nothing of a request is here, as far as is known, and nothing of an answer is left.
    pub fn is_idle(&self) -> bool {
        if self.stage == Stage::Handshaking {
            return true;
        }
        self.queue.is_none()
            && self.backlog.is_none()
            && self.start == self.end
            && !self.can_read()
            && matches!(self.intake, Intake::Head)
            && self.stage == Stage::Open
    }

    /// How many requests wait for their answers.
    pub fn waiting_requests(&self) -> usize {
        self.queue.as_ref().map_or(0, VecDeque::len)
    }

    /// Whether another turn would find something to do without hearing from the system first.
    pub fn is_runnable(&self) -> bool {
        if self.backlog.is_some() {
            return self.stream.is_paused() && !self.is_held;
        }
        match self.stage {
            Stage::Lingering { .. } => self.readable,
            _ if !self.is_paused && self.wants_turn() => true,
            _ => self.waiting_requests() < CONNECTION_HOPS_MAX && (self.can_read() || self.has_unparsed()),
        }
    }

    /// Whether the front of the queue has something to go on with, a slice each turn.
    fn wants_turn(&self) -> bool {
        self.gathering().is_some_and(Gather::wants_turn)
    }

    /// What the front of the queue gathers.
    fn gathering(&self) -> Option<&Gather> {
        match self.queue.as_ref().and_then(|queue| queue.front()) {
            Some(Slot { state: State::Gathering(gather), .. }) => Some(gather),
            _ => None,
        }
    }

    fn can_read(&self) -> bool {
        self.readable && !self.ended && !matches!(self.intake, Intake::Closed) && self.has_room()
    }

    fn has_room(&self) -> bool {
        match &self.intake {
            Intake::Upload(_) => !self.upload_waits(),
            _ => self.queue.is_none() || (self.end as usize) < BLOCK_BYTES,
        }
    }

    /// Of several queued requests, the ones before an upload are answered first: a complete body that
    /// waits for them would be in nobody's budget.
    fn upload_waits(&self) -> bool {
        matches!(self.intake, Intake::Upload(_)) && self.waiting_requests() > 1
    }

    /// Whether requests wait in the block that found the queue full.
    fn has_unparsed(&self) -> bool {
        self.start < self.end && !self.partial && matches!(self.intake, Intake::Head)
    }

    /// Gives back what is not needed while waiting, and says when to look again.
    fn settle(&mut self, core: &mut Core, progress: bool) -> Life {
        // Requests may be here that found the queue full.
        let no_more = self.ended && !self.has_unparsed();
        if no_more {
            // What was begun will not be finished; what is complete is still answered.
            if let Some(queue) = self.queue.as_mut()
                && queue.back().is_some_and(|slot| matches!(slot.state, State::Incomplete))
            {
                queue.pop_back();
            }
            self.intake = Intake::Closed;
        }
        if let Some(queue) = self.queue.take_if(|queue| queue.is_empty()) {
            core.buffers.give_back_queue(queue);
            (self.only_reads, self.only_keys) = (true, true);
        }
        if self.queue.is_none() {
            self.release_block(core);
            if self.backlog.is_none() && (no_more || self.stage != Stage::Open) {
                return self.finish(core);
            }
        }
        self.set_deadline(core, progress);
        Life::Open
    }

    /// Tells the reactor what the backlog holds, so that it is counted.
    fn note_backlog(&mut self, core: &mut Core, id: u32) {
        let (bytes, holds_large) = self.backlog.as_ref().map_or((0, false), |backlog| {
            let tls_bytes = if self.is_tls() { TLS_BACKLOG_BYTES } else { 0 };
            (backlog.copied_bytes() + tls_bytes, backlog.holds_large())
        });
        let holds_large = holds_large || self.gathering().is_some_and(|gather| gather.holds_large().0);
        if bytes != self.backlog_bytes {
            core.buffers.recount_backlog(&mut self.backlog_bytes, bytes);
        }
        if !holds_large {
            self.stalled_since_ms = 0;
        } else if self.stalled_since_ms == 0 {
            self.stalled_since_ms = core.now.unix_ms;
            core.stalls.push(core.now.unix_ms, id, self.generation);
        }
    }

    /// What it has not read of large values.
    pub fn unread(&self) -> Option<Unread> {
        let backlog = self.backlog.as_ref();
        let (gathers, gathers_left) = self.gathering().map_or((false, false), Gather::holds_large);
        let holds_large = gathers || backlog.is_some_and(|backlog| backlog.holds_large());
        let has_left = gathers_left || backlog.is_some_and(|backlog| backlog.holds_left());
        holds_large.then_some(Unread { since_ms: self.stalled_since_ms, has_left })
    }

    /// The last answer is with the system.
    fn finish(&mut self, core: &mut Core) -> Life {
        match self.stage {
            Stage::Closing if !self.readable && !core.draining => Life::Over,
            Stage::Closing | Stage::ClosingUnread if !self.ended => {
                // Closing now would reset the connection and could take the answer with it.
                match self.stream.end_sending() {
                    Ok(true) => {}
                    Ok(false) => {
                        self.backlog = Some(Box::default());
                        self.set_deadline(core, false);
                        return Life::Open;
                    }
                    Err(_) => return Life::Over,
                }
                self.stage = Stage::Lingering { left: LINGER_BYTES_MAX };
                self.readable = true;
                self.set_deadline(core, false);
                Life::Open
            }
            Stage::Lingering { .. } | Stage::Handshaking if !self.ended => {
                self.set_deadline(core, false);
                Life::Open
            }
            _ => Life::Over,
        }
    }

    /// Gives the block back when it is empty; moves the start of a head into a small one.
    fn release_block(&mut self, core: &mut Core) {
        let unread = (self.end - self.start) as usize;
        if unread > 0 && !matches!(self.intake, Intake::Closed) {
            let waits = matches!(self.intake, Intake::Head) && self.partial && !self.readable;
            if waits && unread <= SMALL_BLOCK_BYTES {
                self.park(core);
            }
            return;
        }
        if let Some(block) = self.block.take() {
            core.buffers.give_back(block);
        }
        (self.start, self.end) = (0, 0);
    }

    fn park(&mut self, core: &mut Core) {
        let Some(block) = self.block.as_mut().filter(|block| block.len() == BLOCK_BYTES) else { return };
        let mut small = core.buffers.small();
        let length = (self.end - self.start) as usize;
        small[..length].copy_from_slice(&block[self.start as usize..self.end as usize]);
        core.buffers.give_back(std::mem::replace(block, small));
        (self.start, self.end) = (0, length as u32);
    }

    /// The node is stopping: ends at once when idle, otherwise behind what is under way.
    pub fn drain(&mut self) -> Life {
        if self.is_idle() {
            return Life::Over;
        }
        // A head that has begun is finished too, and is then the last.
        let at_head = matches!(self.intake, Intake::Head);
        if at_head && (self.start < self.end || self.can_read()) {
            return Life::Open;
        }
        match self.queue.as_mut().and_then(|queue| queue.back_mut()) {
            Some(slot) => slot.close = true,
            // The last answer is on its way: it did not say so, so the client may well ask again.
            None if at_head => self.stage = Stage::ClosingUnread,
            None => {}
        }
        if at_head {
            self.intake = Intake::Closed;
        }
        Life::Open
    }

    /// Gives its buffers back.
    pub fn dismantle(mut self, core: &mut Core) -> Socket {
        if self.backlog.is_none() {
            self.stream.part();
        }
        core.buffers.recount_backlog(&mut self.backlog_bytes, 0);
        let blocks = [self.block.take(), self.answers.take().map(|answers| answers.block)];
        blocks.into_iter().flatten().for_each(|block| core.buffers.give_back(block));
        if let Some(mut queue) = self.queue.take() {
            queue.clear();
            core.buffers.give_back_queue(queue);
        }
        self.stream
    }
}
