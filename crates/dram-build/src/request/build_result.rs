//! Events and the result of a requested build.

use std::collections::BTreeMap;
use std::time::Duration;

use dram_dockerfile::Diagnostic;
use dram_image::{Digest, Reference};
use dram_plan::Plan;

use super::BuildFailure;
use crate::shared_cache::ExportedCache;
use crate::transfer::TransferProgress;
use crate::{BuildEvent, BuiltImage, Snapshot, StepPosition};

/// An event of a requested build.
#[derive(Debug)]
pub enum RequestEvent<'a> {
    /// Warnings about the Dockerfile, before any step is executed.
    Warnings(&'a [Diagnostic]),
    /// The plan is ready.
    Planned(&'a Plan),
    /// An event of a step, or of packing the image.
    Step(BuildEvent),
    /// A push, or the export of a shared cache, starts.
    TransferStarted,
    /// The transfer that was started makes progress.
    Transfer(TransferProgress),
    /// A note about shared caches.
    Note(BuildNote),
    /// All outputs are written, or one of them failed.
    OutputsEnded,
}

/// A note about a shared cache. Caches only save time, so a build does not fail without them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildNote {
    /// A cache cannot be read.
    CacheNotImported {
        /// The cache as it was requested.
        cache: String,
        /// The causes, outermost first.
        causes: Vec<String>,
    },
    /// A cache failed during the build.
    CacheFailed(String),
    /// A cache was written.
    CacheExported {
        /// The name of the cache.
        cache: String,
        /// What was written.
        exported: ExportedCache,
    },
    /// A cache was not written, and the request says that this is no error.
    CacheNotExported {
        /// The cache as it was requested.
        cache: String,
        /// The causes, outermost first.
        causes: Vec<String>,
    },
}

/// Everything that a build made.
#[derive(Debug)]
pub struct BuildResult {
    /// The plan that was executed.
    pub plan: Plan,
    /// The file system of the target stage.
    pub snapshot: Snapshot,
    /// The outputs, in the order of the request.
    pub outputs: Vec<OutputResult>,
    /// The ending of each step that is not config only.
    pub steps: BTreeMap<StepPosition, StepEnding>,
    /// Warnings about the Dockerfile from planning and lint.
    pub warnings: Vec<Diagnostic>,
    /// Warnings that were found while steps were executed, and about commands of the image that cannot start, if the
    /// request asks for this check.
    pub remarks: Vec<Diagnostic>,
    /// The failure of a shared cache that was not written. Everything else is done.
    pub cache_failure: Option<BuildFailure>,
    /// The duration of each phase.
    pub durations: PhaseDurations,
}

/// An output that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputResult {
    /// The image, if the output is one.
    pub image: Option<OutputImage>,
    /// The destination outside the store, for messages.
    pub destination: Option<String>,
}

/// An image that was written as an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputImage {
    /// The descriptors of its manifest and config.
    pub built: BuiltImage,
    /// Its names.
    pub names: Vec<Reference>,
}

impl OutputImage {
    /// Returns the digest of its root document.
    pub fn root_digest(&self) -> Digest {
        self.built.manifest.digest
    }

    /// Returns the image ID: the digest of its config.
    pub fn image_id(&self) -> Digest {
        self.built.config.digest
    }
}

/// The ending of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepEnding {
    /// It was a cache hit in the store.
    Cached,
    /// It was a cache hit in a shared cache.
    SharedCacheHit,
    /// It was executed.
    Executed,
}

/// The numbers of cached and executed steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepCounts {
    /// Steps with a cache hit.
    pub cached: usize,
    /// Of these, steps with a cache hit in a shared cache and not in the store.
    pub from_shared_cache: usize,
    /// Executed steps.
    pub executed: usize,
}

/// The duration of each phase of a build.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PhaseDurations {
    /// Resolving the inputs and planning.
    pub resolve: Duration,
    /// Executing the steps.
    pub solve: Duration,
    /// Writing the outputs and the shared caches.
    pub export: Duration,
}

impl BuildResult {
    /// Returns the last image among the outputs.
    pub fn last_image(&self) -> Option<&OutputImage> {
        self.outputs.iter().rev().find_map(|output| output.image.as_ref())
    }

    /// Counts the steps by their ending.
    pub fn step_counts(&self) -> StepCounts {
        let count = |ending| self.steps.values().filter(|one| **one == ending).count();
        let shared = count(StepEnding::SharedCacheHit);
        StepCounts {
            cached: count(StepEnding::Cached) + shared,
            from_shared_cache: shared,
            executed: count(StepEnding::Executed),
        }
    }
}
