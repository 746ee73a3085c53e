//! The heads of a file and of a group in it, and how a group is put together in memory.
//!
//! The format is written down in [`crate::journal`]. Everything here is bytes in memory.

use super::record::array;
use super::seal::{Place, SALT_BYTES, Sealer, TAG_BYTES, WRAPPED_BYTES};

/// The head of a file.
pub(super) const FILE_HEAD_BYTES: usize = 256;

/// The head of a group.
pub(super) const GROUP_HEAD_BYTES: usize = 44;

/// What stands before each piece of a record: its CRC and its length.
pub(super) const PIECE_HEAD_BYTES: usize = 8;

/// A record that is longer is cut into pieces of so many bytes. Bounds what has to be in memory at once.
pub(super) const PIECE_BYTES: usize = 256 * 1_024;

/// The longest piece on disk.
pub(super) const PIECE_ON_DISK_BYTES_MAX: usize = PIECE_BYTES + TAG_BYTES;

/// In the length of a piece: the record goes on in the next.
const GOES_ON: u32 = 1 << 31;

const FILE_MAGIC: [u8; 8] = *b"LUCIDLOG";

/// The version of the format of files and of records.
pub(super) const FORMAT: u16 = 1;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Changes.
    Log = 1,
    /// A part of a live set.
    Base = 2,
    /// A live set as a whole, in a file by itself.
    Snapshot = 3,
}

/// How a file is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SealHead {
    /// Which key of the manifest wraps the data key.
    pub folder_key: u32,
    /// The salt of the master key, of a file that is in no folder.
    pub salt: [u8; SALT_BYTES],
    /// The data key.
    pub wrapped: [u8; WRAPPED_BYTES],
}

/// The head of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHead {
    pub kind: Kind,
    /// The number of the segment, or of the part of the live set.
    pub number: u64,
    /// The generation of the live set; 0 of a log.
    pub generation: u64,
    /// Random: what every group of this file begins with.
    pub mark: u64,
    pub seal: Option<SealHead>,
}

/// Why a head is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHead {
    /// It is not what was written.
    Damaged,
    /// A later version of this program wrote it.
    Version(u16),
}

impl FileHead {
    pub(super) fn encode(&self) -> [u8; FILE_HEAD_BYTES] {
        let mut head = [0; FILE_HEAD_BYTES];
        head[..8].copy_from_slice(&FILE_MAGIC);
        head[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        head[10] = self.kind as u8;
        head[16..24].copy_from_slice(&self.number.to_le_bytes());
        head[24..32].copy_from_slice(&self.generation.to_le_bytes());
        head[32..40].copy_from_slice(&self.mark.to_le_bytes());
        if let Some(seal) = &self.seal {
            head[11] = 1;
            head[12..16].copy_from_slice(&seal.folder_key.to_le_bytes());
            head[40..40 + SALT_BYTES].copy_from_slice(&seal.salt);
            head[64..64 + WRAPPED_BYTES].copy_from_slice(&seal.wrapped);
        }
        let crc = crc32c::crc32c(&head[..FILE_HEAD_BYTES - 4]);
        head[FILE_HEAD_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        head
    }

    pub(super) fn decode(head: &[u8; FILE_HEAD_BYTES]) -> Result<FileHead, BadHead> {
        let (rest, crc) = head.split_at(FILE_HEAD_BYTES - 4);
        if crc32c::crc32c(rest) != u32::from_le_bytes(array(crc)) || rest[..8] != FILE_MAGIC {
            return Err(BadHead::Damaged);
        }
        let version = u16::from_le_bytes(array(&head[8..10]));
        if version != FORMAT {
            return Err(BadHead::Version(version));
        }
        let kind = match head[10] {
            1 => Kind::Log,
            2 => Kind::Base,
            3 => Kind::Snapshot,
            _ => return Err(BadHead::Damaged),
        };
        let number = |at: usize| u64::from_le_bytes(array(&head[at..at + 8]));
        let seal = (head[11] == 1).then(|| SealHead {
            folder_key: u32::from_le_bytes(array(&head[12..16])),
            salt: array(&head[40..40 + SALT_BYTES]),
            wrapped: array(&head[64..64 + WRAPPED_BYTES]),
        });
        Ok(FileHead { kind, number: number(16), generation: number(24), mark: number(32), seal })
    }
}

/// The head of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupHead {
    pub sequence: u64,
    /// All groups up to this one were durable when this one was written.
    pub synced: u64,
    /// Bytes of its records.
    pub length: u64,
    /// Pieces of its records.
    pub pieces: u32,
    /// The node ended in good order behind this group.
    pub closes: bool,
}

impl GroupHead {
    pub(super) fn encode(&self, mark: u64) -> [u8; GROUP_HEAD_BYTES] {
        let mut head = [0; GROUP_HEAD_BYTES];
        head[..8].copy_from_slice(&mark.to_le_bytes());
        head[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        head[16..24].copy_from_slice(&self.synced.to_le_bytes());
        head[24..32].copy_from_slice(&self.length.to_le_bytes());
        head[32..36].copy_from_slice(&self.pieces.to_le_bytes());
        head[36] = u8::from(self.closes);
        let crc = crc32c::crc32c(&head[..GROUP_HEAD_BYTES - 4]);
        head[GROUP_HEAD_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        head
    }

    pub(super) fn decode(head: &[u8; GROUP_HEAD_BYTES], mark: u64) -> Option<GroupHead> {
        let (rest, crc) = head.split_at(GROUP_HEAD_BYTES - 4);
        let is_good =
            rest[..8] == mark.to_le_bytes() && crc32c::crc32c(rest) == u32::from_le_bytes(array(crc));
        let number = |at: usize| u64::from_le_bytes(array(&head[at..at + 8]));
        is_good.then(|| GroupHead {
            sequence: number(8),
            synced: number(16),
            length: number(24),
            pieces: u32::from_le_bytes(array(&head[32..36])),
            closes: head[36] == 1,
        })
    }
}

/// What the CRC of each piece in a group begins with, so that a piece counts in its group alone.
pub(super) fn seed(mark: u64, sequence: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&mark.to_le_bytes()), &sequence.to_le_bytes())
}

/// The head of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PieceHead {
    crc: u32,
    length_and_flag: [u8; 4],
}

