//! What the node says in words: the seed's sentences, and every error with its status, code and
//! detail.
//!
//! [`Problem`] is the one list of what can go wrong with a request that reached the API, and
//! [`Problem::words`] the one map from it to the wire. The sentences of the seed are answered alone,
//! letter for letter; every other error adds `"code"` and, where there is more to say, `"detail"`.
//! A 401 adds nothing, ever. Who asks for `application/problem+json` gets RFC 9457 instead, but for
//! the 401.

use std::borrow::Cow;

use crate::auth::Grants;
use crate::clock::Version;
use crate::http::{Refusal, Status};

use super::databases::query::QueryError;
use super::json;
use super::routes::Methods;

/// A body of one sentence.
macro_rules! message {
    ($sentence:expr) => {
        concat!("{\"message\":\"", $sentence, "\"}").as_bytes()
    };
}

/// PUT made the key.
pub const CREATED: &[u8] = message!("The specified key was successfully created.");
/// PUT replaced the value.
pub const UPDATED: &[u8] = message!("The specified key was successfully updated.");
/// DELETE removed it.
pub const DELETED: &[u8] = message!("The specified key and its data was successfully deleted.");
/// PATCH took the lock.
pub const LOCKED: &[u8] = message!("The specified key was successfully locked.");
/// PATCH freed the lock.
pub const UNLOCKED: &[u8] = message!("The specified key was successfully unlocked.");
/// PATCH set a deadline.
pub const EXPIRING: &[u8] = message!("The expiration of the specified key was successfully set.");
/// PATCH cancelled the deadline.
pub const PERSISTED: &[u8] = message!("The expiration of the specified key was successfully cancelled.");
/// PATCH counted up; the number and a brace follow.
pub const INCREMENTED: &[u8] = b"{\"message\":\"The specified key was successfully incremented.\",\"value\":";
/// PATCH counted down; the number and a brace follow.
pub const DECREMENTED: &[u8] = b"{\"message\":\"The specified key was successfully decremented.\",\"value\":";

/// DELETE ended an API key.
pub const API_KEY_DELETED: &[u8] = message!("The API key was successfully deleted.");

/// Most characters of a client's own words that an error repeats.
const ECHO_CHARS_MAX: usize = 32;

