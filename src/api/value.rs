//! Answers with the bytes of a value: conditions of a read, the form that the client accepts, and
//! the part of it that it asked for.

use std::ops::Range;

use crate::clock::Now;
use crate::etag::{self, TAG_BYTES};
use crate::http::date::DATE_BYTES;
use crate::http::negotiate::{self, RangeResult};
use crate::http::{Field, Method, Request, Status, response};
use crate::limits::ANSWER_COPY_BYTES_MAX;
use crate::op::{CONTENT_TYPE_DEFAULT, Encoding, Entry, Large, Meta, Payload};

use super::coding::{Decode, Decoded};
use super::kv;
use super::message::Problem;
use super::{Api, Tail};

/// The fields of every value, in one copy; tag and date are then written over their places.
pub(super) const VALIDATORS: &[u8] = b"X-Content-Type-Options: nosniff\r\n\
    ETag: \"bbbbbbbbvvvvvvvvvvvvvvvv\"\r\n\
    Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n";

/// The same with all that the usual whole value has behind them, but for its length.
pub(super) fn usual(tag: &[u8; TAG_BYTES]) -> Vec<u8> {
    let mut fields = VALIDATORS.to_vec();
    fields[TAG_AT..TAG_AT + TAG_BYTES].copy_from_slice(tag);
    fields.extend_from_slice(b"Accept-Ranges: bytes\r\nContent-Type: ");
    fields.extend_from_slice(CONTENT_TYPE_DEFAULT);
    fields.extend_from_slice(b"\r\nContent-Length: ");
    fields
}

const TAG_AT: usize = 39;
const DATE_AT: usize = VALIDATORS.len() - 2 - DATE_BYTES;

const _: () = {
    assert!(VALIDATORS[TAG_AT] == b'"' && VALIDATORS[TAG_AT + TAG_BYTES - 1] == b'"');
    assert!(VALIDATORS[DATE_AT - 1] == b' ' && VALIDATORS[DATE_AT] == b'T');
};

/// What is sent of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The bytes as they are stored.
    Stored,
    /// The bytes that the stored ones decode to.
    Decoded,
}

