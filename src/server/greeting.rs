//! What a node says on its standard output when it has started.

use std::io::{self, Write};
use std::net::SocketAddr;

use super::node::Greeting;
use crate::auth::root_token;
use crate::clock::Clock;
use crate::config::Settings;

/// What says where the node listens, in a line that scripts can read, and how to begin.
pub fn greeting(settings: &Settings, address: SocketAddr, tls: Option<SocketAddr>) -> Box<Greeting> {
    let settings = settings.clone();
    Box::new(move || greet(&settings, address, tls))
}

fn greet(settings: &Settings, address: SocketAddr, tls: Option<SocketAddr>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if settings.general.show_banner {
        writeln!(out, "Lucid {}, {}", env!("CARGO_PKG_VERSION"), workers_and_memory(settings))?;
    }
    writeln!(out, "listening on http://{address}")?;
    if let Some(address) = tls {
        writeln!(out, "listening on https://{address}")?;
    }
    if let Some(path) = &settings.general.unix_socket {
        writeln!(out, "listening on unix:{}", path.display())?;
    }
    if settings.authentication.ephemeral_secret && settings.authentication.enabled {
        let issuer = format!("http://{address}/");
        let secret = settings.authentication.secret_key.expose().as_bytes();
        let token = root_token(secret, &issuer, Clock::wall_seconds());
        let curl = format!("curl -H 'Authorization: Bearer {token}'");
        let key = format!("http://{address}/api/kv/greeting");
        writeln!(
            out,
            "\nNo configuration file: this run keeps everything in memory and has a secret of its own.\n\
             `lucid init` makes a file. Root token of this run:\n\n{token}\n\n\
             Store, read and remove a value:\n\n\
             {curl} -X PUT -d 'hello world' {key}\n{curl} {key}\n{curl} -X DELETE {key}\n"
        )?;
    }
    out.flush()
}

/// `2 workers, 1024 MiB of memory`
pub fn workers_and_memory(settings: &Settings) -> String {
    let workers = settings.runtime.workers;
    let plural = if workers == 1 { "" } else { "s" };
    format!("{workers} worker{plural}, {} MiB of memory", settings.store.memory_bytes >> 20)
}
