//! The targets of a Dockerfile, and the build arguments, secrets, ssh agents and cache mounts of one of them.
//!
//! Follows BuildKit's subrequests `frontend.targets` and `frontend.outline` (`dockerfile2llb/outline.go`).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use dram_image::ImageConfig;

use crate::ast::{Argument, Body, Dockerfile, Instruction};
use crate::env::Env;
use crate::expand::{Expanded, Options, expand};
use crate::graph::{Ground, Node, StageGraph, split};
use crate::lint::{Lines, lines_at};
use crate::plan::{MountKind, Op, Plan};

/// A stage that can be built with `--target`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
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
    pub lines: Lines,
}

/// Returns all stages, in file order.
pub fn targets(dockerfile: &Dockerfile) -> Vec<Target> {
    let froms: Vec<_> = dockerfile.instructions.iter().filter_map(|one| Some((one, one.from_line()?))).collect();
    let last = froms.len().saturating_sub(1);
    let target = |(at, (one, from)): (usize, &(&Instruction, &crate::ast::FromLine))| {
        let name = from.name.as_ref().map(|name| name.text.to_lowercase());
        Target {
            description: name.as_deref().and_then(|name| one.description(name)).map(str::to_owned),
            name,
            default: at == last,
            base: from.base.text.clone(),
            platform: from.platform.as_ref().map(|platform| platform.text.clone()),
            lines: Lines { first: one.line, last: one.last_line },
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
    pub secrets: Vec<Wanted>,
    /// The ssh agents that are mounted, in file order.
    pub ssh: Vec<Wanted>,
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
    pub lines: Lines,
}

/// A secret or an ssh agent that a target mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The id on the command line.
    pub id: String,
    /// True when the build fails without it.
    pub required: bool,
    /// The lines of the first instruction that mounts it.
    pub lines: Lines,
}

/// A cache mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineCache {
    /// The id of the cache mount.
    pub id: String,
    /// The target path of the first such mount.
    pub target: String,
    /// The lines of the first instruction that mounts it.
    pub lines: Lines,
}

/// Returns the inputs of the target of `graph`; `plan` is its plan, and `found` has the configs of its base images.
pub fn outline(
    dockerfile: &Dockerfile,
    graph: &StageGraph,
    plan: &Plan,
    found: &BTreeMap<String, ImageConfig>,
) -> Outline {
    let stages = split(&dockerfile.instructions);
    let mut outline = Outline::default();
    let Some(target) = graph.stages.last() else { return outline };
    outline.name = target.from.from_line().and_then(|from| from.name.as_ref()).map(|name| name.text.to_lowercase());
    outline.description = outline.name.as_deref().and_then(|name| target.from.description(name)).map(str::to_owned);
    let mut arguments = Arguments::new(dockerfile, graph);
    for node in &graph.stages {
        arguments.stage(node, &dockerfile.instructions[stages[node.index].clone()], found);
    }
    outline.args = arguments.finish();
    mounts(dockerfile, plan, &mut outline);
    outline
}

/// Collects the build arguments from the top of the file to its end.
struct Arguments<'g> {
    dockerfile: &'g Dockerfile,
    graph: &'g StageGraph,
    /// The global arguments (before the first `FROM`), each with the names that its default uses.
    globals: BTreeMap<String, (OutlineArg, BTreeSet<String>)>,
    /// The arguments that the stages use, each once.
    used: BTreeMap<String, OutlineArg>,
    /// The variables at the end of each stage.
    scopes: Vec<Env>,
}

