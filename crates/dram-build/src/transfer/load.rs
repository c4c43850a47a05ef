//! Images enter the store: from an OCI layout, an archive of one, or what `docker save` writes.

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

/// An image that was read in. It has no name yet.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The pointer to its manifest.
    pub manifest: Descriptor,
    /// The name the source gives it, as it stands there.
    pub name: Option<String>,
}

/// What lies at a path that images come from.
#[derive(Debug)]
pub enum Opened {
    /// An OCI layout, in a directory or an archive.
    Layout(LayoutSource),
    /// Images that `docker save` wrote and that are now in the store that was given, without names.
    Docker(Vec<Listed>),
}

/// Opens the archive or layout at `path`. `store` takes what has to be unpacked, and images of Docker's archives.
///
/// # Errors
/// When it cannot be read, or is neither.
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

/// Reads every image for `platform` from the archive or layout at `path` into `store`; every blob is verified.
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
    /// The source's name as a reference; `None` when it has none, or one that is a bare tag.
    pub fn reference(&self) -> Option<Reference> {
        let name = self.name.as_deref().filter(|name| name.contains([':', '/']))?;
        name.parse().ok()
    }
}
