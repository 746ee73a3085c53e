//! Reads the bodies of the databases family: a form, a multipart form or a JSON object.
//!
//! What begins with `{` is JSON, whatever its `Content-Type` says, since clients of every kind send it
//! labelled as a form; what is labelled `multipart/form-data` is that; anything else is a form. Fields that
//! mean nothing here are passed over but read all the same, and every count and length is bounded, so that a
//! body that is large costs no more than its bytes. A field that stands twice is refused: two readers could
//! see two different requests.

use std::borrow::Cow;

use crate::http::target;
use crate::limits::{FORM_FIELDS_MAX, JSON_DEPTH_MAX, MULTIPART_HEAD_BYTES_MAX};
use crate::primitive::{self, Malformed};

use super::super::message::Problem;

/// A field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Given<'b> {
    /// Characters, as forms have them. Perhaps no UTF-8.
    Text(Cow<'b, [u8]>),
    /// The text of a JSON value.
    Json(&'b [u8]),
}

/// The names that mean something, in the order of [`Fields`].
const NAMES: [&str; 8] =
    ["database_name", "key", "value", "encryption_key", "compress", "new_database_name", "message", "query"];

/// What stands for a field in errors.
macro_rules! named {
    ($name:literal) => {
        Name { name: $name, is_text: concat!($name, " is a string"), is_utf8: concat!($name, " is UTF-8") }
    };
}

/// A field, with what is said when it is not what it must be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    name: &'static str,
    is_text: &'static str,
    is_utf8: &'static str,
}

pub(super) const DATABASE: Name = named!("database_name");
pub(super) const KEY: Name = named!("key");
pub(super) const VALUE: Name = named!("value");
pub(super) const ENCRYPTION_KEY: Name = named!("encryption_key");
const COMPRESS: Name = named!("compress");
pub(super) const NEW_DATABASE: Name = named!("new_database_name");
pub(super) const MESSAGE: Name = named!("message");
pub(super) const QUERY: Name = named!("query");

/// The fields of a body.
#[derive(Debug, Default)]
pub(super) struct Fields<'b>([Option<Given<'b>>; NAMES.len()]);

impl<'b> Fields<'b> {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none of the three, or a field that means something stands twice.
    pub fn read(content_type: Option<&[u8]>, body: &'b [u8]) -> Result<Fields<'b>, Problem> {
        let content_type = content_type.unwrap_or_default();
        let mut fields = Fields::default();
        if body.trim_ascii_start().starts_with(b"{") {
            fields.read_json(body)?;
        } else if is_type(content_type, b"multipart/form-data") {
            fields.read_multipart(boundary(content_type)?, body)?;
        } else {
            fields.read_form(body)?;
        }
        Ok(fields)
    }

    /// The one field that a text stands for.
    pub fn of_query(text: &'b [u8]) -> Fields<'b> {
        let mut fields = Fields::default();
        fields.0[NAMES.len() - 1] = Some(Given::Text(Cow::Borrowed(text)));
        fields
    }

    /// Takes a field out.
    pub fn take(&mut self, field: Name) -> Option<Given<'b>> {
        let at = NAMES.iter().position(|name| *name == field.name)?;
        self.0[at].take()
    }

    /// Puts a field back that was taken out.
    pub fn restore(&mut self, field: Name, given: Given<'b>) {
        if let Some(at) = NAMES.iter().position(|name| *name == field.name) {
            self.0[at] = Some(given);
        }
    }

    /// Takes a text out that may be missing, as `null` says too.
    ///
    /// # Errors
    /// When it is something else, or no UTF-8.
    pub fn text(&mut self, field: Name) -> Result<Option<Cow<'b, str>>, Problem> {
        let characters = match self.take(field) {
            None | Some(Given::Json(b"null")) => return Ok(None),
            Some(Given::Text(text)) => text,
            Some(Given::Json(text @ [b'"', ..])) => primitive::decode(text),
            Some(Given::Json(_)) => return Err(Problem::ParameterInvalid(field.is_text)),
        };
        let text = match characters {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
        };
        text.map(Some).ok_or(Problem::ParameterInvalid(field.is_utf8))
    }

