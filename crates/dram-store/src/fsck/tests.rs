use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use dram_image::tar::{TarEntry, TarEntryKind, TarWriter};
use dram_image::{Descriptor, MediaType, TreePath};

use super::*;
use crate::{Dir, IdMapping};

fn entry(path: &str, kind: TarEntryKind, mode: u32) -> TarEntry {
    let path = TreePath::parse(path.as_bytes()).unwrap();
    TarEntry { path, kind, mode, uid: 0, gid: 0, mtime: 1_000_000, xattrs: vec![] }
}

fn file(path: &str, text: &'static str) -> (TarEntry, &'static str) {
    (entry(path, TarEntryKind::File { size: text.len() as u64 }, 0o644), text)
}

fn dir(path: &str, mode: u32) -> (TarEntry, &'static str) {
    (entry(path, TarEntryKind::Dir, mode), "")
}

fn tar(entries: &[(TarEntry, &str)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    entries.iter().for_each(|(entry, data)| writer.append(entry, &mut data.as_bytes()).unwrap());
    writer.finish().unwrap()
}

/// Stores an untagged image of these layers. Returns the extracted layers.
fn image(store: &Store, tars: &[Vec<u8>]) -> Vec<LayerId> {
    let blobs: Vec<Descriptor> = tars
        .iter()
        .map(|tar| Descriptor::new(MediaType::LAYER, store.blobs().put(tar).unwrap(), tar.len() as u64))
        .collect();
    let diff_ids: Vec<String> = blobs.iter().map(|blob| blob.digest.to_string()).collect();
    let rootfs = serde_json::json!({"type": "layers", "diff_ids": diff_ids});
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).to_string();
    let digest = store.blobs().put(config.as_bytes()).unwrap();
    let config = Descriptor::new(MediaType::CONFIG, digest, config.len() as u64);
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::MANIFEST,
                                      "config": config, "layers": blobs});
    store.blobs().put(manifest.to_string().as_bytes()).unwrap();
    let mut ids = Vec::new();
    for blob in &blobs {
        ids.push(store.layers().unpack(blob, &blob.digest, &ids).unwrap());
    }
    ids
}

/// Returns a lower layer, and an upper one without entries for the directories that it shares.
fn tars() -> [Vec<u8>; 2] {
    let lean = tar(&[file("t/new", "new"), file("etc/new", "new"), file("t/.wh.gone", ""), file("t/.wh.never", "")]);
    let mut owned = file("etc/owned", "owned");
    owned.0.uid = 7;
    owned.0.xattrs = vec![(b"user.key".to_vec(), b"value".to_vec())];
    let low = tar(&[
        dir("t", 0o1777),
        file("t/gone", ""),
        dir("etc", 0o755),
        file("etc/one", "one"),
        (entry("etc/other", TarEntryKind::HardLink(TreePath::parse(b"etc/one").unwrap()), 0o644), ""),
        owned,
        (entry("etc/link", TarEntryKind::Symlink(b"one".to_vec()), 0o777), ""),
        (entry("etc/pipe", TarEntryKind::Fifo, 0o600), ""),
        dir("etc/empty", 0o700),
    ]);
    [low, lean]
}

fn run_fsck(store: &Store, repair: bool) -> FsckReport {
    let repack =
        |_: &Store, _: &LayerId, _: PackedTimes, _: &str| -> Result<PackedLayer, StoreError> { unreachable!() };
    let parallel = |count: usize, job: &(dyn Fn(usize) + Sync)| (0..count).for_each(job);
    store.fsck(&FsckOptions { repair, parallel: &parallel, repack: &repack }).unwrap()
}

/// Returns a store with an image of two layers, of which the upper depends on the lower.
fn store() -> (tempfile::TempDir, Store, Vec<LayerId>) {
    let outer = tempfile::tempdir().unwrap();
    let store = Store::open(&outer.path().join("store")).unwrap();
    let ids = image(&store, &tars());
    assert_ne!(ids[1], ids[1].without_inherited());
    let whole = run_fsck(&store, false);
    assert_eq!((whole.findings, whole.skipped, whole.layers), (vec![], vec![], 2));
    (outer, store, ids)
}

fn time(path: &Path, seconds: u64) {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
}

fn same_length(path: &Path) {
    let length = fs::read(path).unwrap().len();
    fs::write(path, &b"xxxxxxxx"[..length]).unwrap();
    time(path, 1_000_000);
}

fn mode<const MODE: u32>(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(MODE)).unwrap();
}

