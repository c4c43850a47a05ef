//! `dram copy`, `push` and `pull`: digests are preserved, and other tools read the results.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::registry::debian::{Debian, USER, WORD};
use crate::support::{BASE, CommandOutput, Context, Store, list, names, temp, tool, valid_image};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Returns a store with the image `demo` of three layers.
fn with_demo() -> Store {
    let store = Store::with_base();
    store
        .build(&Context::new("FROM parity-base\nRUN echo one > /one\nRUN echo two > /two\nCMD [\"cat\", \"/one\"]\n"))
        .ok();
    store
}

/// A directory, and addresses of layouts and archives in it.
struct TransferDir {
    dir: TempDir,
}

impl TransferDir {
    fn new() -> TransferDir {
        TransferDir { dir: temp() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn address(&self, kind: &str, name: &str) -> String {
        format!("{kind}:{}", self.path(name).display())
    }
}

fn copy(store: &Store, from: &str, to: &str) -> CommandOutput {
    store.dram(["copy", from, to]).ok()
}

/// Returns the digest of the manifest that skopeo reads at an address.
fn skopeo_digest(address: &str) -> String {
    let raw = tool("skopeo").args(["inspect", "--raw", address]).ok().stdout;
    let sum = tool("sha256sum").stdin(raw).ok().stdout;
    format!("sha256:{}", &sum[..64])
}

/// A handmade layout with valid blobs.
pub(crate) struct HandmadeLayout {
    path: PathBuf,
    listed: Vec<Value>,
}

impl HandmadeLayout {
    pub(crate) fn new(path: &Path) -> HandmadeLayout {
        fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        HandmadeLayout { path: path.to_owned(), listed: Vec::new() }
    }

    pub(crate) fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let sum = tool("sha256sum").stdin(bytes).ok().stdout;
        fs::write(self.path.join("blobs/sha256").join(&sum[..64]), bytes).unwrap();
        json!({"mediaType": kind, "digest": format!("sha256:{}", &sum[..64]), "size": bytes.len()})
    }

    pub(crate) fn document(&self, kind: &str, document: &Value) -> Value {
        self.blob(kind, document.to_string().as_bytes())
    }

    /// Writes an image without layers for a platform, `os/architecture`, and returns its descriptor.
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

    pub(crate) fn index(&self, entries: &[Value]) -> Value {
        self.document(INDEX, &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}))
    }

    pub(crate) fn list(&mut self, mut entry: Value, name: Option<&str>) {
        if let Some(name) = name {
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        }
        self.listed.push(entry);
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": self.listed});
        fs::write(self.path.join("index.json"), index.to_string()).unwrap();
    }
}

pub(crate) fn digest_of(entry: &Value) -> &str {
    entry["digest"].as_str().unwrap()
}

#[test]
fn an_image_keeps_its_digest_through_every_transport() {
    let (store, place) = (with_demo(), TransferDir::new());
    let wanted = store.digest("demo");
    let layout = place.address("oci", "layout:demo");
    let archive = place.address("oci-archive", "oci.tar:some/name:1");
    let docker = place.address("docker-archive", "docker.tar:some/name:2");
    for (from, to) in
        [("store:demo", &layout), (&layout, &archive), (&archive, &docker), (&docker, &"store:back:3".to_owned())]
    {
        let done = copy(&store, from, to);
        assert_eq!(done.stdout.trim(), wanted, "{from} to {to}");
    }
    for address in [&layout, &archive] {
        assert_eq!(skopeo_digest(address), wanted, "{address}");
    }
    // skopeo creates a new manifest from a Docker archive, so only the config can be compared.
    let config = tool("skopeo").args(["inspect", "--config", "--raw", &docker]).ok().stdout;
    assert!(config.contains("/one"), "{config}");
    let other = Store::empty();
    copy(&other, &docker, "store:demo");
    assert_eq!(other.digest("demo"), wanted);
    assert_eq!(other.sh("cat /one /two").stdout, "one\ntwo\n");
    valid_image(&other, "demo:latest");
    // The second copy transfers nothing.
    other.dram(["copy", &layout, "store:demo"]).ok().says("4 of 4 blobs already existed");
    assert_eq!(names(&store.join("work")), ["gate"]);
    assert_eq!(names(&place.path("")), ["docker.tar", "layout", "oci.tar"], "no half written files");
}

