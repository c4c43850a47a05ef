//! What went wrong, for the person who started the release.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

/// The exit code for a command line that makes no sense.
pub const USAGE: u8 = 2;
/// The exit code for work that failed.
pub const FAILED: u8 = 1;

/// One failed attempt: what was attempted on what, why it failed, and what the reader can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What was attempted and on what, in lower case, with the cause.
    pub what: String,
    /// What the reader can do; empty if there is nothing.
    pub help: String,
    /// The exit code of the program.
    pub code: u8,
}

impl Fault {
    /// Work that failed.
    pub fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into(), code: FAILED }
    }

    /// A command line that makes no sense.
    pub fn usage(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into(), code: USAGE }
    }

    /// The same fault, with what it was part of in front.
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

/// `text` without what would move a terminal's cursor or change its colours.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// Bytes from outside as they may be shown: lossy, without control characters.
#[must_use]
pub fn shown(bytes: &[u8]) -> String {
    plain(&String::from_utf8_lossy(bytes)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_shown_with_its_help() {
        let fault = Fault::new("cannot read `a\u{1b}`", "make it readable");
        assert_eq!(fault.to_string(), "error: cannot read `a\u{fffd}`\nhelp: make it readable");
        assert_eq!(fault.within("in `b`").what, "in `b`: cannot read `a\u{1b}`");
    }
}
