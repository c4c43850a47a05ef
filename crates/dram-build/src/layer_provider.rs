//! The layer provider: makes layers available as directories of the store, wherever they come from. See
//! [the decision](../../../docs/decisions/layer-provider.md).

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use dram_image::{Descriptor, Digest};
use dram_store::{LayerId, MergedTree, Store, StoreError};

use crate::parallel::for_each_parallel;
use crate::temp_dir::TempDir;
use crate::transfer::LazyBlobs;
use crate::{BuildEvent, CancelToken, Image, Layer, ResolvedInput, SharedCaches, Snapshot, layer_writer};

/// The number of layers that are fetched from shared caches in parallel.
const PARALLEL_FETCHES: usize = 4;

/// The reasons why a layer is not available.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A blob cannot be fetched or unpacked, or a file operation failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The layer that a step made is neither in the store nor in a shared cache any more. A build executes the step.
    #[error("no shared cache has the layer {layer} any more")]
    Lost {
        /// The layer.
        layer: LayerId,
    },
    /// The build was cancelled.
    #[error("the build was interrupted")]
    Cancelled,
}

/// Makes layers available: layers of base images are fetched and unpacked, layers of shared caches are fetched and
/// verified. Everything that reads files of layers asks it first.
pub struct LayerProvider<'a> {
    store: &'a Store,
    bases: BTreeMap<Digest, BaseSource>,
    caches: Option<&'a SharedCaches<'a>>,
    cancel: CancelToken,
    tell: &'a (dyn Fn(BuildEvent) + Sync),
}

/// The origin of the blob of a base image.
struct BaseSource {
    /// The name of the image.
    image: String,
    /// The source of the blob, if it may not be in the store.
    lazy: Option<LazyBlobs>,
}

impl fmt::Debug for LayerProvider<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("LayerProvider").field("store", &self.store).finish_non_exhaustive()
    }
}

impl<'a> LayerProvider<'a> {
    /// Makes a provider of the layers in `store`.
    pub fn new(store: &'a Store) -> LayerProvider<'a> {
        let (bases, cancel) = (BTreeMap::new(), CancelToken::default());
        LayerProvider { store, bases, caches: None, cancel, tell: &|_| () }
    }

    /// Reports unpacked and fetched layers to `tell`.
    #[must_use]
    pub fn with_events(self, tell: &'a (dyn Fn(BuildEvent) + Sync)) -> LayerProvider<'a> {
        LayerProvider { tell, ..self }
    }

    /// Fetches layers of steps from `caches` until `cancel` is cancelled.
    #[must_use]
    pub fn with_shared_caches(self, caches: &'a SharedCaches<'a>, cancel: CancelToken) -> LayerProvider<'a> {
        LayerProvider { caches: Some(caches), cancel, ..self }
    }

    /// Registers the layers of the images among `inputs`.
    #[must_use]
    pub fn with_inputs(mut self, inputs: &BTreeMap<String, ResolvedInput>) -> LayerProvider<'a> {
        for (name, input) in inputs {
            match input {
                ResolvedInput::Image(image) => self.add_image(name, image),
                ResolvedInput::Context(_) => {}
            }
        }
        self
    }

