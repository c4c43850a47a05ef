//! The errors of dependency resolution.

use super::StartType;

/// The reason why the applications do not form a release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// An application was not found.
    #[error("there is no application `{name}`{}", needed_by(.by))]
    Missing {
        /// The application's name.
        name: String,
        /// The application that depends on it; `None` if the release requests it.
        by: Option<String>,
    },
    /// An application was requested twice.
    #[error("`{0}` was asked for twice")]
    RequestedTwice(String),
    /// The version of an application is not the requested one.
    #[error("`{name}` was asked for in version {asked}, and `{location}` has version {found}")]
    WrongVersion {
        /// The application's name.
        name: String,
        /// The requested version.
        asked: String,
        /// The version found.
        found: String,
        /// The directory of the application found.
        location: String,
    },
    /// kernel or stdlib is not permanent.
    #[error("`{name}` starts as {mode}: it has to be permanent in every release")]
    BaseNotPermanent {
        /// The application's name.
        name: String,
        /// The configured start type.
        mode: StartType,
    },
    /// A release includes an application that the application specification does not include.
    #[error("`{app}` is to include `{name}`, and its specification does not name it")]
    NotIncluded {
        /// The including application.
        app: String,
        /// The application to include.
        name: String,
    },
    /// An optional application is missing, and this version of Mix does not support that in a release.
    #[error("`{app}` needs `{child}`, which is optional and not there: Elixir before 1.15 refuses that in a release")]
    MissingOptional {
        /// The application that depends on it.
        app: String,
        /// The missing application.
        child: String,
    },
    /// An application is both a dependency and an included application.
    #[error("`{0}` is both an application of its own and one that another includes")]
    RegularAndIncluded(String),
    /// Two applications include the same application.
    #[error("`{name}` is included by `{first}` and by `{second}`")]
    IncludedTwice {
        /// The included application.
        name: String,
        /// The first including application.
        first: String,
        /// The second including application.
        second: String,
    },
    /// Two applications register the same name.
    #[error("the name `{name}` is registered {}", twice(.first, .second))]
    RegisteredTwice {
        /// The registered name.
        name: String,
        /// The first application.
        first: String,
        /// The second application.
        second: String,
    },
    /// Two applications list the same module.
    #[error("the module `{module}` is listed {}", twice(.first, .second))]
    ModuleTwice {
        /// The module.
        module: String,
        /// The first application.
        first: String,
        /// The second application.
        second: String,
    },
    /// A module is listed and has no `.beam` file.
    #[error("`{app}` lists the module `{module}`, and `{location}` has no `{module}.beam`")]
    NoBeam {
        /// The application.
        app: String,
        /// The module.
        module: String,
        /// The directory of the application.
        location: String,
    },
    /// No application of the release has the callback module of an application.
    #[error("`{app}` is started by the module `{module}`, which no application of the release has")]
    NoStartModule {
        /// The application.
        app: String,
        /// The callback module.
        module: String,
    },
    /// Applications depend on each other in a cycle.
    #[error("applications need each other in a circle: {}", .0.join(" -> "))]
    Cycle(Vec<String>),
    /// An application is started, but a dependency of it is not.
    #[error("`{app}` starts as {mode}, and needs `{child}`, which is set to {child_mode} and does not start")]
    StartTypeConflict {
        /// The application.
        app: String,
        /// The start type of the application.
        mode: StartType,
        /// The dependency.
        child: String,
        /// The start type of the dependency.
        child_mode: StartType,
    },
}

impl ResolveError {
    /// Returns a hint for the user on how to fix the error.
    pub fn help(&self) -> String {
        match self {
            ResolveError::Missing { name, by: Some(by) } => {
                format!("add `{name}` to the dependencies, or name it in `optional_applications` of `{by}`")
            }
            ResolveError::Missing { name, by: None } => {
                format!("add `{name}` to the dependencies, or do not ask for it")
            }
            ResolveError::RequestedTwice(name) => format!("ask for `{name}` once"),
            ResolveError::WrongVersion { found, .. } => format!("ask for version {found}, or for none"),
            ResolveError::BaseNotPermanent { name, .. } => format!("do not say how `{name}` starts"),
            ResolveError::NotIncluded { app, name } => {
                format!("name `{name}` in `included_applications` of `{app}`, or do not ask for it there")
            }
            ResolveError::MissingOptional { app, child } => {
                format!("add `{child}` to the dependencies, or name `{app}` in `skip_mode_validation_for`")
            }
            ResolveError::RegularAndIncluded(name) => {
                format!("leave `{name}` out of `applications` of all, or of `included_applications`")
            }
            ResolveError::IncludedTwice { name, .. } => {
                format!("let one application include `{name}`, and others need that one")
            }
            ResolveError::RegisteredTwice { .. } => "give one of the processes another name".to_owned(),
            ResolveError::ModuleTwice { module, .. } => {
                format!("leave one `{module}` out: the system can only load one of them")
            }
            ResolveError::NoBeam { app, .. } => format!("compile `{app}` again"),
            ResolveError::NoStartModule { app, module } => {
                format!("correct `mod` of `{app}`, or add what has `{module}`")
            }
            ResolveError::Cycle(_) => "let one of them not need the next one".to_owned(),
            ResolveError::StartTypeConflict { app, child, .. } => {
                format!("let `{app}` be loaded only, or `{child}` start, or name `{app}` in `skip_mode_validation_for`")
            }
        }
    }
}

fn needed_by(by: &Option<String>) -> String {
    by.as_ref().map(|by| format!(", which `{by}` needs")).unwrap_or_default()
}

fn twice(first: &str, second: &str) -> String {
    if first == second { format!("twice by `{first}`") } else { format!("by `{first}` and by `{second}`") }
}
