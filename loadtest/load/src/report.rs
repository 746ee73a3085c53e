//! What a run found, and the line that says it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use hdrhistogram::Histogram;

/// Longest latency told apart, in nanoseconds.
const LATENCY_NS_MAX: u64 = 100_000_000_000;

/// What a picture of the latency is drawn from.
const PERCENTILES: [f64; 18] = [
    1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.75, 99.9, 99.95, 99.975, 99.99, 99.995,
    99.999, 100.0,
];

/// What one thread, or all of them, found.
#[derive(Debug)]
pub struct Report {
    pub requests: u64,
    pub hits: u64,
    pub misses: u64,
    pub stored: u64,
    pub wrong: u64,
    /// Connections lost, answers that are none, requests never answered.
    pub errors: u64,
    /// Open loop: due and never sent.
    pub unsent: u64,
    /// Answers that refuse, by status.
    pub refused: BTreeMap<u16, u64>,
    pub seconds: f64,
    pub latency_ns: Histogram<u64>,
    /// The longest latency of each second, in nanoseconds.
    pub second_max_ns: Vec<u64>,
}

impl Report {
    pub fn new() -> Report {
        Report {
            requests: 0,
            hits: 0,
            misses: 0,
            stored: 0,
            wrong: 0,
            errors: 0,
            unsent: 0,
            refused: BTreeMap::new(),
            seconds: 0.0,
            latency_ns: Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).unwrap_or_else(|_| unreachable!()),
            second_max_ns: Vec::new(),
        }
    }

    pub fn record(&mut self, latency_ns: u64, second: usize) {
        self.latency_ns.saturating_record(latency_ns.clamp(1, LATENCY_NS_MAX));
        if self.second_max_ns.len() <= second {
            self.second_max_ns.resize(second + 1, 0);
        }
        self.second_max_ns[second] = self.second_max_ns[second].max(latency_ns);
    }

    pub fn add(&mut self, other: &Report) {
        self.requests += other.requests;
        self.hits += other.hits;
        self.misses += other.misses;
        self.stored += other.stored;
        self.wrong += other.wrong;
        self.errors += other.errors;
        self.unsent += other.unsent;
        for (status, count) in &other.refused {
            *self.refused.entry(*status).or_default() += count;
        }
        self.seconds = self.seconds.max(other.seconds);
        self.latency_ns += &other.latency_ns;
        for (second, max_ns) in other.second_max_ns.iter().enumerate() {
            if self.second_max_ns.len() <= second {
                self.second_max_ns.push(0);
            }
            self.second_max_ns[second] = self.second_max_ns[second].max(*max_ns);
        }
    }

    /// One line of JSON. `cpu`: what the server used.
    pub fn json(&self, cpu: Option<Cpu>, rate: Option<f64>) -> String {
        let mut out = String::from("{");
        let us = |ns: u64| ns as f64 / 1e3;
        let quantile = |q: f64| us(self.latency_ns.value_at_quantile(q));
        let _ = write!(
            out,
            "\"requests\": {}, \"seconds\": {:.3}, \"rps\": {:.0}, ",
            self.requests,
            self.seconds,
            self.requests as f64 / self.seconds.max(1e-9)
        );
        let _ = write!(
            out,
            "\"p50_us\": {:.1}, \"p90_us\": {:.1}, \"p99_us\": {:.1}, \"p999_us\": {:.1}, \"max_us\": {:.1}, ",
            quantile(0.5),
            quantile(0.9),
            quantile(0.99),
            quantile(0.999),
            us(self.latency_ns.max())
        );
        let _ = write!(
            out,
            "\"hits\": {}, \"misses\": {}, \"stored\": {}, \"wrong\": {}, \"errors\": {}, ",
            self.hits, self.misses, self.stored, self.wrong, self.errors
        );
        let refused: Vec<_> =
            self.refused.iter().map(|(status, count)| format!("\"{status}\": {count}")).collect();
        let _ = write!(out, "\"refused\": {{{}}}", refused.join(", "));
        if let Some(rate) = rate {
            let _ = write!(out, ", \"rate\": {rate}, \"unsent\": {}", self.unsent);
        }
        if let Some(cpu) = cpu {
            let _ = write!(
                out,
                ", \"user_s\": {:.2}, \"system_s\": {:.2}, \"cpu_s\": {:.4}, \"requests_per_cpu_s\": {:.0}",
                cpu.user,
                cpu.system,
                cpu.seconds(),
                self.requests as f64 / cpu.seconds().max(1e-9)
            );
        }
        let percentiles: Vec<_> =
            PERCENTILES.iter().map(|each| format!("[{each}, {:.1}]", quantile(each / 100.0))).collect();
        let _ = write!(out, ", \"percentiles_us\": [{}]", percentiles.join(", "));
        let maxima: Vec<_> = self.second_max_ns.iter().map(|ns| format!("{:.0}", us(*ns))).collect();
        let _ = write!(out, ", \"second_max_us\": [{}]}}", maxima.join(", "));
        out
    }
}

/// CPU seconds so far of some processes and their children.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// By the clock ticks that the kernel counts.
    pub user: f64,
    pub system: f64,
    /// Both, by the scheduler's nanoseconds; none where it keeps no such account.
    pub total: Option<f64>,
}

impl Cpu {
    pub fn of(pids: &[u32]) -> Cpu {
        let mut all = BTreeMap::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let number = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            if let Some((number, found)) = number.and_then(|number| Some((number, stat(number)?))) {
                all.insert(number, found);
            }
        }
        let mut sum = Cpu { total: Some(0.0), ..Cpu::default() };
        let mut todo = pids.to_vec();
        let mut done = BTreeSet::new();
        while let Some(pid) = todo.pop() {
            if !done.insert(pid) {
                continue;
            }
            if let Some((_, user, system)) = all.get(&pid) {
                sum.user += *user as f64 / TICKS_A_SECOND;
                sum.system += *system as f64 / TICKS_A_SECOND;
                sum.total = sum.total.zip(scheduled_ns(pid)).map(|(total, ns)| total + ns as f64 / 1e9);
            }
            todo.extend(all.iter().filter(|(_, (parent, ..))| *parent == pid).map(|(child, _)| *child));
        }
        sum
    }

    pub fn since(self, before: Cpu) -> Cpu {
        Cpu {
            user: self.user - before.user,
            system: self.system - before.system,
            total: self.total.zip(before.total).map(|(after, before)| after - before),
        }
    }

    fn seconds(self) -> f64 {
        self.total.unwrap_or(self.user + self.system)
    }
}

const TICKS_A_SECOND: f64 = 100.0;

/// Parent, and the ticks in user and system mode.
fn stat(pid: u32) -> Option<(u32, u64, u64)> {
    // Field 4 is the parent, 14 and 15 the times.
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(1);
    let parent = fields.next()?.parse().ok()?;
    let mut times = fields.skip(9).map(|field| field.parse::<u64>().ok());
    Some((parent, times.next()??, times.next()??))
}

/// Nanoseconds that the threads of a process ran.
fn scheduled_ns(pid: u32) -> Option<u64> {
    let mut sum = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        sum += text.split_ascii_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(sum)
}
