//! What there is to tell the user about a text, as data.

use std::ops::Range;

use crate::nearest::nearest;
use crate::rules::Rule;

/// How much a diagnostic matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is built.
    Error,
    /// The build goes on.
    Warning,
}

/// One remark about a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the build can go on.
    pub severity: Severity,
    /// The name of the check, where it is one that can be skipped.
    pub rule: Option<&'static str>,
    /// What is wrong, in one sentence.
    pub message: String,
    /// Where, in bytes of the text.
    pub span: Range<usize>,
    /// A few words for beneath the place.
    pub label: Option<String>,
    /// Facts that explain it.
    pub notes: Vec<String>,
    /// What the user can do.
    pub helps: Vec<String>,
}

impl Diagnostic {
    /// An error at `span`.
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

    /// A warning at `span`, of a rule when it has one.
    pub fn warning(rule: Option<&Rule>, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, rule: rule.map(|rule| rule.name), ..Diagnostic::error(span, message) }
    }

    /// The same with a few words beneath the place.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = Some(label.into());
        self
    }

    /// The same with one more fact.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Diagnostic {
        self.notes.push(note.into());
        self
    }

    /// The same with one more thing to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.helps.push(help.into());
        self
    }

    /// The same with a "did you mean", when one of `options` is near `word`.
    #[must_use]
    pub fn did_you_mean<'a>(self, word: &str, options: impl IntoIterator<Item = &'a str>) -> Diagnostic {
        match nearest(word, options) {
            Some(option) => self.help(format!("did you mean {}?", quote(option))),
            None => self,
        }
    }
}

/// `text` in backticks, shortened and without control characters, so that a message stays one readable line.
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

/// Collects diagnostics, up to a number nobody would read.
#[derive(Debug, Default)]
pub(crate) struct Report {
    diagnostics: Vec<Diagnostic>,
    errors: usize,
    skipped: usize,
}

impl Report {
    /// More than these are counted, not kept: a hostile text must not cost memory many times its size.
    const MOST: usize = 1000;

    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        match diagnostic.severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => {}
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

    /// The places of everything collected.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Range<usize>> {
        self.diagnostics.iter().map(|diagnostic| &diagnostic.span)
    }

    /// Whether what comes now is only counted, so that no work need go into its words.
    pub(crate) fn is_full(&self) -> bool {
        self.errors > 0 && self.diagnostics.len() >= Self::MOST
    }

    /// Whether warnings that come now are only counted.
    pub(crate) fn is_full_of_warnings(&self) -> bool {
        self.diagnostics.len() >= Self::MOST
    }

    /// Counts something that is not kept.
    pub(crate) fn skip(&mut self) {
        self.skipped += 1;
    }

    /// Everything collected, in the order of the text.
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
    fn a_report_is_bounded_and_keeps_an_error() {
        let mut report = Report::default();
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
