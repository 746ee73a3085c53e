//! The bare socket: what a server costs that does nothing.
//!
//! It finds where requests end and writes prepared answers of the right size, one write for each read. It
//! parses nothing, stores nothing and trusts its client. What the kernel asks of any server with these
//! requests and answers is left, and that is what `r` compares others with.
//!
//! A request ends with its blank line; one that begins with `P` has a body of `--body` bytes after it. A
//! GET is answered with `--body` bytes, a PUT with 64, about what a node's message has. Answers of one kind
//! are slices of one block of repetitions, so that nothing is copied on the way to the socket.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use memchr::memmem::Finder;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const USAGE: &str = "usage: null [--port N] [--threads N] [--body BYTES]";
const READ_BYTES: usize = 64 * 1_024;
const PUT_ANSWER_BYTES: usize = 64;
/// A block of answers has at least so many, and at least so many bytes. A larger one costs more than it
/// saves: it falls out of the cache.
const BLOCK_ANSWERS_MIN: usize = 4;
const BLOCK_BYTES_MIN: usize = 64 * 1_024;
const LISTENER: Token = Token(usize::MAX);

#[derive(Clone, Copy, Debug)]
struct Args {
    port: u16,
    threads: usize,
    body: usize,
}

fn main() -> ExitCode {
    let Some(args) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("null: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Args> {
    let mut args = Args { port: 0, threads: 1, body: 64 };
    while let Some(name) = words.next() {
        let value = words.next()?;
        match name.as_str() {
            "--port" => args.port = value.parse().ok()?,
            "--threads" => args.threads = value.parse().ok().filter(|threads| *threads > 0)?,
            "--body" => args.body = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(args)
}

fn serve(mut args: Args) -> io::Result<()> {
    let mut listeners = Vec::new();
    for _ in 0..args.threads {
        let listener = listen(args.port)?;
        args.port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    println!("listening on http://127.0.0.1:{}", args.port);
    let threads: Vec<_> = listeners
        .into_iter()
        .map(|listener| std::thread::spawn(move || Reactor::new(listener, args.body)?.run()))
        .collect();
    threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into())?;
    socket.listen(1_024)?;
    Ok(TcpListener::from_std(socket.into()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Get,
    Put,
}

/// One answer, repeated.
struct Block {
    bytes: Vec<u8>,
    answer_bytes: usize,
}

impl Block {
    fn new(body: usize) -> Block {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + body, b'v');
        let count = BLOCK_ANSWERS_MIN.max(BLOCK_BYTES_MIN / answer.len());
        Block { bytes: answer.repeat(count), answer_bytes: answer.len() }
    }

    /// The next bytes when `left` are to be sent and the last answer ends with them.
    fn slice(&self, left: usize) -> &[u8] {
        let begun = (self.answer_bytes - left % self.answer_bytes) % self.answer_bytes;
        &self.bytes[begun..self.bytes.len().min(begun + left)]
    }
}

struct Connection {
    stream: TcpStream,
    /// The beginning of a request that has not come whole.
    partial: Vec<u8>,
    /// Bytes of a body to come, and that its PUT is not answered yet.
    body_left: usize,
    /// Answers not sent: their kind and how many bytes of them are left.
    unsent: VecDeque<(Kind, usize)>,
}

struct Reactor {
    poll: Poll,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    input: Vec<u8>,
    /// Answers of different kinds in one write.
    gathered: Vec<u8>,
    shape: Shape,
}

/// What requests and answers look like.
struct Shape {
    body: usize,
    blank_line: Finder<'static>,
    get: Block,
    put: Block,
}

impl Reactor {
    fn new(mut listener: TcpListener, body: usize) -> io::Result<Reactor> {
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let shape = Shape {
            body,
            blank_line: Finder::new(b"\r\n\r\n"),
            get: Block::new(body),
            put: Block::new(PUT_ANSWER_BYTES),
        };
        Ok(Reactor {
            poll,
            listener,
            connections: Vec::new(),
            input: vec![0; READ_BYTES],
            gathered: Vec::new(),
            shape,
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1_024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in events.iter() {
                if event.token() == LISTENER {
                    self.accept()?;
                    continue;
                }
                let at = event.token().0;
                let Some(connection) = self.connections[at].as_mut() else { continue };
                let mut alive = connection.flush(&self.shape, &mut self.gathered);
                if alive && event.is_readable() {
                    alive = connection.read(&self.shape, &mut self.input, &mut self.gathered);
                }
                if !alive {
                    self.connections[at] = None;
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let free = self.connections.iter().position(Option::is_none);
            let at = free.unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(at), both)?;
            self.connections[at] =
                Some(Connection { stream, partial: Vec::new(), body_left: 0, unsent: VecDeque::new() });
        }
    }
}

impl Connection {
    /// Reads until the socket is drained, one write for each read; false when the connection is gone.
    fn read(&mut self, shape: &Shape, input: &mut [u8], gathered: &mut Vec<u8>) -> bool {
        loop {
            let count = match self.stream.read(input) {
                Ok(0) => return false,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            };
            if self.partial.is_empty() {
                let taken = self.requests(shape, &input[..count]);
                self.partial.extend_from_slice(&input[taken..count]);
            } else {
                let mut bytes = std::mem::take(&mut self.partial);
                bytes.extend_from_slice(&input[..count]);
                let taken = self.requests(shape, &bytes);
                bytes.drain(..taken);
                self.partial = bytes;
            }
            if !self.flush(shape, gathered) {
                return false;
            }
            // A short read has drained the socket.
            if count < input.len() {
                return true;
            }
        }
    }

    /// Finds the requests that end in `bytes`, and answers how many bytes they and begun bodies take.
    fn requests(&mut self, shape: &Shape, bytes: &[u8]) -> usize {
        let mut at = 0;
        loop {
            if self.body_left > 0 {
                let here = self.body_left.min(bytes.len() - at);
                at += here;
                self.body_left -= here;
                if self.body_left > 0 {
                    return at;
                }
                self.answer(shape, Kind::Put);
            }
            let Some(end) = shape.blank_line.find(&bytes[at..]) else { return at };
            let put = bytes[at] == b'P';
            at += end + 4;
            match put {
                true if shape.body > 0 => self.body_left = shape.body,
                true => self.answer(shape, Kind::Put),
                false => self.answer(shape, Kind::Get),
            }
        }
    }

    fn answer(&mut self, shape: &Shape, kind: Kind) {
        let bytes = shape.block(kind).answer_bytes;
        match self.unsent.back_mut() {
            Some((last, left)) if *last == kind => *left += bytes,
            _ => self.unsent.push_back((kind, bytes)),
        }
    }

    /// Sends what the socket takes; false when the connection is gone.
    fn flush(&mut self, shape: &Shape, gathered: &mut Vec<u8>) -> bool {
        while let Some(&(kind, left)) = self.unsent.front() {
            let first = shape.block(kind).slice(left);
            let bytes = if self.unsent.len() == 1 {
                first
            } else {
                gathered.clear();
                for &(kind, left) in &self.unsent {
                    let slice = shape.block(kind).slice(left);
                    gathered.extend_from_slice(slice);
                    if slice.len() < left || gathered.len() >= BLOCK_BYTES_MIN {
                        break;
                    }
                }
                &gathered[..]
            };
            let mut sent = match self.stream.write(bytes) {
                Ok(sent) => sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            };
            let whole = sent == bytes.len();
            while sent > 0 {
                let Some((_, left)) = self.unsent.front_mut() else { break };
                let here = sent.min(*left);
                *left -= here;
                sent -= here;
                if *left == 0 {
                    self.unsent.pop_front();
                }
            }
            // A short write has filled the socket.
            if !whole {
                return true;
            }
        }
        true
    }
}

impl Shape {
    fn block(&self, kind: Kind) -> &Block {
        match kind {
            Kind::Get => &self.get,
            Kind::Put => &self.put,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::{Reactor, listen};

    fn answer(body: usize) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n{}", "v".repeat(body))
    }

    #[test]
    fn requests_in_two_pieces_cut_anywhere_are_answered_once_each_and_in_order() {
        let listener = listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || Reactor::new(listener, 100).unwrap().run());
        let get = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n".to_string();
        // A body that looks like requests is none.
        let put = "PUT /a HTTP/1.1\r\nContent-Length: 100\r\n\r\n".to_string() + &"P\r\n\r\n".repeat(20);
        let requests = [get.clone(), put.clone(), put, get.clone(), get].concat();
        let expected = [100, 64, 64, 100, 100].map(answer).concat();
        for cut in 1..requests.len() {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.write_all(&requests.as_bytes()[..cut]).unwrap();
            stream.write_all(&requests.as_bytes()[cut..]).unwrap();
            let mut found = vec![0; expected.len()];
            stream.read_exact(&mut found).unwrap();
            assert!(found == expected.as_bytes(), "cut at {cut}");
        }
    }

    #[test]
    fn answers_that_the_socket_does_not_take_at_once_come_later() {
        const BODY: usize = 65_536;
        const COUNT: usize = 200;
        let listener = listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || Reactor::new(listener, BODY).unwrap().run());
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all("GET /a HTTP/1.1\r\n\r\n".repeat(COUNT).as_bytes()).unwrap();
        let one = answer(BODY);
        let mut found = vec![0; one.len()];
        for number in 0..COUNT {
            stream.read_exact(&mut found).unwrap();
            assert!(found == one.as_bytes(), "answer {number}");
        }
    }
}