    /// Takes a text out that must be there.
    ///
    /// # Errors
    /// As [`Fields::text`], and when it is missing.
    pub fn must(&mut self, field: Name) -> Result<Cow<'b, str>, Problem> {
        self.text(field)?.ok_or(Problem::ParameterMissing(field.name))
    }

    /// Whether anything is said about compressing.
    pub fn has_compress(&self) -> bool {
        NAMES.iter().zip(&self.0).any(|(name, given)| *name == COMPRESS.name && given.is_some())
    }

    /// Whether a value is to be compressed.
    ///
    /// # Errors
    /// When it is neither yes nor no.
    pub fn compress(&mut self) -> Result<bool, Problem> {
        const NEITHER: Problem = Problem::ParameterInvalid("compress is true, 1, yes, false, 0, no or None");
        let text = match self.take(COMPRESS) {
            None => return Ok(false),
            Some(Given::Text(text)) => text,
            Some(Given::Json(text @ [b'"', ..])) => primitive::decode(text),
            Some(Given::Json(text)) => Cow::Borrowed(text),
        };
        let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word.as_bytes()));
        match (is(&["true", "1", "yes"]), is(&["false", "0", "no", "none", "null", ""])) {
            (false, false) => Err(NEITHER),
            (yes, _) => Ok(yes),
        }
    }

    fn put(&mut self, name: &[u8], given: Given<'b>) -> Result<(), Problem> {
        let Some(at) = NAMES.iter().position(|known| known.as_bytes() == name) else { return Ok(()) };
        match self.0[at].replace(given) {
            Some(_) => Err(Problem::ParameterInvalid("a parameter stands twice")),
            None => Ok(()),
        }
    }

    fn read_form(&mut self, body: &'b [u8]) -> Result<(), Problem> {
        for (count, pair) in target::query_pairs(body).enumerate() {
            if count == FORM_FIELDS_MAX {
                return Err(Problem::BodyInvalid("it has too many fields"));
            }
            let (name, value) =
                pair.map_err(|_| Problem::BodyInvalid("an escape of the form is malformed"))?;
            self.put(&name, Given::Text(value))?;
        }
        Ok(())
    }

    fn read_json(&mut self, body: &'b [u8]) -> Result<(), Problem> {
        const NO_OBJECT: Problem = Problem::BodyInvalid("it is no JSON object");
        let skip = |at: usize| at + blanks(&body[at..]);
        let mut at = skip(0) + 1;
        let mut count = 0;
        loop {
            at = skip(at);
            match body.get(at) {
                Some(b'}') if count == 0 => break,
                Some(b'"') => {}
                _ => return Err(NO_OBJECT),
            }
            count += 1;
            if count > FORM_FIELDS_MAX {
                return Err(Problem::BodyInvalid("it has too many fields"));
            }
            let end = primitive::end_of_string(body, at).map_err(|Malformed| NO_OBJECT)?;
            let name = primitive::decode(&body[at..end]);
            at = skip(end);
            if body.get(at) != Some(&b':') {
                return Err(NO_OBJECT);
            }
            let from = skip(at + 1);
            let end = end_of_value(body, from)?;
            self.put(&name, Given::Json(&body[from..end]))?;
            at = skip(end);
            match body.get(at) {
                Some(b',') => at += 1,
                Some(b'}') => break,
                _ => return Err(NO_OBJECT),
            }
        }
        if skip(at + 1) == body.len() { Ok(()) } else { Err(NO_OBJECT) }
    }

    /// RFC 7578. Whatever stands before the first part and behind the last one is passed over, as RFC 2046
    /// has it.
    fn read_multipart(&mut self, boundary: &[u8], body: &'b [u8]) -> Result<(), Problem> {
        const NO_PARTS: Problem = Problem::BodyInvalid("it has no parts with the boundary that is named");
        let delimiter = [b"\r\n--", boundary].concat();
        let finder = memchr::memmem::Finder::new(&delimiter);
        let mut rest = match body.strip_prefix(&delimiter[2..]) {
            Some(rest) => rest,
            None => &body[finder.find(body).ok_or(NO_PARTS)? + delimiter.len()..],
        };
        for _ in 0..FORM_FIELDS_MAX {
            if rest.starts_with(b"--") {
                return Ok(());
            }
            let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            let part = rest[padding..].strip_prefix(b"\r\n").ok_or(NO_PARTS)?;
            let length = finder.find(part).ok_or(Problem::BodyInvalid("its last part has no end"))?;
            self.read_part(&part[..length])?;
            rest = &part[length + delimiter.len()..];
        }
        Err(Problem::BodyInvalid("it has too many fields"))
    }

    fn read_part(&mut self, part: &'b [u8]) -> Result<(), Problem> {
        const NO_HEAD: Problem = Problem::BodyInvalid("a part has no head");
        // A part without fields begins with the blank line.
        let within = &part[..part.len().min(MULTIPART_HEAD_BYTES_MAX)];
        let (head, value) = match part.strip_prefix(b"\r\n") {
            Some(value) => (&b""[..], value),
            None => {
                let end = memchr::memmem::find(within, b"\r\n\r\n").ok_or(NO_HEAD)?;
                (&part[..end], &part[end + 4..])
            }
        };
        for line in head.split(|byte| *byte == b'\n') {
            let Some(colon) = memchr::memchr(b':', line) else { return Err(NO_HEAD) };
            if line[..colon].eq_ignore_ascii_case(b"content-disposition") {
                let name = parameter(&line[colon + 1..], b"name")
                    .ok_or(Problem::BodyInvalid("a part has no name"))?;
                return self.put(&name, Given::Text(Cow::Borrowed(value)));
            }
        }
        Err(Problem::BodyInvalid("a part has no name"))
    }
}

