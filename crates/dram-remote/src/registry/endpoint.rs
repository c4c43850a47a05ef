//! One registry endpoint: requests with redirects, authentication and retries.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ureq::http::{HeaderMap, Method};
use ureq::{Agent, Body};

use super::address_scope::AddressScope;
use super::challenge::{AuthChallenge, select_challenge};
use super::credentials::{CredentialStore, FoundCredentials, RegistrySecret};
use super::hosts::RegistryLocation;
use super::registry_error::GIVEN_CREDENTIALS;
use super::response_text::{header, read_error_body};
use super::token::TokenRequest;
use super::{RegistryError, RegistrySettings, address_scope};
use crate::host_lookup::HostResolver;
use crate::retry::{MAX_RETRY_AFTER, RetryBudget, TransientFailure, is_transient_status, retry_after};
use crate::url::{origin, resolve_location};

/// The number of redirects that are followed.
const MOST_REDIRECTS: usize = 10;

/// The time after which the user is told which registry is waited for.
const NOTICE_DELAY: Duration = Duration::from_secs(1);

/// A response of any status, errors of the registry included.
pub(super) struct RegistryResponse {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// The URL that sent the response, after redirects.
    pub(super) url: String,
}

impl fmt::Debug for RegistryResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryResponse").field("status", &self.status).finish_non_exhaustive()
    }
}

/// The body of a request.
#[derive(Clone, Copy)]
pub(super) enum RequestPayload<'p> {
    None,
    Bytes(&'p [u8]),
    /// A function that opens the body, and its length in bytes.
    Reader(&'p (dyn Fn() -> io::Result<Box<dyn Read + 'p>> + 'p), u64),
}

/// A request to the registry.
pub(super) struct RegistryRequest<'a, 'p> {
    /// The action, for messages: `read the manifest of HOST/NAME`.
    pub(super) what: &'a str,
    pub(super) method: Method,
    /// A URL, or a path of the registry that begins with `/`.
    pub(super) path: &'a str,
    pub(super) headers: &'a [(&'static str, String)],
    pub(super) payload: RequestPayload<'p>,
    /// The scopes that a token must have, separated by spaces.
    pub(super) scope: &'a str,
}

/// The source of the credentials.
#[derive(Debug, Clone)]
pub(super) enum RegistryAuth {
    /// The credentials of the user's files.
    Stored(CredentialStore),
    /// A given secret.
    Explicit(RegistrySecret),
}

/// An `Authorization` header.
struct RegistryAuthorization {
    /// The value of the header.
    authorization: String,
    /// For a bearer token, its scope and the time at which it expires.
    token: Option<(String, Duration)>,
}

/// A registry or a mirror, with its cached connections and tokens.
#[derive(Debug)]
pub(super) struct RegistryEndpoint {
    pub(super) settings: RegistrySettings,
    pub(super) place: RegistryLocation,
    auth: RegistryAuth,
    state: Mutex<EndpointState>,
}

#[derive(Debug, Default)]
pub(super) struct EndpointState {
    /// The base URL, `https://HOST` or `http://HOST`, once it is known.
    pub(super) base: Option<String>,
    basic: Option<String>,
    /// Bearer tokens and their expiry, by scope.
    tokens: BTreeMap<String, (String, Duration)>,
    pub(super) agents: BTreeMap<String, Agent>,
    /// For each redirect host, whether it is in a less public network than the registry.
    less_public: BTreeMap<String, bool>,
    /// The credentials, once they were looked up.
    credentials: Option<Option<FoundCredentials>>,
    /// True after the first request, whatever came of it.
    has_answered: bool,
}

impl RegistryEndpoint {
    pub(super) fn new(settings: &RegistrySettings, place: RegistryLocation, auth: RegistryAuth) -> RegistryEndpoint {
        RegistryEndpoint { settings: settings.clone(), place, auth, state: Mutex::default() }
    }

    /// Returns the registry's host and port.
    pub(super) fn host(&self) -> &str {
        &self.place.host
    }

    pub(super) fn state(&self) -> MutexGuard<'_, EndpointState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports to the user that this mirror failed and the next endpoint is used.
    pub(super) fn report_mirror_failure(&self, error: &RegistryError) {
        (self.settings.report)(&format!("a mirror fails, the next is asked: {error}"));
    }

    /// Returns the current time and the stall timeout.
    pub(super) fn now_and_stall(&self) -> (Duration, Duration) {
        ((self.settings.clock)(), self.settings.stall_timeout)
    }

