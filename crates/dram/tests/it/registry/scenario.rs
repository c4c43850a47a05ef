//! Tables of registry faults and the expected behaviour of dram.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::debian::{USER, WORD};
use super::fake::{FakeAuth, FakeRegistry, Fault, RecordedRequest};
use super::fixtures::make_layout;
use crate::support::{CommandOutput, Store, TestCommand, dram_path, names, temp, tool};

/// Media type of the manifest of the test image.
pub(crate) const KIND: &str = "application/vnd.oci.image.manifest.v1+json";

/// The image that all scenarios share.
pub(crate) struct ScenarioImage {
    pub(crate) archive: PathBuf,
    pub(crate) manifest: Vec<u8>,
    pub(crate) digest: String,
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    /// Digest of the largest blob.
    pub(crate) large: String,
}

impl ScenarioImage {
    pub(crate) fn sizes(&self) -> BTreeMap<String, u64> {
        self.blobs.iter().map(|(digest, bytes)| (digest.clone(), bytes.len() as u64)).collect()
    }
}

pub(crate) fn test_image() -> &'static ScenarioImage {
    static IMAGE: OnceLock<ScenarioImage> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let (dir, archive) = (temp(), dram_path().with_file_name("offer.tar"));
        let old = make_layout(dir.path());
        let file = |digest: &str| dir.path().join("l/blobs/sha256").join(&digest[7..]);
        // The manifest gets a mediaType, which umoci does not write.
        let mut document: Value = serde_json::from_slice(&fs::read(file(&old)).unwrap()).unwrap();
        document["mediaType"] = json!(KIND);
        let manifest = document.to_string().into_bytes();
        let digest = super::memory_registry::digest(&manifest);
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
        ScenarioImage { archive, digest, manifest, blobs, large }
    })
}

