//! Moving images: one verb, [`copy`], between a [`Source`] and a [`Sink`].
//!
//! Whatever has images is an endpoint here, one file each: the store, an OCI layout, an archive of one, an archive for
//! Docker. Registries are endpoints of whoever knows the network. What goes from one to another keeps every byte and
//! so its digest; blobs are checked on the way, and what is there already is not sent.

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

/// Where images come from. Nothing that it says is trusted: [`copy`] compares lengths and digests.
pub trait Source: std::fmt::Debug + Send + Sync {
    /// What a person calls it.
    fn shown(&self) -> String;

    /// The bytes of a manifest or an index.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    fn document(&self, document: &Descriptor) -> Result<Vec<u8>, TransferError>;

    /// A reader of a blob from its beginning.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>, TransferError>;

    /// Whether readers fail by themselves when length or digest are wrong.
    fn proves(&self) -> bool {
        false
    }

    /// Is told that what [`Source::open`] gave was not the blob. Returns whether the next reader comes from elsewhere.
    fn doubt(&self, blob: &Descriptor) -> bool {
        let _ = blob;
        false
    }

    /// What refers to `document`: signatures, lists of parts.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn referrers(&self, document: &Descriptor) -> Result<Vec<Descriptor>, TransferError> {
        let _ = document;
        Ok(Vec::new())
    }

    /// Repositories that are known to have the blob.
    fn seen(&self, blob: &Descriptor) -> Vec<Repository> {
        let _ = blob;
        Vec::new()
    }

    /// Takes note that a repository has the blob now.
    fn note(&self, blob: &Descriptor, at: &Repository) {
        let _ = (blob, at);
    }
}

/// Where images go.
pub trait Sink: std::fmt::Debug + Sync {
    /// What a person calls it.
    fn shown(&self) -> String;

    /// How many blobs it takes at once.
    fn at_once(&self) -> usize {
        1
    }

    /// Whether it has the blob, whole.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn has(&self, blob: &Descriptor) -> Result<bool, TransferError>;

    /// Whether it has a document, and all that it leads to.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn has_all(&self, document: &Descriptor) -> Result<bool, TransferError> {
        let _ = document;
        Ok(false)
    }

    /// Takes a blob over from another repository, where it can. Returns whether it did.
    ///
    /// # Errors
    /// When it should have been able to.
    fn mount(&self, blob: &Descriptor, from: &Repository) -> Result<bool, TransferError> {
        let _ = (blob, from);
        Ok(false)
    }

    /// Takes a blob.
    ///
    /// # Errors
    /// When it cannot be written.
    fn blob(&self, blob: &Descriptor, incoming: &Incoming<'_>) -> Result<(), TransferError>;

    /// Whether [`Sink::blob`] compares the digest itself.
    fn proves(&self) -> bool {
        false
    }

    /// Takes a manifest or index that the image leads to. What it leads to itself is there.
    ///
    /// # Errors
    /// When it cannot be written.
    fn document(&self, document: &Descriptor, bytes: &[u8]) -> Result<(), TransferError>;

    /// Takes the image's own document, after all else, and gives it its name.
    ///
    /// # Errors
    /// When it cannot be written.
    fn finish(&self, root: &Descriptor, bytes: &[u8]) -> Result<(), TransferError>;

    /// Takes a manifest that refers to the image. What it leads to is there.
    ///
    /// # Errors
    /// When it cannot be written.
    fn referrer(&self, document: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        self.document(document, bytes)
    }

    /// The repository that it is, if it is one.
    fn repository(&self) -> Option<Repository> {
        None
    }

    /// Takes note that a repository has the blob.
    fn note(&self, blob: &Descriptor, at: &Repository) {
        let _ = (blob, at);
    }
}
