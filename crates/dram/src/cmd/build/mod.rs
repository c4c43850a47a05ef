//! `dram build`: a Dockerfile becomes an image.

mod call;
pub(crate) mod given;
mod outside;
mod place;
mod planned;
mod source;
mod words;

use dram_build::{Cancel, Image, Options};
use dram_image::Reference;
use dram_store::Store;

use self::outside::named;
use self::place::place;
use self::planned::plan;
use self::source::context;
use self::words::build_args;
use super::{lacks, privilege, say};
use crate::ambient::{self, Ambient};
use crate::cli;
use crate::failure::Failure;
use crate::format::size;
use crate::progress::Progress;
use crate::{find, report, signals};

pub(super) use call::{Call, call};

/// Builds the image and names it.
pub(crate) fn build(ambient: &Ambient, args: &cli::Build) -> Result<(), Failure> {
    let tags = args.tag.iter().map(|text| find::reference(text)).collect::<Result<Vec<_>, _>>()?;
    let build_args = build_args(args)?;
    let latest = ambient::latest(build_args.get("SOURCE_DATE_EPOCH").map(String::as_str))?;
    let (context, source) = context(args)?;
    let contexts = named(args)?;
    let given = given::given(args, &build_args)?;
    let store = Store::open_to_write(ambient.store()?)?;
    let place = place(args, &build_args);
    let (plan, outside) = plan(&store, args, &source, build_args, &contexts)?;
    privilege::refuse_commands(ambient, &plan, &source.name, &source.text)?;
    let host = ambient.host();
    let progress = Progress::new(args.progress, &plan);
    let cancel = Cancel::default();
    signals::cancel_on_signal(cancel.clone())?;
    let network = match args.network {
        cli::Network::Host => dram_sandbox::Network::Host,
        cli::Network::None => dram_sandbox::Network::None,
    };
    let options = Options {
        store: &store,
        context: &context,
        use_memory: !args.no_cache,
        network,
        host,
        given,
        place,
        clock: ambient::clock,
        remotes: &crate::remotes::Net,
        cancel,
    };
    let tell = |event| progress.tell(event);
    let built = dram_build::build(&plan, &outside, &options, &tell);
    if built.is_err() {
        progress.end();
    }
    let snapshot = built.map_err(|error| {
        let mut failure = Failure::build(error, &source.name, &source.text);
        if progress.shows_output() {
            failure.output.clear();
        }
        failure
    })?;
    let config = plan.stages[plan.target].config.clone();
    let how = dram_build::Sealing { time: latest, ..Default::default() };
    let sealed = dram_build::seal(&store, &snapshot, config, &how, &tell)?;
    store.refs().set(&tags, &sealed.manifest)?;
    progress.end();
    if args.progress == cli::Progress::Quiet {
        say(&format!("{}\n", sealed.manifest.digest));
        return Ok(());
    }
    privilege::note_one_id(ambient, &plan);
    lacks::warn(&dram_build::lacks(&store, &snapshot)?);
    let (remembered, done) = progress.counts();
    let image = Image::open(&store, &sealed.manifest)?;
    let names: Vec<String> = tags.iter().map(Reference::short).collect();
    let named = if names.is_empty() { "built".to_owned() } else { format!("built {}", names.join(", ")) };
    report::note(&format!(
        "{named}: {}, {} compressed; {done} steps carried out, {remembered} remembered",
        sealed.manifest.digest,
        size(image.compressed_size())
    ));
    Ok(())
}
