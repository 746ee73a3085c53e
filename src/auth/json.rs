//! A strict reader of the two small JSON texts in a token (RFC 8259). Allocates nothing.
//!
//! It owns what makes a text dangerous rather than wrong: doubled names (compared as they read, so
//! `"\u0061lg"` doubles `"alg"`), nesting, half surrogates. The caller walks the members and says of
//! each value what it must be; whatever it does not name is skipped, but checked all the same.
//!
//! Work stays linear in the text: at most [`NAMES_MAX`] names are open at a time, so looking for a
//! double costs a bounded number of comparisons for each name.

use crate::limits::JSON_DEPTH_MAX;

/// Most member names of all open objects together. A token needs a dozen.
pub(super) const NAMES_MAX: usize = 64;

/// The text is not JSON, or a value is not what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A reader standing somewhere in a text.
pub(super) struct Reader<'a> {
    /// Valid UTF-8.
    text: &'a [u8],
    at: usize,
    depth: usize,
    names: [Text<'a>; NAMES_MAX],
    names_open: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of a text.
    pub(super) fn new(text: &'a [u8]) -> Result<Reader<'a>, Malformed> {
        std::str::from_utf8(text).map_err(|_| Malformed)?;
        Ok(Reader { text, at: 0, depth: 0, names: [Text(b""); NAMES_MAX], names_open: 0 })
    }

    /// Reads an object. `each` is called with a name and must read the value behind it.
    pub(super) fn members(
        &mut self,
        mut each: impl FnMut(&mut Reader<'a>, Text<'a>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.descend(b'{')?;
        let first = self.names_open;
        if !self.take(b'}') {
            loop {
                let name = self.string()?;
                self.open_name(name, first)?;
                self.expect(b':')?;
                each(self, name)?;
                if self.take(b'}') {
                    break;
                }
                self.expect(b',')?;
            }
        }
        self.names_open = first;
        self.depth -= 1;
        Ok(())
    }

    /// Reads an array. `each` is called before an element and must read it.
    pub(super) fn elements(
        &mut self,
        mut each: impl FnMut(&mut Reader<'a>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.descend(b'[')?;
        if !self.take(b']') {
            loop {
                each(self)?;
                if self.take(b']') {
                    break;
                }
                self.expect(b',')?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads a string.
    pub(super) fn string(&mut self) -> Result<Text<'a>, Malformed> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            match self.next()? {
                b'"' => return Ok(Text(&self.text[start..self.at - 1])),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => self.at += code_point(&self.text[self.at..]).ok_or(Malformed)?.1,
                    _ => return Err(Malformed),
                },
                0..=0x1f => return Err(Malformed),
                _ => {}
            }
        }
    }

    /// Reads an integer from 0 to 2^64 - 1, written as digits only: no sign, fraction or exponent.
    pub(super) fn unsigned(&mut self) -> Result<u64, Malformed> {
        self.number()?.iter().try_fold(0_u64, |sum, digit| {
            let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0')).ok_or(Malformed)?;
            sum.checked_mul(10).and_then(|sum| sum.checked_add(digit)).ok_or(Malformed)
        })
    }

    /// Reads a value of any kind and keeps nothing of it.
    pub(super) fn skip(&mut self) -> Result<(), Malformed> {
        self.skip_blank();
        match self.text.get(self.at) {
            Some(b'{') => self.members(|reader, _| reader.skip()),
            Some(b'[') => self.elements(Reader::skip),
            Some(b'"') => self.string().map(|_| ()),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            _ => self.number().map(|_| ()),
        }
    }

    /// Checks that nothing but blanks is left.
    pub(super) fn end(&mut self) -> Result<(), Malformed> {
        self.skip_blank();
        if self.at == self.text.len() { Ok(()) } else { Err(Malformed) }
    }

    /// Reads a number by the grammar of RFC 8259, section 6, and gives its text.
    fn number(&mut self) -> Result<&'a [u8], Malformed> {
        self.skip_blank();
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(Malformed) }
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), Malformed> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Malformed);
        }
        self.at += word.len();
        Ok(())
    }

    fn open_name(&mut self, name: Text<'a>, first: usize) -> Result<(), Malformed> {
        if self.names_open == NAMES_MAX || self.names[first..self.names_open].contains(&name) {
            return Err(Malformed);
        }
        self.names[self.names_open] = name;
        self.names_open += 1;
        Ok(())
    }

    fn descend(&mut self, bracket: u8) -> Result<(), Malformed> {
        self.expect(bracket)?;
        self.depth += 1;
        if self.depth > JSON_DEPTH_MAX { Err(Malformed) } else { Ok(()) }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.take(byte) { Ok(()) } else { Err(Malformed) }
    }

    fn take(&mut self, byte: u8) -> bool {
        self.skip_blank();
        let here = self.peek() == Some(byte);
        self.at += usize::from(here);
        here
    }

    fn next(&mut self) -> Result<u8, Malformed> {
        let byte = self.peek().ok_or(Malformed)?;
        self.at += 1;
        Ok(byte)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }
}

