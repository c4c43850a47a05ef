//! The `created_by` text of history entries, as BuildKit writes them with Go's formatting.

use dram_image::Healthcheck;

/// Formats a list as Go's `%q`: `["a" "b"]`.
pub(super) fn go_quoted_list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| go_quoted_string(word)).collect();
    format!("[{}]", words.join(" "))
}

/// Formats a list as Go's `%v`: `[a b]`.
pub(super) fn go_list(words: &[String]) -> String {
    format!("[{}]", words.join(" "))
}

fn go_quoted_string(word: &str) -> String {
    let mut out = String::from("\"");
    for letter in word.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            low if low.is_ascii_control() => out.push_str(&format!("\\x{:02x}", low as u32)),
            other if other.is_control() => out.push_str(&format!("\\u{:04x}", other as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Formats a `RUN` with its build arguments in front of its words: `|2 A=1 B=2 words`.
pub(super) fn run_entry(args: &[(String, String)], argv: &[String]) -> String {
    let mut out = String::from("RUN ");
    if !args.is_empty() {
        out.push_str(&format!("|{} ", args.len()));
        for (name, value) in args {
            out.push_str(&format!("{name}={value} "));
        }
    }
    out.push_str(&argv.join(" "));
    out.push_str(" # buildkit");
    out
}

pub(super) fn healthcheck_entry(check: &Healthcheck) -> String {
    format!(
        "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        go_list(&check.test),
        go_duration(check.interval),
        go_duration(check.timeout),
        go_duration(check.start_period),
        go_duration(check.start_interval),
        check.retries
    )
}

/// Formats a duration as Go does: `1m30s`, `1.5ms`, `0s`.
fn go_duration(nanoseconds: i64) -> String {
    let total = nanoseconds.unsigned_abs();
    if total < 1_000_000_000 {
        return match total {
            0 => "0s".to_owned(),
            1..1_000 => format!("{total}ns"),
            1_000..1_000_000 => format!("{}µs", trimmed_decimal(total, 1_000)),
            _ => format!("{}ms", trimmed_decimal(total, 1_000_000)),
        };
    }
    let (hours, minutes) = (total / 3_600_000_000_000, total / 60_000_000_000 % 60);
    let seconds = trimmed_decimal(total % 60_000_000_000, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn trimmed_decimal(value: u64, unit: u64) -> String {
    let width = unit.ilog10() as usize;
    let text = format!("{}.{:0width$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_durations_are_formatted_as_in_go() {
        let words = ["a b".to_owned(), "\"\n".to_owned(), "é\u{1}".to_owned()];
        assert_eq!(go_quoted_list(&words), r#"["a b" "\"\n" "é\x01"]"#);
        assert_eq!(go_quoted_list(&[]), "[]");
        let table = [
            (0, "0s"),
            (30_000_000_000, "30s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (1_500_000_000, "1.5s"),
            (500_000_000, "500ms"),
            (1_500_000, "1.5ms"),
            (1_000, "1µs"),
        ];
        for (nanoseconds, expected) in table {
            assert_eq!(go_duration(nanoseconds), expected);
        }
    }
}
