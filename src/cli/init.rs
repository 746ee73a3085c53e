//! `lucid init`: writes a configuration file that only its owner can read, with a secret, and shows the
//! root token once. Beside it, a certificate that the machine signs itself, so that https works.
//!
//! What it writes, `server` takes. The token is not kept: whoever loses it makes another with the secret.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::failure::{Exit, Failure, print};
use super::{InitArgs, certificate, random};
use crate::auth::root_token;
use crate::clock::Clock;
use crate::config::Secret;
use crate::config::safety::{SECRET_BYTES_MIN, Weakness, weakness};

/// The address that stands in the root token as its issuer. It is not verified.
const ISSUER: &str = "http://localhost:7020/";

/// Writes the files.
pub fn run(args: &InitArgs, config: Option<&Path>) -> Result<ExitCode, Failure> {
    let path = config.unwrap_or(Path::new("lucid.yml"));
    let program = std::env::args().next().unwrap_or_else(|| "lucid".into());
    let already_there = || already_there(path, &command(&program, config, "init --force"));
    if !args.force && path.symlink_metadata().is_ok() {
        return Err(already_there());
    }
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        let what = format!("cannot write {}: it is a folder, a device or a pipe, not a file", path.display());
        return Err(Failure::new(Exit::Failed, what).and("name another with -c FILE"));
    }
    let secret = match &args.secret {
        Some(secret) => chosen(secret)?,
        None => random::secret()?,
    };
    let pair = PairPaths::beside(path)
        .map_err(|error| Failure::of_io(&error, format!("cannot tell where {} is", path.display())))?;
    let now = Clock::wall_seconds();
    let made = certificate::self_signed(certificate::host_name().as_deref(), now)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot make a certificate: {error}")))?;
    let write = |path: &Path, text: &str, mode| match args.force {
        true => replace(path, text, mode),
        false => create(path, text, mode),
    };
    let text = file(&secret, &pair);
    let mut files = [
        (path, text.as_str(), 0o600),
        (&pair.key, &made.key, 0o600),
        (&pair.certificate, &made.certificate, 0o644),
    ];
    if args.force {
        // What is there is replaced by a pair that goes with it, and only then.
        files.rotate_left(1);
    }
    for (number, (target, text, mode)) in files.iter().enumerate() {
        let Err(error) = write(target, text, *mode) else { continue };
        if !args.force {
            // They were not there before.
            files[..number].iter().for_each(|(path, ..)| drop(fs::remove_file(path)));
        }
        return Err(match error.kind() {
            ErrorKind::AlreadyExists if *target == path => already_there(),
            ErrorKind::AlreadyExists => Failure::new(
                Exit::Failed,
                format!(
                    "{} is there, and init does not replace it; move it away, or replace it with {}",
                    target.display(),
                    command(&program, config, "init --force")
                ),
            ),
            ErrorKind::NotFound => Failure::new(
                Exit::Failed,
                format!("cannot write {}: its folder is not there; make it first", target.display()),
            ),
            _ => Failure::of_io(&error, format!("cannot write {}", target.display())),
        });
    }
    let token = root_token(secret.expose().as_bytes(), ISSUER, Clock::wall_seconds());
    let next = command(&program, config, "server");
    print(&format!(
        "Wrote {}, which only you can read.\n\
         TLS on port 7021 shows {}, which this machine signed itself: good for {} years, for localhost and the \
         name of this machine. Clients trust it with `curl --cacert {}`. Its key is {}.\n\n\
         Root token, shown only this once. Whoever has it may do everything for three years:\n\n\
         {token}\n\n\
         Next:\n\n  {next}\n",
        path.display(),
        pair.certificate.display(),
        certificate::YEARS,
        quoted(&pair.certificate.display().to_string()),
        pair.key.display(),
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Where certificate and key stand: beside the file, named after it.
struct PairPaths {
    certificate: PathBuf,
    key: PathBuf,
}

impl PairPaths {
    /// Absolute, so that the server finds them from wherever it is started.
    fn beside(config: &Path) -> io::Result<PairPaths> {
        let config = std::path::absolute(config)?;
        let stem = config.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let beside = |ending: &str| config.with_file_name(format!("{stem}-{ending}.pem"));
        Ok(PairPaths { certificate: beside("cert"), key: beside("key") })
    }
}

fn already_there(path: &Path, force: &str) -> Failure {
    Failure::new(Exit::Failed, "The Lucid node has already been initialized.").and(format!(
        "{} is there. To replace it with a new secret, which makes all tokens of the old one invalid: {force}",
        path.display()
    ))
}

/// A secret that the operator chose.
fn chosen(secret: &str) -> Result<Secret, Failure> {
    let why = match weakness(secret) {
        None if secret.chars().any(char::is_control) => "it has a control character in it".into(),
        None => return Ok(Secret::new(secret)),
        Some(Weakness::Empty) => "it is empty".into(),
        Some(Weakness::Published) => "it stands in a published sample file".into(),
        Some(Weakness::Short) => format!("it is shorter than {SECRET_BYTES_MIN} bytes, so it can be guessed"),
    };
    Err(Failure::new(Exit::Usage, format!("--secret cannot be used: {why}; leave it out to draw a good one")))
}

/// A command to paste into a shell.
fn command(program: &str, config: Option<&Path>, verb: &str) -> String {
    let config = config.map(|path| format!(" --config {}", quoted(&path.display().to_string())));
    format!("{}{} {verb}", quoted(program), config.unwrap_or_default())
}

fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%".contains(&byte);
    match !text.is_empty() && text.bytes().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// The text of the file.
fn file(secret: &Secret, pair: &PairPaths) -> String {
    // A JSON string is a YAML string too.
    let secret = serde_json::Value::from(secret.expose());
    let text = |path: &Path| match path.to_string_lossy() {
        plain if quoted(&plain) == plain && plain.starts_with('/') => plain.into_owned(),
        path => serde_json::Value::from(path).to_string(),
    };
    let (certificate, key) = (text(&pair.certificate), text(&pair.key));
    format!(
        "\
# Configuration of a Lucid node.
#
# `lucid settings` shows every setting there is, its value and where that comes from.
# Each can also be given in the environment: general.port as LUCID_GENERAL__PORT.

general:
  # 127.0.0.1 serves this machine only; 0.0.0.0 lets other machines in.
  bind_address: 127.0.0.1
  port: 7020
  # https://localhost:7021, beside plain HTTP. SIGHUP loads a certificate that was renewed.
  use_ssl: true
  port_ssl: 7021
  ssl_certificate: {certificate}
  ssl_certificate_key: {key}
  # The same API for processes of this machine, and users among them who need no token there.
  # unix_socket: /run/lucid/lucid.sock

authentication:
  enabled: true
  # Signs and verifies tokens, so keep it to yourself. Changing it makes all tokens invalid.
  secret_key: {secret}

store:
  # Ceiling of everything the node holds. Without it: half of the memory, at most 1GiB.
  # memory_limit: 1GiB
  # What to do when it is full: evict what is least worth keeping, or reject writes. Without it: evict, or
  # with persistence reject.
  # when_full: evict

persistence:
  # Keeps everything in a folder, from which the next start brings it back.
  # enabled: true
  # location: /var/lib/lucid
  # Power loss loses nothing (always), at most the last second (everysec), or what the system pleases (never).
  # sync: everysec

encryption:
  # Seals what is in that folder. Without the key, as of `openssl rand -hex 32`, nothing can be read.
  # enabled: true
  # private_key: …

logging:
  # off, error, warn, info, debug or trace
  level: info
"
    )
}

/// Writes a file that was not there.
fn create(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a file would keep the next try from being made.
        let _ = fs::remove_file(path);
    }
    written
}

/// Puts a new file in the place of what may be there, whole or not at all.
fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    // Where a link points is what is meant.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = target.clone().into_os_string();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = PathBuf::from(name);
    create(&fresh, text, mode)?;
    let renamed = fs::rename(&fresh, &target);
    if renamed.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::{PairPaths, chosen, file, quoted};
    use crate::config::Secret;
    use crate::config::machine::Machine;
    use crate::config::{Sources, load};

    #[test]
    fn what_init_writes_the_server_takes_with_the_same_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lucid.yml");
        for secret in [
            "0".repeat(64),
            "1e5".repeat(20),
            "null and void, but more than 32 bytes".into(),
            " '\"\\: # - {}[]&*!|>%@` and 32 bytes more ".into(),
            "Ünïcödé \u{2028}\u{85a}\u{1f980} of more than 32 bytes".into(),
        ] {
            let pair = PairPaths::beside(&path).unwrap();
            std::fs::write(&path, file(&Secret::new(secret.as_str()), &pair)).unwrap();
            let sources = Sources {
                config: Some(path.clone()),
                search: Vec::new(),
                environment: Vec::new(),
                flags: Vec::new(),
                insecure: false,
                machine: Machine::measure(),
                fresh_secret: Secret::new(""),
            };
            let loaded = load(sources).unwrap();
            assert_eq!(loaded.refusals, []);
            assert_eq!(loaded.settings.authentication.secret_key.expose(), secret);
            let tls = loaded.settings.general.tls.unwrap();
            assert_eq!((tls.certificate, tls.key), (pair.certificate, pair.key));
        }
    }

    #[test]
    fn a_chosen_secret_must_be_good() {
        assert!(chosen(&"s".repeat(32)).is_ok());
        for secret in ["", "short", &"s".repeat(31), &"line\n".repeat(9)] {
            assert!(chosen(secret).is_err(), "{secret:?}");
        }
    }

    #[test]
    fn commands_can_be_pasted() {
        assert_eq!(quoted("./target/release/lucid"), "./target/release/lucid");
        assert_eq!(quoted("it's here/lucid.yml"), r"'it'\''s here/lucid.yml'");
        assert_eq!(quoted(""), "''");
    }
}
