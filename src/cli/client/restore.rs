//! `lucid restore`: writes what a dump tells of into a node, a slice of lines in each request.
//!
//! A file is read once before anything is sent, so that one that is cut or damaged restores nothing. A
//! pipe cannot be read twice: what comes before a break is restored then, and the break is told.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, ErrorKind, IsTerminal, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::answer::Answer;
use super::dump::{bar, open_lines};
use super::lines::Tally;
use super::node::{Node, Payload};
use super::{NodeArgs, key};
use crate::cli::failure::{Exit, Failure, print, tell};

/// Lines that go in one request, in bytes. A line that is longer goes by itself.
const SLICE_BYTES: usize = 256 * 1_024;

/// Longest line that is read: a value of the largest size there is, in base64.
const LINE_BYTES_MAX: u64 = 6 << 30;

/// Arguments of `lucid restore`.
#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// The dump, also compressed with zstd; without it, or as -, it is read from stdin
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Put this in front of every key
    #[arg(long, value_name = "TEXT")]
    prefix: Option<OsString>,
    /// Leave what is there as it is
    #[arg(long)]
    skip_existing: bool,
    /// Take lines of a dump without its first and last one, such as what grep leaves
    #[arg(long)]
    partial: bool,
    /// Show what was done as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// What a node answers.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Done {
    restored: u64,
    skipped: u64,
    expired: u64,
}

/// A restore under way.
struct Restoring<'a> {
    node: &'a Node,
    query: String,
    done: Done,
    /// Lines that wait to be sent, and the number of the first of them.
    slice: Vec<u8>,
    first_line: u64,
    bar: ProgressBar,
}

