//! `lucid server`: loads the settings, refuses the unsafe ones, starts the log and hands over. Reads the
//! settings again when the node is told to, and reports what came of it.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::failure::{Exit, Failure, tell};
use super::{Flags, ServerArgs, load_settings, logging, port, random};
use crate::config::{Change, Loaded, Settings};
use crate::journal::OpenError;
use crate::net::DoorError;
use crate::server::{Ended, StartError};

/// Where a setting comes from that a handed-over socket decides.
const INHERITED: &str = "socket of LISTEN_FDS";

/// Serves until stopped.
pub fn run(args: ServerArgs, config: Option<&Path>, no_banner: bool) -> Result<ExitCode, Failure> {
    let flags = [
        ("general.bind_address", args.bind, "--bind"),
        ("general.port", args.port.map(|port| port.to_string()), "--port"),
    ];
    let flags = flags.into_iter().filter_map(|(path, value, flag)| Some((path, value?, flag)));
    let flags = flags.chain(args.run.flags()).collect();
    serve(Start { flags, config, no_banner, insecure: args.run.insecure, needs_password: false })
}

/// What a node is started with.
pub struct Start<'s> {
    /// What stands for settings on the command line.
    pub flags: Flags,
    /// The file.
    pub config: Option<&'s Path>,
    /// Whether it does not greet.
    pub no_banner: bool,
    /// Whether it may serve other machines without authentication.
    pub insecure: bool,
    /// Whether it is of no use without a password of the databases.
    pub needs_password: bool,
}

/// Serves until stopped.
pub fn serve(start: Start<'_>) -> Result<ExitCode, Failure> {
    let Start { mut flags, config, no_banner, insecure, needs_password } = start;
    let inherited = inherited()?;
    if let Some((_, address)) = &inherited {
        // It is bound already, so whatever else was said of the address is void, but for its safety.
        flags.push(("general.bind_address", address.ip().to_string(), INHERITED));
        flags.push(("general.port", address.port().to_string(), INHERITED));
    }
    let mut source = Source { config: config.map(Path::to_owned), flags, no_banner, insecure };
    let mut running = source.load()?;
    let databases = &running.settings.databases;
    if needs_password && databases.password.is_none() && databases.password_hash.is_none() {
        return Err(Failure::new(Exit::Usage, "the databases have no password, and nobody could come in")
            .and("give one: lucid api PASSWORD, or databases.password in the configuration file"));
    }
    // From now on the file that was found is the one that counts.
    source.config = running.settings.file.clone().or(source.config);
    let settings = running.settings.clone();
    logging::start(&settings.logging)?;
    settings.warnings.iter().for_each(|warning| tell(&format!("warning: {warning}")));
    let boot_id = u32::from_ne_bytes(random::bytes::<4>()?);
    let mut reload = |apply: &mut dyn FnMut(&Settings)| match source.read_again() {
        Ok(fresh) => {
            let changes = running.adopt(fresh);
            apply(&running.settings);
            report(&changes, &running.settings)
        }
        Err(failure) => {
            failure.lines().iter().for_each(|line| log::error!("reload: {line}"));
            let said = "reload refused, nothing has changed";
            log::error!("{said}");
            said.into()
        }
    };
    let ended = crate::server::run(&settings, boot_id, inherited.map(|(socket, _)| socket), &mut reload);
    logging::flush();
    match ended {
        Ok(Ended::Told) => Ok(ExitCode::SUCCESS),
        Ok(Ended::Failed) => Ok(Exit::Failed.into()),
        Err(StartError::Doors(error)) => Err(cannot_listen(&error)),
        Err(StartError::Folder(location, error)) => Err(cannot_keep(&location, &error)),
        Err(StartError::System(what, error)) if error.kind() == ErrorKind::OutOfMemory => Err(Failure::new(
            Exit::Failed,
            format!(
                "cannot {what}: the system does not give the memory; lower store.memory_limit ({} bytes) or \
                 runtime.workers ({}), or raise what the system allows this process (`ulimit -v`, \
                 vm.overcommit_memory)",
                settings.store.memory_bytes, settings.runtime.workers
            ),
        )),
        Err(StartError::System(what, error)) => Err(Failure::of_io(&error, format!("cannot {what}"))),
    }
}

/// Where the settings of this run come from.
struct Source {
    config: Option<PathBuf>,
    flags: Flags,
    no_banner: bool,
    insecure: bool,
}

impl Source {
    /// Settings that a server may run with.
    fn load(&self) -> Result<Loaded, Failure> {
        let loaded =
            load_settings(self.config.as_deref(), self.flags.clone(), self.no_banner, self.insecure)?;
        match loaded.refusals.is_empty() {
            true => Ok(loaded),
            false => Err(Failure::configuration(loaded.refusals)),
        }
    }

