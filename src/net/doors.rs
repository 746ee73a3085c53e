//! Everything that a node listens on, opened before the first reactor runs, or not at all.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::{Settings, Tls};
use crate::net::listener::{Door, bind, share};
use crate::net::tls::{Certificates, Pair, PairError};
use crate::net::unix::{PATH_BYTES_MAX, SocketFile, UnixError};

/// What a node listens on.
#[derive(Debug)]
pub struct Doors {
    /// Where plain HTTP is served.
    pub plain: SocketAddr,
    /// Where TLS is served, and what its clients are shown.
    pub tls: Option<(SocketAddr, Arc<Certificates>)>,
    /// The file of the Unix socket. It goes when this is dropped.
    pub unix: Option<SocketFile>,
    /// The listening sockets of each reactor.
    pub each: Vec<Vec<Door>>,
}

/// Why a node cannot listen.
#[derive(Debug)]
pub enum DoorError {
    /// The address of this setting cannot be listened on.
    Bind {
        /// `general.port` or `general.port_ssl`.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The socket that was handed over cannot be used.
    Inherited(io::Error),
    /// There is no certificate to show.
    Pair(PairError),
    /// The Unix socket cannot be listened on.
    Unix(PathBuf, UnixError),
    /// The system gives no random numbers.
    Random(io::Error),
}

impl Doors {
    /// Opens what the settings name, a socket of each port for each reactor. A listening socket that was
    /// handed over stands for the plain port, and the reactors share it.
    ///
    /// # Errors
    /// What is in the way. Nothing is left open then.
    pub fn open(settings: &Settings, inherited: Option<TcpListener>) -> Result<Doors, DoorError> {
        let (general, workers) = (&settings.general, settings.runtime.workers);
        // First what cannot be put right by stopping another program.
        let certificates = general.tls.as_ref().map(load).transpose()?;
        let bind = |setting, address| {
            bind(address, workers).map_err(|error| DoorError::Bind { setting, address, error })
        };
        let (plain, listeners) = match inherited {
            Some(socket) => share(socket, workers).map_err(DoorError::Inherited)?,
            None => bind("general.port", general.listen)?,
        };
        let mut each: Vec<Vec<Door>> =
            listeners.into_iter().map(|listener| vec![Door::Plain(listener)]).collect();
        let mut tls = None;
        if let (Some(settings), Some(certificates)) = (&general.tls, certificates) {
            let (address, listeners) = bind("general.port_ssl", settings.listen)?;
            for (doors, listener) in each.iter_mut().zip(listeners) {
                doors.push(Door::Tls(listener));
            }
            tls = Some((address, certificates));
        }
        let mut unix = None;
        if let (Some(path), Some(doors)) = (&general.unix_socket, each.first_mut()) {
            let bound = SocketFile::bind(path).map_err(|error| DoorError::Unix(path.clone(), error));
            let (file, listener) = bound?;
            let trusted_uids = settings.authentication.local_uids.clone().into_boxed_slice();
            doors.push(Door::Unix { listener, trusted_uids });
            unix = Some(file);
        }
        Ok(Doors { plain, tls, unix, each })
    }
}

impl DoorError {
    /// Whether the system does not let this process do it.
    pub fn is_denied(&self) -> bool {
        let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        match self {
            DoorError::Bind { error, .. } | DoorError::Unix(_, UnixError::System(error)) => denied(error),
            DoorError::Pair(error) => error.is_denied(),
            DoorError::Inherited(_) | DoorError::Unix(..) | DoorError::Random(_) => false,
        }
    }
}

impl fmt::Display for DoorError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DoorError::Bind { setting, address, error } => {
                write!(out, "cannot listen on {address}: {error}; check {setting}")
            }
            DoorError::Inherited(error) => write!(out, "cannot serve the socket handed over: {error}"),
            DoorError::Pair(error) => error.fmt(out),
            DoorError::Unix(path, error) => cannot_bind_file(path, error, out),
            DoorError::Random(error) => {
                write!(out, "cannot draw keys for TLS: {error}; start the node again")
            }
        }
    }
}

fn cannot_bind_file(path: &Path, error: &UnixError, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    let path = path.display();
    match error {
        UnixError::InUse => write!(
            out,
            "cannot listen on {path}: another program does; stop it, or choose another general.unix_socket"
        ),
        UnixError::NoSocket => write!(
            out,
            "cannot listen on {path}: a file is there that is no socket; move it away, or choose another \
             general.unix_socket"
        ),
        UnixError::System(error) => write!(
            out,
            "cannot listen on {path}: {error}; general.unix_socket must name a file of at most {PATH_BYTES_MAX} \
             bytes in a folder that this process may write to"
        ),
    }
}

/// Loads the pair that is to be served first, and says what is to be said of it.
fn load(settings: &Tls) -> Result<Arc<Certificates>, DoorError> {
    let now = Clock::wall_seconds();
    let pair = Pair::load(&settings.certificate, &settings.key, now).map_err(DoorError::Pair)?;
    pair.warning(now).iter().for_each(|warning| log::warn!("{warning}"));
    Certificates::new(&pair).map_err(DoorError::Random)
}

/// Serves the pair that stands in the files now. If that is none, the one before goes on.
pub fn reload(certificates: &Certificates, settings: &Tls) {
    let now = Clock::wall_seconds();
    match Pair::load(&settings.certificate, &settings.key, now) {
        Ok(pair) => match certificates.replace(&pair) {
            Ok(()) => {
                pair.warning(now).iter().for_each(|warning| log::warn!("{warning}"));
                log::info!("certificate reloaded: good until {}", pair.good_until());
            }
            Err(error) => log::error!("certificate not reloaded, the one before is kept: {error}"),
        },
        Err(error) => log::error!("certificate not reloaded, the one before is kept: {error}"),
    }
}
