//! The events of a build. They are the only way to the terminal.

use dram_dockerfile::Diagnostic;

use crate::{CacheMiss, ResourceUsage};

/// The position of a step in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepPosition {
    /// Index into the plan's stages.
    pub stage: usize,
    /// Index into the stage's steps.
    pub step: usize,
}

/// An event of a build. A step starts at most once and ends once, cached or executed; a failed step ends with the
/// build. The exception are steps whose result, or an input of them, turns out to be lost in a shared cache: they may
/// be started after they were reported as cached. A result that did not change is not reported again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildEvent {
    /// The step is being executed, with the reasons of the cache miss.
    Started(StepPosition, CacheMiss),
    /// Another process executes the same step; its result will be used.
    WaitingForStep(StepPosition),
    /// Another command holds the cache mount with this id, which is not shared.
    WaitingForCache(StepPosition, String),
    /// A line of the command's output, without its line end. A line that the command overwrites, of a progress bar for
    /// example, ends with a carriage return.
    Log(StepPosition, Vec<u8>),
    /// The step was a cache hit in the store.
    Cached(StepPosition),
    /// The step was a cache hit in a shared cache.
    SharedCacheHit(StepPosition),
    /// The step was executed, and used these resources.
    Executed(StepPosition, ResourceUsage),
    /// A warning about a line of the Dockerfile that was found while the step was executed. It does not stop the build.
    Remark(Box<Diagnostic>),
    /// A layer of a base image is being unpacked, for the first time in this store.
    Unpacking {
        /// The image.
        image: String,
    },
    /// A layer is being fetched from a shared cache.
    Fetching {
        /// The cache.
        from: String,
        /// The size of the blob in bytes.
        size: u64,
    },
    /// A layer of the image is being packed and compressed.
    Packing {
        /// The number of layers of the image that are packed.
        ready: usize,
        /// The number of layers of the image.
        total: usize,
    },
}
