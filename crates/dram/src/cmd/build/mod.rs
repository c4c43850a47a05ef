//! `dram build`: builds an image from a Dockerfile.

mod annotations;
mod args_and_labels;
mod build_id;
mod call;
mod container_options;
mod dockerfile_source;
mod epoch;
mod key_value_option;
mod legacy_options;
mod output;
mod planning;
mod platform;
mod remote_context;
mod resolve_inputs;
mod result_files;
pub(crate) mod run_inputs;
mod shared_cache;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use dram_build::{BuildEvent, BuildOptions, CancelToken, Image, LayerProvider, LocalExecutor, SharedCaches};
use dram_dockerfile::Diagnostic;
use dram_image::{ImagePlatform, Reference};
use dram_plan::Plan;
use dram_store::Store;

use self::args_and_labels::{parse_build_args, parse_labels};
use self::build_id::build_id;
use self::dockerfile_source::{DockerfileSource, resolve_context};
use self::output::{BuildOutput, OutputDefaults, OutputImage, OutputWriter};
use self::planning::make_plan;
use self::remote_context::ContextFetcher;
use self::resolve_inputs::NamedContexts;
use super::{missing_libraries, print_stdout, privilege};
use crate::ambient::{self, AmbientContext};
use crate::cli;
use crate::failure::{Failure, SourceDiagnostics};
use crate::format::{escape_control, format_count, format_size};
use crate::image_resolver::ImageResolver;
use crate::network_fetcher::NetworkFetcher;
use crate::progress::{BuildDisplay, StepCounts};
use crate::{image_lookup, report, signals};

pub(super) use call::{CallRequest, answer_call};

