//! Turns the Dockerfile into a plan, or into diagnostics.

use std::collections::BTreeMap;

use dram_build::ResolvedInput;
use dram_dockerfile::lint::{self, LintInput};
use dram_dockerfile::{BuildSettings, Diagnostic, OnbuildTriggers, ParsedDockerfile, Severity, StageGraph};
use dram_image::ImageConfig;
use dram_plan::Plan;
use dram_store::Store;

use super::dockerfile_source::DockerfileSource;
use super::platform;
use super::remote_context::ContextFetcher;
use super::resolve_inputs::{NamedContexts, resolve_inputs};
use crate::failure::{Failure, SourceDiagnostics};
use crate::image_resolver::ImageResolver;
use crate::{cli, progress};

/// Parses the Dockerfile, resolves its inputs, and makes the plan. Warnings are shown; errors are returned together.
pub(super) fn make_plan(
    from: (&Store, &ImageResolver<'_>, &ContextFetcher<'_>),
    args: &cli::BuildCommandArgs,
    source: &DockerfileSource,
    build_args: BTreeMap<String, String>,
    contexts: &NamedContexts,
) -> Result<(Plan, BTreeMap<String, ResolvedInput>), Failure> {
    let parsed = dram_dockerfile::parse(&source.bytes);
    let settings = plan_settings(args, build_args, contexts)?;
    let GraphWithInputs { graph, outside, mut remarks } = resolve_graph(from, source, &parsed, &settings, contexts)?;
    let found = |(name, outside): (&String, &ResolvedInput)| match outside {
        ResolvedInput::Image(image) => Some((name.clone(), image.config.value().clone())),
        ResolvedInput::Context(_) => None,
    };
    let found: BTreeMap<String, ImageConfig> = outside.iter().filter_map(found).collect();
    let (plan, more) = graph.plan(&found);
    remarks.extend(more);
    let subject = LintInput {
        dockerfile: &parsed.dockerfile,
        settings: &settings,
        graph: Some(&graph),
        plan: plan.as_ref(),
        base_configs: &found,
        ignore: source.ignore.as_ref().map(|(name, ignore)| (name.as_str(), &**ignore)),
        thorough: false,
    };
    let remarks = lint::check(&subject, remarks);
    let Some(plan) = plan.filter(|_| !has_errors(&remarks)) else { return Err(diagnostics_failure(source, remarks)) };
    if !remarks.is_empty() {
        let remarks = SourceDiagnostics { name: source.name.clone(), text: source.text.clone(), diagnostics: remarks };
        progress::show_warnings(args.progress_mode(), &remarks);
    }
    Ok((plan, outside))
}

/// The settings of the plan that come from the command line.
pub(super) fn plan_settings(
    args: &cli::BuildCommandArgs,
    build_args: BTreeMap<String, String>,
    contexts: &NamedContexts,
) -> Result<BuildSettings, Failure> {
    let (own, asked) = (platform::host_platform(), platform::target_platform(args)?);
    Ok(BuildSettings {
        target: args.target.clone(),
        all_stages: false,
        build_args,
        contexts: contexts.names(),
        build_platform: Some(own).filter(|own| *own != asked),
        os: asked.os,
        architecture: asked.architecture,
        variant: Some(asked.variant).filter(|variant| !variant.is_empty()),
    })
}

/// The stage graph, its resolved inputs, and diagnostics about both.
struct GraphWithInputs {
    graph: StageGraph,
    outside: BTreeMap<String, ResolvedInput>,
    remarks: Vec<Diagnostic>,
}

/// Makes the stage graph and resolves its inputs. `ONBUILD` triggers of an image may need more inputs, so this is
/// repeated until there are no new ones.
fn resolve_graph(
    from: (&Store, &ImageResolver<'_>, &ContextFetcher<'_>),
    source: &DockerfileSource,
    parsed: &ParsedDockerfile,
    settings: &BuildSettings,
    contexts: &NamedContexts,
) -> Result<GraphWithInputs, Failure> {
    let mut triggers = OnbuildTriggers::new();
    loop {
        let mut remarks = parsed.diagnostics.clone();
        let (graph, more) = StageGraph::new(&parsed.dockerfile, settings, &triggers);
        remarks.extend(more);
        let Some(graph) = graph.filter(|_| !has_errors(&remarks)) else {
            return Err(diagnostics_failure(source, remarks));
        };
        let (outside, more) = resolve_inputs(from, &graph.external_inputs(), settings, contexts)?;
        if has_errors(&more) {
            let diagnostics = remarks.into_iter().chain(more).collect();
            let mut failure = diagnostics_failure(source, diagnostics);
            failure.reclassify_as_work();
            return Err(failure);
        }
        let found = |(name, outside): (&String, &ResolvedInput)| match outside {
            ResolvedInput::Image(image) => Some((name.clone(), image.config.value().config.on_build.clone())),
            ResolvedInput::Context(_) => None,
        };
        let found: OnbuildTriggers = outside.iter().filter_map(found).filter(|(_, texts)| !texts.is_empty()).collect();
        if found == triggers {
            return Ok(GraphWithInputs { graph, outside, remarks });
        }
        triggers = found;
    }
}

pub(super) fn has_errors(remarks: &[Diagnostic]) -> bool {
    remarks.iter().any(|remark| remark.severity == Severity::Error)
}

/// The failure with the errors of `remarks`. The help of a warning at the same position may be the right one, so it is
/// added.
pub(super) fn diagnostics_failure(source: &DockerfileSource, remarks: Vec<Diagnostic>) -> Failure {
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
