//! Reads a file from its head to its end, and believes nothing.
//!
//! Whatever is in a file, a scan ends: with the end of what was written, with the first place that is bad,
//! or with an error of the disk. It holds one window of the file in memory and, of a record in several
//! pieces, the record.

use std::io;
use std::sync::Arc;

use memchr::memmem;

use super::disk::{DiskFile, read_up_to};
use super::fault::{Fault, is_planted};
use super::seal::{Place, Sealer, Unsealable};
use super::segment::{
    BadHead, FILE_HEAD_BYTES, FileHead, GROUP_HEAD_BYTES, GroupHead, PIECE_HEAD_BYTES,
    PIECE_ON_DISK_BYTES_MAX, PieceHead, seed,
};

/// Bytes of a file that are in memory at once.
const WINDOW_BYTES: usize = 512 * 1_024;

/// A file that is read.
#[derive(Debug)]
pub(super) struct Scan {
    file: Arc<dyn DiskFile>,
    mark: u64,
    sealer: Option<Sealer>,
    window: Vec<u8>,
    /// What of the window is read and not yet taken.
    start: usize,
    end: usize,
    /// Where in the file `start` is.
    offset: u64,
    group: Option<Open>,
    /// The beginning of a record in several pieces.
    assembled: Vec<u8>,
    assembling: bool,
}

/// The group that is being read.
#[derive(Clone, Copy, Debug)]
struct Open {
    head: GroupHead,
    offset: u64,
    seed: u32,
    bytes_left: u64,
    pieces_left: u32,
}

/// What comes next in a file.
#[derive(Debug)]
pub(super) enum Event<'a> {
    Group(GroupHead),
    Record(&'a [u8]),
    GroupEnds(GroupHead),
    /// Nothing more was written.
    End,
    Bad(Bad),
}

/// A place that is not as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub offset: u64,
    /// Where its group begins, before which all is good.
    pub group: u64,
    pub what: &'static str,
}

/// Reads the head of a file. `None` if the file is shorter.
pub(super) fn read_head(file: &dyn DiskFile) -> io::Result<Option<Result<FileHead, BadHead>>> {
    let mut head = [0; FILE_HEAD_BYTES];
    let count = read_up_to(file, &mut head, 0)?;
    Ok((count == head.len()).then(|| FileHead::decode(&head)))
}

impl Scan {
    /// A file behind its head.
    pub(super) fn new(file: Arc<dyn DiskFile>, mark: u64, sealer: Option<Sealer>) -> Scan {
        Scan {
            file,
            mark,
            sealer,
            window: vec![0; WINDOW_BYTES],
            start: 0,
            end: 0,
            offset: FILE_HEAD_BYTES as u64,
            group: None,
            assembled: Vec::new(),
            assembling: false,
        }
    }

    /// Another file in the place of this one.
    pub(super) fn turn_to(&mut self, file: Arc<dyn DiskFile>, mark: u64, sealer: Option<Sealer>) {
        (self.file, self.mark, self.sealer) = (file, mark, sealer);
        (self.start, self.end, self.offset) = (0, 0, FILE_HEAD_BYTES as u64);
        self.group = None;
        self.assembling = false;
    }

