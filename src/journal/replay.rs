//! Brings back what a folder holds, a slice at a time: the live set first, then the log behind it.
//!
//! Every reactor has a replay of its own and sees all records; it restores those of its own keys. Each
//! record's CRC is checked here once more, since the bytes are read once more.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::files::{Found, NotRead};
use super::folder::OpenError;
use super::manifest::Keys;
use super::record::Record;
use super::scan::{Bad, Event, Scan};

/// What a replay reads.
#[derive(Debug)]
pub(super) struct Files {
    pub files: Vec<Found>,
    pub keys: Keys,
}

/// The records of a folder in the order in which they count.
pub struct Replay {
    files: Arc<Files>,
    scan: Option<Scan>,
    /// The file that is next.
    at: usize,
    /// The file that `scan` reads.
    scanned: usize,
    /// Bytes of the files before it.
    done_bytes: u64,
    total_bytes: u64,
}

impl Replay {
    pub(super) fn new(files: Arc<Files>) -> Replay {
        let total_bytes = files.files.iter().map(|found| found.length).sum();
        Replay { files, scan: None, at: 0, scanned: 0, done_bytes: 0, total_bytes }
    }

    /// Gives about so many bytes' worth of records to `restore`, in their order. Answers whether that was
    /// all there is.
    ///
    /// # Errors
    /// When the disk fails, or no longer gives what it gave when the folder was opened.
    pub fn next_slice(&mut self, bytes: u64, mut restore: impl FnMut(Record<'_>)) -> Result<bool, OpenError> {
        let goal = self.progress().0.saturating_add(bytes);
        while self.progress().0 < goal {
            let Some(found) = self.files.files.get(self.at) else { return Ok(true) };
            let fail = |error: NotRead| OpenError::not_read(&found.name, error);
            let (file, mark) = (&found.file, found.head.mark);
            let scan = match &mut self.scan {
                Some(scan) if self.scanned == self.at => scan,
                Some(scan) => {
                    scan.turn_to(file.clone(), mark, found.sealer(&self.files.keys).map_err(fail)?);
                    scan
                }
                None => {
                    let sealer = found.sealer(&self.files.keys).map_err(fail)?;
                    self.scan.insert(Scan::new(file.clone(), mark, sealer))
                }
            };
            self.scanned = self.at;
            let slice_end = goal - self.done_bytes;
            let event = loop {
                match scan.next().map_err(|error| fail(NotRead::Io(error)))? {
                    Event::Record(bytes) => match Record::decode(bytes) {
                        Ok(record) => restore(record),
                        Err(_) => {
                            break Over::Bad(scan.offset(), "a record that this program does not write");
                        }
                    },
                    Event::Group(_) | Event::GroupEnds(_) => {}
                    Event::End => break Over::End,
                    Event::Bad(Bad { offset, what, .. }) => break Over::Bad(offset, what),
                }
                if scan.offset() >= slice_end {
                    break Over::Slice;
                }
            };
            match event {
                Over::Slice => {}
                Over::Bad(offset, what) => return Err(OpenError::damaged(&found.name, offset, what)),
                Over::End => {
                    self.done_bytes += found.length;
                    self.at += 1;
                }
            }
        }
        Ok(self.at == self.files.files.len())
    }

    /// Bytes that are done, and all of them.
    pub fn progress(&self) -> (u64, u64) {
        let scan = self.scan.as_ref().filter(|_| self.scanned == self.at);
        (self.done_bytes + scan.map_or(0, Scan::offset), self.total_bytes)
    }
}

/// Why reading stops.
enum Over {
    Slice,
    End,
    Bad(u64, &'static str),
}

/// Begins at the beginning.
impl Clone for Replay {
    fn clone(&self) -> Replay {
        Replay::new(self.files.clone())
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (done, total) = self.progress();
        f.debug_struct("Replay")
            .field("done_bytes", &done)
            .field("total_bytes", &total)
            .finish_non_exhaustive()
    }
}

impl From<NotRead> for io::Error {
    fn from(error: NotRead) -> io::Error {
        match error {
            NotRead::Io(error) => error,
            NotRead::Damaged(what) => io::Error::new(io::ErrorKind::InvalidData, what),
            NotRead::Version(version) => io::Error::new(
                io::ErrorKind::InvalidData,
                format!("format {version} is of a later version of lucid"),
            ),
        }
    }
}
