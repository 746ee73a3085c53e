//! What a running node takes on of a configuration that was read again, and what has to wait for a
//! restart.
//!
//! The settings of [`LIVE`] are in force as soon as the reactors have seen them. All others shape what
//! was made when the node started (threads, sockets, memory, keys), so the node goes on with what it has
//! and every reload says again that a restart is due.

use super::keys::Key;
use super::{Loaded, Settings};
use crate::constant_time;

/// The settings that a running node takes on.
pub const LIVE: [&str; 10] = [
    "store.default_ttl",
    "http.request_size_limit",
    "http.header_timeout",
    "http.idle_timeout",
    "http.max_connections",
    "http.cors_origins",
    "logging.level",
    "logging.outputs",
    "logging.format",
    "shutdown.grace",
];

/// A setting that is not what the node runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `http.idle_timeout`.
    pub path: &'static str,
    /// What the node has run on so far, masked if it is a secret.
    pub before: String,
    /// What it is to run on, masked if it is a secret.
    pub after: String,
    /// Whether it is in force without a restart.
    pub live: bool,
}

impl Loaded {
    /// Takes on what can be taken on, and says everything that differs, in the order of the file.
    pub fn adopt(&mut self, new: Loaded) -> Vec<Change> {
        let mut changes = Vec::new();
        for (old, new_line) in self.listing.iter_mut().zip(new.listing) {
            let path = old.path;
            let hidden = Key::find(path).is_some_and(|key| key.secret);
            let same = match hidden {
                true => same_secret(secret(&self.secrets, path), secret(&new.secrets, path)),
                false => old.value == new_line.value,
            };
            let live = LIVE.contains(&path);
            if !same {
                let (before, after) = (old.value.clone(), new_line.value.clone());
                changes.push(Change { path, before, after, live });
            }
            if live || same {
                *old = new_line;
            }
        }
        self.settings.adopt(&new.settings);
        changes
    }
}

impl Settings {
    /// Takes on the settings of [`LIVE`].
    fn adopt(&mut self, new: &Settings) {
        self.store.default_ttl_seconds = new.store.default_ttl_seconds;
        self.http = new.http.clone();
        self.logging = new.logging.clone();
        self.shutdown = new.shutdown.clone();
        self.warnings = new.warnings.clone();
    }
}

fn secret<'s>(secrets: &'s [(&'static str, super::Secret)], path: &str) -> &'s str {
    secrets.iter().find(|(name, _)| *name == path).map_or("", |(_, secret)| secret.expose())
}

fn same_secret(old: &str, new: &str) -> bool {
    constant_time::equal(old.as_bytes(), new.as_bytes())
}
