//! The requested mounts: their sources, mount points and order.

use crate::bind_sources::{BindContext, DetachedMount};
use crate::dev::JailDevices;
use crate::error::{SandboxError, lossy_text};
use crate::mount_points::{self, MountPointKind, MountPointPath, MountTarget, join_components, open_in_root};
use crate::mount_spec::{JailMount, MemoryFile, TmpfsMount};
use crate::mounts::{attach, create_mount};
use crate::prelude::*;
use crate::tree_view::MergedLayersView;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, OFlags, StatxFlags, fstat, statx};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

/// The mode of a tmpfs on a new mount point: everybody may create files, nobody may remove those of others (sticky).
const SHARED_DIR_MODE: u32 = 0o1777;

/// A requested mount that is not made yet.
pub(crate) struct PendingMount<'a> {
    target: MountTarget<'a>,
    source: PendingMountSource<'a>,
    /// True if the image lacks the mount point.
    missing_in_image: bool,
}

enum PendingMountSource<'a> {
    Tree(DetachedMount),
    Tmpfs(&'a TmpfsMount),
    /// The file and its number in the list, which is its name in memory.
    File(&'a MemoryFile, usize),
}

impl<'a> PendingMount<'a> {
    /// Clones the source, if it exists already.
    pub(crate) fn new(
        mount: &'a JailMount,
        number: usize,
        around: &BindContext<'_>,
    ) -> Result<PendingMount<'a>, SandboxError> {
        let (shows, kind) = match mount {
            JailMount::Bind(bind) => {
                let tree = around.clone_source(bind)?;
                let kind = if tree.is_directory { MountPointKind::Directory } else { MountPointKind::File };
                (PendingMountSource::Tree(tree), kind)
            }
            JailMount::Tmpfs(tmpfs) => (PendingMountSource::Tmpfs(tmpfs), MountPointKind::Directory),
            JailMount::File(file) => (PendingMountSource::File(file, number), MountPointKind::File),
        };
        Ok(PendingMount {
            target: MountTarget { path: mount.target(), kind, refuse_links: false },
            source: shows,
            missing_in_image: false,
        })
    }

    /// Creates the mount point in `mount_points_dir` if the image lacks it. A target below a `covered` path must wait until
    /// that is mounted; the target of this mount is added to them.
    pub(crate) fn prepare_mount_point(
        &mut self,
        view: &MergedLayersView,
        mount_points_dir: &[u8],
        covered: &mut Vec<Vec<Vec<u8>>>,
    ) -> Result<(), SandboxError> {
        let place = mount_points::resolve_target(view, &self.target, covered)?;
        check_allowed(&self.target, &place)?;
        if place.is_covered() {
            return Ok(());
        }
        if place.is_missing() {
            self.missing_in_image = true;
            mount_points::create_mount_point(view, mount_points_dir, &place, self.target.kind)?;
        }
        covered.push(place.components().to_vec());
        Ok(())
    }

    /// Returns true if the mount is a directory with the target `path`.
    pub(crate) fn is_directory_at(&self, path: &[u8]) -> bool {
        self.target.kind == MountPointKind::Directory && self.target.path == path
    }

    /// Makes the mount. All earlier ones are made already.
    pub(crate) fn mount(&self, root: BorrowedFd<'_>, devices: &JailDevices, nodev: bool) -> Result<(), SandboxError> {
        let target = &self.target;
        let place = mount_points::resolve_target(&root, target, &[])?;
        check_allowed(target, &place)?;
        let point = if place.is_missing() {
            create_nested_mount_point(root, &place, target)?
        } else {
            open_mount_point(root, &place)?
        };
        let put = |mount: BorrowedFd<'_>| {
            attach(mount, point.as_fd()).map_err(|e| SandboxError::mount("mount on", target.path, e))
        };
        match &self.source {
            PendingMountSource::Tree(tree) => put(tree.mount.as_fd()),
            PendingMountSource::Tmpfs(tmpfs) => {
                let lacking = self.missing_in_image || place.is_missing();
                let inherited = if lacking { None } else { Some(mode_of(point.as_fd(), target)?) };
                put(new_tmpfs(tmpfs, inherited, nodev)?.as_fd())
            }
            PendingMountSource::File(file, number) => {
                put(devices.create_memory_file(file, &number.to_string())?.as_fd())
            }
        }
    }
}

