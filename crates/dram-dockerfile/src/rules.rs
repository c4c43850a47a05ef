//! The lint rules. Each is one value: its requirement, the reason, an example that breaks it and one that keeps it.
//!
//! Rules that BuildKit has too have the same names, so that one `# check=skip=…` works in both. `docs/checks.md` is
//! generated from these values.

mod buildkit;
mod dram;

use crate::diagnostic::Severity;

pub use buildkit::*;
pub use dram::*;

/// A lint rule, which can be skipped by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LintRule {
    /// The name, as in `# check=skip=Name`.
    pub name: &'static str,
    /// The requirement, in one sentence.
    pub about: &'static str,
    /// The reason, in a few sentences.
    pub why: &'static str,
    /// A Dockerfile that breaks the rule.
    pub bad: &'static str,
    /// A corrected version.
    pub good: &'static str,
    /// The `.dockerignore` for both examples, if the rule is about one.
    pub ignore: Option<&'static str>,
    /// The origin of the rule.
    pub origin: RuleOrigin,
    /// The condition under which it is checked.
    pub activation: RuleActivation,
    /// The instructions that it applies to.
    pub scope: RuleScope,
}

/// The origin of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleOrigin {
    /// BuildKit has the same rule, with the same name and position.
    BuildKit,
    /// Only dram has it.
    Dram,
}

impl RuleOrigin {
    /// Returns the severity of the findings of such a rule: BuildKit's rules alone decide about the exit code of a check.
    pub(crate) fn severity(self) -> Severity {
        match self {
            RuleOrigin::BuildKit => Severity::Warning,
            RuleOrigin::Dram => Severity::Advice,
        }
    }
}

/// The condition under which a rule is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleActivation {
    /// In every build, and with `--check`.
    Always,
    /// Only with `--check`: the rule is advice.
    CheckOnly,
    /// Only when `# check=experimental=Name` enables it.
    Experimental,
}

/// The instructions that a rule applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleScope {
    /// All instructions of the file.
    File,
    /// The instructions of the stages that the target needs.
    Stages,
}

impl LintRule {
    /// Returns the link to its documentation: the page and the anchor.
    pub fn docs_link(&self) -> String {
        format!("docs/checks.md#{}", self.name.to_ascii_lowercase())
    }
}

/// Returns the rule with this name; case matters.
pub fn find(name: &str) -> Option<&'static LintRule> {
    ALL.iter().copied().find(|rule| rule.name == name)
}

/// All rules, those of BuildKit first.
pub const ALL: &[&LintRule] = &[
    &STAGE_NAME_CASING,
    &FROM_AS_CASING,
    &NO_EMPTY_CONTINUATION,
    &CONSISTENT_INSTRUCTION_CASING,
    &DUPLICATE_STAGE_NAME,
    &RESERVED_STAGE_NAME,
    &JSON_ARGS_RECOMMENDED,
    &MAINTAINER_DEPRECATED,
    &UNDEFINED_ARG_IN_FROM,
    &WORKDIR_RELATIVE_PATH,
    &UNDEFINED_VAR,
    &MULTIPLE_INSTRUCTIONS_DISALLOWED,
    &LEGACY_KEY_VALUE_FORMAT,
    &INVALID_BASE_IMAGE_PLATFORM,
    &REDUNDANT_TARGET_PLATFORM,
    &SECRETS_USED_IN_ARG_OR_ENV,
    &INVALID_DEFAULT_ARG_IN_FROM,
    &FROM_PLATFORM_FLAG_CONST_DISALLOWED,
    &COPY_IGNORED_FILE,
    &INVALID_DEFINITION_DESCRIPTION,
    &EXPOSE_PROTO_CASING,
    &EXPOSE_INVALID_FORMAT,
    &SECRET_IN_VALUE,
    &ALMOST_JSON,
    &MISTYPED_STAGE_NAME,
    &STAGE_DEFINED_LATER,
    &MISTYPED_DIRECTIVE,
    &EMPTY_USER,
    &UNUSED_STAGE,
    &BASE_IMAGE_LATEST,
    &APT_LISTS_LEFT,
    &APT_GET_WITHOUT_YES,
    &CACHE_MOUNT_HELPS,
    &UNKNOWN_RULE,
];
