//! What all reactors share, and all lives of a node.

use std::collections::{BTreeSet, HashMap};

use super::model::Key;
use super::plan::{Plan, Space};
use crate::clock::Now;
use crate::etag::Tags;
use crate::journal::Random;
use crate::op::KeyHasher;

/// What all reactors share, and all lives of the node.
#[derive(Debug)]
pub(super) struct World {
    pub random: Random,
    pub plan: Plan,
    pub hasher: KeyHasher,
    pub tags: Tags,
    pub now_ms: u64,
    /// The spaces, as the first reactor knows them.
    pub spaces: BTreeSet<Space>,
    /// The number of the next one: none is given twice.
    pub next_space: u32,
    /// The highest version or token that anybody was told of for a key.
    pub shown: HashMap<Key, u64>,
    /// How many values were made, so that each is another.
    pub values: u64,
    /// What reactors are to follow.
    pub follows: Vec<Follow>,
}

/// A change of the spaces that all follow.
#[derive(Clone, Copy, Debug)]
pub(super) enum Follow {
    Create(Space),
    Drop(Space),
}

impl World {
    pub(super) fn now(&self) -> Now {
        Now::from_unix_ms(self.now_ms)
    }

    /// Bytes that are unlike all others.
    pub(super) fn value(&mut self, length: usize) -> Vec<u8> {
        self.values += 1;
        [&self.values.to_le_bytes()[..], &[self.values as u8 | 1].repeat(length)].concat()
    }
}
