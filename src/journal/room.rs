//! Room for the log: the segment that is written, and the one after it, which is made ahead.
//!
//! A full disk shows when the next segment cannot be made, and that leaves free what a new live set would take:
//! so there is always room to compact, and the present segment has half its room for what makes room, deletes
//! and the like. When that comes to its end they may have what was left free; then they are refused too.

use std::io;
use std::sync::Arc;

use super::chore::{Chore, Room, place_next};
use super::disk::{DiskFile, is_full};
use super::files::Begun;
use super::segment::FILE_HEAD_BYTES;
use super::tap::Health;
use super::writer::Writer;
use crate::clock::Now;

/// How long after a full disk it is tried again.
const FULL_RETRY_MS: u64 = 1_000;

/// The segment that is written.
#[derive(Debug)]
pub(super) struct Segment {
    pub number: u64,
    pub file: Arc<dyn DiskFile>,
    pub offset: u64,
    /// Bytes that the file has.
    pub room: u64,
}

/// The segment after it.
#[derive(Debug)]
pub(super) enum Next {
    Absent,
    /// It is being made.
    Asked,
    /// It has less room than a segment should: the disk is nearly full, and is asked again.
    Short(Begun, u64, u64),
    Ready(Begun, u64),
    /// There was no room for it. It is tried again at this time.
    Refused(u64),
}

impl Writer {
    /// Whether the segment takes whatever may be gathered; goes on to the next one if not.
    pub(super) fn has_room(&mut self) -> io::Result<bool> {
        let fits = self.log.offset + 2 * self.group_bytes <= self.log.room;
        Ok(fits || self.rotate()?)
    }

    /// Goes on to the next segment. False if it is not there yet.
    pub(super) fn rotate(&mut self) -> io::Result<bool> {
        let (begun, room) = match std::mem::replace(&mut self.next, Next::Absent) {
            Next::Ready(begun, room) | Next::Short(begun, room, _) => (begun, room),
            next => {
                self.next = next;
                return Ok(false);
            }
        };
        let number = self.log.number + 1;
        self.log.file.truncate(self.log.offset)?;
        place_next(&*self.disk, number)?;
        let Begun { file, mark, sealer } = begun;
        let segment = Segment { number, file, offset: FILE_HEAD_BYTES as u64, room };
        let full = std::mem::replace(&mut self.log, segment);
        self.group.turn_to(mark, sealer);
        self.older.push((full.number, full.offset));
        self.unsynced.files.push(full.file);
        self.unsynced.folder = true;
        Ok(true)
    }

    /// The disk is full in spite of all care. What could not be written is written when there is room.
    pub(super) fn stall(&mut self, now: Now) {
        self.stalled_until_ms = Some(now.unix_ms + FULL_RETRY_MS / 4);
    }

    /// Sees to it that the next segment is there before this one is used up, as far as the folder may grow.
    pub(super) fn prepare_next(&mut self, now: Now) {
        match &self.next {
            // What blocks the live set is let through, or neither would come to an end.
            Next::Absent if self.may_grow() || self.blocked && self.compaction.is_gathering() => {}
            Next::Refused(at) if now.unix_ms >= *at => {}
            Next::Short(begun, room, at) if now.unix_ms >= *at => {
                let (file, from, room) = (begun.file.clone(), *room, *room);
                let chore = Chore::Grow { file, from, room: self.room_wanted() };
                if let Next::Short(begun, ..) = std::mem::replace(&mut self.next, Next::Absent) {
                    self.next = Next::Short(begun, room, now.unix_ms + FULL_RETRY_MS);
                }
                self.give_out(chore);
                return;
            }
            _ => return,
        }
        self.next = Next::Asked;
        let (number, keys) = (self.log.number + 1, self.keys.clone());
        let mut room = self.room_wanted();
        if self.health >= Health::Full && self.log_left() < self.segment_bytes / 4 {
            room = Room { bytes: (room.bytes / 4).max(room.bytes_min), spare: 0, ..room };
        }
        self.give_out(Chore::Prepare { number, keys, room });
    }

    fn room_wanted(&self) -> Room {
        Room { bytes: self.segment_bytes, bytes_min: 4 * self.group_bytes, spare: self.base_left() }
    }

    /// Bytes that the segment still takes.
    pub(super) fn log_left(&self) -> u64 {
        self.log.room.saturating_sub(self.log.offset)
    }

    /// Gives back what the segment has not used, for the next one and a new live set to take: a disk that is
    /// full of what is not needed any more is emptied so. Without it nothing more fits into the segment.
    pub(super) fn give_back_room(&mut self, now: Now) -> io::Result<()> {
        self.log.file.truncate(self.log.offset)?;
        self.log.room = self.log.offset;
        self.next = Next::Refused(now.unix_ms);
        Ok(())
    }

    /// What has come of making the next segment.
    pub(super) fn prepared(&mut self, result: io::Result<(Begun, u64)>, now: Now) -> io::Result<()> {
        self.next = match result {
            Ok((begun, room)) if room < self.segment_bytes => {
                Next::Short(begun, room, now.unix_ms + FULL_RETRY_MS)
            }
            Ok((begun, room)) => Next::Ready(begun, room),
            Err(error) if is_full(&error) => Next::Refused(now.unix_ms + FULL_RETRY_MS),
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// What has come of making it longer.
    pub(super) fn grown(&mut self, result: io::Result<u64>) -> io::Result<()> {
        let room = match result {
            Ok(room) => room,
            Err(error) if is_full(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        self.next = match std::mem::replace(&mut self.next, Next::Absent) {
            Next::Short(begun, ..) => Next::Ready(begun, room),
            next => next,
        };
        Ok(())
    }

    /// Bytes that the log takes, as far as they are used.
    pub(super) fn log_bytes(&self) -> u64 {
        self.older.iter().map(|(_, bytes)| bytes).sum::<u64>() + self.log.offset
    }

    /// Full when the next segment cannot be had as it should and this one is half used; exhausted when there
    /// is none at all and what is left of this one is for what the rings hold.
    pub(super) fn health_now(&self) -> Health {
        // While it is tried again, it stays as it was.
        let is_asked = matches!(self.next, Next::Asked) && self.health >= Health::Full;
        let is_refused = matches!(self.next, Next::Refused(_)) || is_asked;
        let is_half_used = self.log.offset > self.log.room / 2 || self.log.room < self.segment_bytes;
        if self.stalled_until_ms.is_some()
            || is_refused && self.log_left() < 3 * self.group_bytes
            || is_asked && self.health == Health::Exhausted
        {
            Health::Exhausted
        } else if is_half_used && (is_refused || matches!(self.next, Next::Short(..))) {
            Health::Full
        } else {
            Health::Good
        }
    }
}
