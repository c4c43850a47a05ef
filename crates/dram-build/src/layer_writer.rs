//! Writes a layer file by file, without a mount: a directory in overlay form over a snapshot that is only read.

use std::collections::{BTreeSet, HashMap};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use dram_plan::ChmodMode;
use dram_store::{Dir, FileKind, FileMetadata, FileStatus, FileTree, MergedTree, StoreError, TreeNode};

use crate::select_sources::children;

/// The shortest run of zeros that is written as a hole.
const MIN_HOLE_SIZE: usize = 4096;

/// Owner and mode that a copy sets instead of those of its source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MetadataOverride {
    /// User and group.
    pub(crate) owner: Option<(u32, u32)>,
    /// Permission bits.
    pub(crate) mode: Option<ChmodMode>,
}

impl MetadataOverride {
    fn apply_mode(&self, mode: u32, is_dir: bool) -> u32 {
        self.mode.as_ref().map_or(mode, |over| over.apply(mode, is_dir))
    }
}

/// A time in seconds since 1970, and nanoseconds.
pub(crate) type FileTime = (i64, u32);

/// The times that every file system of today holds, in seconds since 1970.
const COMMON_TIMES: std::ops::RangeInclusive<i64> = 0..=0x7fff_ffff;

/// The reasons why a file could not be put at its target.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerWriteError {
    #[error("{path} is a {there}, and a directory must go there")]
    NotDir { path: TreePath, there: &'static str },
    #[error("{path} changed while it was copied")]
    Changed { path: TreePath },
    #[error("the file system of the store cannot hold the time of {path}, {}", dram_image::rfc3339(*time))]
    Time { path: TreePath, time: i64 },
    #[error("{path} is a directory, and a file must go there")]
    IsDir { path: TreePath },
    #[error("{error}")]
    Remote { at: usize, error: crate::RemoteError },
    #[error("several files go to {path}, which is no directory: each would overwrite the one before")]
    SeveralSources { path: TreePath },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The rules for the files of an archive: an entry replaces whatever is at its path, also a directory by a file and the
/// other way round.
#[derive(Debug)]
pub(crate) struct ArchiveRules {
    /// The directories of the archive without an entry of their own. At the destination an existing directory keeps its
    /// metadata, and a link to a directory is followed, so that `bin/tool` does not replace `/bin -> usr/bin`.
    pub(crate) implied_dirs: BTreeSet<TreePath>,
}

/// A layer that is being written.
pub(crate) struct LayerWriter<'a> {
    below: &'a MergedTree,
    root: Dir,
    path: PathBuf,
    /// Directories that the layer has already.
    dirs: BTreeSet<TreePath>,
    /// The first name in the layer of each file with several hard links.
    hard_links: HashMap<(u64, u64), TreePath>,
    /// The times of directories, which are set when everything in them is written.
    dir_times: HashMap<TreePath, FileTime>,
    /// The time of what is made here: of new directories and files without a source, and of directories in which
    /// something is made.
    now: FileTime,
    /// The owner and mode that the copy sets.
    pub(crate) metadata: MetadataOverride,
    /// True if `user.*` attributes are copied: not from a build context or an archive, where BuildKit drops them too.
    /// File capabilities are always copied.
    pub(crate) copies_user_xattrs: bool,
    /// Set while the files of an archive are copied.
    pub(crate) archive: Option<ArchiveRules>,
    is_empty: bool,
}

impl<'a> LayerWriter<'a> {
    /// Starts a layer over `below` in the empty directory `path`. What is made here, and not copied, has the time `now`.
    pub(crate) fn new(
        below: &'a MergedTree,
        path: &Path,
        over: MetadataOverride,
        now: FileTime,
    ) -> Result<Self, StoreError> {
        let root = Dir::open_layer(path)?;
        let time = inherit_root_metadata(&root, below)?;
        Ok(LayerWriter {
            below,
            root,
            path: path.to_owned(),
            dirs: BTreeSet::from([TreePath::root()]),
            hard_links: HashMap::new(),
            dir_times: HashMap::from([(TreePath::root(), time)]),
            now,
            metadata: over,
            copies_user_xattrs: true,
            archive: None,
            is_empty: true,
        })
    }

    /// Returns whether nothing was put into the layer.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Sets the times of directories.
    pub(crate) fn finish(self) -> Result<(), StoreError> {
        for (path, &time) in &self.dir_times {
            self.root.set_mtime(path, time)?;
        }
        Ok(())
    }

