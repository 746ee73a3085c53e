//! The head of a request: finds its end, parses it, and settles everything in it that decides where
//! the request ends and whether the connection goes on (RFC 9112, sections 2 to 7 and 9).
//!
//! httparse reads the syntax. What it lets pass is closed here: bare LF as a line end, any number of
//! empty lines before the request, bytes that are not ASCII in the target, and the meaning of every
//! field. A head that arrives in pieces is parsed three times at most, however many pieces
//! there are: `scanned` remembers how far it was searched for the ends of its lines.
//!
//! Where this is stricter or laxer than it must be:
//! - HTTP/1.2 to 1.9 are served as HTTP/1.1 (RFC 9110, section 2.5); any other major version is
//!   [`Refusal::VersionUnsupported`].
//! - `Content-Length: 5, 5` and two equal lines are one length (RFC 9110, section 8.6). Leading
//!   zeros are digits.
//! - In HTTP/1.0 a missing Host is fine, a malformed or doubled one is not, and `Expect` is ignored.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::Refusal;
use super::field::{Known, elements, known, trim};
use super::request::{Framing, Method, Request, Span, Version};
use super::target;
use crate::limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, TARGET_BYTES_MAX};

/// Empty lines that may stand before a request.
const BLANK_LINES_MAX: usize = 2;

const BARE_LF: Refusal = Refusal::BadRequest("a line does not end in CRLF");

/// Parses the head at the start of `buf`, which begins where the request before it ended. `None`
/// asks for more bytes.
///
/// `scanned` is 0 when a request begins and belongs to this function until the head is complete: it
/// remembers how far a dribbled head was searched. A limit that is certain to be broken is reported
/// before the head is complete.
///
/// One or two empty lines before the request are skipped, for clients that end a body with a line
/// too many (RFC 9112, section 2.2), and count as part of its head.
pub fn parse_head(buf: &[u8], scanned: &mut usize) -> Result<Option<Request>, Refusal> {
    match buf {
        [] => return Ok(None),
        // httparse would skip any number of these.
        [b'\r' | b'\n', ..] => return behind_blank_lines(buf, scanned),
        _ => {}
    }
    if *scanned > 0 && search(buf, scanned)? == Found::Nothing {
        return Ok(None);
    }
    let window = &buf[..buf.len().min(HEAD_BYTES_MAX)];
    let mut slots = [const { MaybeUninit::uninit() }; HEAD_FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(window, &mut slots) {
        Ok(httparse::Status::Complete(head_len)) => check(&window[..head_len], &parsed).map(Some),
        Ok(httparse::Status::Partial) => incomplete(buf, scanned),
        Err(error) => malformed(buf, scanned, error),
    }
}

/// Skips the empty lines, parses, and counts them in.
#[cold]
fn behind_blank_lines(buf: &[u8], scanned: &mut usize) -> Result<Option<Request>, Refusal> {
    let blank = BLANK_LINES_MAX.min(buf.chunks(2).take_while(|line| line == b"\r\n").count()) * 2;
    let rest = &buf[blank..];
    match rest {
        [] => Ok(None),
        [b'\r'] if blank < BLANK_LINES_MAX * 2 => Ok(None),
        [b'\r' | b'\n', ..] => Err(Refusal::BadRequest("there are empty lines before the request")),
        _ => {
            let mut rest_scanned = scanned.saturating_sub(blank);
            let parsed = parse_head(rest, &mut rest_scanned);
            *scanned = rest_scanned + blank;
            Ok(parsed?.map(|request| request.moved(blank as u16)))
        }
    }
}

/// Checks what the syntax does not, and draws the request out of it.
fn check(head: &[u8], parsed: &httparse::Request<'_, '_>) -> Result<Request, Refusal> {
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Refusal::BadRequest("the request line is malformed"));
    };
    if target.len() > TARGET_BYTES_MAX {
        return Err(Refusal::TargetTooLong);
    }
    if !head.ends_with(b"\r\n\r\n") {
        return Err(BARE_LF);
    }
    let offset = |part: &[u8]| part.as_ptr() as usize - head.as_ptr() as usize;
    let method = Method::parse(method.as_bytes())?;
    let target_at = offset(target.as_bytes());
    let parts = target::split(target.as_bytes(), method)?;
    let span = |range: Range<usize>| Span::new(target_at + range.start, range.len());

    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let mut request = Request::new(method, version, head.len());
    request.path = span(parts.path);
    request.query = parts.query.map(span);
    request.escaped = memchr::memchr(b'%', request.path.of(head)).is_some();
    let mut message = Message::default();
    for line in parsed.headers.iter() {
        // Every line begins with a field name, since folded lines are refused, and an LF can stand
        // nowhere but at a line's end: if CRLF stands before every name, there is no bare LF.
        let name_at = offset(line.name.as_bytes());
        if head[name_at - 2..name_at] != *b"\r\n" {
            return Err(BARE_LF);
        }
        match known(line.name.as_bytes()) {
            None => {}
            Some(Known::Kept(field)) => {
                request.keep(field, Span::new(offset(line.value), line.value.len()))?
            }
            Some(Known::Host) => message.host(line.value)?,
            Some(Known::Connection) => message.connection(line.value),
            Some(Known::ContentLength) => message.content_length(line.value)?,
            Some(Known::TransferEncoding) => message.transfer_encoding(line.value)?,
            Some(Known::Expect) => message.expect(line.value),
        }
    }
    message.settle(&mut request)?;
    Ok(request)
}

