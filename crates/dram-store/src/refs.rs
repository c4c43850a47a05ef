//! References: the names of images, in the layout's `index.json`. The only mutable part of the store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dram_image::{Descriptor, Digest, Document, Index, Reference};
use rustix::fs::FlockOperation;

use crate::file::{self, Durable};
use crate::{Store, StoreError, lock};

/// The OCI annotation that holds a reference in an image layout.
pub(crate) const NAME: &str = "org.opencontainers.image.ref.name";
/// Prefix of the store's own annotations, which are not written to exported images.
pub const OWN_ANNOTATIONS: &str = "dram.";
/// Annotation with the digest of the index that the manifest was selected from.
const INDEX: &str = "dram.index";
/// An index of this size has tens of thousands of images.
const LARGEST_INDEX: u64 = dram_image::document::LARGEST_DOCUMENT as u64;

/// The image references of a store.
#[derive(Debug, Clone, Copy)]
pub struct Refs<'a> {
    store: &'a Store,
}

/// A reference and its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    /// The reference in its normal form, with its tag or, if it has one, its digest; the unchanged text when another
    /// tool wrote something that is not a reference.
    pub name: String,
    /// Descriptor of the manifest.
    pub manifest: Descriptor,
}

impl Tagged {
    /// Returns the index that the manifest was selected from, if any.
    pub fn index(&self) -> Option<Digest> {
        self.manifest.annotations.get(INDEX)?.parse().ok()
    }
}

impl<'a> Refs<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Refs { store }
    }

    pub(crate) fn ensure(self) -> Result<(), StoreError> {
        let is_there = |path: PathBuf| std::fs::symlink_metadata(path).is_ok();
        // A missing index that has a backup was lost: it must not be replaced by an empty one.
        if is_there(self.path()) || is_there(self.copy()) { Ok(()) } else { self.change(|_| ()) }
    }

    pub(crate) fn path(self) -> PathBuf {
        self.store.join("oci/index.json")
    }

    /// Returns the path of the backup of the index, which is used when the index is damaged.
    pub(crate) fn copy(self) -> PathBuf {
        self.store.join("index.copy")
    }

    fn read(self) -> Result<Index, StoreError> {
        let path = self.path();
        match read_index(&path)? {
            None if std::fs::symlink_metadata(self.copy()).is_ok() => Err(StoreError::LostIndex(path)),
            None => Ok(Index::new(Vec::new())),
            Some(index) => Ok(index),
        }
    }

    /// Reads the backup of the index, if it is readable.
    pub(crate) fn copied(self) -> Option<Index> {
        read_index(&self.copy()).ok().flatten()
    }

    /// Replaces the unreadable index by `index`.
    pub(crate) fn replace(self, index: Index) -> Result<(), StoreError> {
        let _turn = lock::hold(&self.store.join("refs.lock"), FlockOperation::LockExclusive)?;
        self.write(index)
    }

    fn write(self, index: Index) -> Result<(), StoreError> {
        let (document, work) = (Document::write(index), self.store.work().path());
        file::replace(&self.path(), document.bytes(), &work, Durable::Yes)?;
        // The index itself is synced already. The backup protects against later damage to the disk.
        let _ = file::replace(&self.copy(), document.bytes(), &work, Durable::No);
        Ok(())
    }

    /// Reads, changes and replaces the index under the lock.
    fn change<T>(self, change: impl FnOnce(&mut Index) -> T) -> Result<T, StoreError> {
        let _turn = lock::hold(&self.store.join("refs.lock"), FlockOperation::LockExclusive)?;
        let mut index = self.read()?;
        let result = change(&mut index);
        self.write(index)?;
        Ok(result)
    }

    /// Returns all references, sorted.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn all(self) -> Result<Vec<Tagged>, StoreError> {
        let mut all: BTreeMap<String, Descriptor> = BTreeMap::new();
        for mut manifest in self.read()?.manifests {
            let name = manifest.annotations.remove(NAME).unwrap_or_default();
            all.entry(name).or_insert(manifest);
        }
        Ok(all.into_iter().map(|(name, manifest)| Tagged { name, manifest }).collect())
    }

    /// Returns the manifest of `reference`: by digest when it has one, by name otherwise.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn get(self, reference: &Reference) -> Result<Option<Descriptor>, StoreError> {
        let name = reference.to_string();
        let wanted = |tagged: &Tagged| match reference.digest() {
            Some(digest) => tagged.manifest.digest == digest || tagged.index() == Some(digest),
            None => tagged.name == name,
        };
        Ok(self.all()?.into_iter().find(wanted).map(|tagged| tagged.manifest))
    }

    /// Points each of `references` to `manifest`, and replaces earlier targets.
    ///
    /// # Errors
    /// When the index cannot be read or written.
    pub fn set(self, references: &[Reference], manifest: &Descriptor) -> Result<(), StoreError> {
        self.set_from(references, manifest, None)
    }

    /// Points each of `references` to a manifest that was selected from the index with the digest `from`: references by
    /// the digest of the index resolve to it too.
    ///
    /// # Errors
    /// When the index cannot be read or written.
    pub fn set_from(
        self,
        references: &[Reference],
        manifest: &Descriptor,
        from: Option<Digest>,
    ) -> Result<(), StoreError> {
        let index = from.map(|digest| (INDEX.to_owned(), digest.to_string()));
        let entry = |reference: &Reference| {
            let mut entry = bare(manifest);
            entry.annotations.extend(index.clone());
            (reference.to_string(), entry)
        };
        self.put(references.iter().map(entry).collect())
    }

    /// Points each reference to its manifest in one atomic update; the last of duplicate references wins.
    ///
    /// # Errors
    /// When the index cannot be read or written.
    pub fn set_all(self, named: &[(Reference, Descriptor)]) -> Result<(), StoreError> {
        self.put(named.iter().map(|(reference, manifest)| (reference.to_string(), bare(manifest))).collect())
    }

    fn put(self, new: BTreeMap<String, Descriptor>) -> Result<(), StoreError> {
        self.change(|index| {
            index.manifests.retain(|old| !old.annotations.get(NAME).is_some_and(|name| new.contains_key(name)));
            index.manifests.extend(new.into_iter().map(|(name, mut entry)| {
                entry.annotations.insert(NAME.to_owned(), name);
                entry
            }));
            index.manifests.sort_by(|a, b| a.annotations.get(NAME).cmp(&b.annotations.get(NAME)));
        })
    }

    /// Removes the reference. Returns true if it existed.
    ///
    /// # Errors
    /// When the index cannot be read or written.
    pub fn remove(self, name: &str) -> Result<bool, StoreError> {
        self.change(|index| {
            let before = index.manifests.len();
            index.manifests.retain(|old| old.annotations.get(NAME).map(String::as_str) != Some(name));
            index.manifests.len() < before
        })
    }
}

/// Returns the descriptor without the store's own annotations.
fn bare(manifest: &Descriptor) -> Descriptor {
    let mut manifest = manifest.clone();
    manifest.annotations.retain(|key, _| !key.starts_with(OWN_ANNOTATIONS));
    manifest
}

fn read_index(path: &Path) -> Result<Option<Index>, StoreError> {
    let Some(bytes) = file::read_small(path, LARGEST_INDEX)? else { return Ok(None) };
    match Document::<Index>::read(bytes) {
        Ok(document) => Ok(Some(document.value().clone())),
        Err(source) => Err(StoreError::Document { path: path.to_owned(), source }),
    }
}
