//! Request targets (RFC 9112, section 3.2), the authority they or `Host` name (RFC 3986, section
//! 3.2), and percent-decoding.
//!
//! Of the target's bytes, printable ASCII but `#` passes: characters that a URI should have escaped
//! (`|`, `"`, `{`, …) are data to a key-value store and cannot change where a request ends.

use std::borrow::Cow;
use std::net::Ipv6Addr;
use std::ops::Range;

use super::Refusal;
use super::request::Method;

/// Where path and query are in a target.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub path: Range<usize>,
    pub query: Option<Range<usize>>,
}

/// Finds path and query of a target in origin, absolute or asterisk form. Authority form belongs to
/// CONNECT, which is refused as a method.
///
/// An absolute target without a path has the path `/`: the range names one of the slashes before
/// its authority, so that there are bytes to point at.
pub(super) fn split(target: &[u8], method: Method) -> Result<Parts, Refusal> {
    if !target.is_ascii() {
        return Err(Refusal::BadRequest("a byte of the target is not ASCII"));
    }
    if target.first() == Some(&b'/') {
        return split_path(target, 0);
    }
    if target == b"*" && method == Method::Options {
        return Ok(Parts { path: 0..1, query: None });
    }
    split_absolute(target)
}

fn split_path(target: &[u8], path_at: usize) -> Result<Parts, Refusal> {
    let rest = &target[path_at..];
    let Some(mark) = memchr::memchr2(b'?', b'#', rest) else {
        return Ok(Parts { path: path_at..target.len(), query: None });
    };
    let query_at = path_at + mark + 1;
    if rest[mark] == b'#' || memchr::memchr(b'#', &rest[mark + 1..]).is_some() {
        return Err(Refusal::BadRequest("the target has a fragment"));
    }
    Ok(Parts { path: path_at..query_at - 1, query: Some(query_at..target.len()) })
}

#[cold]
fn split_absolute(target: &[u8]) -> Result<Parts, Refusal> {
    const MALFORMED: Refusal = Refusal::BadRequest("the target is neither a path nor an http URI");
    let authority_at = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.len() > scheme.len() && target[..scheme.len()].eq_ignore_ascii_case(scheme))
        .ok_or(MALFORMED)?
        .len();
    let authority_len = target[authority_at..]
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'))
        .unwrap_or(target.len() - authority_at);
    let path_at = authority_at + authority_len;
    let authority = &target[authority_at..path_at];
    if !is_authority(authority) || matches!(authority, [] | [b':', ..]) {
        return Err(MALFORMED);
    }
    let mut parts = split_path(target, path_at)?;
    if parts.path.is_empty() {
        parts.path = authority_at - 1..authority_at;
    }
    Ok(parts)
}

/// Whether a value is `uri-host [ ":" port ]`. The host may be empty, the port may be empty, and
/// there is no user information.
pub(super) fn is_authority(value: &[u8]) -> bool {
    let host_len = value.iter().position(|&byte| !is_plain_host_byte(byte)).unwrap_or(value.len());
    match &value[host_len..] {
        [] => true,
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        [b'[', ..] if host_len == 0 => is_bracketed_authority(value),
        _ => is_escaped_authority(value),
    }
}

/// Unreserved characters and sub-delimiters: what a registered name is made of beside escapes.
const fn is_plain_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
        )
}

#[cold]
fn is_bracketed_authority(value: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b']', value) else { return false };
    let port_is_fine = match &value[end + 1..] {
        [] => true,
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let address = &value[1..end];
    let address_is_fine = match address {
        [b'v' | b'V', future @ ..] => memchr::memchr(b'.', future).is_some_and(|dot| {
            let (version, name) = (&future[..dot], &future[dot + 1..]);
            !version.is_empty()
                && version.iter().all(u8::is_ascii_hexdigit)
                && !name.is_empty()
                && name.iter().all(|&byte| is_plain_host_byte(byte) || byte == b':')
        }),
        _ => std::str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok()),
    };
    port_is_fine && address_is_fine
}

