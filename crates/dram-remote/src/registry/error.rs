//! What can go wrong with a registry.

use std::io;
use std::path::PathBuf;

/// Why a registry did not do what was asked. Nothing in it identifies anybody; what a registry said is cleaned of control
/// characters and cut.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It cannot be reached, or what it says is no HTTP.
    #[error("cannot {what}: {why}")]
    Unreachable {
        /// What was attempted, with the name.
        what: String,
        /// What happened.
        why: String,
        /// Whether it was silent for too long.
        was_silent: bool,
    },
    /// It does not prove who it is.
    #[error("cannot {what}: the certificate of `{host}` is not trusted: {why}")]
    Trust {
        /// What was attempted.
        what: String,
        /// Who was asked.
        host: String,
        /// What is wrong with the certificate.
        why: String,
        /// Whose certificates are trusted: files.
        trusted: String,
    },
    /// It says no.
    #[error("cannot {what}: the registry answers {status}{}", said(message))]
    Status {
        /// What was attempted.
        what: String,
        /// Its answer.
        status: u16,
        /// The codes of the errors that it gives, such as `BLOB_UNKNOWN`.
        codes: Vec<String>,
        /// Its own words; may be empty.
        message: String,
    },
    /// It wants to know who asks, or does not believe it.
    #[error("cannot {what}: the registry `{host}` answers {status}{}", said(message))]
    Unauthorized {
        /// What was attempted.
        what: String,
        /// The registry.
        host: String,
        /// Its answer.
        status: u16,
        /// Its own words; may be empty.
        message: String,
        /// Where name and password came from; `None` when there are none.
        shown: Option<String>,
    },
    /// The server that gives out tokens for it gives none.
    #[error("cannot {what}: no token from `{realm}`, to which the registry `{host}` sends: {why}")]
    Token {
        /// What was attempted.
        what: String,
        /// The registry.
        host: String,
        /// The address of the server.
        realm: String,
        /// Why not.
        why: String,
        /// Where name and password came from; `None` when there are none.
        shown: Option<String>,
    },
    /// What it sends is not what was asked for, or contradicts itself.
    #[error("cannot {what}: {why}")]
    Wrong {
        /// What was attempted.
        what: String,
        /// The contradiction.
        why: String,
    },
    /// This machine's settings forbid it.
    #[error("cannot {what}: `{prefix}` is blocked in {}", path.display())]
    Blocked {
        /// What was attempted.
        what: String,
        /// The setting.
        prefix: String,
        /// The file with the setting.
        path: PathBuf,
    },
    /// A file of settings or of credentials cannot be used.
    #[error("cannot use {}: {why}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The program that keeps credentials does not give or take them.
    #[error("cannot {what} with `{program}`: {why}")]
    Helper {
        /// What was attempted.
        what: &'static str,
        /// The program.
        program: String,
        /// What it says.
        why: String,
    },
    /// What is to be sent cannot be read.
    #[error("cannot {what}")]
    Source {
        /// What was attempted.
        what: String,
        /// What the reader said.
        #[source]
        source: io::Error,
    },
    /// Somebody wants it to end.
    #[error("cannot {what}: it was interrupted")]
    Stopped {
        /// What was attempted.
        what: String,
    },
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl RegistryError {
    /// What the user can do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            RegistryError::Unreachable { why, .. } if why.contains("does not speak TLS") => {
                "if that is meant, allow it: `insecure = true` in a `[[registry]]` with its `location`, in \
                 /etc/containers/registries.conf or ~/.config/containers/registries.conf"
                    .to_owned()
            }
            RegistryError::Unreachable { why, .. } if why.contains(super::connect::WANTS_US) => {
                "put it beside the others: client.cert and client.key in /etc/containers/certs.d/HOST/".to_owned()
            }
            RegistryError::Unreachable { .. } => {
                "see whether `curl` reaches it; HTTPS_PROXY names a proxy where one is needed, and `insecure = true` in \
                 registries.conf allows a registry without TLS"
                    .to_owned()
            }
            RegistryError::Trust { host, why, .. } if why.contains("NotValidYet") || why.contains("Expired") => {
                format!("see whether this machine's clock is right; else `{host}` needs a new certificate")
            }
            RegistryError::Trust { host, trusted, .. } => format!(
                "those of {trusted} are; put the certificate that vouches for it into \
                 /etc/containers/certs.d/{host}/ca.crt, or name it with SSL_CERT_FILE"
            ),
            RegistryError::Unauthorized { host, shown: None, .. } | RegistryError::Token { host, shown: None, .. } => {
                format!("`dram login {host}` lets it know who you are")
            }
            RegistryError::Unauthorized { host, shown: Some(place), .. }
            | RegistryError::Token { host, shown: Some(place), .. } => {
                format!("the name and password of {place} were shown; `dram login {host}` changes them")
            }
            RegistryError::Status { status: 404, .. } => "look at the name and the tag, and who may see it".to_owned(),
            RegistryError::Status { status: 429, .. } => "wait a while, or log in: many registries allow more then".to_owned(),
            RegistryError::Status { status: 500.., .. } => "try again later".to_owned(),
            RegistryError::Blocked { path, .. } => {
                format!("`blocked = true` in {} is what forbids it", path.display())
            }
            RegistryError::Settings { path, .. } => format!("mend or remove {}", path.display()),
            RegistryError::Helper { .. } => {
                "`credsStore` or `credHelpers` in the file of credentials name it".to_owned()
            }
            RegistryError::Status { .. }
            | RegistryError::Wrong { .. }
            | RegistryError::Source { .. }
            | RegistryError::Stopped { .. } => return None,
        })
    }

    /// Whether the registry was there and said no.
    pub fn is_refusal(&self) -> bool {
        match self {
            RegistryError::Status { .. } | RegistryError::Unauthorized { .. } | RegistryError::Token { .. } => true,
            RegistryError::Unreachable { .. }
            | RegistryError::Trust { .. }
            | RegistryError::Wrong { .. }
            | RegistryError::Blocked { .. }
            | RegistryError::Settings { .. }
            | RegistryError::Helper { .. }
            | RegistryError::Source { .. }
            | RegistryError::Stopped { .. } => false,
        }
    }

    /// Whether there is no such image, as far as one may know.
    pub fn is_not_found(&self) -> bool {
        matches!(self, RegistryError::Status { status: 404, .. })
    }

    /// Whether somebody wants it to end.
    pub(super) fn is_stop(&self) -> bool {
        matches!(self, RegistryError::Stopped { .. })
    }

    /// Whether what was sent did not arrive as it was sent.
    pub(super) fn lost_bytes(&self) -> bool {
        let RegistryError::Status { codes, .. } = self else { return false };
        let told = ["DIGEST_INVALID", "SIZE_INVALID", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN"];
        codes.iter().any(|code| told.contains(&code.as_str()))
    }

    /// Whether a manifest was refused as the registry lacks a blob of it.
    pub fn lacks_a_blob(&self) -> bool {
        let RegistryError::Status { codes, .. } = self else { return false };
        codes.iter().any(|code| code == "BLOB_UNKNOWN" || code == "MANIFEST_BLOB_UNKNOWN")
    }
}
