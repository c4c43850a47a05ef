//! Removing a directory with all its content, at any depth.
//!
//! A command can nest directories deeper than `PATH_MAX` allows a path to be, by `mkdir` and `chdir`. So no path is
//! built: one directory is open at a time, and the way back is `..`, which is compared with the directory that was left.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

/// A directory on the way to the one that is open.
struct OpenedLevel {
    /// Its name in the directory above.
    name: Vec<u8>,
    /// Device and inode number.
    inode: (u64, u64),
    /// The names of directories in it that are not removed yet.
    subdirs: Vec<Vec<u8>>,
}

/// A failed removal: the error, and the path of the entry below the removed directory.
#[derive(Debug)]
pub(crate) struct RemoveError {
    pub(crate) errno: Errno,
    pub(crate) path: Vec<u8>,
}

/// Removes the directory `name` of `parent` and everything in it. A directory without permissions, as overlayfs leaves
/// some, is made accessible first.
///
/// # Errors
/// Fails at the first entry that cannot be removed, or when a directory is moved meanwhile.
pub(crate) fn remove_dir(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), RemoveError> {
    let mut levels: Vec<OpenedLevel> = Vec::new();
    remove_levels(parent, name, &mut levels).map_err(|(errno, name)| {
        let names = levels.iter().skip(1).map(|level| level.name.as_slice()).chain(name.as_deref());
        let mut path = names.collect::<Vec<_>>().join(&b'/');
        // A path that is shown in a message is bounded.
        path.truncate(512);
        RemoveError { errno, path }
    })
}

/// The error, and the name of the entry where it is not the open directory itself.
type LevelError = (Errno, Option<Vec<u8>>);

fn remove_levels(parent: BorrowedFd<'_>, name: &[u8], levels: &mut Vec<OpenedLevel>) -> Result<(), LevelError> {
    let at = |name: &[u8]| {
        let name = name.to_vec();
        move |errno| (errno, Some(name))
    };
    let mut open = open_child(parent, name).map_err(at(name))?;
    levels.push(empty_level(&open, name)?);
    loop {
        let above = levels.len().checked_sub(2).map(|at| levels[at].inode);
        let Some(level) = levels.last_mut() else { return Ok(()) };
        if let Some(subdir) = level.subdirs.pop() {
            open = open_child(open.as_fd(), &subdir).map_err(at(&subdir))?;
            levels.push(empty_level(&open, &subdir)?);
            continue;
        }
        let up = match above {
            None => None,
            Some(inode) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let up = rustix::fs::openat(&open, c"..", flags, Mode::empty()).map_err(|errno| (errno, None))?;
                if inode_of(&up).map_err(|errno| (errno, None))? != inode {
                    return Err((Errno::STALE, None));
                }
                Some(up)
            }
        };
        let dir = up.as_ref().map_or(parent, AsFd::as_fd);
        rustix::fs::unlinkat(dir, level.name.as_slice(), AtFlags::REMOVEDIR).map_err(|errno| (errno, None))?;
        levels.pop();
        if let Some(up) = up {
            open = up;
        }
    }
}

/// Removes all entries of the open directory but its subdirectories.
fn empty_level(dir: &OwnedFd, name: &[u8]) -> Result<OpenedLevel, LevelError> {
    let own = |errno| (errno, Some(name.to_vec()));
    let mut level = OpenedLevel { name: name.to_vec(), inode: inode_of(dir).map_err(own)?, subdirs: Vec::new() };
    let entries = rustix::fs::Dir::read_from(dir).map_err(own)?;
    for entry in entries {
        let entry = entry.map_err(own)?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let failed = |errno| (errno, Some(name.to_bytes().to_vec()));
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            // Some file systems report EPERM instead of EISDIR for directories.
            Err(errno @ (Errno::ISDIR | Errno::PERM)) => {
                let status = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
                if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
                    return Err(failed(errno));
                }
                level.subdirs.push(name.to_bytes().to_vec());
            }
            Err(errno) => return Err(failed(errno)),
        }
    }
    Ok(level)
}

fn open_child(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let open = || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(dir, name, flags, Mode::empty())
    };
    match open() {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(dir, name, Mode::RWXU, AtFlags::empty())?;
            open()
        }
        done => done,
    }
}

fn inode_of(dir: &OwnedFd) -> Result<(u64, u64), Errno> {
    #[allow(clippy::unnecessary_cast, reason = "widths differ by processor")]
    rustix::fs::fstat(dir).map(|status| (status.st_dev as u64, status.st_ino as u64))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    /// Nests `depth` directories below `dir`, each with a file.
    fn nest(dir: &std::path::Path, depth: usize) {
        let mut at = OwnedFd::from(File::open(dir).unwrap());
        for _ in 0..depth {
            let file = OFlags::CREATE | OFlags::WRONLY;
            rustix::fs::openat(&at, c"file", file, Mode::RUSR).unwrap();
            rustix::fs::mkdirat(&at, c"directory", Mode::RWXU).unwrap();
            at = open_child(at.as_fd(), b"directory").unwrap();
        }
    }

    #[test]
    fn directories_deeper_than_a_path_can_be_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir(&top).unwrap();
        nest(&top, 5000);
        fs::create_dir_all(top.join("other/empty")).unwrap();
        std::os::unix::fs::symlink("/etc", top.join("link")).unwrap();
        let parent = File::open(dir.path()).unwrap();
        remove_dir(parent.as_fd(), b"top").unwrap();
        assert!(fs::read_dir(dir.path()).unwrap().next().is_none());
        assert!(fs::metadata("/etc").unwrap().is_dir());
    }

    #[test]
    fn an_entry_that_cannot_be_removed_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let parent = File::open(dir.path()).unwrap();
        assert_eq!(remove_dir(parent.as_fd(), b"missing").unwrap_err().errno, Errno::NOENT);
        fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(remove_dir(parent.as_fd(), b"file").unwrap_err().errno, Errno::NOTDIR);
        std::os::unix::fs::symlink(".", dir.path().join("link")).unwrap();
        assert!(remove_dir(parent.as_fd(), b"link").is_err());
        assert!(dir.path().join("file").exists());
        // procfs refuses: the way to the entry is told.
        let proc = File::open("/proc").unwrap();
        let error = remove_dir(proc.as_fd(), b"self/fdinfo").unwrap_err();
        assert!(!error.path.is_empty(), "{error:?}");
    }
}
