//! The snapshot of a node without a journal: taken when it ends, brought back when it starts.
//!
//! A snapshot is good once. When everything in it is back, the file goes: a node that is killed later
//! begins with nothing rather than with what was, keys that were deleted since and credentials that were
//! ended among it. One that cannot be read is put aside, and the node begins with nothing.

use std::collections::HashSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::api::{Api, NodeState};
use crate::clock::{Clock, Now};
use crate::config;
use crate::journal::{MasterKey, Put, PutList, Record, Snapshot, SnapshotError, SnapshotWriter};
use crate::net::Recovery;
use crate::op::{KeyHasher, Namespace};
use crate::shard::{Shard, Walk, WalkBudget, Walked};

use super::keeping;

/// Bytes that a reactor brings back in a turn.
const SLICE_BYTES: u64 = 512 * 1_024;

/// What is walked along at a time.
const SLICE: WalkBudget = WalkBudget { entries: 4_096, bytes: 1 << 20 };

fn key(snapshot: &config::Snapshot) -> Option<MasterKey> {
    snapshot.private_key.as_ref().map(|key| MasterKey::from_text(key.expose()))
}

/// Reads the file that an earlier run left, if there is a good one.
pub fn open(settings: &config::Snapshot) -> Option<Snapshot> {
    let path = &settings.file;
    match Snapshot::open(path, key(settings).as_ref()) {
        Ok(snapshot) => Some(snapshot),
        Err(SnapshotError::Io(error)) if error.kind() == ErrorKind::NotFound => None,
        Err(why) => {
            let aside = aside(path);
            log::error!("cannot read the snapshot {}: {why}; the node begins with nothing", path.display());
            match fs::rename(path, &aside) {
                Ok(()) => log::error!("what is there was put aside as {}", aside.display()),
                Err(error) => log::error!("what is there cannot be put aside: {error}"),
            }
            None
        }
    }
}

/// A name beside the file that nothing has.
fn aside(path: &Path) -> PathBuf {
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{number}"));
        PathBuf::from(name)
    };
    (1..u32::MAX).map(name).find(|name| fs::symlink_metadata(name).is_err()).unwrap_or_else(|| name(0))
}

/// Removes a snapshot that is back.
pub fn remove(settings: &config::Snapshot) {
    if let Err(error) = fs::remove_file(&settings.file) {
        log::warn!("the snapshot {} is back and cannot be removed: {error}", settings.file.display());
    }
}

/// What all reactors know that bring a snapshot back.
pub struct Loading {
    pub snapshot: Snapshot,
    pub hasher: KeyHasher,
    pub workers: usize,
    pub spaces: Arc<HashSet<Namespace>>,
    pub state: Arc<NodeState>,
    /// Tells the main thread that all is back.
    pub done: Arc<dyn Fn() + Send + std::marker::Sync>,
}

impl Loading {
    /// The part of one reactor.
    pub fn of(&self, me: usize) -> Recovery {
        let (mut reader, hasher, spaces) = (self.snapshot.read(), self.hasher.clone(), self.spaces.clone());
        let (workers, version_max, bytes) =
            (self.workers, self.snapshot.version_max(), self.snapshot.bytes());
        let (state, done) = (self.state.clone(), self.done.clone());
        let mut left_out = 0_u64;
        Recovery::new(move |shard, now| {
            let before = reader.offset();
            let mut more = true;
            while more && reader.offset() - before < SLICE_BYTES {
                let read = reader.next(|record| {
                    let Some((namespace, key)) = keeping::place(&record) else { return };
                    let is_mine = || KeyHasher::owner(hasher.hash(namespace, key), workers) == me;
                    // A cache that has become smaller keeps what fits.
                    if spaces.contains(&namespace) && is_mine() && shard.restore(&record, now).is_err() {
                        left_out += 1;
                    }
                });
                more = read.map_err(|why| io::Error::other(why.to_string()))?;
            }
            let now_at = if more { reader.offset() } else { bytes };
            state.add_recovered(now_at - before);
            if !more {
                shard.raise_clock(version_max);
                if left_out > 0 {
                    log::warn!("{left_out} entries of the snapshot found no room");
                }
                if state.has_recovered() {
                    done();
                }
            }
            Ok(!more)
        })
    }
}

/// Writes what a node held when it ended. Answers how many entries that is.
///
/// # Errors
/// What the system says. Then the file that was there before still is.
pub fn save(settings: &config::Snapshot, boot_id: u32, remains: Vec<(Shard, Api)>) -> io::Result<u64> {
    let mut writer = SnapshotWriter::begin(&settings.file, boot_id, key(settings).as_ref())?;
    for (_, api) in &remains {
        for (key, value) in api.ledger_records() {
            writer.append(&Record::Node { key: &key, value: Some(&value) })?;
        }
    }
    let now = Clock::start().now();
    let mut entries = 0;
    for (mut shard, _) in remains {
        entries += save_shard(&mut writer, &mut shard, now)?;
    }
    writer.end()?;
    Ok(entries)
}

fn save_shard(writer: &mut SnapshotWriter, shard: &mut Shard, now: Now) -> io::Result<u64> {
    let (mut walk, mut entries, mut values) = (Walk::new(), 0, Vec::new());
    loop {
        let mut result = Ok(());
        let done = shard.walk(&mut walk, SLICE, now, |entry| {
            if result.is_err() {
                return;
            }
            let (namespace, key) = (entry.namespace, entry.key);
            result = match entry.kept {
                Walked::Value(view) => writer.append(&Record::Put(Put {
                    namespace,
                    key,
                    version: view.version,
                    expires_ms: view.expires_ms,
                    lock: view.lock,
                    content_type: view.content_type,
                    encoding: view.encoding,
                    value: view.value,
                })),
                Walked::List(view) => {
                    values.clear();
                    for text in view.kept.texts() {
                        values.extend_from_slice(&(text.len() as u32).to_le_bytes());
                        values.extend_from_slice(text);
                    }
                    let (version, expires_ms) = (view.version, view.expires_ms);
                    let list = PutList { namespace, key, version, expires_ms, values: &values };
                    writer.append(&Record::PutList(list))
                }
            };
            entries += 1;
        });
        result?;
        if done {
            return Ok(entries);
        }
    }
}
