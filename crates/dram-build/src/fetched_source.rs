//! Fetches the remote sources of an `ADD`.

use dram_dockerfile::{CopyOp, CopySource, CopySourceKind, Diagnostic};
use dram_image::Digest;

use crate::BuildError;
use crate::remote_fetcher::{FetchedFile, RemoteError, RemoteFetcher};

/// A source that was fetched.
#[derive(Debug)]
pub(crate) enum FetchedSource {
    /// A file.
    File(FetchedFile),
    /// The commit of a Git repository. Its files are fetched on a cache miss.
    Commit(String),
}

/// Fetches the remote sources of `copy`. The result has one entry for each source, `None` for a local one.
///
/// # Errors
/// Returns an error if a source cannot be fetched or does not have the expected checksum or commit.
pub(crate) fn fetch_sources(
    copy: &CopyOp,
    remotes: &dyn RemoteFetcher,
) -> Result<Vec<Option<FetchedSource>>, BuildError> {
    copy.sources.iter().map(|source| fetch_source(copy, source, remotes)).collect()
}

fn fetch_source(
    copy: &CopyOp,
    source: &CopySource,
    remotes: &dyn RemoteFetcher,
) -> Result<Option<FetchedSource>, BuildError> {
    let failed = |error: RemoteError| fetch_failure(error, source);
    match &source.kind {
        CopySourceKind::Path | CopySourceKind::Inline(_) => Ok(None),
        CopySourceKind::Url => {
            let expected: Option<Digest> = match copy.checksum.as_deref().map(str::parse).transpose() {
                Ok(expected) => expected,
                Err(_) => unreachable!("the plan has looked at the checksum"),
            };
            let file = remotes.fetch_file(&source.text, expected.as_ref()).map_err(failed)?;
            Ok(Some(FetchedSource::File(file)))
        }
        CopySourceKind::Git(git) => Ok(Some(FetchedSource::Commit(remotes.resolve_commit(git).map_err(failed)?))),
    }
}

/// Returns the error for a source that could not be fetched.
pub(crate) fn fetch_failure(error: RemoteError, source: &CopySource) -> BuildError {
    let mut diagnostic = Diagnostic::error(source.span.clone(), error.causes.join(": "));
    diagnostic.helps.extend(error.help);
    BuildError::at_line(diagnostic)
}

impl FetchedSource {
    /// Returns the identity of the content for the cache key: equal for equal files.
    pub(crate) fn identity(&self) -> String {
        match self {
            FetchedSource::File(FetchedFile { path: _, sha256, size: _, mtime: _, file_name }) => {
                format!("{sha256} as {file_name}")
            }
            FetchedSource::Commit(commit) => format!("commit {commit}"),
        }
    }
}
