//! What the folder consists of: one small file that is replaced as a whole.
//!
//! It is written beside, synced, renamed into its place and the folder synced, so there is always one that
//! is whole. What it does not name, and no segment follows from, is left over from an attempt and removed.

use std::io;

use super::disk::{Disk, read_whole, write_all};
use super::record::array;
use super::seal::{MasterKey, SALT_BYTES, Unsealable, WRAPPED_BYTES, Wrapping, random};
use super::segment::FORMAT;

/// Its name.
pub(super) const MANIFEST: &str = "manifest";

/// The name of what was the manifest at some time: for `recover` alone.
pub(super) const MANIFEST_COPY: &str = "manifest.copy";

/// Its name while it is written.
pub(super) const MANIFEST_NEW: &str = "manifest.new";

const MAGIC: [u8; 8] = *b"LUCIDMAN";

/// More than any manifest takes: a part of a live set takes 16 bytes of it.
const BYTES_MAX: u64 = 64 << 20;

/// The name of a segment of the log.
pub(super) fn log_name(segment: u64) -> String {
    format!("log-{segment:010}")
}

/// The name of a part of a live set.
pub(super) fn base_name(generation: u64, part: u64) -> String {
    format!("base-{generation:06}-{part:05}")
}

/// The segment that a name is of.
pub(super) fn log_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix("log-")?.parse().ok()?;
    (log_name(number) == name).then_some(number)
}

/// A part of the live set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Bytes of its file, all of them good.
    pub length: u64,
    /// The sequence of its last group; that of the first is 1 in the first part, and goes on.
    pub last_sequence: u64,
}

/// A folder key, wrapped by the master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FolderKey {
    pub number: u32,
    pub wrapped: [u8; WRAPPED_BYTES],
}

/// What the folder consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    /// What entity tags begin with.
    pub boot_id: u32,
    /// The live set that the log goes on from; 0 before the first, which has no parts.
    pub generation: u64,
    /// No segment was begun yet. Otherwise the first one is there.
    pub fresh: bool,
    pub parts: Vec<Part>,
    /// The first segment behind it.
    pub log_first: u64,
    /// The last group in front of that segment.
    pub sequence: u64,
    /// No version above this one was given out before that segment.
    pub version_max: u64,
    /// The salt of the master key.
    pub salt: [u8; SALT_BYTES],
    /// None in a folder that is not sealed. The last one seals what is new.
    pub keys: Vec<FolderKey>,
}

/// Why there is no manifest to go by.
#[derive(Debug)]
pub(super) enum BadManifest {
    Damaged,
    Version(u16),
    Io(io::Error),
}

/// The folder keys, each by its number; the last one seals what is new.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys(Vec<(u32, Wrapping)>);

impl Manifest {
    /// That of a new folder.
    pub(super) fn of_new_folder(master: Option<&MasterKey>) -> Manifest {
        let mut manifest = Manifest {
            boot_id: u32::from_le_bytes(random()),
            generation: 0,
            fresh: true,
            parts: Vec::new(),
            log_first: 1,
            sequence: 0,
            version_max: 0,
            salt: random(),
            keys: Vec::new(),
        };
        if let Some(master) = master {
            let (_, wrapped) = master.derive(&manifest.salt).new_wrapping();
            manifest.keys.push(FolderKey { number: 1, wrapped });
        }
        manifest
    }

