//! One thread: its connections, its poll, its part of the requests.
//!
//! A connection asks in batches. Closed loop: a batch of `depth` when the last one is answered. Open
//! loop: one request when it is due and the connection has fewer than `depth` in flight; a request
//! that finds no such connection waits, and its latency grows. PUTs after misses (cache-aside) go out
//! on the connection that saw the miss, before anything else.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};

use crate::args::Args;
use crate::keys::{Distribution, Keys};
use crate::report::Report;
use crate::values::Values;
use crate::wire::{Answer, Wire};

const READ_BYTES: usize = 64 * 1_024;

/// After the last request, answers are waited for this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// A poll sleeps in milliseconds; what is due sooner is waited for awake.
const POLL_GRAIN_NS: u64 = 1_500_000;

/// Connections made anew, at most, before the run is given up.
const RECONNECTS_MAX: u32 = 1_000;

/// Wrong values that are described on standard error.
const WRONG_SHOWN_MAX: u64 = 5;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Get,
    Put,
    /// The PUT after a miss.
    Refill,
}

/// A request that is not answered yet.
#[derive(Clone, Copy, Debug)]
struct Asked {
    kind: Kind,
    key: u64,
    /// When it was sent, in the open loop when it was due.
    since_ns: u64,
    counted: bool,
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
    sent: usize,
    asked: VecDeque<Asked>,
    /// Keys to put after misses.
    refills: Vec<(u64, bool)>,
    /// Stands in the line of those that can take a request (open loop).
    ready: bool,
}

struct Worker<'a> {
    args: &'a Args,
    wire: Wire,
    values: Values,
    keys: Keys,
    poll: Poll,
    connections: Vec<Connection>,
    report: Report,
    started: Instant,
    /// When counting began, after the warm-up.
    counted_from_ns: u64,
    issued: u64,
    warmup: u64,
    /// Requests to issue, warm-up included.
    quota: u64,
    reconnects: u32,
}

/// Runs thread `number` and answers what it found.
///
/// # Errors
/// When the server cannot be connected to, or drops connections over and over.
pub fn run(args: &Args, number: usize) -> io::Result<Report> {
    let threads = args.threads as u64;
    let part = |whole: u64| whole * (number as u64 + 1) / threads - whole * number as u64 / threads;
    let keys = Keys::new(args.distribution, args.keys, args.period, number as u64, threads, args.seed);
    let warmup = part(args.warmup);
    let quota = args.count.map_or(u64::MAX, |count| warmup + part(count));
    let mut worker = Worker {
        args,
        wire: Wire::new(args),
        values: Values::new(args.sizes.clone()),
        keys,
        poll: Poll::new()?,
        connections: Vec::new(),
        report: Report::new(),
        started: Instant::now(),
        counted_from_ns: 0,
        issued: 0,
        warmup,
        quota,
        reconnects: 0,
    };
    for at in 0..part(args.connections as u64) as usize {
        let stream = connect(args, worker.poll.registry(), at)?;
        worker.connections.push(Connection::new(stream));
    }
    worker.started = Instant::now();
    match args.rate {
        None => worker.closed_loop()?,
        Some(rate) => worker.open_loop(rate / args.threads as f64, number as f64 / args.threads as f64)?,
    }
    Ok(worker.report)
}

