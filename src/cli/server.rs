//! `lucid server`: loads the settings, refuses the unsafe ones, starts the log and hands over.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use super::failure::{Exit, Failure, tell};
use super::{ServerArgs, load_settings, logging, random};
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
        Err(StartError::Bind(address, error)) => Err(cannot_bind(address, &error)),
        Err(StartError::System(what, error)) => Err(Failure::of_io(&error, format!("cannot {what}"))),
    }
}

fn cannot_bind(address: SocketAddr, error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::AddrInUse => Failure::new(
            Exit::Unavailable,
            format!(
                "cannot listen on {address}: the port is in use; stop what listens there, or choose another port \
                 with --port or general.port (0 takes a free one)"
            ),
        ),
        ErrorKind::PermissionDenied => Failure::denied(format!(
            "cannot listen on {address}: the system does not permit it; ports below 1024 need the capability \
             CAP_NET_BIND_SERVICE, so choose a higher one with --port or general.port"
        )),
        _ => Failure::new(
            Exit::Unavailable,
            format!("cannot listen on {address}: {error}; check --bind or general.bind_address"),
        ),
    }
}
