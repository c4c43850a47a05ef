//! The targets of a Dockerfile, and the build arguments, secrets, ssh agents and cache mounts of one of them.
//!
//! Follows BuildKit's subrequests `frontend.targets` and `frontend.outline` (`dockerfile2llb/outline.go`).

use std::collections::{BTreeMap, BTreeSet};

use dram_image::ImageConfig;
use dram_plan::{Plan, PlanStep, RunMount, StageBase, StepOp};

use crate::ast::{ArgDeclaration, Dockerfile, DockerfileInstruction, InstructionBody};
use crate::expand::{ExpandOptions, ExpandedWord, expand};
use crate::graph::{StageGraph, StageNode, stage_ranges};
use crate::lint::{LineRange, lines_at};
use crate::ordered_env::OrderedEnv;

/// A stage that can be built with `--target`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildTarget {
    /// The name of the stage in lower case.
    pub name: Option<String>,
    /// The description from the comment directly above.
    pub description: Option<String>,
    /// True for the stage that is built when no target is named.
    pub default: bool,
    /// The base, as written.
    pub base: String,
    /// The platform, as written.
    pub platform: Option<String>,
    /// The lines of its `FROM`.
    pub lines: LineRange,
}

/// Returns all stages, in file order.
pub fn targets(dockerfile: &Dockerfile) -> Vec<BuildTarget> {
    let froms: Vec<_> = dockerfile.instructions.iter().filter_map(|one| Some((one, one.as_from()?))).collect();
    let last = froms.len().saturating_sub(1);
    let target = |(at, (one, from)): (usize, &(&DockerfileInstruction, &crate::ast::FromInstruction))| {
        let name = from.name.as_ref().map(|name| name.text.to_lowercase());
        BuildTarget {
            description: name.as_deref().and_then(|name| one.description(name)).map(str::to_owned),
            name,
            default: at == last,
            base: from.base.text.clone(),
            platform: from.platform.as_ref().map(|platform| platform.text.clone()),
            lines: LineRange { first: one.line, last: one.last_line },
        }
    };
    froms.iter().enumerate().map(target).collect()
}

/// The inputs of one target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// The name of the target in lower case.
    pub name: Option<String>,
    /// The description from the comment directly above.
    pub description: Option<String>,
    /// The build arguments that the target uses, in file order.
    pub args: Vec<OutlineArg>,
    /// The secrets that are mounted, in file order.
    pub secrets: Vec<OutlineSecret>,
    /// The ssh agents that are mounted, in file order.
    pub ssh: Vec<OutlineSecret>,
    /// The cache mounts, in file order.
    pub caches: Vec<OutlineCache>,
}

/// A build argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineArg {
    /// The name of the argument.
    pub name: String,
    /// The description from the comment directly above.
    pub description: Option<String>,
    /// The value: the build argument that was given, or the default with variables expanded.
    pub value: Option<String>,
    /// The lines of its `ARG`.
    pub lines: LineRange,
}

/// A secret or an ssh agent that a target mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineSecret {
    /// The id on the command line.
    pub id: String,
    /// True when the build fails without it.
    pub required: bool,
    /// The lines of the first instruction that mounts it.
    pub lines: LineRange,
}

/// A cache mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineCache {
    /// The id of the cache mount.
    pub id: String,
    /// The target path of the first such mount.
    pub target: String,
    /// The lines of the first instruction that mounts it.
    pub lines: LineRange,
}

/// Returns the inputs of the target of `graph`; `plan` is its plan, and `found` has the configs of its base images.
pub fn outline(
    dockerfile: &Dockerfile,
    graph: &StageGraph,
    plan: &Plan,
    found: &BTreeMap<String, ImageConfig>,
) -> Outline {
    let stages = stage_ranges(&dockerfile.instructions);
    let mut outline = Outline::default();
    let Some(target) = graph.stages.last() else { return outline };
    outline.name = target.from.as_from().and_then(|from| from.name.as_ref()).map(|name| name.text.to_lowercase());
    outline.description = outline.name.as_deref().and_then(|name| target.from.description(name)).map(str::to_owned);
    let mut arguments = ArgumentCollector::new(dockerfile, graph);
    for node in &graph.stages {
        arguments.collect_stage(node, &dockerfile.instructions[stages[node.index].clone()], found);
    }
    outline.args = arguments.finish();
    add_mounts(dockerfile, plan, &mut outline);
    outline
}

