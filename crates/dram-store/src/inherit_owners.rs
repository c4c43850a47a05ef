//! Ownership of the files that a command created in a user namespace.

use std::path::Path;

use dram_image::TreePath;
use dram_image::tar::Xattr;

use crate::foreign_ids::ForeignIds;
use crate::id_mapping::IdMapping;
use crate::layer_scan::{ScannedEntry, scan_layer};
use crate::owner_notes::{DEVICE_ATTRIBUTE, OWNER_ATTRIBUTE, parse_device_note, parse_owner_note};
use crate::{Dir, FileKind, FileTree as _, Layers, MergedTree, StoreError, TreeNode};

/// The bit of a directory whose new files get its group.
const SETGID: u32 = 0o2000;

impl Layers<'_> {
    /// Records the owners and devices in `made`, the changes of a command, that the disk does not show: those of the stand-ins
    /// `foreign`, and all of them when the user has a single id. Then a file that exists in `below` keeps its owner, a
    /// new one belongs to `maker`, and a `chown` of the command is applied.
    ///
    /// # Errors
    /// On an I/O error.
    pub fn inherit_owners(
        self,
        made: &Path,
        below: &MergedTree,
        maker: (u32, u32),
        foreign: &ForeignIds,
    ) -> Result<(), StoreError> {
        match self.store().id_mapping() {
            IdMapping::Subordinate => inherit_foreign_owners(&Dir::open_layer(made)?, foreign),
            IdMapping::Single => SingleIdOwners { dir: Dir::open_layer(made)?, below, maker }.record(),
            IdMapping::Root | IdMapping::Unprivileged => Ok(()),
        }
    }
}

fn inherit_foreign_owners(dir: &Dir, foreign: &ForeignIds) -> Result<(), StoreError> {
    scan_layer(dir, &mut |found| {
        if found.has_device_note {
            inherit_device(dir, found, &dir.xattrs(&found.path)?)?;
        }
        if foreign.is_empty() || found.status.kind.is_whiteout() {
            return Ok(());
        }
        let Some(on_disk) = dir.owner_on_disk(&found.path)? else { return Ok(()) };
        let owner = foreign.in_image(on_disk);
        dir.record_foreign_owner(&found.path, Some(owner).filter(|owner| *owner != on_disk))
    })
}

/// Records the device that a file represents: it was copied up, moved or copied with its attributes. A file that
/// a command has written to is a file.
fn inherit_device(dir: &Dir, found: &ScannedEntry, xattrs: &[Xattr]) -> Result<(), StoreError> {
    let note = xattrs.iter().find(|(name, _)| name == DEVICE_ATTRIBUTE.as_bytes());
    let device = note.and_then(|(_, value)| parse_device_note(value));
    match device.filter(|_| found.status.kind == FileKind::File && found.status.size == 0) {
        Some(device) => dir.record_device(&found.path, device),
        None => Ok(()),
    }
}

/// The owners of a layer that a command made with a single id.
struct SingleIdOwners<'a> {
    dir: Dir,
    below: &'a MergedTree,
    maker: (u32, u32),
}

impl SingleIdOwners<'_> {
    fn record(&self) -> Result<(), StoreError> {
        // Opaque directories: their content in parent layers is hidden.
        let mut made_anew: Vec<TreePath> = Vec::new();
        scan_layer(&self.dir, &mut |found| {
            if found.status.kind.is_whiteout() {
                return Ok(());
            }
            let is_new = found.opaque || made_anew.iter().any(|dir| found.path.strip_prefix(dir).is_some());
            if found.opaque {
                made_anew.push(found.path.clone());
            }
            let owner = self.owner(found, is_new)?;
            self.dir.record_owner(&found.path, owner)
        })
    }

    fn owner(&self, found: &ScannedEntry, is_new: bool) -> Result<(u32, u32), StoreError> {
        let SingleIdOwners { dir, below, maker } = self;
        let xattrs = dir.xattrs(&found.path)?;
        inherit_device(dir, found, &xattrs)?;
        if let Some(first) = &found.link_to {
            return Ok(dir.status(first)?.map_or(*maker, |status| (status.uid, status.gid)));
        }
        let there = if is_new { None } else { below.node_at(&found.path)? };
        let same = there.filter(|node| is_same_kind(node.status.kind, found.status.kind));
        let is_copied_up = match &same {
            Some(node) => self.is_copied_up(found, node, &xattrs)?,
            None => false,
        };
        let inherited = same.map(|node| (node.status.uid, node.status.gid));
        let fallback = match inherited.filter(|_| is_copied_up) {
            Some(owner) => owner,
            None => self.owner_of_new(&found.path)?,
        };
        let Some((name, value)) = xattrs.iter().find(|(name, _)| name == OWNER_ATTRIBUTE.as_bytes()) else {
            return Ok(fallback);
        };
        dir.remove_xattr(&found.path, name)?;
        match inherited {
            // A program that replaces a file sets the owner that the old file seems to have, which is root.
            Some(owner) if value == b"0:0" && !is_copied_up => Ok(owner),
            _ => Ok(parse_owner_note(value, fallback)),
        }
    }

    /// Returns `true` when a file of the upper directory is that of a layer below, and not a new one of the same kind. Files
    /// and directories have overlayfs's `origin` attribute then; others can have no attributes, but keep their time.
    fn is_copied_up(&self, found: &ScannedEntry, below: &TreeNode, xattrs: &[Xattr]) -> Result<bool, StoreError> {
        Ok(match found.status.kind {
            FileKind::Dir => true,
            FileKind::File => xattrs.iter().any(|(name, _)| name == b"user.overlay.origin"),
            FileKind::Symlink => {
                found.status.mtime == below.status.mtime
                    && self.dir.read_link(&found.path)? == self.below.read_link(&below.path)?
            }
            FileKind::Char(..) | FileKind::Block(..) | FileKind::Fifo | FileKind::Socket => {
                found.status.mtime == below.status.mtime
            }
        })
    }

    /// The owner of a new file: its maker, and the group of a directory that passes it on.
    fn owner_of_new(&self, path: &TreePath) -> Result<(u32, u32), StoreError> {
        let parent = path.parent().map(|parent| self.dir.status(&parent)).transpose()?.flatten();
        let group = parent.filter(|parent| parent.mode & SETGID != 0).map(|parent| parent.gid);
        Ok((self.maker.0, group.unwrap_or(self.maker.1)))
    }
}

/// Returns `true` when a file of the layers below is the one that was found. A device is an empty file on the disk.
fn is_same_kind(below: FileKind, found: FileKind) -> bool {
    let is_device = matches!(below, FileKind::Char(..) | FileKind::Block(..));
    below == found || (is_device && found == FileKind::File)
}
