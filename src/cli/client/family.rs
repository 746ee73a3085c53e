//! `get`, `put`, `delete` and `list` in the families beside kv: the items and lists of an app, the values
//! of a database.
//!
//! Values are JSON there. A string is shown as its text and anything else as it stands; what is put is a
//! string unless `--type json` says that it is JSON. A list is shown and read with a line for each value.
//! What only a key of kv has (an ETag, conditions, locks, a type) is refused before anything is sent.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::answer::Answer;
use super::api_key::{print, read};
use super::key::{percent_encoded, shown};
use super::node::{Node, Payload, secret_of_file};
use super::output::{Reader, save, show, write};
use super::{KeyArgs, NodeArgs};
use crate::api::databases::query;
use crate::cli::failure::{Exit, Failure};
use crate::limits::LIST_KEYS_MAX;

/// Which family, if it is not kv.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Other families")]
pub struct FamilyArgs {
    /// It is in the app of this name or id
    #[arg(long, value_name = "APP", conflicts_with = "database")]
    app: Option<String>,
    /// It is in the database of this name
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// In the app: lists in the place of items
    #[arg(long, requires = "app")]
    lists: bool,
}

/// What the values of a database are sealed with.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Other families")]
pub struct SealArgs {
    /// In the database: the value is sealed with what this file holds
    #[arg(long, value_name = "FILE", requires = "database")]
    encryption_key_file: Option<PathBuf>,
}

/// Where keys are, if not in kv.
#[derive(Clone, Copy, Debug)]
pub enum Family<'a> {
    /// Among the items of an app.
    Items(&'a str),
    /// Among its lists.
    Lists(&'a str),
    /// In a database.
    Database(&'a str),
}

impl FamilyArgs {
    /// The family that is meant, if it is not kv.
    ///
    /// # Errors
    /// If something is given beside it that only kv has: the flag, and whether it is given.
    pub fn family(&self, of_kv: &[(&str, bool)]) -> Result<Option<Family<'_>>, Failure> {
        let (family, flag) = match (&self.app, &self.database) {
            (Some(app), _) if self.lists => (Family::Lists(app), "--lists"),
            (Some(app), _) => (Family::Items(app), "--app"),
            (_, Some(name)) => (Family::Database(name), "--database"),
            _ => return Ok(None),
        };
        match of_kv.iter().find(|(_, given)| *given) {
            Some((other, _)) => {
                let what =
                    format!("{other} does not go with {flag}: it is for keys of neither app nor database");
                Err(Failure::new(Exit::Usage, what))
            }
            None => Ok(Some(family)),
        }
    }
}

impl SealArgs {
    /// Adds the encryption key to an order.
    fn seal(&self, order: &mut Map<String, Value>) -> Result<(), Failure> {
        if let Some(path) = &self.encryption_key_file {
            let secret = secret_of_file(path, "the encryption key")?;
            order.insert("encryption_key".into(), secret.expose().into());
        }
        Ok(())
    }
}

/// A family of a node.
pub struct Place<'a> {
    family: Family<'a>,
    node: Node,
}

/// What the app families answer.
#[derive(Deserialize)]
struct Envelope<'b> {
    #[serde(borrow)]
    data: &'b RawValue,
}

#[derive(Deserialize)]
struct Item<'b> {
    #[serde(borrow)]
    value: &'b RawValue,
}

