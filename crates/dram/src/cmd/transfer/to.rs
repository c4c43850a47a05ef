//! Addresses that images go to.

use std::path::Path;

use dram_build::transfer::{Archive, ArchiveSink, LayoutSink, Name, Sink, StoreSink, Which};
use dram_image::{Descriptor, MediaType, Reference};

use super::World;
use crate::address::Address;
use crate::cmd::whole::write_whole;
use crate::failure::Failure;
use crate::find;

/// What is done with a sink.
pub(super) type With<'a> = &'a mut dyn FnMut(&dyn Sink) -> Result<Descriptor, Failure>;

/// Calls `with` with what `address` leads to. `root` is what will be copied there.
pub(super) fn to(
    world: &World<'_>,
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
        Address::Engine(_) | Address::Podman(_) => Err(Failure::work("no engines yet")),
    }
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
