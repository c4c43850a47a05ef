//! A fake registry that injects faults and records requests.

use std::collections::BTreeMap;
use std::fmt;
use std::io::BufReader;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use super::debian::{USER, WORD};
use super::http::{Delivery, Request, Response};
use super::memory_registry::{RegistryModel, Route, digest, error};

/// `tester:hidden` as an `Authorization` header.
const BASIC: &str = "Basic dGVzdGVyOmhpZGRlbg==";
/// Identity token of [`USER`].
pub(crate) const IDENTITY_TOKEN: &str = "identity-hidden";

/// The kind of request that a fault applies to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum FaultPoint {
    Any,
    Version,
    Token,
    Blob,
    BlobHead,
    /// `GET` and `HEAD` of a manifest, by tag or by digest.
    Manifest,
    ManifestPut,
    StartUpload,
    /// A request with bytes of a blob.
    UploadBytes,
    /// The request that finishes an upload.
    FinishUpload,
    Tags,
    Referrers,
}

/// The kind of a fault.
#[derive(Debug, Clone)]
pub(crate) enum Misbehaviour {
    /// The response is delivered badly.
    Delivered(Delivery),
    /// This status, with an error message.
    Status(u16, &'static str),
    /// Status 429 with this `Retry-After`.
    RetryAfter(String),
    /// Status 200 with this media type and these bytes, for any request.
    Body(&'static str, Vec<u8>),
    /// Status 204 for any request.
    NoContent,
    /// One bit of the body is flipped.
    Flipped,
    /// A space is appended to the body, while the digest header stays.
    Longer,
    /// The body is compressed again, with `Content-Encoding: gzip`.
    Gzipped,
    /// Range requests get the whole blob.
    IgnoresRange,
    /// A redirect: `{other}` is the other host, `{digest}` the last part of the path.
    Redirect(&'static str),
    /// A header of the response is replaced or removed; `{other}` is the other host.
    Header(&'static str, Option<&'static str>),
    /// Each request by tag gets another manifest.
    ChangesEachTime,
    /// Uploads continue at the other host.
    UploadsElsewhere,
    /// Uploads continue at a URL with a query, which the client has to keep.
    UploadsWithQuery,
    /// Status 404: the upload is unknown.
    NoUpload,
    /// Half of the bytes are accepted, with status 416.
    HalfTaken,
    /// Status 201, but nothing is stored.
    FalseSuccess,
    /// Mount requests are ignored.
    NoMount,
    /// Claims to have the blobs of this list.
    ClaimsBlobs(BTreeMap<String, u64>),
}

/// A fault for requests with `part` in the path, a limited number of times.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    on: FaultPoint,
    part: String,
    times: usize,
    what: Misbehaviour,
}

impl Fault {
    /// Returns a fault for every request.
    pub(crate) fn always(on: FaultPoint, what: Misbehaviour) -> Fault {
        Fault { on, part: String::new(), times: usize::MAX, what }
    }

    /// Returns a fault for the first `times` requests.
    pub(crate) fn first(times: usize, on: FaultPoint, what: Misbehaviour) -> Fault {
        Fault { times, ..Fault::always(on, what) }
    }

    /// Limits the fault to paths that contain `part`.
    pub(crate) fn at(self, part: impl Into<String>) -> Fault {
        Fault { part: part.into(), ..self }
    }
}

/// Authentication that the registry requires.
#[derive(Debug, Clone)]
pub(crate) enum FakeAuth {
    Everybody,
    /// Basic authentication of [`USER`] with [`WORD`].
    Basic,
    /// Bearer tokens.
    Token {
        /// The realm: `{here}` and `{other}` are the hosts.
        realm: &'static str,
        /// Only [`USER`] gets a token.
        login: bool,
        /// The number of requests for which a token is valid.
        uses: usize,
    },
    /// Every token is refused.
    Nobody,
}

/// A recorded request.
#[derive(Debug, Clone)]
pub(crate) struct RecordedRequest {
    /// True if the request came to the other host.
    pub(crate) other: bool,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
    pub(crate) encoding: Option<String>,
    pub(crate) status: u16,
    pub(crate) at: Instant,
}

impl fmt::Display for RecordedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.other { "other" } else { "here" };
        let RecordedRequest { method, path, status, .. } = self;
        write!(f, "{host} {method} {path} {status}")?;
        self.range.iter().try_for_each(|range| write!(f, " {range}"))
    }
}

