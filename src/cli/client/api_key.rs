//! `lucid key`: makes, lists, shows, renames and ends API keys of a running node, or of one that is stopped.

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::NodeArgs;
use super::answer::Answer;
use super::key::percent_encoded;
use super::node::{Node, Payload};
use super::output::{Reader, write};
use crate::cli::failure::{Failure, tell};
use crate::cli::folder::FolderArgs;
use crate::cli::token::{grant, prefix};
use crate::config::problem::escaped;

/// Arguments of `lucid key`.
#[derive(Args, Debug)]
pub struct ApiKeyArgs {
    #[command(subcommand)]
    verb: ApiKeyVerb,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Debug, Subcommand)]
enum ApiKeyVerb {
    /// Make a key and print it, this one time
    #[command(after_help = CREATE_EXAMPLE)]
    Create(CreateArgs),
    /// List the keys, each with its id, status, end, grants and name
    #[command(after_help = LIST_EXAMPLE)]
    List(ListArgs),
    /// Show what a key may do, how long, and when it was used
    #[command(after_help = SHOW_EXAMPLE)]
    Show(OneArgs),
    /// Give a key another name; nothing else of it ever changes
    #[command(after_help = RENAME_EXAMPLE)]
    Rename(RenameArgs),
    /// End a key, and every key that it made, on every connection at once
    #[command(after_help = DELETE_EXAMPLE)]
    Delete(OneArgs),
}

const CREATE_EXAMPLE: &str = "\
Example:
  $ lucid key create reports --grant kv:read --grant kv:list --prefix report/ --ttl 30d
  …
  lkv_…
  $ lucid key create worker --grant kv:read --ttl 1h > worker.key
  …
  $ lucid get report/1 --token-file worker.key
  lucid: report/1: the key does not exist

`lucid token issue --help` lists the grants.";

const LIST_EXAMPLE: &str = "\
Example:
  $ lucid key create reports --grant kv:read --ttl 30d > reports.key
  …
  $ lucid key list
  …  active   …  kv:read  reports";

const SHOW_EXAMPLE: &str = "\
Example:
  $ lucid key create reports --grant kv:read --ttl 30d > reports.key
  …
  $ lucid key show \"$(lucid key list | cut -d' ' -f1)\"
  id         …
  name       reports
  status     active
  grants     kv:read
  …";

const RENAME_EXAMPLE: &str = "\
Example:
  $ lucid key create reports --grant kv:read --ttl 30d > reports.key
  …
  $ lucid key rename \"$(lucid key list | cut -d' ' -f1)\" 'weekly reports'
  renamed";

const DELETE_EXAMPLE: &str = "\
Example:
  $ lucid key create reports --grant kv:read --ttl 30d > reports.key
  …
  $ lucid key delete \"$(lucid key list | cut -d' ' -f1)\"
  deleted";

#[derive(Args, Debug)]
struct CreateArgs {
    /// What it is for
    #[arg(value_name = "NAME")]
    name: String,
    /// Let it do this; may stand several times
    #[arg(long = "grant", value_name = "GRANT", value_parser = grant, required = true)]
    grants: Vec<String>,
    /// Limit it to the keys that begin with this [else it reaches all]
    #[arg(long, value_name = "TEXT", value_parser = prefix)]
    prefix: Option<String>,
    /// Let it expire after a time, such as 8h or 30d [else it never does]
    #[arg(long, value_name = "TIME", value_parser = super::seconds)]
    ttl: Option<u64>,
    /// Show it as one JSON object, as the node answers it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args, Debug)]
struct ListArgs {
    /// Show each key as a JSON object on a line of its own
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args, Debug)]
struct OneArgs {
    /// The id of the key, as `lucid key list` shows it
    #[arg(value_name = "ID")]
    id: String,
    /// Show what the node answers, as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args, Debug)]
struct RenameArgs {
    /// The id of the key, as `lucid key list` shows it
    #[arg(value_name = "ID")]
    id: String,
    /// Its new name
    #[arg(value_name = "NAME")]
    name: String,
    /// Show what the node answers, as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// A key as a node tells of it.
#[derive(Deserialize)]
struct Told<'b> {
    id: String,
    name: String,
    grants: Vec<String>,
    prefix: Option<String>,
    namespace: Option<String>,
    owner: String,
    created_at: String,
    expires_at: Option<String>,
    last_used_at: Option<String>,
    #[serde(default)]
    status: String,
    /// Where it lies in the answer, so that it has no copy.
    #[serde(default)]
    key: &'b str,
    #[serde(default)]
    warning: Option<String>,
}

#[derive(Deserialize)]
struct Page<'p> {
    #[serde(borrow)]
    keys: Vec<&'p RawValue>,
    cursor: Option<String>,
}

/// Does what is asked for.
pub fn run(args: &ApiKeyArgs, config: Option<&Path>) -> Result<ExitCode, Failure> {
    let open = |node: &NodeArgs| Node::or_folder(node, &args.folder, config);
    match &args.verb {
        ApiKeyVerb::Create(args) => create(args, &open(&args.node)?),
        ApiKeyVerb::List(args) => list(args, &open(&args.node)?),
        ApiKeyVerb::Show(args) => show(args, &open(&args.node)?),
        ApiKeyVerb::Rename(args) => {
            let body = Value::from(Map::from_iter([("name".into(), args.name.as_str().into())]));
            change(&open(&args.node)?, ("PATCH", &args.id), Some(&body), args.json, "renamed")
        }
        ApiKeyVerb::Delete(args) => {
            change(&open(&args.node)?, ("DELETE", &args.id), None, args.json, "deleted")
        }
    }
}

