//! Executes one step, or takes its result from the cache.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dram_plan::{CopyOp, CopySourceKind, InputRef, Plan, PlanStep, StepOp};
use dram_store::{CacheRecord, FileTree};

use crate::cache_key_parts::StepCacheKey;
use crate::content_digest::ContentDigest;
use crate::execute_copy::{CopyBase, SourceTree};
use crate::fetched_source::{FetchedSource, fetch_sources};
use crate::select_sources::{self, SearchedTree};
use crate::why::{BuildRecorder, StepEnd, StepOutcome};
use crate::{
    BuildContext, BuildError, BuildEvent, BuildOptions, Layer, ResolvedInput, Snapshot, StepPosition, cache_key,
    execute_copy, execute_workdir,
};

/// Everything that the steps of a build need. Shared by all threads.
pub(crate) struct SolveContext<'a> {
    pub(crate) options: &'a BuildOptions<'a>,
    pub(crate) plan: &'a Plan,
    pub(crate) inputs: &'a BTreeMap<String, ResolvedInput>,
    pub(crate) journal: &'a BuildRecorder<'a>,
    /// The steps that were reported as finished. A build that starts again after a lost layer passes them a second
    /// time.
    pub(crate) reported: Mutex<BTreeMap<StepPosition, ReportedResult>>,
}

/// The result that was reported for a finished step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReportedResult {
    /// A cache hit, in the store or in a shared cache.
    Cached,
    /// The step was executed.
    Executed,
}

impl SolveContext<'_> {
    /// Ensures that the layers of `snapshot` are in the store; layers that come from a shared cache may still be
    /// missing.
    pub(crate) fn ensure_layers(
        &self,
        snapshot: &Snapshot,
        tell: &(dyn Fn(BuildEvent) + Sync),
    ) -> Result<(), BuildError> {
        let BuildOptions { store, shared_caches: shared, cancel, .. } = self.options;
        shared.ensure_layers(store, snapshot, cancel, tell)
    }

    fn reported(&self) -> MutexGuard<'_, BTreeMap<StepPosition, ReportedResult>> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The snapshots of finished stages, by stage index.
pub(crate) type StageSnapshots = BTreeMap<usize, Snapshot>;

/// Executes the step `at` on the snapshot `below`, or takes it from the cache. Returns the resulting snapshot.
pub(crate) fn execute_step(
    world: &SolveContext<'_>,
    at: StepPosition,
    below: Snapshot,
    stages: &StageSnapshots,
    tell: &(dyn Fn(BuildEvent) + Sync),
) -> Result<Snapshot, BuildError> {
    let step = &world.plan.stages[at.stage].steps[at.step];
    let store = world.options.store;
    let doing = StepRunner { world, at, step, tell };
    match &step.op {
        StepOp::ConfigOnly => Ok(below),
        StepOp::Run(run) => {
            let record = doing.execute_run(run, &below, stages)?;
            Ok(with_record(below, record))
        }
        StepOp::Workdir(dir) => {
            let key = cache_key::workdir_key(dir, &below);
            let record = doing
                .cached_or_execute(&[key], &below, &mut || execute_workdir::make_workdir(store, &below, step, dir))?;
            Ok(with_record(below, record))
        }
        StepOp::Copy(copy) => {
            // The cache is searched before any layer is needed; only the names in `--link --chown` must be resolved in
            // the layers below first.
            if copy.link && copy.chown.is_some() {
                world.ensure_layers(&below, tell)?;
            }
            let record = doing.execute_copy(copy, &CopyBase::of(store, step, copy, &below)?, stages)?;
            Ok(with_record(below, record))
        }
    }
}

fn with_record(below: Snapshot, record: CacheRecord) -> Snapshot {
    below.with_step(record.layer.map(|id| Layer { id, origin: None, lazy: None }))
}

pub(crate) struct StepRunner<'a> {
    pub(crate) world: &'a SolveContext<'a>,
    pub(crate) at: StepPosition,
    pub(crate) step: &'a PlanStep,
    pub(crate) tell: &'a (dyn Fn(BuildEvent) + Sync),
}

