//! Says which process listens on a port, where the system tells: Linux lists every listening socket, and
//! the descriptors of the processes that this one may look into.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The state of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// A process that stands in the way: `redis-server (pid 4711)`.
pub fn listener_of(address: SocketAddr) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables = tables.into_iter().filter_map(|path| fs::read_to_string(path).ok());
    let inodes: Vec<String> = tables.flat_map(|table| listening_inodes(&table, address)).collect();
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    if links.is_empty() {
        return None;
    }
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Not every process lets us look.
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let mut targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        if targets.any(|target| links.iter().any(|link| target.as_os_str() == link.as_str())) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim_end()));
        }
    }
    None
}

/// The inodes of the sockets in a table that listen where `address` would.
fn listening_inodes(table: &str, address: SocketAddr) -> Vec<String> {
    let mut inodes = Vec::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(local), Some(state), Some(inode)) = (fields.get(1), fields.get(3), fields.get(9)) else {
            continue;
        };
        let Some((ip, port)) = local.rsplit_once(':') else { continue };
        let same_port = u16::from_str_radix(port, 16) == Ok(address.port());
        let conflicts = |ip: IpAddr| {
            ip.to_canonical() == address.ip().to_canonical()
                || ip.is_unspecified()
                || address.ip().is_unspecified()
        };
        if *state == LISTENING && same_port && parse_ip(ip).is_some_and(conflicts) {
            inodes.push((*inode).to_owned());
        }
    }
    inodes
}

/// An address as the kernel prints it: words of 32 bits in the machine's order, in hexadecimal.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = text.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};

    use super::{listener_of, listening_inodes};

    #[test]
    fn the_process_that_listens_is_found() {
        for host in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
            let Ok(listener) = TcpListener::bind(host) else { continue };
            let found = listener_of(listener.local_addr().unwrap()).expect("our own socket");
            assert!(found.ends_with(&format!("(pid {})", std::process::id())), "{found}");
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let free = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(listener_of(free), None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn only_sockets_that_listen_in_the_way_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1B6C 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 11 1 0 100 0 0 10 0\n\
            1: 0100007F:1B6C 0100007F:D431 01 00000000:00000000 00:00000000 00000000 0 0 12 1 0 100 0 0 10 0\n\
            2: 0200007F:1B6C 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 13 1 0 100 0 0 10 0\n\
            3: 0100007F:1B6D 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 14 1 0 100 0 0 10 0\n\
            4: 00000000000000000000000000000000:1B6C 0:0 0A 0:0 0:0 0 0 0 15 1\n\
            5: garbage\n";
        let found = |address: &str| listening_inodes(table, address.parse::<SocketAddr>().unwrap());
        assert_eq!(found("127.0.0.1:7020"), ["11", "15"]);
        assert_eq!(found("0.0.0.0:7020"), ["11", "13", "15"]);
        assert_eq!(found("127.0.0.1:7021"), ["14"]);
        assert_eq!(found("127.0.0.1:80"), [""; 0]);
    }
}
