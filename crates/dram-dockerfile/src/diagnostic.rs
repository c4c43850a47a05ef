//! Diagnostics: errors and warnings about a text, as data.

use std::ops::Range;

use crate::rules::LintRule;
use crate::suggest::nearest_name;

/// The severity of a diagnostic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The build is refused.
    Error,
    /// The build continues.
    Warning,
    /// The build continues, and a check does not fail unless the user asks for that: a rule that BuildKit does not have.
    Advice,
}

/// One error or warning about a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The severity: the build is refused, or continues.
    pub severity: Severity,
    /// The name of the lint rule, for warnings that can be skipped.
    pub rule: Option<&'static str>,
    /// The problem, in one sentence.
    pub message: String,
    /// The byte range in the text.
    pub span: Range<usize>,
    /// A few words to print below the marked text.
    pub label: Option<String>,
    /// Facts that explain the problem.
    pub notes: Vec<String>,
    /// Suggestions for the user.
    pub helps: Vec<String>,
}

impl Diagnostic {
    /// Makes an error at `span`.
    pub fn error(span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            rule: None,
            message: message.into(),
            span,
            label: None,
            notes: Vec::new(),
            helps: Vec::new(),
        }
    }

    /// Makes a warning at `span`, of a lint rule if there is one. It is advice if only dram has the rule.
    pub fn warning(rule: Option<&LintRule>, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        let severity = rule.map_or(Severity::Warning, |rule| rule.origin.severity());
        Diagnostic { severity, rule: rule.map(|rule| rule.name), ..Diagnostic::error(span, message) }
    }

    /// Sets the label below the marked text.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = Some(label.into());
        self
    }

    /// Adds a note.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Diagnostic {
        self.notes.push(note.into());
        self
    }

    /// Adds a suggestion.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.helps.push(help.into());
        self
    }

    /// Adds a "did you mean" suggestion, when one of `options` is near `word`.
    #[must_use]
    pub fn did_you_mean<'a>(self, word: &str, options: impl IntoIterator<Item = &'a str>) -> Diagnostic {
        match nearest_name(word, options) {
            Some(option) => self.help(format!("did you mean {}?", quote(option))),
            None => self,
        }
    }
}

/// Quotes `text` in backticks, shortened and with control characters escaped, so that a message stays one line.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut out = String::from("`");
    for (count, letter) in text.chars().enumerate() {
        if count == LONGEST {
            out.push('…');
            break;
        }
        if letter.is_control() {
            out.extend(letter.escape_default());
        } else {
            out.push(letter);
        }
    }
    out.push('`');
    out
}

/// Collects diagnostics up to a limit.
#[derive(Debug, Default)]
pub(crate) struct DiagnosticCollector {
    diagnostics: Vec<Diagnostic>,
    errors: usize,
    skipped: usize,
}

impl DiagnosticCollector {
    /// Further diagnostics are only counted: a hostile text must not cost memory many times its size.
    const MOST: usize = 1000;

    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        match diagnostic.severity {
            Severity::Error => self.errors += 1,
            Severity::Warning | Severity::Advice => {}
        }
        if self.diagnostics.len() < Self::MOST || (self.errors == 1 && diagnostic.severity == Severity::Error) {
            self.diagnostics.push(diagnostic);
        } else {
            self.skipped += 1;
        }
    }

    pub(crate) fn error(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.push(Diagnostic::error(span, message));
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Returns the byte ranges of all collected diagnostics.
    pub(crate) fn spans(&self) -> impl Iterator<Item = &Range<usize>> {
        self.diagnostics.iter().map(|diagnostic| &diagnostic.span)
    }

    /// Returns true when further diagnostics are only counted, so that callers need not format their messages.
    pub(crate) fn is_full(&self) -> bool {
        self.errors > 0 && self.diagnostics.len() >= Self::MOST
    }

    /// Returns true when further warnings are only counted.
    pub(crate) fn is_full_of_warnings(&self) -> bool {
        self.diagnostics.len() >= Self::MOST
    }

    /// Counts a diagnostic that is not kept.
    pub(crate) fn skip(&mut self) {
        self.skipped += 1;
    }

    /// Returns all collected diagnostics, in the order of the text.
    pub(crate) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        self.diagnostics.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.severity));
        if self.skipped > 0
            && let Some(last) = self.diagnostics.last_mut()
        {
            last.notes.push(format!("{} more problems are not shown", self.skipped));
        }
        self.diagnostics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_shortens_and_hides_control_characters() {
        assert_eq!(quote("a b"), "`a b`");
        assert_eq!(quote("\x1b[31m"), "`\\u{1b}[31m`");
        assert!(quote(&"x".repeat(10_000)).len() < 200);
    }

    #[test]
    fn collected_diagnostics_are_bounded_and_the_first_error_is_kept() {
        let mut report = DiagnosticCollector::default();
        for _ in 0..5000 {
            report.push(Diagnostic::warning(None, 0..0, "again"));
        }
        report.error(7..8, "the one that matters");
        assert!(report.has_errors());
        let all = report.into_diagnostics();
        assert_eq!(all.len(), 1001);
        assert_eq!(all.last().map(|last| last.severity), Some(Severity::Error));
    }
}
