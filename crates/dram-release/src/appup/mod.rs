//! The application upgrade file (`.appup`).
//!
//! The format is that of appup(4).

mod generate;

use regex_lite::Regex;

use crate::consult::{TermError, consult};
use crate::print::pretty;
use crate::relup_script::RelupScriptError;
use crate::relup_script::UpgradeDirection;
use crate::relup_script::instruction::{self, UpgradeInstruction};
use crate::term::Term;

pub use generate::{AppupGenerateError, BeamFiles, generate_appup, modules_differ, restart_appup};

/// The maximum length of a version pattern in bytes.
const LONGEST: usize = 1000;

/// The reason why a file is not a valid appup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppupError {
    /// The file is not a sequence of Erlang terms.
    #[error(transparent)]
    Syntax(#[from] TermError),
    /// The file is not exactly one tuple of the required form.
    #[error("it is not `{{VERSION, [{{FROM, [INSTRUCTION, ...]}}, ...], [{{TO, [INSTRUCTION, ...]}}, ...]}}.`")]
    Form,
    /// A version is neither a string nor a binary with a regular expression.
    #[error("`{0}` is no version: it is a string, or a pattern in a binary")]
    Version(String),
    /// A regular expression cannot be used.
    #[error("the pattern `{pattern}` cannot be used: {why}")]
    Pattern {
        /// The regular expression.
        pattern: String,
        /// The reason.
        why: String,
    },
    /// The instructions for a version are invalid.
    #[error("in the instructions for `{version}`")]
    Script {
        /// The version, or the regular expression.
        version: String,
        /// The underlying error.
        source: RelupScriptError,
    },
}

/// A version, or a regular expression that matches versions.
#[derive(Debug, Clone)]
enum VersionPattern {
    Exact(String),
    /// A regular expression that must match the whole version.
    Matching(Regex),
}

impl VersionPattern {
    fn read(term: &Term) -> Result<VersionPattern, AppupError> {
        if let Some(version) = term.as_string() {
            return Ok(VersionPattern::Exact(version));
        }
        let Term::Binary(bytes) = term else { return Err(AppupError::Version(term.to_string())) };
        let pattern = String::from_utf8_lossy(bytes).into_owned();
        let wrong = |why: String| AppupError::Pattern { pattern: pattern.chars().take(120).collect(), why };
        if pattern.len() > LONGEST {
            return Err(wrong(format!("it has more than {LONGEST} bytes")));
        }
        Regex::new(&pattern).map(VersionPattern::Matching).map_err(|error| wrong(error.to_string()))
    }

    fn matches(&self, version: &str) -> bool {
        match self {
            VersionPattern::Exact(one) => one == version,
            // As in `systools`: the first match must be the whole version; later matches are not tried.
            VersionPattern::Matching(pattern) => pattern.find(version).is_some_and(|found| found.as_str() == version),
        }
    }
}

/// The content of an `.appup` file.
#[derive(Debug, Clone)]
pub struct Appup {
    term: Term,
    to: VersionPattern,
    up: Vec<(VersionPattern, Vec<UpgradeInstruction>)>,
    down: Vec<(VersionPattern, Vec<UpgradeInstruction>)>,
}

impl Appup {
    /// Reads the text of an `.appup` file.
    ///
    /// # Errors
    /// See [`AppupError`].
    pub fn read(bytes: &[u8]) -> Result<Appup, AppupError> {
        match <[Term; 1]>::try_from(consult(bytes)?) {
            Ok([term]) => Appup::from_term(term),
            Err(_) => Err(AppupError::Form),
        }
    }

    /// Converts `term` to an appup.
    ///
    /// # Errors
    /// See [`AppupError`].
    pub fn from_term(term: Term) -> Result<Appup, AppupError> {
        let Some([to, up, down]) = term.as_tuple() else { return Err(AppupError::Form) };
        let (to, up, down) = (VersionPattern::read(to)?, parse_scripts(up)?, parse_scripts(down)?);
        Ok(Appup { to, up, down, term })
    }

