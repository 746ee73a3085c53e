//! `lucid get`: reads a value.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Map, Value};

use super::answer::Answer;
use super::family::{FamilyArgs, Place, SealArgs};
use super::node::{Node, Payload};
use super::output::{save, show, write};
use super::{KeyArgs, NodeArgs, entity_tag};
use crate::cli::failure::{Exit, Failure, tell};

/// Arguments of `lucid get`.
#[derive(Args, Debug)]
pub struct GetArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Write the value to this file, whole or not at all; - is stdout, even where that is a terminal
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only if it has changed since it had this ETag; otherwise nothing is written
    #[arg(long, value_name = "ETAG")]
    if_none_match: Option<String>,
    /// Show the value and all that is known of it as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    family: FamilyArgs,
    #[command(flatten)]
    seal: SealArgs,
    #[command(flatten)]
    node: NodeArgs,
}

/// Reads the value.
pub fn run(args: &GetArgs) -> Result<ExitCode, Failure> {
    let of_kv = [("--if-none-match", args.if_none_match.is_some())];
    if let Some(family) = args.family.family(&of_kv)? {
        let place = Place::new(family, &args.node)?;
        return place.get(&args.key, &args.seal, args.output.as_deref(), args.json);
    }
    let (key, node) = (args.key.bytes()?, Node::new(&args.node)?);
    let fields: Vec<_> = args.if_none_match.iter().map(|tag| ("If-None-Match", entity_tag(tag))).collect();
    let answer = node.call_key("GET", &key, "", &fields, Payload::Absent)?;
    match answer.status() {
        200 => {}
        304 => {
            tell("the value has not changed");
            return Ok(ExitCode::SUCCESS);
        }
        _ => return Err(answer.refusal(&node, Some(&key))),
    }
    let file = args.output.as_deref().filter(|path| *path != Path::new("-"));
    match (args.json, file) {
        (true, file) => described(&key, answer, file)?,
        (false, Some(file)) => drop(save(answer.into_reader(), file)?),
        (false, None) => show(answer.into_reader(), args.output.is_some())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows the value with what is known of it. A value that goes to a file is not shown as well.
fn described(key: &[u8], answer: Answer, file: Option<&Path>) -> Result<(), Failure> {
    let mut object = Map::new();
    put_bytes(&mut object, "key", "key_base64", key);
    let mut field =
        |name: &str, value: Option<Value>| object.insert(name.into(), value.unwrap_or(Value::Null));
    field("type", answer.field("Content-Type").map(Value::from));
    field("etag", answer.tag().map(Value::from));
    field("last_modified", answer.field("Last-Modified").map(Value::from));
    field("ttl", answer.field("X-TTL").and_then(|ttl| ttl.parse::<u64>().ok()).map(Value::from));
    match file {
        Some(file) => {
            let size = save(answer.into_reader(), file)?;
            object.insert("size".into(), size.into());
        }
        None => {
            let mut bytes = Vec::new();
            answer
                .into_reader()
                .read_to_end(&mut bytes)
                .map_err(|error| Failure::new(Exit::Failed, format!("the answer broke off: {error}")))?;
            object.insert("size".into(), bytes.len().into());
            put_bytes(&mut object, "value", "base64", &bytes);
        }
    }
    write(format!("{}\n", Value::from(object)).as_bytes()).map(|_| ())
}

/// Text under one name, other bytes in base64 under another.
pub(super) fn put_bytes(object: &mut Map<String, Value>, text: &str, encoded: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(value) => object.insert(text.into(), value.into()),
        Err(_) => object.insert(encoded.into(), STANDARD.encode(bytes).into()),
    };
}
