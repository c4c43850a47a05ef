//! Comments that describe stages and arguments.

use super::warning;
use crate::ast::{Dockerfile, DockerfileInstruction, InstructionBody};
use crate::diagnostic::{DiagnosticCollector, quote};
use crate::rules;

/// Checks the last comment above each named stage and each `ARG`.
pub(super) fn check(dockerfile: &Dockerfile, report: &mut DiagnosticCollector) {
    for one in &dockerfile.instructions {
        if report.is_full_of_warnings() {
            break;
        }
        let Some(comment) = one.comments.last() else { continue };
        let names = defined_names(one);
        let first = comment.split(' ').next().unwrap_or_default();
        if names.is_empty() || names.iter().any(|name| name == first) {
            continue;
        }
        let listed: Vec<String> = names.iter().take(5).map(|name| quote(name)).collect();
        report.push(
            warning(
                &rules::INVALID_DEFINITION_DESCRIPTION,
                one,
                format!("the comment above does not start with the name {}", listed.join(" or ")),
            )
            .help(format!("write `# {} …`, or an empty comment (`#`) below it", names[0])),
        );
    }
}

/// Returns the names that an instruction defines: that of a stage in lower case, or those of arguments.
pub(crate) fn defined_names(one: &DockerfileInstruction) -> Vec<String> {
    match &one.body {
        InstructionBody::From(from) => from.name.iter().map(|name| name.text.to_lowercase()).collect(),
        InstructionBody::Arg(_)
        | InstructionBody::Env(_)
        | InstructionBody::Label(_)
        | InstructionBody::Run(_)
        | InstructionBody::Cmd(_)
        | InstructionBody::Entrypoint(_)
        | InstructionBody::Copy(_)
        | InstructionBody::Add(_)
        | InstructionBody::Workdir(_)
        | InstructionBody::User(_)
        | InstructionBody::Expose(_)
        | InstructionBody::Volume(_)
        | InstructionBody::StopSignal(_)
        | InstructionBody::Shell(_)
        | InstructionBody::Healthcheck(_)
        | InstructionBody::Maintainer(_)
        | InstructionBody::OnBuild(_)
        | InstructionBody::Invalid => one.arguments().iter().map(|argument| argument.name.text.clone()).collect(),
    }
}
