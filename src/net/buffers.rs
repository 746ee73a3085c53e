//! The buffers connections read into: lent while there is unanswered input, given back when empty.
//!
//! An idle connection holds none. A connection that waits for the rest of a head holds a small one,
//! so that a client that dribbles costs little.

use std::collections::VecDeque;

use crate::limits::{BLOCK_BYTES, CONNECTION_HOPS_MAX, SMALL_BLOCK_BYTES};
use crate::net::connection::Slot;

/// Blocks of each size that a reactor keeps for reuse: 8 MiB of large ones.
const SPARE_BLOCKS_MAX: usize = 256;

/// A buffer of one of two sizes.
pub type Block = Box<[u8]>;

/// A reactor's spare buffers and request queues.
#[derive(Debug, Default)]
pub struct Buffers {
    large: Vec<Block>,
    small: Vec<Block>,
    queues: Vec<VecDeque<Slot>>,
}

impl Buffers {
    /// A buffer of [`BLOCK_BYTES`].
    pub fn large(&mut self) -> Block {
        self.large.pop().unwrap_or_else(|| vec![0; BLOCK_BYTES].into_boxed_slice())
    }

    /// A buffer of [`SMALL_BLOCK_BYTES`].
    pub fn small(&mut self) -> Block {
        self.small.pop().unwrap_or_else(|| vec![0; SMALL_BLOCK_BYTES].into_boxed_slice())
    }

    /// Takes a buffer back. One too many is freed.
    pub fn give_back(&mut self, block: Block) {
        let spare = if block.len() == BLOCK_BYTES { &mut self.large } else { &mut self.small };
        if spare.len() < SPARE_BLOCKS_MAX {
            spare.push(block);
        }
    }

    /// An empty queue of requests with room for as many as a connection may have.
    pub fn queue(&mut self) -> VecDeque<Slot> {
        self.queues.pop().unwrap_or_else(|| VecDeque::with_capacity(CONNECTION_HOPS_MAX))
    }

    /// Takes an empty queue back.
    pub fn give_back_queue(&mut self, queue: VecDeque<Slot>) {
        debug_assert!(queue.is_empty());
        if self.queues.len() < SPARE_BLOCKS_MAX {
            self.queues.push(queue);
        }
    }
}
