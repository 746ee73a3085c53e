//! Writes records into files that count only when all of them are there: a live set that is written with the
//! node at rest, and a snapshot.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, DiskFile, FolderOnDisk, write_all};
use super::files::{Begun, Found, NotRead, begin, new_mark};
use super::folder::{OpenError, Progress};
use super::manifest::{Keys, Part, base_name};
use super::record::{HEAD_BYTES_MAX, Record};
use super::replay::{Files, Replay};
use super::seal::{MasterKey, SALT_BYTES, random};
use super::segment::{FILE_HEAD_BYTES, FileHead, Group, Kind, SealHead};
use super::validate::check_all;
use crate::clock::Version;

/// Bytes that are gathered before they are written.
const GROUP_BYTES: u64 = 256 * 1_024;

/// One file that is written from its head on.
#[derive(Debug)]
pub(super) struct Output {
    file: Arc<dyn DiskFile>,
    offset: u64,
    group: Group,
    scratch: Vec<u8>,
}

impl Output {
    /// Goes on behind the head, with groups from `sequence` on.
    pub(super) fn new(begun: Begun, sequence: u64) -> Output {
        let Begun { file, mark, sealer } = begun;
        let scratch = Vec::with_capacity(HEAD_BYTES_MAX);
        Output { file, offset: FILE_HEAD_BYTES as u64, group: Group::new(mark, sealer, sequence, 0), scratch }
    }

    pub(super) fn append(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.scratch.clear();
        record.encode_head(&mut self.scratch);
        let value = record.value();
        let value = value.as_ref().map_or(&[][..], |value| value.bytes());
        if (self.scratch.len() + value.len()) as u64 <= GROUP_BYTES {
            self.group.push(&self.scratch, value);
            return if self.group.length() < GROUP_BYTES { Ok(()) } else { self.flush(false) };
        }
        if !self.group.is_empty() {
            self.flush(false)?;
        }
        let Output { file, offset, group, scratch } = self;
        let length = group.length_alone(scratch, value);
        group.write_alone(scratch, value, 0, |bytes, at| write_all(&**file, bytes, *offset + at))?;
        self.begin_next(length);
        Ok(())
    }

    /// Writes what was gathered. A group that closes is written even if it is empty.
    pub(super) fn flush(&mut self, closes: bool) -> io::Result<()> {
        write_all(&*self.file, self.group.finish(self.group.sequence() - 1, closes), self.offset)?;
        self.begin_next(self.group.length());
        Ok(())
    }

    /// The last group is written: makes all durable. Answers what there is.
    pub(super) fn end(mut self) -> io::Result<Part> {
        self.flush(true)?;
        self.file.sync()?;
        Ok(Part { length: self.offset, last_sequence: self.group.sequence() - 1 })
    }

    fn begin_next(&mut self, length: u64) {
        self.offset += length;
        self.group.begin(self.group.sequence() + 1);
    }
}

/// A live set in parts.
#[derive(Debug)]
pub(super) struct Parts<'d> {
    disk: &'d dyn Disk,
    keys: &'d Keys,
    generation: u64,
    part_bytes: u64,
    whole: Vec<Part>,
    output: Output,
}

impl<'d> Parts<'d> {
    pub(super) fn begin(
        disk: &'d dyn Disk,
        keys: &'d Keys,
        generation: u64,
        part_bytes: u64,
    ) -> io::Result<Parts<'d>> {
        let begun = begin(disk, &base_name(generation, 0), (Kind::Base, 0, generation), keys, 0)?;
        Ok(Parts { disk, keys, generation, part_bytes, whole: Vec::new(), output: Output::new(begun, 1) })
    }

    pub(super) fn append(&mut self, record: &Record<'_>) -> io::Result<()> {
        if self.output.offset >= self.part_bytes {
            let number = self.whole.len() as u64 + 1;
            let name = base_name(self.generation, number);
            let begun = begin(self.disk, &name, (Kind::Base, number, self.generation), self.keys, 0)?;
            // Closed groups are counted like others, so the next part goes on behind the closing one.
            let sequence = self.output.group.sequence() + 1;
            let full = std::mem::replace(&mut self.output, Output::new(begun, sequence));
            self.whole.push(full.end()?);
        }
        self.output.append(record)
    }

    /// Makes all durable, names included.
    pub(super) fn end(mut self) -> io::Result<Vec<Part>> {
        self.whole.push(self.output.end()?);
        self.disk.sync_folder()?;
        Ok(self.whole)
    }
}

/// A live set on its way into a file by itself. The file has another name until it is whole, so one that was
/// there stays until then.
#[derive(Debug)]
pub struct SnapshotWriter {
    output: Output,
    unfinished: Unfinished,
}

