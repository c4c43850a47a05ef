//! Answers as JSON, with BuildKit's fields and more: `docs/checks.md` describes them.

use std::ops::Range;

use dram_dockerfile::lint::{Lines, lines_of};
use dram_dockerfile::outline::{Outline, Target, Wanted};
use dram_dockerfile::rules::Rule;
use dram_dockerfile::{Diagnostic, Dockerfile, Severity, rules};
use dram_image::base64;
use serde::Serialize;

use crate::cmd::build::source::Source;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    warnings: Vec<Remark>,
    sources: Vec<SourceFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_error: Option<BuildError>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Remark>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Remark {
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_name: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Location>,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    helps: Vec<String>,
}

#[derive(Serialize)]
struct BuildError {
    message: String,
    location: Location,
}

#[derive(Serialize)]
struct SourceFile {
    filename: String,
    language: &'static str,
    data: String,
}

/// A location in BuildKit's form: one range for each line.
#[derive(Serialize, Clone, Default)]
struct Location {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<Place>,
}

#[derive(Serialize, Clone)]
struct Place {
    start: Position,
    end: Position,
}

#[derive(Serialize, Clone, Copy)]
struct Position {
    line: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    character: Option<usize>,
}

impl Location {
    fn new(lines: Lines) -> Location {
        let at = |line| Position { line, character: None };
        Location { ranges: (lines.first..=lines.last).map(|line| Place { start: at(line), end: at(line) }).collect() }
    }
}

/// The diagnostics of the checks. Rules that `check=error=true` makes errors are listed as warnings, with an error in
/// addition.
pub(super) fn check(dockerfile: &Dockerfile, remarks: Vec<Diagnostic>, source: &Source) -> String {
    let broken: Vec<&str> =
        remarks.iter().filter(|one| one.severity == Severity::Error).filter_map(|one| one.rule).collect();
    let starts: Vec<usize> = std::iter::once(0).chain(source.text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let lines = |one: &Diagnostic| lines_of(dockerfile, one).map(Location::new);
    let error = |message: String, one: &Diagnostic| BuildError { message, location: lines(one).unwrap_or_default() };
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
        Remark {
            rule_name: rule.map(|rule| rule.name),
            description: rule.map(|rule| rule.about),
            url: rule.map(Rule::page),
            place: location.is_some().then(|| place(&source.text, &starts, &one.span)),
            location,
            detail: one.message,
            notes: one.notes,
            helps: one.helps,
        }
    };
    let check = Check {
        warnings: warnings.into_iter().map(remark).collect(),
        errors: errors.into_iter().map(remark).collect(),
        build_error,
        sources: vec![SourceFile {
            filename: source.name.clone(),
            language: "Dockerfile",
            data: base64::encode(&source.bytes),
        }],
    };
    pretty(&check)
}

/// The range of a span. Lines start at 1, characters at 0; `starts` are the positions at which lines start.
fn place(text: &str, starts: &[usize], span: &Range<usize>) -> Place {
    let position = |at: usize| {
        let line = starts.partition_point(|start| *start <= at).max(1);
        let before = text.get(starts[line - 1]..at).unwrap_or_default();
        Position { line, character: Some(before.chars().count()) }
    };
    Place { start: position(span.start), end: position(span.end) }
}

#[derive(Serialize)]
struct Targets<'t> {
    targets: Vec<OneTarget<'t>>,
    sources: Vec<String>,
}

#[derive(Serialize)]
struct OneTarget<'t> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'t str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    default: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'t str>,
    base: &'t str,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<&'t str>,
    location: Location,
}

/// The stages of a Dockerfile.
pub(super) fn targets(targets: &[Target], source: &Source) -> String {
    let mut all = Vec::with_capacity(targets.len());
    for target in targets {
        all.push(OneTarget {
            name: target.name.as_deref(),
            default: target.default,
            description: target.description.as_deref(),
            base: &target.base,
            platform: target.platform.as_deref(),
            location: Location::new(target.lines),
        });
    }
    pretty(&Targets { targets: all, sources: vec![base64::encode(&source.bytes)] })
}

#[derive(Serialize)]
struct OneOutline<'o> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'o str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'o str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<OneArg<'o>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<OneWanted<'o>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<OneWanted<'o>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cache: Vec<OneCache<'o>>,
    sources: Vec<String>,
}

#[derive(Serialize)]
struct OneArg<'o> {
    name: &'o str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'o str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'o str>,
    location: Location,
}

#[derive(Serialize)]
struct OneWanted<'o> {
    name: &'o str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    location: Location,
}

#[derive(Serialize)]
struct OneCache<'o> {
    #[serde(rename = "ID")]
    id: &'o str,
    target: &'o str,
    location: Location,
}

/// The inputs of one target.
pub(super) fn outline(outline: &Outline, source: &Source) -> String {
    let mut args = Vec::with_capacity(outline.args.len());
    for arg in &outline.args {
        args.push(OneArg {
            name: &arg.name,
            description: arg.description.as_deref(),
            value: arg.value.as_deref(),
            location: Location::new(arg.lines),
        });
    }
    let mut cache = Vec::with_capacity(outline.caches.len());
    for one in &outline.caches {
        cache.push(OneCache { id: &one.id, target: &one.target, location: Location::new(one.lines) });
    }
    pretty(&OneOutline {
        name: outline.name.as_deref(),
        description: outline.description.as_deref(),
        args,
        secrets: wanted(&outline.secrets),
        ssh: wanted(&outline.ssh),
        cache,
        sources: vec![base64::encode(&source.bytes)],
    })
}

fn wanted(all: &[Wanted]) -> Vec<OneWanted<'_>> {
    let mut rows = Vec::with_capacity(all.len());
    for Wanted { id, required, lines } in all {
        rows.push(OneWanted { name: id, required: *required, location: Location::new(*lines) });
    }
    rows
}

fn pretty(value: &impl Serialize) -> String {
    format!("{}\n", serde_json::to_string_pretty(value).expect("plain data becomes JSON"))
}