impl<'g> Arguments<'g> {
    fn new(dockerfile: &'g Dockerfile, graph: &'g StageGraph) -> Arguments<'g> {
        let mut arguments =
            Arguments { dockerfile, graph, globals: BTreeMap::new(), used: BTreeMap::new(), scopes: Vec::new() };
        let top = dockerfile.instructions.iter().take_while(|one| one.from_line().is_none());
        for (one, argument) in top.flat_map(|one| one.arguments().iter().map(move |argument| (one, argument))) {
            let name = &argument.name.text;
            let given = graph.settings.build_args.contains_key(name);
            let default = argument.default.as_ref().filter(|_| !given);
            let uses = default.and_then(|word| arguments.expand(&word.text, &graph.globals));
            let uses = uses.map(|expanded| expanded.matched).unwrap_or_default();
            let value = graph.globals.get(name).map(str::to_owned);
            arguments.globals.insert(name.clone(), (described(one, argument, value), uses));
        }
        arguments
    }

    fn expand(&self, text: &str, scope: &Env) -> Option<Expanded> {
        expand(text, Options::new(self.dockerfile.directives.escape), &|name| scope.get(name)).ok()
    }

    /// Collects the `ARG` of one stage, and tracks its variables.
    fn stage(&mut self, node: &Node, instructions: &[Instruction], found: &BTreeMap<String, ImageConfig>) {
        if let Some(from) = node.from.from_line() {
            let words = [Some(&from.base), from.platform.as_ref()];
            let names = words.into_iter().flatten().filter_map(|word| self.expand(&word.text, &self.graph.globals));
            let names: BTreeSet<String> = names.flat_map(|expanded| expanded.matched).collect();
            names.iter().for_each(|name| self.global(name));
        }
        let mut scope = match &node.base {
            Ground::Scratch => Env::default(),
            Ground::Stage(at) => self.scopes[*at].clone(),
            Ground::Outside { key, .. } => {
                found.get(key).map(|config| Env::from_pairs(&config.config.env)).unwrap_or_default()
            }
        };
        for one in instructions {
            match &one.body {
                Body::Arg(arguments) => arguments.iter().for_each(|argument| self.argument(one, argument, &mut scope)),
                Body::Env(pairs) => {
                    // All pairs of a line are expanded in the scope before the line.
                    let expanded: Vec<_> = pairs
                        .iter()
                        .filter_map(|pair| {
                            Some((self.expand(&pair.name.text, &scope)?, self.expand(&pair.value.text, &scope)?))
                        })
                        .collect();
                    expanded.iter().for_each(|(name, value)| scope.set_last(&name.text, &value.text));
                }
                _ => {}
            }
        }
        self.scopes.push(scope);
    }

    fn argument(&mut self, one: &Instruction, argument: &Argument, scope: &mut Env) {
        let name = &argument.name.text;
        let given = self.graph.settings.build_args.get(name).cloned();
        let default = argument.default.as_ref().and_then(|word| self.expand(&word.text, scope));
        let own = given.or_else(|| default.map(|expanded| expanded.text));
        let value = own.clone().or_else(|| self.graph.globals.get(name).map(str::to_owned));
        if let Some(value) = &value {
            scope.set_last(name, value);
        }
        if own.is_none() && value.is_some() {
            // The value is that of a global argument, or of a predefined platform argument.
            self.global(name);
        } else {
            self.used.entry(name.clone()).or_insert_with(|| described(one, argument, own));
        }
    }

    /// Marks a global argument as used, and with it the arguments that its default uses.
    fn global(&mut self, name: &str) {
        let mut wanted = vec![name.to_owned()];
        while let Some(name) = wanted.pop() {
            let Some((argument, uses)) = self.globals.get(&name) else { continue };
            if let Entry::Vacant(free) = self.used.entry(name) {
                wanted.extend(uses.iter().cloned());
                free.insert(argument.clone());
            }
        }
    }

    fn finish(self) -> Vec<OutlineArg> {
        let mut all: Vec<OutlineArg> = self.used.into_values().collect();
        all.sort_by_key(|argument| argument.lines.first);
        all
    }
}

fn described(one: &Instruction, argument: &Argument, value: Option<String>) -> OutlineArg {
    let name = argument.name.text.clone();
    OutlineArg {
        description: one.description(&name).map(str::to_owned),
        name,
        value,
        lines: Lines { first: one.line, last: one.last_line },
    }
}

/// Adds the secrets, ssh agents and caches that the `RUN` steps of the plan mount.
fn mounts(dockerfile: &Dockerfile, plan: &Plan, outline: &mut Outline) {
    let mut known: BTreeMap<(u8, String), usize> = BTreeMap::new();
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        let Op::Run(run) = &step.op else { continue };
        let lines = lines_at(dockerfile, step.span.start).unwrap_or(Lines { first: step.line, last: step.line });
        for mount in &run.mounts {
            match &mount.kind {
                MountKind::Secret { id, required, .. } => {
                    wanted(&mut outline.secrets, &mut known, 0, id, *required, lines);
                }
                MountKind::Ssh { id, required, .. } => wanted(&mut outline.ssh, &mut known, 1, id, *required, lines),
                MountKind::Cache(cache) => {
                    if known.insert((2, cache.id.clone()), 0).is_none() {
                        let (id, target) = (cache.id.clone(), cache.target.clone());
                        outline.caches.push(OutlineCache { id, target, lines });
                    }
                }
                MountKind::Bind { .. } | MountKind::Tmpfs { .. } => {}
            }
        }
    }
    outline.secrets.sort_by_key(|one| one.lines.first);
    outline.ssh.sort_by_key(|one| one.lines.first);
    outline.caches.sort_by_key(|one| one.lines.first);
}

fn wanted(
    all: &mut Vec<Wanted>,
    known: &mut BTreeMap<(u8, String), usize>,
    kind: u8,
    id: &str,
    required: bool,
    lines: Lines,
) {
    let at = *known.entry((kind, id.to_owned())).or_insert_with(|| {
        all.push(Wanted { id: id.to_owned(), required: false, lines });
        all.len() - 1
    });
    all[at].required |= required;
}
