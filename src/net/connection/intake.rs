//! What a client sends: read, parsed, and queued as requests.
//!
//! Each head is admitted once, in the order of arrival. A body that fits stays in the block; any
//! other is an [`Upload`]. A request for another core leaves for it as soon as it is complete.

use std::io;

use super::{Connection, Deadline, Intake, Life, Proof, Slot, Stage, State};
use crate::api::{Call, Problem};
use crate::http::{BodyDecoder, Framing, Request, parse_head};
use crate::limits::{BLOCK_BYTES, CONNECTION_HOPS_MAX, DRAIN_BYTES_MAX, SMALL_BLOCK_BYTES};
use crate::net::body::{Body, Upload, UploadError};
use crate::net::core::Core;
use crate::op::KeyHasher;
use crate::shard::Ticket;

/// Bytes of an upload read in one turn, so that a fast sender cannot starve the others.
const UPLOAD_BYTES_PER_TURN: usize = 512 * 1_024;

impl Connection {
    /// Reads what the socket has, within the turn's budget, and parses it into slots.
    pub fn receive(&mut self, core: &mut Core, id: u32) -> Life {
        if self.backlog.is_some() {
            return Life::Open;
        }
        match self.stage {
            Stage::Lingering { .. } => return self.discard(core),
            Stage::Handshaking => return self.shake_hands(core),
            Stage::Open | Stage::Closing | Stage::ClosingUnread => {}
        }
        // What found the queue full, or has waited for a password to be proven.
        if self.start < self.end {
            self.parse(core, id);
        }
        if self.can_read() && self.read(core).is_err() {
            return Life::Over;
        }
        if self.is_tls() {
            self.note_tls();
        }
        self.parse(core, id);
        Life::Open
    }

    fn read(&mut self, core: &mut Core) -> io::Result<()> {
        if let Intake::Upload(upload) = &mut self.intake
            && upload.sized_rest().is_some()
        {
            return self.read_upload();
        }
        self.make_room(core);
        let Some(block) = self.block.as_mut() else { return Ok(()) };
        let room = &mut block[self.end as usize..];
        if room.is_empty() {
            return Ok(());
        }
        match self.stream.read_some(room)? {
            Some(0) => self.ended = true,
            Some(count) => {
                self.readable = count == room.len() || self.hung_up;
                self.end += count as u32;
            }
            None => self.readable = false,
        }
        Ok(())
    }

