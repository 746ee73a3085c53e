//! `/item` and `/list`: LightKV's items and lists, in its envelope.
//!
//! An app is a number, and its items and lists are two namespaces. An app's token says which app it is
//! for; a JWT or API key is for the app `default`, or the one that `X-App` names, which the ledger has to
//! be asked for. What takes one key of the query, or a short body with a plain key, goes the way of every
//! key, without detours (`item`); everything else is an [`order::Order`], in pieces of a
//! [`Gather`](super::Gather).

mod body;
pub(super) mod item;
pub(super) mod order;
pub(super) mod rows;

use crate::auth::{Grants, Scope};
use crate::http::{Field, Request, Span, target};
use crate::limits::KEY_BYTES_MAX;
use crate::op::Namespace;

use super::message::Problem;
use super::routes::Body;
use super::{Api, Call, GatherCall, KeyCall, Task, Verb, json};

/// What is done with an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemVerb {
    /// `GET /item/read`
    Read,
    /// `POST /item/write`
    Write,
    /// `DELETE /item/delete`
    Delete,
    /// `GET /item/exists`
    Exists,
}

/// What is done with a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListVerb {
    /// `POST /list/write`
    Write,
    /// `GET /list/read`
    Read,
    /// `POST /list/add`
    Add,
    /// `POST /list/remove`
    Remove,
    /// `POST /list/purge`
    Purge,
    /// `GET /list/exists`
    Exists,
    /// `GET /list/index`
    Index,
    /// `GET /list/count`
    Count,
    /// `GET /list/slice`
    Slice,
}

/// What the light family does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LightVerb {
    /// Something with an item.
    Item(ItemVerb),
    /// `GET /item/keys`
    ItemKeys,
    /// Something with a list.
    List(ListVerb),
    /// `GET /list/keys`
    ListKeys,
}

/// The app a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum App {
    /// The one with this number.
    Known(u32),
    /// The one that `X-App` names.
    Named,
}

/// The number of the app `default`.
const DEFAULT: u32 = Namespace::KV.0 + 1;

impl Api {
    /// Admits a request whose credential is good for it.
    pub(super) fn admit_light(
        &self,
        request: &Request,
        head: &mut [u8],
        verb: LightVerb,
        (grants, scope): (Grants, Option<&Scope>),
        body: Body,
    ) -> Result<Call, Problem> {
        let app = app(request, head, scope)?;
        match (verb, app) {
            (LightVerb::Item(item), App::Known(number)) if item != ItemVerb::Write => {
                let key = key_of_query(request, head)?;
                let namespace = Namespace::items(number);
                let hash = self.hasher.hash(namespace, key.of(head));
                let verb = Verb::Item(item);
                let item = item::EntryText::NONE;
                Ok(Call::Key(KeyCall { namespace, key, hash, verb, grants, down: false, item }))
            }
            (verb, app) => Ok(Call::Gather(GatherCall {
                grants,
                body_bytes_max: self.body_bytes_max(body),
                task: Task::Light(verb, app),
                body,
                is_scoped: false,
                trusted_uid: None,
            })),
        }
    }
}

/// Which app a request is for.
fn app(request: &Request, head: &[u8], scope: Option<&Scope>) -> Result<App, Problem> {
    match scope {
        Some(scope) if !scope.prefix.is_empty() => Err(Problem::OutOfScope),
        Some(Scope { namespace: Some(Namespace::KV), .. }) => Err(Problem::OutOfScope),
        Some(Scope { namespace: Some(Namespace(number)), .. }) => Ok(App::Known(*number)),
        _ => Ok(match request.field(head, Field::XApp) {
            Some(name) if !name.is_empty() => App::Named,
            _ => App::Known(DEFAULT),
        }),
    }
}

/// The parameter `key` of the query, decoded where it stands.
fn key_of_query(request: &Request, head: &mut [u8]) -> Result<Span, Problem> {
    let query = request.query.ok_or(Problem::ParameterMissing("key"))?;
    let mut found: Option<Span> = None;
    let mut at = 0;
    while at < query.len() {
        let pair = &query.of(head)[at..];
        let length = memchr::memchr(b'&', pair).unwrap_or(pair.len());
        let name_length = memchr::memchr(b'=', &pair[..length]).unwrap_or(length);
        let name = &pair[..name_length];
        // Decoding a name allocates, so the usual one is compared first.
        let is_key = name == b"key" || memchr::memchr(b'%', name).is_some() && decoded(name)? == b"key";
        if is_key {
            let skip = (name_length + 1).min(length);
            if found.replace(query.part(at + skip, length - skip)).is_some() {
                return Err(Problem::QueryInvalid("a parameter stands twice"));
            }
        }
        at += length + 1;
    }
    let raw = found.ok_or(Problem::ParameterMissing("key"))?;
    let bytes = &mut head[raw.range()];
    bytes.iter_mut().filter(|byte| **byte == b'+').for_each(|byte| *byte = b' ');
    let length =
        target::decode_in_place(bytes).map_err(|_| Problem::QueryInvalid("an escape is malformed"))?;
    let key = raw.part(0, length);
    check_key(key.of(head))?;
    Ok(key)
}

fn decoded(name: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut name = name.to_vec();
    let length =
        target::decode_in_place(&mut name).map_err(|_| Problem::QueryInvalid("an escape is malformed"))?;
    name.truncate(length);
    Ok(name)
}

/// Keys of this family are text.
fn check_key(key: &[u8]) -> Result<(), Problem> {
    match key.len() {
        1..=KEY_BYTES_MAX if std::str::from_utf8(key).is_ok() => Ok(()),
        1..=KEY_BYTES_MAX => Err(Problem::ParameterInvalid("key is UTF-8")),
        _ => Err(Problem::ParameterInvalid("key is 1 to 1024 bytes")),
    }
}

/// Begins a success.
fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"ok\":true,\"data\":");
}

/// The body that tells that there is no such item or list.
#[cold]
fn absent(kind: &str, key: &[u8]) -> Vec<u8> {
    let mut body = b"{\"ok\":false,\"error\":{\"code\":\"NOT_FOUND\",\"message\":".to_vec();
    json::write_text(&mut body, &format!("{kind} '{}' not found", String::from_utf8_lossy(key)));
    body.extend_from_slice(b"}}");
    body
}
