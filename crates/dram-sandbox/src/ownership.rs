//! Recorded ownership: with a single id no file can change its owner, so a change is recorded in an extended attribute,
//! which moves with the file.
//!
//! The seccomp filter stops the calls that change owners and notifies the helper (`seccomp_unotify(2)`). The helper
//! does nothing to a file that the command could not do itself: both have the same id and the same access to it. So a
//! file that the command swaps between the lookup and the change does no harm.

use crate::mount_points::open_in_root;
use crate::prelude::*;
use crate::sys::{self, SyscallNotification};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, StatxFlags, Uid, XattrFlags, chownat, getxattr, open, readlinkat, setxattr, statx,
};
use rustix::io::{Errno, pread};

/// The longest path that the kernel takes (`PATH_MAX`).
const MAX_PATH: usize = 4096;
/// The id that stands for "unchanged" in these calls.
const UNCHANGED_ID: u32 = u32::MAX;

/// Answers one notified call. The attribute `attribute` records `UID:GID`; an unchanged id is empty.
///
/// # Errors
/// Fails when no process uses the filter any more.
pub(crate) fn answer_chown(listener: BorrowedFd<'_>, attribute: &str) -> Result<(), Errno> {
    let notification = match sys::receive_notification(listener) {
        // The calling process was killed meanwhile.
        Err(Errno::NOENT | Errno::INTR) => return Ok(()),
        notification => notification?,
    };
    let call = ChownCall::from_notification(&notification);
    let error = match call.open_target(&notification) {
        // Only now it is certain that the inspected process is the caller: its pid was not reused.
        Ok(Some((file, root))) if sys::is_notification_valid(listener, notification.id) => {
            call.record_owner(&file, &root, attribute)
        }
        Ok(_) => 0,
        Err(errno) => errno.raw_os_error(),
    };
    // Fails when the calling process was killed meanwhile.
    let _ = sys::answer_notification(listener, notification.id, error);
    Ok(())
}

/// A call that changes the owner of a file: the file and its new owner.
struct ChownCall {
    /// The descriptor of the file, or of the directory of the path; `None` for the working directory.
    at: Option<i32>,
    /// The address of the path in the memory of the process, if there is one.
    path: Option<u64>,
    flags: u64,
    uid: u32,
    gid: u32,
}

impl ChownCall {
    #[allow(clippy::cast_possible_truncation, reason = "the kernel reads these arguments as 32 bits too")]
    fn from_notification(notification: &SyscallNotification) -> ChownCall {
        let [first, second, third, fourth, flags, _] = notification.arguments;
        let no_follow = libc::AT_SYMLINK_NOFOLLOW as u64;
        match notification.number {
            libc::SYS_fchown => {
                ChownCall { at: Some(first as i32), path: None, flags: 0, uid: second as u32, gid: third as u32 }
            }
            libc::SYS_fchownat => {
                let at = Some(first as i32).filter(|&fd| fd != libc::AT_FDCWD);
                ChownCall { at, path: Some(second), flags, uid: third as u32, gid: fourth as u32 }
            }
            number => {
                let flags = if is_lchown(number) { no_follow } else { 0 };
                ChownCall { at: None, path: Some(first), flags, uid: second as u32, gid: third as u32 }
            }
        }
    }

    /// Opens the file, and the root directory of the process. Returns `None` if the root cannot be opened.
    fn open_target(&self, notification: &SyscallNotification) -> Result<Option<(OwnedFd, OwnedFd)>, Errno> {
        let process = format!("/proc/{}", notification.pid);
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let Ok(root) = open(format!("{process}/root"), flags, Mode::empty()) else { return Ok(None) };
        let start = match self.at {
            Some(fd) => format!("{process}/fd/{fd}"),
            None => format!("{process}/cwd"),
        };
        let path = match self.path {
            Some(address) => read_path(&process, address)?,
            None => Vec::new(),
        };
        if path.is_empty() {
            let is_meant = self.path.is_none() || self.flags & libc::AT_EMPTY_PATH as u64 != 0;
            if !is_meant {
                return Err(Errno::NOENT);
            }
            let file = open(start, flags, Mode::empty()).map_err(|_| Errno::BADF)?;
            return Ok(Some((file, root)));
        }
        let whole = if path.starts_with(b"/") {
            path
        } else {
            let start = readlinkat(CWD, start, Vec::new()).map_err(|_| Errno::BADF)?;
            [start.as_bytes(), b"/", &path].concat()
        };
        let mut flags = OFlags::PATH;
        flags.set(OFlags::NOFOLLOW, self.flags & libc::AT_SYMLINK_NOFOLLOW as u64 != 0);
        open_in_root(root.as_fd(), &whole, flags).map(|file| Some((file, root)))
    }

    /// Records the owner. Returns the error number for the caller, usually 0.
    fn record_owner(&self, file: &OwnedFd, root: &OwnedFd, attribute: &str) -> i32 {
        let mount =
            |fd: &OwnedFd| statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map(|stat| stat.stx_mnt_id).ok();
        if mount(file).is_none() || mount(file) != mount(root) {
            // The file lies on a bind mount or a tmpfs: it does not become part of the image.
            return 0;
        }
        // Changes the owner to the current one: this copies the file up into the layer, and clears setuid bits as
        // always.
        let changed = chownat(file, "", Some(Uid::ROOT), Some(Gid::ROOT), AtFlags::EMPTY_PATH);
        if let Err(errno @ (Errno::ROFS | Errno::NOSPC | Errno::DQUOT | Errno::IO)) = changed {
            return errno.raw_os_error();
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut before = [0; 32];
        let length = getxattr(&path, attribute, &mut before).unwrap_or(0);
        let value = self.merge_owner(&before[..length]);
        // Symbolic links and special files take no `user.*` attributes: they stay owned by root.
        let _ = setxattr(&path, attribute, value.as_bytes(), XattrFlags::empty());
        0
    }

    fn merge_owner(&self, before: &[u8]) -> String {
        let before = core::str::from_utf8(before).unwrap_or_default();
        let (user, group) = before.split_once(':').unwrap_or_default();
        let one = |id: u32, before: &str| if id == UNCHANGED_ID { before.to_owned() } else { id.to_string() };
        format!("{}:{}", one(self.uid, user), one(self.gid, group))
    }
}

#[cfg(target_arch = "x86_64")]
fn is_lchown(number: libc::c_long) -> bool {
    number == libc::SYS_lchown
}

#[cfg(not(target_arch = "x86_64"))]
fn is_lchown(_: libc::c_long) -> bool {
    false
}

/// Reads a path in the memory of a process.
fn read_path(process: &str, address: u64) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let memory = open(format!("{process}/mem"), flags, Mode::empty()).map_err(|_| Errno::FAULT)?;
    let mut path = vec![0; MAX_PATH];
    let mut length = 0;
    while length < MAX_PATH {
        // The memory after the path may not be mapped: then less is read.
        let got =
            pread(&memory, &mut path[length..], address.saturating_add(length as u64)).map_err(|_| Errno::FAULT)?;
        if let Some(end) = path[length..length + got].iter().position(|&byte| byte == 0) {
            path.truncate(length + end);
            return Ok(path);
        }
        if got == 0 {
            return Err(Errno::FAULT);
        }
        length += got;
    }
    Err(Errno::NAMETOOLONG)
}
