//! A value of a list as bytes: its length, whether it is plain, and its text.
//!
//! The length takes one to five bytes, seven bits in each, the lowest first. Its lowest bit says whether
//! the text shows the value's canonical form as it stands, so that most comparisons are of bytes.

use std::borrow::Cow;

use crate::primitive;

/// A value: its text, and what it is compared by.
#[derive(Clone, Debug)]
pub struct Value<'a> {
    text: &'a [u8],
    canonical: Cow<'a, [u8]>,
    is_plain: bool,
}

impl<'a> Value<'a> {
    /// The value of a primitive's text.
    ///
    /// # Errors
    /// For a number that cannot be compared.
    pub fn of(text: &'a [u8]) -> Result<Value<'a>, primitive::Incomparable> {
        let canonical = primitive::canonical(text)?;
        let is_plain = *canonical == *primitive::canonical_of_plain(text);
        Ok(Value { text, canonical, is_plain })
    }

    /// The string of these characters, which is only looked for: it has no text.
    pub fn of_characters(characters: &[u8]) -> Value<'static> {
        let canonical = [b"\"", characters].concat();
        Value { text: b"", canonical: canonical.into(), is_plain: false }
    }

    /// What it is hashed and compared by.
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    /// As it came.
    pub fn text(&self) -> &'a [u8] {
        self.text
    }

    /// Its record.
    pub fn record(&self) -> Record<'a> {
        Record { text: self.text, is_plain: self.is_plain }
    }
}

/// A value as it lies in a list.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// As it came.
    pub text: &'a [u8],
    /// Whether that is its canonical form.
    pub is_plain: bool,
}

impl<'a> Record<'a> {
    /// Bytes that it takes.
    pub fn len(&self) -> usize {
        len_for(self.text.len())
    }

    /// Reads the record at the start of `bytes`, and how long it is.
    pub fn read(bytes: &'a [u8]) -> (Record<'a>, usize) {
        let (mut number, mut at) = (0, 0);
        loop {
            let byte = bytes[at];
            number |= usize::from(byte & 0x7f) << (7 * at);
            at += 1;
            if byte < 0x80 {
                break;
            }
        }
        let end = at + (number >> 1);
        (Record { text: &bytes[at..end], is_plain: number & 1 == 1 }, end)
    }

    /// Writes it to the start of `out`.
    pub fn write(&self, out: &mut [u8]) {
        let mut number = self.text.len() << 1 | usize::from(self.is_plain);
        let mut at = 0;
        while number >= 0x80 {
            out[at] = number as u8 | 0x80;
            number >>= 7;
            at += 1;
        }
        out[at] = number as u8;
        out[at + 1..at + 1 + self.text.len()].copy_from_slice(self.text);
    }

    /// What it is hashed and compared by.
    pub fn canonical(&self) -> Cow<'a, [u8]> {
        if self.is_plain {
            return Cow::Borrowed(primitive::canonical_of_plain(self.text));
        }
        // What was kept was comparable.
        primitive::canonical(self.text).unwrap_or(Cow::Borrowed(self.text))
    }

    /// Whether it is the value with this canonical form.
    pub fn is(&self, canonical: &[u8]) -> bool {
        *self.canonical() == *canonical
    }
}

/// Bytes that a text of this length takes with its length.
pub fn len_for(text_len: usize) -> usize {
    let bits = usize::BITS - (text_len << 1 | 1).leading_zeros();
    text_len + bits.div_ceil(7) as usize
}

/// The records that lie one behind the other in `bytes`.
pub fn all(mut bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let (record, len) = Record::read(bytes);
        bytes = &bytes[len..];
        Some(record)
    })
}

#[cfg(test)]
mod tests {
    use super::{Record, Value, all};

    #[test]
    fn records_of_every_length_come_back_one_behind_the_other() {
        let mut bytes = Vec::new();
        let lengths = [1, 62, 63, 64, 65, 8_190, 8_191, 8_192, 1_048_575, 1_048_576];
        for (number, length) in lengths.into_iter().enumerate() {
            let text = vec![b'1' + number as u8; length];
            let record = Record { text: &text, is_plain: number % 2 == 0 };
            let at = bytes.len();
            bytes.resize(at + record.len(), 0xaa);
            record.write(&mut bytes[at..]);
        }
        let read: Vec<(usize, bool, u8)> =
            all(&bytes).map(|record| (record.text.len(), record.is_plain, record.text[0])).collect();
        let written = lengths.into_iter().enumerate();
        let written: Vec<_> =
            written.map(|(number, length)| (length, number % 2 == 0, b'1' + number as u8)).collect();
        assert_eq!(read, written);
    }

    #[test]
    fn a_record_is_the_value_it_was_made_of_and_those_equal_to_it() {
        for (kept, asked, same) in [
            ("1.0", "1", true),
            ("1", "1.0", true),
            ("\"\\u0061\"", "\"a\"", true),
            ("-0", "0", true),
            ("\"1\"", "1", false),
            ("2", "1", false),
        ] {
            let (kept, asked) = (Value::of(kept.as_bytes()).unwrap(), Value::of(asked.as_bytes()).unwrap());
            assert_eq!(kept.record().is(asked.canonical()), same);
        }
        let a = Value::of(b"\"a\"").unwrap();
        assert!(a.record().is(Value::of_characters(b"a").canonical()));
    }
}
