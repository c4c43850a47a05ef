//! What can stop a build.

use dram_dockerfile::Diagnostic;
use dram_sandbox::SandboxError;
use dram_store::{LayerId, StoreError};

/// Why a build, or an image made from it, did not come about.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Something about a line of the Dockerfile, found only when it was carried out.
    #[error("{}", .0.message)]
    AtLine(Box<Diagnostic>),
    /// The command of a `RUN` failed.
    #[error("`{text}` ended with exit code {code}")]
    Run {
        /// The instruction.
        text: String,
        /// Where it stands in the Dockerfile, in bytes.
        span: std::ops::Range<usize>,
        /// The command's exit code; 128 plus the number of the signal that ended it.
        code: i32,
        /// The last lines that it wrote.
        tail: Vec<String>,
        /// A program that the shell could not start because the image lacks its loader: the two paths.
        missing_loader: Option<(String, String)>,
        /// Whether what it left was kept: [`FailedCommand`](crate::FailedCommand) then leads there.
        kept: bool,
    },
    /// A `RUN` could not be started.
    #[error("cannot run `{text}`")]
    Start {
        /// The instruction.
        text: String,
        /// Where it stands in the Dockerfile, in bytes.
        span: std::ops::Range<usize>,
        /// Why.
        #[source]
        source: SandboxError,
    },
    /// The disk refused, or what lies on it is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer that a shared cache promised cannot be had. Nobody outside sees this: the build goes back to the step
    /// that left it.
    #[error("no shared cache has the layer {layer} any more")]
    CacheLost {
        /// Which.
        layer: LayerId,
    },
    /// The build was told to stop.
    #[error("the build was interrupted")]
    Cancelled,
}

impl BuildError {
    pub(crate) fn at(diagnostic: Diagnostic) -> BuildError {
        BuildError::AtLine(Box::new(diagnostic))
    }
}