impl PieceHead {
    pub(super) fn decode(head: &[u8; PIECE_HEAD_BYTES]) -> PieceHead {
        PieceHead { crc: u32::from_le_bytes(array(&head[..4])), length_and_flag: array(&head[4..]) }
    }

    pub(super) fn length(&self) -> usize {
        (u32::from_le_bytes(self.length_and_flag) & !GOES_ON) as usize
    }

    pub(super) fn goes_on(&self) -> bool {
        u32::from_le_bytes(self.length_and_flag) & GOES_ON != 0
    }

    /// What the seal of the piece vouches for besides.
    pub(super) fn aad(&self) -> &[u8] {
        &self.length_and_flag
    }

    #[inline]
    pub(super) fn is_of(&self, seed: u32, body: &[u8]) -> bool {
        crc32c::crc32c_append(crc32c::crc32c_append(seed, &self.length_and_flag), body) == self.crc
    }
}

/// The records of a group, as they will stand in a file.
#[derive(Debug)]
pub(super) struct Group {
    /// Room for the head, then pieces.
    bytes: Vec<u8>,
    mark: u64,
    seed: u32,
    sequence: u64,
    pieces: u32,
    sealer: Option<Sealer>,
}

impl Group {
    /// The groups of a file, from one on. `room` is what a group usually takes.
    pub(super) fn new(mark: u64, sealer: Option<Sealer>, sequence: u64, room: usize) -> Group {
        let bytes = Vec::with_capacity(room);
        let mut group = Group { bytes, mark, seed: 0, sequence, pieces: 0, sealer };
        group.begin(sequence);
        group
    }

    /// Goes on in another file.
    pub(super) fn turn_to(&mut self, mark: u64, sealer: Option<Sealer>) {
        debug_assert!(self.is_empty());
        (self.mark, self.sealer) = (mark, sealer);
        self.begin(self.sequence);
    }

    /// Begins another group.
    pub(super) fn begin(&mut self, sequence: u64) {
        self.sequence = sequence;
        self.seed = seed(self.mark, sequence);
        self.pieces = 0;
        self.bytes.clear();
        self.bytes.resize(GROUP_HEAD_BYTES, 0);
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces == 0
    }

    /// Bytes of the group in its file.
    pub(super) fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Appends a record, whose two parts follow each other.
    #[inline]
    pub(super) fn push(&mut self, head: &[u8], value: &[u8]) {
        if head.len() + value.len() <= PIECE_BYTES {
            self.push_piece(head, value, false);
        } else {
            let mut pieces = Pieces::of(head, value);
            while let Some((head, value, goes_on)) = pieces.next() {
                self.push_piece(head, value, goes_on);
            }
        }
    }

