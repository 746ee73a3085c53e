//! `lucid api`: a node for KOT's databases, started as KOT starts its API.
//!
//! KOT takes the password from the command line, where every user of the machine can read it for as long as
//! the process lives. So the program starts itself once more, with a `-` in the place of the password and
//! the password in a pipe: it is the same process, which only shows another command line.

use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use clap::Args;

use super::failure::{Exit, Failure};
use super::server::{Start, serve};
use super::{Flags, RunArgs};
use crate::config::Secret;
use crate::limits::CREDENTIAL_BYTES_MAX;

/// Arguments of `lucid api`.
#[derive(Args, Debug)]
pub struct ApiArgs {
    /// What callers of the databases show as their password; - reads it from stdin [else
    /// databases.password]
    #[arg(value_name = "PASSWORD")]
    password: Option<String>,
    /// Listen on this address or host name
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    host: String,
    /// Listen on this port; 0 lets the system choose one
    #[arg(long, value_name = "PORT", default_value_t = 5000)]
    port: u16,
    #[command(flatten)]
    run: RunArgs,
}

/// Serves until stopped.
pub fn run(args: ApiArgs, config: Option<&Path>, no_banner: bool) -> Result<ExitCode, Failure> {
    let password = match &args.password {
        None => None,
        Some(dash) if dash == "-" => Some(Secret::new(password_of(std::io::stdin().lock())?)),
        Some(password) => {
            let password = Secret::new(good(password)?);
            return Err(start_again(&args, &password, config, no_banner));
        }
    };
    let mut flags: Flags = vec![
        ("general.bind_address", args.host, "--host"),
        ("general.port", args.port.to_string(), "--port"),
    ];
    flags.extend(password.map(|password| ("databases.password", password.expose().into(), "PASSWORD")));
    flags.extend(args.run.flags());
    serve(Start { flags, config, no_banner, insecure: args.run.insecure, needs_password: true })
}

/// Becomes the same program with a command line that anybody may see. Answers only if it cannot.
fn start_again(args: &ApiArgs, password: &Secret, config: Option<&Path>, no_banner: bool) -> Failure {
    let begin = || {
        let (reader, mut writer) = std::io::pipe()?;
        // Shorter than what a pipe holds, so that nobody has to read yet.
        writer.write_all(password.expose().as_bytes())?;
        let program = std::env::current_exe()?;
        let mut command = Command::new(program);
        command.arg0(std::env::args_os().next().unwrap_or_else(|| "lucid".into()));
        command.args(["api", "-", "--host", &args.host, "--port", &args.port.to_string()]);
        command.args(args.run.words());
        command.args(no_banner.then_some("--no-banner"));
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        drop(writer);
        Err(command.stdin(reader).exec())
    };
    let begun: std::io::Result<std::convert::Infallible> = begin();
    let Err(error) = begun;
    Failure::of_io(&error, "cannot hide the password from the command line")
        .and("give it in a pipe: lucid api - reads it from stdin")
}

/// The password on the first line of what can be read.
fn password_of(reader: impl BufRead) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = reader.take(CREDENTIAL_BYTES_MAX as u64 + 3).read_until(b'\n', &mut bytes);
    read.map_err(|error| Failure::of_io(&error, "cannot read the password"))?;
    let text =
        String::from_utf8(bytes).map_err(|_| Failure::new(Exit::Usage, "the password is not UTF-8"))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    good(line.strip_suffix('\r').unwrap_or(line)).map(str::to_owned)
}

/// A password that a client can send.
fn good(password: &str) -> Result<&str, Failure> {
    let wrong = |why: &str| Err(Failure::new(Exit::Usage, format!("the password {why}")));
    match password.len() {
        0 => wrong("is empty"),
        length if length > CREDENTIAL_BYTES_MAX => wrong("is longer than 4096 bytes"),
        _ if password.contains(char::is_control) => wrong("holds control characters"),
        _ => Ok(password),
    }
}

#[cfg(test)]
mod tests {
    use super::password_of;
    use crate::limits::CREDENTIAL_BYTES_MAX;

    #[test]
    fn a_password_is_the_first_line_and_has_its_bounds() {
        for text in ["p\u{e9} w", "p\u{e9} w\n", "p\u{e9} w\r\n", "p\u{e9} w\nmore"] {
            assert_eq!(password_of(text.as_bytes()).unwrap(), "p\u{e9} w");
        }
        for bytes in [&b""[..], b"\n", b"\r\n", b"a\xff", b"a\0b", b"a\tb"] {
            assert!(password_of(bytes).is_err(), "{bytes:?}");
        }
        for (length, good) in [(CREDENTIAL_BYTES_MAX, true), (CREDENTIAL_BYTES_MAX + 1, false)] {
            assert_eq!(password_of("p".repeat(length).as_bytes()).is_ok(), good);
            assert_eq!(password_of(format!("{}\r\n", "p".repeat(length)).as_bytes()).is_ok(), good);
        }
    }
}