/// Returns a fake registry with the image as `x:1`.
pub(crate) fn registry_with_image(auth: FakeAuth, faults: impl IntoIterator<Item = Fault>) -> FakeRegistry {
    let (fake, offer) = (FakeRegistry::with(auth, faults), test_image());
    for bytes in offer.blobs.values() {
        fake.add_blob("x", bytes);
    }
    fake.add_manifest("x", "1", KIND, &offer.manifest);
    fake
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operation {
    Pull,
    PullDigest,
    Push,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum ExpectedEnd {
    Good,
    Bad,
    Either,
}

type Check = Box<dyn Fn(&[RecordedRequest]) -> bool + Send + Sync>;

/// A scenario: the faults of the registry and the expected end of the command.
pub(crate) struct Scenario {
    name: &'static str,
    operation: Operation,
    auth: FakeAuth,
    faults: Vec<Fault>,
    login: bool,
    end: ExpectedEnd,
    says: Vec<String>,
    checks: Vec<(&'static str, Check)>,
    time_limit: Duration,
}

/// Returns a scenario of `dram pull HOST/x:1` with these faults, which must succeed.
pub(crate) fn pull(name: &'static str, faults: impl IntoIterator<Item = Fault>) -> Scenario {
    Scenario {
        name,
        operation: Operation::Pull,
        auth: FakeAuth::Everybody,
        faults: faults.into_iter().collect(),
        login: false,
        end: ExpectedEnd::Good,
        says: Vec::new(),
        checks: Vec::new(),
        time_limit: Duration::from_secs(15),
    }
}

/// Returns a scenario of `dram push HOST/x:1` with these faults, which must succeed.
pub(crate) fn push(name: &'static str, faults: impl IntoIterator<Item = Fault>) -> Scenario {
    Scenario { operation: Operation::Push, ..pull(name, faults) }
}

impl Scenario {
    /// Pulls by digest instead of by tag.
    pub(crate) fn by_digest(self) -> Scenario {
        Scenario { operation: Operation::PullDigest, ..self }
    }

    /// The command must fail with these texts: `{host}`, `{other}` and `{large}` are replaced by their values.
    pub(crate) fn fails_with<const N: usize>(self, says: [&str; N]) -> Scenario {
        Scenario { end: ExpectedEnd::Bad, says: says.map(str::to_owned).to_vec(), ..self }
    }

    /// The command may fail, but must leave the store intact.
    pub(crate) fn may_fail(self) -> Scenario {
        Scenario { end: ExpectedEnd::Either, ..self }
    }

    pub(crate) fn auth(self, auth: FakeAuth) -> Scenario {
        Scenario { auth, ..self }
    }

    /// Gives the command credentials of [`USER`] for this registry.
    pub(crate) fn with_login(self) -> Scenario {
        Scenario { login: true, ..self }
    }

    /// Adds a check on the recorded requests.
    pub(crate) fn requests_satisfy(
        mut self,
        what: &'static str,
        check: impl Fn(&[RecordedRequest]) -> bool + Send + Sync + 'static,
    ) -> Scenario {
        self.checks.push((what, Box::new(check)));
        self
    }

    pub(crate) fn time_limit(self, seconds: u64) -> Scenario {
        Scenario { time_limit: Duration::from_secs(seconds), ..self }
    }

    /// Runs the scenario and returns its problems.
    fn problems(&self) -> Vec<String> {
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
        let (took, seen) = (began.elapsed(), fake.take_requests());
        if took > self.time_limit {
            wrong.push(format!("it took {took:?}"));
        }
        match (self.end, done.code) {
            (ExpectedEnd::Good | ExpectedEnd::Either, 0) => wrong.extend(self.missing_parts(&store, &fake)),
            (ExpectedEnd::Bad | ExpectedEnd::Either, 1 | 4) => wrong.extend(self.leftovers(&store, &fake, &done)),
            (end, code) => wrong.push(format!("it must be {end:?} and ended with {code}")),
        }
        for text in &self.says {
            let text = text.replace("{host}", fake.host()).replace("{other}", fake.other_host());
            let text = text.replace("{large}", &test_image().large);
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

    fn fake(&self) -> FakeRegistry {
        match self.operation {
            Operation::Push => FakeRegistry::with(self.auth.clone(), self.faults.clone()),
            Operation::Pull | Operation::PullDigest => registry_with_image(self.auth.clone(), self.faults.clone()),
        }
    }

    fn command(&self, store: &Store, fake: &FakeRegistry) -> TestCommand {
        let (name, offer) = (fake.name("x:1"), test_image());
        match self.operation {
            Operation::Pull => store.dram(["pull", &name]),
            Operation::PullDigest => store.dram(["pull", &fake.name(&format!("x@{}", offer.digest))]),
            Operation::Push => {
                store.dram(["load", "-t", &name]).arg(&offer.archive).ok();
                store.dram(["push", &name])
            }
        }
    }

    /// Returns what is missing at the destination after a success.
    fn missing_parts(&self, store: &Store, fake: &FakeRegistry) -> Vec<String> {
        let offer = test_image();
        let mut wrong = store_problems(store);
        if self.operation == Operation::Push {
            let tag = fake.tag("x", "1");
            if tag.as_ref() != Some(&offer.digest) {
                wrong.push(format!("the tag leads to {tag:?}, and not to {}", offer.digest));
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

    /// Returns what a failed command left behind.
    fn leftovers(&self, store: &Store, fake: &FakeRegistry, done: &CommandOutput) -> Vec<String> {
        let mut wrong = store_problems(store);
        if !done.stderr.contains("error: ") {
            wrong.push("no error is told".to_owned());
        }
        if self.operation == Operation::Push {
            return wrong;
        }
        let images = store.dram(["images", "--json"]).ok().stdout;
        if images.trim() != "[]" {
            wrong.push(format!("there are images after {}: {images}", fake.host()));
        }
        wrong
    }
}

/// Returns damaged blobs and temporary files in the store.
pub(crate) fn store_problems(store: &Store) -> Vec<String> {
    store.dram(["images"]).ok();
    let mut wrong = Vec::new();
    for name in store.blobs() {
        let bytes = fs::read(store.join("oci/blobs/sha256").join(&name)).unwrap();
        if super::memory_registry::digest(&bytes)[7..] != name {
            wrong.push(format!("the blob {name} is another"));
        }
    }
    let left = names(&store.join("work"));
    if left != ["gate"] {
        wrong.push(format!("left in work: {left:?}"));
    }
    wrong
}

/// Runs all scenarios and panics with the problems of all of them.
pub(crate) fn assert_scenarios(rows: impl IntoIterator<Item = Scenario>) {
    test_image();
    let rows: Vec<Scenario> = rows.into_iter().collect();
    let mut wrong = Vec::new();
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        // Run in parallel, because most of them wait for timeouts.
        let some: Vec<Scenario> = rows.by_ref().take(6).collect();
        thread::scope(|scope| {
            let running: Vec<_> = some.iter().map(|row| (row.name, scope.spawn(|| row.problems()))).collect();
            for (name, thread) in running {
                let found = thread.join().unwrap_or_else(|_| vec!["a command beside it failed".to_owned()]);
                wrong.extend(found.into_iter().map(|text| format!("{name}: {text}")));
            }
        });
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Counts the requests with this method and this text in the path.
pub(crate) fn count(seen: &[RecordedRequest], method: &str, part: &str) -> usize {
    seen.iter().filter(|seen| seen.method == method && seen.path.contains(part)).count()
}