fn blanks(text: &[u8]) -> usize {
    text.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count()
}

/// Where the JSON value ends that begins at `from`.
fn end_of_value(document: &[u8], from: usize) -> Result<usize, Problem> {
    const NO_JSON: Problem = Problem::BodyInvalid("it is no JSON object");
    /// What may come next.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Expect {
        Value,
        /// Right behind `[`.
        ValueOrEnd,
        /// Right behind `{`.
        NameOrEnd,
        Name,
        CommaOrEnd,
    }
    let is_object = |open: u64| open & 1 == 1;
    // One bit for each open bracket, the innermost the lowest: 1 is an object. The body is one itself.
    let (mut open, mut depth, mut at, mut expect) = (0_u64, 1, from, Expect::Value);
    loop {
        at += blanks(&document[at..]);
        let byte = *document.get(at).ok_or(NO_JSON)?;
        match (expect, byte) {
            (Expect::Value | Expect::ValueOrEnd, b'{' | b'[') => {
                if depth == JSON_DEPTH_MAX {
                    return Err(Problem::BodyInvalid("the JSON is nested too deep"));
                }
                depth += 1;
                open = open << 1 | u64::from(byte == b'{');
                expect = if byte == b'{' { Expect::NameOrEnd } else { Expect::ValueOrEnd };
                at += 1;
                continue;
            }
            (Expect::ValueOrEnd | Expect::CommaOrEnd, b']') if depth > 1 && !is_object(open) => {
                (open, depth, at) = (open >> 1, depth - 1, at + 1);
            }
            (Expect::NameOrEnd | Expect::CommaOrEnd, b'}') if depth > 1 && is_object(open) => {
                (open, depth, at) = (open >> 1, depth - 1, at + 1);
            }
            (Expect::NameOrEnd | Expect::Name, b'"') => {
                at = primitive::end_of_string(document, at).map_err(|Malformed| NO_JSON)?;
                at += blanks(&document[at..]);
                if document.get(at) != Some(&b':') {
                    return Err(NO_JSON);
                }
                (at, expect) = (at + 1, Expect::Value);
                continue;
            }
            (Expect::CommaOrEnd, b',') if depth > 1 => {
                (at, expect) = (at + 1, if is_object(open) { Expect::Name } else { Expect::Value });
                continue;
            }
            (Expect::Value | Expect::ValueOrEnd, _) => {
                at = primitive::end_of(document, at).map_err(|Malformed| NO_JSON)?;
            }
            _ => return Err(NO_JSON),
        }
        if depth == 1 {
            return Ok(at);
        }
        expect = Expect::CommaOrEnd;
    }
}

