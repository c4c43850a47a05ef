use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::assemble::put_manifest;
use crate::test_project::{put_disk, tree_path};

/// A destination, and a source file that its releases have a copy of.
struct TestDestination {
    dir: tempfile::TempDir,
    cache: WriteCache,
}

impl TestDestination {
    fn new() -> TestDestination {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("source"), "one").unwrap();
        let cache = WriteCache::load(Some(&dir.path().join("cache")), &dir.path().join("demo"));
        TestDestination { dir, cache }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("demo")
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root().join(path)).ok()
    }

    fn inode(&self, path: &str) -> u64 {
        fs::symlink_metadata(self.root().join(path)).unwrap().ino()
    }

    /// Returns a release of `version` with these generated files, and with a copy of the source file.
    fn tree(&self, version: &str, files: &[(&str, &str)]) -> ReleaseTree {
        let mut tree = ReleaseTree::default();
        put_disk(&mut tree, "lib/copied", &self.dir.path().join("source"), 0o644);
        for (path, text) in files {
            tree.put_text(tree_path(path), *text);
        }
        put_manifest(&mut tree, tree_path(&format!("releases/{version}/{MANIFEST}")));
        tree
    }

    fn write(&mut self, version: &str, files: &[(&str, &str)]) -> Result<(), AssembleError> {
        let tree = self.tree(version, files);
        self.write_tree(&tree, version, false)
    }

    fn write_tree(&mut self, tree: &ReleaseTree, version: &str, overwrite: bool) -> Result<(), AssembleError> {
        let root = self.root();
        let lock = lock_destination(&root)?;
        write_release(tree, &root, version, overwrite, &mut self.cache, &lock)
    }

    /// Returns the names beside the destination that a writer made.
    fn leftovers(&self) -> Vec<String> {
        let names =
            fs::read_dir(self.dir.path()).unwrap().map(|found| found.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains("dram-new")).collect()
    }
}

#[test]
fn a_fresh_release_has_files_directories_links_and_modes() {
    let mut place = TestDestination::new();
    let mut tree = place.tree("1.0", &[("releases/1.0/a", "text")]);
    tree.put(tree_path("empty"), ReleaseEntry::Dir);
    tree.put(tree_path("bin/link"), ReleaseEntry::Link(b"../lib/copied".to_vec()));
    let content = ReleaseFileContent::Embedded(b"program");
    tree.put(tree_path("bin/demo"), ReleaseEntry::File { content, mode: 0o755 });
    let content = ReleaseFileContent::Bytes(b"secret".to_vec());
    tree.put(tree_path("key"), ReleaseEntry::File { content, mode: 0o600 });
    place.write_tree(&tree, "1.0", false).unwrap();
    assert_eq!(place.read("releases/1.0/a").as_deref(), Some("text"));
    assert_eq!(place.read("bin/link").as_deref(), Some("one"), "the link leads to the copied file");
    assert!(fs::symlink_metadata(place.root().join("empty")).unwrap().is_dir());
    let mode = |path: &str| fs::metadata(place.root().join(path)).unwrap().mode() & 0o700;
    assert_eq!((mode("bin/demo"), mode("key"), mode("lib/copied")), (0o700, 0o600, 0o600));
    assert_eq!(fs::metadata(place.root().join("key")).unwrap().mode() & 0o077, 0);
    assert_eq!(place.leftovers(), [""; 0]);
}

#[test]
fn an_unchanged_release_is_not_written_again() {
    let mut place = TestDestination::new();
    place.write("1.0", &[("releases/1.0/a", "text")]).unwrap();
    let before = (place.inode(""), place.inode("releases/1.0/a"));
    place.write("1.0", &[("releases/1.0/a", "text")]).unwrap();
    assert_eq!((place.inode(""), place.inode("releases/1.0/a")), before);
}

#[test]
fn a_changed_file_is_written_and_an_unchanged_copy_is_linked() {
    let mut place = TestDestination::new();
    place.write("1.0", &[("releases/1.0/a", "text")]).unwrap();
    let copied = place.inode("lib/copied");
    place.write("1.0", &[("releases/1.0/a", "new text")]).unwrap();
    assert_eq!(place.read("releases/1.0/a").as_deref(), Some("new text"));
    assert_eq!(place.inode("lib/copied"), copied, "its source did not change");
    fs::write(place.dir.path().join("source"), "two!").unwrap();
    place.write("1.0", &[("releases/1.0/a", "new text")]).unwrap();
    assert_eq!(place.read("lib/copied").as_deref(), Some("two!"));
}

#[test]
fn a_copy_that_was_changed_in_the_release_is_restored() {
    let mut place = TestDestination::new();
    place.write("1.0", &[]).unwrap();
    fs::write(place.root().join("lib/copied"), "edited").unwrap();
    place.write("1.0", &[]).unwrap();
    assert_eq!(place.read("lib/copied").as_deref(), Some("one"));
}