#[test]
fn images_written_by_skopeo_are_copied_from_every_transport() {
    let (store, place) = (with_demo(), TransferDir::new());
    let (wanted, from) = (store.digest("demo"), format!("oci:{}:demo:latest", store.join("oci").display()));
    for (kind, name) in
        [("oci", "layout:demo:1"), ("oci-archive", "oci.tar:demo:1"), ("docker-archive", "docker.tar:demo:1")]
    {
        let address = place.address(kind, name);
        tool("skopeo").args(["copy", "--insecure-policy", "--quiet", &from, &address]).ok();
        let other = Store::empty();
        copy(&other, &address, "store:demo");
        assert_eq!(other.digest("demo"), wanted, "{kind}");
        assert_eq!(other.sh("cat /one /two").stdout, "one\ntwo\n");
    }
    // A compressed archive can be read too.
    tool("gzip").arg(place.path("oci.tar")).ok();
    let other = Store::empty();
    copy(&other, &place.address("oci-archive", "oci.tar.gz:demo:1"), "store:demo");
    assert_eq!(other.digest("demo"), wanted);
}

#[test]
fn one_platform_is_picked_from_an_index_or_all_are_copied() {
    let (store, place) = (Store::empty(), TransferDir::new());
    let mut layout = HandmadeLayout::new(&place.path("many"));
    let images: Vec<Value> =
        ["linux/amd64", "linux/arm64", "linux/s390x"].map(|platform| layout.image(platform)).into();
    let index = layout.index(&[layout.index(&images[..2]), images[2].clone()]);
    layout.list(index.clone(), Some("many"));
    let from = place.address("oci", "many:many");
    let arm = store.dram(["copy", "--platform", "linux/arm64", &from]).arg(place.address("oci", "arm:x")).end();
    assert_eq!(arm.code, 1, "an index in an index has no platform\n{arm}");
    let flat = layout.index(&images);
    layout.list(flat.clone(), Some("flat"));
    let from = place.address("oci", "many:flat");
    let arm = store.dram(["copy", "--platform", "linux/arm64", &from]).arg(place.address("oci", "arm:x")).ok();
    assert_eq!(arm.stdout.trim(), digest_of(&images[1]));
    assert_eq!(names(&place.path("arm/blobs/sha256")).len(), 2);
    let none = store.dram(["copy", "--platform", "linux/riscv64", &from]).arg(place.address("oci", "no:x")).fails(1);
    none.says("has no image for linux/riscv64").says("it has linux/amd64, linux/arm64, linux/s390x");
    // The whole index, from one transport to the next.
    for (from, to) in [
        ("oci:many:many", "oci:all:many"),
        ("oci:all:many", "oci-archive:all.tar:many"),
        ("oci-archive:all.tar", "oci:again:many"),
    ] {
        let done = store.dram(["copy", "--all", from, to]).dir(place.path("")).ok();
        assert_eq!(done.stdout.trim(), digest_of(&index), "{from} to {to}");
    }
    assert_eq!(names(&place.path("again/blobs/sha256")).len(), 8);
    assert_eq!(skopeo_digest(&place.address("oci", "again:many")), digest_of(&index));
    store.dram(["copy", "--all", "oci:many:many", "store:x"]).dir(place.path("")).ok();
    assert_eq!(store.digest("x"), digest_of(&index));
    store.dram(["copy", "--all", "oci:many:many", "docker-archive:x"]).dir(place.path("")).fails(2);
    store.dram(["copy", "--platform", "linux/amd64", "oci:many:flat", "store:x"]).dir(place.path("")).ok();
    assert_eq!(store.digest("x"), digest_of(&images[0]));
    assert_eq!(store.digest(&format!("x@{}", digest_of(&flat))), digest_of(&images[0]), "the index leads to its image");
    store.dram(["copy", "store:x", "oci:own"]).dir(place.path("")).ok();
    let own: Value = serde_json::from_slice(&fs::read(place.path("own/index.json")).unwrap()).unwrap();
    assert_eq!(own["manifests"][0]["annotations"], Value::Null, "the store's own notes stay in the store");
}

