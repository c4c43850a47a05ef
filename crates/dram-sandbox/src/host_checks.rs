//! Checks of what this kernel allows this user: the table that `dram doctor` prints.

use crate::error::SandboxError;
use crate::mounts::separate_mounts;
use crate::overlay::{OverlayMount, unsuitable_file_system};
use crate::sys::{self, CloneResult};
use crate::userns::{IdSource, is_root_with_sys_admin};
use rustix::fs::{
    AtFlags, CWD, FileType, MemfdFlags, Mode, OFlags, ResolveFlags, memfd_create, mkdirat, openat2, stat, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsmount, fsopen, mount, move_mount, open_tree, unmount,
};
use rustix::process::{
    PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, chdir, getegid, geteuid, getpid, pidfd_open, pivot_root, waitid,
};
use rustix::thread::UnshareFlags;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::thread;

/// The name of the check of the kernel.
const KERNEL: &str = "kernel";
/// The name of the check of files of the host.
const FILES: &str = "files of the host";
const FILTER_HELP: &str = "if this is a container, start it with a system call filter that allows them, such as \
                           `--security-opt seccomp=unconfined`";
const NULL_DEVICE_HELP: &str = "mknod -m 666 /dev/null c 1 3";
/// The help where no process or thread can be started.
pub const PROCESS_LIMIT_HELP: &str =
    "raise the limit of processes: `ulimit -u`, or that of the container (`pids.max`, `--pids-limit`)";
/// The help for a full disk.
pub(crate) const STORAGE_HELP: &str =
    "free space on the disk, or inodes (`df -i`): `dram prune` removes what nothing needs";
/// The help for a store in an unsuitable place.
pub(crate) const STORE_FILE_SYSTEM_HELP: &str = "put the store on a disk, with --store or DRAM_STORE; in a container on a volume (`docker run -v NAME:/var/lib/dram`, \
     `/cache` or `/builds` of a GitLab runner, an `emptyDir` of Kubernetes)";

/// The result of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostCheckStatus {
    /// It works.
    Ok,
    /// It works with limitations.
    Degraded,
    /// It does not work, and commands cannot be run.
    Missing,
}

/// One check of the host: a row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCheck {
    /// The feature that is checked.
    pub name: &'static str,
    /// The result.
    pub status: HostCheckStatus,
    /// The cause, or the limits of the feature, as a sentence.
    pub detail: String,
    /// How to fix it, if there is anything to fix.
    pub help: Option<String>,
}

/// The result of all checks.
#[derive(Debug, Clone)]
pub struct HostChecks {
    checks: Vec<HostCheck>,
    command_support: CommandSupport,
}

/// The ids with which commands can run on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandSupport {
    /// As root of the machine, or of the container.
    AsRoot,
    /// As root of a user namespace with this many ids.
    UserNamespace(u64),
    /// As root of a user namespace with a single id, which stands for all others.
    SingleId,
    /// Commands cannot be run.
    Unsupported,
}

/// The error of a host that cannot run commands.
#[derive(Debug, Clone, thiserror::Error)]
#[error("this machine cannot run isolated commands: {}", describe_checks(.failed_checks))]
pub struct MissingHostSupport {
    /// The failed checks.
    pub failed_checks: Vec<HostCheck>,
}

fn describe_checks(rows: &[HostCheck]) -> String {
    rows.iter().map(|row| format!("{}: {}", row.name, row.detail)).collect::<Vec<_>>().join("; ")
}

impl HostChecks {
    /// Runs all checks in processes of their own; nothing of it lasts. `store` is the directory of the store, which need
    /// not exist. Takes some milliseconds.
    pub fn probe(store: Option<&Path>) -> HostChecks {
        let mut checks = vec![HostCheck::check_kernel(), HostCheck::check_host_files(), HostCheck::check_processes()];
        // Without `/proc` nothing says what the kernel has.
        if HostCheck::check_proc().is_none() {
            checks.push(HostCheck::check_seccomp());
        }
        let mut command_support = CommandSupport::AsRoot;
        if !is_root_with_sys_admin() {
            let namespaces = HostCheck::check_user_namespaces();
            let (ids, count) = HostCheck::check_subordinate_ids();
            command_support = if count == 1 { CommandSupport::SingleId } else { CommandSupport::UserNamespace(count) };
            checks.extend([namespaces, ids]);
        }
        // Each of the others could only fail for the same reason.
        let works = |checks: &[HostCheck]| checks.iter().all(|row| row.status != HostCheckStatus::Missing);
        if works(&checks) {
            checks.push(HostCheck::check_namespaces());
        }
        if works(&checks) {
            checks.push(HostCheck::check_mount_calls());
        }
        if works(&checks) {
            checks.extend([
                HostCheck::check_overlayfs(store),
                HostCheck::check_procfs(),
                HostCheck::check_network_namespaces(),
            ]);
        }
        if !works(&checks) {
            command_support = CommandSupport::Unsupported;
        }
        HostChecks { checks, command_support }
    }

