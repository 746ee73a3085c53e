//! Answers what is wrong with a request, in the words and the shape of the family that it was meant for.
//!
//! Every family but two tells `{"message","code","detail"}`, or RFC 9457 where that is asked for. The light
//! family has its envelope. The databases family tells a sentence as text, as the original does, and the other
//! two to whoever asks for them.

use crate::http::{Field, Method, Request, Status, negotiate, response};

use super::Api;
use super::message::Problem;
use super::routes::Family;

const TEXT: &[u8] = b"text/plain; charset=utf-8";

/// The original's answer to whoever does not know the password, letter for letter.
const LOGIN_REQUIRED: &[u8] =
    b"Could not verify your access level for that URL.\nYou have to login with proper credentials";

impl Api {
    /// Answers whatever is wrong with a request; `None` is one whose head could not be parsed.
    pub fn refuse(
        &mut self,
        request: Option<(&Request, &[u8])>,
        problem: Problem,
        close: bool,
        out: &mut Vec<u8>,
    ) {
        let family = request.map_or(Family::Node, |(request, head)| Family::of(request.path.of(head)));
        let detailed = request.is_some_and(|(request, head)| wants_problem_details(request, head))
            && problem.status() != Status::Unauthorized;
        let cold;
        let (content_type, body): (&[u8], &[u8]) = match problem.seed_body() {
            _ if family == Family::Light => {
                cold = problem.light_body();
                (b"application/json", &cold)
            }
            _ if family == Family::Databases && problem.status() == Status::Unauthorized => {
                (TEXT, LOGIN_REQUIRED)
            }
            _ if family == Family::Databases
                && !detailed
                && !request.is_some_and(|(request, head)| wants_json(request, head)) =>
            {
                cold = problem.text_body();
                (TEXT, &cold)
            }
            Some(body) if !detailed => (b"application/json", body),
            _ if detailed => {
                cold = problem.problem_body();
                (b"application/problem+json", &cold)
            }
            _ => {
                cold = problem.plain_body();
                (b"application/json", &cold)
            }
        };
        self.preamble.begin(out, problem.status());
        self.write_problem_fields(&problem, family, out);
        response::field(out, "Content-Type: ", content_type);
        response::content_length(out, body.len() as u64);
        self.end(request, close, out);
        if !request.is_some_and(|(request, _)| request.method == Method::Head) {
            out.extend_from_slice(body);
        }
    }

    /// Appends the fields that a status obliges to, or that save the client a round.
    fn write_problem_fields(&self, problem: &Problem, family: Family, out: &mut Vec<u8>) {
        match problem {
            Problem::Unauthorized | Problem::PasswordWrong if family == Family::Databases => {
                out.extend_from_slice(b"WWW-Authenticate: Basic realm=\"Login Required\"\r\n");
            }
            Problem::Unauthorized | Problem::PasswordWrong => {
                out.extend_from_slice(b"WWW-Authenticate: Bearer\r\n");
            }
            Problem::TooManyFailures(seconds) => {
                response::field_decimal(out, "Retry-After: ", *seconds);
            }
            Problem::Forbidden(grants) => {
                response::field(out, "X-Required-Grants: ", grants.to_string().as_bytes());
            }
            Problem::MethodNotAllowed(methods) => {
                out.extend_from_slice(b"Allow: ");
                methods.write(out);
                out.extend_from_slice(b"\r\n");
            }
            Problem::ConditionFailed(Some(version)) => {
                response::field(out, "ETag: ", &self.tags.tag(*version))
            }
            Problem::CodingUnsupported => out.extend_from_slice(b"Accept-Encoding: gzip, zstd, identity\r\n"),
            Problem::NotAcceptable => out.extend_from_slice(b"Vary: Accept-Encoding\r\n"),
            Problem::RangeNotSatisfiable(length) => {
                response::field_decimal(out, "Content-Range: bytes */", *length);
            }
            Problem::Busy | Problem::Recovering => out.extend_from_slice(b"Retry-After: 1\r\n"),
            _ => {}
        }
    }
}

/// Whether the client asks for RFC 9457.
fn wants_problem_details(request: &Request, head: &[u8]) -> bool {
    names_type(request, head, "application/problem+json")
}

/// Whether the client asks for JSON by name.
fn wants_json(request: &Request, head: &[u8]) -> bool {
    names_type(request, head, "application/json")
}

/// Most clients do not say what they accept; then there is nothing to take apart.
fn names_type(request: &Request, head: &[u8], media_type: &str) -> bool {
    request.field(head, Field::Accept).is_some()
        && negotiate::names_type(request.field_lines(head, Field::Accept), media_type)
}
