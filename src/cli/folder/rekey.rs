//! `lucid rekey`: gives a folder another key, or one at all, or none any more.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{KEY_VARIABLE, configured_key, failure, key_of_file, must_be_a_folder, prompt};
use crate::cli::failure::{Exit, Failure, print};
use crate::config::safety::{Weakness, weakness};
use crate::journal::{Folder, JournalConfig, MasterKey, OpenError, Sync, rekey};

/// Where the environment has the new key.
const NEW_KEY_VARIABLE: &str = "LUCID_NEW_PRIVATE_KEY";

/// Arguments of `lucid rekey`.
#[derive(Args, Debug)]
pub struct RekeyArgs {
    /// The folder of a node that does not run
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The file with the present key [else LUCID_ENCRYPTION__PRIVATE_KEY, the configuration, or it is asked
    /// for]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The file with the new key [else LUCID_NEW_PRIVATE_KEY, or it is asked for]
    #[arg(long, value_name = "FILE", conflicts_with = "plain")]
    new_key_file: Option<PathBuf>,
    /// Do without a key from now on: write everything in clear
    #[arg(long)]
    plain: bool,
}

/// Changes the key.
pub fn run(args: &RekeyArgs, config: Option<&Path>) -> Result<ExitCode, Failure> {
    must_be_a_folder(&args.folder)?;
    let folder = &args.folder;
    let old = present_key(args, config)?;
    let new = match args.plain {
        true => None,
        false => Some(new_key(args)?),
    };
    rekey(folder, old.as_ref(), new.as_ref()).map_err(|error| failure(folder, &error))?;
    print(match (&old, &new) {
        (_, Some(_)) => "the folder has its new key; put it into encryption.private_key, keep a copy apart\n",
        (Some(_), None) => "the folder is in clear now; set encryption.enabled: false\n",
        (None, None) => "the folder has no key, and had none\n",
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The key that the folder has now. It is tried, so that nobody thinks up a new one in vain.
fn present_key(args: &RekeyArgs, config: Option<&Path>) -> Result<Option<MasterKey>, Failure> {
    let given = match &args.key_file {
        Some(path) => Some(key_of_file(path)?),
        None => configured_key(config)?,
    };
    match opens(&args.folder, given.as_ref()) {
        Ok(()) => Ok(given),
        Err(OpenError::NotSealed) if args.key_file.is_none() => {
            opens(&args.folder, None).map_err(|error| failure(&args.folder, &error)).map(|()| None)
        }
        Err(OpenError::KeyMissing) => {
            let asked = asked("the present key of the folder")?;
            let key = asked.ok_or_else(|| failure(&args.folder, &OpenError::KeyMissing))?;
            opens(&args.folder, Some(&key)).map_err(|error| failure(&args.folder, &error))?;
            Ok(Some(key))
        }
        Err(error) => Err(failure(&args.folder, &error)),
    }
}

fn opens(folder: &Path, key: Option<&MasterKey>) -> Result<(), OpenError> {
    let config = JournalConfig { key: key.cloned(), ..JournalConfig::new(Sync::Always) };
    Folder::open(folder, &config).map(drop)
}

fn new_key(args: &RekeyArgs) -> Result<MasterKey, Failure> {
    if let Some(path) = &args.new_key_file {
        return key_of_file(path);
    }
    if let Some(text) = std::env::var_os(NEW_KEY_VARIABLE).filter(|text| !text.is_empty()) {
        let text = text.to_str().map(MasterKey::from_text);
        return text.ok_or_else(|| Failure::new(Exit::Usage, format!("{NEW_KEY_VARIABLE} is no text")));
    }
    let key = asked("the new key")?.ok_or_else(|| {
        Failure::new(Exit::Usage, "no new key was given").and(format!(
            "put it into a file and name that with --new-key-file, or into {NEW_KEY_VARIABLE}; the present one is \
             looked for in {KEY_VARIABLE}"
        ))
    })?;
    Ok(key)
}

/// Asks at the terminal. What can be guessed is refused, as a server would refuse it.
fn asked(what: &str) -> Result<Option<MasterKey>, Failure> {
    let text = prompt::secret(what).map_err(|error| Failure::of_io(&error, "cannot ask at the terminal"))?;
    match text.as_ref().map(|text| (text, weakness(text))) {
        Some((_, Some(Weakness::Published))) => {
            Err(Failure::new(Exit::Usage, "this key stands in a published sample file; make another one"))
        }
        asked => Ok(asked.map(|(text, _)| MasterKey::from_text(text))),
    }
}
