//! `lucid token`: makes tokens with the secret of the configuration, and reads what one says.
//!
//! Needs no node. Never shows the secret, nor a token but the one it has just made.

use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::client::node;
use super::failure::{Exit, Failure, print, tell};
use super::load_settings;
use crate::auth::{Grants, Unauthorized, Verifier, VerifierConfig, sign};
use crate::clock::Clock;
use crate::config::problem::{escaped, nearest};
use crate::config::safety::weakness;
use crate::config::{Authentication, value};
use crate::http::http_date;
use crate::limits::{CREDENTIAL_BYTES_MAX, KEY_BYTES_MAX};

/// Longest life of a token that is made here: ten years. A longer one is asked for by mistake.
const TTL_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Arguments of `lucid token`.
#[derive(Args, Debug)]
pub struct TokenArgs {
    #[command(subcommand)]
    verb: TokenVerb,
}

#[derive(Debug, Subcommand)]
enum TokenVerb {
    /// Sign a new token with the secret of the configuration, and print it
    #[command(after_help = ISSUE_EXAMPLE)]
    Issue(IssueArgs),
    /// Show what a token says, whether its signature is right, and when it expires
    #[command(after_help = INSPECT_EXAMPLE)]
    Inspect(InspectArgs),
}

const ISSUE_EXAMPLE: &str = "\
Example:
  $ lucid token issue --sub reports --ttl 8h --grant kv:read --grant kv:list
  eyJ…

The grants are kv:read kv:write kv:delete kv:list kv:lock kv:watch light:read light:write
db:read db:write db:admin log:write execute keys:read keys:write apps:admin metrics:read admin.";

const INSPECT_EXAMPLE: &str = "\
Example:
  $ lucid token issue --sub reports --grant kv:read | lucid token inspect -
  header     {\"typ\":\"JWT\",\"alg\":\"HS256\"}
  claims     {\"sub\":\"reports\",\"iat\":…,\"exp\":…,\"grants\":[\"kv:read\"]}
  grants     kv:read
  issued     …
  expires    …, in …
  signature  right: it is of the configured secret";

#[derive(Args, Debug)]
struct IssueArgs {
    /// Whom the token is for; the owner of what is made with it
    #[arg(long, value_name = "NAME", default_value = "lucid-cli")]
    sub: String,
    /// How long it is good, such as 10m, 8h or 30d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = ttl)]
    ttl: Duration,
    /// Let it do only this; may stand several times [else it may do everything]
    #[arg(long = "grant", value_name = "GRANT", value_parser = grant)]
    grants: Vec<String>,
    /// Limit it to the keys that begin with this [else it reaches all]
    #[arg(long, value_name = "TEXT", value_parser = prefix)]
    prefix: Option<String>,
    /// Show the token with its claims as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct InspectArgs {
    /// Read the token from stdin if this is - [else LUCID_TOKEN and the token file are looked at]
    #[arg(value_name = "TOKEN")]
    token: Option<String>,
    /// Read the token from this file
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<std::path::PathBuf>,
    /// Show it as one JSON object
    #[arg(long)]
    json: bool,
}

/// Makes or reads a token.
pub fn run(args: &TokenArgs, config: Option<&Path>) -> Result<ExitCode, Failure> {
    match &args.verb {
        TokenVerb::Issue(args) => issue(args, config),
        TokenVerb::Inspect(args) => inspect(args, config),
    }
}

fn ttl(text: &str) -> Result<Duration, String> {
    value::duration(text, Duration::from_secs(1), TTL_MAX)
}

/// The name of a grant, as it is typed.
pub fn grant(text: &str) -> Result<String, String> {
    if Grants::from_name(text.as_bytes()).is_some() {
        return Ok(text.to_owned());
    }
    let near = nearest(text, Grants::ALL.names()).map(|name| format!("; did you mean {name}?"));
    Err(format!("no such grant{}", near.unwrap_or_default()))
}

/// A prefix of keys, as it is typed. An empty one would be no limit: an unset variable, most likely.
pub fn prefix(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("it is empty, which limits nothing; leave it out if that is meant".into()),
        1..=KEY_BYTES_MAX => Ok(text.to_owned()),
        length => Err(format!("it has {length} bytes; a key has at most {KEY_BYTES_MAX}")),
    }
}

fn issue(args: &IssueArgs, config: Option<&Path>) -> Result<ExitCode, Failure> {
    let authentication = load_settings(config, Vec::new(), false, false)?.settings.authentication;
    if authentication.ephemeral_secret || authentication.secret_key.is_empty() {
        return Err(Failure::new(
            Exit::Configuration,
            "there is no secret to sign with: the configuration names none",
        )
        .and("name the node's file with -c FILE, or set LUCID_AUTHENTICATION__SECRET_KEY_FILE")
        .and("a node without a file has a secret that only its run knows: use the root token it showed"));
    }
    if weakness(authentication.secret_key.expose()).is_some() {
        tell("warning: the configured secret can be guessed; lucid settings --check says why");
    }
    let now = Clock::wall_seconds();
    let exp = now + args.ttl.as_secs();
    let sub = Value::from(args.sub.as_str());
    let grants = match args.grants.is_empty() {
        true => String::new(),
        false => format!(",\"grants\":{}", Value::from(args.grants.clone())),
    };
    let prefix = args.prefix.as_deref().map_or_else(String::new, |prefix| {
        let prefix = Value::from(prefix);
        format!(",\"prefix\":{prefix}")
    });
    let claims = format!("{{\"sub\":{sub},\"iat\":{now},\"exp\":{exp}{grants}{prefix}}}");
    let token = sign(authentication.secret_key.expose().as_bytes(), &claims);
    if token.len() > CREDENTIAL_BYTES_MAX {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "the token would have {} bytes, and a node takes {CREDENTIAL_BYTES_MAX}; shorten --sub or --prefix",
                token.len()
            ),
        ));
    }
    match args.json {
        true => print(&format!("{{\"token\":\"{token}\",\"claims\":{claims}}}\n"))?,
        false => print(&format!("{token}\n"))?,
    }
    if args.grants.is_empty() && args.prefix.is_none() && io::stdout().is_terminal() {
        tell("this token may do everything; --grant kv:read and its like make a lesser one");
    }
    Ok(ExitCode::SUCCESS)
}