/// A fake registry on two ports of the loopback interface: its own, and that of the other host. Its threads end with
/// the test process.
#[derive(Debug)]
pub(crate) struct FakeRegistry {
    hosts: Arc<FakeHosts>,
}

#[derive(Debug)]
struct FakeHosts {
    here: String,
    other: String,
    state: Mutex<FakeState>,
}

#[derive(Debug)]
struct FakeState {
    registry: RegistryModel,
    auth: FakeAuth,
    faults: Vec<Fault>,
    /// Scope and remaining uses of each token.
    tokens: BTreeMap<String, (String, usize)>,
    seen: Vec<RecordedRequest>,
    moved: usize,
}

impl FakeRegistry {
    /// Starts an empty registry without authentication.
    pub(crate) fn new(faults: impl IntoIterator<Item = Fault>) -> FakeRegistry {
        FakeRegistry::with(FakeAuth::Everybody, faults)
    }

    pub(crate) fn with(auth: FakeAuth, faults: impl IntoIterator<Item = Fault>) -> FakeRegistry {
        let here = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let state = FakeState {
            registry: RegistryModel::default(),
            auth,
            faults: faults.into_iter().collect(),
            tokens: BTreeMap::new(),
            seen: Vec::new(),
            moved: 0,
        };
        let hosts = FakeHosts { here: address(&here), other: address(&other), state: Mutex::new(state) };
        let hosts = Arc::new(hosts);
        for (listener, is_other) in [(here, false), (other, true)] {
            let hosts = hosts.clone();
            thread::spawn(move || listen(&listener, &hosts, is_other));
        }
        FakeRegistry { hosts }
    }

    /// Returns `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> &str {
        &self.hosts.here
    }

    pub(crate) fn other_host(&self) -> &str {
        &self.hosts.other
    }

    /// Returns the name of an image in this registry.
    pub(crate) fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.host())
    }

    /// Replaces all faults.
    pub(crate) fn set_faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.hosts.state().faults = faults.into_iter().collect();
    }

    /// Adds a blob to a repository.
    pub(crate) fn add_blob(&self, name: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let mut state = self.hosts.state();
        state.registry.blobs.insert(digest.clone(), bytes.to_owned());
        state.registry.owned.insert((name.to_owned(), digest.clone()));
        digest
    }

    /// Adds a manifest with a tag, whatever its content.
    pub(crate) fn add_manifest(&self, name: &str, tag: &str, kind: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let mut state = self.hosts.state();
        let key = (name.to_owned(), digest.clone());
        state.registry.manifests.insert(key, (kind.to_owned(), bytes.to_owned()));
        state.registry.tags.insert((name.to_owned(), tag.to_owned()), digest.clone());
        digest
    }

    /// Returns the digest of a tag.
    pub(crate) fn tag(&self, name: &str, tag: &str) -> Option<String> {
        self.hosts.state().registry.tags.get(&(name.to_owned(), tag.to_owned())).cloned()
    }

    pub(crate) fn manifest(&self, name: &str, digest: &str) -> Option<Vec<u8>> {
        let key = (name.to_owned(), digest.to_owned());
        self.hosts.state().registry.manifests.get(&key).map(|(_, bytes)| bytes.clone())
    }

    pub(crate) fn has_blob(&self, name: &str, digest: &str) -> bool {
        self.hosts.state().registry.owned.contains(&(name.to_owned(), digest.to_owned()))
    }

    /// Returns the requests since the last call.
    pub(crate) fn take_requests(&self) -> Vec<RecordedRequest> {
        std::mem::take(&mut self.hosts.state().seen)
    }
}

fn listen(listener: &TcpListener, hosts: &Arc<FakeHosts>, other: bool) {
    for stream in listener.incoming().flatten() {
        let hosts = hosts.clone();
        thread::spawn(move || hosts.serve_connection(&stream, other));
    }
}