    /// The ids with which commands can run.
    pub fn command_support(&self) -> &CommandSupport {
        &self.command_support
    }

    /// Checks the machine as far as that takes no time, for a process that has the privileges to run commands. Returns the
    /// failed check, if one failed.
    ///
    /// A container may hide parts of `/proc`, and the kernel then allows no new procfs mount in a user namespace; its
    /// filter may refuse system calls.
    pub fn check_entered_namespace() -> Option<MissingHostSupport> {
        HostCheck::check_host_files().into_missing_support().or_else(|| {
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            let is_partly_hidden =
                mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|at| at.starts_with("/proc/")));
            let calls = || has_seccomp_filter().then(HostCheck::check_mount_calls)?.into_missing_support();
            let processes = has_seccomp_filter().then(HostCheck::check_processes);
            processes.and_then(HostCheck::into_missing_support).or_else(calls).or_else(|| {
                let asks = is_partly_hidden && !crate::ids::in_initial_namespace();
                asks.then(HostCheck::check_procfs).and_then(HostCheck::into_missing_support)
            })
        })
    }

    /// Checks what every use of a store needs: `/proc`, and the system call that opens paths safely.
    pub fn check_file_access() -> Option<MissingHostSupport> {
        HostCheck::check_proc().or_else(HostCheck::check_safe_lookup).and_then(HostCheck::into_missing_support)
    }

    /// Returns the name of the failed check that keeps even steps without commands from working, if there is one.
    pub fn missing_file_access(&self) -> Option<&'static str> {
        let failed = self.checks.iter().find(|row| row.name == KERNEL && row.status == HostCheckStatus::Missing);
        failed.map(|row| row.name).or_else(|| HostCheck::check_proc().map(|row| row.name))
    }

    /// All checks.
    pub fn checks(&self) -> &[HostCheck] {
        &self.checks
    }

    /// The failed checks that keep commands from running, if there are any.
    pub fn missing_support(&self) -> Option<MissingHostSupport> {
        let rows: Vec<HostCheck> =
            self.checks.iter().filter(|row| row.status == HostCheckStatus::Missing).cloned().collect();
        if rows.is_empty() { None } else { Some(MissingHostSupport { failed_checks: rows }) }
    }
}

impl HostCheck {
    /// The error of this check, if it failed.
    pub(crate) fn into_missing_support(self) -> Option<MissingHostSupport> {
        (self.status == HostCheckStatus::Missing).then(|| MissingHostSupport { failed_checks: vec![self] })
    }

    fn new(name: &'static str, status: HostCheckStatus, found: impl Into<String>, help: Option<&str>) -> HostCheck {
        HostCheck { name, status, detail: found.into(), help: help.map(str::to_owned) }
    }

