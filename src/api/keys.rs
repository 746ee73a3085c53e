//! `/api/keys`: what is asked for and answered, in JSON.

use std::borrow::Cow;

use zeroize::Zeroizing;

use crate::auth::{Grants, Id, KeyView, Kind, NewKey, Page, Scope, Status as KeyStatus};
use crate::http::Status;
use crate::limits::{KEY_BYTES_MAX, TTL_SECONDS_MAX};
use crate::op::Namespace;

use super::administer::{Answer, form, name};
use super::json::{self, Object, Value};
use super::message::{self, Problem};
use super::routes::Path;
use super::timestamp;

/// Names of the namespaces that a key can be limited to.
const NAMESPACES: [(&str, Namespace); 1] = [("kv", Namespace::KV)];

const WARNING: &str =
    "This key never expires. Give it an expiry if you can, and delete it when it is not needed.";

/// The id in the path.
pub(super) fn id(path: &[u8]) -> Result<Id, Problem> {
    Path::Id("/api/keys/", "").id(path).and_then(Id::parse).ok_or(Problem::ApiKeyUnknown)
}

/// Reads what a key is to be.
pub(super) fn new_key(body: &[u8], wall_seconds: u64) -> Result<NewKey, Problem> {
    let object = form(body, &["name", "grants", "expires_in", "expires_at", "prefix", "namespace"])?;
    Ok(NewKey {
        name: name(&object)?,
        grants: grants(&object)?,
        ends: ends(&object, wall_seconds)?,
        scope: scope(&object)?,
    })
}

/// Reads the new name of a key. Nothing else of it can change.
pub(super) fn new_name(body: &[u8]) -> Result<Box<str>, Problem> {
    name(&form(body, &["name"])?)
}

fn grants(object: &Object<'_>) -> Result<Grants, Problem> {
    let names = match object.texts("grants") {
        None => return Err(Problem::MemberMissing("grants")),
        Some(names) => names.ok_or(Problem::MemberInvalid("grants is an array of names"))?,
    };
    let mut grants = Grants::NONE;
    for name in names {
        let grant = Grants::from_name(name.as_bytes()).ok_or_else(|| Problem::grant_unknown(&name))?;
        grants = grants.union(grant);
    }
    if grants.is_empty() {
        Err(Problem::MemberInvalid("a key without any grant is of no use"))
    } else {
        Ok(grants)
    }
}

fn ends(object: &Object<'_>, wall_seconds: u64) -> Result<Option<u64>, Problem> {
    let given = |name| object.member(name).filter(|value| *value != Value::Null);
    let ends = match (given("expires_in"), given("expires_at")) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(Problem::MemberInvalid("a key has either expires_in or expires_at"));
        }
        (Some(Value::Number(seconds)), None) => {
            let seconds = seconds.parse().ok().filter(|seconds| (1..=TTL_SECONDS_MAX).contains(seconds));
            wall_seconds.saturating_add(
                seconds.ok_or(Problem::MemberInvalid("expires_in is an integer from 1 to 4294967295"))?,
            )
        }
        (None, Some(Value::Text(time))) => {
            timestamp::read(&time).ok_or(Problem::MemberInvalid("expires_at is a time as in RFC 3339"))?
        }
        _ => return Err(Problem::MemberInvalid("expires_in is a number, expires_at a string")),
    };
    if ends > wall_seconds { Ok(Some(ends)) } else { Err(Problem::MemberInvalid("expires_at has passed")) }
}

fn scope(object: &Object<'_>) -> Result<Option<Scope>, Problem> {
    let text = |name| match object.member(name) {
        None | Some(Value::Null) => Ok(Cow::Borrowed("")),
        Some(Value::Text(text)) => Ok(text),
        Some(_) => Err(Problem::MemberInvalid("prefix and namespace are strings")),
    };
    let (prefix, namespace) = (text("prefix")?, text("namespace")?);
    if prefix.len() > KEY_BYTES_MAX {
        return Err(Problem::MemberInvalid("the prefix is longer than a key may be"));
    }
    let namespace = match &*namespace {
        "" => None,
        name => Some(
            namespace_of(name).ok_or(Problem::MemberInvalid("there is no such namespace; `kv` is one"))?,
        ),
    };
    let scope = Scope { namespace, prefix: prefix.as_bytes().into() };
    Ok(Some(scope).filter(|scope| *scope != Scope::default()))
}