    pub(super) fn new_retries(&self) -> RetryBudget<'_> {
        RetryBudget::new(self.settings.retry_delay, &*self.settings.is_cancelled)
    }

    /// Returns whether the registry, at `from`, may redirect to `to`. A redirect to a less public network that the
    /// registry is not in is refused. Names are resolved here, and refused when they lead to a loopback or link-local
    /// address that the registry has none like. A proxy resolves names itself, so its addresses may differ.
    pub(super) fn redirect_allowed(&self, from: &str, to: &str) -> bool {
        from == to || address_scope::redirect_allowed(from, to) && !self.is_less_public(to)
    }

    /// Returns whether `host` resolves to a loopback or link-local address, and the registry has none of that scope.
    /// Each host is resolved once.
    fn is_less_public(&self, host: &str) -> bool {
        if let Some(known) = self.state().less_public.get(host) {
            return *known;
        }
        let deep = |host: &str| {
            let mut kinds = resolve_scopes(host, self.settings.connect_timeout);
            kinds.retain(|kind| matches!(kind, AddressScope::Loopback | AddressScope::LinkLocal));
            kinds
        };
        let there = deep(host);
        let is_deeper = !there.is_empty() && {
            let own = deep(self.place.connect_host());
            there.iter().any(|kind| !own.contains(kind))
        };
        self.state().less_public.insert(host.to_owned(), is_deeper);
        is_deeper
    }

    /// Sends `ask`, with retries. The response may be an error of the registry. If the first request takes long, the user
    /// is told which registry is waited for.
    pub(super) fn send(&self, ask: &RegistryRequest<'_, '_>) -> Result<RegistryResponse, RegistryError> {
        if self.state().has_answered {
            return self.send_with_retries(ask);
        }
        let done = self.with_notice(ask.what, || self.send_with_retries(ask));
        self.state().has_answered = true;
        done
    }

    /// Calls `action`, and tells the user that the registry is waited for if that takes longer than [`NOTICE_DELAY`].
    fn with_notice<T>(&self, what: &str, action: impl FnOnce() -> T) -> T {
        let (finished, wait) = mpsc::channel::<()>();
        thread::scope(|scope| {
            // Without a thread there is no notice, and nothing else is missing.
            let _ = thread::Builder::new().spawn_scoped(scope, move || {
                if wait.recv_timeout(NOTICE_DELAY) == Err(RecvTimeoutError::Timeout) {
                    (self.settings.report)(&format!("waiting for {} to answer: {what}", self.host()));
                }
            });
            let done = action();
            drop(finished);
            done
        })
    }

    fn send_with_retries(&self, ask: &RegistryRequest<'_, '_>) -> Result<RegistryResponse, RegistryError> {
        let mut patience = self.new_retries();
        loop {
            let done = self.send_once(ask);
            match transient_failure(&done) {
                Some(failure) if patience.wait_for_retry(failure) => {}
                Some(_) | None => return done,
            }
        }
    }

    /// Sends `ask` once, or twice when the registry first asks for authentication.
    pub(super) fn send_once(&self, ask: &RegistryRequest<'_, '_>) -> Result<RegistryResponse, RegistryError> {
        if (self.settings.is_cancelled)() {
            return Err(RegistryError::Cancelled { what: ask.what.to_owned() });
        }
        let base = self.base_url(ask.what)?;
        let url = if ask.path.starts_with('/') { format!("{base}{}", ask.path) } else { ask.path.to_owned() };
        let shown = self.cached_authorization(ask.scope);
        let reply = self.follow_redirects(ask, &url, shown.as_deref(), &base)?;
        if reply.status != 401 || origin(&reply.url) != origin(&base) {
            return Ok(reply);
        }
        match self.answer_challenge(ask, &reply.headers, shown.as_deref())? {
            None => Ok(reply),
            Some(right) => {
                let reply = self.follow_redirects(ask, &url, Some(&right.authorization), &base)?;
                if reply.status != 401 {
                    self.cache_authorization(right);
                }
                Ok(reply)
            }
        }
    }

    /// Returns a cached token that is still valid, or the cached basic authentication.
    fn cached_authorization(&self, scope: &str) -> Option<String> {
        let now = (self.settings.clock)();
        let state = self.state();
        let token = state.tokens.get(scope).filter(|(_, until)| *until > now).map(|(token, _)| token);
        token.or(state.basic.as_ref()).cloned()
    }

    fn cache_authorization(&self, right: RegistryAuthorization) {
        let mut state = self.state();
        match right.token {
            Some((scope, until)) => drop(state.tokens.insert(scope, (right.authorization, until))),
            None => state.basic = Some(right.authorization),
        }
    }

    /// Returns the authorization that answers the challenge of the registry, or `None` when there is no other than the
    /// one that was sent.
    fn answer_challenge(
        &self,
        ask: &RegistryRequest<'_, '_>,
        headers: &HeaderMap,
        shown: Option<&str>,
    ) -> Result<Option<RegistryAuthorization>, RegistryError> {
        let challenges = headers.get_all("www-authenticate").iter().filter_map(|value| value.to_str().ok());
        match select_challenge(challenges) {
            None => Ok(None),
            Some(AuthChallenge::Basic) => {
                let basic = self.credentials()?.and_then(|found| found.secret.basic_authorization());
                Ok(basic
                    .filter(|basic| Some(basic.as_str()) != shown)
                    .map(|authorization| RegistryAuthorization { authorization, token: None }))
            }
            Some(AuthChallenge::Bearer { realm, service, scope }) => {
                let scope = super::token::merge_scopes(ask.scope, scope.as_deref().unwrap_or_default());
                let wanted = TokenRequest { what: ask.what, realm: &realm, service: service.as_deref(), scope: &scope };
                let now = (self.settings.clock)();
                let (token, good_for) = wanted.fetch(self, self.credentials()?.as_ref())?;
                let until = now.saturating_add(good_for);
                Ok(Some(RegistryAuthorization {
                    authorization: format!("Bearer {token}"),
                    token: Some((ask.scope.to_owned(), until)),
                }))
            }
        }
    }

    fn credentials(&self) -> Result<Option<FoundCredentials>, RegistryError> {
        if let Some(found) = &self.state().credentials {
            return Ok(found.clone());
        }
        let found = match &self.auth {
            RegistryAuth::Explicit(secret) => {
                Some(FoundCredentials { secret: secret.clone(), source: GIVEN_CREDENTIALS.to_owned() })
            }
            RegistryAuth::Stored(credentials) => match credentials.find(&self.place.host, &self.place.repository) {
                // A public image needs none; for another one the refusal of the registry follows this note.
                Err(error @ RegistryError::Helper { .. }) => {
                    (self.settings.report)(&format!("{error}: no credentials are sent to {}", self.host()));
                    None
                }
                found => found?,
            },
        };
        self.state().credentials = Some(found.clone());
        Ok(found)
    }

    /// Sends a request and follows redirects. The authorization is sent to the registry's origin only.
    fn follow_redirects(
        &self,
        ask: &RegistryRequest<'_, '_>,
        url: &str,
        authorization: Option<&str>,
        base: &str,
    ) -> Result<RegistryResponse, RegistryError> {
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
            url = self.resolve_redirect(ask.what, &url, location)?;
        }
        let why = format!("it redirects more than {MOST_REDIRECTS} times");
        Err(RegistryError::InvalidResponse { what: ask.what.to_owned(), why })
    }

    /// Resolves the `location` of a redirect, if it is allowed.
    pub(super) fn resolve_redirect(&self, what: &str, from: &str, location: &str) -> Result<String, RegistryError> {
        let to = resolve_location(from, location);
        let ((from_scheme, from_host), (scheme, host)) = (origin(from), origin(&to));
        let wrong = |why: &str| {
            let why = format!("it redirects to `{}`, {why}", super::response_text::sanitise(&crate::redacted(&to)));
            RegistryError::InvalidResponse { what: what.to_owned(), why }
        };
        if !matches!(scheme.as_str(), "http" | "https") || host.is_empty() || host.contains('@') {
            return Err(wrong("which is no address of a server"));
        }
        if from_scheme == "https" && scheme == "http" {
            return Err(wrong("which is not encrypted"));
        }
        if !self.redirect_allowed(&from_host, &host) {
            return Err(wrong("in a private network that it is not in itself"));
        }
        Ok(to)
    }

    /// Sends a request to any server, with only these headers, and with retries.
    pub(super) fn send_external(
        &self,
        what: &str,
        method: &Method,
        url: &str,
        headers: &[(&'static str, String)],
        payload: RequestPayload<'_>,
    ) -> Result<RegistryResponse, RegistryError> {
        let mut patience = self.new_retries();
        loop {
            let done = self.transmit(what, (method, false), url, headers, payload);
            match transient_failure(&done) {
                Some(failure) if patience.wait_for_retry(failure) => {}
                Some(_) | None => return done,
            }
        }
    }

    /// Returns the error that a response stands for.
    pub(super) fn refusal(&self, what: &str, reply: RegistryResponse) -> RegistryError {
        let status = reply.status;
        let asked = retry_after(&reply.headers).filter(|asked| *asked > MAX_RETRY_AFTER);
        let (codes, mut message) = read_error_body(&reply.headers, reply.body);
        if let Some(asked) = asked {
            let so = format!(
                "it asks to be tried again after {} s; at most {} s are waited",
                asked.as_secs(),
                MAX_RETRY_AFTER.as_secs()
            );
            message = if message.is_empty() { so } else { format!("{message}; {so}") };
        }
        let what = what.to_owned();
        if status != 401 {
            return RegistryError::Status { what, status, codes, message };
        }
        let shown = self.state().credentials.clone().flatten().map(|found| found.source);
        RegistryError::Unauthorized { what, host: self.place.host.clone(), status, message, credential_source: shown }
    }
}

/// Returns the transient failure in the outcome of a request, if it is one.
fn transient_failure(done: &Result<RegistryResponse, RegistryError>) -> Option<TransientFailure> {
    match done {
        Ok(reply) => is_transient_status(reply.status)
            .then(|| TransientFailure::Response { retry_after: retry_after(&reply.headers) }),
        Err(error) => error.transport_failure().map(TransientFailure::Transport),
    }
}

/// Returns the scopes of the addresses that `host`, which may have a port, resolves to; none when it does not resolve.
fn resolve_scopes(host: &str, limit: Duration) -> Vec<AddressScope> {
    let bare = if host.ends_with(']') { host } else { host.rsplit_once(':').map_or(host, |(bare, _)| bare) };
    let found = HostResolver::default().resolve(bare, 80, limit).unwrap_or_default();
    found.iter().map(|address| address_scope::scope_of_ip(address.ip())).collect()
}