    /// Resolves `path` to a real path in the layers below; links are followed as far as the path exists.
    pub(crate) fn resolve(&self, path: &TreePath) -> Result<(TreePath, Option<TreeNode>), StoreError> {
        self.below.resolve(path)
    }

    /// Returns the status at the real path `path`, in this layer or in those below.
    fn target_status(&self, path: &TreePath) -> Result<Option<FileStatus>, StoreError> {
        if path.parent().is_none_or(|parent| self.dirs.contains(&parent))
            && let Some(status) = self.root.status(path)?
        {
            return Ok(Some(status));
        }
        Ok(self.below.find(path, false)?.map(|node| node.status))
    }

    /// Records that something was made in the directory `dir` of the layer.
    fn touch_dir(&mut self, dir: Option<TreePath>) {
        self.dir_times.extend(dir.map(|dir| (dir, self.now)));
    }

    /// Ensures that the directory at the real path `path` and those above it are in the layer. An existing one keeps
    /// its metadata; a new one is 0755 and belongs to root, unless the copy says otherwise. As in BuildKit, an octal
    /// `--chmod` applies to new directories, and a symbolic one, which changes the modes of sources, does not.
    pub(crate) fn make_dirs(&mut self, path: &TreePath) -> Result<(), LayerWriteError> {
        let new = FileMetadata {
            mode: match &self.metadata.mode {
                Some(ChmodMode::Exact(mode)) => *mode,
                Some(ChmodMode::Changes(_)) | None => 0o755,
            },
            uid: self.metadata.owner.map_or(0, |owner| owner.0),
            gid: self.metadata.owner.map_or(0, |owner| owner.1),
            mtime: self.now,
        };
        let mut at = TreePath::root();
        for part in path.components() {
            at = at.join(part);
            self.make_dir(&at, &new)?;
        }
        Ok(())
    }

    /// Makes one directory, whose parent is in the layer.
    fn make_dir(&mut self, path: &TreePath, new: &FileMetadata) -> Result<(), LayerWriteError> {
        if self.dirs.contains(path) {
            return Ok(());
        }
        let there = self.target_status(path)?;
        let (meta, is_new) = match &there {
            Some(status) if status.kind == FileKind::Dir => (status.metadata(), false),
            Some(status) if self.archive.is_none() => {
                return Err(LayerWriteError::NotDir { path: path.clone(), there: file_kind_name(status.kind) });
            }
            Some(_) | None => (new.clone(), true),
        };
        self.root.remove(path)?;
        self.root.make_dir(path, 0o700)?;
        self.root.set_metadata(path, &meta, false)?;
        if !is_new && let Some(node) = self.below.node_at(path)? {
            self.copy_xattrs(self.below, &node, path)?;
        }
        if is_new {
            self.touch_dir(path.parent());
        }
        self.dir_times.insert(path.clone(), meta.mtime);
        self.dirs.insert(path.clone());
        self.is_empty = false;
        Ok(())
    }

    /// Returns whether the real path `path` is a directory, in this layer or in those below.
    pub(crate) fn is_dir(&self, path: &TreePath) -> Result<bool, StoreError> {
        Ok(self.target_status(path)?.is_some_and(|status| status.kind == FileKind::Dir))
    }

    fn copy_xattrs(&self, from: &dyn FileTree, source: &TreeNode, path: &TreePath) -> Result<(), StoreError> {
        for (name, value) in from.xattrs(source)?.iter().filter(|(name, _)| self.keeps_xattr(name)) {
            self.root.set_xattr(path, (name, value))?;
        }
        Ok(())
    }

    fn keeps_xattr(&self, xattr: &[u8]) -> bool {
        self.copies_user_xattrs || !xattr.starts_with(b"user.")
    }

    /// Returns owner, mode and time for the copy of a file with this status.
    fn copied_meta(&self, status: &FileStatus) -> FileMetadata {
        let (uid, gid) = self.metadata.owner.unwrap_or((status.uid, status.gid));
        FileMetadata {
            mode: self.metadata.apply_mode(status.mode, status.kind == FileKind::Dir),
            uid,
            gid,
            mtime: status.mtime,
        }
    }

