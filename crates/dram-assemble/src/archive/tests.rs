use std::os::unix::fs::{PermissionsExt as _, symlink};

use dram_image::tar::TarReader;

use super::*;
use crate::test_project::{put_disk, tree_path};

const TIME: i64 = 1_700_000_000;

/// A release on disk, and the tree it was written from.
struct WrittenRelease {
    dir: tempfile::TempDir,
    tree: ReleaseTree,
}

impl WrittenRelease {
    fn new(files: &[(&str, &str, u32)]) -> WrittenRelease {
        let mut release = WrittenRelease { dir: tempfile::tempdir().unwrap(), tree: ReleaseTree::default() };
        files.iter().for_each(|(path, text, mode)| release.add(path, text, *mode));
        release
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("demo")
    }

    fn add(&mut self, path: &str, text: &str, mode: u32) {
        let full = self.root().join(path);
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        fs::write(&full, text).unwrap();
        put_disk(&mut self.tree, path, &full, mode);
    }

    fn link(&mut self, to: &str, path: &str) {
        let full = self.root().join(path);
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        symlink(to, full).unwrap();
        self.tree.put(tree_path(path), ReleaseEntry::Link(to.as_bytes().to_vec()));
    }

    fn archive(&self, packing: &ArchivePacking) -> Result<ReleaseArchive, AssembleError> {
        write_archive(&self.tree, &self.root(), &self.dir.path().join("demo.tar.gz"), ReleaseTimes::Same(TIME), packing)
    }

    fn cache(&self) -> GzipMemberCache {
        GzipMemberCache::new(self.dir.path().join("pieces"))
    }

    /// Returns the entries of the archive, each as kind, mode and path, and the content of files.
    fn listing(&self, packing: &ArchivePacking) -> Vec<String> {
        let archive = self.archive(packing).unwrap();
        let mut reader = TarReader::new(flate2::read::MultiGzDecoder::new(File::open(archive.path).unwrap()));
        let mut lines = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            assert_eq!((entry.uid, entry.gid, entry.mtime), (0, 0, TIME));
            let path = entry.path.as_path().display();
            lines.push(match entry.kind {
                TarEntryKind::Dir => format!("d {:o} {path}", entry.mode),
                TarEntryKind::Symlink(to) => format!("l {path} {}", to.escape_ascii()),
                TarEntryKind::File { size } => {
                    let mut text = vec![0; usize::try_from(size).unwrap()];
                    let read = reader.read_data(&mut text).unwrap();
                    format!("f {:o} {path} {}", entry.mode, text[..read].escape_ascii())
                }
                other @ (TarEntryKind::HardLink(_)
                | TarEntryKind::Char(..)
                | TarEntryKind::Block(..)
                | TarEntryKind::Fifo) => panic!("{other:?}"),
            });
        }
        lines
    }
}

const WHOLE: ArchivePacking = ArchivePacking::SingleMember;

fn parts() -> ArchivePacking {
    ArchivePacking::MultiMember(None)
}

#[test]
fn entries_are_sorted_with_their_directories_and_modes() {
    let mut release =
        WrittenRelease::new(&[("lib/b/x", "2", 0o644), ("bin/demo", "1", 0o755), ("lib/a/key", "3", 0o600)]);
    release.link("../lib/b/x", "bin/link");
    release.tree.put(tree_path("log"), ReleaseEntry::Dir);
    assert_eq!(
        release.listing(&parts()),
        [
            "d 755 bin",
            "f 755 bin/demo 1",
            "l bin/link ../lib/b/x",
            "d 755 lib",
            "d 755 lib/a",
            "f 600 lib/a/key 3",
            "d 755 lib/b",
            "f 644 lib/b/x 2",
            "d 755 log",
        ]
    );
}

#[test]
fn the_same_files_give_the_same_bytes_whatever_their_times() {
    let files = [("lib/a/x", "1", 0o644), ("lib/b/x", "2", 0o644)];
    let (one, other) = (WrittenRelease::new(&files), WrittenRelease::new(&files));
    let past = std::time::UNIX_EPOCH + std::time::Duration::from_secs(5);
    File::options().write(true).open(other.root().join("lib/a/x")).unwrap().set_modified(past).unwrap();
    fs::set_permissions(other.root().join("lib/b/x"), fs::Permissions::from_mode(0o640)).unwrap();
    for packing in [&WHOLE, &parts()] {
        let (one, other) = (one.archive(packing).unwrap(), other.archive(packing).unwrap());
        assert_eq!((one.digest, one.size), (other.digest, other.size));
        assert_eq!(one.digest, Digest::of(&fs::read(&one.path).unwrap()));
    }
}

