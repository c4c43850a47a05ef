//! Inputs from outside the Dockerfile: images and named contexts.

use dram_image::{Descriptor, Digest, Document, DocumentError, ImageConfig, Manifest};
use dram_store::{Store, StoreError};

use crate::transfer::LazyBlobs;
use crate::{BuildContext, Layer, Snapshot};

/// An image name or context name after `FROM` or `--from`, resolved.
#[derive(Debug, Clone)]
pub enum ResolvedInput {
    /// An image in the store.
    Image(Box<Image>),
    /// Files of a named context, given with `--build-context`.
    Context(BuildContext),
}

/// An image in the store, with its verified documents.
#[derive(Debug, Clone)]
pub struct Image {
    /// The descriptor of the manifest.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Document<Manifest>,
    /// The image config.
    pub config: Document<ImageConfig>,
    /// The source of blobs that are not in the store, if the image is pulled lazily.
    pub lazy: Option<LazyBlobs>,
}

impl Image {
    /// Reads the image at `descriptor`.
    ///
    /// # Errors
    /// Returns an error if a document is missing or damaged, or if manifest and config contradict each other.
    pub fn open(store: &Store, descriptor: &Descriptor) -> Result<Image, StoreError> {
        let manifest: Document<Manifest> = store.blobs().read_document(descriptor)?;
        let config: Document<ImageConfig> = store.blobs().read_document(&manifest.value().config)?;
        let (layers, diff_ids) = (manifest.value().layers.len(), config.value().rootfs.diff_ids.len());
        if layers != diff_ids {
            let why = format!("it names {diff_ids} layers, and its manifest has {layers}");
            let source = DocumentError::Invalid { what: "the image configuration", why };
            return Err(StoreError::Document { path: store.blobs().path(&manifest.value().config.digest), source });
        }
        Ok(Image { descriptor: descriptor.clone(), manifest, config, lazy: None })
    }

    /// Returns whether all blobs of its layers are in the store.
    pub fn has_all_blobs(&self, store: &Store) -> bool {
        self.manifest.value().layers.iter().all(|blob| store.blobs().has(blob))
    }

    /// Returns its layers, lowest first: diff ID and blob.
    pub fn layers(&self) -> impl Iterator<Item = (&Digest, &Descriptor)> {
        self.config.value().rootfs.diff_ids.iter().zip(&self.manifest.value().layers)
    }

    /// Returns the size of the compressed layers and both documents in bytes.
    pub fn compressed_size(&self) -> u64 {
        let manifest = self.manifest.value();
        let layers = manifest.layers.iter().map(|layer| layer.size);
        [self.descriptor.size, manifest.config.size].into_iter().chain(layers).fold(0, u64::saturating_add)
    }

    /// Returns the image as a snapshot to build on. Nothing is fetched or unpacked for it.
    pub fn snapshot(&self) -> Snapshot {
        let base = |(diff_id, blob): (&Digest, &Descriptor)| Layer::Base { diff_id: *diff_id, blob: blob.clone() };
        Snapshot { layers: self.layers().map(base).collect(), steps: Vec::new() }
    }

    /// Returns the image as a snapshot to run. A layer that a step on this machine made is used as that step left it:
    /// its files are the same, but have the times of the build, on which no build may depend.
    pub fn snapshot_to_run(&self, store: &Store) -> Snapshot {
        let mut snapshot = self.snapshot();
        for layer in &mut snapshot.layers {
            if let Layer::Base { diff_id, .. } = layer
                && let Some(id) = store.layers().find_origin(diff_id)
            {
                *layer = Layer::Local(id);
            }
        }
        snapshot
    }
}
