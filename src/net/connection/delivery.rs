//! What a client is owed: executed from the front of the queue, and written.
//!
//! A request is executed when it reaches the front, so answers are made in order straight into the
//! reactor's buffer. Those that other cores work on, or that a helper decodes, hold up what is
//! behind them until they are back.

use std::io::{self, IoSlice};

use super::kept::{Unkept, hold, note};
use super::{Answers, Connection, Intake, Life, Proof, Stage, State};
use crate::api::{Call, Decoded, Flow, Gather, Problem, Tail, Work, Wrote};
use crate::http::{Method, Request, Version, response};
use crate::limits::BLOCK_BYTES;
use crate::memory::Reservation;
use crate::net::core::{Core, Task};
use crate::net::helper::Done;
use crate::net::output::{Backlog, Written};
use crate::net::socket::Socket;
use crate::shard::{Job, Ticket};

/// Output gathered before it is offered to the socket in the middle of a turn.
const SCRATCH_BYTES: usize = 64 * 1_024;

/// Parts of a long answer that are written in one turn: half a millisecond.
const PARTS_PER_TURN: usize = 8;

impl Connection {
    /// Executes and answers what is at the front of the queue, and writes once.
    pub fn answer(&mut self, core: &mut Core, id: u32) -> Life {
        let mut progress = false;
        if let Some(backlog) = self.backlog.as_mut()
            && (!self.is_held || core.is_kept(self.gate))
        {
            // Until now it was not the client that was slow.
            progress = std::mem::take(&mut self.is_held);
            match backlog.flush(&mut self.stream) {
                Ok(Written::All) => {
                    self.backlog
                        .take()
                        .into_iter()
                        .for_each(|backlog| core.buffers.give_back_backlog(backlog));
                    progress = true;
                }
                Ok(Written::Part(sent)) => progress |= sent > 0 || self.stream.take_progress(),
                Err(_) => return Life::Over,
            }
        }
        // Without requests there is nothing to make: what was held for the journal has gone.
        if self.waits_for_others() || self.queue.is_none() {
            self.note_backlog(core, id);
            return self.settle(core, progress);
        }
        let mut scratch = std::mem::take(&mut core.scratch);
        let mut unkept = self.take_answers(&mut scratch, core);
        let result = self.execute(core, id, &mut scratch, &mut unkept);
        if self.held > 0 {
            self.dispatch(core, id);
        }
        if self.asked > 0 {
            self.keep_answers(&mut scratch, &mut unkept, core);
        }
        if core.shard.is_journalled() {
            self.hold_output(unkept, !scratch.is_empty(), core, id);
        }
        let result = result.and_then(|()| self.send(&mut scratch, Tail::None));
        scratch.clear();
        // A long answer, a batch's, is not to be kept room for.
        scratch.shrink_to(2 * SCRATCH_BYTES);
        core.scratch = scratch;
        self.note_backlog(core, id);
        match result {
            Ok(()) => self.settle(core, progress),
            Err(_) => Life::Over,
        }
    }

    /// Whether to leave everything until the other cores have answered all that they were asked, so
    /// that it goes out in one write. While something is held back it waits for what is before it.
    pub fn waits_for_others(&self) -> bool {
        self.asked > 0 && self.held == 0
    }

    /// Keeps answers back, as far as a block holds them, while other cores work on what is behind: they
    /// answer soon, and a write for each change of owner would cost more than all else of a pipeline (PERF.md).
    fn keep_answers(&mut self, scratch: &mut Vec<u8>, unkept: &mut Unkept, core: &mut Core) {
        if scratch.is_empty() || scratch.len() > BLOCK_BYTES || self.backlog.is_some() {
            return;
        }
        let mut block = core.buffers.large();
        block[..scratch.len()].copy_from_slice(scratch);
        self.answers = Some(Answers { block, length: scratch.len() as u32, unkept: unkept.take() });
        scratch.clear();
    }

    /// Goes on behind the answers that were kept back.
    #[inline]
    fn take_answers(&mut self, scratch: &mut Vec<u8>, core: &mut Core) -> Unkept {
        let Answers { block, length, unkept } = self.answers.take()?;
        scratch.extend_from_slice(&block[..length as usize]);
        core.buffers.give_back(block);
        unkept
    }

