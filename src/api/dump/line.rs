//! One line of a dump, written and read.

use std::borrow::Cow;
use std::num::NonZeroU64;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::http::response;
use crate::limits::{CONTENT_TYPE_BYTES_MAX, KEY_BYTES_MAX, VALUE_COPY_BYTES_MAX};
use crate::op::{CONTENT_TYPE_DEFAULT, DumpedLock, Encoding};
use crate::primitive;

use super::super::{administer, json, timestamp};
use super::{Counts, VERSION};

/// Whose an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Space<N> {
    /// A key of `/api/kv`.
    Kv,
    /// An item of this app.
    Items(N),
    /// A list of this app.
    Lists(N),
    /// A key of this database.
    Database(N),
}

/// What is known of an entry beside its value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct About<'a> {
    pub content_type: &'a [u8],
    pub encoding: Encoding,
    pub expires_ms: Option<u64>,
    /// Token, and when it frees itself.
    pub lock: Option<(u64, Option<u64>)>,
}

/// How a value stands in its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A string.
    Text,
    /// A string of base64.
    Base64,
    /// As it is.
    Json,
}

impl Form {
    /// The form of a value of these bytes.
    pub fn of(space: &Space<&str>, encoding: Encoding, value: &[u8]) -> Form {
        match space {
            Space::Items(_) | Space::Lists(_) => Form::Json,
            Space::Kv | Space::Database(_) => {
                let is_plain = encoding == Encoding::Identity && value.len() <= VALUE_COPY_BYTES_MAX;
                let is_text = is_plain && std::str::from_utf8(value).is_ok();
                if is_text { Form::Text } else { Form::Base64 }
            }
        }
    }

    /// What stands behind the value.
    pub fn end(self) -> &'static [u8] {
        match self {
            Form::Base64 => b"\"}\n",
            Form::Text | Form::Json => b"}\n",
        }
    }
}

/// Writes the first line.
pub(super) fn write_head(out: &mut Vec<u8>, unix_seconds: u64, entries: u64) {
    out.extend_from_slice(format!("{{\"lucid\":\"dump\",\"version\":{VERSION},\"created_at\":").as_bytes());
    timestamp::write(out, unix_seconds);
    out.extend_from_slice(format!(",\"entries\":{entries}}}\n").as_bytes());
}

/// Writes the last line.
pub(super) fn write_end(out: &mut Vec<u8>, counts: &Counts) {
    let Counts { apps, databases, keys, items, lists, records } = counts;
    let line = format!(
        "{{\"end\":{{\"apps\":{apps},\"databases\":{databases},\"keys\":{keys},\"items\":{items},\
         \"lists\":{lists},\"records\":{records}}}}}\n"
    );
    out.extend_from_slice(line.as_bytes());
}

/// Writes the line of an app.
pub(super) fn write_app(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b"{\"app\":");
    json::write_text(out, name);
    out.extend_from_slice(b"}\n");
}

/// Writes the line of a database.
pub(super) fn write_database(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b"{\"database\":");
    json::write_text(out, name);
    out.extend_from_slice(b"}\n");
}

/// Writes the line of an entry up to its value.
pub(super) fn write_before_value(
    out: &mut Vec<u8>,
    space: &Space<&str>,
    key: &[u8],
    about: &About<'_>,
    form: Form,
) {
    let (name, name_base64): (&[u8], &[u8]) = match space {
        Space::Kv | Space::Database(_) => (b"\"key\":", b"\"key_base64\":"),
        Space::Items(_) => (b"\"item\":", b"\"item_base64\":"),
        Space::Lists(_) => (b"\"list\":", b"\"list_base64\":"),
    };
    let whose = match space {
        Space::Kv => None,
        Space::Database(name) => Some(("\"database\":", name)),
        Space::Items(app) | Space::Lists(app) => Some(("\"app\":", app)),
    };
    out.push(b'{');
    if let Some((kind, name)) = whose {
        out.extend_from_slice(kind.as_bytes());
        json::write_text(out, name);
        out.push(b',');
    }
    write_bytes(out, name, name_base64, key);
    if !about.content_type.is_empty() && about.content_type != CONTENT_TYPE_DEFAULT {
        write_bytes(out, b",\"type\":", b",\"type_base64\":", about.content_type);
    }
    match about.encoding {
        Encoding::Identity => {}
        Encoding::Gzip => out.extend_from_slice(b",\"encoding\":\"gzip\""),
        Encoding::Zstd => out.extend_from_slice(b",\"encoding\":\"zstd\""),
    }
    if let Some(expires_ms) = about.expires_ms {
        out.extend_from_slice(b",\"expires_at_ms\":");
        response::decimal(out, expires_ms);
    }
    if let Some((token, until_ms)) = about.lock {
        out.extend_from_slice(b",\"lock\":{\"token\":\"");
        response::decimal(out, token);
        out.push(b'"');
        if let Some(until_ms) = until_ms {
            out.extend_from_slice(b",\"until_ms\":");
            response::decimal(out, until_ms);
        }
        out.push(b'}');
    }
    out.extend_from_slice(match (space, form) {
        (Space::Lists(_), _) => b",\"values\":",
        (_, Form::Text) => b",\"value\":",
        (_, Form::Base64) => b",\"base64\":\"",
        (_, Form::Json) => b",\"json\":",
    });
}

