//! What was typed: the texts of the file, the environment and the command line, one over the other,
//! each with its origin. Nothing here knows what a text means.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use super::file::{FILE_BYTES_MAX, Member, Node, Placed, parse};
use super::keys::{KEYS, Key, Shape, sections};
use super::problem::{Origin, Place, Problem, escaped, nearest, suggestion};
use super::value::{boolean, word};

/// How long a pipe may say nothing. Longer than what fetches a secret takes; forever would be a node that
/// neither starts nor says why.
const PIPE_SECONDS_MAX: i64 = 5;

/// Variables with our prefix that are no settings: they belong to the client verbs.
const OTHER_VARIABLES: [&str; 4] = ["LUCID_URL", "LUCID_TOKEN", "LUCID_TOKEN_FILE", "LUCID_NEW_PRIVATE_KEY"];

/// What an output of the log may say when it is written as a section.
const OUTPUT_KEYS: [&str; 3] = ["type", "path", "colored"];

/// Short for the variable of `logging.level`, which wins over it.
const LOG_VARIABLE: &str = "LUCID_LOG";

/// The texts of all settings that were given one.
#[derive(Debug, Default)]
pub struct Typed {
    values: BTreeMap<&'static str, (Vec<String>, Origin)>,
    problems: Vec<Problem>,
    /// One of the problems is that the system does not let us read something.
    denied: bool,
}

impl Typed {
    /// The texts of a setting and where they come from. One text unless the setting is a list.
    pub fn get(&self, path: &str) -> Option<(&[String], &Origin)> {
        self.values.get(path).map(|(texts, origin)| (texts.as_slice(), origin))
    }

    /// Lays the text of a file over what there is.
    pub fn add_file(&mut self, path: &Path, source: &str) {
        let mut reading = FileReading { typed: self, path: Arc::from(path) };
        match parse(source) {
            Ok(Node::Null) => {}
            Ok(Node::Map(members)) => {
                reading.once(members).into_iter().for_each(|section| reading.section(section));
            }
            Ok(Node::Text(_) | Node::List(_)) => {
                self.problems.push(Problem::at(path.display(), "expected sections such as `general:`"));
            }
            Err((place, what)) => {
                let origin = place.map(|place| reading.origin(place));
                let at = origin.map_or_else(|| path.display().to_string(), |origin| origin.to_string());
                self.problems.push(Problem::at(at, what));
            }
        }
    }

    /// Lays the environment over what there is.
    pub fn add_environment(&mut self, variables: &[(OsString, OsString)]) {
        let mut given: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in variables {
            let name = name.to_string_lossy();
            if !name.starts_with("LUCID_") || OTHER_VARIABLES.contains(&name.as_ref()) {
                continue;
            }
            match value.to_str() {
                Some(value) => drop(given.insert(name.into_owned(), value.to_owned())),
                None => {
                    let problem = Problem::at(escaped(&name), "this variable is not UTF-8 text");
                    self.refuse(problem.with_path(name), false);
                }
            }
        }
        let level = given.remove(LOG_VARIABLE);
        if let Some(level) = level {
            self.put("logging.level", vec![level], Origin::Variable(LOG_VARIABLE.into()));
        }
        for key in KEYS {
            let variable = key.variable();
            let file_variable = format!("{variable}_FILE");
            match (given.remove(&variable), given.remove(&file_variable)) {
                (Some(_), Some(_)) => {
                    let what = format!("set together with {file_variable}; keep one of the two");
                    self.refuse(Problem::at(&variable, what).with_path(key.path), false);
                }
                (Some(text), None) => self.put_text(key, text, Origin::Variable(variable)),
                (None, Some(path)) => self.add_variable_file(key, file_variable, PathBuf::from(path)),
                (None, None) => {}
            }
        }
        given.retain(|name, value| !is_service_link(name, value));
        self.problems.extend(given.into_keys().map(|name| unknown_variable(&name)));
    }

    /// Lays a flag of the command line over what there is.
    pub fn add_flag(&mut self, path: &'static str, text: String, flag: &'static str) {
        self.put(path, vec![text], Origin::Flag(flag));
    }

    /// Notes that a source as a whole cannot be used.
    pub fn refuse(&mut self, problem: Problem, denied: bool) {
        self.problems.push(problem);
        self.denied |= denied;
    }

    /// What is wrong with what was typed, and whether the system denied a part of it.
    pub fn take_problems(&mut self) -> (Vec<Problem>, bool) {
        (std::mem::take(&mut self.problems), self.denied)
    }

