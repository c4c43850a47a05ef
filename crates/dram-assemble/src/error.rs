//! The errors of assembling a release.

use std::io;
use std::path::PathBuf;

use dram_release::app::AppSpecError;
use dram_release::beam::BeamError;
use dram_release::consult::TermError;
use dram_release::resolve::ResolveError;

use crate::upgrade::UpgradeError;

/// The reason why no release was assembled.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// A file operation failed.
    #[error("cannot {verb} `{}`", path.display())]
    Io {
        /// The operation.
        verb: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The underlying error.
        source: io::Error,
    },
    /// The directory contains no project.
    #[error("there is no project in `{}`", .0.display())]
    NoProject(PathBuf),
    /// A required tool is missing.
    #[error("`{tool}` is not on the PATH, and {why}")]
    NoTool {
        /// The tool.
        tool: &'static str,
        /// The reason why it is needed.
        why: &'static str,
    },
    /// A tool of the project failed.
    #[error("`{command}` failed: {status}")]
    Tool {
        /// The command line.
        command: String,
        /// The exit status.
        status: String,
        /// The output, if it was not shown.
        output: String,
    },
    /// The project has an error.
    #[error("{message}")]
    Project {
        /// The file with the error, if known.
        file: Option<String>,
        /// The line, from 1.
        line: Option<u64>,
        /// The error message.
        message: String,
    },
    /// The answer of a query script has an unexpected form.
    #[error("the description of the project cannot be read: {0}")]
    Answer(String),
    /// The release does not exist.
    #[error("there is no release `{name}`")]
    NoRelease {
        /// The requested name.
        name: String,
        /// The existing releases.
        known: Vec<String>,
    },
    /// There are several releases, and none was selected.
    #[error("the project has several releases and does not say which one is the default")]
    SeveralReleases(Vec<String>),
    /// An application specification is invalid.
    #[error("`{}` is no application specification", path.display())]
    App {
        /// The `.app` file.
        path: PathBuf,
        /// The underlying error.
        source: AppSpecError,
    },
    /// A compiled module is invalid.
    #[error("`{}` is no module that the emulator would load", path.display())]
    Beam {
        /// The `.beam` file.
        path: PathBuf,
        /// The underlying error.
        source: BeamError,
    },
    /// A file of Erlang terms is invalid.
    #[error("`{}` is no list of Erlang terms", path.display())]
    Terms {
        /// The file.
        path: PathBuf,
        /// The underlying error.
        source: TermError,
    },
    /// The applications do not form a release.
    #[error("{}", first_line(.0))]
    Resolve(Vec<ResolveError>),
    /// A name is not a single path component.
    #[error("{what} `{name}` cannot be the name of a directory")]
    Name {
        /// The kind of name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The directory has no Erlang run-time system.
    #[error("there is no Erlang run-time system in `{}`", .0.display())]
    NoErts(PathBuf),
    /// The destination contains a release that dram did not write.
    #[error("`{}` holds something that dram did not make", .0.display())]
    NotWrittenByDram(PathBuf),
    /// The destination exists and is not a release.
    #[error("`{}` is there and is no release", .0.display())]
    NotARelease(PathBuf),
    /// A shared library that a program of the release needs was not found.
    #[error("`{program}` needs the library `{library}`, which is not on this machine")]
    NoLibrary {
        /// The program in the release.
        program: String,
        /// The library.
        library: String,
    },
    /// The upgrade is not possible.
    #[error(transparent)]
    Upgrade(Box<UpgradeError>),
    /// `dram.toml` is invalid.
    #[error("`{}`: {message}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// The error message.
        message: String,
    },
}

impl AssembleError {
    /// Returns a function for `map_err` that describes the failed operation `verb` on `path`.
    pub(crate) fn io(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> AssembleError {
        let path = path.into();
        move |source| AssembleError::Io { verb, path, source }
    }
}

fn first_line(errors: &[ResolveError]) -> String {
    match errors {
        [only] => only.to_string(),
        several => format!("the applications do not make a release, for {} reasons", several.len()),
    }
}
