//! Images from one place to another: every byte arrives as it was, and other tools read what arrived.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::registry::debian::{Debian, USER, WORD};
use crate::support::{BASE, Context, Done, Store, list, names, temp, tool, valid_image};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A store with the image `demo` of three layers.
fn with_demo() -> Store {
    let store = Store::with_base();
    store
        .build(&Context::new("FROM parity-base\nRUN echo one > /one\nRUN echo two > /two\nCMD [\"cat\", \"/one\"]\n"))
        .ok();
    store
}

/// A directory, and addresses in it.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { dir: temp() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn at(&self, kind: &str, name: &str) -> String {
        format!("{kind}:{}", self.path(name).display())
    }
}

fn copy(store: &Store, from: &str, to: &str) -> Done {
    store.dram(["copy", from, to]).ok()
}

/// The digest that skopeo finds at an address.
fn skopeo(address: &str) -> String {
    let raw = tool("skopeo").args(["inspect", "--raw", address]).ok().stdout;
    let sum = tool("sha256sum").stdin(raw).ok().stdout;
    format!("sha256:{}", &sum[..64])
}

/// A layout made by hand, whose blobs are what they are said to be.
struct Layout {
    path: PathBuf,
    listed: Vec<Value>,
}

impl Layout {
    fn new(path: &Path) -> Layout {
        fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Layout { path: path.to_owned(), listed: Vec::new() }
    }

    fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let sum = tool("sha256sum").stdin(bytes).ok().stdout;
        fs::write(self.path.join("blobs/sha256").join(&sum[..64]), bytes).unwrap();
        json!({"mediaType": kind, "digest": format!("sha256:{}", &sum[..64]), "size": bytes.len()})
    }

    fn document(&self, kind: &str, document: &Value) -> Value {
        self.blob(kind, document.to_string().as_bytes())
    }

    /// An image without layers for a platform, `os/architecture`.
    fn image(&self, platform: &str) -> Value {
        let (os, architecture) = platform.split_once('/').unwrap();
        let config =
            json!({"os": os, "architecture": architecture, "config": {}, "rootfs": {"type": "layers", "diff_ids": []}});
        let config = self.document("application/vnd.oci.image.config.v1+json", &config);
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []});
        let mut entry = self.document(MANIFEST, &manifest);
        entry["platform"] = json!({"os": os, "architecture": architecture});
        entry
    }

    fn index(&self, entries: &[Value]) -> Value {
        self.document(INDEX, &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}))
    }

    fn list(&mut self, mut entry: Value, name: Option<&str>) {
        if let Some(name) = name {
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        }
        self.listed.push(entry);
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": self.listed});
        fs::write(self.path.join("index.json"), index.to_string()).unwrap();
    }
}

fn digest(entry: &Value) -> &str {
    entry["digest"].as_str().unwrap()
}

#[test]
fn an_image_goes_through_every_kind_of_place_and_stays_what_it_is() {
    let (store, place) = (with_demo(), Place::new());
    let wanted = store.digest("demo");
    let layout = place.at("oci", "layout:demo");
    let archive = place.at("oci-archive", "oci.tar:some/name:1");
    let docker = place.at("docker-archive", "docker.tar:some/name:2");
    for (from, to) in
        [("store:demo", &layout), (&layout, &archive), (&archive, &docker), (&docker, &"store:back:3".to_owned())]
    {
        let done = copy(&store, from, to);
        assert_eq!(done.stdout.trim(), wanted, "{from} to {to}");
    }
    for address in [&layout, &archive] {
        assert_eq!(skopeo(address), wanted, "{address}");
    }
    // Skopeo makes a manifest of its own of such an archive; what it means is the configuration.
    let config = tool("skopeo").args(["inspect", "--config", "--raw", &docker]).ok().stdout;
    assert!(config.contains("/one"), "{config}");
    let other = Store::empty();
    copy(&other, &docker, "store:demo");
    assert_eq!(other.digest("demo"), wanted);
    assert_eq!(other.sh("cat /one /two").stdout, "one\ntwo\n");
    valid_image(&other, "demo:latest");
    // The second time nothing is left to do.
    other.dram(["copy", &layout, "store:demo"]).ok().says("4 of 4 blobs were there");
    assert_eq!(names(&store.join("work")), ["gate"]);
    assert_eq!(names(&place.path("")), ["docker.tar", "layout", "oci.tar"], "no half written files");
}

