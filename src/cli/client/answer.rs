//! What a node answered: its fields, its body, and what a refusal means for whoever asked.

use std::io::Read;

use serde::Deserialize;
use serde_json::value::RawValue;
use ureq::Body;
use ureq::http::Response;
use zeroize::Zeroizing;

use super::key;
use super::node::Node;
use crate::cli::failure::{Exit, Failure};
use crate::config::problem::escaped;

/// Longest body that is read whole: a page of a thousand credentials with the longest names.
const WHOLE_BYTES_MAX: u64 = 16 * 1_024 * 1_024;

/// Most of a message that is read.
const MESSAGE_BYTES_MAX: u64 = 64 * 1_024;

/// What a node says of an API key or an app that it does not know.
const NO_SUCH_CREDENTIAL: [&str; 2] = ["There is no such API key.", "There is no such app."];

/// What it says when it is asked for something else than it serves.
const NO_SUCH_PATH: &str = "There is nothing at this path.";

/// What it says when it has no room for another.
const CREDENTIALS_FULL: &str = "There is no room for more API keys and apps.";

/// The head of an answer, with its body to come.
#[derive(Debug)]
pub struct Answer {
    response: Response<Body>,
}

/// What the node says in a body of JSON.
#[derive(Debug, Default, Deserialize)]
pub struct Message {
    /// One sentence.
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
    /// The number that a counter has reached, as the node wrote it.
    #[serde(default)]
    pub value: Option<Box<RawValue>>,
    /// The same of a family that has an envelope.
    #[serde(default)]
    error: Option<Enveloped>,
    /// It comes from another family than kv.
    #[serde(skip)]
    is_foreign: bool,
}

#[derive(Debug, Deserialize)]
struct Enveloped {
    code: String,
    message: String,
}

impl Answer {
    /// An answer to read.
    pub fn new(response: Response<Body>) -> Answer {
        Answer { response }
    }

    /// Its status.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The value of a field, if it is there and is text.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// The entity tag without its quotes.
    pub fn tag(&self) -> Option<String> {
        self.field("ETag").map(|tag| tag.trim_matches('"').to_owned())
    }

    /// The body, as it comes.
    pub fn into_reader(self) -> impl Read {
        self.response.into_body().into_reader()
    }

    /// The sentence that the node says. An answer that says nothing gives empty ones.
    pub fn message(self) -> Message {
        // The databases answer in sentences.
        let is_plain = self.field("Content-Type").is_some_and(|kind| kind.starts_with("text/plain"));
        let mut body = Vec::new();
        let read = self.into_reader().take(MESSAGE_BYTES_MAX).read_to_end(&mut body);
        if is_plain {
            let message = String::from_utf8_lossy(&body).trim().replace('\n', " ");
            return Message { message, is_foreign: true, ..Message::default() };
        }
        let mut message: Message =
            read.ok().and_then(|_| serde_json::from_slice(&body).ok()).unwrap_or_default();
        if let Some(error) = message.error.take() {
            message.is_foreign = true;
            (message.code, message.message) = (error.code, error.message);
        }
        message
    }

    /// The whole body. May hold a secret, so it is wiped when it is dropped.
    pub fn whole(self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut body = Zeroizing::new(Vec::with_capacity(4 * 1_024));
        let read = self.into_reader().take(WHOLE_BYTES_MAX).read_to_end(&mut body);
        read.map_err(|error| Failure::new(Exit::Failed, format!("the answer broke off: {error}")))?;
        Ok(body)
    }

