//! Writes the head of an answer, piece by piece, into the connection's output.
//!
//! Owns what every answer starts with, kept ready for each status and renewed once a second. Never
//! decides what is answered. Every function appends whole lines, so that what is in the output is
//! well-formed between any two calls; [`end`] closes the head.

use super::date::{DATE_BYTES, http_date};
use super::request::Version;
use super::status::Status;

/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

const SERVER: &str = concat!("\r\nServer: lucid/", env!("CARGO_PKG_VERSION"), "\r\nDate: ");

/// Room for the longest status line with `Server` and `Date`.
const PREAMBLE_BYTES_MAX: usize = 128;

/// What every answer starts with: the status line, `Server` and `Date`, one text for each status.
/// There is one for each reactor.
#[derive(Debug)]
pub struct Preamble {
    wall_seconds: u64,
    texts: Box<[Text; Status::COUNT]>,
}

#[derive(Clone, Copy, Debug)]
struct Text {
    len: u8,
    bytes: [u8; PREAMBLE_BYTES_MAX],
}

const _: () = assert!(PREAMBLE_BYTES_MAX <= u8::MAX as usize);

impl Preamble {
    /// Texts that bear the date of the epoch until the first [`Preamble::tick`].
    pub fn new() -> Preamble {
        let mut texts = Box::new([Text { len: 0, bytes: [0; PREAMBLE_BYTES_MAX] }; Status::COUNT]);
        for status in Status::all() {
            let line = format!("HTTP/1.1 {} {}{SERVER}", status.code(), status.reason());
            let text = &mut texts[status as usize];
            let date_at = line.len();
            text.len = (date_at + DATE_BYTES + 2) as u8;
            text.bytes[..date_at].copy_from_slice(line.as_bytes());
            text.bytes[date_at..date_at + DATE_BYTES].copy_from_slice(&http_date(0));
            text.bytes[date_at + DATE_BYTES..text.len as usize].copy_from_slice(b"\r\n");
        }
        Preamble { wall_seconds: 0, texts }
    }

    /// Renews the date, and says whether it did. Called every turn; costs a comparison while the second
    /// is the same.
    pub fn tick(&mut self, wall_seconds: u64) -> bool {
        let passed = self.wall_seconds != wall_seconds;
        if passed {
            self.renew(wall_seconds);
        }
        passed
    }

    #[cold]
    fn renew(&mut self, wall_seconds: u64) {
        self.wall_seconds = wall_seconds;
        let date = http_date(wall_seconds);
        for text in self.texts.iter_mut() {
            let end = text.len as usize - 2;
            text.bytes[end - DATE_BYTES..end].copy_from_slice(&date);
        }
    }

    /// Begins an answer: status line, `Server` and `Date`, in one copy.
    pub fn begin(&self, out: &mut Vec<u8>, status: Status) {
        let text = &self.texts[status as usize];
        out.extend_from_slice(&text.bytes[..text.len as usize]);
    }
}

/// An answer that is the same each time but for a few places: all of it in one copy, with the places
/// to be written over.
#[derive(Debug)]
pub struct Prepared {
    status: Status,
    /// What follows the preamble.
    behind: Vec<u8>,
    text: Vec<u8>,
}

impl Prepared {
    /// An answer of this status that goes on so. To be renewed before it is used.
    pub fn new(status: Status, behind: Vec<u8>) -> Prepared {
        Prepared { status, behind, text: Vec::new() }
    }

    /// Takes over the preamble's date.
    pub fn renew(&mut self, preamble: &Preamble) {
        self.text.clear();
        preamble.begin(&mut self.text, self.status);
        self.text.extend_from_slice(&self.behind);
    }

    /// Appends it, and gives back what follows the preamble.
    #[inline]
    pub fn begin<'o>(&self, out: &'o mut Vec<u8>) -> &'o mut [u8] {
        out.extend_from_slice(&self.text);
        let at = out.len() - self.behind.len();
        &mut out[at..]
    }
}

impl Default for Preamble {
    fn default() -> Preamble {
        Preamble::new()
    }
}

