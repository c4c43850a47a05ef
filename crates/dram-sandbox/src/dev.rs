//! `/dev` of the jail: a tmpfs with the few devices that every program may expect.

use crate::error::SandboxError;
use crate::ids;
use crate::jail::{Jail, TerminalSize};
use crate::mount_points::{self, open_in_root};
use crate::mount_spec::MemoryFile;
use crate::mounts::{INERT_ATTRIBUTES, attach, attach_at, clone_tree, create_mount};
use crate::prelude::*;
use crate::small_files::{kernel_names, read_kernel_text, write_all};
use crate::sys;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, chmodat, fchmod, fcntl_getfl, fstat, major, makedev, minor, mkdirat,
    mknodat, openat, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// The character devices of every jail: name, major and minor number (`admin-guide/devices.txt` of the kernel).
const COMMON_DEVICES: &[(&str, u32, u32)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Character devices that only an insecure command gets. The list is that of BuildKit.
const INSECURE_DEVICES: &[(&str, u32, u32)] = &[
    ("kmsg", 1, 11),
    ("cuse", 10, 203),
    ("fuse", 10, 229),
    ("kvm", 10, 232),
    ("net/tun", 10, 200),
    ("loop-control", 10, 237),
];

/// The number of loop devices beyond those that exist, which the command can set up.
const EXTRA_LOOP_DEVICES: u32 = 8;
const MAX_LOOP_DEVICES: u32 = 256;

const DEV_LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// The mount attributes of device nodes: no setuid programs and no programs.
const DEVICE_ATTRIBUTES: MountAttrFlags = INERT_ATTRIBUTES.difference(MountAttrFlags::MOUNT_ATTR_NODEV);

/// The options of the tmpfs that has the jail's own device nodes.
const DEVICE_NODES_OPTIONS: &[(&str, &str)] = &[("mode", "0700"), ("size", "64k")];

/// The group that owns terminals on every distribution that has such a group.
const TTY_GROUP: u32 = 5;

/// The mounted `/dev`.
pub(crate) struct JailDevices {
    directory: OwnedFd,
    /// The mount of the null device.
    null: OwnedFd,
    /// A directory that is hidden under another mount: files in it can be bind-mounted elsewhere without being visible
    /// here. An unlinked file will not do: it can neither be bind-mounted nor be mounted on.
    hidden_dir: OwnedFd,
}

/// The two ends of the command's pseudo-terminal.
pub(crate) struct PseudoTerminal {
    pub(crate) outer: OwnedFd,
    pub(crate) inner: OwnedFd,
}

impl JailDevices {
    /// Mounts `/dev` with everything in it; if `insecure`, with devices that act on the machine. Without `shm_size`,
    /// `/dev/shm` is an empty directory for the mount of the caller. `initial` is true in the initial user namespace.
    pub(crate) fn mount_dev(
        root: BorrowedFd<'_>,
        shm_size: Option<u64>,
        insecure: bool,
        initial: bool,
    ) -> Result<JailDevices, SandboxError> {
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID;
        attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, !insecure);
        let directory = create_mount("tmpfs", &[("mode", "0755"), ("size", "64m")], attributes)?;
        attach_at(root, b"dev", directory.as_fd())?;
        let at = directory.as_fd();
        // Hidden under the mount of `pts` from then on.
        let nodes = mount_on_new_dir(at, "pts", "tmpfs", DEVICE_NODES_OPTIONS, DEVICE_ATTRIBUTES)?;
        let mut null = None;
        for (name, major, minor) in COMMON_DEVICES {
            let device = match initial {
                true => make_own_device(nodes.mount.as_fd(), name, *major, *minor)?,
                false => None,
            };
            let device = device.map_or_else(|| clone_host_device(name, *major, *minor), Ok)?;
            mount_on_new_file(at, name, device.as_fd())?;
            null = null.or(Some(device));
        }
        if insecure {
            make_insecure_devices(at);
        }
        for (target, name) in DEV_LINKS {
            symlinkat(*target, at, *name).map_err(|e| SandboxError::mount("make", format!("/dev/{name}"), e))?;
        }
        let pts = create_mount("devpts", &devpts_options(), DEVICE_ATTRIBUTES)?;
        attach(pts.as_fd(), nodes.mount.as_fd()).map_err(|e| SandboxError::mount("mount on", "/dev/pts", e))?;
        match shm_size {
            Some(size) => {
                // The kernel takes 0 for no limit.
                let size = if size == 0 { Jail::SHM_SIZE } else { size }.to_string();
                mount_on_new_dir(at, "shm", "tmpfs", &[("mode", "1777"), ("size", &size)], INERT_ATTRIBUTES)?;
            }
            None => {
                // A tmpfs that is mounted here inherits the mode.
                let made = mkdirat(at, "shm", Mode::empty());
                let made = made.and_then(|()| chmodat(at, "shm", Mode::from_raw_mode(0o1777), AtFlags::empty()));
                made.map_err(|e| SandboxError::mount("make", "/dev/shm", e))?;
            }
        }
        // Some kernels are built without message queues, and nothing common needs them.
        let _ = mount_on_new_dir(at, "mqueue", "mqueue", &[], INERT_ATTRIBUTES);
        let null = null.ok_or_else(|| SandboxError::mount("open", "/dev/null", Errno::NOENT))?;
        Ok(JailDevices { directory, null, hidden_dir: nodes.place })
    }

    /// Clones a mount of the null device, to mask a file with. Its mode and owner cannot be changed.
    pub(crate) fn clone_null(&self) -> Result<OwnedFd, SandboxError> {
        let failed = |e: Errno| SandboxError::mount("show", "/dev/null", e);
        let mount = clone_tree(self.null.as_fd(), b"", false).map_err(failed)?;
        let attributes = DEVICE_ATTRIBUTES | MountAttrFlags::MOUNT_ATTR_RDONLY;
        sys::mount_setattr(mount.as_fd(), false, u64::from(attributes.bits()), 0).map_err(failed)?;
        Ok(mount)
    }

    /// Replaces each standard stream of this process that is the host's null device by the jail's own. Through
    /// `/proc/self/fd`, the command can change the mode and owner of its streams.
    pub(crate) fn replace_null_streams(&self) -> Result<(), SandboxError> {
        let failed = |e: Errno| SandboxError::mount("open", "/dev/null", e);
        for (number, stream) in sys::standard_streams().into_iter().enumerate() {
            // A closed stream stays closed.
            let Ok(status) = fstat(stream) else { continue };
            if !is_device(&status, 1, 3) {
                continue;
            }
            let access = fcntl_getfl(stream).map_err(failed)? & OFlags::RWMODE;
            let null = openat(&self.directory, "null", access | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
            match number {
                0 => rustix::stdio::dup2_stdin(&null),
                1 => rustix::stdio::dup2_stdout(&null),
                _ => rustix::stdio::dup2_stderr(&null),
            }
            .map_err(failed)?;
        }
        Ok(())
    }

    /// Creates a file that exists in memory only, as a detached mount. `name` is unique among these files.
    pub(crate) fn create_memory_file(&self, file: &MemoryFile, name: &str) -> Result<OwnedFd, SandboxError> {
        let failed = |e: Errno| SandboxError::mount("write what is shown at", &file.target, e);
        write_file(self.hidden_dir.as_fd(), name, file).map_err(failed)?;
        let mount = clone_tree(self.hidden_dir.as_fd(), name.as_bytes(), false).map_err(failed)?;
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, file.mode & 0o111 == 0);
        attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, file.read_only);
        sys::mount_setattr(mount.as_fd(), false, u64::from(attributes.bits()), 0).map_err(failed)?;
        Ok(mount)
    }

    /// Opens a pseudo-terminal of this size in the jail's own devpts, owned by `owner`, and mounts it on `/dev/console`.
    pub(crate) fn open_terminal(
        &self,
        root: BorrowedFd<'_>,
        owner: u32,
        size: TerminalSize,
    ) -> Result<PseudoTerminal, SandboxError> {
        let failed = |e: Errno| SandboxError::process("open a terminal in the jail", e);
        let outer = open_in_root(root, b"dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY).map_err(failed)?;
        unlockpt(&outer).map_err(failed)?;
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&outer, size).map_err(failed)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let inner = ioctl_tiocgptpeer(&outer, flags).map_err(failed)?;
        ids::change_owner(inner.as_fd(), owner, None).map_err(failed)?;
        // The first pseudo-terminal of a new devpts has number 0.
        let mount = clone_tree(self.directory.as_fd(), b"pts/0", false).map_err(failed)?;
        mount_on_new_file(self.directory.as_fd(), "console", mount.as_fd())?;
        Ok(PseudoTerminal { outer, inner })
    }
}

