//! Caches that are shared between machines: packed layers of steps, under the cache keys of these steps.
//!
//! At first only the cache document is read. On a cache hit the layer is not fetched yet: later steps build on its id,
//! and it is fetched when its files are needed. Nothing is trusted: see [`Layers::bring`](dram_store::Layers::bring). A
//! layer that cannot be fetched or is not the promised one turns the hit into a miss: the build starts again and
//! executes the step.

mod cache;
mod document;
mod give;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use dram_image::Descriptor;
use dram_store::{LayerId, Record, Store, StoreError, causes};

pub use self::cache::{Cache, CacheError};
use self::document::{Maker, Offered};
pub use self::give::{Form, Given, Mode};
use crate::parts::Key;
use crate::transfer::{Copying, Source, StoreSink, TransferError, Which, sent};
use crate::{BuildError, Cancel, Event, Snapshot, StepAt};

/// The number of layers that are fetched in parallel.
const AT_ONCE: usize = 4;

/// The shared caches of a build: those it reads, and the results it can export.
#[derive(Debug, Default)]
pub struct Shared<'a> {
    caches: Vec<Cache<'a>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The result of each step of the build.
    steps: BTreeMap<StepAt, Left>,
    /// Layers of cache hits that cannot be fetched.
    lost: BTreeSet<LayerId>,
    /// Indexes of caches that failed and are not used any more.
    gone: BTreeSet<usize>,
    remarks: Vec<String>,
}

/// The result of a step that was executed or a cache hit.
#[derive(Debug, Clone)]
struct Left {
    /// The cache keys; the last one covers the content of the step's files.
    keys: Vec<dram_store::StepKey>,
    layer: Option<LayerId>,
    by: Option<Maker>,
}

impl Left {
    /// Returns the cache records to write, with their keys.
    fn records(&self) -> impl Iterator<Item = (&dram_store::StepKey, Record)> {
        let last = self.keys.last().copied();
        self.keys.iter().map(move |key| {
            let by_content = last.filter(|last| last != key);
            (key, Record { layer: self.layer.clone(), by_content })
        })
    }
}

/// The reasons why a layer was not fetched from a cache.
enum Missed {
    /// The layer is missing or damaged.
    Layer(String),
    /// The cache does not answer.
    Cache(String),
    /// The build was cancelled.
    Cancelled,
}

