use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use dram_image::TreePath;
use dram_image::tar::{TarEntry, TarEntryKind, TarWriter};
use dram_image::{Descriptor, Digest, MediaType};

use crate::*;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

fn entry(name: &str, kind: TarEntryKind) -> TarEntry {
    let mode = match kind {
        TarEntryKind::Dir => 0o755,
        TarEntryKind::Symlink(_) => 0o777,
        TarEntryKind::File { .. }
        | TarEntryKind::HardLink(_)
        | TarEntryKind::Char(..)
        | TarEntryKind::Block(..)
        | TarEntryKind::Fifo => 0o644,
    };
    TarEntry { path: path(name), kind, mode, uid: 0, gid: 0, mtime: 5, xattrs: vec![] }
}

fn tar(entries: &[(TarEntry, &str)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (entry, data) in entries {
        writer.append(entry, &mut data.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

fn file(name: &str, data: &'static str) -> (TarEntry, &'static str) {
    (entry(name, TarEntryKind::File { size: data.len() as u64 }), data)
}

fn dir(name: &str) -> (TarEntry, &'static str) {
    (entry(name, TarEntryKind::Dir), "")
}

fn symlink(name: &str, target: &str) -> (TarEntry, &'static str) {
    (entry(name, TarEntryKind::Symlink(target.as_bytes().to_vec())), "")
}

fn hard_link(name: &str, target: &str) -> (TarEntry, &'static str) {
    (entry(name, TarEntryKind::HardLink(path(target))), "")
}

fn put_layer(store: &Store, tar: &[u8]) -> (Descriptor, Digest) {
    let digest = store.blobs().put(tar).unwrap();
    (Descriptor::new(MediaType::LAYER, digest, tar.len() as u64), digest)
}

fn unpack(store: &Store, entries: &[(TarEntry, &str)]) -> Result<LayerId, StoreError> {
    unpack_over(store, entries, &[])
}

fn unpack_over(store: &Store, entries: &[(TarEntry, &str)], below: &[LayerId]) -> Result<LayerId, StoreError> {
    let (blob, diff_id) = put_layer(store, &tar(entries));
    store.layers().unpack(&blob, &diff_id, below)
}

#[test]
fn layer_unpacks_and_packs_to_the_same_bytes() {
    let (_dir, store) = store();
    let mut secret = file("a/secret", "s");
    secret.0.mode = 0o4711;
    secret.0.uid = 7;
    let bytes = tar(&[
        dir("a"),
        file("a/b", "text"),
        hard_link("a/c", "a/b"),
        file("a/.wh.gone", ""),
        secret,
        symlink("l", "/a/../../b"),
        (entry("p", TarEntryKind::Fifo), ""),
    ]);
    let (blob, diff_id) = put_layer(&store, &bytes);
    let below = unpack(&store, &[file("a/gone", "")]).unwrap();
    let id = store.layers().unpack(&blob, &diff_id, &[below]).unwrap();
    assert_eq!(id, LayerId::from_diff_id(&diff_id));
    let mut again = Vec::new();
    store.layers().pack(&id, PackedTimes::Fixed(5), &mut again).unwrap();
    assert!(again == bytes, "{} and {} bytes", again.len(), bytes.len());
}

#[test]
fn unpacking_does_not_write_outside_of_the_layer() {
    let (outer, store) = store();
    let canary = outer.path().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::set_permissions(&canary, fs::Permissions::from_mode(0o700)).unwrap();
    let target = canary.to_str().unwrap();
    let mut wide = dir("x");
    wide.0.mode = 0o777;
    for entries in [
        vec![symlink("x", target), file("x/f", "1")],
        vec![symlink("x", "../../../../../../../../../../../.."), file(&format!("x{target}/f"), "1")],
        vec![symlink("x", target), wide],
        vec![symlink("x", target), hard_link("h", "x/f")],
        vec![symlink("x", target), file("x/.wh.f", "")],
        vec![symlink("x", target), file("x/.wh..wh..opq", "")],
        vec![hard_link("h", "missing")],
        vec![file(".wh..", "")],
        vec![file(".wh.", "")],
        vec![(entry("c", TarEntryKind::Char(0, 0)), "")],
        vec![dir("d"), hard_link("h", "d")],
    ] {
        let _ = unpack(&store, &entries);
        assert_eq!(fs::read_dir(&canary).unwrap().count(), 0, "{entries:?}");
        assert_eq!(fs::metadata(&canary).unwrap().permissions().mode() & 0o777, 0o700, "{entries:?}");
    }
    assert!(unpack(&store, &[file(".wh..", "")]).is_err());
    assert!(unpack(&store, &[file(".wh...", "")]).is_err());
    assert!(unpack(&store, &[hard_link("h", "missing")]).is_err());
}

#[test]
fn last_of_duplicate_tar_entries_wins() {
    let (_dir, store) = store();
    let id = unpack(&store, &[file("x", "1"), dir("x"), file("x/y", "2"), file("x", "3")]).unwrap();
    assert_eq!(fs::read_to_string(store.layers().path(&id).join("x")).unwrap(), "3");
}

#[test]
fn a_wrong_diff_id_is_refused_and_leaves_nothing() {
    let (_dir, store) = store();
    let (blob, _) = put_layer(&store, &tar(&[file("x", "1")]));
    let error = store.layers().unpack(&blob, &Digest::of(b"other"), &[]).unwrap_err();
    assert!(error_chain(&error).contains("but the image's configuration says"), "{error}");
    assert_eq!(fs::read_dir(store.root().join("layers")).unwrap().count(), 0);
}

#[test]
fn foreign_layer_is_accepted_only_if_id_times_and_diff_id_match() {
    let (_dir, there) = store();
    let made = there.work_dir().temp_dir().unwrap();
    fs::set_permissions(&made, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(made.join("file"), "1").unwrap();
    let layer = Dir::open_layer(&made).unwrap();
    layer.make_node(&path("socket"), FileKind::Socket).unwrap();
    layer.make_node(&path("gone"), FileKind::Char(0, 0)).unwrap();
    layer.set_mode(&path("gone"), 0).unwrap();
    let id = there.layers().commit(&made).unwrap();
    let mut bytes = Vec::new();
    there.layers().pack(&id, PackedTimes::Fixed(7), &mut bytes).unwrap();

    let (_dir, here) = store();
    let packed = |tar: &[u8]| {
        let (blob, diff_id) = put_layer(&here, tar);
        PackedLayer { diff_id, blob }
    };
    let table = [
        (packed(&tar(&[file("file", "2")])), PackedTimes::Fixed(5), "and it should hold"),
        (packed(&bytes), PackedTimes::Fixed(8), "is not packed as dram packs"),
        (packed(&[&bytes[..], &[0; 512]].concat()), PackedTimes::Fixed(7), "is not packed as dram packs"),
        (PackedLayer { diff_id: Digest::of(b"x"), ..packed(&bytes) }, PackedTimes::Fixed(7), "unpacks to"),
    ];
    for (packed, times, want) in table {
        let error = error_chain(&here.layers().import_verified(&packed, &id, times).unwrap_err());
        assert!(error.contains(want), "{error}");
        assert!(!here.layers().has(&id));
    }
    here.layers().import_verified(&packed(&bytes), &id, PackedTimes::Fixed(7)).unwrap();
    let mut again = Vec::new();
    here.layers().pack(&id, PackedTimes::Fixed(7), &mut again).unwrap();
    assert_eq!(again, bytes);
}

#[test]
fn layer_with_the_times_of_its_files_is_packed_equally_where_it_is_imported() {
    let (_dir, there) = store();
    let made = there.work_dir().temp_dir().unwrap();
    fs::set_permissions(&made, fs::Permissions::from_mode(0o755)).unwrap();
    let layer = Dir::open_layer(&made).unwrap();
    fs::create_dir_all(made.join("dir/below")).unwrap();
    fs::write(made.join("dir/file"), "1").unwrap();
    fs::hard_link(made.join("dir/file"), made.join("dir/same")).unwrap();
    std::os::unix::fs::symlink("file", made.join("dir/link")).unwrap();
    layer.make_node(&path("dir/gone"), FileKind::Char(0, 0)).unwrap();
    layer.make_node(&path("gone"), FileKind::Char(0, 0)).unwrap();
    let times = [("dir/file", (5, 9)), ("dir/link", (-7, 999_999_999)), ("dir/gone", (11, 1)), ("dir/below", (2, 0))];
    for (name, time) in times.iter().chain(&[("gone", (8_589_934_592, 3)), ("dir", (1_000_000_000, 0))]) {
        layer.set_mtime(&path(name), *time).unwrap();
    }
    let id = there.layers().commit(&made).unwrap();
    let mut bytes = Vec::new();
    there.layers().pack(&id, PackedTimes::OfFiles, &mut bytes).unwrap();
    let mut reader = dram_image::tar::TarReader::new(bytes.as_slice());
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        found.push((entry.path.to_string(), entry.mtime));
    }
    // Fractions are cut off, also before 1970.
    let expected = [
        ("/dir", 1_000_000_000),
        ("/dir/below", 2),
        ("/dir/file", 5),
        ("/dir/.wh.gone", 11),
        ("/dir/link", -7),
        ("/dir/same", 5),
        ("/.wh.gone", 8_589_934_592),
    ];
    assert_eq!(found, expected.map(|(path, time)| (path.to_owned(), time)));

    let (_dir, here) = store();
    let (blob, diff_id) = put_layer(&here, &bytes);
    let packed = PackedLayer { diff_id, blob };
    // The whole content is right, but all files would have another time.
    assert!(here.layers().import_verified(&packed, &id, PackedTimes::Fixed(5)).is_err());
    here.layers().import_verified(&packed, &id, PackedTimes::OfFiles).unwrap();
    let mut again = Vec::new();
    here.layers().pack(&id, PackedTimes::OfFiles, &mut again).unwrap();
    assert_eq!(again, bytes);
    // The rule for times is a part of the record's name.
    here.layers().record_packed(&id, PackedTimes::OfFiles, "zstd", &packed).unwrap();
    assert_eq!(here.layers().find_packed(&id, PackedTimes::OfFiles, "zstd"), Some(packed));
    assert_eq!(here.layers().find_packed(&id, PackedTimes::Fixed(0), "zstd"), None);
    assert!(here.root().join(format!("packs/{id}.files.zstd")).exists());
}

#[test]
fn layer_keeps_the_time_at_which_it_was_made_first_as_long_as_it_is_there() {
    let (_dir, store) = store();
    let make = || {
        let made = store.work_dir().temp_dir().unwrap();
        fs::write(made.join("f"), "x").unwrap();
        store.layers().commit(&made).unwrap()
    };
    let id = make();
    assert_eq!(store.layers().record_made(&id, 5).unwrap(), 5);
    assert_eq!(store.layers().record_made(&make(), 6).unwrap(), 5);
    fs::remove_dir_all(store.layers().path(&id)).unwrap();
    assert_eq!(store.layers().record_made(&make(), 7).unwrap(), 7);
    fs::write(store.root().join(format!("packs/{id}.made")), "99999999999999999").unwrap();
    assert_eq!(store.layers().record_made(&id, 8).unwrap(), 8);
}

#[test]
fn cache_record_without_a_time_gets_that_of_its_last_use_and_keeps_it() {
    let (_dir, store) = store();
    let key = StepKey::of([&b"k"[..]]);
    store.step_cache().insert(&key, &CacheRecord { layer: None, by_content: None, executed: None }).unwrap();
    let file = store.root().join("steps").join(&key.hex()[..2]).join(key.hex());
    let last_use = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_234_567_890);
    fs::File::options().write(true).open(&file).unwrap().set_modified(last_use).unwrap();
    for _ in 0..2 {
        assert_eq!(store.step_cache().get(&key).unwrap().executed, Some(1_234_567_890));
    }
    // A time that no document can have counts as none.
    let wrong = CacheRecord { layer: None, by_content: None, executed: Some(i64::MAX) };
    store.step_cache().insert(&key, &wrong).unwrap();
    assert!(store.step_cache().get(&key).unwrap().executed.unwrap() > 1_234_567_890);
}

#[test]
fn unpacking_a_damaged_blob_fails() {
    let (_dir, store) = store();
    let (blob, diff_id) = put_layer(&store, &tar(&[file("x", "1")]));
    let place = store.blobs().path(&blob.digest);
    let good = fs::read(&place).unwrap();
    let mut flipped = good.clone();
    flipped[512] ^= 1;
    for (damage, want) in
        [(flipped, "does not match its digest"), (good[..600].to_vec(), "has 600 bytes"), (vec![], "0 bytes")]
    {
        fs::write(&place, damage).unwrap();
        let error = error_chain(&store.layers().unpack(&blob, &diff_id, &[]).unwrap_err());
        assert!(error.contains(want) || error.contains("unpacks to"), "{error}");
    }
    fs::remove_file(&place).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &place).unwrap();
    assert!(store.layers().unpack(&blob, &diff_id, &[]).is_err());
    fs::remove_file(&place).unwrap();
    assert!(matches!(store.layers().unpack(&blob, &diff_id, &[]), Err(StoreError::MissingBlob { .. })));
}

#[test]
fn merged_layers_match_overlayfs() {
    let (_dir, store) = store();
    let low = unpack(
        &store,
        &[dir("a"), file("a/1", "low"), file("a/2", "low"), dir("b"), file("b/1", "low"), symlink("s", "a")],
    );
    let low = low.unwrap();
    let mid = [dir("a"), file("a/.wh.1", ""), file("a/3", "mid"), dir("b"), file("b/.wh..wh..opq", "")];
    let mid = unpack_over(&store, &mid, std::slice::from_ref(&low)).unwrap();
    let top = unpack(&store, &[dir("a"), file("a/2", "top"), symlink("loop", "loop")]).unwrap();
    let view = store.layers().view(&[low, mid, top]).unwrap();
    let names = |at: &str| -> Vec<String> {
        view.list(&path(at)).unwrap().into_iter().map(|name| String::from_utf8(name).unwrap()).collect()
    };
    assert_eq!(names(""), ["a", "b", "loop", "s"]);
    assert_eq!(names("a"), ["2", "3"]);
    assert_eq!(names("b"), [""; 0]);
    assert_eq!(view.find(&path("s/2"), false).unwrap().unwrap().path, path("a/2"));
    assert_eq!(view.find(&path("a/1"), false).unwrap(), None);
    assert_eq!(view.find(&path("b/1"), false).unwrap(), None);
    assert!(matches!(view.find(&path("loop/x"), false), Err(StoreError::SymlinkLoop { .. })));
    assert_eq!(view.find(&path("s"), true).unwrap().unwrap().path, path("a"));
}

#[test]
fn layer_that_depends_on_its_parents_has_another_id_over_other_parents() {
    let (_dir, store) = store();
    let mut wide = dir("t");
    wide.0.mode = 0o1777;
    let low = unpack(&store, &[wide, file("t/gone", "")]).unwrap();
    let other = unpack(&store, &[dir("t")]).unwrap();
    let layer = || [file("t/new", ""), file("t/.wh.gone", ""), file("t/.wh.never", "")];
    let mode_and_names = |id: &LayerId| {
        let made = store.layers().path(id).join("t");
        let mut names: Vec<_> = fs::read_dir(&made).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        (fs::metadata(made).unwrap().permissions().mode() & 0o7777, names)
    };
    let over = |below: &[&LayerId]| {
        let below: Vec<LayerId> = below.iter().map(|&id| id.clone()).collect();
        unpack_over(&store, &layer(), &below).unwrap()
    };
    let (first, second, alone) = (over(&[&low]), over(&[&other]), over(&[]));
    assert_eq!(mode_and_names(&first), (0o1777, vec!["gone".into(), "new".into()]));
    assert_eq!(mode_and_names(&second), (0o755, vec!["new".into()]));
    assert_eq!(mode_and_names(&alone), (0o755, vec!["new".into()]));
    assert_eq!(BTreeSet::from([&first, &second, &alone]).len(), 3);
    assert_eq!([&first, &second, &alone].map(LayerId::without_inherited), [(); 3].map(|()| first.without_inherited()));
    assert_eq!((over(&[&low]), over(&[&other])), (first.clone(), second.clone()), "each once");
    assert_eq!(first.as_str().parse::<LayerId>().unwrap(), first);
    let plain = || [dir("t"), file("t/new", "x"), file("t/.wh.gone", "")];
    let (blob, diff_id) = put_layer(&store, &tar(&plain()));
    assert_eq!(store.layers().unpack(&blob, &diff_id, &[low]).unwrap(), LayerId::from_diff_id(&diff_id), "most do not");
}

#[test]
fn layers_of_equal_content_have_one_id_regardless_of_times() {
    let (_dir, store) = store();
    let make = |text: &str, mode: u32| {
        let made = store.work_dir().temp_dir().unwrap();
        fs::write(made.join("f"), text).unwrap();
        fs::set_permissions(made.join("f"), fs::Permissions::from_mode(mode)).unwrap();
        store.layers().commit(&made).unwrap()
    };
    let first = make("x", 0o644);
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert_eq!(make("x", 0o644), first);
    assert_ne!(make("y", 0o644), first);
    assert_ne!(make("x", 0o600), first);
}

#[test]
fn references_can_be_set_and_removed() {
    let (_dir, store) = store();
    let manifest = Descriptor::new(MediaType::MANIFEST, Digest::of(b"m"), 1);
    store.refs().set(&["a:1".parse().unwrap(), "b".parse().unwrap()], &manifest).unwrap();
    let names =
        |store: &Store| -> Vec<String> { store.refs().list().unwrap().into_iter().map(|tagged| tagged.name).collect() };
    assert_eq!(names(&store), ["a:1", "b:latest"]);
    assert_eq!(store.refs().get(&"docker.io/library/a:1".parse().unwrap()).unwrap(), Some(manifest));
    assert!(store.refs().remove("a:1").unwrap());
    assert!(!store.refs().remove("a:1").unwrap());
    assert_eq!(names(&store), ["b:latest"]);
}

#[test]
fn context_digest_changes_with_the_file() {
    let (outer, store) = store();
    let root = outer.path().join("context");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("f"), "1").unwrap();
    let digest = |store: &Store| {
        let context = ContextDir::open(store, &root, Box::new(|_| IgnoreVerdict::Include), SavedDigests::Use).unwrap();
        let node = context.find(&path("f"), false).unwrap().unwrap();
        let digest = context.content_digest(&node).unwrap();
        context.save(store);
        digest
    };
    let first = digest(&store);
    assert_eq!(digest(&store), first);
    fs::write(root.join("f"), "2").unwrap();
    assert_ne!(digest(&store), first);
}

#[test]
fn ignored_directory_is_visible_if_something_below_is_not_ignored() {
    let (outer, store) = store();
    let root = outer.path().join("context");
    for name in ["a/keep", "a/drop", "b/drop", "c"] {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), "").unwrap();
    }
    let ignore: IgnoreFn = Box::new(|path| match path.as_bytes() {
        b"a/keep" | b"c" => IgnoreVerdict::Include,
        b"a" | b"b" => IgnoreVerdict::Descend,
        _ => IgnoreVerdict::Exclude,
    });
    let context = ContextDir::open(&store, &root, ignore, SavedDigests::Use).unwrap();
    assert_eq!(context.list(&TreePath::root()).unwrap(), [b"a".to_vec(), b"c".to_vec()]);
    assert_eq!(context.list(&path("a")).unwrap(), [b"keep".to_vec()]);
    assert!(context.find(&path("b"), false).unwrap().is_none());
    assert!(context.find(&path("a/drop"), false).unwrap().is_none());
}

