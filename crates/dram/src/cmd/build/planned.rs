//! Turns the Dockerfile into a plan, or into diagnostics.

use std::collections::BTreeMap;

use dram_build::Outside;
use dram_dockerfile::lint::{self, Subject};
use dram_dockerfile::{Diagnostic, Parsed, Plan, Settings, Severity, StageGraph, Triggers};
use dram_image::ImageConfig;
use dram_store::Store;

use super::elsewhere::Bring;
use super::outside::{Named, outside};
use super::platform;
use super::source::Source;
use crate::failure::{Failure, Remarks};
use crate::pulling::Images;
use crate::{cli, progress};

/// Parses the Dockerfile, resolves its inputs, and makes the plan. Warnings are shown; errors are returned together.
pub(super) fn plan(
    from: (&Store, &Images<'_>, &Bring<'_>),
    args: &cli::Build,
    source: &Source,
    build_args: BTreeMap<String, String>,
    contexts: &Named,
) -> Result<(Plan, BTreeMap<String, Outside>), Failure> {
    let parsed = dram_dockerfile::parse(&source.bytes);
    let settings = settings(args, build_args, contexts)?;
    let Graph { graph, outside, mut remarks } = graph(from, source, &parsed, &settings, contexts)?;
    let found = |(name, outside): (&String, &Outside)| match outside {
        Outside::Image(image) => Some((name.clone(), image.config.value().clone())),
        Outside::Files(_) => None,
    };
    let found: BTreeMap<String, ImageConfig> = outside.iter().filter_map(found).collect();
    let (plan, more) = graph.plan(&found);
    remarks.extend(more);
    let subject = Subject {
        dockerfile: &parsed.dockerfile,
        settings: &settings,
        graph: Some(&graph),
        plan: plan.as_ref(),
        found: &found,
        ignore: source.ignore.as_ref().map(|(name, ignore)| (name.as_str(), &**ignore)),
        thorough: false,
    };
    let remarks = lint::check(&subject, remarks);
    let Some(plan) = plan.filter(|_| !has_errors(&remarks)) else { return Err(wrong(source, remarks)) };
    if !remarks.is_empty() {
        let remarks = Remarks { name: source.name.clone(), text: source.text.clone(), diagnostics: remarks };
        progress::warnings(args.shown(), &remarks);
    }
    Ok((plan, outside))
}

/// The settings of the plan that come from the command line.
pub(super) fn settings(
    args: &cli::Build,
    build_args: BTreeMap<String, String>,
    contexts: &Named,
) -> Result<Settings, Failure> {
    let (own, asked) = (platform::own(), platform::asked(args)?);
    Ok(Settings {
        target: args.target.clone(),
        all_stages: false,
        build_args,
        contexts: contexts.names(),
        builder: Some(own).filter(|own| *own != asked),
        os: asked.os,
        architecture: asked.architecture,
        variant: Some(asked.variant).filter(|variant| !variant.is_empty()),
    })
}

/// The stage graph, its resolved inputs, and diagnostics about both.
struct Graph {
    graph: StageGraph,
    outside: BTreeMap<String, Outside>,
    remarks: Vec<Diagnostic>,
}

/// Makes the stage graph and resolves its inputs. `ONBUILD` triggers of an image may need more inputs, so this is
/// repeated until there are no new ones.
fn graph(
    from: (&Store, &Images<'_>, &Bring<'_>),
    source: &Source,
    parsed: &Parsed,
    settings: &Settings,
    contexts: &Named,
) -> Result<Graph, Failure> {
    let mut triggers = Triggers::new();
    loop {
        let mut remarks = parsed.diagnostics.clone();
        let (graph, more) = StageGraph::new(&parsed.dockerfile, settings, &triggers);
        remarks.extend(more);
        let Some(graph) = graph.filter(|_| !has_errors(&remarks)) else { return Err(wrong(source, remarks)) };
        let (outside, more) = outside(from, &graph.needs(), settings, contexts)?;
        if has_errors(&more) {
            let diagnostics = remarks.into_iter().chain(more).collect();
            let mut failure = wrong(source, diagnostics);
            failure.becomes_work();
            return Err(failure);
        }
        let found = |(name, outside): (&String, &Outside)| match outside {
            Outside::Image(image) => Some((name.clone(), image.config.value().config.on_build.clone())),
            Outside::Files(_) => None,
        };
        let found: Triggers = outside.iter().filter_map(found).filter(|(_, texts)| !texts.is_empty()).collect();
        if found == triggers {
            return Ok(Graph { graph, outside, remarks });
        }
        triggers = found;
    }
}

pub(super) fn has_errors(remarks: &[Diagnostic]) -> bool {
    remarks.iter().any(|remark| remark.severity == Severity::Error)
}

/// The failure with the errors of `remarks`. The help of a warning at the same position may be the right one, so it is
/// added.
pub(super) fn wrong(source: &Source, remarks: Vec<Diagnostic>) -> Failure {
    let (mut remarks, warnings): (Vec<_>, Vec<_>) =
        remarks.into_iter().partition(|remark| remark.severity == Severity::Error);
    for warning in warnings {
        if let Some(error) = remarks.iter_mut().find(|error| error.span == warning.span) {
            error.helps.splice(0..0, warning.helps);
        }
    }
    remarks.sort_by_key(|remark| remark.span.start);
    Failure::text(source.name.clone(), source.text.clone(), remarks)
}
