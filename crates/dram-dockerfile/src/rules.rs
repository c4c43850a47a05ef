//! The checks that only warn. Each is one value: what it asks for, why, a text that breaks it and one that keeps it.
//!
//! Those that BuildKit has bear its names, so that one `# check=skip=…` serves both. `docs/checks.md` is made of these
//! values.

mod buildkit;
mod ours;

pub use buildkit::*;
pub use ours::*;

/// A check that can be skipped by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The name, as in `# check=skip=Name`.
    pub name: &'static str,
    /// What it asks for, in one sentence.
    pub about: &'static str,
    /// Why, in a few sentences.
    pub why: &'static str,
    /// A Dockerfile that breaks it.
    pub bad: &'static str,
    /// The same, right.
    pub good: &'static str,
    /// The `.dockerignore` beside both, where the rule is about one.
    pub ignore: Option<&'static str>,
    /// Whose rule it is.
    pub owner: Owner,
    /// When it is heard of.
    pub when: When,
    /// Which instructions it looks at.
    pub reach: Reach,
}

/// Who made a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// BuildKit has it too, under the same name and at the same place.
    BuildKit,
    /// It is our own.
    Dram,
}

/// When a rule is heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// In every build, and with `--check`.
    Always,
    /// With `--check`: it is advice, and a file can be fine without it.
    Checked,
    /// Only where `# check=experimental=Name` asks for it.
    Asked,
}

/// Which instructions a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All of the file.
    File,
    /// Those of the stages that the target needs.
    Stages,
}

impl Rule {
    /// Where it is explained: a page of the project, and the place on it.
    pub fn page(&self) -> String {
        format!("docs/checks.md#{}", self.name.to_ascii_lowercase())
    }
}

/// The rule of this name, written exactly so.
pub fn find(name: &str) -> Option<&'static Rule> {
    ALL.iter().copied().find(|rule| rule.name == name)
}

/// Every rule there is, BuildKit's first.
pub const ALL: &[&Rule] = &[
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
