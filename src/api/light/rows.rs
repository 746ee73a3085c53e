//! The rows of the route table for `/item` and `/list`.

use crate::auth::{Forms, Grants};
use crate::http::Method;

use super::super::routes::{Access, Body, Doc, Endpoint, Family, Need, Path, Reach, Route};
use super::{ItemVerb, LightVerb, ListVerb};

const fn row(
    path: &'static str,
    method: Method,
    grant: Grants,
    body: Body,
    verb: LightVerb,
    doc: &'static Doc,
) -> Route {
    Route {
        path: Path::Exact(path),
        method: Some(method),
        family: Family::Light,
        access: Access::Holders { forms: FORMS, need: Need::Grant(grant), reach: Reach::Scoped },
        body,
        endpoint: Endpoint::Light(verb),
        doc,
    }
}

/// An app's tokens, and what is not an app's with the same grants.
const FORMS: Forms = Forms::BEARER.union(Forms::APP_TOKEN);

const fn get(path: &'static str, verb: LightVerb, doc: &'static Doc) -> Route {
    row(path, Method::Get, Grants::LIGHT_READ, Body::Ignored, verb, doc)
}

const fn post(path: &'static str, verb: LightVerb, doc: &'static Doc) -> Route {
    row(path, Method::Post, Grants::LIGHT_WRITE, Body::Request, verb, doc)
}

const KEY: (&str, &str) = ("key", "1 to 1024 bytes of UTF-8");
const PREFIX: (&str, &str) = ("prefix", "Only keys that begin like this");
const LIMIT: (&str, &str) = ("limit", "Keys on a page, 1 to 1000, 1000 if not said");
const CURSOR: (&str, &str) = ("cursor", "The `X-Next-Cursor` of the page before");

const BAD_BODY: (u16, &str) = (400, "The body cannot be read");
const BAD_QUERY: (u16, &str) = (400, "The query cannot be read");
const NO_KEY: (u16, &str) = (404, "No such key");
const NO_LIST: (u16, &str) = (404, "No such list");
const FULL: (u16, &str) = (507, "The store is full and may not evict");

/// The rows.
pub const ROWS: [Route; 15] = [
    get(
        "/item/read",
        LightVerb::Item(ItemVerb::Read),
        &Doc {
            name: "readItem",
            summary: "Read an item",
            query: &[KEY],
            body: "",
            answers: &[(200, "Key and value"), BAD_QUERY, NO_KEY],
        },
    ),
    post(
        "/item/write",
        LightVerb::Item(ItemVerb::Write),
        &Doc {
            name: "writeItem",
            summary: "Create or overwrite an item",
            query: &[],
            body: "`{\"key\", \"value\": a JSON primitive, \"ttl\"?: seconds}`, whatever its type says",
            answers: &[(200, "Key and value"), BAD_BODY, FULL],
        },
    ),
    row(
        "/item/delete",
        Method::Delete,
        Grants::LIGHT_WRITE,
        Body::Ignored,
        LightVerb::Item(ItemVerb::Delete),
        &Doc {
            name: "deleteItem",
            summary: "Delete an item",
            query: &[KEY],
            body: "",
            answers: &[(200, "It is gone"), BAD_QUERY, NO_KEY],
        },
    ),
    get(
        "/item/exists",
        LightVerb::Item(ItemVerb::Exists),
        &Doc {
            name: "itemExists",
            summary: "Whether there is an item",
            query: &[KEY],
            body: "",
            answers: &[(200, "true or false"), BAD_QUERY],
        },
    ),
    get(
        "/item/keys",
        LightVerb::ItemKeys,
        &Doc {
            name: "itemKeys",
            summary: "Keys of items in byte order; `X-Next-Cursor` and `Link` lead to the next page",
            query: &[PREFIX, LIMIT, CURSOR],
            body: "",
            answers: &[(200, "A page of keys"), BAD_QUERY],
        },
    ),
    post(
        "/list/write",
        LightVerb::List(ListVerb::Write),
        &Doc {
            name: "writeList",
            summary: "Create or overwrite a list; of equal values the first stays",
            query: &[],
            body: "`{\"key\", \"values\": [JSON primitives], \"ttl\"?: seconds}`, whatever its type says",
            answers: &[(200, "Key and number of values"), BAD_BODY, FULL],
        },
    ),
    get(
        "/list/read",
        LightVerb::List(ListVerb::Read),
        &Doc {
            name: "readList",
            summary: "Read all values of a list",
            query: &[KEY],
            body: "",
            answers: &[(200, "The values"), BAD_QUERY, NO_LIST],
        },
    ),
    post(
        "/list/add",
        LightVerb::List(ListVerb::Add),
        &Doc {
            name: "addToList",
            summary: "Append those values that the list does not have; make it if there is none",
            query: &[],
            body: "`{\"key\", \"values\": [JSON primitives]}`, whatever its type says",
            answers: &[(200, "How many were added, and how many there are"), BAD_BODY, FULL],
        },
    ),
    post(
        "/list/remove",
        LightVerb::List(ListVerb::Remove),
        &Doc {
            name: "removeFromList",
            summary: "Remove values from a list",
            query: &[],
            body: "`{\"key\", \"values\": [JSON primitives]}`, whatever its type says",
            answers: &[(200, "How many were removed, and how many there are"), BAD_BODY, NO_LIST],
        },
    ),
    post(
        "/list/purge",
        LightVerb::List(ListVerb::Purge),
        &Doc {
            name: "purgeList",
            summary: "Delete a list",
            query: &[],
            body: "`{\"key\"}`, whatever its type says",
            answers: &[(200, "It is gone"), BAD_BODY, NO_LIST],
        },
    ),
    get(
        "/list/exists",
        LightVerb::List(ListVerb::Exists),
        &Doc {
            name: "listExists",
            summary: "Whether there is a list, or a value in it",
            query: &[KEY, ("value", "A string, or else JSON")],
            body: "",
            answers: &[(200, "true or false"), BAD_QUERY],
        },
    ),
    get(
        "/list/index",
        LightVerb::List(ListVerb::Index),
        &Doc {
            name: "indexInList",
            summary: "How many values are before one",
            query: &[KEY, ("value", "A string, or else JSON")],
            body: "",
            answers: &[(200, "The index, -1 for a value that is not there"), BAD_QUERY, NO_LIST],
        },
    ),
    get(
        "/list/count",
        LightVerb::List(ListVerb::Count),
        &Doc {
            name: "countList",
            summary: "How many values a list has",
            query: &[KEY],
            body: "",
            answers: &[(200, "The number"), BAD_QUERY, NO_LIST],
        },
    ),
    get(
        "/list/slice",
        LightVerb::List(ListVerb::Slice),
        &Doc {
            name: "sliceList",
            summary: "Read a part of a list",
            query: &[
                KEY,
                ("start", "Index of the first value, from the end when negative, 0 if not said"),
                ("end", "Index of the last value, from the end when negative, -1 if not said"),
            ],
            body: "",
            answers: &[(200, "The values"), BAD_QUERY, NO_LIST],
        },
    ),
    get(
        "/list/keys",
        LightVerb::ListKeys,
        &Doc {
            name: "listKeysOfLists",
            summary: "Keys of lists in byte order; `X-Next-Cursor` and `Link` lead to the next page",
            query: &[PREFIX, LIMIT, CURSOR],
            body: "",
            answers: &[(200, "A page of keys"), BAD_QUERY],
        },
    ),
];
