//! Converts the failures of the library to those of the command, and the other way round.

use dram_build::request::{BuildFailure, DiagnosedText, InputError};
use dram_dockerfile::Diagnostic;
use dram_error::ErrorReport as _;

use crate::failure::{Failure, SourceDiagnostics};

/// The failure of a requested build. Positions refer to `text`, the Dockerfile called `name`.
pub(super) fn request_failure(failure: BuildFailure, name: &str, text: &str) -> Failure {
    let class = failure.class();
    let at = |diagnostics: Vec<Diagnostic>| Failure {
        class,
        ..Failure::text(name.to_owned(), text.to_owned(), diagnostics)
    };
    match failure {
        BuildFailure::Dockerfile(diagnostics) | BuildFailure::MissingInputs(diagnostics) => at(diagnostics),
        BuildFailure::CommandsUnsupported(diagnostic) => at(vec![*diagnostic]),
        BuildFailure::Step(error) => Failure::build(*error, name, text),
        BuildFailure::Input(InputError { class, causes, helps, text }) => {
            let source_diagnostics = text.map(|text| {
                let DiagnosedText { name, text, diagnostics } = *text;
                Box::new(SourceDiagnostics { name, text, diagnostics })
            });
            Failure { class, causes, helps, source_diagnostics, ..Failure::work("") }
        }
        BuildFailure::UnknownStage { ref name, .. } => {
            let message = format!("`--no-cache-filter {name}`: the build has no stage of that name");
            Failure { causes: vec![message], ..Failure::from(failure) }
        }
        failure @ (BuildFailure::Platforms { .. }
        | BuildFailure::Store(_)
        | BuildFailure::Transfer(_)
        | BuildFailure::Export(_)
        | BuildFailure::CacheExport { .. }
        | BuildFailure::Cancelled) => failure.into(),
    }
}

impl From<Failure> for InputError {
    fn from(failure: Failure) -> InputError {
        let Failure { class, causes, helps, output: _, source_diagnostics } = failure;
        let text = source_diagnostics.map(|text| {
            let SourceDiagnostics { name, text, diagnostics } = *text;
            Box::new(DiagnosedText { name, text, diagnostics })
        });
        InputError { class, causes, helps, text }
    }
}
