//! Exports the results of a build as a shared cache.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use dram_image::{Descriptor, Digest, Document, Manifest, MediaType};
use dram_store::{LayerId, Stamp, Store};

use super::document::{ANNOTATION, CACHE, CacheDocument, LayerNote, Offered, StepNote};
use super::{Left, Shared, made};
use crate::packing::Compress;
use crate::seal::{in_dialect, pack};
use crate::transfer::{Copying, Motion, Repository, Sink, Source, StoreSource, TransferError, Which, copy};
use crate::{Cancel, Dialect, Event, Layer, Sealing, Snapshot};

/// The steps whose layers a cache contains. It has the cache records of all steps in either mode, so a build whose
/// steps are all cache hits does not need the other layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The layers of the result only.
    #[default]
    Min,
    /// The layers of all steps.
    Max,
}

/// The options of a cache that is exported.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Form {
    /// The steps whose layers it contains.
    pub mode: Mode,
    /// The compression of layers that are packed now.
    pub compress: Compress,
    /// The media types of its manifest.
    pub dialect: Dialect,
    /// The time, in seconds since 1970, of files in layers that are packed now.
    pub time: i64,
}

/// A cache that was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The descriptor of its manifest.
    pub manifest: Descriptor,
    /// The number of its steps.
    pub steps: usize,
    /// The number of its layers.
    pub layers: usize,
    /// The size of the layers in bytes.
    pub size: u64,
}

impl Shared<'_> {
    /// Exports the step results of the build that made `snapshot` to `sink`. `packed` is called when a layer is packed,
    /// `moved` with the progress of the transfer.
    ///
    /// # Errors
    /// Returns an error if a layer cannot be packed or fetched, or if the sink refuses it.
    pub fn give(
        &self,
        store: &Store,
        snapshot: &Snapshot,
        form: &Form,
        sink: &dyn Sink,
        cancel: &Cancel,
        (packed, moved): (&dyn Fn(Event), &(dyn Fn(Motion) + Sync)),
    ) -> Result<Given, TransferError> {
        let left: Vec<Left> = self.state().steps.values().cloned().collect();
        let wanted: Vec<&LayerId> = match form.mode {
            Mode::Min => made(snapshot).collect(),
            Mode::Max => left.iter().filter_map(|left| left.layer.as_ref()).collect(),
        };
        let mut seen = BTreeSet::new();
        let wanted: Vec<&LayerId> = wanted.into_iter().filter(|id| seen.insert((*id).clone())).collect();
        let of = wanted.len();
        let (mut notes, mut blobs) = (Vec::new(), Vec::new());
        for (ready, id) in wanted.into_iter().enumerate() {
            if cancel.is_thrown() {
                return Err(TransferError::Cancelled);
            }
            let Some(Offered { packed, stamp, compress }) =
                self.offered(store, id, form, &|| packed(Event::Packing { ready, of }))?
            else {
                continue;
            };
            let (at, diff_id, compression) = (blobs.len(), Some(packed.diff_id), compress.kind());
            notes.push(LayerNote { id: id.clone(), at, diff_id, time: stamp.0, compression });
            blobs.push(in_dialect(packed.blob, form.dialect));
        }
        let steps = steps(&left);
        let (known, layers, size) = (steps.len(), blobs.len(), blobs.iter().map(|blob| blob.size).sum());
        let document = Document::write(CacheDocument::new(steps, notes));
        let mut manifest = Manifest::new(document.descriptor(CACHE), blobs);
        let manifest_type = match form.dialect {
            Dialect::Oci => MediaType::MANIFEST,
            Dialect::Docker => MediaType::DOCKER_MANIFEST,
        };
        manifest.media_type = Some(manifest_type.to_owned());
        let manifest = Document::write(manifest);
        let root = manifest.descriptor(manifest_type);
        let documents = [(document.digest(), document.bytes().to_vec()), (root.digest, manifest.bytes().to_vec())];
        let source = Parts { shared: self, store, documents: BTreeMap::from(documents) };
        let how = Copying { which: Which::All, referrers: false, cancel: cancel.clone(), tell: moved };
        let manifest = copy(&root, &source, sink, &how)?;
        Ok(Given { manifest, steps: known, layers, size })
    }

    /// Returns the layer `id`: packed from the store, or as the shared cache has it that it was not fetched from yet.
    fn offered(
        &self,
        store: &Store,
        id: &LayerId,
        form: &Form,
        packing: &dyn Fn(),
    ) -> Result<Option<Offered>, TransferError> {
        if !store.layers().has(id) {
            return Ok(self.caches.iter().find_map(|cache| cache.layers.get(id)).cloned());
        }
        let how = Sealing { time: form.time, compress: form.compress, ..Sealing::default() };
        let packed = pack(store, &Layer { id: id.clone(), origin: None, far: None }, &how, packing)?;
        Ok(Some(Offered { packed, stamp: Stamp(form.time), compress: form.compress }))
    }

    /// Returns the annotation that makes an image of `snapshot`, written with the options `how`, an inline cache of its
    /// own layers.
    pub fn inline(&self, snapshot: &Snapshot, how: &Sealing) -> (String, String) {
        let left: Vec<Left> = self.state().steps.values().cloned().collect();
        let mut seen = BTreeSet::new();
        let layers = snapshot.layers.iter().enumerate().filter(|(_, layer)| layer.id.is_made());
        let layers = layers.filter(|(_, layer)| seen.insert(layer.id.clone())).map(|(at, layer)| LayerNote {
            id: layer.id.clone(),
            at,
            diff_id: None,
            time: how.time,
            compression: how.compress.kind(),
        });
        let document = Document::write(CacheDocument::new(steps(&left), layers.collect()));
        (ANNOTATION.to_owned(), String::from_utf8_lossy(document.bytes()).into_owned())
    }
}

