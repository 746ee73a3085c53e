//! A folder that nodes keep their data in, one after the other.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Client, Node, Setup};

/// How long a node may take to bring back what it kept, or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is told to.
    Told,
    /// It is not asked.
    Killed,
}

/// A folder of a journal.
pub struct Folder {
    place: tempfile::TempDir,
    mode: &'static str,
    private_key: Option<String>,
}

impl Folder {
    /// An empty one, with this mode of syncing.
    pub fn new(mode: &'static str) -> Folder {
        Folder { place: tempfile::tempdir().expect("a temporary folder"), mode, private_key: None }
    }

    /// Sealed with this key.
    pub fn sealed(mut self, key: impl Into<String>) -> Folder {
        self.private_key = Some(key.into());
        self
    }

    /// Opened without a key.
    pub fn open(mut self) -> Folder {
        self.private_key = None;
        self
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.place.path().join("data")
    }

    /// Has a node keep its data here.
    pub fn settings(&self, setup: &mut Setup) {
        setup.set("persistence.enabled", true).set("persistence.sync", self.mode);
        setup.set("persistence.location", format!("\"{}\"", self.path().display()));
        if let Some(key) = &self.private_key {
            setup.set("encryption.enabled", true).set("encryption.private_key", format!("\"{key}\""));
        }
    }

    /// Starts a node that may not serve yet.
    pub fn start_early(&self, change: impl FnOnce(&mut Setup)) -> Node {
        Node::start(|setup| {
            self.settings(setup);
            change(setup);
        })
    }

    /// Starts a node and waits until it serves.
    #[track_caller]
    pub fn start(&self, workers: usize) -> Node {
        let node = self.start_early(|setup| {
            setup.workers(workers);
        });
        wait_until_ready(&node);
        node
    }

    /// Every file in it, as bytes.
    pub fn bytes(&self) -> Vec<(String, Vec<u8>)> {
        files(&self.path())
            .into_iter()
            .map(|path| (path.display().to_string(), std::fs::read(&path).expect("a file")))
            .collect()
    }
}

/// The files of a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()).collect()
}

/// Waits until a node serves.
#[track_caller]
pub fn wait_until_ready(node: &Node) {
    let began = Instant::now();
    let mut client = Client::connect(node.address());
    loop {
        let ready = client.get("/readyz");
        if ready.status == 200 {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "not ready: {ready}\n{}", node.stderr());
    }
}

/// Ends a node, and says what it wrote to stderr.
#[track_caller]
pub fn end(mut node: Node, how: End) -> String {
    node.signal(if how == End::Told { Signal::TERM } else { Signal::KILL });
    let ended = node.wait(PATIENCE);
    assert_eq!(ended.code, if how == End::Told { Some(0) } else { None }, "{}", ended.stderr);
    ended.stderr
}
