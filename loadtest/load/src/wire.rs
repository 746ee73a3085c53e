//! The three protocols: a request as bytes, an answer from bytes.

use memchr::{memchr, memmem};

use crate::args::Args;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Memcached,
    Resp,
}

impl Protocol {
    pub fn parse(text: &str) -> Option<Protocol> {
        match text {
            "http" => Some(Protocol::Http),
            "memcached" => Some(Protocol::Memcached),
            "resp" => Some(Protocol::Resp),
            _ => None,
        }
    }
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The value, as a range of the bytes looked at.
    Value(std::ops::Range<usize>),
    Absent,
    Stored,
    /// An HTTP status, 0 for the other protocols.
    Refused(u16),
    /// The same, and the server closes the connection.
    Closed(u16),
}

/// Builds requests and reads answers.
#[derive(Debug)]
pub struct Wire {
    protocol: Protocol,
    get: [Vec<u8>; 2],
    put: [Vec<u8>; 2],
    /// What stands in the body of a PUT before the key, between it and the value, and behind.
    put_body: Option<[Vec<u8>; 3]>,
    /// Whether there is a value in that body.
    has_value: bool,
    ttl: Option<u32>,
}

const KEY_DIGITS: usize = 12;
const KEY_BYTES: usize = 4 + KEY_DIGITS;

impl Wire {
    pub fn new(args: &Args) -> Wire {
        let line = |text: &str, tail: &str| {
            let (before, after) = text.split_once("{K}").unwrap_or((text, ""));
            let mut after = format!("{after} HTTP/1.1\r\nHost: {}\r\n", args.address);
            if let Some(value) = &args.authorization {
                after += &format!("Authorization: {value}\r\n");
            }
            [before.as_bytes().to_vec(), (after + tail).into_bytes()]
        };
        let ttl = args.ttl.map_or(String::new(), |ttl| format!("X-TTL: {ttl}\r\n"));
        Wire {
            protocol: args.protocol,
            get: line(&args.get_line, "\r\n"),
            put: line(&args.put_line, &format!("{ttl}Content-Length: ")),
            put_body: args.put_body.as_ref().map(|body| {
                let (before, rest) = body.split_once("{K}").unwrap_or((body, ""));
                let (between, behind) = rest.split_once("{V}").unwrap_or((rest, ""));
                [before, between, behind].map(|part| part.as_bytes().to_vec())
            }),
            has_value: args.put_body.as_ref().is_none_or(|body| body.contains("{V}")),
            ttl: args.ttl,
        }
    }

