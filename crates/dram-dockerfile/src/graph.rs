//! The graph of the stages of a Dockerfile: their bases, the inputs of their copies, and those that a target needs.
//!
//! Follows BuildKit's `dockerfile2llb/convert.go`: `FROM` finds earlier stages by their exact lower-case name,
//! `COPY --from` by number, or by name in any case. Both refer only to earlier stages, so there are no cycles.

mod partial_plan;
mod resolve;

use std::collections::BTreeMap;
use std::ops::Range;

use dram_image::ImageConfig;
use dram_plan::{InputRef, Plan, StageBase};

use crate::ast::{Dockerfile, DockerfileInstruction, Keyword, ParserDirectives};
use crate::diagnostic::{Diagnostic, DiagnosticCollector, quote};
use crate::ordered_env::OrderedEnv;
use crate::plan::plan_stages;
use crate::settings::BuildSettings;

use resolve::StageResolver;

/// The stages that a target needs, resolved as far as possible without the configs of images.
#[derive(Debug, Clone)]
pub struct StageGraph {
    pub(crate) settings: BuildSettings,
    pub(crate) directives: ParserDirectives,
    /// The global arguments: `ARG` before the first `FROM`, and the predefined platform arguments.
    pub(crate) globals: OrderedEnv,
    /// The needed stages, in file order; all stages when the settings say so.
    pub(crate) stages: Vec<StageNode>,
}

/// One needed stage.
#[derive(Debug, Clone)]
pub(crate) struct StageNode {
    /// The name as written, or `stage-N`.
    pub(crate) name: String,
    /// The index among all stages of the file.
    pub(crate) index: usize,
    /// The base; an external one by the key of its [`ExternalInput`].
    pub(crate) base: StageBase,
    /// The name and platform of an external base; the name is empty for other bases.
    pub(crate) base_name: BaseName,
    pub(crate) from: DockerfileInstruction,
    pub(crate) base_span: Range<usize>,
    /// The instructions, each with the resolved inputs of its [`from_words`](DockerfileInstruction::from_words).
    pub(crate) steps: Vec<(DockerfileInstruction, Vec<InputRef>)>,
}

/// The name of an external base as written, variables expanded, and its platform.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BaseName {
    pub(crate) name: String,
    /// The platform, when it is not the target platform.
    pub(crate) platform: Option<String>,
}

/// The `ONBUILD` triggers of the base images, by the keys of their [`ExternalInput`]s.
pub type OnbuildTriggers = BTreeMap<String, Vec<String>>;

/// An image or a named context that the needed stages use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalInput {
    /// The key in the plan: the name, followed by the platform when that is not the target platform.
    pub key: String,
    /// The name as written, variables expanded.
    pub name: String,
    /// The platform, when it is not the target platform.
    pub platform: Option<String>,
    /// The use of the input.
    pub kind: ExternalInputKind,
    /// The byte range of its first use.
    pub span: Range<usize>,
}

/// The use of an external input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExternalInputKind {
    /// It is the base of a stage: its layers and its config are needed.
    Base,
    /// Its files are copied or mounted.
    Files,
}

impl StageGraph {
    /// Resolves the stages of `dockerfile` and keeps those that the target needs.
    ///
    /// Resolves `ARG` before the first `FROM`, bases, `COPY --from` and the target. Returns no graph when one of them
    /// is invalid, or when the file already had errors. The diagnostics do not repeat those of
    /// [`parse`](crate::parse()); without a graph, they include the errors of the plan that can be found anyway.
    ///
    /// Base images may have `triggers`, which are known only after their configs are. Callers then make the graph
    /// again, until [`external_inputs`](Self::external_inputs) leads to no new ones.
    pub fn new(
        dockerfile: &Dockerfile,
        settings: &BuildSettings,
        triggers: &OnbuildTriggers,
    ) -> (Option<StageGraph>, Vec<Diagnostic>) {
        let mut report = DiagnosticCollector::default();
        let stages = stage_ranges(&dockerfile.instructions);
        let globals = StageResolver::globals(dockerfile, settings, &stages, &mut report);
        let resolver = StageResolver::new(dockerfile, settings, &globals, &stages, triggers);
        let nodes = resolver.resolve_stages(&mut report);
        let target = resolver.resolve_target(&mut report).filter(|_| nodes.len() == stages.len());
        let nodes = target.map(|target| if settings.all_stages { nodes } else { keep_needed(nodes, target) });
        let graph = nodes.map(|stages| StageGraph {
            settings: settings.clone(),
            directives: dockerfile.directives.clone(),
            stages,
            globals,
        });
        let sound = dockerfile.is_valid && !report.has_errors();
        match graph {
            Some(graph) if sound => (Some(graph), report.into_diagnostics()),
            Some(graph) => {
                partial_plan::report_plan_errors(graph, &mut report);
                (None, report.into_diagnostics())
            }
            None => (None, report.into_diagnostics()),
        }
    }