    /// Where it is in the file.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn next(&mut self) -> io::Result<Event<'_>> {
        loop {
            let Some(mut group) = self.group else { return self.next_group() };
            if group.pieces_left == 0 {
                if group.bytes_left > 0 {
                    return Ok(bad(self.offset, group.offset, "the group is longer than its records"));
                }
                self.group = None;
                return Ok(Event::GroupEnds(group.head));
            }
            if self.fill(PIECE_HEAD_BYTES)? < PIECE_HEAD_BYTES {
                return Ok(bad(self.offset, group.offset, "the file ends within a group"));
            }
            let bytes = &self.window[self.start..self.end];
            let head = PieceHead::decode(bytes.first_chunk().expect("just filled"));
            let length = PIECE_HEAD_BYTES + head.length();
            if head.length() == 0
                || head.length() > PIECE_ON_DISK_BYTES_MAX
                || length as u64 > group.bytes_left
            {
                return Ok(bad(self.offset, group.offset, "a record of an impossible length"));
            }
            if self.fill(length)? < length {
                return Ok(bad(self.offset, group.offset, "the file ends within a record"));
            }
            let body = self.start + PIECE_HEAD_BYTES..self.start + length;
            let is_good = head.is_of(group.seed, &self.window[body.clone()]);
            if !is_good && !is_planted(Fault::CrcUnchecked) {
                return Ok(bad(self.offset, group.offset, "the CRC of a record does not match"));
            }
            let (offset, mut body) = (self.offset, body);
            if let Some(sealer) = &self.sealer {
                let place =
                    Place { group: group.head.sequence, piece: group.head.pieces - group.pieces_left };
                match sealer.open(place, head.aad(), &mut self.window[body.clone()]) {
                    Ok(opened) => body.end = body.start + opened.len(),
                    Err(Unsealable) => {
                        return Ok(bad(offset, group.offset, "the seal of a record does not match"));
                    }
                }
            }
            self.take(length);
            group.bytes_left -= length as u64;
            group.pieces_left -= 1;
            self.group = Some(group);
            if !head.goes_on() && !self.assembling {
                return Ok(Event::Record(&self.window[body]));
            }
            if !self.assembling {
                self.assembled.clear();
            }
            self.assembled.extend_from_slice(&self.window[body]);
            self.assembling = head.goes_on();
            if !self.assembling {
                return Ok(Event::Record(&self.assembled));
            }
            if group.pieces_left == 0 {
                return Ok(bad(offset, group.offset, "the group ends within a record"));
            }
        }
    }

    fn next_group(&mut self) -> io::Result<Event<'_>> {
        let available = self.fill(GROUP_HEAD_BYTES)?;
        let head = self.window[self.start..self.start + available].first_chunk();
        let Some(head) = head.and_then(|head| GroupHead::decode(head, self.mark)) else {
            let offset = self.offset;
            return Ok(match self.rest_is_zero()? {
                true => Event::End,
                false => bad(offset, offset, "this is not the head of a group"),
            });
        };
        let seed = seed(self.mark, head.sequence);
        let (bytes_left, pieces_left) = (head.length, head.pieces);
        self.group = Some(Open { head, offset: self.offset, seed, bytes_left, pieces_left });
        self.take(GROUP_HEAD_BYTES);
        self.assembling = false;
        self.assembled = Vec::new();
        Ok(Event::Group(head))
    }

    /// Whether nothing but zeros is left: room that was made and not used.
    fn rest_is_zero(&mut self) -> io::Result<bool> {
        loop {
            if self.window[self.start..self.end].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            self.take(self.end - self.start);
            if self.fill(1)? == 0 {
                return Ok(true);
            }
        }
    }

    /// Goes on with the next group that has a head, wherever behind an offset it is. False if there is none.
    pub(super) fn skip_to_group(&mut self, offset: u64) -> io::Result<bool> {
        let mut next = None;
        self.heads_from(offset, |at, _| next = next.or(Some(at)))?;
        (self.start, self.end, self.offset) = (0, 0, next.unwrap_or(offset));
        (self.group, self.assembling) = (None, false);
        Ok(next.is_some())
    }

    /// The heads of groups from an offset on, wherever they are: what stands behind a bad place.
    pub(super) fn heads_from(
        &mut self,
        offset: u64,
        mut found: impl FnMut(u64, GroupHead),
    ) -> io::Result<()> {
        (self.start, self.end, self.offset) = (0, 0, offset);
        let mark = self.mark.to_le_bytes();
        loop {
            let available = self.fill(WINDOW_BYTES)?;
            let window = &self.window[self.start..self.end];
            for at in memmem::find_iter(window, &mark) {
                let head = window[at..].first_chunk().and_then(|head| GroupHead::decode(head, self.mark));
                if let Some(head) = head {
                    found(self.offset + at as u64, head);
                }
            }
            if available < WINDOW_BYTES {
                return Ok(());
            }
            // A head may begin in this window and end in the next.
            self.take(WINDOW_BYTES - GROUP_HEAD_BYTES);
        }
    }

    /// Reads on until so many bytes are in the window, or the file ends. Answers how many are, at most
    /// as many.
    fn fill(&mut self, count: usize) -> io::Result<usize> {
        if self.end - self.start < count {
            self.window.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            let offset = self.offset + self.end as u64;
            self.end += read_up_to(&*self.file, &mut self.window[self.end..], offset)?;
        }
        Ok(count.min(self.end - self.start))
    }

    fn take(&mut self, count: usize) {
        self.start += count;
        self.offset += count as u64;
    }
}

fn bad(offset: u64, group: u64, what: &'static str) -> Event<'static> {
    Event::Bad(Bad { offset, group, what })
}

const _: () = assert!(PIECE_HEAD_BYTES + PIECE_ON_DISK_BYTES_MAX <= WINDOW_BYTES);
