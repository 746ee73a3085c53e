//! The verbs for the folder of a node that does not run: `recover`, `rekey`, and `key` and `app` with
//! `--stopped` or `--folder`.
//!
//! Keys of encryption come from files, the environment, the configuration or a prompt, never from the command
//! line, where every user of the machine could read them.

pub mod office;
mod prompt;
pub mod recover;
pub mod rekey;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use crate::cli::failure::{Exit, Failure};
use crate::cli::load_settings;
use crate::config::Settings;
use crate::journal::{MasterKey, OpenError};

/// Longest file that is read as a key.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1_024;

/// Where a node has its key, and where the environment does.
pub const KEY_VARIABLE: &str = "LUCID_ENCRYPTION__PRIVATE_KEY";

/// Which folder is worked on in the place of a running node.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "A node that is stopped")]
pub struct FolderArgs {
    /// Work on the folder that the configuration names, while no node runs on it
    #[arg(long, global = true)]
    pub stopped: bool,
    /// Work on this folder, while no node runs on it
    #[arg(long, global = true, value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

/// The key that the configuration has, file and environment together, if there is one.
fn configured_key(config: Option<&Path>) -> Result<Option<MasterKey>, Failure> {
    if let Some(text) = std::env::var_os(KEY_VARIABLE).filter(|text| !text.is_empty()) {
        return Ok(text.to_str().map(MasterKey::from_text));
    }
    if let Some(path) = std::env::var_os(format!("{KEY_VARIABLE}_FILE")).filter(|path| !path.is_empty()) {
        return key_of_file(Path::new(&path)).map(Some);
    }
    Ok(settings(config)?.and_then(|settings| key_of(&settings)))
}

/// The settings, if they can be read. What a server would refuse in them is none of these verbs' business.
fn settings(config: Option<&Path>) -> Result<Option<Settings>, Failure> {
    match load_settings(config, Vec::new(), true, false) {
        Ok(loaded) => Ok(Some(loaded.settings)),
        // The file was named, so it is meant.
        Err(failure) if config.is_some() => Err(failure),
        Err(_) => Ok(None),
    }
}

fn key_of(settings: &Settings) -> Option<MasterKey> {
    let persistence = settings.persistence.as_ref()?;
    persistence.private_key.as_ref().map(|key| MasterKey::from_text(key.expose()))
}

/// Reads a key: the text of the file without the line end that editors leave.
fn key_of_file(path: &Path) -> Result<MasterKey, Failure> {
    let shown = path.display();
    let mut text = Zeroizing::new(Vec::new());
    let read = File::open(path).and_then(|file| file.take(KEY_FILE_BYTES_MAX).read_to_end(&mut text));
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Failure::new(Exit::Failed, format!("the key file {shown} is not there")));
        }
        Err(error) => return Err(Failure::of_io(&error, format!("cannot read the key file {shown}"))),
        Ok(_) => {}
    }
    let text = std::str::from_utf8(&text).ok().map(|text| text.strip_suffix('\n').unwrap_or(text));
    match text.map(|text| text.strip_suffix('\r').unwrap_or(text)).filter(|text| !text.is_empty()) {
        Some(text) => Ok(MasterKey::from_text(text)),
        None => Err(Failure::new(Exit::Usage, format!("the key file {shown} holds no text"))),
    }
}

/// What it means that a folder cannot be worked on.
fn failure(folder: &Path, error: &OpenError) -> Failure {
    let shown = folder.display();
    match error {
        OpenError::Taken => {
            Failure::new(Exit::Conflict, format!("{shown}: a node runs on this folder")).and("stop it first")
        }
        OpenError::WrongKey => {
            Failure::new(Exit::Refused, format!("{shown}: the folder is encrypted with another key"))
        }
        OpenError::KeyMissing => {
            Failure::new(Exit::Refused, format!("{shown}: the folder is encrypted, and no key was given"))
                .and(format!("put it into a file and name that with --key-file, or into {KEY_VARIABLE}"))
        }
        OpenError::NotSealed => {
            Failure::new(Exit::Conflict, format!("{shown}: the folder is not encrypted, and a key was given"))
                .and("`lucid rekey` encrypts it")
        }
        OpenError::Io { what, error } => Failure::of_io(error, format!("{shown}: {what}")),
        error => Failure::new(Exit::Failed, format!("{shown}: {error}")),
    }
}

/// Makes sure that a folder is one of a node, so that none is made by a mistyped name.
fn must_be_a_folder(folder: &Path) -> Result<(), Failure> {
    if !folder.is_dir() {
        return Err(Failure::new(Exit::Failed, format!("{} is no folder", folder.display())));
    }
    let names = std::fs::read_dir(folder).map_err(|error| Failure::of_io(&error, folder.display()))?;
    let is_ours = |name: &str| name.starts_with("manifest") || name.starts_with("log-");
    match names.filter_map(Result::ok).any(|entry| entry.file_name().to_str().is_some_and(is_ours)) {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::Failed,
            format!("{} is no folder of a node: there is no manifest in it", folder.display()),
        )),
    }
}
