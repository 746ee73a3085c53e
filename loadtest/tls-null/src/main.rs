//! The yardstick of TLS: one epoll loop that decrypts what comes, counts blank lines, and writes a canned
//! answer for each. It parses nothing and trusts its clients.
//!
//! `tls-null --port P --body BYTES --certificate FILE --key FILE`

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

const LISTENER: Token = Token(usize::MAX);

/// Requests answered at most for one read.
const REQUESTS_MAX: usize = 512;

struct Connection {
    socket: TcpStream,
    tls: ServerConnection,
    /// The beginning of a request whose end has not come.
    input: Vec<u8>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let options: HashMap<&str, &str> =
        words.chunks_exact(2).map(|pair| (pair[0].trim_start_matches('-'), pair[1].as_str())).collect();
    let option = |name: &str| options.get(name).copied().ok_or_else(|| format!("--{name} is missing"));
    let body = "v".repeat(option("body")?.parse()?);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let answers = answer.repeat(REQUESTS_MAX).into_bytes();
    let chain = vec![CertificateDer::from_pem_file(option("certificate")?)?];
    let key = PrivateKeyDer::from_pem_file(option("key")?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let config = Arc::new(config);

    let mut listener = TcpListener::bind(format!("127.0.0.1:{}", option("port")?).parse()?)?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening on https://{}", listener.local_addr()?);
    let mut events = Events::with_capacity(1_024);
    let mut connections: HashMap<usize, Connection> = HashMap::new();
    let mut next = 0;
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            let Token(id) = event.token();
            if event.token() == LISTENER {
                while let Ok((mut socket, _)) = listener.accept() {
                    socket.set_nodelay(true)?;
                    poll.registry().register(&mut socket, Token(next), Interest::READABLE)?;
                    let tls = ServerConnection::new(Arc::clone(&config))?;
                    connections.insert(next, Connection { socket, tls, input: Vec::new() });
                    next += 1;
                }
            } else if let Some(connection) = connections.get_mut(&id)
                && !connection.serve(&answers, answer.len()).unwrap_or(false)
            {
                connections.remove(&id);
            }
        }
    }
}

impl Connection {
    /// Serves what has come. False at the end.
    fn serve(&mut self, answers: &[u8], answer_bytes: usize) -> io::Result<bool> {
        let mut block = [0; 4_096];
        loop {
            match self.tls.read_tls(&mut self.socket) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.tls.process_new_packets().map_err(io::Error::other)?;
                    loop {
                        match self.tls.reader().read(&mut block) {
                            Ok(0) => return Ok(false),
                            Ok(count) => self.input.extend_from_slice(&block[..count]),
                            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                            Err(error) => return Err(error),
                        }
                    }
                    let (mut requests, mut end) = (0, 0);
                    for at in memchr::memmem::find_iter(&self.input, b"\r\n\r\n") {
                        (requests, end) = (requests + 1, at + 4);
                    }
                    self.input.drain(..end);
                    if requests > 0 {
                        self.tls.writer().write_all(&answers[..requests.min(REQUESTS_MAX) * answer_bytes])?;
                    }
                    while self.tls.wants_write() {
                        self.tls.write_tls(&mut self.socket)?;
                    }
                    // A short read has drained the socket.
                    if count < 4_096 {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }
}
