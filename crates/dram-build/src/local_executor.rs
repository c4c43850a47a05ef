//! Executes steps on this machine: commands in a sandbox, copies with the layer writer.

use std::fmt;
use std::time::Duration;

use dram_image::TreePath;
use dram_store::Store;

use crate::container::HostSettings;
use crate::executor::{ExecuteEvent, ExecuteOp, ExecuteRequest, ExecutedStep, Executor, ResourceUsage};
use crate::run::RunCommand;
use crate::{BuildError, execute_copy, execute_workdir};

/// The executor of this machine. Layers are directories of its store.
pub struct LocalExecutor<'a> {
    store: &'a Store,
    host: HostSettings,
    clock: fn() -> Duration,
}

impl fmt::Debug for LocalExecutor<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("LocalExecutor").field("store", &self.store).field("host", &self.host).finish_non_exhaustive()
    }
}

impl<'a> LocalExecutor<'a> {
    /// Makes an executor with the layers of `store`. `clock` returns the time since a fixed moment.
    pub fn new(store: &'a Store, host: HostSettings, clock: fn() -> Duration) -> LocalExecutor<'a> {
        LocalExecutor { store, host, clock }
    }
}

fn describe_lost_access_lists(first: &TreePath, count: usize) -> String {
    let others = if count > 1 { format!(" and {} others", count - 1) } else { String::new() };
    format!("the access control list (`setfacl`) of `{first}`{others} is lost: an image has none")
}

impl Executor for LocalExecutor<'_> {
    fn execute(
        &self,
        request: &ExecuteRequest<'_>,
        tell: &dyn Fn(ExecuteEvent<'_>),
    ) -> Result<ExecutedStep, BuildError> {
        let started = (self.clock)();
        let (made, usage) = match request.op {
            ExecuteOp::Run(run) => {
                RunCommand { store: self.store, host: &self.host, request, run, tell }.execute_command()?
            }
            ExecuteOp::Copy(copy) => (execute_copy::write_copy(self.store, request, copy)?, ResourceUsage::default()),
            ExecuteOp::Workdir(workdir) => {
                (execute_workdir::make_workdir(self.store, request, workdir)?, ResourceUsage::default())
            }
        };
        let layer = match made {
            None => None,
            Some(made) => {
                let mut lost = Vec::new();
                let id = self.store.layers().commit_telling(made.path(), &mut |path| lost.push(path.clone()))?;
                if let Some(first) = lost.first() {
                    tell(ExecuteEvent::Remark(
                        &describe_lost_access_lists(first, lost.len()),
                        "set the mode and owner instead",
                    ));
                }
                made.keep();
                Some(id)
            }
        };
        let wall_time = (self.clock)().saturating_sub(started);
        Ok(ExecutedStep { layer, usage: ResourceUsage { wall_time, ..usage } })
    }
}