/// Restores the dump.
pub fn run(args: &RestoreArgs) -> Result<ExitCode, Failure> {
    let node = Node::new(&args.node)?;
    let prefix = key::percent_encoded(args.prefix.as_deref().unwrap_or_default().as_bytes());
    let existing = if args.skip_existing { "skip" } else { "overwrite" };
    let mut restoring = Restoring {
        node: &node,
        query: format!("prefix={prefix}&existing={existing}"),
        done: Done::default(),
        slice: Vec::with_capacity(2 * SLICE_BYTES),
        first_line: 1,
        bar: bar(0, "restore"),
    };
    let ended = match args.file.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => restoring.file(path, args.partial),
        None => {
            if io::stdin().is_terminal() {
                tell("reading the dump from the terminal; Ctrl-D on an empty line ends it");
            }
            restoring.lines(io::stdin().lock(), args.partial, "stdin")
        }
    };
    restoring.bar.finish_and_clear();
    let Done { restored, skipped, expired } = restoring.done;
    ended.map_err(|failure| failure.and(format!("{restored} entries were restored before that")))?;
    print(&match args.json {
        true => format!("{{\"restored\":{restored},\"skipped\":{skipped},\"expired\":{expired}}}\n"),
        false => {
            let entries = if restored == 1 { "entry" } else { "entries" };
            let beside = [(skipped, "were there already"), (expired, "had expired")];
            let beside = beside.iter().filter(|(count, _)| *count > 0);
            let beside: String = beside.map(|(count, what)| format!(", {count} {what}")).collect();
            format!("restored {restored} {entries}{beside}\n")
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

impl Restoring<'_> {
    fn file(&mut self, path: &Path, partial: bool) -> Result<(), Failure> {
        let shown = path.display();
        let cannot = |error: io::Error| match error.kind() {
            ErrorKind::NotFound => {
                Failure::new(Exit::Failed, format!("cannot read the dump: the file {shown} is not there"))
            }
            _ => Failure::of_io(&error, format!("cannot read the dump {shown}")),
        };
        let mut file = File::open(path).map_err(cannot)?;
        let about = file.metadata().map_err(cannot)?;
        if about.is_dir() {
            let what = format!("cannot read the dump: {shown} is a folder, not a file");
            return Err(Failure::new(Exit::Failed, what));
        }
        if about.is_file() && !partial {
            let tally = tally(&mut file, &shown)?;
            self.bar.set_length(tally.lines);
            file.seek(SeekFrom::Start(0)).map_err(cannot)?;
        }
        self.lines(file, partial, &shown.to_string())
    }

    fn lines(&mut self, reader: impl Read, partial: bool, from: &str) -> Result<(), Failure> {
        let unreadable = |error: io::Error| broken(&error, from);
        let mut lines = open_lines(reader).map_err(unreadable)?;
        let mut tally = Tally::default();
        let mut line = Vec::new();
        let mut number = 0;
        while read_line(&mut *lines, &mut line).map_err(unreadable)? {
            number += 1;
            if !partial {
                tally.add(&line).map_err(|trouble| not_whole(trouble, from))?;
                if self.bar.length().is_none_or(|length| length < tally.expected) {
                    self.bar.set_length(tally.expected);
                }
            }
            if line.len() > SLICE_BYTES {
                self.send_slice()?;
                self.send_alone(&line, number)?;
                self.first_line = number + 1;
            } else {
                if self.slice.len() + line.len() > SLICE_BYTES {
                    self.send_slice()?;
                    self.first_line = number;
                }
                self.slice.extend_from_slice(&line);
                if !line.ends_with(b"\n") {
                    self.slice.push(b'\n');
                }
            }
            self.bar.set_position(number);
        }
        self.send_slice()?;
        match partial {
            true => Ok(()),
            false => tally.end().map_err(|trouble| not_whole(trouble, from)),
        }
    }

    fn send_slice(&mut self) -> Result<(), Failure> {
        if self.slice.is_empty() {
            return Ok(());
        }
        let slice = std::mem::take(&mut self.slice);
        let sent = self.send(self.first_line, "", &slice);
        self.slice = slice;
        self.slice.clear();
        sent
    }

    /// Sends the value of a long line as it is, and what else is known of the entry beside it.
    fn send_alone(&mut self, line: &[u8], number: u64) -> Result<(), Failure> {
        let unreadable =
            || Failure::new(Exit::Failed, format!("line {number} cannot be read: it is no entry of a dump"));
        let (entry, value) = std::str::from_utf8(line).ok().and_then(long_value).ok_or_else(unreadable)?;
        let entry = key::percent_encoded(Value::from(entry).to_string().as_bytes());
        self.send(number, &format!("&entry={entry}"), &value)
    }

    fn send(&mut self, line: u64, more: &str, body: &[u8]) -> Result<(), Failure> {
        let path = format!("/api/restore?{}&line={line}{more}", self.query);
        let fields = [("Content-Type", "application/x-ndjson".into())];
        let answer = self.node.call("POST", &path, &fields, Payload::Bytes(body))?;
        let done = done(answer, self.node)?;
        self.done.restored += done.restored;
        self.done.skipped += done.skipped;
        self.done.expired += done.expired;
        Ok(())
    }
}

fn done(answer: Answer, node: &Node) -> Result<Done, Failure> {
    if answer.status() != 200 {
        return Err(answer.refusal(node, None));
    }
    serde_json::from_slice(&answer.whole()?).map_err(|_| node.unreadable())
}

/// Reads a line. False at the end.
fn read_line(lines: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let read = lines.take(LINE_BYTES_MAX).read_until(b'\n', line)?;
    Ok(read > 0)
}

/// Makes sure that a file is whole.
fn tally(file: &mut File, shown: &dyn std::fmt::Display) -> Result<Tally, Failure> {
    let from = shown.to_string();
    let mut lines = open_lines(file).map_err(|error| broken(&error, &from))?;
    let mut tally = Tally::default();
    let mut line = Vec::new();
    while read_line(&mut *lines, &mut line).map_err(|error| broken(&error, &from))? {
        tally.add(&line).map_err(|trouble| not_whole(trouble, &from))?;
    }
    tally.end().map_err(|trouble| not_whole(trouble, &from))?;
    Ok(tally)
}

fn broken(error: &io::Error, from: &str) -> Failure {
    Failure::of_io(error, format!("cannot read the dump {from}"))
}

fn not_whole(trouble: super::lines::Trouble, from: &str) -> Failure {
    Failure::new(Exit::Failed, format!("{from} is no whole dump: {trouble}"))
        .and("take it again with `lucid dump`; lines picked out of one are restored with --partial")
}

/// Takes the value out of a line: what is left of the line, and the bytes of the value.
fn long_value(line: &str) -> Option<(Map<String, Value>, Vec<u8>)> {
    #[derive(Deserialize)]
    struct Long<'l> {
        #[serde(borrow)]
        json: Option<&'l RawValue>,
        #[serde(borrow)]
        values: Option<&'l RawValue>,
        value: Option<String>,
        base64: Option<String>,
    }
    let long: Long<'_> = serde_json::from_str(line).ok()?;
    let (name, value) = match (long.json, long.values, long.value, long.base64) {
        (Some(raw), None, None, None) => ("json", raw.get().as_bytes().to_vec()),
        (None, Some(raw), None, None) => ("values", raw.get().as_bytes().to_vec()),
        (None, None, Some(text), None) => ("value", text.into_bytes()),
        (None, None, None, Some(text)) => ("base64", STANDARD.decode(text).ok()?),
        _ => return None,
    };
    let mut entry: Map<String, Value> = serde_json::from_str(line).ok()?;
    entry.remove(name)?;
    Some((entry, value))
}

#[cfg(test)]
mod tests {
    use super::long_value;

    #[test]
    fn a_value_is_taken_out_of_its_line_as_it_is() {
        for (line, entry, value) in [
            (
                r#"{"key":"a","expires_at_ms":9,"base64":"/wA="}"#,
                r#"{"expires_at_ms":9,"key":"a"}"#,
                &b"\xff\0"[..],
            ),
            (r#"{"key":"a","value":"\u00e9"}"#, r#"{"key":"a"}"#, "é".as_bytes()),
            (r#"{"app":"w","item":"a","json":1.50}"#, r#"{"app":"w","item":"a"}"#, b"1.50"),
            (r#"{"app":"w","list":"a","values":[ 1.0,"b"]}"#, r#"{"app":"w","list":"a"}"#, b"[ 1.0,\"b\"]"),
        ] {
            let (left, taken) = long_value(line).unwrap();
            assert_eq!((serde_json::Value::from(left).to_string().as_str(), &*taken), (entry, value));
        }
        for line in ["{}", "[]", r#"{"key":"a"}"#, r#"{"value":"a","base64":""}"#, r#"{"base64":"!"}"#] {
            assert!(long_value(line).is_none(), "{line}");
        }
    }
}
