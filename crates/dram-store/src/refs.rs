//! References: the names of images, in the layout's `index.json`. The only mutable part of the store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dram_image::{Descriptor, Digest, Document, Index, Reference};
use rustix::fs::FlockOperation;

use crate::atomic_file::{self, Durability};
use crate::{Store, StoreError, lock};

/// The OCI annotation that holds a reference in an image layout.
pub(crate) const REF_NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";
/// Prefix of the store's own annotations, which are not written to exported images.
pub const OWN_ANNOTATION_PREFIX: &str = "dram.";
/// Annotation with the digest of the index that the manifest was selected from.
const INDEX_ANNOTATION: &str = "dram.index";
/// An index of this size has tens of thousands of images.
const MAX_INDEX_SIZE: u64 = dram_image::document::LARGEST_DOCUMENT as u64;

/// The image references of a store.
#[derive(Debug, Clone, Copy)]
pub struct ImageRefs<'a> {
    store: &'a Store,
}

/// A reference and its root: a manifest or an index, as the media type says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaggedImage {
    /// The reference in its normal form, with its tag or, if it has one, its digest; the unchanged text when another
    /// tool wrote something that is not a reference.
    pub name: String,
    /// Descriptor of the root.
    pub root: Descriptor,
}

impl TaggedImage {
    /// Returns the index that the root was selected from, if it is a manifest of an index that is not in the store.
    pub fn index(&self) -> Option<Digest> {
        self.root.annotations.get(INDEX_ANNOTATION)?.parse().ok()
    }
}

impl<'a> ImageRefs<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        ImageRefs { store }
    }

    pub(crate) fn create_if_missing(self) -> Result<(), StoreError> {
        let is_there = |path: PathBuf| std::fs::symlink_metadata(path).is_ok();
        // A missing index that has a backup was lost: it must not be replaced by an empty one.
        if is_there(self.path()) || is_there(self.copy_path()) { Ok(()) } else { self.update_index(|_| ()) }
    }

    pub(crate) fn path(self) -> PathBuf {
        self.store.join("oci/index.json")
    }

    /// Returns the path of the backup of the index, which is used when the index is damaged.
    pub(crate) fn copy_path(self) -> PathBuf {
        self.store.join("index.copy")
    }

    fn read(self) -> Result<Index, StoreError> {
        let path = self.path();
        match read_index(&path)? {
            None if std::fs::symlink_metadata(self.copy_path()).is_ok() => Err(StoreError::MissingIndex(path)),
            None => Ok(Index::new(Vec::new())),
            Some(index) => Ok(index),
        }
    }

    /// Reads the backup of the index, if it is readable.
    pub(crate) fn read_copy(self) -> Option<Index> {
        read_index(&self.copy_path()).ok().flatten()
    }

    /// Replaces the unreadable index by `index`.
    pub(crate) fn replace_index(self, index: Index) -> Result<(), StoreError> {
        let _turn = lock::lock_file(&self.store.join("refs.lock"), FlockOperation::LockExclusive)?;
        self.write(index)
    }

    fn write(self, index: Index) -> Result<(), StoreError> {
        // An index that could not be read would take all names with it.
        let (document, work) = (Document::write(index)?, self.store.work_dir().path());
        atomic_file::write_atomic(&self.path(), document.bytes(), MAX_INDEX_SIZE, &work, Durability::Synced)?;
        // The index itself is synced already. The backup protects against later damage to the disk.
        let _ =
            atomic_file::write_atomic(&self.copy_path(), document.bytes(), MAX_INDEX_SIZE, &work, Durability::Unsynced);
        Ok(())
    }

    /// Reads, changes and replaces the index under the lock.
    fn update_index<T>(self, change: impl FnOnce(&mut Index) -> T) -> Result<T, StoreError> {
        let _turn = lock::lock_file(&self.store.join("refs.lock"), FlockOperation::LockExclusive)?;
        let mut index = self.read()?;
        let result = change(&mut index);
        self.write(index)?;
        Ok(result)
    }

    /// Returns all references, sorted.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn list(self) -> Result<Vec<TaggedImage>, StoreError> {
        let mut all: BTreeMap<String, Descriptor> = BTreeMap::new();
        for mut root in self.read()?.manifests {
            let name = root.annotations.remove(REF_NAME_ANNOTATION).unwrap_or_default();
            all.entry(name).or_insert(root);
        }
        Ok(all.into_iter().map(|(name, root)| TaggedImage { name, root }).collect())
    }

    /// Returns the root of `reference`: by digest when it has one, by name otherwise.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn get(self, reference: &Reference) -> Result<Option<Descriptor>, StoreError> {
        let name = reference.to_string();
        let wanted = |tagged: &TaggedImage| match reference.digest() {
            Some(digest) => tagged.root.digest == digest || tagged.index() == Some(digest),
            None => tagged.name == name,
        };
        Ok(self.list()?.into_iter().find(wanted).map(|tagged| tagged.root))
    }

    /// Points each of `references` to `root`, and replaces earlier targets.
    ///
    /// # Errors
    /// When the index cannot be read or written.
    pub fn set(self, references: &[Reference], root: &Descriptor) -> Result<(), StoreError> {
        self.set_from(references, root, None)
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
        let index = from.map(|digest| (INDEX_ANNOTATION.to_owned(), digest.to_string()));
        let entry = |reference: &Reference| {
            let mut entry = without_own_annotations(manifest);
            entry.annotations.extend(index.clone());
            (reference.to_string(), entry)
        };
        self.insert_all(references.iter().map(entry).collect())
    }

    /// Points each reference to its root in one atomic update; the last of duplicate references wins.
    ///
    /// # Errors
    /// When the index cannot be read or written.
    pub fn set_all(self, named: &[(Reference, Descriptor)]) -> Result<(), StoreError> {
        self.insert_all(
            named.iter().map(|(reference, root)| (reference.to_string(), without_own_annotations(root))).collect(),
        )
    }

    fn insert_all(self, new: BTreeMap<String, Descriptor>) -> Result<(), StoreError> {
        self.update_index(|index| {
            index
                .manifests
                .retain(|old| !old.annotations.get(REF_NAME_ANNOTATION).is_some_and(|name| new.contains_key(name)));
            index.manifests.extend(new.into_iter().map(|(name, mut entry)| {
                entry.annotations.insert(REF_NAME_ANNOTATION.to_owned(), name);
                entry
            }));
            index
                .manifests
                .sort_by(|a, b| a.annotations.get(REF_NAME_ANNOTATION).cmp(&b.annotations.get(REF_NAME_ANNOTATION)));
        })
    }

    /// Removes the reference. Returns true if it existed.
    ///
    /// # Errors
    /// When the index cannot be read or written.
    pub fn remove(self, name: &str) -> Result<bool, StoreError> {
        self.update_index(|index| {
            let before = index.manifests.len();
            index.manifests.retain(|old| old.annotations.get(REF_NAME_ANNOTATION).map(String::as_str) != Some(name));
            index.manifests.len() < before
        })
    }
}

