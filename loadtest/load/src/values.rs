//! What a key's value must be: a function of the key and the length, so that any answer can be
//! checked, whoever wrote it and when.

use crate::keys::{Random, mix};

/// Length in bytes of the part of a value that names key and length; shorter values have only filling.
const NAME_BYTES: usize = 16;

/// Different places at which a value's filling may start.
const STARTS: u64 = 1 << 16;

/// Lengths of values.
#[derive(Clone, Debug, PartialEq)]
pub enum Sizes {
    Range(usize, usize),
    /// Lengths and their shares.
    Shares(Vec<(usize, u64)>),
}

impl Sizes {
    pub fn parse(text: &str) -> Option<Sizes> {
        if let Some((least, most)) = text.split_once('-') {
            let (least, most) = (least.parse().ok()?, most.parse().ok()?);
            return (least <= most).then_some(Sizes::Range(least, most));
        }
        let share = |part: &str| {
            let (size, share) = part.split_once('*').unwrap_or((part, "1"));
            Some((size.parse().ok()?, share.parse::<u64>().ok().filter(|share| *share > 0)?))
        };
        text.split(',').map(share).collect::<Option<Vec<_>>>().map(Sizes::Shares)
    }

    /// The length that a random number chooses.
    pub fn choose(&self, random: u64) -> usize {
        match self {
            Sizes::Range(least, most) => {
                let span = (most - least + 1) as u128;
                least + ((u128::from(random) * span) >> 64) as usize
            }
            Sizes::Shares(shares) => {
                let total: u64 = shares.iter().map(|(_, share)| share).sum();
                let mut at = ((u128::from(random) * u128::from(total)) >> 64) as u64;
                for (size, share) in shares {
                    if at < *share {
                        return *size;
                    }
                    at -= share;
                }
                0
            }
        }
    }

    pub fn max(&self) -> usize {
        match self {
            Sizes::Range(_, most) => *most,
            Sizes::Shares(shares) => shares.iter().map(|(size, _)| *size).max().unwrap_or(0),
        }
    }
}

/// The values of all keys.
#[derive(Debug)]
pub struct Values {
    sizes: Sizes,
    filling: Vec<u8>,
}

impl Values {
    pub fn new(sizes: Sizes) -> Values {
        let mut random = Random::new(0x5eed);
        let words = (STARTS as usize + sizes.max()) / 8 + 1;
        let filling = (0..words).flat_map(|_| random.next().to_le_bytes()).collect();
        Values { sizes, filling }
    }

    /// The length that belongs to a key.
    pub fn len_of(&self, key: u64) -> usize {
        self.sizes.choose(mix(key ^ 0x51_2e))
    }

    /// The length that a random number chooses.
    pub fn len_any(&self, random: u64) -> usize {
        self.sizes.choose(random)
    }

    /// Appends the value of this length.
    pub fn append(&self, key: u64, len: usize, out: &mut Vec<u8>) {
        if len >= NAME_BYTES {
            out.extend_from_slice(&key.to_le_bytes());
            out.extend_from_slice(&(len as u64).to_le_bytes());
        }
        out.extend_from_slice(self.filling_of(key, len));
    }

    /// Whether these bytes are a value of the key. `sized`: its length must be the key's own.
    pub fn check(&self, key: u64, value: &[u8], sized: bool) -> bool {
        if value.len() > self.sizes.max() || (sized && value.len() != self.len_of(key)) {
            return false;
        }
        let rest = if value.len() >= NAME_BYTES {
            let (name, rest) = value.split_at(NAME_BYTES);
            if name[..8] != key.to_le_bytes() || name[8..] != (value.len() as u64).to_le_bytes() {
                return false;
            }
            rest
        } else {
            value
        };
        rest == self.filling_of(key, value.len())
    }

    /// What is wrong with a value, for a person.
    pub fn describe(&self, key: u64, value: &[u8]) -> String {
        let mut right = Vec::new();
        self.append(key, value.len().min(self.sizes.max()), &mut right);
        let differ = value.iter().zip(&right).filter(|(is, should)| is != should).count();
        let first = value.iter().zip(&right).position(|(is, should)| is != should);
        let word = |at: usize| {
            value.get(at..at + 8).and_then(|word| Some(u64::from_le_bytes(word.try_into().ok()?)))
        };
        format!(
            "wrong value of key {key}: {} bytes where its own has {}; {differ} bytes differ from its value of \
             that length, the first at {first:?}; it names key {:?} and length {:?}",
            value.len(),
            self.len_of(key),
            word(0),
            word(8)
        )
    }

    fn filling_of(&self, key: u64, len: usize) -> &[u8] {
        let start = (mix(key.wrapping_add((len as u64) << 40)) % STARTS) as usize;
        let rest = if len >= NAME_BYTES { len - NAME_BYTES } else { len };
        &self.filling[start..start + rest]
    }
}

#[cfg(test)]
mod tests {
    use super::{Sizes, Values};

    #[test]
    fn a_value_is_told_from_that_of_another_key_or_length_and_from_a_torn_one() {
        let values = Values::new(Sizes::parse("8-4096").unwrap());
        for len in [8, 16, 17, 64, 4_096] {
            let mut value = Vec::new();
            values.append(5, len, &mut value);
            assert_eq!(value.len(), len);
            assert!(values.check(5, &value, false));
            assert!(!values.check(6, &value, false));
            assert!(!values.check(5, &value[..len - 1], false));
            assert_eq!(values.check(5, &value, true), len == values.len_of(5));
            for at in [0, len / 2, len - 1] {
                let mut torn = value.clone();
                torn[at] ^= 1;
                assert!(!values.check(5, &torn, false));
            }
        }
    }

    #[test]
    fn sizes_come_in_their_shares() {
        let sizes = Sizes::parse("10*3,20*1").unwrap();
        let count = (0..400u64).filter(|at| sizes.choose(at * (u64::MAX / 400)) == 10).count();
        assert!((295..=305).contains(&count), "{count}");
        assert_eq!(Sizes::parse("64-1024").unwrap().choose(u64::MAX), 1_024);
        assert!(Sizes::parse("9-8").is_none() && Sizes::parse("").is_none() && Sizes::parse("1*0").is_none());
    }
}
