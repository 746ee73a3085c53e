//! The one table of settings: their names, and how each may be written.
//!
//! The file, the environment and `lucid settings` all go by it. A setting has no meaning here; that is
//! given where it is resolved, and a test holds the two together.

/// A setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// Section and name: `general.port`.
    pub path: &'static str,
    /// How it is written.
    pub shape: Shape,
    /// Whether its value must not be shown.
    pub secret: bool,
}

/// How a setting is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One text.
    One,
    /// A list of texts, or one text with commas.
    List,
    /// Like a list, whose members may also be sections `{type, path, colored}`.
    Outputs,
}

/// Every setting, in the order of the file.
pub const KEYS: &[Key] = &[
    one("general.bind_address"),
    one("general.port"),
    one("general.port_ssl"),
    one("general.use_ssl"),
    one("general.ssl_certificate"),
    one("general.ssl_certificate_key"),
    one("general.unix_socket"),
    one("general.show_banner"),
    one("runtime.workers"),
    one("runtime.pin_cores"),
    one("authentication.enabled"),
    secret("authentication.secret_key"),
    secret("authentication.previous_secret_key"),
    secret("authentication.root_token"),
    one("authentication.leeway"),
    one("authentication.require_exp"),
    one("authentication.allow_weak_secret"),
    one("authentication.anonymous_head"),
    list("authentication.local_uids"),
    one("store.memory_limit"),
    one("store.when_full"),
    one("store.max_limit"),
    one("store.default_ttl"),
    one("http.request_size_limit"),
    one("http.compression"),
    one("http.header_timeout"),
    one("http.idle_timeout"),
    one("http.max_connections"),
    list("http.cors_origins"),
    one("persistence.enabled"),
    one("persistence.location"),
    one("persistence.sync"),
    one("persistence.snapshot_on_exit"),
    one("encryption.enabled"),
    secret("encryption.private_key"),
    one("encryption.iv"),
    secret("databases.password"),
    secret("databases.password_hash"),
    list("databases.restricted"),
    one("sse.enabled"),
    one("webui.enabled"),
    one("logging.level"),
    Key { path: "logging.outputs", shape: Shape::Outputs, secret: false },
    one("logging.format"),
    one("shutdown.grace"),
];

const fn one(path: &'static str) -> Key {
    Key { path, shape: Shape::One, secret: false }
}

const fn secret(path: &'static str) -> Key {
    Key { path, shape: Shape::One, secret: true }
}

const fn list(path: &'static str) -> Key {
    Key { path, shape: Shape::List, secret: false }
}

impl Key {
    /// The setting with this path.
    pub fn find(path: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.path == path)
    }

    /// `general` of `general.port`.
    pub fn section(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(section, _)| section)
    }

    /// `port` of `general.port`.
    pub fn name(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(_, name)| name)
    }

    /// `LUCID_GENERAL__PORT`.
    pub fn variable(&self) -> String {
        format!("LUCID_{}", self.path.replace('.', "__").to_ascii_uppercase())
    }
}

/// The names of the sections, each once.
pub fn sections() -> impl Iterator<Item = &'static str> {
    let starts = |at: usize| at == 0 || KEYS[at - 1].section() != KEYS[at].section();
    (0..KEYS.len()).filter(move |at| starts(*at)).map(|at| KEYS[at].section())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{KEYS, sections};

    #[test]
    fn names_are_unique_and_sections_stand_together() {
        let paths: HashSet<_> = KEYS.iter().map(|key| key.path).collect();
        assert_eq!(paths.len(), KEYS.len());
        let names: HashSet<_> = sections().collect();
        assert_eq!(names.len(), sections().count());
        assert_eq!(names.len(), 12);
        // `X_FILE` names the file with the value of `X`, so no setting may end like that.
        assert!(KEYS.iter().all(|key| !key.path.ends_with("_file")));
    }
}