/// The build arguments of one stage.
#[derive(Debug, Default)]
struct StageArguments {
    /// The last declaration of each name with a value of its own, or without any value.
    declared: BTreeMap<String, OutlineArg>,
    /// The names that the stage uses.
    used: BTreeSet<String>,
}

/// Collects the build arguments from the top of the file to its end.
struct ArgumentCollector<'g> {
    dockerfile: &'g Dockerfile,
    graph: &'g StageGraph,
    /// The global arguments (before the first `FROM`), each with the names that its default uses.
    globals: BTreeMap<String, (OutlineArg, BTreeSet<String>)>,
    /// The arguments of each stage.
    stages: Vec<StageArguments>,
    /// The variables at the end of each stage.
    scopes: Vec<OrderedEnv>,
}

impl<'g> ArgumentCollector<'g> {
    fn new(dockerfile: &'g Dockerfile, graph: &'g StageGraph) -> ArgumentCollector<'g> {
        let mut arguments =
            ArgumentCollector { dockerfile, graph, globals: BTreeMap::new(), stages: Vec::new(), scopes: Vec::new() };
        let top = dockerfile.instructions.iter().take_while(|one| one.as_from().is_none());
        for (one, argument) in top.flat_map(|one| one.arguments().iter().map(move |argument| (one, argument))) {
            let name = &argument.name.text;
            let given = graph.settings.build_args.contains_key(name);
            let default = argument.default.as_ref().filter(|_| !given);
            let uses = default.and_then(|word| arguments.expand(&word.text, &graph.globals));
            let uses = uses.map(|expanded| expanded.matched).unwrap_or_default();
            let value = graph.globals.get(name).map(str::to_owned);
            arguments.globals.insert(name.clone(), (describe_argument(one, argument, value), uses));
        }
        arguments
    }

    fn expand(&self, text: &str, scope: &OrderedEnv) -> Option<ExpandedWord> {
        expand(text, ExpandOptions::new(self.dockerfile.directives.escape), &|name| scope.get(name)).ok()
    }

    /// Collects the `ARG` of one stage, and tracks its variables.
    fn collect_stage(
        &mut self,
        node: &StageNode,
        instructions: &[DockerfileInstruction],
        found: &BTreeMap<String, ImageConfig>,
    ) {
        let mut stage = StageArguments::default();
        if let Some(from) = node.from.as_from() {
            let words = [Some(&from.base), from.platform.as_ref()];
            let names = words.into_iter().flatten().filter_map(|word| self.expand(&word.text, &self.graph.globals));
            names.flat_map(|expanded| expanded.matched).for_each(|name| self.use_argument(&mut stage, name));
        }
        let mut scope = match &node.base {
            StageBase::Scratch => OrderedEnv::default(),
            StageBase::Stage(at) => self.scopes[*at].clone(),
            StageBase::External(key) => {
                found.get(key).map(|config| OrderedEnv::from_pairs(&config.config.env)).unwrap_or_default()
            }
        };
        for one in instructions {
            match &one.body {
                InstructionBody::Arg(arguments) => {
                    let mut collect = |argument| self.collect_argument(one, argument, &mut scope, &mut stage);
                    arguments.iter().for_each(&mut collect);
                }
                InstructionBody::Env(pairs) => {
                    // All pairs of a line are expanded in the scope before the line.
                    let expanded: Vec<_> = pairs
                        .iter()
                        .filter_map(|pair| {
                            Some((self.expand(&pair.name.text, &scope)?, self.expand(&pair.value.text, &scope)?))
                        })
                        .collect();
                    expanded.iter().for_each(|(name, value)| scope.set_last(&name.text, &value.text));
                }
                InstructionBody::From(_)
                | InstructionBody::Label(_)
                | InstructionBody::Run(_)
                | InstructionBody::Cmd(_)
                | InstructionBody::Entrypoint(_)
                | InstructionBody::Copy(_)
                | InstructionBody::Add(_)
                | InstructionBody::Workdir(_)
                | InstructionBody::User(_)
                | InstructionBody::Expose(_)
                | InstructionBody::Volume(_)
                | InstructionBody::StopSignal(_)
                | InstructionBody::Shell(_)
                | InstructionBody::Healthcheck(_)
                | InstructionBody::Maintainer(_)
                | InstructionBody::OnBuild(_)
                | InstructionBody::Invalid => {}
            }
        }
        self.scopes.push(scope);
        self.stages.push(stage);
    }

    fn collect_argument(
        &self,
        one: &DockerfileInstruction,
        argument: &ArgDeclaration,
        scope: &mut OrderedEnv,
        stage: &mut StageArguments,
    ) {
        let name = &argument.name.text;
        let given = self.graph.settings.build_args.get(name).cloned();
        let default = argument.default.as_ref().and_then(|word| self.expand(&word.text, scope));
        let own = given.or_else(|| default.map(|expanded| expanded.text));
        let value = own.clone().or_else(|| self.graph.globals.get(name).map(str::to_owned));
        if let Some(value) = &value {
            scope.set_last(name, value);
        }
        // Otherwise the value is that of a global argument, or of a predefined platform argument.
        if own.is_some() || value.is_none() {
            stage.declared.insert(name.clone(), describe_argument(one, argument, own));
        }
        self.use_argument(stage, name.clone());
    }

    /// Marks an argument as used by `stage`, and with it the global arguments that the default of a global one uses.
    fn use_argument(&self, stage: &mut StageArguments, name: String) {
        let mut wanted = vec![name];
        while let Some(name) = wanted.pop() {
            if let Some((_, uses)) = self.globals.get(&name).filter(|_| !stage.used.contains(&name)) {
                wanted.extend(uses.iter().cloned());
            }
            stage.used.insert(name);
        }
    }

    /// Returns each used argument once: as the target declares it, or else its base, or else a stage that it copies from.
    fn finish(mut self) -> Vec<OutlineArg> {
        let mut all: BTreeMap<String, OutlineArg> = BTreeMap::new();
        let mut wanted = vec![self.stages.len() - 1];
        let mut visited = BTreeSet::new();
        while let Some(at) = wanted.pop() {
            if !visited.insert(at) {
                continue;
            }
            let mut stage = std::mem::take(&mut self.stages[at]);
            for name in stage.used {
                let global = || self.globals.get(&name).map(|(argument, _)| argument.clone());
                if let Some(argument) = stage.declared.remove(&name).or_else(global) {
                    all.entry(name).or_insert(argument);
                }
            }
            wanted.extend(self.graph.stages[at].stage_references().into_iter().rev());
        }
        let mut all: Vec<OutlineArg> = all.into_values().collect();
        all.sort_by_key(|argument| argument.lines.first);
        all
    }
}

