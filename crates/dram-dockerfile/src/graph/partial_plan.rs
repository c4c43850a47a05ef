//! Finds the plan errors of a file that cannot be built anyway, so that all of its errors are reported at once.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use dram_image::ImageConfig;
use dram_plan::StageBase;

use super::StageGraph;
use crate::ast::InstructionBody;
use crate::diagnostic::{DiagnosticCollector, Severity};
use crate::plan::plan_stages;

/// Plans the stages as far as they are known, and reports only errors of instructions without variables: the values of
/// variables may depend on an unknown image or on an invalid instruction.
pub(super) fn report_plan_errors(mut graph: StageGraph, report: &mut DiagnosticCollector) {
    let mut found: BTreeMap<String, ImageConfig> = BTreeMap::new();
    let mut instructions: Vec<(Range<usize>, bool)> = Vec::new();
    for node in &mut graph.stages {
        if let StageBase::External(key) = &node.base {
            found.entry(key.clone()).or_default();
        }
        for (instruction, origins) in &mut node.steps {
            if origins.len() != instruction.from_words().len() || instruction.trigger {
                instruction.body = InstructionBody::Invalid;
            }
            instructions.push((instruction.span.clone(), instruction.text.contains('$')));
        }
    }
    let told: HashSet<Range<usize>> = report.spans().cloned().collect();
    let (_, problems) = plan_stages(&graph, &found);
    for problem in problems.into_iter().filter(|one| one.severity == Severity::Error) {
        let before = instructions.partition_point(|(span, _)| span.start <= problem.span.start);
        let around = before.checked_sub(1).and_then(|at| instructions.get(at));
        if around.is_some_and(|(_, variables)| !variables) && !told.contains(&problem.span) {
            report.push(problem);
        }
    }
}
