//! Safe access to directories with untrusted content. All such access goes through [`Dir`].
//!
//! Every path is resolved by the kernel beneath a directory handle (`openat2(2)`, `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS`, or `RESOLVE_IN_ROOT` where symbolic links may be followed), never by joining strings.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use dram_image::tar::Xattr;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawMode, ResolveFlags, Uid};
use rustix::io::Errno;

use crate::StoreError;
use crate::foreign_ids;
use crate::id_mapping::IdMapping;
use crate::ownership::OwnershipView;
use crate::remove_tree;

/// A handle of an open directory, with its path for messages.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    display_path: PathBuf,
    /// For a layer: the metadata that this process cannot set on the disk. `None` for root and for other directories.
    ownership: Option<OwnershipView>,
}

/// The result of `lstat` for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStatus {
    /// The kind.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Last change of the content: seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// Last change of the inode.
    pub ctime: (i64, u32),
    /// File system and inode number.
    pub inode: (u64, u64),
    /// Number of names.
    pub link_count: u64,
}

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A character device, by major and minor number; `0:0` is an overlay's whiteout.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl FileKind {
    /// Returns `true` for an overlayfs whiteout.
    pub fn is_whiteout(self) -> bool {
        self == FileKind::Char(0, 0)
    }
}

const RESOLVE_STRICT: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

