//! The journal: every change of every shard on disk, in the order of each shard.
//!
//! A shard appends what it has done to its [`Tap`]; one thread takes from all taps, writes and syncs groups
//! of records, and marks how far each shard's are kept. What a client is answered waits for that mark.
//!
//! # The folder
//!
//! | file | what |
//! |---|---|
//! | `lock` | locked by the process that has the folder |
//! | `manifest` | what the folder consists of; `manifest.new` while it is written, `manifest.copy` for `recover` |
//! | `base-GGGGGG-PPPPP` | part P of the live set of generation G |
//! | `log-NNNNNNNNNN` | segment N of the log; `log.next` before it is used |
//!
//! What counts is the live set that the manifest names, then the segments from the one that it names on, in
//! their order. A start begins a new segment: a file that was closed or read is never written to again, but
//! that a torn tail is cut. All numbers are little-endian, every CRC is a CRC32C, and every file and the
//! manifest say which format they have: 1.
//!
//! **The manifest**: `LUCIDMAN`, format (2 bytes), 1 if no segment was begun yet (2), boot id of the entity
//! tags (4), generation (8), first segment (8), last group before it (8), highest version before it (8), salt
//! of the master key (16), count of folder keys (4) and each with its number (4) and wrapped (60), count of
//! parts (4) and each with its length (8) and last group (8), CRC of all before it (4). It is replaced as a
//! whole: written beside, synced, renamed, the folder synced.
//!
//! **The head of a file**, 256 bytes: `LUCIDLOG`, format (2), kind (1: 1 log, 2 live set, 3 snapshot), 1 if it
//! is sealed (1), number of its folder key (4), its number (8), its generation (8), its mark (8), the salt of
//! the master key (16, of a snapshot), zeros up to 64, its wrapped data key (60), zeros, CRC at 252 (4).
//!
//! **A group**: what is written with one call. Its head, 44 bytes: the mark of the file (8), which is random, so
//! that no value of a client is taken for a head; its number, counted through all segments (8); the last group
//! that was durable when this one was written (8); bytes (8) and pieces (4) that follow; 1 if it closes the log
//! (1), zeros (3); CRC (4). Then its pieces: CRC (4) of the mark, the number of the group, the length and the
//! body; length of the body (4), whose upper bit says that the record goes on in the next piece; the body. A
//! record is cut into pieces of 256 KiB, all of them in one group; it counts when the last is there. One change
//! is one record, and so is one order to the ledger of the node with everything that it changes. The encoded
//! form of records is written down in `record`. In a sealed file every
//! body is AES-256-GCM: its nonce is the number of the group (8) and that of the piece in it (4), the length
//! is vouched for, the tag of 16 bytes is its end. See `seal` for the keys.
//!
//! # Torn or damaged
//!
//! The first place where the log does not go on (a CRC, a number, a missing file) is a *torn tail* if it is
//! behind every group that any head calls durable: a crash leaves that, and it is cut, reported and the cut
//! made durable before a new segment begins. Up to there it is *damage*: nothing is changed and the folder
//! does not open. A live set was durable before the manifest named it, so it is damaged or good. All that is
//! read is made durable at the start, and what no head calls durable is written once more for it, since after
//! a failed sync the system may show what it never wrote.
//!
//! # Modes
//!
//! Under `always` the writer syncs each group before it publishes. Under `everysec` it publishes what is
//! written; another thread syncs half a second after the oldest of it, and if something is unsynced for over a
//! second nothing is published until it is. Under `never` nothing is synced but for compaction and a clean end.
//!
//! # Proof
//!
//! `simulation` runs writer, compaction and recovery by seeds over a disk that loses, tears, fills up and fails
//! at any call: `cargo test --lib journal::simulation`, and
//! `LUCID_SIMULATION_SEEDS=100000 cargo test --release --lib journal::simulation` for long. Mistakes that are
//! planted (`fault`) have to be found by it.

mod base;
mod chore;
#[cfg(test)]
mod damage_tests;
mod disk;
mod driver;
mod fault;
mod files;
mod folder;
mod frame;
mod manifest;
mod offline;
mod output;
mod record;
mod replay;
mod room;
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
#[cfg(test)]
mod writer_tests;

pub use disk::{Disk, DiskFile, FolderOnDisk};
pub use driver::Journal;
#[cfg(test)]
pub(crate) use fault::plant;
pub(crate) use fault::{Fault, is_planted};
pub use folder::{Cut, Folder, JournalConfig, OpenError, Opened, Progress, SEGMENT_BYTES, Sync, Taken};
pub use offline::{FileRecovery, Recovery, append_offline, recover, rekey};
pub use output::{SnapshotReader, SnapshotWriter};
pub use record::{ListChange, Malformed, NodeChanges, NodeRecord, Put, PutList, Record};
pub use replay::Replay;
pub use seal::MasterKey;
#[cfg(test)]
pub(crate) use simulated_disk::{Crash, Random, SimulatedDisk};
pub use tap::{Health, Marks, RING_BYTES, Refusal, Source, Tap, VALUE_BYTES_IN_FLIGHT, connect};
#[cfg(test)]
pub(crate) use testing::{Handed, SteppedWriter, is_disk_full, live_set_bytes, open_on};
