//! Joins physical lines to logical lines: byte-order mark, comments, parser directives and continuations.
//!
//! Follows BuildKit's `parser/parser.go` and `parser/directives.go`.

use std::ops::Range;

use crate::ast::{ParserDirectives, SpannedText};
use crate::diagnostic::{Diagnostic, DiagnosticCollector, quote};
use crate::rules;
use crate::suggest::nearest_name;

/// The text of an instruction with its continuation lines joined, and the map from its offsets to those of the file.
#[derive(Debug, Default)]
pub(crate) struct LogicalLine {
    pub(crate) text: String,
    /// The first line, counted from 1.
    pub(crate) line: usize,
    /// The line of its last piece.
    pub(crate) end_line: usize,
    /// The comments directly above, each without its `#` and surrounding blanks. Directives are not comments, and an
    /// empty comment separates the comments above it from the instruction.
    pub(crate) comments: Vec<String>,
    /// The start of each joined piece, in this text and in the file.
    pieces: Vec<(usize, usize)>,
    /// The byte range that stands for all offsets, when the text does not come from the file.
    fixed_span: Option<Range<usize>>,
}

impl LogicalLine {
    fn push(&mut self, piece: &str, start: usize) {
        self.pieces.push((self.text.len(), start));
        self.text.push_str(piece);
    }

    /// Maps a byte range of this text to the byte range in the file.
    pub(crate) fn span(&self, here: Range<usize>) -> Range<usize> {
        if let Some(fixed) = &self.fixed_span {
            return fixed.clone();
        }
        let start = self.file_offset(here.start);
        let end = if here.end > here.start { self.file_offset(here.end - 1) + 1 } else { start };
        start..end.max(start)
    }

    fn file_offset(&self, here: usize) -> usize {
        let piece = self.pieces.partition_point(|(start, _)| *start <= here).saturating_sub(1);
        self.pieces.get(piece).map_or(0, |(start, place)| place + (here - start))
    }

    /// Returns the text at `here` as a [`SpannedText`].
    pub(crate) fn word(&self, here: Range<usize>) -> SpannedText {
        SpannedText { text: self.text[here.clone()].to_owned(), span: self.span(here) }
    }
}

/// Reads logical lines and parser directives from the text of a Dockerfile.
pub(crate) struct LineReader<'t> {
    text: &'t str,
    offset: usize,
    line: usize,
    /// True while directives may still follow.
    in_directives: bool,
    /// True when the first line starts with `#!`.
    shebang: bool,
    pub(crate) directives: ParserDirectives,
    seen_directives: Vec<&'static str>,
    fixed_span: Option<Range<usize>>,
}

/// A physical line: its offset, and its text without the line end.
struct PhysicalLine<'t> {
    start: usize,
    content: &'t str,
}

