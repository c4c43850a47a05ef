//! Executes one step, or takes its result from the cache.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dram_dockerfile::{Copy, From, Op, Plan, SourceKind, Step};
use dram_store::{Record, Tree};

use crate::brought::{Brought, bring};
use crate::content::Content;
use crate::copy::{FromTree, Ground};
use crate::parts::Key;
use crate::select::{self, Place};
use crate::why::{End, Ledger, Outcome};
use crate::{BuildError, Context, Event, Layer, Options, Outside, Snapshot, StepAt, copy, key, workdir};

/// Everything that the steps of a build need. Shared by all threads.
pub(crate) struct World<'a> {
    pub(crate) options: &'a Options<'a>,
    pub(crate) plan: &'a Plan,
    pub(crate) outside: &'a BTreeMap<String, Outside>,
    pub(crate) ledger: &'a Ledger<'a>,
    /// The steps that were reported as finished. A build that starts again after a lost layer passes them a second
    /// time.
    pub(crate) told: Mutex<BTreeMap<StepAt, Told>>,
}

/// The result that was reported for a finished step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// A cache hit, in the store or in a shared cache.
    Remembered,
    /// The step was executed.
    Done,
}

impl World<'_> {
    /// Ensures that the layers of `snapshot` are in the store; layers that come from a shared cache may still be
    /// missing.
    pub(crate) fn here(&self, snapshot: &Snapshot, tell: &(dyn Fn(Event) + Sync)) -> Result<(), BuildError> {
        let Options { store, shared, cancel, .. } = self.options;
        shared.here(store, snapshot, cancel, tell)
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<StepAt, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The snapshots of finished stages, by stage index.
pub(crate) type Stages = BTreeMap<usize, Snapshot>;

/// Executes the step `at` on the snapshot `below`, or takes it from the cache. Returns the resulting snapshot.
pub(crate) fn step(
    world: &World<'_>,
    at: StepAt,
    below: Snapshot,
    stages: &Stages,
    tell: &(dyn Fn(Event) + Sync),
) -> Result<Snapshot, BuildError> {
    let step = &world.plan.stages[at.stage].steps[at.step];
    let store = world.options.store;
    let doing = Doing { world, at, step, tell };
    match &step.op {
        Op::Meta => Ok(below),
        Op::Run(run) => {
            let record = doing.command(run, &below, stages)?;
            Ok(on(below, record))
        }
        Op::Workdir(dir) => {
            let key = key::workdir(dir, &below);
            let record = doing.remembered(&[key], &below, &mut || workdir::workdir(store, &below, step, dir))?;
            Ok(on(below, record))
        }
        Op::Copy(copy) => {
            // The cache is searched before any layer is needed; only the names in `--link --chown` must be resolved in
            // the layers below first.
            if copy.link && copy.chown.is_some() {
                world.here(&below, tell)?;
            }
            let record = doing.copy(copy, &Ground::of(store, step, copy, &below)?, stages)?;
            Ok(on(below, record))
        }
    }
}

fn on(below: Snapshot, record: Record) -> Snapshot {
    below.with(record.layer.map(|id| Layer { id, origin: None, far: None }))
}

pub(crate) struct Doing<'a> {
    pub(crate) world: &'a World<'a>,
    pub(crate) at: StepAt,
    pub(crate) step: &'a Step,
    pub(crate) tell: &'a (dyn Fn(Event) + Sync),
}

