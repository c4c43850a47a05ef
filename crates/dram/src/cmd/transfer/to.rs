//! Opens the sinks of transfers by address.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dram_build::transfer::{Archive, ArchiveSink, LayoutSink, Name, Sink, Source, StoreSink, Which, layers_of};
use dram_image::{Descriptor, Digest, MediaType, Reference};
use dram_remote::engine::Engine;

use super::World;
use crate::address::Address;
use crate::cmd::whole::write_whole;
use crate::failure::Failure;
use crate::{ambient, find, report};

/// An action on a sink.
pub(super) type With<'a> = &'a mut dyn FnMut(&dyn Sink) -> Result<Descriptor, Failure>;

/// Calls `with` with the sink at `address`. `root` is the descriptor of the image to copy.
pub(super) fn to(
    world: &World<'_>,
    source: &dyn Source,
    address: &Address,
    root: &Descriptor,
    which: &Which,
    with: With<'_>,
) -> Result<Descriptor, Failure> {
    let is_index = MediaType::is_index(&root.media_type);
    match address {
        Address::Registry(name) => with(&world.registries().sink(name)?),
        Address::Store(name) => {
            let name = find::reference(name)?;
            if is_index && *which == Which::All {
                let failure = Failure::usage(format!("`{address}`: the store holds images for one platform each"));
                return Err(failure.help("leave `--all` out, or copy to a layout: `oci:DIR`"));
            }
            let store = world.store()?;
            store.must_be_writable()?;
            with(&StoreSink::new(store, vec![name], true).picked_from(is_index.then_some(root.digest)))
        }
        Address::Layout(path, tag) => with(&LayoutSink::new(path, tag.as_deref().map(called).into_iter().collect())?),
        Address::Archive(path, tag) => archive(path, Archive::Oci, tag.as_deref().map(called).as_ref(), with),
        Address::DockerArchive(path, name) => {
            if is_index && *which == Which::All {
                let failure = Failure::usage(format!("`{address}`: such an archive is for one platform"));
                return Err(failure.help("leave `--all` out, or write `oci-archive:FILE`"));
            }
            archive(path, Archive::Docker, name.as_ref().map(Name::from).as_ref(), with)
        }
        Address::Engine(name) => engine(source, name, root, which, with),
        Address::Podman(name) => podman(world, name, with),
    }
}

/// Loads the image into a Docker engine, from an archive without the layers that the engine has.
fn engine(
    source: &dyn Source,
    name: &Reference,
    root: &Descriptor,
    which: &Which,
    with: With<'_>,
) -> Result<Descriptor, Failure> {
    if MediaType::is_index(&root.media_type) && *which == Which::All {
        let failure = Failure::usage(format!("`docker-daemon:{name}`: an engine takes an image for one platform"));
        return Err(failure.help("leave `--all` out"));
    }
    if name.digest().is_some() {
        let failure = Failure::usage(format!("`docker-daemon:{name}`: an engine calls images by tags"));
        return Err(failure.help(format!("`docker-daemon:{}`", name.short())));
    }
    let tls = ambient::variable("DOCKER_TLS_VERIFY").is_some_and(|text| !text.is_empty());
    let host = ambient::variable("DOCKER_HOST");
    let engine = Engine::at(host.as_deref(), tls, ambient::patience(Duration::from_secs(60)))?;
    let layers = layers_of(root, source, which)?;
    let has = known(&layers, &engine)?;
    let first = send(&engine, name, &has, with);
    let (sent, left_out) = match first {
        // The engine may have removed a layer that it had.
        Err(Unsent { whole: true, .. }) if !has.is_empty() => {
            report::note("the engine does not take the image without the layers that it had: sending all of them");
            (send(&engine, name, &[], with), 0)
        }
        sent => (sent, has.len()),
    };
    let arrived = sent.map_err(|unsent| match layers.iter().any(|(_, blob)| blob.media_type.ends_with("zstd")) {
        true if unsent.whole => unsent.why.help(
            "Docker reads layers of zstd since version 23; others are made by `dram build --output \
             type=image,compression=gzip,force-compression=true`",
        ),
        true | false => unsent.why,
    })?;
    if left_out > 0 {
        report::note(&format!("the engine has {left_out} of the layers: they were not sent"));
    }
    Ok(arrived)
}

/// An image that an engine did not accept.
struct Unsent {
    why: Failure,
    /// True if the archive was sent completely.
    whole: bool,
}

/// Sends an archive without the blobs in `has`.
fn send(engine: &Engine, name: &Reference, has: &[Digest], with: With<'_>) -> Result<Descriptor, Unsent> {
    let (mut arrived, mut whole) = (None, false);
    let place = PathBuf::from(format!("docker-daemon:{name}"));
    let loaded = engine.load(|out| {
        let sink = ArchiveSink::new(Archive::Docker, out, &place)?;
        sink.name(vec![Name::from(name)]);
        sink.leave_out(has.iter().copied());
        arrived = Some(with(&sink)?);
        sink.end()?;
        whole = true;
        Ok::<(), Failure>(())
    });
    match loaded {
        Ok(()) => Ok(arrived.expect("written above")),
        Err(why) => Err(Unsent { why, whole }),
    }
}

/// Returns the blobs of the layers that the engine already has.
fn known(layers: &[(Digest, Descriptor)], engine: &Engine) -> Result<Vec<Digest>, Failure> {
    let diff_ids: Vec<Digest> = layers.iter().map(|(diff_id, _)| *diff_id).collect();
    let (known, rest) = layers.split_at(engine.has(&diff_ids)?);
    // The same blob may be two layers.
    let known = known.iter().map(|(_, blob)| blob.digest);
    Ok(known.filter(|blob| !rest.iter().any(|(_, other)| other.digest == *blob)).collect())
}

/// Copies the image into Podman's store, from a layout that `podman` reads.
fn podman(world: &World<'_>, name: &Reference, with: With<'_>) -> Result<Descriptor, Failure> {
    let store = world.store()?;
    store.must_be_writable()?;
    let place = store.work().fresh()?;
    let layout = place.join("layout");
    let arrived = with(&LayoutSink::new(&layout, vec![Name::from(name)])?)?;
    let done = dram_remote::podman_load(&ambient::search_path(), &layout, &name.short(), &name.full());
    store.work().discard(&place);
    done.map_err(|error| {
        let failure = Failure::work(format!("podman does not take the image `{name}`")).because(&error);
        match error.is_missing() {
            true => failure.help("install it: `apt-get install podman`"),
            false => failure,
        }
    })?;
    Ok(arrived)
}

/// The name of an image in a layout, as the user wrote it.
fn called(tag: &str) -> Name {
    let whole = tag.parse::<Reference>().ok().filter(|_| tag.contains([':', '/']));
    Name { text: tag.to_owned(), whole: whole.map(|name| name.full()) }
}

fn archive(path: &Path, kind: Archive, name: Option<&Name>, with: With<'_>) -> Result<Descriptor, Failure> {
    let mut arrived = None;
    write_whole(path, &mut |out| {
        let sink = ArchiveSink::new(kind, out, path)?;
        sink.name(name.cloned().into_iter().collect());
        arrived = Some(with(&sink)?);
        Ok(sink.end()?)
    })?;
    Ok(arrived.expect("written above"))
}