fn inspect(args: &InspectArgs, config: Option<&Path>) -> Result<ExitCode, Failure> {
    let token = token(args)?;
    let token = token.trim();
    let (header, claims) = read(token)?;
    let now = Clock::wall_seconds();
    let verdict = verdict(token, config, now);
    let text = match args.json {
        true => json(&header, &claims, verdict, now),
        false => lines(&header, &claims, verdict, now),
    };
    print(&text)?;
    // Without a secret only the time can speak against it.
    let expired = claims.members.get("exp").and_then(Value::as_u64).is_some_and(|exp| exp <= now);
    let refused = match verdict {
        Verdict::Good => false,
        Verdict::Unchecked(_) => expired,
        Verdict::Refused(_) => true,
    };
    Ok(if refused { Exit::Refused.into() } else { ExitCode::SUCCESS })
}

fn token(args: &InspectArgs) -> Result<String, Failure> {
    match args.token.as_deref() {
        Some("-") => {
            let mut text = String::new();
            let read = io::stdin().lock().take(1 << 20).read_to_string(&mut text);
            read.map_err(|error| Failure::of_io(&error, "cannot read the token from stdin"))?;
            Ok(text)
        }
        Some(token) => Ok(token.to_owned()),
        None => match node::token(args.token_file.as_deref())? {
            Some(token) => Ok(token.expose().to_owned()),
            None => Err(Failure::new(
                Exit::Usage,
                "there is no token to look at: LUCID_TOKEN is not set; - reads one from stdin",
            )),
        },
    }
}

/// A part of a token: a JSON object, and the text it was read from.
struct Part {
    members: Map<String, Value>,
    text: String,
}

