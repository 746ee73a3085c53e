//! Keys that collide under common unkeyed hashes, as someone who knows the hash would make them.
//!
//! Two ways. *Stages*: find two pieces of text that lead an iterated hash from one state to the same
//! next one, then two more from there, and so on; each of 17 stages doubles the keys. *Solving*: where
//! mixing a word in can be undone, choose one word freely and compute the next so that the state comes
//! out the same. All keys of a family have one length and one hash.

use std::collections::HashMap;

use inside::mix;

/// 2^17 keys.
const STAGES: usize = 17;
pub const KEYS: usize = 1 << STAGES;

pub struct Family {
    pub name: &'static str,
    /// The hash, as far as it collides.
    pub hash: Hash,
    pub keys: Vec<Vec<u8>>,
}

pub fn all() -> Vec<Family> {
    vec![
        family("Java String.hashCode", java, |_| vec![[b"Aa".to_vec(), b"BB".to_vec()]; STAGES]),
        family("DJB2", djb2, |_| vec![[b"az".to_vec(), b"bY".to_vec()]; STAGES]),
        family("FNV-1a 64, low half", fnv1a_low, stages),
        family("CRC-32", crc32, stages),
        Family { name: "MurmurHash2 64A, seed 0", hash: murmur2, keys: murmur2_keys() },
        Family { name: "MurmurHash3 32, seed 0", hash: murmur3, keys: murmur3_keys() },
        Family { name: "xxHash64, seed 0", hash: xxh64, keys: xxh64_keys() },
    ]
}

type Hash = fn(&[u8]) -> u64;
type Pairs = Vec<[Vec<u8>; 2]>;

fn family(name: &'static str, hash: Hash, pairs: fn(Hash) -> Pairs) -> Family {
    let pairs = pairs(hash);
    let spell =
        |number: usize| (0..STAGES).flat_map(|stage| pairs[stage][number >> stage & 1].clone()).collect();
    Family { name, hash, keys: (0..KEYS).map(spell).collect() }
}

/// Pairs of 6-byte pieces for a hash of 32 bits whose state is its result, found by birthday.
fn stages(hash: Hash) -> Pairs {
    let mut prefix = Vec::new();
    (0..STAGES as u64)
        .map(|stage| {
            let mut seen = HashMap::new();
            let pair = (0u64..)
                .find_map(|number| {
                    let piece = mix(stage << 32 | number).to_le_bytes()[..6].to_vec();
                    let text = [&prefix[..], &piece].concat();
                    let other = seen.insert(hash(&text), piece.clone())?;
                    (other != piece).then_some([other, piece])
                })
                .expect("endless");
            prefix.extend_from_slice(&pair[0]);
            pair
        })
        .collect()
}

fn java(key: &[u8]) -> u64 {
    u64::from(key.iter().fold(0u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(*byte))))
}

fn djb2(key: &[u8]) -> u64 {
    key.iter().fold(5_381u64, |hash, byte| hash.wrapping_mul(33).wrapping_add(u64::from(*byte)))
}

fn fnv1a_low(key: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    key.iter().fold(0xcbf2_9ce4_8422_2325, step) & 0xffff_ffff
}

fn crc32(key: &[u8]) -> u64 {
    let bit = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    u64::from(!key.iter().fold(!0u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| bit(crc))))
}

/// The number that an odd one multiplies to 1 with, modulo 2^64.
fn inverse(odd: u64) -> u64 {
    (0..6).fold(odd, |inverse, _| inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse))))
}

fn words(key: &[u8]) -> impl Iterator<Item = u64> + '_ {
    key.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
}

const MURMUR2: u64 = 0xc6a4_a793_5bd1_e995;

fn murmur2_word(word: u64) -> u64 {
    let word = word.wrapping_mul(MURMUR2);
    (word ^ word >> 47).wrapping_mul(MURMUR2)
}

/// For keys of whole words.
fn murmur2(key: &[u8]) -> u64 {
    let start = (key.len() as u64).wrapping_mul(MURMUR2);
    let hash = words(key).fold(start, |hash, word| (hash ^ murmur2_word(word)).wrapping_mul(MURMUR2));
    let hash = (hash ^ hash >> 47).wrapping_mul(MURMUR2);
    hash ^ hash >> 47
}

