//! The status codes that the node answers with, and their reason phrases (RFC 9110, section 15).

/// A status code. The discriminant is dense, so that it can index a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // the table below says it all
pub enum Status {
    Continue,
    Ok,
    Created,
    NoContent,
    PartialContent,
    NotModified,
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    RequestTimeout,
    Conflict,
    PreconditionFailed,
    ContentTooLarge,
    UriTooLong,
    UnsupportedMediaType,
    RangeNotSatisfiable,
    ExpectationFailed,
    TooManyRequests,
    FieldsTooLarge,
    InternalServerError,
    NotImplemented,
    ServiceUnavailable,
    VersionNotSupported,
    InsufficientStorage,
}

/// Code and reason phrase of each status, in the order of their discriminants.
const TABLE: [(Status, u16, &str); 27] = [
    (Status::Continue, 100, "Continue"),
    (Status::Ok, 200, "OK"),
    (Status::Created, 201, "Created"),
    (Status::NoContent, 204, "No Content"),
    (Status::PartialContent, 206, "Partial Content"),
    (Status::NotModified, 304, "Not Modified"),
    (Status::BadRequest, 400, "Bad Request"),
    (Status::Unauthorized, 401, "Unauthorized"),
    (Status::Forbidden, 403, "Forbidden"),
    (Status::NotFound, 404, "Not Found"),
    (Status::MethodNotAllowed, 405, "Method Not Allowed"),
    (Status::NotAcceptable, 406, "Not Acceptable"),
    (Status::RequestTimeout, 408, "Request Timeout"),
    (Status::Conflict, 409, "Conflict"),
    (Status::PreconditionFailed, 412, "Precondition Failed"),
    (Status::ContentTooLarge, 413, "Content Too Large"),
    (Status::UriTooLong, 414, "URI Too Long"),
    (Status::UnsupportedMediaType, 415, "Unsupported Media Type"),
    (Status::RangeNotSatisfiable, 416, "Range Not Satisfiable"),
    (Status::ExpectationFailed, 417, "Expectation Failed"),
    (Status::TooManyRequests, 429, "Too Many Requests"),
    (Status::FieldsTooLarge, 431, "Request Header Fields Too Large"),
    (Status::InternalServerError, 500, "Internal Server Error"),
    (Status::NotImplemented, 501, "Not Implemented"),
    (Status::ServiceUnavailable, 503, "Service Unavailable"),
    (Status::VersionNotSupported, 505, "HTTP Version Not Supported"),
    (Status::InsufficientStorage, 507, "Insufficient Storage"),
];

const _: () = {
    let mut at = 0;
    while at < TABLE.len() {
        assert!(TABLE[at].0 as usize == at);
        at += 1;
    }
};

impl Status {
    /// How many there are.
    pub const COUNT: usize = TABLE.len();

    /// The three-digit code.
    pub const fn code(self) -> u16 {
        TABLE[self as usize].1
    }

    /// The reason phrase.
    pub const fn reason(self) -> &'static str {
        TABLE[self as usize].2
    }

    /// Every status, in the order of the codes.
    pub fn all() -> impl Iterator<Item = Status> {
        TABLE.iter().map(|&(status, _, _)| status)
    }

    /// Whether an answer with this status has no body whatever its fields say (RFC 9112,
    /// section 6.3).
    pub const fn is_bodiless(self) -> bool {
        matches!(self, Status::Continue | Status::NoContent | Status::NotModified)
    }
}

#[cfg(test)]
mod tests {
    use super::Status;

    #[test]
    fn codes_rise_and_reasons_are_plain_text() {
        let codes: Vec<u16> = Status::all().map(Status::code).collect();
        assert!(codes.is_sorted_by(|a, b| a < b));
        assert!(Status::all().all(|s| s.reason().bytes().all(|b| b.is_ascii_alphabetic() || b == b' ')));
    }
}
