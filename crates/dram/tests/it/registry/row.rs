//! A table of what a registry can do to dram, and what dram must make of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::debian::{USER, WORD};
use super::fake::{Auth, Fake, Fault, Seen};
use super::fixtures::layout;
use crate::support::{Done, Store, Tool, dram_path, names, temp, tool};

/// The kind of the offered manifest.
pub(crate) const KIND: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image that all rows share.
pub(crate) struct Offer {
    pub(crate) archive: PathBuf,
    pub(crate) manifest: Vec<u8>,
    pub(crate) digest: String,
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    /// The largest blob.
    pub(crate) large: String,
}

impl Offer {
    pub(crate) fn sizes(&self) -> BTreeMap<String, u64> {
        self.blobs.iter().map(|(digest, bytes)| (digest.clone(), bytes.len() as u64)).collect()
    }
}

pub(crate) fn offer() -> &'static Offer {
    static OFFER: OnceLock<Offer> = OnceLock::new();
    OFFER.get_or_init(|| {
        let (dir, archive) = (temp(), dram_path().with_file_name("offer.tar"));
        let old = layout(dir.path());
        let file = |digest: &str| dir.path().join("l/blobs/sha256").join(&digest[7..]);
        // The manifest says what it is, which umoci's does not.
        let mut document: Value = serde_json::from_slice(&fs::read(file(&old)).unwrap()).unwrap();
        document["mediaType"] = json!(KIND);
        let manifest = document.to_string().into_bytes();
        let digest = super::serve::digest(&manifest);
        fs::write(file(&digest), &manifest).unwrap();
        let index = dir.path().join("l/index.json");
        let mut listed: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
        listed["manifests"][0]["digest"] = json!(digest);
        listed["manifests"][0]["size"] = json!(manifest.len());
        fs::write(&index, listed.to_string()).unwrap();
        tool("tar").arg("-cf").arg(&archive).arg("-C").arg(dir.path().join("l")).arg(".").ok();
        let parts = document["layers"].as_array().unwrap().iter().chain([&document["config"]]);
        let digests = parts.map(|part| part["digest"].as_str().unwrap().to_owned());
        let blobs: BTreeMap<_, _> = digests.map(|digest| (digest.clone(), fs::read(file(&digest)).unwrap())).collect();
        let large = blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().0.clone();
        Offer { archive, digest, manifest, blobs, large }
    })
}

