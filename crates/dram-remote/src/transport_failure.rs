//! The failures below HTTP that matter to callers, taken from the typed errors of the HTTP and TLS libraries.

use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

/// The kind of a failed connection or exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportFailure {
    /// The server says nothing.
    Timeout,
    /// The server answers the TLS handshake with something other than TLS.
    NotTls,
    /// The server asks for a client certificate, or does not accept the one that was shown.
    ClientCertificate,
    /// The server ends the TLS handshake with another alert.
    TlsAlert,
    /// The connection cannot be made, or breaks off.
    Broken,
}

/// The problem with the certificate of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateFault {
    /// It has expired or is not valid yet, or the clock of this machine is wrong.
    Validity,
    /// Nobody who is trusted vouches for it, or it is not for this server.
    Untrusted,
}

impl TransportFailure {
    /// Returns the kind of a failure of the HTTP library.
    pub(crate) fn of(error: &ureq::Error) -> TransportFailure {
        if is_timeout(error) {
            return TransportFailure::Timeout;
        }
        match tls_error(error) {
            Some(TlsError::InvalidMessage(_)) => TransportFailure::NotTls,
            Some(TlsError::AlertReceived(alert)) if is_about_client_certificate(*alert) => {
                TransportFailure::ClientCertificate
            }
            Some(TlsError::AlertReceived(_)) => TransportFailure::TlsAlert,
            Some(_) | None => TransportFailure::Broken,
        }
    }

    /// Returns the kind of a failure to read the body of a response.
    pub(crate) fn of_body(error: &io::Error) -> TransportFailure {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
        match error.kind() == io::ErrorKind::TimedOut || inner.is_some_and(is_timeout) {
            true => TransportFailure::Timeout,
            false => TransportFailure::Broken,
        }
    }
}

fn is_timeout(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Timeout(_))
        || matches!(error, ureq::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

/// Returns the problem with the server's certificate and its description, if that is why the connection failed.
#[allow(clippy::wildcard_enum_match_arm, reason = "the library's enum is not exhaustive")]
pub(crate) fn certificate_fault(error: &ureq::Error) -> Option<(CertificateFault, String)> {
    let error = tls_error(error)?;
    let fault = match error {
        TlsError::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => CertificateFault::Validity,
        TlsError::InvalidCertificate(_)
        | TlsError::InvalidCertRevocationList(_)
        | TlsError::NoCertificatesPresented => CertificateFault::Untrusted,
        _ => return None,
    };
    Some((fault, error.to_string()))
}

/// Returns the error of the TLS library, which arrives wrapped in an I/O error of the connection.
#[allow(clippy::wildcard_enum_match_arm, reason = "the library's enum is not exhaustive")]
fn tls_error(error: &ureq::Error) -> Option<&TlsError> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

fn is_about_client_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnobtainable
            | AlertDescription::BadCertificateStatusResponse
            | AlertDescription::BadCertificateHashValue
            | AlertDescription::CertificateRequired
    )
}

#[cfg(test)]
mod tests {
    use rustls::InvalidMessage;

    use super::*;

    fn wrapped(error: TlsError) -> ureq::Error {
        ureq::Error::Io(io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn tls_errors_are_told_apart_by_their_variants() {
        let table = [
            (TlsError::InvalidMessage(InvalidMessage::InvalidContentType), TransportFailure::NotTls),
            (TlsError::AlertReceived(AlertDescription::CertificateRequired), TransportFailure::ClientCertificate),
            (TlsError::AlertReceived(AlertDescription::UnknownCA), TransportFailure::ClientCertificate),
            (TlsError::AlertReceived(AlertDescription::HandshakeFailure), TransportFailure::TlsAlert),
            (TlsError::HandshakeNotComplete, TransportFailure::Broken),
        ];
        for (error, expected) in table {
            assert_eq!(certificate_fault(&ureq::Error::Rustls(error.clone())), None, "{error}");
            assert_eq!(TransportFailure::of(&ureq::Error::Rustls(error.clone())), expected, "{error}");
            assert_eq!(TransportFailure::of(&wrapped(error.clone())), expected, "{error}");
        }
        assert_eq!(TransportFailure::of(&ureq::Error::HostNotFound), TransportFailure::Broken);
    }

    #[test]
    fn timeouts_are_found_in_errors_of_requests_and_of_bodies() {
        let timeout = || ureq::Error::Timeout(ureq::Timeout::PerRead);
        assert_eq!(TransportFailure::of(&timeout()), TransportFailure::Timeout);
        assert_eq!(TransportFailure::of(&ureq::Error::Io(io::ErrorKind::TimedOut.into())), TransportFailure::Timeout);
        assert_eq!(TransportFailure::of_body(&timeout().into_io()), TransportFailure::Timeout);
        assert_eq!(TransportFailure::of_body(&io::ErrorKind::TimedOut.into()), TransportFailure::Timeout);
        assert_eq!(TransportFailure::of_body(&io::Error::other("a timeout, in words")), TransportFailure::Broken);
    }

    #[test]
    fn certificate_outside_its_validity_is_told_from_an_untrusted_one() {
        let fault = |error| certificate_fault(&wrapped(TlsError::InvalidCertificate(error))).map(|(fault, _)| fault);
        assert_eq!(fault(CertificateError::Expired), Some(CertificateFault::Validity));
        assert_eq!(fault(CertificateError::NotValidYet), Some(CertificateFault::Validity));
        assert_eq!(fault(CertificateError::UnknownIssuer), Some(CertificateFault::Untrusted));
        assert_eq!(
            certificate_fault(&wrapped(TlsError::NoCertificatesPresented)),
            Some((CertificateFault::Untrusted, "peer sent no certificates".to_owned()))
        );
        assert_eq!(certificate_fault(&ureq::Error::Io(io::Error::other("a certificate, in words"))), None);
    }
}
