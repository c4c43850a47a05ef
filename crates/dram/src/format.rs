//! Formats numbers and untrusted text for people.

/// `bytes` with three digits and a decimal unit, as other image tools show sizes: `1.27 GB`.
pub(crate) fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    #[allow(clippy::cast_precision_loss)] // three digits are shown
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// `1 layer`, `2 layers`.
pub(crate) fn format_count(number: impl TryInto<u64>, thing: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// `text` with control characters escaped, which a terminal would execute, and tabs as blanks.
pub(crate) fn escape_control(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\t' => out.push_str("    "),
            letter if letter.is_control() => out.extend(letter.escape_default()),
            letter => out.push(letter),
        }
    }
    out
}

/// `text`, which is output of a command, for standard error or another stream. Colours, which are the `SGR` sequences of
/// ECMA-48, pass to a terminal and are dropped elsewhere; other control characters are escaped.
pub(crate) fn format_output(text: &str, on_terminal: bool) -> String {
    let (mut out, mut has_colour, mut rest) = (String::with_capacity(text.len()), false, text);
    while let Some(start) = rest.find("\x1b[") {
        let parameters = rest[start + 2..].find(|letter: char| !matches!(letter, '0'..='9' | ';' | ':'));
        let end = parameters.map(|length| start + 2 + length).filter(|end| rest[*end..].starts_with('m'));
        out.push_str(&escape_control(&rest[..start]));
        let end = match end {
            Some(end) => {
                if on_terminal {
                    out.push_str(&rest[start..=end]);
                    has_colour = true;
                }
                end + 1
            }
            None => {
                out.push_str(&escape_control("\x1b["));
                start + 2
            }
        };
        rest = &rest[end..];
    }
    out.push_str(&escape_control(rest));
    if has_colour {
        out.push_str("\x1b[0m");
    }
    out
}

/// Formats rows as columns: each is as wide as its widest cell, with two blanks between them.
pub(crate) fn format_table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, want) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (999_999, "1.00 MB"),
            (15_400_000, "15.4 MB"),
            (155_000_000, "155 MB"),
            (1_270_000_000, "1.27 GB"),
        ] {
            assert_eq!(format_size(bytes), want);
        }
    }

    #[test]
    fn colours_of_output_pass_to_a_terminal_only() {
        for (text, on_terminal, elsewhere) in [
            ("plain\tä", "plain    ä", "plain    ä"),
            ("\x1b[1;31mred\x1b[m!", "\x1b[1;31mred\x1b[m!\x1b[0m", "red!"),
            ("\x1b[38:2::1:2:3mx", "\x1b[38:2::1:2:3mx\x1b[0m", "x"),
            ("\x1b[2J\x1b[31", "\\u{1b}[2J\\u{1b}[31", "\\u{1b}[2J\\u{1b}[31"),
            ("\x1b[?25lm\x1b]0;t\x07", "\\u{1b}[?25lm\\u{1b}]0;t\\u{7}", "\\u{1b}[?25lm\\u{1b}]0;t\\u{7}"),
            ("a\rb\x1b", "a\\rb\\u{1b}", "a\\rb\\u{1b}"),
        ] {
            assert_eq!(format_output(text, true), on_terminal, "{text:?}");
            assert_eq!(format_output(text, false), elsewhere, "{text:?}");
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(escape_control("a\x1b[31m\r\tb"), "a\\u{1b}[31m\\r    b");
    }
}
