//! The parts of a cache key. Each has a name, so that a cache miss can say which inputs changed.

use std::sync::Arc;

use dram_store::StepKey;
use serde::{Deserialize, Serialize};

use crate::Snapshot;
use crate::content::{Content, Files};

/// The cache key of a step: the digest of everything that can change its result, and the parts it was computed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// The digest.
    pub(crate) id: StepKey,
    /// The parts, in the order in which they were digested.
    pub(crate) parts: Vec<Part>,
}

/// One input of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// The name of the input.
    pub(crate) name: Name,
    /// The value of the input; for files and layers, their digest.
    pub(crate) value: Vec<u8>,
    /// For files: the list that the digest was computed from.
    pub(crate) files: Option<Arc<Files>>,
}

/// The name of an input. It is unique within one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Name {
    /// The version of the step's implementation: `run 1`.
    Method,
    /// The program and its arguments.
    Command,
    /// A variable of the environment.
    Variable {
        /// Its name.
        name: String,
        /// True if it comes from an `ARG`, not an `ENV`.
        is_arg: bool,
    },
    /// A value from the instruction, an earlier instruction, or the command line, under the name that users know:
    /// `--chown`, `the working directory`. The value is text.
    Setting(String),
    /// The content of files from another tree. The name is empty for a copy, and the target for a mount.
    Files(String),
    /// The same files by the identity of their snapshot, which needs no access to a file.
    Source(String),
    /// The layers below.
    Below,
}

impl Name {
    /// Returns the fields that identify this name in a digest. Whether a variable is an `ARG` makes no difference to
    /// the command, so it is not covered.
    pub(crate) fn digested(&self) -> [&str; 2] {
        match self {
            Name::Method => ["method", ""],
            Name::Command => ["command", ""],
            Name::Variable { name, is_arg: _ } => ["variable", name],
            Name::Setting(what) => ["setting", what],
            Name::Files(target) => ["files", target],
            Name::Source(target) => ["source", target],
            Name::Below => ["below", ""],
        }
    }
}

/// Builds a cache key.
#[derive(Debug)]
pub(crate) struct Parts(Vec<Part>);

impl Parts {
    /// Starts a key with the version `method` of the step's implementation. A new version makes existing cache records
    /// misses.
    pub(crate) fn new(method: &str) -> Parts {
        Parts(Vec::new()).with(Name::Method, method)
    }

    /// Adds a part.
    pub(crate) fn with(mut self, name: Name, value: impl Into<Vec<u8>>) -> Parts {
        self.0.push(Part { name, value: value.into(), files: None });
        self
    }

    /// Adds a value of the instruction or the command line, under the name that users know.
    pub(crate) fn setting(self, what: &str, value: &str) -> Parts {
        self.with(Name::Setting(what.to_owned()), value)
    }

    /// Adds the program and its arguments.
    pub(crate) fn command(self, argv: &[String]) -> Parts {
        let key = StepKey::of(argv.iter().map(String::as_bytes));
        self.with(Name::Command, key.as_bytes())
    }

    /// Adds files from another tree; `target` is empty for a copy.
    pub(crate) fn files(mut self, target: &str, content: &Content) -> Parts {
        let Content { digest, files } = content;
        let (name, value) = (Name::Files(target.to_owned()), digest.as_bytes().to_vec());
        self.0.push(Part { name, value, files: Some(Arc::clone(files)) });
        self
    }

    /// Adds the layers below, the last part of every key, and returns the key.
    pub(crate) fn on(self, below: &Snapshot) -> Arc<Key> {
        let all = self.with(Name::Below, below.identity().as_bytes()).0;
        let fields = all.iter().flat_map(|part| {
            let [kind, name] = part.name.digested();
            [kind.as_bytes(), name.as_bytes(), &part.value]
        });
        Arc::new(Key { id: StepKey::of(fields), parts: all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_parts_give_different_keys() {
        let below = Snapshot::default();
        let key = |what: &str, value: &str| Parts::new("run 1").setting(what, value).on(&below).id;
        assert_eq!(key("a", "b"), key("a", "b"));
        assert_ne!(key("a", "b"), key("ab", ""));
        assert_ne!(key("a", "b"), key("b", "a"));
        assert_ne!(key("a", "b"), Parts::new("run 2").setting("a", "b").on(&below).id);
        let files = Parts::new("run 1").with(Name::Files("a".to_owned()), "b").on(&below).id;
        assert_ne!(key("a", "b"), files);
    }

    #[test]
    fn arg_and_env_variable_give_the_same_key() {
        let name = |is_arg| Name::Variable { name: "A".to_owned(), is_arg };
        let key = |is_arg| Parts::new("run 1").with(name(is_arg), "1").on(&Snapshot::default()).id;
        assert_eq!(key(true), key(false));
    }
}