#[test]
fn what_skopeo_wrote_is_copied_from_every_kind_of_place() {
    let (store, place) = (with_demo(), Place::new());
    let (wanted, from) = (store.digest("demo"), format!("oci:{}:demo:latest", store.join("oci").display()));
    for (kind, name) in
        [("oci", "layout:demo:1"), ("oci-archive", "oci.tar:demo:1"), ("docker-archive", "docker.tar:demo:1")]
    {
        let address = place.at(kind, name);
        tool("skopeo").args(["copy", "--insecure-policy", "--quiet", &from, &address]).ok();
        let other = Store::empty();
        copy(&other, &address, "store:demo");
        assert_eq!(other.digest("demo"), wanted, "{kind}");
        assert_eq!(other.sh("cat /one /two").stdout, "one\ntwo\n");
    }
    // A compressed archive is one too.
    tool("gzip").arg(place.path("oci.tar")).ok();
    let other = Store::empty();
    copy(&other, &place.at("oci-archive", "oci.tar.gz:demo:1"), "store:demo");
    assert_eq!(other.digest("demo"), wanted);
}

#[test]
fn one_platform_is_picked_from_an_index_or_all_are_copied() {
    let (store, place) = (Store::empty(), Place::new());
    let mut layout = Layout::new(&place.path("many"));
    let images: Vec<Value> =
        ["linux/amd64", "linux/arm64", "linux/s390x"].map(|platform| layout.image(platform)).into();
    let index = layout.index(&[layout.index(&images[..2]), images[2].clone()]);
    layout.list(index.clone(), Some("many"));
    let from = place.at("oci", "many:many");
    let arm = store.dram(["copy", "--platform", "linux/arm64", &from]).arg(place.at("oci", "arm:x")).end();
    assert_eq!(arm.code, 1, "an index in an index has no platform\n{arm}");
    let flat = layout.index(&images);
    layout.list(flat.clone(), Some("flat"));
    let from = place.at("oci", "many:flat");
    let arm = store.dram(["copy", "--platform", "linux/arm64", &from]).arg(place.at("oci", "arm:x")).ok();
    assert_eq!(arm.stdout.trim(), digest(&images[1]));
    assert_eq!(names(&place.path("arm/blobs/sha256")).len(), 2);
    let none = store.dram(["copy", "--platform", "linux/riscv64", &from]).arg(place.at("oci", "no:x")).fails(1);
    none.says("has no image for linux/riscv64").says("it has linux/amd64, linux/arm64, linux/s390x");
    // All of it, from one place to the next.
    for (from, to) in [
        ("oci:many:many", "oci:all:many"),
        ("oci:all:many", "oci-archive:all.tar:many"),
        ("oci-archive:all.tar", "oci:again:many"),
    ] {
        let done = store.dram(["copy", "--all", from, to]).dir(place.path("")).ok();
        assert_eq!(done.stdout.trim(), digest(&index), "{from} to {to}");
    }
    assert_eq!(names(&place.path("again/blobs/sha256")).len(), 8);
    assert_eq!(skopeo(&place.at("oci", "again:many")), digest(&index));
    store.dram(["copy", "--all", "oci:many:many", "store:x"]).dir(place.path("")).fails(2).says("leave `--all` out");
    store.dram(["copy", "--all", "oci:many:many", "docker-archive:x"]).dir(place.path("")).fails(2);
    store.dram(["copy", "--platform", "linux/amd64", "oci:many:flat", "store:x"]).dir(place.path("")).ok();
    assert_eq!(store.digest("x"), digest(&images[0]));
    assert_eq!(store.digest(&format!("x@{}", digest(&flat))), digest(&images[0]), "the index leads to its image");
    store.dram(["copy", "store:x", "oci:own"]).dir(place.path("")).ok();
    let own: Value = serde_json::from_slice(&fs::read(place.path("own/index.json")).unwrap()).unwrap();
    assert_eq!(own["manifests"][0]["annotations"], Value::Null, "the store's own notes stay in the store");
}

