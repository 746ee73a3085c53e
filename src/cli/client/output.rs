//! Where the bytes of an answer go: stdout, whose reader may have seen enough, or a file that is there
//! whole or not at all.

use std::fs::{self, File};
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use crate::cli::failure::{Exit, Failure};

/// Bytes moved at a time.
const STEP_BYTES: usize = 64 * 1_024;

/// Whether anybody still reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// As far as is known.
    Listens,
    /// No. That is no failure: `| head` does it.
    Gone,
}

/// Writes bytes to stdout at once.
pub fn write(bytes: &[u8]) -> Result<Reader, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::Listens),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::of_io(&error, "cannot write to stdout")),
    }
}

/// Copies a value to stdout. A terminal gets text only, and a line end behind it.
pub fn show(mut value: impl Read, demanded: bool) -> Result<(), Failure> {
    if !io::stdout().is_terminal() || demanded {
        return copy(&mut value);
    }
    let mut bytes = Vec::new();
    value.read_to_end(&mut bytes).map_err(|error| cut_off(&error))?;
    if !is_text(&bytes) {
        return Err(Failure::new(
            Exit::Failed,
            format!("the value is {} bytes that are no text and would upset the terminal", bytes.len()),
        )
        .and("write them to a file with -o FILE, or here all the same with -o -"));
    }
    if !bytes.ends_with(b"\n") {
        bytes.push(b'\n');
    }
    write(&bytes).map(|_| ())
}

fn copy(value: &mut impl Read) -> Result<(), Failure> {
    let mut step = vec![0; STEP_BYTES];
    loop {
        match value.read(&mut step) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                if write(&step[..count])? == Reader::Gone {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(cut_off(&error)),
        }
    }
}

/// Copies text to stdout as it comes, and ends it with a line end.
pub fn show_lines(mut text: impl Read) -> Result<(), Failure> {
    let (mut step, mut last) = (vec![0; STEP_BYTES], b'\n');
    loop {
        match text.read(&mut step) {
            Ok(0) => break,
            Ok(count) => {
                last = step[count - 1];
                if write(&step[..count])? == Reader::Gone {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(cut_off(&error)),
        }
    }
    if last != b'\n' {
        write(b"\n")?;
    }
    Ok(())
}

/// Whether bytes can be shown as they are.
fn is_text(bytes: &[u8]) -> bool {
    let harmless = |character: char| !character.is_control() || "\n\r\t".contains(character);
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(harmless))
}

fn cut_off(error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("the answer broke off: {error}"))
}

/// Writes a value to a file, which is there whole or not at all. What is no plain file, such as a
/// pipe, is written to as it is. Gives the number of bytes.
pub fn save(mut value: impl Read, path: &Path) -> Result<u64, Failure> {
    let cannot = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => Failure::new(
            Exit::Failed,
            format!("cannot write {}: its folder is not there; make it first", path.display()),
        ),
        _ => Failure::of_io(&error, format!("cannot write {}", path.display())),
    };
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        let mut file = fs::OpenOptions::new().write(true).open(path).map_err(cannot)?;
        return transfer(&mut value, &mut file).map_err(|error| error.failure(cannot));
    }
    // Where a link points is what is meant.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = target.clone().into_os_string();
    name.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(name);
    let mut file = File::create_new(&part).map_err(cannot)?;
    let permissions = target.metadata().map(|there| there.permissions());
    let written = transfer(&mut value, &mut file).map_err(|error| error.failure(cannot)).and_then(|count| {
        // What replaces a file is as open to others as that was.
        permissions.map_or(Ok(()), |permissions| file.set_permissions(permissions)).map_err(cannot)?;
        fs::rename(&part, &target).map_err(cannot)?;
        Ok(count)
    });
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written
}

/// Which side failed.
enum Trouble {
    Reading(io::Error),
    Writing(io::Error),
}

impl Trouble {
    fn failure(self, cannot_write: impl Fn(io::Error) -> Failure) -> Failure {
        match self {
            Trouble::Reading(error) => cut_off(&error),
            Trouble::Writing(error) => cannot_write(error),
        }
    }
}

fn transfer(from: &mut impl Read, to: &mut File) -> Result<u64, Trouble> {
    let mut step = vec![0; STEP_BYTES];
    let mut total = 0;
    loop {
        let count = match from.read(&mut step) {
            Ok(0) => return Ok(total),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(Trouble::Reading(error)),
        };
        to.write_all(&step[..count]).map_err(Trouble::Writing)?;
        total += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};

    use super::{is_text, save};

    #[test]
    fn only_text_goes_to_a_terminal() {
        for bytes in [&b""[..], b"hello\n", "t\u{e9}\txt\r\n".as_bytes()] {
            assert!(is_text(bytes));
        }
        for bytes in [&b"\0"[..], b"\xff", b"\x1b[2J", "\u{9b}".as_bytes()] {
            assert!(!is_text(bytes), "{bytes:?}");
        }
    }

    /// Gives some bytes and then fails.
    struct Breaks(bool);

    impl Read for Breaks {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.0, true) {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            into[0] = b'x';
            Ok(1)
        }
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        assert_eq!(save(&b"one"[..], &path).unwrap(), 3);
        assert!(save(Breaks(false), &path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        assert_eq!(save(&b""[..], &path).unwrap(), 0);
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
        assert!(save(&b"x"[..], &folder.path().join("no/such")).is_err());
        assert_eq!(save(&b"gone"[..], std::path::Path::new("/dev/null")).unwrap(), 4);
    }
}
