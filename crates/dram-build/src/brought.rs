//! Fetches the remote sources of an `ADD`.

use dram_dockerfile::{Copy, Diagnostic, Source, SourceKind};
use dram_image::Digest;

use crate::BuildError;
use crate::remotes::{FetchedFile, RemoteError, Remotes};

/// A source that was fetched.
#[derive(Debug)]
pub(crate) enum Brought {
    /// A file.
    File(FetchedFile),
    /// The commit of a Git repository. Its files are fetched on a cache miss.
    Commit(String),
}

/// Fetches the remote sources of `copy`. The result has one entry for each source, `None` for a local one.
///
/// # Errors
/// Returns an error if a source cannot be fetched or does not have the expected checksum or commit.
pub(crate) fn bring(copy: &Copy, remotes: &dyn Remotes) -> Result<Vec<Option<Brought>>, BuildError> {
    copy.sources.iter().map(|source| one(copy, source, remotes)).collect()
}

fn one(copy: &Copy, source: &Source, remotes: &dyn Remotes) -> Result<Option<Brought>, BuildError> {
    let failed = |error: RemoteError| failed(error, source);
    match &source.kind {
        SourceKind::Path | SourceKind::Inline(_) => Ok(None),
        SourceKind::Url => {
            let expected: Option<Digest> = match copy.checksum.as_deref().map(str::parse).transpose() {
                Ok(expected) => expected,
                Err(_) => unreachable!("the plan has looked at the checksum"),
            };
            let file = remotes.url(&source.text, expected.as_ref()).map_err(failed)?;
            Ok(Some(Brought::File(file)))
        }
        SourceKind::Git(git) => Ok(Some(Brought::Commit(remotes.commit(git).map_err(failed)?))),
    }
}

/// Returns the error for a source that could not be fetched.
pub(crate) fn failed(error: RemoteError, source: &Source) -> BuildError {
    let mut diagnostic = Diagnostic::error(source.span.clone(), error.causes.join(": "));
    diagnostic.helps.extend(error.help);
    BuildError::at(diagnostic)
}

impl Brought {
    /// Returns the identity of the content for the cache key: equal for equal files.
    pub(crate) fn identity(&self) -> String {
        match self {
            Brought::File(FetchedFile { path: _, sha256, size: _, mtime: _, file_name }) => {
                format!("{sha256} as {file_name}")
            }
            Brought::Commit(commit) => format!("commit {commit}"),
        }
    }
}