    /// Reads a sized body straight into its place.
    fn read_upload(&mut self) -> io::Result<()> {
        let mut budget = UPLOAD_BYTES_PER_TURN;
        while let Intake::Upload(upload) = &mut self.intake
            && let Some(rest) = upload.sized_rest()
            && !rest.is_empty()
            && budget > 0
        {
            let room_bytes = rest.len().min(budget);
            let Some(count) = self.stream.read_some(&mut rest[..room_bytes])? else {
                self.readable = false;
                return Ok(());
            };
            if count == 0 {
                self.ended = true;
                return Ok(());
            }
            budget -= count;
            upload.advance(count);
            if count < room_bytes && !self.hung_up {
                self.readable = false;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Gives the connection a block with room behind its input, unless its bytes must stay put.
    fn make_room(&mut self, core: &mut Core) {
        match self.block.as_mut() {
            None => self.block = Some(core.buffers.large()),
            Some(block) if block.len() == SMALL_BLOCK_BYTES => {
                let mut large = core.buffers.large();
                let length = (self.end - self.start) as usize;
                large[..length].copy_from_slice(&block[self.start as usize..self.end as usize]);
                core.buffers.give_back(std::mem::replace(block, large));
                (self.start, self.end) = (0, length as u32);
            }
            Some(_) => {}
        }
        self.compact();
    }

    /// Makes room at the end of the block: moves what is still needed to its start. A queued request
    /// stays where it is, unless it is the only one and its body goes elsewhere.
    fn compact(&mut self) {
        let Some(block) = self.block.as_mut() else { return };
        let uploads = matches!(self.intake, Intake::Upload(_));
        match self.queue.as_mut().map(|queue| (queue.len(), queue.front_mut())) {
            None => {
                block.copy_within(self.start as usize..self.end as usize, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            Some((1, Some(slot))) if uploads => {
                let (at, head_bytes) = (slot.at as usize, u32::from(slot.request.head_len));
                block.copy_within(at..at + head_bytes as usize, 0);
                block.copy_within(self.start as usize..self.end as usize, head_bytes as usize);
                slot.at = 0;
                (self.start, self.end) = (head_bytes, head_bytes + self.end - self.start);
            }
            Some(_) => {}
        }
    }

    /// Turns input into slots until it runs out or the queue is full.
    fn parse(&mut self, core: &mut Core, id: u32) {
        loop {
            let is_full = self.waiting_requests() >= CONNECTION_HOPS_MAX;
            let more = match &mut self.intake {
                // A body is taken all the same: its request is in the queue already.
                Intake::Head if is_full || self.proof == Proof::Awaited => return,
                Intake::Head => self.parse_head(core, id),
                Intake::InBlock { body_at, length } => {
                    let end = *body_at + *length;
                    if self.end < end {
                        return;
                    }
                    let body = Body::InBlock { at: *body_at, length: *length };
                    self.start = end;
                    self.complete(body, core, id);
                    true
                }
                Intake::Upload(_) => self.parse_upload(core, id),
                Intake::Skip { left } => {
                    let count = (*left).min(u64::from(self.end - self.start));
                    *left -= count;
                    self.start += count as u32;
                    if *left > 0 {
                        return;
                    }
                    self.intake = Intake::Head;
                    true
                }
                Intake::Closed => {
                    if self.start < self.end {
                        self.start = self.end;
                        self.stage = Stage::ClosingUnread;
                    }
                    return;
                }
            };
            if !more {
                return;
            }
        }
    }

    /// Parses one head. False when it is not all here.
    fn parse_head(&mut self, core: &mut Core, id: u32) -> bool {
        let Some(block) = self.block.as_mut() else { return false };
        let input = &mut block[self.start as usize..self.end as usize];
        self.partial = false;
        if input.is_empty() {
            return false;
        }
        let which = usize::from(input[0] == b'P');
        let known = self.known.as_mut().map(|known| &mut known[which]);
        let request;
        let admitted = match known {
            Some(known) if let Some(recognised) = known.fields.parse(input) => {
                request = recognised;
                let head = &mut input[..usize::from(request.head_len)];
                core.api.admit(&request, head, &mut self.remembered, &mut known.vouched)
            }
            _ => {
                request = match parse_head(input, &mut self.scanned) {
                    Ok(Some(request)) => request,
                    Ok(None) => {
                        self.partial = true;
                        return false;
                    }
                    Err(refusal) => {
                        self.scanned = 0;
                        self.refuse(None, Problem::Http(refusal), core);
                        return false;
                    }
                };
                let head = &mut input[..usize::from(request.head_len)];
                let mut vouched = &mut None;
                if request.keep_alive {
                    let known = &mut self.known.get_or_insert_default()[which];
                    if known.fields.keep(&request, head) {
                        known.vouched = None;
                        vouched = &mut known.vouched;
                    }
                }
                core.api.admit(&request, head, &mut self.remembered, vouched)
            }
        };
        self.scanned = 0;
        // A head that begins in the same turn has its own time.
        self.deadline = Deadline::Idle;
        match admitted {
            Ok(call) => self.admitted(&request, call, core, id),
            Err(Problem::PasswordUnproven) if self.proof == Proof::None => {
                let head = &input[..usize::from(request.head_len)];
                match core.api.proof(&request, head) {
                    // The head stays where it is, and is read again when it is known.
                    Some(chore) => {
                        let ticket =
                            Ticket { connection: id, generation: self.generation, ..Ticket::default() };
                        core.helper.chore(chore, ticket);
                        (self.proof, self.partial) = (Proof::Awaited, true);
                        return false;
                    }
                    None => self.rejected(request, Problem::Busy, core),
                }
            }
            Err(problem) => {
                let problem = match problem {
                    Problem::PasswordUnproven => Problem::PasswordWrong,
                    problem => problem,
                };
                self.proof = Proof::None;
                let stream = &mut self.stream;
                let address = || stream.system_mut().peer_addr().ok().map(|peer| peer.ip());
                let problem = core.api.brake(problem, address, core.now);
                self.rejected(request, problem, core);
            }
        }
        true
    }

    /// Queues an admitted request and finds out where its body goes.
    #[inline]
    fn admitted(&mut self, request: &Request, call: Call, core: &mut Core, id: u32) {
        let close = !request.keep_alive || core.draining;
        let head_bytes = u32::from(request.head_len);
        let mut at = self.start;
        let slot = |at, body, state| Slot { request: *request, at, call: Some(call), body, close, state };
        let body_bytes = match request.framing {
            Framing::None | Framing::Sized(0) => {
                self.start += head_bytes;
                let state = self.destination(&call, core);
                self.push(slot(at, Body::EMPTY, state), core);
                self.settled(close, core, id);
                return;
            }
            // Nobody wants it, so nobody has to keep it.
            Framing::Sized(left) if !call.takes_body() && !request.expect_continue && !close => {
                self.start += head_bytes;
                self.push_rare(slot(at, Body::EMPTY, State::Incomplete), core);
                self.complete(Body::EMPTY, core, id);
                self.intake = Intake::Skip { left };
                self.begin_body_deadline(core);
                return;
            }
            Framing::Sized(bytes) => Some(bytes as usize),
            Framing::Chunked => None,
        };
        // Compared with the room that is left: a sum with what the head declares could wrap around.
        let fits =
            |at: u32| body_bytes.is_some_and(|bytes| bytes <= BLOCK_BYTES - (at + head_bytes) as usize);
        let is_large = self.block.as_ref().is_some_and(|block| block.len() == BLOCK_BYTES);
        if is_large && !fits(self.start) && self.queue.is_none() && fits(0) {
            self.compact();
            at = 0;
        }
        let body_at = self.start + head_bytes;
        // A body has at least a byte, so one that has begun to come needs no invitation.
        self.continue_due = request.expect_continue && body_at == self.end;
        let is_in_block = is_large && fits(self.start);
        self.start = body_at;
        match body_bytes {
            // All of it came with its head.
            Some(bytes) if is_in_block && body_at + bytes as u32 <= self.end => {
                let body = Body::InBlock { at: body_at, length: bytes as u32 };
                self.start = body_at + bytes as u32;
                if let Call::Gather(_) = &call {
                    self.push_rare(slot(at, Body::EMPTY, State::Incomplete), core);
                    self.complete(body, core, id);
                    return;
                }
                let state = self.destination(&call, core);
                self.push(slot(at, body, state), core);
                self.settled(close, core, id);
                return;
            }
            Some(bytes) if is_in_block => {
                self.push_rare(slot(at, Body::EMPTY, State::Incomplete), core);
                self.intake = Intake::InBlock { body_at, length: bytes as u32 };
            }
            Some(bytes) => match Upload::sized(bytes, &core.memory) {
                Ok(upload) => {
                    self.push_rare(slot(at, Body::EMPTY, State::Incomplete), core);
                    self.intake = Intake::Upload(Box::new(upload));
                }
                Err(_) => {
                    let slot = slot(at, Body::EMPTY, State::Incomplete);
                    self.refuse(Some(slot), Problem::Busy, core);
                }
            },
            None => {
                let decoder = BodyDecoder::new(Framing::Chunked);
                let upload = Upload::chunked(decoder, core.api.call_body_bytes_max(&call), &core.memory);
                self.push_rare(slot(at, Body::EMPTY, State::Incomplete), core);
                self.intake = Intake::Upload(Box::new(upload));
            }
        }
        self.begin_body_deadline(core);
    }

    /// Feeds an upload from the block. False when it needs more.
    fn parse_upload(&mut self, core: &mut Core, id: u32) -> bool {
        let Intake::Upload(upload) = &mut self.intake else { return false };
        let input = match self.block.as_ref() {
            Some(block) => &block[self.start as usize..self.end as usize],
            None => &[],
        };
        match upload.feed(input) {
            Ok((consumed, done)) => {
                self.start += consumed as u32;
                if done && let Intake::Upload(upload) = std::mem::replace(&mut self.intake, Intake::Head) {
                    self.complete(upload.finish(), core, id);
                }
                done
            }
            Err(error) => {
                let call = self.queue.as_ref().and_then(|queue| queue.back()).and_then(|slot| slot.call);
                let problem = match (error, &call) {
                    (UploadError::TooLarge, Some(call)) => core.api.overlong(call),
                    (UploadError::Malformed(refusal), _) => Problem::Http(refusal),
                    (UploadError::NoRoom | UploadError::TooLarge, _) => Problem::Busy,
                };
                self.abandon_body(problem, core);
                false
            }
        }
    }

    /// Answers the request whose body was awaited with a problem, and takes nothing more.
    pub(super) fn abandon_body(&mut self, problem: Problem, core: &mut Core) {
        let slot = self.queue.as_mut().and_then(|queue| queue.pop_back());
        self.refuse(slot, problem, core);
    }

    /// Queues the answer to a request that was not admitted. A short body is thrown away and the
    /// connection lives on; otherwise it closes, since where the next request starts is not known.
    fn rejected(&mut self, request: Request, problem: Problem, core: &mut Core) {
        let slot = Slot {
            request,
            at: self.start,
            call: None,
            body: Body::EMPTY,
            close: !request.keep_alive || core.draining,
            state: State::Refused(problem.clone()),
        };
        self.start += u32::from(request.head_len);
        match request.framing {
            Framing::None | Framing::Sized(0) => {
                if slot.close {
                    self.intake = Intake::Closed;
                }
                self.push_rare(slot, core);
            }
            Framing::Sized(left) if left <= DRAIN_BYTES_MAX && !request.expect_continue && !slot.close => {
                self.intake = Intake::Skip { left };
                self.begin_body_deadline(core);
                self.push_rare(slot, core);
            }
            Framing::Sized(_) | Framing::Chunked => self.refuse(Some(slot), problem, core),
        }
    }

    /// Queues a problem as the last answer of this connection.
    pub(super) fn refuse(&mut self, slot: Option<Slot>, problem: Problem, core: &mut Core) {
        let mut slot = slot.unwrap_or(Slot {
            request: Request::UNREADABLE,
            at: self.start,
            call: None,
            body: Body::EMPTY,
            close: true,
            state: State::Incomplete,
        });
        slot.close = true;
        slot.state = State::Refused(problem);
        self.continue_due = false;
        self.intake = Intake::Closed;
        self.push_rare(slot, core);
        self.stage = Stage::ClosingUnread;
    }

    /// Inlined, so that a slot is put together where it stays: as a call it took fifty instructions more.
    #[inline(always)]
    fn push(&mut self, slot: Slot, core: &mut Core) {
        self.only_reads &= slot.is_read();
        self.queue.get_or_insert_with(|| core.buffers.queue()).push_back(slot);
    }

    #[inline(never)]
    fn push_rare(&mut self, slot: Slot, core: &mut Core) {
        self.push(slot, core);
    }

    /// The newest slot has its body: it leaves for the core that owns its key, or waits for its turn
    /// here.
    fn complete(&mut self, body: Body, core: &mut Core, id: u32) {
        self.intake = Intake::Head;
        self.continue_due = false;
        let Some(mut call) = self.queue.as_mut().and_then(|queue| queue.back_mut()?.call) else { return };
        let Some(slot) = self.queue.as_ref().and_then(|queue| queue.back()) else { return };
        let (request, at) = (slot.request, slot.at);
        let state = self.shorten(&request, at, &mut call, &body, core);
        let Some(slot) = self.queue.as_mut().and_then(|queue| queue.back_mut()) else { return };
        slot.call = Some(call);
        slot.body = body;
        slot.state = state;
        let close = slot.close;
        self.settled(close, core, id);
    }

    /// Has a request with a short body go the short way if there is one, and says what it waits for. Behind
    /// one that concerns several cores it does not: that may change what there is.
    #[inline]
    fn shorten(&mut self, request: &Request, at: u32, call: &mut Call, body: &Body, core: &Core) -> State {
        // One that was thrown away, or is empty, is nowhere.
        if let (Body::InBlock { at: body_at, length: length @ 1.. }, Call::Gather(_), true, Some(block)) =
            (body, &call, self.only_keys, self.block.as_deref_mut())
        {
            let (head, behind) = block.split_at_mut(*body_at as usize);
            let head = &head[at as usize..][..usize::from(request.head_len)];
            let body = &mut behind[..*length as usize];
            if let Err(problem) = core.api.shorten(call, (request, head), body) {
                return State::Refused(problem);
            }
        }
        self.destination(call, core)
    }

    /// What a request that is all here waits for. One for another core is held back, if only until
    /// it is in the queue.
    #[inline(always)] // As a call it took thirty instructions more.
    fn destination(&mut self, call: &Call, core: &Core) -> State {
        let Call::Key(call) = call else {
            self.only_keys &= matches!(call, Call::Page(_));
            return State::Ready;
        };
        let owner = KeyHasher::owner(call.hash, core.mesh.reactors());
        if owner == core.mesh.me() {
            core.shard.prefetch_table(call.hash);
            return State::Ready;
        }
        self.held += 1;
        State::Held(owner)
    }

    /// The newest slot is all here and in the queue.
    #[inline]
    fn settled(&mut self, close: bool, core: &mut Core, id: u32) {
        if close {
            self.intake = Intake::Closed;
        }
        if self.held > 0 {
            self.dispatch_newest(core, id);
        }
    }

    /// Prefetches the index lines that the queued requests will look at.
    pub fn prefetch_index(&self, core: &Core) {
        self.keys().for_each(|(hash, _)| core.shard.prefetch_index(hash));
    }

    /// Prefetches the entries that the queued requests will look at.
    pub fn prefetch_entries(&self, core: &Core) {
        self.keys().for_each(|(hash, reads)| match reads {
            true => core.shard.prefetch_value(hash),
            false => core.shard.prefetch_entry(hash),
        });
    }

    fn keys(&self) -> impl Iterator<Item = (u64, bool)> {
        self.queue.iter().flatten().filter_map(|slot| match (&slot.call, &slot.state) {
            (Some(Call::Key(call)), State::Ready) => Some((call.hash, call.verb.reads())),
            _ => None,
        })
    }

    /// Throws input away until the client closes, for a while.
    fn discard(&mut self, core: &mut Core) -> Life {
        let mut block = core.buffers.large();
        let mut life = Life::Open;
        for _ in 0..UPLOAD_BYTES_PER_TURN / BLOCK_BYTES {
            match (self.stream.read_some(&mut block), &mut self.stage) {
                (Ok(Some(count)), Stage::Lingering { left }) if count > 0 && *left > 0 => {
                    *left = left.saturating_sub(count as u64);
                }
                (Ok(None), _) => {
                    self.readable = false;
                    break;
                }
                _ => {
                    life = Life::Over;
                    break;
                }
            }
        }
        core.buffers.give_back(block);
        life
    }
}
