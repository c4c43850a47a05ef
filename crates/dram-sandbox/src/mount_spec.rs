//! The mounts of a jail on top of its image: plain data, no effects.

use crate::host_path::HostPath;
use crate::prelude::*;
use crate::wire;
use serde::{Deserialize, Serialize};

/// One mount of a jail.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum JailMount {
    /// A bind mount of an existing file or directory.
    Bind(BindMount),
    /// An empty tmpfs.
    Tmpfs(TmpfsMount),
    /// A file with given contents.
    File(MemoryFile),
}

/// A bind mount of an existing file or directory. A socket, a pipe or a device counts as a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BindMount {
    /// The source.
    pub source: BindSource,
    /// The mount point: an absolute path inside the root. Symbolic links in it are followed inside the root.
    #[serde(with = "wire::bytes")]
    pub target: Vec<u8>,
    /// If true, the command cannot write to it.
    pub read_only: bool,
}

/// The source of a bind mount. All host paths are absolute.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum BindSource {
    /// A path on the host, with all mounts below it. Symbolic links in it are followed on the host.
    Host(HostPath),
    /// A path below a directory of the host. Symbolic links in it are followed as if that directory were the root, so
    /// none leads out of it. Writes of the command stay there: see [`BindSource::Layers`] for writes to throw away.
    Below {
        /// The directory.
        directory: HostPath,
        /// The path in it; empty or `/` for all of it.
        #[serde(with = "wire::bytes")]
        path: Vec<u8>,
    },
    /// A path in a tree of layers. Symbolic links in it are followed as if that tree were the root.
    Layers {
        /// The layer directories, in overlayfs form, topmost first; at least one.
        lowers: Vec<HostPath>,
        /// The directories that take changes. Without them the bind mount is always read-only.
        scratch: Option<ScratchDirs>,
        /// The path in it; empty or `/` for all of it.
        #[serde(with = "wire::bytes")]
        path: Vec<u8>,
    },
}

/// Two empty directories on one file system that take the changes of the command. The caller removes them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScratchDirs {
    /// The upper directory: the changes of the command, in overlayfs form. It gets the owner, mode and time of the
    /// topmost layer's root.
    pub upper: HostPath,
    /// The work directory of overlayfs. It must be new and empty.
    pub work: HostPath,
}

/// An empty tmpfs, which ends with the jail.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TmpfsMount {
    /// The mount point: an absolute path inside the root.
    #[serde(with = "wire::bytes")]
    pub target: Vec<u8>,
    /// The size limit in bytes; half of the memory if it is `None` or 0.
    pub size: Option<u64>,
    /// The mode. If `None`, that of the directory below the mount, or 01777 if the image has none.
    pub mode: Option<u32>,
}

/// A file with given contents, mounted over the path of the image. It exists in memory only, and writes of the command
/// are thrown away.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MemoryFile {
    /// The mount point: an absolute path inside the root.
    #[serde(with = "wire::bytes")]
    pub target: Vec<u8>,
    /// The contents.
    #[serde(with = "wire::bytes")]
    pub contents: Vec<u8>,
    /// The permissions: the lowest nine bits. Without an execute bit nobody can execute it.
    pub mode: u32,
    /// The owner, as the command sees it.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// If true, writing to it fails, even for root.
    pub read_only: bool,
}

impl JailMount {
    /// The mount point, as it was given.
    pub fn target(&self) -> &[u8] {
        match self {
            JailMount::Bind(bind) => &bind.target,
            JailMount::Tmpfs(tmpfs) => &tmpfs.target,
            JailMount::File(file) => &file.target,
        }
    }

    /// The paths on the host that it names.
    #[cfg(feature = "std")]
    pub(crate) fn host_paths(&self) -> Vec<&HostPath> {
        let JailMount::Bind(bind) = self else { return Vec::new() };
        match &bind.source {
            BindSource::Host(path) | BindSource::Below { directory: path, .. } => vec![path],
            BindSource::Layers { lowers, scratch, .. } => {
                lowers.iter().chain(scratch.iter().flat_map(|scratch| [&scratch.upper, &scratch.work])).collect()
            }
        }
    }

    /// Returns true for a bind mount of layers without any layer.
    #[cfg(feature = "std")]
    pub(crate) fn has_no_layers(&self) -> bool {
        matches!(self, JailMount::Bind(BindMount { source: BindSource::Layers { lowers, .. }, .. }) if lowers.is_empty())
    }
}

impl MemoryFile {
    /// A file that everybody can read and root can write: mode 0644, owned by root.
    pub fn new(target: impl Into<Vec<u8>>, contents: impl Into<Vec<u8>>) -> MemoryFile {
        let (target, contents) = (target.into(), contents.into());
        MemoryFile { target, contents, mode: 0o644, uid: 0, gid: 0, read_only: false }
    }
}
