//! The interface between the scheduler and whatever executes a step. See
//! [the decision](../../../docs/decisions/executor.md).

use std::fmt;
use std::time::Duration;

use dram_plan::{PlanStep, WorkdirOp};
use dram_sandbox::CommandUsage;
use dram_store::{LayerId, StepKey};
use serde::{Deserialize, Serialize};

use crate::execute_copy::CopyRequest;
use crate::run::RunRequest;
use crate::{BuildError, CancelToken};

/// Executes steps. It decides nothing: whether a step is executed, and under which cache keys its result is recorded, is
/// decided before.
pub trait Executor: fmt::Debug + Sync {
    /// Executes one step. `tell` is called while it is executed.
    ///
    /// # Errors
    /// Returns an error if the step fails, or [`BuildError::Cancelled`] if its `cancel` was cancelled.
    fn execute(
        &self,
        request: &ExecuteRequest<'_>,
        tell: &dyn Fn(ExecuteEvent<'_>),
    ) -> Result<ExecutedStep, BuildError>;
}

/// A step to execute, with everything that its result depends on.
#[derive(Debug)]
pub struct ExecuteRequest<'a> {
    /// The step of the plan.
    pub step: &'a PlanStep,
    /// The cache key by content, which is the identity of the step.
    pub key: StepKey,
    /// The input layers, lowest first. All of them are available in the store.
    pub layers: &'a [LayerId],
    /// The time of files and directories that the step makes without a source, in seconds since 1970 and nanoseconds. The
    /// files that a command makes have the time of the system's clock.
    pub now: (i64, u32),
    /// The operation with its resolved inputs.
    pub op: &'a ExecuteOp<'a>,
    /// Cancels the execution.
    pub cancel: &'a CancelToken,
}

/// The operation of a step, with the inputs that are no layers below it.
#[derive(Debug)]
pub enum ExecuteOp<'a> {
    /// A command, with its mounts, secrets and limits.
    Run(RunRequest<'a>),
    /// A copy, with the files to copy.
    Copy(CopyRequest<'a>),
    /// A working directory.
    Workdir(&'a WorkdirOp),
}

/// Something that happens while a step is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecuteEvent<'a> {
    /// A line of the command's output, without its line end.
    Log(&'a [u8]),
    /// Another command holds the cache mount with this id, which is not shared.
    WaitingForCache(&'a str),
    /// A warning about the result, and its help.
    Remark(&'a str, &'static str),
}

/// The result of a step that was executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutedStep {
    /// The layer that the step made, which is in the store; `None` if it changed nothing.
    pub layer: Option<LayerId>,
    /// The resources that it used.
    pub usage: ResourceUsage,
}

/// The resources that a step used. CPU time and memory are those of its command; they are zero for a step without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResourceUsage {
    /// The duration of the execution.
    pub wall_time: Duration,
    /// CPU time in user mode.
    pub user_time: Duration,
    /// CPU time in the kernel.
    pub system_time: Duration,
    /// The largest resident set of one process, in bytes.
    pub max_rss: u64,
}

impl ResourceUsage {
    /// Returns the usage of a command, without its duration.
    pub(crate) fn of_command(usage: CommandUsage) -> ResourceUsage {
        let CommandUsage { user_time, system_time, max_rss } = usage;
        ResourceUsage { wall_time: Duration::ZERO, user_time, system_time, max_rss }
    }
}
