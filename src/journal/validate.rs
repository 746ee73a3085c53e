//! Decides what of a folder is good: each file by itself, in parallel, then all of them together.
//!
//! Groups are numbered through all segments, and each says which was the last that was durable when it was
//! written. A place where the numbers do not go on is bad: a record that does not match, a group or a
//! segment that is missing. Behind the highest number known to be durable it is a *torn tail*, which a
//! crash leaves and which is cut; up to it, it is *damage*, and nothing is done.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use zeroize::Zeroizing;

use super::files::{Found, NotRead};
use super::folder::{OpenError, Progress};
use super::manifest::{Keys, Manifest};
use super::record::Record;
use super::scan::{Bad, Event, Scan};
use super::segment::FILE_HEAD_BYTES;

/// Something that the node keeps of itself: its name, and what is kept or that it is gone.
pub(super) type NodeEntry = (Vec<u8>, Option<Zeroizing<Vec<u8>>>);

/// What is in a file.
#[derive(Debug)]
pub(super) struct Checked {
    /// Its first and its last good group.
    pub first: Option<u64>,
    pub last: Option<u64>,
    /// Where the good ones end.
    pub end: u64,
    pub bad: Option<Bad>,
    /// The highest group that was durable, of what any group says, behind a bad place too.
    pub synced: u64,
    /// Good groups above that, each with its place. Bounded by what is written within a second or two, but
    /// under `never`.
    pub unsynced: VecDeque<(u64, u64)>,
    /// Whether the last good group closes what it is in.
    pub closed: bool,
    pub version_max: u64,
    pub records: u64,
    pub node: Vec<NodeEntry>,
}

/// What of a log is good.
#[derive(Debug)]
pub(super) struct Verdict {
    /// The last good group.
    pub last: u64,
    /// The last one that is known to be durable.
    pub synced: u64,
    /// Where a tail is torn: the segment, by its place among those there are, and where it is bad.
    pub torn: Option<(usize, Bad)>,
}

/// Reads all files. `threads` of them at a time.
pub(super) fn check_all(
    files: &[Found],
    keys: &Keys,
    threads: usize,
    progress: &Progress,
) -> Result<Vec<Checked>, OpenError> {
    let results: Vec<OnceLock<Checked>> = files.iter().map(|_| OnceLock::new()).collect();
    let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
    let work = || {
        while let Some(found) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let at = files.iter().position(|other| std::ptr::eq(other, found)).expect("one of them");
            match check(found, keys, progress) {
                Ok(checked) => drop(results[at].set(checked)),
                Err(error) => {
                    // The others have nothing left to do.
                    next.store(files.len(), Ordering::Relaxed);
                    let error = OpenError::not_read(&found.name, error);
                    failure.lock().expect("nobody panics with it").get_or_insert(error);
                }
            }
        }
    };
    match threads.min(files.len()) {
        0 | 1 => work(),
        threads => std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work)))),
    }
    match failure.into_inner().expect("nobody panics with it") {
        Some(error) => Err(error),
        None => Ok(results.into_iter().map(|result| result.into_inner().expect("all are done")).collect()),
    }
}

