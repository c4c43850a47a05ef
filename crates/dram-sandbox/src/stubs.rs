//! Mount points that an image lacks.
//!
//! A mount needs a directory or file to stand on. Made in the root itself it would become part of the layer. So the
//! root is looked at beforehand, and what it lacks is made in a directory of its own (`stubs`), which goes into the
//! overlay as the layer just below the changes. Directories on the way are made there again as the image has them:
//! in a merge, the topmost layer gives a directory its owner, mode and time.

use crate::error::{SandboxError, text};
use crate::view::View;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, chmodat, chownat,
    mkdirat, open, openat, openat2, readlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// As many symbolic links as the kernel follows in one path.
const MOST_LINKS: usize = 40;

/// The kernel takes no longer path (`PATH_MAX`, without the final NUL).
const LONGEST_PATH: usize = 4095;

/// What a mount stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
}

/// A place in the root at which something will be mounted.
pub(crate) struct Target<'a> {
    /// An absolute path, as asked for.
    pub(crate) path: &'a [u8],
    pub(crate) kind: Kind,
    /// No symbolic link may lead there: otherwise an image chooses where the kernel's own file systems go.
    pub(crate) strict: bool,
}

/// Where a target is, all links followed.
pub(crate) struct Place {
    /// Path components below the root, none of them a link or `..`.
    components: Vec<Vec<u8>>,
    /// How many of them exist.
    existing: usize,
    /// The last of them is where something of the jail's own will be mounted. What comes after it is not known yet.
    covered: bool,
}

impl Place {
    /// The path relative to the root; `.` for the root itself.
    pub(crate) fn path(&self) -> Vec<u8> {
        join(&self.components)
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.existing < self.components.len()
    }

    /// Whether it can only be known once the jail's own mounts are there.
    pub(crate) fn is_covered(&self) -> bool {
        self.covered
    }

    /// Whether this is the root itself.
    pub(crate) fn is_root(&self) -> bool {
        self.components.is_empty()
    }

    pub(crate) fn components(&self) -> &[Vec<u8>] {
        &self.components
    }

    /// The components that exist, and those that are missing.
    pub(crate) fn halves(&self) -> (&[Vec<u8>], &[Vec<u8>]) {
        self.components.split_at(self.existing)
    }
}

pub(crate) fn join(components: &[Vec<u8>]) -> Vec<u8> {
    if components.is_empty() { b".".to_vec() } else { components.join(&b'/') }
}

/// Opens a path below `root` without leaving it, whatever links the image contains.
pub(crate) fn open_beneath(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // The kernel saw a rename somewhere while it resolved `..` and asks to try again.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

/// Finds where `target` is in the tree `view`, or where it would be: links are followed, dangling ones too. The search
/// ends at each of the paths `covered`.
pub(crate) fn locate(view: &impl View, target: &Target<'_>, covered: &[Vec<Vec<u8>>]) -> Result<Place, SandboxError> {
    let failed = |source: Errno| SandboxError::Stub { path: text(target.path), source: source.into() };
    let mut pending: VecDeque<Vec<u8>> = split(target.path).collect();
    let mut place = Place { components: Vec::new(), existing: 0, covered: false };
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
        let Some(found) = view.look(&place.components).map_err(failed)? else { continue };
        let kind = found.kind();
        if kind == FileType::Symlink {
            links += 1;
            if target.strict || links > MOST_LINKS {
                return Err(wrong(target, &place.path(), kind));
            }
            follow(&found.place, &mut place, &mut pending).map_err(failed)?;
            continue;
        }
        place.existing = place.components.len();
        let wants_directory = !pending.is_empty() || target.kind == Kind::Directory;
        if wants_directory != (kind == FileType::Directory) {
            return Err(wrong(target, &place.path(), kind));
        }
    }
    // Links can add up to more than the kernel would take, and what is missing of it would be made.
    if place.path().len() > LONGEST_PATH {
        return Err(failed(Errno::NAMETOOLONG));
    }
    Ok(place)
}

