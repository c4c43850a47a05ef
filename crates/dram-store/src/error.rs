//! Errors of the store.

use std::io;
use std::path::{Path, PathBuf};

use dram_error::AnyReport;
use dram_image::tar::TarError;
use dram_image::{Digest, DocumentError, DocumentWriteError, LimitExceeded, TreePath};
use rustix::io::Errno;

use crate::LayerId;

/// A failed operation of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file system operation failed.
    #[error("cannot {verb} {}", shortened_path(path))]
    Io {
        /// The operation: `open`, `write`, …
        verb: &'static str,
        /// Path of the file or directory.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// This user may not read a file of the build context.
    #[error("cannot read {}", path.display())]
    UnreadableInput {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The store has a layout version that this program does not support.
    #[error("the store {} has version `{found}`, and this program knows version {known}", path.display())]
    UnknownVersion {
        /// Root of the store.
        path: PathBuf,
        /// Content of its version file.
        found: String,
        /// The supported version.
        known: u32,
    },
    /// The store has an older layout version and is on a read-only file system.
    #[error("the store {} has an older version, and is read-only: it cannot be brought to version {known}", path.display())]
    OldAndReadOnly {
        /// Root of the store.
        path: PathBuf,
        /// The version of this program.
        known: u32,
    },
    /// A directory of the store is not a directory.
    #[error("{} should be a directory of the store, and is none", .0.display())]
    NotADirectory(PathBuf),
    /// The store is on a read-only file system.
    #[error("the store {} is read-only", .0.display())]
    ReadOnly(PathBuf),
    /// The index of image references is missing, but its backup exists.
    #[error("the store has lost {}, the names of its images", .0.display())]
    MissingIndex(PathBuf),
    /// A referenced blob is missing.
    #[error("the store has no blob {digest}")]
    MissingBlob {
        /// Digest of the blob.
        digest: Digest,
    },
    /// A blob that is pulled lazily cannot be fetched.
    #[error("cannot fetch the blob {digest}")]
    FetchFailed {
        /// Digest of the blob.
        digest: Digest,
        /// The cause.
        #[source]
        source: AnyReport,
    },
    /// The content of a blob does not match its digest.
    #[error("the blob {digest} is damaged: {why}")]
    DamagedBlob {
        /// Digest of the blob.
        digest: Digest,
        /// Description of the damage.
        why: String,
    },
    /// The diff ID of a layer does not match the image's config.
    #[error("the layer {blob} unpacks to {found}, but the image's configuration says {expected}")]
    WrongDiffId {
        /// Digest of the blob.
        blob: Digest,
        /// The computed diff ID.
        found: Digest,
        /// The diff ID of the config.
        expected: Digest,
    },
    /// The content of a foreign layer does not match its layer id.
    #[error("the layer {blob} holds {found}, and it should hold {expected}")]
    WrongContent {
        /// Digest of the blob.
        blob: Digest,
        /// The computed layer id.
        found: LayerId,
        /// The expected layer id.
        expected: LayerId,
    },
    /// A foreign layer is not packed the way dram packs its files.
    #[error("the layer {blob} is not packed as dram packs its files")]
    ForeignPacking {
        /// Digest of the blob.
        blob: Digest,
    },
    /// The index of image references is damaged.
    #[error("cannot read {}", path.display())]
    DamagedIndex {
        /// Path of the index.
        path: PathBuf,
        /// The cause.
        #[source]
        source: DocumentError,
    },
    /// An image has more owners that this user namespace lacks than can be represented.
    #[error(
        "a command cannot see the owner {id}: this user does not have that id, and all {limit} stand-ins for such ids are taken"
    )]
    TooManyForeignIds {
        /// The first id without a stand-in.
        id: u32,
        /// The number of stand-ins.
        limit: usize,
    },
    /// A document of the store cannot be read.
    #[error("cannot read {}", path.display())]
    Document {
        /// Path of the document.
        path: PathBuf,
        /// The cause.
        #[source]
        source: DocumentError,
    },
    /// A document that could not be read again is not written.
    #[error(transparent)]
    UnwritableDocument(#[from] DocumentWriteError),
    /// The tar of an image's layer was refused.
    #[error("cannot unpack {what}")]
    LayerTar {
        /// Name of the layer.
        what: String,
        /// The cause.
        #[source]
        source: TarError,
    },
    /// A tar that the user gave was refused.
    #[error("cannot unpack {what}")]
    Tar {
        /// Name of the archive.
        what: String,
        /// The cause.
        #[source]
        source: TarError,
    },
    /// An entry of a layer cannot be extracted.
    #[error("cannot unpack {entry}: {why}")]
    InvalidEntry {
        /// Path of the entry.
        entry: String,
        /// The reason.
        why: &'static str,
    },
    /// A layer has an entry that no OCI layer can hold.
    #[error("an image cannot hold `{path}`: {why}")]
    Unrepresentable {
        /// Its path in the layer.
        path: TreePath,
        /// The reason.
        why: &'static str,
    },
    /// A path has more symbolic links than Linux follows.
    #[error("{path} goes through more than 40 symbolic links")]
    SymlinkLoop {
        /// The path.
        path: String,
    },
    /// A directory or file that an output is written to is a symbolic link.
    #[error("{} is a symbolic link, and an output never leaves its directory", .0.display())]
    LinkInOutput(PathBuf),
    /// The path is invalid.
    #[error(transparent)]
    Path(#[from] dram_image::tree_path::TreePathError),
}

/// Returns a path for a message. A command can nest directories deeper than anybody wants to read.
fn shortened_path(path: &Path) -> String {
    const SHOWN: usize = 150;
    let text = path.display().to_string();
    let letters: Vec<char> = text.chars().collect();
    match letters.len() > 3 * SHOWN {
        true => letters[..SHOWN].iter().chain(&['…']).chain(&letters[letters.len() - SHOWN..]).collect(),
        false => text,
    }
}

impl StoreError {
    /// Returns the error for a file of the user's own, such as one of the build context, instead of a file of the store.
    pub(crate) fn of_input(self) -> StoreError {
        let is_denied =
            matches!(&self, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied);
        if is_denied && let StoreError::Io { path, source, .. } = self {
            return StoreError::UnreadableInput { path, source };
        }
        self
    }

    /// For `map_err`: makes an error for the operation `verb` on `path` from an I/O error.
    pub(crate) fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
        let path = path.to_owned();
        move |source| StoreError::Io { verb, path, source }
    }

    /// For `map_err`: makes an error for the operation `verb` on `path` from an errno.
    pub(crate) fn errno(verb: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> StoreError + use<> {
        let path = path.to_owned();
        move |errno| StoreError::Io { verb, path, source: errno.into() }
    }

    /// Returns true if the cause is a read-only file system.
    pub fn is_read_only(&self) -> bool {
        matches!(self, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem)
    }

    /// Returns true if the cause is a path component that is missing, not a directory, or a loop of symbolic links.
    pub(crate) fn is_unresolvable_path(&self) -> bool {
        let no_way = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].map(|errno| Some(errno.raw_os_error()));
        matches!(self, StoreError::Io { source, .. } if no_way.contains(&source.raw_os_error()))
    }

    /// Returns the exceeded archive limit, if that is the cause.
    pub fn limit_exceeded(&self) -> Option<&LimitExceeded> {
        match self {
            StoreError::Tar { source, .. } | StoreError::LayerTar { source, .. } => match source {
                TarError::LimitExceeded(exceeded) => Some(exceeded),
                TarError::Read { source, .. } => source.get_ref()?.downcast_ref(),
                TarError::Truncated { .. }
                | TarError::Malformed { .. }
                | TarError::Path(_)
                | TarError::Unsupported { .. } => None,
            },
            StoreError::Io { source, .. } => source.get_ref()?.downcast_ref(),
            StoreError::UnreadableInput { .. }
            | StoreError::UnknownVersion { .. }
            | StoreError::OldAndReadOnly { .. }
            | StoreError::NotADirectory(_)
            | StoreError::ReadOnly(_)
            | StoreError::MissingIndex(_)
            | StoreError::MissingBlob { .. }
            | StoreError::FetchFailed { .. }
            | StoreError::DamagedBlob { .. }
            | StoreError::WrongDiffId { .. }
            | StoreError::WrongContent { .. }
            | StoreError::ForeignPacking { .. }
            | StoreError::DamagedIndex { .. }
            | StoreError::Document { .. }
            | StoreError::UnwritableDocument(_)
            | StoreError::InvalidEntry { .. }
            | StoreError::Unrepresentable { .. }
            | StoreError::SymlinkLoop { .. }
            | StoreError::LinkInOutput(_)
            | StoreError::TooManyForeignIds { .. }
            | StoreError::Path(_) => None,
        }
    }

    /// Returns true if the cause is a full file system.
    pub(crate) fn is_disk_full(&self) -> bool {
        matches!(self, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }

    /// Returns true if the cause is a missing file.
    pub fn is_not_found(&self) -> bool {
        matches!(self, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Returns an error and its causes in one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
