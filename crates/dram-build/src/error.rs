//! Errors of a build.

use dram_dockerfile::Diagnostic;
use dram_sandbox::SandboxError;
use dram_store::{LayerId, StoreError};

use crate::LayerError;

/// The reasons why a build, or the image made from it, failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An error at a line of the Dockerfile that was found while the step was executed.
    #[error("{}", .0.message)]
    AtLine(Box<Diagnostic>),
    /// The command of a `RUN` failed.
    #[error("`{text}` ended with exit code {code}")]
    CommandFailed {
        /// The instruction.
        text: String,
        /// Its span in the Dockerfile, in bytes.
        span: std::ops::Range<usize>,
        /// The command's exit code; 128 plus the signal number if a signal ended it.
        code: i32,
        /// The last lines of its output.
        tail: Vec<String>,
        /// A program that the shell could not start because the image lacks its loader: the paths of both.
        missing_loader: Option<Box<(String, String)>>,
        /// The number of ids of this user, if the command's output says that the kernel refused an id.
        id_count: Option<u64>,
        /// True if the file system of the failed command was kept; [`FailedCommand`](crate::FailedCommand) then opens
        /// it.
        kept: bool,
    },
    /// A `RUN` could not be started.
    #[error("cannot run `{text}`")]
    CommandStart {
        /// The instruction.
        text: String,
        /// Its span in the Dockerfile, in bytes.
        span: std::ops::Range<usize>,
        /// The cause.
        #[source]
        source: SandboxError,
    },
    /// A file operation of the store failed, or its data is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer of a cache hit in a shared cache cannot be fetched. This error does not leave the crate: the scheduler
    /// goes back to the step that made the layer and executes it.
    #[error("no shared cache has the layer {layer} any more")]
    CacheLost {
        /// The layer.
        layer: LayerId,
    },
    /// The build was cancelled.
    #[error("the build was interrupted")]
    Cancelled,
}

impl From<LayerError> for BuildError {
    fn from(error: LayerError) -> BuildError {
        match error {
            LayerError::Store(error) => BuildError::Store(error),
            LayerError::Lost { layer } => BuildError::CacheLost { layer },
            LayerError::Cancelled => BuildError::Cancelled,
        }
    }
}

impl BuildError {
    pub(crate) fn at_line(diagnostic: Diagnostic) -> BuildError {
        BuildError::AtLine(Box::new(diagnostic))
    }
}
