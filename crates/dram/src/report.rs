//! Prints failures, warnings and notes on standard error.

use std::io::{IsTerminal as _, Write as _};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use dram_dockerfile::{Diagnostic, Severity};

use crate::ambient;
use crate::failure::{Failure, SourceDiagnostics};
use crate::format::{escape_control, format_output};

/// Prints the failure of a command on standard error.
pub(crate) fn print_failure(failure: &Failure) {
    let mut text = String::new();
    for line in &failure.output {
        // A line that was overwritten in part is shown as a terminal shows it.
        let line = line.rsplit('\r').find(|part| !part.is_empty()).unwrap_or_default();
        text.push_str(&format!("  | {}\n", format_output(line, std::io::stderr().is_terminal())));
    }
    match &failure.source_diagnostics {
        Some(remarks) => text.push_str(&render_for_stderr(remarks)),
        None => {
            let mut causes = failure.causes.iter().map(|cause| printable(cause));
            text.push_str(&format!("error: {}\n", causes.next().unwrap_or_default()));
            causes.for_each(|cause| text.push_str(&format!("  caused by: {cause}\n")));
        }
    }
    for help in &failure.helps {
        text.push_str(&format!("  help: {}\n", printable(help)));
    }
    write_stderr(&text);
}

/// Prints warnings about a text on standard error.
pub(crate) fn print_warnings(remarks: &SourceDiagnostics) {
    write_stderr(&render_for_stderr(remarks));
}

/// Prints a note on standard error.
pub(crate) fn print_note(text: &str) {
    write_stderr(&format!("{}\n", escape_control(text)));
}

/// Prints on standard error that this program has a bug.
pub(crate) fn print_bug(text: &str) {
    write_stderr(&format!(
        "error: this is a bug in dram: {}\n  help: please report it with what you ran\n",
        escape_control(text)
    ));
}

fn write_stderr(text: &str) {
    // Nothing is left to report to if standard error is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Renders diagnostics for standard output, for commands that have them as their result.
pub(crate) fn render_for_stdout(remarks: &SourceDiagnostics) -> String {
    render_diagnostics(remarks, std::io::stdout().is_terminal())
}

fn render_for_stderr(remarks: &SourceDiagnostics) -> String {
    render_diagnostics(remarks, std::io::stderr().is_terminal())
}

fn render_diagnostics(remarks: &SourceDiagnostics, terminal: bool) -> String {
    let color = terminal && !ambient::refuses_colors();
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let text = mask_control(&mask_logins(&remarks.text));
    let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let mut out = String::new();
    for diagnostic in &remarks.diagnostics {
        out.push_str(&render_diagnostic(&renderer, &remarks.name, &text, &starts, diagnostic));
        out.push_str("\n\n");
    }
    out
}

fn render_diagnostic(renderer: &Renderer, name: &str, text: &str, starts: &[usize], diagnostic: &Diagnostic) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Advice => Level::INFO.with_name("advice"),
    };
    let message = printable(&diagnostic.message);
    let mut title = level.primary_title(message);
    if let Some(rule) = diagnostic.rule {
        title = title.id(rule);
    }
    if diagnostic.span.is_empty() {
        // The diagnostic has no position in the text.
        return renderer.render(&[with_notes_and_helps(Group::with_title(title), diagnostic)]);
    }
    let span = clipped_span(text, diagnostic);
    // Only the line is passed on: otherwise a long text would be read once for each diagnostic.
    let line = starts.partition_point(|start| *start <= span.start).max(1);
    let start = starts[line - 1];
    let shown = text[start..].lines().next().unwrap_or_default();
    let mut mark = AnnotationKind::Primary.span(span.start - start..span.end - start);
    if let Some(label) = diagnostic.label.as_deref().filter(|label| !label.is_empty()) {
        mark = mark.label(printable(label));
    }
    let group = title.element(Snippet::source(shown).line_start(line).path(name).annotation(mark));
    renderer.render(&[with_notes_and_helps(group, diagnostic)])
}

fn with_notes_and_helps<'a>(mut group: Group<'a>, diagnostic: &Diagnostic) -> Group<'a> {
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(printable(note)));
    }
    for help in &diagnostic.helps {
        group = group.element(Level::HELP.message(printable(help)));
    }
    group
}

/// The span of the diagnostic, on character boundaries of `text` and at most to the end of its first line: a long
/// instruction is not shown completely.
fn clipped_span(text: &str, diagnostic: &Diagnostic) -> std::ops::Range<usize> {
    let border = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = border(diagnostic.span.start);
    let end = border(diagnostic.span.end).max(start);
    let line = text[start..].find('\n').map_or(text.len(), |length| start + length);
    start..end.min(line).max(start)
}

/// The text as it is printed: without control characters, and without user names and passwords in URLs.
fn printable(text: &str) -> String {
    escape_control(&mask_logins(text))
}

/// The text with each byte of user names and passwords in URLs replaced by `x`: positions stay valid.
fn mask_logins(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        let ends = |letter: char| letter.is_whitespace() || "/?#\"'`".contains(letter);
        let host = &after[..after.find(ends).unwrap_or(after.len())];
        let login = &host[..host.rfind('@').unwrap_or(0)];
        out.push_str(before);
        let masked = |letter: char| std::iter::repeat_n(if letter == ':' { ':' } else { 'x' }, letter.len_utf8());
        out.extend(login.chars().flat_map(masked));
        rest = &after[login.len()..];
    }
    out.push_str(rest);
    out
}

/// The text with each byte of a control character replaced by `?`: positions stay valid, and the terminal executes
/// nothing.
fn mask_control(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\t' => out.push(letter),
            _ if letter.is_control() => out.extend(std::iter::repeat_n('?', letter.len_utf8())),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_in_urls_are_masked_in_place() {
        for (text, wanted) in [
            ("ADD http://user:pä@h:9/x@y /p", "ADD http://xxxx:xxx@h:9/x@y /p"),
            ("`https://token@h`: u@h", "`https://xxxxx@h`: u@h"),
            ("a://b:c@d@e f://g", "a://x:xxx@e f://g"),
            ("http://h/ @", "http://h/ @"),
            ("://@", "://@"),
        ] {
            let masked = mask_logins(text);
            assert_eq!(masked, wanted);
            assert_eq!(masked.len(), text.len());
        }
    }
}
