//! The journal: every change of every shard on disk, in the order of each shard.
//!
//! A shard appends what it has done to its [`Tap`]; one thread takes from all taps, writes and syncs groups
//! of records, and marks how far each shard's are kept. What a client is answered waits for that mark.

mod record;
mod tap;

pub use record::{ListChange, Malformed, Put, PutList, Record};
pub use tap::{Health, Marks, RING_BYTES, Source, Tap, connect};