    /// Copies the content of the directory `dir` of `tree` into the directory at the real path `target`, which is in
    /// the layer. Directories below it get the owner and mode of their source even if they exist. They and the target get
    /// the time of their source, as in BuildKit; the target of an archive does not.
    pub(crate) fn copy_contents(
        &mut self,
        tree: &dyn FileTree,
        dir: &TreePath,
        target: &TreePath,
    ) -> Result<(), LayerWriteError> {
        let mut todo = vec![(dir.clone(), target.clone())];
        // Set at the end: each file that is written touches its directory.
        let mut copied_times = Vec::new();
        if self.archive.is_none()
            && let Some(node) = tree.node_at(dir)?
        {
            self.root.set_mtime(target, node.status.mtime)?;
            self.check_time(target, node.status.mtime)?;
            copied_times.push((target.clone(), node.status.mtime));
        }
        while let Some((dir, target)) = todo.pop() {
            for child in children(tree, &dir)? {
                let target = target.join(child.path.name().unwrap_or_default());
                if child.status.kind != FileKind::Dir {
                    self.copy_file(tree, &child, &target)?;
                    continue;
                }
                let meta = self.copied_meta(&child.status);
                if self.archive.as_ref().is_some_and(|rules| rules.implied_dirs.contains(&child.path)) {
                    let new = FileMetadata { mtime: self.now, ..meta };
                    let target = self.make_implied_dir(&target, &new)?;
                    todo.push((child.path, target));
                    continue;
                }
                self.make_dir(&target, &meta)?;
                self.root.set_metadata(&target, &meta, false)?;
                self.check_time(&target, meta.mtime)?;
                self.copy_xattrs(tree, &child, &target)?;
                copied_times.push((target.clone(), meta.mtime));
                todo.push((child.path, target));
            }
        }
        for (dir, time) in copied_times {
            // A later file of an archive may have replaced the directory.
            if self.dirs.contains(&dir) {
                self.dir_times.insert(dir, time);
            }
        }
        Ok(())
    }

    /// Makes a directory that an archive only implies. Returns its real path: a link of the layers below that leads to a
    /// directory, within the root, is followed.
    fn make_implied_dir(&mut self, path: &TreePath, new: &FileMetadata) -> Result<TreePath, LayerWriteError> {
        let is_link_below = self.root.status(path)?.is_none()
            && self.target_status(path)?.is_some_and(|status| status.kind == FileKind::Symlink);
        if is_link_below {
            let (real, node) = self.resolve(path)?;
            if node.is_some_and(|node| node.status.kind == FileKind::Dir) {
                self.make_dirs(&real)?;
                return Ok(real);
            }
        }
        self.make_dir(path, new)?;
        Ok(path.clone())
    }

    /// Copies anything but a directory and replaces the file at the target. The target's parent is in the layer. A socket
    /// is left out, because the tar of the layer cannot hold it.
    pub(crate) fn copy_file(
        &mut self,
        tree: &dyn FileTree,
        node: &TreeNode,
        target: &TreePath,
    ) -> Result<(), LayerWriteError> {
        if node.status.kind == FileKind::Socket {
            return Ok(());
        }
        if self.is_dir(target)? {
            if self.archive.is_none() {
                return Err(LayerWriteError::IsDir { path: target.clone() });
            }
            self.dirs.retain(|made| made.strip_prefix(target).is_none());
            self.dir_times.retain(|path, _| path.strip_prefix(target).is_none());
            self.hard_links.retain(|_, path| path.strip_prefix(target).is_none());
        }
        self.root.remove(target)?;
        self.is_empty = false;
        self.touch_dir(target.parent());
        match node.status.kind {
            FileKind::File => {
                if node.status.link_count > 1 {
                    if let Some(first) = self.hard_links.get(&node.status.inode) {
                        return Ok(self.root.make_link(first, target)?);
                    }
                    self.hard_links.insert(node.status.inode, target.clone());
                }
                self.copy_bytes(tree, node, target)?;
            }
            FileKind::Symlink => self.root.make_symlink(target, &tree.read_link(&node.path)?)?,
            FileKind::Dir => unreachable!("the caller takes directories apart"),
            kind @ (FileKind::Char(..) | FileKind::Block(..) | FileKind::Fifo | FileKind::Socket) => {
                self.root.make_node(target, kind)?;
            }
        }
        self.root.set_metadata(target, &self.copied_meta(&node.status), node.status.kind == FileKind::Symlink)?;
        self.check_time(target, node.status.mtime)?;
        Ok(self.copy_xattrs(tree, node, target)?)
    }

