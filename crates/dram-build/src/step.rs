//! One step: recalled, or carried out and remembered.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use dram_dockerfile::{Copy, From, Op, Plan, SourceKind, Step};
use dram_image::TreePath;
use dram_store::{ContextDir, Record, Tree};

use crate::brought::{Brought, bring};
use crate::content::Content;
use crate::copy::{FromTree, Ground};
use crate::parts::Key;
use crate::select::{self, Place};
use crate::why::{End, Ledger};
use crate::{BuildError, Context, Event, Layer, Options, Outside, Snapshot, StepAt, copy, key, workdir};

/// Everything a step may need. Shared by all threads, changed by none.
pub(crate) struct World<'a> {
    pub(crate) options: &'a Options<'a>,
    pub(crate) plan: &'a Plan,
    pub(crate) outside: &'a BTreeMap<String, Outside>,
    pub(crate) ledger: &'a Ledger<'a>,
}

/// The snapshots of stages that are done.
pub(crate) type Stages = BTreeMap<usize, Snapshot>;

/// Carries the step `at` out over `below`, or recalls it. Returns what it leaves.
pub(crate) fn step(
    world: &World<'_>,
    at: StepAt,
    below: Snapshot,
    stages: &Stages,
    tell: &dyn Fn(Event),
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
            let record = doing.remembered(&[key], &mut || workdir::workdir(store, &below, step, dir))?;
            Ok(on(below, record))
        }
        Op::Copy(copy) => {
            let record = doing.copy(copy, &Ground::of(store, step, copy, &below)?, stages)?;
            Ok(on(below, record))
        }
    }
}

fn on(below: Snapshot, record: Record) -> Snapshot {
    below.with(record.layer.map(|id| Layer { id, origin: None }))
}

pub(crate) struct Doing<'a> {
    pub(crate) world: &'a World<'a>,
    pub(crate) at: StepAt,
    pub(crate) step: &'a Step,
    pub(crate) tell: &'a dyn Fn(Event),
}

impl Doing<'_> {
    /// Whether remembered steps count here.
    pub(crate) fn uses_memory(&self) -> bool {
        self.forced().is_none()
    }

    /// The option that wants everything here carried out.
    fn forced(&self) -> Option<&'static str> {
        let options = self.world.options;
        let filtered = || options.forgotten.contains(&self.at.stage).then_some("--no-cache-filter");
        if options.use_memory { filtered() } else { Some("--no-cache") }
    }

    /// What is remembered under the first of `keys` that is. It is then known under those before it too.
    pub(crate) fn recalled(&self, keys: &[Arc<Key>]) -> Result<Option<Record>, BuildError> {
        let memory = self.world.options.store.memory();
        for (at, key) in keys.iter().enumerate() {
            let Some(record) = memory.recall(&key.id) else { continue };
            for earlier in &keys[..at] {
                memory.remember(&earlier.id, &record)?;
            }
            self.world.ledger.remembered(self.at, &keys[..=at], &record);
            (self.tell)(Event::Remembered(self.at));
            return Ok(Some(record));
        }
        Ok(None)
    }

    /// What is recalled under `keys`, or what `carry_out` makes, then remembered under all.
    pub(crate) fn remembered(
        &self,
        keys: &[Arc<Key>],
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
        // Somebody may have done this step since it was looked for. Whoever was waited for has just done it: that
        // serves even a build that wants nothing remembered.
        if (waited.get() || self.uses_memory())
            && let Some(record) = self.recalled(keys)?
        {
            return Ok(record);
        }
        if self.world.options.cancel.is_thrown() {
            return Err(BuildError::Cancelled);
        }
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
        (self.tell)(Event::Done(self.at));
        Ok(record)
    }

    /// Makes the layer, and remembers it under all of `keys`.
    fn carried_out(
        &self,
        keys: &[Arc<Key>],
        carry_out: &mut dyn FnMut() -> Result<Option<PathBuf>, BuildError>,
    ) -> Result<Record, BuildError> {
        let store = self.world.options.store;
        let layer = carry_out()?.map(|made| store.layers().commit(&made)).transpose()?;
        self.remember(keys, layer)
    }

    /// From a snapshot, the key is first made of what the snapshot is; only when that is new is it made of what the
    /// sources hold, so that a stage that was rebuilt with the same files changes nothing.
    fn copy(&self, copy: &Copy, ground: &Ground, stages: &Stages) -> Result<Record, BuildError> {
        let store = self.world.options.store;
        let brought = bring(copy, self.world.options.remotes)?;
        let snapshot = match &copy.from {
            // What is not in the context needs no look at it.
            From::Context if !copy.sources.iter().any(|source| matches!(source.kind, SourceKind::Path)) => {
                Snapshot::default()
            }
            From::Context => return self.copy_dir(copy, ground, self.world.options.context, &brought),
            From::Stage(stage) => stages.get(stage).expect("a step waits for the stages it needs").clone(),
            From::Scratch => Snapshot::default(),
            From::Named(name) => match self.world.outside.get(name) {
                Some(Outside::Image(image)) => {
                    image.snapshot(store, &|| (self.tell)(Event::Unpacking { image: name.clone() }))?
                }
                Some(Outside::Dir(path)) => {
                    let context = Context::Dir { path: path.clone(), ignore: None };
                    return self.copy_dir(copy, ground, &context, &brought);
                }
                None => unreachable!("the plan names only what was found"),
            },
        };
        let fast = key::copy_from(copy, ground, &snapshot.identity(), &brought);
        if self.uses_memory()
            && let Some(record) = self.recalled(std::slice::from_ref(&fast))?
        {
            return Ok(record);
        }
        let view = snapshot.view(store.layers())?;
        let place = Place { name: self.place_name(&copy.from), hides: &|_| false };
        let from = FromTree { tree: &view, is_context: false };
        self.copy_tree(copy, ground, (&from, &brought), &place, vec![fast])
    }

    fn copy_dir(
        &self,
        copy: &Copy,
        ground: &Ground,
        context: &Context,
        brought: &[Option<Brought>],
    ) -> Result<Record, BuildError> {
        let store = self.world.options.store;
        let Context::Dir { path, ignore } = context;
        let tree = ContextDir::open(store, path, crate::options::verdicts(ignore.clone()))?;
        let hides =
            |path: &TreePath| matches!(tree.unfiltered().find(path, true), Ok(Some(node)) if tree.hides(&node.path));
        let place = Place { name: self.place_name(&copy.from), hides: &hides };
        let done =
            self.copy_tree(copy, ground, (&FromTree { tree: &tree, is_context: true }, brought), &place, Vec::new());
        tree.save(store);
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
        let content = Content::of(from.tree, &selected, !from.is_context)?;
        keys.push(key::copy(copy, ground, &content, brought));
        let store = self.world.options.store;
        self.remembered(&keys, &mut || {
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
