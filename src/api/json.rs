//! The little JSON that the API speaks: one object's members read strictly, and text written.
//!
//! An object is refused when a member comes twice, since two readers could then see two different
//! requests, and when it has more members than any request here needs. Nesting is bounded before
//! anything is parsed. Values stay unparsed until they are asked for.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::limits::{BATCH_OPERATIONS_MAX, JSON_DEPTH_MAX};

/// Most members of an object, known or not.
const MEMBERS_MAX: usize = 32;

/// A value of a member.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// A string, its escapes resolved.
    Text(Cow<'a, str>),
    /// A number, as it was written.
    Number(&'a str),
    /// Anything else.
    Other,
}

/// The members of one object.
#[derive(Debug)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Parses a document that is one object, nested no deeper than [`JSON_DEPTH_MAX`].
    pub fn parse(document: &'a str) -> Result<Object<'a>, &'static str> {
        if !depth_is_bounded(document.as_bytes()) {
            return Err("the JSON is nested too deep");
        }
        serde_json::from_str(document).map_err(|_| "the body is no JSON object, or has a member twice")
    }

    /// The names of the members.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|(name, _)| &**name)
    }

    /// The value of a member that is an array of strings, `Some(None)` when it is something else.
    pub fn texts(&self, name: &str) -> Option<Option<Vec<Cow<'a, str>>>> {
        let (_, raw) = self.members.iter().find(|(own, _)| own == name)?;
        let texts = serde_json::from_str::<Vec<Text<'a>>>(raw.get()).ok();
        Some(texts.map(|texts| texts.into_iter().map(|Text(text)| text).collect()))
    }

    /// The value of a member as it was written.
    pub fn raw(&self, name: &str) -> Option<&'a str> {
        self.members.iter().find(|(own, _)| own == name).map(|(_, raw)| raw.get())
    }

    /// The value of a member.
    pub fn member(&self, name: &str) -> Option<Value<'a>> {
        let (_, raw) = self.members.iter().find(|(own, _)| own == name)?;
        Some(Value::of(raw.get()))
    }
}

impl<'a> Value<'a> {
    fn of(raw: &'a str) -> Value<'a> {
        match raw.as_bytes().first() {
            Some(b'n') => Value::Null,
            Some(b'-' | b'0'..=b'9') => Value::Number(raw),
            Some(b'"') => match serde_json::from_str::<Text>(raw) {
                Ok(Text(text)) => Value::Text(text),
                Err(_) => Value::Other, // Well-formed for a value that is skipped, but no text: a lone surrogate.
            },
            _ => Value::Other,
        }
    }
}

/// Parses a document that is an array, into its unparsed values. `Ok(None)` is one of more than
/// [`BATCH_OPERATIONS_MAX`].
pub fn array(document: &str) -> Result<Option<Vec<&str>>, &'static str> {
    if !depth_is_bounded(document.as_bytes()) {
        return Err("the JSON is nested too deep");
    }
    let items: Items<'_> = serde_json::from_str(document).map_err(|_| "the body is no JSON array")?;
    let longer = items.0.len() > BATCH_OPERATIONS_MAX;
    Ok((!longer).then(|| items.0.into_iter().map(RawValue::get).collect()))
}

/// Whether brackets and braces nest no deeper than [`JSON_DEPTH_MAX`]. Says nothing of the rest.
fn depth_is_bounded(document: &[u8]) -> bool {
    let (mut depth, mut at) = (0_usize, 0);
    while at < document.len() {
        match document[at] {
            b'[' | b'{' => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return false;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                at += 1;
                while let Some(found) = document.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
                {
                    at += found;
                    if document[at] == b'"' {
                        break;
                    }
                    at += 2;
                }
            }
            _ => {}
        }
        at += 1;
    }
    true
}

/// Appends a string with its quotes, escaped.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    // Without a branch for each byte, so that many are looked at together. Most texts are plain.
    let needs_escape = |byte: u8| (byte < 0x20) | (byte == 0x7f) | (byte == b'"') | (byte == b'\\');
    if !text.bytes().fold(false, |any, byte| any | needs_escape(byte)) {
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    let mut plain_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = ESCAPES[usize::from(byte)];
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[plain_from..at]);
        plain_from = at + 1;
        if escape == b'u' {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        } else {
            out.extend_from_slice(&[b'\\', escape]);
        }
    }
    out.extend_from_slice(&text.as_bytes()[plain_from..]);
    out.push(b'"');
}

