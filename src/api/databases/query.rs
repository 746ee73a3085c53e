//! The language of `/execute`: one command, read into what it asks for.
//!
//! ```text
//! query    = blank* verb (blank+ argument)* blank*        at most 64 KiB of UTF-8
//! verb     = SET | GET | …                                in any case
//! argument = bare | "…" | '…'
//! bare     = characters that are no blank, no control, no quote and no semicolon
//! "…"      = any characters; \" \\ \/ \b \f \n \r \t \uXXXX as in JSON, so that every JSON string is one
//! '…'      = any characters but ', each standing for itself
//! blank    = space, tab, line feed, vertical tab, form feed, carriage return
//! ```
//!
//! | command | is |
//! |---|---|
//! | `SET database key value [encryption_key] [compress]` | `/controller/set` |
//! | `GET database key [encryption_key]` | `/controller/get` |
//! | `DELETE database key` | `/controller/delete` |
//! | `EXISTS database key` | whether there is one |
//! | `INCR database key [step]`, `DECR …` | counts by 1, or by the step |
//! | `TTL database key` | seconds left |
//! | `EXPIRE database key seconds`, `PERSIST database key` | sets and cancels the time-to-live |
//! | `KEYS database [prefix]`, `COUNT database` | what is there |
//! | `GET_ALL database [encryption_key]` | `/controller/get_all` |
//! | `DATABASE_LIST` | `/database/list` |
//! | `DATABASE_POP database`, `DATABASE_DELETE database` | `/database/pop`, `/database/delete` |
//! | `DATABASE_RENAME database new_name` | `/database/rename` |
//! | `DATABASE_POP_ALL`, `DATABASE_DELETE_ALL` | `/database/pop_all`, `/database/delete_all` |
//!
//! What KOT's own grammar reads without quotes is read the same here. It splits at blanks and nowhere
//! else, so its values cannot hold one, and what follows a value is taken for a key to seal it with: a quote
//! that it would have stored is a fault here unless the whole argument stands in quotes, and so is a
//! semicolon, which somebody means to begin a second command with. An encryption key that is empty or the
//! bare word `None` is none; `compress` is `true`, `1` or `yes`, `false`, `0`, `no`, `None` or nothing.
//! Values are strings, as in KOT, whatever they look like.
//!
//! Reading does nothing: who may run the command, and running it, is for the caller. A fault is told by its
//! position, the first byte being 1, and none of the query's text, which may be secret.

use std::borrow::Cow;
use std::fmt;

use crate::api::json;
use crate::api::patch::{parse_step, seconds};
use crate::config::Secret;
use crate::limits::{KEY_BYTES_MAX, QUERY_BYTES_MAX};
use crate::op::Step;
use crate::primitive;

/// What a query asks for. Names of databases and keys have 1 to [`KEY_BYTES_MAX`] bytes.
#[derive(Clone, Debug)]
pub enum Query {
    /// Store a value.
    Set {
        /// Where.
        database: String,
        /// Its name.
        key: String,
        /// A string, whatever it looks like.
        value: String,
        /// What to seal it with.
        encryption_key: Option<Secret>,
        /// Whether to compress it.
        compress: bool,
    },
    /// Read a value.
    Get {
        /// Where.
        database: String,
        /// Its name.
        key: String,
        /// What it is sealed with.
        encryption_key: Option<Secret>,
    },
    /// Remove a value.
    Delete {
        /// Where.
        database: String,
        /// Its name.
        key: String,
    },
    /// Tell whether there is a value.
    Exists {
        /// Where.
        database: String,
        /// Its name.
        key: String,
    },
    /// Count: `INCR`, or `DECR` with its step turned round.
    Add {
        /// Where.
        database: String,
        /// Its name.
        key: String,
        /// By how much.
        step: Step,
    },
    /// Tell how many seconds a value has left.
    Ttl {
        /// Where.
        database: String,
        /// Its name.
        key: String,
    },
    /// Let a value go after a time.
    Expire {
        /// Where.
        database: String,
        /// Its name.
        key: String,
        /// 1 or more.
        seconds: u32,
    },
    /// Keep a value for good.
    Persist {
        /// Where.
        database: String,
        /// Its name.
        key: String,
    },
    /// Name the keys that begin so.
    Keys {
        /// Where.
        database: String,
        /// Empty for all.
        prefix: String,
    },
    /// Count the keys.
    Count {
        /// Where.
        database: String,
    },
    /// Read all values.
    GetAll {
        /// Where.
        database: String,
        /// What they are sealed with.
        encryption_key: Option<Secret>,
    },
    /// Name the databases.
    DatabaseList,
    /// Empty a database, and keep it.
    DatabasePop {
        /// Which.
        database: String,
    },
    /// Drop a database.
    DatabaseDelete {
        /// Which.
        database: String,
    },
    /// Give a database another name.
    DatabaseRename {
        /// Its name.
        database: String,
        /// The other.
        new_name: String,
    },
    /// Empty every database.
    DatabasePopAll,
    /// Drop every database.
    DatabaseDeleteAll,
}

