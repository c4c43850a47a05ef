//! Copies images between a source and a sink: [`copy_image()`], [`ImageSource`], [`ImageSink`].
//!
//! Each kind of endpoint has one file: the store, an OCI layout, an archive of one, an archive for Docker. Registries
//! are endpoints in another crate, which has access to the network. A copy keeps every byte and therefore the digest;
//! blobs are verified while they are copied, and blobs that the sink has are not sent.

mod archive_sink;
mod attachments;
mod copy_image;
#[cfg(test)]
mod copy_image_tests;
mod docker_archive;
mod incoming_blob;
mod layout;
mod layout_files;
mod lazy_blobs;
mod load;
mod save;
mod select_platform;
mod store_endpoint;
mod transfer_error;

use std::io::Read;

use dram_image::{Descriptor, Digest};

pub use archive_sink::{ArchiveFormat, ArchiveSink};
pub use attachments::{attachment_tag, attachment_tags, with_attachment_tag};
pub use copy_image::{CopyOptions, TransferProgress, copy_image, image_layers};
pub(crate) use copy_image::{read_config, read_document, send_blob};
pub use incoming_blob::IncomingBlob;
pub use layout::{LayoutImage, LayoutName, LayoutSink, LayoutSource, find_layout_image};
pub use lazy_blobs::LazyBlobs;
pub use load::{LoadSource, LoadedImage, load_images, load_layout_image, open_load_source};
pub use save::{save_archive, save_layout};
pub use select_platform::{ImageSelection, has_platform, select_manifest, select_root};
pub use store_endpoint::{StoreSink, StoreSource};
pub use transfer_error::TransferError;

/// A repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryRepository {
    /// The registry's host and port.
    pub host: String,
    /// The repository's name there.
    pub name: String,
}

/// A source of images. It is not trusted: [`copy_image()`] verifies sizes and digests.
pub trait ImageSource: std::fmt::Debug + Send + Sync {
    /// Returns the name of the source for messages.
    fn display_name(&self) -> String;

    /// Reads a manifest or an index.
    ///
    /// # Errors
    /// Returns an error if it is missing or cannot be read.
    fn read_document(&self, document: &Descriptor) -> Result<Vec<u8>, TransferError>;

    /// Opens a reader at the beginning of a blob.
    ///
    /// # Errors
    /// Returns an error if it is missing or cannot be read.
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>, TransferError>;

    /// Returns whether the readers fail by themselves if the size or digest is wrong.
    fn verifies_digest(&self) -> bool {
        false
    }

    /// Returns the error for a blob or document whose content does not match its digest.
    fn damaged_blob(&self, digest: Digest, why: String) -> TransferError {
        TransferError::Blob { place: self.display_name(), digest, why }
    }

    /// Reports that [`ImageSource::open`] returned a wrong blob. Returns whether the next reader has another origin.
    fn report_corrupt(&self, blob: &Descriptor) -> bool {
        let _ = blob;
        false
    }

    /// Returns the referrers of `document`: signatures, SBOMs. Those that are attached by a tag have it
    /// ([`attachment_tag`]).
    ///
    /// # Errors
    /// Returns an error if they cannot be determined.
    fn referrers(&self, document: &Descriptor) -> Result<Vec<Descriptor>, TransferError> {
        let _ = document;
        Ok(Vec::new())
    }

    /// Returns the repositories that are known to have the blob.
    fn known_repositories(&self, blob: &Descriptor) -> Vec<RegistryRepository> {
        let _ = blob;
        Vec::new()
    }

    /// Records that a repository has the blob now.
    fn record_repository(&self, blob: &Descriptor, at: &RegistryRepository) {
        let _ = (blob, at);
    }
}

/// A destination of images.
pub trait ImageSink: std::fmt::Debug + Sync {
    /// Returns the name of the sink for messages.
    fn display_name(&self) -> String;

    /// Returns the number of blobs that it takes in parallel.
    fn parallel_blobs(&self) -> usize {
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
    fn has_image(&self, document: &Descriptor) -> Result<bool, TransferError> {
        let _ = document;
        Ok(false)
    }

    /// Mounts a blob from another repository of the same registry. Returns whether that was possible.
    ///
    /// # Errors
    /// Returns an error if the request failed.
    fn mount_blob(&self, blob: &Descriptor, from: &RegistryRepository) -> Result<bool, TransferError> {
        let _ = (blob, from);
        Ok(false)
    }

    /// Writes a blob.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    fn put_blob(&self, blob: &Descriptor, incoming: &IncomingBlob<'_>) -> Result<(), TransferError>;

    /// Returns whether [`ImageSink::put_blob`] verifies the digest itself.
    fn verifies_digest(&self) -> bool {
        false
    }

    /// Writes a manifest or index that the image refers to. Everything it refers to was written before.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    fn put_document(&self, document: &Descriptor, bytes: &[u8]) -> Result<(), TransferError>;

    /// Returns whether it only takes images that can be used as such, and no artifacts.
    fn takes_images_only(&self) -> bool {
        false
    }

    /// Writes the image's own document, after everything else, and gives it its name.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    fn put_image(&self, root: &Descriptor, bytes: &[u8]) -> Result<(), TransferError>;

    /// Writes a manifest that refers to the image. Everything it refers to was written before.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    fn put_referrer(&self, document: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        self.put_document(document, bytes)
    }

    /// Returns the repository of this sink, if it is one.
    fn repository(&self) -> Option<RegistryRepository> {
        None
    }

    /// Records that a repository has the blob.
    fn record_repository(&self, blob: &Descriptor, at: &RegistryRepository) {
        let _ = (blob, at);
    }
}
