//! Recognises a head that differs from an earlier one in its target only.
//!
//! A client sends the same fields with every request: host, agent, token. Their bytes and what was
//! found in them are kept; when the same bytes come again behind a plain request line, one comparison
//! stands for parsing and checking them all. They may hold a token, so the comparison takes the same
//! time wherever they differ.
//!
//! What is recognised is exactly what [`parse_head`](super::parse_head) would have answered
//! (`tests::what_is_recognised_is_what_would_have_been_parsed`); everything else is left to it.

use std::fmt;

use zeroize::Zeroize;

use super::request::{Method, Request, Span, Version};
use crate::constant_time;
use crate::limits::{HEAD_BYTES_MAX, TARGET_BYTES_MAX};
use crate::raw::scan::{self, Plain};

/// Longest fields that are kept, in bytes. A browser's are about that long.
const FIELDS_BYTES_MAX: usize = 512;

/// Where the target of a POST begins. That of a GET or PUT begins a byte earlier.
const TARGET_AT_MAX: usize = 5;

const LINE_END: &[u8] = b" HTTP/1.1\r\n";

const _: () = assert!(TARGET_AT_MAX + TARGET_BYTES_MAX + LINE_END.len() + FIELDS_BYTES_MAX <= HEAD_BYTES_MAX);

/// The fields of an earlier head. Wiped when it is dropped, since they may hold a token.
pub struct Familiar {
    length: u16,
    /// As they were parsed, their places counted from the first field's first byte.
    request: Request,
    bytes: [u8; FIELDS_BYTES_MAX],
}

impl Default for Familiar {
    /// Knows nothing.
    fn default() -> Familiar {
        Familiar { length: 0, request: Request::UNREADABLE, bytes: [0; FIELDS_BYTES_MAX] }
    }
}

impl Drop for Familiar {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl fmt::Debug for Familiar {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Familiar").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Familiar {
    /// Parses the head at the start of `buf` if it is a GET, PUT or POST in HTTP/1.1 of a plain path,
    /// perhaps with a plain query, with the fields that are known.
    #[inline]
    pub fn parse(&self, buf: &[u8]) -> Option<Request> {
        if self.length == 0 {
            return None;
        }
        let target_at = target_at(self.request.method, buf)?;
        let target = &buf[target_at..];
        let Plain { length: path_len, escaped } = scan::plain(target)?;
        let mut target_len = path_len;
        let mut query = None;
        if target.get(path_len) == Some(&b'?') {
            let query_len = scan::plain(&target[path_len + 1..])?.length;
            target_len += 1 + query_len;
            if target_len <= TARGET_BYTES_MAX {
                query = Some(Span::new(target_at + path_len + 1, query_len));
            }
        }
        let fields_at = target_at + target_len + LINE_END.len();
        let length = usize::from(self.length);
        let known = target.first() == Some(&b'/')
            && target_len <= TARGET_BYTES_MAX
            && target[target_len..].starts_with(LINE_END)
            && constant_time::equal(&self.bytes[..length], buf.get(fields_at..fields_at + length)?);
        if !known {
            return None;
        }
        let mut request = self.request;
        request.move_fields(fields_at as u16);
        request.path = Span::new(target_at, path_len);
        request.query = query;
        request.escaped = escaped;
        Some(request)
    }

