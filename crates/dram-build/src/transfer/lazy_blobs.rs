//! Lazy pulls: blobs that are fetched when they are needed.

use std::fmt;
use std::sync::Arc;

use dram_error::AnyReport;
use dram_image::{Descriptor, Digest, Document, ImagePlatform, Manifest};
use dram_store::{StepKey, Store, StoreError};

use crate::parallel::for_each_parallel;
use crate::transfer::copy_image::{PARALLEL_BLOBS, read_document, send_or_mount_blob};
use crate::transfer::{
    CopyOptions, ImageSelection, ImageSource, RegistryRepository, StoreSink, TransferError, TransferProgress,
    select_root,
};
use crate::{CancelToken, Image};

/// The source of an image's blobs that are not in the store.
#[derive(Clone)]
pub struct LazyBlobs(Arc<LazyBlobsInner>);

struct LazyBlobsInner {
    source: Box<dyn ImageSource>,
    cancel: CancelToken,
    tell: Box<dyn Fn(TransferProgress) + Send + Sync>,
}

impl fmt::Debug for LazyBlobs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("LazyBlobs").field(&self.0.source).finish()
    }
}

impl LazyBlobs {
    /// Makes lazy blobs of `source`, which are fetched until `cancel` is cancelled. `tell` is called with the progress,
    /// by several threads.
    pub fn new(
        source: Box<dyn ImageSource>,
        cancel: CancelToken,
        tell: Box<dyn Fn(TransferProgress) + Send + Sync>,
    ) -> LazyBlobs {
        LazyBlobs(Arc::new(LazyBlobsInner { source, cancel, tell }))
    }

    /// Opens the image at `root`, or the one for `platform` if `root` is an index. Its documents are fetched into
    /// `store` now, its layers when they are needed.
    ///
    /// # Errors
    /// Returns an error if a document cannot be fetched, or if there is no image for the platform.
    pub fn open_image(
        self,
        store: &Store,
        root: &Descriptor,
        platform: &ImagePlatform,
    ) -> Result<Image, TransferError> {
        let source = &*self.0.source;
        let manifest = select_root(root, source, &ImageSelection::Platform(platform.clone()))?;
        let manifest = Descriptor::new(&manifest.media_type, manifest.digest, manifest.size);
        let bytes = read_document(source, &manifest)?;
        store.blobs().put(&bytes)?;
        let document = Document::<Manifest>::read(bytes).map_err(|error| TransferError::Document {
            place: source.display_name(),
            file: manifest.digest.to_string(),
            source: error,
        })?;
        if let Some(obstacle) = document.value().obstacle() {
            return Err(TransferError::NotAnImage { place: source.display_name(), obstacle });
        }
        self.fetch_blob(store, &document.value().config)?;
        let image = Image::open(store, &manifest)?;
        Ok(Image { lazy: Some(self), ..image })
    }

    /// Returns the source of the blobs.
    pub fn source(&self) -> &dyn ImageSource {
        &*self.0.source
    }

    /// Returns the repositories that are known to have the blob.
    pub fn known_repositories(&self, blob: &Descriptor) -> Vec<RegistryRepository> {
        self.0.source.known_repositories(blob)
    }

    /// Fetches those of `blobs` that are not in `store`.
    ///
    /// # Errors
    /// Returns an error if a blob cannot be fetched.
    pub fn fetch_blobs(&self, store: &Store, blobs: &[Descriptor]) -> Result<(), StoreError> {
        let missing = self.announce_missing(store, blobs);
        for_each_parallel(&missing, PARALLEL_BLOBS, &|blob| self.fetch_one(store, blob))
    }

    /// Fetches `blob`, unless it is in `store`.
    pub(crate) fn fetch_one(&self, store: &Store, blob: &Descriptor) -> Result<(), StoreError> {
        self.fetch_blob(store, blob).map_err(|error| unfetched_error(blob.digest, error))
    }

    /// Returns whether both are one source.
    pub(crate) fn is_same(&self, other: &LazyBlobs) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn announce_missing(&self, store: &Store, blobs: &[Descriptor]) -> Vec<Descriptor> {
        let mut missing: Vec<Descriptor> = Vec::new();
        for blob in blobs {
            if !store.blobs().has(blob) && !missing.iter().any(|known| known.digest == blob.digest) {
                missing.push(blob.clone());
            }
        }
        if !missing.is_empty() {
            (self.0.tell)(TransferProgress::Planned(missing.clone()));
        }
        missing
    }

    /// Fetches one blob, unless it is in the store. Concurrent fetches of the same blob wait for the first one.
    fn fetch_blob(&self, store: &Store, blob: &Descriptor) -> Result<(), TransferError> {
        if store.blobs().has(blob) {
            return Ok(());
        }
        let key = StepKey::of([&b"fetch"[..], blob.digest.hex().as_bytes()]);
        let _turn = store.lock_step(&key, &|| ())?;
        if store.blobs().has(blob) {
            return Ok(());
        }
        let tell = |motion| (self.0.tell)(motion);
        let how = CopyOptions {
            selection: ImageSelection::All,
            referrers: false,
            cancel: self.0.cancel.clone(),
            tell: &tell,
        };
        let sink = StoreSink::new(store, Vec::new(), false);
        tell(send_or_mount_blob(blob, &*self.0.source, &sink, &how)?);
        Ok(())
    }
}

fn unfetched_error(digest: Digest, error: TransferError) -> StoreError {
    match error {
        TransferError::Store(error) => error,
        error @ (TransferError::Read { .. }
        | TransferError::Write { .. }
        | TransferError::NoImages(_)
        | TransferError::NotALayout(_)
        | TransferError::SkopeoDir(_)
        | TransferError::NotAnImage { .. }
        | TransferError::Document { .. }
        | TransferError::Blob { .. }
        | TransferError::NoPlatform { .. }
        | TransferError::UnsupportedContent { .. }
        | TransferError::Remote(_)
        | TransferError::Cancelled) => StoreError::FetchFailed { digest, source: AnyReport::new(error) },
    }
}