/// What the fields say about the message itself, while they are being read.
#[derive(Default)]
struct Message {
    host: bool,
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expect_continue: bool,
    expect_other: bool,
}

impl Message {
    fn host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.host {
            return Err(Refusal::BadRequest("Host stands twice"));
        }
        if !target::is_authority(value) {
            return Err(Refusal::BadRequest("Host is malformed"));
        }
        self.host = true;
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for option in elements(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for length in value.split(|&byte| byte == b',') {
            let length = decimal(trim(length)).ok_or(Refusal::BadRequest("Content-Length is malformed"))?;
            if self.content_length.is_some_and(|known| known != length) {
                return Err(Refusal::BadRequest("two Content-Lengths differ"));
            }
            self.content_length = Some(length);
        }
        Ok(())
    }

    /// `chunked` is the only coding, so a second line or element could only repeat it, which is
    /// malformed too (RFC 9112, section 6.1).
    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::BadRequest("Transfer-Encoding is not chunked"));
        }
        self.chunked = true;
        Ok(())
    }

    fn expect(&mut self, value: &[u8]) {
        for expectation in elements(value) {
            let is_continue = expectation.eq_ignore_ascii_case(b"100-continue");
            self.expect_continue |= is_continue;
            self.expect_other |= !is_continue;
        }
    }

    /// Checks the fields against each other and the version.
    fn settle(&self, request: &mut Request) -> Result<(), Refusal> {
        let is_1_1 = request.version == Version::Http11;
        if is_1_1 && !self.host {
            return Err(Refusal::BadRequest("Host is missing"));
        }
        request.framing = match (self.content_length, self.chunked) {
            (Some(_), true) => {
                return Err(Refusal::BadRequest("both Content-Length and Transfer-Encoding are there"));
            }
            (None, true) if !is_1_1 => return Err(Refusal::BadRequest("HTTP/1.0 has no Transfer-Encoding")),
            (None, true) => Framing::Chunked,
            (Some(length), false) => Framing::Sized(length),
            (None, false) => Framing::None,
        };
        if is_1_1 && self.expect_other {
            return Err(Refusal::ExpectationFailed);
        }
        let has_body = !matches!(request.framing, Framing::None | Framing::Sized(0));
        request.expect_continue = is_1_1 && self.expect_continue && has_body;
        request.keep_alive = !self.close && (is_1_1 || self.keep_alive);
        Ok(())
    }
}

/// One or more digits that fit 64 bits.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// What a search of a head that came in pieces found in its newest piece.
#[derive(PartialEq, Eq)]
enum Found {
    /// Nothing that parsing again could make use of.
    Nothing,
    /// The end of the request line, by which other protocols are told from HTTP.
    RequestLine,
    /// The end of the head.
    End,
}

