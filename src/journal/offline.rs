//! What is done to a folder while no node has it: records appended, its key changed, what can be kept of a
//! damaged one saved.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::chore::{LOG_NEXT, place_next};
use super::disk::{Disk, FolderOnDisk};
use super::files::{Found, NotRead, begin};
use super::folder::{Folder, JournalConfig, LOCK, OpenError, Opened, SEGMENT_BYTES, Sync};
use super::manifest::{BadManifest, FolderKey, Keys, Manifest, base_name, log_name, log_number};
use super::output::{Output, Parts};
use super::record::Record;
use super::scan::{Event, Scan};
use super::seal::{MasterKey, random};
use super::segment::Kind;

/// Appends records to the folder of a node that does not run, durably.
///
/// # Errors
/// When the folder is not to be opened; see [`Folder::open`].
pub fn append_offline(
    location: &Path,
    config: &JournalConfig,
    records: &[Record<'_>],
) -> Result<(), OpenError> {
    Folder::open(location, config)?.append(records)
}

impl Opened {
    /// Appends records, durably, and gives the folder back.
    ///
    /// # Errors
    /// Those of the disk. Then either all of the records are there or none.
    pub fn append(mut self, records: &[Record<'_>]) -> Result<(), OpenError> {
        let shown = self.disk.shown();
        let mut append = || {
            let number = self.segment + 1;
            let begun = begin(&*self.disk, LOG_NEXT, (Kind::Log, number, 0), &self.keys, 0)?;
            let mut output = Output::new(begun, self.sequence + 1);
            records.iter().try_for_each(|record| output.append(record))?;
            output.end()?;
            // It counts from here on, and is whole.
            place_next(&*self.disk, number)?;
            self.disk.sync_folder()?;
            self.manifest.is_begun(&*self.disk)
        };
        append().map_err(OpenError::io(shown))
    }
}

/// Gives a folder another key, or one at all, or none any more. No node has it.
///
/// From one key to another only the manifest is written anew: what is there stays sealed with what the old
/// key unwrapped, under the new key, until compaction has replaced it. Otherwise everything is.
///
/// # Errors
/// When the folder is not to be opened with the old key.
pub fn rekey(location: &Path, old: Option<&MasterKey>, new: Option<&MasterKey>) -> Result<(), OpenError> {
    let disk = FolderOnDisk::open(location).map_err(OpenError::io(location.display().to_string()))?;
    rekey_on(Arc::new(disk), old, new)
}

pub(super) fn rekey_on(
    disk: Arc<dyn Disk>,
    old: Option<&MasterKey>,
    new: Option<&MasterKey>,
) -> Result<(), OpenError> {
    let shown = disk.shown();
    let config = JournalConfig { key: old.cloned(), ..JournalConfig::new(Sync::Always) };
    // Whatever follows begins with a folder that is known to be good.
    let opened = Folder::open_on(disk.clone(), &config)?;
    let mut manifest = opened.manifest.clone();
    match (old, new) {
        (None, None) => Ok(()),
        (Some(old), Some(new)) => {
            let (old, salt) = (old.derive(&manifest.salt), random());
            let new = new.derive(&salt);
            for key in &mut manifest.keys {
                key.wrapped = new.rewrap(&old, &key.wrapped).map_err(|_| OpenError::WrongKey)?;
            }
            let number = manifest.keys.iter().map(|key| key.number).max().unwrap_or(0) + 1;
            manifest.keys.push(FolderKey { number, wrapped: new.new_wrapping().1 });
            manifest.salt = salt;
            manifest.write(&*disk).map_err(OpenError::io(shown))
        }
        (_, new) => {
            let fresh = Manifest::of_new_folder(new);
            (manifest.salt, manifest.keys) = (fresh.salt, fresh.keys);
            rewrite(&opened, manifest, new)
        }
    }
}

/// Writes all records of a folder into a new live set under other keys.
fn rewrite(opened: &Opened, mut manifest: Manifest, key: Option<&MasterKey>) -> Result<(), OpenError> {
    let disk = &*opened.disk;
    let keys = keys_of(&manifest, key);
    manifest.generation += 1;
    manifest.fresh = true;
    manifest.version_max = opened.version_max().0;
    manifest.log_first = opened.segment + 1;
    manifest.sequence = opened.sequence;
    let mut parts = Parts::begin(disk, &keys, manifest.generation, SEGMENT_BYTES).map_err(failed(disk))?;
    let (mut replay, mut result) = (opened.replay(), Ok(()));
    while !replay.next_slice(SEGMENT_BYTES, |record| {
        if result.is_ok() {
            result = parts.append(&record);
        }
    })? {}
    result.map_err(failed(disk))?;
    manifest.parts = parts.end().map_err(failed(disk))?;
    manifest.write(disk).map_err(failed(disk))?;
    let old_parts =
        (0..opened.manifest.parts.len() as u64).map(|part| base_name(opened.manifest.generation, part));
    let old_log = opened.log.iter().map(|(number, _)| log_name(*number));
    for name in old_parts.chain(old_log) {
        disk.remove(&name).map_err(OpenError::io(name.as_str()))?;
    }
    disk.sync_folder().map_err(failed(disk))
}

fn failed(disk: &dyn Disk) -> impl FnOnce(io::Error) -> OpenError {
    OpenError::io(disk.shown())
}

fn keys_of(manifest: &Manifest, key: Option<&MasterKey>) -> Keys {
    key.map_or_else(Keys::default, |key| manifest.unwrap_keys(key).expect("just wrapped with it"))
}

/// What can be kept of a folder.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Each file, in the order in which they count.
    pub files: Vec<FileRecovery>,
    /// Whether the manifest itself could not be read, and an older copy of it was taken.
    pub manifest_lost: bool,
    /// Records that can be kept.
    pub records: u64,
}

/// What can be kept of a file.
#[derive(Clone, Debug, Default)]
pub struct FileRecovery {
    /// Its name.
    pub name: String,
    /// Records that can be kept.
    pub records: u64,
    /// Places that are bad: where in the file, and what is wrong. What is there up to the next good group is
    /// lost.
    pub bad: Vec<(u64, String)>,
}

impl Recovery {
    /// Whether nothing is lost.
    pub fn is_whole(&self) -> bool {
        !self.manifest_lost && self.files.iter().all(|file| file.bad.is_empty())
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.manifest_lost {
            writeln!(f, "manifest: cannot be read; its copy was taken, which may be older")?;
        }
        for file in &self.files {
            writeln!(f, "{}: {} records can be kept", file.name, file.records)?;
            for (offset, what) in &file.bad {
                writeln!(f, "{}: damaged at byte {offset}: {what}", file.name)?;
            }
        }
        write!(f, "{} records can be kept", self.records)
    }
}

/// Says what can be kept of a folder, and writes it into another one, which must be new or empty, if one is
/// named. The folder itself is not changed, and no node may have it.
///
/// Whatever can be read counts, in its order: behind a bad place too. A change that is lost may leave an older
/// value in its place, or a deleted key: the report names each place.
///
/// # Errors
/// When nothing can be read at all, the key is not the right one, or the other folder cannot be written.
pub fn recover(location: &Path, to: Option<&Path>, key: Option<&MasterKey>) -> Result<Recovery, OpenError> {
    let disk = FolderOnDisk::open(location).map_err(OpenError::io(location.display().to_string()))?;
    let target = match to {
        None => None,
        Some(to) => {
            let target = FolderOnDisk::make(to).map_err(OpenError::io(to.display().to_string()))?;
            if target.list().map_err(failed(&target))?.iter().any(|name| name != LOCK) {
                let error = io::Error::new(io::ErrorKind::DirectoryNotEmpty, "the folder is not empty");
                return Err(OpenError::Io { what: target.shown(), error });
            }
            Some(target)
        }
    };
    recover_on(&disk, target.as_ref().map(|target| target as &dyn Disk), key)
}

pub(super) fn recover_on(
    disk: &dyn Disk,
    to: Option<&dyn Disk>,
    key: Option<&MasterKey>,
) -> Result<Recovery, OpenError> {
    let _lock = disk.lock(LOCK).map_err(failed(disk))?.ok_or(OpenError::Taken)?;
    let mut recovery = Recovery::default();
    let manifest = match Manifest::read(disk) {
        Ok(Some(manifest)) => manifest,
        Err(BadManifest::Version(format)) => {
            return Err(OpenError::LaterVersion { file: "manifest".into(), format });
        }
        Ok(None) | Err(BadManifest::Damaged | BadManifest::Io(_)) => {
            recovery.manifest_lost = true;
            Manifest::read_copy(disk).ok_or_else(|| {
                OpenError::damaged("manifest", 0, "neither it nor its copy can be read; nothing can be kept")
            })?
        }
    };
    let keys = match (key, manifest.is_sealed()) {
        (None, false) => Keys::default(),
        (None, true) => return Err(OpenError::KeyMissing),
        (Some(_), false) => return Err(OpenError::NotSealed),
        (Some(key), true) => manifest.unwrap_keys(key).map_err(|_| OpenError::WrongKey)?,
    };
    let mut new = Manifest::of_new_folder(key);
    let new_keys = keys_of(&new, key);
    new.boot_id = manifest.boot_id;
    new.generation = 1;
    let mut parts = match to {
        None => None,
        Some(to) => Some(Parts::begin(to, &new_keys, 1, SEGMENT_BYTES).map_err(failed(to))?),
    };
    let mut version_max = manifest.version_max;
    for (name, what) in names(disk, &manifest)? {
        let mut file = FileRecovery { name: name.clone(), ..FileRecovery::default() };
        let keep = |record: &Record<'_>| -> io::Result<()> {
            version_max = version_max.max(record.version_max().0);
            parts.as_mut().map_or(Ok(()), |parts| parts.append(record))
        };
        salvage(disk, name, what, &keys, &mut file, keep).map_err(failed(disk))?;
        recovery.records += file.records;
        recovery.files.push(file);
    }
    if let (Some(to), Some(parts)) = (to, parts) {
        new.version_max = version_max;
        new.parts = parts.end().map_err(failed(to))?;
        new.write(to).map_err(failed(to))?;
    }
    Ok(recovery)
}

