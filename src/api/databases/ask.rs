//! What a request of this family asks for, read from its body.
//!
//! Reading needs nothing but the body and what the caller may, so that a long one can be read by a thread
//! that may take its time; it also seals and compresses what is to be stored.

use crate::auth::Grants;
use crate::config::Secret;
use crate::limits::{KEY_BYTES_MAX, LOG_MESSAGE_BYTES_MAX, QUERY_BYTES_MAX};
use crate::op::Step;
use crate::shard::DatabaseOrder;

use super::super::json;
use super::super::message::Problem;
use super::fields::{
    self, DATABASE, ENCRYPTION_KEY, Fields, Given, KEY, MESSAGE, NEW_DATABASE, QUERY, VALUE,
};
use super::query::{self, Query};
use super::seal::{self, Text};
use super::{DatabaseVerb, Level};

/// What is asked for.
#[derive(Debug)]
pub(super) enum Ask {
    /// Something with one entry.
    Entry(Entry),
    /// Everything in a database.
    All { database: Box<str>, encryption_key: Option<Secret> },
    /// The keys in a database that begin like this.
    Keys { database: Box<str>, prefix: String },
    /// How many there are.
    Count { database: Box<str> },
    /// Which databases there are.
    List,
    /// A change of the set of databases, and what is said when it is done.
    Change(DatabaseOrder, &'static str),
    /// A message for the log.
    Log(Level, Box<str>),
}

/// Something with one entry.
#[derive(Debug)]
pub(super) struct Entry {
    pub database: Box<str>,
    pub key: Box<str>,
    pub what: What,
}

/// What is done with an entry.
#[derive(Debug)]
pub(super) enum What {
    /// Replace it, and say this.
    Set(Text, &'static str),
    Get(Option<Secret>),
    Delete,
    Exists,
    Add(Step),
    Ttl,
    Expire(u32),
    Persist,
    /// See why it cannot be counted.
    Unfit,
}

impl What {
    /// Whether it makes the database if there is none.
    pub fn makes_database(&self) -> bool {
        matches!(self, What::Set(..) | What::Add(_))
    }

    /// Whether it changes anything.
    pub fn writes(&self) -> bool {
        !matches!(self, What::Get(_) | What::Exists | What::Ttl | What::Unfit)
    }
}

pub(super) const SET: &str = "Data set successfully";
pub(super) const DELETED: &str = "Data deleted successfully";
const POPPED: &str = "Database popped successfully";
const ALL_POPPED: &str = "All database popped successfully";
const RENAMED: &str = "Database renamed successfully";
const DROPPED: &str = "Database deleted successfully";
const ALL_DROPPED: &str = "All database deleted successfully";

fn logged(level: Level) -> &'static str {
    match level {
        Level::Debug => "Debug message logged successfully",
        Level::Info => "Info message logged successfully",
        Level::Warning => "Warning message logged successfully",
        Level::Error => "Error message logged successfully",
        Level::Exception => "Exception message logged successfully",
    }
}

/// What a level's message is answered with once it is kept as this.
pub(super) fn kept(level: Level, key: String, value: Vec<u8>) -> Ask {
    let what = What::Set(Text::of(value), logged(level));
    Ask::Entry(Entry { database: level.name().into(), key: key.into(), what })
}

/// What the caller of `/execute` may, beside that.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub grants: Grants,
    /// What the settings keep it from.
    pub restricted: std::sync::Arc<[Box<str>]>,
}