/// Writes a value that stands in one piece, and ends the line.
pub(super) fn write_value(out: &mut Vec<u8>, value: &[u8], form: Form) {
    match (form, std::str::from_utf8(value)) {
        (Form::Text, Ok(text)) => json::write_text(out, text),
        (Form::Base64, _) | (Form::Text, Err(_)) => write_base64(out, value),
        (Form::Json, _) => out.extend_from_slice(value),
    }
    out.extend_from_slice(form.end());
}

/// Appends base64. Pieces of a value but the last are of a length that three divides.
pub(super) fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let at = out.len();
    out.resize(at + 4 * bytes.len().div_ceil(3), 0);
    let written = STANDARD.encode_slice(bytes, &mut out[at..]);
    debug_assert_eq!(written.ok(), Some(out.len() - at));
}

fn write_bytes(out: &mut Vec<u8>, name: &[u8], name_base64: &[u8], bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            out.extend_from_slice(name);
            json::write_text(out, text);
        }
        Err(_) => {
            out.extend_from_slice(name_base64);
            out.push(b'"');
            write_base64(out, bytes);
            out.push(b'"');
        }
    }
}

/// A line that was read.
#[derive(Debug)]
pub(super) enum Line<'l> {
    /// The first or the last of a dump, or an empty one.
    Nothing,
    /// An app.
    App(Cow<'l, str>),
    /// A database.
    Database(Cow<'l, str>),
    /// An entry.
    Entry(Box<Entry<'l>>),
}

/// An entry that was read.
#[derive(Debug)]
pub(super) struct Entry<'l> {
    pub space: Space<Cow<'l, str>>,
    pub key: Cow<'l, [u8]>,
    pub content_type: Option<Cow<'l, [u8]>>,
    pub encoding: Encoding,
    pub expires_ms: Option<u64>,
    pub lock: Option<DumpedLock>,
    /// Of a list: the JSON of its array. `None` when the line does not have it.
    pub value: Option<Cow<'l, [u8]>>,
}

/// Why a line cannot be taken.
pub(super) type Why = &'static str;

/// Reads a line. An entry's value is checked for what it must be; its length is not.
pub(super) fn read(text: &[u8]) -> Result<Line<'_>, Why> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8")?;
    if text.trim_ascii().is_empty() {
        return Ok(Line::Nothing);
    }
    let object = json::Object::parse(text).map_err(|_| "it is no JSON object, or has a member twice")?;
    if let Some(json::Value::Text(kind)) = object.member("lucid") {
        return match (&*kind, object.member("version")) {
            ("dump", Some(json::Value::Number(version))) => match version.parse::<u64>() {
                Ok(1..=VERSION) => Ok(Line::Nothing),
                Ok(0) | Err(_) => Err("it has no version of the format"),
                Ok(_) => Err("its version of the format is newer than this node"),
            },
            _ => Err("it begins no dump of a node"),
        };
    }
    if object.member("end").is_some() {
        return Ok(Line::Nothing);
    }
    let app = match object.member("app") {
        None => None,
        Some(json::Value::Text(name)) if administer::is_name(&name) => Some(name),
        Some(_) => return Err("app is the name of an app"),
    };
    let database = match object.member("database") {
        None => None,
        Some(json::Value::Text(name)) if (1..=KEY_BYTES_MAX).contains(&name.len()) => Some(name),
        Some(_) => return Err("database is the name of one"),
    };
    let names = [
        bytes(&object, "key", "key_base64")?,
        bytes(&object, "item", "item_base64")?,
        bytes(&object, "list", "list_base64")?,
    ];
    let (space, key) = match (app, database, names) {
        (Some(app), None, [None, None, None]) => return Ok(Line::App(app)),
        (None, Some(name), [None, None, None]) => return Ok(Line::Database(name)),
        (None, None, [Some(key), None, None]) => (Space::Kv, key),
        (None, Some(name), [Some(key), None, None]) => (Space::Database(name), key),
        (Some(app), None, [None, Some(key), None]) => (Space::Items(app), key),
        (Some(app), None, [None, None, Some(key)]) => (Space::Lists(app), key),
        _ => return Err("it has neither a key, nor an app with an item or a list"),
    };
    match key.len() {
        1..=KEY_BYTES_MAX => {}
        _ => return Err("a key is 1 to 1024 bytes"),
    }
    entry(&object, space, key).map(|entry| Line::Entry(Box::new(entry)))
}

