//! Sockets and the loop that serves them: the only code that knows mio.
//!
//! Owns the reactors, the listening sockets and the connections. Never looks into a value and never
//! decides what a request means; `http` parses, `api` admits and answers, `shard` executes. What
//! keeps it sound: everything here belongs to one reactor and is touched by its thread alone; other
//! cores are reached only through the mesh.

mod body;
mod buffers;
mod connection;
mod control;
mod core;
mod doors;
mod helper;
#[cfg(test)]
mod journal_tests;
mod listener;
mod output;
mod reactor;
mod socket;
mod stalls;
mod timers;
mod tls;
mod unix;
mod waiting;

pub use control::{Control, Heartbeat, Live, Steering, connect, steer};
pub use core::{Legacy, Recovery, Timeouts};
pub use doors::{DoorError, Doors, reload};
pub use helper::Helper;
pub use listener::{Door, Loads, bind};
pub use reactor::{Reactor, ReactorConfig};
pub use tls::{Certificates, Pair, PairError};
pub use unix::SocketFile;