/// Header and claims of a token, whoever signed it.
fn read(token: &str) -> Result<(Part, Part), Failure> {
    let unreadable = |why: &str| Failure::new(Exit::Failed, format!("this is no token: {why}"));
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, _] = parts[..] else {
        return Err(unreadable("a token has three parts with dots between them"));
    };
    let part = |name: &str, text: &str| {
        let bytes =
            URL_SAFE_NO_PAD.decode(text).map_err(|_| unreadable(&format!("its {name} is not base64url")))?;
        let members = serde_json::from_slice(&bytes)
            .map_err(|_| unreadable(&format!("its {name} is no JSON object")))?;
        Ok(Part { members, text: String::from_utf8_lossy(&bytes).into_owned() })
    };
    Ok((part("header", header)?, part("payload", payload)?))
}

/// What a node with the configured secret would say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Refused(Unauthorized),
    Unchecked(&'static str),
}

fn verdict(token: &str, config: Option<&Path>, now: u64) -> Verdict {
    let Ok(loaded) = load_settings(config, Vec::new(), false, false) else {
        return Verdict::Unchecked("the configuration cannot be read; see lucid settings --check");
    };
    let authentication: Authentication = loaded.settings.authentication;
    if authentication.ephemeral_secret || authentication.secret_key.is_empty() {
        return Verdict::Unchecked("no secret at hand; -c FILE names the node's configuration");
    }
    let verifier = Verifier::new(VerifierConfig {
        enabled: true,
        secret: authentication.secret_key.expose().as_bytes(),
        leeway_seconds: authentication.leeway_seconds,
        require_exp: authentication.require_exp,
    });
    match verifier.verify(token.as_bytes(), now) {
        Ok(_) => Verdict::Good,
        Err(why) => Verdict::Refused(why),
    }
}

impl Verdict {
    /// Whether the signature is right, where that is known.
    fn signature(self) -> Option<bool> {
        match self {
            Verdict::Good => Some(true),
            Verdict::Refused(
                Unauthorized::ClaimsRefused | Unauthorized::Expired | Unauthorized::NotYetValid,
            ) => Some(true),
            Verdict::Refused(Unauthorized::SignatureWrong) => Some(false),
            Verdict::Refused(_) | Verdict::Unchecked(_) => None,
        }
    }

    fn words(self) -> String {
        match (self, self.signature()) {
            (Verdict::Unchecked(why), _) => format!("not checked: {why}"),
            (Verdict::Refused(Unauthorized::ClaimsRefused), _) => {
                "right, but a node refuses the claims: one has the wrong type, or exp is missing".into()
            }
            (_, Some(true)) => "right: it is of the configured secret".into(),
            (_, Some(false)) => "wrong: it is not of the configured secret".into(),
            (Verdict::Refused(Unauthorized::TooLong), None) => {
                format!("not checked: a node takes no token over {CREDENTIAL_BYTES_MAX} bytes")
            }
            _ => "not checked: a node takes only canonical HS256 tokens without crit".into(),
        }
    }
}

fn lines(header: &Part, claims: &Part, verdict: Verdict, now: u64) -> String {
    let mut lines = vec![
        ("header", escaped(&header.text)),
        ("claims", escaped(&claims.text)),
        ("grants", grants(&claims.members)),
    ];
    let time = |name: &str| claims.members.get(name).and_then(Value::as_u64);
    lines.extend(time("iat").map(|iat| ("issued", format!("{}, {}", date(iat), relative(iat, now)))));
    lines.extend(time("nbf").map(|nbf| ("good from", format!("{}, {}", date(nbf), relative(nbf, now)))));
    lines.push(match time("exp") {
        Some(exp) if exp <= now => ("expired", format!("{}, {}", date(exp), relative(exp, now))),
        Some(exp) => ("expires", format!("{}, {}", date(exp), relative(exp, now))),
        None => ("expires", "never".into()),
    });
    lines.push(("signature", verdict.words()));
    lines.into_iter().map(|(name, text)| format!("{name:<9}  {text}\n")).collect()
}

