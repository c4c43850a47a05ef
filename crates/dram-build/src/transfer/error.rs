//! Why an image could not be moved.

use std::io;
use std::path::PathBuf;

use dram_image::{Digest, DocumentError};
use dram_store::StoreError;

use crate::RemoteError;

/// Why an image could not be moved.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The source, or a file in it, could not be read.
    #[error("cannot read {place}")]
    Read {
        /// What.
        place: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The target could not be written.
    #[error("cannot write {}", place.display())]
    Write {
        /// The target, or the file in it.
        place: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The source is neither an archive nor a layout.
    #[error("{} is no image archive and no OCI layout", .0.display())]
    NoImages(PathBuf),
    /// The target is a directory with something else in it.
    #[error("{} holds something that is no OCI layout", .0.display())]
    InTheWay(PathBuf),
    /// A document is damaged.
    #[error("{file} of {place}")]
    Document {
        /// The source, or the target that is added to.
        place: String,
        /// The file in it, or the digest.
        file: String,
        /// What is wrong with it.
        #[source]
        source: DocumentError,
    },
    /// A blob is not what its descriptor says.
    #[error("the blob {digest} of {place} is damaged: {why}")]
    Blob {
        /// The source.
        place: String,
        /// Which blob.
        digest: Digest,
        /// How it was noticed.
        why: String,
    },
    /// The source has no image for the platform.
    #[error("{place} has no image for {platform}")]
    NoPlatform {
        /// The source.
        place: String,
        /// The platform asked for, with what there is.
        platform: String,
    },
    /// The target's form cannot hold it.
    #[error("{place} cannot hold {what}")]
    Form {
        /// The target.
        place: String,
        /// What it should have held.
        what: &'static str,
    },
    /// The other side of the network failed.
    #[error("{error}")]
    Far {
        /// What was attempted, and its causes.
        error: RemoteError,
        /// Whether it was there and said no.
        refused: bool,
        /// Whether it said no to a manifest, as it lacks a blob of it.
        lacks_blob: bool,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody wants it to end.
    #[error("it was interrupted")]
    Cancelled,
}
