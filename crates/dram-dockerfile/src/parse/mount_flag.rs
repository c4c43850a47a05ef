//! Parses `RUN --mount`: the fields of its value, before variables are expanded.
//!
//! The value is one line of CSV, as in RFC 4180 and Go's `encoding/csv`. The keys are interpreted in the plan, when
//! variables are known.

use crate::ast::{MountFlag, SpannedText};
use crate::diagnostic::{Diagnostic, DiagnosticCollector, quote};

/// Parses a `--mount=…` flag.
pub(super) fn parse_mount_flag(flag: &SpannedText, report: &mut DiagnosticCollector) -> Option<MountFlag> {
    let Some(fields) = parse_csv(&flag.text) else {
        report.push(
            Diagnostic::error(flag.span.clone(), "a quote in `--mount` is out of place")
                .help("put the whole field into quotes: `--mount=\\\"key=value\\\",…`"),
        );
        return None;
    };
    let mut split = Vec::with_capacity(fields.len());
    for field in fields {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value.to_owned())),
            None => (field.to_lowercase(), None),
        };
        // Stages are resolved before any variable is known.
        if key == "from" && value.as_deref().is_some_and(|value| value.find('$').is_some_and(|at| at + 1 < value.len()))
        {
            report.push(
                Diagnostic::error(flag.span.clone(), format!("{} takes no variables", quote("from")))
                    .help("name a stage with `FROM $IMAGE AS name` and mount from that"),
            );
            return None;
        }
        split.push((key, value));
    }
    Some(MountFlag { fields: split, span: flag.span.clone() })
}

/// Splits one line of CSV into fields; `None` when a quote is misplaced.
fn parse_csv(line: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let field;
        if let Some(quoted) = rest.strip_prefix('"') {
            (field, rest) = parse_quoted_field(quoted)?;
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            if rest[..end].contains('"') {
                return None;
            }
            field = rest[..end].to_owned();
            rest = &rest[end..];
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Some(fields),
        }
    }
}

/// Parses a quoted field; also returns the text behind its closing quote.
fn parse_quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None if rest.is_empty() || rest.starts_with(',') => return Some((field, rest)),
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_fields_are_parsed_as_csv() {
        let table: &[(&str, Option<&[&str]>)] = &[
            ("type=cache,target=/a", Some(&["type=cache", "target=/a"])),
            ("", Some(&[""])),
            ("a,", Some(&["a", ""])),
            ("\"a,b\",c", Some(&["a,b", "c"])),
            ("\"a\"\"b\"", Some(&["a\"b"])),
            ("a\"b", None),
            ("\"a", None),
            ("\"a\"b", None),
        ];
        for (text, expected) in table {
            let fields = parse_csv(text);
            let fields: Option<Vec<&str>> = fields.as_ref().map(|all| all.iter().map(String::as_str).collect());
            assert_eq!(fields.as_deref(), *expected, "{text}");
        }
    }
}
