//! Making a layer file by file, without a mount: a directory in overlay form over a snapshot that is only looked at.

use std::collections::{BTreeSet, HashMap};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use dram_dockerfile::Mode;
use dram_image::TreePath;
use dram_store::{Dir, FileKind, Merged, Meta, Node, Status, StoreError, Tree};

use crate::select::children;

/// Zeros in a row that are worth a hole.
const SHORTEST_HOLE: usize = 4096;

/// Ownership, mode and time that a copy gives instead of its source's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Override {
    /// User and group.
    pub(crate) owner: Option<(u32, u32)>,
    /// Permission bits.
    pub(crate) mode: Option<Mode>,
}

impl Override {
    fn mode(&self, mode: u32, is_dir: bool) -> u32 {
        self.mode.as_ref().map_or(mode, |over| over.apply(mode, is_dir))
    }
}

/// Why something could not be put where it should go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error("{path} is a {there}, and a directory must go there")]
    NotDir { path: TreePath, there: &'static str },
    #[error("{path} changed while it was copied")]
    Changed { path: TreePath },
    #[error("{path} is a directory, and a file must go there")]
    IsDir { path: TreePath },
    #[error("{error}")]
    Remote { at: usize, error: crate::RemoteError },
    #[error("several files go to {path}, which is no directory: each would overwrite the one before")]
    Several { path: TreePath },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A layer in the making.
pub(crate) struct LayerMaker<'a> {
    below: &'a Merged,
    root: Dir,
    path: PathBuf,
    /// Directories that are in the layer already.
    made: BTreeSet<TreePath>,
    /// First name in the layer of a file with several names.
    names: HashMap<(u64, u64), TreePath>,
    /// Times of directories, set when everything is in them.
    times: HashMap<TreePath, (i64, u32)>,
    /// What the copy gives instead of its source's.
    pub(crate) over: Override,
    /// Whether attributes that users set come along: not from a build context or an archive, where BuildKit leaves
    /// them behind. File capabilities always do.
    pub(crate) user_xattrs: bool,
    /// Whether a file may take the place of a directory and the other way round, as when an archive is unpacked.
    pub(crate) replace: bool,
    is_empty: bool,
}

impl<'a> LayerMaker<'a> {
    /// A layer over `below`, made in the empty directory `path`.
    pub(crate) fn new(below: &'a Merged, path: PathBuf, over: Override) -> Result<Self, StoreError> {
        let root = Dir::open_layer(&path)?;
        let maker = LayerMaker {
            below,
            root,
            path,
            made: BTreeSet::from([TreePath::root()]),
            names: HashMap::new(),
            times: HashMap::new(),
            over,
            user_xattrs: true,
            replace: false,
            is_empty: true,
        };
        take_over_root(&maker.root, below)?;
        Ok(maker)
    }

    /// Whether nothing was put into it.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Sets what was kept for last. The directory is then whole.
    pub(crate) fn finish(self) -> Result<PathBuf, StoreError> {
        for (path, &time) in &self.times {
            self.root.set_mtime(path, time)?;
        }
        Ok(self.path)
    }

    /// The real path that `path` has below, links followed as far as there is something.
    pub(crate) fn resolve(&self, path: &TreePath) -> Result<(TreePath, Option<Node>), StoreError> {
        self.below.resolve(path)
    }

    /// What will be at the real path `path`: of this layer, or from below.
    fn there(&self, path: &TreePath) -> Result<Option<Status>, StoreError> {
        if path.parent().is_none_or(|parent| self.made.contains(&parent))
            && let Some(status) = self.root.status(path)?
        {
            return Ok(Some(status));
        }
        Ok(self.below.find(path, false)?.map(|node| node.status))
    }

