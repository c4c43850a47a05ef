//! Explains cache misses: the differences from the last build of the same Dockerfile.

mod align_lines;
mod compare_inputs;
mod file_list;
mod journal;
mod recorder;
#[cfg(test)]
mod recorder_tests;
mod redact;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use file_list::{FileChange, FileChangeKind};
pub use journal::{BuildJournal, JournalStage, JournalStep, JournalUsage, StepOutcome};
pub use recorder::BuildId;
pub(crate) use recorder::{BuildRecorder, StepEnd};

/// The causes of a step's cache miss, at least one, the most important one first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CacheMiss {
    /// The causes.
    pub causes: Vec<MissCause>,
}

/// A cause of a cache miss. Its text form is a short phrase for users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum MissCause {
    /// An option turned the cache off.
    NoCache {
        /// The option.
        option: String,
    },
    /// The step has no entry in a journal.
    First {
        /// True if journals were removed by a prune.
        pruned: bool,
    },
    /// The build has no journal, and that of an earlier build may have been evicted.
    FirstKnown {
        /// The number of builds whose journals are kept.
        kept: usize,
    },
    /// The journal cannot be read.
    Unread,
    /// All inputs are the same, but the result is not in the store any more.
    Gone,
    /// All inputs are the same, but the step failed in the last build.
    Failed,
    /// All inputs are the same, but the step was interrupted in the last build.
    Stopped,
    /// The implementation of the step has another version.
    Method,
    /// The command changed.
    Command,
    /// A variable changed.
    Variable {
        /// `ARG` or `ENV`.
        keyword: String,
        /// Its name.
        name: String,
        /// Its change.
        #[serde(flatten)]
        change: ValueChange,
    },
    /// The variables are the same, but in another order.
    Order,
    /// A value of the instruction, an earlier instruction, or the command line changed.
    Setting {
        /// The name that users know.
        what: String,
        /// Its change.
        #[serde(flatten)]
        change: ValueChange,
    },
    /// Files changed.
    Files {
        /// The target of the mount; empty for a copy.
        target: String,
        /// Their changes; empty if unknown.
        changes: Vec<FileChange>,
        /// The number of changes that are left out.
        more: usize,
    },
    /// The stage or image that files are copied from changed.
    Source {
        /// The first changed step, as `[stage 2/3]`.
        step: Option<String>,
    },
    /// An earlier step of the same stage changed.
    EarlierStep {
        /// The step, as `[stage 2/3]`.
        step: String,
    },
    /// An earlier step of the same stage was removed.
    StepGone {
        /// The text of the step.
        text: String,
    },
    /// A stage that this one is based on changed.
    StageBelow {
        /// The first changed step, as `[stage 2/3]`.
        step: String,
    },
    /// The stage has another base image, or the same name resolves to another image.
    BaseImage {
        /// The old name.
        before: String,
        /// The new name.
        after: String,
    },
    /// The layers below changed, for an unknown cause.
    Below,
    /// An input changed, but it is unknown which one.
    Inputs,
    /// A variable whose value is not recorded may have changed; no other input did.
    Hidden {
        /// The variables.
        names: Vec<String>,
    },
}

/// The change of a value. Values that are too long or secret are `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum ValueChange {
    /// The value changed.
    Changed {
        /// The old value.
        before: Option<String>,
        /// The new value.
        after: Option<String>,
    },
    /// It was not set before.
    New {
        /// The new value.
        after: Option<String>,
    },
    /// It is not set any more.
    Gone,
}

impl CacheMiss {
    /// Makes a cache miss with a single cause.
    pub(crate) fn single(cause: MissCause) -> CacheMiss {
        CacheMiss { causes: vec![cause] }
    }
}

impl fmt::Display for CacheMiss {
    /// Writes the first two causes, and the number of others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, cause) in self.causes.iter().take(2).enumerate() {
            let between = if at == 0 { "" } else { "; " };
            write!(f, "{between}{cause}")?;
        }
        match self.causes.len() {
            0..=2 => Ok(()),
            many => write!(f, "; {} more", many - 2),
        }
    }
}

impl fmt::Display for MissCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MissCause::NoCache { option } => f.write_str(option),
            MissCause::First { pruned: false } => f.write_str("first build of this step"),
            MissCause::First { pruned: true } => f.write_str("first build of this step since the store was pruned"),
            MissCause::FirstKnown { kept } => {
                write!(f, "first known build of this step; the store has the journals of the last {kept} builds")
            }
            MissCause::Unread => f.write_str("the journal of the last build cannot be read"),
            MissCause::Gone => f.write_str("its result is no longer in the store"),
            MissCause::Failed => f.write_str("it failed the last time"),
            MissCause::Stopped => f.write_str("it was interrupted the last time"),
            MissCause::Method => f.write_str("another version of dram executed it the last time"),
            MissCause::Command => f.write_str("the command changed"),
            MissCause::Variable { keyword, name, change } => match change {
                ValueChange::New { after: Some(after) } => write!(f, "{keyword} {name}={after} is new"),
                ValueChange::New { after: None } => write!(f, "{keyword} {name} is new"),
                ValueChange::Changed { .. } | ValueChange::Gone => write!(f, "{keyword} {name}{change}"),
            },
            MissCause::Order => f.write_str("the order of the variables changed"),
            MissCause::Setting { what, change } => write!(f, "{what}{change}"),
            MissCause::Files { target, changes, more } => {
                match changes.first() {
                    Some(first) => write!(f, "{first}")?,
                    None => f.write_str("the files changed")?,
                }
                match changes.len() + more {
                    0 | 1 => {}
                    many => write!(f, " (+{} more)", many - 1)?,
                }
                if target.is_empty() { Ok(()) } else { write!(f, " in the mount {target}") }
            }
            MissCause::Source { step: Some(step) } => write!(f, "what it copies from changed: {step}"),
            MissCause::Source { step: None } => f.write_str("what it copies from changed"),
            MissCause::EarlierStep { step } => write!(f, "an earlier step changed: {step}"),
            MissCause::StepGone { text } => write!(f, "an earlier step is gone: {text}"),
            MissCause::StageBelow { step } => write!(f, "the stage below changed: {step}"),
            MissCause::BaseImage { before, after } if before == after => write!(f, "the base image changed: {after}"),
            MissCause::BaseImage { before, after } => write!(f, "the base image changed: {before} → {after}"),
            MissCause::Below => f.write_str("the layers below changed"),
            MissCause::Inputs => f.write_str("its inputs changed"),
            MissCause::Hidden { names } => match names.as_slice() {
                [name] => write!(f, "{name} changed"),
                many => write!(f, "one of {} changed", many.join(", ")),
            },
        }
    }
}

impl fmt::Display for ValueChange {
    /// Writes the text after the name of the changed value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueChange::Changed { before: Some(before), after: Some(after) } => {
                match (before.as_str(), after.as_str()) {
                    ("", after) => write!(f, " is now {after}"),
                    (before, "") => write!(f, " is no longer {before}"),
                    (before, after) => write!(f, " {before} → {after}"),
                }
            }
            ValueChange::Changed { .. } => f.write_str(" changed"),
            ValueChange::New { after: Some(after) } => write!(f, " is now {after}"),
            ValueChange::New { after: None } => f.write_str(" is new"),
            ValueChange::Gone => f.write_str(" is gone"),
        }
    }
}
