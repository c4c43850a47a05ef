//! What to do, step by step, and what each stage's configuration becomes.

mod apply;
mod copy;
mod expose;
mod history;
mod mode;
mod mounts;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use dram_image::ImageConfig;

use crate::diagnostic::{Diagnostic, Report};
use crate::graph::StageGraph;
use crate::remote::GitRef;

pub use mode::Mode;
pub use mounts::{MOUNT_KEYS, MOUNT_TYPES};

/// The steps of all stages that the target needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The stages; each uses only ones before it.
    pub stages: Vec<Stage>,
    /// The place of the target among them: the last.
    pub target: usize,
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The name as written, or `stage-N`.
    pub name: String,
    /// The place among all stages of the file, from 0.
    pub index: usize,
    /// What it stands on.
    pub base: Base,
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// The configuration it ends with: its base's with the effects of all steps, one line of history for each.
    /// The layers are left out.
    pub config: ImageConfig,
}

/// What a stage stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An image or a named context: the name of a [`Need`](crate::Need).
    Outside(String),
    /// A place in [`Plan::stages`].
    Stage(usize),
}

/// One instruction to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The line it starts on, from 1.
    pub line: usize,
    /// Its place in the file.
    pub span: Range<usize>,
    /// The instruction on one line, for people.
    pub text: String,
    /// What to do.
    pub op: Op,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Runs a process.
    Run(Run),
    /// Copies files.
    Copy(Copy),
    /// Makes a directory.
    Workdir(Workdir),
    /// Changes the configuration only.
    Meta,
}

impl Op {
    /// Where the step takes files from, beside the stage itself.
    pub fn sources(&self) -> Vec<&From> {
        match self {
            Op::Copy(copy) => vec![&copy.from],
            Op::Run(run) => run.mounts.iter().filter_map(|mount| mount.kind.from()).collect(),
            Op::Workdir(_) | Op::Meta => Vec::new(),
        }
    }
}

/// A process to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The environment: `ENV` and `ARG` in the order they were last set, `PATH` always among them.
    pub env: Vec<(String, String)>,
    /// Where it starts: absolute and clean.
    pub cwd: String,
    /// Whom it runs as, as `USER` has it: names or ids, maybe with a group; empty means root.
    pub user: String,
    /// The names in `env` whose value an `ARG` gave. For messages: the command sees no difference.
    pub from_args: BTreeSet<String>,
    /// Proxies given as build arguments. They are no part of what the step is.
    pub hidden_env: Vec<(String, String)>,
    /// What it sees beside the stage's files, in the order of the flags.
    pub mounts: Vec<Mount>,
    /// Files that are there while it runs: the bodies of heredocs that are programs of their own.
    pub scripts: Vec<Script>,
    /// `--network`; the build's own when absent.
    pub network: Option<RunNetwork>,
    /// `--security=insecure`: with all rights that the builder has.
    pub insecure: bool,
}

/// A file that a command sees while it runs: mode 0755, root's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Where it is: absolute, below `/dev/pipes`.
    pub path: String,
    /// What it says.
    pub contents: String,
}

/// The network of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunNetwork {
    /// Nothing but a loopback device.
    None,
    /// The host's; an entitlement.
    Host,
}

/// Something that a command sees beside the stage's files: `RUN --mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What it is.
    pub kind: MountKind,
    /// The flag's place in the file.
    pub span: Range<usize>,
}

/// The kinds of mounts. Targets are absolute and clean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the build context, a stage or an image.
    Bind {
        /// Where it is seen.
        target: String,
        /// Whose files.
        from: From,
        /// Which of them: absolute and clean, `/` for all.
        source: String,
        /// Whether the command may write; what it writes is thrown away.
        writable: bool,
    },
    /// A directory that outlives the build.
    Cache(CacheMount),
    /// A file or variable that leaves no trace.
    Secret {
        /// Its name on the command line.
        id: String,
        /// The file, unless it is a variable only.
        file: Option<MountedFile>,
        /// The variable it is the value of.
        env: Option<String>,
        /// Whether it is an error when it was not given.
        required: bool,
    },
    /// The socket of an ssh agent.
    Ssh {
        /// Its name on the command line; `default` when the file says none.
        id: String,
        /// The socket. `SSH_AUTH_SOCK` names that of the first such mount.
        file: MountedFile,
        /// Whether it is an error when it was not given.
        required: bool,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Where it is seen.
        target: String,
        /// The most it takes, in bytes.
        size: Option<u64>,
    },
}

