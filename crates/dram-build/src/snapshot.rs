//! Snapshots: the file system a step leaves, as layers.

use std::borrow::Cow;

use dram_image::Descriptor;
use dram_store::{LayerId, Layers, Merged, Packed, StepKey, Store, StoreError};

use crate::transfer::Far;

/// One layer of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its directory.
    pub id: LayerId,
    /// The blob it came from, for a base image's.
    pub origin: Option<Packed>,
    /// Where that blob is, if it may not be here; then the directory may not be here either.
    pub far: Option<Far>,
}

impl Layer {
    /// What names it, whatever lies below: a base image's by its tar.
    fn tar(&self) -> LayerId {
        self.origin.as_ref().map_or_else(|| self.id.clone(), |origin| LayerId::of_diff(&origin.diff_id))
    }
}

/// Layers on top of each other, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The layers.
    pub layers: Vec<Layer>,
    /// For each step since the base image that could make a layer: whether it did.
    pub made: Vec<bool>,
}

impl Snapshot {
    /// Names what the snapshot holds: equal for snapshots of equal layers, wherever these came from. A base image's
    /// layer counts as its tar: what it is unpacked to depends on that, and on those below.
    pub(crate) fn identity(&self) -> StepKey {
        let ids: Vec<LayerId> = self.layers.iter().map(Layer::tar).collect();
        StepKey::of(ids.iter().map(|id| id.as_str().as_bytes()))
    }

    /// The snapshot as one tree.
    ///
    /// # Errors
    /// When a layer is gone, or cannot be brought in.
    pub fn view(&self, layers: Layers<'_>) -> Result<Merged, StoreError> {
        let here = self.bring(layers.store())?;
        let ids: Vec<_> = here.layers.iter().map(|layer| layer.id.clone()).collect();
        layers.view(&ids)
    }

    /// Whether all its layers are in the store.
    pub(crate) fn is_here(&self, store: &Store) -> bool {
        self.layers.iter().all(|layer| layer.far.is_none() || store.layers().has(&layer.id))
    }

    /// The snapshot with its layers in the store, those from elsewhere too: somebody looks into them now.
    ///
    /// # Errors
    /// When one cannot be had.
    pub fn bring(&self, store: &Store) -> Result<Cow<'_, Snapshot>, StoreError> {
        let Some(far) = self.layers.iter().find_map(|layer| layer.far.as_ref()) else { return Ok(Cow::Borrowed(self)) };
        far.unpack(store, self).map(Cow::Owned)
    }

    /// Brings the blobs of base images into the store that are elsewhere.
    ///
    /// # Errors
    /// When one cannot be had.
    pub fn bring_blobs(&self, store: &Store) -> Result<(), StoreError> {
        let blobs: Vec<_> = self.far().map(|(blob, _)| blob.clone()).collect();
        let first = self.far().next();
        first.map_or(Ok(()), |(_, far)| far.blobs(store, &blobs))
    }

    /// The blobs of base images that may be elsewhere, and where that is.
    pub fn far(&self) -> impl Iterator<Item = (&Descriptor, &Far)> {
        self.layers.iter().filter_map(|layer| Some((&layer.origin.as_ref()?.blob, layer.far.as_ref()?)))
    }

    /// This snapshot after a step that made `layer`, or none.
    pub(crate) fn with(mut self, layer: Option<Layer>) -> Snapshot {
        self.made.push(layer.is_some());
        self.layers.extend(layer);
        self
    }
}
