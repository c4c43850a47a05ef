//! The lint checks: warnings about a Dockerfile, and the options that turn them off.
//!
//! Some rules fire during parsing and planning; the rules here look at the whole file. [`check`] combines both: it
//! takes the diagnostics so far, adds those found here, and removes the skipped ones. Rules of BuildKit fire where
//! those of BuildKit do (`frontend/dockerfile/dockerfile2llb/validations.go`).

mod advice;
mod apt;
mod base_images;
mod cache_mounts;
mod check_options;
mod descriptions;
mod ignored_sources;
mod line_range;
mod names;
mod secrets;
mod shell_commands;
mod stage_uses;
mod unused_build_args;
mod unused_stages;

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use dram_image::ImageConfig;
use dram_plan::{Plan, StageBase};

use crate::ast::{Dockerfile, DockerfileInstruction};
use crate::diagnostic::{Diagnostic, DiagnosticCollector, Severity};
use crate::graph::{StageGraph, stage_ranges};
use crate::ignore::IgnoreList;
use crate::rules::{self, LintRule, RuleActivation, RuleScope};
use crate::settings::BuildSettings;

use check_options::CheckOptions;

pub use line_range::{LineRange, lines_at, lines_of};

/// The input of the lint checks.
#[derive(Debug, Clone, Copy)]
pub struct LintInput<'s> {
    /// The parsed file.
    pub dockerfile: &'s Dockerfile,
    /// The settings of the build.
    pub settings: &'s BuildSettings,
    /// The stages of the target; `None` when the graph has errors.
    pub graph: Option<&'s StageGraph>,
    /// The plan; `None` when there are errors.
    pub plan: Option<&'s Plan>,
    /// The configs of the known images, by key. The variables of stages based on an unknown image are unknown.
    pub base_configs: &'s BTreeMap<String, ImageConfig>,
    /// The name and contents of the ignore list of the build context.
    pub ignore: Option<(&'s str, &'s IgnoreList)>,
    /// True to apply all rules (`--check`), not only those of every build.
    pub thorough: bool,
}

/// Adds the findings of the checks to `said`, the diagnostics so far, and removes those that the file or the build
/// argument `BUILDKIT_DOCKERFILE_CHECK` turns off. The result is in the order of the text.
///
/// Under `error=true` each warning of a rule is returned as an error, so that the file must not be built. Advice stays
/// advice.
pub fn check(subject: &LintInput<'_>, said: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut report = DiagnosticCollector::default();
    let global = CheckOptions::for_file(subject, &mut report);
    names::check(subject.dockerfile, &mut report);
    secrets::check(subject.dockerfile, &mut report);
    descriptions::check(subject.dockerfile, &mut report);
    if let Some(graph) = subject.graph {
        unused_stages::check(subject, graph, &mut report);
        base_images::check(subject, graph, &mut report);
        if unknown_stages(subject).is_empty() {
            // An unknown image may have triggers that declare arguments.
            unused_build_args::check(subject, graph, &mut report);
        }
    }
    if let Some(plan) = subject.plan {
        ignored_sources::check(plan, subject.ignore, &mut report);
        if let Some(graph) = subject.graph.filter(|_| subject.thorough) {
            advice::check(plan, &stage_uses::possible_uses(subject, graph), &mut report);
        }
    }
    let filter = WarningFilter::new(subject, &global);
    let mut all = said;
    all.extend(report.into_diagnostics());
    all.retain(|one| filter.keeps(one));
    if global.error {
        for one in all.iter_mut().filter(|one| one.rule.is_some() && one.severity == Severity::Warning) {
            one.severity = Severity::Error;
        }
    }
    all.sort_by_key(|one| (one.span.start, one.severity));
    all
}

/// Decides which warnings are kept.
struct WarningFilter<'s> {
    global: &'s CheckOptions,
    thorough: bool,
    /// The instructions with their own check options.
    local: Vec<(Range<usize>, CheckOptions)>,
    /// The byte range of each stage, with the facts known about it.
    stages: Vec<(Range<usize>, StageFacts)>,
}