#[test]
fn work_directory_of_a_dead_process_is_removed() {
    let (outer, store) = store();
    let left = store.root().join("work/p1-dead");
    fs::create_dir_all(left.join("d0/work")).unwrap();
    fs::write(left.join("lock"), "").unwrap();
    let mine = store.work_dir().path();
    let _second = Store::open(&outer.path().join("store")).unwrap();
    assert!(!left.exists());
    assert!(mine.exists());
}

#[test]
fn a_store_of_another_version_is_refused() {
    let (outer, store) = store();
    fs::write(store.root().join("version"), "999\n").unwrap();
    let error = Store::open(&outer.path().join("store")).unwrap_err();
    assert!(error.to_string().contains("999"), "{error}");
}

#[test]
fn prune_keeps_layers_of_cached_steps() {
    let (_dir, store) = store();
    let made = store.work_dir().temp_dir().unwrap();
    fs::write(made.join("f"), "x").unwrap();
    let kept = store.layers().commit(&made).unwrap();
    store
        .step_cache()
        .insert(&StepKey::of([&b"k"[..]]), &CacheRecord { layer: Some(kept.clone()), by_content: None, executed: None })
        .unwrap();
    let lost = unpack(&store, &[file("x", "1")]).unwrap();
    let dry = store.prune(&PruneOptions { dry_run: true, ..PruneOptions::default() }).unwrap();
    assert!(store.layers().has(&lost));
    let pruned = store.prune(&PruneOptions::default()).unwrap();
    assert_eq!(dry, pruned);
    assert_eq!((pruned.blobs, pruned.layers, pruned.steps), (1, 1, 0));
    assert!(store.layers().has(&kept) && !store.layers().has(&lost));
    assert_eq!(store.prune(&PruneOptions { all: true, ..PruneOptions::default() }).unwrap().steps, 1);
    assert!(!store.layers().has(&kept));
}