impl<'t> LineReader<'t> {
    /// Returns the number of the line that was read last, counted from 1.
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    pub(crate) fn new(text: &'t str) -> LineReader<'t> {
        let offset = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let directives = ParserDirectives::default();
        LineReader {
            text,
            offset,
            line: 0,
            in_directives: true,
            shebang: false,
            directives,
            seen_directives: Vec::new(),
            fixed_span: None,
        }
    }

    /// Reads a text that is not part of the file; all its spans are `place`.
    pub(crate) fn with_fixed_span(text: &'t str, place: Range<usize>) -> LineReader<'t> {
        LineReader { fixed_span: Some(place), ..LineReader::new(text) }
    }

    fn next_physical_line(&mut self) -> Option<PhysicalLine<'t>> {
        let rest = self.text.get(self.offset..).filter(|rest| !rest.is_empty())?;
        let length = rest.find('\n').map_or(rest.len(), |end| end + 1);
        let start = self.offset;
        self.offset += length;
        self.line += 1;
        Some(PhysicalLine { start, content: rest[..length].trim_end_matches(['\r', '\n']) })
    }

    /// Reads the text of the next instruction, or returns `None` at the end of the file.
    pub(crate) fn next_logical_line(&mut self, report: &mut DiagnosticCollector) -> Option<LogicalLine> {
        let mut comments = Vec::new();
        loop {
            let physical = self.next_physical_line()?;
            let content = physical.content.trim_start();
            let start = physical.start + (physical.content.len() - content.len());
            let directive = self.in_directives && self.read_directive(content, start, report);
            if let Some(comment) = content.strip_prefix('#') {
                match comment.trim() {
                    // An empty comment separates the comments above from the instruction.
                    "" => comments.clear(),
                    _ if directive => {}
                    comment => comments.push(comment.to_owned()),
                }
                continue;
            }
            let (kept, mut ended) = self.without_continuation(content);
            if ended && kept.is_empty() {
                continue;
            }
            let mut logical = LogicalLine {
                line: self.line,
                comments,
                fixed_span: self.fixed_span.clone(),
                ..LogicalLine::default()
            };
            logical.push(kept, start);
            let mut empty_line = None;
            while !ended && let Some(next) = self.next_physical_line() {
                if next.content.trim_start().starts_with('#') {
                    continue;
                }
                if next.content.trim_start().is_empty() {
                    empty_line.get_or_insert(next.start..next.start + next.content.len());
                    continue;
                }
                let kept;
                (kept, ended) = self.without_continuation(next.content);
                logical.push(kept, next.start);
            }
            if let Some(span) = empty_line {
                warn_empty_line(report, span);
            }
            if !logical.text.trim().is_empty() {
                logical.end_line = self.line;
                return Some(logical);
            }
            comments = Vec::new();
        }
    }

    /// Reads the body of a heredoc up to the line `terminator`; also returns true when that line was found.
    pub(crate) fn read_heredoc_body(&mut self, terminator: &str, strip_tabs: bool) -> (&'t str, bool) {
        let start = self.offset;
        while let Some(physical) = self.next_physical_line() {
            let content = if strip_tabs { physical.content.trim_start_matches('\t') } else { physical.content };
            if content == terminator {
                return (&self.text[start..physical.start], true);
            }
        }
        (&self.text[start..], false)
    }

    /// Returns the line without the escape that continues it, and true when the instruction ends here.
    fn without_continuation<'l>(&self, line: &'l str) -> (&'l str, bool) {
        let escape = self.directives.escape;
        match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
            Some(before) if !before.ends_with(escape) => (before, false),
            Some(_) | None => (line, true),
        }
    }

    /// Reads a directive from a line at the top of the file and returns true, or ends the directives.
    fn read_directive(&mut self, content: &str, start: usize, report: &mut DiagnosticCollector) -> bool {
        if self.line == 1 && content.starts_with("#!") {
            self.shebang = true;
            return true;
        }
        let Some((name, value)) = parse_directive_comment(content) else {
            self.in_directives = false;
            return false;
        };
        const NAMES: [&str; 3] = ["syntax", "escape", "check"];
        let Some(name) = NAMES.into_iter().find(|known| known.eq_ignore_ascii_case(name)) else {
            if let Some(meant) = nearest_name(name, NAMES) {
                let span = start..start + content.trim_end().len();
                let message = format!("{} is no directive but a comment", quote(name));
                let remark = Diagnostic::warning(Some(&rules::MISTYPED_DIRECTIVE), span, message);
                report.push(remark.help(format!("did you mean `# {meant}=`?")));
            }
            self.in_directives = false;
            return false;
        };
        let span = start..start + content.trim_end().len();
        if self.seen_directives.contains(&name) {
            report.push(
                Diagnostic::error(span, format!("`# {name}=` is given twice")).help("keep one of the two directives"),
            );
            return true;
        }
        self.seen_directives.push(name);
        let word = SpannedText { text: value.to_owned(), span };
        match name {
            "syntax" => self.directives.syntax = Some(word),
            "check" => self.directives.check = Some(word),
            _ if self.shebang => {}
            _ => self.set_escape(&word, report),
        }
        true
    }

    fn set_escape(&mut self, word: &SpannedText, report: &mut DiagnosticCollector) {
        match word.text.as_str() {
            "\\" => self.directives.escape = '\\',
            "`" => self.directives.escape = '`',
            other => report.push(
                Diagnostic::error(word.span.clone(), format!("{} cannot be the escape character", quote(other)))
                    .help("write `# escape=\\` or a backtick"),
            ),
        }
    }
}

