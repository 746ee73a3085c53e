//! TLS and the Unix socket: where a node listens beside its plain port.

use std::net::IpAddr;
use std::path::PathBuf;

use super::problem::Problem;
use super::reader::Reader;
use super::settings::Tls;
use super::value::{boolean, whole};

const PORT_SSL: u64 = 7_021;

/// Longest path of a Unix socket that the system takes, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// TLS, on the same address as plain HTTP, whose port is given.
pub fn tls(
    reader: &mut Reader<'_>,
    address: IpAddr,
    plain_port: u64,
    refusals: &mut Vec<Problem>,
) -> Option<Tls> {
    let port = reader.one("general.port_ssl", PORT_SSL, |text| whole(text, 0, 65_535), u64::to_string);
    let use_ssl = reader.one("general.use_ssl", false, boolean, bool::to_string);
    let certificate = reader.text("general.ssl_certificate");
    let key = reader.text("general.ssl_certificate_key");
    if !use_ssl {
        return None;
    }
    if port == plain_port && port != 0 {
        refusals.push(
            reader.problem("general.port_ssl", "the same as general.port; TLS needs a port of its own"),
        );
    }
    for (path, given) in [("general.ssl_certificate", &certificate), ("general.ssl_certificate_key", &key)] {
        if given.is_none() {
            let what = format!(
                "TLS is on and {path} is not given; `lucid init` makes a pair, or set general.use_ssl: false"
            );
            refusals.push(reader.problem("general.use_ssl", what));
        }
    }
    Some(Tls {
        listen: (address, port as u16).into(),
        certificate: PathBuf::from(certificate?),
        key: PathBuf::from(key?),
    })
}

/// The Unix socket, and the users whose processes need no credential there.
pub fn unix_socket(reader: &mut Reader<'_>, warnings: &mut Vec<String>) -> (Option<PathBuf>, Vec<u32>) {
    let path = reader.text("general.unix_socket");
    if let Some(path) = path.as_ref().filter(|path| path.len() > SOCKET_PATH_BYTES_MAX) {
        let what = format!(
            "a path of {} bytes, and the system takes at most {SOCKET_PATH_BYTES_MAX}; choose a shorter one",
            path.len()
        );
        reader.refuse("general.unix_socket", what);
    }
    let uid = |text: &str| whole(text, 0, u64::from(u32::MAX) - 1).map(|uid| uid as u32);
    let local_uids = reader.list("authentication.local_uids", Vec::new(), uid, u32::to_string);
    if path.is_none() && !local_uids.is_empty() {
        warnings.push(
            "authentication.local_uids has no effect without general.unix_socket: users are known there alone".into(),
        );
    }
    (path.map(PathBuf::from), local_uids)
}
