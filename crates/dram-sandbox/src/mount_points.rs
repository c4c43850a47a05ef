//! Mount points that an image lacks.
//!
//! A mount point must exist before the mount. Made in the root itself, it would become part of the layer. So the root
//! is inspected beforehand, and missing mount points are made in a directory of their own, which goes into
//! the overlay as the layer just below the changes. Their parent directories are made there as copies of those of the
//! image: in an overlay, the topmost layer gives a directory its owner, mode and time.

use crate::error::{SandboxError, lossy_text};
use crate::prelude::*;
use crate::tree_view::TreeView;
use alloc::collections::VecDeque;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, chmodat, chownat,
    mkdirat, open, openat, openat2, readlinkat, utimensat,
};
use rustix::io::Errno;

/// The most symbolic links that the kernel follows in one path.
const MAX_LINKS: usize = 40;

/// The longest path that the kernel takes (`PATH_MAX`, without the final NUL).
const MAX_PATH: usize = 4095;

/// The file type of a mount point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MountPointKind {
    Directory,
    File,
}

/// The target of a mount, as it was given.
pub(crate) struct MountTarget<'a> {
    /// An absolute path inside the root.
    pub(crate) path: &'a [u8],
    pub(crate) kind: MountPointKind,
    /// If true, symbolic links are refused: otherwise an image could redirect the kernel's own file systems.
    pub(crate) refuse_links: bool,
}

/// A resolved target: all symbolic links are followed.
pub(crate) struct MountPointPath {
    /// Path components below the root, none of them a link or `..`.
    components: Vec<Vec<u8>>,
    /// The number of components that exist.
    existing: usize,
    /// If true, the last component is the target of another mount of the jail. The components after it are not resolved
    /// yet.
    covered: bool,
}

impl MountPointPath {
    /// The path relative to the root; `.` for the root itself.
    pub(crate) fn path(&self) -> Vec<u8> {
        join_components(&self.components)
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.existing < self.components.len()
    }

    /// Returns true if it can be resolved only once the other mounts of the jail are made.
    pub(crate) fn is_covered(&self) -> bool {
        self.covered
    }

    /// Returns true if this is the root itself.
    pub(crate) fn is_root(&self) -> bool {
        self.components.is_empty()
    }

    pub(crate) fn components(&self) -> &[Vec<u8>] {
        &self.components
    }

    /// Splits the components into those that exist and those that are missing.
    pub(crate) fn split_existing(&self) -> (&[Vec<u8>], &[Vec<u8>]) {
        self.components.split_at(self.existing)
    }
}

pub(crate) fn join_components(components: &[Vec<u8>]) -> Vec<u8> {
    if components.is_empty() { b".".to_vec() } else { components.join(&b'/') }
}

/// Opens a path below `root` without leaving it, whatever links the image contains.
pub(crate) fn open_in_root(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // The kernel saw a rename while it resolved `..` and asks for another attempt.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

/// Resolves `target` in the tree `view`. Symbolic links are followed, dangling ones too, so the result need not exist.
/// Resolution ends at each of the paths `covered`.
pub(crate) fn resolve_target(
    view: &impl TreeView,
    target: &MountTarget<'_>,
    covered: &[Vec<Vec<u8>>],
) -> Result<MountPointPath, SandboxError> {
    let failed =
        |source: Errno| SandboxError::MountPointCreation { path: lossy_text(target.path), source: source.into() };
    let mut pending: VecDeque<Vec<u8>> = path_components(target.path).collect();
    let mut place = MountPointPath { components: Vec::new(), existing: 0, covered: false };
    let mut links = 0;
    while let Some(component) = pending.pop_front() {
        if component == b".." {
            place.components.pop();
            place.existing = place.existing.min(place.components.len());
            continue;
        }
        let parent_exists = !place.is_missing();
        place.components.push(component);
        if covered.contains(&place.components) {
            place.covered = true;
            return Ok(place);
        }
        if !parent_exists {
            continue;
        }
        let Some(found) = view.lookup(&place.components).map_err(failed)? else { continue };
        let kind = found.kind();
        if kind == FileType::Symlink {
            links += 1;
            if target.refuse_links || links > MAX_LINKS {
                return Err(wrong_kind_error(target, &place.path(), kind));
            }
            follow_link(&found.fd, &mut place, &mut pending).map_err(failed)?;
            continue;
        }
        place.existing = place.components.len();
        let wants_directory = !pending.is_empty() || target.kind == MountPointKind::Directory;
        if wants_directory != (kind == FileType::Directory) {
            return Err(wrong_kind_error(target, &place.path(), kind));
        }
    }
    // Links can add up to a path that the kernel would not take, and missing components would be created.
    if place.path().len() > MAX_PATH {
        return Err(failed(Errno::NAMETOOLONG));
    }
    Ok(place)
}

/// Splits a path into its components.
pub(crate) fn path_components(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}

/// Replaces the link at the end of `place` by its target.
fn follow_link(link: &OwnedFd, place: &mut MountPointPath, pending: &mut VecDeque<Vec<u8>>) -> Result<(), Errno> {
    let target_text = readlinkat(link, "", Vec::new())?.into_bytes();
    place.components.pop();
    if target_text.starts_with(b"/") {
        place.components.clear();
    }
    place.existing = place.components.len();
    for component in path_components(&target_text).rev() {
        pending.push_front(component);
    }
    Ok(())
}

fn wrong_kind_error(target: &MountTarget<'_>, at: &[u8], found: FileType) -> SandboxError {
    let found = match found {
        FileType::Symlink if target.refuse_links => "a symbolic link",
        FileType::Symlink => "the end of a chain of too many symbolic links",
        FileType::Directory => "a directory",
        FileType::RegularFile => "a file",
        FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
            "a special file"
        }
    };
    let expected = match target.kind {
        _ if at != target.path.strip_prefix(b"/").unwrap_or(target.path) && !target.refuse_links => {
            "something to mount on"
        }
        MountPointKind::Directory => "a directory",
        MountPointKind::File => "a file",
    };
    SandboxError::MountPoint {
        path: format!("/{}", lossy_text(at)),
        found: found.to_owned(),
        wanted: expected.to_owned(),
    }
}