#[test]
fn referrers_are_copied_only_when_asked() {
    let (store, place) = (Store::empty(), TransferDir::new());
    let mut layout = HandmadeLayout::new(&place.path("from"));
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
    assert!(place.path("to/blobs/sha256").join(&digest_of(&of_signature)[7..]).is_file());
    assert!(!place.path("to/blobs/sha256").join(&digest_of(&other)[7..]).is_file());
}

#[test]
fn a_damaged_blob_fails_the_copy_and_no_name_is_written() {
    let (store, place) = (with_demo(), TransferDir::new());
    copy(&store, "store:demo", &place.address("oci", "layout:demo"));
    let manifest = &store.inspect("demo")["manifest"];
    let layer = place.path("layout/blobs/sha256").join(&digest_of(&manifest["layers"][1])[7..]);
    let whole = fs::read(&layer).unwrap();
    let mut flipped = whole.clone();
    flipped[40] ^= 1;
    let long = [&whole[..], b"x"].concat();
    for (bytes, why) in [(&flipped[..], "is damaged"), (&whole[..40], "it has 40 bytes"), (&long, "is damaged")] {
        fs::write(&layer, bytes).unwrap();
        let other = Store::empty();
        for to in ["store:x", "oci:x:x", "oci-archive:x.tar", "docker-archive:y.tar:a"] {
            let done = other.dram(["copy", &place.address("oci", "layout:demo"), to]).dir(place.path("")).fails(1);
            done.says(why).says(digest_of(&manifest["layers"][1]));
        }
        assert_eq!(other.dram(["images", "--json"]).ok().stdout.trim(), "[]");
        assert!(!place.path("x.tar").exists() && !place.path("y.tar").exists() && !place.path("x/index.json").exists());
        assert!(!names(&place.path("x/blobs/sha256")).iter().any(|name| name.contains("new")));
    }
    // A damaged blob at the destination is replaced.
    fs::write(&layer, &whole).unwrap();
    let other = place.address("oci", "other:demo");
    copy(&store, "store:demo", &other);
    fs::write(place.path("other/blobs/sha256").join(layer.file_name().unwrap()), &flipped).unwrap();
    copy(&store, "store:demo", &other).says("3 of 4 blobs already existed");
    assert_eq!(fs::read(place.path("other/blobs/sha256").join(layer.file_name().unwrap())).unwrap(), whole);
}

