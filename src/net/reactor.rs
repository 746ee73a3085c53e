//! The event loop of one core.
//!
//! A turn does, in this order: poll; let go what the journal has kept; read and parse every ready connection and send what belongs to
//! other cores; prefetch; execute and answer each connection with one write; accept; do what other
//! cores ask and take their answers; a slice of listings; timers; a slice of expiry; see to the memory
//! limit; hand on what the journal is to keep; wake the peers that have something; sleep. Reading everything before looking anything up lets the cache
//! misses of a turn overlap (PERF.md).
//!
//! The loop never blocks but in poll, and never waits for another thread.

mod arrivals;
mod journal;
mod turns;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};
use slab::Slab;

use crate::api::{Api, LedgerWalk, NodeState, Phase, READ_BYTES_PER_TURN, Scratch};
use crate::clock::Clock;
use crate::limits::BATCH_REQUESTS_MAX;
use crate::memory::Memory;
use crate::net::buffers::Buffers;
use crate::net::connection::{Connection, Life};
use crate::net::control::{Control, Order};
use crate::net::core::{Core, Recovery, Task, Timeouts};
use crate::net::helper::Helper;
use crate::net::listener::{Door, Listener, Loads};
use crate::net::stalls::{Stalls, Unread};
use crate::net::timers::Timers;
use crate::net::tls::{Acceptor, Certificates};
use crate::net::waiting::Waiting;
use crate::shard::{Budget, Job, Mesh, Message, Shard};

const WAKER: Token = Token(usize::MAX);

/// The token of the first listening socket; those of the others follow, and connections stand below.
const FIRST_LISTENER: usize = usize::MAX - 8;

/// Events taken from the system in one poll.
const EVENTS_PER_POLL: usize = 1_024;

/// Messages of one peer handled together, so that their cache misses overlap.
const MESSAGES_PER_BATCH: usize = 64;

/// Messages of one peer handled in a turn.
const MESSAGES_PER_TURN: usize = 1_024;

/// Entries that a listing looks at in a turn: some hundreds of microseconds.
const SCAN_ENTRIES_PER_TURN: usize = 4_096;

/// What a reactor is made of.
#[derive(Debug)]
pub struct ReactorConfig {
    /// Makes operations of requests and replies of outcomes.
    pub api: Api,
    /// The keys this core owns.
    pub shard: Shard,
    /// Brings back what of them was kept, if that is known already.
    pub recovery: Option<Recovery>,
    /// The way to the other cores.
    pub mesh: Mesh,
    /// The way to the helper thread.
    pub helper: Helper,
    /// Where clients come in.
    pub doors: Vec<Door>,
    /// What clients of a TLS port are shown.
    pub certificates: Option<Arc<Certificates>>,
    /// Connections of all reactors.
    pub loads: Loads,
    /// Most connections of the node.
    pub connections_max: usize,
    /// The memory of the node.
    pub memory: Arc<Memory>,
    /// How long clients may take.
    pub timeouts: Timeouts,
    /// The node's clock.
    pub clock: Clock,
    /// Whether the node serves or stops.
    pub state: Arc<NodeState>,
    /// What the main thread says while it runs.
    pub control: Control,
}

/// One core's loop and everything it owns.
#[derive(Debug)]
pub struct Reactor {
    poll: Poll,
    /// None any more once the node stops.
    listeners: Vec<Listener>,
    /// One of them may have connections to accept.
    has_arrivals: bool,
    acceptor: Option<Acceptor>,
    connections: Slab<Connection>,
    generation: u32,
    core: Core,
    loads: Loads,
    connections_max: usize,
    timers: Timers,
    due: Vec<(u64, (u32, u32))>,
    /// Connections with something to do in the coming turn, and those of the present one.
    ready: Vec<u32>,
    driven: Vec<u32>,
    clock: Clock,
    state: Arc<NodeState>,
    control: Control,
    /// What the shard was last told to stay below, and what the node was last told of its buffers.
    ceiling_bytes: u64,
    buffer_bytes: u64,
    /// Since when its oldest slow reader has been waited for, as the node was last told.
    stalled_since_ms: u64,
    /// The shard, or what large values left behind, has yet to shrink.
    shrinking: bool,
    /// What is yet to be brought back before anything is served.
    recovery: Option<Recovery>,
    /// The live set is on its way to the journal, and there is more of it to write at once.
    writing_base: bool,
    /// How far what the node keeps of itself is handed in for the live set of this number.
    ledger_walk: (u64, LedgerWalk),
}