/// A string as it stands between its quotes, already found well-formed. Equal to another when both
/// read the same once their escapes are resolved.
#[derive(Clone, Copy)]
pub(super) struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// The bytes it stands for.
    pub(super) fn bytes(self) -> impl Iterator<Item = u8> + use<'a> {
        Unescaped { raw: self.0, pending: [0; 4], pending_from: 4 }
    }

    fn is_plain(self) -> bool {
        memchr::memchr(b'\\', self.0).is_none()
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        if self.is_plain() && other.is_plain() { self.0 == other.0 } else { self.bytes().eq(other.bytes()) }
    }
}

impl PartialEq<&str> for Text<'_> {
    fn eq(&self, other: &&str) -> bool {
        *self == Text(other.as_bytes())
    }
}

/// Resolves the escapes of a well-formed string, byte by byte.
struct Unescaped<'a> {
    raw: &'a [u8],
    /// UTF-8 of a `\u` escape, at the end of the array.
    pending: [u8; 4],
    pending_from: usize,
}

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if let Some(&byte) = self.pending.get(self.pending_from) {
            self.pending_from += 1;
            return Some(byte);
        }
        let (&byte, rest) = self.raw.split_first()?;
        self.raw = rest;
        if byte != b'\\' {
            return Some(byte);
        }
        let (&kind, rest) = self.raw.split_first()?;
        self.raw = rest;
        match kind {
            b'b' => Some(0x08),
            b'f' => Some(0x0c),
            b'n' => Some(b'\n'),
            b'r' => Some(b'\r'),
            b't' => Some(b'\t'),
            b'u' => self.next_code_point(),
            other => Some(other),
        }
    }
}

impl Unescaped<'_> {
    fn next_code_point(&mut self) -> Option<u8> {
        let (character, length) = code_point(self.raw)?;
        self.raw = &self.raw[length..];
        let mut utf8 = [0; 4];
        let utf8 = character.encode_utf8(&mut utf8).as_bytes();
        self.pending_from = 4 - utf8.len();
        self.pending[self.pending_from..].copy_from_slice(utf8);
        self.next()
    }
}

/// The character of a `\u` escape, and how many bytes behind the `u` spell it: 4, or 10 for a pair
/// of surrogates. A half pair is none.
fn code_point(text: &[u8]) -> Option<(char, usize)> {
    let first = hex4(text)?;
    if !(0xd800..0xe000).contains(&first) {
        return char::from_u32(first).map(|character| (character, 4));
    }
    let second = hex4(text.get(4..)?.strip_prefix(b"\\u")?)?;
    if first >= 0xdc00 || !(0xdc00..0xe000).contains(&second) {
        return None;
    }
    char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)).map(|character| (character, 10))
}

