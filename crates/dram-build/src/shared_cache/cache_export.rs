//! Exports the results of a build as a shared cache.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use dram_image::{Descriptor, Digest, Document, DocumentWriteError, Manifest, MediaType};
use dram_store::{LayerId, PackedTimes, Store, StoreError};

use super::cache_document::{
    CACHE_CONFIG_TYPE, CacheDocument, CachedLayer, CachedStep, INLINE_CACHE_ANNOTATION, OfferedLayer,
};
use super::{SharedCaches, StepRecord, step_layers};
use crate::compress_layer::LayerCompression;
use crate::transfer::{
    CopyOptions, ImageSelection, ImageSink, ImageSource, RegistryRepository, StoreSource, TransferError,
    TransferProgress, copy_image,
};
use crate::write_image::{in_format, pack_layer};
use crate::{BuildEvent, CancelToken, ImageFormat, ImageOptions, Layer, Snapshot};

/// The steps whose layers a cache contains. It has the cache records of all steps in either mode, so a build whose
/// steps are all cache hits does not need the other layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheMode {
    /// The layers of the result only.
    #[default]
    Min,
    /// The layers of all steps.
    Max,
}

/// The options of a cache that is exported.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheExportOptions {
    /// The steps whose layers it contains.
    pub mode: CacheMode,
    /// The compression of layers that are packed now.
    pub compression: LayerCompression,
    /// The media types of its manifest.
    pub format: ImageFormat,
    /// The time, in seconds since 1970, of all files in layers that are packed now, and of the steps. Without one, files
    /// have their own times, and steps those of their execution.
    pub time: Option<i64>,
}

/// A cache that was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedCache {
    /// The descriptor of its manifest.
    pub manifest: Descriptor,
    /// The number of its steps.
    pub steps: usize,
    /// The number of its layers.
    pub layers: usize,
    /// The size of the layers in bytes.
    pub size: u64,
}

impl SharedCaches<'_> {
    /// Exports the step results of the build that made `snapshot` to `sink`. `packed` is called when a layer is packed,
    /// `moved` with the progress of the transfer.
    ///
    /// # Errors
    /// Returns an error if a layer cannot be packed or fetched, or if the sink refuses it.
    pub fn export_cache(
        &self,
        store: &Store,
        snapshot: &Snapshot,
        form: &CacheExportOptions,
        sink: &dyn ImageSink,
        cancel: &CancelToken,
        (packed, moved): (&dyn Fn(BuildEvent), &(dyn Fn(TransferProgress) + Sync)),
    ) -> Result<ExportedCache, TransferError> {
        let left: Vec<StepRecord> = self.state().steps.values().cloned().collect();
        let wanted: Vec<&LayerId> = match form.mode {
            CacheMode::Min => step_layers(snapshot).collect(),
            CacheMode::Max => left.iter().filter_map(|left| left.layer.as_ref()).collect(),
        };
        let mut seen = BTreeSet::new();
        let wanted: Vec<&LayerId> = wanted.into_iter().filter(|id| seen.insert((*id).clone())).collect();
        let of = wanted.len();
        let (mut notes, mut blobs) = (Vec::new(), Vec::new());
        for (ready, id) in wanted.into_iter().enumerate() {
            if cancel.is_cancelled() {
                return Err(TransferError::Cancelled);
            }
            let Some(OfferedLayer { packed, times, compression: compress }) =
                self.offer_layer(store, id, form, &|| packed(BuildEvent::Packing { ready, total: of }))?
            else {
                continue;
            };
            let (at, diff_id, compression) = (blobs.len(), Some(packed.diff_id), compress.short_name());
            notes.push(CachedLayer { id: id.clone(), index: at, diff_id, time: times.fixed(), compression });
            blobs.push(in_format(packed.blob, form.format));
        }
        let steps = unique_steps(&left, form.time);
        let (known, layers, size) = (steps.len(), blobs.len(), blobs.iter().map(|blob| blob.size).sum());
        let document = Document::write(CacheDocument::new(steps, notes)).map_err(StoreError::from)?;
        let mut manifest = Manifest::new(document.descriptor(CACHE_CONFIG_TYPE), blobs);
        let manifest_type = match form.format {
            ImageFormat::Oci => MediaType::MANIFEST,
            ImageFormat::Docker => MediaType::DOCKER_MANIFEST,
        };
        manifest.media_type = Some(manifest_type.to_owned());
        let manifest = Document::write(manifest).map_err(StoreError::from)?;
        let root = manifest.descriptor(manifest_type);
        let documents = [(document.digest(), document.bytes().to_vec()), (root.digest, manifest.bytes().to_vec())];
        let source = CacheExportSource { shared: self, store, documents: BTreeMap::from(documents) };
        let how = CopyOptions { selection: ImageSelection::All, referrers: false, cancel: cancel.clone(), tell: moved };
        let manifest = copy_image(&root, &source, sink, &how)?;
        Ok(ExportedCache { manifest, steps: known, layers, size })
    }

    /// Returns the layer `id`: packed from the store, or as the shared cache has it that it was not fetched from yet.
    fn offer_layer(
        &self,
        store: &Store,
        id: &LayerId,
        form: &CacheExportOptions,
        packing: &dyn Fn(),
    ) -> Result<Option<OfferedLayer>, TransferError> {
        if !store.layers().has(id) {
            return Ok(self.caches.iter().find_map(|cache| cache.layers.get(id)).cloned());
        }
        let how = ImageOptions { time: form.time, compression: form.compression, ..ImageOptions::default() };
        let packed = pack_layer(store, &Layer::Local(id.clone()), &how, packing)?;
        Ok(Some(OfferedLayer { packed, times: PackedTimes::new(form.time), compression: form.compression }))
    }

    /// Returns the annotation that makes an image of `snapshot`, written with the options `how`, an inline cache of its
    /// own layers.
    ///
    /// # Errors
    /// Returns an error if it is larger than what is read.
    pub fn inline_annotation(
        &self,
        snapshot: &Snapshot,
        how: &ImageOptions,
    ) -> Result<(String, String), DocumentWriteError> {
        let left: Vec<StepRecord> = self.state().steps.values().cloned().collect();
        let mut seen = BTreeSet::new();
        let layers = snapshot.layers.iter().enumerate().filter_map(|(at, layer)| Some((at, layer.step_id()?)));
        let layers = layers.filter(|(_, id)| seen.insert((*id).clone())).map(|(at, id)| CachedLayer {
            id: id.clone(),
            index: at,
            diff_id: None,
            time: how.time,
            compression: how.compression.short_name(),
        });
        let document = Document::write(CacheDocument::new(unique_steps(&left, how.time), layers.collect()))?;
        Ok((INLINE_CACHE_ANNOTATION.to_owned(), String::from_utf8_lossy(document.bytes()).into_owned()))
    }
}

