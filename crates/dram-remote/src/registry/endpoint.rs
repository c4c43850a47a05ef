//! One registry: requests that find their way, say who asks, and are made again when it was bad luck.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::net::ToSocketAddrs as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ureq::http::{HeaderMap, Method, Request};
use ureq::tls::{ClientCert, PemItem, TlsConfig, parse_pem};
use ureq::{Agent, Body, SendBody};

use super::challenge::{Challenge, best};
use super::credentials::{Credentials, Found, Secret};
use super::hosts::Place;
use super::kin::Kin;
use super::text::{complaint, header};
use super::token::Wanted;
use super::wait::{LONGEST, Patience, retry_after};
use super::{RegistryError, Settings, kin};
use crate::address::{joined, origin};

/// How often an answer may lead elsewhere.
const MOST_REDIRECTS: usize = 10;
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

/// An answer; errors of the registry are answers too.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// Where it came from in the end.
    pub(super) url: String,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("status", &self.status).finish_non_exhaustive()
    }
}

/// What is sent.
#[derive(Clone, Copy)]
pub(super) enum Payload<'p> {
    None,
    Bytes(&'p [u8]),
    /// So many bytes of whatever this opens.
    Reader(&'p (dyn Fn() -> io::Result<Box<dyn Read + 'p>> + 'p), u64),
}

/// A request.
pub(super) struct Ask<'a, 'p> {
    /// What is attempted, for messages: `read the manifest of HOST/NAME`.
    pub(super) what: &'a str,
    pub(super) method: Method,
    /// A whole address, or a path of the registry that begins with `/`.
    pub(super) path: &'a str,
    pub(super) headers: &'a [(&'static str, String)],
    pub(super) payload: Payload<'p>,
    /// What a token has to allow, with spaces between.
    pub(super) scope: &'a str,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) enum Who {
    /// Whoever the files know.
    Known(Credentials),
    /// Somebody in particular.
    Given(Secret),
}

/// A registry.
#[derive(Debug)]
pub(super) struct Endpoint {
    settings: Settings,
    pub(super) place: Place,
    who: Who,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// `https://HOST`, when that is known.
    base: Option<String>,
    basic: Option<String>,
    /// Tokens under what they allow.
    tokens: BTreeMap<String, String>,
    agents: BTreeMap<String, Agent>,
    /// What the files say, once they were looked at.
    found: Option<Option<Found>>,
}

impl Endpoint {
    pub(super) fn new(settings: &Settings, place: Place, who: Who) -> Endpoint {
        Endpoint { settings: settings.clone(), place, who, state: Mutex::default() }
    }

    /// The registry's name.
    pub(super) fn host(&self) -> &str {
        &self.place.host
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a person that this mirror is not asked any more, and why.
    pub(super) fn give_up(&self, error: &RegistryError) {
        (self.settings.tell)(&format!("a mirror fails, the next is asked: {error}"));
    }

    /// The time, and how long nothing may come.
    pub(super) fn time(&self) -> (Duration, Duration) {
        ((self.settings.clock)(), self.settings.stall)
    }

    pub(super) fn patience(&self) -> Patience<'_> {
        Patience::new(self.settings.pause, &*self.settings.stop)
    }

    /// Whether the name `host` stands for an address in a network that the registry is not in: one of this machine, or of
    /// the wire itself. A proxy looks up names elsewhere.
    pub(super) fn is_deeper(&self, host: &str) -> bool {
        let address = if host.ends_with(']') || !host.contains(':') { format!("{host}:80") } else { host.to_owned() };
        let found = address.to_socket_addrs().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
        let own = kin::of(&self.place.host);
        found.iter().map(|address| kin::of_address(address.ip())).any(|kin| match kin {
            Kin::Loopback | Kin::LinkLocal => kin != own,
            Kin::Public | Kin::Private | Kin::Disguised => false,
        })
    }

