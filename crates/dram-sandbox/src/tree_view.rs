//! Path lookup in a tree, before it is mounted and after.
//!
//! Mounting an overlay only to inspect it would take longer than all other steps of starting a jail: its unmount waits
//! for every processor. So the layers are merged here for the few paths that matter, by the rules of overlayfs
//! (`filesystems/overlayfs.rst`): the topmost entry wins, directories merge, a character device 0:0 is a whiteout, and
//! an opaque directory hides those below it.

use crate::mount_points::{join_components, open_in_root};
use crate::prelude::*;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, getxattr, major, minor, open, openat};
use rustix::io::Errno;

/// An entry of a tree.
pub(crate) struct TreeViewEntry {
    pub(crate) status: Stat,
    /// Opened with `O_PATH`, not for reading.
    pub(crate) fd: OwnedFd,
}

impl TreeViewEntry {
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.status.st_mode)
    }

    fn is_whiteout(&self) -> bool {
        self.kind() == FileType::CharacterDevice && major(self.status.st_rdev) == 0 && minor(self.status.st_rdev) == 0
    }
}

/// A tree in which paths without links or `..` can be looked up.
pub(crate) trait TreeView {
    /// The entry at the path, if there is one. A symbolic link at its end is not followed.
    fn lookup(&self, components: &[Vec<u8>]) -> Result<Option<TreeViewEntry>, Errno>;
}

/// A mounted tree.
impl TreeView for BorrowedFd<'_> {
    fn lookup(&self, components: &[Vec<u8>]) -> Result<Option<TreeViewEntry>, Errno> {
        match open_in_root(*self, &join_components(components), OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(place) => Ok(Some(TreeViewEntry { status: fstat(&place)?, fd: place })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Layers, topmost first, merged as an overlay would.
pub(crate) struct MergedLayersView {
    roots: Vec<OwnedFd>,
    opaque_xattr: &'static str,
}

impl MergedLayersView {
    /// Opens the layers. `user_marks` is as in [`OverlayMount::userxattr`](crate::overlay::OverlayMount::userxattr).
    pub(crate) fn open<'a>(
        paths: impl Iterator<Item = &'a [u8]>,
        user_marks: bool,
    ) -> Result<MergedLayersView, (&'a [u8], Errno)> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let roots = paths.map(|path| open(path, flags, Mode::empty()).map_err(|error| (path, error)));
        let opaque_mark = if user_marks { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
        Ok(MergedLayersView { roots: roots.collect::<Result<_, _>>()?, opaque_xattr: opaque_mark })
    }

    /// Looks up an entry in the directory that `parents` merge into. Returns the entry of each layer, topmost first;
    /// just one if it is no directory.
    fn lookup_entry(&self, parents: &[OwnedFd], name: &[u8]) -> Result<Vec<TreeViewEntry>, Errno> {
        let mut entry: Vec<TreeViewEntry> = Vec::new();
        for parent in parents {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let place = match openat(parent, name, flags, Mode::empty()) {
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            let found = TreeViewEntry { status: fstat(&place)?, fd: place };
            let is_directory = found.kind() == FileType::Directory;
            if found.is_whiteout() || (!is_directory && !entry.is_empty()) {
                break;
            }
            let ends = !is_directory || self.is_opaque(found.fd.as_fd());
            entry.push(found);
            if ends {
                break;
            }
        }
        Ok(entry)
    }

    fn is_opaque(&self, directory: BorrowedFd<'_>) -> bool {
        let mut value = [0; 8];
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        getxattr(path, self.opaque_xattr, &mut value) == Ok(1) && value[0] == b'y'
    }
}

impl TreeView for MergedLayersView {
    fn lookup(&self, components: &[Vec<u8>]) -> Result<Option<TreeViewEntry>, Errno> {
        let Some((first, others)) = components.split_first() else { return Ok(None) };
        let mut entry = self.lookup_entry(&self.roots, first)?;
        for name in others {
            let parents: Vec<OwnedFd> = match entry.first() {
                Some(top) if top.kind() == FileType::Directory => entry.into_iter().map(|found| found.fd).collect(),
                Some(_) => return Err(Errno::NOTDIR),
                None => return Ok(None),
            };
            entry = self.lookup_entry(&parents, name)?;
        }
        Ok(entry.into_iter().next())
    }
}
