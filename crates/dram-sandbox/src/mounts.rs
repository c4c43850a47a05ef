//! The mounts of the jail, made in its own mount namespace before `pivot_root`. Places are named by descriptors only.

use crate::bind_sources::BindContext;
use crate::dev::{self, JailDevices};
use crate::error::{SandboxError, lossy_text};
use crate::host_path::HostPath;
use crate::jail::{Jail, JailNetwork, JailRoot};
use crate::mount_points::{self, MountPointKind, MountTarget, open_in_root};
use crate::overlay::OverlayMount;
use crate::pending_mounts::PendingMount;
use crate::prelude::*;
use crate::small_files::kernel_names;
use crate::sys;
use crate::tree_view::MergedLayersView;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, open, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree,
};
use rustix::process::{chdir, chroot, fchdir};

/// Mount attributes for file systems of the kernel: no setuid programs, no devices, no programs.
pub(crate) const INERT_ATTRIBUTES: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV).union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Masked paths, as they tell about or act on the whole machine. The list is that of Docker with those that podman has
/// beyond it.
const MASKED_PATHS: &[&str] = &[
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/sched_debug",
    "proc/scsi",
    "sys/dev/block",
    "sys/devices/virtual/powercap",
    "sys/firmware",
    "sys/fs/selinux",
];

/// The directory of the processors. Docker masks `thermal_throttle` in each of them.
const PROCESSORS: &str = "/sys/devices/system/cpu";