/// Everything that can be wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The HTTP of it.
    Http(Refusal),
    /// It came as it is on a port for TLS.
    PlainOnTls,
    /// It took too long to arrive.
    TimedOut,
    /// The node has no room for it just now.
    Busy,
    /// No route has this path.
    NoSuchPath,
    /// The path has other methods.
    MethodNotAllowed(Methods),
    /// No credential, or none that is good. Why is not told.
    Unauthorized,
    /// The same, after a password that was not the right one.
    PasswordWrong,
    /// The same, before it is known whether it is: [`super::Api::proof`] finds out.
    PasswordUnproven,
    /// Too many of those from this address; after so many seconds it may try again.
    TooManyFailures(u64),
    /// The credential lacks these grants, or all of them where any would do.
    Forbidden(Grants),
    /// The route does not take credentials of this form.
    FormNotTaken,
    /// The credential is limited to other keys than these.
    OutOfScope,
    /// An API key would reach keys that its maker does not.
    ExceedsScope,
    /// An API key would be good for longer than the one that makes it.
    OutlivesMaker,
    /// A key of the last generation makes another.
    TooManyGenerations,
    /// No API key has this id, as far as the caller may know.
    ApiKeyUnknown,
    /// No app has this id.
    AppUnknown,
    /// Another app has the name.
    NameTaken,
    /// The default app stays.
    DefaultApp,
    /// There is no database of this name.
    DatabaseUnknown,
    /// Another database has the name.
    DatabaseNameTaken,
    /// The names of databases have used up their part of the memory.
    DatabasesFull,
    /// A value that the given key does not open, or that needs one.
    Sealed,
    /// The settings keep whoever has the databases password from it.
    Restricted,
    /// A query that cannot be read: where and why.
    QueryRefused(QueryError),
    /// A query over [`crate::limits::QUERY_BYTES_MAX`].
    QueryTooLong,
    /// API keys and apps have used up their part of the memory.
    CredentialsFull,
    /// A body without this member.
    MemberMissing(&'static str),
    /// A body with a member that is not what it must be, and why.
    MemberInvalid(&'static str),
    /// A parameter of the query, or a member of a body that is as good as one, is missing.
    ParameterMissing(&'static str),
    /// A parameter that is not what it must be, and why.
    ParameterInvalid(&'static str),
    /// A value of an item or list that is no JSON primitive, or a number that cannot be compared.
    ValueUnfit,
    /// More than a list may hold, in values or in bytes, of which the limit stands beside it.
    ListTooLarge(u64),
    /// Nothing behind `/api/kv/`.
    KeyEmpty,
    /// It holds a `%` that two hexadecimal digits do not follow.
    KeyMalformed,
    /// Longer than [`crate::limits::KEY_BYTES_MAX`] once decoded.
    KeyTooLong,
    /// A value over `store.max_limit` bytes, which stands beside it.
    ValueTooLarge(u64),
    /// A body over what the route takes, which stands beside it.
    BodyTooLarge(u64),
    /// More than [`crate::limits::BATCH_OPERATIONS_MAX`] operations.
    BatchTooLong,
    /// A get past [`crate::limits::BATCH_ANSWER_BYTES_MAX`] of answer.
    AnswerTooLarge,
    /// A query that cannot be read, and why.
    QueryInvalid(&'static str),
    /// A field that cannot be read, and why.
    FieldInvalid(&'static str),
    /// A body that cannot be read, and why.
    BodyInvalid(&'static str),
    /// An operation of a batch that cannot be read, and why.
    ItemInvalid(&'static str),
    /// A time-to-live that is no integer from 1 to 4,294,967,295.
    TtlInvalid,
    /// Two times-to-live that disagree.
    TtlContradiction,
    /// A content coding that the store does not keep.
    CodingUnsupported,
    /// No such operation or grant. Bounded, as the client wrote it. One variant for both: it is the only
    /// one with something to drop, which is looked at behind every request.
    Unheard(Unheard, Box<str>),
    /// PATCH: no operation at all.
    OperationMissing,
    /// PATCH `ttl` without a value.
    ExpirationMissing,
    /// PATCH `ttl` with a value that is no integer.
    ExpirationUnrecognized,
    /// PATCH `ttl` with an integer out of range.
    ExpirationOutOfRange,
    /// PATCH `lock` with a lease that is no integer in range.
    LeaseUnrecognized,
    /// PATCH `increment` or `decrement` with a step that is no number.
    StepUnrecognized,
    /// No such key.
    Absent,
    /// The key is locked by another.
    Locked,
    /// Lock: it is locked already.
    AlreadyLocked,
    /// Unlock: it is not locked.
    NotLocked,
    /// A condition does not hold; the version there is.
    ConditionFailed(Option<Version>),
    /// Count: the value is no number.
    NotNumeric,
    /// Count: the result does not fit.
    OutOfRange,
    /// The range lies outside the value, whose length stands beside it.
    RangeNotSatisfiable(u64),
    /// The stored coding is not accepted, and cannot be decoded within the limit.
    NotAcceptable,
    /// Key, type and value together are over what one entry may hold.
    EntryTooLarge,
    /// The store is full and may not evict.
    StoreFull,
    /// The disk is full, so nothing can be kept that takes room.
    JournalFull,
    /// The disk has failed, so nothing can be kept any more. It was not done.
    JournalFailed,
    /// The disk has failed before what it did or shows was kept, or did not keep it in time. Nobody knows what a
    /// restart finds.
    Unkept,
    /// Not everything is back that the node has kept.
    Recovering,
    /// Something is wrong with the line of this number of a dump.
    Line(u64, LineTrouble),
}

/// What is wrong with a line of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineTrouble {
    /// It cannot be taken, and why. Nothing was written.
    Invalid(&'static str),
    /// Its value is over what a store takes.
    TooLarge,
    /// The store is full and may not evict.
    Full,
}

/// What a client named that there is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// An operation of PATCH or of a batch.
    Operation,
    /// A grant.
    Grant,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        Problem::Http(refusal)
    }
}

/// What a problem looks like on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// The status.
    pub status: Status,
    /// For machines; stable.
    pub code: &'static str,
    /// For people.
    pub message: &'static str,
}

impl Problem {
    /// An operation that is none: keeps a bounded part of what the client wrote.
    #[cold]
    pub fn operation_unknown(name: &str) -> Problem {
        Problem::Unheard(Unheard::Operation, name.chars().take(ECHO_CHARS_MAX).collect())
    }

    /// A grant that is none: keeps a bounded part of what the client wrote.
    #[cold]
    pub fn grant_unknown(name: &str) -> Problem {
        Problem::Unheard(Unheard::Grant, name.chars().take(ECHO_CHARS_MAX).collect())
    }

    /// The status alone.
    pub fn status(&self) -> Status {
        self.words().status
    }

    /// The whole body where it is one of the seed's sentences, which stand alone.
    pub fn seed_body(&self) -> Option<&'static [u8]> {
        match self {
            Problem::Unauthorized | Problem::PasswordWrong | Problem::PasswordUnproven => {
                Some(message!("You are not allowed to perform this action."))
            }
            Problem::Absent => Some(message!("The specified key does not exists.")),
            Problem::Locked => Some(message!("The specified key cannot be updated.")),
            _ => None,
        }
    }

    /// Status, code and sentence.
    #[rustfmt::skip]
    pub fn words(&self) -> Words {
        let (status, code, message) = match self {
            Problem::Http(refusal) => (refusal.status(), refusal_code(*refusal), refusal_message(*refusal)),
            Problem::PlainOnTls => (Status::BadRequest, "plain_on_tls", "This port speaks TLS: use https://."),
            Problem::TimedOut => (Status::RequestTimeout, "timeout", "The request took too long to arrive."),
            Problem::Busy => (Status::ServiceUnavailable, "busy", "The node has no room for this request just now."),
            Problem::NoSuchPath => (Status::NotFound, "no_such_path", "There is nothing at this path."),
            Problem::MethodNotAllowed(_) => (Status::MethodNotAllowed, "method_not_allowed", "This path does not take this method."),
            Problem::Unauthorized | Problem::PasswordWrong | Problem::PasswordUnproven => (Status::Unauthorized, "unauthorized", "You are not allowed to perform this action."),
            Problem::Forbidden(_) => (Status::Forbidden, "forbidden", "Your credential does not allow this action."),
            Problem::TooManyFailures(_) => (Status::TooManyRequests, "too_many_failures", "Too many wrong passwords came from this address."),
            Problem::FormNotTaken => (Status::Forbidden, "form_not_taken", "This path does not take this kind of credential."),
            Problem::OutOfScope => (Status::Forbidden, "out_of_scope", "Your credential does not reach this key."),
            Problem::ExceedsScope => (Status::Forbidden, "exceeds_scope", "A key cannot reach more than the credential that makes it."),
            Problem::TooManyGenerations => (Status::Forbidden, "too_many_generations", "An API key that has 15 others before it in the line of those that made it makes no more."),
            Problem::OutlivesMaker => (Status::Forbidden, "outlives_maker", "A key cannot be good for longer than the API key that makes it."),
            Problem::ApiKeyUnknown => (Status::NotFound, "api_key_unknown", "There is no such API key."),
            Problem::AppUnknown => (Status::NotFound, "app_unknown", "There is no such app."),
            Problem::NameTaken => (Status::Conflict, "name_taken", "Another app has this name."),
            Problem::DefaultApp => (Status::Conflict, "default_app", "The default app cannot be deleted."),
            Problem::DatabaseUnknown => (Status::NotFound, "database_unknown", "There is no such database."),
            Problem::DatabaseNameTaken => (Status::Conflict, "name_taken", "Another database has this name."),
            Problem::DatabasesFull => (Status::InsufficientStorage, "databases_full", "There is no room for more databases."),
            Problem::Sealed => (Status::Forbidden, "sealed", "The value cannot be decrypted with the given key."),
            Problem::Restricted => (Status::Forbidden, "restricted", "The settings of this node do not allow this action."),
            Problem::QueryRefused(_) => (Status::BadRequest, "query_refused", "The query cannot be read."),
            Problem::QueryTooLong => (Status::ContentTooLarge, "query_too_long", "The query is too long."),
            Problem::CredentialsFull => (Status::InsufficientStorage, "credentials_full", "There is no room for more API keys and apps."),
            Problem::MemberMissing(_) => (Status::BadRequest, "member_missing", "The request body lacks a member."),
            Problem::MemberInvalid(_) => (Status::BadRequest, "member_invalid", "The request body has a member that cannot be taken."),
            Problem::ParameterMissing(_) => (Status::BadRequest, "missing_parameter", "A parameter is missing."),
            Problem::ParameterInvalid(_) => (Status::BadRequest, "invalid_parameter", "A parameter cannot be taken."),
            Problem::ValueUnfit => (Status::BadRequest, "invalid_value", "The value cannot be stored."),
            Problem::ListTooLarge(_) => (Status::ContentTooLarge, "value_too_large", "The list would be too large."),
            Problem::Unheard(Unheard::Grant, _) => (Status::BadRequest, "grant_unknown", "There is no such grant."),
            Problem::KeyEmpty => (Status::BadRequest, "key_empty", "The key is missing."),
            Problem::KeyMalformed => (Status::BadRequest, "key_malformed", "The specified key cannot be read."),
            Problem::KeyTooLong => (Status::UriTooLong, "key_too_long", "The specified key is too long."),
            Problem::ValueTooLarge(_) => (Status::ContentTooLarge, "value_too_large", "The value is too large."),
            Problem::BodyTooLarge(_) => (Status::ContentTooLarge, "body_too_large", "The request body is too large."),
            Problem::BatchTooLong => (Status::ContentTooLarge, "batch_too_long", "The batch has too many operations."),
            Problem::AnswerTooLarge => (Status::ContentTooLarge, "answer_too_large", "The answer of the batch is too large."),
            Problem::QueryInvalid(_) => (Status::BadRequest, "query_invalid", "The query cannot be read."),
            Problem::FieldInvalid(_) => (Status::BadRequest, "field_invalid", "A header field cannot be read."),
            Problem::BodyInvalid(_) => (Status::BadRequest, "body_invalid", "The request body cannot be read."),
            Problem::ItemInvalid(_) => (Status::BadRequest, "item_invalid", "The operation cannot be read."),
            Problem::TtlInvalid => (Status::BadRequest, "ttl_invalid", "The time-to-live is not valid."),
            Problem::TtlContradiction => (Status::BadRequest, "ttl_contradiction", "The times-to-live of the request disagree."),
            Problem::CodingUnsupported => (Status::UnsupportedMediaType, "coding_unsupported", "This content coding cannot be stored."),
            Problem::Unheard(Unheard::Operation, _) => (Status::BadRequest, "operation_unknown", "Invalid Operation"),
            Problem::OperationMissing => (Status::BadRequest, "operation_missing", "The operation is missing."),
            Problem::ExpirationMissing => (Status::BadRequest, "expiration_missing", "Missing value for expiration."),
            Problem::ExpirationUnrecognized => (Status::BadRequest, "expiration_unrecognized",
                "Unrecognized value for expiration, you need to use a numeric value without decimal."),
            Problem::ExpirationOutOfRange => (Status::BadRequest, "expiration_out_of_range",
                "Unable to set the expiration for the specified key."),
            Problem::LeaseUnrecognized => (Status::BadRequest, "lease_unrecognized",
                "Unrecognized value for the lease, you need to use a numeric value without decimal."),
            Problem::StepUnrecognized => (Status::BadRequest, "step_unrecognized",
                "Unrecognized value for the step, you need to use a numeric value."),
            Problem::Absent => (Status::NotFound, "absent", "The specified key does not exists."),
            Problem::Locked => (Status::Conflict, "locked", "The specified key cannot be updated."),
            Problem::AlreadyLocked => (Status::Conflict, "already_locked", "The specified key is already locked."),
            Problem::NotLocked => (Status::Conflict, "not_locked", "The specified key is not currently locked."),
            Problem::ConditionFailed(_) => (Status::PreconditionFailed, "condition_failed", "A condition of the request does not hold."),
            Problem::NotNumeric => (Status::BadRequest, "not_numeric", "The specified key is not a valid numeric value."),
            Problem::OutOfRange => (Status::BadRequest, "out_of_range", "The result is out of range."),
            Problem::RangeNotSatisfiable(_) => (Status::RangeNotSatisfiable, "range_not_satisfiable", "The range lies outside the value."),
            Problem::NotAcceptable => (Status::NotAcceptable, "not_acceptable", "The value is stored in a coding that the request does not accept."),
            Problem::EntryTooLarge => (Status::ContentTooLarge, "entry_too_large", "The value is too large."),
            Problem::StoreFull => (Status::InsufficientStorage, "store_full", "The store is full."),
            Problem::Line(_, LineTrouble::Invalid(_)) => (Status::BadRequest, "line_invalid", "A line cannot be restored."),
            Problem::Line(_, LineTrouble::TooLarge) => (Status::ContentTooLarge, "line_too_large", "A value is too large to be restored."),
            Problem::Line(_, LineTrouble::Full) => (Status::InsufficientStorage, "store_full", "The store is full."),
            Problem::JournalFull => (Status::InsufficientStorage, "disk_full", "The disk is full."),
            Problem::JournalFailed => (Status::ServiceUnavailable, "disk_failed", "The disk has failed."),
            Problem::Unkept => (Status::ServiceUnavailable, "outcome_unknown", "Whether this was kept is not known."),
            Problem::Recovering => (Status::ServiceUnavailable, "recovering", "The node is starting."),
        };
        Words { status, code, message }
    }

    /// The sentence, with the client's own words where they are part of it.
    pub fn message(&self) -> Cow<'static, str> {
        match self {
            Problem::Unheard(Unheard::Operation, name) => format!("Invalid Operation \"{name}\".").into(),
            Problem::QueryRefused(error) => error.to_string().into(),
            _ => self.words().message.into(),
        }
    }

    /// What more there is to say.
    pub fn detail(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Problem::Http(refusal) => refusal.detail().into(),
            Problem::QueryInvalid(why)
            | Problem::FieldInvalid(why)
            | Problem::BodyInvalid(why)
            | Problem::MemberInvalid(why)
            | Problem::ItemInvalid(why) => (*why).into(),
            Problem::MemberMissing(name) => format!("it needs {name}").into(),
            Problem::ParameterMissing(name) => format!("it needs {name}").into(),
            Problem::ParameterInvalid(why) => (*why).into(),
            Problem::ValueUnfit => {
                "values are strings, numbers, booleans and null, in a list numbers with an exponent of up to 18 digits".into()
            }
            Problem::ListTooLarge(limit) => {
                format!("the limit is {} values and {limit} bytes", crate::limits::LIST_VALUES_MAX).into()
            }
            Problem::Unheard(Unheard::Grant, name) => format!("\"{name}\" is none").into(),
            Problem::TooManyFailures(seconds) => format!("try again in {seconds} s").into(),
            Problem::TooManyGenerations => "make it with a token, or with a key nearer to one".into(),
            Problem::OutlivesMaker => "name an expiry that is not after the maker's".into(),
            Problem::CredentialsFull => "they may take an eighth of store.memory_limit".into(),
            Problem::Line(line, LineTrouble::Invalid(why)) => format!("line {line}: {why}").into(),
            Problem::Line(line, LineTrouble::TooLarge) => {
                format!("line {line}: it is over store.max_limit of this node").into()
            }
            Problem::Line(line, LineTrouble::Full) => {
                format!("line {line}: there is no room for it; those before it are restored").into()
            }
            Problem::DatabasesFull => "names may take an eighth of store.memory_limit".into(),
            Problem::Restricted => "databases.restricted names it".into(),
            Problem::QueryTooLong => {
                format!("the limit is {} bytes", crate::limits::QUERY_BYTES_MAX).into()
            }
            Problem::QueryRefused(error) => format!("byte {}", error.position).into(),
            Problem::KeyMalformed => "it has a % that two hexadecimal digits do not follow".into(),
            Problem::ValueTooLarge(limit) => format!("the limit of a value is {limit} bytes").into(),
            Problem::BodyTooLarge(limit) => {
                format!("the limit of this request's body is {limit} bytes").into()
            }
            Problem::BatchTooLong => {
                format!("the limit is {} operations", crate::limits::BATCH_OPERATIONS_MAX).into()
            }
            Problem::AnswerTooLarge => {
                format!("the limit is {} bytes of values", crate::limits::BATCH_ANSWER_BYTES_MAX).into()
            }
            Problem::KeyTooLong => {
                format!("the limit is {} bytes once decoded", crate::limits::KEY_BYTES_MAX).into()
            }
            Problem::Forbidden(grants) => format!("it needs {grants}").into(),
            Problem::TtlInvalid | Problem::ExpirationOutOfRange | Problem::LeaseUnrecognized => {
                "seconds are an integer from 1 to 4294967295".into()
            }
            Problem::CodingUnsupported => "gzip, zstd and identity are kept, one at a time".into(),
            Problem::RangeNotSatisfiable(length) => format!("the value has {length} bytes").into(),
            Problem::NotAcceptable => {
                "it cannot be decoded, or is over the limit of a value once decoded".into()
            }
            Problem::OutOfRange => "integers have 64 bits, decimals are finite".into(),
            Problem::JournalFull => {
                "values can be read and deleted; others are taken again when there is room".into()
            }
            Problem::JournalFailed => {
                "this was not done: what is kept can be read, and nothing is written until the node is started again"
                    .into()
            }
            Problem::Unkept => {
                "the disk has failed or took too long before it had kept what this did or shows: when the node has been \
                 started again, it may be there or not"
                    .into()
            }
            Problem::Recovering => "it reads what it has kept; /readyz says how far it has come".into(),
            Problem::EntryTooLarge => "key, type and value are more than one entry may hold".into(),
            _ => return None,
        })
    }

    /// Appends the members that every form of the body has, without braces.
    fn write_members(&self, out: &mut Vec<u8>) {
        let words = self.words();
        out.extend_from_slice(b"\"message\":");
        json::write_text(out, &self.message());
        out.extend_from_slice(b",\"code\":");
        json::write_text(out, words.code);
        if let Some(detail) = self.detail() {
            out.extend_from_slice(b",\"detail\":");
            json::write_text(out, &detail);
        }
    }

    /// Appends the members that tell it in a batch's result.
    pub fn write_result(&self, out: &mut Vec<u8>) {
        match self.seed_body() {
            Some(body) => out.extend_from_slice(&body[1..body.len() - 1]),
            None => self.write_members(out),
        }
    }

    /// The body as `{"message","code","detail"}`.
    #[cold]
    pub fn plain_body(&self) -> Vec<u8> {
        let mut body = b"{".to_vec();
        self.write_members(&mut body);
        body.push(b'}');
        body
    }

    /// The body as a sentence.
    #[cold]
    pub fn text_body(&self) -> Vec<u8> {
        let message = self.message();
        match self.detail() {
            Some(detail) if !matches!(self, Problem::QueryRefused(_)) => {
                format!("{}: {detail}.", message.trim_end_matches('.')).into_bytes()
            }
            _ => message.into_owned().into_bytes(),
        }
    }

    /// The body in LightKV's envelope.
    #[cold]
    pub fn light_body(&self) -> Vec<u8> {
        let mut body = b"{\"ok\":false,\"error\":{\"code\":".to_vec();
        json::write_text(&mut body, &self.light_code());
        body.extend_from_slice(b",\"message\":");
        let message = self.message();
        match self.detail() {
            Some(detail) => {
                let sentence = message.trim_end_matches('.');
                json::write_text(&mut body, &format!("{sentence}: {detail}."));
            }
            None => json::write_text(&mut body, &message),
        }
        body.extend_from_slice(b"}}");
        body
    }

    fn light_code(&self) -> Cow<'static, str> {
        match self {
            Problem::NoSuchPath | Problem::AppUnknown | Problem::Absent => "NOT_FOUND".into(),
            Problem::BodyInvalid(_) => "INVALID_JSON".into(),
            Problem::MemberMissing(_) => "MISSING_PARAMETER".into(),
            Problem::MemberInvalid(_) | Problem::QueryInvalid(_) => "INVALID_PARAMETER".into(),
            Problem::FormNotTaken | Problem::OutOfScope => "FORBIDDEN".into(),
            Problem::BodyTooLarge(_) | Problem::EntryTooLarge => "VALUE_TOO_LARGE".into(),
            Problem::NameTaken | Problem::DefaultApp => "CONFLICT".into(),
            other => other.words().code.to_ascii_uppercase().into(),
        }
    }

    /// The body as RFC 9457 has it. Its title is the status's own, as `about:blank` asks.
    #[cold]
    pub fn problem_body(&self) -> Vec<u8> {
        let status = self.status();
        let mut body = format!(
            "{{\"type\":\"about:blank\",\"title\":\"{}\",\"status\":{},",
            status.reason(),
            status.code()
        )
        .into_bytes();
        self.write_members(&mut body);
        if self.detail().is_none() {
            body.extend_from_slice(b",\"detail\":");
            json::write_text(&mut body, &self.message());
        }
        body.push(b'}');
        body
    }
}

fn refusal_code(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::BadRequest(_) => "bad_request",
        Refusal::TargetTooLong => "target_too_long",
        Refusal::ExpectationFailed => "expectation_failed",
        Refusal::HeadTooLarge => "head_too_large",
        Refusal::MethodUnknown => "method_unknown",
        Refusal::VersionUnsupported => "version_unsupported",
    }
}

fn refusal_message(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::BadRequest(_) => "The request is malformed.",
        Refusal::TargetTooLong => "The request target is too long.",
        Refusal::ExpectationFailed => "The expectation cannot be met.",
        Refusal::HeadTooLarge => "The request head is too large.",
        Refusal::MethodUnknown => "The method is not implemented.",
        Refusal::VersionUnsupported => "The HTTP version is not supported.",
    }
}
