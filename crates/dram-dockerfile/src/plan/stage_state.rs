//! The state of a stage during planning: inherited from its base, and passed on to the stages based on it.

use std::collections::BTreeMap;

use dram_image::{HistoryEntry, ImageConfig};
use dram_plan::{
    CopyOp, CopySource, CopySourceKind, DockerfileOrigin, InputRef, PlanStage, PlanStep, StageBase, StepOp, StepOrigin,
    UnpackPolicy,
};

use super::PlanBudget;
use crate::diagnostic::{DiagnosticCollector, quote};
use crate::graph::{StageGraph, StageNode};
use crate::ordered_env::OrderedEnv;
use crate::paths;

/// The `PATH` when the base sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The comment of each history entry.
const HISTORY_COMMENT: &str = "dram";

/// The state of a stage after the instructions so far.
#[derive(Debug, Clone)]
pub(crate) struct StageState {
    pub(super) config: ImageConfig,
    /// The variables of the config; written back at the end.
    pub(super) env: OrderedEnv,
    /// The variables for `RUN` and expansion: `ENV` and `ARG` in the order in which they were last set.
    pub(super) scope: OrderedEnv,
    /// The declared arguments, with their values if they have one.
    pub(super) args: DeclaredArgs,
    /// True after a `WORKDIR` in this file.
    pub(super) workdir_given: bool,
    /// True after a `CMD` in this stage.
    pub(super) cmd_given: bool,
    pub(super) steps: Vec<PlanStep>,
    /// True when the base is a named context that is not an image: the first step copies its files.
    base_is_files: bool,
    /// The `ONBUILD` triggers that this stage declares.
    pub(super) triggers: Vec<String>,
}

/// The declared arguments, in the order of their first `ARG`.
#[derive(Debug, Clone, Default)]
pub(super) struct DeclaredArgs(OrderedEnv);

impl DeclaredArgs {
    pub(super) fn declare(&mut self, name: &str, value: Option<&str>) {
        self.0.set(name, value.unwrap_or_default());
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter()
    }

    fn approximate_size(&self) -> usize {
        self.0.approximate_size()
    }
}

/// Returns the config of an image that begins without another one. As in BuildKit, it has a working directory.
fn empty_image() -> ImageConfig {
    let mut config = ImageConfig::default();
    "/".clone_into(&mut config.config.working_dir);
    config
}

impl StageState {
    /// Returns the state before the first instruction, and reports errors of the base.
    pub(super) fn begin(
        graph: &StageGraph,
        node: &StageNode,
        found: &BTreeMap<String, ImageConfig>,
        done: &[StageState],
        budget: &mut PlanBudget,
        report: &mut DiagnosticCollector,
    ) -> StageState {
        let mut state = match &node.base {
            StageBase::Scratch => StageState::empty(empty_image()),
            StageBase::Stage(at) => done[*at].derived(budget),
            StageBase::External(key) => match found.get(key) {
                Some(config) => StageState::empty(config.clone()),
                None => {
                    let name = &node.base_name.name;
                    let mut state = StageState::empty(empty_image());
                    if graph.settings.context_for(name).is_some() {
                        state.begin_with_files(name, key, node);
                    } else {
                        let message = format!("nothing is known about the image {}", quote(name));
                        report.error(node.base_span.clone(), message);
                    }
                    state
                }
            },
        };
        if budget.is_spent() {
            report.error(node.from.span.clone(), "the stages of the Dockerfile grow too large together");
        }
        state.set_defaults(graph);
        state
    }

    /// Starts from a named context that is not an image: the first step copies all of it into an empty root.
    fn begin_with_files(&mut self, name: &str, key: &str, node: &StageNode) {
        let (line, span) = (node.from.line, node.base_span.clone());
        let origin = StepOrigin::Dockerfile(DockerfileOrigin { line, span, parts: Vec::new() });
        let source = CopySource { text: "/".to_owned(), kind: CopySourceKind::Path };
        let copy = CopyOp {
            from: InputRef::External(key.to_owned()),
            sources: vec![source],
            dest: "/".to_owned(),
            chown: None,
            chmod: None,
            unpack: UnpackPolicy::No,
            link: false,
            parents: false,
            exclude: Vec::new(),
            checksum: None,
            keep_git_dir: false,
        };
        let text = format!("FROM {name}");
        self.base_is_files = true;
        self.push_history(text.clone(), false);
        self.steps.push(PlanStep { text, origin, op: StepOp::Copy(copy) });
    }

    fn empty(config: ImageConfig) -> StageState {
        StageState {
            env: OrderedEnv::from_pairs(&config.config.env),
            config,
            scope: OrderedEnv::default(),
            args: DeclaredArgs::default(),
            workdir_given: false,
            cmd_given: false,
            steps: Vec::new(),
            base_is_files: false,
            triggers: Vec::new(),
        }
    }

    /// Returns the initial state of a stage based on this one.
    fn derived(&self, budget: &mut PlanBudget) -> StageState {
        let weight = self.env.approximate_size()
            + self.scope.approximate_size()
            + self.args.approximate_size()
            + config_size(&self.config);
        if !budget.spend(weight) {
            return StageState::empty(ImageConfig::default());
        }
        StageState {
            config: self.config.clone(),
            env: self.env.clone(),
            scope: self.scope.clone(),
            args: self.args.clone(),
            workdir_given: self.workdir_given,
            cmd_given: false,
            steps: Vec::new(),
            base_is_files: false,
            triggers: Vec::new(),
        }
    }

    /// Resets inherited fields of the config and sets defaults: platform and `PATH`.
    fn set_defaults(&mut self, graph: &StageGraph) {
        let config = &mut self.config;
        config.created = None;
        config.config.on_build.clear();
        config.rootfs.diff_ids.clear();
        if config.os.is_empty() {
            config.os.clone_from(&graph.settings.os);
        }
        if config.architecture.is_empty() {
            config.architecture.clone_from(&graph.settings.architecture);
            config.variant.clone_from(&graph.settings.variant);
        }
        if !config.config.working_dir.is_empty() {
            config.config.working_dir = paths::workdir("/", &config.config.working_dir);
        }
        if !self.env.contains("PATH") {
            self.env.set("PATH", DEFAULT_PATH);
        }
        // The `ENV` of the base wins over an `ARG` of its build.
        for (name, value) in self.env.iter() {
            self.scope.set_last(name, value);
        }
    }

    /// Returns the working directory: absolute and clean.
    pub(super) fn working_dir(&self) -> String {
        paths::absolute("/", &self.config.config.working_dir)
    }

    /// Adds a history entry.
    pub(super) fn push_history(&mut self, created_by: String, empty_layer: bool) {
        self.config.history.push(HistoryEntry {
            created: None,
            created_by: Some(created_by),
            author: None,
            comment: Some(HISTORY_COMMENT.to_owned()),
            empty_layer,
        });
    }

    pub(super) fn finish(mut self, node: &StageNode) -> PlanStage {
        self.config.config.on_build = self.triggers;
        self.config.config.env = self.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        // The first step copies the files of a named context.
        let base = if self.base_is_files { StageBase::Scratch } else { node.base.clone() };
        PlanStage { name: node.name.clone(), index: node.index, base, steps: self.steps, config: self.config }
    }
}

fn config_size(config: &ImageConfig) -> usize {
    let history: usize = config.history.iter().map(|line| 128 + line.created_by.as_ref().map_or(0, String::len)).sum();
    let labels: usize = config.config.labels.iter().map(|(name, value)| 64 + name.len() + value.len()).sum();
    let rest = config.config.exposed_ports.len() + config.config.volumes.len();
    history + labels + 64 * rest
}