#[test]
fn what_refers_to_an_image_comes_along_when_asked() {
    let (store, place) = (Store::empty(), Place::new());
    let mut layout = Layout::new(&place.path("from"));
    let image = layout.image("linux/amd64");
    let empty = layout.blob("application/vnd.oci.empty.v1+json", b"{}");
    let refer = |subject: &Value, text: &[u8]| {
        let layer = layout.blob("text/plain", text);
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "text/plain",
            "config": empty, "layers": [layer], "subject": subject});
        layout.document(MANIFEST, &manifest)
    };
    let signature = refer(&image, b"signed");
    let of_signature = refer(&signature, b"signed too");
    let other = refer(&empty, b"of something else");
    layout.list(image.clone(), Some("x"));
    for (entry, name) in [(&signature, None), (&of_signature, None), (&other, Some("other"))] {
        layout.list(entry.clone(), name);
    }
    let copy = |more: &[&str], to: &str| {
        let dram = store.dram(["copy", "--platform", "linux/amd64"]).args(more).dir(place.path(""));
        dram.args(["oci:from:x", to]).ok();
        list(&serde_json::from_slice::<Value>(&fs::read(place.path("to/index.json")).unwrap()).unwrap()["manifests"])
            .len()
    };
    assert_eq!(copy(&[], "oci:to:x"), 1);
    assert_eq!(copy(&["--referrers"], "oci:to:x"), 3);
    assert_eq!(copy(&["--referrers"], "oci:to:x"), 3, "each once");
    assert!(place.path("to/blobs/sha256").join(&digest(&of_signature)[7..]).is_file());
    assert!(!place.path("to/blobs/sha256").join(&digest(&other)[7..]).is_file());
}

#[test]
fn what_is_damaged_on_the_way_gets_no_name() {
    let (store, place) = (with_demo(), Place::new());
    copy(&store, "store:demo", &place.at("oci", "layout:demo"));
    let manifest = &store.inspect("demo")["manifest"];
    let layer = place.path("layout/blobs/sha256").join(&digest(&manifest["layers"][1])[7..]);
    let whole = fs::read(&layer).unwrap();
    let mut flipped = whole.clone();
    flipped[40] ^= 1;
    let long = [&whole[..], b"x"].concat();
    for (bytes, why) in [(&flipped[..], "is damaged"), (&whole[..40], "it has 40 bytes"), (&long, "is damaged")] {
        fs::write(&layer, bytes).unwrap();
        let other = Store::empty();
        for to in ["store:x", "oci:x:x", "oci-archive:x.tar", "docker-archive:y.tar:a"] {
            let done = other.dram(["copy", &place.at("oci", "layout:demo"), to]).dir(place.path("")).fails(1);
            done.says(why).says(digest(&manifest["layers"][1]));
        }
        assert_eq!(other.dram(["images", "--json"]).ok().stdout.trim(), "[]");
        assert!(!place.path("x.tar").exists() && !place.path("y.tar").exists() && !place.path("x/index.json").exists());
        assert!(!names(&place.path("x/blobs/sha256")).iter().any(|name| name.contains("new")));
    }
    // A sink's own damaged blob is not taken for the right one.
    fs::write(&layer, &whole).unwrap();
    let other = place.at("oci", "other:demo");
    copy(&store, "store:demo", &other);
    fs::write(place.path("other/blobs/sha256").join(layer.file_name().unwrap()), &flipped).unwrap();
    copy(&store, "store:demo", &other).says("3 of 4 blobs were there");
    assert_eq!(fs::read(place.path("other/blobs/sha256").join(layer.file_name().unwrap())).unwrap(), whole);
}

#[test]
fn addresses_that_lead_nowhere_are_refused_in_words() {
    let (store, place) = (with_demo(), Place::new());
    store.dram(["save", "-o"]).arg(place.path("two.tar")).args(["demo", BASE]).ok();
    for (words, code, says) in [
        (["demo", "oci:x"], 2, "`docker://demo` is in a registry, `store:demo` in the store"),
        (["ocii:x", "oci:x"], 2, "did you mean `oci:`?"),
        (["docker:x", "oci:x"], 2, "`docker://x`"),
        (["store:demo", "store:"], 2, "names nothing"),
        (["store:nosuch", "oci:x"], 1, "the store has no image `nosuch`"),
        (["oci:nosuch", "store:x"], 1, "cannot read nosuch"),
        (["oci-archive:two.tar", "store:x"], 2, "holds several images"),
        (["oci-archive:two.tar:three", "store:x"], 1, "holds no image `three`; it has `docker.io/library/demo:latest`"),
        (["oci-archive:text", "store:x"], 1, "is no image archive and no OCI layout"),
        (["store:demo", "oci:full"], 1, "holds something that is no OCI layout"),
        (["docker-daemon:x", "oci:x"], 2, "nothing can be copied from"),
    ] {
        fs::write(place.path("text"), "text").unwrap();
        fs::create_dir_all(place.path("full/of/things")).unwrap();
        store.dram(["copy"]).args(words).dir(place.path("")).fails(code).says(says);
    }
    store.dram(["copy", "--platform", "a/b/c/d", "store:demo", "oci:x"]).dir(place.path("")).fails(2);
    let digestfile = place.path("digest");
    for from in ["oci-archive:two.tar:demo:latest", "oci-archive:two.tar:demo", "docker-archive:two.tar:demo"] {
        store.dram(["copy", "--digestfile"]).arg(&digestfile).args([from, "store:x"]).dir(place.path("")).ok();
        assert_eq!(fs::read_to_string(&digestfile).unwrap(), store.digest("demo"), "{from}");
    }
}

