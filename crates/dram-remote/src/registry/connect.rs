//! Connections with a registry and with the servers it redirects to: TLS, certificates, timeouts.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::{Method, Request};
use ureq::tls::{ClientCert, PemItem, TlsConfig, parse_pem};
use ureq::{Agent, Body, SendBody};

use super::RegistryError;
use super::endpoint::{RegistryEndpoint, RegistryResponse, RequestPayload};
use crate::transport_failure::{TransportFailure, certificate_fault};
use crate::url::origin;

/// The number of idle connections that are kept.
const MAX_IDLE_CONNECTIONS: usize = 8;
/// The response timeout of an upload, in units of the stall timeout: the registry may verify what it received.
const UPLOAD_TIMEOUT_STALLS: u32 = 10;
/// The timeout of a response body other than a blob, in units of the stall timeout, even when bytes arrive slowly.
const BODY_TIMEOUT_STALLS: u32 = 4;
/// The timeout of the probe that finds out whether a server speaks TLS.
const TLS_PROBE_TIMEOUT: Duration = Duration::from_secs(2);

impl RegistryEndpoint {
    /// Sends one request to one URL, without redirects. The body of a long response has no total timeout, as long as
    /// bytes arrive.
    pub(super) fn transmit(
        &self,
        what: &str,
        (method, is_long): (&Method, bool),
        url: &str,
        headers: &[(&'static str, String)],
        payload: RequestPayload<'_>,
    ) -> Result<RegistryResponse, RegistryError> {
        let agent = self.agent_for(what, url)?;
        let mut request = Request::builder().method(method.clone()).uri(url);
        let proxy = self.settings.network().proxy_authorization(url).map(|secret| ("proxy-authorization", secret));
        for (name, value) in headers.iter().chain(proxy.as_ref()) {
            request = request.header(*name, value);
        }
        let wrong = |error: &dyn fmt::Display| RegistryError::InvalidResponse {
            what: what.to_owned(),
            why: format!("`{}` cannot be asked for: {error}", crate::redacted(url)),
        };
        let answer = match payload {
            RequestPayload::None if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
                let request = request.header("content-length", "0").body(&[][..]).map_err(|error| wrong(&error))?;
                self.run_with_timeouts(&agent, method, is_long, request)
            }
            RequestPayload::None => {
                self.run_with_timeouts(&agent, method, is_long, request.body(()).map_err(|error| wrong(&error))?)
            }
            RequestPayload::Bytes(bytes) => {
                self.run_with_timeouts(&agent, method, is_long, request.body(bytes).map_err(|error| wrong(&error))?)
            }
            RequestPayload::Reader(open, length) => {
                let source = |source| RegistryError::UploadSource { what: what.to_owned(), source };
                let mut reader = ErrorKeepingReader { inner: open().map_err(source)?, failed: None };
                let request = request.header("content-length", length.to_string());
                let body = request.body(SendBody::from_reader(&mut reader)).map_err(|error| wrong(&error))?;
                let answer = self.run_with_timeouts(&agent, method, is_long, body);
                if let (Err(_), Some(failed)) = (&answer, reader.failed.take()) {
                    return Err(source(failed));
                }
                answer
            }
        };
        let answer = answer.map_err(|error| self.transport_error(what, url, &error))?;
        let (parts, body) = answer.into_parts();
        Ok(RegistryResponse { status: parts.status.as_u16(), headers: parts.headers, body, url: url.to_owned() })
    }

    /// Runs the request with the timeouts of its method.
    fn run_with_timeouts(
        &self,
        agent: &Agent,
        method: &Method,
        is_long: bool,
        request: Request<impl ureq::AsSendBody>,
    ) -> Result<ureq::http::Response<Body>, ureq::Error> {
        let stall = self.settings.stall_timeout;
        let (wait, all) = match *method {
            Method::PUT | Method::PATCH => {
                (stall.saturating_mul(UPLOAD_TIMEOUT_STALLS), Some(stall.saturating_mul(BODY_TIMEOUT_STALLS)))
            }
            _ => (stall, Some(stall.saturating_mul(BODY_TIMEOUT_STALLS)).filter(|_| !is_long)),
        };
        let request = agent.configure_request(request).timeout_recv_response(Some(wait)).timeout_recv_body(all);
        // A registry that verifies an upload sends nothing meanwhile.
        agent.run(request.timeout_per_read(Some(wait)).build())
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the library's enum is not exhaustive")]
    fn transport_error(&self, what: &str, url: &str, error: &ureq::Error) -> RegistryError {
        let host = origin(url).1;
        let why = match error {
            ureq::Error::Timeout(_) => format!("`{host}` does not respond"),
            ureq::Error::HostNotFound => format!("no host `{host}` is known"),
            ureq::Error::ConnectionFailed => format!("`{host}` refuses connections"),
            ureq::Error::Io(error) => format!("`{host}`: {error}"),
            error => format!("`{host}`: {error}"),
        };
        if let Some((fault, why)) = certificate_fault(error) {
            let trusted = self.settings.trust.describe_sources(&self.certificate_files(&host, "crt"));
            return RegistryError::Trust { what: what.to_owned(), host, why, fault, trusted };
        }
        let failure = TransportFailure::of(error);
        let why = match failure {
            TransportFailure::NotTls => format!("`{host}` does not speak TLS"),
            TransportFailure::ClientCertificate => format!("`{host}` wants a certificate of ours"),
            TransportFailure::Timeout | TransportFailure::TlsAlert | TransportFailure::Broken => why,
        };
        RegistryError::Unreachable { what: what.to_owned(), why, failure }
    }

    /// Returns the base URL: `https://HOST` or `http://HOST`.
    pub(super) fn base_url(&self, what: &str) -> Result<String, RegistryError> {
        if let Some(base) = &self.state().base {
            return Ok(base.clone());
        }
        let server = self.place.connect_host();
        let (https, http) = (format!("https://{server}"), format!("http://{server}"));
        // As in Docker, plain HTTP is the fallback without TLS, on loopback hosts and for insecure registries.
        let base = match self.place.is_loopback() || self.place.is_insecure {
            false => https,
            true => match self.probe(what, &https) {
                Ok(()) => https,
                Err(error) => match error.transport_failure() {
                    // The server does speak TLS; plain HTTP would not make it trustworthy.
                    Some(TransportFailure::TlsAlert | TransportFailure::ClientCertificate) => https,
                    Some(TransportFailure::Timeout | TransportFailure::NotTls | TransportFailure::Broken) => http,
                    None => return Err(error),
                },
            },
        };
        self.state().base = Some(base.clone());
        Ok(base)
    }

    /// Sends one short request to find out whether the server answers at all.
    fn probe(&self, what: &str, base: &str) -> Result<(), RegistryError> {
        let url = format!("{base}/v2/");
        let agent = self.agent_for(what, &url)?;
        let request = Request::builder().uri(&url).body(()).map_err(|error| RegistryError::InvalidResponse {
            what: what.to_owned(),
            why: format!("`{url}` cannot be asked for: {error}"),
        })?;
        let timeout = Some(TLS_PROBE_TIMEOUT.min(self.settings.stall_timeout));
        let answer = agent.run(agent.configure_request(request).timeout_global(timeout).build());
        answer.map(drop).map_err(|error| self.transport_error(what, &url, &error))
    }

    /// Returns the agent for the server of `url`; agents keep their connections.
    fn agent_for(&self, what: &str, url: &str) -> Result<Agent, RegistryError> {
        let (scheme, host) = origin(url);
        let key = format!("{scheme}://{host}");
        if let Some(agent) = self.state().agents.get(&key) {
            return Ok(agent.clone());
        }
        let net = self.settings.network();
        let agent =
            net.new_agent_with(url, self.tls_config(&scheme, &host)?, MAX_IDLE_CONNECTIONS).map_err(|error| {
                RegistryError::Unreachable {
                    what: what.to_owned(),
                    why: error.to_string(),
                    failure: TransportFailure::Broken,
                }
            })?;
        self.state().agents.insert(key, agent.clone());
        Ok(agent)
    }

    /// Returns the trusted certificates and the client certificate for `host`: containers-certs.d(5).
    fn tls_config(&self, scheme: &str, host: &str) -> Result<TlsConfig, RegistryError> {
        if scheme != "https" {
            return Ok(TlsConfig::builder().build());
        }
        let is_ours = host == self.place.connect_host();
        let mut tls = TlsConfig::builder()
            .root_certs(self.settings.trust.root_certs(&self.certificate_files(host, "crt")))
            .disable_verification(is_ours && self.place.is_insecure);
        if let Some(cert) = self.certificate_files(host, "cert").first() {
            tls = tls.client_cert(Some(read_client_certificate(cert)?));
        }
        Ok(tls.build())
    }

    /// Returns the files of certs.d with this extension, if `host` is the registry itself.
    fn certificate_files(&self, host: &str, end: &str) -> Vec<PathBuf> {
        let dirs = self.place.certificates.iter().filter(|_| host == self.place.connect_host());
        let entries = dirs.flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
        let paths = entries.map(|entry| entry.path());
        let mut files: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|is| is == end)).collect();
        files.sort();
        files
    }
}

