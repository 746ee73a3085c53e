//! The snapshot of a node without a journal: taken when it ends, brought back when it starts.
//!
//! A snapshot is good once. When everything in it is back, the file goes: a node that is killed later
//! begins with nothing rather than with what was, keys that were deleted since and credentials that were
//! ended among it. One that cannot be read is put aside, and the node begins with nothing.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use crate::api::{Api, LedgerWalk};
use crate::clock::{Clock, Now, Version};
use crate::config;
use crate::journal::{
    MasterKey, NodeRecord, OpenError, Progress, Put, PutList, Record, Replay, SnapshotReader, SnapshotWriter,
};
use crate::op::Payload;
use crate::shard::{Shard, Walk, WalkBudget, Walked};

/// The record with the boot id of the node's entity tags.
const BOOT_ID: &[u8] = b"boot-id";

/// Bytes that are read at a time of what the node kept of itself.
const LEDGER_STEP_BYTES: u64 = 64 * 1_024;

/// What is walked along at a time.
const SLICE: WalkBudget = WalkBudget { entries: 4_096, bytes: 1 << 20 };

fn key(snapshot: &config::Snapshot) -> Option<MasterKey> {
    snapshot.private_key.as_ref().map(|key| MasterKey::from_text(key.expose()))
}

/// What an earlier run has left.
#[derive(Debug)]
pub struct Snapshot {
    reader: SnapshotReader,
    boot_id: u32,
    ledger: Vec<Kept>,
}

/// Something that the node kept of itself, under its name.
type Kept = (Box<[u8]>, Zeroizing<Vec<u8>>);

impl Snapshot {
    fn open(settings: &config::Snapshot, progress: &Progress) -> Result<Snapshot, OpenError> {
        let reader = SnapshotReader::open(&settings.file, key(settings).as_ref(), progress)?;
        let (mut boot_id, mut ledger, mut is_over) = (0, Vec::new(), false);
        let mut replay = reader.replay();
        // What the node kept of itself comes first.
        while !is_over {
            is_over = replay.next_slice(LEDGER_STEP_BYTES, |record| {
                let Record::Node(changes) = record else { return };
                for (name, value) in changes.iter() {
                    let value = value.unwrap_or_default();
                    match name {
                        BOOT_ID => boot_id = value.first_chunk().map_or(0, |id| u32::from_le_bytes(*id)),
                        _ => ledger.push((name.into(), Zeroizing::new(value.to_vec()))),
                    }
                }
            })?;
        }
        Ok(Snapshot { reader, boot_id, ledger })
    }

    /// The boot id of the tags of what is in it.
    pub fn boot_id(&self) -> u32 {
        self.boot_id
    }

    /// The highest version in it.
    pub fn version_max(&self) -> Version {
        self.reader.version_max()
    }

    /// What the node kept of itself.
    pub fn ledger(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.ledger.iter().map(|(key, value)| (&**key, value.as_slice()))
    }

    /// All records.
    pub fn replay(&self) -> Replay {
        self.reader.replay()
    }
}

/// Reads the file that an earlier run left, if it is a good one.
pub fn open(settings: &config::Snapshot, progress: &Progress) -> Option<Snapshot> {
    let path = &settings.file;
    match Snapshot::open(settings, progress) {
        Ok(snapshot) => Some(snapshot),
        // Whoever has stopped it does not need it, and nothing is known against it.
        Err(_) if progress.begin_changes().is_err() => None,
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
    if let Err(error) = fs::remove_file(&settings.file)
        && error.kind() != ErrorKind::NotFound
    {
        log::warn!("the snapshot {} is back and cannot be removed: {error}", settings.file.display());
    }
}

/// Writes what a node held when it ended, and counts the entries as it goes.
///
/// # Errors
/// What the system says. Then the file that was there before still is.
pub fn save(
    settings: &config::Snapshot,
    boot_id: u32,
    remains: Vec<(Shard, Api)>,
    written: &AtomicU64,
) -> io::Result<()> {
    let mut writer = SnapshotWriter::create(&settings.file, key(settings).as_ref())?;
    writer.append(&NodeRecord::of(&[(BOOT_ID, Some(boot_id.to_le_bytes()))]).record())?;
    for (_, api) in &remains {
        let mut walk = LedgerWalk::default();
        loop {
            let records = api.ledger_slice(&mut walk);
            if records.is_empty() {
                break;
            }
            writer.append(&NodeRecord::of(&records).record())?;
        }
    }
    let now = Clock::start().now();
    for (mut shard, _) in remains {
        save_shard(&mut writer, &mut shard, now, written)?;
    }
    writer.finish()
}

fn save_shard(
    writer: &mut SnapshotWriter,
    shard: &mut Shard,
    now: Now,
    written: &AtomicU64,
) -> io::Result<()> {
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
                    let list =
                        PutList { namespace, key, version, expires_ms, values: Payload::Bytes(&values) };
                    writer.append(&Record::PutList(list))
                }
            };
            entries += 1;
        });
        written.fetch_add(std::mem::take(&mut entries), Ordering::Relaxed);
        result?;
        if done {
            return Ok(());
        }
    }
}
