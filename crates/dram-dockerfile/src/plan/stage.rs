//! The state of a stage during planning: inherited from its base, and passed on to the stages based on it.

use std::collections::BTreeMap;

use dram_image::{History, ImageConfig};

use super::{Base, Budget, Copy, CopySpans, From, Op, Source, SourceKind, Stage, Step, Unpack};
use crate::diagnostic::{Report, quote};
use crate::env::Env;
use crate::graph::{Ground, Node, StageGraph};
use crate::paths;

/// The `PATH` when the base sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The comment of each history entry.
const COMMENT: &str = "dram";

/// The state of a stage after the instructions so far.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(super) config: ImageConfig,
    /// The variables of the config; written back at the end.
    pub(super) env: Env,
    /// The variables for `RUN` and expansion: `ENV` and `ARG` in the order in which they were last set.
    pub(super) scope: Env,
    /// The declared arguments, with their values if they have one.
    pub(super) args: Args,
    /// True after a `WORKDIR` in this file.
    pub(super) workdir_given: bool,
    /// True after a `CMD` in this stage.
    pub(super) cmd_given: bool,
    pub(super) steps: Vec<Step>,
    /// True when the base is a named context that is not an image: the first step copies its files.
    on_files: bool,
    /// The `ONBUILD` triggers that this stage declares.
    pub(super) triggers: Vec<String>,
}

/// The declared arguments, in the order of their first `ARG`.
#[derive(Debug, Clone, Default)]
pub(super) struct Args(Env);

impl Args {
    pub(super) fn declare(&mut self, name: &str, value: Option<&str>) {
        self.0.set(name, value.unwrap_or_default());
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.has(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter()
    }

    fn weight(&self) -> usize {
        self.0.weight()
    }
}

impl State {
    /// Returns the state before the first instruction, and reports errors of the base.
    pub(super) fn begin(
        graph: &StageGraph,
        node: &Node,
        found: &BTreeMap<String, ImageConfig>,
        done: &[State],
        budget: &mut Budget,
        report: &mut Report,
    ) -> State {
        let mut state = match &node.base {
            Ground::Scratch => State::empty(ImageConfig::default()),
            Ground::Stage(at) => done[*at].handed_on(budget),
            Ground::Outside { name, key, .. } => match found.get(key) {
                Some(config) => State::empty(config.clone()),
                None => {
                    let mut state = State::empty(ImageConfig::default());
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
        state.settle(graph);
        state
    }

    /// Starts from a named context that is not an image: the first step copies all of it into an empty root.
    fn begin_with_files(&mut self, name: &str, key: &str, node: &Node) {
        let span = node.base_span.clone();
        let source = Source { text: "/".to_owned(), kind: SourceKind::Path, span: span.clone() };
        let copy = Copy {
            from: From::Named(key.to_owned()),
            sources: vec![source],
            dest: "/".to_owned(),
            chown: None,
            chmod: None,
            unpack: Unpack::No,
            link: false,
            parents: false,
            exclude: Vec::new(),
            checksum: None,
            keep_git_dir: false,
            spans: CopySpans { dest: span.clone(), ..CopySpans::default() },
        };
        let text = format!("FROM {name}");
        self.on_files = true;
        self.remember(text.clone(), false);
        self.steps.push(Step { line: node.from.line, span, text, op: Op::Copy(copy) });
    }

    fn empty(config: ImageConfig) -> State {
        State {
            env: Env::from_pairs(&config.config.env),
            config,
            scope: Env::default(),
            args: Args::default(),
            workdir_given: false,
            cmd_given: false,
            steps: Vec::new(),
            on_files: false,
            triggers: Vec::new(),
        }
    }

    /// Returns the initial state of a stage based on this one.
    fn handed_on(&self, budget: &mut Budget) -> State {
        let weight = self.env.weight() + self.scope.weight() + self.args.weight() + config_weight(&self.config);
        if !budget.spend(weight) {
            return State::empty(ImageConfig::default());
        }
        State {
            config: self.config.clone(),
            env: self.env.clone(),
            scope: self.scope.clone(),
            args: self.args.clone(),
            workdir_given: self.workdir_given,
            cmd_given: false,
            steps: Vec::new(),
            on_files: false,
            triggers: Vec::new(),
        }
    }

    /// Resets inherited fields of the config and sets defaults: platform and `PATH`.
    fn settle(&mut self, graph: &StageGraph) {
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
        if !self.env.has("PATH") {
            self.env.set("PATH", DEFAULT_PATH);
        }
        // The `ENV` of the base wins over an `ARG` of its build.
        for (name, value) in self.env.iter() {
            self.scope.set_last(name, value);
        }
    }

    /// Returns the working directory: absolute and clean.
    pub(super) fn dir(&self) -> String {
        paths::absolute("/", &self.config.config.working_dir)
    }

    /// Adds a history entry.
    pub(super) fn remember(&mut self, created_by: String, empty_layer: bool) {
        self.config.history.push(History {
            created: None,
            created_by: Some(created_by),
            author: None,
            comment: Some(COMMENT.to_owned()),
            empty_layer,
        });
    }

    pub(super) fn finish(mut self, node: &Node) -> Stage {
        self.config.config.on_build = self.triggers;
        self.config.config.env = self.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let base = match &node.base {
            Ground::Scratch => Base::Scratch,
            Ground::Stage(at) => Base::Stage(*at),
            // The first step copies the files of a named context.
            Ground::Outside { .. } if self.on_files => Base::Scratch,
            Ground::Outside { key, .. } => Base::Outside(key.clone()),
        };
        Stage { name: node.name.clone(), index: node.index, base, steps: self.steps, config: self.config }
    }
}

fn config_weight(config: &ImageConfig) -> usize {
    let history: usize = config.history.iter().map(|line| 128 + line.created_by.as_ref().map_or(0, String::len)).sum();
    let labels: usize = config.config.labels.iter().map(|(name, value)| 64 + name.len() + value.len()).sum();
    let rest = config.config.exposed_ports.len() + config.config.volumes.len();
    history + labels + 64 * rest
}