    /// Sends `ask`, again and again where that may help. The answer may be an error of the registry.
    pub(super) fn send(&self, ask: &Ask<'_, '_>) -> Result<Reply, RegistryError> {
        let mut patience = self.patience();
        loop {
            let (was_silent, asked, done) = match self.once(ask) {
                Ok(reply) if passes(reply.status) => (false, retry_after(&reply.headers), Ok(reply)),
                Err(RegistryError::Unreachable { what, why, was_silent }) => {
                    (was_silent, None, Err(RegistryError::Unreachable { what, why, was_silent }))
                }
                done => return done,
            };
            if !patience.again(was_silent, asked) {
                return done;
            }
        }
    }

    /// Sends `ask` once, or twice where the registry first wants to know who asks.
    pub(super) fn once(&self, ask: &Ask<'_, '_>) -> Result<Reply, RegistryError> {
        if (self.settings.stop)() {
            return Err(RegistryError::Stopped { what: ask.what.to_owned() });
        }
        let base = self.base(ask.what)?;
        let url = if ask.path.starts_with('/') { format!("{base}{}", ask.path) } else { ask.path.to_owned() };
        let shown = self.shown(ask.scope);
        let reply = self.follow(ask, &url, shown.as_deref(), &base)?;
        if reply.status != 401 || origin(&reply.url) != origin(&base) {
            return Ok(reply);
        }
        match self.answer(ask, &reply.headers, shown.as_deref())? {
            None => Ok(reply),
            Some((authorization, scope)) => {
                let reply = self.follow(ask, &url, Some(&authorization), &base)?;
                if reply.status != 401 {
                    self.keep(authorization, scope);
                }
                Ok(reply)
            }
        }
    }

    /// What was good enough the last time.
    fn shown(&self, scope: &str) -> Option<String> {
        let state = self.state();
        state.tokens.get(scope).or(state.basic.as_ref()).cloned()
    }

    fn keep(&self, authorization: String, scope: Option<String>) {
        let mut state = self.state();
        match scope {
            Some(scope) => drop(state.tokens.insert(scope, authorization)),
            None => state.basic = Some(authorization),
        }
    }

    /// What to say to a registry that wants to know who asks: the header, and for what it is good. `None` when there is
    /// nothing more to say.
    fn answer(
        &self,
        ask: &Ask<'_, '_>,
        headers: &HeaderMap,
        shown: Option<&str>,
    ) -> Result<Option<(String, Option<String>)>, RegistryError> {
        let challenges = headers.get_all("www-authenticate").iter().filter_map(|value| value.to_str().ok());
        match best(challenges) {
            None => Ok(None),
            Some(Challenge::Basic) => {
                let basic = self.found()?.and_then(|found| found.secret.basic());
                Ok(basic.filter(|basic| Some(basic.as_str()) != shown).map(|basic| (basic, None)))
            }
            Some(Challenge::Bearer { realm, service, scope }) => {
                let scope = super::token::both(ask.scope, scope.as_deref().unwrap_or_default());
                let wanted = Wanted { what: ask.what, realm: &realm, service: service.as_deref(), scope: &scope };
                let token = wanted.fetch(self, self.found()?.as_ref())?;
                Ok(Some((format!("Bearer {token}"), Some(ask.scope.to_owned()))))
            }
        }
    }

    fn found(&self) -> Result<Option<Found>, RegistryError> {
        if let Some(found) = &self.state().found {
            return Ok(found.clone());
        }
        let found = match &self.who {
            Who::Given(secret) => Some(Found { secret: secret.clone(), place: "the command line".to_owned() }),
            Who::Known(credentials) => credentials.find(&self.place.host, &self.place.repository)?,
        };
        self.state().found = Some(found.clone());
        Ok(found)
    }