    /// The newest system call that is required is `mount_setattr`, of Linux 5.12.
    fn check_kernel() -> HostCheck {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy().into_owned();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0u32), numbers.next().unwrap_or(0u32));
        if version < (5, 12) {
            return HostCheck::new(
                KERNEL,
                HostCheckStatus::Missing,
                format!("Linux {release}"),
                Some("use Linux 5.12 or newer"),
            );
        }
        HostCheck::check_safe_lookup()
            .unwrap_or_else(|| HostCheck::new(KERNEL, HostCheckStatus::Ok, format!("Linux {release}"), None))
    }

    /// The failed check if paths cannot be opened with `openat2`.
    fn check_safe_lookup() -> Option<HostCheck> {
        let error = openat2(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT).err()?;
        let found = format!("the system call openat2 fails: {error}");
        Some(HostCheck::new(KERNEL, HostCheckStatus::Missing, found, Some(FILTER_HELP)))
    }

    /// The failed check if `/proc` is not mounted.
    fn check_proc() -> Option<HostCheck> {
        let help = "mount -t proc proc /proc";
        let missing = || HostCheck::new(FILES, HostCheckStatus::Missing, "`/proc` is not mounted", Some(help));
        (!Path::new("/proc/self/fd").is_dir()).then(missing)
    }

    /// Checks the files of the host that commands need beside the store: `/proc` and the null device.
    fn check_host_files() -> HostCheck {
        if let Some(missing) = HostCheck::check_proc() {
            return missing;
        }
        let is_device = |status: &rustix::fs::Stat| {
            FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
                && (rustix::fs::major(status.st_rdev), rustix::fs::minor(status.st_rdev)) == (1, 3)
        };
        let null = stat("/dev/null").and_then(|status| {
            if !is_device(&status) {
                return Err(Errno::NODEV);
            }
            rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map(drop)
        });
        let (found, help) = match null {
            Ok(()) => return HostCheck::new(FILES, HostCheckStatus::Ok, "`/proc` and `/dev/null`", None),
            Err(Errno::NOENT | Errno::NOTDIR) => ("`/dev/null` is missing".to_owned(), NULL_DEVICE_HELP),
            Err(Errno::NODEV) => ("`/dev/null` is not the null device".to_owned(), NULL_DEVICE_HELP),
            Err(error) => (format!("`/dev/null` cannot be opened: {error}"), NULL_DEVICE_HELP),
        };
        HostCheck::new(FILES, HostCheckStatus::Missing, found, Some(help))
    }

    /// Starts a process and a thread.
    fn check_processes() -> HostCheck {
        const NAME: &str = "processes and threads";
        let process = run_in_child(|| Ok(()));
        let started = thread::Builder::new().spawn(|| ());
        let joined = started.map(|thread| drop(thread.join()));
        let thread = joined.err().map(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN));
        let (kind, errno) = match (process, thread) {
            (None, None) => return HostCheck::new(NAME, HostCheckStatus::Ok, "can be started", None),
            (Some(errno), _) => ("process", errno),
            (None, Some(errno)) => ("thread", errno),
        };
        let help = process_limit_help(errno).unwrap_or(FILTER_HELP);
        let found = format!("no more {kind} can be started: {errno}");
        HostCheck::new(NAME, HostCheckStatus::Missing, found, Some(help))
    }

    fn check_seccomp() -> HostCheck {
        match fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
            Ok(actions) if actions.contains("errno") => {
                HostCheck::new("system call filter", HostCheckStatus::Ok, "seccomp with filters", None)
            }
            _ => HostCheck::new(
                "system call filter",
                HostCheckStatus::Missing,
                "the kernel has no seccomp filters",
                Some("use a kernel with CONFIG_SECCOMP_FILTER"),
            ),
        }
    }

    /// Creates a user namespace; if that fails, looks for the setting that forbids it.
    pub(crate) fn check_user_namespaces() -> HostCheck {
        const NAME: &str = "user namespaces";
        let Some(errno) = run_in_child(enter_user_namespace_with_single_id) else {
            return HostCheck::new(NAME, HostCheckStatus::Ok, "can be made", None);
        };
        let (found, help) = match () {
            () if read_sysctl("kernel/unprivileged_userns_clone") == Some(0) => (
                "forbidden by kernel.unprivileged_userns_clone = 0".to_owned(),
                "sysctl -w kernel.unprivileged_userns_clone=1",
            ),
            () if read_sysctl("user/max_user_namespaces") == Some(0) => {
                ("forbidden by user.max_user_namespaces = 0".to_owned(), "sysctl -w user.max_user_namespaces=15000")
            }
            () if errno == Errno::NOSPC => (
                "there are as many as user.max_user_namespaces allows, or they are nested too deep".to_owned(),
                "raise user.max_user_namespaces",
            ),
            () if apparmor_restricts_user_namespaces() => (
                format!("useless ({errno}), as kernel.apparmor_restrict_unprivileged_userns = 1"),
                "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give dram an AppArmor profile with `userns`",
            ),
            () if errno == Errno::AGAIN => {
                (format!("no process can be started to make one: {errno}"), PROCESS_LIMIT_HELP)
            }
            () if is_in_chroot() => (
                format!("the kernel makes none in a root directory that was entered with `chroot`: {errno}"),
                "enter the directory with `pivot_root`, as `systemd-nspawn` and `bwrap` do, or run dram as root",
            ),
            () if has_seccomp_filter() => (
                format!("the system call filter of this container forbids unshare(CLONE_NEWUSER): {errno}"),
                "start the container with a filter that allows `unshare` and `mount`, such as \
                 `--security-opt seccomp=unconfined`, or build without RUN",
            ),
            () => (
                format!("the kernel refuses unshare(CLONE_NEWUSER): {errno}"),
                "run dram as root of the machine, or build without RUN",
            ),
        };
        HostCheck::new(NAME, HostCheckStatus::Missing, found, Some(help))
    }

    /// Looks for subordinate ids. Returns the check and the number of user ids.
    fn check_subordinate_ids() -> (HostCheck, u64) {
        const NAME: &str = "ids for other users";
        let uid = geteuid().as_raw();
        let source = IdSource::find(uid);
        match &source {
            Ok(source) => {
                let count = source.count();
                let from = if uid == 0 { "this root's own" } else { "with the subordinate ids of /etc/subuid" };
                (HostCheck::new(NAME, HostCheckStatus::Ok, format!("{count} user ids, {from}"), None), count)
            }
            Err(why) => {
                let first = crate::userns::free_subordinate_ids();
                let help = format!(
                    "install the package `uidmap` (or `shadow-utils`), and add the line `{uid}:{first}:65536` to \
                     /etc/subuid and to /etc/subgid"
                );
                let found = format!("only a single id: {why}");
                (HostCheck { name: NAME, status: HostCheckStatus::Degraded, detail: found, help: Some(help) }, 1)
            }
        }
    }

    /// Makes each kind of namespace that a jail has.
    fn check_namespaces() -> HostCheck {
        const NAME: &str = "namespaces";
        let kinds = [
            (UnshareFlags::NEWNS, "mnt"),
            (UnshareFlags::NEWPID, "pid"),
            (UnshareFlags::NEWIPC, "ipc"),
            (UnshareFlags::NEWUTS, "uts"),
        ];
        for (kind, name) in kinds {
            let attempted = run_in_child(|| {
                if !is_root_with_sys_admin() {
                    enter_user_namespace_with_single_id()?;
                }
                sys::unshare(kind)
            });
            let Some(errno) = attempted else { continue };
            let (found, help) = match errno {
                Errno::NOSPC => (
                    format!("user.max_{name}_namespaces allows no more"),
                    format!("sysctl -w user.max_{name}_namespaces=15000"),
                ),
                errno => (format!("the kernel refuses one of the kind `{name}`: {errno}"), FILTER_HELP.to_owned()),
            };
            let status = HostCheckStatus::Missing;
            return HostCheck { name: NAME, status, detail: found, help: Some(help) };
        }
        HostCheck::new(NAME, HostCheckStatus::Ok, "can be made", None)
    }

    /// Makes the system calls of a jail for mounts and processes, in a mount namespace that ends with the check.
    fn check_mount_calls() -> HostCheck {
        const NAME: &str = "system calls";
        let (errno, refused) = match ask_child(refused_calls) {
            Ok(()) => return HostCheck::new(NAME, HostCheckStatus::Ok, "all that commands need", None),
            Err(refused) => refused,
        };
        let found = if refused.is_empty() { errno.to_string() } else { format!("refused: {refused}") };
        HostCheck::new(NAME, HostCheckStatus::Missing, found, Some(FILTER_HELP))
    }

    /// Mounts an overlay in the place of the store, in a mount namespace that ends with the check, and changes a file in
    /// it.
    fn check_overlayfs(store: Option<&Path>) -> HostCheck {
        const NAME: &str = "overlay file system";
        let Some(store) = store else {
            let help = Some("give --store or set DRAM_STORE");
            return HostCheck::new(
                NAME,
                HostCheckStatus::Degraded,
                "not tried: it is not known where the store is",
                help,
            );
        };
        let shown = store.display();
        let place = match TrialDirectory::beside(store) {
            Ok(place) => place,
            Err((at, error)) => {
                let found = format!("the store `{shown}` cannot be written to: {}: {error}", at.display());
                let help = Some("name another store with --store or DRAM_STORE");
                return HostCheck::new(NAME, HostCheckStatus::Missing, found, help);
            }
        };
        let unsuitable = unsuitable_file_system(place.path.as_os_str().as_bytes());
        let attempted = ask_child(|| {
            let refused = |errno: Errno| (errno, String::new());
            enter_mount_namespace().map_err(refused)?;
            let tried = mount_trial_overlay(&place.path);
            // As root of the namespace, which is permitted to remove what the kernel has left.
            let _ = fs::remove_dir_all(&place.path);
            tried
        });
        if let Some(kind) = unsuitable.filter(|_| attempted.is_err()) {
            let found = format!("the store `{shown}` is on {kind}, on which no overlay can be written to");
            return HostCheck::new(NAME, HostCheckStatus::Missing, found, Some(STORE_FILE_SYSTEM_HELP));
        }
        if attempted.as_ref().is_err_and(|(errno, _)| *errno == Errno::NOSPC) {
            let found = format!("no space or no inodes are left in the store `{shown}`");
            return HostCheck::new(NAME, HostCheckStatus::Missing, found, Some(STORAGE_HELP));
        }
        let said = attempted.as_ref().err().map_or("", |(_, said)| said.as_str());
        let said = if said.is_empty() { String::new() } else { format!("{said}: ") };
        match attempted.as_ref().err().map(|(errno, _)| *errno) {
            None => HostCheck::new(NAME, HostCheckStatus::Ok, format!("can be mounted in `{shown}`"), None),
            Some(Errno::NODEV) => {
                HostCheck::new(NAME, HostCheckStatus::Missing, "the kernel does not have it", Some("modprobe overlay"))
            }
            Some(errno) if apparmor_restricts_user_namespaces() => HostCheck::new(
                NAME,
                HostCheckStatus::Missing,
                format!("refused ({errno}), as kernel.apparmor_restrict_unprivileged_userns = 1"),
                Some(
                    "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give dram an AppArmor profile with `userns`",
                ),
            ),
            Some(errno) if has_seccomp_filter() => HostCheck::new(
                NAME,
                HostCheckStatus::Missing,
                format!("the system call filter of this container forbids to mount: {errno}"),
                Some(
                    "start the container with a filter that allows `mount`, such as `--security-opt seccomp=unconfined`",
                ),
            ),
            Some(errno) => HostCheck::new(
                NAME,
                HostCheckStatus::Missing,
                format!("cannot be mounted in `{shown}`: {said}{errno}"),
                Some(
                    "root needs CAP_SYS_ADMIN; others need Linux 5.11 or newer; or name a store on another file system with --store",
                ),
            ),
        }
    }

    /// Mounts a new procfs. The kernel refuses it where parts of the existing one are hidden, as a container engine
    /// does.
    fn check_procfs() -> HostCheck {
        const NAME: &str = "proc file system";
        let attempted = run_in_child(|| {
            enter_mount_namespace()?;
            sys::unshare(UnshareFlags::NEWPID)?;
            // procfs belongs to the PID namespace of the process that mounts it, so a child mounts it.
            run_in_child(mount_test_procfs).map_or(Ok(()), Err)
        });
        match attempted {
            None => HostCheck::new(NAME, HostCheckStatus::Ok, "can be mounted", None),
            Some(errno @ Errno::AGAIN) => {
                let found = format!("not tried: no process can be started: {errno}");
                HostCheck::new(NAME, HostCheckStatus::Missing, found, Some(PROCESS_LIMIT_HELP))
            }
            Some(errno) => HostCheck::new(
                NAME,
                HostCheckStatus::Missing,
                format!("cannot be mounted: {errno}; parts of /proc are hidden here, as in a container"),
                Some(
                    "start the container with `--security-opt systempaths=unconfined` (Kubernetes: `procMount: Unmasked`)",
                ),
            ),
        }
    }

    fn check_network_namespaces() -> HostCheck {
        const NAME: &str = "network namespaces";
        match run_in_child(|| enter_mount_namespace().and_then(|()| sys::unshare(UnshareFlags::NEWNET))) {
            None => HostCheck::new(NAME, HostCheckStatus::Ok, "can be made", None),
            Some(errno) => HostCheck::new(
                NAME,
                HostCheckStatus::Degraded,
                format!("the kernel refuses: {errno}; commands cannot be cut off from the network"),
                Some("raise user.max_net_namespaces"),
            ),
        }
    }
}