fn hex4(text: &[u8]) -> Option<u32> {
    let digits = text.first_chunk::<4>()?;
    digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::{Malformed, NAMES_MAX, Reader};
    use crate::limits::JSON_DEPTH_MAX;

    fn skip(text: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(text)?;
        reader.skip()?;
        reader.end()
    }

    #[test]
    fn it_agrees_with_serde_json_on_every_small_text() {
        let alphabet = b"{}[]\",:\\utn-01.eE+ \x1fd8c";
        let mut state = 1_u64;
        let mut accepted = 0;
        for _ in 0..400_000 {
            let mut text = Vec::new();
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut bits = state >> 20;
            for _ in 0..=(bits % 7) {
                bits = bits.rotate_right(5) ^ state;
                text.push(alphabet[(bits % alphabet.len() as u64) as usize]);
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            }
            check_against_serde(&text);
            accepted += usize::from(skip(&text).is_ok());
        }
        assert!(accepted > 1_000, "{accepted}");
    }

    /// serde_json lets doubled names pass, which none of the texts here has, and refuses numbers that
    /// no double holds, which are none of our business.
    fn check_against_serde(text: &[u8]) {
        let theirs = match serde_json::from_slice::<serde_json::Value>(text) {
            Err(error) if error.to_string().contains("out of range") => return,
            theirs => theirs,
        };
        assert_eq!(skip(text).is_ok(), theirs.is_ok(), "{:?}", String::from_utf8_lossy(text));
    }

    #[test]
    fn well_formed_texts_pass_and_malformed_ones_do_not() {
        for text in [
            r#"{"a":[1,-0,0.5,1e9,1E-2,true,false,null,"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00é"]}"#,
            " {\r\n\t\"a\" : { } , \"b\" : [ ] } ",
            r#"{"a":{"b":1},"b":{"b":2}}"#,
            r#""""#,
        ] {
            check_against_serde(text.as_bytes());
            assert_eq!(skip(text.as_bytes()), Ok(()), "{text}");
        }
        for text in [
            "",
            " ",
            "{",
            "}",
            "{}}",
            "{,}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a":1 "b":2}"#,
            r#"{a:1}"#,
            r#"{'a':1}"#,
            "[1,]",
            "[,1]",
            "[1 2]",
            "01",
            "-",
            "+1",
            "1.",
            ".5",
            "1e",
            "1e+",
            "0x1",
            "NaN",
            "Infinity",
            "tru",
            "True",
            "nul",
            "\"\n\"",
            r#"""#,
            r#""\"#,
            r#""\x""#,
            r#""\u12"#,
            r#""\u12g4""#,
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\ud800""#,
            r#""\ud800x""#,
            r#""\u+123""#,
            "// a\n1",
            "\u{feff}{}",
            "1\0",
        ] {
            assert_eq!(skip(text.as_bytes()), Err(Malformed), "{text}");
        }
        assert_eq!(skip(b"\"\xff\""), Err(Malformed));
        assert_eq!(skip(b"\"\xed\xa0\x80\""), Err(Malformed));
    }

    #[test]
    fn a_doubled_name_is_refused_however_it_is_spelled() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"{"\u00e9":1,"é":1}"#,
            r#"{"/":1,"\/":1}"#,
            r#"{"\ud83d\ude00":1,"b":2,"😀":3}"#,
            r#"{"x":{"y":[{"a":1,"a":2}]}}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert_eq!(skip(text.as_bytes()), Err(Malformed), "{text}");
        }
        assert_eq!(skip(br#"{"a":1,"A":2,"a ":3,"\u0000":4}"#), Ok(()));
    }

    #[test]
    fn nesting_and_names_end_at_their_limits() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(skip(nested(JSON_DEPTH_MAX).as_bytes()), Ok(()));
        assert_eq!(skip(nested(JSON_DEPTH_MAX + 1).as_bytes()), Err(Malformed));
        let wide = |names: usize| {
            let members: Vec<_> = (0..names).map(|name| format!("\"{name}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert_eq!(skip(wide(NAMES_MAX).as_bytes()), Ok(()));
        assert_eq!(skip(wide(NAMES_MAX + 1).as_bytes()), Err(Malformed));
        let beside = format!("[{},{}]", wide(NAMES_MAX), wide(NAMES_MAX));
        assert_eq!(skip(beside.as_bytes()), Ok(()), "closed objects give their names back");
    }

    #[test]
    fn an_unsigned_integer_is_digits_that_fit() {
        let read = |text: &str| Reader::new(text.as_bytes()).and_then(|mut reader| reader.unsigned());
        assert_eq!(read("0"), Ok(0));
        assert_eq!(read(" 18446744073709551615"), Ok(u64::MAX));
        for text in ["18446744073709551616", "-1", "-0", "1.0", "1e3", "\"1\"", "null", "", "01x"] {
            let mut reader = Reader::new(text.as_bytes()).unwrap();
            assert!(reader.unsigned().is_err() || reader.end().is_err(), "{text}");
        }
    }
}
