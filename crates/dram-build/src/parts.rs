//! What a step's key is made of: parts with names, so that a step that is carried out can say which of them changed.

use std::sync::Arc;

use dram_store::StepKey;
use serde::{Deserialize, Serialize};

use crate::Snapshot;
use crate::content::{Content, Files};

/// The digest of everything that can change a step's result, and what it was made of.
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
    /// What it is.
    pub(crate) name: Name,
    /// What it was; for files and layers, their digest.
    pub(crate) value: Vec<u8>,
    /// For files, what the digest was made of.
    pub(crate) files: Option<Arc<Files>>,
}

/// What an input is called. Two parts of one key never have the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Name {
    /// How results of this kind of step are made: `run 1`.
    Method,
    /// The program and its arguments.
    Command,
    /// A variable of the environment.
    Variable {
        /// Its name.
        name: String,
        /// Whether an `ARG` gave it, not an `ENV`.
        is_arg: bool,
    },
    /// Something that the instruction, one before it, or the command line says, as people call it: `--chown`, `the
    /// working directory`. The value is text.
    Setting(String),
    /// Files that are taken from elsewhere, by their content. The name is empty for what a copy takes, and the target
    /// for what a command sees mounted.
    Files(String),
    /// The same by the identity of the snapshot they are taken from, which opens no file.
    Source(String),
    /// The layers below.
    Below,
}

impl Name {
    /// What tells it from the names of other parts in a digest. Whether a variable is an `ARG` makes no difference to
    /// the command that sees it.
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

/// A key in the making.
#[derive(Debug)]
pub(crate) struct Parts(Vec<Part>);

impl Parts {
    /// Nothing yet but the way results are made. `method` changes when the meaning of a key or the result of such a
    /// step does: what was remembered before is then not found.
    pub(crate) fn new(method: &str) -> Parts {
        Parts(Vec::new()).with(Name::Method, method)
    }

    /// Adds a part.
    pub(crate) fn with(mut self, name: Name, value: impl Into<Vec<u8>>) -> Parts {
        self.0.push(Part { name, value: value.into(), files: None });
        self
    }

    /// Adds what the instruction or the command line says, under the name that people know it by.
    pub(crate) fn setting(self, what: &str, value: &str) -> Parts {
        self.with(Name::Setting(what.to_owned()), value)
    }

    /// Adds the program and its arguments.
    pub(crate) fn command(self, argv: &[String]) -> Parts {
        let key = StepKey::of(argv.iter().map(String::as_bytes));
        self.with(Name::Command, key.as_bytes())
    }

    /// Adds files that are taken from elsewhere: of a copy, `target` is empty.
    pub(crate) fn files(mut self, target: &str, content: &Content) -> Parts {
        let Content { digest, files } = content;
        let (name, value) = (Name::Files(target.to_owned()), digest.as_bytes().to_vec());
        self.0.push(Part { name, value, files: Some(Arc::clone(files)) });
        self
    }

    /// Adds the layers below. The last part of every key.
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
    fn a_key_tells_its_parts_apart() {
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
    fn what_gave_a_variable_is_no_part_of_what_it_does() {
        let name = |is_arg| Name::Variable { name: "A".to_owned(), is_arg };
        let key = |is_arg| Parts::new("run 1").with(name(is_arg), "1").on(&Snapshot::default()).id;
        assert_eq!(key(true), key(false));
    }
}
