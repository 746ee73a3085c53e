//! The sleep of a thread behind its doorbell, in steps: others may act between any two of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::doorbell::Doorbell;

/// How far a thread has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Awake,
    /// It has found nothing more to do.
    Tired,
    /// It has announced its sleep, and looks once more.
    Announced,
    /// It wakes by its doorbell, or at this time.
    Asleep { until_ms: Option<u64> },
}

#[derive(Debug, Default)]
pub(super) struct Sleeper {
    pub phase: Phase,
    /// The doorbell has rung for a sleeper.
    rung: Arc<AtomicBool>,
}

impl Sleeper {
    /// What rings for it.
    pub(super) fn doorbell(&self) -> Doorbell {
        let rung = self.rung.clone();
        Doorbell::new(Box::new(move || rung.store(true, Ordering::Relaxed)))
    }

    /// Whether there is anything for it to do at this time.
    pub(super) fn is_runnable(&self, now_ms: u64) -> bool {
        match self.phase {
            Phase::Asleep { until_ms } => {
                self.rung.load(Ordering::Relaxed) || until_ms.is_some_and(|until_ms| until_ms <= now_ms)
            }
            Phase::Awake | Phase::Tired | Phase::Announced => true,
        }
    }

    pub(super) fn until_ms(&self) -> Option<u64> {
        if let Phase::Asleep { until_ms } = self.phase { until_ms } else { None }
    }

    pub(super) fn wake(&mut self) {
        self.rung.store(false, Ordering::Relaxed);
        self.phase = Phase::Awake;
    }
}