impl StepRunner<'_> {
    /// Returns whether the step cache is used for this step.
    pub(crate) fn uses_cache(&self) -> bool {
        // A result that this build itself produced is used in any case.
        self.no_cache_option().is_none() || self.world.reported().get(&self.at) == Some(&ReportedResult::Executed)
    }

    /// Returns the option that turns the cache off for this step, if one does.
    fn no_cache_option(&self) -> Option<&'static str> {
        let options = self.world.options;
        let filtered = || options.no_cache_stages.contains(&self.at.stage).then_some("--no-cache-filter");
        if options.use_cache { filtered() } else { Some("--no-cache") }
    }

    /// Returns the cache record of the first of `keys` that is a cache hit, and records it under the keys before it
    /// too.
    pub(crate) fn lookup(&self, keys: &[Arc<StepCacheKey>]) -> Result<Option<CacheRecord>, BuildError> {
        let BuildOptions { store, shared_caches: shared, .. } = self.world.options;
        let memory = store.step_cache();
        for (at, key) in keys.iter().enumerate() {
            let Some(record) = memory.get(&key.id) else { continue };
            for earlier in &keys[..at] {
                memory.insert(&earlier.id, &CacheRecord { by_content: Some(key.id), ..record.clone() })?;
            }
            shared.record_step(self.at, &keys[..=at], &record, self.is_command());
            self.report_hit(&keys[..=at], &record, StepOutcome::Cached, BuildEvent::Cached(self.at));
            return Ok(Some(record));
        }
        let record = shared.lookup(store, self.at, keys)?;
        if let Some(record) = &record {
            self.report_hit(keys, record, StepOutcome::Shared, BuildEvent::SharedCacheHit(self.at));
        }
        Ok(record)
    }

    /// Reports a cache hit for the step, the first time that it is found.
    fn report_hit(&self, keys: &[Arc<StepCacheKey>], record: &CacheRecord, outcome: StepOutcome, event: BuildEvent) {
        if let Entry::Vacant(new) = self.world.reported().entry(self.at) {
            new.insert(ReportedResult::Cached);
            self.world.journal.record_hit(self.at, keys, record, outcome);
            (self.tell)(event);
        }
    }

    fn is_command(&self) -> bool {
        matches!(self.step.op, StepOp::Run(_))
    }

    /// Returns the cache record for `keys`. On a cache miss, executes the step over `below` with `carry_out` and
    /// records the result under all keys.
    pub(crate) fn cached_or_execute(
        &self,
        keys: &[Arc<StepCacheKey>],
        below: &Snapshot,
        carry_out: &mut dyn FnMut() -> Result<Option<PathBuf>, BuildError>,
    ) -> Result<CacheRecord, BuildError> {
        let store = self.world.options.store;
        if self.uses_cache()
            && let Some(record) = self.lookup(keys)?
        {
            return Ok(record);
        }
        let last = keys.last().expect("a step has a key");
        let waited = Cell::new(false);
        let _turn = store.lock_step(&last.id, &|| {
            waited.set(true);
            (self.tell)(BuildEvent::WaitingForStep(self.at));
        })?;
        // Another process may have executed this step since the last search. If this one waited for its lock, the
        // result is so new that it is used even by a build with `--no-cache`.
        if (waited.get() || self.uses_cache())
            && let Some(record) = self.lookup(keys)?
        {
            return Ok(record);
        }
        if self.world.options.cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        self.world.ensure_layers(below, self.tell)?;
        let why = self.world.journal.record_start(self.at, keys, self.no_cache_option());
        (self.tell)(BuildEvent::Started(self.at, why));
        let done = self.execute_and_record(keys, carry_out);
        self.world.journal.record_end(
            self.at,
            &match &done {
                Ok(record) => StepEnd::Succeeded(record),
                Err(BuildError::Cancelled) => StepEnd::Interrupted,
                Err(_) => StepEnd::Failed,
            },
        );
        let record = done?;
        self.world.reported().insert(self.at, ReportedResult::Executed);
        (self.tell)(BuildEvent::Executed(self.at));
        Ok(record)
    }

    /// Executes the step, commits the layer and records it under all of `keys`.
    fn execute_and_record(
        &self,
        keys: &[Arc<StepCacheKey>],
        carry_out: &mut dyn FnMut() -> Result<Option<PathBuf>, BuildError>,
    ) -> Result<CacheRecord, BuildError> {
        let store = self.world.options.store;
        let layer = carry_out()?.map(|made| store.layers().commit(&made)).transpose()?;
        let (last, before) = keys.split_last().expect("a step has a key");
        let record = CacheRecord { layer, by_content: None };
        store.step_cache().insert(&last.id, &record)?;
        for key in before {
            store.step_cache().insert(&key.id, &CacheRecord { by_content: Some(last.id), ..record.clone() })?;
        }
        self.world.options.shared_caches.record_step(self.at, keys, &record, self.is_command());
        Ok(record)
    }

    /// Executes a copy, or takes it from the cache. If it copies from a snapshot, the first cache key covers the
    /// identity of that snapshot; only on a miss is a key computed from the content of the sources. So a stage that was
    /// rebuilt with the same files causes no rebuild here.
    fn execute_copy(
        &self,
        copy: &CopyOp,
        ground: &CopyBase,
        stages: &StageSnapshots,
    ) -> Result<CacheRecord, BuildError> {
        let store = self.world.options.store;
        let brought = fetch_sources(self.step, copy, self.world.options.remotes)?;
        let snapshot = match &copy.from {
            // A copy without paths does not read the build context.
            InputRef::Context if !copy.sources.iter().any(|source| matches!(source.kind, CopySourceKind::Path)) => {
                Snapshot::default()
            }
            InputRef::Context => return self.copy_from_context(copy, ground, self.world.options.context, &brought),
            InputRef::Stage(stage) => stages.get(stage).expect("a step waits for the stages it needs").clone(),
            InputRef::Scratch => Snapshot::default(),
            InputRef::External(name) => match self.world.inputs.get(name) {
                Some(ResolvedInput::Image(image)) => {
                    image.snapshot(store, &|| (self.tell)(BuildEvent::Unpacking { image: name.clone() }))?
                }
                Some(ResolvedInput::Context(context)) => {
                    return self.copy_from_context(copy, ground, context, &brought);
                }
                None => unreachable!("the plan names only what was found"),
            },
        };
        let fast = cache_key::copy_key_by_snapshot(copy, ground, &snapshot.identity(), &brought);
        if self.uses_cache()
            && let Some(record) = self.lookup(std::slice::from_ref(&fast))?
        {
            return Ok(record);
        }
        self.world.ensure_layers(&snapshot, self.tell)?;
        let view = snapshot.view_with_root(store)?;
        let place = SearchedTree { name: self.source_name(&copy.from), is_ignored: &|_| false };
        let from = SourceTree { tree: &view, is_context: false, owners: true };
        self.copy_from_tree(copy, ground, (&from, &brought), &place, vec![fast])
    }

    fn copy_from_context(
        &self,
        copy: &CopyOp,
        ground: &CopyBase,
        context: &BuildContext,
        brought: &[Option<FetchedSource>],
    ) -> Result<CacheRecord, BuildError> {
        let store = self.world.options.store;
        let opened = context.open(store)?;
        let place = SearchedTree { name: self.source_name(&copy.from), is_ignored: &|path| opened.is_ignored(path) };
        let from = SourceTree { tree: opened.tree(), is_context: true, owners: context.keeps_owners() };
        let done = self.copy_from_tree(copy, ground, (&from, brought), &place, Vec::new());
        opened.save(store);
        done
    }

    fn copy_from_tree(
        &self,
        copy: &CopyOp,
        ground: &CopyBase,
        (from, brought): (&SourceTree<'_>, &[Option<FetchedSource>]),
        place: &SearchedTree<'_>,
        mut keys: Vec<Arc<StepCacheKey>>,
    ) -> Result<CacheRecord, BuildError> {
        let selected = select_sources::select_sources(from.tree as &dyn FileTree, (self.step, copy), place)?;
        if let Some(remark) = select_sources::no_match_warning((self.step, copy), &selected, place) {
            (self.tell)(BuildEvent::Remark(Box::new(remark)));
        }
        let content = ContentDigest::of(from.tree, &selected, from.owners)?;
        keys.push(cache_key::copy_key(copy, ground, &content, brought));
        let store = self.world.options.store;
        self.cached_or_execute(&keys, &ground.below, &mut || {
            execute_copy::write_copy(
                (store, self.world.options.remotes),
                ground,
                self.step,
                copy,
                from,
                (&selected, brought),
            )
        })
    }

    pub(crate) fn source_name(&self, from: &InputRef) -> String {
        match from {
            InputRef::Context => "the build context".to_owned(),
            InputRef::Scratch => "an empty file system".to_owned(),
            InputRef::Stage(stage) => format!("stage `{}`", self.world.plan.stages[*stage].name),
            InputRef::External(name) => format!("`{name}`"),
        }
    }
}
