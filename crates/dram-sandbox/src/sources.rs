//! The sources of bind mounts, cloned before the jail has a root of its own.

use crate::error::{SandboxError, text};
use crate::mounts::{attach, clone_tree};
use crate::overlay::Overlay;
use crate::shown::{Bind, Scratch, Source};
use crate::stubs::{self, open_beneath};
use crate::sys;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, UnmountFlags, unmount};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A detached mount.
pub(crate) struct Tree {
    pub(crate) mount: OwnedFd,
    pub(crate) is_directory: bool,
}

/// The properties of the jail that the sources depend on.
pub(crate) struct Surroundings<'a> {
    /// Any directory, to mount on for a moment.
    pub(crate) foothold: &'a Path,
    /// True in the initial user namespace.
    pub(crate) initial: bool,
    /// If true, device files work.
    pub(crate) devices: bool,
}

impl Surroundings<'_> {
    /// Clones the source of a bind mount, with its restrictions.
    pub(crate) fn take_up(&self, bind: &Bind) -> Result<Tree, SandboxError> {
        let (mount, read_only) = match &bind.source {
            Source::Host(path) => (clone_host(path)?, bind.read_only),
            Source::Below { directory, path } => (clone_below(directory, path)?, bind.read_only),
            Source::Layers { lowers, scratch, path } => {
                (self.layers(lowers, scratch.as_ref(), path)?, bind.read_only || scratch.is_none())
            }
        };
        self.restrict(bind, mount, read_only)
    }

    fn restrict(&self, bind: &Bind, mount: OwnedFd, read_only: bool) -> Result<Tree, SandboxError> {
        let failed = |e: std::io::Error| SandboxError::mount("take up what is shown at", &bind.target, e);
        let status = fstat(&mount).map_err(|e| failed(e.into()))?;
        let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
        // mknod is allowed inside, so devices work only if the source is itself a device of the host.
        let asked_for = !is_directory && matches!(bind.source, Source::Host(_));
        let mut attributes = MountAttrFlags::empty();
        attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
        attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, !asked_for && !self.devices);
        sys::mount_setattr(mount.as_fd(), true, u64::from(attributes.bits()), libc::MS_PRIVATE).map_err(failed)?;
        Ok(Tree { mount, is_directory })
    }

    fn layers(&self, lowers: &[PathBuf], scratch: Option<&Scratch>, path: &[u8]) -> Result<OwnedFd, SandboxError> {
        if let ([only], None) = (lowers, scratch) {
            return clone_below(only, path);
        }
        if let (Some(scratch), Some(topmost)) = (scratch, lowers.first()) {
            copy_root(topmost, &scratch.upper)?;
        }
        let writable = scratch.map(|scratch| (scratch.upper.as_path(), scratch.work.as_path()));
        let below = lowers.iter().map(AsRef::as_ref).collect();
        let overlay = Overlay {
            lowers: below,
            writable,
            user_marks: !self.initial,
            devices: self.devices,
            foothold: self.foothold,
        };
        let whole = overlay.mount()?;
        if stubs::split(path).next().is_none() {
            return Ok(whole);
        }
        self.part(whole.as_fd(), path)
    }

    /// Clones a part of a detached mount. Only an attached mount can be cloned, so it is attached for a moment.
    fn part(&self, whole: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, SandboxError> {
        let foothold = self.foothold.as_os_str().as_bytes();
        let failed = |e: Errno| SandboxError::mount("take up layers on", foothold, e);
        let place = open(self.foothold, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        attach(whole, place.map_err(failed)?.as_fd()).map_err(failed)?;
        let part = clone_part(whole, path);
        unmount(self.foothold, UnmountFlags::DETACH).map_err(failed)?;
        part
    }
}

/// In an overlay, the topmost directory gives the root its attributes.
fn copy_root(from: &Path, to: &Path) -> Result<(), SandboxError> {
    let (from, to) = (from.as_os_str().as_bytes(), to.as_os_str().as_bytes());
    let status = rustix::fs::stat(from).map_err(|e| SandboxError::mount("open the layer", from, e))?;
    stubs::copy_attributes(CWD, to, &status).map_err(|e| SandboxError::mount("prepare the changes in", to, e))
}

fn clone_host(path: &Path) -> Result<OwnedFd, SandboxError> {
    let path = path.as_os_str().as_bytes();
    clone_tree(CWD, path, true).map_err(|e| SandboxError::mount("take up the volume", path, e))
}

fn clone_below(directory: &Path, path: &[u8]) -> Result<OwnedFd, SandboxError> {
    let root = open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| SandboxError::mount("open the directory", directory.as_os_str().as_bytes(), e))?;
    clone_part(root.as_fd(), path)
}

fn clone_part(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, SandboxError> {
    let wanted = if path.is_empty() { b"/" } else { path };
    let found = open_beneath(root, wanted, OFlags::PATH).map_err(|e| match e {
        Errno::NOENT | Errno::NOTDIR => SandboxError::SourceMissing { path: text(path) },
        other => SandboxError::mount("look up the source", path, other),
    })?;
    clone_tree(found.as_fd(), b"", true).map_err(|e| SandboxError::mount("take up the source", path, e))
}