#[cold]
fn is_escaped_authority(mut value: &[u8]) -> bool {
    loop {
        value = match value {
            [] => return true,
            [b':', port @ ..] => return port.iter().all(u8::is_ascii_digit),
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if is_plain_host_byte(*byte) => rest,
            _ => return false,
        }
    }
}

/// A `%` that two hexadecimal digits do not follow. Answered 400, but no reason to close: the head
/// it stands in was well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadEscape;

/// Decodes percent-escapes once, in place, and says how many bytes are left. `+` stays a plus.
pub fn decode_in_place(bytes: &mut [u8]) -> Result<usize, BadEscape> {
    let Some(first) = memchr::memchr(b'%', bytes) else { return Ok(bytes.len()) };
    let (mut from, mut to) = (first, first);
    while from < bytes.len() {
        let mut byte = bytes[from];
        from += 1;
        if byte == b'%' {
            byte = escape(&bytes[from..])?;
            from += 2;
        }
        bytes[to] = byte;
        to += 1;
    }
    Ok(to)
}

/// The byte that the two digits behind a `%` name.
fn escape(digits: &[u8]) -> Result<u8, BadEscape> {
    let &[high, low, ..] = digits else { return Err(BadEscape) };
    match (char::from(high).to_digit(16), char::from(low).to_digit(16)) {
        (Some(high), Some(low)) => Ok((high << 4 | low) as u8),
        _ => Err(BadEscape),
    }
}

/// Appends bytes so that they can stand in a query: all but unreserved characters escaped (RFC 3986,
/// section 2.3).
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// A name and its value.
pub type Pair<'q> = (Cow<'q, [u8]>, Cow<'q, [u8]>);

/// The pairs of a query or of a form body (`a=1&b=x+y`), decoded: `+` is a space. A name without
/// `=` has an empty value; empty pairs are passed over. Allocates only for what holds an escape.
pub fn query_pairs(query: &[u8]) -> impl Iterator<Item = Result<Pair<'_>, BadEscape>> {
    query.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let end = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        let value = pair.get(end + 1..).unwrap_or_default();
        Ok((decode_form(&pair[..end])?, decode_form(value)?))
    })
}

fn decode_form(text: &[u8]) -> Result<Cow<'_, [u8]>, BadEscape> {
    if memchr::memchr2(b'%', b'+', text).is_none() {
        return Ok(Cow::Borrowed(text));
    }
    let mut owned = text.to_vec();
    for byte in owned.iter_mut().filter(|byte| **byte == b'+') {
        *byte = b' ';
    }
    let len = decode_in_place(&mut owned)?;
    owned.truncate(len);
    Ok(Cow::Owned(owned))
}

#[cfg(test)]
mod tests {
    use super::{BadEscape, Pair, decode_in_place, is_authority, query_pairs, split};
    use crate::http::Method;

    fn parts(target: &str) -> Option<(&str, Option<&str>)> {
        let parts = split(target.as_bytes(), Method::Get).ok()?;
        Some((&target[parts.path], parts.query.map(|query| &target[query])))
    }

    #[test]
    fn a_target_is_split_at_its_first_question_mark() {
        for (target, path, query) in [
            ("/", "/", None),
            ("/a/b", "/a/b", None),
            ("//a//b/../c", "//a//b/../c", None),
            ("/a?", "/a", Some("")),
            ("/a?b?c=/d", "/a", Some("b?c=/d")),
            ("/?x", "/", Some("x")),
            ("/%23|\"<>{}[]\\^`", "/%23|\"<>{}[]\\^`", None),
        ] {
            assert_eq!(parts(target), Some((path, query)), "{target}");
        }
    }

