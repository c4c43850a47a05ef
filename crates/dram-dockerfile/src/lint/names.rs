//! Rules about stage names, the case of keywords, and repeated instructions.

use std::collections::HashMap;

use super::warning;
use crate::ast::{Dockerfile, DockerfileInstruction, FromInstruction, InstructionBody, Keyword};
use crate::diagnostic::{Diagnostic, DiagnosticCollector, quote};
use crate::rules;

/// Checks all instructions.
pub(super) fn check(dockerfile: &Dockerfile, report: &mut DiagnosticCollector) {
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut last: HashMap<Keyword, &DockerfileInstruction> = HashMap::new();
    for one in &dockerfile.instructions {
        if report.is_full_of_warnings() {
            break;
        }
        match (one.kind, &one.body) {
            (_, InstructionBody::From(from)) => {
                last.clear();
                check_stage_name(one, from, &mut names, report);
            }
            (Some(keyword @ (Keyword::Cmd | Keyword::Entrypoint | Keyword::Healthcheck)), _) => {
                if let Some(before) = last.insert(keyword, one) {
                    report.push(repeated_instruction(keyword, before, one));
                }
            }
            (_, InstructionBody::Maintainer(name)) => {
                let help = format!("write `LABEL org.opencontainers.image.authors={:?}`", name.text);
                report.push(warning(&rules::MAINTAINER_DEPRECATED, one, "`MAINTAINER` is deprecated").help(help));
            }
            _ => {}
        }
    }
    check_casing(&dockerfile.instructions, report);
}

fn check_stage_name(
    one: &DockerfileInstruction,
    from: &FromInstruction,
    names: &mut HashMap<String, usize>,
    report: &mut DiagnosticCollector,
) {
    let Some(name) = &from.name else { return };
    let lower = name.text.to_lowercase();
    let mut about_name = |rule, message: String| {
        report
            .push(Diagnostic::warning(Some(rule), name.span.clone(), message).help(format!("write {}", quote(&lower))));
    };
    if lower != name.text {
        about_name(&rules::STAGE_NAME_CASING, format!("the stage name {} is not lower case", quote(&name.text)));
    }
    let separator = one.text.split_whitespace().rev().nth(1).unwrap_or_default();
    let (from_upper, from_lower) = (is_upper(&one.keyword.text), is_lower(&one.keyword.text));
    if from_upper && !is_upper(separator) || from_lower && !is_lower(separator) {
        let message = format!("{} and {} differ in case", quote(&one.keyword.text), quote(separator));
        report.push(warning(&rules::FROM_AS_CASING, one, message).help("write both in capitals"));
    }
    if ["scratch", "context"].contains(&lower.as_str()) {
        let message = format!("{} has a meaning of its own and should not name a stage", quote(&lower));
        report.push(Diagnostic::warning(Some(&rules::RESERVED_STAGE_NAME), name.span.clone(), message));
    }
    if let Some(line) = names.insert(lower.clone(), one.line) {
        let message = format!("two stages are named {}", quote(&lower));
        report.push(
            Diagnostic::warning(Some(&rules::DUPLICATE_STAGE_NAME), name.span.clone(), message)
                .note(format!("the other one is on line {line}")),
        );
    }
}

fn repeated_instruction(keyword: Keyword, before: &DockerfileInstruction, one: &DockerfileInstruction) -> Diagnostic {
    let message = format!("this `{}` has no effect", keyword.name());
    warning(&rules::MULTIPLE_INSTRUCTIONS_DISALLOWED, before, message)
        .note(format!("line {} has another one, and only the last of a stage counts", one.line))
}

/// Checks that all keywords have the same case. Those before the first `FROM` are ignored, as in BuildKit.
fn check_casing(instructions: &[DockerfileInstruction], report: &mut DiagnosticCollector) {
    let first = instructions.iter().position(|one| one.kind == Some(Keyword::From)).unwrap_or(instructions.len());
    let instructions = &instructions[first..];
    let count = |test: fn(&str) -> bool| instructions.iter().filter(|one| test(&one.keyword.text)).count();
    let mostly_lower = count(is_lower) > count(is_upper);
    for one in instructions.iter().filter(|one| one.kind.is_some()) {
        let keyword = &one.keyword;
        if if mostly_lower { is_lower(&keyword.text) } else { is_upper(&keyword.text) } {
            continue;
        }
        if report.is_full_of_warnings() {
            return;
        }
        let better = if mostly_lower { keyword.text.to_lowercase() } else { keyword.text.to_uppercase() };
        let message = format!("{} is not written like the other instructions", quote(&keyword.text));
        let rule = Some(&rules::CONSISTENT_INSTRUCTION_CASING);
        report.push(Diagnostic::warning(rule, keyword.span.clone(), message).help(format!("write {}", quote(&better))));
    }
}

fn is_lower(word: &str) -> bool {
    !word.chars().any(char::is_uppercase)
}

fn is_upper(word: &str) -> bool {
    !word.chars().any(char::is_lowercase)
}