/// Reads what is asked for.
///
/// # Errors
/// When a field is missing or is not what it must be, or the caller may not.
pub(super) fn read(
    verb: DatabaseVerb,
    content_type: Option<&[u8]>,
    body: &[u8],
    value_bytes_max: u64,
    caller: &Caller,
) -> Result<Ask, Problem> {
    if verb == DatabaseVerb::Execute {
        return read_query(content_type, body, value_bytes_max, caller);
    }
    let mut fields = match verb {
        DatabaseVerb::List | DatabaseVerb::PopAll | DatabaseVerb::DropAll => Fields::default(),
        _ => Fields::read(content_type, body)?,
    };
    Ok(match verb {
        DatabaseVerb::Set => {
            let (database, key) = (database(&mut fields)?, key(&mut fields)?);
            let text = match fields.take(VALUE).ok_or(Problem::ParameterMissing("value"))? {
                Given::Json(json) => json.to_vec(),
                Given::Text(text) => {
                    let text = std::str::from_utf8(&text)
                        .map_err(|_| Problem::ParameterInvalid("value is UTF-8"))?;
                    quoted(text)
                }
            };
            let encryption_key = encryption_key(&mut fields)?;
            let compress = fields.compress()?;
            let value = closed(text, &key, encryption_key.as_ref(), compress, value_bytes_max)?;
            Ask::Entry(Entry { database, key, what: What::Set(value, SET) })
        }
        DatabaseVerb::Get => {
            let (database, key) = (database(&mut fields)?, key(&mut fields)?);
            fields.compress()?;
            Ask::Entry(Entry { database, key, what: What::Get(encryption_key(&mut fields)?) })
        }
        DatabaseVerb::Delete => {
            let (database, key) = (database(&mut fields)?, key(&mut fields)?);
            Ask::Entry(Entry { database, key, what: What::Delete })
        }
        DatabaseVerb::GetAll => {
            Ask::All { database: database(&mut fields)?, encryption_key: encryption_key(&mut fields)? }
        }
        DatabaseVerb::Log(level) => {
            let message = fields.must(MESSAGE)?;
            if message.len() > LOG_MESSAGE_BYTES_MAX {
                return Err(Problem::ValueTooLarge(LOG_MESSAGE_BYTES_MAX as u64));
            }
            Ask::Log(level, message.into())
        }
        DatabaseVerb::Pop => Ask::Change(DatabaseOrder::Empty(database(&mut fields)?), POPPED),
        DatabaseVerb::Drop => Ask::Change(DatabaseOrder::Drop(database(&mut fields)?), DROPPED),
        DatabaseVerb::Rename => {
            let from = database(&mut fields)?;
            let to = named(fields.must(NEW_DATABASE)?, "new_database_name is 1 to 1024 bytes")?;
            Ask::Change(DatabaseOrder::Rename(from, to), RENAMED)
        }
        DatabaseVerb::PopAll => Ask::Change(DatabaseOrder::EmptyAll, ALL_POPPED),
        DatabaseVerb::DropAll => Ask::Change(DatabaseOrder::DropAll, ALL_DROPPED),
        DatabaseVerb::List | DatabaseVerb::Execute => Ask::List,
    })
}

fn database(fields: &mut Fields<'_>) -> Result<Box<str>, Problem> {
    named(fields.must(DATABASE)?, "database_name is 1 to 1024 bytes")
}

fn key(fields: &mut Fields<'_>) -> Result<Box<str>, Problem> {
    named(fields.must(KEY)?, "key is 1 to 1024 bytes")
}

fn named(name: std::borrow::Cow<'_, str>, otherwise: &'static str) -> Result<Box<str>, Problem> {
    match name.len() {
        1..=KEY_BYTES_MAX => Ok(name.into()),
        _ => Err(Problem::ParameterInvalid(otherwise)),
    }
}

/// An empty one is none, as the original has it.
fn encryption_key(fields: &mut Fields<'_>) -> Result<Option<Secret>, Problem> {
    let key = fields.text(ENCRYPTION_KEY)?.filter(|key| !key.is_empty());
    match key {
        Some(key) if key.len() > KEY_BYTES_MAX => {
            Err(Problem::ParameterInvalid("encryption_key is at most 1024 bytes"))
        }
        key => Ok(key.map(Secret::new)),
    }
}

fn quoted(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    json::write_text(&mut out, text);
    out
}

fn closed(
    text: Vec<u8>,
    key: &str,
    encryption_key: Option<&Secret>,
    compress: bool,
    value_bytes_max: u64,
) -> Result<Text, Problem> {
    if text.len() as u64 > value_bytes_max {
        return Err(Problem::ValueTooLarge(value_bytes_max));
    }
    let kept = match encryption_key.is_some() || compress {
        true => seal::close(text, key, encryption_key.map(Secret::expose), compress)?,
        false => text,
    };
    if kept.len() as u64 > value_bytes_max {
        return Err(Problem::ValueTooLarge(value_bytes_max));
    }
    Ok(Text::of(kept))
}

