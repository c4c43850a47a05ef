//! The error of the start program, with an exit code and a help text.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

/// The exit code for an invalid command line.
pub const EXIT_USAGE: u8 = 2;
/// The exit code for a failed command.
pub const EXIT_FAILURE: u8 = 1;

/// An error: the failed attempt with its cause, and help for the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    /// The attempt and its cause, in lower case.
    pub message: String,
    /// The help for the reader; empty if there is none.
    pub help: String,
    /// The exit code of the program.
    pub exit_code: u8,
}

impl StartError {
    /// An error of a failed command.
    pub fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: what.into(), help: help.into(), exit_code: EXIT_FAILURE }
    }

    /// An error of an invalid command line.
    pub fn invalid_usage(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: what.into(), help: help.into(), exit_code: EXIT_USAGE }
    }

    /// Puts a context in front of the message.
    #[must_use]
    pub fn with_context(self, context: &str) -> Self {
        Self { message: format!("{context}: {}", self.message), ..self }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", replace_control_characters(&self.message))?;
        if !self.help.is_empty() {
            write!(f, "\nhelp: {}", replace_control_characters(&self.help))?;
        }
        Ok(())
    }
}

/// Replaces control characters, which could move a terminal's cursor or change its colours.
#[must_use]
pub fn replace_control_characters(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// Converts bytes to text for a message: lossy, without control characters.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    replace_control_characters(&String::from_utf8_lossy(bytes)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_printed_with_its_help_and_without_control_characters() {
        let fault = StartError::new("cannot read `a\u{1b}`", "make it readable");
        assert_eq!(fault.to_string(), "error: cannot read `a\u{fffd}`\nhelp: make it readable");
        assert_eq!(fault.with_context("in `b`").message, "in `b`: cannot read `a\u{1b}`");
    }
}