impl MountKind {
    /// Where its files come from, if from anywhere.
    pub fn from(&self) -> Option<&From> {
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
    /// Where it is seen.
    pub target: String,
    /// Its name; the target's path when the file gives none. A namespace given as build argument stands before it.
    pub id: String,
    /// Who uses it at the same time.
    pub sharing: Sharing,
    /// Whether the command only reads; so what it finds is the seed or what others left.
    pub read_only: bool,
    /// What a new one starts with: a directory of a stage or an image, absolute and clean.
    pub seed: Option<(From, String)>,
    /// Permissions of a new one.
    pub mode: u32,
    /// Owner of a new one.
    pub uid: u32,
    /// Group of a new one.
    pub gid: u32,
}

/// Who uses a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Everybody.
    Shared,
    /// Each user has one of their own while another uses it.
    Private,
    /// One at a time; others wait.
    Locked,
}

/// A file or socket that is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedFile {
    /// Where it is seen: absolute and clean.
    pub target: String,
    /// Its permissions.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Files to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Where the paths among the sources come from.
    pub from: From,
    /// What to copy; at least one.
    pub sources: Vec<Source>,
    /// Where to: absolute and clean, with a slash at the end where it is a directory for sure.
    pub dest: String,
    /// `user[:group]`, names or ids.
    pub chown: Option<String>,
    /// Permissions.
    pub chmod: Option<Mode>,
    /// What is done with archives.
    pub unpack: Unpack,
    /// `--link`: the layer does not depend on the files below it, whose symbolic links are not followed.
    pub link: bool,
    /// `--parents`: the directories of the sources' paths come along.
    pub parents: bool,
    /// `--exclude`: patterns as in `.dockerignore`, of paths below each source.
    pub exclude: Vec<String>,
    /// `--checksum`, for a source that is a URL: `sha256:` and 64 hexadecimal digits. Of a Git source it is in its
    /// [`GitRef`].
    pub checksum: Option<String>,
    /// `--keep-git-dir`, for a Git source.
    pub keep_git_dir: bool,
    /// Where all this is written.
    pub spans: CopySpans,
}

/// What a copy does with archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpack {
    /// `COPY`, and `ADD --unpack=false`: they are files.
    No,
    /// `ADD`: those of the build context are unpacked.
    Local,
    /// `ADD --unpack`: those from the network too.
    All,
}

/// The places of the parts of a `COPY` or `ADD`.
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

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// The build context.
    Context,
    /// An image or a named context: the key of a [`Need`](crate::Need).
    Named(String),
    /// A place in [`Plan::stages`].
    Stage(usize),
    /// Nothing: an empty file system.
    Scratch,
}

/// One source of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The path, variables expanded, wildcards as in [`glob`](crate::glob); the name of a heredoc's file; a URL.
    pub text: String,
    /// What it is.
    pub kind: SourceKind,
    /// Its place in the file.
    pub span: Range<usize>,
}

/// The kinds of sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// A path of the tree that is copied from.
    Path,
    /// A heredoc: a file of this name and contents, mode 0644.
    Inline(String),
    /// A file on the network.
    Url,
    /// A Git repository.
    Git(Box<GitRef>),
}

/// A directory to make when it is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workdir {
    /// Absolute and clean.
    pub path: String,
    /// Who owns it, as `USER` has it; empty means root.
    pub user: String,
}

/// Plans the stages of `graph` one after the other.
pub(crate) fn make(graph: &StageGraph, found: &BTreeMap<String, ImageConfig>) -> (Option<Plan>, Vec<Diagnostic>) {
    let mut report = Report::default();
    let mut budget = Budget::new();
    let mut done: Vec<stage::State> = Vec::new();
    for node in &graph.stages {
        let state = stage::State::begin(graph, node, found, &done, &mut budget, &mut report);
        let mut worker = apply::Worker { graph, state, budget: &mut budget, report: &mut report };
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

/// What all values of a plan together may take: an environment that grows is copied into every step after it.
#[derive(Debug)]
pub(crate) struct Budget {
    left: Option<usize>,
}

impl Budget {
    const BYTES: usize = 256 << 20;

    fn new() -> Budget {
        Budget { left: Some(Self::BYTES) }
    }

    /// Takes `bytes` away; false when they are not there.
    pub(crate) fn spend(&mut self, bytes: usize) -> bool {
        self.left = self.left.and_then(|left| left.checked_sub(bytes));
        self.left.is_some()
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.left.is_none()
    }
}
