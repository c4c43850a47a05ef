//! Errors of image transfers.

use std::io;
use std::path::PathBuf;

use dram_image::{Digest, DocumentError, ImageObstacle};
use dram_store::StoreError;

use crate::RemoteError;

/// The reasons why an image could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The source, or a file in it, could not be read.
    #[error("cannot read {place}")]
    Read {
        /// The source or the file.
        place: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The sink could not be written.
    #[error("cannot write {}", place.display())]
    Write {
        /// The sink, or the file in it.
        place: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The source is neither an archive nor a layout.
    #[error("{} is no image archive and no OCI layout", .0.display())]
    NoImages(PathBuf),
    /// The target directory holds something other than a layout.
    #[error("{} holds something that is no OCI layout", .0.display())]
    NotALayout(PathBuf),
    /// The source is a directory of skopeo's transport `dir:`.
    #[error("{} is a directory of skopeo's `dir:`, and no OCI layout", .0.display())]
    SkopeoDir(PathBuf),
    /// The source has an artifact or an encrypted image.
    #[error("{place} cannot be used as an image: {obstacle}")]
    NotAnImage {
        /// The source.
        place: String,
        /// The reason.
        obstacle: ImageObstacle,
    },
    /// A document is damaged.
    #[error("{file} of {place}")]
    Document {
        /// The source, or the sink that is extended.
        place: String,
        /// The file in it, or the digest.
        file: String,
        /// The error in the document.
        #[source]
        source: DocumentError,
    },
    /// A blob does not match its descriptor.
    #[error("the blob {digest} of {place} is damaged: {why}")]
    Blob {
        /// The source.
        place: String,
        /// The blob.
        digest: Digest,
        /// The difference.
        why: String,
    },
    /// The source has no image for the platform.
    #[error("{place} has no image for {platform}")]
    NoPlatform {
        /// The source.
        place: String,
        /// The requested platform, with those that exist.
        platform: String,
    },
    /// The format of the sink cannot hold the image.
    #[error("{place} cannot hold {what}")]
    UnsupportedContent {
        /// The sink.
        place: String,
        /// The content that it cannot hold.
        what: &'static str,
    },
    /// The network or the remote server failed.
    #[error(transparent)]
    Remote(RemoteError),
    /// The store returned an error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The transfer was cancelled.
    #[error("it was interrupted")]
    Cancelled,
}

impl TransferError {
    /// Returns whether a registry refused a manifest because it lacks one of its blobs.
    pub(crate) fn is_blob_missing(&self) -> bool {
        matches!(self, TransferError::Remote(error) if error.is_blob_missing())
    }
}
