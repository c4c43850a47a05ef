//! What to do, step by step, and what each stage's configuration becomes.

mod apply;
mod copy;
mod expose;
mod history;
mod stage;

use std::collections::BTreeMap;
use std::ops::Range;

use dram_image::ImageConfig;

use crate::diagnostic::{Diagnostic, Report};
use crate::graph::StageGraph;

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
    /// Proxies given as build arguments. They are no part of what the step is.
    pub hidden_env: Vec<(String, String)>,
}

/// Files to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Where they come from.
    pub from: From,
    /// What to copy; at least one.
    pub sources: Vec<Source>,
    /// Where to: absolute and clean, with a slash at the end where it is a directory for sure.
    pub dest: String,
    /// `user[:group]`, names or ids.
    pub chown: Option<String>,
    /// Permissions, at most 0o7777.
    pub chmod: Option<u32>,
    /// `ADD`: local archives are unpacked.
    pub unpack: bool,
    /// Where all this is written.
    pub spans: CopySpans,
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
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// The build context.
    Context,
    /// An image or a named context: the name of a [`Need`](crate::Need).
    Named(String),
    /// A place in [`Plan::stages`].
    Stage(usize),
}

/// One source of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The path, variables expanded, wildcards as in [`glob`](crate::glob).
    pub text: String,
    /// Its place in the file.
    pub span: Range<usize>,
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
        for (instruction, origin) in &node.steps {
            worker.apply(instruction, origin.as_ref());
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