/// Appends a field. The name comes with its colon and space: `"ETag: "`.
///
/// Bytes that would end the line are written as spaces. No value that holds one gets here by way of
/// a request's fields; this is what stands between a stored content type and a split answer should
/// it come some other way.
pub fn field(out: &mut Vec<u8>, name_colon_space: &'static str, value: &[u8]) {
    debug_assert!(name_colon_space.ends_with(": "));
    out.extend_from_slice(name_colon_space.as_bytes());
    let value_at = out.len();
    out.extend_from_slice(value);
    if memchr::memchr3(b'\r', b'\n', 0, value).is_some() {
        blank(&mut out[value_at..]);
    }
    out.extend_from_slice(b"\r\n");
}

#[cold]
fn blank(value: &mut [u8]) {
    for byte in value.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        *byte = b' ';
    }
}

/// Appends a field whose value is a number.
pub fn field_decimal(out: &mut Vec<u8>, name_colon_space: &'static str, number: u64) {
    out.extend_from_slice(name_colon_space.as_bytes());
    decimal(out, number);
    out.extend_from_slice(b"\r\n");
}

/// Appends `Content-Length`.
pub fn content_length(out: &mut Vec<u8>, length: u64) {
    field_decimal(out, "Content-Length: ", length);
}

/// Appends `Connection` where silence would say something else: HTTP/1.1 stays open unless told,
/// HTTP/1.0 closes unless told.
pub fn connection(out: &mut Vec<u8>, version: Version, keep_alive: bool) {
    match (version, keep_alive) {
        (Version::Http11, true) => {}
        (Version::Http10, true) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (_, false) => out.extend_from_slice(b"Connection: close\r\n"),
    }
}

/// Ends the head.
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Appends the decimal digits of a number, the end of its line and of the head.
#[inline(always)] // Each GET has one, and few others call it.
pub fn decimal_and_end(out: &mut Vec<u8>, mut number: u64) {
    const END: &[u8] = b"\r\n\r\n";
    const BYTES_MAX: usize = 20 + END.len();
    let mut bytes = [0; BYTES_MAX];
    let mut at = BYTES_MAX - END.len();
    bytes[at..].copy_from_slice(END);
    loop {
        at -= 1;
        bytes[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&bytes[at..]);
}

/// Appends the decimal digits of a number.
pub fn decimal(out: &mut Vec<u8>, mut number: u64) {
    const DIGITS_MAX: usize = 20;
    let mut digits = [0; DIGITS_MAX];
    let mut at = DIGITS_MAX;
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::{CONTINUE, Preamble, connection, content_length, decimal, end, field};
    use crate::http::{Status, Version};

    fn begun(preamble: &Preamble, status: Status) -> String {
        let mut out = Vec::new();
        preamble.begin(&mut out, status);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_answer_begins_with_status_server_and_date() {
        let mut preamble = Preamble::new();
        preamble.tick(784_111_777);
        assert_eq!(
            begun(&preamble, Status::Ok),
            format!(
                "HTTP/1.1 200 OK\r\nServer: lucid/{}\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
                env!("CARGO_PKG_VERSION")
            )
        );
    }

    #[test]
    fn every_status_follows_the_tick() {
        let mut preamble = Preamble::new();
        for (seconds, time) in [(1, "00:00:01"), (1, "00:00:01"), (2, "00:00:02"), (1, "00:00:01")] {
            preamble.tick(seconds);
            for status in Status::all() {
                let text = begun(&preamble, status);
                assert!(text.starts_with(&format!("HTTP/1.1 {} {}\r\n", status.code(), status.reason())));
                assert!(text.ends_with(&format!("\r\nDate: Thu, 01 Jan 1970 {time} GMT\r\n")), "{text}");
            }
        }
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 1, 9, 10, 99, 100, 7_340_032, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            decimal(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }

    #[test]
    fn a_value_cannot_end_its_line() {
        let mut out = Vec::new();
        field(&mut out, "Content-Type: ", b"a\r\nSet-Cookie: x\0\n");
        assert_eq!(out, b"Content-Type: a  Set-Cookie: x  \r\n");
    }

    #[test]
    fn a_head_is_put_together_line_by_line() {
        let mut out = CONTINUE.to_vec();
        content_length(&mut out, 42);
        connection(&mut out, Version::Http11, true);
        connection(&mut out, Version::Http11, false);
        connection(&mut out, Version::Http10, false);
        connection(&mut out, Version::Http10, true);
        end(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 100 Continue\r\n\r\nContent-Length: 42\r\nConnection: close\r\nConnection: close\r\n\
             Connection: keep-alive\r\n\r\n"
        );
    }
}
