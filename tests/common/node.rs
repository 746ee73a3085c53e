//! A node as a child process, with a file of its own in a folder of its own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::Client;
use super::tls::Pair;
use super::{process, token};

/// How long a node may take to start or to end before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(30);

/// What runs a node so that it reads slowly what it has kept: in pieces of half a MiB, each of which takes a
/// fifth of a second. The tracer is a process beside it, so that the node has the number that the test knows.
pub const SLOW_READER: [&str; 10] = [
    "strace",
    "-D",
    "-f",
    "-qq",
    "-o",
    "/dev/null",
    "-e",
    "trace=pread64",
    "-e",
    "inject=pread64:delay_enter=200000",
];

/// What runs a node on a disk that takes a minute to make anything durable.
pub const HANGING_DISK: [&str; 10] = [
    "strace",
    "-D",
    "-f",
    "-qq",
    "-o",
    "/dev/null",
    "-e",
    "trace=fsync,fdatasync",
    "-e",
    "inject=fsync,fdatasync:delay_enter=60000000",
];

/// Whether nodes can be run like that.
pub fn can_trace() -> bool {
    let is_there = Command::new("strace").arg("-V").output().is_ok();
    if !is_there {
        println!("skipped: strace is not installed");
    }
    is_there
}

/// What a node is started with.
pub struct Setup {
    values: BTreeMap<&'static str, BTreeMap<&'static str, String>>,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    /// What a shell does before it becomes the node.
    before: Vec<String>,
    /// What runs the node in its turn.
    runner: Vec<&'static str>,
    files: Vec<(&'static str, String)>,
}

impl Setup {
    fn usual() -> Setup {
        let mut setup = Setup {
            values: BTreeMap::new(),
            flags: Vec::new(),
            environment: Vec::new(),
            before: Vec::new(),
            runner: Vec::new(),
            files: Vec::new(),
        };
        setup.set("general.port", 0);
        setup.set("general.bind_address", "127.0.0.1");
        setup.set("general.show_banner", false);
        setup.set("runtime.workers", 1);
        setup.set("authentication.secret_key", format!("\"{}\"", token::SECRET));
        setup.set("store.memory_limit", "256MiB");
        setup
    }

    /// Sets a key, named `section.key`, to a YAML value in the node's file.
    pub fn set(&mut self, name: &'static str, value: impl Display) -> &mut Setup {
        let (section, key) = name.split_once('.').expect("section.key");
        self.values.entry(section).or_default().insert(key, value.to_string());
        self
    }

    /// Leaves a key out of the node's file.
    pub fn unset(&mut self, name: &str) -> &mut Setup {
        let (section, key) = name.split_once('.').expect("section.key");
        if let Some(keys) = self.values.get_mut(section) {
            keys.remove(key);
        }
        self
    }

    /// Puts a file into the folder that the node runs in.
    pub fn place(&mut self, name: &'static str, text: impl Into<String>) -> &mut Setup {
        self.files.push((name, text.into()));
        self
    }

    /// Serves TLS with this pair, on a free port.
    pub fn tls(&mut self, pair: &Pair) -> &mut Setup {
        self.place("cert.pem", &*pair.certificate).place("key.pem", &*pair.key);
        self.set("general.use_ssl", true).set("general.port_ssl", 0);
        self.set("general.ssl_certificate", "cert.pem").set("general.ssl_certificate_key", "key.pem")
    }

    /// How many reactors serve.
    pub fn workers(&mut self, count: usize) -> &mut Setup {
        self.set("runtime.workers", count)
    }

    /// Adds a flag behind `server`.
    pub fn flag(&mut self, flag: impl Into<String>) -> &mut Setup {
        self.flags.push(flag.into());
        self
    }

