//! The command line: what can be typed, and what each verb does before the node takes over.
//!
//! Everything an operator is told goes to stderr behind `lucid: `; what a script may want to read goes
//! to stdout. A failure says what happened, to what, and what to do next, and ends with the exit code
//! of its kind ([`failure`]).

pub mod failure;
pub mod init;
pub mod logging;
pub mod random;
pub mod server;
pub mod settings;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::machine::Machine;
use crate::config::problem::LoadError;
use crate::config::{Loaded, Sources, load, search_paths};
use failure::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  lucid server                    Try it: no file, in memory, this machine only
  lucid init && lucid server      Write lucid.yml with a secret of your own, then serve
  lucid -c /etc/lucid/lucid.yml settings --check

Every setting can also be given in the environment: general.port as LUCID_GENERAL__PORT, or in
a file that LUCID_GENERAL__PORT_FILE names. Flags win over the environment, and that over the file.";

const INIT_EXAMPLE: &str = "\
Example:
  lucid -c /etc/lucid/lucid.yml init";

const SERVER_EXAMPLE: &str = "\
Example:
  lucid server --bind 127.0.0.1 --port 7020 --workers 2";

const SETTINGS_EXAMPLE: &str = "\
Example:
  lucid settings | grep port";

const OPENAPI_EXAMPLE: &str = "\
Example:
  lucid openapi > openapi.yaml";

/// A fast in-memory key-value node spoken to over HTTP
#[derive(Debug, Parser)]
#[command(name = "lucid", version, after_help = EXAMPLES, arg_required_else_help = true, max_term_width = 100)]
struct CommandLine {
    /// The configuration file [else the first of ./lucid.yml, ~/.config/lucid/lucid.yml and
    /// /etc/lucid/lucid.yml; init writes ./lucid.yml]
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Start without a greeting
    #[arg(long, global = true)]
    no_banner: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a configuration file with a new secret, and show the root token once
    #[command(after_help = INIT_EXAMPLE)]
    Init(InitArgs),
    /// Serve until stopped
    #[command(after_help = SERVER_EXAMPLE)]
    Server(ServerArgs),
    /// Show every setting with its origin, secrets masked
    #[command(after_help = SETTINGS_EXAMPLE)]
    Settings(SettingsArgs),
    /// Print the OpenAPI document of the endpoints, in YAML
    #[command(after_help = OPENAPI_EXAMPLE)]
    Openapi,
}

/// Arguments of `lucid init`.
#[derive(Args, Debug)]
pub struct InitArgs {
    /// Use this secret, at least 32 bytes, instead of drawing one
    #[arg(short, long, value_name = "SECRET")]
    pub secret: Option<String>,
    /// Replace a file that is there
    #[arg(short, long)]
    pub force: bool,
}

/// Arguments of `lucid server`.
#[derive(Args, Debug)]
pub struct ServerArgs {
    /// Listen on this address or host name
    #[arg(long, value_name = "HOST")]
    pub bind: Option<String>,
    /// Listen on this port; 0 lets the system choose one
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Serve with this many threads; 0 is one for each core
    #[arg(long, value_name = "COUNT")]
    pub workers: Option<u16>,
    /// Serve other machines without authentication
    #[arg(long)]
    pub insecure: bool,
    /// How log lines look
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"])]
    pub log_format: Option<String>,
}

/// Arguments of `lucid settings`.
#[derive(Args, Debug)]
pub struct SettingsArgs {
    /// Only say whether a server would start with them
    #[arg(long)]
    pub check: bool,
}

/// Runs the program.
pub fn run() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => return misunderstood(&error),
    };
    let config = line.config.as_deref();
    let result = match line.verb {
        Verb::Init(args) => init::run(&args, config),
        Verb::Server(args) => server::run(args, config, line.no_banner),
        Verb::Settings(args) => settings::run(&args, config, line.no_banner),
        Verb::Openapi => openapi(),
    };
    result.unwrap_or_else(|failure| failure.report())
}

/// Answers a line that is no call: with help or the version where that was asked for.
fn misunderstood(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    match text.strip_prefix("error: ") {
        Some(text) => {
            let mut lines = text.trim_end().lines().filter(|line| !line.is_empty());
            let failure = Failure::new(Exit::Usage, lines.next().unwrap_or_default());
            lines.fold(failure, |failure, line| failure.and(line)).report()
        }
        None => {
            // Help and version go to stdout, help in place of an error to stderr.
            let _ = error.print();
            ExitCode::from(error.exit_code() as u8)
        }
    }
}

/// Prints the OpenAPI document.
fn openapi() -> Result<ExitCode, Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(crate::api::openapi::document().as_bytes()).and_then(|()| out.flush()).map_err(
        |error| Failure::new(Exit::Failed, format!("cannot write to the standard output: {error}")),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Flags that stand for settings: path, value, and the flag as it is typed.
type Flags = Vec<(&'static str, String, &'static str)>;

/// Loads the settings of this process.
fn load_settings(
    config: Option<&Path>,
    mut flags: Flags,
    no_banner: bool,
    insecure: bool,
) -> Result<Loaded, Failure> {
    if no_banner {
        flags.push(("general.show_banner", "false".into(), "--no-banner"));
    }
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let sources = Sources {
        config: config.map(Path::to_owned),
        search: search_paths(home.as_deref()),
        environment,
        flags,
        insecure,
        machine: Machine::measure(),
        fresh_secret: random::secret()?,
    };
    load(sources).map_err(|error| match error {
        LoadError::Invalid(problems) => Failure::configuration(problems),
        LoadError::Denied(problem) => Failure::denied(problem.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{CommandLine, Verb};

    #[test]
    fn the_command_line_is_well_formed() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn the_file_and_the_banner_go_before_or_after_the_verb() {
        for line in [
            "lucid -c f --no-banner server",
            "lucid server -c f --no-banner",
            "lucid --config=f server --no-banner",
        ] {
            let line = CommandLine::try_parse_from(line.split(' ')).expect(line);
            assert_eq!(line.config.as_deref(), Some(std::path::Path::new("f")));
            assert!(line.no_banner && matches!(line.verb, Verb::Server(_)));
        }
    }

    #[test]
    fn every_verb_has_a_working_example() {
        for verb in CommandLine::command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = help.lines().nth(1).expect("an example").split('|').next().unwrap_or_default();
            CommandLine::try_parse_from(example.split('>').next().unwrap_or_default().split_whitespace())
                .unwrap_or_else(|error| panic!("{example}: {error}"));
        }
    }
}
