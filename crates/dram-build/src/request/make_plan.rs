//! Turns a Dockerfile into a plan: resolves its inputs until there are no new ones, plans, and checks the lint rules.

use std::collections::BTreeMap;

use dram_dockerfile::lint::{self, LintInput};
use dram_dockerfile::{
    BuildSettings, Diagnostic, ExternalInput, OnbuildTriggers, ParsedDockerfile, PlatformSpec, Severity, StageGraph,
};
use dram_image::{ImageConfig, ImagePlatform};
use dram_plan::Plan;

use super::{BuildFailure, BuildRequest, InputError, InputFinder, image_platform};
use crate::ResolvedInput;

/// A plan with its resolved inputs.
pub(super) struct PlannedBuild {
    pub(super) plan: Plan,
    pub(super) inputs: BTreeMap<String, ResolvedInput>,
    pub(super) warnings: Vec<Diagnostic>,
}

/// Parses the Dockerfile of the request, resolves its inputs, and makes the plan.
pub(super) fn make_plan(request: &BuildRequest, finder: &dyn InputFinder) -> Result<PlannedBuild, BuildFailure> {
    let parsed = dram_dockerfile::parse(&request.dockerfile.bytes);
    let settings = request.settings()?;
    let mut resolver = InputResolver { request, settings: &settings, finder, contexts: BTreeMap::new() };
    let mut inputs = BTreeMap::new();
    let mut lookup = |needs: &[ExternalInput], said: &[Diagnostic]| {
        if has_errors(said) {
            return Err(BuildFailure::Dockerfile(errors_of(said.to_vec())));
        }
        inputs = resolver.resolve_all(needs, said)?;
        Ok(image_configs(&inputs))
    };
    let ResolvedStages { graph, configs, mut diagnostics } = resolve_stages(&parsed, &settings, &mut lookup)?;
    let Some(graph) = graph.filter(|_| !has_errors(&diagnostics)) else {
        return Err(BuildFailure::Dockerfile(errors_of(diagnostics)));
    };
    let (plan, more) = graph.plan(&configs);
    diagnostics.extend(more);
    let subject = LintInput {
        dockerfile: &parsed.dockerfile,
        settings: &settings,
        graph: Some(&graph),
        plan: plan.as_ref(),
        base_configs: &configs,
        ignore: request.dockerfile.ignore.as_ref().map(|(name, ignore)| (name.as_str(), &**ignore)),
        thorough: false,
    };
    let warnings = lint::check(&subject, diagnostics);
    match plan.filter(|_| !has_errors(&warnings)) {
        Some(plan) => Ok(PlannedBuild { plan, inputs, warnings }),
        None => Err(BuildFailure::Dockerfile(errors_of(warnings))),
    }
}

/// The stage graph of a Dockerfile, as far as its inputs are known.
#[derive(Debug)]
pub struct ResolvedStages {
    /// The graph; `None` if the Dockerfile has errors.
    pub graph: Option<StageGraph>,
    /// The configs of the images, by the keys of their inputs.
    pub configs: BTreeMap<String, ImageConfig>,
    /// Diagnostics of the parser and the graph.
    pub diagnostics: Vec<Diagnostic>,
}

/// Returns the configs of images, by the keys of their inputs. It gets the inputs of the stages and the diagnostics so
/// far.
type LookupConfigs<'a, E> = dyn FnMut(&[ExternalInput], &[Diagnostic]) -> Result<BTreeMap<String, ImageConfig>, E> + 'a;

/// Makes the stage graph. `ONBUILD` triggers of an image may need more inputs, so this is repeated until there are no
/// new ones.
///
/// # Errors
/// Returns an error of `lookup`.
pub fn resolve_stages<E>(
    parsed: &ParsedDockerfile,
    settings: &BuildSettings,
    lookup: &mut LookupConfigs<'_, E>,
) -> Result<ResolvedStages, E> {
    let mut triggers = OnbuildTriggers::new();
    loop {
        let mut diagnostics = parsed.diagnostics.clone();
        let (graph, more) = StageGraph::new(&parsed.dockerfile, settings, &triggers);
        diagnostics.extend(more);
        let Some(graph) = graph else {
            return Ok(ResolvedStages { graph: None, configs: BTreeMap::new(), diagnostics });
        };
        let configs = lookup(&graph.external_inputs(), &diagnostics)?;
        let texts = configs.iter().map(|(key, config)| (key.clone(), config.config.on_build.clone()));
        let found: OnbuildTriggers = texts.filter(|(_, texts)| !texts.is_empty()).collect();
        if found == triggers {
            return Ok(ResolvedStages { graph: Some(graph), configs, diagnostics });
        }
        triggers = found;
    }
}

