//! A registry that does what it is told to do wrong, and remembers what it was asked.

use std::collections::BTreeMap;
use std::fmt;
use std::io::BufReader;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use super::debian::{USER, WORD};
use super::http::{Reply, Request, Way};
use super::serve::{Shelf, Wish, digest, error};

/// `tester:hidden`, as a request has it.
const BASIC: &str = "Basic dGVzdGVyOmhpZGRlbg==";
/// What identifies [`USER`] without a password.
pub(crate) const IDENTITY: &str = "identity-hidden";

/// The requests that a fault is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum On {
    Any,
    Version,
    Token,
    Blob,
    BlobHead,
    /// `GET` and `HEAD`, by tag or by digest.
    Manifest,
    ManifestPut,
    Start,
    /// A request that brings bytes of a blob.
    Bytes,
    /// The end of an upload.
    Put,
    Tags,
    Referrers,
}

/// What is done wrong.
#[derive(Debug, Clone)]
pub(crate) enum What {
    /// The answer comes badly.
    Comes(Way),
    /// This status, with the message of an error.
    Status(u16, &'static str),
    /// Too many requests: wait so long.
    RetryAfter(String),
    /// 200 with this type and these bytes, whatever was asked.
    Body(&'static str, Vec<u8>),
    /// 204, whatever was asked.
    Nothing,
    /// One bit is another.
    Flipped,
    /// A space more at the end, and a header that does not know of it.
    Longer,
    /// Wrapped in gzip once more, and a header that says so.
    Wrapped,
    /// A request for a part gets all.
    IgnoresRange,
    /// What is asked for is elsewhere: `{other}` is the other host, `{digest}` the last part of the path.
    Leads(&'static str),
    /// A header of the answer is this, or is not there; `{other}` is the other host.
    Header(&'static str, Option<&'static str>),
    /// Each answer by tag is another manifest.
    Moves,
    /// Uploads go on at the other host.
    UploadsElsewhere,
    /// Uploads go on at an address with a query, which has to be kept.
    UploadsWithQuery,
    /// No such upload.
    NoUpload,
    /// Half of the bytes are taken, and 416 says so.
    HalfTaken,
    /// 201, and nothing is kept.
    Lies,
    /// Nothing is mounted.
    NoMount,
    /// The blobs of this list are said to be there.
    HasAll(BTreeMap<String, u64>),
}

/// So often, for what has this in its path.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    on: On,
    part: String,
    times: usize,
    what: What,
}

impl Fault {
    /// Every time.
    pub(crate) fn always(on: On, what: What) -> Fault {
        Fault { on, part: String::new(), times: usize::MAX, what }
    }

    /// The first `times` times.
    pub(crate) fn first(times: usize, on: On, what: What) -> Fault {
        Fault { times, ..Fault::always(on, what) }
    }

    /// Only where the path has this.
    pub(crate) fn at(self, part: impl Into<String>) -> Fault {
        Fault { part: part.into(), ..self }
    }
}

/// Who may ask.
#[derive(Debug, Clone)]
pub(crate) enum Auth {
    Everybody,
    /// [`USER`] with [`WORD`].
    Basic,
    /// Whoever has a token.
    Token {
        /// Where it is to be had: `{here}` and `{other}` are the hosts.
        realm: &'static str,
        /// Only [`USER`] gets one that is good for more than reading.
        login: bool,
        /// For how many requests each is good.
        uses: usize,
    },
    /// Nobody, whatever token they have.
    Nobody,
}

/// A request, as it was seen.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// It came to the other host.
    pub(crate) other: bool,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
    pub(crate) encoding: Option<String>,
    pub(crate) status: u16,
    pub(crate) at: Instant,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.other { "other" } else { "here" };
        let Seen { method, path, status, .. } = self;
        write!(f, "{host} {method} {path} {status}")?;
        self.range.iter().try_for_each(|range| write!(f, " {range}"))
    }
}

/// A registry on two ports of loopback: its own, and that of the other host. It ends with the test.
#[derive(Debug)]
pub(crate) struct Fake {
    world: Arc<World>,
}

#[derive(Debug)]
struct World {
    here: String,
    other: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    shelf: Shelf,
    auth: Auth,
    faults: Vec<Fault>,
    /// Tokens: what they are good for, and how often.
    tokens: BTreeMap<String, (String, usize)>,
    seen: Vec<Seen>,
    moved: usize,
}

impl Fake {
    /// An empty one, for everybody.
    pub(crate) fn new(faults: impl IntoIterator<Item = Fault>) -> Fake {
        Fake::with(Auth::Everybody, faults)
    }

