//! The threads around the writer: one that steps it, one that syncs the log, one for all other chores.
//!
//! The writer's thread sleeps behind its doorbell like a reactor: whoever puts something into a ring rings,
//! and only a sleeper is woken.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use super::chore::{Chore, Done};
use super::disk::Disk;
use super::folder::{OpenError, Opened};
use super::tap::{Health, Source};
use super::writer::Writer;
use crate::clock::Clock;
use crate::doorbell::Doorbell;

/// What wakes the writer's thread, which may not be there yet.
#[derive(Clone, Debug)]
pub(super) struct Bell {
    pub doorbell: Arc<Doorbell>,
    thread: Arc<OnceLock<Thread>>,
}

impl Bell {
    pub(super) fn new() -> Bell {
        let thread = Arc::new(OnceLock::<Thread>::new());
        let sleeper = thread.clone();
        let wake = move || {
            if let Some(thread) = sleeper.get() {
                thread.unpark();
            }
        };
        Bell { doorbell: Arc::new(Doorbell::new(Box::new(wake))), thread }
    }
}

/// The journal at work.
#[derive(Debug)]
pub struct Journal {
    ending: Arc<AtomicBool>,
    bell: Arc<Doorbell>,
    thread: JoinHandle<io::Result<()>>,
}

impl Opened {
    /// What wakes the writer: for [`super::connect`].
    pub fn bell(&self) -> Arc<Doorbell> {
        self.bell.doorbell.clone()
    }

    /// Starts the writer, with the sources of all shards and what wakes the reactor of each.
    ///
    /// # Errors
    /// When the first segment cannot be made, or a thread.
    pub fn start(self, sources: Vec<Source>, wakers: Arc<[Doorbell]>) -> Result<Journal, OpenError> {
        let shown = self.disk.shown();
        let bell = self.bell.clone();
        let ending = Arc::new(AtomicBool::new(false));
        let start = move || {
            let writer = Writer::start(self, sources, wakers)?;
            let disk = writer.disk.clone();
            let (done, results) = mpsc::channel();
            let sync = Lane::start("lucid-sync", &disk, &done, &bell.doorbell)?;
            let other = Lane::start("lucid-disk", &disk, &done, &bell.doorbell)?;
            let doorbell = bell.doorbell.clone();
            let driver = Driver {
                writer,
                results,
                lanes: [sync, other],
                out: 0,
                bell,
                ending: ending.clone(),
                told: Health::Good,
            };
            let thread = thread::Builder::new().name("lucid-journal".into()).spawn(|| driver.run())?;
            Ok(Journal { ending, bell: doorbell, thread })
        };
        start().map_err(OpenError::io(shown))
    }
}

impl Journal {
    /// Writes all that the shards have handed over, makes it durable, closes the log. The reactors have
    /// ended.
    ///
    /// # Errors
    /// When that did not succeed, now or before.
    pub fn close(self) -> io::Result<()> {
        self.ending.store(true, Ordering::Release);
        self.bell.ring_always();
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the writer of the journal has panicked")))
    }
}

/// A thread for chores.
#[derive(Debug)]
struct Lane {
    chores: Sender<Chore>,
    thread: JoinHandle<()>,
}

impl Lane {
    fn start(
        name: &str,
        disk: &Arc<dyn Disk>,
        done: &Sender<Done>,
        bell: &Arc<Doorbell>,
    ) -> io::Result<Lane> {
        let (chores, queue) = mpsc::channel::<Chore>();
        let (disk, done, bell) = (disk.clone(), done.clone(), bell.clone());
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            for chore in queue {
                if done.send(chore.run(&*disk)).is_err() {
                    return;
                }
                bell.ring();
            }
        })?;
        Ok(Lane { chores, thread })
    }
}

/// The writer's thread.
#[derive(Debug)]
struct Driver {
    writer: Writer,
    results: Receiver<Done>,
    lanes: [Lane; 2],
    /// Chores that have not come back.
    out: usize,
    bell: Bell,
    ending: Arc<AtomicBool>,
    /// How the journal was when something was last said of it.
    told: Health,
}

impl Driver {
    fn run(mut self) -> io::Result<()> {
        let clock = Clock::start();
        self.bell.thread.get_or_init(thread::current);
        while !self.ending.load(Ordering::Acquire) {
            let now = clock.now();
            self.take_results(&clock);
            let step = self.writer.step(now);
            self.give_out();
            self.report();
            if step.again {
                continue;
            }
            self.bell.doorbell.announce_sleep();
            if self.writer.is_idle() && !self.take_results(&clock) && !self.ending.load(Ordering::Acquire) {
                match step.at_ms {
                    None => thread::park(),
                    Some(at) => {
                        thread::park_timeout(Duration::from_millis(at.saturating_sub(now.unix_ms).max(1)))
                    }
                }
            }
            self.bell.doorbell.awake();
        }
        while self.out > 0 {
            let Ok(done) = self.results.recv() else { break };
            self.out -= 1;
            self.writer.done(done, clock.now());
            self.give_out();
        }
        let result = self.writer.close(clock.now());
        for Lane { chores, thread } in self.lanes {
            drop(chores);
            let _ = thread.join();
        }
        result
    }

    fn take_results(&mut self, clock: &Clock) -> bool {
        let mut any = false;
        while let Ok(done) = self.results.try_recv() {
            self.out -= 1;
            any = true;
            self.writer.done(done, clock.now());
        }
        any
    }

    fn give_out(&mut self) {
        let [sync, other] = &self.lanes;
        for chore in self.writer.take_chores() {
            let lane = if chore.is_sync() { sync } else { other };
            if lane.chores.send(chore).is_ok() {
                self.out += 1;
            }
        }
    }

    /// Says once what has failed, or that the disk is full or no longer is.
    fn report(&mut self) {
        let (health, error) = self.writer.health();
        let told = std::mem::replace(&mut self.told, health);
        if told == health {
            return;
        }
        let shown = self.writer.disk.shown();
        match health {
            Health::Good => log::info!("{shown} has room again: writes are taken"),
            Health::Full => {
                let needed = self.writer.base_left() >> 20;
                log::warn!(
                    "the disk of {shown} is full, or has not the {needed} MiB left that compaction needs: writes are \
                     answered 507, deletes are taken, until there is room"
                );
            }
            Health::Exhausted => log::error!(
                "the disk of {shown} is full: writes and deletes are answered 507 until there is room"
            ),
            Health::Failed => {
                let error = error.map_or_else(|| "unknown".into(), ToString::to_string);
                log::error!(
                    "the journal in {shown} has failed: {error}. Writes are refused from now on; what was answered \
                     is on the disk as far as the disk keeps it. Look at the disk, then start the node again"
                );
            }
        }
    }
}
