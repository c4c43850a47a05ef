//! Checks that need no more than the file, and which checks the file itself turns off.

use std::collections::HashMap;
use std::ops::Range;

use crate::ast::{Body, Directives, Dockerfile, FromLine, Instruction, Keyword};
use crate::diagnostic::{Diagnostic, Report, Severity, quote};
use crate::rules::{self, Rule};

/// Warns about everything in `dockerfile` that needs no expansion.
pub(crate) fn file(dockerfile: &Dockerfile, report: &mut Report) {
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut last: HashMap<Keyword, &Instruction> = HashMap::new();
    for one in &dockerfile.instructions {
        match &one.body {
            Body::From(from) => {
                last.clear();
                stage_name(one, from, &mut names, report);
            }
            Body::Cmd(_) | Body::Entrypoint(_) | Body::Healthcheck(_) => only_once(one, &mut last, report),
            Body::Maintainer(name) => {
                let message = "`MAINTAINER` is deprecated";
                let help = format!("write `LABEL org.opencontainers.image.authors={:?}`", name.text);
                warn(report, &rules::MAINTAINER_DEPRECATED, one, message, help);
            }
            Body::Arg(arguments) => arguments.iter().for_each(|argument| secret(one, &argument.name.text, report)),
            Body::Env(pairs) => pairs.iter().for_each(|pair| secret(one, &pair.name.text, report)),
            Body::Label(_)
            | Body::Run(_)
            | Body::Copy(_)
            | Body::Add(_)
            | Body::Workdir(_)
            | Body::User(_)
            | Body::Expose(_)
            | Body::Volume(_)
            | Body::StopSignal(_)
            | Body::Shell(_)
            | Body::OnBuild(_)
            | Body::Invalid => {}
        }
    }
    casing(&dockerfile.instructions, report);
}

fn warn(report: &mut Report, rule: &Rule, one: &Instruction, message: impl Into<String>, help: impl Into<String>) {
    report.push(Diagnostic::warning(Some(rule), one.span.clone(), message).help(help));
}

fn stage_name(one: &Instruction, from: &FromLine, names: &mut HashMap<String, usize>, report: &mut Report) {
    let Some(name) = &from.name else { return };
    let lower = name.text.to_lowercase();
    if lower != name.text {
        let message = format!("the stage name {} is not lower case", quote(&name.text));
        let help = format!("write {}", quote(&lower));
        report.push(Diagnostic::warning(Some(&rules::STAGE_NAME_CASING), name.span.clone(), message).help(help));
    }
    let separator = one.text.split_whitespace().rev().nth(1).unwrap_or_default();
    let (from_upper, from_lower) = (is_upper(&one.keyword.text), is_lower(&one.keyword.text));
    if from_upper && !is_upper(separator) || from_lower && !is_lower(separator) {
        let message = format!("{} and {} differ in case", quote(&one.keyword.text), quote(separator));
        warn(report, &rules::FROM_AS_CASING, one, message, "write both in capitals");
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

fn only_once<'f>(one: &'f Instruction, last: &mut HashMap<Keyword, &'f Instruction>, report: &mut Report) {
    let Some(keyword) = one.kind else { return };
    if let Some(before) = last.insert(keyword, one) {
        let message = format!("this `{}` has no effect", keyword.name());
        report.push(
            Diagnostic::warning(Some(&rules::MULTIPLE_INSTRUCTIONS_DISALLOWED), before.span.clone(), message)
                .note(format!("line {} has another one, and only the last of a stage counts", one.line)),
        );
    }
}

fn secret(one: &Instruction, name: &str, report: &mut Report) {
    const SECRET: &[&str] =
        &["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
    const HARMLESS: &[&str] = &["public", "file", "version"];
    let lower = name.to_lowercase();
    let has = |list: &[&str]| lower.split('_').any(|part| list.contains(&part));
    if has(SECRET) && !has(HARMLESS) {
        let message = format!("{} looks like a secret, and everybody who has the image can read it", quote(name));
        warn(report, &rules::SECRETS_USED_IN_ARG_OR_ENV, one, message, "give secrets to the container when it runs");
    }
}

fn casing(instructions: &[Instruction], report: &mut Report) {
    let count = |test: fn(&str) -> bool| instructions.iter().filter(|one| test(&one.keyword.text)).count();
    let mostly_lower = count(is_lower) > count(is_upper);
    for one in instructions.iter().filter(|one| one.kind.is_some()) {
        let keyword = &one.keyword;
        if if mostly_lower { is_lower(&keyword.text) } else { is_upper(&keyword.text) } {
            continue;
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

/// Drops the warnings that `# check=skip=…` names, at the top for the whole file and above an instruction for it
/// alone, and makes errors of the others under `# check=error=true`.
pub(crate) fn filter<'i>(
    directives: &Directives,
    instructions: impl IntoIterator<Item = &'i Instruction>,
    mut diagnostics: Vec<Diagnostic>,
) -> Vec<Diagnostic> {
    let own = |one: &'i Instruction| Some((one.span.clone(), Options::read(one.check.as_ref()?)));
    let local: Vec<(Range<usize>, Options<'_>)> = instructions.into_iter().filter_map(own).collect();
    let global = directives.check.as_ref().map(|check| Options::read(&check.text)).unwrap_or_default();
    diagnostics.retain(|one| {
        let Some(rule) = one.rule.filter(|_| one.severity == Severity::Warning) else { return true };
        // The instructions are in the order of the text, so the last one that starts before the place is the one.
        let at = local.partition_point(|(span, _)| span.start <= one.span.start).checked_sub(1);
        let around = at.and_then(|at| local.get(at)).filter(|(span, _)| one.span.start < span.end);
        !global.skips(rule) && !around.is_some_and(|(_, options)| options.skips(rule))
    });
    if global.error {
        for one in diagnostics.iter_mut().filter(|one| one.rule.is_some()) {
            one.severity = Severity::Error;
        }
    }
    diagnostics
}

/// What `check=` says: `skip=Name,Name;error=true`.
#[derive(Debug, Default)]
struct Options<'t> {
    skip: Vec<&'t str>,
    error: bool,
}

impl<'t> Options<'t> {
    fn read(text: &'t str) -> Options<'t> {
        let mut options = Options::default();
        let text = text.split_whitespace().next().unwrap_or_default();
        for (name, value) in text.split(';').filter_map(|option| option.split_once('=')) {
            match name {
                "skip" => options.skip = value.split(',').collect(),
                "error" => options.error = value.eq_ignore_ascii_case("true"),
                _ => {}
            }
        }
        options
    }

    fn skips(&self, rule: &str) -> bool {
        self.skip.iter().any(|name| *name == "all" || name.eq_ignore_ascii_case(rule))
    }
}
