//! A core's part of the keys, and the mesh that brings operations to it from the other cores.
//!
//! One owner for each key, so no lock, and operations on a key are linearizable. [`Shard::apply`] is
//! the one place where a write happens; it knows nothing of other cores. [`Mesh`] knows nothing of
//! keys: it carries [`Job`]s. Nothing here knows HTTP or sockets.

mod apply;
#[cfg(test)]
mod apply_model;
#[cfg(test)]
mod apply_tests;
mod counter;

mod job;
mod list;
mod list_call;
mod mesh;

pub use crate::doorbell::Doorbell;
pub use apply::Shard;
pub use job::{Job, Ticket};
pub use list::ListTask;
pub use list_call::{Bytes, ListAction, ListOutcome, Needle, Values};
pub use mesh::{Arrival, Mesh, Message};

pub use crate::store::{Listed, Scan};