fn connect(args: &Args, registry: &Registry, at: usize) -> io::Result<TcpStream> {
    let domain = socket2::Domain::for_address(args.address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.connect_timeout(&args.address.into(), Duration::from_secs(5))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(socket.into());
    registry.register(&mut stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
    Ok(stream)
}

impl Connection {
    fn new(stream: TcpStream) -> Connection {
        Connection {
            stream,
            input: vec![0; READ_BYTES],
            filled: 0,
            output: Vec::new(),
            sent: 0,
            asked: VecDeque::new(),
            refills: Vec::new(),
            ready: false,
        }
    }

    /// Writes what the socket takes.
    fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.sent = 0;
        Ok(())
    }
}

impl Worker<'_> {
    fn closed_loop(&mut self) -> io::Result<()> {
        // A count ends with its last request and a sequence with its keys, however long that takes.
        let endless = self.args.count.is_some() || self.args.distribution == Distribution::Sequential;
        let limit_ns = if endless { u64::MAX } else { (self.args.seconds * 1e9) as u64 };
        let mut events = Events::with_capacity(1_024);
        for at in 0..self.connections.len() {
            self.next_batch(at)?;
        }
        let mut answered = Instant::now();
        while self.connections.iter().any(|connection| !connection.asked.is_empty()) {
            self.poll.poll(&mut events, Some(Duration::from_millis(100)))?;
            if self.now_ns() >= limit_ns {
                break;
            }
            let before = self.report.requests + self.issued;
            for event in events.iter() {
                let at = event.token().0;
                self.serve(at, event.is_read_closed())?;
                if self.connections[at].asked.is_empty() && self.connections[at].output.is_empty() {
                    self.next_batch(at)?;
                }
            }
            if self.report.requests + self.issued != before {
                answered = Instant::now();
            } else if answered.elapsed() > PATIENCE {
                self.report.errors += self.unanswered();
                break;
            }
        }
        self.report.seconds = (self.now_ns() - self.counted_from_ns) as f64 / 1e9;
        Ok(())
    }

    /// `phase`: where between two requests of its own this thread begins, 0 to 1.
    fn open_loop(&mut self, rate: f64, phase: f64) -> io::Result<()> {
        let due_ns = |number: u64| ((number as f64 + phase) * 1e9 / rate) as u64;
        let end_ns = match self.args.count {
            Some(_) => u64::MAX,
            None => (self.args.seconds * 1e9) as u64,
        };
        let mut due = 0;
        let mut ready: VecDeque<usize> = (0..self.connections.len()).collect();
        self.connections.iter_mut().for_each(|connection| connection.ready = true);
        let mut events = Events::with_capacity(1_024);
        let mut over: Option<Instant> = None;
        loop {
            let now_ns = self.now_ns();
            while due_ns(due) <= now_ns && due_ns(due) < end_ns && due < self.quota {
                let Some(at) = ready.pop_front() else { break };
                self.ask(at, due_ns(due))?;
                due += 1;
                let connection = &mut self.connections[at];
                connection.flush().or_else(|_| self.reconnect(at))?;
                let connection = &mut self.connections[at];
                connection.ready = connection.asked.len() < self.args.depth;
                if connection.ready {
                    ready.push_back(at);
                }
            }
            if due_ns(due) >= end_ns || due >= self.quota {
                let over = *over.get_or_insert_with(Instant::now);
                if self.unanswered() == 0 || over.elapsed() > PATIENCE {
                    break;
                }
            }
            // Everything that should have been asked by now, and was not for want of an answer.
            if now_ns > end_ns.saturating_add(PATIENCE.as_nanos() as u64) {
                break;
            }
            let wait_ns = due_ns(due).saturating_sub(self.now_ns());
            let wait = match wait_ns {
                _ if ready.is_empty() => Duration::from_millis(100),
                0..POLL_GRAIN_NS => Duration::ZERO,
                wait_ns => Duration::from_nanos(wait_ns - POLL_GRAIN_NS),
            };
            self.poll.poll(&mut events, Some(wait.min(Duration::from_millis(100))))?;
            for event in events.iter() {
                let at = event.token().0;
                self.serve(at, event.is_read_closed())?;
                let connection = &mut self.connections[at];
                if !connection.ready && connection.asked.len() < self.args.depth {
                    connection.ready = true;
                    ready.push_back(at);
                }
            }
        }
        self.report.errors += self.unanswered();
        let wanted = match self.args.count {
            Some(_) => self.quota,
            None => (end_ns as f64 * rate / 1e9) as u64,
        };
        self.report.unsent += wanted.saturating_sub(due);
        self.report.seconds = (self.now_ns() - self.counted_from_ns) as f64 / 1e9;
        Ok(())
    }

    fn unanswered(&self) -> u64 {
        self.connections.iter().map(|connection| connection.asked.len() as u64).sum()
    }

    fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Closed loop: asks `depth` times, or puts what was missed, in one write.
    fn next_batch(&mut self, at: usize) -> io::Result<()> {
        let now_ns = self.now_ns();
        if !self.refill(at, now_ns) {
            for _ in 0..self.args.depth {
                if self.issued >= self.quota {
                    break;
                }
                self.ask(at, now_ns)?;
            }
        }
        if self.connections[at].flush().is_err() {
            self.reconnect(at)?;
        }
        Ok(())
    }

    /// Writes the PUTs after misses; false when there are none.
    fn refill(&mut self, at: usize, now_ns: u64) -> bool {
        let mut refills = std::mem::take(&mut self.connections[at].refills);
        let some = !refills.is_empty();
        for (key, counted) in refills.drain(..) {
            self.put(at, Asked { kind: Kind::Refill, key, since_ns: now_ns, counted });
        }
        self.connections[at].refills = refills;
        some
    }

    /// Appends the next request to what a connection is to send.
    fn ask(&mut self, at: usize, since_ns: u64) -> io::Result<()> {
        let puts = self.args.put_percent > 0 && self.keys.percent() < self.args.put_percent;
        let sequential = self.args.distribution == Distribution::Sequential;
        let key = match (sequential, puts || self.args.put_percent == 0) {
            (true, false) if self.keys.sequence_left() > 0 => {
                self.keys.recent(self.args.recent).or_else(|| self.keys.next())
            }
            _ => self.keys.next(),
        };
        let Some(key) = key else {
            self.quota = self.issued;
            return Ok(());
        };
        let key = key + self.args.first;
        let counted = self.issued >= self.warmup;
        if self.issued == self.warmup {
            self.counted_from_ns = if self.warmup == 0 { 0 } else { self.now_ns() };
        }
        self.issued += 1;
        if puts {
            self.put(at, Asked { kind: Kind::Put, key, since_ns, counted });
        } else {
            let connection = &mut self.connections[at];
            self.wire.get(key, &mut connection.output);
            connection.asked.push_back(Asked { kind: Kind::Get, key, since_ns, counted });
        }
        Ok(())
    }

    fn put(&mut self, at: usize, asked: Asked) {
        let len = if self.args.resize {
            self.values.len_any(self.keys.any())
        } else {
            self.values.len_of(asked.key)
        };
        let connection = &mut self.connections[at];
        let values = &self.values;
        self.wire.put(asked.key, len, &mut connection.output, |out| values.append(asked.key, len, out));
        connection.asked.push_back(asked);
    }

    /// Writes what waits and reads what came. `closed`: the server will say no more, so that a short
    /// read is not the last one.
    fn serve(&mut self, at: usize, closed: bool) -> io::Result<()> {
        let connection = &mut self.connections[at];
        let mut alive = connection.flush().is_ok();
        while alive {
            let connection = &mut self.connections[at];
            if connection.filled == connection.input.len() {
                connection.input.resize(2 * connection.filled, 0);
            }
            let room = connection.input.len() - connection.filled;
            match connection.stream.read(&mut connection.input[connection.filled..]) {
                Ok(0) => alive = false,
                Ok(count) => {
                    connection.filled += count;
                    alive = self.take_answers(at);
                    if count < room && !closed {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => alive = false,
            }
        }
        if !alive {
            self.reconnect(at)?;
        }
        // The open loop puts what was missed at once, the closed one with its next batch.
        if self.args.rate.is_some() && self.refill(at, self.now_ns()) {
            self.connections[at].flush().or_else(|_| self.reconnect(at))?;
        }
        Ok(())
    }

    /// Takes all whole answers; false when the connection is of no more use.
    fn take_answers(&mut self, at: usize) -> bool {
        let mut now_ns = None;
        let mut taken = 0;
        let mut alive = true;
        loop {
            let connection = &self.connections[at];
            let bytes = &connection.input[taken..connection.filled];
            let (answer, len) = match self.wire.answer(bytes) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(()) => {
                    alive = false;
                    break;
                }
            };
            let Some(asked) = self.connections[at].asked.pop_front() else {
                alive = false;
                break;
            };
            let now_ns = *now_ns.get_or_insert_with(|| self.started.elapsed().as_nanos() as u64);
            let closed = matches!(answer, Answer::Closed(_));
            self.judge(at, asked, answer, taken, now_ns);
            taken += len;
            if closed {
                alive = false;
                break;
            }
        }
        let connection = &mut self.connections[at];
        connection.input.copy_within(taken..connection.filled, 0);
        connection.filled -= taken;
        alive
    }

    fn judge(&mut self, at: usize, asked: Asked, answer: Answer, taken: usize, now_ns: u64) {
        // A wrong value counts even during the warm-up. The body that a PUT is answered with is none.
        if let (Answer::Value(value), Kind::Get, true) = (&answer, asked.kind, self.args.check) {
            let value = &self.connections[at].input[taken + value.start..taken + value.end];
            if !self.values.check(asked.key, value, !self.args.resize) {
                self.report.wrong += 1;
                if self.report.wrong <= WRONG_SHOWN_MAX {
                    eprintln!("load: {}", self.values.describe(asked.key, value));
                }
            }
        }
        if matches!((&answer, asked.kind), (Answer::Absent, Kind::Get)) && self.args.cache_aside {
            self.connections[at].refills.push((asked.key, asked.counted));
        }
        if !asked.counted {
            return;
        }
        let report = &mut self.report;
        match (answer, asked.kind) {
            (Answer::Value(_), Kind::Get) => report.hits += 1,
            (Answer::Absent, Kind::Get) => report.misses += 1,
            // A PUT may answer with a body.
            (Answer::Stored | Answer::Value(_), Kind::Put | Kind::Refill) => report.stored += 1,
            (Answer::Refused(status) | Answer::Closed(status), _) => {
                *report.refused.entry(status).or_default() += 1
            }
            (Answer::Stored, Kind::Get) | (Answer::Absent, _) => report.errors += 1,
        }
        report.requests += 1;
        let second = ((now_ns - self.counted_from_ns.min(now_ns)) / 1_000_000_000) as usize;
        report.record(now_ns.saturating_sub(asked.since_ns), second);
    }

    /// Makes a lost connection anew; what it owed is an error each.
    fn reconnect(&mut self, at: usize) -> io::Result<()> {
        self.reconnects += 1;
        if self.reconnects > RECONNECTS_MAX.max(self.issued as u32 / 2) {
            return Err(io::Error::new(
                ErrorKind::ConnectionReset,
                "the server drops connections over and over",
            ));
        }
        self.report.errors += self.connections[at].asked.len() as u64;
        let stream = connect(self.args, self.poll.registry(), at)?;
        let connection = &mut self.connections[at];
        let _ = self.poll.registry().deregister(&mut connection.stream);
        let ready = connection.ready;
        *connection = Connection { ready, ..Connection::new(stream) };
        Ok(())
    }
}