    #[test]
    fn an_absolute_target_gives_its_path() {
        for (target, path, query) in [
            ("http://h/a?b", "/a", Some("b")),
            ("HTTPS://h:7021/a", "/a", None),
            ("http://h", "/", None),
            ("https://[::1]:1", "/", None),
            ("http://h?q=/", "/", Some("q=/")),
            ("http://h/http://i/", "/http://i/", None),
        ] {
            assert_eq!(parts(target), Some((path, query)), "{target}");
        }
        for target in [
            "http://",
            "http:///a",
            "http://:80/",
            "http://u@h/",
            "http:/h/",
            "ftp://h/",
            "h:80",
            "*",
            "a",
            "?",
        ] {
            assert_eq!(parts(target), None, "{target}");
        }
    }

    #[test]
    fn a_fragment_is_refused_wherever_it_stands() {
        for target in ["/#", "/a#b", "/a?b#c", "/a#b?c", "http://h#f", "http://h/#f", "http://h?q#f", "#"] {
            assert_eq!(parts(target), None, "{target}");
        }
    }

    #[test]
    fn an_asterisk_is_for_options_only() {
        let star = split(b"*", Method::Options).unwrap();
        assert_eq!((star.path, star.query), (0..1, None));
        assert!(split(b"**", Method::Options).is_err());
        assert!(split(b"*", Method::Head).is_err());
    }

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        for good in [
            "",
            "a",
            "localhost",
            "127.0.0.1:7020",
            "a:",
            ":",
            ":80",
            "a_b.example:65536",
            "%41%2e",
            "a%20:1",
            "[::1]",
            "[::1]:7020",
            "[::ffff:1.2.3.4]:",
            "[v1.a:b]",
            "xn--bcher-kva.example",
            "a,b;c=d!$&'()*+",
        ] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            " ",
            "a b",
            "a/b",
            "u@h",
            "a:b",
            "a:1:2",
            "a:+1",
            "a:80 ",
            "%",
            "%4",
            "%zz",
            "%41@",
            "[::1",
            "::1",
            "[]",
            "[g::]",
            "[::1]x",
            "[::1]:x",
            "[::1%25eth0]",
            "[v.a]",
            "[vg.a]",
            "[v1.]",
            "a[::1]",
            "a\"",
            "<a>",
            "a\\b",
            "h\u{fc}",
            "a\0",
            "a#",
            "a?",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    fn decoded(text: &[u8]) -> Result<Vec<u8>, BadEscape> {
        let mut bytes = text.to_vec();
        let len = decode_in_place(&mut bytes)?;
        bytes.truncate(len);
        Ok(bytes)
    }

    #[test]
    fn escapes_are_decoded_once_and_a_plus_stays() {
        assert_eq!(decoded(b"a+b%2Fc%2f%2525%00%fF").unwrap(), b"a+b/c/%25\0\xff");
        assert_eq!(decoded(b"").unwrap(), b"");
        for bad in ["%", "%4", "a%", "%g0", "%0g", "%%41", "%+1", "% 1", "%-1", "a%41%"] {
            assert_eq!(decoded(bad.as_bytes()), Err(BadEscape), "{bad}");
        }
    }

    #[test]
    fn every_byte_survives_its_escape() {
        for byte in 0..=255_u8 {
            assert_eq!(decoded(format!("%{byte:02x}").as_bytes()).unwrap(), [byte]);
            assert_eq!(decoded(format!("x%{byte:02X}y").as_bytes()).unwrap(), [b'x', byte, b'y']);
        }
    }

    #[test]
    fn a_query_gives_its_pairs_in_order() {
        let pairs: Vec<Pair<'_>> =
            query_pairs(b"a=1&&b&c=&=d&e=f=g&h+i=%2B+%26&a=2").collect::<Result<_, _>>().unwrap();
        let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        assert_eq!(
            pairs,
            [
                (&b"a"[..], &b"1"[..]),
                (b"b", b""),
                (b"c", b""),
                (b"", b"d"),
                (b"e", b"f=g"),
                (b"h i", b"+ &"),
                (b"a", b"2")
            ]
        );
        assert_eq!(query_pairs(b"").count(), 0);
        assert!(query_pairs(b"a=1&b=%zz").nth(1).unwrap().is_err());
        assert!(query_pairs(b"%=1").next().unwrap().is_err());
    }
}
