//! The command line: what can be typed, and what each verb does before the node takes over.
//!
//! Everything an operator is told goes to stderr behind `lucid: `; what a script may want to read goes
//! to stdout. A failure says what happened, to what, and what to do next, and ends with the exit code
//! of its kind ([`failure`]).
//!
//! | verbs | module |
//! |---|---|
//! | `init`, `server`, `api`, `settings` | of the same name: a node and its configuration |
//! | `get`, `put`, `delete`, `patch`, `list`, `execute`, `key`, `app`, `dump`, `restore` | [`client`]: a running node |
//! | `recover`, `rekey`; `key` and `app` of a stopped node | [`folder`]: what a node keeps on disk |
//! | `token` | [`token`]: credentials, without a node |
//! | `bench` | [`mod@bench`]: how a node answers under load |
//! | `completions`, `man` | [`pages`]: what shells and manuals want |
//!
//! The examples of each verb's help are run by `tests/readme.rs`: behind `$ ` stands what is typed, below
//! it what comes.

pub mod api;
pub mod bench;
pub mod certificate;
pub mod client;
pub mod failure;
pub mod folder;
pub mod init;
pub mod logging;
pub mod pages;
mod port;
pub mod random;
pub mod server;
pub mod settings;
pub mod token;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::machine::Machine;
use crate::config::{Loaded, Sources, load, search_paths};
use failure::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  lucid server                    Try it: no file, in memory, this machine only
  lucid init && lucid server      Write lucid.yml with a secret of your own, then serve
  lucid put greeting hello        Store a value; the token is in LUCID_TOKEN
  lucid get greeting              Read it
  lucid bench                     See what this machine does

`lucid VERB --help` has an example of each verb. Every setting can also be given
in the environment: general.port as LUCID_GENERAL__PORT, or in a file that
LUCID_GENERAL__PORT_FILE names. Flags win over the environment, and that over
the file.

Exit codes: 0 fine, 1 failed, 2 wrong usage; of clients 3 absent, 4 refused,
5 conflict; of servers 69 cannot listen, 77 not permitted, 78 bad configuration.";

const INIT_EXAMPLE: &str = "\
Example:
  $ lucid -c /etc/lucid/lucid.yml init
  Wrote /etc/lucid/lucid.yml, which only you can read.
  …";

const SERVER_EXAMPLE: &str = "\
Example:
  $ lucid server --bind 127.0.0.1 --port 7020 --workers 2
  …
  listening on http://127.0.0.1:7020
  …";

const API_EXAMPLE: &str = "\
Example:
  $ lucid api 'open sesame' --host localhost --port 7020
  …
  listening on http://…:7020
  …

The password is gone from the command line as soon as the node runs; a shell may keep
it in its history. `lucid api - < FILE` reads it where nobody sees it.";

const SETTINGS_EXAMPLE: &str = "\
Example:
  $ lucid settings | grep general.port
  general.port = 7020 …(default)
  …";

const GET_EXAMPLE: &str = "\
Example:
  $ lucid put greeting 'hello world'
  created, ETag …
  $ lucid get greeting
  hello world
  $ lucid get greeting -o greeting.txt
  $ lucid put score 9001 --type json --app default
  stored
  $ lucid get score --app default
  9001";

const PUT_EXAMPLE: &str = "\
Example:
  $ date | lucid put now --ttl 10m
  created, ETag …
  $ lucid put picture --file logo.png --type image/png
  created, ETag …
  $ lucid put leader node-1 --create
  created, ETag …
  $ lucid put leader node-2 --create
  lucid: leader: A condition of the request does not hold. (412, condition_failed)
  lucid: the value there has the ETag …; read it again, then decide";

const DELETE_EXAMPLE: &str = "\
Example:
  $ lucid put job 42
  created, ETag …
  $ lucid delete job --output -
  42
  $ lucid delete job
  lucid: job: the key does not exist";

const PATCH_EXAMPLE: &str = "\
Example:
  $ lucid put visits 41
  created, ETag …
  $ lucid patch visits increment
  42
  $ lucid patch visits ttl 1h
  The expiration of the specified key was successfully set.
  $ token=$(lucid patch visits lock 30)
  $ lucid patch visits increment 8 --fencing-token \"$token\"
  50";

const LIST_EXAMPLE: &str = "\
Example:
  $ lucid put user/1 ada
  created, ETag …
  $ lucid put user/2 grace
  created, ETag …
  $ lucid list --prefix user/
  user/1
  user/2";

