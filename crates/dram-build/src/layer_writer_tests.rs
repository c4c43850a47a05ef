//! Tests of the layer writer over directories.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use dram_image::tar::Xattr;
use dram_plan::ChmodMode;
use dram_store::{FileTree, MergedTree, StoreError, TreeNode};

use crate::layer_writer::{ArchiveRules, LayerWriteError, LayerWriter, MetadataOverride};
use crate::testing::NOW;

/// The directories of one test: the layer below, the files to copy, and the layer that is written.
pub(crate) struct LayerDirs {
    _dir: tempfile::TempDir,
    pub(crate) below: PathBuf,
    pub(crate) source: PathBuf,
    pub(crate) layer: PathBuf,
}

impl LayerDirs {
    pub(crate) fn new() -> LayerDirs {
        let dir = tempfile::tempdir().unwrap();
        let [below, source, layer] = ["below", "source", "layer"].map(|name| dir.path().join(name));
        [&below, &source, &layer].iter().for_each(|path| fs::create_dir(path).unwrap());
        LayerDirs { _dir: dir, below, source, layer }
    }

    /// Writes a layer with `write`, which also gets the tree of the source directory.
    pub(crate) fn write<T>(
        &self,
        over: MetadataOverride,
        write: impl FnOnce(&mut LayerWriter<'_>, &MergedTree) -> Result<T, LayerWriteError>,
    ) -> Result<T, LayerWriteError> {
        let below = MergedTree::open(std::slice::from_ref(&self.below))?;
        let source = MergedTree::open(std::slice::from_ref(&self.source))?;
        let mut writer = LayerWriter::new(&below, &self.layer, over, NOW)?;
        let done = write(&mut writer, &source)?;
        writer.finish()?;
        Ok(done)
    }
}

pub(crate) fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

fn node(tree: &MergedTree, text: &str) -> TreeNode {
    tree.node_at(&path(text)).unwrap().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn existing_directory_keeps_its_mode_and_a_new_one_is_readable_for_all() {
    let dirs = LayerDirs::new();
    fs::create_dir(dirs.below.join("old")).unwrap();
    set_mode(&dirs.below.join("old"), 0o700);
    dirs.write(MetadataOverride::default(), |writer, _| writer.make_dirs(&path("old/new"))).unwrap();
    assert_eq!(mode(&dirs.layer.join("old")), 0o700);
    assert_eq!(mode(&dirs.layer.join("old/new")), 0o755);
}

#[test]
fn mode_of_a_copy_is_set_on_files_and_new_directories_and_not_on_existing_ones() {
    let dirs = LayerDirs::new();
    fs::create_dir(dirs.below.join("old")).unwrap();
    set_mode(&dirs.below.join("old"), 0o755);
    fs::create_dir(dirs.source.join("sub")).unwrap();
    fs::write(dirs.source.join("sub/f"), "1").unwrap();
    let over = MetadataOverride { owner: None, mode: ChmodMode::parse("0711") };
    dirs.write(over, |writer, source| {
        writer.make_dirs(&path("old"))?;
        writer.copy_contents(source, &TreePath::root(), &path("old"))
    })
    .unwrap();
    let modes = ["old", "old/sub", "old/sub/f"].map(|name| mode(&dirs.layer.join(name)));
    assert_eq!(modes, [0o755, 0o711, 0o711]);
}

#[test]
fn file_and_directory_do_not_replace_each_other_unless_an_archive_is_unpacked() {
    let dirs = LayerDirs::new();
    fs::create_dir(dirs.below.join("dir")).unwrap();
    fs::write(dirs.below.join("file"), "1").unwrap();
    fs::write(dirs.source.join("dir"), "a file").unwrap();
    fs::create_dir(dirs.source.join("file")).unwrap();
    let plain = MetadataOverride::default;
    let copied = dirs.write(plain(), |writer, source| writer.copy_file(source, &node(source, "dir"), &path("dir")));
    assert!(matches!(copied, Err(LayerWriteError::IsDir { path: at }) if at == path("dir")));
    let made = dirs.write(plain(), |writer, _| writer.make_dirs(&path("file/below")));
    assert!(matches!(made, Err(LayerWriteError::NotDir { path: at, there: "file" }) if at == path("file")));
    dirs.write(plain(), |writer, source| {
        writer.archive = Some(ArchiveRules { implied_dirs: BTreeSet::new() });
        writer.copy_contents(source, &TreePath::root(), &TreePath::root())
    })
    .unwrap();
    assert_eq!(fs::read_to_string(dirs.layer.join("dir")).unwrap(), "a file");
    assert!(dirs.layer.join("file").is_dir());
}

#[test]
fn names_of_one_file_stay_one_file() {
    let dirs = LayerDirs::new();
    fs::write(dirs.source.join("a"), "1").unwrap();
    fs::hard_link(dirs.source.join("a"), dirs.source.join("b")).unwrap();
    dirs.write(MetadataOverride::default(), |writer, source| {
        writer.copy_contents(source, &TreePath::root(), &TreePath::root())
    })
    .unwrap();
    let inode = |name: &str| fs::metadata(dirs.layer.join(name)).unwrap().ino();
    assert_eq!(inode("a"), inode("b"));
}

#[test]
fn runs_of_zeros_become_holes_and_the_content_stays() {
    let dirs = LayerDirs::new();
    let mut bytes = vec![0; 1 << 20];
    bytes.extend(b"end");
    bytes.extend(vec![0; 1 << 20]);
    fs::write(dirs.source.join("f"), &bytes).unwrap();
    dirs.write(MetadataOverride::default(), |writer, source| writer.copy_file(source, &node(source, "f"), &path("f")))
        .unwrap();
    assert_eq!(fs::read(dirs.layer.join("f")).unwrap(), bytes);
    assert!(fs::metadata(dirs.layer.join("f")).unwrap().blocks() * 512 < 1 << 20);
}

#[test]
fn links_are_copied_as_links_and_followed_in_the_layers_below() {
    let dirs = LayerDirs::new();
    fs::create_dir(dirs.below.join("real")).unwrap();
    std::os::unix::fs::symlink("real", dirs.below.join("link")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dirs.source.join("l")).unwrap();
    dirs.write(MetadataOverride::default(), |writer, source| {
        let (target, _) = writer.resolve(&path("link/new"))?;
        assert_eq!(target, path("real/new"));
        writer.make_dirs(&target)?;
        writer.copy_file(source, &node(source, "l"), &target.join(b"l"))
    })
    .unwrap();
    assert_eq!(fs::read_link(dirs.layer.join("real/new/l")).unwrap(), Path::new("/etc/passwd"));
}

#[test]
fn later_copy_replaces_what_an_earlier_one_wrote_in_the_same_layer() {
    let dirs = LayerDirs::new();
    dirs.write(MetadataOverride::default(), |writer, _| {
        assert!(writer.is_empty());
        writer.write_file(&path("f"), b"a longer first version", 0o600)?;
        writer.write_file(&path("f"), b"2", 0o644)?;
        assert!(!writer.is_empty());
        assert!(matches!(writer.make_dirs(&path("f")), Err(LayerWriteError::NotDir { .. })));
        Ok(())
    })
    .unwrap();
    assert_eq!(fs::read_to_string(dirs.layer.join("f")).unwrap(), "2");
    assert_eq!(mode(&dirs.layer.join("f")), 0o644);
}

/// A tree that promises another content than its files have.
struct ChangedTree<'a>(&'a MergedTree);

impl FileTree for ChangedTree<'_> {
    fn find(&self, path: &TreePath, follow: bool) -> Result<Option<TreeNode>, StoreError> {
        self.0.find(path, follow)
    }

