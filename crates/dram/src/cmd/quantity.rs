//! Parses time spans and sizes.

use crate::failure::Failure;

/// Parses a time span: a number and `s`, `m`, `h`, `d` or `w`.
pub(crate) fn parse_time_span(text: &str) -> Result<i64, Failure> {
    let unit = |unit: &str| match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86400),
        "w" => Some(7 * 86400),
        _ => None,
    };
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(at);
    let span = number.parse::<i64>().ok().zip(unit(rest)).and_then(|(number, unit)| number.checked_mul(unit));
    span.ok_or_else(|| Failure::usage(format!("`{text}` is no time span")).help("write it as in `12h`, `7d` or `2w`"))
}

/// Parses a size: a number and optionally `k`, `m`, `g` or `t`, each 1024 of the one before, as in Docker.
pub(crate) fn parse_size(text: &str) -> Result<u64, Failure> {
    let lower = text.to_lowercase();
    let at = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let (number, rest) = lower.split_at(at);
    let unit = match rest.trim() {
        "" | "b" => Some(1),
        "k" | "kb" | "kib" => Some(1 << 10),
        "m" | "mb" | "mib" => Some(1 << 20),
        "g" | "gb" | "gib" => Some(1 << 30),
        "t" | "tb" | "tib" => Some(1 << 40),
        _ => None,
    };
    let size = number.parse::<u64>().ok().zip(unit).and_then(|(number, unit): (u64, u64)| number.checked_mul(unit));
    size.ok_or_else(|| Failure::usage(format!("`{text}` is no size")).help("write it as in `500m` or `2g`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_and_sizes_are_parsed() {
        for (text, expected) in [("90s", Some(90)), ("2m", Some(120)), ("7d", Some(604_800)), ("1w", Some(604_800))] {
            assert_eq!(parse_time_span(text).ok(), expected, "{text}");
        }
        for text in ["", "7", "d", "-1d", "1y", "99999999999999999w"] {
            assert!(parse_time_span(text).is_err(), "{text}");
        }
        for (text, expected) in [("1", 1), ("2k", 2048), ("3MB", 3 << 20), ("1g", 1 << 30)] {
            assert_eq!(parse_size(text).ok(), Some(expected), "{text}");
        }
        for text in ["", "k", "1x", "-1", "99999999999g"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