/// Where and why a text is no query. Shown as the sentence for whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryError {
    /// Which byte of the query, the first being 1; one past the last where something is missing.
    pub position: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Over [`QUERY_BYTES_MAX`] bytes.
    TooLong,
    /// Not UTF-8.
    NotText,
    /// Blanks alone.
    Empty,
    /// It begins with something else than a verb.
    VerbUnknown,
    /// A control character outside of quotes.
    Control,
    /// A quote inside of a bare argument.
    QuoteInside,
    /// Something right behind a closing quote.
    QuoteFollowed,
    /// A quote without its end.
    QuoteOpen,
    /// A backslash in `"…"` with something behind it that means nothing.
    EscapeUnknown,
    /// A semicolon outside of quotes.
    Semicolon,
    /// An argument is missing: which, and how the command is written.
    Missing(&'static str, &'static str),
    /// An argument too many: how the command is written.
    Surplus(&'static str),
    /// A name of no byte, or of more than [`KEY_BYTES_MAX`]: of what.
    NameLength(&'static str),
    /// No number to count by.
    Step,
    /// No time-to-live.
    Seconds,
    /// Neither yes nor no.
    Compress,
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.fault, self.position)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::TooLong => write!(f, "The query is longer than {QUERY_BYTES_MAX} bytes."),
            Fault::NotText => f.write_str("The query is not UTF-8."),
            Fault::Empty => f.write_str("The query is empty."),
            Fault::VerbUnknown => {
                f.write_str("The query begins with none of the verbs ")?;
                for (at, (_, form)) in FORMS.iter().enumerate() {
                    write!(f, "{}{}", if at == 0 { "" } else { ", " }, name_of(form))?;
                }
                f.write_str(".")
            }
            Fault::Control => f.write_str("A control character stands outside of quotes."),
            Fault::QuoteInside => {
                f.write_str("A quote stands inside of an argument; put quotes around all of it.")
            }
            Fault::QuoteFollowed => f.write_str("An argument goes on behind its closing quote."),
            Fault::QuoteOpen => f.write_str("The quote that begins here is not closed."),
            Fault::EscapeUnknown => {
                f.write_str(r#"The escape is none of \" \\ \/ \b \f \n \r \t and \uXXXX of a character."#)
            }
            Fault::Semicolon => {
                f.write_str("A query is one command; a semicolon in an argument needs quotes around it.")
            }
            Fault::Missing(what, form) => write!(f, "The argument {what} is missing: {form}."),
            Fault::Surplus(form) => write!(f, "An argument too many: {form}."),
            Fault::NameLength(what) => write!(f, "The {what} has 1 to {KEY_BYTES_MAX} bytes."),
            Fault::Step => f.write_str("The step is no number."),
            Fault::Seconds => f.write_str("The seconds are no integer from 1 to 4294967295."),
            Fault::Compress => f.write_str("Whether to compress is neither true, 1, yes nor false, 0, no."),
        }
    }
}

/// What a query begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Set,
    Get,
    Delete,
    Exists,
    Incr,
    Decr,
    Ttl,
    Expire,
    Persist,
    Keys,
    Count,
    GetAll,
    DatabaseList,
    DatabasePop,
    DatabaseDelete,
    DatabaseRename,
    DatabasePopAll,
    DatabaseDeleteAll,
}

