//! Rules about the platforms and versions of base images.

use std::collections::HashSet;

use dram_image::Reference;
use dram_plan::StageBase;

use super::LintInput;
use crate::ast::DockerfileInstruction;
use crate::diagnostic::{Diagnostic, DiagnosticCollector, quote};
use crate::graph::{BaseName, StageGraph};
use crate::rules;
use crate::settings::PlatformSpec;

/// Checks the base image of each stage.
pub(super) fn check(subject: &LintInput<'_>, graph: &StageGraph, report: &mut DiagnosticCollector) {
    let froms = subject.dockerfile.instructions.iter().filter_map(DockerfileInstruction::as_from);
    let names: HashSet<String> = froms.filter_map(|from| Some(from.name.as_ref()?.text.to_lowercase())).collect();
    for node in &graph.stages {
        if report.is_full_of_warnings() {
            break;
        }
        let StageBase::External(key) = &node.base else { continue };
        let BaseName { name, platform } = &node.base_name;
        if subject.settings.context_for(name).is_some() {
            continue;
        }
        let written = node.from.as_from().map(|from| from.base.text.as_str()).unwrap_or_default();
        // A base with the name of a later stage is already reported.
        if !written.contains('$') && !names.contains(written) {
            warn_unversioned(written, node.base_span.clone(), report);
        }
        if let Some(config) = subject.base_configs.get(key).filter(|config| !config.architecture.is_empty()) {
            let expected = platform.clone().unwrap_or_else(|| subject.settings.platform());
            let actual = format!("{}/{}", config.os, config.architecture);
            if !same_platform(&expected, &actual) {
                let message =
                    format!("{} is an image for {}, not for {}", quote(name), quote(&actual), quote(&expected));
                let rule = Some(&rules::INVALID_BASE_IMAGE_PLATFORM);
                report.push(
                    Diagnostic::warning(rule, node.base_span.clone(), message)
                        .help("load an image of that platform under this name, or leave `--platform` out"),
                );
            }
        }
    }
}

/// Returns true when the platforms are equal, variants aside. Parts that are not given are equal to any.
fn same_platform(expected: &str, actual: &str) -> bool {
    let (Some(expected), Some(actual)) = (PlatformSpec::parse(expected), PlatformSpec::parse(actual)) else {
        return true;
    };
    let same = |left: &str, right: &str| left.is_empty() || right.is_empty() || left == right;
    same(&expected.os, &actual.os) && same(&expected.architecture, &actual.architecture)
}

fn warn_unversioned(name: &str, span: std::ops::Range<usize>, report: &mut DiagnosticCollector) {
    let Ok(reference) = name.parse::<Reference>() else { return };
    let newest = reference.digest().is_none() && reference.tag() == "latest";
    if newest {
        let short = name.strip_suffix(":latest").unwrap_or(name);
        report.push(
            Diagnostic::warning(Some(&rules::BASE_IMAGE_LATEST), span, format!("{} has no version", quote(name)))
                .help(format!("write the version that was tested, as in {}", quote(&format!("{short}:VERSION")))),
        );
    }
}