const DUMP_EXAMPLE: &str = "\
Example:
  $ lucid put greeting hello
  created, ETag …
  $ lucid dump node.ndjson.zst
  1 key, 0 items, 0 lists, 1 app
  $ lucid dump --prefix greeting | sed -n 2p
  {\"key\":\"greeting\",\"value\":\"hello\"}

Credentials are not in it. The format is NDJSON; the README has its members. From node to node:
lucid dump --url http://a:7020 | lucid restore --url http://b:7020";

const RESTORE_EXAMPLE: &str = "\
Example:
  $ lucid put greeting hello
  created, ETag …
  $ lucid dump node.ndjson
  1 key, 0 items, 0 lists, 1 app
  $ lucid restore node.ndjson --prefix copy/
  restored 1 entry
  $ lucid get copy/greeting
  hello";

const RECOVER_EXAMPLE: &str = "\
Example:
  $ lucid recover /var/lib/lucid
  lucid: /var/lib/lucid is no folder

With a folder of a node that is stopped, it lists what each file has, names every damaged place, and changes
nothing; --to DIR writes what can be kept into a new folder.";

const REKEY_EXAMPLE: &str = "\
Example:
  $ lucid rekey /var/lib/lucid --new-key-file new.key
  lucid: /var/lib/lucid is no folder

The keys come from files, LUCID_ENCRYPTION__PRIVATE_KEY and LUCID_NEW_PRIVATE_KEY, the configuration, or are
asked for; they never stand on the command line.";
const EXECUTE_EXAMPLE: &str = "\
Example:
  $ lucid execute SET notes greeting 'hello world'
  true
  $ lucid execute 'GET notes greeting'
  \"hello world\"
  $ lucid execute INCR notes visits 5
  5
  $ lucid list --database notes
  greeting
  visits
  $ echo 'DATABASE_POP notes' | lucid execute -
  true

The databases' password is taken from LUCID_PASSWORD, or from the file that
LUCID_PASSWORD_FILE names; without one, the token.";

const BENCH_EXAMPLE: &str = "\
Example:
  $ lucid bench get --duration 1s
  get, closed loop: 64 connections, depth 1, 10,000 keys of 100 bytes, … s

  requests   …   … a second, … a second back

  latency           p50        p90        p99      p99.9        max
  get       …
  $ lucid bench mixed --rate 500 --duration 1s
  mixed, open loop at 500 a second: 64 connections, depth 1, 10,000 keys of 100 bytes, … s

  requests   …   … a second, … a second back

  latency           p50        p90        p99      p99.9        max
  get       …
  put       …
  …

The load takes cores too: next to the node, on one machine, each gets a part of it.";

const COMPLETIONS_EXAMPLE: &str = "\
Example:
  $ lucid completions bash > lucid.bash
  $ source ./lucid.bash

bash: into ~/.local/share/bash-completion/completions/lucid
zsh:  into a folder of $fpath, as _lucid
fish: into ~/.config/fish/completions/lucid.fish
powershell: lucid completions powershell | Out-String | Invoke-Expression";

const MAN_EXAMPLE: &str = "\
Example:
  $ lucid man > lucid.1
  $ lucid man --dir man1
  $ ls man1 | head -n 3
  lucid-api.1
  lucid-app-create.1
  lucid-app-delete.1";

const OPENAPI_EXAMPLE: &str = "\
Example:
  $ lucid openapi > openapi.yaml";

/// A fast in-memory key-value node spoken to over HTTP
#[derive(Debug, Parser)]
#[command(name = "lucid", version, after_help = EXAMPLES, arg_required_else_help = true, args_override_self = true, max_term_width = 100)]
struct CommandLine {
    /// The configuration file [else the first of ./lucid.yml, ~/.config/lucid/lucid.yml and
    /// /etc/lucid/lucid.yml; init writes ./lucid.yml]
    #[arg(short, long, global = true, value_name = "FILE", help_heading = "Of every verb")]
    config: Option<PathBuf>,
    /// Start without a greeting
    #[arg(long, global = true, help_heading = "Of every verb")]
    no_banner: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a configuration file with a new secret and a certificate, and show the root token once
    #[command(after_help = INIT_EXAMPLE)]
    Init(InitArgs),
    /// Serve until stopped
    #[command(after_help = SERVER_EXAMPLE)]
    Server(ServerArgs),
    /// Serve KOT's databases until stopped: a node with a password for them
    #[command(after_help = API_EXAMPLE)]
    Api(api::ApiArgs),
    /// Show every setting with its origin, secrets masked
    #[command(after_help = SETTINGS_EXAMPLE)]
    Settings(SettingsArgs),
    /// Read a value
    #[command(after_help = GET_EXAMPLE)]
    Get(client::get::GetArgs),
    /// Store a value: an argument, a file or stdin
    #[command(after_help = PUT_EXAMPLE)]
    Put(client::put::PutArgs),
    /// Remove a key and its value
    #[command(after_help = DELETE_EXAMPLE)]
    Delete(client::delete::DeleteArgs),
    /// Count, lock or time a value where it lies
    #[command(after_help = PATCH_EXAMPLE)]
    Patch(client::patch::PatchArgs),
    /// List the keys in byte order, all of them
    #[command(after_help = LIST_EXAMPLE)]
    List(client::list::ListArgs),
    /// Send a query to the databases
    #[command(after_help = EXECUTE_EXAMPLE)]
    Execute(client::execute::ExecuteArgs),
    /// Make and read tokens
    Token(token::TokenArgs),
    /// Make, list and end API keys
    Key(client::api_key::ApiKeyArgs),
    /// Make, list and end apps, and give them new tokens
    App(client::app::AppArgs),
    /// Write all that a node holds to a file, while it serves
    #[command(after_help = DUMP_EXAMPLE)]
    Dump(client::dump::DumpArgs),
    /// Write what a dump holds into a node
    #[command(after_help = RESTORE_EXAMPLE)]
    Restore(client::restore::RestoreArgs),
    /// Say what can be kept of a damaged folder, and write it into another one
    #[command(after_help = RECOVER_EXAMPLE)]
    Recover(folder::recover::RecoverArgs),
    /// Give a folder another key, or one at all, or none any more
    #[command(after_help = REKEY_EXAMPLE)]
    Rekey(folder::rekey::RekeyArgs),
    /// Load a node and show how it answers
    #[command(after_help = BENCH_EXAMPLE)]
    Bench(Box<bench::BenchArgs>),
    /// Print a script that completes this command line in a shell
    #[command(after_help = COMPLETIONS_EXAMPLE)]
    Completions(pages::CompletionsArgs),
    /// Print the manual
    #[command(after_help = MAN_EXAMPLE)]
    Man(pages::ManArgs),
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
    /// Replace files that are there
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
    /// How it serves.
    #[command(flatten)]
    pub run: RunArgs,
}

/// How a node serves, wherever it does.
#[derive(Args, Debug)]
pub struct RunArgs {
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

impl RunArgs {
    /// The settings that the flags stand for.
    fn flags(&self) -> Flags {
        let workers = self.workers.map(|count| ("runtime.workers", count.to_string(), "--workers"));
        let format = self.log_format.clone().map(|format| ("logging.format", format, "--log-format"));
        workers.into_iter().chain(format).collect()
    }

    /// The flags as they are typed.
    fn words(&self) -> Vec<String> {
        let workers = self.workers.map(|count| format!("--workers={count}"));
        let format = self.log_format.as_ref().map(|format| format!("--log-format={format}"));
        let insecure = self.insecure.then(|| "--insecure".to_owned());
        workers.into_iter().chain(format).chain(insecure).collect()
    }
}

/// Arguments of `lucid settings`.
#[derive(Args, Debug)]
pub struct SettingsArgs {
    /// Only say whether a server would start with them
    #[arg(long)]
    pub check: bool,
    /// Write one JSON object, for scripts
    #[arg(long, conflicts_with = "check")]
    pub json: bool,
    /// Read a password from stdin and write what databases.password_hash may hold in its place
    #[arg(long, conflicts_with_all = ["check", "json"])]
    pub hash_password: bool,
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
        Verb::Api(args) => api::run(args, config, line.no_banner),
        Verb::Settings(args) => settings::run(&args, config, line.no_banner),
        Verb::Get(args) => client::get::run(&args),
        Verb::Put(args) => client::put::run(&args),
        Verb::Delete(args) => client::delete::run(&args),
        Verb::Patch(args) => client::patch::run(&args),
        Verb::List(args) => client::list::run(&args),
        Verb::Execute(args) => client::execute::run(&args),
        Verb::Token(args) => token::run(&args, config),
        Verb::Key(args) => client::api_key::run(&args, config),
        Verb::App(args) => client::app::run(&args, config),
        Verb::Dump(args) => client::dump::run(&args),
        Verb::Restore(args) => client::restore::run(&args),
        Verb::Recover(args) => folder::recover::run(&args, config),
        Verb::Rekey(args) => folder::rekey::run(&args, config),
        Verb::Bench(args) => bench::run(&args),
        Verb::Completions(args) => pages::completions(&args, CommandLine::command()),
        Verb::Man(args) => pages::man(&args, CommandLine::command()),
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
    load(sources).map_err(Failure::of_load)
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory, Parser};

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

    /// The verbs at the ends of the tree.
    fn leaves(command: &Command) -> Vec<Command> {
        match command.get_subcommands().next() {
            None => vec![command.clone()],
            Some(_) => command.get_subcommands().flat_map(leaves).collect(),
        }
    }

    #[test]
    fn every_verb_says_what_it_does_and_has_an_example() {
        for verb in leaves(&CommandLine::command()) {
            let name = verb.get_name();
            assert!(verb.get_about().is_some(), "{name}");
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Example:\n  $ "), "{name}: {help}");
            assert!(help.contains(&format!(" {name}")), "{name} is not in its own example");
            for argument in verb.get_arguments().filter(|argument| !argument.is_hide_set()) {
                assert!(argument.get_help().is_some(), "{name} {}", argument.get_id());
            }
        }
    }
}
