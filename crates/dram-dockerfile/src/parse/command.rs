//! Parses `RUN`, `CMD`, `ENTRYPOINT`, `SHELL` and `HEALTHCHECK`: commands in shell or exec form.

use dram_image::Healthcheck;

use super::flags;
use super::instruction::InstructionLine;
use crate::ast::{CommandForm, Keyword, SpannedText};
use crate::diagnostic::{Diagnostic, DiagnosticCollector, quote};
use crate::{json, rules, words};

/// Reads the command of `RUN`, `CMD` or `ENTRYPOINT`.
pub(super) fn read_command(line: &InstructionLine<'_>, report: &mut DiagnosticCollector) -> Option<CommandForm> {
    let name = line.keyword.name();
    if line.args.is_empty() {
        let error = line.error(format!("`{name}` takes a command"));
        let none = format!("write `{name} []` for none");
        report.push(if line.keyword == Keyword::Run { error } else { error.help(none) });
        return None;
    }
    match line.json_strings(report).ok()? {
        Some(words) if words.is_empty() && line.keyword == Keyword::Run => {
            report.push(line.error("`RUN` takes a command"));
            None
        }
        Some(words) => Some(CommandForm::Exec(words)),
        None => {
            let is_test = line.keyword == Keyword::Run && json::is_shell_test(line.text());
            if json::looks_like_json_array(line.text()) && !is_test {
                report.push(almost_json_warning(line));
            }
            Some(CommandForm::Shell(line.all_arguments()))
        }
    }
}

fn almost_json_warning(line: &InstructionLine<'_>) -> Diagnostic {
    let message = "this looks like a JSON array but is not one, so a shell runs it as text";
    let rule = if line.keyword == Keyword::Run { &rules::ALMOST_JSON } else { &rules::JSON_ARGS_RECOMMENDED };
    Diagnostic::warning(Some(rule), line.all_arguments().span, message)
        .help("JSON wants double quotes, commas between the words, and nothing behind the last bracket")
}

/// Reads the words of `SHELL`.
pub(super) fn read_shell(line: &InstructionLine<'_>, report: &mut DiagnosticCollector) -> Option<Vec<SpannedText>> {
    let words = line.json_strings(report).ok()?.filter(|words| !words.is_empty());
    if words.is_none() {
        report.push(
            line.error("`SHELL` takes a JSON array with at least one string")
                .help("write it as in `SHELL [\"/bin/bash\", \"-c\"]`"),
        );
    }
    words
}

/// Reads the health check that `HEALTHCHECK` sets in the config.
pub(super) fn read_healthcheck(line: &InstructionLine<'_>, report: &mut DiagnosticCollector) -> Option<Healthcheck> {
    let text = line.text();
    let (kind, behind) = words::keyword_range(text);
    let kind = line.word(kind);
    let rest = behind + (text[behind..].len() - text[behind..].trim_start().len());
    let command = InstructionLine { args: line.args.start + rest..line.args.end, ..*line };
    match kind.text.to_ascii_uppercase().as_str() {
        "NONE" if command.args.is_empty() && line.flags.is_empty() => {
            Some(Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() })
        }
        "NONE" => {
            report.push(line.error("`HEALTHCHECK NONE` takes neither arguments nor flags"));
            None
        }
        "CMD" => with_timings(&command, healthcheck_test(&command, report)?, report),
        _ => {
            report.push(
                Diagnostic::error(
                    if kind.text.is_empty() { line.span() } else { kind.span },
                    "`HEALTHCHECK` takes `CMD` and a command, or `NONE`",
                )
                .did_you_mean(&kind.text, ["CMD", "NONE"]),
            );
            None
        }
    }
}

fn healthcheck_test(line: &InstructionLine<'_>, report: &mut DiagnosticCollector) -> Option<Vec<String>> {
    let test = match line.json_strings(report).ok()? {
        Some(words) if !words.is_empty() => {
            std::iter::once("CMD".to_owned()).chain(words.into_iter().map(|word| word.text)).collect()
        }
        None if !line.args.is_empty() => vec!["CMD-SHELL".to_owned(), line.text().to_owned()],
        Some(_) | None => {
            report.push(line.error("`HEALTHCHECK CMD` takes a command"));
            return None;
        }
    };
    Some(test)
}

fn with_timings(
    line: &InstructionLine<'_>,
    test: Vec<String>,
    report: &mut DiagnosticCollector,
) -> Option<Healthcheck> {
    let mut duration =
        |name| flags::flag_value(line.flags, name).map_or(Some(0), |word| parse_nanoseconds(&word, report));
    let (interval, timeout) = (duration("interval"), duration("timeout"));
    let (start_period, start_interval) = (duration("start-period"), duration("start-interval"));
    let retries = flags::flag_value(line.flags, "retries").map_or(Some(0), |word| parse_retries(&word, report));
    Some(Healthcheck {
        test,
        interval: interval?,
        timeout: timeout?,
        start_period: start_period?,
        start_interval: start_interval?,
        retries: retries?,
    })
}

fn parse_retries(word: &SpannedText, report: &mut DiagnosticCollector) -> Option<i64> {
    match word.text.parse::<i32>() {
        _ if word.text.is_empty() => Some(0),
        Ok(count) if count >= 0 => Some(i64::from(count)),
        Ok(_) | Err(_) => {
            report.error(word.span.clone(), format!("{} is not a number of retries", quote(&word.text)));
            None
        }
    }
}

fn parse_nanoseconds(word: &SpannedText, report: &mut DiagnosticCollector) -> Option<i64> {
    const LEAST: i64 = 1_000_000;
    match parse_go_duration(&word.text) {
        _ if word.text.is_empty() => Some(0),
        Some(time) if time == 0 || time >= LEAST => Some(time),
        Some(_) => {
            let message = format!("{} is shorter than a millisecond", quote(&word.text));
            report.push(Diagnostic::error(word.span.clone(), message).help("give `0` for the default"));
            None
        }
        None => {
            report.push(
                Diagnostic::error(word.span.clone(), format!("{} is not a duration", quote(&word.text)))
                    .help("write it as in `30s`, `1m30s` or `500ms`"),
            );
            None
        }
    }
}

/// Parses a duration as Go's `time.ParseDuration`: numbers with an optional fraction, each with its unit.
fn parse_go_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    match rest {
        "" => return None,
        "0" => return Some(0),
        _ => {}
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number = rest.find(|letter: char| letter != '.' && !letter.is_ascii_digit())?;
        let (digits, behind) = rest.split_at(number);
        let unit = behind.find(|letter: char| letter == '.' || letter.is_ascii_digit()).unwrap_or(behind.len());
        let scale: i128 = match &behind[..unit] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(scale_decimal(digits, scale)?)?;
        rest = &behind[unit..];
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

fn scale_decimal(digits: &str, scale: i128) -> Option<i128> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || whole.len() > 20 {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = &fraction[..fraction.len().min(18)];
    let part = if fraction.is_empty() { 0 } else { fraction.parse::<i128>().ok()? };
    let parts = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some(whole.checked_mul(scale)? + part * scale / parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_as_in_go() {
        let table = [
            ("30s", Some(30_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            (".5ms", Some(500_000)),
            ("0", Some(0)),
            ("-1s", Some(-1_000_000_000)),
            ("1", None),
            ("s", None),
            ("1x", None),
            ("", None),
            ("-", None),
            ("1.2.3s", None),
            ("999999999999h", None),
            ("99999999999999999999999h", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_go_duration(text), expected, "{text}");
        }
    }
}