impl FakeHosts {
    fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap()
    }

    /// Serves one connection. Write errors end it, because the client may have closed it.
    fn serve_connection(&self, stream: &TcpStream, other: bool) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut out = stream.try_clone().ok()?;
        while let Some(request) = Request::read(&mut reader).ok()? {
            let response = self.answer(&request, other);
            if !response.send(&mut out, request.method == "HEAD").ok()? {
                // Reads the rest of the request, so that the response is not lost by a reset.
                let _ = std::io::copy(&mut reader, &mut std::io::sink());
                break;
            }
        }
        Some(())
    }

    fn answer(&self, request: &Request, other: bool) -> Response {
        let mut state = self.state();
        let route = Route::parse(&request.path);
        let fault = state.fault(&route, request);
        let response = self.response(&mut state, &route, request, fault.as_ref(), other);
        let header = |name: &str| request.header(name).map(str::to_owned);
        state.seen.push(RecordedRequest {
            other,
            method: request.method.clone(),
            path: request.path.clone(),
            authorization: header("authorization"),
            range: header("range"),
            encoding: header("accept-encoding"),
            status: response.status,
            at: Instant::now(),
        });
        response
    }

    fn response(
        &self,
        state: &mut FakeState,
        route: &Route,
        request: &Request,
        fault: Option<&Misbehaviour>,
        other: bool,
    ) -> Response {
        if let Some(response) = fault.and_then(|what| self.replacement(state, route, request, what)) {
            return response;
        }
        if let Some(hops) = request.path.strip_prefix("/hop/") {
            let (left, digest) = hops.split_once('/').unwrap();
            return match left.parse::<usize>().unwrap() {
                0 => self.serve_file(state, digest),
                left => Response::new(307).with("Location", format!("/hop/{}/{digest}", left - 1)),
            };
        }
        // The other host serves files without authentication, and also tokens and uploads.
        if other && matches!(route, Route::Unknown) {
            return self.serve_file(state, request.path.rsplit('/').next().unwrap());
        }
        if *route == Route::Token {
            return state.token(request);
        }
        if !other && let Some(refusal) = self.auth_challenge(state, route, request) {
            return refusal;
        }
        let mut asked = request.clone();
        if matches!(fault, Some(Misbehaviour::IgnoresRange)) {
            asked.headers.remove("range");
        }
        if matches!(fault, Some(Misbehaviour::NoMount)) {
            asked.query.clear();
        }
        let query_kept = request.query.get("state").is_some_and(|state| state == "a b/c");
        if let Route::Upload { id, .. } = route
            && id.ends_with("-q")
            && !query_kept
        {
            return error(400, "BLOB_UPLOAD_INVALID", "the query of the address is lost");
        }
        let response = state.registry.answer(route, &asked);
        match fault {
            Some(what) => self.corrupted(state, route, request, what, response),
            None => response,
        }
    }

    /// Serves a blob as a plain file server.
    fn serve_file(&self, state: &FakeState, digest: &str) -> Response {
        match state.registry.blobs.get(digest) {
            Some(bytes) => Response::new(200).body("application/octet-stream", bytes.clone()),
            None => Response::new(404),
        }
    }

    /// Returns a 401 response if the request is not authorized.
    fn auth_challenge(&self, state: &mut FakeState, route: &Route, request: &Request) -> Option<Response> {
        let has = request.header("authorization").unwrap_or_default();
        let denied = error(401, "UNAUTHORIZED", "authentication required");
        let actions = if matches!(request.method.as_str(), "GET" | "HEAD") { "pull" } else { "pull,push" };
        let scope = route.name().map(|name| format!("repository:{name}:{actions}")).unwrap_or_default();
        let realm = match &state.auth {
            FakeAuth::Everybody => return None,
            FakeAuth::Basic if has == BASIC => return None,
            FakeAuth::Basic => return Some(denied.with("WWW-Authenticate", "Basic realm=\"tests\"")),
            FakeAuth::Token { realm, .. } => realm.replace("{here}", &self.here).replace("{other}", &self.other),
            FakeAuth::Nobody => format!("http://{}/token", self.here),
        };
        let nobody = matches!(state.auth, FakeAuth::Nobody);
        let token = has.strip_prefix("Bearer ").and_then(|token| state.tokens.get_mut(token)).filter(|_| !nobody);
        if let Some((good_for, left)) = token {
            let scopes =
                good_for.split(' ').any(|known| known == scope || scope.is_empty() || covers_scope(known, &scope));
            if scopes && *left > 0 {
                *left -= 1;
                return None;
            }
        }
        let scope = if scope.is_empty() { scope } else { format!(",scope=\"{scope}\"") };
        Some(denied.with("WWW-Authenticate", format!("Bearer realm=\"{realm}\",service=\"tests\"{scope}")))
    }

    /// Returns the response of faults that ignore the request.
    fn replacement(
        &self,
        state: &mut FakeState,
        route: &Route,
        request: &Request,
        what: &Misbehaviour,
    ) -> Option<Response> {
        let last = request.path.rsplit('/').next().unwrap();
        Some(match what {
            Misbehaviour::Delivered(delivery @ (Delivery::Close | Delivery::Garbage)) => {
                Response::new(200).delivery(delivery.clone())
            }
            Misbehaviour::Status(status, message) => error(*status, "DENIED", message),
            Misbehaviour::RetryAfter(time) => error(429, "TOOMANYREQUESTS", "slow down").with("Retry-After", time),
            Misbehaviour::Body(kind, bytes) => Response::new(200).body(kind, bytes.clone()),
            Misbehaviour::NoContent => Response::new(204),
            Misbehaviour::Redirect(place) => {
                let place = place.replace("{other}", &self.other).replace("{digest}", last);
                Response::new(307).with("Location", place)
            }
            Misbehaviour::NoUpload => error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry"),
            Misbehaviour::HalfTaken => {
                let Route::Upload { name, id } = route else { return None };
                let bytes = state.registry.uploads.get_mut(id)?;
                bytes.extend_from_slice(&request.body[..request.body.len() / 2]);
                state.registry.upload_status(416, name, id)
            }
            Misbehaviour::FalseSuccess => {
                Response::new(201).with("Location", "/v2/").with("Docker-Content-Digest", request.query.get("digest")?)
            }
            Misbehaviour::ClaimsBlobs(sizes) => Response::new(200)
                .with("Docker-Content-Digest", last)
                .body("application/octet-stream", vec![0; *sizes.get(last)? as usize]),
            Misbehaviour::Delivered(_)
            | Misbehaviour::Flipped
            | Misbehaviour::Longer
            | Misbehaviour::Gzipped
            | Misbehaviour::IgnoresRange
            | Misbehaviour::Header(..)
            | Misbehaviour::ChangesEachTime
            | Misbehaviour::UploadsElsewhere
            | Misbehaviour::UploadsWithQuery
            | Misbehaviour::NoMount => return None,
        })
    }

    /// Applies the fault to a correct response.
    fn corrupted(
        &self,
        state: &mut FakeState,
        route: &Route,
        request: &Request,
        what: &Misbehaviour,
        mut response: Response,
    ) -> Response {
        if response.status >= 400 {
            return response;
        }
        match what {
            Misbehaviour::Delivered(delivery) => response.delivery(delivery.clone()),
            Misbehaviour::Flipped => {
                let middle = response.body.len() / 2;
                response.body.get_mut(middle).into_iter().for_each(|byte| *byte ^= 0x10);
                response
            }
            Misbehaviour::Longer => {
                response.body.push(b' ');
                response
            }
            Misbehaviour::Gzipped => {
                response.body = gzip(&response.body);
                response.with("Content-Encoding", "gzip")
            }
            Misbehaviour::Header(name, value) => {
                response.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
                match value {
                    Some(value) => response.with(name, value.replace("{other}", &self.other)),
                    None => response,
                }
            }
            Misbehaviour::ChangesEachTime => match route {
                Route::Manifest { name, reference } if !reference.contains(':') => {
                    state.changed_manifest(name, &response.body)
                }
                Route::Version
                | Route::Token
                | Route::Blob { .. }
                | Route::Manifest { .. }
                | Route::StartUpload { .. }
                | Route::Upload { .. }
                | Route::Tags { .. }
                | Route::Referrers { .. }
                | Route::Unknown => response,
            },
            Misbehaviour::UploadsElsewhere => {
                let place = location(&response);
                response.with("Location", format!("http://{}{place}", self.other))
            }
            Misbehaviour::UploadsWithQuery if location(&response).contains("/uploads/") => {
                // The name of the upload records that the query belongs to it.
                let place = location(&response);
                let id = place.rsplit('/').next().unwrap().to_owned();
                let bytes = state.registry.uploads.remove(&id).unwrap_or_default();
                let id = if id.ends_with("-q") { id } else { format!("{id}-q") };
                state.registry.uploads.insert(id.clone(), bytes);
                let place = place.rsplit_once('/').unwrap().0;
                response.with("Location", format!("{place}/{id}?state=a%20b%2Fc"))
            }
            Misbehaviour::Status(..)
            | Misbehaviour::RetryAfter(_)
            | Misbehaviour::Body(..)
            | Misbehaviour::NoContent
            | Misbehaviour::IgnoresRange
            | Misbehaviour::Redirect(_)
            | Misbehaviour::UploadsWithQuery
            | Misbehaviour::NoUpload
            | Misbehaviour::HalfTaken
            | Misbehaviour::FalseSuccess
            | Misbehaviour::NoMount
            | Misbehaviour::ClaimsBlobs(_) => {
                let _ = request;
                response
            }
        }
    }
}

