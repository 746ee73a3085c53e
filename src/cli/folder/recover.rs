//! `lucid recover`: says what can be kept of a folder, and writes it into another one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{configured_key, failure, key_of_file, must_be_a_folder};
use crate::cli::failure::{Exit, Failure, print};
use crate::journal::{OpenError, recover};

/// Arguments of `lucid recover`.
#[derive(Args, Debug)]
pub struct RecoverArgs {
    /// The folder of a node that does not run. Nothing in it is changed
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Write what can be kept into this folder, which must be new or empty
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// The file with the key of an encrypted folder [else LUCID_ENCRYPTION__PRIVATE_KEY, or the configuration]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// Looks, says, and writes.
pub fn run(args: &RecoverArgs, config: Option<&Path>) -> Result<ExitCode, Failure> {
    must_be_a_folder(&args.folder)?;
    let given = args.key_file.as_deref().map(key_of_file).transpose()?;
    let key = match given {
        Some(key) => Some(key),
        None => configured_key(config)?,
    };
    let (folder, to) = (&args.folder, args.to.as_deref());
    let recovered = match recover(folder, to, key.as_ref()) {
        // A key that merely stands in the configuration is of no use to a folder that needs none.
        Err(OpenError::NotSealed) if args.key_file.is_none() => recover(folder, to, None),
        recovered => recovered,
    };
    let recovery = recovered.map_err(|error| failure(folder, &error))?;
    print(&format!("{recovery}\n"))?;
    if recovery.is_whole() {
        print("nothing is damaged\n")?;
    }
    if let Some(to) = to {
        print(&format!("written to {}; name it in persistence.location\n", to.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    match recovery.is_whole() {
        true => Ok(ExitCode::SUCCESS),
        false => {
            Err(Failure::new(Exit::Failed, format!("{} is damaged; nothing was changed", folder.display()))
                .and("write what can be kept into a new folder: lucid recover DIR --to NEW"))
        }
    }
}
