//! What takes the disk long and so is done beside the writer: syncing, making the next segment, putting a new
//! live set in the place of the old one.
//!
//! The writer gives out chores and goes on; each comes back as what has come of it. Two threads do them in
//! the order in which they were given out, one the syncing of the log, one everything else, so that an answer
//! never waits for a chore of compaction. The simulation does them when it likes.

use std::io;
use std::sync::Arc;

use super::disk::{Disk, DiskFile, is_full};
use super::fault::{Fault, is_planted};
use super::files::{Begun, begin};
use super::manifest::{Keys, Manifest, log_name};
use super::segment::Kind;

/// The name of the next segment before it is used.
pub(super) const LOG_NEXT: &str = "log.next";

/// Something to be done.
#[derive(Debug)]
pub(super) enum Chore {
    /// Makes files of the log durable, and the names in the folder if asked.
    Sync { files: Vec<Arc<dyn DiskFile>>, folder: bool },
    /// Makes the next segment.
    Prepare { number: u64, keys: Keys, room: Room },
    /// Makes more room in the next segment, which has so much.
    Grow { file: Arc<dyn DiskFile>, from: u64, room: Room },
    /// Makes a part of the new live set durable.
    SyncBase { file: Arc<dyn DiskFile> },
    /// Makes the new live set count, and removes what does not any more.
    Switch { manifest: Manifest, last_part: Arc<dyn DiskFile>, stale: Vec<String> },
    /// Removes what an attempt has left.
    Remove { names: Vec<String> },
}

/// How much room a segment is to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Its bytes.
    pub bytes: u64,
    /// If there are not so many, a quarter of them, or of that, but no less than this.
    pub bytes_min: u64,
    /// What it leaves free.
    pub spare: u64,
}

/// What has come of it.
#[derive(Debug)]
pub(super) enum Done {
    Synced(io::Result<()>),
    Prepared(io::Result<(Begun, u64)>),
    Grown(io::Result<u64>),
    BaseSynced(io::Result<()>),
    /// False if the disk is full, and the old live set counts.
    Switched(io::Result<bool>),
    Removed,
}

impl Chore {
    /// Whether it is of the syncing of the log.
    pub(super) fn is_sync(&self) -> bool {
        matches!(self, Chore::Sync { .. })
    }

    /// Does it.
    pub(super) fn run(self, disk: &dyn Disk) -> Done {
        match self {
            Chore::Sync { files, folder } => Done::Synced(sync(disk, &files, folder)),
            Chore::Prepare { number, keys, room } => Done::Prepared(prepare(disk, number, &keys, room)),
            Chore::Grow { file, from, room } => Done::Grown(grow(disk, &*file, from, room)),
            Chore::SyncBase { file } => Done::BaseSynced(sync_base(&*file)),
            Chore::Switch { manifest, last_part, stale } => {
                Done::Switched(switch(disk, &manifest, &*last_part, &stale))
            }
            Chore::Remove { names } => {
                remove(disk, &names);
                Done::Removed
            }
        }
    }
}

fn sync(disk: &dyn Disk, files: &[Arc<dyn DiskFile>], folder: bool) -> io::Result<()> {
    if is_planted(Fault::SyncSkipped) {
        return Ok(());
    }
    files.iter().try_for_each(|file| file.sync())?;
    if folder && !is_planted(Fault::FolderNotSynced) { disk.sync_folder() } else { Ok(()) }
}

fn prepare(disk: &dyn Disk, number: u64, keys: &Keys, room: Room) -> io::Result<(Begun, u64)> {
    let mut bytes = room.bytes;
    loop {
        let begun = is_free(disk, bytes, room.spare)
            .and_then(|()| begin(disk, LOG_NEXT, (Kind::Log, number, 0), keys, bytes))
            .and_then(|begun| begun.file.sync().map(|()| begun));
        match begun {
            Ok(begun) => return Ok((begun, bytes)),
            Err(error) => {
                remove(disk, &[LOG_NEXT.into()]);
                if !is_full(&error) || bytes / 4 < room.bytes_min {
                    return Err(error);
                }
                bytes /= 4;
            }
        }
    }
}

fn grow(disk: &dyn Disk, file: &dyn DiskFile, from: u64, room: Room) -> io::Result<u64> {
    is_free(disk, room.bytes - from, room.spare)?;
    file.allocate(room.bytes)?;
    file.sync().map(|()| room.bytes)
}

/// Whether a file may take so many bytes and others are left free: if not, the disk counts as full.
fn is_free(disk: &dyn Disk, bytes: u64, spare: u64) -> io::Result<()> {
    // One that others have a part in is asked for nothing that it does not need.
    match spare == 0 || disk.available()? >= bytes.saturating_add(spare) {
        true => Ok(()),
        false => Err(io::ErrorKind::StorageFull.into()),
    }
}

fn sync_base(file: &dyn DiskFile) -> io::Result<()> {
    if is_planted(Fault::BaseNotSynced) { Ok(()) } else { file.sync() }
}

fn switch(
    disk: &dyn Disk,
    manifest: &Manifest,
    last_part: &dyn DiskFile,
    stale: &[String],
) -> io::Result<bool> {
    // The names of the parts before that of the manifest.
    let prepared =
        sync_base(last_part).and_then(|()| disk.sync_folder()).and_then(|()| manifest.write_new(disk));
    match prepared {
        Ok(()) => {}
        Err(error) if is_full(&error) => return Ok(false),
        Err(error) => return Err(error),
    }
    Manifest::place_new(disk)?;
    manifest.write_copy(disk);
    remove(disk, stale);
    Ok(true)
}

/// What cannot be removed now is removed when the folder is opened the next time.
fn remove(disk: &dyn Disk, names: &[String]) {
    for name in names {
        if let Err(error) = disk.remove(name)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("{name} could not be removed from {}: {error}", disk.shown());
        }
    }
}

/// Puts the next segment into its place. Its name is durable with the next sync of the folder.
pub(super) fn place_next(disk: &dyn Disk, number: u64) -> io::Result<()> {
    disk.rename(LOG_NEXT, &log_name(number))
}
