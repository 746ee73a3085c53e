//! `lucid list`: the names of all keys, page after page.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::io::Read;

use super::family::{FamilyArgs, Place};
use super::node::{Node, Payload};
use super::output::{Reader, write};
use super::{NodeArgs, key};
use crate::cli::failure::{Exit, Failure};
use crate::config::problem::escaped;
use crate::limits::LIST_KEYS_MAX;

/// Largest page that is read: a thousand of the longest keys and types, escaped.
const PAGE_BYTES_MAX: u64 = 64 * 1_024 * 1_024;

/// Arguments of `lucid list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only keys that begin with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<OsString>,
    /// Stop after so many keys [else all are listed]
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Show size, time to live, ETag and type before each key
    #[arg(short, long, conflicts_with = "json")]
    long: bool,
    /// Percent-encode the keys, so that each is one line whatever its bytes are
    #[arg(long, conflicts_with = "json")]
    encoded: bool,
    /// Show each key as a JSON object on a line of its own
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    family: FamilyArgs,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Deserialize)]
struct Page<'p> {
    #[serde(borrow)]
    keys: Vec<&'p RawValue>,
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    name: Option<String>,
    name_base64: Option<String>,
    size: u64,
    ttl: Option<u64>,
    etag: String,
    #[serde(rename = "type")]
    content_type: String,
}

/// Lists the keys.
pub fn run(args: &ListArgs) -> Result<ExitCode, Failure> {
    if let Some(family) = args.family.family(&[("--long", args.long)])? {
        let prefix = args.prefix.as_deref().unwrap_or_default().as_bytes();
        let limit = args.limit.unwrap_or(u64::MAX);
        return Place::new(family, &args.node)?.list(prefix, limit, args.json, args.encoded);
    }
    let node = Node::new(&args.node)?;
    let prefix = key::percent_encoded(args.prefix.as_deref().unwrap_or_default().as_bytes());
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut cursor = String::new();
    while left > 0 {
        let limit = left.min(LIST_KEYS_MAX as u64);
        let path = format!(
            "/api/kv?prefix={prefix}&limit={limit}&cursor={}",
            key::percent_encoded(cursor.as_bytes())
        );
        let body = page(&node, &path)?;
        let unreadable = || {
            Failure::new(
                Exit::Failed,
                format!("what answers at {} is no Lucid node: its list cannot be read", node.url()),
            )
        };
        let page: Page<'_> = serde_json::from_slice(&body).map_err(|_| unreadable())?;
        let lines: Option<String> = page.keys.iter().map(|key| line(key, args)).collect();
        if write(lines.ok_or_else(unreadable)?.as_bytes())? == Reader::Gone {
            break;
        }
        left = left.saturating_sub(page.keys.len() as u64);
        match page.cursor {
            // A cursor that stands still would be followed for ever.
            Some(next) if next != cursor => cursor = next,
            _ => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn page(node: &Node, path: &str) -> Result<Vec<u8>, Failure> {
    let answer = node.call("GET", path, &[], Payload::Absent)?;
    if answer.status() != 200 {
        return Err(answer.refusal(node, None));
    }
    let mut body = Vec::new();
    let read = answer.into_reader().take(PAGE_BYTES_MAX).read_to_end(&mut body);
    read.map_err(|error| Failure::new(Exit::Failed, format!("the answer broke off: {error}")))?;
    Ok(body)
}

/// The line of one key; nothing, if it is not what a node answers.
fn line(key: &RawValue, args: &ListArgs) -> Option<String> {
    if args.json {
        return Some(format!("{}\n", key.get()));
    }
    let entry: Entry = serde_json::from_str(key.get()).ok()?;
    let name = match (&entry.name, &entry.name_base64) {
        (Some(name), _) => name.clone().into_bytes(),
        (None, Some(encoded)) => STANDARD.decode(encoded).ok()?,
        (None, None) => return None,
    };
    let name = if args.encoded { key::percent_encoded(&name) } else { key::shown(&name) };
    let ttl = entry.ttl.map_or("-".into(), |ttl| ttl.to_string());
    Some(match args.long {
        true => {
            let (tag, of) = (entry.etag.trim_matches('"'), escaped(&entry.content_type));
            format!("{:>9}  {ttl:>6}  {}  {of:<24}  {name}\n", entry.size, escaped(tag))
        }
        false => format!("{name}\n"),
    })
}