/// Read-only paths. The list is that of Docker.
const READ_ONLY_PATHS: &[&str] = &["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

/// The root of a jail with all its mounts, and what later steps need of it.
pub(crate) struct MountedRoot {
    /// The root directory.
    pub(crate) root: OwnedFd,
    /// The root of the mount namespace, if the root directory of this process was another one: see [`separate_mounts`].
    pub(crate) namespace_root: Option<OwnedFd>,
    /// The two ends of the pseudo-terminal, if there is one.
    pub(crate) terminal: Option<dev::PseudoTerminal>,
}

/// Makes all mounts. `initial` is true in the initial user namespace.
pub(crate) fn mount_all(jail: &Jail, initial: bool) -> Result<MountedRoot, SandboxError> {
    let namespace_root =
        separate_mounts().map_err(|e| SandboxError::mount("separate the jail's mounts from", "/", e))?;
    if jail.insecure && !initial {
        return Err(SandboxError::Insecure);
    }
    let JailRoot::Overlay { mount_points_dir, .. } = &jail.root;
    let around =
        BindContext { anchor_dir: mount_points_dir.as_bytes(), initial_userns: initial, allow_devices: jail.insecure };
    let pending = jail.mounts.iter().enumerate().map(|(number, mount)| PendingMount::new(mount, number, &around));
    let mut pending = pending.collect::<Result<Vec<_>, _>>()?;
    let root = mount_root(jail, &mut pending, initial)?;
    mount_proc(root.as_fd(), jail.insecure)?;
    mount_sys(root.as_fd(), jail, initial)?;
    // As in BuildKit, a requested mount on `/dev/shm` replaces the default one.
    let own_shm = pending.iter().any(|mount| mount.is_directory_at(b"/dev/shm"));
    let shm_size = (!own_shm).then_some(jail.shm_size);
    let devices = JailDevices::mount_dev(root.as_fd(), shm_size, jail.insecure, initial)?;
    devices.replace_null_streams()?;
    let open = |size| devices.open_terminal(root.as_fd(), jail.user.uid, size);
    let terminal = jail.terminal.map(open).transpose()?;
    for mount in &pending {
        mount.mount(root.as_fd(), &devices, !jail.insecure)?;
    }
    if !jail.insecure {
        mask_and_protect_paths(root.as_fd(), &devices)?;
    }
    Ok(MountedRoot { root, namespace_root, terminal })
}

/// Separates the mounts of this mount namespace from those that they were copied from.
///
/// Returns the root of the namespace if the root directory of this process is another one that is no mount point, as
/// after `chroot(2)` into a directory. Propagation is a property of mounts, so it is then changed from there;
/// `pivot_root(2)` too needs a root directory that is a mount point.
pub(crate) fn separate_mounts() -> Result<Option<OwnedFd>, Errno> {
    /// A path has at most half as many directories as bytes.
    const MOST_DIRECTORIES: usize = 2048;
    let propagation = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    match mount_change("/", propagation) {
        Err(Errno::INVAL) => {}
        done => return done.map(|()| None),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let own_root = open("/", flags, Mode::empty())?;
    // The working directory is now above the root directory, which does not end `..` any more.
    chroot("/proc")?;
    fchdir(&own_root)?;
    (0..MOST_DIRECTORIES).try_for_each(|_| chdir(".."))?;
    chroot(".")?;
    let namespace_root = open("/", flags, Mode::empty())?;
    let changed = mount_change("/", propagation);
    fchdir(&own_root)?;
    chroot(".")?;
    changed.map(|()| Some(namespace_root))
}

/// Mounts the overlay, with mount points for everything, on the directory of the mount points.
fn mount_root(jail: &Jail, pending: &mut [PendingMount<'_>], initial: bool) -> Result<OwnedFd, SandboxError> {
    let JailRoot::Overlay { lowers, upper, work, mount_points_dir } = &jail.root;
    let mount_points_dir = mount_points_dir.as_bytes();
    let failed = |step| move |(path, e): (&[u8], Errno)| SandboxError::mount(step, path, e);
    let all = [upper].into_iter().chain(lowers).map(HostPath::as_bytes);
    let view = MergedLayersView::open(all, !initial).map_err(failed("open the layer"))?;
    create_missing_mount_points(&view, mount_points_dir, pending)?;
    drop(view);
    let mut below: Vec<&[u8]> = lowers.iter().map(HostPath::as_bytes).collect();
    if !mount_points::is_empty_dir(mount_points_dir)
        .map_err(|e| failed("read the directory of mount points")((mount_points_dir, e)))?
    {
        below.insert(0, mount_points_dir);
    }
    let writable = Some((upper.as_bytes(), work.as_bytes()));
    let overlay = OverlayMount {
        lowers: below,
        writable,
        userxattr: !initial,
        allow_devices: jail.insecure,
        anchor_dir: mount_points_dir,
    };
    let root = overlay.mount()?;
    let place = open(mount_points_dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| SandboxError::mount("open", mount_points_dir, e))?;
    attach(root.as_fd(), place.as_fd()).map_err(|e| SandboxError::mount("mount the root on", mount_points_dir, e))?;
    Ok(root)
}

fn create_missing_mount_points(
    view: &MergedLayersView,
    mount_points_dir: &[u8],
    pending: &mut [PendingMount<'_>],
) -> Result<(), SandboxError> {
    let mut covered = Vec::new();
    for path in [b"/proc".as_slice(), b"/dev", b"/sys"] {
        let target = MountTarget { path, kind: MountPointKind::Directory, refuse_links: true };
        let place = mount_points::resolve_target(view, &target, &covered)?;
        if place.is_missing() {
            mount_points::create_mount_point(view, mount_points_dir, &place, target.kind)?;
        }
        covered.push(place.components().to_vec());
    }
    pending.iter_mut().try_for_each(|mount| mount.prepare_mount_point(view, mount_points_dir, &mut covered))
}

/// Attaches the detached `mount` to the place that `target` refers to.
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let by_descriptor = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", by_descriptor)
}

/// Attaches `mount` to a path inside the root.
pub(crate) fn attach_at(root: BorrowedFd<'_>, path: &[u8], mount: BorrowedFd<'_>) -> Result<(), SandboxError> {
    open_in_root(root, path, OFlags::PATH)
        .and_then(|target| attach(mount, target.as_fd()))
        .map_err(|e| SandboxError::mount("mount on", path_in_root(path), e))
}

/// Creates a new file system of the kernel, as a detached mount.
pub(crate) fn create_mount(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, SandboxError> {
    let failed = |e: Errno| SandboxError::mount("make a file system of type", kind, e);
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed)?;
    // The source is shown by tools as the device of the mount.
    for (key, value) in [("source", kind)].iter().chain(options) {
        fsconfig_set_string(context.as_fd(), *key, *value).map_err(failed)?;
    }
    fsconfig_create(context.as_fd()).map_err(failed)?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(failed)
}

/// Mounts a new file system of the kernel on a path inside the root.
pub(crate) fn create_mount_at(
    root: BorrowedFd<'_>,
    path: &str,
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<(), SandboxError> {
    attach_at(root, path.as_bytes(), create_mount(kind, options, attributes)?.as_fd())
}

/// Clones the mount at `path`, as a detached mount.
pub(crate) fn clone_tree(at: BorrowedFd<'_>, path: &[u8], recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_EMPTY_PATH, path.is_empty());
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(at, path, flags)
}

/// Mounts procfs. Its files that are not of processes have one mode and one owner for the whole machine, and root of the
/// machine could change them. So each of them is a read-only mount of its own there.
fn mount_proc(root: BorrowedFd<'_>, insecure: bool) -> Result<(), SandboxError> {
    let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
    let proc = create_mount("proc", &[], INERT_ATTRIBUTES | read_only)?;
    attach_at(root, b"proc", proc.as_fd())?;
    let failed = |step, name: &str| {
        let path = path_in_root(format!("proc/{name}").as_bytes());
        move |e: Errno| SandboxError::mount(step, path, e)
    };
    // Root of the machine is another id if it has none in the user namespace.
    let owner = fstat(&proc).map_err(failed("look at", ""))?.st_uid;
    if !insecure && owner == 0 {
        for name in machine_files(proc.as_fd()).map_err(failed("read", ""))? {
            // The clone is read-only as well.
            let file = clone_tree(proc.as_fd(), name.as_bytes(), false).map_err(failed("make read-only", &name))?;
            attach_at(root, format!("proc/{name}").as_bytes(), file.as_fd())?;
        }
    }
    sys::clear_mount_attributes(proc.as_fd(), u64::from(read_only.bits())).map_err(failed("make writable", ""))
}

/// The names of the files and directories of procfs that do not belong to processes and are not protected otherwise.
fn machine_files(proc: BorrowedFd<'_>) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    let directory = openat(proc, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for entry in rustix::fs::Dir::new(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        let of_process = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let is_listed = |path: &&str| path.strip_prefix("proc/") == Some(name);
        let protected = MASKED_PATHS.iter().chain(READ_ONLY_PATHS).any(is_listed);
        if !of_process && !protected && entry.file_type() != FileType::Symlink {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Mounts sysfs. It shows the network namespace of the process that mounts it, and only the owner of that namespace may
/// mount it; otherwise `/sys` of the host is cloned read-only.
fn mount_sys(root: BorrowedFd<'_>, jail: &Jail, initial: bool) -> Result<(), SandboxError> {
    if jail.insecure {
        create_mount_at(root, "sys", "sysfs", &[], INERT_ATTRIBUTES)?;
        // Machines with cgroups of version 1 do not let a jail mount version 2.
        let _ = create_mount_at(root, "sys/fs/cgroup", "cgroup2", &[], INERT_ATTRIBUTES);
        return Ok(());
    }
    let read_only = INERT_ATTRIBUTES | MountAttrFlags::MOUNT_ATTR_RDONLY;
    if initial || jail.network == JailNetwork::None {
        return create_mount_at(root, "sys", "sysfs", &[], read_only);
    }
    let failed = |e: Errno| SandboxError::mount("show the host's directory", "/sys", e);
    let tree = clone_tree(CWD, b"/sys", true).map_err(failed)?;
    sys::mount_setattr(tree.as_fd(), true, u64::from(read_only.bits()), libc::MS_PRIVATE).map_err(failed)?;
    attach_at(root, b"sys", tree.as_fd())
}

/// Masks [`MASKED_PATHS`] and makes [`READ_ONLY_PATHS`] read-only.
fn mask_and_protect_paths(root: BorrowedFd<'_>, devices: &JailDevices) -> Result<(), SandboxError> {
    // One empty directory is shown in all places: each file system of its own would cost time.
    let mut empty: Option<OwnedFd> = None;
    let common = MASKED_PATHS.iter().map(|path| (*path).to_owned());
    for path in common.chain(thermal_throttle_paths()) {
        let Some(found) = open_if_exists(root, &path)? else { continue };
        let failed = |e: Errno| SandboxError::mount("hide", path_in_root(path.as_bytes()), e);
        let status = fstat(&found).map_err(failed)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
            attach(devices.clone_null()?.as_fd(), found.as_fd()).map_err(failed)?;
            continue;
        }
        let cover = match &empty {
            Some(mounted) => clone_tree(mounted.as_fd(), b"", false).map_err(failed)?,
            None => {
                let options = [("size", "4k"), ("mode", "0555")];
                create_mount("tmpfs", &options, INERT_ATTRIBUTES | MountAttrFlags::MOUNT_ATTR_RDONLY)?
            }
        };
        attach(cover.as_fd(), found.as_fd()).map_err(failed)?;
        empty = empty.or(Some(cover));
    }
    let read_only = u64::from((INERT_ATTRIBUTES | MountAttrFlags::MOUNT_ATTR_RDONLY).bits());
    for path in READ_ONLY_PATHS {
        let Some(found) = open_if_exists(root, path)? else { continue };
        let failed = |e: Errno| SandboxError::mount("make read-only", path_in_root(path.as_bytes()), e);
        let copy = clone_tree(found.as_fd(), b"", true).map_err(failed)?;
        sys::mount_setattr(copy.as_fd(), true, read_only, 0).map_err(failed)?;
        attach(copy.as_fd(), found.as_fd()).map_err(failed)?;
    }
    Ok(())
}

/// The paths of the directories `thermal_throttle`, relative to the root. Either all processors have one or none has.
fn thermal_throttle_paths() -> Vec<String> {
    let path = |processor: &str| format!("{PROCESSORS}/{processor}/thermal_throttle");
    if rustix::fs::access(path("cpu0"), rustix::fs::Access::EXISTS).is_err() {
        return Vec::new();
    }
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let processors =
        kernel_names(PROCESSORS).into_iter().filter(|name| name.strip_prefix("cpu").is_some_and(is_number));
    processors.map(|name| path(&name).trim_start_matches('/').to_owned()).collect()
}

/// Opens a path that may not exist: kernels differ in what they have below `/proc` and `/sys`.
fn open_if_exists(root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>, SandboxError> {
    match open_in_root(root, path.as_bytes(), OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(e) => Err(SandboxError::mount("look at", path_in_root(path.as_bytes()), e)),
    }
}

/// A path relative to the root as the command sees it, for a message.
fn path_in_root(path: &[u8]) -> String {
    format!("/{}", lossy_text(path.strip_prefix(b"/").unwrap_or(path)))
}