const _: () = assert!(JSON_DEPTH_MAX <= u64::BITS as usize);

/// Whether a `Content-Type` is of this type, whatever its parameters.
pub(super) fn is_type(content_type: &[u8], name: &[u8]) -> bool {
    let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
    content_type[..end].trim_ascii().eq_ignore_ascii_case(name)
}

/// The boundary of a multipart body: 1 to 70 characters (RFC 2046, section 5.1.1).
fn boundary(content_type: &[u8]) -> Result<&[u8], Problem> {
    const NONE: Problem = Problem::FieldInvalid("Content-Type names no boundary");
    match parameter(content_type, b"boundary") {
        Some(Cow::Borrowed(boundary)) if (1..=70).contains(&boundary.len()) => Ok(boundary),
        _ => Err(NONE),
    }
}

/// A parameter of a field's value: a token, or a text in quotes with `\` before what stands for itself.
fn parameter<'v>(value: &'v [u8], name: &[u8]) -> Option<Cow<'v, [u8]>> {
    let mut rest = &value[memchr::memchr(b';', value)? + 1..];
    loop {
        rest = rest.trim_ascii_start();
        let equals = rest.iter().position(|byte| matches!(byte, b'=' | b';'))?;
        let is_it = rest[..equals].trim_ascii_end().eq_ignore_ascii_case(name);
        if rest[equals] == b';' {
            rest = &rest[equals + 1..];
            continue;
        }
        let given = rest[equals + 1..].trim_ascii_start();
        let (found, length) = match given.strip_prefix(b"\"") {
            Some(quoted) => quoted_text(quoted)?,
            None => {
                let end = memchr::memchr(b';', given).unwrap_or(given.len());
                (Cow::Borrowed(given[..end].trim_ascii_end()), end)
            }
        };
        if is_it {
            return Some(found);
        }
        rest = &given[length..];
        rest = &rest[memchr::memchr(b';', rest)? + 1..];
    }
}