#[test]
fn invalid_addresses_are_refused() {
    let (store, place) = (with_demo(), TransferDir::new());
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

/// Concurrent writers of one layout do not lose each other's names.
#[test]
fn eight_concurrent_copies_into_one_layout_keep_every_name() {
    let (store, place) = (with_demo(), TransferDir::new());
    let all: Vec<_> = (0..8)
        .map(|number| {
            store.dram(["copy", "-q", "store:demo", &place.address("oci", &format!("one:n{number}"))]).start()
        })
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

/// Returns the number of requests with this method and this text in the path.
fn count_requests(registry: &Debian, method: &str, part: &str) -> usize {
    registry.requests().iter().filter(|line| line.starts_with(method) && line.contains(part)).count()
}

#[test]
fn an_image_is_pushed_and_pulled_and_others_read_it() {
    let (store, registry, place) = (with_demo(), Debian::plain(), TransferDir::new());
    let (wanted, name) = (store.digest("demo"), registry.name("team/demo:1"));
    let pushed = store.dram(["push", "demo", &name]).ok();
    assert_eq!(pushed.stdout.trim(), format!("{}@{wanted}", registry.name("team/demo")));
    let theirs = tool("skopeo").args(["inspect", "--tls-verify=false", &format!("docker://{name}")]).ok().stdout;
    assert_eq!(serde_json::from_str::<Value>(&theirs).unwrap()["Digest"], wanted);
    // Blobs that the registry has are not sent again, nor are they asked for.
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
    other.dram(["pull", &name]).ok().says("4 of 4 blobs already existed");
    let by_digest = format!("{}@{wanted}", registry.name("team/demo"));
    let third = Store::empty();
    third.dram(["pull", "-q", &by_digest]).ok();
    assert_eq!(third.dram(["run", &by_digest]).ok().stdout, "one\n");
    third.dram(["inspect", &name]).fails(1);
    assert!(third.dram(["images"]).ok().stdout.contains(&wanted[..19]));
    // Copies between the registry and every other transport, without a store in between.
    let from = format!("docker://{name}");
    for to in [place.address("oci", "layout:demo"), place.address("oci-archive", "demo.tar:demo")] {
        assert_eq!(copy(&store, &from, &to).stdout.trim(), wanted);
        assert_eq!(copy(&store, &to, &format!("docker://{}", registry.name("team/again:1"))).stdout.trim(), wanted);
    }
    copy(&store, &from, &place.address("docker-archive", "docker.tar:demo:1"));
    assert_eq!(copy(&store, &place.address("docker-archive", "docker.tar"), "store:back").stdout.trim(), wanted);
}

#[test]
fn blobs_of_other_repositories_are_mounted_and_not_sent() {
    let (store, registry) = (with_demo(), Debian::plain());
    store.dram(["push", "demo", &registry.name("one/demo:1")]).ok();
    let before = count_requests(&registry, "PATCH", "") + count_requests(&registry, "PUT", "/blobs/uploads/");
    store.dram(["push", "demo", &registry.name("two/demo:1")]).ok().says("4 of 4 blobs were mounted from other");
    assert_eq!(
        count_requests(&registry, "PATCH", "") + count_requests(&registry, "PUT", "/blobs/uploads/"),
        before,
        "nothing is sent"
    );
    // From one repository to another of the same registry, by a machine that has none of the blobs.
    let (from, to) = (registry.name("two/demo:1"), registry.name("three/demo:2"));
    let other = Store::empty();
    copy(&other, &format!("docker://{from}"), &format!("docker://{to}")).says("mounted from other");
    assert!(!other.path().exists(), "such a copy needs no store");
    assert_eq!(count_requests(&registry, "PATCH", "") + count_requests(&registry, "PUT", "/blobs/uploads/"), before);
    // From one registry to another, all blobs are sent without being stored locally.
    let second = Debian::plain();
    copy(&other, &format!("docker://{from}"), &format!("docker://{}", second.name("x:1")));
    assert!(!other.path().exists());
    let back = Store::empty();
    back.dram(["pull", "-q", &second.name("x:1")]).ok();
    assert_eq!(back.digest(&second.name("x:1")), store.digest("demo"));
}

#[test]
fn an_index_and_its_referrers_are_pushed_and_pulled() {
    let (store, place, registry) = (Store::empty(), TransferDir::new(), Debian::plain());
    let mut layout = HandmadeLayout::new(&place.path("many"));
    let images: Vec<Value> = ["linux/amd64", "linux/arm64"].map(|platform| layout.image(platform)).into();
    let index = layout.index(&images);
    layout.list(index.clone(), Some("many"));
    let name = registry.name("many:1");
    let (from, there) = (place.address("oci", "many:many"), format!("docker://{name}"));
    let done = store.dram(["copy", "--all", &from, &there]).ok();
    assert_eq!(done.stdout.trim(), digest_of(&index));
    let raw = tool("skopeo").args(["inspect", "--raw", "--tls-verify=false", &there]).ok().stdout;
    assert!(raw.contains(digest_of(&images[1])), "{raw}");
    store.dram(["pull", "--platform", "linux/arm64", &name]).ok();
    assert_eq!(store.digest(&name), digest_of(&images[1]));
    assert_eq!(store.digest(&format!("many@{}", digest_of(&index))), digest_of(&images[1]));
    store.dram(["pull", "--platform", "linux/s390x", &name]).fails(1).says("it has linux/amd64, linux/arm64");
    let back = store.dram(["copy", "--all", &there, &place.address("oci", "back:many")]).ok();
    assert_eq!(back.stdout.trim(), digest_of(&index));
    // Referrers through the fallback tag, for a registry without the referrers API.
    let empty = layout.blob("application/vnd.oci.empty.v1+json", b"{}");
    let signature = layout.document(
        MANIFEST,
        &json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "artifactType": "text/plain", "config": empty, "layers": [layout.blob("text/plain", b"signed")],
        "subject": {"mediaType": INDEX, "digest": index["digest"], "size": index["size"]}}),
    );
    layout.list(signature.clone(), None);
    store.dram(["copy", "--all", "--referrers", &from, &there]).ok();
    store.dram(["copy", "--all", "--referrers", &there, &place.address("oci", "signed:x")]).ok();
    assert!(place.path("signed/blobs/sha256").join(&digest_of(&signature)[7..]).is_file());
}