impl Doing<'_> {
    /// Returns whether the step cache is used for this step.
    pub(crate) fn uses_memory(&self) -> bool {
        // A result that this build itself produced is used in any case.
        self.forced().is_none() || self.world.told().get(&self.at) == Some(&Told::Done)
    }

    /// Returns the option that turns the cache off for this step, if one does.
    fn forced(&self) -> Option<&'static str> {
        let options = self.world.options;
        let filtered = || options.forgotten.contains(&self.at.stage).then_some("--no-cache-filter");
        if options.use_memory { filtered() } else { Some("--no-cache") }
    }

    /// Returns the cache record of the first of `keys` that is a cache hit, and records it under the keys before it
    /// too.
    pub(crate) fn recalled(&self, keys: &[Arc<Key>]) -> Result<Option<Record>, BuildError> {
        let Options { store, shared, .. } = self.world.options;
        let memory = store.memory();
        for (at, key) in keys.iter().enumerate() {
            let Some(record) = memory.recall(&key.id) else { continue };
            for earlier in &keys[..at] {
                memory.remember(&earlier.id, &Record { by_content: Some(key.id), ..record.clone() })?;
            }
            shared.note(self.at, &keys[..=at], &record, self.is_command());
            self.found(&keys[..=at], &record, Outcome::Remembered, Event::Remembered(self.at));
            return Ok(Some(record));
        }
        let record = shared.recall(store, self.at, keys)?;
        if let Some(record) = &record {
            self.found(keys, record, Outcome::Shared, Event::Shared(self.at));
        }
        Ok(record)
    }

    /// Reports a cache hit for the step, the first time that it is found.
    fn found(&self, keys: &[Arc<Key>], record: &Record, outcome: Outcome, event: Event) {
        if let Entry::Vacant(new) = self.world.told().entry(self.at) {
            new.insert(Told::Remembered);
            self.world.ledger.remembered(self.at, keys, record, outcome);
            (self.tell)(event);
        }
    }

    fn is_command(&self) -> bool {
        matches!(self.step.op, Op::Run(_))
    }

    /// Returns the cache record for `keys`. On a cache miss, executes the step over `below` with `carry_out` and
    /// records the result under all keys.
    pub(crate) fn remembered(
        &self,
        keys: &[Arc<Key>],
        below: &Snapshot,
        carry_out: &mut dyn FnMut() -> Result<Option<PathBuf>, BuildError>,
    ) -> Result<Record, BuildError> {
        let store = self.world.options.store;
        if self.uses_memory()
            && let Some(record) = self.recalled(keys)?
        {
            return Ok(record);
        }
        let last = keys.last().expect("a step has a key");
        let waited = Cell::new(false);
        let _turn = store.lock_step(&last.id, &|| {
            waited.set(true);
            (self.tell)(Event::Waiting(self.at));
        })?;
        // Another process may have executed this step since the last search. If this one waited for its lock, the
        // result is so new that it is used even by a build with `--no-cache`.
        if (waited.get() || self.uses_memory())
            && let Some(record) = self.recalled(keys)?
        {
            return Ok(record);
        }
        if self.world.options.cancel.is_thrown() {
            return Err(BuildError::Cancelled);
        }
        self.world.here(below, self.tell)?;
        let why = self.world.ledger.started(self.at, keys, self.forced());
        (self.tell)(Event::Started(self.at, why));
        let done = self.carried_out(keys, carry_out);
        self.world.ledger.ended(
            self.at,
            &match &done {
                Ok(record) => End::Good(record),
                Err(BuildError::Cancelled) => End::Stopped,
                Err(_) => End::Bad,
            },
        );
        let record = done?;
        self.world.told().insert(self.at, Told::Done);
        (self.tell)(Event::Done(self.at));
        Ok(record)
    }

    /// Executes the step, commits the layer and records it under all of `keys`.
    fn carried_out(
        &self,
        keys: &[Arc<Key>],
        carry_out: &mut dyn FnMut() -> Result<Option<PathBuf>, BuildError>,
    ) -> Result<Record, BuildError> {
        let store = self.world.options.store;
        let layer = carry_out()?.map(|made| store.layers().commit(&made)).transpose()?;
        let (last, before) = keys.split_last().expect("a step has a key");
        let record = Record { layer, by_content: None };
        store.memory().remember(&last.id, &record)?;
        for key in before {
            store.memory().remember(&key.id, &Record { by_content: Some(last.id), ..record.clone() })?;
        }
        self.world.options.shared.note(self.at, keys, &record, self.is_command());
        Ok(record)
    }

    /// Executes a copy, or takes it from the cache. If it copies from a snapshot, the first cache key covers the
    /// identity of that snapshot; only on a miss is a key computed from the content of the sources. So a stage that was
    /// rebuilt with the same files causes no rebuild here.
    fn copy(&self, copy: &Copy, ground: &Ground, stages: &Stages) -> Result<Record, BuildError> {
        let store = self.world.options.store;
        let brought = bring(copy, self.world.options.remotes)?;
        let snapshot = match &copy.from {
            // A copy without paths does not read the build context.
            From::Context if !copy.sources.iter().any(|source| matches!(source.kind, SourceKind::Path)) => {
                Snapshot::default()
            }
            From::Context => return self.copy_files(copy, ground, self.world.options.context, &brought),
            From::Stage(stage) => stages.get(stage).expect("a step waits for the stages it needs").clone(),
            From::Scratch => Snapshot::default(),
            From::Named(name) => match self.world.outside.get(name) {
                Some(Outside::Image(image)) => {
                    image.snapshot(store, &|| (self.tell)(Event::Unpacking { image: name.clone() }))?
                }
                Some(Outside::Files(context)) => return self.copy_files(copy, ground, context, &brought),
                None => unreachable!("the plan names only what was found"),
            },
        };
        let fast = key::copy_from(copy, ground, &snapshot.identity(), &brought);
        if self.uses_memory()
            && let Some(record) = self.recalled(std::slice::from_ref(&fast))?
        {
            return Ok(record);
        }
        self.world.here(&snapshot, self.tell)?;
        let view = snapshot.root(store)?;
        let place = Place { name: self.place_name(&copy.from), hides: &|_| false };
        let from = FromTree { tree: &view, is_context: false, owners: true };
        self.copy_tree(copy, ground, (&from, &brought), &place, vec![fast])
    }

    fn copy_files(
        &self,
        copy: &Copy,
        ground: &Ground,
        context: &Context,
        brought: &[Option<Brought>],
    ) -> Result<Record, BuildError> {
        let store = self.world.options.store;
        let opened = context.open(store)?;
        let place = Place { name: self.place_name(&copy.from), hides: &|path| opened.hides(path) };
        let from = FromTree { tree: opened.tree(), is_context: true, owners: context.keeps_owners() };
        let done = self.copy_tree(copy, ground, (&from, brought), &place, Vec::new());
        opened.save(store);
        done
    }

    fn copy_tree(
        &self,
        copy: &Copy,
        ground: &Ground,
        (from, brought): (&FromTree<'_>, &[Option<Brought>]),
        place: &Place<'_>,
        mut keys: Vec<Arc<Key>>,
    ) -> Result<Record, BuildError> {
        let selected = select::select(from.tree as &dyn Tree, copy, place)?;
        if let Some(remark) = select::nothing(copy, &selected, place) {
            (self.tell)(Event::Remark(Box::new(remark)));
        }
        let content = Content::of(from.tree, &selected, from.owners)?;
        keys.push(key::copy(copy, ground, &content, brought));
        let store = self.world.options.store;
        self.remembered(&keys, &ground.below, &mut || {
            copy::copy((store, self.world.options.remotes), ground, self.step, copy, from, (&selected, brought))
        })
    }

    pub(crate) fn place_name(&self, from: &From) -> String {
        match from {
            From::Context => "the build context".to_owned(),
            From::Scratch => "an empty file system".to_owned(),
            From::Stage(stage) => format!("stage `{}`", self.world.plan.stages[*stage].name),
            From::Named(name) => format!("`{name}`"),
        }
    }
}
