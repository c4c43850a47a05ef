//! Failures of a requested build.

use dram_dockerfile::Diagnostic;
use dram_dockerfile::suggest::nearest_name;
use dram_error::{ErrorClass, ErrorReport};
use dram_store::StoreError;

use crate::{BuildError, ExportError, TransferError};

/// The reasons why a requested build failed. Byte ranges of diagnostics refer to the Dockerfile of the request.
#[derive(Debug, thiserror::Error)]
pub enum BuildFailure {
    /// The Dockerfile has errors.
    #[error("{}", messages(.0))]
    Dockerfile(Vec<Diagnostic>),
    /// An image that the Dockerfile names cannot be found.
    #[error("{}", messages(.0))]
    MissingInputs(Vec<Diagnostic>),
    /// The plan has commands, and this machine cannot run any.
    #[error("{}", .0.message)]
    CommandsUnsupported(Box<Diagnostic>),
    /// The request names a stage that the build does not have.
    #[error("the build has no stage `{name}`")]
    UnknownStage {
        /// The name in the request.
        name: String,
        /// The names of the stages.
        stages: Vec<String>,
    },
    /// The request is not for exactly one platform.
    #[error("an image is for one platform, and {count} are requested")]
    Platforms {
        /// The number of platforms.
        count: usize,
    },
    /// A service failed.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A step failed.
    #[error(transparent)]
    Step(Box<BuildError>),
    /// A file operation of the store failed, or its data is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An image could not be copied to an output or a cache.
    #[error(transparent)]
    Transfer(Box<TransferError>),
    /// The files could not be exported.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A shared cache was not written. The outputs were.
    #[error("the cache `{cache}` was not written")]
    CacheExport {
        /// The cache as it was requested.
        cache: String,
        /// The cause.
        #[source]
        source: Box<BuildFailure>,
    },
    /// The build was cancelled.
    #[error("the build was interrupted")]
    Cancelled,
}

impl From<BuildError> for BuildFailure {
    fn from(error: BuildError) -> BuildFailure {
        BuildFailure::Step(Box::new(error))
    }
}

impl From<TransferError> for BuildFailure {
    fn from(error: TransferError) -> BuildFailure {
        BuildFailure::Transfer(Box::new(error))
    }
}

fn messages(all: &[Diagnostic]) -> String {
    all.iter().map(|diagnostic| diagnostic.message.as_str()).collect::<Vec<_>>().join("; ")
}

/// An error of a service, ready to be shown.
#[derive(Debug, Clone)]
pub struct InputError {
    /// The class.
    pub class: ErrorClass,
    /// The message and its causes, outermost first.
    pub causes: Vec<String>,
    /// Help for the user.
    pub helps: Vec<String>,
    /// Errors in another text than the Dockerfile, such as an ignore list.
    pub text: Option<Box<DiagnosedText>>,
}

/// A text with diagnostics about it.
#[derive(Debug, Clone)]
pub struct DiagnosedText {
    /// The name of the text.
    pub name: String,
    /// The text.
    pub text: String,
    /// The diagnostics.
    pub diagnostics: Vec<Diagnostic>,
}

impl InputError {
    /// Makes an error of the work with one message.
    pub fn work(message: impl Into<String>) -> InputError {
        InputError { class: ErrorClass::Work, causes: vec![message.into()], helps: Vec::new(), text: None }
    }
}

impl std::fmt::Display for InputError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.causes.join(": "))
    }
}

impl std::error::Error for InputError {}

impl ErrorReport for BuildFailure {
    fn class(&self) -> ErrorClass {
        match self {
            BuildFailure::Dockerfile(_) | BuildFailure::UnknownStage { .. } | BuildFailure::Platforms { .. } => {
                ErrorClass::Usage
            }
            BuildFailure::MissingInputs(_) => ErrorClass::Work,
            BuildFailure::CommandsUnsupported(_) => ErrorClass::MissingSupport,
            BuildFailure::Input(error) => error.class,
            BuildFailure::Step(error) => error.class(),
            BuildFailure::Store(error) => error.class(),
            BuildFailure::Transfer(error) => error.class(),
            BuildFailure::Export(error) => error.class(),
            BuildFailure::CacheExport { cache: _, source } => source.class(),
            BuildFailure::Cancelled => ErrorClass::Interrupted,
        }
    }

    fn helps(&self) -> Vec<String> {
        match self {
            BuildFailure::Dockerfile(all) | BuildFailure::MissingInputs(all) => {
                all.iter().flat_map(|diagnostic| diagnostic.helps.clone()).collect()
            }
            BuildFailure::CommandsUnsupported(diagnostic) => diagnostic.helps.clone(),
            BuildFailure::UnknownStage { name, stages } => {
                vec![match nearest_name(name, stages.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("its stages are {}", stages.join(", ")),
                }]
            }
            BuildFailure::Input(error) => error.helps.clone(),
            BuildFailure::Step(error) => error.helps(),
            BuildFailure::Store(error) => error.helps(),
            BuildFailure::Transfer(error) => error.helps(),
            BuildFailure::Export(error) => error.helps(),
            BuildFailure::CacheExport { cache: _, source } => {
                let mut helps = source.helps();
                helps.push("with `ignore-error=true` this is no reason to fail".to_owned());
                helps
            }
            BuildFailure::Platforms { .. } | BuildFailure::Cancelled => Vec::new(),
        }
    }

    fn causes(&self) -> Vec<String> {
        match self {
            BuildFailure::Input(error) => error.causes.clone(),
            BuildFailure::Step(error) => error.causes(),
            BuildFailure::Store(error) => error.causes(),
            BuildFailure::Transfer(error) => error.causes(),
            BuildFailure::Export(error) => error.causes(),
            BuildFailure::CacheExport { cache: _, source } => {
                std::iter::once(self.to_string()).chain(source.causes()).collect()
            }
            BuildFailure::Dockerfile(_)
            | BuildFailure::MissingInputs(_)
            | BuildFailure::CommandsUnsupported(_)
            | BuildFailure::UnknownStage { .. }
            | BuildFailure::Platforms { .. }
            | BuildFailure::Cancelled => vec![self.to_string()],
        }
    }
}