/// Bytes that [`write_text`] appends.
pub fn text_length(text: &str) -> usize {
    let more = |byte: u8| match ESCAPES[usize::from(byte)] {
        0 => 0,
        b'u' => 5,
        _ => 1,
    };
    2 + text.len() + text.bytes().map(more).sum::<usize>()
}

/// What stands behind the backslash for a byte; 0 for those that stand for themselves.
const ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        escapes[byte] = b'u';
        byte += 1;
    }
    escapes[0x7f] = b'u';
    escapes[b'"' as usize] = b'"';
    escapes[b'\\' as usize] = b'\\';
    escapes[b'\n' as usize] = b'n';
    escapes[b'\r' as usize] = b'r';
    escapes[b'\t' as usize] = b't';
    escapes
};

/// A string that borrows from the document where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::with_capacity(4);
                while let Some(Text(name)) = map.next_key()? {
                    if members.len() == MEMBERS_MAX || members.iter().any(|(own, _)| *own == name) {
                        return Err(A::Error::custom("a member twice, or too many"));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(Object { members })
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// The values of an array, unparsed; no more are kept than a batch may have and one.
struct Items<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Items<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items<'de>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element::<&'de RawValue>()? {
                    if items.len() <= BATCH_OPERATIONS_MAX {
                        items.push(item);
                    }
                }
                Ok(Items(items))
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::{Object, Value, array, text_length, write_text};
    use crate::limits::{BATCH_OPERATIONS_MAX, JSON_DEPTH_MAX};

    #[test]
    fn members_are_read_by_name_and_numbers_keep_their_text() {
        let object = Object::parse(
            r#" {"a":"x\n\u00e9","b":12345678901234567890.50,"c":null,"d":[1,{"a":2}],"\u0065":true} "#,
        )
        .unwrap();
        assert_eq!(object.member("a"), Some(Value::Text("x\né".into())));
        assert_eq!(object.member("b"), Some(Value::Number("12345678901234567890.50")));
        assert_eq!(object.member("c"), Some(Value::Null));
        assert_eq!(object.member("d"), Some(Value::Other));
        assert_eq!(object.member("e"), Some(Value::Other));
        assert_eq!(object.member("f"), None);
    }

    #[test]
    fn doubled_members_are_refused_also_unknown_and_escaped_ones() {
        for document in [r#"{"a":1,"a":1}"#, r#"{"x":1,"b":2,"x":1}"#, r#"{"a":1,"\u0061":2}"#] {
            assert!(Object::parse(document).is_err(), "{document}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for document in
            ["", "[]", "1", "{", "{}x", "{\"a\":1,}", "{'a':1}", "{\"a\":01}", "{\"a\":\"\u{1}\"}"]
        {
            assert!(Object::parse(document).is_err(), "{document}");
        }
    }

    #[test]
    fn nesting_is_bounded_and_brackets_in_strings_do_not_count() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(Object::parse(&nested(JSON_DEPTH_MAX - 1)).is_ok());
        assert!(Object::parse(&nested(JSON_DEPTH_MAX)).is_err());
        assert!(Object::parse(&nested(1_000_000)).is_err());
        let text = "[\\\"".repeat(100);
        assert!(Object::parse(&format!("{{\"a\":\"{text}\"}}")).is_ok());
    }

    #[test]
    fn members_are_bounded() {
        let members = |count: usize| {
            let members: Vec<String> = (0..count).map(|n| format!("\"{n}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(Object::parse(&members(super::MEMBERS_MAX)).is_ok());
        assert!(Object::parse(&members(super::MEMBERS_MAX + 1)).is_err());
    }

    #[test]
    fn an_array_is_counted_and_cut() {
        assert_eq!(array(" [1, {\"a\":2}] ").unwrap().unwrap(), ["1", "{\"a\":2}"]);
        assert_eq!(array("[]").unwrap().unwrap(), [""; 0]);
        assert!(array("{}").is_err());
        assert!(array("[1,]").is_err());
        let of = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
        assert_eq!(array(&of(BATCH_OPERATIONS_MAX)).unwrap().unwrap().len(), BATCH_OPERATIONS_MAX);
        assert_eq!(array(&of(BATCH_OPERATIONS_MAX + 1)).unwrap(), None);
    }

    #[test]
    fn text_is_written_so_that_a_json_reader_reads_the_same() {
        let text: String = (0..0x300).filter_map(char::from_u32).collect();
        let mut out = Vec::new();
        write_text(&mut out, &text);
        assert_eq!(out.len(), text_length(&text));
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        assert!(out.iter().all(|byte| *byte >= 0x20 && *byte != 0x7f));
    }
}
