//! Parses `ONBUILD`: an instruction for the Dockerfiles that start from this image.

use std::ops::Range;

use super::instruction::{self, InstructionLine};
use crate::ast::{DockerfileInstruction, Heredoc, Keyword, SpannedText};
use crate::diagnostic::{Diagnostic, DiagnosticCollector, quote};
use crate::lines::LineReader;
use crate::words;

/// Returns the trigger as stored in the config: the instruction as written, with its heredocs.
pub(super) fn read_onbuild(
    line: &InstructionLine<'_>,
    heredocs: &[Heredoc],
    report: &mut DiagnosticCollector,
) -> Option<SpannedText> {
    let text = line.text();
    let (place, _) = words::keyword_range(text);
    if place.is_empty() {
        report.push(line.error("`ONBUILD` takes an instruction").help("write it as in `ONBUILD COPY . /app`"));
        return None;
    }
    let keyword = line.word(place);
    match Keyword::find(&keyword.text) {
        Some(kind @ (Keyword::Onbuild | Keyword::From | Keyword::Maintainer)) => {
            let message = format!("`ONBUILD` cannot trigger `{}`", kind.name());
            report.error(keyword.span, message);
            return None;
        }
        Some(_) => {}
        None => {
            let names = Keyword::ALL.iter().map(|keyword| keyword.name());
            report.push(
                Diagnostic::error(keyword.span.clone(), format!("unknown instruction {}", quote(&keyword.text)))
                    .did_you_mean(&keyword.text, names),
            );
            return None;
        }
    }
    let mut trigger = line.all_arguments();
    for heredoc in heredocs {
        trigger.text.push('\n');
        trigger.text.push_str(&heredoc.contents);
        trigger.text.push_str(&heredoc.name);
    }
    Some(trigger)
}

/// Parses a trigger of the base and reports its errors. The spans of the trigger are `place`, and its line is `line`.
pub(crate) fn parse_trigger(
    text: &str,
    place: &Range<usize>,
    line: usize,
    report: &mut DiagnosticCollector,
) -> Option<DockerfileInstruction> {
    let refuse = |why: &str| {
        Diagnostic::error(place.clone(), format!("the base has the trigger {}, which {why}", quote(text)))
            .help("start from another image, or build that one again without the trigger")
    };
    let mut own = DiagnosticCollector::default();
    let mut lines = LineReader::with_fixed_span(text, place.clone());
    let first = lines.next_logical_line(&mut own).map(|logical| instruction::read(&logical, &mut lines, &mut own));
    let Some(mut instruction) = first else {
        report.push(refuse("is empty"));
        return None;
    };
    if lines.next_logical_line(&mut own).is_some() {
        report.push(refuse("is more than one instruction"));
        return None;
    }
    if own.has_errors() {
        for mut problem in own.into_diagnostics() {
            problem.notes.push(format!("in the trigger {} of the base", quote(text)));
            report.push(problem);
        }
        return None;
    }
    if matches!(instruction.kind, None | Some(Keyword::From | Keyword::Onbuild | Keyword::Maintainer)) {
        report.push(refuse("is no instruction for a trigger"));
        return None;
    }
    instruction.line = line;
    instruction.trigger = true;
    Some(instruction)
}
