//! Parses the names and values of `ARG`, `ENV` and `LABEL`.

use std::ops::Range;

use super::instruction::InstructionLine;
use crate::ast::{ArgDeclaration, KeyValuePair, SpannedText};
use crate::diagnostic::{Diagnostic, DiagnosticCollector, quote};
use crate::{rules, words};

/// Reads the arguments that `ARG` declares.
pub(super) fn read_arg_declarations(
    line: &InstructionLine<'_>,
    report: &mut DiagnosticCollector,
) -> Option<Vec<ArgDeclaration>> {
    let text = line.text();
    let mut arguments = Vec::new();
    for place in words::split_quoted(text, line.escape) {
        let (name, default) = match split_at_equals(text, &place) {
            Some((name, value)) => (name, Some(line.word(value))),
            None => (place, None),
        };
        if name.is_empty() {
            report.push(empty_name_error(line, name));
            return None;
        }
        arguments.push(ArgDeclaration { name: line.word(name), default });
    }
    if arguments.is_empty() {
        report.push(line.error("`ARG` takes at least one name").help("write `ARG NAME` or `ARG NAME=default`"));
        return None;
    }
    Some(arguments)
}

/// Reads the pairs of `ENV` and `LABEL`, in the form `name=value` or the legacy form `name value`.
pub(super) fn read_pairs(line: &InstructionLine<'_>, report: &mut DiagnosticCollector) -> Option<Vec<KeyValuePair>> {
    let text = line.text();
    let keyword = line.keyword.name();
    let words = words::split_quoted(text, line.escape);
    let Some(first) = words.first() else {
        report.push(
            line.error(format!("`{keyword}` takes at least one pair")).help(format!("write `{keyword} name=value`")),
        );
        return None;
    };
    if !text[first.clone()].contains('=') {
        return read_legacy_pair(line, report).map(|pair| vec![pair]);
    }
    let mut pairs = Vec::new();
    for place in words {
        let Some((name, value)) = split_at_equals(text, &place) else {
            let word = line.word(place);
            report.push(
                Diagnostic::error(word.span, format!("{} is not a pair", quote(&word.text)))
                    .label("lacks a `=`")
                    .help("put a value with blanks into quotes: `name=\"some value\"`"),
            );
            return None;
        };
        if name.is_empty() {
            report.push(empty_name_error(line, name));
            return None;
        }
        pairs.push(KeyValuePair { name: line.word(name), value: line.word(value) });
    }
    Some(pairs)
}

/// Reads the legacy form `ENV name the rest of the line`, with a warning.
fn read_legacy_pair(line: &InstructionLine<'_>, report: &mut DiagnosticCollector) -> Option<KeyValuePair> {
    let keyword = line.keyword.name();
    let Some((name, value)) = words::name_and_rest(line.text()) else {
        report.push(
            line.error(format!("`{keyword}` takes a name and a value")).help(format!("write `{keyword} name=value`")),
        );
        return None;
    };
    let (name, value) = (line.word(name), line.word(value));
    report.push(
        Diagnostic::warning(
            Some(&rules::LEGACY_KEY_VALUE_FORMAT),
            line.span(),
            format!("the old form `{keyword} name value`"),
        )
        .help(format!("write `{keyword} {}={}`", name.text, suggested_value(&value))),
    );
    Some(KeyValuePair { name, value })
}

fn suggested_value(value: &SpannedText) -> String {
    let shown: String = value.text.chars().take(60).collect();
    let simple = !shown.contains(|letter: char| letter.is_whitespace() || letter == '"' || letter.is_control());
    if simple && shown.len() == value.text.len() { shown } else { "\"…\"".to_owned() }
}

fn split_at_equals(text: &str, place: &Range<usize>) -> Option<(Range<usize>, Range<usize>)> {
    let sign = place.start + text[place.clone()].find('=')?;
    Some((place.start..sign, sign + 1..place.end))
}

fn empty_name_error(line: &InstructionLine<'_>, place: Range<usize>) -> Diagnostic {
    let span = line.word(place.start..place.start + 1).span;
    let keyword = line.keyword.name();
    Diagnostic::error(span, format!("a name of `{keyword}` is empty")).help("write a name before the `=`")
}