    /// Fails if the file at `path`, whose time was set to `time`, got another one, as the file system cannot hold it.
    fn check_time(&self, path: &TreePath, time: FileTime) -> Result<(), LayerWriteError> {
        if COMMON_TIMES.contains(&time.0) || self.root.status(path)?.is_none_or(|status| status.mtime.0 == time.0) {
            return Ok(());
        }
        Err(LayerWriteError::Time { path: path.clone(), time: time.0 })
    }

    /// Writes a file with the content `bytes`; see [`write_stream`](Self::write_stream).
    pub(crate) fn write_file(&mut self, target: &TreePath, mut bytes: &[u8], mode: u32) -> Result<(), LayerWriteError> {
        self.write_stream(target, &mut bytes, (mode, self.now))
    }

    /// Writes a file with the content of `from` and replaces the file at the target. It belongs to root unless the copy
    /// says otherwise. The target's parent is in the layer.
    pub(crate) fn write_stream(
        &mut self,
        target: &TreePath,
        from: &mut dyn std::io::Read,
        (mode, mtime): (u32, FileTime),
    ) -> Result<(), LayerWriteError> {
        if self.is_dir(target)? {
            return Err(LayerWriteError::IsDir { path: target.clone() });
        }
        self.root.remove(target)?;
        self.is_empty = false;
        self.touch_dir(target.parent());
        let written = std::io::copy(from, &mut self.root.create_file(target, 0o600)?);
        written.map_err(|source| {
            let path = self.path.join(target.as_path());
            StoreError::Io { verb: "write", path, source }
        })?;
        let (uid, gid) = self.metadata.owner.unwrap_or((0, 0));
        let meta = FileMetadata { mode: self.metadata.apply_mode(mode, false), uid, gid, mtime };
        self.root.set_metadata(target, &meta, false)?;
        // A requested time, which is that of all files in the image, need not be on the disk.
        if mtime == self.now { Ok(()) } else { self.check_time(target, mtime) }
    }

    fn copy_bytes(&self, tree: &dyn FileTree, node: &TreeNode, target: &TreePath) -> Result<(), LayerWriteError> {
        let at = |verb, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { verb, path, source }
        };
        let mut from = tree.open(&node.path)?;
        let mut to = self.root.create_file(target, 0o600)?;
        let promised = tree.recorded_content_digest(node);
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 128 << 10];
        let shown = self.path.join(target.as_path());
        let (mut length, mut ends_in_hole) = (0, false);
        loop {
            let got = from.read(&mut buffer).map_err(at("read", node.path.as_path()))?;
            if got == 0 {
                break;
            }
            if promised.is_some() {
                hasher.update(&buffer[..got]);
            }
            length += got as u64;
            // A run of zeros is written as a hole, whether or not the source had one.
            ends_in_hole = got >= MIN_HOLE_SIZE && buffer[..got].iter().all(|byte| *byte == 0);
            if ends_in_hole {
                to.seek(SeekFrom::Start(length)).map_err(at("write", &shown))?;
            } else {
                to.write_all(&buffer[..got]).map_err(at("write", &shown))?;
            }
        }
        if ends_in_hole {
            to.set_len(length).map_err(at("write", &shown))?;
        }
        // The cache key covers the promised digest: other bytes must not be recorded under it.
        match promised {
            Some(promised) if *hasher.finalize().as_bytes() != promised => {
                Err(LayerWriteError::Changed { path: node.path.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Gives the root of a new layer the owner, mode and time of the root of `below`, because the root of a layer hides
/// those of the layers beneath it. Returns that time.
pub(crate) fn inherit_root_metadata(layer: &Dir, below: &MergedTree) -> Result<FileTime, StoreError> {
    let plain = FileMetadata { mode: 0o755, uid: 0, gid: 0, mtime: (0, 0) };
    let there = below.find(&TreePath::root(), false)?.map_or(plain, |node| node.status.metadata());
    layer.set_metadata(&TreePath::root(), &there, false)?;
    Ok(there.mtime)
}

/// Returns the name of a kind of file, for messages.
fn file_kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Dir => "directory",
        FileKind::Symlink => "symbolic link",
        FileKind::Char(..) | FileKind::Block(..) => "device",
        FileKind::Fifo => "named pipe",
        FileKind::Socket => "socket",
    }
}