    fn add_variable_file(&mut self, key: &'static Key, variable: String, path: PathBuf) {
        match read_text(&path) {
            Ok(mut text) => {
                // The line end that every editor leaves is not part of a secret.
                if text.ends_with('\n') {
                    text.pop();
                    text.truncate(text.trim_end_matches('\r').len());
                }
                self.put_text(key, text, Origin::VariableFile(variable, path));
            }
            Err(ReadError::Denied) => {
                let problem = Problem::at(
                    Origin::VariableFile(variable, path),
                    "this process may not read the file; give it to the user that runs Lucid",
                );
                self.refuse(problem.with_path(key.path), true);
            }
            Err(error) => {
                let problem = Problem::at(Origin::VariableFile(variable, path), error.what());
                self.refuse(problem.with_path(key.path), false);
            }
        }
    }

    fn put_text(&mut self, key: &'static Key, text: String, origin: Origin) {
        let texts = match key.shape {
            Shape::One => vec![text],
            Shape::List | Shape::Outputs => split(&text),
        };
        self.put(key.path, texts, origin);
    }

    fn put(&mut self, path: &'static str, texts: Vec<String>, origin: Origin) {
        self.values.insert(path, (texts, origin));
    }
}

/// A walk over the nodes of one file.
struct FileReading<'t> {
    typed: &'t mut Typed,
    path: Arc<Path>,
}

impl FileReading<'_> {
    fn origin(&self, place: Place) -> Origin {
        Origin::File(self.path.clone(), place)
    }

    fn refuse(&mut self, place: Place, path: &str, what: impl Into<String>) {
        let problem = Problem::of(&self.origin(place), &escaped(path), what);
        self.typed.problems.push(problem);
    }

    /// The members of a mapping without those that repeat another.
    fn once(&mut self, members: Vec<Member>) -> Vec<Member> {
        let mut seen = BTreeMap::new();
        let mut kept = Vec::with_capacity(members.len());
        for member in members {
            match seen.get(&member.key) {
                None => {
                    seen.insert(member.key.clone(), member.place.line);
                    kept.push(member);
                }
                Some(line) => {
                    let key = escaped(&member.key);
                    let what = format!("`{key}` is given twice, first in line {line}; keep one");
                    let problem = Problem::at(self.origin(member.place), what);
                    self.typed.refuse(problem.with_path(member.key), false);
                }
            }
        }
        kept
    }

    fn section(&mut self, section: Member) {
        if !sections().any(|name| name == section.key) {
            let what = unknown_section(&section.key);
            return self.refuse(section.place, &section.key, what);
        }
        match section.value.node {
            Node::Null => {}
            Node::Map(keys) => {
                self.once(keys).into_iter().for_each(|key| self.key(&section.key, key));
            }
            Node::Text(_) | Node::List(_) => {
                let what = "expected settings below this section, each on a line of its own and indented";
                self.refuse(section.value.place, &section.key, what);
            }
        }
    }

    fn key(&mut self, section: &str, member: Member) {
        let path = format!("{section}.{}", member.key);
        let Some(key) = Key::find(&path) else {
            let what = unknown_key(section, &member.key);
            return self.refuse(member.place, &path, what);
        };
        let place = member.value.place;
        let texts = match (key.shape, member.value.node) {
            (_, Node::Null) => None,
            (Shape::One, Node::Text(text)) => Some(vec![text]),
            (Shape::List | Shape::Outputs, Node::Text(text)) => Some(split(&text)),
            (shape @ (Shape::List | Shape::Outputs), Node::List(nodes)) => {
                let texts: Vec<_> =
                    nodes.into_iter().filter_map(|node| self.member(key.path, shape, node)).collect();
                Some(texts)
            }
            (shape, _) => {
                let what = if shape == Shape::One { "expected a single value" } else { "expected a list" };
                return self.refuse(place, &path, what);
            }
        };
        if let Some(texts) = texts {
            let origin = self.origin(place);
            self.typed.put(key.path, texts, origin);
        }
    }

    /// The text of a list's member.
    fn member(&mut self, path: &str, shape: Shape, member: Placed) -> Option<String> {
        match member.node {
            Node::Text(text) => Some(text),
            Node::Map(members) if shape == Shape::Outputs => self.output(path, member.place, members),
            _ => {
                self.refuse(member.place, path, "expected a single value as the member of this list");
                None
            }
        }
    }

    /// The short form of an output that is written as a section, as the original's files do.
    fn output(&mut self, path: &str, place: Place, members: Vec<Member>) -> Option<String> {
        let (mut kind, mut target, mut colored, mut wrong) = (None, None, false, false);
        for member in self.once(members) {
            let path = format!("{path}.{}", member.key);
            if !OUTPUT_KEYS.contains(&member.key.as_str()) {
                let near = nearest(&member.key, OUTPUT_KEYS);
                self.refuse(member.place, &path, format!("no such setting{}", suggestion(near)));
                continue;
            }
            let text = match member.value.node {
                Node::Text(text) => text,
                Node::Null => continue,
                _ => {
                    self.refuse(member.value.place, &path, "expected a single value");
                    continue;
                }
            };
            let result = match member.key.as_str() {
                "type" => word(&text, &["stderr", "stdout", "file"]).map(|word| kind = Some(word)),
                "colored" => boolean(&text).map(|on| colored = on),
                _ => {
                    target = Some(text);
                    Ok(())
                }
            };
            if let Err(what) = result {
                self.refuse(member.value.place, &path, what);
                wrong = true;
            }
        }
        match (kind, target) {
            _ if wrong => None,
            (Some("file"), Some(target)) => Some(format!("file:{target}")),
            (Some("file"), None) => {
                self.refuse(place, path, "an output of type file needs a path");
                None
            }
            (Some(stream), _) if colored => Some(format!("{stream}:colored")),
            (Some(stream), _) => Some(stream.to_owned()),
            (None, _) => {
                self.refuse(place, path, "an output needs a type: stderr, stdout or file");
                None
            }
        }
    }
}

