//! The configuration: from what the operator typed to what the program runs on.
//!
//! [`load`] reads the first configuration file there is, lays the environment and the flags over it
//! (`typed`), and gives the texts their meaning (`resolve`). It finds as many problems as it can in
//! one run and names the place of each. It never writes a file, never logs, and never shows a secret.

mod doors;
mod file;
pub mod keys;
pub mod machine;
pub mod problem;
mod reader;
mod resolve;
pub mod safety;
mod secret;
mod settings;
mod typed;
mod value;

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use machine::Machine;
use problem::{LoadError, Problem};
use resolve::{Resolved, Surroundings, resolve};
pub use secret::Secret;
pub use settings::{
    Authentication, Format, General, Http, Logging, Output, Runtime, Settings, Shown, Shutdown, Store, Tls,
    WhenFull,
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
    let file = find(config, search)?;
    if let Some((path, source)) = &file {
        typed.add_file(path, source);
    }
    typed.add_environment(&environment);
    for (path, text, flag) in flags {
        typed.add_flag(path, text, flag);
    }
    let (typed, mut problems) = typed.into_checked()?;
    let path = file.map(|(path, _)| path);
    let surroundings = Surroundings { file: path.clone(), machine, fresh_secret, insecure };
    let Resolved { mut settings, listing, problems: more, refusals } = resolve(&typed, surroundings);
    problems.extend(more);
    if !problems.is_empty() {
        return Err(LoadError::Invalid(problems));
    }
    settings.warnings.extend(path.as_deref().and_then(|path| readable_by_others(path, &settings)));
    Ok(Loaded { settings, listing, refusals })
}

/// The file to read, with its text.
fn find(config: Option<PathBuf>, search: Vec<PathBuf>) -> Result<Option<(PathBuf, String)>, LoadError> {
    let demanded = config.is_some();
    for path in config.map_or(search, |path| vec![path]) {
        let invalid = |what: String| Err(LoadError::Invalid(vec![Problem::at(path.display(), what)]));
        match read_text(&path) {
            Ok(source) => return Ok(Some((path, source))),
            Err(ReadError::Absent) if !demanded => {}
            // A home that this process may not look into, as under `sudo -u`, may as well be empty.
            Err(ReadError::Denied) if !demanded && path.metadata().is_err() => {}
            Err(ReadError::Absent) => {
                return invalid(format!(
                    "Configuration file not found. Write one with `lucid -c {} init`",
                    path.display()
                ));
            }
            Err(ReadError::Denied) => {
                return Err(LoadError::Denied(Problem::at(
                    path.display(),
                    "this process may not read the file; give it to the user that runs Lucid",
                )));
            }
            Err(ReadError::Other(what)) => return invalid(what),
        }
    }
    Ok(None)
}

/// A warning if the file lets others read the secret in use.
fn readable_by_others(path: &Path, settings: &Settings) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    let risky = settings.authentication.enabled && mode & 0o044 != 0;
    risky.then(|| {
        format!(
            "{0} can be read by other users of this machine, and so can its secret: chmod 600 {0}",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests;