    /// Appends a piece of a record.
    #[inline]
    pub(super) fn push_piece(&mut self, head: &[u8], value: &[u8], goes_on: bool) {
        let start = self.bytes.len();
        let tag = if self.sealer.is_some() { TAG_BYTES } else { 0 };
        let length = (head.len() + value.len() + tag) as u32 | if goes_on { GOES_ON } else { 0 };
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(value);
        if let Some(sealer) = &self.sealer {
            let place = Place { group: self.sequence, piece: self.pieces };
            sealer.seal(place, &length.to_le_bytes(), &mut self.bytes, start + PIECE_HEAD_BYTES);
        }
        let crc = crc32c::crc32c_append(self.seed, &self.bytes[start + 4..]);
        self.bytes[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        self.pieces += 1;
    }

    /// The group as it is written.
    pub(super) fn finish(&mut self, synced: u64, closes: bool) -> &[u8] {
        let length = (self.bytes.len() - GROUP_HEAD_BYTES) as u64;
        let head = GroupHead { sequence: self.sequence, synced, length, pieces: self.pieces, closes };
        self.bytes[..GROUP_HEAD_BYTES].copy_from_slice(&head.encode(self.mark));
        &self.bytes
    }

    /// The length of a group with nothing but this record.
    pub(super) fn length_alone(&self, head: &[u8], value: &[u8]) -> u64 {
        GROUP_HEAD_BYTES as u64 + self.pieces_length(head, value).0
    }

    fn pieces_length(&self, head: &[u8], value: &[u8]) -> (u64, u32) {
        let tag = if self.sealer.is_some() { TAG_BYTES } else { 0 };
        let length = head.len() + value.len();
        let pieces = length.div_ceil(PIECE_BYTES);
        ((length + pieces * (PIECE_HEAD_BYTES + tag)) as u64, pieces as u32)
    }

    /// Writes a group with nothing but this record, piece by piece, so that it is never in memory as a
    /// whole. The same can be done again from the beginning as long as the next group is not begun.
    pub(super) fn write_alone<E>(
        &mut self,
        head: &[u8],
        value: &[u8],
        synced: u64,
        mut write: impl FnMut(&[u8], u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let (length, count) = self.pieces_length(head, value);
        let group = GroupHead { sequence: self.sequence, synced, length, pieces: count, closes: false };
        self.bytes.clear();
        self.bytes.extend_from_slice(&group.encode(self.mark));
        self.pieces = 0;
        let (mut at, mut pieces) = (0, Pieces::of(head, value));
        while let Some((head, value, goes_on)) = pieces.next() {
            self.push_piece(head, value, goes_on);
            write(&self.bytes, at)?;
            at += self.bytes.len() as u64;
            self.bytes.clear();
        }
        debug_assert_eq!(at, GROUP_HEAD_BYTES as u64 + length);
        Ok(())
    }
}

/// A record cut into pieces.
struct Pieces<'a> {
    head: &'a [u8],
    value: &'a [u8],
}

impl<'a> Pieces<'a> {
    fn of(head: &'a [u8], value: &'a [u8]) -> Pieces<'a> {
        Pieces { head, value }
    }

    fn next(&mut self) -> Option<(&'a [u8], &'a [u8], bool)> {
        if self.head.is_empty() && self.value.is_empty() {
            return None;
        }
        let (head, head_rest) = self.head.split_at(self.head.len().min(PIECE_BYTES));
        let room = PIECE_BYTES - head.len();
        let (value, value_rest) = self.value.split_at(self.value.len().min(room));
        (self.head, self.value) = (head_rest, value_rest);
        Some((head, value, !head_rest.is_empty() || !value_rest.is_empty()))
    }
}

const _: () = assert!(PIECE_ON_DISK_BYTES_MAX < GOES_ON as usize);

#[cfg(test)]
mod tests {
    use super::{BadHead, FileHead, GroupHead, Kind, SealHead};

    #[test]
    fn heads_read_back_and_no_bit_of_them_may_change() {
        let seal = SealHead { folder_key: 7, salt: [3; 16], wrapped: [9; 60] };
        for seal in [None, Some(seal)] {
            let head = FileHead { kind: Kind::Base, number: 5, generation: 3, mark: 77, seal };
            let bytes = head.encode();
            assert_eq!(FileHead::decode(&bytes), Ok(head));
            for bit in 0..bytes.len() * 8 {
                let mut bytes = bytes;
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(FileHead::decode(&bytes), Err(BadHead::Damaged), "{bit}");
            }
        }
        let head = GroupHead { sequence: 1 << 40, synced: 17, length: 1 << 33, pieces: 4, closes: true };
        let bytes = head.encode(77);
        assert_eq!(GroupHead::decode(&bytes, 77), Some(head));
        assert_eq!(GroupHead::decode(&bytes, 78), None);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(GroupHead::decode(&bytes, 77), None, "{bit}");
        }
    }
}
