//! Overlay mounts. Kernel documentation: `filesystems/overlayfs.rst`.

use crate::error::{SandboxError, lossy_text};
use crate::prelude::*;
use core::fmt::Write;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, fstatvfs, open};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, open_tree, unmount,
};

/// The most layers that the kernel puts into one overlay (`OVL_MAX_STACK`).
const MAX_LAYERS_PER_OVERLAY: usize = 500;
/// The most layers of a jail. If there are more than one overlay takes, the lowest are mounted as an overlay of their
/// own, which becomes the lowest layer of the other. That works for the lowest layers only: a mounted overlay does not
/// show its whiteouts, so in the middle of the stack they would hide nothing below it; and the kernel stacks two
/// (`FILESYSTEM_MAX_STACK_DEPTH`).
const MAX_LAYERS: usize = 2 * MAX_LAYERS_PER_OVERLAY - 1;

/// The description of one overlay mount.
pub(crate) struct OverlayMount<'a> {
    /// Read-only directories, topmost first.
    pub(crate) lowers: Vec<&'a [u8]>,
    /// The upper directory and the work directory; without them the mount is read-only.
    pub(crate) writable: Option<(&'a [u8], &'a [u8])>,
    /// If true, whiteout and opaque markers are `user.*` attributes (`userxattr`), as required outside the initial user
    /// namespace.
    pub(crate) userxattr: bool,
    /// If true, device files in it work: no cgroup device list restricts the jail.
    pub(crate) allow_devices: bool,
    /// Any directory, to mount on for a moment where the kernel is too old for detached mounts.
    pub(crate) anchor_dir: &'a [u8],
}

impl OverlayMount<'_> {
    /// Mounts the overlay. Returns a detached mount.
    ///
    /// # Errors
    /// Fails also when the kernel mounted it read-only, which it does silently when it cannot use the work directory.
    pub(crate) fn mount(&self) -> Result<OwnedFd, SandboxError> {
        self.mount_stack().map_err(|error| match (self.writable, &error) {
            (Some((upper, _)), SandboxError::Mount { source, .. }) if source.errno() == Errno::INVAL => {
                let Some(file_system) = unsuitable_file_system(upper) else { return error };
                let (path, file_system) = (lossy_text(upper), file_system.to_owned());
                SandboxError::StoreFileSystem { path, file_system, source: *source }
            }
            _ => error,
        })
    }

    fn mount_stack(&self) -> Result<OwnedFd, SandboxError> {
        let count = self.lowers.len();
        if count > MAX_LAYERS {
            return Err(SandboxError::TooManyLayers { count, limit: MAX_LAYERS });
        }
        if count <= MAX_LAYERS_PER_OVERLAY {
            return self.mount_single();
        }
        let (highest, lowest) = self.lowers.split_at(MAX_LAYERS_PER_OVERLAY - 1);
        let mounted = OverlayMount { lowers: lowest.to_vec(), writable: None, ..*self }.mount_single()?;
        let name = fd_path(mounted.as_fd());
        let lowers = highest.iter().copied().chain([name.as_bytes()]).collect();
        OverlayMount { lowers, ..*self }.mount_single().map_err(|error| match error.errno() {
            // The layers already lie on an overlay, as in a container: the kernel does not stack three.
            Errno::INVAL => SandboxError::TooManyLayers { count, limit: MAX_LAYERS_PER_OVERLAY },
            _ => error,
        })
    }

    fn mount_single(&self) -> Result<OwnedFd, SandboxError> {
        let root = match self.mount_with_fsconfig() {
            Ok(Some(root)) => root,
            Ok(None) => self.mount_with_option_string()?,
            // Before Linux 6.5 an unknown key is reported only here.
            Err(error) if error.errno() == Errno::INVAL => self.mount_with_option_string().map_err(|_| error)?,
            Err(error) => return Err(error),
        };
        match self.writable {
            Some((_, work)) if is_read_only(root.as_fd())? => {
                Err(SandboxError::ReadOnlyRoot { work: lossy_text(work) })
            }
            _ => Ok(root),
        }
    }

    /// The options that are not directories. Redirects are not followed: an image could point them anywhere in itself.
    fn mount_options(&self) -> Vec<(&'static str, &'static str)> {
        let mut options = vec![("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off")];
        if self.userxattr {
            options.push(("userxattr", ""));
        }
        if self.writable.is_some() {
            options.push(("volatile", ""));
        }
        options
    }

    /// Mounts with `fsconfig`, each directory by its descriptor's path: no limit of length, nothing to escape. Returns
    /// `None` if the kernel does not support it.
    fn mount_with_fsconfig(&self) -> Result<Option<OwnedFd>, SandboxError> {
        let failed = |error| SandboxError::mount("prepare an overlay in", "/", error);
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed)?;
        for (index, lower) in self.lowers.iter().enumerate() {
            match set_layer_option(context.as_fd(), "lowerdir+", lower) {
                // The key is new in Linux 6.7; overlayfs of older kernels does not know it.
                Err((_, Errno::INVAL)) if index == 0 => return Ok(None),
                other => other.map_err(|(step, error)| layer_error(step, lower, error, context.as_fd()))?,
            }
        }
        for (key, path) in self.writable.iter().flat_map(|(upper, work)| [("upperdir", upper), ("workdir", work)]) {
            set_layer_option(context.as_fd(), key, path)
                .map_err(|(step, error)| layer_error(step, path, error, context.as_fd()))?;
        }
        // The source is shown by tools as the device of the mount.
        for (key, value) in [("source", "overlay")].into_iter().chain(self.mount_options()) {
            match value {
                "" => fsconfig_set_flag(context.as_fd(), key),
                value => fsconfig_set_string(context.as_fd(), key, value),
            }
            .map_err(|error| SandboxError::mount("set an option of the overlay:", key, error))?;
        }
        let top = self.writable.map_or(self.lowers.first().copied(), |(upper, _)| Some(upper));
        let top = top.unwrap_or(self.anchor_dir);
        fsconfig_create(context.as_fd())
            .map_err(|error| layer_error("make an overlay on", top, error, context.as_fd()))?;
        let mut attributes = MountAttrFlags::empty();
        attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, !self.allow_devices);
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map(Some)
            .map_err(|error| SandboxError::mount("mount an overlay on", top, error))
    }

    /// Mounts with one option string, for kernels before 6.7. Every path is a descriptor's path, which contains no
    /// character with a meaning in options.
    fn mount_with_option_string(&self) -> Result<OwnedFd, SandboxError> {
        let mut open_layers = Vec::new();
        let mut name = |path: &[u8]| {
            let fd = open_directory(path).map_err(|error| SandboxError::mount("open the layer", path, error))?;
            let name = fd_path(fd.as_fd());
            open_layers.push(fd);
            Ok::<_, SandboxError>(name)
        };
        let lowers = self.lowers.iter().map(|lower| name(lower)).collect::<Result<Vec<_>, _>>()?;
        let mut options = format!("lowerdir={}", lowers.join(":"));
        if let Some((upper, work)) = self.writable {
            options += &format!(",upperdir={},workdir={}", name(upper)?, name(work)?);
        }
        for (key, value) in self.mount_options() {
            let equals = if value.is_empty() { "" } else { "=" };
            let _ = write!(options, ",{key}{equals}{value}");
        }
        let place = self.anchor_dir;
        let failed = |step: &'static str| move |error: Errno| SandboxError::mount(step, place, error);
        let options = alloc::ffi::CString::new(options)
            .map_err(|_| SandboxError::mount("name the layers of an overlay on", place, Errno::INVAL))?;
        let flags = if self.allow_devices { MountFlags::empty() } else { MountFlags::NODEV };
        mount("overlay", self.anchor_dir, "overlay", flags, &*options).map_err(failed("mount an overlay on"))?;
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, self.anchor_dir, clone).map_err(failed("clone the overlay of"))?;
        unmount(self.anchor_dir, UnmountFlags::DETACH).map_err(failed("clone the overlay of"))?;
        Ok(tree)
    }
}