fn entry<'l>(
    object: &json::Object<'l>,
    space: Space<Cow<'l, str>>,
    key: Cow<'l, [u8]>,
) -> Result<Entry<'l>, Why> {
    let value = match &space {
        Space::Kv => bytes(object, "value", "base64")?,
        Space::Database(_) => {
            if std::str::from_utf8(&key).is_err() {
                return Err("the key of a database is UTF-8");
            }
            bytes(object, "value", "base64")?
        }
        Space::Items(_) => {
            if std::str::from_utf8(&key).is_err() {
                return Err("the key of an item is UTF-8");
            }
            object.raw("json").map(|raw| Cow::Borrowed(raw.as_bytes()))
        }
        Space::Lists(_) => {
            if std::str::from_utf8(&key).is_err() {
                return Err("the key of a list is UTF-8");
            }
            object.raw("values").map(|raw| Cow::Borrowed(raw.as_bytes()))
        }
    };
    if let Some(value) = &value {
        check_value(&space, value)?;
    }
    let is_kv = matches!(space, Space::Kv);
    let content_type = bytes(object, "type", "type_base64")?;
    let plain = |name: &Cow<'_, [u8]>| {
        (1..=CONTENT_TYPE_BYTES_MAX).contains(&name.len())
            && name.iter().all(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f)
    };
    if content_type.as_ref().is_some_and(|name| !is_kv || !plain(name)) {
        return Err("type is the content type of a key, of 1 to 255 bytes and no control characters");
    }
    let encoding = match object.member("encoding") {
        None | Some(json::Value::Null) => Encoding::Identity,
        Some(json::Value::Text(name)) if is_kv && name == "gzip" => Encoding::Gzip,
        Some(json::Value::Text(name)) if is_kv && name == "zstd" => Encoding::Zstd,
        Some(_) => return Err("encoding is the one of a key, gzip or zstd"),
    };
    let expires_ms = number(object, "expires_at_ms")?;
    let lock = match object.raw("lock") {
        None | Some("null") => None,
        Some(raw) if is_kv => Some(lock(raw)?),
        Some(_) => return Err("only a key has a lock"),
    };
    Ok(Entry { space, key, content_type, encoding, expires_ms, lock, value })
}

/// Whether bytes are what a value in this space must be.
pub(super) fn check_value<N>(space: &Space<N>, value: &[u8]) -> Result<(), Why> {
    match space {
        Space::Kv | Space::Database(_) => Ok(()),
        Space::Items(_) => match primitive::end_of(value, 0) {
            Ok(end) if end == value.len() => Ok(()),
            _ => Err("json is a string, a number, a boolean or null"),
        },
        Space::Lists(_) => check_values(value).ok_or(
            "values is an array of strings, numbers with an exponent of up to 18 digits, booleans and nulls",
        ),
    }
}

fn check_values(array: &[u8]) -> Option<()> {
    let blanks = |at: usize| {
        let blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        at + array[at..].iter().take_while(blank).count()
    };
    let inside = array.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let last = 1 + inside.len();
    let mut at = blanks(1);
    if at == last {
        return Some(());
    }
    loop {
        let end = primitive::end_of(array, at).ok()?;
        primitive::canonical(&array[at..end]).ok()?;
        at = blanks(end);
        match array.get(at)? {
            b']' if at == last => return Some(()),
            b',' => at = blanks(at + 1),
            _ => return None,
        }
    }
}