/// cosign signs an image by a manifest with the tag `sha256-HEX.sig`.
#[test]
fn attached_signatures_are_copied_with_the_referrers() {
    let (store, place, registry) = (Store::empty(), TransferDir::new(), Debian::plain());
    let mut layout = HandmadeLayout::new(&place.path("from"));
    let images: Vec<Value> = ["linux/amd64", "linux/arm64"].map(|platform| layout.image(platform)).into();
    let index = layout.index(&images);
    layout.list(index.clone(), Some("many"));
    let config = layout.blob(
        "application/vnd.oci.image.config.v1+json",
        b"{\"architecture\":\"\",\"os\":\"\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}",
    );
    let tag = |of: &Value, end: &str| format!("{}.{end}", digest_of(of).replace(':', "-"));
    let mut tags = Vec::new();
    for (of, end) in [(&index, "sig"), (&index, "att"), (&index, "sbom"), (&images[1], "sig")] {
        let layer = layout.blob("application/vnd.dev.cosign.simplesigning.v1+json", end.as_bytes());
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
            "annotations": {"of": digest_of(of)}});
        let signature = layout.document(MANIFEST, &manifest);
        layout.list(signature.clone(), Some(&tag(of, end)));
        tags.push((tag(of, end), digest_of(&signature).to_owned()));
    }
    let there = |repository: &str, tag: &str| format!("docker://{}", registry.name(&format!("{repository}:{tag}")));
    for (tag, _) in &tags {
        store.dram(["copy", &place.address("oci", &format!("from:{tag}")), &there("signed", tag)]).ok();
    }
    let own = place.address("oci", "from:many");
    store.dram(["copy", "--all", &own, &there("signed", "1")]).ok();
    store.dram(["copy", "--all", &there("signed", "1"), &there("plain", "1")]).ok();
    tool("skopeo").args(["inspect", "--raw", "--tls-verify=false", &there("plain", &tags[0].0)]).fails(1);
    // From one repository to another, by way of a layout and of an archive.
    let (lay, tar) = (place.address("oci", "lay:many"), place.address("oci-archive", "many.tar:many"));
    for (from, to) in [
        (there("signed", "1"), there("copied", "1")),
        (there("copied", "1"), lay.clone()),
        (lay, tar.clone()),
        (tar, there("back", "1")),
    ] {
        store.dram(["copy", "--all", "--referrers", &from, &to]).ok();
    }
    for repository in ["copied", "back"] {
        for (tag, digest) in &tags {
            let address = there(repository, tag);
            let raw = tool("skopeo").args(["inspect", "--raw", "--tls-verify=false", &address]).ok().stdout;
            assert_eq!(digest_of(&layout.blob(MANIFEST, raw.as_bytes())), digest, "{address}");
        }
    }
    // What is attached to an image is no image that `load` would name.
    store.dram(["load", "--all-platforms", "-t", "loaded:1"]).arg(place.path("lay")).ok();
    assert_eq!(store.digest("loaded:1"), digest_of(&index));
}

