//! A file with everything that a node without a journal held when it ended.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `LUCSNAP1` |
//! | 4 | the boot id of the entity tags |
//! | 1 | whether it is sealed |
//! | 16 + 60 | if it is: the salt of the master key, and the data key under it ([`super::seal`]) |
//! | 4 | CRC32C of all of this |
//! | … | records: length in 4 bytes, CRC32C of length and record in 4, the record |
//! | 4 | `ff ff ff ff`: no record is that long |
//! | 8 + 8 | how many records there are, and the highest version |
//! | 4 | CRC32C of these |
//!
//! Numbers are little-endian. It is written under another name, synced and renamed, and read as a whole
//! before anything of it is believed: a file that is cut or changed is refused.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crc32c::{crc32c, crc32c_append};
use zeroize::Zeroizing;

use super::record::Record;
use super::seal::{MasterKey, SALT_BYTES, Sealer, WRAPPED_BYTES, Wrapping, random};
use crate::clock::Version;

const MAGIC: &[u8; 8] = b"LUCSNAP1";

/// Stands where the length of a record would.
const END: u32 = u32::MAX;

/// Bytes behind [`END`].
const TAIL_BYTES: usize = 8 + 8 + 4;

/// Bytes read at a time, but for a record that is longer.
const STEP_BYTES: usize = 256 * 1_024;

/// Longest record that is believed: a value of the largest limit there is, with its key.
const RECORD_BYTES_MAX: u32 = END - 1;

/// Why a snapshot cannot be read.
#[derive(Debug)]
pub enum SnapshotError {
    /// What the system says.
    Io(io::Error),
    /// It is cut or was changed, at this offset.
    Damaged(u64),
    /// It is sealed, and there is no key, or another one.
    WrongKey,
    /// It is not sealed, and should be.
    NotSealed,
}

impl From<io::Error> for SnapshotError {
    fn from(error: io::Error) -> SnapshotError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => SnapshotError::Damaged(u64::MAX),
            _ => SnapshotError::Io(error),
        }
    }
}

impl std::fmt::Display for SnapshotError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SnapshotError::Io(error) => write!(out, "{error}"),
            SnapshotError::Damaged(u64::MAX) => write!(out, "it is cut off"),
            SnapshotError::Damaged(offset) => write!(out, "it is damaged at offset {offset}"),
            SnapshotError::WrongKey => {
                write!(out, "it is sealed with another key than encryption.private_key")
            }
            SnapshotError::NotSealed => write!(out, "it is not sealed, and encryption.enabled is on"),
        }
    }
}

/// A snapshot on its way to the disk.
pub struct SnapshotWriter {
    out: BufWriter<File>,
    part: PathBuf,
    path: PathBuf,
    sealer: Option<Sealer>,
    buffer: Zeroizing<Vec<u8>>,
    records: u64,
    version_max: Version,
}

impl SnapshotWriter {
    /// Begins a file, for its owner alone.
    ///
    /// # Errors
    /// What the system says.
    pub fn begin(path: &Path, boot_id: u32, key: Option<&MasterKey>) -> io::Result<SnapshotWriter> {
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let part = PathBuf::from(name);
        // One that an earlier end has left behind is of no use to anybody.
        let _ = fs::remove_file(&part);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&boot_id.to_le_bytes());
        head.push(key.is_some().into());
        let sealer = key.map(|key| {
            let salt = random();
            let (sealer, wrapped) = key.derive(&salt).new_sealer();
            head.extend_from_slice(&salt);
            head.extend_from_slice(&wrapped);
            sealer
        });
        head.extend_from_slice(&crc32c(&head).to_le_bytes());
        let mut out = BufWriter::with_capacity(STEP_BYTES, file);
        out.write_all(&head)?;
        let (buffer, version_max) = (Zeroizing::default(), Version(0));
        Ok(SnapshotWriter { out, part, path: path.to_owned(), sealer, buffer, records: 0, version_max })
    }

    /// Appends a record.
    ///
    /// # Errors
    /// What the system says.
    pub fn append(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.version_max = self.version_max.max(record.version_max());
        self.records += 1;
        self.buffer.clear();
        record.encode(&mut self.buffer);
        if let Some(sealer) = &mut self.sealer {
            sealer.seal(b"", &mut self.buffer, 0);
        }
        let length = u32::try_from(self.buffer.len()).ok().filter(|length| *length <= RECORD_BYTES_MAX);
        let length = length.ok_or_else(|| io::Error::other("an entry is too long"))?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&crc_of(length, &self.buffer).to_le_bytes())?;
        self.out.write_all(&self.buffer)
    }

    /// Ends the file: from now on it is there under its name, whatever happens. Answers how many records it
    /// has.
    ///
    /// # Errors
    /// What the system says. Then the file that was there before still is.
    pub fn end(mut self) -> io::Result<u64> {
        let mut tail = self.records.to_le_bytes().to_vec();
        tail.extend_from_slice(&self.version_max.0.to_le_bytes());
        tail.extend_from_slice(&crc32c(&tail).to_le_bytes());
        self.out.write_all(&END.to_le_bytes())?;
        self.out.write_all(&tail)?;
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        fs::rename(&self.part, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(self.records)
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        // Renamed, it is there no more under this name.
        let _ = fs::remove_file(&self.part);
    }
}

