//! Makes plans from texts, and readable summaries from plans.

// Each test file uses only a part, and a failure here is a failed test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write;

use dram_dockerfile::ignore::IgnoreList;
use dram_dockerfile::lint::{LintInput, check};
use dram_dockerfile::{
    BuildSettings, Diagnostic, ExternalInput, ExternalInputKind, OnbuildTriggers, Severity, StageGraph, parse,
};
use dram_image::ImageConfig;
use dram_plan::{
    CopySourceKind, InputRef, MountedFile, Plan, PlanStage, PlanStep, RunMount, StageBase, StepOp, UnpackPolicy,
};

/// Returns the settings of a build for `linux/amd64` with no options.
pub fn settings() -> BuildSettings {
    BuildSettings { os: "linux".into(), architecture: "amd64".into(), ..BuildSettings::default() }
}

/// Returns no image configs, so that every base image is empty.
pub fn found() -> BTreeMap<String, ImageConfig> {
    BTreeMap::new()
}

/// Parses, plans and checks `text` as a build does; images that are not in `found` have an empty config.
pub fn run(
    text: &str,
    settings: &BuildSettings,
    found: &BTreeMap<String, ImageConfig>,
) -> (Option<Plan>, Vec<Diagnostic>) {
    let mut found = found.clone();
    for need in all_needs(text, settings) {
        if need.kind == ExternalInputKind::Base && !settings.contexts.contains(&need.name) {
            found.entry(need.key).or_default();
        }
    }
    examine(text, settings, &found, None, false)
}

/// Returns the external inputs of all stages, without triggers.
fn all_needs(text: &str, settings: &BuildSettings) -> Vec<ExternalInput> {
    let settings = BuildSettings { all_stages: true, ..settings.clone() };
    let (graph, _) = StageGraph::new(&parse(text.as_bytes()).dockerfile, &settings, &OnbuildTriggers::new());
    graph.map(|graph| graph.external_inputs()).unwrap_or_default()
}

/// Parses, plans and checks `text` with an ignore list; images that are not in `found` are unknown to the checks.
pub fn examine(
    text: &str,
    settings: &BuildSettings,
    found: &BTreeMap<String, ImageConfig>,
    ignore: Option<&str>,
    thorough: bool,
) -> (Option<Plan>, Vec<Diagnostic>) {
    let parsed = parse(text.as_bytes());
    let ignore = ignore.map(|list| IgnoreList::parse(list.as_bytes()).unwrap());
    let mut with_unknown = found.clone();
    let mut triggers = OnbuildTriggers::new();
    let (graph, mut diagnostics) = loop {
        let mut diagnostics = parsed.diagnostics.clone();
        let (graph, more) = StageGraph::new(&parsed.dockerfile, settings, &triggers);
        diagnostics.extend(more);
        let Some(graph) = graph else { break (None, diagnostics) };
        for need in graph.external_inputs() {
            if need.kind == ExternalInputKind::Base && !settings.contexts.contains(&need.name) {
                with_unknown.entry(need.key).or_default();
            }
        }
        let more = with_unknown.iter().map(|(key, config)| (key.clone(), config.config.on_build.clone()));
        let more: OnbuildTriggers = more.filter(|(_, texts)| !texts.is_empty()).collect();
        if more == triggers {
            break (Some(graph), diagnostics);
        }
        triggers = more;
    };
    let plan = graph.as_ref().and_then(|graph| {
        let (plan, more) = graph.plan(&with_unknown);
        diagnostics.extend(more);
        plan
    });
    let subject = LintInput {
        dockerfile: &parsed.dockerfile,
        settings,
        graph: graph.as_ref(),
        plan: plan.as_ref(),
        base_configs: found,
        ignore: ignore.as_ref().map(|ignore| (".dockerignore", ignore)),
        thorough,
    };
    let diagnostics = check(&subject, diagnostics);
    let wrong = diagnostics.iter().any(|one| one.severity == Severity::Error);
    (plan.filter(|_| !wrong), diagnostics)
}

/// Plans a valid text and returns the summary.
pub fn plan(text: &str) -> String {
    plan_with(text, &settings())
}

/// Plans a valid text with settings and returns the summary.
pub fn plan_with(text: &str, settings: &BuildSettings) -> String {
    summary(&valid_plan(text, settings, &BTreeMap::new()))
}

/// Plans a valid text.
pub fn valid_plan(text: &str, settings: &BuildSettings, found: &BTreeMap<String, ImageConfig>) -> Plan {
    let (plan, diagnostics) = run(text, settings, found);
    plan.unwrap_or_else(|| panic!("{diagnostics:#?}"))
}

/// Plans a valid text and returns the target stage.
pub fn target(text: &str) -> PlanStage {
    let mut plan = valid_plan(text, &settings(), &BTreeMap::new());
    plan.stages.swap_remove(plan.target)
}

/// Returns the errors of a text, as `line: message`.
pub fn errors(text: &str) -> Vec<String> {
    messages(text, &settings(), Severity::Error)
}

/// Returns the warnings and the advice of a text, as `line: rule: message`.
pub fn warnings(text: &str) -> Vec<String> {
    let mut all = messages(text, &settings(), Severity::Warning);
    all.extend(messages(text, &settings(), Severity::Advice));
    all.sort();
    all
}

