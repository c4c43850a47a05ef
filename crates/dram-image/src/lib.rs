//! The values of an image: digests, references, documents of the OCI image specification, and layer tars.
//!
//! Nothing here touches the disk, the network, the clock or the environment.

pub mod base64;
pub mod config;
pub mod digest;
pub mod document;
pub mod elf;
pub mod limits;
pub mod path;
pub mod reference;
pub mod tar;

pub use config::{ContainerConfig, Healthcheck, History, ImageConfig, RootFs};
pub use digest::{Digest, DigestError, Hasher, Hashing};
pub use document::{Descriptor, Document, DocumentError, Index, Manifest, MediaType, Platform};
pub use limits::{Exceeded, Limit, Limits};
pub use path::TreePath;
pub use reference::{Reference, ReferenceError};
