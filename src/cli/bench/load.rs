//! The loops that make a load: threads, each with its connections and an epoll of its own.
//!
//! A thread never blocks but in `epoll_wait`, whose timeout has nanoseconds, so that an open loop keeps
//! its schedule. In an open loop a request that is due while its connection is full waits, and its
//! latency counts from when it was due.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::link::{Broken, Link, READ_BYTES};
use super::requests::{Kind, Random, Requests};
use crate::clock::Stopwatch;

/// How long answers may take once nothing more is sent, and how long a load that ends with its last answer
/// bears to hear nothing.
const GRACE_NS: u64 = 10_000_000_000;

/// Longest wait, so that a stop is seen.
const WAIT_NS_MAX: u64 = 50_000_000;

/// What fell due less than this before the end was not late yet.
const UNSENT_NS_MIN: u64 = 10_000_000;

/// Longest latency that is told apart.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// A load.
#[derive(Debug)]
pub struct Plan {
    /// Where to.
    pub address: SocketAddr,
    /// Of what.
    pub requests: Requests,
    /// Over how many connections, at least one.
    pub connections: usize,
    /// Requests under way on each, at least one.
    pub depth: usize,
    /// By how many threads, at least one.
    pub threads: usize,
    /// Open loop: requests a second in all.
    pub rate: Option<u64>,
    /// How long.
    pub end: End,
}

/// When a load ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// After a time.
    After(Duration),
    /// When every key was asked for once.
    EveryKeyOnce,
}

/// Why a load was given up.
#[derive(Debug)]
pub enum Trouble {
    /// A connection cannot be made, read or written.
    Io(io::Error),
    /// A connection answers what is no HTTP.
    Malformed(&'static str),
    /// Answers stayed out.
    Silent,
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Io(error) => error.fmt(out),
            Trouble::Malformed(what) => out.write_str(what),
            Trouble::Silent => out.write_str("no answer"),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Io(error)
    }
}

impl From<rustix::io::Errno> for Trouble {
    fn from(error: rustix::io::Errno) -> Trouble {
        Trouble::Io(error.into())
    }
}

impl From<Broken> for Trouble {
    fn from(broken: Broken) -> Trouble {
        match broken {
            Broken::Io(error) => Trouble::Io(error),
            Broken::Malformed(what) => Trouble::Malformed(what),
        }
    }
}

/// What came of a load.
#[derive(Debug)]
pub struct Tally {
    /// Latencies of gets, in nanoseconds.
    pub gets: Histogram<u64>,
    /// Latencies of puts and deletes, in nanoseconds.
    pub writes: Histogram<u64>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Bytes of all answers.
    pub bytes: u64,
    /// Requests whose connection was closed before they were answered.
    pub lost: u64,
    /// Requests that fell due and could not be sent before the end.
    pub unsent: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
}

impl Tally {
    fn new() -> Tally {
        let histogram = || {
            let mut histogram = Histogram::new_with_max(LATENCY_NS_MAX, 3).expect("bounds that are known");
            histogram.auto(false);
            histogram
        };
        Tally {
            gets: histogram(),
            writes: histogram(),
            statuses: BTreeMap::new(),
            bytes: 0,
            lost: 0,
            unsent: 0,
            elapsed: Duration::ZERO,
        }
    }

    fn add(&mut self, other: &Tally) {
        // Both have the same bounds.
        let _ = self.gets.add(&other.gets);
        let _ = self.writes.add(&other.writes);
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        self.bytes += other.bytes;
        self.lost += other.lost;
        self.unsent += other.unsent;
        self.elapsed = self.elapsed.max(other.elapsed);
    }

    /// All answers.
    pub fn answers(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Requests that were answered by no success, or not at all.
    pub fn wrong(&self) -> u64 {
        let refused = self.statuses.iter().filter(|(status, _)| !(200..300).contains(*status));
        refused.map(|(_, count)| count).sum::<u64>() + self.lost
    }
}

/// What the threads share.
struct Shared<'s> {
    plan: &'s Plan,
    watch: Stopwatch,
    answered: AtomicU64,
    next_key: AtomicU64,
    /// By the caller.
    stop: &'s AtomicBool,
    /// By a thread that failed.
    failed: AtomicBool,
}