#[test]
fn archives_are_distinguished_from_other_files() {
    let (outer, store) = store();
    let bytes = tar(&[file(".wh.x", "kept as a name")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes).unwrap();
    for (name, content, want) in
        [("a.tar", bytes.clone(), true), ("a.tgz", gzip.finish().unwrap(), true), ("a.txt", b"x".to_vec(), false)]
    {
        let place = outer.path().join(name);
        fs::write(&place, content).unwrap();
        let into = store.work_dir().temp_dir().unwrap();
        let unpacked = store.layers().unpack_archive(fs::File::open(&place).unwrap(), &into, name).unwrap();
        assert_eq!((unpacked.is_some(), Path::exists(&into.join(".wh.x"))), (want, want), "{name}");
    }
}

#[test]
fn a_layer_holds_what_an_oci_layer_can_hold() {
    let (_outer, store) = store();
    let made = |name: &str| {
        let dir = store.work_dir().temp_dir().unwrap();
        fs::create_dir_all(dir.join("below")).unwrap();
        fs::write(dir.join("below").join(name), "x").unwrap();
        dir
    };
    let error = store.layers().commit(&made(".wh.passwd")).unwrap_err();
    assert!(error.to_string().contains("`/below/.wh.passwd`"), "{error}");
    let plain = store.layers().commit(&made("file")).unwrap();
    let marked = made("file");
    for (path, name) in [("below", "user.overlay.opaque"), ("below/file", "user.overlay.origin")] {
        rustix::fs::setxattr(marked.join(path), name, b"y", rustix::fs::XattrFlags::empty()).unwrap();
    }
    // Only root's mounts leave such attributes to a command.
    if store.id_mapping() == crate::IdMapping::Root {
        assert_eq!(store.layers().commit(&marked).unwrap(), plain);
    }
}

/// An access control list for `setxattr(2)`: version 2, then tag, permissions and id of each entry. The user 7 may do
/// everything.
fn access_list() -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, u32::MAX), (2, 7, 7), (4, 7, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)];
    let bytes = entries
        .iter()
        .flat_map(|(tag, may, id)| [&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat());
    2_u32.to_le_bytes().into_iter().chain(bytes).collect()
}