/// A reader that keeps the error of a failed read, which the HTTP library hides.
struct ErrorKeepingReader<R> {
    inner: R,
    failed: Option<io::Error>,
}

impl<R: Read> Read for ErrorKeepingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let told = io::Error::new(error.kind(), error.to_string());
            self.failed = Some(error);
            told
        })
    }
}

/// Reads a client certificate, `NAME.cert`, with its key, `NAME.key`.
#[allow(clippy::wildcard_enum_match_arm, reason = "the library's enum is not exhaustive")]
fn read_client_certificate(cert: &Path) -> Result<ClientCert, RegistryError> {
    let wrong = |path: &Path, why: &str| RegistryError::Settings { path: path.to_owned(), why: why.to_owned() };
    let key = cert.with_extension("key");
    let read = |path: &Path| fs::read(path).map_err(|error| wrong(path, &error.to_string()));
    let (cert_bytes, key_bytes) = (read(cert)?, read(&key)?);
    let mut chain = Vec::new();
    for item in parse_pem(&cert_bytes).flatten() {
        if let PemItem::Certificate(one) = item {
            chain.push(one);
        }
    }
    if chain.is_empty() {
        return Err(wrong(cert, "it has no certificate in PEM"));
    }
    let found = parse_pem(&key_bytes).flatten().find_map(|item| match item {
        PemItem::PrivateKey(key) => Some(key),
        _ => None,
    });
    found.map(|key| ClientCert::new_with_certs(&chain, key)).ok_or_else(|| wrong(&key, "it has no private key in PEM"))
}
