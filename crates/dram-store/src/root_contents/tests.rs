use std::fs;

use dram_image::tar::{TarEntry, TarEntryKind, TarWriter};
use dram_image::{Reference, TreePath};
use serde_json::{Value, json};

use super::*;
use crate::{FsckOptions, FsckReport, LayerId, PruneOptions};

/// A store with the name `app:1` for an index: two platforms and an attestation, of which one platform is in a nested
/// index.
struct IndexStore {
    _dir: tempfile::TempDir,
    store: Store,
    root: Descriptor,
    /// The manifests for amd64 and arm64, and the attestation.
    manifests: Vec<Descriptor>,
    nested: Descriptor,
    /// The layer that both platforms have.
    shared: Descriptor,
    /// The layer of the attestation.
    statement: Descriptor,
}

fn put(store: &Store, kind: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(kind, store.blobs().put(bytes).unwrap(), bytes.len() as u64)
}

fn put_json(store: &Store, kind: &str, value: &Value) -> Descriptor {
    put(store, kind, value.to_string().as_bytes())
}

fn put_layer(store: &Store, name: &str) -> Descriptor {
    let mut writer = TarWriter::new(Vec::new());
    let kind = TarEntryKind::File { size: 0 };
    let path = TreePath::parse(name.as_bytes()).unwrap();
    let entry = TarEntry { path, kind, mode: 0o644, uid: 0, gid: 0, mtime: 1, xattrs: vec![] };
    writer.append(&entry, &mut &b""[..]).unwrap();
    put(store, MediaType::LAYER, &writer.finish().unwrap())
}

fn put_manifest(
    store: &Store,
    config: &Descriptor,
    layers: &[&Descriptor],
    os: &str,
    architecture: &str,
) -> Descriptor {
    let value = json!({"schemaVersion": 2, "mediaType": MediaType::MANIFEST, "config": config, "layers": layers});
    let platform = ImagePlatform { os: os.to_owned(), architecture: architecture.to_owned(), variant: None };
    Descriptor { platform: Some(platform), ..put_json(store, MediaType::MANIFEST, &value) }
}

fn put_image(store: &Store, architecture: &str, layers: &[&Descriptor]) -> Descriptor {
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.digest.to_string()).collect();
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    let config = json!({"architecture": architecture, "os": "linux", "rootfs": rootfs});
    let config = put_json(store, MediaType::CONFIG, &config);
    put_manifest(store, &config, layers, "linux", architecture)
}

fn put_index(store: &Store, entries: &[Descriptor]) -> Descriptor {
    let value = json!({"schemaVersion": 2, "mediaType": MediaType::INDEX, "manifests": entries});
    put_json(store, MediaType::INDEX, &value)
}

