//! Dockerfile text → instructions → stage graph → plan.
//!
//! [`parse`] reads the text and never fails: it returns what it could read and everything there is to say about it.
//! [`StageGraph`] keeps the stages a target needs and says which images they stand on; with the configurations of
//! those images, [`StageGraph::plan`] gives the steps to run and the configuration each stage ends with.
//!
//! Nothing here touches the disk, the network, the clock or the environment, and every reader is bounded in time and
//! memory whatever the text says. The meaning of each instruction follows BuildKit's Dockerfile frontend; what is not
//! supported is refused by name, never ignored.

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
