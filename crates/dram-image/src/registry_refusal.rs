//! The refusal of a registry: its request, status and error codes (distribution specification 1.1, "Error codes").

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// A request that a registry answered with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryRefusal {
    /// The request, as a verb with its object.
    pub request: String,
    /// The HTTP status; `None` when the authorization server of the registry answered instead of it.
    pub status: Option<u16>,
    /// The error codes of the response; may be empty.
    pub codes: Vec<RegistryErrorCode>,
}

impl RegistryRefusal {
    /// Returns whether a manifest was refused because the registry lacks one of its blobs.
    pub fn is_blob_missing(&self) -> bool {
        use RegistryErrorCode::{BlobUnknown, ManifestBlobUnknown};
        self.codes.iter().any(|code| matches!(code, BlobUnknown | ManifestBlobUnknown))
    }
}

macro_rules! registry_error_codes {
    ($($(#[$doc:meta])* $code:ident = $text:literal,)*) => {
        /// An error code of the distribution specification.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum RegistryErrorCode {
            $($(#[$doc])* $code,)*
            /// A code that the specification does not know, or the empty text for none.
            Other(String),
        }

        impl FromStr for RegistryErrorCode {
            type Err = Infallible;

            fn from_str(text: &str) -> Result<RegistryErrorCode, Infallible> {
                Ok(match text {
                    $($text => RegistryErrorCode::$code,)*
                    other => RegistryErrorCode::Other(other.to_owned()),
                })
            }
        }

        impl fmt::Display for RegistryErrorCode {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(match self {
                    $(RegistryErrorCode::$code => $text,)*
                    RegistryErrorCode::Other(text) => text,
                })
            }
        }

        #[cfg(test)]
        const KNOWN_CODES: &[&str] = &[$($text,)*];
    };
}

registry_error_codes! {
    /// The registry has no such blob.
    BlobUnknown = "BLOB_UNKNOWN",
    /// An upload is malformed.
    BlobUploadInvalid = "BLOB_UPLOAD_INVALID",
    /// The registry knows no such upload.
    BlobUploadUnknown = "BLOB_UPLOAD_UNKNOWN",
    /// The content does not match the digest.
    DigestInvalid = "DIGEST_INVALID",
    /// A manifest refers to a blob or manifest that the registry does not have.
    ManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN",
    /// A manifest is malformed.
    ManifestInvalid = "MANIFEST_INVALID",
    /// The registry has no such manifest.
    ManifestUnknown = "MANIFEST_UNKNOWN",
    /// The name of the repository is malformed.
    NameInvalid = "NAME_INVALID",
    /// The registry has no such repository.
    NameUnknown = "NAME_UNKNOWN",
    /// The length does not match the content.
    SizeInvalid = "SIZE_INVALID",
    /// The request needs authentication.
    Unauthorized = "UNAUTHORIZED",
    /// The user may not do this.
    Denied = "DENIED",
    /// The registry does not support the request.
    Unsupported = "UNSUPPORTED",
    /// The client sends too many requests.
    TooManyRequests = "TOOMANYREQUESTS",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_unknown_codes_survive_parsing_and_printing() {
        for &text in KNOWN_CODES {
            let code: RegistryErrorCode = text.parse().unwrap();
            assert!(!matches!(code, RegistryErrorCode::Other(_)), "{text}");
            assert_eq!(code.to_string(), text);
        }
        for text in ["", "TEAPOT", "blob_unknown"] {
            let code: RegistryErrorCode = text.parse().unwrap();
            assert_eq!(code, RegistryErrorCode::Other(text.to_owned()));
            assert_eq!(code.to_string(), text);
        }
    }

    #[test]
    fn only_unknown_blobs_make_a_refusal_that_is_mended_by_sending_blobs() {
        for (code, expected) in [
            (RegistryErrorCode::BlobUnknown, true),
            (RegistryErrorCode::ManifestBlobUnknown, true),
            (RegistryErrorCode::ManifestUnknown, false),
            (RegistryErrorCode::Other("BLOB UNKNOWN".to_owned()), false),
        ] {
            let codes = vec![RegistryErrorCode::Unsupported, code];
            let refusal = RegistryRefusal { request: String::new(), status: Some(400), codes };
            assert_eq!(refusal.is_blob_missing(), expected, "{refusal:?}");
        }
    }
}
