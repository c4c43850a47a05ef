//! Times in the form that image documents use.

use std::ops::RangeInclusive;

/// The times that have this form, in seconds since 1970: the years 0 to 9999.
pub const RFC3339_TIMES: RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

/// Formats `seconds` since 1970 as RFC 3339 in UTC: `1970-01-01T00:00:00Z`.
///
/// The calendar is the proleptic Gregorian one; years are clamped to four digits.
pub fn rfc3339(seconds: i64) -> String {
    let seconds = seconds.clamp(*RFC3339_TIMES.start(), *RFC3339_TIMES.end());
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Returns year, month and day for a number of days since 1970. It counts eras of 400 years that start in March.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_formatted_as_rfc3339() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (*RFC3339_TIMES.start(), "0000-01-01T00:00:00Z"),
            (*RFC3339_TIMES.end(), "9999-12-31T23:59:59Z"),
            (i64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), want);
        }
    }
}
