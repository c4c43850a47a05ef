//! What an error means to the user of a command: [`ErrorReport`], which the error type of each crate with effects
//! implements.
//!
//! The class and the helps of an error are decided by its type and its variants, matched without `_`, and never by the
//! text of its message. A new variant does not compile until somebody has decided about it.

use std::error::Error;
use std::fmt;

/// The class of an error, which decides the exit code of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The work failed.
    Work,
    /// The command line, or a text of the user such as a Dockerfile, is wrong.
    Usage,
    /// This machine lacks a feature.
    MissingSupport,
    /// A registry or an engine answered, and refused the request.
    Refused,
    /// The user interrupted the command.
    Interrupted,
}

impl ErrorClass {
    /// Returns the exit code of a command that fails with an error of this class.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorClass::Work => 1,
            ErrorClass::Usage => 2,
            ErrorClass::MissingSupport => 3,
            ErrorClass::Refused => 4,
            // As a shell reports SIGINT.
            ErrorClass::Interrupted => 130,
        }
    }
}

/// An error with everything that a command reports about it.
pub trait ErrorReport: Error {
    /// Returns the class. An error that wraps another one has the class of that one.
    fn class(&self) -> ErrorClass;

    /// Returns what the user can do: sentences, with commands in backticks. An error that wraps another one has the
    /// helps of that one, unless it knows better.
    fn helps(&self) -> Vec<String>;

    /// Returns the message and those of the causes, outermost first.
    fn causes(&self) -> Vec<String> {
        chain_of(self.to_string(), self.source())
    }

    /// Returns the output of a failed command, line by line, that is shown above the message.
    fn output(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Returns the messages of an error and its sources, outermost first, without repetitions.
#[must_use]
pub fn error_chain(error: &dyn Error) -> Vec<String> {
    chain_of(error.to_string(), error.source())
}

fn chain_of(message: String, source: Option<&(dyn Error + 'static)>) -> Vec<String> {
    let mut all = vec![message];
    let mut cause = source;
    while let Some(error) = cause {
        let text = error.to_string();
        if all.last() != Some(&text) {
            all.push(text);
        }
        cause = error.source();
    }
    all
}

/// An error of any type that can be reported, for crates that pass on an error whose type they do not know.
#[derive(Debug)]
pub struct AnyReport(Box<dyn ErrorReport + Send + Sync>);

impl AnyReport {
    /// Hides the type of `error`.
    #[must_use]
    pub fn new(error: impl ErrorReport + Send + Sync + 'static) -> AnyReport {
        AnyReport(Box::new(error))
    }
}

impl fmt::Display for AnyReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl Error for AnyReport {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl ErrorReport for AnyReport {
    fn class(&self) -> ErrorClass {
        self.0.class()
    }

    fn helps(&self) -> Vec<String> {
        self.0.helps()
    }

    fn causes(&self) -> Vec<String> {
        self.0.causes()
    }

    fn output(&self) -> Vec<String> {
        self.0.output()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct DiskError(std::io::Error);

    impl fmt::Display for DiskError {
        fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("cannot write")
        }
    }

    impl Error for DiskError {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    impl ErrorReport for DiskError {
        fn class(&self) -> ErrorClass {
            ErrorClass::Refused
        }

        fn helps(&self) -> Vec<String> {
            vec!["free space".to_owned()]
        }

        fn output(&self) -> Vec<String> {
            vec!["line".to_owned()]
        }
    }

    #[test]
    fn hidden_type_reports_the_same_as_the_error_itself() {
        let make = || DiskError(std::io::Error::other("no space"));
        let (error, hidden) = (make(), AnyReport::new(make()));
        assert_eq!(hidden.class(), error.class());
        assert_eq!(hidden.helps(), ["free space"]);
        assert_eq!(hidden.causes(), ["cannot write", "no space"]);
        assert_eq!(hidden.output(), ["line"]);
        assert_eq!(error_chain(&hidden), ["cannot write", "no space"]);
    }

    #[test]
    fn repeated_messages_are_left_out_of_the_chain() {
        let inner = std::io::Error::other("cannot write");
        assert_eq!(error_chain(&DiskError(inner)), ["cannot write"]);
    }

    #[test]
    fn every_class_has_an_exit_code_of_its_own() {
        let all = [
            ErrorClass::Work,
            ErrorClass::Usage,
            ErrorClass::MissingSupport,
            ErrorClass::Refused,
            ErrorClass::Interrupted,
        ];
        assert_eq!(all.map(ErrorClass::exit_code), [1, 2, 3, 4, 130]);
    }
}