/// The text in front of a closing quote, and how far it reaches with both quotes.
fn quoted_text(text: &[u8]) -> Option<(Cow<'_, [u8]>, usize)> {
    let plain = text.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    if text[plain] == b'"' {
        return Some((Cow::Borrowed(&text[..plain]), plain + 2));
    }
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some((Cow::Owned(found), at + 2)),
            b'\\' => {
                found.push(*text.get(at + 1)?);
                at += 2;
            }
            byte => {
                found.push(*byte);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};

    use super::{DATABASE, Fields, Given, KEY, VALUE, end_of_value};
    use crate::api::message::Problem;
    use crate::limits::FORM_FIELDS_MAX;

    const MULTIPART: &str = "multipart/form-data; charset=utf-8; boundary=\"a b\"";

    fn read<'b>(content_type: &str, body: &'b str) -> Result<Fields<'b>, Problem> {
        Fields::read(Some(content_type.as_bytes()), body.as_bytes())
    }

    fn text(content_type: &str, body: &str) -> (String, String) {
        let mut fields = read(content_type, body).unwrap_or_else(|problem| panic!("{body}: {problem:?}"));
        (fields.must(DATABASE).unwrap().into_owned(), fields.must(KEY).unwrap().into_owned())
    }

    fn part(name: &str, value: &str) -> String {
        format!("--a b\r\nContent-Disposition: form-data; {name}\r\n\r\n{value}\r\n")
    }

    #[test]
    fn a_form_a_multipart_form_and_json_say_the_same() {
        let expected = ("a b".to_owned(), "k=1&é".to_owned());
        let form = "database_name=a+b&x=&key=k%3D1%26%C3%A9";
        assert_eq!(text("application/x-www-form-urlencoded", form), expected);
        assert_eq!(text("", form), expected);
        assert_eq!(text("text/plain", form), expected);
        let json = r#" {"x":[{"key":"no"},[]],"database_name":"a b" , "k\u0065y":"k=1&\u00e9"} "#;
        for content_type in ["application/json", "", "application/x-www-form-urlencoded", MULTIPART] {
            assert_eq!(text(content_type, json), expected);
        }
        let parts =
            [part("name=\"database_name\"", "a b"), part("filename=\"x\\\";y\"; NAME = key", "k=1&é")]
                .concat();
        for (before, behind) in
            [("", "--a b--"), ("preamble\r\n", "--a b--\r\nepilogue"), ("\r\n", "--a b--x")]
        {
            assert_eq!(text(MULTIPART, &format!("{before}{parts}{behind}")), expected);
        }
        assert_eq!(text("Multipart/Form-Data;BOUNDARY=a b", &format!("{parts}--a b--")), expected);
    }

    #[test]
    fn a_field_that_stands_twice_is_refused_unless_it_means_nothing() {
        let twice = Problem::ParameterInvalid("a parameter stands twice");
        let parts = [part("name=key", "a"), part("name=key", "b"), "--a b--".into()].concat();
        for (content_type, body) in
            [("", "key=a&key=a"), ("", r#"{"key":1,"ke\u0079":1}"#), (MULTIPART, parts.as_str())]
        {
            assert_eq!(read(content_type, body).map(|_| ()), Err(twice.clone()), "{body}");
        }
        assert!(read("", "x=1&x=2&key=a").is_ok() && read("", r#"{"x":1,"x":2}"#).is_ok());
    }

    #[test]
    fn what_is_no_form_no_multipart_form_and_no_json_is_refused() {
        for body in [
            "{",
            "{}x",
            "{}{}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":[1,]}",
            "{\"a\":[1}",
            "{\"a\":[}",
            "{\"a\":{]}",
            "{a:1}",
            "{\"a\":01}",
            "{\"a\":1]",
            "{\"a\":\"\n\"}",
            "{\"a\":{\"b\"}}",
            "{\"a\":{\"b\":1,}}",
            "{\"a\":tru}",
            "{\"a\":1",
            "{\"a\":[",
            "{\"a\":\"",
            "a=%",
            "a=%zz",
            "%=1",
        ] {
            assert!(matches!(read("", body), Err(Problem::BodyInvalid(_))), "{body}");
        }
        let named = part("name=key", "v");
        for body in [
            "",
            "x",
            "--a b",
            "--a bx",
            "--a c--",
            "--a b\r\n",
            &named,
            "--a b\r\n\r\nvalue\r\n--a b--",
            "--a b\r\nno head\r\n\r\nvalue\r\n--a b--",
            "--a b\r\nX: 1\r\n\r\nvalue\r\n--a b--",
            "--a b\r\nContent-Disposition: form-data\r\n\r\nvalue\r\n--a b--",
            "--a b\r\nContent-Disposition: form-data; \
             name=\"key\r\n\r\nvalue\r\n--a b--",
        ] {
            assert!(matches!(read(MULTIPART, body), Err(Problem::BodyInvalid(_))), "{body:?}");
        }
        for content_type in
            ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; x"]
        {
            assert!(matches!(read(content_type, &named), Err(Problem::FieldInvalid(_))), "{content_type}");
        }
        let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
        assert!(matches!(read(&long, &named), Err(Problem::FieldInvalid(_))));
    }

    #[test]
    fn the_number_of_fields_is_bounded_in_every_form() {
        let many = |count: usize, one: &str, between: &str| vec![one; count].join(between);
        for (count, is_good) in [(FORM_FIELDS_MAX, true), (FORM_FIELDS_MAX + 1, false), (10_000, false)] {
            let json = format!("{{{}}}", many(count, "\"a\":1", ","));
            let parts = many(count, &part("name=x", "v"), "") + "--a b--";
            assert_eq!(read("", &many(count, "a=1", "&")).is_ok(), is_good);
            assert_eq!(read("", &json).is_ok(), is_good);
            // The end of a multipart form takes a step of its own.
            assert_eq!(read(MULTIPART, &parts).is_ok(), is_good && count < FORM_FIELDS_MAX);
        }
    }

    #[test]
    fn a_text_is_a_string_of_utf_8_or_nothing() {
        for (body, expected) in
            [("{}", None), (r#"{"key":null}"#, None), (r#"{"key":""}"#, Some("")), ("key=", Some(""))]
        {
            assert_eq!(read("", body).unwrap().text(KEY).unwrap().as_deref(), expected);
        }
        for body in [r#"{"key":1}"#, r#"{"key":["a"]}"#, r#"{"key":true}"#, "key=%ff"] {
            assert!(matches!(read("", body).unwrap().text(KEY), Err(Problem::ParameterInvalid(_))), "{body}");
        }
        assert_eq!(read("", "{}").unwrap().must(KEY), Err(Problem::ParameterMissing("key")));
    }

    #[test]
    fn compress_is_what_people_write_for_yes_and_no() {
        for (word, expected) in [
            ("true", true),
            ("1", true),
            ("YES", true),
            ("True", true),
            ("false", false),
            ("0", false),
            ("no", false),
            ("None", false),
            ("", false),
        ] {
            assert_eq!(read("", &format!("compress={word}")).unwrap().compress(), Ok(expected), "{word}");
            assert_eq!(read("", &format!("{{\"compress\":\"{word}\"}}")).unwrap().compress(), Ok(expected));
        }
        for (json, expected) in [("true", true), ("1", true), ("false", false), ("0", false), ("null", false)]
        {
            assert_eq!(read("", &format!("{{\"compress\":{json}}}")).unwrap().compress(), Ok(expected));
        }
        assert_eq!(read("", "{}").unwrap().compress(), Ok(false));
        for body in ["compress=maybe", "compress=2", r#"{"compress":[]}"#, r#"{"compress":{}}"#] {
            assert!(
                matches!(read("", body).unwrap().compress(), Err(Problem::ParameterInvalid(_))),
                "{body}"
            );
        }
    }

    #[test]
    fn values_keep_their_text_and_are_nested_within_bounds() {
        let mut fields = read("", r#"{"value": [1, {"a" : 1.0e5}] ,"key":"k"}"#).unwrap();
        assert_eq!(fields.take(VALUE), Some(Given::Json(br#"[1, {"a" : 1.0e5}]"#)));
        let mut fields = read("", "value=1").unwrap();
        assert_eq!(fields.take(VALUE), Some(Given::Text(Cow::Borrowed(b"1"))));
        let nested = |depth: usize| format!("{{\"value\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(read("", &nested(31)).is_ok());
        assert!(read("", &nested(32)).is_err());
        assert!(read("", &nested(1_000_000)).is_err());
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<String>().prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..5)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn json_is_taken_when_another_reader_takes_it(value in json(), cut in any::<prop::sample::Index>()) {
            let document = format!("{{\"value\":{value}}}");
            let mut fields = read("", &document).unwrap();
            let text = value.to_string();
            prop_assert_eq!(fields.take(VALUE), Some(Given::Json(text.as_bytes())));
            prop_assert_eq!(end_of_value(text.as_bytes(), 0), Ok(text.len()));
            let mut bytes = document.into_bytes();
            bytes.remove(cut.index(bytes.len()));
            let other = serde_json::from_slice::<serde_json::Map<_, _>>(&bytes);
            if bytes.starts_with(b"{") {
                prop_assert_eq!(Fields::read(None, &bytes).is_ok(), other.is_ok());
            }
        }

        #[test]
        fn no_body_is_read_in_a_way_that_panics(
            body in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"-\r\n\"{}[]:,;=&%a b"[..])], 0..200),
            with_boundary in any::<bool>(),
        ) {
            let body = if with_boundary { [b"--a b\r\n", &body[..]].concat() } else { body };
            for content_type in [None, Some(MULTIPART.as_bytes())] {
                let _ = Fields::read(content_type, &body);
            }
            let _ = Fields::read(Some(&body), b"--a\r\n\r\nx");
            let _ = Fields::read(Some(&[b"multipart/form-data;", &body[..]].concat()), b"--a\r\n\r\nx");
        }
    }
}
