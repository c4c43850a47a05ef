//! Answers as JSON, with BuildKit's fields and more: `docs/checks.md` describes them.

use std::ops::Range;

use dram_dockerfile::lint::{LineRange, lines_of};
use dram_dockerfile::outline::{BuildTarget, Outline, OutlineSecret};
use dram_dockerfile::rules::LintRule;
use dram_dockerfile::{Diagnostic, Dockerfile, Severity, rules};
use dram_image::base64;
use serde::Serialize;

use crate::cmd::build::dockerfile_source::DockerfileSource;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonCheckReport {
    warnings: Vec<JsonDiagnostic>,
    sources: Vec<JsonSourceFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_error: Option<JsonBuildError>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<JsonDiagnostic>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonDiagnostic {
    level: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_name: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<JsonLocation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<JsonRange>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    helps: Vec<String>,
}

#[derive(Serialize)]
struct JsonBuildError {
    message: String,
    location: JsonLocation,
}

#[derive(Serialize)]
struct JsonSourceFile {
    filename: String,
    language: &'static str,
    data: String,
}

/// A location in BuildKit's form: one range for each line.
#[derive(Serialize, Clone, Default)]
struct JsonLocation {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<JsonRange>,
}

#[derive(Serialize, Clone)]
struct JsonRange {
    start: JsonPosition,
    end: JsonPosition,
}

#[derive(Serialize, Clone, Copy)]
struct JsonPosition {
    line: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    character: Option<usize>,
}

impl JsonLocation {
    fn new(lines: LineRange) -> JsonLocation {
        let at = |line| JsonPosition { line, character: None };
        JsonLocation {
            ranges: (lines.first..=lines.last).map(|line| JsonRange { start: at(line), end: at(line) }).collect(),
        }
    }
}

/// The diagnostics of the checks. Rules that `check=error=true` makes errors are listed as warnings, with an error in
/// addition.
pub(super) fn check(dockerfile: &Dockerfile, remarks: Vec<Diagnostic>, source: &DockerfileSource) -> String {
    let broken: Vec<&str> =
        remarks.iter().filter(|one| one.severity == Severity::Error).filter_map(|one| one.rule).collect();
    let starts: Vec<usize> = std::iter::once(0).chain(source.text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let lines = |one: &Diagnostic| lines_of(dockerfile, one).map(JsonLocation::new);
    let error =
        |message: String, one: &Diagnostic| JsonBuildError { message, location: lines(one).unwrap_or_default() };
    let of_rules = remarks.iter().find(|one| one.severity == Severity::Error && one.rule.is_some());
    let other = remarks.iter().find(|one| one.severity == Severity::Error && one.rule.is_none());
    let build_error = match (other, of_rules) {
        (Some(one), _) => Some(error(one.message.clone(), one)),
        (None, Some(one)) => {
            let mut names = broken.clone();
            names.sort_unstable();
            names.dedup();
            Some(error(format!("`check=error=true` makes errors of {}", names.join(", ")), one))
        }
        (None, None) => None,
    };
    let (errors, warnings): (Vec<_>, Vec<_>) =
        remarks.into_iter().partition(|one| one.severity == Severity::Error && one.rule.is_none());
    let remark = |one: Diagnostic| {
        let rule = one.rule.and_then(rules::find);
        let location = lines(&one);
        JsonDiagnostic {
            level: match one.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Advice => "advice",
            },
            rule_name: rule.map(|rule| rule.name),
            description: rule.map(|rule| rule.about),
            url: rule.map(LintRule::docs_link),
            place: location.is_some().then(|| json_range(&source.text, &starts, &one.span)),
            location,
            detail: one.message,
            notes: one.notes,
            helps: one.helps,
        }
    };
    let check = JsonCheckReport {
        warnings: warnings.into_iter().map(remark).collect(),
        errors: errors.into_iter().map(remark).collect(),
        build_error,
        sources: vec![JsonSourceFile {
            filename: source.name.clone(),
            language: "Dockerfile",
            data: base64::encode(&source.bytes),
        }],
    };
    to_pretty_json(&check)
}

/// The range of a span. Lines start at 1, characters at 0; `starts` are the positions at which lines start.
fn json_range(text: &str, starts: &[usize], span: &Range<usize>) -> JsonRange {
    let position = |at: usize| {
        let line = starts.partition_point(|start| *start <= at).max(1);
        let before = text.get(starts[line - 1]..at).unwrap_or_default();
        JsonPosition { line, character: Some(before.chars().count()) }
    };
    JsonRange { start: position(span.start), end: position(span.end) }
}

#[derive(Serialize)]
struct JsonTargets<'t> {
    targets: Vec<JsonTarget<'t>>,
    sources: Vec<String>,
}

#[derive(Serialize)]
struct JsonTarget<'t> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'t str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    default: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'t str>,
    base: &'t str,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<&'t str>,
    location: JsonLocation,
}

/// The stages of a Dockerfile.
pub(super) fn targets(targets: &[BuildTarget], source: &DockerfileSource) -> String {
    let mut all = Vec::with_capacity(targets.len());
    for target in targets {
        all.push(JsonTarget {
            name: target.name.as_deref(),
            default: target.default,
            description: target.description.as_deref(),
            base: &target.base,
            platform: target.platform.as_deref(),
            location: JsonLocation::new(target.lines),
        });
    }
    to_pretty_json(&JsonTargets { targets: all, sources: vec![base64::encode(&source.bytes)] })
}

#[derive(Serialize)]
struct JsonOutline<'o> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'o str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'o str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<JsonOutlineArg<'o>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<JsonOutlineMount<'o>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<JsonOutlineMount<'o>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cache: Vec<JsonOutlineCache<'o>>,
    sources: Vec<String>,
}

#[derive(Serialize)]
struct JsonOutlineArg<'o> {
    name: &'o str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'o str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'o str>,
    location: JsonLocation,
}

#[derive(Serialize)]
struct JsonOutlineMount<'o> {
    name: &'o str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    location: JsonLocation,
}

#[derive(Serialize)]
struct JsonOutlineCache<'o> {
    #[serde(rename = "ID")]
    id: &'o str,
    target: &'o str,
    location: JsonLocation,
}

/// The inputs of one target.
pub(super) fn outline(outline: &Outline, source: &DockerfileSource) -> String {
    let mut args = Vec::with_capacity(outline.args.len());
    for arg in &outline.args {
        args.push(JsonOutlineArg {
            name: &arg.name,
            description: arg.description.as_deref(),
            value: arg.value.as_deref(),
            location: JsonLocation::new(arg.lines),
        });
    }
    let mut cache = Vec::with_capacity(outline.caches.len());
    for one in &outline.caches {
        cache.push(JsonOutlineCache { id: &one.id, target: &one.target, location: JsonLocation::new(one.lines) });
    }
    to_pretty_json(&JsonOutline {
        name: outline.name.as_deref(),
        description: outline.description.as_deref(),
        args,
        secrets: outline_mounts(&outline.secrets),
        ssh: outline_mounts(&outline.ssh),
        cache,
        sources: vec![base64::encode(&source.bytes)],
    })
}

fn outline_mounts(all: &[OutlineSecret]) -> Vec<JsonOutlineMount<'_>> {
    let mut rows = Vec::with_capacity(all.len());
    for OutlineSecret { id, required, lines } in all {
        rows.push(JsonOutlineMount { name: id, required: *required, location: JsonLocation::new(*lines) });
    }
    rows
}

fn to_pretty_json(value: &impl Serialize) -> String {
    format!("{}\n", serde_json::to_string_pretty(value).expect("plain data becomes JSON"))
}
