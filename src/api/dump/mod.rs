//! Everything that a node holds as lines of text, and back: `GET /api/dump`, `POST /api/restore`.
//!
//! # The format
//!
//! NDJSON: each line is a JSON object in UTF-8 and ends with a line feed. Version 1 has these lines:
//!
//! | line | what |
//! |---|---|
//! | `{"lucid":"dump","version":1,"created_at":"…","entries":N}` | the first: about so many entries follow |
//! | `{"app":"web"}` | an app of the light family |
//! | `{"database":"notes"}` | a database |
//! | `{"key":"k",…,"value":"text"}` | a key of `/api/kv` |
//! | `{"app":"web","item":"k",…,"json":12.50}` | an item, its value the JSON that was written |
//! | `{"app":"web","list":"k",…,"values":[1,"a"]}` | a list, in its order |
//! | `{"database":"notes","key":"k",…,"value":"text"}` | a key of a database, its value as the node keeps it |
//! | `{"end":{"apps":N,"databases":N,"keys":N,"items":N,"lists":N,"records":N}}` | the last: how many of each there are; records are the keys of databases |
//!
//! Where `…` stands, these may, each left out when there is nothing to say:
//!
//! | member | what |
//! |---|---|
//! | `"type":"text/plain"` | the content type; without it `application/octet-stream` |
//! | `"encoding":"gzip"` | the value is encoded so: `gzip` or `zstd` |
//! | `"expires_at_ms":N` | when it expires, in milliseconds since the Unix epoch |
//! | `"lock":{"token":"N","until_ms":N}` | its lock: the fencing token, and when it frees itself if it does |
//!
//! Bytes that are not UTF-8 come in base64 (RFC 4648, section 4, with padding) under another name:
//! `key_base64` for `key`, `type_base64` for `type`, `base64` for `value`. So do values that are encoded,
//! and those over 64 KiB whatever they are. A reader takes either for any value.
//!
//! A member that a reader does not know is passed over. What a reader of this version would misread, or
//! must not miss, comes with a higher version, which it refuses; a lower one it reads. Of app names,
//! `default` is there in every node.
//!
//! Credentials are in no dump: neither API keys nor tokens of apps, nor digests of them. An app that a
//! restore makes has tokens that nobody knows; `lucid app rotate` gives it others. Entity tags,
//! `Last-Modified` and versions are the node's own and not in it either.
//!
//! # What is in a dump
//!
//! Nobody waits for it: each shard is gone through in slices ([`export`]), table by table, and lines
//! leave as the client reads them. Every entry that is there from the beginning of the dump to its end is in
//! it exactly once, as it was at one moment between the two; what was answered before the dump began and
//! was not changed since is in it as it was answered. What is written, removed or expires meanwhile is in it
//! as it was before, as it is after, or, if it was not there at one of the two, not at all. An entry is never
//! half of one state and half of another, a list neither. An app or database that is made meanwhile is not in
//! it, nor is what a database holds that is emptied meanwhile.
//!
//! # What a restore does
//!
//! The body of `POST /api/restore` is lines as above, a whole dump or any part of it, up to
//! `http.request_size_limit`. All of it is read before anything is written: a line that cannot be taken
//! refuses the request by its number. Then the lines are written as any other write is, in their order for
//! each key, over what is there, locks included, or with `?existing=skip` only where nothing is. A line
//! that is past its time is counted and left out. Restoring again what was restored changes nothing but
//! versions. A value whose line would be too long goes by itself: `?entry=` is its line without the value,
//! the body the value's bytes (of an item its JSON, of a list its array).

mod export;
mod line;
mod restore;

pub(super) use export::Dump;
pub use export::{Export, Wrote, go_on, takes_turns};
pub(super) use restore::Restore;

/// The version that is written, and the highest that is read.
pub const VERSION: u64 = 1;

/// How many of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    apps: u64,
    databases: u64,
    keys: u64,
    items: u64,
    lists: u64,
    records: u64,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.apps += other.apps;
        self.keys += other.keys;
        self.items += other.items;
        self.lists += other.lists;
        self.databases += other.databases;
        self.records += other.records;
    }
}
