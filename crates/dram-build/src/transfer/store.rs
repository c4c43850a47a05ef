//! The store as source and sink of images.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::{Mutex, PoisonError};

use dram_image::{Descriptor, Digest, MediaType, Reference};
use dram_store::{Store, StoreError};

use crate::Image;
use crate::transfer::copy::AT_ONCE;
use crate::transfer::{Far, Incoming, Repository, Sink, Source, TransferError};

/// The store as a source of images.
#[derive(Debug)]
pub struct StoreSource<'a> {
    store: &'a Store,
    /// The sources of blobs that are not in the store.
    far: BTreeMap<Digest, Far>,
}

impl<'a> StoreSource<'a> {
    /// Makes a source of all images in `store`.
    pub fn new(store: &'a Store) -> StoreSource<'a> {
        StoreSource { store, far: BTreeMap::new() }
    }

    /// Makes a source of all images in `store`, with lazy blobs for those that it does not have.
    pub fn with(store: &'a Store, far: BTreeMap<Digest, Far>) -> StoreSource<'a> {
        StoreSource { store, far }
    }
}

impl Source for StoreSource<'_> {
    fn shown(&self) -> String {
        "the store".to_owned()
    }

    fn document(&self, document: &Descriptor) -> Result<Vec<u8>, TransferError> {
        Ok(self.store.blobs().read(document)?)
    }

    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>, TransferError> {
        match self.store.blobs().open(blob) {
            Err(StoreError::MissingBlob { digest }) if self.far.contains_key(&digest) => {
                self.far[&digest].source().open(blob)
            }
            opened => Ok(Box::new(opened?)),
        }
    }

    fn proves(&self) -> bool {
        // Blobs that are fetched on the way are not verified here.
        self.far.is_empty()
    }

    fn seen(&self, blob: &Descriptor) -> Vec<Repository> {
        let all = self.store.seen().of(&blob.digest).into_iter().map(|(host, name)| Repository { host, name });
        let far = self.far.get(&blob.digest).map(|far| far.seen(blob)).unwrap_or_default();
        all.chain(far).collect()
    }

    fn note(&self, blob: &Descriptor, at: &Repository) {
        // A lost record only costs an upload.
        let _ = self.store.seen().add(&blob.digest, &at.host, &at.name);
    }
}

/// The store as a sink of images.
#[derive(Debug)]
pub struct StoreSink<'a> {
    store: &'a Store,
    names: Vec<Reference>,
    /// True if new layers are verified.
    checks: bool,
    index: Option<Digest>,
    new: Mutex<BTreeSet<Digest>>,
}

impl<'a> StoreSink<'a> {
    /// Makes a sink that gives copied images `names` in `store`. With `checks`, every new layer is read once to verify
    /// that it has the diff ID in the config; otherwise that is verified when it is unpacked.
    pub fn new(store: &'a Store, names: Vec<Reference>, checks: bool) -> StoreSink<'a> {
        StoreSink { store, names, checks, index: None, new: Mutex::default() }
    }

    /// Sets the index that the image was selected from; references to that index resolve to the image from then on.
    #[must_use]
    pub fn picked_from(self, index: Option<Digest>) -> StoreSink<'a> {
        StoreSink { index, ..self }
    }

    fn checked(&self, image: &Image) -> Result<(), TransferError> {
        let new = std::mem::take(&mut *self.new.lock().unwrap_or_else(PoisonError::into_inner));
        let layers = self.store.layers();
        let unknown = |(diff_id, blob): &(&Digest, &Descriptor)| self.checks && !layers.is_checked(blob, diff_id);
        for (diff_id, blob) in image.layers().filter(unknown) {
            // Verified now, so that a wrong layer is not found only by a later `FROM` of this image.
            let checked = layers.check(blob, diff_id);
            if checked.is_err() && new.contains(&blob.digest) {
                // Otherwise the next attempt would find the blob in the store and take it as verified.
                self.store.blobs().remove(&blob.digest);
            }
            layers.remember_size(diff_id, checked?)?;
        }
        Ok(())
    }
}

impl Sink for StoreSink<'_> {
    fn shown(&self) -> String {
        "the store".to_owned()
    }

    fn at_once(&self) -> usize {
        AT_ONCE
    }

    fn has(&self, blob: &Descriptor) -> Result<bool, TransferError> {
        Ok(self.store.blobs().is_whole(blob))
    }

    fn blob(&self, blob: &Descriptor, incoming: &Incoming<'_>) -> Result<(), TransferError> {
        let mut writer = self.store.blobs().writer()?;
        let place = writer.path().to_owned();
        incoming.write_to(&mut writer, &place)?;
        match writer.commit_as(blob) {
            Err(StoreError::DamagedBlob { digest, why }) => {
                Err(TransferError::Blob { place: incoming.place(), digest, why })
            }
            done => Ok(done?),
        }?;
        self.new.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.digest);
        Ok(())
    }

    fn proves(&self) -> bool {
        true
    }

    fn document(&self, _: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        self.store.blobs().put(bytes)?;
        Ok(())
    }

    fn finish(&self, root: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        if MediaType::is_index(&root.media_type) {
            return Err(TransferError::Form { place: self.shown(), what: "images for several platforms" });
        }
        self.store.blobs().put(bytes)?;
        self.checked(&Image::open(self.store, root)?)?;
        if !self.names.is_empty() {
            let bare = Descriptor::new(&root.media_type, root.digest, root.size);
            self.store.refs().set_from(&self.names, &bare, self.index)?;
        }
        Ok(())
    }

    fn note(&self, blob: &Descriptor, at: &Repository) {
        // A lost record only costs an upload.
        let _ = self.store.seen().add(&blob.digest, &at.host, &at.name);
    }
}