/// Bytes that stand as text under one name or in base64 under another.
fn bytes<'l>(object: &json::Object<'l>, text: Why, base64: Why) -> Result<Option<Cow<'l, [u8]>>, Why> {
    let given = |name| object.member(name).filter(|value| *value != json::Value::Null);
    match (given(text), given(base64)) {
        (None, None) => Ok(None),
        (Some(json::Value::Text(Cow::Borrowed(text))), None) => Ok(Some(Cow::Borrowed(text.as_bytes()))),
        (Some(json::Value::Text(Cow::Owned(text))), None) => Ok(Some(Cow::Owned(text.into_bytes()))),
        (None, Some(json::Value::Text(text))) => match STANDARD.decode(&*text) {
            Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
            Err(_) => Err("its base64 is malformed"),
        },
        (Some(_), Some(_)) => Err("it has the same in text and in base64"),
        _ => Err("a name, a type or a value is no string"),
    }
}

fn number(object: &json::Object<'_>, name: &str) -> Result<Option<u64>, Why> {
    match object.member(name) {
        None | Some(json::Value::Null) => Ok(None),
        Some(json::Value::Number(text)) => {
            text.parse().map(Some).map_err(|_| "a time is in milliseconds since the Unix epoch")
        }
        Some(_) => Err("a time is in milliseconds since the Unix epoch"),
    }
}

fn lock(raw: &str) -> Result<DumpedLock, Why> {
    const WHY: Why = "lock is {\"token\":\"N\",\"until_ms\":N}";
    let object = json::Object::parse(raw).map_err(|_| WHY)?;
    let token = match object.member("token") {
        Some(json::Value::Text(token)) => token.parse().map_err(|_| WHY)?,
        _ => return Err(WHY),
    };
    let until_ms = number(&object, "until_ms")?;
    match until_ms {
        Some(0) => Err(WHY),
        until_ms => Ok(DumpedLock { token, until_ms: until_ms.and_then(NonZeroU64::new) }),
    }
}

#[cfg(test)]
mod tests {
    use super::{About, Form, Line, Space, check_values, read, write_before_value, write_value};
    use crate::op::Encoding;

    fn written(space: &Space<&str>, key: &[u8], about: &About<'_>, value: &[u8]) -> String {
        let form = Form::of(space, about.encoding, value);
        let mut out = Vec::new();
        write_before_value(&mut out, space, key, about, form);
        write_value(&mut out, value, form);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_entry_of_any_bytes_is_read_as_it_was_written() {
        let every_byte: Vec<u8> = (0..=255).collect();
        for value in [&b""[..], b"text", "é\n\"\\\0".as_bytes(), &every_byte, &[7; 70_000]] {
            for key in [&b"k"[..], "é\n".as_bytes(), &every_byte] {
                for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
                    let about = About {
                        content_type: b"text/\xe9; a=\"b\"",
                        encoding,
                        expires_ms: Some(1_893_456_000_123),
                        lock: Some((u64::MAX, Some(1))),
                    };
                    let line = written(&Space::Kv, key, &about, value);
                    assert_eq!(line.matches('\n').count(), 1, "{line}");
                    let Ok(Line::Entry(entry)) = read(line.as_bytes()) else { panic!("{line}") };
                    assert_eq!((&*entry.key, entry.value.as_deref()), (key, Some(value)));
                    assert_eq!(entry.content_type.as_deref(), Some(about.content_type));
                    assert_eq!((entry.encoding, entry.expires_ms), (encoding, about.expires_ms));
                    let lock = entry.lock.unwrap();
                    assert_eq!((lock.token, lock.until_ms.map(u64::from)), (u64::MAX, Some(1)));
                }
            }
        }
    }

    #[test]
    fn a_plain_line_is_plain_to_read() {
        let line = |space, value: &[u8]| written(&space, b"k", &About::default(), value);
        assert_eq!(line(Space::Kv, b"v"), "{\"key\":\"k\",\"value\":\"v\"}\n");
        assert_eq!(line(Space::Kv, b"\xff"), "{\"key\":\"k\",\"base64\":\"/w==\"}\n");
        assert_eq!(line(Space::Items("w"), b"12.50"), "{\"app\":\"w\",\"item\":\"k\",\"json\":12.50}\n");
        assert_eq!(line(Space::Lists("w"), b"[1,2]"), "{\"app\":\"w\",\"list\":\"k\",\"values\":[1,2]}\n");
    }

