//! The rows of the route table: everything that the node serves, and who may.

use crate::auth::{Forms, Grants};
use crate::http::Method;

use super::routes::{Access, Body, Doc, Duty, Endpoint, Family, Need, Path, Reach, Route, Verb};
use super::{databases, light};

/// Holders of a grant, as a JWT or an API key, who are kept to the keys they are limited to.
const fn scoped(grant: Grants) -> Access {
    Access::Holders { forms: Forms::BEARER, need: Need::Grant(grant), reach: Reach::Scoped }
}

/// Holders of any of these grants; the body decides which one it takes.
const fn scoped_any(grants: Grants) -> Access {
    Access::Holders { forms: Forms::BEARER, need: Need::AnyOf(grants), reach: Reach::Scoped }
}

/// Holders of a grant whose credential is not limited to some keys.
const fn whole_node(grant: Grants) -> Access {
    Access::Holders { forms: Forms::BEARER, need: Need::Grant(grant), reach: Reach::Node }
}

const fn key(method: Method, access: Access, body: Body, verb: Verb, doc: &'static Doc) -> Route {
    let endpoint = Endpoint::Key(verb);
    Route {
        path: Path::Key(KEY_PREFIX),
        method: Some(method),
        family: Family::Kv,
        access,
        body,
        endpoint,
        doc,
    }
}

const fn administer(
    path: Path,
    method: Method,
    (family, access): (Family, Access),
    body: Body,
    duty: Duty,
    doc: &'static Doc,
) -> Route {
    Route { path, method: Some(method), family, access, body, endpoint: Endpoint::Administer(duty), doc }
}

const fn page(path: &'static str, method: Option<Method>, endpoint: Endpoint, doc: &'static Doc) -> Route {
    let (path, family, access, body) = (Path::Exact(path), Family::Node, Access::Open, Body::Ignored);
    Route { path, method, family, access, body, endpoint, doc }
}

const API_KEYS: Path = Path::Exact("/api/keys");
const API_KEY: Path = Path::Id("/api/keys/", "");
const APPS: Path = Path::Exact("/apps");

const READ_KEYS: (Family, Access) = (Family::Keys, scoped(Grants::KEYS_READ));
const WRITE_KEYS: (Family, Access) = (Family::Keys, scoped(Grants::KEYS_WRITE));
const APPS_ADMIN: (Family, Access) = (Family::Light, whole_node(Grants::APPS_ADMIN));

/// A PATCH may lock, or write.
const PATCH: Access = scoped_any(Grants::KV_WRITE.union(Grants::KV_LOCK));

/// A batch may read, write or delete.
const BATCH: Access = scoped_any(Grants::KV_READ.union(Grants::KV_WRITE).union(Grants::KV_DELETE));

/// What the path of a key begins with.
pub const KEY_PREFIX: &str = "/api/kv/";

/// So many rows, the first ones, are those of single keys, and no others are.
pub const KEY_ROWS: usize = 4;

/// Where the rows of items and lists begin.
const LIGHT_AT: usize = NODE_ROWS.len();

/// Where those of databases begin.
const DATABASES_AT: usize = LIGHT_AT + light::rows::ROWS.len();

/// The table.
pub static ROUTES: [Route; NODE_ROWS.len() + light::rows::ROWS.len() + databases::rows::ROWS.len()] = {
    let mut rows = [NODE_ROWS[0]; DATABASES_AT + databases::rows::ROWS.len()];
    let mut at = 0;
    while at < rows.len() {
        rows[at] = match at {
            DATABASES_AT.. => databases::rows::ROWS[at - DATABASES_AT],
            LIGHT_AT.. => light::rows::ROWS[at - LIGHT_AT],
            at => NODE_ROWS[at],
        };
        at += 1;
    }
    rows
};

