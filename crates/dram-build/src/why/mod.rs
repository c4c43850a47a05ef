//! Why a step is carried out: what is different from the last time that this place was built.

mod align;
mod compare;
mod files;
mod journal;
mod ledger;
mod secret;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use files::{Became, FileChange};
pub use journal::{Journal, Outcome, StageNote, StepNote};
pub use ledger::Place;
pub(crate) use ledger::{End, Ledger};

/// Why a step is carried out: at least one cause, the one to tell first at the start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Why {
    /// The causes.
    pub causes: Vec<Cause>,
}

/// One cause. As text, it is a short sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Cause {
    /// What is remembered was not to be used.
    NoCache {
        /// The option that says so.
        option: String,
    },
    /// Nothing is known of an earlier time.
    First {
        /// Whether something was known of places that has been removed.
        pruned: bool,
    },
    /// What was noted the last time cannot be read.
    Unread,
    /// Everything is as it was, but what the step left is not in the store.
    Gone,
    /// Everything is as it was, and then it failed.
    Failed,
    /// Everything is as it was, and then it was interrupted.
    Stopped,
    /// This program makes such a result in another way.
    Method,
    /// The instruction runs something else.
    Command,
    /// A variable is not what it was.
    Variable {
        /// `ARG` or `ENV`.
        keyword: String,
        /// Its name.
        name: String,
        /// How it changed.
        #[serde(flatten)]
        change: Change,
    },
    /// Variables are the same, but were given in another order.
    Order,
    /// Something that the instruction, one before it, or the command line says.
    Setting {
        /// What people call it.
        what: String,
        /// How it changed.
        #[serde(flatten)]
        change: Change,
    },
    /// Files are not what they were.
    Files {
        /// Where a command sees them mounted; empty for what a copy takes.
        target: String,
        /// What became of them; empty when that is not known.
        changes: Vec<FileChange>,
        /// How many changes are left out.
        more: usize,
    },
    /// The stage or image that files are taken from is not what it was.
    Source {
        /// The first step that left something else, as `[stage 2/3]`.
        step: Option<String>,
    },
    /// A step further down in the same stage left something else.
    EarlierStep {
        /// Which, as `[stage 2/3]`.
        step: String,
    },
    /// A step further down in the same stage is not there any more.
    StepGone {
        /// What it said.
        text: String,
    },
    /// A stage that this one stands on left something else.
    StageBelow {
        /// The first step that did, as `[stage 2/3]`.
        step: String,
    },
    /// The stage stands on another image, or its name leads to another now.
    BaseImage {
        /// The name before.
        before: String,
        /// The name now.
        after: String,
    },
    /// What is below is not what it was, and no more is known.
    Below,
    /// Something is not what it was, and no more is known.
    Inputs,
    /// A variable whose value is not written down may have changed: nothing else did.
    Hidden {
        /// The variables.
        names: Vec<String>,
    },
}

/// How a value changed. What is too long, or may not be written down, is not here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// It was given before too.
    Changed {
        /// What it was.
        before: Option<String>,
        /// What it is.
        after: Option<String>,
    },
    /// It was not given before.
    New {
        /// What it is.
        after: Option<String>,
    },
    /// It is not given any more.
    Gone,
}

impl Why {
    /// For what there is only one cause.
    pub(crate) fn only(cause: Cause) -> Why {
        Why { causes: vec![cause] }
    }
}

impl fmt::Display for Why {
    /// The first two causes, and how many more there are.
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

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::NoCache { option } => f.write_str(option),
            Cause::First { pruned: false } => f.write_str("first build of this step"),
            Cause::First { pruned: true } => f.write_str("first build of this step since the store was pruned"),
            Cause::Unread => f.write_str("what was noted the last time cannot be read"),
            Cause::Gone => f.write_str("its result is no longer in the store"),
            Cause::Failed => f.write_str("it failed the last time"),
            Cause::Stopped => f.write_str("it was interrupted the last time"),
            Cause::Method => f.write_str("another version of dram did it the last time"),
            Cause::Command => f.write_str("the command changed"),
            Cause::Variable { keyword, name, change } => match change {
                Change::New { after: Some(after) } => write!(f, "{keyword} {name}={after} is new"),
                Change::New { after: None } => write!(f, "{keyword} {name} is new"),
                Change::Changed { .. } | Change::Gone => write!(f, "{keyword} {name}{change}"),
            },
            Cause::Order => f.write_str("the order of the variables changed"),
            Cause::Setting { what, change } => write!(f, "{what}{change}"),
            Cause::Files { target, changes, more } => {
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
            Cause::Source { step: Some(step) } => write!(f, "what it copies from changed: {step}"),
            Cause::Source { step: None } => f.write_str("what it copies from changed"),
            Cause::EarlierStep { step } => write!(f, "an earlier step changed: {step}"),
            Cause::StepGone { text } => write!(f, "an earlier step is gone: {text}"),
            Cause::StageBelow { step } => write!(f, "the stage below changed: {step}"),
            Cause::BaseImage { before, after } if before == after => write!(f, "the base image changed: {after}"),
            Cause::BaseImage { before, after } => write!(f, "the base image changed: {before} → {after}"),
            Cause::Below => f.write_str("what is below changed"),
            Cause::Inputs => f.write_str("its inputs changed"),
            Cause::Hidden { names } => match names.as_slice() {
                [name] => write!(f, "{name} changed"),
                many => write!(f, "one of {} changed", many.join(", ")),
            },
        }
    }
}

impl fmt::Display for Change {
    /// What follows the name of the thing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Changed { before: Some(before), after: Some(after) } => match (before.as_str(), after.as_str()) {
                ("", after) => write!(f, " is now {after}"),
                (before, "") => write!(f, " is no longer {before}"),
                (before, after) => write!(f, " {before} → {after}"),
            },
            Change::Changed { .. } => f.write_str(" changed"),
            Change::New { after: Some(after) } => write!(f, " is now {after}"),
            Change::New { after: None } => f.write_str(" is new"),
            Change::Gone => f.write_str(" is gone"),
        }
    }
}