fn murmur2_keys() -> Vec<Vec<u8>> {
    let undo = inverse(MURMUR2);
    let start = 16u64.wrapping_mul(MURMUR2);
    let key = |number: usize| {
        let first = mix(number as u64);
        let state = (start ^ murmur2_word(first)).wrapping_mul(MURMUR2);
        let mixed = (state ^ 0x1234_5678_9abc_def0).wrapping_mul(undo);
        let second = (mixed ^ mixed >> 47).wrapping_mul(undo);
        [first.to_le_bytes(), second.to_le_bytes()].concat()
    };
    (0..KEYS).map(key).collect()
}

const MURMUR3: [u32; 2] = [0xcc9e_2d51, 0x1b87_3593];

fn murmur3_word(word: u32) -> u32 {
    word.wrapping_mul(MURMUR3[0]).rotate_left(15).wrapping_mul(MURMUR3[1])
}

fn murmur3_step(hash: u32, word: u32) -> u32 {
    (hash ^ murmur3_word(word)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

/// For keys of whole words.
fn murmur3(key: &[u8]) -> u64 {
    let word = |word: &[u8]| u32::from_le_bytes(word.try_into().expect("four bytes"));
    let mut hash = key.chunks_exact(4).map(word).fold(0, murmur3_step) ^ key.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    u64::from(hash ^ hash >> 16)
}

fn murmur3_keys() -> Vec<Vec<u8>> {
    let undo = MURMUR3.map(|factor| inverse(u64::from(factor)) as u32);
    let key = |number: usize| {
        let first = (number as u32).wrapping_mul(0x9e37_79b1);
        let mixed = murmur3_step(0, first) ^ 0x1234_5678;
        let second = mixed.wrapping_mul(undo[1]).rotate_right(15).wrapping_mul(undo[0]);
        [first.to_le_bytes(), second.to_le_bytes()].concat()
    };
    (0..KEYS).map(key).collect()
}

const XXH: [u64; 5] = [
    0x9e37_79b1_85eb_ca87,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
    0x85eb_ca77_c2b2_ae63,
    0x27d4_eb2f_1656_67c5,
];

fn xxh64_round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(XXH[1])).rotate_left(31).wrapping_mul(XXH[0])
}

fn xxh64_lanes() -> [u64; 4] {
    [XXH[0].wrapping_add(XXH[1]), XXH[1], 0, 0u64.wrapping_sub(XXH[0])]
}

/// For keys of whole stripes of 32 bytes.
fn xxh64(key: &[u8]) -> u64 {
    let mut lanes = xxh64_lanes();
    for stripe in key.chunks_exact(32) {
        lanes.iter_mut().zip(words(stripe)).for_each(|(lane, word)| *lane = xxh64_round(*lane, word));
    }
    let turned = [1, 7, 12, 18].iter().zip(lanes).map(|(turn, lane)| lane.rotate_left(*turn));
    let mut hash = turned.fold(0, u64::wrapping_add);
    for lane in lanes {
        hash = (hash ^ xxh64_round(0, lane)).wrapping_mul(XXH[0]).wrapping_add(XXH[3]);
    }
    hash = hash.wrapping_add(key.len() as u64);
    hash = (hash ^ hash >> 33).wrapping_mul(XXH[1]);
    hash = (hash ^ hash >> 29).wrapping_mul(XXH[2]);
    hash ^ hash >> 32
}

fn xxh64_keys() -> Vec<Vec<u8>> {
    let undo = inverse(XXH[1]);
    let key = |number: usize| {
        let first = mix(number as u64);
        let lane = xxh64_round(xxh64_lanes()[0], first);
        let second = 0x1234_5678_9abc_def0u64.wrapping_sub(lane).wrapping_mul(undo);
        let mut key = vec![b'x'; 64];
        key[..8].copy_from_slice(&first.to_le_bytes());
        key[32..40].copy_from_slice(&second.to_le_bytes());
        key
    };
    (0..KEYS).map(key).collect()
}