impl Api {
    /// Answers a GET or HEAD that found its key.
    #[inline]
    pub(super) fn answer_found<'a>(
        &mut self,
        request: &Request,
        head: &[u8],
        entry: &Entry<'a>,
        close: bool,
        out: &mut Vec<u8>,
        now: Now,
    ) -> Tail<'a> {
        let is_usual = request.is_plain()
            && entry.encoding == Encoding::Identity
            && entry.meta.expires_ms.is_none()
            && is_default(entry.content_type)
            && self.ends_plainly(request, close);
        if !is_usual {
            return self.answer_unusual(request, head, entry, close, out, now);
        }
        let fields = self.prepared.found.begin(out);
        etag::write_version(&mut fields[TAG_AT..TAG_AT + TAG_BYTES], entry.meta.version);
        let date = self.dates.get(entry.meta.version.unix_ms() / 1_000);
        fields[DATE_AT..DATE_AT + DATE_BYTES].copy_from_slice(date);
        let len = entry.value.bytes().len();
        response::decimal_and_end(out, len as u64);
        self.value_behind(request, entry, 0..len, out)
    }

    /// Answers any other read: with conditions, a range, a coding, a time-to-live, a type of its own.
    #[inline(never)]
    fn answer_unusual<'a>(
        &mut self,
        request: &Request,
        head: &[u8],
        entry: &Entry<'a>,
        close: bool,
        out: &mut Vec<u8>,
        now: Now,
    ) -> Tail<'a> {
        let len = entry.value.bytes().len();
        if request.is_plain() && entry.encoding == Encoding::Identity {
            self.begin_value(out, Status::Ok, entry, now);
            out.extend_from_slice(b"Accept-Ranges: bytes\r\n");
            return self.finish_value(request, head, entry, 0..len, close, out);
        }
        let form = if accepts(request, head, entry.encoding) { Form::Stored } else { Form::Decoded };
        let version = entry.meta.version;
        let holds = |field, matches: &dyn Fn(&[u8]) -> bool| request.field_lines(head, field).any(matches);
        if request.field(head, Field::IfMatch).is_some()
            && !holds(Field::IfMatch, &|list| self.tags.matches_strong(list, version))
        {
            self.refuse(Some((request, head)), Problem::ConditionFailed(Some(version)), close, out);
            return Tail::None;
        }
        if holds(Field::IfNoneMatch, &|list| self.tags.matches_weak(list, version, form == Form::Decoded)) {
            self.not_modified(request, head, entry, form, close, out, now);
            return Tail::None;
        }
        if form == Form::Decoded {
            return Tail::Decode(Decode::new(entry, false, self.value_bytes_max));
        }
        let (status, part) = match self.range(request, head, &entry.meta, len, now) {
            RangeResult::Whole => (Status::Ok, 0..len),
            RangeResult::Part(part) => (Status::PartialContent, part.start as usize..part.end as usize),
            RangeResult::Unsatisfiable => {
                self.refuse(Some((request, head)), Problem::RangeNotSatisfiable(len as u64), close, out);
                return Tail::None;
            }
        };
        self.begin_value(out, status, entry, now);
        out.extend_from_slice(b"Accept-Ranges: bytes\r\n");
        write_coding(out, entry.encoding);
        if status == Status::PartialContent {
            write_content_range(out, &part, len);
        }
        self.finish_value(request, head, entry, part, close, out)
    }

    /// Answers a DELETE with the bytes it removed. They have no tag any more.
    pub(super) fn answer_deleted<'a>(
        &mut self,
        request: &Request,
        head: &[u8],
        entry: &Entry<'a>,
        close: bool,
        out: &mut Vec<u8>,
    ) -> Tail<'a> {
        if !accepts(request, head, entry.encoding) {
            return Tail::Decode(Decode::new(entry, true, self.value_bytes_max));
        }
        self.begin_deleted(out);
        write_coding(out, entry.encoding);
        self.finish_value(request, head, entry, 0..entry.value.bytes().len(), close, out)
    }

    /// Answers what [`Tail::Decode`] was left for. What was deleted is answered in any case: as it
    /// was stored, if it cannot be decoded.
    pub fn answer_decoded(
        &mut self,
        request: &Request,
        head: &[u8],
        decoded: Decoded,
        close: bool,
        out: &mut Vec<u8>,
        now: Now,
    ) -> Tail<'static> {
        let Decoded { about, result, encoded } = decoded;
        if about.of_database {
            return self.answer_text(request, head, result, close, out);
        }
        let (value, encoding) = match result {
            Ok(value) => (value, Encoding::Identity),
            Err(_) if about.deleted => (encoded, about.encoding),
            Err(_) => {
                self.refuse(Some((request, head)), Problem::NotAcceptable, close, out);
                return Tail::None;
            }
        };
        if about.deleted {
            self.begin_deleted(out);
        } else {
            self.preamble.begin(out, Status::Ok);
            self.write_validators(out, &about.meta, Form::Decoded, now);
        }
        match encoding {
            Encoding::Identity => out.extend_from_slice(b"Vary: Accept-Encoding\r\n"),
            stored => write_coding(out, stored),
        }
        response::field(out, "Content-Type: ", &about.content_type);
        response::content_length(out, value.len() as u64);
        self.end(Some((request, head)), close, out);
        let len = value.len();
        if request.method == Method::Head {
            Tail::None
        } else if len <= ANSWER_COPY_BYTES_MAX {
            out.extend_from_slice(&value);
            Tail::None
        } else {
            Tail::Large(value, 0..len)
        }
    }

    /// Begins the head of a value: all but what depends on form and length.
    fn begin_value(&mut self, out: &mut Vec<u8>, status: Status, entry: &Entry<'_>, now: Now) {
        self.preamble.begin(out, status);
        self.write_validators(out, &entry.meta, Form::Stored, now);
    }

    fn begin_deleted(&mut self, out: &mut Vec<u8>) {
        self.preamble.begin(out, Status::Ok);
        out.extend_from_slice(
            b"X-Content-Type-Options: nosniff\r\nPreference-Applied: return=representation\r\n",
        );
    }

    fn write_validators(&mut self, out: &mut Vec<u8>, meta: &Meta, form: Form, now: Now) {
        let at = out.len();
        self.write_tag_and_date(out, meta);
        if form == Form::Decoded {
            let mark_at = at + TAG_AT + TAG_BYTES - 1;
            out.splice(mark_at..mark_at, *b"-d");
        }
        kv::write_seconds_left(out, meta, now);
    }

    /// Appends [`VALIDATORS`] with this entry's tag and date in their places.
    fn write_tag_and_date(&mut self, out: &mut Vec<u8>, meta: &Meta) {
        let at = out.len();
        out.extend_from_slice(VALIDATORS);
        let fields = &mut out[at..];
        fields[TAG_AT..TAG_AT + TAG_BYTES].copy_from_slice(&self.tags.tag(meta.version));
        let date = self.dates.get(meta.version.unix_ms() / 1_000);
        fields[DATE_AT..DATE_AT + DATE_BYTES].copy_from_slice(date);
    }

    /// Ends the head of a value and decides how its bytes follow.
    fn finish_value<'a>(
        &mut self,
        request: &Request,
        head: &[u8],
        entry: &Entry<'a>,
        part: Range<usize>,
        close: bool,
        out: &mut Vec<u8>,
    ) -> Tail<'a> {
        response::field(out, "Content-Type: ", entry.content_type);
        response::content_length(out, part.len() as u64);
        self.end(Some((request, head)), close, out);
        self.value_behind(request, entry, part, out)
    }

    /// Appends the bytes behind a head, or says how they follow.
    #[inline]
    fn value_behind<'a>(
        &self,
        request: &Request,
        entry: &Entry<'a>,
        part: Range<usize>,
        out: &mut Vec<u8>,
    ) -> Tail<'a> {
        if request.method == Method::Head {
            return Tail::None;
        }
        match entry.value {
            Payload::Bytes(bytes) if part.len() > ANSWER_COPY_BYTES_MAX => Tail::Bytes(&bytes[part]),
            Payload::Large(large) if part.len() > ANSWER_COPY_BYTES_MAX => {
                Tail::Large(Large::clone(large), part)
            }
            value => {
                out.extend_from_slice(&value.bytes()[part]);
                Tail::None
            }
        }
    }

    #[allow(clippy::too_many_arguments)] // the connection's state, the answer's room and the time
    fn not_modified(
        &mut self,
        request: &Request,
        head: &[u8],
        entry: &Entry<'_>,
        form: Form,
        close: bool,
        out: &mut Vec<u8>,
        now: Now,
    ) {
        self.preamble.begin(out, Status::NotModified);
        self.write_validators(out, &entry.meta, form, now);
        if entry.encoding != Encoding::Identity {
            out.extend_from_slice(b"Vary: Accept-Encoding\r\n");
        }
        self.end(Some((request, head)), close, out);
    }

    /// The part that a GET asks for. `If-Range` that names other bytes makes it the whole.
    fn range(&mut self, request: &Request, head: &[u8], meta: &Meta, len: usize, now: Now) -> RangeResult {
        let (Some(range), Method::Get) = (request.field(head, Field::Range), request.method) else {
            return RangeResult::Whole;
        };
        match request.field(head, Field::IfRange) {
            Some(validator) if !self.names(validator, meta, now) => RangeResult::Whole,
            _ => negotiate::byte_range(range, len as u64),
        }
    }

    /// Whether an `If-Range` names the present bytes: its strong tag, or the very date.
    ///
    /// A date is strong only when its second had passed before the client read it (RFC 9110, section
    /// 8.8.2.2), which is for the client to know; here the second must have passed by now.
    fn names(&mut self, validator: &[u8], meta: &Meta, now: Now) -> bool {
        if validator.ends_with(b"\"") {
            let tag = self.tags.tag(meta.version);
            return validator == tag;
        }
        let seconds = meta.version.unix_ms() / 1_000;
        now.unix_seconds() > seconds && validator == self.dates.get(seconds)
    }
}

