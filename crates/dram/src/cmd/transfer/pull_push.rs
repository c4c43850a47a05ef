//! `dram pull` and `dram push`: images by their names in registries.

use dram_build::transfer::{ImageSelection, StoreSink, StoreSource, has_platform};
use dram_build::{CancelToken, Image};
use dram_image::{ImagePlatform, MediaType, Reference};
use dram_store::Store;

use super::sink_address::with_sink;
use super::{ImageTransfer, TransferSession, image_selection, write_digest_file};
use crate::ambient::AmbientContext;
use crate::cmd::print_stdout;
use crate::failure::Failure;
use crate::format::escape_control;
use crate::image_address::ImageAddress;
use crate::image_resolver::ImageResolver;
use crate::progress::TransferDisplay;
use crate::{cli, image_lookup, report};

/// Pulls images into the store.
pub(in crate::cmd) fn pull(ambient: &AmbientContext, args: &cli::PullArgs) -> Result<(), Failure> {
    let names = args.names.iter().map(|text| image_lookup::parse_reference(text)).collect::<Result<Vec<_>, _>>()?;
    let which = image_selection(args.platform.as_deref(), args.all_platforms)?;
    let world = TransferSession::new(ambient)?;
    for name in &names {
        pull_image(&world, name, &ImageTransfer::new(which.clone(), false, args.shown.progress_mode()))?;
    }
    Ok(())
}

fn pull_image(world: &TransferSession<'_>, name: &Reference, how: &ImageTransfer) -> Result<(), Failure> {
    let store = world.store()?;
    store.require_writable()?;
    let (source, root) = world.registries().source(name)?;
    // An index that is kept itself needs no note that its digest leads to one of its images.
    let is_selected = MediaType::is_index(&root.media_type) && how.which != ImageSelection::All;
    let index = is_selected.then_some(root.digest);
    let sink = StoreSink::new(store, vec![name.clone()], false).selected_from(index);
    let arrived = how.run(world, &root, &source, &sink)?;
    how.print_summary();
    if let ImageSelection::Platform(platform) = &how.which {
        note_other_platform(name, &Image::open(store, &arrived)?, platform);
    }
    print_stdout(&format!("{}@{}\n", name.short_name(), root.digest));
    Ok(())
}

/// Prints a note if an image, which is for one platform alone, is not for the platform `wanted`.
fn note_other_platform(name: &Reference, image: &Image, wanted: &ImagePlatform) {
    if !has_platform(image, wanted) {
        let config = image.config.value();
        let has = escape_control(&format!("{}/{}", config.os, config.architecture));
        report::print_note(&format!("`{name}` is for {has} alone, and not for {}/{}", wanted.os, wanted.architecture));
    }
}

/// Returns the image `text` of the store for `platform`, after pulling it if `policy` says so.
pub(in crate::cmd) fn ensure_image(
    store: &Store,
    text: &str,
    policy: cli::PullPolicy,
    platform: &ImagePlatform,
) -> Result<Image, Failure> {
    let cancel = CancelToken::default();
    let images = ImageResolver::new(store, policy, cancel.clone());
    let Some(image) = images.find(text, platform)? else {
        return Err(image_lookup::unknown_image(store, text)?);
    };
    if let Some(far) = image.lazy.clone().filter(|_| !image.has_all_blobs(store)) {
        // The command handles signals from here on.
        let lines = TransferDisplay::new(cli::ProgressMode::Auto);
        images.set_listener(Box::new(move |motion| lines.show_progress(motion)));
        far.fetch_blobs(store, &image.manifest.value().layers)?;
    }
    images.name_complete_images()?;
    Ok(image)
}

/// Returns true if an index can be sent to the address: engines take an image for one platform.
fn takes_index(dest: &ImageAddress) -> bool {
    match dest {
        ImageAddress::Registry(_) | ImageAddress::Layout(..) | ImageAddress::Archive(..) | ImageAddress::Store(_) => {
            true
        }
        ImageAddress::DockerArchive(..) | ImageAddress::Engine(_) | ImageAddress::Podman(_) => false,
    }
}

/// Pushes an image of the store to the registry in its name, or to another address.
pub(in crate::cmd) fn push(ambient: &AmbientContext, args: &cli::PushArgs) -> Result<(), Failure> {
    let dest = match &args.dest {
        Some(text) if ImageAddress::is_address(text) => ImageAddress::parse(text)?,
        Some(text) => ImageAddress::Registry(image_lookup::parse_reference(text)?),
        None if image_lookup::is_id(&args.image) => {
            let failure = Failure::usage(format!("`{}` is no name in a registry", args.image));
            return Err(failure.help(format!("say where it goes: `dram push {} HOST/NAME:TAG`", args.image)));
        }
        None if ImageAddress::is_address(&args.image) => {
            let failure = Failure::usage(format!("`{}` says where an image goes, and not which", args.image));
            return Err(failure.help(format!("`dram push NAME {}`", args.image)));
        }
        None => ImageAddress::Registry(image_lookup::parse_reference(&args.image)?),
    };
    let world = TransferSession::new(ambient)?;
    let store = world.store()?;
    let root = &image_lookup::find_root(store, &args.image)?;
    let selection = image_selection(args.platform.as_deref(), takes_index(&dest))?;
    let mut how = ImageTransfer::new(selection, false, args.shown.progress_mode());
    if !matches!(dest, ImageAddress::Registry(_)) {
        how.shown = Some((format!("store:{}", args.image), dest.to_string()));
    }
    let source = StoreSource::new(store);
    let arrived =
        with_sink(&world, &source, &dest, root, &how.which, &mut |sink| how.run(&world, root, &source, sink))?;
    how.print_summary();
    write_digest_file(args.digestfile.as_deref(), &arrived)?;
    match &dest {
        ImageAddress::Registry(name) => print_stdout(&format!("{}@{}\n", name.short_name(), arrived.digest)),
        ImageAddress::Layout(..)
        | ImageAddress::Archive(..)
        | ImageAddress::DockerArchive(..)
        | ImageAddress::Store(_)
        | ImageAddress::Engine(_)
        | ImageAddress::Podman(_) => print_stdout(&format!("{}\n", arrived.digest)),
    }
    Ok(())
}
