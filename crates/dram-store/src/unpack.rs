//! Unpacks a tar into a directory. Its paths are untrusted: each is resolved beneath the directory's handle.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek as _, SeekFrom, Write as _};

use dram_image::tar::{TarEntry, TarEntryKind, TarError, TarReader};
use dram_image::{ArchiveLimit, ArchiveLimits, TreePath};

use crate::dir::FileMetadata;
use crate::id_mapping::is_initial_namespace_map;
use crate::merged::is_portable;
use crate::{Dir, FileKind, StoreError};

/// The treatment of `.wh.` names in a tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnpackMode {
    /// A layer: they are whiteouts (OCI image specification, `layer.md`).
    Layer,
    /// Any other archive: they are ordinary names.
    Archive,
}

/// Options of [`unpack`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnpackOptions<'a> {
    /// The treatment of `.wh.` names.
    pub(crate) mode: UnpackMode,
    /// Limits on the archive's size and entries.
    pub(crate) limits: &'a ArchiveLimits,
    /// The archive's name, for error messages.
    pub(crate) archive_name: &'a str,
}

impl UnpackOptions<'_> {
    fn tar_error(&self, source: TarError) -> StoreError {
        let what = self.archive_name.to_owned();
        match self.mode {
            UnpackMode::Layer => StoreError::LayerTar { what, source },
            UnpackMode::Archive => StoreError::Tar { what, source },
        }
    }
}

/// The memory that a path takes apart from its text, in bytes.
const DEPENDENCY_OVERHEAD: u64 = 32;

/// The paths of a layer whose result depends on its parent layers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ParentDeps {
    /// Directories without an entry of their own, created because an entry lies below them.
    pub(crate) implied_dirs: BTreeSet<TreePath>,
    /// Whiteouts.
    pub(crate) whiteouts: BTreeSet<TreePath>,
}

/// Unpacks `stream` into the empty directory `root` and reads it to its end. Returns the layer's dependencies on parent
/// layers.
pub(crate) fn unpack(stream: &mut dyn Read, root: &Dir, options: UnpackOptions<'_>) -> Result<ParentDeps, StoreError> {
    let fail = |source: TarError| options.tar_error(source);
    let mut reader = TarReader::new(stream).with_limits(options.limits);
    let mut unpacker = TarUnpacker {
        root,
        options,
        current_dir: None,
        dir_metadata: DirMetadataTree::default(),
        parent_deps: ParentDeps::default(),
        whited_out: BTreeSet::new(),
        dependency_bytes: 0,
        buffer: vec![0; 128 << 10],
    };
    while let Some(entry) = reader.next_entry().map_err(fail)? {
        unpacker.unpack_entry(&entry, &mut reader)?;
    }
    reader.drain().map_err(fail)?;
    unpacker.apply_dir_metadata()
}

struct TarUnpacker<'a> {
    root: &'a Dir,
    options: UnpackOptions<'a>,
    /// The directory of the previous entry, kept open because consecutive entries mostly share it.
    current_dir: Option<(TreePath, Dir)>,
    /// Metadata of directories, applied after all entries are unpacked.
    dir_metadata: DirMetadataTree,
    parent_deps: ParentDeps,
    /// Paths that whiteouts removed; a directory created there is opaque.
    whited_out: BTreeSet<TreePath>,
    /// The size of the dependencies so far.
    dependency_bytes: u64,
    buffer: Vec<u8>,
}

