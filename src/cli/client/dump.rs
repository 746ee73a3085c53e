//! `lucid dump`: all that a node holds, in a file or to stdout.
//!
//! A file is there whole or not at all: it is written under another name, checked, synced and renamed.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::lines::{Tally, Trouble};
use super::node::{Node, Payload};
use super::{NodeArgs, key};
use crate::cli::failure::{Exit, Failure, print};

/// Bytes read ahead.
const AHEAD_BYTES: usize = 256 * 1_024;

/// How hard files that end in `.zst` are pressed: zstd's own choice.
const ZSTD_LEVEL: i32 = 3;

/// Arguments of `lucid dump`.
#[derive(Args, Debug)]
pub struct DumpArgs {
    /// The file; one that ends in .zst is compressed. Without it, or as -, it is stdout
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Only keys that begin with this, and nothing but keys
    #[arg(long, value_name = "TEXT")]
    prefix: Option<OsString>,
    #[command(flatten)]
    node: NodeArgs,
}

/// Writes the dump.
pub fn run(args: &DumpArgs) -> Result<ExitCode, Failure> {
    let node = Node::patient(&args.node)?;
    let prefix = key::percent_encoded(args.prefix.as_deref().unwrap_or_default().as_bytes());
    let answer = node.call("GET", &format!("/api/dump?prefix={prefix}"), &[], Payload::Absent)?;
    if answer.status() != 200 {
        return Err(answer.refusal(&node, None));
    }
    let mut lines = BufReader::with_capacity(AHEAD_BYTES, answer.into_reader());
    match args.file.as_deref().filter(|path| *path != Path::new("-")) {
        None => match copy(&mut lines, &mut io::stdout().lock()) {
            // Whoever reads has seen enough.
            Err(Stopped::Writing(error)) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(stopped) => return Err(stopped.failure("stdout")),
            Ok(_) => {}
        },
        Some(path) => {
            let tally = write_file(&mut lines, path)?;
            print(&format!("{tally}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Why a copy stopped.
enum Stopped {
    Reading(io::Error),
    Writing(io::Error),
    Trouble(Trouble),
}

impl Stopped {
    fn failure(self, to: impl std::fmt::Display) -> Failure {
        let what = match self {
            Stopped::Writing(error) if error.kind() == ErrorKind::NotFound => {
                return Failure::new(
                    Exit::Failed,
                    format!("cannot write {to}: its folder is not there; make it first"),
                );
            }
            Stopped::Writing(error) => return Failure::of_io(&error, format!("cannot write {to}")),
            Stopped::Reading(error) => format!("the dump broke off: {error}"),
            Stopped::Trouble(trouble) => format!("the dump is not whole: {trouble}"),
        };
        Failure::new(Exit::Failed, what)
            .and("take it again; the node may have been stopped, its log says more")
    }
}

/// Copies a dump line by line, and makes sure that it is whole.
fn copy(lines: &mut impl BufRead, out: &mut impl Write) -> Result<Tally, Stopped> {
    let mut tally = Tally::default();
    let bar = bar(0, "dump");
    let mut line = Vec::new();
    loop {
        line.clear();
        // What a node sends is no longer than what it holds.
        match lines.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return Err(Stopped::Reading(error)),
        }
        tally.add(&line).map_err(Stopped::Trouble)?;
        out.write_all(&line).map_err(Stopped::Writing)?;
        if tally.lines % 1_024 == 1 {
            bar.set_length(tally.expected.max(tally.lines));
            bar.set_position(tally.lines);
        }
    }
    out.flush().map_err(Stopped::Writing)?;
    bar.finish_and_clear();
    tally.end().map_err(Stopped::Trouble)?;
    Ok(tally)
}

/// A bar on stderr, where that is a terminal.
pub(super) fn bar(length: u64, doing: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let style = ProgressStyle::with_template("{msg:8} [{bar:40}] {percent:>3}%  {pos} of {len}, {per_sec}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.set_message(doing);
    bar
}

fn write_file(lines: &mut impl BufRead, path: &Path) -> Result<Tally, Failure> {
    let shown = path.display();
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        let file = OpenOptions::new().write(true).open(path);
        let mut file = file.map_err(|error| Stopped::Writing(error).failure(&shown))?;
        return pour(lines, &mut file, path).map_err(|stopped| stopped.failure(&shown));
    }
    // Where a link points is what is meant.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = target.clone().into_os_string();
    name.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(name);
    let written = write_part(lines, &part, path).and_then(|tally| {
        fs::rename(&part, &target).and_then(|()| sync_folder(&target)).map_err(Stopped::Writing)?;
        Ok(tally)
    });
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written.map_err(|stopped| stopped.failure(shown))
}

/// It may hold anybody's secrets, so it is for its owner alone.
fn write_part(lines: &mut impl BufRead, part: &Path, path: &Path) -> Result<Tally, Stopped> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part);
    let mut file = file.map_err(Stopped::Writing)?;
    let tally = pour(lines, &mut file, path)?;
    file.sync_all().map_err(Stopped::Writing)?;
    Ok(tally)
}

/// Writes a dump, compressed if the name says so.
fn pour(lines: &mut impl BufRead, file: &mut File, path: &Path) -> Result<Tally, Stopped> {
    let mut file = BufWriter::with_capacity(AHEAD_BYTES, file);
    let tally = if path.extension().is_some_and(|extension| extension == "zst") {
        let mut encoder = zstd::Encoder::new(&mut file, ZSTD_LEVEL).map_err(Stopped::Writing)?;
        encoder.include_checksum(true).map_err(Stopped::Writing)?;
        let tally = copy(lines, &mut encoder)?;
        encoder.finish().map_err(Stopped::Writing)?;
        tally
    } else {
        copy(lines, &mut file)?
    };
    file.flush().map_err(Stopped::Writing)?;
    Ok(tally)
}

/// A file that was renamed has its new name for good once its folder is synced.
fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// What can be read of a dump: the lines themselves, or what is pressed into zstd, which shows by its first
/// bytes.
pub(super) fn open_lines<'r>(reader: impl Read + 'r) -> io::Result<Box<dyn BufRead + 'r>> {
    const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let mut reader = BufReader::with_capacity(AHEAD_BYTES, reader);
    let mut first = Vec::new();
    (&mut reader).take(ZSTD.len() as u64).read_to_end(&mut first)?;
    let is_zstd = first == ZSTD;
    let whole = io::Cursor::new(first).chain(reader);
    match is_zstd {
        true => {
            let decoder = zstd::Decoder::with_buffer(whole)?;
            Ok(Box::new(BufReader::with_capacity(AHEAD_BYTES, decoder)))
        }
        false => Ok(Box::new(whole)),
    }
}
