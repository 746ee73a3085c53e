//! The pages of the node itself: is it there, does it take requests, and where a person who opens
//! it in a browser finds more.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::http::{Method, Request, Status, response};

use super::routes::Methods;
use super::{Api, openapi};

/// What the whole node is doing; shared by its reactors.
#[derive(Debug, Default)]
pub struct NodeState {
    phase: AtomicU8,
}

/// The life of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not every reactor runs yet.
    Starting = 0,
    /// Every reactor takes requests.
    Serving = 1,
    /// It was told to stop: what is in flight is finished, nothing new should come.
    Draining = 2,
}

impl NodeState {
    /// Moves on.
    pub fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }
}

/// An answer that needs no store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// 200, empty: the process answers.
    Health,
    /// 200: the loop of this reactor turns.
    Live,
    /// 200 while serving, else 503.
    Ready,
    /// Robots have nothing to find here.
    Robots,
    /// A welcome for people.
    Welcome,
    /// The route table for programs.
    OpenApi,
    /// `OPTIONS`, preflights included.
    Options(Methods),
}

const TEXT: &[u8] = b"text/plain; charset=utf-8";

const ROBOTS: &[u8] = b"User-agent: *\nDisallow: /api\n";

/// Stands alone: no script, no style or picture from elsewhere.
const WELCOME: &[u8] = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Lucid</title>\n",
    "<meta name=\"viewport\" content=\"width=device-width\">\n",
    "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:4em auto;padding:0 1em}",
    "pre{background:#f4f4f4;padding:1em;overflow:auto}</style>\n</head>\n<body>\n<h1>Lucid</h1>\n",
    "<p>This is a Lucid node, version ",
    env!("CARGO_PKG_VERSION"),
    ": an in-memory key-value store spoken to over HTTP.</p>\n<pre>",
    "curl -X PUT    -H \"Authorization: Bearer $LUCID_TOKEN\" -d 'hello' $URL/api/kv/greeting\n",
    "curl           -H \"Authorization: Bearer $LUCID_TOKEN\" $URL/api/kv/greeting\n",
    "curl -X DELETE -H \"Authorization: Bearer $LUCID_TOKEN\" $URL/api/kv/greeting</pre>\n",
    "<p>It is <a href=\"/livez\">alive</a>; is it <a href=\"/readyz\">ready</a>?</p>\n</body>\n</html>\n"
)
.as_bytes();

const WELCOME_FIELDS: &[u8] = b"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\nX-Content-Type-Options: nosniff\r\n\
    Referrer-Policy: no-referrer\r\n";

impl Api {
    /// Answers a page of the node, or `OPTIONS`.
    pub fn page(&mut self, request: &Request, head: &[u8], page: Page, close: bool, out: &mut Vec<u8>) {
        let (status, content_type, body): (Status, &[u8], &[u8]) = match page {
            Page::Health => (Status::Ok, b"", b""),
            Page::Live => (Status::Ok, TEXT, b"alive\n"),
            Page::Ready => match self.state.phase() {
                Phase::Starting => (Status::ServiceUnavailable, TEXT, b"starting\n"),
                Phase::Serving => (Status::Ok, TEXT, b"ready\n"),
                Phase::Draining => (Status::ServiceUnavailable, TEXT, b"draining\n"),
            },
            Page::Robots => (Status::Ok, TEXT, ROBOTS),
            Page::Welcome => (Status::Ok, b"text/html; charset=utf-8", WELCOME),
            Page::OpenApi => (Status::Ok, b"application/yaml", openapi::document().as_bytes()),
            Page::Options(_) => (Status::NoContent, b"", b""),
        };
        self.preamble.begin(out, status);
        match page {
            Page::Welcome => out.extend_from_slice(WELCOME_FIELDS),
            Page::Live | Page::Ready => out.extend_from_slice(b"Cache-Control: no-store\r\n"),
            Page::Health if request.method == Method::Options => self.allow(request, head, Methods::ALL, out),
            Page::Options(methods) => self.allow(request, head, methods, out),
            Page::Health | Page::Robots | Page::OpenApi => {}
        }
        if !content_type.is_empty() {
            response::field(out, "Content-Type: ", content_type);
        }
        if status != Status::NoContent {
            response::content_length(out, body.len() as u64);
        }
        self.end(Some((request, head)), close, out);
        if request.method != Method::Head {
            out.extend_from_slice(body);
        }
    }

    /// Appends `Allow`, and what a preflight asks for.
    fn allow(&self, request: &Request, head: &[u8], methods: Methods, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Allow: ");
        let from = out.len();
        methods.write(out);
        let allow = out[from..].to_vec();
        out.extend_from_slice(b"\r\n");
        self.origins.write_preflight(request, head, &allow, out);
    }
}