impl TarUnpacker<'_> {
    fn unpack_entry(&mut self, entry: &TarEntry, data: &mut TarReader<&mut dyn Read>) -> Result<(), StoreError> {
        let (Some(parent), Some(name)) = (entry.path.parent(), entry.path.name()) else {
            return self.unpack_root_entry(entry);
        };
        self.enter_dir(&parent, entry)?;
        if let (UnpackMode::Layer, Some(hidden)) = (self.options.mode, name.strip_prefix(b".wh.")) {
            return self.apply_whiteout(&parent, hidden, entry);
        }
        let (_, dir) = self.current_dir.as_ref().expect("entered above");
        let name = TreePath::parse(name)?;
        let there = dir.status(&name)?;
        let both_dirs = entry.kind == TarEntryKind::Dir && there.as_ref().is_some_and(|s| s.kind == FileKind::Dir);
        if there.is_some() && !both_dirs && !is_link_to_itself(entry) {
            dir.remove(&name)?;
            self.dir_metadata.remove(&entry.path);
        }
        // The removed entry may be a directory of earlier entries; the handle of its parent directory stays valid.
        let (_, dir) = self.current_dir.as_ref().expect("entered above");
        let meta = entry_metadata(entry);
        match &entry.kind {
            TarEntryKind::File { .. } => write_file(dir, &name, data, &mut self.buffer, &self.options)?,
            TarEntryKind::Dir => {
                if !both_dirs {
                    make_dir(dir, &name, self.whited_out.contains(&entry.path))?;
                }
                if !self.parent_deps.implied_dirs.is_empty() {
                    self.parent_deps.implied_dirs.remove(&self.root.path_of(dir)?.append(&name));
                }
                self.dir_metadata.insert(&entry.path, meta.clone());
            }
            TarEntryKind::Symlink(target) => dir.make_symlink(&name, target)?,
            TarEntryKind::HardLink(target) => return make_hard_link(self.root, target, dir, &name, entry),
            TarEntryKind::Char(0, 0) => {
                let why = "a character device 0:0 is overlayfs's mark for a deleted file";
                return Err(StoreError::InvalidEntry { entry: entry.path.to_string(), why });
            }
            TarEntryKind::Char(major, minor) => dir.make_node(&name, FileKind::Char(*major, *minor))?,
            TarEntryKind::Block(major, minor) => dir.make_node(&name, FileKind::Block(*major, *minor))?,
            TarEntryKind::Fifo => dir.make_node(&name, FileKind::Fifo)?,
        }
        dir.set_metadata(&name, &meta, matches!(entry.kind, TarEntryKind::Symlink(_)))?;
        set_xattrs(dir, &name, entry)
    }

    fn unpack_root_entry(&mut self, entry: &TarEntry) -> Result<(), StoreError> {
        if entry.kind != TarEntryKind::Dir {
            // Some archives start with a nameless file, which all tools skip.
            if self.options.mode == UnpackMode::Archive {
                return Ok(());
            }
            let why = "the root of a layer is a directory";
            return Err(StoreError::InvalidEntry { entry: entry.path.to_string(), why });
        }
        self.dir_metadata.insert(&TreePath::root(), entry_metadata(entry));
        Ok(())
    }

    /// Opens the directory `path` and creates missing parents. Symbolic links cannot lead out of the root.
    fn enter_dir(&mut self, path: &TreePath, entry: &TarEntry) -> Result<(), StoreError> {
        if self.current_dir.as_ref().is_some_and(|(last, _)| last == path) {
            return Ok(());
        }
        let below_something = |error: StoreError| {
            let why = "what should be a directory on the way to it is none";
            if error.is_unresolvable_path() {
                StoreError::InvalidEntry { entry: entry.path.to_string(), why }
            } else {
                error
            }
        };
        let dir = match self.root.open_subdir_in_root(path) {
            Err(error) if error.is_unresolvable_path() => {
                self.make_implied_dirs(path).map_err(below_something)?;
                self.root.open_subdir_in_root(path).map_err(below_something)?
            }
            dir => dir?,
        };
        self.current_dir = Some((path.clone(), dir));
        Ok(())
    }

    /// Creates the missing directories of `path` with mode 0755 and owner root, as all engines do.
    fn make_implied_dirs(&mut self, path: &TreePath) -> Result<(), StoreError> {
        let mut at = TreePath::root();
        for part in path.components() {
            let dir = self.root.open_subdir_in_root(&at)?;
            let name = TreePath::parse(part)?;
            at = at.join(part);
            let there = dir.status(&name)?;
            if there.as_ref().is_some_and(|status| status.kind.is_whiteout()) {
                dir.remove(&name)?;
            } else if there.is_some() {
                continue;
            }
            make_dir(&dir, &name, self.whited_out.contains(&at))?;
            dir.set_metadata(&name, &FileMetadata { mode: 0o755, uid: 0, gid: 0, mtime: (0, 0) }, false)?;
            self.count_dependency(&at)?;
            self.parent_deps.implied_dirs.insert(self.root.path_of(&dir)?.append(&name));
        }
        Ok(())
    }

    /// Counts a path that is kept in memory until the archive ends, and afterwards in a record.
    fn count_dependency(&mut self, path: &TreePath) -> Result<(), StoreError> {
        self.dependency_bytes += path.as_bytes().len() as u64 + DEPENDENCY_OVERHEAD;
        let checked = self.options.limits.check(ArchiveLimit::Paths, self.dependency_bytes);
        checked.map_err(|exceeded| self.options.tar_error(TarError::LimitExceeded(exceeded)))
    }

    /// Applies a whiteout: `.wh.NAME` removes NAME of the parent layers, `.wh..wh..opq` makes the directory opaque, and
    /// other `.wh..wh.` names are internal to aufs. Entries of this layer itself are kept, in whatever order they come.
    fn apply_whiteout(&mut self, parent: &TreePath, hidden: &[u8], entry: &TarEntry) -> Result<(), StoreError> {
        let (_, dir) = self.current_dir.as_ref().expect("the caller entered it");
        match hidden {
            b".wh..opq" => dir.set_xattr(&TreePath::root(), (opaque_xattr_name(), b"y")),
            b"" | b"." | b".." => {
                let why = "a whiteout must name what it hides";
                Err(StoreError::InvalidEntry { entry: entry.path.to_string(), why })
            }
            aufs if aufs.starts_with(b".wh.") => Ok(()),
            name => {
                let hidden = parent.join(name);
                self.count_dependency(&hidden)?;
                self.whited_out.insert(hidden);
                let (_, dir) = self.current_dir.as_ref().expect("the caller entered it");
                let name = TreePath::parse(name)?;
                match dir.status(&name)?.map(|status| status.kind) {
                    None => {
                        self.parent_deps.whiteouts.insert(self.root.path_of(dir)?.append(&name));
                        dir.make_node(&name, FileKind::Char(0, 0))?;
                        // Packing the layer again gives the same tar only if its markers have their times, too.
                        dir.set_mtime(&name, (entry.mtime, 0))
                    }
                    Some(FileKind::Dir) => dir.set_xattr(&name, (opaque_xattr_name(), b"y")),
                    Some(_) => Ok(()),
                }
            }
        }
    }

    /// Applies the metadata of directories, deepest first, to those that still exist.
    fn apply_dir_metadata(self) -> Result<ParentDeps, StoreError> {
        let root = self.root;
        self.dir_metadata.for_each_deepest_first(&mut |path, meta| {
            let (dir, name) = match (path.parent(), path.name()) {
                (Some(parent), Some(name)) => (root.open_subdir_in_root(&parent)?, TreePath::parse(name)?),
                (None, _) | (_, None) => (root.open_subdir_in_root(&TreePath::root())?, TreePath::root()),
            };
            match dir.status(&name)?.is_some_and(|status| status.kind == FileKind::Dir) {
                true => dir.set_metadata(&name, meta, false),
                false => Ok(()),
            }
        })?;
        Ok(self.parent_deps)
    }
}

