//! The header fields that the node understands, and how their list values are taken apart.
//!
//! Owns the names and which of them may stand more than once. Every other field is syntax-checked
//! by the head parser and passed over.

/// A field whose value a [`super::Request`] keeps for whoever serves it. Fields that decide about
/// the message itself (Host, Content-Length, Transfer-Encoding, Connection, Expect) are settled by
/// the head parser and not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // each is the field of its name
pub enum Field {
    Authorization,
    Token,
    ContentType,
    Accept,
    AcceptEncoding,
    ContentEncoding,
    IfMatch,
    IfNoneMatch,
    IfRange,
    Range,
    Prefer,
    CacheControl,
    XTtl,
    XFencingToken,
    XApp,
    Origin,
    AccessControlRequestMethod,
    AccessControlRequestHeaders,
}

impl Field {
    /// How many there are.
    pub const COUNT: usize = Field::AccessControlRequestHeaders as usize + 1;

    /// Whether the field's value is a list that may be spread over several lines (RFC 9110,
    /// section 5.3). Any other may stand once. Content-Encoding is a list by the RFC, but the node
    /// keeps a single coding, so that a second line could only be misread.
    pub const fn is_list(self) -> bool {
        matches!(
            self,
            Field::Accept
                | Field::AcceptEncoding
                | Field::IfMatch
                | Field::IfNoneMatch
                | Field::Prefer
                | Field::CacheControl
                | Field::AccessControlRequestHeaders
        )
    }

    /// The field's bit in a set of fields.
    pub(super) const fn bit(self) -> u32 {
        1 << self as u8
    }
}

const _: () = assert!(Field::COUNT <= u32::BITS as usize);

/// A field name the head parser knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Expect,
    Kept(Field),
}

/// Finds a name, whatever its case. The length alone leaves at most four names to compare with.
pub(super) fn known(name: &[u8]) -> Option<Known> {
    use Known::Kept;
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    let found = match name.len() {
        4 if is(b"host") => Known::Host,
        5 if is(b"token") => Kept(Field::Token),
        5 if is(b"x-ttl") => Kept(Field::XTtl),
        5 if is(b"x-app") => Kept(Field::XApp),
        5 if is(b"range") => Kept(Field::Range),
        6 if is(b"accept") => Kept(Field::Accept),
        6 if is(b"origin") => Kept(Field::Origin),
        6 if is(b"prefer") => Kept(Field::Prefer),
        6 if is(b"expect") => Known::Expect,
        8 if is(b"if-match") => Kept(Field::IfMatch),
        8 if is(b"if-range") => Kept(Field::IfRange),
        10 if is(b"connection") => Known::Connection,
        12 if is(b"content-type") => Kept(Field::ContentType),
        13 if is(b"authorization") => Kept(Field::Authorization),
        13 if is(b"if-none-match") => Kept(Field::IfNoneMatch),
        13 if is(b"cache-control") => Kept(Field::CacheControl),
        14 if is(b"content-length") => Known::ContentLength,
        15 if is(b"accept-encoding") => Kept(Field::AcceptEncoding),
        15 if is(b"x-fencing-token") => Kept(Field::XFencingToken),
        16 if is(b"content-encoding") => Kept(Field::ContentEncoding),
        17 if is(b"transfer-encoding") => Known::TransferEncoding,
        29 if is(b"access-control-request-method") => Kept(Field::AccessControlRequestMethod),
        30 if is(b"access-control-request-headers") => Kept(Field::AccessControlRequestHeaders),
        _ => return None,
    };
    Some(found)
}

/// Whether a byte may stand in a token (RFC 9110, section 5.6.2).
pub(super) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Whether a byte may stand in a field value (RFC 9110, section 5.5).
pub(super) const fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// Takes optional whitespace (spaces and tabs, nothing else) off both ends.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The elements of a comma-separated list, trimmed, empty ones left out (RFC 9110, section 5.6.1).
/// A comma within double quotes belongs to its element.
pub fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    split(list, b',').filter(|element| !element.is_empty())
}

/// The trimmed parts between separators that stand outside double quotes.
pub(super) fn split(list: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let list = rest?;
        let end = find_unquoted(list, separator);
        rest = end.map(|end| &list[end + 1..]);
        Some(trim(&list[..end.unwrap_or(list.len())]))
    })
}

fn find_unquoted(list: &[u8], separator: u8) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    list.iter().position(|&byte| {
        let found = byte == separator && !quoted;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        found
    })
}

#[cfg(test)]
mod tests {
    use super::{Field, Known, elements, known, trim};

    #[test]
    fn names_are_found_in_any_case_and_nothing_else_is() {
        assert_eq!(known(b"Host"), Some(Known::Host));
        assert_eq!(known(b"hOST"), Some(Known::Host));
        assert_eq!(known(b"CONTENT-LENGTH"), Some(Known::ContentLength));
        assert_eq!(known(b"X-Fencing-Token"), Some(Known::Kept(Field::XFencingToken)));
        for name in ["", "h", "hosts", "h0st", "content_length", "range\0", "user-agent", "x-ttk"] {
            assert_eq!(known(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn a_list_is_split_at_commas_outside_quotes() {
        let list: Vec<&[u8]> = elements(b" a ,, b;q=\"x,\\\",y\"\t, \"c ,d\" ,").collect();
        assert_eq!(list, [&b"a"[..], b"b;q=\"x,\\\",y\"", b"\"c ,d\""]);
        assert_eq!(elements(b" , ,\t").count(), 0);
        assert_eq!(elements(b"").count(), 0);
        assert_eq!(elements(b"\"open, quote").count(), 1);
    }

    #[test]
    fn only_spaces_and_tabs_are_trimmed() {
        assert_eq!(trim(b" \t a\tb \t"), b"a\tb");
        assert_eq!(trim(b"\x0ba\x0c"), b"\x0ba\x0c");
        assert_eq!(trim(b" \t "), b"");
    }
}
