//! How the program ends when it cannot do what it was asked.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use crate::config::problem::{LoadError, Problem, escaped};

/// The exit codes, after `sysexits.h` where that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Failed at run time.
    Failed = 1,
    /// Called in a way that has no meaning. clap ends with the same code.
    Usage = 2,
    /// The key is not there.
    Absent = 3,
    /// The node does not let this caller do it.
    Refused = 4,
    /// The key is locked, or not as a condition wants it.
    Conflict = 5,
    /// Cannot listen where it should.
    Unavailable = 69,
    /// The system does not allow it.
    Denied = 77,
    /// Bad configuration.
    Configuration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why the program ends: lines for the operator, and the exit code of their kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    exit: Exit,
    lines: Vec<String>,
}

impl Failure {
    /// One line that says what happened, to what, and what to do next.
    pub fn new(exit: Exit, line: impl Into<String>) -> Failure {
        Failure { exit, lines: vec![line.into()] }
    }

    /// A configuration that cannot be run with.
    pub fn configuration(problems: Vec<Problem>) -> Failure {
        Failure { exit: Exit::Configuration, lines: problems.iter().map(Problem::to_string).collect() }
    }

    /// Settings that could not be loaded.
    pub fn of_load(error: LoadError) -> Failure {
        let exit = if error.denied { Exit::Denied } else { Exit::Configuration };
        Failure { exit, ..Failure::configuration(error.problems) }
    }

    /// What the operator is told.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Something that the system does not allow.
    pub fn denied(line: impl Into<String>) -> Failure {
        Failure::new(Exit::Denied, line)
    }

    /// An operation on a file that failed.
    pub fn of_io(error: &io::Error, what: impl fmt::Display) -> Failure {
        let exit = if error.kind() == ErrorKind::PermissionDenied { Exit::Denied } else { Exit::Failed };
        Failure::new(exit, format!("{what}: {error}"))
    }

    /// Adds a line.
    pub fn and(mut self, line: impl Into<String>) -> Failure {
        self.lines.push(line.into());
        self
    }

    /// Tells the operator.
    pub fn report(&self) -> ExitCode {
        self.lines.iter().for_each(|line| tell(line));
        self.exit.into()
    }
}

/// Writes a line for the operator to stderr.
pub fn tell(line: &str) {
    // Nobody is left to be told if stderr is gone.
    let _ = writeln!(io::stderr().lock(), "lucid: {}", escaped(line));
}

/// Writes a text to stdout. A reader that has seen enough is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::of_io(&error, "cannot write to stdout"))
        }
        _ => Ok(()),
    }
}
