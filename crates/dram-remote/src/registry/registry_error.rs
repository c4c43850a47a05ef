//! Errors of registries.

use std::io;
use std::path::PathBuf;

use dram_error::{ErrorClass, ErrorReport};
use dram_image::{RegistryErrorCode, RegistryRefusal};

use crate::retry::{TransientFailure, is_transient_status};
use crate::transport_failure::{CertificateFault, TransportFailure};

/// The source of credentials that a login gives, and no file.
pub(super) const GIVEN_CREDENTIALS: &str = "this login";

/// An error of a registry operation. It holds no credentials. Messages of a registry are sanitised and truncated.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry cannot be reached, or its response is not valid HTTP.
    #[error("cannot {what}: {why}")]
    Unreachable {
        /// The action, with the name of the image.
        what: String,
        /// The reason.
        why: String,
        /// The kind of the failure.
        failure: TransportFailure,
    },
    /// The certificate of the server is not trusted.
    #[error("cannot {what}: the certificate of `{host}` is not trusted: {why}")]
    Trust {
        /// The action.
        what: String,
        /// The server.
        host: String,
        /// The reason.
        why: String,
        /// The kind of the problem with the certificate.
        fault: CertificateFault,
        /// The sources of the trusted certificates.
        trusted: String,
    },
    /// The registry answers with an error status.
    #[error("cannot {what}: the registry answers {status}{}", message_suffix(message))]
    Status {
        /// The action.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The error codes of the response, such as `BLOB_UNKNOWN`.
        codes: Vec<RegistryErrorCode>,
        /// The messages of the response; may be empty.
        message: String,
    },
    /// The registry needs authentication, or refuses the credentials.
    #[error("cannot {what}: the registry `{host}` answers {status}{}", message_suffix(message))]
    Unauthorized {
        /// The action.
        what: String,
        /// The registry.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The messages of the response; may be empty.
        message: String,
        /// The source of the credentials that were sent; `None` when there are none.
        credential_source: Option<String>,
    },
    /// The authorization server gives no token.
    #[error("cannot {what}: no token from `{realm}`, to which the registry `{host}` sends: {why}")]
    Token {
        /// The action.
        what: String,
        /// The registry.
        host: String,
        /// The URL of the authorization server.
        realm: String,
        /// The reason.
        why: String,
        /// The source of the credentials that were sent; `None` when there are none.
        credential_source: Option<String>,
    },
    /// The response is not valid, or not the one that was asked for.
    #[error("cannot {what}: {why}")]
    InvalidResponse {
        /// The action.
        what: String,
        /// The reason.
        why: String,
    },
    /// The settings of this machine block the registry.
    #[error("cannot {what}: `{prefix}` is blocked in {}", path.display())]
    Blocked {
        /// The action.
        what: String,
        /// The prefix that is blocked.
        prefix: String,
        /// The file with the setting.
        path: PathBuf,
    },
    /// A file of settings or credentials cannot be used.
    #[error("cannot use {}: {why}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// A credential helper failed.
    #[error("cannot {what} with `{program}`: {why}")]
    Helper {
        /// The action.
        what: &'static str,
        /// The program.
        program: String,
        /// The output of the program.
        why: String,
    },
    /// The blob to upload cannot be read.
    #[error("cannot {what}")]
    UploadSource {
        /// The action.
        what: String,
        /// The error of the reader.
        #[source]
        source: io::Error,
    },
    /// The operation was cancelled.
    #[error("cannot {what}: it was interrupted")]
    Cancelled {
        /// The action.
        what: String,
    },
}