#[test]
fn a_store_below_a_directory_with_a_default_access_list_has_none() {
    let above = tempfile::tempdir().unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(above.path(), "system.posix_acl_default", &access_list(), flags).unwrap();
    // One that an earlier version made.
    fs::create_dir_all(above.path().join("store/work")).unwrap();
    let store = Store::open(&above.path().join("store")).unwrap();
    let made = store.work_dir().temp_dir().unwrap();
    for dir in [&made, &store.root().to_owned(), &store.join("layers"), &store.join("caches"), &store.join("work")] {
        let mut names = [0_u8; 256];
        let length = rustix::fs::listxattr(dir, &mut names).unwrap();
        assert!(!String::from_utf8_lossy(&names[..length]).contains("posix_acl"), "{}", dir.display());
    }
}

#[test]
fn an_access_list_that_a_command_set_is_removed_and_reported() {
    let (_dir, store) = store();
    let commit = |with_list: bool| {
        let made = store.work_dir().temp_dir().unwrap();
        fs::write(made.join("f"), "text").unwrap();
        fs::set_permissions(made.join("f"), std::os::unix::fs::PermissionsExt::from_mode(0o670)).unwrap();
        if with_list {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(made.join("f"), "system.posix_acl_access", &access_list(), flags).unwrap();
            fs::set_permissions(made.join("f"), std::os::unix::fs::PermissionsExt::from_mode(0o670)).unwrap();
        }
        let mut lost = Vec::new();
        let id = store.layers().commit_telling(&made, &mut |path| lost.push(path.to_string())).unwrap();
        (id, lost)
    };
    let (with, lost) = commit(true);
    assert_eq!(lost, ["/f"]);
    let mut names = [0_u8; 256];
    assert_eq!(rustix::fs::listxattr(store.layers().path(&with).join("f"), &mut names), Ok(0));
    assert_eq!(commit(false), (with, vec![]));
}