/// Several that add to one layout lose nobody's name.
#[test]
fn eight_copies_at_once_into_one_layout_keep_every_name() {
    let (store, place) = (with_demo(), Place::new());
    let all: Vec<_> = (0..8)
        .map(|number| store.dram(["copy", "-q", "store:demo", &place.at("oci", &format!("one:n{number}"))]).start())
        .collect();
    for one in all {
        let done = one.end();
        assert_eq!(done.code, 0, "{done}");
    }
    let listed = tool("umoci").args(["ls", "--layout"]).arg(place.path("one")).ok().stdout;
    let mut listed: Vec<&str> = listed.lines().collect();
    listed.sort_unstable();
    assert_eq!(listed, ["n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7"]);
    assert_eq!(names(&place.path("one")), ["blobs", "index.json", "oci-layout"]);
    assert_eq!(names(&place.path("one/blobs/sha256")).len(), 5, "and no half written file");
}

/// Requests of this method whose path has this.
fn asked(registry: &Debian, method: &str, part: &str) -> usize {
    registry.requests().iter().filter(|line| line.starts_with(method) && line.contains(part)).count()
}

#[test]
fn an_image_is_pushed_and_pulled_and_others_read_it() {
    let (store, registry, place) = (with_demo(), Debian::plain(), Place::new());
    let (wanted, name) = (store.digest("demo"), registry.name("team/demo:1"));
    let pushed = store.dram(["push", "demo", &name]).ok();
    assert_eq!(pushed.stdout.trim(), format!("{}@{wanted}", registry.name("team/demo")));
    let theirs = tool("skopeo").args(["inspect", "--tls-verify=false", &format!("docker://{name}")]).ok().stdout;
    assert_eq!(serde_json::from_str::<Value>(&theirs).unwrap()["Digest"], wanted);
    // What is there is not sent again: not even looked for.
    let before = registry.requests().len();
    store.dram(["push", "demo", &name]).ok();
    let again = registry.requests().split_off(before);
    assert!(!again.iter().any(|line| line.starts_with("PATCH") || line.contains("/blobs/")), "{again:?}");
    let other = Store::empty();
    let pulled = other.dram(["pull", &name]).ok();
    assert_eq!(pulled.stdout.trim(), format!("{}@{wanted}", registry.name("team/demo")));
    assert_eq!(other.digest(&name), wanted);
    assert_eq!(other.dram(["run", &name]).ok().stdout, "one\n");
    valid_image(&other, &name);
    other.dram(["pull", &name]).ok().says("4 of 4 blobs were there");
    let by_digest = format!("{}@{wanted}", registry.name("team/demo"));
    let third = Store::empty();
    third.dram(["pull", "-q", &by_digest]).ok();
    assert_eq!(third.dram(["run", &by_digest]).ok().stdout, "one\n");
    third.dram(["inspect", &name]).fails(1);
    assert!(third.dram(["images"]).ok().stdout.contains(&wanted[..19]));
    // From and to every other kind of place, without a store in between.
    let from = format!("docker://{name}");
    for to in [place.at("oci", "layout:demo"), place.at("oci-archive", "demo.tar:demo")] {
        assert_eq!(copy(&store, &from, &to).stdout.trim(), wanted);
        assert_eq!(copy(&store, &to, &format!("docker://{}", registry.name("team/again:1"))).stdout.trim(), wanted);
    }
    copy(&store, &from, &place.at("docker-archive", "docker.tar:demo:1"));
    assert_eq!(copy(&store, &place.at("docker-archive", "docker.tar"), "store:back").stdout.trim(), wanted);
}

