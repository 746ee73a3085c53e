//! `lucid settings`: shows what the program would run on, and whether a server would; makes what the file may
//! hold of a password.

use std::io::{self, BufRead, Read};
use std::path::Path;
use std::process::ExitCode;

use zeroize::Zeroizing;

use super::failure::{Exit, Failure, print, tell};
use super::{SettingsArgs, load_settings, random};
use crate::clock::Clock;
use crate::config::{Loaded, PasswordHash, SALT_BYTES, Settings};
use crate::limits::CREDENTIAL_BYTES_MAX;
use crate::net::Pair;

/// Shows or checks the settings.
pub fn run(args: &SettingsArgs, config: Option<&Path>, no_banner: bool) -> Result<ExitCode, Failure> {
    if args.hash_password {
        return hash_password();
    }
    let loaded = load_settings(config, Vec::new(), no_banner, false)?;
    loaded.settings.warnings.iter().for_each(|warning| tell(&format!("warning: {warning}")));
    if args.check {
        if !loaded.refusals.is_empty() {
            return Err(Failure::configuration(loaded.refusals));
        }
        check_certificate(&loaded.settings)?;
        print(&format!("{}: a server would start with these settings\n", source(&loaded)))?;
    } else if args.json {
        print(&format!("{:#}\n", json(&loaded)))?;
    } else {
        print(&listing(&loaded))?;
        loaded.refusals.iter().for_each(|problem| tell(&format!("a server would refuse this: {problem}")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Hashes the line that stdin has.
fn hash_password() -> Result<ExitCode, Failure> {
    let mut line = Zeroizing::new(String::new());
    let most = CREDENTIAL_BYTES_MAX as u64;
    let read = io::stdin().lock().take(most).read_line(&mut line);
    read.map_err(|error| Failure::of_io(&error, "cannot read a password from stdin"))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::new(Exit::Usage, "there is no password on stdin: give it as a line"));
    }
    let hash = PasswordHash::of(password.as_bytes(), &random::bytes::<SALT_BYTES>()?);
    print(&format!("{hash}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a server would have a certificate to show.
fn check_certificate(settings: &Settings) -> Result<(), Failure> {
    let Some(tls) = &settings.general.tls else { return Ok(()) };
    let now = Clock::wall_seconds();
    match Pair::load(&tls.certificate, &tls.key, now) {
        Ok(pair) => {
            pair.warning(now).iter().for_each(|warning| tell(&format!("warning: {warning}")));
            Ok(())
        }
        Err(error) if error.is_denied() => Err(Failure::denied(error.to_string())),
        Err(error) => Err(Failure::new(Exit::Configuration, error.to_string())),
    }
}

fn source(loaded: &Loaded) -> String {
    loaded.settings.file.as_ref().map_or("no file".into(), |path| path.display().to_string())
}

/// The same for a script.
fn json(loaded: &Loaded) -> serde_json::Value {
    let settings: serde_json::Map<String, serde_json::Value> = loaded
        .listing
        .iter()
        .map(|shown| {
            (shown.path.to_owned(), serde_json::json!({"value": shown.json, "origin": shown.origin}))
        })
        .collect();
    let refusals: Vec<String> = loaded.refusals.iter().map(ToString::to_string).collect();
    serde_json::json!({
        "file": loaded.settings.file.as_ref().map(|path| path.display().to_string()),
        "settings": settings,
        "warnings": loaded.settings.warnings,
        "refusals": refusals,
    })
}

/// Every setting in a line, the origins below each other.
fn listing(loaded: &Loaded) -> String {
    let lines: Vec<(String, &str)> = loaded
        .listing
        .iter()
        .map(|shown| (format!("{} = {}", shown.path, shown.value), shown.origin.as_str()))
        .collect();
    let width =
        lines.iter().map(|(line, _)| line.chars().count()).filter(|width| *width <= 50).max().unwrap_or(0);
    let mut text = format!("# {}\n", source(loaded));
    for (line, origin) in lines {
        text.push_str(&format!("{line:width$}  ({origin})\n"));
    }
    text
}
