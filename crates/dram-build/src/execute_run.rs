//! Executes a `RUN` step. The files of its mounts are resolved first, because they are part of the cache key.

use dram_plan::{InputRef, RunMount, RunOp, StepPart};
use dram_store::{CacheRecord, StepKey};

use crate::cache_key::{self, MountInput, RunKeyOptions};
use crate::executor::ExecuteOp;
use crate::run::mount_files::{self, MountFiles, MountOrigin};
use crate::run::{self, RunRequest};
use crate::step_location::StepLocation;
use crate::step_runner::{StageSnapshots, StepRunner};
use crate::{BuildError, ResolvedInput, Snapshot};

impl StepRunner<'_> {
    /// Executes a `RUN`, or takes it from the cache. As for a copy, the cache is searched twice if the mounts read
    /// stages or images: first by the identity of those snapshots, without opening a file; on a miss, by the content of
    /// the files.
    pub(crate) fn execute_run(
        &self,
        run: &RunOp,
        below: &Snapshot,
        stages: &StageSnapshots,
    ) -> Result<CacheRecord, BuildError> {
        let options = self.world.options;
        let around = RunKeyOptions {
            network: run::command_network(run, options.network),
            command_options: &options.command_options,
        };
        let origins = run.mounts.iter().map(|mount| self.mount_origin(mount, stages)).collect::<Result<Vec<_>, _>>()?;
        let mut keys = Vec::new();
        if let Some(inputs) = snapshot_inputs(&run.mounts, &origins) {
            let fast = cache_key::run_key(run, below, &around, &inputs);
            if self.uses_cache()
                && let Some(record) = self.lookup(std::slice::from_ref(&fast))?
            {
                return Ok(record);
            }
            keys.push(fast);
        }
        let picked = self.resolve_mount_files(run, &origins)?;
        let content = picked.iter().map(|picked| picked.as_ref().map(|picked| &picked.content));
        let inputs: Vec<MountInput<'_>> =
            content.map(|content| content.map_or(MountInput::NoFiles, MountInput::Content)).collect();
        keys.push(cache_key::run_key(run, below, &around, &inputs));
        let key = keys.last().expect("pushed above").id;
        let request = RunRequest { run, mounts: &picked, network: around.network, options: around.command_options };
        let record = self.cached_or_execute(&keys, below, &ExecuteOp::Run(request))?;
        run::failed_command::forget_failed_command(options.store(), &key);
        Ok(record)
    }

    /// Returns the snapshot or build context that the mount reads from, or `None` if it shows no files.
    fn mount_origin(&self, mount: &RunMount, stages: &StageSnapshots) -> Result<Option<MountOrigin>, BuildError> {
        let Some(from) = mount.input_ref() else { return Ok(None) };
        Ok(Some(match from {
            InputRef::Context => MountOrigin::Context(self.world.options.context.clone()),
            InputRef::Stage(stage) => {
                MountOrigin::Snapshot(stages.get(stage).expect("a step waits for the stages it needs").clone())
            }
            InputRef::Scratch => MountOrigin::Snapshot(Snapshot::default()),
            InputRef::External(name) => match self.world.inputs.get(name) {
                Some(ResolvedInput::Image(image)) => MountOrigin::Snapshot(image.snapshot()),
                Some(ResolvedInput::Context(context)) => MountOrigin::Context(context.clone()),
                None => unreachable!("the plan names only what was found"),
            },
        }))
    }

    fn resolve_mount_files(
        &self,
        run: &RunOp,
        origins: &[Option<MountOrigin>],
    ) -> Result<Vec<Option<MountFiles<'_>>>, BuildError> {
        let mut all = Vec::with_capacity(origins.len());
        let provider = self.world.options.layers;
        for ((at, mount), origin) in run.mounts.iter().enumerate().zip(origins) {
            let location = StepLocation::of_part(self.step, StepPart::Mount(at));
            let name = mount.input_ref().map(|from| self.source_name(from)).unwrap_or_default();
            let pick = |origin| {
                mount_files::resolve_mount_files((provider, self.saved_digests()), (mount, location), origin, &name)
            };
            all.push(origin.as_ref().map(pick).transpose()?);
        }
        Ok(all)
    }
}

/// The inputs of all mounts by the identity of their snapshots; `None` if one reads a build context, which has no
/// identity, or if no mount shows files.
fn snapshot_inputs(mounts: &[RunMount], origins: &[Option<MountOrigin>]) -> Option<Vec<MountInput<'static>>> {
    let mut inputs = Vec::with_capacity(origins.len());
    let mut some = false;
    for (mount, origin) in mounts.iter().zip(origins) {
        inputs.push(match origin {
            None => MountInput::NoFiles,
            Some(MountOrigin::Context(_)) => return None,
            Some(MountOrigin::Snapshot(snapshot)) => {
                some = true;
                let source = mount_files::mount_source_path(mount).unwrap_or_default();
                let key = StepKey::of([snapshot.identity().as_bytes(), source.as_bytes()]);
                MountInput::Snapshot(key)
            }
        });
    }
    some.then_some(inputs)
}