/// Enters a new mount namespace, through a user namespace if this process may not create one directly.
fn enter_mount_namespace() -> Result<(), Errno> {
    if !is_root_with_sys_admin() {
        enter_user_namespace_with_single_id()?;
    }
    sys::unshare(UnshareFlags::NEWNS)?;
    separate_mounts().map(drop)
}

/// Enters a user namespace with a single id, and checks that it grants capabilities.
fn enter_user_namespace_with_single_id() -> Result<(), Errno> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    sys::unshare(UnshareFlags::NEWUSER)?;
    let write =
        |file: &str, text: String| fs::write(file, text).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO));
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    // With a mask of capabilities the namespace would be useless, as AppArmor leaves it.
    match sys::unshare(UnshareFlags::NEWUTS) {
        // The check of namespaces names this limit.
        Err(Errno::NOSPC) => Ok(()),
        entered => entered,
    }
}

fn mount_test_procfs() -> Result<(), Errno> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map(drop)
}

/// Returns true if this process runs under a seccomp filter.
fn has_seccomp_filter() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

fn apparmor_restricts_user_namespaces() -> bool {
    read_sysctl("kernel/apparmor_restrict_unprivileged_userns") == Some(1)
}

/// Returns true if the root directory is no mount point, as after `chroot` into a directory.
fn is_in_chroot() -> bool {
    use rustix::fs::{StatxAttributes, StatxFlags, statx};
    let root = statx(CWD, "/", AtFlags::empty(), StatxFlags::TYPE);
    root.is_ok_and(|root| !root.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// A new directory in the place of the store, for a trial. It is removed when it is dropped.
struct TrialDirectory {
    path: std::path::PathBuf,
}

impl TrialDirectory {
    /// Makes it in the directory `work` of the store, or else in the nearest directory above that exists.
    fn beside(store: &Path) -> Result<TrialDirectory, (std::path::PathBuf, io::Error)> {
        let work = store.join("work");
        let above = work.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
        let path = above.join(format!(".dram-doctor-{}", getpid()));
        fs::create_dir(&path).map_err(|error| (above.to_owned(), error))?;
        Ok(TrialDirectory { path })
    }
}

impl Drop for TrialDirectory {
    fn drop(&mut self) {
        // The trial has removed it already if it got that far.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Mounts an overlay of directories in `place`, and replaces a directory of its lower layer, which leaves a marker.
fn mount_trial_overlay(place: &Path) -> Result<(), (Errno, String)> {
    let of_io = |error: io::Error| (Errno::from_io_error(&error).unwrap_or(Errno::IO), String::new());
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| place.join(name));
    for directory in [&lower, &upper, &work, &lower.join("d")] {
        fs::create_dir(directory).map_err(of_io)?;
    }
    let overlay = OverlayMount {
        lowers: vec![lower.as_os_str().as_bytes()],
        writable: Some((upper.as_os_str().as_bytes(), work.as_os_str().as_bytes())),
        userxattr: !crate::ids::in_initial_namespace(),
        allow_devices: false,
        anchor_dir: lower.as_os_str().as_bytes(),
    };
    let root: OwnedFd = overlay.mount().map_err(|error: SandboxError| (error.errno(), error.to_string()))?;
    unlinkat(&root, "d", AtFlags::REMOVEDIR)
        .and_then(|()| mkdirat(&root, "d", Mode::RWXU))
        .map_err(|errno| (errno, "a directory cannot be replaced in it".to_owned()))
}

/// Makes each system call that a jail needs, with arguments that change nothing. Returns those that are refused, as text.
///
/// A filter refuses with `EPERM` or `ENOSYS`, an old kernel with `ENOSYS`. Any other error is the answer of the call
/// itself.
fn refused_calls() -> Result<(), (Errno, String)> {
    let mut refused = Vec::new();
    let mut first = None;
    let mut note = |name: &str, answer: Result<(), Errno>| {
        if let Err(errno @ (Errno::PERM | Errno::NOSYS)) = answer {
            let text = format!("{name} ({errno})");
            if refused.last() != Some(&text) {
                refused.push(text);
            }
            first.get_or_insert(errno);
        }
    };
    let itself = pidfd_open(getpid(), PidfdFlags::empty());
    note("pidfd_open", itself.as_ref().map(drop).map_err(|errno| *errno));
    note("close_range", sys::close_on_exec_from(u32::MAX));
    note("memfd_create", memfd_create(c"trial", MemfdFlags::CLOEXEC).map(drop));
    note("seccomp", sys::load_filter(&mut []));
    if !is_root_with_sys_admin() {
        note("unshare", enter_user_namespace_with_single_id());
    }
    note("unshare", sys::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWUTS));
    note("mount", separate_mounts().map(drop));
    note("sethostname", rustix::system::sethostname(b"trial"));
    note("mount", mount("none", "/", "none", MountFlags::empty(), None));
    note("umount2", unmount("/proc/self/no-such-file", UnmountFlags::DETACH));
    // The root is not moved below itself.
    note("pivot_root", chdir("/").and_then(|()| pivot_root(".", ".")));
    note("open_tree", open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC).map(drop));
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC);
    note("fsopen", context.as_ref().map(drop).map_err(|errno| *errno));
    if let Ok(context) = context {
        note("fsconfig", fsconfig_create(context.as_fd()));
        let mounted = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty());
        note("fsmount", mounted.as_ref().map(drop).map_err(|errno| *errno));
        if let Ok(mounted) = mounted {
            note("mount_setattr", sys::mount_setattr(mounted.as_fd(), false, 0, 0));
            let onto_itself = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            note("move_mount", move_mount(mounted.as_fd(), "", mounted.as_fd(), "", onto_itself));
        }
    }
    first.map_or(Ok(()), |errno| Err((errno, refused.join(", "))))
}

