//! Dates as HTTP writes them (RFC 9110, section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
//!
//! Owns the calendar arithmetic and a small memory of what was formatted last. Reads no clock.

/// Length of a formatted date.
pub const DATE_BYTES: usize = 29;

/// The last second that four digits of a year can name.
const SECONDS_MAX: u64 = 253_402_300_799;

/// Formats seconds since the Unix epoch. Times after the year 9999 are given as its last second.
pub fn http_date(seconds: u64) -> [u8; DATE_BYTES] {
    let seconds = seconds.min(SECONDS_MAX);
    let (day, second) = (seconds / 86_400, (seconds % 86_400) as usize);
    let (year, month, day_of_month) = civil(day);
    let weekday = 3 * (day as usize % 7);
    let month = 3 * (month - 1);

    let mut date = *b"Thu, 00 Jan 0000 00:00:00 GMT";
    date[..3].copy_from_slice(&b"ThuFriSatSunMonTueWed"[weekday..weekday + 3]);
    two_digits(&mut date[5..7], day_of_month);
    date[8..11].copy_from_slice(&b"JanFebMarAprMayJunJulAugSepOctNovDec"[month..month + 3]);
    two_digits(&mut date[12..14], year / 100);
    two_digits(&mut date[14..16], year % 100);
    two_digits(&mut date[17..19], second / 3_600);
    two_digits(&mut date[20..22], second / 60 % 60);
    two_digits(&mut date[23..25], second % 60);
    date
}

/// Year, month (from 1) and day of the month (from 1) of a day since the Unix epoch.
///
/// Years are counted from March, so that the leap day is the last of its year, in eras of 400 years
/// (H. Hinnant, "chrono-compatible low-level date algorithms").
fn civil(day: u64) -> (usize, usize, usize) {
    const DAYS_TO_EPOCH: usize = 719_468; // from 0000-03-01 to 1970-01-01
    const DAYS_PER_ERA: usize = 146_097;
    let day = day as usize + DAYS_TO_EPOCH;
    let (era, of_era) = (day / DAYS_PER_ERA, day % DAYS_PER_ERA);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (400 * era + year_of_era + usize::from(month <= 2), month, day_of_month)
}

fn two_digits(out: &mut [u8], number: usize) {
    out[0] = b'0' + (number / 10) as u8;
    out[1] = b'0' + (number % 10) as u8;
}

/// Dates formatted lately, found by their second: `Last-Modified` of a hot key costs a copy.
#[derive(Debug)]
pub struct DateCache {
    slots: [(u64, [u8; DATE_BYTES]); DateCache::SLOTS],
}

impl DateCache {
    /// A power of two. Writes of the last minute have a slot each.
    const SLOTS: usize = 64;

    /// A memory that holds nothing useful yet.
    pub fn new() -> DateCache {
        DateCache { slots: [(0, http_date(0)); DateCache::SLOTS] }
    }

    /// The date of these seconds since the Unix epoch.
    pub fn get(&mut self, seconds: u64) -> &[u8; DATE_BYTES] {
        let slot = &mut self.slots[seconds as usize % DateCache::SLOTS];
        if slot.0 != seconds {
            *slot = (seconds, http_date(seconds));
        }
        &slot.1
    }
}

impl Default for DateCache {
    fn default() -> DateCache {
        DateCache::new()
    }
}

#[cfg(test)]
mod tests {
    use super::{DateCache, SECONDS_MAX, http_date};

    fn text(seconds: u64) -> String {
        String::from_utf8(http_date(seconds).to_vec()).unwrap()
    }

    #[test]
    fn known_dates_are_written_as_the_rfc_writes_them() {
        for (seconds, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (SECONDS_MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (SECONDS_MAX + 1, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(text(seconds), date);
        }
    }

    #[test]
    fn every_day_to_the_year_2500_follows_the_one_before_it() {
        const LENGTHS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut day = 0;
        for year in 1970..2500_u64 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            for (month, name) in
                ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
                    .into_iter()
                    .enumerate()
            {
                for of_month in 1..=LENGTHS[month] + u64::from(leap && month == 1) {
                    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][day as usize % 7];
                    let date = format!("{weekday}, {of_month:02} {name} {year} 01:02:03 GMT");
                    assert_eq!(text(day * 86_400 + 3_723), date);
                    day += 1;
                }
            }
        }
    }

    #[test]
    fn the_cache_answers_what_formatting_answers() {
        let mut cache = DateCache::new();
        for seconds in [0, 64, 0, 1, 65, 1_700_000_000, 1_700_000_064, 1_700_000_000, u64::MAX] {
            assert_eq!(cache.get(seconds), &http_date(seconds));
        }
    }
}
