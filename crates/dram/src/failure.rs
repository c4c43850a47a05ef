//! Errors as users see them: an exit code class, the causes, and help.

use std::error::Error;
use std::io::ErrorKind;

use dram_build::{BuildError, ExportError, TransferError};
use dram_dockerfile::Diagnostic;
use dram_remote::engine::EngineError;
use dram_sandbox::{MissingHostSupport, SandboxError};
use dram_store::StoreError;

/// `EMFILE` of Linux on every architecture that Rust knows.
const TOO_MANY_FILES: i32 = 24;

/// Exit codes by class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureClass {
    /// The work failed.
    Work = 1,
    /// The command line or the Dockerfile is wrong.
    Usage = 2,
    /// This machine lacks an ability.
    Lack = 3,
    /// A registry or an engine answered, and refused the request.
    Refused = 4,
    /// Interrupted, as a shell reports SIGINT.
    Interrupted = 130,
}

/// The error of a command, ready to be shown.
#[derive(Debug)]
pub(crate) struct Failure {
    class: FailureClass,
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
    fn new(class: FailureClass, what: impl Into<String>) -> Failure {
        Failure { class, causes: vec![what.into()], helps: Vec::new(), output: Vec::new(), source_diagnostics: None }
    }

    /// A failure of the work itself: exit code 1.
    pub(crate) fn work(what: impl Into<String>) -> Failure {
        Failure::new(FailureClass::Work, what)
    }

    /// The user interrupted the command: exit code 130.
    pub(crate) fn interrupted() -> Failure {
        Failure::new(FailureClass::Interrupted, "the build was interrupted")
    }

    /// The command line is wrong: exit code 2.
    pub(crate) fn usage(what: impl Into<String>) -> Failure {
        Failure::new(FailureClass::Usage, what)
    }

    /// This machine lacks an ability: exit code 3.
    pub(crate) fn lack(what: impl Into<String>) -> Failure {
        Failure::new(FailureClass::Lack, what)
    }