/// Carries a plan out. `tick` hears at times how many answers have come.
pub fn run(
    plan: Plan,
    stop: &AtomicBool,
    every: Duration,
    mut tick: impl FnMut(u64, Duration),
) -> Result<Tally, Trouble> {
    let threads = plan.threads.clamp(1, plan.connections);
    let mut workers = Vec::new();
    for number in 0..threads {
        let links = (number..plan.connections).step_by(threads);
        workers.push((
            number,
            links.clone().collect::<Vec<_>>(),
            links.map(|_| Link::open(plan.address)).collect::<Result<Vec<_>, _>>()?,
        ));
    }
    let shared = Shared {
        plan: &plan,
        watch: Stopwatch::start(),
        answered: AtomicU64::new(0),
        next_key: AtomicU64::new(0),
        stop,
        failed: AtomicBool::new(false),
    };
    let (done, outcomes) = channel();
    std::thread::scope(|scope| {
        for (number, ids, links) in workers {
            let (shared, done) = (&shared, done.clone());
            scope.spawn(move || {
                let outcome = Worker::new(shared, number, ids, links).and_then(Worker::run);
                if outcome.is_err() {
                    shared.failed.store(true, Ordering::Relaxed);
                }
                // Whoever waits is there until all have answered.
                let _ = done.send(outcome);
            });
        }
        let mut total = Tally::new();
        let mut trouble = None;
        let mut running = threads;
        while running > 0 {
            match outcomes.recv_timeout(every) {
                Ok(Ok(tally)) => {
                    total.add(&tally);
                    running -= 1;
                }
                Ok(Err(failed)) => {
                    trouble.get_or_insert(failed);
                    running -= 1;
                }
                Err(RecvTimeoutError::Timeout) => {
                    let elapsed = Duration::from_nanos(shared.watch.ns());
                    tick(shared.answered.load(Ordering::Relaxed), elapsed);
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        trouble.map_or(Ok(total), Err)
    })
}

/// One thread with its connections.
struct Worker<'s> {
    shared: &'s Shared<'s>,
    epoll: OwnedFd,
    links: Vec<Link>,
    /// Whether each connection is waited for to be writable.
    watched: Vec<bool>,
    random: Random,
    tally: Tally,
    /// Open loop: connections with room, by when their next request is due. Others wait for an answer.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    /// Open loop: when each connection's next request is due.
    next_due: Vec<u64>,
    interval_ns: u64,
    end_ns: Option<u64>,
    /// No more requests are made.
    ending: bool,
    /// When the last answer came.
    heard_ns: u64,
}

impl<'s> Worker<'s> {
    fn new(
        shared: &'s Shared<'s>,
        number: usize,
        ids: Vec<usize>,
        links: Vec<Link>,
    ) -> Result<Worker<'s>, Trouble> {
        let plan = shared.plan;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        for (at, link) in links.iter().enumerate() {
            epoll::add(&epoll, link.stream(), EventData::new_u64(at as u64), EventFlags::IN)?;
        }
        // The usual 50 us would be part of every latency of an open loop.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let interval_ns = plan.rate.map_or(0, |rate| plan.connections as u64 * 1_000_000_000 / rate);
        // The connections of all threads take turns.
        let begin = |id: &usize| plan.rate.map_or(0, |rate| *id as u64 * 1_000_000_000 / rate);
        let next_due: Vec<u64> = ids.iter().map(begin).collect();
        Ok(Worker {
            shared,
            epoll,
            watched: vec![false; links.len()],
            links,
            random: Random::new(number as u64 + 1),
            tally: Tally::new(),
            due: next_due.iter().enumerate().map(|(at, due)| Reverse((*due, at))).collect(),
            next_due,
            interval_ns: interval_ns.max(1),
            end_ns: match plan.end {
                End::After(duration) => Some(duration.as_nanos() as u64),
                End::EveryKeyOnce => None,
            },
            ending: false,
            heard_ns: shared.watch.ns(),
        })
    }

    fn run(mut self) -> Result<Tally, Trouble> {
        if self.shared.plan.rate.is_none() {
            for at in 0..self.links.len() {
                self.top_up(at)?;
            }
        }
        let mut events = Vec::with_capacity(1_024);
        let mut block = vec![0; READ_BYTES];
        let mut give_up_ns = u64::MAX;
        loop {
            let now = self.shared.watch.ns();
            if !self.ending && self.is_over(now) {
                self.end(now);
            }
            let endless = matches!(self.shared.plan.end, End::EveryKeyOnce);
            if endless && now.saturating_sub(self.heard_ns) > GRACE_NS {
                return Err(Trouble::Silent);
            }
            if self.ending {
                give_up_ns = give_up_ns.min(now + GRACE_NS);
                if self.links.iter().all(|link| link.under_way() == 0) {
                    break;
                }
                if now > give_up_ns {
                    return Err(Trouble::Silent);
                }
            } else if self.shared.plan.rate.is_some() {
                self.send_due(now)?;
            }
            self.wait(now, &mut events)?;
            for event in &events {
                let (at, flags) = (event.data.u64() as usize, event.flags);
                self.ready(at, flags, &mut block)?;
            }
        }
        self.tally.elapsed = Duration::from_nanos(self.shared.watch.ns());
        Ok(self.tally)
    }

    fn is_over(&self, now: u64) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
            || self.shared.failed.load(Ordering::Relaxed)
            || self.end_ns.is_some_and(|end| now >= end)
    }

    /// Makes no more requests. What was due before and waits for room stays unsent.
    fn end(&mut self, now: u64) {
        self.ending = true;
        if self.shared.plan.rate.is_some() {
            let end = self.end_ns.unwrap_or(now).min(now).saturating_sub(UNSENT_NS_MIN);
            let late = |due: &u64| end.checked_sub(*due).map_or(0, |late| late / self.interval_ns + 1);
            self.tally.unsent = self.next_due.iter().map(late).sum();
        }
    }

    /// Waits for the next event or the next request that is due.
    fn wait(&self, now: u64, events: &mut Vec<Event>) -> Result<(), Trouble> {
        let next = self.due.peek().filter(|_| !self.ending && self.shared.plan.rate.is_some());
        let until_due = next.map_or(WAIT_NS_MAX, |Reverse((due, _))| due.saturating_sub(now));
        let until_end =
            self.end_ns.filter(|_| !self.ending).map_or(WAIT_NS_MAX, |end| end.saturating_sub(now));
        let wait_ns = until_due.min(until_end).min(WAIT_NS_MAX);
        let timeout = Timespec { tv_sec: 0, tv_nsec: wait_ns as i64 };
        events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn ready(&mut self, at: usize, flags: EventFlags, block: &mut [u8]) -> Result<(), Trouble> {
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            let now = self.shared.watch.ns();
            let full = self.links[at].under_way() >= self.shared.plan.depth;
            let (tally, mut count) = (&mut self.tally, 0);
            let read = self.links[at].read(block, |answered| {
                let latency = now.saturating_sub(answered.sent.since_ns).min(LATENCY_NS_MAX);
                match answered.sent.kind {
                    Kind::Get => tally.gets.saturating_record(latency),
                    Kind::Put | Kind::Delete => tally.writes.saturating_record(latency),
                }
                *tally.statuses.entry(answered.status).or_default() += 1;
                tally.bytes += answered.bytes;
                count += 1;
            });
            self.shared.answered.fetch_add(count, Ordering::Relaxed);
            self.heard_ns = if count > 0 { now } else { self.heard_ns };
            match read {
                Ok(()) => {}
                Err(Broken::Io(_)) => self.reopen(at)?,
                Err(broken) => return Err(broken.into()),
            }
            if self.shared.plan.rate.is_none() {
                return self.top_up(at);
            }
            if full && self.links[at].under_way() < self.shared.plan.depth {
                self.due.push(Reverse((self.next_due[at], at)));
            }
        }
        if flags.contains(EventFlags::OUT) { self.flush(at) } else { Ok(()) }
    }

    /// Closed loop: as many requests under way as there may be.
    fn top_up(&mut self, at: usize) -> Result<(), Trouble> {
        let Worker { shared, links, random, ending, .. } = self;
        let (plan, link) = (shared.plan, &mut links[at]);
        let now = shared.watch.ns();
        while !*ending && link.under_way() < plan.depth {
            let (kind, key) = match plan.end {
                End::After(_) => plan.requests.draw(random),
                End::EveryKeyOnce => {
                    let key = shared.next_key.fetch_add(1, Ordering::Relaxed);
                    if key >= plan.requests.keys() {
                        *ending = true;
                        break;
                    }
                    (plan.requests.kind(), key)
                }
            };
            link.push(&plan.requests, kind, key, now);
        }
        self.flush(at)
    }

    /// Open loop: sends every request that is due and has room.
    fn send_due(&mut self, now: u64) -> Result<(), Trouble> {
        while let Some(Reverse((due, at))) = self.due.pop() {
            if due > now {
                self.due.push(Reverse((due, at)));
                break;
            }
            let plan = self.shared.plan;
            let mut due = due;
            while due <= now && self.links[at].under_way() < plan.depth {
                let (kind, key) = plan.requests.draw(&mut self.random);
                self.links[at].push(&plan.requests, kind, key, due);
                due += self.interval_ns;
            }
            self.next_due[at] = due;
            if self.links[at].under_way() < plan.depth {
                self.due.push(Reverse((due, at)));
            }
            self.flush(at)?;
        }
        Ok(())
    }

    fn flush(&mut self, at: usize) -> Result<(), Trouble> {
        match self.links[at].flush() {
            Ok(()) => {}
            // The reader meets the end too, behind what was still answered.
            Err(Broken::Io(_)) => return Ok(()),
            Err(broken) => return Err(broken.into()),
        }
        let link = &self.links[at];
        if link.stuck != self.watched[at] {
            self.watched[at] = link.stuck;
            let flags = if link.stuck { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(&self.epoll, link.stream(), EventData::new_u64(at as u64), flags)?;
        }
        Ok(())
    }

    /// Puts a new connection in the place of one that the node has closed, as it may when it is short of
    /// memory. What was under way is lost. Closing the old one takes it out of the epoll.
    fn reopen(&mut self, at: usize) -> Result<(), Trouble> {
        self.tally.lost += self.links[at].under_way() as u64;
        self.links[at] = Link::open(self.shared.plan.address)?;
        self.watched[at] = false;
        epoll::add(&self.epoll, self.links[at].stream(), EventData::new_u64(at as u64), EventFlags::IN)?;
        Ok(())
    }
}
