//! Snapshots: the file system after a step, as a list of layers.

use std::borrow::Cow;

use dram_image::Descriptor;
use dram_store::{LayerId, Layers, MergedTree, PackedLayer, StepKey, Store, StoreError};

use crate::transfer::LazyBlobs;

/// One layer of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The id of its directory.
    pub id: LayerId,
    /// For a layer of a base image: its diff ID and blob.
    pub origin: Option<PackedLayer>,
    /// The source of the blob, if it may not be in the store; then the directory may be missing too.
    pub lazy: Option<LazyBlobs>,
}

impl Layer {
    /// Returns an id that does not depend on the layers below: for a layer of a base image, one made of its diff ID.
    fn content_id(&self) -> LayerId {
        self.origin.as_ref().map_or_else(|| self.id.clone(), |origin| LayerId::from_diff_id(&origin.diff_id))
    }
}

/// A file system as layers on top of each other, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The layers.
    pub layers: Vec<Layer>,
    /// For each step since the base image that can make a layer: whether it made one.
    pub layer_made: Vec<bool>,
}

impl Snapshot {
    /// Returns the identity of the snapshot for cache keys: equal for equal layers, wherever they come from. A layer of
    /// a base image is identified by its diff ID, because its unpacked form also depends on the layers below.
    pub(crate) fn identity(&self) -> StepKey {
        let ids: Vec<LayerId> = self.layers.iter().map(Layer::content_id).collect();
        StepKey::of(ids.iter().map(|id| id.as_str().as_bytes()))
    }

    /// Returns the snapshot as one merged tree.
    ///
    /// # Errors
    /// Returns an error if a layer is missing or cannot be fetched.
    pub fn view(&self, layers: Layers<'_>) -> Result<MergedTree, StoreError> {
        let here = self.fetch(layers.store())?;
        let ids: Vec<_> = here.layers.iter().map(|layer| layer.id.clone()).collect();
        layers.view(&ids)
    }

    /// Returns whether all its layers are in the store.
    pub(crate) fn is_local(&self, store: &Store) -> bool {
        self.layers.iter().all(|layer| layer.lazy.is_none() || store.layers().has(&layer.id))
    }

    /// Returns the snapshot with all its layers unpacked in the store; lazy layers are pulled now.
    ///
    /// # Errors
    /// Returns an error if a layer cannot be fetched.
    pub fn fetch(&self, store: &Store) -> Result<Cow<'_, Snapshot>, StoreError> {
        let Some(far) = self.layers.iter().find_map(|layer| layer.lazy.as_ref()) else {
            return Ok(Cow::Borrowed(self));
        };
        far.unpack_layers(store, self).map(Cow::Owned)
    }

    /// Fetches the blobs of lazy base images into the store.
    ///
    /// # Errors
    /// Returns an error if a blob cannot be fetched.
    pub fn fetch_blobs(&self, store: &Store) -> Result<(), StoreError> {
        let blobs: Vec<_> = self.lazy_blobs().map(|(blob, _)| blob.clone()).collect();
        let first = self.lazy_blobs().next();
        first.map_or(Ok(()), |(_, far)| far.fetch_blobs(store, &blobs))
    }

    /// Returns the blobs of base images that may not be in the store, with their sources.
    pub fn lazy_blobs(&self) -> impl Iterator<Item = (&Descriptor, &LazyBlobs)> {
        self.layers.iter().filter_map(|layer| Some((&layer.origin.as_ref()?.blob, layer.lazy.as_ref()?)))
    }

    /// Returns this snapshot followed by a step that made `layer`, or none.
    pub(crate) fn with_step(mut self, layer: Option<Layer>) -> Snapshot {
        self.layer_made.push(layer.is_some());
        self.layers.extend(layer);
        self
    }
}