#[test]
fn artifacts_and_encrypted_images_are_told_from_images() {
    let (store, place, registry) = (Store::empty(), TransferDir::new(), Debian::plain());
    let mut layout = HandmadeLayout::new(&place.path("from"));
    let helm = layout.blob("application/vnd.cncf.helm.config.v1+json", b"{}");
    let chart = layout.blob("application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"chart");
    let config = json!({"os": "linux", "architecture": "amd64", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(&chart)]}});
    let config = layout.document("application/vnd.oci.image.config.v1+json", &config);
    let secret = layout.blob("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", b"chart");
    for (name, config, layer) in [("chart", &helm, &chart), ("secret", &config, &secret)] {
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        let entry = layout.document(MANIFEST, &manifest);
        layout.list(entry, Some(name));
        let name_there = registry.name(&format!("{name}:1"));
        store.dram(["copy", &place.address("oci", &format!("from:{name}")), &format!("docker://{name_there}")]).ok();
        let words = if name == "chart" {
            "no image, but an artifact of the type `application/vnd.cncf.helm"
        } else {
            "its layers are encrypted"
        };
        store.dram(["pull", &name_there]).fails(1).says(words);
        let context = Context::new(&format!("FROM {name_there}\n"));
        store.build(&context).end().says(words);
    }
    assert_eq!(store.dram(["images", "-q"]).end().stdout, "");
}

#[test]
fn a_layout_of_plain_tags_and_a_directory_of_skopeo_say_how_they_are_read() {
    let (store, place) = (with_demo(), TransferDir::new());
    for tag in ["one", "two"] {
        store.dram(["copy", "store:demo", &place.address("oci", &format!("lay:{tag}"))]).ok();
    }
    store.build(&Context::new("FROM parity-base\nRUN echo two > /two\n")).ok();
    let done = store.dram(["copy", "store:demo", &place.address("oci", "lay:two")]).ok();
    done.says("copied store:demo to oci:");
    let lay = place.path("lay");
    store.dram(["load"]).arg(&lay).fails(2).says("has no name but `").says("dram copy oci:").says("store:NAME");
    store.dram(["load", "-t", "x"]).arg(&lay).fails(2).says("holds several images").says("dram copy oci:");
    store.dram(["copy", &place.address("oci", "lay:two"), "store:two:2"]).ok().says("store:two:2");
    store.dram(["copy", "store:two:2", "store:three:3"]).ok().says("copied store:two:2 to store:three:3");
    let dir = place.address("dir", "skopeo");
    tool("skopeo").args(["copy", "-q", &place.address("oci", "lay:two"), &dir]).ok();
    store
        .dram(["load"])
        .arg(place.path("skopeo"))
        .fails(1)
        .says("directory of skopeo's `dir:`")
        .says("skopeo copy dir:");
}

#[test]
fn an_unauthorized_user_is_told_to_log_in() {
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
fn base_images_are_pulled_only_when_needed() {
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
    // `--pull` asks the registry if the tag has moved.
    store.build(&context).args(["--pull"]).ok();
    assert!(registry.requests().len() > before);
    assert_eq!(count_requests(&registry, "GET", "/blobs/"), 4, "what is the same is not fetched again");
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
fn base_layers_are_pulled_lazily() {
    let (maker, registry) = (with_demo(), Debian::plain());
    let name = registry.name("base:1");
    maker.dram(["push", "demo", &name]).ok();
    let store = Store::empty();
    let context =
        Context::new(&format!("FROM {name} AS one\nENV A=1\nFROM scratch\nCOPY Dockerfile /\nFROM one\nLABEL a=b\n"));
    let pushed = registry.name("team/result:1");
    store.dram(["build", "--push", "-t", &pushed]).arg(context.path()).ok();
    assert_eq!(count_requests(&registry, "GET", "/blobs/"), 1, "the configuration, and no layer");
    assert_eq!(count_requests(&registry, "POST", "from=base"), 3, "the layers are the registry's own");
    let other = Store::empty();
    other.dram(["pull", "-q", &pushed]).ok();
    assert_eq!(other.dram(["run", &pushed]).ok().stdout, "one\n");
    valid_image(&other, &pushed);
    // An image in the store is complete.
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
fn an_unavailable_image_names_its_registry() {
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
