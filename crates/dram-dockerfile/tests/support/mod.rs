//! Turns texts into plans, and plans into something to read.

// Each test file uses its own part, and a failure here is a failed test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write;

use dram_dockerfile::{Base, Diagnostic, From, NeedKind, Op, Plan, Settings, Severity, Stage, StageGraph, Step, parse};
use dram_image::ImageConfig;

/// A build for 64-bit Linux with nothing said.
pub fn settings() -> Settings {
    Settings { os: "linux".into(), architecture: "amd64".into(), ..Settings::default() }
}

/// No images but empty ones.
pub fn found() -> BTreeMap<String, ImageConfig> {
    BTreeMap::new()
}

/// Parses and plans `text`; images that `found` does not have are empty.
pub fn run(text: &str, settings: &Settings, found: &BTreeMap<String, ImageConfig>) -> (Option<Plan>, Vec<Diagnostic>) {
    let parsed = parse(text.as_bytes());
    let mut diagnostics = parsed.diagnostics;
    let (graph, more) = StageGraph::new(&parsed.dockerfile, settings);
    diagnostics.extend(more);
    let Some(graph) = graph else { return (None, diagnostics) };
    let mut found = found.clone();
    for need in graph.needs() {
        if matches!(need.kind, NeedKind::Base { .. }) && !settings.contexts.contains(&need.name) {
            found.entry(need.name).or_default();
        }
    }
    let (plan, more) = graph.plan(&found);
    diagnostics.extend(more);
    (plan, diagnostics)
}

/// The plan of a text that is right, as text.
pub fn plan(text: &str) -> String {
    plan_with(text, &settings())
}

/// The same with settings.
pub fn plan_with(text: &str, settings: &Settings) -> String {
    summary(&whole(text, settings, &BTreeMap::new()))
}

/// The plan of a text that is right.
pub fn whole(text: &str, settings: &Settings, found: &BTreeMap<String, ImageConfig>) -> Plan {
    let (plan, diagnostics) = run(text, settings, found);
    plan.unwrap_or_else(|| panic!("{diagnostics:#?}"))
}

/// The target stage of a text that is right.
pub fn target(text: &str) -> Stage {
    let mut plan = whole(text, &settings(), &BTreeMap::new());
    plan.stages.swap_remove(plan.target)
}

/// The errors in a text, as `line: message`.
pub fn errors(text: &str) -> Vec<String> {
    said(text, &settings(), Severity::Error)
}

/// The warnings about a text, as `line: rule: message`.
pub fn warnings(text: &str) -> Vec<String> {
    said(text, &settings(), Severity::Warning)
}

/// What is said about a text.
pub fn said(text: &str, settings: &Settings, severity: Severity) -> Vec<String> {
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

/// A plan as text.
pub fn summary(plan: &Plan) -> String {
    let mut out = String::new();
    for stage in &plan.stages {
        let base = match &stage.base {
            Base::Scratch => "scratch".to_owned(),
            Base::Outside(name) => name.clone(),
            Base::Stage(at) => format!("stage {at}"),
        };
        writeln!(out, "stage {} ({}) on {base}", stage.name, stage.index).unwrap();
        stage.steps.iter().for_each(|step| describe(step, &mut out));
    }
    out
}

fn describe(step: &Step, out: &mut String) {
    writeln!(out, "  {} {}", step.line, step.text).unwrap();
    match &step.op {
        Op::Meta => {}
        Op::Run(run) => {
            let user = if run.user.is_empty() { String::new() } else { format!(" as {}", run.user) };
            writeln!(out, "    run {:?} in {}{user}", run.argv, run.cwd).unwrap();
        }
        Op::Workdir(workdir) => {
            let user = if workdir.user.is_empty() { String::new() } else { format!(" as {}", workdir.user) };
            writeln!(out, "    mkdir {}{user}", workdir.path).unwrap();
        }
        Op::Copy(copy) => {
            let from = match &copy.from {
                From::Scratch => "nothing".to_owned(),
                From::Context => "context".to_owned(),
                From::Named(name) => format!("named {name}"),
                From::Stage(at) => format!("stage {at}"),
            };
            let sources: Vec<&str> = copy.sources.iter().map(|source| source.text.as_str()).collect();
            let chown = copy.chown.as_ref().map(|owner| format!(" chown {owner}")).unwrap_or_default();
            let chmod = copy.chmod.as_ref().map(|mode| format!(" chmod {}", mode.name())).unwrap_or_default();
            let unpack = if copy.unpack == dram_dockerfile::Unpack::No { "" } else { " unpack" };
            writeln!(out, "    copy {from}: {} -> {}{chown}{chmod}{unpack}", sources.join(" "), copy.dest).unwrap();
        }
    }
}
