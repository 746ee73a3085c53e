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
mod base;
mod bytes;
mod comeback;
mod counter;
mod databases;
mod databases_kept;
mod durable;
#[cfg(test)]
mod durable_tests;
mod job;
mod list;
mod list_call;
mod mesh;
#[cfg(test)]
mod replay_tests;
mod restore;
#[cfg(test)]
mod simulation;

pub use crate::doorbell::Doorbell;
pub use apply::Shard;
pub use bytes::Bytes;
pub use comeback::{Comeback, ComebackPart, NotBack};
pub use databases::{DatabaseChange, DatabaseOrder, Databases, LOGS, NotChanged, Registry};
pub use databases_kept::{DatabasesWalk, Unrestored as DatabasesUnrestored};
pub use job::{Job, Ticket};
pub use list::{Budget, ListTask};
pub use list_call::{ListAction, ListOutcome, Needle, Values};
pub use mesh::{Arrival, Mesh, Message};
pub use restore::RestoreError;

pub use crate::journal::{Health, NodeRecord, Refusal, Tap};
pub use crate::store::{
    Brought, Kept, Listed, Scan, ScanPlace, Sweep, Swept, SweptValue, View, Walk, WalkBudget, WalkEntry,
    Walked,
};
