//! Entity tags (RFC 9110, section 8.8.3): how a version looks to a client, and how the lists of
//! `If-Match` and `If-None-Match` are read.
//!
//! A tag is the boot id in 8 hexadecimal digits and the version in 16. The boot id is drawn at
//! random when the node starts without a log to go on from, so a restart never reuses a tag for
//! other bytes. `-d` behind it marks the decoded form of a value stored with a content coding.

use crate::clock::Version;

/// Length of a tag with its quotes, without the mark of a decoded form.
pub const TAG_BYTES: usize = 26;

/// Makes and recognises the entity tags of this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tags {
    boot: [u8; 8],
}

impl Tags {
    /// Tags of the boot with this id.
    pub fn new(boot_id: u32) -> Tags {
        Tags { boot: hex(boot_id) }
    }

    /// The strong tag of a version, quotes included.
    pub fn tag(&self, version: Version) -> [u8; TAG_BYTES] {
        let mut tag = [b'"'; TAG_BYTES];
        tag[1..9].copy_from_slice(&self.boot);
        write_version(&mut tag, version);
        tag
    }

    /// Whether a field value of `If-Match` names this version: `*`, or a list with its strong tag.
    /// The tag of the decoded form counts too, since both name the same write.
    pub fn matches_strong(&self, list: &[u8], version: Version) -> bool {
        self.matches(list, version, |weak, _| !weak)
    }

    /// Whether a field value of `If-None-Match` names this version, compared weakly. `decoded` says
    /// which of the two forms would be sent.
    pub fn matches_weak(&self, list: &[u8], version: Version, decoded: bool) -> bool {
        self.matches(list, version, |_, tag_decoded| tag_decoded == decoded)
    }

    fn matches(&self, list: &[u8], version: Version, accept: impl Fn(bool, bool) -> bool) -> bool {
        if list.trim_ascii() == b"*" {
            return true;
        }
        let own = self.tag(version);
        let own = &own[1..TAG_BYTES - 1];
        for_each_tag(list, |weak, opaque| match opaque.strip_prefix(own) {
            Some(b"") => accept(weak, false),
            Some(b"-d") => accept(weak, true),
            _ => false,
        })
    }
}

/// Makes the strong tag at the start of `tag` that of another version.
#[inline]
pub fn write_version(tag: &mut [u8], version: Version) {
    tag[9..17].copy_from_slice(&hex((version.0 >> 32) as u32));
    tag[17..25].copy_from_slice(&hex(version.0 as u32));
}

/// Calls `found` for each tag of a list until it answers true. A malformed rest is passed over:
/// what is not a tag can match nothing. Commas within quotes belong to the tag.
fn for_each_tag(mut list: &[u8], mut found: impl FnMut(bool, &[u8]) -> bool) -> bool {
    loop {
        list = list.trim_ascii_start();
        let weak = list.starts_with(b"W/");
        let quoted = if weak { &list[2..] } else { list };
        let split = quoted
            .strip_prefix(b"\"")
            .and_then(|rest| memchr::memchr(b'"', rest).map(|end| rest.split_at(end)));
        if let Some((opaque, rest)) = split {
            if found(weak, opaque) {
                return true;
            }
            list = &rest[1..];
        }
        match memchr::memchr(b',', list) {
            Some(comma) => list = &list[comma + 1..],
            None => return false,
        }
    }
}

/// The eight hexadecimal digits of a number, all at once: each half of a byte is spread to a byte of
/// its own, and those above 9 are moved from behind `9` to `a`.
fn hex(number: u32) -> [u8; 8] {
    let spread = u64::from(number);
    let spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    let spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = (spread + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (spread + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'9' - 1)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::Tags;
    use crate::clock::Version;

    const TAGS: fn() -> Tags = || Tags::new(0xb007_1d00);

    #[test]
    fn a_tag_is_the_boot_id_and_the_version() {
        assert_eq!(&TAGS().tag(Version(0x0123_4567_89ab_cdef)), b"\"b0071d000123456789abcdef\"");
    }

    #[test]
    fn every_digit_comes_out_at_every_place() {
        for digit in 0..16 {
            for place in 0..8 {
                let number = digit << (4 * place);
                assert_eq!(super::hex(number), *format!("{number:08x}").as_bytes());
            }
        }
    }

    #[test]
    fn if_match_takes_a_star_a_list_and_the_decoded_form_but_no_weak_tag() {
        let (tags, version) = (TAGS(), Version(7));
        let tag = String::from_utf8(tags.tag(version).to_vec()).unwrap();
        let decoded = format!("{}-d\"", &tag[..tag.len() - 1]);
        for list in ["*".into(), tag.clone(), format!("\"x,y\" , {tag}"), decoded, format!("junk, {tag}")] {
            assert!(tags.matches_strong(list.as_bytes(), version), "{list}");
        }
        for list in
            ["".into(), "\"*\"".into(), format!("W/{tag}"), tag.replace("07\"", "08\""), tag.replace('"', "")]
        {
            assert!(!tags.matches_strong(list.as_bytes(), version), "{list}");
        }
    }

    #[test]
    fn if_none_match_compares_weakly_within_one_form() {
        let (tags, version) = (TAGS(), Version(7));
        let tag = String::from_utf8(tags.tag(version).to_vec()).unwrap();
        assert!(tags.matches_weak(format!("W/{tag}").as_bytes(), version, false));
        assert!(!tags.matches_weak(tag.as_bytes(), version, true));
    }
}
