//! Values of options as Go's flag packages read them: booleans, and sizes with a unit.

/// Parses a boolean as Go's `strconv.ParseBool`. It refuses the empty text: whether an empty value means true is decided
/// by the caller, since BuildKit decides it differently from option to option.
pub fn parse_go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Parses a size as container engines do: a number with an optional fraction, and a binary unit (`b`, `k`, `m`, `g`,
/// `t`, `p`, optionally followed by `b` or `ib`). Every spelling of a unit is a power of 1024.
pub fn parse_size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let end = lower.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let shift = match unit.trim_start() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let unit = 1u64 << shift;
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.checked_mul(unit)? };
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 18)?;
    let part = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().ok()? };
    let part = u128::from(part) * u128::from(unit) / 10u128.pow(digits);
    whole.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_those_of_go() {
        for (text, expected) in [
            ("1", Some(true)),
            ("T", Some(true)),
            ("True", Some(true)),
            ("f", Some(false)),
            ("FALSE", Some(false)),
            ("", None),
            ("tRUE", None),
            ("yes", None),
        ] {
            assert_eq!(parse_go_bool(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes_have_fractions_and_binary_units() {
        for (text, expected) in [
            ("1024", Some(1024)),
            ("64m", Some(64 << 20)),
            ("64MB", Some(64 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("1.", Some(1)),
            (".5k", Some(512)),
            ("1 k", Some(1024)),
            ("0", Some(0)),
            ("7b", Some(7)),
            ("", None),
            (".", None),
            ("m", None),
            ("1x", None),
            ("-1", None),
            ("1ib", None),
            ("1bb", None),
            ("1.2.3", None),
            ("1.25000000000k", Some(1280)),
            ("15.999999999999999999p", Some((16 << 50) - 1)),
            ("16384p", None),
            ("99999999999p", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }
}
