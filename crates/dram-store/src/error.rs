//! What can go wrong on the disk.

use std::io;
use std::path::{Path, PathBuf};

use dram_image::tar::TarError;
use dram_image::{Digest, DocumentError, Exceeded};
use rustix::io::Errno;

use crate::LayerId;

/// An attempt on the disk that failed, and what it was about.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// What was attempted: `open`, `write`, …
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// The directory is a store of a version that this program does not know.
    #[error("the store {} has version `{found}`, and this program knows version {known}", path.display())]
    Version {
        /// The store.
        path: PathBuf,
        /// What its version file says.
        found: String,
        /// The version known here.
        known: u32,
    },
    /// A directory of the store is none.
    #[error("{} should be a directory of the store, and is none", .0.display())]
    NoDirectory(PathBuf),
    /// The store lies on a file system that cannot be written.
    #[error("the store {} is read-only", .0.display())]
    ReadOnly(PathBuf),
    /// The names of images are gone, and a copy of them is there.
    #[error("the store has lost {}, the names of its images", .0.display())]
    LostIndex(PathBuf),
    /// A blob that something points to is not there.
    #[error("the store has no blob {digest}")]
    MissingBlob {
        /// Which.
        digest: Digest,
    },
    /// A blob is elsewhere, and cannot be had from there.
    #[error("cannot fetch the blob {digest}")]
    Unfetched {
        /// Which.
        digest: Digest,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A blob is not what its name says.
    #[error("the blob {digest} is damaged: {why}")]
    DamagedBlob {
        /// Which.
        digest: Digest,
        /// How it was noticed.
        why: String,
    },
    /// A layer's content is not what the image's configuration says.
    #[error("the layer {blob} unpacks to {found}, but the image's configuration says {expected}")]
    WrongDiffId {
        /// The blob.
        blob: Digest,
        /// The digest of what came out.
        found: Digest,
        /// The digest that was promised.
        expected: Digest,
    },
    /// A layer that somebody else made does not hold what its name says.
    #[error("the layer {blob} holds {found}, and it should hold {expected}")]
    WrongContent {
        /// The blob.
        blob: Digest,
        /// What it holds.
        found: LayerId,
        /// What was promised.
        expected: LayerId,
    },
    /// A layer that somebody else made is packed in a way of their own.
    #[error("the layer {blob} is not packed as dram packs its files")]
    PackedOtherwise {
        /// The blob.
        blob: Digest,
    },
    /// A document in the store cannot be read.
    #[error("cannot read {}", path.display())]
    Document {
        /// Where it lies.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: DocumentError,
    },
    /// A layer tar was refused.
    #[error("cannot unpack {what}")]
    Tar {
        /// The archive.
        what: String,
        /// What is wrong with it.
        #[source]
        source: TarError,
    },
    /// A layer has an entry that cannot be placed.
    #[error("cannot unpack {entry}: {why}")]
    Entry {
        /// The entry.
        entry: String,
        /// Why.
        why: &'static str,
    },
    /// A path goes through more symbolic links than Linux follows.
    #[error("{path} goes through more than 40 symbolic links")]
    Loop {
        /// The path as asked for.
        path: String,
    },
    /// A path cannot be one.
    #[error(transparent)]
    Path(#[from] dram_image::path::PathError),
}

impl StoreError {
    /// For `map_err`: makes an error of `verb` on `path`.
    pub(crate) fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
        let path = path.to_owned();
        move |source| StoreError::Io { verb, path, source }
    }

    /// The same for an errno.
    pub(crate) fn os(verb: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> StoreError + use<> {
        let path = path.to_owned();
        move |errno| StoreError::Io { verb, path, source: errno.into() }
    }

    /// Whether the cause is a file system that is mounted read-only.
    pub fn is_read_only(&self) -> bool {
        matches!(self, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem)
    }

    /// Whether the cause is that a directory on the way is missing, or none, or behind links that lead nowhere.
    pub(crate) fn is_no_way(&self) -> bool {
        let no_way = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].map(|errno| Some(errno.raw_os_error()));
        matches!(self, StoreError::Io { source, .. } if no_way.contains(&source.raw_os_error()))
    }

    /// The limit that was met, if one was.
    pub fn exceeded(&self) -> Option<&Exceeded> {
        match self {
            StoreError::Tar { source: TarError::Beyond(exceeded), .. } => Some(exceeded),
            StoreError::Tar { source: TarError::Read { source, .. }, .. } | StoreError::Io { source, .. } => {
                source.get_ref()?.downcast_ref()
            }
            _ => None,
        }
    }

    /// Whether the cause is that there is no room.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }

    /// Whether the cause is that something does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// An error and its causes in one line.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