    /// A text, such as a Dockerfile, has errors: exit code 2.
    pub(crate) fn text(name: String, text: String, diagnostics: Vec<Diagnostic>) -> Failure {
        let source_diagnostics = Some(Box::new(SourceDiagnostics { name, text, diagnostics }));
        Failure { source_diagnostics, ..Failure::new(FailureClass::Usage, "") }
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

    /// Changes the class to a failure of the work: the text is right, but something that it asks for is not available.
    pub(crate) fn reclassify_as_work(&mut self) {
        self.class = FailureClass::Work;
    }

    /// Changes the class to a lack of this machine: the text is right, but this machine cannot do what it asks for.
    pub(crate) fn reclassify_as_lack(&mut self) {
        self.class = FailureClass::Lack;
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        self.class as u8
    }

    /// The failure of a build. Positions refer to `text`, the Dockerfile called `name`.
    pub(crate) fn build(error: BuildError, name: &str, text: &str) -> Failure {
        let at = |diagnostic: Diagnostic, class| Failure {
            class,
            ..Failure::text(name.to_owned(), text.to_owned(), vec![diagnostic])
        };
        match error {
            BuildError::AtLine(diagnostic) => at(*diagnostic, FailureClass::Work),
            BuildError::CommandFailed { text: _, span, code, tail, missing_loader, kept } => {
                let what = format!("the command failed with exit code {code}");
                let mut diagnostic = Diagnostic::error(span, what).label(exit_code_meaning(code));
                if let Some((program, interpreter)) = missing_loader {
                    let missing = SandboxError::MissingInterpreter { program, interpreter };
                    diagnostic.notes.push(missing.to_string());
                    diagnostic.helps = sandbox_error_helps(&missing);
                }
                if kept {
                    diagnostic.helps.push("look at what it left with `dram shell --failed`".to_owned());
                }
                let mut failure = at(diagnostic, FailureClass::Work);
                failure.output = tail;
                failure
            }
            BuildError::CommandStart { text: _, span, source } => {
                let (class, helps) = (sandbox_error_class(&source), sandbox_error_helps(&source));
                let mut diagnostic = Diagnostic::error(span, error_chain(&source).join(": "));
                diagnostic.helps = helps;
                at(diagnostic, class)
            }
            BuildError::Store(error) => error.into(),
            BuildError::CacheLost { .. } => Failure::work(error.to_string()),
            BuildError::Cancelled => Failure::interrupted(),
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

/// The messages of an error and its sources, outermost first, without repetitions.
pub(crate) fn error_chain(error: &dyn Error) -> Vec<String> {
    let mut all = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if all.last() != Some(&text) {
            all.push(text);
        }
        cause = error.source();
    }
    all
}

fn sandbox_error_class(error: &SandboxError) -> FailureClass {
    match error {
        SandboxError::Namespaces { .. }
        | SandboxError::ReadOnlyRoot { .. }
        | SandboxError::Filter { .. }
        | SandboxError::ForeignProgram { .. }
        | SandboxError::Insecure => FailureClass::Lack,
        SandboxError::Mount { source, .. } | SandboxError::Limit { source, .. }
            if source.kind() == ErrorKind::PermissionDenied =>
        {
            FailureClass::Lack
        }
        _ => FailureClass::Work,
    }
}

fn sandbox_error_helps(error: &SandboxError) -> Vec<String> {
    let help = match error {
        SandboxError::CommandNotFound { .. } => {
            "the base image has no such program: choose a base that has, or copy it in"
        }
        SandboxError::MissingInterpreter { interpreter, .. } if interpreter.contains("ld-musl") => {
            "the program was built for musl (Alpine) and this image has none: build it in a stage of the same family, \
             or start this stage from a musl base"
        }
        SandboxError::MissingInterpreter { interpreter, .. } if interpreter.contains("ld-linux") => {
            "the program was built for glibc (Debian, Fedora …) and this image has none: start this stage from a glibc \
             base, or build the program where the image comes from"
        }
        SandboxError::MissingInterpreter { .. } => "install the interpreter in this stage, or copy it in",
        SandboxError::TooManyLayers { .. } => {
            "make one layer of them with `dram squash IMAGE NAME`, or write fewer steps"
        }
        SandboxError::WorkingDirectory { .. } => "make the directory, or name another one",
        SandboxError::ReadOnlyMountPoint { .. } => {
            "make it in what the outer mount shows, or let that one be written to with `rw`"
        }
        SandboxError::ForbiddenMountPoint { .. } => "mount it somewhere else",
        SandboxError::Limit { .. } => "ask for no more than `ulimit -H` shows here, or run dram as root",
        SandboxError::ForeignProgram { .. } => {
            "install an emulator that the kernel then uses by itself: on Debian `apt-get install qemu-user-static`; or \
             build this stage on such a machine"
        }
        SandboxError::Insecure => "run dram as root of the machine, or leave `--security=insecure` out",
        error if sandbox_error_class(error) == FailureClass::Lack => "`dram doctor` shows what this machine lacks",
        _ => return Vec::new(),
    };
    vec![help.to_owned()]
}

/// Help for a damaged image.
const DAMAGED_IMAGE_HELP: &str = "bring the image in again with `dram pull`, `dram load` or `dram import`, or build it again; `dram \
                     fsck --repair` makes good what can be";

/// Help for an exhausted resource: disk space, quota or open files.
fn exhausted_resource_help(error: &std::io::Error) -> Option<&'static str> {
    if error.kind() == ErrorKind::StorageFull {
        return Some("free space on the disk: `dram prune` removes what nothing needs");
    }
    if error.kind() == ErrorKind::QuotaExceeded {
        return Some("free space with `dram prune`, or let the store take more with `--max-size`");
    }
    let files = error.raw_os_error() == Some(TOO_MANY_FILES);
    files.then_some("raise the limit of open files: `ulimit -n 1024`")
}

/// Returns true if there is a file where a directory should be, or the other way round.
fn is_wrong_file_kind(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists)
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        if let StoreError::FetchFailed { digest, source } = error {
            let mut failure = match source.downcast::<TransferError>() {
                Ok(error) => Failure::from(*error),
                Err(error) => Failure { causes: error_chain(&*error), ..Failure::work("") },
            };
            failure.causes.insert(0, format!("cannot fetch the blob {digest}"));
            return failure;
        }
        let raise = error.limit_exceeded().map(|exceeded| {
            let (name, allowed) = (exceeded.limit.name(), exceeded.allowed);
            format!("if it is honest, allow more: `--limit {name}={}`", allowed.saturating_mul(10))
        });
        let helps = match &error {
            _ if raise.is_some() => raise.as_deref(),
            StoreError::Document { path, .. } if path.ends_with("index.json") => {
                Some("`dram fsck --repair` puts the names back from a copy")
            }
            StoreError::MissingIndex(_) => Some("`dram fsck --repair` puts the names back from a copy"),
            StoreError::Tar { what, .. } if !what.starts_with("the layer ") => None,
            StoreError::MissingBlob { .. }
            | StoreError::DamagedBlob { .. }
            | StoreError::WrongDiffId { .. }
            | StoreError::WrongContent { .. }
            | StoreError::ForeignPacking { .. }
            | StoreError::Document { .. }
            | StoreError::Tar { .. } => Some(DAMAGED_IMAGE_HELP),
            StoreError::UnknownVersion { found, .. } if found.parse::<u64>().is_err() => Some(
                "its file `version` is damaged: if this dram made the store, write a file with a `1` in it in that place, \
                 then `dram fsck --repair`; or name another store with --store",
            ),
            StoreError::UnknownVersion { .. } => Some("use the dram that made it, or another store with --store"),
            StoreError::NotADirectory(_) => Some("`dram fsck --repair` moves it to `lost/` in the store"),
            StoreError::OldAndReadOnly { .. } => Some("make it writable for one command, or name another with --store"),
            StoreError::ReadOnly(_) => Some("make it writable, or name another with --store"),
            StoreError::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                Some("it may belong to another user: name another store with --store or DRAM_STORE")
            }
            StoreError::Io { source, .. } if is_wrong_file_kind(source) => {
                Some("if that is in the store, `dram fsck --repair` moves what is of another kind to `lost/` there")
            }
            StoreError::Io { source, .. } => exhausted_resource_help(source),
            _ => None,
        };
        let mut failure = Failure { causes: error_chain(&error), ..Failure::work("") };
        failure.helps.extend(helps.map(str::to_owned));
        failure
    }
}