    /// Sets a variable of the node's environment.
    pub fn variable(&mut self, name: &str, value: &str) -> &mut Setup {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Lets the node open this many descriptors at a time.
    pub fn descriptors(&mut self, count: u64) -> &mut Setup {
        self.before(format!("ulimit -n {count}"))
    }

    /// Bounds the node's address space, in bytes.
    pub fn address_space(&mut self, bytes: u64) -> &mut Setup {
        self.before(format!("ulimit -v {}", bytes / 1_024))
    }

    /// Has a shell do this before it becomes the node.
    pub fn before(&mut self, line: impl Into<String>) -> &mut Setup {
        self.before.push(line.into());
        self
    }

    /// Takes the right to bind low ports from a node that runs as root.
    pub fn unprivileged(&mut self) -> &mut Setup {
        self.runner = super::process::WITHOUT_CAPABILITIES.to_vec();
        self
    }

    /// Has these words run the node in their turn.
    pub fn runner(&mut self, words: &[&'static str]) -> &mut Setup {
        self.runner = words.to_vec();
        self
    }

    fn file(&self) -> String {
        let mut text = String::new();
        for (section, keys) in self.values.iter().filter(|(_, keys)| !keys.is_empty()) {
            text.push_str(&format!("{section}:\n"));
            for (key, value) in keys {
                text.push_str(&format!("  {key}: {value}\n"));
            }
        }
        text
    }

    fn spawn(&self) -> (tempfile::TempDir, Running) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("node.yml");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .expect("a new file");
        file.write_all(self.file().as_bytes()).expect("room for a file");
        for (name, text) in &self.files {
            std::fs::write(folder.path().join(name), text).expect("room for a file");
        }
        let mut line = self.before.join(" && ");
        line.push_str(if line.is_empty() { "exec \"$0\" \"$@\"" } else { " && exec \"$0\" \"$@\"" });
        let mut words: Vec<OsString> = vec!["sh".into(), "-c".into(), line.into()];
        words.extend(self.runner.iter().map(OsString::from));
        words.push(binary().into());
        let words = if self.before.is_empty() { &words[3..] } else { &words[..] };
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.arg("-c").arg(&path).arg("server").args(&self.flags);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let running = Running::spawn(command, &folder);
        (folder, running)
    }
}

/// The program under test.
pub fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_lucid"))
}

/// A child with its output being read.
pub struct Running {
    child: Mutex<Child>,
    lines: Mutex<Receiver<String>>,
    stderr: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts a command within `folder`, which is also its home, without this process's `LUCID_*`.
    pub fn spawn(mut command: Command, folder: &tempfile::TempDir) -> Running {
        command.stdin(Stdio::null());
        Running::spawn_with_stdin(command, folder)
    }

    /// The same with the standard input that the command names.
    pub fn spawn_with_stdin(command: Command, folder: &tempfile::TempDir) -> Running {
        Running::spawn_whole(command, folder, Stdio::piped())
    }

    /// The same with a standard error that nobody reads here.
    pub fn spawn_with_stderr(mut command: Command, folder: &tempfile::TempDir, stderr: Stdio) -> Running {
        command.stdin(Stdio::null());
        Running::spawn_whole(command, folder, stderr)
    }

    fn spawn_whole(mut command: Command, folder: &tempfile::TempDir, stderr: Stdio) -> Running {
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LUCID_")) {
            command.env_remove(name);
        }
        let mut child = command
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the program starts");
        // The command holds what it was given; only the child is to hold it.
        drop(command);
        let stdout = child.stdout.take().expect("a pipe");
        let errors = child.stderr.take();
        let (sender, lines) = channel();
        let stderr = Arc::new(Mutex::new(String::new()));
        let collected = Arc::clone(&stderr);
        let readers = vec![
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            }),
            std::thread::spawn(move || {
                let Some(mut errors) = errors else { return };
                let mut block = [0; 4096];
                while let Ok(count @ 1..) = errors.read(&mut block) {
                    collected.lock().expect("no panic").push_str(&String::from_utf8_lossy(&block[..count]));
                }
            }),
        ];
        Running { child: Mutex::new(child), lines: Mutex::new(lines), stderr, readers }
    }

    /// Waits for a line of stdout that has this in it.
    pub fn line_with(&mut self, wanted: &str) -> Result<String, String> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = String::new();
        loop {
            match self.next_line(deadline) {
                Ok(line) if line.contains(wanted) => return Ok(line),
                Ok(line) => seen.push_str(&format!("{line}\n")),
                Err(trouble) => {
                    let what = match trouble {
                        RecvTimeoutError::Timeout => "hangs",
                        RecvTimeoutError::Disconnected => "has ended",
                    };
                    let stderr = self.stderr();
                    return Err(format!(
                        "no line with {wanted:?}: the program {what}\nstdout: {seen}\nstderr: {stderr}"
                    ));
                }
            }
        }
    }

    fn next_line(&self, deadline: Instant) -> Result<String, RecvTimeoutError> {
        let lines = self.lines.lock().expect("no panic");
        lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// Whether the program still runs.
    pub fn alive(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }

    /// Waits until it has written this to stderr.
    #[track_caller]
    pub fn wait_for_stderr(&self, text: &str) {
        let began = Instant::now();
        while !self.stderr().contains(text) {
            assert!(began.elapsed() < PATIENCE, "no {text:?} in {}", self.stderr());
            std::thread::yield_now();
        }
    }

    /// What has come on stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("no panic").clone()
    }

    /// Waits for the program to end by itself; the rest of its stdout comes along.
    #[track_caller]
    pub fn wait(&mut self, patience: Duration) -> (ExitStatus, String) {
        let deadline = Instant::now() + patience;
        let mut stdout = String::new();
        loop {
            match self.next_line(deadline) {
                Ok(line) => stdout.push_str(&format!("{line}\n")),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("still running after {patience:?}; stderr: {}", self.stderr())
                }
            }
        }
        let status = self.child().wait().expect("a child");
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        (status, stdout)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child().kill();
        let _ = self.child().wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