/// Writes the contents while only root may read them, then sets owner and mode.
fn write_file(at: BorrowedFd<'_>, name: &str, shown: &MemoryFile) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(at, name, flags, Mode::from_raw_mode(0o600))?;
    write_all(file.as_fd(), &shown.contents)?;
    if (shown.uid, shown.gid) != (0, 0) {
        ids::change_owner(file.as_fd(), shown.uid, Some(shown.gid))?;
    }
    // The mode comes after the owner: a change of owner clears the setuid bits.
    fchmod(&file, Mode::from_raw_mode(shown.mode & 0o777))
}

/// Makes [`INSECURE_DEVICES`] and the loop devices. Where even root may not, as in a container, errors are ignored: a
/// command that needs a device reports it itself.
fn make_insecure_devices(at: BorrowedFd<'_>) {
    let _ = mkdirat(at, "net", Mode::from_raw_mode(0o755));
    let mode = Mode::from_raw_mode(0o666);
    for (name, major, minor) in INSECURE_DEVICES {
        let _ = mknodat(at, *name, FileType::CharacterDevice, mode, makedev(*major, *minor));
    }
    let known = kernel_names("/sys/block").iter().filter(|name| name.starts_with("loop")).count();
    let known = u32::try_from(known).unwrap_or(MAX_LOOP_DEVICES);
    for minor in 0..known.saturating_add(EXTRA_LOOP_DEVICES).min(MAX_LOOP_DEVICES) {
        let _ = mknodat(at, format!("loop{minor}"), FileType::BlockDevice, mode, makedev(7, minor));
    }
}