fn describe_argument(one: &DockerfileInstruction, argument: &ArgDeclaration, value: Option<String>) -> OutlineArg {
    let name = argument.name.text.clone();
    OutlineArg {
        description: one.description(&name).map(str::to_owned),
        name,
        value,
        lines: LineRange { first: one.line, last: one.last_line },
    }
}

/// Adds the secrets, ssh agents and caches that the `RUN` steps of the plan mount.
/// Returns the lines of a step that comes from `dockerfile`.
fn step_lines(dockerfile: &Dockerfile, step: &PlanStep) -> LineRange {
    let line = step.origin.line().unwrap_or_default();
    lines_at(dockerfile, step.origin.span().start).unwrap_or(LineRange { first: line, last: line })
}

fn add_mounts(dockerfile: &Dockerfile, plan: &Plan, outline: &mut Outline) {
    let mut known: BTreeMap<(u8, String), usize> = BTreeMap::new();
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        let StepOp::Run(run) = &step.op else { continue };
        let lines = step_lines(dockerfile, step);
        for mount in &run.mounts {
            match mount {
                RunMount::Secret { id, required, .. } => {
                    add_secret(&mut outline.secrets, &mut known, 0, id, *required, lines);
                }
                RunMount::Ssh { id, required, .. } => add_secret(&mut outline.ssh, &mut known, 1, id, *required, lines),
                RunMount::Cache(cache) => {
                    if known.insert((2, cache.id.clone()), 0).is_none() {
                        let (id, target) = (cache.id.clone(), cache.target.clone());
                        outline.caches.push(OutlineCache { id, target, lines });
                    }
                }
                RunMount::Bind { .. } | RunMount::Tmpfs { .. } => {}
            }
        }
    }
    outline.secrets.sort_by_key(|one| one.lines.first);
    outline.ssh.sort_by_key(|one| one.lines.first);
    outline.caches.sort_by_key(|one| one.lines.first);
}

fn add_secret(
    all: &mut Vec<OutlineSecret>,
    known: &mut BTreeMap<(u8, String), usize>,
    kind: u8,
    id: &str,
    required: bool,
    lines: LineRange,
) {
    let at = *known.entry((kind, id.to_owned())).or_insert_with(|| {
        all.push(OutlineSecret { id: id.to_owned(), required: false, lines });
        all.len() - 1
    });
    all[at].required |= required;
}
