//! Parses time spans and sizes.

use dram_dockerfile::option_value;

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

/// Parses a size as the options of container engines write it: `500m`, `1.5g`.
pub(crate) fn parse_size(text: &str) -> Result<u64, Failure> {
    let size = option_value::parse_size(text);
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
        for (text, expected) in [("1", 1), ("2k", 2048), ("3MB", 3 << 20), ("1g", 1 << 30), ("1.5g", 3 << 29)] {
            assert_eq!(parse_size(text).ok(), Some(expected), "{text}");
        }
        for text in ["", "k", "1x", "-1", "99999999999g"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
