//! Answers as text for people.

use dram_dockerfile::outline::{BuildTarget, Outline, OutlineSecret};
use dram_dockerfile::{Diagnostic, Severity};

use crate::cmd::build::dockerfile_source::DockerfileSource;
use crate::failure::SourceDiagnostics;
use crate::format::escape_control;
use crate::report;

/// The diagnostics of the checks, each with its position.
pub(super) fn check(remarks: Vec<Diagnostic>, source: &DockerfileSource) -> String {
    let count = |severity| remarks.iter().filter(|one| one.severity == severity).count();
    let (errors, warnings, advice) = (count(Severity::Error), count(Severity::Warning), count(Severity::Advice));
    let several = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let found = match (errors, warnings) {
        (0, 0) => "no warnings".to_owned(),
        (0, _) => several(warnings, "warning"),
        (_, 0) => several(errors, "error"),
        (_, _) => format!("{} and {}", several(errors, "error"), several(warnings, "warning")),
    };
    let end = match advice {
        0 => format!("{found} found"),
        1 => format!("{found} found, and 1 piece of advice"),
        _ => format!("{found} found, and {advice} pieces of advice"),
    };
    let remarks = SourceDiagnostics { name: source.name.clone(), text: source.text.clone(), diagnostics: remarks };
    format!("{}check complete: {end}\n", report::render_for_stdout(&remarks))
}

/// The stages of a Dockerfile, one on each line.
pub(super) fn targets(targets: &[BuildTarget]) -> String {
    let row = |target: &BuildTarget| {
        let name = match (&target.name, target.default) {
            (Some(name), true) => format!("{name} (default)"),
            (Some(name), false) => name.clone(),
            (None, true) => "(default)".to_owned(),
            (None, false) => "-".to_owned(),
        };
        vec![name, target.description.clone().unwrap_or_default()]
    };
    format_columns(&["TARGET", "DESCRIPTION"], targets.iter().map(row))
}

/// The inputs of one target.
pub(super) fn outline(outline: &Outline) -> String {
    let name = outline.name.as_deref().unwrap_or("(default)");
    let mut out = format!("TARGET:      {}\n", escape_control(name));
    if let Some(description) = &outline.description {
        out.push_str(&format!("DESCRIPTION: {}\n", escape_control(description)));
    }
    let args = outline.args.iter().map(|arg| {
        vec![arg.name.clone(), arg.value.clone().unwrap_or_default(), arg.description.clone().unwrap_or_default()]
    });
    let wanted = |one: &OutlineSecret| vec![one.id.clone(), if one.required { "true" } else { "" }.to_owned()];
    let caches = outline.caches.iter().map(|cache| vec![cache.id.clone(), cache.target.clone()]);
    for part in [
        format_columns(&["BUILD ARG", "VALUE", "DESCRIPTION"], args),
        format_columns(&["SECRET", "REQUIRED"], outline.secrets.iter().map(wanted)),
        format_columns(&["SSH", "REQUIRED"], outline.ssh.iter().map(wanted)),
        format_columns(&["CACHE", "MOUNTED AT"], caches),
    ] {
        // A table without rows has only a header.
        if part.lines().count() > 1 {
            out.push('\n');
            out.push_str(&part);
        }
    }
    out
}

/// Formats rows in columns below a header.
fn format_columns(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut all: Vec<Vec<String>> = vec![head.iter().map(|word| (*word).to_owned()).collect()];
    all.extend(rows.map(|row| row.iter().map(|cell| escape_control(cell)).collect()));
    let width = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in &all {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(cells.join("   ").trim_end());
        out.push('\n');
    }
    out
}
