//! Errors as users see them: an exit code class, the causes, and help.

use std::error::Error;

use dram_build::BuildError;
use dram_dockerfile::Diagnostic;
pub(crate) use dram_error::error_chain;
use dram_error::{ErrorClass, ErrorReport};
use dram_sandbox::SandboxError;

/// The error of a command, ready to be shown.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The class, which decides the exit code.
    pub(crate) class: ErrorClass,
    /// The message and its causes, outermost first.
    pub(crate) causes: Vec<String>,
    /// Help: actions that the user can take.
    pub(crate) helps: Vec<String>,
    /// Output of a failed command, shown above the message.
    pub(crate) output: Vec<String>,
    /// Diagnostics about a text, shown instead of a message.
    pub(crate) source_diagnostics: Option<Box<SourceDiagnostics>>,
}

/// Diagnostics about a text, such as a Dockerfile.
#[derive(Debug)]
pub(crate) struct SourceDiagnostics {
    /// The text's name.
    pub(crate) name: String,
    /// The text.
    pub(crate) text: String,
    /// The diagnostics.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Failure {
    fn new(class: ErrorClass, what: impl Into<String>) -> Failure {
        Failure { class, causes: vec![what.into()], helps: Vec::new(), output: Vec::new(), source_diagnostics: None }
    }

    /// A failure of the work itself: exit code 1.
    pub(crate) fn work(what: impl Into<String>) -> Failure {
        Failure::new(ErrorClass::Work, what)
    }

    /// The command line is wrong: exit code 2.
    pub(crate) fn usage(what: impl Into<String>) -> Failure {
        Failure::new(ErrorClass::Usage, what)
    }

    /// A text, such as a Dockerfile, has errors: exit code 2.
    pub(crate) fn text(name: String, text: String, diagnostics: Vec<Diagnostic>) -> Failure {
        let source_diagnostics = Some(Box::new(SourceDiagnostics { name, text, diagnostics }));
        Failure { source_diagnostics, ..Failure::new(ErrorClass::Usage, "") }
    }

    /// No thread can be started; `why` is the error.
    pub(crate) fn no_more_threads(class: ErrorClass, why: &str) -> Failure {
        Failure::new(class, format!("no more threads can be started: {why}"))
            .help(dram_sandbox::PROCESS_LIMIT_HELP)
            .help("if this is a container, its system call filter must allow `clone3` or answer it with ENOSYS")
    }

    /// Adds a help.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Failure {
        self.helps.push(help.into());
        self
    }

    /// Appends `error` and its sources to the causes.
    pub(crate) fn because(mut self, error: &dyn Error) -> Failure {
        self.causes.extend(error_chain(error));
        self
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        self.class.exit_code()
    }

    /// The failure of a build. Positions refer to `text`, the Dockerfile called `name`.
    pub(crate) fn build(error: BuildError, name: &str, text: &str) -> Failure {
        let (class, helps, output) = (error.class(), error.helps(), error.output());
        let mut diagnostic = match error {
            BuildError::AtLine(diagnostic) => *diagnostic,
            BuildError::CommandFailed { text: _, span, code, tail: _, missing_loader, id_count: _, kept: _ } => {
                let what = format!("the command failed with exit code {code}");
                let mut diagnostic = Diagnostic::error(span, what).label(exit_code_meaning(code));
                if let Some((program, interpreter)) = missing_loader.map(|paths| *paths) {
                    let missing = SandboxError::MissingInterpreter { program, interpreter };
                    diagnostic.notes.push(missing.to_string());
                }
                diagnostic
            }
            BuildError::CommandStart { text: _, span, source } => Diagnostic::error(span, source.causes().join(": ")),
            error @ (BuildError::Store(_) | BuildError::CacheLost { .. } | BuildError::Cancelled) => {
                return error.into();
            }
        };
        diagnostic.helps = helps;
        Failure { class, output, ..Failure::text(name.to_owned(), text.to_owned(), vec![diagnostic]) }
    }
}

impl<E: ErrorReport> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure {
            class: error.class(),
            causes: error.causes(),
            helps: error.helps(),
            output: error.output(),
            source_diagnostics: None,
        }
    }
}

/// The usual meaning of an exit code; empty if it has none.
fn exit_code_meaning(code: i32) -> &'static str {
    match code {
        126 => "the shell found a program that it cannot execute",
        127 => "the shell did not find a program",
        137 => "it was killed: by hand, or because memory ran out",
        139 => "it crashed",
        _ => "",
    }
}
