//! Caches that are shared between machines: packed layers of steps, under the cache keys of these steps.
//!
//! At first only the cache document is read. On a cache hit the layer is not fetched yet: later steps build on its id,
//! and it is fetched when its files are needed. Nothing is trusted: it is verified by
//! [`import_verified`](dram_store::Layers::import_verified). A layer that cannot be fetched or is not the promised one
//! turns the hit into a miss: the stage goes back to that step and executes it.

mod cache_document;
mod cache_export;
mod cache_import;
#[cfg(test)]
mod shared_cache_tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dram_image::Descriptor;
use dram_store::{CacheRecord, LayerId, Store, StoreError, error_chain};

use self::cache_document::{BuilderPrivilege, OfferedLayer};
pub use self::cache_export::{CacheExportOptions, CacheMode, ExportedCache};
pub use self::cache_import::{SharedCache, SharedCacheError};
use crate::cache_key_parts::StepCacheKey;
use crate::transfer::{CopyOptions, ImageSelection, ImageSource, StoreSink, TransferError, send_blob};
use crate::{BuildEvent, CancelToken, Layer, LayerError, RemoteError, RemoteErrorKind, Snapshot, StepPosition};

/// The shared caches of a build: those it reads, and the results it can export.
#[derive(Debug, Default)]
pub struct SharedCaches<'a> {
    caches: Vec<SharedCache<'a>>,
    state: Mutex<SharedCachesState>,
}

#[derive(Debug, Default)]
struct SharedCachesState {
    /// The result of each step of the build.
    steps: BTreeMap<StepPosition, StepRecord>,
    /// Layers of cache hits that cannot be fetched.
    lost_layers: BTreeSet<LayerId>,
    /// Indexes of caches that failed and are not used any more.
    failed_caches: BTreeSet<usize>,
    /// Indexes of caches whose results have no times, and are not used for that reason.
    caches_without_times: BTreeSet<usize>,
    warnings: Vec<String>,
}

impl SharedCachesState {
    /// Warns once that the results of the cache with the index `number`, called `name`, are not used.
    fn warn_of_missing_times(&mut self, number: usize, name: &str) {
        if self.caches_without_times.insert(number) {
            self.warnings.push(format!(
                "the cache {name} is not used: an earlier version of dram wrote it, without times; with \
                 SOURCE_DATE_EPOCH it would be used, and this build can write it again"
            ));
        }
    }
}

/// The result of a step that was executed or a cache hit.
#[derive(Debug, Clone)]
struct StepRecord {
    /// The cache keys; the last one covers the content of the step's files.
    keys: Vec<dram_store::StepKey>,
    layer: Option<LayerId>,
    executed_by: Option<BuilderPrivilege>,
    /// The time at which it was executed.
    executed: Option<i64>,
}

impl StepRecord {
    /// Returns the cache records to write, with their keys.
    fn records(&self) -> impl Iterator<Item = (&dram_store::StepKey, CacheRecord)> {
        let last = self.keys.last().copied();
        self.keys.iter().map(move |key| {
            let by_content = last.filter(|last| last != key);
            (key, CacheRecord { layer: self.layer.clone(), by_content, executed: self.executed })
        })
    }
}

/// The reasons why a layer was not fetched from a cache.
enum LayerFetchError {
    /// The layer is missing or damaged.
    BadLayer(String),
    /// The cache does not answer.
    CacheUnreachable(String),
    /// The build was cancelled.
    Cancelled,
}

