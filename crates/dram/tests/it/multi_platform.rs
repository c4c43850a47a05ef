//! Images for several platforms: an index is kept with everything that it leads to, under one name.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::registry::fake::FakeRegistry;
use crate::support::{BASE, Context, Store, list, names, temp};
use crate::transfer::{HandmadeLayout, digest_of};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A layout with the index `many`: images for amd64 and arm64, and an attestation.
struct ManyPlatforms {
    dir: TempDir,
    index: String,
    amd64: String,
    arm64: String,
    attestation: String,
}

impl ManyPlatforms {
    fn new() -> ManyPlatforms {
        let (dir, store) = (temp(), Store::with_base());
        let mut layout = HandmadeLayout::new(&dir.path().join("many"));
        let image = |platform: &str, base: &str| {
            let context = Context::new(&format!("FROM {base}\nCOPY file /file\n")).file("file", platform);
            store.dram(["build", "-q", "--platform", platform, "-t", "one"]).arg(context.path()).ok();
            let to = format!("oci:{}", dir.path().join("many").display());
            store.dram(["copy", "-q", "store:one", &to]).ok();
            let manifest = dir.path().join("many/blobs/sha256").join(&store.digest("one")[7..]);
            let (os, architecture) = platform.split_once('/').unwrap();
            json!({"mediaType": MANIFEST, "digest": store.digest("one"), "size": fs::metadata(manifest).unwrap().len(),
                "platform": {"os": os, "architecture": architecture}})
        };
        let images = [image("linux/amd64", BASE), image("linux/arm64", "scratch")];
        let statement = layout.blob("application/vnd.in-toto+json", b"{\"_type\": \"statement\"}");
        let empty = layout.blob("application/vnd.oci.empty.v1+json", b"{}");
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": empty, "layers": [statement]});
        let mut attestation = layout.document(MANIFEST, &manifest);
        attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        attestation["annotations"] = json!({"vnd.docker.reference.digest": images[0]["digest"]});
        let index = layout.index(&[images[0].clone(), images[1].clone(), attestation.clone()]);
        layout.list(index.clone(), Some("many"));
        let text = |entry: &Value| digest_of(entry).to_owned();
        let (index, attestation) = (text(&index), text(&attestation));
        ManyPlatforms { dir, index, amd64: text(&images[0]), arm64: text(&images[1]), attestation }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn blobs(&self) -> Vec<String> {
        names(&self.path("many/blobs/sha256"))
    }

    /// Returns a store with the index as `app:1`.
    fn store(&self) -> Store {
        let store = Store::empty();
        store.dram(["load", "--all-platforms", "-t", "app:1"]).arg(self.path("many")).ok();
        store
    }
}

/// Returns the digest of the only image in the layout at `path`.
fn listed_digest(path: &Path) -> String {
    let index: Value = serde_json::from_slice(&fs::read(path.join("index.json")).unwrap()).unwrap();
    digest_of(&list(&index["manifests"])[0]).to_owned()
}

fn assert_intact(store: &Store) {
    let checked = store.dram(["fsck"]).ok();
    assert!(checked.stdout.ends_with(": 0 findings\n"), "{checked}");
}

#[test]
fn index_keeps_its_digest_through_registry_and_store() {
    let many = ManyPlatforms::new();
    let (store, registry) = (Store::empty(), FakeRegistry::new([]));
    let (from, name) = (format!("oci:{}:many", many.path("many").display()), registry.name("app:1"));
    store.dram(["copy", "--all", &from, &format!("docker://{name}")]).ok();
    assert_eq!(registry.tag("app", "1").as_ref(), Some(&many.index));
    store.dram(["pull", "--all-platforms", &name]).ok();
    assert_eq!(store.digest(&name), many.index);
    assert_eq!(store.blobs(), many.blobs(), "everything is here, and nothing else");
    assert_eq!(store.digest(&format!("app@{}", many.index)), many.index);
    // The registry is asked again, and has the same.
    store.dram(["run", "--pull", "always", &name, "cat", "/file"]).ok();
    assert_eq!(store.digest(&name), many.index, "the index is not replaced by one of its images");
    store.dram(["tag", &name, "mine:2"]).ok();
    store.dram(["push", "mine:2", &registry.name("other/app:3")]).ok();
    assert_eq!(registry.tag("other/app", "3").as_ref(), Some(&many.index));
    for digest in [&many.index, &many.amd64, &many.arm64, &many.attestation] {
        assert!(registry.manifest("other/app", digest).is_some(), "{digest}");
    }
    store.dram(["push", "--platform", "linux/arm64", "mine:2", &registry.name("other/app:arm")]).ok();
    assert_eq!(registry.tag("other/app", "arm").as_ref(), Some(&many.arm64));
    // One platform is pulled as before.
    let one = Store::empty();
    one.dram(["pull", &name]).ok();
    assert_eq!(one.digest(&name), many.amd64);
    assert_eq!(one.digest(&format!("app@{}", many.index)), many.amd64);
    assert_intact(&store);
}

#[test]
fn index_keeps_its_digest_through_archives_and_layouts() {
    let many = ManyPlatforms::new();
    let store = many.store();
    assert_eq!(store.digest("app:1"), many.index);
    store.dram(["save", "-o"]).arg(many.path("app.tar")).arg("app:1").ok();
    store.dram(["save", "-o"]).arg(many.path("saved/")).arg("app:1").ok();
    store.dram(["copy", "--all", "store:app:1", "oci:copied"]).dir(many.path("")).ok();
    store.dram(["copy", "--all-platforms", "store:app:1", "oci-archive:copied.tar"]).dir(many.path("")).ok();
    for layout in ["saved", "copied"] {
        assert_eq!(listed_digest(&many.path(layout)), many.index, "{layout}");
        assert_eq!(names(&many.path(layout).join("blobs/sha256")), many.blobs(), "{layout}");
    }
    for archive in ["app.tar", "copied.tar"] {
        let other = Store::empty();
        other.dram(["load", "--all-platforms", "-t", "back"]).arg(many.path(archive)).ok();
        assert_eq!(other.digest("back"), many.index, "{archive}");
        other.dram(["load", "--platform", "linux/arm64", "-t", "arm"]).arg(many.path(archive)).ok();
        assert_eq!(other.digest("arm"), many.arm64, "{archive}");
        other.dram(["load", "-t", "own"]).arg(many.path(archive)).ok();
        assert_eq!(other.digest("own"), many.amd64, "{archive}");
    }
    // Docker takes the image for this machine, from the same archive.
    let manifest = crate::support::tool("tar").arg("-xOf").arg(many.path("app.tar")).arg("manifest.json").ok().stdout;
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let config = store.inspect("app:1")["manifest"]["config"]["digest"].as_str().unwrap()[7..].to_owned();
    assert_eq!(manifest[0]["Config"], format!("blobs/sha256/{config}"));
    // One platform of it, and of `copy` without an option.
    store.dram(["save", "--platform", "linux/arm64", "-o"]).arg(many.path("arm/")).arg("app:1").ok();
    assert_eq!(listed_digest(&many.path("arm")), many.arm64);
    let copied = store.dram(["copy", "store:app:1", "oci:own"]).dir(many.path("")).ok();
    assert_eq!(copied.stdout.trim(), many.amd64);
    store.dram(["push", "app:1", "docker-archive:docker.tar"]).dir(many.path("")).ok();
    store.dram(["save", "--platform", "linux/s390x", "app:1"]).fails(1).says("it has linux/amd64, linux/arm64");
}

#[test]
fn index_is_shown_as_one_image() {
    let many = ManyPlatforms::new();
    let store = many.store();
    let rows: Value = serde_json::from_str(&store.dram(["images", "--json"]).ok().stdout).unwrap();
    let [row] = list(&rows) else { panic!("{rows}") };
    assert_eq!((row["name"].as_str(), row["digest"].as_str()), (Some("app"), Some(many.index.as_str())));
    assert_eq!(row["platforms"], json!(["linux/amd64", "linux/arm64"]));
    let sizes =
        many.blobs().into_iter().map(|name| fs::metadata(many.path("many/blobs/sha256").join(name)).unwrap().len());
    assert_eq!(row["compressed_size"].as_u64(), Some(sizes.sum()), "each blob once");
    let table = store.dram(["images"]).ok().stdout;
    assert!(table.lines().next().unwrap().ends_with("COMPRESSED  PLATFORMS"), "{table}");
    assert!(table.lines().nth(1).unwrap().ends_with('2'), "{table}");
    let inspected = store.inspect("app:1");
    let platforms: Vec<_> = list(&inspected["index"]).iter().map(|entry| entry["platform"].clone()).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64", "unknown/unknown"]);
    assert_eq!(inspected["config"]["architecture"], "amd64");
    assert_eq!(inspected["names"], json!(["app:1"]));
    let arm = store.dram(["inspect", "--platform", "linux/arm64", "app:1"]).ok().stdout;
    let arm: Value = serde_json::from_str(&arm).unwrap();
    assert_eq!((arm["digest"].as_str(), arm["config"]["architecture"].as_str()), (Some(&*many.arm64), Some("arm64")));
    assert_eq!(store.digest(&many.index[7..27]), many.index, "by its digest, too");
    assert_ne!(
        store.dram(["history", "app:1"]).ok().stdout,
        store.dram(["history", "--platform", "linux/arm64", "app:1"]).ok().stdout
    );
    let missing = store.dram(["history", "--platform", "linux/s390x", "app:1"]).fails(1);
    missing.says("`app:1` in the store has no image for linux/s390x; it has linux/amd64, linux/arm64");
    // Without an index, the table is the old one.
    store.dram(["tag", &many.amd64[7..27], "one:1"]).ok();
    store.dram(["rm", "app:1"]).ok();
    let table = store.dram(["images"]).ok().stdout;
    assert!(table.lines().next().unwrap().ends_with("  COMPRESSED"), "{table}");
}

#[test]
fn build_and_run_use_this_machines_platform_of_an_index() {
    let many = ManyPlatforms::new();
    let store = many.store();
    assert_eq!(store.dram(["run", "--pull", "never", "app:1", "cat", "/file"]).ok().stdout, "linux/amd64");
    let context = Context::new("FROM app:1\nCOPY more /more\n").file("more", "more");
    let build = |platform: &str| {
        let built = store.dram(["build", "--pull=never", "--platform", platform, "-t", "built"]).arg(context.path());
        built.end()
    };
    assert_eq!(build("linux/amd64").code, 0);
    assert_eq!(store.dram(["run", "built", "cat", "/file", "/more"]).ok().stdout, "linux/amd64more");
    let arm = build("linux/arm64");
    assert_eq!((arm.code, store.inspect("built")["config"]["architecture"].as_str()), (0, Some("arm64")), "{arm}");
    let missing = build("linux/s390x");
    assert_eq!(missing.code, 1, "{missing}");
    missing.says("has no image for linux/s390x; it has linux/amd64, linux/arm64").says("Dockerfile:1");
    store.dram(["run", "--pull", "never", "--platform", "linux/s390x", "app:1"]).fails(1).says("it has linux/amd64");
    assert_eq!(store.digest("app:1"), many.index);
}

#[test]
fn index_is_kept_by_prune_and_checked_by_fsck() {
    let many = ManyPlatforms::new();
    let store = many.store();
    store.dram(["prune", "--all"]).ok();
    assert_eq!(store.blobs(), many.blobs());
    let usage: Value = serde_json::from_str(&store.dram(["df", "--json"]).ok().stdout).unwrap();
    assert_eq!(list(&usage["images"]).len(), 1, "{usage}");
    assert_intact(&store);
    let lost = store.join("oci/blobs/sha256").join(&many.arm64[7..]);
    let bytes = fs::read(&lost).unwrap();
    fs::remove_file(&lost).unwrap();
    let damaged = store.dram(["fsck"]).fails(1);
    let text = format!("{damaged}");
    assert!(text.contains("the image app:1 is damaged") && text.contains(&many.arm64), "{text}");
    assert!(text.contains("the manifest for linux/arm64"), "{text}");
    store.dram(["prune"]).fails(1).says(&many.arm64);
    store.dram(["push", "app:1", "oci:broken"]).dir(many.path("")).fails(1).says(&many.arm64);
    fs::write(&lost, bytes).unwrap();
    assert_intact(&store);
    store.dram(["rm", "app:1"]).ok();
    store.dram(["prune"]).ok();
    assert_eq!(store.blobs(), Vec::<String>::new());
}