/// How a program that ended by itself ended.
pub struct Ended {
    /// Its exit code; `None` after a signal.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// A node that serves.
pub struct Node {
    running: Running,
    folder: tempfile::TempDir,
    address: SocketAddr,
    tls_address: Option<SocketAddr>,
    listening: String,
    ended: bool,
}

impl Node {
    /// Starts a node with one worker, a secret of its own and a memory limit of 256 MiB, but for what
    /// `change` says, and waits until it listens.
    pub fn start(change: impl FnOnce(&mut Setup)) -> Node {
        let mut setup = Setup::usual();
        change(&mut setup);
        let (folder, mut running) = setup.spawn();
        let line = running
            .line_with("listening on http://")
            .unwrap_or_else(|trouble| panic!("{trouble}\nfile:\n{}", setup.file()));
        let address = line.split("listening on http://").nth(1).expect("just found");
        let address = address.split_whitespace().next().unwrap_or_default().trim_end_matches('/');
        let address = address.parse().unwrap_or_else(|_| panic!("no address in {line:?}"));
        let tls_address = setup.files.iter().any(|(name, _)| *name == "cert.pem").then(|| {
            let line =
                running.line_with("listening on https://").unwrap_or_else(|trouble| panic!("{trouble}"));
            let address = line.split("listening on https://").nth(1).expect("just found");
            address.trim().parse().unwrap_or_else(|_| panic!("no address in {line:?}"))
        });
        Node { running, folder, address, tls_address, listening: line, ended: false }
    }

    /// Starts a node that is expected to refuse its service.
    pub fn start_in_vain(change: impl FnOnce(&mut Setup)) -> Ended {
        let mut setup = Setup::usual();
        change(&mut setup);
        let (_folder, mut running) = setup.spawn();
        let (status, stdout) = running.wait(PATIENCE);
        Ended { code: status.code(), stdout, stderr: running.stderr() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it serves TLS.
    pub fn tls_address(&self) -> SocketAddr {
        self.tls_address.expect("a node with TLS")
    }

    /// Ends what runs a node slowly: it does not notice that who it holds up has gone.
    pub fn end_tracer(&self) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a process");
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:")).expect("a line");
        let tracer = tracer.trim().parse().expect("a number");
        process::send_signal(tracer, rustix::process::Signal::KILL);
    }

    /// Waits until it has written this to stderr so many times.
    #[track_caller]
    pub fn wait_for_stderr(&self, text: &str, times: usize) {
        let began = Instant::now();
        while self.stderr().matches(text).count() < times {
            assert!(began.elapsed() < PATIENCE, "no {text:?} in {}", self.stderr());
            std::thread::yield_now();
        }
    }

    /// The line that said where.
    pub fn listening_line(&self) -> &str {
        &self.listening
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.running.child().id()
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.running.stderr()
    }

    /// Waits for a line on its stdout that has this in it.
    #[track_caller]
    pub fn says(&mut self, wanted: &str) -> String {
        self.running.line_with(wanted).unwrap_or_else(|trouble| panic!("{trouble}"))
    }

    /// Its working folder, with its file `node.yml`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Gives it another file, for its next reload.
    pub fn rewrite(&self, text: &str) {
        std::fs::write(self.folder().join("node.yml"), text).expect("room for a file");
    }

    /// A new connection that presents a token for everything.
    pub fn client(&self) -> Client {
        self.stranger().with_token(&token::root())
    }

    /// A new connection that presents nothing.
    pub fn stranger(&self) -> Client {
        Client::connect(self.address)
    }

    /// Sends the node a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        process::send_signal(self.pid(), signal);
    }

    /// Waits for the node to end by itself.
    #[track_caller]
    pub fn wait(&mut self, patience: Duration) -> Ended {
        let (status, stdout) = self.running.wait(patience);
        self.ended = true;
        Ended { code: status.code(), stdout, stderr: self.running.stderr() }
    }

    /// That the same process is alive, has not panicked, and serves a new connection.
    #[track_caller]
    pub fn assert_well(&self) {
        assert!(self.running.alive(), "the node has ended: {}", self.stderr());
        assert!(!self.stderr().contains("panicked"), "{}", self.stderr());
        let mut client = self.client();
        let path = super::kv(format!("well-{}", self.pid()));
        let put = client.put(&path, "alive");
        assert!(put.status == 200 || put.status == 201, "{put}");
        assert_eq!(client.get(&path).expect(200).body, b"alive");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let alive = self.running.alive();
        let stderr = self.stderr();
        if std::thread::panicking() {
            println!("the node's stderr: {stderr}");
        } else {
            assert!(alive || self.ended, "the node has ended by itself: {stderr}");
            assert!(!stderr.contains("panicked"), "the node has panicked: {stderr}");
        }
    }
}

/// A node that the tests of a file share. It ends with the last test that holds it.
pub struct Shared(Mutex<Weak<Node>>);

impl Shared {
    /// No node yet.
    #[allow(clippy::new_without_default)] // only ever a static
    pub const fn new() -> Shared {
        Shared(Mutex::new(Weak::new()))
    }

    /// The node that runs, or a new one.
    pub fn node(&self, change: impl FnOnce(&mut Setup)) -> Arc<Node> {
        let mut shared = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        shared.upgrade().unwrap_or_else(|| {
            let node = Arc::new(Node::start(change));
            *shared = Arc::downgrade(&node);
            node
        })
    }
}