/// Reads a command, and checks what the caller may.
fn read_query(
    content_type: Option<&[u8]>,
    body: &[u8],
    value_bytes_max: u64,
    caller: &Caller,
) -> Result<Ask, Problem> {
    let is_plain = content_type.is_some_and(|value| fields::is_type(value, b"text/plain"));
    let mut fields = match is_plain {
        true => Fields::of_query(body),
        false => Fields::read(content_type, body)?,
    };
    // What is no UTF-8 is told with its position, like everything that is wrong with it.
    let query = match fields.take(QUERY) {
        Some(Given::Text(text)) => text,
        given => {
            if let Some(given) = given {
                fields.restore(QUERY, given);
            }
            fields.must(QUERY)?.into_owned().into_bytes().into()
        }
    };
    if query.len() > QUERY_BYTES_MAX {
        return Err(Problem::QueryTooLong);
    }
    let query = query::parse(&query).map_err(Problem::QueryRefused)?;
    let twin = twin(&query);
    if !caller.grants.contains(twin.grant()) {
        return Err(Problem::Forbidden(twin.grant()));
    }
    if caller.restricted.iter().any(|name| &**name == twin.name()) {
        return Err(Problem::Restricted);
    }
    of_query(query, value_bytes_max)
}

/// The endpoint that does what a command does, or nearly.
fn twin(query: &Query) -> DatabaseVerb {
    match query {
        Query::Set { .. } | Query::Add { .. } | Query::Expire { .. } | Query::Persist { .. } => {
            DatabaseVerb::Set
        }
        Query::Get { .. } | Query::Exists { .. } | Query::Ttl { .. } => DatabaseVerb::Get,
        Query::Delete { .. } => DatabaseVerb::Delete,
        Query::Keys { .. } | Query::Count { .. } | Query::GetAll { .. } => DatabaseVerb::GetAll,
        Query::DatabaseList => DatabaseVerb::List,
        Query::DatabasePop { .. } => DatabaseVerb::Pop,
        Query::DatabasePopAll => DatabaseVerb::PopAll,
        Query::DatabaseRename { .. } => DatabaseVerb::Rename,
        Query::DatabaseDelete { .. } => DatabaseVerb::Drop,
        Query::DatabaseDeleteAll => DatabaseVerb::DropAll,
    }
}

fn of_query(query: Query, value_bytes_max: u64) -> Result<Ask, Problem> {
    let entry = |database: String, key: String, what| {
        Ask::Entry(Entry { database: database.into(), key: key.into(), what })
    };
    Ok(match query {
        Query::Set { database, key, value, encryption_key, compress } => {
            let value = closed(quoted(&value), &key, encryption_key.as_ref(), compress, value_bytes_max)?;
            entry(database, key, What::Set(value, SET))
        }
        Query::Get { database, key, encryption_key } => entry(database, key, What::Get(encryption_key)),
        Query::Delete { database, key } => entry(database, key, What::Delete),
        Query::Exists { database, key } => entry(database, key, What::Exists),
        Query::Add { database, key, step } => entry(database, key, What::Add(step)),
        Query::Ttl { database, key } => entry(database, key, What::Ttl),
        Query::Expire { database, key, seconds } => entry(database, key, What::Expire(seconds)),
        Query::Persist { database, key } => entry(database, key, What::Persist),
        Query::Keys { database, prefix } => Ask::Keys { database: database.into(), prefix },
        Query::Count { database } => Ask::Count { database: database.into() },
        Query::GetAll { database, encryption_key } => Ask::All { database: database.into(), encryption_key },
        Query::DatabaseList => Ask::List,
        Query::DatabasePop { database } => Ask::Change(DatabaseOrder::Empty(database.into()), POPPED),
        Query::DatabaseDelete { database } => Ask::Change(DatabaseOrder::Drop(database.into()), DROPPED),
        Query::DatabaseRename { database, new_name } => {
            Ask::Change(DatabaseOrder::Rename(database.into(), new_name.into()), RENAMED)
        }
        Query::DatabasePopAll => Ask::Change(DatabaseOrder::EmptyAll, ALL_POPPED),
        Query::DatabaseDeleteAll => Ask::Change(DatabaseOrder::DropAll, ALL_DROPPED),
    })
}
