//! Paths on the host, as bytes: the helper has no standard library.

use crate::prelude::*;
use crate::wire;
use serde::{Deserialize, Serialize};

/// A path on the host. Any bytes but NUL, as Linux has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostPath(#[serde(with = "wire::bytes")] Vec<u8>);

impl HostPath {
    /// The bytes of the path.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for HostPath {
    fn from(bytes: &[u8]) -> HostPath {
        HostPath(bytes.to_vec())
    }
}

#[cfg(feature = "std")]
impl From<std::path::PathBuf> for HostPath {
    fn from(path: std::path::PathBuf) -> HostPath {
        use std::os::unix::ffi::OsStringExt;
        HostPath(path.into_os_string().into_vec())
    }
}

#[cfg(feature = "std")]
impl From<&std::path::Path> for HostPath {
    fn from(path: &std::path::Path) -> HostPath {
        HostPath(path.as_os_str().as_encoded_bytes().to_vec())
    }
}

#[cfg(feature = "std")]
impl AsRef<std::path::Path> for HostPath {
    fn as_ref(&self) -> &std::path::Path {
        use std::os::unix::ffi::OsStrExt;
        std::path::Path::new(std::ffi::OsStr::from_bytes(&self.0))
    }
}
