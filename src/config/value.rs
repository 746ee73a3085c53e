//! What the texts of single settings mean. A text that means nothing is answered with what was
//! expected, never with the text itself, which might be a secret in the wrong place.

use std::time::Duration;

use super::problem::{nearest, suggestion};

/// `true` or `false`, or as YAML 1.1 has it.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Ok(true),
        "false" | "no" | "off" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}

/// A whole number within bounds.
pub fn whole(text: &str, least: u64, most: u64) -> Result<u64, String> {
    digits(text)
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("expected a whole number from {least} to {most}"))
}

/// Bytes: `7340032`, `512MiB`, `1 GiB`.
pub fn size(text: &str) -> Result<u64, String> {
    let expected =
        || "expected a size in bytes, or with the unit KiB, MiB, GiB or TiB, such as 512MiB".to_owned();
    let (number, unit) = number_and_unit(text).ok_or_else(expected)?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "kib" => 10,
        "mib" => 20,
        "gib" => 30,
        "tib" => 40,
        "k" | "kb" | "m" | "mb" | "g" | "gb" | "t" | "tb" => {
            return Err(format!(
                "`{unit}` could mean a power of 1000 or of 1024; write bytes, or KiB, MiB, GiB or TiB"
            ));
        }
        _ => return Err(expected()),
    };
    number.checked_mul(1 << shift).ok_or_else(|| "this is more than 16 EiB; expected a smaller size".into())
}

/// A span of time: `10 s`, `500ms`, `2m`, `1h`, or plain seconds.
pub fn duration(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let expected = || {
        format!(
            "expected a time from {} to {}, such as 500ms, 10 s, 2m, or a plain number of seconds",
            rounded(least),
            rounded(most)
        )
    };
    let (number, unit) = number_and_unit(text).ok_or_else(expected)?;
    let unit_ms = match unit.to_ascii_lowercase().as_str() {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected()),
    };
    let duration = number.checked_mul(unit_ms).map(Duration::from_millis);
    duration.filter(|duration| (least..=most).contains(duration)).ok_or_else(expected)
}

/// How a span of time is written: the way [`duration`] reads it.
pub fn shown(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms % 1_000 == 0 => format!("{} s", ms / 1_000),
        ms => format!("{ms} ms"),
    }
}

/// The same in the largest unit that tells it exactly.
fn rounded(duration: Duration) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let seconds = if duration.subsec_nanos() == 0 { duration.as_secs() } else { 0 };
    let unit = UNITS.into_iter().find(|(unit, _)| seconds >= *unit && seconds % unit == 0);
    unit.map_or_else(|| shown(duration), |(unit, name)| format!("{} {name}", seconds / unit))
}

/// One of a few words, in any case. Answers the word as the list has it.
pub fn word(text: &str, words: &[&'static str]) -> Result<&'static str, String> {
    words.iter().copied().find(|word| word.eq_ignore_ascii_case(text)).ok_or_else(|| {
        let near = nearest(text, words.iter().copied());
        format!("expected one of {}{}", words.join(", "), suggestion(near))
    })
}

/// An origin as a browser sends it: scheme, host, and a port that is not the scheme's own; or `*`.
pub fn web_origin(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let plain = |host: &str| {
        !host.is_empty()
            && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@\\,;\"'<>*".contains(&byte))
            && !host.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    match host {
        _ if text == "*" => Ok(text.to_owned()),
        Some(host) if plain(host) => Ok(text.to_owned()),
        _ => Err("expected origins such as https://app.example or http://localhost:3000, in lower case and \
                  without a path, or *"
            .into()),
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    Some((digits(&text[..end])?, text[end..].trim()))
}

/// Plain decimal digits only: no sign, no underscore, no blank.
fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{boolean, duration, shown, size, web_origin, whole, word};

    #[test]
    fn sizes_are_bytes_or_carry_a_binary_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("7340032", 7_340_032),
            ("12B", 12),
            ("1KiB", 1_024),
            ("512MiB", 512 << 20),
            ("1 GiB", 1 << 30),
            ("1gib", 1 << 30),
            ("2TiB", 2 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "GiB",
            "-1",
            "+1",
            "1.5GiB",
            "1G",
            "1 MB",
            "1 Gi B",
            "1_000",
            "0x10",
            "18446744073709551616",
            "17179869184GiB",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_carry_a_unit_or_are_seconds_and_keep_within_bounds() {
        let (least, most) = (Duration::from_millis(1), Duration::from_secs(86_400));
        for (text, ms) in [
            ("500ms", 500),
            ("10 s", 10_000),
            ("10s", 10_000),
            ("75", 75_000),
            ("2m", 120_000),
            ("1 H", 3_600_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(duration(text, least, most), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "0", "-1", "1.5s", "86401", "2d", "1 week", "18446744073709551615h", "ten"] {
            assert!(duration(text, least, most).is_err(), "{text}");
        }
        let bounds = duration("0", Duration::from_secs(1), most).expect_err("too short");
        assert!(bounds.starts_with("expected a time from 1 s to 1 d, such as"), "{bounds}");
        assert_eq!(
            [shown(Duration::from_secs(10)), shown(Duration::from_millis(1_500))],
            ["10 s", "1500 ms"]
        );
    }

    #[test]
    fn booleans_words_and_numbers_say_what_they_expect() {
        assert_eq!(["TRUE", "yes", "On"].map(boolean), [Ok(true), Ok(true), Ok(true)]);
        assert_eq!(["false", "No", "off"].map(boolean), [Ok(false), Ok(false), Ok(false)]);
        assert!(["", "1", "0", "tru", "null"].map(boolean).iter().all(Result::is_err));
        assert_eq!(word("WARN", &["warn", "info"]), Ok("warn"));
        assert_eq!(word("loud", &["warn", "info"]), Err("expected one of warn, info".into()));
        assert_eq!(whole("65535", 0, 65_535), Ok(65_535));
        assert_eq!(whole("65536", 0, 65_535), Err("expected a whole number from 0 to 65535".into()));
    }

    #[test]
    fn origins_are_as_browsers_send_them() {
        for text in ["*", "http://localhost:3000", "https://app.example", "http://[::1]:80"] {
            assert_eq!(web_origin(text), Ok(text.to_owned()));
        }
        for text in [
            "",
            "app.example",
            "https://",
            "https://app.example/",
            "https://App.example",
            "null",
            "https://*.a",
            "ftp://a",
        ] {
            assert!(web_origin(text).is_err(), "{text}");
        }
    }
}
