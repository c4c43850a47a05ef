//! The requested mounts: their sources, mount points and order.

use crate::dev::Devices;
use crate::error::{SandboxError, text};
use crate::mounts::{attach, new_mount};
use crate::shown::{Mount, ShownFile, Tmpfs};
use crate::sources::{Surroundings, Tree};
use crate::stubs::{self, Kind, Place, Target, join, open_beneath};
use crate::view::Layers;
use rustix::fs::{AtFlags, OFlags, StatxFlags, fstat, statx};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The mode of a tmpfs on a new mount point: everybody may create files, nobody may remove those of others (sticky).
const SHARED: u32 = 0o1777;

/// A requested mount that is not made yet.
pub(crate) struct Wanted<'a> {
    target: Target<'a>,
    shows: Shows<'a>,
    /// True if the image lacks the mount point.
    lacking: bool,
}

enum Shows<'a> {
    Tree(Tree),
    Tmpfs(&'a Tmpfs),
    /// The file and its number in the list, which is its name in memory.
    File(&'a ShownFile, usize),
}

impl<'a> Wanted<'a> {
    /// Clones the source, if it exists already.
    pub(crate) fn new(mount: &'a Mount, number: usize, around: &Surroundings<'_>) -> Result<Wanted<'a>, SandboxError> {
        let (shows, kind) = match mount {
            Mount::Bind(bind) => {
                let tree = around.take_up(bind)?;
                let kind = if tree.is_directory { Kind::Directory } else { Kind::File };
                (Shows::Tree(tree), kind)
            }
            Mount::Tmpfs(tmpfs) => (Shows::Tmpfs(tmpfs), Kind::Directory),
            Mount::File(file) => (Shows::File(file, number), Kind::File),
        };
        Ok(Wanted { target: Target { path: mount.target(), kind, strict: false }, shows, lacking: false })
    }

    /// Creates the mount point in `stubs` if the image lacks it. A target below a `covered` path must wait until that
    /// is mounted; the target of this mount is added to them.
    pub(crate) fn prepare(
        &mut self,
        view: &Layers,
        stubs: &Path,
        covered: &mut Vec<Vec<Vec<u8>>>,
    ) -> Result<(), SandboxError> {
        let place = stubs::locate(view, &self.target, covered)?;
        allow(&self.target, &place)?;
        if place.is_covered() {
            return Ok(());
        }
        if place.is_missing() {
            self.lacking = true;
            stubs::make(view, stubs, &place, self.target.kind)?;
        }
        covered.push(place.components().to_vec());
        Ok(())
    }

    /// Returns true if the mount is a directory with the target `path`.
    pub(crate) fn is_directory_at(&self, path: &[u8]) -> bool {
        self.target.kind == Kind::Directory && self.target.path == path
    }

    /// Makes the mount. All earlier ones are made already.
    pub(crate) fn put(&self, root: BorrowedFd<'_>, devices: &Devices, nodev: bool) -> Result<(), SandboxError> {
        let target = &self.target;
        let place = stubs::locate(&root, target, &[])?;
        allow(target, &place)?;
        let point = if place.is_missing() { make_point(root, &place, target)? } else { open_point(root, &place)? };
        let put = |mount: BorrowedFd<'_>| {
            attach(mount, point.as_fd()).map_err(|e| SandboxError::mount("mount on", target.path, e))
        };
        match &self.shows {
            Shows::Tree(tree) => put(tree.mount.as_fd()),
            Shows::Tmpfs(tmpfs) => {
                let lacking = self.lacking || place.is_missing();
                let inherited = if lacking { None } else { Some(mode_of(point.as_fd(), target)?) };
                put(new_tmpfs(tmpfs, inherited, nodev)?.as_fd())
            }
            Shows::File(file, number) => put(devices.make_file(file, &number.to_string())?.as_fd()),
        }
    }
}

/// Refuses the root, which the jail enters, and the kernel's own file systems if a symbolic link of the image leads
/// there.
fn allow(target: &Target<'_>, place: &Place) -> Result<(), SandboxError> {
    let refuse = |why: String| Err(SandboxError::ForbiddenMountPoint { path: text(target.path), why });
    if place.is_root() {
        return refuse("it is the root of the file system".to_owned());
    }
    let first = place.components().first().map(Vec::as_slice);
    let of_the_kernel = matches!(first, Some(b"proc" | b"sys"));
    if of_the_kernel && stubs::split(target.path).next().as_deref() != first {
        return refuse(format!("links of the image lead it to `/{}`", text(&place.path())));
    }
    Ok(())
}

fn open_point(root: BorrowedFd<'_>, place: &Place) -> Result<OwnedFd, SandboxError> {
    open_beneath(root, &place.path(), OFlags::PATH | OFlags::NOFOLLOW)
        .map_err(|e| SandboxError::mount("mount on", [b"/", place.path().as_slice()].concat(), e))
}

/// Creates a mount point inside another mount. In the root itself it would become part of the layer.
fn make_point(root: BorrowedFd<'_>, place: &Place, target: &Target<'_>) -> Result<OwnedFd, SandboxError> {
    let failed = |e: Errno| match e {
        Errno::ROFS => SandboxError::ReadOnlyMountPoint { path: text(target.path) },
        other => SandboxError::Stub { path: text(target.path), source: other.into() },
    };
    let (existing, missing) = place.halves();
    let mut here = open_beneath(root, &join(existing), OFlags::PATH | OFlags::DIRECTORY).map_err(failed)?;
    if mount_number(here.as_fd()).map_err(failed)? == mount_number(root).map_err(failed)? {
        let why = format!("a link in another mount leads it to `/{}`, which the image lacks", text(&place.path()));
        return Err(SandboxError::ForbiddenMountPoint { path: text(target.path), why });
    }
    for (index, name) in missing.iter().enumerate() {
        if index + 1 == missing.len() && target.kind == Kind::File {
            stubs::make_file(here.as_fd(), name).map_err(failed)?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            return rustix::fs::openat(&here, name.as_slice(), flags, rustix::fs::Mode::empty()).map_err(failed);
        }
        here = stubs::make_directory(here.as_fd(), name).map_err(failed)?;
    }
    Ok(here)
}

/// The id of the mount that a file lies on.
fn mount_number(place: BorrowedFd<'_>) -> Result<u64, Errno> {
    statx(place, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map(|status| status.stx_mnt_id)
}

fn mode_of(place: BorrowedFd<'_>, target: &Target<'_>) -> Result<u32, SandboxError> {
    let status = fstat(place).map_err(|e| SandboxError::mount("look at", target.path, e))?;
    Ok(status.st_mode & 0o7777)
}

fn new_tmpfs(tmpfs: &Tmpfs, inherited: Option<u32>, nodev: bool) -> Result<OwnedFd, SandboxError> {
    let mode = format!("{:o}", tmpfs.mode.or(inherited).unwrap_or(SHARED) & 0o7777);
    let size = tmpfs.size.filter(|size| *size > 0).map(|size| size.to_string());
    let mut options = vec![("mode", mode.as_str())];
    options.extend(size.iter().map(|size| ("size", size.as_str())));
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID;
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, nodev);
    new_mount("tmpfs", &options, attributes)
}
