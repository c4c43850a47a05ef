//! Errors of fetching URLs and Git repositories.

use std::io;
use std::time::Duration;

use dram_error::{ErrorClass, ErrorReport};

use crate::retry::{TransientFailure, is_transient_status};
use crate::transport_failure::TransportFailure;

/// An error of fetching a file or a Git repository. URLs in it are redacted.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL is malformed, or its scheme is not supported.
    #[error("`{url}` is not an address that a file can come from")]
    UnsupportedUrl {
        /// The redacted URL.
        url: String,
    },
    /// The server cannot be reached, or its response is not valid HTTP.
    #[error("cannot fetch `{url}`: {why}")]
    Transport {
        /// The redacted URL.
        url: String,
        /// The reason.
        why: String,
    },
    /// The server's certificate is not trusted.
    #[error("cannot fetch `{url}`: the server's certificate is not trusted: {why}")]
    Trust {
        /// The redacted URL.
        url: String,
        /// The reason.
        why: String,
    },
    /// The server answers with an error status.
    #[error("cannot fetch `{url}`: the server answers {status}")]
    Status {
        /// The redacted URL.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The delay before a retry that the server asks for.
        retry_after: Option<Duration>,
    },
    /// There were too many redirects.
    #[error("cannot fetch `{url}`: it redirects more than {most} times")]
    TooManyRedirects {
        /// The redacted URL.
        url: String,
        /// The limit of redirects.
        most: u32,
    },
    /// A redirect leads from HTTPS to a scheme without protection.
    #[error("cannot fetch `{url}`: it redirects to `{to}`, which is not encrypted")]
    InsecureRedirect {
        /// The redacted URL.
        url: String,
        /// The redacted target of the redirect.
        to: String,
    },
    /// The file is larger than the limit.
    #[error("cannot fetch `{url}`: it is longer than {most} bytes")]
    TooLarge {
        /// The redacted URL.
        url: String,
        /// The limit in bytes.
        most: u64,
    },
    /// A local file or directory cannot be written.
    #[error("cannot write what comes from `{url}`: {source}")]
    Write {
        /// The redacted URL.
        url: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The program `git` is not installed.
    #[error("`git` is not installed, and fetches `{url}`")]
    GitMissing {
        /// The redacted URL.
        url: String,
    },
    /// The repository is reached by ssh, and no agent was given.
    #[error("`{url}` is reached by ssh, and a build gets no ssh agent and no keys by itself")]
    NoAgent {
        /// The redacted URL.
        url: String,
    },
    /// `git` failed.
    #[error("cannot {what} `{url}`: {why}")]
    Git {
        /// The action that failed, as a verb for the message.
        what: &'static str,
        /// The redacted URL of the repository.
        url: String,
        /// The error output of `git`.
        why: String,
    },
    /// The repository has no such branch, tag or commit.
    #[error("the repository `{url}` has no `{reference}`")]
    NoReference {
        /// The redacted URL of the repository.
        url: String,
        /// The reference that was looked for.
        reference: String,
    },
    /// The commit does not match the expected checksum.
    #[error("the commit of `{url}` is {found}, not {expected}")]
    CommitMismatch {
        /// The redacted URL of the repository.
        url: String,
        /// The expected beginning of the commit id.
        expected: String,
        /// The commit id that was found.
        found: String,
    },
    /// The subdirectory does not exist, or is not a directory.
    #[error("the repository `{url}` has no directory `{subdir}`")]
    NoSubdir {
        /// The redacted URL of the repository.
        url: String,
        /// The subdirectory.
        subdir: String,
    },
    /// The fetch was cancelled.
    #[error("fetching `{url}` was interrupted")]
    Cancelled {
        /// The redacted URL.
        url: String,
    },
}

impl FetchError {
    fn help(&self) -> Option<&'static str> {
        match self {
            FetchError::UnsupportedUrl { .. } => Some("write `https://HOST/PATH`"),
            FetchError::Transport { .. } => {
                Some("see whether `curl` gets it; HTTPS_PROXY names a proxy where one is needed")
            }
            FetchError::Trust { .. } => Some("SSL_CERT_FILE names a file of certificates to trust"),
            FetchError::Status { status: 401 | 403, .. } => Some("it needs a user name and password, or is not public"),
            FetchError::Status { status: 404 | 410, .. } => Some("look at the address: nothing is there"),
            FetchError::Status { .. } => Some("try again later"),
            FetchError::TooManyRedirects { .. } => Some("use the address that it redirects to"),
            FetchError::InsecureRedirect { .. } => Some("use an `https://` address that stays one"),
            FetchError::TooLarge { .. } => Some("fetch it in a `RUN`, or put it into the build context"),
            FetchError::GitMissing { .. } => Some("install it: `apt-get install git`"),
            FetchError::NoAgent { .. } => {
                Some("add `--ssh default` to pass the running agent on, or write an `https://` address if it is public")
            }
            FetchError::Git { .. } => Some("see whether `git ls-remote` reaches it"),
            FetchError::NoReference { .. } => Some("`git ls-remote` shows what it has"),
            FetchError::CommitMismatch { .. } => Some("write the commit that is meant, or find out who changed it"),
            FetchError::NoSubdir { .. } => Some("name a directory of the repository; links are not followed"),
            FetchError::Write { .. } | FetchError::Cancelled { .. } => None,
        }
    }

    /// Returns the failure after which a retry may succeed, if the error is one.
    pub(crate) fn transient_failure(&self) -> Option<TransientFailure> {
        match self {
            // Every failed connection counts once: a file is fetched from the beginning after each.
            FetchError::Transport { .. } => Some(TransientFailure::Transport(TransportFailure::Broken)),
            FetchError::Status { status, retry_after, .. } => {
                is_transient_status(*status).then_some(TransientFailure::Response { retry_after: *retry_after })
            }
            FetchError::UnsupportedUrl { .. }
            | FetchError::Trust { .. }
            | FetchError::TooManyRedirects { .. }
            | FetchError::InsecureRedirect { .. }
            | FetchError::TooLarge { .. }
            | FetchError::Write { .. }
            | FetchError::GitMissing { .. }
            | FetchError::NoAgent { .. }
            | FetchError::Git { .. }
            | FetchError::NoReference { .. }
            | FetchError::CommitMismatch { .. }
            | FetchError::NoSubdir { .. }
            | FetchError::Cancelled { .. } => None,
        }
    }
}

impl ErrorReport for FetchError {
    fn class(&self) -> ErrorClass {
        match self {
            FetchError::Cancelled { .. } => ErrorClass::Interrupted,
            FetchError::UnsupportedUrl { .. }
            | FetchError::Transport { .. }
            | FetchError::Trust { .. }
            | FetchError::Status { .. }
            | FetchError::TooManyRedirects { .. }
            | FetchError::InsecureRedirect { .. }
            | FetchError::TooLarge { .. }
            | FetchError::Write { .. }
            | FetchError::GitMissing { .. }
            | FetchError::NoAgent { .. }
            | FetchError::Git { .. }
            | FetchError::NoReference { .. }
            | FetchError::CommitMismatch { .. }
            | FetchError::NoSubdir { .. } => ErrorClass::Work,
        }
    }

    fn helps(&self) -> Vec<String> {
        self.help().map(str::to_owned).into_iter().collect()
    }

    fn causes(&self) -> Vec<String> {
        // The message names the cause already.
        vec![self.to_string()]
    }
}