/// The metadata of directories, as a tree of their names: the paths of a hundred thousand directories may have 400 MB.
#[derive(Debug, Default)]
struct DirMetadataTree {
    metadata: Option<FileMetadata>,
    below: BTreeMap<Vec<u8>, DirMetadataTree>,
}

impl DirMetadataTree {
    fn insert(&mut self, path: &TreePath, metadata: FileMetadata) {
        let at = path.components().fold(self, |at, name| at.below.entry(name.to_vec()).or_default());
        at.metadata = Some(metadata);
    }

    /// Removes the metadata of `path` and of all directories below it.
    fn remove(&mut self, path: &TreePath) {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else { return };
        let at = parent.components().try_fold(self, |at, name| at.below.get_mut(name));
        if let Some(at) = at {
            at.below.remove(name);
        }
    }

    /// Calls `visit` for each directory with metadata, those below a directory before itself.
    fn for_each_deepest_first(
        self,
        visit: &mut dyn FnMut(&TreePath, &FileMetadata) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        // A stack instead of recursion, because the depth of a layer is untrusted.
        let mut open = vec![(TreePath::root(), self)];
        while let Some((path, dir)) = open.last_mut() {
            if let Some((name, below)) = dir.below.pop_last() {
                let path = path.join(&name);
                open.push((path, below));
                continue;
            }
            if let Some(metadata) = &dir.metadata {
                visit(path, metadata)?;
            }
            open.pop();
        }
        Ok(())
    }
}

