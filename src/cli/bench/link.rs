//! One connection of a load: requests out, answers in, and when each was sent.
//!
//! Answers come in the order of the requests, so the oldest request under way is the one an answer is
//! for. Bodies are passed over, not kept. Reads no clock.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::requests::{Kind, Requests};

/// Bytes read at a time, and the longest head of an answer.
pub const READ_BYTES: usize = 64 * 1_024;
const HEAD_BYTES_MAX: usize = 16 * 1_024;

/// How long a connection may take to come about.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// A request that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// What it does.
    pub kind: Kind,
    /// When its time began, in nanoseconds of the run.
    pub since_ns: u64,
}

/// An answered request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// What was asked.
    pub sent: Sent,
    /// The status of the answer.
    pub status: u16,
    /// How long the answer was, head and body.
    pub bytes: u64,
}

/// Why a connection is of no more use.
#[derive(Debug)]
pub enum Broken {
    /// It cannot be read or written.
    Io(io::Error),
    /// It answers what is no HTTP.
    Malformed(&'static str),
}

/// One connection.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    out: Vec<u8>,
    written: usize,
    under_way: VecDeque<Sent>,
    answers: Answers,
    /// Whether the socket was full when it was last written to.
    pub stuck: bool,
}

impl Link {
    /// Connects.
    pub fn open(address: SocketAddr) -> io::Result<Link> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Link {
            stream,
            out: Vec::new(),
            written: 0,
            under_way: VecDeque::new(),
            answers: Answers::default(),
            stuck: false,
        })
    }

    /// The socket, to be waited for.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// How many requests are under way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Takes a request on. [`Link::flush`] sends it.
    pub fn push(&mut self, requests: &Requests, kind: Kind, key: u64, since_ns: u64) {
        requests.write(kind, key, &mut self.out);
        self.under_way.push_back(Sent { kind, since_ns });
    }

    /// Sends as much as the socket takes.
    pub fn flush(&mut self) -> Result<(), Broken> {
        self.stuck = false;
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.stuck = true;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Broken::Io(error)),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads once and tells of every answer that is complete.
    pub fn read(&mut self, block: &mut [u8], mut answered: impl FnMut(Answered)) -> Result<(), Broken> {
        let count = match self.stream.read(block) {
            Ok(0) => return Err(Broken::Io(ErrorKind::UnexpectedEof.into())),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(Broken::Io(error)),
        };
        let under_way = &mut self.under_way;
        self.answers.feed(&block[..count], |status, bytes| {
            let sent = under_way.pop_front().ok_or("an answer to nothing")?;
            answered(Answered { sent, status, bytes });
            Ok(())
        })
    }
}

/// Takes a stream of answers apart.
#[derive(Debug, Default)]
struct Answers {
    /// A head that has not come whole.
    head: Vec<u8>,
    /// Status and length of the answer whose body is coming, and how much of it is still to come.
    body: Option<(u16, u64, u64)>,
}

impl Answers {
    fn feed(
        &mut self,
        mut bytes: &[u8],
        mut complete: impl FnMut(u16, u64) -> Result<(), &'static str>,
    ) -> Result<(), Broken> {
        loop {
            if let Some((status, total, left)) = self.body {
                let taken = left.min(bytes.len() as u64);
                bytes = &bytes[taken as usize..];
                self.body = Some((status, total, left - taken));
                if left > taken {
                    return Ok(());
                }
                self.body = None;
                complete(status, total).map_err(Broken::Malformed)?;
            }
            if bytes.is_empty() {
                return Ok(());
            }
            let Some((head_bytes, consumed)) = self.head_end(bytes) else { return Ok(()) };
            let parsed = match self.head.is_empty() {
                true => parse(&bytes[..consumed]),
                false => {
                    self.head.extend_from_slice(&bytes[..consumed]);
                    parse(&self.head)
                }
            };
            self.head.clear();
            bytes = &bytes[consumed..];
            let (status, length) = parsed.map_err(Broken::Malformed)?;
            self.body = Some((status, head_bytes as u64 + length, length));
        }
    }

    /// Length of the head that ends in these bytes, and how many of them belong to it. A part of a
    /// head is kept.
    fn head_end(&mut self, bytes: &[u8]) -> Option<(usize, usize)> {
        const END: &[u8] = b"\r\n\r\n";
        let kept = self.head.len();
        // The end may have begun in what is kept.
        let overlap = kept.min(END.len() - 1);
        let mut seam = self.head[kept - overlap..].to_vec();
        seam.extend_from_slice(&bytes[..bytes.len().min(END.len() - 1)]);
        if let Some(at) = memchr::memmem::find(&seam, END).filter(|_| overlap > 0) {
            let consumed = at + END.len() - overlap;
            return Some((kept + consumed, consumed));
        }
        if let Some(at) = memchr::memmem::find(bytes, END) {
            return Some((kept + at + END.len(), at + END.len()));
        }
        if kept + bytes.len() <= HEAD_BYTES_MAX {
            self.head.extend_from_slice(bytes);
            return None;
        }
        // Too long for a head: let it be parsed, and refused.
        Some((kept + bytes.len(), bytes.len()))
    }
}

/// Status and length of the body of an answer.
fn parse(head: &[u8]) -> Result<(u16, u64), &'static str> {
    let status = head.strip_prefix(b"HTTP/1.1 ").and_then(|rest| number(rest.get(..3)?));
    let status = status.ok_or("an answer does not begin with a status line")? as u16;
    let mut length = None;
    for line in head.split(|&byte| byte == b'\n').skip(1) {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            length = Some(number(value).ok_or("a length is no number")?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Err("an answer comes in chunks, which a node does not send here");
        }
    }
    match (status, length) {
        (204 | 304, _) => Ok((status, 0)),
        (_, Some(length)) => Ok((status, length)),
        (_, None) => Err("an answer has no length"),
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    let plain = (1..=18).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| digits.iter().fold(0, |number, digit| 10 * number + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::{Answers, Broken};

    fn feed(pieces: &[&[u8]]) -> Result<Vec<(u16, u64)>, &'static str> {
        let (mut answers, mut complete) = (Answers::default(), Vec::new());
        for piece in pieces {
            let fed = answers.feed(piece, |status, bytes| {
                complete.push((status, bytes));
                Ok(())
            });
            fed.map_err(|broken| match broken {
                Broken::Malformed(what) => what,
                Broken::Io(_) => "io",
            })?;
        }
        Ok(complete)
    }

    const TWO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 404 Not Found\r\ncontent-length:0\r\n\r\n";

    #[test]
    fn answers_are_found_wherever_they_are_cut() {
        let expected = Ok(vec![(200, 43), (404, 44)]);
        assert_eq!(feed(&[TWO]), expected);
        for first in 0..TWO.len() {
            assert_eq!(feed(&[&TWO[..first], &TWO[first..]]), expected, "{first}");
            for second in first..TWO.len() {
                assert_eq!(feed(&[&TWO[..first], &TWO[first..second], &TWO[second..]]), expected);
            }
        }
        let bytes: Vec<&[u8]> = TWO.chunks(1).collect();
        assert_eq!(feed(&bytes), expected);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for head in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 2x0 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(feed(&[head.as_bytes()]).is_err(), "{head}");
        }
        assert!(feed(&[&[b'x'; 20_000]]).is_err());
        assert_eq!(feed(&[b"HTTP/1.1 304 Not Modified\r\n\r\n"]), Ok(vec![(304, 29)]));
    }
}
