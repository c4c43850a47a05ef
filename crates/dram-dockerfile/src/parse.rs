//! Parses text into a [`Dockerfile`].

mod command;
mod flags;
mod instruction;
mod mount_flag;
mod onbuild;
mod pairs;

use std::borrow::Cow;

use crate::ast::{Dockerfile, DockerfileInstruction, Keyword};
use crate::diagnostic::{Diagnostic, DiagnosticCollector};
use crate::lines::LineReader;

pub use flags::flag_names;
pub(crate) use onbuild::parse_trigger;

/// The maximum size of a Dockerfile, in bytes.
pub const MAX_DOCKERFILE_SIZE: usize = 16 << 20;

/// The maximum number of instructions in a Dockerfile.
pub const MAX_INSTRUCTIONS: usize = 200_000;

/// The result of [`parse`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParsedDockerfile {
    /// The syntax tree, as far as the text could be read.
    pub dockerfile: Dockerfile,
    /// All diagnostics, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

/// Parses a Dockerfile. Never fails: all problems are returned as diagnostics at once. Warnings that the file turns off
/// are removed later, by [`lint::check`](crate::lint::check).
///
/// Invalid instructions become [`InstructionBody::Invalid`](crate::ast::InstructionBody::Invalid); such a file can be
/// inspected but not built.
pub fn parse(text: &[u8]) -> ParsedDockerfile {
    let mut report = DiagnosticCollector::default();
    if text.len() > MAX_DOCKERFILE_SIZE {
        report.error(0..0, format!("the Dockerfile is longer than {} MiB", MAX_DOCKERFILE_SIZE >> 20));
        return ParsedDockerfile { dockerfile: Dockerfile::default(), diagnostics: report.into_diagnostics() };
    }
    let text = decode_text(text, &mut report);
    let mut lines = LineReader::new(&text);
    let mut instructions: Vec<DockerfileInstruction> = Vec::new();
    while let Some(logical) = lines.next_logical_line(&mut report) {
        if instructions.len() == MAX_INSTRUCTIONS {
            let span = logical.span(0..logical.text.len());
            report.error(span, format!("the Dockerfile has more than {MAX_INSTRUCTIONS} instructions"));
            break;
        }
        instructions.push(instruction::read(&logical, &mut lines, &mut report));
    }
    check_order(&instructions, &mut report);
    let sound = !report.has_errors();
    let dockerfile = Dockerfile { directives: lines.directives, instructions, is_valid: sound };
    ParsedDockerfile { dockerfile, diagnostics: report.into_diagnostics() }
}

/// Decodes the text, with each invalid byte replaced by one `?`, so that byte offsets stay valid.
fn decode_text<'t>(text: &'t [u8], report: &mut DiagnosticCollector) -> Cow<'t, str> {
    if let Some(at) = text.iter().position(|byte| *byte == 0) {
        report.push(
            Diagnostic::error(at..at + 1, "the Dockerfile has a NUL byte")
                .help("save the file as UTF-8 text; editors of other systems may have written UTF-16"),
        );
    }
    let wrong = match std::str::from_utf8(text) {
        Ok(text) => return Cow::Borrowed(text),
        Err(wrong) => wrong.valid_up_to(),
    };
    report.push(
        Diagnostic::error(wrong..wrong + 1, "the Dockerfile is not valid UTF-8").help("save the file as UTF-8 text"),
    );
    let mut readable = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        readable.push_str(chunk.valid());
        readable.extend(chunk.invalid().iter().map(|_| '?'));
    }
    Cow::Owned(readable)
}

/// Checks that there is a `FROM` and that only `ARG` stands before it.
fn check_order(instructions: &[DockerfileInstruction], report: &mut DiagnosticCollector) {
    let first = instructions.iter().position(|one| one.kind == Some(Keyword::From));
    let before = &instructions[..first.unwrap_or(instructions.len())];
    for one in before.iter().filter(|one| one.kind != Some(Keyword::Arg)) {
        // An unknown keyword already has an error of its own.
        if let Some(kind) = one.kind
            && first.is_some()
        {
            report.push(
                Diagnostic::error(one.span.clone(), format!("`{}` stands before the first `FROM`", kind.name()))
                    .help("only `ARG` may stand there; move the instruction below a `FROM`"),
            );
        }
    }
    match (instructions.first(), first) {
        (None, _) => report.push(
            Diagnostic::error(0..0, "the Dockerfile has no instructions").help("start it with `FROM` and an image"),
        ),
        (Some(one), None) => report.push(
            Diagnostic::error(one.span.clone(), "the Dockerfile has no `FROM`")
                .help("start it with `FROM` and an image, or `FROM scratch`"),
        ),
        (Some(_), Some(_)) => {}
    }
}
