//! Compares what may hold a secret without telling, by the time it takes, where two differ.

use std::hint::black_box;

/// Whether two byte strings are the same, in a time that depends on their lengths only. The fold has
/// no branch, and `black_box` keeps the compiler from seeing that only its being zero matters.
pub fn equal(known: &[u8], shown: &[u8]) -> bool {
    if known.len() != shown.len() {
        return false;
    }
    let (known_words, known_rest) = known.as_chunks::<8>();
    let (shown_words, shown_rest) = shown.as_chunks::<8>();
    let words = known_words.iter().zip(shown_words);
    let rest = known_rest.iter().zip(shown_rest);
    let difference = words.fold(0, |sum, (a, b)| sum | (u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b)));
    black_box(rest.fold(black_box(difference), |sum, (a, b)| sum | u64::from(a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use super::equal;

    #[test]
    fn strings_are_equal_only_when_every_byte_is() {
        for length in 0..=40 {
            let known: Vec<u8> = (0..length).collect();
            assert!(equal(&known, &known.clone()));
            for at in 0..known.len() {
                let mut shown = known.clone();
                shown[at] ^= 0x80;
                assert!(!equal(&known, &shown), "byte {at} of {length}");
                assert!(!equal(&known, &known[..at]));
            }
        }
    }
}
