//! How an application changes from one version to another: `.appup` files.
//!
//! The form is that of appup(4).

mod generate;

use regex_lite::Regex;

use crate::consult::{TermError, consult};
use crate::print::pretty;
use crate::rc::Direction;
use crate::rc::RcError;
use crate::rc::instruction::{self, Instruction};
use crate::term::Term;

pub use generate::{GenerateError, Modules, differ, generate, restart};

/// The longest pattern of versions.
const LONGEST: usize = 1000;

/// Why a file is no appup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppupError {
    /// It is no text of terms.
    #[error(transparent)]
    Syntax(#[from] TermError),
    /// It is not one term of the right form.
    #[error("it is not `{{VERSION, [{{FROM, [INSTRUCTION, ...]}}, ...], [{{TO, [INSTRUCTION, ...]}}, ...]}}.`")]
    Form,
    /// A version that is neither a string nor a pattern.
    #[error("`{0}` is no version: it is a string, or a pattern in a binary")]
    Version(String),
    /// A pattern that cannot be followed.
    #[error("the pattern `{pattern}` cannot be used: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// A script that cannot be followed.
    #[error("in the instructions for `{version}`")]
    Script {
        /// The version, or pattern.
        version: String,
        /// What is wrong.
        source: RcError,
    },
}

/// A version, or a pattern of versions.
#[derive(Debug, Clone)]
enum Versions {
    One(String),
    /// The whole version matches.
    Like(Regex),
}

impl Versions {
    fn read(term: &Term) -> Result<Versions, AppupError> {
        if let Some(version) = term.as_string() {
            return Ok(Versions::One(version));
        }
        let Term::Binary(bytes) = term else { return Err(AppupError::Version(term.to_string())) };
        let pattern = String::from_utf8_lossy(bytes).into_owned();
        let wrong = |why: String| AppupError::Pattern { pattern: pattern.chars().take(120).collect(), why };
        if pattern.len() > LONGEST {
            return Err(wrong(format!("it has more than {LONGEST} bytes")));
        }
        Regex::new(&pattern).map(Versions::Like).map_err(|error| wrong(error.to_string()))
    }

    fn fit(&self, version: &str) -> bool {
        match self {
            Versions::One(one) => one == version,
            // As `systools` has it: the first match, and not any, is all of the version.
            Versions::Like(pattern) => pattern.find(version).is_some_and(|found| found.as_str() == version),
        }
    }
}

/// How an application changes.
#[derive(Debug, Clone)]
pub struct Appup {
    term: Term,
    to: Versions,
    up: Vec<(Versions, Vec<Instruction>)>,
    down: Vec<(Versions, Vec<Instruction>)>,
}

impl Appup {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// See [`AppupError`].
    pub fn read(bytes: &[u8]) -> Result<Appup, AppupError> {
        match <[Term; 1]>::try_from(consult(bytes)?) {
            Ok([term]) => Appup::of(term),
            Err(_) => Err(AppupError::Form),
        }
    }

    /// The appup that `term` is.
    ///
    /// # Errors
    /// See [`AppupError`].
    pub fn of(term: Term) -> Result<Appup, AppupError> {
        let Some([to, up, down]) = term.as_tuple() else { return Err(AppupError::Form) };
        let (to, up, down) = (Versions::read(to)?, scripts(up)?, scripts(down)?);
        Ok(Appup { to, up, down, term })
    }

    /// Whether it says that it leads to this version.
    pub fn is_of(&self, version: &str) -> bool {
        self.to.fit(version)
    }

    /// The instructions that lead from `version`, or back to it: the first that fit.
    pub fn script(&self, direction: Direction, version: &str) -> Option<&[Instruction]> {
        let scripts = match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        };
        scripts.iter().find(|(versions, _)| versions.fit(version)).map(|(_, script)| script.as_slice())
    }

    /// Whether it leads both from `version` and back to it.
    pub fn knows(&self, version: &str) -> bool {
        self.script(Direction::Up, version).is_some() && self.script(Direction::Down, version).is_some()
    }

    /// Its term.
    pub fn term(&self) -> &Term {
        &self.term
    }

    /// Its text.
    pub fn text(&self) -> String {
        format!("%% coding: utf-8\n{}.\n", pretty(&self.term))
    }
}

fn scripts(term: &Term) -> Result<Vec<(Versions, Vec<Instruction>)>, AppupError> {
    let one = |term: &Term| match term.as_tuple() {
        Some([versions, script]) => {
            let read = Versions::read(versions)?;
            let script = instruction::read(script).map_err(|source| {
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
    fn a_pattern_fits_a_whole_version() {
        let text = b"{\"2.0\",[{<<\"1\\\\.[0-9]+\">>,[{load_module,a}]},{<<\".*\">>,[]}],[{\"1.0\",[]}]}.";
        let appup = Appup::read(text).unwrap();
        assert_eq!(appup.script(Direction::Up, "1.12").map(<[_]>::len), Some(1));
        assert_eq!(appup.script(Direction::Up, "1.12.3").map(<[_]>::len), Some(0), "the first match is not all of it");
        assert!(appup.knows("1.0") && !appup.knows("1.1") && appup.is_of("2.0") && !appup.is_of("2.0.1"));
    }

    #[test]
    fn what_is_wrong_is_named() {
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
