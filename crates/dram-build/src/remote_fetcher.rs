//! The interface to the network. This crate does not fetch anything itself: the caller of a build provides it.

use std::fmt;
use std::path::PathBuf;

use dram_error::ErrorReport;
use dram_image::{Digest, RegistryRefusal};
use dram_plan::GitRef;

/// Fetches files and Git repositories from the network.
pub trait RemoteFetcher: fmt::Debug + Sync {
    /// Fetches the file at `url`. With `expected`, a file of that digest that came from there before is returned without a
    /// request, and a file with another digest is an error.
    ///
    /// # Errors
    /// Returns an error if the file cannot be fetched or does not have the expected digest.
    fn fetch_file(&self, url: &str, expected: Option<&Digest>) -> Result<FetchedFile, RemoteError>;

    /// Resolves the reference of `git` to a commit. Returns the commit id, which covers all of its content.
    ///
    /// # Errors
    /// Returns an error if there is no such commit, or if it is not the one that `git` expects.
    fn resolve_commit(&self, git: &GitRef) -> Result<String, RemoteError>;

    /// Fetches the files of `git`; with `keep_git_dir` also its `.git` directory.
    ///
    /// # Errors
    /// Returns an error if they cannot be fetched, or if the commit is not the one that `git` expects.
    fn fetch_repository(&self, git: &GitRef, keep_git_dir: bool) -> Result<FetchedTree, RemoteError>;
}

/// A file from the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedFile {
    /// Its path, valid as long as the [`RemoteFetcher`] lives. The file must not be changed.
    pub path: PathBuf,
    /// The digest of its content.
    pub sha256: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The time of its last change, in seconds since 1970, if known.
    pub mtime: Option<i64>,
    /// The file name that its address gives it.
    pub file_name: String,
}

/// A directory of a Git repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedTree {
    /// Its path, valid as long as the [`RemoteFetcher`] lives. The directory must not be changed.
    pub path: PathBuf,
    /// The commit id, which covers all of its content.
    pub commit: String,
}

/// An error of the network or of a remote server. It contains no secret of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteError {
    /// The kind of the failure, on which decisions are based.
    pub kind: RemoteErrorKind,
    /// The failed operation, then its causes.
    pub causes: Vec<String>,
    /// What the user can do.
    pub help: Option<String>,
}

/// The kind of a [`RemoteError`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteErrorKind {
    /// A registry answered, and refused the request.
    Refused(RegistryRefusal),
    /// There is no valid answer, or what it brought cannot be used.
    Failed,
}

impl RemoteError {
    /// Makes an error that reports the same as `error`.
    pub fn new(kind: RemoteErrorKind, error: &dyn ErrorReport) -> RemoteError {
        RemoteError { kind, causes: error.causes(), help: error.helps().into_iter().next() }
    }

    /// Returns whether a registry refused a manifest because it lacks one of its blobs.
    pub(crate) fn is_blob_missing(&self) -> bool {
        match &self.kind {
            RemoteErrorKind::Refused(refusal) => refusal.is_blob_missing(),
            RemoteErrorKind::Failed => false,
        }
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.causes.join(": "))
    }
}

impl std::error::Error for RemoteError {}