    /// Keeps the fields of a head that was parsed, if it is one that can be recognised again. False
    /// if not; then the ones before stay.
    pub fn keep(&mut self, request: &Request, head: &[u8]) -> bool {
        let Some(target_at) = target_at(request.method, head) else { return false };
        let query_len = request.query.map_or(0, |query| 1 + query.len());
        let fields_at = target_at + request.path.len() + query_len + LINE_END.len();
        let fields = head.get(fields_at..usize::from(request.head_len)).unwrap_or_default();
        let plain = request.version == Version::Http11
            && request.path.range().start == target_at
            && head.get(..fields_at).is_some_and(|line| line.ends_with(LINE_END));
        if !plain || !(1..=FIELDS_BYTES_MAX).contains(&fields.len()) {
            return false;
        }
        self.bytes[..fields.len()].copy_from_slice(fields);
        self.length = fields.len() as u16;
        self.request = request.moved_back(fields_at as u16);
        true
    }
}

/// Where the target begins of a head with this method, if it is one that is recognised.
#[inline]
fn target_at(method: Method, head: &[u8]) -> Option<usize> {
    match method {
        Method::Get if head.starts_with(b"GET ") => Some(4),
        Method::Put if head.starts_with(b"PUT ") => Some(4),
        Method::Post if head.starts_with(b"POST ") => Some(5),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Familiar;
    use crate::http::parse_head;

    const FIELDS: &str =
        "Host: localhost\r\nAuthorization: Bearer a.b.c\r\nIf-Match: \"x\"\r\nif-match: y\r\n\r\n";

    fn familiar_with(head: &[u8]) -> Familiar {
        let mut familiar = Familiar::default();
        if let Ok(Some(request)) = parse_head(head, &mut 0) {
            familiar.keep(&request, head);
        }
        familiar
    }

    #[test]
    fn the_same_fields_are_recognised_behind_another_path() {
        let familiar = familiar_with(format!("GET /api/kv/a HTTP/1.1\r\n{FIELDS}").as_bytes());
        for path in ["/", "/api/kv/b", "/api/kv/a%20longer%20one", "//", "/?", "/a?b=%20&c", "/a%20?b"] {
            let head = format!("GET {path} HTTP/1.1\r\n{FIELDS}GET / HT");
            let parsed = parse_head(head.as_bytes(), &mut 0).unwrap();
            assert!(parsed.is_some());
            assert_eq!(familiar.parse(head.as_bytes()), parsed, "{path}");
        }
        for line in [
            "PUT / HTTP/1.1",
            "GET /?q?r HTTP/1.1",
            "POST / HTTP/1.1",
            "GET / HTTP/1.0",
            "GET x HTTP/1.1",
            "GET  / HTTP/1.1",
            "GET /#",
        ] {
            assert_eq!(familiar.parse(format!("{line}\r\n{FIELDS}").as_bytes()), None, "{line}");
        }
        assert_eq!(Familiar::default().parse(b"GET / HTTP/1.1\r\n\r\n"), None);
    }

    #[test]
    fn a_head_that_is_not_all_here_or_differs_in_a_byte_is_not_recognised() {
        let head = format!("PUT /api/kv/a HTTP/1.1\r\nContent-Length: 3\r\n{FIELDS}").into_bytes();
        let familiar = familiar_with(&head);
        assert!(familiar.parse(&head).is_some());
        for end in 0..head.len() {
            assert_eq!(familiar.parse(&head[..end]), None, "cut at {end}");
        }
        for at in 0..head.len() {
            let mut other = head.clone();
            other[at] ^= 1;
            let parsed = parse_head(&other, &mut 0).ok().flatten();
            assert!(familiar.parse(&other).is_none_or(|request| Some(request) == parsed), "byte {at}");
        }
    }

    #[test]
    fn nothing_shows_the_fields() {
        let familiar = familiar_with(format!("GET / HTTP/1.1\r\n{FIELDS}").as_bytes());
        let shown = format!("{familiar:?}");
        let bytes = format!("{:?}", b"Bearer");
        assert!(!shown.contains("Bearer") && !shown.contains(bytes.trim_matches(['[', ']'])), "{shown}");
    }

    /// Request lines and fields of all kinds, so that many heads are well-formed.
    fn heads() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            "(GET|PUT|POST) /[ -~]{0,12} HTTP/1\\.1",
            "(GET|PUT|POST) /[a-z]{0,3}[?]?[!-~]{0,9} HTTP/1\\.1",
            "(GET|PUT|POST|HEAD|DELETE) [ -~]{0,4}/[a-z?#%]{0,6} HTTP/1\\.[01]",
            Just("\r\nGET /a HTTP/1.1".to_owned()),
        ];
        let field = prop_oneof![
            Just("Host: h"),
            Just("Content-Length: 5"),
            Just("Transfer-Encoding: chunked"),
            Just("Connection: close"),
            Just("Expect: 100-continue"),
            Just("Range: bytes=0-1"),
            Just("X: y"),
        ];
        (line, prop::collection::vec(field, 0..5)).prop_map(|(line, fields)| {
            let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
            format!("{line}\r\n{fields}\r\n").into_bytes()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn what_is_recognised_is_what_would_have_been_parsed(known in heads(), line in heads(), swap: bool) {
            let familiar = familiar_with(&known);
            let line_end = |head: &[u8]| memchr::memmem::find(&head[1..], b"\r\n").unwrap_or(0) + 1;
            let mut head = line[..line_end(&line)].to_vec();
            head.extend_from_slice(if swap { &line[line_end(&line)..] } else { &known[line_end(&known)..] });
            if let Some(request) = familiar.parse(&head) {
                prop_assert_eq!(parse_head(&head, &mut 0), Ok(Some(request)));
            }
        }
    }
}
