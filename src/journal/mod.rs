//! The journal: every change of every shard on disk, in the order of each shard.
//!
//! A shard appends what it has done to its [`Tap`]; one thread takes from all taps, writes and syncs groups
//! of records, and marks how far each shard's are kept. What a client is answered waits for that mark.

mod base;
mod chore;
mod disk;
mod driver;
mod fault;
mod files;
mod folder;
mod manifest;
mod offline;
mod output;
mod record;
mod replay;
mod scan;
mod seal;
mod segment;
#[cfg(test)]
mod simulated_disk;
#[cfg(test)]
mod simulation;
mod tap;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod validate;
mod writer;

pub use disk::{Disk, DiskFile, FolderOnDisk};
pub use driver::Journal;
pub use folder::{Cut, Folder, JournalConfig, OpenError, Opened, Progress, SEGMENT_BYTES, Sync};
pub use offline::{FileRecovery, Recovery, append_offline, recover, rekey};
pub use output::{SnapshotReader, SnapshotWriter};
pub use record::{ListChange, Malformed, Put, PutList, Record};
pub use replay::Replay;
pub use seal::MasterKey;
pub use tap::{Health, Marks, RING_BYTES, Source, Tap, connect};
#[cfg(test)]
pub(crate) use testing::Handed;