/// Refuses the root, which the jail enters, and the kernel's own file systems if a symbolic link of the image leads
/// there.
fn check_allowed(target: &MountTarget<'_>, place: &MountPointPath) -> Result<(), SandboxError> {
    let refuse = |why: String| Err(SandboxError::ForbiddenMountPoint { path: lossy_text(target.path), why });
    if place.is_root() {
        return refuse("it is the root of the file system".to_owned());
    }
    let first = place.components().first().map(Vec::as_slice);
    let of_the_kernel = matches!(first, Some(b"proc" | b"sys"));
    if of_the_kernel && mount_points::path_components(target.path).next().as_deref() != first {
        return refuse(format!("links of the image lead it to `/{}`", lossy_text(&place.path())));
    }
    Ok(())
}

fn open_mount_point(root: BorrowedFd<'_>, place: &MountPointPath) -> Result<OwnedFd, SandboxError> {
    open_in_root(root, &place.path(), OFlags::PATH | OFlags::NOFOLLOW)
        .map_err(|e| SandboxError::mount("mount on", [b"/", place.path().as_slice()].concat(), e))
}

/// Creates a mount point inside another mount. In the root itself it would become part of the layer.
fn create_nested_mount_point(
    root: BorrowedFd<'_>,
    place: &MountPointPath,
    target: &MountTarget<'_>,
) -> Result<OwnedFd, SandboxError> {
    let failed = |e: Errno| match e {
        Errno::ROFS => SandboxError::ReadOnlyMountPoint { path: lossy_text(target.path) },
        other => SandboxError::MountPointCreation { path: lossy_text(target.path), source: other.into() },
    };
    let (existing, missing) = place.split_existing();
    let mut directory =
        open_in_root(root, &join_components(existing), OFlags::PATH | OFlags::DIRECTORY).map_err(failed)?;
    if mount_id(directory.as_fd()).map_err(failed)? == mount_id(root).map_err(failed)? {
        let why =
            format!("a link in another mount leads it to `/{}`, which the image lacks", lossy_text(&place.path()));
        return Err(SandboxError::ForbiddenMountPoint { path: lossy_text(target.path), why });
    }
    for (index, name) in missing.iter().enumerate() {
        if index + 1 == missing.len() && target.kind == MountPointKind::File {
            mount_points::make_file(directory.as_fd(), name).map_err(failed)?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            return rustix::fs::openat(&directory, name.as_slice(), flags, rustix::fs::Mode::empty()).map_err(failed);
        }
        directory = mount_points::make_directory(directory.as_fd(), name).map_err(failed)?;
    }
    Ok(directory)
}

/// The id of the mount that a file lies on.
fn mount_id(place: BorrowedFd<'_>) -> Result<u64, Errno> {
    statx(place, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map(|status| status.stx_mnt_id)
}

fn mode_of(place: BorrowedFd<'_>, target: &MountTarget<'_>) -> Result<u32, SandboxError> {
    let status = fstat(place).map_err(|e| SandboxError::mount("look at", target.path, e))?;
    Ok(status.st_mode & 0o7777)
}

fn new_tmpfs(tmpfs: &TmpfsMount, inherited: Option<u32>, nodev: bool) -> Result<OwnedFd, SandboxError> {
    let mode = format!("{:o}", tmpfs.mode.or(inherited).unwrap_or(SHARED_DIR_MODE) & 0o7777);
    let size = tmpfs.size.filter(|size| *size > 0).map(|size| size.to_string());
    let mut options = vec![("mode", mode.as_str())];
    options.extend(size.iter().map(|size| ("size", size.as_str())));
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID;
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, nodev);
    create_mount("tmpfs", &options, attributes)
}
