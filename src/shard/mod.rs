//! A core's part of the keys: one owner, so no lock, and operations on a key are linearizable.
//!
//! [`Shard::apply`] is the one place where a write happens. Nothing here knows HTTP, sockets or
//! other cores.

mod apply;
#[cfg(test)]
mod apply_model;
#[cfg(test)]
mod apply_tests;
mod counter;

pub use crate::store::{Listed, Scan};
pub use apply::Shard;