#[test]
fn a_file_whose_mode_became_private_is_written_again() {
    let mut place = TestDestination::new();
    place.write("1.0", &[]).unwrap();
    let mut tree = place.tree("1.0", &[]);
    put_disk(&mut tree, "lib/copied", &place.dir.path().join("source"), 0o600);
    place.write_tree(&tree, "1.0", false).unwrap();
    assert_eq!(fs::metadata(place.root().join("lib/copied")).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_stale_file_is_removed_and_files_of_others_are_kept() {
    let mut place = TestDestination::new();
    place.write("0.9", &[("lib/shared", "shared"), ("lib/old-0.9", "old")]).unwrap();
    place.write("1.0", &[("lib/shared", "shared"), ("lib/stale", "stale")]).unwrap();
    fs::create_dir(place.root().join("log")).unwrap();
    fs::write(place.root().join("log/erlang.log"), "line").unwrap();
    symlink("nowhere", place.root().join("log/current")).unwrap();
    place.write("1.0", &[("lib/new", "new")]).unwrap();
    assert_eq!(place.read("lib/stale"), None, "this version had it and has it no more");
    assert_eq!(place.read("lib/shared").as_deref(), Some("shared"), "another version has it too");
    assert_eq!(place.read("lib/old-0.9").as_deref(), Some("old"));
    assert_eq!(place.read("log/erlang.log").as_deref(), Some("line"));
    assert_eq!(fs::read_link(place.root().join("log/current")).unwrap(), Path::new("nowhere"));
}

#[test]
fn a_directory_that_is_no_release_is_refused() {
    let mut place = TestDestination::new();
    fs::create_dir(place.root()).unwrap();
    fs::write(place.root().join("notes"), "mine").unwrap();
    assert!(matches!(place.write("1.0", &[]), Err(AssembleError::NotARelease(_))));
    assert_eq!(place.read("notes").as_deref(), Some("mine"));
    fs::remove_file(place.root().join("notes")).unwrap();
    place.write("1.0", &[]).expect("an empty directory is no obstacle");
}

#[test]
fn a_version_of_another_tool_is_replaced_only_when_asked_for() {
    let mut place = TestDestination::new();
    fs::create_dir_all(place.root().join("releases/1.0")).unwrap();
    fs::write(place.root().join("releases/1.0/theirs"), "x").unwrap();
    assert!(matches!(place.write("1.0", &[]), Err(AssembleError::NotWrittenByDram(_))));
    assert_eq!(place.read("releases/1.0/theirs").as_deref(), Some("x"));
    let tree = place.tree("1.0", &[]);
    place.write_tree(&tree, "1.0", true).unwrap();
    assert_eq!(place.read("releases/1.0/theirs"), None);
}

#[test]
fn a_missing_source_leaves_the_old_release_and_no_staging_directory() {
    let mut place = TestDestination::new();
    place.write("1.0", &[("lib/a", "old")]).unwrap();
    let mut tree = place.tree("1.0", &[("lib/a", "new")]);
    put_disk(&mut tree, "lib/missing", &place.dir.path().join("gone"), 0o644);
    let error = place.write_tree(&tree, "1.0", false).unwrap_err();
    assert!(error.to_string().contains("cannot read"), "{error}");
    assert_eq!(place.read("lib/a").as_deref(), Some("old"));
    assert_eq!(place.leftovers(), [""; 0]);
}

#[test]
fn after_a_kill_at_any_step_the_next_run_finds_one_whole_release() {
    for steps in 0..=REPLACE_STEPS.len() {
        let place = TestDestination::new();
        let root = place.root();
        for (dir, text) in [(root.clone(), "old"), (staging_dir(&root), "new")] {
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("release"), text).unwrap();
        }
        for step in &REPLACE_STEPS[..steps] {
            step(&root).unwrap();
        }
        let lock = lock_destination(&root).unwrap();
        let expected = if steps < 2 { "old" } else { "new" };
        assert_eq!(place.read("release").as_deref(), Some(expected), "after {steps} steps");
        assert_eq!(place.leftovers(), [""; 0], "after {steps} steps");
        drop(lock);
    }
}

#[test]
fn a_failed_second_rename_moves_the_old_release_back() {
    let place = TestDestination::new();
    fs::create_dir(place.root()).unwrap();
    fs::write(place.root().join("release"), "old").unwrap();
    // There is no staging directory that could be moved.
    let error = replace_directory(&place.root()).unwrap_err();
    assert!(error.to_string().contains("cannot move to"), "{error}");
    assert_eq!(place.read("release").as_deref(), Some("old"));
    assert_eq!(place.leftovers(), [""; 0]);
}

#[test]
fn the_destination_cannot_be_locked_twice() {
    let place = TestDestination::new();
    let _lock = lock_destination(&place.root()).unwrap();
    let other = File::open(place.dir.path()).unwrap();
    let second = rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive);
    assert_eq!(second, Err(rustix::io::Errno::WOULDBLOCK));
}

#[test]
fn modes_that_a_umask_explains_are_equal() {
    for (found, wanted, is_same) in [
        (0o644, 0o644, true),
        (0o600, 0o644, true),
        (0o640, 0o644, true),
        (0o644, 0o600, false),
        (0o755, 0o644, false),
        (0o700, 0o755, true),
        (0o666, 0o644, false),
    ] {
        assert_eq!(has_mode(found, wanted), is_same, "{found:o} {wanted:o}");
    }
}
