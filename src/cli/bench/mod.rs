//! `lucid bench`: loads a node and says how it answers, so that nobody needs another tool to see what
//! their machine does.
//!
//! Two kinds of load. *Closed loop*: each connection keeps `--depth` requests under way and sends the
//! next when one is answered, which shows what the node can do at most. *Open loop* (`--rate`): requests
//! fall due at a steady rate whatever the node does, and latency counts from when a request was due, so
//! that a node that stalls cannot hide it by being asked less (Tene's coordinated omission).
//!
//! The keys are its own: written first, removed at the end, also after Ctrl-C. `load` holds the
//! loops, `link` one connection, `report` the words. The load runs on this machine's cores: next to
//! the node it shares them, which a summary on one machine includes.

mod link;
mod load;
mod report;
mod requests;

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::client::NodeArgs;
use super::client::node::{Node, Payload};
use super::failure::{Exit, Failure, print, tell};
use crate::config::value;
use load::{End, Plan, Tally, Trouble};
use requests::{Kind, Mix, Requests};

/// Bounds of what can be asked for. Above them is another tool's work.
const CONNECTIONS_MAX: u64 = 10_000;
const DEPTH_MAX: u64 = 1_024;
const VALUE_BYTES_MAX: u64 = 64 << 20;
const KEYS_MAX: u64 = 10_000_000;
const RATE_MAX: u64 = 10_000_000;
const THREADS_MAX: u64 = 64;
const DURATION_MAX: Duration = Duration::from_secs(3_600);

/// Keys when nobody says how many, and how much their values may take together.
const KEYS_DEFAULT: u64 = 10_000;
const KEYS_DEFAULT_BYTES: u64 = 64 << 20;

/// Connections that write and remove the keys.
const FILL_CONNECTIONS_MAX: usize = 16;
const FILL_DEPTH: usize = 32;

/// Bytes of values under way on all of them together: a small node has little room for bodies.
const FILL_BYTES: usize = 2 << 20;

/// How often the bar moves.
const TICK: Duration = Duration::from_millis(100);

/// Arguments of `lucid bench`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// What to ask for; mixed is nine gets to each put
    #[arg(value_enum, default_value = "get", value_name = "LOAD")]
    mix: MixName,
    /// How long to measure
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    duration: Duration,
    /// Connections
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=CONNECTIONS_MAX))]
    connections: u64,
    /// Requests under way on each connection
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=DEPTH_MAX))]
    depth: u64,
    /// Open loop: requests a second in all, each due at its time
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    rate: Option<u64>,
    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u64).range(0..=VALUE_BYTES_MAX))]
    value_size: u64,
    /// How many keys to spread over [10000, fewer where that is over 64 MiB]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX))]
    keys: Option<u64>,
    /// Threads that make the load [half of the cores]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=THREADS_MAX))]
    threads: Option<u64>,
    /// Show the result as one JSON object, times in microseconds
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MixName {
    Get,
    Put,
    Mixed,
}

fn duration(text: &str) -> Result<Duration, String> {
    value::duration(text, Duration::from_millis(100), DURATION_MAX)
}

/// What is to be done, with every choice made.
#[derive(Debug)]
struct Task {
    mix: Mix,
    connections: usize,
    depth: usize,
    rate: Option<u64>,
    value_bytes: usize,
    keys: u64,
    threads: usize,
    duration: Duration,
}

impl Task {
    fn new(args: &BenchArgs) -> Task {
        let fitting = KEYS_DEFAULT_BYTES / args.value_size.max(1);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let connections = args.connections as usize;
        let threads = args.threads.map_or((cores / 2).max(1), |threads| threads as usize);
        Task {
            mix: match args.mix {
                MixName::Get => Mix::Only(Kind::Get),
                MixName::Put => Mix::Only(Kind::Put),
                MixName::Mixed => Mix::Mixed,
            },
            connections,
            depth: args.depth as usize,
            rate: args.rate,
            value_bytes: args.value_size as usize,
            keys: args.keys.unwrap_or(KEYS_DEFAULT.min(fitting).max(1)),
            threads: threads.min(connections),
            duration: args.duration,
        }
    }
}