#[test]
fn a_registry_takes_from_its_own_repositories_what_it_has() {
    let (store, registry) = (with_demo(), Debian::plain());
    store.dram(["push", "demo", &registry.name("one/demo:1")]).ok();
    let before = asked(&registry, "PATCH", "") + asked(&registry, "PUT", "/blobs/uploads/");
    store.dram(["push", "demo", &registry.name("two/demo:1")]).ok().says("4 of 4 blobs were taken from other");
    assert_eq!(asked(&registry, "PATCH", "") + asked(&registry, "PUT", "/blobs/uploads/"), before, "nothing is sent");
    // From one repository to another of the same registry, by a machine that has nothing of it.
    let (from, to) = (registry.name("two/demo:1"), registry.name("three/demo:2"));
    let other = Store::empty();
    copy(&other, &format!("docker://{from}"), &format!("docker://{to}")).says("taken from other");
    assert!(!other.path().exists(), "such a copy needs no store");
    assert_eq!(asked(&registry, "PATCH", "") + asked(&registry, "PUT", "/blobs/uploads/"), before);
    // From one registry to another all is sent, by way of nothing.
    let second = Debian::plain();
    copy(&other, &format!("docker://{from}"), &format!("docker://{}", second.name("x:1")));
    assert!(!other.path().exists());
    let back = Store::empty();
    back.dram(["pull", "-q", &second.name("x:1")]).ok();
    assert_eq!(back.digest(&second.name("x:1")), store.digest("demo"));
}

#[test]
fn an_index_and_what_refers_to_it_go_through_registries() {
    let (store, place, registry) = (Store::empty(), Place::new(), Debian::plain());
    let mut layout = Layout::new(&place.path("many"));
    let images: Vec<Value> = ["linux/amd64", "linux/arm64"].map(|platform| layout.image(platform)).into();
    let index = layout.index(&images);
    layout.list(index.clone(), Some("many"));
    let name = registry.name("many:1");
    let (from, there) = (place.at("oci", "many:many"), format!("docker://{name}"));
    let done = store.dram(["copy", "--all", &from, &there]).ok();
    assert_eq!(done.stdout.trim(), digest(&index));
    let raw = tool("skopeo").args(["inspect", "--raw", "--tls-verify=false", &there]).ok().stdout;
    assert!(raw.contains(digest(&images[1])), "{raw}");
    store.dram(["pull", "--platform", "linux/arm64", &name]).ok();
    assert_eq!(store.digest(&name), digest(&images[1]));
    assert_eq!(store.digest(&format!("many@{}", digest(&index))), digest(&images[1]));
    store.dram(["pull", "--platform", "linux/s390x", &name]).fails(1).says("it has linux/amd64, linux/arm64");
    let back = store.dram(["copy", "--all", &there, &place.at("oci", "back:many")]).ok();
    assert_eq!(back.stdout.trim(), digest(&index));
    // Referrers, by the tag that stands in for them where a registry has no list of its own.
    let empty = layout.blob("application/vnd.oci.empty.v1+json", b"{}");
    let signature = layout.document(
        MANIFEST,
        &json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "artifactType": "text/plain", "config": empty, "layers": [layout.blob("text/plain", b"signed")],
        "subject": {"mediaType": INDEX, "digest": index["digest"], "size": index["size"]}}),
    );
    layout.list(signature.clone(), None);
    store.dram(["copy", "--all", "--referrers", &from, &there]).ok();
    store.dram(["copy", "--all", "--referrers", &there, &place.at("oci", "signed:x")]).ok();
    assert!(place.path("signed/blobs/sha256").join(&digest(&signature)[7..]).is_file());
}

#[test]
fn who_may_not_is_told_and_logs_in() {
    let (store, registry) = (with_demo(), Debian::basic());
    let name = registry.name("demo:1");
    store.dram(["push", "demo", &name]).fails(4).says(&format!("dram login {}", registry.host()));
    store.dram(["pull", &name]).fails(4);
    let login = |word: &str| {
        store.dram(["login", "-u", USER, "--password-stdin", &registry.host()]).stdin(format!("{word}\n")).end()
    };
    let wrong = login("wrong");
    assert_eq!(wrong.code, 4, "{wrong}");
    assert!(!store.path().parent().unwrap().join("config.json").exists(), "what is wrong is not kept");
    let right = login(WORD);
    assert_eq!(right.code, 0, "{right}");
    assert!(!format!("{right}").contains(WORD), "{right}");
    store.dram(["push", "demo", &name]).ok().does_not_say(WORD);
    store.dram(["pull", &name]).ok();
    store.dram(["logout", &registry.host()]).ok();
    store.dram(["pull", &name]).fails(4);
    store.dram(["login", "--password-stdin", &registry.host()]).stdin("x").fails(2).says("--username");
    store.dram(["login", "-u", "x", &registry.host()]).fails(2).says("--password-stdin");
}