    /// Returns every image or named context that the needed stages use, each once, in file order.
    pub fn external_inputs(&self) -> Vec<ExternalInput> {
        let mut needs: Vec<ExternalInput> = Vec::new();
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        for node in &self.stages {
            if let StageBase::External(key) = &node.base {
                match known.get(key.as_str()) {
                    Some(at) => needs[*at].kind = ExternalInputKind::Base,
                    None => {
                        known.insert(key, needs.len());
                        let (key, BaseName { name, platform }) = (key.clone(), node.base_name.clone());
                        needs.push(ExternalInput {
                            key,
                            name,
                            platform,
                            kind: ExternalInputKind::Base,
                            span: node.base_span.clone(),
                        });
                    }
                }
            }
            for (instruction, origins) in &node.steps {
                for (origin, from) in origins.iter().zip(instruction.from_words()) {
                    let InputRef::External(name) = origin else { continue };
                    if !known.contains_key(name.as_str()) {
                        known.insert(name, needs.len());
                        let (key, name) = (name.clone(), name.clone());
                        needs.push(ExternalInput {
                            key,
                            name,
                            platform: None,
                            kind: ExternalInputKind::Files,
                            span: from.span,
                        });
                    }
                }
            }
        }
        needs
    }

    /// Plans the needed stages, given the config of each image in [`external_inputs`](Self::external_inputs) by its
    /// key. A named context that is a directory has no config and is left out.
    ///
    /// Returns no plan when an instruction is invalid; the diagnostics report all errors.
    pub fn plan(&self, found: &BTreeMap<String, ImageConfig>) -> (Option<Plan>, Vec<Diagnostic>) {
        plan_stages(self, found)
    }
}

/// Returns the key of an external input: its name, followed by the platform if there is one.
pub(crate) fn external_key(name: &str, platform: Option<&str>) -> String {
    platform.map_or_else(|| name.to_owned(), |platform| format!("{name} for {platform}"))
}

/// Returns the range of instructions of each stage.
pub(crate) fn stage_ranges(instructions: &[DockerfileInstruction]) -> Vec<Range<usize>> {
    let starts = instructions.iter().enumerate().filter(|(_, one)| one.kind == Some(Keyword::From));
    let starts: Vec<usize> = starts.map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([instructions.len()]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

/// Keeps the stages that `target` depends on and renumbers the references between them.
fn keep_needed(nodes: Vec<StageNode>, target: usize) -> Vec<StageNode> {
    let mut needed = vec![false; nodes.len()];
    needed[target] = true;
    // References point only to earlier stages, so one pass from the end reaches all of them.
    for at in (0..=target).rev() {
        if needed[at] {
            nodes[at].stage_references().into_iter().for_each(|reference| needed[reference] = true);
        }
    }
    let mut places = vec![0; nodes.len()];
    let mut kept: Vec<StageNode> = Vec::new();
    for (at, mut node) in nodes.into_iter().enumerate().filter(|(at, _)| needed[*at]) {
        node.renumber(&places);
        places[at] = kept.len();
        kept.push(node);
    }
    kept
}

impl StageNode {
    /// Returns the index of the stage it is based on, in the list that contains it.
    pub(crate) fn stage_base(&self) -> Option<usize> {
        match &self.base {
            StageBase::Stage(at) => Some(*at),
            StageBase::Scratch | StageBase::External(_) => None,
        }
    }

    /// Returns the indexes of the stages it depends on, in the list that contains it: the base first, if it is one.
    pub(crate) fn stage_references(&self) -> Vec<usize> {
        let base = self.stage_base();
        let origins = self.steps.iter().flat_map(|(_, origins)| origins).filter_map(|origin| match origin {
            InputRef::Stage(at) => Some(*at),
            InputRef::Context | InputRef::External(_) | InputRef::Scratch => None,
        });
        base.into_iter().chain(origins).collect()
    }

    fn renumber(&mut self, places: &[usize]) {
        if let StageBase::Stage(at) = &mut self.base {
            *at = places[*at];
        }
        for origin in self.steps.iter_mut().flat_map(|(_, origins)| origins) {
            if let InputRef::Stage(at) = origin {
                *at = places[*at];
            }
        }
    }
}

/// Makes an error about a reference to a stage.
pub(crate) fn reference_error(span: Range<usize>, what: &str, name: &str, problem: &str) -> Diagnostic {
    Diagnostic::error(span, format!("{what} {} {problem}", quote(name)))
}
