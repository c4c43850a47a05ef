//! The store as source and sink of images.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::{Mutex, PoisonError};

use dram_image::{Descriptor, Digest, MediaType, Reference};
use dram_store::{ManifestContents, Store, StoreError};

use crate::Image;
use crate::transfer::copy_image::PARALLEL_BLOBS;
use crate::transfer::{ImageSink, ImageSource, IncomingBlob, LazyBlobs, RegistryRepository, TransferError};

/// The store as a source of images.
#[derive(Debug)]
pub struct StoreSource<'a> {
    store: &'a Store,
    /// The sources of blobs that are not in the store.
    lazy: BTreeMap<Digest, LazyBlobs>,
}

impl<'a> StoreSource<'a> {
    /// Makes a source of all images in `store`.
    pub fn new(store: &'a Store) -> StoreSource<'a> {
        StoreSource { store, lazy: BTreeMap::new() }
    }

    /// Makes a source of all images in `store`, with lazy blobs for those that it does not have.
    pub fn with_lazy_blobs(store: &'a Store, lazy: BTreeMap<Digest, LazyBlobs>) -> StoreSource<'a> {
        StoreSource { store, lazy }
    }
}

impl ImageSource for StoreSource<'_> {
    fn display_name(&self) -> String {
        "the store".to_owned()
    }

    fn read_document(&self, document: &Descriptor) -> Result<Vec<u8>, TransferError> {
        Ok(self.store.blobs().read(document)?)
    }

    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>, TransferError> {
        match self.store.blobs().open(blob) {
            Err(StoreError::MissingBlob { digest }) if self.lazy.contains_key(&digest) => {
                self.lazy[&digest].source().open(blob)
            }
            opened => Ok(Box::new(opened?)),
        }
    }

    fn damaged_blob(&self, digest: Digest, why: String) -> TransferError {
        // The same error as from a command that reads the store itself.
        TransferError::Store(StoreError::DamagedBlob { digest, why })
    }

    fn verifies_digest(&self) -> bool {
        // Blobs that are fetched on the way are not verified here.
        self.lazy.is_empty()
    }

    fn known_repositories(&self, blob: &Descriptor) -> Vec<RegistryRepository> {
        let all = self
            .store
            .blob_locations()
            .repositories(&blob.digest)
            .into_iter()
            .map(|(host, name)| RegistryRepository { host, name });
        let far = self.lazy.get(&blob.digest).map(|far| far.known_repositories(blob)).unwrap_or_default();
        all.chain(far).collect()
    }

    fn record_repository(&self, blob: &Descriptor, at: &RegistryRepository) {
        // A lost record only costs an upload.
        let _ = self.store.blob_locations().add(&blob.digest, &at.host, &at.name);
    }
}

/// The store as a sink of images.
#[derive(Debug)]
pub struct StoreSink<'a> {
    store: &'a Store,
    names: Vec<Reference>,
    /// True if new layers are verified.
    verifies_layers: bool,
    index: Option<Digest>,
    new_blobs: Mutex<BTreeSet<Digest>>,
}

impl<'a> StoreSink<'a> {
    /// Makes a sink that gives copied images `names` in `store`. With `checks`, every new layer is read once to verify
    /// that it has the diff ID in the config; otherwise that is verified when it is unpacked.
    pub fn new(store: &'a Store, names: Vec<Reference>, verifies_layers: bool) -> StoreSink<'a> {
        StoreSink { store, names, verifies_layers, index: None, new_blobs: Mutex::default() }
    }

    /// Sets the index that the image was selected from; references to that index resolve to the image from then on.
    #[must_use]
    pub fn selected_from(self, index: Option<Digest>) -> StoreSink<'a> {
        StoreSink { index, ..self }
    }

    /// Verifies that everything of the index arrived, and its images like single ones.
    fn verify_index(&self, root: &Descriptor) -> Result<(), TransferError> {
        let contents = self.store.root_contents(root);
        if let Some((_, error)) = contents.unreadable.into_iter().next() {
            return Err(error.into());
        }
        self.verify_new_layers(contents.manifests.iter().flat_map(ManifestContents::layers))
    }

    fn verify_new_layers<'b>(
        &self,
        all: impl Iterator<Item = (&'b Digest, &'b Descriptor)>,
    ) -> Result<(), TransferError> {
        let new = std::mem::take(&mut *self.new_blobs.lock().unwrap_or_else(PoisonError::into_inner));
        let layers = self.store.layers();
        let unknown =
            |(diff_id, blob): &(&Digest, &Descriptor)| self.verifies_layers && !layers.is_blob_verified(blob, diff_id);
        for (diff_id, blob) in all.filter(unknown) {
            // Verified now, so that a wrong layer is not found only by a later `FROM` of this image.
            let checked = layers.verify_blob(blob, diff_id);
            if checked.is_err() && new.contains(&blob.digest) {
                // Otherwise the next attempt would find the blob in the store and take it as verified.
                self.store.blobs().remove(&blob.digest);
            }
            layers.record_tar_size(diff_id, checked?)?;
        }
        Ok(())
    }
}

impl ImageSink for StoreSink<'_> {
    fn display_name(&self) -> String {
        "the store".to_owned()
    }

    fn parallel_blobs(&self) -> usize {
        PARALLEL_BLOBS
    }

    fn has(&self, blob: &Descriptor) -> Result<bool, TransferError> {
        Ok(self.store.blobs().is_intact(blob))
    }

    fn put_blob(&self, blob: &Descriptor, incoming: &IncomingBlob<'_>) -> Result<(), TransferError> {
        let mut writer = self.store.blobs().writer()?;
        let place = writer.path().to_owned();
        incoming.write_to(&mut writer, &place)?;
        match writer.commit_as(blob) {
            Err(StoreError::DamagedBlob { why, .. }) => Err(incoming.damaged_blob(why)),
            done => Ok(done?),
        }?;
        self.new_blobs.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.digest);
        Ok(())
    }

    fn verifies_digest(&self) -> bool {
        true
    }

    fn takes_images_only(&self) -> bool {
        true
    }

    fn put_document(&self, _: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        self.store.blobs().put(bytes)?;
        Ok(())
    }

    fn put_image(&self, root: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        self.store.blobs().put(bytes)?;
        match MediaType::is_index(&root.media_type) {
            true => self.verify_index(root)?,
            false => {
                self.verify_new_layers(Image::open(self.store, root)?.layers())?;
            }
        }
        if !self.names.is_empty() {
            let bare = Descriptor::new(&root.media_type, root.digest, root.size);
            self.store.refs().set_from(&self.names, &bare, self.index)?;
        }
        Ok(())
    }

    fn record_repository(&self, blob: &Descriptor, at: &RegistryRepository) {
        // A lost record only costs an upload.
        let _ = self.store.blob_locations().add(&blob.digest, &at.host, &at.name);
    }
}
