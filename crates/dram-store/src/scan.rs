//! Walks a layer directory in a fixed order.

use std::collections::HashMap;

use dram_image::TreePath;
use dram_image::tar::Xattr;

use crate::merged::{is_opaque, is_portable};
use crate::{Dir, FileKind, Status, StoreError};

/// One entry of a layer directory.
pub(crate) struct Found {
    /// Path below the layer.
    pub(crate) path: TreePath,
    /// Status of the file.
    pub(crate) status: Status,
    /// Extended attributes without those of overlayfs.
    pub(crate) xattrs: Vec<Xattr>,
    /// True for an opaque directory.
    pub(crate) opaque: bool,
    /// First path of a hard-linked file, if this is another of its paths.
    pub(crate) link_to: Option<TreePath>,
}

/// Iterator over a directory and everything below it: parents before children, names sorted by their bytes.
pub(crate) struct Scan<'a> {
    root: &'a Dir,
    names_of: HashMap<(u64, u64), TreePath>,
    /// A stack instead of recursion, because the depth of a layer is untrusted.
    todo: Vec<TreePath>,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(root: &'a Dir) -> Scan<'a> {
        Scan { root, names_of: HashMap::new(), todo: vec![TreePath::root()] }
    }

    fn look(&mut self, path: TreePath) -> Result<Option<Found>, StoreError> {
        let Some(status) = self.root.status(&path)? else { return Ok(None) };
        let all = self.root.xattrs(&path)?;
        let mut link_to = None;
        if status.kind == FileKind::File && status.links > 1 {
            match self.names_of.get(&status.inode) {
                Some(first) => link_to = Some(first.clone()),
                None => drop(self.names_of.insert(status.inode, path.clone())),
            }
        }
        if status.kind == FileKind::Dir {
            let names = self.root.sub(&path)?.names()?;
            self.todo.extend(names.iter().rev().map(|name| path.join(name)));
        }
        let opaque = is_opaque(&all);
        let xattrs = all.into_iter().filter(|(name, _)| is_portable(name)).collect();
        Ok(Some(Found { path, status, xattrs, opaque, link_to }))
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Found, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let path = self.todo.pop()?;
            // An entry that was removed after it was listed is skipped.
            if let Some(found) = self.look(path).transpose() {
                return Some(found);
            }
        }
    }
}

/// Calls `visit` for each entry of [`LayerScan`].
pub(crate) fn scan(root: &Dir, visit: &mut dyn FnMut(&Found) -> Result<(), StoreError>) -> Result<(), StoreError> {
    Scan::new(root).try_for_each(|found| visit(&found?))
}