/// Loads the node and shows how it answered.
pub fn run(args: &BenchArgs) -> Result<ExitCode, Failure> {
    let (task, node) = (Task::new(args), Node::new(&args.node)?);
    if node.is_https() {
        return Err(Failure::new(
            Exit::Usage,
            format!("cannot load {}: bench measures the node over plain HTTP only", node.url()),
        )
        .and("give it the node's plain port with --url or LUCID_URL, such as http://127.0.0.1:7020"));
    }
    let address = address(&node)?;
    let prefix = format!("lucid-bench-{}-", std::process::id());
    probe(&node, &prefix, &task)?;
    let requests = |mix| Requests::new(&node, &prefix, mix, task.keys, task.value_bytes);
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The first lets the keys be removed, the second ends at once.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| Failure::of_io(&error, "cannot watch for signals"))?;
    }
    let fitting = FILL_BYTES / task.value_bytes.max(1);
    let every_key = |kind| Plan {
        address,
        requests: requests(Mix::Only(kind)),
        connections: FILL_CONNECTIONS_MAX.min(task.keys as usize).min(fitting).max(1),
        depth: FILL_DEPTH.min(fitting / FILL_CONNECTIONS_MAX).max(1),
        threads: 1,
        rate: None,
        end: End::EveryKeyOnce,
    };
    let filled = drive(every_key(Kind::Put), "writing keys", &stop);
    let measured = filled.and_then(|filled| match stop.load(Ordering::Relaxed) || filled.wrong() > 0 {
        true => Ok(Err(filled)),
        false => {
            let plan = Plan {
                address,
                requests: requests(task.mix),
                connections: task.connections,
                depth: task.depth,
                threads: task.threads,
                rate: task.rate,
                end: End::After(task.duration),
            };
            drive(plan, "measuring", &stop).map(Ok)
        }
    });
    // What was begun is cleaned up, whatever became of it.
    let cleaned = drive(every_key(Kind::Delete), "removing keys", &AtomicBool::new(false));
    let tally = measured
        .map_err(|trouble| {
            // A node that is gone has taken the keys along.
            let left = cleaned.as_ref().is_err_and(|trouble| matches!(trouble, Trouble::Silent));
            let failure = failure(&node, &task, trouble);
            if left { failure.and(format!("its keys, {prefix}…, are still there")) } else { failure }
        })?
        .map_err(|filled| match filled.wrong() {
            0 => Failure::new(Exit::Failed, "stopped before anything was measured; its keys are removed"),
            _ => report::wrong(&filled).and("so nothing was measured, and its keys are removed"),
        })?;
    if let Err(trouble) = cleaned {
        tell(&format!("warning: the keys {prefix}… could not all be removed: {trouble}"));
    }
    let text = if args.json { report::json(&task, &tally) } else { report::text(&task, &tally) };
    print(&text)?;
    if tally.wrong() > 0 {
        return Err(report::wrong(&tally));
    }
    Ok(ExitCode::SUCCESS)
}

/// Where to connect. The first address is the one that the load goes to.
fn address(node: &Node) -> Result<SocketAddr, Failure> {
    let found = node.host_and_port().to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.ok_or_else(|| node.unreachable(&ureq::Error::HostNotFound))
}

/// Writes and removes one key the way other verbs do, so that whatever is wrong is said as they say it.
fn probe(node: &Node, prefix: &str, task: &Task) -> Result<(), Failure> {
    let key = format!("{prefix}0").into_bytes();
    let value = vec![b'x'; task.value_bytes];
    let steps = [
        ("PUT", Payload::Bytes(&value), 201),
        ("GET", Payload::Absent, 200),
        ("DELETE", Payload::Absent, 200),
    ];
    for (method, payload, good) in steps {
        let answer = node.call_key(method, &key, "", &[], payload)?;
        if answer.status() != good {
            return Err(answer.refusal(node, Some(&key)));
        }
    }
    Ok(())
}

/// Carries a plan out, with a bar where stderr is a terminal.
fn drive(plan: Plan, doing: &'static str, stop: &AtomicBool) -> Result<Tally, Trouble> {
    let bar = match &plan.end {
        End::EveryKeyOnce => ProgressBar::new(plan.requests.keys()),
        End::After(duration) => ProgressBar::new(duration.as_millis() as u64),
    };
    let style = ProgressStyle::with_template("{msg:14} [{bar:40}] {percent:>3}%  {prefix}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.set_message(doing);
    let by_time = matches!(plan.end, End::After(_));
    let outcome = load::run(plan, stop, TICK, |answered, elapsed| {
        bar.set_position(if by_time { elapsed.as_millis() as u64 } else { answered });
        let a_second = answered as f64 / elapsed.as_secs_f64().max(0.001);
        bar.set_prefix(format!("{} a second", report::grouped(a_second as u64)));
    });
    bar.finish_and_clear();
    outcome
}

fn failure(node: &Node, task: &Task, trouble: Trouble) -> Failure {
    match trouble {
        Trouble::Io(error) => node.broken(&error),
        Trouble::Malformed(what) => Failure::new(
            Exit::Failed,
            format!("what answers at {} does not speak HTTP as a Lucid node does: {what}", node.url()),
        ),
        Trouble::Silent => Failure::new(
            Exit::Failed,
            format!("the node at {} left requests unanswered for 10 s", node.url()),
        )
        .and(format!("try fewer than {} connections of depth {}", task.connections, task.depth)),
    }
}
