//! What can be wrong with the applications of a release.

use super::Mode;

/// Why the applications do not make a release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// An application is nowhere.
    #[error("there is no application `{name}`{}", needed_by(.by))]
    Missing {
        /// Its name.
        name: String,
        /// Who needs it; nobody when it was asked for.
        by: Option<String>,
    },
    /// An application was asked for twice.
    #[error("`{0}` was asked for twice")]
    AskedTwice(String),
    /// There is another version of an application than the one that was asked for.
    #[error("`{name}` was asked for in version {asked}, and `{location}` has version {found}")]
    Version {
        /// Its name.
        name: String,
        /// The version that was asked for.
        asked: String,
        /// The version that there is.
        found: String,
        /// Where that is.
        location: String,
    },
    /// Erlang's own applications have to run.
    #[error("`{name}` starts as {mode}: it has to be permanent in every release")]
    Base {
        /// Its name.
        name: String,
        /// How it would start.
        mode: Mode,
    },
    /// An application is to include one that its specification does not include.
    #[error("`{app}` is to include `{name}`, and its specification does not name it")]
    NotIncluded {
        /// The application.
        app: String,
        /// What it should include.
        name: String,
    },
    /// An application may be missing, and is; this Mix does without it only at compile time.
    #[error("`{app}` needs `{child}`, which is optional and not there: Elixir before 1.15 refuses that in a release")]
    NoOptional {
        /// The application.
        app: String,
        /// What is missing.
        child: String,
    },
    /// An application is started by somebody else, and by the one that includes it.
    #[error("`{0}` is both an application of its own and one that another includes")]
    RegularAndIncluded(String),
    /// Two applications include one.
    #[error("`{name}` is included by `{first}` and by `{second}`")]
    IncludedTwice {
        /// The one.
        name: String,
        /// The one that includes it.
        first: String,
        /// The other.
        second: String,
    },
    /// Two applications register a name.
    #[error("the name `{name}` is registered {}", twice(.first, .second))]
    RegisteredTwice {
        /// The name.
        name: String,
        /// The one application.
        first: String,
        /// The other.
        second: String,
    },
    /// Two applications have a module of one name.
    #[error("the module `{module}` is listed {}", twice(.first, .second))]
    ModuleTwice {
        /// The module.
        module: String,
        /// The one application.
        first: String,
        /// The other.
        second: String,
    },
    /// A module is listed and not compiled.
    #[error("`{app}` lists the module `{module}`, and `{location}` has no `{module}.beam`")]
    NoBeam {
        /// The application.
        app: String,
        /// The module.
        module: String,
        /// Where it should be.
        location: String,
    },
    /// The module that starts an application is nowhere.
    #[error("`{app}` is started by the module `{module}`, which no application of the release has")]
    NoStartModule {
        /// The application.
        app: String,
        /// The module.
        module: String,
    },
    /// Applications wait for each other.
    #[error("applications need each other in a circle: {}", .0.join(" -> "))]
    Cycle(Vec<String>),
    /// An application runs and needs one that does not.
    #[error("`{app}` starts as {mode}, and needs `{child}`, which is set to {child_mode} and does not start")]
    ModeConflict {
        /// The application.
        app: String,
        /// Its mode.
        mode: Mode,
        /// What it needs.
        child: String,
        /// The mode of that one.
        child_mode: Mode,
    },
}

impl ResolveError {
    /// What the user can do about it.
    pub fn help(&self) -> String {
        match self {
            ResolveError::Missing { name, by: Some(by) } => {
                format!("add `{name}` to the dependencies, or name it in `optional_applications` of `{by}`")
            }
            ResolveError::Missing { name, by: None } => {
                format!("add `{name}` to the dependencies, or do not ask for it")
            }
            ResolveError::AskedTwice(name) => format!("ask for `{name}` once"),
            ResolveError::Version { found, .. } => format!("ask for version {found}, or for none"),
            ResolveError::Base { name, .. } => format!("do not say how `{name}` starts"),
            ResolveError::NotIncluded { app, name } => {
                format!("name `{name}` in `included_applications` of `{app}`, or do not ask for it there")
            }
            ResolveError::NoOptional { app, child } => {
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
            ResolveError::ModeConflict { app, child, .. } => {
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