    fn node_at(&self, path: &TreePath) -> Result<Option<TreeNode>, StoreError> {
        self.0.node_at(path)
    }

    fn list(&self, dir: &TreePath) -> Result<Vec<Vec<u8>>, StoreError> {
        self.0.list(dir)
    }

    fn read_link(&self, path: &TreePath) -> Result<Vec<u8>, StoreError> {
        self.0.read_link(path)
    }

    fn open(&self, path: &TreePath) -> Result<File, StoreError> {
        self.0.open(path)
    }

    fn xattrs(&self, node: &TreeNode) -> Result<Vec<Xattr>, StoreError> {
        self.0.xattrs(node)
    }

    fn recorded_content_digest(&self, node: &TreeNode) -> Option<[u8; 32]> {
        let promised: &[u8] = if node.path == path("same") { b"1" } else { b"2" };
        Some(*blake3::hash(promised).as_bytes())
    }
}

#[test]
fn file_that_changed_after_its_digest_was_taken_is_refused() {
    let dirs = LayerDirs::new();
    fs::write(dirs.source.join("same"), "1").unwrap();
    fs::write(dirs.source.join("changed"), "1").unwrap();
    let copy = |name: &str| {
        dirs.write(MetadataOverride::default(), |writer, source| {
            writer.copy_file(&ChangedTree(source), &node(source, name), &path(name))
        })
    };
    copy("same").unwrap();
    assert!(matches!(copy("changed"), Err(LayerWriteError::Changed { path: at }) if at == path("changed")));
}
