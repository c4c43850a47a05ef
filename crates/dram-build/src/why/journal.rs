//! The build journal: what the last builds of a Dockerfile did, and their inputs. It is stored as a line that
//! identifies the last build, followed by JSON.

use dram_store::{BuildHistory, JOURNAL_HEAD_SIZE, LayerId, StepKey, Store};
use serde::{Deserialize, Serialize};

use super::CacheMiss;

/// The version of the format; raised when older readers would misread it.
const VERSION: u32 = 1;

/// The journal of a Dockerfile's builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildJournal {
    version: u32,
    /// The Dockerfile's path, or `-`.
    pub dockerfile: String,
    /// The build context: a path, an address, or `-`.
    pub context: String,
    /// The platform that was built for.
    pub platform: String,
    /// The last build's target; empty when none was named.
    pub target: String,
    /// The stages of the last build, then those of earlier builds.
    pub stages: Vec<JournalStage>,
}

/// The journal entry of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalStage {
    /// Its name, or `stage-N`.
    pub name: String,
    /// True if the last build used it.
    #[serde(rename = "is_last")]
    pub in_last_build: bool,
    pub(crate) base: JournalBase,
    /// Its steps.
    pub steps: Vec<JournalStep>,
}

/// The base of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum JournalBase {
    /// Nothing.
    Scratch,
    /// An image.
    Image {
        /// Its name.
        name: String,
        /// Its identity, if it was known.
        identity: Option<StepKey>,
    },
    /// Another stage.
    Stage(String),
}

/// The journal entry of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalStep {
    /// The line of the Dockerfile; 0 for a generated step.
    pub line: usize,
    /// The instruction, without values that look like secrets, shortened if it is long.
    pub text: String,
    /// The outcome in the last build.
    pub outcome: StepOutcome,
    /// The duration of the last execution, in milliseconds.
    pub millis: Option<u64>,
    /// The resources that its command used in the last execution, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<JournalUsage>,
    /// The causes of the last cache miss; empty if unknown.
    pub why: CacheMiss,
    /// Its result, if known.
    #[serde(rename = "left")]
    pub result: Option<StepResult>,
    /// Its cache keys.
    pub(crate) keys: Vec<StepKey>,
    /// The parts of these keys.
    pub(crate) parts: Vec<JournalPart>,
}

impl JournalStep {
    /// Returns whether `store` still has the result of the step, so that it is a cache hit in the next build.
    pub fn is_cached(&self, store: &Store) -> bool {
        self.keys.iter().any(|key| store.step_cache().get(key).is_some())
    }
}

/// The resources that a command used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalUsage {
    /// CPU time in user mode, in milliseconds.
    pub user_millis: u64,
    /// CPU time in the kernel, in milliseconds.
    pub system_millis: u64,
    /// The largest resident set of one process, in bytes.
    pub max_rss: u64,
}

/// The result of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepResult {
    /// No layer: the step changed nothing.
    #[serde(rename = "Nothing")]
    NoLayer,
    /// A layer.
    Layer(LayerId),
}

/// The outcome of a step in a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// It was a cache hit in the store.
    #[serde(rename = "remembered")]
    Cached,
    /// It was a cache hit in a shared cache.
    Shared,
    /// It was executed.
    #[serde(rename = "carried-out")]
    Executed,
    /// It was executed and failed.
    Failed,
    /// It was being executed when the build was interrupted.
    #[serde(rename = "stopped")]
    Interrupted,
    /// The build ended before it.
    NotReached,
    /// It only changes the config, so there is nothing to execute.
    Meta,
}

/// The journal entry of a part of a cache key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JournalPart {
    /// The name of the part.
    pub(crate) name: crate::cache_key_parts::CacheKeyPartName,
    /// A digest of the value; `None` for a secret, of which nothing is recorded.
    pub(crate) digest: Option<StepKey>,
    /// The value, if it may be printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shown: Option<String>,
}

impl BuildJournal {
    pub(crate) fn new(place: &super::BuildId, stages: Vec<JournalStage>) -> BuildJournal {
        let super::BuildId { dockerfile, context, platform, target, build_args: _ } = place.clone();
        BuildJournal { version: VERSION, dockerfile, context, platform, target, stages }
    }

    /// Reads the journal of `place`; `None` if there is none or its version is unknown.
    pub fn read(places: BuildHistory<'_>, place: &StepKey) -> Option<BuildJournal> {
        let bytes = places.journal(place)?;
        let journal: BuildJournal = serde_json::from_slice(bytes.get(JOURNAL_HEAD_SIZE..)?).ok()?;
        (journal.version == VERSION).then_some(journal)
    }

    /// Returns the bytes to store, for the build that `head` identifies.
    pub(crate) fn to_bytes(&self, head: &[u8; JOURNAL_HEAD_SIZE]) -> Vec<u8> {
        let mut bytes = head.to_vec();
        serde_json::to_writer(&mut bytes, self).expect("plain data becomes JSON");
        bytes
    }
}
