//! Build arguments that no `ARG` of the file declares.

use std::collections::BTreeSet;

use super::LintInput;
use crate::ast::DockerfileInstruction;
use crate::diagnostic::{Diagnostic, DiagnosticCollector, quote};
use crate::graph::StageGraph;

/// Checks each build argument. It is used when an `ARG` anywhere in the file, or a trigger of a base, declares it.
pub(super) fn check(subject: &LintInput<'_>, graph: &StageGraph, report: &mut DiagnosticCollector) {
    let declared = |one: &DockerfileInstruction| -> Vec<String> {
        one.arguments().iter().map(|argument| argument.name.text.clone()).collect()
    };
    let mut known: BTreeSet<String> = subject.dockerfile.instructions.iter().flat_map(declared).collect();
    let steps = graph.stages.iter().flat_map(|node| &node.steps).map(|(instruction, _)| instruction);
    known.extend(steps.filter(|one| one.trigger).flat_map(declared));
    for name in subject.settings.build_args.keys().filter(|name| !known.contains(*name) && !is_predefined(name)) {
        report.push(
            Diagnostic::warning(None, 0..0, format!("the build argument {} is not used", quote(name)))
                .note("no `ARG` of the Dockerfile declares it")
                .did_you_mean(name, known.iter().map(String::as_str)),
        );
    }
}

/// Returns true for build arguments that have a meaning without an `ARG`.
fn is_predefined(name: &str) -> bool {
    const PROXIES: &[&str] = &["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];
    const PLATFORM: &[&str] = &["PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT", "STAGE"];
    let platform = |prefix| name.strip_prefix(prefix).is_some_and(|rest| PLATFORM.contains(&rest));
    PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
        || name.starts_with("BUILDKIT_")
        || name == "SOURCE_DATE_EPOCH"
        || platform("BUILD")
        || platform("TARGET")
}
