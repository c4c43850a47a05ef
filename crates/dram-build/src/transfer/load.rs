//! Imports images into the store: from an OCI layout, an archive of one, or an archive of `docker save`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dram_image::{Descriptor, Platform, Reference};
use dram_store::Store;

use crate::Cancel;
use crate::transfer::copy::few;
use crate::transfer::files::files;
use crate::transfer::pick::shown;
use crate::transfer::{
    Copying, LayoutSource, Listed, Source as _, StoreSink, TransferError, Which, copy, docker, pick,
};

/// An image that was imported. It has no name in the store yet.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The descriptor of its manifest.
    pub manifest: Descriptor,
    /// The name in the source, as written there.
    pub name: Option<String>,
}

/// The images at a path.
#[derive(Debug)]
pub enum Opened {
    /// An OCI layout, in a directory or an archive.
    Layout(LayoutSource),
    /// Images of an archive of `docker save`, which are imported into the store already, without names.
    Docker(Vec<Listed>),
}

/// Opens the archive or layout at `path`. Archives that must be unpacked, and images of archives of `docker save`, are
/// put into `store`.
///
/// # Errors
/// Returns an error if it cannot be read, or is neither.
pub fn open(path: &Path, store: &Store) -> Result<Opened, TransferError> {
    let files = match LayoutSource::new(files(path, store)?)? {
        Ok(layout) => return Ok(Opened::Layout(layout)),
        Err(files) => files,
    };
    let entries = docker::list(&*files)?.filter(|entries| !entries.is_empty());
    let entries = entries.ok_or_else(|| TransferError::NoImages(path.to_owned()))?;
    let mut all = Vec::new();
    let mut packed = BTreeMap::new();
    for entry in entries {
        let names = entry.repo_tags.clone().unwrap_or_default();
        few(all.len() + names.len().max(1), &path.display().to_string(), docker::LIST)?;
        let root = docker::image(&*files, &entry, store, &mut packed)?;
        if names.is_empty() {
            all.push(Listed { root: root.clone(), name: None });
        }
        all.extend(names.into_iter().map(|name| Listed { root: root.clone(), name: Some(name) }));
    }
    Ok(Opened::Docker(all))
}

/// Imports every image for `platform` from the archive or layout at `path` into `store`. Every blob is verified.
///
/// # Errors
/// See [`TransferError`].
pub fn load(store: &Store, path: &Path, platform: &Platform) -> Result<Vec<Loaded>, TransferError> {
    let layout = match open(path, store)? {
        Opened::Layout(layout) => layout,
        Opened::Docker(all) => {
            let loaded = |one: Listed| Loaded { manifest: one.root, name: one.name };
            return Ok(all.into_iter().map(loaded).collect());
        }
    };
    let how = Copying { which: Which::All, referrers: false, cancel: Cancel::default(), tell: &|_| () };
    let (mut loaded, mut here) = (Vec::new(), BTreeSet::new());
    let all = layout.list()?;
    few(all.len(), &layout.shown(), "index.json")?;
    for Listed { root, name } in all {
        let Some(manifest) = pick(&layout, &root, platform)? else { continue };
        let manifest = Descriptor::new(&manifest.media_type, manifest.digest, manifest.size);
        if here.insert(manifest.digest) {
            copy(&manifest, &layout, &StoreSink::new(store, Vec::new(), true), &how)?;
        }
        loaded.push(Loaded { manifest, name });
    }
    if loaded.is_empty() {
        return Err(TransferError::NoPlatform { place: path.display().to_string(), platform: shown(platform) });
    }
    Ok(loaded)
}

impl Loaded {
    /// Returns the name in the source as a reference; `None` if there is none or it is only a tag.
    pub fn reference(&self) -> Option<Reference> {
        let name = self.name.as_deref().filter(|name| name.contains([':', '/']))?;
        name.parse().ok()
    }
}
