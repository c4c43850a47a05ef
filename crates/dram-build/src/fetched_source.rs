//! Fetches the remote sources of an `ADD`.

use dram_image::Digest;
use dram_plan::{CopyOp, CopySource, CopySourceKind, PlanStep, StepPart};

use crate::BuildError;
use crate::remote_fetcher::{FetchedFile, RemoteError, RemoteFetcher};
use crate::step_location::StepLocation;

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
    step: &PlanStep,
    copy: &CopyOp,
    remotes: &dyn RemoteFetcher,
) -> Result<Vec<Option<FetchedSource>>, BuildError> {
    let sources = copy.sources.iter().enumerate();
    let locate = |at| StepLocation::of_part(step, StepPart::Source(at));
    sources.map(|(at, source)| fetch_source(locate(at), copy, source, remotes)).collect()
}

fn fetch_source(
    place: StepLocation<'_>,
    copy: &CopyOp,
    source: &CopySource,
    remotes: &dyn RemoteFetcher,
) -> Result<Option<FetchedSource>, BuildError> {
    let failed = |error: RemoteError| fetch_failure(error, place);
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
pub(crate) fn fetch_failure(error: RemoteError, place: StepLocation<'_>) -> BuildError {
    let mut diagnostic = place.error(error.causes.join(": "));
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
