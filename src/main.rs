//! The program `lucid`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lucid::cli::run()
}
