//! Opens the sources of transfers by address.

use std::path::Path;

use dram_build::transfer::{
    ImageSource, LayoutImage, LayoutSource, LoadSource, StoreSource, TransferError, find_layout_image, open_load_source,
};
use dram_image::{Descriptor, Reference};

use super::TransferSession;
use crate::failure::Failure;
use crate::image_address::ImageAddress;
use crate::image_lookup;

/// An action on a source and the descriptor of its image.
pub(super) type SourceAction<'a> = &'a mut dyn FnMut(&dyn ImageSource, &Descriptor) -> Result<Descriptor, Failure>;

/// Calls `with` with the source at `address`.
pub(super) fn with_source(
    world: &TransferSession<'_>,
    address: &ImageAddress,
    with: SourceAction<'_>,
) -> Result<Descriptor, Failure> {
    match address {
        ImageAddress::Registry(name) => {
            let (source, root) = world.registries().source(name)?;
            with(&source, &root)
        }
        ImageAddress::Store(name) => {
            let store = world.store()?;
            let root = image_lookup::find_root(store, name)?;
            with(&StoreSource::new(store), &root)
        }
        ImageAddress::Layout(path, tag) | ImageAddress::Archive(path, tag) => {
            with_file_source(world, path, tag.as_deref(), with)
        }
        ImageAddress::DockerArchive(path, name) => {
            let name = name.as_ref().map(Reference::short);
            with_file_source(world, path, name.as_deref(), with)
        }
        ImageAddress::Engine(_) | ImageAddress::Podman(_) => {
            let failure = Failure::usage(format!("nothing can be copied from `{address}`"));
            Err(failure.help("have it write an archive: `docker save`, `podman save`; then `docker-archive:FILE`"))
        }
    }
}

fn with_file_source(
    world: &TransferSession<'_>,
    path: &Path,
    tag: Option<&str>,
    with: SourceAction<'_>,
) -> Result<Descriptor, Failure> {
    let scratch = world.temporary_store()?;
    match open_load_source(path, scratch)? {
        LoadSource::Layout(layout) => {
            let one = select_image(path, &images_of(&layout, tag)?, tag)?;
            with(&layout, &one)
        }
        LoadSource::Docker(all) => {
            let one = select_image(path, &all, tag)?;
            with(&StoreSource::new(scratch), &one)
        }
    }
}

/// Returns the images of `layout`. What only refers to another image is found by its name alone.
fn images_of(layout: &LayoutSource, tag: Option<&str>) -> Result<Vec<LayoutImage>, TransferError> {
    if tag.is_some() { layout.list_images() } else { layout.list_main_images() }
}

/// Returns the image that is called `tag`; without a tag, the only image.
fn select_image(path: &Path, all: &[LayoutImage], tag: Option<&str>) -> Result<Descriptor, Failure> {
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
    let found = find_layout_image(all, tag);
    let missing = || Failure::work(format!("`{}` holds no image `{tag}`; {there}", path.display()));
    found.map(|one| one.root.clone()).ok_or_else(missing)
}