/// Returns the diagnostics of one severity, as `line: rule: message`.
pub fn messages(text: &str, settings: &BuildSettings, severity: Severity) -> Vec<String> {
    let (plan, diagnostics) = run(text, settings, &BTreeMap::new());
    let has_errors = diagnostics.iter().any(|one| one.severity == Severity::Error);
    assert_eq!(plan.is_none(), has_errors, "{diagnostics:#?}");
    let chosen = diagnostics.iter().filter(|one| one.severity == severity);
    let mut lines: Vec<(usize, String)> = chosen
        .map(|one| {
            let line = text[..one.span.start].matches('\n').count() + 1;
            let rule = one.rule.map(|rule| format!("{rule}: ")).unwrap_or_default();
            (line, format!("{line}: {rule}{}", one.message))
        })
        .collect();
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}

/// Formats a plan as a summary.
pub fn summary(plan: &Plan) -> String {
    let mut out = String::new();
    for stage in &plan.stages {
        let base = match &stage.base {
            StageBase::Scratch => "scratch".to_owned(),
            StageBase::External(name) => name.clone(),
            StageBase::Stage(at) => format!("stage {at}"),
        };
        writeln!(out, "stage {} ({}) on {base}", stage.name, stage.index).unwrap();
        stage.steps.iter().for_each(|step| describe(step, &mut out));
    }
    out
}

fn describe(step: &PlanStep, out: &mut String) {
    writeln!(out, "  {} {}", step.origin.line().unwrap(), step.text).unwrap();
    match &step.op {
        StepOp::ConfigOnly => {}
        StepOp::Run(run) => {
            let user = if run.user.is_empty() { String::new() } else { format!(" as {}", run.user) };
            writeln!(out, "    run {:?} in {}{user}", run.argv, run.cwd).unwrap();
            for mount in &run.mounts {
                writeln!(out, "    {}", mounted(mount)).unwrap();
            }
            for script in &run.scripts {
                writeln!(out, "    script {} {:?}", script.path, script.contents).unwrap();
            }
            if run.network.is_some() || run.insecure {
                writeln!(out, "    network {:?} insecure {}", run.network, run.insecure).unwrap();
            }
        }
        StepOp::Workdir(workdir) => {
            let user = if workdir.user.is_empty() { String::new() } else { format!(" as {}", workdir.user) };
            writeln!(out, "    mkdir {}{user}", workdir.path).unwrap();
        }
        StepOp::Copy(copy) => {
            let from = place(&copy.from);
            let sources: Vec<&str> = copy.sources.iter().map(|source| source.text.as_str()).collect();
            let chown = copy.chown.as_ref().map(|owner| format!(" chown {owner}")).unwrap_or_default();
            let chmod = copy.chmod.as_ref().map(|mode| format!(" chmod {}", mode.cache_key_text())).unwrap_or_default();
            let unpack = if copy.unpack == UnpackPolicy::No { "" } else { " unpack" };
            writeln!(out, "    copy {from}: {} -> {}{chown}{chmod}{unpack}", sources.join(" "), copy.dest).unwrap();
            let mut more = |given: bool, what: String| {
                if given {
                    writeln!(out, "      {what}").unwrap();
                }
            };
            more(copy.link, "link".to_owned());
            more(copy.parents, "parents".to_owned());
            more(!copy.exclude.is_empty(), format!("exclude {:?}", copy.exclude));
            more(copy.checksum.is_some(), format!("checksum {:?}", copy.checksum));
            more(copy.keep_git_dir, "keep the git directory".to_owned());
            for source in &copy.sources {
                match &source.kind {
                    CopySourceKind::Path => {}
                    CopySourceKind::Inline(text) => more(true, format!("{} is {text:?}", source.text)),
                    CopySourceKind::Url => more(true, format!("{} is a URL", source.text)),
                    CopySourceKind::Git(_) => more(true, format!("{} is a repository", source.text)),
                }
            }
        }
    }
}

fn place(from: &InputRef) -> String {
    match from {
        InputRef::Scratch => "nothing".to_owned(),
        InputRef::Context => "context".to_owned(),
        InputRef::External(name) => format!("named {name}"),
        InputRef::Stage(at) => format!("stage {at}"),
    }
}

fn mounted(kind: &RunMount) -> String {
    let file = |file: &MountedFile| format!("{} {:o} {}:{}", file.target, file.mode, file.uid, file.gid);
    match kind {
        RunMount::Bind { target, from, source, writable } => {
            format!("bind {source} of {} at {target}{}", place(from), if *writable { " writable" } else { "" })
        }
        RunMount::Cache(cache) => {
            let seed = cache.seed.as_ref().map(|(from, path)| format!(" from {path} of {}", place(from)));
            format!(
                "cache {} at {} {:?}{} {:o} {}:{}{}",
                cache.id,
                cache.target,
                cache.sharing,
                if cache.read_only { " read-only" } else { "" },
                cache.mode,
                cache.uid,
                cache.gid,
                seed.unwrap_or_default()
            )
        }
        RunMount::Secret { id, file: place, env, required } => {
            format!("secret {id} file {:?} env {env:?} required {required}", place.as_ref().map(file))
        }
        RunMount::Ssh { id, file: place, required } => format!("ssh {id} {} required {required}", file(place)),
        RunMount::Tmpfs { target, size } => format!("tmpfs {target} {size:?}"),
    }
}
