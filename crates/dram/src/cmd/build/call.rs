//! `dram build --call`: checks or describes a Dockerfile without building it.

mod json;
mod text;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::process::ExitCode;

use dram_build::request::{ResolvedStages, errors_of, has_errors, plan_settings, resolve_stages, stage_platform};
use dram_build::{CancelToken, ResolvedInput};
use dram_dockerfile::lint::{self, LintInput};
use dram_dockerfile::outline;
use dram_dockerfile::suggest::nearest_name;
use dram_dockerfile::{
    BuildSettings, Diagnostic, ExternalInput, ExternalInputKind, ParsedDockerfile, Severity, StageGraph,
};
use dram_image::ImageConfig;
use dram_plan::Plan;
use dram_store::Store;

use super::args_and_labels::parse_build_args;
use super::dockerfile_source::{DockerfileSource, resolve_context};
use super::platform;
use super::remote_context::ContextFetcher;
use super::resolve_inputs::{parse_named_contexts, resolve_named_image};
use super::run_inputs;
use crate::ambient::{self, AmbientContext};
use crate::cli;
use crate::cmd::print_stdout;
use crate::failure::Failure;
use crate::image_lookup;

/// The request of `--call` or `--check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallRequest {
    method: CallMethod,
    /// Print JSON.
    json: bool,
    /// Exit with 1 for advice too.
    advice_counts: bool,
    /// Exit with 0, whatever the checks find.
    ignore_status: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallMethod {
    Build,
    Check,
    Outline,
    Targets,
}

impl CallRequest {
    const BUILD: CallRequest =
        CallRequest { method: CallMethod::Build, json: false, advice_counts: false, ignore_status: false };

    /// The request of the options; `None` if they ask for a build.
    pub(crate) fn from_args(args: &cli::BuildCommandArgs) -> Result<Option<CallRequest>, Failure> {
        let mut call = match &args.call {
            Some(text) => CallRequest::parse(text)?,
            None => CallRequest::BUILD,
        };
        match args.check {
            None | Some(cli::CheckMode::False) => {}
            Some(cli::CheckMode::True) => call.method = CallMethod::Check,
            Some(cli::CheckMode::Advice) => {
                call = CallRequest { method: CallMethod::Check, advice_counts: true, ..call }
            }
        }
        if args.json && call.method == CallMethod::Build {
            let failure = Failure::usage("`--json` is for what is said without building");
            return Err(failure.help("add --check, --call=outline or --call=targets"));
        }
        call.json |= args.json;
        Ok(Some(call).filter(|call| call.method != CallMethod::Build))
    }

    /// Parses `METHOD[,format=json][,ignorestatus=true]`, as buildx does, and `advice`.
    fn parse(text: &str) -> Result<CallRequest, Failure> {
        let mut call = CallRequest::BUILD;
        for part in text.split(',') {
            match part {
                "build" => call.method = CallMethod::Build,
                "check" | "lint" => call.method = CallMethod::Check,
                "outline" => call.method = CallMethod::Outline,
                "targets" => call.method = CallMethod::Targets,
                "advice" => call.advice_counts = true,
                "format=json" => call.json = true,
                "format=text" => call.json = false,
                "ignorestatus" | "ignorestatus=true" => call.ignore_status = true,
                "ignorestatus=false" => call.ignore_status = false,
                other => {
                    let known = [
                        "build",
                        "check",
                        "outline",
                        "targets",
                        "advice",
                        "format=json",
                        "format=text",
                        "ignorestatus",
                    ];
                    let failure = Failure::usage(format!("`--call={text}` has the unknown part `{other}`"));
                    return Err(match nearest_name(other, known) {
                        Some(meant) => failure.help(format!("did you mean `{meant}`?")),
                        None => failure.help("write `check`, `outline` or `targets`, and `,format=json` behind it"),
                    });
                }
            }
        }
        Ok(call)
    }
}