impl std::fmt::Debug for SnapshotWriter {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("SnapshotWriter").field("records", &self.records).finish_non_exhaustive()
    }
}

/// A file that was read once and found good.
#[derive(Clone, Debug)]
pub struct Snapshot {
    file: Arc<File>,
    boot_id: u32,
    /// What opens its records, each time from the first.
    key: Option<(Wrapping, [u8; WRAPPED_BYTES])>,
    begin: u64,
    length: u64,
    records: u64,
    version_max: Version,
    ledger: Vec<(Box<[u8]>, Zeroizing<Vec<u8>>)>,
}

impl Snapshot {
    /// Reads all of a file, which must be as it was written.
    ///
    /// # Errors
    /// When it is not, or not readable.
    pub fn open(path: &Path, key: Option<&MasterKey>) -> Result<Snapshot, SnapshotError> {
        let file = Arc::new(File::open(path)?);
        let length = file.metadata()?.len();
        let mut head = vec![0; MAGIC.len() + 4 + 1];
        file.read_exact_at(&mut head, 0)?;
        let is_sealed = match (head.starts_with(MAGIC), head[12]) {
            (true, sealed @ (0 | 1)) => sealed == 1,
            _ => return Err(SnapshotError::Damaged(0)),
        };
        let plain = head.len();
        head.resize(plain + if is_sealed { SALT_BYTES + WRAPPED_BYTES } else { 0 } + 4, 0);
        file.read_exact_at(&mut head, 0)?;
        let (head, crc) = head.split_at(head.len() - 4);
        if crc32c(head).to_le_bytes() != *crc {
            return Err(SnapshotError::Damaged(0));
        }
        let key = match (is_sealed, key) {
            (true, Some(key)) => {
                let (salt, wrapped) = head[plain..].split_at(SALT_BYTES);
                let wrapping = key.derive(&array(salt));
                let wrapped = array(wrapped);
                wrapping.unwrap_sealer(&wrapped).map_err(|_| SnapshotError::WrongKey)?;
                Some((wrapping, wrapped))
            }
            (true, None) => return Err(SnapshotError::WrongKey),
            (false, Some(_)) => return Err(SnapshotError::NotSealed),
            (false, None) => None,
        };
        let mut snapshot = Snapshot {
            file,
            boot_id: u32::from_le_bytes(array(&head[8..12])),
            key,
            begin: head.len() as u64 + 4,
            length,
            records: 0,
            version_max: Version(0),
            ledger: Vec::new(),
        };
        snapshot.check()?;
        Ok(snapshot)
    }

    fn check(&mut self) -> Result<(), SnapshotError> {
        let mut reader = self.read();
        let (mut records, mut ledger) = (0, Vec::new());
        while reader.next(|record| {
            records += 1;
            if let Record::Node { key, value: Some(value) } = record {
                ledger.push((key.into(), Zeroizing::new(value.to_vec())));
            }
        })? {}
        let mut tail = [0; TAIL_BYTES];
        self.file.read_exact_at(&mut tail, reader.offset + 4)?;
        let end = reader.offset + 4 + TAIL_BYTES as u64;
        let is_good = crc32c(&tail[..16]).to_le_bytes() == tail[16..]
            && u64::from_le_bytes(array(&tail[..8])) == records
            && end == self.length;
        if !is_good {
            return Err(SnapshotError::Damaged(reader.offset));
        }
        (self.records, self.ledger) = (records, ledger);
        self.version_max = Version(u64::from_le_bytes(array(&tail[8..16])));
        Ok(())
    }

    /// The boot id of the tags of what is in it.
    pub fn boot_id(&self) -> u32 {
        self.boot_id
    }

    /// The highest version in it.
    pub fn version_max(&self) -> Version {
        self.version_max
    }

    /// How many records it has.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// How long it is.
    pub fn bytes(&self) -> u64 {
        self.length
    }

    /// What the node kept of itself.
    pub fn ledger(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.ledger.iter().map(|(key, value)| (&**key, value.as_slice()))
    }

    /// Reads its records from the first.
    pub fn read(&self) -> SnapshotReader {
        let sealer = self.key.as_ref().map(|(wrapping, wrapped)| {
            wrapping.unwrap_sealer(wrapped).expect("it has been opened with this key before")
        });
        let (file, offset) = (Arc::clone(&self.file), self.begin);
        SnapshotReader { file, offset, length: self.length, sealer, buffer: Zeroizing::default(), at: 0 }
    }
}

/// The records of a snapshot, one after the other.
#[derive(Debug)]
pub struct SnapshotReader {
    file: Arc<File>,
    /// Where the next record begins.
    offset: u64,
    length: u64,
    sealer: Option<Sealer>,
    /// What was read ahead; `at` is the place of `offset` in it.
    buffer: Zeroizing<Vec<u8>>,
    at: usize,
}

