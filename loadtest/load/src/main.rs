//! Load generator for key-value servers. One run is one command and prints one line of JSON.
//!
//! ```text
//! args ─► workers (a thread each: own connections, own poll) ─► report
//!              │ keys: which key next
//!              │ values: what a key's value must be
//!              └ wire: a request as bytes, an answer from bytes
//! ```
//!
//! Closed loop: a connection sends `--depth` requests in one write, reads all their answers, sends the
//! next. Open loop (`--rate`): requests are due at fixed times whatever the server does, and latency
//! counts from the due time, so a stall is felt by everyone who would have come during it.
//! Values are checked byte for byte: a value is a function of its key and length.

mod args;
mod keys;
mod report;
mod values;
mod wire;
mod worker;

use std::process::ExitCode;
use std::sync::Arc;

use report::{Cpu, Report};

fn main() -> ExitCode {
    let args = match args::Args::parse(std::env::args().skip(1)) {
        Ok(args) => Arc::new(args),
        Err(problem) => {
            eprintln!("load: {problem}\n\n{}", args::USAGE);
            return ExitCode::from(2);
        }
    };
    let cpu_before = (!args.pids.is_empty()).then(|| Cpu::of(&args.pids));
    let workers: Vec<_> = (0..args.threads)
        .map(|number| {
            let args = args.clone();
            std::thread::spawn(move || worker::run(&args, number))
        })
        .collect();
    let mut total = Report::new();
    for worker in workers {
        match worker.join() {
            Ok(Ok(report)) => total.add(&report),
            Ok(Err(error)) => {
                eprintln!("load: {}: {error}", args.address);
                return ExitCode::FAILURE;
            }
            Err(_) => return ExitCode::FAILURE,
        }
    }
    let cpu = cpu_before.map(|before| Cpu::of(&args.pids).since(before));
    println!("{}", total.json(cpu, args.rate));
    ExitCode::SUCCESS
}