    pub(crate) fn with(auth: Auth, faults: impl IntoIterator<Item = Fault>) -> Fake {
        let here = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let state = State {
            shelf: Shelf::default(),
            auth,
            faults: faults.into_iter().collect(),
            tokens: BTreeMap::new(),
            seen: Vec::new(),
            moved: 0,
        };
        let world = World { here: address(&here), other: address(&other), state: Mutex::new(state) };
        let world = Arc::new(world);
        for (listener, is_other) in [(here, false), (other, true)] {
            let world = world.clone();
            thread::spawn(move || listen(&listener, &world, is_other));
        }
        Fake { world }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> &str {
        &self.world.here
    }

    pub(crate) fn other(&self) -> &str {
        &self.world.other
    }

    /// The name of an image there.
    pub(crate) fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.host())
    }

    /// From now on these faults and no other.
    pub(crate) fn now(&self, faults: impl IntoIterator<Item = Fault>) {
        self.world.state().faults = faults.into_iter().collect();
    }

    /// Puts a blob there.
    pub(crate) fn add_blob(&self, name: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let mut state = self.world.state();
        state.shelf.blobs.insert(digest.clone(), bytes.to_owned());
        state.shelf.owned.insert((name.to_owned(), digest.clone()));
        digest
    }

    /// Puts a manifest there, whatever is in it.
    pub(crate) fn add_manifest(&self, name: &str, tag: &str, kind: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let mut state = self.world.state();
        let key = (name.to_owned(), digest.clone());
        state.shelf.manifests.insert(key, (kind.to_owned(), bytes.to_owned()));
        state.shelf.tags.insert((name.to_owned(), tag.to_owned()), digest.clone());
        digest
    }

    /// The digest that a tag stands for.
    pub(crate) fn tag(&self, name: &str, tag: &str) -> Option<String> {
        self.world.state().shelf.tags.get(&(name.to_owned(), tag.to_owned())).cloned()
    }

    pub(crate) fn manifest(&self, name: &str, digest: &str) -> Option<Vec<u8>> {
        let key = (name.to_owned(), digest.to_owned());
        self.world.state().shelf.manifests.get(&key).map(|(_, bytes)| bytes.clone())
    }

    pub(crate) fn has_blob(&self, name: &str, digest: &str) -> bool {
        self.world.state().shelf.owned.contains(&(name.to_owned(), digest.to_owned()))
    }

    /// What was asked since the last look.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.world.state().seen)
    }
}

fn listen(listener: &TcpListener, world: &Arc<World>, other: bool) {
    for stream in listener.incoming().flatten() {
        let world = world.clone();
        thread::spawn(move || world.converse(&stream, other));
    }
}

