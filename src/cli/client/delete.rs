//! `lucid delete`: removes a key and its value.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::family::{FamilyArgs, Place};
use super::node::{Node, Payload};
use super::{KeyArgs, NodeArgs, WriteArgs, output, patch};
use crate::cli::failure::Failure;

/// Arguments of `lucid delete`.
#[derive(Args, Debug)]
pub struct DeleteArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Write the removed value to this file; - is stdout
    #[arg(short, long, value_name = "FILE", conflicts_with = "json")]
    output: Option<PathBuf>,
    #[command(flatten)]
    conditions: WriteArgs,
    /// Show what was done as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    family: FamilyArgs,
    #[command(flatten)]
    node: NodeArgs,
}

/// Removes the key.
pub fn run(args: &DeleteArgs) -> Result<ExitCode, Failure> {
    let of_kv = [("--output", args.output.is_some()), args.conditions.first()];
    if let Some(family) = args.family.family(&of_kv)? {
        return Place::new(family, &args.node)?.delete(&args.key, args.json);
    }
    let (key, node) = (args.key.bytes()?, Node::new(&args.node)?);
    let mut fields = args.conditions.fields();
    fields.extend(args.output.iter().map(|_| ("Prefer", "return=representation".into())));
    let answer = node.call_key("DELETE", &key, "", &fields, Payload::Absent)?;
    if answer.status() != 200 {
        return Err(answer.refusal(&node, Some(&key)));
    }
    match args.output.as_deref() {
        Some(path) if path == Path::new("-") => output::show(answer.into_reader(), true)?,
        Some(path) => drop(output::save(answer.into_reader(), path)?),
        None => return patch::show(&key, answer, args.json, |_| "deleted".into()),
    }
    Ok(ExitCode::SUCCESS)
}