    /// Makes sure of the directory at the real path `path` and those above it: one that is below keeps what it is,
    /// a new one is 0755 and root's, or as the copy says.
    pub(crate) fn make_dirs(&mut self, path: &TreePath) -> Result<(), PlaceError> {
        let new = Meta {
            mode: self.over.mode(0o755, true),
            uid: self.over.owner.map_or(0, |owner| owner.0),
            gid: self.over.owner.map_or(0, |owner| owner.1),
            mtime: (0, 0),
        };
        let mut at = TreePath::root();
        for part in path.components() {
            at = at.join(part);
            self.make_dir(&at, &new)?;
        }
        Ok(())
    }

    /// One directory, whose parent is in the layer.
    fn make_dir(&mut self, path: &TreePath, new: &Meta) -> Result<(), PlaceError> {
        if self.made.contains(path) {
            return Ok(());
        }
        let there = self.there(path)?;
        let (meta, is_new) = match &there {
            Some(status) if status.kind == FileKind::Dir => (status.meta(), false),
            Some(status) if !self.replace => {
                return Err(PlaceError::NotDir { path: path.clone(), there: word(status.kind) });
            }
            Some(_) | None => (new.clone(), true),
        };
        self.root.remove(path)?;
        self.root.make_dir(path, 0o700)?;
        self.root.set_meta(path, &meta, false)?;
        if !is_new && let Some(node) = self.below.at(path)? {
            self.copy_xattrs(self.below, &node, path)?;
        }
        self.times.insert(path.clone(), meta.mtime);
        self.made.insert(path.clone());
        self.is_empty = false;
        Ok(())
    }

    /// Whether there will be a directory at the real path `path`.
    pub(crate) fn is_dir(&self, path: &TreePath) -> Result<bool, StoreError> {
        Ok(self.there(path)?.is_some_and(|status| status.kind == FileKind::Dir))
    }

    fn copy_xattrs(&self, from: &dyn Tree, source: &Node, path: &TreePath) -> Result<(), StoreError> {
        for (name, value) in from.xattrs(source)?.iter().filter(|(name, _)| self.keeps(name)) {
            self.root.set_xattr(path, (name, value))?;
        }
        Ok(())
    }

    fn keeps(&self, xattr: &[u8]) -> bool {
        self.user_xattrs || !xattr.starts_with(b"user.")
    }

    /// Ownership, mode and time of the copy of something.
    fn meta(&self, status: &Status) -> Meta {
        let (uid, gid) = self.over.owner.unwrap_or((status.uid, status.gid));
        Meta { mode: self.over.mode(status.mode, status.kind == FileKind::Dir), uid, gid, mtime: status.mtime }
    }

    /// Copies what is in the directory `dir` of `tree` into the one at the real path `target`, which is in the layer.
    /// Directories below it take over owner and mode of their source, also where they were there before.
    pub(crate) fn copy_contents(
        &mut self,
        tree: &dyn Tree,
        dir: &TreePath,
        target: &TreePath,
    ) -> Result<(), PlaceError> {
        let mut todo = vec![(dir.clone(), target.clone())];
        while let Some((dir, target)) = todo.pop() {
            for child in children(tree, &dir)? {
                let target = target.join(child.path.name().unwrap_or_default());
                if child.status.kind != FileKind::Dir {
                    self.copy_file(tree, &child, &target)?;
                    continue;
                }
                let meta = self.meta(&child.status);
                self.make_dir(&target, &meta)?;
                self.root.set_meta(&target, &meta, false)?;
                self.copy_xattrs(tree, &child, &target)?;
                self.times.insert(target.clone(), meta.mtime);
                todo.push((child.path, target));
            }
        }
        Ok(())
    }

