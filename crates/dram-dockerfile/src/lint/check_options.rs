//! The options of `check=`: skipped rules, enabled experimental rules, and warnings as errors.
//!
//! Follows BuildKit's `linter.ParseLintOptions`. The build argument overrides the directive of the file.

use super::LintInput;
use crate::diagnostic::{Diagnostic, DiagnosticCollector, quote};
use crate::option_value::parse_go_bool;
use crate::rules;

/// The build argument with options for the whole file.
const CHECK_ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// The parsed options of `check=`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CheckOptions {
    skip: RuleNames,
    experimental: RuleNames,
    /// True when warnings are errors.
    pub(super) error: bool,
}

/// A list of rule names, or all rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct RuleNames {
    all: bool,
    names: Vec<String>,
}

impl RuleNames {
    fn read(text: &str) -> RuleNames {
        match text {
            "all" => RuleNames { all: true, names: Vec::new() },
            text => RuleNames { all: false, names: text.split(',').map(|name| name.trim().to_owned()).collect() },
        }
    }

    fn contains(&self, rule: &str) -> bool {
        self.all || self.names.iter().any(|name| name == rule)
    }
}

impl CheckOptions {
    /// Returns the options for the whole file, and reports invalid options and unknown rules.
    pub(super) fn for_file(subject: &LintInput<'_>, report: &mut DiagnosticCollector) -> CheckOptions {
        let directive = subject.dockerfile.directives.check.as_ref();
        let (text, span) = match (subject.settings.build_args.get(CHECK_ARGUMENT), directive) {
            (Some(text), _) => (text.as_str(), 0..0),
            (None, Some(word)) => (word.text.split(' ').next().unwrap_or_default(), word.span.clone()),
            (None, None) => ("", 0..0),
        };
        let options = CheckOptions::read(text).unwrap_or_else(|wrong| {
            let what = if span.is_empty() { format!("`{CHECK_ARGUMENT}` has") } else { "`check=` has".to_owned() };
            report.push(
                Diagnostic::error(span.clone(), format!("{what} no option {}", quote(wrong)))
                    .did_you_mean(wrong.split('=').next().unwrap_or_default(), ["skip", "error", "experimental"])
                    .help("write `skip=NAME,NAME`, `error=true` or `experimental=NAME`, with `;` between them"),
            );
            CheckOptions::default()
        });
        options.warn_unknown_rules(&span, report);
        for one in &subject.dockerfile.instructions {
            if let Some(Ok(own)) = one.check_directive().map(CheckOptions::read) {
                own.warn_unknown_rules(&one.span, report);
            }
        }
        options
    }

    /// Parses the options; the error is the invalid part of `text`.
    pub(super) fn read(text: &str) -> Result<CheckOptions, &str> {
        let mut options = CheckOptions::default();
        for part in text.trim().split(';').filter(|_| !text.trim().is_empty()) {
            let (name, value) = part.split_once('=').ok_or(part)?;
            let value = value.trim();
            match name.trim() {
                "skip" => options.skip = RuleNames::read(value),
                "experimental" => options.experimental = RuleNames::read(value),
                "error" => options.error = parse_go_bool(value).ok_or(part)?,
                _ => return Err(part),
            }
        }
        Ok(options)
    }

    /// Returns true when the rule is skipped.
    pub(super) fn skips(&self, rule: &str) -> bool {
        self.skip.contains(rule)
    }

    /// Returns true when the experimental rule is enabled.
    pub(super) fn enables(&self, rule: &str) -> bool {
        self.experimental.contains(rule)
    }

    fn warn_unknown_rules(&self, span: &std::ops::Range<usize>, report: &mut DiagnosticCollector) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_buildkit_does() {
        let read = |text| CheckOptions::read(text).unwrap();
        assert!(read("skip=all").skips("A"));
        assert!(read(" skip = A , B ;error=true").skips("B"));
        assert!(read("skip=A;error=1").error && !read("error=F").error);
        assert!(!read("skip=a").skips("A"), "names are exact");
        assert!(read("experimental=A").enables("A") && !read("experimental=A").enables("B"));
        assert!(read("experimental=all").enables("B") && !read("skip=all").enables("B"));
        assert_eq!(read(""), CheckOptions::default());
        assert_eq!(CheckOptions::read("skip"), Err("skip"));
        assert_eq!(CheckOptions::read("skip=A;wat=1"), Err("wat=1"));
        assert_eq!(CheckOptions::read("error=maybe"), Err("error=maybe"));
    }
}
