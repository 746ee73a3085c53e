//! `lucid server`: loads the settings, refuses the unsafe ones, starts the log and hands over.

use std::path::Path;
use std::process::ExitCode;

use super::failure::{Exit, Failure, tell};
use super::{ServerArgs, load_settings, logging, random};
use crate::net::DoorError;
use crate::server::{Ended, StartError};

/// Serves until stopped.
pub fn run(args: ServerArgs, config: Option<&Path>, no_banner: bool) -> Result<ExitCode, Failure> {
    let flags = [
        ("general.bind_address", args.bind, "--bind"),
        ("general.port", args.port.map(|port| port.to_string()), "--port"),
        ("runtime.workers", args.workers.map(|workers| workers.to_string()), "--workers"),
        ("logging.format", args.log_format, "--log-format"),
    ];
    let flags = flags.into_iter().filter_map(|(path, value, flag)| Some((path, value?, flag))).collect();
    let loaded = load_settings(config, flags, no_banner, args.insecure)?;
    if !loaded.refusals.is_empty() {
        return Err(Failure::configuration(loaded.refusals));
    }
    let settings = loaded.settings;
    logging::start(&settings.logging)?;
    settings.warnings.iter().for_each(|warning| tell(&format!("warning: {warning}")));
    let boot_id = u32::from_ne_bytes(random::bytes::<4>()?);
    match crate::server::run(&settings, boot_id) {
        Ok(Ended::Told) => Ok(ExitCode::SUCCESS),
        Ok(Ended::Failed) => Ok(Exit::Failed.into()),
        Err(StartError::Doors(error)) => Err(cannot_listen(&error)),
        Err(StartError::System(what, error)) => Err(Failure::of_io(&error, format!("cannot {what}"))),
    }
}

fn cannot_listen(error: &DoorError) -> Failure {
    let exit = match error {
        _ if error.is_denied() => Exit::Denied,
        DoorError::Pair(_) => Exit::Configuration,
        DoorError::Bind { .. } | DoorError::Unix(..) => Exit::Unavailable,
        DoorError::Random(_) => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}