    /// Whether the folder is sealed.
    pub(super) fn is_sealed(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The folder keys, by the master key.
    pub(super) fn unwrap_keys(&self, master: &MasterKey) -> Result<Keys, Unsealable> {
        let master = master.derive(&self.salt);
        let keys = self.keys.iter().map(|key| Ok((key.number, master.unwrap_wrapping(&key.wrapped)?)));
        keys.collect::<Result<_, _>>().map(Keys)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&u16::from(self.fresh).to_le_bytes());
        out.extend_from_slice(&self.boot_id.to_le_bytes());
        for number in [self.generation, self.log_first, self.sequence, self.version_max] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&(self.keys.len() as u32).to_le_bytes());
        for key in &self.keys {
            out.extend_from_slice(&key.number.to_le_bytes());
            out.extend_from_slice(&key.wrapped);
        }
        out.extend_from_slice(&(self.parts.len() as u32).to_le_bytes());
        for part in &self.parts {
            out.extend_from_slice(&part.length.to_le_bytes());
            out.extend_from_slice(&part.last_sequence.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Manifest, BadManifest> {
        let (bytes, crc) = bytes.split_last_chunk::<4>().ok_or(BadManifest::Damaged)?;
        if crc32c::crc32c(bytes) != u32::from_le_bytes(*crc) || !bytes.starts_with(&MAGIC) {
            return Err(BadManifest::Damaged);
        }
        let mut rest = Rest(&bytes[MAGIC.len()..]);
        let version = u16::from_le_bytes(rest.take()?);
        if version != FORMAT {
            return Err(BadManifest::Version(version));
        }
        let fresh = u16::from_le_bytes(rest.take()?) != 0;
        let boot_id = u32::from_le_bytes(rest.take()?);
        let (generation, log_first, sequence, version_max) =
            (rest.number()?, rest.number()?, rest.number()?, rest.number()?);
        let salt = rest.take()?;
        let keys = (0..u32::from_le_bytes(rest.take()?))
            .map(|_| Ok(FolderKey { number: u32::from_le_bytes(rest.take()?), wrapped: rest.take()? }))
            .collect::<Result<_, BadManifest>>()?;
        let parts = (0..u32::from_le_bytes(rest.take()?))
            .map(|_| Ok(Part { length: rest.number()?, last_sequence: rest.number()? }))
            .collect::<Result<_, BadManifest>>()?;
        Ok(Manifest { boot_id, generation, fresh, parts, log_first, sequence, version_max, salt, keys })
    }

    /// The manifest of a folder; `None` if there is none.
    pub(super) fn read(disk: &dyn Disk) -> Result<Option<Manifest>, BadManifest> {
        Manifest::read_named(disk, MANIFEST)
    }

    /// What is left of a manifest, however old.
    pub(super) fn read_copy(disk: &dyn Disk) -> Option<Manifest> {
        Manifest::read_named(disk, MANIFEST_COPY).ok().flatten()
    }

    fn read_named(disk: &dyn Disk, name: &str) -> Result<Option<Manifest>, BadManifest> {
        let bytes = match disk.open(name).and_then(|file| read_whole(&*file, BYTES_MAX)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(BadManifest::Io(error)),
        };
        Manifest::decode(&bytes).map(Some)
    }

    /// Puts the manifest in the place of the present one. After an error it is unknown which is there.
    pub(super) fn write(&self, disk: &dyn Disk) -> io::Result<()> {
        self.write_new(disk)?;
        Manifest::place_new(disk)?;
        self.write_copy(disk);
        Ok(())
    }

    /// The first segment is there, durably.
    pub(super) fn is_begun(&mut self, disk: &dyn Disk) -> io::Result<()> {
        if std::mem::take(&mut self.fresh) { self.write(disk) } else { Ok(()) }
    }

    /// Keeps a copy, for the day on which the manifest itself is damaged. Nothing depends on it.
    pub(super) fn write_copy(&self, disk: &dyn Disk) {
        let copied = disk.create(MANIFEST_COPY).and_then(|file| write_all(&*file, &self.encode(), 0));
        if let Err(error) = copied {
            log::warn!("{MANIFEST_COPY} could not be written in {}: {error}", disk.shown());
        }
    }

    /// Writes the manifest beside the present one.
    pub(super) fn write_new(&self, disk: &dyn Disk) -> io::Result<()> {
        let file = disk.create(MANIFEST_NEW)?;
        write_all(&*file, &self.encode(), 0)?;
        file.sync()
    }

    /// Puts what was written beside into the place of the present one.
    pub(super) fn place_new(disk: &dyn Disk) -> io::Result<()> {
        disk.rename(MANIFEST_NEW, MANIFEST)?;
        disk.sync_folder()
    }
}

impl Keys {
    /// The key that seals what is new, and its number.
    pub(super) fn newest(&self) -> Option<&(u32, Wrapping)> {
        self.0.last()
    }

    /// Nothing but a key.
    pub(super) fn of_one(number: u32, key: Wrapping) -> Keys {
        Keys(vec![(number, key)])
    }

    /// The key of this number.
    pub(super) fn get(&self, number: u32) -> Option<&Wrapping> {
        self.0.iter().find(|(other, _)| *other == number).map(|(_, key)| key)
    }
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const COUNT: usize>(&mut self) -> Result<[u8; COUNT], BadManifest> {
        let (bytes, rest) = self.0.split_at_checked(COUNT).ok_or(BadManifest::Damaged)?;
        self.0 = rest;
        Ok(array(bytes))
    }

    fn number(&mut self) -> Result<u64, BadManifest> {
        self.take().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{BadManifest, Manifest, Part, base_name, log_name, log_number};
    use crate::journal::seal::MasterKey;

    #[test]
    fn a_manifest_reads_back_and_no_bit_of_it_may_change() {
        let mut manifest = Manifest::of_new_folder(Some(&MasterKey::from_text("hush")));
        manifest.parts = vec![Part { length: 5, last_sequence: 2 }, Part { length: 9, last_sequence: 3 }];
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Manifest::decode(&bytes), Err(BadManifest::Damaged)), "{bit}");
        }
        for length in 0..bytes.len() {
            assert!(matches!(Manifest::decode(&bytes[..length]), Err(BadManifest::Damaged)), "{length}");
        }
    }

    #[test]
    fn names_are_of_one_form_alone() {
        assert_eq!((log_name(7), base_name(2, 13)), ("log-0000000007".into(), "base-000002-00013".into()));
        assert_eq!(log_number("log-0000000007"), Some(7));
        for name in ["log-7", "log-+000000007", "log-00000000007", "log-", "base-0000000007", "x"] {
            assert_eq!(log_number(name), None, "{name}");
        }
    }
}