/// Returns each step once.
fn steps(left: &[Left]) -> Vec<StepNote> {
    let mut seen = BTreeSet::new();
    let new = left.iter().filter(|left| seen.insert(left.keys.clone()));
    new.map(|left| StepNote { keys: left.keys.clone(), layer: left.layer.clone(), by: left.by }).collect()
}

/// The documents and layers of an exported cache, in the store or in other shared caches.
#[derive(Debug)]
struct Parts<'a> {
    shared: &'a Shared<'a>,
    store: &'a Store,
    documents: BTreeMap<Digest, Vec<u8>>,
}

impl Parts<'_> {
    /// Returns the sources of the shared caches that have the layer `blob`.
    fn caches(&self, blob: &Descriptor) -> impl Iterator<Item = &dyn Source> {
        let has =
            |cache: &&super::Cache<'_>| cache.layers.values().any(|layer| layer.packed.blob.digest == blob.digest);
        self.shared.caches.iter().filter(move |cache| has(cache)).map(|cache| &*cache.source as &dyn Source)
    }
}

impl Source for Parts<'_> {
    fn shown(&self) -> String {
        "the build".to_owned()
    }

    fn document(&self, document: &Descriptor) -> Result<Vec<u8>, TransferError> {
        match self.documents.get(&document.digest) {
            Some(bytes) => Ok(bytes.clone()),
            None => Ok(self.store.blobs().read(document)?),
        }
    }

    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>, TransferError> {
        if let Some(bytes) = self.documents.get(&blob.digest) {
            return Ok(Box::new(bytes.as_slice()));
        }
        match self.caches(blob).next().filter(|_| !self.store.blobs().has(blob)) {
            Some(source) => source.open(blob),
            None => Ok(Box::new(self.store.blobs().open(blob)?)),
        }
    }

    fn seen(&self, blob: &Descriptor) -> Vec<Repository> {
        let mut all = StoreSource::new(self.store).seen(blob);
        self.caches(blob).for_each(|source| all.extend(source.seen(blob)));
        all
    }

    fn note(&self, blob: &Descriptor, at: &Repository) {
        StoreSource::new(self.store).note(blob, at);
    }
}
