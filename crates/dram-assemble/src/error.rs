//! What can go wrong while a release is assembled.

use std::io;
use std::path::PathBuf;

use dram_release::app::AppError;
use dram_release::beam::BeamError;
use dram_release::consult::TermError;
use dram_release::resolve::ResolveError;

use crate::upgrade::UpgradeError;

/// Why there is no release.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// The disk refused.
    #[error("cannot {verb} `{}`", path.display())]
    Io {
        /// What was attempted.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// There is no project.
    #[error("there is no project in `{}`", .0.display())]
    NoProject(PathBuf),
    /// A program that the project needs is not there.
    #[error("`{tool}` is not on the PATH, and {why}")]
    NoTool {
        /// The program.
        tool: &'static str,
        /// What it is needed for.
        why: &'static str,
    },
    /// One of the project's tools failed.
    #[error("`{command}` failed: {status}")]
    Tool {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// What it said, when that was not shown.
        output: String,
    },
    /// The project's own files say something wrong.
    #[error("{message}")]
    Project {
        /// The file at fault, when it is known.
        file: Option<String>,
        /// The line, from 1.
        line: Option<u64>,
        /// What is wrong.
        message: String,
    },
    /// The answer of our own script has another form than we know.
    #[error("the description of the project cannot be read: {0}")]
    Answer(String),
    /// There is no release of this name.
    #[error("there is no release `{name}`")]
    NoRelease {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Several releases, and none was chosen.
    #[error("the project has several releases and does not say which one is the default")]
    SeveralReleases(Vec<String>),
    /// An application's specification is wrong.
    #[error("`{}` is no application specification", path.display())]
    App {
        /// The `.app` file.
        path: PathBuf,
        /// What is wrong with it.
        source: AppError,
    },
    /// A compiled module is wrong.
    #[error("`{}` is no module that the emulator would load", path.display())]
    Beam {
        /// The `.beam` file.
        path: PathBuf,
        /// What is wrong with it.
        source: BeamError,
    },
    /// A file of Erlang terms is wrong.
    #[error("`{}` is no list of Erlang terms", path.display())]
    Terms {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TermError,
    },
    /// The applications do not make a release.
    #[error("{}", first_line(.0))]
    Resolve(Vec<ResolveError>),
    /// A name that would lead out of the release, or is none.
    #[error("{what} `{name}` cannot be the name of a directory")]
    Name {
        /// Whose name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The Erlang run-time system is not where it should be.
    #[error("there is no Erlang run-time system in `{}`", .0.display())]
    NoErts(PathBuf),
    /// The destination holds something that dram did not make.
    #[error("`{}` holds something that dram did not make", .0.display())]
    NotOurs(PathBuf),
    /// The destination holds no release.
    #[error("`{}` is there and is no release", .0.display())]
    NotARelease(PathBuf),
    /// A shared library that a program of the release needs is not on this machine.
    #[error("`{program}` needs the library `{library}`, which is not on this machine")]
    NoLibrary {
        /// The program, in the release.
        program: String,
        /// The library.
        library: String,
    },
    /// A running system cannot become the new version.
    #[error(transparent)]
    Upgrade(Box<UpgradeError>),
    /// Settings of ours are wrong.
    #[error("`{}`: {message}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

impl AssembleError {
    /// The disk's refusal to `verb` `path`, for `map_err`.
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