/// The components of a path.
pub(crate) fn split(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}

/// Replaces the link at the end of `place` by what it says.
fn follow(link: &OwnedFd, place: &mut Place, pending: &mut VecDeque<Vec<u8>>) -> Result<(), Errno> {
    let says = readlinkat(link, "", Vec::new())?.into_bytes();
    place.components.pop();
    if says.starts_with(b"/") {
        place.components.clear();
    }
    place.existing = place.components.len();
    for component in split(&says).rev() {
        pending.push_front(component);
    }
    Ok(())
}

fn wrong(target: &Target<'_>, at: &[u8], found: FileType) -> SandboxError {
    let found = match found {
        FileType::Symlink if target.strict => "a symbolic link",
        FileType::Symlink => "the end of a chain of too many symbolic links",
        FileType::Directory => "a directory",
        FileType::RegularFile => "a file",
        _ => "a special file",
    };
    let wanted = match target.kind {
        _ if at != target.path.strip_prefix(b"/").unwrap_or(target.path) && !target.strict => "something to mount on",
        Kind::Directory => "a directory",
        Kind::File => "a file",
    };
    SandboxError::MountPoint { path: format!("/{}", text(at)), found: found.to_owned(), wanted: wanted.to_owned() }
}

/// Makes what `place` lacks in the directory `stubs`.
pub(crate) fn make(view: &impl View, stubs: &Path, place: &Place, kind: Kind) -> Result<(), SandboxError> {
    let failed = |source: Errno| SandboxError::Stub { path: text(&place.path()), source: source.into() };
    let mut here = open_directory(CWD, stubs.as_os_str().as_encoded_bytes()).map_err(failed)?;
    let mut copied = Vec::new();
    for (index, component) in place.components.iter().enumerate() {
        let last = index + 1 == place.components.len();
        if last && kind == Kind::File {
            make_file(here.as_fd(), component).map_err(failed)?;
            break;
        }
        let next = make_directory(here.as_fd(), component).map_err(failed)?;
        if index < place.existing {
            let path = place.components.get(..=index).unwrap_or_default();
            let original = view.look(path).map_err(failed)?.ok_or_else(|| failed(Errno::NOENT))?;
            copied.push((original.status, here, component.as_slice()));
        }
        here = next;
    }
    // From the inside out, as making something in a directory changes the directory's time.
    for (status, parent, name) in copied.into_iter().rev() {
        copy_attributes(parent.as_fd(), name, &status).map_err(failed)?;
    }
    Ok(())
}

fn open_directory(at: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// A directory, new or there already.
pub(crate) fn make_directory(at: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    match mkdirat(at, name, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) | Ok(()) => open_directory(at, name),
        Err(error) => Err(error),
    }
}

/// An empty file. It does not disturb if two mounts want the same one.
pub(crate) fn make_file(at: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    // A pipe of that name, made meanwhile in a directory that others write to, must not make this wait.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::from_raw_mode(0o644)).map(drop)
}

/// Gives an entry the owner, mode and time that `status` has.
pub(crate) fn copy_attributes(at: BorrowedFd<'_>, name: &[u8], status: &Stat) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
    match chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
        // An owner that this user namespace does not have can only be shown, not given.
        Err(Errno::INVAL) | Ok(()) => {}
        Err(error) => return Err(error),
    }
    chmodat(at, name, Mode::from_raw_mode(status.st_mode & 0o7777), AtFlags::empty())?;
    let time = Timespec { tv_sec: status.st_mtime, tv_nsec: status.st_mtime_nsec as _ };
    utimensat(at, name, &Timestamps { last_access: time, last_modification: time }, AtFlags::SYMLINK_NOFOLLOW)
}

/// Whether a directory has no entries.
pub(crate) fn is_empty(path: &Path) -> Result<bool, Errno> {
    let directory = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut entries = rustix::fs::Dir::new(directory.as_fd().try_clone_to_owned().map_err(|_| Errno::MFILE)?)?;
    Ok(entries.all(|entry| entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."))))
}
