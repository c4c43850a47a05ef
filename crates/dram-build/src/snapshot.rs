//! Snapshots: the file system after a step, as a list of layers.

use dram_image::{Descriptor, Digest};
use dram_store::{LayerId, StepKey};

/// A handle of a layer: it says where the content of the layer comes from. It is plain data and holds no connection;
/// [`LayerProvider::ensure`](crate::LayerProvider::ensure) makes the layer available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer {
    /// A directory of the store.
    Local(LayerId),
    /// A layer of a base image. Its blob may still be in a registry, and it may not be unpacked.
    Base {
        /// The digest of the uncompressed tar.
        diff_id: Digest,
        /// The blob: the tar, compressed.
        blob: Descriptor,
    },
    /// A layer of a cache hit in a shared cache that may not be in the store.
    Cached {
        /// The id of its directory, a digest of its content.
        id: LayerId,
        /// Its blob in the first shared cache that has it; `None` if the caches only know the step that made it.
        blob: Option<Descriptor>,
    },
}

impl Layer {
    /// Returns an id that does not depend on the layers below: for a layer of a base image, one made of its diff ID.
    fn content_id(&self) -> LayerId {
        match self {
            Layer::Local(id) | Layer::Cached { id, .. } => id.clone(),
            Layer::Base { diff_id, .. } => LayerId::from_diff_id(diff_id),
        }
    }

    /// Returns the id of the directory of a layer that is not a layer of a base image.
    pub(crate) fn stored_id(&self) -> Option<&LayerId> {
        match self {
            Layer::Local(id) | Layer::Cached { id, .. } => Some(id),
            Layer::Base { .. } => None,
        }
    }

    /// Returns the id of a layer that a step made.
    pub(crate) fn step_id(&self) -> Option<&LayerId> {
        self.stored_id().filter(|id| id.is_from_step())
    }
}

/// A file system as layers on top of each other, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The layers.
    pub layers: Vec<Layer>,
    /// The steps since the base image that can make a layer.
    pub steps: Vec<SnapshotStep>,
}

/// A step of a snapshot. It has no influence on the identity of the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotStep {
    /// True if it made a layer.
    pub made_layer: bool,
    /// The time at which it was executed, in seconds since 1970, if that is known.
    pub executed: Option<i64>,
}

impl Snapshot {
    /// Returns the identity of the snapshot for cache keys: equal for equal layers, wherever they come from. A layer of
    /// a base image is identified by its diff ID, because its unpacked form also depends on the layers below.
    pub(crate) fn identity(&self) -> StepKey {
        let ids: Vec<LayerId> = self.layers.iter().map(Layer::content_id).collect();
        StepKey::of(ids.iter().map(|id| id.as_str().as_bytes()))
    }

    /// Returns this snapshot followed by a step that made `layer`, or none, and was executed at `executed`.
    pub(crate) fn with_step(mut self, layer: Option<Layer>, executed: Option<i64>) -> Snapshot {
        self.steps.push(SnapshotStep { made_layer: layer.is_some(), executed });
        self.layers.extend(layer);
        self
    }

    /// Returns the snapshot before its last `count` steps.
    pub(crate) fn without_steps(mut self, count: usize) -> Snapshot {
        for step in self.steps.split_off(self.steps.len().saturating_sub(count)) {
            if step.made_layer {
                self.layers.pop();
            }
        }
        self
    }

    /// Returns the layer that each of the last `count` steps made, in their order.
    pub(crate) fn layers_of_steps(&self, count: usize) -> Vec<Option<&Layer>> {
        let steps = &self.steps[self.steps.len().saturating_sub(count)..];
        let first = self.layers.len() - steps.iter().filter(|step| step.made_layer).count();
        let mut layers = self.layers[first..].iter();
        steps.iter().map(|step| if step.made_layer { layers.next() } else { None }).collect()
    }

    /// Returns for each step whether it made a layer.
    #[cfg(test)]
    pub(crate) fn made_layers(&self) -> Vec<bool> {
        self.steps.iter().map(|step| step.made_layer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(letter: &str) -> LayerId {
        format!("c-{}", letter.repeat(64)).parse().unwrap()
    }

    fn base(text: &str) -> Layer {
        let blob = Descriptor::new(dram_image::MediaType::LAYER_GZIP, Digest::of(text.as_bytes()), 1);
        Layer::Base { diff_id: Digest::of(text.as_bytes()), blob }
    }

    #[test]
    fn identity_depends_on_the_content_and_order_of_layers_and_not_on_their_origin() {
        let of = |layers: &[Layer]| Snapshot { layers: layers.to_vec(), steps: Vec::new() }.identity();
        let cached = Layer::Cached { id: id("a"), blob: None };
        assert_eq!(of(&[Layer::Local(id("a"))]), of(std::slice::from_ref(&cached)));
        // The unpacked form of a base layer has this id, unless it inherits entries.
        assert_eq!(of(&[base("x")]), of(&[Layer::Local(LayerId::from_diff_id(&Digest::of(b"x")))]));
        let all = [of(&[]), of(&[base("x"), cached.clone()]), of(&[cached, base("x")]), of(&[base("x")])];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{at}");
        }
        let blob = Descriptor::new(dram_image::MediaType::LAYER_ZSTD, Digest::of(b"other"), 2);
        assert_eq!(of(&[base("x")]), of(&[Layer::Base { diff_id: Digest::of(b"x"), blob }]));
    }

    #[test]
    fn steps_are_taken_back_with_the_layers_they_made() {
        let start = Snapshot { layers: vec![base("x")], steps: vec![] };
        let (a, b) = (Layer::Local(id("a")), Layer::Local(id("b")));
        let one = start.clone().with_step(Some(a.clone()), Some(1));
        let three = one.clone().with_step(None, None).with_step(Some(b.clone()), Some(2));
        assert_eq!(three.layers_of_steps(3), [Some(&a), None, Some(&b)]);
        assert_eq!(three.layers_of_steps(2), [None, Some(&b)]);
        assert_eq!(three.clone().without_steps(0), three);
        assert_eq!(three.clone().without_steps(2), one);
        assert_eq!(three.without_steps(3), start);
    }
}
