//! The rows of the route table for `/controller`, `/database` and `/execute`.

use crate::auth::Forms;
use crate::http::Method;

use super::super::routes::{Access, Body, Doc, Endpoint, Family, Need, Path, Reach, Route};
use super::{DatabaseVerb, Level};

/// The password, an API key in its place, and what is taken everywhere.
const FORMS: Forms = Forms::BEARER.union(Forms::BASIC);

const fn row(path: &'static str, method: Method, body: Body, verb: DatabaseVerb, doc: &'static Doc) -> Route {
    let access = Access::Holders { forms: FORMS, need: Need::Grant(verb.grant()), reach: Reach::Node };
    Route {
        path: Path::Exact(path),
        method: Some(method),
        family: Family::Databases,
        access,
        body,
        endpoint: Endpoint::Database(verb),
        doc,
    }
}

const fn post(path: &'static str, verb: DatabaseVerb, doc: &'static Doc) -> Route {
    row(path, Method::Post, Body::Fields, verb, doc)
}

const DONE: (u16, &str) = (200, "A sentence that it is done");
const BAD_BODY: (u16, &str) = (400, "The body cannot be read, or a field is missing");
const NO_DATABASE: (u16, &str) = (404, "No such database");
const FULL: (u16, &str) = (507, "There is no room");
const DATABASE: &str = "`database_name`";

macro_rules! log_row {
    ($path:literal, $level:ident, $name:literal, $what:literal) => {
        post(
            $path,
            DatabaseVerb::Log(Level::$level),
            &Doc {
                name: $name,
                summary: $what,
                query: &[],
                body: "`message`",
                answers: &[DONE, BAD_BODY, FULL],
            },
        )
    };
}

/// The rows.
pub const ROWS: [Route; 16] = [
    post(
        "/controller/get",
        DatabaseVerb::Get,
        &Doc {
            name: "getData",
            summary: "Read the value of a key; null if there is none",
            query: &[],
            body: "`database_name`, `key`, `encryption_key`?",
            answers: &[
                (200, "The value"),
                BAD_BODY,
                (403, "The value is sealed with another key"),
                NO_DATABASE,
            ],
        },
    ),
    post(
        "/controller/set",
        DatabaseVerb::Set,
        &Doc {
            name: "setData",
            summary: "Set the value of a key, in a database that is made if need be",
            query: &[],
            body: "`database_name`, `key`, `value`, `encryption_key`?, `compress`?",
            answers: &[DONE, BAD_BODY, FULL],
        },
    ),
    post(
        "/controller/get_all",
        DatabaseVerb::GetAll,
        &Doc {
            name: "getAll",
            summary: "Read all values of a database; null for those that the key given does not open",
            query: &[],
            body: "`database_name`, `encryption_key`?",
            answers: &[(200, "An object of all keys and values"), BAD_BODY, NO_DATABASE],
        },
    ),
    post(
        "/controller/delete",
        DatabaseVerb::Delete,
        &Doc {
            name: "deleteData",
            summary: "Delete the value of a key, whether there is one or not",
            query: &[],
            body: "`database_name`, `key`",
            answers: &[DONE, BAD_BODY, NO_DATABASE],
        },
    ),
    log_row!("/controller/debug", Debug, "logDebug", "Log a debug message"),
    log_row!("/controller/info", Info, "logInfo", "Log an info message"),
    log_row!("/controller/warning", Warning, "logWarning", "Log a warning message"),
    log_row!("/controller/error", Error, "logError", "Log an error message"),
    log_row!("/controller/exception", Exception, "logException", "Log an exception message"),
    row(
        "/database/list",
        Method::Get,
        Body::Ignored,
        DatabaseVerb::List,
        &Doc {
            name: "listDatabases",
            summary: "List all databases",
            query: &[],
            body: "",
            answers: &[(200, "An object of their names, each with one for files")],
        },
    ),
    post(
        "/database/pop",
        DatabaseVerb::Pop,
        &Doc {
            name: "popDatabase",
            summary: "Delete all values of a database and keep it",
            query: &[],
            body: DATABASE,
            answers: &[DONE, BAD_BODY, NO_DATABASE],
        },
    ),
    row(
        "/database/pop_all",
        Method::Post,
        Body::Ignored,
        DatabaseVerb::PopAll,
        &Doc {
            name: "popAllDatabases",
            summary: "Delete all values of all databases and keep them",
            query: &[],
            body: "",
            answers: &[DONE],
        },
    ),
    post(
        "/database/rename",
        DatabaseVerb::Rename,
        &Doc {
            name: "renameDatabase",
            summary: "Give a database another name",
            query: &[],
            body: "`database_name`, `new_database_name`",
            answers: &[DONE, BAD_BODY, NO_DATABASE, (409, "Another database has the name"), FULL],
        },
    ),
    post(
        "/database/delete",
        DatabaseVerb::Drop,
        &Doc {
            name: "deleteDatabase",
            summary: "Delete a database with all its values",
            query: &[],
            body: DATABASE,
            answers: &[DONE, BAD_BODY, NO_DATABASE],
        },
    ),
    row(
        "/database/delete_all",
        Method::Post,
        Body::Ignored,
        DatabaseVerb::DropAll,
        &Doc {
            name: "deleteAllDatabases",
            summary: "Delete all databases",
            query: &[],
            body: "",
            answers: &[DONE],
        },
    ),
    post(
        "/execute",
        DatabaseVerb::Execute,
        &Doc {
            name: "execute",
            summary: "Run one command, for whoever also holds the grant of what it does",
            query: &[],
            body: "`query`, or the query alone as `text/plain`",
            answers: &[
                (200, "What came of it"),
                (400, "The query cannot be read; the message says at which byte"),
                (403, "The value is sealed with another key"),
                NO_DATABASE,
                (409, "Another database has the name"),
                FULL,
            ],
        },
    ),
];