/// Builds the target, and writes the outputs and caches.
pub(crate) fn build(ambient: &AmbientContext, args: &cli::BuildCommandArgs) -> Result<(), Failure> {
    check_args(args)?;
    let mut build_args = parse_build_args(args)?;
    let store = Store::open_writable(ambient.store()?)?;
    let cancel = CancelToken::default();
    signals::cancel_on_signal(cancel.clone())?;
    let remotes = NetworkFetcher::new(&store, cancel.clone());
    let bring = ContextFetcher { store: &|| Ok(&store), needs_files: true, cancel: cancel.clone() };
    let (context, source) = resolve_context(args, &build_args, &bring)?;
    let asked = OutputDefaults {
        time: epoch::take_epoch(&mut build_args, &source)?,
        tags: args.tag.iter().map(|text| image_lookup::parse_reference(text)).collect::<Result<_, _>>()?,
        annotations: annotations::parse_annotations(&args.annotation)?,
    };
    let outputs = output::parse_outputs(args, &asked)?;
    let caches = shared_cache::parse_cache_options(args, &build_args, asked.time.unwrap_or(0))?;
    let labels = parse_labels(args)?;
    let given = run_inputs::run_inputs(args, &build_args)?;
    let contexts = NamedContexts::new(args)?;
    result_files::remove_old_iidfile(args);
    let place = build_id(args, &source, &build_args)?;
    let images = ImageResolver::new(&store, args.pull, cancel.clone());
    let (plan, outside) = make_plan((&store, &images, &bring), args, &source, build_args, &contexts)?;
    privilege::refuse_commands(ambient, &plan, &source.name, &source.text)?;
    let progress = Arc::new(BuildDisplay::new(args.progress_mode(), &plan));
    images.show_on_display(progress.clone());
    if progress.prints_notes() {
        caches.notes.iter().for_each(|remark| report::print_note(&format!("note: {remark}")));
    }
    let ways = shared_cache::CacheTransferContext {
        store: &store,
        registries: images.registries(),
        policy: args.pull,
        cancel: &cancel,
        progress: &progress,
    };
    let shared = open_shared_caches(&caches, args, &ways)?;
    let network = match args.network {
        cli::NetworkMode::Host => dram_sandbox::JailNetwork::Host,
        cli::NetworkMode::None => dram_sandbox::JailNetwork::None,
    };
    let remarks: Mutex<Vec<Diagnostic>> = Mutex::default();
    let tell = |event| match event {
        BuildEvent::Remark(remark) => remarks.lock().unwrap_or_else(PoisonError::into_inner).push(*remark),
        event @ (BuildEvent::Started(..)
        | BuildEvent::WaitingForStep(_)
        | BuildEvent::WaitingForCache(..)
        | BuildEvent::Log(..)
        | BuildEvent::Cached(_)
        | BuildEvent::SharedCacheHit(_)
        | BuildEvent::Executed(..)
        | BuildEvent::Unpacking { .. }
        | BuildEvent::Fetching { .. }
        | BuildEvent::Packing { .. }) => progress.show_event(event),
    };
    let layers =
        LayerProvider::new(&store).with_events(&tell).with_inputs(&outside).with_shared_caches(&shared, cancel.clone());
    let executor = LocalExecutor::new(&store, ambient.host(), ambient::clock);
    let options = BuildOptions {
        layers: &layers,
        executor: &executor,
        context: &context,
        use_cache: !args.no_cache,
        no_cache_stages: uncached_stages(args, &plan)?,
        network,
        command_options: given,
        build_id: place,
        clock: ambient::clock,
        remotes: &remotes,
        cancel: cancel.clone(),
    };
    let built = dram_build::build(&plan, &outside, &options, &tell);
    print_notes(&prefix_notes(shared.warnings()), &progress);
    let snapshot = built.map_err(|error| build_failure(error, &progress, &source))?;
    let mut config = plan.stages[plan.target].config.clone();
    config.config.labels.extend(labels);
    let inline = caches.has_inline_export().then_some(&shared);
    let outlet = OutputWriter {
        layers: &layers,
        snapshot: &snapshot,
        config: &config,
        images: &images,
        progress: &progress,
        cancel: &options.cancel,
    };
    let made = write_outputs(&outlet, &outputs, inline)?;
    images.name_complete_images()?;
    result_files::write_result_files(args, made.last(), &platform::target_platform(args)?.to_string())?;
    if progress.prints_notes() {
        privilege::note_single_id(ambient, &plan);
        let diagnostics = std::mem::take(&mut *remarks.lock().unwrap_or_else(PoisonError::into_inner));
        if !diagnostics.is_empty() {
            report::print_warnings(&SourceDiagnostics {
                name: source.name.clone(),
                text: source.text.clone(),
                diagnostics,
            });
        }
        missing_libraries::warn(&dram_build::missing_libraries(&layers, &snapshot)?);
        report::print_note(&summary(&store, &outputs, made.last(), progress.step_counts())?);
    }
    let cached = caches.write_exports(&ways, &shared, &snapshot);
    progress.finish();
    print_notes(&cached?, &progress);
    if let (cli::ProgressMode::Quiet, Some(made), false) =
        (args.progress_mode(), made.last(), outputs.iter().any(BuildOutput::is_stdout))
    {
        print_stdout(&format!("{}\n", made.built.manifest.digest));
    }
    Ok(())
}

/// Checks options for which no file must be read.
fn check_args(args: &cli::BuildCommandArgs) -> Result<(), Failure> {
    if args.quiet && !matches!(args.progress, cli::ProgressMode::Auto | cli::ProgressMode::Quiet) {
        return Err(Failure::usage("`--quiet` and `--progress` say different things").help("leave one of them out"));
    }
    legacy_options::check(&args.legacy)
}

