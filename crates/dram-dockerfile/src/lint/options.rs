//! The options of `check=`: skipped rules, enabled experimental rules, and warnings as errors.
//!
//! Follows BuildKit's `linter.ParseLintOptions`. The build argument overrides the directive of the file.

use super::Subject;
use crate::diagnostic::{Diagnostic, Report, quote};
use crate::rules;

/// The build argument with options for the whole file.
const ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// The parsed options of `check=`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    skip: Names,
    experimental: Names,
    /// True when warnings are errors.
    pub(super) error: bool,
}

/// A list of rule names, or all rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    all: bool,
    names: Vec<String>,
}

impl Names {
    fn read(text: &str) -> Names {
        match text {
            "all" => Names { all: true, names: Vec::new() },
            text => Names { all: false, names: text.split(',').map(|name| name.trim().to_owned()).collect() },
        }
    }

    fn has(&self, rule: &str) -> bool {
        self.all || self.names.iter().any(|name| name == rule)
    }
}

impl Options {
    /// Returns the options for the whole file, and reports invalid options and unknown rules.
    pub(super) fn of(subject: &Subject<'_>, report: &mut Report) -> Options {
        let directive = subject.dockerfile.directives.check.as_ref();
        let (text, span) = match (subject.settings.build_args.get(ARGUMENT), directive) {
            (Some(text), _) => (text.as_str(), 0..0),
            (None, Some(word)) => (word.text.split(' ').next().unwrap_or_default(), word.span.clone()),
            (None, None) => ("", 0..0),
        };
        let options = Options::read(text).unwrap_or_else(|wrong| {
            let what = if span.is_empty() { format!("`{ARGUMENT}` has") } else { "`check=` has".to_owned() };
            report.push(
                Diagnostic::error(span.clone(), format!("{what} no option {}", quote(wrong)))
                    .did_you_mean(wrong.split('=').next().unwrap_or_default(), ["skip", "error", "experimental"])
                    .help("write `skip=NAME,NAME`, `error=true` or `experimental=NAME`, with `;` between them"),
            );
            Options::default()
        });
        options.unknown(&span, report);
        for one in &subject.dockerfile.instructions {
            if let Some(Ok(own)) = one.check().map(Options::read) {
                own.unknown(&one.span, report);
            }
        }
        options
    }

    /// Parses the options; the error is the invalid part of `text`.
    pub(super) fn read(text: &str) -> Result<Options, &str> {
        let mut options = Options::default();
        for part in text.trim().split(';').filter(|_| !text.trim().is_empty()) {
            let (name, value) = part.split_once('=').ok_or(part)?;
            let value = value.trim();
            match name.trim() {
                "skip" => options.skip = Names::read(value),
                "experimental" => options.experimental = Names::read(value),
                "error" => options.error = boolean(value).ok_or(part)?,
                _ => return Err(part),
            }
        }
        Ok(options)
    }

    /// Returns true when the rule is skipped.
    pub(super) fn skips(&self, rule: &str) -> bool {
        self.skip.has(rule)
    }

    /// Returns true when the experimental rule is enabled.
    pub(super) fn asks(&self, rule: &str) -> bool {
        self.experimental.has(rule)
    }

    fn unknown(&self, span: &std::ops::Range<usize>, report: &mut Report) {
        for name in self.skip.names.iter().chain(&self.experimental.names) {
            if name.is_empty() || rules::find(name).is_some() || report.is_full_of_warnings() {
                continue;
            }
            let rule = Some(&rules::UNKNOWN_RULE);
            report.push(
                Diagnostic::warning(rule, span.clone(), format!("there is no rule {}", quote(name)))
                    .did_you_mean(name, rules::ALL.iter().map(|rule| rule.name)),
            );
        }
    }
}

/// Parses a boolean as Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_buildkit_does() {
        let read = |text| Options::read(text).unwrap();
        assert!(read("skip=all").skips("A"));
        assert!(read(" skip = A , B ;error=true").skips("B"));
        assert!(read("skip=A;error=1").error && !read("error=F").error);
        assert!(!read("skip=a").skips("A"), "names are exact");
        assert!(read("experimental=A").asks("A") && !read("experimental=A").asks("B"));
        assert!(read("experimental=all").asks("B") && !read("skip=all").asks("B"));
        assert_eq!(read(""), Options::default());
        assert_eq!(Options::read("skip"), Err("skip"));
        assert_eq!(Options::read("skip=A;wat=1"), Err("wat=1"));
        assert_eq!(Options::read("error=maybe"), Err("error=maybe"));
    }
}