fn create(args: &CreateArgs, node: &Node) -> Result<ExitCode, Failure> {
    let mut order = Map::new();
    order.insert("name".into(), args.name.as_str().into());
    order.insert("grants".into(), args.grants.clone().into());
    order.extend(args.prefix.as_deref().map(|prefix| ("prefix".into(), prefix.into())));
    order.extend(args.ttl.map(|seconds| ("expires_in".into(), seconds.into())));
    let answer = send(node, "POST", "/api/keys", Some(&order.into()))?;
    let body = whole(answer, node, 201, &args.name)?;
    let told: Told<'_> = read(&body, node)?;
    if args.json {
        return print(&body);
    }
    // The key stands alone on stdout, for scripts; what a person wants to know beside it does not.
    let until = told.expires_at.as_deref().map_or("for good".into(), |ends| format!("until {ends}"));
    let grants = told.grants.join(" ");
    tell(&format!("key {} of {}: {grants}, {until}; it is not shown again", told.id, told.name));
    told.warning.iter().for_each(|warning| tell(&format!("warning: {warning}")));
    print(told.key.as_bytes())
}

fn list(args: &ListArgs, node: &Node) -> Result<ExitCode, Failure> {
    let mut cursor = String::new();
    loop {
        let path = format!("/api/keys?cursor={}", percent_encoded(cursor.as_bytes()));
        let body = whole(send(node, "GET", &path, None)?, node, 200, "the list of keys")?;
        let page: Page<'_> = read(&body, node)?;
        let mut lines = String::new();
        for key in page.keys {
            match args.json {
                true => lines.push_str(key.get()),
                false => lines.push_str(&line(&read(key.get().as_bytes(), node)?)),
            }
            lines.push('\n');
        }
        if write(lines.as_bytes())? == Reader::Gone {
            break;
        }
        match page.cursor {
            // A cursor that stands still would be followed for ever.
            Some(next) if next != cursor => cursor = next,
            _ => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(told: &Told<'_>) -> String {
    let ends = told.expires_at.as_deref().unwrap_or("-");
    let text =
        format!("{}  {:<7}  {ends:<20}  {}  {}", told.id, told.status, told.grants.join(","), told.name);
    escaped(&text)
}

fn show(args: &OneArgs, node: &Node) -> Result<ExitCode, Failure> {
    let answer = send(node, "GET", &path(&args.id), None)?;
    let body = whole(answer, node, 200, &args.id)?;
    if args.json {
        return print(&body);
    }
    let told: Told<'_> = read(&body, node)?;
    let grants = told.grants.join(" ");
    let lines = [
        ("id", Some(&told.id)),
        ("name", Some(&told.name)),
        ("status", Some(&told.status)),
        ("grants", Some(&grants)),
        ("prefix", told.prefix.as_ref()),
        ("namespace", told.namespace.as_ref()),
        ("owner", Some(&told.owner)),
        ("created", Some(&told.created_at)),
        ("expires", told.expires_at.as_ref()),
        ("used", told.last_used_at.as_ref()),
    ];
    let text: String = lines
        .iter()
        .map(|(name, text)| format!("{name:<9}  {}\n", text.map_or("-".into(), |text| escaped(text))))
        .collect();
    write(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Changes a key: `PATCH` or `DELETE`, and what is said then.
fn change(
    node: &Node,
    (method, id): (&str, &str),
    order: Option<&Value>,
    json: bool,
    done: &str,
) -> Result<ExitCode, Failure> {
    let body = whole(send(node, method, &path(id), order)?, node, 200, id)?;
    print(if json { &body } else { done.as_bytes() })
}

fn path(id: &str) -> String {
    format!("/api/keys/{}", percent_encoded(id.as_bytes()))
}

/// Sends an order in JSON.
pub(super) fn send(node: &Node, method: &str, path: &str, order: Option<&Value>) -> Result<Answer, Failure> {
    let body = order.map(Value::to_string);
    let payload = body.as_ref().map_or(Payload::Absent, |body| Payload::Bytes(body.as_bytes()));
    let kind = body.iter().map(|_| ("Content-Type", "application/json".into()));
    node.call(method, path, &kind.collect::<Vec<_>>(), payload)
}

/// The body of an answer with this status. May hold a secret, so it is wiped when it is dropped.
pub(super) fn whole(
    answer: Answer,
    node: &Node,
    good: u16,
    what: &str,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match answer.status() == good {
        true => answer.whole(),
        false => Err(answer.refusal(node, Some(what.as_bytes()))),
    }
}

/// Reads what a node answers in JSON.
pub(super) fn read<'b, T: Deserialize<'b>>(body: &'b [u8], node: &Node) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|_| node.unreadable())
}

/// Shows one line.
pub(super) fn print(line: &[u8]) -> Result<ExitCode, Failure> {
    let mut text = Zeroizing::new(Vec::with_capacity(line.len() + 1));
    text.extend_from_slice(line.trim_ascii_end());
    text.push(b'\n');
    write(&text)?;
    Ok(ExitCode::SUCCESS)
}
