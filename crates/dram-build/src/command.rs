//! Executes a `RUN` step. The files of its mounts are resolved first, because they are part of the cache key.

use dram_dockerfile::{From, Mount, Run};
use dram_store::{Record, StepKey};

use crate::key::{self, Around, Input};
use crate::run::sources::{self, Origin, Picked};
use crate::run::{self, Command};
use crate::step::{Doing, Stages};
use crate::{BuildError, Event, Outside, Snapshot};

impl Doing<'_> {
    /// Executes a `RUN`, or takes it from the cache. As for a copy, the cache is searched twice if the mounts read
    /// stages or images: first by the identity of those snapshots, without opening a file; on a miss, by the content of
    /// the files.
    pub(crate) fn command(&self, run: &Run, below: &Snapshot, stages: &Stages) -> Result<Record, BuildError> {
        let options = self.world.options;
        let around = Around { network: run::network(run, options.network), given: &options.given };
        let origins = run.mounts.iter().map(|mount| self.origin(mount, stages)).collect::<Result<Vec<_>, _>>()?;
        let mut keys = Vec::new();
        if let Some(inputs) = by_snapshots(&run.mounts, &origins) {
            let fast = key::run(run, below, &around, &inputs);
            if self.uses_memory()
                && let Some(record) = self.recalled(std::slice::from_ref(&fast))?
            {
                return Ok(record);
            }
            keys.push(fast);
        }
        let mut origins = origins;
        for origin in origins.iter_mut().flatten() {
            match origin {
                Origin::Snapshot(snapshot) => {
                    self.world.here(snapshot, self.tell)?;
                    *snapshot = snapshot.bring(options.store)?.into_owned();
                }
                Origin::Context(_) => {}
            }
        }
        let picked = self.pick(run, origins)?;
        let content = picked.iter().map(|picked| picked.as_ref().map(|picked| &picked.content));
        let inputs: Vec<Input<'_>> = content.map(|content| content.map_or(Input::Nothing, Input::Content)).collect();
        keys.push(key::run(run, below, &around, &inputs));
        let key = keys.last().expect("pushed above").id;
        let (at, step, tell) = (self.at, self.step, self.tell);
        let record = self.remembered(&keys, below, &mut || {
            let below = &*below.bring(options.store)?;
            Command { options, at, step, run, below, picked: &picked, key, tell }.carry_out()
        })?;
        run::failed::forget(options.store, &key);
        Ok(record)
    }

    /// Returns the snapshot or build context that the mount reads from, or `None` if it shows no files.
    fn origin(&self, mount: &Mount, stages: &Stages) -> Result<Option<Origin>, BuildError> {
        let Some(from) = mount.kind.from() else { return Ok(None) };
        Ok(Some(match from {
            From::Context => Origin::Context(self.world.options.context.clone()),
            From::Stage(stage) => {
                Origin::Snapshot(stages.get(stage).expect("a step waits for the stages it needs").clone())
            }
            From::Scratch => Origin::Snapshot(Snapshot::default()),
            From::Named(name) => match self.world.outside.get(name) {
                Some(Outside::Image(image)) => {
                    let unpacking = || (self.tell)(Event::Unpacking { image: name.clone() });
                    Origin::Snapshot(image.snapshot(self.world.options.store, &unpacking)?)
                }
                Some(Outside::Files(context)) => Origin::Context(context.clone()),
                None => unreachable!("the plan names only what was found"),
            },
        }))
    }

    fn pick(&self, run: &Run, origins: Vec<Option<Origin>>) -> Result<Vec<Option<Picked>>, BuildError> {
        let mut all = Vec::with_capacity(origins.len());
        for (mount, origin) in run.mounts.iter().zip(origins) {
            let name = mount.kind.from().map(|from| self.place_name(from)).unwrap_or_default();
            let pick = |origin| sources::pick(self.world.options.store, mount, origin, &name);
            all.push(origin.map(pick).transpose()?);
        }
        Ok(all)
    }
}

/// The inputs of all mounts by the identity of their snapshots; `None` if one reads a build context, which has no
/// identity, or if no mount shows files.
fn by_snapshots(mounts: &[Mount], origins: &[Option<Origin>]) -> Option<Vec<Input<'static>>> {
    let mut inputs = Vec::with_capacity(origins.len());
    let mut some = false;
    for (mount, origin) in mounts.iter().zip(origins) {
        inputs.push(match origin {
            None => Input::Nothing,
            Some(Origin::Context(_)) => return None,
            Some(Origin::Snapshot(snapshot)) => {
                some = true;
                let source = sources::source_of(&mount.kind).unwrap_or_default();
                let key = StepKey::of([snapshot.identity().as_bytes(), source.as_bytes()]);
                Input::Snapshot(key)
            }
        });
    }
    some.then_some(inputs)
}