    /// Sends it, and goes where the answer leads. Who asks is said to the registry and to nobody else.
    fn follow(
        &self,
        ask: &Ask<'_, '_>,
        url: &str,
        authorization: Option<&str>,
        base: &str,
    ) -> Result<Reply, RegistryError> {
        let mut url = url.to_owned();
        let is_long = ask.method == Method::GET && ask.path.contains("/blobs/sha256:");
        for _ in 0..=MOST_REDIRECTS {
            let is_ours = origin(&url) == origin(base);
            let mut headers = ask.headers.to_vec();
            headers.extend(authorization.filter(|_| is_ours).map(|text| ("authorization", text.to_owned())));
            let reply = self.transmit(ask.what, (&ask.method, is_long), &url, &headers, ask.payload)?;
            let location = header(&reply.headers, "location");
            let leads = matches!(reply.status, 301 | 302 | 303 | 307 | 308);
            let Some(location) = location.filter(|_| leads && matches!(ask.method, Method::GET | Method::HEAD)) else {
                return Ok(reply);
            };
            url = self.next(ask.what, &url, location)?;
        }
        let why = format!("it leads to other addresses more than {MOST_REDIRECTS} times");
        Err(RegistryError::Wrong { what: ask.what.to_owned(), why })
    }

    /// Where `location` leads, if one may go there.
    pub(super) fn next(&self, what: &str, from: &str, location: &str) -> Result<String, RegistryError> {
        let to = joined(from, location);
        let ((from_scheme, from_host), (scheme, host)) = (origin(from), origin(&to));
        let wrong = |why: &str| {
            let why = format!("it leads to `{}`, {why}", super::text::clean(&crate::redacted(&to)));
            RegistryError::Wrong { what: what.to_owned(), why }
        };
        if !matches!(scheme.as_str(), "http" | "https") || host.is_empty() || host.contains('@') {
            return Err(wrong("which is no address of a server"));
        }
        if from_scheme == "https" && scheme == "http" {
            return Err(wrong("which is not protected"));
        }
        if from_host != host && !kin::may_lead(&from_host, &host) {
            return Err(wrong("in a network that it is not in itself"));
        }
        Ok(to)
    }

    /// A request to anybody, with these headers and no other, again where that may help.
    pub(super) fn plain(
        &self,
        what: &str,
        method: &Method,
        url: &str,
        headers: &[(&'static str, String)],
        payload: Payload<'_>,
    ) -> Result<Reply, RegistryError> {
        let mut patience = self.patience();
        loop {
            let (was_silent, done) = match self.transmit(what, (method, false), url, headers, payload) {
                Ok(reply) if passes(reply.status) => (false, Ok(reply)),
                Err(RegistryError::Unreachable { what, why, was_silent }) => {
                    (was_silent, Err(RegistryError::Unreachable { what, why, was_silent }))
                }
                done => return done,
            };
            if !patience.again(was_silent, None) {
                return done;
            }
        }
    }

    /// Sends it to one address. What is long may take any time, as long as some of it comes.
    fn transmit(
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

    /// The error that an answer stands for.
    pub(super) fn refusal(&self, what: &str, reply: Reply) -> RegistryError {
        let status = reply.status;
        let asked = retry_after(&reply.headers).filter(|asked| *asked > LONGEST);
        let (codes, mut message) = complaint(&reply.headers, reply.body);
        if let Some(asked) = asked {
            let so = format!(
                "it wants to be left alone for {} s; {} s are waited at most",
                asked.as_secs(),
                LONGEST.as_secs()
            );
            message = if message.is_empty() { so } else { format!("{message}; {so}") };
        }
        let what = what.to_owned();
        if status != 401 {
            return RegistryError::Status { what, status, codes, message };
        }
        let shown = self.state().found.clone().flatten().map(|found| found.place);
        RegistryError::Unauthorized { what, host: self.place.host.clone(), status, message, shown }
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

/// Whether the same request may be answered otherwise later.
pub(super) fn passes(status: u16) -> bool {
    // What is not implemented, or has no room, stays so.
    matches!(status, 408 | 429 | 500 | 502..=504 | 509 | 520..=530)
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
fn client(cert: &std::path::Path) -> Result<ClientCert, RegistryError> {
    let wrong =
        |path: &std::path::Path, why: &str| RegistryError::Settings { path: path.to_owned(), why: why.to_owned() };
    let key = cert.with_extension("key");
    let read = |path: &std::path::Path| fs::read(path).map_err(|error| wrong(path, &error.to_string()));
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
