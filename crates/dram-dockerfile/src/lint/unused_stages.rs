//! Stages that no other stage uses.

use std::collections::HashSet;

use super::stage_uses::possible_uses;
use super::{LintInput, descriptions};
use crate::ast::DockerfileInstruction;
use crate::diagnostic::{Diagnostic, DiagnosticCollector, quote};
use crate::graph::{StageGraph, stage_ranges};
use crate::rules;

/// Finds stages that no other one is based on or copies from. This needs the whole graph, so nothing is reported for a
/// target that does not need all stages.
pub(super) fn check(subject: &LintInput<'_>, graph: &StageGraph, report: &mut DiagnosticCollector) {
    let instructions = &subject.dockerfile.instructions;
    let stages = stage_ranges(instructions);
    if graph.stages.len() != stages.len() {
        return;
    }
    let used: HashSet<usize> = possible_uses(subject, graph).iter().map(|one| one.used).collect();
    let last = stages.len().saturating_sub(1);
    for (at, stage) in stages.iter().enumerate().filter(|(at, _)| *at != last && !used.contains(at)) {
        let from = &instructions[stage.start];
        if is_described(from) || report.is_full_of_warnings() {
            continue;
        }
        let name = from.as_from().and_then(|from| from.name.as_ref());
        let named = name.map_or_else(|| format!("number {at}"), |name| quote(&name.text));
        let span = name.map_or_else(|| from.span.clone(), |name| name.span.clone());
        let remark = Diagnostic::warning(Some(&rules::UNUSED_STAGE), span, format!("no stage uses the stage {named}"));
        report.push(match name {
            Some(name) => remark
                .note(format!("it is built only with `--target {}`", name.text))
                .help(format!("remove it, or say what it is for: `# {} …` right above", name.text.to_lowercase())),
            None => remark.note("it is never built").help("remove it, or name it with `AS`"),
        });
    }
}

/// Returns true when a comment describes the stage.
fn is_described(from: &DockerfileInstruction) -> bool {
    let names = descriptions::defined_names(from);
    names.iter().any(|name| from.description(name).is_some())
}
