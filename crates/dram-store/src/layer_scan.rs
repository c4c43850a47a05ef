//! Walks a layer directory in a fixed order.

use dram_image::TreePath;
use dram_image::tar::Xattr;

use crate::merged::{is_opaque, is_portable};
use crate::owner_notes::DEVICE_ATTRIBUTE;
use crate::tree_walk::TreeWalk;
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

/// Iterator over a directory and everything below it: parents before children, names sorted by their bytes.
pub(crate) struct LayerScan<'a> {
    root: &'a Dir,
    walk: TreeWalk,
}

impl<'a> LayerScan<'a> {
    pub(crate) fn new(root: &'a Dir) -> LayerScan<'a> {
        LayerScan { root, walk: TreeWalk::new(TreePath::root()) }
    }

    fn read_entry(&mut self, path: TreePath) -> Result<Option<ScannedEntry>, StoreError> {
        let Some(status) = self.root.status(&path)? else { return Ok(None) };
        let all = self.root.xattrs(&path)?;
        let mut link_to = None;
        if status.kind == FileKind::File && status.link_count > 1 {
            link_to = self.walk.first_path(status.inode);
        }
        if status.kind == FileKind::Dir {
            self.walk.enter(path.clone(), self.root.open_subdir(&path)?.names()?);
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
            let path = self.walk.next_path()?;
            // An entry that was removed after it was listed is skipped.
            if let Some(found) = self.read_entry(path).transpose() {
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
