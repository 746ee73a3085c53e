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

/// So many bytes tell the methods apart that are recognised: GET, PUT and POST.
const METHOD_BYTES: usize = 4;

/// Where the target of a POST begins; that of the others a byte before.
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
    /// Parses the head at the start of `buf` if it is one of the method that is known, in HTTP/1.1, of a
    /// plain path and perhaps a plain query, with the fields that are known.
    #[inline]
    pub fn parse(&self, buf: &[u8]) -> Option<Request> {
        let (start, target_at) = self.request_line_start();
        if self.length == 0 || buf.get(..METHOD_BYTES)? != start {
            return None;
        }
        if target_at == TARGET_AT_MAX && buf.get(target_at - 1) != Some(&b' ') {
            return None;
        }
        let target = &buf[target_at..];
        let Plain { length: path_len, escaped } = scan::plain(target)?;
        let mut target_len = path_len;
        if target[path_len] == b'?' {
            target_len += 1 + query_len(&target[path_len + 1..])?;
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
        if target_len > path_len {
            request.query = Some(Span::new(target_at + path_len + 1, target_len - path_len - 1));
        }
        request.escaped = escaped;
        Some(request)
    }

    /// The bytes that tell the method, and where the target begins.
    #[inline]
    fn request_line_start(&self) -> (&'static [u8; METHOD_BYTES], usize) {
        match self.request.method {
            Method::Put => (b"PUT ", 4),
            Method::Post => (b"POST", TARGET_AT_MAX),
            _ => (b"GET ", 4),
        }
    }

    /// Keeps the fields of a head that was parsed, if it is one that can be recognised again. False
    /// if not; then the ones before stay.
    pub fn keep(&mut self, request: &Request, head: &[u8]) -> bool {
        let target_at = if request.method == Method::Post { TARGET_AT_MAX } else { 4 };
        let query_len = request.query.map_or(0, |query| 1 + query.len());
        let fields_at = target_at + request.path.len() + query_len + LINE_END.len();
        let fields = head.get(fields_at..usize::from(request.head_len)).unwrap_or_default();
        let plain = matches!(request.method, Method::Get | Method::Put | Method::Post)
            && request.version == Version::Http11
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

/// How long the query at the start of these bytes is. `None` for one that is not plain or not all here.
/// Apart, so that the path of a key, which has none, is not slower for it.
#[inline(never)]
fn query_len(bytes: &[u8]) -> Option<usize> {
    let Plain { length, .. } = scan::plain(bytes)?;
    Some(length)
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
        for path in
            ["/", "/api/kv/b", "/api/kv/a%20longer%20one", "//", "/?q", "/?", "/item/read?key=a%20b+&c"]
        {
            let head = format!("GET {path} HTTP/1.1\r\n{FIELDS}GET / HT");
            let parsed = parse_head(head.as_bytes(), &mut 0).unwrap();
            assert!(parsed.is_some());
            assert_eq!(familiar.parse(head.as_bytes()), parsed, "{path}");
        }
        for line in [
            "PUT / HTTP/1.1",
            "GET /?q?r HTTP/1.1",
            "GET /?q#r HTTP/1.1",
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
    fn the_fields_of_a_post_are_recognised_behind_a_post_alone() {
        let fields = format!("Content-Length: 3\r\n{FIELDS}");
        let familiar = familiar_with(format!("POST /item/write HTTP/1.1\r\n{fields}").as_bytes());
        for line in ["POST / HTTP/1.1", "POST /list/add?x HTTP/1.1"] {
            let head = format!("{line}\r\n{fields}");
            let parsed = parse_head(head.as_bytes(), &mut 0).unwrap();
            assert!(parsed.is_some());
            assert_eq!(familiar.parse(head.as_bytes()), parsed, "{line}");
        }
        for line in
            ["GET / HTTP/1.1", "PUT / HTTP/1.1", "POST  / HTTP/1.1", "POSTS / HTTP/1.1", "POST\t/ HTTP/1.1"]
        {
            assert_eq!(familiar.parse(format!("{line}\r\n{fields}").as_bytes()), None, "{line}");
        }
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
            "(GET|PUT|POST) /[a-z%]{0,4}\\?[a-z?#%&=]{0,6} HTTP/1\\.1",
            "(GET|PUT|HEAD|DELETE|POST) [ -~]{0,4}/[a-z?#%]{0,6} HTTP/1\\.[01]",
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
