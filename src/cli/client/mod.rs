//! The verbs that talk to a running node: `get`, `put`, `delete`, `patch`, `list`, `execute`, `key`, `app`,
//! `dump`, `restore`.
//!
//! A verb reads its arguments, makes one request ([`node`]; `list` makes one for each page, `restore` one for
//! each slice) and shows
//! the answer. Bytes of a value go to stdout or a file as they are; whatever is said beside them goes
//! to stderr. A script can tell by the exit code what happened: 3 absent, 4 refused, 5 conflict.
//!
//! `get`, `put`, `delete` and `list` are about keys of kv, or of the other families ([`family`]).
//!
//! The token comes from the environment or a file, never from the command line, where every user of
//! the machine could read it; it is never shown.

mod answer;
pub mod api_key;
pub mod app;
pub mod delete;
pub mod dump;
pub mod execute;
pub mod family;
pub mod get;
mod key;
mod lines;
pub mod list;
pub mod node;
mod output;
pub mod patch;
pub mod put;
pub mod restore;
pub mod trust;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::value;
use crate::limits::TTL_SECONDS_MAX;
pub use key::KeyArgs;

/// Longest time a request may be given.
const TIMEOUT_MAX: Duration = Duration::from_secs(86_400);

/// Which node, and who asks.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "The node")]
pub struct NodeArgs {
    /// Where the node listens
    #[arg(
        long,
        env = "LUCID_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:7020"
    )]
    pub url: String,
    /// Read the token from a file [else it is in LUCID_TOKEN, or in the file LUCID_TOKEN_FILE names]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Give a request up after this long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout)]
    pub timeout: Duration,
    /// Whom to believe, if it is https.
    #[command(flatten)]
    pub trust: trust::TrustArgs,
}

/// What a write may be asked to hold to.
#[derive(Args, Clone, Debug)]
pub struct WriteArgs {
    /// Only if the value still has this ETag; * means that there is one
    #[arg(long, value_name = "ETAG")]
    pub if_match: Option<String>,
    /// Pass a lock by the token that taking it answered
    #[arg(long, value_name = "TOKEN")]
    pub fencing_token: Option<u64>,
}

impl WriteArgs {
    /// A flag of these that is given, if one is.
    fn first(&self) -> (&'static str, bool) {
        match (&self.if_match, self.fencing_token) {
            (None, token) => ("--fencing-token", token.is_some()),
            (Some(_), _) => ("--if-match", true),
        }
    }

    /// The header fields that say so.
    fn fields(&self) -> Vec<(&'static str, String)> {
        let tag = self.if_match.as_deref().map(|tag| ("If-Match", entity_tag(tag)));
        let token = self.fencing_token.map(|token| ("X-Fencing-Token", token.to_string()));
        tag.into_iter().chain(token).collect()
    }
}

/// An entity tag as the protocol has it: a bare one gets its quotes, which shells like to eat.
fn entity_tag(typed: &str) -> String {
    let quoted = typed.ends_with('"') && (typed.starts_with('"') || typed.starts_with("W/\""));
    if quoted || typed == "*" { typed.to_owned() } else { format!("\"{typed}\"") }
}

fn timeout(text: &str) -> Result<Duration, String> {
    value::duration(text, Duration::from_millis(1), TIMEOUT_MAX)
}

/// A time-to-live in whole seconds: `60`, `10m`, `1h`.
fn seconds(text: &str) -> Result<u64, String> {
    let most = Duration::from_secs(TTL_SECONDS_MAX);
    let duration = value::duration(text, Duration::from_secs(1), most)?;
    match duration.subsec_millis() {
        0 => Ok(duration.as_secs()),
        _ => Err("expected whole seconds, such as 60, 10m or 1h".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{entity_tag, seconds};

    #[test]
    fn an_entity_tag_may_come_without_its_quotes() {
        for (typed, sent) in
            [("e31", "\"e31\""), ("\"e31\"", "\"e31\""), ("W/\"e31\"", "W/\"e31\""), ("*", "*")]
        {
            assert_eq!(entity_tag(typed), sent);
        }
    }

    #[test]
    fn a_time_to_live_is_whole_seconds_within_bounds() {
        assert_eq!(["1", "60", "10m", "1h"].map(seconds), [Ok(1), Ok(60), Ok(600), Ok(3_600)]);
        assert_eq!(seconds("4294967295"), Ok(4_294_967_295));
        for text in ["0", "", "-1", "1500ms", "4294967296", "soon"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