impl Dir {
    /// Opens a directory of the host by its path.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn open(path: &Path) -> Result<Dir, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(StoreError::errno("open", path))?;
        Ok(Dir { fd, display_path: path.to_owned(), ownership: None })
    }

    /// Opens the directory of a layer, committed or being written. Metadata that this process cannot set on the disk
    /// (owners, devices, extended attributes) is written to the layer's ownership table and read from there.
    ///
    /// # Errors
    /// When a system call fails, or the ownership table is damaged.
    pub fn open_layer(path: &Path) -> Result<Dir, StoreError> {
        Dir::open_layer_with(path, IdMapping::of_current_process())
    }

    /// As [`Dir::open_layer`], for a process with `rights`.
    pub(crate) fn open_layer_with(path: &Path, id_mapping: IdMapping) -> Result<Dir, StoreError> {
        Ok(Dir { ownership: OwnershipView::open(path, id_mapping)?, ..Dir::open(path)? })
    }

    /// The path for messages and for mounts of this process.
    pub fn display_path(&self) -> &Path {
        &self.display_path
    }

    /// The directory's file descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn display_path_of(&self, path: &TreePath) -> PathBuf {
        self.display_path.join(path.as_path())
    }

    /// Adds `verb` and `path` to the error of a system call.
    fn wrap_errno<T>(&self, verb: &'static str, path: &TreePath, result: Result<T, Errno>) -> Result<T, StoreError> {
        result.map_err(|errno| StoreError::errno(verb, &self.display_path_of(path))(errno))
    }

    /// Opens a directory beneath, following no symbolic link.
    ///
    /// # Errors
    /// When it is missing, not a directory, or behind a symbolic link.
    pub fn open_subdir(&self, path: &TreePath) -> Result<Dir, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = self.wrap_errno("open", path, openat2(&self.fd, path, flags, Mode::empty(), RESOLVE_STRICT))?;
        Ok(Dir {
            fd,
            display_path: self.display_path_of(path),
            ownership: self.ownership.as_ref().map(|part| part.for_subdir(path)),
        })
    }

    /// Opens the directory `path`, resolved as by a process with this root: symbolic links are followed, and none leads
    /// outside.
    ///
    /// # Errors
    /// When it is missing or not a directory.
    pub fn open_subdir_in_root(&self, path: &TreePath) -> Result<Dir, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let fd = self.wrap_errno("open", path, openat2(&self.fd, path, flags, Mode::empty(), resolve))?;
        let ownership = match &self.ownership {
            None => None,
            Some(part) => Some(part.for_subdir(&self.wrap_errno("find", path, self.path_of_fd(&fd))?)),
        };
        Ok(Dir { fd, display_path: self.display_path_of(path), ownership })
    }

    /// The path relative to this directory of `dir`, which was opened beneath it.
    ///
    /// # Errors
    /// When it no longer exists.
    pub(crate) fn path_of(&self, dir: &Dir) -> Result<TreePath, StoreError> {
        self.wrap_errno("find", &TreePath::root(), self.path_of_fd(&dir.fd))
    }

    /// The real path of `fd`, relative to this directory.
    fn path_of_fd(&self, fd: &OwnedFd) -> Result<TreePath, Errno> {
        let place = |fd: &OwnedFd| rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new());
        let (root, below) = (place(&self.fd)?, place(fd)?);
        let below = below.to_bytes().strip_prefix(root.to_bytes()).ok_or(Errno::NOENT)?;
        TreePath::clean(below).map_err(|_| Errno::INVAL)
    }

    /// Opens a regular file for reading, without following a symbolic link and without blocking.
    ///
    /// # Errors
    /// When it is missing, behind a symbolic link, or not a regular file.
    pub fn open_file(&self, path: &TreePath) -> Result<File, StoreError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = self.wrap_errno("open", path, openat2(&self.fd, path, flags, Mode::empty(), RESOLVE_STRICT))?;
        self.require_regular(path, fd)
    }

    /// As [`Dir::open_file`], and follows symbolic links that stay in this directory.
    ///
    /// # Errors
    /// When it is missing, behind a link that leads outside, or not a regular file.
    pub fn open_file_through_links(&self, path: &TreePath) -> Result<File, StoreError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match openat2(&self.fd, path, flags, Mode::empty(), resolve) {
            Err(Errno::XDEV) => {
                let source =
                    io::Error::new(io::ErrorKind::InvalidInput, "a link on the way leads out of the directory");
                Err(StoreError::Io { verb: "open", path: self.display_path_of(path), source })
            }
            opened => self.require_regular(path, self.wrap_errno("open", path, opened)?),
        }
    }

    /// Returns `fd` as a file, if it is a regular one.
    fn require_regular(&self, path: &TreePath, fd: OwnedFd) -> Result<File, StoreError> {
        let file = File::from(fd);
        let kind = file.metadata().map_err(StoreError::io("look at", &self.display_path_of(path)))?.file_type();
        if kind.is_file() {
            return Ok(file);
        }
        let source = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
        Err(StoreError::Io { verb: "read", path: self.display_path_of(path), source })
    }

    /// Creates a regular file and opens it for writing.
    ///
    /// # Errors
    /// When it exists, or the system call fails.
    pub fn create_file(&self, path: &TreePath, mode: u32) -> Result<File, StoreError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd =
            self.wrap_errno("create", path, openat2(&self.fd, path, flags, Mode::from_raw_mode(mode), RESOLVE_STRICT))?;
        Ok(File::from(fd))
    }

    /// The names in this directory, sorted by their bytes.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn names(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        let fail = |errno: Errno| StoreError::errno("list", &self.display_path)(errno);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The status of `path`, without following a last symbolic link; `None` when nothing exists there.
    ///
    /// The parents must be real directories: callers take paths from a listing or from [`crate::MergedTree`].
    ///
    /// # Errors
    /// When the system call fails.
    pub fn status(&self, path: &TreePath) -> Result<Option<FileStatus>, StoreError> {
        let stat = match path.is_root() {
            true => rustix::fs::fstat(&self.fd),
            false => rustix::fs::statat(&self.fd, path.as_path(), AtFlags::SYMLINK_NOFOLLOW),
        };
        match stat {
            Ok(stat) => {
                let mut status = status_from_stat(&stat);
                if let Some(part) = &self.ownership {
                    part.apply_to_status(path, &mut status);
                }
                Ok(Some(status))
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(StoreError::errno("look at", &self.display_path_of(path))(errno)),
        }
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// When `path` is not a symbolic link.
    pub fn read_link(&self, path: &TreePath) -> Result<Vec<u8>, StoreError> {
        let target = rustix::fs::readlinkat(&self.fd, path.as_path(), Vec::new());
        Ok(self.wrap_errno("read the link", path, target)?.into_bytes())
    }

    /// The extended attributes of `path`, sorted by name.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn xattrs(&self, path: &TreePath) -> Result<Vec<Xattr>, StoreError> {
        let mut all = self.xattrs_on_disk(path)?;
        if let Some(part) = &self.ownership {
            part.add_xattrs(path, &mut all);
        }
        Ok(all)
    }

    fn xattrs_on_disk(&self, path: &TreePath) -> Result<Vec<Xattr>, StoreError> {
        let real = self.proc_path(path);
        let mut names = [0_u8; 4096];
        let length = match rustix::fs::llistxattr(&real, &mut names) {
            Ok(0) | Err(Errno::NOTSUP | Errno::NOENT) => return Ok(Vec::new()),
            Ok(length) => length,
            Err(errno) => return Err(StoreError::errno("list the attributes of", &self.display_path_of(path))(errno)),
        };
        let mut all = Vec::new();
        for name in names[..length].split(|&b| b == 0).filter(|name| !name.is_empty()) {
            let mut value = vec![0; 64 << 10];
            let got = match rustix::fs::lgetxattr(&real, OsStr::from_bytes(name), &mut value) {
                Err(Errno::NODATA | Errno::PERM) => continue,
                got => self.wrap_errno("read an attribute of", path, got)?,
            };
            value.truncate(got);
            all.push((name.to_vec(), value));
        }
        all.sort();
        Ok(all)
    }

    /// Sets one extended attribute; a symbolic link is not followed.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn set_xattr(&self, path: &TreePath, (name, value): (&[u8], &[u8])) -> Result<(), StoreError> {
        let text = CString::new(name).map_err(|_| {
            let source = io::Error::from(io::ErrorKind::InvalidInput);
            StoreError::Io { verb: "set an attribute of", path: self.display_path_of(path), source }
        })?;
        let flags = rustix::fs::XattrFlags::empty();
        let set = rustix::fs::lsetxattr(self.proc_path(path), text.as_c_str(), value, flags);
        match (&self.ownership, set) {
            (Some(part), Err(Errno::PERM | Errno::ACCESS | Errno::NOTSUP)) => {
                part.update_record(path, |record| drop(record.xattrs.insert(name.to_vec(), value.to_vec())))
            }
            (_, set) => self.wrap_errno("set an attribute of", path, set),
        }
    }

    /// Removes one extended attribute.
    ///
    /// # Errors
    /// When the system call fails.
    pub(crate) fn remove_xattr(&self, path: &TreePath, name: &[u8]) -> Result<(), StoreError> {
        let removed = rustix::fs::lremovexattr(self.proc_path(path), OsStr::from_bytes(name));
        self.wrap_errno("remove an attribute of", path, removed)
    }

    /// The path of `path` in `/proc/self/fd`, as there are no `*at` calls for extended attributes.
    fn proc_path(&self, path: &TreePath) -> PathBuf {
        let mut real = PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()));
        real.push(if path.is_root() { Path::new(".") } else { path.as_path() });
        real
    }

    /// Creates a directory.
    ///
    /// # Errors
    /// When the path exists, or the system call fails.
    pub fn make_dir(&self, path: &TreePath, mode: u32) -> Result<(), StoreError> {
        self.wrap_errno(
            "make the directory",
            path,
            rustix::fs::mkdirat(&self.fd, path.as_path(), Mode::from_raw_mode(mode)),
        )
    }

    /// Creates a symbolic link.
    ///
    /// # Errors
    /// When the path exists, or the system call fails.
    pub fn make_symlink(&self, path: &TreePath, target: &[u8]) -> Result<(), StoreError> {
        let made = rustix::fs::symlinkat(OsStr::from_bytes(target), &self.fd, path.as_path());
        self.wrap_errno("make the symbolic link", path, made)
    }

    /// Creates `path` as a hard link to the file `old`.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn make_link(&self, old: &TreePath, path: &TreePath) -> Result<(), StoreError> {
        self.make_link_from(self, old, path)
    }

    /// Creates `path` as a hard link to the file `old` of the directory `from`.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn make_link_from(&self, from: &Dir, old: &TreePath, path: &TreePath) -> Result<(), StoreError> {
        let made = rustix::fs::linkat(&from.fd, old.as_path(), &self.fd, path.as_path(), AtFlags::empty());
        self.wrap_errno("make the hard link", path, made)?;
        match (&from.ownership, &self.ownership) {
            (Some(from), Some(part)) => part.copy_record(from, old, path),
            (None, _) | (_, None) => Ok(()),
        }
    }

    /// Creates a device, a named pipe or a socket.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn make_node(&self, path: &TreePath, kind: FileKind) -> Result<(), StoreError> {
        let made = self.make_node_on_disk(path, kind);
        match (&self.ownership, made) {
            (Some(part), Err(Errno::PERM | Errno::ACCESS)) if part.can_record_device(kind) => {
                drop(self.create_file(path, 0o600)?);
                part.update_record(path, |record| record.device = Some(kind))
            }
            (_, made) => self.wrap_errno("make the special file", path, made),
        }
    }

    fn make_node_on_disk(&self, path: &TreePath, kind: FileKind) -> Result<(), Errno> {
        let (kind, device) = match kind {
            FileKind::Char(major, minor) => (FileType::CharacterDevice, rustix::fs::makedev(major, minor)),
            FileKind::Block(major, minor) => (FileType::BlockDevice, rustix::fs::makedev(major, minor)),
            FileKind::Fifo => (FileType::Fifo, 0),
            FileKind::Socket => (FileType::Socket, 0),
            FileKind::File | FileKind::Dir | FileKind::Symlink => unreachable!("these have calls of their own"),
        };
        rustix::fs::mknodat(&self.fd, path.as_path(), kind, Mode::from_raw_mode(0o600), device)
    }

    /// Sets owner, mode (except of symbolic links) and time, in the order that keeps setuid bits.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn set_metadata(&self, path: &TreePath, meta: &FileMetadata, is_symlink: bool) -> Result<(), StoreError> {
        let mode = match &self.ownership {
            None => {
                self.wrap_errno("change the owner of", path, self.chown(path, meta.uid, meta.gid))?;
                meta.mode
            }
            Some(part) => self.set_or_record_owner(part, path, meta, is_symlink)?,
        };
        if !is_symlink {
            self.wrap_errno("change the mode of", path, self.chmod(path, mode))?;
        }
        self.set_mtime(path, meta.mtime)
    }

    /// Sets the mode and keeps the owner. `path` must not be a symbolic link.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn set_mode(&self, path: &TreePath, mode: u32) -> Result<(), StoreError> {
        self.wrap_errno("change the mode of", path, self.chmod(path, mode))
    }

    /// Renames `old` to `path` atomically and replaces a file that exists there.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn rename(&self, old: &TreePath, path: &TreePath) -> Result<(), StoreError> {
        self.wrap_errno("write", path, rustix::fs::renameat(&self.fd, old.as_path(), &self.fd, path.as_path()))
    }

    /// Sets the owner, on the disk or in the ownership table. Returns the mode to set on the disk.
    fn set_or_record_owner(
        &self,
        part: &OwnershipView,
        path: &TreePath,
        meta: &FileMetadata,
        is_symlink: bool,
    ) -> Result<u32, StoreError> {
        let wanted = (meta.uid, meta.gid);
        let (owner, mode) = match part.id_mapping() {
            IdMapping::Root | IdMapping::Subordinate => match self.chown(path, meta.uid, meta.gid) {
                Err(Errno::INVAL | Errno::PERM) => (Some(wanted), meta.mode),
                Ok(()) if foreign_ids::is_foreign_owner(foreign_ids::namespace_ids(), wanted) => {
                    (Some(wanted), meta.mode)
                }
                done => (self.wrap_errno("change the owner of", path, done).map(|()| None)?, meta.mode),
            },
            IdMapping::Single => {
                // A setgid directory would otherwise pass on a group that does not exist in the namespace.
                self.wrap_errno("change the owner of", path, self.chown(path, 0, 0))?;
                (Some(wanted).filter(|&owner| owner != (0, 0)), meta.mode)
            }
            IdMapping::Unprivileged => {
                let own =
                    if self.status(path)?.is_some_and(|status| status.kind == FileKind::Dir) { 0o700 } else { 0o600 };
                (Some(wanted).filter(|&owner| owner != (0, 0)), meta.mode & 0o777 | own)
            }
        };
        let written = Some(meta.mode).filter(|&wanted| wanted != mode && !is_symlink);
        part.update_record(path, |record| (record.owner, record.mode) = (owner, written))?;
        Ok(mode)
    }

    /// Records `owner` in the ownership table, regardless of the owner on the disk.
    pub(crate) fn record_owner(&self, path: &TreePath, owner: (u32, u32)) -> Result<(), StoreError> {
        let owner = Some(owner).filter(|&owner| owner != (0, 0));
        self.ownership.as_ref().map_or(Ok(()), |part| part.update_record(path, |record| record.owner = owner))
    }

    /// Records the device that an empty file represents.
    pub(crate) fn record_device(&self, path: &TreePath, device: FileKind) -> Result<(), StoreError> {
        self.ownership.as_ref().map_or(Ok(()), |part| part.update_record(path, |record| record.device = Some(device)))
    }

    /// Records `owner` in the ownership table, or that the owner on the disk is right.
    pub(crate) fn record_foreign_owner(&self, path: &TreePath, owner: Option<(u32, u32)>) -> Result<(), StoreError> {
        self.ownership.as_ref().map_or(Ok(()), |part| part.update_record(path, |record| record.owner = owner))
    }

    /// The owner on the disk, regardless of the ownership table; `None` when there is no file.
    pub(crate) fn owner_on_disk(&self, path: &TreePath) -> Result<Option<(u32, u32)>, StoreError> {
        match rustix::fs::statat(&self.fd, path_or_dot(path), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            found => self.wrap_errno("look at", path, found).map(|stat| Some((stat.st_uid, stat.st_gid))),
        }
    }

    /// Sets the owner on the disk, and leaves the ownership table as it is. The kernel may clear setuid bits.
    pub(crate) fn set_owner_on_disk(&self, path: &TreePath, (uid, gid): (u32, u32)) -> Result<(), StoreError> {
        self.wrap_errno("change the owner of", path, self.chown(path, uid, gid))
    }

    fn chown(&self, path: &TreePath, uid: u32, gid: u32) -> Result<(), Errno> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(&self.fd, path_or_dot(path), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn chmod(&self, path: &TreePath, mode: u32) -> Result<(), Errno> {
        rustix::fs::chmodat(&self.fd, path_or_dot(path), Mode::from_raw_mode(mode as RawMode), AtFlags::empty())
    }

    /// Sets the modification time. What the file system cannot hold becomes the nearest time that it can.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn set_mtime(&self, path: &TreePath, (seconds, nanos): (i64, u32)) -> Result<(), StoreError> {
        // A time that the file system cannot hold is no error: the kernel takes the nearest one that it can.
        let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        self.wrap_errno(
            "set the time of",
            path,
            rustix::fs::utimensat(&self.fd, path_or_dot(path), &times, AtFlags::SYMLINK_NOFOLLOW),
        )
    }

    /// Removes `path` recursively. A missing path is not an error.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn remove(&self, path: &TreePath) -> Result<(), StoreError> {
        let Some(status) = self.status(path)? else { return Ok(()) };
        if let Some(part) = &self.ownership {
            part.remove_subtree(path)?;
        }
        if status.kind != FileKind::Dir {
            return self.wrap_errno("remove", path, rustix::fs::unlinkat(&self.fd, path.as_path(), AtFlags::empty()));
        }
        let name = path.name().unwrap_or_default();
        let above = path.parent().filter(|parent| !parent.is_root()).map(|parent| self.open_subdir(&parent));
        let above = above.transpose()?;
        let parent = above.as_ref().map_or(self.fd.as_fd(), |dir| dir.fd.as_fd());
        remove_tree::remove_dir(parent, name).map_err(|error| {
            let entry = self.display_path_of(path).join(OsStr::from_bytes(&error.path));
            StoreError::errno("remove", &entry)(error.errno)
        })
    }
}