/// Makes a device node in the directory `nodes` and clones a mount of it. Returns `None` where even root may not make
/// one, as in a container.
///
/// `/dev` itself is mounted without devices, as the command may make nodes there. Only these few work.
fn make_own_device(nodes: BorrowedFd<'_>, name: &str, major: u32, minor: u32) -> Result<Option<OwnedFd>, SandboxError> {
    let failed = |e: Errno| SandboxError::mount("make", format!("/dev/{name}"), e);
    let mode = Mode::from_raw_mode(0o666);
    match mknodat(nodes, name, FileType::CharacterDevice, mode, makedev(major, minor)) {
        Ok(()) => clone_tree(nodes, name.as_bytes(), false).map(Some).map_err(failed),
        Err(Errno::PERM) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Clones a mount of a device node of the host. The device number is checked: if `/dev/null` were a regular file, the
/// command would write to a file of the host. The mount is read-only: the device can be written to all the same, and
/// its mode, owner and times cannot be changed, also by a user to whom it belongs.
fn clone_host_device(name: &str, major: u32, minor: u32) -> Result<OwnedFd, SandboxError> {
    let path = format!("/dev/{name}");
    let mount = clone_tree(CWD, path.as_bytes(), false).map_err(|e| SandboxError::mount("show", &path, e))?;
    let status = fstat(&mount).map_err(|e| SandboxError::mount("look at", &path, e))?;
    if !is_device(&status, major, minor) {
        return Err(SandboxError::Device { name: name.to_owned(), major, minor });
    }
    let attributes = DEVICE_ATTRIBUTES | MountAttrFlags::MOUNT_ATTR_RDONLY;
    sys::mount_setattr(mount.as_fd(), false, u64::from(attributes.bits()), libc::MS_PRIVATE)
        .map_err(|e| SandboxError::mount("show", &path, e))?;
    Ok(mount)
}

/// Returns true for the character device of these numbers.
fn is_device(status: &Stat, wanted_major: u32, wanted_minor: u32) -> bool {
    FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
        && (major(status.st_rdev), minor(status.st_rdev)) == (wanted_major, wanted_minor)
}

/// Makes an empty file and mounts on it.
fn mount_on_new_file(at: BorrowedFd<'_>, name: &str, mount: BorrowedFd<'_>) -> Result<(), SandboxError> {
    let failed = |e: Errno| SandboxError::mount("mount on", format!("/dev/{name}"), e);
    mount_points::make_file(at, name.as_bytes()).map_err(failed)?;
    let place = openat(at, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    attach(mount, place.as_fd()).map_err(failed)
}

/// A mount on a new directory.
struct NewDirMount {
    mount: OwnedFd,
    /// The directory below the mount.
    place: OwnedFd,
}

/// Makes a directory and mounts on it.
fn mount_on_new_dir(
    at: BorrowedFd<'_>,
    name: &str,
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<NewDirMount, SandboxError> {
    let failed = |e: Errno| SandboxError::mount("mount on", format!("/dev/{name}"), e);
    mkdirat(at, name, Mode::from_raw_mode(0o755)).map_err(failed)?;
    let place = openat(at, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    let mount = create_mount(kind, options, attributes)?;
    attach(mount.as_fd(), place.as_fd()).map_err(failed)?;
    Ok(NewDirMount { mount, place })
}

/// The options of devpts. The terminal group is set only where this user namespace maps it.
fn devpts_options() -> Vec<(&'static str, &'static str)> {
    let mut options = vec![("ptmxmode", "0666"), ("mode", "0620")];
    let map = read_kernel_text("/proc/self/gid_map");
    if crate::ids::id_map_contains(&map, TTY_GROUP) {
        options.push(("gid", "5"));
    }
    options
}