/// Returns the file system of a directory, as words, if overlayfs refuses it for a writable layer: it must be able to hold
/// the markers of deleted files, and its names must not change unseen.
pub(crate) fn unsuitable_file_system(directory: &[u8]) -> Option<&'static str> {
    let kinds: &[(u64, &str)] = &[
        (0x794c_7630, "an overlay file system, as that of a container without a volume"),
        (0x6573_5546, "a FUSE file system"),
        (0x0000_6969, "a network file system (NFS)"),
        (0xff53_4d42, "a network file system (SMB)"),
        (0xfe53_4d42, "a network file system (SMB)"),
        (0x0102_1997, "a file system of a virtual machine's host (9p)"),
        (0x00c3_6400, "a network file system (Ceph)"),
        (0x0000_4d44, "a FAT file system"),
        (0x2011_bab0, "an exFAT file system"),
        (0x5346_544e, "an NTFS file system"),
        (0x7366_746e, "an NTFS file system"),
        (0x0000_f15f, "an eCryptfs file system"),
        (0x7c7c_6673, "a file system of a hypervisor (prl_fs)"),
        (0x786f_4256, "a file system of a hypervisor (vboxsf)"),
    ];
    let number = u64::try_from(rustix::fs::statfs(directory).ok()?.f_type).ok()?;
    kinds.iter().find(|(kind, _)| *kind == number).map(|(_, words)| *words)
}

fn open_directory(path: &[u8]) -> Result<OwnedFd, Errno> {
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn fd_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn set_layer_option(context: BorrowedFd<'_>, key: &str, path: &[u8]) -> Result<(), (&'static str, Errno)> {
    let directory = open_directory(path).map_err(|error| ("open the layer", error))?;
    fsconfig_set_string(context, key, fd_path(directory.as_fd())).map_err(|error| ("put into an overlay", error))
}

/// An error with the message of the kernel, which says more than its number.
fn layer_error(step: &str, path: &[u8], error: Errno, context: BorrowedFd<'_>) -> SandboxError {
    let mut message = [0; 512];
    let length = rustix::io::read(context, &mut message).unwrap_or(0);
    let message = lossy_text(message.get(..length).unwrap_or_default());
    // A message of the kernel begins with a letter for its severity.
    let step = match message.trim().split_once(' ') {
        Some((_, why)) => format!("{step} (the kernel says: {why})"),
        None => step.to_owned(),
    };
    SandboxError::mount(&step, path, error)
}

fn is_read_only(root: BorrowedFd<'_>) -> Result<bool, SandboxError> {
    let status = fstatvfs(root).map_err(|error| SandboxError::mount("look at the root mounted on", "/", error))?;
    Ok(status.f_flag.contains(StatVfsMountFlags::RDONLY))
}
