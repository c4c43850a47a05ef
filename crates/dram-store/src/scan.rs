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

/// Calls `visit` for everything below `root`, the root itself first, parents before children, names sorted by their
/// bytes.
pub(crate) fn scan(root: &Dir, visit: &mut dyn FnMut(&Found) -> Result<(), StoreError>) -> Result<(), StoreError> {
    let mut names_of: HashMap<(u64, u64), TreePath> = HashMap::new();
    // A stack instead of recursion: depth is the layer's to choose.
    let mut todo = vec![TreePath::root()];
    while let Some(path) = todo.pop() {
        let Some(status) = root.status(&path)? else { continue };
        let all = root.xattrs(&path)?;
        let mut link_to = None;
        if status.kind == FileKind::File && status.links > 1 {
            match names_of.get(&status.inode) {
                Some(first) => link_to = Some(first.clone()),
                None => drop(names_of.insert(status.inode, path.clone())),
            }
        }
        if status.kind == FileKind::Dir {
            let names = root.sub(&path)?.names()?;
            todo.extend(names.iter().rev().map(|name| path.join(name)));
        }
        let opaque = is_opaque(&all);
        let xattrs = all.into_iter().filter(|(name, _)| is_portable(name)).collect();
        visit(&Found { path, status, xattrs, opaque, link_to })?;
    }
    Ok(())
}
