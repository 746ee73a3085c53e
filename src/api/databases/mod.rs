//! `/controller`, `/database` and `/execute`: KOT's databases.
//!
//! A database is a name for a number, and the number is a namespace; a value is kept as the JSON text that
//! it is answered as, or sealed or compressed (`seal`). Every reactor knows all names, so what asks for one
//! plain value in a short body goes the way of every key, without detours (`controller`); everything else is
//! an `order::Order`, in pieces of a [`Gather`](super::Gather). `/execute` (`query`) becomes the same
//! orders. Reads of a whole database are sent as they are gathered (`stream`). The set of databases changes
//! on one reactor, which tells the others (`change`).

pub(super) mod ask;
pub(super) mod change;
pub(super) mod controller;
pub(super) mod fields;
pub(super) mod order;
pub mod query;
pub(super) mod rows;
pub(super) mod seal;
pub(super) mod stream;

use crate::auth::Grants;

use super::message::Problem;
use super::routes::Body;
use super::{Api, Call, GatherCall, Task};
use crate::shard::LOGS;

/// How loud a client's log message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `POST /controller/debug`
    Debug,
    /// `POST /controller/info`
    Info,
    /// `POST /controller/warning`
    Warning,
    /// `POST /controller/error`
    Error,
    /// `POST /controller/exception`
    Exception,
}

const _: () = assert!(Level::Exception as usize + 1 == LOGS, "each level has a log");

impl Level {
    /// The database with the messages of this level.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
            Level::Exception => "exception",
        }
    }

    fn of_log(self) -> log::Level {
        match self {
            Level::Debug => log::Level::Debug,
            Level::Info => log::Level::Info,
            Level::Warning => log::Level::Warn,
            Level::Error | Level::Exception => log::Level::Error,
        }
    }
}

/// What the databases family does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseVerb {
    /// `POST /controller/set`
    Set,
    /// `POST /controller/get`
    Get,
    /// `POST /controller/get_all`
    GetAll,
    /// `POST /controller/delete`
    Delete,
    /// `POST /controller/debug` and so on.
    Log(Level),
    /// `GET /database/list`
    List,
    /// `POST /database/pop`
    Pop,
    /// `POST /database/pop_all`
    PopAll,
    /// `POST /database/rename`
    Rename,
    /// `POST /database/delete`
    Drop,
    /// `POST /database/delete_all`
    DropAll,
    /// `POST /execute`
    Execute,
}

impl DatabaseVerb {
    /// Its name among the settings, `databases.restricted`.
    pub const fn name(self) -> &'static str {
        match self {
            DatabaseVerb::Set => "set",
            DatabaseVerb::Get => "get",
            DatabaseVerb::GetAll => "get_all",
            DatabaseVerb::Delete => "controller/delete",
            DatabaseVerb::Log(level) => level.name(),
            DatabaseVerb::List => "list",
            DatabaseVerb::Pop => "pop",
            DatabaseVerb::PopAll => "pop_all",
            DatabaseVerb::Rename => "rename",
            DatabaseVerb::Drop => "database/delete",
            DatabaseVerb::DropAll => "delete_all",
            DatabaseVerb::Execute => "execute",
        }
    }

    /// The grant that it takes.
    pub const fn grant(self) -> Grants {
        match self {
            DatabaseVerb::Set | DatabaseVerb::Delete => Grants::DB_WRITE,
            DatabaseVerb::Get | DatabaseVerb::GetAll | DatabaseVerb::List => Grants::DB_READ,
            DatabaseVerb::Log(_) => Grants::LOG_WRITE,
            DatabaseVerb::Pop
            | DatabaseVerb::PopAll
            | DatabaseVerb::Rename
            | DatabaseVerb::Drop
            | DatabaseVerb::DropAll => Grants::DB_ADMIN,
            DatabaseVerb::Execute => Grants::EXECUTE,
        }
    }
}

impl Api {
    /// Admits a request whose credential is good for it.
    pub(super) fn admit_database(
        &self,
        verb: DatabaseVerb,
        (grants, by_password): (Grants, bool),
        body: Body,
    ) -> Result<Call, Problem> {
        if by_password && self.is_restricted(verb) {
            return Err(Problem::Restricted);
        }
        Ok(Call::Gather(GatherCall {
            grants,
            body_bytes_max: self.body_bytes_max(body),
            task: Task::Database(verb, by_password),
            body,
            is_scoped: false,
            trusted_uid: None,
        }))
    }

    /// Whether the settings keep whoever has the password from it.
    fn is_restricted(&self, verb: DatabaseVerb) -> bool {
        self.restricted.iter().any(|name| &**name == verb.name())
    }
}