fn location(response: &Response) -> String {
    let found = response.headers.iter().find(|(name, _)| name == "Location");
    found.map(|(_, place)| place.clone()).unwrap_or_default()
}

/// Tells if the scope of a token covers the wanted scope.
fn covers_scope(known: &str, wanted: &str) -> bool {
    let parts = |scope: &str| scope.rsplit_once(':').map(|(of, actions)| (of.to_owned(), actions.to_owned()));
    match (parts(known), parts(wanted)) {
        (Some((a, has)), Some((b, wants))) => {
            a == b && wants.split(',').all(|one| has.split(',').any(|other| one == other))
        }
        _ => false,
    }
}

impl FakeState {
    fn fault(&mut self, route: &Route, request: &Request) -> Option<Misbehaviour> {
        let get = matches!(request.method.as_str(), "GET" | "HEAD");
        let fits = |on: FaultPoint| match on {
            FaultPoint::Any => true,
            FaultPoint::Version => *route == Route::Version,
            FaultPoint::Token => *route == Route::Token,
            FaultPoint::Blob => matches!(route, Route::Blob { .. }) && request.method == "GET",
            FaultPoint::BlobHead => matches!(route, Route::Blob { .. }) && request.method == "HEAD",
            FaultPoint::Manifest => matches!(route, Route::Manifest { .. }) && get,
            FaultPoint::ManifestPut => matches!(route, Route::Manifest { .. }) && !get,
            FaultPoint::StartUpload => matches!(route, Route::StartUpload { .. }),
            FaultPoint::UploadBytes => {
                matches!(route, Route::Upload { .. } | Route::StartUpload { .. }) && !request.body.is_empty()
            }
            FaultPoint::FinishUpload => matches!(route, Route::Upload { .. }) && request.method == "PUT",
            FaultPoint::Tags => matches!(route, Route::Tags { .. }),
            FaultPoint::Referrers => matches!(route, Route::Referrers { .. }),
        };
        let found = |fault: &&mut Fault| fault.times > 0 && fits(fault.on) && request.path.contains(&fault.part);
        let fault = self.faults.iter_mut().find(found)?;
        fault.times = fault.times.saturating_sub(usize::from(fault.times != usize::MAX));
        Some(fault.what.clone())
    }

