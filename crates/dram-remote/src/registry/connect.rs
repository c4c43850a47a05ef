//! Connections with a registry and with those it leads to: whether TLS is spoken, whom is trusted, how long is waited.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::{Method, Request};
use ureq::tls::{ClientCert, PemItem, TlsConfig, parse_pem};
use ureq::{Agent, Body, SendBody};

use super::RegistryError;
use super::endpoint::{Endpoint, Payload, Reply};
use crate::address::origin;

/// How TLS says that it does not go on.
const ALERT: &str = "fatal alert";
/// A server that wants to be shown who we are.
pub(super) const WANTS_US: &str = "wants a certificate of ours";
/// Connections that are kept for more requests.
const IDLE: usize = 8;
/// How long a registry that has taken all of a blob or manifest may look at it, in stalls.
const DIGESTION: u32 = 10;
/// How long an answer that is no blob may take, in stalls, even where something comes now and then.
const TELLING: u32 = 4;
/// The longest that is waited to find out whether somebody speaks TLS.
const PROBE: Duration = Duration::from_secs(2);

impl Endpoint {
    /// Sends it to one address. What is long may take any time, as long as some of it comes.
    pub(super) fn transmit(
        &self,
        what: &str,
        (method, is_long): (&Method, bool),
        url: &str,
        headers: &[(&'static str, String)],
        payload: Payload<'_>,
    ) -> Result<Reply, RegistryError> {
        let agent = self.agent(what, url)?;
        let mut request = Request::builder().method(method.clone()).uri(url);
        let proxy = self.settings.net().proxy_secret(url).map(|secret| ("proxy-authorization", secret));
        for (name, value) in headers.iter().chain(proxy.as_ref()) {
            request = request.header(*name, value);
        }
        let wrong = |error: &dyn fmt::Display| RegistryError::Wrong {
            what: what.to_owned(),
            why: format!("`{}` cannot be asked for: {error}", crate::redacted(url)),
        };
        let answer = match payload {
            Payload::None if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
                let request = request.header("content-length", "0").body(&[][..]).map_err(|error| wrong(&error))?;
                self.run(&agent, method, is_long, request)
            }
            Payload::None => self.run(&agent, method, is_long, request.body(()).map_err(|error| wrong(&error))?),
            Payload::Bytes(bytes) => {
                self.run(&agent, method, is_long, request.body(bytes).map_err(|error| wrong(&error))?)
            }
            Payload::Reader(open, length) => {
                let source = |source| RegistryError::Source { what: what.to_owned(), source };
                let mut reader = Noted { inner: open().map_err(source)?, failed: None };
                let request = request.header("content-length", length.to_string());
                let body = request.body(SendBody::from_reader(&mut reader)).map_err(|error| wrong(&error))?;
                let answer = self.run(&agent, method, is_long, body);
                if let (Err(_), Some(failed)) = (&answer, reader.failed.take()) {
                    return Err(source(failed));
                }
                answer
            }
        };
        let answer = answer.map_err(|error| self.unreachable(what, url, &error))?;
        let (parts, body) = answer.into_parts();
        Ok(Reply { status: parts.status.as_u16(), headers: parts.headers, body, url: url.to_owned() })
    }

    /// Sends it, and waits as long as is right for it.
    fn run(
        &self,
        agent: &Agent,
        method: &Method,
        is_long: bool,
        request: Request<impl ureq::AsSendBody>,
    ) -> Result<ureq::http::Response<Body>, ureq::Error> {
        let stall = self.settings.stall;
        let (wait, all) = match *method {
            Method::PUT | Method::PATCH => (stall.saturating_mul(DIGESTION), Some(stall.saturating_mul(TELLING))),
            _ => (stall, Some(stall.saturating_mul(TELLING)).filter(|_| !is_long)),
        };
        let request = agent.configure_request(request).timeout_recv_response(Some(wait)).timeout_recv_body(all);
        // What looks at a blob for long says nothing meanwhile.
        agent.run(request.timeout_per_read(Some(wait)).build())
    }

    fn unreachable(&self, what: &str, url: &str, error: &ureq::Error) -> RegistryError {
        let host = origin(url).1;
        let why = match error {
            ureq::Error::Timeout(_) => format!("`{host}` says nothing"),
            ureq::Error::HostNotFound => format!("no host `{host}` is known"),
            ureq::Error::ConnectionFailed => format!("`{host}` takes no connections"),
            ureq::Error::Io(error) => format!("`{host}`: {error}"),
            error => format!("`{host}`: {error}"),
        };
        if let Some(why) = distrust(error) {
            let trusted = self.settings.trust.shown(&self.certificates(&host, "crt"));
            return RegistryError::Trust { what: what.to_owned(), host, why, trusted };
        }
        let why = match speaks_plainly(error) {
            true => format!("`{host}` does not speak TLS"),
            false if why.contains(ALERT) && (why.contains("Certificate") || why.contains("UnknownCA")) => {
                format!("`{host}` {WANTS_US}")
            }
            false => why,
        };
        let was_silent = matches!(error, ureq::Error::Timeout(_))
            || matches!(error, ureq::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut);
        RegistryError::Unreachable { what: what.to_owned(), why, was_silent }
    }

    /// `https://HOST` or `http://HOST`.
    pub(super) fn base(&self, what: &str) -> Result<String, RegistryError> {
        if let Some(base) = &self.state().base {
            return Ok(base.clone());
        }
        let server = self.place.server();
        let (https, http) = (format!("https://{server}"), format!("http://{server}"));
        // As Docker does: on this machine, and where somebody said so, plain words do when TLS is not understood.
        let base = match self.place.is_loopback() || self.place.is_insecure {
            false => https,
            true => match self.probe(what, &https) {
                Ok(()) => https,
                // It does speak TLS: who it is does not become better without.
                Err(RegistryError::Unreachable { why, .. }) if why.contains(ALERT) || why.contains(WANTS_US) => https,
                Err(RegistryError::Unreachable { .. }) => http,
                Err(error) => return Err(error),
            },
        };
        self.state().base = Some(base.clone());
        Ok(base)
    }

    /// Whether somebody answers there at all.
    fn probe(&self, what: &str, base: &str) -> Result<(), RegistryError> {
        let url = format!("{base}/v2/");
        let agent = self.agent(what, &url)?;
        let request = Request::builder().uri(&url).body(()).map_err(|error| RegistryError::Wrong {
            what: what.to_owned(),
            why: format!("`{url}` cannot be asked for: {error}"),
        })?;
        let most = Some(PROBE.min(self.settings.stall));
        let answer = agent.run(agent.configure_request(request).timeout_global(most).build());
        answer.map(drop).map_err(|error| self.unreachable(what, &url, &error))
    }

    /// Whoever speaks with the server of `url`; connections are kept.
    fn agent(&self, what: &str, url: &str) -> Result<Agent, RegistryError> {
        let (scheme, host) = origin(url);
        let key = format!("{scheme}://{host}");
        if let Some(agent) = self.state().agents.get(&key) {
            return Ok(agent.clone());
        }
        let net = self.settings.net();
        let agent = net.agent_with(url, self.tls(&scheme, &host)?, IDLE).map_err(|error| {
            RegistryError::Unreachable { what: what.to_owned(), why: error.to_string(), was_silent: false }
        })?;
        self.state().agents.insert(key, agent.clone());
        Ok(agent)
    }

    /// Whom the server of `host` has to be vouched by, and who we are: containers-certs.d(5).
    fn tls(&self, scheme: &str, host: &str) -> Result<TlsConfig, RegistryError> {
        if scheme != "https" {
            return Ok(TlsConfig::builder().build());
        }
        let is_ours = host == self.place.server();
        let mut tls = TlsConfig::builder()
            .root_certs(self.settings.trust.roots(&self.certificates(host, "crt")))
            .disable_verification(is_ours && self.place.is_insecure);
        if let Some(cert) = self.certificates(host, "cert").first() {
            tls = tls.client_cert(Some(client(cert)?));
        }
        Ok(tls.build())
    }

    /// The files for `host` that end so, if it is the registry.
    fn certificates(&self, host: &str, end: &str) -> Vec<PathBuf> {
        let dirs = self.place.certificates.iter().filter(|_| host == self.place.server());
        let entries = dirs.flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
        let paths = entries.map(|entry| entry.path());
        let mut files: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|is| is == end)).collect();
        files.sort();
        files
    }
}

/// Passes bytes on, and remembers why it could not.
struct Noted<R> {
    inner: R,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Noted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let told = io::Error::new(error.kind(), error.to_string());
            self.failed = Some(error);
            told
        })
    }
}

/// What is wrong with a certificate, if that is what the error is about.
fn distrust(error: &ureq::Error) -> Option<String> {
    let text = match error {
        ureq::Error::Rustls(error) => error.to_string(),
        ureq::Error::Io(error) => error.get_ref()?.to_string(),
        _ => return None,
    };
    text.contains("certificate").then_some(text)
}

/// Whether what answers to TLS is none.
fn speaks_plainly(error: &ureq::Error) -> bool {
    let text = match error {
        ureq::Error::Rustls(error) => error.to_string(),
        ureq::Error::Io(error) => error.get_ref().map(ToString::to_string).unwrap_or_default(),
        _ => return false,
    };
    text.contains("corrupt message")
}

/// A certificate of ours, `NAME.cert`, with its key beside it, `NAME.key`.
fn client(cert: &Path) -> Result<ClientCert, RegistryError> {
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