/// Reads a file from its head to its end, or to the first place that is bad.
fn check(found: &Found, keys: &Keys, progress: &Progress) -> Result<Checked, NotRead> {
    let mut scan = Scan::new(found.file.clone(), found.head.mark, found.sealer(keys)?);
    let mut checked = Checked {
        first: None,
        last: None,
        end: FILE_HEAD_BYTES as u64,
        bad: None,
        synced: 0,
        unsynced: VecDeque::new(),
        closed: false,
        version_max: 0,
        records: 0,
        node: Vec::new(),
    };
    progress.advance(checked.end).map_err(NotRead::Io)?;
    let mut node = Vec::new();
    let mut records = 0;
    let bad = loop {
        let offset = scan.offset();
        match scan.next().map_err(NotRead::Io)? {
            Event::Group(head) => {
                checked.synced = checked.synced.max(head.synced);
                if checked.last.is_some_and(|last| last + 1 != head.sequence) {
                    break Some(Bad {
                        offset,
                        group: offset,
                        what: "a group is missing in front of this one",
                    });
                }
            }
            Event::Record(bytes) => {
                let Ok(record) = Record::decode(bytes) else {
                    let what = "a record that this program does not write";
                    break Some(Bad { offset, group: checked.end, what });
                };
                records += 1;
                checked.version_max = checked.version_max.max(record.version_max().0);
                if let Record::Node(changes) = record {
                    node.extend(changes.iter().map(|(name, value)| {
                        (name.to_vec(), value.map(|value| Zeroizing::new(value.to_vec())))
                    }));
                }
            }
            Event::GroupEnds(head) => {
                while checked.unsynced.front().is_some_and(|(sequence, _)| *sequence <= checked.synced) {
                    checked.unsynced.pop_front();
                }
                checked.unsynced.push_back((head.sequence, checked.end));
                checked.first.get_or_insert(head.sequence);
                checked.last = Some(head.sequence);
                checked.closed = head.closes;
                checked.node.append(&mut node);
                checked.records += std::mem::take(&mut records);
                progress.advance(scan.offset() - checked.end).map_err(NotRead::Io)?;
                checked.end = scan.offset();
            }
            Event::End => break None,
            Event::Bad(bad) => break Some(bad),
        }
    };
    if let Some(bad) = bad {
        scan.heads_from(bad.group, |_, head| checked.synced = checked.synced.max(head.synced))
            .map_err(NotRead::Io)?;
    }
    progress.advance(found.length.saturating_sub(checked.end)).map_err(NotRead::Io)?;
    checked.bad = bad;
    Ok(checked)
}

/// A live set is good as a whole or not at all: it was synced before the manifest named it.
pub(super) fn judge_base(manifest: &Manifest, parts: &[(&Found, &Checked)]) -> Result<(), OpenError> {
    let mut expected = 1;
    for ((found, checked), part) in parts.iter().zip(&manifest.parts) {
        if let Some(bad) = checked.bad {
            return Err(OpenError::damaged(&found.name, bad.offset, bad.what));
        }
        let goes_on = checked.first == Some(expected);
        if !goes_on || checked.last != Some(part.last_sequence) || checked.end != part.length {
            return Err(OpenError::damaged(&found.name, checked.end, "records are missing here"));
        }
        expected = part.last_sequence + 1;
    }
    Ok(())
}

/// Tells a torn tail from damage.
pub(super) fn judge_log(manifest: &Manifest, segments: &[(&Found, &Checked)]) -> Result<Verdict, OpenError> {
    let synced = segments.iter().map(|(_, checked)| checked.synced).max().unwrap_or(0).max(manifest.sequence);
    let mut last = manifest.sequence;
    let mut place = None;
    for (at, (found, checked)) in segments.iter().enumerate() {
        let missing = at > 0 && found.head.number != segments[at - 1].0.head.number + 1
            || checked.first.is_some_and(|first| first != last + 1);
        if missing {
            // What should stand between is gone: it is bad from the end of the one before.
            let before = at.checked_sub(1).unwrap_or(at);
            let offset = if at == 0 { FILE_HEAD_BYTES as u64 } else { segments[before].1.end };
            let what = "what should follow here is missing";
            place = Some((before, Bad { offset, group: offset, what }));
            break;
        }
        last = checked.last.unwrap_or(last);
        if let Some(bad) = checked.bad {
            place = Some((at, bad));
            break;
        }
    }
    match place {
        Some((at, bad)) if last < synced => {
            Err(OpenError::damaged(&segments[at].0.name, bad.offset, bad.what))
        }
        torn => Ok(Verdict { last, synced, torn }),
    }
}

impl From<io::Error> for NotRead {
    fn from(error: io::Error) -> NotRead {
        NotRead::Io(error)
    }
}