/// The file as long as it is not whole. Goes with the attempt that does not finish it.
#[derive(Debug)]
struct Unfinished {
    disk: FolderOnDisk,
    name: String,
    is_whole: bool,
}

impl Unfinished {
    fn path(&self) -> String {
        format!("{}.new", self.name)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_whole {
            // If that is refused too, the next attempt begins the file anew.
            let _ = self.disk.remove(&self.path());
        }
    }
}

impl SnapshotWriter {
    /// Begins a snapshot, sealed if there is a key.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn create(path: &Path, key: Option<&MasterKey>) -> io::Result<SnapshotWriter> {
        let (folder, name) = split(path)?;
        let disk = FolderOnDisk::open(&folder)?;
        let unfinished = Unfinished { disk, name, is_whole: false };
        let file = unfinished.disk.create(&unfinished.path())?;
        let mark = new_mark();
        let (sealer, seal) = match key {
            None => (None, None),
            Some(key) => {
                let salt: [u8; SALT_BYTES] = random();
                let (sealer, wrapped) = key.derive(&salt).new_sealer();
                (Some(sealer), Some(SealHead { folder_key: 0, salt, wrapped }))
            }
        };
        let head = FileHead { kind: Kind::Snapshot, number: 0, generation: 0, mark, seal };
        write_all(&*file, &head.encode(), 0)?;
        Ok(SnapshotWriter { output: Output::new(Begun { file, mark, sealer }, 1), unfinished })
    }

    /// Appends a part of the live set.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn append(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.output.append(record)
    }

    /// The live set is complete: gives the file its name.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn finish(self) -> io::Result<()> {
        let SnapshotWriter { output, mut unfinished } = self;
        output.end()?;
        unfinished.disk.rename(&unfinished.path(), &unfinished.name)?;
        unfinished.is_whole = true;
        unfinished.disk.sync_folder()
    }
}

/// A snapshot of which all is known to be good.
#[derive(Debug)]
pub struct SnapshotReader {
    files: Arc<Files>,
    version_max: u64,
    records: u64,
}

impl SnapshotReader {
    /// Reads a snapshot once, and says how far that has come.
    ///
    /// # Errors
    /// When it is not there, damaged or incomplete, or sealed with another key.
    pub fn open(
        path: &Path,
        key: Option<&MasterKey>,
        progress: &Progress,
    ) -> Result<SnapshotReader, OpenError> {
        let shown = path.display().to_string();
        let (folder, name) = split(path).map_err(OpenError::io(shown.as_str()))?;
        let disk = FolderOnDisk::open(&folder).map_err(OpenError::io(shown.as_str()))?;
        // Whether it is there at all is for the caller to tell from damage.
        drop(disk.open(&name).map_err(OpenError::io(shown.as_str()))?);
        let fail = |error: NotRead| OpenError::not_read(&shown, error);
        let mut found = Found::open(&disk, name, (Kind::Snapshot, 0, 0)).map_err(fail)?;
        found.name = shown.clone();
        let keys = match (&found.head.seal, key) {
            (None, None) => Keys::default(),
            (Some(_), None) => return Err(OpenError::KeyMissing),
            (None, Some(_)) => return Err(OpenError::NotSealed),
            (Some(seal), Some(key)) => {
                let key = key.derive(&seal.salt);
                key.unwrap_sealer(&seal.wrapped).map_err(|_| OpenError::WrongKey)?;
                Keys::of_one(seal.folder_key, key)
            }
        };
        progress.expect(found.length);
        let checked = check_all(std::slice::from_ref(&found), &keys, 1, progress)?;
        let checked = &checked[0];
        if let Some(bad) = checked.bad {
            return Err(OpenError::damaged(&shown, bad.offset, bad.what));
        }
        if !checked.closed || checked.first != Some(1) {
            return Err(OpenError::damaged(&shown, checked.end, "the snapshot is not complete"));
        }
        let (version_max, records) = (checked.version_max, checked.records);
        Ok(SnapshotReader { files: Arc::new(Files { files: vec![found], keys }), version_max, records })
    }

    /// The highest version in it.
    pub fn version_max(&self) -> Version {
        Version(self.version_max)
    }

    /// Records in it.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// All records. A clone of a replay begins at the beginning.
    pub fn replay(&self) -> Replay {
        Replay::new(self.files.clone())
    }
}

/// A file's folder and its name in it.
fn split(path: &Path) -> io::Result<(PathBuf, String)> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidFilename)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((folder.into(), name.into()))
}