/// Owner, mode and time to set on a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMetadata {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
}

impl FileStatus {
    /// Owner, mode and time, as a copy preserves them.
    pub fn metadata(&self) -> FileMetadata {
        FileMetadata { mode: self.mode, uid: self.uid, gid: self.gid, mtime: self.mtime }
    }
}

/// The path for system calls: `.` for the root.
fn path_or_dot(path: &TreePath) -> &Path {
    if path.is_root() { Path::new(".") } else { path.as_path() }
}

fn openat2(fd: &OwnedFd, path: &TreePath, flags: OFlags, mode: Mode, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let name = path_or_dot(path);
    loop {
        // EAGAIN: a concurrent rename interfered with the lookup, and the kernel asks for a retry.
        match rustix::fs::openat2(fd, name, flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
}

#[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, clippy::unnecessary_cast)] // widths differ by CPU
fn status_from_stat(stat: &rustix::fs::Stat) -> FileStatus {
    let mode = stat.st_mode as RawMode;
    let device = || (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let kind = match FileType::from_raw_mode(mode) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Dir,
        FileType::Symlink => FileKind::Symlink,
        FileType::CharacterDevice => FileKind::Char(device().0, device().1),
        FileType::BlockDevice => FileKind::Block(device().0, device().1),
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket | FileType::Unknown => FileKind::Socket,
    };
    FileStatus {
        kind,
        mode: mode as u32 & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size as u64,
        mtime: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
        ctime: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
        inode: (stat.st_dev as u64, stat.st_ino as u64),
        link_count: stat.st_nlink as u64,
    }
}