impl<'a> Place<'a> {
    /// The family, on the node that is meant.
    pub fn new(family: Family<'a>, node: &NodeArgs) -> Result<Place<'a>, Failure> {
        let node = match family {
            Family::Database(_) => Node::with_password(node)?,
            Family::Items(_) | Family::Lists(_) => Node::new(node)?,
        };
        Ok(Place { family, node })
    }

    /// Shows a value, or all of a list.
    pub fn get(
        &self,
        key: &KeyArgs,
        seal: &SealArgs,
        output: Option<&Path>,
        json: bool,
    ) -> Result<ExitCode, Failure> {
        let key = text_of(key)?;
        let body = match self.family {
            Family::Items(_) => {
                self.ask(&format!("/item/read?key={}", percent_encoded(key.as_bytes())), &key)?
            }
            Family::Lists(_) => {
                self.ask(&format!("/list/read?key={}", percent_encoded(key.as_bytes())), &key)?
            }
            Family::Database(name) => {
                let mut order = order([("database_name", name), ("key", &key)]);
                seal.seal(&mut order)?;
                let answer = self.send("/controller/get", order)?;
                self.whole(answer, &key)?
            }
        };
        let mut text = match self.family {
            Family::Items(_) => {
                let envelope: Envelope<'_> = read(&body, &self.node)?;
                let item: Item<'_> = read(envelope.data.get().as_bytes(), &self.node)?;
                value(item.value.get(), json)
            }
            Family::Lists(_) => {
                let envelope: Envelope<'_> = read(&body, &self.node)?;
                let values: Vec<&RawValue> = read(envelope.data.get().as_bytes(), &self.node)?;
                values.iter().map(|raw| format!("{}\n", value(raw.get(), json))).collect::<String>().into()
            }
            Family::Database(_) => {
                let raw: &RawValue = read(&body, &self.node)?;
                if raw.get() == "null" {
                    let what = format!("{}: the database has no such key, or null", shown(key.as_bytes()));
                    return Err(Failure::new(Exit::Absent, what));
                }
                value(raw.get(), json)
            }
        };
        if json && !text.ends_with('\n') {
            text.to_mut().push('\n');
        }
        match output.filter(|path| *path != Path::new("-")) {
            Some(path) => drop(save(text.as_bytes(), path)?),
            None => show(text.as_bytes(), output.is_some())?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Stores a value, or a list of the lines of it.
    pub fn put(&self, key: &KeyArgs, typed: Vec<u8>, put: &PutOptions<'_>) -> Result<ExitCode, Failure> {
        let key = text_of(key)?;
        let no_text = "a value in an app or a database is text, and this one is not UTF-8";
        let typed = String::from_utf8(typed).map_err(|_| Failure::new(Exit::Usage, no_text))?;
        let json = match put.content_type {
            None => false,
            Some("json" | "application/json") => true,
            Some(_) => {
                let what = "values in apps and databases have no type of their own; --type json says that it is JSON";
                return Err(Failure::new(Exit::Usage, what));
            }
        };
        let (path, mut order, value) = match self.family {
            Family::Items(_) => ("/item/write", order([("key", &*key)]), ("value", primitive(&typed, json)?)),
            Family::Lists(_) => {
                let values: Result<Vec<_>, _> = typed.lines().map(|line| primitive(line, json)).collect();
                let values = format!("[{}]", values?.join(","));
                (
                    if put.add { "/list/add" } else { "/list/write" },
                    order([("key", &*key)]),
                    ("values", values),
                )
            }
            Family::Database(name) => {
                let mut order = order([("database_name", name), ("key", &key)]);
                put.seal.seal(&mut order)?;
                if put.compress {
                    order.insert("compress".into(), true.into());
                }
                ("/controller/set", order, ("value", primitive(&typed, json)?))
            }
        };
        order.extend(put.ttl.map(|ttl| ("ttl".into(), ttl.into())));
        // Numbers go as they were typed, whatever their size.
        let rest = Value::from(order).to_string();
        let body = format!("{{\"{}\":{},{}", value.0, value.1, &rest[1..]);
        let answer = self.call("POST", path, Payload::Bytes(body.as_bytes()))?;
        self.done(answer, &key, put.json, "stored")
    }

    /// Removes a value or a list.
    pub fn delete(&self, key: &KeyArgs, json: bool) -> Result<ExitCode, Failure> {
        let key = text_of(key)?;
        let answer = match self.family {
            Family::Items(_) => {
                let path = format!("/item/delete?key={}", percent_encoded(key.as_bytes()));
                self.call("DELETE", &path, Payload::Absent)?
            }
            Family::Lists(_) => self.send("/list/purge", order([("key", &*key)]))?,
            Family::Database(name) => {
                self.send("/controller/delete", order([("database_name", name), ("key", &key)]))?
            }
        };
        self.done(answer, &key, json, "deleted")
    }

    /// Names the keys, page after page; those of a database at once.
    pub fn list(&self, prefix: &[u8], limit: u64, json: bool, encoded: bool) -> Result<ExitCode, Failure> {
        let lines = |names: &[&RawValue]| -> Result<String, Failure> {
            let mut lines = String::new();
            for name in names {
                let text: String = read(name.get().as_bytes(), &self.node)?;
                lines.push_str(&match (json, encoded) {
                    (true, _) => name.get().to_owned(),
                    (_, true) => percent_encoded(text.as_bytes()),
                    _ => shown(text.as_bytes()),
                });
                lines.push('\n');
            }
            Ok(lines)
        };
        let pages = match self.family {
            Family::Items(_) => "/item/keys",
            Family::Lists(_) => "/list/keys",
            Family::Database(name) => {
                let prefix = String::from_utf8_lossy(prefix);
                let query = format!("KEYS {} {}", query::quoted(name), query::quoted(&prefix));
                let answer = self.send("/execute", order([("query", &*query)]))?;
                let body = self.whole(answer, name)?;
                let mut names: Vec<&RawValue> = read(&body, &self.node)?;
                names.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
                write(lines(&names)?.as_bytes())?;
                return Ok(ExitCode::SUCCESS);
            }
        };
        let (mut left, mut cursor) = (limit, String::new());
        while left > 0 {
            let path = format!(
                "{pages}?prefix={}&limit={}&cursor={}",
                percent_encoded(prefix),
                left.min(LIST_KEYS_MAX as u64),
                percent_encoded(cursor.as_bytes())
            );
            let answer = self.call("GET", &path, Payload::Absent)?;
            let next = answer.field("X-Next-Cursor").map(str::to_owned);
            let body = self.whole(answer, "the list of keys")?;
            let envelope: Envelope<'_> = read(&body, &self.node)?;
            let names: Vec<&RawValue> = read(envelope.data.get().as_bytes(), &self.node)?;
            if write(lines(&names)?.as_bytes())? == Reader::Gone {
                break;
            }
            left = left.saturating_sub(names.len() as u64);
            match next {
                // A cursor that stands still would be followed for ever.
                Some(next) if next != cursor => cursor = next,
                _ => break,
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn ask(&self, path: &str, what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        self.whole(self.call("GET", path, Payload::Absent)?, what)
    }

    fn send(&self, path: &str, order: Map<String, Value>) -> Result<Answer, Failure> {
        let body = Value::from(order).to_string();
        self.call("POST", path, Payload::Bytes(body.as_bytes()))
    }

    fn call(&self, method: &str, path: &str, payload: Payload<'_>) -> Result<Answer, Failure> {
        let mut fields = Vec::with_capacity(2);
        if let Payload::Bytes(_) = payload {
            fields.push(("Content-Type", "application/json".to_owned()));
        }
        if let Family::Items(app) | Family::Lists(app) = self.family {
            fields.push(("X-App", app.to_owned()));
        }
        self.node.call(method, path, &fields, payload)
    }

    fn whole(&self, answer: Answer, what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        match answer.status() {
            200 => answer.whole(),
            _ => Err(answer.refusal(&self.node, Some(what.as_bytes()))),
        }
    }

    /// Says that it is done; for scripts, what the node says.
    fn done(&self, answer: Answer, key: &str, json: bool, done: &str) -> Result<ExitCode, Failure> {
        let body = self.whole(answer, key)?;
        match (json, self.family) {
            (false, _) => print(done.as_bytes()),
            (true, Family::Database(_)) => {
                let said = String::from_utf8_lossy(body.trim_ascii()).into_owned();
                print(Value::from(Map::from_iter([("message".into(), said.into())])).to_string().as_bytes())
            }
            (true, _) => {
                let envelope: Envelope<'_> = read(&body, &self.node)?;
                print(envelope.data.get().as_bytes())
            }
        }
    }
}

/// How a value is stored.
pub struct PutOptions<'p> {
    /// Seconds that it has to live.
    pub ttl: Option<u64>,
    /// What it is said to be.
    pub content_type: Option<&'p str>,
    /// What it is sealed with.
    pub seal: &'p SealArgs,
    /// Whether a database compresses it.
    pub compress: bool,
    /// Whether a list keeps what it has.
    pub add: bool,
    /// Whether a script reads what was done.
    pub json: bool,
}

fn order<const N: usize>(members: [(&str, &str); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect()
}

/// A key, which is text in these families.
fn text_of(key: &KeyArgs) -> Result<String, Failure> {
    let no_text = "a key in an app or a database is text, and this one is not UTF-8";
    String::from_utf8(key.bytes()?).map_err(|_| Failure::new(Exit::Usage, no_text))
}

/// A value as JSON: a text, or what it says.
fn primitive(typed: &str, json: bool) -> Result<String, Failure> {
    if !json {
        return Ok(Value::from(typed).to_string());
    }
    let raw: Result<&RawValue, _> = serde_json::from_str(typed);
    raw.map(|raw| raw.get().to_owned()).map_err(|_| Failure::new(Exit::Usage, "the value is no JSON"))
}

/// A value for people and pipes: a string's text, or what stands there.
fn value(raw: &str, json: bool) -> Cow<'_, str> {
    match raw.starts_with('"') && !json {
        true => serde_json::from_str::<String>(raw).map_or(Cow::Borrowed(raw), Cow::Owned),
        false => Cow::Borrowed(raw),
    }
}

#[cfg(test)]
mod tests {
    use super::{FamilyArgs, primitive, value};

    fn args(app: Option<&str>, database: Option<&str>) -> FamilyArgs {
        FamilyArgs { app: app.map(Into::into), database: database.map(Into::into), lists: false }
    }

    #[test]
    fn what_only_kv_has_is_refused_elsewhere() {
        for (app, database) in [(Some("a"), None), (None, Some("d"))] {
            assert!(args(app, database).family(&[("--create", false)]).unwrap().is_some());
            assert!(args(app, database).family(&[("--create", false), ("--if-match", true)]).is_err());
        }
        assert!(args(None, None).family(&[("--create", true)]).unwrap().is_none());
    }

    #[test]
    fn a_value_is_a_string_unless_it_is_said_to_be_json() {
        assert_eq!(primitive("5", false).unwrap(), "\"5\"");
        assert_eq!(primitive("a\"\n", false).unwrap(), r#""a\"\n""#);
        assert_eq!(primitive(" 12345678901234567890.50 ", true).unwrap(), "12345678901234567890.50");
        for no_json in ["", "five", "5 5", "{"] {
            assert!(primitive(no_json, true).is_err(), "{no_json}");
        }
    }

    #[test]
    fn a_string_is_shown_as_its_text_and_the_rest_as_it_stands() {
        for (raw, shown) in
            [(r#""a\n\u00e9""#, "a\né"), ("1.0", "1.0"), ("null", "null"), ("[1]", "[1]"), (r#""""#, "")]
        {
            assert_eq!(value(raw, false), shown);
            assert_eq!(value(raw, true), raw);
        }
    }
}
