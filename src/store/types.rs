//! Content types seen before: an entry holds a number instead of the name.
//!
//! The first 255 types a shard meets get a number, for good; later ones stand in their entries. So
//! the table is bounded whatever clients send.

use hashbrown::HashTable;

use super::entry::TypeName;
use crate::op::CONTENT_TYPE_DEFAULT;

const TYPES_MAX: usize = 255;

/// The numbered content types of a shard.
#[derive(Debug, Default)]
pub struct Types {
    names: Vec<Box<[u8]>>,
    numbers: HashTable<u8>,
    hasher: ahash::RandomState,
    bytes: u64,
}

impl Types {
    /// How an entry refers to a type of at most [`crate::limits::CONTENT_TYPE_BYTES_MAX`] bytes.
    pub fn refer(&mut self, name: &[u8]) -> TypeName {
        if name == CONTENT_TYPE_DEFAULT {
            return TypeName::Default;
        }
        let hash = self.hasher.hash_one(name);
        let known = |number: &u8| &*self.names[usize::from(*number) - 1] == name;
        if let Some(number) = self.numbers.find(hash, known) {
            return TypeName::Interned(*number);
        }
        if self.names.len() == TYPES_MAX {
            return TypeName::Inline(name.len() as u8);
        }
        self.learn(hash, name)
    }

    /// The type of this number.
    pub fn name(&self, number: u8) -> &[u8] {
        &self.names[usize::from(number) - 1]
    }

    /// Memory that the table takes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    #[cold]
    fn learn(&mut self, hash: u64, name: &[u8]) -> TypeName {
        self.names.push(name.into());
        let number = self.names.len() as u8;
        let Types { names, numbers, hasher, .. } = self;
        numbers.insert_unique(hash, number, |number| hasher.hash_one(&*names[usize::from(*number) - 1]));
        self.bytes += (name.len() + 2 * size_of::<Box<[u8]>>()) as u64;
        TypeName::Interned(number)
    }
}

#[cfg(test)]
mod tests {
    use super::Types;
    use crate::op::CONTENT_TYPE_DEFAULT;
    use crate::store::entry::TypeName;

    #[test]
    fn the_first_255_types_get_numbers_and_later_ones_stand_inline() {
        let mut types = Types::default();
        assert_eq!(types.refer(CONTENT_TYPE_DEFAULT), TypeName::Default);
        for round in 0..2 {
            for number in 1..=255u8 {
                let name = format!("text/x-{number}");
                assert_eq!(types.refer(name.as_bytes()), TypeName::Interned(number), "{round}");
                assert_eq!(types.name(number), name.as_bytes());
            }
        }
        assert_eq!(types.refer(b"text/late"), TypeName::Inline(9));
        assert_eq!(types.refer(b""), TypeName::Inline(0));
    }
}