/// The verbs, each with how its command is written.
const FORMS: [(Verb, &str); 18] = [
    (Verb::Set, "SET database key value [encryption_key] [compress]"),
    (Verb::Get, "GET database key [encryption_key]"),
    (Verb::Delete, "DELETE database key"),
    (Verb::Exists, "EXISTS database key"),
    (Verb::Incr, "INCR database key [step]"),
    (Verb::Decr, "DECR database key [step]"),
    (Verb::Ttl, "TTL database key"),
    (Verb::Expire, "EXPIRE database key seconds"),
    (Verb::Persist, "PERSIST database key"),
    (Verb::Keys, "KEYS database [prefix]"),
    (Verb::Count, "COUNT database"),
    (Verb::GetAll, "GET_ALL database [encryption_key]"),
    (Verb::DatabaseList, "DATABASE_LIST"),
    (Verb::DatabasePop, "DATABASE_POP database"),
    (Verb::DatabaseDelete, "DATABASE_DELETE database"),
    (Verb::DatabaseRename, "DATABASE_RENAME database new_name"),
    (Verb::DatabasePopAll, "DATABASE_POP_ALL"),
    (Verb::DatabaseDeleteAll, "DATABASE_DELETE_ALL"),
];

/// The verb of a command's form.
fn name_of(form: &'static str) -> &'static str {
    form.split_once(' ').map_or(form, |(verb, _)| verb)
}

/// Reads a query.
///
/// # Errors
/// The leftmost fault; but that the text is too long or not UTF-8 is told before any other.
pub fn parse(text: &[u8]) -> Result<Query, QueryError> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(QueryError { position: QUERY_BYTES_MAX + 1, fault: Fault::TooLong });
    }
    let text = std::str::from_utf8(text)
        .map_err(|error| QueryError { position: error.valid_up_to() + 1, fault: Fault::NotText })?;
    let mut reader = Reader { text, at: 0, form: "" };
    let first = reader.next()?.ok_or(QueryError { position: text.len() + 1, fault: Fault::Empty })?;
    let known = FORMS.iter().find(|(_, form)| first.text.eq_ignore_ascii_case(name_of(form)));
    let (verb, form) = *known.ok_or_else(|| first.wrong(Fault::VerbUnknown))?;
    reader.form = form;
    let query = reader.command(verb)?;
    match reader.next()? {
        None => Ok(query),
        Some(surplus) => Err(surplus.wrong(Fault::Surplus(form))),
    }
}

/// A text in quotes, so that [`parse`] reads the same text back as one argument.
pub fn quoted(text: &str) -> String {
    let mut out = Vec::with_capacity(json::text_length(text));
    json::write_text(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

/// A text as an argument: in quotes if it needs them.
pub fn argument(text: &str) -> Cow<'_, str> {
    match !text.is_empty() && text.chars().all(is_bare) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(quoted(text)),
    }
}

/// Whether a bare argument may hold it.
fn is_bare(letter: char) -> bool {
    !is_blank(letter) && !letter.is_ascii_control() && !matches!(letter, '"' | '\'' | ';')
}

fn is_blank(letter: char) -> bool {
    letter.is_ascii_whitespace() || letter == '\u{b}'
}

/// What reads a query from left to right.
struct Reader<'q> {
    text: &'q str,
    /// What is read of it.
    at: usize,
    /// How its command is written.
    form: &'static str,
}

/// An argument, its quotes and escapes resolved.
struct Argument<'q> {
    text: Cow<'q, str>,
    at: usize,
    is_quoted: bool,
}

impl Argument<'_> {
    fn wrong(&self, fault: Fault) -> QueryError {
        QueryError { position: self.at + 1, fault }
    }

    /// As the name of a database or key.
    fn name(self, of: &'static str) -> Result<String, QueryError> {
        match self.text.len() {
            1..=KEY_BYTES_MAX => Ok(self.text.into_owned()),
            _ => Err(self.wrong(Fault::NameLength(of))),
        }
    }

    fn encryption_key(self) -> Option<Secret> {
        let is_none = self.text.is_empty() || &*self.text == "None" && !self.is_quoted;
        (!is_none).then(|| Secret::new(self.text))
    }

    fn is_yes(&self) -> Result<bool, QueryError> {
        let is = |words: &[&str]| words.iter().any(|word| self.text.eq_ignore_ascii_case(word));
        match (is(&["true", "1", "yes"]), is(&["false", "0", "no", "none", ""])) {
            (false, false) => Err(self.wrong(Fault::Compress)),
            (yes, _) => Ok(yes),
        }
    }
}