/// Why a file could not be read.
pub enum ReadError {
    /// It is not there.
    Absent,
    /// The system does not allow it.
    Denied,
    /// Anything else, said in words.
    Other(String),
}

impl ReadError {
    fn what(&self) -> String {
        match self {
            ReadError::Absent => "no such file".into(),
            ReadError::Denied => "permission denied".into(),
            ReadError::Other(what) => what.clone(),
        }
    }
}

/// Reads a text file of bounded size.
pub fn read_text(path: &Path) -> Result<String, ReadError> {
    let bytes = match read_bytes(path) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(ReadError::Absent);
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(ReadError::Denied),
        Err(error) if error.kind() == ErrorKind::IsADirectory => {
            return Err(ReadError::Other(
                "this is a folder, not a file. (Docker makes one when the file to mount is not there.)"
                    .into(),
            ));
        }
        Err(error) if error.kind() == ErrorKind::TimedOut => {
            return Err(ReadError::Other(format!(
                "this is a pipe, and nobody has written to it for {PIPE_SECONDS_MAX} s; name a file, or start \
                 the writer"
            )));
        }
        Err(error) => return Err(ReadError::Other(format!("cannot be read: {error}"))),
    };
    if bytes.len() > FILE_BYTES_MAX {
        return Err(ReadError::Other(format!(
            "larger than {} KiB; is this the right file?",
            FILE_BYTES_MAX / 1_024
        )));
    }
    String::from_utf8(bytes).map_err(|_| ReadError::Other("not UTF-8 text; is this the right file?".into()))
}

/// The bytes of a file, or of a pipe such as `-c <(decrypt lucid.yml)` once its writer has closed it.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    // Or a pipe that nobody writes to would keep us from even opening it.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        // Read too early, it would seem to be at its end.
        wait(&file)?;
    }
    let (mut bytes, mut bounded) = (Vec::new(), file.take(FILE_BYTES_MAX as u64 + 1));
    loop {
        match bounded.read_to_end(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait(bounded.get_ref())?,
            read => return read.map(|_| bytes),
        }
    }
}

/// Waits until there is something to read.
fn wait(file: &File) -> io::Result<()> {
    let patience = Timespec { tv_sec: PIPE_SECONDS_MAX, tv_nsec: 0 };
    match poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&patience)) {
        Ok(0) => Err(ErrorKind::TimedOut.into()),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The members of a list that is written in one line.
fn split(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|member| !member.is_empty()).map(str::to_owned).collect()
}

fn unknown_section(typed: &str) -> String {
    let misplaced = KEYS.iter().find(|key| key.name() == typed).map(|key| key.path);
    format!("no such section{}", suggestion(misplaced.or_else(|| nearest(typed, sections()))))
}

/// A mistyped name in the right section, or the right name in another section.
fn unknown_key(section: &str, typed: &str) -> String {
    let here = KEYS.iter().filter(|key| key.section() == section);
    let name = nearest(typed, here.map(Key::name)).map(|name| format!("{section}.{name}"));
    let elsewhere = || KEYS.iter().find(|key| key.name() == typed).map(|key| key.path.to_owned());
    format!("no such setting{}", suggestion(name.or_else(elsewhere).as_deref()))
}

