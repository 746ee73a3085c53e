//! Times in JSON: RFC 3339 in seconds, read in any offset and written in UTC.

const DAY_SECONDS: i64 = 86_400;

/// Appends a time (Unix seconds) with its quotes.
pub(super) fn write(out: &mut Vec<u8>, unix_seconds: u64) {
    let days = unix_seconds / DAY_SECONDS as u64;
    let (year, month, day) = civil(days as i64);
    let second = unix_seconds % DAY_SECONDS as u64;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    out.extend_from_slice(
        format!("\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z\"").as_bytes(),
    );
}

/// Reads a time (RFC 3339, section 5.6), from 1970 on. Fractions of a second are cut off, a leap second is
/// the one after it.
pub(super) fn read(text: &str) -> Option<u64> {
    let (date, time) = text.as_bytes().split_at_checked(10)?;
    let [year @ .., b'-', m1, m2, b'-', d1, d2] = date else { return None };
    let (year, month, day) = (number(year)?, number(&[*m1, *m2])?, number(&[*d1, *d2])?);
    let time = time.strip_prefix(b"T").or_else(|| time.strip_prefix(b"t"))?;
    let (clock, rest) = time.split_at_checked(8)?;
    let (hour, minute, second) = {
        let [h1, h2, b':', m1, m2, b':', s1, s2] = clock else { return None };
        (number(&[*h1, *h2])?, number(&[*m1, *m2])?, number(&[*s1, *s2])?)
    };
    let offset_minutes = offset(cut_fraction(rest)?)?;
    let good = (1..=12).contains(&month)
        && (1..=month_days(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !good {
        return None;
    }
    let of_day = hour * 3_600 + minute * 60 + second - offset_minutes * 60;
    u64::try_from(days_since_1970(year, month, day) * DAY_SECONDS + of_day).ok()
}

fn cut_fraction(rest: &[u8]) -> Option<&[u8]> {
    let Some(fraction) = rest.strip_prefix(b".") else { return Some(rest) };
    let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (digits > 0).then(|| &fraction[digits..])
}

/// Minutes east of UTC.
fn offset(text: &[u8]) -> Option<i64> {
    match text {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            let east = (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)?;
            Some(if *sign == b'+' { east } else { -east })
        }
        _ => None,
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Howard Hinnant's algorithms on the proleptic Gregorian calendar, whose years begin in March here.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::{read, write};

    fn written(unix_seconds: u64) -> String {
        let mut out = Vec::new();
        write(&mut out, unix_seconds);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_written_in_utc_and_read_back() {
        for (unix_seconds, text) in [
            (0, "\"1970-01-01T00:00:00Z\""),
            (951_782_400, "\"2000-02-29T00:00:00Z\""),
            (1_000_000_000, "\"2001-09-09T01:46:40Z\""),
            (1_798_761_599, "\"2026-12-31T23:59:59Z\""),
            (4_107_542_400, "\"2100-03-01T00:00:00Z\""),
            (253_402_300_799, "\"9999-12-31T23:59:59Z\""),
        ] {
            assert_eq!(written(unix_seconds), text);
            assert_eq!(read(text.trim_matches('"')), Some(unix_seconds));
        }
        for day in 0..200_000 {
            let noon = day * 86_400 + 43_200;
            assert_eq!(read(written(noon).trim_matches('"')), Some(noon));
        }
    }

    #[test]
    fn offsets_fractions_and_leap_seconds_are_read() {
        for (text, unix_seconds) in [
            ("1970-01-01T01:00:00+01:00", Some(0)),
            ("1969-12-31T19:00:00-05:00", Some(0)),
            ("1970-01-01t00:00:01z", Some(1)),
            ("1970-01-01T00:00:01.999Z", Some(1)),
            ("1990-12-31T23:59:60Z", Some(662_688_000)),
            ("1969-12-31T23:59:59Z", None),
            ("1970-01-01T00:00:00+00:01", None),
        ] {
            assert_eq!(read(text), unix_seconds, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "tomorrow",
            "2026",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-01-01 00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1:00",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00+00:60",
            "2026-01-01T00:00:00ZZ",
            "+026-01-01T00:00:00Z",
            "2026-01-01T00:00:00\u{e9}",
            "20260-1-01T00:00:00Z",
            "\u{e9}026-01-01T00:00:00Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
