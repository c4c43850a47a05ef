//! What a place's last builds did and took, as it is kept: a line that names the last build, then JSON.

use dram_store::{JOURNAL_HEAD, LayerId, Places, StepKey, Store};
use serde::{Deserialize, Serialize};

use super::Why;

/// Raised when a reader of the form before would be wrong about this one.
const VERSION: u32 = 1;

/// What is known of a Dockerfile's builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    version: u32,
    /// The Dockerfile's path, or `-`.
    pub dockerfile: String,
    /// The build context: a path, an address, or `-`.
    pub context: String,
    /// The platform that was built for.
    pub platform: String,
    /// The last build's target; empty when none was named.
    pub target: String,
    /// The stages: those of the last build, then those of earlier ones.
    pub stages: Vec<StageNote>,
}

/// What is known of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageNote {
    /// Its name, or `stage-N`.
    pub name: String,
    /// Whether it was a part of the last build.
    pub is_last: bool,
    pub(crate) base: BaseNote,
    /// Its steps.
    pub steps: Vec<StepNote>,
}

/// What a stage stood on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BaseNote {
    /// Nothing.
    Scratch,
    /// An image.
    Image {
        /// Its name.
        name: String,
        /// What it was, when that was seen.
        identity: Option<StepKey>,
    },
    /// Another stage.
    Stage(String),
}

/// What is known of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepNote {
    /// The line of the Dockerfile it was on.
    pub line: usize,
    /// The instruction, without what looks like a secret, cut when it is long.
    pub text: String,
    /// What the last build did with it.
    pub outcome: Outcome,
    /// How long it took when it was last carried out, in milliseconds.
    pub millis: Option<u64>,
    /// Why it was last carried out; empty when that is not known.
    pub why: Why,
    /// What it left, when that is known.
    pub left: Option<Left>,
    /// Whom it is remembered under.
    pub(crate) keys: Vec<StepKey>,
    /// What these keys are made of.
    pub(crate) parts: Vec<PartNote>,
}

impl StepNote {
    /// Whether `store` still has what the step left, so that the next build can remember it.
    pub fn is_kept(&self, store: &Store) -> bool {
        self.keys.iter().any(|key| store.memory().recall(key).is_some())
    }
}

/// What a step left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Left {
    /// Nothing that a layer could hold.
    Nothing,
    /// A layer.
    Layer(LayerId),
}

/// What a build did with a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Its result was remembered.
    Remembered,
    /// Its result was taken from a shared cache.
    Shared,
    /// It was carried out.
    CarriedOut,
    /// It was carried out, and failed.
    Failed,
    /// It was carried out until the build was interrupted.
    Stopped,
    /// The build ended before it.
    NotReached,
    /// It changes the configuration only: there is nothing to carry out.
    Meta,
}

/// What is kept of a part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartNote {
    /// What it is.
    pub(crate) name: crate::parts::Name,
    /// A digest of the value; `None` where nothing of it may be written down.
    pub(crate) digest: Option<StepKey>,
    /// The value, where it may be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shown: Option<String>,
}

impl Journal {
    pub(crate) fn new(place: &super::Place, stages: Vec<StageNote>) -> Journal {
        let super::Place { dockerfile, context, platform, target, build_args: _ } = place.clone();
        Journal { version: VERSION, dockerfile, context, platform, target, stages }
    }

    /// The journal of `place`; `None` when there is none that this program can read.
    pub fn read(places: Places<'_>, place: &StepKey) -> Option<Journal> {
        let bytes = places.journal(place)?;
        let journal: Journal = serde_json::from_slice(bytes.get(JOURNAL_HEAD..)?).ok()?;
        (journal.version == VERSION).then_some(journal)
    }

    /// The bytes to keep, of a build that `head` names.
    pub(crate) fn to_bytes(&self, head: &[u8; JOURNAL_HEAD]) -> Vec<u8> {
        let mut bytes = head.to_vec();
        serde_json::to_writer(&mut bytes, self).expect("plain data becomes JSON");
        bytes
    }
}
