//! What a node keeps on disk: where, how safely, and sealed with which key.

use std::path::PathBuf;

use super::problem::Problem;
use super::reader::Reader;
use super::settings::{Persistence, Snapshot, SyncMode};
use super::value::{boolean, word};

/// Persistence, if it is on, or else the snapshot, with the key of their encryption, if that is on.
pub fn durability(
    reader: &mut Reader<'_>,
    refusals: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) -> (Option<Persistence>, Option<Snapshot>) {
    let enabled = reader.one("persistence.enabled", false, boolean, bool::to_string);
    let location = reader.text("persistence.location");
    let parse = |text: &str| word(text, &["always", "everysec", "never"]);
    let sync = match reader.one("persistence.sync", "everysec", parse, |word| word.to_string()) {
        "always" => SyncMode::Always,
        "never" => SyncMode::Never,
        _ => SyncMode::EverySecond,
    };
    let encrypts = reader.one("encryption.enabled", false, boolean, bool::to_string);
    let private_key = reader.secret("encryption.private_key").filter(|_| encrypts);
    if encrypts && private_key.is_none() {
        refusals.push(reader.problem(
            "encryption.enabled",
            "encryption is on and there is no encryption.private_key; make one with `openssl rand -hex 32` and \
             keep a copy of it apart from this machine, since nothing can be read without it",
        ));
    }
    let snapshot = reader.optional("persistence.snapshot_on_exit", snapshot_file, |file| match file {
        Some(file) => file.display().to_string(),
        None => "false".into(),
    });
    let snapshot = snapshot.flatten();
    if enabled && snapshot.is_some() {
        warnings.push("persistence.snapshot_on_exit has no effect: persistence keeps everything".into());
    }
    if encrypts && !enabled && snapshot.is_none() {
        warnings.push("encryption.enabled has no effect: persistence is off, so nothing is written".into());
    }
    if !enabled {
        return (None, snapshot.map(|file| Snapshot { file, private_key }));
    }
    let Some(location) = location else {
        refusals.push(reader.problem(
            "persistence.enabled",
            "persistence is on and there is no persistence.location; name a folder of this machine that belongs \
             to the node alone, such as /var/lib/lucid",
        ));
        return (None, None);
    };
    (Some(Persistence { location: PathBuf::from(location), sync, private_key }), None)
}

/// A file, or `false` for none.
fn snapshot_file(text: &str) -> Result<Option<PathBuf>, String> {
    match boolean(text) {
        Ok(false) => Ok(None),
        Ok(true) => Err("expected the name of a file, such as /var/lib/lucid/snapshot, or false".into()),
        Err(_) if text.is_empty() => Ok(None),
        Err(_) => Ok(Some(PathBuf::from(text))),
    }
}
