//! The build plan: the stages of a build, the steps to execute, and the final config of each stage.
//!
//! A [`Plan`] is plain data. The Dockerfile planner makes plans, and so can any other function: each step has a
//! [`StepOrigin`] that says what it was made from. A plan can be written as JSON and read back
//! ([`Plan::to_json`], [`Plan::from_json`]); what is read is checked, so that executing it cannot break an assumption.
//!
//! Nothing here touches the disk, the network, the clock or the environment.

mod chmod_mode;
mod copy_op;
mod json;
mod origin;
mod plan;
mod run_op;
mod validate;

pub use chmod_mode::{ChmodChange, ChmodMode, InvalidChmodMode};
pub use copy_op::{CopyOp, CopySource, CopySourceKind, GitRef, UnpackPolicy};
pub use json::{MAX_PLAN_SIZE, PLAN_VERSION, PlanFormatError};
pub use origin::{DockerfileOrigin, StepOrigin, StepPart};
pub use plan::{InputRef, Plan, PlanStage, PlanStep, StageBase, StepOp, WorkdirOp};
pub use run_op::{CacheMount, CacheSharing, HeredocScript, MountedFile, RunMount, RunNetwork, RunOp};
pub use validate::{MAX_PLAN_STEPS, PlanError};