/// Puts the image there as `x:1`.
pub(crate) fn stocked(auth: Auth, faults: impl IntoIterator<Item = Fault>) -> Fake {
    let (fake, offer) = (Fake::with(auth, faults), offer());
    for bytes in offer.blobs.values() {
        fake.add_blob("x", bytes);
    }
    fake.add_manifest("x", "1", KIND, &offer.manifest);
    fake
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Verb {
    Pull,
    PullDigest,
    Push,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Good,
    Bad,
    Either,
}

type Check = Box<dyn Fn(&[Seen]) -> bool + Send + Sync>;

/// One row: what the registry does, and how it must end.
pub(crate) struct Row {
    name: &'static str,
    verb: Verb,
    auth: Auth,
    faults: Vec<Fault>,
    login: bool,
    end: End,
    says: Vec<String>,
    checks: Vec<(&'static str, Check)>,
    within: Duration,
}

/// `dram pull HOST/x:1` with these faults.
pub(crate) fn pull(name: &'static str, faults: impl IntoIterator<Item = Fault>) -> Row {
    Row {
        name,
        verb: Verb::Pull,
        auth: Auth::Everybody,
        faults: faults.into_iter().collect(),
        login: false,
        end: End::Good,
        says: Vec::new(),
        checks: Vec::new(),
        within: Duration::from_secs(15),
    }
}

/// `dram push HOST/x:1` with these faults.
pub(crate) fn push(name: &'static str, faults: impl IntoIterator<Item = Fault>) -> Row {
    Row { verb: Verb::Push, ..pull(name, faults) }
}

impl Row {
    /// By digest and not by tag.
    pub(crate) fn by_digest(self) -> Row {
        Row { verb: Verb::PullDigest, ..self }
    }

    /// It must fail, and say these: `{host}`, `{other}`, `{large}` stand for what they are.
    pub(crate) fn bad<const N: usize>(self, says: [&str; N]) -> Row {
        Row { end: End::Bad, says: says.map(str::to_owned).to_vec(), ..self }
    }

    /// It may fail or not, but it must not harm.
    pub(crate) fn either(self) -> Row {
        Row { end: End::Either, ..self }
    }

    pub(crate) fn auth(self, auth: Auth) -> Row {
        Row { auth, ..self }
    }

    /// With what is known of [`USER`] for this registry.
    pub(crate) fn known(self) -> Row {
        Row { login: true, ..self }
    }

    /// What must be true of the requests.
    pub(crate) fn asks(mut self, what: &'static str, check: impl Fn(&[Seen]) -> bool + Send + Sync + 'static) -> Row {
        self.checks.push((what, Box::new(check)));
        self
    }

    pub(crate) fn within(self, seconds: u64) -> Row {
        Row { within: Duration::from_secs(seconds), ..self }
    }

    /// What is wrong with it.
    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let (fake, store, config) = (self.fake(), Store::empty(), temp());
        if self.login {
            let auth = "dGVzdGVyOmhpZGRlbg==";
            let text = serde_json::json!({"auths": {fake.host(): {"auth": auth}}}).to_string();
            fs::write(config.path().join("config.json"), text).unwrap();
        }
        let done = self.command(&store, &fake).env("DOCKER_CONFIG", config.path());
        let began = Instant::now();
        let done = done.env("DRAM_NETWORK_TIMEOUT", "0.4").env("HOME", config.path()).end();
        let (took, seen) = (began.elapsed(), fake.seen());
        if took > self.within {
            wrong.push(format!("it took {took:?}"));
        }
        match (self.end, done.code) {
            (End::Good | End::Either, 0) => wrong.extend(self.arrived(&store, &fake)),
            (End::Bad | End::Either, 1 | 4) => wrong.extend(self.refused(&store, &fake, &done)),
            (end, code) => wrong.push(format!("it must be {end:?} and ended with {code}")),
        }
        for text in &self.says {
            let text = text.replace("{host}", fake.host()).replace("{other}", fake.other());
            let text = text.replace("{large}", &offer().large);
            if !done.stderr.contains(&text) {
                wrong.push(format!("it does not say {text:?}"));
            }
        }
        for (what, check) in &self.checks {
            if !check(&seen) {
                wrong.push(format!("not so: {what}"));
            }
        }
        if seen.iter().any(|seen| seen.other && seen.authorization.is_some()) {
            wrong.push("credentials went to another host".to_owned());
        }
        let secrets = [WORD, "dGVzdGVyOmhpZGRlbg", "hidden-token"];
        if secrets.iter().any(|secret| done.stderr.contains(secret) || done.stdout.contains(secret)) {
            wrong.push(format!("it prints what identifies {USER}"));
        }
        if done.stderr.contains("panicked") {
            wrong.push("it panicked".to_owned());
        }
        if !wrong.is_empty() {
            let asked: Vec<String> = seen.iter().take(40).map(ToString::to_string).collect();
            wrong.push(format!("{done}\n--- requests ({})\n{}", seen.len(), asked.join("\n")));
        }
        wrong
    }

    fn fake(&self) -> Fake {
        match self.verb {
            Verb::Push => Fake::with(self.auth.clone(), self.faults.clone()),
            Verb::Pull | Verb::PullDigest => stocked(self.auth.clone(), self.faults.clone()),
        }
    }

    fn command(&self, store: &Store, fake: &Fake) -> Tool {
        let (name, offer) = (fake.name("x:1"), offer());
        match self.verb {
            Verb::Pull => store.dram(["pull", &name]),
            Verb::PullDigest => store.dram(["pull", &fake.name(&format!("x@{}", offer.digest))]),
            Verb::Push => {
                store.dram(["load", "-t", &name]).arg(&offer.archive).ok();
                store.dram(["push", &name])
            }
        }
    }

    /// All of the image is where it was to go.
    fn arrived(&self, store: &Store, fake: &Fake) -> Vec<String> {
        let offer = offer();
        let mut wrong = damaged(store);
        if self.verb == Verb::Push {
            let tag = fake.tag("x", "1");
            if tag.as_ref() != Some(&offer.digest) && tag.is_none() {
                wrong.push("the registry has no such tag".to_owned());
            }
            let lacks = offer.blobs.keys().filter(|digest| !fake.has_blob("x", digest));
            wrong.extend(lacks.map(|digest| format!("the registry lacks {digest}")));
        } else {
            let here = store.blobs();
            let lacks = offer.blobs.keys().filter(|digest| !here.contains(&digest[7..].to_owned()));
            wrong.extend(lacks.map(|digest| format!("the store lacks {digest}")));
        }
        wrong
    }

    /// It is as if nothing had been asked for.
    fn refused(&self, store: &Store, fake: &Fake, done: &Done) -> Vec<String> {
        let mut wrong = damaged(store);
        if !done.stderr.contains("error: ") {
            wrong.push("no error is told".to_owned());
        }
        if self.verb == Verb::Push {
            return wrong;
        }
        let images = store.dram(["images", "--json"]).ok().stdout;
        if images.trim() != "[]" {
            wrong.push(format!("there are images after {}: {images}", fake.host()));
        }
        wrong
    }
}

/// What in the store is not what its name says, and what is left there.
pub(crate) fn damaged(store: &Store) -> Vec<String> {
    store.dram(["images"]).ok();
    let mut wrong = Vec::new();
    for name in store.blobs() {
        let bytes = fs::read(store.join("oci/blobs/sha256").join(&name)).unwrap();
        if super::serve::digest(&bytes)[7..] != name {
            wrong.push(format!("the blob {name} is another"));
        }
    }
    let left = names(&store.join("work"));
    if left != ["gate"] {
        wrong.push(format!("left in work: {left:?}"));
    }
    wrong
}

/// Fails with all rows that are wrong.
pub(crate) fn hold(rows: impl IntoIterator<Item = Row>) {
    offer();
    let rows: Vec<Row> = rows.into_iter().collect();
    let mut wrong = Vec::new();
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        // Most of them wait for each other's time-outs.
        let some: Vec<Row> = rows.by_ref().take(6).collect();
        thread::scope(|scope| {
            let running: Vec<_> = some.iter().map(|row| (row.name, scope.spawn(|| row.wrong()))).collect();
            for (name, thread) in running {
                let found = thread.join().unwrap_or_else(|_| vec!["a command beside it failed".to_owned()]);
                wrong.extend(found.into_iter().map(|text| format!("{name}: {text}")));
            }
        });
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// How many requests have this method and this in their path.
pub(crate) fn count(seen: &[Seen], method: &str, part: &str) -> usize {
    seen.iter().filter(|seen| seen.method == method && seen.path.contains(part)).count()
}