impl From<SandboxError> for Failure {
    fn from(error: SandboxError) -> Failure {
        Failure {
            class: sandbox_error_class(&error),
            causes: error_chain(&error),
            helps: sandbox_error_helps(&error),
            ..Failure::work("")
        }
    }
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Failure {
        match error {
            TransferError::Store(error) => error.into(),
            TransferError::Remote { error, refused, lacks_blob: _ } => {
                let class = if refused { FailureClass::Refused } else { FailureClass::Work };
                Failure { class, causes: error.causes, helps: error.help.into_iter().collect(), ..Failure::work("") }
            }
            // The same error as from a command that reads the store itself.
            TransferError::Blob { place, digest, why } if place == "the store" => {
                StoreError::DamagedBlob { digest, why }.into()
            }
            TransferError::Cancelled => Failure::new(FailureClass::Interrupted, "it was interrupted"),
            TransferError::Write { ref source, .. } | TransferError::Read { ref source, .. } => {
                let helps = exhausted_resource_help(source).into_iter().map(str::to_owned).collect();
                Failure { causes: error_chain(&error), helps, ..Failure::work("") }
            }
            TransferError::Blob { ref place, .. } if place == "the store" => {
                Failure { causes: error_chain(&error), ..Failure::work("") }.help(DAMAGED_IMAGE_HELP)
            }
            error => Failure { causes: error_chain(&error), ..Failure::work("") },
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        let class = if error.is_refusal() { FailureClass::Refused } else { FailureClass::Work };
        let helps = error.help().map(str::to_owned).into_iter().collect();
        Failure { class, causes: error_chain(&error), helps, ..Failure::work("") }
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Failure {
        let help = match &error {
            ExportError::Store(_) => None,
            ExportError::InTheWay(_) => {
                Some("remove it, or name another directory: dram replaces files, not what is in the way of them")
            }
            ExportError::Device(_) => Some("`--output type=tar,dest=FILE` takes devices along"),
            ExportError::Destination { .. } | ExportError::Write { .. } => None,
        };
        let mut failure = match error {
            ExportError::Store(error) => Failure::from(error),
            error => Failure { causes: error_chain(&error), ..Failure::work("") },
        };
        failure.helps.extend(help.map(str::to_owned));
        failure
    }
}

impl From<MissingHostSupport> for Failure {
    fn from(lack: MissingHostSupport) -> Failure {
        let mut failure = Failure::lack(lack.to_string());
        failure.helps = lack.failed_checks.into_iter().filter_map(|row| row.help).collect();
        failure.help("`dram doctor` shows everything that was looked at")
    }
}
