//! What can go wrong on the network.

use std::io;

/// Why something could not be had. Addresses in it are without names and passwords.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// It is no address.
    #[error("`{url}` is not an address that a file can come from")]
    Address {
        /// The address.
        url: String,
    },
    /// The server cannot be reached, or what it says is no HTTP.
    #[error("cannot fetch `{url}`: {why}")]
    Fetch {
        /// The address.
        url: String,
        /// What happened.
        why: String,
    },
    /// The server does not prove who it is.
    #[error("cannot fetch `{url}`: the server's certificate is not trusted: {why}")]
    Trust {
        /// The address.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The server says that there is no such thing, or not for us.
    #[error("cannot fetch `{url}`: the server answers {status}")]
    Status {
        /// The address.
        url: String,
        /// Its answer.
        status: u16,
    },
    /// The server sends us on, and on.
    #[error("cannot fetch `{url}`: it leads to other addresses more than {most} times")]
    Redirects {
        /// The address.
        url: String,
        /// How often is followed.
        most: u32,
    },
    /// The server sends us to where anybody could listen and answer.
    #[error("cannot fetch `{url}`: it leads to `{to}`, which is not protected")]
    Downgrade {
        /// The address.
        url: String,
        /// Where it leads.
        to: String,
    },
    /// There is more than anybody wants.
    #[error("cannot fetch `{url}`: it is longer than {most} bytes")]
    Large {
        /// The address.
        url: String,
        /// The limit.
        most: u64,
    },
    /// The disk refuses.
    #[error("cannot write what comes from `{url}`: {source}")]
    Write {
        /// The address.
        url: String,
        /// Why.
        source: io::Error,
    },
    /// The program `git` is not there.
    #[error("`git` is not installed, and fetches `{url}`")]
    NoGit {
        /// The address.
        url: String,
    },
    /// `git` says no.
    #[error("cannot {what} `{url}`: {why}")]
    Git {
        /// What was attempted.
        what: &'static str,
        /// The repository.
        url: String,
        /// What `git` says.
        why: String,
    },
    /// There is no such branch, tag or commit.
    #[error("the repository `{url}` has no `{reference}`")]
    NoReference {
        /// The repository.
        url: String,
        /// What was asked for.
        reference: String,
    },
    /// The commit is another than expected.
    #[error("the commit of `{url}` is {found}, not {expected}")]
    Commit {
        /// The repository.
        url: String,
        /// What it should begin with.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The directory is not there, or not a directory.
    #[error("the repository `{url}` has no directory `{subdir}`")]
    NoSubdir {
        /// The repository.
        url: String,
        /// The directory.
        subdir: String,
    },
    /// Somebody wants it to end.
    #[error("fetching `{url}` was interrupted")]
    Stopped {
        /// The address.
        url: String,
    },
}

impl RemoteError {
    /// What the user can do about it.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            RemoteError::Address { .. } => Some("write `https://HOST/PATH`"),
            RemoteError::Fetch { .. } => {
                Some("see whether `curl` gets it; HTTPS_PROXY names a proxy where one is needed")
            }
            RemoteError::Trust { .. } => Some("SSL_CERT_FILE names a file of certificates to trust"),
            RemoteError::Status { status: 401 | 403, .. } => {
                Some("it needs a name and password, or is not for everybody")
            }
            RemoteError::Status { status: 404 | 410, .. } => Some("look at the address: nothing is there"),
            RemoteError::Status { .. } => Some("try again later"),
            RemoteError::Redirects { .. } => Some("use the address that it leads to"),
            RemoteError::Downgrade { .. } => Some("use an `https://` address that stays one"),
            RemoteError::Large { .. } => Some("fetch it in a `RUN`, or put it into the build context"),
            RemoteError::NoGit { .. } => Some("install it: `apt-get install git`"),
            RemoteError::Git { .. } => Some("see whether `git ls-remote` reaches it"),
            RemoteError::NoReference { .. } => Some("`git ls-remote` shows what it has"),
            RemoteError::Commit { .. } => Some("write the commit that is meant, or find out who changed it"),
            RemoteError::NoSubdir { .. } => Some("name a directory of the repository; links are not followed"),
            RemoteError::Write { .. } | RemoteError::Stopped { .. } => None,
        }
    }

    /// Whether another attempt may succeed.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            RemoteError::Fetch { .. } => true,
            RemoteError::Status { status, .. } => *status >= 500 || *status == 429,
            RemoteError::Address { .. }
            | RemoteError::Trust { .. }
            | RemoteError::Redirects { .. }
            | RemoteError::Downgrade { .. }
            | RemoteError::Large { .. }
            | RemoteError::Write { .. }
            | RemoteError::NoGit { .. }
            | RemoteError::Git { .. }
            | RemoteError::NoReference { .. }
            | RemoteError::Commit { .. }
            | RemoteError::NoSubdir { .. }
            | RemoteError::Stopped { .. } => false,
        }
    }
}