    pub fn get(&self, key: u64, out: &mut Vec<u8>) {
        match self.protocol {
            Protocol::Http => {
                out.extend_from_slice(&self.get[0]);
                append_key(key, out);
                out.extend_from_slice(&self.get[1]);
            }
            Protocol::Memcached => {
                out.extend_from_slice(b"get ");
                append_key(key, out);
                out.extend_from_slice(b"\r\n");
            }
            Protocol::Resp => {
                out.extend_from_slice(b"*2\r\n$3\r\nGET\r\n$16\r\n");
                append_key(key, out);
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// `value` appends the value's `len` bytes.
    pub fn put(&self, key: u64, len: usize, out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
        match self.protocol {
            Protocol::Http => {
                out.extend_from_slice(&self.put[0]);
                let Some([before, between, behind]) = &self.put_body else {
                    append_key(key, out);
                    out.extend_from_slice(&self.put[1]);
                    append_number(len as u64, out);
                    out.extend_from_slice(b"\r\n\r\n");
                    value(out);
                    return;
                };
                out.extend_from_slice(&self.put[1]);
                let len = if self.has_value { len } else { 0 };
                let bytes = before.len() + KEY_BYTES + between.len() + len + behind.len();
                append_number(bytes as u64, out);
                out.extend_from_slice(b"\r\n\r\n");
                out.extend_from_slice(before);
                append_key(key, out);
                out.extend_from_slice(between);
                let at = out.len();
                if self.has_value {
                    value(out);
                }
                // Letters need no escape in any text.
                out[at..].iter_mut().for_each(|byte| *byte = b'a' + (*byte & 15));
                out.extend_from_slice(behind);
            }
            Protocol::Memcached => {
                out.extend_from_slice(b"set ");
                append_key(key, out);
                out.extend_from_slice(b" 0 ");
                append_number(u64::from(self.ttl.unwrap_or(0)), out);
                out.push(b' ');
                append_number(len as u64, out);
                out.extend_from_slice(b"\r\n");
                value(out);
                out.extend_from_slice(b"\r\n");
            }
            Protocol::Resp => {
                let words: &[u8] = if self.ttl.is_some() { b"*5" } else { b"*3" };
                out.extend_from_slice(words);
                out.extend_from_slice(b"\r\n$3\r\nSET\r\n$16\r\n");
                append_key(key, out);
                out.extend_from_slice(b"\r\n$");
                append_number(len as u64, out);
                out.extend_from_slice(b"\r\n");
                value(out);
                out.extend_from_slice(b"\r\n");
                if let Some(ttl) = self.ttl {
                    let ttl = ttl.to_string();
                    out.extend_from_slice(format!("$2\r\nEX\r\n${}\r\n{ttl}\r\n", ttl.len()).as_bytes());
                }
            }
        }
    }

    /// The answer at the start of `bytes` and its length; none when it is not complete.
    ///
    /// # Errors
    /// When it is no answer of this protocol.
    pub fn answer(&self, bytes: &[u8]) -> Result<Option<(Answer, usize)>, ()> {
        match self.protocol {
            Protocol::Http => http(bytes),
            Protocol::Memcached => memcached(bytes),
            Protocol::Resp => resp(bytes),
        }
    }
}

fn http(bytes: &[u8]) -> Result<Option<(Answer, usize)>, ()> {
    let Some(head_end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = &bytes[..head_end + 2];
    if !head.starts_with(b"HTTP/1.") || head.len() < 14 {
        return Err(());
    }
    let status = number(&head[9..12]).ok_or(())? as u16;
    let body = head_end + 4;
    let body_len = if status == 204 || status == 304 {
        0
    } else {
        field(head, b"content-length:").and_then(number).ok_or(())?
    };
    let end = body + body_len;
    if bytes.len() < end {
        return Ok(None);
    }
    let answer = match status {
        200 if body_len > 0 => Answer::Value(body..end),
        200..=299 => Answer::Stored,
        404 => Answer::Absent,
        _ if field(head, b"connection:").is_some_and(|value| value.eq_ignore_ascii_case(b"close")) => {
            Answer::Closed(status)
        }
        _ => Answer::Refused(status),
    };
    Ok(Some((answer, end)))
}

fn field<'h>(head: &'h [u8], name: &[u8]) -> Option<&'h [u8]> {
    let mut at = 0;
    while let Some(line) = memchr(b'\n', &head[at..]) {
        at += line + 1;
        let rest = &head[at..];
        if rest.len() > name.len() && rest[..name.len()].eq_ignore_ascii_case(name) {
            return Some(rest[name.len()..memchr(b'\r', rest)?].trim_ascii());
        }
    }
    None
}

fn memcached(bytes: &[u8]) -> Result<Option<(Answer, usize)>, ()> {
    let Some(line_end) = memchr(b'\n', bytes) else { return Ok(None) };
    let line = bytes[..line_end].trim_ascii_end();
    if line.starts_with(b"VALUE ") {
        let len = line.rsplit(|byte| *byte == b' ').next().and_then(number).ok_or(())?;
        let value = line_end + 1..line_end + 1 + len;
        let end = value.end + b"\r\nEND\r\n".len();
        return Ok((bytes.len() >= end).then_some((Answer::Value(value), end)));
    }
    let answer = match line {
        b"END" => Answer::Absent,
        b"STORED" => Answer::Stored,
        _ if line.starts_with(b"SERVER_ERROR") => Answer::Refused(0),
        _ => return Err(()),
    };
    Ok(Some((answer, line_end + 1)))
}

fn resp(bytes: &[u8]) -> Result<Option<(Answer, usize)>, ()> {
    let Some(line_end) = memchr(b'\n', bytes) else { return Ok(None) };
    let line = bytes[..line_end].trim_ascii_end();
    let answer = match line.first() {
        Some(b'$') if line == b"$-1" => Answer::Absent,
        Some(b'$') => {
            let len = number(&line[1..]).ok_or(())?;
            let value = line_end + 1..line_end + 1 + len;
            let end = value.end + 2;
            return Ok((bytes.len() >= end).then_some((Answer::Value(value), end)));
        }
        Some(b'+') => Answer::Stored,
        Some(b'-') => Answer::Refused(0),
        _ => return Err(()),
    };
    Ok(Some((answer, line_end + 1)))
}

fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    digits.iter().try_fold(0usize, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + usize::from(digit - b'0'))
    })
}

