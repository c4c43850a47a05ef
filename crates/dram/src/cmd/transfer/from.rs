//! Opens the sources of transfers by address.

use std::path::Path;

use dram_build::transfer::{Listed, Opened, Source, StoreSource, open};
use dram_image::{Descriptor, Reference};

use super::World;
use crate::address::Address;
use crate::failure::Failure;
use crate::find;

/// An action on a source and the descriptor of its image.
pub(super) type With<'a> = &'a mut dyn FnMut(&dyn Source, &Descriptor) -> Result<Descriptor, Failure>;

/// Calls `with` with the source at `address`.
pub(super) fn from(world: &World<'_>, address: &Address, with: With<'_>) -> Result<Descriptor, Failure> {
    match address {
        Address::Registry(name) => {
            let (source, root) = world.registries().source(name)?;
            with(&source, &root)
        }
        Address::Store(name) => {
            let store = world.store()?;
            let image = find::image(store, name)?;
            with(&StoreSource::new(store), &image.descriptor)
        }
        Address::Layout(path, tag) | Address::Archive(path, tag) => files(world, path, tag.as_deref(), with),
        Address::DockerArchive(path, name) => {
            let name = name.as_ref().map(Reference::short);
            files(world, path, name.as_deref(), with)
        }
        Address::Engine(_) | Address::Podman(_) => {
            let failure = Failure::usage(format!("nothing can be copied from `{address}`"));
            Err(failure.help("have it write an archive: `docker save`, `podman save`; then `docker-archive:FILE`"))
        }
    }
}

fn files(world: &World<'_>, path: &Path, tag: Option<&str>, with: With<'_>) -> Result<Descriptor, Failure> {
    let scratch = world.scratch()?;
    match open(path, scratch)? {
        Opened::Layout(layout) => {
            let one = chosen(path, &layout.list()?, tag)?;
            with(&layout, &one)
        }
        Opened::Docker(all) => {
            let one = chosen(path, &all, tag)?;
            with(&StoreSource::new(scratch), &one)
        }
    }
}

/// Returns the image that is called `tag`; without a tag, the only image.
fn chosen(path: &Path, all: &[Listed], tag: Option<&str>) -> Result<Descriptor, Failure> {
    let names: Vec<&str> = all.iter().filter_map(|one| one.name.as_deref()).collect();
    let there = match names.is_empty() {
        true => "it names none".to_owned(),
        false => {
            format!("it has {}", names.iter().take(20).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
        }
    };
    let Some(tag) = tag else {
        return match all {
            [] => Err(Failure::work(format!("`{}` holds no image", path.display()))),
            [one, more @ ..] if more.iter().all(|other| other.root.digest == one.root.digest) => Ok(one.root.clone()),
            [..] => {
                let failure = Failure::usage(format!("`{}` holds several images: {there}", path.display()));
                Err(failure.help("name one behind a colon, as `oci:DIR:TAG`"))
            }
        };
    };
    let found = all.iter().find(|one| is_called(one, tag));
    let missing = || Failure::work(format!("`{}` holds no image `{tag}`; {there}", path.display()));
    found.map(|one| one.root.clone()).ok_or_else(missing)
}

/// Returns true if the image has this name: exactly, as a reference in another spelling, or as its tag.
fn is_called(one: &Listed, tag: &str) -> bool {
    let same = |text: &str| {
        let (one, other) = (text.parse::<Reference>(), tag.parse::<Reference>());
        text == tag || one.ok().zip(other.ok()).is_some_and(|(one, other)| one == other)
    };
    one.names().any(|name| same(name) || name.rsplit_once(':').is_some_and(|(_, last)| last == tag))
}