/// Creates a directory. An opaque directory hides its content in parent layers.
fn make_dir(dir: &Dir, name: &TreePath, opaque: bool) -> Result<(), StoreError> {
    dir.make_dir(name, 0o700)?;
    if opaque { dir.set_xattr(name, (opaque_xattr_name(), b"y")) } else { Ok(()) }
}

fn entry_metadata(entry: &TarEntry) -> FileMetadata {
    FileMetadata { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: (entry.mtime, 0) }
}

fn is_link_to_itself(entry: &TarEntry) -> bool {
    matches!(&entry.kind, TarEntryKind::HardLink(target) if *target == entry.path)
}

/// The extended attribute of an opaque directory. Only the initial user namespace may set `trusted.` attributes.
fn opaque_xattr_name() -> &'static [u8] {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if is_initial_namespace_map(&map) { b"trusted.overlay.opaque" } else { b"user.overlay.opaque" }
}

fn write_file(
    dir: &Dir,
    name: &TreePath,
    data: &mut TarReader<&mut dyn Read>,
    buffer: &mut [u8],
    options: &UnpackOptions<'_>,
) -> Result<(), StoreError> {
    let mut file = dir.create_file(name, 0o600)?;
    let fail = |source| StoreError::io("write", &dir.display_path().join(name.as_path()))(source);
    // Blocks of zeros are written as holes, so that a small compressed tar of zeros cannot fill the disk.
    let mut hole = 0;
    loop {
        let got = data.read_data(buffer).map_err(|source| options.tar_error(source))?;
        if got > 0 && buffer[..got].iter().all(|&byte| byte == 0) {
            hole += got as u64;
            continue;
        }
        if hole > 0 {
            let end = file.seek(SeekFrom::Current(i64::try_from(hole).unwrap_or(i64::MAX))).map_err(fail)?;
            file.set_len(end).map_err(fail)?;
            hole = 0;
        }
        if got == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..got]).map_err(fail)?;
    }
}

fn make_hard_link(
    root: &Dir,
    target: &TreePath,
    dir: &Dir,
    name: &TreePath,
    entry: &TarEntry,
) -> Result<(), StoreError> {
    let wrong = |why| StoreError::InvalidEntry { entry: entry.path.to_string(), why };
    if is_link_to_itself(entry) {
        return Ok(());
    }
    let (Some(parent), Some(last)) = (target.parent(), target.name()) else {
        return Err(wrong("it is a hard link to a directory"));
    };
    let from = root.open_subdir_in_root(&parent).map_err(|_| wrong("it is a hard link to what does not exist"))?;
    let last = TreePath::parse(last)?;
    match from.status(&last)?.map(|status| status.kind) {
        None => Err(wrong("it is a hard link to what does not exist")),
        Some(FileKind::Dir) => Err(wrong("it is a hard link to a directory")),
        Some(_) => dir.make_link_from(&from, &last, name),
    }
}

