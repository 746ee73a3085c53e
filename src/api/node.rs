//! The pages of the node itself: is it there, does it take requests, and where a person who opens
//! it in a browser finds more.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use crate::http::{Method, Request, Status, response};
use crate::shard::Health;

use super::routes::Methods;
use super::{Api, openapi};

/// What the whole node is doing; shared by its reactors.
#[derive(Debug, Default)]
pub struct NodeState {
    phase: AtomicU8,
    /// Reactors that have yet to bring back what was kept.
    recovering: AtomicUsize,
    /// Bytes of what was kept, as far as they are known, and how many of them were checked.
    kept_bytes: AtomicU64,
    checked_bytes: AtomicU64,
    /// Bytes that reactors have read, and how many reactors read all there are.
    recovered_bytes: AtomicU64,
    readers: AtomicUsize,
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
    /// Every reactor runs, and what was kept is not all back.
    Recovering = 3,
    /// The time for what was in flight is over: every connection ends.
    Closing = 4,
    /// Every reactor runs, and what was kept is read for the first time.
    Checking = 5,
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
            3 => Phase::Recovering,
            4 => Phase::Closing,
            5 => Phase::Checking,
            _ => Phase::Draining,
        }
    }

    /// Whether reactors have yet to bring back what was kept.
    pub fn is_recovering(&self) -> bool {
        self.recovering.load(Ordering::Acquire) > 0
    }

    /// So many reactors wait for what was kept, of which it is to be seen whether it is good.
    pub fn check(&self, reactors: usize) {
        self.recovering.store(reactors, Ordering::Relaxed);
        self.set(Phase::Checking);
    }

    /// How many bytes of what was kept have been seen to be good, of how many.
    pub fn checked(&self, (bytes, of): (u64, u64)) {
        self.checked_bytes.store(bytes, Ordering::Relaxed);
        self.kept_bytes.store(of, Ordering::Relaxed);
    }

    /// So many reactors have to read so many bytes, each of them all, before the node serves.
    pub fn recover(&self, reactors: usize, bytes: u64) {
        self.recovering.store(reactors, Ordering::Relaxed);
        self.readers.store(reactors, Ordering::Relaxed);
        self.kept_bytes.store(bytes, Ordering::Relaxed);
        self.set(Phase::Recovering);
    }

    /// A reactor has read so many more of them.
    pub fn add_recovered(&self, bytes: u64) {
        self.recovered_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How many of the bytes that were kept are checked, or else back, of how many: in either phase it begins
    /// with none.
    pub fn progress(&self) -> (u64, u64) {
        let of = self.kept_bytes.load(Ordering::Relaxed);
        let done = match self.phase() {
            Phase::Checking => self.checked_bytes.load(Ordering::Relaxed),
            _ => {
                let readers = self.readers.load(Ordering::Relaxed).max(1) as u64;
                self.recovered_bytes.load(Ordering::Relaxed) / readers
            }
        };
        (done.min(of), of)
    }

    /// A reactor has everything back. True for the last one: the node serves then, unless it was told to
    /// stop meanwhile.
    pub fn has_recovered(&self) -> bool {
        let is_last = self.recovering.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last {
            let (from, to) = (Phase::Recovering as u8, Phase::Serving as u8);
            let _ = self.phase.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
        }
        is_last
    }

    /// What `/readyz` says, and whether that is yes.
    fn readiness(&self, journal: Health) -> (Status, Cow<'static, str>) {
        let not = |why: Cow<'static, str>| (Status::ServiceUnavailable, why);
        match (self.phase(), journal) {
            (Phase::Starting, _) => not("starting\n".into()),
            (phase @ (Phase::Checking | Phase::Recovering), _) => {
                let what = if phase == Phase::Checking { "checking" } else { "recovering" };
                let (read, of) = self.progress();
                let percent = (read * 100).checked_div(of).unwrap_or(0);
                not(format!("{what}: {percent} %, {read} of {of} bytes\n").into())
            }
            (Phase::Draining | Phase::Closing, _) => not("draining\n".into()),
            (Phase::Serving, Health::Failed) => {
                not("the disk has failed: nothing is written until the node is started again\n".into())
            }
            (Phase::Serving, Health::Full) => {
                (Status::Ok, "ready, but the disk is full: values can be read and deleted\n".into())
            }
            (Phase::Serving, Health::Exhausted) => {
                (Status::Ok, "ready, but the disk is full: values can be read\n".into())
            }
            (Phase::Serving, Health::Good) => (Status::Ok, "ready\n".into()),
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
    /// Answers a page of the node, or `OPTIONS`. `journal` is how that of this core is.
    pub fn page(
        &mut self,
        request: &Request,
        head: &[u8],
        page: Page,
        journal: Health,
        close: bool,
        out: &mut Vec<u8>,
    ) {
        let readiness;
        let (status, content_type, body): (Status, &[u8], &[u8]) = match page {
            Page::Health => (Status::Ok, b"", b""),
            Page::Live => (Status::Ok, TEXT, b"alive\n"),
            Page::Ready => {
                readiness = self.state.readiness(journal);
                (readiness.0, TEXT, readiness.1.as_bytes())
            }
            Page::Robots => (Status::Ok, TEXT, ROBOTS),
            Page::Welcome => (Status::Ok, b"text/html; charset=utf-8", WELCOME),
            Page::OpenApi => (Status::Ok, b"application/yaml", openapi::document().as_bytes()),
            Page::Options(_) => (Status::NoContent, b"", b""),
        };
        self.preamble.begin(out, status);
        match page {
            Page::Welcome => out.extend_from_slice(WELCOME_FIELDS),
            Page::Ready if self.recovering => {
                out.extend_from_slice(b"Cache-Control: no-store\r\nRetry-After: 1\r\n");
            }
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
