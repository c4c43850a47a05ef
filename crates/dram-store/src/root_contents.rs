//! The contents of a root: everything that the name of an image leads to. A root is a manifest or an index; its media
//! type says which.

use std::collections::BTreeSet;

use dram_image::{Descriptor, Digest, DocumentError, ImageConfig, ImagePlatform, Index, Manifest, MediaType};

use crate::{Store, StoreError};

/// The largest depth of nested indexes; nobody nests more than two.
pub const MAX_INDEX_DEPTH: usize = 4;
/// The largest number of documents below a root; nobody could use more.
const MAX_DOCUMENTS: usize = 10_000;

/// The documents and blobs below a root, as far as the documents can be read.
#[derive(Debug, Default)]
pub struct RootContents {
    /// The manifests, in the order of their indexes. If the root is a manifest, it is the only one.
    pub manifests: Vec<ManifestContents>,
    /// All blobs, each once: indexes, manifests, configs, layers and others, every document before what it refers to.
    pub blobs: Vec<Descriptor>,
    /// The documents that cannot be read, with the reason. The contents are complete if there are none.
    pub unreadable: Vec<(Descriptor, StoreError)>,
    seen: BTreeSet<Digest>,
}

/// A manifest below a root.
#[derive(Debug)]
pub struct ManifestContents {
    /// The descriptor; in an index, it names the platform.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// The config, if it is that of an image: attestations and other artifacts may have other configs.
    pub config: Option<ImageConfig>,
}

impl ManifestContents {
    /// Returns the platform in the index, or else the platform in the config.
    pub fn platform(&self) -> Option<ImagePlatform> {
        let of_config = |config: &ImageConfig| ImagePlatform {
            architecture: config.architecture.clone(),
            os: config.os.clone(),
            variant: config.variant.clone(),
        };
        self.descriptor.platform.clone().or_else(|| self.config.as_ref().map(of_config))
    }

    /// Returns true if it is an image that can be run, and not an attestation or another artifact.
    pub fn is_image(&self) -> bool {
        self.config.is_some() && self.platform().is_none_or(|platform| platform.os != UNKNOWN_OS)
    }

    /// Returns the layers of an image, lowest first: diff ID and blob.
    pub fn layers(&self) -> impl Iterator<Item = (&Digest, &Descriptor)> {
        let diff_ids = self.config.iter().filter(|_| self.is_image()).flat_map(|config| &config.rootfs.diff_ids);
        diff_ids.zip(&self.manifest.layers)
    }
}

/// The operating system that an index gives for manifests that are no images, such as attestations.
const UNKNOWN_OS: &str = "unknown";

impl RootContents {
    /// Reads the documents below `root`.
    pub(crate) fn read(store: &Store, root: &Descriptor) -> RootContents {
        let mut contents = RootContents::default();
        contents.add_document(store, root, 0);
        contents
    }

    fn add_document(&mut self, store: &Store, document: &Descriptor, depth: usize) {
        if !self.add_blob(document) {
            return;
        }
        // What is neither a manifest nor an index refers to nothing. A root without a media type is a manifest.
        let added = match MediaType::is_index(&document.media_type) {
            true => self.add_index(store, document, depth),
            false if depth == 0 || MediaType::is_manifest(&document.media_type) => {
                self.add_manifest(store, document, depth)
            }
            false => Ok(()),
        };
        if let Err(error) = added {
            self.unreadable.push((document.clone(), error));
        }
    }

    /// Adds a blob. Returns false if it was there.
    fn add_blob(&mut self, blob: &Descriptor) -> bool {
        let is_new = self.seen.insert(blob.digest);
        self.blobs.extend(is_new.then(|| blob.clone()));
        is_new
    }

    fn add_index(&mut self, store: &Store, document: &Descriptor, depth: usize) -> Result<(), StoreError> {
        let invalid = |why: String| StoreError::Document {
            path: store.blobs().path(&document.digest),
            source: DocumentError::Invalid { what: "the index", why },
        };
        if depth >= MAX_INDEX_DEPTH {
            return Err(invalid("it is an index in an index in an index …".to_owned()));
        }
        let index = store.blobs().read_document::<Index>(document)?;
        if self.blobs.len() + index.value().manifests.len() > MAX_DOCUMENTS {
            return Err(invalid(format!("it has more than {MAX_DOCUMENTS} images")));
        }
        index.value().manifests.iter().for_each(|entry| self.add_document(store, entry, depth + 1));
        Ok(())
    }

    fn add_manifest(&mut self, store: &Store, document: &Descriptor, depth: usize) -> Result<(), StoreError> {
        let manifest = store.blobs().read_document::<Manifest>(document)?.value().clone();
        self.add_blob(&manifest.config);
        for layer in &manifest.layers {
            self.add_blob(layer);
        }
        let config = match depth == 0 || MediaType::is_image_config(&manifest.config.media_type) {
            true => match store.blobs().read_document::<ImageConfig>(&manifest.config) {
                Ok(config) => Some(config.value().clone()),
                Err(error) => {
                    self.unreadable.push((manifest.config.clone(), error));
                    None
                }
            },
            false => None,
        };
        self.manifests.push(ManifestContents { descriptor: document.clone(), manifest, config });
        Ok(())
    }
}

impl Store {
    /// Returns the contents of `root`, as far as its documents can be read. Whether layers exist is not checked.
    pub fn root_contents(&self, root: &Descriptor) -> RootContents {
        RootContents::read(self, root)
    }

    /// Returns the descriptor of a blob that is a manifest or an index, with the media type that it says; `None` for
    /// other blobs.
    pub fn document_descriptor(&self, digest: Digest, size: u64) -> Option<Descriptor> {
        // A larger document would have thousands of layers.
        const MAX_DOCUMENT_SIZE: u64 = 4 << 20;
        if size > MAX_DOCUMENT_SIZE {
            return None;
        }
        let unknown = Descriptor::new(MediaType::MANIFEST, digest, size);
        if let Ok(manifest) = self.blobs().read_document::<Manifest>(&unknown) {
            let kind = manifest.value().media_type.clone().unwrap_or_else(|| MediaType::MANIFEST.to_owned());
            return Some(Descriptor::new(&kind, digest, size));
        }
        let index = self.blobs().read_document::<Index>(&unknown).ok()?;
        let kind = index.value().media_type.clone().unwrap_or_else(|| MediaType::INDEX.to_owned());
        Some(Descriptor::new(&kind, digest, size))
    }
}

#[cfg(test)]
mod tests;