    /// Copies what is no directory; what was at the target gives way. The target's parent is in the layer.
    pub(crate) fn copy_file(&mut self, tree: &dyn Tree, node: &Node, target: &TreePath) -> Result<(), PlaceError> {
        if self.is_dir(target)? {
            if !self.replace {
                return Err(PlaceError::IsDir { path: target.clone() });
            }
            self.made.retain(|made| made.below(target).is_none());
            self.times.retain(|path, _| path.below(target).is_none());
            self.names.retain(|_, path| path.below(target).is_none());
        }
        self.root.remove(target)?;
        self.is_empty = false;
        match node.status.kind {
            FileKind::File => {
                if node.status.links > 1 {
                    if let Some(first) = self.names.get(&node.status.inode) {
                        return Ok(self.root.make_link(first, target)?);
                    }
                    self.names.insert(node.status.inode, target.clone());
                }
                self.copy_bytes(tree, node, target)?;
            }
            FileKind::Symlink => self.root.make_symlink(target, &tree.read_link(&node.path)?)?,
            FileKind::Dir => unreachable!("the caller takes directories apart"),
            kind @ (FileKind::Char(..) | FileKind::Block(..) | FileKind::Fifo | FileKind::Socket) => {
                self.root.make_node(target, kind)?;
            }
        }
        self.root.set_meta(target, &self.meta(&node.status), node.status.kind == FileKind::Symlink)?;
        Ok(self.copy_xattrs(tree, node, target)?)
    }

    /// Writes a file of these bytes, as [`write_from`](Self::write_from).
    pub(crate) fn write_file(&mut self, target: &TreePath, mut bytes: &[u8], mode: u32) -> Result<(), PlaceError> {
        self.write_from(target, &mut bytes, (mode, 0))
    }

    /// Writes a file of what `from` holds; what was at the target gives way. It is root's unless the copy says otherwise.
    /// The target's parent is in the layer.
    pub(crate) fn write_from(
        &mut self,
        target: &TreePath,
        from: &mut dyn std::io::Read,
        (mode, mtime): (u32, i64),
    ) -> Result<(), PlaceError> {
        if self.is_dir(target)? {
            return Err(PlaceError::IsDir { path: target.clone() });
        }
        self.root.remove(target)?;
        self.is_empty = false;
        let written = std::io::copy(from, &mut self.root.create_file(target, 0o600)?);
        written.map_err(|source| {
            let path = self.path.join(target.as_path());
            StoreError::Io { verb: "write", path, source }
        })?;
        let (uid, gid) = self.over.owner.unwrap_or((0, 0));
        let meta = Meta { mode: self.over.mode(mode, false), uid, gid, mtime: (mtime, 0) };
        Ok(self.root.set_meta(target, &meta, false)?)
    }

    fn copy_bytes(&self, tree: &dyn Tree, node: &Node, target: &TreePath) -> Result<(), PlaceError> {
        let at = |verb, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { verb, path, source }
        };
        let mut from = tree.open(&node.path)?;
        let mut to = self.root.create_file(target, 0o600)?;
        let promised = tree.promised(node);
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
            // A stretch of zeros takes no room, whether or not it was a hole before.
            ends_in_hole = got >= SHORTEST_HOLE && buffer[..got].iter().all(|byte| *byte == 0);
            if ends_in_hole {
                to.seek(SeekFrom::Start(length)).map_err(at("write", &shown))?;
            } else {
                to.write_all(&buffer[..got]).map_err(at("write", &shown))?;
            }
        }
        if ends_in_hole {
            to.set_len(length).map_err(at("write", &shown))?;
        }
        // The step's key was made of the promised digest: other bytes must not be remembered under it.
        match promised {
            Some(promised) if *hasher.finalize().as_bytes() != promised => {
                Err(PlaceError::Changed { path: node.path.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Gives the root of a layer in the making the owner, mode and time that the root of `below` has: a layer's root hides
/// those of the ones beneath it.
pub(crate) fn take_over_root(layer: &Dir, below: &Merged) -> Result<(), StoreError> {
    let plain = Meta { mode: 0o755, uid: 0, gid: 0, mtime: (0, 0) };
    let there = below.find(&TreePath::root(), false)?;
    layer.set_meta(&TreePath::root(), &there.map_or(plain, |node| node.status.meta()), false)
}

/// A word for a kind of file.
fn word(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Dir => "directory",
        FileKind::Symlink => "symbolic link",
        FileKind::Char(..) | FileKind::Block(..) => "device",
        FileKind::Fifo => "named pipe",
        FileKind::Socket => "socket",
    }
}
