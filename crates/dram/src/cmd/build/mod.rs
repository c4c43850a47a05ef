//! `dram build`: builds an image from a Dockerfile. The options become a [`BuildRequest`]; the library builds what it
//! says; the events and the result are shown.

mod annotations;
mod args_and_labels;
mod build_id;
mod build_screen;
mod call;
mod dockerfile_source;
mod epoch;
mod key_value_option;
mod legacy_options;
mod output_option;
mod platform;
mod remote_context;
mod request_failure;
mod request_services;
mod resolve_inputs;
mod result_files;
pub(crate) mod run_inputs;
mod shared_cache;
mod text_files;

use std::collections::BTreeMap;
use std::sync::Arc;

use dram_build::request::{
    BuildOutput, BuildRequest, BuildResult, BuildServices, DockerfileText, StepCounts, run_build,
};
use dram_build::{CancelToken, Image, LocalExecutor};
use dram_image::Reference;
use dram_store::Store;

use self::args_and_labels::{parse_build_args, parse_labels};
use self::build_screen::BuildScreen;
use self::dockerfile_source::{DockerfileSource, resolve_context};
use self::output_option::OutputDefaults;
use self::remote_context::ContextFetcher;
use self::request_failure::request_failure;
use self::request_services::{CommandInputs, OutputFiles, RegistryPolicy};
use self::resolve_inputs::parse_named_contexts;
use self::shared_cache::SharedCacheOptions;
use super::{print_stdout, privilege};
use crate::ambient::{self, AmbientContext};
use crate::cli;
use crate::failure::{Failure, SourceDiagnostics};
use crate::format::{format_count, format_size};
use crate::image_resolver::ImageResolver;
use crate::network_fetcher::NetworkFetcher;
use crate::{image_lookup, report, signals};

pub(super) use call::{CallRequest, answer_call};

/// Builds the target, and writes the outputs and caches.
pub(crate) fn build(ambient: &AmbientContext, args: &cli::BuildCommandArgs) -> Result<(), Failure> {
    check_args(args)?;
    let build_args = parse_build_args(args)?;
    let store = Store::open_writable(ambient.store()?)?;
    let cancel = CancelToken::default();
    signals::cancel_on_signal(cancel.clone())?;
    let ssh_agent = run_inputs::default_agent(&args.ssh)?;
    let bring = ContextFetcher {
        store: &|| Ok(&store),
        needs_files: true,
        ssh_agent: ssh_agent.clone().or_else(ambient::ssh_agent),
        cancel: cancel.clone(),
    };
    let (request, source, notes) = build_request(args, build_args, &bring)?;
    result_files::remove_old_iidfile(args);
    let screen = Arc::new(BuildScreen::new(args.progress_mode(), &source, notes));
    let images = ImageResolver::new(&store, args.pull, cancel.clone());
    images.set_listener(screen.clone().pull_listener());
    let services = BuildServices {
        store: &store,
        inputs: &CommandInputs { store: &store, images: &images, bring: &bring },
        registries: &RegistryPolicy { registries: images.registries().clone(), pull: args.pull },
        files: &OutputFiles,
        // A Dockerfile gets no agent that the user did not give it.
        remotes: &NetworkFetcher::new(&store, ssh_agent, cancel.clone()),
        executor: &LocalExecutor::new(&store, ambient.host(), ambient::clock),
        missing_support: &|| ambient.missing_ability(),
        clock: ambient::clock,
        wall_clock: ambient::wall_clock,
        cancel,
    };
    let built = run_build(&request, &services, &|event| screen.show(event));
    screen.finish();
    let result = built.map_err(|failure| {
        let mut failure = request_failure(failure, &source.name, &source.text);
        if screen.shows_output() {
            failure.output.clear();
        }
        failure
    })?;
    report_result(ambient, args, (&request, result), &store, &screen)
}