#[test]
fn cached_members_give_the_same_bytes_and_unused_ones_are_removed() {
    let mut release = WrittenRelease::new(&[("lib/a/x", "1", 0o644), ("lib/b/x", "2", 0o644)]);
    let plain = release.archive(&parts()).unwrap().digest;
    let names = |release: &WrittenRelease| {
        let mut names: Vec<_> =
            fs::read_dir(release.dir.path().join("pieces")).unwrap().map(|found| found.unwrap().file_name()).collect();
        names.sort();
        names
    };
    for _ in 0..2 {
        let packing = ArchivePacking::MultiMember(Some(release.cache()));
        assert_eq!(release.archive(&packing).unwrap().digest, plain);
    }
    let before = names(&release);
    assert!(before.len() > 1, "each application has a member of its own: {before:?}");
    release.add("lib/b/x", "3", 0o644);
    let cache = release.cache();
    let packing = ArchivePacking::MultiMember(Some(cache));
    let changed = release.archive(&packing).unwrap().digest;
    let ArchivePacking::MultiMember(Some(cache)) = &packing else { panic!("it was made above") };
    cache.remove_unused();
    let after = names(&release);
    assert_ne!(changed, plain);
    assert_eq!(after.len(), before.len());
    assert_eq!(after.iter().filter(|name| !before.contains(name)).count(), 1, "one member changed");
}

#[test]
fn a_damaged_cache_entry_is_a_miss() {
    let release = WrittenRelease::new(&[]);
    let cache = release.cache();
    cache.put("key", b"member");
    assert_eq!(cache.get("key").as_deref(), Some(&b"member"[..]));
    let path = release.dir.path().join("pieces/key");
    let whole = fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() - 1], &whole[..DIGEST_LEN], &whole[..5], b""] {
        fs::write(&path, damaged).unwrap();
        assert_eq!(cache.get("key"), None, "{} bytes", damaged.len());
    }
    assert_eq!(cache.get("another"), None);
}

#[test]
fn links_that_erl_tar_refuses_become_files() {
    let mut release = WrittenRelease::new(&[("lib/x", "text", 0o644), ("lib/key", "key", 0o644)]);
    let root = release.root();
    fs::set_permissions(root.join("lib/key"), fs::Permissions::from_mode(0o600)).unwrap();
    release.link("../lib/x", "bin/up");
    release.link("x", "lib/same");
    let absolute = root.join("lib/key");
    release.link(absolute.to_str().unwrap(), "lib/absolute");
    let lines = release.listing(&WHOLE);
    for line in ["f 644 bin/up text", "l lib/same x", "f 600 lib/absolute key"] {
        assert!(lines.contains(&line.to_owned()), "{line}: {lines:?}");
    }
}

#[test]
fn a_link_to_a_directory_outside_is_refused_for_an_upgrade() {
    let mut release = WrittenRelease::new(&[("lib/x", "text", 0o644)]);
    release.link("../lib", "bin/up");
    let error = release.archive(&WHOLE).unwrap_err().to_string();
    assert!(error.starts_with("`bin/up` is a link out of its directory"), "{error}");
    assert!(release.archive(&parts()).is_ok(), "other archives have the link");
}

#[test]
fn a_failed_archive_leaves_the_old_one_and_no_half() {
    let mut release = WrittenRelease::new(&[("lib/x", "text", 0o644)]);
    let before = release.archive(&parts()).unwrap();
    put_disk(&mut release.tree, "lib/missing", Path::new("unused"), 0o644);
    let error = release.archive(&parts()).unwrap_err().to_string();
    assert!(error.contains("lib/missing"), "{error}");
    assert_eq!(Digest::of(&fs::read(before.path).unwrap()), before.digest);
    assert_eq!(fs::read_dir(release.dir.path()).unwrap().count(), 2, "the release and the archive");
    assert!(!release.dir.path().join(".demo.tar.gz.dram-new").exists());
}