/// Returns true if the build is refused because of one of `diagnostics`.
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|one| one.severity == Severity::Error)
}

/// Returns the errors of `diagnostics` in the order of the text. The help of a warning at the same position may be the
/// right one, so it is added.
pub fn errors_of(diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let (mut errors, warnings): (Vec<_>, Vec<_>) =
        diagnostics.into_iter().partition(|one| one.severity == Severity::Error);
    for warning in warnings {
        if let Some(error) = errors.iter_mut().find(|error| error.span == warning.span) {
            error.helps.splice(0..0, warning.helps);
        }
    }
    errors.sort_by_key(|error| error.span.start);
    errors
}

fn image_configs(inputs: &BTreeMap<String, ResolvedInput>) -> BTreeMap<String, ImageConfig> {
    let config = |(key, input): (&String, &ResolvedInput)| match input {
        ResolvedInput::Image(image) => Some((key.clone(), image.config.value().clone())),
        ResolvedInput::Context(_) => None,
    };
    inputs.iter().filter_map(config).collect()
}

/// Resolves names after `FROM` and `--from` that are no stages.
struct InputResolver<'a> {
    request: &'a BuildRequest,
    settings: &'a BuildSettings,
    finder: &'a dyn InputFinder,
    /// Named contexts that are already resolved, by value: nothing is fetched twice.
    contexts: BTreeMap<String, ResolvedInput>,
}

impl InputResolver<'_> {
    /// Resolves every input. Those that are not found are errors at their positions.
    fn resolve_all(
        &mut self,
        needs: &[ExternalInput],
        said: &[Diagnostic],
    ) -> Result<BTreeMap<String, ResolvedInput>, BuildFailure> {
        let mut inputs = BTreeMap::new();
        let mut missing = Vec::new();
        let is_image = |need: &&ExternalInput| {
            let name = self.settings.context_for(&need.name);
            name.is_none_or(|name| !self.request.named_contexts.contains_key(name))
        };
        let images = needs.iter().filter(is_image);
        let images = images.map(|need| (need.name.clone(), stage_platform(need.platform.as_deref(), self.settings)));
        self.finder.prepare_images(&images.collect::<Vec<_>>());
        for need in needs {
            let name = self.settings.context_for(&need.name);
            let found = match name.and_then(|name| self.request.named_contexts.get(name)) {
                Some(value) => Ok(Some(self.resolve_context(value)?)),
                None => self.find_image(need),
            };
            match found {
                Ok(Some(input)) => drop(inputs.insert(need.key.clone(), input)),
                Ok(None) => missing.push(input_diagnostic(need, &self.finder.unknown_image(&need.name)?)),
                Err(error) => missing.push(input_diagnostic(need, &error)),
            }
        }
        if missing.is_empty() {
            return Ok(inputs);
        }
        Err(BuildFailure::MissingInputs(errors_of(said.iter().cloned().chain(missing).collect())))
    }

    fn find_image(&self, need: &ExternalInput) -> Result<Option<ResolvedInput>, InputError> {
        let platform = stage_platform(need.platform.as_deref(), self.settings);
        let image = self.finder.find_image(&need.name, &platform)?;
        Ok(image.map(|image| ResolvedInput::Image(Box::new(image))))
    }

    fn resolve_context(&mut self, value: &str) -> Result<ResolvedInput, InputError> {
        if let Some(known) = self.contexts.get(value) {
            return Ok(known.clone());
        }
        let found = self.finder.resolve_context(value)?;
        self.contexts.insert(value.to_owned(), found.clone());
        Ok(found)
    }
}

/// Returns the platform `text` of a stage, or that of the build if there is none.
pub fn stage_platform(text: Option<&str>, settings: &BuildSettings) -> ImagePlatform {
    match text.and_then(PlatformSpec::parse) {
        Some(given) => image_platform(&given),
        None => ImagePlatform {
            architecture: settings.architecture.clone(),
            os: settings.os.clone(),
            variant: settings.variant.clone(),
        },
    }
}

/// Returns a diagnostic about an input that cannot be resolved, at its position.
fn input_diagnostic(need: &ExternalInput, error: &InputError) -> Diagnostic {
    let mut causes = error.causes.iter().cloned();
    let mut diagnostic = Diagnostic::error(need.span.clone(), causes.next().unwrap_or_default());
    diagnostic.notes.extend(causes);
    diagnostic.helps.clone_from(&error.helps);
    diagnostic
}
