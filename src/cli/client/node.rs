//! The node at the other end: where it is, who asks, and what goes wrong on the way.

use std::cell::RefCell;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ureq::http::uri::{Authority, Uri};
use ureq::http::{Request, header::HeaderValue};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, DefaultConnector};
use ureq::{Agent, SendBody, Timeout};
use zeroize::Zeroizing;

use super::answer::Answer;
use super::trust::{self, TrustArgs};
use super::{NodeArgs, key};
use crate::cli::failure::{Exit, Failure};
use crate::cli::folder::FolderArgs;
use crate::cli::folder::office::Office;
use crate::config::problem::escaped;
use crate::config::{Secret, value};

/// Bodies up to this size are sent at once; for longer ones the node is asked first.
const UNASKED_BODY_BYTES_MAX: u64 = 16 * 1_024;

/// How the URL of a node begins that is spoken to over TLS.
const HTTPS: &str = "https://";

/// Longest file that is read as a token.
const TOKEN_FILE_BYTES_MAX: u64 = 64 * 1_024;

/// A node to send requests to.
#[derive(Debug)]
pub struct Node {
    agent: Agent,
    /// Without a slash at its end.
    url: String,
    authority: Authority,
    trust: TrustArgs,
    token: Option<Token>,
    timeout: Duration,
    /// What answers in the place of a node that is stopped.
    office: Option<RefCell<Office>>,
}

/// A credential, and where it was found.
#[derive(Debug)]
pub struct Token {
    secret: Secret,
    /// It is the databases' password.
    pub is_password: bool,
    /// `LUCID_TOKEN`, or the file's name.
    pub origin: String,
}

