//! The stages that each stage uses, for every value that the variables in the names may have.

use std::collections::HashSet;

use super::LintInput;
use crate::ast::{ArgDeclaration, Dockerfile, DockerfileInstruction};
use crate::graph::StageGraph;

/// The number of uses from which on no more variables are looked at. Real files have tens of stages.
const MAX_USES: usize = 10_000;
/// The largest number of global arguments that are looked at.
const MAX_ARGUMENTS: usize = 100;

/// A use of a stage: the indexes of both in the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StageUse {
    /// The stage that uses the other one.
    pub(super) user: usize,
    /// The stage that is used.
    pub(super) used: usize,
    /// True for `FROM`, false for `COPY --from` and mounts.
    pub(super) is_base: bool,
}

/// Returns the uses of the stages of `graph`.
///
/// A base such as `build-${TARGETOS}` may be each earlier stage with such a name. A base that is only a variable may be
/// each earlier stage if it is a stage for the current value or by default.
pub(super) fn possible_uses(subject: &LintInput<'_>, graph: &StageGraph) -> Vec<StageUse> {
    let mut uses = Vec::new();
    let names: Vec<String> = graph.stages.iter().map(|node| node.name.to_lowercase()).collect();
    let arguments = stage_arguments(subject.dockerfile, &names);
    for (user, node) in graph.stages.iter().enumerate() {
        let base = node.stage_base();
        uses.extend(base.map(|used| StageUse { user, used, is_base: true }));
        let copied = node.stage_references().into_iter().skip(usize::from(base.is_some()));
        uses.extend(copied.map(|used| StageUse { user, used, is_base: false }));
        let Some(text) = node.from.as_from().map(|from| from.base.text.as_str()) else { continue };
        let Some(pattern) = name_pattern(text).filter(|_| uses.len() < MAX_USES) else { continue };
        let may_be_stage = base.is_some() || arguments.iter().any(|name| text.contains(name));
        if pattern.iter().all(String::is_empty) && !may_be_stage {
            continue;
        }
        let fits = names[..user].iter().enumerate().filter(|(_, name)| matches_pattern(name, &pattern));
        uses.extend(fits.map(|(used, _)| StageUse { user, used, is_base: true }));
    }
    uses
}

/// Returns the global arguments whose default is the name of a stage.
fn stage_arguments<'d>(dockerfile: &'d Dockerfile, names: &[String]) -> Vec<&'d str> {
    let names: HashSet<&str> = names.iter().map(String::as_str).collect();
    let globals = dockerfile.instructions.iter().take_while(|one| one.as_from().is_none());
    let is_stage = |argument: &&ArgDeclaration| {
        let default = argument.default.as_ref().map(|word| word.text.trim_matches(['"', '\'']).to_lowercase());
        default.is_some_and(|default| names.contains(default.as_str()))
    };
    let arguments = globals.flat_map(DockerfileInstruction::arguments).filter(is_stage);
    arguments.map(|argument| argument.name.text.as_str()).take(MAX_ARGUMENTS).collect()
}

/// Splits a name at its variables into the literal parts, in lower case; `None` for a name without variables.
fn name_pattern(name: &str) -> Option<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut letters = name.chars().filter(|letter| !matches!(letter, '"' | '\'')).peekable();
    while let Some(letter) = letters.next() {
        if letter != '$' {
            let part = parts.last_mut()?;
            part.extend(letter.to_lowercase());
            continue;
        }
        parts.push(String::new());
        if letters.next_if_eq(&'{').is_some() {
            let mut depth = 1;
            while depth > 0 {
                match letters.next()? {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
            }
        } else {
            while letters.next_if(|letter| letter.is_ascii_alphanumeric() || *letter == '_').is_some() {}
        }
    }
    (parts.len() > 1).then_some(parts)
}

/// Returns true if `name` has the literal parts in their order, with anything between them.
fn matches_pattern(name: &str, parts: &[String]) -> bool {
    let [first, middle @ .., last] = parts else { return false };
    let Some(mut rest) = name.strip_prefix(first.as_str()) else { return false };
    for part in middle {
        let Some(at) = rest.find(part.as_str()) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_variables_fit_each_value() {
        let table = [
            ("build-${TARGETOS}", "build-windows", true),
            ("build-$TARGETOS-x", "build-linux-x", true),
            ("build-${A}${B:-v${C}}", "build-armv7", true),
            ("\"Build-$A\"", "build-a", true),
            ("build-${A}", "built-a", false),
            ("${A}-build", "x-builder", false),
            ("alpine:$V", "alpine", false),
            ("a${X}a", "a", false),
        ];
        for (base, name, expected) in table {
            assert_eq!(matches_pattern(name, &name_pattern(base).unwrap()), expected, "{base} {name}");
        }
        assert_eq!(name_pattern("build"), None);
        assert_eq!(name_pattern("$A").unwrap(), ["", ""]);
    }
}
