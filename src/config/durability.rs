//! What a node keeps on disk: where, how safely, and sealed with which key.

use std::path::PathBuf;

use super::problem::Problem;
use super::reader::Reader;
use super::settings::{Persistence, SyncMode};
use super::value::{boolean, word};

/// Persistence, if it is on, with the key of its encryption, if that is on.
pub fn persistence(
    reader: &mut Reader<'_>,
    refusals: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) -> Option<Persistence> {
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
    if encrypts && !enabled {
        warnings.push("encryption.enabled has no effect: persistence is off, so nothing is written".into());
    }
    if !enabled {
        return None;
    }
    let Some(location) = location else {
        refusals.push(reader.problem(
            "persistence.enabled",
            "persistence is on and there is no persistence.location; name a folder of this machine that belongs \
             to the node alone, such as /var/lib/lucid",
        ));
        return None;
    };
    Some(Persistence { location: PathBuf::from(location), sync, private_key })
}
