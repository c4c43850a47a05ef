//! One registry: requests that find their way, say who asks, and are made again when it was bad luck.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::net::ToSocketAddrs as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ureq::http::{HeaderMap, Method};
use ureq::{Agent, Body};

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

/// What is shown of who asks.
struct Right {
    /// The header.
    authorization: String,
    /// If it is a token: what it allows, and until when.
    token: Option<(String, Duration)>,
}

/// A registry.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) settings: Settings,
    pub(super) place: Place,
    who: Who,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// `https://HOST`, when that is known.
    pub(super) base: Option<String>,
    basic: Option<String>,
    /// Tokens under what they allow, and until when.
    tokens: BTreeMap<String, (String, Duration)>,
    pub(super) agents: BTreeMap<String, Agent>,
    /// Whether hosts are in networks that the registry is not in.
    deeper: BTreeMap<String, bool>,
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

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
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

    /// Whether the registry, which is at `from`, may send us to `to`: not to a network that it is not in itself, neither
    /// by an address nor by a name that stands for one of this machine or of the wire. A proxy looks up names elsewhere.
    pub(super) fn may_lead(&self, from: &str, to: &str) -> bool {
        from == to || kin::may_lead(from, to) && !self.is_deeper(to)
    }

    /// Looks the names up, once for each.
    fn is_deeper(&self, host: &str) -> bool {
        if let Some(known) = self.state().deeper.get(host) {
            return *known;
        }
        let deep = |host: &str| {
            let mut kinds = kinds(host);
            kinds.retain(|kind| matches!(kind, Kin::Loopback | Kin::LinkLocal));
            kinds
        };
        let there = deep(host);
        let is_deeper = !there.is_empty() && {
            let own = deep(self.place.server());
            there.iter().any(|kind| !own.contains(kind))
        };
        self.state().deeper.insert(host.to_owned(), is_deeper);
        is_deeper
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
            Some(right) => {
                let reply = self.follow(ask, &url, Some(&right.authorization), &base)?;
                if reply.status != 401 {
                    self.keep(right);
                }
                Ok(reply)
            }
        }
    }

    /// What was good enough the last time, and still is.
    fn shown(&self, scope: &str) -> Option<String> {
        let now = (self.settings.clock)();
        let state = self.state();
        let token = state.tokens.get(scope).filter(|(_, until)| *until > now).map(|(token, _)| token);
        token.or(state.basic.as_ref()).cloned()
    }

    fn keep(&self, right: Right) {
        let mut state = self.state();
        match right.token {
            Some((scope, until)) => drop(state.tokens.insert(scope, (right.authorization, until))),
            None => state.basic = Some(right.authorization),
        }
    }

    /// What to say to a registry that wants to know who asks. `None` when there is nothing more to say.
    fn answer(
        &self,
        ask: &Ask<'_, '_>,
        headers: &HeaderMap,
        shown: Option<&str>,
    ) -> Result<Option<Right>, RegistryError> {
        let challenges = headers.get_all("www-authenticate").iter().filter_map(|value| value.to_str().ok());
        match best(challenges) {
            None => Ok(None),
            Some(Challenge::Basic) => {
                let basic = self.found()?.and_then(|found| found.secret.basic());
                Ok(basic
                    .filter(|basic| Some(basic.as_str()) != shown)
                    .map(|authorization| Right { authorization, token: None }))
            }
            Some(Challenge::Bearer { realm, service, scope }) => {
                let scope = super::token::both(ask.scope, scope.as_deref().unwrap_or_default());
                let wanted = Wanted { what: ask.what, realm: &realm, service: service.as_deref(), scope: &scope };
                let now = (self.settings.clock)();
                let (token, good_for) = wanted.fetch(self, self.found()?.as_ref())?;
                let until = now.saturating_add(good_for);
                Ok(Some(Right { authorization: format!("Bearer {token}"), token: Some((ask.scope.to_owned(), until)) }))
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
        if !self.may_lead(&from_host, &host) {
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
            let (was_silent, asked, done) = match self.transmit(what, (method, false), url, headers, payload) {
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

/// The kinds of the addresses that `host`, which may have a port, stands for; none when it is not known here.
fn kinds(host: &str) -> Vec<Kin> {
    let address = if host.ends_with(']') || !host.contains(':') { format!("{host}:80") } else { host.to_owned() };
    let found = address.to_socket_addrs().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    found.iter().map(|address| kin::of_address(address.ip())).collect()
}

/// Whether the same request may be answered otherwise later.
pub(super) fn passes(status: u16) -> bool {
    // What is not implemented, or has no room, stays so.
    matches!(status, 408 | 429 | 500 | 502..=504 | 509 | 520..=530)
}
