//! What the sources of an `ADD` bring from the network.

use dram_dockerfile::{Copy, Diagnostic, Source, SourceKind};
use dram_image::Digest;

use crate::BuildError;
use crate::remotes::{FetchedFile, RemoteError, Remotes};

/// One source that was fetched.
#[derive(Debug)]
pub(crate) enum Brought {
    /// A file.
    File(FetchedFile),
    /// The commit of a repository, whose files are fetched when they are wanted.
    Commit(String),
}

/// Fetches what `copy` wants from the network: of each source, what it brings.
///
/// # Errors
/// When something cannot be had, or is not what the file expects.
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

/// What the user is told when a source cannot be had.
pub(crate) fn failed(error: RemoteError, source: &Source) -> BuildError {
    let mut diagnostic = Diagnostic::error(source.span.clone(), error.causes.join(": "));
    diagnostic.helps.extend(error.help);
    BuildError::at(diagnostic)
}

impl Brought {
    /// Names what it is: equal for equal files.
    pub(crate) fn identity(&self) -> String {
        match self {
            Brought::File(FetchedFile { path: _, sha256, size: _, mtime: _, file_name }) => {
                format!("{sha256} as {file_name}")
            }
            Brought::Commit(commit) => format!("commit {commit}"),
        }
    }
}
