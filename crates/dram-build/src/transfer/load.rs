//! Imports images into the store: from an OCI layout, an archive of one, or an archive of `docker save`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dram_image::{Descriptor, ImagePlatform, Reference};
use dram_store::Store;

use crate::CancelToken;
use crate::transfer::copy_image::check_document_count;
use crate::transfer::layout_files::{open_layout_files, read_small_file};
use crate::transfer::{
    CopyOptions, ImageSelection, ImageSource as _, LayoutImage, LayoutSource, StoreSink, TransferError, copy_image,
    docker_archive, select_manifest, select_root,
};

/// An image that was imported. It has no name in the store yet.
#[derive(Debug, Clone)]
pub struct LoadedImage {
    /// The descriptor of its manifest, or of its index if all platforms were imported.
    pub root: Descriptor,
    /// The name in the source, as written there.
    pub name: Option<String>,
}

/// The images at a path.
#[derive(Debug)]
pub enum LoadSource {
    /// An OCI layout, in a directory or an archive.
    Layout(LayoutSource),
    /// Images of an archive of `docker save`, which are imported into the store already, without names.
    Docker(Vec<LayoutImage>),
}

/// Opens the archive or layout at `path`. Archives that must be unpacked, and images of archives of `docker save`, are
/// put into `store`.
///
/// # Errors
/// Returns an error if it cannot be read, or is neither.
pub fn open_load_source(path: &Path, store: &Store) -> Result<LoadSource, TransferError> {
    let files = match LayoutSource::new(open_layout_files(path, store)?)? {
        Ok(layout) => return Ok(LoadSource::Layout(layout)),
        Err(files) => files,
    };
    let version = read_small_file(&*files, "version")?.unwrap_or_default();
    if version.starts_with(b"Directory Transport Version") {
        return Err(TransferError::SkopeoDir(path.to_owned()));
    }
    let entries = docker_archive::read_docker_manifest(&*files)?.filter(|entries| !entries.is_empty());
    let entries = entries.ok_or_else(|| TransferError::NoImages(path.to_owned()))?;
    let mut all = Vec::new();
    let mut packed = BTreeMap::new();
    for entry in entries {
        let names = entry.repo_tags.clone().unwrap_or_default();
        check_document_count(
            all.len() + names.len().max(1),
            &path.display().to_string(),
            docker_archive::DOCKER_MANIFEST,
        )?;
        let root = docker_archive::import_docker_image(&*files, &entry, store, &mut packed)?;
        if names.is_empty() {
            all.push(LayoutImage { root: root.clone(), name: None });
        }
        all.extend(names.into_iter().map(|name| LayoutImage { root: root.clone(), name: Some(name) }));
    }
    Ok(LoadSource::Docker(all))
}

/// Imports every image from the archive or layout at `path` into `store`. `selection` says which images of an index are
/// imported: those for a platform, or all of them with the index. Every blob is verified.
///
/// # Errors
/// See [`TransferError`].
pub fn load_images(store: &Store, path: &Path, selection: &ImageSelection) -> Result<Vec<LoadedImage>, TransferError> {
    let layout = match open_load_source(path, store)? {
        LoadSource::Layout(layout) => layout,
        LoadSource::Docker(all) => {
            let loaded = |one: LayoutImage| LoadedImage { root: one.root, name: one.name };
            return Ok(all.into_iter().map(loaded).collect());
        }
    };
    let (mut loaded, mut here) = (Vec::new(), BTreeSet::new());
    let all = layout.list_main_images()?;
    check_document_count(all.len(), &layout.display_name(), "index.json")?;
    for LayoutImage { root, name } in all {
        let found = match selection {
            ImageSelection::Platform(platform) => select_manifest(&layout, &root, platform)?,
            ImageSelection::All => Some(root),
        };
        // An image for another platform is left out, if there are others.
        let Some(found) = found else { continue };
        let found = Descriptor::new(&found.media_type, found.digest, found.size);
        if here.insert(found.digest) {
            copy_whole_image(store, &layout, &found)?;
        }
        loaded.push(LoadedImage { root: found, name });
    }
    match selection {
        ImageSelection::Platform(platform) if loaded.is_empty() => {
            Err(TransferError::NoPlatform { place: path.display().to_string(), platform: platform.to_string() })
        }
        ImageSelection::Platform(_) | ImageSelection::All => Ok(loaded),
    }
}

/// Imports the image for `platform` at `root` of a layout into `store`. Returns the descriptor of its manifest.
///
/// # Errors
/// See [`TransferError`].
pub fn load_layout_image(
    store: &Store,
    layout: &LayoutSource,
    root: &Descriptor,
    platform: &ImagePlatform,
) -> Result<Descriptor, TransferError> {
    let found = select_root(root, layout, &ImageSelection::Platform(platform.clone()))?;
    let found = Descriptor::new(&found.media_type, found.digest, found.size);
    copy_whole_image(store, layout, &found)?;
    Ok(found)
}

fn copy_whole_image(store: &Store, layout: &LayoutSource, root: &Descriptor) -> Result<(), TransferError> {
    let how =
        CopyOptions { selection: ImageSelection::All, referrers: false, cancel: CancelToken::default(), tell: &|_| () };
    copy_image(root, layout, &StoreSink::new(store, Vec::new(), true), &how).map(drop)
}

impl LoadedImage {
    /// Returns the name in the source as a reference; `None` if there is none or it is only a tag.
    pub fn reference(&self) -> Option<Reference> {
        let name = self.name.as_deref().filter(|name| name.contains([':', '/']))?;
        name.parse().ok()
    }
}
