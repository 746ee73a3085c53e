//! HTTP/1.1 without sockets: bytes in, requests out; answers in, bytes out.
//!
//! Owns the syntax of RFC 9112 and of the fields that the node understands (RFC 9110), read
//! strictly: two readers that disagree about where a request ends are how requests are smuggled, so
//! whatever could be read in two ways is refused and the connection closed. Knows no socket, clock,
//! route or key. Nothing here allocates for a request that is served, with two documented
//! exceptions: a query with escapes and a request of HTTP/1.2 to 1.9.
//!
//! What is parsed is kept as offsets from the request's first byte ([`Span`]), so that a
//! [`Request`] can be copied and kept while its neighbours in the same buffer are served.
//!
//! | step | file |
//! |---|---|
//! | find the end of the head, parse and check it | `head`, `request`, `target`, `field` |
//! | take the body apart | `body` |
//! | decode the target | `target` |
//! | decide on form, coding and range | `negotiate` |
//! | write the answer's head | `response`, `status`, `date` |

pub mod body;
pub mod date;
pub mod familiar;
pub mod field;
pub mod head;
pub mod negotiate;
pub mod request;
pub mod response;
pub mod status;
pub mod target;

pub use body::{BodyDecoder, Decoded};
pub use date::{DateCache, http_date};
pub use familiar::Familiar;
pub use field::Field;
pub use head::parse_head;
pub use request::{Framing, Method, Request, Span, Version};
pub use response::{Preamble, Prepared};
pub use status::Status;

/// Why a request cannot be served at all. The connection is closed after the answer: where the next
/// request would begin is not known, or not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The bytes are no HTTP/1.1, or could be read in two ways. Says what is wrong.
    BadRequest(&'static str),
    /// The target is longer than [`crate::limits::TARGET_BYTES_MAX`].
    TargetTooLong,
    /// An `Expect` that is not `100-continue`.
    ExpectationFailed,
    /// The head is over [`crate::limits::HEAD_BYTES_MAX`] or [`crate::limits::HEAD_FIELDS_MAX`], or
    /// the trailers over [`crate::limits::TRAILER_BYTES_MAX`].
    HeadTooLarge,
    /// A method that no route of the node knows, CONNECT and TRACE included.
    MethodUnknown,
    /// A major version other than 1.
    VersionUnsupported,
}

impl Refusal {
    /// The status that tells the client.
    pub const fn status(self) -> Status {
        match self {
            Refusal::BadRequest(_) => Status::BadRequest,
            Refusal::TargetTooLong => Status::UriTooLong,
            Refusal::ExpectationFailed => Status::ExpectationFailed,
            Refusal::HeadTooLarge => Status::FieldsTooLarge,
            Refusal::MethodUnknown => Status::NotImplemented,
            Refusal::VersionUnsupported => Status::VersionNotSupported,
        }
    }

    /// What is wrong, for the answer's body.
    pub const fn detail(self) -> &'static str {
        match self {
            Refusal::BadRequest(detail) => detail,
            Refusal::TargetTooLong => "the request target is longer than 8192 bytes",
            Refusal::ExpectationFailed => "the only expectation that is met is 100-continue",
            Refusal::HeadTooLarge => "the header fields are more than 100 or longer than 16384 bytes",
            Refusal::MethodUnknown => "the method is not implemented",
            Refusal::VersionUnsupported => "only HTTP/1.1 and HTTP/1.0 are spoken here",
        }
    }
}
