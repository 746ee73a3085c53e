//! From when until when a certificate is good: the one thing of it that its owner must be told in time.
//!
//! Walks the DER of RFC 5280, section 4.1, as far as the validity. Whether the rest is in order is for
//! rustls and the clients to judge.

/// From when until when a certificate is good, in seconds since the Unix epoch, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from: i64,
    /// The last second.
    pub until: i64,
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT`, around the version.
const VERSION: u8 = 0xa0;

/// Reads it from a certificate. `None` for what is none.
pub fn validity(certificate: &[u8]) -> Option<Validity> {
    let mut outer = element(&mut &*certificate, SEQUENCE)?;
    let mut fields = element(&mut outer, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        element(&mut fields, VERSION)?;
    }
    element(&mut fields, INTEGER)?; // serial number
    element(&mut fields, SEQUENCE)?; // algorithm of the signature
    element(&mut fields, SEQUENCE)?; // issuer
    let mut validity = element(&mut fields, SEQUENCE)?;
    Some(Validity { from: time(&mut validity)?, until: time(&mut validity)? })
}

/// Takes an element with this tag off the front, and gives what is in it.
fn element<'d>(rest: &mut &'d [u8], tag: u8) -> Option<&'d [u8]> {
    let (&[first, length], after) = rest.split_first_chunk::<2>()?;
    if first != tag {
        return None;
    }
    let (length, after) = match length {
        // Up to 127 in one byte, otherwise the number of bytes that hold it.
        0..=0x7f => (usize::from(length), after),
        0x81..=0x84 => {
            let (bytes, after) = after.split_at_checked(usize::from(length & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), after)
        }
        _ => return None,
    };
    let (content, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(content)
}

/// `YYMMDDHHMMSSZ`, which stands for 1950 to 2049, or `YYYYMMDDHHMMSSZ` (RFC 5280, section 4.1.2.5).
fn time(rest: &mut &[u8]) -> Option<i64> {
    let (text, short) = match rest.first()? {
        &UTC_TIME => (element(rest, UTC_TIME)?, true),
        _ => (element(rest, GENERALIZED_TIME)?, false),
    };
    let (&b'Z', digits) = text.split_last()? else { return None };
    let (year, digits) = match digits.len() {
        12 if short => {
            let (year, digits) = digits.split_at(2);
            let year = number(year)?;
            (if year < 50 { 2_000 + year } else { 1_900 + year }, digits)
        }
        14 if !short => {
            let (year, digits) = digits.split_at(4);
            (number(year)?, digits)
        }
        _ => return None,
    };
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let &[month, day, hour, minute, second] = pairs else { return None };
    let [month, day, hour, minute, second] =
        [number(&month)?, number(&day)?, number(&hour)?, number(&minute)?, number(&second)?];
    let is_time =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    is_time.then(|| ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

/// Days from the Unix epoch to a date. Years are counted from March, in eras of 400 (H. Hinnant,
/// "chrono-compatible low-level date algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::{Validity, days, time, validity};

    fn certificate(from: (i32, u8, u8), until: (i32, u8, u8)) -> Vec<u8> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_time_are_read() {
        const DAY: i64 = 86_400;
        for (from, until, days) in [
            ((1970, 1, 1), (1970, 1, 2), (0, 1)),
            ((2000, 2, 29), (2049, 12, 31), (11_016, 29_219)),
            // Beyond 2049 it is written with four digits of the year.
            ((2026, 11, 21), (2050, 1, 1), (20_778, 29_220)),
            ((1960, 3, 1), (2400, 2, 29), (-3_593, 157_113)),
        ] {
            let expected = Validity { from: days.0 * DAY, until: days.1 * DAY };
            assert_eq!(validity(&certificate(from, until)), Some(expected), "{from:?} {until:?}");
        }
    }

    #[test]
    fn days_agree_with_counting() {
        let leap = |year: i64| year % 4 == 0 && year % 100 != 0 || year % 400 == 0;
        let mut expected = days(1899, 12, 31);
        for year in 1900..2110 {
            for month in 1..=12 {
                let length = match month {
                    2 => 28 + i64::from(leap(year)),
                    4 | 6 | 9 | 11 => 30,
                    _ => 31,
                };
                for day in 1..=length {
                    expected += 1;
                    assert_eq!(days(year, month, day), expected, "{year}-{month}-{day}");
                }
            }
        }
        assert_eq!(days(1970, 1, 1), 0);
    }

    #[test]
    fn what_is_cut_off_or_changed_is_no_certificate_and_no_panic() {
        let good = certificate((2020, 1, 1), (2030, 1, 1));
        for length in 0..good.len() {
            assert_eq!(validity(&good[..length]), None, "{length} bytes");
        }
        for at in 0..200.min(good.len()) {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let _ = validity(&bad);
            }
        }
        for text in [
            &b"\x17\x0d260101000000+"[..],
            b"\x17\x0d261301000000Z",
            b"\x18\x0d260101000000Z",
            b"\x17\x00",
            b"\x17",
        ] {
            assert_eq!(time(&mut &*text), None, "{text:?}");
        }
    }
}