impl<'a> Shared<'a> {
    /// Reads `caches` in this order; the first one that has a step is used.
    pub fn new(caches: Vec<Cache<'a>>) -> Shared<'a> {
        Shared { caches, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the warnings about the caches, after the build.
    pub fn remarks(&self) -> Vec<String> {
        self.state().remarks.clone()
    }

    /// Looks for the first of `keys` that is a cache hit in a shared cache. The result is recorded in the store if its
    /// layer is there already.
    pub(crate) fn recall(
        &self,
        store: &Store,
        at: StepAt,
        keys: &[std::sync::Arc<Key>],
    ) -> Result<Option<Record>, StoreError> {
        let Some(left) = self.known(store, keys) else { return Ok(None) };
        let record = Record { layer: left.layer.clone(), by_content: None };
        if record.layer.as_ref().is_none_or(|layer| store.layers().has(layer)) {
            remember(store, &left)?;
        }
        self.state().steps.insert(at, left);
        Ok(Some(record))
    }

    fn known(&self, store: &Store, keys: &[std::sync::Arc<Key>]) -> Option<Left> {
        let state = self.state();
        for (at, key) in keys.iter().enumerate() {
            for (number, cache) in self.caches.iter().enumerate() {
                let Some(note) = cache.step(&key.id) else { continue };
                let can_be_had = |layer: &LayerId| {
                    store.layers().has(layer) || !state.lost.contains(layer) && !state.gone.contains(&number)
                };
                if note.layer.as_ref().is_some_and(|layer| !can_be_had(layer)) {
                    continue;
                }
                // The result is known under the keys searched so far, and under its key by content if it was found by
                // another one.
                let mut all: Vec<_> = keys[..=at].iter().map(|key| key.id).collect();
                all.extend(note.keys.last().filter(|last| !all.contains(last)).copied());
                return Some(Left { keys: all, layer: note.layer.clone(), by: note.by });
            }
        }
        None
    }

    /// Records the result of a step that was a cache hit in the store or was executed, under `keys`.
    pub(crate) fn note(&self, at: StepAt, keys: &[std::sync::Arc<Key>], record: &Record, is_command: bool) {
        let mut all: Vec<_> = keys.iter().map(|key| key.id).collect();
        all.extend(record.by_content.filter(|key| !all.contains(key)));
        let by = is_command.then(Maker::this);
        let mut state = self.state();
        // For a result that was taken from a cache, the privilege is still that of the user who made it.
        let by = state.steps.get(&at).filter(|old| old.layer == record.layer).map_or(by, |old| old.by);
        state.steps.insert(at, Left { keys: all, layer: record.layer.clone(), by });
    }

    /// Ensures that every layer of `snapshot` that a step made is in `store`. Layers of images are not checked.
    ///
    /// # Errors
    /// Returns [`BuildError::CacheLost`] if a layer cannot be fetched; the step that made it is a cache miss from then
    /// on.
    pub(crate) fn here(
        &self,
        store: &Store,
        snapshot: &Snapshot,
        cancel: &Cancel,
        tell: &(dyn Fn(Event) + Sync),
    ) -> Result<(), BuildError> {
        let missing: Vec<&LayerId> = made(snapshot).filter(|id| !store.layers().has(id)).collect();
        let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            while let Some(id) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = self.fetch(store, id, cancel, tell) {
                    failures.lock().unwrap_or_else(PoisonError::into_inner).push(error);
                    next.store(missing.len(), Ordering::Relaxed);
                }
            }
        };
        match missing.len() {
            0 => {}
            1 => work(),
            many => thread::scope(|scope| {
                (0..many.min(AT_ONCE)).for_each(|_| drop(scope.spawn(work)));
            }),
        }
        let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    fn fetch(
        &self,
        store: &Store,
        id: &LayerId,
        cancel: &Cancel,
        tell: &(dyn Fn(Event) + Sync),
    ) -> Result<(), BuildError> {
        // Several stages may need the same layer at the same time.
        let _turn = store.lock_step(&dram_store::StepKey::of([&b"fetch"[..], id.as_str().as_bytes()]), &|| ())?;
        if store.layers().has(id) {
            return Ok(());
        }
        for (number, cache) in self.caches.iter().enumerate() {
            let Some(offered) = cache.layers.get(id).filter(|_| !self.state().gone.contains(&number)) else { continue };
            tell(Event::Fetching { from: cache.source.shown(), size: offered.packed.blob.size });
            match taken(store, &*cache.source, id, offered, cancel) {
                Ok(()) => {
                    let left: Vec<Left> =
                        self.state().steps.values().filter(|left| left.layer.as_ref() == Some(id)).cloned().collect();
                    return Ok(left.iter().try_for_each(|left| remember(store, left))?);
                }
                Err(Missed::Cancelled) => return Err(BuildError::Cancelled),
                Err(Missed::Layer(why)) => self.state().remarks.push(format!(
                    "a layer of the cache {} was not taken: {why}; its step is carried out",
                    cache.source.shown()
                )),
                Err(Missed::Cache(why)) => {
                    let mut state = self.state();
                    if state.gone.insert(number) {
                        let what = format!("the cache {} is not asked any more: {why}", cache.source.shown());
                        state.remarks.push(what);
                    }
                }
            }
        }
        self.state().lost.insert(id.clone());
        Err(BuildError::CacheLost { layer: id.clone() })
    }
}

/// Returns the layers of `snapshot` that steps made.
fn made(snapshot: &Snapshot) -> impl Iterator<Item = &LayerId> {
    snapshot.layers.iter().filter(|layer| layer.origin.is_none()).map(|layer| &layer.id).filter(|id| id.is_made())
}

fn remember(store: &Store, left: &Left) -> Result<(), StoreError> {
    left.records().try_for_each(|(key, record)| store.memory().remember(key, &record))
}

/// Fetches the layer `id` from `source` and unpacks it into `store`.
fn taken(store: &Store, source: &dyn Source, id: &LayerId, offered: &Offered, cancel: &Cancel) -> Result<(), Missed> {
    let Offered { packed, stamp, compress } = offered;
    let layers = store.layers();
    // The blob may be in the store already, and may be damaged.
    if !store.blobs().has(&packed.blob) || layers.bring(packed, id, *stamp).is_err() {
        download(store, source, &packed.blob, cancel)?;
        layers.bring(packed, id, *stamp).map_err(|error| Missed::Layer(causes(&error)))?;
    }
    let noted = layers.remember_packed(id, *stamp, &compress.kind(), packed);
    noted.and_then(|()| layers.remember_origin(&packed.diff_id, id)).map_err(|error| Missed::Layer(causes(&error)))
}

/// Fetches `blob` from `source` into `store`.
fn download(store: &Store, source: &dyn Source, blob: &Descriptor, cancel: &Cancel) -> Result<(), Missed> {
    let failed = |error: TransferError| match &error {
        TransferError::Cancelled => Missed::Cancelled,
        TransferError::Blob { .. } | TransferError::Document { .. } | TransferError::Store(_) => {
            Missed::Layer(causes(&error))
        }
        TransferError::Far { refused: true, .. } => Missed::Layer(causes(&error)),
        TransferError::Read { .. }
        | TransferError::Write { .. }
        | TransferError::NoImages(_)
        | TransferError::InTheWay(_)
        | TransferError::NoPlatform { .. }
        | TransferError::Form { .. }
        | TransferError::Far { .. } => Missed::Cache(causes(&error)),
    };
    let how = Copying { which: Which::All, referrers: false, cancel: cancel.clone(), tell: &|_| () };
    sent(blob, source, &StoreSink::new(store, Vec::new(), false), &how).map(drop).map_err(failed)
}