impl<'q> Reader<'q> {
    /// Reads the arguments of a command, in the order in which they are written.
    fn command(&mut self, verb: Verb) -> Result<Query, QueryError> {
        Ok(match verb {
            Verb::Set => Query::Set {
                database: self.database()?,
                key: self.key()?,
                value: self.must("value")?.text.into_owned(),
                encryption_key: self.encryption_key()?,
                compress: self.next()?.map_or(Ok(false), |word| word.is_yes())?,
            },
            Verb::Get => Query::Get {
                database: self.database()?,
                key: self.key()?,
                encryption_key: self.encryption_key()?,
            },
            Verb::Delete => Query::Delete { database: self.database()?, key: self.key()? },
            Verb::Exists => Query::Exists { database: self.database()?, key: self.key()? },
            Verb::Incr => Query::Add { database: self.database()?, key: self.key()?, step: self.step()? },
            Verb::Decr => {
                let (database, key) = (self.database()?, self.key()?);
                let step = match self.step()? {
                    Step::Integer(step) => Step::Integer(-step),
                    Step::Decimal(step) => Step::Decimal(-step),
                };
                Query::Add { database, key, step }
            }
            Verb::Ttl => Query::Ttl { database: self.database()?, key: self.key()? },
            Verb::Expire => {
                Query::Expire { database: self.database()?, key: self.key()?, seconds: self.seconds()? }
            }
            Verb::Persist => Query::Persist { database: self.database()?, key: self.key()? },
            Verb::Keys => Query::Keys {
                database: self.database()?,
                prefix: self.next()?.map_or(String::new(), |prefix| prefix.text.into_owned()),
            },
            Verb::Count => Query::Count { database: self.database()? },
            Verb::GetAll => {
                Query::GetAll { database: self.database()?, encryption_key: self.encryption_key()? }
            }
            Verb::DatabaseList => Query::DatabaseList,
            Verb::DatabasePop => Query::DatabasePop { database: self.database()? },
            Verb::DatabaseDelete => Query::DatabaseDelete { database: self.database()? },
            Verb::DatabaseRename => {
                let database = self.database()?;
                let new_name = self.must("new_name")?.name("name of a database")?;
                Query::DatabaseRename { database, new_name }
            }
            Verb::DatabasePopAll => Query::DatabasePopAll,
            Verb::DatabaseDeleteAll => Query::DatabaseDeleteAll,
        })
    }

    fn database(&mut self) -> Result<String, QueryError> {
        self.must("database")?.name("name of a database")
    }

    fn key(&mut self) -> Result<String, QueryError> {
        self.must("key")?.name("key")
    }

    fn encryption_key(&mut self) -> Result<Option<Secret>, QueryError> {
        Ok(self.next()?.and_then(Argument::encryption_key))
    }

    fn step(&mut self) -> Result<Step, QueryError> {
        let Some(step) = self.next()? else { return Ok(Step::Integer(1)) };
        parse_step(&step.text).ok_or_else(|| step.wrong(Fault::Step))
    }

    fn seconds(&mut self) -> Result<u32, QueryError> {
        let argument = self.must("seconds")?;
        seconds(argument.text.as_bytes()).ok_or_else(|| argument.wrong(Fault::Seconds))
    }

    /// The next argument, which the command cannot do without.
    fn must(&mut self, what: &'static str) -> Result<Argument<'q>, QueryError> {
        let missing = Fault::Missing(what, self.form);
        self.next()?.ok_or(QueryError { position: self.text.len() + 1, fault: missing })
    }

    /// The next argument, if there is one.
    fn next(&mut self) -> Result<Option<Argument<'q>>, QueryError> {
        let rest = self.text[self.at..].trim_start_matches(is_blank);
        let at = self.text.len() - rest.len();
        let (text, length) = match rest.bytes().next() {
            None => return Ok(None),
            Some(b'"') => self.escaped(at)?,
            Some(b'\'') => {
                let inside = &rest[1..];
                let length = inside.find('\'').ok_or_else(|| fault(at, Fault::QuoteOpen))?;
                (Cow::Borrowed(&inside[..length]), length + 2)
            }
            Some(_) => {
                let length = rest.find(|letter| !is_bare(letter)).unwrap_or(rest.len());
                (Cow::Borrowed(&rest[..length]), length)
            }
        };
        let is_quoted = rest.starts_with(['"', '\'']);
        self.at = at + length;
        match self.text[self.at..].chars().next() {
            None => {}
            Some(letter) if is_blank(letter) => {}
            Some(_) if is_quoted => return Err(fault(self.at, Fault::QuoteFollowed)),
            Some('"' | '\'') => return Err(fault(self.at, Fault::QuoteInside)),
            Some(';') => return Err(fault(self.at, Fault::Semicolon)),
            Some(_) => return Err(fault(self.at, Fault::Control)),
        }
        Ok(Some(Argument { text, at, is_quoted }))
    }

