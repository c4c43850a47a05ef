//! The stages of a Dockerfile, what each stands on and copies from, and which of them a target needs.
//!
//! Follows BuildKit's `dockerfile2llb/convert.go`: `FROM` finds earlier stages by their exact lower-case name,
//! `COPY --from` by number, or by name in whatever case; both may only look back, so there are no cycles.

mod draft;
mod resolve;

use std::collections::BTreeMap;
use std::ops::Range;

use dram_image::ImageConfig;

use crate::ast::{Directives, Dockerfile, Instruction, Keyword};
use crate::diagnostic::{Diagnostic, Report, quote};
use crate::env::Env;
use crate::plan::{Plan, make};
use crate::settings::Settings;

use resolve::Resolver;

/// The stages that a target needs, with everything known that needs no image.
#[derive(Debug, Clone)]
pub struct StageGraph {
    pub(crate) settings: Settings,
    pub(crate) directives: Directives,
    /// `ARG` before the first `FROM`, and the platform's arguments.
    pub(crate) globals: Env,
    /// Needed stages, in the order of the file; all of them where the settings want that.
    pub(crate) stages: Vec<Node>,
}

/// One needed stage.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// The name as written, or `stage-N`.
    pub(crate) name: String,
    /// The place among all stages of the file.
    pub(crate) index: usize,
    pub(crate) base: Ground,
    pub(crate) from: Instruction,
    pub(crate) base_span: Range<usize>,
    /// Each instruction, and what each of its [`froms`](Instruction::froms) means.
    pub(crate) steps: Vec<(Instruction, Vec<Origin>)>,
}

/// What a stage stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ground {
    Scratch,
    /// A place in the list of stages.
    Stage(usize),
    Outside {
        name: String,
        /// The name of its [`Need`].
        key: String,
        /// The platform, when it is not the one built for.
        platform: Option<String>,
    },
}

/// The triggers of the images that stages stand on, under the keys of their needs.
pub type Triggers = BTreeMap<String, Vec<String>>;

/// What `COPY --from` and `from` of a mount mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A place in the list of stages.
    Stage(usize),
    Outside(String),
    Scratch,
}

/// Something from outside that needed stages use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// What the plan calls it: the name, with the platform behind it when that is not the one built for.
    pub key: String,
    /// The name as written, variables expanded.
    pub name: String,
    /// The platform, when it is not the one built for.
    pub platform: Option<String>,
    /// What it is needed for.
    pub kind: NeedKind,
    /// Where it is needed first.
    pub span: Range<usize>,
}

/// What something from outside is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeedKind {
    /// A stage stands on it: its files and its configuration.
    Base,
    /// Files are copied from it, or a command sees them.
    Files,
}

impl StageGraph {
    /// Reads the stages of `dockerfile` and keeps those that the target needs.
    ///
    /// Resolves `ARG` before the first `FROM`, bases, `COPY --from` and the target. Returns no graph when one of them
    /// is wrong, or when the file already had errors; the diagnostics are all of those that were not told by
    /// [`parse`](crate::parse()). Where there is no graph, what can be told of the plan's errors is among them.
    ///
    /// Images may bring `triggers`, which are only known when their configurations are: the graph is then made again,
    /// until [`needs`](Self::needs) leads to no new ones.
    pub fn new(
        dockerfile: &Dockerfile,
        settings: &Settings,
        triggers: &Triggers,
    ) -> (Option<StageGraph>, Vec<Diagnostic>) {
        let mut report = Report::default();
        let stages = split(&dockerfile.instructions);
        let globals = Resolver::globals(dockerfile, settings, &stages, &mut report);
        let resolver = Resolver::new(dockerfile, settings, &globals, &stages, triggers);
        let nodes = resolver.nodes(&mut report);
        let target = resolver.target(&mut report).filter(|_| nodes.len() == stages.len());
        let nodes = target.map(|target| if settings.all_stages { nodes } else { prune(nodes, target) });
        let graph = nodes.map(|stages| StageGraph {
            settings: settings.clone(),
            directives: dockerfile.directives.clone(),
            stages,
            globals,
        });
        let sound = dockerfile.sound && !report.has_errors();
        match graph {
            Some(graph) if sound => (Some(graph), report.into_diagnostics()),
            Some(graph) => {
                draft::errors(graph, &mut report);
                (None, report.into_diagnostics())
            }
            None => (None, report.into_diagnostics()),
        }
    }