    /// Answers slots from the front until one has to wait, the socket is full or none is left.
    fn execute(
        &mut self,
        core: &mut Core,
        id: u32,
        scratch: &mut Vec<u8>,
        unkept: &mut Unkept,
    ) -> io::Result<()> {
        let mut answered = 0;
        let result = self.execute_behind(&mut answered, core, id, scratch, unkept);
        self.retire(answered);
        result
    }

    /// The same, behind as many that are answered and still in the queue.
    fn execute_behind(
        &mut self,
        answered: &mut usize,
        core: &mut Core,
        id: u32,
        scratch: &mut Vec<u8>,
        unkept: &mut Unkept,
    ) -> io::Result<()> {
        let is_journalled = core.shard.is_journalled();
        while self.backlog.is_none()
            && let Some(slot) = self.queue.as_mut().and_then(|queue| queue.get_mut(*answered))
        {
            let block = self.block.as_deref().unwrap_or_default();
            let at = slot.at as usize;
            let head = block.get(at..at + usize::from(slot.request.head_len)).unwrap_or_default();
            let (request, close) = (&slot.request, slot.close);
            let number = self.front.wrapping_add(*answered as u32);
            let ticket = Ticket { connection: id, generation: self.generation, request: number, piece: 0 };
            let (mut made, mut begins) = (None, Some(scratch.len()));
            let tail = match (&mut slot.state, &mut slot.call) {
                (State::Incomplete, _) => {
                    if std::mem::take(&mut self.continue_due) {
                        scratch.extend_from_slice(response::CONTINUE);
                    }
                    return Ok(());
                }
                (State::Asked(_) | State::Decoding, _) => return Ok(()),
                (State::Held(_), _) => {
                    // Nothing is before it, so it is asked now, or refused and to be answered.
                    self.retire(std::mem::take(answered));
                    self.dispatch(core, id);
                    continue;
                }
                // There is no way to say it behind a part of another answer.
                (State::Refused(_), _) if self.has_begun => return Err(io::ErrorKind::InvalidData.into()),
                (State::Refused(problem), _) => {
                    let about = (!head.is_empty()).then_some((request, head));
                    core.api.refuse(about, problem.clone(), close, scratch);
                    Tail::None
                }
                (State::Ready, Some(Call::Page(page))) => {
                    core.api.page(request, head, *page, core.shard.health(), close, scratch);
                    Tail::None
                }
                (State::Ready, Some(Call::Key(call)))
                    if is_journalled && !call.verb.reads() && !core.takes_writes() =>
                {
                    self.pause(core, id);
                    return Ok(());
                }
                (State::Ready, Some(Call::Key(call))) => {
                    let payload = slot.body.payload(block);
                    match core.api.operation(request, head, call, payload, &mut core.operands) {
                        Ok(operation) => {
                            let outcome = core.shard.apply(&operation, core.now);
                            core.api.answer(request, head, payload, call, &outcome, close, scratch, core.now)
                        }
                        Err(problem) => {
                            core.api.refuse(Some((request, head)), problem, close, scratch);
                            Tail::None
                        }
                    }
                }
                (State::Answered(job), Some(Call::Key(call))) => match job.outcome() {
                    Some(outcome) => {
                        let payload = slot.body.payload(block);
                        core.api.answer(request, head, payload, call, &outcome, close, scratch, core.now)
                    }
                    None => return Err(io::ErrorKind::InvalidData.into()),
                },
                (State::Decoded(..), _) => {
                    let State::Decoded(decoded, room) = std::mem::replace(&mut slot.state, State::Decoding)
                    else {
                        unreachable!("matched above")
                    };
                    made = room;
                    core.api.answer_decoded(request, head, *decoded, close, scratch, core.now)
                }
                (State::Ready, Some(Call::Gather(call))) => {
                    let payload = slot.body.payload(block);
                    let gathered = core.api.gather(request, head, call, payload);
                    match gathered.and_then(|gather| gather.with_room(&core.memory)) {
                        Ok(gather) => {
                            // Of what may be longer than is known, there the end is that of the connection.
                            slot.close |= gather.ends_with_connection(request)
                                || gather.is_stream() && request.version == Version::Http10;
                            slot.state = State::Gathering(gather);
                            continue;
                        }
                        Err(problem) => {
                            core.api.refuse(Some((request, head)), problem, close, scratch);
                            Tail::None
                        }
                    }
                }
                (State::Gathering(gather), _) => {
                    if gather.wants_turn() && !gather.is_stream() {
                        gather.take_turn(std::mem::take(&mut core.reading_bytes));
                        if gather.is_reading() {
                            return Ok(());
                        }
                    }
                    if hand_out(gather, ticket, core) {
                        self.pause(core, id);
                        return Ok(());
                    }
                    if gather.is_stream() && request.method != Method::Head {
                        let to = (&mut self.stream, &mut self.backlog);
                        if !stream(gather, (request, head, close), ticket, core, to, scratch)? {
                            if is_journalled && Some(scratch.len()) > begins {
                                begins = begins.filter(|_| !std::mem::replace(&mut self.has_begun, true));
                                note(unkept, (begins, request, head), &mut self.gate, core);
                            }
                            return Ok(());
                        }
                    } else if !gather.is_done() {
                        match gather.flow(&mut core.api, request, head, close, scratch) {
                            Flow::Waits => return Ok(()),
                            Flow::Broken => return Err(io::ErrorKind::OutOfMemory.into()),
                            Flow::Sends(tail, room) => {
                                begins = begins.filter(|_| !std::mem::replace(&mut self.has_begun, true));
                                if is_journalled {
                                    note(unkept, (begins, request, head), &mut self.gate, core);
                                    self.is_held |= hold(unkept, &mut self.backlog, self.gate, core);
                                }
                                send(&mut self.stream, &mut self.backlog, scratch, tail)?;
                                if let (Some(backlog), Some(room)) = (&mut self.backlog, room) {
                                    backlog.hold(room);
                                }
                                continue;
                            }
                        }
                    }
                    let State::Gathering(gather) = std::mem::replace(&mut slot.state, State::Ready) else {
                        unreachable!("matched above")
                    };
                    begins = begins.filter(|_| !std::mem::take(&mut self.has_begun));
                    let (tail, room) = gather.answer(&mut core.api, request, head, close, scratch, core.now);
                    made = room;
                    tail
                }
                (State::Ready | State::Answered(_), _) => {
                    unreachable!("only keys are asked of other cores, and only what was admitted is ready")
                }
            };
            let decode = match tail {
                Tail::Decode(decode) => Some(decode),
                Tail::None if scratch.len() < SCRATCH_BYTES => {
                    if is_journalled && unkept.is_none() && core.may_wait(self.gate) {
                        note(unkept, (begins, request, head), &mut self.gate, core);
                    }
                    None
                }
                tail => {
                    if is_journalled {
                        let tail = tail.gather(scratch);
                        note(unkept, (begins, request, head), &mut self.gate, core);
                        self.is_held |= hold(unkept, &mut self.backlog, self.gate, core);
                        send(&mut self.stream, &mut self.backlog, scratch, tail)?;
                    } else {
                        send(&mut self.stream, &mut self.backlog, scratch, tail)?;
                    }
                    if let (Some(backlog), Some(made)) = (&mut self.backlog, made) {
                        backlog.hold(made);
                    }
                    None
                }
            };
            if let State::Answered(_) = slot.state
                && let State::Answered(job) = std::mem::replace(&mut slot.state, State::Decoding)
            {
                core.mesh.recycle(job);
            }
            if let Some(decode) = decode {
                slot.state = State::Decoding;
                core.helper.decode(decode, ticket);
                return Ok(());
            }
            *answered += 1;
            if close {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes answered slots off the queue. Only the last of them may close the connection.
    fn retire(&mut self, answered: usize) {
        let Some(queue) = self.queue.as_mut().filter(|_| answered > 0) else { return };
        let closes = queue.get(answered - 1).is_some_and(|slot| slot.close);
        self.front = self.front.wrapping_add(answered as u32);
        if closes {
            queue.clear();
            (self.held, self.asked) = (0, 0);
            self.intake = Intake::Closed;
            if self.stage == Stage::Open {
                self.stage = Stage::Closing;
            }
        } else if answered == queue.len() {
            queue.clear();
        } else {
            queue.drain(..answered);
        }
    }

    /// Another core has answered.
    pub fn answered(&mut self, mut job: Box<Job>, core: &mut Core) {
        let number = job.ticket.request.wrapping_sub(self.front) as usize;
        let slot = self.queue.as_mut().and_then(|queue| queue.get_mut(number));
        match slot.map(|slot| &mut slot.state) {
            Some(state @ State::Asked(_)) => {
                *state = match job.is_lost() {
                    true => State::Refused(Problem::Unkept),
                    false => State::Answered(job),
                };
                self.asked -= 1;
                return;
            }
            Some(state @ State::Gathering(_)) if job.is_lost() => {
                *state = State::Refused(Problem::Unkept);
            }
            Some(State::Gathering(gather)) => {
                let piece = job.ticket.piece;
                if let Some(scan) = job.take_scan() {
                    gather.accept_scan(piece, scan);
                } else if let Some(task) = job.take_list_task() {
                    gather.accept_list(piece, task, &core.memory);
                } else if job.spaces_to_empty().is_some() {
                    gather.accept_emptied();
                } else if let Some(errand) = job.take_errand() {
                    gather.accept_errand(errand);
                } else if let Some(outcome) = job.outcome() {
                    gather.accept(piece, &outcome);
                }
            }
            _ => {}
        }
        core.mesh.recycle(job);
    }

    /// A helper thread has done what the front of the queue waits for.
    pub fn helped(&mut self, ticket: Ticket, done: Done, core: &Core) {
        match done {
            Done::Decoded(decoded) => self.decoded(ticket, decoded, core),
            Done::Chore(made) => {
                if self.proof == Proof::Awaited
                    && let Some(is_right) = made.downcast_ref::<bool>()
                {
                    self.proof = if *is_right { Proof::None } else { Proof::Failed };
                    self.partial = false;
                    return;
                }
                if let Some(slot) = self.queue.as_mut().and_then(|queue| queue.front_mut())
                    && ticket.request == self.front
                    && let State::Gathering(gather) = &mut slot.state
                {
                    gather.accept_chore(made, &core.memory);
                }
            }
        }
    }

    /// A value is decoded. Without room for it the client is told to come again, unless it is the last it
    /// will hear of these bytes.
    fn decoded(&mut self, ticket: Ticket, decoded: Decoded, core: &Core) {
        if let Some(slot) = self.queue.as_mut().and_then(|queue| queue.front_mut())
            && ticket.request == self.front
            && matches!(slot.state, State::Decoding)
        {
            let room = core.memory.reserve(decoded.made_bytes()).map(Reservation::for_large);
            slot.state = match room.is_some() || decoded.is_last_copy() {
                true => State::Decoded(Box::new(decoded), room),
                false => State::Refused(Problem::Busy),
            };
        }
    }

    fn send(&mut self, scratch: &mut Vec<u8>, tail: Tail<'_>) -> io::Result<()> {
        if scratch.is_empty() && matches!(tail, Tail::None) {
            return Ok(());
        }
        send(&mut self.stream, &mut self.backlog, scratch, tail)
    }
}

/// Writes parts of an answer as far as they are there and the socket takes them, a few for each turn. True
/// when that was all of it.
fn stream(
    gather: &mut Gather,
    (request, head, close): (&Request, &[u8], bool),
    ticket: Ticket,
    core: &mut Core,
    (stream, backlog): (&mut Socket, &mut Option<Box<Backlog>>),
    scratch: &mut Vec<u8>,
) -> io::Result<bool> {
    for _ in 0..PARTS_PER_TURN {
        match gather.write(&mut core.api, request, head, close, scratch) {
            Wrote::Nothing => return Ok(false),
            Wrote::Last => return Ok(true),
            Wrote::Part => drop(hand_out(gather, ticket, core)),
        }
        // With a journal it is the end of the step that decides what may go.
        if scratch.len() >= SCRATCH_BYTES && !core.shard.is_journalled() {
            send(stream, backlog, scratch, Tail::None)?;
            if backlog.is_some() {
                return Ok(false);
            }
        }
    }
    Ok(false)
}

/// Hands out the pieces of a request that several cores work on. Pieces for this core are done at
/// once, but for scans, which take turns. True when it stops before a write that is not taken now.
fn hand_out(gather: &mut Gather, ticket: Ticket, core: &mut Core) -> bool {
    loop {
        if core.shard.is_journalled() && gather.writes_next() && !core.takes_writes() {
            return true;
        }
        let Some(piece) = gather.next() else { return false };
        let (index, owner) = (piece.index, piece.shard);
        let ticket = Ticket { piece: index, ..ticket };
        let is_local = owner == core.mesh.me();
        match piece.work {
            Work::Operation(operation) if is_local => {
                let outcome = core.shard.apply(&operation, core.now);
                gather.accept(index, &outcome);
            }
            Work::Operation(operation) => {
                let mut job = core.mesh.job();
                job.ask(ticket, &operation);
                core.mesh.ask(owner, job);
            }
            Work::List(task) => {
                let mut job = core.mesh.job();
                job.ask_list(ticket, task);
                if !is_local {
                    core.mesh.ask(owner, job);
                } else if let Some(mut job) = core.call_list(owner, job) {
                    if let Some(task) = job.take_list_task() {
                        gather.accept_list(index, task, &core.memory);
                    }
                    core.mesh.recycle(job);
                }
            }
            Work::Empty(spaces) if is_local => {
                spaces.into_iter().for_each(|space| core.shard.empty(space));
                gather.accept_emptied();
            }
            Work::Empty(spaces) => {
                let mut job = core.mesh.job();
                job.ask_to_empty(ticket, spaces);
                core.mesh.ask(owner, job);
            }
            Work::Export(export) => {
                let mut job = core.mesh.job();
                job.ask_errand(ticket, export);
                if is_local {
                    core.scans.push_back(Task { asker: owner, job, gate: 0 });
                } else {
                    core.mesh.ask(owner, job);
                }
            }
            Work::Errand(errand) => {
                let mut job = core.mesh.job();
                job.ask_errand(ticket, errand);
                if !is_local {
                    core.mesh.ask(owner, job);
                } else if let Some(mut job) = core.run_errand(owner, job) {
                    if let Some(errand) = job.take_errand() {
                        gather.accept_errand(errand);
                    }
                    core.mesh.recycle(job);
                }
            }
            Work::Here(mut errand) => {
                core.perform(&mut *errand);
                gather.accept_errand(errand);
            }
            Work::Chore(chore) => core.helper.chore(chore, ticket),
            Work::Scan(namespace, scan, asker) => {
                let mut job = core.mesh.job();
                job.ask_scan(ticket, namespace, scan, asker);
                if is_local {
                    core.scans.push_back(Task { asker: owner, job, gate: 0 });
                } else {
                    core.mesh.ask(owner, job);
                }
            }
        }
    }
}

/// Offers gathered answers and the value behind them to the socket in one call, and keeps what it
/// does not take.
fn send(
    stream: &mut Socket,
    backlog: &mut Option<Box<Backlog>>,
    scratch: &mut Vec<u8>,
    tail: Tail<'_>,
) -> io::Result<()> {
    let value = match &tail {
        Tail::Bytes(bytes) => *bytes,
        Tail::Large(value, range) => &value[range.clone()],
        Tail::Framed(value, _) => value,
        Tail::None | Tail::Decode(_) => &[],
    };
    let behind = if let Tail::Framed(_, behind) = &tail { behind } else { &[][..] };
    let sent = if backlog.is_some() {
        0
    } else {
        let written = match value {
            [] => stream.write_slices(&[IoSlice::new(scratch)])?,
            value if behind.is_empty() => {
                stream.write_slices(&[IoSlice::new(scratch), IoSlice::new(value)])?
            }
            value => {
                stream.write_slices(&[IoSlice::new(scratch), IoSlice::new(value), IoSlice::new(behind)])?
            }
        };
        match written {
            Written::All => {
                scratch.clear();
                return Ok(());
            }
            Written::Part(sent) => sent,
        }
    };
    let backlog = backlog.get_or_insert_default();
    backlog.push_bytes(scratch.get(sent..).unwrap_or_default());
    let value_sent = sent.saturating_sub(scratch.len());
    match tail {
        Tail::Bytes(bytes) => backlog.push_bytes(&bytes[value_sent..]),
        Tail::Large(value, range) => backlog.push_large(value, range.start + value_sent..range.end),
        Tail::Framed(value, behind) => {
            let length = value.len();
            backlog.push_large(value, value_sent.min(length)..length);
            backlog.push_bytes(&behind[value_sent.saturating_sub(length)..]);
        }
        Tail::None | Tail::Decode(_) => {}
    }
    scratch.clear();
    Ok(())
}