    /// What stands in the double quotes that open at `at`, and its length with them.
    fn escaped(&self, at: usize) -> Result<(Cow<'q, str>, usize), QueryError> {
        let inside = &self.text[at + 1..];
        let (mut text, mut from) = (String::new(), 0);
        loop {
            let found = inside[from..].find(['"', '\\']).ok_or_else(|| fault(at, Fault::QuoteOpen))?;
            let plain = &inside[from..from + found];
            from += found;
            if inside[from..].starts_with('"') {
                let length = from + 2;
                return Ok(match text.is_empty() {
                    true => (Cow::Borrowed(plain), length),
                    false => (Cow::Owned(text + plain), length),
                });
            }
            let escape = primitive::escape(&inside.as_bytes()[from..]);
            let (letter, length) = escape.ok_or_else(|| fault(at + 1 + from, Fault::EscapeUnknown))?;
            text.push_str(plain);
            text.push(letter);
            from += length;
        }
    }
}

/// A fault at a byte, counted from 0.
fn fault(at: usize, fault: Fault) -> QueryError {
    QueryError { position: at + 1, fault }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

    use super::{FORMS, Fault, Query, QueryError, argument, name_of, parse, quoted};
    use crate::limits::{KEY_BYTES_MAX, QUERY_BYTES_MAX};
    use crate::op::Step;

    /// A query as it is shown, its secrets too, so that tests can compare whole ones.
    fn read(text: &str) -> String {
        let query = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
        let secret = match &query {
            Query::Set { encryption_key, .. }
            | Query::Get { encryption_key, .. }
            | Query::GetAll { encryption_key, .. } => encryption_key.as_ref(),
            _ => None,
        };
        let shown = secret.map_or(String::new(), |secret| format!(" with {}", secret.expose()));
        format!("{query:?}{shown}")
    }

    fn refused(text: impl AsRef<[u8]>) -> (usize, Fault) {
        let QueryError { position, fault } = parse(text.as_ref()).expect_err("refused");
        (position, fault)
    }

    #[test]
    fn every_command_is_read_into_what_it_asks_for() {
        let database = r#"database: "db""#;
        let key = format!(r#"{database}, key: "k""#);
        let none = "encryption_key: None";
        for (text, shown) in [
            ("SET db k v", format!(r#"Set {{ {key}, value: "v", {none}, compress: false }}"#)),
            (
                "set db k v pass yes",
                format!(
                    r#"Set {{ {key}, value: "v", encryption_key: Some(********), compress: true }} with pass"#
                ),
            ),
            ("SET db k 5 None TRUE", format!(r#"Set {{ {key}, value: "5", {none}, compress: true }}"#)),
            ("GET db k", format!("Get {{ {key}, {none} }}")),
            ("GET db k 'p w'", format!("Get {{ {key}, encryption_key: Some(********) }} with p w")),
            ("GET db k 'None'", format!("Get {{ {key}, encryption_key: Some(********) }} with None")),
            ("GET db k \"\"", format!("Get {{ {key}, {none} }}")),
            ("Delete db k", format!("Delete {{ {key} }}")),
            ("EXISTS db k", format!("Exists {{ {key} }}")),
            ("INCR db k", format!("Add {{ {key}, step: Integer(1) }}")),
            ("INCR db k -7", format!("Add {{ {key}, step: Integer(-7) }}")),
            ("DECR db k", format!("Add {{ {key}, step: Integer(-1) }}")),
            ("DECR db k 0.5", format!("Add {{ {key}, step: Decimal(-0.5) }}")),
            ("TTL db k", format!("Ttl {{ {key} }}")),
            ("EXPIRE db k 60", format!("Expire {{ {key}, seconds: 60 }}")),
            ("PERSIST db k", format!("Persist {{ {key} }}")),
            ("KEYS db", format!(r#"Keys {{ {database}, prefix: "" }}"#)),
            ("KEYS db user/", format!(r#"Keys {{ {database}, prefix: "user/" }}"#)),
            ("COUNT db", format!("Count {{ {database} }}")),
            ("GET_ALL db", format!("GetAll {{ {database}, {none} }}")),
            ("GET_ALL db p", format!("GetAll {{ {database}, encryption_key: Some(********) }} with p")),
            ("DATABASE_LIST", "DatabaseList".into()),
            ("DATABASE_POP db", format!("DatabasePop {{ {database} }}")),
            ("DATABASE_DELETE db", format!("DatabaseDelete {{ {database} }}")),
            ("DATABASE_RENAME db 'a b'", format!(r#"DatabaseRename {{ {database}, new_name: "a b" }}"#)),
            ("DATABASE_POP_ALL", "DatabasePopAll".into()),
            ("\t database_delete_all\r\n", "DatabaseDeleteAll".into()),
        ] {
            assert_eq!(read(text), shown, "{text}");
        }
    }

    #[test]
    fn the_step_of_a_decrement_has_room_on_both_sides() {
        for (text, expected) in [
            ("DECR d k -9223372036854775808", 9_223_372_036_854_775_808),
            ("DECR d k 9223372036854775807", -9_223_372_036_854_775_807),
        ] {
            match parse(text.as_bytes()) {
                Ok(Query::Add { step: Step::Integer(step), .. }) => assert_eq!(step, expected),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn each_fault_is_told_with_the_byte_it_stands_at() {
        for (text, position, fault) in [
            ("", 1, Fault::Empty),
            (" \t\r\n\u{b}\u{c}", 7, Fault::Empty),
            ("FLUSH", 1, Fault::VerbUnknown),
            ("  SETS db k v", 3, Fault::VerbUnknown),
            ("S\u{131}T db k v", 1, Fault::VerbUnknown),
            ("GET db", 7, Fault::Missing("key", "GET database key [encryption_key]")),
            ("GET  ", 6, Fault::Missing("database", "GET database key [encryption_key]")),
            ("DELETE db k l", 13, Fault::Surplus("DELETE database key")),
            ("DATABASE_LIST db", 15, Fault::Surplus("DATABASE_LIST")),
            ("SET db k hello world again more", 22, Fault::Compress),
            ("GET db \"\"", 8, Fault::NameLength("key")),
            ("GET '' k", 5, Fault::NameLength("name of a database")),
            ("GET db \"k", 8, Fault::QuoteOpen),
            ("GET db 'k\"", 8, Fault::QuoteOpen),
            ("GET db \"k\\\"", 8, Fault::QuoteOpen),
            ("GET db it's", 10, Fault::QuoteInside),
            ("GET db 'k'l", 11, Fault::QuoteFollowed),
            ("GET db \"k\"\"l\"", 11, Fault::QuoteFollowed),
            ("GET db \"k\";", 11, Fault::QuoteFollowed),
            ("GET db \"é\\x\"", 11, Fault::EscapeUnknown),
            ("GET db \"\\ud800\"", 9, Fault::EscapeUnknown),
            ("GET db \"\\ud800\\u0041\"", 9, Fault::EscapeUnknown),
            ("GET db \"\\u+041\"", 9, Fault::EscapeUnknown),
            ("GET db k; DATABASE_DELETE_ALL", 9, Fault::Semicolon),
            ("GET db k ;", 10, Fault::Semicolon),
            ("GET db k\0", 9, Fault::Control),
            ("GET db \u{7f}", 8, Fault::Control),
            ("INCR db k one", 11, Fault::Step),
            ("INCR db k inf", 11, Fault::Step),
            ("INCR db k 9223372036854775808", 11, Fault::Step),
            ("EXPIRE db k", 12, Fault::Missing("seconds", "EXPIRE database key seconds")),
            ("EXPIRE db k 0", 13, Fault::Seconds),
            ("EXPIRE db k 4294967296", 13, Fault::Seconds),
            ("EXPIRE db k -1", 13, Fault::Seconds),
            ("SET db k v p maybe", 14, Fault::Compress),
        ] {
            assert_eq!(refused(text), (position, fault), "{text:?}");
        }
        assert_eq!(refused(b"GET db \xff"), (8, Fault::NotText));
        assert_eq!(refused(b"GET db k\xc3"), (9, Fault::NotText));
    }

    #[test]
    fn a_fault_is_a_sentence_that_shows_nothing_of_the_query() {
        let texts =
            ["hush", "SET hush", "GET db hush;", "SET a b c d hush", "EXPIRE a b hush", "GET a 'hush"];
        for text in texts {
            let sentence = parse(text.as_bytes()).expect_err("refused").to_string();
            assert!(!sentence.contains("hush"), "{sentence}");
            assert!(sentence.starts_with(|first: char| first.is_ascii_uppercase()), "{sentence}");
            assert!(sentence.contains(" (at byte "), "{sentence}");
        }
        let unknown = parse(b"X").expect_err("no verb").to_string();
        assert!(FORMS.iter().all(|(_, form)| unknown.contains(name_of(form))), "{unknown}");
    }

    #[test]
    fn a_query_and_its_names_are_bounded() {
        let query = |bytes: usize| {
            let begin = "SET db k ";
            parse(format!("{begin}{}", "v".repeat(bytes - begin.len())).as_bytes())
        };
        assert!(query(QUERY_BYTES_MAX - 1).is_ok() && query(QUERY_BYTES_MAX).is_ok());
        let error = query(QUERY_BYTES_MAX + 1).expect_err("too long");
        assert_eq!((error.position, error.fault), (QUERY_BYTES_MAX + 1, Fault::TooLong));
        for (bytes, good) in [(KEY_BYTES_MAX - 1, true), (KEY_BYTES_MAX, true), (KEY_BYTES_MAX + 1, false)] {
            let name = "n".repeat(bytes);
            for text in
                [format!("GET {name} k"), format!("GET d {name}"), format!("DATABASE_RENAME d {name}")]
            {
                assert_eq!(parse(text.as_bytes()).is_ok(), good, "{bytes}");
            }
        }
    }

    /// Texts that are likely to be understood, cut short or taken for something else.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            prop::collection::vec(
                prop_oneof![
                    Just("\"".to_owned()),
                    Just("'".to_owned()),
                    Just("\\".to_owned()),
                    Just("\\u00e9".to_owned()),
                    Just("\\ud83d\\ude00".to_owned()),
                    Just(" ".to_owned()),
                    Just(";".to_owned()),
                    Just("None".to_owned()),
                    "[a-z]{0,3}",
                    "\\PC",
                    "[\\x00-\\x1f]",
                ],
                0..12
            )
            .prop_map(|parts| parts.concat()),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_at_a_byte_of_theirs(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            form in 0..FORMS.len(),
            texts in prop::collection::vec(text(), 0..6),
        ) {
            let command = format!("{} {}", name_of(FORMS[form].1), texts.join(" "));
            for query in [bytes, command.into_bytes()] {
                if let Err(error) = parse(&query) {
                    assert!((1..=query.len() + 1).contains(&error.position), "{error}");
                    assert!(!error.to_string().is_empty());
                }
            }
        }

        #[test]
        fn what_is_quoted_comes_back(value in text(), blank in "[ \t\r\n\u{b}\u{c}]{1,3}") {
            let json = serde_json::to_string(&value).expect("a text");
            for quoted in [quoted(&value), argument(&value).into_owned(), json] {
                let query = format!("{blank}SET{blank}db{blank}k{blank}{quoted}{blank}None");
                match parse(query.as_bytes()) {
                    Ok(Query::Set { value: read, .. }) => assert_eq!(read, value),
                    other => panic!("{query:?}: {other:?}"),
                }
            }
            if !value.contains('\'') {
                match parse(format!("SET db k '{value}'").as_bytes()) {
                    Ok(Query::Set { value: read, .. }) => assert_eq!(read, value),
                    other => panic!("{value:?}: {other:?}"),
                }
            }
        }

        #[test]
        fn what_kot_reads_without_quotes_is_read_the_same(words in prop::collection::vec("[!#-&(-:<-~]{1,9}", 3)) {
            match parse(format!("SET {}", words.join(" ")).as_bytes()) {
                Ok(Query::Set { database, key, value, encryption_key: None, compress: false }) => {
                    assert_eq!([database, key, value], *words);
                }
                other => panic!("{words:?}: {other:?}"),
            }
        }
    }
}
