//! Executes one step, or takes its result from the cache.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dram_plan::{CopyOp, CopySourceKind, InputRef, Plan, PlanStep, StepOp};
use dram_store::{CacheRecord, FileTree, LayerId, SavedDigests};

use crate::cache_key_parts::StepCacheKey;
use crate::content_digest::ContentDigest;
use crate::execute_copy::{CopyBase, CopyRequest, SourceTree};
use crate::executor::{ExecuteEvent, ExecuteOp, ExecuteRequest, ExecutedStep, ResourceUsage};
use crate::fetched_source::{FetchedSource, fetch_sources};
use crate::layer_provider::RootedTree;
use crate::linked_dirs;
use crate::select_sources::{self, SearchedTree};
use crate::step_location::StepLocation;
use crate::why::{BuildRecorder, StepEnd, StepOutcome};
use crate::{BuildContext, BuildError, BuildEvent, BuildOptions, ResolvedInput, Snapshot, StepPosition, cache_key};

/// Everything that the steps of a build need. Shared by all threads.
pub(crate) struct SolveContext<'a> {
    pub(crate) options: &'a BuildOptions<'a>,
    pub(crate) plan: &'a Plan,
    pub(crate) inputs: &'a BTreeMap<String, ResolvedInput>,
    pub(crate) journal: &'a BuildRecorder<'a>,
    /// The steps that were reported as finished. A stage that goes back because of a lost layer passes them a second
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
    let doing = StepRunner { world, at, step, tell };
    let record = match &step.op {
        StepOp::ConfigOnly => return Ok(below),
        StepOp::Run(run) => doing.execute_run(run, &below, stages)?,
        StepOp::Workdir(dir) => {
            doing.cached_or_execute(&[cache_key::workdir_key(dir, &below)], &below, &ExecuteOp::Workdir(dir))?
        }
        StepOp::Copy(copy) => {
            let ground = CopyBase::of(world.options.layers, step, copy, &below)?;
            let record = doing.execute_copy(copy, &ground, stages)?;
            if copy.link {
                doing.warn_of_hidden_dirs(copy, &record, &below)?;
            }
            record
        }
    };
    let layer = record.layer.map(|id| world.options.layers.step_layer(id));
    Ok(below.with_step(layer, record.executed))
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

    /// Returns whether the digests of a context's files that earlier builds saved are used.
    pub(crate) fn saved_digests(&self) -> SavedDigests {
        if self.no_cache_option().is_none() { SavedDigests::Use } else { SavedDigests::Ignore }
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
        let (store, shared) = (self.world.options.store(), self.world.options.layers.caches());
        let memory = store.step_cache();
        for (at, key) in keys.iter().enumerate() {
            let Some(record) = memory.get(&key.id) else { continue };
            for earlier in &keys[..at] {
                memory.insert(&earlier.id, &CacheRecord { by_content: Some(key.id), ..record.clone() })?;
            }
            if let Some(shared) = shared {
                shared.record_step(self.at, &keys[..=at], &record, self.is_command());
            }
            self.report_hit(&keys[..=at], &record, StepOutcome::Cached, BuildEvent::Cached(self.at));
            return Ok(Some(record));
        }
        let Some(shared) = shared else { return Ok(None) };
        let record = shared.lookup(store, self.at, keys, self.world.options.time.is_some())?;
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

    /// Returns the cache record for `keys`. On a cache miss, executes `op` over `below` and records the result under all
    /// keys.
    pub(crate) fn cached_or_execute(
        &self,
        keys: &[Arc<StepCacheKey>],
        below: &Snapshot,
        op: &ExecuteOp<'_>,
    ) -> Result<CacheRecord, BuildError> {
        let store = self.world.options.store();
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
        let layers = self.world.options.layers.ensure(&below.layers)?;
        let why = self.world.journal.record_start(self.at, keys, self.no_cache_option());
        (self.tell)(BuildEvent::Started(self.at, why));
        let done = self.execute_and_record(keys, &layers, op);
        self.world.journal.record_end(
            self.at,
            &match &done {
                Ok((record, usage)) => StepEnd::Succeeded(record, *usage),
                Err(BuildError::Cancelled) => StepEnd::Interrupted,
                Err(_) => StepEnd::Failed,
            },
        );
        let (record, usage) = done?;
        self.world.reported().insert(self.at, ReportedResult::Executed);
        (self.tell)(BuildEvent::Executed(self.at, usage));
        Ok(record)
    }

    /// Executes `op` over `layers` and records the result under all of `keys`.
    fn execute_and_record(
        &self,
        keys: &[Arc<StepCacheKey>],
        layers: &[LayerId],
        op: &ExecuteOp<'_>,
    ) -> Result<(CacheRecord, ResourceUsage), BuildError> {
        let options = self.world.options;
        let (last, before) = keys.split_last().expect("a step has a key");
        let now = options.time.map_or_else(options.wall_clock, |time| (time, 0));
        let request = ExecuteRequest { step: self.step, key: last.id, layers, now, op, cancel: &options.cancel };
        let tell = |event: ExecuteEvent<'_>| {
            (self.tell)(match event {
                ExecuteEvent::Log(line) => BuildEvent::Log(self.at, line.to_vec()),
                ExecuteEvent::WaitingForCache(id) => BuildEvent::WaitingForCache(self.at, id.to_owned()),
                ExecuteEvent::Remark(text, help) => {
                    BuildEvent::Remark(Box::new(StepLocation::of(self.step).warning(text).help(help)))
                }
            });
        };
        let ExecutedStep { layer, usage } = options.executor.execute(&request, &tell)?;
        // The clock is read when the step has ended: its files are not younger.
        let ended = (options.wall_clock)().0;
        let executed = Some(match &layer {
            Some(id) => options.store().layers().record_made(id, ended)?,
            None => ended,
        });
        let record = CacheRecord { layer, by_content: None, executed };
        let memory = options.store().step_cache();
        memory.insert(&last.id, &record)?;
        for key in before {
            memory.insert(&key.id, &CacheRecord { by_content: Some(last.id), ..record.clone() })?;
        }
        if let Some(shared) = options.layers.caches() {
            shared.record_step(self.at, keys, &record, self.is_command());
        }
        Ok((record, usage))
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
                Some(ResolvedInput::Image(image)) => image.snapshot(),
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
        let provider = self.world.options.layers;
        let view = RootedTree::open(provider.store(), &provider.ensure(&snapshot.layers)?)?;
        let place = SearchedTree { name: self.source_name(&copy.from), is_context: false, is_ignored: &|_| false };
        let from = SourceTree { tree: &view.tree, is_context: false, owners: true };
        self.copy_from_tree(copy, ground, (&from, &brought), &place, vec![fast])
    }

    fn copy_from_context(
        &self,
        copy: &CopyOp,
        ground: &CopyBase,
        context: &BuildContext,
        brought: &[Option<FetchedSource>],
    ) -> Result<CacheRecord, BuildError> {
        let store = self.world.options.store();
        let opened = context.open(store, self.saved_digests())?;
        let place = SearchedTree {
            name: self.source_name(&copy.from),
            is_context: true,
            is_ignored: &|path| opened.is_ignored(path),
        };
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
        for remark in select_sources::left_out_warnings(self.step, &content.left_out, place, from.is_context) {
            (self.tell)(BuildEvent::Remark(Box::new(remark)));
        }
        keys.push(cache_key::copy_key(copy, ground, &content, brought));
        let (owner, remotes) = (ground.owner, self.world.options.remotes);
        let request = CopyRequest { copy, owner, from, selected: &selected, fetched: brought, remotes };
        self.cached_or_execute(&keys, &ground.below, &ExecuteOp::Copy(request))
    }

    /// Warns of directories of the layers below that a copy with `--link` hides. Nothing is fetched or unpacked for it:
    /// without the layers in the store there is no warning.
    fn warn_of_hidden_dirs(&self, copy: &CopyOp, record: &CacheRecord, below: &Snapshot) -> Result<(), BuildError> {
        let (provider, layers) = (self.world.options.layers, self.world.options.store().layers());
        let Some(made) = record.layer.as_ref().filter(|made| layers.has(made)) else { return Ok(()) };
        let Some(below) = provider.find_stored(&below.layers)? else { return Ok(()) };
        let (made, below) = (layers.view(std::slice::from_ref(made))?, layers.view(&below)?);
        if let Some(remark) = linked_dirs::hidden_dirs_warning((self.step, copy), &made, &below)? {
            (self.tell)(BuildEvent::Remark(Box::new(remark)));
        }
        Ok(())
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
