//! Runs a requested build: resolve → plan → solve → outputs → shared caches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use dram_dockerfile::Diagnostic;
use dram_plan::{Plan, StepOp};

use super::make_plan::{PlannedBuild, make_plan};
use super::write_outputs::OutputWriter;
use super::{
    BuildFailure, BuildNote, BuildRequest, BuildResult, BuildServices, OutputResult, PhaseDurations, RequestEvent,
    StepEnding, cache_endpoints, image_platform,
};
use crate::command_check::check_image;
use crate::step_location::StepLocation;
use crate::{BuildEvent, BuildOptions, LayerProvider, ResolvedInput, SharedCaches, Snapshot, StepPosition, build};

/// Builds what `request` says, and writes its outputs and caches.
///
/// # Errors
/// Returns an error if the build or an output failed. A shared cache that cannot be written is reported in the result,
/// because everything else is done then.
pub fn run_build(
    request: &BuildRequest,
    services: &BuildServices<'_>,
    events: &(dyn Fn(RequestEvent<'_>) + Sync),
) -> Result<BuildResult, BuildFailure> {
    let start = (services.clock)();
    let PlannedBuild { plan, inputs, warnings } = make_plan(request, services.inputs)?;
    if !warnings.is_empty() {
        events(RequestEvent::Warnings(&warnings));
    }
    refuse_commands(&plan, services)?;
    events(RequestEvent::Planned(&plan));
    let imports = if request.use_cache { request.cache_imports.as_slice() } else { &[] };
    let caches = cache_endpoints::open_caches(imports, services, &image_platform(request.platform()?), events)?;
    let resolved = (services.clock)();
    let progress = StepProgress { events, state: Mutex::default() };
    let tell = |event| progress.record(event);
    let cancel = services.cancel.clone();
    let layers =
        LayerProvider::new(services.store).with_events(&tell).with_inputs(&inputs).with_shared_caches(&caches, cancel);
    let built = solve(request, services, (&plan, &inputs, &layers), &tell);
    for warning in caches.warnings() {
        events(RequestEvent::Note(BuildNote::CacheFailed(warning)));
    }
    let snapshot = built?;
    let solved = (services.clock)();
    let outputs = write_outputs(request, services, (&plan, &layers, &snapshot, &caches), events)?;
    let faults = match request.check_commands {
        true => check_image(&layers, &snapshot, &plan)?,
        false => Vec::new(),
    };
    let exports = &request.cache_exports;
    let cache_failure = cache_endpoints::export_caches(exports, services, (&caches, &snapshot), events).err();
    let exported = (services.clock)();
    let durations = PhaseDurations {
        resolve: resolved.saturating_sub(start),
        solve: solved.saturating_sub(resolved),
        export: exported.saturating_sub(solved),
    };
    let StepRecords { endings: steps, mut remarks } = progress.take_records();
    remarks.extend(faults);
    Ok(BuildResult { plan, snapshot, outputs, steps, warnings, remarks, cache_failure, durations })
}

/// Writes the outputs, and gives names to the base images that are complete then.
fn write_outputs(
    request: &BuildRequest,
    services: &BuildServices<'_>,
    (plan, layers, snapshot, caches): (&Plan, &LayerProvider<'_>, &Snapshot, &SharedCaches<'_>),
    events: &(dyn Fn(RequestEvent<'_>) + Sync),
) -> Result<Vec<OutputResult>, BuildFailure> {
    let mut config = plan.stages[plan.target].config.clone();
    config.config.labels.extend(request.labels.clone());
    let has_inline_export = request.cache_exports.iter().any(|export| export.endpoint.is_none());
    let platform = &image_platform(request.platform()?);
    let writer = OutputWriter { services, layers, snapshot, config: &config, platform, events };
    let outputs = writer.write_all(&request.outputs, has_inline_export.then_some(caches));
    events(RequestEvent::OutputsEnded);
    let outputs = outputs?;
    services.inputs.name_complete_images()?;
    Ok(outputs)
}

/// Passes on the events of steps, and keeps those that belong to the result.
struct StepProgress<'a> {
    events: &'a (dyn Fn(RequestEvent<'_>) + Sync),
    state: Mutex<StepRecords>,
}

#[derive(Default)]
struct StepRecords {
    endings: BTreeMap<StepPosition, StepEnding>,
    remarks: Vec<Diagnostic>,
}

impl StepProgress<'_> {
    /// Takes what was recorded.
    fn take_records(&self) -> StepRecords {
        std::mem::take(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn record(&self, event: BuildEvent) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &event {
            BuildEvent::Cached(at) => drop(state.endings.insert(*at, StepEnding::Cached)),
            BuildEvent::SharedCacheHit(at) => drop(state.endings.insert(*at, StepEnding::SharedCacheHit)),
            BuildEvent::Executed(at, _) => drop(state.endings.insert(*at, StepEnding::Executed)),
            BuildEvent::Remark(remark) => {
                // Remarks are shown after the build, together.
                return state.remarks.push((**remark).clone());
            }
            BuildEvent::Started(..)
            | BuildEvent::WaitingForStep(_)
            | BuildEvent::WaitingForCache(..)
            | BuildEvent::Log(..)
            | BuildEvent::Unpacking { .. }
            | BuildEvent::Fetching { .. }
            | BuildEvent::Packing { .. } => {}
        }
        drop(state);
        (self.events)(RequestEvent::Step(event));
    }
}

/// Executes the steps of the plan, or takes them from the caches.
fn solve(
    request: &BuildRequest,
    services: &BuildServices<'_>,
    (plan, inputs, layers): (&Plan, &BTreeMap<String, ResolvedInput>, &LayerProvider<'_>),
    tell: &(dyn Fn(BuildEvent) + Sync),
) -> Result<Snapshot, BuildFailure> {
    let options = BuildOptions {
        layers,
        executor: services.executor,
        context: &request.context,
        use_cache: request.use_cache,
        no_cache_stages: uncached_stages(request, plan)?,
        network: request.network,
        command_options: request.command_options.clone(),
        build_id: request.build_id()?,
        clock: services.clock,
        wall_clock: services.wall_clock,
        time: request.time,
        remotes: services.remotes,
        cancel: services.cancel.clone(),
    };
    Ok(build(plan, inputs, &options, tell)?)
}

/// Returns the stages of `--no-cache-filter`, whose steps are all executed.
fn uncached_stages(request: &BuildRequest, plan: &Plan) -> Result<BTreeSet<usize>, BuildFailure> {
    let mut all = BTreeSet::new();
    for name in request.no_cache_filter.iter().filter(|name| !name.is_empty()) {
        let stages = plan.stages.iter().enumerate();
        let before = all.len();
        all.extend(stages.filter(|(_, stage)| stage.name.eq_ignore_ascii_case(name)).map(|(at, _)| at));
        if all.len() == before {
            let stages = plan.stages.iter().map(|stage| stage.name.clone()).collect();
            return Err(BuildFailure::UnknownStage { name: name.clone(), stages });
        }
    }
    Ok(all)
}

/// Fails for a plan with commands if this machine cannot run any, before a step is executed.
fn refuse_commands(plan: &Plan, services: &BuildServices<'_>) -> Result<(), BuildFailure> {
    let mut steps = plan.stages.iter().flat_map(|stage| &stage.steps);
    let Some(step) = steps.find(|step| matches!(step.op, StepOp::Run(_))) else { return Ok(()) };
    let Some(lack) = (services.missing_support)() else { return Ok(()) };
    let why: Vec<String> = lack.failed_checks.iter().map(|row| format!("{}: {}", row.name, row.detail)).collect();
    let mut diagnostic = StepLocation::of(step).error(format!("commands cannot be run here: {}", why.join("; ")));
    diagnostic.helps = lack.failed_checks.iter().filter_map(|row| row.help.clone()).collect();
    diagnostic.helps.push("`dram doctor` shows what can be done here; everything but RUN can".to_owned());
    Err(BuildFailure::CommandsUnsupported(Box::new(diagnostic)))
}
