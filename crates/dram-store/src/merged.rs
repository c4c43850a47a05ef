//! A merged view of layers, as overlayfs would show them, without a mount.
//!
//! It follows the kernel's `Documentation/filesystems/overlayfs.rst`: a whiteout is a character device 0:0, an opaque
//! directory has `trusted.overlay.opaque` (`user.overlay.opaque` in a user namespace) set to `y`.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use dram_image::TreePath;
use dram_image::tar::Xattr;

use crate::owner_notes::{DEVICE_ATTRIBUTE, OWNER_ATTRIBUTE};
use crate::{Dir, FileKind, FileStatus, FileTree, StoreError, TreeNode};

/// The number of symbolic links that Linux follows in one path.
const MAX_SYMLINKS: usize = 40;

/// A stack of layer directories as one file tree.
#[derive(Debug)]
pub struct MergedTree {
    /// Topmost first.
    layers: Vec<Dir>,
    /// A cache: the layers that contribute to each directory that was read, topmost first.
    contributors_by_dir: RefCell<HashMap<TreePath, Rc<[usize]>>>,
}

impl MergedTree {
    /// Opens the stack of `layers`, topmost first.
    ///
    /// # Errors
    /// When a directory cannot be opened.
    pub fn open(layers: &[PathBuf]) -> Result<MergedTree, StoreError> {
        let layers = layers.iter().map(|path| Dir::open_layer(path)).collect::<Result<_, _>>()?;
        Ok(MergedTree { layers, contributors_by_dir: RefCell::default() })
    }

    /// The view of one directory that is not a layer and has no ownership table.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn of_directory(path: &Path) -> Result<MergedTree, StoreError> {
        let dir = Dir::open(path).map_err(StoreError::of_input)?;
        Ok(MergedTree { layers: vec![dir], contributors_by_dir: RefCell::default() })
    }

    /// Looks up `name` in the directory `parent`. Returns the layer that provides it and its status.
    fn lookup_entry(&self, parent: &TreePath, name: &[u8]) -> Result<Option<(usize, FileStatus)>, StoreError> {
        let path = parent.join(name);
        for &layer in self.contributing_layers(parent)?.iter() {
            if let Some(status) = self.layers[layer].status(&path)? {
                return Ok(if status.kind.is_whiteout() { None } else { Some((layer, status)) });
            }
        }
        Ok(None)
    }

    /// The layers in which the real path `dir` is a directory that no layer above hides, topmost first.
    fn contributing_layers(&self, dir: &TreePath) -> Result<Rc<[usize]>, StoreError> {
        if let Some(known) = self.contributors_by_dir.borrow().get(dir) {
            return Ok(Rc::clone(known));
        }
        let above: Rc<[usize]> = match dir.parent() {
            None => (0..self.layers.len()).collect(),
            Some(parent) => self.contributing_layers(&parent)?,
        };
        let mut found = Vec::new();
        for &layer in above.iter() {
            match self.layers[layer].status(dir)? {
                None => continue,
                Some(status) if status.kind == FileKind::Dir => found.push(layer),
                Some(_) => break,
            }
            if is_opaque(&self.layers[layer].xattrs(dir)?) {
                break;
            }
        }
        let found: Rc<[usize]> = found.into();
        self.contributors_by_dir.borrow_mut().insert(dir.clone(), Rc::clone(&found));
        Ok(found)
    }

    /// The layer that provides the real path `path`.
    fn layer_of(&self, path: &TreePath) -> Result<&Dir, StoreError> {
        let layer = match (path.parent(), path.name()) {
            (Some(parent), Some(name)) => self.lookup_entry(&parent, name)?.map(|(layer, _)| layer),
            (None, _) | (_, None) => Some(0),
        };
        let missing = || StoreError::errno("open", path.as_path())(rustix::io::Errno::NOENT);
        self.layers.get(layer.ok_or_else(missing)?).ok_or_else(missing)
    }

    /// Resolves `path`, following symbolic links, to its real path and the node there. Missing components are kept as
    /// written: the result is the path at which the file would be created.
    ///
    /// # Errors
    /// On an I/O error, or when the symbolic links form a loop.
    pub fn resolve(&self, path: &TreePath) -> Result<(TreePath, Option<TreeNode>), StoreError> {
        self.walk_path(path, true)
    }

    fn walk_path(&self, path: &TreePath, follow: bool) -> Result<(TreePath, Option<TreeNode>), StoreError> {
        let mut todo: VecDeque<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
        let mut at = TreePath::root();
        let mut links = 0;
        // Below a path that is missing or not a directory, nothing is looked up.
        let mut missing_from: Option<TreePath> = None;
        while let Some(part) = todo.pop_front() {
            if part == b".." {
                at = at.parent().unwrap_or_default();
                missing_from = missing_from.filter(|missing| at.strip_prefix(missing).is_some());
                continue;
            }
            let entry = if missing_from.is_some() { None } else { self.lookup_entry(&at, &part)? };
            let entry_path = at.join(&part);
            match entry {
                Some((layer, status)) if status.kind == FileKind::Symlink && (follow || !todo.is_empty()) => {
                    links += 1;
                    if links > MAX_SYMLINKS {
                        return Err(StoreError::SymlinkLoop { path: path.to_string() });
                    }
                    let target = self.layers[layer].read_link(&entry_path)?;
                    if target.starts_with(b"/") {
                        at = TreePath::root();
                    }
                    let parts = target.split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".");
                    parts.rev().for_each(|part| todo.push_front(part.to_vec()));
                }
                Some((_, status)) => {
                    if status.kind != FileKind::Dir && !todo.is_empty() {
                        missing_from = Some(entry_path.clone());
                    }
                    at = entry_path;
                }
                None => {
                    missing_from = missing_from.or_else(|| Some(entry_path.clone()));
                    at = entry_path;
                }
            }
        }
        let node = if missing_from.is_some() { None } else { self.node_at(&at)? };
        Ok((at, node))
    }

    fn root_node(&self) -> Result<Option<TreeNode>, StoreError> {
        let Some(top) = self.layers.first() else { return Ok(None) };
        Ok(top.status(&TreePath::root())?.map(|status| TreeNode { path: TreePath::root(), status }))
    }
}

