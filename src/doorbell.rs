//! Wakes a thread that sleeps, and only one that sleeps: a reactor, or the writer of the journal.
//!
//! A sleeper announces that it is about to sleep, then looks at its queues once more; a peer that
//! has put something into one of them looks for the announcement afterwards. With a full fence on
//! either side at least one of the two sees the other, so nothing is left lying and a busy reactor
//! is never woken. `tests::no_message_is_left_with_a_sleeper` runs every interleaving under loom.

#[cfg(all(loom, test))]
use loom::sync::atomic::{AtomicBool, Ordering, fence};
#[cfg(not(all(loom, test)))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Whether a thread sleeps, and how to wake it. On a cache line of its own, since peers look at it
/// every turn.
#[repr(align(128))]
pub struct Doorbell {
    sleeping: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Doorbell {
    /// A doorbell that calls `wake` when it is rung on a sleeper.
    pub fn new(wake: Box<dyn Fn() + Send + Sync>) -> Doorbell {
        Doorbell { sleeping: AtomicBool::new(false), wake }
    }

    /// Announces sleep. The caller must look at its queues after this and before it sleeps.
    pub fn announce_sleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement back.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Wakes the thread if it sleeps. Called after something was put into its queue.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed) {
            (self.wake)();
        }
    }

    /// Wakes the thread whether it sleeps or not: for what is not in a queue it looks at.
    pub fn ring_always(&self) {
        (self.wake)();
    }
}

impl std::fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Doorbell").field("sleeping", &self.sleeping).finish_non_exhaustive()
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::Doorbell;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// `RUSTFLAGS="--cfg loom" cargo test --lib doorbell`
    #[test]
    fn no_message_is_left_with_a_sleeper() {
        loom::model(|| {
            let queued = Arc::new(AtomicUsize::new(0));
            let woken = Arc::new(AtomicBool::new(false));
            let bell = Arc::new(Doorbell::new(Box::new({
                let woken = woken.clone();
                move || woken.store(true, Ordering::SeqCst)
            })));
            let peer = loom::thread::spawn({
                let (queued, bell) = (queued.clone(), bell.clone());
                move || {
                    queued.store(1, Ordering::Relaxed);
                    bell.ring();
                }
            });
            bell.announce_sleep();
            let seen = queued.load(Ordering::Relaxed) == 1;
            peer.join().unwrap();
            assert!(seen || woken.load(Ordering::SeqCst), "asleep with a message in the queue");
        });
    }
}
