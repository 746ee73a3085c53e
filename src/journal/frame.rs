//! Frames: what goes through the ring between a shard and the writer.

/// What is in front of each frame: the length of what follows in four bytes, and a byte for its kind.
pub const FRAME_HEAD_BYTES: usize = 5;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Frame {
    /// A change.
    Change = 0,
    /// A change whose value comes beside the ring.
    ChangeWithValue = 1,
    /// Here begins the live set of the number in its eight bytes: changes before this frame are in it.
    BaseBegins = 2,
    /// A part of the live set.
    Base = 3,
    /// A part of the live set whose value comes beside the ring.
    BaseWithValue = 4,
    /// The live set is complete.
    BaseEnds = 5,
}

impl Frame {
    /// The kind that a tap has written.
    fn of(kind: u8) -> Frame {
        match kind {
            0 => Frame::Change,
            1 => Frame::ChangeWithValue,
            2 => Frame::BaseBegins,
            3 => Frame::Base,
            4 => Frame::BaseWithValue,
            _ => Frame::BaseEnds,
        }
    }

    /// Whether its value comes beside the ring.
    pub fn has_value(self) -> bool {
        matches!(self, Frame::ChangeWithValue | Frame::BaseWithValue)
    }
}

/// What stands in front of so many bytes of this kind.
pub fn frame_head(kind: Frame, length: usize) -> [u8; FRAME_HEAD_BYTES] {
    let [a, b, c, d] = (length as u32).to_le_bytes();
    [a, b, c, d, kind as u8]
}

/// The first frame in `bytes` if it is complete: its kind, its body, and what is behind it.
pub fn split_frame(bytes: &[u8]) -> Option<(Frame, &[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>()?;
    let [length @ .., kind] = *head;
    let (body, rest) = rest.split_at_checked(u32::from_le_bytes(length) as usize)?;
    Some((Frame::of(kind), body, rest))
}

/// How much must come behind `partial` before more of its frame is known, at least.
pub fn missing_bytes(partial: &[u8]) -> usize {
    let Some(head) = partial.first_chunk::<FRAME_HEAD_BYTES>() else {
        return FRAME_HEAD_BYTES - partial.len();
    };
    let [length @ .., _] = *head;
    FRAME_HEAD_BYTES + u32::from_le_bytes(length) as usize - partial.len()
}
