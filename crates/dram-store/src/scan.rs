//! Walking a layer directory, always in the same order.

use std::collections::HashMap;

use dram_image::TreePath;
use dram_image::tar::Xattr;

use crate::merged::{is_opaque, is_portable};
use crate::{Dir, FileKind, Status, StoreError};

/// One thing in a layer directory.
pub(crate) struct Found {
    /// Where.
    pub(crate) path: TreePath,
    /// What.
    pub(crate) status: Status,
    /// Its attributes, without those of the overlay.
    pub(crate) xattrs: Vec<Xattr>,
    /// A directory that hides all below it.
    pub(crate) opaque: bool,
    /// For a file with several names, the first of them, when this is another.
    pub(crate) link_to: Option<TreePath>,
}

/// Everything below a directory, that itself first, parents before children, names sorted by their bytes.
pub(crate) struct Scan<'a> {
    root: &'a Dir,
    names_of: HashMap<(u64, u64), TreePath>,
    /// A stack instead of recursion: depth is the layer's to choose.
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
            // What went between listing and looking is not there.
            if let Some(found) = self.look(path).transpose() {
                return Some(found);
            }
        }
    }
}

/// Calls `visit` for each of [`Scan`].
pub(crate) fn scan(root: &Dir, visit: &mut dyn FnMut(&Found) -> Result<(), StoreError>) -> Result<(), StoreError> {
    Scan::new(root).try_for_each(|found| visit(&found?))
}
