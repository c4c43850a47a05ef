//! The checks: everything that is said about a Dockerfile beside its errors, and which of it the file turns off.
//!
//! Some rules are noticed on the way, by whoever expands a word or reads a line; the ones here look at the whole.
//! [`check`] is the end of both: it takes what was said so far, adds what is found here, and leaves out what nobody
//! wants to hear. Rules of BuildKit fire where BuildKit's do (`frontend/dockerfile/dockerfile2llb/validations.go`).

mod advice;
mod apt;
mod arguments;
mod bases;
mod caches;
mod context;
mod descriptions;
mod names;
mod options;
mod place;
mod secrets;
mod shell;
mod stages;

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use dram_image::ImageConfig;

use crate::ast::{Dockerfile, Instruction};
use crate::diagnostic::{Diagnostic, Report, Severity};
use crate::graph::{Ground, StageGraph, split};
use crate::ignore::Ignore;
use crate::plan::Plan;
use crate::rules::{self, Reach, Rule, When};
use crate::settings::Settings;

use options::Options;

pub use place::{Lines, lines_at, lines_of};

/// What the checks look at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'s> {
    /// The file.
    pub dockerfile: &'s Dockerfile,
    /// What the user said beside it.
    pub settings: &'s Settings,
    /// The stages of the target, where the file is good enough to have some.
    pub graph: Option<&'s StageGraph>,
    /// Their steps, where everything is right.
    pub plan: Option<&'s Plan>,
    /// The configurations of the images that are known. Of a stage on another one it is not known which variables it
    /// has.
    pub found: &'s BTreeMap<String, ImageConfig>,
    /// The list of what is left out of the build context, and its name.
    pub ignore: Option<(&'s str, &'s Ignore)>,
    /// Whether advice is wanted too: every rule, not only those for each build.
    pub thorough: bool,
}

/// Adds to `said`, which is all that was said about the file so far, what the checks find, and leaves out what the
/// file or the build argument `BUILDKIT_DOCKERFILE_CHECK` turns off. In the order of the text.
///
/// Under `error=true` each warning of a rule comes back as an error: the file is not to be built then.
pub fn check(subject: &Subject<'_>, said: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut report = Report::default();
    let global = Options::of(subject, &mut report);
    names::check(subject.dockerfile, &mut report);
    secrets::check(subject.dockerfile, &mut report);
    descriptions::check(subject.dockerfile, &mut report);
    if let Some(graph) = subject.graph {
        stages::check(subject, graph, &mut report);
        bases::check(subject, graph, &mut report);
        if unknown_stages(subject).is_empty() {
            // An image that is not known may have triggers that declare some.
            arguments::check(subject, graph, &mut report);
        }
    }
    if let Some(plan) = subject.plan {
        context::check(plan, subject.ignore, &mut report);
        if subject.thorough {
            advice::check(plan, &mut report);
        }
    }
    let filter = Filter::new(subject, &global);
    let mut all = said;
    all.extend(report.into_diagnostics());
    all.retain(|one| filter.keeps(one));
    if global.error {
        for one in all.iter_mut().filter(|one| one.rule.is_some()) {
            one.severity = Severity::Error;
        }
    }
    all.sort_by_key(|one| (one.span.start, one.severity));
    all
}

/// Which warnings are heard.
struct Filter<'s> {
    global: &'s Options,
    thorough: bool,
    /// Instructions with options of their own.
    local: Vec<(Range<usize>, Options)>,
    /// Where each stage is in the text, and what is known of it.
    stages: Vec<(Range<usize>, Known)>,
}

/// What is known of a stage.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// The target needs it, or that is not known.
    needed: bool,
    /// Its base image is there, so that its variables are known.
    variables: bool,
}

impl<'s> Filter<'s> {
    fn new(subject: &Subject<'_>, global: &'s Options) -> Filter<'s> {
        let own = |one: &Instruction| Some((one.span.clone(), Options::read(one.check()?).ok()?));
        let instructions = &subject.dockerfile.instructions;
        Filter {
            global,
            thorough: subject.thorough,
            local: instructions.iter().filter_map(own).collect(),
            stages: stages_in(subject),
        }
    }

    fn keeps(&self, one: &Diagnostic) -> bool {
        let Some(rule) = one.rule.and_then(rules::find).filter(|_| one.severity == Severity::Warning) else {
            return true;
        };
        let around = at(&self.local, one.span.start);
        let on = match rule.when {
            When::Asked => self.global.asks(rule.name) || around.is_some_and(|options| options.asks(rule.name)),
            When::Always => true,
            When::Checked => self.thorough,
        };
        on && self.reaches(rule, one.span.start)
            && (rule.when == When::Asked
                || !self.global.skips(rule.name) && !around.is_some_and(|options| options.skips(rule.name)))
    }

    fn reaches(&self, rule: &Rule, place: usize) -> bool {
        let known = at(&self.stages, place);
        if rule.name == rules::UNDEFINED_VAR.name && known.is_some_and(|known| !known.variables) {
            return false;
        }
        match rule.reach {
            Reach::File => true,
            Reach::Stages => known.is_some_and(|known| known.needed),
        }
    }
}

/// What belongs to the range that `place` is in; ranges are in the order of the text.
fn at<T>(ranges: &[(Range<usize>, T)], place: usize) -> Option<&T> {
    let last = ranges.partition_point(|(range, _)| range.start <= place).checked_sub(1)?;
    ranges.get(last).filter(|(range, _)| place < range.end).map(|(_, known)| known)
}

/// The stages as they stand in the text.
fn stages_in(subject: &Subject<'_>) -> Vec<(Range<usize>, Known)> {
    let instructions = &subject.dockerfile.instructions;
    let unknown = unknown_stages(subject);
    let needed: Option<HashSet<usize>> =
        subject.graph.map(|graph| graph.stages.iter().map(|node| node.index).collect());
    let known = |at: usize| Known {
        needed: needed.as_ref().is_none_or(|needed| needed.contains(&at)),
        variables: !unknown.contains(&at),
    };
    let places = split(instructions);
    let starts: Vec<usize> = places.iter().map(|stage| instructions[stage.start].span.start).collect();
    let ends = starts.iter().skip(1).copied().chain([usize::MAX]);
    starts.iter().copied().zip(ends).enumerate().map(|(at, (start, end))| (start..end, known(at))).collect()
}

/// The stages that stand, in the end, on an image whose configuration is not known.
fn unknown_stages(subject: &Subject<'_>) -> HashSet<usize> {
    let mut unknown = HashSet::new();
    let nodes = subject.graph.map(|graph| graph.stages.as_slice()).unwrap_or_default();
    for node in nodes {
        let is_unknown = match &node.base {
            Ground::Scratch => false,
            Ground::Stage(at) => unknown.contains(&nodes[*at].index),
            Ground::Outside { name, key, .. } => {
                !subject.found.contains_key(key) && subject.settings.context_for(name).is_none()
            }
        };
        if is_unknown {
            unknown.insert(node.index);
        }
    }
    unknown
}

/// A warning of `rule` about a whole instruction.
fn warning(rule: &Rule, one: &Instruction, message: impl Into<String>) -> Diagnostic {
    Diagnostic::warning(Some(rule), one.span.clone(), message)
}
