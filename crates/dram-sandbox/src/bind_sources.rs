//! The sources of bind mounts, cloned before the jail has a root of its own.

use crate::error::{SandboxError, lossy_text};
use crate::host_path::HostPath;
use crate::mount_points::{self, open_in_root};
use crate::mount_spec::{BindMount, BindSource, ScratchDirs};
use crate::mounts::{attach, clone_tree};
use crate::overlay::OverlayMount;
use crate::sys;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, UnmountFlags, unmount};

/// A detached mount.
pub(crate) struct DetachedMount {
    pub(crate) mount: OwnedFd,
    pub(crate) is_directory: bool,
}

/// The properties of the jail that the sources depend on.
pub(crate) struct BindContext<'a> {
    /// Any directory, to mount on for a moment.
    pub(crate) anchor_dir: &'a [u8],
    /// True in the initial user namespace.
    pub(crate) initial_userns: bool,
    /// If true, device files work.
    pub(crate) allow_devices: bool,
}

impl BindContext<'_> {
    /// Clones the source of a bind mount, with its restrictions.
    pub(crate) fn clone_source(&self, bind: &BindMount) -> Result<DetachedMount, SandboxError> {
        let (mount, read_only) = match &bind.source {
            BindSource::Host(path) => (clone_host(path.as_bytes())?, bind.read_only),
            BindSource::Below { directory, path } => (clone_below(directory.as_bytes(), path)?, bind.read_only),
            BindSource::Layers { lowers, scratch, path } => {
                (self.mount_layers(lowers, scratch.as_ref(), path)?, bind.read_only || scratch.is_none())
            }
        };
        self.apply_restrictions(bind, mount, read_only)
    }

    fn apply_restrictions(
        &self,
        bind: &BindMount,
        mount: OwnedFd,
        read_only: bool,
    ) -> Result<DetachedMount, SandboxError> {
        let failed = |e: Errno| SandboxError::mount("open the bind source of", &bind.target, e);
        let status = fstat(&mount).map_err(failed)?;
        let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
        // mknod is allowed inside, so devices work only if the source is itself a device of the host.
        let asked_for = !is_directory && matches!(bind.source, BindSource::Host(_));
        let mut attributes = MountAttrFlags::empty();
        attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
        attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, !asked_for && !self.allow_devices);
        sys::mount_setattr(mount.as_fd(), true, u64::from(attributes.bits()), libc::MS_PRIVATE).map_err(failed)?;
        Ok(DetachedMount { mount, is_directory })
    }

    fn mount_layers(
        &self,
        lowers: &[HostPath],
        scratch: Option<&ScratchDirs>,
        path: &[u8],
    ) -> Result<OwnedFd, SandboxError> {
        if let ([only], None) = (lowers, scratch) {
            return clone_below(only.as_bytes(), path);
        }
        if let (Some(scratch), Some(topmost)) = (scratch, lowers.first()) {
            copy_root_attributes(topmost.as_bytes(), scratch.upper.as_bytes())?;
        }
        let writable = scratch.map(|scratch| (scratch.upper.as_bytes(), scratch.work.as_bytes()));
        let below = lowers.iter().map(HostPath::as_bytes).collect();
        let overlay = OverlayMount {
            lowers: below,
            writable,
            userxattr: !self.initial_userns,
            allow_devices: self.allow_devices,
            anchor_dir: self.anchor_dir,
        };
        let whole = overlay.mount()?;
        if mount_points::path_components(path).next().is_none() {
            return Ok(whole);
        }
        self.clone_subtree(whole.as_fd(), path)
    }

    /// Clones a part of a detached mount. Only an attached mount can be cloned, so it is attached for a moment.
    fn clone_subtree(&self, whole: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, SandboxError> {
        let foothold = self.anchor_dir;
        let failed = |e: Errno| SandboxError::mount("clone the mounted layers of", foothold, e);
        let place = open(self.anchor_dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        attach(whole, place.map_err(failed)?.as_fd()).map_err(failed)?;
        let part = clone_path(whole, path);
        unmount(self.anchor_dir, UnmountFlags::DETACH).map_err(failed)?;
        part
    }
}

/// In an overlay, the topmost directory gives the root its attributes.
fn copy_root_attributes(from: &[u8], to: &[u8]) -> Result<(), SandboxError> {
    let status = rustix::fs::stat(from).map_err(|e| SandboxError::mount("open the layer", from, e))?;
    mount_points::copy_attributes(CWD, to, &status).map_err(|e| SandboxError::mount("prepare the changes in", to, e))
}

fn clone_host(path: &[u8]) -> Result<OwnedFd, SandboxError> {
    clone_tree(CWD, path, true).map_err(|e| SandboxError::mount("clone the mount of the volume", path, e))
}

fn clone_below(directory: &[u8], path: &[u8]) -> Result<OwnedFd, SandboxError> {
    let root = open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| SandboxError::mount("open the directory", directory, e))?;
    clone_path(root.as_fd(), path)
}

fn clone_path(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, SandboxError> {
    let source_path = if path.is_empty() { b"/" } else { path };
    let found = open_in_root(root, source_path, OFlags::PATH).map_err(|e| match e {
        Errno::NOENT | Errno::NOTDIR => SandboxError::SourceMissing { path: lossy_text(path) },
        other => SandboxError::mount("look up the source", path, other),
    })?;
    clone_tree(found.as_fd(), b"", true).map_err(|e| SandboxError::mount("clone the mount of the source", path, e))
}