/// Returns each step once. With `time`, that is the time of all of them, so that the document does not depend on when they
/// were executed.
fn unique_steps(left: &[StepRecord], time: Option<i64>) -> Vec<CachedStep> {
    let mut seen = BTreeSet::new();
    let new = left.iter().filter(|left| seen.insert(left.keys.clone()));
    new.map(|left| CachedStep {
        keys: left.keys.clone(),
        layer: left.layer.clone(),
        executed_by: left.executed_by,
        executed: time.or(left.executed),
    })
    .collect()
}

/// The documents and layers of an exported cache, in the store or in other shared caches.
#[derive(Debug)]
struct CacheExportSource<'a> {
    shared: &'a SharedCaches<'a>,
    store: &'a Store,
    documents: BTreeMap<Digest, Vec<u8>>,
}

impl CacheExportSource<'_> {
    /// Returns the sources of the shared caches that have the layer `blob`.
    fn caches_with(&self, blob: &Descriptor) -> impl Iterator<Item = &dyn ImageSource> {
        let has = |cache: &&super::SharedCache<'_>| {
            cache.layers.values().any(|layer| layer.packed.blob.digest == blob.digest)
        };
        self.shared.caches.iter().filter(move |cache| has(cache)).map(|cache| &*cache.source as &dyn ImageSource)
    }
}

impl ImageSource for CacheExportSource<'_> {
    fn display_name(&self) -> String {
        "the build".to_owned()
    }

    fn read_document(&self, document: &Descriptor) -> Result<Vec<u8>, TransferError> {
        match self.documents.get(&document.digest) {
            Some(bytes) => Ok(bytes.clone()),
            None => Ok(self.store.blobs().read(document)?),
        }
    }

    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>, TransferError> {
        if let Some(bytes) = self.documents.get(&blob.digest) {
            return Ok(Box::new(bytes.as_slice()));
        }
        match self.caches_with(blob).next().filter(|_| !self.store.blobs().has(blob)) {
            Some(source) => source.open(blob),
            None => Ok(Box::new(self.store.blobs().open(blob)?)),
        }
    }

    fn known_repositories(&self, blob: &Descriptor) -> Vec<RegistryRepository> {
        let mut all = StoreSource::new(self.store).known_repositories(blob);
        self.caches_with(blob).for_each(|source| all.extend(source.known_repositories(blob)));
        all
    }

    fn record_repository(&self, blob: &Descriptor, at: &RegistryRepository) {
        StoreSource::new(self.store).record_repository(blob, at);
    }
}