fn parse_directive_comment(comment: &str) -> Option<(&str, &str)> {
    parse_directive(comment.strip_prefix('#')?)
}

/// Parses the text of a comment as `name=value`.
pub(crate) fn parse_directive(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.trim_start().split_once('=')?;
    let (name, value) = (name.trim_end(), value.trim());
    let mut letters = name.chars();
    let proper = letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|letter| letter.is_ascii_alphanumeric());
    (proper && !value.is_empty()).then_some((name, value))
}

fn warn_empty_line(report: &mut DiagnosticCollector, span: Range<usize>) {
    let rule = &rules::NO_EMPTY_CONTINUATION;
    report.push(
        Diagnostic::warning(Some(rule), span, "an empty line inside an instruction")
            .help("remove it, or end the line before without the escape character"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> (Vec<(String, usize)>, ParserDirectives, Vec<Diagnostic>) {
        let mut report = DiagnosticCollector::default();
        let mut lines = LineReader::new(text);
        let mut all = Vec::new();
        while let Some(logical) = lines.next_logical_line(&mut report) {
            all.push((logical.text, logical.line));
        }
        (all, lines.directives, report.into_diagnostics())
    }

    #[test]
    fn continuations_are_joined_and_comments_dropped() {
        let table: &[(&str, &[(&str, usize)])] = &[
            ("\u{feff}FROM a\r\nRUN b\r\n", &[("FROM a", 1), ("RUN b", 2)]),
            ("  RUN a \\\n    b\n", &[("RUN a     b", 1)]),
            ("RUN a \\  \n# no\n   # no\n b", &[("RUN a  b", 1)]),
            ("RUN a \\\n\n b", &[("RUN a  b", 1)]),
            ("RUN a \\\\\nRUN b", &[("RUN a \\\\", 1), ("RUN b", 2)]),
            ("RUN a \\", &[("RUN a ", 1)]),
            ("\\\nRUN a", &[("RUN a", 1)]),
            ("\\", &[]),
            ("# only\n\n   \n# comments", &[]),
            ("RUN a # no comment", &[("RUN a # no comment", 1)]),
            ("# escape=`\nRUN a `\n b", &[("RUN a  b", 2)]),
            ("\n# escape=`\nRUN a `\n b", &[("RUN a `", 3), ("b", 4)]),
            ("# x\n# escape=`\nRUN a `\n b", &[("RUN a `", 3), ("b", 4)]),
        ];
        for (text, expected) in table {
            let all = lines(text).0;
            let all: Vec<(&str, usize)> = all.iter().map(|(text, line)| (text.as_str(), *line)).collect();
            assert_eq!(&all, expected, "{text:?}");
        }
    }

    #[test]
    fn directives_at_the_top_are_read_once() {
        let (_, directives, problems) = lines("#syntax = a/b:1 \n# ESCAPE=`\n# check=skip=all\nFROM a");
        assert_eq!(directives.syntax.map(|word| word.text).as_deref(), Some("a/b:1"));
        assert_eq!(directives.check.map(|word| word.text).as_deref(), Some("skip=all"));
        assert_eq!(directives.escape, '`');
        assert!(problems.is_empty());
        assert_eq!(lines("# escape=`\n# escape=`\nFROM a").2.len(), 1);
        assert_eq!(lines("# escape=x\nFROM a").2.len(), 1);
    }

    #[test]
    fn spans_of_joined_lines_point_into_the_file() {
        let text = "# c\nRUN one \\\n# c\n  two";
        let mut lines = LineReader::new(text);
        let logical = lines.next_logical_line(&mut DiagnosticCollector::default()).unwrap();
        let here = logical.text.find("two").unwrap();
        assert_eq!(&text[logical.span(here..here + 3)], "two");
        assert_eq!(&text[logical.span(0..logical.text.len())], &text[4..]);
    }
}
