//! Copies images between a source and a sink: [`copy_image`], [`ImageSource`], [`ImageSink`].
//!
//! Each kind of endpoint has one file: the store, an OCI layout, an archive of one, an archive for Docker. Registries
//! are endpoints in another crate, which has access to the network. A copy keeps every byte and therefore the digest;
//! blobs are verified while they are copied, and blobs that the sink has are not sent.

mod archive;
mod copy;
mod docker;
mod error;
mod far;
mod files;
mod incoming;
mod layout;
mod load;
mod pick;
mod save;
mod store;

use std::io::Read;

use dram_image::Descriptor;

pub use archive::{Archive, ArchiveSink};
pub use copy::{Copying, Motion, copy, layers_of};
pub(crate) use copy::{read, sent};
pub use error::TransferError;
pub use far::Far;
pub use incoming::Incoming;
pub use layout::{LayoutSink, LayoutSource, Listed, Name};
pub use load::{Loaded, Opened, load, open};
pub use pick::{Which, has_platform, pick};
pub use save::{save_archive, save_layout};
pub use store::{StoreSink, StoreSource};

/// A repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    /// The registry's host and port.
    pub host: String,
    /// The repository's name there.
    pub name: String,
}

/// A source of images. It is not trusted: [`copy_image`] verifies sizes and digests.
pub trait Source: std::fmt::Debug + Send + Sync {
    /// Returns the name of the source for messages.
    fn shown(&self) -> String;

    /// Reads a manifest or an index.
    ///
    /// # Errors
    /// Returns an error if it is missing or cannot be read.
    fn document(&self, document: &Descriptor) -> Result<Vec<u8>, TransferError>;

    /// Opens a reader at the beginning of a blob.
    ///
    /// # Errors
    /// Returns an error if it is missing or cannot be read.
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>, TransferError>;

    /// Returns whether the readers fail by themselves if the size or digest is wrong.
    fn proves(&self) -> bool {
        false
    }

    /// Reports that [`ImageSource::open`] returned a wrong blob. Returns whether the next reader has another origin.
    fn doubt(&self, blob: &Descriptor) -> bool {
        let _ = blob;
        false
    }

    /// Returns the referrers of `document`: signatures, SBOMs.
    ///
    /// # Errors
    /// Returns an error if they cannot be determined.
    fn referrers(&self, document: &Descriptor) -> Result<Vec<Descriptor>, TransferError> {
        let _ = document;
        Ok(Vec::new())
    }

    /// Returns the repositories that are known to have the blob.
    fn seen(&self, blob: &Descriptor) -> Vec<Repository> {
        let _ = blob;
        Vec::new()
    }

    /// Records that a repository has the blob now.
    fn note(&self, blob: &Descriptor, at: &Repository) {
        let _ = (blob, at);
    }
}

/// A destination of images.
pub trait Sink: std::fmt::Debug + Sync {
    /// Returns the name of the sink for messages.
    fn shown(&self) -> String;

    /// Returns the number of blobs that it takes in parallel.
    fn at_once(&self) -> usize {
        1
    }

    /// Returns whether it has the whole blob.
    ///
    /// # Errors
    /// Returns an error if that cannot be determined.
    fn has(&self, blob: &Descriptor) -> Result<bool, TransferError>;

    /// Returns whether it has a document and everything that it refers to.
    ///
    /// # Errors
    /// Returns an error if that cannot be determined.
    fn has_all(&self, document: &Descriptor) -> Result<bool, TransferError> {
        let _ = document;
        Ok(false)
    }

    /// Mounts a blob from another repository of the same registry. Returns whether that was possible.
    ///
    /// # Errors
    /// Returns an error if the request failed.
    fn mount(&self, blob: &Descriptor, from: &Repository) -> Result<bool, TransferError> {
        let _ = (blob, from);
        Ok(false)
    }

    /// Writes a blob.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    fn blob(&self, blob: &Descriptor, incoming: &Incoming<'_>) -> Result<(), TransferError>;

    /// Returns whether [`ImageSink::put_blob`] verifies the digest itself.
    fn proves(&self) -> bool {
        false
    }

    /// Writes a manifest or index that the image refers to. Everything it refers to was written before.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    fn document(&self, document: &Descriptor, bytes: &[u8]) -> Result<(), TransferError>;

    /// Writes the image's own document, after everything else, and gives it its name.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    fn finish(&self, root: &Descriptor, bytes: &[u8]) -> Result<(), TransferError>;

    /// Writes a manifest that refers to the image. Everything it refers to was written before.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    fn referrer(&self, document: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        self.document(document, bytes)
    }

    /// Returns the repository of this sink, if it is one.
    fn repository(&self) -> Option<Repository> {
        None
    }

    /// Records that a repository has the blob.
    fn note(&self, blob: &Descriptor, at: &Repository) {
        let _ = (blob, at);
    }
}
