//! Keys as they are typed, as they stand in a URL, and as they are shown.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::Args;

use crate::cli::failure::{Exit, Failure};
use crate::config::problem::escaped;
use crate::limits::KEY_BYTES_MAX;

/// The key of a request.
#[derive(Args, Clone, Debug)]
pub struct KeyArgs {
    /// The key: 1 to 1024 bytes of any kind
    #[arg(value_name = "KEY")]
    key: OsString,
    /// KEY is percent-encoded, as `lucid list --encoded` prints keys
    #[arg(long)]
    encoded: bool,
}

impl KeyArgs {
    /// The bytes of the key.
    pub fn bytes(&self) -> Result<Vec<u8>, Failure> {
        let typed = self.key.clone().into_vec();
        let key = match self.encoded {
            true => percent_decoded(&typed).ok_or_else(|| {
                Failure::new(Exit::Usage, "the key is not percent-encoded: a % has no two digits behind it")
            })?,
            false => typed,
        };
        match key.len() {
            0 => Err(Failure::new(Exit::Usage, "the key is empty; a key has at least one byte")),
            1..=KEY_BYTES_MAX => Ok(key),
            length => Err(Failure::new(
                Exit::Usage,
                format!("the key has {length} bytes; a key has at most {KEY_BYTES_MAX}"),
            )),
        }
    }
}

/// Every byte but the unreserved ones of RFC 3986 as `%XX`. A key made of dots alone would be taken
/// for a way up by whoever stands between, so its dots are encoded too.
pub fn percent_encoded(bytes: &[u8]) -> String {
    let dots = matches!(bytes, b"." | b"..");
    let mut text = String::with_capacity(3 * bytes.len());
    for &byte in bytes {
        let plain = byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) || byte == b'.' && !dots;
        match plain {
            true => text.push(char::from(byte)),
            false => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// The bytes that a percent-encoded text stands for.
fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        let (byte, after) = match (first, behind) {
            (b'%', [high, low, after @ ..]) => (digit(*high)? << 4 | digit(*low)?, after),
            (b'%', _) => return None,
            plain => plain,
        };
        bytes.push(byte);
        rest = after;
    }
    Some(bytes)
}

/// A key for people: nothing in it moves a cursor.
pub fn shown(key: &[u8]) -> String {
    escaped(&String::from_utf8_lossy(key))
}

#[cfg(test)]
mod tests {
    use super::{KeyArgs, percent_decoded, percent_encoded, shown};

    fn key(key: impl Into<std::ffi::OsString>, encoded: bool) -> KeyArgs {
        KeyArgs { key: key.into(), encoded }
    }

    #[test]
    fn any_bytes_survive_the_way_into_a_url_and_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(percent_decoded(percent_encoded(&all).as_bytes()), Some(all.clone()));
        assert!(
            percent_encoded(&all)
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"%-._~".contains(&byte))
        );
        assert_eq!(percent_encoded("a/b c?+é%".as_bytes()), "a%2Fb%20c%3F%2B%C3%A9%25");
        assert_eq!(
            [".", "..", "...", "a.b"].map(|key| percent_encoded(key.as_bytes())),
            ["%2E", "%2E%2E", "...", "a.b"]
        );
    }

    #[test]
    fn a_broken_escape_is_no_key() {
        for text in ["%", "%2", "a%zz", "%2g", "%+1"] {
            assert_eq!(percent_decoded(text.as_bytes()), None, "{text}");
            assert!(key(text, true).bytes().is_err());
            assert_eq!(key(text, false).bytes().unwrap(), text.as_bytes());
        }
        assert_eq!(key("%00%ff", true).bytes().unwrap(), b"\0\xff");
    }

    #[test]
    fn a_key_has_1_to_1024_bytes() {
        assert!(key("", false).bytes().is_err());
        assert!(key("k", false).bytes().is_ok());
        assert!(key("k".repeat(1_024), false).bytes().is_ok());
        assert!(key("k".repeat(1_025), false).bytes().is_err());
        assert!(key("%6b".repeat(1_024), true).bytes().is_ok());
    }

    #[test]
    fn a_shown_key_moves_no_cursor() {
        assert_eq!(shown(b"a\x1b[2Jb\xff"), "a\\u{1b}[2Jb\u{fffd}");
    }
}