    #[test]
    fn what_is_no_line_is_refused_with_the_reason() {
        for (line, why) in [
            ("x", "no JSON object"),
            ("[]", "no JSON object"),
            ("{}", "neither a key"),
            ("{\"key\":\"a\",\"key\":\"b\",\"value\":\"\"}", "a member twice"),
            ("{\"key\":\"\",\"value\":\"\"}", "1 to 1024"),
            ("{\"key\":1,\"value\":\"\"}", "no string"),
            ("{\"key\":\"a\",\"value\":\"\",\"base64\":\"\"}", "text and in base64"),
            ("{\"key\":\"a\",\"base64\":\"x\"}", "malformed"),
            ("{\"key\":\"a\",\"value\":\"\",\"encoding\":\"br\"}", "gzip or zstd"),
            ("{\"key\":\"a\",\"value\":\"\",\"type\":\"a\\nb\"}", "no control"),
            ("{\"key\":\"a\",\"value\":\"\",\"expires_at_ms\":-1}", "milliseconds"),
            ("{\"key\":\"a\",\"value\":\"\",\"lock\":{\"token\":1}}", "lock is"),
            ("{\"key\":\"a\",\"value\":\"\",\"lock\":{\"token\":\"1\",\"until_ms\":0}}", "lock is"),
            ("{\"app\":\"\"}", "name of an app"),
            ("{\"app\":\"w\",\"key\":\"a\",\"value\":\"\"}", "neither a key"),
            ("{\"item\":\"a\",\"json\":1}", "neither a key"),
            ("{\"app\":\"w\",\"item\":\"a\",\"json\":[1]}", "json is"),
            ("{\"app\":\"w\",\"list\":\"a\",\"values\":[[1]]}", "values is"),
            ("{\"app\":\"w\",\"list\":\"a\",\"values\":[1],\"lock\":{\"token\":\"1\"}}", "only a key"),
            ("{\"app\":\"w\",\"item_base64\":\"/w==\",\"json\":1}", "UTF-8"),
            ("{\"lucid\":\"dump\",\"version\":2}", "newer"),
            ("{\"lucid\":\"dump\",\"version\":0}", "no version"),
            ("{\"lucid\":\"dump\"}", "begins no dump"),
            ("{\"lucid\":\"soup\",\"version\":1}", "begins no dump"),
        ] {
            match read(line.as_bytes()) {
                Err(said) => assert!(said.contains(why), "{line}: {said}"),
                Ok(read) => panic!("{line}: {read:?}"),
            }
        }
        assert!(read(b"{\"key\":\"\xff\",\"value\":\"\"}").is_err());
        let long = format!("{{\"key\":\"{}\",\"value\":\"\"}}", "k".repeat(1_025));
        assert!(read(long.as_bytes()).is_err());
    }

    #[test]
    fn what_a_later_version_may_add_is_passed_over() {
        let line = b"{\"key\":\"a\",\"colour\":{\"is\":[\"red\"]},\"value\":\"v\"}";
        assert!(matches!(read(line), Ok(Line::Entry(_))));
        for line in ["", " \r", "{\"end\":{\"ends\":1}}", "{\"lucid\":\"dump\",\"version\":1,\"more\":1}"] {
            assert!(matches!(read(line.as_bytes()), Ok(Line::Nothing)), "{line}");
        }
        assert!(matches!(read(b"{\"app\":\"web\"}"), Ok(Line::App(name)) if name == "web"));
    }

    #[test]
    fn values_are_an_array_of_primitives() {
        for good in ["[]", "[ ]", "[1]", "[ 1 , \"a]\" ,null,true ]", "[\"[\",\"]\"]"] {
            assert!(check_values(good.as_bytes()).is_some(), "{good}");
        }
        for bad in
            ["", "[", "]", "[,]", "[1,]", "[1 2]", "[[1]]", "[{}]", "[1]]", "[1e1234567890123456789]", "1"]
        {
            assert!(check_values(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
