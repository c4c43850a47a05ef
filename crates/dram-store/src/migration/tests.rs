use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use dram_image::{Descriptor, Digest, MediaType};

use super::*;
use crate::{FsckOptions, PruneOptions};

const BOOT: &str = "00000000-0000-4000-8000-000000000000";

/// Makes a store of version 1 with something in every directory that gets another name.
fn old_store() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let manifest = Descriptor::new(MediaType::MANIFEST, Digest::of(b"m"), 1);
    store.refs().set(&["demo:1".parse().unwrap()], &manifest).unwrap();
    store.blob_locations().add(&Digest::of(b"b"), "registry.example", "app").unwrap();
    let made = store.work_dir().temp_dir().unwrap();
    fs::write(made.join("file"), "text").unwrap();
    store.layers().commit(&made).unwrap();
    drop(store);
    let root = dir.path();
    // The markers of this boot become those of an older one, which are looked at by their name.
    let boot = child_dirs(&root.join("unsynced")).unwrap().remove(0);
    fs::remove_dir_all(boot).unwrap();
    for (old, new) in renamed() {
        let _ = fs::rename(root.join(new), root.join(old));
        fs::create_dir_all(root.join(old)).unwrap();
    }
    let id = LayerId::from_diff_id(&Digest::of(b"layer"));
    for shelf in ["lent-ids", "one-id"] {
        fs::create_dir_all(root.join(shelf).join("layers").join(id.as_str())).unwrap();
        fs::write(root.join(shelf).join("layers").join(id.as_str()).join("file"), shelf).unwrap();
        fs::create_dir_all(root.join(shelf).join("steps/ab")).unwrap();
        fs::write(root.join(shelf).join("steps/ab/record"), shelf).unwrap();
        fs::create_dir_all(root.join("fresh").join(BOOT)).unwrap();
        fs::write(root.join("fresh").join(BOOT).join(format!("{id}@{shelf}")), "").unwrap();
    }
    fs::create_dir_all(root.join("places/key")).unwrap();
    fs::write(root.join("places/key/journal"), "journal").unwrap();
    fs::write(root.join("version"), "1\n").unwrap();
    dir
}

fn renamed() -> impl Iterator<Item = (&'static str, &'static str)> {
    STEPS.iter().filter_map(|step| match step {
        MigrationStep::RenameDir { old, new } => Some((*old, *new)),
        MigrationStep::RenameMarkers { .. } | MigrationStep::SyncRoot | MigrationStep::WriteVersion => None,
    })
}

/// Returns the files of the store with their contents, without temporary ones.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true if entry.ends_with("work") => {}
                true => todo.push(entry),
                false => drop(found.insert(entry.strip_prefix(root).unwrap().to_owned(), fs::read(&entry).unwrap())),
            }
        }
    }
    found
}

/// Returns the files that the store of [`old_store`] has after the migration.
fn expected(old: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let new_name = |path: &Path| {
        let text = path.to_str().unwrap().to_owned();
        let text = text.replace("@lent-ids", "@subordinate").replace("@one-id", "@single");
        let (first, rest) = text.split_once('/').unwrap_or((&text, ""));
        let first = renamed().find(|(old, _)| *old == first).map_or(first, |(_, new)| new);
        Path::new(first).join(rest)
    };
    let mut all: BTreeMap<_, _> = files(old).into_iter().map(|(path, text)| (new_name(&path), text)).collect();
    all = all.into_iter().map(|(path, text)| (path.components().collect(), text)).collect();
    all.insert("version".into(), b"2\n".to_vec());
    all
}

/// Opens the store as a process that may not look at the old markers, so that they stay.
fn migrate(root: &Path) {
    Store::migrate(root, &|| panic!("nobody else uses it")).unwrap();
}

