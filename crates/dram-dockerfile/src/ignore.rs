//! `.dockerignore`: the paths that are excluded from a build context.
//!
//! Parses as `moby/patternmatcher/ignorefile` and matches as `MatchesOrParentMatches`: the last pattern that matches a
//! path or one of its parent directories decides; `!` includes paths again; `**` matches any number of directories.
//! Plain paths are found in a hash table, so that a hundred thousand of them cost no more than a few; patterns with
//! wildcards are matched in one pass over the path, without backtracking.

mod ignore_matcher;

use std::collections::HashMap;
use std::ops::Range;

use crate::diagnostic::{Diagnostic, DiagnosticCollector, quote};
use crate::glob;

use ignore_matcher::IgnoreMatcher;

/// The maximum size of an ignore list, in bytes.
pub const MAX_IGNORE_LIST_SIZE: usize = 16 << 20;

/// A compiled list of ignore patterns.
#[derive(Debug, Clone, Default)]
pub struct IgnoreList {
    patterns: Vec<IgnorePattern>,
    /// The index of the last pattern that is exactly this path.
    exact: HashMap<String, usize>,
    /// The index of the last pattern that is `**/` and this path.
    anywhere: HashMap<String, usize>,
    /// The index of the last pattern that is this path and `/**`.
    beneath: HashMap<String, usize>,
    /// The indexes of all other patterns, in order.
    wildcards: Vec<usize>,
}

/// One pattern of an ignore list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnorePattern {
    /// The pattern as written, without surrounding blanks.
    pub text: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The byte range in the file.
    pub span: Range<usize>,
    /// True when it starts with `!` and includes paths again.
    pub exception: bool,
    shape: IgnoreMatcher,
}

impl IgnoreList {
    /// Parses an ignore list.
    ///
    /// # Errors
    /// One diagnostic for each malformed pattern, and one for a text that is too long or not UTF-8.
    pub fn parse(text: &[u8]) -> Result<IgnoreList, Vec<Diagnostic>> {
        let mut report = DiagnosticCollector::default();
        let mut ignore = IgnoreList::default();
        match std::str::from_utf8(text) {
            Ok(_) if text.len() > MAX_IGNORE_LIST_SIZE => {
                report.error(0..0, format!("the list is longer than {} MiB", MAX_IGNORE_LIST_SIZE >> 20));
            }
            Ok(text) => ignore.read(text, &mut report),
            Err(wrong) => {
                let at = wrong.valid_up_to();
                report.push(
                    Diagnostic::error(at..at + 1, "the list is not valid UTF-8").help("save the file as UTF-8 text"),
                );
            }
        }
        if report.has_errors() { Err(report.into_diagnostics()) } else { Ok(ignore) }
    }

    /// Makes a list from the patterns of flags, in which `#` does not start a comment.
    ///
    /// # Errors
    /// The diagnostic for the first malformed pattern, with a byte range inside the pattern.
    pub fn from_patterns<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Result<IgnoreList, Box<Diagnostic>> {
        let mut ignore = IgnoreList::default();
        for (at, pattern) in patterns.into_iter().enumerate() {
            let pattern = pattern.trim();
            if !pattern.is_empty() {
                ignore.add(IgnorePattern::read(pattern, at + 1, 0..pattern.len())?);
            }
        }
        Ok(ignore)
    }

    /// Returns true when a pattern might match something beneath `dir`; true when uncertain.
    pub fn may_match_beneath(&self, dir: &str) -> bool {
        let dir = clean_path(dir);
        dir == "." || self.patterns.iter().any(|pattern| !pattern.exception && pattern.shape.may_match_beneath(&dir))
    }

