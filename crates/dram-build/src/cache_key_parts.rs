//! The parts of a cache key. Each has a name, so that a cache miss can say which inputs changed.

use std::sync::Arc;

use dram_store::StepKey;
use serde::{Deserialize, Serialize};

use crate::Snapshot;
use crate::content_digest::{ContentDigest, FileList};

/// The cache key of a step: the digest of everything that can change its result, and the parts it was computed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepCacheKey {
    /// The digest.
    pub(crate) id: StepKey,
    /// The parts, in the order in which they were digested.
    pub(crate) parts: Vec<CacheKeyPart>,
}

/// One input of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CacheKeyPart {
    /// The name of the input.
    pub(crate) name: CacheKeyPartName,
    /// The value of the input; for files and layers, their digest.
    pub(crate) value: Vec<u8>,
    /// For files: the list that the digest was computed from.
    pub(crate) files: Option<Arc<FileList>>,
}

/// The name of an input. It is unique within one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CacheKeyPartName {
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

impl CacheKeyPartName {
    /// Returns the fields that identify this name in a digest. Whether a variable is an `ARG` makes no difference to
    /// the command, so it is not covered.
    pub(crate) fn digest_fields(&self) -> [&str; 2] {
        match self {
            CacheKeyPartName::Method => ["method", ""],
            CacheKeyPartName::Command => ["command", ""],
            CacheKeyPartName::Variable { name, is_arg: _ } => ["variable", name],
            CacheKeyPartName::Setting(what) => ["setting", what],
            CacheKeyPartName::Files(target) => ["files", target],
            CacheKeyPartName::Source(target) => ["source", target],
            CacheKeyPartName::Below => ["below", ""],
        }
    }
}

/// Builds a cache key.
#[derive(Debug)]
pub(crate) struct CacheKeyBuilder(Vec<CacheKeyPart>);

impl CacheKeyBuilder {
    /// Starts a key with the version `method` of the step's implementation. A new version makes existing cache records
    /// misses.
    pub(crate) fn new(method: &str) -> CacheKeyBuilder {
        CacheKeyBuilder(Vec::new()).with(CacheKeyPartName::Method, method)
    }

    /// Adds a part.
    pub(crate) fn with(mut self, name: CacheKeyPartName, value: impl Into<Vec<u8>>) -> CacheKeyBuilder {
        self.0.push(CacheKeyPart { name, value: value.into(), files: None });
        self
    }

    /// Adds a value of the instruction or the command line, under the name that users know.
    pub(crate) fn setting(self, what: &str, value: &str) -> CacheKeyBuilder {
        self.with(CacheKeyPartName::Setting(what.to_owned()), value)
    }

    /// Adds the program and its arguments.
    pub(crate) fn command(self, argv: &[String]) -> CacheKeyBuilder {
        let key = StepKey::of(argv.iter().map(String::as_bytes));
        self.with(CacheKeyPartName::Command, key.as_bytes())
    }

    /// Adds files from another tree; `target` is empty for a copy.
    pub(crate) fn files(mut self, target: &str, content: &ContentDigest) -> CacheKeyBuilder {
        let ContentDigest { digest, files, left_out: _ } = content;
        let (name, value) = (CacheKeyPartName::Files(target.to_owned()), digest.as_bytes().to_vec());
        self.0.push(CacheKeyPart { name, value, files: Some(Arc::clone(files)) });
        self
    }

    /// Adds the layers below, the last part of every key, and returns the key.
    pub(crate) fn finish(self, below: &Snapshot) -> Arc<StepCacheKey> {
        let all = self.with(CacheKeyPartName::Below, below.identity().as_bytes()).0;
        let fields = all.iter().flat_map(|part| {
            let [kind, name] = part.name.digest_fields();
            [kind.as_bytes(), name.as_bytes(), &part.value]
        });
        Arc::new(StepCacheKey { id: StepKey::of(fields), parts: all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_parts_give_different_keys() {
        let below = Snapshot::default();
        let key = |what: &str, value: &str| CacheKeyBuilder::new("run 1").setting(what, value).finish(&below).id;
        assert_eq!(key("a", "b"), key("a", "b"));
        assert_ne!(key("a", "b"), key("ab", ""));
        assert_ne!(key("a", "b"), key("b", "a"));
        assert_ne!(key("a", "b"), CacheKeyBuilder::new("run 2").setting("a", "b").finish(&below).id);
        let files = CacheKeyBuilder::new("run 1").with(CacheKeyPartName::Files("a".to_owned()), "b").finish(&below).id;
        assert_ne!(key("a", "b"), files);
    }

    #[test]
    fn arg_and_env_variable_give_the_same_key() {
        let name = |is_arg| CacheKeyPartName::Variable { name: "A".to_owned(), is_arg };
        let key = |is_arg| CacheKeyBuilder::new("run 1").with(name(is_arg), "1").finish(&Snapshot::default()).id;
        assert_eq!(key(true), key(false));
    }
}
