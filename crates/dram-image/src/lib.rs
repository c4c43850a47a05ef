//! The values of an image: digests, references, documents of the OCI image specification, and layer tars.
//!
//! Nothing here touches the disk, the network, the clock or the environment.

pub mod base64;
pub mod config;
pub mod digest;
pub mod document;
pub mod elf;
pub mod limits;
pub mod reference;
mod registry_refusal;
pub mod rfc3339;
pub mod tar;
pub mod tree_path;

pub use config::{ContainerConfig, Healthcheck, HistoryEntry, ImageConfig, RootFs};
pub use digest::{Digest, DigestError, DigestHasher, HashingWriter};
pub use document::{
    Descriptor, Document, DocumentError, DocumentWriteError, ImageObstacle, ImagePlatform, Index, Manifest, MediaType,
};
pub use limits::{ArchiveLimit, ArchiveLimits, LimitExceeded};
pub use reference::{Reference, ReferenceError};
pub use registry_refusal::{RegistryErrorCode, RegistryRefusal};
pub use rfc3339::{RFC3339_TIMES, rfc3339};
pub use tree_path::TreePath;
