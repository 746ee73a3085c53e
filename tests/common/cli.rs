//! The program as a person or a script calls it: arguments, environment and stdin in; stdout, stderr and
//! the exit code out.

use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

use super::node::{Node, binary};
use super::token;

/// A call that has not been made yet.
pub struct Call {
    command: Command,
    stdin: Vec<u8>,
}

/// What came of a call.
#[derive(Debug)]
pub struct Came {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// A call with these arguments, without this process's `LUCID_*` and without a configuration file.
pub fn call(arguments: &[&str]) -> Call {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LUCID_")) {
        command.env_remove(name);
    }
    command.args(arguments).env("HOME", "/nonexistent").current_dir("/");
    Call { command, stdin: Vec::new() }
}

/// A call to a node, with a token for everything.
pub fn call_to(node: &Node, arguments: &[&str]) -> Call {
    call(arguments).variable("LUCID_URL", &url(node)).variable("LUCID_TOKEN", &token::root())
}

/// Where a node listens.
pub fn url(node: &Node) -> String {
    format!("http://{}", node.address())
}

impl Call {
    /// Sets a variable.
    pub fn variable(mut self, name: &str, value: &str) -> Call {
        self.command.env(name, value);
        self
    }

    /// Adds an argument that need not be text.
    pub fn argument(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Call {
        self.command.arg(argument);
        self
    }

    /// Runs within a folder.
    pub fn within(mut self, folder: &std::path::Path) -> Call {
        self.command.current_dir(folder);
        self
    }

    /// Gives it something to read.
    pub fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Call {
        self.stdin = bytes.as_ref().to_vec();
        self
    }

    /// The command itself, for a test that runs it otherwise.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Makes the call and waits for its end.
    #[track_caller]
    pub fn run(mut self) -> Came {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        let bytes = std::mem::take(&mut self.stdin);
        let writer = std::thread::spawn(move || match stdin.write_all(&bytes) {
            // Whoever has no use for it does not read it.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => panic!("cannot write: {error}"),
            _ => {}
        });
        let output = child.wait_with_output().expect("a child");
        writer.join().expect("no panic");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!stderr.contains("panicked"), "{stderr}");
        for line in stderr.lines() {
            assert!(line.starts_with("lucid: "), "a line without its beginning: {line:?}");
        }
        assert!(!stderr.contains('\u{1b}'), "colour outside a terminal");
        Came { code: output.status.code(), stdout: output.stdout, stderr }
    }

    /// Makes the call, which is expected to succeed without a word on stderr, and gives its stdout.
    #[track_caller]
    pub fn said(self) -> String {
        let came = self.run();
        assert_eq!((came.code, came.stderr.as_str()), (Some(0), ""), "{}", came.text());
        came.text()
    }

    /// Makes the call, which is expected to fail with this code and nothing on stdout, and gives its
    /// stderr.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        let came = self.run();
        assert_eq!((came.code, came.text().as_str()), (Some(code), ""), "{}", came.stderr);
        came.stderr
    }
}

impl Came {
    /// Stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}
