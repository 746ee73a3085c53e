//! What the machine gives this process: cores, memory and names of hosts.
//!
//! The memory is the least of what the machine has and what any control group above the process may
//! use, so that a container is not measured by its host.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

/// Deepest nesting of control groups that is looked at.
const CGROUP_DEPTH_MAX: usize = 32;

/// What settings without a value are derived from.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Cores that this process may run on.
    pub cores: usize,
    /// Memory that this process may have, in bytes, if the system says.
    pub memory_bytes: Option<u64>,
    /// Finds the addresses of a host name.
    pub addresses: fn(&str) -> io::Result<Vec<IpAddr>>,
}

impl Machine {
    /// The machine this process runs on.
    pub fn measure() -> Machine {
        Machine {
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get()),
            memory_bytes: memory_bytes(|path| std::fs::read_to_string(path).ok()),
            addresses,
        }
    }
}

fn addresses(host: &str) -> io::Result<Vec<IpAddr>> {
    Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

fn memory_bytes(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| meminfo_total(&text));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    machine.into_iter().chain(group_limits(&groups, read)).min()
}

fn meminfo_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// The limits of the groups that `/proc/self/cgroup` names, and of those above them. Within a
/// container the named path is often not the mounted one, so the mount's root is always asked.
fn group_limits(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Vec<u64> {
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next(), parts.next(), parts.next());
        let (mount, file) = match controllers {
            Some("") => ("/sys/fs/cgroup", "memory.max"),
            Some(list) if list.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let path = path.unwrap_or("/").trim_start_matches('/');
        for above in Path::new(path).ancestors().take(CGROUP_DEPTH_MAX) {
            let limit = read(&Path::new(mount).join(above).join(file));
            // `max` is no number; version 1 writes no limit as a number near 2^63.
            limits.extend(limit.and_then(|text| text.trim().parse::<u64>().ok()));
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Machine, memory_bytes};

    fn measured(files: &[(&str, &str)]) -> Option<u64> {
        memory_bytes(|path: &Path| {
            files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| text.to_string())
        })
    }

    const MEMINFO: (&str, &str) = ("/proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n");

    #[test]
    fn the_least_limit_of_machine_and_groups_counts() {
        const GIB: u64 = 1 << 30;
        let group = ("/proc/self/cgroup", "0::/user.slice/app\n");
        assert_eq!(measured(&[]), None);
        assert_eq!(measured(&[MEMINFO]), Some(8 * GIB));
        assert_eq!(
            measured(&[MEMINFO, group, ("/sys/fs/cgroup/user.slice/app/memory.max", "max\n")]),
            Some(8 * GIB)
        );
        let above = ("/sys/fs/cgroup/user.slice/memory.max", "1073741824\n");
        let own = ("/sys/fs/cgroup/user.slice/app/memory.max", "2147483648\n");
        assert_eq!(measured(&[MEMINFO, group, above, own]), Some(GIB));
        assert_eq!(measured(&[MEMINFO, group, ("/sys/fs/cgroup/memory.max", "536870912\n")]), Some(GIB / 2));
    }

    #[test]
    fn version_1_groups_count_too() {
        let group = ("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n");
        let own = ("/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "268435456\n");
        let none = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(measured(&[MEMINFO, group, own, none]), Some(256 << 20));
        assert_eq!(measured(&[MEMINFO, group, none]), Some(8 << 30));
    }

    #[test]
    fn this_machine_has_a_core_and_knows_itself() {
        let machine = Machine::measure();
        assert!(machine.cores > 0);
        assert!((machine.addresses)("localhost").unwrap().iter().all(|address| address.is_loopback()));
    }
}
