//! Finds where a plain request target ends, sixteen bytes at a time.
//!
//! A target has some dozens of bytes, and each GET and PUT has one: byte by byte, the search was the
//! longest loop of a request (PERF.md). Elsewhere than on x86-64, and under miri, it is that loop.

/// What was found at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// How many bytes are printable ASCII other than space, `?` and `#`.
    pub length: usize,
    /// Whether a `%` is among them.
    pub escaped: bool,
}

/// Measures the plain bytes that `bytes` begins with. `None` when all of them are.
#[inline]
pub fn plain(bytes: &[u8]) -> Option<Plain> {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let (blocks, rest) = bytes.as_chunks::<16>();
        let (mut length, mut escaped) = (0, false);
        for block in blocks {
            let (ends, escapes) = masks(block);
            if ends != 0 {
                let end = ends.trailing_zeros();
                escaped |= escapes & ((1 << end) - 1) != 0;
                return Some(Plain { length: length + end as usize, escaped });
            }
            escaped |= escapes != 0;
            length += block.len();
        }
        let found = one_by_one(rest)?;
        Some(Plain { length: length + found.length, escaped: escaped | found.escaped })
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    one_by_one(bytes)
}

/// A bit for each byte that is not plain, and one for each `%`.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
fn masks(block: &[u8; 16]) -> (u32, u32) {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
    };
    let word = u128::from_le_bytes(*block);
    // SAFETY: these work on registers alone, and SSE2 is part of x86-64.
    let (ends, escapes) = unsafe {
        let bytes = _mm_set_epi64x((word >> 64) as i64, word as i64);
        let is = |byte: u8| _mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte as i8));
        // Compared as signed numbers, so that this finds what is not ASCII too.
        let blank = _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x21));
        let ends = _mm_or_si128(_mm_or_si128(blank, is(0x7f)), _mm_or_si128(is(b'?'), is(b'#')));
        (_mm_movemask_epi8(ends), _mm_movemask_epi8(is(b'%')))
    };
    (ends as u32, escapes as u32)
}

fn one_by_one(bytes: &[u8]) -> Option<Plain> {
    let is_plain = |byte: &u8| matches!(byte, 0x21..=0x7e) && !matches!(byte, b'?' | b'#');
    let length = bytes.iter().position(|byte| !is_plain(byte))?;
    Some(Plain { length, escaped: bytes[..length].contains(&b'%') })
}

#[cfg(test)]
mod tests {
    use super::{one_by_one, plain};

    /// Not every byte is tried under miri, which takes its time for each.
    const STRIDE: usize = if cfg!(miri) { 97 } else { 1 };

    #[test]
    fn every_byte_at_every_place_is_found_as_one_by_one() {
        for length in 0..50 {
            for at in 0..length {
                for byte in (0..=255).step_by(STRIDE) {
                    let mut bytes = vec![b'a'; length];
                    bytes[at] = byte;
                    assert_eq!(plain(&bytes), one_by_one(&bytes), "{byte} at {at} of {length}");
                    bytes[length - 1] = b' ';
                    assert_eq!(plain(&bytes), one_by_one(&bytes), "{byte} at {at} before a space");
                }
            }
        }
    }

    #[test]
    fn an_escape_counts_before_the_end_only() {
        assert!(!plain(b"/api/kv/a HTTP/1.1 %").unwrap().escaped);
        assert!(plain(b"/api/kv/a%20b HTTP/1.1").unwrap().escaped);
        assert!(plain(b"/%api/kv/a/key/that/is/long HTTP/1.1").unwrap().escaped);
    }
}
