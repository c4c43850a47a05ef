//! The build plan: the steps to execute, and the final config of each stage.

mod copy;
mod expose;
mod history;
mod mode;
mod mounts;
mod stage_planner;
mod stage_state;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use dram_image::ImageConfig;

use crate::diagnostic::{Diagnostic, DiagnosticCollector};
use crate::graph::StageGraph;
use crate::remote::GitRef;

pub use mode::ChmodMode;
pub use mounts::{MOUNT_KEYS, MOUNT_TYPES};

/// The plan of all stages that the target needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The stages; each depends only on earlier ones.
    pub stages: Vec<PlanStage>,
    /// The index of the target in `stages`: the last.
    pub target: usize,
}

/// One stage of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageBase {
    /// `scratch`: an empty file system.
    Scratch,
    /// An image or a named context: the key of an [`ExternalInput`](crate::ExternalInput).
    External(String),
    /// An index into [`Plan::stages`].
    Stage(usize),
}

/// One instruction to execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanStep {
    /// The first line, counted from 1.
    pub line: usize,
    /// The byte range in the file.
    pub span: Range<usize>,
    /// The instruction on one line, for display.
    pub text: String,
    /// The operation.
    pub op: StepOp,
}

/// The operation of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
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

impl StepOp {
    /// Returns the inputs of the step beside its parent layer.
    pub fn input_refs(&self) -> Vec<&InputRef> {
        match self {
            StepOp::Copy(copy) => vec![&copy.from],
            StepOp::Run(run) => run.mounts.iter().filter_map(|mount| mount.kind.input_ref()).collect(),
            StepOp::Workdir(_) | StepOp::ConfigOnly => Vec::new(),
        }
    }
}

/// A process to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOp {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The environment: `ENV` and `ARG` in the order in which they were last set; `PATH` is always set.
    pub env: Vec<(String, String)>,
    /// The working directory: absolute and clean.
    pub cwd: String,
    /// The user, as written in `USER`: a name or id, optionally with a group; empty means root.
    pub user: String,
    /// The names in `env` whose value comes from an `ARG`. Used for messages only.
    pub from_args: BTreeSet<String>,
    /// Proxies given as build arguments. They are not part of the cache key.
    pub hidden_env: Vec<(String, String)>,
    /// The mounts, in the order of the flags.
    pub mounts: Vec<RunMount>,
    /// Script files that exist while the command runs: the bodies of heredocs that start with `#!`.
    pub scripts: Vec<HeredocScript>,
    /// `--network`; the default network of the build when `None`.
    pub network: Option<RunNetwork>,
    /// `--security=insecure`: the command runs with all capabilities of the builder.
    pub insecure: bool,
}

/// A script file that exists while a command runs: mode 0755, owned by root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeredocScript {
    /// The absolute path, below `/dev/pipes`.
    pub path: String,
    /// The contents of the file.
    pub contents: String,
}

/// The network of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunNetwork {
    /// Only a loopback device.
    None,
    /// The network of the host, which needs an entitlement.
    Host,
}

/// A mount of one command: `RUN --mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunMount {
    /// The kind of mount.
    pub kind: MountKind,
    /// The byte range of the flag.
    pub span: Range<usize>,
}

/// The kinds of mounts. Target paths are absolute and clean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A bind mount of files of the build context, a stage or an image.
    Bind {
        /// The target path.
        target: String,
        /// The input whose files are mounted.
        from: InputRef,
        /// The path inside the input: absolute and clean, `/` for all of it.
        source: String,
        /// True when the command may write; its changes are discarded.
        writable: bool,
    },
    /// A directory that persists between builds.
    Cache(CacheMount),
    /// A secret as a file or variable; it is part of no layer.
    Secret {
        /// The id on the command line.
        id: String,
        /// The file, unless the secret is only a variable.
        file: Option<MountedFile>,
        /// The name of the variable that holds the secret.
        env: Option<String>,
        /// True when a missing secret is an error.
        required: bool,
    },
    /// The socket of an ssh agent.
    Ssh {
        /// The id on the command line; `default` when the flag gives none.
        id: String,
        /// The socket. `SSH_AUTH_SOCK` is set to that of the first such mount.
        file: MountedFile,
        /// True when a missing agent is an error.
        required: bool,
    },
    /// An empty in-memory file system.
    Tmpfs {
        /// The target path.
        target: String,
        /// The maximum size, in bytes.
        size: Option<u64>,
    },
}

impl MountKind {
    /// Returns the input that the mount takes its files from, if any.
    pub fn input_ref(&self) -> Option<&InputRef> {
        match self {
            MountKind::Bind { from, .. } => Some(from),
            MountKind::Cache(cache) => cache.seed.as_ref().map(|(from, _)| from),
            MountKind::Secret { .. } | MountKind::Ssh { .. } | MountKind::Tmpfs { .. } => None,
        }
    }
}

/// A cache mount: `RUN --mount=type=cache`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// The target path.
    pub target: String,
    /// The id; the target path when the flag gives none. The build argument `BUILDKIT_CACHE_MOUNT_NS` is its prefix.
    pub id: String,
    /// The mode of concurrent use.
    pub sharing: CacheSharing,
    /// True when the command cannot write; it reads the seed or the files of other commands.
    pub read_only: bool,
    /// The initial contents of a new cache: a directory of a stage or an image, absolute and clean.
    pub seed: Option<(InputRef, String)>,
    /// The permissions of a new cache.
    pub mode: u32,
    /// The owner of a new cache.
    pub uid: u32,
    /// The group of a new cache.
    pub gid: u32,
}

