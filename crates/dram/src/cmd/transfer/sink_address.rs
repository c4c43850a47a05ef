//! Opens the sinks of transfers by address.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dram_build::transfer::{
    ArchiveFormat, ArchiveSink, ImageSelection, ImageSink, ImageSource, LayoutName, LayoutSink, StoreSink,
    TransferError, image_layers,
};
use dram_error::ErrorReport as _;
use dram_image::{Descriptor, Digest, MediaType, Reference};
use dram_remote::PodmanError;
use dram_remote::engine::Engine;

use super::TransferSession;
use crate::cmd::atomic_write::write_atomically;
use crate::failure::Failure;
use crate::format::escape_control;
use crate::image_address::ImageAddress;
use crate::{ambient, image_lookup, report};

/// An action on a sink.
pub(super) type SinkAction<'a> = &'a mut dyn FnMut(&dyn ImageSink) -> Result<Descriptor, Failure>;

/// Calls `with` with the sink at `address`. `root` is the descriptor of the image to copy.
pub(super) fn with_sink(
    world: &TransferSession<'_>,
    source: &dyn ImageSource,
    address: &ImageAddress,
    root: &Descriptor,
    which: &ImageSelection,
    with: SinkAction<'_>,
) -> Result<Descriptor, Failure> {
    let is_index = MediaType::is_index(&root.media_type);
    match address {
        ImageAddress::Registry(name) => with(&world.registries().sink(name)?),
        ImageAddress::Store(name) => {
            let name = image_lookup::parse_reference(name)?;
            let store = world.store()?;
            store.require_writable()?;
            let is_selected = is_index && *which != ImageSelection::All;
            with(&StoreSink::new(store, vec![name], true).selected_from(is_selected.then_some(root.digest)))
        }
        ImageAddress::Layout(path, tag) => {
            with(&LayoutSink::new(path, tag.as_deref().map(layout_name).into_iter().collect())?)
        }
        ImageAddress::Archive(path, tag) => {
            write_archive(path, ArchiveFormat::Oci, tag.as_deref().map(layout_name).as_ref(), with)
        }
        ImageAddress::DockerArchive(path, name) => {
            if is_index && *which == ImageSelection::All {
                let failure = Failure::usage(format!("`{address}`: such an archive is for one platform"));
                return Err(failure.help("leave `--all` out, or write `oci-archive:FILE`"));
            }
            write_archive(path, ArchiveFormat::Docker, name.as_ref().map(LayoutName::from).as_ref(), with)
        }
        ImageAddress::Engine(name) => load_into_engine(source, name, root, which, with),
        ImageAddress::Podman(name) => copy_to_podman(world, name, with),
    }
}

/// Loads the image into a Docker engine, from an archive without the layers that the engine has.
fn load_into_engine(
    source: &dyn ImageSource,
    name: &Reference,
    root: &Descriptor,
    which: &ImageSelection,
    with: SinkAction<'_>,
) -> Result<Descriptor, Failure> {
    if MediaType::is_index(&root.media_type) && *which == ImageSelection::All {
        let failure = Failure::usage(format!("`docker-daemon:{name}`: an engine takes an image for one platform"));
        return Err(failure.help("leave `--all` out"));
    }
    if name.digest().is_some() {
        let failure = Failure::usage(format!("`docker-daemon:{name}`: an engine calls images by tags"));
        return Err(failure.help(format!("`docker-daemon:{}`", name.short())));
    }
    let selected = ambient::engine_selection().select()?;
    if let Some(context) = &selected.context {
        let place = selected.address.as_deref().unwrap_or("the default socket");
        report::print_note(&escape_control(&format!("the engine is that of the Docker context `{context}`: {place}")));
    }
    let stall = ambient::network_timeout(Duration::from_secs(60));
    let engine = Engine::from_address(selected.address.as_deref(), selected.tls, stall)?;
    let layers = image_layers(root, source, which)?;
    let has = blobs_in_engine(&layers, &engine)?;
    let first = send_to_engine(&engine, name, &has, with);
    let (sent, left_out) = match first {
        // The engine may have removed a layer that it had.
        Err(UnsentImage { sent_completely: true, .. }) if !has.is_empty() => {
            report::print_note(
                "the engine does not take the image without the layers that it had: sending all of them",
            );
            (send_to_engine(&engine, name, &[], with), 0)
        }
        sent => (sent, has.len()),
    };
    let arrived = sent.map_err(|unsent| match layers.iter().any(|(_, blob)| blob.media_type.ends_with("zstd")) {
        true if unsent.sent_completely => unsent.failure.help(
            "Docker reads layers of zstd since version 23; others are made by `dram build --output \
             type=image,compression=gzip,force-compression=true`",
        ),
        true | false => unsent.failure,
    })?;
    if left_out > 0 {
        report::print_note(&format!("the engine has {left_out} of the layers: they were not sent"));
    }
    Ok(arrived)
}