    /// What it means that the node did not do it, to which key, and what to do next.
    pub fn refusal(self, node: &Node, key: Option<&[u8]>) -> Failure {
        let (status, url) = (self.status(), node.url());
        let field = |name| self.field(name).map(escaped);
        let (grants, retry_after, tag) = (field("X-Required-Grants"), field("Retry-After"), self.tag());
        let message = self.message();
        let key = key.map_or_else(|| "the request".into(), key::shown);
        let said = message.sentence(status);
        match status {
            401 => unauthorized(node),
            // It may be right, but not beyond what its maker may.
            403 if grants.is_none() => {
                Failure::new(Exit::Refused, format!("the node at {url} refuses: {said}"))
            }
            403 => {
                let lacks = grants.map_or("a grant".into(), |grants| format!("the grant {grants}"));
                Failure::new(
                    Exit::Refused,
                    format!("the node at {url} refuses: the token of {} lacks {lacks}", origin(node)),
                )
                .and("issue one that has it: lucid token issue --grant NAME")
            }
            404 if message.message == "The specified key does not exists." => {
                Failure::new(Exit::Absent, format!("{key}: the key does not exist"))
            }
            404 if NO_SUCH_CREDENTIAL.contains(&&*message.message) => {
                Failure::new(Exit::Absent, format!("{key}: {said}"))
                    .and("lucid key list and lucid app list show the ids there are")
            }
            404 if message.is_foreign && message.message != NO_SUCH_PATH => {
                Failure::new(Exit::Absent, format!("{key}: {said}"))
            }
            404 | 405 => {
                Failure::new(Exit::Failed, format!("what answers at {url} is no Lucid node: {said}"))
                    .and("check the URL: --url or LUCID_URL names the node itself, without /api")
            }
            // Nothing holds the key; or a name is taken, or the app is the one that stays.
            409 if message.is_foreign || message.code == "not_locked" => {
                Failure::new(Exit::Conflict, format!("{key}: {said}"))
            }
            409 => Failure::new(Exit::Conflict, format!("{key}: {said}"))
                .and("the lock's holder passes with --fencing-token; others wait until it is freed"),
            412 => Failure::new(Exit::Conflict, format!("{key}: {said}")).and(match tag {
                Some(tag) => {
                    format!("the value there has the ETag {}; read it again, then decide", escaped(&tag))
                }
                None => "the key is not there".into(),
            }),
            413 => Failure::new(Exit::Failed, format!("{key}: {said}"))
                .and("the node's store.max_limit and http.request_size_limit say how large a value may be"),
            503 if message.is(&["disk_failed", "outcome_unknown"]) => {
                Failure::new(Exit::Failed, format!("{key}: {said}"))
                    .and(format!("look at the disk of the node at {url} and at its log, then start it again"))
            }
            503 if message.is(&["recovering"]) => {
                Failure::new(Exit::Failed, format!("the node at {url} is not ready: {said}"))
                    .and("wait until /readyz is 200")
            }
            503 => Failure::new(Exit::Failed, format!("the node at {url} is busy: {said}"))
                .and(format!("try again in {} s", retry_after.unwrap_or_else(|| "a few".into()))),
            507 if message.code == "credentials_full" || message.message == CREDENTIALS_FULL => {
                Failure::new(Exit::Failed, format!("the node at {url} is full: {said}"))
                    .and("delete API keys and apps that nobody needs, or raise store.memory_limit")
            }
            507 if message.is(&["disk_full"]) => {
                Failure::new(Exit::Failed, format!("the disk of the node at {url} is full: {said}"))
                    .and("make room where its persistence.location is; it goes on by itself then")
            }
            507 => Failure::new(Exit::Failed, format!("the node at {url} is full: {said}"))
                .and("delete something, raise store.memory_limit, or let it evict with store.when_full"),
            _ => Failure::new(Exit::Failed, format!("{key}: {said}")),
        }
    }
}

impl Message {
    /// Whether it has one of these codes, which a family may write in capitals.
    fn is(&self, codes: &[&str]) -> bool {
        codes.iter().any(|code| self.code.eq_ignore_ascii_case(code))
    }

    /// All that the node says about a refusal, in one line.
    fn sentence(&self, status: u16) -> String {
        let message = if self.message.is_empty() { "no reason given" } else { &self.message };
        let message = match self.detail.is_empty() {
            true => message.to_owned(),
            false => format!("{}: {}", message.trim_end_matches('.'), self.detail),
        };
        let code = if self.code.is_empty() { String::new() } else { format!(", {}", self.code) };
        escaped(&format!("{message} ({status}{code})"))
    }
}

fn origin(node: &Node) -> &str {
    node.token().map_or("LUCID_TOKEN", |token| token.origin.as_str())
}

fn unauthorized(node: &Node) -> Failure {
    let url = node.url();
    match node.token() {
        None => Failure::new(Exit::Refused, format!("the node at {url} wants a token, and none was given"))
            .and("export LUCID_TOKEN with the one that `lucid init` or `lucid server` showed, or with one of your own:")
            .and("export LUCID_TOKEN=$(lucid token issue)"),
        Some(token) if token.is_password => {
            let from = escaped(&token.origin);
            Failure::new(Exit::Refused, format!("the node at {url} does not take the password of {from}"))
                .and("it is not the one of `lucid api`, or of databases.password in the node's file")
        }
        Some(token) => {
            Failure::new(Exit::Refused, format!("the node at {url} does not take the token of {}", escaped(&token.origin)))
                .and("it has expired, or was signed with another secret than the node's: lucid token inspect")
        }
    }
}