/// Returns the sysctls that forbid a kind of namespace.
pub(crate) fn forbidding_sysctls() -> Vec<String> {
    let names = ["mnt", "pid", "ipc", "uts", "net", "user"].map(|kind| format!("user.max_{kind}_namespaces"));
    names.into_iter().filter(|name| read_sysctl(&name.replace('.', "/")) == Some(0)).collect()
}

/// Returns the help for the error of starting a process or a thread, if it is a limit.
pub(crate) fn process_limit_help(errno: Errno) -> Option<&'static str> {
    (errno == Errno::AGAIN).then_some(PROCESS_LIMIT_HELP)
}

/// Runs `what` in a child process. Returns the error that it ended with: a number and a text.
fn ask_child(what: impl FnOnce() -> Result<(), (Errno, String)>) -> Result<(), (Errno, String)> {
    let (mut text, writer) =
        io::pipe().map_err(|error| (Errno::from_io_error(&error).unwrap_or(Errno::IO), String::new()))?;
    let mut writer = Some(writer);
    let errno = run_in_child(|| {
        what().map_err(|(errno, said)| {
            // Without the text, the number is the answer.
            let _ = writer.take().map(|mut writer| writer.write_all(said.as_bytes()));
            errno
        })
    });
    drop(writer);
    let mut said = String::new();
    let _ = text.read_to_string(&mut said);
    errno.map_or(Ok(()), |errno| Err((errno, said)))
}

/// Runs `what` in a child process. Returns the error it ended with.
fn run_in_child(what: impl FnOnce() -> Result<(), Errno>) -> Option<Errno> {
    match sys::clone_process(0) {
        Err(error) => Some(error),
        Ok(CloneResult::Child) => {
            let code = what().err().map_or(0, Errno::raw_os_error);
            // The error numbers that matter here fit into an exit code.
            sys::exit_now(if code > 255 { 255 } else { code })
        }
        Ok(CloneResult::Parent(child)) => {
            let status = waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED);
            match status.ok().flatten().as_ref().and_then(WaitIdStatus::exit_status) {
                Some(0) => None,
                Some(code) => Some(Errno::from_raw_os_error(code)),
                None => Some(Errno::IO),
            }
        }
    }
}

/// Reads a number below `/proc/sys`, if the kernel has it.
fn read_sysctl(name: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}
