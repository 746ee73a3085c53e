//! Tells the service manager how the node is, by systemd's protocol (`sd_notify(3)`): ready, reloading,
//! stopping, and that every reactor turns.
//!
//! Without a service manager (no `NOTIFY_SOCKET`) nothing is said. What cannot be said is lost: the node
//! does not stop for it.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::net::Heartbeat;
use crate::shard::Doorbell;

/// Reports in the time after which the service manager takes the node for dead. Two would do; with four,
/// one that is late on a busy machine is no harm.
const BEATS_PER_TIMEOUT: u32 = 4;

/// Shortest time between two reports. A manager that wants more would have the node do nothing else.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// The node serves.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Longest time between two reports of how far a start or an end has come, in microseconds. Before it has passed,
/// the service manager does not take it for failed.
const PATIENCE_US: u32 = 30_000_000;

/// The node checks or brings back what it has kept: so many bytes, of so many.
pub fn starting(what: &str, (done, of): (u64, u64)) {
    let percent = (done * 100).checked_div(of).unwrap_or(0);
    notify(&[
        NotifyState::Status(&format!("{what}: {percent} %, {done} of {of} bytes")),
        NotifyState::ExtendTimeoutUsec(PATIENCE_US),
    ]);
}

/// The node reads its settings again. The time is demanded by `Type=notify-reload`.
pub fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
}

/// The node finishes what is under way.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("Stopping: finishing what is under way")]);
}

/// The node writes what is to be kept of it: so many entries so far.
pub fn saving(entries: u64) {
    notify(&[
        NotifyState::Status(&format!("Stopping: {entries} entries are written")),
        NotifyState::ExtendTimeoutUsec(PATIENCE_US),
    ]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("cannot tell the service manager at NOTIFY_SOCKET how the node is: {error}");
    }
}

/// Reports that the node is alive for as long as every reactor turns. Stops when it is dropped.
pub struct Watchdog {
    _stop: Sender<()>,
}

impl Watchdog {
    /// Starts a thread for it, if the service manager wants to hear (`WatchdogSec=`). It rings the
    /// reactors, which may be asleep, and looks some time later whether each has turned.
    pub fn start(mut heartbeat: Heartbeat, bells: Arc<[Doorbell]>) -> io::Result<Option<Watchdog>> {
        // None and zero both mean that nobody waits for reports.
        let timeout = sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero());
        let Some(timeout) = timeout else { return Ok(None) };
        let interval = (timeout / BEATS_PER_TIMEOUT).max(INTERVAL_MIN);
        let (stop, stopped) = channel::<()>();
        std::thread::Builder::new().name("lucid-watchdog".into()).spawn(move || {
            loop {
                bells.iter().for_each(Doorbell::ring_always);
                if stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                if heartbeat.beats() {
                    notify(&[NotifyState::Watchdog]);
                } else {
                    log::error!("a worker has not turned for {interval:?}: the service manager is not told");
                }
            }
        })?;
        Ok(Some(Watchdog { _stop: stop }))
    }
}