/// The facts about a stage that decide which rules apply to it.
#[derive(Debug, Clone, Copy)]
struct StageFacts {
    /// True when the target needs it, or when that is not known.
    needed: bool,
    /// True when its base image is known, and so its variables are.
    variables: bool,
}

impl<'s> WarningFilter<'s> {
    fn new(subject: &LintInput<'_>, global: &'s CheckOptions) -> WarningFilter<'s> {
        let own =
            |one: &DockerfileInstruction| Some((one.span.clone(), CheckOptions::read(one.check_directive()?).ok()?));
        let instructions = &subject.dockerfile.instructions;
        WarningFilter {
            global,
            thorough: subject.thorough,
            local: instructions.iter().filter_map(own).collect(),
            stages: stage_facts(subject),
        }
    }

    fn keeps(&self, one: &Diagnostic) -> bool {
        let Some(rule) = one.rule.and_then(rules::find).filter(|_| one.severity != Severity::Error) else {
            return true;
        };
        let around = find_range(&self.local, one.span.start);
        let on = match rule.activation {
            RuleActivation::Experimental => {
                self.global.enables(rule.name) || around.is_some_and(|options| options.enables(rule.name))
            }
            RuleActivation::Always => true,
            RuleActivation::CheckOnly => self.thorough,
        };
        on && self.applies_at(rule, one.span.start)
            && (rule.activation == RuleActivation::Experimental
                || !self.global.skips(rule.name) && !around.is_some_and(|options| options.skips(rule.name)))
    }

    fn applies_at(&self, rule: &LintRule, place: usize) -> bool {
        let known = find_range(&self.stages, place);
        if rule.name == rules::UNDEFINED_VAR.name && known.is_some_and(|known| !known.variables) {
            return false;
        }
        match rule.scope {
            RuleScope::File => true,
            RuleScope::Stages => known.is_some_and(|known| known.needed),
        }
    }
}

/// Returns the value of the range that contains `place`; ranges are in the order of the text.
fn find_range<T>(ranges: &[(Range<usize>, T)], place: usize) -> Option<&T> {
    let last = ranges.partition_point(|(range, _)| range.start <= place).checked_sub(1)?;
    ranges.get(last).filter(|(range, _)| place < range.end).map(|(_, known)| known)
}

/// Returns the byte range and the facts of each stage of the file.
fn stage_facts(subject: &LintInput<'_>) -> Vec<(Range<usize>, StageFacts)> {
    let instructions = &subject.dockerfile.instructions;
    let unknown = unknown_stages(subject);
    let needed: Option<HashSet<usize>> =
        subject.graph.map(|graph| graph.stages.iter().map(|node| node.index).collect());
    let known = |at: usize| StageFacts {
        needed: needed.as_ref().is_none_or(|needed| needed.contains(&at)),
        variables: !unknown.contains(&at),
    };
    let places = stage_ranges(instructions);
    let starts: Vec<usize> = places.iter().map(|stage| instructions[stage.start].span.start).collect();
    let ends = starts.iter().skip(1).copied().chain([usize::MAX]);
    starts.iter().copied().zip(ends).enumerate().map(|(at, (start, end))| (start..end, known(at))).collect()
}

/// Returns the stages that are based, directly or indirectly, on an image whose config is unknown.
fn unknown_stages(subject: &LintInput<'_>) -> HashSet<usize> {
    let mut unknown = HashSet::new();
    let nodes = subject.graph.map(|graph| graph.stages.as_slice()).unwrap_or_default();
    for node in nodes {
        let is_unknown = match &node.base {
            StageBase::Scratch => false,
            StageBase::Stage(at) => unknown.contains(&nodes[*at].index),
            StageBase::External(key) => {
                !subject.base_configs.contains_key(key) && subject.settings.context_for(&node.base_name.name).is_none()
            }
        };
        if is_unknown {
            unknown.insert(node.index);
        }
    }
    unknown
}

/// Makes a warning of `rule` about a whole instruction.
fn warning(rule: &LintRule, one: &DockerfileInstruction, message: impl Into<String>) -> Diagnostic {
    Diagnostic::warning(Some(rule), one.span.clone(), message)
}
