//! Lazy pulls: blobs that are fetched when they are needed.

use std::fmt;
use std::sync::Arc;

use dram_image::{Descriptor, Digest, Document, Manifest, Platform};
use dram_store::{LayerId, Packed, StepKey, Store, StoreError};

use crate::transfer::copy::{AT_ONCE, arrive, chosen, each, read};
use crate::transfer::{Copying, Motion, Repository, Source, StoreSink, TransferError, Which};
use crate::{Cancel, Image, Layer, Snapshot};

/// The source of an image's blobs that are not in the store. All values are equal, because the identity of an image
/// does not depend on its source.
#[derive(Clone)]
pub struct Far(Arc<Inner>);

struct Inner {
    source: Box<dyn Source>,
    cancel: Cancel,
    tell: Box<dyn Fn(Motion) + Send + Sync>,
}

impl fmt::Debug for Far {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Far").field(&self.0.source).finish()
    }
}

impl PartialEq for Far {
    fn eq(&self, _: &Far) -> bool {
        true
    }
}

impl Eq for Far {}

impl Far {
    /// Makes lazy blobs of `source`, which are fetched until `cancel` is cancelled. `tell` is called with the progress,
    /// by several threads.
    pub fn new(source: Box<dyn Source>, cancel: Cancel, tell: Box<dyn Fn(Motion) + Send + Sync>) -> Far {
        Far(Arc::new(Inner { source, cancel, tell }))
    }

    /// Opens the image at `root`, or the one for `platform` if `root` is an index. Its documents are fetched into
    /// `store` now, its layers when they are needed.
    ///
    /// # Errors
    /// Returns an error if a document cannot be fetched, or if there is no image for the platform.
    pub fn image(self, store: &Store, root: &Descriptor, platform: &Platform) -> Result<Image, TransferError> {
        let source = &*self.0.source;
        let manifest = chosen(root, source, &Which::One(platform.clone()))?;
        let manifest = Descriptor::new(&manifest.media_type, manifest.digest, manifest.size);
        let bytes = read(source, &manifest)?;
        store.blobs().put(&bytes)?;
        let document = Document::<Manifest>::read(bytes).map_err(|error| TransferError::Document {
            place: source.shown(),
            file: manifest.digest.to_string(),
            source: error,
        })?;
        self.blob(store, &document.value().config)?;
        let image = Image::open(store, &manifest)?;
        Ok(Image { far: Some(self), ..image })
    }

    /// Returns the source of the blobs.
    pub fn source(&self) -> &dyn Source {
        &*self.0.source
    }

    /// Returns the repositories that are known to have the blob.
    pub fn seen(&self, blob: &Descriptor) -> Vec<Repository> {
        self.0.source.seen(blob)
    }

    /// Fetches those of `blobs` that are not in `store`.
    ///
    /// # Errors
    /// Returns an error if a blob cannot be fetched.
    pub fn blobs(&self, store: &Store, blobs: &[Descriptor]) -> Result<(), StoreError> {
        let missing = self.announced(store, blobs);
        each(&missing, AT_ONCE, &|blob| self.blob(store, blob).map_err(|error| unfetched(blob.digest, error)))
    }

    /// Returns `snapshot` with all its layers unpacked in `store`; missing blobs are fetched.
    ///
    /// # Errors
    /// Returns an error if a layer cannot be fetched or does not have its diff ID.
    pub(crate) fn unpack(&self, store: &Store, snapshot: &Snapshot) -> Result<Snapshot, StoreError> {
        let layers = store.layers();
        let is_far = |layer: &&Layer| layer.far.is_some() && !layers.has(&layer.id);
        let far = snapshot.layers.iter().filter(is_far).filter_map(|layer| Some(layer.origin.as_ref()?.blob.clone()));
        self.blobs(store, &far.collect::<Vec<_>>())?;
        let mut all: Vec<Layer> = Vec::new();
        let mut below: Vec<LayerId> = Vec::new();
        for layer in &snapshot.layers {
            let id = match &layer.origin {
                Some(Packed { diff_id, blob }) if layer.far.is_some() => match layers.unpacked(diff_id, &below)? {
                    Some(id) => id,
                    None => {
                        self.blob(store, blob).map_err(|error| unfetched(blob.digest, error))?;
                        layers.unpack(blob, diff_id, &below)?
                    }
                },
                Some(_) | None => layer.id.clone(),
            };
            below.push(id.clone());
            all.push(Layer { id, origin: layer.origin.clone(), far: None });
        }
        Ok(Snapshot { layers: all, made: snapshot.made.clone() })
    }

    fn announced(&self, store: &Store, blobs: &[Descriptor]) -> Vec<Descriptor> {
        let mut missing: Vec<Descriptor> = Vec::new();
        for blob in blobs {
            if !store.blobs().has(blob) && !missing.iter().any(|known| known.digest == blob.digest) {
                missing.push(blob.clone());
            }
        }
        if !missing.is_empty() {
            (self.0.tell)(Motion::Needs(missing.clone()));
        }
        missing
    }

    /// Fetches one blob, unless it is in the store. Concurrent fetches of the same blob wait for the first one.
    fn blob(&self, store: &Store, blob: &Descriptor) -> Result<(), TransferError> {
        if store.blobs().has(blob) {
            return Ok(());
        }
        let key = StepKey::of([&b"fetch"[..], blob.digest.hex().as_bytes()]);
        let _turn = store.lock_step(&key, &|| ())?;
        if store.blobs().has(blob) {
            return Ok(());
        }
        let tell = |motion| (self.0.tell)(motion);
        let how = Copying { which: Which::All, referrers: false, cancel: self.0.cancel.clone(), tell: &tell };
        let sink = StoreSink::new(store, Vec::new(), false);
        tell(arrive(blob, &*self.0.source, &sink, &how)?);
        Ok(())
    }
}

fn unfetched(digest: Digest, error: TransferError) -> StoreError {
    match error {
        TransferError::Store(error) => error,
        error => StoreError::Unfetched { digest, source: Box::new(error) },
    }
}
