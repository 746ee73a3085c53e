//! Lets pages of the configured origins read the node's answers (the CORS protocol of the Fetch
//! standard). Off unless `http.cors_origins` lists origins; never allows cookies, which the node
//! does not know.

use crate::http::{Field, Method, Request, response};

/// The origins that may read answers.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    listed: Vec<String>,
    any: bool,
}

/// Fields that a page may send beside the ones that browsers always let it send.
const ALLOWED_FIELDS: &[u8] =
    b"Authorization, Content-Type, Content-Encoding, If-Match, If-None-Match, If-Range, \
    Range, X-TTL, X-Fencing-Token, token, Prefer, Cache-Control";

/// Fields of an answer that a page may read beside the ones it always may.
const EXPOSED_FIELDS: &[u8] =
    b"ETag, X-TTL, X-Fencing-Token, X-Required-Grants, Content-Range, Accept-Ranges, \
    Content-Encoding, Location, Link, X-Next-Cursor, Retry-After, Allow";

/// How long a browser may remember a preflight.
const MAX_AGE_SECONDS: u64 = 600;

impl Origins {
    /// `*` lists every origin.
    pub fn new(listed: Vec<String>) -> Origins {
        let any = listed.iter().any(|origin| origin == "*");
        Origins { listed, any }
    }

    /// Whether any origin is listed at all.
    pub fn is_on(&self) -> bool {
        !self.listed.is_empty()
    }

    /// Appends what an answer to this request tells the browser.
    #[cold]
    pub fn write(&self, request: &Request, head: &[u8], out: &mut Vec<u8>) {
        if !self.any {
            out.extend_from_slice(b"Vary: Origin\r\n");
        }
        let Some(origin) = request.field(head, Field::Origin) else { return };
        if !self.allows(origin) {
            return;
        }
        response::field(out, "Access-Control-Allow-Origin: ", if self.any { b"*" } else { origin });
        response::field(out, "Access-Control-Expose-Headers: ", EXPOSED_FIELDS);
    }

    /// Appends what a preflight adds: any method of the path, `allow`, with the fields there are.
    #[cold]
    pub fn write_preflight(&self, request: &Request, head: &[u8], allow: &[u8], out: &mut Vec<u8>) {
        let asked = request.field(head, Field::AccessControlRequestMethod).is_some();
        let origin = request.field(head, Field::Origin);
        if request.method != Method::Options || !asked || !origin.is_some_and(|origin| self.allows(origin)) {
            return;
        }
        response::field(out, "Access-Control-Allow-Methods: ", allow);
        response::field(out, "Access-Control-Allow-Headers: ", ALLOWED_FIELDS);
        response::field_decimal(out, "Access-Control-Max-Age: ", MAX_AGE_SECONDS);
    }

    /// Browsers write origins in lower case, without a trailing slash.
    fn allows(&self, origin: &[u8]) -> bool {
        self.any || self.listed.iter().any(|listed| listed.as_bytes().eq_ignore_ascii_case(origin))
    }
}