    /// Every image or named context that the needed stages use, each once, in the order of the file.
    pub fn needs(&self) -> Vec<Need> {
        let mut needs: Vec<Need> = Vec::new();
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        for node in &self.stages {
            if let Ground::Outside { name, key, platform } = &node.base {
                match known.get(key.as_str()) {
                    Some(at) => needs[*at].kind = NeedKind::Base,
                    None => {
                        known.insert(key, needs.len());
                        let (key, name, platform) = (key.clone(), name.clone(), platform.clone());
                        needs.push(Need { key, name, platform, kind: NeedKind::Base, span: node.base_span.clone() });
                    }
                }
            }
            for (instruction, origins) in &node.steps {
                for (origin, from) in origins.iter().zip(instruction.froms()) {
                    let Origin::Outside(name) = origin else { continue };
                    if !known.contains_key(name.as_str()) {
                        known.insert(name, needs.len());
                        let (key, name) = (name.clone(), name.clone());
                        needs.push(Need { key, name, platform: None, kind: NeedKind::Files, span: from.span });
                    }
                }
            }
        }
        needs
    }

    /// The steps of the needed stages, given the configuration of each image in [`needs`](Self::needs) under its
    /// key. A named context that is a directory has none and is left out.
    ///
    /// Returns no plan when an instruction is wrong; the diagnostics tell all that are.
    pub fn plan(&self, found: &BTreeMap<String, ImageConfig>) -> (Option<Plan>, Vec<Diagnostic>) {
        make(self, found)
    }
}

/// What the plan calls an image of a platform that is not the one built for, or any other.
pub(crate) fn key(name: &str, platform: Option<&str>) -> String {
    platform.map_or_else(|| name.to_owned(), |platform| format!("{name} for {platform}"))
}

/// Where each stage starts among the instructions, and where it ends.
pub(crate) fn split(instructions: &[Instruction]) -> Vec<Range<usize>> {
    let starts = instructions.iter().enumerate().filter(|(_, one)| one.kind == Some(Keyword::From));
    let starts: Vec<usize> = starts.map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([instructions.len()]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

/// Keeps the stages that `target` reaches and renumbers the references between them.
fn prune(nodes: Vec<Node>, target: usize) -> Vec<Node> {
    let mut needed = vec![false; nodes.len()];
    needed[target] = true;
    // References only look back, so one pass from the end reaches everything.
    for at in (0..=target).rev() {
        if needed[at] {
            nodes[at].references().into_iter().for_each(|reference| needed[reference] = true);
        }
    }
    let mut places = vec![0; nodes.len()];
    let mut kept: Vec<Node> = Vec::new();
    for (at, mut node) in nodes.into_iter().enumerate().filter(|(at, _)| needed[*at]) {
        node.renumber(&places);
        places[at] = kept.len();
        kept.push(node);
    }
    kept
}

impl Node {
    /// The places of the stages it uses, in the list that it is in.
    pub(crate) fn references(&self) -> Vec<usize> {
        let base = match &self.base {
            Ground::Stage(at) => Some(*at),
            Ground::Scratch | Ground::Outside { .. } => None,
        };
        let origins = self.steps.iter().flat_map(|(_, origins)| origins).filter_map(|origin| match origin {
            Origin::Stage(at) => Some(*at),
            Origin::Outside(_) | Origin::Scratch => None,
        });
        base.into_iter().chain(origins).collect()
    }

    fn renumber(&mut self, places: &[usize]) {
        if let Ground::Stage(at) = &mut self.base {
            *at = places[*at];
        }
        for origin in self.steps.iter_mut().flat_map(|(_, origins)| origins) {
            if let Origin::Stage(at) = origin {
                *at = places[*at];
            }
        }
    }
}

/// An error about a reference to a stage.
pub(crate) fn reference_error(span: Range<usize>, what: &str, name: &str, problem: &str) -> Diagnostic {
    Diagnostic::error(span, format!("{what} {} {problem}", quote(name)))
}