/// Creates the missing components of `place` in the directory `mount_points_dir`.
pub(crate) fn create_mount_point(
    view: &impl TreeView,
    mount_points_dir: &[u8],
    place: &MountPointPath,
    kind: MountPointKind,
) -> Result<(), SandboxError> {
    let failed =
        |source: Errno| SandboxError::MountPointCreation { path: lossy_text(&place.path()), source: source.into() };
    let mut directory = open_directory(CWD, mount_points_dir).map_err(failed)?;
    let mut copied = Vec::new();
    for (index, component) in place.components.iter().enumerate() {
        let last = index + 1 == place.components.len();
        if last && kind == MountPointKind::File {
            make_file(directory.as_fd(), component).map_err(failed)?;
            break;
        }
        let next = make_directory(directory.as_fd(), component).map_err(failed)?;
        if index < place.existing {
            let path = place.components.get(..=index).unwrap_or_default();
            let original = view.lookup(path).map_err(failed)?.ok_or_else(|| failed(Errno::NOENT))?;
            copied.push((original.status, directory, component.as_slice()));
        }
        directory = next;
    }
    // Innermost first, as an entry made in a directory changes the directory's time.
    for (status, parent, name) in copied.into_iter().rev() {
        copy_attributes(parent.as_fd(), name, &status).map_err(failed)?;
    }
    Ok(())
}

fn open_directory(at: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// Makes a directory, or opens the existing one.
pub(crate) fn make_directory(at: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    match mkdirat(at, name, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) | Ok(()) => open_directory(at, name),
        Err(error) => Err(error),
    }
}

/// Makes an empty file. An existing one is no error, as two mounts may have the same target.
pub(crate) fn make_file(at: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    // Does not block on a pipe of that name, made meanwhile in a directory that others write to.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::from_raw_mode(0o644)).map(drop)
}

/// Sets the owner, mode and time of an entry to those in `status`.
pub(crate) fn copy_attributes(at: BorrowedFd<'_>, name: &[u8], status: &Stat) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
    match chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
        // An owner that this user namespace does not map can be read but not set.
        Err(Errno::INVAL) | Ok(()) => {}
        Err(error) => return Err(error),
    }
    chmodat(at, name, Mode::from_raw_mode(status.st_mode & 0o7777), AtFlags::empty())?;
    let time = Timespec { tv_sec: status.st_mtime, tv_nsec: status.st_mtime_nsec as _ };
    utimensat(at, name, &Timestamps { last_access: time, last_modification: time }, AtFlags::SYMLINK_NOFOLLOW)
}

/// Returns true if a directory has no entries.
pub(crate) fn is_empty_dir(path: &[u8]) -> Result<bool, Errno> {
    let directory = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut entries = rustix::fs::Dir::new(directory.as_fd().try_clone_to_owned().map_err(|_| Errno::MFILE)?)?;
    Ok(entries.all(|entry| entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."))))
}