fn gone(path: &Path) {
    fs::remove_file(path).unwrap();
}

fn empty(path: &Path) {
    fs::write(path, "").unwrap();
}

fn attribute(path: &Path) {
    rustix::fs::setxattr(path, "user.key", b"other", rustix::fs::XattrFlags::empty()).unwrap();
}

fn replace_with(path: &Path, make: impl Fn(&Path)) {
    gone(path);
    make(path);
}

/// Replaces a hard-linked file by a copy.
fn break_hard_link(path: &Path) {
    let copy = path.with_file_name("copy");
    fs::copy(path, &copy).unwrap();
    fs::rename(copy, path).unwrap();
}

#[test]
fn each_change_of_a_layer_is_reported_with_its_path() {
    type LayerChange = (&'static str, fn(&Path), &'static str);
    let low: [LayerChange; 16] = [
        ("etc/one", same_length, "has other bytes"),
        ("etc/one", |path| fs::write(path, "on").unwrap(), "has 2 bytes, and should have 3"),
        ("etc/one", |path| time(path, 1_000_001), "has another time"),
        ("etc/one", |path| chown(path, Some(5), None).unwrap(), "belongs to 5:0, and should to 0:0"),
        ("etc/one", gone, "is missing"),
        ("etc/added", empty, "is not in the tar"),
        ("zzz", empty, "is not in the tar"),
        ("t/gone", gone, "is missing"),
        ("t", |path| fs::remove_dir_all(path).unwrap(), "is missing"),
        ("etc/empty", mode::<0o711>, "has the mode 711"),
        ("etc/link", |path| replace_with(path, |path| symlink("two", path).unwrap()), "leads elsewhere"),
        ("etc/pipe", |path| replace_with(path, empty), "is a file, and should be a pipe"),
        ("etc/one", |path| replace_with(path, |path| fs::create_dir(path).unwrap()), "is a directory"),
        ("etc/other", break_hard_link, "is not the same file as its other names"),
        ("etc/owned", attribute, "has other attributes"),
        ("", mode::<0o700>, "its root has the mode 700, and should have 755"),
    ];
    let lean: [LayerChange; 4] = [
        ("t", mode::<0o755>, "has the mode 755, and should have 1777"),
        ("t/gone", gone, "is missing"),
        ("t/never", empty, "is not in the tar"),
        ("etc/new", same_length, "has other bytes"),
    ];
    let all = low.into_iter().map(|change| (0, change)).chain(lean.into_iter().map(|change| (1, change)));
    let (_outer, store, ids) = store();
    for (which, (name, change, says)) in all {
        let layer = store.layers().path(&ids[which]);
        change(&layer.join(name));
        let found = run_fsck(&store, false);
        let [finding] = &found.findings[..] else { panic!("{name}: {:?}", found.findings) };
        assert_eq!(finding.path, format!("layers/{}", ids[which]), "{name}");
        assert!(finding.problem.contains(says) && finding.problem.contains(name), "{name}: {finding:?}");
        assert!(layer.exists() && store.work_dir().path().read_dir().unwrap().count() == 1, "{name}: only a lock");
        assert!(run_fsck(&store, true).findings.iter().all(|finding| finding.repaired), "{name}");
        assert!(!layer.exists(), "{name}");
        assert_eq!(image(&store, &tars()), ids, "{name}");
        assert_eq!(run_fsck(&store, false).findings, [], "{name}");
    }
}

