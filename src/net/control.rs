//! What the main thread and a running reactor say to each other: settings that have changed, what an earlier
//! run has left, and that the loop turns.
//!
//! Both come through a channel that the reactor looks into only when it was woken, so a turn that was
//! not costs nothing for it. The turns are counted by one store to a line that nobody else writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::net::core::{Legacy, Timeouts};
use crate::shard::Doorbell;

/// Settings that a reactor takes on while it runs.
#[derive(Clone, Debug)]
pub struct Live {
    /// How long clients may take, from their next request on.
    pub timeouts: Timeouts,
    /// Most connections of the node. Those beyond a lower bound stay until they end.
    pub connections_max: usize,
    /// Largest body of any request, in bytes.
    pub request_bytes_max: u64,
    /// Time-to-live of a PUT that names none, in seconds.
    pub default_ttl: Option<u32>,
    /// Origins whose pages may read answers.
    pub cors_origins: Vec<String>,
}

/// Something on its way.
pub enum Order {
    /// Settings. Whoever sent them hears when the last reactor has dropped them.
    Live(Live, Sender<()>),
    /// What an earlier run has left.
    Legacy(Box<Legacy>),
}

/// How often a loop has turned. On a cache line of its own: its reactor writes it every turn.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Pulse(AtomicU64);

/// The pulse of a reactor that has ended as it should.
const ENDED: u64 = u64::MAX;

/// A reactor's end.
#[derive(Debug)]
pub struct Control {
    orders: Receiver<Order>,
    pulse: Arc<Pulse>,
    turns: u64,
}

/// The main thread's end.
#[derive(Clone, Debug)]
pub struct Steering {
    orders: Sender<Order>,
    pulse: Arc<Pulse>,
}

/// The two ends for one reactor.
pub fn connect() -> (Steering, Control) {
    let (sender, receiver) = channel();
    let pulse = Arc::new(Pulse::default());
    (Steering { orders: sender, pulse: pulse.clone() }, Control { orders: receiver, pulse, turns: 0 })
}

impl Control {
    /// The loop begins another turn.
    pub fn turn(&mut self) {
        self.turns += 1;
        self.pulse.0.store(self.turns, Ordering::Relaxed);
    }

    /// Hands over what was sent since the last time, oldest first.
    pub fn take(&self, adopt: impl FnMut(Order)) {
        self.orders.try_iter().for_each(adopt);
    }
}

impl Steering {
    /// Has the reactor bring back what an earlier run has left. It is to be woken for it.
    pub fn bring(&self, legacy: Legacy) {
        // One that has ended needs nothing.
        let _ = self.orders.send(Order::Legacy(Box::new(legacy)));
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.pulse.0.store(ENDED, Ordering::Relaxed);
    }
}

/// Has every reactor take these settings on. Whether all have done so within `patience`.
pub fn steer(steerings: &[Steering], bells: &[Doorbell], live: &Live, patience: Duration) -> bool {
    let (taken, wait) = channel();
    for steering in steerings {
        // A reactor that has ended needs none.
        let _ = steering.orders.send(Order::Live(live.clone(), taken.clone()));
    }
    drop(taken);
    bells.iter().for_each(Doorbell::ring_always);
    wait.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
}

/// Sees whether every reactor turns.
#[derive(Debug)]
pub struct Heartbeat {
    pulses: Vec<Arc<Pulse>>,
    seen: Vec<u64>,
}

impl Heartbeat {
    /// Of these reactors.
    pub fn of(steerings: &[Steering]) -> Heartbeat {
        let pulses: Vec<_> = steerings.iter().map(|steering| steering.pulse.clone()).collect();
        Heartbeat { seen: vec![0; pulses.len()], pulses }
    }

    /// Whether every reactor has turned since the last time, or has ended. One that sleeps has to be woken
    /// in between.
    pub fn beats(&mut self) -> bool {
        let mut all = true;
        for (pulse, seen) in self.pulses.iter().zip(&mut self.seen) {
            let turns = pulse.0.load(Ordering::Relaxed);
            all &= turns != *seen || turns == ENDED;
            *seen = turns;
        }
        all
    }
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Order::Live(live, _) => f.debug_tuple("Live").field(live).finish_non_exhaustive(),
            Order::Legacy(_) => f.debug_tuple("Legacy").finish_non_exhaustive(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::{Heartbeat, Live, Order, connect, steer};
    use crate::net::core::Timeouts;
    use crate::shard::Doorbell;

    fn live(head_ms: u64) -> Live {
        Live {
            timeouts: Timeouts { head_ms, idle_ms: 2 },
            connections_max: 3,
            request_bytes_max: 4,
            default_ttl: None,
            cors_origins: Vec::new(),
        }
    }

    #[test]
    fn the_heart_beats_while_every_reactor_turns_or_has_ended() {
        let (ends, mut controls): (Vec<_>, Vec<_>) = [connect(), connect()].into_iter().unzip();
        let mut heartbeat = Heartbeat::of(&ends);
        assert!(!heartbeat.beats(), "none has begun");
        controls.iter_mut().for_each(|control| control.turn());
        assert!(heartbeat.beats());
        assert!(!heartbeat.beats(), "none has turned since");
        controls[0].turn();
        assert!(!heartbeat.beats(), "one of them is stuck");
        drop(controls.remove(1));
        controls[0].turn();
        assert!(heartbeat.beats());
        drop(controls);
        assert!(heartbeat.beats() && heartbeat.beats());
    }

    #[test]
    fn settings_count_as_taken_when_the_last_reactor_has_them() {
        let (ends, controls): (Vec<_>, Vec<_>) = [connect(), connect()].into_iter().unzip();
        let rung = Arc::new(AtomicUsize::new(0));
        let bell = rung.clone();
        let bells = [Doorbell::new(Box::new(move || {
            bell.fetch_add(1, Ordering::Relaxed);
        }))];
        assert!(!steer(&ends, &bells, &live(1), Duration::from_millis(1)));
        assert_eq!(rung.load(Ordering::Relaxed), 1);
        let mut taken = Vec::new();
        let head_ms = |order| match order {
            Order::Live(live, _) => live.timeouts.head_ms,
            Order::Legacy(_) => unreachable!("nobody has left anything"),
        };
        controls[0].take(|order| taken.push(head_ms(order)));
        let patience = Duration::from_secs(20);
        std::thread::scope(|scope| {
            let steering = scope.spawn(|| steer(&ends, &bells, &live(2), patience));
            while taken.len() < 2 {
                controls[0].take(|order| taken.push(head_ms(order)));
            }
            assert!(!steering.is_finished());
            let mut count = 0;
            while count < 2 {
                controls[1].take(|_| count += 1);
            }
            assert!(steering.join().unwrap());
        });
        assert_eq!(taken, [1, 2]);
        drop(controls);
        assert!(steer(&ends, &bells, &live(3), Duration::from_secs(20)), "all have ended");
    }
}
