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
mod helper;
mod listener;
mod output;
mod reactor;
mod stalls;
mod timers;

pub use control::{Control, Heartbeat, Live, Steering, connect, steer};
pub use core::Timeouts;
pub use helper::Helper;
pub use listener::{ListenerSocket, Loads, bind, share};
pub use reactor::{Reactor, ReactorConfig};