    /// Returns true if this is an appup for `version`, its new version.
    pub fn is_for_version(&self, version: &str) -> bool {
        self.to.matches(version)
    }

    /// Returns the instructions that upgrade from `version`, or downgrade to it. The first entry that matches counts.
    pub fn script(&self, direction: UpgradeDirection, version: &str) -> Option<&[UpgradeInstruction]> {
        let scripts = match direction {
            UpgradeDirection::Up => &self.up,
            UpgradeDirection::Down => &self.down,
        };
        scripts.iter().find(|(versions, _)| versions.matches(version)).map(|(_, script)| script.as_slice())
    }

    /// Returns true if the appup has instructions both to upgrade from `version` and to downgrade to it.
    pub fn covers_version(&self, version: &str) -> bool {
        self.script(UpgradeDirection::Up, version).is_some() && self.script(UpgradeDirection::Down, version).is_some()
    }

    /// Returns the appup as a term.
    pub fn term(&self) -> &Term {
        &self.term
    }

    /// Returns the text of the `.appup` file.
    pub fn text(&self) -> String {
        format!("%% coding: utf-8\n{}.\n", pretty(&self.term))
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
fn parse_scripts(term: &Term) -> Result<Vec<(VersionPattern, Vec<UpgradeInstruction>)>, AppupError> {
    let one = |term: &Term| match term.as_tuple() {
        Some([versions, script]) => {
            let read = VersionPattern::read(versions)?;
            let script = instruction::read_script(script).map_err(|source| {
                let version = match versions {
                    Term::Binary(pattern) => String::from_utf8_lossy(pattern).into_owned(),
                    other => other.as_string().unwrap_or_default(),
                };
                AppupError::Script { version, source }
            })?;
            Ok((read, script))
        }
        _ => Err(AppupError::Form),
    };
    term.as_list().ok_or(AppupError::Form)?.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_pattern_must_match_the_whole_version() {
        let text = b"{\"2.0\",[{<<\"1\\\\.[0-9]+\">>,[{load_module,a}]},{<<\".*\">>,[]}],[{\"1.0\",[]}]}.";
        let appup = Appup::read(text).unwrap();
        assert_eq!(appup.script(UpgradeDirection::Up, "1.12").map(<[_]>::len), Some(1));
        assert_eq!(
            appup.script(UpgradeDirection::Up, "1.12.3").map(<[_]>::len),
            Some(0),
            "the first match is not all of it"
        );
        assert!(
            appup.covers_version("1.0")
                && !appup.covers_version("1.1")
                && appup.is_for_version("2.0")
                && !appup.is_for_version("2.0.1")
        );
    }

    #[test]
    fn errors_name_the_invalid_part_of_an_appup() {
        let said = |text: &str| {
            let error = Appup::read(text.as_bytes()).unwrap_err();
            let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
            format!("{error}{}", source.unwrap_or_default())
        };
        assert!(said("{\"2\",\n [}.").starts_with("line 2, column 3: "));
        assert!(said("{\"2\",[]}.").starts_with("it is not `{VERSION,"));
        assert!(said("{}. {}.").starts_with("it is not `{VERSION,"));
        assert_eq!(said("{2,[],[]}."), "`2` is no version: it is a string, or a pattern in a binary");
        assert!(said("{\"2\",[{<<\"(?=1)\">>,[]}],[]}.").starts_with("the pattern `(?=1)` cannot be used: "));
        let unknown = said("{\"2\",[{\"1\",[{load_modul,a}]}],[]}.");
        assert_eq!(unknown, "in the instructions for `1`: `{load_modul,a}`: there is no such instruction");
        for script in ["{}", "[{}]", "[x]", "[{x}]", "[[{load_module,a}]]", "[restart]", "[{update,a,soft,b}]"] {
            assert!(said(&format!("{{\"2\",[{{\"1\",{script}}}],[]}}.")).contains("in the instructions"), "{script}");
        }
    }
}
