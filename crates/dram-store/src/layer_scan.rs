//! Walks a layer directory in a fixed order.

use std::collections::HashMap;
use std::rc::Rc;

use dram_image::TreePath;
use dram_image::tar::Xattr;

use crate::merged::{is_opaque, is_portable};
use crate::owner_notes::DEVICE_ATTRIBUTE;
use crate::{Dir, FileKind, FileStatus, StoreError};

/// One entry of a layer directory.
pub(crate) struct ScannedEntry {
    /// Path below the layer.
    pub(crate) path: TreePath,
    /// Status of the file.
    pub(crate) status: FileStatus,
    /// Extended attributes without those of overlayfs.
    pub(crate) xattrs: Vec<Xattr>,
    /// True if it has attributes in the name space of overlayfs mounts by ordinary users.
    pub(crate) has_user_overlay_xattrs: bool,
    /// True if it has an access control list (`acl(5)`), which no layer holds.
    pub(crate) has_access_list: bool,
    /// True if it is marked as a device that could not be made.
    pub(crate) has_device_note: bool,
    /// True for an opaque directory.
    pub(crate) opaque: bool,
    /// First path of a hard-linked file, if this is another of its paths.
    pub(crate) link_to: Option<TreePath>,
}

/// Iterator over a directory and everything below it: parents before children, names sorted by their bytes. It keeps
/// names, and no paths: those of a hundred thousand files may have 400 MB.
pub(crate) struct LayerScan<'a> {
    root: &'a Dir,
    /// The first name of each file that has several.
    first_names: HashMap<(u64, u64), (Rc<ScannedDir>, Vec<u8>)>,
    /// A stack instead of recursion, because the depth of a layer is untrusted.
    open_dirs: Vec<OpenDir>,
    root_was_read: bool,
}

/// A directory of the scan, by its name in its parent directory.
struct ScannedDir {
    /// `None` for the root.
    parent: Option<Rc<ScannedDir>>,
    name: Vec<u8>,
}

impl ScannedDir {
    fn path(&self) -> TreePath {
        let mut names = Vec::new();
        let mut at = self;
        while let Some(parent) = &at.parent {
            names.push(at.name.as_slice());
            at = parent;
        }
        names.iter().rev().fold(TreePath::root(), |path, name| path.join(name))
    }
}

/// A directory that is being read.
struct OpenDir {
    dir: Rc<ScannedDir>,
    path: TreePath,
    /// The names that are not read yet.
    names: std::vec::IntoIter<Vec<u8>>,
}

impl<'a> LayerScan<'a> {
    pub(crate) fn new(root: &'a Dir) -> LayerScan<'a> {
        LayerScan { root, first_names: HashMap::new(), open_dirs: Vec::new(), root_was_read: false }
    }

    /// Returns the next name with its directory; the root has neither.
    fn next_name(&mut self) -> Option<(TreePath, Option<Rc<ScannedDir>>, Vec<u8>)> {
        if !self.root_was_read {
            self.root_was_read = true;
            return Some((TreePath::root(), None, Vec::new()));
        }
        loop {
            let open = self.open_dirs.last_mut()?;
            if let Some(name) = open.names.next() {
                return Some((open.path.join(&name), Some(open.dir.clone()), name));
            }
            self.open_dirs.pop();
        }
    }

    fn read_entry(
        &mut self,
        path: TreePath,
        parent: Option<Rc<ScannedDir>>,
        name: Vec<u8>,
    ) -> Result<Option<ScannedEntry>, StoreError> {
        let Some(status) = self.root.status(&path)? else { return Ok(None) };
        let all = self.root.xattrs(&path)?;
        let mut link_to = None;
        if status.kind == FileKind::Dir {
            let names = self.root.open_subdir(&path)?.names()?.into_iter();
            self.open_dirs.push(OpenDir { dir: Rc::new(ScannedDir { parent, name }), path: path.clone(), names });
        } else if let Some(parent) = parent
            && status.kind == FileKind::File
            && status.link_count > 1
        {
            match self.first_names.get(&status.inode) {
                Some((dir, name)) => link_to = Some(dir.path().join(name)),
                None => drop(self.first_names.insert(status.inode, (parent, name))),
            }
        }
        let opaque = is_opaque(&all);
        let has_user_overlay_xattrs = all.iter().any(|(name, _)| name.starts_with(b"user.overlay."));
        let has_access_list = all.iter().any(|(name, _)| name.starts_with(b"system.posix_acl_"));
        let has_device_note = all.iter().any(|(name, _)| name == DEVICE_ATTRIBUTE.as_bytes());
        let xattrs = all.into_iter().filter(|(name, _)| is_portable(name)).collect();
        Ok(Some(ScannedEntry {
            path,
            status,
            xattrs,
            has_user_overlay_xattrs,
            has_device_note,
            has_access_list,
            opaque,
            link_to,
        }))
    }
}

impl Iterator for LayerScan<'_> {
    type Item = Result<ScannedEntry, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (path, parent, name) = self.next_name()?;
            // An entry that was removed after it was listed is skipped.
            if let Some(found) = self.read_entry(path, parent, name).transpose() {
                return Some(found);
            }
        }
    }
}

/// Calls `visit` for each entry of [`LayerScan`].
pub(crate) fn scan_layer(
    root: &Dir,
    visit: &mut dyn FnMut(&ScannedEntry) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    LayerScan::new(root).try_for_each(|found| visit(&found?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn scan_keeps_names_and_no_paths() {
        let place = tempfile::tempdir().unwrap();
        // The path of a file has 1500 bytes.
        let dir = place.path().join(format!("{}/", "d".repeat(149)).repeat(10));
        fs::create_dir_all(&dir).unwrap();
        for number in 0..500 {
            fs::write(dir.join(format!("f{number:03}")), "").unwrap();
            fs::hard_link(dir.join(format!("f{number:03}")), dir.join(format!("g{number:03}"))).unwrap();
        }
        let root = Dir::open_layer(place.path()).unwrap();
        let mut scan = LayerScan::new(&root);
        let entries: Vec<ScannedEntry> = scan.by_ref().take(11 + 500).collect::<Result<_, _>>().unwrap();
        let unread: usize = scan.open_dirs.iter().flat_map(|open| open.names.as_slice()).map(Vec::len).sum();
        let first: usize = scan.first_names.values().map(|(_, name)| name.len()).sum();
        assert_eq!((unread, first), (500 * 4, 500 * 4));
        let paths: Vec<_> = entries[11..].iter().map(|entry| entry.path.clone()).collect();
        let links: Vec<_> = scan.map(|entry| entry.unwrap().link_to.unwrap()).collect();
        assert_eq!(links, paths);
        assert!(paths.is_sorted() && paths[0].as_bytes().len() == 1504, "{}", paths[0]);
    }
}
