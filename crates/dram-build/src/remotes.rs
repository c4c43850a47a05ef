//! What a build takes from the network. How it is fetched is not this room's: whoever starts a build brings it along.

use std::fmt;
use std::path::PathBuf;

use dram_dockerfile::GitRef;
use dram_image::Digest;

/// Files and repositories on the network.
pub trait Remotes: fmt::Debug + Sync {
    /// Fetches the file at `url`. With `expected`, what is known to have that digest is taken without asking anybody,
    /// and anything else is an error.
    ///
    /// # Errors
    /// When the file cannot be had, or is another than expected.
    fn url(&self, url: &str, expected: Option<&Digest>) -> Result<FetchedFile, RemoteError>;

    /// Asks which commit `git` means. Returns its id, which names all that is in it.
    ///
    /// # Errors
    /// When there is none, or it is another than `git` expects.
    fn commit(&self, git: &GitRef) -> Result<String, RemoteError>;

    /// Fetches what `git` means of a repository. With `keep_git_dir`, `.git` is there too.
    ///
    /// # Errors
    /// When it cannot be had, or its commit is another than `git` expects.
    fn git(&self, git: &GitRef, keep_git_dir: bool) -> Result<FetchedTree, RemoteError>;
}

/// A file from the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedFile {
    /// Where it lies, until the [`Remotes`] is gone. It must not be changed.
    pub path: PathBuf,
    /// What it holds.
    pub sha256: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// When it last changed, in seconds since 1970, where that is known.
    pub mtime: Option<i64>,
    /// What it is called where it arrives, from its address.
    pub file_name: String,
}

/// A directory from the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedTree {
    /// Where it lies, until the [`Remotes`] is gone. It must not be changed.
    pub path: PathBuf,
    /// The id of the commit, which names all that is in it.
    pub commit: String,
}

/// Why something could not be had from the network. No secret of its address is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteError {
    /// What was attempted, then its causes.
    pub causes: Vec<String>,
    /// What the user can do.
    pub help: Option<String>,
}

impl fmt::Display for RemoteError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.causes.join(": "))
    }
}

impl std::error::Error for RemoteError {}