/// An image that an engine did not accept.
struct UnsentImage {
    failure: Failure,
    /// True if the archive was sent completely.
    sent_completely: bool,
}

/// Sends an archive without the blobs in `has`.
fn send_to_engine(
    engine: &Engine,
    name: &Reference,
    has: &[Digest],
    with: SinkAction<'_>,
) -> Result<Descriptor, UnsentImage> {
    let (mut arrived, mut whole) = (None, false);
    let place = PathBuf::from(format!("docker-daemon:{name}"));
    let loaded = engine.load(|out| {
        let sink = ArchiveSink::new(ArchiveFormat::Docker, out, &place)?;
        sink.set_names(vec![LayoutName::from(name)]);
        sink.exclude_blobs(has.iter().copied());
        arrived = Some(with(&sink)?);
        sink.finish_archive()?;
        whole = true;
        Ok::<(), Failure>(())
    });
    match loaded {
        Ok(()) => Ok(arrived.expect("written above")),
        Err(why) => Err(UnsentImage { failure: why, sent_completely: whole }),
    }
}

/// Returns the blobs of the layers that the engine already has.
fn blobs_in_engine(layers: &[(Digest, Descriptor)], engine: &Engine) -> Result<Vec<Digest>, Failure> {
    let diff_ids: Vec<Digest> = layers.iter().map(|(diff_id, _)| *diff_id).collect();
    let (known, rest) = layers.split_at(engine.count_known_layers(&diff_ids)?);
    // The same blob may be two layers.
    let known = known.iter().map(|(_, blob)| blob.digest);
    Ok(known.filter(|blob| !rest.iter().any(|(_, other)| other.digest == *blob)).collect())
}

/// Copies the image into Podman's store, from an archive that `podman` reads. It takes the name from the archive;
/// from a layout it would make one of the path, too.
fn copy_to_podman(world: &TransferSession<'_>, name: &Reference, with: SinkAction<'_>) -> Result<Descriptor, Failure> {
    let store = world.store()?;
    store.require_writable()?;
    let place = store.work_dir().temp_dir()?;
    let archive = place.join("image.tar");
    let full = name.full_name();
    let named = LayoutName { text: full.clone(), full: Some(full) };
    let arrived = write_archive(&archive, ArchiveFormat::Oci, Some(&named), with);
    let is_cancelled = || world.cancel.is_cancelled();
    let done =
        arrived.as_ref().ok().map(|_| dram_remote::podman_load(&ambient::search_path(), &archive, &is_cancelled));
    store.work_dir().remove_temp_dir(&place);
    let arrived = arrived?;
    done.unwrap_or(Ok(())).map_err(|error| {
        if matches!(error, PodmanError::Cancelled) {
            return TransferError::Cancelled.into();
        }
        let failure = Failure::work(format!("podman does not take the image `{name}`")).because(&error);
        error.helps().into_iter().fold(failure, Failure::help)
    })?;
    Ok(arrived)
}

/// The name of an image in a layout, as the user wrote it.
fn layout_name(tag: &str) -> LayoutName {
    let whole = tag.parse::<Reference>().ok().filter(|_| tag.contains([':', '/']));
    LayoutName { text: tag.to_owned(), full: whole.map(|name| name.full_name()) }
}

fn write_archive(
    path: &Path,
    kind: ArchiveFormat,
    name: Option<&LayoutName>,
    with: SinkAction<'_>,
) -> Result<Descriptor, Failure> {
    let mut arrived = None;
    write_atomically(path, &mut |out| {
        let sink = ArchiveSink::new(kind, out, path)?;
        sink.set_names(name.cloned().into_iter().collect());
        arrived = Some(with(&sink)?);
        Ok(sink.finish_archive()?)
    })?;
    Ok(arrived.expect("written above"))
}