#[test]
fn interrupted_migration_is_finished_after_every_step() {
    for count in 0..=STEPS.len() {
        let dir = old_store();
        let wanted = expected(dir.path());
        {
            let work = ProcessWorkDir::new(&dir.path().join("work")).unwrap();
            STEPS.iter().take(count).for_each(|step| step.apply(dir.path(), &work).unwrap());
        }
        migrate(dir.path());
        assert_eq!(files(dir.path()), wanted, "after {count} steps");
        migrate(dir.path());
        assert_eq!(files(dir.path()), wanted, "a second time, after {count} steps");
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.refs().list().unwrap()[0].name, "demo:1");
        assert_eq!(store.blob_locations().repositories(&Digest::of(b"b")).len(), 1);
    }
}

/// A program of version 1 may use the store after an interrupted migration: it creates its directories again.
#[test]
fn directories_with_old_and_new_names_are_merged() {
    for count in 0..STEPS.len() {
        let dir = old_store();
        let mut wanted = expected(dir.path());
        let work = ProcessWorkDir::new(&dir.path().join("work")).unwrap();
        STEPS.iter().take(count).for_each(|step| step.apply(dir.path(), &work).unwrap());
        drop(work);
        for (old, new) in renamed() {
            fs::create_dir_all(dir.path().join(old).join("sub")).unwrap();
            fs::write(dir.path().join(old).join("sub/more"), old).unwrap();
            wanted.insert(Path::new(new).join("sub/more"), old.into());
        }
        migrate(dir.path());
        assert_eq!(files(dir.path()), wanted, "after {count} steps");
        assert!(renamed().all(|(old, _)| !dir.path().join(old).exists()));
    }
}

#[test]
fn layer_with_two_directories_stays_one_layer() {
    let dir = old_store();
    migrate(dir.path());
    let id = LayerId::from_diff_id(&Digest::of(b"layer"));
    let old = dir.path().join("one-id/layers").join(id.as_str());
    fs::create_dir_all(&old).unwrap();
    fs::write(old.join("other"), "").unwrap();
    fs::write(dir.path().join("version"), "1\n").unwrap();
    migrate(dir.path());
    let layer = dir.path().join("single/layers").join(id.as_str());
    assert_eq!(fs::read_dir(layer).unwrap().count(), 1, "layers are not mixed");
}

#[test]
fn store_that_lost_its_version_is_migrated() {
    let dir = old_store();
    let wanted = expected(dir.path());
    fs::remove_file(dir.path().join("version")).unwrap();
    migrate(dir.path());
    assert_eq!(files(dir.path()), wanted);
}

#[test]
fn store_in_use_is_migrated_when_it_is_free() {
    let dir = old_store();
    let lock = lock::lock_file(&dir.path().join("lock"), FlockOperation::LockShared).unwrap();
    assert!(!try_migrate(dir.path()).unwrap());
    assert!(Store::try_open_exclusive(dir.path()).unwrap().is_none());
    assert_eq!(fs::read(dir.path().join("version")).unwrap(), b"1\n");
    drop(lock);
    assert!(try_migrate(dir.path()).unwrap());
    assert_eq!(fs::read(dir.path().join("version")).unwrap(), b"2\n");
}

#[test]
fn newer_version_is_refused_and_nothing_changes() {
    let dir = old_store();
    fs::write(dir.path().join("version"), "3\n").unwrap();
    let before = files(dir.path());
    let error = Store::migrate(dir.path(), &|| ()).unwrap_err();
    assert!(error.to_string().contains("has version `3`, and this program knows version 2"), "{error}");
    assert!(Store::open(dir.path()).is_err());
    assert_eq!(files(dir.path()), before);
}

#[test]
fn file_in_place_of_an_old_directory_is_left_to_fsck() {
    let dir = old_store();
    fs::remove_dir_all(dir.path().join("places")).unwrap();
    fs::write(dir.path().join("places"), "no directory").unwrap();
    migrate(dir.path());
    assert!(dir.path().join("places").is_file());
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let parallel = |count: usize, job: &(dyn Fn(usize) + Sync)| (0..count).for_each(job);
    let options = FsckOptions { repair: false, parallel: &parallel, repack: &|_, _, _, _| unreachable!() };
    let report = store.fsck(&options).unwrap();
    assert!(report.findings.iter().any(|finding| finding.path == "places"), "{report:?}");
    assert!(store.prune(&PruneOptions::default()).is_err(), "the manifest is not in this store");
}