#[test]
fn a_base_image_comes_from_its_registry_when_it_is_needed() {
    let (maker, registry) = (with_demo(), Debian::plain());
    let name = registry.name("base:1");
    maker.dram(["push", "demo", &name]).ok();
    let text = format!(
        "FROM {name} AS unused\nRUN false\nFROM {name}\nRUN cat /one > /three\nCOPY --from={name} /two /four\n"
    );
    let (store, context) = (Store::empty(), Context::new(&text));
    store.build(&context).ok();
    assert_eq!(store.sh("cat /three /four").stdout, "one\ntwo\n");
    valid_image(&store, "demo:latest");
    assert_eq!(store.digest(&name), maker.digest("demo"), "the base has its name now");
    let before = registry.requests().len();
    assert_eq!(store.build(&context).ok().steps(), (0, 2));
    assert_eq!(registry.requests().len(), before, "and nobody is asked again");
    // Unless one wants to know, of another image under the name.
    store.build(&context).args(["--pull"]).ok();
    assert!(registry.requests().len() > before);
    assert_eq!(asked(&registry, "GET", "/blobs/"), 4, "what is the same is not fetched again");
    let other = Context::new("FROM parity-base\nRUN echo new > /one && echo two > /two\n");
    maker.build(&other).ok();
    maker.dram(["push", "demo", &name]).ok();
    assert_eq!(store.build(&context).ok().steps(), (0, 2));
    store.build(&context).arg("--pull").ok();
    assert_eq!(store.sh("cat /three").stdout, "new\n");
    let never = Store::empty();
    never.build(&context).arg("--pull=never").fails(1).says("the store has no image");
    assert_eq!(never.dram(["run", "--pull", "never", &name]).fails(1).stdout, "");
    assert_eq!(never.dram(["run", &name, "cat", "/one"]).ok().stdout, "new\n");
}

#[test]
fn what_no_step_looks_into_is_not_fetched() {
    let (maker, registry) = (with_demo(), Debian::plain());
    let name = registry.name("base:1");
    maker.dram(["push", "demo", &name]).ok();
    let store = Store::empty();
    let context =
        Context::new(&format!("FROM {name} AS one\nENV A=1\nFROM scratch\nCOPY Dockerfile /\nFROM one\nLABEL a=b\n"));
    let pushed = registry.name("team/result:1");
    store.dram(["build", "--push", "-t", &pushed]).arg(context.path()).ok();
    assert_eq!(asked(&registry, "GET", "/blobs/"), 1, "the configuration, and no layer");
    assert_eq!(asked(&registry, "POST", "from=base"), 3, "the layers are the registry's own");
    let other = Store::empty();
    other.dram(["pull", "-q", &pushed]).ok();
    assert_eq!(other.dram(["run", &pushed]).ok().stdout, "one\n");
    valid_image(&other, &pushed);
    // An image that is to be in the store is whole there.
    store.dram(["build", "-q", "-t", "here"]).arg(context.path()).ok();
    assert_eq!(store.dram(["run", "here"]).ok().stdout, "one\n");
    valid_image(&store, "here:latest");
    store.dram(["build", "--push"]).arg(context.path()).fails(2).says("--tag HOST/NAME:TAG");
    let kind = format!("type=registry,name={}", registry.name("team/other:2"));
    store.dram(["build", "-o", &kind, "-o", "type=image,name=also"]).arg(context.path()).ok();
    assert_eq!(store.digest("also"), store.digest("here"));
    store.dram(["pull", "-q", &registry.name("team/other:2")]).ok();
}

#[test]
fn an_image_that_cannot_be_had_says_from_whom() {
    let store = Store::empty();
    let context = Context::new("FROM nosuch:1\n");
    let done = store.build(&context).fails(1);
    done.says("the store has no image `nosuch:1`").says("cannot read docker.io/library/nosuch:1").says("dram load");
    store.dram(["run", "nosuch"]).fails(1).says("docker.io");
    let registry = Debian::plain();
    let name = registry.name("nosuch:1");
    let done = store.build(&Context::new(&format!("FROM {name}\n"))).fails(1);
    done.says(&name).says("404");
    store.dram(["pull", &name]).fails(4).says("404");
    drop(registry);
    store.dram(["pull", &name]).env("DRAM_NETWORK_TIMEOUT", "0.1").fails(1).says(&name);
}
