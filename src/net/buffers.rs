//! The buffers connections read into: lent while there is unanswered input, given back when empty.
//!
//! An idle connection holds none. A connection that waits for the rest of a head holds a small one,
//! so that a client that dribbles costs little. All that connections take is counted here, for the
//! memory limit.

use std::collections::VecDeque;

use crate::http::Familiar;
use crate::limits::{BLOCK_BYTES, CONNECTION_HOPS_MAX, SMALL_BLOCK_BYTES};
use crate::net::connection::{Connection, Slot};
use crate::net::output::Backlog;

/// Blocks of each size that a reactor keeps for reuse: 8 MiB of large ones.
const SPARE_BLOCKS_MAX: usize = 256;

/// Backlogs that a reactor keeps for reuse, for those who wait for its journal: up to 4 KiB each.
const SPARE_BACKLOGS_MAX: usize = 1_024;

/// Buffers of each kind that a reactor begins with, so that its first clients find some whatever
/// their timing. Their pages are not touched before they are used.
const SPARE_AT_START: usize = 8;

/// What a request queue takes.
const QUEUE_BYTES: u64 = (CONNECTION_HOPS_MAX * size_of::<Slot>()) as u64;

/// What a connection takes beside its buffers: itself, the fields it is known by, its timer and its
/// place in the poll.
const CONNECTION_BYTES: u64 = (size_of::<Connection>() + 2 * size_of::<Familiar>() + 64) as u64;

/// What TLS takes beside that: its keys, the records that it puts together, and what it has decrypted for
/// a connection that has no room for it now. Counted whole for each, since what of it is in use is not to
/// be seen from outside (PERF.md).
const TLS_BYTES: u64 = 24 * 1_024;

/// A buffer of one of two sizes.
pub type Block = Box<[u8]>;

/// A reactor's spare buffers and request queues.
#[derive(Debug)]
pub struct Buffers {
    large: Vec<Block>,
    small: Vec<Block>,
    queues: Vec<VecDeque<Slot>>,
    #[allow(clippy::vec_box)] // As connections hold them.
    backlogs: Vec<Box<Backlog>>,
    /// What connections have taken, lent buffers and spare ones.
    bytes: u64,
}

impl Buffers {
    /// The buffers of a reactor without connections.
    pub fn new() -> Buffers {
        let mut buffers = Buffers {
            large: Vec::with_capacity(SPARE_BLOCKS_MAX),
            small: Vec::with_capacity(SPARE_BLOCKS_MAX),
            queues: Vec::with_capacity(SPARE_BLOCKS_MAX),
            backlogs: Vec::new(),
            bytes: 0,
        };
        for _ in 0..SPARE_AT_START {
            let (large, small) = (buffers.block(BLOCK_BYTES), buffers.block(SMALL_BLOCK_BYTES));
            buffers.large.push(large);
            buffers.small.push(small);
            buffers.queues.push(VecDeque::with_capacity(CONNECTION_HOPS_MAX));
            buffers.bytes += QUEUE_BYTES;
        }
        buffers
    }

    /// A buffer of [`BLOCK_BYTES`].
    pub fn large(&mut self) -> Block {
        match self.large.pop() {
            Some(block) => block,
            None => self.block(BLOCK_BYTES),
        }
    }

    /// A buffer of [`SMALL_BLOCK_BYTES`].
    pub fn small(&mut self) -> Block {
        match self.small.pop() {
            Some(block) => block,
            None => self.block(SMALL_BLOCK_BYTES),
        }
    }

    #[cold]
    fn block(&mut self, bytes: usize) -> Block {
        self.bytes += bytes as u64;
        vec![0; bytes].into_boxed_slice()
    }

    /// Takes a buffer back. One too many is freed.
    pub fn give_back(&mut self, block: Block) {
        let spare = if block.len() == BLOCK_BYTES { &mut self.large } else { &mut self.small };
        if spare.len() < SPARE_BLOCKS_MAX {
            spare.push(block);
        } else {
            self.bytes -= block.len() as u64;
        }
    }

    /// An empty queue of requests with room for as many as a connection may have.
    pub fn queue(&mut self) -> VecDeque<Slot> {
        self.queues.pop().unwrap_or_else(|| {
            self.bytes += QUEUE_BYTES;
            VecDeque::with_capacity(CONNECTION_HOPS_MAX)
        })
    }

    /// Takes an empty queue back.
    pub fn give_back_queue(&mut self, queue: VecDeque<Slot>) {
        debug_assert!(queue.is_empty());
        if self.queues.len() < SPARE_BLOCKS_MAX {
            self.queues.push(queue);
        } else {
            self.bytes -= QUEUE_BYTES;
        }
    }

    /// An empty backlog.
    pub fn backlog(&mut self) -> Box<Backlog> {
        let Some(backlog) = self.backlogs.pop() else { return Box::default() };
        self.bytes -= backlog.spare_bytes();
        backlog
    }

    /// Takes a backlog back of which everything is sent. One too many is freed.
    pub fn give_back_backlog(&mut self, mut backlog: Box<Backlog>) {
        if self.backlogs.len() < SPARE_BACKLOGS_MAX {
            backlog.empty();
            self.bytes += backlog.spare_bytes();
            self.backlogs.push(backlog);
        }
    }

    /// Memory of all buffers, lent or spare, and of the connections.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counts a connection in.
    pub fn count_connection(&mut self, is_tls: bool) {
        self.bytes += CONNECTION_BYTES + if is_tls { TLS_BYTES } else { 0 };
    }

    /// Counts a connection out.
    pub fn discount_connection(&mut self, is_tls: bool) {
        self.bytes -= CONNECTION_BYTES + if is_tls { TLS_BYTES } else { 0 };
    }

    /// What a connection keeps for a client that reads slowly has become this much.
    pub fn recount_backlog(&mut self, counted: &mut u64, bytes: u64) {
        self.bytes = self.bytes - *counted + bytes;
        *counted = bytes;
    }
}
