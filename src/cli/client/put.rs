//! `lucid put`: stores a value.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::family::{Family, FamilyArgs, Place, PutOptions, SealArgs};
use super::node::{Node, Payload};
use super::patch::{Done, show};
use super::{KeyArgs, NodeArgs, WriteArgs, entity_tag, seconds};
use crate::cli::failure::{Exit, Failure, tell};

/// A value of unknown length is read ahead up to this size: one that ends before it is sent with its
/// length, so that a node that finds it too large can say so.
const READ_AHEAD_BYTES_MAX: u64 = 8 * 1_024 * 1_024;

/// Arguments of `lucid put`.
#[derive(Args, Debug)]
pub struct PutArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// The value; without it, or as -, it is read from stdin
    #[arg(value_name = "VALUE", conflicts_with = "file")]
    value: Option<OsString>,
    /// Read the value from this file; - is stdin
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Let it go after this time, such as 60, 10m or 1h
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    ttl: Option<u64>,
    /// Keep this Content-Type with it; in an app or a database: json, if the value is JSON
    #[arg(long = "type", value_name = "TYPE")]
    content_type: Option<String>,
    /// Only if the key is not there
    #[arg(long, conflicts_with_all = ["exists", "if_match", "if_none_match"])]
    create: bool,
    /// Only if the key is there
    #[arg(long)]
    exists: bool,
    /// Only if the value does not have this ETag; * is the same as --create
    #[arg(long, value_name = "ETAG")]
    if_none_match: Option<String>,
    #[command(flatten)]
    conditions: WriteArgs,
    /// Show what was done as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    family: FamilyArgs,
    #[command(flatten)]
    seal: SealArgs,
    /// In the database: compress the value
    #[arg(long, requires = "database", help_heading = "Other families")]
    compress: bool,
    /// In the list: add the values to those that are there
    #[arg(long, requires = "lists", help_heading = "Other families")]
    add: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// Stores the value.
pub fn run(args: &PutArgs) -> Result<ExitCode, Failure> {
    let of_kv = [
        ("--create", args.create),
        ("--exists", args.exists),
        ("--if-none-match", args.if_none_match.is_some()),
        args.conditions.first(),
    ];
    if let Some(family) = args.family.family(&of_kv)? {
        return elsewhere(args, family);
    }
    let (key, node) = (args.key.bytes()?, Node::new(&args.node)?);
    let mut query: Vec<String> = args.ttl.iter().map(|ttl| format!("ttl={ttl}")).collect();
    query.extend(args.exists.then(|| "if=exists".into()));
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let mut fields = args.conditions.fields();
    fields.extend(args.create.then(|| ("If-None-Match", "*".into())));
    fields.extend(args.if_none_match.iter().map(|tag| ("If-None-Match", entity_tag(tag))));
    fields.extend(args.content_type.iter().map(|of| ("Content-Type", of.clone())));
    let send = |payload: Payload<'_>| node.call_key("PUT", &key, &query, &fields, payload);
    let answer = match (&args.value, &args.file) {
        (Some(value), _) if value != "-" => send(Payload::Bytes(value.as_bytes()))?,
        (_, Some(path)) if path != Path::new("-") => {
            let (mut file, length) = open(path)?;
            match length {
                // It may grow meanwhile, and must not be more than what was announced.
                Some(length) => send(Payload::Stream(&mut (&mut file).take(length), Some(length)))?,
                None => read_ahead(&mut file, send)?,
            }
        }
        _ => {
            if io::stdin().is_terminal() {
                tell("reading the value from the terminal; Ctrl-D on an empty line ends it");
            }
            read_ahead(&mut io::stdin().lock(), send)?
        }
    };
    let what = match answer.status() {
        201 => "created",
        200 => "updated",
        _ => return Err(answer.refusal(&node, Some(&key))),
    };
    show(&key, answer, args.json, |done: &Done| match &done.etag {
        Some(etag) => format!("{what}, ETag {etag}"),
        None => what.to_owned(),
    })
}

/// Stores it in another family.
fn elsewhere(args: &PutArgs, family: Family<'_>) -> Result<ExitCode, Failure> {
    if let (Family::Database(_), Some(_)) = (family, args.ttl) {
        let what =
            "--ttl does not go with --database; set it afterwards: lucid execute EXPIRE NAME KEY SECONDS";
        return Err(Failure::new(Exit::Usage, what));
    }
    let place = Place::new(family, &args.node)?;
    let mut value = Vec::new();
    let read = match (&args.value, &args.file) {
        (Some(typed), _) if typed != "-" => {
            value.extend_from_slice(typed.as_bytes());
            Ok(0)
        }
        (_, Some(path)) if path != Path::new("-") => open(path)?.0.read_to_end(&mut value),
        _ => io::stdin().lock().read_to_end(&mut value),
    };
    read.map_err(|error| Failure::of_io(&error, "cannot read the value"))?;
    let options = PutOptions {
        ttl: args.ttl,
        content_type: args.content_type.as_deref(),
        seal: &args.seal,
        compress: args.compress,
        add: args.add,
        json: args.json,
    };
    place.put(&args.key, value, &options)
}

/// Opens a file; its length comes along where it has one.
fn open(path: &Path) -> Result<(File, Option<u64>), Failure> {
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
    match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Failure::new(
            Exit::Failed,
            format!("cannot read the value: the file {} is not there", path.display()),
        )),
        Err(error) => Err(Failure::of_io(&error, format!("cannot read the value: {}", path.display()))),
        Ok((about, _)) if about.is_dir() => Err(Failure::new(
            Exit::Failed,
            format!("cannot read the value: {} is a folder, not a file", path.display()),
        )),
        // Files that the system makes up, as below /proc, say that they are empty and are not.
        Ok((about, file)) => Ok((file, (about.is_file() && about.len() > 0).then_some(about.len()))),
    }
}

/// Sends what can be read, with its length if it ends soon.
fn read_ahead<A>(
    reader: &mut dyn Read,
    send: impl FnOnce(Payload<'_>) -> Result<A, Failure>,
) -> Result<A, Failure> {
    let mut ahead = Vec::new();
    let read = reader.take(READ_AHEAD_BYTES_MAX + 1).read_to_end(&mut ahead);
    read.map_err(|error| Failure::of_io(&error, "cannot read the value"))?;
    match ahead.len() as u64 <= READ_AHEAD_BYTES_MAX {
        true => send(Payload::Stream(&mut ahead.as_slice(), Some(ahead.len() as u64))),
        false => send(Payload::Stream(&mut ahead.as_slice().chain(reader), None)),
    }
}