impl FileTree for MergedTree {
    fn find(&self, path: &TreePath, follow: bool) -> Result<Option<TreeNode>, StoreError> {
        Ok(self.walk_path(path, follow)?.1)
    }

    fn node_at(&self, path: &TreePath) -> Result<Option<TreeNode>, StoreError> {
        match (path.parent(), path.name()) {
            (Some(parent), Some(name)) => {
                Ok(self.lookup_entry(&parent, name)?.map(|(_, status)| TreeNode { path: path.clone(), status }))
            }
            (None, _) | (_, None) => self.root_node(),
        }
    }

    fn list(&self, dir: &TreePath) -> Result<Vec<Vec<u8>>, StoreError> {
        let contributors = self.contributing_layers(dir)?;
        if let [only] = *contributors {
            let layer = &self.layers[only];
            let open = layer.open_subdir(dir)?;
            let mut names = open.names()?;
            if self.layers.len() > 1 {
                names.retain(|name| !is_whiteout(layer, &dir.join(name)));
            }
            return Ok(names);
        }
        let mut seen = BTreeSet::new();
        let mut hidden = BTreeSet::new();
        for &layer in contributors.iter() {
            let mut now_hidden = Vec::new();
            for name in self.layers[layer].open_subdir(dir)?.names()? {
                if hidden.contains(&name) || seen.contains(&name) {
                    continue;
                }
                if is_whiteout(&self.layers[layer], &dir.join(&name)) {
                    now_hidden.push(name);
                } else {
                    seen.insert(name);
                }
            }
            hidden.extend(now_hidden);
        }
        Ok(seen.into_iter().collect())
    }

    fn read_link(&self, path: &TreePath) -> Result<Vec<u8>, StoreError> {
        self.layer_of(path)?.read_link(path)
    }

    fn open(&self, path: &TreePath) -> Result<File, StoreError> {
        self.layer_of(path)?.open_file(path)
    }

    fn xattrs(&self, node: &TreeNode) -> Result<Vec<Xattr>, StoreError> {
        let mut xattrs = self.layer_of(&node.path)?.xattrs(&node.path)?;
        xattrs.retain(|(name, _)| is_portable(name));
        Ok(xattrs)
    }
}

fn is_whiteout(layer: &Dir, path: &TreePath) -> bool {
    layer.status(path).is_ok_and(|status| status.is_some_and(|status| status.kind.is_whiteout()))
}

/// Returns `true` when a directory's extended attributes mark it as opaque.
pub(crate) fn is_opaque(xattrs: &[Xattr]) -> bool {
    let opaque = |name: &[u8]| name == b"trusted.overlay.opaque" || name == b"user.overlay.opaque";
    xattrs.iter().any(|(name, value)| opaque(name) && value == b"y")
}

/// Returns `true` for an extended attribute that is valid on another machine: file capabilities and `user.` attributes,
/// but for those of overlayfs and dram's own.
pub(crate) fn is_portable(name: &[u8]) -> bool {
    let is_own = name == OWNER_ATTRIBUTE.as_bytes() || name == DEVICE_ATTRIBUTE.as_bytes();
    name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") && !is_own)
}
