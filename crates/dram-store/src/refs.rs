//! References: the names of images, in the layout's `index.json`. The only thing in the store that changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dram_image::{Descriptor, Digest, Document, Index, Reference};
use rustix::fs::FlockOperation;

use crate::file::{self, Durable};
use crate::{Store, StoreError, lock};

/// The OCI annotation that holds a name in a layout.
pub(crate) const NAME: &str = "org.opencontainers.image.ref.name";
/// How annotations begin that are this store's own, and leave it with no image.
pub const OWN_ANNOTATIONS: &str = "dram.";
/// The index that the manifest was picked from.
const INDEX: &str = "dram.index";
/// An index of this many bytes names tens of thousands of images.
const LARGEST_INDEX: u64 = dram_image::document::LARGEST_DOCUMENT as u64;

/// The room of names.
#[derive(Debug, Clone, Copy)]
pub struct Refs<'a> {
    store: &'a Store,
}

/// A name and the manifest it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    /// As the reference writes it: with its tag, or with its digest when it has one; as found, when another tool wrote
    /// what is no reference.
    pub name: String,
    /// The manifest.
    pub manifest: Descriptor,
}

impl Tagged {
    /// The index that the manifest was picked from, if it was.
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
        // One that is gone and has a copy was lost: it is not for whoever comes next to make an empty one of it.
        if is_there(self.path()) || is_there(self.copy()) { Ok(()) } else { self.change(|_| ()) }
    }

    pub(crate) fn path(self) -> PathBuf {
        self.store.join("oci/index.json")
    }

    /// Where a copy of the index lies, for the case that it is damaged.
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

    /// The index as its copy has it, if that can be read.
    pub(crate) fn copied(self) -> Option<Index> {
        read_index(&self.copy()).ok().flatten()
    }

    /// Puts `index` in the place of what is there, which cannot be read.
    pub(crate) fn replace(self, index: Index) -> Result<(), StoreError> {
        let _turn = lock::hold(&self.store.join("refs.lock"), FlockOperation::LockExclusive)?;
        self.write(index)
    }

    fn write(self, index: Index) -> Result<(), StoreError> {
        let (document, work) = (Document::write(index), self.store.work().path());
        file::replace(&self.path(), document.bytes(), &work, Durable::Yes)?;
        // The first one is on the disk already; this one is for what happens to a disk later.
        let _ = file::replace(&self.copy(), document.bytes(), &work, Durable::No);
        Ok(())
    }

    /// Reads, changes and replaces the index; two processes take turns.
    fn change<T>(self, change: impl FnOnce(&mut Index) -> T) -> Result<T, StoreError> {
        let _turn = lock::hold(&self.store.join("refs.lock"), FlockOperation::LockExclusive)?;
        let mut index = self.read()?;
        let result = change(&mut index);
        self.write(index)?;
        Ok(result)
    }

    /// All names, sorted.
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

    /// The manifest that `reference` stands for: by digest when it has one, by name otherwise.
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

    /// Lets each of `references` stand for `manifest`, whatever it stood for before.
    ///
    /// # Errors
    /// When the index cannot be read or written.
    pub fn set(self, references: &[Reference], manifest: &Descriptor) -> Result<(), StoreError> {
        self.set_from(references, manifest, None)
    }

    /// The same, for a manifest that was picked from the index with this digest: references to the index lead to it.
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

    /// Lets each of the references stand for its manifest, all at once; of one that is there twice the last counts.
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

    /// Forgets the name. Returns whether it was there.
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

/// The pointer without what the store once noted at it.
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