fn message_suffix(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl RegistryError {
    fn help(&self) -> Option<String> {
        Some(match self {
            RegistryError::Unreachable { failure: TransportFailure::NotTls, .. } => {
                "if that is meant, allow it: `insecure = true` in a `[[registry]]` with its `location`, in \
                 /etc/containers/registries.conf or ~/.config/containers/registries.conf"
                    .to_owned()
            }
            RegistryError::Unreachable { failure: TransportFailure::ClientCertificate, .. } => {
                "put it beside the others: client.cert and client.key in /etc/containers/certs.d/HOST/".to_owned()
            }
            RegistryError::Unreachable {
                failure: TransportFailure::Timeout | TransportFailure::TlsAlert | TransportFailure::Broken, ..
            } => {
                "see whether `curl` reaches it; HTTPS_PROXY names a proxy where one is needed, and `insecure = true` in \
                 registries.conf allows a registry without TLS"
                    .to_owned()
            }
            RegistryError::Trust { host, fault: CertificateFault::Validity, .. } => {
                format!("see whether this machine's clock is right; else `{host}` needs a new certificate")
            }
            RegistryError::Trust { host, trusted, fault: CertificateFault::Untrusted, .. } => format!(
                "those of {trusted} are; put the certificate of its authority into \
                 /etc/containers/certs.d/{host}/ca.crt, or name it with SSL_CERT_FILE"
            ),
            RegistryError::Unauthorized { host, credential_source: None, .. } | RegistryError::Token { host, credential_source: None, .. } => {
                format!("log in with `dram login {host}`")
            }
            RegistryError::Unauthorized { credential_source: Some(place), .. }
            | RegistryError::Token { credential_source: Some(place), .. } if place == GIVEN_CREDENTIALS => {
                "this user name and password were sent: see whether they are right; some registries want a token in the \
                 place of the password"
                    .to_owned()
            }
            RegistryError::Unauthorized { host, credential_source: Some(place), .. }
            | RegistryError::Token { host, credential_source: Some(place), .. } => {
                format!("the credentials of {place} were sent; `dram login {host}` changes them")
            }
            RegistryError::Status { status: 404, .. } => "look at the name and the tag, and who may see it".to_owned(),
            RegistryError::Status { status: 429, .. } => "wait a while, or log in: many registries allow more then".to_owned(),
            RegistryError::Status { status: 500.., .. } => "try again later".to_owned(),
            RegistryError::Blocked { path, .. } => {
                format!("`blocked = true` in {} is what forbids it", path.display())
            }
            RegistryError::Settings { path, .. } => format!("correct or remove {}", path.display()),
            RegistryError::Helper { .. } => {
                "`credsStore` or `credHelpers` in the file of credentials name it".to_owned()
            }
            RegistryError::Status { .. }
            | RegistryError::InvalidResponse { .. }
            | RegistryError::UploadSource { .. }
            | RegistryError::Cancelled { .. } => return None,
        })
    }

    /// Returns the refusal, if the registry was reached and answered with an error.
    pub fn refusal(&self) -> Option<RegistryRefusal> {
        let (what, status, codes) = match self {
            RegistryError::Status { what, status, codes, .. } => (what, Some(*status), codes.clone()),
            RegistryError::Unauthorized { what, status, .. } => {
                (what, Some(*status), vec![RegistryErrorCode::Unauthorized])
            }
            RegistryError::Token { what, .. } => (what, None, vec![RegistryErrorCode::Unauthorized]),
            RegistryError::Unreachable { .. }
            | RegistryError::Trust { .. }
            | RegistryError::InvalidResponse { .. }
            | RegistryError::Blocked { .. }
            | RegistryError::Settings { .. }
            | RegistryError::Helper { .. }
            | RegistryError::UploadSource { .. }
            | RegistryError::Cancelled { .. } => return None,
        };
        Some(RegistryRefusal { request: what.clone(), status, codes })
    }

    /// Returns whether the registry answers that the image or blob does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, RegistryError::Status { status: 404, .. })
    }

    /// Returns whether the operation was cancelled.
    pub(super) fn is_cancelled(&self) -> bool {
        matches!(self, RegistryError::Cancelled { .. })
    }

    /// Returns whether the registry received other bytes than were sent, or lost the upload.
    pub(super) fn is_upload_corrupt(&self) -> bool {
        use RegistryErrorCode::{BlobUploadInvalid, BlobUploadUnknown, DigestInvalid, SizeInvalid};
        let RegistryError::Status { codes, .. } = self else { return false };
        codes.iter().any(|code| matches!(code, DigestInvalid | SizeInvalid | BlobUploadInvalid | BlobUploadUnknown))
    }

    /// Returns the kind of the failed connection, if that is the error.
    pub(super) fn transport_failure(&self) -> Option<TransportFailure> {
        match self {
            RegistryError::Unreachable { failure, .. } => Some(*failure),
            RegistryError::Trust { .. }
            | RegistryError::Status { .. }
            | RegistryError::Unauthorized { .. }
            | RegistryError::Token { .. }
            | RegistryError::InvalidResponse { .. }
            | RegistryError::Blocked { .. }
            | RegistryError::Settings { .. }
            | RegistryError::Helper { .. }
            | RegistryError::UploadSource { .. }
            | RegistryError::Cancelled { .. } => None,
        }
    }

    /// Returns the failure after which a retry may succeed, if the error is one.
    pub(super) fn transient_failure(&self) -> Option<TransientFailure> {
        match self {
            RegistryError::Status { status, .. } if is_transient_status(*status) => {
                Some(TransientFailure::Response { retry_after: None })
            }
            error @ (RegistryError::Unreachable { .. }
            | RegistryError::Trust { .. }
            | RegistryError::Status { .. }
            | RegistryError::Unauthorized { .. }
            | RegistryError::Token { .. }
            | RegistryError::InvalidResponse { .. }
            | RegistryError::Blocked { .. }
            | RegistryError::Settings { .. }
            | RegistryError::Helper { .. }
            | RegistryError::UploadSource { .. }
            | RegistryError::Cancelled { .. }) => error.transport_failure().map(TransientFailure::Transport),
        }
    }
}

impl ErrorReport for RegistryError {
    fn class(&self) -> ErrorClass {
        match self {
            RegistryError::Status { .. } | RegistryError::Unauthorized { .. } | RegistryError::Token { .. } => {
                ErrorClass::Refused
            }
            RegistryError::Cancelled { .. } => ErrorClass::Interrupted,
            RegistryError::Unreachable { .. }
            | RegistryError::Trust { .. }
            | RegistryError::InvalidResponse { .. }
            | RegistryError::Blocked { .. }
            | RegistryError::Settings { .. }
            | RegistryError::Helper { .. }
            | RegistryError::UploadSource { .. } => ErrorClass::Work,
        }
    }

    fn helps(&self) -> Vec<String> {
        self.help().into_iter().collect()
    }
}