    fn read(&mut self, text: &str, report: &mut DiagnosticCollector) {
        let mut start = 0;
        for (at, line) in text.split_inclusive('\n').enumerate() {
            let (offset, mut content) = (start, line);
            start += line.len();
            let mut skipped = 0;
            if let Some(rest) = content.strip_prefix('\u{feff}').filter(|_| at == 0) {
                skipped = content.len() - rest.len();
                content = rest;
            }
            if content.starts_with('#') || content.trim().is_empty() {
                continue;
            }
            let begin = offset + skipped + (content.len() - content.trim_start().len());
            let content = content.trim();
            let span = begin..begin + content.len();
            match IgnorePattern::read(content, at + 1, span.clone()) {
                Ok(pattern) => self.add(pattern),
                Err(problem) => report.push(*problem),
            }
        }
    }

    fn add(&mut self, pattern: IgnorePattern) {
        let at = self.patterns.len();
        match &pattern.shape {
            IgnoreMatcher::Exact(path) => drop(self.exact.insert(path.clone(), at)),
            IgnoreMatcher::Anywhere(path) => drop(self.anywhere.insert(path.clone(), at)),
            IgnoreMatcher::Beneath(path) => drop(self.beneath.insert(path.clone(), at)),
            IgnoreMatcher::Wildcard(_) => self.wildcards.push(at),
        }
        self.patterns.push(pattern);
    }

    /// Returns true when there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Returns all patterns, in file order.
    pub fn patterns(&self) -> &[IgnorePattern] {
        &self.patterns
    }

    /// Returns true when `path`, relative to the context and with `/` as separator, is excluded.
    pub fn excludes(&self, path: &str) -> bool {
        self.excluded_by(path).is_some()
    }

    /// Returns the pattern that excludes `path`.
    pub fn excluded_by(&self, path: &str) -> Option<&IgnorePattern> {
        let pattern = &self.patterns[self.last_match(path)?];
        (!pattern.exception).then_some(pattern)
    }

    /// Returns true when `dir` is excluded and no exception can match beneath it, so that a walk may skip it.
    pub fn may_prune(&self, dir: &str) -> bool {
        let dir = clean_path(dir);
        let Some(last) = self.last_match(&dir).filter(|last| !self.patterns[*last].exception) else { return false };
        !self.patterns[last + 1..].iter().any(|pattern| pattern.exception && pattern.shape.may_match_beneath(&dir))
    }

    /// Returns the index of the last pattern that matches `path` or one of its parent directories.
    fn last_match(&self, path: &str) -> Option<usize> {
        let path = clean_path(path);
        if path == "." {
            return None;
        }
        let ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).collect();
        let mut best: Option<usize> = None;
        for end in &ends {
            let one = &path[..*end];
            best = best.max(self.exact.get(one).copied());
            if !self.anywhere.is_empty() {
                let tails = ends.iter().filter(|start| *start < end).map(|start| &one[start + 1..]);
                best = best.max(tails.chain([one]).filter_map(|tail| self.anywhere.get(tail).copied()).max());
            }
            if *end < path.len() {
                best = best.max(self.beneath.get(one).copied());
            }
        }
        let later = self.wildcards.iter().rev().take_while(|at| best.is_none_or(|best| **at > best));
        later.copied().find(|at| self.patterns[*at].shape.matches_path_or_parent(&path)).or(best)
    }
}

impl IgnorePattern {
    fn read(text: &str, line: usize, span: Range<usize>) -> Result<IgnorePattern, Box<Diagnostic>> {
        let (exception, path) = match text.strip_prefix('!') {
            Some(path) => (true, path.trim()),
            None => (false, text),
        };
        if path.is_empty() {
            return Err(Box::new(Diagnostic::error(span, "`!` stands alone").help("write a pattern behind it")));
        }
        let path = clean_path(path);
        let path = path.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&path);
        if glob::tokenize(path).is_err() {
            let error = Diagnostic::error(span, format!("the pattern {} is malformed", quote(text)));
            return Err(Box::new(error.help("close each `[`, and put a backslash before a literal one")));
        }
        Ok(IgnorePattern { text: text.to_owned(), line, span, exception, shape: IgnoreMatcher::new(path) })
    }
}

/// Returns `path` without `.`, doubled slashes and resolvable `..`, as Go's `filepath.Clean`.
fn clean_path(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests;