/// The stages of `--no-cache-filter`, whose steps are all executed.
fn uncached_stages(args: &cli::BuildCommandArgs, plan: &Plan) -> Result<BTreeSet<usize>, Failure> {
    let mut all = BTreeSet::new();
    for name in args.no_cache_filter.iter().filter(|name| !name.is_empty()) {
        let fitting = |(_, stage): &(usize, &dram_plan::PlanStage)| stage.name.eq_ignore_ascii_case(name);
        let before = all.len();
        all.extend(plan.stages.iter().enumerate().filter(fitting).map(|(at, _)| at));
        if all.len() == before {
            let names: Vec<&str> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
            let failure = Failure::usage(format!("`--no-cache-filter {name}`: the build has no stage of that name"));
            return Err(match dram_dockerfile::suggest::nearest_name(name, names.iter().copied()) {
                Some(near) => failure.help(format!("did you mean `{near}`?")),
                None => failure.help(format!("its stages are {}", names.join(", "))),
            });
        }
    }
    Ok(all)
}

fn build_failure(error: dram_build::BuildError, progress: &BuildDisplay, source: &DockerfileSource) -> Failure {
    progress.finish();
    let mut failure = Failure::build(error, &source.name, &source.text);
    if progress.shows_output() {
        failure.output.clear();
    }
    failure
}

/// Opens the shared caches of `--cache-from`.
fn open_shared_caches<'a>(
    caches: &shared_cache::SharedCacheOptions,
    args: &cli::BuildCommandArgs,
    ways: &shared_cache::CacheTransferContext<'a, '_>,
) -> Result<SharedCaches<'a>, Failure> {
    if args.no_cache {
        return Ok(SharedCaches::default());
    }
    let platform = platform::target_platform(args)?;
    let variant = Some(platform.variant).filter(|variant| !variant.is_empty());
    let platform = ImagePlatform { architecture: platform.architecture, os: platform.os, variant };
    let (shared, remarks) = caches.open_imports(ways, &platform)?;
    print_notes(&prefix_notes(remarks), ways.progress);
    Ok(shared)
}

fn prefix_notes(remarks: Vec<String>) -> Vec<String> {
    remarks.into_iter().map(|remark| format!("note: {remark}")).collect()
}

fn print_notes(remarks: &[String], progress: &BuildDisplay) {
    if progress.prints_notes() {
        remarks.iter().for_each(|remark| report::print_note(&escape_control(remark)));
    }
}

/// Writes all outputs. With `inline`, images hold a cache. Returns the images among the outputs.
fn write_outputs(
    outlet: &OutputWriter<'_>,
    outputs: &[BuildOutput],
    inline: Option<&SharedCaches<'_>>,
) -> Result<Vec<OutputImage>, Failure> {
    let mut made = Vec::new();
    let written = outputs.iter().try_for_each(|output| {
        let cached = inline.and_then(|shared| output.with_cache(shared, outlet.snapshot));
        made.extend(outlet.write(cached.as_ref().unwrap_or(output))?);
        Ok(())
    });
    outlet.progress.finish();
    written.map(|()| made)
}

/// The summary, as `built demo:latest: sha256:…, 3.21 MB compressed; 2 steps executed, 5 cached`.
fn summary(
    store: &Store,
    outputs: &[BuildOutput],
    made: Option<&OutputImage>,
    StepCounts { cached, from_shared_cache: shared, executed }: StepCounts,
) -> Result<String, Failure> {
    let shared = if shared == 0 { String::new() } else { format!(" ({shared} from a shared cache)") };
    let steps = format!("{} executed, {cached} cached{shared}", format_count(executed, "step"));
    let places: Vec<String> = outputs.iter().filter_map(BuildOutput::destination).collect();
    let places = if places.is_empty() { String::new() } else { format!(", written to {}", places.join(" and ")) };
    let Some(made) = made else { return Ok(format!("built{places}; {steps}")) };
    let image = Image::open(store, &made.built.manifest)?;
    let names: Vec<String> = made.names.iter().map(Reference::short).collect();
    let named = if names.is_empty() { "built".to_owned() } else { format!("built {}", names.join(", ")) };
    let (digest, size) = (made.built.manifest.digest, format_size(image.compressed_size()));
    Ok(format!("{named}: {digest}, {size} compressed{places}; {steps}"))
}