impl Reactor {
    /// A poll and the way to wake whoever sleeps in it: made before the reactors, since each needs
    /// every other's.
    ///
    /// # Errors
    /// What the system says when it has no descriptor left.
    pub fn poll() -> io::Result<(Poll, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        Ok((poll, waker))
    }

    /// A reactor that listens but has not been run.
    ///
    /// # Errors
    /// What the system says when the listener cannot be registered.
    pub fn new(poll: Poll, config: ReactorConfig) -> io::Result<Reactor> {
        let mut listeners: Vec<Listener> = config.doors.into_iter().map(Listener::new).collect();
        for (number, listener) in listeners.iter_mut().enumerate() {
            listener.register(poll.registry(), Token(FIRST_LISTENER + number))?;
        }
        let now = config.clock.now();
        Ok(Reactor {
            poll,
            listeners,
            has_arrivals: true,
            acceptor: config.certificates.map(Acceptor::new),
            connections: Slab::new(),
            generation: 0,
            core: Core {
                api: config.api,
                shard: config.shard,
                mesh: config.mesh,
                helper: config.helper,
                buffers: Buffers::new(),
                memory: config.memory,
                stalls: Stalls::default(),
                timeouts: config.timeouts,
                now,
                draining: false,
                handshakes_left: 0,
                scratch: Vec::with_capacity(128 * 1_024),
                operands: Scratch::default(),
                scans: VecDeque::new(),
                lists: VecDeque::new(),
                held_back: VecDeque::new(),
                changes: 0,
                list_budget: Budget::of_a_turn(),
                reading_bytes: 0,
                waiting: Waiting::default(),
                owed: 0,
                ledger_gate: 0,
                seen_kept: 0,
            },
            loads: config.loads,
            connections_max: config.connections_max,
            timers: Timers::new(now.unix_ms),
            due: Vec::with_capacity(EVENTS_PER_POLL),
            ready: Vec::new(),
            driven: Vec::new(),
            clock: config.clock,
            state: config.state,
            control: config.control,
            ceiling_bytes: u64::MAX,
            buffer_bytes: 0,
            stalled_since_ms: u64::MAX,
            shrinking: false,
            recovery: config.recovery,
            writing_base: false,
            ledger_walk: (0, LedgerWalk::default()),
        })
    }