/// Searches what has come since the last search, and refuses a bare LF and what is over a limit
/// already.
#[cold]
fn search(buf: &[u8], scanned: &mut usize) -> Result<Found, Refusal> {
    let from = (*scanned).min(buf.len());
    let mut found = Found::Nothing;
    for lf in memchr::memchr_iter(b'\n', &buf[from..]) {
        let line = &buf[..from + lf + 1];
        if !line.ends_with(b"\r\n") {
            return Err(BARE_LF);
        }
        if line.ends_with(b"\r\n\r\n") {
            return Ok(Found::End);
        }
        if memchr::memchr(b'\n', &line[..line.len() - 1]).is_none() {
            found = Found::RequestLine;
        }
    }
    *scanned = buf.len();
    if is_target_too_long(buf) {
        return Err(Refusal::TargetTooLong);
    }
    // One line is the request line; a full buffer has no room for the line end that is missing.
    let lines = memchr::memchr_iter(b'\n', buf).count();
    if buf.len() >= HEAD_BYTES_MAX || lines > HEAD_FIELDS_MAX + 1 {
        return Err(Refusal::HeadTooLarge);
    }
    Ok(found)
}

/// Whether the target is over its limit already, in a head that may not be complete.
fn is_target_too_long(buf: &[u8]) -> bool {
    if buf.len() <= TARGET_BYTES_MAX {
        return false;
    }
    let Some(space) = memchr::memchr(b' ', buf) else { return false };
    let target = &buf[space + 1..];
    memchr::memchr3(b' ', b'\r', b'\n', target).unwrap_or(target.len()) > TARGET_BYTES_MAX
}

#[cold]
fn incomplete(buf: &[u8], scanned: &mut usize) -> Result<Option<Request>, Refusal> {
    match search(buf, scanned)? {
        Found::Nothing | Found::RequestLine => Ok(None),
        // The end lies behind the bytes that a head may have.
        Found::End if is_target_too_long(buf) => Err(Refusal::TargetTooLong),
        Found::End => Err(Refusal::HeadTooLarge),
    }
}

/// Finds the right answer to what httparse refused.
#[cold]
fn malformed(buf: &[u8], scanned: &mut usize, error: httparse::Error) -> Result<Option<Request>, Refusal> {
    if is_target_too_long(buf) {
        return Err(Refusal::TargetTooLong);
    }
    Err(match error {
        httparse::Error::Version => return other_version(buf, scanned),
        httparse::Error::TooManyHeaders => Refusal::HeadTooLarge,
        httparse::Error::HeaderName => Refusal::BadRequest("a field name is malformed"),
        httparse::Error::HeaderValue => Refusal::BadRequest("a field value is malformed"),
        httparse::Error::NewLine => BARE_LF,
        httparse::Error::Token | httparse::Error::Status => {
            Refusal::BadRequest("the request line is malformed")
        }
    })
}

/// A version that is not 1.0 or 1.1: malformed, unsupported, incomplete, or a later 1.x, which is
/// parsed again as what it is served as.
fn other_version(buf: &[u8], scanned: &mut usize) -> Result<Option<Request>, Refusal> {
    const MALFORMED: Refusal = Refusal::BadRequest("the version is malformed");
    let window = &buf[..buf.len().min(HEAD_BYTES_MAX)];
    let version_at = memchr::memchr_iter(b' ', window).nth(1).ok_or(MALFORMED)? + 1;
    let version = &window[version_at..];
    let fits = version.iter().zip(b"HTTP/n.n").all(|(&byte, &form)| match form {
        b'n' => byte.is_ascii_digit(),
        _ => byte == form,
    });
    match version {
        _ if !fits => Err(MALFORMED),
        [_, _, _, _, _, b'1', b'.', _, ..] => {
            let mut served_as = window.to_vec();
            served_as[version_at + 7] = b'1';
            parse_head(&served_as, scanned)
        }
        [_, _, _, _, _, _, _, _, ..] => Err(Refusal::VersionUnsupported),
        _ => incomplete(buf, scanned),
    }
}

#[cfg(test)]
mod tests;