fn set_xattrs(dir: &Dir, name: &TreePath, entry: &TarEntry) -> Result<(), StoreError> {
    for (key, value) in entry.xattrs.iter().filter(|(key, _)| is_portable(key)) {
        match dir.set_xattr(name, (key, value)) {
            // ext4 stores all attributes of a file in one block and reports ENOSPC when it overflows.
            Err(error) if value.len() > 1000 && error.is_disk_full() => {
                let why = "the disk does not hold an attribute as long as one that it has";
                return Err(StoreError::InvalidEntry { entry: entry.path.to_string(), why });
            }
            set => set?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use dram_image::tar::TarWriter;

    use super::*;

    /// Unpacks a layer that deletes `count` files in a directory whose path has 3900 bytes.
    fn unpack_deletions(count: usize) -> Result<(tempfile::TempDir, ParentDeps), StoreError> {
        let below = format!("{}/", "d".repeat(194)).repeat(20);
        let mut tar = TarWriter::new(Vec::new());
        for number in 0..count {
            let path = TreePath::parse(format!("{below}.wh.{number:05}").as_bytes()).unwrap();
            let (kind, xattrs) = (TarEntryKind::File { size: 0 }, Vec::new());
            let entry = TarEntry { path, kind, mode: 0o644, uid: 0, gid: 0, mtime: 0, xattrs };
            tar.append(&entry, &mut std::io::empty()).unwrap();
        }
        let bytes = tar.finish().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let options =
            UnpackOptions { mode: UnpackMode::Layer, limits: &ArchiveLimits::default(), archive_name: "the test" };
        let deps = unpack(&mut bytes.as_slice(), &Dir::open_layer(dir.path()).unwrap(), options)?;
        Ok((dir, deps))
    }

    #[test]
    fn dir_metadata_is_visited_deepest_first_and_removed_with_what_is_below() {
        let mut tree = DirMetadataTree::default();
        let metadata = |mode| FileMetadata { mode, uid: 0, gid: 0, mtime: (0, 0) };
        for (path, mode) in [("", 1), ("a", 2), ("a/b/c", 3), ("a-b", 4), ("d", 5), ("d/e/f", 6), ("a", 7)] {
            tree.insert(&TreePath::parse(path.as_bytes()).unwrap(), metadata(mode));
        }
        for path in ["d/e", "x/y", "a/b/c/d", ""] {
            tree.remove(&TreePath::parse(path.as_bytes()).unwrap());
        }
        let mut seen = Vec::new();
        tree.for_each_deepest_first(&mut |path, metadata| {
            seen.push((String::from_utf8(path.as_bytes().to_vec()).unwrap(), metadata.mode));
            Ok(())
        })
        .unwrap();
        let wanted = [("d", 5), ("a-b", 4), ("a/b/c", 3), ("a", 7), ("", 1)];
        assert_eq!(seen, wanted.map(|(path, mode)| (path.to_owned(), mode)));
    }

    #[test]
    fn deleted_paths_are_limited_in_their_sum_and_their_record_can_be_read() {
        let (dir, deps) = unpack_deletions(5_000).unwrap();
        assert_eq!((deps.whiteouts.len(), deps.implied_dirs.len()), (5_000, 20));
        let place = tempfile::tempdir().unwrap();
        let store = crate::Store::open(place.path()).unwrap();
        let record = place.path().join("record");
        crate::parent_deps::write_parent_deps(&record, &deps, &store).unwrap();
        assert_eq!(crate::parent_deps::read_parent_deps(&record).unwrap(), deps);
        drop(dir);
        let error = unpack_deletions(9_000).unwrap_err();
        assert_eq!(error.limit_exceeded().map(|exceeded| exceeded.limit), Some(ArchiveLimit::Paths), "{error}");
    }
}
