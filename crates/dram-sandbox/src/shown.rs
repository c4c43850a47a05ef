//! What the command sees over its image: plain data, no effects.

use crate::wire;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One thing mounted in the jail.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Mount {
    /// A file or directory that exists already.
    Bind(Bind),
    /// An empty directory in memory.
    Tmpfs(Tmpfs),
    /// A file with given contents.
    File(ShownFile),
}

/// A file or directory that exists already. A socket, a pipe or a device is a file here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bind {
    /// What is shown.
    pub source: Source,
    /// An absolute path inside the root. Symbolic links in it are followed inside the root.
    #[serde(with = "wire::bytes")]
    pub target: Vec<u8>,
    /// Whether the command is kept from writing to it.
    pub read_only: bool,
}

/// Where a bind comes from. All host paths are absolute.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Source {
    /// A path on the host, with everything mounted below it. Symbolic links in it are followed on the host.
    Host(#[serde(with = "wire::path")] PathBuf),
    /// A path below a directory of the host. Symbolic links in it are followed as if that directory were the root, so
    /// none leads out of it. What the command writes stays there: see [`Source::Layers`] for writes to throw away.
    Below {
        /// The directory.
        #[serde(with = "wire::path")]
        directory: PathBuf,
        /// What to show of it; empty or `/` for all of it.
        #[serde(with = "wire::bytes")]
        path: Vec<u8>,
    },
    /// A path in a tree of layers. Symbolic links in it are followed as if that tree were the root.
    Layers {
        /// The directories, in overlayfs form, topmost first; at least one.
        #[serde(with = "wire::paths")]
        lowers: Vec<PathBuf>,
        /// Where changes go. Without it the bind is read-only, whatever it says itself.
        scratch: Option<Scratch>,
        /// What to show of it; empty or `/` for all of it.
        #[serde(with = "wire::bytes")]
        path: Vec<u8>,
    },
}

/// Two empty directories on one file system that take what the command changes. They are the caller's to remove.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scratch {
    /// What the command changes appears here, in overlayfs form. It takes over the owner, mode and time of the topmost
    /// layer's root.
    #[serde(with = "wire::path")]
    pub upper: PathBuf,
    /// For the kernel. It must be fresh.
    #[serde(with = "wire::path")]
    pub work: PathBuf,
}

/// An empty directory in memory, gone with the jail.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tmpfs {
    /// An absolute path inside the root.
    #[serde(with = "wire::bytes")]
    pub target: Vec<u8>,
    /// The most it holds, in bytes; half of the memory if it is `None` or 0.
    pub size: Option<u64>,
    /// Its mode. `None`: that of the directory it lies over, and 01777 if the image has none.
    pub mode: Option<u32>,
}

/// A file with given contents, over whatever the image has there. It exists in memory only, and what the command writes
/// into it is thrown away.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShownFile {
    /// An absolute path inside the root.
    #[serde(with = "wire::bytes")]
    pub target: Vec<u8>,
    /// What it says.
    #[serde(with = "wire::bytes")]
    pub contents: Vec<u8>,
    /// Its permissions: the lowest nine bits count. Without any bit for execution nobody can execute it.
    pub mode: u32,
    /// The user it belongs to, as the command sees it.
    pub uid: u32,
    /// The group it belongs to.
    pub gid: u32,
    /// Whether writing to it fails, even for root.
    pub read_only: bool,
}

impl Mount {
    /// The path inside the root, as it was asked for.
    pub fn target(&self) -> &[u8] {
        match self {
            Mount::Bind(bind) => &bind.target,
            Mount::Tmpfs(tmpfs) => &tmpfs.target,
            Mount::File(file) => &file.target,
        }
    }

    /// The paths on the host that it names.
    pub(crate) fn host_paths(&self) -> Vec<&PathBuf> {
        let Mount::Bind(bind) = self else { return Vec::new() };
        match &bind.source {
            Source::Host(path) | Source::Below { directory: path, .. } => vec![path],
            Source::Layers { lowers, scratch, .. } => {
                lowers.iter().chain(scratch.iter().flat_map(|scratch| [&scratch.upper, &scratch.work])).collect()
            }
        }
    }

    /// Whether it is a bind of nothing.
    pub(crate) fn has_no_layers(&self) -> bool {
        matches!(self, Mount::Bind(Bind { source: Source::Layers { lowers, .. }, .. }) if lowers.is_empty())
    }
}

impl ShownFile {
    /// A file that everybody can read and root can write: mode 0644, owned by root.
    pub fn new(target: impl Into<Vec<u8>>, contents: impl Into<Vec<u8>>) -> ShownFile {
        let (target, contents) = (target.into(), contents.into());
        ShownFile { target, contents, mode: 0o644, uid: 0, gid: 0, read_only: false }
    }
}