    /// Serves until the node stops and the last connection has ended. What is left then comes back.
    ///
    /// # Errors
    /// What poll reports beside an interruption.
    pub fn run(mut self) -> io::Result<(Shard, Api)> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        loop {
            self.sleep(&mut events)?;
            self.control.turn();
            self.core.now = self.clock.now();
            self.core.api.tick(Clock::wall_seconds());
            self.core.handshakes_left = self.acceptor.as_ref().map_or(0, Acceptor::handshakes_per_turn);
            let mut woken = false;
            if self.core.shard.is_journalled() {
                self.release();
            }
            self.core.reading_bytes = READ_BYTES_PER_TURN;
            self.core.list_budget = Budget::of_a_turn();
            for event in &events {
                match event.token() {
                    WAKER => woken = true,
                    Token(number) if number >= FIRST_LISTENER => {
                        let listener = self.listeners.get_mut(number - FIRST_LISTENER);
                        listener.into_iter().for_each(Listener::readiness);
                        self.has_arrivals = true;
                    }
                    Token(id) => {
                        if let Some(connection) = self.connections.get_mut(id) {
                            let hung_up = event.is_read_closed() || event.is_error();
                            connection.readiness(event.is_readable(), hung_up);
                            list(connection, id as u32, &mut self.ready);
                        }
                    }
                }
            }
            if woken {
                self.take_orders();
            }
            self.drive();
            // After that, so that whoever left has made room.
            if self.has_arrivals {
                self.accept();
            }
            self.stop();
            self.exchange();
            self.scan();
            self.work_on_lists();
            self.expire();
            self.keep_to_limit();
            if self.core.api.is_recovering() {
                self.recover()?;
            } else if self.core.shard.is_journalled() {
                self.feed_journal();
            }
            self.core.mesh.ring();
            // Until the last connection of the node has ended, its requests may need this shard.
            if self.core.draining && self.loads.total() == 0 {
                self.core.mesh.wake_all();
                return Ok((self.core.shard, self.core.api));
            }
        }
    }

    /// Waits until there is something to do.
    fn sleep(&mut self, events: &mut Events) -> io::Result<()> {
        let now = self.core.now;
        let busy = !self.ready.is_empty()
            || !self.core.scans.is_empty()
            || self.core.next_list().is_some()
            || self.core.api.is_busy()
            || self.shrinking
            || self.writing_base
            || self.recovery.is_some();
        let mut timeout_ms = if busy { Some(0) } else { self.timers.sleep_ms(now.unix_ms) };
        let mut bound = |ms: Option<u64>| {
            if let Some(ms) = ms {
                timeout_ms = Some(timeout_ms.map_or(ms, |bound| bound.min(ms)));
            }
        };
        if self.has_arrivals {
            self.listeners.iter().for_each(|listener| bound(listener.sleep_ms(now)));
        }
        bound(self.core.shard.next_sweep_ms().map(|due_ms| due_ms.saturating_sub(now.unix_ms)));
        let sleeps = timeout_ms != Some(0);
        if sleeps {
            self.core.mesh.bell().announce_sleep();
            if !self.core.mesh.is_empty() || self.core.shard.is_journalled() && self.can_release() {
                timeout_ms = Some(0);
            }
        }
        let polled = self.poll.poll(events, timeout_ms.map(Duration::from_millis));
        if sleeps {
            self.core.mesh.bell().awake();
        }
        match polled {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes on what the main thread says: it wakes whom it has something for.
    fn take_orders(&mut self) {
        let Reactor { control, core, connections_max, recovery, .. } = self;
        control.take(|order| match order {
            Order::Live(live, _taken) => {
                core.timeouts = live.timeouts;
                core.api.adopt(live.default_ttl, live.request_bytes_max, &live.cors_origins);
                *connections_max = live.connections_max;
            }
            Order::Legacy(legacy) => *recovery = Some(core.inherit(*legacy)),
        });
    }

    /// The connection at this place, if it is still the same client's.
    fn client(&mut self, (id, generation): (u32, u32)) -> Option<&mut Connection> {
        self.connections.get_mut(id as usize).filter(|connection| connection.generation == generation)
    }

    fn close(&mut self, id: u32) {
        if let Some(connection) = self.connections.try_remove(id as usize) {
            self.loads.remove(self.core.mesh.me());
            self.core.buffers.discount_connection(connection.is_tls());
            drop(connection.dismantle(&mut self.core));
        }
    }

    /// Reads, parses, executes and answers for every ready connection, some requests at a time.
    fn drive(&mut self) {
        std::mem::swap(&mut self.ready, &mut self.driven);
        let mut driven = std::mem::take(&mut self.driven);
        let mut rest = &driven[..];
        while !rest.is_empty() {
            let mut count = 0;
            let mut requests = 0;
            while requests < BATCH_REQUESTS_MAX
                && let Some(id) = rest.get(count)
            {
                requests += self.receive(*id);
                count += 1;
            }
            let (batch, later) = rest.split_at(count);
            rest = later;
            self.core.mesh.ring();
            self.prefetch(batch);
            for id in batch {
                self.answer(*id);
            }
        }
        driven.clear();
        self.driven = driven;
    }

    /// Fetches what the connections that are answered next will look up, all index lines before the
    /// first entry.
    fn prefetch(&self, batch: &[u32]) {
        let connections = || {
            let of_batch = batch.iter().filter_map(|id| self.connections.get(*id as usize));
            of_batch.filter(|connection| !connection.waits_for_others())
        };
        connections().for_each(|connection| connection.prefetch_index(&self.core));
        connections().for_each(|connection| connection.prefetch_entries(&self.core));
    }

    fn receive(&mut self, id: u32) -> usize {
        let Some(connection) = self.connections.get_mut(id as usize) else { return 0 };
        connection.listed = false;
        match connection.receive(&mut self.core, id) {
            Life::Open => connection.waiting_requests(),
            Life::Over => {
                self.close(id);
                0
            }
        }
    }

    fn answer(&mut self, id: u32) {
        let Some(connection) = self.connections.get_mut(id as usize) else { return };
        let life = connection.answer(&mut self.core, id);
        if life == Life::Over || self.core.draining && connection.is_idle() {
            return self.close(id);
        }
        watch(connection, id, &mut self.ready, &mut self.timers);
    }

    /// Does what other cores ask and takes their answers, and those of the helper thread.
    fn exchange(&mut self) {
        for peer in 0..self.core.mesh.reactors() {
            let pending = self.core.mesh.pending(peer).min(MESSAGES_PER_TURN);
            for _ in 0..pending.div_ceil(MESSAGES_PER_BATCH) {
                self.exchange_batch(peer);
            }
        }
        self.take_from_helper();
    }

    fn exchange_batch(&mut self, peer: usize) {
        let mut asked: [Option<Box<Job>>; MESSAGES_PER_BATCH] = [const { None }; MESSAGES_PER_BATCH];
        let mut asked_count = 0;
        let mut answered = [0; MESSAGES_PER_BATCH];
        let mut answered_count = 0;
        for _ in 0..MESSAGES_PER_BATCH {
            match self.core.mesh.receive(peer) {
                Some(Message::Ask(job)) => {
                    if let Some(hash) = job.hash() {
                        self.core.shard.prefetch_table(hash);
                    }
                    asked[asked_count] = Some(job);
                    asked_count += 1;
                }
                Some(Message::Answer(job)) if job.ticket.is_of_change() => self.followed(job),
                Some(Message::Answer(job)) => {
                    let id = job.ticket.connection;
                    match self.connections.get_mut(id as usize) {
                        Some(connection) if connection.generation == job.ticket.generation => {
                            connection.answered(job, &mut self.core);
                            if !connection.waits_for_others() {
                                answered[answered_count] = id;
                                answered_count += 1;
                            }
                        }
                        _ => self.core.mesh.recycle(job),
                    }
                }
                Some(Message::Handover(arrival)) => self.adopt(arrival),
                None => break,
            }
        }
        let keys = || {
            let jobs = asked[..asked_count].iter().flatten();
            jobs.filter_map(|job| job.hash().map(|hash| (hash, job.reads())))
        };
        keys().for_each(|(hash, _)| self.core.shard.prefetch_index(hash));
        keys().for_each(|(hash, reads)| match reads {
            true => self.core.shard.prefetch_value(hash),
            false => self.core.shard.prefetch_entry(hash),
        });
        for job in asked[..asked_count].iter_mut().filter_map(Option::take) {
            self.execute(peer, job);
        }
        self.prefetch(&answered[..answered_count]);
        // Answers of one connection come together: it is written to once for all of them.
        let mut last = None;
        for id in &answered[..answered_count] {
            if last != Some(*id) {
                self.answer(*id);
            }
            last = Some(*id);
        }
    }

    /// Ends connections whose deadline has passed, and returns the room of expired entries.
    fn expire(&mut self) {
        let now = self.core.now;
        let mut due = std::mem::take(&mut self.due);
        self.timers.advance(now.unix_ms, &mut due);
        for (slot, (id, generation)) in due.drain(..) {
            let Some(connection) = self.connections.get_mut(id as usize) else { continue };
            if connection.generation != generation || connection.timer_slot != slot {
                continue;
            }
            connection.timer_slot = 0;
            let late = connection.deadline_ms() <= now.unix_ms;
            if late && connection.timed_out(&mut self.core, id) == Life::Over {
                self.close(id);
                continue;
            }
            let slot = self.timers.slot_of(connection.deadline_ms());
            connection.timer_slot = slot;
            self.timers.schedule(slot, (id, generation));
        }
        self.due = due;
        self.core.shard.sweep(now);
    }

    /// Has the shard take what the rest leaves of the node's memory, and closes those who hold too
    /// much of it.
    fn keep_to_limit(&mut self) {
        let Core { memory, mesh, shard, buffers, stalls, now, .. } = &mut self.core;
        let buffer_bytes = buffers.bytes();
        if buffer_bytes != self.buffer_bytes {
            memory.recount_buffers(self.buffer_bytes, buffer_bytes);
            self.buffer_bytes = buffer_bytes;
        }
        // Keys come back to other shards than they were in, and no bodies take a share yet.
        let ceiling_bytes = match self.recovery.is_some() {
            true => memory.shard_bytes_max(),
            false => memory.shard_ceiling(),
        };
        if ceiling_bytes < self.ceiling_bytes && self.ceiling_bytes != u64::MAX {
            // The others' shards must shrink too, even if nothing else wakes them.
            mesh.wake_all();
        }
        self.ceiling_bytes = ceiling_bytes;
        let shrinks = shard.set_ceiling(ceiling_bytes, *now);
        self.shrinking = memory.give_back_slice() | shrinks;
        let stalled_since_ms = stalls.since_ms();
        if stalled_since_ms != self.stalled_since_ms {
            memory.is_oldest(mesh.me(), stalled_since_ms);
            self.stalled_since_ms = stalled_since_ms;
        }
        if stalls.is_full() {
            stalls.forget(unread(&self.connections));
        }
        if memory.holds_too_much() {
            self.close_stalled();
        }
    }

    /// Closes the clients that have been slow for longest to read values that are in no store any more,
    /// as far as they are here; otherwise has the others look.
    #[cold]
    fn close_stalled(&mut self) {
        let me = self.core.mesh.me();
        while self.core.memory.holds_too_much() {
            let oldest = self.core.stalls.oldest(unread(&self.connections));
            let since_ms = oldest.map_or(u64::MAX, |(since_ms, _)| since_ms);
            self.stalled_since_ms = since_ms;
            if !self.core.memory.is_oldest(me, since_ms) {
                return self.core.mesh.wake_all();
            }
            let Some((_, id)) = oldest else { return };
            self.close(id);
        }
    }

    /// When the node stops: closes the listening sockets, and once every reactor has done so, so that
    /// whoever sees a connection end finds no open door, ends what is idle.
    fn stop(&mut self) {
        match self.state.phase() {
            Phase::Closing => return self.close_all(),
            Phase::Draining if !self.core.draining => {}
            _ => return,
        }
        if !std::mem::take(&mut self.listeners).is_empty() {
            self.loads.stop_listening();
            self.core.mesh.wake_all();
        }
        if self.loads.is_listening() {
            return;
        }
        self.core.draining = true;
        let ids: Vec<u32> = self.connections.iter().map(|(id, _)| id as u32).collect();
        for id in ids {
            if let Some(connection) = self.connections.get_mut(id as usize)
                && connection.drain() == Life::Over
            {
                self.close(id);
            }
        }
    }
}

impl Reactor {
    /// Ends every connection, whatever it is waiting for. Whoever waits for the disk is told that nobody knows what
    /// became of his request, as far as that goes without waiting.
    #[cold]
    fn close_all(&mut self) {
        if !std::mem::take(&mut self.listeners).is_empty() {
            self.loads.stop_listening();
        }
        self.core.draining = true;
        let ids: Vec<u32> = self.connections.iter().map(|(id, _)| id as u32).collect();
        for id in ids {
            if let Some(connection) = self.connections.get_mut(id as usize) {
                connection.abandon(&mut self.core, id);
            }
            self.close(id);
        }
        self.core.mesh.wake_all();
    }
}

/// Has a connection driven in the coming turn, once.
fn list(connection: &mut Connection, id: u32, ready: &mut Vec<u32>) {
    if !std::mem::replace(&mut connection.listed, true) {
        ready.push(id);
    }
}

/// Has an open connection driven in the coming turn, if it can go on, and looked at when its time is over.
#[inline(always)]
fn watch(connection: &mut Connection, id: u32, ready: &mut Vec<u32>, timers: &mut Timers) {
    if connection.is_runnable() {
        list(connection, id, ready);
    }
    let slot = timers.slot_of(connection.deadline_ms());
    if connection.timer_slot == 0 || slot < connection.timer_slot {
        connection.timer_slot = slot;
        timers.schedule(slot, (id, connection.generation));
    }
}

/// Looks up what a connection has not read of large values.
fn unread(connections: &Slab<Connection>) -> impl Fn(u32, u32) -> Option<Unread> {
    |id, generation| {
        let connection = connections.get(id as usize).filter(|it| it.generation == generation);
        connection.and_then(Connection::unread)
    }
}
