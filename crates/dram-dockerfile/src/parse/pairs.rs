//! Parses the names and values of `ARG`, `ENV` and `LABEL`.

use std::ops::Range;

use super::instruction::Line;
use crate::ast::{Argument, Pair, Word};
use crate::diagnostic::{Diagnostic, Report, quote};
use crate::{rules, words};

/// Reads the arguments that `ARG` declares.
pub(super) fn arguments(line: &Line<'_>, report: &mut Report) -> Option<Vec<Argument>> {
    let text = line.text();
    let mut arguments = Vec::new();
    for place in words::quoted(text, line.escape) {
        let (name, default) = match split(text, &place) {
            Some((name, value)) => (name, Some(line.word(value))),
            None => (place, None),
        };
        if name.is_empty() {
            report.push(nameless(line, name));
            return None;
        }
        arguments.push(Argument { name: line.word(name), default });
    }
    if arguments.is_empty() {
        report.push(line.error("`ARG` takes at least one name").help("write `ARG NAME` or `ARG NAME=default`"));
        return None;
    }
    Some(arguments)
}

/// Reads the pairs of `ENV` and `LABEL`, in the form `name=value` or the legacy form `name value`.
pub(super) fn pairs(line: &Line<'_>, report: &mut Report) -> Option<Vec<Pair>> {
    let text = line.text();
    let keyword = line.keyword.name();
    let words = words::quoted(text, line.escape);
    let Some(first) = words.first() else {
        report.push(
            line.error(format!("`{keyword}` takes at least one pair")).help(format!("write `{keyword} name=value`")),
        );
        return None;
    };
    if !text[first.clone()].contains('=') {
        return old_pair(line, report).map(|pair| vec![pair]);
    }
    let mut pairs = Vec::new();
    for place in words {
        let Some((name, value)) = split(text, &place) else {
            let word = line.word(place);
            report.push(
                Diagnostic::error(word.span, format!("{} is not a pair", quote(&word.text)))
                    .label("lacks a `=`")
                    .help("put a value with blanks into quotes: `name=\"some value\"`"),
            );
            return None;
        };
        if name.is_empty() {
            report.push(nameless(line, name));
            return None;
        }
        pairs.push(Pair { name: line.word(name), value: line.word(value) });
    }
    Some(pairs)
}

/// Reads the legacy form `ENV name the rest of the line`, with a warning.
fn old_pair(line: &Line<'_>, report: &mut Report) -> Option<Pair> {
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
        .help(format!("write `{keyword} {}={}`", name.text, suggestion(&value))),
    );
    Some(Pair { name, value })
}

fn suggestion(value: &Word) -> String {
    let shown: String = value.text.chars().take(60).collect();
    let simple = !shown.contains(|letter: char| letter.is_whitespace() || letter == '"' || letter.is_control());
    if simple && shown.len() == value.text.len() { shown } else { "\"…\"".to_owned() }
}

fn split(text: &str, place: &Range<usize>) -> Option<(Range<usize>, Range<usize>)> {
    let sign = place.start + text[place.clone()].find('=')?;
    Some((place.start..sign, sign + 1..place.end))
}

fn nameless(line: &Line<'_>, place: Range<usize>) -> Diagnostic {
    let span = line.word(place.start..place.start + 1).span;
    let keyword = line.keyword.name();
    Diagnostic::error(span, format!("a name of `{keyword}` is empty")).help("write a name before the `=`")
}
