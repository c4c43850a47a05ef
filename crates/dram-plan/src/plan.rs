//! Plans, stages and steps.

use std::collections::BTreeSet;

use dram_image::ImageConfig;
use serde::{Deserialize, Serialize};

use crate::{CopyOp, RunOp, StepOrigin};

/// The plan of all stages that the target needs. [`Plan::to_json`] writes it with the version of the format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The stages; each depends only on earlier ones.
    pub stages: Vec<PlanStage>,
    /// The index of the target in `stages`: the last.
    pub target: usize,
}

/// One stage of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanStage {
    /// The name as written, or `stage-N`.
    pub name: String,
    /// The index among all stages of the file, counted from 0.
    pub index: usize,
    /// The base of the stage.
    pub base: StageBase,
    /// The steps, in order.
    pub steps: Vec<PlanStep>,
    /// The final config: that of the base with the effects of all steps, and one history entry for each of them.
    /// Diff IDs are left out.
    pub config: ImageConfig,
}

/// The base of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StageBase {
    /// `scratch`: an empty file system.
    Scratch,
    /// An image or a named context: the key of an external input.
    External(String),
    /// An index into [`Plan::stages`].
    Stage(usize),
}

impl PlanStage {
    /// Returns the index of the stage that this one is based on, if it is based on one.
    pub fn base_stage(&self) -> Option<usize> {
        match self.base {
            StageBase::Stage(base) => Some(base),
            StageBase::Scratch | StageBase::External(_) => None,
        }
    }
}

/// One instruction to execute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanStep {
    /// The step on one line, for display: the instruction, if it comes from a Dockerfile.
    pub text: String,
    /// The origin, for messages.
    pub origin: StepOrigin,
    /// The operation.
    pub op: StepOp,
}

/// The operation of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StepOp {
    /// Runs a process.
    Run(RunOp),
    /// Copies files.
    Copy(CopyOp),
    /// Creates a directory.
    Workdir(WorkdirOp),
    /// Changes only the config.
    ConfigOnly,
}

impl Plan {
    /// Returns the keys of all external inputs that the stages use, each once.
    pub fn external_inputs(&self) -> BTreeSet<&str> {
        let mut keys = BTreeSet::new();
        for stage in &self.stages {
            match &stage.base {
                StageBase::External(key) => drop(keys.insert(key.as_str())),
                StageBase::Scratch | StageBase::Stage(_) => {}
            }
            for input in stage.steps.iter().flat_map(|step| step.op.input_refs()) {
                match input {
                    InputRef::External(key) => drop(keys.insert(key.as_str())),
                    InputRef::Context | InputRef::Stage(_) | InputRef::Scratch => {}
                }
            }
        }
        keys
    }
}

impl StepOp {
    /// Returns the inputs of the step beside its parent layer.
    pub fn input_refs(&self) -> Vec<&InputRef> {
        match self {
            StepOp::Copy(copy) => vec![&copy.from],
            StepOp::Run(run) => run.mounts.iter().filter_map(|mount| mount.input_ref()).collect(),
            StepOp::Workdir(_) | StepOp::ConfigOnly => Vec::new(),
        }
    }
}

/// A reference to the input that files are copied or mounted from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum InputRef {
    /// The build context.
    Context,
    /// An image or a named context: the key of an external input.
    External(String),
    /// An index into [`Plan::stages`].
    Stage(usize),
    /// `scratch`: an empty file system.
    Scratch,
}

impl InputRef {
    /// Returns the index of the stage that it refers to, if it refers to one.
    pub fn stage(&self) -> Option<usize> {
        match self {
            InputRef::Stage(stage) => Some(*stage),
            InputRef::Context | InputRef::External(_) | InputRef::Scratch => None,
        }
    }
}

/// A directory to create when it does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkdirOp {
    /// The path: absolute and clean.
    pub path: String,
    /// The owner, as written in `USER`; empty means root.
    #[serde(default)]
    pub user: String,
}