/// Converts the options to a request, and reads the Dockerfile. Returns them with notes about options without effect.
fn build_request(
    args: &cli::BuildCommandArgs,
    mut build_args: BTreeMap<String, String>,
    bring: &ContextFetcher<'_>,
) -> Result<(BuildRequest, DockerfileSource, Vec<String>), Failure> {
    epoch::take_option(args, &mut build_args, bring)?;
    let (context, source) = resolve_context(args, &build_args, bring)?;
    epoch::take_commit_time(args, &mut build_args, &context)?;
    let mut epoch_notes = Vec::new();
    let defaults = OutputDefaults {
        time: epoch::take_epoch(args, &mut build_args, &source, &mut epoch_notes)?,
        tags: args.tag.iter().map(|text| image_lookup::parse_reference(text)).collect::<Result<_, _>>()?,
        annotations: annotations::parse_annotations(&args.annotation)?,
    };
    let outputs = output_option::parse_outputs(args, &defaults)?;
    let SharedCacheOptions { imports, exports, mut notes } =
        shared_cache::parse_cache_options(args, &build_args, defaults.time)?;
    notes.append(&mut epoch_notes);
    let labels = parse_labels(args)?;
    let command_options = run_inputs::run_inputs(args, &build_args)?;
    let (address, context_address) = source.addresses.clone();
    let request = BuildRequest {
        dockerfile: DockerfileText {
            name: source.name.clone(),
            bytes: source.bytes.clone(),
            ignore: source.ignore.clone(),
            address,
            context_address,
        },
        context,
        target: args.target.clone(),
        named_contexts: parse_named_contexts(args)?,
        platforms: vec![platform::target_platform(args)?],
        host_platform: platform::host_platform(),
        build_args,
        time: defaults.time,
        labels,
        outputs,
        cache_imports: imports,
        cache_exports: exports,
        use_cache: !args.no_cache,
        no_cache_filter: args.no_cache_filter.clone(),
        network: match args.network {
            cli::NetworkMode::Host => dram_sandbox::JailNetwork::Host,
            cli::NetworkMode::None => dram_sandbox::JailNetwork::None,
        },
        command_options,
        check_commands: !matches!(args.progress_mode(), cli::ProgressMode::Quiet | cli::ProgressMode::Rawjson),
    };
    Ok((request, source, notes))
}

/// Writes the files about the result, and prints notes and the summary.
fn report_result(
    ambient: &AmbientContext,
    args: &cli::BuildCommandArgs,
    (request, mut result): (&BuildRequest, BuildResult),
    store: &Store,
    screen: &BuildScreen,
) -> Result<(), Failure> {
    let made = result.last_image();
    result_files::write_result_files(args, made, &platform::target_platform(args)?.to_string())?;
    if screen.prints_notes() {
        privilege::note_single_id(ambient, &result.plan);
        if !result.remarks.is_empty() {
            let diagnostics = std::mem::take(&mut result.remarks);
            report::print_warnings(&SourceDiagnostics { diagnostics, ..screen.source() });
        }
        report::print_note(&summary(store, &result)?);
    }
    screen.print_cache_notes();
    if let Some(failure) = result.cache_failure.take() {
        let source = screen.source();
        return Err(request_failure(failure, &source.name, &source.text));
    }
    if let (cli::ProgressMode::Quiet, Some(made), false) =
        (args.progress_mode(), result.last_image(), request.outputs.iter().any(BuildOutput::is_stdout))
    {
        print_stdout(&format!("{}\n", made.root_digest()));
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

/// The summary, as `built demo:latest: sha256:…, 3.21 MB compressed; 2 steps executed, 5 cached`.
fn summary(store: &Store, result: &BuildResult) -> Result<String, Failure> {
    let StepCounts { cached, from_shared_cache: shared, executed } = result.step_counts();
    let shared = if shared == 0 { String::new() } else { format!(" ({shared} from a shared cache)") };
    let steps = format!("{} executed, {cached} cached{shared}", format_count(executed, "step"));
    let places: Vec<String> = result.outputs.iter().filter_map(|output| output.destination.clone()).collect();
    let places = if places.is_empty() { String::new() } else { format!(", written to {}", places.join(" and ")) };
    let Some(made) = result.last_image() else { return Ok(format!("built{places}; {steps}")) };
    let image = Image::open(store, &made.built.manifest)?;
    let names: Vec<String> = made.names.iter().map(Reference::short).collect();
    let named = if names.is_empty() { "built".to_owned() } else { format!("built {}", names.join(", ")) };
    let (digest, size) = (made.root_digest(), format_size(image.compressed_size()));
    Ok(format!("{named}: {digest}, {size} compressed{places}; {steps}"))
}
