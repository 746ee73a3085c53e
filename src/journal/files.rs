//! Files as they begin: made, opened, and told apart from those that are none of ours.

use std::io;
use std::sync::Arc;

use super::disk::{Disk, DiskFile, write_all};
use super::manifest::Keys;
use super::scan::read_head;
use super::seal::{SALT_BYTES, Sealer, random};
use super::segment::{BadHead, FileHead, Kind, SealHead};

/// A file that has nothing in it but its head.
#[derive(Debug)]
pub(super) struct Begun {
    pub file: Arc<dyn DiskFile>,
    pub mark: u64,
    pub sealer: Option<Sealer>,
}

/// A file of the folder that is read.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub name: String,
    pub file: Arc<dyn DiskFile>,
    pub head: FileHead,
    pub length: u64,
}

/// Why a file cannot be read.
#[derive(Debug)]
pub(super) enum NotRead {
    Io(io::Error),
    Damaged(&'static str),
    Version(u16),
}

/// Makes a file of the folder, in place of one that has the name, with room for so many bytes.
pub(super) fn begin(
    disk: &dyn Disk,
    name: &str,
    (kind, number, generation): (Kind, u64, u64),
    keys: &Keys,
    room: u64,
) -> io::Result<Begun> {
    let (sealer, seal) = match keys.newest() {
        None => (None, None),
        Some((folder_key, key)) => {
            let (sealer, wrapped) = key.new_sealer();
            (Some(sealer), Some(SealHead { folder_key: *folder_key, salt: [0; SALT_BYTES], wrapped }))
        }
    };
    let mark = new_mark();
    let file = disk.create(name)?;
    if room > 0 {
        file.allocate(room)?;
    }
    write_all(&*file, &FileHead { kind, number, generation, mark, seal }.encode(), 0)?;
    Ok(Begun { file, mark, sealer })
}

/// What the groups of a new file begin with. Nobody can foresee it, so no value that a client has stored is
/// ever taken for the head of a group.
pub(super) fn new_mark() -> u64 {
    u64::from_le_bytes(random()) | 1
}

impl Found {
    /// Opens a file of the folder.
    pub(super) fn open(
        disk: &dyn Disk,
        name: String,
        (kind, number, generation): (Kind, u64, u64),
    ) -> Result<Found, NotRead> {
        let file = match disk.open(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(NotRead::Damaged("the file is missing"));
            }
            Err(error) => return Err(NotRead::Io(error)),
        };
        let head = match read_head(&*file).map_err(NotRead::Io)? {
            None => return Err(NotRead::Damaged("the file ends within its head")),
            Some(Err(BadHead::Version(version))) => return Err(NotRead::Version(version)),
            Some(Err(BadHead::Damaged)) => {
                return Err(NotRead::Damaged("the CRC of its head does not match"));
            }
            Some(Ok(head)) => head,
        };
        if (head.kind, head.number, head.generation) != (kind, number, generation) {
            return Err(NotRead::Damaged("it is another file of a journal"));
        }
        let length = file.length().map_err(NotRead::Io)?;
        Ok(Found { name, file, head, length })
    }

    /// What opens its records.
    pub(super) fn sealer(&self, keys: &Keys) -> Result<Option<Sealer>, NotRead> {
        let Some(seal) = &self.head.seal else {
            return match keys.newest() {
                None => Ok(None),
                Some(_) => Err(NotRead::Damaged("it is not encrypted, and the folder is")),
            };
        };
        let key = keys.get(seal.folder_key).ok_or(NotRead::Damaged("the manifest has no key for it"))?;
        let sealer = key.unwrap_sealer(&seal.wrapped);
        sealer.map(Some).map_err(|_| NotRead::Damaged("its key does not open"))
    }
}