fn namespace_of(name: &str) -> Option<Namespace> {
    NAMESPACES.iter().find(|(own, _)| *own == name).map(|(_, namespace)| *namespace)
}

/// Shows a new key, with its token.
pub(super) fn created(view: &KeyView<'_>, token: &str) -> Answer {
    let mut members = b"{".to_vec();
    write_members(&mut members, view);
    // Large enough that it need not grow and leave the token behind where it was.
    let mut body = Zeroizing::new(Vec::with_capacity(members.len() + token.len() + 2 * WARNING.len()));
    body.append(&mut members);
    member(&mut body, "key", token);
    if view.ends.is_none() {
        member(&mut body, "warning", WARNING);
    }
    body.push(b'}');
    let fields = format!("Location: /api/keys/{}\r\n", view.id).into_bytes();
    Answer { status: Status::Created, fields, body }
}

/// Shows a key.
pub(super) fn shown(view: &KeyView<'_>) -> Answer {
    let mut body = Vec::new();
    write(&mut body, view);
    Answer { status: Status::Ok, fields: Vec::new(), body: Zeroizing::new(body) }
}

/// Shows a page of keys.
pub(super) fn listed(page: &Page<KeyView<'_>>) -> Answer {
    let mut body = b"{\"keys\":[".to_vec();
    for (at, view) in page.items.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        write(&mut body, view);
    }
    body.extend_from_slice(b"],\"cursor\":");
    match page.next {
        Some(next) => {
            json::write_text(&mut body, &next.to_string());
            body.extend_from_slice(b",\"complete\":false}");
        }
        None => body.extend_from_slice(b"null,\"complete\":true}"),
    }
    Answer { status: Status::Ok, fields: Vec::new(), body: Zeroizing::new(body) }
}

/// Says that a key has ended.
pub(super) fn deleted() -> Answer {
    let body = Zeroizing::new(message::API_KEY_DELETED.to_vec());
    Answer { status: Status::Ok, fields: Vec::new(), body }
}

fn write(out: &mut Vec<u8>, view: &KeyView<'_>) {
    out.push(b'{');
    write_members(out, view);
    out.extend_from_slice(b",\"last_used_at\":");
    write_time(out, view.last_used);
    let status = match view.status {
        KeyStatus::Active => "active",
        KeyStatus::Expired => "expired",
        KeyStatus::Revoked => "revoked",
    };
    member(out, "status", status);
    out.push(b'}');
}

fn write_members(out: &mut Vec<u8>, view: &KeyView<'_>) {
    out.extend_from_slice(b"\"id\":");
    json::write_text(out, &view.id.to_string());
    member(out, "name", view.name);
    // Nothing of the secret.
    member(out, "hint", &format!("{}{}…", Kind::ApiKey.prefix(), view.id));
    out.extend_from_slice(b",\"grants\":[");
    for (at, grant) in view.grants.names().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        json::write_text(out, grant);
    }
    out.extend_from_slice(b"],\"prefix\":");
    write_optional(out, view.scope.map(|scope| String::from_utf8_lossy(&scope.prefix)).as_deref());
    out.extend_from_slice(b",\"namespace\":");
    let namespace = view.scope.and_then(|scope| scope.namespace);
    write_optional(out, NAMESPACES.iter().find(|(_, own)| Some(*own) == namespace).map(|(name, _)| *name));
    member(out, "owner", view.owner);
    out.extend_from_slice(b",\"created_at\":");
    write_time(out, Some(view.created));
    out.extend_from_slice(b",\"expires_at\":");
    write_time(out, view.ends);
}

fn member(out: &mut Vec<u8>, name: &str, text: &str) {
    out.push(b',');
    json::write_text(out, name);
    out.push(b':');
    json::write_text(out, text);
}

fn write_optional(out: &mut Vec<u8>, text: Option<&str>) {
    match text.filter(|text| !text.is_empty()) {
        Some(text) => json::write_text(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

fn write_time(out: &mut Vec<u8>, unix_seconds: Option<u64>) {
    match unix_seconds {
        Some(seconds) => timestamp::write(out, seconds),
        None => out.extend_from_slice(b"null"),
    }
}