impl<'a> SharedCaches<'a> {
    /// Reads `caches` in this order; the first one that has a step is used.
    pub fn new(caches: Vec<SharedCache<'a>>) -> SharedCaches<'a> {
        SharedCaches { caches, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, SharedCachesState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the warnings about the caches, after the build.
    pub fn warnings(&self) -> Vec<String> {
        self.state().warnings.clone()
    }

    /// Looks for the first of `keys` that is a cache hit in a shared cache. The result is recorded in the store if its
    /// layer is there already. Results without a time, from caches of earlier versions, are used only with
    /// `has_fixed_time`: all times of such a cache are of 1970, or were requested.
    pub(crate) fn lookup(
        &self,
        store: &Store,
        at: StepPosition,
        keys: &[std::sync::Arc<StepCacheKey>],
        has_fixed_time: bool,
    ) -> Result<Option<CacheRecord>, StoreError> {
        let Some(left) = self.find_step(store, keys, has_fixed_time) else { return Ok(None) };
        let record = CacheRecord { layer: left.layer.clone(), by_content: None, executed: left.executed };
        if record.layer.as_ref().is_none_or(|layer| store.layers().has(layer)) {
            write_records(store, &left)?;
        }
        self.state().steps.insert(at, left);
        Ok(Some(record))
    }

    fn find_step(
        &self,
        store: &Store,
        keys: &[std::sync::Arc<StepCacheKey>],
        has_fixed_time: bool,
    ) -> Option<StepRecord> {
        let mut state = self.state();
        for (at, key) in keys.iter().enumerate() {
            for (number, cache) in self.caches.iter().enumerate() {
                let Some(note) = cache.find_step(&key.id) else { continue };
                if note.executed.is_none() && !has_fixed_time {
                    state.warn_of_missing_times(number, &cache.source.display_name());
                    continue;
                }
                let can_be_had = |layer: &LayerId| {
                    store.layers().has(layer)
                        || !state.lost_layers.contains(layer) && !state.failed_caches.contains(&number)
                };
                if note.layer.as_ref().is_some_and(|layer| !can_be_had(layer)) {
                    continue;
                }
                // The result is known under the keys searched so far, and under its key by content if it was found by
                // another one.
                let mut all: Vec<_> = keys[..=at].iter().map(|key| key.id).collect();
                all.extend(note.keys.last().filter(|last| !all.contains(last)).copied());
                return Some(StepRecord {
                    keys: all,
                    layer: note.layer.clone(),
                    executed_by: note.executed_by,
                    executed: note.executed,
                });
            }
        }
        None
    }

    /// Records the result of a step that was a cache hit in the store or was executed, under `keys`.
    pub(crate) fn record_step(
        &self,
        at: StepPosition,
        keys: &[std::sync::Arc<StepCacheKey>],
        record: &CacheRecord,
        is_command: bool,
    ) {
        let mut all: Vec<_> = keys.iter().map(|key| key.id).collect();
        all.extend(record.by_content.filter(|key| !all.contains(key)));
        let by = is_command.then(BuilderPrivilege::current);
        let mut state = self.state();
        // For a result that was taken from a cache, the privilege is still that of the user who made it.
        let by = state.steps.get(&at).filter(|old| old.layer == record.layer).map_or(by, |old| old.executed_by);
        let CacheRecord { layer, by_content: _, executed } = record.clone();
        state.steps.insert(at, StepRecord { keys: all, layer, executed_by: by, executed });
    }

    /// Returns the blob of the layer `id` in the first cache that has it.
    pub(crate) fn offered_blob(&self, id: &LayerId) -> Option<Descriptor> {
        self.caches.iter().find_map(|cache| cache.layers.get(id)).map(|offered| offered.packed.blob.clone())
    }

    /// Fetches the layer `id` into `store` and verifies it.
    ///
    /// # Errors
    /// Returns [`LayerError::Lost`] if it cannot be fetched; the step that made it is a cache miss from then on.
    pub(crate) fn fetch_layer(
        &self,
        store: &Store,
        id: &LayerId,
        cancel: &CancelToken,
        tell: &(dyn Fn(BuildEvent) + Sync),
    ) -> Result<(), LayerError> {
        // Several stages may need the same layer at the same time.
        let _turn = store.lock_step(&dram_store::StepKey::of([&b"fetch"[..], id.as_str().as_bytes()]), &|| ())?;
        if store.layers().has(id) {
            return Ok(());
        }
        if self.state().lost_layers.contains(id) {
            return Err(LayerError::Lost { layer: id.clone() });
        }
        for (number, cache) in self.caches.iter().enumerate() {
            let Some(offered) = cache.layers.get(id).filter(|_| !self.state().failed_caches.contains(&number)) else {
                continue;
            };
            tell(BuildEvent::Fetching { from: cache.source.display_name(), size: offered.packed.blob.size });
            match import_layer(store, &*cache.source, id, offered, cancel) {
                Ok(()) => {
                    let left: Vec<StepRecord> =
                        self.state().steps.values().filter(|left| left.layer.as_ref() == Some(id)).cloned().collect();
                    if let Some(executed) = left.iter().find_map(|left| left.executed) {
                        store.layers().record_made(id, executed)?;
                    }
                    return Ok(left.iter().try_for_each(|left| write_records(store, left))?);
                }
                Err(LayerFetchError::Cancelled) => return Err(LayerError::Cancelled),
                Err(LayerFetchError::BadLayer(why)) => self.state().warnings.push(format!(
                    "a layer of the cache {} is not used: {why}; its step is executed",
                    cache.source.display_name()
                )),
                Err(LayerFetchError::CacheUnreachable(why)) => {
                    let mut state = self.state();
                    if state.failed_caches.insert(number) {
                        let what = format!("the cache {} is not used any more: {why}", cache.source.display_name());
                        state.warnings.push(what);
                    }
                }
            }
        }
        self.state().lost_layers.insert(id.clone());
        Err(LayerError::Lost { layer: id.clone() })
    }
}

/// Returns the layers of `snapshot` that steps made.
fn step_layers(snapshot: &Snapshot) -> impl Iterator<Item = &LayerId> {
    snapshot.layers.iter().filter_map(Layer::step_id)
}

fn write_records(store: &Store, left: &StepRecord) -> Result<(), StoreError> {
    left.records().try_for_each(|(key, record)| store.step_cache().insert(key, &record))
}

/// Fetches the layer `id` from `source` and unpacks it into `store`.
fn import_layer(
    store: &Store,
    source: &dyn ImageSource,
    id: &LayerId,
    offered: &OfferedLayer,
    cancel: &CancelToken,
) -> Result<(), LayerFetchError> {
    let OfferedLayer { packed, times, compression: compress } = offered;
    let layers = store.layers();
    // The blob may be in the store already, and may be damaged.
    if !store.blobs().has(&packed.blob) || layers.import_verified(packed, id, *times).is_err() {
        download_blob(store, source, &packed.blob, cancel)?;
        layers.import_verified(packed, id, *times).map_err(|error| LayerFetchError::BadLayer(error_chain(&error)))?;
    }
    let noted = layers.record_packed(id, *times, &compress.short_name(), packed);
    noted
        .and_then(|()| layers.record_origin(&packed.diff_id, id))
        .map_err(|error| LayerFetchError::BadLayer(error_chain(&error)))
}

/// Fetches `blob` from `source` into `store`.
fn download_blob(
    store: &Store,
    source: &dyn ImageSource,
    blob: &Descriptor,
    cancel: &CancelToken,
) -> Result<(), LayerFetchError> {
    let failed = |error: TransferError| match &error {
        TransferError::Cancelled => LayerFetchError::Cancelled,
        TransferError::Blob { .. }
        | TransferError::Document { .. }
        | TransferError::Store(_)
        | TransferError::Remote(RemoteError { kind: RemoteErrorKind::Refused(_), .. }) => {
            LayerFetchError::BadLayer(error_chain(&error))
        }
        TransferError::Read { .. }
        | TransferError::Write { .. }
        | TransferError::NoImages(_)
        | TransferError::NotALayout(_)
        | TransferError::SkopeoDir(_)
        | TransferError::NotAnImage { .. }
        | TransferError::NoPlatform { .. }
        | TransferError::UnsupportedContent { .. }
        | TransferError::Remote(RemoteError { kind: RemoteErrorKind::Failed, .. }) => {
            LayerFetchError::CacheUnreachable(error_chain(&error))
        }
    };
    let how = CopyOptions { selection: ImageSelection::All, referrers: false, cancel: cancel.clone(), tell: &|_| () };
    send_blob(blob, source, &StoreSink::new(store, Vec::new(), false), &how).map(drop).map_err(failed)
}