/// Whether a content type is the default. In most cases it is the very constant.
#[inline]
fn is_default(content_type: &[u8]) -> bool {
    std::ptr::eq(content_type, CONTENT_TYPE_DEFAULT) || content_type == CONTENT_TYPE_DEFAULT
}

/// Whether the stored bytes may be sent as they are.
fn accepts(request: &Request, head: &[u8], encoding: Encoding) -> bool {
    let accepts =
        |coding| negotiate::accepts_coding(request.field_lines(head, Field::AcceptEncoding), coding);
    match encoding {
        Encoding::Identity => true,
        Encoding::Gzip => accepts("gzip"),
        Encoding::Zstd => accepts("zstd"),
    }
}

/// Appends the coding of a value sent as it is stored, and that another client might get another.
fn write_coding(out: &mut Vec<u8>, encoding: Encoding) {
    let fields: &[u8] = match encoding {
        Encoding::Identity => return,
        Encoding::Gzip => b"Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n",
        Encoding::Zstd => b"Content-Encoding: zstd\r\nVary: Accept-Encoding\r\n",
    };
    out.extend_from_slice(fields);
}

fn write_content_range(out: &mut Vec<u8>, part: &Range<usize>, len: usize) {
    out.extend_from_slice(b"Content-Range: bytes ");
    response::decimal(out, part.start as u64);
    out.push(b'-');
    response::decimal(out, part.end as u64 - 1);
    out.push(b'/');
    response::decimal(out, len as u64);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::super::coding::tests::{gzip, zstd};
    use super::super::tests::{Node, TAG, entry};
    use crate::op::{Encoding, Entry, Large, Outcome, Payload};

    const DATE: &str = "Sun, 09 Sep 2001 01:46:30 GMT";
    const GET: &str = "GET /api/kv/a HTTP/1.1";

    fn found(lines: &str) -> super::super::tests::Reply {
        Node::open().told(lines, b"", Outcome::Found(entry(b"0123456789")))
    }

    /// An entry that was stored with a coding.
    fn coded(encoding: Encoding, bytes: &[u8]) -> Entry<'_> {
        Entry { encoding, value: Payload::Bytes(bytes), ..entry(b"") }
    }

    #[test]
    fn a_hit_is_answered_with_bytes_type_tag_and_date() {
        let reply = found(GET);
        assert_eq!(
            reply.head,
            format!(
                "HTTP/1.1 200 OK\r\nServer: lucid/{}\r\nDate: Sun, 09 Sep 2001 01:46:40 GMT\r\n\
                 X-Content-Type-Options: nosniff\r\nETag: {TAG}\r\nLast-Modified: {DATE}\r\n\
                 Accept-Ranges: bytes\r\nContent-Type: application/octet-stream\r\nContent-Length: 10\r\n\r\n",
                env!("CARGO_PKG_VERSION")
            )
        );
        assert_eq!(reply.text(), "0123456789");
        assert_eq!(found("GET /api/kv/a HTTP/1.1\nAccept: */*\nAccept-Encoding: gzip, br").head, reply.head);
        let head = found("HEAD /api/kv/a HTTP/1.1");
        assert_eq!((head.head, head.body.len()), (reply.head, 0));
    }

    #[test]
    fn values_of_every_size_and_kind_come_whole() {
        for length in [0, 1, 8_192, 8_193, 32_768, 32_769, 65_536, 1 << 20] {
            let bytes: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
            let large = Large::copy_of(&bytes);
            for value in [Payload::Bytes(&bytes), Payload::Large(&large)] {
                let mut node = Node::open();
                let found = || Outcome::Found(Entry { value, ..entry(b"") });
                let reply = node.told(GET, b"", found());
                assert_eq!(reply.field("Content-Length"), Some(&*length.to_string()));
                assert!(reply.body == bytes, "{length}");
                assert!(node.told("HEAD /api/kv/a HTTP/1.1", b"", found()).body.is_empty());
                if length > 2 {
                    let part = node.told(&format!("{GET}\nRange: bytes=1-"), b"", found());
                    assert!(part.body == bytes[1..], "{length}");
                }
            }
        }
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        for tags in
            ["*", TAG, &format!("W/{TAG}"), &format!("\"x\", {TAG}"), &format!("\"x\"\nIf-None-Match: {TAG}")]
        {
            for method in ["GET", "HEAD"] {
                let reply = found(&format!("{method} /api/kv/a HTTP/1.1\nIf-None-Match: {tags}"));
                assert_eq!((reply.status, reply.body.len()), (304, 0), "{tags}");
                assert_eq!((reply.field("ETag"), reply.field("Last-Modified")), (Some(TAG), Some(DATE)));
                assert_eq!(reply.field("Content-Length"), None);
            }
        }
        for tags in ["\"x\"", "", &TAG.replace("07\"", "08\""), &TAG.replace("07\"", "07-d\"")] {
            assert_eq!(found(&format!("{GET}\nIf-None-Match: {tags}")).status, 200, "{tags}");
        }
    }

    #[test]
    fn a_read_of_other_bytes_than_expected_is_412() {
        let reply = found(&format!("{GET}\nIf-Match: \"x\""));
        assert_eq!((reply.status, reply.field("ETag")), (412, Some(TAG)));
        assert_eq!(found(&format!("{GET}\nIf-Match: W/{TAG}")).status, 412);
        assert_eq!(found(&format!("{GET}\nIf-Match: \"x\"\nIf-Match: {TAG}")).status, 200);
        assert_eq!(found(&format!("{GET}\nIf-Match: *")).status, 200);
        let absent =
            Node::open().told(&format!("{GET}\nIf-Match: *\nIf-None-Match: *"), b"", Outcome::Absent);
        assert_eq!(absent.status, 404, "conditions are for what would be 200 without them");
    }

    #[test]
    fn single_ranges_are_answered_in_part() {
        for (range, part, text) in [
            ("bytes=0-0", "bytes 0-0/10", "0"),
            ("bytes=2-4", "bytes 2-4/10", "234"),
            ("bytes=5-", "bytes 5-9/10", "56789"),
            ("bytes=-3", "bytes 7-9/10", "789"),
            ("bytes=0-99", "bytes 0-9/10", "0123456789"),
        ] {
            let reply = found(&format!("{GET}\nRange: {range}"));
            assert_eq!((reply.status, reply.field("Content-Range"), reply.text()), (206, Some(part), text));
            assert_eq!(reply.field("Content-Length"), Some(&*text.len().to_string()));
            assert_eq!((reply.field("ETag"), reply.field("Last-Modified")), (Some(TAG), Some(DATE)));
        }
        for range in ["bytes=10-", "bytes=-0"] {
            let reply = found(&format!("{GET}\nRange: {range}"));
            assert_eq!((reply.status, reply.field("Content-Range")), (416, Some("bytes */10")), "{range}");
        }
        for range in ["bytes=1-2,4-5", "bytes=2-1", "items=0-1", "bytes"] {
            let reply = found(&format!("{GET}\nRange: {range}"));
            assert_eq!((reply.status, reply.text()), (200, "0123456789"), "{range}");
        }
        assert_eq!(
            found("HEAD /api/kv/a HTTP/1.1\nRange: bytes=0-1").status,
            200,
            "ranges are for GET alone"
        );
    }

    #[test]
    fn if_range_that_names_other_bytes_gives_the_whole() {
        for (validator, status) in [
            (TAG, 206),
            (DATE, 206),
            ("\"x\"", 200),
            (&*format!("W/{TAG}"), 200),
            ("Sun, 09 Sep 2001 01:46:29 GMT", 200),
            ("Sun, 09 Sep 2001 01:46:31 GMT", 200),
            ("yesterday", 200),
        ] {
            let reply = found(&format!("{GET}\nRange: bytes=0-1\nIf-Range: {validator}"));
            assert_eq!(reply.status, status, "{validator}");
        }
    }

    #[test]
    fn a_date_names_no_bytes_until_its_second_has_passed() {
        use super::super::tests::NOW;
        use crate::clock::Version;
        let mut young = entry(b"0123456789");
        young.meta.version = Version((NOW.unix_ms) << 16);
        let lines = format!("{GET}\nRange: bytes=0-1\nIf-Range: Sun, 09 Sep 2001 01:46:40 GMT");
        assert_eq!(Node::open().told(&lines, b"", Outcome::Found(young)).status, 200);
    }

    #[test]
    fn stored_codings_are_sent_as_they_are_to_who_accepts_them() {
        let (zipped, packed) = (gzip(b"hello"), zstd(b"hello"));
        for (encoding, bytes, name) in [(Encoding::Gzip, &zipped, "gzip"), (Encoding::Zstd, &packed, "zstd")]
        {
            for accepted in [name, "*", "br, gzip;q=0.1, zstd;q=0.001"] {
                let lines = format!("{GET}\nAccept-Encoding: {accepted}");
                let reply = Node::open().told(&lines, b"", Outcome::Found(coded(encoding, bytes)));
                assert_eq!((reply.status, &reply.body), (200, bytes), "{accepted}");
                assert_eq!((reply.field("Content-Encoding"), reply.field("ETag")), (Some(name), Some(TAG)));
                assert_eq!(reply.field("Vary"), Some("Accept-Encoding"));
                assert_eq!(reply.field("Accept-Ranges"), Some("bytes"));
                let part = Node::open().told(
                    &format!("{lines}\nRange: bytes=1-2"),
                    b"",
                    Outcome::Found(coded(encoding, bytes)),
                );
                assert_eq!((part.status, &part.body[..]), (206, &bytes[1..3]));
                assert_eq!(part.field("Content-Encoding"), Some(name));
            }
        }
    }

    #[test]
    fn others_get_the_decoded_bytes_under_a_tag_of_their_own_and_no_ranges() {
        let text = "hello ".repeat(3_000);
        let (zipped, packed) = (gzip(text.as_bytes()), zstd(text.as_bytes()));
        let decoded_tag = TAG.replace("07\"", "07-d\"");
        for (encoding, bytes) in [(Encoding::Gzip, &zipped), (Encoding::Zstd, &packed)] {
            for fields in [
                "",
                "\nAccept-Encoding: identity",
                "\nAccept-Encoding: gzip;q=0, zstd;q=0, br\nRange: bytes=0-1",
            ] {
                let reply =
                    Node::open().told(&format!("{GET}{fields}"), b"", Outcome::Found(coded(encoding, bytes)));
                assert_eq!((reply.status, reply.text() == text), (200, true), "{fields}");
                assert_eq!(reply.field("ETag"), Some(&*decoded_tag));
                assert_eq!(
                    (reply.field("Last-Modified"), reply.field("Vary")),
                    (Some(DATE), Some("Accept-Encoding"))
                );
                assert_eq!((reply.field("Accept-Ranges"), reply.field("Content-Encoding")), (None, None));
                let head = Node::open().told(
                    &format!("HEAD /api/kv/a HTTP/1.1{fields}"),
                    b"",
                    Outcome::Found(coded(encoding, bytes)),
                );
                assert_eq!((head.head, head.body.len()), (reply.head, 0));
            }
            for (tag, status) in [(&*decoded_tag, 304), (TAG, 200), ("*", 304)] {
                let lines = format!("{GET}\nIf-None-Match: {tag}");
                let reply = Node::open().told(&lines, b"", Outcome::Found(coded(encoding, bytes)));
                assert_eq!((reply.status, reply.field("ETag")), (status, Some(&*decoded_tag)), "{tag}");
                assert_eq!(reply.field("Vary"), Some("Accept-Encoding"));
            }
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_406_unless_it_is_accepted_as_it_is() {
        let bomb = zstd(&[0; 100_001]);
        let fits = zstd(&[0; 100_000]);
        for (encoding, bytes, status) in [
            (Encoding::Gzip, &b"not gzip"[..], 406),
            (Encoding::Zstd, &b"not zstd"[..], 406),
            (Encoding::Zstd, &bomb, 406),
            (Encoding::Zstd, &fits, 200),
        ] {
            let reply = Node::open().told(GET, b"", Outcome::Found(coded(encoding, bytes)));
            assert_eq!((reply.status, reply.field("Vary")), (status, Some("Accept-Encoding")));
            let lines = format!("{GET}\nAccept-Encoding: *");
            assert_eq!(Node::open().told(&lines, b"", Outcome::Found(coded(encoding, bytes))).body, bytes);
        }
    }

    #[test]
    fn deleted_bytes_are_decoded_where_they_can_be_and_never_lost() {
        let lines = "DELETE /api/kv/a HTTP/1.1\nPrefer: return=representation";
        let zipped = gzip(b"gone");
        let delete = |lines: &str, bytes| {
            Node::open().told(lines, b"", Outcome::Deleted(Some(coded(Encoding::Gzip, bytes))))
        };
        let reply = delete(lines, &zipped);
        assert_eq!((reply.status, reply.text(), reply.field("Content-Encoding")), (200, "gone", None));
        let reply = delete(lines, b"damaged");
        assert_eq!(
            (reply.status, reply.text(), reply.field("Content-Encoding")),
            (200, "damaged", Some("gzip"))
        );
        let reply = delete(&format!("{lines}\nAccept-Encoding: gzip"), &zipped);
        assert_eq!((&reply.body, reply.field("Content-Encoding")), (&zipped, Some("gzip")));
    }

    #[test]
    fn a_content_type_cannot_break_the_head() {
        let evil = Entry { content_type: b"a\r\nSet-Cookie: b", ..entry(b"x") };
        let reply = Node::open().told(GET, b"", Outcome::Found(evil));
        assert_eq!(reply.field("Content-Type"), Some("a  Set-Cookie: b"));
    }
}