    /// The same once more, with the log where they say and every log file opened anew. If anything is wrong,
    /// nothing has changed.
    fn read_again(&self) -> Result<Loaded, Failure> {
        let loaded = self.load()?;
        logging::start(&loaded.settings.logging)?;
        Ok(loaded)
    }
}

/// Says what a reload has changed, and what it could not change. Answers with the short of it.
fn report(changes: &[Change], settings: &Settings) -> String {
    for Change { path, before, after, live } in changes {
        match live {
            true => log::info!("reload: {path} is {after} now; it was {before}"),
            false if before == after => log::warn!("reload: {path} has changed and needs a restart"),
            false => {
                log::warn!("reload: {path} needs a restart to become {after}; until then it is {before}")
            }
        }
    }
    settings.warnings.iter().for_each(|warning| log::warn!("reload: {warning}"));
    let live = changes.iter().filter(|change| change.live).count();
    let said = format!("reloaded: {live} changed, {} need a restart", changes.len() - live);
    log::info!("{said}");
    said
}

/// The listening socket that a service manager has handed over, if it has.
fn inherited() -> Result<Option<(TcpListener, SocketAddr)>, Failure> {
    let mut sockets = listenfd::ListenFd::from_env();
    match sockets.len() {
        0 => return Ok(None),
        1 => {}
        count => {
            let what = format!(
                "{count} sockets were handed over in LISTEN_FDS, and Lucid serves one; keep one \
                 ListenStream= in the socket unit"
            );
            return Err(Failure::new(Exit::Configuration, what));
        }
    }
    let Some(socket) = sockets.take_tcp_listener(0).map_err(|error| bad_socket(&error))? else {
        return Ok(None);
    };
    let address = socket.local_addr().map_err(|error| bad_socket(&error))?;
    Ok(Some((socket, address)))
}

fn bad_socket(error: &io::Error) -> Failure {
    Failure::new(
        Exit::Configuration,
        format!(
            "the socket that was handed over in LISTEN_FDS cannot be served: {error}; it must be a listening TCP \
             socket: ListenStream=127.0.0.1:7020 and Accept=no in the socket unit"
        ),
    )
}

fn cannot_bind(setting: &str, address: SocketAddr, error: &io::Error) -> Failure {
    let flag = if setting == "general.port" { "--port or " } else { "" };
    match error.kind() {
        ErrorKind::AddrInUse => {
            let who = port::listener_of(address);
            let who =
                who.map_or("stop what listens there".into(), |who| format!("{who} listens there. Stop it"));
            Failure::new(
                Exit::Unavailable,
                format!(
                    "cannot listen on {address}: the port is in use; {who}, or choose another port with \
                     {flag}{setting} (0 takes a free one)"
                ),
            )
        }
        ErrorKind::PermissionDenied => Failure::denied(format!(
            "cannot listen on {address}: the system does not permit it; ports below 1024 need the capability \
             CAP_NET_BIND_SERVICE, so choose a higher one with {flag}{setting}"
        )),
        ErrorKind::AddrNotAvailable => Failure::new(
            Exit::Unavailable,
            format!(
                "cannot listen on {address}: {} is no address of this machine; `ip address` lists those it has; \
                 choose one with --bind or general.bind_address (0.0.0.0 is all of them)",
                address.ip()
            ),
        ),
        _ => Failure::new(
            Exit::Unavailable,
            format!("cannot listen on {address}: {error}; check --bind or general.bind_address"),
        ),
    }
}

fn cannot_keep(location: &Path, error: &OpenError) -> Failure {
    let exit = match error {
        OpenError::Taken => Exit::Unavailable,
        OpenError::WrongKey | OpenError::KeyMissing | OpenError::NotSealed => Exit::Configuration,
        OpenError::Damaged { .. } | OpenError::LaterVersion { .. } => Exit::Failed,
        OpenError::Io { error, .. } => match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Exit::Denied,
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                let what = format!("persistence.location: {} is not a folder", location.display());
                return Failure::new(Exit::Configuration, what)
                    .and("name a folder that belongs to the node alone");
            }
            _ => Exit::Failed,
        },
    };
    Failure::new(exit, format!("persistence.location: {}: {error}", location.display()))
}

fn cannot_listen(error: &DoorError) -> Failure {
    let exit = match error {
        DoorError::Bind { setting, address, error } => return cannot_bind(setting, *address, error),
        DoorError::Inherited(error) => return bad_socket(error),
        _ if error.is_denied() => Exit::Denied,
        DoorError::Pair(_) => Exit::Configuration,
        DoorError::Unix(..) => Exit::Unavailable,
        DoorError::Random(_) => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}
