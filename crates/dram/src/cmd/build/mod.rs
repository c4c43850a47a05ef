//! `dram build`: builds an image from a Dockerfile.

mod annotations;
mod call;
mod commands;
mod elsewhere;
mod epoch;
pub(crate) mod given;
mod keys;
mod legacy;
mod output;
mod outside;
mod place;
mod planned;
mod platform;
mod result;
mod shared;
mod source;
mod words;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use dram_build::{Cancel, Event, Image, Options, Shared};
use dram_dockerfile::{Diagnostic, Plan};
use dram_image::{Platform, Reference};
use dram_store::Store;

use self::elsewhere::Bring;
use self::output::{Asked, Made, Outlet, Output};
use self::outside::Named;
use self::place::place;
use self::planned::plan;
use self::source::{Source, context};
use self::words::{build_args, labels};
use super::{lacks, privilege, say};
use crate::ambient::{self, Ambient};
use crate::cli;
use crate::failure::{Failure, Remarks};
use crate::format::{count, plain, size};
use crate::progress::{Counts, Progress};
use crate::pulling::Images;
use crate::remotes::Network;
use crate::{find, report, signals};

pub(super) use call::{Call, call};

/// Builds the target, and writes the outputs and caches.
pub(crate) fn build(ambient: &Ambient, args: &cli::Build) -> Result<(), Failure> {
    check(args)?;
    let mut build_args = build_args(args)?;
    let store = Store::open_to_write(ambient.store()?)?;
    let cancel = Cancel::default();
    signals::cancel_on_signal(cancel.clone())?;
    let remotes = Network::new(&store, cancel.clone());
    let bring = Bring { store: &|| Ok(&store), files: true, cancel: cancel.clone() };
    let (context, source) = context(args, &build_args, &bring)?;
    let asked = Asked {
        time: epoch::take(&mut build_args, &source)?,
        tags: args.tag.iter().map(|text| find::reference(text)).collect::<Result<_, _>>()?,
        annotations: annotations::annotations(&args.annotation)?,
    };
    let outputs = output::outputs(args, &asked)?;
    let caches = shared::asked(args, &build_args, asked.time.unwrap_or(0))?;
    let labels = labels(args)?;
    let given = given::given(args, &build_args)?;
    let contexts = Named::new(args)?;
    result::forget(args);
    let place = place(args, &source, &build_args)?;
    let images = Images::new(&store, args.pull, cancel.clone());
    let (plan, outside) = plan((&store, &images, &bring), args, &source, build_args, &contexts)?;
    privilege::refuse_commands(ambient, &plan, &source.name, &source.text)?;
    let progress = Arc::new(Progress::new(args.shown(), &plan));
    images.show_on(progress.clone());
    if progress.speaks() {
        caches.remarks.iter().for_each(|remark| report::note(&format!("note: {remark}")));
    }
    let ways = shared::Ways {
        store: &store,
        registries: images.registries(),
        policy: args.pull,
        cancel: &cancel,
        progress: &progress,
    };
    let shared = taken(&caches, args, &ways)?;
    let network = match args.network {
        cli::Network::Host => dram_sandbox::Network::Host,
        cli::Network::None => dram_sandbox::Network::None,
    };
    let options = Options {
        store: &store,
        context: &context,
        use_memory: !args.no_cache,
        forgotten: forgotten(args, &plan)?,
        network,
        host: ambient.host(),
        given,
        place,
        clock: ambient::clock,
        remotes: &remotes,
        shared: &shared,
        cancel: cancel.clone(),
    };
    let remarks: Mutex<Vec<Diagnostic>> = Mutex::default();
    let tell = |event| match event {
        Event::Remark(remark) => remarks.lock().unwrap_or_else(PoisonError::into_inner).push(*remark),
        event => progress.tell(event),
    };
    let built = dram_build::build(&plan, &outside, &options, &tell);
    noted(&notes(shared.remarks()), &progress);
    let snapshot = built.map_err(|error| failed(error, &progress, &source))?;
    let mut config = plan.stages[plan.target].config.clone();
    config.config.labels.extend(labels);
    let inline = caches.inline().then_some(&shared);
    let outlet = Outlet {
        store: &store,
        snapshot: &snapshot,
        config: &config,
        images: &images,
        progress: &progress,
        cancel: &options.cancel,
    };
    let made = written(&outlet, &outputs, inline)?;
    images.keep()?;
    result::tell(args, made.last(), &platform::asked(args)?.to_string())?;
    if progress.speaks() {
        privilege::note_one_id(ambient, &plan);
        let diagnostics = remarks.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !diagnostics.is_empty() {
            report::warnings(&Remarks { name: source.name.clone(), text: source.text.clone(), diagnostics });
        }
        lacks::warn(&dram_build::lacks(&store, &snapshot)?);
        report::note(&summary(&store, &outputs, made.last(), progress.counts())?);
    }
    let cached = caches.write(&ways, &shared, &snapshot);
    progress.end();
    noted(&cached?, &progress);
    if let (cli::Progress::Quiet, Some(made), false) =
        (args.shown(), made.last(), outputs.iter().any(Output::is_stdout))
    {
        say(&format!("{}\n", made.sealed.manifest.digest));
    }
    Ok(())
}