impl World {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Whoever asks may go at any time: then there is nobody to tell.
    fn converse(&self, stream: &TcpStream, other: bool) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut out = stream.try_clone().ok()?;
        while let Some(request) = Request::read(&mut reader).ok()? {
            let reply = self.answer(&request, other);
            if !reply.send(&mut out, request.method == "HEAD").ok()? {
                // It reads what still comes, so that what was sent arrives.
                let _ = std::io::copy(&mut reader, &mut std::io::sink());
                break;
            }
        }
        Some(())
    }

    fn answer(&self, request: &Request, other: bool) -> Reply {
        let mut state = self.state();
        let wish = Wish::of(&request.path);
        let fault = state.fault(&wish, request);
        let reply = self.reply(&mut state, &wish, request, fault.as_ref(), other);
        let header = |name: &str| request.header(name).map(str::to_owned);
        state.seen.push(Seen {
            other,
            method: request.method.clone(),
            path: request.path.clone(),
            authorization: header("authorization"),
            range: header("range"),
            encoding: header("accept-encoding"),
            status: reply.status,
            at: Instant::now(),
        });
        reply
    }

    fn reply(&self, state: &mut State, wish: &Wish, request: &Request, fault: Option<&What>, other: bool) -> Reply {
        if let Some(reply) = fault.and_then(|what| self.instead(state, wish, request, what)) {
            return reply;
        }
        if let Some(hops) = request.path.strip_prefix("/hop/") {
            let (left, digest) = hops.split_once('/').unwrap();
            return match left.parse::<usize>().unwrap() {
                0 => self.elsewhere(state, digest),
                left => Reply::new(307).with("Location", format!("/hop/{}/{digest}", left - 1)),
            };
        }
        // The other host is a plain place for files, that knows nobody, and where tokens and uploads may be.
        if other && matches!(wish, Wish::Unknown) {
            return self.elsewhere(state, request.path.rsplit('/').next().unwrap());
        }
        if *wish == Wish::Token {
            return state.token(request);
        }
        if !other && let Some(refusal) = self.refusal(state, wish, request) {
            return refusal;
        }
        let mut asked = request.clone();
        if matches!(fault, Some(What::IgnoresRange)) {
            asked.headers.remove("range");
        }
        if matches!(fault, Some(What::NoMount)) {
            asked.query.clear();
        }
        let query_kept = request.query.get("state").is_some_and(|state| state == "a b/c");
        if let Wish::Upload { id, .. } = wish
            && id.ends_with("-q")
            && !query_kept
        {
            return error(400, "BLOB_UPLOAD_INVALID", "the query of the address is lost");
        }
        let reply = state.shelf.answer(wish, &asked);
        match fault {
            Some(what) => self.spoilt(state, wish, request, what, reply),
            None => reply,
        }
    }

    /// A file of a place that is no registry.
    fn elsewhere(&self, state: &State, digest: &str) -> Reply {
        match state.shelf.blobs.get(digest) {
            Some(bytes) => Reply::new(200).body("application/octet-stream", bytes.clone()),
            None => Reply::new(404),
        }
    }

    /// Why this request has no right to an answer.
    fn refusal(&self, state: &mut State, wish: &Wish, request: &Request) -> Option<Reply> {
        let has = request.header("authorization").unwrap_or_default();
        let denied = error(401, "UNAUTHORIZED", "authentication required");
        let actions = if matches!(request.method.as_str(), "GET" | "HEAD") { "pull" } else { "pull,push" };
        let scope = wish.name().map(|name| format!("repository:{name}:{actions}")).unwrap_or_default();
        let realm = match &state.auth {
            Auth::Everybody => return None,
            Auth::Basic if has == BASIC => return None,
            Auth::Basic => return Some(denied.with("WWW-Authenticate", "Basic realm=\"tests\"")),
            Auth::Token { realm, .. } => realm.replace("{here}", &self.here).replace("{other}", &self.other),
            Auth::Nobody => format!("http://{}/token", self.here),
        };
        let nobody = matches!(state.auth, Auth::Nobody);
        let token = has.strip_prefix("Bearer ").and_then(|token| state.tokens.get_mut(token)).filter(|_| !nobody);
        if let Some((good_for, left)) = token {
            let scopes = good_for.split(' ').any(|known| known == scope || scope.is_empty() || wide(known, &scope));
            if scopes && *left > 0 {
                *left -= 1;
                return None;
            }
        }
        let scope = if scope.is_empty() { scope } else { format!(",scope=\"{scope}\"") };
        Some(denied.with("WWW-Authenticate", format!("Bearer realm=\"{realm}\",service=\"tests\"{scope}")))
    }

    /// What is said whatever was asked.
    fn instead(&self, state: &mut State, wish: &Wish, request: &Request, what: &What) -> Option<Reply> {
        let last = request.path.rsplit('/').next().unwrap();
        Some(match what {
            What::Comes(way @ (Way::Close | Way::Garbage)) => Reply::new(200).way(way.clone()),
            What::Status(status, message) => error(*status, "DENIED", message),
            What::RetryAfter(time) => error(429, "TOOMANYREQUESTS", "slow down").with("Retry-After", time),
            What::Body(kind, bytes) => Reply::new(200).body(kind, bytes.clone()),
            What::Nothing => Reply::new(204),
            What::Leads(place) => {
                let place = place.replace("{other}", &self.other).replace("{digest}", last);
                Reply::new(307).with("Location", place)
            }
            What::NoUpload => error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry"),
            What::HalfTaken => {
                let Wish::Upload { name, id } = wish else { return None };
                let bytes = state.shelf.uploads.get_mut(id)?;
                bytes.extend_from_slice(&request.body[..request.body.len() / 2]);
                state.shelf.going_on(416, name, id)
            }
            What::Lies => {
                Reply::new(201).with("Location", "/v2/").with("Docker-Content-Digest", request.query.get("digest")?)
            }
            What::HasAll(sizes) => Reply::new(200)
                .with("Docker-Content-Digest", last)
                .body("application/octet-stream", vec![0; *sizes.get(last)? as usize]),
            _ => return None,
        })
    }

    /// The right answer, made wrong.
    fn spoilt(&self, state: &mut State, wish: &Wish, request: &Request, what: &What, mut reply: Reply) -> Reply {
        if reply.status >= 400 {
            return reply;
        }
        match what {
            What::Comes(way) => reply.way(way.clone()),
            What::Flipped => {
                let middle = reply.body.len() / 2;
                reply.body.get_mut(middle).into_iter().for_each(|byte| *byte ^= 0x10);
                reply
            }
            What::Longer => {
                reply.body.push(b' ');
                reply
            }
            What::Wrapped => {
                reply.body = gzip(&reply.body);
                reply.with("Content-Encoding", "gzip")
            }
            What::Header(name, value) => {
                reply.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
                match value {
                    Some(value) => reply.with(name, value.replace("{other}", &self.other)),
                    None => reply,
                }
            }
            What::Moves => match wish {
                Wish::Manifest { name, reference } if !reference.contains(':') => state.moved(name, &reply.body),
                _ => reply,
            },
            What::UploadsElsewhere => {
                let place = location(&reply);
                reply.with("Location", format!("http://{}{place}", self.other))
            }
            What::UploadsWithQuery if location(&reply).contains("/uploads/") => {
                // The name of the upload shows that the query belongs to it.
                let place = location(&reply);
                let id = place.rsplit('/').next().unwrap().to_owned();
                let bytes = state.shelf.uploads.remove(&id).unwrap_or_default();
                let id = if id.ends_with("-q") { id } else { format!("{id}-q") };
                state.shelf.uploads.insert(id.clone(), bytes);
                let place = place.rsplit_once('/').unwrap().0;
                reply.with("Location", format!("{place}/{id}?state=a%20b%2Fc"))
            }
            _ => {
                let _ = request;
                reply
            }
        }
    }
}

