//! The error of the start program, with an exit code and a help text.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

/// The exit code for an invalid command line.
pub const USAGE: u8 = 2;
/// The exit code for a failed command.
pub const FAILED: u8 = 1;

/// An error: the failed attempt with its cause, and help for the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The attempt and its cause, in lower case.
    pub what: String,
    /// The help for the reader; empty if there is none.
    pub help: String,
    /// The exit code of the program.
    pub code: u8,
}

impl Fault {
    /// An error of a failed command.
    pub fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into(), code: FAILED }
    }

    /// An error of an invalid command line.
    pub fn usage(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into(), code: USAGE }
    }

    /// Puts a context in front of the message.
    #[must_use]
    pub fn within(self, context: &str) -> Self {
        Self { what: format!("{context}: {}", self.what), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", plain(&self.what))?;
        if !self.help.is_empty() {
            write!(f, "\nhelp: {}", plain(&self.help))?;
        }
        Ok(())
    }
}

/// Replaces control characters, which could move a terminal's cursor or change its colours.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// Converts bytes to text for a message: lossy, without control characters.
#[must_use]
pub fn shown(bytes: &[u8]) -> String {
    plain(&String::from_utf8_lossy(bytes)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_printed_with_its_help_and_without_control_characters() {
        let fault = Fault::new("cannot read `a\u{1b}`", "make it readable");
        assert_eq!(fault.to_string(), "error: cannot read `a\u{fffd}`\nhelp: make it readable");
        assert_eq!(fault.within("in `b`").what, "in `b`: cannot read `a\u{1b}`");
    }
}