/// The mode of concurrent use of a cache mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheSharing {
    /// All commands use one cache concurrently.
    Shared,
    /// A command gets another cache while this one is in use.
    Private,
    /// One command at a time; others wait for the lock.
    Locked,
}

/// A mounted file or socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedFile {
    /// The target path: absolute and clean.
    pub target: String,
    /// The permissions.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// Files to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOp {
    /// The input that the paths among the sources belong to.
    pub from: InputRef,
    /// The sources; at least one.
    pub sources: Vec<CopySource>,
    /// The destination: absolute and clean, with a trailing slash when it is certainly a directory.
    pub dest: String,
    /// `user[:group]`, names or ids.
    pub chown: Option<String>,
    /// Permissions.
    pub chmod: Option<ChmodMode>,
    /// The handling of archives.
    pub unpack: UnpackPolicy,
    /// `--link`: the layer does not depend on its parent layers, and their symbolic links are not followed.
    pub link: bool,
    /// `--parents`: the parent directories of the sources are copied too.
    pub parents: bool,
    /// `--exclude`: patterns as in `.dockerignore`, for paths below each source.
    pub exclude: Vec<String>,
    /// `--checksum` of a URL source: `sha256:` and 64 hexadecimal digits. That of a Git source is in its [`GitRef`].
    pub checksum: Option<String>,
    /// `--keep-git-dir`, for a Git source.
    pub keep_git_dir: bool,
    /// The byte ranges of the parts of the instruction.
    pub spans: CopySpans,
}

/// The handling of archives by a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnpackPolicy {
    /// `COPY` and `ADD --unpack=false`: archives are copied as files.
    No,
    /// `ADD`: archives of the build context are unpacked.
    Local,
    /// `ADD --unpack`: archives from the network are unpacked too.
    All,
}

/// The byte ranges of the parts of a `COPY` or `ADD`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopySpans {
    /// The destination.
    pub dest: Range<usize>,
    /// The flag `--from`.
    pub from: Option<Range<usize>>,
    /// The flag `--chown`.
    pub chown: Option<Range<usize>>,
    /// The flag `--chmod`.
    pub chmod: Option<Range<usize>>,
    /// The flag `--checksum`.
    pub checksum: Option<Range<usize>>,
}

/// A reference to the input that files are copied or mounted from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputRef {
    /// The build context.
    Context,
    /// An image or a named context: the key of an [`ExternalInput`](crate::ExternalInput).
    External(String),
    /// An index into [`Plan::stages`].
    Stage(usize),
    /// `scratch`: an empty file system.
    Scratch,
}

/// One source of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopySource {
    /// The path with variables expanded and wildcards as in [`glob`](crate::glob), a file name of a heredoc, or a URL.
    pub text: String,
    /// The kind of source.
    pub kind: CopySourceKind,
    /// The byte range in the file.
    pub span: Range<usize>,
}

/// The kinds of sources of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySourceKind {
    /// A path in the input that is copied from.
    Path,
    /// A heredoc: a file with these contents and mode 0644.
    Inline(String),
    /// A file on the network.
    Url,
    /// A Git repository.
    Git(Box<GitRef>),
}

/// A directory to create when it does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkdirOp {
    /// The path: absolute and clean.
    pub path: String,
    /// The owner, as written in `USER`; empty means root.
    pub user: String,
}

/// Plans the stages of `graph` in order. Returns no plan when there are errors.
pub(crate) fn plan_stages(
    graph: &StageGraph,
    found: &BTreeMap<String, ImageConfig>,
) -> (Option<Plan>, Vec<Diagnostic>) {
    let mut report = DiagnosticCollector::default();
    let mut budget = PlanBudget::new();
    let mut done: Vec<stage_state::StageState> = Vec::new();
    for node in &graph.stages {
        let state = stage_state::StageState::begin(graph, node, found, &done, &mut budget, &mut report);
        let mut worker = stage_planner::StagePlanner { graph, state, budget: &mut budget, report: &mut report };
        for (instruction, origins) in &node.steps {
            worker.apply(instruction, origins);
        }
        done.push(worker.state);
        if budget.is_spent() {
            break;
        }
    }
    let plan = (!report.has_errors()).then(|| Plan {
        target: done.len().saturating_sub(1),
        stages: done.into_iter().zip(&graph.stages).map(|(state, node)| state.finish(node)).collect(),
    });
    (plan, report.into_diagnostics())
}

/// The memory budget for all values of a plan: a growing environment is copied into every later step.
#[derive(Debug)]
pub(crate) struct PlanBudget {
    remaining: Option<usize>,
}

impl PlanBudget {
    const BYTES: usize = 256 << 20;

    fn new() -> PlanBudget {
        PlanBudget { remaining: Some(Self::BYTES) }
    }

    /// Subtracts `bytes` from the budget; returns false when it is exhausted.
    pub(crate) fn spend(&mut self, bytes: usize) -> bool {
        self.remaining = self.remaining.and_then(|left| left.checked_sub(bytes));
        self.remaining.is_some()
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.remaining.is_none()
    }
}