fn append_key(key: u64, out: &mut Vec<u8>) {
    let mut text = *b"key:000000000000";
    let (mut rest, mut at) = (key, text.len());
    while rest > 0 && at > text.len() - KEY_DIGITS {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&text);
}

fn append_number(mut number: u64, out: &mut Vec<u8>) {
    let mut text = [b'0'; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

#[cfg(test)]
mod tests {
    use super::{Answer, Protocol, Wire};
    use crate::args::Args;

    fn wire(protocol: &str) -> Wire {
        Wire::new(&Args::parse(["--protocol", protocol].map(String::from).into_iter()).unwrap())
    }

    #[test]
    fn an_answer_split_at_every_byte_is_read_once_it_is_whole() {
        let cases: [(&str, &[u8], Answer); 9] = [
            ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Answer::Value(38..41)),
            ("http", b"HTTP/1.1 201 Created\r\ncontent-length:0\r\n\r\n", Answer::Stored),
            ("http", b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", Answer::Absent),
            ("http", b"HTTP/1.1 507 X\r\nContent-Length: 0\r\n\r\n", Answer::Refused(507)),
            (
                "http",
                b"HTTP/1.1 503 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                Answer::Closed(503),
            ),
            ("memcached", b"VALUE key:000000000001 0 3\r\nabc\r\nEND\r\n", Answer::Value(28..31)),
            ("memcached", b"END\r\n", Answer::Absent),
            ("resp", b"$3\r\nabc\r\n", Answer::Value(4..7)),
            ("resp", b"$-1\r\n", Answer::Absent),
        ];
        for (protocol, bytes, expected) in cases {
            let wire = wire(protocol);
            for cut in 0..bytes.len() {
                assert_eq!(wire.answer(&bytes[..cut]), Ok(None), "{protocol} {cut}");
            }
            let twice = [bytes, bytes].concat();
            assert_eq!(wire.answer(&twice), Ok(Some((expected, bytes.len()))));
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        assert_eq!(wire("http").answer(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"), Err(()));
        assert_eq!(wire("http").answer(b"SSH-2.0\r\n\r\n"), Err(()));
        assert_eq!(wire("memcached").answer(b"ERROR\r\n"), Err(()));
        assert_eq!(wire("resp").answer(b"?\r\n"), Err(()));
    }

    #[test]
    fn requests_are_what_the_protocols_say() {
        let mut out = Vec::new();
        wire("http").put(42, 2, &mut out, |out| out.extend_from_slice(b"ab"));
        let text = String::from_utf8(out).unwrap();
        let head = "PUT /api/kv/key:000000000042 HTTP/1.1\r\nHost: 127.0.0.1:7020\r\n";
        assert_eq!(text, format!("{head}Content-Length: 2\r\n\r\nab"));
        assert_eq!(Protocol::parse("gopher"), None);
    }
}