fn location(reply: &Reply) -> String {
    let found = reply.headers.iter().find(|(name, _)| name == "Location");
    found.map(|(_, place)| place.clone()).unwrap_or_default()
}

/// Whether a token for more is one for this.
fn wide(known: &str, wanted: &str) -> bool {
    let parts = |scope: &str| scope.rsplit_once(':').map(|(of, actions)| (of.to_owned(), actions.to_owned()));
    match (parts(known), parts(wanted)) {
        (Some((a, has)), Some((b, wants))) => {
            a == b && wants.split(',').all(|one| has.split(',').any(|other| one == other))
        }
        _ => false,
    }
}

impl State {
    fn fault(&mut self, wish: &Wish, request: &Request) -> Option<What> {
        let get = matches!(request.method.as_str(), "GET" | "HEAD");
        let fits = |on: On| match on {
            On::Any => true,
            On::Version => *wish == Wish::Version,
            On::Token => *wish == Wish::Token,
            On::Blob => matches!(wish, Wish::Blob { .. }) && request.method == "GET",
            On::BlobHead => matches!(wish, Wish::Blob { .. }) && request.method == "HEAD",
            On::Manifest => matches!(wish, Wish::Manifest { .. }) && get,
            On::ManifestPut => matches!(wish, Wish::Manifest { .. }) && !get,
            On::Start => matches!(wish, Wish::Start { .. }),
            On::Bytes => matches!(wish, Wish::Upload { .. } | Wish::Start { .. }) && !request.body.is_empty(),
            On::Put => matches!(wish, Wish::Upload { .. }) && request.method == "PUT",
            On::Tags => matches!(wish, Wish::Tags { .. }),
            On::Referrers => matches!(wish, Wish::Referrers { .. }),
        };
        let found = |fault: &&mut Fault| fault.times > 0 && fits(fault.on) && request.path.contains(&fault.part);
        let fault = self.faults.iter_mut().find(found)?;
        fault.times = fault.times.saturating_sub(usize::from(fault.times != usize::MAX));
        Some(fault.what.clone())
    }

    fn token(&mut self, request: &Request) -> Reply {
        let Auth::Token { login, uses, .. } = self.auth else {
            return Reply::new(200).body("application/json", json!({"token": "hidden-useless"}).to_string());
        };
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let by_form = form.contains(IDENTITY) || form.contains(WORD) && form.contains(USER);
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
        Reply::new(200).body("application/json", body.to_string())
    }

    /// The same manifest with an annotation that it never had.
    fn moved(&mut self, name: &str, bytes: &[u8]) -> Reply {
        self.moved += 1;
        let mut document: Value = serde_json::from_slice(bytes).unwrap();
        document["annotations"]["moved"] = json!(self.moved.to_string());
        let kind = document["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json").to_owned();
        let bytes = document.to_string().into_bytes();
        let digest = digest(&bytes);
        self.shelf.manifests.insert((name.to_owned(), digest.clone()), (kind.clone(), bytes.clone()));
        Reply::new(200).with("Docker-Content-Digest", digest).body(&kind, bytes)
    }
}

/// A gzip file that packs nothing.
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