    fn token(&mut self, request: &Request) -> Response {
        let FakeAuth::Token { login, uses, .. } = self.auth else {
            return Response::new(200).body("application/json", json!({"token": "hidden-useless"}).to_string());
        };
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let by_form = form.contains(IDENTITY_TOKEN) || form.contains(WORD) && form.contains(USER);
        if login && request.header("authorization") != Some(BASIC) && !by_form {
            return error(401, "UNAUTHORIZED", "who are you").with("WWW-Authenticate", "Basic realm=\"tokens\"");
        }
        let from_form = form.split('&').find_map(|pair| pair.strip_prefix("scope="));
        let from_form =
            from_form.map(|scope| scope.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",").replace('+', " "));
        let scope = request.query.get("scope").cloned().or(from_form).unwrap_or_default();
        let token = format!("hidden-token-{}", self.tokens.len());
        self.tokens.insert(token.clone(), (scope, uses));
        let body = json!({"token": token, "access_token": token, "expires_in": 300});
        Response::new(200).body("application/json", body.to_string())
    }

    /// Returns the manifest with another annotation each time.
    fn changed_manifest(&mut self, name: &str, bytes: &[u8]) -> Response {
        self.moved += 1;
        let mut document: Value = serde_json::from_slice(bytes).unwrap();
        document["annotations"]["moved"] = json!(self.moved.to_string());
        let kind = document["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json").to_owned();
        let bytes = document.to_string().into_bytes();
        let digest = digest(&bytes);
        self.registry.manifests.insert((name.to_owned(), digest.clone()), (kind.clone(), bytes.clone()));
        Response::new(200).with("Docker-Content-Digest", digest).body(&kind, bytes)
    }
}

/// Returns a gzip file with stored (uncompressed) blocks.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let count = bytes.chunks(65535).count().max(1);
    for i in 0..count {
        let part = bytes.chunks(65535).nth(i).unwrap_or_default();
        let length = u16::try_from(part.len()).unwrap();
        out.push(u8::from(i + 1 == count));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(part);
    }
    let crc = !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    });
    out.extend(crc.to_le_bytes());
    out.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    out
}