impl SnapshotReader {
    /// Bytes that were read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Hands the next record over. False at the end.
    ///
    /// # Errors
    /// When there is none where there should be.
    pub fn next(&mut self, take: impl FnOnce(Record<'_>)) -> Result<bool, SnapshotError> {
        let damaged = SnapshotError::Damaged(self.offset);
        let length = u32::from_le_bytes(array(self.ahead(4)?));
        if length == END {
            return Ok(false);
        }
        let frame_bytes = 8 + length as usize;
        let frame = self.ahead(frame_bytes)?;
        let crc = u32::from_le_bytes(array(&frame[4..8]));
        if crc != crc_of(length, &frame[8..]) {
            return Err(damaged);
        }
        let at = self.at;
        let bytes = &mut self.buffer[at + 8..at + frame_bytes];
        let bytes = match &mut self.sealer {
            Some(sealer) => match sealer.open(b"", bytes) {
                Ok(opened) => opened,
                Err(_) => return Err(damaged),
            },
            None => bytes,
        };
        let Ok(record) = Record::decode(bytes) else { return Err(damaged) };
        take(record);
        self.at += frame_bytes;
        self.offset += frame_bytes as u64;
        Ok(true)
    }

    /// The next bytes, so many.
    fn ahead(&mut self, count: usize) -> Result<&[u8], SnapshotError> {
        if self.buffer.len() - self.at < count {
            let left = (self.length - self.offset) as usize;
            if left < count {
                return Err(SnapshotError::Damaged(u64::MAX));
            }
            let wanted = left.min(count.max(STEP_BYTES));
            self.buffer.clear();
            self.buffer.resize(wanted, 0);
            self.at = 0;
            self.file.read_exact_at(&mut self.buffer, self.offset)?;
        }
        Ok(&self.buffer[self.at..self.at + count])
    }
}

fn crc_of(length: u32, bytes: &[u8]) -> u32 {
    crc32c_append(crc32c(&length.to_le_bytes()), bytes)
}

fn array<const COUNT: usize>(bytes: &[u8]) -> [u8; COUNT] {
    super::record::array(bytes)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Snapshot, SnapshotError, SnapshotWriter};
    use crate::clock::Version;
    use crate::journal::{MasterKey, Record};
    use crate::op::Namespace;

    fn write(path: &Path, key: Option<&MasterKey>) {
        let mut writer = SnapshotWriter::begin(path, 7, key).unwrap();
        writer.append(&Record::Node { key: b"name", value: Some(b"secret content") }).unwrap();
        for number in 0..3_u8 {
            let name = vec![number; 300_000 * usize::from(number == 1) + 1];
            writer.append(&Record::Remove { namespace: Namespace::KV, key: &name[..1] }).unwrap();
            writer.append(&Record::Node { key: &[number], value: Some(&name) }).unwrap();
        }
        assert_eq!(writer.end().unwrap(), 7);
    }

    fn count(snapshot: &Snapshot) -> u64 {
        let (mut reader, mut records) = (snapshot.read(), 0);
        while reader.next(|_| records += 1).unwrap() {}
        records
    }

    #[test]
    fn what_was_written_is_read_again_and_again_sealed_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot");
        for key in [None, Some(MasterKey::from_text("hush"))] {
            write(&path, key.as_ref());
            let snapshot = Snapshot::open(&path, key.as_ref()).unwrap();
            assert_eq!((snapshot.boot_id(), snapshot.records(), count(&snapshot)), (7, 7, 7));
            assert_eq!(count(&snapshot), 7);
            assert_eq!(snapshot.version_max(), Version(0));
            let ledger: Vec<_> = snapshot.ledger().collect();
            assert_eq!((ledger.len(), ledger[0]), (4, (&b"name"[..], &b"secret content"[..])));
            let bytes = std::fs::read(&path).unwrap();
            let shows = bytes.windows(6).any(|window| window == b"secret");
            assert_eq!(shows, key.is_none());
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_key_that_is_wrong_missing_or_too_much_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot");
        let (right, wrong) = (MasterKey::from_text("hush"), MasterKey::from_text("noise"));
        write(&path, Some(&right));
        assert!(matches!(Snapshot::open(&path, Some(&wrong)), Err(SnapshotError::WrongKey)));
        assert!(matches!(Snapshot::open(&path, None), Err(SnapshotError::WrongKey)));
        write(&path, None);
        assert!(matches!(Snapshot::open(&path, Some(&right)), Err(SnapshotError::NotSealed)));
    }

    #[test]
    fn a_file_cut_or_changed_anywhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot");
        let mut writer = SnapshotWriter::begin(&path, 7, None).unwrap();
        for number in 0..3 {
            writer.append(&Record::Node { key: &[number], value: Some(b"v") }).unwrap();
        }
        writer.end().unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(Snapshot::open(&path, None), Err(SnapshotError::Damaged(_))), "{cut}");
            let mut changed = whole.clone();
            changed[cut] ^= 0x10;
            std::fs::write(&path, &changed).unwrap();
            assert!(Snapshot::open(&path, None).is_err(), "{cut}");
        }
        std::fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
        assert!(Snapshot::open(&path, None).is_err());
    }
}
