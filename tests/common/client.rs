//! A client that sends exactly the bytes it is told to and reads answers one at a time.

use rustls::{ClientConnection, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::response::Response;

/// How long a client waits for bytes before it gives a node up. Long, since only a failing test waits.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Why no answer was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The connection ended where a new answer could have begun. True: by a reset.
    Closed(bool),
    /// The connection ended within an answer.
    Cut(String),
    /// Nothing more came within the read timeout; the bytes read so far are kept.
    Silent,
    /// The answer is not HTTP as this project promises it.
    Malformed(String),
}

/// What the bytes travel over.
enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// One connection to a node.
pub struct Client {
    wire: Wire,
    unread: Vec<u8>,
    authorization: Option<String>,
}

impl Client {
    /// Opens a connection that presents no credential.
    pub fn connect(address: SocketAddr) -> Client {
        Client::try_connect(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"))
    }

    /// Opens a connection if the node takes it.
    pub fn try_connect(address: SocketAddr) -> std::io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client::over(Wire::Tcp(stream)))
    }

    /// Opens a connection to a Unix socket, if there is one.
    pub fn try_connect_unix(path: &Path) -> std::io::Result<Client> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client::over(Wire::Unix(stream)))
    }

    /// A client over TLS that is ready.
    pub fn over_tls(stream: StreamOwned<ClientConnection, TcpStream>) -> Client {
        Client::over(Wire::Tls(Box::new(stream)))
    }

    fn over(wire: Wire) -> Client {
        Client { wire, unread: Vec::new(), authorization: None }
    }

    /// The TLS it speaks.
    #[track_caller]
    pub fn tls(&mut self) -> &mut StreamOwned<ClientConnection, TcpStream> {
        match &mut self.wire {
            Wire::Tls(stream) => stream,
            Wire::Tcp(_) | Wire::Unix(_) => panic!("no TLS"),
        }
    }

    /// Presents this value of `Authorization` with every composed request from now on.
    pub fn with_authorization(mut self, authorization: impl Into<String>) -> Client {
        self.authorization = Some(authorization.into());
        self
    }

    /// Presents this token as a bearer.
    pub fn with_token(self, token: &str) -> Client {
        self.with_authorization(format!("Bearer {token}"))
    }

    /// Presents nothing from now on.
    pub fn without_token(mut self) -> Client {
        self.authorization = None;
        self
    }

    /// Changes how long a read waits.
    pub fn set_patience(&self, patience: Duration) {
        match &self.wire {
            Wire::Unix(stream) => stream.set_read_timeout(Some(patience)),
            Wire::Tcp(_) | Wire::Tls(_) => self.stream().set_read_timeout(Some(patience)),
        }
        .expect("a timeout above zero");
    }

    /// The socket itself, for a thread that writes while another reads, or for its options.
    pub fn stream(&self) -> &TcpStream {
        match &self.wire {
            Wire::Tcp(stream) => stream,
            Wire::Tls(stream) => &stream.sock,
            Wire::Unix(_) => panic!("not over TCP"),
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap_or_else(|error| panic!("cannot send: {error}"));
    }

    /// Sends bytes as they are, to a node that may have closed the connection.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.wire {
            Wire::Tcp(stream) => stream.write_all(bytes),
            Wire::Unix(stream) => stream.write_all(bytes),
            Wire::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&self) {
        self.stream().shutdown(Shutdown::Write).expect("an open socket");
    }

    /// Says that nothing more will be sent, to a node that may have closed the connection.
    pub fn finish_sending_if_open(&self) {
        let _ = self.stream().shutdown(Shutdown::Write);
    }

    /// The bytes of a request with `Host`, the credential, the given fields, and a length if it has a
    /// body or its method expects one and no field says otherwise.
    pub fn compose(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        if let Some(authorization) = &self.authorization {
            head.push_str(&format!("Authorization: {authorization}\r\n"));
        }
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let framed = fields.iter().any(|(name, _)| {
            name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding")
        });
        if !framed && (!body.is_empty() || ["PUT", "POST", "PATCH"].contains(&method)) {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        request
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub fn call(&mut self, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Response {
        let request = self.compose(method, path, fields, body);
        self.send(&request);
        self.response_to(method)
    }

    /// `GET` without further fields, of a node that may refuse to talk.
    pub fn try_response_to_get(&mut self, path: &str) -> Result<Response, Trouble> {
        let request = self.compose("GET", path, &[], b"");
        let _ = self.try_send(&request);
        self.try_response("GET")
    }

    /// `GET` without further fields.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Response {
        self.call("GET", path, &[], b"")
    }

    /// `PUT` without further fields.
    #[track_caller]
    pub fn put(&mut self, path: &str, body: impl AsRef<[u8]>) -> Response {
        self.call("PUT", path, &[], body.as_ref())
    }

    /// `DELETE` without further fields.
    #[track_caller]
    pub fn delete(&mut self, path: &str) -> Response {
        self.call("DELETE", path, &[], b"")
    }

    /// `PATCH` without further fields.
    #[track_caller]
    pub fn patch(&mut self, path: &str, body: impl AsRef<[u8]>) -> Response {
        self.call("PATCH", path, &[], body.as_ref())
    }

    /// Reads the answer to a request that was not a HEAD.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// Reads the answer to a request with this method.
    #[track_caller]
    pub fn response_to(&mut self, method: &str) -> Response {
        match self.try_response(method) {
            Ok(response) => response,
            Err(trouble) => panic!("no answer to {method}: {trouble:?}"),
        }
    }

    /// Reads the answer to a request with this method, if one comes.
    pub fn try_response(&mut self, method: &str) -> Result<Response, Trouble> {
        let head_end = loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                break at + 4;
            }
            if self.unread.len() > 64 * 1024 {
                return Err(Trouble::Malformed("a head over 64 KiB".into()));
            }
            self.fill(64 * 1024)?;
        };
        let mut response = Response::parse_head(&self.unread[..head_end]).map_err(Trouble::Malformed)?;
        if response.brings_body(method) && response.field("transfer-encoding").is_some() {
            self.unread.drain(..head_end);
            response.body = self.chunks()?;
            // A dump's length is never known when it begins; of other answers only long ones are in chunks.
            let is_dump = response.field("content-type") == Some("application/x-ndjson");
            if !is_dump && response.body.len() < 32 * 1024 {
                return Err(Trouble::Malformed("a short answer in chunks".into()));
            }
        } else if response.brings_body(method) {
            let length = response.content_length().unwrap_or(0) as usize;
            while self.unread.len() < head_end + length {
                self.fill(head_end + length - self.unread.len())?;
            }
            response.body = self.unread[head_end..head_end + length].to_vec();
            self.unread.drain(..head_end + length);
        } else {
            self.unread.drain(..head_end);
        }
        Ok(response)
    }

    /// Reads the body of an answer whose length was not known when it began.
    fn chunks(&mut self) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        loop {
            let line_end = loop {
                match find(&self.unread[..self.unread.len().min(20)], b"\r\n") {
                    Some(at) => break at,
                    None if self.unread.len() < 20 => self.fill(64 * 1024)?,
                    None => return Err(Trouble::Malformed("a long chunk size".into())),
                }
            };
            let size = std::str::from_utf8(&self.unread[..line_end]).ok();
            let size = size.and_then(|digits| usize::from_str_radix(digits, 16).ok());
            let Some(size) = size else { return Err(Trouble::Malformed("a bad chunk size".into())) };
            let end = line_end + 2 + size + 2;
            while self.unread.len() < end {
                self.fill(end - self.unread.len())?;
            }
            body.extend_from_slice(&self.unread[line_end + 2..end - 2]);
            let is_ended = &self.unread[end - 2..end] == b"\r\n";
            self.unread.drain(..end);
            match (is_ended, size) {
                (true, 0) => return Ok(body),
                (true, _) => {}
                (false, _) => return Err(Trouble::Malformed("a chunk without its end".into())),
            }
        }
    }

    /// Reads some bytes into `unread`.
    fn fill(&mut self, wanted: usize) -> Result<(), Trouble> {
        let mut block = vec![0; wanted.clamp(1, 1024 * 1024)];
        let ended = |reset| match self.unread.is_empty() {
            true => Trouble::Closed(reset),
            false => Trouble::Cut(String::from_utf8_lossy(&self.unread[..self.unread.len().min(500)]).into()),
        };
        let read = match &mut self.wire {
            Wire::Tcp(stream) => stream.read(&mut block),
            Wire::Unix(stream) => stream.read(&mut block),
            Wire::Tls(stream) => stream.read(&mut block),
        };
        match read {
            Ok(0) => Err(ended(false)),
            Ok(count) => {
                self.unread.extend_from_slice(&block[..count]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(Trouble::Silent)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(_) => Err(ended(true)),
        }
    }

    /// Waits for the end of the connection, before which nothing more may come.
    #[track_caller]
    pub fn expect_close(&mut self) {
        match self.try_response("GET") {
            Err(Trouble::Closed(_)) => {}
            other => panic!("expected the connection to be closed, got {other:?}"),
        }
    }

    /// Waits for an orderly end of the connection, before which nothing more may come.
    #[track_caller]
    pub fn expect_orderly_close(&mut self) {
        assert_eq!(
            self.try_response("GET").map(|response| response.to_string()),
            Err(Trouble::Closed(false))
        );
    }

    /// Whether anything can be read, or the end has come, within `patience`.
    pub fn hears_within(&mut self, patience: Duration) -> bool {
        if !self.unread.is_empty() {
            return true;
        }
        self.set_patience(patience);
        let heard = !matches!(self.stream().peek(&mut [0]), Err(error) if
            matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        self.set_patience(PATIENCE);
        heard
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