/// What is sent with a request.
pub enum Payload<'p> {
    /// Nothing.
    Absent,
    /// These bytes.
    Bytes(&'p [u8]),
    /// What can be read, of which there are so many bytes if that is known.
    Stream(&'p mut dyn Read, Option<u64>),
}

impl Node {
    /// Reads where the node is and who asks. Nothing is sent yet.
    pub fn new(args: &NodeArgs) -> Result<Node, Failure> {
        Node::with(args, false)
    }

    /// The same for answers that take their time: the patience is for each step of them.
    pub fn patient(args: &NodeArgs) -> Result<Node, Failure> {
        Node::with(args, true)
    }

    fn with(args: &NodeArgs, patient: bool) -> Result<Node, Failure> {
        let (url, authority) = base_url(&args.url)?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // A node is near; a proxy for the web would be asked in its place.
            .proxy(None)
            .user_agent(concat!("lucid/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(args.timeout).filter(|_| !patient))
            .timeout_connect(Some(args.timeout))
            .timeout_recv_response(Some(args.timeout))
            .timeout_per_read(Some(args.timeout));
        let config = config.build();
        let agent = match url.starts_with(HTTPS) {
            true => {
                let connector = DefaultConnector::new().chain(trust::Wrap::new(args.trust.client_config()?));
                Agent::with_parts(config, connector, DefaultResolver::default())
            }
            false => config.into(),
        };
        let (trust, timeout) = (args.trust.clone(), args.timeout);
        let token = token(args.token_file.as_deref())?;
        Ok(Node { agent, url, authority, trust, token, timeout, office: None })
    }

    /// A node that is stopped, if its folder is asked for, or else a running one.
    pub fn or_folder(args: &NodeArgs, folder: &FolderArgs, config: Option<&Path>) -> Result<Node, Failure> {
        let node = Node::new(args)?;
        Ok(match Office::open(folder, config)? {
            Some(office) => {
                let url = office.folder().display().to_string();
                Node { url, office: Some(RefCell::new(office)), ..node }
            }
            None => node,
        })
    }

    /// The same for the databases, whose password goes before the token if there is one.
    pub fn with_password(args: &NodeArgs) -> Result<Node, Failure> {
        let mut node = Node::new(args)?;
        if let Some(password) = password()? {
            node.token = Some(password);
        }
        Ok(node)
    }

    /// Whether it is spoken to over TLS.
    pub fn is_https(&self) -> bool {
        self.url.starts_with(HTTPS)
    }

    /// Where it listens, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its host and port.
    pub fn host_and_port(&self) -> (&str, u16) {
        let host = self.authority.host().trim_start_matches('[').trim_end_matches(']');
        (host, self.authority.port_u16().unwrap_or(if self.is_https() { 443 } else { 80 }))
    }

    /// The path before `/api`, where something stands between.
    pub fn base_path(&self) -> &str {
        let behind_scheme = self.url.split_once("://").map_or("", |(_, rest)| rest);
        behind_scheme.find('/').map_or("", |at| &behind_scheme[at..])
    }

    /// The credential that goes with every request.
    pub fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// Sends a request about a key.
    pub fn call_key(
        &self,
        method: &str,
        key: &[u8],
        query: &str,
        fields: &[(&'static str, String)],
        payload: Payload<'_>,
    ) -> Result<Answer, Failure> {
        self.call(method, &format!("/api/kv/{}{query}", key::percent_encoded(key)), fields, payload)
    }

    /// Sends a request and waits for the head of its answer.
    pub fn call(
        &self,
        method: &str,
        path: &str,
        fields: &[(&'static str, String)],
        payload: Payload<'_>,
    ) -> Result<Answer, Failure> {
        if let Some(office) = &self.office {
            let body = if let Payload::Bytes(body) = payload { body } else { &[] };
            return office.borrow_mut().call(method, path, body).map(Answer::new);
        }
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("Authorization", token.field()?);
        }
        for (name, text) in fields {
            request = request.header(*name, header_value(name, text)?);
        }
        let length = match &payload {
            Payload::Absent => Some(0),
            Payload::Bytes(bytes) => Some(bytes.len() as u64),
            Payload::Stream(_, length) => *length,
        };
        if length.is_none_or(|length| length > UNASKED_BODY_BYTES_MAX) {
            request = request.header("Expect", "100-continue");
        }
        if let (Payload::Stream(..), Some(length)) = (&payload, length) {
            request = request.header("Content-Length", length);
        }
        let unsendable = |error| Failure::new(Exit::Usage, format!("cannot make the request: {error}"));
        let sent = match payload {
            Payload::Absent => self.agent.run(request.body(()).map_err(unsendable)?),
            Payload::Bytes(bytes) => self.agent.run(request.body(bytes).map_err(unsendable)?),
            Payload::Stream(reader, _) => {
                self.agent.run(request.body(SendBody::from_reader(reader)).map_err(unsendable)?)
            }
        };
        sent.map(Answer::new).map_err(|error| self.unreachable(&error))
    }

    /// Why no answer came.
    pub fn unreachable(&self, error: &ureq::Error) -> Failure {
        let url = &self.url;
        let failed = |line: String| Failure::new(Exit::Failed, line);
        let other = "name another node with --url or LUCID_URL";
        match error {
            ureq::Error::HostNotFound => {
                failed(format!("cannot reach the node at {url}: its host name is not known"))
                    .and(format!("check the name, or {other}"))
            }
            ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => failed(format!(
                "cannot reach the node at {url}: it took longer than {} to connect",
                self.patience()
            ))
            .and(format!("check that the host is up and lets this machine in, or {other}")),
            ureq::Error::Timeout(_) => {
                failed(format!("the node at {url} did not answer within {}", self.patience()))
                    .and("give it longer with --timeout, or look at its log")
            }
            ureq::Error::Io(error) => self.broken(error),
            ureq::Error::ConnectionFailed => {
                failed(format!("cannot reach the node at {url}: no address of it takes a connection"))
                    .and(format!("start a node with `lucid server`, or {other}"))
            }
            ureq::Error::Protocol(_) | ureq::Error::Http(_) => {
                failed(format!("what answers at {url} does not speak HTTP as a Lucid node does: {error}"))
                    .and(format!("check the port, or {other}"))
            }
            error => failed(format!("cannot reach the node at {url}: {error}")),
        }
    }

    /// An answer in another form than a node's.
    pub fn unreadable(&self) -> Failure {
        Failure::new(
            Exit::Failed,
            format!("what answers at {} is no Lucid node: its answer cannot be read", self.url),
        )
    }

    /// A connection that cannot be made or does not last.
    pub fn broken(&self, error: &io::Error) -> Failure {
        let url = &self.url;
        if let Some(error) = error.get_ref().and_then(|error| error.downcast_ref()) {
            return self.trust.explain(error, url, self.host_and_port().0);
        }
        match error.kind() {
            ErrorKind::ConnectionRefused => {
                Failure::new(Exit::Failed, format!("cannot reach the node at {url}: nothing listens there"))
                    .and("start a node with `lucid server`, or name another with --url or LUCID_URL")
            }
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => Failure::new(
                Exit::Failed,
                format!("the node at {url} closed the connection in the middle: {error}"),
            )
            .and("a value over its store.max_limit is cut off like this; its log may say more"),
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Failure::new(
                Exit::Failed,
                format!("the node at {url} did not answer within {}", self.patience()),
            )
            .and("give it longer with --timeout, or look at its log"),
            _ => Failure::new(Exit::Failed, format!("cannot reach the node at {url}: {error}"))
                .and("check the address, or name another node with --url or LUCID_URL"),
        }
    }

    fn patience(&self) -> String {
        value::shown(self.timeout)
    }
}

impl Token {
    /// The value of `Authorization`, which nothing shows.
    pub fn field(&self) -> Result<HeaderValue, Failure> {
        let text = Zeroizing::new(match self.is_password {
            true => format!("Basic {}", STANDARD.encode(format!(":{}", self.secret.expose()))),
            false => format!("Bearer {}", self.secret.expose()),
        });
        let mut value = HeaderValue::from_str(&text).map_err(|_| unusable(&self.origin))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The token itself.
    pub fn expose(&self) -> &str {
        self.secret.expose()
    }
}

fn unusable(origin: &str) -> Failure {
    Failure::new(
        Exit::Usage,
        format!("what {origin} holds is no token: a token is one word of plain letters"),
    )
}

/// Finds the credential: the file of `--token-file`, `LUCID_TOKEN`, the file of `LUCID_TOKEN_FILE`.
pub fn token(file: Option<&Path>) -> Result<Option<Token>, Failure> {
    if let Some(path) = file {
        return token_of_file(path).map(Some);
    }
    if let Some(text) = std::env::var_os("LUCID_TOKEN").filter(|text| !text.is_empty()) {
        let text = text.into_string().map_err(|_| unusable("LUCID_TOKEN"))?;
        return one_word(&text, "LUCID_TOKEN".into()).map(Some);
    }
    let path = std::env::var_os("LUCID_TOKEN_FILE").filter(|path| !path.is_empty());
    path.map(|path| token_of_file(Path::new(&path))).transpose()
}

/// Finds the databases' password: `LUCID_PASSWORD`, the file of `LUCID_PASSWORD_FILE`.
fn password() -> Result<Option<Token>, Failure> {
    let given = |name: &str| std::env::var_os(name).filter(|text| !text.is_empty());
    let (secret, origin) = match (given("LUCID_PASSWORD"), given("LUCID_PASSWORD_FILE")) {
        (Some(text), _) => {
            let origin = "LUCID_PASSWORD".to_owned();
            let no_text = || Failure::new(Exit::Usage, "what LUCID_PASSWORD holds is not UTF-8");
            (Secret::new(text.into_string().map_err(|_| no_text())?), origin)
        }
        (None, Some(path)) => {
            let path = Path::new(&path);
            (secret_of_file(path, "the password")?, path.display().to_string())
        }
        (None, None) => return Ok(None),
    };
    Ok(Some(Token { secret, is_password: true, origin }))
}

/// The first line of a file.
pub(super) fn secret_of_file(path: &Path, what: &str) -> Result<Secret, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read =
        fs::File::open(path).and_then(|file| file.take(TOKEN_FILE_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| {
        Failure::of_io(&error, format!("cannot read {what} from the file {}", path.display()))
    })?;
    let line = text.lines().next().unwrap_or_default();
    match line.is_empty() {
        true => {
            Err(Failure::new(Exit::Usage, format!("the file {} begins with an empty line", path.display())))
        }
        false => Ok(Secret::new(line)),
    }
}

fn token_of_file(path: &Path) -> Result<Token, Failure> {
    let shown = path.display().to_string();
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(TOKEN_FILE_BYTES_MAX).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Failure::new(Exit::Failed, format!("the token file {shown} is not there"))
                .and(format!("make one: (umask 077; lucid token issue > {shown})")));
        }
        Err(error) => return Err(Failure::of_io(&error, format!("cannot read the token file {shown}"))),
        Ok(_) => {}
    }
    one_word(&String::from_utf8(bytes).map_err(|_| unusable(&shown))?, shown)
}

fn one_word(text: &str, origin: String) -> Result<Token, Failure> {
    let word = text.trim();
    let plain = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic());
    plain
        .then(|| Token { secret: Secret::new(word), is_password: false, origin: origin.clone() })
        .ok_or_else(|| unusable(&origin))
}

/// Reads a URL: `http://host:port` or `https://…`, also without the scheme, which then is `http`, also
/// with a path before `/api`.
fn base_url(typed: &str) -> Result<(String, Authority), Failure> {
    let shown = escaped(typed);
    let wrong = |why: &str| {
        Failure::new(Exit::Usage, format!("cannot use the URL {shown}: {why}"))
            .and("a node's URL looks like http://127.0.0.1:7020; give it with --url or LUCID_URL")
    };
    let (scheme, behind) = typed.split_once("://").unwrap_or(("http", typed));
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "https" => HTTPS,
        "http" => "http://",
        _ => return Err(wrong("its scheme is neither http nor https")),
    };
    let full = format!("{scheme}{}", behind.trim_end_matches('/'));
    let uri: Uri = full.parse().map_err(|_| wrong("it cannot be read"))?;
    let authority = uri.authority().filter(|authority| !authority.host().is_empty());
    let authority = authority.ok_or_else(|| wrong("it names no host"))?.clone();
    if authority.as_str().contains('@') {
        return Err(wrong("it carries a user name; credentials go in LUCID_TOKEN"));
    }
    let port = authority.as_str().rsplit_once(':').filter(|(_, port)| !port.contains(']'));
    if port.is_some_and(|(_, port)| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err(wrong("its port is no number from 1 to 65535"));
    }
    if uri.query().is_some() || behind.contains('#') {
        return Err(wrong("it goes on behind the path"));
    }
    Ok((full, authority))
}

fn header_value(name: &str, text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| {
        Failure::new(
            Exit::Usage,
            format!("{} cannot be sent as {name}: it holds control characters", escaped(text)),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{base_url, one_word};

    #[test]
    fn a_url_may_lack_its_scheme_and_have_a_path() {
        for (typed, url) in [
            ("http://127.0.0.1:7020", "http://127.0.0.1:7020"),
            ("http://127.0.0.1:7020/", "http://127.0.0.1:7020"),
            ("HTTP://localhost", "http://localhost"),
            ("localhost:7020", "http://localhost:7020"),
            ("[::1]:7020", "http://[::1]:7020"),
            ("http://gateway/cache/", "http://gateway/cache"),
            ("https://localhost:7021", "https://localhost:7021"),
            ("HTTPS://localhost/", "https://localhost"),
        ] {
            assert_eq!(base_url(typed).map(|(url, _)| url), Ok(url.into()), "{typed}");
        }
    }

    #[test]
    fn a_url_that_leads_to_no_node_is_refused() {
        for typed in [
            "",
            "http://",
            "https://",
            "httpss://localhost",
            "ftp://a",
            "http://a:b@c",
            "a b",
            "http://a:0",
            "http://a:65536",
            "http://a:",
            "http://a:x",
            "http://a?b",
            "http://a#b",
            "http://a\n",
        ] {
            assert!(base_url(typed).is_err(), "{typed:?}");
        }
    }

    #[test]
    fn a_token_is_one_word_and_is_not_shown() {
        let token = one_word(" a.b.c\n", "LUCID_TOKEN".into()).unwrap();
        assert_eq!(token.expose(), "a.b.c");
        assert!(!format!("{token:?} {:?}", token.field().unwrap()).contains("a.b.c"));
        for text in ["", " ", "a b", "a\nb", "é"] {
            let failure = one_word(text, "LUCID_TOKEN".into()).unwrap_err();
            assert!(!format!("{failure:?}").contains("a b"));
        }
    }
}