/// Returns the descriptor without the store's own annotations.
fn without_own_annotations(manifest: &Descriptor) -> Descriptor {
    let mut manifest = manifest.clone();
    manifest.annotations.retain(|key, _| !key.starts_with(OWN_ANNOTATION_PREFIX));
    manifest
}

fn read_index(path: &Path) -> Result<Option<Index>, StoreError> {
    let Some(bytes) = atomic_file::read_limited(path, MAX_INDEX_SIZE)? else { return Ok(None) };
    match Document::<Index>::read(bytes) {
        Ok(document) => Ok(Some(document.value().clone())),
        Err(source) => Err(StoreError::DamagedIndex { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_not_be_read_again_are_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let root = Descriptor::new(dram_image::MediaType::MANIFEST, Digest::of(b"x"), 1);
        let named = |host: &str, count: usize| -> Vec<(Reference, Descriptor)> {
            let name = |number: usize| format!("{host}.example/{}:{number:0>128}", "n".repeat(200));
            (0..count).map(|number| (name(number).parse().unwrap(), root.clone())).collect()
        };
        store.refs().set_all(&named("a", 35_000)).unwrap();
        let error = store.refs().set_all(&named("b", 35_000)).unwrap_err();
        assert!(matches!(error, StoreError::UnwritableDocument(_)), "{error}");
        assert_eq!(store.refs().list().unwrap().len(), 35_000);
        assert_eq!(store.refs().read_copy().map(|index| index.manifests.len()), Some(35_000));
        let first = store.refs().list().unwrap().remove(0).name;
        assert!(store.refs().remove(&first).unwrap());
    }
}
