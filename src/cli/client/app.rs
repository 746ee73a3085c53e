//! `lucid app`: makes, lists and ends apps of a node, running or stopped, and gives them new tokens.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::NodeArgs;
use super::api_key::{print, read, send, whole};
use super::key::percent_encoded;
use super::node::Node;
use super::output::{Reader, write};
use crate::cli::failure::{Failure, tell};
use crate::cli::folder::FolderArgs;
use crate::config::problem::escaped;
use crate::config::value;
use crate::limits::TTL_SECONDS_MAX;

/// Arguments of `lucid app`.
#[derive(Args, Debug)]
pub struct AppArgs {
    #[command(subcommand)]
    verb: AppVerb,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Debug, Subcommand)]
enum AppVerb {
    /// Make an app and print its tokens, this one time: one that reads, one that also writes
    #[command(after_help = CREATE_EXAMPLE)]
    Create(CreateArgs),
    /// List the apps, each with its id, the time it was made, and its name
    #[command(after_help = LIST_EXAMPLE)]
    List(ListArgs),
    /// Give an app new tokens, and print them, this one time
    #[command(after_help = ROTATE_EXAMPLE)]
    Rotate(RotateArgs),
    /// End an app with its tokens
    #[command(after_help = DELETE_EXAMPLE)]
    Delete(DeleteArgs),
}

const CREATE_EXAMPLE: &str = "\
Example:
  $ lucid app create web
  …
  lkr_…
  lkw_…";

const LIST_EXAMPLE: &str = "\
Example:
  $ lucid app create web > web.tokens
  …
  $ lucid app list
  …  default
  …  web";

const ROTATE_EXAMPLE: &str = "\
Example:
  $ lucid app create web > web.tokens
  …
  $ lucid app rotate \"$(lucid app list | grep web | cut -d' ' -f1)\" read --grace 10m
  …
  lkr_…";

const DELETE_EXAMPLE: &str = "\
Example:
  $ lucid app create web > web.tokens
  …
  $ lucid app delete \"$(lucid app list | grep web | cut -d' ' -f1)\"
  deleted";

#[derive(Args, Debug)]
struct CreateArgs {
    /// Its name, which no other app has
    #[arg(value_name = "NAME")]
    name: String,
    /// Show it as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args, Debug)]
struct ListArgs {
    /// Show each app as a JSON object on a line of its own
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args, Debug)]
struct RotateArgs {
    /// The id of the app, as `lucid app list` shows it
    #[arg(value_name = "ID")]
    id: String,
    /// Which of its tokens
    #[arg(value_enum, value_name = "TOKEN")]
    which: Which,
    /// How long the ones before stay good [else they end at once]
    #[arg(long, value_name = "TIME", value_parser = grace)]
    grace: Option<u64>,
    /// Show it as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args, Debug)]
struct DeleteArgs {
    /// The id of the app, as `lucid app list` shows it
    #[arg(value_name = "ID")]
    id: String,
    /// Show what was done as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    /// The one that reads
    Read,
    /// The one that also writes
    Readwrite,
    /// Both of them
    Both,
}

/// What a node answers, in the envelope of its family.
#[derive(Deserialize)]
struct Envelope<'b> {
    #[serde(borrow)]
    data: &'b RawValue,
}

/// An app as a node tells of it, with what is new of its tokens.
#[derive(Deserialize)]
struct Told<'b> {
    id: String,
    name: String,
    #[serde(default)]
    created_at: String,
    /// Where they lie in the answer, so that they have no copies.
    read_token: Option<&'b str>,
    readwrite_token: Option<&'b str>,
}

fn grace(text: &str) -> Result<u64, String> {
    let duration = value::duration(text, Duration::ZERO, Duration::from_secs(TTL_SECONDS_MAX))?;
    match duration.subsec_millis() {
        0 => Ok(duration.as_secs()),
        _ => Err("expected whole seconds, such as 60, 10m or 1h".into()),
    }
}

/// Does what is asked for.
pub fn run(args: &AppArgs, config: Option<&Path>) -> Result<ExitCode, Failure> {
    let open = |node: &NodeArgs| Node::or_folder(node, &args.folder, config);
    match &args.verb {
        AppVerb::Create(args) => {
            let order = Map::from_iter([("name".into(), args.name.as_str().into())]);
            let node = open(&args.node)?;
            let answer = send(&node, "POST", "/apps", Some(&order.into()))?;
            tokens(&whole(answer, &node, 201, &args.name)?, &node, args.json)
        }
        AppVerb::List(args) => list(args, &open(&args.node)?),
        AppVerb::Rotate(args) => {
            let which = args.which.to_possible_value().map(|value| value.get_name().to_owned());
            let order = Map::from_iter([
                ("token".into(), which.into()),
                ("grace".into(), args.grace.unwrap_or(0).into()),
            ]);
            let node = open(&args.node)?;
            let path = format!("/apps/{}/rotate", percent_encoded(args.id.as_bytes()));
            let answer = send(&node, "POST", &path, Some(&Value::from(order)))?;
            tokens(&whole(answer, &node, 200, &args.id)?, &node, args.json)
        }
        AppVerb::Delete(args) => {
            let node = open(&args.node)?;
            let path = format!("/apps/{}", percent_encoded(args.id.as_bytes()));
            let body = whole(send(&node, "DELETE", &path, None)?, &node, 200, &args.id)?;
            let envelope: Envelope<'_> = read(&body, &node)?;
            print(if args.json { envelope.data.get().as_bytes() } else { b"deleted" })
        }
    }
}

/// Shows new tokens, each alone on a line of stdout, for scripts. The one that reads comes first.
fn tokens(body: &[u8], node: &Node, json: bool) -> Result<ExitCode, Failure> {
    let envelope: Envelope<'_> = read(body, node)?;
    if json {
        return print(envelope.data.get().as_bytes());
    }
    let told: Told<'_> = read(envelope.data.get().as_bytes(), node)?;
    let what = match (&told.read_token, &told.readwrite_token) {
        (Some(_), Some(_)) => "the first token reads, the second also writes; they are",
        (Some(_), None) => "the token reads; it is",
        _ => "the token reads and writes; it is",
    };
    tell(&format!("app {} ({}): {what} not shown again", told.id, told.name));
    for token in [told.read_token, told.readwrite_token].iter().flatten() {
        print(token.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list(args: &ListArgs, node: &Node) -> Result<ExitCode, Failure> {
    let mut cursor = String::new();
    loop {
        let path = format!("/apps?cursor={}", percent_encoded(cursor.as_bytes()));
        let answer = send(node, "GET", &path, None)?;
        let next = answer.field("X-Next-Cursor").map(str::to_owned);
        let body = whole(answer, node, 200, "the list of apps")?;
        let envelope: Envelope<'_> = read(&body, node)?;
        let apps: Vec<&RawValue> = read(envelope.data.get().as_bytes(), node)?;
        let mut lines = String::new();
        for app in apps {
            match args.json {
                true => lines.push_str(app.get()),
                false => {
                    let told: Told<'_> = read(app.get().as_bytes(), node)?;
                    lines.push_str(&escaped(&format!("{}  {}  {}", told.id, told.created_at, told.name)));
                }
            }
            lines.push('\n');
        }
        if write(lines.as_bytes())? == Reader::Gone {
            break;
        }
        match next {
            // A cursor that stands still would be followed for ever.
            Some(next) if next != cursor => cursor = next,
            _ => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}
