//! The Unix socket: a file in whose place nobody else's is put.
//!
//! A file that a killed node left behind refuses connections, and is replaced; one that answers belongs to
//! a node that lives, and is left alone. Two nodes that start at the same moment on the same stale file
//! could still take it from each other; they would have to have the same port, too, which only one of them
//! gets.
//!
//! Its mode is 0666. The file is a door like the port on loopback, through which any user of the machine
//! comes as well; who may do what is decided by credentials, and for `authentication.local_uids` by the
//! kernel's word on who connected (`SO_PEERCRED`), which needs the door open to those users. Whoever wants
//! it narrower puts it into a folder that is.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// Who may connect: everybody on the machine.
const MODE: u32 = 0o666;

/// Longest path that the system takes, in bytes (`sun_path` less its end).
pub const PATH_BYTES_MAX: usize = 107;

/// Why there is no socket.
#[derive(Debug)]
pub enum UnixError {
    /// Somebody listens on it.
    InUse,
    /// A file that is no socket is there.
    NoSocket,
    /// What the system says.
    System(io::Error),
}

impl From<io::Error> for UnixError {
    fn from(error: io::Error) -> UnixError {
        UnixError::System(error)
    }
}

/// The file of a socket that this process listens on. It goes when this is dropped, if it is still the
/// same.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and number of the file.
    identity: (u64, u64),
}

impl SocketFile {
    /// Binds and listens.
    ///
    /// # Errors
    /// What is in the way.
    pub fn bind(path: &Path) -> Result<(SocketFile, mio::net::UnixListener), UnixError> {
        remove_stale(path)?;
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(UnixError::InUse),
            bound => bound?,
        };
        listener.set_nonblocking(true)?;
        let file = SocketFile { path: path.to_owned(), identity: identity(&fs::symlink_metadata(path)?) };
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
        Ok((file, mio::net::UnixListener::from_std(listener)))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Removes what a node left behind that did not end in order.
fn remove_stale(path: &Path) -> Result<(), UnixError> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(UnixError::NoSocket);
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Ok(_) => Err(UnixError::InUse),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(fs::remove_file(path)?),
        // Its queue may be full: it lives.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(UnixError::InUse),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::{MODE, PATH_BYTES_MAX, SocketFile, UnixError};

    #[test]
    fn a_socket_is_there_as_long_as_its_file_is_held_and_anybody_may_connect() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lucid.sock");
        let (file, listener) = SocketFile::bind(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, MODE);
        UnixStream::connect(&path).unwrap();
        assert!(matches!(SocketFile::bind(&path), Err(UnixError::InUse)));
        drop(listener);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_anything_else_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lucid.sock");
        let (first, listener) = SocketFile::bind(&path).unwrap();
        drop(listener);
        // As a node that was killed.
        std::mem::forget(first);
        let (second, _listener) = SocketFile::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(SocketFile::bind(&path), Err(UnixError::NoSocket)));
        drop(second);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        std::os::unix::fs::symlink(&path, folder.path().join("link")).unwrap();
        assert!(matches!(SocketFile::bind(&folder.path().join("link")), Err(UnixError::NoSocket)));
    }

    #[test]
    fn the_longest_path_is_what_the_system_takes() {
        let folder = tempfile::tempdir().unwrap();
        let short = folder.path().as_os_str().len() + 1;
        let path = |bytes: usize| folder.path().join("s".repeat(bytes - short));
        assert!(SocketFile::bind(&path(PATH_BYTES_MAX)).is_ok());
        assert!(matches!(SocketFile::bind(&path(PATH_BYTES_MAX + 1)), Err(UnixError::System(_))));
    }
}