type Named = (String, (Kind, u64, u64));

/// The files that count, whether they are there or not.
fn names(disk: &dyn Disk, manifest: &Manifest) -> Result<Vec<Named>, OpenError> {
    let generation = manifest.generation;
    let mut names: Vec<Named> = (0..manifest.parts.len() as u64)
        .map(|part| (base_name(generation, part), (Kind::Base, part, generation)))
        .collect();
    let listed = disk.list().map_err(failed(disk))?;
    let numbers =
        listed.iter().filter_map(|name| log_number(name)).filter(|number| *number >= manifest.log_first);
    let last = numbers.max().unwrap_or(manifest.log_first);
    names.extend((manifest.log_first..=last).map(|number| (log_name(number), (Kind::Log, number, 0))));
    Ok(names)
}

/// Gives all good records of a file to `keep`.
fn salvage(
    disk: &dyn Disk,
    name: String,
    what: (Kind, u64, u64),
    keys: &Keys,
    file: &mut FileRecovery,
    mut keep: impl FnMut(&Record<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let sealed = Found::open(disk, name, what).and_then(|found| Ok((found.sealer(keys)?, found)));
    let (sealer, found) = match sealed {
        Ok(found) => found,
        Err(NotRead::Io(error)) => return Err(error),
        Err(error) => {
            file.bad.push((0, io::Error::from(error).to_string()));
            return Ok(());
        }
    };
    let mut scan = Scan::new(found.file, found.head.mark, sealer);
    loop {
        let offset = scan.offset();
        let (offset, what) = match scan.next()? {
            Event::Group(_) | Event::GroupEnds(_) => continue,
            Event::End => return Ok(()),
            Event::Record(bytes) => match Record::decode(bytes) {
                Ok(record) => {
                    file.records += 1;
                    keep(&record)?;
                    continue;
                }
                Err(_) => (offset, "a record that this program does not write"),
            },
            Event::Bad(bad) => (bad.offset, bad.what),
        };
        file.bad.push((offset, what.into()));
        if !scan.skip_to_group(offset + 1)? {
            return Ok(());
        }
    }
}