/// Checks options for which no file must be read.
fn check(args: &cli::Build) -> Result<(), Failure> {
    if args.quiet && !matches!(args.progress, cli::Progress::Auto | cli::Progress::Quiet) {
        return Err(Failure::usage("`--quiet` and `--progress` say different things").help("leave one of them out"));
    }
    legacy::check(&args.legacy)
}

/// The stages of `--no-cache-filter`, whose steps are all executed.
fn forgotten(args: &cli::Build, plan: &Plan) -> Result<BTreeSet<usize>, Failure> {
    let mut all = BTreeSet::new();
    for name in args.no_cache_filter.iter().filter(|name| !name.is_empty()) {
        let fitting = |(_, stage): &(usize, &dram_dockerfile::Stage)| stage.name.eq_ignore_ascii_case(name);
        let before = all.len();
        all.extend(plan.stages.iter().enumerate().filter(fitting).map(|(at, _)| at));
        if all.len() == before {
            let names: Vec<&str> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
            let failure = Failure::usage(format!("`--no-cache-filter {name}`: the build has no stage of that name"));
            return Err(match dram_dockerfile::nearest::nearest(name, names.iter().copied()) {
                Some(near) => failure.help(format!("did you mean `{near}`?")),
                None => failure.help(format!("its stages are {}", names.join(", "))),
            });
        }
    }
    Ok(all)
}

fn failed(error: dram_build::BuildError, progress: &Progress, source: &Source) -> Failure {
    progress.end();
    let mut failure = Failure::build(error, &source.name, &source.text);
    if progress.shows_output() {
        failure.output.clear();
    }
    failure
}

/// Opens the shared caches of `--cache-from`.
fn taken<'a>(caches: &shared::Asked, args: &cli::Build, ways: &shared::Ways<'a, '_>) -> Result<Shared<'a>, Failure> {
    if args.no_cache {
        return Ok(Shared::default());
    }
    let platform = platform::asked(args)?;
    let variant = Some(platform.variant).filter(|variant| !variant.is_empty());
    let platform = Platform { architecture: platform.architecture, os: platform.os, variant };
    let (shared, remarks) = caches.open(ways, &platform)?;
    noted(&notes(remarks), ways.progress);
    Ok(shared)
}

fn notes(remarks: Vec<String>) -> Vec<String> {
    remarks.into_iter().map(|remark| format!("note: {remark}")).collect()
}

fn noted(remarks: &[String], progress: &Progress) {
    if progress.speaks() {
        remarks.iter().for_each(|remark| report::note(&plain(remark)));
    }
}

/// Writes all outputs. With `inline`, images hold a cache. Returns the images among the outputs.
fn written(outlet: &Outlet<'_>, outputs: &[Output], inline: Option<&Shared<'_>>) -> Result<Vec<Made>, Failure> {
    let mut made = Vec::new();
    let written = outputs.iter().try_for_each(|output| {
        let cached = inline.and_then(|shared| output.with_cache(shared, outlet.snapshot));
        made.extend(outlet.write(cached.as_ref().unwrap_or(output))?);
        Ok(())
    });
    outlet.progress.end();
    written.map(|()| made)
}

/// The summary, as `built demo:latest: sha256:…, 3.21 MB compressed; 2 steps carried out, 5 remembered`.
fn summary(
    store: &Store,
    outputs: &[Output],
    made: Option<&Made>,
    Counts { remembered, shared, done }: Counts,
) -> Result<String, Failure> {
    let shared = if shared == 0 { String::new() } else { format!(" ({shared} by a shared cache)") };
    let steps = format!("{} carried out, {remembered} remembered{shared}", count(done, "step"));
    let places: Vec<String> = outputs.iter().filter_map(Output::place).collect();
    let places = if places.is_empty() { String::new() } else { format!(", written to {}", places.join(" and ")) };
    let Some(made) = made else { return Ok(format!("built{places}; {steps}")) };
    let image = Image::open(store, &made.sealed.manifest)?;
    let names: Vec<String> = made.names.iter().map(Reference::short).collect();
    let named = if names.is_empty() { "built".to_owned() } else { format!("built {}", names.join(", ")) };
    let (digest, size) = (made.sealed.manifest.digest, size(image.compressed_size()));
    Ok(format!("{named}: {digest}, {size} compressed{places}; {steps}"))
}
