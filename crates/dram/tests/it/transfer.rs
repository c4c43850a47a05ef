//! Images from one place to another: every byte arrives as it was, and other tools read what arrived.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

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
