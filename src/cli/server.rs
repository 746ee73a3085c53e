//! `lucid server`: loads the settings, refuses the unsafe ones, starts the log and hands over.

use std::path::Path;
use std::process::ExitCode;

use super::failure::{Failure, tell};
use super::{ServerArgs, load_settings, logging};

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
    Ok(crate::server::run(settings))
}
