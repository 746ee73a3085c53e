//! `/apps`: what is asked for and answered, in LightKV's envelope.

use zeroize::Zeroizing;

use crate::auth::{AppTokens, AppView, Id, Kind, Page, Which};
use crate::http::Status;
use crate::limits::TTL_SECONDS_MAX;

use super::administer::{Answer, form, name};
use super::json::{self, Value};
use super::message::Problem;
use super::routes::Path;
use super::timestamp;

/// The id in the path.
pub(super) fn id(path: &[u8]) -> Result<Id, Problem> {
    let id = Path::Id("/apps/", "/rotate").id(path).or_else(|| Path::Id("/apps/", "").id(path));
    id.and_then(Id::parse).ok_or(Problem::AppUnknown)
}

/// Reads the name of a new app.
pub(super) fn new_name(body: &[u8]) -> Result<Box<str>, Problem> {
    name(&form(body, &["name"])?)
}

/// Reads which tokens are to be new, and for how many seconds those before stay good.
pub(super) fn rotation(body: &[u8]) -> Result<(Which, u64), Problem> {
    let object = form(body, &["token", "grace"])?;
    let which = match object.member("token") {
        None | Some(Value::Null) => return Err(Problem::MemberMissing("token")),
        Some(Value::Text(token)) => match &*token {
            "read" => Some(Which::Read),
            "readwrite" => Some(Which::ReadWrite),
            "both" => Some(Which::Both),
            _ => None,
        },
        Some(_) => None,
    };
    let which = which.ok_or(Problem::MemberInvalid("token is read, readwrite or both"))?;
    let grace_seconds = match object.member("grace") {
        None | Some(Value::Null) => Some(0),
        Some(Value::Number(seconds)) => seconds.parse().ok().filter(|seconds| *seconds <= TTL_SECONDS_MAX),
        Some(_) => None,
    };
    let bound = Problem::MemberInvalid("grace is an integer from 0 to 4294967295");
    Ok((which, grace_seconds.ok_or(bound)?))
}

/// Shows an app with its new tokens.
pub(super) fn told(status: Status, view: &AppView<'_>, tokens: &AppTokens) -> Answer {
    // Large enough that it need not grow and leave the tokens behind where they were.
    let mut body = Zeroizing::new(Vec::with_capacity(2 * 1_024));
    body.extend_from_slice(b"{\"ok\":true,\"data\":{");
    write_members(&mut body, view);
    for (kind, token) in &tokens.texts {
        body.extend_from_slice(match kind {
            Kind::AppReadWrite => b",\"readwrite_token\":",
            Kind::AppRead | Kind::ApiKey => b",\"read_token\":",
        });
        json::write_text(&mut body, token);
    }
    body.extend_from_slice(b"}}");
    Answer { status, fields: Vec::new(), body }
}

/// Shows a page of apps. Where the next one begins is told in the head, so that the array keeps its shape.
pub(super) fn listed(page: &Page<AppView<'_>>, limit: usize) -> Answer {
    let mut body = b"{\"ok\":true,\"data\":[".to_vec();
    for (at, view) in page.items.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.push(b'{');
        write_members(&mut body, view);
        body.extend_from_slice(b",\"created_at\":");
        timestamp::write(&mut body, view.created);
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    let fields = page.next.map_or_else(Vec::new, |next| {
        let link = format!("</apps?limit={limit}&cursor={next}>; rel=\"next\"");
        format!("X-Next-Cursor: {next}\r\nLink: {link}\r\n").into_bytes()
    });
    Answer { status: Status::Ok, fields, body: Zeroizing::new(body) }
}

/// Says that an app is gone.
pub(super) fn deleted(id: Id) -> Answer {
    let body = format!("{{\"ok\":true,\"data\":{{\"id\":\"{id}\",\"deleted\":true}}}}").into_bytes();
    Answer { status: Status::Ok, fields: Vec::new(), body: Zeroizing::new(body) }
}

fn write_members(out: &mut Vec<u8>, view: &AppView<'_>) {
    out.extend_from_slice(b"\"id\":");
    json::write_text(out, &view.id.to_string());
    out.extend_from_slice(b",\"name\":");
    json::write_text(out, view.name);
}