fn json(header: &Part, claims: &Part, verdict: Verdict, now: u64) -> String {
    let mut object = Map::new();
    object.insert("header".into(), header.members.clone().into());
    object.insert("claims".into(), claims.members.clone().into());
    object.insert(
        "signature".into(),
        verdict.signature().map_or("unchecked", |right| if right { "right" } else { "wrong" }).into(),
    );
    let left = claims.members.get("exp").and_then(Value::as_u64).map(|exp| exp as i64 - now as i64);
    object.insert("expires_in".into(), left.map_or(Value::Null, Value::from));
    format!("{}\n", Value::from(object))
}

/// What the token may do, as its claims have it.
fn grants(claims: &Map<String, Value>) -> String {
    let listed = claims
        .get("grants")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "));
    let scoped = claims.get("scope").and_then(Value::as_str).map(str::to_owned);
    match (listed, scoped) {
        (None, None) => "everything".into(),
        (Some(only), None) | (None, Some(only)) if only.is_empty() => "nothing".into(),
        (Some(only), None) | (None, Some(only)) => escaped(&only),
        (Some(listed), Some(scoped)) => escaped(&format!("what both have of {listed} and {scoped}")),
    }
}

fn date(seconds: u64) -> String {
    String::from_utf8_lossy(&http_date(seconds)).into_owned()
}

/// A time seen from now: `in 2 hours`, `3 days ago`.
fn relative(seconds: u64, now: u64) -> String {
    match seconds.checked_sub(now) {
        Some(left) => format!("in {}", span(left)),
        None => format!("{} ago", span(now - seconds)),
    }
}

/// A span of time in its largest unit, and the next one where the first is small.
fn span(seconds: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)];
    let (at, (name, unit)) =
        UNITS.into_iter().enumerate().find(|(_, (_, unit))| seconds >= *unit).unwrap_or((3, UNITS[3]));
    let counted = |count: u64, name: &str| format!("{count} {name}{}", if count == 1 { "" } else { "s" });
    let (count, rest) = (seconds / unit, seconds % unit);
    match UNITS.get(at + 1).filter(|(_, next)| count < 3 && rest >= *next) {
        Some((next, unit)) => format!("{} {}", counted(count, name), counted(rest / unit, next)),
        None => counted(count, name),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{grant, grants, read, relative, span};

    #[test]
    fn a_span_is_said_in_its_largest_unit() {
        for (seconds, words) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (90, "1 minute 30 seconds"),
            (3_599, "59 minutes"),
            (3_600, "1 hour"),
            (9_000, "2 hours 30 minutes"),
            (10_800, "3 hours"),
            (86_400, "1 day"),
            (94_348_800, "1092 days"),
        ] {
            assert_eq!(span(seconds), words);
        }
        assert_eq!(
            [relative(160, 100), relative(40, 100), relative(100, 100)],
            ["in 1 minute", "1 minute ago", "in 0 seconds"]
        );
    }

    #[test]
    fn a_mistyped_grant_is_answered_with_the_nearest() {
        assert_eq!(grant("kv:read"), Ok("kv:read".into()));
        assert_eq!(grant("kv:raed"), Err("no such grant; did you mean kv:read?".into()));
        assert_eq!(grant("x"), Err("no such grant".into()));
    }

    #[test]
    fn what_is_no_token_is_told_apart() {
        for text in ["", "a", "a.b", "a.b.c.d", "!.e30.x", "e30.!.x", "WzFd.e30.x", "e30.WzFd.x"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read("e30.e30.").is_ok());
    }

    #[test]
    fn grants_are_said_as_a_node_reads_them() {
        let words = |claims: Value| grants(claims.as_object().unwrap());
        assert_eq!(words(json!({})), "everything");
        assert_eq!(words(json!({ "grants": [] })), "nothing");
        assert_eq!(words(json!({ "grants": ["kv:read", "kv:list"] })), "kv:read kv:list");
        assert_eq!(words(json!({ "scope": "kv:read" })), "kv:read");
    }
}
