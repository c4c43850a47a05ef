//! What happens during a build, as it happens: the only way to a screen.

use dram_dockerfile::Diagnostic;

use crate::Why;

/// Which step of which stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepAt {
    /// Index into the plan's stages.
    pub stage: usize,
    /// Index into the stage's steps.
    pub step: usize,
}

/// Something happened. A step starts once and ends once, remembered or done; a failed one ends with the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step is being carried out, and why.
    Started(StepAt, Why),
    /// Another process runs the same step; its result will serve.
    Waiting(StepAt),
    /// Another command has the cache with this id, and does not share.
    WaitingForCache(StepAt, String),
    /// A line that the step's command wrote, without its end.
    Log(StepAt, Vec<u8>),
    /// The step's result was remembered.
    Remembered(StepAt),
    /// A shared cache knows the step's result.
    Shared(StepAt),
    /// The step was carried out.
    Done(StepAt),
    /// Something about a line of the Dockerfile that is only seen when it is carried out, and does not stop the build.
    Remark(Box<Diagnostic>),
    /// A base image's layer is being unpacked, for the first time in this store.
    Unpacking {
        /// The image.
        image: String,
    },
    /// A layer that a shared cache has is being fetched.
    Fetching {
        /// The cache.
        from: String,
        /// Bytes of the blob.
        size: u64,
    },
    /// A layer of the image is being packed and compressed.
    Packing {
        /// How many of the image's layers are ready.
        ready: usize,
        /// How many it has.
        of: usize,
    },
}
