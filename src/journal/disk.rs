//! All that the journal asks of a disk, and the real one.
//!
//! The journal touches the disk through [`Disk`] and [`DiskFile`] alone, so that the simulation can drop what
//! was not synced, tear, fill up and fail. Nothing here retries but for an interrupted call, and nothing
//! decides: an error goes up as it is.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::io::Errno;

/// A folder of its own on a disk. Names are of files right in it.
pub trait Disk: Debug + Send + Sync {
    /// Takes the folder for as long as the answer lives; `None` if somebody else has it.
    ///
    /// # Errors
    /// Those of the disk, as with everything here.
    fn lock(&self, name: &str) -> io::Result<Option<Arc<dyn DiskFile>>>;

    /// The names of all files.
    ///
    /// # Errors
    /// Those of the disk.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes an empty file, in place of one that has the name.
    ///
    /// # Errors
    /// Those of the disk.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file to read, cut or sync it.
    ///
    /// # Errors
    /// Those of the disk.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, in place of one that has it.
    ///
    /// # Errors
    /// Those of the disk.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Those of the disk.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Bytes that files may grow by.
    ///
    /// # Errors
    /// Those of the disk.
    fn available(&self) -> io::Result<u64>;

    /// Makes names durable: creations, renames and removals.
    ///
    /// # Errors
    /// Those of the disk. What is durable then is unknown.
    fn sync_folder(&self) -> io::Result<()>;

    /// What an operator knows the folder by.
    fn shown(&self) -> String;
}

/// A file of the journal.
pub trait DiskFile: Debug + Send + Sync {
    /// Writes some of the bytes at an offset, as many as the answer says.
    ///
    /// # Errors
    /// Those of the disk, as with everything here.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Reads some bytes at an offset; 0 at the end of the file.
    ///
    /// # Errors
    /// Those of the disk.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Makes room for the file to be so long; what is behind its present end reads as zeros.
    ///
    /// # Errors
    /// Those of the disk, one for which `is_full` holds among them.
    fn allocate(&self, length: u64) -> io::Result<()>;

    /// Cuts the file to this length.
    ///
    /// # Errors
    /// Those of the disk.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// How long it is.
    ///
    /// # Errors
    /// Those of the disk.
    fn length(&self) -> io::Result<u64>;

    /// Makes what was written durable, and the length.
    ///
    /// # Errors
    /// Those of the disk. What is durable then is unknown, and a second call would not tell.
    fn sync(&self) -> io::Result<()>;
}

/// Whether an error says that there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Writes all of the bytes.
pub(super) fn write_all(file: &dyn DiskFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until the bytes are full or the file ends. Answers how many there were.
pub(super) fn read_up_to(file: &dyn DiskFile, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut count = 0;
    while count < bytes.len() {
        match file.read_at(&mut bytes[count..], offset + count as u64) {
            Ok(0) => break,
            Ok(read) => count += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// Reads a file that is small.
pub(super) fn read_whole(file: &dyn DiskFile, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.length()?.min(bytes_max) as usize];
    let count = read_up_to(file, &mut bytes, 0)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// A folder of the file system.
#[derive(Debug)]
pub struct FolderOnDisk {
    path: PathBuf,
    /// For syncing the names in it.
    folder: File,
}

impl FolderOnDisk {
    /// The folder at a path, which is made if need be, for nobody but this user to read.
    ///
    /// # Errors
    /// When it cannot be made or opened.
    pub fn make(path: &Path) -> io::Result<FolderOnDisk> {
        if !path.is_dir() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            if let Some(parent) = path.canonicalize()?.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        FolderOnDisk::open(path)
    }

    /// The folder at a path.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(path: &Path) -> io::Result<FolderOnDisk> {
        let folder = File::open(path)?;
        match folder.metadata()?.is_dir() {
            true => Ok(FolderOnDisk { path: path.into(), folder }),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Disk for FolderOnDisk {
    fn lock(&self, name: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let file = options().create(true).truncate(false).open(self.at(name))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Arc::new(OnDisk(file)))),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name()));
        // A name that is no text is none of ours.
        names.filter_map(|name: io::Result<_>| name.map(|name| name.into_string().ok()).transpose()).collect()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OnDisk(options().create(true).truncate(true).open(self.at(name))?)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OnDisk(options().open(self.at(name))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.at(from), self.at(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.at(name))
    }

    fn available(&self) -> io::Result<u64> {
        let system = fstatvfs(&self.folder)?;
        Ok(system.f_bavail.saturating_mul(system.f_frsize))
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.folder.sync_all()
    }

    fn shown(&self) -> String {
        self.path.display().to_string()
    }
}

/// What every file is opened with: for nobody else to read.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// A file of the file system.
#[derive(Debug)]
struct OnDisk(File);

impl DiskFile for OnDisk {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(&self.0, bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.0, bytes, offset)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        loop {
            match fallocate(&self.0, FallocateFlags::empty(), 0, length) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                // A file system that cannot: then a full disk shows only when it is written.
                Err(Errno::OPNOTSUPP) => return self.0.set_len(length.max(self.length()?)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::{Disk, FolderOnDisk, read_whole, write_all};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_is_made_for_its_user_alone_and_taken_by_one() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let disk = FolderOnDisk::make(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let lock = disk.lock("lock").unwrap();
        assert!(lock.is_some());
        assert!(FolderOnDisk::open(&path).unwrap().lock("lock").unwrap().is_none());
        drop(lock);
        assert!(FolderOnDisk::open(&path).unwrap().lock("lock").unwrap().is_some());
        let file = disk.create("one").unwrap();
        assert_eq!(path.join("one").metadata().unwrap().permissions().mode() & 0o777, 0o600);
        write_all(&*file, b"hello", 3).unwrap();
        file.allocate(10).unwrap();
        assert_eq!(read_whole(&*file, 100).unwrap(), b"\0\0\0hello\0\0");
        file.truncate(4).unwrap();
        disk.rename("one", "two").unwrap();
        disk.sync_folder().unwrap();
        assert_eq!(read_whole(&*disk.open("two").unwrap(), 100).unwrap(), b"\0\0\0h");
        let mut names = disk.list().unwrap();
        names.sort();
        assert_eq!(names, ["lock", "two"]);
        disk.remove("two").unwrap();
        assert!(disk.open("two").is_err());
        assert!(FolderOnDisk::open(&path.join("lock")).is_err());
    }
}