impl IndexStore {
    fn new() -> IndexStore {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let shared = put_layer(&store, "shared");
        let (amd, arm) = (put_layer(&store, "amd"), put_layer(&store, "arm"));
        let statement = put(&store, "application/vnd.in-toto+json", b"{}");
        let empty = put(&store, "application/vnd.oci.empty.v1+json", b"{}");
        let manifests = vec![
            put_image(&store, "amd64", &[&shared, &amd]),
            put_image(&store, "arm64", &[&shared, &arm]),
            put_manifest(&store, &empty, &[&statement], "unknown", "unknown"),
        ];
        let nested = put_index(&store, &manifests[1..2]);
        let root = put_index(&store, &[manifests[0].clone(), nested.clone(), manifests[2].clone()]);
        store.refs().set(&[name("app:1")], &root).unwrap();
        IndexStore { _dir: dir, store, root, manifests, nested, shared, statement }
    }
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

fn fsck(store: &Store, repair: bool) -> FsckReport {
    let parallel = |count: usize, job: &(dyn Fn(usize) + Sync)| (0..count).for_each(job);
    store.fsck(&FsckOptions { repair, parallel: &parallel, repack: &|_, _, _, _| unreachable!() }).unwrap()
}

#[test]
fn contents_of_an_index_are_all_its_documents_and_layers() {
    let made = IndexStore::new();
    let contents = made.store.root_contents(&made.root);
    let digests: Vec<Digest> = contents.manifests.iter().map(|manifest| manifest.descriptor.digest).collect();
    assert_eq!(digests, made.manifests.iter().map(|manifest| manifest.digest).collect::<Vec<_>>());
    assert_eq!(contents.manifests.iter().map(ManifestContents::is_image).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(contents.manifests[1].platform().unwrap().to_string(), "linux/arm64");
    assert_eq!(contents.manifests.iter().map(|manifest| manifest.layers().count()).collect::<Vec<_>>(), [2, 2, 0]);
    // Two indexes, three manifests, two configs and an empty one, which is the statement too, and three layers.
    assert_eq!((contents.blobs.len(), contents.unreadable.len()), (2 + 3 + 3 + 3, 0));
    assert_eq!(contents.blobs.iter().filter(|blob| blob.digest == made.shared.digest).count(), 1);
    assert!(contents.blobs.iter().any(|blob| blob.digest == made.statement.digest));
}

#[test]
fn deeply_nested_index_is_refused() {
    let made = IndexStore::new();
    let mut root = made.root.clone();
    for _ in 0..MAX_INDEX_DEPTH {
        root = put_index(&made.store, &[root]);
    }
    made.store.refs().set(&[name("deep:1")], &root).unwrap();
    let error = made.store.prune(&PruneOptions::default()).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("an index in an index"), "{error}: {cause}");
}

#[test]
fn reference_leads_to_the_index_by_name_and_by_digest() {
    let made = IndexStore::new();
    let refs = made.store.refs();
    assert_eq!(refs.get(&name("app:1")).unwrap(), Some(made.root.clone()));
    assert_eq!(refs.get(&name(&format!("app@{}", made.root.digest))).unwrap(), Some(made.root.clone()));
    // A manifest that was selected from an index is found by the digest of the index, too.
    let other = put_index(&made.store, &made.manifests[..1]);
    refs.set_from(&[name("one:1")], &made.manifests[0], Some(other.digest)).unwrap();
    assert_eq!(refs.get(&name(&format!("one@{}", other.digest))).unwrap().unwrap().digest, made.manifests[0].digest);
    assert_eq!(refs.list().unwrap().len(), 2);
    assert!(refs.remove("app:1").unwrap());
    assert_eq!(refs.get(&name("app:1")).unwrap(), None);
}

#[test]
fn prune_keeps_everything_of_an_index_until_its_name_is_removed() {
    let made = IndexStore::new();
    let blobs = made.store.blobs().list().unwrap().len();
    let unnamed = made.store.blobs().put(b"unnamed").unwrap();
    let layer = made.store.layers().unpack(&made.shared, &made.shared.digest, &[]).unwrap();
    let pruned = made.store.prune(&PruneOptions::default()).unwrap();
    assert_eq!((pruned.blobs, pruned.layers), (1, 0));
    assert_eq!(pruned.items[0].name, unnamed.to_string());
    assert_eq!(made.store.blobs().list().unwrap().len(), blobs);
    assert_eq!(layer, LayerId::from_diff_id(&made.shared.digest));
    let image = &made.store.usage().unwrap().images[0];
    assert_eq!((image.name.as_str(), image.shared), ("app:1", 0));
    assert!(image.bytes > 0);
    made.store.refs().remove("app:1").unwrap();
    let pruned = made.store.prune(&PruneOptions::default()).unwrap();
    assert_eq!((pruned.blobs, pruned.layers), (blobs, 1));
}

#[test]
fn blobs_of_two_images_of_one_index_are_counted_once() {
    let made = IndexStore::new();
    made.store.refs().set(&[name("one:1")], &made.manifests[0]).unwrap();
    let images = made.store.usage().unwrap().images;
    let [app, one] = &images[..] else { panic!("{images:?}") };
    assert_eq!((app.shared, one.shared), (one.bytes, one.bytes));
    let sizes = made.store.blobs().list().unwrap().len() as u64;
    assert!(app.bytes <= sizes * 4096, "{app:?}");
}

#[test]
fn fsck_names_each_missing_part_of_an_index() {
    let made = IndexStore::new();
    let found = fsck(&made.store, false);
    assert_eq!((found.findings, found.names), (vec![], 1));
    let arm = &made.manifests[1];
    for (lost, says) in [
        (&made.root, "the store has no blob"),
        (&made.nested, "the store has no blob"),
        (arm, "the manifest for linux/arm64"),
        (&made.shared, "the store has no blob"),
        (&made.statement, "the store has no blob"),
    ] {
        let path = made.store.blobs().path(&lost.digest);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let found = fsck(&made.store, false);
        let [finding] = &found.findings[..] else { panic!("{:?}", found.findings) };
        assert_eq!(finding.path, "oci/index.json");
        assert!(finding.problem.starts_with("the image app:1 is damaged: "), "{finding:?}");
        assert!(finding.problem.contains(&lost.digest.to_string()) && finding.problem.contains(says), "{finding:?}");
        fs::write(&path, &bytes[1..]).unwrap();
        let found = fsck(&made.store, false);
        assert!(found.findings.iter().any(|finding| finding.cost == "the image app:1"), "{:?}", found.findings);
        fs::write(&path, bytes).unwrap();
    }
    fs::remove_file(made.store.blobs().path(&arm.digest)).unwrap();
    assert!(fsck(&made.store, true).findings.iter().all(|finding| finding.repaired));
    assert_eq!(made.store.refs().list().unwrap(), [], "nothing makes it whole, so the name goes");
}

#[test]
fn lost_names_are_replaced_by_one_name_for_each_root() {
    let made = IndexStore::new();
    let alone = put_image(&made.store, "riscv64", &[&made.shared]);
    fs::write(made.store.join("oci/index.json"), "damaged").unwrap();
    fs::remove_file(made.store.join("index.copy")).unwrap();
    fsck(&made.store, true);
    let roots: BTreeSet<(String, String)> =
        made.store.refs().list().unwrap().into_iter().map(|tagged| (tagged.name, tagged.root.media_type)).collect();
    let lost = |root: &Descriptor, kind: &str| (format!("lost:{}", &root.digest.hex()[..12]), kind.to_owned());
    let wanted = [lost(&made.root, MediaType::INDEX), lost(&alone, MediaType::MANIFEST)];
    assert_eq!(roots, BTreeSet::from(wanted));
}