    /// Registers the layers of the image called `name`: where their blobs are, if they are not in the store.
    #[must_use]
    pub fn with_image(mut self, name: &str, image: &Image) -> LayerProvider<'a> {
        self.add_image(name, image);
        self
    }

    fn add_image(&mut self, name: &str, image: &Image) {
        let lazy = image.lazy.as_ref().filter(|_| !image.has_all_blobs(self.store));
        for (_, blob) in image.layers() {
            let source = BaseSource { image: name.to_owned(), lazy: lazy.cloned() };
            let known = self.bases.entry(blob.digest).or_insert(source);
            if known.lazy.is_none() {
                known.lazy = lazy.cloned();
            }
        }
    }

    /// Returns the store.
    pub fn store(&self) -> &'a Store {
        self.store
    }

    /// Returns the shared caches.
    pub(crate) fn caches(&self) -> Option<&'a SharedCaches<'a>> {
        self.caches
    }

    /// Returns the handle of a layer that a step made.
    pub(crate) fn step_layer(&self, id: LayerId) -> Layer {
        match self.store.layers().has(&id) {
            true => Layer::Local(id),
            false => Layer::Cached { blob: self.caches.and_then(|caches| caches.offered_blob(&id)), id },
        }
    }

    /// Makes `layers` available, lowest first, and returns their directories in the store. `layers` are all layers of a
    /// snapshot, because the directory of a layer of a base image also depends on the layers below.
    ///
    /// # Errors
    /// Returns [`LayerError::Lost`] if a layer that a step made cannot be fetched, and an error if a blob cannot be
    /// fetched or does not have its diff ID.
    pub fn ensure(&self, layers: &[Layer]) -> Result<Vec<LayerId>, LayerError> {
        self.ensure_stored(layers)?;
        let mut ids = Vec::with_capacity(layers.len());
        let mut fetched = false;
        for (at, layer) in layers.iter().enumerate() {
            ids.push(match layer {
                Layer::Local(id) | Layer::Cached { id, .. } => id.clone(),
                Layer::Base { diff_id, blob } => match self.store.layers().find_unpacked(diff_id, &ids)? {
                    Some(id) => id,
                    None => {
                        // The blobs of all layers above are fetched at once, before the first of them is unpacked.
                        if !std::mem::replace(&mut fetched, true) {
                            self.fetch_blobs_not_unpacked(&layers[at..])?;
                        }
                        self.unpack(diff_id, blob, &ids)?
                    }
                },
            });
        }
        Ok(ids)
    }

    /// Returns the directories of `layers`, lowest first, or `None` if one of them is not in the store.
    pub(crate) fn find_stored(&self, layers: &[Layer]) -> Result<Option<Vec<LayerId>>, StoreError> {
        let mut ids = Vec::with_capacity(layers.len());
        for layer in layers {
            let id = match layer {
                Layer::Local(id) | Layer::Cached { id, .. } => self.store.layers().has(id).then(|| id.clone()),
                Layer::Base { diff_id, .. } => self.store.layers().find_unpacked(diff_id, &ids)?,
            };
            let Some(id) = id else { return Ok(None) };
            ids.push(id);
        }
        Ok(Some(ids))
    }

    /// Makes those of `layers` available that are not layers of base images.
    pub(crate) fn ensure_stored(&self, layers: &[Layer]) -> Result<(), LayerError> {
        let ids = layers.iter().filter_map(Layer::stored_id);
        let missing: Vec<&LayerId> = ids.filter(|id| !self.store.layers().has(id)).collect();
        for_each_parallel(&missing, PARALLEL_FETCHES, &|id| match self.caches {
            Some(caches) => caches.fetch_layer(self.store, id, &self.cancel, self.tell),
            None => Err(LayerError::Lost { layer: (*id).clone() }),
        })
    }

    fn unpack(&self, diff_id: &Digest, blob: &Descriptor, below: &[LayerId]) -> Result<LayerId, StoreError> {
        match self.bases.get(&blob.digest) {
            Some(BaseSource { lazy: Some(lazy), .. }) => lazy.fetch_one(self.store, blob)?,
            Some(BaseSource { lazy: None, image }) => (self.tell)(BuildEvent::Unpacking { image: image.clone() }),
            None => {}
        }
        self.store.layers().unpack(blob, diff_id, below)
    }

    fn fetch_blobs_not_unpacked(&self, layers: &[Layer]) -> Result<(), StoreError> {
        let unpacked = |diff_id: &Digest| self.store.layers().has(&LayerId::from_diff_id(diff_id));
        self.fetch_lazy_blobs(layers.iter().filter_map(|layer| match layer {
            Layer::Base { diff_id, blob } => Some(blob).filter(|_| !unpacked(diff_id)),
            Layer::Local(_) | Layer::Cached { .. } => None,
        }))
    }

    /// Fetches the blobs of lazy base images into the store.
    ///
    /// # Errors
    /// Returns an error if a blob cannot be fetched.
    pub fn fetch_blobs(&self, layers: &[Layer]) -> Result<(), StoreError> {
        self.fetch_lazy_blobs(base_blobs(layers))
    }

    fn fetch_lazy_blobs<'b>(&self, blobs: impl Iterator<Item = &'b Descriptor>) -> Result<(), StoreError> {
        let mut sources: Vec<(&LazyBlobs, Vec<Descriptor>)> = Vec::new();
        for blob in blobs {
            let Some(lazy) = self.bases.get(&blob.digest).and_then(|base| base.lazy.as_ref()) else { continue };
            match sources.iter_mut().find(|(known, _)| known.is_same(lazy)) {
                Some((_, blobs)) => blobs.push(blob.clone()),
                None => sources.push((lazy, vec![blob.clone()])),
            }
        }
        sources.iter().try_for_each(|(lazy, blobs)| lazy.fetch_blobs(self.store, blobs))
    }

    /// Returns the sources of those blobs of base images that may not be in the store.
    pub fn lazy_blobs(&self, layers: &[Layer]) -> BTreeMap<Digest, LazyBlobs> {
        let lazy = |blob: &Descriptor| Some((blob.digest, self.bases.get(&blob.digest)?.lazy.clone()?));
        base_blobs(layers).filter_map(lazy).collect()
    }

    /// Returns whether `layers` can be made available without fetching anything, and without unpacking a layer of a
    /// lazy base image.
    pub(crate) fn is_local(&self, layers: &[Layer]) -> bool {
        let is_lazy = |blob: &Descriptor| self.bases.get(&blob.digest).is_some_and(|base| base.lazy.is_some());
        layers.iter().all(|layer| match layer {
            Layer::Local(id) | Layer::Cached { id, .. } => self.store.layers().has(id),
            Layer::Base { diff_id, blob } => !is_lazy(blob) || self.store.layers().has(&LayerId::from_diff_id(diff_id)),
        })
    }

    /// Records the use of the layers of a base image that are unpacked, so that they are not evicted before layers that
    /// nobody builds on.
    pub(crate) fn record_use(&self, layers: &[Layer]) -> Result<(), StoreError> {
        let mut ids = Vec::with_capacity(layers.len());
        for layer in layers {
            let Layer::Base { diff_id, .. } = layer else { return Ok(()) };
            let Some(id) = self.store.layers().find_unpacked(diff_id, &ids)? else { return Ok(()) };
            ids.push(id);
        }
        Ok(())
    }

    /// As [`LayerProvider::ensure`], for callers outside of a build, where no step can be executed.
    pub(crate) fn ensure_outside_build(&self, layers: &[Layer]) -> Result<Vec<LayerId>, StoreError> {
        self.ensure(layers).map_err(|error| self.store_error(error))
    }

    /// Makes the layers of `snapshot` available and returns them as one merged tree. For callers outside of a build.
    ///
    /// # Errors
    /// Returns an error if a layer is missing, or if a blob cannot be fetched or does not have its diff ID.
    pub fn view(&self, snapshot: &Snapshot) -> Result<MergedTree, StoreError> {
        self.store.layers().view(&self.ensure_outside_build(&snapshot.layers)?)
    }

    fn store_error(&self, error: LayerError) -> StoreError {
        let unreadable = |path, kind: io::ErrorKind| StoreError::Io { verb: "read", path, source: kind.into() };
        match error {
            LayerError::Store(error) => error,
            LayerError::Lost { layer } => unreadable(self.store.layers().path(&layer), io::ErrorKind::NotFound),
            LayerError::Cancelled => unreadable(self.store.root().to_owned(), io::ErrorKind::Interrupted),
        }
    }
}

fn base_blobs(layers: &[Layer]) -> impl Iterator<Item = &Descriptor> {
    layers.iter().filter_map(|layer| match layer {
        Layer::Base { blob, .. } => Some(blob),
        Layer::Local(_) | Layer::Cached { .. } => None,
    })
}

/// The merged tree of a snapshot, which has a root even if the snapshot has no layer.
pub(crate) struct RootedTree<'a> {
    pub(crate) tree: MergedTree,
    _root: Option<TempDir<'a>>,
}

impl<'a> RootedTree<'a> {
    /// Opens the layers `ids` of `store`, lowest first.
    ///
    /// # Errors
    /// Returns an error if a file operation fails.
    pub(crate) fn open(store: &'a Store, ids: &[LayerId]) -> Result<RootedTree<'a>, StoreError> {
        if !ids.is_empty() {
            return Ok(RootedTree { tree: store.layers().view(ids)?, _root: None });
        }
        let root = TempDir::new(store)?;
        layer_writer::inherit_root_metadata(&dram_store::Dir::open_layer(root.path())?, &MergedTree::open(&[])?)?;
        Ok(RootedTree { tree: MergedTree::open(&[root.path().to_owned()])?, _root: Some(root) })
    }
}
