//! What a parsed head says: a small value without borrows, whose parts are offsets into the bytes it
//! was parsed from.
//!
//! Owns the vocabulary; `head` fills it in. Whoever asks for a part passes the head's bytes again,
//! from the same first byte.

use super::Refusal;
use super::field::{Field, Known, known, trim};
use crate::limits::HEAD_BYTES_MAX;

/// Where bytes are, counted from the first byte of their request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    at: u16,
    len: u16,
}

const _: () = assert!(HEAD_BYTES_MAX < u16::MAX as usize / 2);

impl Span {
    /// No bytes.
    pub const EMPTY: Span = Span { at: 0, len: 0 };

    /// A range of bytes that end below 64 KiB.
    pub fn within(range: std::ops::Range<usize>) -> Span {
        debug_assert!(range.end <= usize::from(u16::MAX));
        Span { at: range.start as u16, len: range.len() as u16 }
    }

    /// Both within a head, so that 16 bits hold them.
    pub(super) fn new(at: usize, len: usize) -> Span {
        debug_assert!(at + len <= HEAD_BYTES_MAX);
        Span { at: at as u16, len: len as u16 }
    }

    /// `len` bytes of these, from the one behind the first `skip`.
    pub fn part(self, skip: usize, len: usize) -> Span {
        debug_assert!(skip + len <= self.len());
        Span { at: self.at + skip as u16, len: len as u16 }
    }

    /// The bytes, of the head that the span was made from.
    pub fn of(self, head: &[u8]) -> &[u8] {
        &head[self.range()]
    }

    /// The same as a range.
    pub fn range(self) -> std::ops::Range<usize> {
        let at = usize::from(self.at);
        at..at + usize::from(self.len)
    }

    /// How many bytes.
    pub fn len(self) -> usize {
        usize::from(self.len)
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// A method that some route of the node may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Put,
    Post,
    Patch,
    Delete,
    Options,
}

impl Method {
    /// Methods are case-sensitive (RFC 9110, section 9.1).
    pub(super) fn parse(name: &[u8]) -> Result<Method, Refusal> {
        Ok(match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"PUT" => Method::Put,
            b"POST" => Method::Post,
            b"PATCH" => Method::Patch,
            b"DELETE" => Method::Delete,
            b"OPTIONS" => Method::Options,
            _ => return Err(Refusal::MethodUnknown),
        })
    }

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Put => "PUT",
            Method::Post => "POST",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
        }
    }
}

/// The version a request is served by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Closes after the answer unless asked not to. Knows no chunks.
    Http10,
    /// Stays open unless asked not to.
    Http11,
}

/// How a request's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body, and nothing said about one.
    None,
    /// So many bytes, perhaps 0.
    Sized(u64),
    /// By itself.
    Chunked,
}

/// A parsed head. Small and without borrows: what it found is in the bytes it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub method: Method,
    /// How to talk about it.
    pub version: Version,
    /// Whether the client wants the connection to go on.
    pub keep_alive: bool,
    /// Whether it waits for `100 Continue` before it sends its body.
    pub expect_continue: bool,
    /// Whether the path holds a `%`, and so must be decoded.
    pub escaped: bool,
    /// Length of the head: the body, or the next request, begins here.
    pub head_len: u16,
    /// The path, not decoded. `*` for `OPTIONS *`, `/` for an absolute target without a path.
    pub path: Span,
    /// What follows the first `?`, not decoded.
    pub query: Option<Span>,
    /// How the body is delimited.
    pub framing: Framing,
    /// [`Field::bit`] of every field that is there.
    present: u32,
    /// Of these, the list fields that have more than one line.
    repeated: u32,
    /// The first line of each field.
    fields: [Span; Field::COUNT],
}

const _: () = assert!(size_of::<Request>() <= 128);

impl Request {
    /// Stands for one whose head could not be read.
    pub const UNREADABLE: Request = Request::new(Method::Get, Version::Http11, 0);

    /// A request without fields and body, for the parser to fill in.
    pub(super) const fn new(method: Method, version: Version, head_len: usize) -> Request {
        Request {
            method,
            version,
            keep_alive: matches!(version, Version::Http11),
            expect_continue: false,
            escaped: false,
            head_len: head_len as u16,
            path: Span::EMPTY,
            query: None,
            framing: Framing::None,
            present: 0,
            repeated: 0,
            fields: [Span::EMPTY; Field::COUNT],
        }
    }

    /// Keeps a line of a field.
    pub(super) fn keep(&mut self, field: Field, value: Span) -> Result<(), Refusal> {
        if !self.has(field) {
            self.present |= field.bit();
            self.fields[field as usize] = value;
        } else if field.is_list() {
            self.repeated |= field.bit();
        } else {
            return Err(Refusal::BadRequest("a field that may stand once stands twice"));
        }
        Ok(())
    }

    /// The same request with so many bytes before it.
    pub(super) fn moved(mut self, by: u16) -> Request {
        self.path.at += by;
        if let Some(query) = &mut self.query {
            query.at += by;
        }
        self.move_fields(by);
        self
    }

    /// Makes room for so many bytes before the fields, as where the request line ends.
    #[inline]
    pub(super) fn move_fields(&mut self, by: u16) {
        self.head_len += by;
        self.each_field(|field| field.at += by);
    }

    /// The fields alone, without so many bytes that stood before them.
    pub(super) fn moved_back(mut self, by: u16) -> Request {
        self.head_len -= by;
        (self.path, self.query) = (Span::EMPTY, None);
        self.each_field(|field| field.at -= by);
        self
    }

    fn each_field(&mut self, mut change: impl FnMut(&mut Span)) {
        let mut present = self.present;
        while present != 0 {
            change(&mut self.fields[present.trailing_zeros() as usize]);
            present &= present - 1;
        }
    }

    /// The value of a field's first line, trimmed. For a list field see [`Request::field_lines`].
    pub fn field<'h>(&self, head: &'h [u8], field: Field) -> Option<&'h [u8]> {
        self.has(field).then(|| self.fields[field as usize].of(head))
    }

    /// Whether a field is there.
    pub fn has(&self, field: Field) -> bool {
        self.present & field.bit() != 0
    }

    /// The values of all lines of a field, trimmed, in order.
    pub fn field_lines<'h>(&self, head: &'h [u8], field: Field) -> impl Iterator<Item = &'h [u8]> + use<'h> {
        let first = self.field(head, field);
        let repeated = self.repeated & field.bit() != 0;
        let end = self.fields[field as usize].range().end;
        let behind = if repeated { &head[end..usize::from(self.head_len)] } else { b"" };
        let others = behind.split(|&byte| byte == b'\n').skip(1).filter_map(move |line| {
            let colon = memchr::memchr(b':', line)?;
            let same = known(&line[..colon]) == Some(Known::Kept(field));
            same.then(|| trim(line[colon + 1..].trim_ascii_end()))
        });
        first.into_iter().chain(others)
    }

    /// Whether nothing was asked for but the bare operation: no condition, range, preference,
    /// time-to-live, lock token, coding or origin. A credential, a content type and what the client
    /// accepts do not count; these are looked at where they matter.
    pub fn is_plain(&self) -> bool {
        const PLAIN: u32 = Field::Authorization.bit()
            | Field::Token.bit()
            | Field::ContentType.bit()
            | Field::Accept.bit()
            | Field::AcceptEncoding.bit();
        self.present & !PLAIN == 0
    }
}
