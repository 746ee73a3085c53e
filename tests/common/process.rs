//! What the system says about a process: memory, processor time, descriptors; and its signals.

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit, setrlimit};
use std::time::Duration;

/// Runs a program as root without root's rights.
pub const WITHOUT_CAPABILITIES: [&str; 3] = ["setpriv", "--bounding-set=-all", "--"];

/// Whether a program can be run like that here.
pub fn can_drop_capabilities() -> bool {
    let words = WITHOUT_CAPABILITIES;
    let status = std::process::Command::new(words[0]).args(&words[1..]).arg("true").status();
    status.is_ok_and(|status| status.success())
}

/// Sends a signal to one process.
pub fn send_signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid as i32).expect("a process id");
    kill_process(pid, signal).expect("a living process");
}

/// Bytes of memory that are resident.
pub fn resident_bytes(pid: u32) -> u64 {
    memory_bytes(pid, "VmRSS:")
}

/// Bytes of those that are pages of files: code and constants.
pub fn resident_file_bytes(pid: u32) -> u64 {
    memory_bytes(pid, "RssFile:")
}

fn memory_bytes(pid: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
    let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("a process with memory");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes * 1024
}

/// Processor time used so far, user and system, in steps of 10 ms: Linux counts in hundredths of a
/// second here whatever its timer.
pub fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a living process");
    let behind_name = &stat[stat.rfind(')').expect("a name in parentheses") + 2..];
    let ticks: u64 =
        behind_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}

/// Raises the limit of open descriptors of this process and its children to the most that is allowed,
/// and says how many that is.
pub fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    current.unwrap_or(1_000_000) as usize
}

/// Descriptors that a process has open.
pub fn open_descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a living process").count()
}

/// Changes how many descriptors a running process may have open, and gives what it was.
pub fn set_descriptor_limit(pid: u32, count: u64) -> u64 {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: Some(count), maximum };
    let before = prlimit(Pid::from_raw(pid as i32), Resource::Nofile, limit).expect("a child of ours");
    before.current.unwrap_or(1_000_000)
}