/// All but those of items, lists and databases.
const NODE_ROWS: [Route; 23] = [
    key(
        Method::Get,
        scoped(Grants::KV_READ),
        Body::Ignored,
        Verb::Get,
        &Doc {
            name: "getKey",
            summary: "Read a value, as the bytes and the type it was stored with",
            query: &[],
            body: "",
            answers: &[
                (200, "The value"),
                (206, "The part of it that was asked for"),
                (304, "It is the one that the client has"),
                (404, "No such key"),
                (406, "It is stored in a coding that is not accepted and cannot be decoded"),
                (416, "The range lies outside the value"),
            ],
        },
    ),
    key(
        Method::Put,
        scoped(Grants::KV_WRITE),
        Body::Value,
        Verb::Put,
        &Doc {
            name: "putKey",
            summary: "Create or replace a value",
            query: &[
                ("ttl", "Seconds until it expires, from 1 to 4294967295"),
                ("if", "`exists` only updates: an absent key is 404"),
            ],
            body: "The value",
            answers: &[
                (200, "Updated"),
                (201, "Created"),
                (400, "The request contradicts itself"),
                (404, "`if=exists`, and there is none"),
                (409, "The key is locked"),
                (412, "A condition does not hold"),
                (415, "The content coding cannot be stored"),
                (507, "The store is full and may not evict"),
            ],
        },
    ),
    key(
        Method::Delete,
        scoped(Grants::KV_DELETE),
        Body::Ignored,
        Verb::Delete,
        &Doc {
            name: "deleteKey",
            summary: "Remove a key and its value",
            query: &[],
            body: "",
            answers: &[
                (200, "Removed"),
                (404, "No such key"),
                (409, "The key is locked"),
                (412, "A condition does not hold"),
            ],
        },
    ),
    key(
        Method::Patch,
        PATCH,
        Body::Words,
        Verb::Patch,
        &Doc {
            name: "patchKey",
            summary: "Lock, unlock, count, or set or cancel the time-to-live",
            query: &[],
            body: "`{\"operation\": \"lock|unlock|increment|decrement|ttl|persist\", \"value\": …}`",
            answers: &[
                (200, "Done"),
                (400, "No such operation, or not on this value"),
                (404, "No such key"),
                (409, "The key is locked, or is not"),
                (412, "A condition does not hold"),
            ],
        },
    ),
    Route {
        path: Path::Exact("/api/kv/batch"),
        method: Some(Method::Post),
        family: Family::Kv,
        access: BATCH,
        body: Body::Request,
        endpoint: Endpoint::Batch,
        doc: &Doc {
            name: "batch",
            summary: "Do up to 1,000 operations, each with a result of its own",
            query: &[],
            body: "An array of `{\"op\": \"get|put|delete|increment|ttl\", \"key\": …}`",
            answers: &[(200, "The results, in order"), (400, "The array cannot be read")],
        },
    },
    Route {
        path: Path::Exact("/api/kv"),
        method: Some(Method::Get),
        family: Family::Kv,
        access: scoped(Grants::KV_LIST),
        body: Body::Ignored,
        endpoint: Endpoint::List,
        doc: &Doc {
            name: "listKeys",
            summary: "List keys in byte order, a page at a time",
            query: &[
                ("prefix", "Only keys that begin like this"),
                ("limit", "Keys on a page, 1 to 1000, 100 if not said"),
                ("cursor", "The `cursor` of the page before"),
            ],
            body: "",
            answers: &[(200, "A page of keys"), (400, "The query cannot be read")],
        },
    },
    administer(
        API_KEYS,
        Method::Post,
        WRITE_KEYS,
        Body::Form,
        Duty::CreateKey,
        &Doc {
            name: "createApiKey",
            summary: "Make an API key; its secret is shown this once",
            query: &[],
            body: "`{\"name\", \"grants\": […], \"expires_in\": seconds | \"expires_at\": RFC 3339, \"prefix\"?, \"namespace\"?}`",
            answers: &[
                (201, "The key with its secret"),
                (400, "The body cannot be read, or the key would have expired"),
                (507, "There is no room for another"),
            ],
        },
    ),
    administer(
        API_KEYS,
        Method::Get,
        READ_KEYS,
        Body::Ignored,
        Duty::ListKeys,
        &Doc {
            name: "listApiKeys",
            summary: "List API keys, the oldest first, without their secrets",
            query: &[
                ("limit", "Keys on a page, 1 to 1000, 1000 if not said"),
                ("cursor", "The `cursor` of the page before"),
            ],
            body: "",
            answers: &[(200, "A page of keys"), (400, "The query cannot be read")],
        },
    ),
    administer(
        API_KEY,
        Method::Get,
        READ_KEYS,
        Body::Ignored,
        Duty::ShowKey,
        &Doc {
            name: "getApiKey",
            summary: "Show an API key without its secret",
            query: &[],
            body: "",
            answers: &[(200, "The key"), (404, "No such key")],
        },
    ),
    administer(
        API_KEY,
        Method::Patch,
        WRITE_KEYS,
        Body::Form,
        Duty::RenameKey,
        &Doc {
            name: "renameApiKey",
            summary: "Give an API key another name; nothing else of it can change",
            query: &[],
            body: "`{\"name\"}`",
            answers: &[(200, "The key"), (400, "The body has anything but a name"), (404, "No such key")],
        },
    ),
    administer(
        API_KEY,
        Method::Delete,
        WRITE_KEYS,
        Body::Ignored,
        Duty::DeleteKey,
        &Doc {
            name: "deleteApiKey",
            summary: "End an API key, and those it made, on every connection before this is answered",
            query: &[],
            body: "",
            answers: &[(200, "It is good no more"), (404, "No such key")],
        },
    ),
    administer(
        APPS,
        Method::Post,
        APPS_ADMIN,
        Body::Form,
        Duty::CreateApp,
        &Doc {
            name: "createApp",
            summary: "Make an app; its tokens are shown this once",
            query: &[],
            body: "`{\"name\"}`",
            answers: &[
                (201, "The app with its tokens"),
                (400, "The body cannot be read"),
                (409, "Another app has the name"),
                (507, "There is no room for another"),
            ],
        },
    ),
    administer(
        APPS,
        Method::Get,
        APPS_ADMIN,
        Body::Ignored,
        Duty::ListApps,
        &Doc {
            name: "listApps",
            summary: "List apps, the oldest first; `X-Next-Cursor` and `Link` lead to the next page",
            query: &[
                ("limit", "Apps on a page, 1 to 1000, 1000 if not said"),
                ("cursor", "The `X-Next-Cursor` of the page before"),
            ],
            body: "",
            answers: &[(200, "A page of apps"), (400, "The query cannot be read")],
        },
    ),
    administer(
        Path::Id("/apps/", "/rotate"),
        Method::Post,
        APPS_ADMIN,
        Body::Form,
        Duty::RotateApp,
        &Doc {
            name: "rotateApp",
            summary: "Give an app new tokens; those before stay good for a grace",
            query: &[],
            body: "`{\"token\": \"read|readwrite|both\", \"grace\": seconds}`",
            answers: &[
                (200, "The new tokens"),
                (400, "The body cannot be read"),
                (404, "No such app"),
                (507, "There is no room for another"),
            ],
        },
    ),
    administer(
        Path::Id("/apps/", ""),
        Method::Delete,
        APPS_ADMIN,
        Body::Ignored,
        Duty::DeleteApp,
        &Doc {
            name: "deleteApp",
            summary: "Remove an app with its tokens and all that it holds",
            query: &[],
            body: "",
            answers: &[(200, "It is gone"), (404, "No such app"), (409, "The default app stays")],
        },
    ),
    Route {
        path: Path::Exact("/api/dump"),
        method: Some(Method::Get),
        family: Family::Node,
        access: whole_node(Grants::ADMIN),
        body: Body::Ignored,
        endpoint: Endpoint::Dump,
        doc: &Doc {
            name: "dump",
            summary: "Everything that the node holds but credentials, a JSON object a line, while it serves",
            query: &[("prefix", "Only keys of `/api/kv` that begin like this")],
            body: "",
            answers: &[(200, "The lines; the last one counts them"), (400, "The query cannot be read")],
        },
    },
    Route {
        path: Path::Exact("/api/restore"),
        method: Some(Method::Post),
        family: Family::Node,
        access: whole_node(Grants::ADMIN),
        body: Body::Lines,
        endpoint: Endpoint::Restore,
        doc: &Doc {
            name: "restore",
            summary: "Write what lines of a dump tell of; all of them are read before the first is written",
            query: &[
                ("prefix", "Put this in front of every key"),
                ("existing", "`overwrite`, or `skip` what is there"),
                ("line", "The number of the first line, for messages; 1 if not said"),
                ("entry", "The line of one entry without its value, which then is the body"),
            ],
            body: "Lines of a dump, or the value of `entry`",
            answers: &[
                (200, "How many were restored, skipped, and left out because they have expired"),
                (400, "A line cannot be read; nothing was written"),
                (507, "The store is full and may not evict; what is before the line was written"),
            ],
        },
    },
    page(
        "/health",
        None,
        Endpoint::Health,
        &Doc {
            name: "health",
            summary: "Whether the process answers, to any method",
            query: &[],
            body: "",
            answers: &[(200, "It does")],
        },
    ),
    page(
        "/livez",
        Some(Method::Get),
        Endpoint::Live,
        &Doc {
            name: "live",
            summary: "Whether the loop turns",
            query: &[],
            body: "",
            answers: &[(200, "It does")],
        },
    ),
    page(
        "/readyz",
        Some(Method::Get),
        Endpoint::Ready,
        &Doc {
            name: "ready",
            summary: "Whether the node takes requests",
            query: &[],
            body: "",
            answers: &[(200, "It does"), (503, "It is starting or stopping")],
        },
    ),
    page(
        "/openapi.yaml",
        Some(Method::Get),
        Endpoint::OpenApi,
        &Doc {
            name: "openApi",
            summary: "This document",
            query: &[],
            body: "",
            answers: &[(200, "OpenAPI 3.1 in YAML")],
        },
    ),
    page(
        "/robots.txt",
        Some(Method::Get),
        Endpoint::Robots,
        &Doc {
            name: "robots",
            summary: "That robots have nothing to find here",
            query: &[],
            body: "",
            answers: &[(200, "The rules for them")],
        },
    ),
    page(
        "/",
        Some(Method::Get),
        Endpoint::Welcome,
        &Doc {
            name: "welcome",
            summary: "A page for people who open the node in a browser",
            query: &[],
            body: "",
            answers: &[(200, "The page")],
        },
    ),
];

// Whoever needs a credential needs a grant, too.
const _: () = {
    let mut at = 0;
    while at < ROUTES.len() {
        assert!(matches!(ROUTES[at].endpoint, Endpoint::Key(_)) == (at < KEY_ROWS));
        if let Access::Holders { forms, need, .. } = ROUTES[at].access {
            assert!(!need.grants().is_empty() && forms.intersects(Forms::BEARER));
        }
        at += 1;
    }
};
