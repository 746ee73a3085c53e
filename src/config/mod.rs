//! The configuration: from what the operator typed to what the program runs on.
//!
//! [`load`] reads the first configuration file there is, lays the environment and the flags over it
//! (`typed`), and gives the texts their meaning (`resolve`). It finds as many problems as it can in
//! one run and names the place of each. It never writes a file, never logs, and never shows a secret.

mod doors;
mod durability;
mod file;
pub mod keys;
pub mod machine;
mod password_hash;
pub mod problem;
mod reader;
mod reload;
mod resolve;
pub mod safety;
mod secret;
mod settings;
mod typed;
pub mod value;

use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use machine::Machine;
pub use password_hash::{PasswordHash, SALT_BYTES};
use problem::{LoadError, Problem};
pub use reload::{Change, LIVE};
use resolve::{Resolved, Surroundings, resolve};
pub use secret::Secret;
pub use settings::{
    Authentication, DATABASE_ACTIONS, Databases, Format, General, Http, Logging, Output, Persistence,
    Runtime, Settings, Shown, Shutdown, Snapshot, Store, SyncMode, Tls, WhenFull,
};
use typed::{ReadError, Typed, read_text};

/// Where settings come from.
#[derive(Debug)]
pub struct Sources {
    /// The file of `--config`, which must be there.
    pub config: Option<PathBuf>,
    /// Files to look for otherwise. The first that is there is read.
    pub search: Vec<PathBuf>,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Flags that stand for settings: path, value, and the flag as it is typed.
    pub flags: Vec<(&'static str, String, &'static str)>,
    /// Whether `--insecure` was given.
    pub insecure: bool,
    /// The machine.
    pub machine: Machine,
    /// The secret to use if there is no file and nobody gave one.
    pub fresh_secret: Secret,
}

/// Settings, and what is to be said about them.
#[derive(Debug)]
pub struct Loaded {
    /// What the program runs on.
    pub settings: Settings,
    /// Every setting as `lucid settings` shows it.
    pub listing: Vec<Shown>,
    /// Why a server must not run with these settings.
    pub refusals: Vec<Problem>,
    /// What the listing hides.
    secrets: Vec<(&'static str, Secret)>,
}

/// Where configuration files are looked for, in this order.
pub fn search_paths(home: Option<&Path>) -> Vec<PathBuf> {
    let own = home.map(|home| home.join(".config/lucid/lucid.yml"));
    let paths = [Some(PathBuf::from("lucid.yml")), own, Some(PathBuf::from("/etc/lucid/lucid.yml"))];
    paths.into_iter().flatten().collect()
}

/// Loads the settings.
pub fn load(sources: Sources) -> Result<Loaded, LoadError> {
    let Sources { config, search, environment, flags, insecure, machine, fresh_secret } = sources;
    let mut typed = Typed::default();
    let file = find(config, search, &mut typed);
    if let Some((path, source)) = &file {
        typed.add_file(path, source);
    }
    typed.add_environment(&environment);
    for (path, text, flag) in flags {
        typed.add_flag(path, text, flag);
    }
    let (mut problems, denied) = typed.take_problems();
    let path = file.map(|(path, _)| path);
    let surroundings = Surroundings { file: path.clone(), machine, fresh_secret, insecure };
    let Resolved { mut settings, listing, secrets, problems: more, refusals } = resolve(&typed, surroundings);
    problems.extend(more);
    if !problems.is_empty() {
        // A refusal is worth telling too, unless it may have come of a default in a mistake's place.
        let spoilt = |cause: &str| problems.iter().any(|problem| problem.path.as_deref() == Some(cause));
        let whole = problems.iter().all(|problem| problem.path.is_some());
        let stands = |refusal: &Problem| {
            let path = refusal.path.as_deref().unwrap_or_default();
            whole && !safety::causes(path).iter().any(|cause| spoilt(cause))
        };
        let more: Vec<Problem> = refusals.into_iter().filter(stands).collect();
        problems.extend(more);
        return Err(LoadError { problems, denied });
    }
    settings.warnings.extend(path.as_deref().and_then(|path| readable_by_others(path, &settings)));
    Ok(Loaded { settings, listing, refusals, secrets })
}

/// The file to read, with its text. Notes why the one that should be read cannot be.
fn find(config: Option<PathBuf>, search: Vec<PathBuf>, typed: &mut Typed) -> Option<(PathBuf, String)> {
    let demanded = config.is_some();
    for path in config.map_or(search, |path| vec![path]) {
        let (what, denied) = match read_text(&path) {
            Ok(source) => return Some((path, source)),
            Err(ReadError::Absent) if !demanded => continue,
            // A home that this process may not look into, as under `sudo -u`, may as well be empty.
            Err(ReadError::Denied) if !demanded && path.metadata().is_err() => continue,
            Err(ReadError::Absent) => {
                let init = format!("`lucid -c {} init`", path.display());
                (format!("Configuration file not found. Write one with {init}"), false)
            }
            Err(ReadError::Denied) => {
                let what = "this process may not read the file; give it to the user that runs Lucid";
                (what.to_owned(), true)
            }
            Err(ReadError::Other(what)) => (what, false),
        };
        typed.refuse(Problem::at(path.display(), what), denied);
        return None;
    }
    None
}

/// A warning if the file lets others read the secret in use.
fn readable_by_others(path: &Path, settings: &Settings) -> Option<String> {
    let file = std::fs::metadata(path).ok()?;
    let mode = file.permissions().mode();
    // A group that this process is in was chosen: root:lucid, 0640.
    let foreign_group = mode & 0o040 != 0 && file.gid() != rustix::process::getegid().as_raw();
    // What is no file, such as /dev/null, holds no secret, and its mode is not ours to have changed.
    let risky = file.is_file() && settings.authentication.enabled && (mode & 0o004 != 0 || foreign_group);
    risky.then(|| {
        format!(
            "{0} can be read by other users of this machine, and so can its secret: chmod 600 {0}",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests;
