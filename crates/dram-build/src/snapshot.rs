//! Snapshots: the file system a step leaves, as layers.

use dram_store::{LayerId, Layers, Merged, Packed, StepKey, StoreError};

/// One layer of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its directory.
    pub id: LayerId,
    /// The blob it came from, for a base image's.
    pub origin: Option<Packed>,
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
    /// Names what the snapshot holds: equal for snapshots of equal layers, wherever these came from.
    pub(crate) fn identity(&self) -> StepKey {
        StepKey::of(self.layers.iter().map(|layer| layer.id.as_str().as_bytes()))
    }

    /// The snapshot as one tree.
    ///
    /// # Errors
    /// When a layer is gone.
    pub fn view(&self, layers: Layers<'_>) -> Result<Merged, StoreError> {
        let ids: Vec<_> = self.layers.iter().map(|layer| layer.id.clone()).collect();
        layers.view(&ids)
    }

    /// This snapshot after a step that made `layer`, or none.
    pub(crate) fn with(mut self, layer: Option<Layer>) -> Snapshot {
        self.made.push(layer.is_some());
        self.layers.extend(layer);
        self
    }
}