#[test]
fn layer_with_a_missing_parent_is_compared_by_its_id() {
    let (_outer, store, ids) = store();
    store.remove_layer(&ids[0], store.id_mapping()).unwrap();
    let found = run_fsck(&store, false);
    assert_eq!((found.findings, found.skipped), (vec![], vec![]));
    // Without these records, the parent layers of its id are unknown.
    let packs = store.join("packs");
    let over = |name: &String| name.ends_with(".over");
    let names = || fs::read_dir(&packs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    fs::set_permissions(store.layers().path(&ids[1]).join("t"), fs::Permissions::from_mode(0o700)).unwrap();
    names().filter(over).for_each(|name| fs::remove_file(packs.join(name)).unwrap());
    let found = run_fsck(&store, false);
    assert_eq!((found.findings, found.skipped.len()), (vec![], 1));
    assert!(found.skipped[0].reason.ends_with("the layers that it was unpacked over are not in the store"));
}

#[test]
fn layer_without_its_blob_is_reported_as_skipped() {
    let (_outer, store, ids) = store();
    store.blobs().remove(&ids[0].diff_id().unwrap());
    let found = run_fsck(&store, false);
    assert_eq!((found.findings, found.skipped.len()), (vec![], 1));
    assert_eq!(found.skipped[0].path, format!("layers/{}", ids[0]));
    assert!(found.skipped[0].reason.contains("no blob in the store"));
}

#[test]
fn layer_of_another_id_mapping_is_reported_as_skipped() {
    let (_outer, store, ids) = store();
    let theirs = store.subdir_of(IdMapping::Single, "layers");
    fs::create_dir_all(&theirs).unwrap();
    fs::rename(store.layers().path(&ids[0]), theirs.join(ids[0].as_str())).unwrap();
    let found = run_fsck(&store, false);
    assert_eq!((found.findings, found.skipped.len(), found.layers), (vec![], 1, 2));
    assert_eq!(found.skipped[0].path, "single/layers");
}

#[test]
fn wrong_records_of_a_tar_are_repaired() {
    let (_outer, store, ids) = store();
    let diff_id = ids[1].diff_id().unwrap();
    let (size, record) = (store.layers().size_record_path(&diff_id), store.layers().parent_deps_record_path(&diff_id));
    let right = fs::read(&record).unwrap();
    fs::write(&size, "5").unwrap();
    for wrong in [None, Some(&b"dother\0"[..])] {
        wrong.map_or_else(|| fs::remove_file(&record), |bytes| fs::write(&record, bytes)).unwrap();
        let found = run_fsck(&store, true);
        assert!(found.findings.iter().any(|finding| finding.path.ends_with(".leans") && finding.repaired), "{found:?}");
        assert_eq!(fs::read(&record).unwrap(), right);
        assert!(!size.exists());
        assert_eq!(run_fsck(&store, false).findings, []);
    }
}

/// Records that were computed from a damaged layer are not used for the repaired one.
#[test]
fn records_of_a_damaged_layer_are_removed() {
    let outer = tempfile::tempdir().unwrap();
    let store = Store::open(&outer.path().join("store")).unwrap();
    let made = || {
        let made = store.work_dir().temp_dir().unwrap();
        fs::write(made.join("file"), "right").unwrap();
        store.layers().commit(&made).unwrap()
    };
    let id = made();
    fs::write(store.layers().path(&id).join("file"), "wrong").unwrap();
    let mut bytes = Vec::new();
    store.layers().pack(&id, PackedTimes::Fixed(1), &mut bytes).unwrap();
    let diff_id = store.blobs().put(&bytes).unwrap();
    let packed = PackedLayer { diff_id, blob: Descriptor::new(MediaType::LAYER, diff_id, bytes.len() as u64) };
    for kind in ["", "zstd"] {
        store.layers().record_packed(&id, PackedTimes::Fixed(1), kind, &packed).unwrap();
    }
    assert_eq!(store.layers().find_packed(&id, PackedTimes::Fixed(1), ""), Some(packed));
    assert_eq!(run_fsck(&store, true).findings.len(), 1);
    assert_eq!(made(), id);
    assert_eq!(["", "zstd"].map(|kind| store.layers().find_packed(&id, PackedTimes::Fixed(1), kind)), [None, None]);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "somebody has to look while the layer goes")]
fn layer_removal_is_atomic() {
    let outer = tempfile::tempdir().unwrap();
    let store = Store::open(&outer.path().join("store")).unwrap();
    let made = store.work_dir().temp_dir().unwrap();
    const FILES: usize = 1000;
    (0..FILES).for_each(|name| fs::write(made.join(name.to_string()), "").unwrap());
    let id = store.layers().commit(&made).unwrap();
    let path = store.layers().path(&id);
    let seen = std::thread::scope(|scope| {
        let removal = scope.spawn(|| store.remove_layer(&id, store.id_mapping()));
        let mut seen = Vec::new();
        while !removal.is_finished() {
            // Counts are taken only while the directory exists: each must be the full number of names.
            let dir = Dir::open(&path);
            if let Ok(dir) = dir
                && let Ok(names) = dir.names()
                && path.exists()
            {
                seen.push(names.len());
            }
        }
        removal.join().unwrap().unwrap();
        seen
    });
    assert!(!path.exists());
    assert!(seen.iter().all(|count| *count == FILES), "{seen:?}");
    assert_eq!(store.work_dir().path().read_dir().unwrap().count(), 1, "only a lock");
}