fn unknown_variable(name: &str) -> Problem {
    let names: Vec<String> =
        KEYS.iter().map(Key::variable).flat_map(|name| [format!("{name}_FILE"), name]).collect();
    let near = nearest(name, names.iter().map(String::as_str));
    Problem::at(escaped(name), format!("no such setting{}", suggestion(near))).with_path(name)
}

/// Variables that Kubernetes and Docker set by themselves in every container next to a service whose
/// name begins with `lucid`, such as `LUCID_SERVICE_HOST` and `LUCID_PORT=tcp://10.0.0.1:7020`.
fn is_service_link(name: &str, value: &str) -> bool {
    let address = value.starts_with("tcp://") || value.starts_with("udp://");
    let of_port = name.rsplit_once("_PORT_").is_some_and(|(_, rest)| {
        let number = rest.split('_').next().unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    !name.contains("__")
        && (name.ends_with("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT")
            || of_port
            || (name.ends_with("_PORT") && address))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use super::{Typed, is_service_link};
    use crate::config::problem::Origin;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn flags_lie_over_the_environment_and_that_over_the_file() {
        let mut typed = Typed::default();
        typed
            .add_file(Path::new("lucid.yml"), "general:\n  port: 1\n  port_ssl: 1\nruntime:\n  workers: 1\n");
        typed.add_environment(&variables(&[("LUCID_GENERAL__PORT", "2"), ("LUCID_GENERAL__PORT_SSL", "2")]));
        typed.add_flag("general.port", "3".into(), "--port");
        let value = |path| typed.get(path).map(|(texts, origin)| (texts[0].clone(), origin.to_string()));
        assert_eq!(value("general.port"), Some(("3".into(), "--port".into())));
        assert_eq!(
            value("general.port_ssl"),
            Some(("2".into(), "environment LUCID_GENERAL__PORT_SSL".into()))
        );
        assert_eq!(value("runtime.workers"), Some(("1".into(), "lucid.yml:5:12".into())));
        assert_eq!(value("runtime.pin_cores"), None);
    }

    #[test]
    fn a_variable_may_name_a_file_and_the_last_line_end_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        for (written, read) in
            [("hush\n", "hush"), ("hush\r\n", "hush"), ("hush", "hush"), (" hush\n\n", " hush\n"), ("\n", "")]
        {
            let path = folder.path().join("secret");
            std::fs::write(&path, written).unwrap();
            let mut typed = Typed::default();
            typed.add_environment(&variables(&[(
                "LUCID_AUTHENTICATION__SECRET_KEY_FILE",
                path.to_str().unwrap(),
            )]));
            let (texts, origin) = typed.get("authentication.secret_key").unwrap();
            assert_eq!(texts, [read]);
            assert_eq!(
                *origin,
                Origin::VariableFile("LUCID_AUTHENTICATION__SECRET_KEY_FILE".into(), path.clone())
            );
        }
    }

    #[test]
    fn outputs_of_the_original_become_short_forms() {
        let mut typed = Typed::default();
        let source = "logging:\n  outputs:\n    - type: stderr\n      colored: true\n    - {type: FILE, path: /l.log}\n    - stdout\n";
        typed.add_file(Path::new("lucid.yml"), source);
        assert_eq!(typed.get("logging.outputs").unwrap().0, ["stderr:colored", "file:/l.log", "stdout"]);
        assert!(typed.problems.is_empty());
    }

    #[test]
    fn lists_are_written_in_lines_or_with_commas() {
        for source in ["http: {cors_origins: [a, b]}", "http:\n  cors_origins: a , b,\n"] {
            let mut typed = Typed::default();
            typed.add_file(Path::new("lucid.yml"), source);
            assert_eq!(typed.get("http.cors_origins").unwrap().0, ["a", "b"], "{source}");
        }
    }

    #[test]
    fn variables_that_an_orchestrator_sets_are_not_ours() {
        for (name, value) in [
            ("LUCID_SERVICE_HOST", "10.0.0.1"),
            ("LUCID_SERVICE_PORT", "7020"),
            ("LUCID_SERVICE_PORT_HTTP", "7020"),
            ("LUCID_PORT", "tcp://10.0.0.1:7020"),
            ("LUCID_PORT_7020_TCP", "tcp://10.0.0.1:7020"),
            ("LUCID_CACHE_PORT_7020_TCP_ADDR", "10.0.0.1"),
        ] {
            assert!(is_service_link(name, value), "{name}");
        }
        for (name, value) in [
            ("LUCID_PORT", "7020"),
            ("LUCID_GENERAL_PORT", "7020"),
            ("LUCID_GENERAL__PORT", "tcp://x"),
            ("LUCID_PORT_SSL", "1"),
        ] {
            assert!(!is_service_link(name, value), "{name}");
        }
    }
}