/// Answers a request. The exit code of a check is 1 where BuildKit's is: with errors, and with warnings of a rule. If it is
/// asked for, advice counts too.
pub(crate) fn answer_call(
    ambient: &AmbientContext,
    args: &cli::BuildCommandArgs,
    call: CallRequest,
) -> Result<ExitCode, Failure> {
    let build_args = parse_build_args(args)?;
    let store = OnceCell::new();
    let open = || match store.get() {
        Some(store) => Ok(store),
        None => Store::open_writable(ambient.store()?).map(|new| store.get_or_init(|| new)).map_err(Failure::from),
    };
    let bring = ContextFetcher {
        store: &open,
        needs_files: false,
        ssh_agent: run_inputs::default_agent(&args.ssh)?.or_else(ambient::ssh_agent),
        cancel: CancelToken::default(),
    };
    let (_, source) = resolve_context(args, &build_args, &bring)?;
    let parsed = dram_dockerfile::parse(&source.bytes);
    if call.method == CallMethod::Targets {
        if has_errors(&parsed.diagnostics) {
            return Err(dockerfile_failure(&source, parsed.diagnostics));
        }
        let targets = outline::targets(&parsed.dockerfile);
        print_stdout(&if call.json { json::targets(&targets, &source) } else { text::targets(&targets) });
        return Ok(ExitCode::SUCCESS);
    }
    let contexts = parse_named_contexts(args)?;
    let platform = platform::target_platform(args)?;
    let mut settings =
        plan_settings(args.target.as_deref(), &build_args, &contexts, (&platform, &platform::host_platform()));
    settings.all_stages = call.method == CallMethod::Check && settings.target.is_none();
    let known = |needs: &[ExternalInput]| known_configs(ambient, needs, &settings, &contexts);
    let seen = DockerfileAnalysis::new(&parsed, &settings, &known)?;
    if call.method == CallMethod::Outline {
        let (Some(graph), Some(plan)) = (&seen.graph, &seen.plan) else {
            return Err(dockerfile_failure(&source, seen.diagnostics));
        };
        let outline = outline::outline(&parsed.dockerfile, graph, plan, &seen.configs);
        print_stdout(&if call.json { json::outline(&outline, &source) } else { text::outline(&outline) });
        return Ok(ExitCode::SUCCESS);
    }
    let remarks = seen.check(&parsed, &settings, &source);
    let counts = |one: &Diagnostic| match one.severity {
        Severity::Error => true,
        Severity::Warning => one.rule.is_some() || call.advice_counts,
        Severity::Advice => call.advice_counts,
    };
    let fine = !remarks.iter().any(counts) || call.ignore_status;
    print_stdout(&match call.json {
        true => json::check(&parsed.dockerfile, remarks, &source),
        false => text::check(remarks, &source),
    });
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The failure with the errors of `diagnostics`.
fn dockerfile_failure(source: &DockerfileSource, diagnostics: Vec<Diagnostic>) -> Failure {
    Failure::text(source.name.clone(), source.text.clone(), errors_of(diagnostics))
}

/// The results of reading a Dockerfile without building it.
struct DockerfileAnalysis {
    graph: Option<StageGraph>,
    plan: Option<Plan>,
    /// The configs of the images that are in the store.
    configs: BTreeMap<String, ImageConfig>,
    diagnostics: Vec<Diagnostic>,
}

type ImageConfigLookup<'k> = &'k dyn Fn(&[ExternalInput]) -> Result<BTreeMap<String, ImageConfig>, Failure>;

impl DockerfileAnalysis {
    /// Reads as much of the Dockerfile as is possible without the images that are not in the store.
    fn new(
        parsed: &ParsedDockerfile,
        settings: &BuildSettings,
        known: ImageConfigLookup<'_>,
    ) -> Result<DockerfileAnalysis, Failure> {
        let ResolvedStages { graph, configs, mut diagnostics } =
            resolve_stages(parsed, settings, &mut |needs, _| known(needs))?;
        let Some(graph) = graph else { return Ok(DockerfileAnalysis { graph, plan: None, configs, diagnostics }) };
        let mut bases = configs.clone();
        for need in graph.external_inputs().into_iter().filter(|need| need.kind == ExternalInputKind::Base) {
            if settings.context_for(&need.name).is_none() {
                bases.entry(need.key).or_default();
            }
        }
        let (plan, more) = graph.plan(&bases);
        diagnostics.extend(more);
        Ok(DockerfileAnalysis { graph: Some(graph), plan, configs, diagnostics })
    }

    fn check(self, parsed: &ParsedDockerfile, settings: &BuildSettings, source: &DockerfileSource) -> Vec<Diagnostic> {
        let subject = LintInput {
            dockerfile: &parsed.dockerfile,
            settings,
            graph: self.graph.as_ref(),
            plan: self.plan.as_ref(),
            base_configs: &self.configs,
            ignore: source.ignore.as_ref().map(|(name, ignore)| (name.as_str(), &**ignore)),
            thorough: true,
        };
        lint::check(&subject, self.diagnostics)
    }
}

/// Returns the configs of the images that are in the store. Nothing is fetched, and no store is created.
fn known_configs(
    ambient: &AmbientContext,
    needs: &[ExternalInput],
    settings: &BuildSettings,
    contexts: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, ImageConfig>, Failure> {
    let mut found = BTreeMap::new();
    let Some(store) = ambient.store().ok().filter(|at| at.root.exists()).and_then(|at| Store::open(at).ok()) else {
        return Ok(found);
    };
    for need in needs {
        let image = match settings.context_for(&need.name).and_then(|name| contexts.get(name)) {
            Some(value) => match resolve_named_image(&store, value)? {
                Some(ResolvedInput::Image(image)) => Some(*image),
                Some(ResolvedInput::Context(_)) | None => None,
            },
            // An image that cannot be read counts as missing: a build reports it.
            None => {
                let platform = stage_platform(need.platform.as_deref(), settings);
                image_lookup::find_image(&store, &need.name, &platform).ok()
            }
        };
        if let Some(image) = image {
            found.insert(need.key.clone(), image.config.value().clone());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_option_is_parsed_and_typos_get_help() {
        let table = [
            ("check", CallMethod::Check, false, false, false),
            ("lint,format=json", CallMethod::Check, true, false, false),
            ("check,advice", CallMethod::Check, false, true, false),
            ("format=json,outline", CallMethod::Outline, true, false, false),
            ("targets,format=text,ignorestatus=true", CallMethod::Targets, false, false, true),
            ("build", CallMethod::Build, false, false, false),
        ];
        for (text, method, json, advice_counts, ignore_status) in table {
            let expected = CallRequest { method, json, advice_counts, ignore_status };
            assert_eq!(CallRequest::parse(text).unwrap(), expected, "{text}");
        }
        assert_eq!(CallRequest::parse("chekc").unwrap_err().helps, ["did you mean `check`?"]);
        assert!(CallRequest::parse("").is_err());
    }
}
