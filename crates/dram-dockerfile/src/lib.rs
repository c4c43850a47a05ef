//! Dockerfile text → instructions → stage graph → plan.
//!
//! [`parse`] never fails: it returns the instructions it could read and all diagnostics about them. [`StageGraph`]
//! keeps the stages that a target needs and lists their base images; given the configs of those images,
//! [`StageGraph::plan`] returns the steps to execute and the final config of each stage.
//!
//! Nothing here touches the disk, the network, the clock or the environment, and every reader is bounded in time and
//! memory for any input. The meaning of each instruction follows BuildKit's Dockerfile frontend; features that are not
//! supported are refused by name, never ignored.

pub mod ast;
pub mod diagnostic;
pub mod expand;
pub mod glob;
pub mod graph;
pub mod ignore;
pub mod lint;
pub mod nearest;
pub mod outline;
pub mod plan;
pub mod remote;
pub mod rules;
pub mod settings;

mod env;
mod heredoc;
mod json;
mod lines;
mod parse;
mod paths;
mod words;

pub use ast::{Dockerfile, Instruction, Keyword};
pub use diagnostic::{Diagnostic, Severity};
pub use graph::{Need, NeedKind, StageGraph, Triggers};
pub use parse::{LONGEST_TEXT, MOST_INSTRUCTIONS, Parsed, flags, parse};
pub use plan::{
    Base, CacheMount, Copy, From, Mode, Mount, MountKind, MountedFile, Op, Plan, Run, RunNetwork, Script, Sharing,
    Source, SourceKind, Stage, Step, Unpack, Workdir,
};
pub use remote::{GitRef, Remote, WrongRemote};
pub use settings::{Platform, Settings};
