//! Dockerfile text → instructions → stage graph → plan.
//!
//! [`parse()`] never fails: it returns the instructions it could read and all diagnostics about them. [`StageGraph`]
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
pub mod option_value;
pub mod outline;
pub mod plan;
pub mod remote;
pub mod rules;
pub mod settings;
pub mod suggest;

mod heredoc;
mod json;
mod lines;
mod ordered_env;
mod parse;
mod paths;
mod words;

pub use ast::{Dockerfile, DockerfileInstruction, Keyword};
pub use diagnostic::{Diagnostic, Severity};
pub use graph::{ExternalInput, ExternalInputKind, OnbuildTriggers, StageGraph};
pub use parse::{MAX_DOCKERFILE_SIZE, MAX_INSTRUCTIONS, ParsedDockerfile, flag_names, parse};
pub use remote::{RemoteSource, RemoteSourceError};
pub use settings::{BuildSettings, PlatformSpec};
